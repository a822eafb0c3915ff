"""Runs as plain files: what `figleaf runs export` writes and `figleaf runs import` reads, without any tracker.

    FOLDER/archive.json               format version; the SHA-256 of each run's table
    FOLDER/runs/<run id>/run.jsonl    the run, then its parameters, tags, metric rows and artifacts, one JSON line each
    FOLDER/runs/<run id>/artifacts/   the files

Every byte is covered by a hash that `archive.json` leads to, and that file is there only in a whole archive: a copy
that broke off is noticed before anything is read from it.
"""

import json
import math
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from figleaf.errors import FigleafError
from figleaf.files import explained, sha256_file, write_text
from figleaf.tracking.journal import Row

FORMAT_VERSION = 1
_INDEX = "archive.json"
_RUN_ID = re.compile(r"[0-9a-f]{32}")

Line = TypeVar("Line")


@dataclass(frozen=True)
class RunHead:
    """What a run is called, when it ran (milliseconds since the epoch) and how it ended; `parent_run_id` of a child."""

    run_id: str
    name: str
    experiment: str
    status: str
    start_time_ms: int
    end_time_ms: int | None
    parent_run_id: str | None


@dataclass(frozen=True)
class Artifact:
    """A file of a run: its POSIX path there, its length in bytes, its hash."""

    path: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class ArchivedRun:
    """A whole run; `metrics` holds every row of its history, NaN and infinity included."""

    head: RunHead
    params: dict[str, str]
    tags: dict[str, str]
    metrics: list[Row]
    artifacts: list[Artifact]

    def to_lines(self) -> str:
        """One JSON object a line, in an order of their content alone: equal runs give equal bytes."""
        lines: list[dict[str, Any]] = [{"run": asdict(self.head)}]
        lines += [{"param": {"key": key, "value": value}} for key, value in sorted(self.params.items())]
        lines += [{"tag": {"key": key, "value": value}} for key, value in sorted(self.tags.items())]
        for row in sorted(self.metrics, key=lambda row: (row.key, row.step, row.time_ms, str(row.value))):
            value = row.value if math.isfinite(row.value) else str(row.value)
            lines.append({"metric": {"key": row.key, "step": row.step, "time_ms": row.time_ms, "value": value}})
        lines += [{"artifact": asdict(file)} for file in sorted(self.artifacts, key=lambda file: file.path)]
        return "".join(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n" for line in lines)

    @classmethod
    def from_lines(cls, text: str) -> "ArchivedRun":
        """Read what `to_lines` gave; raises `ValueError` for anything else."""
        kinds: dict[str, list[dict[str, Any]]] = {key: [] for key in ("run", "param", "tag", "metric", "artifact")}
        for line in text.removesuffix("\n").split("\n"):  # not every line end of Unicode's is one here
            ((kind, content),) = json.loads(line).items()
            if kind not in kinds:
                raise ValueError(f"a line of kind {kind!r}")
            kinds[kind].append(content)
        (head,) = (_typed(RunHead, line) for line in kinds["run"])
        metrics = [Row(int(m["step"]), int(m["time_ms"]), str(m["key"]), float(m["value"])) for m in kinds["metric"]]
        return cls(
            head,
            {str(line["key"]): str(line["value"]) for line in kinds["param"]},
            {str(line["key"]): str(line["value"]) for line in kinds["tag"]},
            metrics,
            [_typed(Artifact, line) for line in kinds["artifact"]],
        )


class ArchiveWriter:
    """Takes runs into a folder that is not an archive yet."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._digests: dict[str, str] = {}

    def artifact_folder(self, run_id: str) -> Path:
        """Where the files of a run are to be put before `add` is told of it."""
        folder = self._folder / "runs" / _safe_id(run_id) / "artifacts"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def artifact(self, run_id: str, path: str) -> Artifact:
        """Describe a file that lies in the artifact folder of a run."""
        file = inside(self.artifact_folder(run_id), path)
        return Artifact(path, file.stat().st_size, sha256_file(file))

    def add(self, run: ArchivedRun) -> None:
        """Write down a run whose files are in place."""
        table = write_text(self.artifact_folder(run.head.run_id).parent / "run.jsonl", run.to_lines())
        self._digests[run.head.run_id] = sha256_file(table)

    def seal(self) -> None:
        """Make it an archive."""
        index = {"format_version": FORMAT_VERSION, "runs": dict(sorted(self._digests.items()))}
        write_text(self._folder / _INDEX, json.dumps(index, indent=2) + "\n")


@contextmanager
def new_archive(folder: Path) -> Iterator[ArchiveWriter]:
    """Write an archive that appears as `folder` when all is in it, or, on any failure, not at all.

    Raises `FigleafError` when something is there already.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FigleafError(f"out={folder}: there is something already; name a new folder")
    folder = folder.absolute()
    unfinished = folder.with_name(f".{folder.name}-{uuid.uuid4().hex[:8]}")
    with explained(folder):
        unfinished.mkdir(parents=True)
        try:
            writer = ArchiveWriter(unfinished)
            yield writer
            writer.seal()
            unfinished.replace(folder)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)


class Archive:
    """A whole archive: every file is there with the content it was written with. `digests`: of the runs' tables."""

    def __init__(self, folder: Path) -> None:
        """Check every byte. Raises `FigleafError` that names the file that is missing, changed or out of place."""
        self.folder = folder
        index = folder / _INDEX
        if not index.is_file():
            raise FigleafError(
                f"{folder}: no whole export of runs, there is no {_INDEX}; `figleaf runs export out=FOLDER` makes one"
            )
        try:
            told = json.loads(index.read_text(encoding="utf-8"))
            version, digests = told["format_version"], told["runs"]
            self.digests: dict[str, str] = {_safe_id(run_id): str(digest) for run_id, digest in digests.items()}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise FigleafError(f"{index}: not the index of an export ({error})") from error
        if version != FORMAT_VERSION:
            raise FigleafError(f"{index}: format {version}, this figleaf reads {FORMAT_VERSION}")
        for run_id in self.digests:
            for artifact in self.run(run_id).artifacts:
                self.file(run_id, artifact)

    def run(self, run_id: str) -> ArchivedRun:
        """Read one run's table."""
        table = inside(self.folder, f"runs/{run_id}/run.jsonl")
        _require_hash(table, self.digests[run_id])
        try:
            run = ArchivedRun.from_lines(table.read_text(encoding="utf-8"))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise FigleafError(f"{table}: not the table of a run ({error})") from error
        if run.head.run_id != run_id:
            raise FigleafError(f"{table}: it is the table of another run, {run.head.run_id}")
        return run

    def file(self, run_id: str, artifact: Artifact) -> Path:
        """Give the path of an artifact, which has been compared with its hash."""
        path = inside(self.folder, f"runs/{run_id}/artifacts/{safe_path(artifact.path)}")
        _require_hash(path, artifact.sha256)
        return path


def safe_path(path: str) -> str:
    """Give `path` when it is a relative POSIX path that stays below where it starts; else raise `FigleafError`."""
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or ".." in parts or "\\" in path or "\0" in path or str(Path(*parts)) != path:
        raise FigleafError(f"{path!r}: not a path that a run's file may have; nothing was taken from there")
    return path


def inside(folder: Path, path: str) -> Path:
    """Give the place of `path` below `folder`. Raises `FigleafError` when it leads elsewhere, by a link too."""
    place = folder / safe_path(path)
    if place.resolve() != folder.resolve() / path:
        raise FigleafError(f"{place}: a link leads elsewhere; an export holds plain files only")
    return place


def _safe_id(run_id: str) -> str:
    if not _RUN_ID.fullmatch(run_id):
        raise FigleafError(f"{run_id!r}: not the id of a run, 32 hexadecimal digits")
    return run_id


def _require_hash(file: Path, digest: str) -> None:
    if not file.is_file():
        raise FigleafError(f"{file}: missing; the export was copied in part: copy it again")
    if sha256_file(file) != digest:
        raise FigleafError(f"{file}: not what was exported; it was changed or copied in part: copy it again")


def _typed(kind: type[Line], line: dict[str, Any]) -> Line:
    """Build a line's dataclass; raises `ValueError` when a field is missing, unknown or of another type."""
    names = {field.name: field.type for field in fields(kind)}  # type: ignore[arg-type]
    if set(line) != set(names):
        raise ValueError(f"a line with {sorted(line)}")
    for name, expected in names.items():
        if not isinstance(line[name], expected):  # type: ignore[arg-type]
            raise ValueError(f"{name}={line[name]!r}")
    return kind(**line)
