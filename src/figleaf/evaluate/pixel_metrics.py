"""The numbers of pixel models: skin told from everything else, pixel by pixel.

They are computed from counts: how many pixels of skin, and how many others, of each picture have a probability between
two neighbouring thresholds. So a picture takes 4 KB whatever its size, ranks and pictures add up, and pooled numbers,
means over pictures, slices and resamples come from one table. The resolution is that of the masks which are counted.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from figleaf.errors import FigleafError
from figleaf.evaluate.statistics import Interval, percentile_interval
from figleaf.evaluate.weighted import Floats

# Even steps of 1/16 in log-odds, at most 0.016 in probability, and far into both tails, where AUROC is decided.
THRESHOLDS: Floats = 1 / (1 + np.exp(-np.linspace(-16.0, 16.0, 513)))
# Of the pooled pixels with an interval each.
WITH_INTERVAL = ("pixel_f1", "pixel_iou", "pixel_auroc")


def count_pixels(
    probability: NDArray[np.floating], is_skin: NDArray[np.bool_], thresholds: Floats = THRESHOLDS
) -> NDArray[np.int32]:
    """Counts (2, T + 1) of a picture's pixels: row 0 of others, row 1 of skin; column k of those with k thresholds met.

    `probability` of skin and the truth have one shape. `thresholds` (T,) ascend; one is met from its value on. A
    threshold that was published is to be among them, since nothing is decided in between.
    """
    if probability.shape != is_skin.shape:
        raise ValueError(f"probability {probability.shape} and mask {is_skin.shape}: expected one shape")
    met = np.searchsorted(thresholds, probability.ravel(), side="right")
    columns = len(thresholds) + 1
    counts = np.bincount(met + columns * is_skin.ravel(), minlength=2 * columns)
    return counts.reshape(2, columns).astype(np.int32)


@dataclass(frozen=True, eq=False)
class PixelCounts:
    """`count_pixels` of N pictures, (N, 2, T + 1), and the `thresholds` (T,)."""

    table: NDArray[np.int32]
    thresholds: Floats

    @classmethod
    def of(
        cls,
        pictures: Iterable[tuple[NDArray[np.floating], NDArray[np.bool_]]],
        thresholds: Floats = THRESHOLDS,
    ) -> "PixelCounts":
        """Count pictures given as (probability, truth), both (H, W)."""
        rows = [count_pixels(probability, is_skin, thresholds) for probability, is_skin in pictures]
        return cls(np.stack(rows) if rows else np.zeros((0, 2, len(thresholds) + 1), np.int32), thresholds)

    def __len__(self) -> int:
        return len(self.table)

    def select(self, keep: NDArray[np.bool_] | NDArray[np.integer]) -> "PixelCounts":
        """The pictures that `keep` names by place or by True."""
        return PixelCounts(self.table[keep], self.thresholds)

    def column(self, threshold: float) -> int:
        """The first column of those pixels that `threshold` flags. Raises `FigleafError` when it was not counted by."""
        place = int(np.argmin(np.abs(self.thresholds - threshold)))
        if not math.isclose(self.thresholds[place], threshold, rel_tol=1e-9):
            raise FigleafError(f"threshold {threshold:g}: the pixels were not counted by it; add it to the thresholds")
        return place + 1


def choose_pixel_threshold(val: PixelCounts) -> float:
    """The threshold with the highest pooled F1 on `val`; of equally good ones the one that flags fewest.

    Raises `FigleafError` when there is no skin.
    """
    pooled = val.table.sum(axis=0, dtype=np.int64)
    false, true = pooled[:, ::-1].cumsum(axis=1)[:, -2::-1]  # flagged by threshold k, k = 0 to T - 1
    if not pooled[1].any():
        raise FigleafError("a threshold of pixels needs validation masks with skin, white on black")
    f1 = 2 * true / (true + false + pooled[1].sum())
    return float(val.thresholds[len(f1) - 1 - np.argmax(f1[::-1])])


def pixel_metrics(counts: PixelCounts, threshold: float) -> dict[str, float]:
    """Precision, recall, F1, IoU, false positive rate and AUROC of all pixels together, and means over the pictures.

    The keys: `n_pixels`, `pixel_prevalence` (share of skin), `pixel_f1` and so on pooled, and `pixel_f1_by_image`,
    `pixel_iou_by_image`, `pixel_auroc_by_image` as means over those pictures in which they are defined: F1 and IoU
    where there is skin, AUROC where there is something else, too. What is undefined is left out, never NaN.
    """
    pooled = _numbers(counts.table.sum(axis=0, dtype=np.int64), counts.column(threshold))
    found = {name: float(value) for name, value in pooled.items()}
    each = per_image(counts, threshold)
    for name in ("pixel_f1", "pixel_iou", "pixel_auroc"):
        defined = each[name][~np.isnan(each[name])]
        found[f"{name}_by_image"] = float(defined.mean()) if len(defined) else math.nan
    return {name: value for name, value in found.items() if not math.isnan(value)}


def per_image(counts: PixelCounts, threshold: float) -> Mapping[str, Floats]:
    """The pooled metrics of `pixel_metrics` for each picture alone, (N,); NaN where undefined."""
    return _numbers(counts.table, counts.column(threshold))


def pixel_slice_table(counts: PixelCounts, slices: Sequence[str], threshold: float) -> pd.DataFrame:
    """One row a slice, by name: slice, n pictures, and the pooled metrics of `pixel_metrics`; NaN where undefined."""
    names = np.asarray(slices, dtype=object)
    rows = [
        {"slice": name, "n": int((names == name).sum())}
        | _numbers(counts.table[names == name].sum(axis=0, dtype=np.int64), counts.column(threshold))
        for name in sorted(set(slices))
    ]
    return pd.DataFrame(rows)


def pixel_intervals(
    counts: PixelCounts,
    groups: Sequence[str],
    threshold: float,
    names: Sequence[str] = WITH_INTERVAL,
    *,
    n: int = 1000,
    seed: int = 0,
) -> dict[str, Interval]:
    """95 % percentile bootstrap intervals of pooled metrics over `groups` (N,), as in `bootstrap_interval`.

    Empty with fewer than two groups or `n` = 0.
    """
    known, group_of = np.unique(np.asarray(groups, dtype=object), return_inverse=True)
    if len(known) < 2 or n == 0:
        return {}
    by_group = np.zeros((len(known), *counts.table.shape[1:]))
    np.add.at(by_group, group_of, counts.table)
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(len(known), np.full(len(known), 1 / len(known)), size=n)
    resampled = np.einsum("bg,gij->bij", drawn.astype(np.float64), by_group, optimize=True)
    found = _numbers(resampled, counts.column(threshold))
    return {name: percentile_interval(found[name]) for name in names if not np.isnan(found[name]).all()}


def _numbers(table: NDArray[np.number], column: int) -> dict[str, Floats]:
    """Metrics (...) of counts (..., 2, T + 1), flagged from `column` on."""
    table = table.astype(np.float64)
    other, skin = table[..., 0, :], table[..., 1, :]
    others, skins = other.sum(-1), skin.sum(-1)
    false, true = other[..., column:].sum(-1), skin[..., column:].sum(-1)
    # A pixel of skin is above all others in the columns before its own, and ties with those in it.
    before = np.cumsum(other, axis=-1) - other
    with np.errstate(divide="ignore", invalid="ignore"):
        recall = true / skins
        return {
            "n_pixels": others + skins,
            "pixel_prevalence": skins / (others + skins),
            "pixel_precision": true / (true + false),
            "pixel_recall": recall,
            "pixel_f1": np.where(skins > 0, 2 * true / (true + false + skins), np.nan),
            "pixel_iou": np.where(skins > 0, true / (false + skins), np.nan),
            "pixel_fpr": false / others,
            "pixel_auroc": (skin * (before + other / 2)).sum(-1) / (skins * others),
        }
