"""Training a study again tells whether its numbers still come out."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from made_up import tracked, write_study

from figleaf.config import experiments_dir
from figleaf.errors import FigleafError
from figleaf.study import commands
from figleaf.study.records import Record, load_records
from figleaf.study.reproduction import drift_lines
from figleaf.study.results import recorded


def test_drift_is_the_greatest_difference_in_the_tables_metrics(tmp_path: Path) -> None:
    study = write_study(tmp_path / "made")
    trials = recorded(tracked(study, tmp_path / "artifacts"))
    before = {t.name: t.run for t in trials if isinstance(t.run, Record)}
    lines = drift_lines(study, trials, before)
    assert lines[0] == "drift: vgg11-drop0: 3 seeds identical to the records"
    changed = before["vgg11-drop0-1"]
    before["vgg11-drop0-1"] = replace(
        changed, metrics=changed.metrics | {"test/auroc": 0.75, "time/train_seconds": 9e9}
    )
    off = abs(changed.metrics["test/auroc"] - 0.75)
    assert drift_lines(study, trials, before)[0] == (
        f"drift: vgg11-drop0: 3 seeds differ from the records by at most {off:.3g} (test/auroc of vgg11-drop0-1)"
    )
    assert len(drift_lines(study, trials, {})) == 0


@pytest.mark.slow
def test_the_quick_study_is_reproduced_and_a_row_that_is_off_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FIGLEAF_HOME", str(tmp_path / "home"))
    own = {path: path.read_bytes() for path in (experiments_dir() / "quick").rglob("*.*")}
    assert commands.reproduce("quick") == 0
    told = capfd.readouterr().out
    assert told.count("as expected") >= 2
    assert "drift: plain: 2 seeds" in told
    assert {path: path.read_bytes() for path in (experiments_dir() / "quick").rglob("*.*")} == own
    home = tmp_path / "home" / "reproductions" / "quick"
    records = load_records(home / "study" / "results")
    assert len(records) == 4

    # Nothing is trained again; what is expected has changed.
    monkeypatch.setenv("FIGLEAF_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PWD", str(tmp_path))
    other = tmp_path / "experiments" / "quick"
    other.mkdir(parents=True)
    (other / "study.yaml").write_bytes(own[next(path for path in own if path.name == "study.yaml")])
    (other / "expected.yaml").write_text(json.dumps({"arms": {"plain": {"test/auroc": 0.1}}}))
    assert commands.reproduce("quick") == 1
    assert "OFF: plain test/auroc" in capfd.readouterr().out


def test_a_reproduction_needs_something_to_expect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_study(tmp_path / "experiments" / "made")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PWD", str(tmp_path))
    with pytest.raises(FigleafError, match=r"expected\.yaml, which says what should come out"):
        commands.reproduce("made")
    with pytest.raises(FigleafError, match="seed=99"):
        commands.reproduce("made", seeds=[99])
