"""`figleaf evaluate`: predictions and metrics of a run or an exported file, on any manifest."""

import errno
import os
import re
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from figleaf.commands.arguments import parse_mixed, print_json, require_manifest, say, with_overrides
from figleaf.config import EvaluateConfig, compose, home, to_dict
from figleaf.errors import FigleafError
from figleaf.files import explained

if TYPE_CHECKING:
    from figleaf.evaluate.scorer import Scorer
    from figleaf.vgg.network import VGG

EPILOG = """\
Prints one JSON object of the metrics and writes the predictions, a row for every sample, unreadable ones included.
The threshold is the one chosen on the run's val split.

examples:
  figleaf evaluate run=latest data=scenes
  figleaf evaluate run=best:demo data=manifest data.manifest=my/manifest.csv split=all
  figleaf evaluate run=demo/vgg19_bn-2 data=scenes          a trial: <study>/<arm>-<seed>
  figleaf evaluate run=export/model.onnx data=manifest data.manifest=my/manifest.csv
  figleaf evaluate run=latest method=dense scales=[64,96] flip=true data=scenes
  figleaf evaluate run=latest method=multi_crop scales=[1.25] crops=5 flip=true data=scenes
  figleaf evaluate run=latest method=windows scales=[2] aggregate=max data=scenes
  figleaf evaluate run=latest perturb=[all] data=scenes
  figleaf evaluate run=latest explain=gradcam split=all data=scenes

Methods, after section 3.2 of the VGG paper: dense applies the network to all of a larger picture (a multiple of 32
pixels a side), multi_crop to a grid of crops from it; dense_multi_crop averages the two. The posteriors of several
scales, and with flip=true those of the mirror images, are averaged. windows, proposals (selective search) and
skin_regions show the network boxes of a picture of that scale, and `aggregate` makes one probability of theirs: max,
top3, mean or noisy_or. The run's threshold was chosen for method=single: with any other, metrics of decisions are
taken at a score of 0.5.

perturb=[all], or some names, also scores the pictures recompressed, resized, relit, blurred, framed and mirrored: the
object gets robust/NAME/auroc, the score's drift and the share of decisions that flip, and a second file the scores.

explain=METHOD (cam, gradcam, gradcam++, hirescam, layercam, scorecam, occlusion, guided_backprop, which is known to
fail, or the floors random and gaussian) also measures how true the class maps of test's unsafe pictures are: a column
of the predictions for each measure. `exported` is for the arms of a study; here the exported file is given as run=FILE.
"""


def main(arguments: Sequence[str]) -> int:
    """Evaluate."""
    parser = with_overrides("evaluate", "Predictions and metrics of a run or an exported file on any manifest.", EPILOG)
    options = parse_mixed(parser, arguments)
    config: EvaluateConfig = compose("evaluate", options.overrides)
    if options.print_config:
        print_json(to_dict(config))
        return 0
    out = _place(config.out)
    require_manifest(config.data)
    from figleaf.commands.scorers import open_scorer
    from figleaf.data.cache import data_hash
    from figleaf.evaluate.method import CLEAN, Method, predict_by
    from figleaf.evaluate.metrics import DEFAULT_THRESHOLD
    from figleaf.evaluate.report import evaluation_json
    from figleaf.train.evaluation import method_of, perturbations_of
    from figleaf.train.inputs import decode_for, read_manifest

    method, perturbations = method_of(config), perturbations_of(config)
    if config.exported is not None:
        raise FigleafError(
            f"exported={config.exported}: for the arms of a study; export the run with format=[{config.exported}] and "
            "give the file in the place of the run"
        )
    if config.explain is not None and (method != Method() or perturbations):
        raise FigleafError(f"explain={config.explain}: of a single view; leave method, scales, flip and perturb alone")
    # A file needs no tracker, and the data may be wrong in ways that should be said before a store is opened.
    manifest = read_manifest(config.data, home())
    if config.split != "all":
        manifest = manifest.select(config.split)
    opened = open_scorer(config.run, config.tracking)
    network = None if config.explain is None else _network(opened.scorer, config.explain)
    variant = method.variant(opened.scorer.input_size)
    first, *_ = method.scorers(opened.scorer)
    pictures = partial(decode_for, manifest, data=config.data, home=home())
    digest = data_hash(manifest, pictures(first.input_size).content_sha256)
    if config.out is None:
        name = f"{opened.name}-{opened.identity[:8]}-{manifest.name}-{digest[:8]}-{config.split}"
        name += "" if variant == CLEAN else f"-{variant}"
        name += "" if config.explain is None else f"-{config.explain}"
        out = out / (re.sub(r"[^\w.+-]+", "-", name) + ".parquet")
    found = predict_by(method, opened.scorer, manifest, pictures, data_hash=digest, batch_size=config.batch_size)
    of_maps: dict[str, float] = {}
    if config.explain is not None and network is not None:
        from figleaf.train.explaining import with_map_measures
        from figleaf.train.inputs import masks_for

        decoded = pictures(first.input_size)
        masks = masks_for(manifest, first.input_size, config.data, home())
        found, of_maps = with_map_measures(found, network, manifest, decoded, masks, config.explain, seed=0)
    found.save(out)
    threshold = opened.threshold if variant == CLEAN else None
    if threshold != opened.threshold:
        say(f"the run's threshold was chosen for method=single; metrics of decisions are at {DEFAULT_THRESHOLD}")
    elif threshold is None and variant == CLEAN:
        say(f"{opened.name} holds no threshold; metrics of decisions are at {DEFAULT_THRESHOLD}")
    report = evaluation_json(found, threshold, n_resamples=config.intervals)
    report |= of_maps
    if perturbations:
        from figleaf.evaluate.robustness import perturbed, robustness_metrics

        changed = perturbed(opened.scorer, manifest, found, perturbations, max_pixels=config.data.max_pixels)
        beside = changed.save(out.with_name(f"{out.stem}-perturbed.parquet"))
        report |= {"perturbed": str(beside), **robustness_metrics(changed, threshold)}
    say(f"{len(found)} samples of {manifest.name}, {report['n_errors']} unreadable; predictions in {out}")
    print_json({"run": opened.name, "split": config.split, "variant": variant, "predictions": str(out), **report})
    return 0


def _network(scorer: "Scorer", explain: str) -> "VGG":
    """The network whose class maps are measured; what has none is refused before anything is scored."""
    from figleaf.explain.faithfulness import require_map
    from figleaf.vgg.scorer import TorchScorer

    if not isinstance(scorer, TorchScorer):
        raise FigleafError(f"explain={explain}: only a run or a .safetensors file of a network has layers to look into")
    if not scorer.unsafe:
        raise FigleafError(f"explain={explain}: maps are of an unsafe class, and none of this network's is")
    require_map(scorer.net.head, explain)
    return scorer.net


def _place(given: str | None) -> Path:
    """The file for the predictions, or, where none was given, the folder that gets one: something can be written there.

    Said before anything is computed, which may take hours.
    """
    if given is None:
        folder = home() / "evaluations"
        with explained(folder):
            folder.mkdir(parents=True, exist_ok=True)
            _try_writing(folder)
        return folder
    out = Path(given).expanduser()
    try:
        given.encode()
        os.lstat(out)
    except UnicodeEncodeError as error:
        raise FigleafError(f"out={given}: a name that is no UTF-8; name another file") from error
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR):
            raise FigleafError(f"out={given}: {error.strerror}; name another file") from error
    if out.is_dir():
        raise FigleafError(f"out={given}: a folder; name a file in it, such as out={out / 'predictions.parquet'}")
    if out.suffix != ".parquet":
        raise FigleafError(f"out={given}: predictions are written as Parquet; name a file that ends in .parquet")
    if not out.parent.is_dir():
        raise FigleafError(f"out={given}: there is no folder {out.parent}; make it first, or name another")
    if out.exists() and not _holds_predictions(out):
        raise FigleafError(
            f"out={given}: holds something else than predictions and would be replaced; name another file"
        )
    try:
        _try_writing(out.parent)
    except OSError as error:
        raise FigleafError(
            f"out={given}: nothing can be written to {out.parent} ({error.strerror}); name a file in another folder"
        ) from error
    return out


def _try_writing(folder: Path) -> None:
    # Tried, not asked: permissions say nothing of a read-only file system, and everything is allowed to root.
    with tempfile.TemporaryFile(dir=folder):
        pass


def _holds_predictions(path: Path) -> bool:
    """Whether an earlier evaluation wrote the file, so that it may be replaced."""
    from figleaf.evaluate.predictions import Predictions

    try:
        Predictions.load(path)
    except FigleafError:
        return False
    return True
