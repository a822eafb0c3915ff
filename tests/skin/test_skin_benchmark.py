"""The benchmark of the skin room runs and ends in its one JSON object; how fast is for its readers to see."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.mark.bench
def test_the_filter_is_timed_and_compared_in_both_modes(tmp_path: Path) -> None:
    command = [sys.executable, str(BENCHMARKS / "skin.py"), "--timed", "1", "--compared", "2", "--repeats", "1"]
    environment = os.environ | {"FIGLEAF_SHARED": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["fast_images_per_s"] > result["exact_images_per_s"] > 0
    assert 0 <= result["mask_iou"] <= 1
    assert 0 < result["ncut_s"] < 60
    assert (result["source"], result["compared"]) == ("generated JPEGs", 2)
    assert {"fast_vs_exact", "commit", "machine", "versions"} <= set(result)
