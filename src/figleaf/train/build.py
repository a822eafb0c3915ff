"""From a configuration and its inputs to the parts of a training."""

import sys
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray

from figleaf.config import TrainConfig
from figleaf.data.sampler import BatchPlan, IntArray, plan_batches
from figleaf.data.splits import class_weights
from figleaf.errors import FigleafError
from figleaf.train.classification import Classification
from figleaf.train.distillation import Distillation
from figleaf.train.folder import RunFolder
from figleaf.train.growth import growth_of
from figleaf.train.inputs import Inputs
from figleaf.train.module import Classifier
from figleaf.train.objective import Objective
from figleaf.train.segmentation import Segmentation
from figleaf.vgg.network import VGG, freeze
from figleaf.vgg.weights import init_from_shallower, initialise, load, save

# model.weights=shallower:PATH starts a deeper network from a trained A, as the VGG paper did.
SHALLOWER = "shallower:"


def make_plan(config: TrainConfig, inputs: Inputs, rows: IntArray, rank: int, world_size: int) -> BatchPlan:
    """How the training rows are dealt into batches."""
    balanced = config.data.balance == "sampler"
    return plan_batches(
        len(rows),
        batch_size=config.optimizer.batch_size,
        seed=config.seed,
        rank=rank,
        world_size=world_size,
        max_device_batch=config.trainer.max_device_batch,
        weights=_sample_weights(inputs, rows) if balanced else None,
    )


def make_objective(config: TrainConfig, inputs: Inputs) -> Objective:
    """What the head of `config` is trained for. Raises `FigleafError` for what does not go together with it."""
    if config.network.head == "dense":
        return Segmentation.of(config, inputs)
    return Classification.of(config, inputs) if config.distill.teacher is None else Distillation.of(config, inputs)


def make_module(config: TrainConfig, objective: Objective, plan: BatchPlan) -> Classifier:
    """The classifier with its initial weights: a function of the seed and the configuration.

    Raises `FigleafError` for keys that do not go together.
    """
    pl.seed_everything(config.seed, verbose=False)
    m = config.network
    if m.whiten and m.weights != "none":
        raise FigleafError(f"model.whiten=true with model.weights={m.weights}: would replace what is loaded; use one")
    if config.optimizer.bn_l1 and not m.batch_norm:
        raise FigleafError(
            f"optimizer.bn_l1={config.optimizer.bn_l1}: a penalty on the scales of batch norms, and this network has "
            "none; pass model.batch_norm=true, or leave it at 0"
        )
    net = VGG(
        depth=m.depth,
        batch_norm=m.batch_norm,
        width=m.width,
        head=m.head,  # type: ignore[arg-type]  # the configuration allows these
        dropout=m.dropout,
        classes=objective.outputs,
        input_size=m.input_size,
        checkpoint_activations=m.checkpoint_activations,
        adaptive_pool=m.adaptive_pool,
        channels=m.channels,
        fc_features=m.fc_features,
        fc_ranks=m.fc_ranks,
    )
    if m.weights.startswith(SHALLOWER):
        init_from_shallower(net, load(Path(m.weights.removeprefix(SHALLOWER)))[0])
    else:
        report = initialise(net, m.weights)
        if m.weights != "none" and plan.rank == 0:
            print(report.describe(), file=sys.stderr)
    freeze(net, m.frozen_stages)
    if config.trainer.channels_last:
        net = net.to(memory_format=torch.channels_last)
    total_steps = config.trainer.max_steps or plan.steps_per_epoch * config.trainer.epochs
    return Classifier(
        net,
        objective,
        config.optimizer,
        total_steps=total_steps,
        seed=config.seed,
        hint=objective.hint(net) if isinstance(objective, Distillation) else None,
        growth=growth_of(m, config.trainer, total_steps),
    )


def _sample_weights(inputs: Inputs, rows: IntArray) -> NDArray[np.float64]:
    """For the balanced sampler: each class is drawn equally often."""
    labels = inputs.manifest.labels[rows]
    return class_weights(labels, len(inputs.manifest.classes))[labels]


def plateau(config: TrainConfig) -> tuple[float, int, int] | None:
    """(factor, patience, most drops) of the plateau schedule; None for the others."""
    o = config.optimizer
    return (o.plateau_factor, o.plateau_patience, o.plateau_drops) if o.schedule == "plateau" else None


def keep_best(net: torch.nn.Module, folder: RunFolder, inputs: Inputs, config: TrainConfig) -> None:
    """Write the best weights with what it takes to use them."""
    assert isinstance(net, VGG)
    facts = {
        "classes": list(inputs.manifest.classes),
        "unsafe": list(inputs.manifest.unsafe),
        "data_name": inputs.manifest.name,
        "data_hash": inputs.data_hash,
        "study": config.study,
        "arm": config.arm,
        "seed": config.seed,
    }
    save(net, folder.best, facts)
