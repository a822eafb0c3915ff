"""Scoring pictures with an exported ONNX file. Needs numpy, pillow and onnxruntime, and nothing else."""

import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from figleaf.data.decode import RESIZE_RULE, decode_resized
from figleaf.errors import FigleafError

BATCH_SIZE = 64  # beyond it memory grows and speed does not
OUTPUT = "logits"  # a dense network's file has another, the map of its pixels
PRECISION = "precision"  # of the weights in a lossy file's metadata: float16 or int8
NEEDED = ("classes", "unsafe", "resize_rule")


class OnnxScorer:
    """Scores pictures with the ONNX file at `path`; see `figleaf.evaluate.scorer.Scorer`.

    `threads` limits onnxruntime's (default: all cores). Between two batches they spin, which is fastest where nobody
    else works; with `spinning` False they sleep, and leave the cores to those who decode and answer. `metadata` is what
    the export wrote into the file, as text, and `threshold` the score from which a picture is flagged, None when none
    was chosen. Raises `FigleafError` when the file is missing or damaged, was not exported by figleaf, or wants
    pictures resized by another rule than ours.
    """

    def __init__(
        self,
        path: Path,
        *,
        threads: int | None = None,
        spinning: bool = True,
        providers: Sequence[str] = ("CPUExecutionProvider",),
    ) -> None:
        if not path.is_file():
            raise FigleafError(f"{path}: no such file")
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads or 0
        if not spinning:
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = ort.InferenceSession(path, options, providers=list(providers))
        # onnxruntime has a class for each status code, all of them direct children of Exception.
        except Exception as error:
            raise FigleafError(f"{path}: onnxruntime cannot load it ({str(error).splitlines()[0]})") from error
        self.metadata: dict[str, str] = dict(self._session.get_modelmeta().custom_metadata_map)
        missing = [key for key in NEEDED if key not in self.metadata]
        if missing:
            raise FigleafError(f"{path}: no {', '.join(missing)} in its metadata; it was not written by figleaf export")
        if self.metadata["resize_rule"] != RESIZE_RULE:
            raise FigleafError(
                f"{path}: made for pictures resized by {self.metadata['resize_rule']}, this figleaf resizes by "
                f"{RESIZE_RULE}; export the run again, or use figleaf {self.metadata.get('figleaf_version', '')}"
            )
        (self._input,) = self._session.get_inputs()
        self.input_size: int = self._input.shape[-1]
        try:
            self.classes, self.unsafe = (_names(json.loads(self.metadata[key])) for key in ("classes", "unsafe"))
            self.threshold: float | None = _score(json.loads(self.metadata.get("threshold", "null")))
            found = {output.name: output.shape for output in self._session.get_outputs()}[OUTPUT][-1]
            if found != len(self.classes):
                raise ValueError(f"{found} logits for {len(self.classes)} classes")
        except (KeyError, ValueError, TypeError) as error:
            raise FigleafError(f"{path}: its metadata is damaged ({error}); export the run again") from error

    def logits(self, rgb_u8: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Logits (N, C) of pictures (N, S, S, 3)."""
        logits = np.empty((len(rgb_u8), len(self.classes)), dtype=np.float32)
        for start in range(0, len(rgb_u8), BATCH_SIZE):
            rows = slice(start, start + BATCH_SIZE)
            images = np.ascontiguousarray(rgb_u8[rows].transpose(0, 3, 1, 2))
            (logits[rows],) = self._session.run([OUTPUT], {self._input.name: images})
        return logits

    def score(self, picture: Path | bytes) -> float:
        """P(unsafe) of one encoded picture, decoded and resized by the project's rule.

        Raises `DecodeError` when it is no picture, `FigleafError` when no class of this network is unsafe.
        """
        if not self.unsafe:
            raise FigleafError(f"no score: none of the classes {', '.join(self.classes)} is unsafe")
        (logits,) = self.logits(decode_resized(picture, self.input_size)[None]).astype(np.float64)
        probabilities = np.exp(logits - logits.max())
        chosen = [name in self.unsafe for name in self.classes]
        return float(probabilities[chosen].sum() / probabilities.sum())


def _names(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise ValueError("classes and unsafe are no lists of names")
    return tuple(value)


def _score(value: object) -> float | None:
    if value is None:
        return None
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"the threshold is {value!r}")
    return float(value)
