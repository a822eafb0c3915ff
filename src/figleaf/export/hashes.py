"""The hashes of an exported folder: whether its files are what was written. Needs nothing but the standard library."""

import os
import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from figleaf.errors import FigleafError
from figleaf.files import sha256_file

SUMS = "SHA256SUMS"
GOOD = "as written"
_LINE = re.compile(r"([0-9a-f]{64})  (.+)")
_MAX_BYTES = 1 << 20  # of a list: a folder of ours has some dozens of files, of shards


def hash_list(hashes: Mapping[str, str]) -> str:
    """The text of `SHA256SUMS` for files by their POSIX paths, as `sha256sum --check` reads it."""
    return "".join(f"{digest}  {file}\n" for file, digest in hashes.items())


def listed(folder: Path) -> dict[str, str]:
    """The hashes in `SHA256SUMS` of `folder`, by file.

    Raises `FigleafError` for a list that is missing or none, that names a file twice, or that names anything but plain
    paths inside the folder.
    """
    sums = folder / SUMS
    if sums.is_symlink() or not sums.is_file():
        raise FigleafError(f"{sums}: no such file, or no plain one; is this a folder of `figleaf export`?")
    try:
        with sums.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
        lines = content.decode("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        what = "it is no UTF-8" if isinstance(error, UnicodeDecodeError) else error.strerror
        raise FigleafError(f"{sums}: cannot be read: {what}; is this a folder of `figleaf export`?") from error
    if not lines or len(content) > _MAX_BYTES:
        raise FigleafError(f"{sums}: {'empty' if not lines else 'longer than any list'}; expected a line for each file")
    found: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        if not (match := _LINE.fullmatch(line)):
            raise FigleafError(f"{sums}: line {number} is no hash with a file's name")
        digest, name = match.groups()
        parts = PurePosixPath(name).parts
        if name != "/".join(parts) or {"..", "/"} & set(parts) or re.search(r"[\\:\0]", name):
            raise FigleafError(f"{sums}: line {number} names {name!r}, which is no plain path inside the folder")
        if name in found:
            raise FigleafError(f"{sums}: line {number} names {name!r} again")
        found[name] = digest
    return found


def file_states(folder: Path) -> dict[str, str]:
    """Each file that `SHA256SUMS` in `folder` lists, by its path there: `GOOD`, or what is wrong with it.

    Nothing outside `folder` is read: a link out of it is told, not followed. Raises `FigleafError` as `listed` does.
    """
    return {name: _state(folder, folder / name, digest) for name, digest in listed(folder).items()}


def require_as_listed(path: Path, sha256: str) -> None:
    """Raises `FigleafError` when `SHA256SUMS` beside `path` has another hash for it; a list of others tells nothing."""
    try:
        expected = listed(path.parent).get(path.name, sha256)
    except FigleafError:
        return
    if sha256 != expected:
        raise FigleafError(
            f"{path}: not what {path.parent / SUMS} lists, so damaged or exchanged; "
            f"`figleaf export verify {path.parent}` tells more"
        )


def unlisted(folder: Path, states: Mapping[str, str]) -> list[str]:
    """The other files and links in `folder`: somebody's own, or planted. Raises `FigleafError` where it cannot look."""

    def refuse(error: OSError) -> None:
        raise FigleafError(f"{error.filename}: cannot be listed: {error.strerror}") from error

    found = []
    for place, folders, files in os.walk(folder, onerror=refuse):
        links = [name for name in folders if Path(place, name).is_symlink()]
        found += [Path(place, name).relative_to(folder).as_posix() for name in (*files, *links)]
    return sorted(name for name in found if name not in states and name != SUMS)


def _state(folder: Path, path: Path, digest: str) -> str:
    try:
        if not path.resolve().is_relative_to(folder.resolve()):
            return "a link out of the folder"
        if not path.exists():
            return "missing"
        if not path.is_file():
            return "not a file"
        return GOOD if sha256_file(path) == digest else "changed"
    except (OSError, RuntimeError) as error:  # a name that is too long, no permission, a circle of links
        return f"cannot be read: {getattr(error, 'strerror', None) or error}"
