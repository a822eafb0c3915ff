"""The tracking store: opened safely by several processes at once, prepared once, always by absolute path."""

import logging
import os
import socket
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlsplit

import requests
from filelock import FileLock
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from sqlalchemy import event
from sqlalchemy.engine import Engine, make_url
from sqlalchemy.exc import SQLAlchemyError

from figleaf.errors import FigleafError
from figleaf.files import atomic_path, explained

# MLflow reads these whenever it calls a server. Its own defaults keep a call to a dead server hanging for minutes;
# here the delivery thread repeats, so a call may give up early. The printed links would end up in machine output, and a
# bar for each artifact among the lines for people.
# The last one is inherited by `ui_command`: the pages need none of the half dozen job processes.
_ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "60",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    # A saved model would take along the uv.lock and pyproject.toml of whatever folder the command is given in.
    "MLFLOW_UV_AUTO_DETECT": "false",
}
# These report with a traceback or a line each what is raised to us anyway, or tell of every retry or step.
_NOISY_LOGGERS = {
    "mlflow.store.db.utils": logging.CRITICAL,
    "urllib3.connectionpool": logging.ERROR,
    "mlflow.pyfunc": logging.WARNING,
    "mlflow.store.model_registry.abstract_store": logging.WARNING,
}

_PROJECT_TAG = "figleaf.project"
_ASIDE = "(raised as a result of Query-invoked autoflush"  # which SQLAlchemy puts before what happened
_SQL_PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}


@dataclass(frozen=True)
class Store:
    """An open tracker at `uri`; `home` takes downloads; `artifact_root` takes new artifacts (None: the server does)."""

    client: MlflowClient
    uri: str
    home: Path
    artifact_root: Path | None

    def experiment(self, name: str) -> str:
        """Give the id of the experiment `name`, made when missing, by several processes at once if need be.

        Raises `FigleafError` when it was deleted in the tracker.
        """
        found = self.client.get_experiment_by_name(name)
        if found is None:
            location = None if self.artifact_root is None else (self.artifact_root / quote(name, safe="")).as_uri()
            try:
                return str(self.client.create_experiment(name, location, tags={_PROJECT_TAG: "1"}))
            except MlflowException:
                found = self.client.get_experiment_by_name(name)  # another process was faster
                if found is None:
                    raise
        if found.lifecycle_stage == "deleted":
            raise FigleafError(
                f"tracking.experiment={name}: it was deleted in {shown(self.uri)}; choose another name or restore it "
                f"with `mlflow experiments restore --experiment-id {found.experiment_id}`"
            )
        if _PROJECT_TAG not in found.tags:
            self.client.set_experiment_tag(found.experiment_id, _PROJECT_TAG, "1")
        return str(found.experiment_id)

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Turn what the tracker raises, away or not to be written, into a `FigleafError` that names it."""
        try:
            yield
        except MlflowException as error:
            raise FigleafError(f"tracking.uri={shown(self.uri)}: {first_line(error)}") from error

    def experiment_ids(self) -> list[str]:
        """The project's experiments: those that `experiment` made or was asked for. A server may hold others."""
        found = self.client.search_experiments(filter_string=f"tags.`{_PROJECT_TAG}` = '1'")
        return [str(experiment.experiment_id) for experiment in found]


def open_store(uri: str | None, home: Path) -> Store:
    """Open the tracker at `uri`; by default a SQLite database and an artifact folder in `home`.

    Raises `FigleafError`, within about ten seconds, when the server does not answer, the database cannot be written or
    belongs to another MLflow version, or MLflow no longer supports the kind of store.
    """
    quiet_environment()
    home = home.absolute()
    uri = uri or _sqlite_uri(home / "mlflow.db")
    scheme = urlsplit(uri).scheme
    if scheme in ("", "file"):
        raise FigleafError(
            f"tracking.uri={uri}: MLflow no longer writes plain folders; leave tracking.uri empty for a SQLite "
            "database in FIGLEAF_HOME (`mlflow migrate-filestore` moves old runs there)"
        )
    try:
        if scheme == "sqlite":
            return _open_sqlite(uri, home)
        if scheme in ("http", "https"):
            _require_http(uri)
        elif scheme.split("+")[0] in _SQL_PORTS:
            _require_port(uri, _SQL_PORTS[scheme.split("+")[0]])
        client = MlflowClient(tracking_uri=uri)
        client.search_experiments(max_results=1)
    except (MlflowException, SQLAlchemyError) as error:
        raise FigleafError(f"tracking.uri={shown(uri)}: {first_line(error)}") from error
    is_server = scheme in ("http", "https", "databricks")
    return Store(client, uri, home, None if is_server else home / "artifacts")


def quiet_environment() -> None:
    """Set what MLflow reads from the environment, unless the user has, and keep its loggers from repeating errors."""
    os.environ.update({name: value for name, value in _ENVIRONMENT.items() if name not in os.environ})
    for name, level in _NOISY_LOGGERS.items():
        logging.getLogger(name).setLevel(level)


def ui_command(store: Store, host: str = "127.0.0.1", port: int = 5000) -> list[str]:
    """Give the command line (for `subprocess`) that serves MLflow's pages on the project's local store.

    Raises `FigleafError` when the tracker is a server, which has its own pages.
    """
    if store.artifact_root is None:
        raise FigleafError(f"tracking.uri={shown(store.uri)} is a server with its own pages: open it in a browser")
    command = [sys.executable, "-m", "mlflow", "server", "--workers", "1", "--host", host, "--port", str(port)]
    return [*command, "--backend-store-uri", store.uri, "--default-artifact-root", store.artifact_root.as_uri()]


def shown(uri: str) -> str:
    """Give `uri` without the password it may hold, for messages."""
    parts = urlsplit(uri)
    return uri if "@" not in parts.netloc else parts._replace(netloc="***@" + parts.netloc.rpartition("@")[2]).geturl()


def first_line(error: BaseException) -> str:
    """Give the first line of an exception's message that says something, or its type when there is none."""
    said = (line for line in str(error).splitlines() if line and not line.startswith(_ASIDE))
    return next(said, type(error).__name__)


def _open_sqlite(uri: str, home: Path) -> Store:
    database = make_url(uri).database
    if database in (None, "", ":memory:") or "?" in uri:
        raise FigleafError(f"tracking.uri={uri}: expected sqlite:///PATH, a file")
    path = Path(database).absolute()
    uri, artifact_root = _sqlite_uri(path), home / "artifacts"
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        # MLflow's own preparation of an empty database, run by several processes at once, ruins it for good.
        with FileLock(path.with_name(path.name + ".lock")):
            if not path.exists():
                _create_database(path, artifact_root)
            return Store(MlflowClient(tracking_uri=uri), uri, home, artifact_root)


def _sqlite_uri(path: Path) -> str:
    uri = f"sqlite:///{path}"
    if make_url(uri).database != str(path):  # SQLAlchemy ends it at a ?, and since version 2.1 undoes percent signs
        raise FigleafError(
            f"{path}: ? and % cannot stand in the path of a SQLite database; point FIGLEAF_HOME elsewhere"
        )
    return uri


def _create_database(path: Path, artifact_root: Path) -> None:
    """Prepare the tables in a temporary file, then rename it: MLflow's migrations, killed half way, never resume."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore  # slow to import and not needed with a server

    with atomic_path(path) as temporary:
        event.listen(Engine, "connect", _do_not_flush)
        try:
            SqlAlchemyStore(_sqlite_uri(temporary), artifact_root.as_uri()).engine.dispose()
        finally:
            event.remove(Engine, "connect", _do_not_flush)
        connection = sqlite3.connect(temporary)
        # Kept in the file for good: readers (the pages, a table) then never wait for a writer.
        connection.execute("PRAGMA journal_mode = WAL")
        connection.close()


def _do_not_flush(connection: sqlite3.Connection, _: object) -> None:
    """Spare the migrations hundreds of flushes, seconds on a slow disk: `atomic_path` flushes once, at the end."""
    connection.execute("PRAGMA synchronous = OFF")


def _require_http(uri: str) -> None:
    try:
        requests.get(f"{uri.rstrip('/')}/health", timeout=(3, 5))
    except requests.RequestException as error:
        raise _no_answer(uri, error) from error


def _require_port(uri: str, default_port: int) -> None:
    parts = urlsplit(uri)
    if parts.hostname is None:  # a Unix socket: nothing to wait for
        return
    try:
        socket.create_connection((parts.hostname, parts.port or default_port), timeout=5).close()
    except OSError as error:
        raise _no_answer(uri, error) from error


def _no_answer(uri: str, error: OSError) -> FigleafError:
    return FigleafError(
        f"tracking.uri={shown(uri)}: the server does not answer ({type(error).__name__}); start it, correct "
        "tracking.uri, or leave it empty for a local database"
    )
