"""Computing frozen stages once changes the time and nothing else."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from figleaf.config import TrainConfig, compose
from figleaf.train import frozen
from figleaf.train.frozen import frozen_features
from figleaf.train.inputs import load_inputs
from figleaf.train.task import train
from figleaf.vgg.network import VGG, freeze

FAST = ["data=digits", "model=debug", "augment=none", "trainer.epochs=2", "trainer.intervals=0", "trainer.threads=1"]


def config(*overrides: str) -> TrainConfig:
    return compose("train", [*FAST, *overrides])


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIGLEAF_HOME", str(tmp_path))


@pytest.mark.parametrize("stages", [1, 4, 5])
@pytest.mark.parametrize("batch_norm", [True, False])
def test_the_rest_of_the_network_gives_the_same_logits_from_the_features(stages: int, batch_norm: bool) -> None:
    net = VGG(depth=11, width=0.125, head="gap", input_size=32, batch_norm=batch_norm).eval()
    images = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8)
    with torch.inference_mode():
        assert torch.equal(net.from_stage(net.up_to_stage(images, stages), stages), net(images))


def test_training_on_features_is_training_on_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = config("model.frozen_stages=3", "model.dropout=0.3")
    asked: list[bool] = []

    def watched(*arguments: object) -> torch.Tensor | None:
        found = frozen_features(*arguments)  # type: ignore[arg-type]
        asked.append(found is not None)
        return found

    monkeypatch.setattr("figleaf.train.task.frozen_features", watched)
    once = train(settings).metrics
    monkeypatch.setattr(frozen, "_LARGEST_BYTES", 0)
    every = train(replace(settings, resume="never")).metrics
    assert asked == [True, False]
    assert once["val/nll"] == pytest.approx(every["val/nll"], abs=1e-4)
    assert once["fit/nll"] == pytest.approx(every["fit/nll"], abs=1e-4)


def test_nothing_is_kept_where_pictures_or_weights_change(tmp_path: Path) -> None:
    for overrides in (["model.frozen_stages=0"], ["model.frozen_stages=3", "augment.reflect=true"]):
        settings = config(*overrides)
        inputs = load_inputs(settings.data, settings.model.input_size, 1.0, tmp_path)
        net = VGG(depth=11, width=0.125, head="gap", input_size=settings.model.input_size)
        freeze(net, settings.model.frozen_stages)
        assert frozen_features(net, inputs, settings) is None


def test_features_stand_at_their_picture_s_row(tmp_path: Path) -> None:
    settings = config("model.frozen_stages=2")
    inputs = load_inputs(settings.data, settings.model.input_size, 1.0, tmp_path)
    net = VGG(depth=11, width=0.125, head="gap", input_size=settings.model.input_size)
    freeze(net, 2)
    found = frozen_features(net, inputs, settings)
    assert found is not None
    assert net.training
    row = int(inputs.rows("val")[7])
    with torch.inference_mode():
        image = torch.from_numpy(inputs.pictures.pixels[row : row + 1]).permute(0, 3, 1, 2)
        assert torch.allclose(found[row], net.eval().up_to_stage(image, 2)[0], atol=1e-5)
