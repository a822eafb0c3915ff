"""Claim: the embedded scenes, 2,000 of 96 px, are drawn in less than thirty seconds of one core (`cpu_seconds`).

They are made the first time that they are asked for, on the machine that asks. What else costs time then (PNG files,
masks, the table) is in `with_files_s`, clock time of `scenes_manifest` with as many workers as there are cores.
The last line is one JSON object.
"""

import argparse
import tempfile
import time
from pathlib import Path

from figleaf.data.scenes import render
from figleaf.data.sources import scenes_manifest
from side_by_side import one_core, report


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=2000, help="scenes drawn (default: %(default)s)")
    count = parser.parse_args().count

    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        scenes_manifest(Path(folder), count=count, seed=0, size=96)
        with_files_s = time.perf_counter() - start

    one_core()
    render(1, 0, 96)
    start = time.process_time()
    for index in range(count):
        render(0, index, 96)
    cpu_seconds = time.process_time() - start
    report({"cpu_seconds": cpu_seconds, "with_files_s": with_files_s, "count": count}, ["numpy"])


if __name__ == "__main__":
    main()
