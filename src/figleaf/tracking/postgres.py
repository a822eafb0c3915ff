"""A PostgreSQL of the project's own, from the system's packages: one role, one database, one socket, no port.

Nothing listens on a network. The database `mlflow` is reached through a Unix socket in a folder of its owner alone, by
the role `mlflow` with a generated password; for any other role, the superuser's too, there is no way in.
"""

import hashlib
import os
import pwd
import secrets
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from figleaf.errors import FigleafError
from figleaf.files import explained
from figleaf.tracking.leash import Leashed, last_words

NAME = "mlflow"  # of the role and of its database
_DEBIAN = Path("/usr/lib/postgresql")
_START_S = 60.0
_INSTALL = (
    "PostgreSQL is not installed: `apt-get install postgresql` (Debian, Ubuntu), or leave tracking.uri empty for SQLite"
)


@dataclass(frozen=True)
class Cluster:
    """A database cluster in `folder`/postgres, its password in `folder`/pgpass; `programs`: the folder of `postgres`.

    PostgreSQL does not run as root: then it runs as `user`, whom the cluster belongs to; else `user` is None.
    """

    folder: Path
    programs: Path
    user: str | None

    @classmethod
    def open(cls, folder: Path) -> "Cluster":
        """The cluster in `folder`, prepared when it is new. Only one process at a time may do so.

        Raises `FigleafError` when PostgreSQL or its client for Python is not installed, or of another version than the
        data, and when the user it must run as cannot reach the folder.
        """
        try:
            import psycopg2  # noqa: F401 -- MLflow needs it
        except ImportError as error:
            raise FigleafError("psycopg2 is not installed: `pip install 'figleaf[server]'`") from error
        data = folder / "postgres"
        cluster = cls(folder, _programs(data / "PG_VERSION"), _unprivileged_user())
        if not data.exists():
            cluster._prepare(data)
        elif data.stat().st_uid != cluster._uid:
            owner, own = _name_of(data.stat().st_uid), _name_of(cluster._uid)
            raise FigleafError(f"{data} belongs to {owner}, but PostgreSQL would run as {own}: start it as {owner}")
        return cluster

    @property
    def uri(self) -> str:
        """Where MLflow finds the database. The password is not in it: it would be seen in the list of processes."""
        host, passfile = quote(str(self._socket_folder), safe=""), quote(str(self.folder / "pgpass"), safe="")
        return f"postgresql+psycopg2://{NAME}@/{NAME}?host={host}&passfile={passfile}"

    def start(self, log: Path, keep: Sequence[int] = ()) -> Leashed:
        """Run it until the leash is let go; returns when it takes connections. It inherits the descriptors `keep`.

        Raises `FigleafError` with what PostgreSQL says when it does not.
        """
        self._make_socket_folder()
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": f'"{self._socket_folder}"',
            "unix_socket_permissions": "0700",
            "port": "5432",  # names the socket
        }
        command = [str(self.programs / "postgres"), "-D", str(self.folder / "postgres")]
        for key, value in settings.items():
            command += ["-c", f"{key}={value}"]
        start_of_log = log.stat().st_size if log.exists() else 0
        # SIGINT ends the sessions and writes everything out; SIGTERM would wait for the clients to go.
        running = Leashed(command, log=log, user=self.user, stop_signal=signal.SIGINT, grace_s=60.0, keep=keep)
        deadline = time.monotonic() + _START_S
        while not self._answers():
            if running.exitcode is not None or time.monotonic() > deadline:
                running.stop()
                raise FigleafError(f"PostgreSQL does not start: {last_words(log, start_of_log)} (log: {log})")
            time.sleep(0.1)
        return running

    def remove_socket_folder(self) -> None:
        """Leave nothing in the system's temporary folder, once the cluster has ended."""
        shutil.rmtree(self._socket_folder, ignore_errors=True)

    def _answers(self) -> bool:
        import psycopg2

        try:
            psycopg2.connect(
                dbname=NAME,
                user=NAME,
                host=str(self._socket_folder),
                passfile=str(self.folder / "pgpass"),
                connect_timeout=5,
            ).close()
        except psycopg2.OperationalError:
            return False
        return True

    def _prepare(self, data: Path) -> None:
        """Make the cluster, the role and the database beside `data`, then rename: killed half way, it starts anew."""
        fresh = self.folder / "postgres.new"
        password = secrets.token_urlsafe(32)
        with explained(fresh):
            if fresh.exists():
                shutil.rmtree(fresh)
            fresh.mkdir(0o700)
            self._give(fresh)
        self._require_reach(fresh)
        # Nobody may connect until the rules below are written, and the superuser not even then.
        initdb = [str(self.programs / "initdb"), "--pgdata", str(fresh), "--username", "postgres", "--encoding", "UTF8"]
        self._run([*initdb, "--locale", "C", "--auth", "reject", "--data-checksums", "--no-instructions"])
        statements = f"CREATE ROLE {NAME} LOGIN PASSWORD '{password}';\nCREATE DATABASE {NAME} OWNER {NAME};\n"
        single = [str(self.programs / "postgres"), "--single", "-D", str(fresh), "postgres"]
        told = self._run(single, statements)
        if "ERROR" in told:
            raise FigleafError(f"PostgreSQL refuses to make its database: {told.strip().splitlines()[-1]}")
        (fresh / "pg_hba.conf").write_text(f"# type database user method\nlocal {NAME} {NAME} scram-sha-256\n")
        passfile = self.folder / "pgpass"
        passfile.unlink(missing_ok=True)
        passfile.touch(0o600)  # with wider permissions libpq would not read it
        passfile.write_text(f"*:*:{NAME}:{NAME}:{password}\n")
        fresh.rename(data)

    @property
    def _uid(self) -> int:
        return os.geteuid() if self.user is None else pwd.getpwnam(self.user).pw_uid

    @property
    def _socket_folder(self) -> Path:
        """Short, for the path of a socket may have no more than 107 bytes, and the same at every start."""
        digest = hashlib.sha256(os.fsencode(self.folder)).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"figleaf-{digest}"

    def _make_socket_folder(self) -> None:
        folder = self._socket_folder
        try:
            folder.mkdir(0o700)
            self._give(folder)
        except FileExistsError:
            found = folder.lstat()
            if not stat.S_ISDIR(found.st_mode) or found.st_uid != self._uid or found.st_mode & 0o077:
                raise FigleafError(f"{folder}: somebody else made it, though it is for our socket; remove it") from None

    def _give(self, folder: Path) -> None:
        """Make `folder` the property of whom PostgreSQL runs as."""
        if self.user is not None:
            os.chown(folder, self._uid, pwd.getpwnam(self.user).pw_gid)

    def _require_reach(self, folder: Path) -> None:
        if subprocess.run(["test", "-w", str(folder)], check=False, **self._as_user()).returncode:
            raise FigleafError(
                f"{folder}: PostgreSQL must not run as root and runs as {self.user}, who may not enter a folder on the "
                "way there: `chmod o+x` it, point FIGLEAF_HOME elsewhere, or start the server as another user"
            )

    def _run(self, command: list[str], text: str = "") -> str:
        """Run a program of PostgreSQL and give what it prints."""
        done = subprocess.run(
            command,
            input=text,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
            env={**os.environ, "LC_ALL": "C"},
            **self._as_user(),
        )
        if done.returncode:
            raise FigleafError(f"{' '.join(command)} failed: {done.stdout.strip() or f'code {done.returncode}'}")
        return str(done.stdout)

    def _as_user(self) -> dict[str, Any]:
        if self.user is None:
            return {}
        return {"user": self.user, "group": pwd.getpwnam(self.user).pw_gid, "extra_groups": [], "cwd": "/"}


def _programs(version_file: Path) -> Path:
    """The folder of PostgreSQL's programs: of the version that made the data, or else the newest."""
    installed = {folder.parent.name: folder for folder in _DEBIAN.glob("*/bin") if (folder / "initdb").exists()}
    if (elsewhere := shutil.which("initdb")) is not None:
        folder = Path(elsewhere).resolve().parent
        told = subprocess.run([str(folder / "postgres"), "--version"], capture_output=True, text=True, check=False)
        version = told.stdout.split()[2].split(".")[0] if len(told.stdout.split()) > 2 else ""
        installed.setdefault(version, folder)
    if not installed:
        raise FigleafError(_INSTALL)
    if not version_file.exists():
        return installed[max(installed, key=lambda version: int(version) if version.isdigit() else 0)]
    version = version_file.read_text().strip()
    if version not in installed:
        raise FigleafError(
            f"{version_file.parent} was made by PostgreSQL {version}, installed is {', '.join(sorted(installed))}: "
            f"`apt-get install postgresql-{version}`"
        )
    return installed[version]


def _unprivileged_user() -> str | None:
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name).pw_name
        except KeyError:
            continue
    raise FigleafError("PostgreSQL must not run as root, and there is no user postgres: start it as another user")


def _name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"
