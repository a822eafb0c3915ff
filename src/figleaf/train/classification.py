"""The objective of the `fc` and `gap` heads: the class of a picture."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from figleaf.config import TrainConfig
from figleaf.data.loader import Batch, EvaluationLoader, TrainingSamples
from figleaf.data.sampler import BatchPlan
from figleaf.data.splits import class_weights
from figleaf.evaluate.metrics import auroc
from figleaf.train.inputs import Inputs
from figleaf.train.measure import device_of, final_metrics, fit_metrics, predict_splits, require_converged
from figleaf.train.objective import Measurement
from figleaf.vgg.network import VGG
from figleaf.vgg.scorer import TorchScorer


@dataclass(frozen=True)
class Classification:
    """Cross-entropy over classes, of which `unsafe` holds the indices of those whose probability is the score.

    Without any, validation is judged by accuracy instead of AUROC. `class_weights` (C,) weigh the loss.
    """

    inputs: Inputs
    unsafe: tuple[int, ...]
    label_smoothing: float = 0.0
    class_weights: Tensor | None = None

    @classmethod
    def of(cls, config: TrainConfig, inputs: Inputs) -> "Classification":
        """What `config` asks for."""
        manifest, weights = inputs.manifest, None
        if config.data.balance == "class_weights":
            found = class_weights(manifest.labels[inputs.rows("train")], len(manifest.classes))
            weights = torch.tensor(found, dtype=torch.float32)
        unsafe = tuple(manifest.classes.index(name) for name in manifest.unsafe)
        return cls(inputs, unsafe, config.optimizer.label_smoothing, weights)

    @property
    def outputs(self) -> int:
        """One logit a class."""
        return len(self.inputs.manifest.classes)

    @property
    def monitor(self) -> str:
        """AUROC of the score, where there is one."""
        return "val_auroc" if self.unsafe else "val_accuracy"

    def rows(self, split: str) -> NDArray[np.int64]:
        """Those whose picture could be read."""
        return self.inputs.rows(split)

    def training_samples(self, config: TrainConfig) -> TrainingSamples:
        """Pictures and labels."""
        inputs, seed = self.inputs, config.seed
        augmentation = inputs.augmentation(config.augment, config.model.input_size, seed)
        pixels, labels, rows = inputs.larger.pixels, inputs.manifest.labels, self.rows("train")
        return TrainingSamples(pixels, labels, rows, augmentation, seed, config.augment.alternate)

    def validation_batches(self, rows: NDArray[np.int64], batch_size: int) -> EvaluationLoader:
        """Pictures and labels."""
        return EvaluationLoader(self.inputs.pictures.pixels, self.inputs.manifest.labels, rows, batch_size)

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """Cross-entropy, averaged over samples (not over weights, which would make it depend on the rank's share)."""
        weights = None if self.class_weights is None else self.class_weights.to(logits.device)
        total = F.cross_entropy(logits, batch["label"], weights, label_smoothing=self.label_smoothing, reduction="sum")
        return total / len(logits)

    def see(self, logits: Tensor, batch: Batch) -> tuple[Tensor, ...]:
        """Labels (n,) and logits (n, C)."""
        return batch["label"], logits.float()

    def validation(self, *seen: Tensor) -> dict[str, float]:
        """Loss, accuracy, top-5 where there are more classes, and AUROC."""
        label, logits = seen
        metrics = {
            "val_loss": F.cross_entropy(logits.double(), label).item(),
            "val_accuracy": (logits.argmax(1) == label).double().mean().item(),
        }
        if logits.shape[1] > 5:
            top = (logits.topk(5).indices == label[:, None]).any(1)
            metrics["val_top5"] = top.double().mean().item()
        positive = np.isin(label.numpy(), self.unsafe)
        if self.unsafe and 0 < positive.sum() < len(positive):
            chosen = list(self.unsafe)
            metrics["val_auroc"] = auroc(logits.double().softmax(1)[:, chosen].sum(1).numpy(), positive)
        return metrics

    def measure(self, best: Path, last: VGG, config: TrainConfig, plan: BatchPlan) -> Measurement:
        """Predictions on val and test, metrics of the score, and how well train is fitted."""
        scorer = TorchScorer.load(best, device_of(config))
        predictions = predict_splits(scorer, self.inputs, ("val", "test"), plan)
        require_converged(predictions)
        found, threshold = final_metrics(predictions, config.trainer.intervals, config.seed)
        at_end = TorchScorer(last, scorer.classes, scorer.unsafe, device_of(config))
        return Measurement(found | fit_metrics(at_end, self.inputs, threshold, plan), predictions, threshold)
