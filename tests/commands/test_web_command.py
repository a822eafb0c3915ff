"""`figleaf web`: a page of a run or a file, and the single file among the run's artifacts."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from figleaf.cli import main
from figleaf.commands import web
from figleaf.config import TrackingConfig, home
from figleaf.errors import FigleafError
from figleaf.evaluate.policy import Policy, Rule
from figleaf.evaluate.predictions import Predictions
from figleaf.serve import page
from figleaf.tracking.find import FoundRun, find_run
from figleaf.tracking.store import open_store
from figleaf.vgg.weights import save
from small_vgg import network

TRAIN = ["data=scenes", "data.count=80", "data.size=32", "model=debug", "trainer.max_steps=1", "trainer.intervals=0"]
QUICK = ["filters=2", "steps=1", "layers=[block1_conv1]", "size=16"]


@pytest.fixture(autouse=True)
def packages(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """In place of TensorFlow.js three small files: nothing runs here."""
    files = {}
    for name in ("tf.es2017.min.js", "tf-backend-wasm.es2017.min.js", "tfjs-backend-wasm-simd.wasm"):
        files[name] = tmp_path / name
        files[name].write_text(f"// {name}")
    monkeypatch.setattr("figleaf.serve.engine.engine_files", lambda *_: files)


@pytest.fixture
def run() -> FoundRun:
    """A run of one step."""
    assert main(["train", *TRAIN]) == 0
    return find_run(open_store(TrackingConfig().uri, home()), "latest")


def told(capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    found: dict[str, object] = json.loads(capsys.readouterr().out.splitlines()[-1])
    return found


def test_a_runs_page_shows_its_numbers_and_is_kept_with_it(
    run: FoundRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "site"
    assert main(["web", "run=latest", f"out={out}", "keep=false", *QUICK]) == 0
    with pytest.raises(FigleafError, match="has no artifact"):
        run.artifact("page/single.html")
    assert main(["web", "run=latest", f"out={out}", *QUICK, "licence=mine alone"]) == 0
    report = told(capsys)
    assert report["identity"] == run.run_id
    assert report["artifact"] == "page/single.html"
    assert run.artifact("page/single.html").read_bytes() == (out / "single.html").read_bytes()
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["run"] == {"name": run.name, "id": run.run_id}
    assert manifest["threshold"] == run.metrics["val/threshold"]
    assert manifest["licence"] == "mine alone"
    val = Predictions.load(run.artifact("predictions.parquet")).select(split="val")
    assert manifest["data"]["hash"] == val.data_hash
    assert manifest["operating"]["n_safe"] + manifest["operating"]["n_unsafe"] == len(val)
    auroc = next(metric for metric in manifest["metrics"] if metric["key"] == "auroc")
    assert auroc["test"]["value"] == run.metrics["test/auroc"]


def test_an_artifact_store_that_takes_nothing_now_does_not_spoil_the_page(
    run: FoundRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (run.artifact("config.json").parent / "page").write_text("a file where the folder should be")
    assert main(["web", "run=latest", f"out={tmp_path / 'site'}", *QUICK]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out.splitlines()[-1])["artifact"] is None
    assert f"run {run.name} ({run.run_id}) takes no artifact now: " in said.err
    assert "the page is built" in said.err
    assert (tmp_path / "site" / "index.html").is_file()


def test_a_file_has_a_page_without_numbers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    facts = {"classes": ["a", "b"], "unsafe": ["b"], "data_name": "drawn", "data_hash": "0", "threshold": 0.25}
    save(network(width=0.0625, input_size=32), tmp_path / "net.safetensors", facts)
    assert main(["web", f"run={tmp_path / 'net.safetensors'}", f"out={tmp_path / 'site'}", "filters=0"]) == 0
    assert told(capsys)["artifact"] is None
    manifest = json.loads((tmp_path / "site" / "manifest.json").read_text())
    assert (manifest["threshold"], manifest["operating"], manifest["metrics"]) == (0.25, None, [])


def test_a_policy_goes_into_the_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    facts = {"classes": ["a", "b"], "unsafe": ["b"], "data_name": "drawn", "data_hash": "0", "run_id": "0123"}
    save(network(width=0.0625, input_size=32), tmp_path / "net.safetensors", facts)
    policy = Policy("0123", ("a", "b"), ("b",), 1.5, (Rule("block", 0.9, "why"), Rule("review", 0.4)), sha256="f" * 64)
    policy.save(tmp_path / "policy.json", {})
    given = [f"run={tmp_path / 'net.safetensors'}", f"out={tmp_path / 'site'}", "filters=0"]
    assert main(["web", *given, f"policy={tmp_path / 'policy.json'}"]) == 0
    assert "made from the scores of another file of this run" in capsys.readouterr().err
    manifest = json.loads((tmp_path / "site" / "manifest.json").read_text())
    assert manifest["policy"] == {
        "temperature": 1.5,
        "rules": [
            {"action": "block", "at_least": 0.9, "why": "why"},
            {"action": "review", "at_least": 0.4, "why": ""},
        ],
    }
    replace(policy, run_id="4567").save(tmp_path / "policy.json", {})
    assert main(["web", *given, f"policy={tmp_path / 'policy.json'}"]) == 2
    assert "made for the run 4567" in capsys.readouterr().err


def test_weights_too_large_for_one_file_are_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "SINGLE_MAX_BYTES", 2**16)
    facts = {"classes": ["a", "b"], "unsafe": ["b"], "data_name": "drawn", "data_hash": "0"}
    save(network(head="fc", input_size=32), tmp_path / "net.safetensors", facts)
    assert main(["web", f"run={tmp_path / 'net.safetensors'}", f"out={tmp_path / 'site'}", "filters=0"]) == 0
    said = capsys.readouterr()
    assert "no single.html: " in said.err
    assert "dtype=uint8, a gap head" in said.err
    assert json.loads(said.out.splitlines()[-1])["single"] is None


@pytest.mark.parametrize(
    ("given", "named"),
    [
        (["run=gone.safetensors"], "gone.safetensors"),
        (["run=net.safetensors", "layers=[block9_conv9]"], "block9_conv9"),
        (["run=net.safetensors", "out=net.safetensors"], "a file, not a folder"),
        (["run=net.safetensors", "dtype=float64"], "dtype=float64"),
        (["run=net.safetensors", "policy=gone.json"], "gone.json: no such file"),
        (["run=net.safetensors", "filters=-1"], "filters=-1"),
    ],
)
def test_mistakes_are_named(
    given: list[str], named: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(web, "web_dir", lambda: pytest.fail("found too late"))
    facts = {"classes": ["a", "b"], "unsafe": ["b"], "data_name": "drawn", "data_hash": "0"}
    save(network(width=0.0625, input_size=32), tmp_path / "net.safetensors", facts)
    assert main(["web", *given]) == 2
    assert named in capsys.readouterr().err
