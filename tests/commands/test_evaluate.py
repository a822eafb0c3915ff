"""`figleaf evaluate`: what each method leaves behind; where it goes is settled before anything is computed."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from figleaf.cli import main
from figleaf.data.decode import RESIZE_RULE
from figleaf.errors import printable
from figleaf.evaluate.predictions import SAMPLE_COLUMNS, Predictions
from figleaf.export.onnx_file import write_onnx
from figleaf.vgg.network import VGG
from figleaf.vgg.weights import load, save


@pytest.mark.parametrize(
    ("out", "told"),
    [
        ("FOLDER", "a folder; name a file in it, such as out=FOLDER/predictions.parquet"),
        ("FOLDER/gone/p.parquet", "there is no folder FOLDER/gone"),
        ("FOLDER/p.csv", "ends in .parquet"),
        ("FOLDER/other.parquet", "holds something else than predictions"),
        ("FOLDER/other.parquet/p.parquet", "there is no folder"),
        ("/proc/p.parquet", "nothing can be written to /proc"),
        ("x" * 300 + ".parquet", "File name too long"),
        ("\udcff.parquet", "no UTF-8"),
    ],
)
def test_place_that_cannot_be_written_is_refused_before_the_run_is_looked_for(
    out: str, told: str, tmp_path: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "other.parquet").write_bytes(b"somebody's")
    out, told = (text.replace("FOLDER", str(tmp_path)) for text in (out, told))
    assert main(["evaluate", "run=nothing", "data=digits", f"out={out}"]) == 2
    shown = capsys.readouterr().err
    assert shown.startswith(f"error: out={printable(out)}: ")
    assert told in shown
    assert not home.exists(), "nothing has been made for the evaluation"


def test_predictions_of_an_earlier_evaluation_may_be_replaced(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    samples = pd.DataFrame([["x"] * len(SAMPLE_COLUMNS)], columns=list(SAMPLE_COLUMNS))
    earlier = Predictions.from_logits(
        samples, np.zeros((1, 2)), classes=("x", "y"), unsafe=("y",), data_name="d", data_hash="h"
    ).save(tmp_path / "p.parquet")
    assert main(["evaluate", "run=nothing", "data=digits", f"out={earlier}"]) == 2
    assert capsys.readouterr().err.startswith("error: run=nothing")
    assert earlier.exists()


def test_home_that_cannot_be_written_is_refused_first(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FIGLEAF_HOME", "/proc/home")
    assert main(["evaluate", "run=nothing", "data=digits"]) == 2
    assert "/proc/home/evaluations" in capsys.readouterr().err


def test_folder_is_no_model_though_it_may_hold_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def said(reference: str) -> str:
        assert main(["evaluate", f"run={reference}", "data=digits"]) == 2
        return capsys.readouterr().err

    assert f"run={tmp_path}: a folder; expected a run, or a .onnx" in said(str(tmp_path))
    (tmp_path / "model.onnx").touch()
    assert f"run={tmp_path}: a folder; did you mean run={tmp_path / 'model.onnx'}?" in said(str(tmp_path))
    assert "run=: expected a run or a file" in said("")


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """An untrained network for digits, as a file: measuring it needs no tracker."""
    torch.manual_seed(0)
    net = VGG(depth=11, width=0.05, input_size=32, classes=10)
    torch.nn.init.normal_(net.layers["predictions"].weight, 0, 0.1)
    classes = [str(digit) for digit in range(10)]
    return save(net, tmp_path / "net.safetensors", {"classes": classes, "unsafe": classes[5:], "threshold": 0.375})


def evaluate(capsys: pytest.CaptureFixture[str], *overrides: str) -> dict[str, Any]:
    capsys.readouterr()
    assert main(["evaluate", "data=digits", "intervals=0", *overrides]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_every_method_leaves_predictions_that_say_so_and_that_differ_from_the_plain_ones(
    weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    methods = {
        "clean": [],
        "single-flip": ["flip=true"],
        "dense-q32+64": ["method=dense", "scales=[1,2]"],
        "crops2x2-q40-flip": ["method=multi_crop", "scales=[1.25]", "crops=2", "flip=true"],
        "dense+crops1x1-q64": ["method=dense_multi_crop", "scales=[64]", "crops=1"],
    }
    reports = {variant: evaluate(capsys, f"run={weights}", *given) for variant, given in methods.items()}
    found = {variant: Predictions.load(Path(report["predictions"])) for variant, report in reports.items()}
    assert len({report["predictions"] for report in reports.values()}) == len(methods)
    for variant, report in reports.items():
        assert report["variant"] == variant
        assert set(found[variant].table["variant"]) == {variant}
        assert found[variant].table["sample_id"].tolist() == found["clean"].table["sample_id"].tolist()
        assert report["n"] == len(found["clean"])
        assert variant == "clean" or np.abs(found[variant].scores - found["clean"].scores).max() > 1e-4
        # The file's threshold was chosen for plain scores.
        assert report["threshold"] == (0.375 if variant == "clean" else 0.5)


def test_dense_at_the_networks_size_gives_the_plain_predictions(
    weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain, dense = (evaluate(capsys, f"run={weights}", f"method={name}") for name in ("single", "dense"))
    a, b = (Predictions.load(Path(report["predictions"])) for report in (plain, dense))
    np.testing.assert_allclose(a.logits, b.logits, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["method=tta"], "method=tta: expected one of single, dense, multi_crop"),
        (["scales=1.5"], "scales=1.5: expected a list"),
        (["scales=[1.5]"], "use method=dense or method=multi_crop"),
        (["method=dense", "scales=[1.5]"], "pictures of 48 pixels"),
        (["crops=0"], "crops=0: expected 1 to 15"),
    ],
)
def test_a_method_that_cannot_be_is_refused_before_anything_is_scored(
    overrides: list[str], told: str, weights: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", "data=digits", f"run={weights}", *overrides]) == 2
    assert told in capsys.readouterr().err
    assert not list((home / "cache").glob("*.npy"))


SCENES = ["data=scenes", "data.count=40", "data.size=64", "intervals=0"]


@pytest.fixture
def seeing(tmp_path: Path) -> Path:
    """An untrained network for scenes with a gap head, as a file."""
    torch.manual_seed(0)
    net = VGG(depth=11, width=0.05, input_size=64, classes=2, head="gap")
    return save(net, tmp_path / "gap.safetensors", {"classes": ["covered", "exposed"], "unsafe": ["exposed"]})


def test_class_maps_are_measured_for_the_unsafe_pictures_of_test(
    seeing: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", *SCENES, f"run={seeing}", "split=all", "explain=gradcam"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert {"test/map_pixel_f1", "sanity/rank", "sanity/ssim"} <= set(report)
    found = Predictions.load(Path(report["predictions"]))
    assert found.measures
    of_test = (found.table["split"] == "test").to_numpy() & found.is_unsafe
    for name in found.measures:
        measured = found.table[name].notna().to_numpy()
        assert not measured[~of_test].any()
    assert any(found.table[name].notna().to_numpy()[of_test].all() for name in found.measures)


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["explain=nothing"], "explain=nothing: expected one of cam"),
        (["explain=cam", "flip=true"], "of a single view; leave method, scales, flip and perturb alone"),
        (["explain=cam", "perturb=[blur]"], "of a single view"),
    ],
)
def test_maps_that_cannot_be_are_refused_before_anything_is_scored(
    overrides: list[str], told: str, seeing: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", *SCENES, f"run={seeing}", *overrides]) == 2
    assert told in capsys.readouterr().err
    assert not list((home / "cache").glob("*.npy"))


def test_maps_are_of_networks_alone(seeing: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = {"classes": ["covered", "exposed"], "unsafe": ["exposed"], "resize_rule": RESIZE_RULE}
    onnx = write_onnx(load(seeing)[0], tmp_path / "net.onnx", record)
    assert main(["evaluate", *SCENES, f"run={onnx}", "explain=cam"]) == 2
    assert "only a run or a .safetensors file of a network has layers" in capsys.readouterr().err
