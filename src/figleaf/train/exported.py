"""The weights of a finished run as an exported file, to be measured: what a format costs, and what it saves.

Scores are those of ONNX Runtime with the file; `cost/megabytes` is the file's size, and `time/ms_per_image_1` and
`_2` are medians at one and two threads, picture by picture, from decoded pixels, on this machine at this moment.
"""

import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from figleaf.config import ExportConfig
from figleaf.data.decode import RESIZE_RULE
from figleaf.errors import FigleafError
from figleaf.vgg.weights import load

if TYPE_CHECKING:
    from figleaf.export.onnx_scorer import OnnxScorer
    from figleaf.train.inputs import Inputs

EXPORTED = ("onnx", "onnx_float16", "onnx_int8")
_TIMED = 200  # pictures on which the speed is measured
_WARM_UP = 5


def require_exported(name: str, head: str) -> None:
    """Raises `FigleafError` when runs with this head cannot be measured as such a file."""
    if name not in EXPORTED:
        raise FigleafError(f"exported={name}: expected one of {', '.join(EXPORTED)}")
    if head == "dense":
        raise FigleafError(
            f"exported={name}: these runs mark pixels (model.head=dense), and a file is measured by "
            "what it says of pictures; leave `exported` away"
        )


def export_to_measure(weights: Path, name: str, inputs: "Inputs") -> tuple["OnnxScorer", dict[str, float]]:
    """The scorer of `weights` as the file that `figleaf export format=[name]` writes, and what the file costs.

    onnx_int8 takes its scales from pictures of the training split. Raises `FigleafError` when the file cannot be made.
    """
    from figleaf.export.formats import FORMATS, int8_format
    from figleaf.export.onnx_scorer import OnnxScorer

    form = FORMATS[name]
    if name == "onnx_int8":
        form = int8_format(inputs.pictures.evenly(inputs.rows("train"), ExportConfig.calibration_images))
    net, metadata = load(weights)
    record = {"classes": metadata["classes"], "unsafe": metadata["unsafe"], "resize_rule": RESIZE_RULE}
    pictures = inputs.pictures.evenly(inputs.rows("val"), _TIMED)
    with tempfile.TemporaryDirectory() as folder:
        path = form.write(net, Path(folder) / form.place, record)
        found = {"cost/megabytes": path.stat().st_size / 1e6}
        found |= {f"time/ms_per_image_{n}": _ms_per_image(OnnxScorer(path, threads=n), pictures) for n in (1, 2)}
        return OnnxScorer(path), found  # which has read all of it


def _ms_per_image(scorer: "OnnxScorer", pictures: NDArray[np.uint8]) -> float:
    took = []
    for place in [*range(min(_WARM_UP, len(pictures))), *range(len(pictures))]:
        started = time.perf_counter()
        scorer.logits(pictures[place : place + 1])
        took.append(time.perf_counter() - started)
    return 1000 * float(np.median(took[_WARM_UP:]))
