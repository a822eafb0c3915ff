"""Claim: after loading, a query over 5,000 pictures takes less than 50 ms, from the pixels to the answers.

The index is of `--images` pictures by regions: the codes of some are found, and the others are these with noise, since
only their number matters to a search. Three sides answer the same queries:

* ours: `ImageIndex.encode` of a picture and the twelve nearest, exact: `query_ms`, at most 50;
* the search alone, exact (`exact_ms`) and approximate (`approximate_ms`), with `recall_at_10` of the latter;
* numpy, a sort of all distances: `brute_force_ms`; `ratio` is that over `exact_ms`.

`encode_ms` is what the code itself takes: superpixels, normalised cut, description, words. `load_s` reads the index
from its folder and compares all hashes. One core, CPU seconds, sides in turns, medians over rounds. The last line is
one JSON object.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from figleaf.data.cache import DecodedImages
from figleaf.data.decode import decode, resize
from figleaf.data.manifest import Manifest
from figleaf.skin.neighbours import recall
from figleaf.skin.retrieval import FEATURES, ImageIndex, build
from figleaf.skin.retrieval_files import load_index, save_index
from side_by_side import median_seconds, one_core, photos, report

_COUNT = 12


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=5000, help="pictures in the index (default: %(default)s)")
    parser.add_argument("--photos", type=int, default=64, help="whose regions are found (default: %(default)s)")
    parser.add_argument("--queries", type=int, default=16, help="queries a round (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=9, help="rounds (default: %(default)s)")
    options = parser.parse_args()
    one_core()

    with tempfile.TemporaryDirectory() as folder:
        files, source = photos(Path(folder), options.photos)
        side = FEATURES["regions"]().size
        pictures = np.stack([resize(decode(file), side) for file in files])
        save_index(_index(pictures, options.images), Path(folder) / "index")
        started = time.perf_counter()
        index = load_index(Path(folder) / "index")
        load_s = time.perf_counter() - started
        queries = pictures[: options.queries]
        codes = [index.encode(picture) for picture in queries]
        recalls = [
            recall(*(np.array([a.row for a in index.nearest(code, 10, how)]) for how in ("approximate", "exact")))
            for code in codes
        ]

    def brute_force(code: NDArray[np.float32]) -> NDArray[np.int64]:
        return np.argsort(((index.codes - code) ** 2).sum(axis=1))[:_COUNT]

    seconds = median_seconds(
        {
            "query": lambda: [index.nearest(index.encode(picture), _COUNT) for picture in queries],
            "encode": lambda: [index.encode(picture) for picture in queries],
            "exact": lambda: [index.nearest(code, _COUNT, "exact") for code in codes],
            "approximate": lambda: [index.nearest(code, _COUNT, "approximate") for code in codes],
            "brute_force": lambda: [brute_force(code) for code in codes],
        },
        options.repeats,
    )
    ms = {f"{name}_ms": round(1e3 * value / len(queries), 3) for name, value in seconds.items()}
    report(
        {
            "benchmark": "retrieval",
            **ms,
            "ratio": round(seconds["brute_force"] / seconds["exact"], 1),
            "recall_at_10": round(float(np.mean(recalls)), 4),
            "load_s": round(load_s, 3),
            "images": options.images,
            "dimensions": int(index.codes.shape[1]),
            "source": source,
            "repeats": options.repeats,
        },
        packages=("numpy", "scikit-image", "scikit-learn", "faiss-cpu"),
    )


def _index(pictures: NDArray[np.uint8], count: int) -> ImageIndex:
    """An index of `count` pictures, of which only `pictures` are real."""
    rows = pd.DataFrame({"path": [f"{n}.jpg" for n in range(len(pictures))], "label": "all", "split": "train"})
    manifest = Manifest.from_table(rows, root=Path(), name="benchmark", unsafe=())
    decoded = DecodedImages(pictures, tuple(map(str, range(len(pictures)))), (None,) * len(pictures))
    found = build(manifest, decoded, "regions", {}, data_hash="")
    rng = np.random.default_rng(0)
    which = rng.integers(0, len(pictures), count)
    noisy = np.abs(found.codes[which] + rng.normal(0, 0.05, (count, found.codes.shape[1])))
    noisy /= np.linalg.norm(noisy, axis=1, keepdims=True)
    table = found.table.iloc[which].reset_index(drop=True).assign(path=[f"{n}.jpg" for n in range(count)])
    return ImageIndex(
        features="regions",
        code=found.code,
        codes=noisy.astype(np.float32),
        table=table,
        root=found.root,
        classes=found.classes,
        data_name="benchmark",
        data_hash="",
    )


if __name__ == "__main__":
    main()
