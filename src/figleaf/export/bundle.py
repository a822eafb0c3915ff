"""Exporting a network: the files, their comparison with the checkpoint, the model card, the hashes; all or nothing."""

import json
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from figleaf.errors import FigleafError
from figleaf.evaluate.scorer import Scorer
from figleaf.export.card import model_card
from figleaf.export.facts import ModelFacts
from figleaf.export.keras_file import KerasScorer, require_keras, write_keras
from figleaf.export.onnx_file import write_onnx
from figleaf.export.onnx_scorer import OnnxScorer
from figleaf.export.parity import Parity, compare, read_pictures
from figleaf.export.tfjs import Dtype, require_tfjs, write_tfjs
from figleaf.export.tfjs_scorer import TfjsScorer
from figleaf.files import explained, sha256_file, write_text
from figleaf.vgg.network import VGG
from figleaf.vgg.scorer import TorchScorer
from figleaf.vgg.skin_map import UNDECIDED
from figleaf.vgg.weights import save

TOLERANCE = 1e-3  # in logits: far above float32 rounding, far below what changes a decision

# In probabilities, for weights of fewer bits: their rounding moves logits in proportion to their size.
LOSSY_TOLERANCE: Mapping[str, float] = {"float16": 5e-3, "uint8": 5e-2}


@dataclass(frozen=True)
class Format:
    """How a format is written to `place`, a file or a folder of the bundle, and read back for the comparison.

    With a `lossy_tolerance` its probabilities are compared, by its own measure, and not its logits by the caller's.
    """

    place: str
    write: Callable[[VGG, Path, Mapping[str, Any]], Path]
    read: Callable[[Path], Scorer]
    lossy_tolerance: float | None = None


def tfjs_format(dtype: Dtype = "float16") -> Format:
    """TensorFlow.js, with its kernels in this precision."""
    return Format("tfjs", partial(write_tfjs, dtype=dtype), TfjsScorer, LOSSY_TOLERANCE.get(dtype))


FORMATS: Mapping[str, Format] = {
    "safetensors": Format("model.safetensors", save, TorchScorer.load),
    "onnx": Format("model.onnx", write_onnx, OnnxScorer),
    "tfjs": tfjs_format(),
    "keras": Format("model.keras", write_keras, KerasScorer),
}
RECORD, PARITY, CARD, SUMS = "model.json", "parity.json", "MODEL_CARD.md", "SHA256SUMS"
EVERY_PLACE = (*(form.place for form in FORMATS.values()), RECORD, PARITY, CARD, SUMS)


def export_bundle(
    net: VGG,
    *,
    out: Path,
    formats: Sequence[str],
    facts: ModelFacts,
    pictures: NDArray[np.uint8] | Sequence[Path],
    tolerance: float = TOLERANCE,
    tfjs_dtype: Dtype = "float16",
) -> dict[str, Any]:
    """Write `net` to the folder `out` in each of `formats` and compare every file with it on `pictures`.

    `pictures` are files, or uint8 (N, S, S, 3) at the network's input size. `out` then holds the weights files,
    `model.json`, `parity.json`, `MODEL_CARD.md` and `SHA256SUMS`; such files of an earlier export are replaced or
    removed, others stay. Gives plain JSON values: `out`, `files` (name to SHA-256), `unreadable` (path to reason), and
    what stands in `parity.json`: `tolerance`, and for each of `formats` its `Parity`.

    The format tfjs is a folder, `tfjs/`, with kernels in `tfjs_dtype`; float16 and uint8 are lossy, and held to
    `LOSSY_TOLERANCE` in probabilities instead of `tolerance` in logits.

    Raises `FigleafError` for an unknown format, pictures none of which can be read, a network that a format cannot
    hold, and a file whose answers differ from the network's by more than is allowed: then no file in `out` is touched.
    """
    require_place(out, formats)
    known = {**FORMATS, "tfjs": tfjs_format(tfjs_dtype)}
    for name, require in (("tfjs", require_tfjs), ("keras", require_keras)):
        if name in formats:
            require(net)
    share_threshold = UNDECIDED if facts.share_threshold is None else facts.share_threshold
    reference = TorchScorer(net, facts.classes, facts.unsafe, share_threshold=share_threshold)
    compared_on = read_pictures(pictures, net.input_size)
    record = facts.record(net)
    with explained(out):
        out.mkdir(parents=True, exist_ok=True)
        # Inside `out`: on the same file system, so that moving a file into place is one step.
        staging = Path(tempfile.mkdtemp(prefix=".export-", dir=out))
        try:
            parity: dict[str, Parity] = {}
            files: list[str] = []
            for name in dict.fromkeys(formats):
                form = known[name]
                exported = form.read(form.write(net, staging / form.place, record))
                parity[name] = compare(reference, exported, compared_on.rgb_u8, facts.threshold)
                _require_parity(form, parity[name], tolerance)
                files += _files_of(staging, form.place)
            report: dict[str, Any] = {"tolerance": tolerance}
            if lossy := {name: known[name].lossy_tolerance for name in parity if known[name].lossy_tolerance}:
                report["probability_tolerance"] = lossy
            report["formats"] = {name: asdict(found) for name, found in parity.items()}
            run = {"threshold_rule": facts.threshold_rule, "metrics": facts.metrics, "settings": facts.settings}
            write_text(staging / RECORD, _json(record | run))
            write_text(staging / PARITY, _json(report))
            files += [RECORD, PARITY]
            places = [known[name].place for name in parity]
            write_text(staging / CARD, model_card(net, facts, parity, [*places, RECORD, PARITY]))
            hashes = {file: sha256_file(staging / file) for file in (*files, CARD)}
            write_text(staging / SUMS, "".join(f"{digest}  {file}\n" for file, digest in hashes.items()))
            _move(staging, out, (*hashes, SUMS))
        finally:
            shutil.rmtree(staging)
    return {"out": str(out), "files": hashes, "unreadable": compared_on.unreadable, **report}


def require_place(out: Path, formats: Sequence[str]) -> None:
    """Refuse a format that is not known and an `out` that is no folder, before there is any work to lose."""
    if not formats or any(name not in FORMATS for name in formats):
        raise FigleafError(f"format={list(formats)}: expected one or more of {', '.join(FORMATS)}")
    if out.exists() and not out.is_dir():
        raise FigleafError(f"out={out}: a file, not a folder; name another one")


def _require_parity(form: Format, found: Parity, tolerance: float) -> None:
    what, difference, key = "logits", found.max_logit_diff, "tolerance"
    way_out = "otherwise try a newer torch or onnxruntime, or leave this format out"
    if form.lossy_tolerance is not None:
        what, difference, key = "probabilities", found.max_probability_diff, "the tolerance of lossy weights"
        tolerance, way_out = form.lossy_tolerance, "otherwise pass tfjs_dtype=float32, which loses nothing"
    if not difference <= tolerance:
        raise FigleafError(
            f"{form.place}: its {what} differ from the checkpoint's by up to {difference:.3g} on {found.images} "
            f"pictures, more than {key}={tolerance:g}; nothing was exported. A checkpoint with logits that are not "
            f"finite never passes; {way_out}"
        )


def _files_of(folder: Path, place: str) -> list[str]:
    """The files of a format by their POSIX path in the bundle: one, or those of its folder."""
    if not (folder / place).is_dir():
        return [place]
    return sorted(path.relative_to(folder).as_posix() for path in (folder / place).rglob("*"))


def _move(staging: Path, out: Path, files: Sequence[str]) -> None:
    """Put the new files in place of an earlier export's; the hashes go first and come last, so that they never lie."""
    sums = out / SUMS
    earlier = sums.read_text(encoding="utf-8").split() if sums.is_file() else []
    sums.unlink(missing_ok=True)
    for file in earlier:  # of an earlier export; what somebody else put there stays
        place = file.split("/")[0]
        if place in EVERY_PLACE and ".." not in file.split("/") and file not in files:
            (out / file).unlink(missing_ok=True)
            if place != file and not any((out / place).iterdir()):
                (out / place).rmdir()
    for file in files:
        (out / file).parent.mkdir(exist_ok=True)
        (staging / file).replace(out / file)


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"
