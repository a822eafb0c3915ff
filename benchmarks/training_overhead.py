"""Claim: the training task reaches at least 95 % of the images/s of a bare PyTorch loop (`ratio`).

Both sides train the same network, from the same weights, on the same batches for the same epochs, and run it over the
validation pictures after each:

* task: `figleaf.train.task.train`, from the start of Lightning's fit to its end, with what a run has: metric rows in
  the journal, their delivery to MLflow by a thread, heartbeat, best weights, durable checkpoints, determinism;
* bare: forward, loss, backward, SGD step, with the same loader in front, and nothing else.

What a run costs once, before and after the fit (opening the tracker, provenance, final predictions, figures),
does not grow with the images: it is given apart as `fixed_seconds`.

One core, so that the task's threads cannot hide on another; sides in turns; medians over rounds. `ratio` is by the
clock, `cpu_ratio` by the CPU seconds of the process with all its threads: on a machine with other work the latter is
the steadier one, on a quiet one they differ by the waiting for the disk. The last line is one JSON object.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import pytorch_lightning as pl
import torch
import torch.nn.functional as F

from figleaf.config import TrainConfig, compose, home
from figleaf.data.loader import EpochLoader, EvaluationLoader, TrainingSamples
from figleaf.train.build import make_module, make_objective, make_plan
from figleaf.train.inputs import Inputs, load_inputs
from figleaf.train.task import train
from side_by_side import REPOSITORY, one_core, report


class Stopwatch:
    """Wall and CPU seconds of what ran under it."""

    def __init__(self) -> None:
        self.wall = self.cpu = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Count the time until the block is left."""
        wall, cpu = time.perf_counter(), time.process_time()
        yield
        self.wall += time.perf_counter() - wall
        self.cpu += time.process_time() - cpu


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="vgg16_bn_small", help="a preset of conf/model (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=2, help="epochs of each side (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=7, help="rounds (default: %(default)s)")
    options = parser.parse_args()
    one_core()
    os.chdir(REPOSITORY)  # where conf/ lies

    with tempfile.TemporaryDirectory() as temporary:
        os.environ["FIGLEAF_HOME"] = temporary
        overrides = ["data=digits", "augment=pca", f"model={options.model}", f"trainer.epochs={options.epochs}"]
        overrides += ["trainer.grow_from=null"]  # the bare loop has pictures of one size
        config: TrainConfig = compose("train", [*overrides, "resume=never"])
        inputs = load_inputs(config.data, config.model.input_size, config.augment.larger, home())
        sides: dict[str, Callable[[], Stopwatch]] = {
            "bare": lambda: bare_loop(config, inputs),
            "task": lambda: task(config),
        }
        fits: dict[str, list[Stopwatch]] = {name: [] for name in sides}
        fixed: list[float] = []
        for round_ in range(-1, options.repeats):
            for name, side in sides.items():
                start = time.perf_counter()
                fit = side()
                if round_ >= 0:
                    fits[name].append(fit)
                    fixed += [time.perf_counter() - start - fit.wall] if name == "task" else []

    images = len(inputs.rows("train")) * options.epochs
    wall = {name: statistics.median(fit.wall for fit in rounds) for name, rounds in fits.items()}
    cpu = {name: statistics.median(fit.cpu for fit in rounds) for name, rounds in fits.items()}
    report(
        {
            "benchmark": "training_overhead",
            "ratio": round(wall["bare"] / wall["task"], 3),
            "cpu_ratio": round(cpu["bare"] / cpu["task"], 3),
            "images_per_second": {name: round(images / seconds, 1) for name, seconds in wall.items()},
            "fixed_seconds": round(statistics.median(fixed), 2),
            "model": options.model,
            "input_size": config.model.input_size,
            "images": images,
            "repeats": options.repeats,
        },
        packages=("figleaf", "torch", "pytorch-lightning", "mlflow"),
    )


def task(config: TrainConfig) -> Stopwatch:
    """Train, measure and track a new run; the time of Lightning's fit within it."""
    watch, fit = Stopwatch(), pl.Trainer.fit

    def timed_fit(*arguments: Any, **options: Any) -> None:
        with watch.running():
            fit(*arguments, **options)

    with mock.patch.object(pl.Trainer, "fit", timed_fit):
        train(config)
    return watch


def bare_loop(config: TrainConfig, inputs: Inputs) -> Stopwatch:
    """The same training as one would write it in a notebook."""
    torch.use_deterministic_algorithms(False)  # the task before has left it on
    rows, pixels, labels = inputs.rows("train"), inputs.pictures.pixels, inputs.manifest.labels
    plan = make_plan(config, inputs, rows, 0, 1)
    network = make_module(config, make_objective(config, inputs), plan).network
    augmentation = inputs.augmentation(config.augment, config.model.input_size, config.seed)
    train_batches = EpochLoader(TrainingSamples(pixels, labels, rows, augmentation, config.seed), plan)
    val_batches = EvaluationLoader(pixels, labels, inputs.rows("val"), plan.batch_size)
    s = config.optimizer
    optimizer = torch.optim.SGD(
        network.parameters(), s.lr, momentum=s.momentum, nesterov=s.nesterov, weight_decay=s.weight_decay
    )
    watch = Stopwatch()
    with watch.running():
        for epoch in range(config.trainer.epochs):
            train_batches.set_epoch(epoch)
            network.train()
            for batch in train_batches:
                loss = F.cross_entropy(network(batch["image"]), batch["label"])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            network.eval()
            with torch.inference_mode():
                for batch in val_batches:
                    network(batch["image"])
    return watch


if __name__ == "__main__":
    main()
