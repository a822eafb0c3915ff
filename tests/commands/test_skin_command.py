import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from figleaf.cli import main
from figleaf.commands.skin import DRAWINGS, RULES, SCHEMES
from figleaf.data.scenes import render
from figleaf.skin.crops import SCHEMES as CROP_SCHEMES
from figleaf.skin.systems import PIXEL_RULES

FEW = ["--draw", "mask", "crops"]


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "a scene.png"
    Image.fromarray(render(0, 1, 96).rgb_u8[:, :64]).save(path)
    return path


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict]:  # type: ignore[type-arg]
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_every_drawing_of_a_picture_is_written(
    picture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["skin", str(picture), "--out", str(tmp_path / "out"), "--size", "128"]) == 0
    (found,) = lines(capsys)
    assert list(found["drawings"]) == list(DRAWINGS)
    sizes = {name: Image.open(file).size for name, file in found["drawings"].items()}
    assert {sizes[name] for name in DRAWINGS if name != "filter"} == {(85, 128)}  # the aspect is kept
    assert 0 <= found["skin_share"] <= 1
    assert found["passes_filter"] == (found["filter_share"] >= 0.3)


def test_a_bad_file_has_a_line_and_the_others_are_drawn(
    picture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"no picture")
    assert main(["skin", str(bad), str(picture), *FEW, "--out", str(tmp_path / "out")]) == 1
    found = capsys.readouterr()
    first, second = (json.loads(line) for line in found.out.splitlines())
    assert "not an image" in first["error"]
    assert set(second["drawings"]) == {"mask", "crops"}
    assert "drawings in" in found.err
    assert main(["skin", str(bad), *FEW, "--out", str(tmp_path / "out")]) == 1
    assert "drawings in" not in capsys.readouterr().err, "nothing was drawn"


def test_pictures_of_one_name_and_odd_names_do_not_overwrite_each_other_or_leave_the_folder(
    picture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other" / picture.name
    other.parent.mkdir()
    odd = tmp_path / "..<b>&$(touch x);'.png"
    for path in (other, odd):
        Image.fromarray(np.full((20, 30, 3), 128, np.uint8)).save(path)
    out = tmp_path / "out"
    assert main(["skin", str(picture), str(other), str(odd), "--draw", "mask", "--out", str(out)]) == 0
    files = [Path(found["drawings"]["mask"]) for found in lines(capsys)]
    assert len(set(files)) == 3
    assert {file.parent for file in files} == {out}


def test_mistakes_are_named(picture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for option, value, expected in (("--rule", "lab", "fleck"), ("--scheme", "grid", "windows")):
        with pytest.raises(SystemExit) as ended:
            main(["skin", str(picture), option, value, "--out", str(tmp_path)])
        assert ended.value.code == 2
        told = capsys.readouterr().err
        assert f"argument {option}: invalid choice: '{value}'" in told
        assert expected in told
    assert main(["skin", str(picture), "--size", "0", "--out", str(tmp_path)]) == 2


def test_the_help_knows_every_rule() -> None:
    assert list(PIXEL_RULES) == list(RULES)
    assert list(CROP_SCHEMES) == list(SCHEMES)


def test_an_unknown_drawing_is_refused_and_a_picture_after_draw_is_explained(
    picture: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["skin", str(picture), "--draw", "maks"]) == 2
    assert "--draw maks: expected all, or some of mask, filter" in capsys.readouterr().err
    assert main(["skin", "--draw", "mask", str(picture)]) == 2
    assert "pictures come before --draw" in capsys.readouterr().err
    assert main(["skin", str(picture), "--draw", "mask", str(picture)]) == 2
    assert "pictures come before --draw" in capsys.readouterr().err
