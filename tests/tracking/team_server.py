"""`figleaf server` as a process of its own, to be killed whole or in parts and started again."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import requests

from figleaf.tracking.store import Store, open_store


class TeamServer:
    """A server on a free port; its data lies in `home`/server, which whoever PostgreSQL runs as can reach."""

    def __init__(self) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="figleaf-test-"))
        self.home.chmod(0o755)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.url = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        self.process = self.begin()
        deadline = time.monotonic() + 240
        while not (self.answers() and self._noted_pid() == self.process.pid):
            assert self.process.poll() is None, self.process.communicate()[1]
            assert time.monotonic() < deadline, "the server does not answer"
            time.sleep(0.2)

    def begin(self, *arguments: str) -> "subprocess.Popen[str]":
        """Start the command and wait for nothing."""
        return subprocess.Popen(
            [sys.executable, "-m", "figleaf.cli", "server", "--port", str(self.port), *arguments],
            env={**os.environ, "FIGLEAF_HOME": str(self.home)},
            stderr=subprocess.PIPE,
            text=True,
        )

    def _noted_pid(self) -> int | None:
        file = self.home / "server" / "server.json"
        return int(json.loads(file.read_text())["pid"]) if file.exists() else None

    def answers(self) -> bool:
        try:
            return requests.get(f"{self.url}/health", timeout=2).ok
        except requests.RequestException:
            return False

    def parts(self, name: str = "") -> list[psutil.Process]:
        """The processes of `mlflow` or `postgres`, without what holds them; of both and that without a name."""
        marks = {"mlflow": ("mlflow", "uvicorn"), "postgres": ("-D",)}.get(name, ("",))
        return [
            process
            for process in psutil.process_iter(["cmdline", "environ"])
            if self._is_own(process)
            and (not name or "leash.py" not in " ".join(process.info["cmdline"]))
            and any(mark in " ".join(process.info["cmdline"]) for mark in marks)
        ]

    def _is_own(self, process: psutil.Process) -> bool:
        environ, cmdline = process.info["environ"] or {}, process.info["cmdline"] or []
        ours = environ.get("FIGLEAF_HOME") == str(self.home) or str(self.home) in " ".join(cmdline)
        return ours and process.status() != psutil.STATUS_ZOMBIE

    def signal(self, name: str, number: signal.Signals) -> None:
        """Send a signal to every process of `mlflow`, or to the one of `postgres` that holds the database."""
        found = self.parts(name)
        assert found, f"there is no {name}"
        for process in found:
            process.send_signal(number)

    def wait(self) -> tuple[int, str]:
        """Its exit code and what it said."""
        assert self.process is not None
        _, said = self.process.communicate(timeout=90)
        return self.process.returncode, said

    def stop(self) -> tuple[int, str]:
        assert self.process is not None
        if self.process.poll() is None:
            self.process.terminate()
        return self.wait()

    def store(self) -> Store:
        return open_store(self.url, self.home / "client")
