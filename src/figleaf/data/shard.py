"""A folder of shards, and one shard read from its beginning to its end. Needs nothing but the standard library.

A shard is a tar file as WebDataset lays it out: the members of a sample follow each other and share a key, the number
of the row in the manifest. `000000012.json` says what is known of it, `000000012.jpg` is the encoded file as it was,
`000000012.mask.png` its mask. A picture's own path stands in the JSON and nowhere else, so no name can lead anywhere.

Python's tarfile is used, not the library `webdataset`, which reads these shards like any others: its writer puts the
clock into the bytes and writes under the final name, does not tell where in the file a member lies, and its reader
unpickles some kinds of members and takes a shard that ends early for one that is whole. Here the number of samples
stands in the tar file's global header, where others look past it.
"""

import hashlib
import json
import re
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from figleaf.data.member import AGAIN, SHARD_NAME
from figleaf.errors import FigleafError

INDEX = "shards.json"
FORMAT, FORMAT_VERSION = "figleaf shards", 1
SAMPLES_KEY = "FIGLEAF.samples"  # of the global header: how many samples the shard holds
NOTE_MAX_BYTES = 1 << 20
_MEMBER_NAME = re.compile(r"(\d{9,})\.((?:mask\.|figure_mask\.)?[a-z0-9]{1,5})")


@dataclass(frozen=True)
class ShardEntry:
    """What the index says of a shard: its file's name, how many samples it holds, its size and SHA-256 (hex)."""

    name: str
    samples: int
    n_bytes: int
    sha256: str


@dataclass(frozen=True)
class Sample:
    """A sample of a shard: its own `path`, and the picture as it was encoded, or `error`, why there is none."""

    path: str
    picture: bytes
    error: str | None


def is_shard_folder(folder: Path) -> bool:
    """Whether `folder` holds shards that `figleaf data shard` has finished."""
    try:
        said = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(said, dict) and said.get("format") == FORMAT


def read_index(folder: Path) -> list[ShardEntry]:
    """The shards of `folder`, in order.

    Raises `FigleafError` when there is no index, and when it is damaged or names anything else than shards beside it.
    """
    index = folder / INDEX
    try:
        said = json.loads(index.read_text(encoding="utf-8"))
        if not isinstance(said, dict) or said["format"] != FORMAT:
            raise ValueError("it is of another kind")
        if said["format_version"] != FORMAT_VERSION:
            raise ValueError(f"its format is {said['format_version']}, this figleaf reads {FORMAT_VERSION}")
        entries = [ShardEntry(e["name"], int(e["samples"]), int(e["bytes"]), e["sha256"]) for e in said["shards"]]
        if strange := [entry.name for entry in entries if not SHARD_NAME.fullmatch(entry.name)]:
            raise ValueError(f"it names {strange[0]!r}, which is no shard of this folder")
        if len({entry.name for entry in entries}) < len(entries):
            raise ValueError("it names a shard twice")
    except FileNotFoundError:
        raise FigleafError(
            f"{folder}: no finished shards: there is no {INDEX}; `figleaf data shard` goes on when it is given again"
        ) from None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise FigleafError(f"{index}: cannot be used ({' '.join(str(error).split())}); {AGAIN}") from error
    return entries


def require_whole(folder: Path, entries: Sequence[ShardEntry]) -> None:
    """Raises `FigleafError` for a shard that is missing or not of its size, as one that a copy has cut off.

    Its bytes are not read: whoever reads a picture compares them.
    """
    for entry in entries:
        shard = folder / entry.name
        try:
            found = shard.stat().st_size
        except OSError as error:
            raise FigleafError(f"{shard}: {error.strerror}, though {INDEX} names it; {AGAIN}") from error
        if found != entry.n_bytes:
            raise FigleafError(f"{shard}: damaged: {found:,} bytes, {INDEX} speaks of {entry.n_bytes:,}; {AGAIN}")


def samples_of(archive: tarfile.TarFile, max_bytes: int) -> Iterator[Sample]:
    """The samples of an open shard, each once; no more than one is held, and none of more than `max_bytes`.

    Raises `FigleafError` for what `figleaf data shard` does not write: links, other names, paths that lead out of their
    folder, samples without their picture, that come twice, too few or too many. A picture that is not the one which was
    put there has its `error`.
    """
    said = archive.pax_headers.get(SAMPLES_KEY, "")
    if not said.isdecimal():
        raise FigleafError(f"its header holds {said[:20]!r} for the number of samples")
    met: set[str] = set()
    note: dict[str, Any] | None = None  # of a sample whose picture is still to come
    last = -1
    for member in archive:
        key, kind = _key(member)
        if kind == "json":
            if note is not None:
                raise FigleafError(f"the picture of {note['path']!r} is missing")
            if int(key) <= last:
                raise FigleafError(f"sample {key} stands behind sample {last:09d}")
            last, note = int(key), _note(archive, member)
            if note["path"] in met:
                raise FigleafError(f"{note['path']!r} is in it twice")
            met.add(note["path"])
            if note["error"] is not None:
                yield Sample(note["path"], b"", note["error"])
                note = None
        elif int(key) != last:
            raise FigleafError(f"{member.name} belongs to no sample")
        elif "." not in kind:  # masks are left out
            if note is None:
                raise FigleafError(f"{member.name} is a second picture of its sample")
            yield _picture(archive, member, note, max_bytes)
            note = None
    if note is not None or len(met) != int(said):
        raise FigleafError(f"it ends after {len(met) - (note is not None):,} of {int(said):,} samples")


def _key(member: tarfile.TarInfo) -> tuple[str, str]:
    """The key and the kind of a member: `("000000012", "jpg")`."""
    found = _MEMBER_NAME.fullmatch(member.name)
    if not member.isreg() or found is None:
        raise FigleafError(f"{member.name!r} is no member of a shard")
    return found[1], found[2]


def _note(archive: tarfile.TarFile, member: tarfile.TarInfo) -> dict[str, Any]:
    """What a sample's JSON says, its `path`, `sha256` and `error` checked."""
    if member.size > NOTE_MAX_BYTES:
        raise FigleafError(f"{member.name} has {member.size:,} bytes")
    try:
        note = json.loads(_content(archive, member))
    except (ValueError, RecursionError) as error:
        raise FigleafError(f"{member.name} is not JSON") from error
    if not isinstance(note, dict) or not isinstance(note.get("path"), str):
        raise FigleafError(f"{member.name} names no path")
    path = PurePosixPath(note["path"])
    if note["path"] == "" or path.is_absolute() or ".." in path.parts or "\0" in note["path"]:
        raise FigleafError(f"{member.name}: the path {note['path']!r} leads out of its folder")
    reason = note.setdefault("error", None)
    if not (reason is None or isinstance(reason, str)):
        raise FigleafError(f"{member.name}: error={reason!r}")
    return note


def _picture(archive: tarfile.TarFile, member: tarfile.TarInfo, note: dict[str, Any], max_bytes: int) -> Sample:
    if member.size > max_bytes:
        return Sample(note["path"], b"", f"file of {member.size:,} bytes; at most {max_bytes:,} are read")
    content = _content(archive, member)
    if hashlib.sha256(content).hexdigest() != note.get("sha256"):
        return Sample(note["path"], b"", "the shard is damaged here: not the picture that was put there")
    return Sample(note["path"], content, None)


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    stream = archive.extractfile(member)
    assert stream is not None, "a regular file"
    with stream:
        content = stream.read()
    if len(content) < member.size:
        raise FigleafError(f"it ends in the middle of {member.name}")
    return content
