"""What the page says of its network: where it comes from, what was measured on what, what a threshold does."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from figleaf import __version__
from figleaf.data.decode import RESIZE_RULE
from figleaf.evaluate.calibration import at_temperature
from figleaf.evaluate.policy import Policy
from figleaf.evaluate.predictions import Predictions
from figleaf.evaluate.thresholds import choose_threshold
from figleaf.export.card import NOT_MEASURED, metric_rows
from figleaf.export.facts import ModelFacts
from figleaf.vgg.cost import gmacs, parameters
from figleaf.vgg.described import described
from figleaf.vgg.network import VGG

FORMAT = 1  # of manifest.json
# Thresholds that the page offers beside the frozen one, chosen on the same validation pictures.
PRESETS = {
    "accuracy": "Best accuracy",
    "f1": "Best F1",
    "fpr=0.01": "1 % false alarms",
    "fpr=0.05": "5 % false alarms",
}
_MOST_POINTS = 2000  # of the operating curve: more than a slider of 1000 steps can tell apart


def page_manifest(
    net: VGG,
    facts: ModelFacts,
    val: Predictions | None,
    dtype: str,
    weight_bytes: int,
    policy: Policy | None = None,
) -> dict[str, Any]:
    """The content of manifest.json but for the list of files, in plain JSON values.

    With a `policy` its temperature and rules, and the operating curve of `val` at that temperature.
    """
    if val is not None and policy is not None:
        val = at_temperature(val, policy.temperature)
    head = {"fc": "a fully connected head", "gap": "global average pooling"}[net.head]
    short = f"{described(net)}, {head}"
    return {
        "format": FORMAT,
        "figleaf_version": __version__,
        "run": {"name": facts.name, "id": facts.run_id},
        "classes": list(facts.classes),
        "unsafe": list(facts.unsafe),
        "threshold": facts.threshold,
        "threshold_rule": facts.threshold_rule,
        "operating": None if val is None or not facts.unsafe else operating_curve(val),
        "policy": None if policy is None else _rules(policy),
        "data": {"name": facts.data_name, "hash": facts.data_hash, "is_proxy": facts.is_proxy},
        "metrics": metric_rows(facts.metrics),
        "slices": _slices(facts),
        "not_measured": list(NOT_MEASURED),
        "licence": facts.licence or "not stated",
        "git_commit": facts.git_commit + ("-dirty" if facts.git_dirty else ""),
        "network": {
            "short": short,
            "summary": f"{short}: {parameters(net):,} parameters, {gmacs(net):.3g} billion multiplications for a "
            f"picture of {net.input_size} × {net.input_size}.",
            "input_size": net.input_size,
            "megabytes": weight_bytes / 1e6,
            "dtype": dtype,
            "resize_rule": RESIZE_RULE,
        },
    }


def _rules(policy: Policy) -> dict[str, Any]:
    rules = [{"action": rule.action, "at_least": rule.at_least, "why": rule.why} for rule in policy.rules]
    return {"temperature": policy.temperature, "rules": rules}


def operating_curve(val: Predictions) -> dict[str, Any] | None:
    """How many safe and unsafe validation pictures have at least each score that occurs, from the highest down.

    None where pictures of either label are missing. Of more than 2000 scores an even choice is kept; the counts at
    those are exact. `presets` are thresholds by the rules in `PRESETS`, the same value once.
    """
    if not val.has_both_labels:
        return None
    scored = val.scored
    scores, place = np.unique(-scored.scores, return_inverse=True)
    unsafe, safe = (np.cumsum(np.bincount(place[chosen], minlength=len(scores))) for chosen in _sides(scored))
    kept = np.unique(np.linspace(0, len(scores) - 1, min(len(scores), _MOST_POINTS)).round().astype(int))
    return {
        "scores": (-scores[kept]).tolist(),
        "safe": safe[kept].tolist(),
        "unsafe": unsafe[kept].tolist(),
        "n_safe": int(safe[-1]),
        "n_unsafe": int(unsafe[-1]),
        "presets": _presets(scored),
    }


def _sides(scored: Predictions) -> Sequence[Any]:
    return scored.is_unsafe, ~scored.is_unsafe


def _presets(scored: Predictions) -> list[dict[str, Any]]:
    found: dict[float, str] = {}
    for rule, name in PRESETS.items():
        found.setdefault(choose_threshold(scored, rule), name)
    return [{"name": name, "threshold": threshold} for threshold, name in found.items()]


def _slices(facts: ModelFacts) -> list[dict[str, Any]]:
    rows = []
    for key, auroc in sorted(facts.metrics.items()):
        if (match := re.fullmatch(r"test/slice/(.+)/auroc", key)) and np.isfinite(auroc):
            rows.append({"name": match[1], "n": facts.metrics.get(f"test/slice/{match[1]}/n"), "auroc": auroc})
    return rows
