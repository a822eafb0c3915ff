import csv
import io
from pathlib import Path

import pytest
from made_up import STUDY, all_done, known, made_run, trials_of, write_study

from figleaf.study.plan import plan
from figleaf.study.render import to_csv, to_html, to_latex, to_markdown
from figleaf.study.selection import selected_arm
from figleaf.study.spec import Study
from figleaf.study.table import arm_rows, arm_stat, build_table

TWO_SEEDS = STUDY.replace("[0, 1, 2]", "[0, 1]")
ONE_SEED = STUDY.replace("[0, 1, 2]", "[0]")


def cells(study: Study, text: str) -> list[list[str]]:
    """The rows of a Markdown table."""
    return [[c.strip() for c in line.strip("| ").split("|")] for line in text.splitlines() if line.startswith("|")][2:]


def test_a_cell_is_mean_and_sample_sd_over_seeds_with_a_t_interval(tmp_path: Path) -> None:
    study = write_study(tmp_path / "made")
    trials = all_done(study)
    # 0.89, 0.895, 0.90: sd 0.005, t(.975, 2) = 4.3027, half width 4.3027 * 0.005 / sqrt(3) = 0.0124
    assert cells(study, to_markdown(build_table(study, trials)))[0][:4] == [
        "vgg11-drop0",
        "0.895 ± 0.005",
        "[0.883, 0.907]",
        "[0.870, 0.915]",
    ]


@pytest.mark.parametrize(("scale", "shown"), [(1.0, [0.0, 1.0]), (100.0, [0.0, 100.0]), (-1.0, [-1.0, 0.0])])
def test_the_interval_over_seeds_of_a_share_ends_at_its_range(tmp_path: Path, scale: float, shown: list[float]) -> None:
    trials = trials_of(write_study(tmp_path / "made"))[:3]
    runs = [made_run(trial, {"test/auroc": value}) for trial, value in zip(trials, (0.1, 0.5, 0.999), strict=True)]
    stat = arm_stat(plan(trials, known(runs)), "test/auroc", scale)
    assert stat is not None
    assert list(stat.over_seeds or ()) == shown


def test_two_seeds_have_a_spread_but_no_interval_and_one_has_neither(tmp_path: Path) -> None:
    two = write_study(tmp_path / "two", TWO_SEEDS)
    text = to_markdown(build_table(two, all_done(two)))
    assert cells(two, text)[0][1:3] == ["0.893 ± 0.004", "-"]
    assert "over 2 seeds. Over seeds: 95 % Student's t interval of the mean; it takes three runs." in text
    one = write_study(tmp_path / "one", ONE_SEED)
    text = to_markdown(build_table(one, all_done(one)))
    assert cells(one, text)[0][1:4] == ["0.890", "-", "[0.870, 0.905]"]
    assert "over one seed, so without a spread." in text


def test_an_arm_with_another_number_of_seeds_than_most_is_marked(tmp_path: Path) -> None:
    study = write_study(tmp_path / "made", STUDY + "arms: {lone: {overrides: [model.width=0.125], seeds: [7]}}")
    runs = [trial.run for trial in all_done(study) if trial.name != "vgg11-drop0-2" and trial.run]
    text = to_markdown(build_table(study, plan(trials_of(study), known(runs))))
    assert [row[0] for row in cells(study, text)] == [
        "vgg11-drop0ᵃ",
        "vgg11-drop.5",
        "vgg13-drop0",
        "vgg13-drop.5",
        "lone†ᵇ",
    ]
    assert "ᵃ 2 of 3 trials: seed 2 missing" in text
    assert "ᵇ one seed: no spread" in text
    assert "over 3 seeds, where not marked." in text


def test_the_arm_is_chosen_on_val_and_only_among_complete_candidates(tmp_path: Path) -> None:
    study = write_study(
        tmp_path / "made", STUDY + "arms: {reference: {overrides: [model.width=0.125], candidate: false}}"
    )
    aurocs = [0.90, 0.90, 0.90, 0.91, 0.91, 0.91, 0.93, 0.93, 0.93, 0.92, 0.92, 0.92, 0.99, 0.99, 0.99]
    trials = all_done(study, auroc=aurocs)
    assert selected_arm(study, trials) == "vgg13-drop0"
    without = plan(trials_of(study), known([t.run for t in trials if t.run and t.name != "vgg13-drop0-1"]))
    assert selected_arm(study, without) == "vgg13-drop.5"
    text = to_markdown(build_table(study, without))
    assert "vgg13-drop.5†" in text
    assert "2 of 3 trials: seed 1 missing" in text
    assert selected_arm(study, trials_of(study)) is None


def test_a_metric_that_should_be_small_is_selected_by_its_minimum(tmp_path: Path) -> None:
    study = write_study(tmp_path / "made", STUDY + "select: {key: val/auroc, mode: min}")
    assert selected_arm(study, all_done(study)) == "vgg11-drop0"


def test_missing_and_failed_trials_are_named_with_their_reason(tmp_path: Path) -> None:
    study = write_study(tmp_path / "made")
    trials = trials_of(study)
    runs = [made_run(t, {"test/auroc": 0.9, "val/auroc": 0.9}) for t in trials[1:3]]
    failed = made_run(trials[0], status="FAILED", tags={"figleaf.error": "ValueError: *no* | <b>"})
    table = build_table(study, plan(trials, known([failed, *runs])))
    text = to_markdown(table)
    assert cells(study, text)[1][:2] == ["vgg11-drop.5ᶜ", "-"]
    assert r"ᵃ 2 of 3 trials: seed 0 failed (ValueError: \*no\* \| \<b>)" in text
    assert "ᶜ 0 of 3 trials: seeds 0, 1, 2 missing" in text
    assert "&lt;b&gt;" in to_html(table)
    assert "<b>" not in to_html(table)


def test_a_metric_that_no_run_defines_is_a_dash_with_a_reason(tmp_path: Path) -> None:
    study = write_study(tmp_path / "made", STUDY + "table: {columns: [{key: test/slice/hands/auroc, label: Hands}]}")
    text = to_markdown(build_table(study, all_done(study)))
    assert cells(study, text)[0] == ["vgg11-drop0", "-ᵃ"]
    assert "ᵃ not defined for these runs" in text


def test_an_infinite_ratio_has_no_spread(tmp_path: Path) -> None:
    study = write_study(tmp_path / "made", STUDY + "table: {columns: [{key: ratio, interval: [seeds]}]}")
    trials = trials_of(study)
    planned = plan(trials, known([made_run(t, {"ratio": float("inf") if t.seed else 3.0}) for t in trials]))
    text = to_markdown(build_table(study, planned))
    assert cells(study, text)[0] == ["vgg11-drop0", "infᵃ", "-"]
    assert "infinite in one run or more" in text


def test_rows_are_sorted_by_a_column_with_the_undefined_last(tmp_path: Path) -> None:
    study = write_study(tmp_path / "made", STUDY + "table: {columns: [test/auroc], sort: -test/auroc}")
    runs = [trial.run for trial in all_done(study) if trial.arm != "vgg11-drop.5" and trial.run]
    rows = arm_rows(study, plan(trials_of(study), known(runs)))
    assert [row.arm for row in rows] == ["vgg13-drop.5", "vgg13-drop0", "vgg11-drop0", "vgg11-drop.5"]


def test_the_caption_states_what_the_numbers_rest_on(tmp_path: Path) -> None:
    study = write_study(tmp_path / "made")
    table = build_table(study, all_done(study), ["a processor, 2 of 2 cores"])
    caption = " ".join(table.caption)
    assert "made-up data" in table.title
    assert "over 3 seeds" in caption
    assert "684 images in 135 groups, prevalence 0.455 (digits, data hash dddddddddddd)" in caption
    assert "Commit c0ffee0000." in caption
    assert "a processor, 2 of 2 cores" in caption


def test_arms_tested_on_different_data_are_told_apart(tmp_path: Path) -> None:
    study = write_study(tmp_path / "made", TWO_SEEDS)
    trials = trials_of(study)
    runs = [made_run(t, {"test/n": 99.0 if t.arm == "vgg11-drop0" else 684.0}) for t in trials]
    caption = " ".join(build_table(study, plan(trials, known(runs))).caption)
    assert "Test set of vgg11-drop0: 99 images" in caption
    assert "Test set of vgg11-drop.5, vgg13-drop0, vgg13-drop.5: 684 images" in caption


def test_latex_escapes_what_latex_would_read(tmp_path: Path) -> None:
    columns = "table: {columns: [{key: test/auroc, label: 'AUROC_100% & more', format: .1%}]}"
    study = write_study(tmp_path / "first_light", TWO_SEEDS + columns)
    text = to_latex(build_table(study, all_done(study)), study.name)
    assert r"AUROC\_100\% \& more" in text
    assert r"89.2\% $\pm$ 0.4\% \\" in text
    assert r"\caption{first\_light (made-up data)." in text
    assert text.count(r"\begin{") == text.count(r"\end{")


@pytest.mark.parametrize("render", [to_markdown, to_html])
def test_the_data_note_stands_in_every_format(tmp_path: Path, render: object) -> None:
    study = write_study(tmp_path / "made")
    trials = all_done(study)
    assert "made-up data" in render(build_table(study, trials))  # type: ignore[operator]
    assert "made-up data" in to_latex(build_table(study, trials), "made")
    rows = list(csv.DictReader(io.StringIO(to_csv(study, arm_rows(study, trials)))))
    assert {row["data_note"] for row in rows} == {"made-up data"}


def test_the_csv_holds_unrounded_numbers_one_line_an_arm_and_column(tmp_path: Path) -> None:
    study = write_study(tmp_path / "made")
    rows = list(csv.DictReader(io.StringIO(to_csv(study, arm_rows(study, all_done(study))))))
    assert len(rows) == 4 * 6
    first = rows[0]
    assert (first["arm"], first["key"], first["n"]) == ("vgg11-drop0", "test/auroc", "3")
    assert float(first["mean"]) == pytest.approx(0.895)
    assert float(first["seeds_low"]) == pytest.approx(0.895 - 4.302653 * 0.005 / 3**0.5, abs=1e-6)
    assert [row["selected"] for row in rows[::6]] == ["false", "false", "false", "true"]
