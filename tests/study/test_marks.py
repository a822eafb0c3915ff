"""A table goes into a page between its marks, and nowhere else."""

from pathlib import Path

import pytest
from made_up import tracked, write_study

from figleaf.errors import FigleafError
from figleaf.study import commands
from figleaf.study.marks import put_between_marks, require_marks
from figleaf.study.results import save_records

PAGE = "# Page\n\n<!-- s table: begin (generated) -->\nold\n<!-- s table: end -->\n\nafter\n"


def test_only_what_stands_between_the_marks_is_replaced(tmp_path: Path) -> None:
    page = tmp_path / "README.md"
    page.write_text(PAGE)
    put_between_marks(page, "s table", "| new |\n")
    assert page.read_text() == PAGE.replace("\nold\n", "\n\n| new |\n\n")
    put_between_marks(page, "s table", "| new |\n")
    assert page.read_text() == PAGE.replace("\nold\n", "\n\n| new |\n\n")


@pytest.mark.parametrize(
    ("page", "told"),
    [
        (None, "No such file"),
        (b"\xff\xfe", "not UTF-8"),
        (b"# Page\n", "each once, in this order"),
        (PAGE.replace("end", "ende").encode(), "each once, in this order"),
        (PAGE.replace("s table", "t table").encode(), "<!-- s table: begin -->"),
        ((PAGE + PAGE).encode(), "each once, in this order"),
    ],
)
def test_a_page_without_the_marks_is_refused_and_stays_as_it_is(tmp_path: Path, page: bytes | None, told: str) -> None:
    file = tmp_path / "README.md"
    if page is not None:
        file.write_bytes(page)
    for act in (lambda: require_marks(file, "s table"), lambda: put_between_marks(file, "s table", "new")):
        with pytest.raises(FigleafError, match=told) as raised:
            act()
        assert str(file) in str(raised.value)
    assert (file.read_bytes() if file.exists() else None) == page


def test_nothing_is_written_when_the_page_for_the_table_has_no_marks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    study = write_study(tmp_path / "experiments" / "made")
    save_records(study, tracked(study, tmp_path / "elsewhere"))
    monkeypatch.chdir(tmp_path)
    page = tmp_path / "PAGE.md"
    with pytest.raises(FigleafError, match=r"PAGE\.md"):
        commands.table("made", into=page)
    assert not capsys.readouterr().out
    assert not (study.results / "table.md").exists()
    page.write_text(PAGE.replace("s table", "made table"))
    assert commands.table("made", into=page) == 0
    assert (study.results / "table.md").exists()
    assert "vgg13-drop.5†" in page.read_text()
