"""`figleaf explain-run`: where a run came from, and whether it comes out again."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from figleaf.commands.arguments import parser, print_json, say
from figleaf.config import TrackingConfig, home
from figleaf.errors import FigleafError

if TYPE_CHECKING:
    from figleaf.tracking.find import FoundRun
    from figleaf.train.origin import Origin, Today
    from figleaf.train.rerun import Repetition

EPILOG = """\
Prints the command that gives the run's configuration, its commit and uncommitted changes, its data, its machine, and
what of the environment is different today. With --rerun it trains the run again, in a home of its own below
FIGLEAF_HOME/reruns, and compares every value of every metric; those of clocks (time/*) are exempt. The exit code is 1
when a value or the data differs.

--rerun takes today's code and says so where that is another. --worktree takes the run's own: its commit with its
changes applied, in a temporary git worktree, with this interpreter and its packages. It runs what the run's patch says:
of a run that somebody else exported, read the patch first (--diff).

examples:
  figleaf explain-run latest
  figleaf explain-run best:demo --diff
  figleaf explain-run 3f2a --rerun --worktree
"""
_LONGEST_DIFF = 200  # lines shown without --diff
_LISTED_FILES = 5


def main(arguments: Sequence[str]) -> int:
    """Explain a run, and train it again if asked; 1 when that gives something else."""
    known = parser("explain-run", "Where a run came from, and whether it comes out again.", EPILOG)
    known.add_argument("run", metavar="RUN", help="an id, a name, <study>/<arm>-<seed>, latest, best:<study>[:<arm>]")
    known.add_argument("--diff", action="store_true", help="all uncommitted changes, however long")
    known.add_argument("--rerun", action="store_true", help="train it again and compare")
    known.add_argument("--worktree", action="store_true", help="with --rerun: with the code of the run")
    known.add_argument(
        "--tolerance", type=float, default=0.0, metavar="X", help="difference that counts as none; default 0"
    )
    known.add_argument("--format", choices=("text", "json"), default="text", help="default text")
    known.add_argument("--uri", help="the tracker; default: SQLite in FIGLEAF_HOME")
    options = known.parse_args(arguments)
    if options.worktree and not options.rerun:
        raise FigleafError("--worktree: says what --rerun runs; pass both")
    if not options.tolerance >= 0:
        raise FigleafError(f"--tolerance {options.tolerance}: expected at least 0")
    from figleaf.commands.run_names import named_run
    from figleaf.train.origin import Origin, Today

    run = named_run(options.run, TrackingConfig(uri=options.uri))
    origin = Origin.of(run)
    today = Today.against(origin)
    told = _explanation(run, origin, today)
    if options.format == "text":
        _print(told, origin, whole_diff=options.diff)
    repetition = _repeated(run, origin, today, options.worktree, options.tolerance) if options.rerun else None
    if repetition is not None:
        told["rerun"] = _compared(run, repetition)
    if options.format == "json":
        print_json(told)
    elif repetition is not None:
        _print_comparison(run, repetition)
    return int(repetition is not None and not told["rerun"]["is_same"])


def _explanation(run: "FoundRun", origin: "Origin", today: "Today") -> dict[str, Any]:
    from figleaf.commands.train_arguments import train_command, worker_command

    try:
        command = train_command(origin.config())
    except FigleafError:  # a key that today's schema has no more
        command = None
    return {
        "run_id": run.run_id,
        "name": run.name,
        "status": run.status,
        "study": origin.values.get("study"),
        "arm": origin.values.get("arm"),
        "command": command or worker_command("config.json"),
        "needs_config_file": command is None,
        "config": origin.values,
        "code": {
            "commit": origin.commit,
            "is_dirty": origin.is_dirty,
            "diff": origin.diff,
            "new_files": list(origin.new_files),
            "diff_is_cut": origin.is_cut,
            "today": {"commit": today.commit, "is_dirty": today.is_dirty},
            "is_todays": today.same_code,
        },
        "data": {
            "name": origin.data_name,
            "hash": origin.data_hash,
            "weights_sha256": origin.weights_sha256,
            "teacher_sha256": origin.teacher_sha256,
        },
        "weights": {
            "run_id": origin.weights_run_id,
            "compression": json.loads(origin.weights_compression or "[]"),
        },
        "machine": origin.hardware,
        "differences": {
            "platform": today.platform,
            "packages": {name: list(pair) for name, pair in today.packages.items()},
            "machine": {name: list(pair) for name, pair in today.hardware.items()},
        },
    }


def _print(told: dict[str, Any], origin: "Origin", *, whole_diff: bool) -> None:
    code, differences = told["code"], told["differences"]
    lines = [f"run       {told['run_id']}  {told['name']}  {told['status']}"]
    if told["study"]:
        lines.append(f"study     {told['study']}, arm {told['arm']}")
    lines.append(f"command   {told['command']}")
    if told["needs_config_file"]:
        lines.append("          config.json is the run's artifact; today's presets do not give this configuration")
    changed = " with uncommitted changes" if code["is_dirty"] else ""
    now = "the code is the same today" if code["is_todays"] else f"today {code['today']['commit']}"
    now += " with uncommitted changes" if code["today"]["is_dirty"] else ""
    lines.append(f"commit    {code['commit']}{changed}; {now}")
    lines.append(f"data      {told['data']['name']}, hash {told['data']['hash']}")
    if told["data"]["weights_sha256"]:
        lines.append(f"weights   SHA-256 {told['data']['weights_sha256']}")
        if told["weights"]["run_id"]:
            steps = ", then ".join(step["step"] for step in told["weights"]["compression"])
            lines.append(f"          of run {told['weights']['run_id']}{f', compressed by {steps}' if steps else ''}")
    if told["data"]["teacher_sha256"]:
        lines.append(f"teacher   SHA-256 {told['data']['teacher_sha256']}")
    lines.append(f"machine   {', '.join(f'{key} {value}' for key, value in told['machine'].items())}")
    lines += [f"          {key}: then {then}, now {now_}" for key, (then, now_) in differences["machine"].items()]
    lines.append(
        f"packages  {len(differences['packages'])} differ today" if differences["packages"] else "packages  as today"
    )
    if differences["platform"]:
        lines.append(f"          then {differences['platform'][0]}\n          now  {differences['platform'][1]}")
    lines += [
        f"          {name}: then {then or 'none'}, now {now_ or 'none'}"
        for name, (then, now_) in differences["packages"].items()
    ]
    if origin.new_files:
        more = len(origin.new_files) - _LISTED_FILES
        names = ", ".join(origin.new_files[:_LISTED_FILES]) + (f" and {more} more" if more > 0 else "")
        lines.append(f"new files {names}: their content was not kept")
    patch = origin.diff.splitlines()
    if patch and (whole_diff or len(patch) <= _LONGEST_DIFF):
        lines += ["changes", *patch]
    elif patch:
        files = [line.split(" b/")[-1] for line in patch if line.startswith("diff --git ")]
        lines += [f"changes   {len(patch)} lines, --diff shows them: {', '.join(files)}"]
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()


def _repeated(run: "FoundRun", origin: "Origin", today: "Today", own_code: bool, tolerance: float) -> "Repetition":
    import figleaf
    from figleaf.tracking.signals import EndingSignals
    from figleaf.train.rerun import new_home, repeat, repository_of, worktree

    folder = new_home(home() / "reruns", run)
    signals = EndingSignals()
    signals.raise_exit()  # so that nothing is left behind when this is ended
    try:
        if own_code:
            if origin.new_files:
                say(f"the worktree goes without {len(origin.new_files)} new files, whose content was not kept")
            with worktree(repository_of(Path(figleaf.__file__)), origin) as source:
                say(f"training again with the code of commit {origin.commit[:10]} in {folder}")
                return repeat(run, origin, folder, source=source, tolerance=tolerance)
        if not today.same_code:
            say("the run had other code than today's, or either is not committed; --worktree takes the run's")
        say(f"training again in {folder}")
        return repeat(run, origin, folder, tolerance=tolerance)
    finally:
        signals.restore()


def _compared(run: "FoundRun", repetition: "Repetition") -> dict[str, Any]:
    same_data = repetition.data_hash == run.tags.get("figleaf.data_hash", "")
    return {
        "is_same": same_data and not repetition.changes,
        "home": str(repetition.home),
        "run_id": repetition.run.run_id,
        "same_data": same_data,
        "values_compared": repetition.n_values,
        "changes": [
            {"key": change.key, "step": change.step, "was": _plain(change.was), "now": _plain(change.now)}
            for change in repetition.changes
        ],
        "new_metrics": list(repetition.new_keys),
    }


def _print_comparison(run: "FoundRun", repetition: "Repetition") -> None:
    told = _compared(run, repetition)
    lines = []
    if not told["same_data"]:
        lines.append(f"the data is another: hash {run.tags.get('figleaf.data_hash')} then, {repetition.data_hash} now")
    for change in repetition.changes:
        lines.append(f"differs   {change.key} at step {change.step}: then {change.was!r}, now {change.now!r}")
    if told["new_metrics"]:
        lines.append(f"new       {', '.join(told['new_metrics'])}")
    counted = f"{repetition.n_values} values compared, {len(repetition.changes)} metrics differ"
    lines.append(f"rerun     {counted}; clocks (time/*) are exempt")
    sys.stdout.write("\n".join(lines) + "\n")


def _plain(value: float | None) -> float | str | None:
    return value if value is None or value - value == 0 else str(value)
