"""The benchmarks of limbs, retrieval and systems run and end in their one JSON object; none of them asserts a speed."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


def last_line(script: str, folder: Path, *options: str) -> dict[str, Any]:
    """The JSON object of a script without the shared photos."""
    command = [sys.executable, str(BENCHMARKS / script), *options]
    environment = os.environ | {"FIGLEAF_SHARED": str(folder)}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert {"commit", "machine", "versions"} <= set(result)
    return result


@pytest.mark.bench
def test_limbs_are_found_and_verification_drops_more_of_the_false_ones(tmp_path: Path) -> None:
    result = last_line("limbs.py", tmp_path, "--fitted", "30", "--count", "60", "--data", str(tmp_path / "scenes"))
    assert result["scenes"] == 60
    assert 0 < result["true"]["recall"] <= 1
    true, verified = result["true"], result["true_verified"]
    kept_of_false = verified["false_per_image"] / true["false_per_image"]
    assert kept_of_false < verified["recall"] / true["recall"] <= 1
    assert result["verified"]["false_per_image"] <= result["predicted"]["false_per_image"]
    assert result["true_judged"]["recall"] > true["recall"], "limbs before limbs are seen"
    assert result["judged"]["false_per_image"] < result["predicted"]["false_per_image"]
    assert (
        result["rules"]["filter"]["area_0.30"]["recall"] >= result["rules"]["filter"]["area_and_girdle_0.30"]["recall"]
    )


@pytest.mark.bench
def test_the_gallery_is_fitted_to_a_file_that_says_from_what(tmp_path: Path) -> None:
    out = tmp_path / "gallery.safetensors"
    options = ("--scenes", "60", "--data", str(tmp_path / "scenes"), "--out", str(out))
    result = last_line("fit_limb_gallery.py", tmp_path, *options)
    assert set(result["proposals"]) == {"arm", "leg", "none"}
    assert out.stat().st_size > 1000


@pytest.mark.bench
def test_the_network_is_fitted_to_a_file_that_says_from_what(tmp_path: Path) -> None:
    out = tmp_path / "parts.safetensors"
    counts = ("--scenes", "120", "--held-out", "20", "--epochs", "6", "--fitted", "30")
    result = last_line("fit_limb_parts.py", tmp_path, *counts, "--data", str(tmp_path / "scenes"), "--out", str(out))
    assert result["scenes"] == 120
    assert 0 <= result["held_out"]["limb_iou"] <= 1
    assert 0 <= result["held_out"]["kind_share"] <= 1
    assert out.stat().st_size > 1_000_000


@pytest.mark.bench
def test_the_judge_is_fitted_to_a_file_that_says_from_what(tmp_path: Path) -> None:
    out = tmp_path / "judge.safetensors"
    options = ("--scenes", "60", "--fitted", "30", "--data", str(tmp_path / "scenes"), "--out", str(out))
    result = last_line("fit_limb_judge.py", tmp_path, *options)
    assert 0 < result["limbs_among_them"] < result["proposals"]
    assert result["held_out"]["false_per_image"] <= 0.97
    assert out.stat().st_size > 1000


@pytest.mark.bench
def test_a_query_is_timed_exact_and_approximate(tmp_path: Path) -> None:
    result = last_line("retrieval.py", tmp_path, "--images", "100", "--photos", "4", "--queries", "2")
    assert result["query_ms"] > result["exact_ms"] > 0
    assert 0 <= result["recall_at_10"] <= 1
