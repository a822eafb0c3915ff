"""Run by MLflow and never imported: a registered model that is an exported ONNX file."""

from pathlib import Path

from mlflow.models import set_model

from figleaf.evaluate.scorer import Scorer
from figleaf.export.onnx_scorer import OnnxScorer
from figleaf.serve.mlflow_model.registered import Registered


def opened(path: Path) -> tuple[Scorer, float | None]:
    """The scorer of the file, and the threshold that it holds."""
    scorer = OnnxScorer(path)
    return scorer, scorer.threshold


set_model(Registered(opened))
