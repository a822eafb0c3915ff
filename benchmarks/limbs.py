"""How many of the visible limb segments of drawn scenes the grouper finds, and how many it makes up.

No claim is kept by it: 85 % from true masks and 70 % from predicted ones, with one false segment a picture, were aimed
at and are missed, since a mask does not show an arm before a bare chest. What is visible, outlined, found and false is
said in `limb_truth.py`; both recalls are given, of all visible limb segments (`recall`) and of those whose two edges a
mask can show (`recall_outlined`). `by_tilt` is the recall of the visible ones by their angle out of the plane,
in steps of 20 degrees, each with its count. `true_` rows are from the scenes' masks, `predicted_` rows from those of
boosted trees on colours, texture and surroundings, fitted to pictures of the training split; the grouper's constants
were chosen on that split, too.

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

from figleaf.data.decode import decode, resize
from figleaf.data.sources import scenes_manifest
from figleaf.skin.boosted_pixels import BoostedPixels
from figleaf.skin.filter import FleckFilter
from figleaf.skin.limb_groups import Groups, limb_groups
from limb_truth import Limb, is_trunk, matched, trunk_axes, visible_limbs
from side_by_side import one_core, report

FILTER_SIDE = 160  # H + W = 320: the scale of the filter is 1
AREAS = (0.30, 0.10)
_BIN_DEG = 20
Mask = NDArray[np.bool_]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--split", default="test", help="which scenes are measured (default: %(default)s)")
    parser.add_argument("--count", type=int, default=400, help="scenes measured (default: %(default)s)")
    parser.add_argument(
        "--fitted", type=int, default=300, help="scenes the pixel model is fitted to (default: %(default)s)"
    )
    parser.add_argument("--data", type=Path, help="where the scenes are kept (default: a temporary folder)")
    options = parser.parse_args()
    one_core()

    with tempfile.TemporaryDirectory() as folder:
        scenes = _Scenes(options.data or Path(folder))
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
    started = time.process_time()
    from_true = [limb_groups(mask) for mask in true]
    ms = 1e3 * (time.process_time() - started) / len(rows)
    from_predicted = [limb_groups(mask) for mask in predicted]
    from_filter = [limb_groups(mask) for mask in filtered]
    report(
        {
            "benchmark": "limbs",
            **_recalls("true", from_true, limbs, trunks),
            **_recalls("predicted", from_predicted, limbs, trunks),
            "predicted_iou": round(_iou(predicted, true), 3),
            "rules": {
                "filter": _rules(filtered, from_filter, unsafe),
                "predicted": _rules(predicted, from_predicted, unsafe),
                "true": _rules(true, from_true, unsafe),
            },
            "ms_per_image": round(ms, 1),
            "split": options.split,
            "scenes": len(rows),
        },
        packages=("numpy", "scikit-image", "scikit-learn"),
    )


class _Scenes:
    """The embedded scenes with what is known of their figures."""

    def __init__(self, folder: Path) -> None:
        self.manifest = scenes_manifest(folder, count=2000, seed=0, size=96)
        with np.load(self.manifest.root / "figures.npz") as stored:
            self.figures = {name: stored[name].astype(np.float64) for name in stored.files}

    def rows(self, split: str, count: int) -> list[int]:
        return [int(row) for row in np.flatnonzero(self.manifest.table["split"] == split)[:count]]

    def picture(self, row: int) -> NDArray[np.uint8]:
        return decode(self.manifest.root / self.manifest.table["path"].iloc[row])

    def mask(self, row: int) -> Mask:
        return np.asarray(decode(self.manifest.root / self.manifest.table["mask"].iloc[row])[..., 0] > 127)

    def group(self, row: int) -> str:
        return str(self.manifest.table["group"].iloc[row])

    def is_unsafe(self, row: int) -> bool:
        return self.manifest.table["label"].iloc[row] in self.manifest.unsafe

    def limbs(self, row: int) -> list[Limb]:
        known = (self.figures[name][row] for name in ("joints", "radius_px", "tilt_deg", "visible"))
        return visible_limbs(*known, self.mask(row))

    def trunks(self, row: int) -> list[Any]:
        return trunk_axes(self.figures["joints"][row], self.figures["radius_px"][row])


def _recalls(
    name: str, found: Sequence[Groups], limbs: Sequence[list[Limb]], trunks: Sequence[list[Any]]
) -> dict[str, Any]:
    hits: list[tuple[Limb, bool]] = []
    false = 0
    for groups, there, trunk in zip(found, limbs, trunks, strict=True):
        pairs = matched(there, groups.segments)
        hits += [(limb, number in pairs) for number, limb in enumerate(there)]
        rest = [s for number, s in enumerate(groups.segments) if number not in pairs.values()]
        false += sum(not is_trunk(segment, trunk) for segment in rest)

    def recall(chosen: Callable[[Limb], bool]) -> tuple[float | None, int]:
        hit = [yes for limb, yes in hits if chosen(limb)]
        return (round(float(np.mean(hit)), 3) if hit else None), len(hit)

    by_tilt = {
        f"{low}-{low + _BIN_DEG}": recall(lambda limb, low=low: low <= limb.tilt_deg < low + _BIN_DEG)  # type: ignore[misc]
        for low in range(0, 80, _BIN_DEG)
    }
    outlined, count = recall(lambda limb: limb.outlined)
    return {
        f"{name}_recall": recall(lambda limb: True)[0],
        f"{name}_recall_outlined": outlined,
        f"{name}_false_per_image": round(false / len(found), 3),
        f"{name}_by_tilt": by_tilt,
        "visible": len(hits),
        "outlined": count,
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
