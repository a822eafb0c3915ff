"""Predictions: one row a sample. Metrics, thresholds, intervals, curves and parity checks read nothing else."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from scipy.special import logsumexp

from figleaf.errors import FigleafError
from figleaf.evaluate.scorer import Scorer
from figleaf.files import atomic_path
from figleaf.progress import track

if TYPE_CHECKING:  # reading predictions needs no image library
    from figleaf.data.cache import DecodedImages
    from figleaf.data.manifest import Manifest

SAMPLE_COLUMNS = ("sample_id", "content_sha256", "split", "group", "slice", "label")
NOT_FINITE = "the logits are not finite"

_SCHEMA = pa.schema(
    [pa.field(name, pa.string(), nullable=False) for name in SAMPLE_COLUMNS]
    + [
        pa.field("logits", pa.list_(pa.float32())),
        pa.field("score", pa.float64()),
        pa.field("variant", pa.string(), nullable=False),
        pa.field("error", pa.string()),
    ]
)
_METADATA = ("classes", "unsafe", "data_name", "data_hash")


@dataclass(frozen=True, eq=False)
class Predictions:
    """A table of answers and what it takes to read them.

    `table` has the columns sample_id (POSIX path relative to the manifest), content_sha256, split, group, slice, label
    (a class name), logits ((C,) float32), score (P(unsafe) in [0, 1]), variant ("clean", or the perturbation, crop
    scheme or scale) and error (missing, or why there is no score; logits and score are missing then). Without unsafe
    classes the score is missing and that is no error. Any further columns are the `measures` of each answer.

    `classes` (C,) names the logits. `unsafe` names what counts as unsafe, among the classes and among the labels: a
    network may be measured on data whose classes have other names. `data_name` is what tables call the data,
    `data_hash` identifies it.
    """

    table: pd.DataFrame
    classes: tuple[str, ...]
    unsafe: tuple[str, ...]
    data_name: str
    data_hash: str

    @classmethod
    def from_logits(
        cls,
        samples: pd.DataFrame,
        logits: NDArray[np.floating],
        *,
        classes: Sequence[str],
        unsafe: Sequence[str],
        data_name: str,
        data_hash: str,
        errors: Sequence[str | None] | None = None,
        variant: str | Sequence[str] = "clean",
        measures: Mapping[str, NDArray[np.floating]] | None = None,
    ) -> Self:
        """Score the logits (N, C) of `samples` (N rows with `SAMPLE_COLUMNS`), all of one `variant` or each of its own.

        Rows with an error keep it and lose their logits; rows whose logits are not finite become errors, so that a
        diverged network is seen as one. `measures` (N,) become further columns, NaN in rows with an error.
        """
        if logits.shape != (len(samples), len(classes)):
            raise ValueError(f"logits {logits.shape}: expected ({len(samples)}, {len(classes)})")
        given = [None] * len(samples) if errors is None else list(errors)
        rows = logits.astype(np.float32)  # what is stored; the score is a function of it
        finite = list(np.isfinite(rows).all(axis=1).flat)
        reasons = [reason or (None if good else NOT_FINITE) for reason, good in zip(given, finite, strict=True)]
        scored = np.array([reason is None for reason in reasons], dtype=bool)
        score = np.full(len(samples), np.nan)
        score[scored] = prob_unsafe(rows[scored], classes, unsafe)
        kept = [None if reason else row for row, reason in zip(rows, reasons, strict=True)]
        # All columns at once: one by one, pandas takes most of the time of reading a thousand runs
        table = pd.DataFrame(
            {name: samples[name].astype(str).array for name in SAMPLE_COLUMNS}
            | {
                "logits": pd.Series(kept, dtype=object),
                "score": score,
                "variant": pd.Series([variant] * len(samples) if isinstance(variant, str) else variant, dtype=str),
                "error": pa.array(reasons, pa.string()).to_pandas(),
            }
            | {name: np.where(scored, np.asarray(column, float), np.nan) for name, column in (measures or {}).items()}
        )
        return cls(table, tuple(classes), tuple(unsafe), data_name, data_hash)

    def __len__(self) -> int:
        return len(self.table)

    @property
    def is_scored(self) -> NDArray[np.bool_]:
        """(N,) True where there is no error."""
        return self.table["error"].isna().to_numpy(dtype=bool)

    @property
    def scored(self) -> Self:
        """Without the error rows."""
        return self._where(self.is_scored)

    @property
    def scores(self) -> NDArray[np.float64]:
        """(N,) P(unsafe); NaN where there is none."""
        return self.table["score"].to_numpy(dtype=np.float64)

    @property
    def is_unsafe(self) -> NDArray[np.bool_]:
        """(N,) True where the label is an unsafe one."""
        return self.table["label"].isin(self.unsafe).to_numpy(dtype=bool)

    @property
    def measures(self) -> tuple[str, ...]:
        """Names of the columns, float64, that say how good each answer was by itself, such as its average precision.

        Their means over samples are metrics of those names. NaN where there is nothing to measure.
        """
        return tuple(name for name in self.table.columns if name not in _SCHEMA.names)

    @property
    def has_scores(self) -> bool:
        """Whether a class is unsafe, so that rows without error have a score."""
        return not set(self.unsafe).isdisjoint(self.classes)

    @property
    def has_both_labels(self) -> bool:
        """Whether safe and unsafe samples were scored: else there is nothing to rank and no threshold to choose."""
        return self.has_scores and len(set(self.is_unsafe[self.is_scored])) == 2

    @cached_property
    def logits(self) -> NDArray[np.float32]:
        """(N, C); NaN in error rows."""
        logits = np.full((len(self), len(self.classes)), np.nan, dtype=np.float32)
        if (scored := self.is_scored).any():
            logits[scored] = np.stack(list(self.table["logits"][scored]))
        return logits

    def select(self, *, split: str | None = None, slice: str | None = None, variant: str | None = None) -> Self:
        """The rows of a split, a slice and a variant; what is not named is not restricted."""
        keep = np.ones(len(self), dtype=bool)
        for column, value in (("split", split), ("slice", slice), ("variant", variant)):
            if value is not None:
                keep &= (self.table[column] == value).to_numpy(dtype=bool)
        return self._where(keep)

    def _where(self, keep: NDArray[np.bool_]) -> Self:
        return replace(self, table=self.table.loc[keep].reset_index(drop=True))

    def save(self, path: Path) -> Path:
        """Write Parquet to `path` and return it. Equal predictions give equal bytes with the same pyarrow."""
        schema = _SCHEMA
        for name in self.measures:
            schema = schema.append(pa.field(name, pa.float64()))
        columns = {field.name: pa.array(self.table[field.name], field.type, from_pandas=True) for field in schema}
        metadata = {name: json.dumps(getattr(self, name), ensure_ascii=False) for name in _METADATA}
        with atomic_path(path) as temporary:
            pq.write_table(pa.table(columns, schema=schema.with_metadata(metadata)), temporary, compression="zstd")
        return path

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote. Raises `FigleafError` when the file is missing, broken or something else."""
        if not path.is_file():
            raise FigleafError(f"{path}: there are no predictions")
        try:
            read = pq.read_table(path)
        except (pa.ArrowInvalid, OSError) as error:
            raise FigleafError(f"{path}: not a readable Parquet file ({error})") from error
        metadata = read.schema.metadata or {}
        lacking = [name for name in _SCHEMA.names if name not in read.schema.names]
        lacking += [name for name in _METADATA if name.encode() not in metadata]
        if lacking:
            raise FigleafError(f"{path}: not a file of predictions, it lacks {', '.join(lacking)}")
        try:
            classes, unsafe, data_name, data_hash = (json.loads(metadata[name.encode()]) for name in _METADATA)
            if not all(
                isinstance(names, list) and all(isinstance(n, str) for n in names) for names in (classes, unsafe)
            ):
                raise ValueError("classes and unsafe are no lists of names")
        except (ValueError, RecursionError) as error:
            raise FigleafError(f"{path}: not a file of predictions, its metadata is damaged ({error})") from error
        measures = [field.name for field in read.schema if field.name not in _SCHEMA.names]
        table = read.select([*_SCHEMA.names, *measures]).to_pandas()
        return cls(table, tuple(classes), tuple(unsafe), data_name, data_hash)


def prob_unsafe(logits: NDArray[np.floating], classes: Sequence[str], unsafe: Sequence[str]) -> NDArray[np.float64]:
    """P(unsafe) (N,) of logits (N, C): the softmax mass on the unsafe classes, in float64; NaN where none is unsafe."""
    return np.exp(log_prob(logits, np.isin(classes, unsafe)))


def log_prob(logits: NDArray[np.floating], members: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Log of the softmax mass (N,) on the classes where `members` (C,) is true; NaN where none is."""
    exact = logits.astype(np.float64)
    if not members.any():
        return np.full(len(exact), np.nan)
    return np.minimum(logsumexp(exact[:, members], axis=1) - logsumexp(exact, axis=1), 0.0)


def predict(
    scorer: Scorer,
    manifest: "Manifest",
    decoded: "DecodedImages",
    *,
    data_hash: str,
    splits: Sequence[str] | None = None,
    batch_size: int = 64,
    variant: str = "clean",
) -> Predictions:
    """Score every sample of `manifest` (of its `splits`): a row for each, in order, unreadable pictures as errors.

    `decoded` holds the whole manifest's pictures (N, S, S, 3) at the scorer's input size. The classes of the data may
    be named otherwise than the scorer's. Raises `FigleafError` when a class is unsafe to the one and safe to the other.
    """
    expected = (len(manifest), scorer.input_size, scorer.input_size, 3)
    if decoded.pixels.shape != expected:
        raise ValueError(f"decoded pictures {decoded.pixels.shape}: expected {expected}")
    unsafe = _joint_unsafe(scorer, manifest)
    wanted = (
        np.ones(len(manifest), bool) if splits is None else manifest.table["split"].isin(splits).to_numpy(dtype=bool)
    )
    logits = np.full((len(manifest), len(scorer.classes)), np.nan, dtype=np.float32)
    rows = np.flatnonzero(wanted & decoded.usable)
    starts = range(0, len(rows), batch_size)
    for start in track(starts, f"Scoring {manifest.name}", total=len(starts)):
        batch = rows[start : start + batch_size]
        logits[batch] = scorer.logits(decoded.pixels[batch])
    chosen = np.flatnonzero(wanted)
    return Predictions.from_logits(
        samples_of(manifest, decoded.content_sha256).iloc[chosen],
        logits[chosen],
        classes=scorer.classes,
        unsafe=unsafe,
        data_name=manifest.name,
        data_hash=data_hash,
        errors=[decoded.errors[row] for row in chosen],
        variant=variant,
    )


def samples_of(manifest: "Manifest", content_sha256: Sequence[str]) -> pd.DataFrame:
    """The `SAMPLE_COLUMNS` of predictions for the rows of `manifest`, in its order."""
    samples = manifest.table.rename(columns={"path": "sample_id"}).assign(content_sha256=list(content_sha256))
    return samples.loc[:, list(SAMPLE_COLUMNS)]


def _joint_unsafe(scorer: Scorer, manifest: "Manifest") -> tuple[str, ...]:
    """What is unsafe to the scorer or to the data; where both know a class they must agree."""
    disputed = (set(scorer.unsafe) ^ set(manifest.unsafe)) & set(scorer.classes) & set(manifest.classes)
    if disputed:
        raise FigleafError(
            f"data.unsafe={list(manifest.unsafe)}: the model counts {list(scorer.unsafe)} as unsafe, they disagree on "
            f"{sorted(disputed)}: pass data.unsafe={list(scorer.unsafe)} or use a model trained with the other choice"
        )
    return tuple(dict.fromkeys((*scorer.unsafe, *manifest.unsafe)))
