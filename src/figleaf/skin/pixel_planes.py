"""What is known about each place of a picture besides its colour: surroundings, texture, the picture as a whole.

All of it is measured on a *working picture* of `WORKING_SIZE` squared pixels, whatever the size of the picture, so that
a radius is a part of the picture and the time does not depend on the camera. Probabilities are asked for at every
second pixel of every second row, the *sites*: a map of `SITES` squared. (On the skin-area proxy's validation pictures
four times as many sites changed F1 by less than 0.001.)
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from figleaf.data.decode import resize
from figleaf.skin.color import LOG_GAIN
from figleaf.skin.pictures import Mask, RgbU8, checked_picture

Plane = NDArray[np.float32]
Planes = dict[str, NDArray[np.float32]]  # by name: (SITES, SITES), or (1, 1) for a number of the whole picture

WORKING_SIZE = 80
SITE_STRIDE = 2
SITES = WORKING_SIZE // SITE_STRIDE

_RADII_PX = (2, 5, 11, 23)  # of squares on the working picture; each about twice the last
_MAP_RADII = (1, 3, 7, 15)  # of squares on a map of sites
_MAP_STEPS = (4, 9)  # sites from a place to the eight around it whose probability is looked at
_SMOOTHED = ("intensity", "rg", "by", "red_share", "green_share")
_SHADES_OF_GREY = 6  # Finlayson & Trezzi (2004): the norm whose mean estimates the light best
# Added to the variances of a picture's own colours of skin: what remains uncertain about them, in log-opponent units.
_OWN_VARIANCE = np.array([60.0, 15.0, 25.0])


def working_picture(rgb_u8: RgbU8) -> RgbU8:
    """The picture squashed to WORKING_SIZE, by the resize rule of all of figleaf."""
    return resize(checked_picture(rgb_u8), WORKING_SIZE)


def working_mask(mask: Mask) -> Mask:
    """A mask (H, W) at WORKING_SIZE: whether at least half of what falls into each pixel is skin."""
    size = (WORKING_SIZE, WORKING_SIZE)
    shrinks = mask.shape[0] > WORKING_SIZE and mask.shape[1] > WORKING_SIZE
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    share = cv2.resize(mask.astype(np.float32), size, interpolation=method)
    mostly: Mask = share >= 0.5
    return mostly


def at_size(site_map: Plane, height: int, width: int) -> Plane:
    """A map of sites (SITES, SITES) as (height, width), bilinear; sites are not in the middle of their pixels."""
    # The centre of site i is that of working pixel 2 i; the centre of pixel x is at (x + 1/2) / width of the picture.
    y, x = (
        (((np.arange(side) + 0.5) * (WORKING_SIZE / side) - 0.5) / SITE_STRIDE).astype(np.float32)
        for side in (height, width)
    )
    # Row by row, then column by column: cv2.remap rounds to 1/32 of a pixel and takes no side of over 32,767.
    return _interpolated(_interpolated(site_map, y).T, x).T


def picture_planes(working: RgbU8) -> Planes:
    """Colour, surroundings, texture, the picture as a whole and place: 72 planes of a working picture."""
    rgb = working.astype(np.float32)
    intensity, rg, by = _log_opponent(rgb)
    share = rgb / (rgb.sum(axis=-1, keepdims=True) + 1)
    full: Planes = {"red": rgb[..., 0], "green": rgb[..., 1], "blue": rgb[..., 2]}
    full |= {"intensity": intensity, "rg": rg, "by": by, "red_share": share[..., 0], "green_share": share[..., 1]}
    full |= _hue_saturation(rgb)
    smoothed = np.dstack([full[name] for name in _SMOOTHED])
    full |= _surroundings(smoothed) | _texture(intensity)
    sites = {name: plane[::SITE_STRIDE, ::SITE_STRIDE] for name, plane in full.items()}
    return sites | _whole_picture(sites, smoothed, rgb) | _place()


def map_planes(name: str, site_map: Plane, working: RgbU8) -> Planes:
    """What a first map of probabilities (SITES, SITES) says about a place: 40 planes named `name_...`.

    The probability there, about it and in eight directions (auto-context: Tu, CVPR 2008); how the colour there compares
    with the picture's own skin and its own remainder, as Gaussians and as a histogram weighted by the map.
    """
    planes: Planes = {name: site_map, f"{name}_mean": _number(site_map.mean())}
    planes[f"{name}_high"] = _number(np.quantile(site_map, 0.98))
    for radius in _MAP_RADII:
        planes[f"{name}_about_{radius}"] = _box_mean(site_map, radius)
    about = planes[f"{name}_about_{_MAP_RADII[0]}"]
    for step in _MAP_STEPS:
        padded = cv2.copyMakeBorder(about, step, step, step, step, cv2.BORDER_REPLICATE)
        for down in (-1, 0, 1):
            for right in (-1, 0, 1):
                if down or right:
                    top, left = step + down * step, step + right * step
                    planes[f"{name}_{step}_{down}_{right}"] = padded[top : top + SITES, left : left + SITES]
    colors = np.stack(_log_opponent(working[::SITE_STRIDE, ::SITE_STRIDE].astype(np.float32)), axis=-1)
    planes |= {f"{name}_{key}": plane for key, plane in _own_colors(site_map, colors).items()}
    return planes


def smoothed_at_sites(plane: Plane) -> Plane:
    """A plane of the working picture at the sites (SITES, SITES), as the mean of three by three pixels."""
    return _box_mean(plane, 1)[::SITE_STRIDE, ::SITE_STRIDE]


def rows_at(planes: Planes, sites: NDArray[np.intp] | None = None) -> NDArray[np.float32]:
    """A row (n, F) for each of the chosen sites, or of all in reading order, a column for each plane."""
    count = SITES * SITES if sites is None else len(sites)
    rows = np.empty((count, len(planes)), np.float32)
    for column, plane in enumerate(planes.values()):
        flat = plane.reshape(-1)
        rows[:, column] = flat if sites is None or flat.size == 1 else flat[sites]
    return rows


def _log_opponent(rgb: Plane) -> tuple[Plane, Plane, Plane]:
    """As `color.log_opponent`, in single precision, without offset; half a unit of noise stands for its mean."""
    logs = np.float32(LOG_GAIN) * np.log10(rgb + np.float32(1.5))
    red, green, blue = logs[..., 0], logs[..., 1], logs[..., 2]
    return green, red - green, blue - (green + red) / 2


def _hue_saturation(rgb: Plane) -> Planes:
    hsv = cv2.cvtColor(rgb / 255, cv2.COLOR_RGB2HSV)
    lab = cv2.cvtColor(rgb / 255, cv2.COLOR_RGB2LAB)
    hue = np.where(hsv[..., 0] > 180, hsv[..., 0] - 360, hsv[..., 0])  # skin lies about red: no cut through it
    return {"hue": hue, "saturation": hsv[..., 1], "lightness": lab[..., 0], "a": lab[..., 1], "b": lab[..., 2]}


def _surroundings(smoothed: Plane) -> Planes:
    """Means and standard deviations in squares of four sizes."""
    planes: Planes = {}
    squares = smoothed[..., :3] ** 2
    for radius in _RADII_PX:
        means = _box_mean(smoothed, radius)
        spread = np.sqrt(np.maximum(_box_mean(squares, radius) - means[..., :3] ** 2, 0))
        planes |= {f"{name}_mean_{radius}": means[..., i] for i, name in enumerate(_SMOOTHED)}
        planes |= {f"{name}_spread_{radius}": spread[..., i] for i, name in enumerate(_SMOOTHED[:3])}
    return planes


def _texture(intensity: Plane) -> Planes:
    """Median amplitude (Fleck, Forsyth & Bregler), gradients and how much they agree in direction, at several sizes."""
    levels = np.clip(intensity, 0, 255).astype(np.uint8)
    planes: Planes = {}
    for smooth, amplitude in ((5, 7), (9, 13)):
        deviation = cv2.absdiff(levels, cv2.medianBlur(levels, smooth))
        planes[f"amplitude_{amplitude}"] = cv2.medianBlur(deviation, amplitude).astype(np.float32)
    right = cv2.Sobel(intensity, cv2.CV_32F, 1, 0)
    down = cv2.Sobel(intensity, cv2.CV_32F, 0, 1)
    steepness = cv2.magnitude(right, down)
    planes["steepness"] = steepness
    for radius in (2, 6, 14):
        planes[f"steepness_{radius}"] = _box_mean(steepness, radius)
    tensor = np.dstack([right * right, down * down, right * down])
    for radius in (3, 9):
        along, across, mixed = cv2.split(_box_mean(tensor, radius))
        planes[f"coherence_{radius}"] = cv2.magnitude(along - across, 2 * mixed) / (along + across + 1)
    return planes


def _whole_picture(sites: Planes, smoothed: Plane, rgb: Plane) -> Planes:
    """The picture's own colours, and how each place differs from them."""
    flat = smoothed.reshape(-1, smoothed.shape[-1])
    planes: Planes = {}
    for name, mean, spread in zip(_SMOOTHED, flat.mean(axis=0), flat.std(axis=0), strict=True):
        planes[f"picture_{name}"] = _number(mean)
        planes[f"picture_{name}_spread"] = _number(spread)
        planes[f"relative_{name}"] = sites[name] - mean
    low, middle, high = np.quantile(sites["intensity"], [0.05, 0.5, 0.95])
    planes |= {"picture_dark": _number(low), "picture_middle": _number(middle), "picture_light": _number(high)}
    light = np.mean((rgb.reshape(-1, 3) / 255) ** _SHADES_OF_GREY, axis=0) ** (1 / _SHADES_OF_GREY) + 1e-3
    balanced = np.log2((rgb[::SITE_STRIDE, ::SITE_STRIDE] / 255 + 0.01) / light)
    planes["balanced_rg"] = balanced[..., 0] - balanced[..., 1]
    planes["balanced_bg"] = balanced[..., 2] - balanced[..., 1]
    return planes


def _place() -> Planes:
    """How far down, how far from the middle column, how far from the border, as parts of the picture."""
    down, right = np.mgrid[:SITES, :SITES].astype(np.float32) / np.float32(SITES - 1)
    border = np.minimum(np.minimum(right, 1 - right), np.minimum(down, 1 - down))
    return {"down": down, "aside": np.abs(right - 0.5), "border": border}


def _own_colors(site_map: Plane, colors: Plane) -> Planes:
    """A picture's skin and remainder as this map sees them: log densities, their difference, distances, a share."""
    flat = colors.reshape(-1, 3).astype(np.float64)
    weights = site_map.reshape(-1).astype(np.float64)
    skin, skin_mean = _log_density(flat, weights**2)  # squared: the doubtful count less
    other, other_mean = _log_density(flat, (1 - weights) ** 2)
    planes = {"own_skin": skin, "own_other": other, "own_ratio": skin - other}
    for channel, name in enumerate(("intensity", "rg", "by")):
        planes[f"from_skin_{name}"] = flat[:, channel] - skin_mean[channel]
        planes[f"skin_{name}"] = skin_mean[channel : channel + 1]
        planes[f"contrast_{name}"] = skin_mean[channel : channel + 1] - other_mean[channel]
    number = _coarse_bins(flat)
    skin_counts = np.bincount(number, weights)
    share = (skin_counts + 1) / (np.bincount(number) + 2)
    planes["own_share"] = share[number]
    side = {1: 1, SITES * SITES: SITES}
    return {name: found.astype(np.float32).reshape(side[found.size], -1) for name, found in planes.items()}


def _log_density(colors: NDArray[np.float64], weights: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
    """Of a Gaussian with the weighted mean (3,) and covariance, up to a constant: (N,), and the mean."""
    total = weights.sum() + 1e-3
    mean = weights @ colors / total
    centred = colors - mean
    covariance = (weights[:, None] * centred).T @ centred / total + np.diag(_OWN_VARIANCE)
    distance = np.einsum("ni,ij,nj->n", centred, np.linalg.inv(covariance), centred)
    return -0.5 * (distance + np.linalg.slogdet(covariance)[1]), mean


def _coarse_bins(colors: NDArray[np.float64]) -> NDArray[np.intp]:
    """Bins (N,) of log-opponent colours, 8 of intensity and 16 of each difference where these are common."""
    start, width, last = np.array([0, -20, -110]), np.array([32, 10, 16]), np.array([7, 15, 15])
    steps = np.clip((colors - start) // width, 0, last).astype(np.intp)
    numbers: NDArray[np.intp] = (steps[:, 0] * 16 + steps[:, 1]) * 16 + steps[:, 2]
    return numbers


def _interpolated(plane: Plane, rows: Plane) -> Plane:
    """The plane at fractional rows, its first and last row repeated beyond them."""
    inside = np.clip(rows, 0, len(plane) - 1)
    above = np.minimum(inside.astype(np.intp), len(plane) - 2)
    part = (inside - above).astype(np.float32)[:, None]
    found: Plane = plane[above] * (1 - part) + plane[above + 1] * part
    return found


def _box_mean(plane: Plane, radius: int) -> Plane:
    side = 2 * radius + 1
    mean: Plane = cv2.blur(plane, (side, side), borderType=cv2.BORDER_REFLECT_101)
    return mean


def _number(value: float | np.floating) -> Plane:
    return np.full((1, 1), value, np.float32)
