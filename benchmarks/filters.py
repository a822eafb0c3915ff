"""Claims: what filters look for is found at least three times as fast as by the usual loop (`ratio`), and `figleaf
visualize` with 18 filters of five layers takes less than two minutes (`visualize_s`).

VGG16 with batch norm, a quarter as wide, 64 px, random weights: the time does not depend on what they are. The usual
loop climbs one filter after the other, through the whole network with a hook on the layer; ours is
`figleaf.explain.filters.maximise`, 16 filters at once, no further than the layer, batch norms folded. Both by the
classic recipe, 8 steps, on 16 filters of each of the five layers that are shown. `batching` says how much comes from
the batch alone: ours with one filter at a time against ours, by the default recipe. Wall seconds on all cores, medians
of rounds in turns. The command is a process of its own, with a picture, everything it writes included. The last line is
one JSON object.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from figleaf.explain.filters import BATCH, CLASSIC, FOURIER, Recipe, maximise
from figleaf.explain.layers import relu_of, shown_layers
from figleaf.vgg.network import VGG
from figleaf.vgg.weights import save
from side_by_side import report

WIDTH, SIZE, STEPS, FILTERS = 0.25, 64, 8, 18


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5, help="rounds (default: %(default)s)")
    repeats = parser.parse_args().repeats
    torch.manual_seed(0)
    net = VGG(width=WIDTH, head="gap", input_size=SIZE).eval()
    sides = {
        "usual": partial(usual, net),
        "ours": partial(ours, net, replace(CLASSIC, steps=STEPS), BATCH),
        "default": partial(ours, net, replace(FOURIER, steps=STEPS), BATCH),
        "default_one": partial(ours, net, replace(FOURIER, steps=STEPS), 1),
    }
    rounds = [{name: _seconds(side) for name, side in sides.items()} for _ in range(repeats + 1)][1:]

    def ratio(slow: str, fast: str) -> float:
        return round(statistics.median(one[slow] / one[fast] for one in rounds), 2)

    report(
        {
            "benchmark": "filters",
            "ratio": ratio("usual", "ours"),
            "batching": ratio("default_one", "default"),
            "seconds": {name: round(statistics.median(one[name] for one in rounds), 3) for name in sides},
            "visualize_s": round(_visualize(net), 1),
            "width": WIDTH,
            "size": SIZE,
            "filters": FILTERS,
            "threads": torch.get_num_threads(),
            "repeats": repeats,
        },
        packages=("figleaf", "torch"),
    )


def usual(net: VGG) -> None:
    """One filter after the other, through the whole network."""
    seen: list[Tensor] = []

    def keep(_: nn.Module, __: tuple[Tensor, ...], output: Tensor) -> None:
        seen.append(output)

    for layer in shown_layers(net):
        hook = relu_of(net, layer).register_forward_hook(keep)
        for number in range(_count(net, layer)):
            picture = (128 + 20 * torch.rand(1, 3, SIZE, SIZE)).requires_grad_()
            for _ in range(STEPS):
                seen.clear()
                net(picture)
                (gradient,) = torch.autograd.grad(seen[0][:, number].mean(), picture)
                with torch.no_grad():
                    picture += gradient / (gradient.square().mean().sqrt() + 1e-8)
                    picture.clamp_(0, 255)
        hook.remove()


def ours(net: VGG, recipe: Recipe, batch: int) -> None:
    """The same filters, so many at once."""
    for layer in shown_layers(net):
        maximise(net, layer, range(_count(net, layer)), recipe, batch=batch)


def _count(net: VGG, layer: str) -> int:
    return min(BATCH, net.convolutions[layer].out_channels)


def _seconds(side: Callable[[], None]) -> float:
    start = time.perf_counter()
    side()
    return time.perf_counter() - start


def _visualize(net: VGG) -> float:
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        save(net, place / "net.safetensors", {"classes": ["a", "b"], "unsafe": ["b"], "data_name": "none"})
        noise = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
        Image.fromarray(noise).save(place / "picture.png")
        command = [Path(sys.executable).with_name("figleaf"), "visualize", "run=net.safetensors", "image=picture.png"]
        start = time.perf_counter()
        subprocess.run([*command, f"filters={FILTERS}"], cwd=place, stdout=subprocess.DEVNULL, check=True)
        return time.perf_counter() - start


if __name__ == "__main__":
    main()
