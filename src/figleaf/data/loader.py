"""Batches for training and evaluation; the training loader can say and restore where it stands."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from figleaf.data.augment import Augmentation, ViewThenColors, mirrored_in_turn, sample_generator
from figleaf.data.collate import image_batch
from figleaf.data.masks import Masks, is_skin
from figleaf.data.sampler import BatchPlan, IntArray

Batch = dict[str, torch.Tensor]
# One sample of one epoch: (epoch, position). The epoch travels with the index because worker processes hold a copy
# of the data set and would not see an epoch that is set later.
Draw = tuple[int, int]


class TrainingSamples(Dataset[NDArray[np.uint8]]):
    """Augmented training pictures: a sample is a function of (seed, epoch, position) and of nothing else.

    `pixels` uint8 (N, H, W, 3), usually memory-mapped; `rows` (n,) the usable ones; `labels` int64 (N,). `alternate`:
    mirrored in every other epoch, see `mirrored_in_turn`.
    """

    def __init__(
        self,
        pixels: NDArray[np.uint8],
        labels: NDArray[np.int64],
        rows: IntArray,
        augmentation: Augmentation,
        seed: int,
        alternate: bool = False,
    ) -> None:
        self.pixels, self.labels, self.rows = pixels, labels, rows
        self.augmentation, self.seed, self.alternate = augmentation, seed, alternate

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, draw: Draw) -> NDArray[np.uint8]:
        """One augmented picture (S, S, 3)."""
        epoch, position = draw
        row = int(self.rows[position])
        return self._turned(self.augmentation(self.pixels[row], sample_generator(self.seed, epoch, row)), epoch, row)

    def _turned(self, image_u8: NDArray[np.uint8], epoch: int, row: int) -> NDArray[np.uint8]:
        return mirrored_in_turn(image_u8, self.seed, epoch, row) if self.alternate else image_u8

    def __getitems__(self, draws: Sequence[Draw]) -> Batch:
        """A whole batch at once: image uint8 (n, 3, S, S), label (n,), index (n,) the manifest row."""
        rows = self.rows[[position for _, position in draws]]
        return make_batch(image_batch([self[draw] for draw in draws]), self.labels[rows], rows)


class MaskedSamples(TrainingSamples):
    """Augmented training pictures and, seen through the same views, their masks: `masks`, at the size of `pixels`."""

    def __init__(
        self,
        pixels: NDArray[np.uint8],
        labels: NDArray[np.int64],
        rows: IntArray,
        augmentation: ViewThenColors,
        seed: int,
        masks: Masks,
        alternate: bool = False,
    ) -> None:
        super().__init__(pixels, labels, rows, augmentation, seed, alternate)
        self.of_mask, self.masks = augmentation.of_mask, masks

    def __getitems__(self, draws: Sequence[Draw]) -> Batch:
        """A whole batch at once: what `TrainingSamples` gives, and mask bool (n, S, S), True for skin."""
        shares = [self._share_u8(draw) for draw in draws]
        return super().__getitems__(draws) | {"mask": torch.from_numpy(is_skin(np.stack(shares)))}

    def _share_u8(self, draw: Draw) -> NDArray[np.uint8]:
        epoch, position = draw
        row = int(self.rows[position])
        share_u8 = self.of_mask(self.masks.share_u8(row), sample_generator(self.seed, epoch, row))
        return self._turned(share_u8, epoch, row)


def make_batch(images: torch.Tensor, labels: NDArray[np.int64], rows: IntArray) -> Batch:
    """Images uint8 (n, 3, S, S) with the labels and manifest rows (n,) they belong to."""
    return {"image": images, "label": torch.from_numpy(labels), "index": torch.from_numpy(np.ascontiguousarray(rows))}


def _as_is(batch: Any) -> Any:
    """`TrainingSamples.__getitems__` has collated already."""
    return batch


class EpochLoader:
    """The training batches of one epoch after the other, resumable in the middle of one.

    Lightning asks `sampler` for `set_epoch` at each epoch's start, and saves and restores `state_dict`.
    """

    def __init__(self, samples: TrainingSamples, plan: BatchPlan, workers: int = 0, pin_memory: bool = False) -> None:
        self.samples, self.plan, self.workers, self.pin_memory = samples, plan, workers, pin_memory
        self.epoch = 0
        self.batches_given = 0

    @property
    def sampler(self) -> "EpochLoader":
        """Where Lightning looks for `set_epoch`."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Begin `epoch`, unless it is the one being resumed."""
        if epoch != self.epoch:
            self.epoch, self.batches_given = epoch, 0

    def state_dict(self) -> dict[str, int]:
        """Epoch and how many of its batches were given out."""
        return {"epoch": self.epoch, "batches_given": self.batches_given}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on behind the batches of `state`."""
        self.epoch, self.batches_given = state["epoch"], state["batches_given"]

    def __len__(self) -> int:
        # All batches of the epoch, also when some are behind us: Lightning counts from the epoch's start.
        return self.plan.batches_per_epoch

    def __iter__(self) -> Iterator[Batch]:
        # A generator: nothing below runs before the first batch is asked for, when set_epoch has been called.
        if self.batches_given >= len(self):
            self.batches_given = 0
        batches = self.plan.batches(self.epoch)[self.batches_given :]
        draws: list[list[Draw]] = [[(self.epoch, int(position)) for position in batch] for batch in batches]
        loader: DataLoader[Any] = DataLoader(
            self.samples,
            batch_sampler=draws,
            num_workers=self.workers,
            collate_fn=_as_is,
            pin_memory=self.pin_memory,
        )
        for batch in loader:
            self.batches_given += 1
            yield batch


class EvaluationLoader:
    """Pictures as they are, in order, each once: the rows `rows` of `pixels` in batches; `masks` come along."""

    def __init__(
        self,
        pixels: NDArray[np.uint8],
        labels: NDArray[np.int64],
        rows: IntArray,
        batch_size: int,
        masks: Masks | None = None,
    ) -> None:
        self.pixels, self.labels, self.rows, self.batch_size, self.masks = pixels, labels, rows, batch_size, masks

    def __len__(self) -> int:
        return -(-len(self.rows) // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        for start in range(0, len(self.rows), self.batch_size):
            rows = self.rows[start : start + self.batch_size]
            batch = make_batch(image_batch(list(self.pixels[rows])), self.labels[rows], rows)
            yield batch if self.masks is None else batch | {"mask": torch.from_numpy(self.masks.is_skin(rows))}
