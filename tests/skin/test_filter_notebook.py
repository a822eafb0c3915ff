"""The notebook about the filter runs anywhere; what is committed of it is whole, small, and drawn by the package."""

import base64
import io
import re
import runpy
from pathlib import Path

import nbformat
import numpy as np
import pytest
from nbformat import NotebookNode
from PIL import Image

from figleaf.data import scenes
from figleaf.skin.filter import FleckFilter

NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"
NOTEBOOK = NOTEBOOKS / "walk_the_1996_filter.ipynb"
EXECUTE = runpy.run_path(str(NOTEBOOKS / "execute.py"))
LARGEST_BYTES = 400_000


def committed() -> NotebookNode:
    return nbformat.read(NOTEBOOK, as_version=4)


def executed(folder: Path, parameters: str | None = None) -> NotebookNode:
    """The notebook run in `folder`."""
    finished: NotebookNode = EXECUTE["executed"](EXECUTE["read"](NOTEBOOK.stem, parameters), folder, {})
    return finished


def shown(notebook: NotebookNode, kind: str) -> list[str]:
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    return [output.data[kind] for output in outputs if kind in output.get("data", {})]


@pytest.mark.slow
def test_it_shows_what_is_committed(tmp_path: Path) -> None:
    found, kept = executed(tmp_path), committed()
    for kind in ("text/markdown", "text/html"):
        assert shown(found, kind) == shown(kept, kind)
    assert not list(tmp_path.iterdir()), "nothing is written"


@pytest.mark.slow
def test_another_scene_in_the_fast_way(tmp_path: Path) -> None:
    found = executed(tmp_path, 'SCENE, SIDE, MODE = 9, 64, "fast"')
    scene = scenes.render(0, 9, 64)
    share = FleckFilter("fast").skin_mask(scene.rgb_u8).mean()
    assert f"{share:.0%} of the picture is marked, {scene.skin_mask.mean():.0%} of it is bare" in "".join(
        shown(found, "text/markdown")
    )


def test_what_is_committed_is_small_and_tells_of_no_machine() -> None:
    assert NOTEBOOK.stat().st_size < LARGEST_BYTES
    notebook = committed()
    told = [*(cell.source for cell in notebook.cells), *shown(notebook, "text/plain"), *shown(notebook, "text/html")]
    assert not re.search(r"/(home|root|tmp|work|usr|opt|mnt|Users|var)/|site-packages", "\n".join(told))
    assert set(notebook.metadata) == {"kernelspec", "language_info"}


def test_every_cell_was_run_in_order_without_a_warning() -> None:
    code = [cell for cell in committed().cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert {output.output_type for cell in code for output in cell.outputs} == {"execute_result"}


def test_its_pictures_are_matplotlibs_and_not_empty() -> None:
    pictures = [Image.open(io.BytesIO(base64.b64decode(data))) for data in shown(committed(), "image/png")]
    assert len(pictures) == 6
    for picture in pictures:
        assert picture.info["Software"].startswith("Matplotlib version"), "a photo would not say so"
        assert np.asarray(picture.convert("L")).std() > 10
