"""What the tracker holds, and how a process of ours ended."""

import os
import signal
import time
from collections.abc import Callable

from figleaf.tracking.store import Store


def history(store: Store, run_id: str, key: str) -> list[tuple[int, float]]:
    """All values the tracker has of a metric, as (step, value), in the order of steps."""
    return sorted((metric.step, metric.value) for metric in store.client.get_metric_history(run_id, key))


def status(store: Store, run_id: str) -> str:
    return str(store.client.get_run(run_id).info.status)


def in_child(work: Callable[[], object]) -> int:
    """Run `work` in a forked process (without the seconds of importing MLflow) and give its process id."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    for number in (signal.SIGTERM, signal.SIGHUP):  # whatever handler this process of tests has of an earlier one
        signal.signal(number, signal.SIG_DFL)
    try:
        work()
        code = 0
    except SystemExit as ending:
        code = ending.code if isinstance(ending.code, int) else 1
    finally:
        os._exit(code)


def exit_code(pid: int, timeout_s: float = 300.0) -> int:
    """Wait for a child of `in_child`; minus the signal's number when one killed it."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        ended, wait_status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(wait_status)
        time.sleep(0.005)
    raise TimeoutError(f"process {pid} lives after {timeout_s} s")
