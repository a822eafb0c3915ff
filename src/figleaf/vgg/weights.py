"""A network's weights in and out: our safetensors files, initialisation from elsewhere, the paper's A-to-D start."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from figleaf.errors import FigleafError
from figleaf.files import atomic_path, uncovered
from figleaf.vgg.network import VGG
from figleaf.vgg.pretrained import METADATA_KEY, read

FORMAT_VERSION = 1


@dataclass(frozen=True)
class Initialisation:
    """What came of `initialise`, in layer names (see `VGG.layers`).

    `loaded` from the source, `left` as drawn, and `unused`: in the source, with no place in this network.
    """

    source: str
    loaded: tuple[str, ...]
    left: tuple[str, ...]
    unused: tuple[str, ...]

    @property
    def same_features(self) -> bool:
        """Whether every convolution was loaded and none left over: anything else is a start, not that network."""
        return bool(self.loaded) and not any("_conv" in name for name in (*self.left, *self.unused))

    def describe(self) -> str:
        """One line for a log, such as `13 layers from vgg16.npz; left at random: fc1, fc2, predictions`."""
        if not self.loaded:
            return "random initialisation"
        kind = "" if self.same_features else " (an initialisation: the network that gave them had other layers)"
        norms = [name for name in self.left if "_bn" in name]
        left_names = [name for name in self.left if name not in norms] + [f"{len(norms)} batch norms"] * bool(norms)
        left = f"; left at random: {', '.join(left_names)}" if left_names else ""
        unused = f"; not used: {', '.join(self.unused)}" if self.unused else ""
        return f"{len(self.loaded)} layers from {self.source}{kind}{left}{unused}"


def initialise(net: VGG, source: str) -> Initialisation:
    """Fill `net` in place from `source`, with its normalisation, and report what was loaded.

    `source` is `none`, `torchvision:IMAGENET1K_V1` (or another of torchvision's names for this depth), or the path of a
    torch, safetensors, keras npz or keras h5 file. Layers match by place: `block3_conv2` fills `block3_conv2`, so a
    deeper network gets the layers it shares. Batch norms stay as drawn when the source has none. Head layers are loaded
    in order up to the first that differs in shape or is not finite, since a later one would read features that its
    weights have never seen.

    Raises `FigleafError` when the source cannot be read, when a convolution differs in shape (another width), and when
    the source's convolutions rely on batch norms that `net` has not.
    """
    if source == "none":
        return Initialisation(source, (), tuple(net.layers), ())
    pretrained = read(source, depth=net.depth, batch_norm=net.batch_norm)
    if pretrained.has_batch_norm and not net.batch_norm:
        raise FigleafError(f"weights={source}: these weights need batch_norm=true, and this network has none")
    layers = net.layers
    loaded: list[str] = []
    head_fits = set(_head(layers)) == set(_head(pretrained.layers))
    for name, layer in layers.items():
        tensors = pretrained.layers.get(name)
        in_head = not name.startswith("block")
        if tensors is None or (in_head and not head_fits):
            continue
        ours = layer.state_dict()
        fits = all(tensors[key].shape == ours[key].shape for key in ours.keys() & tensors.keys())
        if in_head and not (fits and all(t.isfinite().all() for t in tensors.values())):
            head_fits = False
            continue
        if not fits:
            raise FigleafError(
                f"weights={source}: {name} is {tuple(tensors['weight'].shape)} there and "
                f"{tuple(ours['weight'].shape)} here; use the width these weights were made for "
                f"(this network has width={net.width}), or weights=none; a compressed network's own file brings its "
                "layers along with model=from_file"
            )
        # Some files lack a tensor (`num_batches_tracked` in old torchvision ones): it stays as it is.
        layer.load_state_dict({key: tensors.get(key, tensor) for key, tensor in ours.items()})
        loaded.append(name)
    net.set_normalization(pretrained.mean, pretrained.std)
    return Initialisation(
        source,
        tuple(loaded),
        tuple(name for name in layers if name not in loaded),
        tuple(name for name in pretrained.layers if name not in layers),
    )


def init_from_shallower(net: VGG, shallow: VGG) -> tuple[str, ...]:
    """Copy the first four convolutions and the fully connected layers of `shallow` into `net`; give their names.

    Simonyan & Zisserman (2015), section 3.1: the deeper configurations start from a trained A (11 layers), the layers
    between at random. The four are those of the same place: `block1_conv1`, `block2_conv1`, `block3_conv1` and
    `block3_conv2` when `shallow` is A. Their batch norms come along where both networks have them.

    Raises `FigleafError` when a layer differs in shape.
    """
    first_four = list(shallow.convolutions)[:4]
    wanted = {*first_four, *(name.replace("conv", "bn") for name in first_four), *_head(shallow.layers)}
    target = net.layers
    copied = [name for name in shallow.layers if name in wanted and name in target]
    for name in copied:
        ours, theirs = target[name].state_dict(), shallow.layers[name].state_dict()
        if ours["weight"].shape != theirs["weight"].shape:
            raise FigleafError(
                f"{name} is {tuple(theirs['weight'].shape)} in the shallower network and "
                f"{tuple(ours['weight'].shape)} here: width, head, classes and input_size must agree"
            )
        target[name].load_state_dict(theirs)
    return tuple(copied)


def save(net: VGG, path: Path, metadata: Mapping[str, Any]) -> Path:
    """Write the network as one safetensors file: its tensors, and in the header its hyperparameters and `metadata`.

    `metadata` holds plain JSON values. Equal networks and metadata give equal bytes: everything stands under one key of
    the header, because safetensors writes several in a random order.
    """
    header = {"format_version": FORMAT_VERSION, "hyperparameters": net.hyperparameters, "metadata": dict(metadata)}
    # Channels-last weights are not contiguous, and safetensors refuses them.
    tensors = {name: tensor.detach().contiguous() for name, tensor in net.state_dict().items()}
    with atomic_path(path) as temporary, uncovered(SafetensorError):
        safetensors.torch.save_file(tensors, temporary, metadata={METADATA_KEY: json.dumps(header, sort_keys=True)})
    return path


def load(path: Path) -> tuple[VGG, dict[str, Any]]:
    """The network (in evaluation mode, on the CPU) and the metadata of a file written by `save`.

    Raises `FigleafError` when it is missing, damaged, or was not written by `save`.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {}).get(METADATA_KEY, "{}"))
        state = safetensors.torch.load_file(path)
    except (OSError, SafetensorError, ValueError, RecursionError) as error:
        raise FigleafError(f"{path}: cannot be read as safetensors ({error})") from error
    if not isinstance(header, dict) or "hyperparameters" not in header:
        raise FigleafError(
            f"{path}: holds tensors but no figleaf hyperparameters; to start a network from them pass weights={path}"
        )
    version = header.get("format_version")
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise FigleafError(f"{path}: format {version}, this figleaf reads up to {FORMAT_VERSION}")
    try:
        return rebuild(header["hyperparameters"], state), dict(header["metadata"])
    # What the header says may be anything: a depth that is none, sizes that no tensor there has, a word for a number.
    except (FigleafError, KeyError, TypeError, ValueError, AttributeError, RuntimeError, OverflowError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise FigleafError(f"{path}: its header and its tensors make no network of figleaf ({reason})") from error


def rebuild(hyperparameters: Mapping[str, Any], state: Mapping[str, Tensor]) -> VGG:
    """The network of these hyperparameters holding these tensors, in evaluation mode."""
    with torch.device("meta"):  # no memory and no random draws for weights that are replaced at once
        net = VGG(**hyperparameters)
    net.load_state_dict(state, assign=True)
    return net.eval()


def _head(layers: Mapping[str, object]) -> list[str]:
    return [name for name in layers if not name.startswith("block")]
