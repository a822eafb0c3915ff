"""Trains one run in a process of its own and kills it, SIGKILL, at a named point. Started by test_resume.py.

Arguments: the name of a kill point, its n-th occurrence, then Hydra overrides.
"""

import os
import signal
import sys

import torch

import figleaf.files
from figleaf.config import compose
from figleaf.tracking import delivery
from figleaf.train import callbacks, measure, module, task


def die_at(owner: type, name: str, occurrence: int, *, after: bool) -> None:
    """Replace `owner.name` by one that kills the process at its n-th call, before or after doing its work."""
    original, calls = getattr(owner, name), 0

    def counted(*args: object, **kwargs: object) -> object:
        nonlocal calls
        calls += 1
        if calls == occurrence and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        value = original(*args, **kwargs)
        if calls == occurrence and after:
            os.kill(os.getpid(), signal.SIGKILL)
        return value

    setattr(owner, name, counted)


POINTS = {
    "mid_epoch": (module.Classifier, "training_step", True),
    "before_validation": (module.Classifier, "on_validation_epoch_start", False),
    "during_validation": (module.Classifier, "validation_step", True),
    "after_validation": (callbacks.BestWeights, "on_validation_end", True),
    "writing_checkpoint": (torch, "save", True),
    "checkpoint_not_committed": (callbacks.AtomicCheckpoints, "save_checkpoint", True),
    "during_upload": (delivery.MlflowClient, "log_batch", True),
    "before_final_metrics": (task, "final_metrics", False),
    "after_final_rows": (task, "clock_metrics", True),
}

if __name__ == "__main__":
    point, occurrence, overrides = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
    torch.set_num_threads(1)
    if point != "none":
        owner, name, after = POINTS[point]
        die_at(owner, name, occurrence, after=after)
    print(task.train(compose("train", overrides)).run_id)
