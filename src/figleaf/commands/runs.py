"""`figleaf runs`: list runs, mark dead ones, deliver what waits, move them between trackers."""

import argparse
from collections.abc import Sequence

from figleaf.commands.arguments import parser, print_json, print_table, say
from figleaf.config import home
from figleaf.errors import FigleafError

EPILOG = """\
  list     the runs, the latest first, as a table (CSV in a pipe); what `figleaf runs` alone does
  reap     mark as KILLED the runs that say RUNNING but whose process is gone
  sync     deliver metrics and files that could not reach the tracker
  export   write runs, with all they hold, into a folder
  import   bring such a folder's runs into a tracker, each once

`figleaf runs ACTION --help` tells more.
"""
LIST = """\
Every run with its status, study, arm, seed, selection value (val) and folder, the latest first: a table where a person
looks, CSV in a pipe.

examples:
  figleaf runs list --study demo
  figleaf runs list > runs.csv
"""
REAP = """\
A run that was killed without a word (SIGKILL, a power cut) still says RUNNING. This marks it as KILLED, at the time of
its last sign of life; the `figleaf train` or `figleaf study run` that started it goes on with it. A run whose process
lives on this machine is left alone however long it was silent. On standard output: one JSON object a run marked.
"""
SYNC = """\
A training never waits for its tracker: what cannot be delivered stays in the run's folder. This delivers it, for every
run in FIGLEAF_HOME that has ended; it is safe to repeat. On standard output: one JSON object a run that had
something to deliver. The exit code is 1 when something still waits.
"""


def main(arguments: Sequence[str]) -> int:
    """List, reap, sync, export or import."""
    if arguments[:1] in (["export"], ["import"]):
        from figleaf.commands import transfer

        return (transfer.export if arguments[0] == "export" else transfer.bring_in)(arguments[1:])
    options = _parser().parse_args(_with_action(arguments))
    from figleaf.tracking.find import runs, studies, summary
    from figleaf.tracking.reap import reap
    from figleaf.tracking.store import open_store
    from figleaf.tracking.sync import sync_all

    store = open_store(options.uri, home())
    if options.action == "list":
        found = runs(store, study=options.study)
        if options.study is not None and not found:
            known = ", ".join(studies(store)) or "none"
            raise FigleafError(f"--study {options.study}: no run has that study; studies with runs: {known}")
        if not found:
            say(f"no runs in {home()} yet; `figleaf train` makes one")
        print_table(summary(found))
        return 0
    if options.action == "reap":
        rows = reap(store, stale_after_s=options.stale_after)
        say(f"{len(rows)} dead runs marked as KILLED; the same `figleaf train` goes on with them")
    else:
        rows = sync_all(store, home())
        say(f"{len(rows)} runs had something to deliver")
    for row in rows:
        print_json(row)
    return int(any(row.get("error") for row in rows))


def _parser() -> argparse.ArgumentParser:
    known = parser("runs", "The runs in the tracker.", EPILOG)
    actions = known.add_subparsers(dest="action", required=True, metavar="list|reap|sync|export|import")
    of_action = {
        name: actions.add_parser(name, description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
        for name, text in (("list", LIST), ("reap", REAP), ("sync", SYNC))
    }
    for name in ("export", "import"):  # for the list of choices: they take their arguments themselves
        actions.add_parser(name, add_help=False)
    of_action["list"].add_argument("--study", metavar="NAME", help="only this study's runs")
    of_action["reap"].add_argument(
        "--stale-after", type=float, default=120.0, metavar="SECONDS", help="silence that means death; default 120"
    )
    for action in of_action.values():
        action.add_argument("--uri", help="the tracker; default: SQLite in FIGLEAF_HOME")
    return known


def _with_action(arguments: Sequence[str]) -> list[str]:
    """`figleaf runs` alone, or with an option of `list`, lists."""
    alone = not arguments or (arguments[0].startswith("-") and arguments[0] not in ("-h", "--help"))
    return ["list"] * alone + list(arguments)
