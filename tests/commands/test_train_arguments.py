"""A configuration gives back a command line that gives the configuration."""

import shlex
from dataclasses import replace
from typing import Any

import pytest

from figleaf.commands.train_arguments import train_command, without_bookkeeping
from figleaf.config import MethodConfig, TrainConfig, choices, compose
from figleaf.overrides import written


def composed_again(command: str | None) -> Any:
    assert command is not None
    program, subcommand, *overrides = shlex.split(command)
    assert (program, subcommand) == ("figleaf", "train")
    return compose("train", overrides)


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["seed=3", "trainer.epochs=2"],
        ["model=vgg19_bn_small", "model.dropout=0.25", "optimizer.lr=1e-05", "optimizer.clip_norm=2"],
        ["data=manifest", "data.manifest='../x y/man.csv'", "data.classes=[a,'1',b c]", "data.unsafe=[]"],
        ["name='größe'", "data.name='null'", "trainer.threads=1", "trainer.deterministic=false"],
        ["""name="it's $HOME, [a]=b" """.strip(), "model.weights=torchvision:IMAGENET1K_V1"],
        ["study=a", "arm=b", "parent_run_id='123'", "resume=never", "seed=2"],
    ],
)
def test_command_gives_the_configuration_less_its_bookkeeping(overrides: list[str]) -> None:
    config = compose("train", overrides)
    assert composed_again(train_command(config)) == without_bookkeeping(config)


@pytest.mark.parametrize("preset", [f"{g}={name}" for g, names in choices(TrainConfig).items() for name in names])
def test_presets_are_found_again_by_name_or_are_the_default(preset: str) -> None:
    config = compose("train", [preset])
    arguments = shlex.split(str(train_command(config)))[2:]
    assert arguments == ([] if config == compose("train") else [preset])


def test_groups_without_presets_are_spelled_out() -> None:
    config = replace(compose("train"), evaluation=MethodConfig(method="dense", scales=[1.0, 96.0]))
    assert composed_again(train_command(config)) == config


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (True, "true"),
        (1e-5, "1e-05"),
        (7, "7"),
        ("plain", "plain"),
        ("/a/b.csv", "/a/b.csv"),
        ("null", "'null'"),
        ("12", "'12'"),
        ("", "''"),
        ("a,b", "'a,b'"),
        ([1.0, "x y"], "[1.0,'x y']"),
    ],
)
def test_values_are_written_as_the_grammar_reads_them(value: Any, text: str) -> None:
    assert written("key", value) == f"key={text}"
