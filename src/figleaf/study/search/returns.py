"""What a search gave for its budget: the best value against the number of trials, and what the trials cost.

The trials of a random search and of a grid know nothing of each other, so they say what another search of n trials can
be expected to find (Dodge et al. 2019; `figleaf.evaluate.search_curve`). Those of TPE and CMA-ES depend on the ones
before: of these there is only what this one search had found by its n-th trial.
"""

import math
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from optuna.trial import FrozenTrial, TrialState

from figleaf.evaluate.figures import BLUE, GREY, STYLE
from figleaf.evaluate.metrics import natural_range
from figleaf.evaluate.search_curve import Mode, SearchCurve, best_so_far, expected_best
from figleaf.evaluate.weighted import Floats
from figleaf.study.figures import study_figure
from figleaf.study.machines import machine_text
from figleaf.study.render import csv_text
from figleaf.study.search.trials import EPOCHS, HARDWARE, SAME_AS, SAMPLER, Trials

_ENDED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
# What a model that knows nothing has: a failure is no better than that.
_KNOWING_NOTHING = {"auroc": 0.5, "nll": math.log(2), "brier": 0.25}
_LEVEL = 0.95
_SHARE = f"{100 * _LEVEL:.0f} %"


@dataclass(frozen=True)
class Budget:
    """What the ended trials cost: their number, the epochs trained, the machines.

    Not the time, which other work on a machine stretches: what was measured of it stands in the table of the trials.
    """

    trials: int
    epochs: int
    machines: tuple[str, ...]

    @property
    def text(self) -> str:
        """In one line."""
        words = f"{self.trials} trial{'s' * (self.trials != 1)}, {self.epochs} epoch{'s' * (self.epochs != 1)}"
        return words + (f", on {'; '.join(self.machines)}" if self.machines else "")


@dataclass(frozen=True, eq=False)
class Returns:
    """For the first n = 1 to N ended trials: the best value so far (N,) and the epochs trained by then (N,).

    `samplers` are those that proposed the trials, `expected` is there when it was one that does not learn. `n_given_up`
    trials count with the value of their last epoch, `n_failed` with `failure`.
    """

    metric: str
    samplers: tuple[str, ...]
    budget: Budget
    best: Floats
    epochs: Floats
    expected: SearchCurve | None
    n_given_up: int
    n_failed: int
    failure: float

    @classmethod
    def of(cls, trials: Trials) -> "Returns | None":
        """The returns of the trials that have ended, in the order they were begun; None before one has."""
        ended = [trial for trial in trials.counted() if trial.state in _ENDED]
        if not ended:
            return None
        failure = _failure(trials, [trial.value for trial in ended if trial.value is not None])
        values = [failure if _has_failed(trial) or trial.value is None else trial.value for trial in ended]
        epochs = np.cumsum([_epochs(trial) for trial in ended], dtype=np.float64)
        machines = {machine_text(trial.user_attrs[HARDWARE]) for trial in ended if trial.user_attrs.get(HARDWARE)}
        own, mode = trials.space.section.sampler, _mode(trials)
        samplers = sorted({str(trial.user_attrs.get(SAMPLER, own)) for trial in ended})
        return cls(
            metric=trials.metric,
            samplers=tuple(samplers),
            budget=Budget(len(ended), int(epochs[-1]), tuple(sorted(machines))),
            best=best_so_far(values, mode),
            epochs=epochs,
            expected=expected_best(values, mode=mode, replacement=samplers == ["random"], level=_LEVEL)
            if samplers in (["random"], ["grid"])
            else None,
            n_given_up=sum(trial.state is TrialState.PRUNED for trial in ended),
            n_failed=sum(map(_has_failed, ended)),
            failure=failure,
        )

    @property
    def is_of_a_grid(self) -> bool:
        """Whether the trials are combinations of a grid."""
        return self.samplers == ("grid",)

    @property
    def why_not(self) -> str:
        """Why there is no expected value, where there is none."""
        kind = "learned from the ones before" if len(self.samplers) == 1 else "are not of one kind"
        return f"the trials of {' and '.join(self.samplers)} {kind}"

    @property
    def expectation(self) -> dict[str, float] | None:
        """The expected best of `trials` trials, and the range of 95 % of such searches.

        Of as many as there are; of half as many combinations of a grid, of which all leave nothing to chance.
        """
        curve = self.expected
        if curve is None:
            return None
        n = (self.budget.trials + 1) // 2 if self.is_of_a_grid else self.budget.trials
        bounds = {"low": float(curve.low[n - 1]), "high": float(curve.high[n - 1])}
        return {"trials": n, "value": float(curve.expected[n - 1]), **bounds}

    @property
    def text(self) -> str:
        """What another search can be expected to find, in one line."""
        found = self.expectation
        if found is None:
            return f"none, since {self.why_not}; they speak for this one search only"
        how = "combinations of the grid taken at random" if self.is_of_a_grid else "random trials"
        span = f"{_SHARE} of such searches {found['low']:.4f} to {found['high']:.4f}"
        return f"{self.metric} {found['value']:.4f} of {found['trials']} {how}, {span}"

    @property
    def caption(self) -> list[str]:
        """Sentences that no drawing of the curve goes without."""
        return [*self._what(), *self._counted(), f"Budget: {self.budget.text}."]

    def _what(self) -> list[str]:
        if self.expected is None:
            return [
                f"Best {self.metric} of the first n trials, in the order they were begun.",
                f"No expected value is drawn, since {self.why_not}: another such search may find something else.",
            ]
        if self.is_of_a_grid:
            return [
                f"Expected best {self.metric} of n of these {self.budget.trials} combinations, each choice of n as "
                f"likely as another, and the range that holds the best of {_SHARE} of such searches.",
                "A grid is its author's choice: the curve says nothing on values between its lines.",
            ]
        return [
            f"Expected best {self.metric} of a random search of n trials (Dodge et al. 2019): n draws with "
            f"replacement from these {self.budget.trials}, and the range that holds the best of {_SHARE} of such "
            "searches.",
            "A trial drawn twice is no second chance, so the estimate errs to the worse side and ends short of the "
            "best trial.",
        ]

    def _counted(self) -> list[str]:
        kinds = [f"{self.n_given_up} given up with the value of their last epoch"] * bool(self.n_given_up)
        kinds += [f"{self.n_failed} failed with that of a failure ({self.failure:.4g})"] * bool(self.n_failed)
        return [f"Counted are all trials that used the budget: {', '.join(kinds)}."] if kinds else []


def returns_csv(found: Returns) -> str:
    """One line a number of trials: best so far, epochs trained by then, and, where there is one, the expected best."""
    lines: list[list[object]] = [["trials", "metric", "best_so_far", "epochs", "expected", "sd", "low", "high"]]
    for i, best in enumerate(found.best):
        curve = found.expected
        drawn = [None] * 4 if curve is None else [curve.expected[i], curve.sd[i], curve.low[i], curve.high[i]]
        digits = [None if value is None else f"{value:.10g}" for value in drawn]
        lines.append([i + 1, found.metric, f"{best:.10g}", int(found.epochs[i]), *digits])
    return csv_text(lines)


def returns_plot(trials: Trials, found: Returns) -> Figure:
    """The expected best with its range, and the best so far; of samplers that learn only the latter."""
    n = np.arange(1, found.budget.trials + 1)
    with mpl.rc_context(dict(STYLE)):
        figure = study_figure(trials.space.study, (7.0, 4.2))
        axes: Axes = figure.subplots()
        curve = found.expected
        if curve is None:
            axes.set_title(f"best so far, not the expected best: {found.why_not}", fontsize=9)
        else:
            name = "of n combinations of the grid" if found.is_of_a_grid else "Dodge et al. 2019"
            axes.fill_between(
                n, curve.low, curve.high, color=BLUE, alpha=0.2, linewidth=0, label=f"{_SHARE} of searches"
            )
            axes.plot(n, curve.expected, color=BLUE, label=f"expected best ({name})")
        color, width = (BLUE, 2.0) if curve is None else (GREY, 1.2)
        axes.step(n, found.best, where="post", color=color, linewidth=width, label="best so far, in order")
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        axes.set(xlabel="trials", ylabel=f"best {found.metric}", xlim=(1, max(2, found.budget.trials)))
        if curve is not None:
            axes.legend(loc="best")
    return figure


def _failure(trials: Trials, values: list[float]) -> float:
    """The value of a trial that failed: of a model that knows nothing, else the worst there can be or that was seen."""
    known = _KNOWING_NOTHING.get(trials.metric.rpartition("/")[2])
    if known is not None:
        return known
    least, greatest = natural_range(trials.metric)
    worst, seen = (least, min) if trials.mode == "max" else (greatest, max)
    return worst if math.isfinite(worst) else seen(values, default=0.0)


def _mode(trials: Trials) -> Mode:
    return "max" if trials.mode == "max" else "min"


def _has_failed(trial: FrozenTrial) -> bool:
    return trial.state is TrialState.FAIL


def _epochs(trial: FrozenTrial) -> int:
    """How many it trained; none when it took over what an earlier trial with the same settings had found."""
    if SAME_AS in trial.user_attrs:
        return 0
    return int(trial.user_attrs.get(EPOCHS) or max(trial.intermediate_values, default=0))
