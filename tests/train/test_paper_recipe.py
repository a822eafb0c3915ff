"""The VGG paper's recipe: a thousand classes, the plateau's drops, a deeper network started from a trained A."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from figleaf.config import compose, experiments_dir
from figleaf.data.index import index_folder
from figleaf.data.manifest import save_manifest
from figleaf.study.spec import find_study
from figleaf.train.build import make_module, make_objective
from figleaf.train.callbacks import BestWeights
from figleaf.train.task import train
from figleaf.vgg.weights import load

CLASSES = 1000


@pytest.fixture(scope="module")
def many_classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ImageFolder of a thousand classes, each a colour, with a train and a val folder."""
    root, rng = tmp_path_factory.mktemp("folder"), np.random.default_rng(0)
    for label in range(CLASSES):
        colour = rng.integers(0, 256, 3, dtype=np.uint8)
        for split, count in (("train", 2), ("val", 1)):
            folder = root / split / f"n{label:08d}"
            folder.mkdir(parents=True)
            for index in range(count):
                Image.fromarray(np.broadcast_to(colour, (36, 36, 3))).save(folder / f"{index}.png")
    save_manifest(index_folder(root, unsafe=[], test_fraction=0), root / "manifest.csv")
    return root / "manifest.csv"


@pytest.mark.slow
def test_recipe_trains_a_thousand_classes_and_a_deeper_network_from_it(many_classes: Path) -> None:
    study = find_study("imagenet_vgg", experiments_dir())
    small = [
        f"data.manifest={many_classes}",
        "model.width=0.0625",
        "model.input_size=32",
        "trainer=cpu",
        "trainer.max_steps=8",
        "trainer.threads=1",
    ]
    config = compose("train", [*study.base, *study.arms["A"].overrides, *small])
    assert (config.optimizer.batch_size, config.optimizer.schedule) == (256, "plateau")
    shallow = train(config)
    assert {"val/top1", "val/top5"} <= shallow.metrics.keys()
    assert "val/auroc" not in shallow.metrics
    weights = shallow.folder / "checkpoints" / "best.safetensors"
    deeper = compose("train", [*study.base, *study.arms["D"].overrides, *small, f"model.weights=shallower:{weights}"])
    manifest = SimpleNamespace(classes=tuple(map(str, range(CLASSES))), unsafe=())
    inputs: Any = SimpleNamespace(manifest=manifest)
    plan: Any = SimpleNamespace(steps_per_epoch=1, rank=0)
    net = make_module(deeper, make_objective(deeper, inputs), plan).network
    for name in ("block1_conv1", "block2_conv1", "block3_conv1", "block3_conv2", "fc1"):
        assert torch.equal(net.layers[name].weight, load(weights)[0].layers[name].weight), name  # type: ignore[arg-type]
    assert "val/top1" in train(deeper).metrics


def test_plateau_divides_three_times_and_then_stops() -> None:
    trainer: Any = SimpleNamespace(current_epoch=0, is_global_zero=False, should_stop=False)
    module: Any = SimpleNamespace(
        monitor="val_accuracy", plateau_scale=1.0, validation={"val_accuracy": 0.5, "val_loss": 1.0}
    )
    best = BestWeights(lambda net: None, patience=0, plateau=(0.1, 2, 3))
    scales = []
    while not trainer.should_stop and trainer.current_epoch < 100:
        best.on_validation_end(trainer, module)
        scales.append(round(module.plateau_scale, 6))
        trainer.current_epoch += 1
    # The first epoch is the best; every three epochs without a better one divide the rate, the fourth time stops.
    assert scales == [1.0] * 3 + [0.1] * 3 + [0.01] * 3 + [0.001] * 4


def test_plateau_waits_while_validation_improves() -> None:
    trainer: Any = SimpleNamespace(current_epoch=0, is_global_zero=False, should_stop=False)
    module: Any = SimpleNamespace(monitor="val_accuracy", plateau_scale=1.0, validation={})
    best = BestWeights(lambda net: None, patience=0, plateau=(0.1, 2, 3))
    for epoch in range(30):
        trainer.current_epoch = epoch
        module.validation = {"val_accuracy": epoch / 30, "val_loss": 1.0}
        best.on_validation_end(trainer, module)
    assert module.plateau_scale == 1.0
    assert not trainer.should_stop


def test_ties_of_the_monitor_go_to_the_lower_loss() -> None:
    kept = []
    trainer: Any = SimpleNamespace(current_epoch=0, is_global_zero=True, should_stop=False)
    module: Any = SimpleNamespace(monitor="val_auroc", validation={}, selected=None)
    best = BestWeights(lambda net: kept.append(trainer.current_epoch), patience=0, plateau=None)
    for epoch, loss in enumerate([0.5, 0.4, 0.6]):
        trainer.current_epoch = epoch
        module.validation = {"val_auroc": 1.0, "val_loss": loss}
        best.on_validation_end(trainer, module)
    assert kept == [0, 1]


def test_early_stopping_counts_from_the_best_epoch() -> None:
    trainer: Any = SimpleNamespace(current_epoch=0, is_global_zero=False, should_stop=False)
    module: Any = SimpleNamespace(monitor="val_auroc", validation={})
    best = BestWeights(lambda net: None, patience=3, plateau=None)
    for epoch, value in enumerate([0.5, 0.6, 0.6, 0.6, 0.6]):
        trainer.current_epoch = epoch
        module.validation = {"val_auroc": value, "val_loss": 1.0}
        assert not trainer.should_stop
        best.on_validation_end(trainer, module)
    assert trainer.should_stop
