"""Bringing a run's journal, tags and files to the tracker, beside a training that never waits nor fails for it."""

import json
import logging
import shutil
import threading
import time
import uuid
from dataclasses import asdict, dataclass, field
from pathlib import Path

from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from figleaf.errors import FigleafError
from figleaf.files import write_text
from figleaf.tracking.journal import MetricJournal
from figleaf.tracking.store import first_line

_METRICS_PER_CALL = 1000  # MLflow's limit
_PAIRS_PER_CALL = 100  # MLflow's limit for parameters and tags
_POLL_S = 5.0
_LONGEST_BACKOFF_S = 30.0

# What a tracker that is away, busy or out of space raises, by way of HTTP, SQL or the file system.
TROUBLE = (MlflowException, OSError)

_log = logging.getLogger(__name__)


def is_refusal(error: BaseException) -> bool:
    """Whether the tracker will never take this, however often it is sent: a bad name, or a parameter set otherwise."""
    return isinstance(error, MlflowException) and error.error_code == "INVALID_PARAMETER_VALUE"


@dataclass(frozen=True)
class Message:
    """Tags, parameters or one artifact (`file`, for the artifact folder `into`); sending it twice is harmless."""

    tags: dict[str, str] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)
    file: str | None = None
    into: str | None = None

    def send(self, client: MlflowClient, run_id: str) -> None:
        """Bring it to the tracker; raises one of `TROUBLE`."""
        tags = [RunTag(key, value) for key, value in self.tags.items()]
        params = [Param(key, value) for key, value in self.params.items()]
        for start in range(0, len(tags), _PAIRS_PER_CALL):
            client.log_batch(run_id, tags=tags[start : start + _PAIRS_PER_CALL])
        for start in range(0, len(params), _PAIRS_PER_CALL):
            client.log_batch(run_id, params=params[start : start + _PAIRS_PER_CALL])
        if self.file is not None:
            client.log_artifact(run_id, self.file, self.into)


class Outbox:
    """Messages the tracker did not take at once, in order, on disk in a run's folder until it does."""

    def __init__(self, folder: Path) -> None:
        self._list_file = folder / "outbox.json"
        self._copies = folder / "outbox"
        self._folder = folder.resolve()
        self._lock = threading.Lock()
        self._messages: list[Message] = []
        if self._list_file.exists():
            try:
                told = json.loads(self._list_file.read_text(encoding="utf-8"))
                self._messages = [Message(**entry) for entry in told]
            except (ValueError, TypeError, RecursionError) as error:
                raise FigleafError(
                    f"{self._list_file}: damaged ({error}); remove it, and what waited there is lost"
                ) from error

    def __len__(self) -> int:
        return len(self._messages)

    def add(self, message: Message) -> None:
        """Keep `message` for later. A file outside the run's folder is copied: it may be gone by then."""
        if message.file is not None and not Path(message.file).resolve().is_relative_to(self._folder):
            copy = self._copies / uuid.uuid4().hex / Path(message.file).name
            copy.parent.mkdir(parents=True)
            if Path(message.file).is_dir():
                shutil.copytree(message.file, copy)
            else:
                shutil.copy2(message.file, copy)
            message = Message(file=str(copy), into=message.into)
        with self._lock:
            self._messages.append(message)
            self._save()

    def deliver(self, client: MlflowClient, run_id: str) -> None:
        """Send what waits, oldest first; raises one of `TROUBLE` and keeps the rest. Drops what is refused."""
        while self._messages:
            try:
                self._messages[0].send(client, run_id)
            except MlflowException as error:
                if not is_refusal(error):
                    raise
                _log.warning("the tracker refuses %s: %s", self._messages[0], first_line(error))
            with self._lock:
                del self._messages[0]
                self._save()
        shutil.rmtree(self._copies, ignore_errors=True)

    def _save(self) -> None:
        if self._messages:
            write_text(self._list_file, json.dumps([asdict(message) for message in self._messages]))
        else:
            self._list_file.unlink(missing_ok=True)


class Delivery(threading.Thread):
    """Sends a journal's committed rows and an outbox to the run `run_id`, again and again while the tracker is away."""

    def __init__(self, client: MlflowClient, run_id: str, journal: MetricJournal, outbox: Outbox) -> None:
        super().__init__(name="figleaf-delivery", daemon=True)
        self._client, self._run_id, self._journal, self._outbox = client, run_id, journal, outbox
        self._wake = threading.Event()
        self._deadline: float | None = None
        self.trouble = ""
        journal.on_commit = self._wake.set

    def run(self) -> None:
        """Deliver until `close`."""
        backoff_s = 0.5
        while not self._must_end():
            self._wake.clear()
            try:
                self.deliver()
            except Exception as error:  # whatever it is: a thread that died would lose metrics in silence
                if not self.trouble:
                    _log.warning(
                        "the tracker takes nothing (%s); training goes on, metrics wait in %s",
                        first_line(error),
                        self._journal.path,
                    )
                self.trouble = first_line(error)
                self._wake.wait(backoff_s if self._deadline is None else min(backoff_s, 1.0))
                backoff_s = min(2 * backoff_s, _LONGEST_BACKOFF_S)
            else:
                self.trouble, backoff_s = "", 0.5
                if self._deadline is None:
                    self._wake.wait(_POLL_S)

    def deliver(self) -> None:
        """Send everything that may leave, now; raises one of `TROUBLE`."""
        while (batch := self._journal.take(_METRICS_PER_CALL)) is not None:
            metrics = [Metric(row.key, row.value, row.time_ms, row.step) for row in batch.rows]
            for start in range(0, len(metrics), _METRICS_PER_CALL):
                self._client.log_batch(self._run_id, metrics=metrics[start : start + _METRICS_PER_CALL])
            self._journal.confirm(batch)
        self._outbox.deliver(self._client, self._run_id)

    @property
    def is_complete(self) -> bool:
        """Whether nothing waits that may leave."""
        return self._journal.all_delivered and not self._outbox

    def close(self, timeout_s: float) -> bool:
        """Deliver the rest within `timeout_s` seconds and end the thread; whether everything has arrived."""
        self._deadline = time.monotonic() + timeout_s
        self._wake.set()
        self.join(timeout_s)
        return self.is_complete

    def _must_end(self) -> bool:
        return self._deadline is not None and (self.is_complete or time.monotonic() >= self._deadline)
