"""A picture in a hundred numbers: how much skin a map finds, where, in what shapes, of what colour and texture.

Jones & Rehg's and Zheng, Daoudi & Jedynak's (ELCVIA 4(2) 2004) features of a map of skin, with a spatial pyramid
(Lazebnik, Schmid & Ponce, CVPR 2006) and the colour and texture of what the map calls skin.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from figleaf.skin.pictures import Mask, RgbU8
from figleaf.skin.pixel_planes import SITES, Plane, picture_planes

_SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
_CERTAIN = 0.5  # from which probability on a site belongs to a region
_PYRAMID = (2, 4)  # cells a side
_MARGIN = SITES // 8  # sites of border
_DESCRIBED = ("intensity", "rg", "by", "saturation", "steepness", "amplitude_7", "coherence_3", "intensity_spread_5")
_EIGHT_NEIGHBOURS = np.ones((3, 3), np.bool_)


def map_features(site_map: Plane, working: RgbU8) -> dict[str, float]:
    """Features by name of a working picture and a map of skin (SITES, SITES) in [0, 1]; finite whatever they show.

    Areas are parts of the picture, lengths parts of its side.
    """
    features = {"mean": float(site_map.mean()), "doubt": float((site_map * (1 - site_map)).mean())}
    features |= {f"share_{level}": float((site_map >= level).mean()) for level in _SHARES}
    features |= _where(site_map) | _regions(site_map >= _CERTAIN) | _appearance(site_map, working)
    return features


def feature_matrix(maps: NDArray[np.float32], workings: list[RgbU8]) -> tuple[NDArray[np.float64], list[str]]:
    """Features (N, F) of N pictures and their maps, and their names."""
    rows = [map_features(site_map, working) for site_map, working in zip(maps, workings, strict=True)]
    return np.array([list(row.values()) for row in rows], np.float64), list(rows[0])


def _where(site_map: Plane) -> dict[str, float]:
    """Means over cells of a pyramid, the middle and the border; centre of gravity and spread."""
    found: dict[str, float] = {}
    for cells in _PYRAMID:
        means = site_map.reshape(cells, SITES // cells, cells, SITES // cells).mean(axis=(1, 3))
        found |= {f"cell_{cells}_{row}_{column}": float(means[row, column]) for row, column in np.ndindex(means.shape)}
    inner = site_map[_MARGIN:-_MARGIN, _MARGIN:-_MARGIN]
    border = (site_map.sum() - inner.sum()) / (site_map.size - inner.size)
    found |= {"middle": float(inner.mean()), "border": float(border)}
    place = (np.arange(SITES) + 0.5) / SITES - 0.5
    for name, axis in (("down", 1), ("right", 0)):
        profile = site_map.sum(axis=axis).astype(np.float64) + 1e-3  # next to nothing, evenly: the middle
        mean = (profile @ place) / profile.sum()
        found |= {f"{name}_mean": float(mean), f"{name}_spread": float(profile @ (place - mean) ** 2 / profile.sum())}
    return found


def _regions(skin: Mask) -> dict[str, float]:
    """Number and sizes of the 8-connected regions; the largest one's outline, box and contact with the border."""
    regions, count = ndimage.label(skin, _EIGHT_NEIGHBOURS)
    sizes = np.bincount(regions.reshape(-1), minlength=count + 1)[1:]
    order = np.argsort(-sizes, kind="stable")
    largest = regions == (order[0] + 1 if count else -1)
    area = int(largest.sum())
    rows, columns = np.flatnonzero(largest.any(axis=1)), np.flatnonzero(largest.any(axis=0))
    box = (np.ptp(rows) + 1) * (np.ptp(columns) + 1) if count else 1
    padded = np.pad(largest, 1)
    outline = int((padded[1:] != padded[:-1]).sum() + (padded[:, 1:] != padded[:, :-1]).sum())
    edge = np.concatenate([largest[0], largest[-1], largest[:, 0], largest[:, -1]])
    filled = ndimage.binary_fill_holes(largest).sum()
    return {
        "regions": float(count),
        "largest": area / skin.size,
        "second": float(sizes[order[1]] / skin.size) if count > 1 else 0.0,
        "compactness": 16 * area / outline**2 if outline else 0.0,  # 1 for a square, whatever its size
        "box_filled": area / float(box),
        "box_height": (np.ptp(rows) + 1) / SITES if count else 0.0,
        "box_width": (np.ptp(columns) + 1) / SITES if count else 0.0,
        "on_border": float(edge.mean()),
        "holes": float(filled - area) / skin.size,
    }


def _appearance(site_map: Plane, working: RgbU8) -> dict[str, float]:
    """Colour and texture of the skin and of the rest, as means weighted by the map and its complement."""
    planes = picture_planes(working)
    found: dict[str, float] = {}
    for name in _DESCRIBED:
        plane = planes[name]
        overall = float(plane.mean())
        skin, rest = _weighted(plane, site_map, overall), _weighted(plane, 1 - site_map, overall)
        found |= {f"skin_{name}": skin, f"rest_{name}": rest, f"contrast_{name}": skin - rest}
        found[f"skin_{name}_spread"] = float(np.sqrt(_weighted((plane - skin) ** 2, site_map, float(plane.var()))))
    for name in ("picture_intensity_spread", "picture_rg", "picture_by", "picture_dark", "picture_light"):
        found[name] = float(planes[name][0, 0])
    return found


def _weighted(plane: Plane, weights: Plane, otherwise: float) -> float:
    """Weighted mean, drawn towards `otherwise` where there is next to no weight."""
    return float(((plane * weights).sum(dtype=np.float64) + otherwise) / (weights.sum(dtype=np.float64) + 1))
