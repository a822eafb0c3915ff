"""Where trials run: the launcher is chosen here, and nowhere else."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Protocol

from figleaf.config import LauncherConfig, TrainConfig, home
from figleaf.errors import FigleafError
from figleaf.study.launch import Process, default_jobs, devices_of, usable_cores
from figleaf.study.plan import Trial
from figleaf.train.launch import start_trial, warm_context


class Launcher(Protocol):
    """Starts trials of one study, at most `jobs` at a time."""

    jobs: int

    @property
    def manner(self) -> str:
        """How trials are run, in words."""

    def slots(self, trial: Trial) -> int:
        """How many of the `jobs` a trial takes."""

    def adopt(self, trial: Trial) -> Process | None:
        """The job that another driver left at work for this trial, or None: it cannot follow one."""

    def start(self, trial: Trial, config: TrainConfig) -> Process:
        """Start `trial` as `config` says."""

    def explain(self, trial: Trial, process: Process) -> str:
        """Why a trial failed, in one line that ends with the path of its log."""


def open_launcher(settings: LauncherConfig, study: str, trials: Sequence[Trial], jobs: int | None) -> Launcher:
    """The launcher that `settings` ask for; `jobs` None: as many as suit it and `trials`.

    Raises `FigleafError` for settings that do not go together or do not suit a trial.
    """
    if jobs is not None and jobs < 1:
        raise FigleafError(f"jobs={jobs}: expected at least 1")
    if settings.executor == "forkserver":
        for key in fields(LauncherConfig):
            value = getattr(settings, key.name)
            if key.name != "executor" and value != getattr(LauncherConfig(), key.name):
                raise FigleafError(f"launcher.{key.name}={value}: no jobs are submitted here; pass launcher=slurm, too")
        return WarmLauncher(study, jobs or default_jobs(trials))
    from figleaf.study.cluster.launcher import ClusterLauncher, require_jobs_can_run

    require_jobs_can_run(settings, trials)
    return ClusterLauncher(settings, study, jobs or len(trials))


@dataclass
class WarmLauncher:
    """Processes of this machine, forked from a warm server, that end with this one; a log file each."""

    study: str
    jobs: int
    _context: ForkServerContext = field(default_factory=warm_context)

    @property
    def manner(self) -> str:
        """How trials are run, in words."""
        return f"{self.jobs} at a time, {self._threads} thread{'s' if self._threads > 1 else ''} each"

    def slots(self, trial: Trial) -> int:
        """As many as it has processes."""
        return devices_of(trial)

    def adopt(self, trial: Trial) -> Process | None:
        """Nothing: its own processes never outlive their driver, and it follows no others."""
        return None

    def start(self, trial: Trial, config: TrainConfig) -> Process:
        """Start its processes."""
        threads = config.trainer.threads or self._threads
        return start_trial(config, threads=threads, log=self._log(trial), context=self._context)

    def explain(self, trial: Trial, process: Process) -> str:
        """Why a trial failed."""
        return f"{process.error or f'exit code {process.exitcode}'} (log: {os.path.relpath(self._log(trial))})"

    @property
    def _threads(self) -> int:
        return max(1, usable_cores() // self.jobs)

    def _log(self, trial: Trial) -> Path:
        return home() / "studies" / self.study / "logs" / f"{trial.name}.log"
