"""The configuration: `conf/` holds the values, Hydra composes them; the schema is in `settings` and `command_settings`.

This is the only room that knows Hydra and OmegaConf, with `figleaf.overrides` for the grammar of `key=value`.
Everything else receives plain frozen dataclasses.
"""

import dataclasses
import difflib
import hashlib
import json
import math
import os
import shutil
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from figleaf.architecture import completed, header
from figleaf.command_settings import (
    ROOTS,
    CalibrateConfig,
    CheckConfig,
    CompressConfig,
    EvaluateConfig,
    ExportConfig,
    LaunchConfig,
    LauncherConfig,
    ReportConfig,
    SimilarConfig,
    VisualizeConfig,
    WebConfig,
)
from figleaf.errors import FigleafError
from figleaf.files import sha256_file
from figleaf.overrides import addressed, combinations
from figleaf.rules import Rule
from figleaf.settings import (
    ARCHITECTURE,
    AugmentConfig,
    DataConfig,
    DistillConfig,
    MethodConfig,
    ModelConfig,
    OptimizerConfig,
    SearchConfig,
    SkinConfig,
    TrackingConfig,
    TrainConfig,
    TrainerConfig,
    groups_of,
)

__all__ = [
    "ROOTS",
    "AugmentConfig",
    "CalibrateConfig",
    "CheckConfig",
    "CompressConfig",
    "DataConfig",
    "DistillConfig",
    "EvaluateConfig",
    "ExportConfig",
    "LaunchConfig",
    "LauncherConfig",
    "MethodConfig",
    "ModelConfig",
    "OptimizerConfig",
    "ReportConfig",
    "SearchConfig",
    "SimilarConfig",
    "SkinConfig",
    "TrackingConfig",
    "TrainConfig",
    "TrainerConfig",
    "VisualizeConfig",
    "WebConfig",
    "choices",
    "compose",
    "conf_dir",
    "expand_grid",
    "experiments_dir",
    "fingerprint",
    "from_dict",
    "groups_of",
    "home",
    "keys_with_defaults",
    "own_experiments_dir",
    "teacher_sha256",
    "to_dict",
    "to_yaml",
    "web_dir",
    "weights_origin",
    "weights_sha256",
    "with_architecture",
]

Config = TypeVar("Config")


# What does not change a result: left out of the fingerprint.
_INCIDENTAL = {"resume", "name", "study", "arm", "parent_run_id", "tracking"}
_INCIDENTAL_KEYS = {
    "trainer": {"workers", "threads", "checkpoint_seconds", "log_every_steps"},
    # Where the manifest lies is no part of the result: what it says and holds is in the data hash.
    "data": {"manifest", "root", "cache_gb"},
}


def home() -> Path:
    """Absolute folder of the tracking store, artifacts, caches and runs: `FIGLEAF_HOME`, default ./runs."""
    return Path(os.environ.get("FIGLEAF_HOME", "runs")).expanduser().absolute()


def conf_dir() -> Path:
    """`conf/` of the working folder when it is a checkout's, else the copy inside the package."""
    return _beside_or_packaged("conf", "train.yaml")


def experiments_dir() -> Path:
    """`experiments/` of the working folder when there is one, else the copy inside the package."""
    return _beside_or_packaged("experiments", "")


def own_experiments_dir() -> Path:
    """Where a study writes its results: `experiments_dir`, once the studies of an installed package lie beside you."""
    found = experiments_dir()
    if found != Path(__file__).parent / "experiments":
        return found
    return Path(shutil.copytree(found, Path.cwd() / "experiments"))


def web_dir() -> Path:
    """`web/`, the page's sources, of the working folder when it is a checkout's, else the copy inside the package."""
    return _beside_or_packaged("web", "index.html")


def compose(root: str = "train", overrides: Sequence[str] = ()) -> Any:
    """Compose `conf/<root>.yaml` with Hydra overrides and return its frozen dataclass (`ROOTS[root]`).

    Raises `FigleafError` that names the key, the value and the way out.
    """
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            composed = hydra_compose(root, overrides=addressed(overrides, ROOTS[root]))
        values = OmegaConf.to_container(composed, resolve=True, throw_on_missing=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise FigleafError(_explain(error, root, overrides)) from error
    config: Any = from_dict(typing.cast(dict[str, Any], values), ROOTS[root])
    if hasattr(config, "data"):
        _require_read(config.data)
    return with_architecture(config) if isinstance(config, TrainConfig) else config


def with_architecture(config: TrainConfig, *, required: bool = False) -> TrainConfig:
    """`config` with the architecture of the file that its model starts from, where that decides and is here.

    Raises `FigleafError` when the file has none, or another than a key says; when it is `required`, also when no file
    is named.
    """
    if not isinstance(config.model, ModelConfig):
        return config
    return dataclasses.replace(config, model=completed(config.model, required=required))


def _require_read(data: DataConfig) -> None:
    """Refuse keys of a manifest where none is read: a run would be of other pictures than its user believes."""
    for key in ("manifest", "root", "classes", "unsafe"):
        value = getattr(data, key)
        if value is not None and data.source != "manifest":
            raise FigleafError(f"data.{key}={value}: not read with data.source={data.source}; pass data=manifest, too")


def choices(schema: type) -> dict[str, list[str]]:
    """The presets of each group of `schema`: the names of the files in `conf/<group>/`."""
    groups = [f.name for f in dataclasses.fields(schema) if (conf_dir() / f.name).is_dir()]
    return {group: sorted(file.stem for file in (conf_dir() / group).glob("*.yaml")) for group in groups}


def keys_with_defaults(schema: type, prefix: str = "") -> dict[str, str]:
    """Every key of `schema`, groups spelled out, and the default that holds when no preset says otherwise."""
    hints, found = typing.get_type_hints(schema), dict[str, str]()
    for f in dataclasses.fields(schema):
        if groups := groups_of(hints[f.name]):
            for group in reversed(groups):  # of a key that several have, the first one's default is shown
                found |= keys_with_defaults(group, f"{prefix}{f.name}.")
        else:
            value = f.default if f.default_factory is dataclasses.MISSING else f.default_factory()
            shown = "REQUIRED" if value is dataclasses.MISSING else "null" if value is None else str(value)
            rule = f.metadata.get("rule")
            note = f"   ({rule.expected})" if rule is not None else ""
            found[f"{prefix}{f.name}"] = (shown.lower() if isinstance(value, bool) else shown) + note
    return found


def expand_grid(overrides: Sequence[str]) -> list[list[str]]:
    """Every combination of a Hydra multirun's sweeps (`seed=1,2 model=vgg16,vgg19`), each a list of overrides."""
    return combinations(overrides, TrainConfig)


def from_dict(values: Mapping[str, Any], schema: type[Config], path: str = "") -> Config:
    """Build the dataclass `schema` from plain values; refuses unknown keys, wrong types and values out of range."""
    fields = {f.name: f for f in dataclasses.fields(schema)}  # type: ignore[arg-type]
    for key in values:
        if key not in fields:
            near = difflib.get_close_matches(str(key), fields, n=1)
            hint = f"; did you mean {path}{near[0]}?" if near else f"; known keys: {', '.join(fields)}"
            raise FigleafError(f"{path}{key}: unknown key{hint}")
    hints = typing.get_type_hints(schema)
    arguments = {
        name: _checked(values[name], hints[name], f"{path}{name}", fields[name].metadata.get("rule"))
        for name in fields
        if name in values
    }
    try:
        return schema(**arguments)
    except TypeError as error:
        missing = [n for n in fields if n not in values and fields[n].default is dataclasses.MISSING]
        raise FigleafError(f"{path or 'configuration'}: no value for {', '.join(missing)}") from error


def to_dict(config: Any) -> dict[str, Any]:
    """Plain nested containers, ready for JSON."""
    return dataclasses.asdict(config)


def to_yaml(config: Any) -> str:
    """The resolved configuration as YAML."""
    from omegaconf import OmegaConf

    return OmegaConf.to_yaml(OmegaConf.create(to_dict(config)))


def fingerprint(
    config: TrainConfig, data_hash: str, absent_weights_sha256: str = "", absent_teacher_sha256: str = ""
) -> str:
    """Hex digest of everything that determines the result: the configuration less bookkeeping, and the data.

    A value that is the schema's default is left out, so that a run keeps its fingerprint when the schema gains a key
    whose default is what was done before; a default must therefore never come to mean something else.
    `absent_weights_sha256` stands for the content of `model.weights` where that file is not on this machine, and
    `absent_teacher_sha256` for that of `distill.teacher`.
    """
    values = {k: v for k, v in _not_default(config).items() if k not in _INCIDENTAL}
    for group, incidental in _INCIDENTAL_KEYS.items():
        values[group] = {k: v for k, v in values.get(group, {}).items() if k not in incidental}
    kind = config.weights.rpartition(":")[0]
    digest = weights_sha256(config) or ("" if config.weights == "none" else absent_weights_sha256)
    if digest:  # its content, wherever it lies
        values["model"] = {**values["model"], "weights": f"{kind}:{digest}" if kind else digest}
    if config.distill.teacher is not None and (digest := teacher_sha256(config) or absent_teacher_sha256):
        values["distill"] = {**values["distill"], "teacher": digest}
    if values["model"].get("architecture") == "weights":
        # It follows from the content, which may not be here to be read.
        values["model"] = {k: v for k, v in values["model"].items() if k not in ARCHITECTURE}
    canonical = json.dumps({"config": values, "data": data_hash}, sort_keys=True)
    return hashlib.sha256(canonical.encode()).hexdigest()


def weights_sha256(config: TrainConfig) -> str:
    """Hex digest of the file that `model.weights` names; empty when it names none, or none that is here."""
    path = Path(config.weights.rpartition(":")[2]).expanduser()
    return sha256_file(path) if path.is_file() else ""


def teacher_sha256(config: TrainConfig) -> str:
    """Hex digest of the file that `distill.teacher` names; empty when it names none, or none that is here."""
    path = Path(config.distill.teacher or "").expanduser()
    return sha256_file(path) if path.is_file() else ""


def weights_origin(config: TrainConfig) -> dict[str, str]:
    """Where the file that `model.weights` names comes from, as far as it says: `run_id`, and what made it smaller.

    `compression` is a JSON list of steps, as `figleaf compress` writes them; empty for what nothing was done to.
    """
    path = Path(config.weights.rpartition(":")[2]).expanduser()
    if path.suffix != ".safetensors" or not path.is_file():
        return {}
    said = header(path).get("metadata", {})
    steps = said.get("compression")
    found = {
        "run_id": said.get("parent_run_id") or said.get("run_id"),
        "compression": json.dumps(steps) if steps else "",
    }
    return {key: value for key, value in found.items() if value}


def _not_default(config: Any) -> dict[str, Any]:
    """The nested values of a configuration that differ from the schema's defaults; a group that may be left out, only
    when it says something.
    """
    found: dict[str, Any] = {}
    for part in dataclasses.fields(config):
        value = getattr(config, part.name)
        if dataclasses.is_dataclass(value):
            said = _not_default(value)
            if said or part.default_factory is dataclasses.MISSING:
                found[part.name] = said
        elif value != (part.default if part.default_factory is dataclasses.MISSING else part.default_factory()):
            found[part.name] = value
    return found


def _checked(value: Any, hint: Any, key: str, rule: Rule | None) -> Any:
    """`value` as the type `hint`, an int widened to float where a float is expected."""
    if groups := groups_of(hint):
        if not isinstance(value, Mapping):
            raise FigleafError(f"{key}={value}: expected a group of keys; choose one with {key}=NAME")
        return from_dict(value, _kind_of(value, groups), f"{key}.")
    allowed = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    for kind in allowed:
        origin, inner = typing.get_origin(kind), typing.get_args(kind)
        if dataclasses.is_dataclass(kind) and isinstance(kind, type) and isinstance(value, Mapping):
            return from_dict(value, kind, f"{key}.")
        if origin is dict and isinstance(value, Mapping):
            return {str(name): _checked(item, inner[1], f"{key}.{name}", None) for name, item in value.items()}
        if origin is list and inner != (str,) and isinstance(value, list | tuple):
            return [_checked(item, inner[0], f"{key}[{i}]", None) for i, item in enumerate(value)]
    if isinstance(value, int) and not isinstance(value, bool) and float in allowed and int not in allowed:
        value = float(value)
    if isinstance(value, float) and not math.isfinite(value):
        raise FigleafError(f"{key}={value}: expected a finite number")
    if not any(_is_a(value, kind) for kind in allowed):
        raise FigleafError(f"{key}={value}: expected {' or '.join(_type_name(kind) for kind in allowed)}")
    if rule is not None and value is not None and not rule.holds(value):
        raise FigleafError(f"{key}={value}: expected {rule.expected}")
    return list(value) if isinstance(value, list | tuple) else value


def _kind_of(value: Mapping[str, Any], groups: Sequence[type]) -> type:
    """Which of `groups` the values spell out: the one whose keys without a default they have, else the first."""
    for group in groups:
        required = {
            f.name
            for f in dataclasses.fields(group)
            if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
        }
        if required and required <= value.keys():
            return group
    return groups[0]


def _is_a(value: Any, kind: Any) -> bool:
    if typing.get_origin(kind) is list:
        return isinstance(value, list | tuple) and all(isinstance(item, str) for item in value)
    if typing.get_origin(kind) is dict:
        return False  # a mapping has been taken before
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, kind)


def _type_name(kind: Any) -> str:
    if kind is type(None):
        return "null"
    if typing.get_origin(kind) is list and typing.get_args(kind) == (str,):
        return "a list of names such as [a,b] (quote numbers)"
    if typing.get_origin(kind) is not None or dataclasses.is_dataclass(kind):
        return "a list" if typing.get_origin(kind) is list else "a group of keys"
    return {bool: "true or false", int: "an integer", float: "a number", str: "a text"}[kind]


def _explain(error: Exception, root: str, overrides: Sequence[str]) -> str:
    """Hydra's message, shortened to what a user can act on, behind the override that it is about."""
    noise = ("See https", "Check that", "object_type", "full_key", "Config search path", "provider=")
    lines = [line.strip() for line in str(error).splitlines()]
    message = " ".join(line for line in lines if line and not line.startswith(noise))
    if "Missing mandatory value" in message:
        return f"{message}; pass it, for example `figleaf {root} run=latest`"
    for group, presets in choices(ROOTS[root]).items():
        for override in overrides:
            name, _, value = override.partition("=")
            if name == group and value not in presets and f"{group}/{value}" in message:
                near = difflib.get_close_matches(value, presets, n=1)
                hint = f"did you mean {near[0]}? " if near else ""
                return f"{override}: no such preset; {hint}there are: {', '.join(presets)}"
    # OmegaConf knows the key it stumbled over; Hydra names a preset that is not there as GROUP/NAME.
    key = getattr(error, "full_key", None)
    about = [o for o in overrides if o.partition("=")[0].lstrip("+~") == key or o.replace("=", "/", 1) in message]
    return f"{' '.join(about or overrides)}: {message}" if overrides else message


def _beside_or_packaged(name: str, witness: str) -> Path:
    package = Path(__file__).parent
    # In a checkout the package lies at src/figleaf; an installed wheel carries its own copy.
    candidates = [Path.cwd() / name, package.parents[1] / name, package / name]
    for folder in candidates:
        if (folder / witness).exists():
            return folder
    raise FigleafError(f"no {name}/ folder found; looked in {', '.join(str(c) for c in candidates)}")
