"""A small network that tells the parts of limbs apart in a picture and its mask of skin, and how it is trained.

The shape of a U-Net (Ronneberger, Fischer & Brox, MICCAI 2015) whose ways up add what the ways down saw (Lin et al.,
CVPR 2017). Apart from `limb_parts`, because PyTorch takes seconds to import.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from figleaf.errors import FigleafError
from figleaf.progress import track
from figleaf.skin.limb_parts import COSINE, KINDS, NEARNESS, PLANES

PLANES_IN = 4  # L, a and b of CIELAB, over 100, and the share of skin
MULTIPLE = 16  # sides of a picture are padded to this many pixels
_WIDTHS = (32, 64, 96, 128)  # channels at 1/2, 1/4, 1/8 and 1/16 of the side
_NONE_WEIGHT = 0.5  # of pixels without a limb, which most are
_DIRECTION_WEIGHT, _NEARNESS_WEIGHT = 0.2, 2.0
_RATE, _DECAY, _WARM_UP = 4e-3, 1e-3, 0.2
_GAIN, _TINT = 0.2, 0.02  # most change of lightness, and the spread of the change of a and b

Floats = NDArray[np.floating[Any]]


class LimbNetwork(nn.Module):
    """Planes (N, PLANES_IN, H, W) to (N, PLANES, H, W): logits first; H and W multiples of `MULTIPLE`."""

    def __init__(self) -> None:
        super().__init__()
        steps = list(pairwise(_WIDTHS))
        self.first = nn.Sequential(_convolution(4 * PLANES_IN, _WIDTHS[0]), _convolution(_WIDTHS[0], _WIDTHS[0]))
        self.down = nn.ModuleList(nn.Sequential(_convolution(a, b, 2), _convolution(b, b)) for a, b in steps)
        self.across = nn.ModuleList(nn.Conv2d(b, a, 1) for a, b in steps)
        self.up = nn.ModuleList(_convolution(a, a) for a, _ in steps)
        self.last = nn.Conv2d(_WIDTHS[0], 4 * PLANES, 1)

    def forward(self, planes: Tensor) -> Tensor:
        """See the class."""
        seen = [self.first(F.pixel_unshuffle(planes, 2))]
        for down in self.down:
            seen.append(down(seen[-1]))
        found = seen.pop()
        for across, up in zip(reversed(self.across), reversed(self.up), strict=True):
            found = up(F.interpolate(across(found), scale_factor=2.0, mode="nearest") + seen.pop())
        answer: Tensor = F.pixel_shuffle(self.last(found), 2)
        return answer


def _convolution(channels: int, out: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, out, 3, stride, 1, bias=False), nn.BatchNorm2d(out), nn.ReLU(inplace=True))


def trained(
    lab: Floats, shares: Sequence[Floats], targets: Floats, *, epochs: int, batch: int, seed: int
) -> dict[str, NDArray[Any]]:
    """The weights of a network that has seen each of K square pictures `lab` (K, S, S, 3) `epochs` times.

    `shares` of skin: one or more (K, S, S), of which one is drawn each time. `targets` (K, S, S, 4): see
    `figleaf.skin.limb_parts.LimbParts.fit`. Pictures are turned by right angles, mirrored, and changed in lightness and
    tint.
    """
    rng = np.random.default_rng(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = LimbNetwork().to(memory_format=torch.channels_last).train()
    count = -(-len(lab) // batch)
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, epochs * count, pct_start=_WARM_UP)
    for epoch in range(epochs):
        batches = np.array_split(rng.permutation(len(lab)), count)
        for rows in track(batches, f"Epoch {epoch + 1} of {epochs}", count):
            which = rng.integers(len(shares), size=len(rows))
            share = np.stack([shares[number][row] for number, row in zip(which, rows, strict=True)])
            planes = np.concatenate([lab[rows], share[..., None]], axis=3, dtype=np.float32)
            optimizer.zero_grad()
            _loss(network, *_varied(rng, planes, targets[rows].astype(np.float32))).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
    return {name: value.numpy() for name, value in network.state_dict().items()}


def restored(weights: Mapping[str, NDArray[Any]]) -> LimbNetwork:
    """The network, ready to answer. Raises `FigleafError` for the weights of another one."""
    network = LimbNetwork()
    try:
        network.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in weights.items()})
    except (AttributeError, RuntimeError, TypeError) as error:
        raise FigleafError(f"weights of another network than this figleaf's, fit it again: {error}") from error
    if not all(value.isfinite().all() for value in network.state_dict().values()):
        raise FigleafError("weights that are no numbers, fit it again")
    return network.eval()


@torch.inference_mode()
def answer(network: LimbNetwork, planes: Floats) -> Floats:
    """What the network says of planes (H, W, PLANES_IN) of any size, (H, W, PLANES): probabilities first."""
    height, width = planes.shape[:2]
    padding = ((0, -height % MULTIPLE), (0, -width % MULTIPLE), (0, 0))
    whole = np.ascontiguousarray(np.pad(planes, padding, mode="edge").transpose(2, 0, 1))
    found = network(torch.from_numpy(whole)[None])[0, :, :height, :width]
    found[:COSINE] = found[:COSINE].softmax(dim=0)
    return np.ascontiguousarray(found.permute(1, 2, 0).numpy())


def _varied(rng: np.random.Generator, planes: Floats, targets: Floats) -> tuple[Tensor, Tensor]:
    """A batch (N, S, S, C) of planes and of targets as others would have seen it, channels second."""
    planes[..., 0] *= rng.uniform(1 - _GAIN, 1 + _GAIN, (len(planes), 1, 1))
    planes[..., 1:3] += rng.normal(0, _TINT, (len(planes), 1, 1, 2))
    turns = int(rng.integers(4))
    planes, targets = np.rot90(planes, turns, (1, 2)), np.rot90(targets, turns, (1, 2)).copy()
    if turns % 2:
        targets[..., 1:3] *= -1
    if rng.random() < 0.5:
        planes, targets = planes[:, :, ::-1], targets[:, :, ::-1].copy()
        targets[..., 2] *= -1
    first, second = (np.ascontiguousarray(one.transpose(0, 3, 1, 2)) for one in (planes, targets))
    return torch.from_numpy(first).contiguous(memory_format=torch.channels_last), torch.from_numpy(second)


def _loss(network: LimbNetwork, planes: Tensor, targets: Tensor) -> Tensor:
    found = network(planes)
    kind = targets[:, 0].long()
    limb = (kind > 0).float()
    weight = torch.tensor([_NONE_WEIGHT] + [1.0] * len(KINDS))
    kinds = F.cross_entropy(found[:, :COSINE], kind, weight=weight)
    direction, nearness = found[:, COSINE:NEARNESS], found[:, NEARNESS]
    turned = ((direction - targets[:, 1:3]) ** 2).sum(dim=1)
    loss: Tensor = kinds + _DIRECTION_WEIGHT * (turned * limb).sum() / limb.sum().clamp(min=1)
    return loss + _NEARNESS_WEIGHT * F.mse_loss(nearness, targets[:, 3])
