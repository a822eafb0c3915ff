"""Overrides: what Hydra's grammar cannot read is named alone, with the form that works when it is typed."""

import re
import shlex

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from figleaf.config import TrainConfig, compose, expand_grid
from figleaf.errors import FigleafError
from figleaf.overrides import typed

AWKWARD = [
    "my, images/[a]/m.csv",
    "it's",
    'say "cheese"',
    "both ' and \"",
    "a=b",
    "a(1).csv",
    "{x}",
    "${open",
    "back\\slash, and",
    "ends, with\\",
    "100 %, really!",
    "a,b",
    "[a]",
    "true",
    "-5",
    "größe, und mehr",
]
OTHERS = ["data=manifest", "seed=3", "model.dropout=0.1"]


def refusal(override: str) -> str:
    with pytest.raises(FigleafError) as caught:
        compose("train", [OTHERS[0], override, *OTHERS[1:]])
    return str(caught.value)


def told_to_type(message: str) -> str:
    """The override that a shell makes of what the message says to type."""
    (argument,) = shlex.split(message.partition("; type ")[2])
    return argument


@pytest.mark.parametrize("value", AWKWARD)
def test_the_form_to_type_for_a_text_gives_that_text(value: str) -> None:
    message = refusal(f"name={value}")
    assert message.startswith(f"name={value}: ")
    assert compose("train", [told_to_type(message)]).name == value


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0\r\n"), min_size=1).map(lambda text: f"a,{text}="))
@settings(max_examples=60, deadline=None)
def test_the_form_to_type_works_for_any_text(value: str) -> None:
    if re.search(r"\$\{[^{}]*\}", value):
        return  # an interpolation, which stays one
    typed_in = told_to_type(refusal(f"data.manifest={value}"))
    assert compose("train", ["data=manifest", typed_in]).data.manifest == value


@pytest.mark.parametrize(
    ("value", "meant"),
    [
        ("[a,b", ["a", "b"]),
        ("a,b]", ["a", "b"]),
        ("a,b", ["a", "b"]),
        ("a", ["a"]),
        ("[a,1]", ["a", "1"]),
        ("[don't,größe,two words]", ["don't", "größe", "two words"]),
        ("[1e5,null,true]", ["1e5", "null", "true"]),
        ("['a, b]", ["a", "b"]),
    ],
)
def test_the_form_to_type_for_a_list_gives_its_names(value: str, meant: list[str]) -> None:
    message = refusal(f"data.classes={value}")
    assert message.startswith(f"data.classes={value}: expected a list of names")
    assert compose("train", ["data=manifest", told_to_type(message)]).data.classes == meant


@pytest.mark.parametrize(
    "override",
    ["data.classes=[a,b", "seed=[", "seed=1,2", "model.dropout=0.5,", "model=x y", "name=${sed}", "data=null"],
)
def test_only_the_override_at_fault_is_named(override: str) -> None:
    message = refusal(override)
    assert message.startswith(f"{override}: ")
    assert not [other for other in OTHERS if other in message]
    assert not re.search("EOF|viable|Lexer|BRACKET", message), "tokens of the grammar mean nothing to a user"


@pytest.mark.parametrize("value", ["größe/m.csv", "~/m.csv", "a#b;c&d.csv", "12345678", "1e5", "an image.csv"])
def test_a_text_that_can_only_be_meant_as_it_stands_needs_no_quotes(value: str) -> None:
    assert compose("train", ["data=manifest", f"data.manifest={value}"]).data.manifest == value
    assert expand_grid([f"data.manifest={value}", "seed=1,2"])[1][1] == "seed=2"


def test_interpolation_stays_one_in_quotes() -> None:
    assert compose("train", [told_to_type(refusal("name=größe-${seed}")), "seed=7"]).name == "größe-7"


def test_forgotten_quote_is_no_part_of_the_value() -> None:
    assert told_to_type(refusal("name='my run")) == told_to_type(refusal('name="my run')) == "name='my run'"
    assert told_to_type(refusal("name='it's'")) == "name='it\\'s'"


def test_value_that_a_shell_cut_at_a_space_is_put_together_again() -> None:
    with pytest.raises(FigleafError, match=r"images/m\.csv: expected key=value; .* type 'data\.manifest=my images/m"):
        compose("train", ["data.manifest=my", "images/m.csv"])


def test_each_value_of_a_grid_is_quoted_for_itself() -> None:
    with pytest.raises(FigleafError) as caught:
        expand_grid(["name=it's,b=c"])
    assert expand_grid([told_to_type(str(caught.value))]) == [["name='it\\'s'"], ["name='b=c'"]]


def test_what_needs_no_quotes_is_shown_without() -> None:
    assert typed("model=vgg16") == "model=vgg16"


def test_every_known_key_can_be_set_without_a_plus() -> None:
    config: TrainConfig = compose("train", ["trainer.max_device_batch=8", "++seed=2"])
    assert (config.trainer.max_device_batch, config.seed) == (8, 2)
