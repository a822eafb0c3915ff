"""Choosing the score from which a picture is flagged: on validation predictions, once, then frozen."""

import math
from collections.abc import Callable

import numpy as np

from figleaf.errors import FigleafError
from figleaf.evaluate.metrics import ROUNDING
from figleaf.evaluate.predictions import Predictions
from figleaf.evaluate.weighted import Floats, RankedPredictions

Merit = Callable[[Floats, Floats], Floats]
"""What a rule maximises (K,), given the true and false positives (K,) of K candidates, of which the last flags all."""


def choose_threshold(val: Predictions, rule: str = "accuracy") -> float:
    """Threshold that does best on `val` by `rule`, halfway between two scores that occur there.

    Rules: "accuracy"; "f1"; "youden" (recall - FPR); "fpr=0.01" (highest recall with an FPR of at most 1 %, or another
    rate). Of equally good thresholds the one that flags fewest. Halfway, because a threshold that equals a sample's
    score would be decided by the rounding of another runtime. It lies in [0, 1], or a hair above 1 where nothing shall
    be flagged although a score is 1.

    Raises `FigleafError` for an unknown rule, and when `val` lacks scored samples of either label.
    """
    merit = _merit(rule)
    if not val.has_both_labels:
        raise FigleafError("a threshold needs scored validation samples of both labels, safe and unsafe")
    sample = RankedPredictions.of(val, threshold=math.nan).unweighted
    # The k-th candidate flags the k highest distinct scores; the first flags nothing.
    true = np.append(0.0, sample.true_positives[0])
    false = np.append(0.0, sample.false_positives[0])
    flagged = int(np.argmax(merit(true, false)))
    ceiling = 1.0 if sample.distinct_scores[0] < 1.0 else np.nextafter(1.0, 2.0)
    edges = np.concatenate(([ceiling], sample.distinct_scores, [0.0]))
    above, below = float(edges[flagged]), float(edges[flagged + 1])
    halfway = (above + below) / 2
    return halfway if halfway > below else above  # neighbouring floats have nothing in between


def _merit(rule: str) -> Merit:
    name, _, rate = rule.partition("=")
    if name == "fpr":
        return _recall_within(_rate(rule, rate))
    if rule in _MERITS:
        return _MERITS[rule]
    raise FigleafError(f"threshold rule {rule!r}: expected {', '.join(_MERITS)} or fpr=RATE, such as fpr=0.01")


def _rate(rule: str, text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = math.nan
    if not 0.0 <= rate < 1.0:
        raise FigleafError(f"threshold rule {rule!r}: expected a rate with 0 <= rate < 1, such as fpr=0.01")
    return rate


def _recall_within(rate: float) -> Merit:
    def merit(true: Floats, false: Floats) -> Floats:
        return np.where(false <= rate * false[-1] + ROUNDING, true, -1.0)

    return merit


def _accuracy(true: Floats, false: Floats) -> Floats:
    return true - false


def _f1(true: Floats, false: Floats) -> Floats:
    unsafe = true[-1:]
    return 2 * true / (true + false + unsafe)


def _youden(true: Floats, false: Floats) -> Floats:
    unsafe, safe = true[-1:], false[-1:]
    return true * safe - false * unsafe  # times both counts: exact, so that ties are ties


_MERITS = {"accuracy": _accuracy, "f1": _f1, "youden": _youden}
