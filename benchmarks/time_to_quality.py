"""Claim: a small VGG reaches an AUROC on val in at most a quarter of the seconds of the reference recipe (`ratio`).

Both sides train VGG16-BN of width 1/4 at 64 px with a global-average head, initialised alike, and score val after each
epoch. The clock starts before the first file is read and stops behind the validation that reaches `--target`; what a
side does once for its data (manifest, decode cache, whitened first layer) is counted, and so is opening the tracker.
Its database stands from before, as it does for all but the first run on a machine.

* reference: what torchvision's `references/classification/train.py` does, without what it would do for other data: PIL
  decoding in two loader workers, RandomResizedCrop and flip (areas from 60 %, which keep labels; its own 8 % do not),
  ToTensor, Normalize, SGD with momentum .9 and weight decay 1e-4, cosine to zero, batches of 32. Its learning rate is
  the best of a sweep of 8, judged by the same clock on a seed that is not used again; a rate is given up when it is
  slower than the best so far.
* ours: `figleaf train` with the keys of RECIPE, and everything that a run has: tracker, checkpoints, determinism.

Seeds in turns; `ratio` is the median of the reference's seconds over that of ours. A training that never reaches the
target counts as infinitely long (`missed`). Needs the skin-area photos (FIGLEAF_SHARED), or `--data scenes`. The last
line is one JSON object.
"""

import argparse
import json
import math
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from figleaf.config import TrainConfig, compose, home
from figleaf.data.manifest import Manifest
from figleaf.evaluate.metrics import auroc
from figleaf.tracking.store import open_store
from figleaf.train.inputs import read_manifest
from figleaf.train.task import train
from figleaf.vgg.network import IMAGENET_MEAN, IMAGENET_STD, VGG
from side_by_side import REPOSITORY, report

NETWORK = {"depth": 16, "batch_norm": True, "width": 0.25, "head": "gap", "dropout": 0.0, "input_size": 64}
RATES = (0.004, 0.002, 0.008, 0.001, 0.016, 0.0005, 0.032, 0.064)  # from the middle outwards: the best comes early
RECIPE = [
    "augment=default",
    "augment.alternate=true",
    "model.whiten=true",
    "optimizer=one_cycle",
    "optimizer.lr=0.03",
    "optimizer.batch_size=32",
    "optimizer.label_smoothing=0.1",
    "optimizer.bn_bias_lr_factor=4",
    "trainer.grow_from=32",
    "trainer.grow_share=0.6",
]
BATCH = 32
THREADS = 2


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="skin_area", help="a preset of conf/data (default: %(default)s)")
    parser.add_argument("--target", type=float, default=0.98, help="AUROC on val (default: %(default)s)")
    parser.add_argument("--seeds", type=int, default=5, help="of each side (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=16, help="of the reference's schedule (default: %(default)s)")
    parser.add_argument("--our-epochs", type=int, default=4, help="of our schedule (default: %(default)s)")
    parser.add_argument("--rates", type=float, nargs="+", default=RATES, help="the sweep (default: %(default)s)")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="more keys of our side, and of the data")
    options = parser.parse_args()
    os.chdir(REPOSITORY)  # where conf/ lies
    torch.set_num_threads(THREADS)
    shape = [f"model.{key}={str(value).lower()}" for key, value in NETWORK.items()]
    ours = [f"data={options.data}", "data.calib_fraction=0", "model=vgg16_bn_small", *shape, *RECIPE]
    ours += [f"trainer.epochs={options.our_epochs}", f"trainer.target={options.target}", f"trainer.threads={THREADS}"]
    config = compose("train", [*ours, "trainer.intervals=0", *options.overrides])

    sweep: dict[float, float] = {}
    for rate in options.rates:
        best = min(sweep.values(), default=math.inf)
        sweep[rate] = reference(config, rate, options.epochs, options.target, seed=1000, give_up=best)
        say(f"reference, lr {rate:g}: {sweep[rate]:.1f} s")
    rate = min(sweep, key=sweep.__getitem__)
    seconds: dict[str, list[float]] = {"reference": [], "ours": []}
    for seed in range(1, options.seeds + 1):
        seconds["reference"].append(reference(config, rate, options.epochs, options.target, seed=seed))
        seconds["ours"].append(task(config, seed))
        say(f"seed {seed}: reference {seconds['reference'][-1]:.1f} s, ours {seconds['ours'][-1]:.1f} s")
    median = {name: statistics.median(values) for name, values in seconds.items()}
    report(
        {
            "benchmark": "time_to_quality",
            "ratio": finite(median["reference"] / median["ours"], 2),
            "seconds": {name: finite(value, 1) for name, value in median.items()},
            "by_seed": {name: [finite(value, 1) for value in values] for name, values in seconds.items()},
            "missed": {name: sum(math.isinf(value) for value in values) for name, values in seconds.items()},
            "reference_lr": rate,
            "sweep": {f"{tried:g}": finite(value, 1) for tried, value in sweep.items()},
            "target": options.target,
            "data": f"{options.data}, val",
            "note": "skin-area proxy" if options.data == "skin_area" else "",
            "ours": ours,
        },
        packages=("figleaf", "torch", "torchvision", "pytorch-lightning"),
    )


def task(config: TrainConfig, seed: int) -> float:
    """Seconds until our training has reached its target, in a home of its own with an empty tracker and no caches."""
    with tempfile.TemporaryDirectory() as temporary:
        os.environ["FIGLEAF_HOME"] = temporary
        open_store(None, home())
        start = time.time()
        done = train(replace(config, seed=seed))
        torch.use_deterministic_algorithms(False)  # the task has left it on
        assert config.trainer.target is not None
        rows = map(json.loads, (done.folder / "journal.jsonl").read_text().splitlines())
        scores = [(row["time_ms"], row["metrics"].get("epoch/val_auroc", 0.0)) for row in rows]
        return min((ms / 1000 - start for ms, value in scores if value >= config.trainer.target), default=math.inf)


class Files(Dataset[tuple[torch.Tensor, int]]):
    """A split, decoded with PIL each time."""

    def __init__(self, manifest: Manifest, split: str, transform: transforms.Compose) -> None:
        rows = np.flatnonzero((manifest.table["split"] == split).to_numpy())
        paths, labels = manifest.paths, manifest.labels
        self.items = [(paths[row], int(labels[row])) for row in rows]
        self.transform = transform

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        """Picture (3, S, S) and label."""
        path, label = self.items[index]
        with Image.open(path) as image:
            return self.transform(image.convert("RGB")), label


def reference(
    config: TrainConfig, rate: float, epochs: int, target: float, *, seed: int, give_up: float = math.inf
) -> float:
    """Seconds until the reference recipe has reached `target`; infinite when it does not, or not within `give_up`."""
    start = time.perf_counter()
    torch.manual_seed(seed)
    manifest = read_manifest(config.data, home())
    size = config.model.input_size
    normalise = [
        transforms.ToTensor(),
        transforms.Normalize([value / 255 for value in IMAGENET_MEAN], [value / 255 for value in IMAGENET_STD]),
    ]
    crop = transforms.RandomResizedCrop(size, scale=(0.6, 1.0))
    train_set = Files(manifest, "train", transforms.Compose([crop, transforms.RandomHorizontalFlip(), *normalise]))
    val_set = Files(manifest, "val", transforms.Compose([transforms.Resize((size, size)), *normalise]))
    batches = DataLoader(train_set, BATCH, shuffle=True, num_workers=THREADS, persistent_workers=True)
    val = DataLoader(val_set, BATCH, num_workers=THREADS, persistent_workers=True)
    # The pictures are normalised by the loader, so the network's own first layer has nothing to do.
    shape = {key: getattr(config.network, key) for key in NETWORK}
    net = VGG(**shape, classes=len(manifest.classes), mean=(0, 0, 0), std=(1, 1, 1))
    optimizer = torch.optim.SGD(net.parameters(), rate, momentum=0.9, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    unsafe = [manifest.classes.index(name) for name in manifest.unsafe]
    for _ in range(epochs):
        net.train()
        for images, labels in batches:
            loss = F.cross_entropy(net(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if time.perf_counter() - start > give_up:
                return math.inf
        schedule.step()
        if score(net, val, unsafe) >= target:
            return time.perf_counter() - start
    return math.inf


@torch.inference_mode()
def score(net: VGG, batches: Iterable[tuple[torch.Tensor, torch.Tensor]], unsafe: list[int]) -> float:
    """AUROC on val; 0 where the network has diverged."""
    net.eval()
    pairs = [(net(images).double().softmax(1)[:, unsafe].sum(1), labels) for images, labels in batches]
    scores, labels = (torch.cat(part).numpy() for part in zip(*pairs, strict=True))
    return auroc(scores, np.isin(labels, unsafe)) if np.isfinite(scores).all() else 0.0


def finite(value: float, digits: int) -> float | None:
    """JSON has no infinity: null."""
    return round(value, digits) if math.isfinite(value) else None


def say(line: str) -> None:
    """Progress, beside the JSON."""
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
