"""Training a run again from what it kept of itself, and comparing every metric with what it was.

The repetition has a home of its own: its tracker, caches and data are made anew, so that nothing of the first time is
taken for granted. Its code is today's, or that of the run, in a git worktree that is gone afterwards.
"""

import json
import math
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from figleaf.errors import FigleafError
from figleaf.files import explained, write_text
from figleaf.tracking.find import FoundRun, runs
from figleaf.tracking.leash import Leashed
from figleaf.tracking.store import open_store
from figleaf.train.origin import Origin

CLOCKS = "time/"  # what depends on the machine's load
_POLL_S = 0.2
_GIT_TIMEOUT_S = 120.0
_SHOWN_LINES = 5


@dataclass(frozen=True)
class MetricChange:
    """A metric that came out otherwise, at its first step that differs; None where a side has no value there."""

    key: str
    step: int
    was: float | None
    now: float | None


@dataclass(frozen=True)
class Repetition:
    """A run trained again: the new run, how many metric values were compared, and the metrics that differ.

    `new_keys` are metrics that only the repetition has, because its code is later.
    """

    run: FoundRun
    home: Path
    n_values: int
    changes: tuple[MetricChange, ...]
    new_keys: tuple[str, ...]

    @property
    def data_hash(self) -> str:
        """Identity of the data that was read this time."""
        return self.run.tags.get("figleaf.data_hash", "")


def repeat(
    run: FoundRun, origin: Origin, home: Path, *, source: Path | None = None, tolerance: float = 0.0
) -> Repetition:
    """Train `run` again in the new folder `home` and compare all its metric values but the clocks'.

    `source` is the folder to import figleaf from (default: this process's). Values count as equal when they differ by
    no more than `tolerance`. Raises `FigleafError` when the run had not finished, or the training fails.
    """
    if run.status != "FINISHED":
        raise FigleafError(
            f"run {run.name} ({run.run_id[:8]}) is {run.status}: there is no whole result to compare with"
        )
    again = _train(run, origin, home, source)
    if source is not None and again.tags.get("figleaf.git_commit") != origin.commit:
        raise FigleafError(f"the repetition did not run from {source}, but from {again.tags.get('figleaf.git_commit')}")
    expected = {key: run.history(key) for key in run.metrics if not key.startswith(CLOCKS)}
    found = {key: again.history(key) for key in again.metrics if not key.startswith(CLOCKS)}
    changes = (_first_change(key, rows, found.get(key, []), tolerance) for key, rows in sorted(expected.items()))
    return Repetition(
        again,
        home,
        sum(map(len, expected.values())),
        tuple(change for change in changes if change is not None),
        tuple(sorted(found.keys() - expected.keys())),
    )


@contextmanager
def worktree(repository: Path, origin: Origin) -> Iterator[Path]:
    """The run's code, commit and patch, in a temporary folder; gives the folder to import figleaf from.

    Nothing in `repository` is changed but its list of worktrees, for as long as this lasts. Raises `FigleafError` when
    the commit is not there or the patch is not whole or does not apply.
    """
    if origin.is_cut:
        raise FigleafError("the run's changes were too long to be kept whole: its code cannot be made again")
    if _git(repository, "cat-file", "-e", f"{origin.commit}^{{commit}}").returncode:
        raise FigleafError(f"{repository} has no commit {origin.commit}: `git fetch` it first")
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="figleaf-worktree-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        tree = folder / "figleaf"
        _done(_git(repository, "worktree", "add", "--detach", str(tree), origin.commit))
        stack.callback(_git, repository, "worktree", "remove", "--force", str(tree))
        if origin.diff:
            _done(_git(tree, "apply", "--whitespace=nowarn", "-", text=origin.diff))
        source = tree / "src"
        if not (source / "figleaf" / "train" / "worker.py").exists():
            raise FigleafError(
                f"commit {origin.commit[:10]} has no src/figleaf/train/worker.py: it cannot be run from here"
            )
        yield source


def repository_of(file: Path) -> Path:
    """The git checkout that holds `file`. Raises `FigleafError` outside of one."""
    found = _git(file.parent, "rev-parse", "--show-toplevel")
    if found.returncode:
        raise FigleafError("--worktree needs figleaf to run from a git checkout, which holds the run's commit")
    return Path(found.stdout.rstrip("\n"))


def new_home(below: Path, run: FoundRun) -> Path:
    """A folder for another repetition of the run."""
    attempt = 1
    while (below / f"{run.run_id[:12]}-{attempt}").exists():
        attempt += 1
    return below / f"{run.run_id[:12]}-{attempt}"


def _train(run: FoundRun, origin: Origin, home: Path, source: Path | None) -> FoundRun:
    values = origin.values | {"study": None, "arm": None, "parent_run_id": None, "resume": "auto"}
    values |= {"name": f"again-{run.run_id[:8]}", "tracking": origin.values["tracking"] | {"uri": None}}
    if values["trainer"].get("num_nodes", 1) > 1:
        raise FigleafError("trainer.num_nodes: a run on several machines is repeated with torchrun, see its command")
    stages = [values]
    if values.get("evaluation") is not None:  # which measures a finished run: there is none in a new home
        stages.insert(0, values | {"evaluation": None})
    with explained(home):
        home.mkdir(parents=True)
    for number, stage in enumerate(stages):
        config = write_text(home / f"config-{number}.json", json.dumps(stage, indent=2) + "\n")
        _run_ranks(config, stage["trainer"]["devices"], home, source)
    finished = runs(open_store(None, home), status="FINISHED")
    if not finished:
        raise FigleafError(f"the repetition left no finished run; see {home / 'log.txt'}")
    return finished[0]


def _run_ranks(config: Path, world_size: int, home: Path, source: Path | None) -> None:
    """Run the worker on every rank until all have ended; none outlives this process."""
    environment = {**os.environ, "FIGLEAF_HOME": str(home)}
    if source is not None:
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(source), os.environ.get("PYTHONPATH", "")]))
    shared = {"WORLD_SIZE": str(world_size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port())}
    command = [sys.executable, "-P", "-m", "figleaf.train.worker", str(config)]
    log = home / "log.txt"
    with ExitStack() as stack:
        ranks = []
        for rank in range(world_size):
            place = {"RANK": str(rank), "LOCAL_RANK": str(rank), "NODE_RANK": "0"}
            own = environment | (shared | place if world_size > 1 else {})
            ranks.append(Leashed(command, log=log, stop_signal=signal.SIGTERM, grace_s=20.0, environment=own))
            stack.callback(ranks[-1].stop)
        while any(rank.exitcode is None for rank in ranks) and not any(rank.exitcode for rank in ranks):
            time.sleep(_POLL_S)
    if any(rank.exitcode for rank in ranks):
        tail = [line for line in log.read_text(errors="replace").splitlines() if line.strip()][-_SHOWN_LINES:]
        raise FigleafError(f"the repetition failed (log: {log}):\n" + "\n".join(tail))


def _first_change(
    key: str, expected: list[tuple[int, float]], found: list[tuple[int, float]], tolerance: float
) -> MetricChange | None:
    was, now = dict(expected), dict(found)
    for step in sorted(was.keys() | now.keys()):
        if not _equal(was.get(step), now.get(step), tolerance):
            return MetricChange(key, step, was.get(step), now.get(step))
    return None


def _equal(was: float | None, now: float | None, tolerance: float) -> bool:
    if was is None or now is None:
        return False
    return was == now or (math.isnan(was) and math.isnan(now)) or abs(was - now) <= tolerance


def _git(folder: Path, *arguments: str, text: str = "") -> "subprocess.CompletedProcess[str]":
    """Run git without the repository's hooks: none of them is meant for this."""
    return subprocess.run(
        ["git", "-c", f"core.hooksPath={os.devnull}", *arguments],
        cwd=folder,
        input=text,
        capture_output=True,
        text=True,
        check=False,
        timeout=_GIT_TIMEOUT_S,
    )


def _done(finished: "subprocess.CompletedProcess[str]") -> None:
    if finished.returncode:
        reason = (finished.stderr.strip().splitlines() or [f"code {finished.returncode}"])[-1]
        raise FigleafError(f"`git {' '.join(finished.args[3:])}` failed: {reason}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
