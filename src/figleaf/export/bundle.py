"""Exporting a network: the files, their comparison with the checkpoint, the model card, the hashes; all or nothing."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from figleaf.data.member import File
from figleaf.errors import FigleafError
from figleaf.export.card import model_card
from figleaf.export.facts import ModelFacts
from figleaf.export.formats import FORMATS, TOLERANCE, Format, int8_format, tfjs_format
from figleaf.export.hashes import SUMS, hash_list, listed
from figleaf.export.parity import Parity, Quality, compare, read_pictures
from figleaf.export.staging import ASIDE, staging_in
from figleaf.export.tfjs import Dtype
from figleaf.files import explained, sha256_file, write_text
from figleaf.vgg.network import VGG
from figleaf.vgg.scorer import TorchScorer
from figleaf.vgg.skin_map import UNDECIDED

RECORD, PARITY, CARD, DATA_CARD = "model.json", "parity.json", "MODEL_CARD.md", "DATA_CARD.md"
FOLDERS = ("tfjs", "openvino")  # among the places; all others are files
EVERY_PLACE = (*(form.place for form in FORMATS.values()), RECORD, PARITY, CARD, DATA_CARD, SUMS)


def export_bundle(
    net: VGG,
    *,
    out: Path,
    formats: Sequence[str],
    facts: ModelFacts,
    pictures: NDArray[np.uint8] | Sequence[File],
    tolerance: float = TOLERANCE,
    tfjs_dtype: Dtype = "float16",
    calibration: NDArray[np.uint8] | None = None,
    quality: Quality | None = None,
    data_card: str | None = None,
) -> dict[str, Any]:
    """Write `net` to the folder `out` in each of `formats` and compare every file with it on `pictures`.

    `pictures` are files, or uint8 (N, S, S, 3) at the network's input size. `out` then holds the weights files,
    `model.json`, `parity.json`, `MODEL_CARD.md`, the `data_card`, where there is one, as `DATA_CARD.md`, and
    `SHA256SUMS`; such files of an earlier export are replaced or removed, others stay. Gives plain JSON values: `out`,
    `files` (name to SHA-256), `unreadable` (path to reason), and what stands in `parity.json`: `tolerance`, and for
    each of `formats` its `Parity` and its `bytes`.

    Formats that lose nothing are held to `tolerance` in logits. The lossy ones, onnx_float16, onnx_int8 and tfjs with
    kernels in float16 or uint8, are held to `quality`, and those whose rounding is known to `LOSSY_TOLERANCE` in
    probabilities. onnx_int8 is calibrated on `calibration` (N, S, S, 3) and needs both. With `quality` there is
    `quality` in what is given: `measure`, `max_drop`, the `checkpoint`'s value and each lossy format's.

    Raises `FigleafError` for an unknown format, pictures none of which can be read, a network that a format cannot
    hold, an `out` that another process exports into, and a file whose answers differ from the network's, or whose
    quality falls, by more than is allowed: then no file in `out` is touched.
    """
    require_place(out, formats)
    known = {**FORMATS, "tfjs": tfjs_format(tfjs_dtype), "onnx_int8": int8_format(calibration)}
    for name in formats:
        if (require := known[name].require) is not None:
            require(net)
    if "onnx_int8" in formats and (quality is None or calibration is None):
        raise FigleafError("format=onnx_int8: needs pictures of train to calibrate on, and of val to see what it loses")
    share_threshold = UNDECIDED if facts.share_threshold is None else facts.share_threshold
    reference = TorchScorer(net, facts.classes, facts.unsafe, share_threshold=share_threshold)
    compared_on = read_pictures(pictures, net.input_size)
    record = facts.record(net)
    worth: dict[str, float] = {}
    with explained(out), staging_in(out) as staging:
        at_best = quality.of(reference) if quality is not None and any(known[name].lossy for name in formats) else None
        parity: dict[str, Parity] = {}
        files: list[str] = []
        for name in dict.fromkeys(formats):
            form = known[name]
            exported = form.read(form.write(net, staging / form.place, record))
            parity[name] = compare(reference, exported, compared_on.rgb_u8, facts.threshold)
            _require_parity(form, parity[name], tolerance)
            if form.lossy and quality is not None and at_best is not None:
                worth[name] = quality.of(exported)
                _require_quality(form, quality, at_best, worth[name])
            del exported  # it may hold the file open
            files += _files_of(staging, form.place)
        report: dict[str, Any] = {"tolerance": tolerance}
        if lossy := {name: known[name].probability_tolerance for name in parity if known[name].lossy}:
            report["probability_tolerance"] = lossy
        report["formats"] = {name: asdict(found) for name, found in parity.items()}
        report["bytes"] = {name: _bytes_of(staging / known[name].place) for name in parity}
        if quality is not None and at_best is not None:
            judged = {"measure": quality.measure, "max_drop": quality.max_drop, "checkpoint": at_best}
            report["quality"] = {**judged, "formats": worth}
        run = {"threshold_rule": facts.threshold_rule, "metrics": facts.metrics, "settings": facts.settings}
        write_text(staging / RECORD, _json(record | run))
        write_text(staging / PARITY, _json(report))
        files += [RECORD, PARITY]
        if data_card is not None:
            write_text(staging / DATA_CARD, data_card)
            files.append(DATA_CARD)
        places = [known[name].place for name in parity]
        write_text(staging / CARD, model_card(net, facts, parity, [*places, *_beside(files)], report))
        hashes = {file: sha256_file(staging / file) for file in (*files, CARD)}
        write_text(staging / SUMS, hash_list(hashes))
        _move(staging, out, (*hashes, SUMS))
    return {"out": str(out), "files": hashes, "unreadable": compared_on.unreadable, **report}


def require_place(out: Path, formats: Sequence[str]) -> None:
    """Refuse a format that is not known and an `out` that is no folder, before there is any work to lose."""
    if not formats or any(name not in FORMATS for name in formats):
        raise FigleafError(f"format={list(formats)}: expected one or more of {', '.join(FORMATS)}")
    if out.exists() and not out.is_dir():
        raise FigleafError(f"out={out}: a file, not a folder; name another one")
    if out.exists():
        _require_room(out)


def _require_parity(form: Format, found: Parity, tolerance: float) -> None:
    what, difference, key = "logits", found.max_logit_diff, "tolerance"
    if form.lossy:
        what, difference, key = "probabilities", found.max_probability_diff, "the tolerance of lossy weights"
        # Of integers nobody can say how far they may be away, but what is not finite is no answer.
        tolerance = 1.0 if form.probability_tolerance is None else form.probability_tolerance
    if not difference <= tolerance:
        raise FigleafError(
            f"{form.place}: its {what} differ from the checkpoint's by up to {difference:.3g} on {found.images} "
            f"pictures, more than {key}={tolerance:g}; nothing was exported. A checkpoint with logits that are not "
            f"finite never passes; otherwise {form.way_out}"
        )


def _require_quality(form: Format, quality: Quality, at_best: float, found: float) -> None:
    if not at_best - found <= quality.max_drop:
        raise FigleafError(
            f"{form.place}: its {quality.measure} is {found:.4f}, the checkpoint's {at_best:.4f}: a drop of "
            f"{at_best - found:.4f}, more than max_drop={quality.max_drop:g}; nothing was exported. {form.way_out}, "
            "or allow more"
        )


def _beside(files: Sequence[str]) -> list[str]:
    """What of the files is no format's."""
    return [file for file in files if file in (RECORD, PARITY, DATA_CARD)]


def _bytes_of(place: Path) -> int:
    files = place.rglob("*") if place.is_dir() else [place]
    return sum(file.stat().st_size for file in files)


def _files_of(folder: Path, place: str) -> list[str]:
    """The files of a format by their POSIX path in the bundle: one, or those of its folder."""
    if not (folder / place).is_dir():
        return [place]
    return sorted(path.relative_to(folder).as_posix() for path in (folder / place).rglob("*"))


def _move(staging: Path, out: Path, files: Sequence[str]) -> None:
    """Put the new files in place of an earlier export's, or leave everything as it was.

    The hashes go first and come last, so that they never lie.
    """
    aside = staging / ASIDE
    moved: list[str] = []
    placed: list[str] = []

    def put_aside(file: str) -> None:
        if os.path.lexists(out / file):
            (aside / file).parent.mkdir(parents=True, exist_ok=True)
            (out / file).replace(aside / file)
            moved.append(file)

    try:
        earlier = _earlier(out)
        put_aside(SUMS)
        for file in earlier:  # of an earlier export; what somebody else put there stays
            put_aside(file)
        for file in files:
            (out / file).parent.mkdir(exist_ok=True)
            put_aside(file)
            (staging / file).replace(out / file)
            placed.append(file)
    except BaseException:
        for file in placed:
            (out / file).unlink()
        for file in reversed(moved):
            (aside / file).replace(out / file)
        raise
    for place in {file.split("/")[0] for file in earlier if "/" in file}:
        if (out / place).is_dir() and not any((out / place).iterdir()):
            (out / place).rmdir()


def _earlier(out: Path) -> list[str]:
    """The files of an earlier export in `out`, by its list, which names none that are not ours."""
    if not os.path.lexists(out / SUMS):
        return []
    return [file for file in listed(out) if file.split("/")[0] in EVERY_PLACE]


def _require_room(out: Path) -> None:
    """Refuse what would stand in the way of the files, or lead them elsewhere, before there is any work to lose."""
    _earlier(out)
    for place in (*EVERY_PLACE, SUMS):
        path = out / place
        if path.is_symlink():
            raise FigleafError(f"{path}: a link, which would lead the export elsewhere; remove it, or name another out")
        if not path.exists():
            continue
        if path.is_dir() != (place in FOLDERS):
            kinds = ("a folder", "a file") if place in FOLDERS else ("a file", "a folder")
            raise FigleafError(
                f"{path}: {kinds[1]} where {kinds[0]} of the export goes; remove it, or name another out"
            )
        if path.is_dir():
            for inside in path.rglob("*"):
                if inside.is_symlink() or inside.is_dir():
                    raise FigleafError(f"{inside}: not of an export; remove it, or name another out")
            if not os.access(path, os.W_OK):
                raise FigleafError(f"{path}: no permission to write there; name another out")


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"
