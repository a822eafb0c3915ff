"""What runs inside of a job: one rank of a trial. Imported on the cluster's nodes, before anything heavy.

Signals. SLURM sends SIGUSR2 some time before a job's time is up, and, where the cluster is set up so, when the job must
make room; submitit's handler then calls `checkpoint`, has the job requeued and exits: the run says KILLED and, with
`resume=auto`, goes on as the same run when the job begins again. What the newest checkpoint does not hold is computed
again. SIGTERM, of `scancel` for instance, ends the run without a requeue. Lightning's own requeueing is switched off by
`figleaf.train.trainer`.
"""

import os
import signal
import sys
import time
import traceback
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

from submitit import JobEnvironment
from submitit.helpers import DelayedSubmission

from figleaf.config import TrainConfig, from_dict
from figleaf.errors import FigleafError
from figleaf.study.cluster.ledger import Ledger, News, Order, Stage

_TERMINATED_CODE = 128 + signal.SIGTERM
# Ports that Linux does not give away by itself, so that two jobs on a node with different numbers do not meet.
_FIRST_PORT, _PORTS = 20000, 12000


class TrialJob:
    """The rank of a trial that this process is. submitit pickles it, so it holds nothing but the way to its order."""

    def __init__(self, ledger: str, key: str, token: str) -> None:
        self.ledger, self.key, self.token = ledger, key, token
        self._order: Order | None = None
        self._news: News | None = None  # of rank 0

    def __call__(self) -> None:
        """Train; a failure becomes the exit code, and on rank 0 one line of news."""
        signal.signal(signal.SIGTERM, _leave)  # submitit ignores it; once a run is open, it has a handler of its own
        environment = JobEnvironment()
        rank = environment.global_rank
        order = self._begin(environment.job_id, rank)
        news = Ledger(Path(self.ledger)).news(self.token)
        begun = Path(news.run_folder) if news is not None and news.run_folder else None
        os.environ.update(rank_environment(environment) if environment.num_tasks > 1 else {})
        os.environ["FIGLEAF_HOME"] = order.home
        os.chdir(order.working_folder)

        from figleaf.train.task import train

        def announce(folder: Path) -> None:
            self._tell(run_folder=str(folder))

        try:
            train(going_on(from_dict(order.config, TrainConfig), begun), announce)
        except FigleafError as error:
            self._tell(stage=Stage.FAILED, error=str(error))
            print(f"error: {error}", file=sys.stderr, flush=True)
            sys.exit(2)
        except Exception as error:
            self._tell(stage=Stage.FAILED, error=f"{type(error).__name__}: {error}")
            traceback.print_exc()
            sys.exit(1)
        except SystemExit as ending:
            was_requeued = self._news is not None and self._news.stage is Stage.REQUEUED
            if ending.code == _TERMINATED_CODE and not was_requeued:
                self._tell(stage=Stage.STOPPED)
            _leave_at_once(ending.code)
        self._tell(stage=Stage.FINISHED)

    def checkpoint(self) -> DelayedSubmission:
        """What the requeued job is to do: the same. submitit calls this in a signal's handler of rank 0.

        Exits when the job was requeued so often already that it seems to get nowhere.
        """
        order, news = self._order, self._news
        if order is not None and news is not None:
            if news.requeues >= order.max_requeues:
                self._tell(stage=Stage.FAILED, error=_too_often(order))
                sys.exit(1)
            self._tell(stage=Stage.REQUEUED, requeues=news.requeues + 1)
        return DelayedSubmission(TrialJob(self.ledger, self.key, self.token))

    def _begin(self, job_id: str, rank: int) -> Order:
        """The order, if it is still this job's. Exits when another job has the trial."""
        ledger = Ledger(Path(self.ledger))
        if rank > 0:
            return self._own_order(ledger)
        with ledger.lock(self.key):
            order = self._own_order(ledger)
            before = ledger.news(self.token) or News(job_id, Stage.RUNNING)
            self._order, self._news = order, before
            self._tell(job_id=job_id, stage=Stage.RUNNING, error="")
        return order

    def _own_order(self, ledger: Ledger) -> Order:
        order = ledger.order(self.key)
        if order is None:
            sys.exit(f"no {ledger.folder / self.key}.json here: FIGLEAF_HOME must be on a file system all nodes share")
        if order.token != self.token:
            sys.exit("another job has this trial by now: nothing to do")
        return order

    def _tell(self, **changes: Any) -> None:
        if self._news is not None:
            self._news = replace(self._news, time=time.time(), **changes)
            Ledger(Path(self.ledger)).tell(self.token, self._news)


def going_on(config: TrainConfig, begun: Path | None) -> TrainConfig:
    """The trial's configuration in a later job; `begun` is the run folder of the earlier one, which goes on there.

    `resume=auto` finds it by itself; a run that was to begin anew would do so again.
    """
    last = None if begun is None else begun / "checkpoints" / "last.ckpt"
    if config.resume == "never" and last is not None and last.exists():
        return replace(config, resume=str(last))
    return config


def rank_environment(environment: JobEnvironment) -> Mapping[str, str]:
    """torch's variables for this process of several, so that Lightning starts none itself."""
    nodes = environment.num_nodes
    return {
        "RANK": str(environment.global_rank),
        "LOCAL_RANK": str(environment.local_rank),
        "NODE_RANK": str(environment.node),
        "WORLD_SIZE": str(environment.num_tasks),
        "MASTER_ADDR": environment.hostnames[0] if nodes > 1 else "127.0.0.1",
        # All ranks choose the same.
        "MASTER_PORT": str(_FIRST_PORT + int(environment.raw_job_id) % _PORTS),
    }


def _too_often(order: Order) -> str:
    return (
        f"its job was requeued {order.max_requeues} times: raise launcher.timeout_min={order.timeout_min:g} or "
        f"launcher.max_requeues={order.max_requeues}; the same command goes on where it stopped"
    )


def _leave_at_once(code: object) -> None:
    """End the process. To take torch and the rest apart in order may last until SLURM kills, 30 s after SIGTERM."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code & 0xFF if isinstance(code, int) else 1)


def _leave(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)
