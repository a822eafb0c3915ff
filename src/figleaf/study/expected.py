"""Expected results: `expected.yaml` says which means a study should show, and how near is near enough."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from figleaf.config import from_dict
from figleaf.errors import FigleafError
from figleaf.study.plain_yaml import read_yaml
from figleaf.study.plan import Trial
from figleaf.study.selection import selected_arm
from figleaf.study.spec import SELECTED, Study
from figleaf.study.table import arm_stat

FILE_NAME = "expected.yaml"


@dataclass(frozen=True)
class Expectation:
    """What a mean over an arm's seeds should be: `mean` within `tolerance`, or within a bound or two."""

    mean: float | None = None
    tolerance: float | None = None  # default: the file's
    at_least: float | None = None
    at_most: float | None = None
    source: str = ""  # where the figure was published, if it was


@dataclass(frozen=True)
class ExpectedFile:
    """The keys of `expected.yaml`: `arms` maps an arm, or `selected`, to metric keys as runs record them."""

    arms: dict[str, dict[str, Expectation]]
    tolerance: float = field(default=0.01)


@dataclass(frozen=True)
class Verdict:
    """One expectation and what was found: `is_met` is None when no finished run defines the metric.

    `name` is the arm as `expected.yaml` calls it, `arm` the same in words.
    """

    name: str
    arm: str
    key: str
    expected: str
    found: float | None
    is_met: bool | None

    def __str__(self) -> str:
        found = "not measured" if self.found is None else f"{self.found:.4f}"
        state = {True: "as expected", False: "OFF", None: "open"}[self.is_met]
        return f"{state}: {self.arm} {self.key} = {found}, expected {self.expected}"


def check_expected(study: Study, trials: Sequence[Trial]) -> list[Verdict]:
    """Compare the study's means with its `expected.yaml`; an empty list when there is no such file.

    Raises `FigleafError` that names the file and the key.
    """
    path = study.folder / FILE_NAME
    if not path.is_file():
        return []
    try:
        file = from_dict(_spelled_out(read_yaml(path)), ExpectedFile)
        return [
            _verdict(study, trials, arm, key, expectation, file.tolerance)
            for arm, metrics in file.arms.items()
            for key, expectation in metrics.items()
        ]
    except FigleafError as error:
        message = str(error)
        raise FigleafError(message if str(path) in message else f"{path}: {message}") from error


def _spelled_out(raw: dict[str, Any]) -> dict[str, Any]:
    """A bare number stands for a mean."""
    arms = raw.get("arms")
    if not isinstance(arms, dict):
        return raw
    return raw | {
        "arms": {
            arm: {key: {"mean": value} if isinstance(value, int | float) else value for key, value in metrics.items()}
            if isinstance(metrics, dict)
            else metrics
            for arm, metrics in arms.items()
        }
    }


def _verdict(
    study: Study, trials: Sequence[Trial], arm: str, key: str, expectation: Expectation, tolerance: float
) -> Verdict:
    if arm != SELECTED and arm not in study.arms:
        raise FigleafError(f"arms.{arm}: the study has no such arm; it has {', '.join(study.arms)} and {SELECTED}")
    low, high, words = _range(expectation, tolerance, f"arms.{arm}.{key}")
    source = f" ({expectation.source})" if expectation.source else ""
    name = selected_arm(study, trials) if arm == SELECTED else arm
    stat = arm_stat([trial for trial in trials if trial.arm == name], key)
    label = f"{arm} ({name})" if arm == SELECTED and name else arm
    if stat is None:
        return Verdict(arm, label, key, words + source, None, None)
    return Verdict(arm, label, key, words + source, stat.mean, low <= stat.mean <= high)


def _range(expectation: Expectation, tolerance: float, where: str) -> tuple[float, float, str]:
    e = expectation
    if e.mean is not None:
        if e.at_least is not None or e.at_most is not None:
            raise FigleafError(f"{where}: give a mean or bounds, not both")
        width = tolerance if e.tolerance is None else e.tolerance
        return e.mean - width, e.mean + width, f"{e.mean:g} ± {width:g}"
    low = float("-inf") if e.at_least is None else e.at_least
    high = float("inf") if e.at_most is None else e.at_most
    bounds = [f"at least {low:g}"] * (e.at_least is not None) + [f"at most {high:g}"] * (e.at_most is not None)
    if not bounds:
        raise FigleafError(f"{where}: expected mean, at_least or at_most")
    return low, high, " and ".join(bounds)
