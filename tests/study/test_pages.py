"""A study's links show the runs that count in its table, and say where they cannot."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from made_up import all_done, known, made_run, tracked, trials_of, write_study

from figleaf.study import pages as pages_module
from figleaf.study.pages import MOST_COMPARED, StudyPages, description, run_list, study_pages, varying, where_to_look
from figleaf.study.plan import Trial, plan
from figleaf.study.results import find, recorded
from figleaf.study.spec import Study
from figleaf.tracking.find import FoundRun
from figleaf.tracking.links import LONGEST_DESCRIPTION, finished_of_study
from figleaf.tracking.store import Store


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return write_study(tmp_path / "study")


def runs_of(trials: list[Trial]) -> list[FoundRun]:
    return [trial.run for trial in trials if isinstance(trial.run, FoundRun)]


def pages_of(study: Study, trials: list[Trial], *others: FoundRun) -> StudyPages:
    found = study_pages(study, trials, known([*runs_of(trials), *others]))
    assert found is not None
    return found


def test_columns_are_what_varies_and_the_metrics_of_the_table(study: Study) -> None:
    trials = all_done(study)
    assert varying(trials) == ["model.depth", "model.dropout"]
    view = pages_of(study, trials).runs
    assert view.params == ("arm", "model.depth", "model.dropout", "seed")
    assert view.metrics[:2] == ("test/auroc", "val/auroc")
    assert len(set(view.metrics)) == len(view.metrics)
    assert (view.order_by, view.ascending, view.group_by) == ("val/auroc", False, "arm")


def test_best_is_on_top_also_where_less_is_better(tmp_path: Path) -> None:
    study = write_study(tmp_path / "study", STUDY_MIN)
    view = run_list(study, trials_of(study))
    assert (view.order_by, view.ascending, view.group_by) == ("val/loss", True, None)  # one seed: nothing to gather


STUDY_MIN = """
question: Does depth matter?
base: [data=digits, model=debug]
seeds: [0]
select: {key: val/loss, mode: min}
arms: {vgg11: [model.depth=11], vgg13: [model.depth=13]}
"""


def test_filter_is_the_tag_of_the_study_while_that_finds_the_runs_that_count(study: Study) -> None:
    trials = all_done(study)
    failed, other = made_run(trials[0], status="FAILED"), made_run(trials[0], tags={"figleaf.study": "another"})
    assert pages_of(study, trials, failed, other).runs.filter == finished_of_study("study")
    assert run_list(study, trials).filter == finished_of_study("study")


def test_filter_names_the_runs_when_the_tag_is_also_that_of_outdated_ones(study: Study) -> None:
    trials = all_done(study)
    outdated = made_run(trials[0], run_id="0" * 32)
    view = pages_of(study, trials, outdated).runs
    assert outdated.run_id not in view.filter
    assert all(run.run_id in view.filter for run in runs_of(trials))


def test_runs_that_were_trained_for_another_study_are_shown_and_told_of(study: Study) -> None:
    trials = all_done(study)
    shared = made_run(trials[0], dict(runs_of(trials)[0].metrics), tags={"figleaf.study": "earlier"})
    found = pages_of(study, plan(trials, known([shared, *runs_of(trials)[1:]])))
    assert shared.run_id in found.runs.filter
    assert found.remarks == ("1 of its runs were trained for the study earlier and bear the names of its arms",)


def test_all_runs_are_compared_while_they_are_few(study: Study) -> None:
    trials = all_done(study)
    found = pages_of(study, trials)
    assert list(found.compared) == runs_of(trials)
    assert found.choice == "all 12 runs"


def test_of_many_runs_the_best_of_each_arm_is_compared(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages_module, "MOST_COMPARED", 11)
    aurocs = [0.9, 0.8, 0.7, 0.5, 0.6, 0.4, 0.1, 0.2, 0.3, 0.65, 0.66, 0.64]
    found = pages_of(study, all_done(study, auroc=aurocs))
    assert [run.name for run in found.compared] == [
        "vgg11-drop0-s0", "vgg11-drop.5-s1", "vgg13-drop0-s2", "vgg13-drop.5-s1"
    ]  # fmt: skip
    assert found.choice == "of 12 runs the best of each arm by val/auroc"
    monkeypatch.setattr(pages_module, "MOST_COMPARED", 2)
    found = pages_of(study, all_done(study, auroc=aurocs))
    assert [run.name for run in found.compared] == ["vgg11-drop0-s0", "vgg13-drop.5-s1"]
    assert found.choice.endswith("the 2 best of 4 arms")


def test_records_without_a_run_in_the_tracker_are_told_of(study: Study, tmp_path: Path) -> None:
    trials = recorded(tracked(study, tmp_path / "artifacts"))
    runs = runs_of(all_done(study))
    found = study_pages(study, trials, known(runs[:3]))
    assert found is not None
    assert list(found.compared) == runs[:3]
    assert found.remarks == ("9 of its 12 finished runs are records only, not in this tracker",)
    assert study_pages(study, trials, known([])) is None
    assert where_to_look(study, trials, known([]), store("sqlite:////mlflow.db")) == []


def test_runs_of_another_experiment_are_compared_and_told_of(study: Study) -> None:
    trials = all_done(study)
    moved = made_run(trials[0], dict(runs_of(trials)[0].metrics), experiment_id="2")
    found = pages_of(study, plan(trials, known([moved, *runs_of(trials)[1:]])))
    assert found.experiment_id == "1"
    assert moved in found.compared
    assert any("another experiment" in remark for remark in found.remarks)


def test_description_leads_to_the_pages_it_stands_in(study: Study) -> None:
    trials = all_done(study)
    found = pages_of(study, trials)
    text = description(study, found, find(study, trials).table)
    runs, comparison = found.links("")
    assert text.startswith(f"[Its finished runs]({runs[1:]}), [side by side]({comparison[1:]}) (all 12 runs)")
    assert "http" not in text
    assert study.question in text
    assert "| vgg11-drop0 " in text


def test_description_fits_into_a_tag(study: Study) -> None:
    trials = all_done(study)
    long = find(study, trials).table
    long.caption.append("word " * LONGEST_DESCRIPTION)
    text = description(study, pages_of(study, trials), long)
    assert len(text) < LONGEST_DESCRIPTION
    assert "results/table.md" in text


def test_comparison_stays_short_enough_for_a_description(study: Study) -> None:
    assert MOST_COMPARED * len("%2C%22" + "0" * 32 + "%22") < LONGEST_DESCRIPTION / 4


def store(uri: str, **calls: Any) -> Store:
    return Store(SimpleNamespace(**calls), uri, Path("/nowhere"), None)  # type: ignore[arg-type]


def test_local_study_is_looked_at_with_a_command_and_its_overrides(study: Study) -> None:
    trials = all_done(study)
    lines = where_to_look(study, trials, known(runs_of(trials)), store("sqlite:////mlflow.db"), ["data.classes=[a, b]"])
    assert lines == ["in the MLflow UI: `figleaf ui study 'data.classes=[a, b]'`"]


def test_study_in_a_server_has_links_and_the_view_they_need(study: Study) -> None:
    kept: list[tuple[str, str, str]] = []
    trials = all_done(study)
    server = store(
        "http://me:secret@tracker.lab:5000",
        get_experiment=lambda id: SimpleNamespace(tags={}),
        set_experiment_tag=lambda *tag: kept.append(tag),
    )
    lines = where_to_look(study, trials, known(runs_of(trials)), server)
    assert lines[0].startswith("in the MLflow UI: http://tracker.lab:5000/#/experiments/1/runs?")
    assert lines[1].startswith("side by side (all 12 runs): http://tracker.lab:5000/#/compare-runs?runs=")
    ((experiment_id, key, value),) = kept
    assert experiment_id == "1"
    assert f"viewStateShareKey={key.removeprefix('mlflow.sharedViewState.')}&" in lines[0]
    assert json.loads(value)["searchFilter"] == finished_of_study("study")
