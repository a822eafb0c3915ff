"""Moving runs between trackers through an archive: from a cluster without network to the team's server, and back.

A run keeps the id it was born with as its identity: in an archive it goes by that id, and in another tracker, which
gives it an id of its own, the tag `figleaf.imported_from` holds it. So nothing is there twice, whichever way it came.
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from filelock import FileLock, Timeout
from mlflow.entities import Metric
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from figleaf.errors import FigleafError
from figleaf.files import explained
from figleaf.tracking.archive import Archive, ArchivedRun, ArchiveWriter, RunHead, new_archive, safe_path
from figleaf.tracking.delivery import TROUBLE, Message
from figleaf.tracking.find import FoundRun, runs, studies
from figleaf.tracking.journal import Row
from figleaf.tracking.store import Store, first_line

ORIGIN_TAG = "figleaf.imported_from"
DIGEST_TAG = "figleaf.import_digest"  # set last: what was imported, whole
_PARENT_TAG = "mlflow.parentRunId"
_METRICS_PER_CALL = 1000  # MLflow's limit
_ENDED = ("FINISHED", "FAILED", "KILLED")


def export_runs(
    store: Store, folder: Path, chosen: Sequence[FoundRun] = (), *, study: str | None = None
) -> list[dict[str, object]]:
    """Write runs, with all they hold, to the new `folder`.

    Those `chosen` and those of `study`; without either, all of the project. Parents come along with their children and
    children with their parent.

    Returns:
        One row a run: `run_id` (that it was born with), `name`, `status`, `metric_rows`, `artifacts`, `bytes`.

    Raises:
        FigleafError: there are none, something stands in the folder, or the tracker does not give what it has.
    """
    known = {run.run_id: run for run in runs(store)}
    wanted = {run.run_id: run for run in chosen}
    wanted |= {run.run_id: run for run in known.values() if study is not None and _is_of_study(run, study)}
    if not chosen and study is None:
        wanted = dict(known)
    if not wanted:
        of_study = (
            "" if study is None else f" of study {study}; studies with runs: {', '.join(studies(store)) or 'none'}"
        )
        raise FigleafError(f"there are no runs to export{of_study}")
    family = _with_family(wanted, known)
    experiments: dict[str, str] = {}
    rows: list[dict[str, object]] = []
    with new_archive(folder) as archive:
        for run in family.values():
            try:
                taken = _taken(store, run, family, experiments, archive)
            except (MlflowException, OSError) as error:
                raise FigleafError(f"run {run.name} ({run.run_id}) cannot be read: {first_line(error)}") from error
            archive.add(taken)
            rows.append(
                {
                    "run_id": taken.head.run_id,
                    "name": taken.head.name,
                    "status": taken.head.status,
                    "metric_rows": len(taken.metrics),
                    "artifacts": len(taken.artifacts),
                    "bytes": sum(file.bytes for file in taken.artifacts),
                }
            )
    return rows


def import_runs(store: Store, folder: Path) -> list[dict[str, object]]:
    """Bring the runs of the archive `folder` into the tracker; safe to repeat, after an interruption, too.

    The archive is checked as a whole first. A run that is there already gets what it lacks; the one that the archive
    was made from, in its own tracker, is left alone.

    Returns:
        One row a run: `run_id` (in this tracker), `imported_from`, `name`, and `action`: imported, completed,
        unchanged, or original.

    Raises:
        FigleafError: the archive is not whole, or the tracker does not take it.
    """
    archive = Archive(folder)
    with explained(store.home):
        store.home.mkdir(parents=True, exist_ok=True)
        lock = FileLock(store.home / ".import.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise FigleafError("another import is running; two at a time could make a run twice") from None
    try:
        return _imported(store, archive)
    except TROUBLE as error:
        raise FigleafError(f"the tracker does not take it ({first_line(error)}); import again to go on") from error
    finally:
        lock.release()


def run_born_as(store: Store, run_id: str) -> FoundRun | None:
    """The run that has this id, or was imported from one that has; None when it is not in this tracker."""
    return next((run for run in runs(store) if run_id and run_id in (run.run_id, _origin(run))), None)


def _imported(store: Store, archive: Archive) -> list[dict[str, object]]:
    places: dict[str, str] = {}
    digests: dict[str, str] = {}
    originals: set[str] = set()
    for there in runs(store):
        originals.add(there.run_id)
        places[_origin(there)] = there.run_id
        digests[there.run_id] = there.tags.get(DIGEST_TAG, "")
    rows: list[dict[str, object]] = []
    for run in _parents_first([archive.run(run_id) for run_id in archive.digests]):
        origin, digest = run.head.run_id, archive.digests[run.head.run_id]
        place = places.get(origin)
        if origin in originals:
            place, action = origin, "original"
        elif place is not None and digests[place] == digest:
            action = "unchanged"
        else:
            action = "imported" if place is None else "completed"
            place = _made(store, run) if place is None else place
            _fill(store.client, place, run, archive, places, digest)
        places[origin] = place
        rows.append({"run_id": place, "imported_from": origin, "name": run.head.name, "action": action})
    return rows


def _made(store: Store, run: ArchivedRun) -> str:
    """An empty run that carries its origin from the first moment, so that an interrupted import finds it again."""
    made = store.client.create_run(
        store.experiment(run.head.experiment),
        start_time=run.head.start_time_ms,
        tags={ORIGIN_TAG: run.head.run_id},
        run_name=run.head.name,
    )
    return str(made.info.run_id)


def _fill(
    client: MlflowClient, run_id: str, run: ArchivedRun, archive: Archive, places: Mapping[str, str], digest: str
) -> None:
    """Give a run all it lacks; the tracker swallows metric rows that it has. The digest comes last."""
    tags = dict(run.tags)
    parent = run.head.parent_run_id
    if parent is not None and parent in places:
        tags[_PARENT_TAG] = places[parent]
    known = client.get_run(run_id).data.params
    Message(tags, {key: value for key, value in run.params.items() if key not in known}).send(client, run_id)
    rows = [Metric(row.key, row.value, row.time_ms, row.step) for row in run.metrics]
    for start in range(0, len(rows), _METRICS_PER_CALL):
        client.log_batch(run_id, metrics=rows[start : start + _METRICS_PER_CALL])
    for artifact in run.artifacts:
        into = artifact.path.rpartition("/")[0] or None
        client.log_artifact(run_id, str(archive.file(run.head.run_id, artifact)), into)
    if run.head.status in _ENDED:
        client.set_terminated(run_id, run.head.status, run.head.end_time_ms)
    client.set_tag(run_id, DIGEST_TAG, digest)


def _taken(
    store: Store, run: FoundRun, family: Mapping[str, FoundRun], experiments: dict[str, str], archive: ArchiveWriter
) -> ArchivedRun:
    """All that the tracker has of a run; its files are downloaded into the archive."""
    info = store.client.get_run(run.run_id).info
    if info.experiment_id not in experiments:
        experiments[info.experiment_id] = store.client.get_experiment(info.experiment_id).name
    origin, parent = _origin(run), run.tags.get(_PARENT_TAG)
    head = RunHead(
        run_id=origin,
        name=run.name,
        experiment=experiments[info.experiment_id],
        status=run.status,
        start_time_ms=run.start_time_ms,
        end_time_ms=info.end_time,
        parent_run_id=_origin(family[parent]) if parent is not None and parent in family else parent,
    )
    folder = archive.artifact_folder(origin)
    paths = _artifact_paths(store.client, run.run_id)
    for path in paths:
        _download(store.client, run.run_id, path, folder / path)
    metrics = [
        Row(metric.step, metric.timestamp, key, _true_value(metric.value))
        for key in run.metrics
        for metric in store.client.get_metric_history(run.run_id, key)
    ]
    tags = {key: value for key, value in run.tags.items() if key not in (ORIGIN_TAG, DIGEST_TAG, _PARENT_TAG)}
    return ArchivedRun(head, run.params, tags, metrics, [archive.artifact(origin, path) for path in paths])


def _download(client: MlflowClient, run_id: str, path: str, place: Path) -> None:
    """Put a file of a run at `place`. Where below its target MLflow puts one depends on the kind of tracker."""
    place.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".download-", dir=place.parent) as target:
        try:
            Path(client.download_artifacts(run_id, path, target)).replace(place)
        except MlflowException as error:  # which names the last part of the path only
            raise FigleafError(f"run {run_id}: its artifact {path!r} cannot be read: {first_line(error)}") from error


def _artifact_paths(client: MlflowClient, run_id: str, below: str | None = None) -> list[str]:
    """Every file of a run. The tracker may be a stranger's: paths are checked before anything is written there."""
    paths: list[str] = []
    for entry in client.list_artifacts(run_id, below):
        path = safe_path(entry.path)
        paths += _artifact_paths(client, run_id, path) if entry.is_dir else [path]
    return sorted(paths)


def _true_value(value: float) -> float:
    """MLflow's databases hold infinity as the largest number there is."""
    return value if abs(value) < sys.float_info.max else value * 2


def _with_family(wanted: Mapping[str, FoundRun], known: Mapping[str, FoundRun]) -> dict[str, FoundRun]:
    """The runs, their parents upwards, and all below them; parents of other children bring only themselves."""
    family = dict(wanted)
    children: dict[str, list[FoundRun]] = {}
    for run in known.values():
        children.setdefault(run.tags.get(_PARENT_TAG, ""), []).append(run)
    below = list(wanted.values())
    while below:
        run = below.pop()
        below += [child for child in children.get(run.run_id, []) if child.run_id not in family]
        family[run.run_id] = run
    for run in list(family.values()):
        parent = known.get(run.tags.get(_PARENT_TAG, ""))
        while parent is not None and parent.run_id not in family:
            family[parent.run_id] = parent
            parent = known.get(parent.tags.get(_PARENT_TAG, ""))
    return family


def _parents_first(archived: Sequence[ArchivedRun]) -> list[ArchivedRun]:
    """In an order in which a parent is there before its children."""
    by_id = {run.head.run_id: run for run in archived}

    def depth(run: ArchivedRun) -> int:
        seen = {run.head.run_id}
        parent = run.head.parent_run_id
        while parent in by_id and parent not in seen:
            seen.add(parent)
            parent = by_id[parent].head.parent_run_id
        return len(seen)

    return sorted(archived, key=lambda run: (depth(run), run.head.start_time_ms, run.head.run_id))


def _origin(run: FoundRun) -> str:
    return run.tags.get(ORIGIN_TAG, run.run_id)


def _is_of_study(run: FoundRun, study: str) -> bool:
    """One of its trials, or the study's own run, which is named after it."""
    return run.tags.get("figleaf.study") == study or (
        run.tags.get("figleaf.kind") == "study" and run.name == f"study {study}"
    )
