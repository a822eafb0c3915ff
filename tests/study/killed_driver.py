"""`figleaf study run` as a process of its own, killed at a moment of its work, and a witness of who writes what."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from figleaf.config import TrainConfig
from figleaf.train import folder, task

_MARK = "FIGLEAF_TEST_DRIVER"  # inherited by everything that a driver starts, whoever becomes its parent later
_WITNESS_FOLDER = "FIGLEAF_TEST_WITNESS"

# Loaded by every Python process that has its folder on PYTHONPATH. Whoever opens a run's journal to write takes a lock
# of the witness's own until the journal is closed or the process is gone. Nobody can hold it twice, so two writers of a
# run at a time, for however short a time, are noted.
_WITNESS = """
import fcntl, hashlib, os, sys

place, held = os.environ["FIGLEAF_TEST_WITNESS"], {}

def note(word, path):
    log = os.open(f"{place}/log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(log, f"{word} {os.getpid()} {path}\\n".encode())
    os.close(log)

def watch(event, arguments):
    if event != "open" or not str(arguments[0]).endswith("/journal.jsonl") or not arguments[2] & os.O_RDWR:
        return
    path = str(arguments[0])
    lock = os.open(f"{place}/{hashlib.sha256(path.encode()).hexdigest()}", os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        note("writes", path)
    except OSError:
        note("second", path)
    held[path] = lock
    journal = sys.modules["figleaf.tracking.journal"].MetricJournal
    if not hasattr(journal, "watched"):
        close, journal.watched = journal.close, True

        def released(self):
            close(self)
            os.close(held.pop(str(self.path)))

        journal.close = released

sys.addaudithook(watch)
"""


class Witness:
    """Who opened a run's journal to write, in every process of the drivers that were given its `environment`."""

    def __init__(self, place: Path) -> None:
        place.mkdir()
        (place / "sitecustomize.py").write_text(_WITNESS)
        path = os.pathsep.join(filter(None, [str(place), os.environ.get("PYTHONPATH")]))
        self._log = place / "log"
        self.environment = {"PYTHONPATH": path, _WITNESS_FOLDER: str(place)}

    def writers(self) -> dict[Path, list[int]]:
        """The processes that wrote into each run folder, one after the other."""
        found: dict[Path, list[int]] = {}
        for _, pid, path in self._lines():
            found.setdefault(Path(path).parent, []).append(int(pid))
        return found

    def seconds(self) -> list[list[str]]:
        """Those that began to write while another did."""
        return [line for line in self._lines() if line[0] == "second"]

    def _lines(self) -> list[list[str]]:
        return [line.split(" ", 2) for line in self._log.read_text().splitlines()]


class Driver:
    """A driver in a process group of its own, and all that it has started. `number` tells it from the others."""

    def __init__(self, number: int, arguments: list[str], place: Path, environment: dict[str, str]) -> None:
        self._mark, self._log = str(number), place / f"driver{number}.log"
        with self._log.open("wb") as said:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "figleaf.cli", "study", "run", *arguments],
                cwd=place,
                env={**os.environ, **environment, _MARK: self._mark},
                stdout=said,
                stderr=said,
                start_new_session=True,
                # Where the tests themselves run in the background, Ctrl-C is ignored, and children would inherit that.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
            )

    @property
    def said(self) -> str:
        return self._log.read_text()

    @property
    def has_ended(self) -> bool:
        return self.process.poll() is not None

    def kill(self, *, with_all: bool = False) -> None:
        """SIGKILL for it alone, or for its whole process group, as when a machine is lost."""
        (os.killpg if with_all else os.kill)(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def relatives(self) -> list[psutil.Process]:
        """It and what it started, directly or not, as far as that lives: trials, ranks, their server, git and so on."""
        return [process for process in psutil.process_iter() if _environment(process).get(_MARK) == self._mark]

    def seconds_until_gone(self, patience_s: float) -> float:
        """How long after now the last of them ended."""
        begun = time.monotonic()
        while found := self.relatives():
            assert time.monotonic() - begun < patience_s, f"live on: {[process.cmdline() for process in found]}"
            time.sleep(0.05)
        return time.monotonic() - begun

    def until(self, holds: Callable[[], object], timeout_s: float) -> bool:
        """Wait until something holds; False when the driver ends before it does."""
        deadline = time.monotonic() + timeout_s
        while not holds():
            assert time.monotonic() < deadline, self.said
            if self.has_ended:
                return bool(holds())
            time.sleep(0.01)
        return True


def _environment(process: psutil.Process) -> dict[str, str]:
    try:
        return {} if process.status() == psutil.STATUS_ZOMBIE else process.environ()
    except psutil.Error:  # gone, or not ours
        return {}


def die_with_a_result(config: TrainConfig, home: Path) -> None:
    """The work of a child process: train, and be killed when the result is written and nobody has been told."""
    os.environ["FIGLEAF_HOME"] = str(home)
    write = folder.RunFolder.write_result

    def write_and_die(self: folder.RunFolder, result: dict[str, Any]) -> None:
        write(self, result)
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(folder.RunFolder, "write_result", write_and_die)  # noqa: B010  # the type checker's peace
    task.train(config)
