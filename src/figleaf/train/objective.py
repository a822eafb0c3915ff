"""What a head is trained for, as one object: its targets, its loss, what validation measures, the final measurement."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import Tensor

from figleaf.config import TrainConfig
from figleaf.data.loader import Batch, EvaluationLoader, TrainingSamples
from figleaf.data.sampler import BatchPlan
from figleaf.evaluate.predictions import Predictions
from figleaf.vgg.network import VGG


@dataclass(frozen=True)
class Measurement:
    """Final metrics under the tracker's keys, predictions on val and test, the score from which a picture is flagged.

    `tables`: what else is kept with the run, by file name.
    """

    metrics: dict[str, float]
    predictions: Predictions
    threshold: float | None
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)


class Objective(Protocol):
    """What the rest of the training asks about a head; `Classification` and `Segmentation` answer."""

    @property
    def outputs(self) -> int:
        """How many logits the network gives for a picture, or a pixel."""

    @property
    def monitor(self) -> str:
        """The validation metric that chooses the best weights; higher is better."""

    def rows(self, split: str) -> NDArray[np.int64]:
        """The manifest rows of `split` that can be learnt from. Raises `FigleafError` when there is none."""

    def training_samples(self, config: TrainConfig) -> TrainingSamples:
        """The augmented samples of train, with their targets."""

    def validation_batches(self, rows: NDArray[np.int64], batch_size: int) -> EvaluationLoader:
        """The samples `rows` as they are, with their targets."""

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """The mean of the samples' losses, each a function of its sample alone: ranks may share a batch."""

    def see(self, logits: Tensor, batch: Batch) -> tuple[Tensor, ...]:
        """What `validation` needs to know of each sample of a batch, (n, ...)."""

    def validation(self, *seen: Tensor) -> dict[str, float]:
        """Metrics of what was seen of all samples, `val_loss` and the monitor among them if they are defined."""

    def measure(self, best: Path, last: VGG, config: TrainConfig, plan: BatchPlan) -> Measurement:
        """The final measurement: of the weights in the file `best`, and how well the `last` ones fit train.

        Every rank takes part and has the whole of it. Raises `FigleafError` when the training diverged.
        """
