"""The page with a policy: the action of `figleaf predict --policy` for each picture, and nothing more is open."""

import csv
import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_page import CLASSES, FACTS, Site, made_site, speaking, val_predictions
from PIL import Image

from browser import Visit
from figleaf.data.scenes import render
from figleaf.evaluate.calibration import at_temperature
from figleaf.evaluate.policy import Policy, Rule
from figleaf.serve.about import operating_curve, page_manifest
from figleaf.serve.items import items_of
from figleaf.serve.predict import Answer, answers
from figleaf.vgg.scorer import TorchScorer
from small_vgg import network

TEMPERATURE = 1.7
POLICY = Policy(
    FACTS.run_id, CLASSES, CLASSES[1:], TEMPERATURE, (Rule("block", 0.9, "a <b>promise"), Rule("review", 0.4))
)


def drawn(folder: Path, count: int = 12) -> list[Path]:
    """Scenes of odd sizes, and a file that is no picture."""
    for index in range(count):
        Image.fromarray(render(1, index, 90).rgb_u8[: 60 + index]).save(folder / f"{index:02d}.png")
    (folder / "broken.png").write_bytes(b"no picture")
    return sorted(folder.iterdir())


def halfway(scorer: TorchScorer, files: list[Path]) -> tuple[Rule, ...]:
    """Rules in the widest gaps between the pictures' scores: float16 weights do not carry one over a rule."""
    found = answers(scorer, items_of(map(str, files)), policy=replace(POLICY, rules=(Rule("block", 1.0),)))
    scores = sorted(answer.score for answer in found if answer.score is not None)
    gaps = np.diff(scores)
    low, high = sorted(np.argsort(gaps)[-2:])
    edges = [(scores[place] + scores[place + 1]) / 2 for place in (high, low)]
    return Rule("block", edges[0], "a <b>promise"), Rule("review", edges[1])


@pytest.fixture(scope="module")
def judging(
    tmp_path_factory: pytest.TempPathFactory, engine: dict[str, Path]
) -> Iterator[tuple[Site, Policy, list[Path]]]:
    files = drawn(tmp_path_factory.mktemp("drawn"))
    policy = replace(POLICY, rules=halfway(TorchScorer(speaking(network()), CLASSES, CLASSES[1:]), files))
    with made_site(tmp_path_factory.mktemp("page"), engine, policy) as site:
        yield site, policy, files


def test_the_pages_numbers_are_at_the_policys_temperature() -> None:
    val = val_predictions(TorchScorer(speaking(network()), CLASSES, CLASSES[1:]))
    told = page_manifest(network(), FACTS, val, "float16", 1000, POLICY)
    assert told["policy"]["temperature"] == TEMPERATURE
    assert [(rule["action"], rule["at_least"]) for rule in told["policy"]["rules"]] == [("block", 0.9), ("review", 0.4)]
    assert told["operating"] == operating_curve(at_temperature(val, TEMPERATURE))
    assert page_manifest(network(), FACTS, val, "float16", 1000)["policy"] is None


@pytest.mark.browser
@pytest.mark.slow
@pytest.mark.parametrize("form", ["folder", "single"])
def test_each_picture_gets_the_action_that_predict_gives_it(
    form: str, visit: Visit, judging: tuple[Site, Policy, list[Path]]
) -> None:
    site, policy, files = judging
    page = visit.page
    page.goto(site.address if form == "folder" else site.single)
    page.wait_for_selector("html[data-ready]", state="attached")
    page.set_input_files("#files", [str(file) for file in files])
    page.wait_for_selector(f"#list-words:text-matches('^{len(files)} files')")
    rows = {row["file"]: row for row in csv.DictReader(io.StringIO(page.locator("#csv-text").input_value()))}
    expected: dict[str, Answer] = {
        Path(answer.path).name: answer for answer in answers(site.scorer, items_of(map(str, files)), policy=policy)
    }
    assert {name: row["action"] for name, row in rows.items()} == {
        name: answer.action for name, answer in expected.items()
    }
    assert {"block", "review", "pass"} == {answer.action for answer in expected.values()}
    for name, answer in expected.items():
        if answer.score is not None:
            assert float(rows[name]["score"]) == pytest.approx(answer.score, abs=5e-3)
            assert rows[name]["flagged"] == str(answer.flagged).lower()
    assert page.locator("#tiles [data-action=review] .flag").count() == sum(
        answer.action == "review" for answer in expected.values()
    )
    assert page.locator("#threshold").is_hidden()
    assert "a <b>promise" in page.locator("#rules").inner_text()
    assert page.locator("#tiles canvas").first.evaluate("tile => getComputedStyle(tile).filter").startswith("blur(")

    page.locator("#tiles button:enabled").first.click()
    page.wait_for_selector("#verdict", state="visible")
    first = expected[files[0].name]
    assert page.locator("#verdict").get_attribute("data-action") == first.action
    assert page.locator("#decision strong").inner_text().lower() == f"{first.action}."
    assert page.locator("body.covered").count() == 1
    assert visit.errors == []


@pytest.mark.browser
@pytest.mark.slow
def test_a_policy_opens_nothing(visit: Visit, judging: tuple[Site, Policy, list[Path]], site: Site) -> None:
    """Every policy of the sealed page, those of its scripts too, is that of a page without one."""
    policies = []
    for one in (judging[0], site):
        visit.page.goto(one.address)
        visit.page.wait_for_selector("html[data-ready]", state="attached")
        found = visit.page.eval_on_selector_all("meta[http-equiv]", "metas => metas.map(meta => meta.content)")
        policies.append([text.replace(one.address, "") for text in found])
    assert policies[0] == policies[1]
    assert len(policies[0]) > 1
