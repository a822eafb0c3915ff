"""What is wrong with a data set: files that do not decode, duplicates, leaks between splits, labels that contradict."""

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from figleaf.data.content import parallel
from figleaf.data.decode import MAX_PIXELS, DecodeError, decode, quiet_pillow, read_bytes
from figleaf.data.duplicates import Look, same_content, same_look
from figleaf.data.manifest import Manifest
from figleaf.data.member import File
from figleaf.progress import track


@dataclass(frozen=True)
class BadFile:
    """A sample whose picture or mask cannot be used, and why."""

    path: str
    split: str
    label: str
    reason: str


@dataclass(frozen=True)
class Cluster:
    """Samples that hold the same picture: `kind` "exact" (the same bytes) or "near" (the same to the eye)."""

    kind: str
    paths: tuple[str, ...]
    splits: tuple[str, ...]
    labels: tuple[str, ...]

    @property
    def leaks(self) -> bool:
        """Whether the picture is on both sides of a split."""
        return len(set(self.splits)) > 1

    @property
    def contradicts(self) -> bool:
        """Whether the picture has several labels."""
        return len(set(self.labels)) > 1


@dataclass(frozen=True)
class GroupLeak:
    """A group whose samples are in several splits: how many in each."""

    group: str
    splits: dict[str, int]


@dataclass(frozen=True)
class Report:
    """What `check` found. `counts` has the samples by split and class, `groups` the groups by split."""

    name: str
    hash: str
    counts: dict[str, dict[str, int]]
    groups: dict[str, int]
    bad: tuple[BadFile, ...]
    group_leaks: tuple[GroupLeak, ...]
    clusters: tuple[Cluster, ...]

    @property
    def leaks(self) -> tuple[Cluster, ...]:
        """Duplicates that are in several splits."""
        return tuple(cluster for cluster in self.clusters if cluster.leaks)

    @property
    def contradictions(self) -> tuple[Cluster, ...]:
        """Duplicates with several labels."""
        return tuple(cluster for cluster in self.clusters if cluster.contradicts)

    @property
    def clean(self) -> bool:
        """Nothing to mend: no bad file, leak or contradiction. Duplicates within one split and label are no fault."""
        return not (self.bad or self.group_leaks or self.leaks or self.contradictions)

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values for JSON."""
        clusters = [asdict(c) | {"leaks": c.leaks, "contradicts": c.contradicts} for c in self.clusters]
        return asdict(self) | {"clusters": clusters, "clean": self.clean}


def check(manifest: Manifest, *, max_pixels: int = MAX_PIXELS, workers: int | None = None) -> Report:
    """Decode every picture and mask, compare all pictures with one another and the splits with the groups."""
    table = manifest.table
    files = list(zip(manifest.paths, manifest.masks, strict=True))
    with quiet_pillow():
        looked = track(parallel(lambda pair: _look(*pair, max_pixels), files, workers), "Checking", len(files))
        seen, reasons, sha256 = zip(*looked, strict=True)
    rows = zip(table["path"], table["split"], table["label"], reasons, strict=True)
    bad = tuple(BadFile(path, split, label, reason) for path, split, label, reason in rows if reason)
    return Report(
        name=manifest.name,
        hash=manifest.hash,
        counts={
            split: {
                name: int(n) for name, n in zip(manifest.classes, _class_counts(manifest.select(split)), strict=True)
            }
            for split in manifest.splits
        },
        groups={split: manifest.select(split).table["group"].nunique() for split in manifest.splits},
        bad=bad,
        group_leaks=tuple(_group_leaks(manifest)),
        clusters=tuple(_clusters(manifest, sha256, seen)),
    )


def _class_counts(manifest: Manifest) -> NDArray[np.int64]:
    return np.bincount(manifest.labels, minlength=len(manifest.classes))


def _look(path: File, mask: File | None, max_pixels: int) -> tuple[Look | None, str | None, str]:
    """The look of one picture, what is wrong with it or its mask, and its content's hash."""
    sha256 = ""
    try:
        data = read_bytes(path)
        sha256 = hashlib.sha256(data).hexdigest()
        rgb_u8 = decode(data, max_pixels=max_pixels)
    except DecodeError as error:
        return None, error.reason, sha256
    return Look.of(rgb_u8), _mask_fault(mask, rgb_u8.shape[:2], max_pixels) if mask else None, sha256


def _mask_fault(mask: File, shape: tuple[int, ...], max_pixels: int) -> str | None:
    try:
        found = decode(mask, max_pixels=max_pixels).shape[:2]
    except DecodeError as error:
        return f"mask: {error.reason}"
    return None if found == shape else f"mask: {found[1]} x {found[0]} pixels, the picture has {shape[1]} x {shape[0]}"


def _group_leaks(manifest: Manifest) -> Iterable[GroupLeak]:
    for group, splits in manifest.table.groupby("group", sort=True)["split"]:
        counts = Counter(splits)
        if len(counts) > 1:
            yield GroupLeak(str(group), {split: counts[split] for split in manifest.splits if split in counts})


def _clusters(manifest: Manifest, sha256: tuple[str, ...], seen: tuple[Look | None, ...]) -> Iterable[Cluster]:
    """Exact and near duplicates of at least two samples that decode, in the order of the rows."""
    looks = [look for look in seen if look is not None]
    usable = np.array([look is not None for look in seen])
    content = same_content([digest for digest, good in zip(sha256, usable, strict=True) if good])
    # One picture of each content is compared by its look; the others follow it.
    chosen = np.unique(content, return_index=True)[1]
    cluster = same_look([looks[row] for row in chosen])[content]
    table = manifest.table.loc[usable, ["path", "split", "label"]].reset_index(drop=True)
    for _, rows in table.groupby(cluster, sort=False):
        if len(rows) > 1:
            kind = "exact" if len(set(content[rows.index])) == 1 else "near"
            yield Cluster(kind, tuple(rows["path"]), tuple(rows["split"]), tuple(rows["label"]))
