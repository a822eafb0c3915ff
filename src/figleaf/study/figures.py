"""A study's figures: every run and every arm's mean on one axis, and learning curves with their spread over seeds."""

import math
from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from figleaf.evaluate.figures import BLUE, GREY, INK, ORANGE, STYLE
from figleaf.study.plan import Trial
from figleaf.study.spec import Study
from figleaf.study.table import CHOSEN, Stat, arm_rows, arm_stat, column_of, selection_text, title_of

_COLUMNS = 4  # of panels
_FAINT_LINE = "#D1D5DB"
_LETTERS_AN_INCH = 10.5  # of bold type of 11 points


def interval_plot(study: Study, trials: Sequence[Trial]) -> Figure:
    """One line an arm: its runs, their mean, and the 95 % intervals over seeds (thick) and over groups (thin)."""
    key = study.figure.key or study.table.columns[0].key
    column = column_of(study, key)
    rows = arm_rows(study, trials)
    stats = [arm_stat([trial for trial in trials if trial.arm == row.arm], key, column.scale) for row in rows]
    with mpl.rc_context(dict(STYLE)):
        figure = study_figure(study, (7.6, 1.5 + 0.36 * len(rows)))
        axes = figure.subplots()
        for y, (row, stat) in enumerate(zip(rows, stats, strict=True)):
            if stat is not None and math.isfinite(stat.mean):
                _draw_arm(axes, y, stat, ORANGE if row.is_selected else BLUE)
        axes.set_yticks(range(len(rows)), [row.arm + (f" {CHOSEN}" if row.is_selected else "") for row in rows])
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.grid(axis="y", visible=False)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.xaxis.set_major_locator(MaxNLocator(6))
        axes.set_xlabel(column.label or key)
        _explain(figure, stats, study if any(row.is_selected for row in rows) else None)
    return figure


def curves_plot(study: Study, curves: Mapping[str, Sequence[Sequence[float]]]) -> Figure:
    """A panel an arm: the mean of `study.figure.curve` by epoch, a band from the least to the greatest seed.

    `curves` maps an arm to its runs' values, one an epoch. The other arms' means stand behind in grey. Where seeds
    stopped at different epochs, mean and band are of those still running.
    """
    means = {arm: _by_epoch(runs) for arm, runs in curves.items() if any(len(run) for run in runs)}
    columns = min(_COLUMNS, max(1, len(means)))
    lines = max(1, math.ceil(len(means) / columns))
    with mpl.rc_context(dict(STYLE)):
        figure = study_figure(study, (2.2 * columns + 0.8, 1.9 * lines + 0.9))
        panels = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False).ravel()
        for axes, (arm, (mean, low, high)) in zip(panels, means.items(), strict=False):
            for other, (faint, _, _) in means.items():
                if other != arm:
                    axes.plot(_epochs(faint), faint, color=_FAINT_LINE, linewidth=1)
            axes.fill_between(_epochs(mean), low, high, color=BLUE, alpha=0.2, linewidth=0)
            axes.plot(_epochs(mean), mean, color=BLUE)
            axes.set_title(arm, fontsize=9)
            axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        for axes in panels[max(0, len(means) - columns) :]:
            axes.tick_params(labelbottom=True)  # also above a place that stays empty
        for axes in panels[len(means) :]:
            axes.set_visible(False)
        figure.supxlabel("epoch (line: mean; band: least to greatest run; grey: the other arms)", fontsize=10)
        figure.supylabel(study.figure.curve, fontsize=10)
    return figure


def study_figure(study: Study, inches: tuple[float, float]) -> Figure:
    """An empty figure with the study's title, which no number goes without."""
    figure = Figure(figsize=inches, layout="constrained")
    FigureCanvasAgg(figure)
    title = title_of(study)
    size = min(11.0, 11.0 * inches[0] * _LETTERS_AN_INCH / len(title))  # a note of the data may be long
    figure.suptitle(title, x=0.012, ha="left", fontsize=size, fontweight="bold", color=INK)
    return figure


def _draw_arm(axes: Axes, y: int, stat: Stat, color: str) -> None:
    if stat.over_groups is not None:
        axes.plot(stat.over_groups, (y, y), color=color, linewidth=1.2, alpha=0.8)
    if stat.over_seeds is not None:
        axes.plot(stat.over_seeds, (y, y), color=color, linewidth=5, alpha=0.35)
    runs = stat.values if len(stat.values) > 1 else ()
    axes.plot(runs, [y + 0.2] * len(runs), "o", color=color, markersize=4, alpha=0.6, markeredgewidth=0)
    axes.plot(stat.mean, y, "D", color=color, markersize=7, markeredgecolor="white", markeredgewidth=1.2, zorder=5)


def _explain(figure: Figure, stats: Sequence[Stat | None], study: Study | None) -> None:
    """A legend of what is there, beneath the axes. `study` is given when one of its arms is selected."""
    entries = [
        Line2D([], [], marker="D", color=GREY, linestyle="", markersize=6, label="mean"),
        Line2D([], [], marker="o", color=GREY, linestyle="", markersize=4, alpha=0.6, label="one run"),
    ]
    if any(stat is not None and stat.over_seeds for stat in stats):
        entries.append(Line2D([], [], color=GREY, linewidth=5, alpha=0.35, label="95 % over seeds"))
    if any(stat is not None and stat.over_groups for stat in stats):
        entries.append(Line2D([], [], color=GREY, linewidth=1.2, label="95 % over groups"))
    if study is not None:
        text = f"{CHOSEN} {selection_text(study.select)}"
        entries.append(Line2D([], [], marker="D", color=ORANGE, linestyle="", markersize=6, label=text))
    figure.legend(handles=entries, loc="outside lower left", ncols=len(entries), fontsize=8, handletextpad=0.4)


def _by_epoch(runs: Sequence[Sequence[float]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean, least and greatest value by epoch, each (epochs,)."""
    table = np.full((len(runs), max(len(run) for run in runs)), np.nan)
    for row, run in zip(table, runs, strict=True):
        row[: len(run)] = run
    return np.nanmean(table, axis=0), np.nanmin(table, axis=0), np.nanmax(table, axis=0)


def _epochs(values: np.ndarray) -> np.ndarray:
    return np.arange(1, len(values) + 1)
