"""A team's tracker: MLflow's server, a PostgreSQL behind it, and a folder of artifacts that only the server touches."""

import fcntl
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import requests

from figleaf.errors import FigleafError
from figleaf.files import explained, write_text
from figleaf.tracking.leash import Leashed, last_words
from figleaf.tracking.postgres import Cluster

_START_S = 180.0  # MLflow's imports, and its tables when the database is new
_LONGEST_LOG = 20_000_000
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 -- to know such an address, not to choose it
# None of MLflow's half dozen job processes. A tracking URI of the user's would name this very server.
_ENVIRONMENT = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
_NOT_FOR_THE_SERVER = ("MLFLOW_TRACKING_URI", "MLFLOW_BACKEND_STORE_URI", "MLFLOW_REGISTRY_URI")


@dataclass(frozen=True)
class Server:
    """A running server: `url` is its address as `tracking.uri`."""

    url: str
    _postgres: Leashed
    _mlflow: Leashed

    @property
    def failure(self) -> str:
        """Empty while all is well; else which of the two has ended, and its last words."""
        for name, program in (("PostgreSQL", self._postgres), ("MLflow", self._mlflow)):
            if program.exitcode is not None:
                return f"{name} ended with code {program.exitcode}: {last_words(program.log)} (log: {program.log})"
        return ""


@contextmanager
def serving(
    folder: Path,
    *,
    host: str = "127.0.0.1",
    port: int = 5000,
    workers: int = 2,
    allowed_hosts: str | None = None,
    upgrade: bool = False,
) -> Iterator[Server]:
    """Run the server on the data in `folder`, made when missing, until the context is left; or this process is gone.

    `workers` are MLflow's processes. `allowed_hosts` are the names by which browsers may call it, with commas between,
    beside this machine's and private addresses. `upgrade` brings the tables to the installed MLflow's version first.
    Raises `FigleafError` when the port is taken, the folder is in use, or one of the two does not start.
    """
    logs, artifacts = folder / "logs", folder / "artifacts"
    with explained(folder):
        logs.mkdir(parents=True, exist_ok=True)
        artifacts.mkdir(exist_ok=True)
    with ExitStack() as stack:
        lock = stack.enter_context(_locked(folder))
        require_free(host, port)
        for log in (logs / "postgres.log", logs / "mlflow.log"):
            _start_anew(log)
        cluster = Cluster.open(folder)
        # Whoever of the two still lives after a violent end holds the lock, too: nobody starts a second one beside it.
        stack.callback(cluster.remove_socket_folder)
        postgres = cluster.start(logs / "postgres.log", keep=[lock])
        stack.callback(postgres.stop)
        environment = _environment()
        if upgrade:
            _upgrade(cluster.uri, environment)
        command = [sys.executable, "-m", "mlflow", "server", "--host", host, "--port", str(port)]
        command += ["--workers", str(workers), "--uvicorn-opts", "--log-level warning"]
        command += ["--backend-store-uri", cluster.uri, "--artifacts-destination", artifacts.as_uri()]
        command += [] if allowed_hosts is None else ["--allowed-hosts", allowed_hosts]
        mlflow = Leashed(command, log=logs / "mlflow.log", keep=[lock], environment=environment)
        stack.callback(mlflow.stop)
        server = Server(address(host, port), postgres, mlflow)
        _wait_for_answer(server)
        write_text(folder / "server.json", json.dumps({"pid": os.getpid(), "url": server.url}) + "\n")
        yield server


def address(host: str, port: int) -> str:
    """The URL at which this machine reaches a server bound to `host`."""
    name = _EVERYWHERE.get(host, host)
    return f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"


def require_free(host: str, port: int) -> None:
    """Raise `FigleafError` when nothing can listen there. MLflow would say so with a traceback, or not at all."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        socket.create_server((host, port), family=family).close()
    except (OSError, OverflowError) as error:
        raise FigleafError(f"port={port}: cannot serve on {host} ({error}); pass another --port") from error


@contextmanager
def _locked(folder: Path, patience_s: float = 30.0) -> Iterator[int]:
    """Hold `folder` alone; gives the descriptor that holds it, for the children to inherit."""
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        deadline = time.monotonic() + patience_s
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                # A killed server's programs need a moment to end; a living one's will not.
                if _holder_lives(folder) or time.monotonic() > deadline:
                    raise FigleafError(f"{folder} is in use: {_told(folder)}") from None
                time.sleep(0.2)
        yield descriptor
    finally:
        os.close(descriptor)


def _holder_lives(folder: Path) -> bool:
    import psutil

    try:
        return bool(psutil.pid_exists(json.loads((folder / "server.json").read_text())["pid"]))
    except (OSError, ValueError, KeyError):
        return False


def _told(folder: Path) -> str:
    """What the server that holds the folder wrote down of itself."""
    try:
        noted = json.loads((folder / "server.json").read_text())
        return f"a server runs already, process {noted['pid']}, {noted['url']}"
    except (OSError, ValueError, KeyError):
        return "another server is starting or ending there"


def _start_anew(log: Path) -> None:
    """Set a long log aside, in place of the one before."""
    if log.exists() and log.stat().st_size > _LONGEST_LOG:
        log.replace(log.with_name(log.name + ".before"))


def _environment() -> Mapping[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in _NOT_FOR_THE_SERVER}
    return {**kept, **_ENVIRONMENT}


def _upgrade(uri: str, environment: Mapping[str, str]) -> None:
    command: Sequence[str] = [sys.executable, "-m", "mlflow", "db", "upgrade", uri]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise FigleafError(f"`mlflow db upgrade` failed: {(done.stderr.strip().splitlines() or ['no word'])[-1]}")


def _wait_for_answer(server: Server) -> None:
    deadline = time.monotonic() + _START_S
    while True:
        try:
            if requests.get(f"{server.url}/health", timeout=5).ok:
                return
        except requests.RequestException:
            pass
        if server.failure:
            raise FigleafError(server.failure)
        if time.monotonic() > deadline:
            raise FigleafError(f"the server at {server.url} does not answer after {_START_S:.0f} s")
        time.sleep(0.2)
