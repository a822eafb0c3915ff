"""The formats of an export: where each stands in the folder, how it is written, and how it is read to be compared."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from figleaf.evaluate.scorer import Scorer
from figleaf.export.keras_file import KerasScorer, require_keras, write_keras
from figleaf.export.onnx_file import write_onnx
from figleaf.export.onnx_lossy import write_onnx_float16, write_onnx_int8
from figleaf.export.onnx_scorer import OnnxScorer
from figleaf.export.openvino_file import OpenVinoScorer, require_openvino, write_openvino
from figleaf.export.program_file import ProgramScorer, write_program
from figleaf.export.tfjs import Dtype, require_tfjs, write_tfjs
from figleaf.export.tfjs_scorer import TfjsScorer
from figleaf.vgg.network import VGG
from figleaf.vgg.scorer import TorchScorer
from figleaf.vgg.weights import save

TOLERANCE = 1e-3  # in logits: far above float32 rounding, far below what changes a decision
# In probabilities, for weights of fewer bits: their rounding moves logits in proportion to their size.
LOSSY_TOLERANCE: Mapping[str, float] = {"float16": 5e-3, "uint8": 5e-2}


@dataclass(frozen=True)
class Format:
    """How a format is written to `place`, a file or a folder of the bundle, and read back for the comparison.

    A `lossy` one is compared by its quality on val. With a `probability_tolerance` its probabilities are also compared,
    and not its logits by the caller's tolerance; without one its distance is told and not judged. `require` says before
    any work that a network cannot be held, or that a library is missing; `way_out` what to do when it is refused.
    """

    place: str
    write: Callable[[VGG, Path, Mapping[str, Any]], Path]
    read: Callable[[Path], Scorer]
    lossy: bool = False
    probability_tolerance: float | None = None
    require: Callable[[VGG], None] | None = None
    way_out: str = "try a newer torch or onnxruntime, or leave this format out"


def tfjs_format(dtype: Dtype = "float16") -> Format:
    """TensorFlow.js, with its kernels in this precision."""
    return Format(
        "tfjs",
        partial(write_tfjs, dtype=dtype),
        TfjsScorer,
        lossy=dtype in LOSSY_TOLERANCE,
        probability_tolerance=LOSSY_TOLERANCE.get(dtype),
        require=require_tfjs,
        way_out="pass tfjs_dtype=float32, which loses nothing",
    )


def int8_format(calibration: NDArray[np.uint8] | None) -> Format:
    """ONNX in integers, calibrated on these pictures (N, S, S, 3)."""
    return Format(
        "model-int8.onnx",
        partial(write_onnx_int8, calibration=calibration),
        OnnxScorer,
        lossy=True,
        way_out="calibrate on more pictures (calibration_images=1000), or export onnx_float16",
    )


FORMATS: Mapping[str, Format] = {
    "safetensors": Format("model.safetensors", save, TorchScorer.load),
    "onnx": Format("model.onnx", write_onnx, OnnxScorer),
    "onnx_float16": Format(
        "model-float16.onnx",
        write_onnx_float16,
        OnnxScorer,
        lossy=True,
        probability_tolerance=LOSSY_TOLERANCE["float16"],
        way_out="export onnx, which loses nothing",
    ),
    "onnx_int8": int8_format(None),
    "pt2": Format("model.pt2", write_program, ProgramScorer),
    "tfjs": tfjs_format(),
    "keras": Format("model.keras", write_keras, KerasScorer, require=require_keras),
    "openvino": Format("openvino", write_openvino, OpenVinoScorer, require=require_openvino),
}
