"""The notebooks run anywhere, show what they say, and what is committed of them holds no path and no picture."""

import base64
import io
import re
import runpy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nbformat import NotebookNode
from PIL import Image

from egress import guarded
from figleaf.evaluate.delong import delong
from figleaf.study.records import load_records
from figleaf.study.run_comparison import same_samples
from figleaf.tracking.find import runs
from figleaf.tracking.store import open_store

ROOT = Path(__file__).parents[1]
EXECUTE = runpy.run_path(str(ROOT / "notebooks" / "execute.py"))
NAMES: list[str] = EXECUTE["names"]()
_LARGEST = 400_000  # bytes of a committed notebook


@dataclass(frozen=True)
class Shown:
    """What a notebook shows, in the order of its cells."""

    notebook: NotebookNode

    def of(self, kind: str) -> list[str]:
        """The outputs of a kind such as text/markdown."""
        return [output.data[kind] for output in self._outputs() if kind in output.get("data", {})]

    @property
    def streams(self) -> list[str]:
        """What was printed."""
        return [output.text for output in self._outputs() if output.output_type == "stream"]

    @property
    def pictures(self) -> list[Image.Image]:
        return [Image.open(io.BytesIO(base64.b64decode(data))) for data in self.of("image/png")]

    @property
    def texts(self) -> list[dict[str, str]]:
        """Everything but the pictures."""
        return [
            {kind: data for kind, data in output.get("data", {}).items() if not kind.startswith("image/")}
            for output in self._outputs()
        ]

    def _outputs(self) -> list[Any]:
        return [output for cell in self.notebook.cells if cell.cell_type == "code" for output in cell.outputs]


def committed(name: str) -> Shown:
    return Shown(EXECUTE["read"](name))


@pytest.fixture
def show(home: Path, tmp_path: Path) -> Callable[..., Shown]:
    """Executes a notebook in an empty folder, with the test's FIGLEAF_HOME, and sees that it talks to nobody."""
    guard, work, log = tmp_path / "guard", tmp_path / "work", tmp_path / "egress.log"
    guard.mkdir()
    work.mkdir()

    def shown(name: str, parameters: str | None = None) -> Shown:
        found = Shown(EXECUTE["executed"](EXECUTE["read"](name, parameters), work, {**guarded(guard, log), "CI": ""}))
        assert not log.exists(), f"connections beyond this machine: {log.read_text()}"
        return found

    return shown


@pytest.mark.slow
def test_a_study_is_read_from_its_records_and_shows_what_is_committed(show: Callable[..., Shown], home: Path) -> None:
    found, kept = show("read_a_study"), committed("read_a_study")
    assert not home.exists(), "no tracker is opened, nothing is trained"
    assert found.texts == kept.texts
    assert not found.streams
    for new, old in zip(found.pictures, kept.pictures, strict=True):
        assert new.size == old.size
        if new.info["Software"] == old.info["Software"]:  # the same matplotlib draws the same pixels
            assert np.array_equal(np.asarray(new), np.asarray(old))


@pytest.mark.slow
def test_a_study_without_a_baseline_can_be_read_too(show: Callable[..., Shown]) -> None:
    found = show("read_a_study", 'NAME = "demo"')
    assert "demo has no comparisons; it has table." in found.of("text/markdown")
    assert "vgg16_bn-dropout0.5" in "".join(found.of("text/html"))
    assert len(found.pictures) == 3


def test_what_is_committed_of_a_study_is_its_table_its_differences_and_its_figures() -> None:
    shown = committed("read_a_study")
    results = ROOT / "experiments" / "depth_scenes" / "results"
    question, table, differences, others = shown.of("text/markdown")
    assert "Does depth or batch norm change" in question
    for arm in ("vgg16_bn", "vgg19_bn", "vgg16", "vgg19"):
        assert re.search(rf"\| {arm}\W", table), arm
    for text, name in ((table, "table"), (differences, "comparisons")):
        assert text.strip() in (results / f"{name}.md").read_text(), "the study's own, word for word"
    assert "hierarchical bootstrap" in differences
    assert "differences in Recall at 5 % FPR" in others
    assert len(shown.pictures) == 4, "arms, differences, learning curves, ROC and precision-recall"


def test_what_is_committed_of_a_study_asks_its_predictions() -> None:
    by_slice, by_group, limits = committed("read_a_study").of("text/html")
    samples = next(iter(load_records(ROOT / "experiments" / "depth_scenes" / "results").values())).predictions
    test = samples.select(split="test").table
    for name in test["slice"].unique():
        assert f"<th>{name}</th>" in by_slice
    groups = re.findall(r"series\d+", by_group)
    assert len(groups) == 8
    assert set(groups) <= set(test["group"])
    assert "fpr=0.01" in limits


@pytest.mark.slow
def test_runs_are_trained_where_there_are_none_and_compared(show: Callable[..., Shown], home: Path) -> None:
    found = show("compare_runs")
    store = open_store(None, home)
    b, a = runs(store, status="FINISHED")
    assert (a.name, b.name) == ("tiny-dropout0.0", "tiny-dropout0.5")
    names, parameters, values, tests, differing = found.of("text/plain")[:4] + found.of("text/plain")[-1:]
    assert names.index(a.name) < names.index(b.name)
    assert "model.dropout" in parameters
    assert f"{a.metrics['test/auroc']:.4g}" in values
    samples = same_samples([a, b], "test")
    assert f"{delong(samples.runs[1], samples.runs[0]).difference:.4g}" in tests
    assert "decisions, McNemar" in tests
    assert "right" in differing
    assert len(found.pictures) == 2
    assert not found.streams

    # The same two by name, the other way round: nothing is trained again.
    again = show("compare_runs", 'RUNS, SPLIT, TRACKER = ["latest", "tiny-dropout0.0"], "val", None')
    assert len(runs(store)) == 2
    assert again.of("text/plain")[0].index(b.name) < again.of("text/plain")[0].index(a.name)
    assert f"{b.metrics['val/auroc'] - a.metrics['val/auroc']:.4g}".lstrip("-") in again.of("text/plain")[2]


def test_what_is_committed_of_runs_is_what_differs_the_tests_and_the_samples() -> None:
    shown = committed("compare_runs")
    tables = shown.of("text/html")
    assert "tiny-dropout0.0" in tables[0]
    assert "model.dropout" in tables[1]
    assert "test/auroc" in tables[2]
    for test in ("auroc, DeLong", "recall_at_5fpr, bootstrap", "decisions, McNemar"):
        assert test in tables[3]
    assert "<th>gap</th>" in tables[4]
    assert len(shown.pictures) == 2


@pytest.mark.parametrize("name", NAMES)
def test_every_cell_was_executed_without_an_error_or_a_warning(name: str) -> None:
    notebook = EXECUTE["read"](name)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert all(cell.outputs for cell in code if EXECUTE["PARAMETERS"] not in cell.metadata.get("tags", []))
    assert {output.output_type for cell in code for output in cell.outputs} == {"execute_result"}


@pytest.mark.parametrize("name", NAMES)
def test_nothing_committed_tells_of_a_machine(name: str) -> None:
    assert (ROOT / "notebooks" / f"{name}.ipynb").stat().st_size < _LARGEST
    notebook = EXECUTE["read"](name)
    told = [*(cell.source for cell in notebook.cells), *map(str, committed(name).texts), str(notebook.metadata)]
    assert not re.search(r"/(home|root|tmp|work|usr|opt|mnt|Users|var)/|[A-Z]:\\|site-packages", "\n".join(told))
    assert notebook.metadata == {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    assert len({cell.id for cell in notebook.cells}) == len(notebook.cells)


@pytest.mark.parametrize("name", NAMES)
def test_every_committed_picture_was_drawn_by_matplotlib(name: str) -> None:
    shown = committed(name)
    kinds = {kind for output in shown.texts for kind in output} | {"image/png"}
    assert kinds == {"text/plain", "text/markdown", "text/html", "image/png"}
    for picture in shown.pictures:
        assert picture.info["Software"].startswith("Matplotlib version"), "a photo would not say so"
    for text in [*shown.of("text/html"), *shown.of("text/markdown")]:
        assert not re.search(r"<(img|svg|image|script|iframe)|!\[|data:image", text)


@pytest.mark.parametrize("name", NAMES)
def test_notebooks_stay_thin(name: str) -> None:
    notebook = EXECUTE["read"](name)
    sources = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    assert not re.search(r"^\s*(import|from) (mlflow|torch|matplotlib|scipy|sklearn)", "\n".join(sources), re.M)
    assert not [source for source in sources if "def " in source], "what needs a function belongs into the package"
