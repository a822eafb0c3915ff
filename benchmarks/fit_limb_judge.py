"""Fit the judge of limb proposals that the package brings, `src/figleaf/skin/limb_judge.safetensors`.

Ribbons are proposed in masks of scenes of their own (another seed than all that is measured), and in these cut along
creases: in the true masks, and in those of a pixel model fitted to the training split. What a ribbon shows is known
(`limb_truth.py`). The threshold is the least at which there is less than one false ribbon a picture in predicted masks,
by judges that have not seen the scene's group.

The last line is one JSON object: what the judge was fitted to, and the held-out recall and false ribbons a picture.
"""

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from drawn_scenes import DrawnScenes
from figleaf.progress import track
from figleaf.skin.boosted_pixels import BoostedPixels
from figleaf.skin.creases import WorkingPicture
from figleaf.skin.limb_evidence import proposal_features
from figleaf.skin.limb_judge import DRAWN, LimbJudge
from figleaf.skin.limb_proposals import Proposals, limb_proposals
from figleaf.skin.storage import save_system
from figleaf.skin.training_pixels import folds_by_group
from fit_limb_gallery import FOLDS, PIXELS_PER_PICTURE
from limb_truth import cover, found_and_false
from side_by_side import report

COVERED = 0.5  # of a limb's axis: what counts as showing it
MOST_FALSE = 0.97  # ribbons a picture that are no limb, at the threshold
SEED = 1  # of the scenes; what is measured has seed 0
THRESHOLDS = np.linspace(0.05, 0.95, 91)


@dataclass(frozen=True, eq=False)
class Scene:
    """What is proposed in one mask of a scene's row, the evidence (N, d), and whether each shows a limb (N,)."""

    row: int
    proposals: Proposals
    evidence: NDArray[np.float64]
    is_limb: NDArray[np.bool_]


def main() -> None:
    """Fit, write and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=3600, help="the judge is fitted to (default: %(default)s)")
    parser.add_argument("--fitted", type=int, default=1400, help="the pixel model is fitted to (default: %(default)s)")
    parser.add_argument("--data", type=Path, help="where the scenes are kept (default: a temporary folder)")
    parser.add_argument("--out", type=Path, default=DRAWN, help="the file to write (default: the package's)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = options.data or Path(folder)
        pixels = fitted_pixels(DrawnScenes(place), options.fitted)
        drawn = DrawnScenes(place, count=options.scenes, seed=SEED)
        found = [proposed(drawn, row, pixels) for row in track(range(options.scenes), "Scenes", options.scenes)]
        predicted, true = [one for one, _ in found], [one for _, one in found]
        fold = folds_by_group(np.array([drawn.group(row) for row in range(options.scenes)]), FOLDS, 0)
        threshold, recall, false = least_threshold(drawn, predicted, probability_held_out(predicted, true, fold))
    judge = fitted_judge([*predicted, *true], threshold)
    facts = {
        "command": "python benchmarks/fit_limb_judge.py",
        "scenes": options.scenes,
        "proposals": sum(len(one.is_limb) for one in (*predicted, *true)),
        "limbs_among_them": int(sum(one.is_limb.sum() for one in (*predicted, *true))),
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
        working = WorkingPicture.of(picture, mask)
        proposals = limb_proposals(picture, mask, working)
        shown = [any(cover(limb, segment) >= COVERED for limb in limbs) for segment in proposals.segments]
        evidence = proposal_features(picture, mask, working, proposals)
        found.append(Scene(row, proposals, evidence, np.array(shown, np.bool_)))
    return found[0], found[1]


def fitted_judge(scenes: Sequence[Scene], threshold: float = 0.5) -> LimbJudge:
    """A judge of all that is proposed in these masks."""
    evidence, is_limb = (np.concatenate([getattr(one, name) for one in scenes]) for name in ("evidence", "is_limb"))
    return LimbJudge(threshold=threshold).fit(evidence, is_limb)


def probability_held_out(
    predicted: Sequence[Scene], true: Sequence[Scene], fold: NDArray[np.int64]
) -> list[NDArray[np.float64]]:
    """The probability of the proposals in predicted masks by a judge that has not seen the scene's group."""
    found: list[NDArray[np.float64]] = [np.zeros(0)] * len(predicted)
    for number in range(FOLDS):
        rest = np.flatnonzero(fold != number)
        judge = fitted_judge([scenes[place] for scenes in (predicted, true) for place in rest])
        for place in np.flatnonzero(fold == number):
            found[place] = judge.probability(predicted[place].evidence)
    return found


def least_threshold(
    drawn: DrawnScenes, scenes: Sequence[Scene], probability: Sequence[NDArray[np.float64]]
) -> tuple[float, float, float]:
    """The least threshold with at most `MOST_FALSE` false ribbons a picture; recall and false ribbons there."""
    known = [(drawn.limbs(one.row), drawn.trunks(one.row)) for one in scenes]
    total = sum(len(limbs) for limbs, _ in known)
    for threshold in THRESHOLDS.tolist():
        judge, hit, wrong = LimbJudge(threshold=threshold), 0, 0
        for one, likely, (limbs, trunks) in zip(scenes, probability, known, strict=True):
            pairs, false = found_and_false(limbs, trunks, judge.chosen(one.proposals, likely))
            hit, wrong = hit + len(pairs), wrong + len(false)
        if wrong <= MOST_FALSE * len(scenes):
            return threshold, hit / total, wrong / len(scenes)
    raise SystemExit("no threshold leaves so few false ones")


if __name__ == "__main__":
    main()
