"""`figleaf runs export` and `import`: their arguments, and what they say."""

import json
from pathlib import Path

import pytest

from figleaf.cli import main
from figleaf.tracking.run import TrackedRun
from figleaf.tracking.store import open_store


@pytest.mark.parametrize("arguments", [[], ["latest"], ["out="], ["out=a", "out=b"]])
def test_export_needs_one_folder(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", "export", *arguments]) == 2
    assert "expected out=FOLDER" in capsys.readouterr().err


@pytest.mark.parametrize("action", ["export", "import"])
def test_help_of_each_action_teaches(action: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["runs", action, "--help"])
    assert ended.value.code == 0
    assert f"figleaf runs {action}" in capsys.readouterr().out


def test_runs_go_from_home_to_home_and_are_told_on_standard_output(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("first", "second"):
        with TrackedRun.start(
            open_store(None, home), experiment="figleaf", name=name, folder=tmp_path / name, params={}, tags={}
        ) as run:
            run.journal.append({"loss": 1.0}, 0)
    moved = tmp_path / "moved"
    # Options may stand anywhere between the names.
    assert main(["runs", "export", "first", f"out={moved}", "--uri", f"sqlite:///{home}/mlflow.db", "latest"]) == 0
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(row["name"], row["metric_rows"]) for row in told] == [("first", 1), ("second", 1)]
    monkeypatch.setenv("FIGLEAF_HOME", str(tmp_path / "elsewhere"))
    assert main(["runs", "import", str(moved)]) == 0
    brought = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(row["name"], row["action"]) for row in brought] == [("first", "imported"), ("second", "imported")]
    assert [row["imported_from"] for row in brought] == [row["run_id"] for row in told]
