"""What a search leaves in its results folder and in the tracker: a table of all trials, figures, and a page."""

import io
import warnings
from collections.abc import Sequence
from contextlib import redirect_stderr
from pathlib import Path

import matplotlib as mpl
from optuna.trial import FrozenTrial, TrialState

from figleaf.evaluate.figures import save_figure
from figleaf.files import write_text
from figleaf.study.render import csv_text
from figleaf.study.search.page import search_page
from figleaf.study.search.returns import Returns, returns_csv, returns_plot
from figleaf.study.search.trials import EPOCHS, ERROR, RUN_ID, SAME_AS, Trials
from figleaf.tracking.run import TrackedRun

FOLDER = "search"  # in a study's results
TABLE, PAGE = "trials.csv", "README.md"
_CURVE = "expected"  # the files of the best value against the number of trials
_STATES = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "queued",
}
_VALUE, _BEST = "search/value", "search/best"


def write_search(trials: Trials, folder: Path, command: str) -> list[Path]:
    """Write into `folder` the table of all trials, the figures there is enough for, and a page that shows them.

    `command` is what writes them again. Returns the files; what earlier results had and these have not is removed.
    """
    files = [write_text(folder / TABLE, trials_csv(trials))]
    drawn = {"history": "plot_optimization_history", "importance": "plot_param_importances"}
    for name, plot in drawn.items():
        path = folder / f"{name}.png"
        path.unlink(missing_ok=True)
        if _draw(trials, plot, path):
            files.append(path)
    files += _write_returns(trials, folder)
    return [*files, write_text(folder / PAGE, search_page(trials, {path.name for path in files}, command))]


def trials_csv(trials: Trials) -> str:
    """One line a trial that counts: number, state, value, the value's metric, settings, epochs, seconds, run, remarks.

    The value of a trial that was given up is that of its last epoch.
    """
    space = list(trials.space.section.space)
    lines: list[list[object]] = [
        ["trial", "state", "value", "metric", *space, "epochs", "seconds", "run_id", "same_as", "error"]
    ]
    for trial in trials.counted():
        settings = trials.space.settings(trial.params)
        notes = [trial.user_attrs.get(key) for key in (RUN_ID, SAME_AS, ERROR)]
        value, epochs = trial.value, trial.user_attrs.get(EPOCHS)
        lines.append(
            [
                trial.number,
                _STATES[trial.state],
                value,
                trials.metric,
                *map(settings.get, space),
                epochs,
                _seconds(trial),
                *notes,
            ]
        )
    return csv_text(lines)


def log_search(trials: Trials, files: Sequence[Path], parent: TrackedRun) -> None:
    """Give the search's own run the value of every trial that ended, by number, the best so far, and the files."""
    written = {row.step for row in parent.journal.rows() if row.key == _VALUE}
    sign, best = (1.0 if trials.mode == "max" else -1.0), None
    for trial in trials.counted():
        if trial.state is not TrialState.COMPLETE or trial.value is None:
            continue
        best = trial.value if best is None else sign * max(sign * best, sign * trial.value)
        if trial.number not in written:  # MLflow would keep a second row
            parent.journal.append({_VALUE: trial.value, _BEST: best}, trial.number)
    for file in files:
        parent.log_artifact(file)
    found = trials.best()
    if found is not None:
        parent.set_tags(
            {"figleaf.best_trial": str(found.number), "figleaf.best_run": str(found.user_attrs.get(RUN_ID))}
        )


def _write_returns(trials: Trials, folder: Path) -> list[Path]:
    """The best value against the number of trials: a table and, from two trials on, a figure."""
    table, figures = folder / f"{_CURVE}.csv", [folder / f"{_CURVE}{suffix}" for suffix in (".png", ".svg")]
    for path in (table, *figures):
        path.unlink(missing_ok=True)
    found = Returns.of(trials)
    if found is None:
        return []
    files = [write_text(table, returns_csv(found))]
    if found.budget.trials > 1:
        figure = returns_plot(trials, found)
        files += [save_figure(figure, path) for path in figures]
    return files


def _seconds(trial: FrozenTrial) -> float | None:
    return None if trial.duration is None else round(trial.duration.total_seconds(), 1)


def _draw(trials: Trials, plot: str, path: Path) -> bool:
    """Let Optuna draw; False where it finds too little to show, such as one finished trial or equal values."""
    values = {t.value for t in trials.counted() if t.state is TrialState.COMPLETE}
    if len(values) < 2:
        return False
    import matplotlib.pyplot as plt
    from optuna.visualization import matplotlib as drawings

    plt.switch_backend("Agg")
    with warnings.catch_warnings(), mpl.rc_context(), redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        try:
            axes = getattr(drawings, plot)(trials.study, target_name=trials.metric)
        except (ValueError, RuntimeError):  # importances of too few or all too equal trials
            return False
        figure = axes.figure
        figure.set_size_inches(7.0, 4.2)
        figure.set_layout_engine("tight")
        save_figure(figure, path)
        plt.close(figure)
    return True
