"""A scorer shown boxes finds what is small in a picture, and says where."""

import numpy as np
import pytest
from numpy.typing import NDArray

from figleaf.errors import FigleafError
from figleaf.evaluate.box_scorer import BoxScorer
from figleaf.evaluate.method import Method
from figleaf.skin.crops import SCHEMES, RegionProposals, SkinRegions, SlidingWindows, scheme_called

SKIN, SKY = np.array([205, 150, 120], np.uint8), np.array([90, 140, 210], np.uint8)
CORNER = (slice(70, 110), slice(20, 60))


class SkinShare:
    """P(unsafe) is the share of the picture that has the skin's colour; it knows three classes."""

    classes, unsafe, input_size = ("safe", "bare", "other"), ("bare",), 32

    def logits(self, rgb_u8: NDArray[np.uint8]) -> NDArray[np.float32]:
        assert rgb_u8.shape[1:] == (32, 32, 3)
        share = np.clip((np.abs(rgb_u8.astype(int) - SKIN).max(axis=3) < 40).mean(axis=(1, 2)), 1e-6, 1 - 1e-6)
        return np.log(np.stack([1 - share, share, np.full(len(share), 1e-12)], axis=1)).astype(np.float32)


@pytest.fixture
def picture() -> NDArray[np.uint8]:
    """A patch of skin in a corner before blue with a little noise."""
    made = np.tile(SKY, (128, 128, 1)).astype(int)
    made[CORNER] = SKIN
    return np.clip(made + np.random.default_rng(0).integers(-4, 5, made.shape), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("name", SCHEMES)
def test_every_scheme_begins_with_the_whole_picture_and_finds_the_patch(name: str, picture: NDArray[np.uint8]) -> None:
    boxes = scheme_called(name).boxes(picture)
    assert boxes[0].tolist() == [0, 0, 128, 128]
    whole = float(np.exp(BoxScorer(SkinShare(), Single(), 128).logits(picture[None]))[0, 1])
    best = float(np.exp(BoxScorer(SkinShare(), scheme_called(name), 128).logits(picture[None]))[0, 1])
    assert whole == pytest.approx(40 * 40 / 128**2, abs=0.02)
    assert best > 2.5 * whole


class Single:
    def boxes(self, rgb_u8: NDArray[np.uint8]) -> NDArray[np.int64]:
        return np.array([[0, 0, *rgb_u8.shape[:2]]])


def test_the_answer_is_safe_or_unsafe_and_sums_to_one(picture: NDArray[np.uint8]) -> None:
    scorer = BoxScorer(SkinShare(), SlidingWindows(), 128, "noisy_or")
    assert (scorer.classes, scorer.unsafe) == (("safe", "unsafe"), ("unsafe",))
    assert np.exp(scorer.logits(picture[None])).sum() == pytest.approx(1)


def test_where_names_the_patch_once(picture: NDArray[np.uint8]) -> None:
    boxes, probabilities = BoxScorer(SkinShare(), SkinRegions(margin=0.0), 128).where(picture)
    assert len(boxes) == 1
    assert boxes[0] == pytest.approx([70, 20, 110, 60], abs=2)
    assert probabilities[0] > 0.9


def test_proposals_come_close_to_the_patch(picture: NDArray[np.uint8]) -> None:
    from figleaf.skin.boxes import overlaps

    found = RegionProposals(most=50).boxes(picture)
    assert overlaps(np.array([[70, 20, 110, 60]]), found).max() > 0.8


@pytest.mark.parametrize("name", SCHEMES)
@pytest.mark.parametrize("shape", [(1, 1), (1, 30), (30, 1), (3, 400)])
def test_degenerate_pictures_have_boxes(name: str, shape: tuple[int, int]) -> None:
    for value in (0, 128, 255):
        boxes = scheme_called(name).boxes(np.full((*shape, 3), value, np.uint8))
        assert boxes[0].tolist() == [0, 0, *shape]
        assert ((boxes[:, 2:] - boxes[:, :2]) >= 1).all()


def test_methods_of_boxes_are_methods_like_any_other(picture: NDArray[np.uint8]) -> None:
    method = Method("windows", (4.0,), aggregate="top3")
    assert method.variant(32) == "windows-top3-q128"
    (scorer,) = method.scorers(SkinShare())
    assert scorer.input_size == 128
    with pytest.raises(FigleafError, match="aggregate=median: expected one of max"):
        Method("windows", aggregate="median")
    with pytest.raises(
        FigleafError, match="aggregate=mean: method=single shows no boxes; it is for windows, proposals"
    ):
        Method(aggregate="mean")
    nothing = SkinShare()
    nothing.unsafe = ()  # type: ignore[assignment]
    with pytest.raises(FigleafError, match="no class of this scorer is"):
        method.scorers(nothing)
