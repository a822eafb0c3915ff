"""Parameters, tags and artifacts reach the tracker whole, or are refused at once."""

import json
from collections.abc import Callable
from pathlib import Path

import mlflow
import pytest

from figleaf.errors import FigleafError
from figleaf.tracking.find import find_run
from figleaf.tracking.run import TrackedRun
from figleaf.tracking.store import Store

Start = Callable[..., TrackedRun]


def test_parameters_are_kept_in_full_and_the_too_long_ones_as_a_file(start: Start, store: Store) -> None:
    medium, long = "m" * 5000, "x" * 7000
    params = {"data": {"path": medium, "classes": ["a", "b"], "limit": None}, "ema": True, "long": long, "empty": ""}
    with start(params=params) as run:
        pass
    found = find_run(store, run.run_id)
    assert found.params["data.path"] == medium
    assert found.params["data.classes"] == '["a", "b"]'
    assert (found.params["data.limit"], found.params["ema"], found.params["empty"]) == ("null", "true", "")
    assert found.params["long"].startswith("xxx")
    assert found.params["long"].endswith("params.json)")
    assert json.loads(found.artifact("params.json").read_text())["long"] == long


def test_more_parameters_and_tags_than_a_call_takes(start: Start, store: Store) -> None:
    params = {f"p{index}": index for index in range(250)}
    with start(params=params) as run:
        run.set_tags({f"t{index}": "x" for index in range(250)})
    found = find_run(store, run.run_id)
    assert len(found.params) == 250
    assert {f"t{index}" for index in range(250)} <= set(found.tags)


def test_a_parent_is_set_explicitly_and_the_environment_redirects_nothing(
    start: Start, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    with start(folder=store.home / "parent") as parent:
        monkeypatch.setenv("MLFLOW_RUN_ID", parent.run_id)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
        with start(parent_run_id=parent.run_id) as child:
            assert mlflow.active_run() is None
    assert child.run_id != parent.run_id
    assert find_run(store, child.run_id).tags["mlflow.parentRunId"] == parent.run_id


def test_artifacts_keep_odd_names_wherever_the_process_stands(
    start: Start, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = tmp_path / "höchst odd #1 %41 ?'s.txt"
    odd.write_text("content")
    with start(experiment="a/b ü#") as run:
        monkeypatch.chdir("/")
        run.log_artifact(odd, "figures/deep #")
        run.log_artifact(odd.parent / "run", "folder")
    monkeypatch.chdir(tmp_path)
    found = find_run(store, run.run_id)
    assert found.artifact(f"figures/deep #/{odd.name}").read_text() == "content"
    assert found.artifact("folder/run/run.json").exists()
    assert found.artifact(f"figures/deep #/{odd.name}").is_relative_to(store.home)
    with pytest.raises(FigleafError, match=r"it has: .*figures"):
        found.artifact("absent.txt")


def test_an_artifact_that_does_not_exist_is_a_mistake_of_the_caller(start: Start) -> None:
    with pytest.raises(FileNotFoundError), start() as run:
        run.log_artifact(run.folder / "absent")


def test_what_the_tracker_refuses_for_good_is_said_at_once(start: Start) -> None:
    with pytest.raises(FigleafError, match="refuses"), start() as run:
        run.log_params({"model": {"depth": 99}})
