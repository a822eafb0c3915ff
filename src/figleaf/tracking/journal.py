"""The metric journal: a run's metrics on local disk, of which only rows before the last durable checkpoint may leave.

MLflow cannot delete a metric, so a step computed, sent, lost in a crash and computed again would stand there twice.
The journal holds three marks, all of them byte offsets at line ends, `delivered <= claimed <= committed <= size`:

- *committed*: a checkpoint on disk covers the rows before it; they will never be computed again and may be sent;
- *claimed*: the rows before it have been handed to the sender, so the tracker may hold them;
- *delivered*: the tracker has confirmed the rows before it.

After a crash the rows between delivered and claimed are sent again, with the timestamps stored here; MLflow swallows a
row whose key, step, timestamp and value it already has.
"""

import json
import math
import operator
import os
import posixpath
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from figleaf.errors import FigleafError
from figleaf.files import explained, write_text

# MLflow's own rule for metric names, held here because a name it refuses would block every later row.
_NAME = re.compile(r"[/\w.\- :]{1,250}")


class Row(NamedTuple):
    """One value of one metric: `step`, milliseconds since the epoch, name, value (may be NaN or infinite)."""

    step: int
    time_ms: int
    key: str
    value: float


@dataclass(frozen=True)
class Batch:
    """Rows to send and the offset (bytes) just after the last of them."""

    rows: list[Row]
    end: int


class MetricJournal:
    """The rows of one run, one JSON line a call of `append`, in `path`; the marks stand in files beside it.

    One process at a time may hold a journal open; within it, one thread writes and another may send.
    A line torn by a crash is dropped on opening. Raises `FigleafError` when the file is shorter than its marks say.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.on_commit: Callable[[], None] = lambda: None
        self._committed_file, self._delivered_file = _mark_files(path)
        self._lock = threading.Lock()
        with explained(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        self._committed = _read_marks(self._committed_file, 1)[0]
        self._delivered, self._claimed = _read_marks(self._delivered_file, 2)
        size = os.fstat(self._descriptor).st_size
        if size < max(self._committed, self._claimed):
            os.close(self._descriptor)
            raise FigleafError(
                f"{path} holds {size} bytes, but {max(self._committed, self._claimed)} were written: "
                "the file was changed or lost; pass resume=never to start a new run"
            )
        self._size = self._committed + self._read(self._committed, size).rfind(b"\n") + 1
        os.ftruncate(self._descriptor, self._size)

    @property
    def offset(self) -> int:
        """Bytes written so far, all of them on disk after this call: what a checkpoint may store."""
        os.fsync(self._descriptor)
        return self._size

    @property
    def committed(self) -> int:
        """The rows before this offset may be sent."""
        return self._committed

    @property
    def delivered(self) -> int:
        """The rows before this offset are at the tracker."""
        return self._delivered

    @property
    def all_delivered(self) -> bool:
        """Whether no committed row waits."""
        return self._delivered == self._committed

    @property
    def waiting(self) -> int:
        """How many committed values have not arrived."""
        return sum(len(_decoded(line, self.path)) for line in self._lines(self._delivered, self._committed))

    def append(self, metrics: Mapping[str, float], step: int, time_ms: int | None = None) -> None:
        """Write one line: all of `metrics` at `step`. `time_ms` defaults to now.

        Raises `FigleafError` for a name that MLflow would refuse, and when the disk is full.
        """
        if not metrics:
            return
        for key in metrics:
            _require_name(key)
        line = {
            "step": operator.index(step),
            "time_ms": int(time.time() * 1000) if time_ms is None else time_ms,
            "metrics": {key: _encoded(float(value)) for key, value in metrics.items()},
        }
        data = json.dumps(line, ensure_ascii=False, allow_nan=False).encode() + b"\n"
        with explained(self.path):
            try:
                written = 0
                while written < len(data):
                    written += os.write(self._descriptor, data[written:])
                self._size += len(data)
            except BaseException:  # a signal may strike here, too: the file and `_size` must agree afterwards
                os.ftruncate(self._descriptor, self._size)
                raise

    def commit(self, offset: int | None = None) -> None:
        """Declare the rows before `offset` (default: all) durable, so that they may be sent. Never moves backwards."""
        target = self._size if offset is None else offset
        self._require_line_end(target)
        with self._lock:
            if target <= self._committed:
                return
            os.fsync(self._descriptor)
            write_text(self._committed_file, str(target))
            self._committed = target
        self.on_commit()

    def truncate(self, offset: int) -> None:
        """Drop the rows after `offset` and commit those before, because training goes on from a checkpoint built there.

        Raises `FigleafError` when some of them may already be at the tracker, or when the journal never was that long.
        """
        self._require_line_end(offset)
        with self._lock:
            if offset < self._claimed:
                raise FigleafError(
                    f"{self.path}: the tracker already holds metrics later than the point to resume from "
                    f"({self._claimed} > {offset} bytes) and cannot delete them; pass resume=never to start a new run"
                )
            # The mark moves first: killed between the two, the file is longer than the mark, never shorter.
            if self._committed > offset:
                write_text(self._committed_file, str(offset))
                self._committed = offset
            with explained(self.path):
                os.ftruncate(self._descriptor, offset)
                os.fsync(self._descriptor)
            self._size = offset
        self.commit(offset)

    def rows(self, upto: int | None = None) -> list[Row]:
        """All rows before the offset `upto` (default: the end), in the order written."""
        return [
            row for line in self._lines(0, self._size if upto is None else upto) for row in _decoded(line, self.path)
        ]

    def take(self, limit: int) -> Batch | None:
        """Claim the next rows to send: whole lines until `limit` rows are reached; None when all are delivered."""
        with self._lock:
            rows: list[Row] = []
            end = self._delivered
            for line in self._lines(self._delivered, self._committed):
                rows += _decoded(line, self.path)
                end += len(line)
                if len(rows) >= limit:
                    break
            if not rows:
                return None
            if end > self._claimed:
                write_text(self._delivered_file, f"{self._delivered} {end}")
                self._claimed = end
            return Batch(rows, end)

    def confirm(self, batch: Batch) -> None:
        """Note that the tracker has the rows of `batch`."""
        with self._lock:
            self._delivered = batch.end
            write_text(self._delivered_file, f"{self._delivered} {self._claimed}")

    def forget_delivery(self) -> None:
        """Send everything committed again, because the run now lives in another store."""
        with self._lock:
            write_text(self._delivered_file, "0 0")
            self._delivered = self._claimed = 0

    def close(self) -> None:
        """Release the file; the marks stay on disk."""
        os.close(self._descriptor)

    def _read(self, start: int, end: int) -> bytes:
        return os.pread(self._descriptor, end - start, start)

    def _lines(self, start: int, end: int) -> Iterator[bytes]:
        """Whole lines between two offsets, read a megabyte at a time: a backlog may be long."""
        rest = b""
        while start < end:
            data = self._read(start, min(end, start + 2**20))
            start += len(data)
            *lines, rest = (rest + data).split(b"\n")
            yield from (line + b"\n" for line in lines)

    def _require_line_end(self, offset: int) -> None:
        if not 0 <= offset <= self._size or (offset and self._read(offset - 1, offset) != b"\n"):
            raise FigleafError(
                f"{self.path}: offset {offset} is no line end of this journal ({self._size} bytes): "
                "the checkpoint belongs to another run; pass resume=never to start a new one"
            )


def waiting_offsets(path: Path) -> tuple[int, int]:
    """Give the committed and the delivered mark of the journal `path`, without opening it."""
    committed_file, delivered_file = _mark_files(path)
    return _read_marks(committed_file, 1)[0], _read_marks(delivered_file, 2)[0]


def _mark_files(path: Path) -> tuple[Path, Path]:
    return path.with_name(path.name + ".committed"), path.with_name(path.name + ".delivered")


def _require_name(key: str) -> None:
    if not _NAME.fullmatch(key) or posixpath.normpath(key) != key or key.startswith(("/", "..")) or key == ".":
        raise FigleafError(f"metric name {key!r}: expected a path of letters, digits, spaces and _ - . : (at most 250)")


def _encoded(value: float) -> float | str:
    """JSON knows no NaN and no infinity: they are written as words."""
    return value if math.isfinite(value) else str(value)


def _decoded(line: bytes, path: Path) -> list[Row]:
    try:
        entry = json.loads(line)
        return [Row(entry["step"], entry["time_ms"], key, float(value)) for key, value in entry["metrics"].items()]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise FigleafError(f"{path}: a damaged line ({error}); pass resume=never to start a new run") from error


def _read_marks(path: Path, count: int) -> list[int]:
    if not path.exists():
        return [0] * count
    try:
        marks = [int(mark) for mark in path.read_text(encoding="utf-8").split()]
        if len(marks) != count:
            raise ValueError(f"{len(marks)} numbers for {count}")
        return marks
    except ValueError as error:
        raise FigleafError(f"{path}: damaged ({error}); pass resume=never to start a new run") from error
