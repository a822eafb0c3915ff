"""A policy in Node: Python's action for the same logits and for the same picture; bad files are refused."""

import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from test_visualize_node import CLASSES, FACTS, WEB, learned, node, odd_pictures, pytestmark  # noqa: F401

from figleaf.evaluate.policy import Policy, Rule
from figleaf.export.tfjs import write_tfjs
from figleaf.export.tfjs_scorer import TfjsScorer
from figleaf.serve.items import Item, items_of
from figleaf.serve.predict import answers

POLICY = Policy("", CLASSES, CLASSES[1:], 0.7, (Rule("block", 0.8), Rule("blur", 0.65), Rule("review", 0.3)))

JUDGE = """
import { judged, policyOf } from "%(web)s/lib/policy.js";
import { softmax } from "%(web)s/lib/network.js";
import { readFile } from "node:fs/promises";
const [, , file, given] = process.argv;
const network = { classes: %(classes)s, unsafe: %(unsafe)s, runId: "" };
const policy = policyOf(await readFile(file, "utf8"), network);
const rows = JSON.parse(await readFile(given, "utf8")).map((row) => {
  const logits = Float32Array.from(row);
  const { score, action, flagged } = judged(policy, { logits, probabilities: softmax(logits) }, network);
  return { score, action, flagged };
});
console.log(JSON.stringify(rows));
"""


class Fixed:
    """Gives the logits (N, C) that it was made with, in turn."""

    input_size = 8

    def __init__(self, logits: NDArray[np.float32], classes: tuple[str, ...], unsafe: tuple[str, ...]) -> None:
        self._logits, self.classes, self.unsafe, self._given = logits, classes, unsafe, 0

    def logits(self, rgb_u8: NDArray[np.uint8]) -> NDArray[np.float32]:
        self._given += len(rgb_u8)
        return self._logits[self._given - len(rgb_u8) : self._given]


@pytest.mark.parametrize(("classes", "unsafe"), [(CLASSES, CLASSES[1:]), (("a", "b", "c", "d"), ("b", "d"))])
def test_the_same_logits_get_the_same_action(tmp_path: Path, classes: tuple[str, ...], unsafe: tuple[str, ...]) -> None:
    policy = replace(POLICY, classes=classes, unsafe=unsafe)
    policy.save(tmp_path / "policy.json", {})
    logits = np.random.default_rng(0).normal(0, 2, (300, len(classes))).astype(np.float32)
    (tmp_path / "logits.json").write_text(json.dumps(logits.astype(float).tolist()))
    script = tmp_path / "judge.mjs"
    script.write_text(JUDGE % {"web": WEB, "classes": json.dumps(classes), "unsafe": json.dumps(unsafe)})
    command = [
        shutil.which("node") or "node",
        str(script),
        str(tmp_path / "policy.json"),
        str(tmp_path / "logits.json"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    Image.new("RGB", (8, 8)).save(tmp_path / "any.png")
    any_picture = (tmp_path / "any.png").read_bytes()
    items = [Item(str(index), lambda: any_picture) for index in range(len(logits))]
    expected = list(answers(Fixed(logits, classes, unsafe), items, policy=policy))
    found = json.loads(done.stdout)
    assert [row["action"] for row in found] == [answer.action for answer in expected]
    assert [row["flagged"] for row in found] == [answer.flagged for answer in expected]
    np.testing.assert_allclose([row["score"] for row in found], [answer.score for answer in expected], atol=1e-12)
    assert {row["action"] for row in found} == {"block", "blur", "review", "pass"}


def test_the_command_says_the_action_that_predict_says(tmp_path: Path) -> None:
    model = write_tfjs(learned(), tmp_path / "tfjs", {**FACTS, "run_id": "0123"}, "float32")
    scorer = TfjsScorer(model)
    files = odd_pictures(tmp_path)[:3]
    plain = [answer.score for answer in answers(scorer, items_of(map(str, files)), policy=POLICY)]
    scores = sorted(score for score in plain if score is not None)
    edges = [(scores[1] + scores[2]) / 2, (scores[0] + scores[1]) / 2]
    policy = replace(POLICY, run_id="0123", rules=(Rule("block", edges[0]), Rule("review", edges[1])))
    policy.save(tmp_path / "policy.json", {"confidence": 0.9})
    expected = list(answers(scorer, items_of(map(str, files)), policy=policy))
    assert {answer.action for answer in expected} == {"block", "review", "pass"}
    for file, answer in zip(files, expected, strict=True):
        done = node(
            *("--model", model, "--image", file, "--policy", tmp_path / "policy.json", "--out", tmp_path / "out"),
            *("--filters", 1, "--steps", 1, "--layers", "block1_conv1"),
        )
        assert done.returncode == 0, done.stderr
        told = json.loads(done.stdout)
        assert told["action"] == answer.action
        assert told["score"] == pytest.approx(answer.score, abs=1e-5)
        assert told["probabilities"]["nsfw"] == pytest.approx(answer.score, abs=1e-5)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"format": 2}, "format: expected 1"),
        ({"classes": ["nsfw", "safe"]}, "made for the classes nsfw,safe"),
        ({"run_id": "fedc"}, "made for the run fedc"),
        ({"temperature": 0}, "temperature: expected"),
        ({"temperature": "1"}, "temperature: expected"),
        ({"rules": []}, "rules: expected a list"),
        ({"rules": [{"action": "shout", "at_least": 0.5}]}, "action: expected one of"),
        ({"rules": [{"action": "block", "at_least": 1.5}]}, "at_least: expected"),
        ({"rules": [{"action": "review", "at_least": 0.9}, {"action": "block", "at_least": 0.5}]}, "strictest first"),
    ],
)
def test_what_is_no_policy_for_this_network_is_refused(tmp_path: Path, changes: dict[str, Any], told: str) -> None:
    POLICY.save(tmp_path / "policy.json", {})
    good = json.loads((tmp_path / "policy.json").read_text())
    script = tmp_path / "read.mjs"
    script.write_text(
        f'import {{ policyOf }} from "{WEB}/lib/policy.js";\n'
        "const [, , text] = process.argv;\n"
        f'const network = {{ classes: {json.dumps(CLASSES)}, unsafe: {json.dumps(CLASSES[1:])}, runId: "0123" }};\n'
        "try { policyOf(text, network); console.log('taken'); } catch (error) { console.log(error.message); }\n"
    )

    def read(text: str) -> str:
        return subprocess.run(["node", str(script), text], capture_output=True, text=True, timeout=60).stdout

    assert read(json.dumps(good)) == "taken\n"
    assert told in read(json.dumps(good | changes))
    (tmp_path / "policy.json").write_text(json.dumps(good | changes))
    if "run_id" not in changes and "classes" not in changes:
        from figleaf.errors import FigleafError

        with pytest.raises(FigleafError):
            Policy.load(tmp_path / "policy.json")
