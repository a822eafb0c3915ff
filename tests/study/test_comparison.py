"""What is claimed is what the runs show: nothing in bold that the corrected test does not support."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_up import DATA_HASH, made_predictions, tracked, trials_of, write_study
from made_up import known as knowing

from figleaf.errors import FigleafError
from figleaf.evaluate.metrics import metrics
from figleaf.evaluate.predictions import SAMPLE_COLUMNS, Predictions
from figleaf.study.comparison import Comparisons, compare_study
from figleaf.study.comparison_table import comparison_table, comparisons_csv, fit_sentence
from figleaf.study.plan import Trial, plan
from figleaf.study.records import Record, load_records
from figleaf.study.render import to_html, to_latex, to_markdown
from figleaf.study.results import find, write_results
from figleaf.study.spec import Study, load_study

ONE_FACTOR = """
question: Does a better arm win?
data_note: made-up data
base: [data=digits, model=debug]
seeds: [1, 2, 3, 4, 5, 6, 7]
arms: {plain: {}, better: [model.dropout=0.1], same: [model.dropout=0.2]}
fit: {arm: plain}
table: {baseline: plain, columns: [{key: test/auroc, label: Test AUROC}]}
"""
SYSTEMS = """
question: Are rules worse than what learns?
data_note: made-up data
base: [data=digits, model=debug]
seeds: [1]
arms:
  rule: {}
  same: [model.dropout=0.2]
  learnt: {overrides: [model.dropout=0.1], seeds: [1, 2, 3]}
table: {baseline: learnt, test: groups, columns: [{key: test/auroc, label: Test AUROC}]}
"""
FACTORIAL = """
question: Do they act on each other?
base: [data=digits, model=debug]
seeds: [1, 2, 3, 4, 5, 6, 7]
grid:
  depth: {vgg11: model.depth=11, vgg13: model.depth=13}
  dropout: {drop0: model.dropout=0.0, drop.5: model.dropout=0.5}
table: {factorial: true, pivot: [depth, dropout], columns: [test/auroc]}
"""


def predictions(signal: float, seed: int) -> Predictions:
    """Made up: the better, the stronger the `signal`. The noise of a seed is the same whatever the signal."""
    base = made_predictions(0, n=160)
    unsafe = base.is_unsafe
    logits = np.stack([np.zeros(160), np.random.default_rng(seed).normal(unsafe * signal, 1)], axis=1)
    return Predictions.from_logits(
        base.table[list(SAMPLE_COLUMNS)],
        logits.astype(np.float32),
        classes=base.classes,
        unsafe=base.unsafe,
        data_name="digits",
        data_hash=DATA_HASH,
    )


def recorded(study: Study, folder: Path, signals: dict[str, float], fit: float = 1.0) -> list[Trial]:
    """The study's trials, done, with records whose predictions are as good as their arm's signal."""
    from made_up import made_run

    runs = [made_run(trial, {"test/auroc": 0.5, "fit/auroc": fit, "val/threshold": 0.5}) for trial in trials_of(study)]
    trials = []
    for trial in tracked(study, folder, *plan(trials_of(study), knowing(runs))):
        record = Record.of(trial.run)  # type: ignore[arg-type]
        told = predictions(signals[trial.arm], trial.seed)
        trials.append(replace(trial, run=replace(record, _read_predictions=lambda told=told: told)))
    return trials


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return write_study(tmp_path / "made", ONE_FACTOR)


def compared(study: Study, trials: list[Trial]) -> Comparisons:
    found = compare_study(study, trials)
    assert found is not None
    return found


def test_searches_are_compared_by_a_measure_of_each_answer_that_their_records_keep(tmp_path: Path) -> None:
    text = SYSTEMS.replace("key: test/auroc, label: Test AUROC", "key: test/label_map")
    study = write_study(tmp_path / "made", text)
    trials = []
    for trial in recorded(study, tmp_path / "store", {"rule": 1.0, "same": 1.0, "learnt": 1.0}):
        told = predictions(1.0, trial.seed)
        rng = np.random.default_rng(trial.seed)
        told.table["label_map"] = 0.5 - 0.2 * (trial.arm == "rule") + rng.uniform(-0.05, 0.05, len(told))
        told.table.loc[told.table["error"].notna(), "label_map"] = np.nan
        metrics_ = trial.run.metrics | metrics_of(told)
        run = replace(trial.run, metrics=metrics_, _read_predictions=lambda told=told: told)
        run.save(tmp_path / "results", trial.name)
        trials.append(replace(trial, run=Record.load(tmp_path / "results" / "records" / f"{trial.name}.json")))
    rule, same = compared(study, trials).effects
    assert rule.systems.difference == pytest.approx(-0.2, abs=0.02)
    assert (rule.is_supported, same.is_supported) == (True, False)
    wrong = write_study(tmp_path / "other", text.replace("test/label_map", "test/slice/all/label_nap"))
    other = [replace(t, run=replace(t.run, metrics={"test/slice/all/label_nap": 0.0})) for t in trials]
    with pytest.raises(FigleafError, match=r"'label_nap' has no resamples; expected one of auroc, .*label_map"):
        compare_study(wrong, other)


def metrics_of(told: Predictions) -> dict[str, float]:
    return {"test/label_map": metrics(told.select(split="test"))["label_map"]}


def test_systems_of_one_run_are_compared_over_the_groups_of_the_test_set(tmp_path: Path) -> None:
    study = write_study(tmp_path / "made", SYSTEMS)
    trials = recorded(study, tmp_path / "store", {"rule": 0.3, "same": 3.0, "learnt": 3.0})
    found = compared(study, trials)
    rule, same = found.effects
    assert (rule.name, rule.is_supported, rule.systems.n_a, rule.systems.n_b) == ("rule", True, 1, 3)
    assert rule.difference == rule.systems.difference < -0.1
    assert rule.systems.interval.high < 0
    assert (same.name, same.is_supported) == ("same", False)
    table = comparison_table(study, found)
    assert "1 against 3" in [cell.text for cell in table.rows[0]]
    for text in (to_markdown(table), to_latex(table, "made"), to_html(table)):
        assert "bootstrap of the groups" in text
    header, line = comparisons_csv(study, found).splitlines()[:2]
    fields = dict(zip(header.split(","), line.split(","), strict=True))
    assert float(fields["both_high"]) == pytest.approx(rule.systems.interval.high)
    assert fields["supported"] == "true"
    assert (fields["sd"], fields["n_pairs"]) == ("", "")


def test_an_arm_of_several_seeds_with_one_run_does_not_pass_for_a_system_without_luck(tmp_path: Path) -> None:
    study = write_study(tmp_path / "made", SYSTEMS.replace("baseline: learnt", "baseline: rule"))
    trials = recorded(study, tmp_path / "store", {"rule": 0.3, "same": 3.0, "learnt": 3.0})
    lacking = [replace(t, run=None) if t.arm == "learnt" and t.seed > 1 else t for t in trials]
    found = compared(study, lacking)
    assert ([effect.name for effect in found.effects], found.left_out) == (["same"], (("learnt", "1 run of 3"),))
    assert "learnt is not compared: 1 run of 3." in comparison_table(study, found).caption
    two = compared(study, [replace(t, run=None) if t.arm == "learnt" and t.seed > 2 else t for t in trials])
    assert [effect.systems.n_a for effect in two.effects] == [1, 2]
    other = replace(study, table=replace(study.table, baseline="learnt"))
    assert compare_study(other, lacking) is None, "nor for a baseline"


def test_a_system_whose_metric_is_infinite_is_left_out_and_the_others_are_compared(tmp_path: Path) -> None:
    study = write_study(tmp_path / "made", SYSTEMS)
    trials = [
        replace(t, run=replace(t.run, metrics=t.run.metrics | {"test/auroc": float("inf")}))  # type: ignore[type-var, union-attr]
        if t.arm == "rule"
        else t
        for t in recorded(study, tmp_path / "store", dict.fromkeys(study.arms, 1.0))
    ]
    found = compared(study, trials)
    assert ([effect.name for effect in found.effects], found.left_out) == (
        ["same"],
        (("rule", "test/auroc of seed 1 is inf"),),
    )


def test_a_decision_at_one_half_is_compared_at_one_half(tmp_path: Path) -> None:
    study = write_study(tmp_path / "made", SYSTEMS)
    shown = replace(study, table=replace(study.table, compared="test/published/recall"))
    trials = [
        replace(t, run=replace(t.run, metrics=t.run.metrics | {"test/published/recall": 0.5, "val/threshold": 0.99}))  # type: ignore[type-var, union-attr]
        for t in recorded(study, tmp_path / "store", {"rule": 0.3, "same": 3.0, "learnt": 3.0})
    ]
    recalls = {
        t.arm: metrics(predictions(0.3 if t.arm == "rule" else 3.0, t.seed).select(split="test"), 0.5)["recall"]
        for t in trials
        if t.seed == 1
    }
    same = next(effect for effect in compared(shown, trials).effects if effect.name == "same")
    rule = next(effect for effect in compared(shown, trials).effects if effect.name == "rule")
    assert rule.difference - same.difference == pytest.approx(recalls["rule"] - recalls["same"])


def test_the_page_says_what_its_differences_are_over(tmp_path: Path) -> None:
    study = write_study(tmp_path / "made", SYSTEMS)
    trials = recorded(study, tmp_path / "store", {"rule": 0.3, "same": 3.0, "learnt": 3.0})
    write_results(study, trials, [], "figleaf study table made")
    page = (study.folder / "README.md").read_text()
    assert "over groups of the test set" in page
    assert "paired by seed" not in page
    assert (study.results / "comparisons.svg").exists()


def test_a_test_over_groups_needs_a_baseline_and_one_of_two_names(tmp_path: Path) -> None:
    with pytest.raises(FigleafError, match=r"table.test=groups: name a table.baseline"):
        write_study(tmp_path / "made", SYSTEMS.replace("baseline: learnt, ", ""))
    with pytest.raises(FigleafError, match=r"table.test=luck: expected seeds or groups"):
        write_study(tmp_path / "other", SYSTEMS.replace("test: groups", "test: luck"))


def test_a_real_difference_is_supported_and_none_is_not(study: Study, tmp_path: Path) -> None:
    found = compared(study, recorded(study, tmp_path, {"plain": 0.5, "better": 2.0, "same": 0.5}))
    better, same = found.effects
    assert (better.name, better.is_supported) == ("better", True)
    assert better.paired.difference > 0.1
    assert better.paired.over_seeds_and_groups is not None
    assert better.paired.over_seeds_and_groups.low > 0
    assert better.p_holm == pytest.approx(2 * 2 / 2**7)
    assert (same.name, same.is_supported, same.paired.difference) == ("same", False, 0.0)
    assert same.seeds_for_power is None


def test_bold_stands_where_the_corrected_test_supports_it_and_nowhere_else(study: Study, tmp_path: Path) -> None:
    found = find(study, recorded(study, tmp_path, {"plain": 0.5, "better": 2.0, "same": 0.5}))
    bold = {row[0].text: [cell.is_bold for cell in row] for row in found.table.rows}
    assert bold == {"plain": [False, False], "better": [False, True], "same": [False, False]}
    assert "Bold: differs from plain" in " ".join(found.table.caption)
    markdown = to_markdown(found.tables["comparisons"])
    assert "**better**" in markdown
    assert "**same**" not in markdown
    assert r"\textbf{better}" in to_latex(found.tables["comparisons"], "x")
    assert "<strong>better</strong>" in to_html(found.tables["comparisons"])


def test_too_few_seeds_are_said_to_support_nothing(tmp_path: Path) -> None:
    study = write_study(tmp_path / "made", ONE_FACTOR.replace("[1, 2, 3, 4, 5, 6, 7]", "[1, 2, 3]"))
    found = compared(study, recorded(study, tmp_path, {"plain": 0.5, "better": 2.0, "same": 0.5}))
    assert not found.can_support
    assert not found.supported()
    caption = " ".join(comparison_table(study, found).caption)
    assert "With 3 pairs and 2 comparisons nothing can be supported" in caption
    assert "it takes 7 seeds" in caption


def test_an_arm_without_two_seeds_is_left_out_and_named(study: Study, tmp_path: Path) -> None:
    trials = recorded(study, tmp_path, {"plain": 0.5, "better": 2.0, "same": 0.5})
    lacking = [replace(t, run=None) if t.arm == "same" and t.seed > 1 else t for t in trials]
    found = compared(study, lacking)
    assert [effect.name for effect in found.effects] == ["better"]
    assert found.left_out == (("same", "fewer than two seeds"),)
    assert compare_study(study, [replace(t, run=None) if t.arm == "plain" else t for t in trials]) is None


def test_pairs_are_of_the_seeds_that_both_arms_have(study: Study, tmp_path: Path) -> None:
    trials = recorded(study, tmp_path, {"plain": 0.5, "better": 2.0, "same": 0.5})
    lacking = [replace(t, run=None) if (t.arm, t.seed) in (("same", 1), ("plain", 7)) else t for t in trials]
    pairs = {effect.name: effect.paired.seeds for effect in compared(study, lacking).effects}
    assert pairs == {"better": (1, 2, 3, 4, 5, 6), "same": (2, 3, 4, 5, 6)}


def test_factorial_effects_are_those_of_the_cells(tmp_path: Path) -> None:
    study = write_study(tmp_path / "made", FACTORIAL)
    # Depth matters, dropout does not, and they do not act on each other.
    signals = {"vgg11-drop0": 0.5, "vgg11-drop.5": 0.5, "vgg13-drop0": 2.0, "vgg13-drop.5": 2.0}
    trials = recorded(study, tmp_path, signals)
    depth, dropout, both = compared(study, trials).effects
    assert depth.name == "depth: vgg13 - vgg11"
    assert depth.is_supported
    assert dropout.name == "dropout: drop.5 - drop0"
    assert (dropout.paired.difference, both.paired.difference) == (0.0, 0.0)
    assert both.name == "depth × dropout"
    # One cell apart: every effect is half of its difference.
    alone = compared(study, recorded(study, tmp_path / "2", signals | {"vgg13-drop.5": 0.5}))
    sizes = [effect.paired.difference for effect in alone.effects]
    assert sizes[0] == pytest.approx(-sizes[1]) == pytest.approx(-sizes[2])
    incomplete = [replace(t, run=None) if t.arm == "vgg13-drop0" else t for t in trials]
    assert compare_study(study, incomplete) is None


def test_the_pivot_holds_every_cell(tmp_path: Path) -> None:
    study = write_study(tmp_path / "made", FACTORIAL)
    trials = recorded(study, tmp_path, dict.fromkeys(study.arms, 1.0))
    table = find(study, trials).tables["pivot"]
    assert table.header == ["depth", "drop0", "drop.5"]
    assert [[cell.text for cell in row] for row in table.rows] == [
        ["vgg11", "0.500 ± 0.000", "0.500 ± 0.000"],
        ["vgg13", "0.500 ± 0.000", "0.500 ± 0.000"],
    ]


def test_an_ablation_whose_plain_arm_does_not_fit_is_void_and_says_so(study: Study, tmp_path: Path) -> None:
    signals = dict.fromkeys(study.arms, 1.0)
    assert "VOID" in " ".join(find(study, recorded(study, tmp_path, signals, fit=0.99)).table.caption)
    assert fit_sentence(study, recorded(study, tmp_path, signals)).startswith("plain fits its training split")
    assert "is not known" in fit_sentence(study, trials_of(study))


def test_comparisons_survive_the_way_through_the_records(study: Study, tmp_path: Path) -> None:
    trials = recorded(study, tmp_path, {"plain": 0.5, "better": 2.0, "same": 0.5})
    first = write_results(study, trials, [], "figleaf study table made")
    files = {path: path.read_bytes() for path in study.folder.rglob("*.*")}
    assert {"comparisons.csv", "comparisons.svg", "roc_pr.png"} <= {path.name for path in files}
    again = plan(trials_of(study), replace(knowing([]), records=load_records(study.results)))
    second = write_results(study, again, [], "figleaf study table made")
    assert comparisons_csv(study, second.compared) == comparisons_csv(study, first.compared)  # type: ignore[arg-type]
    assert {path: path.read_bytes() for path in study.folder.rglob("*.*")} == files


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (("baseline: plain", "baseline: other"), "table.baseline=other: expected one of plain, better, same"),
        (("baseline: plain", "baseline: plain, factorial: true"), "not both"),
        (("baseline: plain", "factorial: true"), "expected a grid of factors"),
        (("baseline: plain", "pivot: [a, b]"), "expected two factors of grid"),
        (
            ("baseline: plain", "baseline: plain, test: groups, compared: time/train_seconds"),
            "table.test=groups: no resample of the test set changes what a run took",
        ),
        (("fit: {arm: plain}", "fit: {arm: no}"), "fit.arm"),
        (("fit: {arm: plain}", "fit: 3"), "fit=3: expected a group of keys or null"),
    ],
)
def test_a_mistake_in_what_is_compared_is_named(tmp_path: Path, change: tuple[str, str], named: str) -> None:
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "study.yaml").write_text(ONE_FACTOR.replace(*change))
    with pytest.raises(FigleafError, match=named.replace("[", r"\[")) as error:
        load_study(tmp_path / "made")
    assert "study.yaml" in str(error.value)


def test_a_metric_that_cannot_be_resampled_is_named(study: Study, tmp_path: Path) -> None:
    odd = replace(study, table=replace(study.table, compared="test/prevalence"))
    trials = [
        replace(t, run=replace(t.run, metrics=t.run.metrics | {"test/prevalence": 0.5}))  # type: ignore[type-var, union-attr]
        for t in recorded(study, tmp_path, dict.fromkeys(study.arms, 1.0))
    ]
    with pytest.raises(FigleafError, match=r"table\.compared=test/prevalence"):
        compare_study(odd, trials)


def test_what_a_run_took_is_compared_over_seeds_alone(study: Study, tmp_path: Path) -> None:
    timed = replace(study, table=replace(study.table, compared="time/train_seconds"))
    took = {"plain": 20.0, "better": 14.0, "same": 20.0}
    trials = []
    for trial in recorded(study, tmp_path, dict.fromkeys(study.arms, 1.0)):
        noise = np.random.default_rng([trial.seed, list(took).index(trial.arm)]).normal(0, 0.5)
        metrics_ = trial.run.metrics | {"time/train_seconds": took[trial.arm] + noise}
        trials.append(replace(trial, run=replace(trial.run, metrics=metrics_)))
    found = compared(timed, trials)
    assert found.supported() == {"better"}
    table = comparison_table(timed, found)
    assert "P(greater)" in table.header
    assert "hierarchical" not in " ".join(table.caption)
    better = table.rows[0]
    assert better[3].text == "-", "no groups in seconds"
    assert better[5].text == "0.00"
