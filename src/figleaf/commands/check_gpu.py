"""`figleaf check-gpu`: parity with the CPU, a short run, and DDP over NCCL, as one JSON report."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from figleaf.commands.arguments import parser, print_json, say

# Logits of a float32 network may differ this much between devices: TF32 is off, the order of sums is another.
TOLERANCE = 1e-3


def main(arguments: Sequence[str]) -> int:
    """Check; exit code 0 when all that could be checked held, 1 when not, 3 without a CUDA device."""
    parser("check-gpu", "What works on this machine's CUDA devices, as one JSON report.").parse_args(arguments)
    import torch

    report: dict[str, Any] = {"torch": torch.__version__, "cuda": torch.version.cuda, "devices": []}
    if not torch.cuda.is_available():
        say("no CUDA device: nothing was checked")
        print_json(report)
        return 3
    count = torch.cuda.device_count()
    report["devices"] = [torch.cuda.get_device_name(index) for index in range(count)]
    report["parity"] = {name: _parity(name) for name in ("vgg16_bn_small", "vgg16")}
    report["run"] = _two_steps("trainer=gpu")
    if count > 1:
        report["ddp_nccl"] = _two_steps("trainer=ddp", f"trainer.devices={count}")
    held = [part["max_logit_diff"] <= TOLERANCE for part in report["parity"].values()]
    held += [report[name]["exit_code"] == 0 for name in ("run", "ddp_nccl") if name in report]
    report["passed"] = all(held)
    print_json(report)
    return 0 if report["passed"] else 1


def _parity(preset: str) -> dict[str, float]:
    """The greatest difference between the logits of the CPU and of the first device, on seeded noise."""
    import numpy as np
    import torch

    from figleaf.config import compose
    from figleaf.vgg.network import VGG
    from figleaf.vgg.scorer import TorchScorer

    m = compose("train", [f"model={preset}"]).model
    torch.manual_seed(0)
    net = VGG(
        depth=m.depth, batch_norm=m.batch_norm, width=m.width, head=m.head, dropout=m.dropout, input_size=m.input_size
    )
    pictures = np.random.default_rng(0).integers(0, 256, (4, m.input_size, m.input_size, 3), dtype=np.uint8)
    on_cpu = TorchScorer(net, ("a", "b"), ("b",)).logits(pictures)
    on_gpu = TorchScorer(net, ("a", "b"), ("b",), "cuda").logits(pictures)
    return {"max_logit_diff": float(np.abs(on_cpu - on_gpu).max())}


def _two_steps(*overrides: str) -> dict[str, Any]:
    """A run of two steps, in a process and a home of its own."""
    with tempfile.TemporaryDirectory() as home:
        command = [sys.executable, "-m", "figleaf.cli", "train", "data=digits", "model=debug", *overrides]
        finished = subprocess.run(
            [*command, "trainer.max_steps=2", "trainer.workers=0", "trainer.intervals=0"],
            env={**os.environ, "FIGLEAF_HOME": str(Path(home))},
            capture_output=True,
            text=True,
            check=False,
        )
    told = finished.stdout.strip().splitlines()
    result = json.loads(told[-1]) if finished.returncode == 0 and told else {}
    return {
        "exit_code": finished.returncode,
        "test_nll": result.get("metrics", {}).get("test/nll"),
        "error": "" if finished.returncode == 0 else finished.stderr.strip()[-2000:],
    }
