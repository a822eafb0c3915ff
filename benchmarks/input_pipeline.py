"""Claim: on one core, training pictures come at least ten times as fast as with torchvision's usual pipeline (`ratio`).

Both sides turn the same JPEG files into uint8 batches (N, 3, 224, 224) with a random resized crop (area 8-100 %, aspect
3/4 to 4/3) and reflection, a fresh draw for each picture and epoch:

* torchvision: open and decode with Pillow, RandomResizedCrop, RandomHorizontalFlip, PILToTensor, stack;
* figleaf, the path that training takes: a row of the memory-mapped decode cache, the sample's own generator, crop and
  reflection, collate.

What makes the difference is that figleaf decodes a file once and not in every epoch. Once is not never: the one-off
cost (`cache_seconds`, same single core) and the epochs after which it is repaid (`epochs_to_repay`) are given as well.
The cache holds pictures squashed to --cache-size, so a crop from it has less detail than one from the file, is
interpolated without antialiasing, and its aspect is relative to the picture's own. Both sides read from memory (page
cache).

One core, CPU seconds, sides in turns, medians over rounds; a round is one epoch of each. The last line is one JSON
object.
"""

import argparse
import itertools
import tempfile
import time
from pathlib import Path

import pandas as pd
import torch
from PIL import Image
from torchvision import transforms

from figleaf.data.augment import build_augmentation, sample_generator
from figleaf.data.cache import decode_cached
from figleaf.data.collate import image_batch
from figleaf.data.manifest import Manifest
from side_by_side import median_seconds, one_core, photos, report

SIZE = 224
AREA_FROM = 0.08
BATCH = 32


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=200, help="pictures in an epoch (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=7, help="epochs of each side (default: %(default)s)")
    parser.add_argument(
        "--cache-size", type=int, default=256, help="side of the cached pictures (default: %(default)s)"
    )
    options = parser.parse_args()
    one_core()

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        files, source = photos(folder, options.images)
        root = files[0].parent
        table = pd.DataFrame({"path": [file.name for file in files], "label": "photo", "split": "train"})
        manifest = Manifest.from_table(table, root=root, name="photos", unsafe=())
        start = time.process_time()
        pixels = decode_cached(manifest, options.cache_size, folder=folder / "cache", workers=1).pixels
        cache_seconds = time.process_time() - start

        augmentation = build_augmentation(size=SIZE, scale_min=AREA_FROM, reflect=True)
        epochs = itertools.count()
        batches = [range(start, min(start + BATCH, len(files))) for start in range(0, len(files), BATCH)]

        def figleaf_epoch() -> None:
            epoch = next(epochs)
            for rows in batches:
                image_batch([augmentation(pixels[row], sample_generator(0, epoch, row)) for row in rows])

        transform = transforms.Compose(
            [
                transforms.RandomResizedCrop(SIZE, scale=(AREA_FROM, 1.0)),
                transforms.RandomHorizontalFlip(),
                transforms.PILToTensor(),
            ]
        )

        def torchvision_epoch() -> None:
            for rows in batches:
                torch.stack([transform(Image.open(files[row]).convert("RGB")) for row in rows])

        seconds = median_seconds({"figleaf": figleaf_epoch, "torchvision": torchvision_epoch}, options.repeats)

    saved = seconds["torchvision"] - seconds["figleaf"]
    report(
        {
            "benchmark": "input_pipeline",
            "ratio": round(seconds["torchvision"] / seconds["figleaf"], 1),
            "images_per_second": {name: round(len(files) / value) for name, value in seconds.items()},
            "cache_seconds": round(cache_seconds, 2),
            "epochs_to_repay": round(cache_seconds / saved, 2) if saved > 0 else None,
            "size": SIZE,
            "cache_size": options.cache_size,
            "images": len(files),
            "source": source,
            "repeats": options.repeats,
        },
        packages=("torchvision", "torch", "pillow", "opencv-python-headless", "numpy"),
    )


if __name__ == "__main__":
    main()
