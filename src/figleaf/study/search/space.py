"""The space of a search in Optuna's words, and back: from suggested values to overrides and a configuration."""

import dataclasses
import hashlib
import json
import math
import types
import typing
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from figleaf.config import TrainConfig, compose, fingerprint, groups_of
from figleaf.errors import FigleafError
from figleaf.study.search.spec import EXAMPLE, SET_BY_THE_SEARCH, Parameter, SearchSection
from figleaf.study.spec import FILE_NAME, Study

Values = Mapping[str, Any]


@dataclass(frozen=True)
class Space:
    """What a search chooses from, on top of the overrides that all of its trials share."""

    study: Study
    section: SearchSection
    shared: tuple[str, ...]  # overrides: the study's base, those of the arm to start from, those of the command line
    distributions: Mapping[str, BaseDistribution]

    @classmethod
    def of(cls, study: Study, overrides: Sequence[str] = ()) -> "Space":
        """The space of the study's search, tried out: every key at its least and greatest value, every choice.

        Raises `FigleafError` that names the key for what no run can be configured with.
        """
        section = study.search
        if section is None:
            raise FigleafError(f"study {study.name} has no search: add to {study.folder / FILE_NAME} {EXAMPLE}")
        for override in overrides:
            key = override.partition("=")[0].lstrip("+~")
            if key in section.space:
                raise FigleafError(f"{override}: the search chooses {key}; take it out of search.space to set it")
            if key in SET_BY_THE_SEARCH:
                raise FigleafError(f"{override}: the search sets {key} itself; its seed is the study's first")
        arm = [] if section.arm is None else study.arms[section.arm].overrides
        shared = (*study.base, *arm, *overrides)
        compose("train", shared)  # a mistake in these is not the space's
        try:
            found = {key: _distribution(key, values) for key, values in section.space.items()}
            space = cls(study, section, shared, found)
            space._try_out()
        except FigleafError as error:
            raise FigleafError(f"{study.folder / FILE_NAME}: {error}") from error
        return space

    @property
    def shared_config(self) -> TrainConfig:
        """What all trials share, with the defaults for what is searched."""
        return self._composed([])

    @property
    def grid(self) -> dict[str, list[Any]]:
        """Every value of every key, where each has choices or a step."""
        return {key: _values(distribution) for key, distribution in self.distributions.items()}

    @property
    def grid_size(self) -> int:
        """How many combinations the grid has."""
        return math.prod(len(values) for values in self.grid.values())

    def settings(self, values: Values) -> dict[str, Any]:
        """The suggested values as they are trained with, in the order of the file: without 0.30000000000000004."""
        return {key: _rounded(values[key]) for key in self.section.space if key in values}

    def overrides(self, values: Values) -> list[str]:
        """The suggested values as `figleaf train` takes them."""
        return [f"{key}={_text(value)}" for key, value in self.settings(values).items()]

    def config(self, values: Values, **changes: Any) -> TrainConfig:
        """The configuration of a trial with the study's first seed; `changes` replace fields that are no overrides.

        Raises `FigleafError` for a combination that no run can be configured with.
        """
        return dataclasses.replace(self._composed(self.overrides(values)), **changes)

    def identity(self, data_hash: str) -> str:
        """Eight hex digits: equal for searches whose trials can be compared and learned from.

        These have the same space, metric and shared configuration, and read the same data; sampler, pruner and number
        of trials may differ.
        """
        space = {key: dataclasses.asdict(values) for key, values in self.section.space.items()}
        judged = self.section.metric_and_mode(self.study.select.key, self.study.select.mode)
        text = json.dumps([space, judged, fingerprint(self.shared_config, data_hash)], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:8]

    def _composed(self, overrides: Sequence[str]) -> TrainConfig:
        own = [f"study={self.study.name}", f"seed={self.study.seeds[0]}"]
        composed: TrainConfig = compose("train", [*self.shared, *overrides, *own])
        return composed

    def _try_out(self) -> None:
        first: dict[str, Any] = {}
        for key, distribution in self.distributions.items():
            least, *others = _edges(distribution)
            try:
                # Each value joins the first ones of the keys before it, so that a mistake is this key's.
                start = fingerprint(self.config({**first, key: least}), "")
                prints = {fingerprint(self.config({**first, key: value}), "") for value in others}
            except FigleafError as error:
                raise FigleafError(f"search.space.{key}: {error}") from error
            if prints == {start}:
                raise FigleafError(f"search.space.{key}: its values make no difference to a run; take it out")
            first[key] = least


def _distribution(key: str, values: Parameter) -> BaseDistribution:
    kind = _number_type(key)
    if values.choices is not None:
        return CategoricalDistribution([_tidy(choice, kind) for choice in values.choices])
    assert values.low is not None and values.high is not None, "checked with the file"  # noqa: PT018
    if kind is float:
        return FloatDistribution(values.low, values.high, log=values.log, step=values.step)
    if kind is None:
        try:
            compose("train", [f"{key}={values.low:g}"])  # it may be a key there is not: this names the nearest one
        except FigleafError as error:
            raise FigleafError(f"search.space.{key}: it takes no number, so give choices ({error})") from error
        raise FigleafError(f"search.space.{key}: it takes no number, so give choices: [A, B]")
    for name, number in (("low", values.low), ("high", values.high), ("step", values.step or 1.0)):
        if not number.is_integer():
            raise FigleafError(f"search.space.{key}.{name}={number:g}: expected an integer, as {key} takes only these")
    return IntDistribution(int(values.low), int(values.high), log=values.log, step=int(values.step or 1))


def _number_type(key: str) -> type | None:
    """`float` or `int` for a key that takes a number, else None."""
    schema: Any = TrainConfig
    for part in key.split("."):
        hints = [typing.get_type_hints(group) for group in groups_of(schema)]
        schema = next((known[part] for known in hints if part in known), None)
        if schema is None:
            return None
    allowed = typing.get_args(schema) if isinstance(schema, types.UnionType) else (schema,)
    return float if float in allowed else int if int in allowed else None


def _edges(distribution: BaseDistribution) -> Sequence[Any]:
    """Values that stand for all: the least and the greatest, or every choice."""
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    return distribution.low, distribution.high


def _values(distribution: BaseDistribution) -> list[Any]:
    if isinstance(distribution, CategoricalDistribution):
        return list(distribution.choices)
    assert isinstance(distribution, FloatDistribution | IntDistribution) and distribution.step  # noqa: PT018
    low, step = distribution.low, distribution.step
    return [_rounded(low + i * step) for i in range(round((distribution.high - low) / step) + 1)]


def _tidy(choice: Any, kind: type | None) -> Any:
    """A choice as it was meant: YAML reads 1e-3 as a text, and what reads the file widens 16 to 16.0."""
    if isinstance(choice, str) and kind is not None:
        with suppress(ValueError):
            choice = float(choice)
    return int(choice) if isinstance(choice, float) and choice.is_integer() else choice


def _rounded(value: Any) -> Any:
    """Twelve digits: 0.1 + 0.2 is meant to be 0.3."""
    return float(f"{value:.12g}") if isinstance(value, float) else value


def _text(value: Any) -> str:
    """A suggested value as it stands behind the equals sign of an override."""
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)
