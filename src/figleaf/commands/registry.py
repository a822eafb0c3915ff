"""`figleaf registry`: named models with versions, one of which is the champion, in the tracker's model registry."""

import argparse
import math
import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from figleaf.commands.arguments import parser, print_json, print_table, say
from figleaf.config import TrackingConfig, home
from figleaf.errors import FigleafError

if TYPE_CHECKING:
    from figleaf.tracking.find import FoundRun
    from figleaf.tracking.registry import Version
    from figleaf.tracking.store import Store

EPILOG = """\
  add      an exported folder, or a run, as the next version of a registered model
  list     the registered models with their versions; what `figleaf registry` alone does
  promote  give a version the alias `champion`, once it is shown to be no worse than the present one

`figleaf registry ACTION --help` tells more.
"""
ADD = """\
Registers what `figleaf export` wrote (its model.onnx), or exports the best checkpoint of a run first. The file must be
what the folder's SHA256SUMS says, and answer as the run's checkpoint does where the run is in this tracker. It becomes
the next version of NAME; a file that is there already keeps its version. Nothing becomes champion by being added.

MLflow serves a version as it is, without pickle and without figleaf: the modules that it needs are in it. A request is
a table with the column `image`: base64 or bytes of a picture's file. Each row has an answer: label, score, flagged, the
probability of each class, or an error.

examples:
  figleaf registry add export/demo --name vgg-sfw
  figleaf registry add best:demo --name vgg-sfw
  figleaf export run=best:demo register=vgg-sfw
"""
LIST = """\
Every version, the latest first: its aliases, its run, its test AUROC and what came of promoting it. A table where a
person looks, CSV in a pipe.

examples:
  figleaf registry list
  figleaf registry list vgg-sfw > versions.csv
"""
PROMOTE = """\
The version (VERSION, or the latest) becomes champion only when it is shown to be no worse than the present one: on the
same frozen test split (same data hash, same samples and truth; otherwise it is refused), both 95 % intervals of the
difference in AUROC, DeLong's of groups and the bootstrap's over groups, must stay above -MARGIN. The predictions are
those of the versions' runs. When the test set is too small to show it, it is refused, too. A model's first champion has
nothing to be compared with.

The default margin, 0.01, is about what training the same recipe with another seed changes; a smaller one asks for a
larger test set. --new-training-data allows another data hash as long as the samples of the test split are the same, for
a data set that has grown in train. --force REASON sets the alias whatever the test says.

Whatever is done is recorded: as tags figleaf.promotion.* of the version (those of the last attempt), and as a line of
its description. The exit code is 1 when it was refused.

examples:
  figleaf registry promote vgg-sfw
  figleaf registry promote vgg-sfw@3 --margin 0.005
  figleaf registry promote vgg-sfw@1 --force 'back to the first: the second is slow'
  figleaf predict photos/ --model models:/vgg-sfw@champion
"""


def main(arguments: Sequence[str]) -> int:
    """Add, list or promote."""
    options = _parser().parse_args(list(arguments) or ["list"])
    if options.action == "promote":
        from figleaf.evaluate.non_inferiority import MARGIN

        options.margin = MARGIN if options.margin is None else options.margin
        if not 0 <= options.margin < 1:
            raise FigleafError(f"--margin {options.margin:g}: expected 0 <= MARGIN < 1, in AUROC")
        if options.force is not None and not options.force.strip():
            raise FigleafError("--force: expected the reason, which is recorded")
    from figleaf.tracking.store import open_store

    store = open_store(options.uri, home())
    return {"add": _add, "list": _list, "promote": _promote}[options.action](options, store)


def _parser() -> argparse.ArgumentParser:
    known = parser("registry", "Registered models: versions, and which of them is the champion.", EPILOG)
    actions = known.add_subparsers(dest="action", required=True, metavar="add|list|promote")
    made = {
        name: actions.add_parser(name, description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
        for name, text in (("add", ADD), ("list", LIST), ("promote", PROMOTE))
    }
    made["add"].add_argument("source", metavar="FOLDER|RUN", help="of `figleaf export`; or a run by any of its names")
    made["add"].add_argument("--name", required=True, help="of the registered model")
    made["add"].add_argument(
        "--format", choices=("onnx", "safetensors"), default="onnx", help="the file to register; default onnx"
    )
    made["list"].add_argument("name", nargs="?", help="only this model's versions")
    made["promote"].add_argument("version", metavar="NAME[@VERSION]", help="default: the latest version")
    made["promote"].add_argument("--margin", type=float, metavar="X", help="of AUROC; default 0.01")
    made["promote"].add_argument("--split", default="test", help="default test")
    made["promote"].add_argument(
        "--new-training-data", action="store_true", help="only the test split must be the same"
    )
    made["promote"].add_argument("--force", metavar="REASON", help="promote whatever the test says; recorded")
    for action in made.values():
        action.add_argument("--uri", help="the tracker; default: SQLite in FIGLEAF_HOME")
    return known


def _add(options: argparse.Namespace, store: "Store") -> int:
    from figleaf.commands.registering import register, register_run
    from figleaf.commands.run_names import named_run

    folder = Path(options.source).expanduser()
    if folder.is_dir():
        version, is_new = register(folder, options.name, store, options.format)
    elif folder.exists():
        raise FigleafError(f"{options.source}: a file; name the folder of `figleaf export` that it is in, or a run")
    else:
        run = named_run(options.source, TrackingConfig(uri=options.uri))
        version, is_new = register_run(run, options.name, store, options.format)
    told(version, is_new)
    print_json({"name": version.name, "version": version.number, "uri": version.uri, "new": is_new})
    return 0


def told(version: "Version", is_new: bool) -> None:
    """Say what became of a file that was to be registered."""
    say(f"{version.uri}: {'registered' if is_new else 'this very file is there already'}")
    if not version.run_id:
        say(f"its run {version.tags.get('figleaf.run_id', '')} is not in this tracker, so it cannot be tested against")


def _list(options: argparse.Namespace, store: "Store") -> int:
    from figleaf.tracking.find import runs
    from figleaf.tracking.registry import versions

    found = versions(store, options.name)
    by_id = {run.run_id: run for run in runs(store)} if found else {}
    if not found:
        say(f"no registered models in {home()} yet; `figleaf registry add` makes one")
    else:
        print_table([_row(version, by_id.get(version.run_id)) for version in found])
    return 0


def _row(version: "Version", run: "FoundRun | None") -> dict[str, object]:
    from figleaf.commands.promotion import TAG

    auroc = math.nan if run is None else run.metrics.get("test/auroc", math.nan)
    return {
        "name": version.name,
        "version": version.number,
        "aliases": " ".join(version.aliases),
        "run": version.tags.get("figleaf.run_id", "")[:12] if run is None else run.name,
        "test_auroc": "" if math.isnan(auroc) else f"{auroc:.4f}",
        "promotion": version.tags.get(f"{TAG}outcome", ""),
        "against": version.tags.get(f"{TAG}against", ""),
        "file": version.tags.get("figleaf.file", ""),
        "added": time.strftime("%Y-%m-%d %H:%M", time.gmtime(version.created_ms / 1000)),
    }


def _promote(options: argparse.Namespace, store: "Store") -> int:
    from figleaf.commands.promotion import Terms, attempted, now, report, said, tags
    from figleaf.tracking.registry import champion, find_version, make_champion, note
    from figleaf.tracking.store import shown

    terms = Terms(options.split, options.margin, options.new_training_data, options.force)
    challenger = find_version(store, options.version)
    present = champion(store, challenger.name)
    if present is not None and present.number == challenger.number:
        say(f"{challenger.uri} is the champion already")
        print_json({"name": challenger.name, "version": challenger.number, "outcome": "unchanged"})
        return 0
    attempt = attempted(store, challenger, present, terms)
    if attempt.is_promoted:
        make_champion(store, challenger, present)
    note(store, challenger, tags(attempt, terms), f"{now()}: {' '.join(said(attempt, terms).split())}")
    if attempt.is_promoted and present is not None:
        succeeded = {"figleaf.succeeded_by": str(challenger.number)}
        note(store, present, succeeded, f"{now()}: succeeded by version {challenger.number}")
    say(f"{challenger.uri}: {said(attempt, terms)}")
    if attempt.is_promoted:
        at = shlex.quote(shown(store.uri))
        say(f"MLFLOW_TRACKING_URI={at} mlflow models serve -m models:/{challenger.name}@champion --env-manager local")
    else:
        say("it was not promoted; --force REASON does it whatever the test says, and records why")
    print_json(report(challenger, attempt))
    return int(not attempt.is_promoted)
