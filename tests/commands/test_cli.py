"""The command line: quick help, mistakes named without a traceback, clean output for a pipe, nothing sent anywhere."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from egress import guarded
from figleaf.cli import COMMANDS, main

TRAIN = ["train", "data=digits", "model=debug", "trainer.epochs=1", "trainer.intervals=0", "trainer.threads=1"]


def figleaf(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command as a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "figleaf.cli", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        check=False,
        timeout=300,
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_every_command_teaches(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    assert f"figleaf {command}" in capsys.readouterr().out


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; from figleaf.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "print(sorted({'torch', 'mlflow', 'pandas', 'hydra', 'numpy'} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["train", "model.widht=1"], "did you mean model.width"),
        (["train", "data=manifest"], "data.manifest"),
        (["train", "data=manifest", "data.manifest=missing.csv"], "missing.csv"),
        (["train", "-m", "trainer=ddp_cpu", "seed=1,2"], "study"),
        (["evaluate", "run=nothing", "data=digits"], "nothing"),
        (["evaluate", "run=missing.onnx", "data=digits"], "missing.onnx"),
        (["export", "run=latest"], "latest"),
        (["compress", "run=latest", "prune=2"], "prune=2.0: expected 0 < x < 1"),
        (["train", "model=from_file"], "model.weights=none"),
        (["study", "run", "dmeo"], "demo"),
        (["data", "index", "missing"], "missing"),
    ],
)
def test_mistake_is_named_without_a_traceback(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    shown = capsys.readouterr()
    assert told in shown.err
    assert shown.err.startswith("error: ") or "\nerror: " in shown.err
    assert not shown.out


@pytest.mark.parametrize("arguments", [["train"], ["train", "-m", "seed=1,2"], ["evaluate", "run=latest"]])
def test_missing_manifest_is_named_before_anything_heavy_is_loaded(arguments: list[str]) -> None:
    refused_at_once([*arguments, "data=manifest", "data.manifest=gone.csv"], "manifest gone.csv: no such file")


@pytest.mark.parametrize("arguments", [["train"], ["train", "-m", "seed=1,2"], ["train", "trainer=ddp_cpu"]])
@pytest.mark.parametrize("weights", ["gone.npz", "shallower:gone.safetensors"])
def test_missing_weights_are_named_before_anything_heavy_is_loaded_and_no_run_is_opened(
    arguments: list[str], weights: str, home: Path
) -> None:
    refused_at_once(
        [*arguments, "data=digits", "model=debug", f"model.weights={weights}"], f"model.weights={weights}: no such file"
    )
    assert not home.exists()


@pytest.mark.parametrize(
    "arguments", [["train", "data=digits"], ["study", "status", "demo"], ["data", "check"], ["ui"]]
)
def test_a_working_folder_that_is_gone_is_named(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    monkeypatch.delenv("FIGLEAF_HOME")
    gone.rmdir()
    assert main(arguments) == 2
    assert capsys.readouterr().err.startswith("error: the working folder is gone: change to one that is there")


def test_a_working_folder_that_goes_away_meanwhile_is_named_and_another_missing_file_is_no_such_case(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def without_a_file(*_: object) -> int:
        raise FileNotFoundError("a bug")

    def without_a_folder(*_: object) -> int:
        (tmp_path / "gone").rmdir()
        return len(Path.cwd().parts)

    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    monkeypatch.setattr("figleaf.commands.ui.main", without_a_file)
    with pytest.raises(FileNotFoundError):
        main(["ui"])
    monkeypatch.setattr("figleaf.commands.ui.main", without_a_folder)
    assert main(["ui"]) == 2
    assert "is gone: change to one that is there" in capsys.readouterr().err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux's file that is always full")
def test_output_that_finds_no_room_is_named_without_a_traceback() -> None:
    code = "import sys; from figleaf.cli import main; sys.exit(main(['skin', 'nothing.png', '--draw', 'mask']))"
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([sys.executable, "-c", code], stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2
    assert done.stderr == "error: standard output: No space left on device; make room and give the command again\n"


def refused_at_once(arguments: list[str], told: str) -> None:
    code = (
        "import sys; from figleaf.cli import main\n"
        f"code = main({arguments!r})\n"
        "print(code, sorted({'torch', 'mlflow', 'pandas', 'numpy', 'pytorch_lightning'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "2 []"
    assert done.stderr.startswith(f"error: {told}")


def test_configuration_is_printed_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "model=vgg19", "--print-config"]) == 0
    assert json.loads(capsys.readouterr().out)["model"]["depth"] == 19


@pytest.mark.slow
def test_whole_way_in_a_pipe_sends_nothing_anywhere(tmp_path: Path) -> None:
    log = tmp_path / "egress.log"
    environment = {**guarded(tmp_path, log), "CI": ""}
    trained = figleaf(*TRAIN, **environment)
    assert trained.returncode == 0, trained.stderr
    run = json.loads(trained.stdout)
    evaluated = figleaf("evaluate", f"run={run['run_id'][:8]}", "data=digits", "intervals=20", **environment)
    found = json.loads(evaluated.stdout)
    assert found["auroc"] == pytest.approx(run["metrics"]["test/auroc"], abs=1e-12)
    assert Path(found["predictions"]).exists()
    out = tmp_path / "export"
    exported = figleaf("export", "run=latest", f"out={out}", **environment)
    assert exported.returncode == 0, exported.stderr
    assert json.loads(exported.stdout)["formats"]["onnx"]["max_logit_diff"] < 1e-3
    again = figleaf("evaluate", f"run={out}/model.onnx", "data=digits", "intervals=0", **environment)
    assert json.loads(again.stdout)["auroc"] == pytest.approx(found["auroc"], abs=1e-6)
    small = tmp_path / "small.safetensors"
    compressed = figleaf("compress", "run=latest", "prune=0.5", "svd=0.5", f"out={small}", **environment)
    assert json.loads(compressed.stdout)["parent_run_id"] == run["run_id"]
    listed = figleaf("runs", "list", **environment)
    assert run["run_id"] in listed.stdout
    checked = figleaf("data", "check", "data=digits", **environment)
    json.loads(checked.stdout)
    assert not log.exists(), f"connections beyond this machine: {log.read_text()}"


@pytest.mark.slow
def test_grid_is_trained_one_after_the_other() -> None:
    done = figleaf(*TRAIN, "-m", "seed=1,2")
    assert done.returncode == 0, done.stderr
    runs = [json.loads(line) for line in done.stdout.splitlines()]
    assert len({run["run_id"] for run in runs}) == 2


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_stopped_run_is_killed_in_the_tracker_and_goes_on(number: signal.Signals, code: int, home: Path) -> None:
    long = [*TRAIN[:3], "trainer.epochs=8", "trainer.checkpoint_seconds=0", *TRAIN[4:]]
    process = subprocess.Popen(
        [sys.executable, "-m", "figleaf.cli", *long],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        # A parent that ignores Ctrl-C, as a shell's background jobs do, would hand that down.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    end = time.monotonic() + 200
    while not list(home.glob("runs/*/checkpoints/last.ckpt")) and time.monotonic() < end:
        time.sleep(0.1)
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode == code
    assert "KILLED" in figleaf("runs", "list").stdout
    assert figleaf(*long).returncode == 0
    listed = figleaf("runs", "list").stdout
    assert "FINISHED" in listed
    assert "KILLED" not in listed


def test_a_missing_library_is_named_with_the_extra_that_brings_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "hydra", None)
    assert main(["train"]) == 2
    assert (
        "`figleaf train` needs hydra, which is not installed here: pip install 'figleaf[lab]'"
        in capsys.readouterr().err
    )
