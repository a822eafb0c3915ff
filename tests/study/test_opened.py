"""A study opened for reading: what its table says, as tidy tables, from the committed records alone."""

from pathlib import Path

import numpy as np
import pytest
from made_up import tracked, trials_of, write_study

from figleaf.errors import FigleafError
from figleaf.evaluate.arms import measure_arms
from figleaf.evaluate.metrics import metrics
from figleaf.evaluate.predictions import Predictions
from figleaf.evaluate.thresholds import choose_threshold
from figleaf.study.opened import OpenedStudy, open_study
from figleaf.study.render import to_markdown
from figleaf.study.results import find, save_records
from figleaf.study.spec import Study

STUDY = """
question: Does depth matter?
data_note: made-up data
base: [data=digits, model=debug]
seeds: [0, 1, 2]
arms:
  vgg11: [model.depth=11]
  vgg13: [model.depth=13]
table: {baseline: vgg11, columns: [{key: test/auroc, label: Test AUROC, format: .4f}, test/auprc]}
"""


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    """A study with records of all of its runs, in the working folder's experiments."""
    (tmp_path / "place").mkdir()
    monkeypatch.chdir(tmp_path / "place")
    made = write_study(Path("experiments") / "made", STUDY)
    trials = tracked(made, tmp_path / "artifacts")
    for trial in trials:
        assert trial.run is not None
        trial.run.metrics.update({"test/auprc": 0.8, "val/threshold": 0.4})  # type: ignore[attr-defined]
    save_records(made, trials)
    return made


def test_records_alone_are_read_and_nothing_is_made(study: Study, home: Path) -> None:
    opened = open_study("made")
    assert [trial.name for trial, _ in opened.records()] == [trial.name for trial in trials_of(study)]
    assert not home.exists(), "no tracker is opened"


def test_tables_are_those_of_the_study(study: Study) -> None:
    opened = open_study("made")
    expected = find(opened.study, opened.trials)
    for name in ("table", "comparisons"):
        assert opened.markdown(name) == to_markdown(expected.tables[name])
    assert "| Test AUROC |" in " ".join(opened.markdown().split())
    assert opened.markdown("pivot") == "made has no pivot; it has table, comparisons."
    assert set(opened.figures) == {"figure", "comparisons", "curves", "roc_pr"}, "equal costs draw no cost figure"


def test_other_comparisons_are_of_the_metric_and_the_arm_that_were_asked_for(study: Study) -> None:
    opened = open_study("made")
    asked = opened.comparing("test/auprc", against="vgg13").found.compared
    assert asked is not None
    assert (asked.key, asked.against, [effect.name for effect in asked.effects]) == ("test/auprc", "vgg13", ["vgg11"])
    of_arm: dict[str, dict[int, Predictions]] = {}
    for trial, record in opened.records():
        of_arm.setdefault(trial.arm, {})[trial.seed] = record.predictions.select(split="test")
    paired = measure_arms(of_arm, "auprc").compare("vgg11", "vgg13")
    assert asked.effects[0].paired.difference == pytest.approx(paired.difference)
    assert asked.effects[0].paired.over_seeds_and_groups == pytest.approx(paired.over_seeds_and_groups)
    own = opened.found.compared
    assert own is not None
    assert own.key == "test/auroc", "the study itself is as it was"


def test_what_cannot_be_compared_is_named(study: Study) -> None:
    opened = open_study("made")
    with pytest.raises(FigleafError, match="against=vgg12: study made has vgg11, vgg13"):
        opened.comparing("test/auroc", against="vgg12")
    with pytest.raises(FigleafError, match=r"key=test/aurocc: no run of vgg11 has it; there are .*test/auroc"):
        opened.comparing("test/aurocc", against="vgg11")


def test_metrics_are_one_row_a_run_and_key(study: Study) -> None:
    opened = open_study("made")
    rows = opened.metrics("*/auroc", "val/thresh*")
    assert set(rows["key"]) == {"test/auroc", "val/auroc", "val/threshold"}
    assert len(rows) == 6 * 3
    table = rows[rows["key"] == "test/auroc"].set_index(["arm", "seed"])["value"]
    assert {(t.arm, t.seed): r.metrics["test/auroc"] for t, r in opened.records()} == table.to_dict()
    assert set(opened.metrics()["key"]) > set(rows["key"])


def test_curves_count_epochs_from_one(study: Study) -> None:
    rows = open_study("made").curves("epoch/val_auroc")
    assert rows[["epoch", "step"]].drop_duplicates().to_numpy().tolist() == [[1, 10], [2, 20], [3, 30], [4, 40]]
    assert rows["value"].tolist()[:4] == [1 - 0.5**epoch for epoch in range(1, 5)]
    assert set(rows["arm"]) == {"vgg11"}, "the others recorded none"


def test_decisions_are_each_runs_own_at_its_own_threshold(study: Study) -> None:
    opened = open_study("made")
    rows = opened.decisions("test")
    for trial, record in opened.records():
        of = rows[(rows["arm"] == trial.arm) & (rows["seed"] == trial.seed)]
        test = record.predictions.select(split="test")
        assert of["sample_id"].tolist() == test.scored.table["sample_id"].tolist()
        assert of["is_right"].mean() == pytest.approx(metrics(test, 0.4)["accuracy"])


def test_operating_points_are_chosen_by_each_run_on_val(study: Study) -> None:
    opened = open_study("made")
    rows = opened.operating_points("fpr=0.2", "youden")
    assert rows.columns[:3].tolist() == ["arm", "seed", "rule"]
    assert len(rows) == 12
    expected = [
        choose_threshold(record.predictions.select(split="val"), rule)
        for _, record in opened.records()
        for rule in ("fpr=0.2", "youden")
    ]
    assert rows["threshold"].tolist() == expected
    assert np.isfinite(rows["recall"]).all()


def test_a_study_without_records_says_what_makes_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_study(Path("experiments") / "empty", STUDY)
    with pytest.raises(FigleafError, match=r"`figleaf study run empty` runs them; open_study\(..., tracker=True\)"):
        open_study("empty")
    with pytest.raises(FigleafError, match=r"study emty: no file .*did you mean empty"):
        open_study("emty")


@pytest.mark.slow
def test_with_the_tracker_its_runs_count_too(study: Study) -> None:
    for file in (study.results / "records").glob("vgg13-2.*"):
        file.unlink()
    assert len(list(open_study("made", tracker=True).records())) == 5, "an empty tracker adds nothing"


def test_half_a_study_is_what_it_is(study: Study) -> None:
    for file in (study.results / "records").glob("vgg13-*"):
        file.unlink()
    opened: OpenedStudy = open_study("made")
    assert opened.found.compared is None
    assert "comparisons" not in opened.figures
    assert opened.markdown("comparisons") == "made has no comparisons; it has table."
    assert "3 trials" in opened.markdown()
