"""From what a user calls a model, a run or a file, to a scorer."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from figleaf.commands.arguments import say
from figleaf.config import TrackingConfig
from figleaf.errors import FigleafError
from figleaf.evaluate.policy import Policy
from figleaf.evaluate.scorer import Scorer
from figleaf.files import sha256_file

if TYPE_CHECKING:
    from figleaf.tracking.find import FoundRun
    from figleaf.vgg.scorer import TorchScorer


@dataclass(frozen=True)
class OpenedScorer:
    """A scorer, what it is called and identified by, and the threshold that was chosen for it (None: none was).

    `file` is what it was read from. `run_id` is that of the run which it is of, None for a file that does not say.
    """

    scorer: Scorer
    name: str
    identity: str  # run id, or the file's SHA-256: names may be shared
    threshold: float | None
    file: Path
    run_id: str | None = None


def open_scorer(
    reference: str, tracking: TrackingConfig, key: str = "run=", *, threads: int | None = None
) -> OpenedScorer:
    """The scorer of a .onnx or .safetensors file, of a registered model, or of the run that `reference` names.

    Of a registered model, models:/NAME@ALIAS or models:/NAME/VERSION, the exported file is opened; its code is not run.

    `key` is what a user writes before it, for what is said of it. `threads` is how many an ONNX session has that
    shares the cores with other work; None: all cores, for itself.
    """
    if reference.startswith("models:/"):
        return _registered(reference, tracking)
    path = Path(reference).expanduser()
    if not reference:
        raise FigleafError(f"{key.strip()}: expected a run or a file; `figleaf --help` says how runs are named")
    if path.is_dir():
        inside = path / "model.onnx"
        hint = f"did you mean {key}{inside}?" if inside.is_file() else "expected a run, or a .onnx or .safetensors file"
        raise FigleafError(f"{key}{reference}: a folder; {hint}")
    if path.suffix in (".onnx", ".safetensors") and not path.exists():
        raise FigleafError(f"{key}{reference}: no such file")
    if path.suffix == ".onnx":
        from figleaf.export.onnx_scorer import OnnxScorer

        digest = _as_listed(path)
        onnx = OnnxScorer(path, threads=threads, spinning=threads is None)
        return OpenedScorer(onnx, path.stem, digest, onnx.threshold, path, onnx.metadata.get("run_id"))
    from figleaf.evaluate.saved_scorer import scorer_of

    if path.suffix == ".safetensors":
        digest = _as_listed(path)
        scorer = scorer_of(path)
        threshold, run_id = _threshold_and_run(path, scorer)
        return OpenedScorer(scorer, path.stem, digest, threshold, path, run_id)
    if path.exists():
        raise FigleafError(
            f"{key}{reference}: a file of a kind that cannot be scored with; expected .onnx or .safetensors"
        )
    from figleaf.commands.run_names import named_run, weights_of

    run = named_run(reference, tracking, key=key)
    file = weights_of(run)
    return OpenedScorer(scorer_of(file), run.name, run.run_id, run.metrics.get("val/threshold"), file, run.run_id)


def _as_listed(path: Path) -> str:
    """The file's SHA-256, which is that of the list beside it, where an export has left one."""
    from figleaf.export.hashes import require_as_listed

    digest = sha256_file(path)
    require_as_listed(path, digest)
    return digest


def open_model(reference: str, *, threads: int | None = None) -> OpenedScorer:
    """As `open_scorer`, with the tracker that is configured; for a file nothing of that is loaded."""
    if reference.endswith((".onnx", ".safetensors")):
        return open_scorer(reference, TrackingConfig(), "--model ", threads=threads)
    from figleaf.config import SimilarConfig, compose

    config: SimilarConfig = compose("similar", [])
    return open_scorer(reference, config.tracking, "--model ")


def is_lossy(scorer: Scorer) -> bool:
    """Whether it is a file whose weights were rounded when it was exported."""
    if not hasattr(scorer, "metadata"):
        return False
    from figleaf.export.onnx_scorer import PRECISION

    return PRECISION in scorer.metadata


def policy_for(opened: OpenedScorer, path: Path) -> Policy:
    """The policy in the file. Raises `FigleafError` when it was made for another model."""
    policy = Policy.load(path.expanduser())
    policy.require_for(opened.scorer.classes, opened.scorer.unsafe, opened.run_id, path)
    # A policy made from the checkpoint names no file; a lossy file has scores of its own.
    if policy.sha256 != opened.identity if policy.sha256 else is_lossy(opened.scorer):
        say(f"{path}: made from the scores of another file of this run; its promises hold as far as the scores agree")
    return policy


def _registered(reference: str, tracking: TrackingConfig) -> OpenedScorer:
    from figleaf.config import home
    from figleaf.tracking.registry import exported_file, find_version
    from figleaf.tracking.store import open_store

    store = open_store(tracking.uri, home())
    version = find_version(store, reference)
    opened = open_scorer(str(exported_file(store, version)), tracking)
    return replace(opened, name=f"{version.name}-{version.number}")


def _threshold_and_run(path: Path, scorer: Scorer) -> tuple[float | None, str | None]:
    """What a file of an exported network or of a skin system holds of them; a run's own stand in the tracker."""
    from figleaf.vgg.scorer import TorchScorer
    from figleaf.vgg.weights import load

    if not isinstance(scorer, TorchScorer):
        return getattr(scorer, "threshold", None), None
    metadata = load(path)[1]
    return metadata.get("threshold"), metadata.get("run_id")


@dataclass(frozen=True)
class OpenedNetwork:
    """A network as its scorer, with what its file says of it; `run` is None for a file that no run stands behind."""

    scorer: "TorchScorer"
    name: str
    identity: str
    threshold: float | None
    metadata: Mapping[str, Any]
    run: "FoundRun | None"


def open_network(reference: str, tracking: TrackingConfig, device: str = "auto") -> OpenedNetwork:
    """The network of a .safetensors file, or of the run that `reference` names, on `device` (auto, cpu or cuda).

    Raises `FigleafError` for everything that has no layers to look into.
    """
    import torch

    from figleaf.skin.storage import is_system
    from figleaf.vgg.scorer import TorchScorer
    from figleaf.vgg.weights import load

    if device == "cuda" and not torch.cuda.is_available():
        raise FigleafError("device=cuda: this machine has no CUDA device that torch can use; pass device=cpu")
    chosen = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    path, run = Path(reference).expanduser(), None
    if path.is_dir() and (inside := path / "model.safetensors").is_file():
        raise FigleafError(f"run={reference}: a folder; did you mean run={inside}?")
    if path.suffix != ".safetensors":
        if path.exists() or not reference:
            raise FigleafError(
                f"run={reference}: expected a run or a .safetensors file; only they have layers to look into"
            )
        from figleaf.commands.run_names import named_run, weights_of

        run = named_run(reference, tracking)
        path = weights_of(run)
    if is_system(path):
        raise FigleafError(
            f"run={reference}: a skin system, which has no layers to look into; `figleaf skin` draws its steps"
        )
    _, metadata = load(path)
    scorer = TorchScorer.load(path, chosen)
    if run is not None:
        return OpenedNetwork(scorer, run.name, run.run_id, run.metrics.get("val/threshold"), metadata, run)
    return OpenedNetwork(scorer, path.stem, sha256_file(path), metadata.get("threshold"), metadata, None)
