"""From what a user calls a run, to the run.

RUN is an id, the start of one, a name, a trial `STUDY/ARM-SEED`, `latest`, `best:STUDY[:ARM]` or the registered model
`models:/NAME@ALIAS` or `models:/NAME/VERSION`, whose run is meant.
"""

from pathlib import Path

from figleaf.config import TrackingConfig, home
from figleaf.errors import FigleafError
from figleaf.study.best import PREFIX, find_best, find_trial
from figleaf.tracking.find import EVALUATION, KIND_TAG, SEARCH, FoundRun, find_run
from figleaf.tracking.registry import RUN_TAG, SCHEME, Version, find_version
from figleaf.tracking.store import open_store


def named_run(reference: str, tracking: TrackingConfig, kind: str | None = None, *, key: str = "run=") -> FoundRun:
    """The run that `reference` names; `latest` is that of the `kind`, by default of those that hold a model.

    `key` is what a user writes before it, for what is said of it.

    Raises `FigleafError`, with candidates, when it names none or several.
    """
    if reference.startswith(PREFIX):
        return find_best(reference, tracking, key)
    if reference.startswith(SCHEME):
        return _run_of(find_version(open_store(tracking.uri, home()), reference), tracking)
    try:
        return find_run(open_store(tracking.uri, home()), reference, kind, key)
    except FigleafError:
        # Slower: every configuration of the study is composed.
        if (counted := find_trial(reference, tracking)) is None:
            raise
        return counted


def _run_of(version: Version, tracking: TrackingConfig) -> FoundRun:
    if not version.run_id:
        raise FigleafError(f"{version.uri}: its run {version.tags.get(RUN_TAG, '')} is not in this tracker")
    return find_run(open_store(tracking.uri, home()), version.run_id)


def index_of(run: FoundRun) -> Path:
    """The folder of a run's index of pictures. Raises `FigleafError` for a run that has none on this machine."""
    from figleaf.train.searching import INDEX

    if run.folder is None or not (run.folder / INDEX).is_dir():
        raise FigleafError(
            f"run {run.name} ({run.run_id[:12]}) has no index of pictures here; `figleaf train model=search_...` and "
            "`figleaf similar --build` make one"
        )
    return run.folder / INDEX


def weights_of(run: FoundRun) -> Path:
    """The file of a run's best weights. Raises `FigleafError` for a run that holds none, such as an evaluation's."""
    if run.tags.get(KIND_TAG) == EVALUATION:
        trained = run.tags.get("figleaf.source_run_id", "")
        raise FigleafError(
            f"run {run.name} ({run.run_id[:12]}) holds no weights: it measured those of run {trained[:12]} by another "
            f"method; pass run={trained}"
        )
    if run.tags.get(KIND_TAG) == SEARCH:
        raise FigleafError(
            f"run {run.name} ({run.run_id[:12]}) holds no weights: it made an index of pictures; "
            f"`figleaf similar IMAGE --in run={run.run_id[:12]}` searches in it"
        )
    return run.artifact("model/best.safetensors")
