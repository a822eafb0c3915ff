"""What takes pictures and learns from masks, under scikit-learn's checks; the reasons stand in `test_estimators`."""

import warnings

import pytest
from sklearn.base import BaseEstimator
from sklearn.utils.estimator_checks import check_estimator
from test_estimators import _FITTED, FITTED_SYSTEM, TRANSFORMER

from figleaf.skin.boosted_pixels import BoostedPixels
from figleaf.skin.color_histogram import ColorHistogram, ColorHistogramClassifier
from figleaf.skin.fitted_colors import FittedColorPixels, HistogramColors
from figleaf.skin.skin_map_classifier import SkinMapClassifier, SkinMapFeatures

# These ask a sparse matrix for its length before anything else, and so refuse it in scikit-learn's words.
DENSE_TRANSFORMER = {name: why for name, why in TRANSFORMER.items() if name != "check_estimator_sparse_tag"}
ON_PICTURES = [
    (BoostedPixels(), _FITTED),
    (FittedColorPixels(HistogramColors()), _FITTED),
    (ColorHistogram(), DENSE_TRANSFORMER),
    (SkinMapFeatures(BoostedPixels()), DENSE_TRANSFORMER),
    (ColorHistogramClassifier(), FITTED_SYSTEM),
    (SkinMapClassifier(BoostedPixels()), FITTED_SYSTEM),
]


@pytest.mark.parametrize(("estimator", "expected"), ON_PICTURES, ids=lambda value: type(value).__name__)
def test_what_takes_pictures_fails_the_checks_listed_and_no_others(
    estimator: BaseEstimator, expected: dict[str, str]
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = check_estimator(estimator, expected_failed_checks=expected)
    assert {result["check_name"] for result in results if result["status"] == "xfail"} == set(expected)
