"""Every drawing of the skin lab by name, for one picture."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from figleaf.data.decode import resize
from figleaf.skin.area import FLECK_AREA
from figleaf.skin.boxes import Boxes
from figleaf.skin.crops import scheme_called
from figleaf.skin.filter import FleckFilter
from figleaf.skin.filter_drawings import draw_filter, draw_mask
from figleaf.skin.limb_drawings import draw_groups, draw_kinds
from figleaf.skin.limb_system import picture_groups
from figleaf.skin.pictures import RgbU8
from figleaf.skin.pixel_model import PixelModel
from figleaf.skin.region_drawings import (
    PALETTE,
    draw_graph,
    draw_outlines,
    draw_parts,
    draw_patches,
    draw_skin_regions,
)
from figleaf.skin.regions import Segmentation, segment, skin_regions


@dataclass(frozen=True)
class Look:
    """What was drawn of a picture, by name, and in numbers: its share of skin by a rule, and by the filter of 1996."""

    drawings: Mapping[str, RgbU8]
    skin_share: float
    filter_share: float

    @property
    def passes_filter(self) -> bool:
        """Whether the filter calls it a picture with much skin."""
        return self.filter_share >= FLECK_AREA


def fitting(rgb_u8: RgbU8, longer_side: int) -> RgbU8:
    """The picture (H, W, 3) with its aspect kept, its longer side so many pixels."""
    height, width = rgb_u8.shape[:2]
    factor = longer_side / max(height, width)
    return resize(rgb_u8, (max(1, round(height * factor)), max(1, round(width * factor))))


def draw(rgb_u8: RgbU8, names: Sequence[str], pixel_model: PixelModel, scheme: str = "skin_regions") -> Look:
    """The drawings called `names` of a picture (H, W, 3); `pixel_model` says what is skin."""
    mask = pixel_model.skin_mask(rgb_u8)
    steps = FleckFilter(mode="fast").steps(rgb_u8)
    segmentation: list[Segmentation] = []  # made once, and only where it is drawn

    def parts() -> Segmentation:
        if not segmentation:
            segmentation.append(segment(rgb_u8))
        return segmentation[0]

    ways: Mapping[str, Callable[[], RgbU8]] = {
        "mask": lambda: draw_mask(rgb_u8, mask),
        "filter": lambda: draw_filter(rgb_u8, steps),
        "superpixels": lambda: draw_patches(rgb_u8, parts().patches),
        "graph": lambda: draw_graph(rgb_u8, parts()),
        "cut": lambda: draw_parts(rgb_u8, parts().labels),
        "regions": lambda: draw_skin_regions(rgb_u8, skin_regions(rgb_u8, mask)),
        "outlines": lambda: draw_outlines(rgb_u8, skin_regions(rgb_u8, mask)),
        "limbs": lambda: draw_groups(rgb_u8, picture_groups(rgb_u8, mask)),
        "kinds": lambda: draw_kinds(rgb_u8, mask),
        "judged": lambda: draw_groups(rgb_u8, picture_groups(rgb_u8, mask, judged=True)),
        "verified": lambda: draw_groups(rgb_u8, picture_groups(rgb_u8, mask, verified=True)),
        "crops": lambda: draw_boxes(rgb_u8, scheme_called(scheme).boxes(rgb_u8)),
    }
    return Look({name: ways[name]() for name in names}, float(mask.mean()), float(steps.skin.mean()))


def draw_boxes(rgb_u8: RgbU8, boxes: Boxes) -> RgbU8:
    """The boxes over the picture, in the palette's colours in turn."""
    drawn = np.array(rgb_u8, order="C")
    width = max(1, round(min(drawn.shape[:2]) / 200))
    for index, (top, left, bottom, right) in enumerate(boxes.tolist()):
        color = PALETTE[index % len(PALETTE)].tolist()
        cv2.rectangle(drawn, (left, top), (right - 1, bottom - 1), color, width, cv2.LINE_AA)
    return drawn
