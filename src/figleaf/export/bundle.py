"""Exporting a network: the files, their comparison with the checkpoint, the model card, the hashes; all or nothing."""

import json
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from figleaf.errors import FigleafError
from figleaf.evaluate.scorer import Scorer
from figleaf.export.card import model_card
from figleaf.export.facts import ModelFacts
from figleaf.export.onnx_file import write_onnx
from figleaf.export.onnx_scorer import OnnxScorer
from figleaf.export.parity import Parity, compare, read_pictures
from figleaf.files import explained, sha256_file, write_text
from figleaf.vgg.network import VGG
from figleaf.vgg.scorer import TorchScorer
from figleaf.vgg.skin_map import UNDECIDED
from figleaf.vgg.weights import save

TOLERANCE = 1e-3  # in logits: far above float32 rounding, far below what changes a decision

# A format's weights file, how it is written, and how it is read back for the comparison.
FORMATS: Mapping[str, tuple[str, Callable[[VGG, Path, Mapping[str, Any]], Path], Callable[[Path], Scorer]]] = {
    "safetensors": ("model.safetensors", save, TorchScorer.load),
    "onnx": ("model.onnx", write_onnx, OnnxScorer),
}
RECORD, PARITY, CARD, SUMS = "model.json", "parity.json", "MODEL_CARD.md", "SHA256SUMS"
EVERY_NAME = (*(name for name, _, _ in FORMATS.values()), RECORD, PARITY, CARD, SUMS)


def export_bundle(
    net: VGG,
    *,
    out: Path,
    formats: Sequence[str],
    facts: ModelFacts,
    pictures: NDArray[np.uint8] | Sequence[Path],
    tolerance: float = TOLERANCE,
) -> dict[str, Any]:
    """Write `net` to the folder `out` in each of `formats` and compare every file with it on `pictures`.

    `pictures` are files, or uint8 (N, S, S, 3) at the network's input size. `out` then holds the weights files,
    `model.json`, `parity.json`, `MODEL_CARD.md` and `SHA256SUMS`; such files of an earlier export are replaced or
    removed, others stay. Gives plain JSON values: `out`, `files` (name to SHA-256), `unreadable` (path to reason), and
    what stands in `parity.json`: `tolerance`, and for each of `formats` its `Parity`.

    Raises `FigleafError` for an unknown format, pictures none of which can be read, and a file whose logits differ
    from the network's by more than `tolerance`: then no file in `out` is touched.
    """
    require_place(out, formats)
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
                file, write, read = FORMATS[name]
                exported = read(write(net, staging / file, record))
                parity[name] = compare(reference, exported, compared_on.rgb_u8, facts.threshold)
                _require_parity(file, parity[name], tolerance)
                files.append(file)
            report = {"tolerance": tolerance, "formats": {name: asdict(found) for name, found in parity.items()}}
            run = {"threshold_rule": facts.threshold_rule, "metrics": facts.metrics, "settings": facts.settings}
            write_text(staging / RECORD, _json(record | run))
            write_text(staging / PARITY, _json(report))
            files += [RECORD, PARITY]
            write_text(staging / CARD, model_card(net, facts, parity, files))
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


def _require_parity(file: str, found: Parity, tolerance: float) -> None:
    if not found.max_logit_diff <= tolerance:
        raise FigleafError(
            f"{file}: its logits differ from the checkpoint's by up to {found.max_logit_diff:.3g} on {found.images} "
            f"pictures, more than tolerance={tolerance:g}; nothing was exported. A checkpoint with logits that are not "
            "finite never passes; otherwise try a newer torch or onnxruntime, or leave this format out"
        )


def _move(staging: Path, out: Path, files: Sequence[str]) -> None:
    """Put the new files in place of an earlier export's; the hashes go first and come last, so that they never lie."""
    sums = out / SUMS
    earlier = sums.read_text(encoding="utf-8").split() if sums.is_file() else []
    sums.unlink(missing_ok=True)
    for file in EVERY_NAME:
        if file in files:
            (staging / file).replace(out / file)
        elif file in earlier:  # of an earlier export; what somebody else put there stays
            (out / file).unlink(missing_ok=True)


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"
