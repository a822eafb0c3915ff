"""One rank of a run for torchrun and SLURM: `torchrun --nproc-per-node 4 -m figleaf.train.worker CONFIG.json`.

CONFIG.json is what `figleaf train --print-config key=value ...` prints. All ranks are given the same file; they compare
fingerprints before the first step.
"""

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

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
        config = from_dict(json.loads(Path(arguments[0]).read_text(encoding="utf-8")), TrainConfig)
        from figleaf.train.task import train

        result = train(config)
    except (FigleafError, FileNotFoundError, json.JSONDecodeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if os.environ.get("RANK", "0") == "0":
        print(json.dumps({"run_id": result.run_id, "folder": str(result.folder), "metrics": result.metrics}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
