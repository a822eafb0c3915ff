"""The penalty on batch norms' scales: once a step, whatever shares the batch, and it draws them to zero."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from figleaf.config import compose
from figleaf.errors import FigleafError
from figleaf.train.launch import start_trial
from figleaf.train.slimming import add_scale_penalty
from figleaf.train.task import train
from figleaf.vgg.network import VGG, freeze

ONE_STEP = [
    *("data=digits", "model=debug", "augment=none", "trainer.max_steps=1", "trainer.intervals=0", "trainer.threads=1"),
    *("optimizer.batch_size=96", "optimizer.schedule=constant", "optimizer.lr=0.1", "optimizer.momentum=0"),
    *("optimizer.nesterov=false", "optimizer.weight_decay=0", "model.dropout=0"),
]
STRENGTH = 0.01


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "checkpoints" / "best.safetensors")


def assert_the_penalty_alone_differs(plain: dict[str, torch.Tensor], slimmed: dict[str, torch.Tensor]) -> None:
    """After one step from scales of 1: they lie lower by rate times strength, everything else is the same."""
    scales = {name for name, tensor in plain.items() if name.startswith("features") and _is_scale(name, plain)}
    assert len(scales) == 8
    for name, tensor in plain.items():
        expected = tensor - 0.1 * STRENGTH if name in scales else tensor
        torch.testing.assert_close(slimmed[name], expected, atol=1e-6, rtol=0, msg=name)


def _is_scale(name: str, state: dict[str, torch.Tensor]) -> bool:
    return name.replace("weight", "running_var") in state and name.endswith("weight")


def test_it_counts_once_a_step_though_the_batch_is_accumulated() -> None:
    parts = [*ONE_STEP, "trainer.max_device_batch=32"]
    plain, slimmed = (train(compose("train", [*parts, f"optimizer.bn_l1={s}"])) for s in (0, STRENGTH))
    assert_the_penalty_alone_differs(weights(plain.folder), weights(slimmed.folder))


@pytest.mark.ddp
def test_ranks_that_share_a_batch_add_it_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for strength in (0, STRENGTH):
        monkeypatch.setenv("FIGLEAF_HOME", str(tmp_path / str(strength)))
        config = compose("train", [*ONE_STEP, "trainer=ddp_cpu", "trainer.threads=1", f"optimizer.bn_l1={strength}"])
        trial = start_trial(config, log=tmp_path / "log.txt")
        assert trial.wait(240) == 0, (tmp_path / "log.txt").read_text()
        assert trial.run_folder is not None
        found.append(weights(trial.run_folder))
    assert_the_penalty_alone_differs(*found)


def test_it_has_the_sign_of_each_scale_and_leaves_frozen_stages_and_zeros_alone() -> None:
    net = VGG(depth=11, width=0.0625, input_size=32, head="gap")
    freeze(net, 1)
    first, second, *_ = (layer for layer in net.features if isinstance(layer, torch.nn.BatchNorm2d))
    with torch.no_grad():
        second.weight.copy_(torch.tensor([-2.0, 0.0, 3.0] + [1.0] * (len(second.weight) - 3)))
    net(torch.rand(4, 3, 32, 32)).sum().backward()
    before = second.weight.grad.clone()
    add_scale_penalty(net, 0.5)
    torch.testing.assert_close(second.weight.grad - before, 0.5 * second.weight.sign().detach())
    assert first.weight.grad is None


def test_training_with_it_draws_scales_towards_zero() -> None:
    images = torch.rand(16, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 255
    labels = torch.arange(16) % 2
    sums = []
    for strength in (0.0, 0.05):
        torch.manual_seed(0)
        net = VGG(depth=11, width=0.0625, input_size=32, head="gap")
        optimizer = torch.optim.SGD(net.parameters(), 0.1)
        for _ in range(60):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(net(images), labels).backward()
            add_scale_penalty(net, strength)
            optimizer.step()
        scales = [layer.weight for layer in net.features if isinstance(layer, torch.nn.BatchNorm2d)]
        sums.append(float(torch.cat(scales).detach().abs().sum()))
    assert sums[1] < 0.8 * sums[0]


def test_a_network_without_batch_norms_is_refused() -> None:
    with pytest.raises(FigleafError, match=r"optimizer\.bn_l1=0\.1: .* pass model\.batch_norm=true"):
        train(compose("train", [*ONE_STEP, "model.batch_norm=false", "optimizer.bn_l1=0.1"]))
