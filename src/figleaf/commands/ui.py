"""`figleaf ui`: the MLflow pages of the project's store."""

import socket
import time
from collections.abc import Sequence

from figleaf.commands.arguments import parser, say
from figleaf.config import home
from figleaf.files import explained

EPILOG = """\
The pages' server prints into FIGLEAF_HOME/logs/ui-PORT.log. It ends with this command, even when that is killed.
"""
_POLL_S = 0.2


def main(arguments: Sequence[str]) -> int:
    """Serve the pages until interrupted: returns 0 then, and 1 when the server ended by itself."""
    known = parser("ui", "The MLflow pages of the project's store, served on this machine until Ctrl-C.", EPILOG)
    known.add_argument("--host", default="127.0.0.1", help="default 127.0.0.1: this machine only")
    known.add_argument("--port", type=int, default=5000, help="default 5000")
    options = known.parse_args(arguments)
    from figleaf.tracking.leash import Leashed, last_words
    from figleaf.tracking.server import require_free
    from figleaf.tracking.signals import EndingSignals
    from figleaf.tracking.store import open_store, ui_command

    require_free(options.host, options.port)
    command = ui_command(open_store(None, home()), options.host, options.port)
    log = home() / "logs" / f"ui-{options.port}.log"
    with explained(log):
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_bytes(b"")
    signals = EndingSignals()
    signals.raise_exit()
    program = Leashed(command, log=log)
    try:
        say(f"starting the pages of {home()}")
        answers = False
        while program.exitcode is None:
            if not answers and _answers(options.host, options.port):
                answers = True
                say(f"they are at http://{options.host}:{options.port}; Ctrl-C ends them")
            time.sleep(_POLL_S)
        say(f"error: the pages have ended: {last_words(log)} (log: {log})")
        return 1
    except (KeyboardInterrupt, SystemExit):
        say("the pages have ended")
        return 0
    finally:
        program.stop()
        signals.restore()


def _answers(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=1):
            return True
    except OSError:
        return False
