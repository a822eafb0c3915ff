"""`model.architecture=weights`: the network in a file, whole in the configuration; one run wherever the file lies."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from figleaf.config import TrainConfig, compose, fingerprint, weights_origin, weights_sha256, with_architecture
from figleaf.errors import FigleafError
from figleaf.vgg.network import VGG
from figleaf.vgg.weights import save

CHANNELS = [5, 6, 7, 8, 9, 10, 11, 12]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    net = VGG(depth=11, width=0.0625, input_size=32, channels=CHANNELS, fc_ranks=(3, 0))
    said = {"classes": ["a"], "parent_run_id": "0" * 32, "compression": [{"step": "prune", "share": 0.5}]}
    return save(net, tmp_path / "net.safetensors", said)


def config(file: Path, *overrides: str) -> TrainConfig:
    composed: TrainConfig = compose("train", ["model=from_file", f"model.weights={file}", *overrides])
    return composed


def test_the_configuration_says_what_the_file_holds(file: Path) -> None:
    model = config(file, "model.dropout=0.3").network
    assert (model.depth, model.width, model.head, model.input_size) == (11, 0.0625, "fc", 32)
    assert (model.channels, model.fc_features, model.fc_ranks) == (CHANNELS, None, [3, 0])
    assert model.dropout == 0.3, "of the training, not of the file"


def test_where_it_comes_from_is_read_from_the_file(file: Path) -> None:
    found = weights_origin(config(file))
    assert found["run_id"] == "0" * 32
    assert json.loads(found["compression"]) == [{"step": "prune", "share": 0.5}]
    assert weights_origin(compose("train")) == {}


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("model.depth=13", r"model\.depth=13: the network in .* has depth=11"),
        ("model.width=0.5", r"model\.width=0\.5: .* has width=0\.0625"),
        ("model.channels=[1,2]", r"model\.channels=\[1, 2\]: .* leave the key out"),
        ("model=vgg16_bn_small", ""),  # its own architecture, in place of from_file's
    ],
)
def test_a_key_that_says_otherwise_is_refused(file: Path, override: str, told: str) -> None:
    if told:
        with pytest.raises(FigleafError, match=told):
            config(file, override)
    else:
        with pytest.raises(FigleafError, match=r"model\.\w+=.*: the network in"):
            compose("train", [override, "model.architecture=weights", f"model.weights={file}"])


@pytest.mark.parametrize("weights", ["none", "x.pth", "torchvision:IMAGENET1K_V1"])
def test_what_holds_no_architecture_is_refused(weights: str) -> None:
    """That no file is named is said when a run is to start; until then it is a preset like the others."""
    with pytest.raises(FigleafError, match=r"model\.architecture=weights expects a \.safetensors file of figleaf"):
        with_architecture(compose("train", ["model=from_file", f"model.weights={weights}"]), required=True)


@pytest.mark.parametrize("content", [b"", b"\xff" * 64, b"\x02\x00\x00\x00\x00\x00\x00\x00[]"])
def test_a_damaged_file_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.safetensors").write_bytes(content)
    with pytest.raises(FigleafError, match=r"bad\.safetensors: not a safetensors file"):
        config(tmp_path / "bad.safetensors")


def test_tensors_of_others_hold_no_architecture(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(2)}, tmp_path / "theirs.safetensors")
    with pytest.raises(FigleafError, match="holds tensors but no architecture"):
        config(tmp_path / "theirs.safetensors")


def test_the_fingerprint_is_of_the_content_wherever_the_file_is_and_when_it_is_gone(file: Path, tmp_path: Path) -> None:
    here = config(file)
    print_, digest = fingerprint(here, "data"), weights_sha256(here)
    moved = Path(shutil.copy(file, tmp_path / "moved.safetensors"))
    assert fingerprint(config(moved), "data") == print_
    file.unlink()
    absent = config(file)  # nobody knows its layers now
    assert absent.network.channels is None
    assert fingerprint(absent, "data", digest) == print_
    other = save(VGG(depth=11, width=0.0625, input_size=32), tmp_path / "other.safetensors", {})
    assert fingerprint(config(other), "data") != print_


def test_a_file_that_comes_later_is_read_then(file: Path) -> None:
    hidden = file.rename(file.with_suffix(".hidden"))
    before = config(file)
    hidden.rename(file)
    assert with_architecture(before) == config(file)
    assert with_architecture(with_architecture(before)) == config(file)


def test_layers_can_be_named_without_a_file(file: Path) -> None:
    """A pruned architecture trained from scratch is what a pruned network is to be compared with."""
    keys = ["model=debug", f"model.channels={CHANNELS}".replace(" ", ""), "model.fc_ranks=[3,0]"]
    drawn = compose("train", keys)
    assert drawn.network.channels == CHANNELS
    assert fingerprint(drawn, "data") != fingerprint(compose("train", ["model=debug"]), "data")
    assert replace(drawn.network, channels=None, fc_ranks=None) == compose("train", ["model=debug"]).network
