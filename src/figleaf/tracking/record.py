"""`run.json`: which run of the tracker a run folder belongs to, and how it ended."""

import json
import socket
import time
import uuid
from dataclasses import asdict, dataclass, field
from pathlib import Path

from filelock import FileLock, Timeout
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from figleaf.errors import FigleafError
from figleaf.files import explained, write_text
from figleaf.tracking.heartbeat import Beat
from figleaf.tracking.store import Store

TOKEN_TAG = "figleaf.token"  # noqa: S105 -- no secret: it says which run folder a run was made for
_LOCK, _HOLDER = ".tracking.lock", ".tracking.holder"
_MISSING = "RESOURCE_DOES_NOT_EXIST"


@dataclass
class RunRecord:
    """What a run folder knows of its run. `outcome` is set when the run ended, and `told` once the tracker knows, too.

    `token` is written before the run is made in the tracker and is a tag of it, so that a run made just before a crash
    is found again rather than made twice.
    """

    token: str = field(default_factory=lambda: uuid.uuid4().hex)
    run_id: str | None = None
    resumes: int = 0
    outcome: str | None = None
    end_time_ms: int | None = None
    told: bool = False

    @classmethod
    def load(cls, folder: Path) -> "RunRecord | None":
        """Read it from `folder`; None when there is none. Raises `FigleafError` when it cannot be understood."""
        path = folder / "run.json"
        if not path.exists():
            return None
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            raise FigleafError(f"{path}: not a run record ({error}); pass resume=never to start a new run") from error

    def save(self, folder: Path) -> None:
        """Write it to `folder`, atomically."""
        write_text(folder / "run.json", json.dumps(asdict(self), indent=2) + "\n")

    def find(self, store: Store, experiment_ids: list[str]) -> Run | None:
        """Find the run in `store`; None when it never was made there or was deleted. Sets `run_id`."""
        if self.run_id is None:
            found = store.client.search_runs(experiment_ids, f"tags.`{TOKEN_TAG}` = '{self.token}'", max_results=1)
            if not found:
                return None
            self.run_id = str(found[0].info.run_id)
        try:
            run = store.client.get_run(self.run_id)
        except MlflowException as error:
            if error.error_code == _MISSING:
                return None
            raise
        return run if run.info.lifecycle_stage == "active" else None

    def tell_end(self, store: Store, folder: Path) -> None:
        """Give the tracker the outcome and its time, and note that it knows."""
        store.client.set_terminated(self.run_id, self.outcome, self.end_time_ms)
        self.told = True
        self.save(folder)


def lock_folder(folder: Path, wait_s: float = 1.0) -> FileLock:
    """Take the run folder for this process until the lock is released.

    Raises `FigleafError` that names the process when another has it for `wait_s` seconds or more; whoever only looks
    (`is_locked`) has it for a moment.
    """
    lock = FileLock(folder / _LOCK)
    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=wait_s)
        except Timeout:
            holder = _holder(folder)
            raise FigleafError(f"{folder}: {holder} is writing this run; wait for it or end it first") from None
        try:
            write_text(folder / _HOLDER, Beat.now().to_text())
        except BaseException:
            lock.release()
            raise
    return lock


def is_locked(folder: Path) -> bool:
    """Whether a process works in the run folder, or might: one that this user cannot open is another's affair."""
    if not folder.exists():
        return False
    lock = FileLock(folder / _LOCK)
    try:
        lock.acquire(timeout=0)
    except (Timeout, OSError):
        return True
    lock.release()
    return False


def _holder(folder: Path) -> str:
    """Who took the folder last, in words."""
    try:
        beat = Beat.parse((folder / _HOLDER).read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError):  # it has just taken it, or is of an older version
        return "another process"
    since = time.strftime("%H:%M:%S", time.localtime(beat.time))
    return f"process {beat.pid}{'' if beat.host == socket.gethostname() else f' on {beat.host}'} (since {since})"
