"""What happens around the steps: metric rows, weight average, best weights, stopping, durable checkpoints.

Checkpoints are taken between two steps of one epoch, never between an epoch's last step and its validation: Lightning
would skip that validation on a resume. The state behind an epoch's end is therefore saved after the next epoch's first
step. A kill before that repeats the epoch's tail, and since every step is a function of the seed, it repeats exactly.
"""

import signal
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.plugins.io import CheckpointIO
from torch import Tensor

from figleaf.errors import FigleafError
from figleaf.files import atomic_path
from figleaf.train.module import Classifier

FORMAT_VERSION = 1
Record = Callable[[Mapping[str, float], int], None]


class AtomicCheckpoints(CheckpointIO):
    """Checkpoint files that are whole or absent, read with `weights_only=True`: tensors and plain containers."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write to a temporary file, flush it, rename it."""
        with atomic_path(Path(path)) as temporary:
            torch.save({**checkpoint, "format_version": FORMAT_VERSION}, temporary)

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """Read what `save_checkpoint` wrote. Raises `FigleafError` for anything else."""
        return read_checkpoint(Path(path))

    def remove_checkpoint(self, path: Any) -> None:
        """Delete the file."""
        Path(path).unlink(missing_ok=True)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The contents of a training checkpoint, on the CPU. Raises `FigleafError` when it is not one of ours."""
    try:
        checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise FigleafError(f"resume={path}: no such checkpoint") from error
    except Exception as error:
        # torch raises anything from EOFError to UnpicklingError here, according to where the bytes went wrong.
        raise FigleafError(f"{path}: not a checkpoint that can be read ({type(error).__name__}): {error}") from error
    version = checkpoint.get("format_version") if isinstance(checkpoint, dict) else None
    if version != FORMAT_VERSION:
        raise FigleafError(f"{path}: checkpoint format {version}, this figleaf reads {FORMAT_VERSION}")
    return checkpoint


def is_step_end(trainer: pl.Trainer, batch_idx: int) -> bool:
    """Whether the optimiser stepped on this batch, rather than the gradient being accumulated further."""
    return (batch_idx + 1) % trainer.accumulate_grad_batches == 0


class WeightAverage(Callback):
    """Updates the module's weight average after each optimiser step."""

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Average when the weights moved."""
        if is_step_end(trainer, batch_idx):
            pl_module.update_average()


class OwnSigterm(Callback):
    """Gives SIGTERM back to whoever had it before the fit, the run that says how it ended.

    Lightning's own handler first waits for the other ranks in a broadcast. They are elsewhere, in another collective or
    on their way out, so the ranks wait for each other until they are killed and nobody has said anything.
    """

    def on_fit_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Lightning takes the signals behind this."""
        self.handler = signal.getsignal(signal.SIGTERM)

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Take it back."""
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self.handler)


class MetricRows(Callback):
    """Gives the run's metrics to `record(metrics, step)` on rank 0: the loss by step, means and validation by epoch."""

    def __init__(self, record: Record, every_steps: int) -> None:
        self.record, self.every_steps = record, every_steps
        # Sum and count of the epoch's batch losses on this rank. float64, and part of the checkpoint, so that an
        # epoch's mean is bit-equal after a resume.
        self.sums = torch.zeros(2, dtype=torch.float64)
        self.started: float | None = None
        self.earlier_seconds = 0.0

    @property
    def train_seconds(self) -> float:
        """Wall-clock seconds of training, those before a resume included."""
        return self.earlier_seconds + (time.monotonic() - self.started if self.started is not None else 0.0)

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Start the clock."""
        self.started = time.monotonic()

    def on_train_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Stop it."""
        self.earlier_seconds, self.started = self.train_seconds, None

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Collect the loss; write a row every few steps."""
        loss = outputs["loss"].detach()
        self.sums = self.sums.to(loss.device)
        # Lightning has divided the loss by the accumulation.
        self.sums += torch.stack((loss.double() * trainer.accumulate_grad_batches, torch.ones_like(loss).double()))
        step = trainer.global_step
        if is_step_end(trainer, batch_idx) and step % self.every_steps == 0:
            mean = trainer.strategy.reduce(loss * trainer.accumulate_grad_batches, reduce_op="mean")
            self.record({"train/loss": float(mean), "train/lr": pl_module.learning_rate(step - 1)}, step)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """One row for the epoch."""
        total, count = _summed_over_ranks(self.sums).tolist()
        self.sums.zero_()
        row = {f"epoch/{key}": value for key, value in pl_module.validation.items()}
        self.record(
            {"epoch/index": trainer.current_epoch, "epoch/train_loss": total / count, **row}, trainer.global_step
        )

    def state_dict(self) -> dict[str, Any]:
        """The epoch's sums over all ranks, and the clock."""
        return {"sums": _summed_over_ranks(self.sums).cpu(), "seconds": self.train_seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Rank 0 goes on with everybody's sums, the others with nothing, so that the total is right."""
        self.sums = state_dict["sums"].clone()
        if torch.distributed.is_initialized() and torch.distributed.get_rank():
            self.sums.zero_()
        self.earlier_seconds = state_dict["seconds"]


class BestWeights(Callback):
    """Keeps the weights of the best validation; says when to stop or to lower the learning rate.

    `save(network)` is called on rank 0. Ties of the monitor, common on small validation sets, go to the lower loss.
    With a `target` training stops when the monitor has reached it.
    """

    def __init__(
        self,
        save: Callable[[torch.nn.Module], None],
        *,
        patience: int,
        plateau: tuple[float, int, int] | None,
        target: float | None = None,
    ):
        self.save, self.patience, self.plateau, self.target = save, patience, plateau, target
        self.best: tuple[float, float] | None = None
        self.best_epoch = -1
        self.last_improved = -1  # the epoch since which patience counts: of the best, or of the last plateau drop
        self.drops = 0

    @property
    def reached(self) -> bool | None:
        """Whether the best validation reached the target; None without one, or before any validation."""
        return None if self.target is None or self.best is None else self.best[0] >= self.target

    def on_validation_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Compare, keep, stop."""
        module: Classifier = pl_module
        epoch = trainer.current_epoch
        value = (module.validation.get(module.monitor, 0.0), -module.validation["val_loss"])
        if self.best is None or value > self.best:
            self.best, self.best_epoch, self.last_improved = value, epoch, epoch
            if trainer.is_global_zero:
                self.save(module.selected)
        if self.patience and epoch - self.best_epoch >= self.patience:
            trainer.should_stop = True
        if self.reached:
            trainer.should_stop = True
        if self.plateau is None:
            return
        factor, patience, most_drops = self.plateau
        if epoch - self.last_improved > patience:
            self.last_improved = epoch
            if self.drops == most_drops:
                trainer.should_stop = True
            else:
                self.drops += 1
                module.plateau_scale *= factor

    def state_dict(self) -> dict[str, Any]:
        """What has been the best, and since when."""
        return {
            "best": list(self.best or ()),
            "best_epoch": self.best_epoch,
            "last_improved": self.last_improved,
            "drops": self.drops,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore it."""
        best = state_dict["best"]
        self.best = (best[0], best[1]) if best else None
        self.best_epoch, self.last_improved = state_dict["best_epoch"], state_dict["last_improved"]
        self.drops = state_dict["drops"]


class DurableCheckpoint(Callback):
    """Saves `path` after each epoch's first step, after `seconds`, and at the end.

    Each checkpoint holds `offset()`, the metric journal's length; once it is on disk, `commit(offset)` is called, which
    releases those rows to the tracker. So the tracker never knows more than the newest checkpoint.
    """

    def __init__(self, path: Path, *, seconds: float, offset: Callable[[], int], commit: Callable[[int], None]) -> None:
        self.path, self.seconds, self.offset, self.commit = path, seconds, offset, commit
        self.saved_at = time.monotonic()

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Save when it is due; never on an epoch's last batch (see the module's docstring)."""
        last = batch_idx + 1 >= trainer.num_training_batches
        if last or not is_step_end(trainer, batch_idx):
            return
        first_step = batch_idx + 1 == trainer.accumulate_grad_batches and trainer.current_epoch > 0
        # Ranks must agree, and their clocks do not: rank 0 decides. It costs a message, so not at every step.
        ask = trainer.world_size == 1 or trainer.global_step % 10 == 0
        due = ask and trainer.strategy.broadcast(time.monotonic() - self.saved_at >= self.seconds)
        if first_step or due:
            self.save(trainer, finished=False)

    def on_train_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """The finished training: a resume goes straight on to the final evaluation."""
        self.save(trainer, finished=True)

    def save(self, trainer: pl.Trainer, *, finished: bool) -> None:
        """Write the checkpoint and release the metric rows before it."""
        self.finished = finished
        self.saved_offset = self.offset()
        trainer.save_checkpoint(self.path)
        if trainer.is_global_zero:
            self.commit(self.saved_offset)
        self.saved_at = time.monotonic()

    def on_save_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Add what a resume has to know before Lightning starts."""
        checkpoint["journal_offset"] = self.saved_offset
        checkpoint["finished"] = self.finished


def _summed_over_ranks(values: Tensor) -> Tensor:
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        values = values.clone()
        torch.distributed.all_reduce(values)
    return values
