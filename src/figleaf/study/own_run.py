"""The study's own run in the tracker: the parent of its trials, which carries what they found together."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from figleaf.config import home
from figleaf.study.pages import description, first_description, run_list, study_pages
from figleaf.study.plan import Knowledge, Trial
from figleaf.study.results import aggregated, draw, find, recorded
from figleaf.study.spec import Study
from figleaf.tracking.links import DESCRIPTION_TAG, keep_view
from figleaf.tracking.record import RunRecord, is_locked
from figleaf.tracking.run import TrackedRun
from figleaf.tracking.store import Store

_SHOWN_TAG = "figleaf.trials_shown"  # of how many trials its results are


@contextmanager
def study_run(study: Study, trials: Sequence[Trial], store: Store) -> Iterator[TrackedRun]:
    """The study's own run, made or resumed; its description leads to the list of the trials' runs."""
    tracking = trials[0].config.tracking
    with TrackedRun.start(
        store,
        experiment=tracking.experiment,
        name=f"study {study.name}",
        folder=_folder(study),
        params={"question": study.question, "arms": list(study.arms), "seeds": list(study.seeds)},
        tags={"figleaf.kind": "study"},
        exit_wait_s=tracking.delivery_seconds,
    ) as parent:
        experiment_id, view = store.experiment(tracking.experiment), run_list(study, trials)
        keep_view(store, experiment_id, view)
        parent.set_tag(DESCRIPTION_TAG, first_description(study, experiment_id, view))
        yield parent


def has_open_end(study: Study, trials: Sequence[Trial], known: Knowledge) -> bool:
    """Whether every trial is done, and the study's run either was never ended or has results of fewer trials.

    A trial that a dying driver left behind may come to its end by itself, after the next driver has looked.
    """
    record = RunRecord.load(_folder(study))
    parent = next((run for run in known.runs if record is not None and run.run_id == record.run_id), None)
    if parent is None or any(trial.run is None for trial in trials) or is_locked(_folder(study)):
        return False
    return parent.status != "FINISHED" or int(parent.tags.get(_SHOWN_TAG, len(trials))) < len(trials)


def log_results(study: Study, trials: Sequence[Trial], known: Knowledge, store: Store, parent: TrackedRun) -> None:
    """Give the study's run what its trials found: aggregated metrics, by finished trials, tables and figures.

    Its description leads to the pages that show the trials, list and comparison.
    """
    pages = study_pages(study, trials, known)
    if pages is not None:
        keep_view(store, pages.experiment_id, pages.runs)
    if not any(trial.run for trial in trials):
        return
    trials, folder = recorded(trials), parent.folder / "results"
    found = find(study, trials)
    draw(study, trials, found, folder, f"figleaf study run {study.name}")
    step = sum(trial.run is not None for trial in trials)
    if all(row.step != step for row in parent.journal.rows()):  # a row would stand there twice
        parent.journal.append(aggregated(found), step)
    parent.log_artifact(folder)
    parent.set_tag(_SHOWN_TAG, str(step))
    if pages is not None:
        parent.set_tag(DESCRIPTION_TAG, description(study, pages, found.table))


def _folder(study: Study) -> Path:
    """Where the study's own run keeps its files."""
    return home() / "studies" / study.name
