"""From a configuration back to the command line that gives it."""

import math
import shlex
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

from figleaf.config import TrainConfig, choices, compose, to_dict
from figleaf.errors import FigleafError
from figleaf.overrides import typed, written

# Set by whoever starts a run, not by what the run is.
_BOOKKEEPING: dict[str, Any] = {"study": None, "arm": None, "parent_run_id": None, "resume": "auto"}


def without_bookkeeping(config: TrainConfig) -> TrainConfig:
    """The same run outside of its study, from the start."""
    return replace(config, **_BOOKKEEPING)


def train_command(config: TrainConfig) -> str | None:
    """The shortest `figleaf train ...` found that gives `config` with today's presets; None when none does.

    Of each group the preset that leaves the least to say is named. What the command gives has been compared.
    """
    wanted = without_bookkeeping(config)
    values = to_dict(wanted)
    overrides: list[str] = []
    for group in choices(TrainConfig):
        overrides += _best_preset(group, values[group])
    given = _composed(tuple(overrides))
    if given is None:
        return None
    overrides += [written(key, value) for key, value in _differing(values, given).items()]
    try:
        if compose("train", overrides) != wanted:
            return None
    except FigleafError:
        return None
    return " ".join(["figleaf", "train", *map(typed, overrides)])


def worker_command(config_file: str) -> str:
    """What runs a configuration file whatever the presets say."""
    return shlex.join(["python", "-m", "figleaf.train.worker", config_file])


def _best_preset(group: str, wanted: Mapping[str, Any]) -> list[str]:
    """The override that names a preset, unless the default one leaves no more to say."""
    candidates: list[tuple[str, ...]] = [()]
    if _left((), group, wanted):
        candidates += [(f"{group}={name}",) for name in choices(TrainConfig)[group]]
    best: tuple[str, ...] = min(candidates, key=lambda overrides: _left(overrides, group, wanted))
    return list(best)


def _left(overrides: tuple[str, ...], group: str, wanted: Mapping[str, Any]) -> float:
    given = _composed(overrides)
    return math.inf if given is None else len(_differing(wanted, given[group]))


@lru_cache(maxsize=256)
def _composed(overrides: tuple[str, ...]) -> Mapping[str, Any] | None:
    try:
        return to_dict(compose("train", list(overrides)))
    except FigleafError:
        return None  # a preset that needs more, such as a path


def _differing(wanted: Mapping[str, Any], given: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The values of `wanted` that `given` has not, by dotted key."""
    found: dict[str, Any] = {}
    for key, value in wanted.items():
        other = given.get(key)
        if isinstance(value, Mapping) and isinstance(other, Mapping):
            found |= _differing(value, other, f"{prefix}{key}.")
        elif key not in given or value != other:
            found[f"{prefix}{key}"] = value
    return found
