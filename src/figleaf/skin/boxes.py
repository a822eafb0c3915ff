"""Boxes in a picture: where a classifier of whole pictures is to look, and what becomes of its many answers.

A box is (top, left, bottom, right) in pixels, the last two exclusive: `picture[top:bottom, left:right]`. Several are
int64 (B, 4).
"""

import numpy as np
from numpy.typing import NDArray

from figleaf.errors import FigleafError

Boxes = NDArray[np.int64]
Floats = NDArray[np.float64]
AGGREGATES = ("max", "top3", "mean", "noisy_or")
_TOP = 3


def whole(height: int, width: int) -> Boxes:
    """The whole picture as one box (1, 4)."""
    return np.array([[0, 0, height, width]], np.int64)


def windows(height: int, width: int, share: float, overlap: float = 0.5) -> Boxes:
    """Sliding windows of `share` of each side, neighbours overlapping by `overlap` of a window or more, edge to edge.

    Raises `FigleafError` for a share outside 0 < x <= 1 and an overlap outside 0 <= x < 1.
    """
    if not 0 < share <= 1:
        raise FigleafError(f"share={share}: expected 0 < x <= 1, the window's part of a side")
    if not 0 <= overlap < 1:
        raise FigleafError(f"overlap={overlap}: expected 0 <= x < 1")
    tops, lefts = _starts(height, share, overlap), _starts(width, share, overlap)
    sides = max(1, round(share * height)), max(1, round(share * width))
    return np.array([[top, left, top + sides[0], left + sides[1]] for top in tops for left in lefts], np.int64)


def around(mask: NDArray[np.bool_], margin: float = 0.1) -> Boxes:
    """The box (1, 4) around the masked pixels, wider by `margin` of its side each way; (0, 4) for an empty mask."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return np.zeros((0, 4), np.int64)
    return widened(np.array([[rows[0], columns[0], rows[-1] + 1, columns[-1] + 1]], np.int64), mask.shape, margin)


def widened(boxes: Boxes, shape: tuple[int, ...], margin: float) -> Boxes:
    """Boxes wider by `margin` of their sides each way, within a picture of `shape` (H, W, ...)."""
    grown = boxes.astype(np.float64)
    by = margin * (grown[:, 2:] - grown[:, :2])
    grown[:, :2] -= by
    grown[:, 2:] += by
    limits = np.array([shape[0], shape[1]] * 2, np.float64)
    found: Boxes = np.rint(np.clip(grown, 0, limits)).astype(np.int64)
    return found


def area(boxes: Boxes) -> NDArray[np.int64]:
    """Pixels in each box (B,)."""
    sides = boxes[:, 2:] - boxes[:, :2]
    return sides[:, 0] * sides[:, 1]


def overlaps(one: Boxes, others: Boxes) -> Floats:
    """Intersection over union (A, B) of every box of `one` (A, 4) with every one of `others` (B, 4)."""
    low = np.maximum(one[:, None, :2], others[None, :, :2])
    high = np.minimum(one[:, None, 2:], others[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=2)
    union = area(one)[:, None] + area(others)[None] - shared
    found: Floats = np.divide(shared, union, out=np.zeros(shared.shape), where=union > 0)
    return found


def distinct(boxes: Boxes, limit: float = 0.95) -> Boxes:
    """The boxes without those that overlap an earlier one by more than `limit` of their union."""
    kept: list[int] = []
    each = overlaps(boxes, boxes)
    for index in range(len(boxes)):
        if not kept or each[index, kept].max() <= limit:
            kept.append(index)
    return boxes[kept]


def strongest(boxes: Boxes, scores: Floats, limit: float = 0.3) -> NDArray[np.int64]:
    """Non-maximum suppression: the indices of the boxes kept, the highest score first.

    A box goes when it overlaps one with a higher score by more than `limit` of their union; of equal scores the earlier
    box stays.
    """
    import torch
    from torchvision.ops import nms  # slow to import, and most of this module does without

    corners = torch.from_numpy(boxes[:, [1, 0, 3, 2]].astype(np.float64))
    # Ties are broken by place: torch's sort promises nothing.
    lowered = scores - np.arange(len(scores)) * 1e-12
    kept: NDArray[np.int64] = nms(corners, torch.from_numpy(lowered), limit).numpy()
    return kept


def aggregate(probabilities: Floats, how: str) -> float:
    """One probability for a picture from those (B,) of its boxes.

    `max`; `top3`, the mean of the three highest; `mean`; `noisy_or`, one minus the chance that no box is unsafe, as if
    boxes were independent, which overlapping ones are not. Raises `FigleafError` for another name.
    """
    if how not in AGGREGATES:
        raise FigleafError(f"aggregate={how}: expected one of {', '.join(AGGREGATES)}")
    if how == "max":
        return float(probabilities.max())
    if how == "top3":
        return float(np.sort(probabilities)[-_TOP:].mean())
    if how == "mean":
        return float(probabilities.mean())
    return float(-np.expm1(np.log1p(-np.minimum(probabilities, 1 - 1e-12)).sum()))


def _starts(side: int, share: float, overlap: float) -> list[int]:
    window = max(1, round(share * side))
    room = side - window
    step = max(1.0, window * (1 - overlap))
    count = int(np.ceil(room / step)) + 1
    return [round(room * index / max(1, count - 1)) for index in range(count)]
