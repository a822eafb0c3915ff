"""VGG16 and VGG19 as published: 224 pixels, fully connected head, torchvision's logits, a step, a score, an export."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from torch.nn import functional as F

from figleaf.data.decode import RESIZE_RULE
from figleaf.export.onnx_file import write_onnx
from figleaf.export.onnx_scorer import OnnxScorer
from figleaf.vgg.network import VGG
from figleaf.vgg.scorer import TorchScorer
from figleaf.vgg.weights import initialise, load, save

pytestmark = pytest.mark.slow
CLASSES = ("sfw", "nsfw")


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder that is emptied at once: pytest keeps those of three sessions, and half a gigabyte a file adds up."""
    yield tmp_path
    shutil.rmtree(tmp_path)


def pictures(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 224, 224, 3), dtype=np.uint8)


@pytest.mark.parametrize("depth", [16, 19])
def test_the_published_network_takes_a_step_scores_and_is_exported(depth: int, folder: Path) -> None:
    torch.manual_seed(0)
    net = VGG(depth=depth, batch_norm=False).train()
    batch, labels = torch.from_numpy(pictures(2)).permute(0, 3, 1, 2), torch.tensor([0, 1])
    before = {name: tensor.norm().item() for name, tensor in net.named_parameters()}
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
    loss = F.cross_entropy(net(batch), labels)
    loss.backward()
    optimizer.step()
    assert loss.item() == pytest.approx(np.log(2), abs=0.25)  # of two pictures
    assert all(tensor.norm().item() != before[name] for name, tensor in net.named_parameters())
    optimizer.zero_grad()
    del optimizer

    answers = TorchScorer(net, CLASSES, CLASSES[1:]).logits(pictures(2))
    assert np.isfinite(answers).all()
    metadata = {"classes": CLASSES, "unsafe": CLASSES[1:], "resize_rule": RESIZE_RULE}
    scorer = OnnxScorer(write_onnx(net, folder / "model.onnx", metadata))
    np.testing.assert_allclose(scorer.logits(pictures(2)), answers, atol=1e-4)
    again, _ = load(save(net, folder / "model.safetensors", metadata))
    assert np.array_equal(TorchScorer(again, CLASSES, CLASSES[1:]).logits(pictures(2)), answers)


@pytest.mark.parametrize("name", ["vgg16", "vgg19_bn"])
def test_torchvisions_file_gives_torchvisions_logits_at_full_size(name: str, folder: Path) -> None:
    torch.manual_seed(0)
    theirs = getattr(torchvision.models, name)().eval()
    torch.save(theirs.state_dict(), folder / f"{name}.pth")
    batch = torch.from_numpy(pictures(1)).permute(0, 3, 1, 2)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    with torch.inference_mode():
        expected = theirs((batch / 255 - mean.view(3, 1, 1)) / std.view(3, 1, 1))
    del theirs
    net = VGG(depth=int(name[3:5]), batch_norm=name.endswith("_bn"), classes=1000).eval()
    report = initialise(net, str(folder / f"{name}.pth"))
    assert report.same_features
    assert not report.left
    with torch.inference_mode():
        torch.testing.assert_close(net(batch), expected, atol=1e-4, rtol=1e-4)
