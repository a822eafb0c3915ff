"""Claim: AlexNet's PCA colour costs next to nothing beside a crop, unlike the ways it is usually written.

Three sides on the same 224 px pictures, each drawing its own random shift:

* ours: `figleaf.data.pca_color.PcaColor`, uint8 in and out, saturating integer addition;
* albumentations.FancyPCA (another operation, which solves an eigenproblem for every picture): `ratio`, at least 30;
* numpy, `clip(image + shift)` cast back to uint8, in float32, the faster of numpy's two ways: `vs_numpy`, at least 3
  (`vs_numpy_float64` is what one gets without thinking of the type).

One core, CPU seconds, sides in turns, medians over rounds. The last line is one JSON object.
"""

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

import albumentations
import numpy as np
from numpy.typing import NDArray

from figleaf.data.decode import decode, resize
from figleaf.data.pca_color import ColorBasis, PcaColor, Scaling
from side_by_side import median_seconds, one_core, photos, report


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=224, help="side of the pictures in pixels (default: %(default)s)")
    parser.add_argument("--images", type=int, default=32, help="pictures a round (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=15, help="rounds (default: %(default)s)")
    options = parser.parse_args()
    one_core()

    with tempfile.TemporaryDirectory() as folder:
        files, source = photos(Path(folder), options.images)
        images = [resize(decode(file), options.size) for file in files]
    basis = ColorBasis.fit(np.stack(images))
    ours = PcaColor(basis, strength=0.1, scaling=Scaling.EIG01)
    fancy = albumentations.FancyPCA(alpha=0.1, p=1.0)
    rng = np.random.default_rng(0)

    def in_numpy(image: NDArray[np.uint8], dtype: type[np.floating]) -> NDArray[np.uint8]:
        shift = (255 * basis.shift(rng, 0.1, Scaling.EIG01)).astype(dtype)
        return np.clip(image + shift, 0, 255).astype(np.uint8)

    def for_each(operation: Callable[[NDArray[np.uint8]], NDArray[np.uint8]]) -> None:
        for image in images:  # results are dropped, so that new pages from the system are not what is measured
            operation(image)

    seconds = median_seconds(
        {
            "ours": lambda: for_each(lambda image: ours(image, rng)),
            "fancy_pca": lambda: for_each(lambda image: fancy(image=image)["image"]),
            "numpy_float32": lambda: for_each(lambda image: in_numpy(image, np.float32)),
            "numpy_float64": lambda: for_each(lambda image: in_numpy(image, np.float64)),
        },
        options.repeats,
    )
    report(
        {
            "benchmark": "pca_color",
            "ratio": round(seconds["fancy_pca"] / seconds["ours"], 1),
            "vs_numpy": round(seconds["numpy_float32"] / seconds["ours"], 2),
            "vs_numpy_float64": round(seconds["numpy_float64"] / seconds["ours"], 1),
            "us_per_image": {name: round(1e6 * value / len(images), 1) for name, value in seconds.items()},
            "size": options.size,
            "images": len(images),
            "source": source,
            "repeats": options.repeats,
        },
        packages=("albumentations", "opencv-python-headless", "numpy"),
    )


if __name__ == "__main__":
    main()
