"""The benchmark of `figleaf serve` still works, and finds what it should; how fast it was is not asked."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "serve.py"


@pytest.mark.bench
@pytest.mark.slow
def test_every_request_gets_the_status_that_it_should() -> None:
    options = ("--seconds=4", "--rounds=1", "--slice=1", "--pictures=8")
    done = subprocess.run([sys.executable, str(BENCHMARK), *options], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["unexpected_5xx"] == told["wrong_status"] == 0
    assert {"200", "413", "415", "422"} <= set(told["by_status"])
    assert told["requests"] == sum(told["by_status"].values())
    assert min(told[key] for key in ("ratio", "ratio_cpu", "ratio_wide", "p50_ms", "rss_start_mb", "rss_end_mb")) > 0
