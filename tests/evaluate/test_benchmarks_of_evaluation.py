"""The benchmark of the evaluation runs and ends in its one JSON object; how fast is for its readers to see."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.bench

BENCHMARK = Path(__file__).resolve().parents[2] / "benchmarks" / "intervals.py"


def test_intervals_are_compared_with_the_usual_loop() -> None:
    command = [sys.executable, str(BENCHMARK), "--count", "300", "--loops", "3"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["count"] == 300
    assert result["seconds"] > 0
    assert result["vs_loop"] > 0
