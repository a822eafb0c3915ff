"""All arms in one figure: mean ROC and precision-recall curves, differences with intervals, cost against quality."""

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from figleaf.evaluate.figures import BLUE, GREY, ORANGE, STYLE
from figleaf.evaluate.predictions import Predictions
from figleaf.evaluate.weighted import Floats, RankedPredictions
from figleaf.study.comparison import Comparisons
from figleaf.study.figures import study_figure
from figleaf.study.plan import Trial
from figleaf.study.records import Record
from figleaf.study.spec import Study
from figleaf.study.table import Stat, arm_stat, column_of, compared_key

# Okabe & Ito (2008), the darker six first; beyond them line styles tell arms apart.
_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_STYLES = ("-", "--", ":", "-.")
_GRID = np.linspace(0.0, 1.0, 401)
_GREATER_IS_BETTER = {"auroc", "auprc", "accuracy", "precision", "recall", "f1", "recall_at_1fpr", "recall_at_5fpr"}
_COSTS = {"cost/gmacs": "GMACs a picture"}
_NEARLY_ALL = 0.97  # of the unsafe samples: where an ROC curve has nothing more to tell


def curves_overlay(study: Study, trials: Sequence[Trial]) -> Figure | None:
    """Each arm's ROC and precision-recall curve on test: the mean over its seeds, at equal FPR and at equal recall.

    None when no record has test predictions of both labels.
    """
    arms: dict[str, list[Predictions]] = {}
    for trial in trials:
        if isinstance(trial.run, Record):
            test = trial.run.predictions.select(split="test")
            if test.has_both_labels:
                arms.setdefault(trial.arm, []).append(test)
    if not arms:
        return None
    with mpl.rc_context(dict(STYLE)):
        figure = study_figure(study, (8.6, 4.4 + 0.16 * len(arms)))
        roc, pr = figure.subplots(1, 2)
        means = {arm: np.mean([_curves(run) for run in runs], axis=0) for arm, runs in arms.items()}
        for look, (arm, (recall, precision)) in zip(looks(len(arms)), means.items(), strict=True):
            roc.plot(_GRID, recall, label=arm, linewidth=1.5, **look)
            pr.plot(_GRID, precision, linewidth=1.5, **look)
        # Where the arms differ: the empty rest of the unit square would hide what good classifiers differ in.
        worst = np.min([recall for recall, _ in means.values()], axis=0)
        right = max(0.05, float(_GRID[np.argmax(worst >= _NEARLY_ALL)]))
        low = np.floor(10 * min(0.9, float(np.interp(right / 10, _GRID, worst)))) / 10
        of_roc = f"false positive rate (to {right:.2g})"
        roc.set(xlabel=of_roc, ylabel="mean recall", xlim=(0, right), ylim=(low, 1.003))
        pr.set(xlabel=f"recall (from {low:.2g})", ylabel="mean precision", xlim=(low, 1.003), ylim=(low, 1.003))
        figure.legend(loc="outside lower center", ncols=min(4, len(arms)), fontsize=8)
    return figure


def differences_plot(study: Study, found: Comparisons) -> Figure:
    """One line a comparison: the mean difference, and its intervals."""
    column = column_of(study, found.key)
    with mpl.rc_context(dict(STYLE)):
        figure = study_figure(study, (7.6, 1.7 + 0.36 * len(found.effects)))
        axes: Axes = figure.subplots()
        axes.axvline(0, color=GREY, linewidth=1, linestyle=(0, (4, 3)))
        for y, effect in enumerate(found.effects):
            color = ORANGE if effect.is_supported else BLUE
            paired, systems = effect.paired, effect.systems
            over_seeds = None if paired is None else paired.over_seeds
            thin = systems.interval if systems is not None else None
            if paired is not None:
                thin = paired.over_seeds_and_groups
            if thin is not None:
                axes.plot([v * column.scale for v in thin], (y, y), color=color, linewidth=1.2)
            if over_seeds is not None:
                axes.plot([v * column.scale for v in over_seeds], (y, y), color=color, linewidth=5, alpha=0.35)
            axes.plot(
                effect.difference * column.scale, y, "D", color=color, markersize=7, markeredgecolor="white", zorder=5
            )
        axes.set_yticks(range(len(found.effects)), [effect.name for effect in found.effects])
        axes.set_ylim(len(found.effects) - 0.4, -0.6)
        axes.grid(axis="y", visible=False)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        against = f" minus {found.against}" if found.against else ", effect"
        axes.set_xlabel(f"{column.label or column.key}{against}")
        of_systems = study.table.test == "groups"
        entries = [Line2D([], [], marker="D", color=GREY, linestyle="", markersize=6, label="mean difference")]
        if not of_systems:
            entries.append(Line2D([], [], color=GREY, linewidth=5, alpha=0.35, label="95 % over seeds"))
        over = "groups, and seeds where there are several" if of_systems else "seeds and groups"
        entries.append(Line2D([], [], color=GREY, linewidth=1.2, label=f"95 % over {over}"))
        if found.supported():
            text = f"supported ({'bootstrap' if of_systems else 'signed-rank'}, Holm)"
            entries.append(Line2D([], [], marker="D", color=ORANGE, linestyle="", markersize=6, label=text))
        figure.legend(handles=entries, loc="outside lower left", ncols=len(entries), fontsize=8)
    return figure


def cost_plot(study: Study, trials: Sequence[Trial]) -> Figure | None:
    """The compared metric against what a picture costs (`figure.cost`), with 95 % over seeds or, without, over groups.

    Where more of the metric is better the Pareto front is drawn: its arms have no other that costs no more and is
    better. None when all cost the same.
    """
    key = compared_key(study)
    column, price_column = column_of(study, key), column_of(study, study.figure.cost)
    points: dict[str, tuple[float, Stat]] = {}
    for arm in study.arms:
        members = [trial for trial in trials if trial.arm == arm]
        price, stat = arm_stat(members, price_column.key, price_column.scale), arm_stat(members, key, column.scale)
        if price is not None and stat is not None and np.isfinite(stat.mean):
            points[arm] = (price.mean, stat)
    if len({price for price, _ in points.values()}) < 2:
        return None
    means = {arm: (x, stat.mean) for arm, (x, stat) in points.items()}
    front = pareto_front(means) if key.rpartition("/")[2].removeprefix("pixel_") in _GREATER_IS_BETTER else []
    with mpl.rc_context(dict(STYLE)):
        figure = study_figure(study, (7.0, 4.6))
        axes: Axes = figure.subplots()
        for arm, (x, stat) in points.items():
            color = BLUE if arm in front or not front else GREY
            if (bounds := stat.over_seeds or stat.over_groups) is not None:
                axes.plot((x, x), bounds, color=color, linewidth=2, alpha=0.3)
            axes.plot(x, stat.mean, "D", color=color, markersize=6, markeredgecolor="white", zorder=3)
            below = bool(front) and arm not in front  # apart from those of a twin on the front
            place = (4, -10 if below else 4)
            axes.annotate(arm, (x, stat.mean), place, textcoords="offset points", fontsize=7, color=color)
        if front:
            label = "Pareto front: nothing that costs no more is better"
            axes.plot(*zip(*(means[arm] for arm in front), strict=True), color=BLUE, linewidth=1, label=label)
            figure.legend(loc="outside lower center", fontsize=8)
        costs = [x for x, _ in points.values()]
        if max(costs) > 3 * min(costs):
            axes.set_xscale("log")
        name = _COSTS.get(price_column.key, price_column.label or price_column.key)
        axes.set(xlabel=name, ylabel=column.label or key)
        axes.margins(x=0.12)
    return figure


def pareto_front(points: Mapping[str, tuple[float, float]]) -> list[str]:
    """Which of the (cost, worth) have no other that costs no more and is worth more; cheapest first, ties left out."""
    front: list[str] = []
    for name in sorted(points, key=lambda name: (points[name][0], -points[name][1])):
        if not front or points[name][1] > points[front[-1]][1]:
            front.append(name)
    return front


def looks(count: int) -> list[Mapping[str, str]]:
    """Colour and line style of so many lines, all different up to 24."""
    return [
        {"color": _COLORS[i % len(_COLORS)], "linestyle": _STYLES[i // len(_COLORS) % len(_STYLES)]}
        for i in range(count)
    ]


def _curves(run: Predictions) -> tuple[Floats, Floats]:
    """Recall at each false positive rate of the grid, and the best precision at each recall or a higher one."""
    sample = RankedPredictions.of(run, np.nan).unweighted
    true, false = (np.append(0.0, counts[0]) for counts in (sample.true_positives, sample.false_positives))
    recall, fpr = true / true[-1], false / false[-1]
    precision = true[1:] / (true[1:] + false[1:])
    # The highest recall reached at no more than this FPR: steps, as the AUROC of a finite sample has them.
    at_fpr = recall[np.searchsorted(fpr, _GRID, side="right") - 1]
    best = np.maximum.accumulate(precision[::-1])[::-1]
    at_recall = best[np.searchsorted(recall[1:], _GRID, side="left").clip(max=len(best) - 1)]
    return at_fpr, at_recall
