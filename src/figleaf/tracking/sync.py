"""Bringing to the tracker what a run could not deliver while it lived."""

from pathlib import Path

from mlflow.exceptions import MlflowException

from figleaf.errors import FigleafError
from figleaf.tracking.delivery import Delivery, Outbox
from figleaf.tracking.journal import MetricJournal, waiting_offsets
from figleaf.tracking.record import RunRecord, lock_folder
from figleaf.tracking.store import Store, first_line

_PLACES = ("runs/*", "studies/*", "searches/*/*")  # of run folders: of trainings, and of what is above several of them


def sync(store: Store, folder: Path) -> dict[str, object]:
    """Deliver what waits in the run folder, then the status the run ended with; safe to repeat.

    Of a run that ended well everything is delivered; of any other only what its last checkpoint covers, because a
    resume computes the rest again. A run that died without a word keeps its status: that is for `reap`.

    Returns:
        One row: `run_id`, `folder`, `status` (as told to the tracker, "" when it died without a word), `values`
        (metric values delivered) and `messages` (tags, parameters and files delivered).

    Raises:
        FigleafError: the folder holds no run of this store, its process still lives, or the tracker is away.
    """
    record = RunRecord.load(folder)
    if record is None:
        raise FigleafError(f"{folder}: no run.json there; expected a run folder in FIGLEAF_HOME/runs")
    lock = lock_folder(folder, wait_s=0)
    try:
        if record.find(store, store.experiment_ids()) is None or record.run_id is None:
            raise FigleafError(f"{folder}: its run {record.run_id} is not in this tracker; resume it to make it anew")
        journal, outbox = MetricJournal(folder / "journal.jsonl"), Outbox(folder)
        try:
            if record.outcome == "FINISHED":
                journal.commit()
            row = {
                "run_id": record.run_id,
                "folder": str(folder),
                "status": record.outcome or "",
                "values": journal.waiting,
                "messages": len(outbox),
            }
            Delivery(store.client, record.run_id, journal, outbox).deliver()
        finally:
            journal.close()
        if record.outcome is not None:
            record.tell_end(store, folder)
        return row
    except (MlflowException, OSError) as error:
        raise FigleafError(f"{folder}: the tracker takes nothing ({first_line(error)}); try again later") from error
    finally:
        lock.release()


def sync_all(store: Store, home: Path) -> list[dict[str, object]]:
    """Call `sync` for every run folder in `home` where something waits; its rows, with `error` ("" if none).

    A folder that cannot be synced, such as that of a living run, does not keep the others waiting.
    """
    rows = []
    for folder in sorted(path.parent for place in _PLACES for path in home.glob(f"{place}/run.json")):
        try:
            if _waits(folder):
                rows.append({**sync(store, folder), "error": ""})
        except FigleafError as error:
            rows.append(
                {"run_id": "", "folder": str(folder), "status": "", "values": 0, "messages": 0, "error": str(error)}
            )
    return rows


def _waits(folder: Path) -> bool:
    record = RunRecord.load(folder)
    if record is None:
        return False
    committed, delivered = waiting_offsets(folder / "journal.jsonl")
    return (
        (folder / "outbox.json").exists() or committed != delivered or (record.outcome is not None and not record.told)
    )
