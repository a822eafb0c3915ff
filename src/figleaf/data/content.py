"""What files hold, by SHA-256; remembered by path, size and time of change, so that no file is hashed twice."""

import hashlib
import logging
import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import TypeVar

from figleaf.data.decode import DecodeError, read_bytes
from figleaf.data.member import File, Member
from figleaf.progress import track

_log = logging.getLogger(__name__)

# A file changed less than this before it was read may change again within one tick of the file system's clock, and look
# the same. Its hash is not remembered (git calls such files racily clean).
_SETTLED_NS = 1_000_000_000
_CHUNK = 32

Item = TypeVar("Item")
Result = TypeVar("Result")


def hash_files(
    files: Sequence[File], *, memory: Path, workers: int | None = None
) -> tuple[list[str], list[str | None]]:
    """The SHA-256 (hex) of each file, "" for those that cannot be read, and the reason for each of those, else None.

    `memory` is the SQLite file that remembers; where it cannot be written every file is read. Of a shard's member what
    its manifest says is taken, so that shards are read once: whoever reads the bytes compares them with it.
    """
    loose = _hash_loose([file for file in files if isinstance(file, Path)], memory, workers)
    found = [(file.sha256, file.error) if isinstance(file, Member) else next(loose) for file in files]
    return [sha256 for sha256, _ in found], [error for _, error in found]


def _hash_loose(paths: Sequence[Path], memory: Path, workers: int | None) -> Iterator[tuple[str, str | None]]:
    stamps = [_stamp(path) for path in paths]
    known = _recall(memory, paths, stamps)
    unknown = [row for row, sha256 in enumerate(known) if sha256 is None]
    started_ns = time.time_ns()

    def read(row: int) -> tuple[str, str | None]:
        try:
            return hashlib.sha256(read_bytes(paths[row])).hexdigest(), None
        except DecodeError as error:
            return "", error.reason

    fresh = dict(zip(unknown, track(parallel(read, unknown, workers), "Hashing", len(unknown)), strict=True))
    _remember(
        memory,
        [
            (os.fsencode(paths[row]), *stamp, sha256)
            for row, (sha256, error) in fresh.items()
            if error is None and (stamp := stamps[row]) and stamp[1] < started_ns - _SETTLED_NS
        ],
    )
    return iter([fresh[row] if sha256 is None else (sha256, None) for row, sha256 in enumerate(known)])


def parallel(function: Callable[[Item], Result], items: Sequence[Item], workers: int | None = None) -> Iterator[Result]:
    """The results in order, from threads: reading, decoding, resizing and hashing release the interpreter's lock.

    `workers` defaults to the cores that this process may use.
    """
    chunks = [items[start : start + _CHUNK] for start in range(0, len(items), _CHUNK)]
    with ThreadPoolExecutor(workers or len(os.sched_getaffinity(0))) as pool:
        for results in pool.map(lambda chunk: [function(item) for item in chunk], chunks):
            yield from results


def _stamp(path: Path) -> tuple[int, int] | None:
    """Size and time of the last change (ns); None when there is nothing to ask."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


def _recall(memory: Path, paths: Sequence[Path], stamps: Sequence[tuple[int, int] | None]) -> list[str | None]:
    if not memory.exists():
        return [None] * len(paths)
    try:
        with closing(sqlite3.connect(memory, timeout=60)) as database:
            find = "SELECT sha256 FROM files WHERE path = ? AND size = ? AND mtime_ns = ?"
            rows = (
                database.execute(find, (os.fsencode(path), *stamp)).fetchone() if stamp else None
                for path, stamp in zip(paths, stamps, strict=True)
            )
            return [row[0] if row else None for row in rows]
    except sqlite3.Error as error:
        _log.warning("%s cannot be read (%s): all files are hashed again", memory, error)
        if not isinstance(error, sqlite3.OperationalError):  # not locked or out of reach, but damaged
            memory.unlink(missing_ok=True)
        return [None] * len(paths)


def _remember(memory: Path, rows: list[tuple[bytes, int, int, str]]) -> None:
    if not rows:
        return
    try:
        memory.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(memory, timeout=60)) as database, database:
            database.execute(
                "CREATE TABLE IF NOT EXISTS files (path BLOB PRIMARY KEY, size INT, mtime_ns INT, sha256 TEXT)"
            )
            database.executemany("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?)", rows)
    except (sqlite3.Error, OSError) as error:
        # No warning: the cache, which lies on the same disk, gives one.
        _log.info("%s cannot be written (%s): the next run hashes all files again", memory, error)
