"""Claim: `figleaf predict` has at least 90 % of the throughput of the bare ONNX session on the same pictures, decoded
before (`ratio`), and killed ten times over 20,000 files it has exactly one row for each.

The network of `ratio` is VGG16 with a global-average head at 224 px, untrained: what it answers does not matter here. A
VGG16-BN of a quarter of the width at 64 px scores faster than files are decoded. Of it there are `ratio_small`, beside
its bare session, and `of_parts_small`, beside the time of the session and that of threads which only decode, together:
with both on the same cores that is what the work costs. Clock times in turns, medians of `--rounds`.

The files are made from the shared photos by copies and crops (or from generated ones); every hundredth is damaged: cut
off, empty, or no picture. `rows`, `doubled`, `lost` and `without_reason` are counted after the last start; `kills` says
how often the process was killed (SIGKILL) before. `memory_growth` is the peak memory of an undisturbed run over all
files over that of one over a tenth of them. The last line is one JSON object.
"""

import argparse
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from figleaf.data.decode import RESIZE_RULE, decode, resize
from figleaf.export.onnx_file import write_onnx
from figleaf.export.onnx_scorer import OnnxScorer
from figleaf.serve.items import items_of
from figleaf.serve.predict import answers
from figleaf.vgg.network import VGG
from side_by_side import photos, report

BATCH = 32


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=20_000, help="files scored (default: %(default)s)")
    parser.add_argument("--kills", type=int, default=10, help="times the process is killed (default: %(default)s)")
    parser.add_argument("--pictures", type=int, default=128, help="pictures of `ratio` (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="times each side is measured (default: %(default)s)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        small = _model(folder / "small.onnx", width=0.25, batch_norm=True, input_size=64)
        large = _model(folder / "large.onnx", width=1.0, batch_norm=False, input_size=224)
        sources, origin = photos(folder, 200)
        files = _files(folder / "files", sources, options.files)
        values = _killed(small, folder / "files", files, options.kills, folder / "killed.jsonl")
        some = files[: options.files // 10]
        (folder / "some.txt").write_text("\n".join(map(str, some)))
        (folder / "all.txt").write_text("\n".join(map(str, files)))
        peaks = {key: _peak(small, folder / f"{key}.txt", folder / f"{key}.jsonl") for key in ("some", "all")}
        whole = [path for index, path in enumerate(some) if not _is_damaged(index)]
        ratio, _ = _ratios(large, whole[: options.pictures], options.rounds)
        ratio_small, of_parts_small = _ratios(small, whole, options.rounds)
    values |= {"memory_growth": peaks["all"] / peaks["some"], "peak_mb": peaks["all"] / 1e6}
    ratios = {"ratio": ratio, "ratio_small": ratio_small, "of_parts_small": of_parts_small}
    report({**ratios, **values, "pictures": origin}, ["numpy", "pillow", "onnxruntime"])


def _model(path: Path, **network: object) -> Path:
    torch.manual_seed(0)
    net = VGG(depth=16, head="gap", classes=2, **network).eval()  # type: ignore[arg-type]
    return write_onnx(net, path, {"classes": ["sfw", "nsfw"], "unsafe": ["nsfw"], "resize_rule": RESIZE_RULE})


def _is_damaged(index: int) -> bool:
    return index % 100 == 99


def _files(folder: Path, sources: list[Path], count: int) -> list[Path]:
    """`count` files: each photo in turn, as it is and then in crops; every hundredth is damaged."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    pictures = [decode(path) for path in sources]
    found = []
    for index in range(count):
        path = folder / f"{index:06d}.jpg"
        turn, number = divmod(index, len(sources))
        if turn == 0:
            content = sources[number].read_bytes()
            path.write_bytes(content)
        else:
            whole = pictures[number]
            height, width = (int(side * rng.uniform(0.3, 0.9)) for side in whole.shape[:2])
            top, left = (int(rng.integers(0, a - b + 1)) for a, b in zip(whole.shape, (height, width), strict=False))
            Image.fromarray(whole[top : top + height, left : left + width]).save(path, quality=85)
        if _is_damaged(index):
            content = path.read_bytes()
            path.write_bytes((content[: len(content) // 2], b"", b"no picture at all")[index // 100 % 3])
        found.append(path)
    return found


def _command(model: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "figleaf.cli", "predict", *arguments, "--model", str(model)]


def _killed(model: Path, folder: Path, files: list[Path], kills: int, out: Path) -> dict[str, int]:
    """Kill the command `kills` times while it writes, let it end, and count its rows."""
    rng = random.Random(0)  # noqa: S311
    done = 0
    for number in range(kills):
        process = subprocess.Popen(_command(model, str(folder), "--out", str(out)), stderr=subprocess.DEVNULL)
        # Until it has written some part of what is left, at any moment of a write.
        wanted = done + (len(files) - done) // (kills - number + 1) * rng.uniform(0.2, 1.0)
        while process.poll() is None and _lines(out) < wanted:
            time.sleep(rng.uniform(0.001, 0.02))
        if process.poll() is not None:
            raise SystemExit(f"the command ended before it was killed: {process.returncode}")
        process.send_signal(signal.SIGKILL)
        process.wait()
        done = _lines(out)
    subprocess.run(_command(model, str(folder), "--out", str(out)), check=True, stderr=subprocess.DEVNULL)
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    counts = Counter(row["path"] for row in rows)
    expected = {str(path): _is_damaged(index) for index, path in enumerate(files)}
    return {
        "kills": kills,
        "rows": len(rows),
        "doubled": sum(count > 1 for count in counts.values()),
        "lost": len(expected.keys() - counts.keys()),
        "without_reason": sum(expected[row["path"]] != bool(row["error"]) for row in rows),
    }


def _lines(path: Path) -> int:
    try:
        return path.read_bytes().count(b"\n")
    except FileNotFoundError:
        return 0


def _peak(model: Path, names: Path, out: Path) -> float:
    """Peak memory, in bytes, of the command over the files of a list; of the command alone, not of what started it."""
    peak = 0.0
    with names.open() as file:
        process = subprocess.Popen(_command(model, "-", "--out", str(out)), stdin=file, stderr=subprocess.DEVNULL)
        status = Path(f"/proc/{process.pid}/status")
        while process.poll() is None:
            found = [line.split()[1] for line in status.read_text().splitlines() if line.startswith("VmHWM")]
            peak = max([peak, *(1024.0 * int(value) for value in found)])
            time.sleep(0.05)
    if process.returncode:
        raise SystemExit(f"predict failed: {process.returncode}")
    return peak


def _ratios(model: Path, files: list[Path], rounds: int) -> tuple[float, float]:
    """The throughput of scoring `files` over that of the session alone, and over that of both parts in turn."""
    scorer = OnnxScorer(model)
    decoded = [resize(decode(path), scorer.input_size) for path in files]
    batches = [np.stack(decoded[start : start + BATCH]) for start in range(0, len(decoded), BATCH)]

    def session() -> None:
        for batch in batches:
            scorer.logits(batch)

    def ours() -> None:
        assert all(answer.error is None for answer in answers(scorer, items_of([str(path) for path in files])))

    def decoding() -> None:
        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            for _ in pool.map(lambda path: resize(decode(path.read_bytes()), scorer.input_size), files):
                pass

    sides: dict[str, Callable[[], None]] = {"ours": ours, "session": session, "decoding": decoding}
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for round_ in range(-1, rounds):
        for name, side in sides.items():
            start = time.perf_counter()
            side()
            if round_ >= 0:
                seconds[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    return medians["session"] / medians["ours"], (medians["session"] + medians["decoding"]) / medians["ours"]


if __name__ == "__main__":
    main()
