"""Claim: 10,000 pictures are compared with each other for look-alikes in less than ten seconds of a core (`seconds`).

The hashes are drawn at random, as those of different pictures are: that is the usual case, and all pairs are near
misses. Reading the pictures comes before and is not counted. `vs_pairs` is the time of a loop in Python over the pairs
of `--pairs-of` pictures, taken to all pairs, over ours. CPU seconds; the last line is one JSON object.
"""

import argparse
import time

import numpy as np

from figleaf.data.duplicates import Look, same_look
from side_by_side import one_core, report


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10_000, help="pictures (default: %(default)s)")
    parser.add_argument("--pairs-of", type=int, default=1000, help="pictures of the loop (default: %(default)s)")
    options = parser.parse_args()
    one_core()
    hashes = [int(value) for value in np.random.default_rng(0).integers(0, 2**63, options.count)]
    thumbnail = np.zeros((16, 16, 3), np.uint8)
    looks = [Look(value, thumbnail) for value in hashes]
    start = time.process_time()
    found = same_look(looks)
    seconds = time.process_time() - start
    some = hashes[: options.pairs_of]
    start = time.process_time()
    close = sum((a ^ b).bit_count() <= 6 for i, a in enumerate(some) for b in some[:i])
    loop = (time.process_time() - start) * (options.count / len(some)) ** 2
    report(
        {
            "seconds": seconds,
            "vs_pairs": loop / seconds,
            "count": len(looks),
            "groups": len(set(found)),
            "close": close,
        },
        ["numpy"],
    )


if __name__ == "__main__":
    main()
