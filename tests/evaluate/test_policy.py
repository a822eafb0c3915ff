"""Policies: what they do with a score, and what is no policy."""

import json
import math
import os
from pathlib import Path
from typing import Any

import pytest

from figleaf.errors import FigleafError
from figleaf.evaluate.policy import Policy, Rule

POLICY = Policy(
    "run1", ("safe", "nsfw"), ("nsfw",), 1.5, (Rule("block", 0.9, "why"), Rule("blur", 0.6), Rule("review", 0.2))
)


def test_scores_get_the_strictest_action_that_they_reach() -> None:
    found = [POLICY.action(score) for score in (1.0, 0.9, 0.89, 0.6, 0.59, 0.2, 0.19, 0.0)]
    assert found == ["block", "block", "blur", "blur", "review", "review", "pass", "pass"]


def test_it_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = POLICY.save(tmp_path / "p.json", {"model": "a name"})
    assert Policy.load(path) == POLICY
    assert json.loads(path.read_text())["model"] == "a name"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"format": 2}, "format: expected 1"),
        ({"temperature": 0}, "temperature=0: expected a number from 0.01 to 100.0"),
        ({"temperature": 1e308}, "temperature=1e+308: expected"),
        ({"temperature": 10**400}, "temperature=1000"),
        ({"format": True}, "format: expected 1"),
        ({"rules": []}, "one at least"),
        ({"rules": [{"action": "block", "at_least": 66}]}, "at_least=66: expected a score from 0 to 1"),
        ({"rules": [{"action": "block", "at_least": -5}]}, "at_least=-5: expected a score from 0 to 1"),
        ({"rules": [{"action": "block", "at_least": math.nan}]}, "at_least=nan: expected a score from 0 to 1"),
        ({"temperature": "hot"}, "temperature='hot'"),
        ({"classes": []}, "classes and unsafe: expected lists"),
        ({"rules": [{"action": "delete", "at_least": 0.5}]}, "action='delete': expected one of block, blur"),
        ({"rules": [{"action": "block"}]}, "at_least=None: expected a score"),
        ({"rules": [{"action": "block", "at_least": True}]}, "at_least=True: expected a score"),
        (
            {"rules": [{"action": "block", "at_least": 0.2}, {"action": "review", "at_least": 0.5}]},
            "block and review: expected falling scores",
        ),
        (
            {"rules": [{"action": "review", "at_least": 0.5}, {"action": "block", "at_least": 0.2}]},
            "review and block: expected falling scores, the strictest first",
        ),
    ],
)
def test_what_is_no_policy_is_named(tmp_path: Path, changes: dict[str, Any], told: str) -> None:
    path = POLICY.save(tmp_path / "p.json", {})
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    with pytest.raises(FigleafError) as error:
        Policy.load(path)
    assert told in str(error.value)


def test_files_that_are_none_are_named(tmp_path: Path) -> None:
    for content in ("not json", "[" * 100_000, '{"format": 1, "rules": [], "rules": []}'):
        (tmp_path / "p.json").write_text(content)
        with pytest.raises(FigleafError, match=r"no policy .* `figleaf calibrate` writes one"):
            Policy.load(tmp_path / "p.json")
    os.mkfifo(tmp_path / "pipe.json")
    for name in ("gone.json", "pipe.json", "."):
        with pytest.raises(FigleafError, match="no such file, or no plain one"):
            Policy.load(tmp_path / name)


def test_it_is_for_the_run_and_the_classes_that_it_was_made_for() -> None:
    POLICY.require_for(("safe", "nsfw"), ("nsfw",), "run1", Path("p.json"))
    POLICY.require_for(("safe", "nsfw"), ("nsfw",), None, Path("p.json"))
    with pytest.raises(FigleafError, match="made for the run run1, and the model is of run2"):
        POLICY.require_for(("safe", "nsfw"), ("nsfw",), "run2", Path("p.json"))
    with pytest.raises(FigleafError, match="made for the classes safe, nsfw"):
        POLICY.require_for(("nsfw", "safe"), ("nsfw",), "run1", Path("p.json"))
