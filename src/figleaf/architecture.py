"""The architecture that a file of weights brings along: read from its header, since torch takes seconds to import."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from figleaf.errors import FigleafError
from figleaf.settings import ARCHITECTURE, ModelConfig

_KEY = "figleaf"  # under which `figleaf.vgg.weights.save` writes
_LARGEST_HEADER = 100_000_000  # bytes; safetensors' own limit


def completed(model: ModelConfig, *, required: bool = False) -> ModelConfig:
    """`model` with the architecture of the file in `weights`, where `architecture` says so and the file is here.

    Raises `FigleafError` when there can be no such file (when none is named, only if it is `required`), when it brings
    no architecture, and for a key that was given another value than the file has.
    """
    if model.architecture != "weights" or (model.weights == "none" and not required):
        return model
    path = Path(model.weights).expanduser()
    if path.suffix != ".safetensors":
        raise FigleafError(
            f"model.weights={model.weights}: model.architecture=weights expects a .safetensors file of figleaf, which "
            "holds the architecture: `figleaf compress` writes one, and every run has its best.safetensors"
        )
    if not path.is_file():
        return model
    found = header(path).get("hyperparameters")
    if not isinstance(found, dict):
        raise FigleafError(f"model.weights={model.weights}: holds tensors but no architecture of figleaf's")
    defaults = ModelConfig()
    own: dict[str, Any] = {key: found.get(key, getattr(defaults, key)) for key in ARCHITECTURE}
    for key, value in own.items():
        given = getattr(model, key)
        if given not in (getattr(defaults, key), value):
            raise FigleafError(
                f"model.{key}={given}: the network in {model.weights} has {key}={value}, which "
                "model.architecture=weights takes as it is; leave the key out"
            )
    return dataclasses.replace(model, **own)


def header(path: Path) -> dict[str, Any]:
    """What figleaf wrote into the header of a safetensors file: `hyperparameters`, `metadata`; empty for others' files.

    Raises `FigleafError` for a file that is no safetensors.
    """
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > _LARGEST_HEADER:
                raise ValueError("a header of more than 100 MB")
            told = json.loads(file.read(length)).get("__metadata__", {})
        found = json.loads(told.get(_KEY, "{}"))
    except (OSError, ValueError, AttributeError) as error:
        raise FigleafError(f"{path}: not a safetensors file ({error})") from error
    return found if isinstance(found, dict) else {}
