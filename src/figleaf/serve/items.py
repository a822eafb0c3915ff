"""What is to be scored: every file of folders, every member of zip and tar archives, one at a time.

Nothing is unpacked and nothing fetched: a member's name is only a name. Needs nothing but the standard library.
"""

import os
import stat
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

from figleaf.data.decode import DecodeError, read_bytes
from figleaf.data.shard import SAMPLES_KEY, is_shard_folder, read_index, samples_of
from figleaf.errors import FigleafError

INSIDE = "::"  # between an archive's path and a member's name
MEMBER_MAX_BYTES = 1 << 28  # a member is held in memory whole, and several at once
_NAME_MAX_BYTES = 1 << 20  # of the headers of a tar archive that hold a member's name and facts
_NAMING = (
    *(tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE),
    *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
)
_ZIP_BEGINS = b"PK\x03\x04"
_CLUTTER = {"Thumbs.db", "desktop.ini"}  # what file managers leave; names that start with a dot are left out, too
_TAR = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")


@dataclass(frozen=True)
class Item:
    """Something that may be a picture: its name in the answers, and how its bytes are read.

    `read` raises `DecodeError` with the reason when they cannot be.
    """

    name: str
    read: Callable[[], bytes]


def items_of(paths: Iterable[str]) -> Iterator[Item]:
    """The items of files, folders (with all below them, by name) and archives, in order.

    What fails is an item whose `read` says why: a path that does not exist, or no longer, an address, which is never
    fetched, a folder that cannot be listed, a broken archive.
    """
    for path in paths:
        if os.path.lexists(path):
            yield from _below(Path(path))
        elif "://" in path:
            yield _broken(path, "addresses are never fetched")
        else:
            yield _broken(path, "no such file or folder")


def paths_from(lines: IO[str]) -> Iterator[str]:
    """The paths in a list, one a line; empty lines are left out."""
    for line in lines:
        if path := line.rstrip("\n"):
            yield path


def _below(path: Path) -> Iterator[Item]:
    if path.is_dir():
        yield from _shards(path) if is_shard_folder(path) else _folder(path)
    elif path.suffix.lower() == ".zip" and _is_zip(path):
        yield from _zip(path)
    elif path.name.lower().endswith(_TAR) and _is_tar(path):
        yield from _tar(path)
    else:
        yield Item(str(path), lambda: read_bytes(path))


def _folder(folder: Path) -> Iterator[Item]:
    try:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries)
    except OSError as error:
        yield _broken(str(folder), f"the folder cannot be listed: {error.strerror}")
        return
    for name in names:
        if name.startswith(".") or name in _CLUTTER:
            continue
        path = folder / name
        if path.is_symlink() and path.is_dir():
            continue  # it may lead back, and what it leads to has a place of its own
        yield from _below(path)


def _shards(folder: Path) -> Iterator[Item]:
    """The pictures of all shards that a folder should hold; what else lies there, as its manifest, is left out."""
    try:
        shards = [str(folder / entry.name) for entry in read_index(folder)]
    except FigleafError as error:
        yield _broken(str(folder), str(error))
        return
    yield from items_of(shards)


def _zip(path: Path) -> Iterator[Item]:
    try:
        archive = zipfile.ZipFile(path)
    except (OSError, zipfile.BadZipFile) as error:
        yield _broken(str(path), f"a broken archive: {error}")
        return
    names = _Names(path)
    with archive:
        for member in archive.infolist():
            if member.is_dir() or _is_clutter(member.filename):
                continue
            yield Item(names.of(member.filename), _at_once(partial(_unzip, archive, member)))


def _unzip(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    if stat.S_ISLNK(member.external_attr >> 16):
        raise DecodeError("a link, not a file")
    if member.flag_bits & 1:
        raise DecodeError("encrypted")
    try:
        with archive.open(member) as stream:
            return _limited(stream)
    except DecodeError:
        raise
    except Exception as error:  # zlib, bz2 and lzma have errors of their own
        raise DecodeError(f"cannot be unpacked: {error}") from error


def _tar(path: Path) -> Iterator[Item]:
    try:
        with tarfile.open(path, tarinfo=_Member) as archive:
            if SAMPLES_KEY in archive.pax_headers:
                yield from _samples(path, archive)
                return
            names = _Names(path)
            for member in archive:
                if not member.isdir() and not _is_clutter(member.name):
                    yield Item(names.of(member.name), _at_once(partial(_untar, archive, member)))
    except Exception as error:  # zlib and lzma have errors of their own
        yield _broken(str(path), f"a broken archive: {error}")


def _samples(path: Path, archive: tarfile.TarFile) -> Iterator[Item]:
    """The pictures of a shard by their own paths; its JSON and masks are no pictures."""
    names = _Names(path)
    for sample in samples_of(archive, MEMBER_MAX_BYTES):
        read = _raising(sample.error) if sample.error is not None else partial(bytes, sample.picture)
        yield Item(names.of(sample.path), read)


class _Names:
    """What the members of an archive are called: each otherwise, also where several bear one name.

    Archives may hold a name twice. A picture that shared its row with another would be hidden behind it.
    """

    def __init__(self, archive: Path) -> None:
        self._archive, self._times = archive, dict[str, int]()

    def of(self, member: str) -> str:
        """`ARCHIVE::MEMBER`, with #2, #3 ... behind a name that was there before."""
        name, number = member, self._times.get(member, 1)
        while name in self._times:
            number += 1
            name = f"{member}#{number}"
        self._times[name] = 1
        self._times[member] = number
        return f"{self._archive}{INSIDE}{name}"


class _Member(tarfile.TarInfo):
    """A member whose name is no longer than names are.

    tarfile reads the headers that hold long names whole, as large as they say they are: a few compressed bytes may say
    any size.
    """

    def _proc_member(self, archive: tarfile.TarFile) -> tarfile.TarInfo:
        if self.type in _NAMING and self.size > _NAME_MAX_BYTES:
            raise tarfile.ReadError(f"a name of {self.size:,} bytes")
        return super()._proc_member(archive)  # type: ignore[misc,no-any-return]  # which subclasses may override


def _untar(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    if member.issym() or member.islnk():
        raise DecodeError("a link, not a file")  # what it leads to has a place of its own
    if not member.isfile() or (stream := archive.extractfile(member)) is None:
        raise DecodeError("not a regular file")
    if member.size > MEMBER_MAX_BYTES:  # a tar archive gives no more than it declares
        raise DecodeError(f"unpacks to more than {MEMBER_MAX_BYTES:,} bytes")
    try:
        with stream:
            return stream.read()
    except Exception as error:
        raise DecodeError(f"cannot be unpacked: {error}") from error


def _limited(stream: IO[bytes]) -> bytes:
    """What is said of a member's size is not trusted: no more than the limit is unpacked."""
    content = stream.read(MEMBER_MAX_BYTES + 1)
    if len(content) > MEMBER_MAX_BYTES:
        raise DecodeError(f"unpacks to more than {MEMBER_MAX_BYTES:,} bytes")
    return content


def _at_once(read: Callable[[], bytes]) -> Callable[[], bytes]:
    """An archive is read by one thread, in its order: the bytes are taken when the item is made."""
    try:
        content = read()
    except DecodeError as error:
        return _raising(error.reason)
    return lambda: content


def _broken(name: str, reason: str) -> Item:
    return Item(name, _raising(reason))


def _raising(reason: str) -> Callable[[], bytes]:
    def read() -> bytes:
        raise DecodeError(reason)

    return read


def _is_clutter(name: str) -> bool:
    parts = name.replace("\\", "/").split("/")
    return any(part.startswith(".") and part not in (".", "..") for part in parts) or parts[-1] in _CLUTTER


def _is_zip(path: Path) -> bool:
    """Also one that has lost its end, where the names of its members stood."""
    try:
        with path.open("rb") as file:
            return file.read(len(_ZIP_BEGINS)) == _ZIP_BEGINS or zipfile.is_zipfile(path)
    except OSError:
        return False  # why will be said of it as a file


def _is_tar(path: Path) -> bool:
    try:
        tarfile.open(path, tarinfo=_Member).close()  # not `is_tarfile`, which reads a first name of any length
    except Exception:  # zlib and lzma have errors of their own
        return False
    return True


def standard_input() -> IO[str]:
    """Paths that are no UTF-8 survive. Raises `FigleafError` where it is closed."""
    if sys.stdin is None:
        raise FigleafError("-: standard input is closed; pipe a list of paths into it, or name the paths")
    return open(sys.stdin.fileno(), encoding="utf-8", errors="surrogateescape", closefd=False)
