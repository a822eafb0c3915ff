"""Whether a class map is true: what becomes of the answer when its places are hidden, and whether they are the object.

Deletion and insertion follow Petsiuk, Das & Saenko (RISE, 2018), with a blurred picture in place of grey: hard edges
are evidence of their own. ROAD follows Rong et al. (2022): what is removed is filled in from around it, so that its
shape says nothing. The pointing game is that of Zhang et al. (2016). A random map and a centred Gaussian are the
floors: photographers put what matters in the middle.
"""

from collections.abc import Callable
from functools import lru_cache

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.linalg import splu
from sklearn.metrics import roc_auc_score

from figleaf.errors import FigleafError
from figleaf.explain.cam import METHODS, as_images, class_maps, evaluating
from figleaf.vgg.network import STRIDE, VGG

FLOORS = ("random", "gaussian")
MEASURES = ("deletion", "insertion", "road", "pointing", "map_iou", "map_auroc", "silent_map")
_STEPS = 16  # of deletion and insertion: the pictures hidden by so many equal parts
_REMOVED = (0.2, 0.5, 0.8)  # ROAD
_NOISE = 0.01 * 255  # ROAD adds it to what is filled in, so that a network cannot know it by its smoothness
_BLUR = 1 / 10  # standard deviation, of the side
_WIDTH = 1 / 4  # of the centred Gaussian, of the side
_BATCH = 128

Maps = NDArray[np.float32]
Masks = NDArray[np.bool_]


def maps_of(
    net: VGG,
    rgb_u8: NDArray[np.uint8],
    class_index: int,
    method: str,
    *,
    seed: int = 0,
    on_done: Callable[[int], None] | None = None,
) -> Maps:
    """Maps (N, S, S) in 0-1 of pictures (N, S, S, 3) for one class, by a method of `METHODS` or one of `FLOORS`."""
    count, size = rgb_u8.shape[:2]
    if method == "gaussian":
        return np.broadcast_to(_centred(size), (count, size, size)).astype(np.float32)
    if method == "random":
        grid = max(2, size // STRIDE * 2)  # as fine as the maps of the last ReLU
        draws = np.random.default_rng([seed, 1]).random((count, grid, grid), dtype=np.float32)
        return np.stack([cv2.resize(one, (size, size), interpolation=cv2.INTER_LINEAR) for one in draws])
    return class_maps(net, rgb_u8, class_index, method, on_done=on_done).shown(size)


def map_measures(
    net: VGG,
    rgb_u8: NDArray[np.uint8],
    maps: Maps,
    class_index: int,
    masks: Masks | None,
    *,
    seed: int = 0,
    on_done: Callable[[int], None] | None = None,
) -> dict[str, NDArray[np.float64]]:
    """How true the `maps` (N, S, S) of pictures (N, S, S, 3) are for a class: `MEASURES`, (N,) each.

    `deletion`: mean probability of the class while the picture is hidden, the map's highest places first (low is true).
    `insertion`: the same while it is uncovered (high is true). `road`: probability with the map's lowest places removed
    less that with its highest removed, on average over shares (high is true). With `masks` (N, S, S) of what the class
    is about: `pointing`, whether the highest place is in the mask; `map_iou`, the overlap of the mask and as many of
    the highest places; `map_auroc`, how well the map ranks the mask's pixels over the others. They are NaN where a mask
    is empty or full. `silent_map`: whether the map is zero everywhere; its order is then random.
    """
    count, size = rgb_u8.shape[:2]
    found: dict[str, NDArray[np.float64]] = {name: np.full(count, np.nan) for name in MEASURES}
    found["silent_map"] = np.asarray((maps.reshape(count, -1) <= 0).all(axis=1), np.float64)
    for row in range(count):
        rng = np.random.default_rng([seed, 2, row])
        order = _falling(maps[row], rng)
        views = [*_hidden(rgb_u8[row], order), *_uncovered(rgb_u8[row], order), *_filled(rgb_u8[row], order, rng)]
        chance = probabilities(net, np.stack(views), class_index)
        parts = np.split(chance, [_STEPS + 1, 2 * (_STEPS + 1), 2 * (_STEPS + 1) + len(_REMOVED)])
        for name, part in zip(("deletion", "insertion"), parts[:2], strict=True):
            found[name][row] = float(np.trapezoid(part, dx=1 / _STEPS))
        found["road"][row] = float(np.mean(parts[3] - parts[2]))
        if masks is not None and 0 < (area := int(masks[row].sum())) < size**2:
            flat = masks[row].reshape(-1)
            named = np.zeros(size**2, bool)
            named[order[:area]] = True
            found["pointing"][row] = float(flat[order[0]])
            found["map_iou"][row] = (named & flat).sum() / (named | flat).sum()
            found["map_auroc"][row] = roc_auc_score(flat, maps[row].reshape(-1))
        if on_done is not None:
            on_done(1)
    return found


@torch.inference_mode()
def probabilities(net: VGG, rgb_u8: NDArray[np.uint8], class_index: int) -> NDArray[np.float64]:
    """P(class) (N,) of pictures (N, S, S, 3)."""
    parts = []
    with evaluating(net):
        for start in range(0, len(rgb_u8), _BATCH):
            logits = net(as_images(net, rgb_u8[start : start + _BATCH]))
            parts.append(torch.softmax(logits.double(), dim=1)[:, class_index].cpu().numpy())
    return np.concatenate(parts)


def impute(rgb_u8: NDArray[np.uint8], removed: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.uint8]:
    """The picture (S, S, 3) with the pixels `removed` (S, S) filled in from around them; the others stay as they are.

    Each becomes the mean of its eight neighbours, the straight ones counted twice, all at once: a sparse system.
    """
    size = len(rgb_u8)
    gone, kept = np.flatnonzero(removed), np.flatnonzero(~removed)
    if not len(gone):
        return rgb_u8
    values = rgb_u8.reshape(-1, 3).astype(np.float64)
    if not len(kept):
        return np.broadcast_to(np.rint(values.mean(axis=0)), rgb_u8.shape).astype(np.uint8)
    weights = _neighbours(size)[gone]
    system = sparse.identity(len(gone), format="csc") - weights[:, gone].tocsc()
    values[gone] = splu(system, permc_spec="MMD_AT_PLUS_A").solve(weights[:, kept] @ values[kept])
    values[gone] += rng.normal(0, _NOISE, (len(gone), 3))
    return np.clip(np.rint(values), 0, 255).astype(np.uint8).reshape(rgb_u8.shape)


def best_threshold(maps: Maps, masks: Masks, steps: int = 64) -> float:
    """The threshold, of `steps` between 0 and 1, at which the maps have the highest F1 over all pixels of the masks."""
    thresholds = np.linspace(0, 1, steps + 1)[1:]
    return float(thresholds[int(np.argmax([pixel_f1(maps, masks, at) for at in thresholds]))])


def pixel_f1(maps: Maps, masks: Masks, threshold: float) -> float:
    """F1 over all pixels of what is at least `threshold`; 0 where nothing is in common."""
    named = maps >= threshold
    both = int((named & masks).sum())
    return 2 * both / (int(named.sum()) + int(masks.sum())) if both else 0.0


def require_map(head: str, method: str) -> None:
    """Raises `FigleafError` for a method that is none, or that networks with this head have not."""
    if method not in (*METHODS, *FLOORS):
        raise FigleafError(f"explain={method}: expected one of {', '.join((*METHODS, *FLOORS))}")
    if head == "dense" or (method in METHODS and head not in METHODS[method].heads):
        raise FigleafError(f"explain={method}: not for networks with a {head} head")


def _falling(shown: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.intp]:
    """The pixels (S * S,) from the highest down; which of equal ones comes first is drawn."""
    flat = shown.reshape(-1)
    return np.lexsort((rng.random(len(flat)), -flat))


def _hidden(rgb_u8: NDArray[np.uint8], order: NDArray[np.intp]) -> list[NDArray[np.uint8]]:
    """The picture, then with more and more of its first places blurred, until all are."""
    return _mixed(rgb_u8, _blurred(rgb_u8), order)


def _uncovered(rgb_u8: NDArray[np.uint8], order: NDArray[np.intp]) -> list[NDArray[np.uint8]]:
    """The blurred picture, then with more and more of its first places sharp, until all are."""
    return _mixed(_blurred(rgb_u8), rgb_u8, order)


def _mixed(first: NDArray[np.uint8], last: NDArray[np.uint8], order: NDArray[np.intp]) -> list[NDArray[np.uint8]]:
    views = [first]
    for step in range(1, _STEPS + 1):
        view = first.reshape(-1, 3).copy()
        places = order[: round(len(order) * step / _STEPS)]
        view[places] = last.reshape(-1, 3)[places]
        views.append(view.reshape(first.shape))
    return views


def _filled(rgb_u8: NDArray[np.uint8], order: NDArray[np.intp], rng: np.random.Generator) -> list[NDArray[np.uint8]]:
    """The picture with its first places removed, for each share, and then with its last."""
    views = []
    for places in (order, order[::-1]):
        for share in _REMOVED:
            removed = np.zeros(len(order), bool)
            removed[places[: round(len(order) * share)]] = True
            views.append(impute(rgb_u8, removed.reshape(rgb_u8.shape[:2]), rng))
    return views


def _blurred(rgb_u8: NDArray[np.uint8]) -> NDArray[np.uint8]:
    blurred = cv2.GaussianBlur(rgb_u8, (0, 0), _BLUR * len(rgb_u8), borderType=cv2.BORDER_REFLECT)
    return np.asarray(blurred, np.uint8)


def _centred(size: int) -> NDArray[np.float64]:
    distance = (np.arange(size) - (size - 1) / 2) / (_WIDTH * size)
    row = np.exp(-(distance**2) / 2)
    return np.outer(row, row)


@lru_cache(maxsize=4)
def _neighbours(size: int) -> "sparse.csr_array":
    """(S * S, S * S): the share of each neighbour in a pixel's mean; less neighbours at the border share it all."""
    place = np.arange(size**2).reshape(size, size)
    rows, columns, weights = [], [], []
    for down in (-1, 0, 1):
        for across in (-1, 0, 1):
            if (down, across) == (0, 0):
                continue
            here = place[max(0, -down) : size - max(0, down), max(0, -across) : size - max(0, across)]
            there = place[max(0, down) : size + min(0, down), max(0, across) : size + min(0, across)]
            rows.append(here.ravel())
            columns.append(there.ravel())
            weights.append(np.full(here.size, 2.0 if 0 in (down, across) else 1.0))
    shape = (size**2, size**2)
    found = sparse.csr_array((np.concatenate(weights), (np.concatenate(rows), np.concatenate(columns))), shape=shape)
    return sparse.csr_array(found.multiply(1 / found.sum(axis=1)[:, None]))
