"""Whole channels taken out of a network, the least important first: fewer multiplications on any hardware.

Which channels of which layers belong together, and what they weigh, says torch-pruning's dependency graph (Fang et al.
2023, "DepGraph: towards any structural pruning"); how many may go follows from the cost that is to be left.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
import torch_pruning
from torch import Tensor, nn

from figleaf.errors import FigleafError
from figleaf.vgg.cost import gmacs, parameters
from figleaf.vgg.fc_head import DOWN
from figleaf.vgg.network import VGG
from figleaf.vgg.weights import rebuild

Cost = Literal["macs", "parameters"]
Importance = Literal["magnitude", "bn_scale"]
LEAST_SHARE = 0.1  # of a layer's channels: a layer that a ranking of all would empty cuts the network

_COSTS: Mapping[str, Callable[[VGG], float]] = {"macs": gmacs, "parameters": parameters}


@dataclass(frozen=True, eq=False)
class Pruned:
    """A pruned network; `kept` names the channels of each pruned layer that are left, by their old numbers."""

    net: VGG
    kept: Mapping[str, tuple[int, ...]]


def prune(net: VGG, share: float, *, of: Cost = "macs", by: Importance = "magnitude", multiple: int = 8) -> Pruned:
    """A copy of `net` with the channels left that keep `share` of its cost or a little less.

    `magnitude` ranks all channels by the squares of the weights that make them and that read them, each layer's in
    units of its mean; the hidden features of an `fc` head are ranked with them. `bn_scale` ranks by the absolute scales
    of the batch norms, as Liu et al. (2017), "Learning efficient convolutional networks through network slimming", do,
    and leaves hidden features alone. A layer keeps a multiple of `multiple` channels, and at least a tenth.

    Raises `FigleafError` for a share out of range or out of reach, and for `bn_scale` without batch norms.
    """
    if not 0 < share < 1:
        raise FigleafError(f"prune={share}: expected 0 < x < 1, the share of {of} that is left")
    if of not in get_args(Cost) or by not in get_args(Importance) or multiple < 1:
        raise FigleafError(
            f"of={of} by={by} multiple={multiple}: expected {' or '.join(get_args(Cost))}, "
            f"{' or '.join(get_args(Importance))}, and at least 1"
        )
    if by == "bn_scale" and not net.batch_norm:
        raise FigleafError("by=bn_scale: this network has no batch norms whose scales could tell; use by=magnitude")
    copy = rebuild(net.hyperparameters, {name: t.detach().cpu().clone() for name, t in net.state_dict().items()})
    copy = copy.float().requires_grad_()  # the graph is read off the gradient's
    graph = torch_pruning.DependencyGraph().build_dependency(
        copy, example_inputs=torch.zeros(1, 3, copy.input_size, copy.input_size)
    )
    layers = {name: layer for name, layer in copy.layers.items() if _is_prunable(name)}
    scores = {name: score for name, layer in layers.items() if (score := _scores(graph, layer, by)) is not None}
    counts = _counts(copy, scores, share, of, multiple)
    kept: dict[str, tuple[int, ...]] = {}
    for name, score in scores.items():
        order = score.argsort(descending=True, stable=True)
        kept[name] = tuple(sorted(order[: counts[name]].tolist()))
        gone = sorted(order[counts[name] :].tolist())
        if gone:
            graph.get_pruning_group(layers[name], _out_channels(layers[name]), idxs=gone).prune()
    state = {name: tensor.detach() for name, tensor in copy.state_dict().items()}
    return Pruned(rebuild(_with_counts(net, counts), state), kept)


def _is_prunable(name: str) -> bool:
    """Whether a layer's outputs may be thinned out: of those that have a name in `VGG.layers`."""
    return "_conv" in name or (name.startswith("fc") and not name.endswith(DOWN))


def _out_channels(layer: nn.Module) -> Any:
    convolution = isinstance(layer, nn.Conv2d)
    return torch_pruning.prune_conv_out_channels if convolution else torch_pruning.prune_linear_out_channels


def _scores(graph: Any, layer: nn.Module, by: Importance) -> Tensor | None:
    """How important each output of a layer is, (out,); None where `by` says nothing of it."""
    # The scales share one threshold, as in the paper; norms of weights differ by layer for no other reason than size.
    kinds = {
        "magnitude": lambda: torch_pruning.importance.GroupMagnitudeImportance(p=2, normalizer="mean"),
        "bn_scale": lambda: torch_pruning.importance.BNScaleImportance(normalizer=None),
    }
    outputs = list(range(len(layer.get_parameter("weight"))))
    found: Tensor | None = kinds[by]()(graph.get_pruning_group(layer, _out_channels(layer), idxs=outputs))
    return found


def _counts(net: VGG, scores: Mapping[str, Tensor], share: float, of: Cost, multiple: int) -> dict[str, int]:
    """How many channels each scored layer keeps: the most that one ranking of all of them allows."""
    ranked = torch.cat(list(scores.values())).sort().values
    cost, whole = _COSTS[of], _COSTS[of](net)

    def left(removed: int) -> dict[str, int]:
        """With the channels up to the last of the `removed` least important gone, where a layer can spare them."""
        least = ranked[removed - 1] if removed else ranked[0] - 1
        counts = {}
        for name, score in scores.items():
            above = max(int((score > least).sum()), 1, round(LEAST_SHARE * len(score)))
            counts[name] = min(len(score), -(-above // multiple) * multiple)
        return counts

    def share_of(counts: Mapping[str, int]) -> float:
        with torch.device("meta"):
            return cost(VGG(**_with_counts(net, counts))) / whole

    low, high = 0, len(ranked)  # the cost never rises with what is removed
    if (least := share_of(left(high))) > share:
        raise FigleafError(
            f"prune={share}: out of reach: {least:.3f} of {of} is left when each layer keeps the least it may, a tenth "
            f"of its channels in multiples of {multiple}; ask for more, or pass a smaller multiple={multiple}"
        )
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if share_of(left(middle)) > share else (low, middle)
    return left(low)


def _with_counts(net: VGG, counts: Mapping[str, int]) -> dict[str, Any]:
    """The hyperparameters of `net` with these outputs of its layers."""
    outputs = {name: len(layer.get_parameter("weight")) for name, layer in net.layers.items() if _is_prunable(name)}
    outputs |= counts
    found = {**net.hyperparameters, "channels": [count for name, count in outputs.items() if "_conv" in name]}
    if net.head == "fc":
        found["fc_features"] = [outputs["fc1"], outputs["fc2"]]
    return found
