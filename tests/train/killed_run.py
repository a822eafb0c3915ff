"""Trains one run in a process of its own and kills it, SIGKILL, at a named point."""

import os
import signal
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from figleaf.config import compose
from figleaf.tracking import delivery, run
from figleaf.train import callbacks, folder, module, task
from figleaf.train.launch import warm_context


def die_at(owner: Any, name: str, occurrence: int, *, after: bool) -> None:
    """Replace `owner.name` by one that kills the process at its n-th call, before or after doing its work."""
    original, calls = getattr(owner, name), 0

    def counted(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == occurrence and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        value = original(*args, **kwargs)
        if calls == occurrence and after:
            os.kill(os.getpid(), signal.SIGKILL)
        return value

    setattr(owner, name, counted)


# Where the process dies: what is called then, and whether it dies behind or before the call.
POINTS: dict[str, tuple[Any, str, bool]] = {
    "mid_epoch": (module.Classifier, "training_step", True),
    "before_validation": (module.Classifier, "on_validation_epoch_start", False),
    "during_validation": (module.Classifier, "validation_step", True),
    "after_validation": (callbacks.BestWeights, "on_validation_end", True),
    "writing_checkpoint": (torch, "save", True),
    "checkpoint_not_committed": (callbacks.AtomicCheckpoints, "save_checkpoint", True),
    "during_upload": (delivery.MlflowClient, "log_batch", True),
    "before_final_metrics": (task, "cost_metrics", False),
    "after_final_metrics": (task, "clock_metrics", True),
    "result_not_told": (folder.RunFolder, "write_result", True),
    "told_and_gone": (run.TrackedRun, "__exit__", True),
}


def train_and_die(home: Path, overrides: list[str], point: str, occurrence: int) -> None:
    """The child's work; without a point it trains to the end."""
    os.environ["FIGLEAF_HOME"] = str(home)
    torch.set_num_threads(1)
    if point:
        owner, name, after = POINTS[point]
        die_at(owner, name, occurrence, after=after)
    task.train(compose("train", overrides))


def run_child(home: Path, overrides: list[str], point: str = "", occurrence: int = 0) -> int | None:
    """Its exit code; negative: the signal that ended it."""
    process = warm_context().Process(target=train_and_die, args=(home, overrides, point, occurrence))
    process.start()
    process.join(300)
    return process.exitcode


def weights_whole_and_killed(parent: Path, overrides: list[str]) -> tuple[dict[str, torch.Tensor], ...]:
    """The best weights of a run that was left alone, and of one that was killed in its midst and went on."""
    found = []
    for name, point in (("whole", ""), ("killed", "mid_epoch")):
        place = parent / name
        if point:
            assert run_child(place, overrides, point, 12) == -signal.SIGKILL
        assert run_child(place, overrides) == 0
        found.append(load_file(next(place.rglob("best.safetensors"))))
    return tuple(found)
