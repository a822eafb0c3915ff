"""`figleaf registry`: what is registered serves as MLflow knows it; the champion changes only for what is no worse."""

import base64
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from mlflow.tracking import MlflowClient
from PIL import Image

from figleaf.cli import main
from figleaf.evaluate.predictions import Predictions
from figleaf.export.bundle import export_bundle
from figleaf.export.facts import ModelFacts
from figleaf.files import sha256_file
from figleaf.tracking.run import TrackedRun
from figleaf.tracking.store import open_store
from figleaf.vgg.weights import save
from small_vgg import network, pictures

CLASSES, UNSAFE, N = ("covered", "exposed"), ("exposed",), 300
FACTS = ModelFacts("made", "", CLASSES, UNSAFE, "made up", "d" * 64, threshold=0.4)


def predictions(skill: float, data_hash: str = "d") -> Predictions:
    rng = np.random.default_rng(0)
    truth = rng.random(N) < 0.5
    logit = skill * (truth - 0.5) + rng.normal(size=N)
    samples = {
        "sample_id": [f"{i}.png" for i in range(N)],
        "content_sha256": [str(i) for i in range(N)],
        "split": "test",
        "group": [f"g{i}" for i in range(N)],
        "slice": "all",
        "label": np.where(truth, *reversed(CLASSES)),
    }
    logits = np.stack([np.zeros(N), logit], axis=1)
    known = {"classes": CLASSES, "unsafe": UNSAFE, "data_name": "made up", "data_hash": data_hash * 64}
    return Predictions.from_logits(pd.DataFrame(samples), logits, **known)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with runs of three networks, good, poor and of other data, and a folder exported from each."""
    place = tmp_path_factory.mktemp("place")
    for seed, (name, skill, data) in enumerate([("good", 3.0, "d"), ("poor", 1.0, "d"), ("elsewhere", 3.0, "e")]):
        net = network(depth=11)
        with torch.no_grad():
            net.layers["predictions"].bias += 0.1 * seed  # another network each
        about = {"classes": list(CLASSES), "unsafe": list(UNSAFE), "data_name": "made up", "data_hash": data * 64}
        with TrackedRun.start(
            open_store(None, place / "home"), experiment="figleaf", name=name, folder=place / name, params={}, tags={}
        ) as run:
            run.log_artifact(save(net, place / name / "best.safetensors", about), "model")
            run.log_artifact(predictions(skill, data).save(place / name / "predictions.parquet"))
            (place / name / "config.json").write_text('{"data": {}}')
            run.log_artifact(place / name / "config.json")
            run.journal.append({"test/auroc": 0.9, "val/threshold": 0.4}, 1)
        facts = replace(FACTS, name=name, run_id=run.run_id, data_hash=data * 64)
        export_bundle(net, out=place / "export" / name, formats=["onnx"], facts=facts, pictures=pictures())
    return place


@pytest.fixture
def figleaf(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., Any]:
    """Runs `figleaf registry ...` in the home of the runs: exit code, what it printed, what it said."""
    monkeypatch.setenv("FIGLEAF_HOME", str(place / "home"))
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> tuple[int, Any, str]:
        code = main(["registry", *map(str, arguments)])
        shown = capsys.readouterr()
        return code, json.loads(shown.out) if shown.out.startswith("{") else shown.out, shown.err

    return run


@pytest.fixture
def client(place: Path) -> MlflowClient:
    return MlflowClient(f"sqlite:///{place}/home/mlflow.db")


def test_a_champion_is_chosen_when_asked_and_changes_for_what_is_no_worse(
    figleaf: Callable[..., Any], place: Path, client: MlflowClient
) -> None:
    assert figleaf("add", place / "export" / "poor", "--name", "m")[1]["version"] == 1
    assert not client.get_registered_model("m").aliases, "adding makes no champion"
    code, report, _ = figleaf("promote", "m")
    assert (code, report["outcome"], report["compared"]) == (0, "first", None)
    assert figleaf("add", place / "export" / "good", "--name", "m")[1]["version"] == 2
    assert client.get_model_version_by_alias("m", "champion").version == 1

    code, report, told = figleaf("promote", "m@2")
    assert (code, report["outcome"], report["why"], report["against"]) == (0, "promoted", "better", 1)
    assert client.get_model_version_by_alias("m", "champion").version == 2
    assert "mlflow models serve -m models:/m@champion" in told
    tags = client.get_model_version("m", "2").tags
    low, high = json.loads(tags["figleaf.promotion.delong_95"])
    assert low < float(tags["figleaf.promotion.difference"]) < high
    assert [low, high] == report["compared"]["delong_95"]
    assert client.get_model_version("m", "1").tags["figleaf.succeeded_by"] == "2"

    code, report, told = figleaf("promote", "m@1")
    assert (code, report["outcome"], report["why"]) == (1, "refused", "worse")
    assert client.get_model_version_by_alias("m", "champion").version == 2
    described = client.get_model_version("m", "1").description
    assert "the first champion" in described, "what was said before stays"
    assert "refused: worse than version 2" in described
    assert figleaf("promote", "m")[1]["outcome"] == "unchanged"


def test_force_is_a_choice_that_is_recorded_with_its_reason(
    figleaf: Callable[..., Any], place: Path, client: MlflowClient
) -> None:
    for name in ("good", "poor"):
        figleaf("add", place / "export" / name, "--name", "forced")
        if name == "good":
            figleaf("promote", "forced")
    code, report, _ = figleaf("promote", "forced", "--force", "the first one is gone")
    assert (code, report["outcome"]) == (0, "forced")
    assert report["compared"]["difference"] < 0, "what the test says is recorded all the same"
    version = client.get_model_version_by_alias("forced", "champion")
    assert version.version == 2
    assert version.tags["figleaf.promotion.why"] == "the first one is gone"
    assert "by force in place of version 1: the first one is gone" in version.description
    assert figleaf("promote", "forced@1", "--force", " ")[0] == 2


def test_models_of_other_data_are_not_compared_unless_the_test_split_is_the_same(
    figleaf: Callable[..., Any], place: Path
) -> None:
    figleaf("add", place / "export" / "poor", "--name", "data")
    figleaf("promote", "data")
    figleaf("add", place / "export" / "elsewhere", "--name", "data")
    code, report, told = figleaf("promote", "data")
    assert (code, report["outcome"]) == (1, "not comparable")
    assert "not the same data" in told
    assert figleaf("promote", "data", "--split", "val")[1]["why"].endswith("has no predictions on the split val")
    assert figleaf("promote", "data", "--new-training-data")[1]["outcome"] == "promoted"


def test_a_run_is_exported_and_registered_and_the_same_file_once(figleaf: Callable[..., Any], tmp_path: Path) -> None:
    code, report, told = figleaf("add", "good", "--name", "once")
    assert code == 0, told
    assert report == {"name": "once", "version": 1, "uri": "models:/once/1", "new": True}
    assert figleaf("add", "good", "--name", "once")[1]["new"] is False
    assert figleaf("add", "good", "--name", "once", "--format", "safetensors")[1]["version"] == 2
    assert not list(tmp_path.iterdir()), "nothing is left in the working folder, no second tracker either"
    table = figleaf("list", "once")[1].splitlines()
    assert [row.split(",")[:4] for row in table[1:]] == [["once", "2", "", "good"], ["once", "1", "", "good"]]


def test_a_file_that_is_not_the_runs_and_one_that_changed_are_refused(
    figleaf: Callable[..., Any], place: Path, tmp_path: Path
) -> None:
    client = MlflowClient(f"sqlite:///{place}/home/mlflow.db")
    (run,) = (r for r in client.search_runs(["1"]) if r.info.run_name == "good")
    other = replace(FACTS, run_id=run.info.run_id)
    export_bundle(network(depth=11, width=0.25), out=tmp_path / "x", formats=["onnx"], facts=other, pictures=pictures())
    code, _, told = figleaf("add", tmp_path / "x", "--name", "wrong")
    assert code == 2
    assert "its logits differ from that checkpoint's" in told
    (tmp_path / "x" / "model.onnx").write_bytes(b"changed")
    assert "model.onnx: changed, so it is not registered" in figleaf("add", tmp_path / "x", "--name", "wrong")[2]
    assert "no such registered model" in figleaf("list", "wrong")[2]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["add", "nowhere", "--name", "x"], "run=nowhere: there is none"),
        (["add", "{place}/export/good", "--name", "a/b"], "name=a/b: expected letters"),
        (["add", "{place}/export/good/model.onnx", "--name", "x"], "name the folder"),
        (["add", "{place}/export/good", "--name", "x", "--format", "safetensors"], "holds no model.safetensors"),
        (["promote", "nobody"], "nobody: no such registered model"),
        (["promote", "m", "--margin", "2"], "--margin 2: expected 0 <= MARGIN < 1"),
    ],
)
def test_mistakes_are_named(figleaf: Callable[..., Any], place: Path, arguments: list[str], told: str) -> None:
    code, out, err = figleaf(*(argument.format(place=place) for argument in arguments))
    assert (code, out) == (2, "")
    assert told in err


def test_a_model_of_somebody_else_is_left_alone(figleaf: Callable[..., Any], place: Path, client: MlflowClient) -> None:
    client.create_registered_model("theirs")
    assert "not figleaf's" in figleaf("add", place / "export" / "good", "--name", "theirs")[2]
    assert "theirs" not in figleaf("list")[1]


def test_predict_and_every_command_that_takes_a_run_take_a_registered_model(
    figleaf: Callable[..., Any], place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figleaf("add", place / "export" / "good", "--name", "asked")
    figleaf("promote", "asked")
    Image.fromarray(pictures()[0]).save(tmp_path / "a.png")

    def answer(model: str) -> tuple[int, str, str]:
        code = main(["predict", str(tmp_path / "a.png"), "--model", model])
        return (code, *capsys.readouterr())

    expected = answer(str(place / "export" / "good" / "model.onnx"))[1]
    for model in ("models:/asked@champion", "models:/asked/1"):
        assert answer(model)[:2] == (0, expected)
    assert "no such version of asked; it has 1@champion" in answer("models:/asked/7")[2]
    assert "expected a version, such as models:/asked@champion" in answer("models:/asked")[2]
    from figleaf.commands.run_names import named_run
    from figleaf.config import TrackingConfig

    assert named_run("models:/asked@champion", TrackingConfig()).name == "good"


def test_a_file_that_was_changed_in_the_registry_is_not_scored_with(
    figleaf: Callable[..., Any], place: Path, client: MlflowClient, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    figleaf("add", place / "export" / "good", "--name", "changed")
    root = Path(client.get_model_version_download_uri("changed", "1").removeprefix("file://"))
    (root / "artifacts" / "model.onnx").write_bytes((place / "export" / "poor" / "model.onnx").read_bytes())
    Image.fromarray(pictures()[0]).save(tmp_path / "a.png")
    assert main(["predict", str(tmp_path / "a.png"), "--model", "models:/changed/1"]) == 2
    assert "is not the file that was registered" in capsys.readouterr().err


def test_what_is_registered_names_no_place_of_this_machine_and_holds_no_pickle(
    figleaf: Callable[..., Any], place: Path, client: MlflowClient
) -> None:
    figleaf("add", place / "export" / "good", "--name", "clean")
    root = Path(client.get_model_version_download_uri("clean", "1").removeprefix("file://"))
    files = [file for file in root.rglob("*") if file.is_file()]
    assert {file.suffix for file in files} == {".py", ".yaml", ".txt", ".json", ".onnx", ".md", ""}
    for file in files:
        assert str(place.parent).encode() not in file.read_bytes(), file
        assert not file.read_bytes().startswith(b"\x80\x04"), file
    assert sha256_file(root / "artifacts" / "model.onnx") == sha256_file(place / "export" / "good" / "model.onnx")
    asked = (root / "requirements.txt").read_text().split()
    assert [line.split("==")[0] for line in asked] == ["mlflow", "numpy", "pillow", "onnxruntime"]


WITHOUT_FIGLEAF = """
import base64, json, sys
from importlib.abc import MetaPathFinder
class Gone(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.split(".")[0] in ("figleaf", "torch"):
            raise ModuleNotFoundError(f"{name} is not installed here", name=name)
sys.meta_path.insert(0, Gone())
import pandas as pd, mlflow.pyfunc
mlflow.set_tracking_uri(sys.argv[1])
model = mlflow.pyfunc.load_model("models:/alone/1")
picture = open(sys.argv[2], "rb").read()
given = pd.DataFrame({"image": [base64.b64encode(picture).decode(), picture, "nothing", None]})
print(json.dumps(model.predict(given).to_dict("records")))
"""


def test_a_version_answers_where_there_is_no_figleaf_and_pickle_is_forbidden(
    figleaf: Callable[..., Any], place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figleaf("add", place / "export" / "good", "--name", "alone")
    picture = tmp_path / "a.png"
    Image.fromarray(pictures()[0]).save(picture)
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_FIGLEAF, f"sqlite:///{place}/home/mlflow.db", str(picture)],
        env={**os.environ, "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout.splitlines()[-1])
    main(["predict", str(picture), "--model", "models:/alone/1"])
    expected = json.loads(capsys.readouterr().out)
    assert [row["score"] for row in rows] == [*[pytest.approx(expected["score"], abs=1e-6)] * 2, None, None]
    assert [row["error"] is None for row in rows] == [True, True, False, False]
    assert rows[0]["label"] == expected["label"]


@pytest.mark.slow
def test_mlflow_serves_the_champion_with_the_numbers_of_predict(
    figleaf: Callable[..., Any], place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figleaf("add", place / "export" / "good", "--name", "served")
    figleaf("promote", "served")
    files = []
    for number, picture in enumerate(pictures(3)):
        files.append(tmp_path / f"{number}.jpg")
        Image.fromarray(picture).save(files[-1])
    assert main(["predict", *map(str, files), "--model", "models:/served@champion"]) == 0
    expected = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    images = [base64.b64encode(file.read_bytes()).decode() for file in files]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", "models:/served@champion"]
    server = subprocess.Popen(
        [*command, "--env-manager", "local", "-h", "127.0.0.1", "-p", str(port)],
        env={
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",  # MLflow asks it for uvicorn
            "MLFLOW_TRACKING_URI": f"sqlite:///{place}/home/mlflow.db",
            "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        },
        cwd=tmp_path,
        stdout=(tmp_path / "log").open("w"),
        stderr=subprocess.STDOUT,
        start_new_session=True,  # it starts the server as another process
    )

    def ask(path: str, body: object = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data, {"Content-Type": "application/json"})
        return urllib.request.urlopen(request, timeout=30).read()

    try:
        for _ in range(240):
            try:
                ask("/ping")
                break
            except OSError:
                assert server.poll() is None, (tmp_path / "log").read_text()
                time.sleep(0.5)
        rows = [[image] for image in images]
        for body in (
            {"dataframe_split": {"columns": ["image"], "data": rows}},
            {"dataframe_records": [{"image": image} for image in images]},
            {"inputs": {"image": images}},
        ):
            found = json.loads(ask("/invocations", body))["predictions"]
            assert [row["label"] for row in found] == [row["label"] for row in expected]
            for row, told in zip(found, expected, strict=True):
                assert row["score"] == pytest.approx(told["score"], abs=1e-6)
                assert row["flagged"] is told["flagged"]
                assert row["prob_covered"] == pytest.approx(told["probabilities"]["covered"], abs=1e-6)
        odd = ask("/invocations", {"inputs": {"image": [images[0], "nothing", ""]}})
        assert b"NaN" not in odd, "no JSON"
        assert [row["error"] is None for row in json.loads(odd)["predictions"]] == [True, False, False]
    finally:
        with suppress(ProcessLookupError):  # it ended by itself
            os.killpg(server.pid, signal.SIGKILL)
        server.wait(10)
