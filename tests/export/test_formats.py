"""Formats that lose something, and those of other runtimes: their answers, their sizes, when they are refused."""

import json
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from test_bundle import FACTS, network, pictures

from figleaf.errors import FigleafError
from figleaf.evaluate.scorer import Scorer
from figleaf.export.bundle import export_bundle
from figleaf.export.formats import FORMATS
from figleaf.export.onnx_file import write_onnx
from figleaf.export.onnx_lossy import write_onnx_float16, write_onnx_int8
from figleaf.export.onnx_scorer import OnnxScorer
from figleaf.export.openvino_file import OpenVinoScorer, write_openvino
from figleaf.export.parity import Quality
from figleaf.export.program_file import RECORD, ProgramScorer, write_program
from figleaf.vgg.network import VGG
from figleaf.vgg.scorer import TorchScorer

# Of width .5: kernels are most of the file.
KINDS = [{}, {"head": "fc", "batch_norm": False}, {"head": "dense"}]


def answers(scorer: Scorer) -> np.ndarray:
    return scorer.logits(pictures(20))


def torchs(net: VGG) -> np.ndarray:
    return answers(TorchScorer(net, FACTS.classes, FACTS.unsafe))


@pytest.mark.parametrize("changes", KINDS)
def test_float16_kernels_halve_the_file_and_move_answers_by_their_rounding(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    net = network(width=0.5, **changes)
    wide = write_onnx(net, tmp_path / "wide.onnx", FACTS.record(net))
    narrow = write_onnx_float16(net, tmp_path / "narrow.onnx", FACTS.record(net))
    assert 0.49 < narrow.stat().st_size / wide.stat().st_size < 0.53
    scorer = OnnxScorer(narrow)
    assert scorer.metadata == {**OnnxScorer(wide).metadata, "precision": "float16"}
    distance = np.abs(answers(scorer) - torchs(net)).max()
    assert 0 < distance < 0.01 * np.abs(torchs(net)).max()


def test_kernels_beyond_float16_stay_as_they_are(tmp_path: Path) -> None:
    net = network()
    with torch.no_grad():
        net.convolutions["block2_conv1"].weight[0, 0, 0, 0] = 1e6
    scorer = OnnxScorer(write_onnx_float16(net, tmp_path / "m.onnx", FACTS.record(net)))
    np.testing.assert_allclose(answers(scorer), torchs(net), atol=0.02 * np.abs(torchs(net)).max())


@pytest.mark.parametrize("changes", KINDS)
def test_integers_quarter_the_file_and_keep_the_order_of_pictures(tmp_path: Path, changes: dict[str, Any]) -> None:
    net = network(width=0.5, **changes)
    record = FACTS.record(net)
    wide = write_onnx(net, tmp_path / "wide.onnx", record)
    path = write_onnx_int8(net, tmp_path / "int8.onnx", record, calibration=pictures(20))
    assert path.stat().st_size / wide.stat().st_size < 0.29
    scorer = OnnxScorer(path)
    assert scorer.metadata == {**OnnxScorer(wide).metadata, "precision": "int8"}
    # Two logits: what counts is how they differ from each other.
    ours, theirs = (np.subtract(*logits.T) for logits in (torchs(net), answers(scorer)))
    assert np.corrcoef(ours, theirs)[0, 1] > 0.98
    stored = {tensor.data_type for tensor in onnx.load(path).graph.initializer if len(tensor.dims) == 4}
    assert stored == {onnx.TensorProto.INT8}


def test_integers_without_pictures_to_calibrate_on_are_refused(tmp_path: Path) -> None:
    net = network()
    for none in (None, pictures(1)[:0]):
        with pytest.raises(ValueError, match="pictures to calibrate on"):
            write_onnx_int8(net, tmp_path / "m.onnx", FACTS.record(net), calibration=none)
    with pytest.raises(FigleafError, match=r"onnx_int8: needs pictures of train .* and of val"):
        export_bundle(net, out=tmp_path / "out", formats=["onnx_int8"], facts=FACTS, pictures=pictures())
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("changes", KINDS)
def test_a_program_gives_the_networks_answers_for_any_batch(tmp_path: Path, changes: dict[str, Any]) -> None:
    net = network(**changes)
    scorer = ProgramScorer(write_program(net, tmp_path / "model.pt2", FACTS.record(net)))
    for count in (1, 3, 70):
        rgb_u8 = np.resize(pictures(), (count, 64, 64, 3))
        expected = TorchScorer(net, FACTS.classes, FACTS.unsafe).logits(rgb_u8)
        np.testing.assert_allclose(scorer.logits(rgb_u8), expected, atol=1e-5)
    assert (scorer.classes, scorer.metadata["run_id"]) == (FACTS.classes, FACTS.run_id)


class Planted:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


def test_no_pickle_is_in_a_program_and_none_is_scored_with(tmp_path: Path) -> None:
    """Why a .pt2 is not for scoring: torch unpickles what such a file says is pickled."""
    net = network()
    honest = write_program(net, tmp_path / "model.pt2", FACTS.record(net))
    planted, made = tmp_path / "planted.pt2", tmp_path / "made"
    with zipfile.ZipFile(honest) as source, zipfile.ZipFile(planted, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            if name.endswith("weights_config.json"):
                assert all(not entry["use_pickle"] for entry in json.loads(content)["config"].values())
            if name.endswith("sample_inputs/model.pt"):
                content = pickle.dumps(Planted(made))
            target.writestr(name, content)
        assert any(name.endswith(RECORD) for name in source.namelist())
    from figleaf.commands.scorers import open_scorer
    from figleaf.config import TrackingConfig

    with pytest.raises(FigleafError, match=r"planted\.pt2: a file of a kind that cannot be scored with"):
        open_scorer(str(planted), TrackingConfig())
    assert not made.exists()


@pytest.mark.parametrize("changes", KINDS)
def test_openvino_gives_the_networks_answers_for_any_batch(tmp_path: Path, changes: dict[str, Any]) -> None:
    net = network(**changes)
    scorer = OpenVinoScorer(write_openvino(net, tmp_path / "model", FACTS.record(net)))
    for count in (0, 1, 70):
        rgb_u8 = np.resize(pictures(), (count, 64, 64, 3))
        expected = TorchScorer(net, FACTS.classes, FACTS.unsafe).logits(rgb_u8)
        np.testing.assert_allclose(scorer.logits(rgb_u8), expected, atol=1e-4)
    assert (scorer.classes, scorer.unsafe, scorer.threshold) == (FACTS.classes, FACTS.unsafe, FACTS.threshold)
    assert scorer.metadata["run_id"] == FACTS.run_id


def test_openvino_files_that_are_not_ours_are_named(tmp_path: Path) -> None:
    net = network()
    with pytest.raises(FigleafError, match=r"no OpenVINO model that figleaf exported"):
        OpenVinoScorer(tmp_path)
    folder = write_openvino(net, tmp_path / "a", FACTS.record(net))
    (folder / "model.bin").write_bytes(b"")
    with pytest.raises(FigleafError, match=r"no OpenVINO model that figleaf exported"):
        OpenVinoScorer(folder)
    with pytest.raises(FigleafError, match=r"resized by nearest.* export the run again"):
        OpenVinoScorer(write_openvino(net, tmp_path / "b", {**FACTS.record(net), "resize_rule": "nearest"}))


def test_every_format_stands_in_one_folder_with_its_size_and_its_quality(tmp_path: Path) -> None:
    net = network()
    quality = Quality("val/auroc", lambda scorer: 0.9 if isinstance(scorer, TorchScorer) else 0.898, max_drop=0.005)
    report = export_bundle(
        net,
        out=tmp_path,
        formats=list(FORMATS),
        facts=FACTS,
        pictures=pictures(),
        calibration=pictures(20),
        quality=quality,
    )
    assert set(report["formats"]) == set(report["bytes"]) == set(FORMATS)
    assert report["bytes"]["onnx_int8"] < report["bytes"]["onnx_float16"] < report["bytes"]["onnx"]
    assert report["quality"] == {
        "measure": "val/auroc",
        "max_drop": 0.005,
        "checkpoint": 0.9,
        "formats": dict.fromkeys(("onnx_float16", "onnx_int8", "tfjs"), 0.898),
    }
    assert json.loads((tmp_path / "parity.json").read_text())["quality"] == report["quality"]
    assert {"model-int8.onnx", "model-float16.onnx", "model.pt2", "openvino/model.xml"} <= set(report["files"])
    card = (tmp_path / "MODEL_CARD.md").read_text()
    assert "The checkpoint's val/auroc is 0.9000; a file may lose 0.005 of it." in card
    assert sum("| 0.8980" in line for line in card.splitlines()) == 3


@pytest.mark.parametrize("found", [0.894, float("nan")])
def test_a_file_that_loses_too_much_is_refused_with_the_way_out(tmp_path: Path, found: float) -> None:
    quality = Quality("val/auroc", lambda scorer: 0.9 if isinstance(scorer, TorchScorer) else found, max_drop=0.005)
    with pytest.raises(FigleafError, match=r"int8\.onnx: its val/auroc is .* 0\.9000: a drop .* max_drop=0\.005;"):
        export_bundle(
            network(),
            out=tmp_path,
            formats=["onnx_int8"],
            facts=FACTS,
            pictures=pictures(),
            calibration=pictures(20),
            quality=quality,
        )
    assert not list(tmp_path.iterdir())
