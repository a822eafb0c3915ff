"""Studies of evaluation methods: what their trials are, and what they need."""

from dataclasses import replace
from pathlib import Path

import pytest
from made_up import known, made_run, tracked, write_study

from figleaf.config import MethodConfig, TrainConfig, fingerprint, from_dict, to_dict
from figleaf.errors import FigleafError
from figleaf.study.evaluated import require_same_weights, require_trained_runs
from figleaf.study.plan import Knowledge, Status, Trial, compose_trials, plan
from figleaf.study.results import save_records
from figleaf.study.spec import Study

SOURCE = """
question: Which dropout?
base: [data=digits, model=debug, trainer.epochs=1]
seeds: [1, 2, 3]
arms:
  drop0: [model.dropout=0.0]
  drop0.5: [model.dropout=0.5]
  once: {overrides: [model.depth=13], seeds: [1]}
"""
METHODS = """
question: Which evaluation method?
runs_of: {study: dropout, arm: drop0.5}
seeds: [1, 2]
arms:
  single: {evaluate: {}}
  dense: {evaluate: {method: dense, scales: [1, 64], flip: true}}
"""


@pytest.fixture
def experiments(tmp_path: Path) -> Path:
    write_study(tmp_path / "dropout", SOURCE)
    return tmp_path


@pytest.fixture
def study(experiments: Path) -> Study:
    return write_study(experiments / "methods", METHODS)


@pytest.fixture
def sources(experiments: Path, study: Study) -> list[Trial]:
    """The trials of the training study whose runs are evaluated."""
    trials = compose_trials(write_study(experiments / "dropout", SOURCE))
    return [trial for trial in trials if trial.arm == "drop0.5" and trial.seed in study.seeds]


def knowing(*trials: Trial) -> Knowledge:
    """Finished runs of `trials`, on the data that is read today."""
    return known([made_run(trial) for trial in trials], data_hash=lambda config: "d" * 64)


def test_a_trial_is_the_trained_runs_configuration_and_a_method(study: Study, sources: list[Trial]) -> None:
    trials = compose_trials(study)
    assert [trial.name for trial in trials] == ["single-1", "single-2", "dense-1", "dense-2"]
    for trial in trials:
        trained = next(source.config for source in sources if source.seed == trial.seed)
        assert replace(trial.config, evaluation=None, study="dropout", arm="drop0.5") == trained
    assert trials[0].config.evaluation == MethodConfig()
    assert trials[2].config.evaluation == MethodConfig("dense", [1.0, 64.0], flip=True)


def test_a_method_is_part_of_the_fingerprint_also_the_plain_one(study: Study, sources: list[Trial]) -> None:
    configs = [trial.config for trial in [*compose_trials(study), *sources]]
    assert len({fingerprint(config, "data") for config in configs}) == 6
    assert all(from_dict(to_dict(config), TrainConfig) == config for config in configs)


def test_a_trained_run_is_no_evaluation_of_itself_nor_the_other_way_round(study: Study, sources: list[Trial]) -> None:
    trials = compose_trials(study)
    assert {trial.status for trial in plan(trials, knowing(*sources))} == {Status.MISSING}
    assert {trial.status for trial in plan(sources, knowing(*trials))} == {Status.MISSING}
    done = plan(trials, knowing(*trials[2:]))
    assert [trial.status for trial in done] == [Status.MISSING] * 2 + [Status.DONE] * 2


def test_an_arm_may_measure_other_runs_than_the_study_says(experiments: Path) -> None:
    several = METHODS + "  plain: {evaluate: {}, runs_of: {study: dropout, arm: drop0}}\n"
    trials = compose_trials(write_study(experiments / "several", several))
    assert {t.arm: t.config.model.dropout for t in trials} == {"single": 0.5, "dense": 0.5, "plain": 0.0}
    alone = several.replace("runs_of: {study: dropout, arm: drop0.5}\n", "")
    with pytest.raises(FigleafError, match=r"arms\.single\.evaluate: say whose runs with runs_of"):
        compose_trials(write_study(experiments / "several", alone))
    due = compose_trials(write_study(experiments / "several", several))
    with pytest.raises(FigleafError, match=r"arm drop0.5, seeds 1, 2;(.|\n)*arm drop0, seeds 1, 2;"):
        require_trained_runs(write_study(experiments / "several", several), due, knowing())


def test_arms_that_measure_stand_beside_arms_that_train(experiments: Path) -> None:
    mixed = """
question: Which codes?
base: [data=digits]
seeds: [1]
arms:
  colors: [model=search_histogram]
  learnt: {evaluate: {method: search}, runs_of: {study: dropout, arm: drop0}, seeds: [1, 2]}
"""
    study = write_study(experiments / "mixed", mixed)
    colors, first, _ = compose_trials(study)
    assert not study.evaluates
    assert (colors.config.evaluation, colors.config.model.features) == (None, "histogram")
    assert (first.config.evaluation.method, first.config.model.depth) == ("search", 11)
    with pytest.raises(FigleafError, match="arm drop0, seeds 1, 2; `figleaf study run dropout --arm drop0`"):
        require_trained_runs(study, [colors, *compose_trials(study)[1:]], knowing())
    require_trained_runs(study, [colors], knowing())
    for wrong, told in (
        ("{method: search, flip: true}", "method=search: takes no other settings"),
        ("{method: search}, overrides: [seed=3]", "the study sets"),
        ("{method: search}, overrides: [model.width=1]", "overrides: an arm with runs_of trains nothing"),
    ):
        with pytest.raises(FigleafError, match=told):
            compose_trials(write_study(experiments / "mixed", mixed.replace("{method: search}", wrong)))
    write_study(experiments / "mixed", mixed)
    again = mixed.replace("study: dropout, arm: drop0", "study: mixed, arm: learnt")
    with pytest.raises(FigleafError, match="study mixed does not train it, but measures others"):
        compose_trials(write_study(experiments / "again", again))


def test_another_method_under_the_same_name_is_measured_again(experiments: Path, study: Study) -> None:
    before = knowing(*compose_trials(study))
    after = compose_trials(write_study(experiments / "methods", METHODS.replace("flip: true", "flip: false")))
    assert [trial.status for trial in plan(after, before)] == [Status.DONE] * 2 + [Status.STALE] * 2


def test_trained_runs_that_are_not_here_are_told_of_with_the_command_that_trains_them(
    study: Study, sources: list[Trial]
) -> None:
    due = compose_trials(study)
    require_trained_runs(study, due, knowing(*sources))
    told = r"runs of study dropout that are not in this tracker: arm drop0.5, seed 2; `figleaf study run dropout --arm"
    with pytest.raises(FigleafError, match=told):
        require_trained_runs(study, due, knowing(sources[0]))
    with pytest.raises(FigleafError, match="seeds 1, 2;"):
        require_trained_runs(study, due, knowing())
    require_trained_runs(study, [trial for trial in due if trial.seed == 1], knowing(sources[0]))


def test_records_of_the_trained_runs_are_known_not_to_hold_weights(
    experiments: Path, study: Study, sources: list[Trial]
) -> None:
    source = write_study(experiments / "dropout", SOURCE)
    done = [trial for trial in plan(sources, knowing(*sources)) if trial.seed == 1]
    save_records(source, tracked(source, experiments / "artifacts", *done))
    with pytest.raises(
        FigleafError, match=r"holds records, but no weights\); .*--arm drop0.5 --records ignore` trains"
    ):
        require_trained_runs(study, compose_trials(study), knowing())


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("runs_of: {study: dropout, arm: drop0.5}\n", "", "arms.single.evaluate: say whose runs with runs_of:"),
        ("study: dropout,", "study: dropuot,", "study dropuot: no file .*did you mean dropout"),
        (
            "study: dropout,",
            "study: methods,",
            "runs_of.study=methods: it trains nothing itself; name the study that does",
        ),
        ("arm: drop0.5", "arm: drop", "runs_of.arm=drop: study dropout has drop0, drop0.5, once"),
        ("arm: drop0.5", "arm: once", "arm once of study dropout is trained with 1, not with 2"),
        ("seeds: [1, 2]", "seeds: [1, 7, 9]", "is trained with 1, 2, 3, not with 7, 9"),
        ("seeds:", "base: [model.dropout=0.1]\nseeds:", "base: a study with runs_of trains nothing"),
        ("single: {evaluate: {}}", "single: []", "arms.single: a study with runs_of trains nothing: each arm is eval"),
        (
            "seeds:",
            "search: {space: {model.dropout: [0.0, 0.5]}}\nseeds:",
            "search: a study with runs_of trains nothing",
        ),
        ("{evaluate: {}}", "{evaluate: {}, overrides: [seed=1]}", "the study sets arm, evaluation, name, seed"),
        (
            "{evaluate: {}}",
            "{evaluate: {}, overrides: [model.depth=13]}",
            "arms.single.overrides: a study with runs_of",
        ),
        ("{evaluate: {}}", "{evaluate: {scale: 2}}", "arms.single.evaluate.scale: unknown key; did you mean"),
        ("{evaluate: {}}", "{evaluate: {method: tta}}", "arm single: method=tta: expected one of single, dense"),
        ("{evaluate: {}}", "{evaluate: {method: dense, scales: [48]}}", "arm single: scales: pictures of 48 pixels"),
        ("{evaluate: {}}", "{evaluate: {scales: [2]}}", "arm single: .*method=single shows the network one picture"),
        ("{evaluate: {}}", "{evaluate: {perturb: [fog]}}", r"arm single: perturb=\['fog'\]: expected all, or some of"),
        ("flip: true", "flip: true, perturb: [all]", "arm dense: .*measured by a single view"),
        ("{evaluate: {}}", "{evaluate: {method: dense, scales: [1, 64], flip: true}}", "have the same configuration"),
    ],
)
def test_a_mistake_is_named_with_the_way_out(old: str, new: str, told: str, experiments: Path) -> None:
    assert old in METHODS
    with pytest.raises(FigleafError, match=told):
        compose_trials(write_study(experiments / "methods", METHODS.replace(old, new)))


def test_arms_that_measured_other_weights_of_the_same_run_are_no_pairs(study: Study) -> None:
    def measured(trial: Trial, weights: str) -> Trial:
        return replace(trial, run=made_run(trial, tags={"figleaf.best_sha256": weights}))

    of_seed = {trial.name: "a" * 64 if trial.seed == 1 else "b" * 64 for trial in compose_trials(study)}
    require_same_weights(study, [measured(trial, of_seed[trial.name]) for trial in compose_trials(study)])
    other = of_seed | {"dense-2": "c" * 64}
    told = "different weights of dropout/drop0.5-2, so they are no pairs: single-2 of bbbbbbbbbb; dense-2 of cccccccccc"
    with pytest.raises(FigleafError, match=told):
        require_same_weights(study, [measured(trial, other[trial.name]) for trial in compose_trials(study)])
