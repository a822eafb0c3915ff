"""Cost against quality: which arms are worth their price."""

from dataclasses import replace
from pathlib import Path

import pytest
from made_up import made_run, trials_of, write_study

from figleaf.study.overlays import cost_plot, pareto_front
from figleaf.study.plan import Status, Trial
from figleaf.study.spec import FigureSpec

STUDY = """
question: What does it cost?
base: [data=digits, model=debug]
seeds: [1, 2]
arms: {large: {}, small: [model.dropout=0.1], waste: [model.dropout=0.2]}
table: {columns: [test/auroc]}
"""
COSTS = {"large": (9.0, 0.99), "small": (1.0, 0.95), "waste": (4.0, 0.94)}


def test_the_front_holds_what_nothing_as_cheap_beats() -> None:
    assert pareto_front(COSTS) == ["small", "large"]
    assert pareto_front({"a": (1.0, 0.5), "b": (1.0, 0.6), "c": (2.0, 0.6)}) == ["b"], "a tie is no gain"
    assert pareto_front({}) == []


@pytest.mark.parametrize("key", ["cost/gmacs", "time/ms_per_image_1"])
def test_arms_are_drawn_at_what_they_cost_and_the_front_is_marked(tmp_path: Path, key: str) -> None:
    study = write_study(tmp_path / "made", STUDY)
    study = replace(study, figure=FigureSpec(cost=key))
    trials = [
        Trial(trial.arm, trial.seed, trial.config, Status.DONE, made_run(trial, {key: cost, "test/auroc": worth}))
        for trial in trials_of(study)
        for cost, worth in [COSTS[trial.arm]]
    ]
    figure = cost_plot(study, trials)
    assert figure is not None
    (axes,) = figure.axes
    assert {text.get_text(): text.xy for text in axes.texts} == COSTS
    (line,) = [line for line in axes.lines if "Pareto" in str(line.get_label())]
    assert line.get_xydata().tolist() == [[1.0, 0.95], [9.0, 0.99]]
    assert cost_plot(replace(study, figure=FigureSpec(cost="cost/megabytes")), trials) is None, "nobody knows it"
