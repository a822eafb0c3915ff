"""Runs side by side as figures: their learning curves, and what two of them think of the same samples."""

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from scipy.special import expit, logit

from figleaf.errors import FigleafError
from figleaf.evaluate.figures import BLUE, GREY, ORANGE, STYLE
from figleaf.evaluate.metrics import DEFAULT_THRESHOLD
from figleaf.study.overlays import looks
from figleaf.study.run_comparison import same_samples
from figleaf.study.run_comparison_text import letter
from figleaf.tracking.find import FoundRun

# Closer to 0 or 1 a score says no more than "sure", and an axis of log-odds has to end.
_SUREST = 1e-6
_FINE = (0.1, 0.25, 0.5, 0.75, 0.9)  # ticks where all scores are in doubt
_COARSE = (1e-5, 1e-3, 0.05, 0.5, 0.95, 0.999, 1 - 1e-5)
_DOUBT = 3.0  # log-odds: scores from 0.05 to 0.95


def histories_plot(runs: Sequence[FoundRun], keys: Sequence[str] = ("epoch/val_auroc", "epoch/val_loss")) -> Figure:
    """A panel a metric, a line a run, over the steps. Raises `FigleafError` when no run has a value of any of them."""
    histories = {key: [run.history(key) for run in runs] for key in keys}
    drawn = {key: found for key, found in histories.items() if any(found)}
    if not drawn:
        raise FigleafError(f"no run has a value of {' or '.join(keys)}")
    with mpl.rc_context(dict(STYLE)):
        figure = Figure(figsize=(4.2 * len(drawn) + 0.4, 3.4), layout="constrained")
        FigureCanvasAgg(figure)
        panels: list[Axes] = list(figure.subplots(1, len(drawn), squeeze=False)[0])
        for axes, (key, found) in zip(panels, drawn.items(), strict=True):
            for index, (look, history) in enumerate(zip(looks(len(runs)), found, strict=True)):
                steps, values = zip(*history, strict=True) if history else ((), ())
                line = axes.plot(steps, values, marker="o", markersize=3.5, label=_called(runs, index))[0]
                line.set(**look)
            axes.set(title=key, xlabel="step")
            axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=2, fontsize=8)
    return figure


def scores_plot(first: FoundRun, other: FoundRun, split: str = "test") -> Figure:
    """The scores of two runs on the same samples, on scales of log-odds, with each run's own threshold.

    In two of the four fields the runs decide alike; in the others stand the samples that tell them apart. Scores closer
    to 0 or 1 than a millionth are drawn there. Raises `FigleafError` as `same_samples`.
    """
    runs = (first, other)
    samples = same_samples(runs, split)
    x, y = (np.clip(predictions.scores, _SUREST, 1 - _SUREST) for predictions in samples.runs)
    at = [run.metrics.get("val/threshold", DEFAULT_THRESHOLD) for run in runs]
    unlike = int(((samples.runs[0].scores >= at[0]) != (samples.runs[1].scores >= at[1])).sum())
    with mpl.rc_context(dict(STYLE)):
        figure = Figure(figsize=(5.2, 5.4), layout="constrained")
        FigureCanvasAgg(figure)
        axes: Axes = figure.subplots()
        edge = 1.1 * float(np.abs(logit(np.concatenate([x, y, np.clip(at, _SUREST, 1 - _SUREST)]))).max())
        ticks = [tick for tick in (_FINE if edge < _DOUBT else _COARSE) if abs(logit(tick)) < edge]
        bounds = (float(expit(-edge)), float(expit(edge)))
        axes.set(xscale="logit", yscale="logit", xlim=bounds, ylim=bounds)
        axes.axvline(at[0], color=GREY, linewidth=1, linestyle=(0, (4, 3)))
        axes.axhline(at[1], color=GREY, linewidth=1, linestyle=(0, (4, 3)))
        for is_unsafe, name, color in ((False, "safe", BLUE), (True, "unsafe", ORANGE)):
            of = samples.is_unsafe == is_unsafe
            axes.plot(x[of], y[of], "o", color=color, markersize=3.5, alpha=0.5, markeredgewidth=0, label=name)
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks], fontsize=8)
        axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks], fontsize=8)
        axes.minorticks_off()
        axes.set(xlabel=f"score of {_called(runs, 0)}", ylabel=f"score of {_called(runs, 1)}")
        axes.set_title(f"{split}: decided otherwise {unlike} of {len(x)}; dashed: thresholds", fontsize=9.5)
        figure.legend(loc="outside lower center", ncols=2)
    return figure


def _called(runs: Sequence[FoundRun], index: int) -> str:
    return f"{letter(index)}: {runs[index].name}"
