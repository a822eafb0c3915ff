"""The fully connected head, whose first two layers may be factored: fewer weights for nearly the same answer."""

from collections import OrderedDict
from collections.abc import Sequence

from torch import nn

DOWN = "_down"  # behind a layer's name: the first half of a factored one


class Factored(nn.Sequential):
    """A linear layer of low rank: `down` (rank, in), which has no bias, then `up` (out, rank)."""

    def __init__(self, incoming: int, outgoing: int, rank: int) -> None:
        halves = {"down": nn.Linear(incoming, rank, bias=False), "up": nn.Linear(rank, outgoing)}
        super().__init__(OrderedDict(halves))


def fc_head(
    incoming: int, features: Sequence[int], classes: int, *, ranks: Sequence[int], dropout: float
) -> nn.Sequential:
    """Linear, ReLU, Dropout twice, then Linear: from (N, incoming) to (N, classes).

    `features` are what the hidden layers give, `ranks` those they are factored to; 0 leaves one whole.
    """
    layers: list[nn.Module] = []
    for outgoing, rank in zip(features, ranks, strict=True):
        linear = Factored(incoming, outgoing, rank) if rank else nn.Linear(incoming, outgoing)
        layers += [linear, nn.ReLU(inplace=True), nn.Dropout(dropout)]
        incoming = outgoing
    return nn.Sequential(*layers, nn.Linear(incoming, classes))


def linear_layers(head: nn.Module) -> dict[str, nn.Linear]:
    """The linear layers of an `fc` or `gap` head by name, in order; see `head_names`."""
    found: list[nn.Linear] = []
    is_down: list[bool] = []
    for layer in head.children():
        for half in layer.children() if isinstance(layer, Factored) else (layer,):
            if isinstance(half, nn.Linear):
                found.append(half)
                is_down.append(isinstance(layer, Factored) and half is layer.down)
    return dict(zip(head_names(is_down), found, strict=True))


def head_names(is_down: Sequence[bool]) -> tuple[str, ...]:
    """Names of a head's linear layers: `fc1`, `fc2`, ... and, for the last one, `predictions`.

    `is_down` says of each whether it is the first half of a factored layer: `fc1_down` stands before `fc1`.

    >>> head_names([True, False, False, False])
    ('fc1_down', 'fc1', 'fc2', 'predictions')
    """
    names: list[str] = []
    number = 1
    for down in is_down:
        names.append(f"fc{number}{DOWN * down}")
        number += not down
    return (*names[:-1], "predictions") if names else ()
