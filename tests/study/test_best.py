"""`best:STUDY` and the table's dagger name the same arm, and `val` alone decides."""

from dataclasses import replace
from pathlib import Path

import pytest
from made_up import DATA_HASH, all_done, tracked, write_study

from figleaf.commands.run_names import named_run
from figleaf.config import TrackingConfig, fingerprint
from figleaf.errors import FigleafError
from figleaf.study.best import find_best
from figleaf.study.plan import Trial, compose_trials, plan
from figleaf.study.results import save_records
from figleaf.study.selection import arm_with_best_mean, best_trial, selected_arm
from figleaf.study.spec import Study, find_study
from figleaf.study.state import gather
from figleaf.study.table import arm_rows
from figleaf.tracking.store import Store, open_store

STUDY = """
question: Which arm?
base: [data=digits, model=debug]
seeds: [0, 1]
arms:
  lucky: []
  steady: [model.dropout=0.1]
  reference: {overrides: [model.width=0.125], candidate: false}
"""
# The best single run of a candidate is lucky-1, the best mean steady's, and the reference is above both.
AUROC = {"lucky": (0.80, 0.97), "steady": (0.92, 0.94), "reference": (0.98, 0.99)}
HERE = TrackingConfig()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder with a study that has run, and one that nobody has begun."""
    folder = tmp_path_factory.mktemp("best")
    trials = compose_trials(write_study(folder / "experiments" / "made", STUDY))
    write_study(folder / "experiments" / "begun", STUDY.replace("model=debug", "model=debug, trainer.epochs=3"))
    store = open_store(None, folder / "home")
    for trial in trials:
        # One of them was trained for another study: it is the same configuration.
        tags = {"study": "another", "arm": "other"} if trial.name == "steady-1" else {}
        add(store, trial, AUROC[trial.arm][trial.seed], **tags)
    begun = compose_trials(find_study("begun", folder / "experiments"))
    for trial in begun[1:]:
        add(store, trial, AUROC[trial.arm][trial.seed])
    for arm, seed, auroc in (("x", 0, 0.99), ("x", 0, 0.5), ("x", 1, 0.8), ("y", 0, 0.69), ("y", 1, 0.7)):
        add(store, replace(trials[0], arm=arm, seed=seed), auroc, study="gone", fingerprint="")
    # A search has chosen this one of many: it is nobody's arm.
    add(store, replace(trials[0], arm="", seed=0), 0.999, study="gone", fingerprint="", search="gone")
    return folder


def add(store: Store, trial: Trial, auroc: float, **tags: str) -> None:
    """A finished run of `trial`; the worse it is on val, the better on test."""
    own = {"study": str(trial.config.study), "arm": trial.arm, "seed": str(trial.seed), "data_hash": DATA_HASH}
    own |= {"fingerprint": fingerprint(trial.config, DATA_HASH), "selection": str(auroc)}
    run = store.client.create_run(
        store.experiment("figleaf"),
        run_name=f"{trial.name} {auroc}",
        tags={f"figleaf.{key}": value for key, value in (own | tags).items()},
    )
    store.client.log_metric(run.info.run_id, "val/auroc", auroc)
    store.client.log_metric(run.info.run_id, "test/auroc", 1 - auroc)
    store.client.set_terminated(run.info.run_id, "FINISHED")


@pytest.fixture(autouse=True)
def _there(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    monkeypatch.setenv("FIGLEAF_HOME", str(place / "home"))


def best(reference: str) -> str:
    return find_best(reference, HERE).name


def test_the_best_of_a_study_is_of_the_arm_with_the_dagger() -> None:
    study = find_study("made", Path("experiments"))
    trials = plan(compose_trials(study), gather(open_store(None, Path("home")), study))
    (marked,) = [row.arm for row in arm_rows(study, trials) if row.is_selected]
    assert marked == "steady"
    assert best("best:made") == "steady-1 0.94"


def test_the_best_of_an_arm_is_its_best_run_on_val_candidate_or_not() -> None:
    assert best("best:made:lucky") == "lucky-1 0.97"
    assert best("best:made:reference") == "reference-1 0.99"


def test_a_trial_s_name_finds_the_run_that_counts_for_it_whoever_trained_it() -> None:
    assert named_run("made/steady-0", HERE).name == "steady-0 0.92"
    assert named_run("made/steady-1", HERE).name == "steady-1 0.94", "trained for another study"
    with pytest.raises(FigleafError, match=r"run=made/steady-7: there is none; trials of made with runs: lucky-0"):
        named_run("made/steady-7", HERE)
    with pytest.raises(FigleafError, match=r"run=begun/lucky-0: there is none"):
        named_run("begun/lucky-0", HERE)


def test_an_arm_that_lacks_a_run_is_named_only_when_asked_for() -> None:
    assert best("best:begun") == "steady-1 0.94"
    assert best("best:begun:lucky") == "lucky-1 0.97"


def test_without_a_study_file_the_tags_decide_by_the_means_of_each_arm_s_latest_runs() -> None:
    assert best("best:gone") == "y-1 0.7"
    assert best("best:gone:x") == "x-1 0.8"


@pytest.mark.parametrize(
    ("reference", "told"),
    [
        ("best:made:none", "the study has the arms lucky, steady, reference"),
        ("best:gone:none", "its finished arms: x, y"),
        ("best:nothing", "studies with runs: another, begun, gone, made"),
        ("best:../experiments/made", "studies with runs: another"),
        ("best:", "studies with runs: another"),
    ],
)
def test_what_is_not_there_is_answered_with_what_is(reference: str, told: str) -> None:
    with pytest.raises(FigleafError, match=told) as raised:
        find_best(reference, HERE)
    assert f"run={reference}: " in str(raised.value)


@pytest.mark.parametrize("mode", ["val/auroc", "{key: val/nll, mode: min}"])
def test_a_study_without_runs_selects_nothing_and_says_what_to_do(place: Path, mode: str) -> None:
    other = STUDY.replace("model=debug", "model=debug, trainer.epochs=7")
    write_study(place / "experiments" / "fresh", f"{other}select: {mode}")
    with pytest.raises(FigleafError, match=r"no arm is selected yet.*0 of 6 trials.*figleaf study run fresh"):
        find_best("best:fresh", HERE)
    with pytest.raises(FigleafError, match="no run of this arm has finished"):
        find_best("best:fresh:lucky", HERE)


def test_a_run_of_which_only_the_record_is_here_is_named_with_the_command_that_trains_it(place: Path) -> None:
    study = write_study(place / "experiments" / "cloned")
    save_records(study, tracked(study, place / "elsewhere"))
    with pytest.raises(FigleafError, match=r"vgg13-drop.5-2.*figleaf study run cloned --records ignore --arm"):
        find_best("best:cloned", HERE)


def test_the_least_mean_is_chosen_where_less_is_better(tmp_path: Path) -> None:
    study: Study = write_study(tmp_path / "made")
    least = replace(study, select=replace(study.select, mode="min"))
    trials = all_done(study)
    assert (selected_arm(study, trials), selected_arm(least, trials)) == ("vgg13-drop.5", "vgg11-drop0")
    found = [best_trial(of, trials, "vgg11-drop0") for of in (study, least)]
    assert [trial.seed for trial in found if trial] == [2, 0]


def test_of_equals_the_first_counts_and_of_none_none() -> None:
    assert arm_with_best_mean({"a": [0.5, 0.7], "b": [0.6]}) == "a"
    assert arm_with_best_mean({}) is None
