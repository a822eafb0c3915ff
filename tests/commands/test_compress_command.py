"""`figleaf compress`: from a run to a smaller file, and from that file to runs that name where they come from."""

import json
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from figleaf.cli import main
from figleaf.config import compose
from figleaf.files import sha256_file
from figleaf.train.task import TrainResult, train
from figleaf.vgg.cost import gmacs, megabytes, parameters
from figleaf.vgg.weights import load, save
from small_vgg import network

QUICK = ["data=digits", "trainer.epochs=1", "trainer.intervals=0", "trainer.threads=1"]


def saved(path: Path, **changes: object) -> Path:
    said = {"classes": ["a", "b"], "unsafe": ["b"], "data_name": "d", "data_hash": "0", "threshold": 0.3, "seed": 1}
    return save(network(**{"depth": 11, "head": "fc", **changes}), path, said)


def compressed(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    assert main(["compress", *arguments]) == 0
    report: dict[str, object] = json.loads(capsys.readouterr().out)
    return report


def refusal(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["compress", *arguments]) == 2
    return capsys.readouterr().err


def tags(home: Path, result: TrainResult) -> dict[str, str]:
    found: dict[str, str] = MlflowClient(f"sqlite:///{home}/mlflow.db").get_run(result.run_id).data.tags
    return found


def test_a_run_is_compressed_measured_and_fine_tuned_under_its_name(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    parent = train(compose("train", [*QUICK, "model=debug"]))
    report = compressed(["run=latest", "prune=0.6", "ranks=[16,0]", "out=small.safetensors"], capsys)
    net, metadata = load(tmp_path / "small.safetensors")
    assert metadata["parent_run_id"] == report["parent_run_id"] == parent.run_id
    assert metadata["parent_sha256"] == sha256_file(parent.folder / "checkpoints" / "best.safetensors")
    assert [step["step"] for step in metadata["compression"]] == ["prune", "svd"]
    again = compressed(["run=latest", "prune=0.6", "ranks=[16,0]", "out=again.safetensors"], capsys)
    assert again["sha256"] == report["sha256"], "the same command makes the same file"

    from_it = [*QUICK, "model=from_file", "model.weights=small.safetensors"]
    as_it_is = train(compose("train", [*from_it, "trainer.epochs=0"]))
    kept, _ = load(as_it_is.folder / "checkpoints" / "best.safetensors")
    assert kept.hyperparameters == {**net.hyperparameters, "dropout": 0.0}
    assert all((tensor == net.state_dict()[name]).all() for name, tensor in kept.state_dict().items())
    assert "time/train_seconds" not in as_it_is.metrics
    assert main(["evaluate", "run=small.safetensors", "data=digits", "split=test", "intervals=0"]) == 0
    assert json.loads(capsys.readouterr().out)["auroc"] == pytest.approx(as_it_is.metrics["test/auroc"])

    tuned = train(compose("train", from_it))
    assert tuned.run_id != as_it_is.run_id
    assert tuned.metrics["test/nll"] < as_it_is.metrics["test/nll"]
    for result in (as_it_is, tuned):
        assert tags(home, result)["figleaf.weights_run_id"] == parent.run_id
        assert json.loads(tags(home, result)["figleaf.weights_compression"]) == metadata["compression"]
        assert tags(home, result)["figleaf.weights_sha256"] == report["sha256"]
        costs = (parameters(net), gmacs(net), megabytes(net))
        assert tuple(result.metrics[f"cost/{key}"] for key in ("parameters", "gmacs", "megabytes")) == costs

    assert main(["explain-run", tuned.run_id]) == 0
    told = capsys.readouterr().out
    assert f"of run {parent.run_id}, compressed by prune, then svd" in told
    assert "model.weights=small.safetensors" in told


def test_a_file_that_was_compressed_can_be_compressed_further(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = saved(tmp_path / "a.safetensors")
    first = compressed([f"run={source}", "svd=0.6", f"out={tmp_path}/b.safetensors"], capsys)
    second = compressed([f"run={tmp_path}/b.safetensors", "prune=0.6", f"out={tmp_path}/c.safetensors"], capsys)
    net, metadata = load(tmp_path / "c.safetensors")
    assert metadata["parent_sha256"] == first["sha256"]
    assert [step["step"] for step in metadata["compression"]] == ["svd", "prune"]
    assert "threshold" not in metadata, "it was chosen for another network"
    assert second["after"]["gmacs"] == gmacs(net) <= 0.6 * second["before"]["gmacs"]  # type: ignore[index]


def test_the_file_is_called_after_what_was_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    saved(tmp_path / "a.safetensors")
    report = compressed(["run=a.safetensors", "prune=0.5", "of=parameters", "ranks=[9,8]"], capsys)
    assert report["out"] == str(tmp_path / "compressed" / "a-prune0.5-rank9_8.safetensors")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "expected prune=SHARE, svd=SHARE or ranks="),
        (["prune=1.0"], "prune=1.0: expected 0 < x < 1"),
        (["svd=0.5", "ranks=[1,1]"], "give one of them"),
        (["prune=0.5", "out=small.onnx"], "expected a name that ends in .safetensors"),
        (["prune=0.5", "out=a.safetensors"], "the file that is compressed; name another one"),
        (["prune=0.5", "of=money"], "of=money: expected one of macs, parameters"),
        (["prune=0.0001"], "out of reach"),
    ],
)
def test_what_cannot_be_done_is_said(
    arguments: list[str],
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    saved(tmp_path / "a.safetensors")
    assert told in refusal(["run=a.safetensors", *arguments], capsys)
    assert [path.name for path in tmp_path.iterdir() if path.name != "home"] == ["a.safetensors"]
