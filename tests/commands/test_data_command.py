"""`figleaf data`: its help tells what every option does, and its mistakes are named."""

import argparse
import shlex
from pathlib import Path

import pytest
from PIL import Image

from figleaf.cli import main
from figleaf.commands.data import _parser

ACTIONS = next(action for action in _parser()._actions if isinstance(action, argparse._SubParsersAction)).choices


@pytest.mark.parametrize("name", ACTIONS)
def test_every_option_is_explained_with_its_default(name: str) -> None:
    for option in ACTIONS[name]._actions:
        assert option.help, f"{option.dest} has no help"
        if option.option_strings and option.dest != "help":
            default = "(required)" if option.required else "(default: "
            assert default in option.help
            if isinstance(option.default, str | float) and option.default:
                assert f"(default: {option.default})" in option.help


@pytest.mark.parametrize("name", [None, *ACTIONS])
def test_examples_of_the_help_are_commands_that_can_be_given(name: str | None) -> None:
    shown = (ACTIONS[name] if name else _parser()).format_help().partition("\nexamples:\n")[2]
    examples = [line.strip() for line in shown.splitlines() if line.startswith("  figleaf data ")]
    assert examples
    for example in examples:
        options = _parser().parse_args(shlex.split(example.partition("   ")[0])[2:])
        assert options.action == (name or options.action)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["index", "x", "--val", "1.2"], "argument --val: 1.2: expected 0 <= x < 1"),
        (["index", "x", "--val", "some"], "argument --val: invalid fraction value: 'some'"),
        (["index", "x", "--seed", "-1"], "argument --seed: -1: expected 0 or more"),
        (["check", "data=digits", "--workers", "0"], "argument --workers: 0: expected 1 or more"),
        (["cut", "data=digits"], "--out"),
        (["index", "--unsafe", "porn", "my_images"], "FOLDER is missing; it stands before --unsafe"),
    ],
)
def test_option_out_of_range_is_named(arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["data", *arguments])
    assert ended.value.code == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["index", "FOLDER/pictures"], "--unsafe and their names"),
        (["index", "FOLDER/pictures", "--out", "FOLDER"], "a folder; name a file in it"),
        (["index", "FOLDER/pictures", "--out", "FOLDER/list.txt"], "ends in .csv or .parquet"),
        (["index", "FOLDER/pictures", "--unsafe", "--group", "("], "group pattern '(': no regular expression"),
        (["check", "FOLDER/m.csv", "FOLDER/n.csv"], "n.csv: a second manifest beside"),
        (["check", "FOLDER/m.csv", "data=scenes"], "m.csv: a manifest beside data.source=scenes"),
        (["check", "FOLDER"], "a folder, not a file"),
        (["check", "data.unsafe=[" + "a," * 200 + "b]"], "data.manifest=null"),
        (["cut", "FOLDER/m.csv", "--out", "FOLDER/c.csv", "--target", ""], "split '': call it 'calib'"),
        (["cut", "FOLDER/m.csv", "--out", "FOLDER/c.csv", "--target", "valid"], "split 'valid': call it 'val'"),
    ],
)
def test_what_cannot_be_meant_is_named(
    arguments: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("cat", "dog"):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        (tmp_path / "pictures" / name / "a.png").write_bytes(b"")
    for name in ("m.csv", "n.csv"):
        (tmp_path / name).write_text("path,label,split\na.jpg,sfw,train\nb.jpg,nsfw,train\n")
    assert main(["data", *(text.replace("FOLDER", str(tmp_path)) for text in arguments)]) == 2
    assert told in capsys.readouterr().err


def test_control_characters_of_a_file_name_do_not_reach_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "check", "\x1b[31mred\n.csv"]) == 2
    assert capsys.readouterr().err == (
        "error: manifest \\x1b[31mred\n.csv: no such file; make one with `figleaf data index FOLDER`\n"
    )


def test_a_card_is_written_and_nobody_elses_file_is_written_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for label in ("sfw", "nsfw"):
        (tmp_path / "mine" / label).mkdir(parents=True)
        for number in range(4):
            Image.new("RGB", (8 + number, 9), (number, 0, len(label))).save(tmp_path / "mine" / label / f"{number}.png")
    assert main(["data", "index", "mine"]) == 0
    for _ in range(2):
        assert main(["data", "card", "mine/manifest.csv", "--licence", "CC BY 4.0", "--check"]) == 0
    text = Path("DATA_CARD.md").read_text()
    assert "# Data card: mine" in text
    assert "Licence of the pictures: CC BY 4.0." in text
    assert "| files that cannot be used | 0 |" in text
    Path("notes.md").write_text("mine")
    capsys.readouterr()
    assert main(["data", "card", "mine/manifest.csv", "--out", "notes.md"]) == 2
    assert "figleaf did not write it" in capsys.readouterr().err
    assert Path("notes.md").read_text() == "mine"
