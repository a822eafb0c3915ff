"""The best trial of a search, as an object and in words, with what to paste to go on with it."""

from typing import Any

from figleaf.overrides import typed
from figleaf.study.search.returns import Returns
from figleaf.study.search.trials import RUN_ID, Trials


def best_found(trials: Trials) -> dict[str, Any] | None:
    """The best trial as one object, and beside it what it is to be judged by; None of none.

    Number, metric, value, run, overrides and the whole command; `budget` is what all trials cost, `expected` what
    another search would find (see `Returns.expectation`).
    """
    best, returns = trials.best(), Returns.of(trials)
    if best is None or returns is None:
        return None
    overrides = trials.space.overrides(best.params)
    seed = trials.space.study.seeds[0]
    budget = returns.budget
    return {
        "trial": best.number,
        "metric": trials.metric,
        "value": best.value,
        "run_id": best.user_attrs.get(RUN_ID),
        "overrides": overrides,
        "command": ["figleaf", "train", *trials.space.shared, *overrides, f"seed={seed}"],
        "budget": {"trials": budget.trials, "epochs": budget.epochs, "machines": list(budget.machines)},
        "expected": returns.expectation,
    }


def best_text(found: dict[str, Any], returns: Returns) -> str:
    """The best trial in words, with what to paste: the overrides, the command, an arm for the study file."""
    return (
        f"best       trial {found['trial']}, {found['metric']} {found['value']:.4f}, run {found['run_id']}\n"
        f"expected   {returns.text}\n"
        f"budget     {returns.budget.text}\n"
        f"overrides  {' '.join(map(typed, found['overrides']))}\n"
        f"command    {' '.join(map(typed, found['command']))}\n"
        f"as an arm  {arm_line(found)}\n"
    )


def arm_line(found: dict[str, Any]) -> str:
    """The best trial as an arm of the study file."""
    return f"searched: {{overrides: [{', '.join(map(_yaml, found['overrides']))}]}}"


def _yaml(override: str) -> str:
    return f"'{override}'" if set(override) & set(",[]{}:#&*!|>'\"%@`") else override
