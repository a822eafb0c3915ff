"""The machines that a number comes from, in a reader's words."""

from collections.abc import Mapping
from typing import Any


def machine_text(found: Mapping[str, Any]) -> str:
    """Processor, cores, memory, threads and GPUs of a run's `hardware.json`, in one line."""
    words = f"{found['cpu']}, {found['usable_cores']} of {found['cores']} cores, {found['memory_gib']:.0f} GiB"
    threads = found.get("torch_threads")
    words += f", {threads} thread{'s' if threads > 1 else ''} a run" if threads else ""
    return ", ".join([words, *found.get("gpus", [])])
