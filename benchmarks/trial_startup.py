"""Claim: a trial starts at least 15 times faster from the warm forkserver than as a `python` of its own (`ratio`).

Both sides start a process that imports what a trial needs, makes a run in the tracker, ends it and exits; the run's
creation is part of both. Cold is `python trial_startup.py --trial FOLDER`, as a driver that starts each trial with a
command would do; warm is the fork that `figleaf study` starts. Wall seconds from start to exit, median over rounds, in
turns; the forkserver has been started, as it has for every trial but a study's first. The last line is one JSON object.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path


def main() -> None:
    """Measure and print; with --trial, be a trial that does nothing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5, help="rounds (default: %(default)s)")
    parser.add_argument("--trial", type=Path, metavar="FOLDER", help="only make a run in this home")
    options = parser.parse_args()
    if options.trial:
        nothing(options.trial)
        return

    from figleaf.tracking.store import open_store
    from figleaf.train.launch import warm_context
    from side_by_side import report

    context = warm_context()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        open_store(None, home)  # a study's driver has made it before its first trial

        def cold() -> None:
            subprocess.run([sys.executable, __file__, "--trial", home], check=True)

        def warm() -> None:
            process = context.Process(target=nothing, args=(home,))
            process.start()
            process.join()
            assert process.exitcode == 0

        warm()  # starts the server
        seconds: dict[Callable[[], None], list[float]] = {cold: [], warm: []}
        for _ in range(options.repeats):
            for side, times in seconds.items():
                start = time.perf_counter()
                side()
                times.append(time.perf_counter() - start)
    of_cold, of_warm = (statistics.median(times) for times in seconds.values())
    report(
        {
            "benchmark": "trial_startup",
            "ratio": round(of_cold / of_warm, 1),
            "cold_s": round(of_cold, 2),
            "warm_s": round(of_warm, 3),
            "repeats": options.repeats,
        },
        packages=("figleaf", "torch", "pytorch-lightning", "mlflow"),
    )


def nothing(home: Path) -> None:
    """What a trial does before and after its training."""
    import figleaf.train.warm  # noqa: F401  # what a trial imports; in a fork of the warm server it is there
    from figleaf.tracking.run import TrackedRun
    from figleaf.tracking.store import open_store

    folder = home / "runs" / uuid.uuid4().hex
    with TrackedRun.start(
        open_store(None, home), experiment="figleaf", name="nothing", folder=folder, params={"seed": 1}, tags={}
    ):
        pass


if __name__ == "__main__":
    main()
