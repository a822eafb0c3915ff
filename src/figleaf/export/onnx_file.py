"""The network as one ONNX file: uint8 pictures in, logits out, normalisation inside, the run's facts as metadata."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from figleaf.errors import FigleafError
from figleaf.files import atomic_path
from figleaf.vgg.cost import megabytes
from figleaf.vgg.network import VGG
from figleaf.vgg.skin_map import SHARE_THRESHOLD, UNDECIDED, SkinShare, unsafe_place
from figleaf.vgg.weights import rebuild

OPSET = 18
INPUT_NAME, OUTPUT_NAME, MAP_NAME = "images", "logits", "skin"
# Protobuf's limit is 2 GiB for the whole file; the graph needs a little.
MAX_MEGABYTES = 2000


def write_onnx(net: VGG, path: Path, metadata: Mapping[str, Any]) -> Path:
    """Write `net` in evaluation mode, float32, as opset 18: `images` uint8 (batch, 3, S, S) to `logits` (batch, C).

    The batch is free, S is the network's input size. Of a dense head the logits are those of the picture, by its share
    of skin, and there is a second output, `skin` (batch, S, S), the probability of each pixel. `metadata` goes into the
    file's `metadata_props`: texts as they are, other values as JSON. `net` is left as it is. Raises `FigleafError` when
    the weights exceed what one file can hold.
    """
    if megabytes(net) > MAX_MEGABYTES:
        raise FigleafError(
            f"format=onnx: {megabytes(net):.0f} MB of weights, and one .onnx file holds at most 2 GB; "
            "export safetensors, or train a narrower network"
        )
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in net.state_dict().items()}
    rebuilt = rebuild(net.hyperparameters, plain).float()
    exported: nn.Module = rebuilt
    if net.head == "dense":
        place = unsafe_place(metadata["classes"], metadata["unsafe"])
        exported = SkinShare(rebuilt, place, metadata.get(SHARE_THRESHOLD, UNDECIDED)).eval()
    # A batch of two: torch.export takes a size of one for a constant.
    example = torch.zeros(2, 3, net.input_size, net.input_size, dtype=torch.uint8)
    program = torch.onnx.export(
        exported,
        (example,),
        dynamo=True,
        opset_version=OPSET,
        input_names=[INPUT_NAME],
        output_names=[OUTPUT_NAME, *[MAP_NAME] * (net.head == "dense")],
        dynamic_shapes={"rgb": {0: torch.export.Dim("batch")}},
        verbose=False,
    )
    assert program is not None  # only the old exporter gives None
    graph = program.model.graph
    parts: list[Any] = [graph, *graph.all_nodes(), *graph.inputs, *graph.outputs, *graph.initializers.values()]
    for part in parts:
        # The exporter notes where each comes from, with the paths of this machine's source files.
        part.metadata_props.clear()
    program.model.metadata_props.update(
        {key: value if isinstance(value, str) else json.dumps(value) for key, value in metadata.items()}
    )
    with atomic_path(path) as temporary:
        program.save(temporary, external_data=False)
    return path
