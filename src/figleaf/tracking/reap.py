"""Telling the truth about runs that died without a word: SIGKILL, a power cut, a lost node."""

import time

from figleaf.tracking.find import runs
from figleaf.tracking.heartbeat import TAG, Beat
from figleaf.tracking.store import Store


def reap(store: Store, *, stale_after_s: float = 120.0) -> list[dict[str, object]]:
    """Mark as KILLED the runs that say RUNNING but have been silent for `stale_after_s` seconds.

    A run whose process still lives on this host is left alone however long it was silent: it may be stopped or swapped
    out. The end time is that of the last sign of life. Runs without one were not started by this project: left alone.

    Returns:
        One row a run marked: `run_id`, `name`, `host`, `silent_s`, `folder` ("" when on another machine).

    Raises:
        FigleafError: the tracker is away, or cannot be written.
    """
    rows: list[dict[str, object]] = []
    for run in runs(store, status="RUNNING"):
        if TAG not in run.tags:
            continue
        beat = Beat.parse(run.tags[TAG])
        if not beat.is_dead(stale_after_s):
            continue
        with store.explained():
            store.client.set_terminated(run.run_id, "KILLED", int(beat.time * 1000))
        rows.append(
            {
                "run_id": run.run_id,
                "name": run.name,
                "host": beat.host,
                "silent_s": round(time.time() - beat.time),
                "folder": "" if run.folder is None else str(run.folder),
            }
        )
    return rows
