"""Fit the network that sees parts of limbs, which the package brings: `src/figleaf/skin/limb_parts.safetensors`.

It learns from scenes of its own (another seed than all that is measured and than the judge's, so that the judge meets
answers to scenes that the network has not seen), each with its true mask and with that of a pixel model fitted to the
training split. Scenes beyond `--scenes` are held out: `limb_iou` compares the pixels called limb with those that are,
`kind_share` is the share of pixels of both whose kind is right, from predicted masks.

The last line is one JSON object.
"""

import argparse
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from drawn_scenes import DrawnScenes, Mask
from figleaf.skin.boosted_pixels import BoostedPixels
from figleaf.skin.creases import WorkingPicture
from figleaf.skin.limb_parts import DRAWN, LimbParts
from figleaf.skin.storage import save_system
from fit_limb_judge import fitted_pixels
from limb_truth import part_targets
from side_by_side import report

SEED = 3  # of the scenes; what is measured has seed 0, what the judge learns from 2


def main() -> None:
    """Fit, write and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=15500, help="the network is fitted to (default: %(default)s)")
    parser.add_argument("--held-out", type=int, default=500, help="scenes it is measured on (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=10, help="how often it sees each (default: %(default)s)")
    parser.add_argument("--fitted", type=int, default=1400, help="the pixel model is fitted to (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=2, help="processes that predict masks (default: %(default)s)")
    parser.add_argument("--data", type=Path, help="where the scenes are kept (default: a temporary folder)")
    parser.add_argument("--out", type=Path, default=DRAWN, help="the file to write (default: the package's)")
    options = parser.parse_args()
    count = options.scenes + options.held_out
    with tempfile.TemporaryDirectory() as folder:
        place = options.data or Path(folder)
        pixels = fitted_pixels(DrawnScenes(place), options.fitted)
        drawn = DrawnScenes(place, count=count, seed=SEED)
        known = drawn.each(partial(_known, pixels=pixels), count, options.jobs)
    pictures, true, predicted, targets = (np.stack(column) for column in zip(*known, strict=True))
    fitted = slice(options.scenes)
    parts = LimbParts(options.epochs).fit(pictures[fitted], [true[fitted], predicted[fitted]], targets[fitted])
    held_out = slice(options.scenes, count)
    facts = {
        "command": "python benchmarks/fit_limb_parts.py",
        "scenes": options.scenes,
        "epochs": options.epochs,
        "held_out": _agreement(parts, pictures[held_out], predicted[held_out], targets[held_out]),
    }
    save_system(parts, options.out, facts)
    report({"benchmark": "fit_limb_parts", **facts}, packages=("numpy", "torch", "scikit-learn"))


def _known(drawn: DrawnScenes, row: int, pixels: BoostedPixels) -> tuple[Any, Mask, Mask, Any]:
    picture, mask = drawn.picture(row), drawn.mask(row)
    return picture, mask, pixels.skin_mask(picture), part_targets(drawn.limbs(row), mask)


def _agreement(parts: LimbParts, pictures: Any, masks: Sequence[Mask], targets: Any) -> dict[str, float]:
    kinds = targets[..., 0].astype(int)
    found = np.stack(
        [parts.seen(WorkingPicture.of(*one))[..., :5].argmax(axis=2) for one in zip(pictures, masks, strict=True)]
    )
    both, either = (kinds > 0) & (found > 0), (kinds > 0) | (found > 0)
    right = kinds[both] == found[both]
    share = float(right.mean()) if len(right) else 0.0
    return {"limb_iou": round(float(both.sum() / max(1, either.sum())), 3), "kind_share": round(share, 3)}


if __name__ == "__main__":
    main()
