from typing import Any

import pytest
from sklearn.utils.estimator_checks import check_estimator

from figleaf.skin.boosted_pixels import BoostedPixels
from figleaf.skin.color_histogram import ColorHistogram, ColorHistogramClassifier
from figleaf.skin.fitted_colors import FittedColorPixels, HistogramColors
from figleaf.skin.scikit_checks import expected_failed_checks
from figleaf.skin.skin_map_classifier import SkinMapClassifier, SkinMapFeatures

ON_PICTURES = [
    BoostedPixels(),
    FittedColorPixels(HistogramColors()),
    ColorHistogram(),
    SkinMapFeatures(BoostedPixels()),
    ColorHistogramClassifier(),
    SkinMapClassifier(BoostedPixels()),
]


@pytest.mark.parametrize("estimator", ON_PICTURES, ids=lambda estimator: type(estimator).__name__)
def test_estimators_on_pictures_fail_the_checks_that_are_listed_and_no_other(estimator: Any) -> None:
    results = check_estimator(estimator, on_fail=None, on_skip=None)
    failed = {result["check_name"] for result in results if result["status"] == "failed"}
    assert failed == set(expected_failed_checks(estimator))
    passed = {result["check_name"] for result in results if result["status"] == "passed"}
    assert passed >= {"check_estimator_cloneable", "check_no_attributes_set_in_init", "check_estimators_unfitted"}
