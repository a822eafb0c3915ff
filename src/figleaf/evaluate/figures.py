"""Figures from predictions and training rows: ROC with precision-recall, reliability, learning curves.

Built from matplotlib's objects, never through pyplot, whose open figures are a process's global state. Colours are
those of Okabe & Ito (2008), which stay apart for colour-blind readers. Saved files hold no date: equal figures, equal
bytes.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from scipy import stats

from figleaf.errors import FigleafError
from figleaf.evaluate.abstention import Abstention
from figleaf.evaluate.metrics import ECE_BINS, metrics, score_bins
from figleaf.evaluate.predictions import Predictions
from figleaf.evaluate.statistics import bootstrap_intervals
from figleaf.evaluate.weighted import Floats, RankedPredictions
from figleaf.files import atomic_path

BLUE, ORANGE, GREEN = "#0072B2", "#D55E00", "#009E73"
INK, GREY, FAINT = "#1F2937", "#6B7280", "#E5E7EB"

STYLE: Mapping[str, Any] = {
    "font.family": "DejaVu Sans",  # ships with matplotlib: the same on every machine
    "font.size": 10,
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "axes.titlecolor": INK,
    "axes.titlepad": 8,
    "axes.labelcolor": INK,
    "axes.edgecolor": "#9CA3AF",
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.8,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.linewidth": 2.0,
    "lines.markersize": 5,
    "lines.solid_capstyle": "round",
    "figure.facecolor": "white",
    "figure.dpi": 150,
    "savefig.dpi": 150,
    "svg.hashsalt": "figleaf",  # names of an SVG's parts, drawn at random otherwise
}
# What would say when and by which version a file was written.
_NO_METADATA: Mapping[str, Mapping[str, None]] = {
    ".png": {"Software": None},
    ".svg": {"Date": None, "Creator": None},
}

Rows = pd.DataFrame | Mapping[str, Sequence[tuple[int, float]]]
"""Logged values: a table with the columns step, key, value, or (step, value) pairs by key."""


def roc_pr(predictions: Predictions, threshold: float | None = None) -> Figure:
    """ROC and precision-recall side by side, with their areas' 95 % intervals and the operating point at `threshold`.

    Raises `FigleafError` unless samples of both labels were scored.
    """
    if not predictions.has_both_labels:
        raise FigleafError("ROC and precision-recall curves need scored samples of both labels, safe and unsafe")
    sample = RankedPredictions.of(predictions, np.nan).unweighted
    true, false = (np.append(0.0, counts[0]) for counts in (sample.true_positives, sample.false_positives))
    recall, fpr, precision = true / true[-1], false / false[-1], true[1:] / (true[1:] + false[1:])
    values = metrics(predictions, threshold)
    intervals = bootstrap_intervals(predictions, ("auroc", "auprc"))

    def area(name: str) -> str:
        bounds = f", 95 % {intervals[name].low:.3f}–{intervals[name].high:.3f}" if name in intervals else ""
        return f"{name.upper()} {values[name]:.3f}{bounds}"

    with mpl.rc_context(dict(STYLE)):
        figure, (roc, pr) = _panels((8.4, 4.1), 2, _caption(predictions))
        roc.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=(0, (4, 3)))
        roc.plot(fpr, recall, color=BLUE, clip_on=False)
        roc.set(xlabel="false positive rate", ylabel="recall", title=area("auroc"))
        pr.axhline(values["prevalence"], color=GREY, linewidth=1, linestyle=(0, (4, 3)))
        # A threshold's precision holds for the recall gained by it: steps, as in the area, not slopes.
        pr.step(recall, np.append(precision[0], precision), where="pre", color=BLUE, clip_on=False)
        pr.set(xlabel="recall", ylabel="precision", title=area("auprc"))
        if threshold is not None:
            _operating_point(roc, values["fpr"], values["recall"], threshold, "right")
            if "precision" in values:
                _operating_point(pr, values["recall"], values["precision"], threshold, "left")
        for axes in (roc, pr):
            _unit_square(axes)
    return figure


def reliability(predictions: Predictions) -> Figure:
    """How often a score is right: the unsafe fraction against the mean score of 15 equal-width bins, over the counts.

    Bars are 95 % Wilson intervals. Raises `FigleafError` when nothing was scored.
    """
    scored = predictions.scored
    if not scored.has_scores or len(scored) == 0:
        raise FigleafError("a reliability diagram needs scored samples and at least one unsafe class")
    mean_score, fraction, bars = _reliability_bins(scored)
    values = metrics(predictions)
    with mpl.rc_context(dict(STYLE)):
        figure = _blank((4.6, 5.4), _caption(predictions))
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        upper.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=(0, (4, 3)))
        upper.errorbar(mean_score, fraction, bars, fmt="o", color=BLUE, elinewidth=1.2, clip_on=False, zorder=5)
        upper.set(ylabel="unsafe fraction", title=f"ECE {values['ece']:.3f}, Brier {values['brier']:.3f}; bars 95 %")
        _unit_square(upper)
        edges = np.linspace(0, 1, ECE_BINS + 1)
        by_label = [scored.scores[~scored.is_unsafe], scored.scores[scored.is_unsafe]]
        lower.hist(by_label, bins=list(edges), stacked=True, color=[BLUE, ORANGE], label=["safe", "unsafe"], rwidth=0.9)
        lower.set(xlabel="score, P(unsafe)", ylabel="images")
        lower.yaxis.set_major_locator(MaxNLocator(3, integer=True))
        lower.legend(loc="best")
    return figure


def calibration(before: Predictions, after: Predictions, band: Abstention | None = None) -> Figure:
    """The same pictures before and after calibration: how often a score is right, and errors against coverage.

    Coverage is the share that is decided, the surest first: those farthest from a probability of one half. Bars are
    95 % Wilson intervals. `band`, what a policy decides about the same pictures, is a point beside the curve: its
    review need not be around one half. Raises `FigleafError` when nothing was scored.
    """
    sides = {"before": (before.scored, GREY), "after": (after.scored, BLUE)}
    if not after.has_scores or any(len(scored) == 0 for scored, _ in sides.values()):
        raise FigleafError("a calibration figure needs scored samples and at least one unsafe class")
    with mpl.rc_context(dict(STYLE)):
        figure, (left, right) = _panels((8.6, 4.4), 2, _caption(after))
        left.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=(0, (4, 3)))
        for name, (scored, color) in sides.items():
            mean_score, fraction, bars = _reliability_bins(scored)
            label = f"{name}: ECE {metrics(scored)['ece']:.3f}"
            left.errorbar(mean_score, fraction, bars, fmt="o", color=color, elinewidth=1.2, clip_on=False, label=label)
        left.set(xlabel="score, P(unsafe)", ylabel="unsafe fraction", title="are scores probabilities?")
        _unit_square(left)
        left.legend(loc="lower right")
        scored = after.scored
        sure = np.argsort(-np.abs(scored.scores - 0.5), kind="stable")
        wrong = ((scored.scores >= 0.5) != scored.is_unsafe)[sure].cumsum()
        decided = np.arange(1, len(wrong) + 1)
        low, high = _wilson(wrong.astype(np.float64), decided.astype(np.float64))
        right.fill_between(decided / len(wrong), low, high, color=BLUE, alpha=0.15, linewidth=0)
        right.plot(decided / len(wrong), wrong / decided, color=BLUE)
        top = max(0.02, 2 * wrong[-1] / len(wrong))
        if band is not None and band.errors is not None and band.interval is not None:
            reach = np.abs(np.array(band.interval)[:, None] - band.errors)
            right.errorbar(band.coverage, band.errors, reach, fmt="o", color=ORANGE, clip_on=False, label="the policy")
            right.legend(loc="upper left")
            top = max(top, 1.1 * band.interval[1])
        right.set(xlabel="coverage: share decided, the surest first", ylabel="errors among them", ylim=(0, top))
        right.set(xlim=(0, 1), title="what deciding less would bring")
    return figure


def _reliability_bins(scored: Predictions) -> tuple[Floats, Floats, tuple[Floats, Floats]]:
    """Of the filled bins of scores: their mean score, the unsafe fraction, and how far its interval reaches."""
    bins = score_bins(scored.scores)
    filled = np.unique(bins)
    count = np.bincount(bins)[filled].astype(np.float64)
    unsafe = np.bincount(bins, scored.is_unsafe)[filled].astype(np.float64)
    fraction = unsafe / count
    low, high = _wilson(unsafe, count)
    return np.bincount(bins, scored.scores)[filled] / count, fraction, (fraction - low, high - fraction)


def learning_curves(rows: Rows, title: str = "") -> Figure:
    """Loss, validation metric and learning rate over the steps; a panel is left out when nothing of it was logged.

    Reads the keys train/loss, train/lr, epoch/train_loss, epoch/val_loss, epoch/val_pixel_f1, epoch/val_auroc and
    epoch/val_accuracy. The
    best validation value is marked. Raises `FigleafError` when none of them is there.
    """
    curves = _curves(rows)
    panels = [(name, keys) for name, keys in CURVE_PANELS.items() if any(key in curves for key in keys)]
    if not panels:
        raise FigleafError(
            "learning curves: none of the keys " + ", ".join(key for _, keys in CURVE_PANELS.items() for key in keys)
        )
    with mpl.rc_context(dict(STYLE)):
        figure, all_axes = _panels((3.7 * len(panels) + 0.6, 3.5), len(panels), (title, ""))
        for axes, (name, keys) in zip(all_axes, panels, strict=True):
            drawn = [key for key in keys if key in curves]
            for key in drawn:
                step, value = curves[key]
                axes.plot(step, value, label=_LINES[key]["label"], **_LINES[key]["line"])
            axes.set(title=name, xlabel="step")
            axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
            if name == "validation":
                _mark_best(axes, *curves[drawn[0]])
            if len(drawn) > 1:
                axes.legend(loc="best")
    return figure


def save_figure(figure: Figure, path: Path) -> Path:
    """Write the figure to `path`, .png or .svg, and return it."""
    if path.suffix not in _NO_METADATA:
        raise FigleafError(f"{path}: figures are written as {' or '.join(_NO_METADATA)}")
    with mpl.rc_context(dict(STYLE)), atomic_path(path) as temporary:
        figure.savefig(temporary, metadata=dict(_NO_METADATA[path.suffix]))
    return path


CURVE_PANELS: Mapping[str, tuple[str, ...]] = {  # what `learning_curves` draws, by panel
    "loss": ("train/loss", "epoch/train_loss", "epoch/val_loss"),
    "validation": ("epoch/val_pixel_f1", "epoch/val_auroc", "epoch/val_accuracy"),
    "learning rate": ("train/lr",),
}
_LINES: Mapping[str, dict[str, Any]] = {
    "train/loss": {"label": "train, single batches", "line": {"color": BLUE, "alpha": 0.25, "linewidth": 1}},
    "epoch/train_loss": {"label": "train", "line": {"color": BLUE, "marker": "o", "markersize": 3.5}},
    "epoch/val_loss": {"label": "validation", "line": {"color": ORANGE, "marker": "o", "markersize": 3.5}},
    "epoch/val_pixel_f1": {"label": "F1 of pixels", "line": {"color": ORANGE, "marker": "o", "markersize": 3.5}},
    "epoch/val_auroc": {"label": "AUROC", "line": {"color": ORANGE, "marker": "o", "markersize": 3.5}},
    "epoch/val_accuracy": {"label": "accuracy", "line": {"color": GREEN, "marker": "o", "markersize": 3.5}},
    "train/lr": {"label": "learning rate", "line": {"color": INK, "linewidth": 1.5}},
}


def _curves(rows: Rows) -> dict[str, tuple[Floats, Floats]]:
    """Steps and values by key, in the order of the steps."""
    if isinstance(rows, pd.DataFrame):
        tables = {str(key): part[["step", "value"]].to_numpy(dtype=np.float64) for key, part in rows.groupby("key")}
    else:
        tables = {key: np.array(pairs, dtype=np.float64) for key, pairs in rows.items() if len(pairs)}
    ordered = {key: table[np.argsort(table[:, 0], kind="stable")] for key, table in tables.items()}
    return {key: (table[:, 0], table[:, 1]) for key, table in ordered.items()}


def _mark_best(axes: Axes, step: Floats, value: Floats) -> None:
    if np.isnan(value).all():
        return
    best = int(np.nanargmax(value))
    axes.plot(step[best], value[best], "o", markersize=9, markerfacecolor="none", markeredgecolor=INK, zorder=5)
    axes.annotate(f"{value[best]:.3f}", (step[best], value[best]), (0, -16), textcoords="offset points", ha="center")


def _caption(predictions: Predictions) -> tuple[str, str]:
    """What the data is; its size and prevalence: no curve without them."""
    scored = predictions.scored
    splits = scored.table["split"].unique()
    name = predictions.data_name + (f", {splits[0]}" if len(splits) == 1 else "")
    groups = scored.table["group"].nunique()
    size = f"{len(scored):,} images" + (f" in {groups:,} groups" if groups < len(scored) else "")
    return name, f"{size}, {100 * scored.is_unsafe.mean():.1f} % unsafe"


def _blank(inches: tuple[float, float], caption: tuple[str, str]) -> Figure:
    """An empty figure with its caption's lines at the top left, and room for axes below them."""
    figure = Figure(figsize=inches)
    FigureCanvasAgg(figure)
    width, height = inches
    top = 0.1
    for line, weight, color in zip(caption, ("bold", "normal"), (INK, GREY), strict=True):
        if line:
            figure.text(0.1 / width, 1 - top / height, line, va="top", fontsize=11, fontweight=weight, color=color)
            top += 0.24
    figure.set_layout_engine("constrained", w_pad=0.08, h_pad=0.07, rect=(0, 0, 1, 1 - top / height))
    return figure


def _panels(inches: tuple[float, float], columns: int, caption: tuple[str, str]) -> tuple[Figure, list[Axes]]:
    figure = _blank(inches, caption)
    return figure, list(figure.subplots(1, columns, squeeze=False)[0])


def _unit_square(axes: Axes) -> None:
    axes.set(xlim=(0, 1), ylim=(0, 1), xticks=np.linspace(0, 1, 6), yticks=np.linspace(0, 1, 6))


def _operating_point(axes: Axes, x: float, y: float, threshold: float, side: str) -> None:
    """A dot at the frozen threshold, its label below and to the `side` where the curve is not."""
    axes.plot(x, y, "o", color=ORANGE, markersize=7, clip_on=False, zorder=5)
    away, align = (8, "left") if side == "right" else (-8, "right")
    label = f"threshold {threshold:.2f}"
    axes.annotate(label, (x, y), (away, -14), textcoords="offset points", ha=align, color=ORANGE, fontsize=9)


def _wilson(successes: Floats, trials: Floats, level: float = 0.95) -> tuple[Floats, Floats]:
    """Wilson's (1927) interval of a proportion: inside [0, 1], and sensible for few trials or no successes."""
    z = float(stats.norm.ppf((1 + level) / 2))
    rate = successes / trials
    centre = (rate + z**2 / (2 * trials)) / (1 + z**2 / trials)
    half = z * np.sqrt(rate * (1 - rate) / trials + z**2 / (4 * trials**2)) / (1 + z**2 / trials)
    return np.minimum(centre - half, rate), np.maximum(centre + half, rate)
