"""The file of a manifest, before a table is read from it: is it there, and is it what its name says?

Nothing heavy is imported here, so that a command can refuse a file before it loads what would train on it.
"""

import csv
from pathlib import Path

from figleaf.errors import FigleafError

_PARQUET = b"PAR1"
_HEAD_BYTES = 1 << 16  # more than any line of column names
_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars"}
_OTHER_KINDS = {
    b"PK\x03\x04": "a spreadsheet or another ZIP file: save it as CSV",
    b"\xd0\xcf\x11\xe0": "an old spreadsheet: save it as CSV",
    b"\x1f\x8b": "compressed with gzip: unpack it",
    b"\xff\xfe": "UTF-16 text: save it as UTF-8",
    b"\xfe\xff": "UTF-16 text: save it as UTF-8",
}


def manifest_file(path: Path | str | None) -> Path:
    """`path`, `~` expanded, of a CSV (UTF-8, commas) or, when it ends in .parquet, Parquet manifest.

    Raises `FigleafError` when there is no such file and when its first bytes say that it is something else. None stands
    for `data.manifest=null`.
    """
    if path is None:
        raise FigleafError(
            "data.manifest=null: pass data=manifest data.manifest=PATH; `figleaf data index FOLDER` makes one"
        )
    path = Path(path).expanduser()
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FigleafError(f"manifest {path}: no such file; make one with `figleaf data index FOLDER`") from error
    except OSError as error:
        raise FigleafError(f"manifest {path}: cannot be read: {error.strerror}") from error
    if path.is_dir():
        inside = path / "manifest.csv"
        hint = f"did you mean {inside}?" if inside.is_file() else f"`figleaf data index {path}` makes {inside}"
        raise FigleafError(f"manifest {path}: a folder, not a file; {hint}")
    if not path.is_file():
        raise FigleafError(f"manifest {path}: not a regular file; write the table to one")
    if fault := _fault(path):
        raise FigleafError(f"manifest {path}: {fault}")
    return path


def _fault(path: Path) -> str:
    """What the file is instead of a manifest; "" for none of the usual mistakes."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    if not head:
        return "cannot be read: it is empty"
    if path.suffix == ".parquet":
        return "" if head.startswith(_PARQUET) else "cannot be read as Parquet: if it is a CSV file, let it end in .csv"
    if head.startswith(_PARQUET):
        return "cannot be read as CSV: it holds Parquet, so let it end in .parquet"
    for start, kind in _OTHER_KINDS.items():
        if head.startswith(start):
            return f"cannot be read as CSV: it is {kind}"
    return _wrong_separator(head.decode("utf-8-sig", errors="replace"))


def _wrong_separator(text: str) -> str:
    """What separates the column names, when it is no comma."""
    line = next(iter(text.splitlines()), "")
    columns = next(csv.reader([line]), [])
    if len(columns) == 1:
        for separator, name in _SEPARATORS.items():
            if separator in line:
                return f"its columns are separated by {name} ({line[:60]!r}): save it with commas"
    return ""
