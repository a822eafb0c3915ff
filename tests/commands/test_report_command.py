"""`figleaf report` on real runs: a network's, a skin system's, and those that have nothing to tell."""

import json
import re
from pathlib import Path

import pytest

from figleaf.cli import main
from figleaf.config import compose
from figleaf.tracking.find import find_run
from figleaf.tracking.store import open_store

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home of a network and a skin system, on scenes."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FIGLEAF_HOME", str(home))
        scenes = ["data=scenes", "data.count=60", "data.size=64"]
        assert main(["train", *scenes, "model=debug", "trainer.epochs=2", "name=net"]) == 0
        assert main(["train", *scenes, "model=skin_kovac", "name=kovac"]) == 0
    return home


@pytest.fixture(autouse=True)
def home(trained: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FIGLEAF_HOME", str(trained))
    return trained


def report(out: Path, capsys: pytest.CaptureFixture[str], *more: str) -> tuple[int, dict[str, str], str]:
    code = main(["report", f"out={out}", *more])
    caught = capsys.readouterr()
    return code, json.loads(caught.out) if caught.out else {}, caught.err


def test_a_networks_report_is_kept_with_its_run(tmp_path: Path, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, told, _ = report(tmp_path / "r.html", capsys, "run=net")
    assert code == 0
    page = (tmp_path / "r.html").read_text()
    assert "The surest errors" in page
    assert "<script" not in page
    run = find_run(open_store(compose("report", ["run=net"]).tracking.uri, home), "net")
    assert run.artifact(told["artifact"]).read_text() == page


def test_as_many_errors_as_there_are_have_a_picture_and_a_map(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, _ = report(tmp_path / "r.html", capsys, "run=net", "keep=false", "errors=3", "map=hirescam", "show=true")
    assert code == 0
    page = (tmp_path / "r.html").read_text()
    totals = [int(text) for text in re.findall(r"<small>(\d+) of test", page)]
    assert page.count('class="private"') == 2 * sum(min(3, total) for total in totals) > 0
    assert "hirescam" in page


def test_a_skin_systems_report_has_no_maps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, _ = report(tmp_path / "r.html", capsys, "run=kovac", "keep=false")
    assert code == 0
    assert "Class map" not in (tmp_path / "r.html").read_text()
    code, _, said = report(tmp_path / "r.html", capsys, "run=kovac", "map=cam")
    assert code == 2
    assert "map=cam: a skin system has no class maps" in said


def test_pictures_that_are_gone_have_a_word_and_nothing_is_lost(
    tmp_path: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hidden = [(path, path.with_suffix(".away")) for path in home.rglob("*.png") if "scenes" in str(path)]
    assert hidden
    for path, away in hidden:
        path.rename(away)
    try:
        code, _, _ = report(tmp_path / "r.html", capsys, "run=net", "keep=false")
    finally:
        for path, away in hidden:
            away.rename(path)
    assert code == 0
    page = (tmp_path / "r.html").read_text()
    assert "The surest errors" in page
    assert "its picture cannot be" in page


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["run=net", "map=grad"], "method=grad: expected one of cam"),
        (["run=nobody"], "nobody"),
        (["run=net", "errors=-1"], "errors=-1: expected at least 0"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], message: str) -> None:
    code, _, said = report(tmp_path / "r.html", capsys, *more)
    assert code == 2
    assert message in said
    assert not (tmp_path / "r.html").exists()


def test_a_folder_is_no_place_for_the_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, said = report(tmp_path, capsys, "run=net")
    assert code == 2
    assert "a folder; name a file" in said
