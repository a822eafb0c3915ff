"""`figleaf search`: let a sampler propose settings, train them, give up the hopeless ones, name the best."""

import os
from collections.abc import Sequence

from figleaf.commands.arguments import parse_mixed, parser

EPILOG = """\
A search is a section of a study, experiments/NAME/study.yaml:

  search:
    space:                                        # any key of `figleaf train`
      optimizer.lr: {low: 1.0e-4, high: 1.0e-1, log: true}
      model.dropout: {low: 0.0, high: 0.7, step: 0.1}
      optimizer.batch_size: [16, 32, 64]          # choices; presets, too: augment: [default, pca]
    metric: val/auroc      # of val, never test; default: the study's select
    mode: max              # default: by the metric
    arm: vgg16_bn          # whose overrides to start from; default: only the study's base
    sampler: tpe           # tpe (default), random, grid (every choice and step), cmaes (numbers only)
    pruner: median         # none (default), median, hyperband: gives up trials that do worse than others did
    trials: 20             # the default; grid: every combination
    startup: 5             # trials before tpe and cmaes learn and median gives up others
    warmup: 1              # epochs that every trial gets
    seed: 0                # the sampler's; trials train with the study's first seed

Each trial is a run of its own, a child of the search's run in the tracker. A trial that is given up says KILLED, with
the tag figleaf.pruned=true; its last epoch counts as its value. Settings that come up twice are trained once.

Given again after Ctrl-C, SIGKILL or a power cut, the command goes on up to the number of trials: interrupted ones
continue in their own run. Give it several times, on one machine or on many with one --storage, and the drivers share
the trials; those of a driver that dies are taken up by the others. A changed space, metric, base or data begins anew,
with the runs of equal settings used again.

On standard output: the best trial with its overrides and the whole command, what all trials cost, and what another
search of as many could be expected to find (Dodge et al. 2019; for random and grid, whose trials do not learn from each
other); one JSON object in a pipe. The page experiments/NAME/results/search/README.md shows it with Optuna's history and
importance; every trial is in trials.csv beside it. The best of many trials looks better on val than it is: make it an
arm and let `figleaf study run NAME` train it with every seed.

examples:
  figleaf search search_digits                        two trials at a time on the CPU
  figleaf search search_digits --trials 40            twenty more
  figleaf search search_digits --report               what there is, without training
  figleaf search mine --storage /nfs/team/mine.log    one journal file for drivers on several machines
  figleaf search mine --storage postgresql://me:secret@db/optuna
"""


def main(arguments: Sequence[str]) -> int:
    """Search."""
    known = parser("search", "Search a study's settings with Optuna.", EPILOG.replace("%", "%%"))
    known.add_argument("name", metavar="NAME", help="a folder of experiments/ whose study.yaml has a section search:")
    known.add_argument("overrides", nargs="*", metavar="key=value", help="for every trial: any key of `figleaf train`")
    known.add_argument("--jobs", type=int, help="trials at a time; default: two on the CPU, one on a GPU")
    known.add_argument("--trials", type=int, help="how many trials there are to be in all; default: the study's")
    known.add_argument(
        "--storage",
        default=os.environ.get("OPTUNA_STORAGE"),
        metavar="FILE|URL",
        help="a journal file, local or on NFS, or postgresql://...; default: OPTUNA_STORAGE, a good place for a "
        "password, else a file in FIGLEAF_HOME/searches",
    )
    known.add_argument("--retry-failed", action="store_true", help="train those that failed once more")
    known.add_argument("--report", action="store_true", help="train nothing; print and write what was found so far")
    options = parse_mixed(known, arguments)
    from figleaf.study.search import commands

    return commands.search(
        options.name,
        jobs=options.jobs,
        trials=options.trials,
        storage=options.storage,
        retry_failed=options.retry_failed,
        report=options.report,
        overrides=options.overrides,
    )
