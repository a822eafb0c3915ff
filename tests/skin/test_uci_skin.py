from pathlib import Path

import numpy as np
import pytest

from figleaf.errors import FigleafError
from figleaf.skin.uci_skin import LabelledColors, read_uci_skin, split_by_color


def many_repeats() -> LabelledColors:
    rng = np.random.default_rng(0)
    distinct = rng.integers(0, 256, (400, 3), dtype=np.uint8)
    rows = rng.integers(0, 400, 3000)
    return LabelledColors(distinct[rows], rng.random(3000) < 0.3)


def as_set(colors: LabelledColors) -> set[tuple[int, ...]]:
    return {tuple(color) for color in colors.rgb_u8.tolist()}


@pytest.mark.parametrize("random_state", [0, 1])
def test_no_color_is_on_both_sides_and_no_row_is_lost(random_state: int) -> None:
    colors = many_repeats()
    train, test = split_by_color(colors, test_fraction=0.25, random_state=random_state)
    assert not as_set(train) & as_set(test)
    assert len(train) + len(test) == len(colors)
    assert len(as_set(test)) == round(0.25 * len(as_set(colors)))
    assert train.skin.sum() + test.skin.sum() == colors.skin.sum()


def test_the_split_is_a_function_of_the_seed() -> None:
    colors = many_repeats()
    first, second, other = (split_by_color(colors, random_state=seed)[1].rgb_u8 for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, second)
    assert first.shape != other.shape or (first != other).any()


def test_rows_are_read_as_rgb_and_one_is_skin(tmp_path: Path) -> None:
    file = tmp_path / "rows.txt"
    file.write_text("74\t85\t123\t1\n10\t20\t30\t2\n")
    colors = read_uci_skin(file)
    assert colors.rgb_u8.tolist() == [[123, 85, 74], [30, 20, 10]]
    assert colors.skin.tolist() == [True, False]


@pytest.mark.parametrize("text", ["", "1\t2\t3\n", "1 2 3 4\n", "1 2 300 1\n", "-1 2 3 1\n", "a b c d\n"])
def test_another_file_is_refused_by_name(tmp_path: Path, text: str) -> None:
    file = tmp_path / "rows.txt"
    file.write_text(text)
    with pytest.raises(FigleafError, match=r"rows\.txt"):
        read_uci_skin(file)
    with pytest.raises(FigleafError, match="no such file"):
        read_uci_skin(tmp_path / "none.txt")


def test_a_single_color_or_a_wrong_share_cannot_be_split() -> None:
    one = LabelledColors(np.zeros((5, 3), np.uint8), np.zeros(5, np.bool_))
    with pytest.raises(FigleafError, match="1 distinct"):
        split_by_color(one)
    with pytest.raises(FigleafError, match="test_fraction=1"):
        split_by_color(many_repeats(), test_fraction=1.0)
