"""A picture of what was found: the query and its answers side by side, heavily blurred unless asked for otherwise."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from figleaf.data.decode import RgbU8
from figleaf.errors import printable

_TILE, _CAPTION, _GAP, _COLUMNS = 160, 44, 10, 5
# What is left of a picture when it is blurred: the colours of 6 x 6 cells, run into each other.
_CELLS = 6
_INK, _PAPER, _NOTHING = (31, 41, 55), (255, 255, 255), (229, 231, 235)
_FONT_PX = 13


@dataclass(frozen=True, eq=False)
class Tile:
    """One picture (None: it cannot be read) with two lines below it."""

    rgb_u8: RgbU8 | None
    title: str
    detail: str


def draw_answers(query: Tile, answers: Sequence[Tile], *, show: bool = False) -> RgbU8:
    """The query and then its answers in rows of five, uint8 RGB; all pictures heavily blurred unless `show`.

    Captions are cut to the width of a tile, and control characters in them escaped.
    """
    tiles = [query, *answers]
    rows = -(-len(tiles) // _COLUMNS)
    columns = min(len(tiles), _COLUMNS)
    step_x, step_y = _TILE + _GAP, _TILE + _CAPTION + _GAP
    sheet = Image.new("RGB", (columns * step_x + _GAP, rows * step_y + _GAP), _PAPER)
    pen = ImageDraw.Draw(sheet)
    font = ImageFont.truetype(Path(mpl.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", _FONT_PX)
    for number, tile in enumerate(tiles):
        left, top = _GAP + number % _COLUMNS * step_x, _GAP + number // _COLUMNS * step_y
        pen.rectangle((left, top, left + _TILE - 1, top + _TILE - 1), fill=_NOTHING)
        if tile.rgb_u8 is not None:
            fitted = _fitted(tile.rgb_u8, show)
            sheet.paste(fitted, (left + (_TILE - fitted.width) // 2, top + (_TILE - fitted.height) // 2))
        if number == 0:
            pen.rectangle((left - 3, top - 3, left + _TILE + 2, top + _TILE + 2), outline=_INK, width=2)
        for line, text in enumerate((tile.title, tile.detail)):
            pen.text((left, top + _TILE + 5 + 18 * line), _cut(text, font), fill=_INK, font=font)
    return np.asarray(sheet)


def blurred(rgb_u8: RgbU8) -> RgbU8:
    """The picture as 6 x 6 cells run into each other, of the same size."""
    return np.asarray(_blurred(Image.fromarray(rgb_u8)))


def _fitted(rgb_u8: NDArray[np.uint8], show: bool) -> Image.Image:
    """The picture as large as a tile takes it, its proportions kept."""
    image = Image.fromarray(rgb_u8)
    scale = _TILE / max(image.size)
    width, height = (max(1, round(side * scale)) for side in image.size)
    fitted = image.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=2)
    return fitted if show else _blurred(fitted)


def _blurred(image: Image.Image) -> Image.Image:
    cells = image.resize((_CELLS, _CELLS), Image.Resampling.BOX)
    large = cells.resize(image.size, Image.Resampling.NEAREST)
    return large.filter(ImageFilter.GaussianBlur(max(image.size) / _CELLS / 2))


def _cut(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """The text on one line, its end replaced by dots where it is too wide."""
    # The font is drawn glyph by glyph: a name without end would be measured for ever.
    text = printable(text[:200])
    if font.getlength(text) <= _TILE:
        return text
    while text and font.getlength(f"{text}…") > _TILE:
        text = text[:-1]
    return f"{text}…"
