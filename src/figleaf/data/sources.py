"""Data sets that come with the package, written once as files behind a manifest like any other data."""

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from filelock import FileLock
from numpy.typing import NDArray
from PIL import Image

from figleaf.data import scenes
from figleaf.data.manifest import Manifest, load_manifest, save_manifest
from figleaf.data.splits import cut
from figleaf.files import explained
from figleaf.progress import track

_DIGIT_SCALE = 4  # 8 x 8 digits become 32 x 32, the smallest input that VGG's five poolings leave a pixel of
_COMPRESS_LEVEL = 1  # of zlib: files 10 % larger than at Pillow's default of 6, written several times as fast
_MAX_FIGURES = 3


def digits_manifest(folder: Path) -> Manifest:
    """scikit-learn's 1,797 handwritten digits at 32 x 32, "5" to "9" called unsafe: to debug with, in seconds.

    Written below `folder` at the first call; train, val and test are 60, 20 and 20 % of each class.
    """
    return _made_once(folder / "digits", _write_digits)


def scenes_manifest(folder: Path, *, count: int, seed: int, size: int) -> Manifest:
    """The embedded data set: `count` pictures of `size` x `size` pixels from `figleaf.data.scenes`.

    Written below `folder` at the first call, a minute for 5,000 pictures of 96 pixels. `mask` is the exposed skin;
    `figure_mask` and the attributes that slices are made of are further columns. `figures.npz` beside the manifest
    holds, in the order of the rows and with NaN for figures that are not there, `joints` (N, 3, J, 2), `radius_px`
    (N, 3, L, 2), `tilt_deg` and `visible` (N, 3, L); see `figleaf.data.scenes.Scene`.
    """
    # The renderer's own source is part of the name: after a change of the code the old pictures are not taken for new.
    name = f"scenes-{count}x{size}-seed{seed}-{_source_hash(Path(scenes.__file__).parent)[:8]}"
    return _made_once(folder / name, lambda target: _write_scenes(target, count, seed, size))


def _made_once(folder: Path, write: Callable[[Path], None]) -> Manifest:
    """The manifest in `folder`, which `write` fills when it is not there: whole or not at all, by one process."""
    manifest = folder / "manifest.csv"
    if not manifest.exists():
        with explained(folder):
            folder.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(folder.parent / f".{folder.name}.lock"):
                if not manifest.exists():
                    unfinished = folder.parent / f".{folder.name}"
                    shutil.rmtree(unfinished, ignore_errors=True)  # of a process that was killed
                    try:
                        write(unfinished)
                        unfinished.replace(folder)
                    finally:
                        shutil.rmtree(unfinished, ignore_errors=True)  # of this one, when its disk is full
    return load_manifest(manifest)


def _write_digits(folder: Path) -> None:
    # scikit-learn takes a second to import, and only this needs it
    from sklearn.datasets import load_digits

    digits = load_digits()
    (folder / "images").mkdir(parents=True)
    rows = []
    for index, (grey, digit) in enumerate(zip(digits.images, digits.target, strict=True)):
        path = f"images/{index:04d}.png"
        grey_u8 = (np.kron(grey, np.ones((_DIGIT_SCALE, _DIGIT_SCALE))) * (255 / 16)).round().astype(np.uint8)
        _save_png(folder / path, grey_u8)
        rows.append({"path": path, "label": str(digit), "split": "train"})
    manifest = Manifest.from_table(pd.DataFrame(rows), root=folder, name="digits", unsafe=("5", "6", "7", "8", "9"))
    manifest = cut(manifest, target="test", fraction=0.2, seed=0)
    save_manifest(cut(manifest, target="val", fraction=0.25, seed=0), folder / "manifest.csv")


def _write_scenes(folder: Path, count: int, seed: int, size: int) -> None:
    for name in ("images", "skin", "figures"):
        (folder / name).mkdir(parents=True)
    rows = []
    drawn = []
    for index in track(range(count), "Drawing scenes", count):
        scene = scenes.render(seed, index, size)
        file = f"{index:06d}.png"
        _save_png(folder / "images" / file, scene.rgb_u8)
        _save_png(folder / "skin" / file, scene.skin_mask.astype(np.uint8) * 255)
        _save_png(folder / "figures" / file, scene.figure_mask.astype(np.uint8) * 255)
        rows.append(
            {
                "path": f"images/{file}",
                "label": scene.label,
                "split": scene.split,
                "group": scene.group,
                "slice": scene.slice,
                "mask": f"skin/{file}",
                "figure_mask": f"figures/{file}",
                **scene.attributes,
            }
        )
        drawn.append(scene)
    figures: dict[str, Any] = {
        part: np.stack([_padded(getattr(scene, part)) for scene in drawn])
        for part in ("joints", "radius_px", "tilt_deg", "visible")
    }
    np.savez_compressed(folder / "figures.npz", **figures)
    manifest = Manifest.from_table(
        pd.DataFrame(rows), root=folder, name="scenes", classes=scenes.CLASSES, unsafe=scenes.UNSAFE
    )
    save_manifest(manifest, folder / "manifest.csv")


def _padded(per_figure: NDArray[np.floating]) -> NDArray[np.float32]:
    """(K, ...) to (3, ...), the missing figures NaN."""
    padded = np.full((_MAX_FIGURES, *per_figure.shape[1:]), np.nan, np.float32)
    padded[: len(per_figure)] = per_figure
    return padded


def _save_png(path: Path, pixels: NDArray[np.uint8]) -> None:
    Image.fromarray(pixels).save(path, compress_level=_COMPRESS_LEVEL)


def _source_hash(package: Path) -> str:
    digest = hashlib.sha256()
    for file in sorted(package.glob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()
