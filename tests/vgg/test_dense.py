"""Dense evaluation: the plain network at its own size, the paper's convolutions at larger ones."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from figleaf.errors import FigleafError
from figleaf.vgg import cost
from figleaf.vgg.dense import DenseScorer, places_a_side, score_map
from figleaf.vgg.network import VGG
from figleaf.vgg.scorer import TorchScorer

# A head on a grid of 2 x 2, on a grid that drops a rim, behind torchvision's pooling, and averaged over space.
HEADS = [
    {"head": "fc"},
    {"head": "fc", "input_size": 100},
    {"head": "fc", "adaptive_pool": True},
    {"head": "gap"},
]


def network(**changes: object) -> VGG:
    """A small network with weights large enough to tell pictures apart."""
    torch.manual_seed(0)
    net = VGG(**{"depth": 11, "width": 0.125, "input_size": 64, "classes": 3, **changes})
    for layer in net.classifier:
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, 0, layer.in_features**-0.5)
            nn.init.normal_(layer.bias)
    return net.eval()


def scorer(net: VGG) -> TorchScorer:
    return TorchScorer(net, [f"class {i}" for i in range(net.classes)], ())


def pictures(count: int, size: int) -> NDArray[np.uint8]:
    """Blocks of one colour: large enough to pass through the poolings."""
    blocks = np.random.default_rng(size).integers(0, 256, (count, -(-size // 16), -(-size // 16), 3), dtype=np.uint8)
    return np.ascontiguousarray(blocks.repeat(16, axis=1).repeat(16, axis=2)[:, :size, :size])


def as_tensor(rgb_u8: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(rgb_u8).permute(0, 3, 1, 2)


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("head", HEADS)
def test_at_the_networks_own_size_dense_evaluation_gives_its_logits(head: dict[str, object], batch_norm: bool) -> None:
    plain = scorer(network(batch_norm=batch_norm, **head))
    rgb_u8 = pictures(5, plain.input_size)
    expected = plain.logits(rgb_u8)
    assert expected.std(axis=0).min() > 1e-3, "the pictures differ"
    np.testing.assert_allclose(DenseScorer(plain, plain.input_size).logits(rgb_u8), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("batch_norm", "size"), [(False, 224), (True, 256)])
def test_a_full_size_vgg16_does_so_too_and_has_the_papers_map_at_256(batch_norm: bool, size: int) -> None:
    net = VGG(depth=16, batch_norm=batch_norm, classes=2).eval()
    plain = scorer(net)
    rgb_u8 = pictures(1, size)
    with torch.inference_mode():
        scores = score_map(net, as_tensor(rgb_u8))
        assert scores.shape == (1, 2, (size - 224) // 32 + 1, (size - 224) // 32 + 1)
        torch.testing.assert_close(scores, by_convolutions(net, as_tensor(rgb_u8)), rtol=1e-4, atol=1e-5)
    dense = DenseScorer(plain, size).logits(rgb_u8)
    np.testing.assert_allclose(dense, scores.mean((2, 3)).numpy(), rtol=1e-4, atol=1e-5)
    if size == 224:
        np.testing.assert_allclose(dense, plain.logits(rgb_u8), rtol=1e-4, atol=1e-5)


def by_convolutions(net: VGG, rgb: Tensor) -> Tensor:
    """The paper's words: the first layer becomes a convolution as large as the grid, the others become 1x1."""
    x = net.features(net.normalize(rgb))
    side = 1 if net.head == "gap" else net.input_size // 32
    linear = [layer for layer in net.classifier if isinstance(layer, nn.Linear)]
    for number, layer in enumerate(linear):
        side = side if number == 0 else 1
        x = F.conv2d(x, layer.weight.view(layer.out_features, -1, side, side), layer.bias)
        x = F.relu(x) if layer is not linear[-1] else x
    return x


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("head", ["fc", "gap"])
@pytest.mark.parametrize("size", [64, 96, 160])
def test_the_score_map_is_that_of_the_papers_convolutions(size: int, head: str, batch_norm: bool) -> None:
    net = network(head=head, batch_norm=batch_norm)
    with torch.inference_mode():
        found, expected = (f(net, as_tensor(pictures(2, size))) for f in (score_map, by_convolutions))
    assert found.shape[2:] == (places_a_side(net, size),) * 2
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_a_gap_head_is_the_same_network_on_the_larger_picture() -> None:
    plain = scorer(network(head="gap"))
    rgb_u8 = pictures(3, 128)
    np.testing.assert_allclose(DenseScorer(plain, 128).logits(rgb_u8), plain.logits(rgb_u8), rtol=1e-5, atol=1e-5)


def test_the_map_of_a_picture_wider_than_high_is_so_too() -> None:
    assert score_map(network(), torch.zeros(2, 3, 64, 128)).shape == (2, 3, 1, 3)


def test_dropout_plays_no_part() -> None:
    dense = DenseScorer(scorer(network(dropout=0.9)), 96)
    assert np.array_equal(dense.logits(pictures(2, 96)), dense.logits(pictures(2, 96)))


@pytest.mark.parametrize(
    ("trained", "size", "told"),
    [
        (64, 80, "would not see the last 16 of them; use 64 or 96, or method=multi_crop"),
        (224, 252, "the last 28 of them; use 224 or 256"),
        (100, 110, "the last 14 of them; use 100 or 128"),
        (64, 32, "smaller than the 64 the network was trained for; use 64"),
    ],
)
def test_a_size_of_which_a_rim_would_not_be_seen_is_refused_with_those_that_are(
    trained: int, size: int, told: str
) -> None:
    with torch.device("meta"):
        net = VGG(depth=11, width=0.01, input_size=trained)
    plain = object.__new__(TorchScorer)
    plain.net = net
    with pytest.raises(FigleafError, match=told):
        DenseScorer(plain, size)


@pytest.mark.parametrize("head", [{}, {"head": "gap"}, {"batch_norm": False, "depth": 13}])
@pytest.mark.parametrize("size", [64, 128])
def test_gmacs_of_dense_evaluation_agree_with_pytorchs_own_counter(size: int, head: dict[str, object]) -> None:
    net = network(**head)
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        score_map(net, torch.zeros(1, 3, size, size))
    assert cost.dense_gmacs(net, size) == pytest.approx(counter.get_total_flops() / 2e9, rel=1e-12)
