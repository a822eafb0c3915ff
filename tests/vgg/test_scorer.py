"""The torch scorer: what it answers, from memory and from a file."""

from pathlib import Path

import numpy as np
import pytest
import torch

from figleaf.errors import FigleafError
from figleaf.vgg import scorer as module
from figleaf.vgg.network import VGG
from figleaf.vgg.scorer import TorchScorer
from figleaf.vgg.weights import save


def network() -> VGG:
    torch.manual_seed(0)
    return VGG(depth=11, width=0.125, input_size=32)


def pictures(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)


def test_logits_are_the_networks_own_whatever_the_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BATCH_SIZE", 3)
    net = network()
    answer = TorchScorer(net, ("safe", "unsafe"), ("unsafe",)).logits(pictures(7))
    with torch.inference_mode():
        expected = net.eval()(torch.from_numpy(pictures(7)).permute(0, 3, 1, 2)).numpy()
    assert answer.dtype == np.float32
    np.testing.assert_allclose(answer, expected, atol=1e-6)


def test_no_pictures_give_no_logits() -> None:
    assert TorchScorer(network(), ("safe", "unsafe"), ()).logits(pictures(0)).shape == (0, 2)


def test_a_file_brings_its_classes(tmp_path: Path) -> None:
    path = save(network(), tmp_path / "best.safetensors", {"classes": ["safe", "unsafe"], "unsafe": ["unsafe"]})
    scorer = TorchScorer.load(path)
    assert (scorer.classes, scorer.unsafe, scorer.input_size) == (("safe", "unsafe"), ("unsafe",), 32)
    assert np.array_equal(scorer.logits(pictures(2)), TorchScorer(network(), ("a", "b"), ()).logits(pictures(2)))


def test_a_file_without_classes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FigleafError, match="no class names"):
        TorchScorer.load(save(network(), tmp_path / "bare.safetensors", {}))
