"""What `figleaf data` does, with plain arguments. People read standard error; programs, JSON on standard output.

    index(folder, out=None, *, group_pattern, val_fraction, test_fraction, seed, unsafe, name)    -> exit code
    check(manifest, *, max_pixels, workers, geometry=None)                                        -> exit code
    cache(manifest, sizes, *, folder, max_pixels, limit_bytes, workers)                           -> exit code
    cut(manifest, out, *, source, target, fraction, seed)                                         -> exit code
    shard(manifest, out, *, shard_bytes, workers)                                                 -> exit code

The code is 0, or 1 when `check` found something to mend. A user's mistake raises `FigleafError`.
"""

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from figleaf.data import splits
from figleaf.data.cache import LIMIT_BYTES, data_hash, decode_cached
from figleaf.data.check import Cluster, Report
from figleaf.data.check import check as check_data
from figleaf.data.decode import MAX_PIXELS
from figleaf.data.index import index_folder
from figleaf.data.label_check import LabelDrift, LabelRule, label_drift, load_masks
from figleaf.data.manifest import Manifest, save_manifest
from figleaf.data.sharding import SHARD_BYTES, write_shards
from figleaf.data.view import Geometry
from figleaf.errors import FigleafError, printable

_SHOWN = 20  # lines of each kind of finding; the JSON holds all
_MEMBERS_SHOWN = 4  # of a set of duplicates
_MOST_COLUMNS = 12  # classes that a table can show side by side


def index(
    folder: Path,
    out: Path | None = None,
    *,
    group_pattern: str | None = None,
    val_fraction: float = 0.15,
    test_fraction: float = 0.15,
    seed: int = 0,
    unsafe: Sequence[str] | None = None,
    name: str | None = None,
) -> int:
    """Write the manifest of `folder` to `out` (default FOLDER/manifest.csv, never overwritten); see `index_folder`."""
    out = _new_file(out or folder / "manifest.csv")
    manifest = index_folder(
        folder,
        group_pattern=group_pattern,
        val_fraction=val_fraction,
        test_fraction=test_fraction,
        seed=seed,
        unsafe=unsafe,
        name=name,
    )
    return _saved(manifest, out)


def check(
    manifest: Manifest,
    *,
    max_pixels: int = MAX_PIXELS,
    workers: int | None = None,
    geometry: Geometry | None = None,
) -> int:
    """Print what is wrong with the data; with `geometry`, also how often these views of the masks change a label."""
    report = check_data(manifest, max_pixels=max_pixels, workers=workers)
    drift = _drift(manifest, geometry) if geometry else {}
    _show(report, Console(stderr=True), drift)
    kept = {"augmentation": {label: asdict(found) for label, found in drift.items()}} if drift else {}
    _print_json(report.to_dict() | kept)
    return 0 if report.clean else 1


def cache(
    manifest: Manifest,
    sizes: Sequence[int],
    *,
    folder: Path,
    max_pixels: int = MAX_PIXELS,
    limit_bytes: int = LIMIT_BYTES,
    workers: int | None = None,
) -> int:
    """Decode the pictures at each of `sizes`, at least one, into the cache in `folder`, where runs find them."""
    *_, decoded = (
        decode_cached(manifest, size, folder=folder, max_pixels=max_pixels, limit_bytes=limit_bytes, workers=workers)
        for size in sizes
    )
    errors = {path: error for path, error in zip(manifest.table["path"], decoded.errors, strict=True) if error}
    digest = data_hash(manifest, decoded.content_sha256)
    _print_json({"samples": len(manifest), "sizes": list(sizes), "data_hash": digest, "errors": errors})
    return 0


def cut(manifest: Manifest, out: Path, *, source: str, target: str, fraction: float, seed: int) -> int:
    """Write to `out` the manifest with `fraction` of `source` moved to `target`, by group; see `splits.cut`."""
    return _saved(splits.cut(manifest, source=source, target=target, fraction=fraction, seed=seed), _new_file(out))


def shard(manifest: Manifest, out: Path, *, shard_bytes: int = SHARD_BYTES, workers: int | None = None) -> int:
    """Write the manifest's files to shards in the folder `out`, and a manifest of them; see `write_shards`."""
    found = write_shards(manifest, out, shard_bytes=shard_bytes, workers=workers)
    console = Console(stderr=True)
    resumed = f", {found.reused:,} of them there already" if found.reused else ""
    shards = f"{found.shards:,} shard{'s' * (found.shards > 1)}"
    console.print(f"{found.samples:,} samples in {shards}{resumed}; {found.n_bytes / 1e6:,.1f} MB")
    console.print(
        Text(f"{len(found.unreadable):,} files that cannot be read", style="red" if found.unreadable else "green")
    )
    _print_lines(console, [f"{path}: {reason}" for path, reason in found.unreadable.items()])
    counts = {"samples": found.samples, "shards": found.shards, "bytes": found.n_bytes}
    _print_json({"manifest": str(found.manifest), "hash": manifest.hash, **counts, "unreadable": found.unreadable})
    return 0


def _new_file(path: Path) -> Path:
    if path.is_dir():
        raise FigleafError(f"{path}: a folder; name a file in it, such as {path / 'manifest.csv'}")
    if path.suffix not in (".csv", ".parquet"):
        raise FigleafError(f"{path}: a manifest is CSV or Parquet; name a file that ends in .csv or .parquet")
    if path.exists():
        raise FigleafError(f"{path} exists and may have been edited: write elsewhere, or remove it first")
    return path


def _saved(manifest: Manifest, out: Path) -> int:
    save_manifest(manifest, out)
    counts = manifest.table.groupby(["split", "label"]).size()
    found = {split: {name: int(counts.get((split, name), 0)) for name in manifest.classes} for split in manifest.splits}
    groups = {split: int(manifest.select(split).table["group"].nunique()) for split in manifest.splits}
    Console(stderr=True).print(_counts(manifest.name, found, groups))
    unsafe = list(manifest.unsafe)
    _print_json({"manifest": str(out), "hash": manifest.hash, "unsafe": unsafe, "counts": found, "groups": groups})
    return 0


def _show(report: Report, console: Console, drift: dict[str, LabelDrift]) -> None:
    console.print(_counts(report.name, report.counts, report.groups))
    exact = sum(cluster.kind == "exact" for cluster in report.clusters)
    findings = [
        ("files that cannot be used", [f"{bad.path} ({bad.split}): {bad.reason}" for bad in report.bad]),
        ("groups in several splits", [f"{leak.group}: {leak.splits}" for leak in report.group_leaks]),
        ("pictures in several splits", [_line(cluster, cluster.splits) for cluster in report.leaks]),
        ("pictures with several labels", [_line(cluster, cluster.labels) for cluster in report.contradictions]),
    ]
    for title, lines in findings:
        console.print(Text(f"{len(lines):,} {title}", style="bold red" if lines else "green"))
        _print_lines(console, lines)
    console.print(f"{exact:,} sets of exact and {len(report.clusters) - exact:,} of near duplicates")
    for label, found in drift.items():
        console.print(
            f"augmentation of {found.images:,} {label} pictures: {found.left:.1%} of the views leave the rule of their "
            f"label, {found.flipped:.1%} meet the other's"
        )


def _print_lines(console: Console, lines: Sequence[str]) -> None:
    for line in lines[:_SHOWN]:
        console.print(Text(f"  {printable(line)}"), soft_wrap=True)
    if len(lines) > _SHOWN:
        console.print(f"  and {len(lines) - _SHOWN:,} more: see the JSON on standard output")


def _line(cluster: Cluster, what: Iterable[str]) -> str:
    members = [f"{path} ({of})" for path, of in zip(cluster.paths, what, strict=True)]
    more = [f"and {len(members) - _MEMBERS_SHOWN:,} more"] if len(members) > _MEMBERS_SHOWN else []
    return f"{cluster.kind}: " + ", ".join(members[:_MEMBERS_SHOWN] + more)


def _counts(name: str, counts: dict[str, dict[str, int]], groups: dict[str, int]) -> Table:
    classes = list(next(iter(counts.values())))
    few = len(classes) <= _MOST_COLUMNS
    columns = classes if few else ["images", "classes present", "smallest of them", "largest"]
    table = Table("split", title=Text(printable(name)), title_justify="left")
    for column in (*columns, "groups"):
        table.add_column(Text(printable(column)), justify="right")
    for split, of_class in counts.items():
        numbers = list(of_class.values())
        present = [number for number in numbers if number]
        shown = numbers if few else [sum(present), len(present), min(present), max(present)]
        table.add_row(Text(printable(split)), *(f"{number:,}" for number in (*shown, groups[split])))
    return table


def _drift(manifest: Manifest, geometry: Geometry) -> dict[str, LabelDrift]:
    """How the labels of train fare, by the rule on the share of the mask (in `figure_mask`, where there is one)."""
    train = manifest.select("train")
    masks = [mask for mask in train.masks if mask]
    if len(masks) < len(train):
        raise FigleafError("the augmentation check needs a mask for every sample of train: fill the mask column")
    masks_u8 = load_masks(masks, geometry.source_size)
    within_u8 = None
    if "figure_mask" in train.table:
        figures = [figure for figure in train.files("figure_mask") if figure]
        within_u8 = load_masks(figures, geometry.source_size)
    whole = masks_u8.shape[1] * masks_u8.shape[2] * 255 if within_u8 is None else within_u8.sum((1, 2)).clip(1)
    share = masks_u8.sum((1, 2)) / whole
    negative_to, positive_from = share[~train.is_unsafe].max(), share[train.is_unsafe].min()
    if negative_to > positive_from:
        raise FigleafError("the labels do not follow from the share of the masks: the augmentation cannot be checked")
    rule = LabelRule(positive_from=float(positive_from), negative_to=float(negative_to))
    return label_drift(masks_u8, geometry, rule, within_u8=within_u8)


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=2 if sys.stdout.isatty() else None))
