"""The grouper as a system: a picture with enough skin is unsafe only where its skin forms a structure of limbs.

As in the paper the area comes first and the grouper has the last word: "a sufficiently complex structure was found".
"""

from figleaf.errors import FigleafError
from figleaf.skin.area import FLECK_AREA
from figleaf.skin.image_system import MaskRule, beyond
from figleaf.skin.limb_groups import Groups, limb_groups
from figleaf.skin.pictures import RgbU8, checked_picture
from figleaf.skin.pixel_model import PixelModel

STRUCTURES = {"segment": 1, "limb": 2, "girdle": 3, "both": 4}
_STEP_LOGIT = 2.0  # between the bounds that two levels of missing structure set


class LimbRule(MaskRule):
    """Unsafe when the share of skin reaches `area` in (0, 1) and the skin holds at least the named `structure`.

    "segment": one ribbon; "limb": two that meet; "girdle": two limbs side by side, or a trunk with a thigh; "both" of
    these. The score is the margin of the area; where structure is missing at most -1, and 2 less a further level,
    so that it is at least 0 exactly where both hold.
    """

    def __init__(self, pixel_model: PixelModel, area: float = FLECK_AREA, structure: str = "girdle") -> None:
        self.pixel_model = pixel_model
        self.area = area
        self.structure = structure

    def groups(self, rgb_u8: RgbU8) -> Groups:
        """What was found in a picture (H, W, 3)."""
        return limb_groups(self.pixel_model_.skin_mask(checked_picture(rgb_u8)))

    def margin(self, rgb_u8: RgbU8) -> float:
        """The smaller of the margins of area and structure."""
        if not 0 < self.area < 1:
            raise FigleafError(f"area={self.area}: expected 0 < x < 1")
        if self.structure not in STRUCTURES:
            raise FigleafError(f"structure={self.structure}: expected {', '.join(STRUCTURES)}")
        mask = self.pixel_model_.skin_mask(checked_picture(rgb_u8))
        levels = limb_groups(mask).complexity - STRUCTURES[self.structure]
        share = beyond(float(mask.mean()), self.area)
        return min(share, _STEP_LOGIT * (levels + 0.5)) if levels < 0 else share
