"""A folder of class folders becomes a manifest."""

import logging
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from figleaf.data.manifest import SPLITS, Manifest, sample_id, standard_split
from figleaf.data.splits import cut
from figleaf.errors import FigleafError

_log = logging.getLogger(__name__)

# HEIC is among them although it is not decoded: a phone's pictures should show up as bad files, not vanish.
_SUFFIX = re.compile(r"\.(jpe?g|jpe|jfif|a?png|gif|webp|avif|bmp|dib|tiff?|p[pgbn]m|jp2|j2k|hei[cf])", re.IGNORECASE)


@dataclass(frozen=True)
class Found:
    """What lies below a folder: images, in order of their paths, and how many other files of which suffix."""

    images: list[Path]
    hidden: int
    others: Counter[str]

    def left_out(self) -> str:
        """What was left out, in words; "" when nothing was."""
        kinds = ", ".join(f"{suffix or 'without suffix'} {n}" for suffix, n in self.others.most_common(5))
        parts = [f"{self.hidden:,} hidden"] if self.hidden else []
        parts += [f"{self.others.total():,} that are no images by their suffix ({kinds})"] if self.others else []
        return " and ".join(parts)


def find_images(folder: Path) -> Found:
    """All images below `folder`, links followed; hidden files and folders (".x", "__MACOSX") are only counted."""
    images: list[Path] = []
    hidden = 0
    others: Counter[str] = Counter()
    for file in _walk(folder):
        if any(part.startswith(".") or part == "__MACOSX" for part in file.relative_to(folder).parts):
            hidden += 1
        elif _SUFFIX.fullmatch(file.suffix):
            images.append(file)
        else:
            others[file.suffix.lower()] += 1
    return Found(sorted(images), hidden, others)


def index_folder(
    folder: Path | str,
    *,
    group_pattern: str | None = None,
    val_fraction: float = 0.15,
    test_fraction: float = 0.15,
    seed: int = 0,
    unsafe: Sequence[str] | None = None,
    name: str | None = None,
) -> Manifest:
    """The manifest of FOLDER/<class>/... or FOLDER/<split>/<class>/...; what is left out is said in the log.

    Split folders are called train, val, test or calib (also valid, validation, dev, training, testing). A val or test
    that is not there is cut from train by group; a fraction of 0 leaves it out. `group_pattern` is a regular expression
    searched in the file's name, its first bracket the group (`"^([^_]+)_"`: what stands before the first underscore);
    without one every image is its own group. `unsafe` defaults as in `Manifest.from_table`.
    """
    folder = Path(folder).absolute()
    if not folder.is_dir():
        raise FigleafError(f"{folder}: no such folder")
    for key, value in (("val_fraction", val_fraction), ("test_fraction", test_fraction)):
        if not 0 <= value < 1:
            raise FigleafError(f"{key}={value}: expected 0 <= x < 1")
    if val_fraction + test_fraction >= 1:
        raise FigleafError(f"val_fraction={val_fraction}, test_fraction={test_fraction}: nothing is left for train")
    found = find_images(folder)
    if left_out := found.left_out():
        _log.warning("%s: left out %s", folder, left_out)
    rows = _rows(folder, found.images)
    if group_pattern is not None:
        rows["group"] = _groups(found.images, group_pattern)
    manifest = Manifest.from_table(rows, root=folder, name=name or folder.name, unsafe=unsafe)
    # Both fractions are of what train holds now; the second cut sees what the first leaves.
    left = 1.0
    for target, fraction in (("test", test_fraction), ("val", val_fraction)):
        if fraction and "train" in manifest.splits and target not in manifest.splits:
            manifest = cut(manifest, target=target, fraction=fraction / left, seed=seed)
            left -= fraction
    return manifest


def _walk(folder: Path) -> Iterator[Path]:
    """All that is no folder; links to folders are followed, but never round in a circle."""
    for name, folders, files in os.walk(folder, followlinks=True):
        place = Path(name)
        above = (folder / part for part in place.relative_to(folder).parents) if place != folder else ()
        if any(place.samefile(ancestor) for ancestor in above):
            folders.clear()
        else:
            yield from (place / file for file in files)


def _rows(folder: Path, images: list[Path]) -> pd.DataFrame:
    """path, label and split by the folders that each image lies in."""
    parts = [image.relative_to(folder).parts for image in images]
    tops = {p[0] for p in parts if len(p) > 1}
    splits = {top: split for top in tops if (split := standard_split(top))}
    if len(set(splits.values())) < len(splits):
        raise FigleafError(f"{folder}: {', '.join(sorted(splits))} name the same split twice: merge them")
    if splits and (others := sorted(tops - set(splits))):
        raise FigleafError(
            f"{folder} holds folders of splits ({', '.join(sorted(splits))}) and others ({', '.join(others)}): "
            "move the others away, or rename the class that is called like a split"
        )
    depth = 2 if splits else 1
    if loose := [p for p in parts if len(p) <= depth]:
        raise FigleafError(
            f"{folder}: {len(loose):,} images lie in no class folder, such as {'/'.join(loose[0])!r}: "
            f"expected FOLDER/{'<split>/' if splits else ''}<class>/image.jpg"
        )
    if not parts:
        raise FigleafError(
            f"{folder} holds no images: expected FOLDER/<class>/image.jpg, or FOLDER/<split>/<class>/image.jpg"
        )
    return pd.DataFrame(
        {
            "path": [sample_id(image.relative_to(folder)) for image in images],
            "label": [sample_id(Path(p[depth - 1])) for p in parts],
            "split": [splits[p[0]] if splits else SPLITS[0] for p in parts],
        }
    )


def _groups(images: list[Path], pattern: str) -> list[str]:
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise FigleafError(f"group pattern {pattern!r}: no regular expression: {error}") from error
    if not expression.groups:
        raise FigleafError(f"group pattern {pattern!r}: put brackets around the part of the name that is the group")
    matches = [expression.search(sample_id(Path(image.name))) for image in images]
    if missing := [image.name for image, match in zip(images, matches, strict=True) if not (match and match[1])]:
        raise FigleafError(
            f"group pattern {pattern!r} finds no group in {len(missing):,} file names, such as {missing[0]!r}: "
            "every image needs one, or it could be on both sides of a split"
        )
    return [match[1] for match in matches if match]
