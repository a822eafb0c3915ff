"""The benchmark of compression runs and ends in its one JSON object; speed is not asserted."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.mark.bench
def test_the_ladder_is_measured_from_the_whole_network_to_the_smallest() -> None:
    command = [sys.executable, str(BENCHMARKS / "compress.py"), "--rounds", "1", "--width", "0.125", "--size", "64"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["time_1"]["fc"] == found["time_2"]["fc"] == 1
    assert found["gmacs"]["gap_pruned"] <= 0.5 * found["gmacs"]["gap"]
    assert found["mb"]["gap_pruned_int8"] < found["mb"]["gap_pruned"] < found["mb"]["gap"] < found["mb"]["fc"]
    assert {"speedup", "smaller", "svd_s", "commit", "machine", "versions"} <= set(found)
