"""`figleaf study`: run what is missing of a study, show its status or its table, reproduce it."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from figleaf.commands.arguments import parse_mixed, parser
from figleaf.config import LaunchConfig, choices, keys_with_defaults
from figleaf.study.spec import FORMATS

EPILOG = """\
  run      train what is missing, several trials at a time, here or as jobs of a SLURM cluster
  status   one line a trial: done, running, interrupted, failed, stale or missing
  table    print the table; write results, figures and page
  reproduce  train it again and compare with what is expected and with the records

A study is a folder experiments/NAME with a study.yaml: question, arms, seeds, table. Running it again does only what
is missing; interrupted trials go on where they stopped, failed ones are tried again.

examples:
  figleaf study run demo                    two trials at a time on the CPU
  figleaf study run demo --jobs 1 --arm vgg16_bn
  figleaf study run demo tracking=server launcher=slurm launcher.partition=gpu
  figleaf study status demo
  figleaf study table demo                  Markdown on standard output; writes experiments/demo/results and README.md
  figleaf study table demo --format latex csv --check

`figleaf study ACTION --help` tells more. Overrides (key=value) come after those of the study's arms and make other runs
than those without them. experiments/ is that of the working folder, else the project's own. A relative path in a study,
such as data.manifest, starts from the folder the command is given in.
"""
RUN = """\
Trains the trials that are not done, each in a process of its own; its output goes to a log in FIGLEAF_HOME/studies.
When one fails the others go on. Ctrl-C stops them all; given again, the command goes on where they stopped. The exit
code is 1 when a trial failed.
"""
JOBS = "trials at a time; default: two on the CPU, one on a GPU, all of them as jobs of a cluster"
ON_A_CLUSTER = """\
on a SLURM cluster:
  export FIGLEAF_HOME=/shared/me/runs MLFLOW_TRACKING_URI=http://tracker:5000
  figleaf study run NAME tracking=server launcher=slurm launcher.partition=gpu launcher.timeout_min=240 --jobs 64

Each trial is a job with a task for each of trainer.devices on each of trainer.num_nodes. FIGLEAF_HOME, the folder the
command is given in and the Python environment must be on a file system that all nodes share. A job whose time is up, or
that makes room for another, is requeued and goes on in the same run; launcher.max_requeues bounds how often. Ctrl-C
and SIGTERM cancel the jobs, and the same command goes on from there. When the command itself is killed or its machine
is lost, the jobs go on without it: given again, it follows those that wait or work, and `figleaf study status NAME`
shows them. It never submits a second job for a trial. launcher.executor=local-process rehearses all of this with
processes of one machine. A search has no jobs: start `figleaf search` on several machines.

conf/launcher/slurm.yaml holds a cluster's settings; a copy of it is a launcher of its own. Keys of a launcher:
"""
STATUS = """\
One line a trial: arm, seed, status, run and, where there is something to say, why. A table where a person looks, CSV in
a pipe. Give the overrides of `figleaf study run`, too. Where a command takes a RUN, NAME/ARM-SEED is a trial's.
"""
TABLE = """\
Prints the table and writes experiments/NAME/results (tables, figures, records of the runs) and README.md, byte for byte
the same each time. The dagger marks the arm with the best mean of the selection metric, a metric of val, among the
candidates whose trials are all done; `best:NAME` is its best run. Give the overrides of `figleaf study run`, too.
"""
REPRODUCE = """\
Trains the study again in FIGLEAF_HOME/reproductions, apart from everything else, and compares the means with
experiments/NAME/expected.yaml and each trial with its record. The exit code is 1 when a figure is off or a trial
failed. Given again after an interruption, it goes on; at another commit it begins anew. A study that measures runs of
another (runs_of) has these trained first, there too.
"""


def main(arguments: Sequence[str]) -> int:
    """Run, status, table or reproduce."""
    known = _parser()
    options = parse_mixed(known, arguments)
    launcher = [text for text in options.overrides if _is_of_launcher(text)]
    overrides = [text for text in options.overrides if not _is_of_launcher(text)]
    if launcher and options.action not in ("run", "reproduce"):
        known.error(f"{launcher[0]}: only `run` and `reproduce` launch anything")
    from figleaf.study import commands

    if options.action == "run":
        return commands.run(
            options.name,
            jobs=options.jobs,
            stale=options.stale,
            arms=options.arm,
            use_records=options.records == "use",
            on_failure=options.on_failure,
            overrides=overrides,
            launcher=launcher,
        )
    if options.action == "status":
        return commands.status(options.name, overrides=overrides)
    if options.action == "reproduce":
        return commands.reproduce(
            options.name,
            jobs=options.jobs,
            arms=options.arm,
            seeds=options.seed,
            overrides=overrides,
            launcher=launcher,
        )
    return commands.table(
        options.name,
        formats=options.format,
        check=options.check,
        write=not options.no_write,
        into=options.into,
        overrides=overrides,
    )


def _is_of_launcher(override: str) -> bool:
    return override.partition("=")[0].lstrip("+~").partition(".")[0] == "launcher"


def _on_a_cluster() -> str:
    presets = ",".join(choices(LaunchConfig)["launcher"])
    keys = "".join(f"  {key}={default}\n" for key, default in keys_with_defaults(LaunchConfig).items())
    return f"{ON_A_CLUSTER}  launcher={{{presets}}}\n{keys}"


def _parser() -> argparse.ArgumentParser:
    known = parser("study", "Run a study's missing trials; show its status or table; reproduce it.", EPILOG)
    actions = known.add_subparsers(dest="action", required=True, metavar="run|status|table|reproduce")
    run, status, table, reproduce = (
        actions.add_parser(name, description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
        for name, text in (("run", RUN), ("status", STATUS), ("table", TABLE), ("reproduce", REPRODUCE))
    )
    run.epilog = _on_a_cluster().replace("%", "%%")
    for action in (run, status, table, reproduce):
        action.add_argument("name", metavar="NAME", help="a folder of experiments/")
        action.add_argument("overrides", nargs="*", metavar="key=value", help="any key of `figleaf train`")
    for action in (run, reproduce):
        action.add_argument("--jobs", type=int, help=JOBS)
        action.add_argument("--arm", action="append", default=[], help="only this arm; may be repeated")
    reproduce.add_argument("--seed", type=int, action="append", default=[], help="only this seed; may be repeated")
    run.add_argument(
        "--on-failure",
        default="continue",
        metavar="continue|stop|retry=N",
        help="when a trial fails: go on with the others (the default), stop, or try it again up to N times",
    )
    run.add_argument(
        "--stale",
        choices=("keep", "rerun", "refuse"),
        default="keep",
        help="finished runs of another commit: use them (keep, the default), train anew, or stop",
    )
    run.add_argument(
        "--records",
        choices=("use", "ignore"),
        default="use",
        help="trials recorded in experiments/NAME/results count as done (use), or are trained here (ignore)",
    )
    table.add_argument(
        "--format",
        nargs="+",
        default=["markdown"],
        metavar="FORMAT",
        help=f"what to print, one or more of {', '.join(FORMATS)}; default markdown",
    )
    table.add_argument("--check", action="store_true", help="exit code 1 when expected.yaml is not met")
    table.add_argument("--no-write", action="store_true", help="print only; leave the results folder alone")
    table.add_argument(
        "--into",
        type=Path,
        metavar="FILE.md",
        help="also put the table into this file, between `<!-- NAME table: begin -->` and `<!-- NAME table: end -->`",
    )
    return known
