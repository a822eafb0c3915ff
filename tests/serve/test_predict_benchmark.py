"""The benchmark of `figleaf predict`: its files, its kills and its one JSON object."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.bench

BENCHMARK = Path(__file__).resolve().parents[2] / "benchmarks" / "predict.py"


def test_rows_are_neither_lost_nor_doubled_where_it_is_killed() -> None:
    options = ("--files=600", "--kills=3", "--pictures=4", "--rounds=1")
    done = subprocess.run([sys.executable, str(BENCHMARK), *options], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    counted = {name: told[name] for name in ("kills", "rows", "doubled", "lost", "without_reason")}
    assert counted == {"kills": 3, "rows": 600, "doubled": 0, "lost": 0, "without_reason": 0}
    assert 0 < told["ratio_small"] < 1.5
    assert told["peak_mb"] > 10
