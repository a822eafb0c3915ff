"""The run folder: where one run keeps its files, and where a resume finds them."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from figleaf.errors import FigleafError
from figleaf.files import write_text
from figleaf.tracking.record import lock_folder


@dataclass(frozen=True)
class RunFolder:
    """The files of one run under `path`; `checkpoint` is the one to go on from, None for a start from scratch."""

    path: Path
    checkpoint: Path | None

    @property
    def last(self) -> Path:
        """The newest training checkpoint."""
        return self.path / "checkpoints" / "last.ckpt"

    @property
    def best(self) -> Path:
        """The weights of the best validation."""
        return self.path / "checkpoints" / "best.safetensors"

    @property
    def predictions(self) -> Path:
        """The best weights' predictions on val and test."""
        return self.path / "predictions.parquet"

    @property
    def result(self) -> dict[str, Any] | None:
        """What the finished run gave; None while it is not finished."""
        file = self.path / "result.json"
        if not file.exists():
            return None
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise FigleafError(f"{file}: damaged ({error}); pass resume=never to start a new run") from error
        return found if isinstance(found, dict) else None

    def write_result(self, result: dict[str, Any]) -> None:
        """Mark the run finished."""
        write_text(self.path / "result.json", json.dumps(result, indent=2, sort_keys=True) + "\n")


def choose_folder(runs: Path, fingerprint: str, resume: str) -> RunFolder:
    """Where a run with this fingerprint goes.

    `resume`: `auto` takes the folder of the fingerprint and its last checkpoint; `never` a new folder; else the path
    of a checkpoint inside a run folder, which is continued. Raises `FigleafError` when that does not exist.
    """
    folder = runs / fingerprint[:12]
    if resume == "never":
        attempt = 1
        while folder.exists():
            attempt += 1
            folder = runs / f"{fingerprint[:12]}-{attempt}"
        return RunFolder(folder, None)
    if resume == "auto":
        last = RunFolder(folder, None).last
        return RunFolder(folder, last if last.exists() else None)
    checkpoint = Path(resume).expanduser().absolute()
    if not checkpoint.is_file():
        raise FigleafError(f"resume={resume}: no such file; expected auto, never or the path of a checkpoint")
    if checkpoint.parent.name != "checkpoints":
        raise FigleafError(f"resume={resume}: expected a checkpoint inside a run folder, .../checkpoints/last.ckpt")
    return RunFolder(checkpoint.parents[1], checkpoint)


@contextmanager
def take_folder(runs: Path, fingerprint: str, resume: str, rank: int) -> Iterator[tuple[RunFolder, FileLock | None]]:
    """`choose_folder`, and the lock that keeps every other process out of it while this one has something to do there.

    None stands for the lock where a finished run is only read, and on ranks above 0, for which rank 0 takes it. Raises
    `FigleafError` that names the process when another has the folder.
    """
    folder = choose_folder(runs, fingerprint, resume)
    if rank > 0 or folder.result is not None:
        yield folder, None
        return
    lock = lock_folder(folder.path)
    try:
        # Until now another process may have gone on with the run, or even finished it.
        yield folder if resume == "never" else choose_folder(runs, fingerprint, resume), lock
    finally:
        lock.release(force=True)
