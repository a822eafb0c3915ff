"""A study's results folder and page, written from the tracker: the same runs give the same bytes."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from figleaf.errors import FigleafError
from figleaf.evaluate.figures import save_figure
from figleaf.files import atomic_path, write_text
from figleaf.study.expected import Verdict
from figleaf.study.figures import curves_plot, interval_plot
from figleaf.study.plan import COMMIT_TAG, DATA_HASH_TAG, FINGERPRINT_TAG, Trial
from figleaf.study.render import csv_text, to_csv, to_html, to_latex, to_markdown
from figleaf.study.spec import FILE_NAME, Study
from figleaf.study.table import Table, arm_rows, build_table, title_of
from figleaf.tracking.find import FoundRun

PREDICTIONS = "predictions.parquet"  # as runs keep them
_FINAL = ("val/", "test/", "cost/", "time/")
_RUN_FIELDS = ("arm", "seed", "status", "note", "data_note", "run_id", "fingerprint", "data_hash", "commit", "dirty")


def write_results(study: Study, trials: Sequence[Trial], verdicts: Sequence[Verdict], command: str) -> Path:
    """Write `results/` and `README.md` of the study's folder and return the former.

    Tables, figures, one line a run with all of its metrics, and every run's predictions, so that each number can be
    computed again. What was there before is replaced. Raises `FigleafError` when no trial has finished: the results
    of another machine may stand there.
    """
    finished = [(trial, trial.run) for trial in trials if trial.run is not None]
    folder = study.folder / "results"
    if not finished:
        raise FigleafError(
            f"study {study.name}: the tracker has no finished run of it, so nothing is written; "
            f"`figleaf study run {study.name}` makes them"
            + (f" ({folder} holds earlier results)" if folder.exists() else "")
        )
    table = build_table(study, trials, hardware_of([run for _, run in finished]))
    rows = arm_rows(study, trials)
    markdown = f"<!-- {_generated(command)} -->\n\n{to_markdown(table)}"
    write_text(folder / "table.md", markdown)
    write_text(folder / "table.tex", f"% {_generated(command)}\n{to_latex(table, study.name)}")
    write_text(folder / "table.html", to_html(table).replace("\n", f"<!-- {_generated(command)} -->\n", 1))
    write_text(folder / "table.csv", to_csv(study, rows))
    write_text(folder / "runs.csv", runs_csv(study, trials))
    figure = interval_plot(study, trials)
    curves = {arm: [_curve(t.run, study) for t in trials if t.arm == arm and t.run is not None] for arm in study.arms}
    for suffix in (".png", ".svg"):
        save_figure(figure, folder / f"figure{suffix}")
        save_figure(curves_plot(study, curves), folder / f"curves{suffix}")
    _keep_predictions(finished, folder / "predictions")
    write_text(study.folder / "README.md", _page(study, table, trials, verdicts, command))
    return folder


def runs_csv(study: Study, trials: Sequence[Trial]) -> str:
    """One line a trial, the missing ones included: where it comes from and every final metric, exactly."""
    keys = sorted(
        {key for trial in trials if trial.run for key in trial.run.metrics if key.startswith(_FINAL)},
        key=lambda key: ([key.startswith(prefix) for prefix in _FINAL].index(True), key),
    )
    lines: list[list[object]] = [[*_RUN_FIELDS, *keys]]
    for trial in trials:
        line: list[object] = [trial.arm, trial.seed, trial.status.value, _reason(trial), study.data_note]
        if trial.run is None:
            lines.append(line + [None] * (len(lines[0]) - len(line)))
            continue
        tags = trial.run.tags
        line += [trial.run.run_id, *(tags.get(tag, "") for tag in (FINGERPRINT_TAG, DATA_HASH_TAG, COMMIT_TAG))]
        line += [tags.get("figleaf.git_dirty", ""), *(trial.run.metrics.get(key) for key in keys)]
        lines.append(line)
    return csv_text(lines)


def hardware_of(runs: Sequence[FoundRun]) -> list[str]:
    """The machines of `runs` in words, each once, in alphabetical order."""
    return sorted({words for run in runs if (words := _machine(run))})


def _machine(run: FoundRun) -> str:
    try:
        found = json.loads(run.artifact("hardware.json").read_text(encoding="utf-8"))
    except FigleafError:
        return ""
    words = f"{found['cpu']}, {found['usable_cores']} of {found['cores']} cores, {found['memory_gib']:.0f} GiB"
    threads = found.get("torch_threads")
    words += f", {threads} thread{'s' if threads > 1 else ''} a run" if threads else ""
    return ", ".join([words, *found.get("gpus", [])])


def _curve(run: FoundRun, study: Study) -> list[float]:
    return [value for _, value in run.history(study.figure.curve)]


def _keep_predictions(finished: Sequence[tuple[Trial, FoundRun]], folder: Path) -> None:
    """Copy each run's predictions to ARM-SEED.parquet; files of trials that are no longer there are removed."""
    names = {f"{trial.name}.parquet" for trial, _ in finished}
    for old in folder.glob("*.parquet"):
        if old.name not in names:
            old.unlink()
    for trial, run in finished:
        source = run.artifact(PREDICTIONS)
        with atomic_path(folder / f"{trial.name}.parquet") as temporary:
            shutil.copyfile(source, temporary)


def _generated(command: str) -> str:
    return f'Generated by "{command}" from the tracker; do not edit.'


def _reason(trial: Trial) -> str:
    """Why a trial is not in the table. What is said of finished ones depends on today's commit, so it is left out."""
    return "" if trial.run is not None else trial.note


def _page(study: Study, table: Table, trials: Sequence[Trial], verdicts: Sequence[Verdict], command: str) -> str:
    """The study's README."""
    parts = [
        f"<!-- {_generated(command)} -->",
        f"# {title_of(study)}",
        study.question,
        f"`figleaf study run {study.name}` trains what is missing, `{command}` writes this page. "
        f"The arms are in [{FILE_NAME}]({FILE_NAME}).",
        to_markdown(table).partition("\n\n")[2].strip(),  # its title is the page's
        f"![{study.figure.key or study.table.columns[0].key} of every arm](results/figure.svg)",
        f"![{study.figure.curve} by epoch](results/curves.svg)",
        "The table as [LaTeX](results/table.tex), [CSV](results/table.csv) and [HTML](results/table.html); "
        "[every run](results/runs.csv) with all of its metrics; every run's predictions in `results/predictions/`.",
    ]
    if verdicts:
        parts += ["## Expected", "\n".join(f"- {verdict}" for verdict in verdicts)]
    return "\n\n".join(parts) + "\n"
