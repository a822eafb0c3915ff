"""The section `search:` of a study file: the space, what is judged, who proposes, who gives up, how many trials."""

import math
from dataclasses import dataclass, field
from typing import Any

from figleaf.errors import FigleafError
from figleaf.rules import Rule, at_least, one_of

SAMPLERS = ("tpe", "random", "grid", "cmaes")
PRUNERS = ("none", "median", "hyperband")
Choice = str | float | bool | None
# Of these a small value is better; `mode` may say otherwise.
_LESS_IS_BETTER = {"val/nll", "val/ece", "val/brier", "val/fpr", "val/fpr_at_95recall"}
# Final metrics that every epoch's validation measures, too, with what it calls them: by these a trial can be given up.
_EVERY_EPOCH = {
    "val/auroc": "val_auroc",
    "val/accuracy": "val_accuracy",
    "val/top1": "val_accuracy",
    "val/top5": "val_top5",
    "val/nll": "val_loss",
    "val/pixel_f1": "val_pixel_f1",  # at the network's resolution, not yet at the masks'
}
SET_BY_THE_SEARCH = {"seed", "study", "arm", "name", "parent_run_id"}
# Of the run, not of what is trained, and what a driver plans its processes by.
_NOT_SEARCHED = SET_BY_THE_SEARCH | {"resume", "evaluation", "tracking", "trainer.devices", "trainer.num_nodes"}
SEARCH_TAG = "figleaf.search"  # of a trial's run: the study whose search it belongs to
EXAMPLE = "search: {space: {optimizer.lr: {low: 1.0e-4, high: 1.0e-1, log: true}}, trials: 20}"


@dataclass(frozen=True)
class Parameter:
    """The values that one key may take: from `low` to `high`, both included, or one of `choices`.

    Whether a range is of integers or of real numbers is the key's affair.
    """

    low: float | None = None
    high: float | None = None
    log: bool = False  # drawn evenly on a logarithmic scale
    step: float | None = None  # low, low + step, ..., high
    choices: list[Choice] | None = None  # as in an override: numbers, texts, presets of a group

    def check(self, where: str) -> None:
        """Raise `FigleafError`, which begins with `where`, for a range or choices that make no sense."""
        if self.choices is not None:
            if self.low is not None or self.high is not None or self.log or self.step is not None:
                raise FigleafError(f"{where}: give either choices or low and high, not both")
            if len(set(map(repr, self.choices))) < max(2, len(self.choices)):
                raise FigleafError(f"{where}.choices={self.choices}: expected at least two, all different")
            return
        if self.low is None or self.high is None:
            raise FigleafError(f"{where}: expected choices: [A, B], or low: NUMBER and high: NUMBER")
        if not self.low < self.high < math.inf:
            raise FigleafError(f"{where}: low={self.low:g} high={self.high:g}: expected low < high")
        if self.log and self.low <= 0:
            raise FigleafError(f"{where}.low={self.low:g}: expected more than 0 with log: true")
        if self.step is not None:
            self._check_step(self.step, self.high - self.low, where)

    def _check_step(self, step: float, width: float, where: str) -> None:
        if self.log:
            raise FigleafError(f"{where}.step={step:g}: expected none with log: true")
        if step <= 0 or abs(round(width / step) - width / step) > 1e-6 or width / step < 0.5:
            raise FigleafError(f"{where}.step={step:g}: expected a step that leads from low to high in whole steps")


@dataclass(frozen=True)
class SearchSection:
    """The keys of `search:`. Trials are trained with the study's first seed."""

    space: dict[str, Parameter]
    metric: str | None = field(  # default: the study's select
        default=None,
        metadata={
            "rule": Rule(
                lambda key: key is None or key.startswith("val/"),
                "a metric of val such as val/auroc: test never chooses",
            )
        },
    )
    mode: str | None = field(default=None, metadata=one_of("max", "min"))  # default: by the metric
    arm: str | None = None  # whose overrides the trials start from; default: none but the study's base
    sampler: str = field(default="tpe", metadata=one_of(*SAMPLERS))
    pruner: str = field(default="none", metadata=one_of(*PRUNERS))
    trials: int | None = field(default=None, metadata=at_least(1))  # default: 20; with grid: every combination
    seed: int = field(default=0, metadata=at_least(0))  # the sampler's
    startup: int = field(default=5, metadata=at_least(0))  # trials before tpe and cmaes learn and median prunes
    warmup: int = field(default=1, metadata=at_least(1))  # epochs that every trial gets

    def metric_and_mode(self, key: str, mode: str) -> tuple[str, str]:
        """What is judged and whether max or min is better; `key` and `mode` are those of the study's `select`."""
        metric = self.metric or key
        by_metric = mode if metric == key else "min" if metric in _LESS_IS_BETTER else "max"
        return metric, self.mode or by_metric

    def epoch_key(self, key: str) -> str | None:
        """What an epoch's validation calls the metric (`key`: the study's), None for what is only measured at the end.

        Raises `FigleafError` when a pruner needs it all the same.
        """
        metric = self.metric or key
        found = _EVERY_EPOCH.get(metric)
        if found is None and self.pruner != "none":
            raise FigleafError(
                f"search.pruner={self.pruner}: {metric} is measured at the end only; choose a metric of every epoch, "
                f"one of {', '.join(_EVERY_EPOCH)}, or pruner: none"
            )
        return found

    def check(self, arms: list[str], key: str, mode: str) -> None:
        """Raise `FigleafError` for what the types do not show; `arms`, `key` and `mode` are the study's."""
        if not self.space:
            raise FigleafError(f"search.space: expected at least one key with its values, for example {EXAMPLE}")
        for name, parameter in self.space.items():
            if name in _NOT_SEARCHED or name.partition(".")[0] in _NOT_SEARCHED:
                raise FigleafError(f"search.space.{name}: this is not what a search may choose")
            parameter.check(f"search.space.{name}")
        if self.arm is not None and self.arm not in arms:
            raise FigleafError(f"search.arm={self.arm}: expected one of {', '.join(arms)}")
        if not (self.metric or key).startswith("val/"):
            raise FigleafError(f"select={key}: a search judges by a metric of val; name one as search.metric")
        self.epoch_key(key)
        self._check_sampler()

    def _check_sampler(self) -> None:
        for name, parameter in self.space.items():
            if self.sampler == "grid" and parameter.choices is None and parameter.step is None:
                raise FigleafError(f"search.space.{name}: sampler: grid takes every value, so give choices or a step")
            if self.sampler == "cmaes" and parameter.choices is not None:
                raise FigleafError(
                    f"search.space.{name}.choices: sampler: cmaes moves through numbers; give low and high, or take tpe"
                )
        if self.sampler == "cmaes" and len(self.space) < 2:
            raise FigleafError("search.sampler=cmaes: expected two keys or more in space; take tpe for one")


def search_spelled_out(raw: Any) -> Any:
    """The section without its shorthands: a list for `choices`, and 1e-3, which YAML reads as a text, for a number."""
    if not isinstance(raw, dict) or not isinstance(raw.get("space"), dict):
        return raw
    return raw | {"space": {str(key): _spelled_out(values) for key, values in raw["space"].items()}}


def _spelled_out(values: Any) -> Any:
    if isinstance(values, list):
        values = {"choices": values}
    if not isinstance(values, dict):
        return values
    return {key: value if key == "choices" else _number(value) for key, value in values.items()}


def _number(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        number = float(value)
    except ValueError:
        return value
    return number if math.isfinite(number) else value
