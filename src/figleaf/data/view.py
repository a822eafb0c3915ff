"""The geometric half of augmentation: which part of an image is looked at, drawn apart from the looking.

Drawing and rendering are separate so that a mask can be looked at through the same view as its image (`label_check`).
OpenCV's kernels are called directly: albumentations' bookkeeping around them costs more than they do.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from figleaf.errors import FigleafError

UInt8Array = NDArray[np.uint8]

# Loader workers and ranks are the parallelism; OpenCV's own threads would fight them, and hang after a fork. At import,
# because a spawned worker runs nothing else of ours before the first sample.
cv2.setNumThreads(0)

_ASPECT_LIMIT = 4 / 3  # as in Inception and torchvision: width : height between 3/4 and 4/3
_AREA_FROM = 2.0  # a linear resize sees every source pixel up to this factor; INTER_AREA costs five times as much


@dataclass(frozen=True)
class View:
    """A box in source pixels, which may stand over the edge, and whether it is seen in a mirror."""

    top: int
    left: int
    height: int
    width: int
    mirrored: bool


@dataclass(frozen=True)
class Geometry:
    """Random views of an image, rendered at `size` x `size`.

    Args:
        size: side of what comes out, in pixels.
        translate: how far a view may be moved over the edge, as a fraction of `size`; what is missing is reflected.
        larger: how many times `size` the source is; a view of it spans 1 / `larger` of its sides, anywhere in it.
        reflect: mirror left and right with probability 1/2.
        scale_min: with a value below 1, views span a share of the source's area uniform in [`scale_min`, 1] (whatever
            `larger` is), their aspect ratio relative to the source's log-uniform in [3/4, 4/3] as far as it fits.

    Raises FigleafError for a value outside its range.
    """

    size: int
    translate: float = 0.0
    larger: float = 1.0
    reflect: bool = True
    scale_min: float = 1.0

    def __post_init__(self) -> None:
        for name, value, valid, expected in (
            ("translate", self.translate, 0 <= self.translate <= 0.5, "0 <= x <= 0.5"),
            ("larger", self.larger, 1 <= self.larger <= 4, "1 <= x <= 4"),
            ("scale_min", self.scale_min, 0 < self.scale_min <= 1, "0 < x <= 1 (1 is off)"),
        ):
            if not valid:
                raise FigleafError(f"augment.{name}={value}: expected {expected}")

    @property
    def source_size(self) -> int:
        """Side at which images should be cached for these views."""
        return round(self.size * self.larger)

    def draw(self, height: int, width: int, rng: Generator) -> View:
        """Draw a view of a source of that size. Takes five uniform numbers from `rng`, whatever the settings."""
        u_area, u_aspect, u_top, u_left, u_mirror = rng.random(5).tolist()
        view_height, view_width = round(height / self.larger), round(width / self.larger)
        pad_y, pad_x = round(self.translate * view_height), round(self.translate * view_width)
        if self.scale_min < 1:
            area = self.scale_min + (1 - self.scale_min) * u_area
            # torchvision redraws what does not fit, which favours small areas; here only those that fit are drawn.
            spread = min(math.log(_ASPECT_LIMIT), -math.log(area))
            stretch = math.exp((u_aspect - 0.5) * spread)  # square root of an aspect in [1/e^spread, e^spread]
            side = math.sqrt(area)
            view_height, view_width = max(1, round(height * side / stretch)), max(1, round(width * side * stretch))
        top = -pad_y + math.floor(u_top * (height - view_height + 2 * pad_y + 1))
        left = -pad_x + math.floor(u_left * (width - view_width + 2 * pad_x + 1))
        return View(top, left, view_height, view_width, self.reflect and u_mirror < 0.5)

    def render(self, image_u8: UInt8Array, view: View) -> UInt8Array:
        """Give a new contiguous array (size, size[, channels]): what `view` shows of an image (H, W[, channels])."""
        image = np.asarray(image_u8)  # slices of a memory map carry its class along, at microseconds each
        height, width = image.shape[:2]
        bottom, right = view.top + view.height, view.left + view.width
        over = (max(-view.top, 0), max(bottom - height, 0), max(-view.left, 0), max(right - width, 0))
        if any(over):
            image = cv2.copyMakeBorder(image, *over, cv2.BORDER_REFLECT_101)
        top, left = max(view.top, 0), max(view.left, 0)
        box = image[top : top + view.height, left : left + view.width]
        if box.shape[:2] != (self.size, self.size):
            shrinks = max(view.height, view.width) > _AREA_FROM * self.size
            box = cv2.resize(box, (self.size, self.size), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
        elif not view.mirrored:
            box = box.copy()  # never a window onto the cache
        return np.asarray(cv2.flip(box, 1) if view.mirrored else box, dtype=np.uint8)
