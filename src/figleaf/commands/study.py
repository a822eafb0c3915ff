"""`figleaf study`: run what is missing of a study; show its status or its table."""

from collections.abc import Sequence
from pathlib import Path

from figleaf.commands.arguments import parse_mixed, parser

EPILOG = """\
A study is a folder experiments/NAME with a study.yaml: question, arms, seeds, table. Running it again does only what
is missing; interrupted trials go on where they stopped, failed ones are tried again.

examples:
  figleaf study run demo                    two trials at a time on the CPU
  figleaf study run demo --jobs 1 --arm vgg16_bn
  figleaf study status demo
  figleaf study table demo                  Markdown on standard output; writes experiments/demo/results and README.md
  figleaf study table demo --format latex csv --check

Overrides (key=value) come after those of the study's arms and make other runs than those without them.
"""


def main(arguments: Sequence[str]) -> int:
    """Run, status or table."""
    known = parser("study", "Run a study's missing trials; show its status or table.", EPILOG)
    actions = known.add_subparsers(dest="action", required=True, metavar="run|status|table")
    shared = {name: actions.add_parser(name) for name in ("run", "status", "table")}
    for action in shared.values():
        action.add_argument("name", metavar="NAME", help="a folder of experiments/")
        action.add_argument("overrides", nargs="*", metavar="key=value")
    shared["run"].add_argument("--jobs", type=int, help="trials at a time; default: two on the CPU, one on a GPU")
    shared["run"].add_argument("--arm", action="append", default=[], help="only this arm; may be repeated")
    shared["run"].add_argument(
        "--stale", choices=("keep", "rerun", "refuse"), default="keep", help="finished runs of another commit"
    )
    shared["run"].add_argument(
        "--records",
        choices=("use", "ignore"),
        default="use",
        help="trials recorded in experiments/NAME/results count as done (use), or are trained here (ignore)",
    )
    shared["table"].add_argument("--format", nargs="+", default=["markdown"], metavar="FORMAT")
    shared["table"].add_argument("--check", action="store_true", help="exit code 1 when expected.yaml is not met")
    shared["table"].add_argument("--no-write", action="store_true", help="print only; leave the results folder alone")
    shared["table"].add_argument(
        "--into", type=Path, metavar="FILE.md", help="also put the table between its marks there"
    )
    options = parse_mixed(known, arguments)
    from figleaf.study import commands

    if options.action == "run":
        return commands.run(
            options.name,
            jobs=options.jobs,
            stale=options.stale,
            arms=options.arm,
            use_records=options.records == "use",
            overrides=options.overrides,
        )
    if options.action == "status":
        return commands.status(options.name, overrides=options.overrides)
    return commands.table(
        options.name,
        formats=options.format,
        check=options.check,
        write=not options.no_write,
        into=options.into,
        overrides=options.overrides,
    )
