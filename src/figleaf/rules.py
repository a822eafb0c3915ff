"""What the values of a configuration must satisfy, in words that a message can show; for fields of the schema."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Rule:
    """What a value must satisfy: `holds(value)`, said to the user as `expected`."""

    holds: Callable[[Any], bool]
    expected: str


def one_of(*names: str) -> dict[str, Rule]:
    """Null, or one of these texts."""
    return {"rule": Rule(lambda value: value is None or value in names, "one of " + ", ".join(names))}


def at_least(low: float) -> dict[str, Rule]:
    """Null, or not below `low`."""
    return {"rule": Rule(lambda value: value is None or value >= low, f"at least {low}")}


def auto_or_at_least(low: float) -> dict[str, Rule]:
    """Null, the text "auto", or a number not below `low`."""

    def holds(value: Any) -> bool:
        return value is None or (value == "auto" if isinstance(value, str) else value >= low)

    return {"rule": Rule(holds, f"auto, or at least {low}")}


def positive() -> dict[str, Rule]:
    """Null, or more than 0."""
    return {"rule": Rule(lambda value: value is None or value > 0, "more than 0")}


def seed() -> dict[str, Rule]:
    """A number that every generator takes."""
    # What numpy's older generators take, which scikit-learn's splits and Lightning still use.
    return {"rule": Rule(lambda value: 0 <= value < 2**32, "0 to 4294967295")}


def fraction(*, zero: bool = True, one: bool = False) -> dict[str, Rule]:
    """Between 0 and 1, with or without these."""
    text = f"0 {'<=' if zero else '<'} x {'<=' if one else '<'} 1"
    return {"rule": Rule(lambda x: (x > 0 or (zero and x == 0)) and (x < 1 or (one and x == 1)), text)}
