"""Being ended politely: SIGTERM and a closed terminal become an exception, so that a run can say how it ended."""

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

TERMINATED_CODE = 128 + signal.SIGTERM  # 143, a shell's code for a process that SIGTERM ended


class EndingSignals:
    """Handlers of SIGTERM and SIGHUP while a run lives; nothing outside the main thread, where Python allows none."""

    def __init__(self) -> None:
        self._previous: dict[int, Any] = {}

    def raise_exit(self) -> None:
        """From now on they raise `SystemExit(128 + number)` in the main thread."""
        self._install(_raise_exit)

    def ignore(self) -> None:
        """From now on they do nothing: the run is ending already."""
        self._install(_do_nothing)

    def restore(self) -> None:
        """Put back what was there before."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous.clear()

    def _install(self, handler: Callable[[int, FrameType | None], None]) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        for number in (signal.SIGTERM, signal.SIGHUP):
            previous = signal.getsignal(number)
            if number == signal.SIGHUP and previous == signal.SIG_IGN:
                continue  # started by nohup
            self._previous.setdefault(number, previous)
            signal.signal(number, handler)


def _raise_exit(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def _do_nothing(number: int, frame: FrameType | None) -> None:
    pass
