"""Runs side by side: what differs and by how much, tests on the same samples only, a gate that holds."""

import json
import shutil
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from mlflow.tracking import MlflowClient

from figleaf.cli import main
from figleaf.errors import FigleafError
from figleaf.evaluate.delong import delong
from figleaf.evaluate.direction import better
from figleaf.evaluate.metrics import METRICS, metrics
from figleaf.evaluate.predictions import Predictions
from figleaf.evaluate.two_models import mcnemar
from figleaf.study.run_comparison import Verdict, compare_runs, verdicts
from figleaf.study.run_comparison_text import to_json, to_markdown, to_text
from figleaf.tracking.find import FoundRun, find_run
from figleaf.tracking.run import TrackedRun
from figleaf.tracking.store import open_store

Make = Callable[..., FoundRun]
N = 200


def predictions(
    skill: float, *, seed: int = 0, split: str = "test", content: str = "0", groups: int = N
) -> Predictions:
    """Scores of a model of some `skill`; the same `seed` gives the same truth and noise."""
    rng = np.random.default_rng(seed)
    truth = rng.random(N) < 0.4
    logit = skill * (truth - 0.5) + rng.normal(size=N)
    samples = pd.DataFrame(
        {
            "sample_id": [f"{split}/{i}.png" for i in range(N)],
            "content_sha256": [f"{content}{i}" for i in range(N)],
            "split": split,
            "group": [f"g{i % groups}" for i in range(N)],
            "slice": "all",
            "label": np.where(truth, "nude", "control"),
        }
    )
    return Predictions.from_logits(
        samples,
        np.stack([np.zeros(N), logit], axis=1),
        classes=("control", "nude"),
        unsafe=("nude",),
        data_name="made up",
        data_hash=content * 64,
    )


@pytest.fixture(scope="module")
def blank_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Preparing one takes a second, copying it none."""
    folder = tmp_path_factory.mktemp("blank")
    open_store(None, folder)
    connection = sqlite3.connect(folder / "mlflow.db")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    return folder / "mlflow.db"


@pytest.fixture
def make(home: Path, tmp_path: Path, blank_database: Path) -> Make:
    """Tracks a run with predictions and the metrics they give."""
    home.mkdir()
    shutil.copy(blank_database, home / "mlflow.db")

    def tracked(
        name: str, found: Predictions | None, values: dict[str, float] | None = None, **params: Any
    ) -> FoundRun:
        tags = {"figleaf.git_commit": "c" * 40, "figleaf.git_dirty": "true", "figleaf.data_name": "made up"}
        with TrackedRun.start(
            open_store(None, home),
            experiment="figleaf",
            name=name,
            folder=tmp_path / name,
            params={"model": {"depth": 16, "dropout": 0.0} | params},
            tags=tags,
        ) as run:
            if found is not None:
                test = {f"test/{key}": value for key, value in metrics(found, 0.5).items()}
                run.journal.append({**test, "val/threshold": 0.5, "test/slice/a/auroc": 0.5}, 10)
                run.log_artifact(found.save(tmp_path / name / "predictions.parquet"))
            run.journal.append({"time/train_seconds": 10.0, "train/loss": 0.1} | (values or {}), 10)
        return find_run(open_store(None, home), run.run_id)

    return tracked


def test_only_what_differs_is_listed_and_differences_are_the_later_less_the_first(make: Make) -> None:
    first, other = predictions(1.0), predictions(2.0)
    runs = [make("a", first), make("b", other, {"only/here": 1.0}, dropout=0.5, extra=True)]
    found = compare_runs(runs, patterns=["test/auroc", "*/here"], resamples=0)
    assert [(p.key, p.values) for p in found.parameters] == [
        ("model.dropout", ("0.0", "0.5")),
        ("model.extra", (None, "true")),
    ]
    auroc, here = found.metrics
    assert auroc.difference(1) == pytest.approx(metrics(other)["auroc"] - metrics(first)["auroc"])
    assert auroc.difference(1) > 0
    assert here.values == (None, 1.0)
    assert here.difference(1) is None
    assert not found.paired[0].differences


def test_shown_by_default_are_final_metrics_without_slices_and_intervals(make: Make) -> None:
    runs = [make(name, predictions(1.0), {"test/auroc_low": 0.1, "epoch/auroc": 0.2}) for name in "ab"]
    keys = [value.key for value in compare_runs(runs, resamples=0).metrics]
    assert "test/auroc" in keys
    assert "time/train_seconds" in keys
    assert not [key for key in keys if key.startswith(("epoch", "train")) or "slice" in key or key.endswith("_low")]


def test_tests_are_those_of_the_two_models_with_the_sign_of_the_difference(make: Make) -> None:
    first, other = predictions(1.0), predictions(2.0)
    (tests,) = compare_runs([make("a", first), make("b", other)]).paired
    expected = delong(other, first)
    assert tests.auroc is not None
    assert tests.auroc == pytest.approx(expected)
    assert tests.p_holm == expected.p_value
    assert tests.decisions == mcnemar(other, first, (0.5, 0.5))
    assert (tests.n_samples, tests.n_groups, tests.n_left_out) == (N, N, 0)
    for name, difference in tests.differences.items():
        assert difference.difference == pytest.approx(metrics(other, 0.5)[name] - metrics(first, 0.5)[name])
        assert difference.interval[0] <= difference.difference <= difference.interval[1]
    (swapped,) = compare_runs([make("c", other), make("d", first)], resamples=0).paired
    assert swapped.auroc is not None
    assert swapped.auroc.difference == pytest.approx(-expected.difference)


def test_several_runs_are_corrected_as_one_family(make: Make) -> None:
    runs = [make("a", predictions(1.0)), make("b", predictions(1.4)), make("c", predictions(1.2))]
    b, c = compare_runs(runs, resamples=0).paired
    assert b.auroc is not None
    assert c.auroc is not None
    assert b.auroc.p_value < c.auroc.p_value
    assert b.p_holm == pytest.approx(min(1, 2 * b.auroc.p_value))


def test_several_images_a_group_are_said_to_spoil_mcnemars_test(make: Make) -> None:
    runs = [make(name, predictions(1.0, groups=20)) for name in "ab"]
    (tests,) = compare_runs(runs, resamples=0).paired
    assert any("McNemar" in note for note in tests.notes)


@pytest.mark.parametrize(
    ("other", "told"),
    [
        (predictions(1.0, content="1"), "content of 200 samples"),
        (predictions(1.0, seed=1), "truth"),
        (predictions(1.0, split="val"), "no predictions on the split test"),
        (None, "no artifact 'predictions.parquet'"),
    ],
    ids=["content", "truth", "split", "nothing"],
)
def test_runs_on_other_data_are_not_tested_but_the_rest_is_shown(
    make: Make, other: Predictions | None, told: str
) -> None:
    runs = [make("a", predictions(1.0)), make("b", other, dropout=0.5), make("c", predictions(2.0))]
    found = compare_runs(runs, resamples=0)
    assert told in found.not_paired[1]
    assert [tests.index for tests in found.paired] == [2]
    assert [p.key for p in found.parameters] == ["model.dropout"]
    for text in (to_text(found), to_markdown(found)):
        assert "Not tested: " in text
        assert "B - A" in text


def test_each_column_stands_under_its_name(make: Make) -> None:
    text = to_markdown(compare_runs([make("a", predictions(1.0)), make("b", predictions(2.0))], resamples=0))
    head, _, first, *_ = [[cell.strip() for cell in line.split("|")] for line in text.splitlines() if "|" in line]
    row = dict(zip(head, first, strict=True))
    assert (row["name"], row["data"], row["hash"], row["commit (* changed)"]) == ("a", "made up", "", "c" * 10 + "*")


def test_tolerance_counts_in_the_direction_that_is_worse(make: Make) -> None:
    runs = [make("a", predictions(2.0)), make("b", predictions(1.0), {"time/train_seconds": 14.0})]
    keys = ("test/auroc", "test/nll", "time/train_seconds")
    worse = {v.key: v.worse_by for v in verdicts(runs, [(key, 0.0) for key in keys])}
    assert worse["test/auroc"] == pytest.approx(runs[0].metrics["test/auroc"] - runs[1].metrics["test/auroc"])
    assert worse["time/train_seconds"] == 4.0
    assert all(value > 0 for value in worse.values())
    assert all(v.worse_by < 0 and v.is_met for v in verdicts(runs[::-1], [(key, 0.0) for key in keys]))


def test_tolerance_is_met_at_its_edge_and_never_by_a_value_that_is_no_number() -> None:
    assert Verdict("k", 1, 0.3 - 0.1, 0.2).is_met
    assert not Verdict("k", 1, 0.2001, 0.2).is_met
    assert not Verdict("k", 1, float("nan"), 0.2).is_met


def test_gate_refuses_what_it_cannot_judge(make: Make) -> None:
    here, elsewhere = make("a", predictions(1.0)), make("b", predictions(2.0, content="1"))
    with pytest.raises(FigleafError, match="has no such metric; it has test/auroc"):
        verdicts([here, elsewhere], [("test/aurocc", 0.1)])
    with pytest.raises(FigleafError, match="neither more nor less"):
        verdicts([here, elsewhere], [("val/threshold", 0.1)])
    with pytest.raises(FigleafError, match="the data has changed between them"):
        verdicts([here, elsewhere], [("test/auroc", 0.1)])
    assert verdicts([here, elsewhere], [("time/train_seconds", 0.1)])[0].is_met


def test_every_metric_has_a_direction() -> None:
    assert {name for name in METRICS if not better(f"test/{name}")} == set()
    assert better("test/auroc_low") == 1
    assert better("test/n") == 0


def test_command_prints_a_report_alone_and_exits_with_1_beyond_a_tolerance(
    make: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = make("a", predictions(2.0)), make("b", predictions(1.0))
    command = ["compare", a.run_id[:8], "b", "--resamples", "50"]
    assert main([*command, "--format", "json", "--tolerance", "test/auroc=0.001"]) == 1
    shown = capsys.readouterr()
    assert "not met: test/auroc" in shown.err
    report = json.loads(shown.out)
    assert [run["run_id"] for run in report["runs"]] == [a.run_id, b.run_id]
    assert report["tolerances"][0]["is_met"] is False
    assert report["paired"][0]["delong"]["difference"] < 0
    assert main([*command, "--tolerance", "test/auroc=0.9"]) == 0
    assert "test/auroc: B is" in capsys.readouterr().out
    # Options may stand between the runs.
    assert main(["compare", "a", "--format", "markdown", "b", "--resamples", "0"]) == 0
    assert capsys.readouterr().out.startswith("### Runs")


def test_command_links_to_the_comparison_of_runs_of_a_server_and_prints_the_report_alone(
    make: Make, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = {name: make(name, predictions(1.0)) for name in ("a", "b")}
    command = ["compare", "a", "b", "--format", "json", "--resamples", "0"]
    assert main(command) == 0
    local = capsys.readouterr()
    assert "MLflow UI" not in local.err
    served = {name: replace(run, _client=MlflowClient("http://127.0.0.1:1")) for name, run in runs.items()}
    monkeypatch.setattr("figleaf.commands.run_names.named_run", lambda reference, tracking: served[reference])
    assert main(command) == 0
    said = capsys.readouterr()
    assert said.out == local.out
    assert said.err.startswith("in the MLflow UI: http://127.0.0.1:1/#/compare-runs?runs=")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["a"], "at least two runs"),
        (["a", "a", "--tolerance", "test/auroc"], "KEY=X"),
        (["a", "a", "--tolerance", "test/auroc=-1"], "at least 0"),
        (["a", "a", "--tolerance", "test/auroc=nan"], "at least 0"),
        (["a", "a", "--resamples", "-1"], "--resamples -1"),
        (["a", "missing"], "missing"),
    ],
)
def test_mistakes_are_named(make: Make, capsys: pytest.CaptureFixture[str], arguments: list[str], told: str) -> None:
    make("a", None)
    assert main(["compare", *arguments]) == 2
    shown = capsys.readouterr()
    assert told in shown.err
    assert not shown.out


def test_values_that_are_no_numbers_are_words_in_json(make: Make) -> None:
    runs = [make("a", None, {"test/response_ratio": float("nan")}), make("b", None, {"test/response_ratio": 1.0})]
    text = json.dumps(to_json(compare_runs(runs)), allow_nan=False)
    assert '"nan"' in text
