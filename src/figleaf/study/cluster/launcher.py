"""The launcher that gives each trial a job: what a job asks for, and how it comes to be submitted once."""

import math
import os
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from figleaf.config import LauncherConfig, TrainConfig, from_dict, home, to_dict
from figleaf.errors import FigleafError
from figleaf.study.cluster.job import TrialJob, going_on
from figleaf.study.cluster.jobs import FollowedJob, Jobs
from figleaf.study.cluster.ledger import Ledger, Order, key_of
from figleaf.study.cluster.queues import undisturbed
from figleaf.study.launch import Process, usable_cores
from figleaf.study.plan import Trial


@dataclass
class ClusterLauncher:
    """Submits trials of a study as jobs, at most `jobs` of them in the queue at a time, and follows those there are."""

    settings: LauncherConfig
    study: str
    jobs: int
    _known: Jobs = field(init=False)
    _has_jobs: bool = False

    def __post_init__(self) -> None:
        self._known = Jobs(Ledger.of(self.study))

    @property
    def manner(self) -> str:
        """How trials are run, in words."""
        where = "a job of this machine" if self.settings.executor == "local-process" else "a SLURM job"
        return f"each {where}, {self.jobs} in the queue at a time"

    def slots(self, trial: Trial) -> int:
        """One: a job is a job, however many devices it has."""
        return 1

    def adopt(self, trial: Trial) -> Process | None:
        """The trial's job, which may have ended since it was seen at work: it is followed all the same."""
        order = self._known.last(key_of(trial.name, trial.config))
        return None if order is None else FollowedJob(order, self._known, self._submit_again)

    def start(self, trial: Trial, config: TrainConfig) -> Process:
        """Submit a job that trains `config`, or follow the one that works for the trial already.

        Raises `FigleafError` when the queue refuses the first job of all; later, that is a failure of the trial.
        """
        key = key_of(trial.name, trial.config)
        try:
            order = self._known.alive(key) or self._submit(key, f"{self.study}-{trial.name}", config)
        except FigleafError as error:
            if not self._has_jobs:
                raise
            return Refused(str(error))
        self._has_jobs = True
        return FollowedJob(order, self._known, self._submit_again)

    def explain(self, trial: Trial, process: Process) -> str:
        """Why a trial failed, in one line with the path of its job's log."""
        assert isinstance(process, FollowedJob | Refused), "started here"
        if isinstance(process, Refused):
            return process.error
        return f"{process.error} (log: {os.path.relpath(process.log)})"

    def _submit_again(self, order: Order, begun: Path | None) -> Order:
        return self._submit(order.key, order.name, going_on(from_dict(order.config, TrainConfig), begun))

    def _submit(self, key: str, name: str, config: TrainConfig) -> Order:
        ledger, settings = self._known.ledger, self.settings
        folder = Path(settings.folder).expanduser().absolute() if settings.folder else ledger.folder / "logs"
        threads = config.trainer.threads or threads_of(config, settings, self.jobs)
        order = Order(
            key=key,
            name=name,
            executor=settings.executor,
            config=to_dict(replace(config, trainer=replace(config.trainer, threads=threads))),
            home=str(home()),
            working_folder=str(Path.cwd()),
            folder=str(folder),
            host=socket.gethostname(),
            max_requeues=settings.max_requeues,
            timeout_min=settings.timeout_min,
        )
        with ledger.lock(key):
            ledger.place(order)
        queue = self._known.queue(settings.executor)
        call = TrialJob(str(ledger.folder), key, order.token)
        parameters = parameters_of(config, settings, name)
        try:
            with undisturbed():
                job_id = queue.submit(call, folder, parameters, settings.max_requeues)
                order = replace(order, job_id=job_id, submitted=time.time())
                ledger.place(order)
        except (KeyboardInterrupt, SystemExit):
            if order.job_id is not None:
                queue.cancel(order)
            raise
        return order


@dataclass(frozen=True)
class Refused:
    """A job that the queue did not take: a `figleaf.study.launch.Process` that has ended."""

    error: str
    alive: bool = False
    exitcode: int | None = 1
    run_folder: Path | None = None
    is_queued: bool = False

    def terminate(self) -> None:
        """Nothing to stop."""

    def wait(self, timeout: float | None = None) -> int | None:
        """Nothing to wait for."""
        return self.exitcode


def require_jobs_can_run(settings: LauncherConfig, trials: Sequence[Trial]) -> None:
    """Raises `FigleafError` for what would fail in every job, or spoil the tracker: SQLite on several machines."""
    if settings.signal_delay_s >= 60 * settings.timeout_min:
        raise FigleafError(
            f"launcher.signal_delay_s={settings.signal_delay_s}: expected less than launcher.timeout_min="
            f"{settings.timeout_min:g}, {60 * settings.timeout_min:g} seconds"
        )
    for trial in trials:
        t, uri = trial.config.trainer, trial.config.tracking.uri
        if settings.executor == "slurm" and (uri is None or uri.startswith("sqlite")):
            raise FigleafError(
                f"tracking.uri={uri or 'null'}: jobs on several machines cannot share an SQLite file; pass "
                "tracking=server with MLFLOW_TRACKING_URI=http://HOST:PORT (`figleaf server` starts one)"
            )
        if settings.executor == "local-process" and t.num_nodes > 1:
            raise FigleafError(
                f"trainer.num_nodes={t.num_nodes}: launcher.executor=local-process has this machine only"
            )
    if settings.executor == "local-process" and settings.setup:
        raise FigleafError(f"launcher.setup={settings.setup}: launcher.executor=local-process has no job script")


def parameters_of(config: TrainConfig, settings: LauncherConfig, name: str) -> Mapping[str, Any]:
    """What the job of a trial asks its queue for, in submitit's words. One task a device, for each task is a rank."""
    trainer = config.trainer
    # A measurement without training is one process.
    tasks, nodes = (trainer.devices, trainer.num_nodes) if config.evaluation is None else (1, 1)
    gpus = settings.gpus_per_node
    if gpus is None and trainer.accelerator == "gpu":
        gpus = tasks
    if settings.executor == "local-process":
        return {
            "tasks_per_node": tasks,
            "nodes": 1,
            "gpus_per_node": gpus or 0,
            "timeout_min": settings.timeout_min,
            "signal_delay_s": settings.signal_delay_s,
            "stderr_to_stdout": True,
        }
    cpus = cpus_of(config, settings)
    wanted = {
        "job_name": name,
        "partition": settings.partition,
        "account": settings.account,
        "qos": settings.qos,
        "constraint": settings.constraint,
        "time": math.ceil(settings.timeout_min),
        "signal_delay_s": settings.signal_delay_s,
        "nodes": nodes,
        "ntasks_per_node": tasks,
        "cpus_per_task": cpus,
        "gpus_per_node": gpus or None,
        "mem": None if settings.mem_gb is None else f"{math.ceil(settings.mem_gb * 1024)}M",
        "setup": settings.setup or None,
        "stderr_to_stdout": True,
        # A rank that fails takes the others with it. And since SLURM 22.05, srun no longer does as sbatch was told.
        "srun_args": ["--kill-on-bad-exit=1", f"--cpus-per-task={cpus}"],
        "additional_parameters": {"requeue": True, **settings.additional},
    }
    # submitit's own default, wckey=submitit, is one more name that a cluster may refuse.
    return {key: value for key, value in wanted.items() if value is not None} | {"wckey": None}


def cpus_of(config: TrainConfig, settings: LauncherConfig) -> int:
    """Cores of a task: those asked for, else one for each augmenting process and one for the training."""
    return settings.cpus_per_task or config.trainer.workers + 1


def threads_of(config: TrainConfig, settings: LauncherConfig, jobs: int) -> int:
    """torch's threads of a rank whose configuration names none: what its augmenting processes leave."""
    if settings.executor == "slurm":
        return max(1, cpus_of(config, settings) - config.trainer.workers)
    return max(1, usable_cores() // jobs)
