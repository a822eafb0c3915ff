"""The network as a Keras 3 file: the layers of keras.applications by name, on which any of its backends can go on.

The layers are those of `figleaf.export.tfjs`: batch norms folded, the normalisation as the first layer, a 1x1
convolution; RGB in 0-255 in, (N, S, S, 3) float32, logits out. What figleaf says of it lies inside as figleaf.json.
"""

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from figleaf.data.decode import RESIZE_RULE
from figleaf.errors import FigleafError
from figleaf.export.tfjs import keras_layers, require_keras_layers
from figleaf.files import atomic_path
from figleaf.vgg.keras_runtime import load_keras
from figleaf.vgg.network import VGG
from figleaf.vgg.scorer import in_batches

RECORD = "figleaf.json"


def write_keras(net: VGG, path: Path, metadata: Mapping[str, Any]) -> Path:
    """Write `net` in evaluation mode to `path`, which ends in .keras, and give it; `metadata` are plain JSON values.

    Raises `FigleafError` where Keras is missing, and for what it has no equal layer for.
    """
    require_keras(net)
    keras = load_keras()
    layers, weights = keras_layers(net)
    model = keras.Sequential([keras.Input((net.input_size, net.input_size, 3))], name=f"vgg{net.depth}")
    for layer in layers:
        config = {key: value for key, value in layer["config"].items() if key != "batch_input_shape"}
        model.add(getattr(keras.layers, layer["class_name"])(**config))
    arrays: dict[str, list[NDArray[np.float32]]] = {}
    for weight in weights:
        arrays.setdefault(weight.name.partition("/")[0], []).append(weight.values)
    for name, values in arrays.items():
        model.get_layer(name).set_weights(values)
    with atomic_path(path) as temporary:
        model.save(temporary)
        with zipfile.ZipFile(temporary, "a") as archive:
            archive.writestr(RECORD, json.dumps(dict(metadata), ensure_ascii=False))
    return path


def require_keras(net: VGG) -> None:
    """Raises `FigleafError` for a network without equal layers in Keras, and where that is missing."""
    require_keras_layers(net, "keras")
    load_keras()


class KerasScorer:
    """Scores pictures with the Keras file at `path`; see `figleaf.evaluate.scorer.Scorer`.

    `metadata` is what the export wrote. Nothing in the file runs as code. Raises `FigleafError` when it is missing,
    damaged or not figleaf's.
    """

    def __init__(self, path: Path) -> None:
        keras = load_keras()
        try:
            with zipfile.ZipFile(path) as archive:
                self.metadata: dict[str, Any] = json.loads(archive.read(RECORD))
            self._model = keras.saving.load_model(path, compile=False, safe_mode=True)
            self.classes: tuple[str, ...] = tuple(self.metadata["classes"])
            self.unsafe: tuple[str, ...] = tuple(self.metadata["unsafe"])
            self.threshold: float | None = self.metadata.get("threshold")
            self.input_size: int = self._model.input_shape[1]
        # Of what it does not know Keras raises what it likes.
        except Exception as error:
            raise FigleafError(f"{path}: no Keras file that figleaf exported ({error!r})") from error
        if self.metadata.get("resize_rule") != RESIZE_RULE:
            raise FigleafError(
                f"{path}: made for pictures resized by {self.metadata.get('resize_rule')}, this figleaf resizes by "
                f"{RESIZE_RULE}; export the run again"
            )

    def logits(self, rgb_u8: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Logits (N, C) of pictures (N, S, S, 3)."""
        return in_batches(self._answer, rgb_u8, len(self.classes), torch.device("cpu"))

    @torch.inference_mode()
    def _answer(self, rgb: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self._model(rgb.permute(0, 2, 3, 1).float(), training=False)
        return found
