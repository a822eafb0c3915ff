"""The benchmarks of the data room run and end in their one JSON object; how fast is for their readers to see."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"

pytestmark = pytest.mark.bench


def last_line(script: str, *arguments: str, shared: str | None = None) -> dict[str, object]:
    environment = os.environ | ({"FIGLEAF_SHARED": shared} if shared else {})
    command = [sys.executable, str(BENCHMARKS / script), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    result: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return result


def test_input_pipeline_compares_with_torchvision(tmp_path: Path) -> None:
    result = last_line("input_pipeline.py", "--images", "6", "--repeats", "1", shared=str(tmp_path))
    assert float(str(result["ratio"])) > 0
    assert result["source"] == "generated JPEGs"
    assert {"cache_seconds", "epochs_to_repay", "commit", "machine", "versions"} <= set(result)


def test_pca_color_compares_with_albumentations_and_numpy() -> None:
    result = last_line("pca_color.py", "--images", "2", "--repeats", "1", "--size", "32")
    assert float(str(result["ratio"])) > 0
    assert float(str(result["vs_numpy"])) > 0
    assert {"us_per_image", "commit", "machine", "versions"} <= set(result)


def test_look_alikes_are_compared_with_a_loop_over_pairs() -> None:
    result = last_line("look_alike.py", "--count", "200", "--pairs-of", "100")
    assert (result["groups"], result["close"]) == (200, 0)
    assert float(str(result["vs_pairs"])) > 0


def test_shards_are_compared_with_single_files() -> None:
    result = last_line("shards.py", "--pictures", "40", "--side", "32", "--rounds", "1")
    assert (result["pictures"], result["shards"]) == (40, 1)
    assert all(float(str(result[name])) > 0 for name in ("ratio", "cold_ratio", "read_ratio"))
