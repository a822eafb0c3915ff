"""The final measurement of a run: predictions of its best weights, metrics from them, and what it cost."""

import resource
import time
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from figleaf.config import TrainConfig
from figleaf.data.sampler import BatchPlan, shard
from figleaf.errors import FigleafError
from figleaf.evaluate.metrics import mean_measures, metrics, slice_table
from figleaf.evaluate.predictions import Predictions, samples_of
from figleaf.evaluate.retrieval_metrics import measure_intervals
from figleaf.evaluate.statistics import bootstrap_intervals
from figleaf.evaluate.thresholds import choose_threshold
from figleaf.tracking.params import metric_name
from figleaf.train.inputs import Inputs
from figleaf.train.ranks import collect
from figleaf.vgg.cost import gmacs, megabytes, parameters
from figleaf.vgg.network import VGG
from figleaf.vgg.scorer import TorchScorer

# With an interval each; the others would make the list of metrics unreadable.
WITH_INTERVAL = ("auroc", "auprc", "accuracy", "recall_at_1fpr")

# Of the training split: whether the network could fit what it was shown, without which a regulariser has no work to do.
FIT = ("n", "auroc", "accuracy", "nll", "top1")
_FIT_SAMPLES = 20_000  # evenly spaced; enough to see a fit, and little beside an epoch of a large data set


def device_of(config: TrainConfig) -> str:
    """Where the run's networks are measured: where they were trained."""
    return "cuda" if config.trainer.accelerator == "gpu" else "cpu"


def predict_splits(scorer: TorchScorer, inputs: Inputs, splits: tuple[str, ...], plan: BatchPlan) -> Predictions:
    """Predictions on `splits`, every sample scored by exactly one rank; complete on every rank."""
    wanted = np.flatnonzero(inputs.manifest.table["split"].isin(splits))
    return _predict(scorer, inputs, wanted, plan)


def require_converged(predictions: Predictions) -> None:
    """Raises `FigleafError` when no picture of val has finite logits."""
    if not predictions.select(split="val").is_scored.any():
        raise FigleafError(
            "the training diverged: no validation picture has finite logits; lower optimizer.lr, lengthen "
            "optimizer.warmup or set optimizer.clip_norm"
        )


def evenly_spaced(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """As many of the rows of train as it takes to see how well it is fitted."""
    spaced: NDArray[np.int64] = rows[np.linspace(0, len(rows) - 1, min(len(rows), _FIT_SAMPLES)).astype(int)]
    return spaced


def fit_metrics(scorer: TorchScorer, inputs: Inputs, threshold: float | None, plan: BatchPlan) -> dict[str, float]:
    """`fit/...` metrics: how well the training pictures, not augmented, are fitted.

    Asked of the weights at the training's end: the best on val may stem from an early epoch.
    """
    found = metrics(_predict(scorer, inputs, evenly_spaced(inputs.rows("train")), plan), threshold)
    return {f"fit/{key}": found[key] for key in FIT if key in found}


def _predict(scorer: TorchScorer, inputs: Inputs, wanted: NDArray[np.intp], plan: BatchPlan) -> Predictions:
    readable = np.array([inputs.pictures.errors[row] is None for row in wanted], dtype=bool)
    mine = wanted[readable][shard(int(readable.sum()), plan.rank, plan.world_size)]
    parts = [mine[start : start + plan.batch_size] for start in range(0, len(mine), plan.batch_size)]
    scored = [scorer.logits(inputs.pictures.pixels[rows]) for rows in parts]
    logits = np.full((len(inputs.manifest), len(scorer.classes)), np.nan, dtype=np.float32)
    for rows, values in collect((mine, scored), plan.world_size):
        if len(rows):
            logits[rows] = np.concatenate(values)
    content = np.array(inputs.pictures.content_sha256, dtype=object)
    return Predictions.from_logits(
        samples_of(inputs.manifest, content.tolist()).iloc[wanted],
        logits[wanted],
        classes=scorer.classes,
        unsafe=scorer.unsafe,
        data_name=inputs.manifest.name,
        data_hash=inputs.data_hash,
        errors=[inputs.pictures.errors[row] for row in wanted],
    )


def final_metrics(predictions: Predictions, resamples: int, seed: int) -> tuple[dict[str, float], float | None]:
    """Metrics of val and test as MLflow keys, and the threshold, chosen on val and frozen."""
    val = predictions.select(split="val")
    threshold = choose_threshold(val) if val.has_both_labels else None
    found: dict[str, float] = {}
    for split in ("val", "test"):
        part = predictions.select(split=split)
        if not len(part):
            continue
        found |= {f"{split}/{key}": value for key, value in metrics(part, threshold).items()}
        intervals = measure_intervals(part, n=resamples, seed=seed)
        if resamples and part.has_both_labels:
            intervals |= bootstrap_intervals(part, WITH_INTERVAL, threshold=threshold, n=resamples, seed=seed)
        for name, (low, high) in intervals.items():
            found |= {f"{split}/{name}_low": low, f"{split}/{name}_high": high}
    if threshold is not None:
        found["val/threshold"] = threshold
    test = predictions.select(split="test")
    for row in slice_table(test, threshold).to_dict("records"):
        place = f"test/slice/{metric_name(str(row['slice']))}"
        found |= {f"{place}/{key}": float(row[key]) for key in ("auroc", "n") if row.get(key) == row.get(key)}
        measured = mean_measures(test.select(slice=row["slice"]))
        found |= {f"{place}/{key}": value for key, value in measured.items()}
    return found, threshold


def cost_metrics(net: VGG) -> dict[str, float]:
    """Size and work of the network."""
    return {"cost/parameters": parameters(net), "cost/gmacs": gmacs(net), "cost/megabytes": megabytes(net)}


# What a network's products are computed in, by `trainer.precision`.
_PRODUCT_DTYPES = {"32-true": torch.float32, "bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}


def clock_metrics(
    net: VGG, images: int, seconds: float, precision: str = "32-true", mean_gmacs: float | None = None
) -> Mapping[str, float]:
    """What depends on the machine: time, speed, memory. `images` were trained on in `seconds`.

    `mean_gmacs` is a picture's work where pictures were not all of the network's input size.

    FLOP utilisation relates the training's arithmetic (three times the forward pass) to what a large matrix product
    in the training's `precision` reaches on the same device a moment later.
    """
    per_second = images / seconds
    achieved = 3 * 2 * (gmacs(net) if mean_gmacs is None else mean_gmacs) * per_second
    device = next(net.parameters()).device
    # ru_maxrss is in KiB on Linux.
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    if device.type == "cuda":
        memory = torch.cuda.max_memory_allocated(device) / 2**20
    return {
        "time/train_seconds": seconds,
        "time/images_per_second": per_second,
        "time/gflop_per_second": achieved,
        "time/flop_utilisation": achieved / matrix_product_gflops(device, _PRODUCT_DTYPES[precision]),
        "time/peak_memory_mb": memory,
    }


def matrix_product_gflops(device: torch.device, dtype: torch.dtype = torch.float32, repeats: int = 3) -> float:
    """GFLOP/s of a matrix product on `device`, the best of a few; on a GPU of one that keeps all of it busy."""
    size = 8192 if device.type == "cuda" else 1536
    a = torch.ones(size, size, device=device, dtype=dtype)
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        product = a @ a
        float(product[0, 0])  # waits for the device
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best / 1e9
