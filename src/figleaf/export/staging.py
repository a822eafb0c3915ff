"""Where an export is made before it is moved into place: one at a time in a folder, and none left behind by a kill."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from figleaf.errors import FigleafError

ASIDE = "earlier"  # within it, what an earlier export had in the places of this one's files
_PREFIX = ".export-"
_LOCK = ".export.lock"


@contextmanager
def staging_in(out: Path) -> Iterator[Path]:
    """A new folder inside `out`, on its file system, so that moving a file into place is one step; removed at the end.

    Folders of exports that were killed are removed, too: at once, or, where one had begun to put the files of a still
    earlier export aside, when this one has gone well, as they may be somebody's only copy until then.

    Raises `FigleafError` while another process exports into `out`.
    """
    out.mkdir(parents=True, exist_ok=True)
    lock = FileLock(out / _LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise FigleafError(
            f"out={out}: another process is exporting into this folder; wait until it has ended, or name another out"
        ) from error
    try:
        left = [path for path in out.glob(f"{_PREFIX}*") if path.is_dir() and not path.is_symlink()]
        for folder in left:
            if not (folder / ASIDE).exists():
                shutil.rmtree(folder)
        staging = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=out))
        try:
            yield staging
        finally:
            shutil.rmtree(staging)
        for folder in left:
            shutil.rmtree(folder, ignore_errors=True)
    finally:
        (out / _LOCK).unlink(missing_ok=True)  # while it is held: nobody else's
        lock.release()
