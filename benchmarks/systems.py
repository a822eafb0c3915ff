"""What a picture costs each image-level system: milliseconds on one core, side by side.

Each skin system of `conf/model/skin_*.yaml` is fitted to drawn scenes, whose number does not matter to the speed of
what comes out, and scores pictures as `figleaf evaluate` does; the networks have random weights. `ms` are those of one
picture that is decoded and squashed to the system's own `input_size` already, `per_vgg16_bn_small` the same over those
of the network that the studies train, and `megabytes` the size of its file.

One core, CPU seconds, sides in turns, medians over rounds. The last line is one JSON object.
"""

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from figleaf.config import choices, compose
from figleaf.data.decode import decode, resize
from figleaf.data.sources import scenes_manifest
from figleaf.settings import SkinConfig, TrainConfig
from figleaf.skin.scorer import BINARY, SkinScorer
from figleaf.skin.storage import save_system
from figleaf.skin.systems import build
from figleaf.vgg.network import VGG
from figleaf.vgg.scorer import TorchScorer
from figleaf.vgg.weights import save
from side_by_side import median_seconds, one_core, report

BASELINE = "vgg16_bn_small"
NETWORKS = (BASELINE, "vgg19_bn_small", "vgg16_bn")
Scores = Callable[[NDArray[np.uint8]], object]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--fitted", type=int, default=120, help="scenes the systems are fitted to (default: %(default)s)"
    )
    parser.add_argument("--timed", type=int, default=8, help="pictures a round (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=7, help="rounds (default: %(default)s)")
    options = parser.parse_args()
    one_core()

    skin = [name for name in choices(TrainConfig)["model"] if name.startswith("skin_")]
    with tempfile.TemporaryDirectory() as folder:
        scenes = _Scenes(Path(folder), options.fitted)
        made = {name: _fitted(name, scenes, Path(folder)) for name in skin}
        made |= {name: _network(name, Path(folder)) for name in NETWORKS}
        sides = {
            name: _scoring(scores, scenes.pictures(side)[: options.timed]) for name, (scores, side, _) in made.items()
        }
        seconds = median_seconds(sides, options.repeats)
    ms = {name: 1000 * seconds[name] / options.timed for name in made}
    report(
        {
            "benchmark": "systems",
            "ms": {name: round(value, 2) for name, value in ms.items()},
            "per_vgg16_bn_small": {name: round(value / ms[BASELINE], 2) for name, value in ms.items()},
            "megabytes": {name: round(size, 3) for name, (_, _, size) in made.items()},
            "timed": options.timed,
            "fitted": options.fitted,
            "repeats": options.repeats,
        },
        packages=("figleaf", "numpy", "scikit-learn", "opencv-python-headless", "torch"),
    )


class _Scenes:
    """Drawn scenes, squashed to any size."""

    def __init__(self, folder: Path, count: int) -> None:
        self._manifest = scenes_manifest(folder / "data", count=count, seed=0, size=160)
        self._decoded = [decode(path) for path in self._manifest.paths]

    def pictures(self, side: int) -> NDArray[np.uint8]:
        return np.stack([resize(rgb_u8, side) for rgb_u8 in self._decoded])

    def masks(self, side: int) -> list[NDArray[np.bool_]]:
        paths = self._manifest.masks
        return [resize(decode(path), side)[..., 0] > 127 for path in paths if path is not None]

    @property
    def is_unsafe(self) -> NDArray[np.int64]:
        return self._manifest.is_unsafe.astype(np.int64)

    @property
    def group(self) -> NDArray[Any]:
        return self._manifest.table["group"].to_numpy()


def _fitted(name: str, scenes: _Scenes, folder: Path) -> tuple[Scores, int, float]:
    config = compose("train", [f"model={name}"]).model
    assert isinstance(config, SkinConfig)
    system = build(config.system, config.options, random_state=0)
    system.fit(scenes.pictures(config.input_size), scenes.is_unsafe, scenes.masks(config.input_size), scenes.group)
    place = folder / f"{name}.safetensors"
    save_system(system, place, {"classes": list(BINARY), "unsafe": ["unsafe"], "input_size": config.input_size})
    return SkinScorer.load(place).logits, config.input_size, place.stat().st_size / 1e6


def _network(name: str, folder: Path) -> tuple[Scores, int, float]:
    m = compose("train", [f"model={name}"]).network
    torch.manual_seed(0)
    net = VGG(depth=m.depth, batch_norm=m.batch_norm, width=m.width, head=m.head, classes=2, input_size=m.input_size)
    place = folder / f"{name}.safetensors"
    save(net, place, {"classes": list(BINARY), "unsafe": ["unsafe"]})
    return TorchScorer(net, BINARY, BINARY[1:]).logits, m.input_size, place.stat().st_size / 1e6


def _scoring(scores: Scores, pictures: NDArray[np.uint8]) -> Callable[[], None]:
    def run() -> None:
        for index in range(len(pictures)):
            scores(pictures[index : index + 1])

    return run


if __name__ == "__main__":
    main()
