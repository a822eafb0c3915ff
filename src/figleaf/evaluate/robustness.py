"""How much a system's answers move when pictures are changed in ways that change nothing about them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from figleaf.data.decode import MAX_PIXELS, DecodeError, decode, quiet_pillow, read_bytes, resize
from figleaf.data.manifest import Manifest
from figleaf.evaluate.metrics import metrics
from figleaf.evaluate.perturbations import PERTURBATIONS, RgbU8
from figleaf.evaluate.predictions import Predictions
from figleaf.evaluate.scorer import Scorer
from figleaf.progress import track

_BATCH = 64


def perturbed(
    scorer: Scorer, manifest: Manifest, clean: Predictions, names: Sequence[str], *, max_pixels: int = MAX_PIXELS
) -> Predictions:
    """`clean` and, below it, the same samples under each of the perturbations `names`, told by their `variant`.

    The pictures are read from their files again and perturbed before they are resized, at the resolution at which it
    happens. Samples that have no score in `clean` have none under any perturbation.
    """
    position = {sample: row for row, sample in enumerate(manifest.table["path"])}
    paths = manifest.paths
    files = [paths[position[sample]] for sample in clean.table["sample_id"]]
    rows = np.flatnonzero(clean.is_scored)

    def pictures() -> Iterator[RgbU8 | None]:
        for row in rows:
            try:
                yield decode(read_bytes(files[row]), max_pixels=max_pixels)
            except DecodeError:  # since it was scored, the file has been changed
                yield None

    logits = {name: np.full((len(clean), len(clean.classes)), np.nan, np.float32) for name in names}
    batches: dict[str, list[RgbU8]] = {name: [] for name in names}
    waiting: list[int] = []

    def score() -> None:
        for name in names:
            logits[name][waiting] = scorer.logits(np.stack(batches[name]))
            batches[name].clear()
        waiting.clear()

    with quiet_pillow():
        for row, picture in zip(rows, track(pictures(), "Perturbing", total=len(rows)), strict=True):
            if picture is None:
                continue
            waiting.append(int(row))
            for name in names:
                batches[name].append(resize(PERTURBATIONS[name](picture), scorer.input_size))
            if len(waiting) == _BATCH:
                score()
        if waiting:
            score()
    return _below(clean, [_variant(clean, name, logits[name]) for name in names])


def robustness_metrics(found: Predictions, threshold: float | None) -> dict[str, float]:
    """For every variant but the clean one: `robust/NAME/auroc`, `.../drift` and `.../flips`, and their means.

    Drift is the mean absolute difference of the score from the clean one; flips the share of samples whose decision at
    the threshold, chosen on clean pictures, is another.
    """
    clean = found.select(variant="clean")
    values: dict[str, float] = {}
    names = [name for name in found.table["variant"].unique() if name != "clean"]
    for name in names:
        part = found.select(variant=name)
        both = clean.is_scored & part.is_scored
        before, after = clean.scores[both], part.scores[both]
        at = 0.5 if threshold is None else threshold
        if "auroc" in (measured := metrics(part, threshold)):
            values[f"robust/{name}/auroc"] = measured["auroc"]
        values[f"robust/{name}/drift"] = float(np.abs(after - before).mean())
        values[f"robust/{name}/flips"] = float(((after >= at) != (before >= at)).mean())
    for kind in ("auroc", "drift", "flips"):
        each = [values[key] for name in names if (key := f"robust/{name}/{kind}") in values]
        if each:
            worst: Callable[[list[float]], float] = min if kind == "auroc" else max
            values |= {f"robust/mean/{kind}": float(np.mean(each)), f"robust/worst/{kind}": worst(each)}
    return values


def _variant(clean: Predictions, name: str, logits: NDArray[np.float32]) -> Predictions:
    errors = [None if pd.isna(error) else str(error) for error in clean.table["error"]]
    return Predictions.from_logits(
        clean.table,
        logits,
        classes=clean.classes,
        unsafe=clean.unsafe,
        data_name=clean.data_name,
        data_hash=clean.data_hash,
        errors=errors,
        variant=name,
    )


def _below(clean: Predictions, others: Sequence[Predictions]) -> Predictions:
    return replace(clean, table=pd.concat([clean.table, *(other.table for other in others)], ignore_index=True))
