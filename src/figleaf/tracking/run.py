"""One tracked run, truthful to the end: its status says how it ended, its metrics are complete and never double.

Only MLflow's client is used, never its fluent functions: those keep a global "active run" that ranks and trials would
each open anew, and that MLFLOW_RUN_ID in the environment redirects.
"""

import json
import logging
import time
import traceback
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from filelock import FileLock
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from figleaf.errors import FigleafError
from figleaf.files import write_text
from figleaf.tracking import heartbeat
from figleaf.tracking.delivery import TROUBLE, Delivery, Message, Outbox, is_refusal
from figleaf.tracking.journal import MetricJournal
from figleaf.tracking.params import cut, flatten
from figleaf.tracking.record import TOKEN_TAG, RunRecord, lock_folder
from figleaf.tracking.signals import TERMINATED_CODE, EndingSignals
from figleaf.tracking.store import Store, first_line, shown

# Ended from outside, a job has little time: SLURM sends SIGKILL 30 s after SIGTERM.
_LONGEST_WAIT_WHEN_KILLED_S = 10.0
_ERROR_TAIL_ROWS = 20
_ERROR_TAG = "figleaf.error"
_ENDING_TAGS = (_ERROR_TAG, "figleaf.pruned")  # how a run ended, untrue again once it is resumed

_log = logging.getLogger(__name__)


class TrackedRun:
    """A run of the tracker and its folder; a context manager around all of the work that belongs to it.

    Leaving it well makes the run FINISHED; an exception FAILED, with the traceback as artifact `error.txt`; Ctrl-C,
    SIGTERM and any other `SystemExit` KILLED. SIGTERM becomes `SystemExit(143)`, and an exit that would have claimed
    success with code 0 becomes 143, too. After SIGKILL the run says RUNNING until `reap` finds its heartbeat stale.

    Metrics go to `journal`; all others of its methods bring something to the tracker at once, or, while it is away,
    keep it in the folder's outbox for the delivery thread. What has not arrived on leaving is delivered by `sync`, or
    by the resumed run.
    """

    def __init__(self, store: Store, folder: Path, record: RunRecord, lock: FileLock, exit_wait_s: float) -> None:
        self.folder = folder
        self.journal = MetricJournal(folder / "journal.jsonl")
        self._store, self._record, self._lock, self._exit_wait_s = store, record, lock, exit_wait_s
        self._outbox = Outbox(folder)
        self._signals = EndingSignals()

    @classmethod
    def start(
        cls,
        store: Store,
        *,
        experiment: str,
        name: str,
        folder: Path,
        params: Mapping[str, object],
        tags: Mapping[str, str],
        parent_run_id: str | None = None,
        fresh: bool = False,
        exit_wait_s: float = 30.0,
        lock: FileLock | None = None,
    ) -> Self:
        """Make a run in the tracker, or, when `folder` holds one that `store` still has, resume that one.

        `params` may be nested: keys are joined with dots. Those that differ from the resumed run's become tags
        `resume.<n>.<key>`, for MLflow never changes a parameter; replaced tags stay as `resume.<n>.before.<key>`.
        `fresh` starts anew and sets the folder's old journal aside. `exit_wait_s` bounds the wait for a tracker that is
        away on leaving. `lock` is the folder's, where the caller has taken it (`lock_folder`); it is released with the
        run. Raises `FigleafError` when another process holds the folder or the tracker refuses.
        """
        folder = folder.absolute()
        all_tags = {**tags, "figleaf.folder": str(folder), heartbeat.TAG: heartbeat.Beat.now().to_text()}
        if parent_run_id is not None:
            all_tags["mlflow.parentRunId"] = parent_run_id
        with ExitStack() as undone_on_failure:
            lock = lock or lock_folder(folder)
            undone_on_failure.callback(lock.release)
            try:
                if fresh:
                    _set_aside(store, folder)
                run = cls(store, folder, RunRecord.load(folder) or RunRecord(), lock, exit_wait_s)
                undone_on_failure.callback(run.journal.close)
                run._open(experiment, name, flatten(params), all_tags)
            except MlflowException as error:
                where = f"tracking.uri={shown(store.uri)}"
                raise FigleafError(f"{where}: it does not take the run {name!r}: {first_line(error)}") from error
            undone_on_failure.pop_all()
        return run

    @property
    def run_id(self) -> str:
        """MLflow's id of the run."""
        assert self._record.run_id is not None, "start() sets it"
        return self._record.run_id

    @property
    def resumes(self) -> int:
        """How often this run was resumed: 0 the first time."""
        return self._record.resumes

    def set_tag(self, key: str, value: str) -> None:
        """Set one tag."""
        self.set_tags({key: value})

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set tags."""
        self._send(Message(tags=dict(tags)))

    def log_params(self, params: Mapping[str, object]) -> None:
        """Add parameters, nested ones joined with dots. Values too long for MLflow are cut; `params.json` has all."""
        flat = flatten(params)
        shortened = cut(flat)
        if shortened != flat:
            self.log_artifact(write_text(self.folder / "params.json", json.dumps(flat, indent=2) + "\n"))
        self._send(Message(params=shortened))

    def log_artifact(self, path: Path, artifact_path: str | None = None) -> None:
        """Keep the file or folder `path` with the run, in its artifact folder `artifact_path` (default: the root)."""
        if not path.exists():
            raise FileNotFoundError(path)
        self._send(Message(file=str(path), into=artifact_path))

    def __enter__(self) -> Self:
        self._delivery = Delivery(self._store.client, self.run_id, self.journal, self._outbox)
        self._heartbeat = heartbeat.Heartbeat(self._store.client, self.run_id)
        self._delivery.start()
        self._heartbeat.start()
        self._signals.raise_exit()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._signals.ignore()
        status = _status_after(error)
        trouble: FigleafError | None = None
        try:
            try:
                self._note_end(status, error)
            except FigleafError as full_disk:
                status, trouble = "FAILED", full_disk
                self._record.outcome = status
                with suppress(FigleafError):
                    self._record.save(self.folder)
            self._deliver_end(
                min(self._exit_wait_s, _LONGEST_WAIT_WHEN_KILLED_S) if status == "KILLED" else self._exit_wait_s
            )
        finally:
            self._heartbeat.stop()
            self._lock.release()
            self._signals.restore()
            if not self._delivery.is_alive():
                self.journal.close()
        if trouble is not None and error is None:
            raise trouble
        if isinstance(error, SystemExit) and not error.code:
            raise SystemExit(TERMINATED_CODE) from error

    def _open(self, experiment: str, name: str, params: dict[str, str], tags: dict[str, str]) -> None:
        client = self._store.client
        experiment_id = self._store.experiment(experiment)
        run = self._record.find(self._store, [experiment_id])
        if run is not None:
            self._resume(run, params, tags)
            return
        if self._record.run_id is not None:  # deleted, or in another store: what is committed has to go to the new run
            self._record = RunRecord()
            self.journal.forget_delivery()
        self._record.save(self.folder)
        made = client.create_run(experiment_id, tags={**tags, TOKEN_TAG: self._record.token}, run_name=name)
        self._record.run_id = made.info.run_id
        self._record.save(self.folder)
        self.log_params(params)

    def _resume(self, run: Run, params: dict[str, str], tags: dict[str, str]) -> None:
        self._record.resumes += 1
        self._record.outcome = self._record.end_time_ms = None
        self._record.told = False
        self._record.save(self.folder)
        self._store.client.update_run(self.run_id, status="RUNNING")
        for tag in run.data.tags.keys() & _ENDING_TAGS:
            self._store.client.delete_tag(self.run_id, tag)
        prefix, known = f"resume.{self._record.resumes}.", run.data.params
        replaced = {
            k: run.data.tags[k] for k in tags if k != heartbeat.TAG and run.data.tags.get(k, tags[k]) != tags[k]
        }
        changed = {k: v for k, v in cut(params).items() if known.get(k, v) != v}
        self.set_tags(
            tags
            | {f"{prefix}before.{key}": value for key, value in replaced.items()}
            | {prefix + key: value for key, value in changed.items()}
        )
        self.log_params({key: value for key, value in params.items() if key not in known})

    def _send(self, message: Message) -> None:
        """Bring `message` to the tracker, or, when it is away or others wait already, put it into the outbox."""
        if not self._outbox:
            try:
                message.send(self._store.client, self.run_id)
                return
            except TROUBLE as error:
                if is_refusal(error):
                    raise FigleafError(f"the tracker refuses {message}: {first_line(error)}") from error
                _log.warning("the tracker takes nothing (%s); it will be tried again", first_line(error))
        self._outbox.add(message)

    def _note_end(self, status: str, error: BaseException | None) -> None:
        """Write down how the run ended before the tracker is told, so that a kill from here on loses nothing."""
        if status == "FAILED" and error is not None:
            tail = "".join(f"{row}\n" for row in self.journal.rows()[-_ERROR_TAIL_ROWS:])
            text = "".join(traceback.format_exception(error)) + f"\nThe last metrics:\n{tail}"
            self.set_tag(_ERROR_TAG, f"{type(error).__name__}: {first_line(error)}"[:500])
            self.log_artifact(write_text(self.folder / "error.txt", text))
        self._record.outcome, self._record.end_time_ms = status, int(time.time() * 1000)
        self._record.save(self.folder)
        if status == "FINISHED":  # otherwise rows after the last checkpoint stay here: a resume computes them again
            self.journal.commit()

    def _deliver_end(self, timeout_s: float) -> None:
        try:
            arrived = self._delivery.close(timeout_s)
        except KeyboardInterrupt:  # a second Ctrl-C: do not wait any longer
            arrived = self._delivery.is_complete
        trouble = self._delivery.trouble or "no time left"
        if arrived:
            try:
                self._record.tell_end(self._store, self.folder)
                return
            except (*TROUBLE, FigleafError) as error:
                trouble = first_line(error)
        _log.warning(
            "run %s ended, but not everything has reached the tracker (%s): %d metric values, %d messages and its "
            "status wait in %s; `figleaf runs sync` delivers them",
            self.run_id,
            trouble,
            self.journal.waiting,
            len(self._outbox),
            self.folder,
        )


def has_finished(folder: Path) -> bool:
    """Whether the work of the run in `folder` ended well, though the tracker may not have been told: see `sync`."""
    record = RunRecord.load(folder)
    return record is not None and record.outcome == "FINISHED"


def _set_aside(store: Store, folder: Path) -> None:
    """Keep the folder's old run under its own name; nobody writes it any more, so it must not say RUNNING."""
    record = RunRecord.load(folder)
    if record is None:
        return
    old = record.find(store, store.experiment_ids())
    if old is not None and old.info.status == "RUNNING":
        store.client.set_terminated(old.info.run_id, "KILLED")
    aside = folder / f"before-{(record.run_id or record.token)[:8]}"
    aside.mkdir(exist_ok=True)
    for name in (
        "outbox.json",
        "outbox",
        "journal.jsonl.delivered",
        "journal.jsonl.committed",
        "journal.jsonl",
        "run.json",
    ):
        if (folder / name).exists():
            (folder / name).replace(aside / name)


def _status_after(error: BaseException | None) -> str:
    if error is None:
        return "FINISHED"
    return "KILLED" if isinstance(error, KeyboardInterrupt | SystemExit) else "FAILED"
