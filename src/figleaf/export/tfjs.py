"""The network as a TensorFlow.js layers model: a folder with `model.json` and shards of weights, written here.

The layers are those of keras.applications by name (`block1_conv1` to `block5_pool`, `fc1`, `fc2`, `predictions`; a
factored `fc1` is `fc1_down` and `fc1`); batch norms are folded into the convolutions before them, dropout is left out.
It takes RGB in 0-255, (N, S, S, 3) float32, and gives logits: maps and gradient ascent want them, and a softmax is one
line for the caller. The normalisation is the first layer, a 1x1 convolution of three channels: folded into the first
3x3 convolution it would be wrong at the borders, where the padding stands for the mean and not for black.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from figleaf.errors import FigleafError
from figleaf.files import atomic_path, write_text
from figleaf.vgg.fc_head import DOWN, linear_layers
from figleaf.vgg.network import STRIDE, TORCHVISION_GRID, VGG

Dtype = Literal["float32", "float16", "uint8"]
MODEL, METADATA_KEY = "model.json", "figleaf"
SHARD_BYTES = 4 * 2**20  # what TensorFlow.js's own converter writes: small enough for any cache
FLOAT16_MAX = 65504.0


@dataclass(frozen=True, eq=False)
class Weight:
    """One array of the model by its name there, as float32; `kept` in that precision, whatever the shards' is."""

    name: str
    values: NDArray[np.float32]
    kept: bool


def write_tfjs(net: VGG, folder: Path, metadata: Mapping[str, Any], dtype: Dtype = "float16") -> Path:
    """Write `net` in evaluation mode to `folder`, its kernels in `dtype`, and give the folder.

    Biases and the normalisation stay float32: they weigh nothing. `metadata`, plain JSON values, goes into `model.json`
    under `userDefinedMetadata.figleaf`, together with `cam` (which layer the maps of classes come from and how) and
    `tfjs` (the precision and the bytes of the weights). `net` is left as it is.

    Raises `FigleafError` for what TensorFlow.js has no equal layer for, and kernels that `dtype` cannot hold.
    """
    if dtype not in get_args(Dtype):
        raise FigleafError(f"tfjs_dtype={dtype}: expected {', '.join(get_args(Dtype))}")
    require_tfjs(net)
    layers, weights = keras_layers(net)
    stored = [_stored(weight, dtype) for weight in weights]
    total = sum(len(content) for _, content in stored)
    count = -(-total // SHARD_BYTES)
    names = [f"group1-shard{number}of{count}.bin" for number in range(1, count + 1)]
    for name, content in zip(names, _shards(content for _, content in stored), strict=True):
        with atomic_path(folder / name) as temporary:
            temporary.write_bytes(content)
    record = {**metadata, "cam": cam_of(net), "tfjs": {"dtype": dtype, "weight_bytes": total, "output": "logits"}}
    model = {
        "format": "layers-model",
        "generatedBy": "figleaf",
        "convertedBy": None,
        "modelTopology": {
            "keras_version": "2.15.0",
            "backend": "tensorflow",
            "model_config": {"class_name": "Sequential", "config": {"name": f"vgg{net.depth}", "layers": layers}},
        },
        "weightsManifest": [{"paths": names, "weights": [spec for spec, _ in stored]}],
        "userDefinedMetadata": {METADATA_KEY: record},
    }
    write_text(folder / MODEL, json.dumps(model, ensure_ascii=False) + "\n")
    return folder


def require_tfjs(net: VGG) -> None:
    """Raises `FigleafError` for a network that TensorFlow.js has no equal layers for, before there is work to lose."""
    require_keras_layers(net, "tfjs")


def require_keras_layers(net: VGG, form: str) -> None:
    """Raises `FigleafError`, naming the format, for a network that Keras' layers, or TensorFlow.js', do not equal."""
    if net.head == "dense":
        raise FigleafError(
            f"format={form}: a dense head resizes and joins what five stages see, and there is no layer that "
            "resizes alike; leave this format out, format=[onnx] holds it"
        )
    grid = net.input_size // STRIDE
    if net.head == "fc" and net.adaptive_pool and grid != TORCHVISION_GRID:
        raise FigleafError(
            f"format={form}: model.adaptive_pool=true makes {TORCHVISION_GRID}x{TORCHVISION_GRID} of the {grid}x{grid} "
            f"grid at input_size={net.input_size}, and there is no such layer; train with adaptive_pool=false "
            f"or input_size={TORCHVISION_GRID * STRIDE}, or leave this format out"
        )


def cam_of(net: VGG) -> dict[str, str]:
    """Which layer the maps of classes come from, and by which `method`.

    The last convolution. There Grad-CAM of a `gap` head is the class's column over the activations, CAM: each cell of
    the pooling sends its gradient to one place, so the mean gradient of a channel is its weight, up to one factor.
    """
    return {"layer": list(net.convolutions)[-1], "method": "CAM" if net.head == "gap" else "Grad-CAM"}


def keras_layers(net: VGG) -> tuple[list[dict[str, Any]], list[Weight]]:
    """The network as Keras' layers, in order (`class_name`, `config`), and their weights, batch norms folded."""
    size = net.input_size
    scale = 1 / np.asarray(net.std, np.float64)
    kernel, bias = np.diag(scale)[None, None], -np.asarray(net.mean, np.float64) * scale
    first = _conv("normalize", 3, 1, "linear")
    first["config"]["batch_input_shape"] = [None, size, size, 3]
    layers = [first]
    weights = list(_weights("normalize", kernel, bias, kept=True))
    for block, stage in enumerate(net.stages, start=1):
        for number, (convolution, norm) in enumerate(_convolutions(stage), start=1):
            name = f"block{block}_conv{number}"
            folded, shift = _folded(convolution, norm)
            layers.append(_conv(name, convolution.out_channels, 3, "relu"))
            weights += _weights(name, folded.transpose(2, 3, 1, 0), shift)
        layers.append(_pool(f"block{block}_pool"))
    grid = 1
    if net.head == "gap":
        layers.append({"class_name": "GlobalAveragePooling2D", "config": {"name": "avg_pool", **_LAST}})
    else:
        layers.append({"class_name": "Flatten", "config": {"name": "flatten", **_LAST}})
        grid = size // STRIDE
    for place, (name, linear) in enumerate(linear_layers(net.classifier).items()):
        matrix = _plain(linear.weight)
        if place == 0:  # it reads the maps: channels come last there
            matrix = matrix.reshape(len(matrix), -1, grid, grid).transpose(0, 2, 3, 1).reshape(len(matrix), -1)
        is_linear = name == "predictions" or name.endswith(DOWN)
        layers.append(_dense(name, linear.out_features, "linear" if is_linear else "relu"))
        bias = np.zeros(len(matrix)) if linear.bias is None else _plain(linear.bias)
        weights += _weights(name, matrix.T, bias)
    return layers, weights


_LAST: dict[str, Any] = {"trainable": True, "data_format": "channels_last"}


def _conv(name: str, filters: int, side: int, activation: str) -> dict[str, Any]:
    config = {"name": name, "filters": filters, "kernel_size": [side, side], "strides": [1, 1], "padding": "same"}
    return {"class_name": "Conv2D", "config": {**config, "activation": activation, "use_bias": True, **_LAST}}


def _pool(name: str) -> dict[str, Any]:
    config = {"name": name, "pool_size": [2, 2], "strides": [2, 2], "padding": "valid"}
    return {"class_name": "MaxPooling2D", "config": {**config, **_LAST}}


def _dense(name: str, units: int, activation: str) -> dict[str, Any]:
    config = {"name": name, "trainable": True, "units": units, "activation": activation, "use_bias": True}
    return {"class_name": "Dense", "config": config}


def _convolutions(stage: nn.Sequential) -> Iterator[tuple[nn.Conv2d, nn.BatchNorm2d | None]]:
    """The convolutions of a stage, each with the batch norm that follows it."""
    modules = list(stage)
    for place, layer in enumerate(modules):
        if isinstance(layer, nn.Conv2d):
            after = modules[place + 1]
            yield layer, after if isinstance(after, nn.BatchNorm2d) else None


def _folded(convolution: nn.Conv2d, norm: nn.BatchNorm2d | None) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The kernel (O, I, 3, 3) and bias (O,) of a convolution and its batch norm as one convolution."""
    assert convolution.bias is not None  # every convolution here has one
    kernel, bias = _plain(convolution.weight), _plain(convolution.bias)
    if norm is None:
        return kernel, bias
    assert norm.running_mean is not None  # batch norms here keep statistics
    assert norm.running_var is not None
    factor = _plain(norm.weight) / np.sqrt(_plain(norm.running_var) + norm.eps)
    return kernel * factor[:, None, None, None], (bias - _plain(norm.running_mean)) * factor + _plain(norm.bias)


def _plain(tensor: Tensor) -> NDArray[np.float64]:
    return tensor.detach().cpu().double().numpy()


def _weights(name: str, kernel: NDArray[np.float64], bias: NDArray[np.float64], kept: bool = False) -> Iterator[Weight]:
    yield Weight(f"{name}/kernel", np.ascontiguousarray(kernel, np.float32), kept)
    yield Weight(f"{name}/bias", np.ascontiguousarray(bias, np.float32), True)


def _stored(weight: Weight, dtype: Dtype) -> tuple[dict[str, Any], bytes]:
    """What the manifest says of a weight, and its bytes in the shards."""
    spec: dict[str, Any] = {"name": weight.name, "shape": list(weight.values.shape), "dtype": "float32"}
    if weight.kept or dtype == "float32":
        return spec, weight.values.astype("<f4").tobytes()
    low, high = float(weight.values.min()), float(weight.values.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise FigleafError(f"format=tfjs: {weight.name} holds values that are not finite; train again")
    if dtype == "float16":
        if max(-low, high) > FLOAT16_MAX:
            raise FigleafError(f"format=tfjs: {weight.name} goes beyond what float16 holds; pass tfjs_dtype=float32")
        spec["quantization"] = {"dtype": "float16", "original_dtype": "float32"}
        return spec, weight.values.astype("<f2").tobytes()
    scale = (high - low) / 255 or 1.0
    levels = np.clip(np.round((weight.values.astype(np.float64) - low) / scale), 0, 255)
    spec["quantization"] = {"dtype": "uint8", "min": low, "scale": scale, "original_dtype": "float32"}
    return spec, levels.astype(np.uint8).tobytes()


def _shards(contents: Iterable[bytes]) -> Iterator[bytes]:
    """The contents end to end, cut into pieces of `SHARD_BYTES`; the last may be shorter."""
    held = bytearray()
    for content in contents:
        held += content
        whole = len(held) // SHARD_BYTES * SHARD_BYTES
        for start in range(0, whole, SHARD_BYTES):
            yield bytes(held[start : start + SHARD_BYTES])
        del held[:whole]
    if held:
        yield bytes(held)
