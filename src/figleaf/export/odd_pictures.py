"""Encoded pictures of many sizes and kinds to compare files on: drawn scenes, the same bytes wherever Pillow is."""

import io
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from figleaf.data.decode import decode_resized
from figleaf.data.scenes import render

COUNT = 64
# Width and height; among them one pixel, one row, one column, and the neighbours of usual input sizes.
SIZES = (
    (1, 1), (1, 97), (113, 1), (2, 3), (7, 5), (31, 33), (63, 64), (65, 64), (64, 63), (97, 131),
    (127, 128), (129, 127), (199, 61), (61, 199), (223, 225), (240, 320), (321, 241), (333, 77), (500, 375), (641, 359),
)  # fmt: skip
_EXIF_ORIENTATION = 0x0112


def odd_pictures() -> list[tuple[str, bytes]]:
    """Names and encoded bytes of `COUNT` pictures: `SIZES` as PNG, JPEG and WebP in turn, then kinds of files in turn.

    The kinds are JPEG of the eight EXIF orientations, CMYK and grey JPEG, PNG that is grey, of 16 bits, with a palette,
    with transparency, lossless WebP, GIF, BMP and TIFF.
    """
    found = []
    for index, (width, height) in enumerate(SIZES):
        kind = ("png", "jpg", "webp")[index % 3]
        found.append((f"{width}x{height}.{kind}", _encoded(_scene(index).resize((width, height)), kind)))
    kinds = list(_KINDS)
    for index in range(len(SIZES), COUNT):
        name = kinds[(index - len(SIZES)) % len(kinds)]
        suffix, change, options = _KINDS[name]
        side = 60 + 3 * index
        picture = _scene(index).resize((side, side * 3 // 4 + index % 5))
        found.append((f"{name}-{index}.{suffix}", _encoded(change(picture), suffix, **options(name))))
    return found


@cache
def odd_pictures_at(size: int) -> NDArray[np.uint8]:
    """The same pictures decoded and resized by the project's rule: (`COUNT`, `size`, `size`, 3)."""
    return np.stack([decode_resized(content, size) for _, content in odd_pictures()])


def _scene(index: int) -> Image.Image:
    return Image.fromarray(render(0, index, 256).rgb_u8)


def _encoded(picture: Image.Image, suffix: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, {"jpg": "JPEG", "tif": "TIFF"}.get(suffix, suffix.upper()), **options)
    return stream.getvalue()


def _oriented(name: str) -> dict[str, Any]:
    exif = Image.Exif()
    exif[_EXIF_ORIENTATION] = int(name[-1])
    return {"exif": exif}


def _plain(_: str) -> dict[str, Any]:
    return {}


def _sixteen(picture: Image.Image) -> Image.Image:
    return Image.fromarray(np.asarray(picture.convert("L")).astype(np.uint16) * 257)


def _transparent(picture: Image.Image) -> Image.Image:
    alpha = Image.linear_gradient("L").resize(picture.size)
    picture.putalpha(alpha)
    return picture


# By name: the file's suffix, what is done to a picture of RGB, and how it is saved.
_KINDS: Mapping[str, tuple[str, Callable[[Image.Image], Image.Image], Callable[[str], dict[str, Any]]]] = {
    **{f"orientation{number}": ("jpg", lambda picture: picture, _oriented) for number in range(1, 9)},
    "cmyk": ("jpg", lambda picture: picture.convert("CMYK"), _plain),
    "grey_jpeg": ("jpg", lambda picture: picture.convert("L"), _plain),
    "grey": ("png", lambda picture: picture.convert("L"), _plain),
    "sixteen_bits": ("png", _sixteen, _plain),
    "palette": ("png", lambda picture: picture.quantize(64), _plain),
    "transparent": ("png", _transparent, _plain),
    "lossless": ("webp", lambda picture: picture, lambda _: {"lossless": True}),
    "gif": ("gif", lambda picture: picture, _plain),
    "bmp": ("bmp", lambda picture: picture, _plain),
    "tiff": ("tif", lambda picture: picture, _plain),
}
