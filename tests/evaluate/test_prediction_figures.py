import warnings

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from made_predictions import made, noisy
from PIL import Image

from figleaf.errors import FigleafError
from figleaf.evaluate.figures import learning_curves, reliability, roc_pr, save_figure

ROWS = pd.DataFrame(
    [(step, "train/loss", 1 / (step + 1)) for step in range(20)]
    + [(step, "epoch/val_loss", 0.5) for step in (9, 19)]
    + [(9, "epoch/val_auroc", 0.9), (19, "epoch/val_auroc", 0.8)],
    columns=["step", "key", "value"],
)


def texts(figure):
    found = [text.get_text() for text in figure.texts]
    for axes in figure.axes:
        found += [axes.get_title(loc="left"), *(text.get_text() for text in axes.texts)]
    return "\n".join(found)


@pytest.mark.parametrize("draw", [lambda: roc_pr(noisy(), 0.5), lambda: reliability(noisy())])
def test_a_figure_says_on_what_data_of_what_size_and_prevalence_it_stands(draw):
    p = noisy()
    said = texts(draw())
    assert "made-up data, test" in said
    assert "684 images in 135 groups" in said
    assert f"{100 * p.is_unsafe.mean():.1f} % unsafe" in said


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_equal_figures_have_equal_bytes_without_date_or_version(tmp_path, suffix):
    draws = {
        "roc": lambda: roc_pr(noisy(), 0.5),
        "rel": lambda: reliability(noisy()),
        "curves": lambda: learning_curves(ROWS),
    }
    for name, draw in draws.items():
        first, second = (save_figure(draw(), tmp_path / f"{name}{i}{suffix}").read_bytes() for i in range(2))
        assert first == second
        assert mpl.__version__.encode() not in first
        assert b"<dc:date>" not in first


def test_a_saved_figure_is_a_picture_with_something_on_it(tmp_path):
    with Image.open(save_figure(roc_pr(noisy(), 0.5), tmp_path / "roc.png")) as picture:
        assert picture.width > 1000
        assert len(np.unique(np.asarray(picture.convert("L")))) > 20


def test_drawing_leaves_matplotlibs_settings_alone(tmp_path):
    before = dict(mpl.rcParams)
    save_figure(reliability(noisy()), tmp_path / "r.svg")
    assert dict(mpl.rcParams) == before


def test_the_curve_drawn_is_the_one_measured():
    p = noisy()
    curve = roc_pr(p).axes[0].lines[1].get_xydata()
    area = np.trapezoid(curve[:, 1], curve[:, 0])
    assert f"AUROC {area:.3f}" in texts(roc_pr(p))


def test_extreme_and_tiny_predictions_are_drawn_without_a_warning(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for p in (made([0.5, 0.5], [False, True]), made([0.001, 0.999], [False, True]), noisy(2000)):
            save_figure(roc_pr(p, 0.9995), tmp_path / "roc.png")
            save_figure(reliability(p), tmp_path / "rel.png")
        save_figure(reliability(made([0.1, 0.2], [False, False])), tmp_path / "rel.png")


def test_one_label_has_no_roc_curve():
    with pytest.raises(FigleafError, match="both labels"):
        roc_pr(made([0.2, 0.8], [True, True]))


def test_the_best_validation_value_is_marked_and_missing_panels_are_left_out():
    figure = learning_curves(ROWS, "vgg16_bn")
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["loss", "validation"]
    assert "0.900" in texts(figure)
    assert "vgg16_bn" in texts(figure)


def test_learning_curves_read_a_mapping_as_they_read_a_table():
    pairs = {key: list(zip(part["step"], part["value"], strict=True)) for key, part in ROWS.groupby("key")}
    for one, other in zip(learning_curves(ROWS).axes, learning_curves(pairs).axes, strict=True):
        for line, same in zip(one.lines, other.lines, strict=True):
            np.testing.assert_array_equal(line.get_xydata(), same.get_xydata())


def test_without_any_known_key_there_is_nothing_to_draw():
    with pytest.raises(FigleafError, match="train/loss"):
        learning_curves({"gpu/temperature": [(0, 40.0)]})


def test_other_formats_are_refused_by_name(tmp_path):
    with pytest.raises(FigleafError, match=r"\.png or \.svg"):
        save_figure(reliability(noisy()), tmp_path / "r.bmp")
