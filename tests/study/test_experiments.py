"""The studies of this repository: their files, and the results that are committed with them."""

import csv
from pathlib import Path

import pytest

from figleaf.evaluate.metrics import metrics
from figleaf.study.expected import check_expected
from figleaf.study.plan import compose_trials
from figleaf.study.records import load_records
from figleaf.study.spec import load_study

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
STUDIES = sorted(path.parent.name for path in EXPERIMENTS.glob("*/study.yaml"))
WITH_RESULTS = sorted(path.parents[1].name for path in EXPERIMENTS.glob("*/results/runs.csv"))


@pytest.mark.parametrize("name", STUDIES)
def test_every_study_can_be_read_and_each_of_its_trials_composed(name: str) -> None:
    study = load_study(EXPERIMENTS / name)
    trials = compose_trials(study)
    assert {trial.arm for trial in trials} == set(study.arms)
    assert all(verdict.is_met is None for verdict in check_expected(study, trials))


@pytest.mark.parametrize("name", WITH_RESULTS)
def test_committed_metrics_and_tables_follow_from_the_committed_predictions(name: str) -> None:
    folder = EXPERIMENTS / name / "results"
    done = [row for row in _rows(folder / "runs.csv") if row["status"] == "done"]
    records = load_records(folder)
    for row in done:
        predictions = records[f"{row['arm']}-{row['seed']}"].predictions
        assert predictions.data_hash == row["data_hash"]
        for split in ("val", "test"):
            threshold = float(row["val/threshold"]) if row["val/threshold"] else None
            for key, value in metrics(predictions.select(split=split), threshold).items():
                assert value == pytest.approx(float(row[f"{split}/{key}"]), rel=1e-9), (row["arm"], key)
    scales = {column.key: column.scale for column in load_study(folder.parent).table.columns}
    shown = [row for row in _rows(folder / "table.csv") if row["key"] in done[0]]
    assert shown
    for row in shown:
        key = row["key"]
        values = [float(run[key]) * scales[key] for run in done if run["arm"] == row["arm"] and run[key]]
        assert int(row["n"]) == len(values), (row["arm"], key)
        if values:
            assert float(row["mean"]) == pytest.approx(sum(values) / len(values), rel=1e-8), (row["arm"], key)
        else:
            assert row["mean"] == ""


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))
