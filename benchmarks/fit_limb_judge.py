"""Fit the judge of limb proposals that the package brings, `src/figleaf/skin/limb_judge.safetensors`.

Ribbons are proposed in masks of the training split's scenes, and in these cut along creases, each mask by a pixel model
that has not seen the scene's group. What a ribbon shows is known (`limb_truth.py`). The threshold is the least at which
there is less than one false ribbon a picture, by judges that have not seen the scene's group either.

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
from figleaf.skin.creases import WorkingPicture
from figleaf.skin.limb_evidence import proposal_features
from figleaf.skin.limb_judge import DRAWN, LimbJudge
from figleaf.skin.limb_proposals import Proposals, limb_proposals
from figleaf.skin.storage import save_system
from figleaf.skin.training_pixels import folds_by_group
from fit_limb_gallery import FOLDS, MOST_FALSE, held_out_masks
from limb_truth import cover, found_and_false
from side_by_side import report

COVERED = 0.5  # of a limb's axis: what counts as showing it
THRESHOLDS = np.linspace(0.05, 0.95, 91)


@dataclass(frozen=True, eq=False)
class Scene:
    """A scene's row, what is proposed in it, the evidence (N, d), and whether each shows a limb (N,)."""

    row: int
    proposals: Proposals
    evidence: NDArray[np.float64]
    is_limb: NDArray[np.bool_]


def main() -> None:
    """Fit, write and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--scenes", type=int, default=1400, help="how many of the training split (default: %(default)s)"
    )
    parser.add_argument("--data", type=Path, help="where the scenes are kept (default: a temporary folder)")
    parser.add_argument("--out", type=Path, default=DRAWN, help="the file to write (default: the package's)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        drawn = DrawnScenes(options.data or Path(folder))
        rows = drawn.rows("train", options.scenes)
        scenes = proposed(drawn, rows)
    probability = probability_held_out(scenes, np.array([drawn.group(row) for row in rows]))
    threshold, recall, false = least_threshold(drawn, scenes, probability)
    evidence, is_limb = (np.concatenate([getattr(one, name) for one in scenes]) for name in ("evidence", "is_limb"))
    judge = LimbJudge(threshold=threshold).fit(evidence, is_limb)
    facts = {
        "command": "python benchmarks/fit_limb_judge.py",
        "scenes": len(rows),
        "proposals": len(is_limb),
        "limbs_among_them": int(is_limb.sum()),
        "held_out": {"recall": round(recall, 3), "false_per_image": round(false, 3)},
        "threshold": round(threshold, 2),
    }
    save_system(judge, options.out, facts)
    report(
        {"benchmark": "fit_limb_judge", **facts},
        packages=("numpy", "scikit-learn", "scikit-image", "opencv-python-headless"),
    )


def proposed(drawn: DrawnScenes, rows: Sequence[int]) -> list[Scene]:
    """The proposals in held-out masks of the scenes in these rows."""
    found = []
    masks = held_out_masks(drawn, rows)
    for row, mask in track(zip(rows, masks, strict=True), "Proposals", total=len(rows)):
        picture, limbs = drawn.picture(row), drawn.limbs(row)
        working = WorkingPicture.of(picture, mask)
        proposals = limb_proposals(picture, mask, working)
        shown = [any(cover(limb, segment) >= COVERED for limb in limbs) for segment in proposals.segments]
        evidence = proposal_features(picture, mask, working, proposals)
        found.append(Scene(row, proposals, evidence, np.array(shown, np.bool_)))
    return found


def probability_held_out(scenes: Sequence[Scene], groups: NDArray[np.str_]) -> list[NDArray[np.float64]]:
    """The probability of each scene's proposals by a judge that has not seen its group."""
    fold = folds_by_group(groups, FOLDS, 0)
    found: list[NDArray[np.float64]] = [np.zeros(0)] * len(scenes)
    for number in range(FOLDS):
        rest = [one for one, of in zip(scenes, fold, strict=True) if of != number]
        evidence, is_limb = (np.concatenate([getattr(one, name) for one in rest]) for name in ("evidence", "is_limb"))
        judge = LimbJudge().fit(evidence, is_limb)
        for place in np.flatnonzero(fold == number):
            found[place] = judge.probability(scenes[place].evidence)
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
