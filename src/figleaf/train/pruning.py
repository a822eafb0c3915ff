"""Giving up a training that a search sees no promise in: one process decides, every rank obeys at the same step."""

import sys
from collections.abc import Callable, Mapping
from typing import Any

from pytorch_lightning.callbacks import Callback

from figleaf.train.callbacks import is_step_end

PRUNED_TAG = "figleaf.pruned"
# Told the number of finished epochs and the last one's validation; answers whether to give up.
Ask = Callable[[int, Mapping[str, float]], bool]


class Pruned(SystemExit):
    """The training was given up. A `SystemExit`, since it is ended from outside: its run is KILLED, not FAILED."""


class Pruning(Callback):
    """Asks after every epoch on rank 0, tells every rank the answer, and ends the training on all of them at once.

    The end comes after the next epoch's first step, where a durable checkpoint has just released every epoch so far to
    the tracker, so this callback has to stand behind `DurableCheckpoint`. A training whose epochs are all done is never
    given up: there is nothing left to save.
    """

    def __init__(self, ask: Ask) -> None:
        self.ask = ask
        self.hopeless = False

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """Ask, and share the answer."""
        answer = trainer.is_global_zero and self.ask(trainer.current_epoch + 1, dict(pl_module.validation))
        self.hopeless = bool(trainer.strategy.broadcast(answer))

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Obey. Every rank is at the same step, so none is left waiting for another."""
        if self.hopeless and is_step_end(trainer, batch_idx):
            why = f"given up after {trainer.current_epoch} epochs"
            sys.stderr.write(f"rank {trainer.global_rank}: {why}\n")  # one write a line: the ranks share the log
            raise Pruned(why)
