import unittest

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import make_classification
from sklearn.utils import get_tags
from sklearn.utils.estimator_checks import (
    check_class_weight_balanced_classifiers,
    check_dataframe_column_names_consistency,
    check_inplace_ensure_writeable,
    check_param_validation,
    parametrize_with_checks,
)

from skgn import GNClassifier, GNRegressor

# The checks set max_iter themselves, to as little as 1, and the targets of some are noise.
pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:Failed. samples left out:UserWarning"),
    # One check sets alpha=0.01, which is a penalty elsewhere.
    pytest.mark.filterwarnings("ignore:alpha=0.01 is a factor on the output:UserWarning"),
]

ESTIMATORS = [GNRegressor, GNClassifier]

#: Beside the defaults, but for members, iterations and the tolerance, networks small enough for the checks to take
#: seconds. Between them they have every solver, both dtypes, one layer and two, evidence and a float l2.
SMALL = {
    "hidden_layer_sizes": (4,),
    "prior_groups": "layer",
    "standardize": "robust",
    "n_estimators": 1,
    "max_iter": 5,
}

#: A constant damping needs many iterations. No linear classifier: it is so sure of classes that float32 rounds a
#: probability to 1 whose logarithm is not 0.
CHECKED = [
    *(cls(n_estimators=2, max_iter=2, tol=1e-1) for cls in ESTIMATORS),
    GNClassifier(
        **SMALL | {"solver": "dual", "hidden_layer_sizes": (6, 4), "max_iter": 3, "dtype": "float32"},
        l2_regularization=1e-2,
    ),
    GNRegressor(**SMALL, solver="cg", l2_regularization=1e-4),
    GNRegressor(**SMALL | {"hidden_layer_sizes": (), "solver": "primal", "damping": 1e-2, "max_iter": 100}),
]

#: Checks of what is read, in dozens of fits that need not estimate anything.
READING = {
    "check_array_api_input",
    "check_classifier_data_not_an_array",
    "check_dtype_object",
    "check_estimator_sparse_array",
    "check_estimator_sparse_matrix",
    "check_estimators_dtypes",
    "check_f_contiguous_array_estimator",
    "check_n_features_in_after_fitting",
    "check_positive_only_tag_during_fit",
    "check_regressor_data_not_an_array",
    "check_sample_weights_list",
    "check_sample_weights_not_an_array",
    "check_sample_weights_pandas_series",
    "check_supervised_y_2d",
}


@parametrize_with_checks(CHECKED)
def test_keeps_scikit_learn_conventions(estimator, check):
    # The training that is checked with rows from files, too, has been checked with others.
    if check.func.__name__ in READING or "readonly_memmap" in check.keywords:
        l2 = 1e-2 if isinstance(estimator, GNClassifier) else 1e-4
        estimator = clone(estimator).set_params(n_estimators=1, l2_regularization=l2)
    try:
        check(estimator)
    except unittest.SkipTest as skip:
        # A check that is skipped for another reason than a missing optional package has not passed.
        if "not installed" not in str(skip):
            pytest.fail(f"skipped: {skip}")
        raise


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize(
    "check", [check_param_validation, check_dataframe_column_names_consistency, check_inplace_ensure_writeable]
)
def test_keeps_conventions_scikit_learn_checks_only_on_its_own(estimator, check):
    check(estimator.__name__, estimator(**SMALL))


@pytest.mark.parametrize("n_classes", [2, 3])
def test_balanced_class_weight_helps_the_rare_class(n_classes):
    weights = {2: [0.9, 0.1], 3: [0.8, 0.1, 0.1]}[n_classes]
    X, y = make_classification(
        600, 5, n_informative=3, n_classes=n_classes, weights=weights, class_sep=0.5, random_state=0
    )
    # Scored where the classes are equally frequent, as for the linear classifiers of scikit-learn.
    test = np.concatenate([np.flatnonzero(y == c)[:20] for c in range(n_classes)])
    train = np.setdiff1d(np.arange(len(y)), test)
    classifier = GNClassifier(hidden_layer_sizes=(), n_estimators=1)
    check_class_weight_balanced_classifiers("GNClassifier", classifier, X[train], y[train], X[test], y[test], weights)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_tags_say_what_targets_are_accepted(estimator):
    tags = get_tags(estimator())
    assert tags.target_tags.multi_output and tags.target_tags.single_output
    assert tags.target_tags.required
    assert tags.input_tags.sparse and tags.input_tags.allow_nan
    if estimator is GNClassifier:
        assert tags.classifier_tags.multi_label and tags.classifier_tags.multi_class
