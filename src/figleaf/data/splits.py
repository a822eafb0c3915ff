"""Cutting data into splits so that a group is never on both sides, and weights for unbalanced classes."""

import numpy as np
from numpy.typing import NDArray

from figleaf.data.manifest import SPLITS, Manifest, standard_split
from figleaf.errors import FigleafError


def cut(manifest: Manifest, *, source: str = "train", target: str = "calib", fraction: float, seed: int) -> Manifest:
    """Move about `fraction` of the samples of `source` to the new split `target`: whole groups, classes in proportion.

    At least one group moves and one stays. The choice depends on the samples of `source` and the seed alone. Raises
    `FigleafError` when `target` exists or is no name for a split, and when `source` has a single group.
    """
    if not 0 < fraction < 1:
        raise FigleafError(f"fraction={fraction}: expected 0 < x < 1")
    if standard_split(target) not in (None, target) or not target:
        raise FigleafError(f"split {target!r}: call it {standard_split(target) or SPLITS[-1]!r}")
    if target in manifest.splits:
        raise FigleafError(f"split {target!r} is already there: cut another one, or take it out of the manifest first")
    available = manifest.select(source)
    if available.table["group"].nunique() < 2:
        raise FigleafError(f"cannot cut {target!r}: all {len(available)} samples of {source!r} are one group")
    chosen = _choose_groups(available, fraction, np.random.default_rng(seed))
    table = manifest.table.copy()
    table.loc[(table["split"] == source) & table["group"].isin(chosen), "split"] = target
    return manifest.with_table(table)


def assign_fold(manifest: Manifest, *, fold: int, folds: int, seed: int) -> Manifest:
    """Re-cut train and val for cross-validation: fold `fold` of `folds` (from 0) becomes val, the rest of both train.

    Folds are stratified by class and never divide a group (scikit-learn's StratifiedGroupKFold); other splits stay.
    """
    if not (folds >= 2 and 0 <= fold < folds):
        raise FigleafError(f"data.fold={fold}, data.folds={folds}: expected folds >= 2 and 0 <= fold < folds")
    # scikit-learn takes a second to import, and only cross-validation needs it
    from sklearn.model_selection import StratifiedGroupKFold

    table = manifest.table.copy()
    rows = np.flatnonzero(table["split"].isin(["train", "val"]))
    labels, groups = manifest.labels[rows], table["group"].to_numpy()[rows]
    if len(set(groups)) < folds:
        raise FigleafError(f"data.folds={folds}: train and val have only {len(set(groups))} groups")
    parts = list(StratifiedGroupKFold(folds, shuffle=True, random_state=seed).split(rows, labels, groups))
    table.loc[rows, "split"] = "train"
    table.loc[rows[parts[fold][1]], "split"] = "val"
    return manifest.with_table(table)


def class_weights(labels: NDArray[np.int64], n_classes: int) -> NDArray[np.float64]:
    """Weights (C,) that give the classes present equal totals: 1 on average over the samples, 0 for absent classes."""
    counts = np.bincount(labels, minlength=n_classes)
    weights = np.divide(len(labels), counts, out=np.zeros(n_classes), where=counts > 0)
    return weights / np.count_nonzero(counts)


def _choose_groups(manifest: Manifest, fraction: float, rng: np.random.Generator) -> list[str]:
    """Groups whose class counts come near the wanted ones, taken greedily in random order."""
    # By name, so that the order of the rows changes nothing.
    names, group_of_row = np.unique(manifest.table["group"].to_numpy(dtype=str), return_inverse=True)
    counts = np.zeros((len(names), len(manifest.classes)), np.int64)
    np.add.at(counts, (group_of_row, manifest.labels), 1)
    wanted = _round_keeping_sum(counts.sum(axis=0) * fraction, rng)
    have = np.zeros_like(wanted)
    order = rng.permutation(len(names))
    chosen = []
    for group in order:
        # Take the group when that brings the counts nearer: |wanted - have - c|^2 < |wanted - have|^2
        if (counts[group] * (2 * (wanted - have) - counts[group])).sum() > 0:
            have += counts[group]
            chosen.append(group)
    if not chosen:  # all are larger than what is wanted
        chosen = [min(order, key=lambda group: counts[group].sum())]
    return [str(names[group]) for group in chosen[: len(names) - 1]]


def _round_keeping_sum(values: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.int64]:
    """Round to whole numbers whose sum is the rounded sum: a thousand classes of four images give their tenth, too."""
    floor = np.floor(values).astype(np.int64)
    missing = round(values.sum()) - int(floor.sum())
    order = np.lexsort((rng.random(len(values)), floor - values))
    floor[order[:missing]] += 1
    return floor
