"""A study of evaluation methods from training to table, on digits."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from figleaf.cli import main
from figleaf.config import home
from figleaf.evaluate.predictions import Predictions
from figleaf.evaluate.thresholds import choose_threshold
from figleaf.study import commands
from figleaf.study.records import Record, load_records
from figleaf.tracking.find import FoundRun, find_run, runs
from figleaf.tracking.store import open_store

pytestmark = pytest.mark.slow

TRAINED = """
question: Is there something to evaluate?
base: [data=digits, model=debug, trainer.epochs=3, optimizer.batch_size=64, trainer.intervals=0]
seeds: [1, 2]
arms: {plain: []}
"""
METHODS = """
question: Which evaluation method?
data_note: scikit-learn's digits
runs_of: {study: trained, arm: plain}
seeds: [1, 2]
arms:
  single: {evaluate: {method: single}}
  dense: {evaluate: {method: dense, scales: [1, 64], flip: true}}
  float16: {evaluate: {exported: onnx_float16}}
  int8: {evaluate: {exported: onnx_int8}}
table:
  baseline: single
  columns: [{key: test/auroc, format: .4f}, {key: cost/passes, format: .0f, per: arm}]
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A working folder with both studies, run in the order in which a person might."""
    folder = tmp_path_factory.mktemp("methods")
    for name, text in (("trained", TRAINED), ("methods", METHODS)):
        (folder / "experiments" / name).mkdir(parents=True)
        (folder / "experiments" / name / "study.yaml").write_text(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("PWD", str(folder))
        patch.setenv("FIGLEAF_HOME", str(folder / "home"))
        assert main(["study", "run", "methods"]) == 2, "before the networks are there"
        assert commands.run("trained", jobs=2) == 0
        assert commands.run("methods", jobs=2) == 0
        yield folder


@pytest.fixture(autouse=True)
def _there(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    monkeypatch.setenv("PWD", str(place))
    monkeypatch.setenv("FIGLEAF_HOME", str(place / "home"))


@pytest.fixture
def records(place: Path) -> dict[str, Record]:
    return load_records(place / "experiments" / "methods" / "results")


def trained(seed: int) -> FoundRun:
    """The network of a seed."""
    (run,) = [run for run in runs(open_store(None, home()), study="trained") if run.tags["figleaf.seed"] == str(seed)]
    return run


def test_a_single_view_finds_what_the_training_found(records: dict[str, Record]) -> None:
    for seed in (1, 2):
        found, source = records[f"single-{seed}"], trained(seed)
        assert found.tags["figleaf.source_run_id"] == source.run_id
        assert found.tags["figleaf.best_sha256"] == source.tags["figleaf.best_sha256"]
        own = Predictions.load(source.artifact("predictions.parquet"))
        assert found.predictions.table["sample_id"].tolist() == own.table["sample_id"].tolist()
        np.testing.assert_allclose(found.predictions.logits, own.logits, rtol=1e-4, atol=1e-4)
        for key in ("val/auroc", "test/auroc", "test/n", "cost/gmacs", "cost/parameters"):
            assert found.metrics[key] == pytest.approx(source.metrics[key], rel=1e-4), key


def test_an_exported_file_is_measured_by_its_own_answers_its_size_and_its_speed(records: dict[str, Record]) -> None:
    for seed in (1, 2):
        single = records[f"single-{seed}"]
        for name, bits, near in (("float16", 16, 5e-3), ("int8", 8, 0.3)):
            found = records[f"{name}-{seed}"]
            assert found.tags["figleaf.best_sha256"] == single.tags["figleaf.best_sha256"]
            scores, before = (one.predictions.table["score"].to_numpy() for one in (found, single))
            assert 0 < np.abs(scores - before).max() < near, "lossy, and of the same network"
            assert found.metrics["cost/parameters"] == single.metrics["cost/parameters"]
            weights = found.metrics["cost/parameters"] * bits / 8e6
            assert weights * 0.9 < found.metrics["cost/megabytes"] < weights + 0.2
            assert found.metrics["time/ms_per_image_1"] > 0
            assert found.metrics["time/ms_per_image_2"] > 0


def test_another_method_scores_otherwise_and_chooses_its_own_threshold_on_val(records: dict[str, Record]) -> None:
    for seed in (1, 2):
        single, dense = records[f"single-{seed}"], records[f"dense-{seed}"]
        assert set(dense.predictions.table["variant"]) == {"dense-q32+64-flip"}
        assert dense.metrics["cost/passes"] == 4
        assert dense.metrics["test/auroc"] != single.metrics["test/auroc"]
        for record in (single, dense):
            threshold = choose_threshold(record.predictions.select(split="val"))
            assert record.metrics["val/threshold"] == pytest.approx(threshold)


def test_evaluations_are_runs_of_their_own_beside_the_trained_ones(records: dict[str, Record]) -> None:
    store = open_store(None, home())
    found = [find_run(store, record.run_id) for record in records.values()]
    assert len({run.run_id for run in found} | {trained(1).run_id, trained(2).run_id}) == len(records) + 2
    assert {run.status for run in found} == {"FINISHED"}
    assert {run.tags["figleaf.kind"] for run in found} == {"evaluation"}
    assert find_run(store, "latest").tags["figleaf.study"] == "trained", "the last run that holds a model"


def test_run_again_there_is_nothing_to_do_and_the_table_compares_by_seed(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert commands.run("methods") == 0
    assert "started" not in capsys.readouterr().err
    assert commands.table("methods") == 0
    printed = capsys.readouterr().out
    assert "Paired by seed, 2 pairs" in printed
    assert not (place / "experiments" / "methods" / "results" / "curves.svg").exists(), "nothing was trained"


def test_a_reproduction_first_trains_what_it_measures(
    place: Path, records: dict[str, Record], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = records["single-2"].metrics["test/auroc"]
    (place / "experiments" / "methods" / "expected.yaml").write_text(
        f"{{tolerance: 0.000001, arms: {{single: {{test/auroc: {found}}}}}}}"
    )
    before = {run.run_id for run in runs(open_store(None, home()))}
    assert main(["study", "reproduce", "methods", "--seed", "2", "--arm", "single"]) == 0
    told = capsys.readouterr()
    assert "as expected: single test/auroc" in told.out
    assert "drift: single: 1 seed identical to the records" in told.out
    assert "first the runs of study trained that it measures" in told.err
    apart = runs(open_store(None, place / "home" / "reproductions" / "methods"))
    assert {run.name for run in apart} == {"plain-s2", "single-s2", "study trained", "study methods"}, (
        "no more than that"
    )
    monkeypatch.setenv("FIGLEAF_HOME", str(place / "home"))
    assert {run.run_id for run in runs(open_store(None, home()))} == before
    assert load_records(place / "experiments" / "trained" / "results").keys() == {"plain-1", "plain-2"}


def test_an_evaluation_that_is_asked_for_its_weights_names_the_run_that_has_them(
    records: dict[str, Record], capsys: pytest.CaptureFixture[str]
) -> None:
    run_id = records["dense-1"].run_id
    for command in (["evaluate", "data=digits", "intervals=0"], ["export"]):
        assert main([command[0], f"run={run_id}", *command[1:]]) == 2
        assert f"holds no weights: it measured those of run {trained(1).run_id[:12]}" in capsys.readouterr().err


def test_the_command_line_gives_the_same_predictions_as_the_study(
    records: dict[str, Record], capsys: pytest.CaptureFixture[str]
) -> None:
    method = ["method=dense", "scales=[32,64]", "flip=true"]
    assert main(["evaluate", f"run={trained(2).run_id}", "data=digits", "intervals=0", *method]) == 0
    report = json.loads(capsys.readouterr().out)
    by_hand = Predictions.load(Path(report["predictions"]))
    by_study = records["dense-2"].predictions.select(split="test")
    np.testing.assert_allclose(by_hand.logits, by_study.logits, rtol=1e-4, atol=1e-4)
    assert report["variant"] == by_study.table["variant"][0]


def test_arms_that_measure_runs_of_their_own_study_come_after_them(place: Path) -> None:
    text = TRAINED.replace("arms: {plain: []}", "arms:\n").replace("seeds: [1, 2]", "seeds: [3]")
    text += "  files: {evaluate: {exported: onnx}, runs_of: {study: own, arm: plain}}\n  plain: []\n"
    (place / "experiments" / "own").mkdir()
    (place / "experiments" / "own" / "study.yaml").write_text(text)
    assert commands.run("own") == 0
    found = load_records(place / "experiments" / "own" / "results")
    assert sorted(found) == ["files-3", "plain-3"]
    assert found["files-3"].tags["figleaf.source_run_id"] == found["plain-3"].run_id
