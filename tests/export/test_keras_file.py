"""The Keras file: it answers as the network for every kind, and its weights come back."""

import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from figleaf.data.decode import RESIZE_RULE
from figleaf.data.scenes import render
from figleaf.errors import FigleafError
from figleaf.export.bundle import export_bundle
from figleaf.export.facts import ModelFacts
from figleaf.export.keras_file import KerasScorer, write_keras
from figleaf.vgg.network import VGG
from figleaf.vgg.pretrained import read
from figleaf.vgg.scorer import TorchScorer
from small_vgg import network

pytestmark = [
    pytest.mark.slow,
    # Imported by the code under test alone, which chooses the backend.
    pytest.mark.skipif(find_spec("keras") is None, reason="needs Keras: pip install 'figleaf[keras]'"),
]

CLASSES = ("safe", "nsfw")
METADATA = {"classes": CLASSES, "unsafe": CLASSES[1:], "threshold": 0.5, "resize_rule": RESIZE_RULE}
FACTS = ModelFacts("a", "b", CLASSES, CLASSES[1:], data_name="scenes", data_hash="c", threshold=0.5)


def learned(**changes: Any) -> VGG:
    net = network(**changes)
    with torch.no_grad():
        last = net.layers["predictions"].get_parameter("weight")
        last.copy_(0.2 * torch.randn(last.shape, generator=torch.Generator().manual_seed(1)))
    return net


def pictures(count: int = 8, size: int = 64) -> np.ndarray:
    return np.stack([render(2, number, size).rgb_u8 for number in range(count)])


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits.astype(float) - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


@pytest.mark.parametrize("depth", [16, 19])
@pytest.mark.parametrize("head", ["gap", "fc"])
@pytest.mark.parametrize("batch_norm", [True, False])
def test_it_answers_as_the_network_of_every_kind(depth: int, head: str, batch_norm: bool, tmp_path: Path) -> None:
    net = learned(depth=depth, head=head, batch_norm=batch_norm)
    scorer = KerasScorer(write_keras(net, tmp_path / "model.keras", METADATA))
    expected = softmax(TorchScorer(net, CLASSES, CLASSES[1:]).logits(pictures()))
    assert np.ptp(expected[:, 1]) > 1e-3
    assert np.abs(softmax(scorer.logits(pictures())) - expected).max() < 1e-5
    assert (scorer.classes, scorer.unsafe, scorer.threshold, scorer.input_size) == (CLASSES, CLASSES[1:], 0.5, 64)


@pytest.mark.parametrize("head", ["gap", "fc"])
def test_its_weights_come_back(head: str, tmp_path: Path) -> None:
    net = learned(head=head, batch_norm=False)
    back = read(str(write_keras(net, tmp_path / "model.keras", METADATA)), depth=16, batch_norm=False)
    assert back.mean == pytest.approx(net.mean, rel=1e-5)
    assert back.std == pytest.approx(net.std, rel=1e-5)
    for name, layer in net.layers.items():
        for key in ("weight", "bias"):
            torch.testing.assert_close(back.layers[name][key], layer.get_parameter(key).detach())


def test_a_vgg_of_keras_applications_comes_in_with_its_own_preprocessing(tmp_path: Path) -> None:
    from figleaf.vgg.keras_runtime import load_keras

    keras = load_keras()
    theirs = keras.applications.VGG16(weights=None, include_top=False, input_shape=(64, 64, 3), pooling="avg")
    theirs.save(tmp_path / "vgg16.keras")
    back = read(str(tmp_path / "vgg16.keras"), depth=16, batch_norm=False)
    assert back.mean == (123.68, 116.779, 103.939)
    kernel, bias = theirs.get_layer("block1_conv1").get_weights()
    np.testing.assert_array_equal(back.layers["block1_conv1"]["weight"].flip(1).permute(2, 3, 1, 0), kernel)
    np.testing.assert_array_equal(back.layers["block1_conv1"]["bias"], bias)


def test_a_bundle_holds_it_with_its_parity(tmp_path: Path) -> None:
    report = export_bundle(learned(depth=11), out=tmp_path, formats=["keras"], facts=FACTS, pictures=pictures())
    assert report["formats"]["keras"]["max_logit_diff"] < 1e-4
    assert "`model.keras` is a Keras 3 file" in (tmp_path / "MODEL_CARD.md").read_text()
    assert "model.keras" in (tmp_path / "SHA256SUMS").read_text()


def test_what_is_no_file_of_ours_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken.keras").write_bytes(b"nothing")
    with zipfile.ZipFile(tmp_path / "other.keras", "w") as archive:
        archive.writestr("config.json", "{}")
    for name in ("broken.keras", "other.keras", "missing.keras"):
        with pytest.raises(FigleafError, match=f"{name}: no Keras file that figleaf exported"):
            KerasScorer(tmp_path / name)
    with pytest.raises(FigleafError, match=r"broken\.keras: not a Keras file that can be loaded"):
        read(str(tmp_path / "broken.keras"), depth=16, batch_norm=False)


def test_a_dense_head_and_a_missing_library_are_refused_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(FigleafError, match="format=keras: a dense head"):
        export_bundle(network(head="dense"), out=tmp_path, formats=["keras"], facts=FACTS, pictures=pictures())
    monkeypatch.setitem(sys.modules, "keras", None)
    with pytest.raises(FigleafError, match=r"pip install 'figleaf\[keras\]'"):
        export_bundle(network(), out=tmp_path, formats=["keras"], facts=FACTS, pictures=pictures())
    assert not list(tmp_path.iterdir())
