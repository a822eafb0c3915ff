"""`figleaf data`: its help tells what every option does, and its mistakes are named."""

import argparse
import shlex

import pytest

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
    ],
)
def test_option_out_of_range_is_named(arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["data", *arguments])
    assert ended.value.code == 2
    assert told in capsys.readouterr().err
