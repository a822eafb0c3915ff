"""From an exported folder to a version of a registered model."""

import io
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from figleaf import __version__
from figleaf.errors import FigleafError
from figleaf.evaluate.scorer import Scorer
from figleaf.export.hashes import GOOD, file_states
from figleaf.files import sha256_file

if TYPE_CHECKING:
    from figleaf.tracking.find import FoundRun
    from figleaf.tracking.registry import Version
    from figleaf.tracking.store import Store

CARD = "MODEL_CARD.md"
TOLERANCE = 1e-3  # in logits, as of `figleaf export`


@dataclass(frozen=True)
class Served:
    """An exported file that can be registered: its name, the code that MLflow runs, and the packages this needs."""

    file: str
    module: str
    runtime: tuple[str, ...]


SERVED = {
    "onnx": Served("model.onnx", "figleaf.serve.mlflow_model.onnx_file", ("onnxruntime",)),
    "safetensors": Served("model.safetensors", "figleaf.serve.mlflow_model.safetensors_file", ("torch", "safetensors")),
}


def register(folder: Path, name: str, store: "Store", form: str = "onnx") -> tuple["Version", bool]:
    """Add the file of an exported `folder` to the registered model `name`; and whether it is a new version.

    A file that is there already keeps its version. Where the run is in the tracker, the file must give the logits of
    its checkpoint: what is measured of the run is then true of the version. Raises `FigleafError` when it does not,
    when the folder is not as it was written, and as `add_version`.
    """
    from figleaf.tracking.registry import SHA256_TAG, add_version, require_name, versions
    from figleaf.tracking.transfer import run_born_as

    require_name(name)
    kind = SERVED[form]
    path = _whole(folder, kind)
    scorer, about = _opened(path)
    run = run_born_as(store, str(about.get("run_id", "")))
    if run is not None:
        _require_same(scorer, path, run)
    digest = sha256_file(path)
    known = [version for version in versions(store) if version.name == name and version.tags.get(SHA256_TAG) == digest]
    if known:
        return known[0], False
    with tempfile.TemporaryDirectory() as temporary:
        built = _built(Path(temporary), path, kind, scorer, {**about, "sha256": digest})
        made = add_version(
            store,
            name,
            built,
            run_id=None if run is None else run.run_id,
            tags=_tags(path, digest, about),
            description=_described(path, about, scorer, run),
        )
    return made, True


def register_run(run: "FoundRun", name: str, store: "Store", form: str = "onnx") -> tuple["Version", bool]:
    """Export the best checkpoint of a run and register it; see `register`. Skin systems are refused."""
    from figleaf.commands.run_facts import facts_of, settings_of
    from figleaf.commands.run_names import weights_of
    from figleaf.export.bundle import export_bundle
    from figleaf.export.odd_pictures import odd_pictures_at
    from figleaf.skin.storage import is_system
    from figleaf.vgg.weights import load

    weights = weights_of(run)
    if is_system(weights):
        raise FigleafError(
            f"run {run.name} ({run.run_id[:12]}): a skin system, which no other runtime can run; networks can be "
            f"registered. Its file serves wherever figleaf does: `figleaf predict --model {weights}`"
        )
    net, metadata = load(weights)
    facts = facts_of(run, metadata, settings_of(run))
    with tempfile.TemporaryDirectory() as temporary:
        out = Path(temporary) / "export"
        export_bundle(net, out=out, formats=[form], facts=facts, pictures=odd_pictures_at(net.input_size))
        return register(out, name, store, form)


def _whole(folder: Path, kind: Served) -> Path:
    """The exported file in `folder`, once it and its card are what the list there says."""
    states = file_states(folder)
    if kind.file not in states:
        form = Path(kind.file).suffix.removeprefix(".")
        raise FigleafError(
            f"{folder}: holds no {kind.file}; export it (format=[{form}]), or choose another with --format"
        )
    for name in {kind.file, CARD} & set(states):
        if states[name] != GOOD:
            raise FigleafError(f"{folder / name}: {states[name]}, so it is not registered; export the run again")
    return folder / kind.file


def _opened(path: Path) -> tuple[Scorer, dict[str, Any]]:
    """The scorer of the file, and what the export wrote into it."""
    if path.suffix == ".onnx":
        from figleaf.export.onnx_scorer import OnnxScorer

        onnx = OnnxScorer(path)
        return onnx, {**onnx.metadata, "threshold": onnx.threshold}
    from figleaf.vgg.scorer import TorchScorer
    from figleaf.vgg.weights import load

    return TorchScorer.load(path), load(path)[1]


def _require_same(scorer: Scorer, path: Path, run: "FoundRun") -> None:
    """Raises `FigleafError` unless the file answers as the run's checkpoint does."""
    from figleaf.commands.run_names import weights_of
    from figleaf.evaluate.saved_scorer import scorer_of
    from figleaf.export.odd_pictures import odd_pictures_at
    from figleaf.export.parity import compare

    checkpoint = scorer_of(weights_of(run))
    called = f"run {run.name} ({run.run_id[:12]})"
    if (checkpoint.classes, checkpoint.input_size) != (scorer.classes, scorer.input_size):
        raise FigleafError(f"{path}: says that it is of {called}, which is another network")
    found = compare(checkpoint, scorer, odd_pictures_at(scorer.input_size), None)
    if not found.max_logit_diff <= TOLERANCE:
        raise FigleafError(
            f"{path}: says that it is of {called}, but its logits differ from that checkpoint's by up to "
            f"{found.max_logit_diff:.3g} on {found.images} pictures; export the run again"
        )


def _built(work: Path, path: Path, kind: Served, scorer: Scorer, about: Mapping[str, Any]) -> Path:
    """The folder that MLflow serves."""
    from PIL import Image

    from figleaf.data.scenes import render
    from figleaf.serve.mlflow_model.answering import IMAGE, PROBABILITY
    from figleaf.serve.shipped import ship
    from figleaf.tracking.model_folder import write_model_folder

    shipped = ship(kind.module, work)
    card = path.with_name(CARD)
    drawn = io.BytesIO()
    Image.fromarray(render(0, 0, 64).rgb_u8).save(drawn, "PNG")
    columns = {"label": "string", "score": "double", "flagged": "boolean"}
    columns |= {f"{PROBABILITY}{name}": "double" for name in scorer.classes} | {"error": "string"}
    return write_model_folder(
        work / "model",
        entry=shipped.entry,
        package=shipped.package,
        files={"model": path, **({"card": card} if card.is_file() else {})},
        column=IMAGE,
        answers=columns,
        example=drawn.getvalue(),
        runtime=kind.runtime,
        facts={key: about[key] for key in ("run_id", "data_name", "data_hash", "sha256", "licence") if key in about},
    )


def _tags(path: Path, digest: str, about: Mapping[str, Any]) -> dict[str, str]:
    from figleaf.tracking.registry import FILE_TAG, RUN_TAG, SHA256_TAG

    told = {f"figleaf.{key}": str(about[key]) for key in ("data_name", "data_hash", "threshold") if about.get(key)}
    run = {RUN_TAG: str(about["run_id"])} if about.get("run_id") else {}
    return {FILE_TAG: path.name, SHA256_TAG: digest, "figleaf.version": __version__, **run, **told}


def _described(path: Path, about: Mapping[str, Any], scorer: Scorer, run: "FoundRun | None") -> str:
    threshold = about.get("threshold")
    flagged = "; it holds no threshold" if threshold is None else f"; flagged from a score of {threshold:.4g} on"
    where = "" if run is not None else " (not in this tracker)"
    return (
        f"`{path.name}` of run {about.get('run_name', 'unknown')} `{about.get('run_id', '')}`{where}, data "
        f"{about.get('data_name', 'unknown')}. Classes: {', '.join(scorer.classes)}; unsafe: "
        f"{', '.join(scorer.unsafe) or 'none'}{flagged}.\n"
    )
