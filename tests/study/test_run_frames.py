"""Runs side by side as tidy tables and figures: the numbers of `figleaf compare`, and the samples behind them."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from figleaf.errors import FigleafError
from figleaf.evaluate.metrics import metrics
from figleaf.evaluate.predictions import Predictions
from figleaf.study.run_comparison import compare_runs
from figleaf.study.run_figures import histories_plot, scores_plot
from figleaf.study.run_frames import (
    caveats,
    disagreements,
    metrics_frame,
    paired_frame,
    parameters_frame,
    runs_frame,
)
from figleaf.tracking.find import FoundRun

N = 120


class Client:
    """Answers as MLflow does: a curve for every run but those that have none."""

    def get_metric_history(self, run_id: str, key: str) -> list[SimpleNamespace]:
        if run_id.startswith("c") or key == "epoch/unknown":
            return []
        return [SimpleNamespace(step=10 * epoch, value=1 - 0.5**epoch) for epoch in (3, 1, 2)]

    def list_artifacts(self, run_id: str) -> list[SimpleNamespace]:
        return []


def predictions(skill: float, *, groups: int = N, first: int = 0) -> Predictions:
    rng = np.random.default_rng(1)
    truth = rng.random(N) < 0.4
    samples = pd.DataFrame(
        {
            "sample_id": [f"{i}.png" for i in range(first, first + N)],
            "content_sha256": [f"{i}" for i in range(N)],
            "split": "test",
            "group": [f"g{i % groups}" for i in range(N)],
            "slice": "all",
            "label": np.where(truth, "nsfw", "sfw"),
        }
    )
    logits = np.stack([np.zeros(N), skill * (truth - 0.5) + rng.normal(size=N)], axis=1)
    names = {"classes": ("sfw", "nsfw"), "unsafe": ("nsfw",), "data_name": "made", "data_hash": "d"}
    return Predictions.from_logits(samples, logits, **names)  # type: ignore[arg-type]


def made(folder: Path, name: str, found: Predictions, threshold: float = 0.5, **params: str) -> FoundRun:
    place = folder / name
    place.mkdir()
    found.save(place / "predictions.parquet")
    fields: dict[str, Any] = {"run_id": name.ljust(32, "0"), "name": name, "status": "FINISHED", "start_time_ms": 1}
    fields["experiment_id"] = "1"
    test = {f"test/{key}": value for key, value in metrics(found, threshold).items()}
    tags = {"figleaf.data_name": "made", "figleaf.git_commit": "c" * 40, "figleaf.git_dirty": "true"}
    return FoundRun(
        **fields,
        params={"model.depth": "11"} | params,
        metrics=test | {"val/threshold": threshold},
        tags=tags,
        artifact_uri=place.as_uri(),
        _client=Client(),  # type: ignore[arg-type]
        _downloads=folder,
    )


@pytest.fixture
def runs(tmp_path: Path) -> list[FoundRun]:
    first = made(tmp_path, "a", predictions(1.0))
    return [first, made(tmp_path, "b", predictions(2.5), 0.8, **{"model.dropout": "0.5"})]


def test_tables_hold_what_the_comparison_found(runs: list[FoundRun]) -> None:
    found = compare_runs(runs, resamples=50)
    assert runs_frame(found).loc["B", ["name", "commit"]].tolist() == ["b", "c" * 10 + "*"]
    differing = parameters_frame(found)
    assert differing.index.tolist() == ["model.dropout"]
    assert (differing.loc["model.dropout", "A"], differing.loc["model.dropout", "B"]) == (None, "0.5")
    table = metrics_frame(found)
    auroc = table.loc["test/auroc"]
    assert auroc["B - A"] == pytest.approx(auroc["B"] - auroc["A"])
    assert auroc["B"] == runs[1].metrics["test/auroc"]


def test_tests_are_those_of_the_comparison_in_the_same_direction(runs: list[FoundRun]) -> None:
    found = compare_runs(runs, resamples=50)
    (tests,) = found.paired
    assert tests.auroc is not None
    assert tests.decisions is not None
    rows = paired_frame(found).set_index("test")
    assert rows.loc["auroc, DeLong", ["difference", "p", "p_holm"]].tolist() == [
        tests.auroc.difference,
        tests.auroc.p_value,
        tests.p_holm,
    ]
    assert rows.loc["auroc, DeLong", "difference"] > 0, "B ranks better"
    assert tuple(rows.loc["accuracy, bootstrap", ["low", "high"]]) == tests.differences["accuracy"].interval
    decisions = rows.loc["decisions, McNemar"]
    assert (decisions["only_run_right"], decisions["only_A_right"]) == (tests.decisions.only_a, tests.decisions.only_b)
    assert decisions["only_run_right"] > decisions["only_A_right"]
    assert np.isnan(decisions["difference"])


def test_what_stands_against_a_test_is_said_by_run(tmp_path: Path) -> None:
    few = [made(tmp_path, name, predictions(1.0, groups=20)) for name in "ab"]
    other = made(tmp_path, "c", predictions(1.0, first=7))
    b, c = caveats(compare_runs([*few, other], resamples=0))
    assert b.startswith("B: McNemar's test takes images for independent")
    assert c.startswith("C: not tested: run a (a0000000) and run c (c0000000) were scored on different samples")


def test_disagreements_are_the_samples_that_mcnemar_counts_the_widest_gap_first(runs: list[FoundRun]) -> None:
    rows = disagreements(runs)
    (tests,) = compare_runs(runs, resamples=0).paired
    assert tests.decisions is not None
    assert (rows["right"] == "B").sum() == tests.decisions.only_a
    assert (rows["right"] == "A").sum() == tests.decisions.only_b
    assert len(rows) == tests.decisions.only_a + tests.decisions.only_b
    assert rows["gap"].is_monotonic_decreasing
    assert rows["gap"].tolist() == pytest.approx((rows["A"] - rows["B"]).abs().tolist())
    sample = rows.iloc[0]
    flagged = (sample["A"] >= 0.5, sample["B"] >= 0.8)
    assert flagged[0] != flagged[1], "each at its own threshold"


def test_three_runs_disagree_where_not_all_decide_alike(tmp_path: Path, runs: list[FoundRun]) -> None:
    three = [*runs, made(tmp_path, "c", predictions(0.2))]
    rows = disagreements(three)
    assert set(rows["right"]) <= {"A", "B", "C", "AB", "AC", "BC"}
    assert set(disagreements(runs)["sample_id"]) < set(rows["sample_id"])


def test_runs_of_other_samples_are_refused(tmp_path: Path, runs: list[FoundRun]) -> None:
    other = made(tmp_path, "z", predictions(1.0, first=7))
    for ask in (lambda: disagreements([runs[0], other]), lambda: scores_plot(runs[0], other)):
        with pytest.raises(FigleafError, match="different samples"):
            ask()


def test_scores_are_drawn_where_they_are_and_counted_as_they_are_decided(runs: list[FoundRun]) -> None:
    (axes,) = scores_plot(*runs).axes
    drawn = {line.get_label(): line for line in axes.lines}
    x = np.concatenate([drawn[name].get_xdata() for name in ("safe", "unsafe")])
    y = np.concatenate([drawn[name].get_ydata() for name in ("safe", "unsafe")])
    scores = [predictions(skill).scores for skill in (1.0, 2.5)]
    assert sorted(x) == pytest.approx(sorted(scores[0]))
    assert sorted(y) == pytest.approx(sorted(scores[1]))
    assert f"decided otherwise {len(disagreements(runs))} of {N}" in axes.get_title(loc="left")
    (low, high), values = axes.get_xlim(), np.concatenate([x, y])
    assert low < values.min() <= values.max() < high


def test_histories_are_drawn_by_step_and_a_run_without_one_is_only_named(tmp_path: Path, runs: list[FoundRun]) -> None:
    runs = [*runs, made(tmp_path, "c", predictions(1.0))]
    figure = histories_plot(runs, ["epoch/val_auroc", "epoch/unknown"])
    (axes,) = figure.axes
    assert [line.get_label() for line in axes.lines] == ["A: a", "B: b", "C: c"]
    assert axes.lines[0].get_xdata().tolist() == [10, 20, 30]
    assert axes.lines[0].get_ydata().tolist() == [0.5, 0.75, 0.875]
    assert len({line.get_color() for line in axes.lines}) == 3
    with pytest.raises(FigleafError, match="no run has a value of epoch/unknown"):
        histories_plot(runs, ["epoch/unknown"])
