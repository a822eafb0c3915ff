"""Signs of life: a tag on every running run says when, on which host and by which process it was last alive."""

import json
import logging
import os
import socket
import threading
import time
from dataclasses import asdict, dataclass

import psutil
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

TAG = "figleaf.heartbeat"
INTERVAL_S = 15.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Beat:
    """One sign of life: `time` in seconds since the epoch, the host's name, the process id on it."""

    time: float
    host: str
    pid: int

    @classmethod
    def now(cls) -> "Beat":
        """The sign of life of this process."""
        return cls(time.time(), socket.gethostname(), os.getpid())

    @classmethod
    def parse(cls, text: str) -> "Beat":
        """Read the tag's value."""
        return cls(**json.loads(text))

    def to_text(self) -> str:
        """The tag's value."""
        return json.dumps(asdict(self))

    def is_dead(self, stale_after_s: float) -> bool:
        """Whether the run must be taken for dead: silent for `stale_after_s`, and its process gone if it ran here."""
        if time.time() - self.time < stale_after_s:
            return False
        if self.host != socket.gethostname():
            return True
        try:  # a process that began after the beat only inherited the number
            return bool(psutil.Process(self.pid).create_time() > self.time)
        except psutil.NoSuchProcess:
            return True


class Heartbeat(threading.Thread):
    """Sets the tag of `run_id` every `INTERVAL_S` seconds until `stop`; a tracker that is away is tried again."""

    def __init__(self, client: MlflowClient, run_id: str) -> None:
        super().__init__(name="figleaf-heartbeat", daemon=True)
        self._client, self._run_id = client, run_id
        self._stopped = threading.Event()

    def run(self) -> None:
        """Beat."""
        while not self._stopped.wait(INTERVAL_S):
            try:
                self._client.set_tag(self._run_id, TAG, Beat.now().to_text())
            except (MlflowException, OSError) as error:
                _log.debug("no heartbeat for run %s: %s", self._run_id, error)

    def stop(self) -> None:
        """Beat no more."""
        self._stopped.set()
