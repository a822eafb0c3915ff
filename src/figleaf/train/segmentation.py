"""The objective of the `dense` head: which pixels of a picture are skin."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from figleaf.config import TrainConfig
from figleaf.data.loader import Batch, EvaluationLoader, MaskedSamples
from figleaf.data.sampler import BatchPlan
from figleaf.errors import FigleafError
from figleaf.evaluate.pixel_metrics import THRESHOLDS, PixelCounts, choose_pixel_threshold, count_pixels, pixel_metrics
from figleaf.train.inputs import Inputs
from figleaf.train.measure_pixels import measure_pixels
from figleaf.train.objective import Measurement
from figleaf.vgg.network import VGG
from figleaf.vgg.skin_map import CLASSES, unsafe_place


@dataclass(frozen=True)
class Segmentation:
    """Cross-entropy over pixels, skin against everything else, and `dice` times the soft Dice loss.

    Validation is judged by F1 of all pixels at the network's own resolution, at the threshold at which it is highest.
    """

    inputs: Inputs
    label_smoothing: float = 0.0
    dice: float = 0.0

    @classmethod
    def of(cls, config: TrainConfig, inputs: Inputs) -> "Segmentation":
        """What `config` asks for. Raises `FigleafError` for what has no meaning for pixels."""
        if config.data.balance == "class_weights":
            raise FigleafError(
                "data.balance=class_weights: weighs classes of pictures, and model.head=dense learns pixels; "
                "use data.balance=sampler or none"
            )
        unsafe_place(inputs.manifest.classes, inputs.manifest.unsafe)
        return cls(inputs, config.optimizer.label_smoothing, config.optimizer.dice)

    @property
    def outputs(self) -> int:
        """Something else, or skin."""
        return CLASSES

    @property
    def monitor(self) -> str:
        """F1 of pixels."""
        return "val_pixel_f1"

    def rows(self, split: str) -> NDArray[np.int64]:
        """Those whose picture and mask could be read."""
        return self.inputs.masked_rows(split)

    def training_samples(self, config: TrainConfig) -> MaskedSamples:
        """Pictures and masks, seen through the same views."""
        inputs, seed = self.inputs, config.seed
        assert inputs.larger_masks is not None
        augmentation = inputs.augmentation(config.augment, config.model.input_size, seed)
        rows, labels, in_turn = self.rows("train"), inputs.manifest.labels, config.augment.alternate
        return MaskedSamples(inputs.larger.pixels, labels, rows, augmentation, seed, inputs.larger_masks, in_turn)

    def validation_batches(self, rows: NDArray[np.int64], batch_size: int) -> EvaluationLoader:
        """Pictures and masks."""
        inputs = self.inputs
        return EvaluationLoader(inputs.pictures.pixels, inputs.manifest.labels, rows, batch_size, inputs.masks)

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """The mean over pixels, and over pictures of their own Dice, so that ranks may share a batch.

        Soft Dice (Milletari et al. 2016, V-Net, with sums in the place of squares): 1 - (2 |PM| + 1) / (|P| + |M| + 1).
        The ones keep a picture without skin from having no loss at all.
        """
        is_skin = batch["mask"]
        loss = F.cross_entropy(logits, is_skin.long(), label_smoothing=self.label_smoothing)
        if self.dice:
            skin = logits.softmax(1)[:, 1]
            both, all_of_them = (skin * is_skin).sum((1, 2)), skin.sum((1, 2)) + is_skin.sum((1, 2))
            loss = loss + self.dice * (1 - (2 * both + 1) / (all_of_them + 1)).mean()
        return loss

    def see(self, logits: Tensor, batch: Batch) -> tuple[Tensor, ...]:
        """Mean cross-entropy (n,) and counts of pixels (n, 2, T + 1) of each picture."""
        losses = F.cross_entropy(logits, batch["mask"].long(), reduction="none").double().mean((1, 2))
        skin, truth = logits.float().softmax(1)[:, 1].cpu().numpy(), batch["mask"].cpu().numpy()
        return losses, torch.from_numpy(np.stack(list(map(count_pixels, skin, truth))))

    def validation(self, *seen: Tensor) -> dict[str, float]:
        """Loss without Dice, and F1 and AUROC of all pixels."""
        losses, table = seen
        counts = PixelCounts(table.numpy(), THRESHOLDS)
        found = pixel_metrics(counts, choose_pixel_threshold(counts))
        shown = {f"val_{key}": found[key] for key in ("pixel_f1", "pixel_auroc") if key in found}
        return {"val_loss": losses.mean().item()} | shown

    def measure(self, best: Path, last: VGG, config: TrainConfig, plan: BatchPlan) -> Measurement:
        """See `measure_pixels`."""
        return measure_pixels(best, last, self.inputs, config, plan)
