"""Every picture decoded and resized once, into one memory-mapped array that workers, ranks and runs share.

An entry is `<key>.npy` with the pixels and `<key>.json` with the errors. The key is made of the files' contents, the
size and the rules of decoding, so that an entry is never stale; whatever else changes in a manifest, it stays good.
"""

import hashlib
import json
import logging
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import PIL
import psutil
from filelock import FileLock
from numpy.typing import NDArray

from figleaf.data.content import hash_files, parallel
from figleaf.data.decode import MAX_PIXELS, RESIZE_RULE, DecodeError, decode_resized, quiet_pillow, read_bytes
from figleaf.data.manifest import Manifest
from figleaf.data.member import File
from figleaf.errors import FigleafError
from figleaf.files import write_text
from figleaf.progress import track

LIMIT_BYTES = 20 << 30
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class DecodedImages:
    """The pictures of a manifest, row by row: `pixels` uint8 (N, S, S, 3), read-only, black where there is an error.

    Of masks `pixels` is (N, S, S), see `decode_files`. `content_sha256` is "" for files that cannot be read; `errors`
    says why a row has no picture, else None.
    """

    pixels: NDArray[np.uint8]
    content_sha256: tuple[str, ...]
    errors: tuple[str | None, ...]

    @property
    def usable(self) -> NDArray[np.bool_]:
        """Which rows hold a picture, bool (N,). The others must never be trained on: they are black."""
        return np.array([error is None for error in self.errors], bool)

    def evenly(self, rows: NDArray[np.intp], count: int) -> NDArray[np.uint8]:
        """At most `count` of the pictures at `rows`, evenly spread over them: (n, S, S, 3)."""
        chosen = np.unique(np.linspace(0, len(rows) - 1, min(count, len(rows))).astype(int))
        found: NDArray[np.uint8] = self.pixels[rows[chosen]]
        return found


def decode_cached(
    manifest: Manifest,
    size: int,
    *,
    folder: Path,
    max_pixels: int = MAX_PIXELS,
    limit_bytes: int = LIMIT_BYTES,
    workers: int | None = None,
) -> DecodedImages:
    """The manifest's pictures at `size`, from the cache in `folder` or decoded into it; see `decode_files`."""
    return decode_files(
        manifest.paths, size, folder=folder, max_pixels=max_pixels, limit_bytes=limit_bytes, workers=workers
    )


def decode_files(
    paths: Sequence[File],
    size: int,
    *,
    folder: Path,
    max_pixels: int = MAX_PIXELS,
    limit_bytes: int = LIMIT_BYTES,
    workers: int | None = None,
    masks: bool = False,
) -> DecodedImages:
    """The files at `size` in their order, from the cache in `folder` or decoded into it; of `masks` one channel.

    Processes that ask at once wait for the first to decode. Entries unused for longest make room within `limit_bytes`.
    Where the disk cannot take the array it is kept in memory, with one warning. Raises `FigleafError` when that is too
    small, too, and when a file changes meanwhile.
    """
    hashes, unreadable = hash_files(paths, memory=folder / "hashes.sqlite", workers=workers)
    plan = _Plan(paths, hashes, size, max_pixels, workers, masks)
    entry = folder / plan.key
    found = _open(entry, plan.shape)
    if found is None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with FileLock(folder / ".lock"):
                found = _open(entry, plan.shape)  # another process may have made it while this one waited
                if found is None:
                    _make_room(folder, plan.n_bytes, limit_bytes)
                    found = _build(entry, plan)
        except OSError as error:
            found = _in_memory(plan, folder, error)
    pixels, errors = found
    # Why a file cannot be read is a matter of this moment, not of the entry.
    reasons = (now or errors.get(row) for row, now in enumerate(unreadable))
    return DecodedImages(pixels, tuple(hashes), tuple(reasons))


def data_hash(manifest: Manifest, content_sha256: Sequence[str]) -> str:
    """SHA-256 (hex) of the manifest and of what its files hold: the identity of the data behind a run."""
    return hashlib.sha256("\n".join([manifest.hash, *content_sha256]).encode()).hexdigest()


@dataclass(frozen=True)
class _Plan:
    """What is to be decoded, and how."""

    paths: Sequence[File]
    hashes: list[str]
    size: int
    max_pixels: int
    workers: int | None
    masks: bool

    @property
    def key(self) -> str:
        # Pillow's version: another libjpeg gives other pixels.
        rule = [RESIZE_RULE, PIL.__version__, self.size, self.max_pixels, *["mask"] * self.masks]
        return hashlib.sha256(json.dumps([rule, self.hashes]).encode()).hexdigest()[:32]

    @property
    def shape(self) -> tuple[int, ...]:
        return len(self.paths), self.size, self.size, *(() if self.masks else (3,))

    @property
    def n_bytes(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64))

    def fill(self, pixels: NDArray[np.uint8]) -> dict[int, str]:
        """Decode into `pixels`; returns the reasons of the rows that could not be."""

        def one(row: int) -> str | None:
            try:
                data = read_bytes(self.paths[row])
                if hashlib.sha256(data).hexdigest() != self.hashes[row]:
                    raise FigleafError(
                        f"{self.paths[row]} changed while the cache was being made: try again when it is done"
                    )
                rgb_u8 = decode_resized(data, self.size, max_pixels=self.max_pixels)
                pixels[row] = rgb_u8[..., 0] if self.masks else rgb_u8
            except DecodeError as error:
                return error.reason
            return None

        rows = [row for row, sha256 in enumerate(self.hashes) if sha256]
        with quiet_pillow():
            reasons = track(parallel(one, rows, self.workers), "Decoding", len(rows))
            return {row: reason for row, reason in zip(rows, reasons, strict=True) if reason}


_Entry = tuple[NDArray[np.uint8], dict[int, str]]


def _open(entry: Path, shape: tuple[int, ...]) -> _Entry | None:
    """The entry, marked as just used; None when it is not there."""
    note = entry.with_suffix(".json")
    try:
        errors = {int(row): str(reason) for row, reason in json.loads(note.read_text(encoding="utf-8")).items()}
        if not all(0 <= row < shape[0] for row in errors):
            raise ValueError("it tells of pictures that are not in it")
        pixels = np.lib.format.open_memmap(entry.with_suffix(".npy"), mode="r")  # which knows no objects
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        _log.warning("cache entry %s cannot be read (%s): decoding again", entry, error)
        return None
    if pixels.shape != shape or pixels.dtype != np.uint8:
        return None
    try:
        os.utime(note)
    except OSError:
        _log.debug("%s cannot be marked as used", note)  # a shared cache may be read-only
    return pixels, errors


def _build(entry: Path, plan: _Plan) -> _Entry:
    """Decode into a new entry; the caller holds the lock. Raises `OSError` when the disk cannot take it."""
    target = entry.with_suffix(".npy")
    temporary = target.with_name(f".{target.name}")
    try:
        pixels = _allocate(temporary, plan.shape)
        errors = plan.fill(pixels)
        pixels.flush()
        write_text(entry.with_suffix(".json"), json.dumps(errors))
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    return np.lib.format.open_memmap(target, mode="r"), errors


def _allocate(path: Path, shape: tuple[int, ...]) -> "np.memmap[tuple[int, ...], np.dtype[np.uint8]]":
    """A .npy file of that shape whose blocks exist.

    Writing through a map to blocks that the disk turns out not to have would kill the process (SIGBUS).
    """
    pixels = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
    with path.open("r+b") as file:
        os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return pixels


def _make_room(folder: Path, n_bytes: int, limit_bytes: int) -> None:
    """Remove entries, the longest unused first, until `n_bytes` more fit. Processes that have one mapped keep it."""
    for orphan in folder.glob(".*.npy"):  # of a process that was killed: whoever builds holds the lock
        orphan.unlink()
    if n_bytes > limit_bytes:
        raise OSError(f"they take {n_bytes:,} bytes, its limit is {limit_bytes:,}")
    notes = sorted(folder.glob("*.json"), key=lambda note: note.stat().st_mtime)
    used = sum(file.stat().st_size for file in folder.glob("*.npy"))
    for note in notes:
        if used + n_bytes <= limit_bytes:
            return
        pixels = note.with_suffix(".npy")
        used -= pixels.stat().st_size if pixels.exists() else 0
        pixels.unlink(missing_ok=True)
        note.unlink()


def _in_memory(plan: _Plan, folder: Path, cause: OSError) -> _Entry:
    """Decode into memory, because the cache cannot take it."""
    available = psutil.virtual_memory().available
    if plan.n_bytes > available:
        raise FigleafError(
            f"the decoded pictures take {plan.n_bytes:,} bytes: {folder} cannot hold them ({cause}) and memory has "
            f"{available:,} free: free disk space, raise data.cache_gb or use a smaller size"
        ) from cause
    warnings.warn(
        f"{folder} cannot hold the decoded pictures ({cause}): each process keeps its own in memory",
        RuntimeWarning,
        stacklevel=3,
    )
    pixels = np.zeros(plan.shape, np.uint8)
    errors = plan.fill(pixels)
    pixels.flags.writeable = False
    return pixels, errors
