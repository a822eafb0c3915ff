"""Writing files so that a reader sees the old one or the new one, never half; and naming files by their content."""

import errno
import hashlib
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from figleaf.errors import FigleafError

_ELSEWHERE = "name another place; for what lies in FIGLEAF_HOME, point that elsewhere"
_WAYS_OUT = {
    errno.ENOSPC: f"the disk is full: free some space, or {_ELSEWHERE}",
    errno.EDQUOT: f"the disk quota is used up: free some space, or {_ELSEWHERE}",
    errno.EFBIG: f"a file may not be so large there (`ulimit -f`, or the file system): {_ELSEWHERE}",
    errno.EROFS: f"the file system is read-only: {_ELSEWHERE}",
    errno.EACCES: f"no permission to write there: {_ELSEWHERE}",
    errno.ENOTDIR: "a file stands where a folder is needed: name another place",
    errno.EISDIR: "a folder stands there: name a file",
    errno.EEXIST: "a file stands where a folder is needed: name another place",
    errno.EPERM: f"no permission to write there: {_ELSEWHERE}",
    errno.ENOENT: f"it cannot be made there: {_ELSEWHERE}",
    errno.ENAMETOOLONG: "the name is too long: name another place",
    errno.ELOOP: "a symbolic link there leads back to itself: name another place",
}

# Read once at import: asking means setting it, which is not safe once there are threads.
_UMASK = os.umask(0)
os.umask(_UMASK)


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn a full disk, a read-only or a forbidden folder into a `FigleafError` that names `path` and the way out."""
    try:
        yield
    except OSError as error:
        # Where the folder is there, something else was missing, a file that was to be read, say; but /proc and its like
        # are folders, too, in which no file can be made.
        missing_elsewhere = error.errno == errno.ENOENT and path.parent.is_dir() and not _is_ours(error, path)
        if error.errno in _WAYS_OUT and not missing_elsewhere:
            raise FigleafError(f"cannot write {path}: {_WAYS_OUT[error.errno]}") from error
        raise


def _is_ours(error: OSError, path: Path) -> bool:
    """Whether the file that the error names is `path`, or the temporary one beside it."""
    name = Path(os.fsdecode(error.filename or "")).name
    return name == path.name or name.startswith(f".{path.stem}-")


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; on success it is flushed to disk and renamed to `path`, else it is removed.

    The folder is made when missing. Raises `FigleafError` when the disk is full or the folder cannot be written.
    """
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        # The suffix stays last: savers that look at it (numpy, pandas, matplotlib) then write the right format.
        descriptor, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent)
        os.close(descriptor)
        temporary = Path(name)
        try:
            yield temporary
            with temporary.open("rb") as written:
                os.fsync(written.fileno())
            temporary.chmod(0o666 & ~_UMASK)  # mkstemp makes 0600; other users of a shared home must read it
            temporary.replace(path)
            _sync_folder(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def uncovered(kind: type[Exception]) -> Iterator[None]:
    """Raise the `OSError` whose number a library hid in the text of its own error `kind`, as safetensors does."""
    try:
        yield
    except kind as error:
        if code := re.search(r"os error (\d+)", str(error)):
            raise OSError(int(code[1]), str(error)) from error
        raise


def write_text(path: Path, text: str) -> Path:
    """Write `text` as UTF-8 with `atomic_path` and return `path`."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path


def sha256_file(path: Path) -> str:
    """Hex SHA-256 of the file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync_folder(folder: Path) -> None:
    """Make the rename itself survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
