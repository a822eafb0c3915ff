"""Fit the judge of limb proposals that the package brings, `src/figleaf/skin/limb_judge.safetensors`.

Ribbons are proposed in scenes of their own (another seed than all that is measured, and than those that the network
which sees parts of limbs was trained on, `fit_limb_parts.py`): in the true masks, and in those of a pixel model fitted
to the training split. What a ribbon shows is known (`limb_truth.py`). The threshold is the least at which there is less
than one false ribbon a picture in predicted masks, by judges that have not seen the scene's group.

The last line is one JSON object: what the judge was fitted to, and the held-out recall and false ribbons a picture.
"""

import argparse
import tempfile
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from drawn_scenes import DrawnScenes
from figleaf.skin.boosted_pixels import BoostedPixels
from figleaf.skin.limb_evidence import Evidence
from figleaf.skin.limb_judge import DRAWN, LimbJudge
from figleaf.skin.storage import save_system
from fit_limb_gallery import PIXELS_PER_PICTURE
from limb_truth import cover, found_and_false
from side_by_side import report

COVERED = 0.5  # of a limb's axis: what counts as showing it
MOST_FALSE = 0.97  # ribbons a picture that are no limb, at the threshold
SEED = 2  # of the scenes; what is measured has seed 0
THRESHOLDS = np.linspace(0.05, 0.95, 91).tolist()


@dataclass(frozen=True, eq=False)
class Scene:
    """The evidence in one mask of a scene's row, and whether each of its N proposals shows a limb (N,)."""

    row: int
    evidence: Evidence
    is_limb: NDArray[np.bool_]


def main() -> None:
    """Fit, write and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=4000, help="the judge is fitted to (default: %(default)s)")
    parser.add_argument("--fitted", type=int, default=1400, help="the pixel model is fitted to (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=2, help="processes that propose (default: %(default)s)")
    parser.add_argument("--data", type=Path, help="where the scenes are kept (default: a temporary folder)")
    parser.add_argument("--out", type=Path, default=DRAWN, help="the file to write (default: the package's)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = options.data or Path(folder)
        pixels = fitted_pixels(DrawnScenes(place), options.fitted)
        drawn = DrawnScenes(place, count=options.scenes, seed=SEED)
        found = drawn.each(partial(proposed, pixels=pixels), options.scenes, options.jobs)
        scenes = [*(one for one, _ in found), *(one for _, one in found)]  # predicted masks first, then true ones
        judge = LimbJudge()
        groups = [drawn.group(one.row) for one in scenes]
        likely = judge.fit_held_out([one.evidence for one in scenes], [one.is_limb for one in scenes], groups)
        threshold, recall, false = least_threshold(drawn, scenes[: options.scenes], likely[: options.scenes])
    judge.set_params(threshold=threshold)
    facts = {
        "command": "python benchmarks/fit_limb_judge.py",
        "scenes": options.scenes,
        "proposals": sum(len(one.is_limb) for one in scenes),
        "limbs_among_them": int(sum(one.is_limb.sum() for one in scenes)),
        "held_out": {"recall": round(recall, 3), "false_per_image": round(false, 3)},
        "threshold": round(threshold, 2),
    }
    save_system(judge, options.out, facts)
    report({"benchmark": "fit_limb_judge", **facts}, packages=("numpy", "scikit-learn", "scikit-image"))


def fitted_pixels(scenes: DrawnScenes, count: int) -> BoostedPixels:
    """The pixel model of `limbs.py`."""
    rows = scenes.rows("train", count)
    pixels = BoostedPixels(pixels_per_picture=PIXELS_PER_PICTURE)
    groups = [scenes.group(row) for row in rows]
    return pixels.fit([scenes.picture(row) for row in rows], [scenes.mask(row) for row in rows], groups)


def proposed(drawn: DrawnScenes, row: int, pixels: BoostedPixels) -> tuple[Scene, Scene]:
    """The proposals in the predicted and in the true mask of a scene."""
    picture, limbs = drawn.picture(row), drawn.limbs(row)
    found = []
    for mask in (pixels.skin_mask(picture), drawn.mask(row)):
        evidence = Evidence.of(picture, mask)
        shown = [any(cover(limb, segment) >= COVERED for limb in limbs) for segment in evidence.proposals.segments]
        found.append(Scene(row, evidence, np.array(shown, np.bool_)))
    return found[0], found[1]


def least_threshold(
    drawn: DrawnScenes, scenes: Sequence[Scene], probability: Sequence[NDArray[np.float64]]
) -> tuple[float, float, float]:
    """The least threshold with at most `MOST_FALSE` false ribbons a picture; recall and false ribbons there."""
    known = [(drawn.limbs(one.row), drawn.trunks(one.row)) for one in scenes]
    total = sum(len(limbs) for limbs, _ in known)

    def measured(threshold: float) -> tuple[float, float]:
        judge, hit, wrong = LimbJudge(threshold=threshold), 0, 0
        for one, likely, (limbs, trunks) in zip(scenes, probability, known, strict=True):
            pairs, false = found_and_false(limbs, trunks, judge.chosen(one.evidence.proposals, likely))
            hit, wrong = hit + len(pairs), wrong + len(false)
        return hit / total, wrong / len(scenes)

    # The higher the threshold, the fewer are kept of the same ones
    place = bisect_left(THRESHOLDS, True, key=lambda threshold: measured(threshold)[1] <= MOST_FALSE)
    if place == len(THRESHOLDS):
        raise SystemExit("no threshold leaves so few false ones")
    return THRESHOLDS[place], *measured(THRESHOLDS[place])


if __name__ == "__main__":
    main()
