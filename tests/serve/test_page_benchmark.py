"""The benchmark of the page runs and ends in its one JSON object; how fast is for its readers to see."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.bench, pytest.mark.browser]

BENCHMARK = Path(__file__).resolve().parents[2] / "benchmarks" / "page.py"


def test_the_page_is_measured(engine: dict[str, Path], chromium: object) -> None:
    done = subprocess.run(
        [sys.executable, str(BENCHMARK), "--pictures=1", "--full-pictures=0"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert 0 < told["ms_per_image"] < 60_000
    assert told["seconds_per_filter"] > 0
    assert 200 < told["compressed_kb"] < 2000
    assert told["full_vgg16"] is None
