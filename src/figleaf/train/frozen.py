"""Frozen stages computed once: without augmentation they give the same features of a picture in every epoch."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from figleaf.config import TrainConfig
from figleaf.progress import track
from figleaf.train.inputs import Inputs
from figleaf.vgg.network import VGG

_BATCH = 64
_LARGEST_BYTES = 4 * 2**30  # beyond it the stages are computed in every epoch


@torch.inference_mode()
def frozen_features(net: VGG, inputs: Inputs, config: TrainConfig) -> Tensor | None:
    """What the first learning stage takes in, float32 (M, C, h, w), for the pictures of train and val by manifest row.

    The rows of other splits are empty. None where nothing is frozen, where the head looks at every stage (`dense`),
    where augmentation changes the pictures, and where the features would take more than 4 GiB.
    """
    stages = config.network.frozen_stages
    if not stages or config.network.head == "dense" or not config.augment.is_off:
        return None
    pixels, device = inputs.pictures.pixels, next(net.parameters()).device
    rows = np.concatenate([inputs.rows("train"), inputs.rows("val")])
    was_training = net.training
    net.eval()

    def features(batch: np.ndarray) -> Tensor:
        images = torch.from_numpy(np.ascontiguousarray(pixels[batch])).permute(0, 3, 1, 2)
        return net.up_to_stage(images.to(device), stages).float().cpu()

    shape = features(rows[:1]).shape[1:]
    found = None
    if len(pixels) * shape.numel() * 4 <= _LARGEST_BYTES:
        found = torch.empty((len(pixels), *shape))
        starts = range(0, len(rows), _BATCH)
        for start in track(starts, "Computing the frozen stages", total=len(starts)):
            batch = rows[start : start + _BATCH]
            found[torch.from_numpy(batch)] = features(batch)
    net.train(was_training)
    return found


def logits_of(net: VGG, batch: Mapping[str, Tensor], frozen: Tensor | None) -> Tensor:
    """Logits (N, classes) of a batch {image, index}: from its pictures, or from their `frozen` features."""
    if frozen is None:
        return net(batch["image"])  # type: ignore[no-any-return]
    return net.from_stage(frozen[batch["index"].cpu()].to(batch["image"].device), net.frozen_stages)
