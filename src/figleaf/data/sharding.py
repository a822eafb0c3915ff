"""From a manifest's files to shards: the same bytes for the same samples, whole or not there.

Shards are written one after the other, each under its name when it is complete. `.progress` keeps what is known of the
finished ones, and of which files they were made, so that the command goes on where it was stopped. The index is written
last: a folder without it is not finished, and nothing takes it for a set of shards.
"""

import hashlib
import io
import json
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from figleaf.data.content import parallel
from figleaf.data.decode import DecodeError, read_bytes
from figleaf.data.manifest import Manifest, member_column, save_manifest
from figleaf.data.member import SHARD, File, Member
from figleaf.data.shard import FORMAT, FORMAT_VERSION, INDEX, SAMPLES_KEY
from figleaf.errors import FigleafError
from figleaf.files import atomic_path, explained, sha256_file, write_text
from figleaf.progress import track

SHARD_BYTES = 128_000_000  # a unit of work for one worker, and a file that copies well
SAMPLES_MAX = 10_000
_NOTE_BYTES = 2 * tarfile.BLOCKSIZE  # a sample's JSON with its header
_MANIFEST, _PROGRESS, _LOCK = "manifest.csv", ".progress", ".lock"
_TOLD = ("path", "label", "split", "group", "slice", "mask")
# The columns that name files, by what stands between a sample's key and its suffix.
_CARRIED = {"path": "", "mask": "mask.", "figure_mask": "figure_mask."}
# Suffixes that a picture keeps. Others become .bin: libraries that read shards decide by them what to do with a file,
# and `webdataset` unpickles a .pyd.
_SUFFIXES = frozenset(["jpg", "jpeg", "png", "gif", "webp", "avif", "bmp", "tif", "tiff", "ppm", "pgm", "jp2"])


@dataclass(frozen=True)
class Shards:
    """What was written: `manifest` is the file that names the samples, `reused` counts shards that stood already.

    `unreadable` are the samples whose file could not be read, with the reason; the shards say so, too.
    """

    manifest: Path
    shards: int
    reused: int
    samples: int
    n_bytes: int
    unreadable: dict[str, str]


@dataclass(frozen=True)
class _Part:
    """A file that goes into a shard: of which column, and what it looks like before it is read."""

    column: str
    file: File
    name: str
    n_bytes: int
    stamp: str


@dataclass(frozen=True)
class _Plan:
    """A shard to be written: the manifest's rows `first` to `first + len(notes)`."""

    number: int
    first: int
    notes: Sequence[dict[str, str]]
    parts: Sequence[Sequence[_Part]]

    @property
    def name(self) -> str:
        return f"shard-{self.number:05d}.tar"

    @property
    def identity(self) -> str:
        """What the shard is made of; another after any change of a row or of a file."""
        parts = [[(part.column, part.name, part.stamp) for part in parts] for parts in self.parts]
        return hashlib.sha256(json.dumps([FORMAT_VERSION, self.first, list(self.notes), parts]).encode()).hexdigest()


def write_shards(
    manifest: Manifest,
    folder: Path,
    *,
    shard_bytes: int = SHARD_BYTES,
    samples_max: int = SAMPLES_MAX,
    workers: int | None = None,
) -> Shards:
    """Write the manifest's files to shards in `folder`, in the order of its rows, and a manifest that reads them there.

    A shard ends before `shard_bytes` or `samples_max` samples, whichever comes first. What was interrupted is
    gone on with. Raises `FigleafError` where something else stands, or shards that are finished.
    """
    with explained(folder / INDEX):
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / _LOCK)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise FigleafError(f"{folder}: another process is writing shards there") from None
        try:
            _require_place(folder)
            return _write_all(manifest, folder, shard_bytes, samples_max, workers)
        finally:
            (folder / _LOCK).unlink(missing_ok=True)
            lock.release()


def _require_place(folder: Path) -> None:
    if (folder / INDEX).exists():
        raise FigleafError(f"{folder} holds finished shards: name another folder, or remove this one")
    if not (folder / _PROGRESS).exists() and any(path.name != _LOCK for path in folder.iterdir()):
        raise FigleafError(f"{folder} holds other files: name a new folder for the shards")
    for orphan in folder.glob(".shard-*.tar"):  # of a process that was killed: whoever writes holds the lock
        orphan.unlink()


def _write_all(manifest: Manifest, folder: Path, shard_bytes: int, samples_max: int, workers: int | None) -> Shards:
    progress = folder / _PROGRESS
    finished = _recall(progress)
    plans = list(_planned(manifest, shard_bytes, samples_max))
    entries, reused = [], 0
    with progress.open("a", encoding="utf-8") as journal:
        for plan in track(plans, "Writing shards", len(plans)):
            known = finished.get(plan.identity)
            path = folder / plan.name
            if known is None or not path.is_file() or sha256_file(path) != known["sha256"]:
                known = {"identity": plan.identity, **_write(plan, path, workers)}
                journal.write(json.dumps(known) + "\n")
                journal.flush()
            else:
                reused += 1
            entries.append(known)
    for stray in set(folder.glob("shard-*.tar")) - {folder / plan.name for plan in plans}:
        stray.unlink()  # of a longer manifest, before the command was given again with this one
    _save_manifest(manifest, folder, plans, entries)
    shards = [{key: entry[key] for key in ("name", "samples", "bytes", "sha256")} for entry in entries]
    said = {"format": FORMAT, "format_version": FORMAT_VERSION, "manifest": _MANIFEST, "hash": manifest.hash}
    write_text(folder / INDEX, json.dumps({**said, "samples": len(manifest), "shards": shards}, indent=2) + "\n")
    progress.unlink()
    rows = zip(manifest.table["path"], (row for entry in entries for row in entry["places"]["path"]), strict=True)
    return Shards(
        manifest=folder / _MANIFEST,
        shards=len(plans),
        reused=reused,
        samples=len(manifest),
        n_bytes=sum(entry["bytes"] for entry in entries),
        unreadable={path: place[2:] for path, place in rows if place.startswith("! ")},
    )


def _recall(progress: Path) -> dict[str, dict[str, Any]]:
    """The finished shards by what they are made of; a line that a killed process left half is none."""
    found = {}
    for line in progress.read_bytes().splitlines() if progress.exists() else ():
        try:
            said = json.loads(line)
            found[said["identity"]] = said
        except (ValueError, KeyError, TypeError):
            continue
    return found


def _planned(manifest: Manifest, shard_bytes: int, samples_max: int) -> Iterator[_Plan]:
    table = manifest.table
    told = [*_TOLD, *(column for column in _CARRIED if column in table and column not in _TOLD)]
    texts = table[told].fillna("").astype(str)
    notes = [dict(zip(told, row, strict=True)) for row in texts.itertuples(index=False, name=None)]
    columns = [column for column in _CARRIED if column in table]
    files = list(zip(*(manifest.files(column) for column in columns), strict=True))
    number = first = size = 0
    parts: list[list[_Part]] = []
    for row, of_row in enumerate(files):
        mine = [
            _part(column, file, notes[row][column])
            for column, file in zip(columns, of_row, strict=True)
            if file is not None
        ]
        n_bytes = sum(tarfile.BLOCKSIZE + _padded(part.n_bytes) for part in mine) + _NOTE_BYTES
        if parts and (size + n_bytes > shard_bytes or len(parts) == samples_max):
            yield _Plan(number, first, notes[first:row], parts)
            number, first, size, parts = number + 1, row, 0, []
        parts.append(mine)
        size += n_bytes
    yield _Plan(number, first, notes[first:], parts)


def _padded(n_bytes: int) -> int:
    return -(-n_bytes // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE


def _part(column: str, file: File, name: str) -> _Part:
    if isinstance(file, Member):
        return _Part(column, file, name, file.n_bytes, file.place)
    try:
        status = file.stat()
    except OSError as error:
        return _Part(column, file, name, 0, str(error.errno))
    return _Part(column, file, name, status.st_size, f"{status.st_size} {status.st_mtime_ns}")


def _write(plan: _Plan, path: Path, workers: int | None) -> dict[str, Any]:
    """Write one shard; gives its line of `.progress`: its entry in the index, and where each part lies in it."""
    places: dict[str, list[str]] = {}
    with atomic_path(path) as temporary:
        # The global header is the first thing in the file, and of the pax format, which takes names of any length.
        with tarfile.open(temporary, "w", format=tarfile.PAX_FORMAT, pax_headers=_header(plan)) as archive:
            contents = parallel(_read, plan.parts, workers)
            for row, (note, parts, found) in enumerate(zip(plan.notes, plan.parts, contents, strict=True), plan.first):
                members = dict(zip((part.column for part in parts), found, strict=True))
                _add(archive, f"{row:09d}.json", _told(note, members))
                for column in _CARRIED:
                    place = ""
                    if column in members:
                        content, error = members[column]
                        place = f"! {error}"
                        if error is None:
                            at = _add(archive, f"{row:09d}.{_CARRIED[column]}{_suffix(note[column])}", content)
                            place = Member(path, "", at, len(content), _sha256(content)).place
                    places.setdefault(column, []).append(place)
        digest = sha256_file(temporary)
        n_bytes = temporary.stat().st_size
    said = {"name": plan.name, "samples": len(plan.notes), "bytes": n_bytes, "sha256": digest}
    return {**said, "places": places}


def _header(plan: _Plan) -> dict[str, str]:
    return {SAMPLES_KEY: str(len(plan.notes))}


def _read(parts: Sequence[_Part]) -> list[tuple[bytes, str | None]]:
    found: list[tuple[bytes, str | None]] = []
    for part in parts:
        try:
            found.append((read_bytes(part.file), None))
        except DecodeError as error:
            found.append((b"", error.reason))
    return found


def _told(note: dict[str, str], members: dict[str, tuple[bytes, str | None]]) -> bytes:
    """A sample's JSON: what the manifest says of it, and `sha256`, or `error` for a file that cannot be read."""
    said: dict[str, str] = {key: value for key, value in note.items() if value}
    for column, (content, error) in members.items():
        of = "" if column == "path" else f"{column}_"
        said |= {f"{of}sha256": _sha256(content)} if error is None else {f"{of}error": error}
    return json.dumps(said, ensure_ascii=False, sort_keys=True).encode()


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> int:
    """Add a member that tells nothing of this machine or moment; gives the offset of its first byte."""
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))
    return archive.offset - _padded(len(content))


def _suffix(name: str) -> str:
    suffix = name.rpartition(".")[2].lower()
    return suffix if suffix in _SUFFIXES else "bin"


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _save_manifest(manifest: Manifest, folder: Path, plans: Sequence[_Plan], entries: Sequence[dict[str, Any]]) -> None:
    """The samples with where they lie now, beside their shards."""
    own = [column for column in manifest.table if column not in (SHARD, *map(member_column, _CARRIED))]
    table = manifest.table[own].assign(**{SHARD: [plan.name for plan in plans for _ in plan.notes]})
    for column in _CARRIED:
        if column in table:
            places = [place for entry in entries for place in entry["places"][column]]
            table = table.assign(**{member_column(column): places})
    sharded = Manifest(table, folder.absolute(), manifest.classes, manifest.unsafe, manifest.name)
    save_manifest(sharded, folder / _MANIFEST)
