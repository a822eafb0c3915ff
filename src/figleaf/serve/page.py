"""The private page: a static folder that runs one network in the browser, and the same page as a single file."""

import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from figleaf.data.scenes.scene import render
from figleaf.errors import FigleafError
from figleaf.evaluate.policy import Policy
from figleaf.evaluate.predictions import Predictions
from figleaf.explain.filters import FilterPictures
from figleaf.explain.layers import shown_layers
from figleaf.export.facts import ModelFacts
from figleaf.export.formats import LOSSY_TOLERANCE, TOLERANCE
from figleaf.export.parity import Parity, compare
from figleaf.export.tfjs import MODEL, Dtype, require_tfjs, write_tfjs
from figleaf.export.tfjs_scorer import TfjsScorer
from figleaf.files import explained
from figleaf.serve.about import page_manifest
from figleaf.serve.gallery import INDEX, gallery_files
from figleaf.serve.single import single_page
from figleaf.vgg.network import VGG
from figleaf.vgg.scorer import TorchScorer

PAGE, MANIFEST, SINGLE = "index.html", "manifest.json", "single.html"
SINGLE_MAX_BYTES = 64 * 2**20  # of weights: base64 makes a third more, and a browser parses the file as one text
_SOURCES = ("app", "lib")
_PARITY_PICTURES = 8


@dataclass(frozen=True, eq=False)
class Gallery:
    """The filters' pictures and how they were climbed."""

    found: Sequence[FilterPictures]
    recipe: str
    steps: int


@dataclass(frozen=True)
class Built:
    """A page: its folder, its files with their sizes in bytes, its single file or None, and how true its network is."""

    out: Path
    files: Mapping[str, int]
    single: Path | None
    parity: Parity


def build_page(
    net: VGG,
    facts: ModelFacts,
    *,
    out: Path,
    web: Path,
    engine: Mapping[str, Path],
    gallery: Gallery,
    val: Predictions | None = None,
    dtype: Dtype = "float16",
    policy: Policy | None = None,
) -> Built:
    """Build the page of `net` in the folder `out`, in place of an earlier page there; all or nothing.

    `web` holds the page's sources, `engine` gives TensorFlow.js by its names in the page; `val` are the network's
    predictions, which show what a threshold does. With a `policy`, one made for this network, the page says what is
    done with each picture in place of offering thresholds. Weights of more than `SINGLE_MAX_BYTES` get no single file.

    Raises `FigleafError` for a network that TensorFlow.js has no layers for, an `out` that holds something else, and
    when the page's network does not answer as `net` does.
    """
    require_tfjs(net)
    require_place(out)
    with explained(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=".page-", dir=out.parent))
        try:
            for name in _SOURCES:
                shutil.copytree(web / name, staging / name)
            shutil.copyfile(web / PAGE, staging / PAGE)
            (staging / "engine").mkdir()
            for name, path in engine.items():
                shutil.copyfile(path, staging / "engine" / name)
            write_tfjs(net, staging / "model", facts.record(net), dtype)
            parity = _require_parity(net, facts, staging / "model", dtype)
            _write_data(staging, net, facts, gallery, val, dtype, policy)
            is_small = _weight_bytes(staging / "model") <= SINGLE_MAX_BYTES
            if is_small:
                (staging / SINGLE).write_text(_single(staging), encoding="utf-8")
            staging.chmod(0o755)  # mkdtemp's is for its owner alone; a page is for others to serve
            _move(staging, out)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    sizes = {path.relative_to(out).as_posix(): path.stat().st_size for path in sorted(out.rglob("*")) if path.is_file()}
    return Built(out, sizes, out / SINGLE if is_small else None, parity)


def require_place(out: Path) -> None:
    """Raises `FigleafError` when `out` is a file, or a folder with anything in it but an earlier page."""
    if out.exists() and not out.is_dir():
        raise FigleafError(f"out={out}: a file, not a folder; name another one")
    if out.is_dir() and any(out.iterdir()) and not _is_page(out):
        raise FigleafError(f"out={out}: holds other files than a page of figleaf's, which would be lost; name another")


def _is_page(folder: Path) -> bool:
    try:
        return "figleaf_version" in json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False


def _require_parity(net: VGG, facts: ModelFacts, model: Path, dtype: Dtype) -> Parity:
    """The page's network must answer as `net` does, here on drawn scenes."""
    drawn = np.stack([render(0, index, net.input_size).rgb_u8 for index in range(_PARITY_PICTURES)])
    found = compare(TorchScorer(net, facts.classes, facts.unsafe), TfjsScorer(model), drawn, facts.threshold)
    tolerance = LOSSY_TOLERANCE.get(dtype, TOLERANCE)
    if not found.max_probability_diff <= tolerance:
        raise FigleafError(
            f"dtype={dtype}: the page's probabilities would differ from the network's by up to "
            f"{found.max_probability_diff:.3g}, more than {tolerance:g}; pass dtype=float32. A network with weights "
            "that are not finite never passes"
        )
    return found


def _write_data(
    folder: Path,
    net: VGG,
    facts: ModelFacts,
    gallery: Gallery,
    val: Predictions | None,
    dtype: Dtype,
    policy: Policy | None,
) -> None:
    climbed = [one.layer for one in gallery.found]
    offered = {name: net.convolutions[name].out_channels for name in climbed or shown_layers(net)}
    index, sprites = gallery_files(offered, gallery.found, gallery.recipe, gallery.steps)
    for name, content in sprites.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    _write_json(folder / INDEX, index)
    manifest = page_manifest(net, facts, val, dtype, _weight_bytes(folder / "model"), policy)
    _write_json(folder / MANIFEST, manifest | {"filters": INDEX, "files": _asked_for(folder)})


def _asked_for(folder: Path) -> list[str]:
    """What the page asks for once it knows its manifest; its policy is narrowed to these."""
    places = [*folder.glob("engine/*.wasm"), *folder.glob("model/*"), folder / INDEX, *folder.glob("filters/*.png")]
    return sorted(path.relative_to(folder).as_posix() for path in places)


def _single(folder: Path) -> str:
    texts = {
        path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8")
        for name in ("engine", *_SOURCES)
        for path in (folder / name).iterdir()
        if path.suffix in (".js", ".css")
    }
    held = {name: (folder / name).read_bytes() for name in (MANIFEST, *_asked_for(folder))}
    return single_page((folder / PAGE).read_text(encoding="utf-8"), texts, held)


def _weight_bytes(model: Path) -> int:
    return sum(path.stat().st_size for path in model.iterdir() if path.name != MODEL)


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


def _move(staging: Path, out: Path) -> None:
    """Put the new folder in place of the earlier one, which is moved away first and then removed."""
    if not out.exists():
        staging.replace(out)
        return
    earlier = Path(tempfile.mkdtemp(prefix=".page-", dir=out.parent))
    try:
        out.replace(earlier / out.name)
        staging.replace(out)
    finally:
        shutil.rmtree(earlier)
