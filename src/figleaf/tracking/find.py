"""Finding runs: by id, by the start of an id, by name, by trial, or the latest.

A study's best is for `figleaf.study.best`.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from figleaf.errors import FigleafError
from figleaf.tracking.store import Store, first_line

KIND_TAG = "figleaf.kind"  # of runs that hold no model: the parent run of a study,
EVALUATION = "evaluation"  # the measurement of another run's weights, and
SEARCH = "search"  # an index of pictures
_SHORTEST_PREFIX = 4
_RUNS_PER_PAGE = 1000
_LISTED = 10
# What can stand in quotes in MLflow's filter language whatever its version; it has no escape for quotes.
_PLAIN = re.compile(r"[\w .:/+=@-]+", re.ASCII)


@dataclass(frozen=True)
class FoundRun:
    """A run as the tracker knows it; `metrics` holds the last value of each, `start_time_ms` is since the epoch."""

    run_id: str
    name: str
    status: str
    start_time_ms: int
    params: dict[str, str]
    metrics: dict[str, float]
    tags: dict[str, str]
    artifact_uri: str
    experiment_id: str
    _client: MlflowClient = field(repr=False, compare=False)
    _downloads: Path = field(repr=False, compare=False)

    @property
    def tracker(self) -> str:
        """The address of the tracker that has it, as in `tracking.uri`."""
        return str(self._client.tracking_uri)

    @property
    def folder(self) -> Path | None:
        """The run folder with checkpoints and journal, when it is on this machine."""
        folder = Path(self.tags.get("figleaf.folder", ""))
        return folder if "figleaf.folder" in self.tags and folder.is_dir() else None

    @property
    def selection(self) -> float:
        """The val metric by which runs are chosen, larger is better; minus infinity when the run has none."""
        value = float(self.tags.get("figleaf.selection") or "nan")
        return -math.inf if math.isnan(value) else value

    def artifact(self, name: str) -> Path:
        """Give a local path of the artifact `name` (a POSIX path); what lies elsewhere is downloaded into the home.

        Raises `FigleafError` that lists what there is when the run has no such artifact.
        """
        uri = urlsplit(self.artifact_uri)
        try:
            if uri.scheme == "file":
                path = Path(url2pathname(uri.path)) / name
                if path.exists():
                    return path
            else:
                self._downloads.mkdir(parents=True, exist_ok=True)
                return Path(self._client.download_artifacts(self.run_id, name, str(self._downloads)))
        except MlflowException as error:
            reason = first_line(error)
        else:
            reason = "no such file"
        raise FigleafError(
            f"run {self.name} ({self.run_id}) has no artifact {name!r} ({reason}); it has: {self._listing()}"
        )

    def add_artifact(self, file: Path, into: str) -> str:
        """Add `file` to the artifacts in the folder `into`, in place of one of that name, and give its path there.

        Raises `FigleafError` when the tracker or its artifact store cannot be written now.
        """
        try:
            self._client.log_artifact(self.run_id, str(file), into)
        except (MlflowException, OSError) as error:
            raise FigleafError(f"run {self.name} ({self.run_id}) takes no artifact now: {first_line(error)}") from error
        return f"{into}/{file.name}"

    def history(self, key: str) -> list[tuple[int, float]]:
        """Every value of one metric as (step, value), by step; empty when the run has none."""
        return sorted(
            ((row.step, row.value) for row in self._client.get_metric_history(self.run_id, key)), key=lambda row: row[0]
        )

    def _listing(self) -> str:
        try:
            return ", ".join(file.path for file in self._client.list_artifacts(self.run_id)) or "none"
        except MlflowException as error:
            return f"? ({first_line(error)})"


def runs(store: Store, *, study: str | None = None, status: str | None = None) -> list[FoundRun]:
    """List the project's runs, the latest first; only those of `study` and in `status` (MLflow's words) when given."""
    clauses = []
    if study is not None and _PLAIN.fullmatch(study):
        clauses.append(f"tags.`figleaf.study` = '{study}'")
    if status is not None:
        clauses.append(f"attributes.status = '{status}'")
    found = _search(store, " and ".join(clauses))
    return [run for run in found if study is None or run.tags.get("figleaf.study") == study]


def latest_runs(store: Store, count: int, kind: str | None = None) -> list[FoundRun]:
    """The last `count` to start of the runs of a kind that finished, the latest first; fewer where there are.

    `kind`: as in `KIND_TAG`; None for runs that hold a model.
    """
    return [run for run in runs(store, status="FINISHED") if run.tags.get(KIND_TAG) == kind][:count]


def studies(store: Store) -> list[str]:
    """The names of the studies that have runs, in alphabetical order."""
    return sorted({name for run in runs(store) if (name := run.tags.get("figleaf.study"))})


def find_run(store: Store, ref: str, kind: str | None = None, key: str = "run=") -> FoundRun:
    """Find the run that `ref` names.

    Args:
        store: Where to look: in the project's experiments, except for a whole run id.
        ref: A run id, the unique start of one (4 characters or more), a run name, `STUDY/ARM-SEED` (a trial as
            `figleaf study` calls it; of several runs the last that finished, else the last), or `latest` (the last to
            start of those that finished and hold a model, or are of the `kind`).
        kind: Of the run that `latest` means; see `latest_runs`.
        key: What a user writes before `ref`, for what is said of it.

    Raises:
        FigleafError: no run or several runs fit; the message lists candidates.
    """
    if ref == "latest":
        return _only(latest_runs(store, 1, kind), ref, store, key)
    if re.fullmatch(r"[0-9a-f]{32}", ref):
        try:
            return _found(store, store.client.get_run(ref))
        except MlflowException as error:
            raise FigleafError(f"{key}{ref}: {first_line(error)}; it has: {_candidates(store)}") from error
    if re.fullmatch(rf"[0-9a-f]{{{_SHORTEST_PREFIX},31}}", ref):
        by_id = _search(store, f"attributes.run_id LIKE '{ref}%'")
        if by_id:
            return _only(by_id, ref, store, key)
    named = _search(store, f"attributes.run_name = '{ref}'" if _PLAIN.fullmatch(ref) else "")
    found = [run for run in named if run.name == ref] or _of_trial(store, ref)
    return _only(found, ref, store, key)


def _of_trial(store: Store, ref: str) -> list[FoundRun]:
    """The run that counts of the trial `STUDY/ARM-SEED`, or none."""
    study, _, trial = ref.partition("/")
    if not trial:
        return []
    of_study = runs(store, study=study)
    found = [run for run in of_study if _trial_name(run) == trial]
    return ([run for run in found if run.status == "FINISHED"] or found)[:1]


def summary(found: Sequence[FoundRun]) -> list[dict[str, object]]:
    """Give one row a run: run_id, name, status, study, arm, seed, selection, folder ("" where unknown)."""
    return [
        {
            "run_id": run.run_id,
            "name": run.name,
            "status": run.status,
            **{key: run.tags.get(f"figleaf.{key}", "") for key in ("study", "arm", "seed", "selection")},
            "folder": "" if run.folder is None else str(run.folder),
        }
        for run in found
    ]


def _only(found: Sequence[FoundRun], ref: str, store: Store, key: str) -> FoundRun:
    if len(found) == 1:
        return found[0]
    if found:
        raise FigleafError(f"{key}{ref}: {len(found)} runs fit, give the id of one: {_listed(found)}")
    raise FigleafError(f"{key}{ref}: there is none; {_near(store, ref) or f'the latest runs: {_candidates(store)}'}")


def _near(store: Store, ref: str) -> str:
    """What might have been meant by a trial's name, or nothing: the trials of that study, or the studies with it."""
    study, slash, trial = ref.partition("/")
    if slash:
        names = sorted({_trial_name(run) for run in runs(store, study=study) if run.tags.get("figleaf.arm")})
        return f"trials of {study} with runs: {', '.join(names)}" if trial and names else ""
    of = sorted({run.tags.get("figleaf.study", "") for run in runs(store) if _trial_name(run) == ref})
    return f"it is a trial of {' and '.join(of)}: pass {of[0]}/{ref}" if of else ""


def _trial_name(run: FoundRun) -> str:
    """Arm and seed, as `figleaf study` and its records write them."""
    return f"{run.tags.get('figleaf.arm')}-{run.tags.get('figleaf.seed')}"


def _candidates(store: Store) -> str:
    return _listed(_search(store, "", limit=_LISTED)) or "none yet"


def _listed(found: Sequence[FoundRun]) -> str:
    return ", ".join(f"{run.run_id[:12]} {run.name} ({run.status})" for run in found[:_LISTED])


def _search(store: Store, filter_string: str, limit: int | None = None) -> list[FoundRun]:
    """Run one filter over the project's experiments, the latest start first, page by page."""
    found: list[FoundRun] = []
    token: str | None = None
    with store.explained():
        experiment_ids = store.experiment_ids()
        while experiment_ids:
            page = store.client.search_runs(
                experiment_ids,
                filter_string,
                max_results=limit or _RUNS_PER_PAGE,
                order_by=["attributes.start_time DESC", "attributes.run_id"],
                page_token=token,
            )
            found += [_found(store, run) for run in page]
            token = page.token
            if not token or limit is not None:
                break
    return found


def _found(store: Store, run: Run) -> FoundRun:
    return FoundRun(
        run.info.run_id,
        run.info.run_name,
        run.info.status,
        run.info.start_time,
        dict(run.data.params),
        dict(run.data.metrics),
        dict(run.data.tags),
        run.info.artifact_uri,
        str(run.info.experiment_id),
        store.client,
        store.home / "downloads" / run.info.run_id,
    )
