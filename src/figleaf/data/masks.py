"""Pixel masks beside their pictures: decoded once by the pictures' own rule, then held against one half."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from figleaf.data.cache import DecodedImages, decode_cached
from figleaf.data.decode import MAX_PIXELS
from figleaf.data.manifest import Manifest

BoolArray = NDArray[np.bool_]
_HALF = 128  # of a mask of 0 and 255, resized with antialiasing: at least half of the pixel's area is masked


@dataclass(frozen=True, eq=False)
class Masks:
    """The masks of a manifest's N rows at S x S, those that there are.

    `row_of` (N,) says where in `decoded` a row's mask is, -1 for none.
    """

    decoded: DecodedImages
    row_of: NDArray[np.int64]

    @property
    def known(self) -> BoolArray:
        """Which rows have a mask that could be read, bool (N,)."""
        has = self.row_of >= 0
        has[has] = self.decoded.usable[self.row_of[has]]
        return has

    def of(self, rows: Iterable[int]) -> list[BoolArray | None]:
        """The masks (S, S) of `rows`, True where the picture is skin; None where there is none."""
        known = self.known
        return [self.decoded.pixels[self.row_of[row], ..., 0] >= _HALF if known[row] else None for row in rows]


def decode_masks(
    manifest: Manifest, size: int, *, folder: Path, max_pixels: int = MAX_PIXELS, limit_bytes: int
) -> Masks:
    """The manifest's masks at `size`, from the cache in `folder` or decoded into it; see `decode_cached`."""
    has = (manifest.table["mask"] != "").to_numpy(dtype=bool)
    row_of = np.full(len(manifest), -1, dtype=np.int64)
    row_of[has] = np.arange(int(has.sum()))
    files = manifest.with_table(manifest.table[has].assign(path=manifest.table["mask"][has]))
    return Masks(decode_cached(files, size, folder=folder, max_pixels=max_pixels, limit_bytes=limit_bytes), row_of)
