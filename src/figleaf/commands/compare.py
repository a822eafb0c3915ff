"""`figleaf compare`: what differs between runs, and whether one is worse than it may be."""

import math
import sys
from collections.abc import Sequence

from figleaf.commands.arguments import parser, print_json, say
from figleaf.config import TrackingConfig
from figleaf.errors import FigleafError

FORMATS = ("text", "markdown", "json")
EPILOG = """\
The first run is what the others are compared with: a difference is the other's value less the first's. Shown are the
parameters that differ, the final metrics, and tests on the samples that both were scored on: DeLong's of the AUROC,
McNemar's of the decisions at each run's own threshold, and bootstrap intervals over groups. They compare these runs as
fixed models; whether a setting is better takes several seeds, see `figleaf study table`. Runs that were measured on
different samples are not tested, and the report says why. Runs of a server are compared on its pages, too: the last
line is the link.

In continuous integration, --tolerance KEY=X makes the exit code 1 when a later run is worse than the first by more than
X in that metric (less AUROC, more loss or seconds); 0 when all are met, 2 when there is nothing to judge: an unknown
metric, or val and test metrics of different samples.

examples:
  figleaf compare latest best:demo
  figleaf compare 3f2a 77b1 --format markdown > comparison.md
  figleaf compare quick/plain-1 quick/dropout-1            trials by the names that `figleaf study status` gives
  figleaf compare best:demo latest --tolerance test/auroc=0.005 --tolerance time/train_seconds=60
  figleaf compare A B C --metrics 'test/*' --format json | jq '.metrics[] | select(.key == "test/auroc")'
"""


def main(arguments: Sequence[str]) -> int:
    """Compare runs; 1 when a tolerance is not met."""
    known = parser("compare", "What differs between runs: parameters, metrics, paired tests.", EPILOG)
    known.add_argument(
        "runs", nargs="+", metavar="RUN", help="an id, a name, <study>/<arm>-<seed>, latest, best:<study>[:<arm>]"
    )
    known.add_argument("--format", choices=FORMATS, default="text", help="default text")
    known.add_argument("--metrics", action="append", default=[], metavar="PATTERN", help="only these, such as 'test/*'")
    known.add_argument("--split", default="test", help="what the tests look at; default test")
    known.add_argument("--resamples", type=int, default=2000, metavar="N", help="of the bootstrap; 0: none")
    known.add_argument("--tolerance", action="append", default=[], metavar="KEY=X", help="how much worse is allowed")
    known.add_argument("--uri", help="the tracker; default: SQLite in FIGLEAF_HOME")
    options = known.parse_intermixed_args(arguments)
    tolerances = [_tolerance(text) for text in options.tolerance]
    if len(options.runs) < 2:
        raise FigleafError(f"compare {' '.join(options.runs)}: expected at least two runs")
    if options.resamples < 0:
        raise FigleafError(f"--resamples {options.resamples}: expected at least 0")
    from figleaf.commands.run_names import named_run
    from figleaf.study.run_comparison import compare_runs, verdicts
    from figleaf.study.run_comparison_text import to_json, to_markdown, to_text
    from figleaf.tracking.links import comparison_address

    tracking = TrackingConfig(uri=options.uri)
    found = [named_run(reference, tracking) for reference in options.runs]
    comparison = compare_runs(found, split=options.split, patterns=options.metrics, resamples=options.resamples)
    judged = verdicts(found, tolerances)
    if options.format == "json":
        print_json(to_json(comparison, judged))
    else:
        sys.stdout.write((to_text if options.format == "text" else to_markdown)(comparison, judged))
    if address := comparison_address(found):
        say(f"in the MLflow UI: {address}")
    missed = [verdict for verdict in judged if not verdict.is_met]
    if missed:
        say(f"{len(missed)} of {len(judged)} tolerances are not met: {', '.join(sorted({v.key for v in missed}))}")
    return int(bool(missed))


def _tolerance(text: str) -> tuple[str, float]:
    key, _, value = text.rpartition("=")
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not key or not 0 <= number < math.inf:
        raise FigleafError(f"--tolerance {text}: expected KEY=X with X at least 0, such as test/auroc=0.005")
    return key, number
