"""The network as a program of `torch.export`: a .pt2 file, for what is built on torch: its C++ runtime, AOTInductor.

A .pt2 file is code. `torch.export.load` reads its weights with pickle where the file asks for that, and gives its
formulas to Python's `eval` (torch 2.14); so nothing of figleaf scores with a .pt2 file that it has not just written.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from figleaf.errors import FigleafError
from figleaf.files import atomic_path
from figleaf.vgg.network import VGG
from figleaf.vgg.scorer import in_batches
from figleaf.vgg.skin_map import SHARE_THRESHOLD, UNDECIDED, SkinShare, unsafe_place
from figleaf.vgg.weights import rebuild

RECORD = "figleaf.json"


def write_program(net: VGG, path: Path, metadata: Mapping[str, Any]) -> Path:
    """Write `net` in evaluation mode to `path`, which ends in .pt2: uint8 (batch, 3, S, S) to logits (batch, C).

    The batch is free. Of a dense head the program gives the picture's logits and the map of its pixels. `metadata`,
    plain JSON values, are the extra file figleaf.json in it.
    """
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in net.state_dict().items()}
    program: nn.Module = rebuild(net.hyperparameters, plain).float().eval()
    if net.head == "dense":
        place = unsafe_place(metadata["classes"], metadata["unsafe"])
        program = SkinShare(program, place, metadata.get(SHARE_THRESHOLD, UNDECIDED)).eval()  # type: ignore[arg-type]
    # A batch of two: torch.export takes a size of one for a constant.
    example = torch.zeros(2, 3, net.input_size, net.input_size, dtype=torch.uint8)
    exported = torch.export.export(program, (example,), dynamic_shapes={"rgb": {0: torch.export.Dim("batch")}})
    record = json.dumps(dict(metadata), ensure_ascii=False)
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        kept = _Kept(file)
        torch.export.save(exported, kept, extra_files={RECORD: record})  # type: ignore[arg-type]
        if kept.error is not None:
            raise kept.error
    return path


class _Kept:
    """A file for torch to write to, which never fails: `error` is what it failed of first, None so far.

    torch (2.14) ends the whole process when a write of its own fails, as on a full disk.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.error: OSError | None = None

    def write(self, content: bytes) -> int:
        """Write, unless a write has failed already."""
        if self.error is None:
            try:
                self._file.write(content)
            except OSError as error:
                self.error = error
        return len(content)

    def flush(self) -> None:
        """As `write`."""
        if self.error is None:
            try:
                self._file.flush()
            except OSError as error:
                self.error = error


class ProgramScorer:
    """Scores with the .pt2 file at `path`, one that can be trusted; see `figleaf.evaluate.scorer.Scorer`.

    Raises `FigleafError` when it is damaged.
    """

    def __init__(self, path: Path) -> None:
        found = {RECORD: ""}
        try:
            # From a stream: torch warns of names that do not end in .pt2, as temporary ones do.
            with path.open("rb") as file:
                program = torch.export.load(file, extra_files=found)
            self.metadata: dict[str, Any] = json.loads(found[RECORD])
            self.classes: tuple[str, ...] = tuple(self.metadata["classes"])
            self.unsafe: tuple[str, ...] = tuple(self.metadata["unsafe"])
            self.input_size: int = self.metadata["input_size"]
            self._module = program.module()
        except Exception as error:  # torch has no exception of its own for a damaged program
            raise FigleafError(f"{path}: no program that figleaf exported ({type(error).__name__})") from error

    @torch.inference_mode()
    def logits(self, rgb_u8: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Logits (N, C) of pictures (N, S, S, 3)."""
        return in_batches(self._answer, rgb_u8, len(self.classes), torch.device("cpu"))

    def _answer(self, rgb: torch.Tensor) -> torch.Tensor:
        found = self._module(rgb)
        return found if isinstance(found, torch.Tensor) else found[0]
