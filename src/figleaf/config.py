"""The configuration: frozen dataclasses are the schema, `conf/` holds the values, Hydra composes them.

This is the only room that knows Hydra and OmegaConf. Everything else receives plain frozen dataclasses.
"""

import dataclasses
import difflib
import hashlib
import json
import os
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from figleaf.errors import FigleafError
from figleaf.files import sha256_file

Config = TypeVar("Config")


@dataclass(frozen=True)
class Rule:
    """What a value must satisfy: `holds(value)`, said to the user as `expected`."""

    holds: Callable[[Any], bool]
    expected: str


def _one_of(*names: str) -> dict[str, Rule]:
    return {"rule": Rule(lambda value: value in names, "one of " + ", ".join(names))}


def _at_least(low: float) -> dict[str, Rule]:
    return {"rule": Rule(lambda value: value is None or value >= low, f"at least {low}")}


def _fraction(*, zero: bool = True, one: bool = False) -> dict[str, Rule]:
    text = f"0 {'<=' if zero else '<'} x {'<=' if one else '<'} 1"
    return {"rule": Rule(lambda x: (x > 0 or (zero and x == 0)) and (x < 1 or (one and x == 1)), text)}


@dataclass(frozen=True)
class DataConfig:
    """Which samples, and how they are split."""

    name: str | None = None  # how tables and figures call the data; default: what the manifest says
    source: str = field(default="manifest", metadata=_one_of("manifest", "scenes", "digits"))
    manifest: str | None = None  # CSV or Parquet; see `figleaf data index`
    root: str | None = None  # the folder that the manifest's paths start from; default: the manifest's
    classes: list[str] | None = None  # logit order; default: sorted labels
    unsafe: list[str] | None = None  # classes whose probability is the score; [] where nothing is unsafe
    count: int = field(default=2000, metadata=_at_least(8))  # scenes: how many pictures
    seed: int = field(default=0, metadata=_at_least(0))  # scenes and cuts
    size: int = field(default=96, metadata=_at_least(32))  # scenes: pixels a side
    calib_fraction: float = field(default=0.1, metadata=_fraction())  # cut by group from train, for calibration only
    fold: int | None = field(default=None, metadata=_at_least(0))  # cross-validation: this fold becomes val
    folds: int = field(default=5, metadata=_at_least(2))
    balance: str = field(default="none", metadata=_one_of("none", "class_weights", "sampler"))
    max_pixels: int = field(default=100_000_000, metadata=_at_least(1))  # a larger picture is an error row
    cache_gb: float = field(default=20.0, metadata=_at_least(0))  # limit of the decode cache


@dataclass(frozen=True)
class AugmentConfig:
    """Label-preserving changes of a training picture, drawn from (seed, epoch, sample)."""

    translate: float = field(default=0.0, metadata=_fraction())  # reflected padding, as a fraction of the side
    larger: float = field(default=1.0, metadata=_at_least(1))  # decode at size * larger and crop
    reflect: bool = False  # mirror left-right with probability 1/2
    scale_min: float = field(default=1.0, metadata=_fraction(zero=False, one=True))  # least area of a scale-jitter crop
    color_jitter: float = field(default=0.0, metadata=_fraction())
    pca_color: str = field(default="none", metadata=_one_of("none", "eig01", "std", "fancy_pca"))
    pca_strength: float = field(default=0.1, metadata=_at_least(0))  # AlexNet's sigma


@dataclass(frozen=True)
class ModelConfig:
    """A VGG: the architecture as data."""

    depth: int = field(default=16, metadata={"rule": Rule(lambda x: x in (11, 13, 16, 19), "one of 11, 13, 16, 19")})
    batch_norm: bool = True
    width: float = field(default=1.0, metadata={"rule": Rule(lambda x: 0 < x <= 4, "0 < x <= 4")})
    head: str = field(default="fc", metadata=_one_of("fc", "gap"))
    dropout: float = field(default=0.5, metadata=_fraction())
    input_size: int = field(default=224, metadata=_at_least(32))
    adaptive_pool: bool = False  # torchvision's 7x7 adaptive pooling before the fc head
    weights: str = "none"  # none | torchvision:IMAGENET1K_V1 | shallower:PATH | path to .pth .safetensors .npz .h5
    frozen_stages: int = field(default=0, metadata={"rule": Rule(lambda x: 0 <= x <= 5, "0 to 5")})
    checkpoint_activations: bool = False  # less memory, one more forward pass


@dataclass(frozen=True)
class OptimizerConfig:
    """How the weights move. The batch is the global one, whatever the number of devices."""

    name: str = field(default="sgd", metadata=_one_of("sgd", "adamw"))
    lr: float = field(default=0.05, metadata=_at_least(0))  # the peak
    momentum: float = field(default=0.9, metadata=_fraction())
    nesterov: bool = True
    weight_decay: float = field(default=5e-4, metadata=_at_least(0))
    batch_size: int = field(default=64, metadata=_at_least(1))
    schedule: str = field(default="one_cycle", metadata=_one_of("one_cycle", "constant", "plateau"))
    warmup: float = field(default=0.2, metadata=_fraction())  # one_cycle: fraction of the steps
    plateau_factor: float = field(default=0.1, metadata=_fraction(zero=False))
    plateau_patience: int = field(default=3, metadata=_at_least(0))  # epochs without a better monitor
    plateau_drops: int = field(default=3, metadata=_at_least(0))  # training stops instead of one more drop
    label_smoothing: float = field(default=0.0, metadata=_fraction())
    clip_norm: float | None = field(default=None, metadata=_at_least(0))
    ema_decay: float = field(default=0.0, metadata=_fraction())  # 0: no weight averaging
    head_lr_factor: float = field(default=1.0, metadata=_at_least(0))
    lr_scaling: str = field(default="none", metadata=_one_of("none", "linear"))  # linear: lr * batch_size / 256


@dataclass(frozen=True)
class TrainerConfig:
    """Where and for how long."""

    epochs: int = field(default=10, metadata=_at_least(1))
    max_steps: int | None = field(default=None, metadata=_at_least(1))
    accelerator: str = field(default="cpu", metadata=_one_of("cpu", "gpu"))
    devices: int = field(default=1, metadata=_at_least(1))
    num_nodes: int = field(default=1, metadata=_at_least(1))
    precision: str = field(default="32-true", metadata=_one_of("32-true", "bf16-mixed", "16-mixed"))
    channels_last: bool = True
    max_device_batch: int | None = field(default=None, metadata=_at_least(1))  # larger shares are accumulated
    workers: int = field(default=0, metadata=_at_least(0))  # processes that augment
    threads: int | None = field(default=None, metadata=_at_least(1))
    deterministic: bool = True
    early_stopping: int = field(default=0, metadata=_at_least(0))  # epochs without a better monitor; 0: never
    checkpoint_seconds: float = field(default=60.0, metadata=_at_least(0))
    log_every_steps: int = field(default=10, metadata=_at_least(1))
    intervals: int = field(default=1000, metadata=_at_least(0))  # bootstrap resamples of the final metrics; 0: none


@dataclass(frozen=True)
class TrackingConfig:
    """Which MLflow."""

    uri: str | None = None  # default: SQLite in FIGLEAF_HOME
    experiment: str = "figleaf"
    delivery_seconds: float = field(default=30.0, metadata=_at_least(0))  # longest wait for the tracker at the end


@dataclass(frozen=True)
class TrainConfig:
    """One run."""

    data: DataConfig
    augment: AugmentConfig
    model: ModelConfig
    optimizer: OptimizerConfig
    trainer: TrainerConfig
    tracking: TrackingConfig
    seed: int = field(default=1, metadata=_at_least(0))
    name: str | None = None  # default: made from what varies
    study: str | None = None
    arm: str | None = None
    parent_run_id: str | None = None  # the study's run in the tracker
    resume: str = "auto"  # auto | never | path of a checkpoint


@dataclass(frozen=True)
class EvaluateConfig:
    """A run, an exported file, and the samples to measure it on."""

    run: str
    data: DataConfig
    tracking: TrackingConfig
    split: str = "test"
    batch_size: int = field(default=64, metadata=_at_least(1))
    out: str | None = None  # default: FIGLEAF_HOME/evaluations/<run>-<data>-<split>.parquet
    intervals: int = field(default=1000, metadata=_at_least(0))


@dataclass(frozen=True)
class ExportConfig:
    """A run and the files to make of it."""

    run: str
    tracking: TrackingConfig
    format: list[str] = field(default_factory=lambda: ["safetensors", "onnx"])
    out: str | None = None  # default: ./export/<run name>
    tolerance: float = field(default=1e-3, metadata=_at_least(0))  # greatest logit difference allowed
    parity_images: int = field(default=64, metadata=_at_least(1))
    images: str | None = None  # compare on the pictures in this folder instead of the run's own
    licence: str = ""  # what the weights may be used under, for the model card


@dataclass(frozen=True)
class CheckConfig:
    """Samples to look at, and the augmentation that is to keep their labels."""

    data: DataConfig
    augment: AugmentConfig
    input_size: int = field(default=64, metadata=_at_least(32))


ROOTS: Mapping[str, type] = {
    "train": TrainConfig,
    "evaluate": EvaluateConfig,
    "export": ExportConfig,
    "check": CheckConfig,
}

# What does not change a result: left out of the fingerprint.
_INCIDENTAL = {"resume", "name", "study", "arm", "parent_run_id", "tracking"}
_INCIDENTAL_TRAINER = {"workers", "threads", "checkpoint_seconds", "log_every_steps"}


def home() -> Path:
    """Absolute folder of the tracking store, artifacts, caches and runs: `FIGLEAF_HOME`, default ./runs."""
    return Path(os.environ.get("FIGLEAF_HOME", "runs")).expanduser().absolute()


def conf_dir() -> Path:
    """`conf/` of the working folder when it is a checkout's, else the copy inside the package."""
    return _beside_or_packaged("conf", "train.yaml")


def experiments_dir() -> Path:
    """`experiments/` of the working folder when there is one, else the copy inside the package."""
    return _beside_or_packaged("experiments", "")


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
            composed = hydra_compose(root, overrides=_addressed(overrides, ROOTS[root]))
        values = OmegaConf.to_container(composed, resolve=True, throw_on_missing=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise FigleafError(_explain(error, root, overrides)) from error
    return from_dict(typing.cast(dict[str, Any], values), ROOTS[root])


def choices(schema: type) -> dict[str, list[str]]:
    """The presets of each group of `schema`: the names of the files in `conf/<group>/`."""
    groups = [f.name for f in dataclasses.fields(schema) if (conf_dir() / f.name).is_dir()]
    return {group: sorted(file.stem for file in (conf_dir() / group).glob("*.yaml")) for group in groups}


def keys_with_defaults(schema: type, prefix: str = "") -> dict[str, str]:
    """Every key of `schema`, groups spelled out, and the default that holds when no preset says otherwise."""
    hints, found = typing.get_type_hints(schema), dict[str, str]()
    for f in dataclasses.fields(schema):
        hint = hints[f.name]
        if dataclasses.is_dataclass(hint) and isinstance(hint, type):
            found |= keys_with_defaults(hint, f"{prefix}{f.name}.")
        else:
            value = f.default if f.default_factory is dataclasses.MISSING else f.default_factory()
            shown = "REQUIRED" if value is dataclasses.MISSING else "null" if value is None else str(value)
            rule = f.metadata.get("rule")
            note = f"   ({rule.expected})" if rule is not None else ""
            found[f"{prefix}{f.name}"] = (shown.lower() if isinstance(value, bool) else shown) + note
    return found


def expand_grid(overrides: Sequence[str]) -> list[list[str]]:
    """Every combination of a Hydra multirun's sweeps (`seed=1,2 model=vgg16,vgg19`), each a list of overrides."""
    from itertools import product

    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        parsed = OverridesParser.create().parse_overrides(list(overrides))
        axes = [
            [f"{o.get_key_element()}={value}" for value in o.sweep_string_iterator()]
            if o.is_sweep_override()
            else [o.input_line]
            for o in parsed
        ]
    except HydraException as error:
        raise FigleafError(str(error)) from error
    return [list(combination) for combination in product(*axes)]


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


def fingerprint(config: TrainConfig, data_hash: str) -> str:
    """Hex digest of everything that determines the result: the configuration less bookkeeping, and the data."""
    values = {k: v for k, v in to_dict(config).items() if k not in _INCIDENTAL}
    values["trainer"] = {k: v for k, v in values["trainer"].items() if k not in _INCIDENTAL_TRAINER}
    # Where the manifest lies is no part of the result: what it says and holds is in the data hash.
    values["data"] = {k: v for k, v in values["data"].items() if k not in {"manifest", "root", "cache_gb"}}
    kind, _, path = config.model.weights.rpartition(":")
    if Path(path).expanduser().is_file():  # its content, wherever it lies
        digest = sha256_file(Path(path).expanduser())
        values["model"] = {**values["model"], "weights": f"{kind}:{digest}" if kind else digest}
    canonical = json.dumps({"config": values, "data": data_hash}, sort_keys=True)
    return hashlib.sha256(canonical.encode()).hexdigest()


def _checked(value: Any, hint: Any, key: str, rule: Rule | None) -> Any:
    """`value` as the type `hint`, an int widened to float where a float is expected."""
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        if not isinstance(value, Mapping):
            raise FigleafError(f"{key}={value}: expected a group of keys; choose one with {key}=NAME")
        return from_dict(value, hint, f"{key}.")
    allowed = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    for kind in allowed:
        origin, inner = typing.get_origin(kind), typing.get_args(kind)
        if origin is dict and isinstance(value, Mapping):
            return {str(name): _checked(item, inner[1], f"{key}.{name}", None) for name, item in value.items()}
        if origin is list and inner != (str,) and isinstance(value, list | tuple):
            return [_checked(item, inner[0], f"{key}[{i}]", None) for i, item in enumerate(value)]
    if isinstance(value, int) and not isinstance(value, bool) and float in allowed:
        value = float(value)
    if not any(_is_a(value, kind) for kind in allowed):
        raise FigleafError(f"{key}={value}: expected {' or '.join(_type_name(kind) for kind in allowed)}")
    if rule is not None and value is not None and not rule.holds(value):
        raise FigleafError(f"{key}={value}: expected {rule.expected}")
    return list(value) if isinstance(value, list | tuple) else value


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
    if typing.get_origin(kind) is not None:
        return "a list" if typing.get_origin(kind) is list else "a group of keys"
    return {bool: "true or false", int: "an integer", float: "a number", str: "a text"}[kind]


def _addressed(overrides: Sequence[str], schema: type) -> list[str]:
    """Overrides in which every known key is set whether or not a file of `conf/` mentions it; unknown keys refused.

    Hydra would demand a `+` for keys that have a default in the schema only.
    """
    known = _keys(schema)
    groups = {name for name in known if f"{name}." in " ".join(known)}
    addressed = []
    for override in overrides:
        key, equals, _ = override.partition("=")
        name = key.lstrip("+~")
        if not equals and not key.startswith("~"):
            raise FigleafError(f"{override}: expected key=value")
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]}?" if near else f"; known keys: {', '.join(sorted(known))}"
            raise FigleafError(f"{override}: unknown key{hint}")
        addressed.append(override if name in groups or key != name else f"++{override}")
    return addressed


def _explain(error: Exception, root: str, overrides: Sequence[str]) -> str:
    """Hydra's message, shortened to what a user can act on."""
    noise = ("See https", "Check that", "object_type", "full_key", "Config search path", "provider=", "full_key")
    lines = [line.strip() for line in str(error).splitlines()]
    message = " ".join(line for line in lines if line and not line.startswith(noise))
    if "Missing mandatory value" in message:
        message += f"; pass it, for example `figleaf {root} run=latest`"
    # Hydra does not always say which override it stumbled over.
    unnamed = not any(override.split("=")[0] in message for override in overrides)
    return f"{' '.join(overrides)}: {message}" if overrides and unnamed else message


def _keys(schema: type, prefix: str = "") -> list[str]:
    hints = typing.get_type_hints(schema)
    keys: list[str] = []
    for f in dataclasses.fields(schema):
        hint = hints[f.name]
        keys.append(f"{prefix}{f.name}")
        if dataclasses.is_dataclass(hint) and isinstance(hint, type):
            keys += _keys(hint, f"{prefix}{f.name}.")
    return keys


def _beside_or_packaged(name: str, witness: str) -> Path:
    package = Path(__file__).parent
    # In a checkout the package lies at src/figleaf; an installed wheel carries its own copy.
    candidates = [Path.cwd() / name, package.parents[1] / name, package / name]
    for folder in candidates:
        if (folder / witness).exists():
            return folder
    raise FigleafError(f"no {name}/ folder found; looked in {', '.join(str(c) for c in candidates)}")
