"""Inside the tools of scikit-learn that people put estimators into: used as they are, with a result that is known."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris
from sklearn.ensemble import (
    AdaBoostClassifier,
    AdaBoostRegressor,
    BaggingClassifier,
    BaggingRegressor,
    StackingClassifier,
    StackingRegressor,
    VotingClassifier,
    VotingRegressor,
)
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.feature_selection import RFE, SelectFromModel, SequentialFeatureSelector
from sklearn.inspection import partial_dependence, permutation_importance
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.model_selection import (
    GridSearchCV,
    HalvingGridSearchCV,
    RandomizedSearchCV,
    cross_val_predict,
    cross_validate,
    learning_curve,
    validation_curve,
)
from sklearn.multiclass import OneVsRestClassifier
from sklearn.multioutput import ClassifierChain, MultiOutputRegressor, RegressorChain
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, PolynomialFeatures, StandardScaler
from sklearn.utils.validation import check_is_fitted

from skgn import GNClassifier, GNRegressor

SMALL = {"hidden_layer_sizes": (4,), "n_estimators": 1, "l2_regularization": 1e-2, "random_state": 0}
GRID = {"damping": [1e-2, "adaptive"], "alpha": [0.5, 2.0]}


def regressor(**parameters):
    return GNRegressor(**SMALL | parameters)


def classifier(**parameters):
    return GNClassifier(**SMALL | parameters)


@pytest.fixture(scope="module")
def diabetes():
    return load_diabetes(return_X_y=True)


@pytest.fixture(scope="module")
def iris():
    return load_iris(return_X_y=True)


REGRESSION = {
    "Pipeline": make_pipeline(StandardScaler(), regressor()),
    "ColumnTransformer": make_pipeline(
        ColumnTransformer([("square", PolynomialFeatures(2), [2, 8])], remainder="passthrough"), regressor()
    ),
    "GridSearchCV": GridSearchCV(regressor(), GRID, cv=2),
    "RandomizedSearchCV": RandomizedSearchCV(regressor(), GRID, n_iter=2, cv=2, random_state=0),
    "HalvingGridSearchCV": HalvingGridSearchCV(regressor(), GRID, cv=2, random_state=0),
    "BaggingRegressor": BaggingRegressor(regressor(), n_estimators=2, random_state=0),
    "AdaBoostRegressor": AdaBoostRegressor(regressor(), n_estimators=2, random_state=0),
    "StackingRegressor": StackingRegressor([("gn", regressor()), ("ridge", RidgeCV())], cv=2),
    "VotingRegressor": VotingRegressor([("gn", regressor()), ("ridge", RidgeCV())]),
    "TransformedTargetRegressor": TransformedTargetRegressor(regressor(), func=np.log, inverse_func=np.exp),
    "SelectFromModel": make_pipeline(SelectFromModel(regressor(), threshold="median"), RidgeCV()),
    "RFE": RFE(regressor(), n_features_to_select=5, step=3),
}

CLASSIFICATION = {
    "Pipeline": make_pipeline(StandardScaler(), classifier()),
    "GridSearchCV": GridSearchCV(classifier(), GRID, cv=2),
    "BaggingClassifier": BaggingClassifier(classifier(), n_estimators=2, random_state=0),
    "AdaBoostClassifier": AdaBoostClassifier(classifier(), n_estimators=2, random_state=0),
    "StackingClassifier": StackingClassifier([("gn", classifier()), ("logistic", LogisticRegression())], cv=2),
    "VotingClassifier": VotingClassifier([("gn", classifier()), ("logistic", LogisticRegression())], voting="soft"),
    "CalibratedClassifierCV": CalibratedClassifierCV(classifier(), cv=2),
    "OneVsRestClassifier": OneVsRestClassifier(classifier()),
    "SelectFromModel": make_pipeline(SelectFromModel(classifier(), threshold="median"), classifier()),
}


@pytest.mark.parametrize("name", REGRESSION)
def test_regressors_in(name, diabetes):
    X, y = diabetes
    assert REGRESSION[name].fit(X[:300], y[:300]).score(X[300:], y[300:]) > 0.35


@pytest.mark.parametrize("name", CLASSIFICATION)
def test_classifiers_in(name, iris):
    X, y = iris
    assert CLASSIFICATION[name].fit(X[::2], y[::2]).score(X[1::2], y[1::2]) > 0.9


def test_several_targets(diabetes):
    X, y = diabetes
    Y = np.column_stack([y, y**2 / 100])
    for wrapped in (MultiOutputRegressor(regressor()), RegressorChain(regressor()), regressor()):
        assert wrapped.fit(X[:300], Y[:300]).score(X[300:], Y[300:]) > 0.35
    Z = np.column_stack([y > 100, y > 150]).astype(int)
    assert ClassifierChain(classifier()).fit(X[:300], Z[:300]).predict(X[300:]).shape == (142, 2)


def test_routed_weights_are_those_of_a_fit_by_hand(diabetes):
    import sklearn

    X, y = diabetes
    weight = (np.arange(len(y)) % 3).astype(float)
    folds = [(np.arange(300), np.arange(300, 442))]
    with sklearn.config_context(enable_metadata_routing=True):
        model = regressor().set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        scores = cross_validate(model, X, y, cv=folds, params={"sample_weight": weight})["test_score"]
    by_hand = regressor().fit(X[:300], y[:300], weight[:300]).score(X[300:], y[300:], weight[300:])
    np.testing.assert_allclose(scores[0], by_hand, rtol=1e-9)


def test_searches_and_curves_see_every_parameter(diabetes):
    X, y = diabetes
    _, scores = validation_curve(regressor(), X, y, param_name="alpha", param_range=[0.5, 2.0], cv=2)
    assert scores.shape == (2, 2) and np.ptp(scores, axis=0).min() > 0
    _, _, tests = learning_curve(regressor(), X, y, train_sizes=[0.3, 1.0], cv=2)
    assert tests[1].mean() > tests[0].mean()
    assert cross_val_predict(classifier(), *load_iris(return_X_y=True), cv=3, method="predict_proba").shape == (150, 3)


def test_inspection_agrees_with_the_relevance(diabetes):
    X, y = diabetes
    model = regressor().fit(X, y)
    importance = permutation_importance(model, X, y, n_repeats=3, random_state=0).importances_mean
    assert set(np.argsort(importance)[-2:]) == set(np.argsort(model.feature_importances_)[-2:]) == {2, 8}
    curve = partial_dependence(model, X, [2], grid_resolution=5)["average"][0]
    assert (np.diff(curve) > 0).all()  # body mass
    X, y = load_breast_cancer(return_X_y=True)
    model = classifier().fit(X, y)
    assert partial_dependence(model, X, [20], grid_resolution=5)["average"].shape == (1, 5)


def test_features_are_selected_by_importance(diabetes):
    X, y = diabetes
    X = np.column_stack([X, np.random.RandomState(0).normal(size=(len(y), 5))])
    selector = SelectFromModel(GNRegressor(random_state=0), threshold=0.05).fit(X, y)
    assert selector.get_support()[[2, 8]].all() and not selector.get_support()[10:].any()
    model = GNRegressor(random_state=0).fit(X, y)
    np.testing.assert_array_equal(model.feature_importances_, model.feature_relevance_)
    chosen = SequentialFeatureSelector(regressor(), n_features_to_select=1, cv=2).fit(X[:, [0, 2, 10]], y)
    assert chosen.get_support().tolist() == [False, True, False]


def test_pandas_comes_out_where_it_is_asked_for(diabetes):
    pd = pytest.importorskip("pandas")
    X, y = load_diabetes(return_X_y=True, as_frame=True)
    pipe = make_pipeline(StandardScaler(), FunctionTransformer(), regressor()).set_output(transform="pandas")
    pipe.fit(X, y)
    assert list(pipe[-1].feature_names_in_) == list(X.columns)
    assert isinstance(pipe[:-1].transform(X), pd.DataFrame)
    with pytest.raises(ValueError, match="feature names"):
        pipe[-1].predict(X[X.columns[::-1]])


@pytest.mark.parametrize("make", [regressor, classifier])
def test_estimators_show_themselves(make, iris):
    X, y = iris
    model = make()
    with pytest.raises(Exception, match="not fitted"):
        check_is_fitted(model)
    assert "not fitted" in model._repr_html_().lower()
    model.fit(X, y)
    check_is_fitted(model)
    html = model._repr_html_()
    assert type(model).__name__ in html and "fitted" in html.lower()
    assert repr(clone(model)) == repr(make())
