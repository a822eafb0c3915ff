"""Where a run came from, read back from the tracker, and what of that is different today."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from figleaf.config import TrainConfig, from_dict
from figleaf.errors import FigleafError
from figleaf.tracking.find import FoundRun
from figleaf.tracking.provenance import environment, git_state, hardware

_NEW_FILE = "# new file, not in the patch: "  # as `git_state` writes it
_CUT = "\n# cut: "


@dataclass(frozen=True)
class Origin:
    """A run's configuration, code, environment, machine and data, as they were; empty where it does not say.

    `values` is the configuration as plain containers. `diff` is a patch against `commit`, and `new_files` name what was
    in the tree besides and is not kept; `is_cut` when the patch was too long to keep whole.
    """

    values: dict[str, Any]
    commit: str
    is_dirty: bool
    diff: str
    new_files: tuple[str, ...]
    is_cut: bool
    environment: str
    hardware: dict[str, Any]
    data_name: str
    data_hash: str
    weights_sha256: str
    teacher_sha256: str = ""
    weights_run_id: str = ""  # the run whose weights it started from, where the file says so
    weights_compression: str = ""  # what had been done to them, as `figleaf compress` writes it

    @classmethod
    def of(cls, run: FoundRun) -> "Origin":
        """Read it. Raises `FigleafError` when the run kept no configuration."""
        text = _artifact(run, "git.diff")
        is_cut = _CUT in text
        lines = text.partition(_CUT)[0].splitlines(keepends=True)
        values = _artifact(run, "config.json")
        if not values:
            raise FigleafError(f"run {run.name} ({run.run_id[:8]}) kept no configuration: it is no `figleaf train` run")
        return cls(
            values=_plain(run, "config.json", values),
            commit=run.tags.get("figleaf.git_commit", "unknown"),
            is_dirty=run.tags.get("figleaf.git_dirty") == "true",
            diff="".join(line for line in lines if not line.startswith(_NEW_FILE)),
            new_files=tuple(line.removeprefix(_NEW_FILE).strip() for line in lines if line.startswith(_NEW_FILE)),
            is_cut=is_cut,
            environment=_artifact(run, "environment.txt"),
            hardware=_plain(run, "hardware.json", _artifact(run, "hardware.json") or "{}"),
            data_name=run.tags.get("figleaf.data_name", ""),
            data_hash=run.tags.get("figleaf.data_hash", ""),
            weights_sha256=run.tags.get("figleaf.weights_sha256", ""),
            teacher_sha256=run.tags.get("figleaf.teacher_sha256", ""),
            weights_run_id=run.tags.get("figleaf.weights_run_id", ""),
            weights_compression=run.tags.get("figleaf.weights_compression", ""),
        )

    def config(self) -> TrainConfig:
        """The configuration under today's schema. Raises `FigleafError` when that no longer knows it."""
        return from_dict(self.values, TrainConfig)


@dataclass(frozen=True)
class Today:
    """What of an origin is different now, here. `packages` gives each that differs as (then, now), "" for none."""

    commit: str
    is_dirty: bool
    same_code: bool
    platform: tuple[str, str] | None
    packages: dict[str, tuple[str, str]]
    hardware: dict[str, tuple[Any, Any]] = field(default_factory=dict)

    @classmethod
    def against(cls, origin: Origin) -> "Today":
        """Compare with the code, the environment and the machine of this process."""
        git = git_state()
        unchanged = git["commit"] == origin.commit != "unknown" and not (git["dirty"] or origin.is_dirty)
        then, now = _packages(origin.environment), _packages(environment())
        headers = (_header(origin.environment), _header(environment()))
        machine = hardware()
        return cls(
            git["commit"],
            git["dirty"],
            unchanged,
            headers if headers[0] and headers[0] != headers[1] else None,
            {
                name: (then.get(name, ""), now.get(name, ""))
                for name in sorted(then.keys() | now.keys(), key=str.lower)
                if then and then.get(name) != now.get(name)
            },
            {
                key: (value, machine[key])
                for key, value in origin.hardware.items()
                if key in machine and machine[key] != value
            },
        )


def _artifact(run: FoundRun, name: str) -> str:
    """A text that the run kept; empty when it did not."""
    try:
        path = run.artifact(name)
    except FigleafError:
        return ""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise FigleafError(f"{path}: no text that run {run.name} ({run.run_id[:8]}) kept ({error})") from error


def _plain(run: FoundRun, name: str, text: str) -> dict[str, Any]:
    """The keys and values in a JSON text. Raises `FigleafError` that names the artifact of the run."""
    try:
        found = json.loads(text)
        if not isinstance(found, dict):
            raise ValueError(f"{type(found).__name__}, no keys with values")
    except (ValueError, RecursionError) as error:
        raise FigleafError(
            f"{run.artifact(name)}: not what run {run.name} ({run.run_id[:8]}) kept ({error})"
        ) from error
    return found


def _packages(text: str) -> Mapping[str, str]:
    pairs = (line.partition("==") for line in text.splitlines() if not line.startswith("#"))
    return {name: version for name, _, version in pairs}


def _header(text: str) -> str:
    first = text.partition("\n")[0]
    return first.removeprefix("# ") if first.startswith("#") else ""
