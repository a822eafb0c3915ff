"""Fitted systems in files without pickle: one safetensors file of their arrays, and JSON for everything else.

A system is what its constructor was given (`get_params`) and what fitting left in attributes that end in `_`. Both are
walked: arrays become tensors; numbers, texts and lists go to the JSON; systems inside of systems are walked in turn;
scikit-learn's own estimators are written by skops, which on reading builds none but the types of a fixed list.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import safetensors.numpy
import skops.io
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from sklearn.base import BaseEstimator
from skops.io.exceptions import UntrustedTypesFoundException

from figleaf.errors import FigleafError
from figleaf.files import atomic_path, uncovered

FORMAT_VERSION = 1
METADATA_KEY = "figleaf.system"
# What skops may build besides numpy's and scikit-learn's public types: the inner parts of the estimators that the
# systems use. A file that wants anything else is refused.
TRUSTED = (
    "numpy.dtype",
    "sklearn._loss.link.Interval",
    "sklearn._loss.link.LogitLink",
    "sklearn._loss.loss.HalfBinomialLoss",
    "sklearn.ensemble._hist_gradient_boosting.binning._BinMapper",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
)
_KIND = "kind"


def save_system(system: BaseEstimator, path: Path, facts: Mapping[str, Any]) -> Path:
    """Write a fitted `system` and the plain `facts` that belong to it; the same system gives the same bytes.

    Raises `TypeError` for an attribute of a kind that has no place in such a file: a fault of the system, not of its
    user.
    """
    tensors: dict[str, NDArray[Any]] = {}
    described = _described(system, "", tensors)
    about = {"format_version": FORMAT_VERSION, "facts": dict(facts), "system": described}
    metadata = {METADATA_KEY: json.dumps(about, ensure_ascii=False)}
    if not tensors:  # safetensors wants one
        tensors["nothing"] = np.zeros(0, np.uint8)
    with atomic_path(path) as temporary, uncovered(SafetensorError):
        safetensors.numpy.save_file(tensors, temporary, metadata=metadata)
    return path


def is_system(path: Path) -> bool:
    """Whether the safetensors file holds a skin system; a network's weights are another kind of file."""
    try:
        with safe_open(path, framework="numpy") as file:
            return METADATA_KEY in (file.metadata() or {})
    except (OSError, SafetensorError):
        return False


def load_system(path: Path) -> tuple[Any, dict[str, Any]]:
    """The system and the facts that `save_system` wrote.

    Raises `FigleafError` for a file that is missing, damaged, of another format, or that asks for types which no system
    of ours consists of.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            about = json.loads((file.metadata() or {})[METADATA_KEY])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no mapping
        if about["format_version"] != FORMAT_VERSION:
            version = about["format_version"]
            raise FigleafError(f"{path}: format_version={version}, this figleaf reads {FORMAT_VERSION}")
        return _built(about["system"], "", tensors), about["facts"]
    except FileNotFoundError as error:
        raise FigleafError(f"{path}: no such file") from error
    except UntrustedTypesFoundException as error:
        raise FigleafError(f"{path}: asks for types that no skin system has, so it is not loaded: {error}") from error
    # skops unpacks a zip file, in which anything may be missing or of another kind.
    except (
        *(OSError, SafetensorError, BadZipFile, KeyError, TypeError, ValueError, AttributeError),
        *(IndexError, RecursionError, RuntimeError, ImportError),
    ) as error:
        raise FigleafError(f"{path}: not a readable skin system ({error!r}); fit it again") from error


def _classes() -> dict[str, type[BaseEstimator]]:
    """By name, the classes that a file may ask for."""
    from figleaf.skin.systems import PARTS

    return {part.__name__: part for part in PARTS}


def _described(value: Any, place: str, tensors: dict[str, NDArray[Any]]) -> Any:
    """`value` as JSON, its arrays put into `tensors` under their place."""
    if isinstance(value, np.ndarray):
        if value.dtype == object or value.dtype.kind in "US":
            return {_KIND: "list", "items": value.tolist()}
        tensors[place] = np.ascontiguousarray(value)
        return {_KIND: "array"}
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        return {_KIND: "list", "items": [_described(item, f"{place}[{i}]", tensors) for i, item in enumerate(value)]}
    if isinstance(value, dict):
        items = {str(key): _described(item, f"{place}[{key}]", tensors) for key, item in value.items()}
        return {_KIND: "mapping", "items": items}
    if isinstance(value, BaseEstimator) and type(value) in _classes().values():
        fitted = {name: item for name, item in vars(value).items() if name.endswith("_") and not name.startswith("_")}
        return {
            _KIND: "ours",
            "class": type(value).__name__,
            "given": {
                name: _described(item, f"{place}.{name}", tensors)
                for name, item in value.get_params(deep=False).items()
            },
            "fitted": {name: _described(item, f"{place}.{name}", tensors) for name, item in fitted.items()},
        }
    if isinstance(value, BaseEstimator) and type(value).__module__.startswith("sklearn."):
        tensors[place] = np.frombuffer(skops.io.dumps(value), np.uint8)
        return {_KIND: "sklearn"}
    raise TypeError(f"{place.lstrip('.') or 'the system'} is a {type(value).__name__}, which has no place in a file")


def _built(described: Any, place: str, tensors: Mapping[str, NDArray[Any]]) -> Any:
    """The inverse of `_described`."""
    if not isinstance(described, dict):
        return described
    kind = described[_KIND]
    if kind == "array":
        return tensors[place]
    if kind == "list":
        return [_built(item, f"{place}[{i}]", tensors) for i, item in enumerate(described["items"])]
    if kind == "mapping":
        return {key: _built(item, f"{place}[{key}]", tensors) for key, item in described["items"].items()}
    if kind == "sklearn":
        return skops.io.loads(tensors[place].tobytes(), trusted=list(TRUSTED))
    given = {name: _built(item, f"{place}.{name}", tensors) for name, item in described["given"].items()}
    system = _classes()[described["class"]](**given)
    for name, item in described["fitted"].items():
        if not name.endswith("_") or name.startswith("_"):  # what fitting leaves, and no method or class in its place
            raise ValueError(f"{name!r} is nothing that fitting leaves")
        setattr(system, name, _built(item, f"{place}.{name}", tensors))
    return system
