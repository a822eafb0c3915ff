"""What a link says is what the tracker and its pages understand; `test_ui_links` looks at the pages themselves."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import parse_qs, urlsplit

import pytest
from mlflow.tracking import MlflowClient

from figleaf.study import pages
from figleaf.tracking.find import FoundRun, runs
from figleaf.tracking.links import (
    RunList,
    comparison_address,
    comparison_link,
    finished_of_study,
    keep_view,
    list_link,
    only_these,
    pages_address,
)
from figleaf.tracking.run import TrackedRun
from figleaf.tracking.store import Store

VIEW = RunList("study first", "tags.x = '1'", ("arm", "model.depth"), ("test/auroc", "val/auroc"), "val/auroc")


@pytest.fixture
def found(store: Store, start: Callable[..., TrackedRun], tmp_path: Path) -> dict[str, FoundRun]:
    """Two finished runs of the study `first`, one that failed, and one of another study."""
    for name, study in (("a", "first"), ("b", "first"), ("failed", "first"), ("other", "second")):
        try:
            with start(name=name, folder=tmp_path / name, tags={"figleaf.study": study}):
                assert name != "failed"
        except AssertionError:
            pass
    return {run.name: run for run in runs(store)}


def matching(store: Store, found: dict[str, FoundRun], filter_string: str) -> set[str]:
    experiments = [run.experiment_id for run in found.values()]
    return {run.info.run_name for run in store.client.search_runs(experiments, filter_string)}


def test_filters_find_these_runs_and_no_others(store: Store, found: dict[str, FoundRun]) -> None:
    assert matching(store, found, finished_of_study("first")) == {"a", "b"}
    assert matching(store, found, only_these([found["b"], found["other"]])) == {"b", "other"}


def test_comparison_names_the_runs_in_their_order_and_first(found: dict[str, FoundRun]) -> None:
    link = comparison_link([found["other"], found["a"]])
    assert link.startswith("#/compare-runs?runs=")
    said = parse_qs(urlsplit(link[1:]).query)
    assert json.loads(said["runs"][0]) == [found["other"].run_id, found["a"].run_id]
    assert json.loads(said["experiments"][0]) == [found["a"].experiment_id]
    assert not set(link) & set(' "[]<>'), "it can be clicked in a terminal and stand in Markdown"


def test_view_is_kept_under_the_key_of_its_link_and_written_only_when_it_changed(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment_id, written = store.experiment("figleaf"), []
    monkeypatch.setattr(
        MlflowClient, "set_experiment_tag", lambda *call: written.append(call) or _set_tag(*call), raising=True
    )
    keep_view(store, experiment_id, VIEW)
    keep_view(store, experiment_id, VIEW)
    assert len(written) == 1
    keep_view(store, experiment_id, replace(VIEW, filter="tags.x = '2'"))
    assert len(written) == 2
    (key,) = parse_qs(urlsplit(list_link(experiment_id, VIEW)[1:]).query)["viewStateShareKey"]
    kept = json.loads(store.client.get_experiment(experiment_id).tags[f"mlflow.sharedViewState.{key}"])
    assert kept["name"] == "study first"
    state = json.loads(kept["state"])
    assert state["searchFilter"] == "tags.x = '2'"
    assert state.items() <= kept.items(), "older pages read it there"


_set_tag = MlflowClient.set_experiment_tag


def test_view_that_names_as_many_runs_as_it_may_fits_into_a_tag() -> None:
    named = [SimpleNamespace(run_id=f"{i:032x}") for i in range(pages._MOST_NAMED)]
    metrics = tuple(f"test/slice/some/kind/metric_{i}" for i in range(12))
    long = replace(VIEW, filter=only_these(named), metrics=metrics)  # type: ignore[arg-type]
    assert 4000 < len(long.tag()[1]) < 5500
    assert json.loads(json.loads(long.tag()[1])["state"])["searchFilter"] == long.filter


def test_columns_stand_in_the_order_of_the_view() -> None:
    state = json.loads(json.loads(VIEW.tag()[1])["state"])
    chosen = ["params.`arm`", "params.`model.depth`", "metrics.`test/auroc`", "metrics.`val/auroc`"]
    assert state["selectedColumns"] == chosen
    assert state["columnOrder"][-4:] == chosen
    assert (state["orderByKey"], state["orderByAsc"]) == ("metrics.`val/auroc`", False)


def test_pages_are_those_of_a_server_and_no_password_is_in_their_address() -> None:
    assert pages_address("http://127.0.0.1:5000/") == "http://127.0.0.1:5000"
    assert pages_address("https://me:secret@tracker.lab/mlflow") == "https://tracker.lab/mlflow"
    assert pages_address("sqlite:////home/mlflow.db") is None
    assert pages_address("postgresql://tracker.lab/mlflow") is None


def test_only_runs_of_one_server_have_a_page_that_compares_them(found: dict[str, FoundRun]) -> None:
    assert comparison_address(list(found.values())) is None
    served = [replace(run, _client=MlflowClient("http://127.0.0.1:1")) for run in found.values()]
    assert comparison_address(served) == f"http://127.0.0.1:1/{comparison_link(served)}"
    assert comparison_address([*served[1:], replace(served[0], _client=MlflowClient("http://127.0.0.1:2"))]) is None
