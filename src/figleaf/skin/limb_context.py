"""What the other proposals of a picture say of one: auto-context for limbs.

Whether a ribbon is a limb is not seen in it alone. A better one may lie over it, a forearm goes on from an upper arm,
legs come in pairs of like size. Once a first judge has said how likely each proposal is, a second one can look at that
(Tu, "Auto-context and its application to high-level vision tasks", CVPR 2008; as in `figleaf.skin.boosted_pixels`).
"""

import numpy as np
from numpy.typing import NDArray

from figleaf.skin.limb_proposals import Proposals, Relations

Floats = NDArray[np.float64]
Pairs = NDArray[np.bool_]

SIZE = 22
_OVERLAP, _TURN_DEG = 0.5, 40.0  # beyond the one and below the other, two ribbons are rivals
_TOUCH = 0.3  # overlap that is worth noticing
_JOINT = 1.5  # most distance of two ends that meet, in half-widths of the wider ribbon
_LIKE_WIDTH, _NEAR_WIDTH, _LIKE_LENGTH, _NEAR_LENGTH, _PAIR_WIDTH = 0.5, 0.7, 0.4, 0.6, 0.35  # logarithms of quotients


def context_features(proposals: Proposals, probability: Floats) -> Floats:
    """For each of N proposals what a first judge's probabilities (N,) say of it and of those around it, (N, SIZE).

    In turn: its own probability and rank; of its rivals the best, the sum and the number of better ones; of others that
    touch it best and sum; of those that meet it at an end best and sum, and the best of like size; of others of its
    size best and sum; the best that goes on from either end, the greater and the lesser; the picture's sum; against
    the best rival the logarithms of length and width, and how each covers the other; its width against the mean limb's;
    its length and width against the picture's best. The same from either end and in the mirror.
    """
    count = len(proposals.segments)
    if not count:
        return np.zeros((0, SIZE))
    between = Relations.of(proposals.segments)
    length, width = (np.log(np.maximum(sizes, 1e-9)) for sizes in _sizes(proposals))
    longer, wider = np.abs(length[:, None] - length), np.abs(width[:, None] - width)
    apart = _ends_apart(proposals)  # (N, N, 2)
    other = ~np.eye(count, dtype=np.bool_)
    cover = np.maximum(between.cover, between.cover.T)
    rival = (cover > _OVERLAP) & (between.angle_deg < _TURN_DEG) & other
    beside = (cover < _OVERLAP) & other
    touching = (cover > _TOUCH) & other & ~rival
    meets = (apart.min(axis=2) < _JOINT) & beside
    like = meets & (wider < _LIKE_WIDTH) & (longer < _NEAR_LENGTH)
    pair = (longer < _LIKE_LENGTH) & (wider < _PAIR_WIDTH) & beside
    onward = np.where((beside & (wider < _NEAR_WIDTH))[..., None], np.exp(-apart), 0) * probability[None, :, None]
    at_ends = np.sort(onward.max(axis=1), axis=1)

    def best(pairs: Pairs) -> Floats:
        return np.asarray(np.where(pairs, probability, 0).max(axis=1))

    def total(pairs: Pairs) -> Floats:
        return np.asarray(np.where(pairs, probability, 0).sum(axis=1))

    rows = np.arange(count)
    ahead = np.where(rival, probability, -1).argmax(axis=1)
    against = [length - length[ahead], width - width[ahead], between.cover[rows, ahead], between.cover[ahead, rows]]
    top = int(probability.argmax())
    columns = [
        *(probability, np.argsort(np.argsort(-probability, kind="stable"))),
        *(best(rival), total(rival), (rival & (probability > probability[:, None])).sum(axis=1)),
        *(best(touching), total(touching), best(meets), total(meets), best(like), best(pair), total(pair)),
        *(at_ends[:, 1], at_ends[:, 0], np.full(count, probability.sum())),
        *(np.where(rival.any(axis=1), column, 0) for column in against),
        width - np.average(width, weights=probability + 1e-6),
        *(length - length[top], width - width[top]),
    ]
    return np.column_stack(columns).astype(np.float64)


def _sizes(proposals: Proposals) -> tuple[Floats, Floats]:
    """Lengths and half-widths (N,), in pixels."""
    pairs = [(one.length, one.width / 2) for one in proposals.segments]
    length, radius = np.array(pairs).T
    return length, radius


def _ends_apart(proposals: Proposals) -> Floats:
    """From each end of the i-th proposal to the nearer end of the j-th (N, N, 2), in half-widths of the wider one."""
    ends = np.array([[one.start, one.end] for one in proposals.segments])  # (N, 2, xy)
    _, radius = _sizes(proposals)
    distance = np.linalg.norm(ends[:, None, :, None] - ends[None, :, None], axis=-1).min(axis=3)
    return np.asarray(distance / np.maximum(np.maximum(radius[:, None], radius), 1e-9)[..., None])
