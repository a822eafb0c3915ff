"""The links to a study open what they promise in the MLflow UI: its runs with filter and columns, and side by side."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from browser import Visit
from figleaf.tracking.find import FoundRun, runs
from figleaf.tracking.store import open_store

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(1200)]

STUDY = """
question: Does dropout help on digits?
base: [data=digits, model=debug, trainer.epochs=1, optimizer.batch_size=256, trainer.intervals=0]
seeds: [0, 1]
arms:
  half: [model.dropout=0.5]
  tenth: [model.dropout=0.1]
table:
  columns: [test/auroc, {key: time/train_seconds, label: Train s}]
"""
NAMES = ["half-s0", "half-s1", "tenth-s0", "tenth-s1"]
LINKS = re.compile(r"^in the MLflow UI: (\S+)\nside by side \(all 4 runs\): (\S+)$", re.MULTILINE)
FIGLEAF = [sys.executable, "-m", "figleaf.cli"]


@dataclass(frozen=True)
class Served:
    """A study's pages while they are served: both links as `figleaf ui` prints them, its own run, and those it made."""

    list_link: str
    comparison_link: str
    study_run: FoundRun
    by_name: dict[str, FoundRun]

    @property
    def address(self) -> str:
        return self.list_link.partition("/#")[0]


@pytest.fixture(scope="module")
def served(chromium: "Browser", tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Two arms with two seeds, trained in a home of their own, and `figleaf ui` on them."""
    place = tmp_path_factory.mktemp("pages")
    (place / "experiments" / "tiny").mkdir(parents=True)
    (place / "experiments" / "tiny" / "study.yaml").write_text(STUDY)
    environment = {**os.environ, "FIGLEAF_HOME": str(place / "home"), "PWD": str(place)}
    subprocess.run([*FIGLEAF, "study", "run", "tiny", "--jobs", "2"], cwd=place, env=environment, check=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    said = place / "said"
    with said.open("w") as stderr:
        command = [*FIGLEAF, "ui", "tiny", "--port", str(port)]
        pages = subprocess.Popen(command, cwd=place, env=environment, stderr=stderr)
    try:
        found = runs(open_store(None, place / "home"))
        links = printed_links(said, pages)
        (study_run,) = [run for run in found if run.tags.get("figleaf.kind") == "study"]
        yield Served(*links, study_run, {run.name: run for run in found if run.run_id != study_run.run_id})
    finally:
        pages.send_signal(signal.SIGTERM)
        pages.wait(60)


def printed_links(said: Path, command: "subprocess.Popen[bytes]") -> tuple[str, str]:
    """The list's link and the comparison's, once `figleaf ui` has said them."""
    deadline = time.monotonic() + 240
    while not (found := LINKS.findall(said.read_text())):
        assert command.poll() is None, said.read_text()
        assert time.monotonic() < deadline, said.read_text()
        time.sleep(0.2)
    (links,) = found
    return links


def shown_runs(page: "Page") -> list[str]:
    """The names of the runs in MLflow's list, from top to bottom, once all four are there."""
    links = page.get_by_role("link", name=re.compile(r"-s\d$"))
    links.nth(len(NAMES) - 1).wait_for()
    return [link.inner_text() for link in sorted(links.all(), key=lambda link: (link.bounding_box() or {"y": 0})["y"])]


def test_list_shows_the_finished_runs_of_the_study_under_their_arms_the_best_on_top(
    visit: Visit, served: Served
) -> None:
    visit.page.goto(served.list_link)
    by_arm = {arm: [f"{arm}-s0", f"{arm}-s1"] for arm in ("half", "tenth")}
    value = {name: run.metrics["val/auroc"] for name, run in served.by_name.items()}
    arms = sorted(by_arm, key=lambda arm: -sum(value[name] for name in by_arm[arm]))
    assert shown_runs(visit.page) == [
        name for arm in arms for name in sorted(by_arm[arm], key=lambda name: -value[name])
    ]
    assert visit.page.get_by_text("Group: half").is_visible()
    assert visit.page.get_by_text("4 matching runs").is_visible()  # and not the study's own


def test_list_has_the_settings_that_differ_and_the_metrics_of_the_table_as_columns(
    visit: Visit, served: Served
) -> None:
    visit.page.goto(served.list_link)
    shown_runs(visit.page)
    headers = visit.page.get_by_role("columnheader").filter(has_text=re.compile(r"^[a-z]+(/|\.|$)"))
    texts = [text.strip() for text in headers.all_inner_texts() if text.strip()]
    wanted = ["arm", "model.dropout", "seed", "test/auroc", "time/train_seconds", "val/auroc"]
    assert list(dict.fromkeys(texts)) == wanted


def test_page_side_by_side_shows_the_setting_that_differs_and_the_values_of_every_run(
    visit: Visit, served: Served
) -> None:
    visit.page.goto(served.comparison_link)
    visit.page.get_by_role("heading", name="Comparing 4 Runs from 1 Experiment").wait_for()
    assert cells(visit.page.locator("tr", has_text="Run Name:")) == ["Run Name:", *NAMES]
    visit.page.get_by_role("switch", name="Parameters - Show diff only").click()
    table = visit.page.locator("table", has=visit.page.get_by_role("rowheader", name="model.dropout", exact=True))
    visit.page.get_by_role("rowheader", name="model.depth", exact=True).wait_for(state="detached")
    assert [cells(row) for row in table.get_by_role("row").all()] == [
        ["arm", "half", "half", "tenth", "tenth"],
        ["model.dropout", "0.5", "0.5", "0.1", "0.1"],
        ["seed", "0", "1", "0", "1"],
    ]
    shown = metric_values(visit, "test/auroc")
    assert [float(text) for text in shown] == [
        pytest.approx(served.by_name[name].metrics["test/auroc"], abs=0.0006) for name in NAMES
    ]


def test_description_of_the_study_leads_to_both(visit: Visit, served: Served) -> None:
    page = f"{served.address}/#/experiments/{served.study_run.experiment_id}/runs/{served.study_run.run_id}"
    visit.page.goto(page)
    visit.page.get_by_text("Does dropout help on digits?").first.wait_for()
    for link, opened in (("Its finished runs", served.list_link), ("side by side", served.comparison_link)):
        href = visit.page.get_by_role("link", name=link).get_attribute("href")
        assert f"{served.address}/{href}" == opened
    with visit.page.expect_popup() as opened_list:
        visit.page.get_by_role("link", name="Its finished runs").click()
    assert sorted(shown_runs(opened_list.value)) == NAMES


def cells(row: "Locator") -> list[str]:
    return [text.strip() for text in row.locator("th, td").all_inner_texts()]


def metric_values(visit: Visit, key: str) -> list[str]:
    """What stands beside a metric of the comparison, from left to right. Only the rows in sight are on the page."""
    name = visit.page.get_by_role("link", name=key, exact=True)
    values = visit.page.get_by_role("grid").last
    values.wait_for()
    while not name.count():
        moved = values.evaluate(
            "grid => { const y = grid.scrollTop; grid.scrollTop += 100; return grid.scrollTop - y }"
        )
        assert moved, f"the comparison has no {key}"
        visit.page.evaluate("() => new Promise(requestAnimationFrame)")
    top = name.locator("xpath=..").evaluate("cell => cell.style.top")
    row = values.locator(f"[role=rowgroup] > div[style*='top: {top};']")
    row.nth(len(NAMES) - 1).wait_for(state="attached")
    return row.all_inner_texts()
