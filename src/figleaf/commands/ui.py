"""`figleaf ui`: the MLflow pages of the project's store, and links to those that show a study."""

import argparse
import socket
import time
import webbrowser
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from figleaf.commands.arguments import parser, say
from figleaf.config import home
from figleaf.files import explained

if TYPE_CHECKING:
    from figleaf.study.pages import StudyPages
    from figleaf.tracking.store import Store

EPILOG = """\
With the NAME of a study it also says where the study is to be seen: its finished runs in MLflow's list, with the
metrics of its table and what varies between its arms as columns, and side by side on MLflow's page for comparisons (of
a large study, the best run of each arm). MLflow keeps the list as a saved view, "study NAME". Give the overrides of
`figleaf study run`, too. The links of a study that is tracked in a server lead there, and nothing is started here.

The pages' server prints into FIGLEAF_HOME/logs/ui-PORT.log. It ends with this command, even when that is killed.

examples:
  figleaf ui
  figleaf ui demo --open
  figleaf ui mine tracking=server
"""
_POLL_S = 0.2


def main(arguments: Sequence[str]) -> int:
    """Serve the pages until interrupted: returns 0 then, and 1 when the server ended by itself."""
    options = _parser().parse_intermixed_args(arguments)
    from figleaf.tracking.links import pages_address
    from figleaf.tracking.server import address
    from figleaf.tracking.store import open_store

    pages: StudyPages | None = None
    if options.study is None:
        store = open_store(None, home())
    else:
        from figleaf.study.pages import open_pages

        store, pages = open_pages(options.study, options.overrides)
        if elsewhere := pages_address(store.uri):
            _show(pages, elsewhere, in_browser=options.open)
            return 0
    here = address(options.host, options.port)

    def told() -> None:
        say(f"they are at {here}; Ctrl-C ends them")
        _show(pages, here, in_browser=options.open)

    return _serve(store, options.host, options.port, told)


def _parser() -> argparse.ArgumentParser:
    known = parser("ui", "The MLflow pages of the project's store, served on this machine until Ctrl-C.", EPILOG)
    known.add_argument("study", nargs="?", metavar="NAME", help="a study, a folder of experiments/, to link to")
    known.add_argument("overrides", nargs="*", metavar="key=value", help="those that the study was run with")
    known.add_argument("--host", default="127.0.0.1", help="default 127.0.0.1: this machine only")
    known.add_argument("--port", type=int, default=5000, help="default 5000")
    known.add_argument("--open", action="store_true", help="open the pages, or the study's two, in the browser")
    return known


def _serve(store: "Store", host: str, port: int, on_answer: Callable[[], None]) -> int:
    """Serve `store` until interrupted; `on_answer` is called once the pages are there."""
    from figleaf.tracking.leash import Leashed, last_words
    from figleaf.tracking.server import require_free
    from figleaf.tracking.signals import EndingSignals
    from figleaf.tracking.store import ui_command

    require_free(host, port)
    command = ui_command(store, host, port)
    log = home() / "logs" / f"ui-{port}.log"
    with explained(log):
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_bytes(b"")
    signals = EndingSignals()
    signals.raise_exit()
    program = Leashed(command, log=log)
    try:
        say(f"starting the pages of {store.home}")
        answers = False
        while program.exitcode is None:
            if not answers and _answers(host, port):
                answers = True
                on_answer()
            time.sleep(_POLL_S)
        say(f"error: the pages have ended: {last_words(log)} (log: {log})")
        return 1
    except (KeyboardInterrupt, SystemExit):
        say("the pages have ended")
        return 0
    finally:
        program.stop()
        signals.restore()


def _show(pages: "StudyPages | None", address: str, *, in_browser: bool) -> None:
    """Say where a study is to be seen, if one was asked for, and, with `in_browser`, show it there."""
    for line in () if pages is None else pages.lines(address):
        say(line)
    for link in [address] if pages is None else pages.links(address):
        if in_browser and not webbrowser.open(link):
            say("no browser was found on this machine: open the link yourself")
            return


def _answers(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=1):
            return True
    except OSError:
        return False
