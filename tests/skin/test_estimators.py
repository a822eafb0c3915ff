"""scikit-learn's own checks: unmodified for rules on colours; expected failures by name for what takes pictures."""

import warnings

import pytest
from sklearn.base import BaseEstimator, clone
from sklearn.utils.estimator_checks import check_estimator

from figleaf.skin.apapid import ApApidRules
from figleaf.skin.area import AreaRule
from figleaf.skin.filter import FleckFilter
from figleaf.skin.limb_system import LimbDistance, LimbRule
from figleaf.skin.pixel_model import RulePixels
from figleaf.skin.pixel_rules import ChaiNganRule, HsvRule, KovacRule, NormalisedRgbRule
from figleaf.skin.published_mixture import JonesRehgMixture
from figleaf.skin.skin_features import SkinFeatures, SkinFeaturesClassifier

COLOR_RULES = [
    KovacRule(),
    KovacRule("flash"),
    KovacRule("either"),
    ChaiNganRule(),
    ChaiNganRule("full"),
    HsvRule(),
    NormalisedRgbRule(),
    JonesRehgMixture(),
]


@pytest.mark.parametrize("rule", COLOR_RULES, ids=repr)
def test_a_color_rule_passes_scikit_learns_checks_unmodified(rule: BaseEstimator) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check_estimator(rule)


NO_PICTURES = "feeds rows of numbers; what is no picture is refused, with a FigleafError"
NO_COLUMNS = "pictures have no number of columns to remember"
NOT_LOOKED_AT = "published constants: fitting looks at no picture, so it refuses none"
OWN_NAMES = "fit takes pictures, labels and masks by these names"
LABELS = "labels are 0 and 1, and what learns from them wants both"

PIXEL_MODELS = {
    "check_fit_score_takes_y": OWN_NAMES,
    "check_n_features_in": NO_COLUMNS,
    "check_n_features_in_after_fitting": NO_COLUMNS,
    "check_complex_data": NOT_LOOKED_AT,
    "check_dtype_object": NOT_LOOKED_AT,
    "check_estimators_empty_data_messages": NOT_LOOKED_AT,
    "check_estimators_nan_inf": NOT_LOOKED_AT,
    "check_fit1d": NOT_LOOKED_AT,
    "check_estimator_sparse_tag": NOT_LOOKED_AT,
}
MASK_RULES = {check: why for check, why in PIXEL_MODELS.items() if check != "check_estimator_sparse_tag"} | {
    "check_fit2d_1feature": LABELS,
    "check_requires_y_none": LABELS,
    "check_dtype_object": NO_PICTURES,
    "check_classifier_data_not_an_array": NO_PICTURES,
    "check_classifiers_classes": NO_PICTURES,
    "check_classifiers_one_label": NO_PICTURES,
    "check_dict_unchanged": NO_PICTURES,
    "check_estimator_sparse_array": NO_PICTURES,
    "check_estimator_sparse_matrix": NO_PICTURES,
    "check_estimators_dtypes": NO_PICTURES,
    "check_estimators_pickle": NO_PICTURES,
    "check_f_contiguous_array_estimator": NO_PICTURES,
    "check_fit2d_predict1d": NO_PICTURES,
    "check_fit_idempotent": NO_PICTURES,
    "check_methods_sample_order_invariance": NO_PICTURES,
    "check_methods_subset_invariance": NO_PICTURES,
    "check_pipeline_consistency": NO_PICTURES,
    "check_supervised_y_2d": NO_PICTURES,
    "check_classifier_not_supporting_multiclass": NOT_LOOKED_AT,
    "check_classifiers_regression_target": NOT_LOOKED_AT,
    "check_classifiers_train": NOT_LOOKED_AT,
    "check_supervised_y_no_nan": NOT_LOOKED_AT,
}
_FITTED = {
    "check_complex_data": NO_PICTURES,
    "check_dict_unchanged": NO_PICTURES,
    "check_dont_overwrite_parameters": NO_PICTURES,
    "check_dtype_object": NO_PICTURES,
    "check_estimator_sparse_array": NO_PICTURES,
    "check_estimator_sparse_matrix": NO_PICTURES,
    "check_estimators_dtypes": NO_PICTURES,
    "check_estimators_empty_data_messages": NO_PICTURES,
    "check_estimators_fit_returns_self": NO_PICTURES,
    "check_estimators_nan_inf": NO_PICTURES,
    "check_estimators_overwrite_params": NO_PICTURES,
    "check_estimators_pickle": NO_PICTURES,
    "check_f_contiguous_array_estimator": NO_PICTURES,
    "check_fit1d": NO_PICTURES,
    "check_fit2d_1feature": NO_PICTURES,
    "check_fit2d_1sample": NO_PICTURES,
    "check_fit2d_predict1d": NO_PICTURES,
    "check_fit_check_is_fitted": NO_PICTURES,
    "check_fit_idempotent": NO_PICTURES,
    "check_fit_score_takes_y": NO_PICTURES,
    "check_methods_sample_order_invariance": NO_PICTURES,
    "check_methods_subset_invariance": NO_PICTURES,
    "check_n_features_in": NO_PICTURES,
    "check_n_features_in_after_fitting": NO_PICTURES,
    "check_pipeline_consistency": NO_PICTURES,
    "check_positive_only_tag_during_fit": NO_PICTURES,
    "check_readonly_memmap_input": NO_PICTURES,
}
TRANSFORMER = _FITTED | {
    "check_estimator_sparse_tag": NO_PICTURES,
    "check_transformer_data_not_an_array": NO_PICTURES,
    "check_transformer_general": NO_PICTURES,
    "check_transformer_preserve_dtypes": NO_PICTURES,
}
FITTED_SYSTEM = _FITTED | {
    "check_classifier_data_not_an_array": NO_PICTURES,
    "check_classifier_not_supporting_multiclass": LABELS,
    "check_classifiers_classes": LABELS,
    "check_classifiers_one_label": LABELS,
    "check_classifiers_regression_target": LABELS,
    "check_classifiers_train": NO_PICTURES,
    "check_requires_y_none": LABELS,
    "check_supervised_y_2d": NO_PICTURES,
    "check_supervised_y_no_nan": LABELS,
}
KOVAC = RulePixels(KovacRule())
ON_PICTURES = [
    (FleckFilter(), PIXEL_MODELS),
    (KOVAC, PIXEL_MODELS),
    (AreaRule(FleckFilter("fast")), MASK_RULES),
    (ApApidRules(KOVAC), MASK_RULES),
    (LimbRule(KOVAC), MASK_RULES),
    (LimbDistance(KOVAC), FITTED_SYSTEM),
    (SkinFeatures(KOVAC), TRANSFORMER),
    (SkinFeaturesClassifier(KOVAC), FITTED_SYSTEM),
]


@pytest.mark.parametrize(("estimator", "expected"), ON_PICTURES, ids=lambda value: type(value).__name__)
def test_what_takes_pictures_fails_the_checks_listed_and_no_others(
    estimator: BaseEstimator, expected: dict[str, str]
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = check_estimator(estimator, expected_failed_checks=expected)
    assert {result["check_name"] for result in results if result["status"] == "xfail"} == set(expected)


@pytest.mark.parametrize("estimator", [pair[0] for pair in ON_PICTURES], ids=lambda value: type(value).__name__)
def test_parameters_are_plain_values_or_estimators_of_ours(estimator: BaseEstimator) -> None:
    for value in clone(estimator).get_params().values():
        assert isinstance(value, str | int | float | bool | None) or type(value).__module__.startswith("figleaf.skin")
