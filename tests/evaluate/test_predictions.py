import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made_predictions import made, noisy
from scipy.special import softmax

from figleaf.data.cache import DecodedImages
from figleaf.data.manifest import Manifest
from figleaf.errors import FigleafError
from figleaf.evaluate.predictions import NOT_FINITE, Predictions, predict, prob_unsafe

FIVE = ("drawing", "hentai", "neutral", "porn", "sexy")
FIVE_UNSAFE = ("hentai", "porn", "sexy")


class Brightness:
    """A scorer that calls bright pictures unsafe; remembers the sizes of its batches."""

    def __init__(self, classes=("dark", "bright"), unsafe=("bright",), input_size=4):
        self.classes, self.unsafe, self.input_size = classes, unsafe, input_size
        self.batches = []

    def logits(self, rgb_u8):
        self.batches.append(len(rgb_u8))
        bright = rgb_u8.mean(axis=(1, 2, 3)) / 32 - 4
        return np.stack([np.zeros(len(rgb_u8)), bright], axis=1).astype(np.float32)


def grey_manifest(tmp_path, values, *, classes=("dark", "bright"), unsafe=("bright",), errors=None):
    n = len(values)
    table = pd.DataFrame(
        {
            "path": [f"{i}.png" for i in range(n)],
            "label": [classes[int(value > 128)] for value in values],
            "split": ["val" if i % 2 else "test" for i in range(n)],
        }
    )
    manifest = Manifest.from_table(table, root=tmp_path, name="grey pictures", classes=classes, unsafe=unsafe)
    pixels = np.zeros((n, 4, 4, 3), np.uint8) + np.array(values, np.uint8)[:, None, None, None]
    hashes = tuple(f"{i:064x}" for i in range(n))
    return manifest, DecodedImages(pixels, hashes, tuple(errors or [None] * n))


def test_the_score_is_the_softmax_mass_on_the_unsafe_classes_in_double_precision():
    logits = np.random.default_rng(0).normal(scale=8, size=(50, 5)).astype(np.float32)
    expected = softmax(logits.astype(np.float64), axis=1)[:, [1, 3, 4]].sum(axis=1)
    np.testing.assert_allclose(prob_unsafe(logits, FIVE, FIVE_UNSAFE), expected, rtol=1e-12)


def test_huge_logits_neither_overflow_nor_leave_the_unit_interval():
    scores = prob_unsafe(np.array([[3e38, -3e38], [-3e38, 3e38], [0, 40]], np.float32), ("safe", "nsfw"), ("nsfw",))
    assert scores[0] == 0
    assert scores[1] == 1
    assert (scores <= 1).all()


def test_saved_predictions_come_back_equal(tmp_path):
    before = made([0.1, 0.9, 0.5], [False, True, True], errors=[None, "truncated", None])
    after = Predictions.load(before.save(tmp_path / "p.parquet"))
    pd.testing.assert_frame_equal(after.table, before.table)
    fields = ("classes", "unsafe", "data_name", "data_hash")
    assert [getattr(after, name) for name in fields] == [getattr(before, name) for name in fields]
    np.testing.assert_array_equal(after.logits, before.logits)


def test_equal_predictions_are_saved_as_equal_bytes(tmp_path):
    first, second = (noisy().save(tmp_path / name).read_bytes() for name in ("a.parquet", "b.parquet"))
    assert first == second
    again = Predictions.load(tmp_path / "a.parquet").save(tmp_path / "c.parquet")
    assert again.read_bytes() == first


def test_the_file_is_plain_parquet_that_says_what_it_is_about(tmp_path):
    read = pq.read_table(noisy().save(tmp_path / "p.parquet"))
    assert read.schema.field("logits").type == pa.list_(pa.float32())
    assert read.schema.metadata[b"unsafe"] == b'["nude"]'
    assert b"pandas" not in read.schema.metadata


def test_a_file_of_something_else_is_refused_by_name(tmp_path):
    with pytest.raises(FigleafError, match=r"missing\.parquet"):
        Predictions.load(tmp_path / "missing.parquet")
    (tmp_path / "text.parquet").write_text("not parquet at all")
    with pytest.raises(FigleafError, match=r"text\.parquet"):
        Predictions.load(tmp_path / "text.parquet")
    pq.write_table(pa.table({"score": [0.5]}), tmp_path / "other.parquet")
    with pytest.raises(FigleafError, match="lacks sample_id"):
        Predictions.load(tmp_path / "other.parquet")


def test_a_row_in_error_has_neither_logits_nor_score(tmp_path):
    p = made([0.2, 0.8], [False, True], errors=["empty file", None])
    assert p.table["logits"].isna().tolist() == [True, False]
    assert np.isnan(p.scores[0])
    assert np.isnan(p.logits[0]).all()
    assert len(p.scored) == 1


def test_logits_that_are_not_finite_become_an_error_not_a_score():
    p = made([0.2, 0.8], [False, True])
    diverged = Predictions.from_logits(
        p.table,
        np.array([[np.nan, 0.0], [0.0, 1.0]]),
        classes=p.classes,
        unsafe=p.unsafe,
        data_name="d",
        data_hash="h",
    )
    assert diverged.table["error"][0] == NOT_FINITE
    assert diverged.is_scored.tolist() == [False, True]


def test_without_unsafe_classes_the_score_is_missing_and_that_is_no_error(tmp_path):
    p = made([0.2, 0.8], [False, True])
    plain = Predictions.from_logits(p.table, p.logits, classes=p.classes, unsafe=(), data_name="d", data_hash="h")
    plain = Predictions.load(plain.save(tmp_path / "p.parquet"))
    assert np.isnan(plain.scores).all()
    assert plain.is_scored.all()
    assert not plain.has_both_labels


def test_every_manifest_row_gets_a_prediction_bad_pictures_included(tmp_path):
    manifest, decoded = grey_manifest(tmp_path, [0, 255, 10, 240, 128], errors=[None, None, "truncated", None, None])
    scorer = Brightness()
    p = predict(scorer, manifest, decoded, data_hash="h", batch_size=3)
    assert p.table["sample_id"].tolist() == manifest.table["path"].tolist()
    assert p.table["content_sha256"].tolist() == list(decoded.content_sha256)
    assert p.table["error"].tolist()[2] == "truncated"
    assert scorer.batches == [3, 1]
    assert p.data_name == "grey pictures"
    np.testing.assert_array_equal(p.scores[[0, 1, 3, 4]] > 0.5, [False, True, True, False])


def test_scores_do_not_depend_on_the_batch_size_or_on_what_else_is_scored(tmp_path):
    manifest, decoded = grey_manifest(tmp_path, list(range(0, 250, 10)))
    whole = predict(Brightness(), manifest, decoded, data_hash="h")
    for size in (1, 7):
        other = predict(Brightness(), manifest, decoded, data_hash="h", batch_size=size)
        pd.testing.assert_frame_equal(other.table, whole.table)
    only_val = predict(Brightness(), manifest, decoded, data_hash="h", splits=["val"])
    pd.testing.assert_frame_equal(only_val.table, whole.select(split="val").table)


def test_a_network_is_measured_on_data_whose_classes_have_other_names(tmp_path):
    manifest, decoded = grey_manifest(tmp_path, [0, 255], classes=("sfw", "nsfw"), unsafe=("nsfw",))
    p = predict(Brightness(), manifest, decoded, data_hash="h")
    assert p.classes == ("dark", "bright")
    assert p.is_unsafe.tolist() == [False, True]
    assert (p.scores > 0.5).tolist() == [False, True]


def test_a_class_that_is_unsafe_only_to_the_network_is_refused(tmp_path):
    manifest, decoded = grey_manifest(tmp_path, [0, 255], unsafe=("dark",))
    with pytest.raises(FigleafError, match=r"data\.unsafe=\['dark'\].*pass data\.unsafe=\['bright'\]"):
        predict(Brightness(), manifest, decoded, data_hash="h")


def test_pictures_of_another_size_than_the_scorer_takes_are_a_mistake(tmp_path):
    manifest, decoded = grey_manifest(tmp_path, [0, 255])
    with pytest.raises(ValueError, match="expected"):
        predict(Brightness(input_size=8), manifest, decoded, data_hash="h")


def test_measures_of_the_answers_are_kept_and_never_of_one_in_error(tmp_path):
    plain = made([0.2, 0.6, 0.7], [False, True, True])
    found = Predictions.from_logits(
        plain.table,
        plain.logits,
        classes=plain.classes,
        unsafe=plain.unsafe,
        data_name="made-up data",
        data_hash="0" * 64,
        errors=[None, None, "truncated"],
        measures={"label_map": np.array([0.5, np.nan, 0.75])},
    )
    back = Predictions.load(found.save(tmp_path / "p.parquet"))
    assert (plain.measures, back.measures) == ((), ("label_map",))
    np.testing.assert_array_equal(back.table["label_map"], [0.5, np.nan, np.nan])
    assert back.select(split="test").measures == ("label_map",)
