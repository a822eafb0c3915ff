"""What a filter wants to see: inputs that drive it as high as gradient ascent finds.

`CLASSIC` is the recipe of the TF.js example visualize-convnet (80 steps of length 1 along the gradient over its root
mean square, from grey noise). `FOURIER` is that of Olah, Mordvintsev & Schubert (Distill 2017): Adam on a decorrelated
spectrum, the picture shifted, scaled and turned a little before every step, so that only what survives that is drawn.

Ascent is on what enters the ReLU, whose gradient does not die where the filter is silent. A filter that stays at or
below zero on the picture found for it is *dead*: no input found makes it speak, and its picture means nothing.
"""

import math
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor
from torch.nn import functional as F

from figleaf.errors import FigleafError
from figleaf.explain.layers import up_to_wanted
from figleaf.explain.parametrisation import Pixels, Spectrum
from figleaf.vgg.network import VGG

OBJECTIVES: dict[str, Callable[[Tensor], Tensor]] = {
    # Of one filter's map (N, h, w) each: where one unit is wanted, a picture of one receptive field comes out.
    "mean": lambda wanted: wanted.mean(dim=(1, 2)),
    "sum": lambda wanted: wanted.sum(dim=(1, 2)),
    "centre": lambda wanted: wanted[:, wanted.shape[1] // 2, wanted.shape[2] // 2],
}
BATCH = 16  # filters at once: beyond it memory grows and speed does not, on a CPU


@dataclass(frozen=True)
class Recipe:
    """How the ascent goes. Shifts are in pixels of a picture of 224, and scaled to the size at hand."""

    parametrisation: str  # pixels or fourier
    steps: int
    step_size: float
    shift: float = 0.0
    scale: float = 0.0  # between 1 - scale and 1 + scale
    turn_deg: float = 0.0


CLASSIC = Recipe("pixels", steps=80, step_size=1.0)
FOURIER = Recipe("fourier", steps=128, step_size=0.05, shift=12.0, scale=0.1, turn_deg=10.0)
RECIPES = {"classic": CLASSIC, "fourier": FOURIER}


@dataclass(frozen=True, eq=False)
class FilterPictures:
    """What F filters of a layer want: RGB `pictures` (F, S, S, 3), their numbers, and how far each was driven.

    `response` (F,): the objective at the end, on the picture as it is shown, in the units of what enters the ReLU.
    `dead` (F,): whether nothing of it passes the ReLU anywhere.
    """

    layer: str
    filters: tuple[int, ...]
    pictures: NDArray[np.uint8]
    response: NDArray[np.float64]
    dead: NDArray[np.bool_]


def maximise(
    net: VGG,
    layer: str,
    filters: Sequence[int],
    recipe: Recipe = FOURIER,
    *,
    objective: str = "mean",
    size: int | None = None,
    seed: int = 0,
    batch: int = BATCH,
    on_step: Callable[[int], None] | None = None,
) -> FilterPictures:
    """Pictures of side `size` (default: the network's) that drive `filters` of `layer`, where the network lies.

    The start of each depends on (`seed`, `layer`, filter), the shifts on (`seed`, step): neither the other filters nor
    `batch` change a picture, but for rounding. `on_step` is told how many filters a step was made for.

    Raises `FigleafError` for a layer or a filter that is none.
    """
    was_training = net.training
    part = up_to_wanted(net.eval(), layer)
    there = net.convolutions[layer].out_channels
    if strange := [number for number in filters if not 0 <= number < there]:
        raise FigleafError(f"{layer} has {there} filters, counted from 0: there is no {strange[0]}")
    if not filters:
        side = size or net.input_size
        return FilterPictures(layer, (), np.empty((0, side, side, 3), np.uint8), np.empty(0), np.empty(0, bool))
    done: list[tuple[Tensor, Tensor, Tensor]] = []
    try:
        for first in range(0, len(filters), batch):
            some = list(filters[first : first + batch])
            to_size = size or net.input_size
            done.append(_ascend(part, layer, some, recipe, OBJECTIVES[objective], to_size, seed, on_step))
    finally:
        net.train(was_training)
    pictures, response, peak = (torch.cat(parts) for parts in zip(*done, strict=True))
    return FilterPictures(
        layer,
        tuple(filters),
        pictures.permute(0, 2, 3, 1).round().to(torch.uint8).cpu().numpy(),
        response.double().cpu().numpy(),
        (peak <= 0).cpu().numpy(),
    )


def _ascend(
    part: torch.nn.Module,
    layer: str,
    filters: list[int],
    recipe: Recipe,
    objective: Callable[[Tensor], Tensor],
    size: int,
    seed: int,
    on_step: Callable[[int], None] | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Pictures (F, 3, S, S), the objective (F,) and the highest value that enters the ReLU (F,)."""
    device = str(next(part.parameters()).device)
    rows = torch.arange(len(filters), device=device)
    numbers = torch.tensor(filters, device=device)

    def wanted(pictures: Tensor) -> Tensor:
        maps: Tensor = part(pictures.contiguous(memory_format=torch.channels_last))[rows, numbers]
        return maps

    generators = [Generator().manual_seed(_seed(seed, layer, number)) for number in filters]
    kind = Spectrum if recipe.parametrisation == "fourier" else Pixels
    margin = _margin(recipe, size)
    ascent = kind(size + 2 * margin, generators, device)
    adam = torch.optim.Adam([ascent.free], lr=recipe.step_size) if kind is Spectrum else None
    draws = Generator().manual_seed(_seed(seed, "shifts", 0))
    for _ in range(recipe.steps):
        views = _moved(ascent.pictures(), size, recipe, draws)
        total = objective(wanted(views)).sum()  # pictures do not touch each other
        (gradient,) = torch.autograd.grad(total, ascent.free)
        if adam is not None:
            ascent.free.grad = -gradient
            adam.step()
        else:
            size_of_it = gradient.square().mean(dim=(1, 2, 3), keepdim=True).sqrt()
            with torch.no_grad():
                ascent.free += recipe.step_size * gradient / (size_of_it + 1e-8)
        ascent.confine()
        if on_step is not None:
            on_step(len(filters))
    with torch.no_grad():
        inside = slice(margin, margin + size)
        pictures = ascent.pictures().detach()[..., inside, inside].clamp(0, 255)
        maps = wanted(pictures)
        return pictures, objective(maps), maps.amax(dim=(1, 2))


def _margin(recipe: Recipe, size: int) -> int:
    """Pixels around a picture that a moved view may reach; they are climbed too, and not shown.

    Without them the picture's border would be seen only in some steps, and grow wild in the others.
    """
    if not _moves(recipe):
        return 0
    turn = math.radians(recipe.turn_deg)
    reach = (math.cos(turn) + math.sin(turn)) / (1 - recipe.scale) / 2 + recipe.shift / 224
    return math.ceil((reach - 0.5) * size)


def _moved(canvas: Tensor, size: int, recipe: Recipe, draws: Generator) -> Tensor:
    """The middle (F, 3, size, size) of all canvases under one small random shift, scaling and turn."""
    if not _moves(recipe):
        return canvas
    u = 2 * torch.rand(4, generator=draws) - 1
    turn = math.radians(recipe.turn_deg * float(u[1]))
    part = size / canvas.shape[-1]  # of the canvas, whose sides are at -1 and 1
    across, down = (part * 2 * recipe.shift / 224 * u[2:]).tolist()
    cos, sin = (part * of(turn) / (1 + recipe.scale * float(u[0])) for of in (math.cos, math.sin))
    theta = torch.tensor([[cos, -sin, across], [sin, cos, down]], device=canvas.device)
    grid = F.affine_grid(theta.expand(len(canvas), 2, 3), [len(canvas), 3, size, size], align_corners=False)
    return F.grid_sample(canvas, grid, padding_mode="border", align_corners=False)


def _moves(recipe: Recipe) -> bool:
    return recipe.shift > 0 or recipe.scale > 0 or recipe.turn_deg > 0


def _seed(seed: int, name: str, number: int) -> int:
    return zlib.crc32(f"{seed}/{name}/{number}".encode())
