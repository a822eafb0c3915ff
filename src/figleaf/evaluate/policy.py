"""A policy: what is done with a picture, by its score. A JSON file that is written once and applied everywhere."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from figleaf.errors import FigleafError
from figleaf.files import write_text

FORMAT = 1
TEMPERATURES = (0.01, 100.0)
ACTIONS = ("block", "blur", "review", "pass")  # from the strictest on


@dataclass(frozen=True)
class Rule:
    """An `action` for scores from `at_least` on; `why` says how that was chosen."""

    action: str
    at_least: float
    why: str = ""


@dataclass(frozen=True)
class Policy:
    """Rules for the scores of one run's network, whose logits are divided by `temperature` first.

    `rules` are in the order of falling scores, with an action each that is less strict than the one before; a score
    below the last passes. `run_id` names the run; "" applies to any. `classes` and `unsafe` are the network's. `sha256`
    is that of the exported file whose scores it was made from, "" for the run's checkpoint.
    """

    run_id: str
    classes: tuple[str, ...]
    unsafe: tuple[str, ...]
    temperature: float
    rules: tuple[Rule, ...]
    sha256: str = ""

    def action(self, score: float) -> str:
        """What is done with a picture of this score."""
        return next((rule.action for rule in self.rules if score >= rule.at_least), "pass")

    def require_for(self, classes: Sequence[str], unsafe: Sequence[str], run_id: str | None, path: Path) -> None:
        """Raises `FigleafError` when the policy was made for another model."""
        if (tuple(classes), set(unsafe)) != (self.classes, set(self.unsafe)):
            raise FigleafError(
                f"{path}: made for the classes {', '.join(self.classes)} (unsafe: {', '.join(self.unsafe)}), and the "
                f"model has {', '.join(classes)} (unsafe: {', '.join(unsafe)}); calibrate this one: `figleaf calibrate`"
            )
        if self.run_id and run_id and run_id != self.run_id:
            raise FigleafError(
                f"{path}: made for the run {self.run_id}, and the model is of {run_id}, whose scores mean something "
                "else; calibrate this one: `figleaf calibrate`"
            )

    def save(self, path: Path, notes: Mapping[str, Any]) -> Path:
        """Write the file, with `notes` beside the rules for whoever reads it."""
        rules = [{"action": rule.action, "at_least": rule.at_least, "why": rule.why} for rule in self.rules]
        written = {
            "format": FORMAT,
            "run_id": self.run_id,
            "sha256": self.sha256,
            "classes": list(self.classes),
            "unsafe": list(self.unsafe),
            "temperature": self.temperature,
            "rules": rules,
            **notes,
        }
        write_text(path, json.dumps(written, indent=2, ensure_ascii=False) + "\n")
        return path

    @classmethod
    def load(cls, path: Path) -> "Policy":
        """Read the file. Raises `FigleafError` that names what is wrong with it."""
        if not path.is_file():
            raise FigleafError(f"{path}: no such file, or no plain one; `figleaf calibrate` writes a policy")
        try:
            found = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_once)
        except (OSError, ValueError, RecursionError) as error:
            raise FigleafError(f"{path}: no policy ({error}); `figleaf calibrate` writes one") from error

        def wrong(what: str) -> FigleafError:
            return FigleafError(f"{path}: {what}; `figleaf calibrate` writes such a file")

        if not isinstance(found, dict) or found.get("format") is not FORMAT:
            raise wrong(f"format: expected {FORMAT}")
        names = [found.get(key) for key in ("classes", "unsafe")]
        if not all(isinstance(group, list) and group and all(isinstance(n, str) for n in group) for group in names):
            raise wrong("classes and unsafe: expected lists of names")
        temperature = found.get("temperature", 1.0)
        if not _within(temperature, *TEMPERATURES):
            raise wrong(
                f"temperature={_short(temperature)}: expected a number from {TEMPERATURES[0]} to {TEMPERATURES[1]}"
            )
        rules = found.get("rules")
        if not isinstance(rules, list) or not rules or not all(isinstance(rule, dict) for rule in rules):
            raise wrong("rules: expected a list of action and at_least, one at least")
        for rule in rules:
            if rule.get("action") not in ACTIONS:
                raise wrong(f"action={_short(rule.get('action'))}: expected one of {', '.join(ACTIONS)}")
            if not _within(rule.get("at_least"), 0.0, 1.0):
                raise wrong(f"at_least={_short(rule.get('at_least'))}: expected a score from 0 to 1")
        read = tuple(Rule(rule["action"], float(rule["at_least"]), str(rule.get("why", ""))) for rule in rules)
        for above, rule in pairwise(read):
            if above.at_least <= rule.at_least or ACTIONS.index(above.action) >= ACTIONS.index(rule.action):
                raise wrong(f"the rules {above.action} and {rule.action}: expected falling scores, the strictest first")
        classes, unsafe = (tuple(group) for group in names if group is not None)
        named = (str(found.get("run_id") or ""), str(found.get("sha256") or ""))
        return cls(named[0], classes, unsafe, float(temperature), read, named[1])


def _within(value: object, low: float, high: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high


def _short(value: object) -> str:
    return repr(value)[:40]


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose keys are there once: of two the last would count, wherever a reader looks."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands in it twice")
    return found
