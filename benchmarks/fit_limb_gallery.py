"""Fit the gallery of drawn limbs that the package brings, `src/figleaf/skin/limb_gallery.safetensors`.

Ribbons are proposed in masks of the training split's scenes, each mask by a pixel model that has not seen the scene's
group, as a mask that somebody's picture gets is no better. What a ribbon shows is known: an arm, a leg, or no limb;
trunks are left out, since there are too few. The margin is the least at which there is less than one false ribbon a
picture, by galleries that have not seen the scene's group either.

The last line is one JSON object: what the gallery was fitted to, and the held-out recall of the ribbons proposed.
"""

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from drawn_scenes import DrawnScenes
from figleaf.data.scenes.skeleton import SEGMENTS
from figleaf.skin.boosted_pixels import BoostedPixels
from figleaf.skin.limb_gallery import DRAWN, NO_LIMB, LimbGallery
from figleaf.skin.limb_views import view_features
from figleaf.skin.limbs import limb_segments
from figleaf.skin.storage import save_system
from figleaf.skin.training_pixels import folds_by_group
from limb_truth import found_and_false
from side_by_side import report

MOST_FALSE = 0.95  # ribbons a picture that are no limb, at the margin
FOLDS = 5
PIXELS_PER_PICTURE = 100


def main() -> None:
    """Fit, write and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=700, help="how many of the training split (default: %(default)s)")
    parser.add_argument("--data", type=Path, help="where the scenes are kept (default: a temporary folder)")
    parser.add_argument("--out", type=Path, default=DRAWN, help="the file to write (default: the package's)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        scenes = DrawnScenes(options.data or Path(folder))
        rows = scenes.rows("train", options.scenes)
        proposals = proposed(scenes, rows)
    held_out = evidence_held_out(proposals)
    limb = proposals.part != NO_LIMB
    margin = least_margin(held_out[~limb], most=round(MOST_FALSE * len(rows)))
    gallery = LimbGallery(margin=margin).fit(proposals.features, proposals.part)
    parts, counts = np.unique(proposals.part, return_counts=True)
    facts = {
        "command": "python benchmarks/fit_limb_gallery.py",
        "scenes": len(rows),
        "proposals": dict(zip(parts.tolist(), counts.tolist(), strict=True)),
        "false_per_image": {"proposed": round(float((~limb).sum() / len(rows)), 3), "verified": MOST_FALSE},
        "kept_of_limbs_proposed": round(float((held_out[limb] >= margin).mean()), 3),
        "margin": round(margin, 4),
    }
    save_system(gallery, options.out, facts)
    report({"benchmark": "fit_limb_gallery", **facts}, packages=("numpy", "scikit-learn", "scikit-image"))


@dataclass(frozen=True, eq=False)
class Proposals:
    """N ribbons: features (N, SIZE), the part (N,) that each shows, the group (N,) of its scene."""

    features: NDArray[np.float64]
    part: NDArray[np.str_]
    group: NDArray[np.str_]


def proposed(scenes: DrawnScenes, rows: Sequence[int]) -> Proposals:
    """The ribbons in held-out masks of the scenes in these rows."""
    features, part, group = [], [], []
    for row, mask in zip(rows, held_out_masks(scenes, rows), strict=True):
        picture, name = scenes.picture(row), scenes.group(row)
        segments = limb_segments(mask)
        limbs = scenes.limbs(row)
        pairs, false = found_and_false(limbs, scenes.trunks(row), segments)
        shown = dict.fromkeys(false, NO_LIMB)
        shown |= {number: part_named(SEGMENTS[limbs[limb].part].name) for limb, number in pairs.items()}
        seen = view_features(picture, mask, segments)
        for number in sorted(shown):
            features.append(seen[number])
            part.append(shown[number])
            group.append(name)
    return Proposals(np.stack(features), np.array(part), np.array(group))


def held_out_masks(scenes: DrawnScenes, rows: Sequence[int]) -> list[NDArray[np.bool_]]:
    """Masks of the scenes in these rows, each by a pixel model that has not seen the scene's group."""
    pictures, groups = [scenes.picture(row) for row in rows], [scenes.group(row) for row in rows]
    pixels = BoostedPixels(pixels_per_picture=PIXELS_PER_PICTURE, folds=FOLDS)
    maps = pixels.fit_with_maps(pictures, [scenes.mask(row) for row in rows], groups)
    return [
        np.asarray(pixels.at_pixels(site_map, picture) >= pixels.threshold)
        for site_map, picture in zip(maps, pictures, strict=True)
    ]


def part_named(segment: str) -> str:
    """The class of a part of the skeleton."""
    return "arm" if segment.endswith("arm") else "leg"


def evidence_held_out(proposals: Proposals) -> NDArray[np.float64]:
    """The evidence (N,) of each proposal by a gallery that has not seen its group."""
    fold = folds_by_group(proposals.group, FOLDS, 0)
    found = np.zeros(len(fold))
    for number in range(FOLDS):
        rest, here = fold != number, fold == number
        gallery = LimbGallery().fit(proposals.features[rest], proposals.part[rest])
        found[here] = gallery.evidence(proposals.features[here])
    return found


def least_margin(false: NDArray[np.float64], most: int) -> float:
    """The least evidence that at most so many of the false ones reach."""
    falling = np.sort(false)[::-1]
    return float(np.nextafter(falling[most], np.inf)) if len(falling) > most else float(falling.min(initial=0.0))


if __name__ == "__main__":
    main()
