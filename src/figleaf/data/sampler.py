"""Which samples make up which batch: a function of the seed and the epoch, the same for any number of ranks."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from figleaf.errors import FigleafError

IntArray = NDArray[np.int64]
# A stream of its own, so that the order never correlates with an augmentation draw of the same seed and epoch.
_ORDER_STREAM = 0x0DE7


@dataclass(frozen=True)
class BatchPlan:
    """How `count` samples are dealt into global batches, then among ranks and accumulation steps.

    The global batch is what the optimiser sees; rank r of R with A accumulation steps takes 1/(R A) of it at a time.
    The incomplete batch at an epoch's end is dropped, as is usual in training: every step weighs the same.
    `weights` (count,), when given, draws samples with replacement in proportion to it.
    """

    count: int
    batch_size: int
    seed: int
    rank: int = 0
    world_size: int = 1
    accumulate: int = 1
    weights: NDArray[np.float64] | None = None

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps in one epoch."""
        return self.count // self.batch_size

    @property
    def batches_per_epoch(self) -> int:
        """Forward passes of one rank in one epoch."""
        return self.steps_per_epoch * self.accumulate

    def order(self, epoch: int) -> IntArray:
        """Permutation (or weighted draw) of the samples for `epoch`, shape (count,)."""
        rng = np.random.default_rng([self.seed, epoch, _ORDER_STREAM])
        if self.weights is None:
            return rng.permutation(self.count)
        return rng.choice(self.count, self.count, p=self.weights / self.weights.sum())

    def batches(self, epoch: int) -> IntArray:
        """Positions for each forward pass of this rank, shape (batches_per_epoch, batch_size / (R A))."""
        used = self.order(epoch)[: self.steps_per_epoch * self.batch_size]
        dealt = used.reshape(self.steps_per_epoch, self.accumulate, self.world_size, -1)
        return np.ascontiguousarray(dealt[:, :, self.rank]).reshape(self.batches_per_epoch, -1)


def plan_batches(
    count: int,
    *,
    batch_size: int,
    seed: int,
    rank: int = 0,
    world_size: int = 1,
    max_device_batch: int | None = None,
    weights: NDArray[np.float64] | None = None,
) -> BatchPlan:
    """A `BatchPlan` with as little accumulation as `max_device_batch` allows.

    A set smaller than the batch is one batch of all of it (a multiple of the world size). Raises `FigleafError` when
    the batch cannot be divided.
    """
    if count < world_size:
        raise FigleafError(f"the train split has {count} readable samples for {world_size} ranks: use fewer ranks")
    batch_size = min(batch_size, count - count % world_size)
    if batch_size % world_size:
        raise FigleafError(
            f"optimizer.batch_size={batch_size}: expected a multiple of the {world_size} ranks; it is the global batch"
        )
    share = batch_size // world_size
    limit = max_device_batch or share
    accumulate = next(a for a in range(1, share + 1) if share % a == 0 and share // a <= limit)
    return BatchPlan(count, batch_size, seed, rank, world_size, accumulate, weights)


def shard(count: int, rank: int, world_size: int) -> IntArray:
    """The samples that `rank` evaluates: each falls to exactly one rank, none is repeated to even things out."""
    return np.arange(rank, count, world_size)
