"""`figleaf evaluate`: predictions and metrics of a run or an exported file, on any manifest."""

import re
from collections.abc import Sequence
from pathlib import Path

from figleaf.commands.arguments import parse_mixed, print_json, require_manifest, say, with_overrides
from figleaf.config import EvaluateConfig, compose, home, to_dict
from figleaf.errors import FigleafError

EPILOG = """\
Prints one JSON object of the metrics and writes the predictions, a row for every sample, unreadable ones included.
The threshold is the one chosen on the run's val split.

examples:
  figleaf evaluate run=latest data=scenes
  figleaf evaluate run=best:demo data=manifest data.manifest=my/manifest.csv split=all
  figleaf evaluate run=export/model.onnx data=manifest data.manifest=my/manifest.csv
"""


def main(arguments: Sequence[str]) -> int:
    """Evaluate."""
    parser = with_overrides("evaluate", "Predictions and metrics of a run or an exported file on any manifest.", EPILOG)
    options = parse_mixed(parser, arguments)
    config: EvaluateConfig = compose("evaluate", options.overrides)
    if options.print_config:
        print_json(to_dict(config))
        return 0
    require_manifest(config.data)
    from figleaf.commands.scorers import open_scorer
    from figleaf.data.cache import data_hash
    from figleaf.evaluate.predictions import predict
    from figleaf.evaluate.report import evaluation_json
    from figleaf.train.inputs import decode_for, read_manifest

    # A file needs no tracker, and the data may be wrong in ways that should be said before a store is opened.
    manifest = read_manifest(config.data, home())
    if config.split != "all":
        manifest = manifest.select(config.split)
    opened = open_scorer(config.run, config.tracking)
    decoded = decode_for(manifest, opened.scorer.input_size, config.data, home())
    digest = data_hash(manifest, decoded.content_sha256)
    found = predict(opened.scorer, manifest, decoded, data_hash=digest, batch_size=config.batch_size)
    name = re.sub(r"[^\w.-]+", "-", f"{opened.name}-{opened.identity[:8]}-{manifest.name}-{digest[:8]}-{config.split}")
    out = Path(config.out) if config.out else home() / "evaluations" / f"{name}.parquet"
    if out.exists() and (out.suffix != ".parquet" or not _holds_predictions(out)):
        raise FigleafError(f"out={out}: holds something else than predictions and would be replaced; name another file")
    found.save(out)
    report = evaluation_json(found, opened.threshold, n_resamples=config.intervals)
    say(f"{len(found)} samples of {manifest.name}, {report['n_errors']} unreadable; predictions in {out}")
    print_json({"run": opened.name, "split": config.split, "predictions": str(out), **report})
    return 0


def _holds_predictions(path: Path) -> bool:
    """Whether an earlier evaluation wrote the file, so that it may be replaced."""
    from figleaf.evaluate.predictions import Predictions

    try:
        Predictions.load(path)
    except FigleafError:
        return False
    return True
