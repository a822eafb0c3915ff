"""The masks of a manifest, as what a network is taught: white where there is skin.

They are decoded once, squashed by the one resize rule as their pictures are, and kept as shares of 255, so that a view
of a mask is made as a view of its picture is. Only what comes out of the view is decided: a pixel is skin where at
least half of it is.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from figleaf.data.cache import DecodedImages, decode_files
from figleaf.data.decode import MAX_PIXELS, decode
from figleaf.data.manifest import Manifest
from figleaf.data.member import File

UInt8Array = NDArray[np.uint8]
BoolArray = NDArray[np.bool_]

HALF = 128  # of 255


def is_skin(share_u8: UInt8Array) -> BoolArray:
    """Which pixels are skin, of how much of each is, 0 to 255."""
    return share_u8 >= HALF


def read_mask(path: File, max_pixels: int = MAX_PIXELS) -> BoolArray:
    """A mask file at its own resolution, bool (H, W). Raises `DecodeError`."""
    return is_skin(decode(path, max_pixels=max_pixels)[..., 0])


@dataclass(frozen=True)
class Masks:
    """The masks of N samples at one size: `files` holds the M there are, `place` (N,) says where; -1: none."""

    files: DecodedImages
    place: NDArray[np.int64]

    @property
    def usable(self) -> BoolArray:
        """Which samples have a mask that can be read, bool (N,)."""
        found = self.place >= 0
        found[found] = self.files.usable[self.place[found]]
        return found

    def share_u8(self, row: int) -> UInt8Array:
        """How much of each pixel of sample `row` is skin, (S, S); the sample has a mask."""
        return np.asarray(self.files.pixels[self.place[row]])

    def is_skin(self, rows: NDArray[np.int64]) -> BoolArray:
        """Which pixels of the samples `rows` (n,) are skin, (n, S, S); all of them have a mask."""
        return is_skin(np.asarray(self.files.pixels[self.place[rows]]))


def decode_masks(manifest: Manifest, size: int, **cache: Any) -> Masks:
    """The manifest's masks at `size`, from the cache or decoded into it; `cache`: see `decode_files`."""
    paths = manifest.masks
    place = np.full(len(paths), -1, dtype=np.int64)
    there = [row for row, path in enumerate(paths) if path is not None]
    place[there] = np.arange(len(there))
    return Masks(decode_files([path for path in paths if path is not None], size, masks=True, **cache), place)
