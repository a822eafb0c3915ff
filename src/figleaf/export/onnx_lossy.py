"""Smaller ONNX files that lose something: weights of 16 bits, or everything in integers of 8.

Both are made of the float32 file, take and give what it does, and run wherever it runs: `OnnxScorer` reads all three.
"""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from figleaf.export.onnx_file import INPUT_NAME, write_onnx
from figleaf.export.onnx_scorer import PRECISION
from figleaf.files import atomic_path
from figleaf.vgg.network import VGG

if TYPE_CHECKING:
    import onnx

_FLOAT16_LIMIT = float(np.finfo(np.float16).max)
_BATCH = 16
# What is worth integers. The normalisation of the pixels is not among them: it is little work, and its float32 result
# is what the first convolution's 256 levels are laid over.
_INTEGER_OPERATORS = ["Conv", "Gemm", "MatMul", "Relu", "MaxPool", "GlobalAveragePool", "ReduceMean", "Add", "Resize"]


def write_onnx_float16(net: VGG, path: Path, metadata: Mapping[str, Any]) -> Path:
    """Write `net` as ONNX with its kernels in float16: half the bytes; they are widened when the file is loaded.

    Computing stays in float32, so the speed does too. A kernel with values beyond float16's range stays as it is.
    """
    with tempfile.TemporaryDirectory() as folder:
        model = _load(write_onnx(net, Path(folder) / "model.onnx", {**metadata, PRECISION: "float16"}))
    _narrow(model)
    return _save(model, path)


def write_onnx_int8(
    net: VGG, path: Path, metadata: Mapping[str, Any], *, calibration: NDArray[np.uint8] | None
) -> Path:
    """Write `net` as ONNX in integers of 8 bits (QDQ, static): a quarter of the bytes, and faster on most processors.

    Weights have a scale for each channel, activations one for each tensor, from their least and greatest values on the
    `calibration` pictures (N, S, S, 3), which should be a hundred or more of those the network was trained on. Both are
    signed: unsigned activations saturate on processors with AVX2 but without VNNI.

    Raises `ValueError` without pictures.
    """
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    if calibration is None or not len(calibration):
        raise ValueError("int8 needs pictures to calibrate on")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        wide = write_onnx(net, folder / "model.onnx", {**metadata, PRECISION: "int8"})
        # Folds batch norms into the convolutions. Its symbolic shapes would need SymPy and tell nothing new here.
        quant_pre_process(wide, folder / "folded.onnx", skip_symbolic_shape=True)
        quantize_static(
            folder / "folded.onnx",
            folder / "int8.onnx",
            _Calibration(calibration),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=_INTEGER_OPERATORS,
            per_channel=True,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
        )
        model, properties = _load(folder / "int8.onnx"), _load(wide).metadata_props
    del model.metadata_props[:]
    model.metadata_props.extend(properties)
    return _save(model, path)


class _Calibration:
    """Pictures as onnxruntime asks for them: a batch at a time, then None."""

    def __init__(self, rgb_u8: NDArray[np.uint8]) -> None:
        self._batches = iter(rgb_u8[start : start + _BATCH] for start in range(0, len(rgb_u8), _BATCH))

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        batch = next(self._batches, None)
        return None if batch is None else {INPUT_NAME: np.ascontiguousarray(batch.transpose(0, 3, 1, 2))}


def _narrow(model: "onnx.ModelProto") -> None:
    """Kernels and matrices to float16, each with a node that widens it; biases and norms are too small to matter."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    casts: list[onnx.NodeProto] = []
    for initializer in model.graph.initializer:
        if initializer.data_type != TensorProto.FLOAT or len(initializer.dims) < 2:
            continue
        values = numpy_helper.to_array(initializer)
        if not np.abs(values).max(initial=0) <= _FLOAT16_LIMIT:
            continue
        name = initializer.name
        initializer.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{name}:float16"))
        casts.append(helper.make_node("Cast", [initializer.name], [name], name=f"{name}:widen", to=TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _load(path: Path) -> "onnx.ModelProto":
    import onnx

    return onnx.load(path)


def _save(model: "onnx.ModelProto", path: Path) -> Path:
    import onnx

    with atomic_path(path) as temporary:
        onnx.save(model, temporary)
    return path
