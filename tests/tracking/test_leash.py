"""A program on a leash ends with whoever holds it, and so does all that it started."""

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from watching import exit_code, in_child

from figleaf.tracking.leash import Leashed

# Starts a child of its own and writes both process ids into a file, then waits for ever.
FAMILY = """
import os, pathlib, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
noted = pathlib.Path(sys.argv[1])
noted.with_suffix(".new").write_text(f"{os.getpid()} {child.pid}")
noted.with_suffix(".new").rename(noted)
time.sleep(600)
"""
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + FAMILY


def until(holds: Callable[[], object], timeout_s: float = 20.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def started(folder: Path, program: str, grace_s: float = 15.0) -> tuple[Leashed, list[int]]:
    noted = folder / "pids"
    leashed = Leashed([sys.executable, "-c", program, str(noted)], log=folder / "log", grace_s=grace_s)
    until(noted.exists)
    return leashed, [int(pid) for pid in noted.read_text().split()]


@pytest.mark.parametrize("program", [FAMILY, STUBBORN], ids=["polite", "stubborn"])
def test_stopped_program_takes_its_children_along(tmp_path: Path, program: str) -> None:
    leashed, pids = started(tmp_path, program, grace_s=1.0)
    assert leashed.exitcode is None
    leashed.stop()
    assert leashed.exitcode in (128 + signal.SIGTERM, 128 + signal.SIGKILL)
    assert not any(map(lives, pids))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_program_ends_with_the_process_that_holds_it(tmp_path: Path, number: signal.Signals) -> None:
    def hold() -> None:
        started(tmp_path, FAMILY)
        (tmp_path / "held").touch()
        time.sleep(600)

    holder = in_child(hold)
    until((tmp_path / "held").exists)
    os.kill(holder, number)
    assert exit_code(holder) == -number
    pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    until(lambda: not any(map(lives, pids)))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's death")
def test_program_ends_when_even_the_leash_is_killed(tmp_path: Path) -> None:
    leashed, (pid, child) = started(tmp_path, FAMILY)
    leashed._leash.kill()
    until(lambda: not lives(pid))
    os.kill(child, signal.SIGKILL)  # of a program's own children nobody is told then


def test_exit_code_and_output_of_a_program_that_ends_by_itself_are_kept(tmp_path: Path) -> None:
    program = "import sys; print('first words'); print('last words', file=sys.stderr); sys.exit(7)"
    leashed = Leashed([sys.executable, "-c", program], log=tmp_path / "log")
    until(lambda: leashed.exitcode is not None)
    assert leashed.exitcode == 7
    assert (tmp_path / "log").read_text().split("\n")[:2] == ["first words", "last words"]


def test_missing_program_is_named(tmp_path: Path) -> None:
    leashed = Leashed(["/no/such/program"], log=tmp_path / "log")
    until(lambda: leashed.exitcode is not None)
    assert leashed.exitcode == 127
    assert "/no/such/program" in (tmp_path / "log").read_text()
