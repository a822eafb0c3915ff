"""Fitting a skin system: what `figleaf train model=skin_...` does in the place of training a network."""

import time
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from figleaf.config import SkinConfig, TrainConfig
from figleaf.data.masks import read_mask
from figleaf.errors import FigleafError
from figleaf.evaluate.metrics import metrics
from figleaf.evaluate.pixel_metrics import PixelCounts, per_image
from figleaf.evaluate.predictions import Predictions, predict, samples_of
from figleaf.progress import track
from figleaf.skin.image_system import ImageSystem
from figleaf.skin.options import called_options
from figleaf.skin.pixel_model import PixelModel
from figleaf.skin.scorer import SkinScorer, answers
from figleaf.skin.storage import save_system
from figleaf.skin.systems import build
from figleaf.train.folder import RunFolder
from figleaf.train.inputs import Inputs
from figleaf.train.measure import FIT, final_metrics
from figleaf.train.measure_pixels import final_pixel_metrics
from figleaf.train.objective import Measurement
from figleaf.train.records import Recorder
from figleaf.vgg.skin_map import enlarged

_TIMED = 100  # pictures on which the speed is measured
_PUBLISHED = ("accuracy", "precision", "recall", "fpr", "response_ratio")


def require_system(config: TrainConfig) -> None:
    """Raises `FigleafError` for several devices, an unknown system or option, and a value wrong whatever the data."""
    assert isinstance(config.model, SkinConfig), "what this module is for"
    if config.trainer.devices * config.trainer.num_nodes > 1:
        raise FigleafError(f"trainer.devices={config.trainer.devices}: a skin system is fitted by one process; pass 1")
    with called_options(config.model.options):
        build(config.model.system, config.model.options, random_state=config.seed).check()


def fit_system(config: TrainConfig, folder: RunFolder, inputs: Inputs, recorder: Recorder) -> dict[str, float]:
    """Fit the system on train, keep it, and measure it as a network is measured.

    Besides a network's metrics there are those of the decision at a probability of one half (`test/published/...`): a
    rule answers so that this is its published threshold. A system that marks pixels gets pixel metrics, too, where
    there are masks. `cost/megabytes` is the size of the file, `time/...` that of this machine.

    Raises `FigleafError` where there is nothing to learn from.
    """
    skin, manifest = config.model, inputs.manifest
    assert isinstance(skin, SkinConfig), "what this module is for"
    if not manifest.unsafe:
        raise FigleafError(f"model.system={skin.system}: {manifest.name} has no unsafe classes (data.unsafe)")
    with called_options(skin.options):
        system = build(skin.system, skin.options, random_state=config.seed)
        fit_seconds = _fit(system, inputs)
        system.predict_proba(inputs.pictures.pixels[:1])  # some constants are looked at only here
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

    def scored(*splits: str) -> Predictions:
        return predict(scorer, manifest, inputs.pictures, data_hash=inputs.data_hash, splits=splits)

    predictions = scored("val", "test")
    found, threshold = final_metrics(predictions, config.trainer.intervals, config.seed)
    found |= _published(predictions)
    on_train = metrics(scored("train"), threshold)
    found |= {f"fit/{key}": on_train[key] for key in FIT if key in on_train}
    tables: dict[str, pd.DataFrame] = {}
    pixel_model = getattr(scorer.system, "pixel_model_", None)
    if isinstance(pixel_model, PixelModel) and len(rows := _with_masks(inputs)):
        of_pixels, tables["pixels.csv"] = _pixels(pixel_model, rows, inputs, config)
        found |= of_pixels
    save_system(system, folder.best, facts | {"threshold": threshold})  # so that the file decides as the run does
    found["cost/megabytes"] = folder.best.stat().st_size / 1e6
    found |= {"time/train_seconds": fit_seconds, "time/ms_per_image": _ms_per_image(scorer, inputs)}
    recorder.start_at(0)
    recorder.finish(Measurement(found, predictions, threshold, tables), 0)
    return found


def _fit(system: ImageSystem, inputs: Inputs) -> float:
    """Fit to train, with the masks that there are; the seconds that it took."""
    manifest, rows, masks = inputs.manifest, inputs.rows("train"), inputs.masks
    known: list[NDArray[np.bool_] | None] = [None] * len(rows)
    if masks is not None:
        usable = masks.usable
        known = [masks.is_skin(np.array([row]))[0] if usable[row] else None for row in rows]
    labels, groups = manifest.is_unsafe[rows].astype(np.int64), manifest.table["group"].to_numpy()[rows]
    started = time.perf_counter()
    system.fit(inputs.pictures.pixels[rows], labels, known, groups)
    return time.perf_counter() - started


def _published(predictions: Predictions) -> dict[str, float]:
    """Metrics of the decision at a probability of one half, which for a rule is that of its inventors."""
    test = predictions.select(split="test")
    if not len(test):
        return {}
    at_half = metrics(test, 0.5)
    return {f"test/published/{key}": at_half[key] for key in _PUBLISHED if key in at_half}


def _with_masks(inputs: Inputs) -> NDArray[np.intp]:
    """The rows of val and test that have a mask; none where val shows no skin by which to choose a threshold."""
    masks, split = inputs.masks, inputs.manifest.table["split"]
    if masks is None:
        return np.zeros(0, np.intp)
    usable = masks.usable & inputs.pictures.usable
    shows_skin = any(masks.is_skin(np.array([row])).any() for row in np.flatnonzero(usable & (split == "val")))
    return np.flatnonzero(usable & split.isin(["val", "test"]) & shows_skin)


def _pixels(
    model: PixelModel, rows: NDArray[np.intp], inputs: Inputs, config: TrainConfig
) -> tuple[dict[str, float], pd.DataFrame]:
    """Pixel metrics of `rows` against the masks at their own resolution, and a row for each of these pictures."""
    paths = inputs.manifest.masks

    def pictures() -> Any:
        for row in track(rows, "Marking pixels", total=len(rows)):
            path = paths[row]
            assert path is not None, "rows with a mask"
            is_skin = read_mask(path, config.data.max_pixels)
            yield enlarged(model.skin_probability(inputs.pictures.pixels[row]), is_skin.shape), is_skin

    counts = PixelCounts.of(pictures())
    samples = samples_of(inputs.manifest, inputs.pictures.content_sha256).iloc[rows].reset_index(drop=True)
    found, threshold = final_pixel_metrics(counts, samples, config.trainer.intervals, config.seed)
    return found, samples.join(pd.DataFrame(dict(per_image(counts, threshold))))


def _ms_per_image(scorer: SkinScorer, inputs: Inputs) -> float:
    """Milliseconds for one picture that is decoded already, on this machine at this moment: the median."""
    took = []
    for row in np.flatnonzero(inputs.pictures.usable)[:_TIMED]:
        picture = inputs.pictures.pixels[row : row + 1]
        started = time.perf_counter()
        scorer.logits(picture)
        took.append(time.perf_counter() - started)
    return 1000 * float(np.median(took))
