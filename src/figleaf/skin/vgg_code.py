"""Pooled VGG features as a code; apart from the other codes, because PyTorch takes seconds to import."""

import json
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray

from figleaf.data.decode import resize
from figleaf.errors import FigleafError
from figleaf.progress import track
from figleaf.skin.codes import Code, Floats, Pictures, State, numbered
from figleaf.vgg.network import CONVOLUTIONS_PER_STAGE, HEAD, STRIDE, VGG
from figleaf.vgg.pretrained import read
from figleaf.vgg.weights import initialise, load, rebuild

_BATCH = 32
_HYPERPARAMETERS = "hyperparameters"


class VggCode(Code):
    """The last convolutions' features averaged over the picture, of length 1.

    Args:
        weights: what `fit` takes the network from: a .safetensors file of a run of ours, or any other weights that
            `figleaf.vgg.pretrained` reads, whose fully connected layers are not used. Not read again by `restore`.
        size: side at which pictures are looked at, at least 32 pixels.
    """

    def __init__(self, *, weights: str = "torchvision:IMAGENET1K_V1", size: int = 96) -> None:
        self.weights = weights
        self.size = size

    def fit(self, pictures: Pictures, y: object = None) -> Self:
        """Read the network; nothing is learned from `pictures`. Raises `FigleafError` as `read` and `load` do."""
        if self.size < STRIDE:
            raise FigleafError(f"size={self.size}: expected at least {STRIDE} pixels")
        self.network_ = convolutions(self.weights)
        return self

    @torch.inference_mode()
    def transform(self, pictures: Pictures) -> Floats:
        """Codes (N, channels)."""
        codes = []
        starts = range(0, len(pictures), _BATCH)
        for start in track(starts, "Looking", len(starts)) if len(starts) > 1 else starts:
            batch = np.stack([resize(picture, self.size) for picture in pictures[start : start + _BATCH]])
            rgb = torch.from_numpy(batch).permute(0, 3, 1, 2).to(memory_format=torch.channels_last)
            codes.append(self.network_.up_to_stage(rgb, HEAD).mean((2, 3)).double().numpy())
        found = np.concatenate(codes)
        # A picture that no feature answers to stays at 0, in the middle of all others.
        return np.asarray(found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12))

    def state(self) -> State:
        """The network's tensors, and its hyperparameters as the bytes of a JSON text."""
        tensors = {name: tensor.contiguous().numpy() for name, tensor in self.network_.state_dict().items()}
        text = json.dumps(self.network_.hyperparameters, sort_keys=True)
        return {**tensors, _HYPERPARAMETERS: np.frombuffer(text.encode(), np.uint8).copy()}

    def restore(self, state: State) -> Self:
        """Become what `state` was taken from."""
        tensors = {name: torch.from_numpy(array) for name, array in state.items() if name != _HYPERPARAMETERS}
        self.network_ = rebuild(json.loads(state[_HYPERPARAMETERS].tobytes()), tensors)
        return self

    def get_feature_names_out(self, input_features: object = None) -> NDArray[np.object_]:
        """One name for each number of a code."""
        return numbered("channel", [c.out_channels for c in self.network_.convolutions.values()][-1])

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "network_")


def convolutions(weights: str) -> VGG:
    """The convolutions that `weights` holds under a small head that nobody asks, in evaluation mode."""
    path = Path(weights).expanduser()
    if path.suffix == ".safetensors" and path.is_file():
        try:
            trained, _ = load(path)
        except FigleafError:
            trained = None  # tensors of others
        if trained is not None:
            own = {key: value for key, value in trained.hyperparameters.items() if not key.startswith("fc_")}
            gap = VGG(**{**own, "head": "gap", "classes": 1, "dropout": 0.0})
            gap.load_state_dict({**gap.state_dict(), **_without_head(trained)})
            return gap.eval().to(memory_format=torch.channels_last)
    found = read(weights, depth=16, batch_norm=False)
    kernels = {name: layer["weight"] for name, layer in found.layers.items() if "_conv" in name}
    depth = next((d for d, stages in CONVOLUTIONS_PER_STAGE.items() if sum(stages) == len(kernels)), None)
    if depth is None:
        raise FigleafError(f"weights={weights}: {len(kernels)} convolutions are no VGG's")
    net = VGG(
        depth=depth,
        batch_norm=found.has_batch_norm,
        width=kernels["block1_conv1"].shape[0] / 64,
        head="gap",
        classes=1,
        dropout=0.0,
    )
    initialise(net, weights)
    return net.eval().to(memory_format=torch.channels_last)


def _without_head(net: VGG) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in net.state_dict().items() if not name.startswith("classifier")}
