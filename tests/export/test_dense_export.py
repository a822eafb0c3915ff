"""A dense network's files: its answer to the picture, and in ONNX the map of its pixels."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from test_bundle import FACTS, network, pictures

from figleaf.export.bundle import export_bundle
from figleaf.export.onnx_scorer import OnnxScorer
from figleaf.vgg.pixel_model import VggPixels
from figleaf.vgg.scorer import TorchScorer
from figleaf.vgg.skin_map import skin_maps

DENSE_FACTS = replace(FACTS, skin_threshold=0.4, share_threshold=0.3)


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dense")
    net = network(head="dense")
    export_bundle(net, out=folder, formats=["safetensors", "onnx"], facts=DENSE_FACTS, pictures=pictures())
    return folder


def test_both_files_answer_for_a_picture_as_the_checkpoint_with_its_threshold(out: Path) -> None:
    expected = TorchScorer(network(head="dense"), FACTS.classes, FACTS.unsafe, share_threshold=0.3).logits(pictures())
    for scorer in (OnnxScorer(out / "model.onnx", threads=1), TorchScorer.load(out / "model.safetensors")):
        np.testing.assert_allclose(scorer.logits(pictures()), expected, atol=1e-5)


def test_the_onnx_file_gives_the_map_too(out: Path) -> None:
    session = ort.InferenceSession(out / "model.onnx", providers=["CPUExecutionProvider"])
    assert [output.name for output in session.get_outputs()] == ["logits", "skin"]
    for count in (1, 5):
        rgb_u8 = pictures(count)
        (skin,) = session.run(["skin"], {"images": np.ascontiguousarray(rgb_u8.transpose(0, 3, 1, 2))})
        np.testing.assert_allclose(skin, skin_maps(network(head="dense"), rgb_u8), atol=1e-5)


def test_thresholds_travel_with_the_files_and_stand_on_the_card(out: Path) -> None:
    record = json.loads((out / "model.json").read_text())
    assert (record["skin_threshold"], record["share_threshold"]) == (0.4, 0.3)
    assert VggPixels(str(out / "model.safetensors")).fit().threshold_ == 0.4
    card = (out / "MODEL_CARD.md").read_text()
    assert "held against 0.3. The ONNX file gives the map itself, too, `skin` (N, S, S)" in card
    assert "dense (every pixel) head" in card


def test_other_networks_records_know_of_no_such_thresholds() -> None:
    assert not {"skin_threshold", "share_threshold"} & FACTS.record(network()).keys()
