"""A run on one page: its curves, metrics, slices and confusion, and the errors it was surest of, with class maps."""

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from figleaf.data.decode import RgbU8
from figleaf.errors import FigleafError, printable
from figleaf.evaluate.decisions import decisions
from figleaf.evaluate.figures import learning_curves, reliability, roc_pr
from figleaf.evaluate.metrics import DEFAULT_THRESHOLD, slice_table
from figleaf.evaluate.predictions import Predictions
from figleaf.explain.html import as_data, render


@dataclass(frozen=True, eq=False)
class ErrorPicture:
    """One of the surest errors: who it is, and its picture, `map` over it and why there is none."""

    sample_id: str
    slice: str
    label: str
    score: float
    rgb_u8: RgbU8 | None
    map_u8: RgbU8 | None
    missing: str = ""


@dataclass(frozen=True, eq=False)
class ErrorGroup:
    """Errors of one kind, the surest first; `total` is how many there are."""

    title: str
    total: int
    pictures: Sequence[ErrorPicture]


def surest_errors(predictions: Predictions, threshold: float | None, count: int) -> list[tuple[str, pd.DataFrame]]:
    """Tables of the samples that were answered wrongly, by kind, the surest first; at most `count` rows each.

    With scores: the safe ones that were flagged, by falling score, and the unsafe ones that were missed, by rising one.
    Without: those given another class, by its probability. Columns sample_id, content_sha256, slice, label, score; the
    number of all errors of the kind is in `attrs["total"]`.
    """
    columns = ["sample_id", "content_sha256", "slice", "label", "score"]
    if predictions.has_scores:
        made = decisions(predictions, threshold)
        made["content_sha256"] = predictions.scored.table["content_sha256"].to_numpy()
        wrong = made.loc[~made["is_right"]]
        flagged = wrong.loc[wrong["is_flagged"]].sort_values("score", ascending=False, kind="stable")
        missed = wrong.loc[~wrong["is_flagged"]].sort_values("score", kind="stable")
        kinds = [("Safe, and flagged", flagged), ("Unsafe, and missed", missed)]
    else:
        table, (given, sure) = predictions.scored.table.copy(), _given(predictions)
        table["score"] = sure
        wrong = table.loc[table["label"].to_numpy() != given].sort_values("score", ascending=False, kind="stable")
        kinds = [("Given another class", wrong)]
    found = []
    for title, rows in kinds:
        few = rows.loc[:, columns].head(count).reset_index(drop=True)
        few.attrs["total"] = len(rows)
        found.append((title, few))
    return found


def given_classes(predictions: Predictions) -> list[list[int]]:
    """For each group of `surest_errors` the classes of which one was given.

    The threshold decides on which side that is, which may be another one than the likeliest class's.
    """
    if not predictions.has_scores:
        return [list(range(len(predictions.classes)))]
    flagged = [index for index, name in enumerate(predictions.classes) if name in predictions.unsafe]
    return [flagged, [index for index in range(len(predictions.classes)) if index not in flagged]]


def confusion(predictions: Predictions, threshold: float | None) -> dict[str, Any]:
    """Counts of scored samples by label and answer: `columns`, and `rows` of a label, its counts and which are right.

    Answers are flagged or not at the threshold (None: 0.5), or, where no class is unsafe, the class with the highest
    logit.
    """
    scored = predictions.scored
    labels = [*scored.classes, *sorted(set(scored.table["label"]) - set(scored.classes))]
    if scored.has_scores:
        columns = ["not flagged", "flagged"]
        answers = np.where(scored.scores >= (DEFAULT_THRESHOLD if threshold is None else threshold), *columns[::-1])
        right = [{"flagged"} if label in scored.unsafe else {"not flagged"} for label in labels]
    else:
        columns, answers = list(scored.classes), _given(scored)[0]
        right = [{label} for label in labels]
    own = scored.table["label"].to_numpy()
    rows = []
    for label, good in zip(labels, right, strict=True):
        counts = [int(((own == label) & (answers == column)).sum()) for column in columns]
        if sum(counts):
            cells = [
                {"count": count, "share": count / sum(counts), "right": column in good}
                for column, count in zip(columns, counts, strict=True)
            ]
            rows.append({"label": label, "total": sum(counts), "cells": cells})
    return {"columns": columns, "rows": rows}


def report_page(
    *,
    name: str,
    run_id: str,
    description: str,
    predictions: Predictions,
    metrics: Sequence[Mapping[str, Any]],
    threshold: float | None,
    history: Mapping[str, Sequence[tuple[int, float]]],
    errors: Sequence[ErrorGroup],
    facts: Sequence[tuple[str, str]],
    split: str,
    method: str | None,
    shown: bool,
) -> str:
    """The page as HTML. `predictions` are those of `split`; `metrics` rows as a model page has them.

    `shown` says whether the pictures of the errors are whole, and covered until asked, or blurred for good.
    """
    table = slice_table(predictions, threshold)
    slices: list[dict[str, Any]] = [
        {str(key): None if isinstance(value, float) and np.isnan(value) else value for key, value in row.items()}
        for row in table.to_dict("records")
    ]
    return render(
        "report.html.j2",
        name=name,
        run_id=run_id,
        description=description,
        data=predictions.data_name,
        is_proxy="proxy" in predictions.data_name.lower(),
        split=split,
        n=len(predictions.scored),
        metrics=metrics,
        threshold=threshold,
        figures=_figures(predictions, threshold, history, name),
        confusion=confusion(predictions, threshold),
        slices=slices if len(slices) > 1 else [],
        errors=[_with_previews(group) for group in errors],
        facts=facts,
        method=method,
        shown=shown,
    )


def _given(predictions: Predictions) -> tuple[NDArray[np.object_], NDArray[np.float64]]:
    """The class with the highest logit of each scored sample, and its probability."""
    from scipy.special import softmax

    probabilities = softmax(predictions.scored.logits.astype(np.float64), axis=1)
    classes = np.array(predictions.classes, dtype=object)
    return classes[probabilities.argmax(axis=1)], probabilities.max(axis=1)


def _figures(
    predictions: Predictions, threshold: float | None, history: Mapping[str, Sequence[tuple[int, float]]], name: str
) -> list[dict[str, str]]:
    """The figures that can be drawn of the run, as `title` and `source`."""
    drawn: list[dict[str, str]] = []
    ways: Mapping[str, Callable[[], Figure]] = {
        "Learning curves": lambda: learning_curves({key: list(rows) for key, rows in history.items()}, printable(name)),
        "ROC and precision-recall": lambda: roc_pr(predictions, threshold),
        "Reliability": lambda: reliability(predictions),
    }
    for title, way in ways.items():
        try:
            drawn.append({"title": title, "source": _as_image(way())})
        except FigleafError:  # a system that is fitted at once has no curve, one label no ROC
            continue
    return drawn


def _as_image(figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150)
    return as_data(Image.open(buffer))


def _with_previews(group: ErrorGroup) -> dict[str, Any]:
    pictures = [
        {
            "sample_id": printable(one.sample_id),
            "slice": one.slice,
            "label": one.label,
            "score": one.score,
            "missing": one.missing,
            "views": [as_data(Image.fromarray(view)) for view in (one.rgb_u8, one.map_u8) if view is not None],
        }
        for one in group.pictures
    ]
    return {"title": group.title, "total": group.total, "pictures": pictures}
