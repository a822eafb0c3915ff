"""`figleaf runs`: each action explains itself, and a study without runs is answered with those that have some."""

import csv
import io

import pytest

from figleaf.cli import main
from figleaf.config import home
from figleaf.tracking.store import open_store


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What the command's help says."""
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "--help"])
    assert ended.value.code == 0
    return capsys.readouterr().out


def test_every_action_has_a_help_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    helps = {action: told(capsys, "runs", action) for action in ("list", "reap", "sync")}
    assert "--study" in helps["list"]
    assert "--stale-after" in helps["reap"]
    assert "deliver" in helps["sync"]
    for action, text in helps.items():
        assert ("--study" in text, "--stale-after" in text) == (action == "list", action == "reap")
        assert action in told(capsys, "runs")


def test_the_help_of_every_action_of_a_study_says_what_it_does(capsys: pytest.CaptureFixture[str]) -> None:
    texts = [told(capsys, "study", action) for action in ("run", "status", "table")]
    assert all("\n\n" in text.partition("\n\n")[2] for text in texts)
    assert "markdown, latex, csv," in texts[2]
    assert "starts from the folder the command is given in" in told(capsys, "study")


def test_a_study_without_runs_is_answered_with_those_that_have_some(capsys: pytest.CaptureFixture[str]) -> None:
    store = open_store(None, home())
    for study in ("demo", "mine", ""):
        run = store.client.create_run(
            store.experiment("figleaf"), tags={"figleaf.study": study}, run_name=f"of {study}"
        )
        store.client.set_terminated(run.info.run_id)
    assert main(["runs", "list", "--study", "zzz"]) == 2
    error = capsys.readouterr().err
    assert "--study zzz: no run has that study; studies with runs: demo, mine\n" in error
    assert main(["runs", "--study", "mine"]) == 0
    assert [row["name"] for row in csv.DictReader(io.StringIO(capsys.readouterr().out))] == ["of mine"]
    assert main(["runs"]) == 0
    assert capsys.readouterr().out.count("FINISHED") == 3
