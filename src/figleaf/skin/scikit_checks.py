"""Which of scikit-learn's checks the estimators on pictures fail, and why they must.

`check_estimator` gives every estimator tables of numbers (N, d). Those here take pictures, uint8 (N, H, W, 3), and
answer anything else with a `FigleafError` that says so; so they fail each check that expects a fit to succeed, or to
fail in scikit-learn's words. What is about an estimator as such (its arguments, clones, tags, that an unfitted one says
so) they pass. `parametrize_with_checks(..., expected_failed_checks=expected_failed_checks)` is how tests use it.
"""

from typing import Any

_TABLE = "fits a table of numbers (N, d); this takes pictures, uint8 (N, H, W, 3)"
_WORDS = "wants scikit-learn's words, or a ValueError, for such a table; this says that it is no picture"
_WIDTH = "n_features_in_ is the width of a table; pictures have none, each may have a size of its own"
_LABELS = "fits labels other than 0 and 1, safe and unsafe, or of one kind only"
_LABEL_WORDS = "wants scikit-learn's words for labels that are no classes; this says that they are not 0 and 1"

_ON_PICTURES = {
    "check_complex_data": _WORDS,
    "check_dict_unchanged": _TABLE,
    "check_dont_overwrite_parameters": _TABLE,
    "check_dtype_object": _TABLE,
    "check_estimator_sparse_array": _WORDS,
    "check_estimator_sparse_matrix": _WORDS,
    "check_estimators_dtypes": _TABLE,
    "check_estimators_empty_data_messages": _WORDS,
    "check_estimators_fit_returns_self": _TABLE,
    "check_estimators_nan_inf": _WORDS,
    "check_estimators_overwrite_params": _TABLE,
    "check_estimators_pickle": _TABLE,
    "check_f_contiguous_array_estimator": _TABLE,
    "check_fit1d": _WORDS,
    "check_fit2d_1feature": _WORDS,
    "check_fit2d_1sample": _WORDS,
    "check_fit2d_predict1d": _TABLE,
    "check_fit_check_is_fitted": _TABLE,
    "check_fit_idempotent": _TABLE,
    "check_fit_score_takes_y": _TABLE,
    "check_methods_sample_order_invariance": _TABLE,
    "check_methods_subset_invariance": _TABLE,
    "check_n_features_in": _WIDTH,
    "check_n_features_in_after_fitting": _WIDTH,
    "check_pipeline_consistency": _TABLE,
    "check_positive_only_tag_during_fit": _TABLE,
    "check_readonly_memmap_input": _TABLE,
}
_TRANSFORMERS = {
    "check_transformer_data_not_an_array": _TABLE,
    "check_transformer_general": _TABLE,
    "check_transformer_preserve_dtypes": _TABLE,
}
_SYSTEMS = {
    "check_classifier_data_not_an_array": _TABLE,
    "check_classifiers_classes": _LABELS,
    "check_classifiers_one_label": _LABELS,
    "check_classifiers_regression_target": _LABEL_WORDS,
    "check_classifiers_train": _TABLE,
    "check_requires_y_none": _LABEL_WORDS,
    "check_supervised_y_2d": _LABELS,
    "check_supervised_y_no_nan": _LABEL_WORDS,
}


def expected_failed_checks(estimator: Any) -> dict[str, str]:
    """The reason for each check that must fail, for an estimator that is fitted to pictures."""
    if hasattr(estimator, "predict_proba"):
        return _ON_PICTURES | _SYSTEMS
    if hasattr(estimator, "transform"):
        return _ON_PICTURES | _TRANSFORMERS
    return dict(_ON_PICTURES)
