"""Weights from elsewhere in one form: torch and safetensors files, torchvision by name, Keras' npz, h5 and .keras."""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import URLError
from zipfile import BadZipFile

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from figleaf.errors import FigleafError
from figleaf.vgg.fc_head import DOWN, head_names
from figleaf.vgg.network import CONVOLUTIONS_PER_STAGE, IMAGENET_MEAN, IMAGENET_STD
from figleaf.vgg.weights_file import SUFFIXES

METADATA_KEY = "figleaf"

# keras.applications' vgg weights come from Caffe: mean subtracted on the 0-255 scale, no division (here in RGB order).
CAFFE_MEAN = (123.68, 116.779, 103.939)
CAFFE_STD = (1.0, 1.0, 1.0)


@dataclass(frozen=True)
class Pretrained:
    """Weights by layer name (see `VGG.layers`) and tensor name, PyTorch's layout, RGB input; and their normalisation.

    `mean` and `std` are RGB on the 0-255 scale.
    """

    layers: dict[str, dict[str, Tensor]]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def has_batch_norm(self) -> bool:
        """Whether batch norms stand among the layers."""
        return any("_bn" in name for name in self.layers)


def read(source: str, *, depth: int, batch_norm: bool) -> Pretrained:
    """The weights that `source` names: a path (`SUFFIXES`), or `torchvision:NAME` for this depth and batch norm.

    Files are read without unpickling code. Raises `FigleafError` when there are no such weights, when the file is
    damaged or no VGG, and when a download fails.
    """
    if source.startswith("torchvision:"):
        return _from_torchvision(source, depth, batch_norm)
    path = Path(source).expanduser()
    if not path.is_file():
        raise FigleafError(
            f"weights={source}: no such file; expected none, torchvision:NAME or a path ending in {', '.join(SUFFIXES)}"
        )
    match path.suffix.lower():
        case ".safetensors":
            return _from_safetensors(path)
        case ".pth" | ".pt" | ".ckpt":
            return _from_torch(path)
        case ".npz":
            return _from_npz(path)
        case ".h5" | ".hdf5":
            return _from_h5(path)
        case ".keras":
            return _from_keras_file(path)
        case _:
            raise FigleafError(f"weights={source}: expected a file ending in {', '.join(SUFFIXES)}")


def _from_torchvision(source: str, depth: int, batch_norm: bool) -> Pretrained:
    import torchvision

    wanted = source.removeprefix("torchvision:")
    model = f"VGG{depth}{'_BN' if batch_norm else ''}_Weights"
    enum = getattr(torchvision.models, model)
    if wanted not in enum.__members__:
        names = ", ".join(f"torchvision:{name}" for name in enum.__members__)
        raise FigleafError(f"weights={source}: torchvision's {model} has {names}")
    weights = enum[wanted]
    try:
        state = weights.get_state_dict(progress=False, check_hash=True)
    except (URLError, OSError) as error:
        raise FigleafError(
            f"weights={source}: the download failed ({error}); fetch {weights.url} on a machine with a network "
            "and pass the path of the file"
        ) from error
    return _from_state_dict(source, state, *_torchvision_normalization(weights))


def _from_torch(path: Path) -> Pretrained:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    # In a damaged or foreign stream it raises anything, according to where the bytes went wrong.
    except Exception as error:
        raise FigleafError(
            f"{path}: not a file of tensors that torch can load without running code ({_first_line(error)})"
        ) from error
    if not isinstance(content, Mapping):
        raise FigleafError(f"{path}: expected a state dict, found {type(content).__name__}")
    # Our checkpoints and Lightning's hold `state_dict`, torchvision's training script writes `model`.
    state = next((content[key] for key in ("state_dict", "model") if isinstance(content.get(key), Mapping)), content)
    hyperparameters = content.get("hyperparameters")
    if isinstance(hyperparameters, Mapping):
        return _from_state_dict(path, state, hyperparameters["mean"], hyperparameters["std"])
    return _from_state_dict(path, state, *_normalization(path, state))


def _from_safetensors(path: Path) -> Pretrained:
    try:
        state = safetensors.torch.load_file(path)
        with safe_open(path, framework="pt") as file:
            ours = json.loads((file.metadata() or {}).get(METADATA_KEY, "{}"))
    except (SafetensorError, ValueError) as error:
        raise FigleafError(f"{path}: not a safetensors file ({_first_line(error)})") from error
    if "hyperparameters" in ours:
        return _from_state_dict(path, state, ours["hyperparameters"]["mean"], ours["hyperparameters"]["std"])
    return _from_state_dict(path, state, *_normalization(path, state))


def _from_state_dict(
    source: object, state: Mapping[str, Tensor], mean: Iterable[float], std: Iterable[float]
) -> Pretrained:
    """Layers from torchvision's names: their order says which is which."""
    groups: dict[tuple[str, int, str], dict[str, Tensor]] = {}
    dense: dict[str, dict[str, Tensor]] = {}  # the dense head's layers, which have names
    for key, tensor in state.items():
        # `module.` is what DataParallel and DistributedDataParallel put before every name.
        match = re.fullmatch(r"(?:module\.)?(features|classifier)\.(\w+)(\.down|\.up|)\.(\w+)", str(key))
        if match:
            section, place, half, name = match.groups()
            known = (
                groups.setdefault((section, int(place), half), {}) if place.isdigit() else dense.setdefault(place, {})
            )
            known[name] = tensor
    # In the order of the layers: `.down`, the first half of a factored one, stands before its `.up`.
    ordered = {place: groups[place] for place in sorted(groups) if "weight" in groups[place]}
    convolutions = [group for group in ordered.values() if group["weight"].ndim == 4]
    norms = [group for group in ordered.values() if group["weight"].ndim == 1]
    linear = {place: group for place, group in ordered.items() if group["weight"].ndim == 2}
    names = _block_names(source, len(convolutions))
    if len(norms) not in (0, len(names)):
        raise FigleafError(f"{source}: {len(norms)} batch norms for {len(names)} convolutions is no VGG")
    layers = {f"block{name.replace('_', '_conv')}": group for name, group in zip(names, convolutions, strict=True)}
    layers |= {f"block{name.replace('_', '_bn')}": group for name, group in zip(names, norms, strict=False)}
    head = head_names([half == ".down" for _, _, half in linear])
    layers |= dict(zip(head, linear.values(), strict=True)) if linear else dense
    return Pretrained(layers, tuple(mean), tuple(std))


def _block_names(source: object, convolutions: int) -> list[str]:
    """`1_1`, `1_2`, `2_1`, ...: block and number within it of each convolution, known from how many there are."""
    for stages in CONVOLUTIONS_PER_STAGE.values():
        if sum(stages) == convolutions:
            return [f"{b}_{c}" for b, count in enumerate(stages, start=1) for c in range(1, count + 1)]
    known = ", ".join(str(sum(stages)) for stages in CONVOLUTIONS_PER_STAGE.values())
    raise FigleafError(
        f"{source}: {convolutions} convolutions under `features` (torchvision's names); VGG networks have {known}"
    )


def _normalization(path: Path, state: Mapping[str, Tensor]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """What images the weights expect: their own first layer, torchvision's record of this file, or ImageNet's."""
    if "normalize.mean" in state:
        mean, scale = state["normalize.mean"].flatten(), state["normalize.scale"].flatten()
        return tuple(mean.tolist()), tuple((1 / scale).tolist())
    import torchvision

    for depth in CONVOLUTIONS_PER_STAGE:
        for suffix in ("", "_BN"):
            for weights in getattr(torchvision.models, f"VGG{depth}{suffix}_Weights"):
                if weights.url.endswith(f"/{path.name}"):
                    return _torchvision_normalization(weights)
    return IMAGENET_MEAN, IMAGENET_STD


def _torchvision_normalization(weights: Any) -> tuple[tuple[float, ...], tuple[float, ...]]:
    transforms = weights.transforms()
    return tuple(255 * x for x in transforms.mean), tuple(255 * x for x in transforms.std)


def _from_npz(path: Path) -> Pretrained:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            groups: dict[str, list[np.ndarray]] = {}
            for key in arrays.files:
                array = arrays[key]
                if not isinstance(array, np.ndarray):  # of what is no array in the archive numpy gives the bytes
                    raise ValueError(f"{key!r} is no array")
                groups.setdefault(key.partition("/")[0], []).append(array)
    except (BadZipFile, ValueError, EOFError, TypeError, AttributeError, MemoryError) as error:
        raise FigleafError(f"{path}: not a readable npz file ({_first_line(error)})") from error
    return _from_keras(path, groups)


def _from_h5(path: Path) -> Pretrained:
    """Keras' own HDF5 layout: attribute `layer_names`, and `weight_names` for each layer (text or bytes)."""
    import h5py

    try:
        with h5py.File(path, "r") as file:
            root = file.get("model_weights", file)
            if "layer_names" not in root.attrs:
                raise FigleafError(
                    f"{path}: no `layer_names`: expected Keras' legacy .h5 layout, as keras.applications distributes it"
                )
            groups = {}
            for layer in map(_text, root.attrs["layer_names"]):
                names = map(_text, _inside(root, layer).attrs["weight_names"])
                groups[layer] = [np.asarray(_inside(root, f"{layer}/{name}")) for name in names]
    except (OSError, KeyError, TypeError, ValueError, AttributeError, RuntimeError, MemoryError) as error:
        raise FigleafError(f"{path}: not a readable Keras .h5 file ({_first_line(error)})") from error
    return _from_keras(path, groups)


def _inside(root: Any, name: str) -> Any:
    """The group or dataset `name` below `root`, with its content in this very file.

    HDF5 can take it from any other: by a link, as raw bytes outside, or as a view. Raises `ValueError` for those.
    """
    import h5py

    place = root
    for part in name.split("/"):
        if not isinstance(place.get(part, getlink=True), h5py.HardLink):
            raise ValueError(f"{name} is no part of the file but a link")
        place = place[part]
    if isinstance(place, h5py.Dataset) and (place.external or place.is_virtual):
        raise ValueError(f"{name} has its values in another file")
    return place


def _from_keras_file(path: Path) -> Pretrained:
    """A Keras 3 file: ours, whose first layer is the normalisation of RGB, or a VGG of keras.applications."""
    from figleaf.vgg.keras_runtime import load_keras

    keras = load_keras()
    try:
        model = keras.saving.load_model(path, compile=False, safe_mode=True)
        groups = {layer.name: layer.get_weights() for layer in model.layers if layer.get_weights()}
    # Of what it does not know Keras raises what it likes.
    except Exception as error:
        raise FigleafError(
            f"{path}: not a Keras file that can be loaded without running code ({_first_line(error)})"
        ) from error
    if "normalize" not in groups:
        return _from_keras(path, groups)
    kernel, shift = groups.pop("normalize")
    found = _from_keras(path, groups)
    found.layers["block1_conv1"]["weight"] = found.layers["block1_conv1"]["weight"].flip(1)  # ours is RGB already
    std = 1 / np.diagonal(kernel[0, 0]).astype(np.float64)
    return Pretrained(found.layers, tuple((-shift * std).tolist()), tuple(std.tolist()))


def _from_keras(path: Path, groups: Mapping[str, list[np.ndarray]]) -> Pretrained:
    """Kernels turned from (height, width, in, out) to (out, in, height, width), and the first one from BGR to RGB."""
    layers: dict[str, dict[str, Tensor]] = {}
    dense: list[tuple[str, np.ndarray, np.ndarray]] = []
    for name, arrays in groups.items():
        # Told apart by their shape: old files call them `block1_conv1_W_1:0` and `block1_conv1_b_1:0`.
        kernel = next((a for a in arrays if a.ndim in (2, 4)), None)
        bias = next((a for a in arrays if a.ndim == 1), None)
        if kernel is None or bias is None:
            continue
        if kernel.ndim == 2:
            dense.append((name, kernel, bias))
        elif re.fullmatch(r"block[1-5]_conv[1-4]", name):
            weight = np.transpose(kernel, (3, 2, 0, 1))
            layers[name] = _tensors(weight[:, ::-1] if name == "block1_conv1" else weight, bias)
    if "block1_conv1" not in layers:
        raise FigleafError(f"{path}: no `block1_conv1`: expected the layers of keras.applications' VGG16 or VGG19")
    channels = layers[max(layers)]["weight"].shape[0]
    head = head_names([name.endswith(DOWN) for name, _, _ in dense])
    for position, (name, (_, kernel, bias)) in enumerate(zip(head, dense, strict=True)):
        layers[name] = _tensors(_from_flattened(kernel, channels) if position == 0 else kernel.T, bias)
    return Pretrained(layers, CAFFE_MEAN, CAFFE_STD)


def _from_flattened(kernel: np.ndarray, channels: int) -> np.ndarray:
    """The first dense kernel, whose inputs were flattened with channels last, for inputs flattened with channels first.

    From (grid * grid * channels, out) to (out, channels * grid * grid).
    """
    grid = round((kernel.shape[0] / channels) ** 0.5)
    return kernel.T.reshape(-1, grid, grid, channels).transpose(0, 3, 1, 2).reshape(kernel.shape[1], -1)


def _tensors(weight: np.ndarray, bias: np.ndarray) -> dict[str, Tensor]:
    return {
        "weight": torch.from_numpy(np.ascontiguousarray(weight, dtype=np.float32)),
        "bias": torch.from_numpy(np.asarray(bias, dtype=np.float32)),
    }


def _text(name: str | bytes) -> str:
    return name.decode() if isinstance(name, bytes) else name


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
