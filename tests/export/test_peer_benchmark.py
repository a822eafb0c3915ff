"""What peers.py asks of each system, asked of ours; the peers themselves are not installed for the tests."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from test_bundle import FACTS, network, pictures

from figleaf.export.onnx_file import write_onnx
from figleaf.export.onnx_scorer import OnnxScorer

pytestmark = pytest.mark.bench

PEER = Path(__file__).resolve().parents[2] / "benchmarks" / "peer.py"


def test_our_side_answers_each_path_with_its_score_and_its_time(tmp_path: Path) -> None:
    net = network()
    model = write_onnx(net, tmp_path / "model.onnx", FACTS.record(net))
    paths = []
    for number, picture in enumerate(pictures(3, 150)):
        paths.append(tmp_path / f"{number}.png")
        Image.fromarray(picture).save(paths[-1])
    done = subprocess.run(
        [sys.executable, str(PEER), "figleaf", str(model)],
        input="".join(f"{path}\n" for path in paths),
        capture_output=True,
        text=True,
        check=True,
        env={"PEER_CORES": "1"},
    )
    about, *answers = map(json.loads, done.stdout.splitlines())
    assert (about["input_px"], about["threshold"]) == (64, FACTS.threshold)
    assert about["mb"] == model.stat().st_size / 1e6
    scorer = OnnxScorer(model, threads=1)
    assert [answer["score"] for answer in answers] == pytest.approx([scorer.score(path) for path in paths], abs=1e-6)
    assert all(answer["flagged"] == (answer["score"] >= 0.5) and answer["ms"] > 0 for answer in answers)
