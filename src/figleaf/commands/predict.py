"""`figleaf predict`: scores for files, folders and archives, an answer for every file."""

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from figleaf.commands.arguments import parser, say
from figleaf.errors import FigleafError

if TYPE_CHECKING:
    from figleaf.commands.scorers import OpenedScorer
    from figleaf.evaluate.policy import Policy
    from figleaf.serve.items import Item

EPILOG = """\
PATH is a picture, a folder (everything below it), a .zip or .tar archive (its members, nothing is unpacked), a folder
of shards (`figleaf data shard`; its pictures are called SHARD::their own path), or - for a list of paths on standard
input. Every file has exactly one answer: what cannot be read has one that says why; members of one name in an archive
are told apart by #2, #3. Below folders and in archives, names that begin with a dot, Thumbs.db and desktop.ini are left
out; name such a file itself. Addresses are never fetched.

MODEL is an exported file (.onnx needs neither torch nor MLflow), a .safetensors file, or a run by any of its names.

With a policy each answer has an action: block, blur, review or pass. What cannot be read is to be reviewed.

Without --out answers go to standard output as JSON lines, in order. With --out they go to a .jsonl, .csv or .parquet
file; killed, the same command goes on where it was, and a file that has its row is not scored again, changed or not.
FILE.state beside it says of which model the rows are; keep it as long as rows are to be added.

With --ray the machines of a Ray cluster score shards and archives, a whole one each: the same rows in the same order in
one Parquet file. ADDRESS is HOST:PORT, auto (RAY_ADDRESS, or the cluster that this machine belongs to) or local (one is
started here for this command). `pip install 'figleaf[lab,ray]'` in the same version on every machine, and the shards
under the same path. FILE.parts holds each shard's rows until all are there: whatever dies, the same command goes on.

examples:
  figleaf predict photo.jpg --model export/demo/model.onnx
  figleaf predict photos/ archive.zip --model best:demo --out scores.parquet
  figleaf predict photos/ --model model.onnx --policy demo-policy.json --out scores.csv
  figleaf predict shards/ --model export/demo/model.onnx --ray auto --out scores.parquet
  find /photos -name '*.jpg' | figleaf predict - --model model.onnx --threshold 0.9 --out scores.csv
"""


def main(arguments: Sequence[str]) -> int:
    """Predict."""
    known = parser("predict", "Scores for files, folders and archives.", EPILOG)
    known.add_argument("paths", nargs="*", metavar="PATH")
    known.add_argument("--model", metavar="MODEL", help="a file or a run")
    known.add_argument("--out", type=Path, metavar="FILE", help=".jsonl, .csv or .parquet; default: standard output")
    known.add_argument("--threshold", type=float, metavar="T", help="flag from this score on; default: the model's")
    known.add_argument(
        "--policy", type=Path, metavar="FILE", help="of `figleaf calibrate`: what is done with each picture"
    )
    known.add_argument("--batch", type=int, default=32, metavar="N", help="pictures scored at once; default 32")
    known.add_argument("--workers", type=int, metavar="N", help="threads that decode; default: the cores")
    known.add_argument(
        "--ray", metavar="ADDRESS", help="score on a Ray cluster; --workers is then the cores of each worker, default 1"
    )
    options = known.parse_args(arguments)
    if not options.paths or options.model is None:
        known.error("the following arguments are required: " + ("PATH" if not options.paths else "--model"))
    for name in ("batch", "workers"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise FigleafError(f"--{name} {value}: expected at least 1")
    if options.threshold is not None and options.policy is not None:
        raise FigleafError("--threshold and --policy: the policy holds its own thresholds; give one of the two")
    if options.threshold is not None and not 0 <= options.threshold <= 1:
        raise FigleafError(f"--threshold {options.threshold}: expected 0 to 1")
    for path in options.paths:
        if path != "-" and not os.path.lexists(path):
            fetched = "://" in path
            why = (
                "addresses are never fetched; name files, folders or archives" if fetched else "no such file or folder"
            )
            raise FigleafError(f"{path}: {why}")
    if options.ray is not None:
        from figleaf.commands.predict_on_ray import require_for_ray

        require_for_ray(options.ray, options.out, options.paths)
    from figleaf.commands.scorers import open_model, policy_for
    from figleaf.serve.predict import answers
    from figleaf.serve.rows import RowFile
    from figleaf.serve.tables import name_as_text

    opened = open_model(options.model)
    policy = None if options.policy is None else policy_for(opened, options.policy)
    threshold = opened.threshold if options.threshold is None else options.threshold
    if policy is None and threshold is None and opened.scorer.unsafe:
        say(f"{opened.name} holds no threshold: nothing is flagged; --threshold sets one")
    identity = _identity(opened, threshold, policy)
    if options.ray is not None:
        from figleaf.commands.predict_on_ray import predict_on_ray
        from figleaf.serve.ray_predict import Settings

        settings = Settings(threshold, policy, options.batch, options.workers or 1)
        out = options.out.expanduser()
        _say_counts(predict_on_ray(options.paths, out, opened, settings, identity, options.ray, _tracked), out)
        return 0
    counts = {"scored": 0, "flagged": 0, "errors": 0}

    def counted(items: "Iterator[Item]") -> "Iterator[Any]":
        for answer in answers(
            opened.scorer,
            items,
            threshold=threshold,
            policy=policy,
            batch_size=options.batch,
            workers=options.workers,
        ):
            counts["errors" if answer.error else "scored"] += 1
            counts["flagged"] += bool(answer.flagged)
            yield answer

    if options.out is None:
        for answer in _tracked(counted(_items(options.paths))):
            print(json.dumps(answer.row | {"path": name_as_text(answer.path)}), flush=True)
    else:
        with RowFile(options.out.expanduser(), opened.scorer.classes, identity, actions=policy is not None) as file:
            if already := len(file):
                say(f"{already:,} rows are there already")
            for answer in _tracked(counted(file.missing(_items(options.paths)))):
                file.write(answer)
            file.finish()
    _say_counts(counts, options.out)
    return 0


def _say_counts(counts: Mapping[str, int], out: Path | None) -> None:
    say(
        f"{counts['scored']:,} scored, {counts['flagged']:,} flagged, {counts['errors']:,} without a score"
        + ("" if out is None else f"; {out}")
    )


def _identity(opened: "OpenedScorer", threshold: float | None, policy: "Policy | None") -> dict[str, Any]:
    """What the rows of a file are of."""
    identity: dict[str, Any] = {
        "model": opened.identity,
        "threshold": threshold,
        "classes": list(opened.scorer.classes),
    }
    if policy is not None:
        rules = [[rule.action, rule.at_least] for rule in policy.rules]  # not why: a note changes no row
        identity = {**identity, "threshold": None, "policy": {"temperature": policy.temperature, "rules": rules}}
    found: dict[str, Any] = json.loads(json.dumps(identity))  # as it is read again: lists for tuples
    return found


def _items(paths: Sequence[str]) -> "Iterator[Item]":
    from figleaf.serve.items import items_of, paths_from, standard_input

    for path in paths:
        if path == "-":
            with standard_input() as lines:
                yield from items_of(paths_from(lines))
        else:
            yield from items_of([path])


def _tracked(found: "Iterator[Any]", total: int | None = None) -> "Iterator[Any]":
    if not sys.stderr.isatty():
        return found
    from figleaf.progress import track

    return track(found, "scoring", total)
