"""Where the trials of a search are kept, for several drivers at a time: a journal file, or PostgreSQL.

Optuna finds trials whose driver has died by their heartbeat and queues them again. Of its storages only the relational
one has a heartbeat; `BeatingJournal` gives one to the journal file. On the machine of the dead driver nobody has to
wait for the heartbeat to grow old: the driver's process is looked for instead.
"""

import importlib.util
import json
import logging
import os
import socket
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import optuna
from filelock import FileLock
from optuna import Study, Trial
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.storages._heartbeat import BaseHeartbeat
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock
from optuna.storages.journal._file import get_lock_file
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import create_engine, text
from sqlalchemy.exc import SQLAlchemyError

from figleaf.errors import FigleafError
from figleaf.files import explained
from figleaf.tracking.heartbeat import Beat
from figleaf.tracking.store import first_line, shown

BEAT_S = 15
STALE_S = 90  # of silence from another machine
# A trial that brings down whoever runs it must not bring down every driver there is.
_MOST_RETRIES = 20
_ALONE = 0x666967_6C656166  # the key of an advisory lock: any number, as long as every driver has the same
_DRIVER = "driver"  # a trial's attribute: who runs it

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Storage:
    """An open storage: `alone()` holds off every other driver of the search; `shown` names it without a password."""

    optuna: BaseStorage
    beats: BaseHeartbeat
    alone: Callable[[], AbstractContextManager[object]]
    shown: str


@contextmanager
def open_storage(where: str) -> Iterator[Storage]:
    """Open a search's storage: `where` is a journal file, local or on NFS, or postgresql://USER:PASSWORD@HOST/DATABASE.

    Whatever a database has trouble with while it is open becomes a `FigleafError` that names it and the way out.
    """
    _quiet_optuna()
    if "://" not in where:
        yield _open_journal(Path(where).expanduser().absolute())
        return
    parts = urlsplit(where)
    if parts.scheme not in ("postgresql", "postgresql+psycopg2"):
        raise FigleafError(f"--storage {shown(where)}: expected a file, or postgresql://USER@HOST/DATABASE")
    try:
        with _open_postgres(parts._replace(scheme="postgresql+psycopg2").geturl()) as storage:
            yield storage
    except (SQLAlchemyError, StorageInternalError) as error:
        cause = error.__cause__ if isinstance(error, StorageInternalError) else error
        reason = first_line(getattr(cause, "orig", None) or cause or error)
        raise FigleafError(
            f"--storage {shown(where)}: {reason}; start the database or correct the address, and give the same command "
            "again: it goes on"
        ) from error


def mark_driver(trial: Trial) -> None:
    """Note that this process runs the trial. A trial without the note was being made when its maker died."""
    trial.set_user_attr(_DRIVER, {"beat": Beat.now().to_text(), "world": _process_world()})


def superseded(trials: list[FrozenTrial]) -> set[int]:
    """The numbers of trials that died with their driver and were queued again: the later ones count."""
    return {number for trial in trials for number in RetryHeartbeatStaleTrialCallback.retry_history(trial)}


def queue_again(study: Study, trial: FrozenTrial) -> None:
    """Queue a failed trial's settings once more, as Optuna does with the trials of the dead."""
    RetryHeartbeatStaleTrialCallback(inherit_intermediate_values=True)(study, trial)


class Heartbeats(threading.Thread):
    """Tells the storage every `BEAT_S` seconds that the trials in `running` (their ids) are alive."""

    def __init__(self, storage: Storage) -> None:
        super().__init__(name="figleaf-search-heartbeats", daemon=True)
        self._storage, self._ended = storage, threading.Event()
        self.running: set[int] = set()

    def add(self, trial_id: int) -> None:
        """Begin with a trial."""
        self._storage.beats.record_heartbeat(trial_id)
        self.running.add(trial_id)

    def beat(self) -> None:
        """One beat of every trial, now."""
        for trial_id in tuple(self.running):
            self._storage.beats.record_heartbeat(trial_id)

    def run(self) -> None:
        """Beat until `stop`."""
        while not self._ended.wait(BEAT_S):
            try:
                self.beat()
            except Exception as error:  # the driver's own calls meet the same trouble, and say so
                _log.debug("no heartbeat: %s", error)

    def stop(self) -> None:
        """Beat no more."""
        self._ended.set()


class _LocalDeaths(BaseHeartbeat):
    """Adds to the trials that were silent for too long those whose driver's process, on this machine, is gone."""

    def _get_stale_trial_ids(self, study_id: int) -> list[int]:
        assert isinstance(self, BaseStorage)
        running = self.get_all_trials(study_id, deepcopy=False, states=(TrialState.RUNNING,))
        gone = [trial._trial_id for trial in running if _is_gone(trial)]
        return sorted({*gone, *super()._get_stale_trial_ids(study_id)})  # type: ignore[safe-super]


class _SilentFiles(BaseHeartbeat):
    """A heartbeat made of files: each beat touches one, so whoever is on the same file system sees its age.

    All times are the file system's, a server's too, so that clocks that differ do no harm.
    """

    folder: Path

    def record_heartbeat(self, trial_id: int) -> None:
        """Touch the trial's file."""
        (self.folder / str(trial_id)).touch()

    def get_heartbeat_interval(self) -> int:
        """Seconds between two beats."""
        return BEAT_S

    def get_heartbeat_stale_trial_callback(self) -> Callable[[Study, FrozenTrial], None]:
        """What queues the trial again."""
        return _retry()

    def _get_stale_trial_ids(self, study_id: int) -> list[int]:
        assert isinstance(self, BaseStorage)
        with tempfile.NamedTemporaryFile(dir=self.folder) as made_now:
            now = Path(made_now.name).stat().st_mtime
        stale = []
        for trial in self.get_all_trials(study_id, deepcopy=False, states=(TrialState.RUNNING,)):
            beat = self.folder / str(trial._trial_id)
            if beat.exists() and now - beat.stat().st_mtime > STALE_S:
                stale.append(trial._trial_id)
        return stale


class BeatingJournal(_LocalDeaths, _SilentFiles, JournalStorage):
    """Optuna's journal file with a heartbeat, in files beside it."""

    def __init__(self, backend: JournalFileBackend, folder: Path) -> None:
        super().__init__(backend)
        self.folder = folder


class _Relational(_LocalDeaths, RDBStorage):
    """Optuna's relational storage."""


def _quiet_optuna() -> None:
    """Only what is trouble: progress is shown by us, and what Optuna calls experimental is in use here on purpose."""
    optuna.logging.set_verbosity(logging.WARNING)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    for known in ("Heartbeat of storage is supposed", "The reported value is ignored"):
        warnings.filterwarnings("ignore", known)


def _retry() -> RetryHeartbeatStaleTrialCallback:
    return RetryHeartbeatStaleTrialCallback(max_retry=_MOST_RETRIES, inherit_intermediate_values=True)


def _open_journal(file: Path) -> Storage:
    if file.is_dir() or (file.exists() and file.stat().st_size and not _begins_a_journal(file)):
        raise FigleafError(f"--storage {file}: this is no journal of a search; name another file")
    beats = file.with_name(file.name + ".beats")
    with explained(file):
        beats.mkdir(parents=True, exist_ok=True)
        storage = BeatingJournal(_Journal(file), beats)
    lock = FileLock(file.with_name(file.name + ".alone"))
    return Storage(storage, storage, lambda: lock, str(file))


def _begins_a_journal(file: Path) -> bool:
    with file.open("rb") as journal:
        try:
            return {"op_code", "worker_id"} <= set(json.loads(journal.readline()))
        except (ValueError, TypeError):
            return False


class _Journal(JournalFileBackend):
    """Optuna's journal file, which neither a full disk nor a power cut makes unreadable."""

    def __init__(self, file: Path) -> None:
        self._file, self._mutex = file, JournalFileSymlinkLock(str(file))
        super().__init__(str(file), self._mutex)
        with get_lock_file(self._mutex), file.open("rb+") as journal:
            # What a power cut left of a last line: the next one would be written behind it.
            journal.truncate(journal.read().rfind(b"\n") + 1)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Write lines to the disk, all or none of them."""
        data = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs).encode()
        with explained(self._file), get_lock_file(self._mutex), self._file.open("r+b", buffering=0) as journal:
            end = journal.seek(0, os.SEEK_END)
            try:
                written = 0
                while written < len(data):
                    written += journal.write(data[written:]) or 0
                os.fsync(journal.fileno())
            except BaseException:
                journal.truncate(end)
                raise


@contextmanager
def _open_postgres(url: str) -> Iterator[Storage]:
    if importlib.util.find_spec("psycopg2") is None:
        raise FigleafError("PostgreSQL needs psycopg2, which is not installed: `pip install 'figleaf[server]'`")
    # Connections that a restarted server has dropped are noticed and made anew.
    options: dict[str, Any] = {"pool_pre_ping": True, "connect_args": {"connect_timeout": 10}}
    engine = create_engine(url, **options)

    @contextmanager
    def alone() -> Iterator[None]:
        with engine.begin() as connection:  # released with the transaction, or with a dead driver's connection
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ALONE})
            yield

    with alone():  # two drivers that make the tables at once would be in each other's way
        storage = _Relational(
            url, dict(options), heartbeat_interval=BEAT_S, grace_period=STALE_S, heartbeat_stale_trial_callback=_retry()
        )
    try:
        yield Storage(storage, storage, alone, shown(url))
    finally:
        storage.engine.dispose()
        engine.dispose()


def _is_gone(trial: FrozenTrial) -> bool:
    """Whether a running trial's driver is known to be dead, without waiting. Ask only while `alone`."""
    driver = trial.user_attrs.get(_DRIVER)
    if driver is None:
        return True
    beat = Beat.parse(driver["beat"])
    here = (beat.host, driver["world"]) == (socket.gethostname(), _process_world())
    return here and beat.is_dead(0.0)


def _process_world() -> str:
    """What gives process ids their meaning: two containers may share a host's name but not these."""
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""
