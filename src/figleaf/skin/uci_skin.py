"""The UCI "Skin Segmentation" rows: labelled pixels without their pictures.

R. Bhatt & A. Dhall, "Skin Segmentation", UCI Machine Learning Repository (2012): 245,057 rows of B G R and a label, 1
for skin and 2 for anything else, tab-separated. The rows repeat 51,433 distinct colours, on average nearly five times
each: a split by row would put most test colours into the training data.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from figleaf.errors import FigleafError

_LABELS = (1, 2)  # skin, anything else


@dataclass(frozen=True, eq=False)
class LabelledColors:
    """Colours RGB (N, 3), uint8, and whether each is skin (N,)."""

    rgb_u8: NDArray[np.uint8]
    skin: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.skin)


def read_uci_skin(path: Path) -> LabelledColors:
    """The rows of `Skin_NonSkin.txt`, as RGB. Raises `FigleafError` for a file that is not of this kind."""
    try:
        rows = pd.read_csv(path, sep=r"\s+", header=None, dtype=np.int64).to_numpy()
    except FileNotFoundError:
        raise FigleafError(f"{path}: no such file; expected the UCI Skin Segmentation rows") from None
    except ValueError as error:  # pandas' own parser errors are of this kind
        raise FigleafError(f"{path}: expected four whole numbers a row, B G R label: {error}") from error
    if rows.shape[1] != 4 or not np.isin(rows[:, 3], _LABELS).all() or rows.min() < 0 or rows[:, :3].max() > 255:
        raise FigleafError(f"{path}: expected rows of B G R from 0 to 255 and a label, 1 for skin or 2")
    return LabelledColors(rows[:, 2::-1].astype(np.uint8), rows[:, 3] == _LABELS[0])


def split_by_color(
    colors: LabelledColors, *, test_fraction: float = 0.3, random_state: int = 0
) -> tuple[LabelledColors, LabelledColors]:
    """Train and test in which no colour is on both sides, whatever its labels; all rows are kept, in order.

    About `test_fraction` of the *distinct* colours go to test, hence about that part of the rows.
    """
    if not 0 < test_fraction < 1:
        raise FigleafError(f"test_fraction={test_fraction}: expected 0 < x < 1")
    distinct, number = np.unique(colors.rgb_u8, axis=0, return_inverse=True)
    if len(distinct) < 2:
        raise FigleafError(f"{len(distinct)} distinct colours cannot be split")
    count = min(max(1, round(test_fraction * len(distinct))), len(distinct) - 1)
    drawn = np.zeros(len(distinct), np.bool_)
    drawn[np.random.default_rng(random_state).permutation(len(distinct))[:count]] = True
    in_test = drawn[number]
    train, test = (LabelledColors(colors.rgb_u8[part], colors.skin[part]) for part in (~in_test, in_test))
    return train, test
