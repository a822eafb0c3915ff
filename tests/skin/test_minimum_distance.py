"""The nearest mean, plain and in Mahalanobis distance."""

import warnings

import numpy as np
import pytest
from scipy.spatial.distance import mahalanobis
from sklearn.base import BaseEstimator
from sklearn.utils.estimator_checks import check_estimator

from figleaf.skin.minimum_distance import MahalanobisMean, NearestMean


@pytest.mark.parametrize("classifier", [NearestMean(), MahalanobisMean(), MahalanobisMean(0.0)], ids=repr)
def test_it_passes_scikit_learns_checks_unmodified(classifier: BaseEstimator) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check_estimator(classifier)


def test_without_shrinkage_the_distance_is_mahalanobiss() -> None:
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(200, 3)) @ rng.normal(size=(3, 3)), rng.integers(0, 2, 200)
    X[y == 1] += 2
    found = MahalanobisMean(0.0).fit(X, y).distances(X[:5])
    centred = X - np.stack([X[y == k].mean(axis=0) for k in (0, 1)])[y]
    inverse = np.linalg.inv(centred.T @ centred / len(X))
    expected = [[mahalanobis(row, X[y == k].mean(axis=0), inverse) for k in (0, 1)] for row in X[:5]]
    np.testing.assert_allclose(found, expected)


def test_correlated_classes_are_told_apart_by_mahalanobis_alone() -> None:
    rng = np.random.default_rng(0)
    common = rng.normal(0, 10, 400)
    y = np.arange(400) % 2
    X = np.column_stack([common, common + y + rng.normal(0, 0.1, 400)])
    assert MahalanobisMean(0.0).fit(X, y).score(X, y) > 0.99
    assert NearestMean().fit(X, y).score(X, y) < 0.7


def test_a_feature_that_never_changes_gives_no_nan() -> None:
    X, y = np.column_stack([np.ones(6), np.arange(6.0)]), np.array([0, 0, 0, 1, 1, 1])
    for classifier in (NearestMean(), MahalanobisMean()):
        assert np.isfinite(classifier.fit(X, y).predict_proba(X)).all()
