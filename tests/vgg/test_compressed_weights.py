"""Files of compressed networks: their architecture travels as data, and no other network mistakes them for its own."""

from pathlib import Path

import pytest
import torch

from figleaf.architecture import header
from figleaf.errors import FigleafError
from figleaf.vgg.channel_pruning import prune
from figleaf.vgg.described import described
from figleaf.vgg.low_rank import factorise
from figleaf.vgg.network import VGG
from figleaf.vgg.weights import initialise, load, save
from small_vgg import network, pictures


def small(**changes: object) -> VGG:
    return network(**{"depth": 11, "head": "fc", **changes})


def compressed(**changes: object) -> VGG:
    return factorise(prune(small(**changes), 0.5, multiple=1).net, ranks=[30, 20])


def logits(net: VGG) -> torch.Tensor:
    with torch.inference_mode():
        return net(torch.from_numpy(pictures(2)).permute(0, 3, 1, 2))


@pytest.mark.parametrize("batch_norm", [True, False])
def test_a_compressed_network_comes_back_from_its_file(tmp_path: Path, batch_norm: bool) -> None:
    net = compressed(batch_norm=batch_norm)
    again, metadata = load(save(net, tmp_path / "net.safetensors", {"a": 1}))
    assert metadata == {"a": 1}
    assert again.hyperparameters == net.hyperparameters
    assert (again.fc_ranks, again.channels) == (net.fc_ranks, net.channels)
    torch.testing.assert_close(logits(again), logits(net), atol=1e-6, rtol=0)


def test_the_file_of_a_whole_network_says_nothing_of_compression(tmp_path: Path) -> None:
    said = header(save(small(), tmp_path / "net.safetensors", {}))["hyperparameters"]
    assert not {"channels", "fc_features", "fc_ranks"} & said.keys()


def test_a_network_of_the_same_layers_starts_from_it_entirely(tmp_path: Path) -> None:
    donor = compressed()
    path = save(donor, tmp_path / "net.safetensors", {})
    torch.manual_seed(5)
    net = VGG(**donor.hyperparameters).eval()
    report = initialise(net, str(path))
    assert not report.left
    assert not report.unused
    assert {"fc1_down", "fc1", "fc2_down", "fc2"} <= set(report.loaded)
    torch.testing.assert_close(logits(net), logits(donor))


def test_a_head_with_other_layers_is_left_as_drawn(tmp_path: Path) -> None:
    """Half of a factored layer in a whole one's place would give answers without a meaning."""
    path = save(factorise(small(), ranks=[30, 20]), tmp_path / "net.safetensors", {})
    report = initialise(small(), str(path))
    assert report.left == ("fc1", "fc2", "predictions")
    assert report.same_features


def test_another_networks_channels_are_refused_with_the_way_out(tmp_path: Path) -> None:
    path = save(prune(small(), 0.5).net, tmp_path / "net.safetensors", {})
    with pytest.raises(
        FigleafError, match="a compressed network's own file brings its layers along with model=from_file"
    ):
        initialise(small(), str(path))


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"channels": [8] * 12}, r"channels=\[8, .*\]: expected 13 numbers of at least 1"),
        ({"channels": [8] * 12 + [0]}, "expected 13 numbers of at least 1"),
        ({"fc_ranks": [3]}, r"fc_ranks=\[3\]: expected two numbers of at least 0"),
        ({"fc_features": [3, 0]}, "expected two numbers of at least 1"),
        ({"fc_ranks": [3, 3], "head": "gap"}, "of the hidden layers of head=fc"),
    ],
)
def test_layers_that_do_not_fit_are_named(arguments: dict[str, object], told: str) -> None:
    with pytest.raises(FigleafError, match=told):
        VGG(**{"width": 0.125, "input_size": 32, **arguments})  # type: ignore[arg-type]


def test_words_tell_what_compression_left() -> None:
    assert described(small()) == "VGG11 with batch norm, 0.125 times the published width"
    net = compressed(batch_norm=False)
    assert net.channels is not None
    assert net.fc_features is not None
    assert described(net) == (
        f"VGG11, 0.125 times the published width, {sum(net.channels)} of 344 channels, hidden layers of "
        f"{net.fc_features[0]} and {net.fc_features[1]} features, fc1 of rank 30 and fc2 of rank 20"
    )
