"""An ONNX file as an export writes it, made in a moment: without torch, and with a network of one layer."""

import json
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from figleaf.data.decode import RESIZE_RULE

CLASSES, UNSAFE = ("safe", "nsfw"), ("nsfw",)


def write_tiny_onnx(path: Path, size: int = 16) -> Path:
    """Logits are weighted sums of all values of a picture; no two pictures of noise have the same."""
    weights = np.random.default_rng(0).normal(0, 1e-3, (3 * size * size, len(CLASSES))).astype(np.float32)
    nodes = [
        helper.make_node("Cast", ["image"], ["values"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["values"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weights"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["n", 3, size, size])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", len(CLASSES)])],
        [numpy_helper.from_array(weights, "weights")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    facts = {"classes": list(CLASSES), "unsafe": list(UNSAFE), "threshold": 0.5}
    metadata = {key: json.dumps(value) for key, value in facts.items()}
    helper.set_model_props(model, {**metadata, "resize_rule": RESIZE_RULE, "data_name": "noise"})
    onnx.save(model, path)
    return path
