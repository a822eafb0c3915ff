"""The hashes of an exported folder: whether its files are what was written. Needs nothing but the standard library."""

import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from figleaf.errors import FigleafError
from figleaf.files import sha256_file

SUMS = "SHA256SUMS"
GOOD = "as written"
_LINE = re.compile(r"([0-9a-f]{64})  (.+)")
_AT_MOST = 10_000  # lines of a list of hashes: a folder of ours has some dozens, of shards


def hash_list(hashes: Mapping[str, str]) -> str:
    """The text of `SHA256SUMS` for files by their POSIX paths, as `sha256sum --check` reads it."""
    return "".join(f"{digest}  {file}\n" for file, digest in hashes.items())


def file_states(folder: Path) -> dict[str, str]:
    """Each file that `SHA256SUMS` in `folder` lists, by its path there: `GOOD`, or what is wrong with it.

    Nothing outside `folder` is read: raises `FigleafError`
    for a list that leads out of it, by `..`, an absolute path or a link, and for one that is missing or no list.
    """
    sums = folder / SUMS
    try:
        lines = sums.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise FigleafError(
            f"{sums}: cannot be read ({error}); expected a folder that `figleaf export` wrote"
        ) from error
    if not 0 < len(lines) <= _AT_MOST:
        raise FigleafError(f"{sums}: {len(lines):,} lines; expected 1 to {_AT_MOST:,}")
    states: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        if not (match := _LINE.fullmatch(line)):
            raise FigleafError(f"{sums}: line {number} is no hash with a file's name")
        digest, name = match.groups()
        states[name] = _state(_inside(folder, name, f"{sums}: line {number}"), digest)
    return states


def _inside(folder: Path, name: str, where: str) -> Path:
    parts = PurePosixPath(name).parts
    plain = name == "/".join(parts) and not {"..", "/"} & set(parts) and not re.search(r"[\\:\0]", name)
    path = folder / name
    if not plain or not path.resolve().is_relative_to(folder.resolve()):
        raise FigleafError(f"{where} names {name!r}, which leads out of the folder; nothing of it was read")
    return path


def _state(path: Path, digest: str) -> str:
    if not path.exists():
        return "missing"
    if not path.is_file():
        return "not a file"
    return GOOD if sha256_file(path) == digest else "changed"


def unlisted(folder: Path, states: Mapping[str, str]) -> list[str]:
    """The other files in `folder`: somebody's own, or planted."""
    found = (path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if not path.is_dir())
    return [name for name in found if name not in states and name != SUMS]
