"""Figures about the skin filter, for notebooks: pictures side by side, the plane of hue and saturation.

Built from matplotlib's objects, never through pyplot, whose open figures are a process's global state.
"""

from collections.abc import Mapping

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from figleaf.skin.filter import REDDISH, RELAXED, YELLOWISH, FilterSteps
from figleaf.skin.filter_drawings import BLUE, ORANGE
from figleaf.skin.pictures import RgbU8, checked_picture

_PANEL_INCHES = 2.4
_MOST_DOTS = 6000
_STYLE = {"font.family": "DejaVu Sans", "font.size": 9, "axes.titlesize": 9.5, "axes.titlelocation": "left"}


def pictures_figure(pictures: Mapping[str, RgbU8], columns: int = 4) -> Figure:
    """Pictures (H, W, 3) under their names, `columns` in a row, pixels left square."""
    columns = min(columns, len(pictures))
    rows = -(-len(pictures) // columns)
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(_PANEL_INCHES * columns, (_PANEL_INCHES + 0.25) * rows), layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes in grid:
            axes.set_axis_off()
        for axes, (name, picture) in zip(grid, pictures.items(), strict=False):
            axes.imshow(checked_picture(picture), interpolation="nearest")
            axes.set_title(name)
    return figure


def colors_figure(rgb_u8: RgbU8, steps: FilterSteps) -> Figure:
    """Where the pixels of a picture (H, W, 3) lie in hue and saturation, in their own colours, and the filter's boxes.

    Grey is at the bottom, at any hue. Of large pictures some thousand pixels are drawn, evenly spread.
    """
    stride = max(1, steps.tight.size // _MOST_DOTS)
    hue, saturation = (plane.ravel()[::stride] for plane in (steps.colors.hue_deg, steps.colors.saturation))
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(6.4, 3.6), layout="constrained")
        axes = figure.subplots()
        axes.scatter(hue, saturation, s=5, c=checked_picture(rgb_u8).reshape(-1, 3)[::stride] / 255, linewidths=0)
        boxes = {
            "reddish skin": (REDDISH, _hex(ORANGE), "-"),
            "yellowish skin": (YELLOWISH, _hex(BLUE), "-"),
            "last stage": (RELAXED, "black", ":"),
        }
        for name, (((left, right), (bottom, top)), edge, line) in boxes.items():
            size = (right - left, top - bottom)
            axes.add_patch(Rectangle((left, bottom), *size, fill=False, ec=edge, ls=line, lw=1.8, label=name))
        axes.set(xlim=(-180, 180), ylim=(0, 140), xlabel="hue in degrees (90 red, 180 yellow)", ylabel="saturation")
        axes.set_xticks(np.arange(-180, 181, 45))
        axes.legend(loc="upper left", frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def _hex(color: tuple[int, int, int]) -> str:
    return "#{:02X}{:02X}{:02X}".format(*color)
