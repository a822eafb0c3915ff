"""The rows of a few large inputs, each in a Parquet file of its own that is whole or not there, and one file of them.

A part says itself of which input it is, as that stood then, and by which model: what was finished before a driver died
is used again, and nothing else is. So each picture has its row once, however often an input was scored.
"""

import hashlib
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from filelock import FileLock, Timeout

from figleaf.data.shard import is_shard_folder, read_index
from figleaf.errors import FigleafError
from figleaf.files import atomic_path, explained, write_text
from figleaf.serve.tables import put_parquet, read_parquet

_ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
_UNIT, _UNITS = b"figleaf.unit", b"figleaf.units"


@dataclass(frozen=True)
class Unit:
    """An input that one worker scores at once: an archive, and its size and time of change when it was looked at.

    `path` is what rows call it, `absolute` where every machine finds it.
    """

    path: str
    n_bytes: int
    mtime_ns: int
    absolute: str


def units_of(paths: Sequence[str]) -> list[Unit]:
    """The shards and archives of `paths`, each once, in order; a folder of shards is all of its shards.

    A shard that is missing is a unit, too, whose rows say so. Raises `FigleafError` for anything else.
    """
    found: dict[str, Unit] = {}
    for text in paths:
        path = Path(text)
        inside = [path]
        if path.is_dir() and is_shard_folder(path):
            inside = [path / entry.name for entry in read_index(path)]
        elif not (path.is_file() and path.name.lower().endswith(_ARCHIVES)):
            raise FigleafError(
                f"{text}: --ray scores shards and archives, whole ones by one worker; `figleaf data shard` makes shards"
            )
        for file in inside:
            n_bytes = mtime_ns = 0
            with suppress(FileNotFoundError):
                status = file.stat()
                n_bytes, mtime_ns = status.st_size, status.st_mtime_ns
            found[str(file)] = Unit(str(file), n_bytes, mtime_ns, str(file.absolute()))
    return list(found.values())


class Parts:
    """The parts of `out`, a .parquet file, in a folder beside it; one process at a time, as a context.

    `identity` says by which model, threshold and policy the rows are, and `classes` and `actions` what columns they
    have. Raises `FigleafError` for another suffix and for a file that is not of these units and this identity.
    """

    def __init__(
        self, out: Path, units: Sequence[Unit], classes: Sequence[str], identity: Mapping[str, Any], actions: bool
    ) -> None:
        if out.suffix != ".parquet":
            raise FigleafError(f"--out {out}: --ray writes Parquet; expected a name that ends in .parquet")
        if out.is_dir():
            raise FigleafError(f"--out {out}: a folder; name a file")
        self.out, self.units, self.classes, self.actions = out, list(units), tuple(classes), actions
        self.folder = out.with_name(out.name + ".parts")
        self._state = out.with_name(out.name + ".state")
        self._identity = dict(identity)
        self._lock = FileLock(self.folder / ".lock")

    def __enter__(self) -> Self:
        with explained(self.out):
            self._require_ours()
            self.folder.mkdir(parents=True, exist_ok=True)
            try:
                self._lock.acquire(timeout=0)
            except Timeout:
                raise FigleafError(f"{self.folder}: another figleaf predict is writing it") from None
        return self

    def __exit__(self, *_: object) -> None:
        if self.is_finished:  # also when a run before was killed while it removed them
            for part in (*self.folder.glob("*part-*.parquet"), self.folder / ".lock"):
                part.unlink(missing_ok=True)
            with suppress(OSError):  # somebody else's files stay
                self.folder.rmdir()
        self._lock.release()

    @property
    def is_finished(self) -> bool:
        """Whether `out` stands already, with the rows of these units."""
        return self.out.exists()

    def missing(self) -> list[int]:
        """The numbers of the units that have no part yet, or one of something else."""
        return [number for number in range(len(self.units)) if self._said(self._path(number)) != self.told(number)]

    def told(self, number: int) -> str:
        """What the part of a unit says of itself; `write` takes only that."""
        unit = self.units[number]
        return json.dumps([self._identity, unit.path, unit.n_bytes, unit.mtime_ns])

    def write(self, number: int, content: bytes) -> None:
        """The part of a unit, as `part_of` gives it, in one move."""
        with atomic_path(self._path(number)) as temporary:
            temporary.write_bytes(content)

    def finish(self) -> None:
        """Make `out` of the parts, in the order of the units; they are removed behind it."""
        parts = [self._path(number) for number in range(len(self.units))]
        write_text(self._state, json.dumps(self._identity) + "\n")  # as a run on one machine leaves it
        with atomic_path(self.out) as temporary:
            rows = (row for part in parts for row in read_parquet(part, self.classes, self.actions))
            put_parquet(temporary, rows, self.classes, self.actions, {_UNITS: self._all_told()})

    def rows(self) -> Iterator[dict[str, Any]]:
        """The rows of the finished file."""
        return read_parquet(self.out, self.classes, self.actions)

    def _path(self, number: int) -> Path:
        return self.folder / f"part-{number:05d}.parquet"

    def _all_told(self) -> bytes:
        told = json.dumps([self.told(number) for number in range(len(self.units))])
        return hashlib.sha256(told.encode()).hexdigest().encode()

    def _said(self, part: Path) -> str | None:
        metadata = _metadata(part)
        return None if metadata is None else metadata.get(_UNIT, b"").decode()

    def _require_ours(self) -> None:
        if not self.out.exists():
            return
        metadata = _metadata(self.out)
        if metadata is None or metadata.get(_UNITS) != self._all_told():
            raise FigleafError(
                f"--out {self.out}: is there, with other rows than those of these inputs by this model; name another "
                "file, or remove it"
            )


def part_of(rows: Iterator[dict[str, Any]], classes: Sequence[str], actions: bool, told: str) -> bytes:
    """A part as the bytes of a Parquet file; `told` is what `Parts.told` gives for its unit."""
    sink = io.BytesIO()
    put_parquet(sink, rows, classes, actions, {_UNIT: told.encode()})
    return sink.getvalue()


def _metadata(path: Path) -> dict[bytes, bytes] | None:
    """What a Parquet file says of itself; None where there is none that can be read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return dict(pq.read_schema(path).metadata or {})
    except (OSError, pa.ArrowException):
        return None
