"""`figleaf runs export` and `figleaf runs import`: moving runs between trackers."""

from collections.abc import Sequence
from pathlib import Path

from figleaf.commands.arguments import parser, print_json, say
from figleaf.config import TrackingConfig, home
from figleaf.errors import FigleafError

EXPORT = """\
Writes runs into a new folder: parameters, tags, every metric row, artifacts, each with its hash. The folder appears
when it is whole. Children come along with their parent and parents with their children; without RUN and --study, all
runs. On standard output: one JSON object a run.

examples:
  figleaf runs export best:demo out=moved
  figleaf runs export --study demo out=moved
  rsync -a moved/ laptop:moved/ && ssh laptop figleaf runs import moved
"""
IMPORT = """\
Brings exported runs into the tracker. The folder is checked first: a file that is missing or changed, or that lies
outside of it, refuses it whole. Importing again, after an interruption or with later exports, makes nothing double: a
run is known by the id it was born with, which the tag figleaf.imported_from holds. On standard output: one JSON object
a run with its action: imported, completed (it was here in part), unchanged, original (it was born here).

examples:
  figleaf runs import moved
  figleaf runs import moved --uri http://127.0.0.1:5000
"""


def export(arguments: Sequence[str]) -> int:
    """Write runs into a folder."""
    known = parser("runs export", EXPORT)
    known.add_argument(
        "runs", nargs="*", metavar="RUN", help="an id, a name, <study>/<arm>-<seed>, latest, best:<study>[:<arm>]"
    )
    known.add_argument("out", metavar="out=FOLDER", nargs="?", help="a new folder")
    known.add_argument("--study", metavar="NAME", help="every run of this study")
    known.add_argument("--uri", help="the tracker to read; default: SQLite in FIGLEAF_HOME")
    options, rest = known.parse_known_args(arguments)
    given = [text for text in (*options.runs, options.out, *rest) if text is not None]
    if unknown := [text for text in given if text.startswith("-")]:
        known.error(f"unrecognized arguments: {' '.join(unknown)}")
    outs = [text.removeprefix("out=") for text in given if text.startswith("out=")]
    if len(outs) != 1 or not outs[0]:
        raise FigleafError("expected out=FOLDER, once: where to put the runs")
    from figleaf.commands.run_names import named_run
    from figleaf.tracking.store import open_store
    from figleaf.tracking.transfer import export_runs

    folder, store = Path(outs[0]).expanduser(), open_store(options.uri, home())
    tracking = TrackingConfig(uri=options.uri)
    chosen = [named_run(text, tracking) for text in given if not text.startswith("out=")]
    rows = export_runs(store, folder, chosen, study=options.study)
    for row in rows:
        print_json(row)
    say(f"{len(rows)} runs in {folder}; `figleaf runs import {folder}` brings them into another tracker")
    return 0


def bring_in(arguments: Sequence[str]) -> int:
    """Import runs from a folder."""
    known = parser("runs import", IMPORT)
    known.add_argument("folder", metavar="FOLDER", help="what `figleaf runs export` wrote")
    known.add_argument("--uri", help="the tracker to write; default: SQLite in FIGLEAF_HOME")
    options = known.parse_args(arguments)
    from figleaf.tracking.store import open_store
    from figleaf.tracking.transfer import import_runs

    rows = import_runs(open_store(options.uri, home()), Path(options.folder).expanduser())
    for row in rows:
        print_json(row)
    new = sum(row["action"] in ("imported", "completed") for row in rows)
    say(f"{new} runs imported, {len(rows) - new} were here")
    return 0
