"""Claim: `figleaf --help` answers within half a second (`help_s`), because a command's imports wait until it runs.

The installed console script as a process of its own, from start to exit, output thrown away: wall seconds, median over
rounds. Beside it, in turns, an interpreter that does nothing (`python -c pass`): `ratio` says how much of the time is
ours. Files are in the page cache after a first round that is not counted. The last line is one JSON object.
"""

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

from side_by_side import report

SIDES = {
    "figleaf --help": [str(Path(sys.executable).with_name("figleaf")), "--help"],
    "python -c pass": [sys.executable, "-c", "pass"],
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=21, help="rounds (default: %(default)s)")
    repeats = parser.parse_args().repeats

    seconds: dict[str, list[float]] = {name: [] for name in SIDES}
    for round_ in range(-1, repeats):
        for name, command in SIDES.items():
            start = time.perf_counter()
            subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
            if round_ >= 0:
                seconds[name].append(time.perf_counter() - start)

    ours, bare = (statistics.median(values) for values in seconds.values())
    report(
        {
            "benchmark": "startup",
            "help_s": round(ours, 3),
            "python_s": round(bare, 3),
            "ratio": round(ours / bare, 2),
            "fastest_help_s": round(min(seconds["figleaf --help"]), 3),
            "repeats": repeats,
        },
        packages=("figleaf",),
    )


if __name__ == "__main__":
    main()
