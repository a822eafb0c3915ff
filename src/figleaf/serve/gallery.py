"""The filters' pictures for the page: a PNG a layer, with the tiles side by side, and an index of them."""

import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from figleaf.explain.filters import FilterPictures

INDEX = "filters.json"
_COLUMNS = 6


def gallery_files(
    layers: Mapping[str, int], found: Sequence[FilterPictures], recipe: str, steps: int
) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The index, in plain JSON values, and the sprites by their paths in the page's folder.

    `layers` gives every layer that the page offers with its number of channels, `found` the pictures of some of them.
    """
    pictures = {one.layer: one for one in found}
    sprites: dict[str, bytes] = {}
    rows = []
    for name, channels in layers.items():
        row: dict[str, Any] = {"name": name, "channels": channels, "sprite": None, "filters": []}
        if (one := pictures.get(name)) is not None and one.filters:
            path = f"filters/{name}.png"
            sprites[path] = _png(_side_by_side(one.pictures))
            row |= {"sprite": path, "tile": one.pictures.shape[1], "columns": _COLUMNS, "filters": _filters(one)}
        rows.append(row)
    return {"recipe": recipe, "steps": steps, "layers": rows}, sprites


def _filters(found: FilterPictures) -> list[dict[str, Any]]:
    rows = zip(found.filters, found.response.tolist(), found.dead.tolist(), strict=True)
    return [{"index": index, "response": round(response, 4), "dead": dead} for index, response, dead in rows]


def _side_by_side(pictures: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(F, S, S, 3) in rows of six: (rows * S, 6 * S, 3)."""
    count, side = pictures.shape[:2]
    rows = math.ceil(count / _COLUMNS)
    sheet = np.zeros((rows * _COLUMNS, side, side, 3), np.uint8)
    sheet[:count] = pictures
    return (
        sheet.reshape(rows, _COLUMNS, side, side, 3).transpose(0, 2, 1, 3, 4).reshape(rows * side, _COLUMNS * side, 3)
    )


def _png(rgb_u8: NDArray[np.uint8]) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(rgb_u8).save(stream, format="PNG", optimize=True)
    return stream.getvalue()
