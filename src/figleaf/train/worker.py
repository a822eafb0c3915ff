"""One rank of a run for torchrun and SLURM: `torchrun --nproc-per-node 4 -m figleaf.train.worker CONFIG.json`.

CONFIG.json is what `figleaf train --print-config key=value ...` prints. All ranks are given the same file; they compare
fingerprints before the first step.
"""

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from figleaf.config import TrainConfig, from_dict
from figleaf.errors import FigleafError

# SLURM's name for each of torch's.
_SLURM = {
    "RANK": "SLURM_PROCID",
    "LOCAL_RANK": "SLURM_LOCALID",
    "NODE_RANK": "SLURM_NODEID",
    "WORLD_SIZE": "SLURM_NTASKS",
    "MASTER_ADDR": "SLURM_LAUNCH_NODE_IPADDR",
}


def main(arguments: Sequence[str]) -> int:
    """Train as the rank that the environment names."""
    if len(arguments) != 1:
        print("usage: python -m figleaf.train.worker CONFIG.json", file=sys.stderr)
        return 2
    if "RANK" not in os.environ and "SLURM_PROCID" in os.environ:
        os.environ.update({name: os.environ[slurm] for name, slurm in _SLURM.items() if slurm in os.environ})
        # Any port will do as long as all ranks choose the same and two jobs on a node do not.
        os.environ.setdefault("MASTER_PORT", str(20000 + int(os.environ["SLURM_JOB_ID"]) % 20000))
    try:
        config = from_dict(_values(Path(arguments[0])), TrainConfig)
        from figleaf.train.task import train

        result = train(config)
    except FigleafError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if os.environ.get("RANK", "0") == "0":
        print(json.dumps({"run_id": result.run_id, "folder": str(result.folder), "metrics": result.metrics}))
    return 0


def _values(path: Path) -> dict[str, Any]:
    """The configuration in the file, as plain values."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise FigleafError(f"{path}: no configuration of a run ({error})") from error
    if not isinstance(values, dict):
        raise FigleafError(f"{path}: no configuration of a run: no keys with values")
    return values


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
