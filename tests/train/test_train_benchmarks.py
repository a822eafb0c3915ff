"""The benchmarks of the command line and of training run and end in their one JSON object; speed is not asserted."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"

pytestmark = pytest.mark.bench


def last_line(script: str, *arguments: str) -> dict[str, object]:
    command = [sys.executable, str(BENCHMARKS / script), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    result: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return result


def test_startup_times_the_help_page() -> None:
    result = last_line("startup.py", "--repeats", "1")
    assert 0 < float(str(result["help_s"])) < 60
    assert {"python_s", "ratio", "commit", "machine", "versions"} <= set(result)


def test_training_overhead_compares_the_task_with_a_bare_loop() -> None:
    result = last_line("training_overhead.py", "--model", "debug", "--epochs", "1", "--repeats", "1")
    assert float(str(result["ratio"])) > 0
    assert {"cpu_ratio", "images_per_second", "fixed_seconds", "commit", "machine", "versions"} <= set(result)


def test_time_to_quality_races_a_recipe_against_the_reference() -> None:
    short = ["--data", "digits", "--target", "0.4", "--seeds", "1", "--epochs", "1", "--our-epochs", "1"]
    result = last_line("time_to_quality.py", *short, "--rates", "0.01", "--", "model.width=0.0625", "model.depth=11")
    assert float(str(result["ratio"])) > 0
    assert {"seconds", "by_seed", "sweep", "reference_lr", "missed", "commit", "machine"} <= set(result)
