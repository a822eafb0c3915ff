"""Where answers go: a file that a killed run leaves whole, and that the same command goes on with.

Rows are written as JSON lines first, to the file itself or to `FILE.part` beside it, and every line is flushed; CSV and
Parquet are made of them at the end, in one move. A second file, `FILE.state`, says which model the rows are of.
"""

import csv
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self, TextIO

from figleaf.errors import FigleafError
from figleaf.files import atomic_path, explained, write_text
from figleaf.serve.items import Item
from figleaf.serve.predict import Answer

SUFFIXES = (".jsonl", ".csv", ".parquet")
_CHUNK = 10_000  # rows of Parquet at once


class RowFile:
    """Answers written to `out`; `identity` says what model and threshold they are of, `actions` whether they have one.

    As a context it takes rows by `write`; `finish` makes the file. Rows of an interrupted run stand already:
    `missing` leaves out what has one. Raises `FigleafError` for a suffix that is none of `SUFFIXES`, for a
    file that somebody else wrote, and for rows of another model.
    """

    def __init__(self, out: Path, classes: Sequence[str], identity: Mapping[str, Any], actions: bool = False) -> None:
        if out.suffix not in SUFFIXES:
            raise FigleafError(f"--out {out}: expected a name that ends in {', '.join(SUFFIXES)}")
        if out.suffix == ".parquet" and find_spec("pyarrow") is None:
            raise FigleafError(
                f"--out {out}: Parquet needs pyarrow: pip install 'figleaf[lab]', or name a .csv or .jsonl file"
            )
        if out.is_dir():
            raise FigleafError(f"--out {out}: a folder; name a file")
        self.out, self.classes, self._actions = out, tuple(classes), actions
        self.lines = out if out.suffix == ".jsonl" else out.with_name(out.name + ".part")
        self._state = out.with_name(out.name + ".state")
        self._done: set[bytes] = set()
        self._file: TextIO | None = None
        self._identity = dict(identity)

    def __enter__(self) -> Self:
        with explained(self.out):
            self.out.parent.mkdir(parents=True, exist_ok=True)
            self._require_ours()
            write_text(self._state, json.dumps(self._identity) + "\n")  # first: rows without it are nobody's
            self._file = self.lines.open("a", encoding="utf-8")
            _lock(self._file, self.lines)
            self._recall()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()

    def __len__(self) -> int:
        return len(self._done)

    def missing(self, items: Iterable[Item]) -> Iterator[Item]:
        """Those that have no row yet, each name once, and none of the files that are being written here.

        A folder may hold what it is scored into.
        """
        own = {file.absolute() for file in (self.out, self.lines, self._state)}
        met: set[bytes] = set()
        for item in items:
            key = _key(item.name)
            if key not in met and key not in self._done and Path(item.name).absolute() not in own:
                met.add(key)
                yield item

    def write(self, answer: Answer) -> None:
        """Add a row; it is out of this process's hands when this returns."""
        assert self._file is not None, "used outside its context"
        with explained(self.out):
            self._file.write(json.dumps(answer.row) + "\n")
            self._file.flush()
        self._done.add(_key(answer.path))

    def finish(self) -> None:
        """Make the file of the rows: they are all there."""
        assert self._file is not None, "used outside its context"
        with explained(self.out):
            self._file.flush()
            os.fsync(self._file.fileno())
            if self.out.suffix == ".csv":
                self._make_csv()
            elif self.out.suffix == ".parquet":
                self._make_parquet()
            if self.lines != self.out:
                self.lines.unlink()

    def rows(self) -> Iterator[dict[str, Any]]:
        """The rows so far, as they were written."""
        with self.lines.open(encoding="utf-8") as file:
            for line in file:
                yield json.loads(line)

    def _require_ours(self) -> None:
        if not self._state.is_file():
            if self.out.exists() or self.lines.exists():
                raise FigleafError(f"--out {self.out}: is there, and no run of predict wrote it; name another file")
            return
        try:
            earlier = json.loads(self._state.read_text(encoding="utf-8"))
        except (ValueError, RecursionError):
            earlier = None
        if earlier != self._identity:
            raise FigleafError(
                f"--out {self.out}: holds rows of another model, threshold or policy, by {self._state.name}; name "
                "another file, or remove both"
            )
        if self.out != self.lines and self.out.exists() and not self.lines.exists():
            self._unmake()

    def _unmake(self) -> None:
        """The rows of a finished file as lines again, so that files that have come since can be added."""
        with atomic_path(self.lines) as temporary, temporary.open("w", encoding="utf-8") as file:
            for row in _read_csv(self.out) if self.out.suffix == ".csv" else read_parquet(self.out):
                file.write(json.dumps(row) + "\n")

    def _recall(self) -> None:
        """Learn which paths have a row; a last line that a killed process left half is cut off.

        Raises `FigleafError` for a line that is damaged otherwise: what stands behind it may be somebody's only copy.
        """
        whole = 0
        with self.lines.open("rb") as file:
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    break
                try:
                    self._done.add(_key(json.loads(line)["path"]))
                except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
                    raise FigleafError(
                        f"{self.lines}: line {number} is damaged; mend or remove that line, or name another file"
                    ) from error
                whole += len(line)
        if whole < self.lines.stat().st_size:
            os.truncate(self.lines, whole)

    def _make_csv(self) -> None:
        with atomic_path(self.out) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            judged = ["action"] * self._actions
            chances = [f"p({name})" for name in self.classes]
            writer.writerow(["path", "score", "flagged", *judged, "label", *chances, "error"])
            for row in self.rows():
                found = row["probabilities"] or {}
                chances = ["" if name not in found else repr(found[name]) for name in self.classes]
                flagged = "" if row["flagged"] is None else str(row["flagged"]).lower()
                score = "" if row["score"] is None else repr(row["score"])
                judged = [row["action"]] if self._actions else []
                label, error = row["label"] or "", _text(row["error"] or "")
                writer.writerow([_text(row["path"]), score, flagged, *judged, label, *chances, error])

    def _make_parquet(self) -> None:
        with atomic_path(self.out) as temporary:
            write_parquet(temporary, self.rows(), answers_schema(self.classes, self._actions))


def answers_schema(classes: Sequence[str], actions: bool) -> Any:
    """The columns of answers in Parquet; `classes`, the order of the probabilities, stand in the metadata."""
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


def write_parquet(sink: Path | IO[bytes], rows: Iterable[dict[str, Any]], schema: Any) -> None:
    """Write rows (`Answer.row`) to a Parquet file of this `answers_schema`; no more than a chunk of them is held."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    classes = json.loads(schema.metadata[b"classes"])
    with pq.ParquetWriter(sink, schema, compression="zstd") as writer:
        chunk: list[dict[str, Any]] = []
        for row in rows:
            found = row["probabilities"]
            values = None if found is None else [found[name] for name in classes]
            reason = None if row["error"] is None else _text(row["error"])
            chunk.append({**row, "path": _text(row["path"]), "probabilities": values, "error": reason})
            if len(chunk) == _CHUNK:
                writer.write_table(pa.Table.from_pylist(chunk, schema=schema))
                chunk = []
        writer.write_table(pa.Table.from_pylist(chunk, schema=schema))


def _read_csv(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            chances = {key[2:-1]: float(value) for key, value in row.items() if key.startswith("p(") and value}
            yield {
                "path": row["path"],
                "score": float(row["score"]) if row["score"] else None,
                "flagged": {"true": True, "false": False}.get(row["flagged"]),
                **({"action": row["action"]} if "action" in row else {}),
                "label": row["label"] or None,
                "probabilities": chances or None,
                "error": row["error"] or None,
            }


def read_parquet(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of such a file, as they were written."""
    import pyarrow.parquet as pq

    file = pq.ParquetFile(path)
    classes = json.loads(file.schema_arrow.metadata[b"classes"])
    for batch in file.iter_batches():
        for row in batch.to_pylist():
            chances = row["probabilities"]
            yield {
                **row,
                "path": row["path"],
                "probabilities": None if chances is None else dict(zip(classes, chances, strict=True)),
            }


def _text(text: str) -> str:
    """File names that are no UTF-8, with their bytes as escapes: CSV and Parquet hold text."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _key(path: str) -> bytes:
    return hashlib.blake2b(_text(path).encode("utf-8"), digest_size=12).digest()


def _lock(file: TextIO, path: Path) -> None:
    """One process writes a file of rows."""
    try:
        import fcntl
    except ImportError:  # Windows has no such lock
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise FigleafError(f"{path}: another figleaf predict is writing it") from error
