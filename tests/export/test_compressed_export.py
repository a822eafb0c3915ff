"""A pruned and factored network in every format: each file answers as the network does."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from test_bundle import FACTS, pictures

from figleaf.export.formats import FORMATS, int8_format, tfjs_format
from figleaf.export.keras_file import write_keras
from figleaf.export.tfjs import keras_layers
from figleaf.vgg.channel_pruning import prune
from figleaf.vgg.low_rank import factorise
from figleaf.vgg.network import VGG
from figleaf.vgg.scorer import TorchScorer
from figleaf.vgg.weights import initialise
from small_vgg import network


@pytest.fixture(scope="module")
def net() -> VGG:
    return factorise(prune(network(depth=11, head="fc"), 0.6, multiple=1).net, ranks=[40, 30])


def require_runtime(name: str) -> None:
    """Skip where an optional one is not installed. Not imported: Keras is told first on what to run."""
    if name in ("keras", "openvino") and find_spec(name) is None:
        pytest.skip(f"pip install 'figleaf[{name}]'")


@pytest.mark.parametrize("name", [name for name in FORMATS if name not in ("tfjs", "onnx_int8", "onnx_float16")])
def test_formats_that_lose_nothing_give_its_logits(net: VGG, name: str, tmp_path: Path) -> None:
    require_runtime(name)
    form = FORMATS[name]
    scorer = form.read(form.write(net, tmp_path / form.place, FACTS.record(net)))
    expected = TorchScorer(net, FACTS.classes, FACTS.unsafe).logits(pictures())
    np.testing.assert_allclose(scorer.logits(pictures()), expected, atol=1e-4)


def test_tensorflow_js_has_its_layers_and_its_logits(net: VGG, tmp_path: Path) -> None:
    form = tfjs_format("float32")
    scorer = form.read(form.write(net, tmp_path / form.place, FACTS.record(net)))
    expected = TorchScorer(net, FACTS.classes, FACTS.unsafe).logits(pictures())
    np.testing.assert_allclose(scorer.logits(pictures()), expected, atol=1e-4)
    dense = {
        layer["config"]["name"]: layer["config"] for layer in keras_layers(net)[0] if layer["class_name"] == "Dense"
    }
    assert {name: config["units"] for name, config in dense.items() if name.endswith("_down")} == {
        "fc1_down": 40,
        "fc2_down": 30,
    }
    assert dense["fc1_down"]["activation"] == "linear"
    assert dense["fc1"]["activation"] == "relu"


def test_smaller_onnx_files_keep_the_order_of_pictures(net: VGG, tmp_path: Path) -> None:
    expected = np.subtract(*TorchScorer(net, FACTS.classes, FACTS.unsafe).logits(pictures(20)).T)
    for form in (FORMATS["onnx_float16"], int8_format(pictures(20))):
        scorer = form.read(form.write(net, tmp_path / form.place, FACTS.record(net)))
        found = np.subtract(*scorer.logits(pictures(20)).T)
        assert np.corrcoef(found, expected)[0, 1] > 0.98


def test_a_keras_file_gives_its_weights_back(net: VGG, tmp_path: Path) -> None:
    require_runtime("keras")
    plain = factorise(network(depth=11, head="fc", batch_norm=False), ranks=[40, 30])
    path = write_keras(plain, tmp_path / "model.keras", FACTS.record(plain))
    torch.manual_seed(7)
    again = VGG(**plain.hyperparameters).eval()
    report = initialise(again, str(path))
    assert not report.left
    images = torch.from_numpy(pictures()).permute(0, 3, 1, 2)
    with torch.inference_mode():
        torch.testing.assert_close(again(images), plain(images), atol=1e-4, rtol=1e-4)
