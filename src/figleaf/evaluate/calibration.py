"""Probabilities that mean what they say, and thresholds that keep a promise.

All of it is learnt from the calib split, which nothing else has seen. A promise is about pictures that come as the
calib split's groups do: it is kept for them with the stated confidence, and says nothing about others.
"""

import math
import warnings
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from figleaf.errors import FigleafError
from figleaf.evaluate.predictions import Predictions

RISKS = ("fpr", "recall")
COVERAGES = (1.0, 0.95, 0.9, 0.8, 0.7, 0.5)
_COLDEST, _HOTTEST = 0.05, 20.0


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold, the `risk` it keeps within `target` with `confidence`, and the `pictures` that show it.

    `risk` is fpr, at most `target`, or recall, at least `target`.
    """

    risk: str
    target: float
    confidence: float
    threshold: float
    pictures: int

    @property
    def promise(self) -> str:
        """In words."""
        what = "false positive rate at most" if self.risk == "fpr" else "recall at least"
        return f"{what} {self.target:g} with {self.confidence:.0%} confidence, from {self.pictures} pictures"


def fit_temperature(predictions: Predictions) -> float:
    """The temperature T for which softmax(logits / T) has the smallest negative log-likelihood (Guo et al., 2017).

    Above 1 for a network that is too sure of itself. Raises `FigleafError` where there is none: of pictures of one
    label, of answers that are all right, and of answers no better than chance.
    """
    scored = predictions.scored
    logits, labels = scored.logits.astype(np.float64), _labels(scored)
    if len(set(labels.tolist())) < 2:
        raise FigleafError("a temperature needs scored pictures of two labels")

    def loss(log_temperature: float) -> float:
        rows = log_softmax(logits / math.exp(log_temperature), axis=1)
        return float(-rows[np.arange(len(rows)), labels].mean())

    if (logits.argmax(axis=1) == labels).all():  # then the colder, the likelier
        raise FigleafError(f"all {len(labels)} pictures are told right, so they say nothing about errors")
    found = minimize_scalar(loss, bounds=(math.log(_COLDEST), math.log(_HOTTEST)), method="bounded")
    temperature = math.exp(found.x)
    if not 1.02 * _COLDEST < temperature < 0.98 * _HOTTEST:
        raise FigleafError(f"on the {len(labels)} pictures the answers are no better than chance")
    return temperature


def at_temperature(predictions: Predictions, temperature: float) -> Predictions:
    """The scored rows with their logits divided by a temperature, and the scores that follow."""
    scored = predictions.scored
    return Predictions.from_logits(
        scored.table,
        scored.logits / temperature,
        classes=scored.classes,
        unsafe=scored.unsafe,
        data_name=scored.data_name,
        data_hash=scored.data_hash,
        variant=scored.table["variant"].tolist(),
    )


def one_of_each_group(predictions: Predictions, seed: int) -> Predictions:
    """A row of each group, drawn at random: rows of a group resemble each other, and would count as if they did not.

    The label is drawn with the row, so the share of labels stays what it is among groups.
    """
    scored = predictions.scored
    shuffled = scored.table.sample(frac=1.0, random_state=seed).drop_duplicates("group")
    return replace(scored, table=shuffled.sort_index().reset_index(drop=True))


def safe_threshold(
    scores: NDArray[np.float64], is_unsafe: NDArray[np.bool_], *, risk: str, target: float, confidence: float
) -> OperatingPoint:
    """The threshold that keeps `risk` within `target` with `confidence`: learn-then-test (Angelopoulos et al., 2021).

    `scores` and `is_unsafe` (N,) are of independent pictures. Thresholds are tested in a fixed order, from the one that
    certainly keeps the promise towards those that keep it by less, so that no correction for their number is lost. Of
    those that pass, for fpr the lowest is given, which finds most; for recall the highest, which flags least.

    Raises `FigleafError` when no threshold passes, with the target that these pictures could show at best.
    """
    from mapie.risk_control import BinaryClassificationController

    if risk not in RISKS:
        raise ValueError(f"risk {risk!r}: expected one of {', '.join(RISKS)}")
    counted = int((~is_unsafe if risk == "fpr" else is_unsafe).sum())
    # The exact binomial bound when none of them is on the wrong side: no threshold can show more.
    bound = 1.0 if not counted else 1.0 - (1.0 - confidence) ** (1.0 / counted)
    reachable = bound if risk == "fpr" else 1.0 - bound
    if not (target >= reachable if risk == "fpr" else target <= reachable):
        side, word = ("safe", "least") if risk == "fpr" else ("unsafe", "most")
        raise FigleafError(
            f"target_{risk}={target:g}: cannot be shown with {confidence:.0%} confidence by {counted} {side} pictures "
            f"of different groups, not even by faultless ones; at {word} {_outwards(reachable, risk):g} can. Ask for "
            "that, or for less confidence, or calibrate on more groups (data.calib_fraction)"
        )
    candidates = _candidates(scores, falling=risk == "fpr")
    controller = BinaryClassificationController(
        lambda found: np.column_stack([1.0 - found[:, 0], found[:, 0]]),
        risk=risk,
        target_level=target,
        confidence_level=confidence,
        list_predict_params=candidates,
        fwer_method="fixed_sequence",
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that nothing passed, which is said below
        controller.calibrate(scores[:, None], is_unsafe.astype(int))
    passed = np.asarray(controller.valid_predict_params, dtype=np.float64)
    if not len(passed):
        raise FigleafError(
            f"target_{risk}={target:g}: no threshold keeps it with {confidence:.0%} confidence on {counted} pictures; "
            "ask for less, or calibrate on more groups (data.calib_fraction)"
        )
    threshold = float(passed.min() if risk == "fpr" else passed.max())
    return OperatingPoint(risk, target, confidence, threshold, counted)


def coverage_table(scores: NDArray[np.float64], is_unsafe: NDArray[np.bool_]) -> list[dict[str, float]]:
    """What deciding only about the surest pictures would bring: `coverage`, and the share of `errors` among them.

    The surest are those farthest from a probability of one half; the others would be reviewed by people.
    """
    order = np.argsort(-np.abs(scores - 0.5), kind="stable")
    wrong = ((scores >= 0.5) != is_unsafe)[order]
    found = []
    for coverage in COVERAGES:
        count = max(1, round(coverage * len(wrong)))
        found.append({"coverage": count / len(wrong), "errors": float(wrong[:count].mean())})
    return found


def _candidates(scores: NDArray[np.float64], falling: bool) -> NDArray[np.float64]:
    """Thresholds halfway between scores, and beyond them, in the order of testing; at most 1,000 of them.

    They may come from the scores that they are tested on: between two scores nothing changes, and along the sequence
    the counted risk only grows, so what passes is what would pass if every number from 0 to 1 were tested.
    """
    distinct = np.unique(scores)
    halfway = np.concatenate([[0.0], (distinct[1:] + distinct[:-1]) / 2, [1.0]])
    if len(halfway) > 1000:
        halfway = halfway[np.linspace(0, len(halfway) - 1, 1000).astype(int)]
    return halfway[::-1].copy() if falling else halfway


def _outwards(value: float, risk: str) -> float:
    """Three decimals, rounded so that the promise can still be shown."""
    return math.ceil(1000 * value) / 1000 if risk == "fpr" else math.floor(1000 * value) / 1000


def _labels(predictions: Predictions) -> NDArray[np.intp]:
    places = {name: index for index, name in enumerate(predictions.classes)}
    try:
        return np.array([places[label] for label in predictions.table["label"]], dtype=np.intp)
    except KeyError as error:
        raise FigleafError(f"the label {error.args[0]!r} is none of the classes {', '.join(places)}") from error
