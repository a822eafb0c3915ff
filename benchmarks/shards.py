"""Claim: pictures that are not in memory are read from shards at least 1.5 times as fast as from single files
(`cold_ratio`).

That is of `read_bytes` alone, in the order of the rows, after the kernel was asked to drop the files' pages
(POSIX_FADV_DONTNEED; the folders' entries stay, so that a disk or a network that is slow to open files would show
more). `read_ratio` is the same with the pages in memory, where a shard has to be hashed and a file has not.

`ratio` is of what a training does with that: `decode_cached` into an empty folder, which reads, decodes and resizes
every picture once, and takes most of its time for decoding. Single files it reads twice, for their hashes and for their
pixels; a shard's manifest holds the hash, and what is read is compared with it. Every epoch after that reads the cache
and is the same for both.

Generated JPEGs of `--side` pixels, clock times in turns, medians of `--rounds`. The last line is one JSON object.
"""

import argparse
import io
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from figleaf.data.cache import decode_cached
from figleaf.data.decode import read_bytes
from figleaf.data.manifest import Manifest, load_manifest
from figleaf.data.sharding import write_shards
from side_by_side import report

SIZE = 64  # of the cached pictures, in pixels


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=4000, help="how many (default: %(default)s)")
    parser.add_argument("--side", type=int, default=160, help="of each, in pixels (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="times each side is measured (default: %(default)s)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        loose = _pictures(folder / "pictures", options.pictures, options.side)
        start = time.perf_counter()
        written = write_shards(loose, folder / "shards", shard_bytes=16_000_000)
        write_seconds = time.perf_counter() - start
        sides = {"files": loose, "shards": load_manifest(written.manifest)}
        os.sync()  # pages that are still to be written cannot be dropped
        seconds: dict[str, list[float]] = {}
        for _ in range(options.rounds):
            for name, manifest in sides.items():
                _drop_pages(folder)
                for kind, done in _measures(manifest, folder / "cache").items():
                    start = time.perf_counter()
                    done()
                    seconds.setdefault(f"{name}_{kind}", []).append(time.perf_counter() - start)
                shutil.rmtree(folder / "cache")
    took = {name: statistics.median(values) for name, values in seconds.items()}
    ratios = {
        "ratio": took["files_cache"] / took["shards_cache"],
        "cold_ratio": took["files_cold"] / took["shards_cold"],
        "read_ratio": took["files_read"] / took["shards_read"],
    }
    counts = {"pictures": options.pictures, "shards": written.shards, "mb": written.n_bytes / 1e6}
    told = {f"{name}_seconds": value for name, value in took.items()}
    report({**ratios, **told, "write_seconds": write_seconds, **counts}, ["numpy", "pillow"])


def _measures(manifest: Manifest, cache: Path) -> dict[str, Callable[[], object]]:
    """What is measured, in this order: the first to read finds nothing in memory."""
    files = manifest.paths

    def read() -> None:
        for file in files:
            read_bytes(file)

    return {"cold": read, "read": read, "cache": lambda: decode_cached(manifest, SIZE, folder=cache)}


def _pictures(root: Path, count: int, side: int) -> Manifest:
    """Smooth noise, a JPEG each, in folders of a hundred as collections often lie."""
    rng = np.random.default_rng(0)
    names = []
    for number in range(count):
        name = f"{number // 100:03d}/{number:06d}.jpg"
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(rng.integers(0, 256, (side // 4, side // 4, 3), dtype=np.uint8))
        buffer = io.BytesIO()
        coarse.resize((side, side), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=90)
        (root / name).write_bytes(buffer.getvalue())
        names.append(name)
    table = pd.DataFrame({"path": names, "label": "noise", "split": "train"})
    return Manifest.from_table(table, root=root, name="noise", unsafe=())


def _drop_pages(folder: Path) -> None:
    for path in folder.rglob("*.*"):
        if path.is_file():
            descriptor = os.open(path, os.O_RDONLY)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)


if __name__ == "__main__":
    main()
