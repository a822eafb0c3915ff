"""How many of the visible limb segments of drawn scenes the grouper finds, and how many it makes up.

What is visible, outlined, found and false is said in `limb_truth.py`; both recalls are given, of all visible limb
segments (`recall`) and of those whose two edges a mask can show (`recall_outlined`). `by_tilt` is the recall of the
visible ones by their angle out of the plane, in steps of 20 degrees, each with its count. `true` is from the scenes'
masks, `predicted` from those of boosted trees on colours, texture and surroundings, fitted to pictures of the training
split; the grouper's constants were chosen on that split, too. `true_verified` and `verified`, from predicted masks, are
what the gallery of drawn limbs leaves of them, `true_judged` and `judged` what the judge finds, which has a
network's word, and the creases of the skin: an arm before a bare chest is not in a mask.

`rules`: recall, false positive rate and their quotient, the response ratio, of a decision by area alone and with the
grouper's word ("girdle": two limbs side by side, or a trunk with a thigh), for the filter of 1996 and for the fitted
masks, at the published 30 % and at 10 %; the label is whether a figure is more bare than dressed. The ratio is null
where nothing safe passes.

The last line is one JSON object.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drawn_scenes import DrawnScenes, Mask
from figleaf.data.decode import resize
from figleaf.skin.boosted_pixels import BoostedPixels
from figleaf.skin.filter import FleckFilter
from figleaf.skin.limb_groups import Groups
from figleaf.skin.limb_system import picture_groups
from limb_truth import Limb, found_and_false
from side_by_side import one_core, report

FILTER_SIDE = 160  # H + W = 320: the scale of the filter is 1
AREAS = (0.30, 0.10)
_BIN_DEG = 20


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--split", default="test", help="which scenes are measured (default: %(default)s)")
    parser.add_argument("--count", type=int, default=400, help="scenes measured (default: %(default)s)")
    parser.add_argument(
        "--fitted", type=int, default=1400, help="scenes the pixel model is fitted to (default: %(default)s)"
    )
    parser.add_argument("--data", type=Path, help="where the scenes are kept (default: a temporary folder)")
    options = parser.parse_args()
    one_core()

    with tempfile.TemporaryDirectory() as folder:
        scenes = DrawnScenes(options.data or Path(folder))
        fitted = scenes.rows("train", options.fitted)
        groups = [scenes.group(row) for row in fitted]
        pixels = BoostedPixels(pixels_per_picture=100)
        pixels.fit([scenes.picture(row) for row in fitted], [scenes.mask(row) for row in fitted], groups)
        rows = scenes.rows(options.split, options.count)
        pictures = [scenes.picture(row) for row in rows]
        true = [scenes.mask(row) for row in rows]
        limbs = [scenes.limbs(row) for row in rows]
        trunks = [scenes.trunks(row) for row in rows]
        unsafe = np.array([scenes.is_unsafe(row) for row in rows])

    predicted = [pixels.skin_mask(picture) for picture in pictures]
    filtered = [FleckFilter(mode="fast").skin_mask(resize(picture, FILTER_SIDE)) for picture in pictures]
    small = [resize(picture, FILTER_SIDE) for picture in pictures]
    started = time.process_time()
    from_true = _groups(pictures, true)
    ms = 1e3 * (time.process_time() - started) / len(rows)
    found = {
        "true": from_true,
        "true_verified": _groups(pictures, true, verified=True),
        "predicted": _groups(pictures, predicted),
        "verified": _groups(pictures, predicted, verified=True),
        "true_judged": _groups(pictures, true, judged=True),
        "judged": _groups(pictures, predicted, judged=True),
    }
    by_rule = {
        "filter": (filtered, _groups(small, filtered)),
        "filter_verified": (filtered, _groups(small, filtered, verified=True)),
        "filter_judged": (filtered, _groups(small, filtered, judged=True)),
        "predicted": (predicted, found["predicted"]),
        "predicted_verified": (predicted, found["verified"]),
        "predicted_judged": (predicted, found["judged"]),
        "true": (true, from_true),
    }
    report(
        {
            "benchmark": "limbs",
            **{name: _recalls(groups, limbs, trunks) for name, groups in found.items()},
            "visible": sum(map(len, limbs)),
            "outlined": sum(limb.outlined for there in limbs for limb in there),
            "predicted_iou": round(_iou(predicted, true), 3),
            "rules": {name: _rules(masks, groups, unsafe) for name, (masks, groups) in by_rule.items()},
            "ms_per_image": round(ms, 1),
            "split": options.split,
            "scenes": len(rows),
        },
        packages=("numpy", "scikit-image", "scikit-learn"),
    )


def _groups(
    pictures: Sequence[NDArray[np.uint8]], masks: Sequence[Mask], *, verified: bool = False, judged: bool = False
) -> list[Groups]:
    return [
        picture_groups(picture, mask, verified=verified, judged=judged)
        for picture, mask in zip(pictures, masks, strict=True)
    ]


def _recalls(found: Sequence[Groups], limbs: Sequence[list[Limb]], trunks: Sequence[list[Any]]) -> dict[str, Any]:
    hits: list[tuple[Limb, bool]] = []
    false = 0
    for groups, there, trunk in zip(found, limbs, trunks, strict=True):
        pairs, wrong = found_and_false(there, trunk, groups.segments)
        hits += [(limb, number in pairs) for number, limb in enumerate(there)]
        false += len(wrong)

    def recall(chosen: Callable[[Limb], bool]) -> tuple[float | None, int]:
        hit = [yes for limb, yes in hits if chosen(limb)]
        return (round(float(np.mean(hit)), 3) if hit else None), len(hit)

    by_tilt = {
        f"{low}-{low + _BIN_DEG}": recall(lambda limb, low=low: low <= limb.tilt_deg < low + _BIN_DEG)  # type: ignore[misc]
        for low in range(0, 80, _BIN_DEG)
    }
    return {
        "recall": recall(lambda limb: True)[0],
        "recall_outlined": recall(lambda limb: limb.outlined)[0],
        "false_per_image": round(false / len(found), 3),
        "by_tilt": by_tilt,
    }


def _rules(masks: Sequence[Mask], groups: Sequence[Groups], unsafe: NDArray[np.bool_]) -> dict[str, Any]:
    girdle = np.array([found.complexity >= 3 for found in groups])
    limb = np.array([found.complexity >= 2 for found in groups])
    share = np.array([mask.mean() for mask in masks])
    answers: dict[str, Any] = {}
    for area in AREAS:
        for name, word in (("area", np.ones_like(girdle)), ("area_and_limb", limb), ("area_and_girdle", girdle)):
            passed = (share >= area) & word
            hit, false = float(passed[unsafe].mean()), float(passed[~unsafe].mean())
            answers[f"{name}_{area:.2f}"] = {
                "recall": round(hit, 3),
                "fpr": round(false, 4),
                "response_ratio": round(hit / false, 2) if false else None,
            }
    return answers


def _iou(one: Sequence[Mask], other: Sequence[Mask]) -> float:
    unions = [np.count_nonzero(a | b) for a, b in zip(one, other, strict=True)]
    both = [np.count_nonzero(a & b) for a, b in zip(one, other, strict=True)]
    return float(np.sum(both) / max(1, np.sum(unions)))


if __name__ == "__main__":
    main()
