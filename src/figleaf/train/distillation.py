"""The objective of a student: the classes of pictures, as the labels and as a teacher have them.

Hinton, Vinyals & Dean (2015), "Distilling the knowledge in a neural network": both networks' logits are divided by a
temperature T, and the Kullback-Leibler divergence of the softened answers is multiplied by T squared, which keeps its
gradients at the scale of the labels'. Matching features: Romero et al. (2015), "FitNets", on the means of the last
stage's maps.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from figleaf.config import DistillConfig, TrainConfig
from figleaf.data.augment import Augmentation
from figleaf.data.loader import Batch, Draw, TrainingSamples
from figleaf.train.classification import Classification
from figleaf.train.inputs import Inputs
from figleaf.train.teacher import VIEW_SEED, Lessons, give_lessons
from figleaf.vgg.network import VGG


class TaughtSamples(TrainingSamples):
    """The views that the teacher has seen, one an epoch in turn, and what it said of them."""

    def __init__(
        self,
        pixels: NDArray[np.uint8],
        labels: NDArray[np.int64],
        rows: NDArray[np.int64],
        augmentation: Augmentation,
        lessons: Lessons,
        alternate: bool,
    ) -> None:
        super().__init__(pixels, labels, rows, augmentation, VIEW_SEED, alternate)
        self.lessons = lessons

    def __getitem__(self, draw: Draw) -> NDArray[np.uint8]:
        """The picture in the view of that epoch (S, S, 3)."""
        return super().__getitem__(self._view(draw))

    def __getitems__(self, draws: Sequence[Draw]) -> Batch:
        """What `TrainingSamples` gives, and teacher_logits (n, C), teacher_features (n, F)."""
        places = tuple(np.array([self._view(draw) for draw in draws]).T)
        return super().__getitems__(draws) | {
            "teacher_logits": torch.from_numpy(self.lessons.logits[places]),
            "teacher_features": torch.from_numpy(self.lessons.features[places]),
        }

    def _view(self, draw: Draw) -> Draw:
        epoch, position = draw
        return epoch % self.lessons.views, position


@dataclass(frozen=True, kw_only=True)
class Distillation(Classification):
    """`Classification`, of whose loss the teacher's word is a share; validated and measured as without a teacher."""

    lessons: Lessons
    settings: DistillConfig

    @classmethod
    def of(cls, config: TrainConfig, inputs: Inputs) -> Self:
        """What `config` asks for; the teacher is asked, unless it has been. Raises `FigleafError` as `give_lessons`."""
        plain = Classification.of(config, inputs)
        lessons = give_lessons(config, inputs, plain.rows("train"))
        return cls(
            inputs,
            plain.unsafe,
            plain.label_smoothing,
            plain.class_weights,
            lessons=lessons,
            settings=config.distill,
        )

    def training_samples(self, config: TrainConfig) -> TrainingSamples:
        """Pictures, labels and the teacher's answers."""
        plain = super().training_samples(config)
        return TaughtSamples(plain.pixels, plain.labels, plain.rows, plain.augmentation, self.lessons, plain.alternate)

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """The labels' loss and the teacher's, weighted."""
        t, share = self.settings.temperature, self.settings.weight
        of_teacher = F.log_softmax(batch["teacher_logits"] / t, dim=1)
        divergence = F.kl_div(F.log_softmax(logits / t, dim=1), of_teacher, reduction="sum", log_target=True)
        return (1 - share) * super().loss(logits, batch) + share * t**2 * divergence / len(logits)

    def hint(self, net: VGG) -> "FeatureHint | None":
        """What matches the features of the student `net` with the teacher's; None where that has no weight."""
        if not self.settings.features:
            return None
        own = list(net.convolutions.values())[-1].out_channels
        return FeatureHint(own, self.lessons.features.shape[2], self.settings.features)


class FeatureHint(nn.Module):
    """A linear map from the student's features (N, `own`) to the teacher's; it learns with it, and is kept nowhere."""

    def __init__(self, own: int, teachers: int, weight: float) -> None:
        super().__init__()
        self.regressor, self.weight = nn.Linear(own, teachers), weight

    def forward(self, features: Tensor, batch: Batch) -> Tensor:
        """`weight` times the mean squared error of the features that are predicted from the student's."""
        loss: Tensor = self.weight * F.mse_loss(self.regressor(features), batch["teacher_features"])
        return loss
