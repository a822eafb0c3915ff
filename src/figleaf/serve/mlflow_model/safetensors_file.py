"""Run by MLflow and never imported: a registered model that is an exported safetensors file of a network."""

from pathlib import Path

from mlflow.models import set_model

from figleaf.evaluate.scorer import Scorer
from figleaf.serve.mlflow_model.registered import Registered
from figleaf.vgg.scorer import TorchScorer
from figleaf.vgg.weights import load


def opened(path: Path) -> tuple[Scorer, float | None]:
    """The scorer of the file, and the threshold that it holds."""
    return TorchScorer.load(path), load(path)[1].get("threshold")


set_model(Registered(opened))
