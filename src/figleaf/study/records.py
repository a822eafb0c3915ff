"""Records: what a study keeps of a finished run, small enough to commit.

`results/records/ARM-SEED.json` holds configuration, provenance, metrics and learning curves, `ARM-SEED.parquet` beside
it the logits and, of a search, how good each answer was, and `results/samples-HASH.parquet` the samples they belong to,
once for all runs on the same data. From these a fresh clone computes every table, figure and interval again, without
the tracker and without training.
"""

import hashlib
import json
import math
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from figleaf.config import TrainConfig, fingerprint
from figleaf.errors import FigleafError
from figleaf.evaluate.predictions import SAMPLE_COLUMNS, Predictions
from figleaf.files import atomic_path, sha256_file, write_text
from figleaf.tracking.find import FoundRun

FORMAT_VERSION = 1
FOLDER = "records"  # in a study's results
_HISTORY = "epoch/"  # the metrics of which every value is kept
_METADATA = ("classes", "unsafe", "data_name", "data_hash")  # of predictions
ARM_TAG, SEED_TAG, STUDY_TAG = "figleaf.arm", "figleaf.seed", "figleaf.study"
FINGERPRINT_TAG = "figleaf.fingerprint"
DATA_HASH_TAG = "figleaf.data_hash"
COMMIT_TAG, DIRTY_TAG = "figleaf.git_commit", "figleaf.git_dirty"
BEST_TAG = "figleaf.best_sha256"  # of the checkpoint that was measured
_KEPT_TAGS = (
    *(STUDY_TAG, ARM_TAG, SEED_TAG, FINGERPRINT_TAG, DATA_HASH_TAG, COMMIT_TAG, DIRTY_TAG),
    *("figleaf.data_name", "figleaf.weights_sha256", "figleaf.teacher_sha256", BEST_TAG, "figleaf.source_run_id"),
    *("figleaf.weights_run_id", "figleaf.weights_compression"),
)
# Where this machine keeps things, and, in a tracker's address, perhaps a password.
_LOCAL = ("tracking", "parent_run_id", "resume")
_PATHS = ("manifest", "root", "weights", "teacher")  # of `data`, `model` and `distill`

_SAMPLES = pa.schema([pa.field(name, pa.string(), nullable=False) for name in SAMPLE_COLUMNS])
_LOGITS = pa.schema(
    [
        pa.field("sample", pa.int32(), nullable=False),  # row of the samples' file
        pa.field("logits", pa.list_(pa.float32())),
        pa.field("variant", pa.string(), nullable=False),
        pa.field("error", pa.string()),
    ]
)


class FinishedRun(Protocol):
    """What tables and curves read of a run: the tracker's, or a record of it."""

    @property
    def run_id(self) -> str:
        """The tracker's name for it."""

    @property
    def status(self) -> str:
        """MLflow's word."""

    @property
    def metrics(self) -> Mapping[str, float]:
        """The last value of each metric."""

    @property
    def tags(self) -> Mapping[str, str]:
        """What is noted of it."""

    def history(self, key: str) -> list[tuple[int, float]]:
        """Every value of a metric as (step, value), by step; empty when there is none."""


@dataclass(frozen=True)
class Record:
    """A finished run without the tracker.

    `config` is its resolved configuration without what is this machine's own, `tags` are those of the tracker that say
    where it comes from. `metrics` holds the final values, `curves` every value of the metrics that are measured once an
    epoch, as (step, value).
    """

    run_id: str
    config: dict[str, Any]
    tags: dict[str, str]
    hardware: dict[str, Any]
    metrics: dict[str, float]
    curves: dict[str, list[tuple[int, float]]]
    _read_predictions: Callable[[], Predictions] = field(repr=False, compare=False)

    @classmethod
    def of(cls, run: FoundRun) -> Self:
        """Read a run from the tracker. Raises `FigleafError` when an artifact is missing."""
        config = _json(run.artifact("config.json"))
        return cls(
            run_id=run.run_id,
            config=_portable({key: value for key, value in config.items() if key not in _LOCAL}),
            tags={tag: run.tags[tag] for tag in _KEPT_TAGS if tag in run.tags},
            hardware=_json(run.artifact("hardware.json")),
            metrics={key: value for key, value in run.metrics.items() if not key.startswith(_HISTORY)},
            curves={key: run.history(key) for key in run.metrics if key.startswith(_HISTORY)},
            _read_predictions=lambda: Predictions.load(run.artifact("predictions.parquet")),
        )

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read `results/records/ARM-SEED.json`.

        Raises `FigleafError` that names the file when it is broken or of another format.
        """
        found, results = _json(path), path.parent.parent
        logits = path.with_suffix(".parquet")
        if found.get("format_version") != FORMAT_VERSION:
            version = found.get("format_version")
            raise FigleafError(f"{path}: format_version={version}, expected {FORMAT_VERSION}: {_way_out(path.stem)}")
        if found.pop("sha256", None) != _digest(found):
            raise FigleafError(
                f"{path}: is not what was recorded; results are measured, not typed: {_way_out(path.stem)}"
            )
        try:
            expected_logits = found["logits_sha256"]
            return cls(
                run_id=found["run_id"],
                config=found["config"],
                tags=found["tags"],
                hardware=found["hardware"],
                metrics={key: float(value) for key, value in found["metrics"].items()},
                curves={key: [(step, float(value)) for step, value in rows] for key, rows in found["curves"].items()},
                _read_predictions=lambda: _read(logits, _samples(results, found["tags"]), expected_logits),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise FigleafError(f"{path}: not a record ({error!r}): {_way_out(path.stem)}") from error

    @cached_property
    def predictions(self) -> Predictions:
        """Of val and test. Raises `FigleafError` that names the file when it is missing or broken."""
        return self._read_predictions()

    @property
    def status(self) -> str:
        """Only finished runs are recorded."""
        return "FINISHED"

    def history(self, key: str) -> list[tuple[int, float]]:
        """Every value of a per-epoch metric as (step, value), by step; empty when there is none."""
        return self.curves.get(key, [])

    def is_of(self, config: TrainConfig, data_hash: str | None = None) -> bool:
        """Whether this is a run of `config`, on the data of `data_hash` when that is given.

        Where a manifest or a file of weights lies makes no difference; where it is absent, the record's own counts.
        """
        own = self.tags[DATA_HASH_TAG]
        if data_hash is not None and data_hash != own:
            return False
        absent = (self.tags.get(tag, "") for tag in ("figleaf.weights_sha256", "figleaf.teacher_sha256"))
        return fingerprint(config, own, *absent) == self.tags[FINGERPRINT_TAG]

    def save(self, results: Path, name: str) -> Path:
        """Write the record to a results folder and return its JSON file. Equal records give equal bytes."""
        path = results / FOLDER / f"{name}.json"
        logits = path.with_suffix(".parquet")
        _write(self.predictions, logits, results)
        content = {
            "format_version": FORMAT_VERSION,
            "run_id": self.run_id,
            "tags": self.tags,
            "config": self.config,
            "hardware": self.hardware,
            "metrics": {key: _plain(value) for key, value in self.metrics.items()},
            "curves": {key: [[step, _plain(value)] for step, value in rows] for key, rows in self.curves.items()},
            "logits_sha256": sha256_file(logits),
        }
        content["sha256"] = _digest(content)
        return write_text(path, json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n")


def load_records(results: Path) -> dict[str, Record]:
    """Every record of a results folder by its name, ARM-SEED. Raises `FigleafError` that names a broken file."""
    return {path.stem: Record.load(path) for path in sorted((results / FOLDER).glob("*.json"))}


def records_of_other_studies(results: Path) -> list[Record]:
    """Every record of the studies beside that of `results`, but for broken ones, of which their own study tells."""
    found = []
    for path in sorted(results.parent.parent.glob(f"*/{results.name}/{FOLDER}/*.json")):
        if path.parent.parent != results:
            with suppress(FigleafError):
                found.append(Record.load(path))
    return found


def prune(results: Path, names: set[str]) -> None:
    """Delete the records that are not among `names`, and the samples that no record refers to any more."""
    for path in (results / FOLDER).glob("*.*"):
        if path.suffix in (".json", ".parquet") and path.stem not in names:
            path.unlink()
    used = {_samples(results, record.tags) for record in load_records(results).values()}
    for path in results.glob("samples-*.parquet"):
        if path not in used:
            path.unlink()


def _samples(results: Path, tags: Mapping[str, str]) -> Path:
    return results / f"samples-{tags[DATA_HASH_TAG][:12]}.parquet"


def _write(predictions: Predictions, path: Path, results: Path) -> None:
    table = predictions.table
    shared = _samples(results, {DATA_HASH_TAG: predictions.data_hash})
    if not shared.exists():
        rows = table.loc[:, list(SAMPLE_COLUMNS)].drop_duplicates(ignore_index=True)
        with atomic_path(shared) as temporary:
            pq.write_table(pa.Table.from_pandas(rows, _SAMPLES, preserve_index=False), temporary, compression="zstd")
        _read_samples.cache_clear()
    known = _read_samples(shared)
    index = pd.Series(np.arange(len(known), dtype=np.int32), index=known["sample_id"])
    try:
        rows_of = index.loc[table["sample_id"]].to_numpy()
    except KeyError as error:
        raise FigleafError(
            f"{shared}: lacks samples of a run on the same data ({error}); delete it to write it anew"
        ) from error
    columns = {
        "sample": pa.array(rows_of),
        "logits": pa.array(table["logits"], _LOGITS.field("logits").type, from_pandas=True),
        "variant": pa.array(table["variant"], pa.string()),
        "error": pa.array(table["error"], pa.string(), from_pandas=True),
    }
    schema = _LOGITS
    for name in predictions.measures:
        columns[name] = pa.array(table[name], pa.float64(), from_pandas=True)
        schema = schema.append(pa.field(name, pa.float64()))
    metadata = {name: json.dumps(getattr(predictions, name), ensure_ascii=False) for name in _METADATA}
    with atomic_path(path) as temporary:
        pq.write_table(pa.table(columns, schema=schema.with_metadata(metadata)), temporary, compression="zstd")


def _read(path: Path, samples: Path, sha256: str) -> Predictions:
    for file in (path, samples):
        if not file.is_file():
            raise FigleafError(f"{file}: missing: {_way_out(path.stem)}")
    if sha256_file(path) != sha256:
        raise FigleafError(f"{path}: these are not the logits that were recorded: {_way_out(path.stem)}")
    try:
        with pq.ParquetFile(path) as file:  # `read_table` opens a dataset first, which takes longer than these few rows
            read = file.read(use_threads=False)
        metadata = {name: json.loads(read.schema.metadata[name.encode()]) for name in _METADATA}
        rows = _read_samples(samples).iloc[read["sample"].to_numpy()]
        classes = tuple(metadata["classes"])
        errors = read["error"].to_pylist()
        logits = np.full((len(rows), len(classes)), np.nan, dtype=np.float32)
        has = read["logits"].is_valid().to_numpy()
        logits[has] = read["logits"].combine_chunks().flatten().to_numpy().reshape(-1, len(classes))
        variants = read["variant"].to_pylist()
        measures = {name: read[name].to_numpy() for name in read.schema.names if name not in _LOGITS.names}
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError, IndexError) as error:
        raise FigleafError(f"{path}: not a readable record of predictions ({error}): {_way_out(path.stem)}") from error
    return Predictions.from_logits(
        rows,
        logits,
        classes=classes,
        unsafe=metadata["unsafe"],
        data_name=metadata["data_name"],
        data_hash=metadata["data_hash"],
        errors=errors,
        variant=variants,
        measures=measures,
    )


@lru_cache(maxsize=8)
def _read_samples(path: Path) -> pd.DataFrame:
    """The samples that many records share. Nobody changes the table."""
    samples: pd.DataFrame = pq.read_table(path, schema=_SAMPLES).to_pandas()
    return samples


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FigleafError(f"{path}: cannot be read ({error}): {_way_out(path.stem)}") from error
    if not isinstance(found, dict):
        raise FigleafError(f"{path}: expected a JSON object: {_way_out(path.stem)}")
    return found


def _plain(value: float) -> float | str:
    """JSON has no infinity and no NaN: those are written as words, which `float` reads."""
    return value if math.isfinite(value) else repr(value)


def _portable(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration with what lies in the shared folder named as from a checkout beside it: ../shared/FILE."""
    shared = os.environ.get("FIGLEAF_SHARED")
    if not shared:
        return config
    there = shared.rstrip("/") + "/"

    def named(group: dict[str, Any]) -> dict[str, Any]:
        return {
            key: value.replace(there, "../shared/") if key in _PATHS and isinstance(value, str) else value
            for key, value in group.items()
        }

    return {key: named(value) if isinstance(value, dict) else value for key, value in config.items()}


def _digest(content: Mapping[str, Any]) -> str:
    """Guards against edits and mix-ups, not against a forger, who can compute it, too."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _way_out(name: str) -> str:
    return f"restore it (git checkout), or delete {FOLDER}/{name}.json and {name}.parquet to have the trial again"
