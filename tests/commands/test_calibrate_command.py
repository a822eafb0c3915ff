"""`figleaf calibrate` and what `figleaf predict` makes of its policy, on a network of drawn scenes."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from figleaf.cli import main

pytestmark = pytest.mark.slow
# Scenes come in groups: a calib split of a third of train leaves enough of them to promise a little.
SCENES = [
    "data=scenes",
    "data.count=240",
    "data.size=64",
    "data.calib_fraction=0.3",
    "model=debug",
    "trainer.epochs=20",
]
PROMISES = ["target_fpr=0.4", "target_recall=0.5", "confidence=0.8"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FIGLEAF_HOME", str(home))
        assert main(["train", *SCENES, "name=net"]) == 0
        assert main(["train", *SCENES, "seed=2", "name=other"]) == 0
        assert main(["train", *SCENES[:3], *SCENES[4:], "data.calib_fraction=0", "name=all"]) == 0
        for name in ("net", "other"):
            assert main(["export", f"run={name}", f"out={home / name}", "format=[onnx,onnx_int8]", "max_drop=1"]) == 0
    return home


@pytest.fixture(autouse=True)
def home(trained: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FIGLEAF_HOME", str(trained))
    return trained


@pytest.fixture
def policy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    out = tmp_path / "policy.json"
    assert main(["calibrate", "run=net", f"out={out}", *PROMISES]) == 0
    capsys.readouterr()
    return out


def calibrate(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any], str]:
    code = main(["calibrate", *arguments])
    told = capsys.readouterr()
    return code, json.loads(told.out) if told.out else {}, told.err


def test_the_policy_the_figure_and_the_report_say_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "policy.json"
    code, report, error = calibrate(capsys, "run=net", f"out={out}", *PROMISES)
    assert code == 0
    written = json.loads(out.read_text())
    assert written["rules"] == report["rules"]
    assert written["temperature"] == report["temperature"] > 0
    assert written["rules"][0]["action"] == "block"
    assert "false positive rate at most 0.4 with 80% confidence" in written["rules"][0]["why"]
    assert "recall at least 0.5 with 80% confidence" in " ".join(rule["why"] for rule in written["rules"])
    assert written["calibrated_on"]["groups"] <= written["calibrated_on"]["pictures"]
    assert set(report["measured"]) == {"val", "test"}
    assert sum(report["measured"]["test"][f"share_{action}"] for action in ("block", "review", "pass")) == 1
    assert (tmp_path / "policy.svg").read_text().startswith("<?xml")
    told = report["measured"]["test"]
    assert told["coverage"] == pytest.approx(told["share_block"] + told["share_pass"])
    if told["coverage"]:
        assert told["errors_of_decided_low"] <= told["errors_of_decided"] <= told["errors_of_decided_high"]
    assert "on test: decides about " in error


def test_an_exported_file_is_calibrated_by_its_own_scores(
    tmp_path: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain, small = (
        calibrate(capsys, "run=net", f"out={tmp_path / name}.json", *PROMISES, *more)[1]
        for name, more in (("a", []), ("b", [f"file={home}/net/model-int8.onnx"]))
    )
    assert small["rules"][0]["at_least"] != plain["rules"][0]["at_least"]
    assert small["temperature"] == pytest.approx(plain["temperature"], rel=0.2)
    code, _, told = calibrate(capsys, "run=net", f"file={home}/other/model.onnx", f"out={tmp_path}/c.json")
    assert (code, "of the run" in told, (tmp_path / "c.json").exists()) == (2, True, False)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["run=all"], "nothing is left to calibrate on; train with data.calib_fraction=0.1"),
        (["run=net", "target_fpr=0.001"], "target_fpr=0.001: cannot be shown with 95% confidence"),
        (["run=net", "target_fpr=null", "target_recall=null"], "nothing to promise"),
        (["run=net", "out=policy.yaml"], "expected a name that ends in .json"),
        (["run=net", "out=gone/policy.json"], "there is no folder"),
        (["run=net", "confidence=1"], "confidence=1"),
    ],
)
def test_mistakes_are_named(
    arguments: list[str], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, error = calibrate(capsys, *arguments)
    assert code == 2
    assert told in error
    assert not list(tmp_path.iterdir())


def test_each_picture_has_the_action_of_its_score(
    policy: Path, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(20):
        flat = np.full((50, 60, 3), rng.integers(0, 256, 3), np.uint8)
        Image.fromarray(flat).save(folder / f"{number:02d}.png")
    (folder / "broken.png").write_bytes(b"no picture")
    model = str(home / "net" / "model.onnx")
    assert main(["predict", str(folder), "--model", model]) == 0
    plain = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert main(["predict", str(folder), "--model", model, "--policy", str(policy)]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    written = json.loads(policy.read_text())
    for before, row in zip(plain, rows, strict=True):
        if row["error"]:
            assert (row["action"], row["score"]) == ("review", None)
            continue
        logit = np.log(before["score"]) - np.log1p(-before["score"])
        assert row["score"] == pytest.approx(1 / (1 + np.exp(-logit / written["temperature"])), abs=1e-6)
        reached = [rule["action"] for rule in written["rules"] if row["score"] >= rule["at_least"]]
        assert row["action"] == (reached[0] if reached else "pass")
        assert row["flagged"] == (row["action"] != "pass")
    assert "action" not in plain[0]
    for suffix in ("csv", "parquet"):
        out = tmp_path / f"out.{suffix}"
        for _ in range(2):  # again: nothing is lost when a finished file is opened again
            (folder / f"more-{suffix}.png").write_bytes((folder / "00.png").read_bytes())
            assert main(["predict", str(folder), "--model", model, "--policy", str(policy), "--out", str(out)]) == 0
        if suffix == "csv":
            with out.open(newline="") as file:
                found = {Path(row["path"]).name: row["action"] for row in csv.DictReader(file)}
        else:
            import pyarrow.parquet as pq

            found = {Path(row["path"]).name: row["action"] for row in pq.read_table(out).to_pylist()}
        assert {Path(row["path"]).name: row["action"] for row in rows}.items() <= found.items()
        assert main(["predict", str(folder), "--model", model, "--out", str(out)]) == 2, "rows of a policy stay apart"


def test_a_policy_of_the_checkpoint_is_told_to_be_another_files_for_lossy_weights(
    policy: Path, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("RGB", (50, 60), "red").save(tmp_path / "a.png")
    for file, is_told in (("model.onnx", False), ("model-int8.onnx", True)):
        model = str(home / "net" / file)
        assert main(["predict", str(tmp_path / "a.png"), "--model", model, "--policy", str(policy)]) == 0
        assert ("made from the scores of another file" in capsys.readouterr().err) is is_told


def test_a_policy_of_another_run_is_refused(policy: Path, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", ".", "--model", str(home / "other" / "model.onnx"), "--policy", str(policy)]) == 2
    assert "made for the run" in capsys.readouterr().err
    more = ["--policy", str(policy), "--threshold", "0.5"]
    assert main(["predict", ".", "--model", str(home / "net" / "model.onnx"), *more]) == 2
    assert "give one of the two" in capsys.readouterr().err
