import json
from dataclasses import replace
from pathlib import Path

import pytest
from made_up import STUDY, made_predictions, made_run, tracked, trials_of, write_study

from figleaf.errors import FigleafError
from figleaf.study.plan import Knowledge, Stale, Status, Trial, plan
from figleaf.study.records import Record, _portable, load_records, prune, records_of_other_studies
from figleaf.study.results import save_records, write_results
from figleaf.study.spec import Study
from figleaf.tracking.find import FoundRun


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return write_study(tmp_path / "made")


@pytest.fixture
def trials(study: Study, tmp_path: Path) -> list[Trial]:
    return tracked(study, tmp_path / "artifacts")


def saved(study: Study, trial: Trial) -> Record:
    assert isinstance(trial.run, FoundRun)
    return Record.load(Record.of(trial.run).save(study.results, trial.name))


def known(study: Study, *runs: FoundRun, **changes: object) -> Knowledge:
    nowhere = Knowledge(runs, Path("/nowhere"), lambda folder: False, records=load_records(study.results))
    return replace(nowhere, **changes)  # type: ignore[arg-type]


def test_a_record_holds_what_the_tracker_held(study: Study, trials: list[Trial]) -> None:
    trial = trials[0]
    assert isinstance(trial.run, FoundRun)
    odd = replace(trial.run, metrics=trial.run.metrics | {"test/response_ratio": float("inf")})
    found = saved(study, replace(trial, run=odd))
    assert found == Record.of(odd)
    assert found.metrics["test/response_ratio"] == float("inf")
    assert found.history("epoch/val_auroc") == trial.run.history("epoch/val_auroc")
    told, original = found.predictions, made_predictions(0)
    assert told.table.equals(original.table.assign(logits=told.table["logits"]))
    assert told.logits.tobytes() == original.logits.tobytes()
    assert (told.classes, told.unsafe, told.data_hash) == (original.classes, original.unsafe, original.data_hash)


def test_a_record_says_nothing_of_this_machine(study: Study, trials: list[Trial]) -> None:
    trial = trials[0]
    config = replace(trial.config, tracking=replace(trial.config.tracking, uri="http://user:secret@host"))
    (Path(str(trial.run.artifact("config.json")))).write_text(json.dumps({"seed": 1, "tracking": {"uri": "secret"}}))  # type: ignore[union-attr]
    saved(study, replace(trial, config=config))
    text = (study.results / "records" / f"{trial.name}.json").read_text()
    assert "secret" not in text
    assert str(study.folder) not in text


def test_the_samples_are_kept_once_and_equal_records_are_equal_bytes(study: Study, trials: list[Trial]) -> None:
    save_records(study, trials)
    files = {path.name: path.read_bytes() for path in study.results.rglob("*.*")}
    assert len([name for name in files if name.startswith("samples-")]) == 1
    for path in study.results.rglob("*.*"):
        path.unlink()
    save_records(study, trials[::-1])
    assert {path.name: path.read_bytes() for path in study.results.rglob("*.*")} == files


def test_recorded_trials_are_done_without_tracker_and_data(study: Study, trials: list[Trial]) -> None:
    save_records(study, trials[:3])

    def no_data(config: object) -> str:
        raise FigleafError("data.manifest=../shared/manifest.csv: no such file")

    planned = plan(trials_of(study), known(study, data_hash=no_data))
    assert [trial.status for trial in planned] == [Status.DONE] * 3 + [Status.MISSING] * 9
    assert "no such file" in planned[3].note


def test_a_trial_that_another_study_has_recorded_is_done(study: Study, trials: list[Trial]) -> None:
    beside = write_study(study.folder.parent / "beside", STUDY.replace("seeds: [0, 1, 2]", "seeds: [1, 3]"))
    save_records(study, trials)
    expected = {name: record.metrics for name, record in load_records(study.results).items() if name.endswith("-1")}
    (study.results / "records" / "broken-1.json").write_text("broken, which is that study's concern")
    planned = plan(trials_of(beside), known(beside, others=lambda: records_of_other_studies(beside.results)))
    assert {(trial.seed, trial.status) for trial in planned} == {(1, Status.DONE), (3, Status.MISSING)}
    assert {trial.name: trial.run.metrics for trial in planned if trial.run is not None} == expected
    save_records(beside, planned)  # with the samples, so that it stands alone
    (study.results / "records").rename(study.results / "gone")
    assert all(len(record.predictions) for record in load_records(beside.results).values())


def test_a_record_of_other_data_or_another_configuration_does_not_count(study: Study, trials: list[Trial]) -> None:
    save_records(study, trials)
    assert {t.status for t in plan(trials_of(study), known(study, data_hash=lambda config: "e" * 64))} == {Status.STALE}
    longer = [
        replace(t, config=replace(t.config, trainer=replace(t.config.trainer, epochs=99))) for t in trials_of(study)
    ]
    assert {t.status for t in plan(longer, known(study))} == {Status.STALE}


def test_a_record_counts_before_the_tracker_unless_its_commit_is_to_be_replaced(
    study: Study, trials: list[Trial]
) -> None:
    save_records(study, trials)
    own = made_run(trials[0], tags={"figleaf.git_commit": "f" * 40}, run_id="own")
    kept, *_ = plan(trials_of(study), known(study, own, commit="f" * 40))
    assert isinstance(kept.run, Record)
    newer, other, *_ = plan(trials_of(study), known(study, own, commit="f" * 40, stale=Stale.RERUN))
    assert newer.run is own
    assert other.status is Status.STALE


def test_tables_come_from_the_records_alone(study: Study, trials: list[Trial]) -> None:
    write_results(study, trials, [], "figleaf study table made")
    first = {path: path.read_bytes() for path in study.folder.rglob("*.*")}
    for path in (study.results / name for name in ("table.md", "runs.csv", "figure.png", "curves.svg")):
        path.unlink()
    write_results(study, plan(trials_of(study), known(study)), [], "figleaf study table made")
    assert {path: path.read_bytes() for path in study.folder.rglob("*.*")} == first


def test_pruning_keeps_what_is_used(study: Study, trials: list[Trial]) -> None:
    save_records(study, trials)
    prune(study.results, {trials[0].name})
    assert list(load_records(study.results)) == [trials[0].name]
    assert len(list(study.results.glob("samples-*"))) == 1
    prune(study.results, set())
    assert not list(study.results.rglob("*.parquet"))


@pytest.mark.parametrize(
    ("text", "named"),
    [("{", "cannot be read"), ("[]", "expected a JSON object"), ('{"format_version": 9}', "format_version=9")],
)
def test_a_broken_record_is_named(study: Study, trials: list[Trial], text: str, named: str) -> None:
    save_records(study, trials[:1])
    path = study.results / "records" / f"{trials[0].name}.json"
    path.write_text(text)
    with pytest.raises(FigleafError, match=named) as error:
        load_records(study.results)
    assert str(path) in str(error.value)


def test_a_record_without_its_logits_is_named(study: Study, trials: list[Trial]) -> None:
    save_records(study, trials[:1])
    path = study.results / "records" / f"{trials[0].name}.parquet"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(FigleafError, match="not the logits that were recorded: restore it"):
        _ = load_records(study.results)[trials[0].name].predictions
    path.unlink()
    with pytest.raises(FigleafError, match="missing: restore it"):
        _ = load_records(study.results)[trials[0].name].predictions


def test_a_number_typed_into_a_record_is_refused(study: Study, trials: list[Trial]) -> None:
    save_records(study, trials[:2])
    path = study.results / "records" / f"{trials[0].name}.json"
    content = json.loads(path.read_text())
    content["metrics"]["test/auroc"] = 0.999
    path.write_text(json.dumps(content, indent=1, sort_keys=True))
    with pytest.raises(FigleafError, match="results are measured, not typed: restore it"):
        load_records(study.results)


def test_the_logits_of_another_run_are_refused(study: Study, trials: list[Trial]) -> None:
    save_records(study, trials[:2])
    folder = study.results / "records"
    (folder / f"{trials[0].name}.parquet").write_bytes((folder / f"{trials[1].name}.parquet").read_bytes())
    with pytest.raises(FigleafError, match="not the logits that were recorded"):
        _ = load_records(study.results)[trials[0].name].predictions


def test_what_lies_in_the_shared_folder_is_named_as_from_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIGLEAF_SHARED", "/somewhere/shared/")
    config = {
        "data": {"manifest": "/somewhere/shared/data/m.csv", "root": None, "count": 2},
        "model": {"weights": "features:/somewhere/shared/w.npz"},
        "seed": 1,
    }
    assert _portable(config) == {
        "data": {"manifest": "../shared/data/m.csv", "root": None, "count": 2},
        "model": {"weights": "features:../shared/w.npz"},
        "seed": 1,
    }
