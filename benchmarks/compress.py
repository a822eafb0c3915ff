"""Claim: what each step of the ladder down from VGG16 with its fully connected head saves: bytes, work and time.

The steps: the fully connected layers factored (ranks 512 and 128); a global-average head instead; of that, channels
pruned to half of the multiplications; a quarter of the width; 8-bit integers; pruned and in integers. Untrained weights
at 224 px: what a step costs in quality is for studies, what it saves depends on shapes alone.

Each is an ONNX file, run by ONNX Runtime picture by picture. `mb` are megabytes on disk, `gmacs` billions of
multiply-accumulates, `time_1` and `time_2` the time of a picture at one and at two threads as a share of VGG16's (`fc`)
at as many, by medians of `--rounds` in turns on the clock. `speedup` is how many times as fast as `fc` the pruned
network is at one thread, `smaller` how many times smaller the file of the pruned one in integers. `svd_s` and `prune_s`
are CPU seconds of the steps themselves. The last line is one JSON object.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch

from figleaf.data.decode import RESIZE_RULE
from figleaf.export.onnx_file import INPUT_NAME, write_onnx
from figleaf.export.onnx_lossy import write_onnx_int8
from figleaf.vgg.channel_pruning import prune
from figleaf.vgg.cost import gmacs, parameters
from figleaf.vgg.low_rank import factorise
from figleaf.vgg.network import VGG
from side_by_side import report

RECORD = {"classes": ["sfw", "nsfw"], "unsafe": ["nsfw"], "resize_rule": RESIZE_RULE}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9, help="times each side is measured (default: %(default)s)")
    parser.add_argument("--width", type=float, default=1.0, help="of the widest network (default: %(default)s)")
    parser.add_argument("--size", type=int, default=224, help="pixels a side (default: %(default)s)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    nets, seconds = _nets(options.width, options.size)
    with tempfile.TemporaryDirectory() as name:
        files = _files(nets, Path(name), options.size)
        values: dict[str, Any] = {"mb": {key: file.stat().st_size / 1e6 for key, file in files.items()}}
        for threads in (1, 2):
            medians = _medians(files, threads, options.size, options.rounds)
            values[f"time_{threads}"] = {key: found / medians["fc"] for key, found in medians.items()}
    values["gmacs"] = {key: gmacs(net) for key, net in nets.items()}
    values["parameters"] = {key: parameters(net) for key, net in nets.items()}
    speedup = 1 / values["time_1"]["gap_pruned"]
    smaller = values["mb"]["fc"] / values["mb"]["gap_pruned_int8"]
    report({"speedup": speedup, "smaller": smaller, **values, **seconds}, ["torch", "torch-pruning", "onnxruntime"])


def _nets(width: float, size: int) -> tuple[dict[str, VGG], dict[str, float]]:
    """The networks by their step, and what two of the steps take."""
    torch.manual_seed(0)
    fc = VGG(batch_norm=False, width=width, input_size=size).eval()
    gap = VGG(batch_norm=False, width=width, input_size=size, head="gap").eval()
    quarter = VGG(batch_norm=False, width=width / 4, input_size=size, head="gap").eval()
    # At smaller widths the layers have fewer ranks.
    ranks = [max(1, round(rank * width)) for rank in (512, 128)]
    svd, svd_s = _timed(lambda: factorise(fc, ranks=ranks))
    pruned, prune_s = _timed(lambda: prune(gap, 0.5).net)
    nets = {"fc": fc, "fc_svd": svd, "gap": gap, "gap_pruned": pruned, "gap_quarter": quarter}
    return nets, {"svd_s": svd_s, "prune_s": prune_s}


def _timed(step: Callable[[], VGG]) -> tuple[VGG, float]:
    start = time.process_time()
    found = step()
    return found, time.process_time() - start


def _files(nets: dict[str, VGG], folder: Path, size: int) -> dict[str, Path]:
    """Each network as an ONNX file, and two of them in integers, calibrated on noise."""
    files = {key: write_onnx(net, folder / f"{key}.onnx", RECORD) for key, net in nets.items()}
    noise = np.random.default_rng(0).integers(0, 256, (8, size, size, 3), dtype=np.uint8)
    for key in ("gap", "gap_pruned"):
        path = folder / f"{key}_int8.onnx"
        files[f"{key}_int8"] = write_onnx_int8(nets[key], path, RECORD, calibration=noise)
    return files


def _medians(files: dict[str, Path], threads: int, size: int, rounds: int) -> dict[str, float]:
    """Seconds of one picture with each file, every side once in each round, after one to warm up."""
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads
    sessions = {
        key: onnxruntime.InferenceSession(file, settings, providers=["CPUExecutionProvider"])
        for key, file in files.items()
    }
    image = np.random.default_rng(1).integers(0, 256, (1, 3, size, size), dtype=np.uint8)
    seconds: dict[str, list[float]] = {key: [] for key in sessions}
    for round_ in range(-1, rounds):
        for key, session in sessions.items():
            start = time.perf_counter()
            session.run(None, {INPUT_NAME: image})
            if round_ >= 0:
                seconds[key].append(time.perf_counter() - start)
    return {key: float(np.median(found)) for key, found in seconds.items()}


if __name__ == "__main__":
    main()
