"""Rows of answers as CSV and as Parquet, and back: what is read again is what was written, or is refused.

A row is the plain JSON of an `Answer`.
"""

import csv
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from figleaf.errors import FigleafError
from figleaf.files import atomic_path

KEYS = ("path", "score", "flagged", "label", "probabilities", "error")  # of every row; with a policy also its action
_CHUNK = 10_000  # rows of Parquet at once
_ESCAPED = re.compile(r"\\(\\|x[89a-f][0-9a-f])")
_LIKE_ESCAPED = re.compile(r"\\x[89a-f][0-9a-f]")
_CHANGED = (
    "it was changed after figleaf wrote it, by a spreadsheet perhaps; nothing was written. Name another file, or put "
    "the file back as it was"
)


def name_as_text(name: str) -> str:
    r"""A file's name as text that UTF-8 can hold: bytes that are no UTF-8 become escapes such as `\xff`.

    No two names share a text: where there are escapes, or what looks like one, backslashes are doubled.
    """
    if not _LIKE_ESCAPED.search(reason_as_text(name)):
        return name
    return reason_as_text(name.replace("\\", "\\\\"))


def name_of_text(text: str) -> str:
    """The name that `name_as_text` made `text` of."""
    if not _LIKE_ESCAPED.search(text):
        return text
    return _ESCAPED.sub(lambda found: "\\" if found[1] == "\\" else chr(0xDC00 + int(found[1][1:], 16)), text)


def reason_as_text(text: str) -> str:
    """Words for people: bytes that are no UTF-8 as escapes, whatever else looks like one."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def write_csv(path: Path, rows: Iterable[Mapping[str, Any]], classes: Sequence[str], actions: bool) -> None:
    """Write `rows` to `path`, a column for each class; `actions`: with what a policy does."""
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(_header(classes, actions))
        writer.writerows(_cells(row, classes, actions) for row in rows)


def read_csv(path: Path, classes: Sequence[str], actions: bool) -> Iterator[dict[str, Any]]:
    """The rows of a file of `write_csv`; some may have been taken out, or put in another order.

    Raises `FigleafError` for a file in which anything else was changed: a number that was rounded, a column that was
    moved, other separators, another encoding.
    """
    with path.open(encoding="utf-8", newline="") as file:
        lines, header = csv.reader(file, strict=True), _header(classes, actions)
        try:
            if next(lines, []) != header:
                raise FigleafError(f"{path}: its first line is not {','.join(header)}: {_CHANGED}")
            for cells in lines:
                row = _row(dict(zip(header, cells, strict=True)), classes)
                if _cells(row, classes, actions) != cells:
                    raise ValueError(cells)
                yield row
        except UnicodeDecodeError as error:
            raise FigleafError(f"{path}: not UTF-8: {_CHANGED}") from error
        except (ValueError, KeyError, csv.Error) as error:
            raise FigleafError(f"{path}: line {lines.line_num} is not as figleaf writes it: {_CHANGED}") from error


def _header(classes: Sequence[str], actions: bool) -> list[str]:
    return ["path", "score", "flagged", *["action"] * actions, "label", *(f"p({name})" for name in classes), "error"]


def _cells(row: Mapping[str, Any], classes: Sequence[str], actions: bool) -> list[str]:
    found = row["probabilities"] or {}
    return [
        name_as_text(row["path"]),
        "" if row["score"] is None else repr(row["score"]),
        "" if row["flagged"] is None else str(row["flagged"]).lower(),
        *([row["action"]] if actions else []),
        row["label"] or "",
        *("" if name not in found else repr(found[name]) for name in classes),
        reason_as_text(row["error"] or ""),
    ]


def _row(cells: Mapping[str, str], classes: Sequence[str]) -> dict[str, Any]:
    chances = {name: float(cells[f"p({name})"]) for name in classes if cells[f"p({name})"]}
    return {
        "path": name_of_text(cells["path"]),
        "score": float(cells["score"]) if cells["score"] else None,
        "flagged": {"true": True, "false": False, "": None}[cells["flagged"]],
        **({"action": cells["action"]} if "action" in cells else {}),
        "label": cells["label"] or None,
        "probabilities": chances or None,
        "error": cells["error"] or None,
    }


def write_parquet(path: Path, rows: Iterable[Mapping[str, Any]], classes: Sequence[str], actions: bool) -> None:
    """Write `rows` to `path` in one move; see `put_parquet`."""
    with atomic_path(path) as temporary:
        put_parquet(temporary, rows, classes, actions)


def put_parquet(
    sink: Path | IO[bytes],
    rows: Iterable[Mapping[str, Any]],
    classes: Sequence[str],
    actions: bool,
    facts: Mapping[bytes, bytes] | None = None,
) -> None:
    """Write `rows` as Parquet, no more than a chunk of them held; `actions`: with what a policy does.

    Probabilities are lists in the order of `classes`, which stand in the file's metadata with the `facts`.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = _schema(classes, actions)
    schema = schema.with_metadata({**schema.metadata, **(facts or {})})
    with pq.ParquetWriter(sink, schema, compression="zstd") as writer:
        chunk: list[dict[str, Any]] = []
        for row in rows:
            found = row["probabilities"]
            values = None if found is None else [found[name] for name in classes]
            reason = None if row["error"] is None else reason_as_text(row["error"])
            chunk.append({**row, "path": name_as_text(row["path"]), "probabilities": values, "error": reason})
            if len(chunk) == _CHUNK:
                writer.write_table(pa.Table.from_pylist(chunk, schema=schema))
                chunk = []
        writer.write_table(pa.Table.from_pylist(chunk, schema=schema))


def read_parquet(path: Path, classes: Sequence[str], actions: bool) -> Iterator[dict[str, Any]]:
    """The rows of a file of `write_parquet`. Raises `FigleafError` for one with other columns or classes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
        schema = _schema(classes, actions)
        if (
            not file.schema_arrow.equals(schema)
            or (file.schema_arrow.metadata or {}).get(b"classes") != (schema.metadata[b"classes"])
        ):
            raise FigleafError(f"{path}: its columns are not those that figleaf writes: {_CHANGED}")
        for batch in file.iter_batches():
            for row in batch.to_pylist():
                chances = row["probabilities"]
                named = None if chances is None else dict(zip(classes, chances, strict=True))
                yield {**row, "path": name_of_text(row["path"]), "probabilities": named}
    except (pa.ArrowException, ValueError, AttributeError) as error:
        raise FigleafError(f"{path}: it cannot be read as figleaf writes it: {_CHANGED}") from error


def _schema(classes: Sequence[str], actions: bool) -> Any:
    import pyarrow as pa

    return pa.schema(
        [
            ("path", pa.string()),
            ("score", pa.float64()),
            ("flagged", pa.bool_()),
            *([("action", pa.string())] if actions else []),
            ("label", pa.string()),
            ("probabilities", pa.list_(pa.float64())),
            ("error", pa.string()),
        ],
        metadata={"classes": json.dumps(list(classes))},
    )
