"""Claim: the skin filter of 1996 does 12 photos of 400 x 512 a second on one core in `fast` mode, 0.5 in `exact` mode.

Timed is everything from a picture's pixels to its mask (`FleckFilter.skin_mask`): `fast_images_per_s`, at least 12, and
`exact_images_per_s`, at least 0.5. Whether the fast way gives the same answers belongs to the claim: `fast_vs_exact` is
the part of the pictures on which both decide alike (30 % of the area marked, or not), at least 0.97, and `mask_iou`
the mean intersection over union of their masks.

The pictures are the shared photos, or else generated ones, squashed to 400 x 512: SCALE is 2.85, the largest window of
a median has a radius of 17 px. As those photos are without people and on one side of 30 %, as many drawn scenes are
compared.

`ncut_s` are the seconds of a picture of 224 x 224 px in parts, by normalised cuts of its superpixels (`segment`), the
superpixels included.

One core, CPU seconds, sides in turns, medians over rounds. The last line is one JSON object.
"""

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from figleaf.data import scenes
from figleaf.data.decode import decode
from figleaf.skin.area import agreement
from figleaf.skin.filter import FleckFilter
from figleaf.skin.regions import segment
from side_by_side import median_seconds, one_core, photos, report

HEIGHT, WIDTH = 400, 512
NCUT_SIZE_PX = 224
TIMED_EXACT = 2  # pictures a round: one takes as long as a dozen in fast mode
TIMED_NCUT = 4

RgbU8 = NDArray[np.uint8]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--timed", type=int, default=12, help="pictures a round, fast mode (default: %(default)s)")
    parser.add_argument("--compared", type=int, default=80, help="pictures in both modes (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=7, help="rounds (default: %(default)s)")
    options = parser.parse_args()
    one_core()

    with tempfile.TemporaryDirectory() as folder:
        files, source = photos(Path(folder), max(options.timed, options.compared // 2))
        pictures = [squashed(decode(file)) for file in files]
    drawn = [squashed(scenes.render(0, index, WIDTH).rgb_u8) for index in range(options.compared // 2)]

    fast, exact = FleckFilter("fast"), FleckFilter("exact")

    def for_each(model: FleckFilter, count: int) -> Callable[[], None]:
        def run() -> None:
            for picture in pictures[:count]:
                model.skin_mask(picture)

        return run

    to_cut = [squashed(picture, NCUT_SIZE_PX, NCUT_SIZE_PX) for picture in pictures[:TIMED_NCUT]]

    def cut() -> None:
        for picture in to_cut:
            segment(picture)

    sides = {"fast": for_each(fast, options.timed), "exact": for_each(exact, TIMED_EXACT), "ncut": cut}
    seconds = median_seconds(sides, options.repeats)
    compared = pictures[: options.compared // 2] + drawn
    alike = agreement(map(fast.skin_mask, compared), map(exact.skin_mask, compared))
    report(
        {
            "benchmark": "skin",
            "fast_images_per_s": round(options.timed / seconds["fast"], 1),
            "exact_images_per_s": round(TIMED_EXACT / seconds["exact"], 2),
            "fast_vs_exact": round(alike.decisions, 3),
            "ncut_s": round(seconds["ncut"] / len(to_cut), 3),
            "mask_iou": round(alike.iou, 3),
            "mask_pixels_alike": round(alike.pixels, 3),
            "height": HEIGHT,
            "width": WIDTH,
            "compared": len(compared),
            "source": source,
            "repeats": options.repeats,
        },
        packages=("opencv-python-headless", "scikit-image", "numpy"),
    )


def squashed(rgb_u8: RgbU8, height: int = HEIGHT, width: int = WIDTH) -> RgbU8:
    """The picture at this size, by default 400 x 512."""
    return np.asarray(Image.fromarray(rgb_u8).resize((width, height), Image.Resampling.BILINEAR))


if __name__ == "__main__":
    main()
