"""What the ranks of one run share: a process group, and the certainty that they train the same thing."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed
from torch import Tensor

from figleaf.errors import FigleafError

Value = TypeVar("Value")
# How long a collective may wait. A rank that died is noticed by its driver within a second; this is for the rest.
PATIENCE = timedelta(minutes=10)


@contextmanager
def process_group(accelerator: str) -> Iterator[tuple[int, int]]:
    """(rank, world size) inside the group that the environment describes (RANK, WORLD_SIZE, ...); (0, 1) without one.

    The ranks are started by `figleaf.train.launch`, torchrun or SLURM, never by Lightning: its launcher re-executes the
    command line, which inside a study would run the whole study again.
    """
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    if world_size == 1:
        yield 0, 1
        return
    rank = int(os.environ["RANK"])
    if accelerator == "gpu":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    backend = "nccl" if accelerator == "gpu" else "gloo"
    torch.distributed.init_process_group(backend, timeout=PATIENCE)
    try:
        yield rank, world_size
    finally:
        torch.distributed.destroy_process_group()


def share(value: Value, rank: int, world_size: int) -> Value:
    """Rank 0's `value`, on every rank."""
    if world_size == 1:
        return value
    box: list[Any] = [value if rank == 0 else None]
    torch.distributed.broadcast_object_list(box, src=0)
    return box[0]  # type: ignore[no-any-return]


def collect(value: Value, world_size: int) -> list[Value]:
    """Every rank's `value`, in the order of the ranks, on every rank."""
    if world_size == 1:
        return [value]
    values: list[Any] = [None] * world_size
    torch.distributed.all_gather_object(values, value)
    return values


def require_equal_fingerprints(fingerprint: str, world_size: int) -> None:
    """Stop before the first step when ranks were given different configurations or data. Raises `FigleafError`."""
    fingerprints = collect(fingerprint, world_size)
    if len(set(fingerprints)) > 1:
        found = ", ".join(f"rank {rank}: {value[:12]}" for rank, value in enumerate(fingerprints))
        raise FigleafError(f"the ranks have different configurations or data ({found}): give all the same command")


def gathered(seen: list[tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
    """What all ranks have seen, ordered by the first of its parts, the index; `seen`: one rank's batches of it."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        parts: list[Any] = [None] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(parts, seen)
        seen = [batch for part in parts for batch in part]
    index, *parts = (torch.cat(batches) for batches in zip(*seen, strict=True))
    order = index.argsort()
    return index[order], *(part[order] for part in parts)
