"""`figleaf runs`: list runs, mark dead ones, deliver what waits."""

import csv
import sys
from collections.abc import Mapping, Sequence

from figleaf.commands.arguments import parser, print_json, say
from figleaf.config import home

EPILOG = """\
  list   the runs, the latest first, as a table (CSV in a pipe)
  reap   mark as KILLED the runs that say RUNNING but whose process is gone
  sync   deliver metrics and files that could not reach the tracker
"""


def main(arguments: Sequence[str]) -> int:
    """List, reap or sync."""
    known = parser("runs", "The runs in the tracker.", EPILOG)
    known.add_argument("action", choices=("list", "reap", "sync"), nargs="?", default="list")
    known.add_argument("--study", help="only this study's runs (list)")
    known.add_argument("--stale-after", type=float, default=120.0, metavar="SECONDS", help="silence that means death")
    known.add_argument("--uri", help="the tracker; default: SQLite in FIGLEAF_HOME")
    options = known.parse_args(arguments)
    from figleaf.tracking.find import runs, summary
    from figleaf.tracking.reap import reap
    from figleaf.tracking.store import open_store
    from figleaf.tracking.sync import sync_all

    store = open_store(options.uri, home())
    if options.action == "list":
        _table(summary(runs(store, study=options.study)))
        return 0
    if options.action == "reap":
        rows = reap(store, stale_after_s=options.stale_after)
        say(f"{len(rows)} dead runs marked as KILLED; the same `figleaf train` goes on with them")
    else:
        rows = sync_all(store, home() / "runs")
        say(f"{len(rows)} runs had something to deliver")
    for row in rows:
        print_json(row)
    return int(any(row.get("error") for row in rows))


def _table(rows: Sequence[Mapping[str, object]]) -> None:
    if not rows:
        say(f"no runs in {home()} yet; `figleaf train` makes one")
        return
    if not sys.stdout.isatty():
        writer = csv.DictWriter(sys.stdout, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*rows[0])
    for row in rows:
        table.add_row(*(Text(str(value)[:40]) for value in row.values()))
    Console().print(table)
