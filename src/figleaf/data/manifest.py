"""The manifest: a table of samples, and the only door through which data enters.

A manifest file is CSV or Parquet: columns `path, label, split`, optionally `group, slice, mask`, and any others. Paths
are relative to the manifest's folder. What a table cannot say (the order of the classes, which are unsafe, the name of
the data, a root elsewhere) stands beside it in `<file>.json`.

`figleaf data shard` writes one more kind, whose columns `shard` and `path_member` say where in a shard each picture
lies. It is the same manifest with the same hash, and all that differs is what `Manifest.files` gives.
"""

import csv
import hashlib
import json
import os
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from figleaf.data.manifest_file import manifest_file
from figleaf.data.member import SHARD, File, Member
from figleaf.data.shard import read_index, require_whole
from figleaf.errors import FigleafError
from figleaf.files import atomic_path, write_text

COLUMNS = ("path", "label", "split", "group", "slice", "mask")
UNSAFE_NAMES = frozenset({"nsfw", "unsafe", "porn", "hentai", "sexy", "nude", "explicit"})
SPLITS = ("train", "val", "test", "calib")
# Names that mean one of SPLITS: refused in a manifest (two names for one split hide data), mapped in folder names.
SPLIT_SYNONYMS = {"training": "train", "valid": "val", "validation": "val", "dev": "val", "testing": "test"}


@dataclass(frozen=True, eq=False)
class Manifest:
    """N samples and what is known of them.

    `table` has the str columns `path` (the sample id: POSIX, relative to `root`), `label`, `split`, `group`, `slice`,
    `mask` ("" for none), then any others, and a RangeIndex. `classes` is the order of the logits; `unsafe` the classes
    whose probabilities add up to the score; `name` is what tables call the data.
    """

    table: pd.DataFrame
    root: Path
    classes: tuple[str, ...]
    unsafe: tuple[str, ...]
    name: str

    @classmethod
    def from_table(
        cls,
        table: pd.DataFrame,
        *,
        root: Path,
        name: str,
        classes: Sequence[str] | None = None,
        unsafe: Sequence[str] | None = None,
    ) -> "Manifest":
        """A checked manifest: `group` defaults to the path, `slice` to "all", `classes` to the sorted labels.

        `unsafe` defaults to the classes named like one of `UNSAFE_NAMES`; an empty one means that there are none.
        Raises `FigleafError` for missing columns, empty or repeated paths, paths that leave `root`, and unknown labels.
        """
        table = _completed(table)
        found = set(table["label"])
        order = tuple(classes) if classes is not None else _sorted_classes(found)
        if len(set(order)) != len(order):
            raise FigleafError(f"data.classes={list(order)}: a class is named twice")
        if unknown := sorted(found - set(order)):
            raise FigleafError(f"label {unknown[0]!r} is not among data.classes={list(order)}: add it or mend the row")
        return cls(table, Path(root).absolute(), order, _resolve_unsafe(order, unsafe), name)

    def __len__(self) -> int:
        return len(self.table)

    @property
    def paths(self) -> list[File]:
        """The pictures' files, in row order: absolute paths, or members of shards."""
        return [file for file in self.files("path") if file is not None]

    @property
    def masks(self) -> list[File | None]:
        """The pixel masks' files; None where a sample has none."""
        return self.files("mask")

    def files(self, column: str) -> list[File | None]:
        """The files that a column of paths names, in row order; None where it names none.

        Of shards they are members, where the column `<column>_member` says so. Raises `FigleafError` where that is
        damaged.
        """
        return files_in(self.table, self.root, column)

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """Class indices (N,), into `classes`."""
        return pd.Categorical(self.table["label"], categories=list(self.classes)).codes.astype(np.int64)

    @cached_property
    def is_unsafe(self) -> NDArray[np.bool_]:
        """Whether each sample's class is unsafe, bool (N,)."""
        return np.isin(self.labels, [self.classes.index(name) for name in self.unsafe])

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits present: train, val, test, calib, then others by name."""
        present = set(self.table["split"])
        return tuple(s for s in SPLITS if s in present) + tuple(sorted(present - set(SPLITS)))

    def select(self, split: str) -> "Manifest":
        """The samples of one split, in order, reindexed from 0. Raises `FigleafError` when there is no such split."""
        if split not in self.splits:
            raise FigleafError(f"split={split}: {self.name} has {', '.join(self.splits) or 'no samples'}")
        return self.with_table(self.table[self.table["split"] == split])

    def sliced_by(self, column: str) -> "Manifest":
        """The same samples, sliced by another column ("all" where it is empty).

        Raises `FigleafError` that lists the columns there are.
        """
        if column not in self.table:
            known = ", ".join(map(str, self.table.columns))
            raise FigleafError(f"data.slice_by={column}: {self.name} has the columns {known}")
        values = self.table[column].where(self.table[column].notna(), "").astype(str)
        return self.with_table(self.table.assign(slice=values.where(values != "", "all")))

    def with_table(self, table: pd.DataFrame) -> "Manifest":
        """The same data with other rows or other splits."""
        return replace(self, table=table.reset_index(drop=True))

    @cached_property
    def hash(self) -> str:
        """SHA-256 (hex) of the rows in their order, the classes and the unsafe ones; not of `root` and `name`."""
        digest = hashlib.sha256(json.dumps([list(self.classes), list(self.unsafe)]).encode())
        for row in self.table[list(COLUMNS)].itertuples(index=False, name=None):
            digest.update(json.dumps(row).encode())
        return digest.hexdigest()


def load_manifest(
    path: Path | str,
    *,
    classes: Sequence[str] | None = None,
    unsafe: Sequence[str] | None = None,
    name: str | None = None,
    root: Path | str | None = None,
) -> Manifest:
    """Read a CSV or Parquet manifest. What is passed wins over `<path>.json`, which wins over the defaults.

    `root` is the folder the paths are relative to: by default the manifest's own. Raises `FigleafError` for a file that
    cannot be read and for all that `Manifest.from_table` refuses.
    """
    path = manifest_file(path)
    try:
        table = _read_table(path)
    except UnicodeDecodeError as error:
        raise FigleafError(f"manifest {path}: cannot be read as UTF-8 ({error}): save it as UTF-8") from error
    except (ValueError, OSError) as error:  # the parsers of pandas and pyarrow raise kinds of ValueError
        raise FigleafError(f"manifest {path}: cannot be read: {' '.join(str(error).split())}") from error
    if root is not None and not Path(root).expanduser().is_dir():
        raise FigleafError(f"data.root={root}: no such folder; the manifest's paths start from it")
    said = _read_sidecar(path)
    folder = path.absolute().parent
    try:
        manifest = Manifest.from_table(
            table,
            root=Path(root).expanduser() if root is not None else folder / sample_path(said.get("root", ".")),
            name=name or said.get("name") or (folder.name if path.stem == "manifest" else path.stem),
            classes=classes if classes is not None else said.get("classes"),
            unsafe=unsafe if unsafe is not None else said.get("unsafe"),
        )
        if is_of_shards(manifest.table):
            _require_shards(manifest)
    except FigleafError as error:
        raise FigleafError(f"manifest {path}: {error}") from error
    return manifest


def save_manifest(manifest: Manifest, path: Path | str) -> None:
    """Write the table to `path` (.csv or .parquet) and the rest to `<path>.json`, each atomically."""
    path = Path(path)
    folder = path.absolute().parent
    said = {"name": manifest.name, "classes": list(manifest.classes), "unsafe": list(manifest.unsafe)}
    if manifest.root.resolve() != folder.resolve():
        said["root"] = sample_id(Path(os.path.relpath(manifest.root.resolve(), folder.resolve())))
    with atomic_path(path) as temporary:
        if path.suffix == ".parquet":
            manifest.table.to_parquet(temporary, index=False)
        else:
            # Everything quoted: a path may hold a comma, a quote or a line break.
            manifest.table.to_csv(temporary, index=False, quoting=csv.QUOTE_ALL, encoding="utf-8", lineterminator="\n")
    write_text(_sidecar(path), json.dumps(said, indent=2, ensure_ascii=False) + "\n")


def member_column(column: str) -> str:
    """The column that says where in its shard the file lies which `column` names."""
    return f"{column}_member"


def files_in(table: pd.DataFrame, root: Path, column: str) -> list[File | None]:
    """The files of `Manifest.files`, of any table with such columns."""
    names, places = table[column].fillna(""), table.get(member_column(column))
    if places is None or SHARD not in table:
        return [root / sample_path(name) if name else None for name in names]
    rows = zip(table[SHARD], names, places, strict=True)
    return [Member.parse(root, shard, name, place) if name else None for shard, name, place in rows]


def is_of_shards(table: pd.DataFrame) -> bool:
    """Whether the pictures of a manifest's table lie in shards."""
    return SHARD in table and member_column("path") in table


def _require_shards(manifest: Manifest) -> None:
    """Raises `FigleafError` unless every shard that a row names is there, and whole."""
    known = {entry.name: entry for entry in read_index(manifest.root)}
    named = sorted(set(manifest.table[SHARD]))
    if unknown := [name for name in named if name not in known]:
        raise FigleafError(f"{manifest.root} has no shard {unknown[0]!r}: this manifest is not of these shards")
    require_whole(manifest.root, [known[name] for name in named])


_ESCAPED = re.compile(r"\\x(5c|[89a-f][0-9a-f])")


def sample_id(relative: Path) -> str:
    r"""The id of a file: its POSIX path, with bytes that are no UTF-8 written `\xNN`, so that any table can hold it.

    A backslash that would be read back as such an escape is itself written `\x5c`; `sample_path` is the exact inverse.
    """
    text = re.sub(r"\\(?=x(?:5c|[89a-f][0-9a-f]))", r"\\x5c", relative.as_posix())
    return re.sub("[\udc80-\udcff]", lambda match: f"\\x{ord(match[0]) - 0xDC00:02x}", text)


def sample_path(sample_id: str) -> Path:
    """The path of a sample id; see `sample_id`."""
    return Path(_ESCAPED.sub(lambda m: "\\" if m[1] == "5c" else chr(0xDC00 + int(m[1], 16)), sample_id))


def standard_split(name: str) -> str | None:
    """Which of `SPLITS` a name stands for, however it is spelled ("Validation" is val); None for any other name."""
    lower = SPLIT_SYNONYMS.get(name.lower(), name.lower())
    return lower if lower in SPLITS else None


def _completed(table: pd.DataFrame) -> pd.DataFrame:
    """The table with str columns in the canonical order, defaults filled in and every row checked."""
    if missing := [column for column in ("path", "label") if column not in table]:
        raise FigleafError(f"column {missing[0]!r} is missing; there are {list(table.columns)}")
    if "split" not in table:
        raise FigleafError("column 'split' is missing: add it (train, val, test), or let `figleaf data index` cut")
    if table.empty:
        raise FigleafError("it has no rows")
    table = table.reset_index(drop=True)
    for column in COLUMNS:
        known = table[column].astype(object) if column in table else pd.Series("", index=table.index, dtype=object)
        table[column] = known.where(known.notna(), "").astype(str)
    table["path"] = [_inside(path, row) for row, path in enumerate(table["path"])]
    table["mask"] = [_inside(path, row) if path else "" for row, path in enumerate(table["mask"])]
    table["group"] = table["group"].where(table["group"] != "", table["path"])
    table["slice"] = table["slice"].where(table["slice"] != "", "all")
    for column in ("label", "split"):
        if (empty := table.index[table[column] == ""]).size:
            raise FigleafError(f"row {empty[0] + 1} ({table['path'][empty[0]]}): the {column} is empty")
    for split in table["split"].unique():
        meant = standard_split(split)
        if meant not in (None, split):
            raise FigleafError(f"split {split!r}: call it {meant!r}")
    if (repeated := table["path"][table["path"].duplicated()]).size:
        raise FigleafError(f"path {repeated.iloc[0]!r} stands in several rows: a sample has one row")
    return table[[*COLUMNS, *(column for column in table if column not in COLUMNS)]]


def _inside(path: str, row: int) -> str:
    """The path normalised, or a `FigleafError` when it leaves the root (an id must mean the same on every machine)."""
    pure = PurePosixPath(path)
    if path == "" or pure.is_absolute() or ".." in pure.parts or "\0" in path:
        raise FigleafError(
            f"row {row + 1}: path {path!r} must lie under the manifest's root: write it relative to the root, pass the "
            "folder that holds all images as data.root, or link their folder beside the manifest"
        )
    return str(pure)


def _sorted_classes(labels: set[str]) -> tuple[str, ...]:
    """By name, or by value when all are numbers ("2" before "10")."""
    return tuple(sorted(labels, key=int)) if all(x.isdecimal() for x in labels) else tuple(sorted(labels))


def _resolve_unsafe(classes: tuple[str, ...], unsafe: Sequence[str] | None) -> tuple[str, ...]:
    if unsafe is None:
        found = tuple(name for name in classes if name.lower() in UNSAFE_NAMES)
        if not found:
            raise FigleafError(
                f"which of the classes {list(classes)} are unsafe? pass data.unsafe=[...] ([] for none), or to "
                "`figleaf data index` --unsafe and their names (no name for none)"
            )
        return found
    if unknown := sorted(set(unsafe) - set(classes)):
        raise FigleafError(f"data.unsafe={list(unsafe)}: {unknown[0]!r} is not among the classes {list(classes)}")
    return tuple(name for name in classes if name in unsafe)


def _read_table(path: Path) -> pd.DataFrame:
    if path.suffix == ".parquet":
        return pd.read_parquet(path)
    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)
        try:
            # No guessing: a class called "NA" or "007" stays what it is, and rows with one value too many do not make
            # the first column an index, which would take "b.jpg" for the path of an unquoted "a,b.jpg".
            return pd.read_csv(path, dtype=str, keep_default_na=False, index_col=False)
        except (pd.errors.ParserError, pd.errors.ParserWarning) as error:
            text = " ".join(str(error).removeprefix("Error tokenizing data. C error: ").split())
            raise ValueError(
                f"{text}; a value that holds a comma, a quote or a line break is written in quotes"
            ) from error


def _sidecar(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


def _read_sidecar(path: Path) -> dict[str, Any]:
    """What `save_manifest` wrote beside the table; nothing where it wrote nothing."""
    sidecar = _sidecar(path)
    if not sidecar.exists():
        return {}
    try:
        said: Any = json.loads(sidecar.read_text(encoding="utf-8"))
    except ValueError as error:
        raise FigleafError(f"{sidecar}: not JSON: {error}") from error
    except OSError as error:
        raise FigleafError(f"{sidecar}: cannot be read: {error.strerror}") from error
    if not isinstance(said, dict):
        raise FigleafError(f"{sidecar}: expected an object with name, classes, unsafe and root")
    if unknown := sorted(set(said) - {"name", "classes", "unsafe", "root"}):
        raise FigleafError(f"{sidecar}: unknown key {unknown[0]!r}: expected name, classes, unsafe and root")
    for key, value in said.items():
        if key in ("name", "root") and not isinstance(value, str):
            raise FigleafError(f"{sidecar}: {key}={value!r}: expected a text")
        if key in ("classes", "unsafe") and not (isinstance(value, list) and all(isinstance(v, str) for v in value)):
            raise FigleafError(f"{sidecar}: {key}={value!r}: expected a list of texts")
    return said
