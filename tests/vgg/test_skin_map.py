"""What a dense network says of a pixel, and by that of a picture."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.base import clone

from figleaf.data.decode import resize
from figleaf.errors import FigleafError
from figleaf.evaluate.predictions import prob_unsafe
from figleaf.vgg.network import VGG
from figleaf.vgg.pixel_model import VggPixels
from figleaf.vgg.scorer import TorchScorer
from figleaf.vgg.skin_map import enlarged, skin_maps
from figleaf.vgg.weights import save

CLASSES, UNSAFE = ("little", "large"), ("large",)


def network() -> VGG:
    """Weights large enough to tell pixels apart."""
    torch.manual_seed(0)
    net = VGG(depth=11, width=0.0625, input_size=32, head="dense", dropout=0.0)
    torch.nn.init.normal_(net.layers["predictions"].weight, 0, 0.5)  # type: ignore[arg-type]
    return net.eval()


def pictures(count: int, size: int = 32) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


@pytest.mark.parametrize("threshold", [0.1, 0.3, 0.5, 0.9])
@pytest.mark.parametrize("classes", [CLASSES, CLASSES[::-1]])
def test_a_picture_is_unsafe_from_the_threshold_of_its_share_on(threshold: float, classes: tuple[str, str]) -> None:
    shares = skin_maps(network(), pictures(20)).mean((1, 2))
    scorer = TorchScorer(network(), classes, UNSAFE, share_threshold=threshold)
    score = prob_unsafe(scorer.logits(pictures(20)), classes, UNSAFE)
    assert np.array_equal(score >= 0.5, shares >= threshold)
    assert np.array_equal(np.argsort(score), np.argsort(shares))
    odds = shares / (1 - shares) * (1 - threshold) / threshold
    np.testing.assert_allclose(score, odds / (1 + odds), rtol=1e-4)


@pytest.mark.parametrize("bias", [-1e4, 1e4])
def test_a_picture_that_is_all_or_no_skin_has_finite_logits(bias: float) -> None:
    net = network()
    torch.nn.init.zeros_(net.layers["predictions"].weight)  # type: ignore[arg-type]
    net.layers["predictions"].bias.data = torch.tensor([0.0, bias])  # type: ignore[union-attr]
    assert np.isfinite(TorchScorer(net, CLASSES, UNSAFE).logits(pictures(1))).all()


@pytest.mark.parametrize(
    ("classes", "unsafe"), [(("a", "b", "c"), ("c",)), (("a", "b"), ()), (("a", "b"), ("a", "b")), (("a",), ("a",))]
)
def test_other_than_two_classes_of_which_one_is_unsafe_are_refused(
    classes: tuple[str, ...], unsafe: tuple[str, ...]
) -> None:
    with pytest.raises(FigleafError, match=r"model\.head=dense.*data\.classes=.*data\.unsafe="):
        TorchScorer(network(), classes, unsafe)


def test_a_file_brings_the_threshold_of_the_share(tmp_path: Path) -> None:
    facts = {"classes": list(CLASSES), "unsafe": list(UNSAFE), "share_threshold": 0.25}
    path = save(network(), tmp_path / "best.safetensors", facts)
    expected = TorchScorer(network(), CLASSES, UNSAFE, share_threshold=0.25).logits(pictures(3))
    assert np.array_equal(TorchScorer.load(path).logits(pictures(3)), expected)


def test_map_at_another_size_keeps_a_constant_and_its_range() -> None:
    assert (enlarged(np.full((8, 8), 0.25, np.float32), (13, 5)) == 0.25).all()
    steps = enlarged(np.eye(8, dtype=np.float32), (31, 40))
    assert steps.shape == (31, 40)
    assert steps.min() >= 0
    assert steps.max() <= 1


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    facts = {"classes": list(CLASSES), "unsafe": list(UNSAFE), "skin_threshold": 0.4}
    return save(network(), tmp_path / "best.safetensors", facts)


@pytest.mark.parametrize(("height", "width"), [(32, 32), (1, 1), (7, 90), (200, 133)])
def test_a_pixel_model_answers_for_every_pixel_of_a_picture_of_any_size(weights: Path, height: int, width: int) -> None:
    model = VggPixels(str(weights)).fit()
    rgb_u8 = np.random.default_rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8)
    skin = model.skin_probability(rgb_u8)
    assert (skin.shape, skin.dtype) == ((height, width), np.float32)
    assert 0 <= skin.min() <= skin.max() <= 1
    at_input = skin_maps(network(), resize(rgb_u8, 32)[None])[0]
    np.testing.assert_allclose(skin, enlarged(at_input, (height, width)), atol=1e-6)
    assert np.array_equal(model.skin_mask(rgb_u8), skin >= 0.4)


def test_a_pixel_model_is_its_plain_arguments(weights: Path) -> None:
    model = VggPixels(str(weights), threshold=0.7)
    assert json.loads(json.dumps(model.get_params())) == {"weights": str(weights), "threshold": 0.7}
    rgb_u8 = pictures(1, 40)[0]
    again = clone(model).fit([rgb_u8], [None])
    assert np.array_equal(again.skin_mask(rgb_u8), model.fit().skin_probability(rgb_u8) >= 0.7)


def test_a_pixel_model_of_another_head_is_refused(tmp_path: Path) -> None:
    path = save(VGG(depth=11, width=0.0625, input_size=32, head="gap"), tmp_path / "gap.safetensors", {})
    with pytest.raises(FigleafError, match=r"weights=.*gap.*model\.head=dense"):
        VggPixels(str(path)).fit()
