"""What a search leaves behind: the expected best where trials are draws, the budget, a page that says what it is."""

import csv
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_up_search import made_trials
from optuna.trial import TrialState

from figleaf.study.search.best import best_found, best_text
from figleaf.study.search.page import search_page
from figleaf.study.search.results import write_search
from figleaf.study.search.returns import Returns
from figleaf.study.search.storage import open_storage
from figleaf.study.search.trials import EPOCHS, HARDWARE, SAME_AS, Trials

COMPLETE, PRUNED, FAIL = TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL
VALUES = [0.7, 0.9, 0.6, 0.8]
COMMAND = "figleaf search made --report"
MACHINE = {"cpu": "a processor", "cores": 4, "usable_cores": 2, "memory_gib": 7.8}
RANGE = {"optimizer.lr": {"low": 0.001, "high": 0.1, "log": True}}


def ended(
    folder: Path,
    values: list[float],
    states: dict[int, TrialState] | None = None,
    wanted: int | None = None,
    **search: Any,
) -> Trials:
    """A search with as many trials, each of two epochs, the last of which has its value; `states`: by number."""
    folder.mkdir(parents=True, exist_ok=True)
    with open_storage(str(folder / "journal.log")) as storage:
        trials = made_trials(folder, storage, wanted or len(values), **({"space": RANGE, "sampler": "random"} | search))
        for number, value in enumerate(values):
            trial = trials.next()
            assert trial is not None
            trials.report(trial, 1, 0.55)
            trials.report(trial, 2, value)
            state = (states or {}).get(number, COMPLETE)
            trials.tell(trial, state, value if state is COMPLETE else None, {EPOCHS: 2, HARDWARE: MACHINE})
    return trials


def returns(trials: Trials) -> Returns:
    found = Returns.of(trials)
    assert found is not None
    return found


def columns(path: Path) -> dict[str, list[str]]:
    with path.open() as file:
        rows = list(csv.DictReader(file))
    return {name: [row[name] for row in rows] for name in rows[0]}


def test_of_random_trials_the_mean_over_every_search_there_could_have_been_is_expected(tmp_path: Path) -> None:
    write_search(ended(tmp_path, VALUES), tmp_path / "out", COMMAND)
    table = columns(tmp_path / "out" / "expected.csv")
    means = [np.mean([max(drawn) for drawn in itertools.product(VALUES, repeat=n)]) for n in range(1, 5)]
    assert [float(value) for value in table["expected"]] == pytest.approx(means)
    assert [float(value) for value in table["best_so_far"]] == [0.7, 0.9, 0.9, 0.9]
    assert table["epochs"] == ["2", "4", "6", "8"]
    assert all(
        float(low) <= mean <= float(high) for low, mean, high in zip(table["low"], means, table["high"], strict=True)
    )


def test_of_a_grid_each_combination_is_drawn_once(tmp_path: Path) -> None:
    trials = ended(tmp_path, VALUES, sampler="grid", space={"model.dropout": [0.0, 0.1, 0.2, 0.3]})
    curve = returns(trials).expected
    assert curve is not None
    assert curve.expected[1] == pytest.approx(np.mean([max(drawn) for drawn in itertools.combinations(VALUES, 2)]))
    assert curve.expected[-1] == 0.9
    # All of them leave nothing to chance, so what is told is of half of them.
    assert returns(trials).expectation == pytest.approx(
        {"trials": 2, "value": curve.expected[1], "low": curve.low[1], "high": curve.high[1]}
    )


@pytest.mark.parametrize("sampler", ["tpe", "cmaes"])
def test_of_a_sampler_that_learns_there_is_no_expected_value_and_the_page_says_why(
    tmp_path: Path, sampler: str
) -> None:
    two = RANGE | {"model.dropout": {"low": 0.0, "high": 0.5}}
    trials = ended(tmp_path, VALUES, sampler=sampler, space=two)
    write_search(trials, tmp_path / "out", COMMAND)
    table = columns(tmp_path / "out" / "expected.csv")
    assert table["expected"] == table["low"] == table["high"] == [""] * 4
    assert [float(value) for value in table["best_so_far"]] == [0.7, 0.9, 0.9, 0.9]
    page = (tmp_path / "out" / "README.md").read_text()
    assert f"the trials of {sampler} learned from the ones before" in page
    assert "Dodge" not in page
    svg = (tmp_path / "out" / "expected.svg").read_text()
    assert "FillBetween" not in svg
    assert (tmp_path / "out" / "expected.png").stat().st_size > 0
    found = best_found(trials)
    assert found is not None
    assert found["expected"] is None


def test_who_proposed_a_trial_is_what_counts_not_what_the_file_says_today(tmp_path: Path) -> None:
    learned = ended(tmp_path, VALUES[:2], sampler="tpe", wanted=2)
    assert returns(learned).expected is None
    with open_storage(str(tmp_path / "journal.log")) as storage:
        same = made_trials(tmp_path, storage, 3, sampler="random", space=RANGE)
        assert returns(same).samplers == ("tpe",)
        assert returns(same).expected is None
        trial = same.next()
        assert trial is not None
        same.tell(trial, COMPLETE, 0.95)
        assert returns(same).samplers == ("random", "tpe")
        assert returns(same).expected is None
        assert "are not of one kind" in returns(same).text


def test_given_up_and_failed_trials_used_the_budget_and_count(tmp_path: Path) -> None:
    found = returns(ended(tmp_path, VALUES, {1: FAIL, 3: PRUNED}))
    assert found.expected is not None
    assert found.expected.expected[0] == pytest.approx(np.mean([0.7, 0.5, 0.6, 0.8]))
    assert (found.budget.trials, found.budget.epochs) == (4, 8)
    assert found.best.tolist() == [0.7, 0.7, 0.7, 0.8]
    told = " ".join(found.caption)
    assert "1 given up with the value of their last epoch, 1 failed with that of a failure (0.5)" in told


@pytest.mark.parametrize(
    ("metric", "failure"), [("val/auroc", 0.5), ("val/accuracy", 0.0), ("val/ece", 1.0), ("val/nll", np.log(2))]
)
def test_a_failure_is_no_better_than_knowing_nothing(tmp_path: Path, metric: str, failure: float) -> None:
    found = returns(ended(tmp_path, VALUES, {0: FAIL}, metric=metric))
    assert found.failure == pytest.approx(failure)
    assert found.best[0] == pytest.approx(failure)


def test_of_a_loss_the_least_is_the_best(tmp_path: Path) -> None:
    found = returns(ended(tmp_path, VALUES, metric="val/nll"))
    assert found.best.tolist() == [0.7, 0.7, 0.6, 0.6]
    assert found.expected is not None
    assert (np.diff(found.expected.expected) < 0).all()


def test_the_budget_names_trials_epochs_and_machines_and_a_copied_trial_cost_nothing(tmp_path: Path) -> None:
    trials = ended(tmp_path, VALUES)
    with open_storage(str(tmp_path / "journal.log")) as storage:
        more = made_trials(tmp_path, storage, 5, space=RANGE, sampler="random")
        trial = more.next()
        assert trial is not None
        more.copy(trial, trials.counted()[1])
        found = returns(more)
        assert SAME_AS in more.counted()[-1].user_attrs
        assert (found.budget.trials, found.budget.epochs) == (5, 8)
    assert "5 trials, 8 epochs" in found.budget.text
    assert found.budget.text.endswith("on a processor, 2 of 4 cores, 8 GiB")
    assert found.budget.text in found.caption[-1]


def test_the_report_in_words_and_as_an_object_tells_budget_and_expectation(tmp_path: Path) -> None:
    trials = ended(tmp_path, VALUES)
    found, told = best_found(trials), returns(trials)
    assert found is not None
    assert (found["value"], found["trial"]) == (0.9, 1)
    assert found["budget"]["trials"] == 4
    assert found["budget"]["machines"] == ["a processor, 2 of 4 cores, 8 GiB"]
    assert found["expected"]["value"] < found["value"]
    text = best_text(found, told)
    assert f"expected   val/auroc {found['expected']['value']:.4f} of 4 random trials" in text
    assert "budget     4 trials, 8 epochs, on a processor" in text


def test_the_page_says_what_was_asked_tried_and_found_and_shows_only_what_is_there(tmp_path: Path) -> None:
    space = {**RANGE, "model.dropout": {"low": 0.0, "high": 0.5, "step": 0.1}, "optimizer.batch_size": [8, 16]}
    trials = ended(tmp_path, VALUES, {2: PRUNED}, wanted=6, space=space, pruner="median")
    files = write_search(trials, tmp_path / "out", COMMAND)
    page = (tmp_path / "out" / "README.md").read_text()
    assert page.startswith(f'<!-- Generated by "{COMMAND}"')
    for words in (
        "Which?",
        "0.001 to 0.1, evenly on a logarithmic scale",
        "0 to 0.5 in steps of 0.1",
        "| 8, 16 |",
        "Sampler random (seed 0), pruner median",
        "3 complete, 1 given up of 6",
        "Trial 1: val/auroc 0.9000",
        "looks better on val than it is",
        "searched: {overrides: [",
        "Dodge et al. 2019",
    ):
        assert words in page, words
    shown = {path.name for path in files}
    assert {"trials.csv", "expected.csv", "expected.png", "expected.svg", "history.png", "README.md"} <= shown
    links = {link for link in ("expected.svg", "history.png", "importance.png", "expected.csv") if f"({link})" in page}
    assert links <= shown
    assert "(history.png)" not in search_page(trials, {"trials.csv"}, COMMAND)


def test_the_same_trials_give_the_same_bytes_and_what_is_no_longer_drawn_goes(tmp_path: Path) -> None:
    out = tmp_path / "out"
    trials = ended(tmp_path / "many", VALUES)
    write_search(trials, out, COMMAND)
    first = {path.name: path.read_bytes() for path in out.iterdir()}
    write_search(trials, out, COMMAND)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == first
    write_search(ended(tmp_path / "one", [0.7]), out, COMMAND)
    assert {path.name for path in out.iterdir()} == {"trials.csv", "expected.csv", "README.md"}


def test_a_search_of_failures_alone_has_a_page_and_nothing_to_recommend(tmp_path: Path) -> None:
    trials = ended(tmp_path, VALUES[:2], {0: FAIL, 1: FAIL})
    write_search(trials, tmp_path / "out", COMMAND)
    assert best_found(trials) is None
    page = (tmp_path / "out" / "README.md").read_text()
    assert "No trial has been trained to its end yet." in page
    assert "2 failed with that of a failure (0.5)" in page
