"""The Lightning module: optimiser, learning rate, steps and validation of one network; its objective says what for."""

import math
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from figleaf.config import OptimizerConfig
from figleaf.data.loader import Batch
from figleaf.train.frozen import logits_of
from figleaf.train.growth import Growth
from figleaf.train.objective import Objective
from figleaf.train.ranks import gathered
from figleaf.train.slimming import add_scale_penalty
from figleaf.vgg.network import HEAD, VGG


class Classifier(pl.LightningModule):
    """Trains `network` on the batches of its `objective`; `total_steps`: optimiser steps of the whole training.

    A `hint` learns with the network and adds its loss, of the spatial means (N, F) of what the last stage gives. With
    `growth` the first steps see smaller pictures.
    """

    def __init__(
        self,
        network: VGG,
        objective: Objective,
        settings: OptimizerConfig,
        *,
        total_steps: int,
        seed: int,
        hint: torch.nn.Module | None = None,
        growth: Growth | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.hint, self.growth = hint, growth
        self.objective, self.settings, self.total_steps, self.seed = objective, settings, total_steps, seed
        self.average: AveragedModel | None = None
        if settings.ema_decay:
            average = get_ema_multi_avg_fn(settings.ema_decay)  # type: ignore[no-untyped-call]
            self.average = AveragedModel(network, multi_avg_fn=average, use_buffers=True).requires_grad_(False)
        self.plateau_scale = 1.0  # the plateau schedule's share of the peak learning rate
        self.frozen: Tensor | None = None  # by picture, what the first stage that learns takes in; see train.frozen
        self.validation: dict[str, float] = {}  # what the last validation found
        self._seen: list[tuple[Tensor, ...]] = []

    @property
    def monitor(self) -> str:
        """The validation metric that chooses the best weights; higher is better."""
        return self.objective.monitor

    @property
    def selected(self) -> VGG:
        """The network that is validated and kept: the weight average when there is one."""
        selected = self.network if self.average is None else self.average.module
        assert isinstance(selected, VGG)
        return selected

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """SGD or AdamW over the parameters that learn; weight decay on all of them, as in the VGG paper."""
        s = self.settings
        parts = [(self.network.features, 1.0), (self.network.classifier, s.head_lr_factor)]
        if self.hint is not None:
            parts.append((self.hint, s.head_lr_factor))
        biases = {id(m.bias) for m in self.modules() if isinstance(m, torch.nn.BatchNorm2d)}
        # The decay of a step is the rate times this number: it stays what it is for the other weights.
        kinds = [(False, 1.0), (True, s.bn_bias_lr_factor)] if s.bn_bias_lr_factor != 1 else [(None, 1.0)]
        groups = [
            {"params": learning, "lr_factor": factor * scale, "weight_decay": s.weight_decay / scale}
            for part, factor in parts
            for is_bias, scale in kinds
            if (learning := [p for p in part.parameters() if p.requires_grad and is_bias in (None, id(p) in biases)])
        ]
        if s.name == "adamw":
            return torch.optim.AdamW(groups, self.peak_lr, betas=(s.momentum, 0.999), weight_decay=s.weight_decay)
        nesterov = s.nesterov and s.momentum > 0
        return torch.optim.SGD(groups, self.peak_lr, s.momentum, weight_decay=s.weight_decay, nesterov=nesterov)

    @property
    def peak_lr(self) -> float:
        """The peak learning rate after the scaling that the configuration asks for."""
        return self.settings.lr * (self.settings.batch_size / 256 if self.settings.lr_scaling == "linear" else 1.0)

    def learning_rate(self, step: int) -> float:
        """The learning rate of optimiser step `step`: a function, not a state, so a resume cannot get it wrong."""
        if self.settings.schedule == "plateau":
            return self.peak_lr * self.plateau_scale
        if self.settings.schedule == "constant":
            return self.peak_lr
        warm = self.settings.warmup * self.total_steps
        if step < warm:
            return self.peak_lr * (step + 1) / (warm + 1)
        return self.peak_lr * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1.0, self.total_steps - warm)))

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Set the learning rate, and seed dropout from the step so that a resumed step draws what it would have."""
        optimizer = self.trainer.optimizers[0]
        for group in optimizer.param_groups:
            group["lr"] = self.learning_rate(self.global_step) * group["lr_factor"]
        stream = np.random.SeedSequence([self.seed, self.trainer.current_epoch, batch_idx, self.global_rank])
        torch.manual_seed(int(stream.generate_state(1, np.uint64)[0]) >> 1)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The objective's loss, and the hint's."""
        if self.growth is not None:
            batch = {**batch, "image": self.growth(batch["image"], self.global_step)}
        if self.hint is None:
            return self.objective.loss(logits_of(self.network, batch, self.frozen), batch)
        maps = self.network.up_to_stage(batch["image"], HEAD)
        hinted: Tensor = self.hint(maps.mean((2, 3)), batch)
        return self.objective.loss(self.network.from_stage(maps, HEAD), batch) + hinted

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Add what is no function of a sample to the gradients, which ranks and parts of a batch have made one."""
        add_scale_penalty(self.network, self.settings.bn_l1)

    def update_average(self) -> None:
        """Move the weight average towards the network after an optimiser step."""
        if self.average is not None:
            self.average.update_parameters(self.network)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Collect what is seen of each picture; the numbers are made once, from all of it."""
        seen = self.objective.see(logits_of(self.selected, batch, self.frozen), batch)
        self._seen.append(tuple(part.cpu() for part in (batch["index"], *seen)))

    def on_validation_epoch_end(self) -> None:
        """The objective's metrics over every validation sample of every rank, each counted once."""
        _, *seen = gathered(self._seen)
        self._seen.clear()
        self.validation = self.objective.validation(*seen)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what the optimiser state does not hold."""
        checkpoint["plateau_scale"] = self.plateau_scale

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore it."""
        self.plateau_scale = checkpoint["plateau_scale"]
