"""The network for OpenVINO, Intel's runtime: a folder with model.xml and model.bin, float32."""

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from figleaf.data.decode import RESIZE_RULE
from figleaf.errors import FigleafError, RuntimeMissingError
from figleaf.export.onnx_file import OUTPUT_NAME, write_onnx
from figleaf.vgg.network import VGG

MODEL = "model.xml"
SECTION = "figleaf"  # of the file's rt_info
_BATCH = 64


def require_openvino(net: VGG | None = None) -> None:
    """Raises `FigleafError` where OpenVINO is missing. It can hold every network."""
    try:
        import openvino  # noqa: F401
    except ImportError as error:
        raise RuntimeMissingError(
            f"format=openvino: needs OpenVINO ({error}); install it with pip install 'figleaf[openvino]'"
        ) from error


def write_openvino(net: VGG, folder: Path, metadata: Mapping[str, Any]) -> Path:
    """Write `net` into `folder` and give it: `images` uint8 (batch, 3, S, S) to `logits` (batch, C), the batch free.

    `metadata`, plain JSON values, are the attribute `figleaf` of the file's rt_info. Raises `FigleafError` where
    OpenVINO is missing, or cannot write.
    """
    require_openvino()
    import openvino

    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        wide = write_onnx(net, Path(name) / "model.onnx", metadata)
        # Not `convert_model`, which looks for a telemetry host.
        model = openvino.Core().read_model(wide)
        model.set_rt_info(json.dumps(dict(metadata)), SECTION)
        try:
            openvino.save_model(model, folder / MODEL, compress_to_fp16=False)
        except RuntimeError as error:  # which does not say why
            raise FigleafError(
                f"cannot write {folder / MODEL}: OpenVINO failed ({error}); is the disk full? Free some space, or name "
                "another place"
            ) from error
    return folder


class OpenVinoScorer:
    """Scores pictures with the model in `folder`; see `figleaf.evaluate.scorer.Scorer`.

    `metadata` is what the export wrote. Raises `FigleafError` when files are missing, damaged or not figleaf's.
    """

    def __init__(self, folder: Path) -> None:
        require_openvino()
        import openvino

        core = openvino.Core()
        try:
            model = core.read_model(folder / MODEL)
            self.metadata: dict[str, Any] = json.loads(model.get_rt_info(SECTION).astype(str))
            # Some processors would compute in bfloat16 without being asked.
            self._model = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
            self.classes: tuple[str, ...] = tuple(self.metadata["classes"])
            self.unsafe: tuple[str, ...] = tuple(self.metadata["unsafe"])
            self.input_size: int = self.metadata["input_size"]
            self.threshold: float | None = self.metadata.get("threshold")
        except (OSError, RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
            reason = str(error).strip().splitlines()[-1] if str(error).strip() else repr(error)
            raise FigleafError(f"{folder}: no OpenVINO model that figleaf exported ({reason})") from error
        if self.metadata.get("resize_rule") != RESIZE_RULE:
            raise FigleafError(
                f"{folder}: made for pictures resized by {self.metadata.get('resize_rule')}, this figleaf resizes by "
                f"{RESIZE_RULE}; export the run again"
            )

    def logits(self, rgb_u8: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Logits (N, C) of pictures (N, S, S, 3)."""
        logits = np.empty((len(rgb_u8), len(self.classes)), dtype=np.float32)
        for start in range(0, len(rgb_u8), _BATCH):
            rows = slice(start, start + _BATCH)
            images = np.ascontiguousarray(rgb_u8[rows].transpose(0, 3, 1, 2))
            logits[rows] = self._model({0: images})[OUTPUT_NAME]
        return logits
