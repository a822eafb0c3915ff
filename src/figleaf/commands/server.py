"""`figleaf server`: a tracker for a team, MLflow with PostgreSQL, on this machine."""

import time
from collections.abc import Sequence
from ipaddress import ip_address

from figleaf.commands.arguments import parser, say
from figleaf.config import home

EPILOG = """\
Everything lies in FIGLEAF_HOME/server: postgres/ (the database), artifacts/ (files, which clients send and get through
the server), logs/, pgpass (the database's password). Started again, it serves the same runs. Ctrl-C or SIGTERM ends it;
it ends, too, when this process is killed. PostgreSQL comes from the system: `apt-get install postgresql`. It listens on
a socket in a private folder, on no port. Back up the folder while the server is off.

MLflow asks nobody for a password: who reaches the port reads and writes all runs. So it serves this machine alone
unless --host says otherwise; reach it from elsewhere through `ssh -L 5000:127.0.0.1:5000 HOST`.

use it:
  export MLFLOW_TRACKING_URI=http://127.0.0.1:5000
  figleaf train tracking=server
  figleaf study run demo tracking=server
"""


def main(arguments: Sequence[str]) -> int:
    """Serve until told to end."""
    known = parser("server", "MLflow with PostgreSQL behind it and an artifact folder, on this machine.", EPILOG)
    known.add_argument("--host", default="127.0.0.1", help="default 127.0.0.1: this machine only")
    known.add_argument("--port", type=int, default=5000, help="default 5000")
    known.add_argument("--workers", type=int, default=2, help="MLflow's processes; default 2")
    known.add_argument("--allowed-hosts", metavar="NAMES", help="names, with commas, by which browsers may call it")
    known.add_argument("--upgrade", action="store_true", help="bring the tables to the installed MLflow's version")
    options = known.parse_args(arguments)
    if options.workers < 1:
        known.error(f"--workers {options.workers}: expected at least 1")
    from figleaf.tracking.server import serving
    from figleaf.tracking.signals import EndingSignals

    folder = home() / "server"
    if not _is_loopback(options.host):
        say(f"{options.host}: MLflow asks for no password; whoever reaches port {options.port} reads and writes all")
    signals = EndingSignals()
    signals.raise_exit()
    try:
        with serving(
            folder,
            host=options.host,
            port=options.port,
            workers=options.workers,
            allowed_hosts=options.allowed_hosts,
            upgrade=options.upgrade,
        ) as server:
            say(f"{server.url} serves the runs in {folder}; Ctrl-C ends it\n  export MLFLOW_TRACKING_URI={server.url}")
            while not server.failure:
                time.sleep(0.5)
            say(f"error: {server.failure}; started again it serves the same runs")
            return 1
    except (KeyboardInterrupt, SystemExit):
        say("the server has ended")
        return 0
    finally:
        signals.restore()


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
