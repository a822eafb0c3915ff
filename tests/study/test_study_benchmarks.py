"""The benchmarks of studies run and end in their one JSON object; speed is not asserted."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"

pytestmark = pytest.mark.bench


def last_line(script: str, *arguments: str) -> dict[str, float]:
    command = [sys.executable, str(BENCHMARKS / script), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def test_trial_startup_compares_a_cold_start_with_a_fork() -> None:
    result = last_line("trial_startup.py", "--repeats", "1")
    assert result["cold_s"] > 0
    assert result["warm_s"] > 0
    assert {"ratio", "commit", "machine", "versions"} <= set(result)


def test_study_table_times_records_to_tables() -> None:
    result = last_line("study_table.py", "--repeats", "1", "--runs", "400", "--predictions", "60")
    assert result["seconds"] > 0
    assert result["growth"] > 0
