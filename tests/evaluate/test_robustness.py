"""Perturbations change what they say and nothing else; what they do to a system's answers is measured as it is."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from PIL import Image

from figleaf.data.cache import DecodedImages
from figleaf.data.decode import decode, resize
from figleaf.data.manifest import Manifest
from figleaf.evaluate.perturbations import PERTURBATIONS, blur, border, brightness, jpeg, mirror, rescaled, temperature
from figleaf.evaluate.predictions import Predictions, predict
from figleaf.evaluate.robustness import perturbed, robustness_metrics

Pictures = NDArray[np.uint8]
RNG = np.random.default_rng(0)
NOISE = RNG.integers(0, 256, (60, 40, 3), dtype=np.uint8)


class Redness:
    """A scorer whose logit of being unsafe is the mean of red minus that of blue, in units of 64."""

    classes, unsafe, input_size = ("safe", "unsafe"), ("unsafe",), 16

    def logits(self, rgb_u8: Pictures) -> NDArray[np.float32]:
        means = rgb_u8.astype(np.float64).mean(axis=(1, 2))
        return np.stack([np.zeros(len(means)), (means[:, 0] - means[:, 2]) / 64], axis=1).astype(np.float32)


@pytest.mark.parametrize("name", PERTURBATIONS)
@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (60, 40), (500, 3)])
def test_every_perturbation_gives_a_picture_and_leaves_the_given_one_alone(name: str, shape: tuple[int, int]) -> None:
    before = RNG.integers(0, 256, (*shape, 3), dtype=np.uint8)
    given = before.copy()
    found = PERTURBATIONS[name](given)
    assert found.dtype == np.uint8
    assert found.ndim == 3
    assert (given == before).all()
    assert (PERTURBATIONS[name](given) == found).all()


def test_perturbations_do_what_they_are_called() -> None:
    assert (mirror(mirror(NOISE)) == NOISE).all()
    grey = np.full((8, 8, 3), 100, np.uint8)
    assert brightness(1.3)(grey)[0, 0].tolist() == [130, 130, 130]
    assert brightness(3)(grey).max() == 255
    assert temperature(0.15)(grey)[0, 0].tolist() == [115, 100, 85]
    framed = border(0.1, 255)(NOISE)
    assert framed.shape == (72, 48, 3)
    assert (framed[6:-6, 4:-4] == NOISE).all()
    assert framed[0, 0, 0] == 255
    assert rescaled(0.5)(NOISE).shape == (30, 20, 3)
    assert set(rescaled(0.5, nearest=True)(NOISE).ravel()) <= set(NOISE.ravel())
    assert blur(0.05)(NOISE).std() < NOISE.std() / 2
    smooth = resize(RNG.integers(60, 200, (4, 4, 3), dtype=np.uint8), 64)
    errors = [np.abs(jpeg(quality)(smooth).astype(int) - smooth).mean() for quality in (90, 50, 10)]
    assert errors == sorted(errors)


@pytest.fixture
def data(tmp_path: Path) -> tuple[Manifest, DecodedImages]:
    """Reddish pictures called unsafe, bluish ones safe, and one that cannot be read."""
    rows = []
    for index in range(6):
        tint = np.array([150, 100, 60] if index % 2 else [95, 100, 110]) + RNG.integers(-9, 9, (30, 20, 3))
        Image.fromarray(tint.astype(np.uint8)).save(tmp_path / f"{index}.png")
        rows.append({"path": f"{index}.png", "label": "unsafe" if index % 2 else "safe", "split": "test"})
    (tmp_path / "broken.png").write_bytes(b"no picture")
    rows.append({"path": "broken.png", "label": "safe", "split": "test"})
    manifest = Manifest.from_table(pd.DataFrame(rows), root=tmp_path, name="tints")
    pixels = np.stack([resize(decode(tmp_path / f"{i}.png"), 16) for i in range(6)] + [np.zeros((16, 16, 3), np.uint8)])
    return manifest, DecodedImages(pixels, tuple("a" * 7), (*[None] * 6, "broken"))


@pytest.fixture
def found(data: tuple[Manifest, DecodedImages]) -> Predictions:
    manifest, pictures = data
    clean = predict(Redness(), manifest, pictures, data_hash="d")
    return perturbed(Redness(), manifest, clean, ["mirror", "warm", "black_border"])


def test_there_is_a_row_for_every_sample_and_variant_errors_included(found: Predictions) -> None:
    assert found.table.groupby("variant").size().to_dict() == dict.fromkeys(
        ["clean", "mirror", "warm", "black_border"], 7
    )
    broken = found.table[found.table["sample_id"] == "broken.png"]
    assert broken["error"].tolist() == ["broken"] * 4


def test_scores_are_those_of_the_perturbed_picture_before_it_is_resized(
    found: Predictions, data: tuple[Manifest, DecodedImages]
) -> None:
    manifest, _ = data
    warm = PERTURBATIONS["warm"](decode(manifest.paths[3]))
    expected = Redness().logits(resize(warm, 16)[None])[0]
    row = found.select(variant="warm").table.iloc[3]
    assert row["logits"] == pytest.approx(expected)


def test_drift_flips_and_auroc_are_those_of_hand_counting(found: Predictions) -> None:
    measured = robustness_metrics(found, 0.5)
    assert measured["robust/mirror/drift"] == pytest.approx(0, abs=1e-3)
    assert measured["robust/mirror/flips"] == 0
    clean, warm = (found.select(variant=name).scores[:6] for name in ("clean", "warm"))
    assert measured["robust/warm/drift"] == pytest.approx(np.abs(warm - clean).mean())
    assert measured["robust/warm/flips"] == np.mean((warm >= 0.5) != (clean >= 0.5))
    assert measured["robust/warm/flips"] > 0
    assert measured["robust/warm/auroc"] == 1.0
    drifts = [measured[f"robust/{name}/drift"] for name in ("mirror", "warm", "black_border")]
    assert measured["robust/worst/drift"] == max(drifts)
    assert measured["robust/mean/drift"] == pytest.approx(np.mean(drifts))
    assert measured["robust/worst/auroc"] == 1.0
