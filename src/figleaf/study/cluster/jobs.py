"""The jobs of a study, seen from a driver: found again, followed, cancelled, and submitted anew when sent away."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from figleaf.errors import FigleafError
from figleaf.study.cluster.ledger import Ledger, News, Order, Stage
from figleaf.study.cluster.queues import Ending, Queue, State, queue_of

_LOOK_S = 1.0


class Jobs:
    """The jobs in a study's ledger."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self._queues: dict[str, Queue] = {}

    def queue(self, executor: str) -> Queue:
        """The queue of an executor, one for all jobs there."""
        return self._queues.setdefault(executor, queue_of(executor))

    def alive(self, key: str) -> Order | None:
        """The trial's order while its job waits or works, with the job's id, else None.

        A job that cannot be asked about from here is taken to be alive: better to wait than to train a trial twice.
        """
        order = self.last(key)
        news = None if order is None else self.ledger.news(order.token)
        if order is None or (news is not None and news.is_end):
            return None
        return None if self.queue(order.executor).state(order) is State.GONE else order

    def last(self, key: str) -> Order | None:
        """The trial's last order whose job is known, be it alive or not."""
        order = self.ledger.order(key)
        if order is None or order.job_id is not None:
            return order
        news = self.ledger.news(order.token)  # the driver died before it could write the number down
        return None if news is None else replace(order, job_id=news.job_id, submitted=news.time)

    def notes(self) -> Mapping[str, str]:
        """What to say of each trial whose job waits or works, by key."""
        notes = {}
        for key in self.ledger.orders():
            if (order := self.alive(key)) is None:
                continue
            place = "" if order.executor == "slurm" else f" of {order.executor}"
            state = self.queue(order.executor).state(order)
            notes[key] = f"job {order.job_id}{place}, {state.value}"
            if state is State.UNKNOWN:
                file = self.ledger.folder / f"{key}.json"
                notes[key] += f": it was submitted on {order.host}, ask there; if it is gone, remove {file}"
        return notes


class FollowedJob:
    """A trial's job as a driver follows it: a `figleaf.study.launch.Process`.

    When the cluster sends it away (a node fails, a more urgent job comes) and does not requeue it, `submit_again` has
    the trial go on in a new job, in the run folder it is given, up to `max_requeues` times.
    """

    def __init__(self, order: Order, jobs: Jobs, submit_again: Callable[[Order, Path | None], Order]) -> None:
        self.order = order
        self._jobs, self._submit_again = jobs, submit_again
        self._news: News | None = None
        self._reason = ""
        self._looked, self._gone_since = -math.inf, math.inf
        self._is_gone = self._is_cancelled = False
        self._resubmitted = 0

    @property
    def alive(self) -> bool:
        """Whether it waits or works."""
        if not self._has_ended and time.monotonic() - self._looked > _LOOK_S:
            self._look()
        return not self._has_ended

    @property
    def exitcode(self) -> int | None:
        """None while it waits or works, 0 after success, else 1."""
        if self.alive:
            return None
        return 0 if self._news is not None and self._news.stage is Stage.FINISHED else 1

    @property
    def run_folder(self) -> Path | None:
        """Where the run keeps its files, once the job has told."""
        return None if self._news is None or not self._news.run_folder else Path(self._news.run_folder)

    @property
    def error(self) -> str:
        """Why it failed."""
        return self._reason or ("" if self._news is None else self._news.error)

    @property
    def is_queued(self) -> bool:
        """Whether it waits for its turn."""
        return self._news is None or self._news.stage is Stage.REQUEUED

    @property
    def log(self) -> Path:
        """What rank 0 prints."""
        return Path(self.order.folder) / f"{self.order.job_id}_0_log.out"

    def terminate(self) -> None:
        """Cancel the job; the run is marked KILLED and can be resumed."""
        if self.alive and not self._is_cancelled:
            self._is_cancelled = True
            self._jobs.queue(self.order.executor).cancel(self.order)

    def wait(self, timeout: float | None = None) -> int | None:
        """Wait at most `timeout` seconds for the end; the exit code, or None when there is none yet."""
        end = None if timeout is None else time.monotonic() + timeout
        while self.alive and (end is None or time.monotonic() < end):
            time.sleep(0.1)
        return self.exitcode

    @property
    def _has_ended(self) -> bool:
        return self._is_gone or (self._news is not None and self._news.is_end)

    def _look(self) -> None:
        now = self._looked = time.monotonic()
        queue = self._jobs.queue(self.order.executor)
        is_gone = queue.state(self.order) is State.GONE
        self._news = self._jobs.ledger.news(self.order.token)
        if self._has_ended:
            return
        self._gone_since = min(self._gone_since, now) if is_gone else math.inf
        if now - self._gone_since >= (0.0 if self._is_cancelled else queue.settle_s):
            self._leave_or_go_on(queue.ending(self.order, None if self._news is None else self._news.stage))

    def _leave_or_go_on(self, ending: Ending) -> None:
        """Its job is gone without having told an end."""
        if ending.sent_away and not self._is_cancelled and self._resubmitted < self.order.max_requeues:
            self._resubmitted += 1
            try:
                self.order = self._submit_again(self.order, self.run_folder)
            except FigleafError as refusal:
                self._is_gone, self._reason = True, f"{ending.reason}; {refusal}"
            self._news, self._gone_since = None, math.inf
        else:
            self._is_gone, self._reason = True, ending.reason
