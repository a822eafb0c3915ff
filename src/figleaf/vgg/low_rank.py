"""Fully connected layers of low rank: a matrix W becomes U V, with fewer weights where the rank is small.

Girshick (2015), "Fast R-CNN", section 3.1, who cut VGG16's fully connected layers so. The singular value decomposition
gives the nearest matrix of each rank (Eckart & Young 1936): the squared distance is the sum of the squared singular
values that are left out.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from figleaf.errors import FigleafError
from figleaf.vgg.fc_head import DOWN
from figleaf.vgg.network import VGG
from figleaf.vgg.weights import rebuild

HIDDEN = ("fc1", "fc2")  # the last layer has as many outputs as there are classes: no rank to save
_COLUMNS = 4096  # of a matrix in float64 at once: VGG16's first layer would take 800 MB


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Squared singular values (k,) of a matrix (out, in), largest first, and its singular vectors (k, k) as columns.

    The vectors are those of the shorter side, k = min(out, in): the left ones where out <= in, else the right ones.
    """

    squares: Tensor
    vectors: Tensor

    def rank_for(self, energy: float) -> int:
        """The least rank that keeps this share of the sum of squares, at least 1."""
        kept = self.squares.cumsum(0)
        return min(int((kept < energy * kept[-1]).sum()) + 1, len(self.squares))


def factorise(net: VGG, *, energy: float | None = None, ranks: Sequence[int] | None = None) -> VGG:
    """A network whose hidden fully connected layers are factored; its answers are those of `net` at full rank.

    Give either `ranks` of `fc1` and `fc2`, 0 for a layer that stays whole, or `energy`: then each has the least rank
    that keeps this share of its sum of squared singular values, and one that would not get smaller stays as it is.
    `net`, which is left as it is, may be factored or pruned already.

    Raises `FigleafError` for a head without such layers, a rank or share out of range, and when nothing gets smaller.
    """
    if net.head != "fc":
        raise FigleafError(f"a {net.head} head has no fully connected layers to factor; prune its channels instead")
    if (energy is None) == (ranks is None):
        raise FigleafError("give either an energy or ranks")
    if energy is not None and not 0 < energy <= 1:
        raise FigleafError(f"svd={energy}: expected 0 < x <= 1")
    if ranks is not None and len(ranks) != len(HIDDEN):
        raise FigleafError(f"ranks={list(ranks)}: expected two, of {' and '.join(HIDDEN)}; 0 leaves one whole")
    found, replaced, factored = list(net.fc_ranks or (0, 0)), list[str](), dict[str, Tensor]()
    for place, name in enumerate(HIDDEN):
        weight, bias = _whole(net, name)
        if ranks is not None and not 0 <= ranks[place] <= min(weight.shape):
            most = f"{name} is {tuple(weight.shape)}, expected 0 to {min(weight.shape)}"
            raise FigleafError(f"ranks={list(ranks)}: {most}")
        if ranks is not None and ranks[place] == 0:
            continue
        spectrum = spectrum_of(weight)
        if energy is None:
            rank = (ranks or ())[place]
        else:
            rank = spectrum.rank_for(energy)
            if rank * sum(weight.shape) >= (found[place] * sum(weight.shape) or weight.numel()):
                continue
        up, down = factors(weight, spectrum, rank)
        key = f"classifier.{3 * place}."  # Linear, ReLU, Dropout
        factored |= {f"{key}down.weight": down, f"{key}up.weight": up, f"{key}up.bias": bias}
        replaced.append(key)
        found[place] = rank
    if tuple(found) == (net.fc_ranks or (0, 0)):
        what = f"ranks={list(ranks)}" if ranks is not None else f"svd={energy}"
        raise FigleafError(f"{what}: no layer would get smaller at the rank this takes; ask for a smaller one")
    kept = {name: tensor for name, tensor in net.state_dict().items() if not name.startswith(tuple(replaced))}
    state = {name: tensor.detach().cpu().clone() for name, tensor in kept.items()} | factored
    return rebuild({**net.hyperparameters, "fc_ranks": found}, state)


def spectrum_of(weight: Tensor) -> Spectrum:
    """The singular values and vectors of a matrix (out, in), from the eigenvalues of W W^T, or of W^T W if smaller.

    In float64, where the squares cost nothing of float32's precision, and in blocks: only the smaller square matrix is
    decomposed.
    """
    wide = weight if weight.shape[0] <= weight.shape[1] else weight.T
    gram = torch.zeros(len(wide), len(wide), dtype=torch.float64)
    for block in _blocks(wide):
        gram.addmm_(block, block.T)
    squares, vectors = torch.linalg.eigh(gram)
    return Spectrum(squares.flip(0).clamp_min(0), vectors.flip(1))


def factors(weight: Tensor, spectrum: Spectrum, rank: int) -> tuple[Tensor, Tensor]:
    """U (out, rank) and V (rank, in), float32, whose product is the nearest to `weight` (out, in) of this rank.

    Each column of U has the length of its row of V: training moves both alike, and fewer bits fit both.
    """
    axes = spectrum.vectors[:, :rank]
    is_wide = weight.shape[0] <= weight.shape[1]
    wide = weight if is_wide else weight.T
    # Projected on its first axes, without a division by singular values that may be 0.
    rows = torch.cat([axes.T @ block for block in _blocks(wide)], dim=1)
    length = rows.norm(dim=1).sqrt()
    length = torch.where(length > 0, length, 1.0)
    left, right = (axes * length).float(), (rows / length[:, None]).float()
    return (left.contiguous(), right.contiguous()) if is_wide else (right.T.contiguous(), left.T.contiguous())


def _blocks(matrix: Tensor) -> Iterator[Tensor]:
    """Columns of a matrix in float64, some at a time."""
    for start in range(0, matrix.shape[1], _COLUMNS):
        yield matrix[:, start : start + _COLUMNS].double()


def _whole(net: VGG, name: str) -> tuple[Tensor, Tensor]:
    """The matrix (out, in) and the bias (out,) of a layer, on the CPU; of a factored one their product."""
    layers = net.layers
    parameters = {key: tensor.detach().cpu() for key, tensor in layers[name].named_parameters()}
    weight, bias = parameters["weight"], parameters["bias"].clone()
    if f"{name}{DOWN}" in layers:
        weight = weight @ layers[f"{name}{DOWN}"].get_parameter("weight").detach().cpu()
    return weight, bias
