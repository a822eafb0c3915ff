"""Scoring pictures with an exported TensorFlow.js folder, read as TensorFlow.js reads it and run by torch.

For the comparison with the checkpoint where there is no Node: it knows the file's layers and nothing of our networks.
"""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from figleaf.data.decode import RESIZE_RULE
from figleaf.errors import FigleafError
from figleaf.export.tfjs import METADATA_KEY, MODEL
from figleaf.vgg.scorer import in_batches

_SHARD = re.compile(r"[\w-][\w.-]*", re.ASCII)
_STORED = {"float32": "<f4", "float16": "<f2", "uint8": "u1"}


class TfjsScorer:
    """Scores pictures with the model in `folder`; see `figleaf.evaluate.scorer.Scorer`.

    `metadata` is what the export wrote. Raises `FigleafError` when files are missing, damaged or not figleaf's.
    """

    def __init__(self, folder: Path) -> None:
        try:
            written = json.loads((folder / MODEL).read_text(encoding="utf-8"))
            groups = written["weightsManifest"]
            content = b"".join(_shard(folder, path).read_bytes() for group in groups for path in group["paths"])
            self.metadata: dict[str, Any] = written["userDefinedMetadata"][METADATA_KEY]
            self._layers: list[dict[str, Any]] = written["modelTopology"]["model_config"]["config"]["layers"]
            self._weights = _decoded([spec for group in groups for spec in group["weights"]], content)
            self.classes: tuple[str, ...] = tuple(self.metadata["classes"])
            self.unsafe: tuple[str, ...] = tuple(self.metadata["unsafe"])
            self.threshold: float | None = self.metadata.get("threshold")
            self.input_size: int = self._layers[0]["config"]["batch_input_shape"][1]
        except (
            *(OSError, ValueError, KeyError, TypeError, AttributeError, IndexError),
            *(RecursionError, OverflowError, RuntimeError),
        ) as error:
            raise FigleafError(
                f"{folder}: no TensorFlow.js model that figleaf exported ({type(error).__name__}: {str(error)[:200]})"
            ) from error
        if self.metadata.get("resize_rule") != RESIZE_RULE:
            raise FigleafError(
                f"{folder}: made for pictures resized by {self.metadata.get('resize_rule')}, this figleaf resizes by "
                f"{RESIZE_RULE}; export the run again"
            )

    @torch.inference_mode()
    def logits(self, rgb_u8: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Logits (N, C) of pictures (N, S, S, 3)."""
        return in_batches(self._answer, rgb_u8, len(self.classes), torch.device("cpu"))

    def _answer(self, rgb: Tensor) -> Tensor:
        x = rgb.float()
        for layer in self._layers:
            x = self._through(layer["class_name"], layer["config"], x)
        return x

    def _through(self, kind: str, config: dict[str, Any], x: Tensor) -> Tensor:
        """What one layer makes of maps (N, C, h, w), as torch has them, or of features (N, F)."""
        if kind == "MaxPooling2D":
            return F.max_pool2d(x, config["pool_size"], config["strides"])
        if kind == "GlobalAveragePooling2D":
            return x.mean(dim=(2, 3))
        if kind == "Flatten":
            return x.permute(0, 2, 3, 1).flatten(1)  # TensorFlow.js has the channels last
        kernel, bias = (self._weights[f"{config['name']}/{part}"] for part in ("kernel", "bias"))
        if kind == "Conv2D":
            x = F.conv2d(x, kernel.permute(3, 2, 0, 1), bias, padding=config["padding"])
        else:
            x = F.linear(x, kernel.T, bias)
        return x.relu() if config["activation"] == "relu" else x


def _shard(folder: Path, name: str) -> Path:
    """A file beside the model: a name that leads elsewhere is none of ours."""
    if not _SHARD.fullmatch(name):
        raise ValueError(f"the shard {name[:80]!r} is no plain file name")
    return folder / name


def _decoded(specs: list[dict[str, Any]], content: bytes) -> dict[str, Tensor]:
    """The weights by name: float32 as it is, float16 widened, uint8 as `level * scale + min`."""
    found: dict[str, Tensor] = {}
    start = 0
    for spec in specs:
        quantization = spec.get("quantization", {"dtype": "float32"})
        stored = np.dtype(_STORED[quantization["dtype"]])
        count = int(np.prod(spec["shape"]))
        values = np.frombuffer(content, stored, count, start).astype(np.float32)
        start += count * stored.itemsize
        if quantization["dtype"] == "uint8":
            values = values * np.float32(quantization["scale"]) + np.float32(quantization["min"])
        found[spec["name"]] = torch.from_numpy(values.reshape(spec["shape"]))
    if start != len(content):
        raise ValueError(f"{len(content)} bytes of weights for {start}")
    return found
