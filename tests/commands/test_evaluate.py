"""`figleaf evaluate`: where the predictions go is settled before anything is computed."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from figleaf.cli import main
from figleaf.errors import printable
from figleaf.evaluate.predictions import SAMPLE_COLUMNS, Predictions


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
