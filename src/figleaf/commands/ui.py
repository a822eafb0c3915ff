"""`figleaf ui`: the MLflow pages of the project's store."""

import socket
import subprocess
from collections.abc import Sequence

from figleaf.commands.arguments import parser, say
from figleaf.config import home
from figleaf.errors import FigleafError


def main(arguments: Sequence[str]) -> int:
    """Serve the pages until interrupted."""
    known = parser("ui", "The MLflow pages of the project's store, served on this machine until Ctrl-C.")
    known.add_argument("--host", default="127.0.0.1", help="default 127.0.0.1: this machine only")
    known.add_argument("--port", type=int, default=5000)
    options = known.parse_args(arguments)
    from figleaf.tracking.store import open_store, ui_command

    _require_free(options.host, options.port)
    command = ui_command(open_store(None, home()), options.host, options.port)
    say(f"the runs of {home()} at http://{options.host}:{options.port}")
    return subprocess.run(command, check=False).returncode


def _require_free(host: str, port: int) -> None:
    """The server itself would report a port in use with a traceback and exit code 0."""
    try:
        with socket.create_server((host, port)):
            pass
    except (OSError, OverflowError) as error:
        raise FigleafError(f"port={port}: cannot serve on {host} ({error}); pass another --port") from error
