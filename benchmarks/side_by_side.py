"""What the benchmark scripts share: fair timing on one core, pictures to work on, and the JSON object at the end."""

import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image

REPOSITORY = Path(__file__).resolve().parents[1]
SHARED = Path(os.environ.get("FIGLEAF_SHARED", REPOSITORY.parent / "shared"))


def one_core() -> None:
    """Keep this process and the libraries' threads to a single core."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    torch.set_num_threads(1)
    cv2.setNumThreads(0)


def median_seconds(sides: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Give the median time of each side over `repeats` rounds, every side once in each round, after one to warm up.

    In turns, so that a change of the clock speed meets all sides alike; and in CPU seconds, which on one core and
    without waiting for a disk are the seconds on the clock, save for what other processes take.
    """
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for round_ in range(-1, repeats):
        for name, side in sides.items():
            start = time.process_time()
            side()
            if round_ >= 0:
                seconds[name].append(time.process_time() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def photos(folder: Path, count: int) -> tuple[list[Path], str]:
    """Give `count` JPEG files and where they come from: the shared photos, or else generated into `folder`."""
    found = sorted((SHARED / "data" / "photos").glob("*.jpg"))[:count]
    if found:
        return found, "shared photos"
    made = [folder / f"{index:04d}.jpg" for index in range(count)]
    for index, path in enumerate(made):
        _write_photo_like(path, np.random.default_rng(index))
    return made, "generated JPEGs"


def _write_photo_like(path: Path, rng: np.random.Generator) -> None:
    """Noise on all scales, with a JPEG of their usual size: 500 x 375, 75 kB."""
    rgb = np.zeros((375, 500, 3))
    for octave in range(8):
        cells = rng.standard_normal((3 * 2**octave, 4 * 2**octave, 3))
        rgb += cv2.resize(cells, (500, 375), interpolation=cv2.INTER_CUBIC) / 2 ** (0.4 * octave)
    Image.fromarray(np.clip(127 + 50 * rgb, 0, 255).astype(np.uint8)).save(path, quality=90)


def report(values: Mapping[str, Any], packages: Sequence[str]) -> None:
    """Print one JSON object: `values`, then commit, machine and versions."""
    versions = {name: importlib.metadata.version(name) for name in packages}
    cores = os.cpu_count()
    machine = {"cpu": _cpu_name(), "cores": cores, "system": platform.platform(), "python": platform.python_version()}
    print(json.dumps({**values, "commit": _commit(), "machine": machine, "versions": versions}))


def _cpu_name() -> str:
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _commit() -> str | None:
    """Hash of HEAD, with "-dirty" behind it when tracked files differ; None outside a checkout."""
    command = ["git", "-C", str(REPOSITORY), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    return result.stdout.strip() or None
