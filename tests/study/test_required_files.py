"""What a study's trials read and is not there is told of before any of them starts."""

from pathlib import Path

import pytest
from made_up import known, made_run, tracked, write_study

from figleaf.errors import FigleafError
from figleaf.study import commands
from figleaf.study.plan import compose_trials, plan
from figleaf.study.records import FOLDER
from figleaf.study.required_files import require_files
from figleaf.study.results import save_records
from figleaf.study.spec import find_study

STUDY = """
question: q
base: [data=manifest, data.manifest=photos/manifest.csv, model=debug]
seeds: [0, 1]
arms:
  plain: []
  dropout: [model.dropout=0.1]
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with experiments/mine, in which commands are given."""
    write_study(tmp_path / "experiments" / "mine", STUDY)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refusal(folder: Path, text: str) -> str:
    study = write_study(folder / "experiments" / "mine", text)
    with pytest.raises(FigleafError) as raised:
        require_files(study, compose_trials(study))
    return str(raised.value)


def test_a_missing_manifest_is_named_once_with_its_key_its_whole_path_and_the_rule(place: Path) -> None:
    told = refusal(place, STUDY)
    assert told.startswith("study mine, every arm: data.manifest=photos/manifest.csv: ")
    assert f"looked for at {place}/photos/manifest.csv" in told
    assert "starts from the folder the command is given in" in told
    assert f"an absolute path in {place}/experiments/mine/study.yaml" in told
    assert told.count("photos/manifest.csv: no such file") == 1


def test_where_the_path_holds_nothing_is_said_and_elsewhere_the_right_folder_is_named(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place / "photos").mkdir()
    (place / "photos" / "manifest.csv").write_text("path,label,split\na.png,sfw,train\n")
    study = write_study(place / "experiments" / "mine", STUDY)
    require_files(study, compose_trials(study))
    (place / "elsewhere").mkdir()
    monkeypatch.chdir(place / "elsewhere")
    told = refusal(place, STUDY)
    assert f"looked for at {place}/elsewhere/photos/manifest.csv" in told
    assert f"(looked for at {place}/x/m.csv)" in refusal(place, STUDY.replace("photos/manifest.csv", "../x/m.csv"))
    assert f"it is there from {place}: change to the right folder" in told


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("data.root=pictures", "data.root=pictures: no such folder (looked for at {place}/pictures)"),
        ("model.weights=w.npz", "model.weights=w.npz: no such file (looked for at {place}/w.npz)"),
        ("model.weights=shallower:a/best.safetensors", "model.weights=a/best.safetensors: no such file (looked for at"),
        ("data.manifest=/nowhere/m.csv", "data.manifest=/nowhere/m.csv: manifest /nowhere/m.csv: no such file"),
        ("data.manifest=null", "data.manifest=null: pass data=manifest"),
        ("data.manifest=.", "a folder, not a file"),
    ],
)
def test_every_kind_of_path_is_looked_at_in_every_arm(place: Path, override: str, told: str) -> None:
    (place / "m.csv").write_text("path,label,split\na.png,sfw,train\n")
    text = STUDY.replace("photos/manifest.csv", "m.csv").replace("[model.dropout=0.1]", f"['{override}']")
    found = refusal(place, text)
    assert found.startswith("study mine, arm dropout: ")
    assert told.format(place=place) in found
    assert ("relative path" in found) == ("looked for" in found) == (override not in ABSOLUTE)


ABSOLUTE = {"data.manifest=/nowhere/m.csv", "data.manifest=null"}


@pytest.mark.parametrize("override", ["model.weights=none", "model.weights=torchvision:IMAGENET1K_V1"])
def test_weights_that_are_no_file_are_not_looked_for(place: Path, override: str) -> None:
    text = STUDY.replace("data=manifest, data.manifest=photos/manifest.csv", f"data=digits, '{override}'")
    study = write_study(place / "experiments" / "mine", text)
    require_files(study, compose_trials(study))


def test_nothing_starts_while_a_file_is_missing_but_what_is_recorded_needs_none(place: Path, home: Path) -> None:
    with pytest.raises(FigleafError, match=r"looked for at .*photos/manifest\.csv"):
        commands.run("mine")
    assert not (home / "studies").exists()
    study = find_study("mine", place / "experiments")
    trials = compose_trials(study)
    runs = [made_run(trial, {"val/auroc": 0.9}) for trial in trials]
    save_records(study, tracked(study, place / "elsewhere", *plan(trials, known(runs))))
    assert commands.run("mine") == 0
    (study.results / FOLDER / "plain-0.json").unlink()
    with pytest.raises(FigleafError, match=r"arm plain: data\.manifest"):
        commands.run("mine")
