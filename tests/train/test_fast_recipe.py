"""What makes a training reach its goal sooner: each part does what it says, and a resume changes nothing."""

from pathlib import Path

import numpy as np
import pytest
import torch
from killed_run import weights_whole_and_killed

from figleaf.config import ModelConfig, TrainConfig, TrainerConfig, compose, home
from figleaf.data.augment import mirrored_in_turn
from figleaf.data.loader import TrainingSamples
from figleaf.data.sampler import BatchPlan
from figleaf.errors import FigleafError
from figleaf.train.build import make_module, make_objective
from figleaf.train.growth import Growth, growth_of
from figleaf.train.inputs import load_inputs
from figleaf.train.module import Classifier
from figleaf.train.task import train
from figleaf.vgg.cost import gmacs
from small_vgg import network

FAST = ["data=digits", "model=debug", "model.dropout=0", "trainer.intervals=0", "trainer.threads=1", "trainer.epochs=2"]


def config_of(*overrides: str) -> TrainConfig:
    return compose("train", [*FAST, *overrides])


def module_of(config: TrainConfig) -> Classifier:
    inputs = load_inputs(config.data, config.model.input_size, 1.0, home())
    return make_module(config, make_objective(config, inputs), BatchPlan(128, 64, 0))


def test_a_picture_is_mirrored_in_every_other_epoch() -> None:
    image = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    ways = np.array(
        [[(mirrored_in_turn(image, 1, epoch, index) != image).any() for epoch in range(6)] for index in range(200)]
    )
    assert (ways[:, :-1] != ways[:, 1:]).all()
    assert 70 < ways[:, 0].sum() < 130  # half of the samples begin in the mirror
    assert (mirrored_in_turn(mirrored_in_turn(image, 1, 0, 0), 1, 0, 0) == image).all()


def test_training_sees_pictures_and_their_mirror_images_in_turn() -> None:
    config = config_of("augment=none", "augment.reflect=true", "augment.alternate=true")
    inputs = load_inputs(config.data, config.model.input_size, 1.0, home())
    samples = make_objective(config, inputs).training_samples(config)
    assert isinstance(samples, TrainingSamples)
    for position in range(10):
        first, second, third = (samples[(epoch, position)] for epoch in range(3))
        assert (first == third).all()
        assert (second == first[:, ::-1]).all()


def test_mirroring_in_turn_without_mirroring_is_refused() -> None:
    config = config_of("augment=none", "augment.alternate=true")
    inputs = load_inputs(config.data, config.model.input_size, 1.0, home())
    with pytest.raises(FigleafError, match=r"augment\.reflect=true"):
        make_objective(config, inputs).training_samples(config)


def test_pictures_grow_in_steps_of_sixteen_pixels_and_end_at_full_size() -> None:
    growth = Growth(32, 64, 100)
    sizes = [growth.size(step) for step in range(150)]
    assert sizes == sorted(sizes)
    assert set(sizes) == {32, 48, 64}
    assert sizes[100:] == [64] * 50
    assert sizes.count(32) == sizes.count(48) == 50
    assert {Growth(40, 64, 10).size(step) for step in range(20)} == {40, 48, 64}


def test_a_shrunk_picture_is_the_mean_of_its_pixels() -> None:
    rgb = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8, generator=torch.manual_seed(0))
    small = Growth(32, 64, 10)(rgb, 0)
    assert small.shape == (2, 3, 32, 32)
    assert small.mean().item() == pytest.approx(rgb.float().mean().item(), abs=0.5)
    assert torch.equal(Growth(32, 64, 10)(rgb, 10), rgb)


def test_the_first_steps_of_a_training_see_small_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    original = Growth.__call__

    def watched(self: Growth, rgb: torch.Tensor, step: int) -> torch.Tensor:
        seen = original(self, rgb, step)
        sizes.append(seen.shape[-1])
        return seen

    monkeypatch.setattr(Growth, "__call__", watched)
    train(config_of("model.input_size=64", "model.head=gap", "trainer.grow_from=32", "trainer.max_steps=8"))
    assert sizes == [32, 32, 48, 48, 64, 64, 64, 64]


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (ModelConfig(head="fc", input_size=64), "model.head=fc"),
        (ModelConfig(head="dense", input_size=64), "model.head=dense"),
        (ModelConfig(head="gap", input_size=64, frozen_stages=1), "frozen_stages=1"),
        (ModelConfig(head="gap", input_size=32), "less than model.input_size=32"),
    ],
)
def test_networks_whose_pictures_cannot_grow_are_refused(model: ModelConfig, expected: str) -> None:
    with pytest.raises(FigleafError, match=expected):
        growth_of(model, TrainerConfig(grow_from=32), 10)


def test_pictures_that_cannot_grow_are_refused_before_there_is_a_run() -> None:
    with pytest.raises(FigleafError, match=r"model.head=fc is built for .* or trainer.grow_from=null"):
        train(config_of("model.input_size=64", "model.head=fc", "trainer.grow_from=32"))
    assert not (home() / "runs").exists()


@pytest.mark.parametrize(
    ("model", "first"),
    [
        (ModelConfig(head="gap", input_size=64), 32),
        (ModelConfig(head="gap", input_size=72), 32),
        (ModelConfig(head="gap", input_size=224), 112),
        (ModelConfig(head="gap", input_size=48), 32),
        (ModelConfig(head="gap", input_size=32), None),
        (ModelConfig(head="fc", input_size=64), None),
        (ModelConfig(head="dense", input_size=64), None),
        (ModelConfig(head="gap", input_size=64, frozen_stages=1), None),
        (ModelConfig(head="gap", input_size=64, weights="torchvision:IMAGENET1K_V1"), None),
    ],
)
def test_auto_grows_from_half_of_the_side_where_that_can_be_done(model: ModelConfig, first: int | None) -> None:
    growth = growth_of(model, TrainerConfig(grow_from="auto"), 10)
    assert (growth and growth.first) == first


def test_small_presets_start_with_small_pictures_and_say_how_not_to() -> None:
    assert compose("train", ["model=vgg16_bn_small"]).trainer.grow_from == "auto"
    assert compose("train", ["model=vgg19_bn_small", "trainer=ddp_cpu"]).trainer.grow_from == "auto"
    assert compose("train", ["model=vgg16_bn_small", "trainer.grow_from=null"]).trainer.grow_from is None
    assert compose("train", ["model=vgg16_bn"]).trainer.grow_from is None
    for value in ("31", "half"):
        with pytest.raises(FigleafError, match=r"trainer.grow_from=.*: expected auto, or at least 32"):
            compose("train", [f"trainer.grow_from={value}"])


def test_the_work_of_small_pictures_is_not_counted_as_that_of_large_ones() -> None:
    net, growth = network(), Growth(32, 64, 2)
    assert [growth.size(step) for step in range(4)] == [32, 48, 64, 64]
    expected = (gmacs(net, 32) + gmacs(net, 48) + 2 * gmacs(net, 64)) / 4
    assert growth.mean_gmacs(net, 4) == pytest.approx(expected)
    assert expected < gmacs(net)


def test_biases_of_batch_norms_learn_faster_and_decay_no_more_than_before() -> None:
    module = module_of(config_of("optimizer.bn_bias_lr_factor=16", "optimizer.head_lr_factor=2"))
    groups = module.configure_optimizers().param_groups
    biases = {id(m.bias) for m in module.modules() if isinstance(m, torch.nn.BatchNorm2d)}
    assert biases
    for group in groups:
        is_bias = {id(p) in biases for p in group["params"]}
        assert len(is_bias) == 1
        scale = 16 if is_bias == {True} else 1
        assert group["lr_factor"] in (scale, 2 * scale)
        assert group["weight_decay"] * scale == pytest.approx(module.settings.weight_decay)
    learning = [id(p) for group in groups for p in group["params"]]
    assert sorted(learning) == sorted(id(p) for p in module.parameters())


def test_training_stops_once_the_target_is_reached() -> None:
    whole = train(config_of("trainer.epochs=6", "trainer.target=1.01"))
    early = train(config_of("trainer.epochs=6", "trainer.target=0.6"))
    assert whole.metrics["cost/epochs"] == 6
    assert early.metrics["cost/epochs"] < 6
    assert early.metrics["val/auroc"] >= 0.6
    assert (whole.metrics["val/target_reached"], early.metrics["val/target_reached"]) == (0, 1)


def test_a_computed_layer_and_loaded_weights_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FigleafError, match=r"model\.whiten=true with model\.weights="):
        module_of(config_of("model.whiten=true", f"model.weights={tmp_path / 'w.npz'}"))


@pytest.mark.slow
def test_a_killed_run_of_the_whole_recipe_ends_as_if_it_had_not_been(tmp_path: Path) -> None:
    overrides = [
        *FAST,
        *(
            "model.whiten=true",
            "model.head=gap",
            "model.input_size=64",
            "trainer.grow_from=32",
            "augment.alternate=true",
        ),
        *("optimizer.bn_bias_lr_factor=8", "optimizer.ema_decay=0.9", "trainer.checkpoint_seconds=0"),
    ]
    whole, killed = weights_whole_and_killed(tmp_path, overrides)
    assert all(torch.equal(tensor, killed[name]) for name, tensor in whole.items())
