"""The section `search:` of a study file: what it means, and what is said of a mistake in it."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from made_up import write_study
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from figleaf.errors import FigleafError
from figleaf.study.search.space import Space
from figleaf.study.spec import Study, load_study

SPACE: dict[str, Any] = {
    "optimizer.lr": {"low": "1e-4", "high": 0.1, "log": True},  # YAML 1.1 reads 1e-4 as a text
    "model.dropout": {"low": 0, "high": 1.0e-1, "step": 0.05},
    "optimizer.batch_size": {"low": 16, "high": 64, "step": 16},
    "augment": ["none", "pca"],
    "optimizer.clip_norm": [None, 1.0],
}


def study_with(folder: Path, search: dict[str, Any] | None, **keys: Any) -> Study:
    file = {"question": "Which?", "base": ["data=digits", "model=debug"], "seeds": [3, 4], "arms": {"plain": []}}
    file |= keys | ({} if search is None else {"search": search})
    return write_study(folder / "made", yaml.safe_dump(file, sort_keys=False))


def refusal(folder: Path, search: dict[str, Any] | None, *overrides: str, **keys: Any) -> str:
    with pytest.raises(FigleafError) as refused:
        Space.of(study_with(folder, search, **keys), overrides)
    return str(refused.value)


def test_a_range_is_of_the_numbers_that_its_key_takes(tmp_path: Path) -> None:
    space = Space.of(study_with(tmp_path, {"space": SPACE}))
    assert space.distributions == {
        "optimizer.lr": FloatDistribution(1e-4, 0.1, log=True),
        "model.dropout": FloatDistribution(0.0, 0.1, step=0.05),
        "optimizer.batch_size": IntDistribution(16, 64, step=16),
        "augment": CategoricalDistribution(["none", "pca"]),
        "optimizer.clip_norm": CategoricalDistribution([None, 1]),
    }


def test_suggested_values_become_the_configuration(tmp_path: Path) -> None:
    study = study_with(tmp_path, {"space": SPACE, "arm": "wide"}, arms={"wide": ["model.width=0.125"]})
    space = Space.of(study, ["trainer.epochs=2"])
    assert space.shared[-2:] == ("model.width=0.125", "trainer.epochs=2")
    values = {
        "optimizer.lr": 0.1 + 0.2,
        "model.dropout": 0.05,
        "optimizer.batch_size": 48,
        "augment": "pca",
        "optimizer.clip_norm": None,
    }
    assert space.overrides(values)[0] == "optimizer.lr=0.3", "what was meant, not what binary fractions make of it"
    config = space.config(values, name="trial1")
    assert (config.optimizer.lr, config.model.dropout, config.optimizer.batch_size) == (0.3, 0.05, 48)
    assert (config.augment.pca_color, config.optimizer.clip_norm, config.model.width) == ("eig01", None, 0.125)
    assert (config.trainer.epochs, config.seed, config.study, config.name) == (2, 3, "made", "trial1")


def test_the_grid_holds_every_combination(tmp_path: Path) -> None:
    values = {key: SPACE[key] for key in ("model.dropout", "augment")}
    space = Space.of(study_with(tmp_path, {"space": values, "sampler": "grid"}))
    assert space.grid == {"model.dropout": [0.0, 0.05, 0.1], "augment": ["none", "pca"]}
    assert space.grid_size == 6


def test_only_what_is_judged_and_searched_makes_another_search(tmp_path: Path) -> None:
    def identity(*overrides: str, **search: Any) -> str:
        values = {"space": {"model.dropout": [0.0, 0.5]}} | search
        return Space.of(study_with(tmp_path, values), overrides).identity("data")

    assert identity() == identity(sampler="random", pruner="median", trials=7, seed=9, startup=1)
    others = [
        identity(metric="val/accuracy"),
        identity(space={"model.dropout": [0.0, 0.4]}),
        identity("model.depth=13"),
    ]
    assert len({identity(), *others}) == 4


def test_the_metric_decides_what_is_better(tmp_path: Path) -> None:
    def judged(select: Any, **search: Any) -> tuple[str, str]:
        study = study_with(tmp_path, {"space": {"model.dropout": [0.0, 0.5]}, **search}, select=select)
        assert study.search is not None
        return study.search.metric_and_mode(study.select.key, study.select.mode)

    assert judged("val/auroc") == ("val/auroc", "max")
    assert judged({"key": "val/nll", "mode": "min"}) == ("val/nll", "min")
    assert judged("val/auroc", metric="val/nll") == ("val/nll", "min")
    assert judged("val/auroc", metric="val/recall_at_5fpr") == ("val/recall_at_5fpr", "max")
    assert judged("val/auroc", metric="val/nll", mode="max") == ("val/nll", "max")


LR = {"optimizer.lr": {"low": 1e-3, "high": 1e-1}}


@pytest.mark.parametrize(
    ("search", "told"),
    [
        (None, "study made has no search: add to"),
        ({"space": {}}, "search.space: expected at least one key"),
        ({"space": {"optimizer.lrr": [0.1, 0.2]}}, "optimizer.lrr: .*did you mean optimizer.lr?"),
        (
            {"space": {"optimizer.lrr": {"low": 0, "high": 1}}},
            "optimizer.lrr: .*did you mean optimizer.lr?",
        ),
        ({"space": {"model": {"low": 0, "high": 1}}}, "search.space.model: it takes no number, so give choices"),
        ({"space": {"optimizer.lr": {"low": 0.1}}}, "search.space.optimizer.lr: expected choices.* or low.* and high"),
        ({"space": {"optimizer.lr": {"lo": 1}}}, "search.space.optimizer.lr.lo: unknown key; did you mean .*low"),
        ({"space": {"optimizer.lr": 0.1}}, "search.space.optimizer.lr=0.1: expected a group of keys"),
        ({"space": {"optimizer.lr": {"low": 0.2, "high": 0.1}}}, "optimizer.lr: low=0.2 high=0.1: expected low < high"),
        ({"space": {"optimizer.lr": {"low": 0, "high": 1, "log": True}}}, "lr.low=0: expected more than 0 with log"),
        ({"space": {"optimizer.lr": {"low": 0, "high": 1, "step": 0.3}}}, "lr.step=0.3: expected a step that leads"),
        ({"space": {"optimizer.lr": {"low": "small", "high": 1}}}, "optimizer.lr.low=small: expected a number"),
        ({"space": {"optimizer.lr": {"low": 0, "high": 1, "choices": [1, 2]}}}, "either choices or low and high"),
        ({"space": {"augment": ["none"]}}, "augment.choices=.*: expected at least two"),
        (
            {"space": {"augment": ["none", "pcaa"]}},
            "search.space.augment: augment=pcaa: no such preset; did you mean pca",
        ),
        ({"space": {"optimizer.batch_size": {"low": 1.5, "high": 8}}}, "batch_size.low=1.5: expected an integer"),
        (
            {"space": {"model.dropout": {"low": 0, "high": 2}}},
            "space.model.dropout: model.dropout=2.0: expected",
        ),
        ({"space": {"seed": [1, 2]}}, "search.space.seed: this is not what a search may choose"),
        ({"space": {"tracking.uri": ["a", "b"]}}, "search.space.tracking.uri: this is not what a search may choose"),
        (
            {"space": {"trainer.workers": [0, 1]}},
            "trainer.workers: its values make no difference to a run",
        ),
        (
            {"space": LR, "metric": "test/auroc"},
            "metric=test/auroc: expected a metric of val .*test never chooses",
        ),
        ({"space": LR, "sampler": "bayes"}, "search.sampler=bayes: expected one of tpe, random, grid, cmaes"),
        ({"space": LR, "pruner": "mean"}, "search.pruner=mean: expected one of none, median, hyperband"),
        (
            {"space": LR, "pruner": "median", "metric": "val/ece"},
            "pruner=median: val/ece is measured at the end only",
        ),
        ({"space": LR, "trials": 0}, "search.trials=0: expected at least 1"),
        ({"space": LR, "arm": "plane"}, "search.arm=plane: expected one of plain"),
        (
            {"space": LR, "sampler": "grid"},
            "optimizer.lr: sampler: grid takes every value, so give choices",
        ),
        ({"space": LR, "sampler": "cmaes"}, "search.sampler=cmaes: expected two keys or more"),
        ({"space": {"augment": ["none", "pca"]}, "sampler": "cmaes"}, "search.space.augment.choices: sampler: cmaes"),
        ({"space": LR, "samplr": "tpe"}, "search.samplr: unknown key; did you mean .*sampler"),
        ({}, "search.: no value for space"),
    ],
)
def test_mistakes_are_named_with_key_value_and_way_out(tmp_path: Path, search: Any, told: str) -> None:
    message = refusal(tmp_path, search)
    assert "study.yaml" in message
    assert re.search(told, message), message


def test_what_the_search_chooses_cannot_be_set_beside_it(tmp_path: Path) -> None:
    assert "the search chooses optimizer.lr" in refusal(tmp_path, {"space": LR}, "optimizer.lr=0.1")
    assert "the search sets seed itself" in refusal(tmp_path, {"space": LR}, "seed=2")


def test_a_study_that_is_selected_by_something_else_needs_a_metric_of_val(tmp_path: Path) -> None:
    assert "name one as search.metric" in refusal(tmp_path, {"space": LR}, select="fit/auroc")


def test_the_committed_search_can_be_configured() -> None:
    space = Space.of(load_study(Path(__file__).parents[2] / "experiments" / "search_digits"))
    assert space.section.pruner == "median"
