"""From a run in the tracker to what exported files, cards and pages say of it."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from figleaf.config import DataConfig, home
from figleaf.errors import FigleafError
from figleaf.export.facts import ModelFacts
from figleaf.tracking.find import FoundRun
from figleaf.vgg.skin_map import SHARE_THRESHOLD, SKIN_THRESHOLD

if TYPE_CHECKING:
    from figleaf.data.manifest import Manifest


def settings_of(run: FoundRun) -> dict[str, Any]:
    """The configuration of a run, as plain values. Raises `FigleafError` when its file holds none."""
    path = run.artifact("config.json")
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise FigleafError(f"{path}: not the configuration of run {run.name} ({error})") from error
    if not isinstance(settings, dict) or not isinstance(settings.get("data"), dict):
        raise FigleafError(f"{path}: not the configuration of run {run.name}: it does not say which data it had")
    return settings


def facts_of(run: FoundRun, metadata: Mapping[str, Any], settings: Mapping[str, Any], licence: str = "") -> ModelFacts:
    """What is known of a run whose weights carry `metadata`."""
    return ModelFacts(
        name=run.name,
        run_id=run.run_id,
        classes=tuple(metadata["classes"]),
        unsafe=tuple(metadata["unsafe"]),
        data_name=metadata["data_name"],
        data_hash=metadata["data_hash"],
        threshold=run.metrics.get("val/threshold"),
        metrics=run.metrics,
        # What is made of it is published, and a tracker's address may hold a password.
        settings={key: value for key, value in settings.items() if key != "tracking"},
        git_commit=run.tags.get("figleaf.git_commit", ""),
        git_dirty=run.tags.get("figleaf.git_dirty") == "true",
        licence=licence,
        skin_threshold=metadata.get(SKIN_THRESHOLD),
        share_threshold=metadata.get(SHARE_THRESHOLD),
        weights_run_id=run.tags.get("figleaf.weights_run_id", ""),
        compression=tuple(step["step"] for step in json.loads(run.tags.get("figleaf.weights_compression", "[]"))),
    )


def own_manifest(data: DataConfig, purpose: str, way_out: str) -> "Manifest":
    """The samples of a finished run, by its `data`. Raises `FigleafError` with the `way_out` when they have moved."""
    from figleaf.train.inputs import read_manifest

    try:
        return read_manifest(data, home())
    except FigleafError as error:
        raise FigleafError(
            f"the run's own pictures, {purpose}, cannot be found: {error}; start from the folder that the run started "
            f"from, or {way_out}"
        ) from error
