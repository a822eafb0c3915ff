import json
import time
from pathlib import Path

import pytest
from made_up import COMMIT, DATA_HASH, STUDY, known, made_run, write_study

from figleaf.config import TrainConfig, fingerprint
from figleaf.errors import FigleafError
from figleaf.study.plan import Stale, Status, Trial, compose_trials, plan

ONE_ARM = "question: q\nbase: [data=digits, model=debug]\nseeds: [0, 1]\narms: {plain: []}"


@pytest.fixture
def trials(tmp_path: Path) -> list[Trial]:
    return compose_trials(write_study(tmp_path / "tiny", ONE_ARM))


def statuses(trials: list[Trial]) -> list[str]:
    return [trial.status for trial in trials]


def test_every_arm_is_composed_with_each_of_its_seeds(tmp_path: Path) -> None:
    study = write_study(tmp_path / "grid", STUDY + "arms: {lone: {overrides: [model.width=0.125], seeds: [7]}}")
    trials = compose_trials(study, ["trainer.epochs=3"])
    assert len(trials) == 4 * 3 + 1
    assert {trial.config.trainer.epochs for trial in trials} == {3}
    last = trials[-1]
    assert (last.arm, last.seed, last.config.seed, last.config.study, last.config.arm) == ("lone", 7, 7, "grid", "lone")
    assert [t.config.model.depth for t in trials if t.seed == 0] == [11, 11, 13, 13]


def test_an_override_may_hold_the_seed_of_its_trial(tmp_path: Path) -> None:
    arm = "arms: {half: [model=from_file, 'model.weights=half-${seed}.safetensors']}"
    study = write_study(tmp_path / "half", f"question: q\nbase: [data=digits]\nseeds: [3, 5]\n{arm}")
    trials = compose_trials(study)
    assert [trial.config.weights for trial in trials] == ["half-3.safetensors", "half-5.safetensors"]
    assert [(trial.seed, trial.config.seed, trial.config.arm) for trial in trials] == [(3, 3, "half"), (5, 5, "half")]


def test_a_wrong_override_is_named_with_its_arm(tmp_path: Path) -> None:
    study = write_study(tmp_path / "wrong", ONE_ARM + "\n".replace("\n", "") + "\nselect: val/auroc")
    with pytest.raises(
        FigleafError, match=r"study wrong, arm plain: model.detph=11: unknown key; did you mean model.depth"
    ):
        compose_trials(study, ["model.detph=11"])


def test_two_arms_that_are_the_same_configuration_are_refused(tmp_path: Path) -> None:
    study = write_study(tmp_path / "twins", ONE_ARM.replace("{plain: []}", "{plain: [], same: [model=debug]}"))
    with pytest.raises(FigleafError, match="plain-0 and same-0 have the same configuration"):
        compose_trials(study)


def test_a_finished_run_of_the_same_fingerprint_is_not_run_again(trials: list[Trial]) -> None:
    planned = plan(trials, known([made_run(trials[0])]))
    assert statuses(planned) == ["done", "missing"]
    assert [trial.is_due for trial in planned] == [False, True]


def test_a_run_counts_by_what_it_is_not_by_the_study_that_made_it(trials: list[Trial]) -> None:
    elsewhere = made_run(trials[0], tags={"figleaf.study": "another", "figleaf.arm": "other"})
    assert statuses(plan(trials, known([elsewhere]))) == ["done", "missing"]


def test_a_changed_configuration_makes_the_trial_due_again(trials: list[Trial]) -> None:
    old = made_run(trials[0], tags={"figleaf.fingerprint": "f" * 64})
    planned = plan(trials, known([old]))
    assert planned[0].status is Status.STALE
    assert planned[0].is_due
    assert "the configuration changed" in planned[0].note


def test_changed_data_makes_the_trial_due_again_when_today_s_data_is_known(trials: list[Trial]) -> None:
    run = made_run(trials[0])
    assert plan(trials, known([run], data_hash=lambda config: DATA_HASH))[0].status is Status.DONE
    changed = plan(trials, known([run], data_hash=lambda config: "e" * 64))[0]
    assert (changed.status, "the data changed" in changed.note) == (Status.STALE, True)


def test_data_that_cannot_be_read_concerns_its_own_trial_alone(trials: list[Trial]) -> None:
    def data_hash(config: TrainConfig) -> str:
        if config.seed == 1:
            raise FigleafError("no such manifest")
        return DATA_HASH

    planned = plan(trials, known([made_run(trials[0])], data_hash=data_hash))
    assert statuses(planned) == ["done", "missing"]
    assert planned[1].note == "no such manifest"


@pytest.mark.parametrize(
    ("tracked", "status"), [("RUNNING", "interrupted"), ("KILLED", "interrupted"), ("FAILED", "failed")]
)
def test_an_unfinished_run_is_due_and_named_for_what_it_is(trials: list[Trial], tracked: str, status: str) -> None:
    run = made_run(trials[0], status=tracked, tags={"figleaf.error": "ValueError: no"})
    planned = plan(trials, known([run]))[0]
    assert (planned.status, planned.is_due, planned.run) == (status, True, None)
    assert planned.note == ("ValueError: no" if status == "failed" else "")


def test_a_later_failure_does_not_hide_a_finished_run(trials: list[Trial]) -> None:
    runs = [made_run(trials[0], status="FAILED", run_id="b" * 32), made_run(trials[0])]
    assert plan(trials, known(runs))[0].status is Status.DONE


def test_a_locked_folder_is_left_alone(trials: list[Trial]) -> None:
    folder = Path("/runs") / fingerprint(trials[0].config, DATA_HASH)[:12]
    planned = plan(
        trials,
        known([], data_hash=lambda config: DATA_HASH, runs_folder=Path("/runs"), is_locked=lambda path: path == folder),
    )
    assert statuses(planned) == ["running", "missing"]
    assert not planned[0].is_due


@pytest.mark.parametrize(("silent_s", "status"), [(5, "running"), (500, "interrupted")])
def test_of_a_run_on_another_machine_the_signs_of_life_decide(
    trials: list[Trial], silent_s: float, status: str
) -> None:
    beat = json.dumps({"time": time.time() - silent_s, "host": "another-machine", "pid": 1})
    run = made_run(trials[0], status="RUNNING", tags={"figleaf.heartbeat": beat})
    assert plan(trials, known([run]))[0].status == status


def test_runs_of_another_commit_are_kept_rerun_or_refused(trials: list[Trial]) -> None:
    runs = [made_run(trial) for trial in trials]
    assert {t.note for t in plan(trials, known(runs, commit=COMMIT))} == {""}
    kept = plan(trials, known(runs, commit="a" * 40))
    assert statuses(kept) == ["done", "done"]
    assert kept[0].note == "at commit c0ffee0000, now aaaaaaaaaa"
    assert statuses(plan(trials, known(runs, commit="a" * 40, stale=Stale.RERUN))) == ["stale", "stale"]
    with pytest.raises(FigleafError, match=r"2 finished runs are of another commit .* plain-0, plain-1"):
        plan(trials, known(runs, commit="a" * 40, stale=Stale.REFUSE))


def test_a_rerun_at_today_s_commit_is_not_rerun_again(trials: list[Trial]) -> None:
    runs = [made_run(trials[0]), made_run(trials[0], run_id="2" * 32, tags={"figleaf.git_commit": "a" * 40})]
    planned = plan(trials, known(runs, commit="a" * 40, stale=Stale.RERUN))[0]
    assert planned.run is runs[1]
