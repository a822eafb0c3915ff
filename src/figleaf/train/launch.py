"""Trials as processes of their own: every rank of a run is started here, forked from a server that is warm already.

Nothing is left to Lightning's launcher, and no trial outlives the process that started it.
"""

import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from contextlib import suppress
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Any

from figleaf.config import TrainConfig, from_dict, to_dict
from figleaf.errors import FigleafError
from figleaf.files import explained

WARM = "figleaf.train.warm"
# How long a rank may take to end once it is told to: it may be writing a checkpoint of a gigabyte.
GRACE_S = 20.0


def warm_context() -> ForkServerContext:
    """The context that forks trials from the warm server, which is started with the first of them."""
    context = get_context("forkserver")
    context.set_forkserver_preload([WARM])
    return context


class Trial:
    """The processes of one run, one a rank. When one fails the others are stopped."""

    def __init__(self, ranks: list[ForkServerProcess], reports: Connection, log: Path | None) -> None:
        self.log = log
        self._ranks, self._reports = ranks, reports
        self._told: dict[str, Any] = {}
        self._stopping_since: float | None = None
        self._deaf = False  # nothing more will be told

    @property
    def alive(self) -> bool:
        """Whether a rank still runs."""
        self._look_after_ranks()
        return any(rank.is_alive() for rank in self._ranks)

    @property
    def is_queued(self) -> bool:
        """Never: its processes run at once."""
        return False

    @property
    def exitcode(self) -> int | None:
        """None while a rank runs; then 0, or the first failed rank's code (negative: the signal that ended it)."""
        if self.alive:
            return None
        codes = [rank.exitcode or 0 for rank in self._ranks]
        # A rank that failed by itself says more than those that were stopped because of it.
        return next((c for c in codes if c not in (0, -signal.SIGTERM, 128 + signal.SIGTERM)), max(codes, key=abs))

    @property
    def run_folder(self) -> Path | None:
        """Where the run keeps its files, once rank 0 knows."""
        self._listen()
        return Path(self._told["folder"]) if "folder" in self._told else None

    @property
    def result(self) -> Mapping[str, Any] | None:
        """Rank 0's `run_id`, `folder`, `metrics` and `repeated`, once the run is finished."""
        self._listen()
        result: Mapping[str, Any] | None = self._told.get("result")
        return result

    @property
    def sources(self) -> list[Connection | int]:
        """What `multiprocessing.connection.wait` can wait for: rank 0's news and the end of each rank."""
        news: list[Connection | int] = [] if self._deaf else [self._reports]
        return [*news, *(rank.sentinel for rank in self._ranks if rank.is_alive())]

    @property
    def was_pruned(self) -> bool:
        """Whether the training was given up because an answer said so; its exit code is 0."""
        self._listen()
        return bool(self._told.get("pruned"))

    @property
    def question(self) -> tuple[int, Mapping[str, float]] | None:
        """How many epochs are done and what the last one's validation found, while rank 0 waits for an `answer`."""
        self._listen()
        question: tuple[int, Mapping[str, float]] | None = self._told.get("question")
        return question

    def answer(self, *, prune: bool) -> None:
        """Answer the `question`: whether to give the training up."""
        del self._told["question"]
        with suppress(OSError):  # it has ended meanwhile
            self._reports.send(prune)

    @property
    def error(self) -> str:
        """What the user can mend, in one line, when that is why the run failed; else empty."""
        self._listen()
        return str(self._told.get("error", ""))

    def terminate(self) -> None:
        """Ask every rank to stop; the run is marked KILLED and can be resumed. After a while they are made to."""
        if self._stopping_since is None:
            self._stopping_since = time.monotonic()
            for rank in self._ranks:
                if rank.is_alive():
                    rank.terminate()

    def stop(self) -> None:
        """`terminate`, and wait for the end."""
        self.terminate()
        self.wait(2 * GRACE_S)

    def wait(self, timeout: float | None = None) -> int | None:
        """Wait at most `timeout` seconds for the end; the exit code, or None when it still runs."""
        end = None if timeout is None else time.monotonic() + timeout
        while self.alive and (end is None or time.monotonic() < end):
            wait([rank.sentinel for rank in self._ranks if rank.is_alive()], timeout=0.2)
        return self.exitcode

    def _look_after_ranks(self) -> None:
        if any(rank.exitcode for rank in self._ranks):
            self.terminate()
        if self._stopping_since is not None and time.monotonic() - self._stopping_since > GRACE_S:
            for rank in self._ranks:
                if rank.is_alive():
                    rank.kill()

    def _listen(self) -> None:
        try:
            while self._reports.poll():
                self._told.update(self._reports.recv())
        except (EOFError, OSError):
            self._deaf = True  # the ranks are gone; what they told is here


def start_trial(
    config: TrainConfig | Mapping[str, Any],
    *,
    threads: int | None = None,
    log: Path | None = None,
    context: ForkServerContext | None = None,
    tags: Mapping[str, str] | None = None,
    asks: bool = False,
) -> Trial:
    """Start every rank of a run on this machine; one, when it only measures. `threads`: each rank's, of torch.

    With `log`, all that the ranks print goes there; without it rank 0 prints here and the others nowhere. `tags` go to
    the tracker. With `asks`, the training stands still after every epoch until its `question` has its `answer`.
    """
    values = dict(config) if isinstance(config, Mapping) else to_dict(config)
    measures = values.get("evaluation") is not None
    world_size = 1 if measures else values["trainer"]["devices"]
    if values["trainer"]["num_nodes"] > 1 and not measures:
        raise FigleafError(
            f"trainer.num_nodes={values['trainer']['num_nodes']}: several machines are started by torchrun or SLURM: "
            "`torchrun ... -m figleaf.train.worker CONFIG.json`"
        )
    if threads is not None:
        values["trainer"] = {**values["trainer"], "threads": threads}
    if log is not None:
        log = log.absolute()
        with explained(log):
            log.parent.mkdir(parents=True, exist_ok=True)
            log.touch()
    context = context or warm_context()
    reports, told = context.Pipe()
    shared = {"WORLD_SIZE": str(world_size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port())}
    ranks = []
    for rank in range(world_size):
        place = {"RANK": str(rank), "LOCAL_RANK": str(rank), "NODE_RANK": "0"}
        # The server was started with an older environment and folder: what counts for a trial is today's.
        environment = {**os.environ, **(shared | place if world_size > 1 else {})}
        process = context.Process(
            target=_run_rank,
            args=(values, Path.cwd(), environment, log, told if rank == 0 else None, tags, asks),
            name=f"rank {rank}",
        )
        process.start()
        ranks.append(process)
    told.close()
    return Trial(ranks, reports, log)


def _run_rank(
    values: dict[str, Any],
    folder: Path,
    environment: dict[str, str],
    log: Path | None,
    told: Connection | None,
    tags: Mapping[str, str] | None,
    asks: bool,
) -> None:
    """One rank, in its own process."""
    if WARM not in sys.modules:
        # A missing preload module is ignored silently; then every trial would pay for its imports.
        raise RuntimeError(f"the process server did not import {WARM}")
    # Ctrl-C reaches every process of a terminal. The driver turns it into one SIGTERM; two signals at a time would end
    # the run before it can say so.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    if log is not None or told is None:
        target = os.open(log or os.devnull, os.O_WRONLY | os.O_APPEND)
        os.dup2(target, 1)
        os.dup2(target, 2)
    threading.Thread(target=_end_with_parent, daemon=True).start()

    from figleaf.train.pruning import Pruned
    from figleaf.train.task import train

    def tell(**news: Any) -> None:
        if told is not None:
            told.send(news)

    def ask(epochs: int, validation: Mapping[str, float]) -> bool:
        assert told is not None, "only rank 0 asks"
        tell(question=(epochs, validation))
        try:
            return bool(told.recv())
        except (EOFError, OSError):  # the driver is gone, and in a moment so will be this process
            raise SystemExit(128 + signal.SIGTERM) from None

    try:
        result = train(
            from_dict(values, TrainConfig),
            announce=lambda folder: tell(folder=str(folder)),
            tags=tags,
            ask=ask if asks else None,
        )
        tell(
            result={
                "run_id": result.run_id,
                "folder": str(result.folder),
                "metrics": result.metrics,
                "repeated": result.repeated,
            }
        )
    except Pruned:
        tell(pruned=True)
    except FigleafError as error:
        tell(error=str(error))
        print(f"error: {error}", file=sys.stderr, flush=True)
        sys.exit(2)
    except Exception as error:
        tell(error=f"{type(error).__name__}: {error}")
        traceback.print_exc()
        sys.exit(1)


def _end_with_parent() -> None:
    """End this process when the one that started it is gone, even by SIGKILL; first in a way that tells the tracker."""
    parent = parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_S)
    os._exit(1)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
