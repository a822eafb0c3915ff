"""Where answers go: a file that a killed run leaves whole, and that the same command goes on with.

Rows are written as JSON lines first, to the file itself or to `FILE.part` beside it, and every line is flushed; CSV and
Parquet are made of them at the end, in one move. A second file, `FILE.state`, says which model the rows are of.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

from figleaf.errors import FigleafError
from figleaf.files import atomic_path, explained, write_text
from figleaf.serve.items import Item
from figleaf.serve.predict import Answer
from figleaf.serve.tables import KEYS, name_as_text, name_of_text, read_csv, read_parquet, write_csv, write_parquet

SUFFIXES = (".jsonl", ".csv", ".parquet")


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
            self._file.write(_line(answer.row))
            self._file.flush()
        self._done.add(_key(answer.path))

    def finish(self) -> None:
        """Make the file of the rows: they are all there."""
        assert self._file is not None, "used outside its context"
        with explained(self.out):
            self._file.flush()
            os.fsync(self._file.fileno())
            if self.lines != self.out:
                write = write_csv if self.out.suffix == ".csv" else write_parquet
                write(self.out, self.rows(), self.classes, self._actions)
                self.lines.unlink()

    def rows(self) -> Iterator[dict[str, Any]]:
        """The rows so far, as they were written."""
        with self.lines.open(encoding="utf-8") as file:
            for line in file:
                row = json.loads(line)
                yield row | {"path": name_of_text(row["path"])}

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
            read = read_csv if self.out.suffix == ".csv" else read_parquet
            for row in read(self.out, self.classes, self._actions):
                file.write(_line(row))

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
                    row = json.loads(line)
                    if missing := [key for key in (*KEYS, *["action"] * self._actions) if key not in row]:
                        raise KeyError(missing[0])
                    self._done.add(_key(name_of_text(row["path"])))
                except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
                    raise FigleafError(
                        f"{self.lines}: line {number} is damaged; mend or remove that line, or name another file"
                    ) from error
                whole += len(line)
        if whole < self.lines.stat().st_size:
            os.truncate(self.lines, whole)


def _line(row: Mapping[str, Any]) -> str:
    """Strict JSON: a name that is no UTF-8 is spelled as in the other formats."""
    return json.dumps({**row, "path": name_as_text(row["path"])}) + "\n"


def _key(path: str) -> bytes:
    return hashlib.blake2b(path.encode("utf-8", "surrogateescape"), digest_size=12).digest()


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
