"""The VGG paper's evaluation methods: what they average, what they cost, and what they refuse."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy.special import softmax

from figleaf.data.cache import DecodedImages
from figleaf.data.manifest import Manifest
from figleaf.errors import FigleafError
from figleaf.evaluate.crops import CropScorer, MirrorScorer, crop_corners
from figleaf.evaluate.method import Method, predict_by
from figleaf.evaluate.posteriors import average, log_mean_posterior
from figleaf.evaluate.predictions import Predictions, predict
from figleaf.vgg.cost import gmacs
from figleaf.vgg.network import VGG
from figleaf.vgg.scorer import TorchScorer

Pictures = NDArray[np.uint8]
finite_logits = arrays(np.float32, (3, 4, 5), elements=st.floats(-50, 50, width=32))


class Corner:
    """A scorer for pictures of 4 pixels whose logits are the red and the green of the first pixel; counts its calls."""

    classes, unsafe, input_size = ("red", "green"), ("green",), 4

    def __init__(self) -> None:
        self.calls = 0

    def logits(self, rgb_u8: Pictures) -> NDArray[np.float32]:
        assert rgb_u8.shape[1:] == (4, 4, 3)
        self.calls += 1
        return rgb_u8[:, 0, 0, :2].astype(np.float32) / 64


def random_pictures(count: int, size: int, seed: int = 0) -> Pictures:
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def network(**changes: object) -> TorchScorer:
    torch.manual_seed(0)
    net = VGG(**{"depth": 11, "width": 0.05, "input_size": 64, **changes})
    torch.nn.init.normal_(net.layers["predictions"].weight, 0, 0.5)  # type: ignore[arg-type]
    return TorchScorer(net, ("safe", "unsafe"), ("unsafe",))


def posterior(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    return softmax(logits.astype(np.float64), axis=-1)


@given(finite_logits)
def test_an_averages_softmax_is_the_mean_of_the_softmaxes(logits: NDArray[np.float32]) -> None:
    np.testing.assert_allclose(posterior(log_mean_posterior(logits)), posterior(logits).mean(axis=0), atol=1e-6)


@given(finite_logits, st.permutations(range(3)))
def test_the_order_of_what_is_averaged_makes_no_difference(logits: NDArray[np.float32], order: list[int]) -> None:
    np.testing.assert_allclose(log_mean_posterior(logits[order]), log_mean_posterior(logits), atol=1e-5)


def test_a_view_without_an_answer_leaves_none() -> None:
    logits = np.zeros((2, 2, 3), np.float32)
    logits[1, 0, 2] = np.nan
    assert np.isnan(log_mean_posterior(logits)).any(axis=1).tolist() == [True, False]


@given(st.integers(1, 300), st.integers(1, 300), st.integers(2, 9))
def test_a_grid_of_crops_reaches_every_edge_and_leaves_no_gap_that_it_need_not(crop: int, room: int, k: int) -> None:
    corners = crop_corners(crop + room, crop, k)
    assert corners[0] == 0
    assert corners[-1] == room
    assert len(corners) == min(k, room + 1)
    steps = np.diff(corners)
    assert steps.max() - steps.min() <= 1
    assert steps.max() <= -(-room // (len(corners) - 1))


@given(st.integers(1, 300), st.integers(0, 300))
def test_a_single_crop_is_central_and_where_there_is_no_room_all_are_one(crop: int, room: int) -> None:
    assert crop_corners(crop + room, crop, 1) == (room // 2,)
    assert crop_corners(crop, crop, 5) == (0,)


def test_crops_are_those_of_the_grid() -> None:
    rgb_u8 = random_pictures(2, 8)
    scorer = CropScorer(Corner(), size=8, crops=3)
    expected = np.mean([posterior(rgb_u8[:, y, x, :2] / 64) for y in (0, 2, 4) for x in (0, 2, 4)], axis=0)
    np.testing.assert_allclose(posterior(scorer.logits(rgb_u8)), expected, atol=1e-6)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([Method("single", flip=True), Method("multi_crop", (1.5,), True, 3)]))
def test_with_flips_a_mirrored_picture_gets_the_same_answer(seed: int, method: Method) -> None:
    (scorer,) = method.scorers(Corner())
    rgb_u8 = random_pictures(3, scorer.input_size, seed)
    mirrored = scorer.logits(rgb_u8[:, :, ::-1])
    np.testing.assert_allclose(mirrored, scorer.logits(rgb_u8), atol=1e-6)


@pytest.mark.parametrize("name", ["single", "dense", "multi_crop", "dense_multi_crop"])
def test_so_it_does_from_a_network_and_without_flips_it_does_not(name: str) -> None:
    rgb_u8 = random_pictures(2, 64)
    plain, flipped = (Method(name, flip=flip, crops=2).scorers(network()) for flip in (False, True))
    for one, both in zip(plain, flipped, strict=True):
        np.testing.assert_allclose(both.logits(rgb_u8[:, :, ::-1]), both.logits(rgb_u8), atol=1e-6)
        assert np.abs(posterior(one.logits(rgb_u8[:, :, ::-1])) - posterior(one.logits(rgb_u8))).max() > 1e-4


@pytest.mark.parametrize("name", ["single", "dense", "multi_crop", "dense_multi_crop"])
@pytest.mark.parametrize("head", ["fc", "gap"])
def test_at_the_networks_size_every_method_gives_the_plain_networks_posterior(name: str, head: str) -> None:
    plain, rgb_u8 = network(head=head), random_pictures(4, 64)
    for crops in (1, 5):
        for scorer in Method(name, crops=crops).scorers(plain):
            assert scorer.input_size == 64
            np.testing.assert_allclose(
                posterior(scorer.logits(rgb_u8)), posterior(plain.logits(rgb_u8)), atol=1e-6, rtol=1e-5
            )


def test_a_single_view_is_the_scorer_itself() -> None:
    scorer = Corner()
    assert Method().scorers(scorer) == [scorer]


def grey_manifest(folder: Path, count: int) -> Manifest:
    table = pd.DataFrame(
        {
            "path": [f"{i}.png" for i in range(count)],
            "label": ["red", "green"] * (count // 2),
            "split": ["val"] * (count // 2) + ["test"] * (count // 2),
        }
    )
    return Manifest.from_table(table, root=folder, name="made up", classes=("red", "green"), unsafe=("green",))


def decoded(size: int, count: int, errors: dict[int, str] | None = None) -> DecodedImages:
    reasons = tuple((errors or {}).get(row) for row in range(count))
    return DecodedImages(random_pictures(count, size, seed=size), tuple(f"{i:064x}" for i in range(count)), reasons)


def test_several_scales_average_the_posteriors_of_each(tmp_path: Path) -> None:
    manifest, scorer = grey_manifest(tmp_path, 6), network()
    method = Method("dense_multi_crop", (1.0, 96), flip=True, crops=2)
    found = predict_by(method, scorer, manifest, lambda size: decoded(size, 6), data_hash="h")
    each = [one.logits(decoded(one.input_size, 6).pixels) for one in method.scorers(scorer)]
    assert len(each) == 4
    np.testing.assert_allclose(posterior(found.logits), np.mean(posterior(np.array(each)), axis=0), atol=1e-6)
    np.testing.assert_allclose(found.scores, posterior(found.logits)[:, 1], atol=1e-6)
    assert set(found.table["variant"]) == {"dense+crops2x2-q64+96-flip"}


def test_predictions_of_a_single_view_are_those_of_the_scorer(tmp_path: Path) -> None:
    manifest = grey_manifest(tmp_path, 6)
    found = predict_by(Method(), Corner(), manifest, lambda size: decoded(size, 6), data_hash="h", splits=["val"])
    expected = predict(Corner(), manifest, decoded(4, 6), data_hash="h", splits=["val"])
    pd.testing.assert_frame_equal(found.table, expected.table)


def test_a_picture_that_fails_at_one_scale_has_no_score_and_says_why(tmp_path: Path) -> None:
    manifest = grey_manifest(tmp_path, 4)
    found = predict_by(
        Method("multi_crop", (1.0, 2.0)),
        Corner(),
        manifest,
        lambda size: decoded(size, 4, {1: "truncated"} if size == 8 else {3: "gone"}),
        data_hash="h",
    )
    assert [found.table["error"][row] for row in (1, 3)] == ["truncated", "gone"]
    assert found.is_scored.tolist() == [True, False, True, False]
    assert np.isfinite(found.scores[[0, 2]]).all()


def test_predictions_of_other_samples_are_not_averaged(tmp_path: Path) -> None:
    manifest = grey_manifest(tmp_path, 4)
    answers = [predict(Corner(), manifest, decoded(4, 4), data_hash="h", splits=[s]) for s in ("val", "test")]
    with pytest.raises(ValueError, match="different samples"):
        average(answers)


def test_an_average_survives_being_written(tmp_path: Path) -> None:
    method = Method("multi_crop", (2.0,), flip=True)
    found = predict_by(method, Corner(), grey_manifest(tmp_path, 4), lambda size: decoded(size, 4), data_hash="h")
    again = Predictions.load(found.save(tmp_path / "p.parquet"))
    pd.testing.assert_frame_equal(again.table, found.table)


@pytest.mark.parametrize(
    ("method", "variant"),
    [
        (Method(), "clean"),
        (Method(flip=True), "single-flip"),
        (Method("dense", (1.5,)), "dense-q96"),
        (Method("multi_crop", (64, 1.125, 80), flip=True), "crops5x5-q64+72+80-flip"),
        (Method("dense_multi_crop", (96,), crops=3), "dense+crops3x3-q96"),
    ],
)
def test_the_variant_says_how_a_score_came_about(method: Method, variant: str) -> None:
    assert method.variant(64) == variant


def test_cost_counts_what_is_called() -> None:
    scorer = Corner()
    for one in Method("multi_crop", (1.0, 1.5, 2.0), flip=True, crops=4).scorers(scorer):
        one.logits(random_pictures(1, one.input_size))
    assert scorer.calls == 2 * (1 + 3 * 3 + 4 * 4)
    net = network().net
    assert Method().cost(net) == (1, gmacs(net))
    assert Method(flip=True).cost(net) == (2, 2 * gmacs(net))
    passes, macs = Method("multi_crop", (80,), flip=True).cost(net)
    assert (passes, macs) == (50, pytest.approx(50 * gmacs(net)))
    dense, both = (Method(name, (96,), flip=True).cost(net) for name in ("dense", "dense_multi_crop"))
    assert dense[0] == 2
    assert 2 * gmacs(net) * 2.2 < dense[1] < 2 * gmacs(net) * 4
    assert both == (52, pytest.approx(dense[1] + macs))


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"name": "tta"}, "method=tta: expected one of single, dense"),
        ({"crops": 0}, "crops=0: expected 1 to 15"),
        ({"crops": 16}, "crops=16"),
        ({"scales": ()}, r"scales=\[\]: expected at least one"),
        ({"scales": (1.0, 0.5)}, r"scales=\[1, 0.5\]: 0.5 is neither a factor"),
        ({"scales": (16,)}, "16 is neither"),
        ({"scales": (64.5,)}, "64.5 is neither"),
        ({"scales": (float("nan"),)}, "nan is neither"),
        ({"scales": (float("inf"),)}, "inf is neither"),
    ],
)
def test_a_value_out_of_range_is_named_with_what_is_expected(arguments: dict[str, object], told: str) -> None:
    with pytest.raises(FigleafError, match=told):
        Method(**arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("method", "told"),
    [
        (Method("dense", (1.0, 64)), "64 is there twice|1 is there twice"),
        (Method("multi_crop", (48,)), "48 is less than the 64 pixels"),
        (Method("single", (1.25,)), "method=single shows the network one picture of 64 pixels; use method=dense or"),
        (Method("dense", (80,)), "would not see the last 16"),
    ],
)
def test_scales_that_do_not_suit_the_network_are_refused(method: Method, told: str) -> None:
    with pytest.raises(FigleafError, match=told):
        method.scorers(network())


def test_dense_evaluation_of_what_has_a_fixed_size_is_refused_with_the_way_out() -> None:
    for name in ("dense", "dense_multi_crop"):
        with pytest.raises(FigleafError, match=r"takes pictures of 4 pixels.*use method=multi_crop, or give the run"):
            Method(name, (8.0,)).scorers(Corner())
    assert [type(s) for s in Method("multi_crop", (8.0,), flip=True).scorers(Corner())] == [MirrorScorer]
