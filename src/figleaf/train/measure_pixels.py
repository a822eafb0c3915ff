"""The final measurement of a dense head: its pixels against the masks at their own resolution, and its pictures.

The thresholds, from which probability a pixel is skin and from which share of skin a picture is unsafe, are chosen on
val and kept with the weights.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from figleaf.config import TrainConfig
from figleaf.data.masks import read_mask
from figleaf.data.sampler import BatchPlan, shard
from figleaf.evaluate.pixel_metrics import (
    THRESHOLDS,
    PixelCounts,
    choose_pixel_threshold,
    count_pixels,
    per_image,
    pixel_intervals,
    pixel_metrics,
    pixel_slice_table,
)
from figleaf.evaluate.predictions import Predictions, samples_of
from figleaf.evaluate.thresholds import choose_threshold
from figleaf.tracking.params import metric_name
from figleaf.train.inputs import Inputs
from figleaf.train.measure import device_of, evenly_spaced, final_metrics, predict_splits, require_converged
from figleaf.train.objective import Measurement
from figleaf.train.ranks import collect
from figleaf.vgg.network import VGG
from figleaf.vgg.scorer import TorchScorer
from figleaf.vgg.skin_map import SHARE_THRESHOLD, SKIN_THRESHOLD, log_odds, mean_maps, unsafe_place
from figleaf.vgg.weights import load, save

# Fleck, Forsyth & Bregler (1996), where val has pictures of one label only and there is nothing to choose by.
PUBLISHED_SHARE = 0.3
FIT = ("pixel_f1", "pixel_auroc")
_BY_SLICE = ("pixel_f1", "pixel_recall", "pixel_fpr")
_SPREAD = ("pixel_f1", "pixel_recall")  # of which the worst slice and its distance from the best are told


def measure_pixels(best: Path, last: VGG, inputs: Inputs, config: TrainConfig, plan: BatchPlan) -> Measurement:
    """Pixel metrics of val, test and (with the `last` weights) train, predictions of pictures and their metrics.

    The file `best` is written anew, with the thresholds among its facts. `pixels.csv` has a row for each picture of val
    and test that has a mask.
    """
    net, facts = load(best)
    scorer = TorchScorer(net, facts["classes"], facts["unsafe"], device_of(config))
    shares = predict_splits(scorer, inputs, ("val", "test"), plan)
    require_converged(shares)
    val = shares.select(split="val")
    share_threshold = choose_threshold(val) if val.has_both_labels else PUBLISHED_SHARE
    predictions = _held_against(shares, share_threshold)
    found, threshold = final_metrics(predictions, config.trainer.intervals, config.seed)

    of_pixels, skin_threshold, table = measure_maps(net, [inputs.pictures.pixels], inputs, config, plan)
    taught = evenly_spaced(inputs.masked_rows("train"))
    fit = pixel_metrics(pixel_counts(last, [inputs.pictures.pixels], inputs, taught, config, plan), skin_threshold)
    of_pixels |= {f"fit/{key}": fit[key] for key in FIT if key in fit} | {"fit/n": float(len(taught))}

    if plan.rank == 0:
        save(net, best, facts | {SKIN_THRESHOLD: skin_threshold, SHARE_THRESHOLD: share_threshold})
    of_pixels[f"val/{SHARE_THRESHOLD}"] = share_threshold
    return Measurement(found | of_pixels, predictions, threshold, {"pixels.csv": table})


def measure_maps(
    net: VGG,
    pictures: Sequence[NDArray[np.uint8]],
    inputs: Inputs,
    config: TrainConfig,
    plan: BatchPlan,
    *,
    flip: bool = False,
) -> tuple[dict[str, float], float, pd.DataFrame]:
    """Pixel metrics of val and test, the threshold, and what `pixels.csv` holds; of `mean_maps` at these scales.

    `pictures` are those of the whole manifest at each scale, (N, S, S, 3).
    """
    rows = np.concatenate([inputs.masked_rows(split) for split in ("val", "test") if split in inputs.manifest.splits])
    counts = pixel_counts(net, pictures, inputs, rows, config, plan, flip=flip)
    samples = samples_of(inputs.manifest, inputs.pictures.content_sha256).iloc[rows].reset_index(drop=True)
    found, threshold = final_pixel_metrics(counts, samples, config.trainer.intervals, config.seed)
    return found, threshold, samples.join(pd.DataFrame(dict(per_image(counts, threshold))))


def final_pixel_metrics(
    counts: PixelCounts, samples: pd.DataFrame, resamples: int, seed: int
) -> tuple[dict[str, float], float]:
    """Metrics of val and test as MLflow keys, and the threshold, chosen on val and frozen.

    `samples` has the rows of `counts`, with the columns split, group and slice. Over the slices of test that have skin,
    `test/slice_worst/...` is the lowest F1 and recall, and `test/slice_gap/...` how far the highest lies above it.
    """
    split = samples["split"].to_numpy()
    threshold = choose_pixel_threshold(counts.select(split == "val"))
    found = {f"val/{SKIN_THRESHOLD}": threshold}
    for name in ("val", "test"):
        part, of_part = counts.select(split == name), samples[split == name]
        if not len(part):
            continue
        found |= {f"{name}/{key}": value for key, value in pixel_metrics(part, threshold).items()}
        for key, (low, high) in pixel_intervals(part, of_part["group"], threshold, n=resamples, seed=seed).items():
            found |= {f"{name}/{key}_low": low, f"{name}/{key}_high": high}
        if name == "test":
            found |= _slice_metrics(pixel_slice_table(part, of_part["slice"], threshold))
    return found, threshold


def _slice_metrics(table: pd.DataFrame) -> dict[str, float]:
    """The numbers of each slice, and of some the lowest and the spread; what is undefined is left out."""
    found: dict[str, float] = {}
    for row in table.to_dict("records"):
        place = f"test/slice/{metric_name(str(row['slice']))}"
        found |= {f"{place}/{key}": float(row[key]) for key in _BY_SLICE if row[key] == row[key]}
    for key in _SPREAD:
        # Cells are arrays of one number, in which pandas sees no NaN.
        if len(values := table[key].astype(float).dropna()) > 1:
            worst, best = float(values.min()), float(values.max())
            found |= {f"test/slice_worst/{key}": worst, f"test/slice_gap/{key}": best - worst}
    return found


def pixel_counts(
    net: VGG,
    pictures: Sequence[NDArray[np.uint8]],
    inputs: Inputs,
    rows: NDArray[np.int64],
    config: TrainConfig,
    plan: BatchPlan,
    *,
    flip: bool = False,
) -> PixelCounts:
    """Counts of the manifest's `rows` against their masks, each by exactly one rank; complete on every rank.

    `pictures` and `flip` as in `measure_maps`.
    """
    net.eval().to(device_of(config))
    mine = shard(len(rows), plan.rank, plan.world_size)
    table = np.zeros((len(rows), 2, len(THRESHOLDS) + 1), dtype=np.int32)
    counted: list[NDArray[np.int32]] = []
    for start in range(0, len(mine), plan.batch_size):
        batch = rows[mine[start : start + plan.batch_size]]
        masks = [_mask(inputs, row, config.data.max_pixels) for row in batch]
        maps = mean_maps(net, [pixels[batch] for pixels in pictures], [mask.shape for mask in masks], flip=flip)
        counted += map(count_pixels, maps, masks)
    for places, found in collect((mine, counted), plan.world_size):
        if len(places):
            table[places] = np.stack(found)
    return PixelCounts(table, THRESHOLDS)


def _mask(inputs: Inputs, row: int, max_pixels: int) -> NDArray[np.bool_]:
    path = inputs.manifest.masks[row]
    assert path is not None, "rows with a mask"
    return read_mask(path, max_pixels)


def _held_against(shares: Predictions, share_threshold: float) -> Predictions:
    """What a scorer with that threshold would have answered, from the answers of one with a threshold of a half."""
    logits = shares.logits.copy()
    logits[:, unsafe_place(shares.classes, shares.unsafe)] -= np.float32(log_odds(share_threshold))
    return Predictions.from_logits(
        shares.table,
        logits,
        classes=shares.classes,
        unsafe=shares.unsafe,
        data_name=shares.data_name,
        data_hash=shares.data_hash,
        errors=[
            None if scored else error for scored, error in zip(shares.is_scored, shares.table["error"], strict=True)
        ],
    )
