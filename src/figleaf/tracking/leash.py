"""Programs on a leash: they end with the process that started them, however that ends, and leave nothing behind.

Between the two stands this file, run as a program of its own. It holds one end of a pipe; when the other end closes,
because its holder lets go or is gone, it stops the program, by a signal first and by SIGKILL after a while.
"""

import argparse
import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

_POLL_S = 0.2


class Leashed:
    """A program that runs until it ends by itself, `stop` is called, or this process is gone.

    `command` prints into the file `log`. `user`: whom it runs as, when that is not oneself. `stop_signal` asks it to
    end; after `grace_s` seconds it and its children are made to. It inherits the file descriptors `keep`.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        log: Path,
        user: str | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
        grace_s: float = 15.0,
        keep: Sequence[int] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        options = ["--stop-signal", str(int(stop_signal)), "--grace", str(grace_s), "--user", user or ""]
        # Isolated and by its path: it needs the standard library only and must start although the package cannot.
        own = [sys.executable, "-I", __file__, *options, "--keep", *map(str, keep), "--", *command]
        with log.open("ab") as output:
            self._leash = subprocess.Popen(
                own,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=keep,
                env=None if environment is None else dict(environment),
                start_new_session=True,  # Ctrl-C in a terminal is for the holder alone
            )
        self.log = log

    @property
    def exitcode(self) -> int | None:
        """None while it runs, then its exit code; 128 + number when a signal ended it."""
        return self._leash.poll()

    def stop(self) -> None:
        """End it and wait until it has ended."""
        assert self._leash.stdin is not None
        self._leash.stdin.close()
        self._leash.wait()


def last_words(log: Path, start: int = 0) -> str:
    """The last line of a log that says something, from byte `start` on."""
    with log.open("rb") as file:
        file.seek(start)
        lines = file.read()[-65536:].decode(errors="replace").splitlines()
    said = [line.strip() for line in lines if line.strip()]
    grave = [line for line in said if any(word in line for word in ("FATAL", "ERROR", "Error", "error"))]
    return next(reversed(grave or said), "no word in its log")


def _main() -> int:
    """The process between: start the program, wait for its end or for the pipe's."""
    known = argparse.ArgumentParser(prog="leash")
    known.add_argument("--user", default="")
    known.add_argument("--stop-signal", type=int, required=True)
    known.add_argument("--grace", type=float, required=True)
    known.add_argument("--keep", type=int, nargs="*", default=[])
    known.add_argument("command", nargs="+")
    options = known.parse_args()
    # A handler, for to ignore them would be inherited by the program. Whoever holds the leash decides when it ends.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    try:
        program = subprocess.Popen(
            options.command,
            stdin=subprocess.DEVNULL,
            pass_fds=options.keep,
            process_group=0,
            preexec_fn=lambda: _end_with_leash(options.stop_signal),
            **({"user": options.user, "group": _group_of(options.user), "extra_groups": []} if options.user else {}),
        )
    except OSError as error:
        print(f"{options.command[0]}: {error}", file=sys.stderr)
        return 127
    try:
        while program.poll() is None:
            if select.select([0], [], [], _POLL_S)[0] and not os.read(0, 1024):
                program.send_signal(options.stop_signal)
                program.wait(options.grace)
    except subprocess.TimeoutExpired:
        pass
    finally:
        with contextlib.suppress(ProcessLookupError):  # what it started and left behind
            os.killpg(program.pid, signal.SIGKILL)
    code = program.wait()
    return code if code >= 0 else 128 - code


def _end_with_leash(number: int) -> None:
    """In the program, before it begins: have Linux signal it when even the leash is killed."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, number)  # PR_SET_PDEATHSIG


def _group_of(user: str) -> int:
    import pwd

    return pwd.getpwnam(user).pw_gid


if __name__ == "__main__":
    sys.exit(_main())
