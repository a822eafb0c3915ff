"""From what a user calls a model, a run or a file, to a scorer."""

from dataclasses import dataclass
from pathlib import Path

from figleaf.config import TrackingConfig
from figleaf.errors import FigleafError
from figleaf.evaluate.scorer import Scorer
from figleaf.files import sha256_file


@dataclass(frozen=True)
class OpenedScorer:
    """A scorer, what it is called and identified by, and the threshold that was chosen for it (None: none was)."""

    scorer: Scorer
    name: str
    identity: str  # run id, or the file's SHA-256: names may be shared
    threshold: float | None


def open_scorer(reference: str, tracking: TrackingConfig) -> OpenedScorer:
    """The scorer of a .onnx or .safetensors file, or of the run that `reference` names in the tracker."""
    path = Path(reference).expanduser()
    if not reference:
        raise FigleafError("run=: expected a run or a file; `figleaf --help` says how runs are named")
    if path.is_dir():
        inside = path / "model.onnx"
        hint = f"did you mean run={inside}?" if inside.is_file() else "expected a run, or a .onnx or .safetensors file"
        raise FigleafError(f"run={reference}: a folder; {hint}")
    if path.suffix == ".onnx":
        from figleaf.export.onnx_scorer import OnnxScorer

        onnx = OnnxScorer(path)
        return OpenedScorer(onnx, path.stem, sha256_file(path), onnx.threshold)
    from figleaf.evaluate.saved_scorer import scorer_of

    if path.suffix == ".safetensors":
        scorer = scorer_of(path)
        return OpenedScorer(scorer, path.stem, sha256_file(path), _threshold_in(path, scorer))
    if path.exists():
        raise FigleafError(
            f"run={reference}: a file of a kind that cannot be scored with; expected .onnx or .safetensors"
        )
    from figleaf.commands.run_names import named_run, weights_of

    run = named_run(reference, tracking)
    return OpenedScorer(scorer_of(weights_of(run)), run.name, run.run_id, run.metrics.get("val/threshold"))


def _threshold_in(path: Path, scorer: Scorer) -> float | None:
    """The threshold that a file of an exported network or of a skin system holds; a run's own stands in the tracker."""
    from figleaf.vgg.scorer import TorchScorer
    from figleaf.vgg.weights import load

    return load(path)[1].get("threshold") if isinstance(scorer, TorchScorer) else getattr(scorer, "threshold", None)
