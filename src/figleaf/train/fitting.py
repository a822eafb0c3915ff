"""Fitting a skin system: what `figleaf train model=skin_...` does in the place of training a network."""

import time

import numpy as np
from sklearn.utils.validation import has_fit_parameter

from figleaf.config import SkinConfig, TrainConfig, home
from figleaf.data.masks import decode_masks
from figleaf.errors import FigleafError
from figleaf.evaluate.metrics import metrics
from figleaf.evaluate.predictions import Predictions, predict
from figleaf.skin.scorer import SkinScorer, answers
from figleaf.skin.storage import save_system
from figleaf.skin.systems import build
from figleaf.train.folder import RunFolder
from figleaf.train.inputs import Inputs
from figleaf.train.measure import FIT, final_metrics
from figleaf.train.records import Recorder

_TIMED = 100  # pictures on which the speed is measured
_PUBLISHED = ("accuracy", "precision", "recall", "fpr", "response_ratio")


def fit_system(config: TrainConfig, folder: RunFolder, inputs: Inputs, recorder: Recorder) -> dict[str, float]:
    """Fit the system on train, keep it, and measure it as a network is measured.

    Besides a network's metrics there are those of the decision at a probability of one half (`test/published/...`): a
    rule answers so that this is its published threshold. `cost/megabytes` is the size of the file, `time/...` that of
    this machine. Raises `FigleafError` where there is nothing to learn from.
    """
    skin = config.model
    assert isinstance(skin, SkinConfig), "what this module is for"
    manifest = inputs.manifest
    if not manifest.unsafe:
        raise FigleafError(f"model.system={skin.system}: {manifest.name} has no unsafe classes (data.unsafe)")
    rows = inputs.rows("train")
    masks = decode_masks(
        manifest,
        skin.input_size,
        folder=home() / "cache",
        max_pixels=config.data.max_pixels,
        limit_bytes=int(config.data.cache_gb * 1e9),
    )
    system = build(skin.system, skin.options, random_state=config.seed)
    labels = manifest.is_unsafe[rows].astype(np.int64)
    # For those that fit in several steps, and must not learn from a group what they then say of it.
    groups = {"groups": manifest.table["group"].to_numpy()[rows]} if has_fit_parameter(system, "groups") else {}
    started = time.perf_counter()
    system.fit(inputs.pictures.pixels[rows], labels, masks.of(rows), **groups)
    fit_seconds = time.perf_counter() - started
    classes, unsafe = answers(manifest.classes, manifest.unsafe)
    facts = {
        "classes": list(classes),
        "unsafe": list(unsafe),
        "input_size": skin.input_size,
        "system": skin.system,
        "data_name": manifest.name,
        "data_hash": inputs.data_hash,
        "study": config.study,
        "arm": config.arm,
        "seed": config.seed,
    }
    save_system(system, folder.best, facts)
    scorer = SkinScorer.load(folder.best)  # what is measured is what was kept
    predictions = predict(
        scorer, manifest, inputs.pictures, data_hash=inputs.data_hash, splits=("val", "test"), batch_size=64
    )
    found, threshold = final_metrics(predictions, config.trainer.intervals, config.seed)
    found |= _published(predictions)
    trained = predict(scorer, manifest, inputs.pictures, data_hash=inputs.data_hash, splits=("train",), batch_size=64)
    on_train = metrics(trained, threshold)
    found |= {f"fit/{key}": on_train[key] for key in FIT if key in on_train}
    found["cost/megabytes"] = folder.best.stat().st_size / 1e6
    clocks = {"time/train_seconds": fit_seconds, "time/ms_per_image": _ms_per_image(scorer, inputs)}
    recorder.start_at(0)
    recorder.finish(found | clocks, 0, predictions, threshold)
    return found | clocks


def _published(predictions: Predictions) -> dict[str, float]:
    """Metrics of the decision at a probability of one half, which for a rule is that of its inventors."""
    test = predictions.select(split="test")
    if not len(test):
        return {}
    at_half = metrics(test, 0.5)
    return {f"test/published/{key}": at_half[key] for key in _PUBLISHED if key in at_half}


def _ms_per_image(scorer: SkinScorer, inputs: Inputs) -> float:
    """Milliseconds for one picture that is decoded already, on this machine at this moment: the median."""
    rows = np.flatnonzero(inputs.pictures.usable)[:_TIMED]
    took = []
    for row in rows:
        picture = inputs.pictures.pixels[row : row + 1]
        started = time.perf_counter()
        scorer.logits(picture)
        took.append(time.perf_counter() - started)
    return 1000 * float(np.median(took))
