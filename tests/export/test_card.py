"""The model card: complete, honest about proxies, and safe to render whatever the data call things."""

import re
from dataclasses import replace

import pytest
import torch

from figleaf.export.card import model_card
from figleaf.export.facts import ModelFacts
from figleaf.export.markdown import escape
from figleaf.export.parity import Parity
from figleaf.vgg.network import VGG

FACTS = ModelFacts(
    name="run",
    run_id="0123abcd",
    classes=("little_skin", "large_skin"),
    unsafe=("large_skin",),
    data_name="skin-area proxy",
    data_hash="feedbeef",
    threshold=0.25,
    threshold_rule="Youden's J",
    metrics={
        "val/auroc": 0.9912,
        "test/auroc": 0.9855,
        "test/auroc_low": 0.975,
        "test/auroc_high": 0.9921,
        "test/n": 684,
        "test/n_groups": 135,
        "test/prevalence": 0.4547,
        "test/slice/hands/crop/auroc": 0.9034,
        "test/slice/hands/crop/n": 87,
        "time/train_seconds": 1234.0,
    },
    settings={"model": {"depth": 16, "width": 0.25}, "seed": 3},
    git_commit="c0ffee",
    git_dirty=True,
)


def card(facts: ModelFacts = FACTS) -> str:
    with torch.device("meta"):
        net = VGG(depth=16, width=0.25, head="gap", input_size=64, classes=len(facts.classes))
    parity = {"onnx": Parity(64, 2e-7, 2e-7, 1e-7, 0)}
    return model_card(net, facts, parity, ["model.onnx", "model.json"], {"bytes": {"onnx": 2_350_000}})


def test_the_card_says_what_was_measured_on_what_and_what_was_not() -> None:
    text = card()
    for part in (
        "VGG16 with batch norm",
        "0.9855 [0.9750, 0.9921]",
        "| pictures |  | 684 |",
        "| hands/crop | 87 | 0.9034 (proxy) |",
        "from a score of 0.25, chosen by Youden's J of skin-area proxy",
        "commit c0ffee, with uncommitted changes",
        "0123abcd",
        "feedbeef",
        "| model.width | 0.25 |",
        "## What was not measured",
        "## Intended use",
        "## What it must not be used for",
        "- deciding alone about anybody's pictures",
        "- finding illegal material",
        "skin tone",
        "| onnx | 2.35 | 64 | 2.0e-07 | 1.0e-07 | 0 |",
        "Licence of the weights: not stated",
    ):
        assert part in text, part
    assert "1234" not in text


def test_every_measured_number_on_proxy_data_says_so() -> None:
    text = card()
    assert "No number on this card says anything about NSFW accuracy" in text
    for line in text.splitlines():
        if re.match(r"\| (AUROC|hands)", line):
            numbers = re.findall(r"0\.\d{4}(?: \[[^]]*\])?(?P<mark> \(proxy\))?", line)
            assert numbers
            assert all(numbers)
    assert "proxy" not in card(replace(FACTS, data_name="our photographs"))


def test_the_card_names_the_run_whose_weights_it_started_from() -> None:
    assert "started from those of run" not in card()
    compressed = replace(FACTS, weights_run_id="4567", compression=("prune", "svd"))
    assert "- weights: started from those of run 4567, compressed (prune, svd)" in card(compressed)


def test_a_run_without_metrics_or_threshold_says_so() -> None:
    text = card(replace(FACTS, metrics={}, settings={}, threshold=None))
    assert "Nothing is recorded with this run" in text
    text = card(replace(FACTS, threshold=None))
    assert "no threshold was chosen" in text


@pytest.mark.parametrize(
    "name",
    [
        "![x](http://evil.example/p.png)",
        "<script>alert(1)</script>",
        "a | b\n# Fine",
        "*bold* _it_ `code` ~~gone~~",
        "www.evil.example",
        "me@evil.example",
        "\u202egnp.exe",
        "&lt;b&gt;",
    ],
)
def test_names_from_data_stay_names(name: str) -> None:
    """Read back with a Markdown parser: one paragraph of plain text, and nothing else is made of it."""
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark").enable("table").enable("strikethrough")
    (paragraph,) = (token for token in parser.parse(f"x {escape(name)}") if token.type == "inline")
    assert {token.type for token in paragraph.children or ()} <= {"text", "text_special"}
    shown = "".join(token.content for token in paragraph.children or ())
    assert shown == "x " + "".join(c if c.isprintable() else " " for c in name)
    assert not re.search(r"(?<!\\)[:@]|www\.", escape(name))  # what GitHub would make links of
    rows = [line for line in card(replace(FACTS, classes=(name, "b"), unsafe=(name,))).splitlines() if "Fine" in line]
    assert not any(row.startswith("#") for row in rows)


def test_a_name_cannot_add_a_column_to_a_table() -> None:
    text = card(replace(FACTS, metrics={"test/slice/a|b/auroc": 0.5}))
    (row,) = (line for line in text.splitlines() if line.startswith("| a"))
    assert len(re.findall(r"(?<!\\)\|", row)) == 4
