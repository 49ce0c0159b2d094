"""Inside the tools of scikit-learn that people put estimators into: used as they are, with a result that is known.

Each tool has a score that it must reach, or a twin: what the tool does, written out by hand in a few lines of NumPy.
"""

import importlib.util
import sys

import numpy as np
import pytest
import sklearn
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
from sklearn.experimental import enable_halving_search_cv, enable_iterative_imputer  # noqa: F401
from sklearn.feature_selection import RFE, RFECV, SelectFromModel, SequentialFeatureSelector
from sklearn.impute import IterativeImputer
from sklearn.inspection import partial_dependence, permutation_importance
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.model_selection import (
    FixedThresholdClassifier,
    GridSearchCV,
    HalvingGridSearchCV,
    HalvingRandomSearchCV,
    RandomizedSearchCV,
    TunedThresholdClassifierCV,
    cross_val_predict,
    cross_val_score,
    cross_validate,
    learning_curve,
    permutation_test_score,
    validation_curve,
)
from sklearn.multiclass import OneVsOneClassifier, OneVsRestClassifier, OutputCodeClassifier
from sklearn.multioutput import ClassifierChain, MultiOutputClassifier, MultiOutputRegressor, RegressorChain
from sklearn.pipeline import Pipeline, make_pipeline, make_union
from sklearn.preprocessing import FunctionTransformer, PolynomialFeatures, StandardScaler
from sklearn.semi_supervised import SelfTrainingClassifier

from skgn import GNClassifier, GNRegressor

SMALL = {"hidden_layer_sizes": (4,), "n_estimators": 1, "l2_regularization": 1e-2, "tol": 1e-2, "random_state": 0}
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


@pytest.fixture(scope="module")
def cancer():
    """Two classes that six of the features do not part without errors."""
    X, y = load_breast_cancer(return_X_y=True)
    return X[:300, 4:10], y[:300]


REGRESSION = {
    "RandomizedSearchCV": RandomizedSearchCV(regressor(), GRID, n_iter=2, cv=2, random_state=0),
    "HalvingRandomSearchCV": HalvingRandomSearchCV(regressor(), GRID, n_candidates=4, cv=2, random_state=0),
    "AdaBoostRegressor": AdaBoostRegressor(regressor(), n_estimators=2, random_state=0),
    "StackingRegressor, on top": StackingRegressor([("ridge", RidgeCV())], final_estimator=regressor(), cv=2),
    "SelectFromModel": make_pipeline(SelectFromModel(regressor(), threshold="median"), RidgeCV()),
    "RFE": RFE(regressor(), n_features_to_select=5, step=3),
}

CLASSIFICATION = {
    "Pipeline": make_pipeline(StandardScaler(), classifier()),
    "GridSearchCV": GridSearchCV(classifier(), GRID, cv=2),
    "BaggingClassifier": BaggingClassifier(classifier(), n_estimators=2, random_state=0),
    "AdaBoostClassifier": AdaBoostClassifier(classifier(), n_estimators=2, random_state=0),
    "OneVsOneClassifier": OneVsOneClassifier(classifier()),
    "OutputCodeClassifier": OutputCodeClassifier(classifier(), random_state=0),
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


def pipeline(X, y):
    Z = (X - X.mean(0)) / X.std(0)
    return make_pipeline(StandardScaler(), regressor()).fit(X, y).predict(X), regressor().fit(Z, y).predict(Z)


def column_transformer(X, y):
    squares = ColumnTransformer([("squares", PolynomialFeatures(2), [2, 8])], remainder="passthrough")
    a, b = X[:, 2], X[:, 8]
    Z = np.column_stack([np.ones(len(X)), a, b, a**2, a * b, b**2, np.delete(X, [2, 8], axis=1)])
    return make_pipeline(squares, regressor()).fit(X, y).predict(X), regressor().fit(Z, y).predict(Z)


def feature_union(X, y):
    model = make_pipeline(make_union("passthrough", FunctionTransformer(np.square)), regressor())
    Z = np.hstack([X, X**2])
    return model.fit(X, y).predict(X), regressor().fit(Z, y).predict(Z)


def grid_search(X, y):
    search = GridSearchCV(regressor(), GRID, cv=2).fit(X, y)
    best = regressor(**search.best_params_)
    folds = cross_val_score(best, X, y, cv=2)
    assert np.ptp(search.cv_results_["mean_test_score"]) > 0  # every parameter is seen
    return np.append(search.predict(X), search.best_score_), np.append(best.fit(X, y).predict(X), folds.mean())


def halving_search(X, y):
    search = HalvingGridSearchCV(regressor(), GRID, cv=2, random_state=0).fit(X, y)
    return search.predict(X), regressor(**search.best_params_).fit(X, y).predict(X)


def bagging_regressor(X, y):
    # Drawn rows, or weights that count them: the same here.
    model = BaggingRegressor(regressor(), n_estimators=3, random_state=0).fit(X, y)
    members = zip(model.estimators_, model.estimators_samples_, strict=True)
    return model.predict(X), np.mean([clone(one).fit(X[rows], y[rows]).predict(X) for one, rows in members], axis=0)


def bagging_of_features(X, y):
    model = BaggingRegressor(regressor(), n_estimators=2, max_features=0.5, bootstrap=False, random_state=0).fit(X, y)
    members = zip(model.estimators_, model.estimators_features_, strict=True)
    return model.predict(X), np.mean([clone(one).fit(X[:, j], y).predict(X[:, j]) for one, j in members], axis=0)


def stacking_regressor(X, y):
    model = StackingRegressor([("gn", regressor())], final_estimator=RidgeCV(), cv=2).fit(X, y)
    left_out = cross_val_predict(regressor(), X, y, cv=2)[:, None]
    top = RidgeCV().fit(left_out, y)
    return model.predict(X), top.predict(regressor().fit(X, y).predict(X)[:, None])


def voting_regressor(X, y):
    each = [model.fit(X, y).predict(X) for model in (regressor(), RidgeCV())]
    model = VotingRegressor([("gn", regressor()), ("ridge", RidgeCV())]).fit(X, y)
    return model.predict(X), np.mean(each, axis=0)


def transformed_target(X, y):
    model = TransformedTargetRegressor(regressor(), func=np.log, inverse_func=np.exp).fit(X, y)
    return model.predict(X), np.exp(regressor().fit(X, np.log(y)).predict(X))


def multi_output_regressor(X, y):
    Y = np.column_stack([y, X[:, 2] ** 2])
    by_hand = np.column_stack([regressor().fit(X, column).predict(X) for column in Y.T])
    return MultiOutputRegressor(regressor()).fit(X, Y).predict(X), by_hand


def regressor_chain(X, y):
    first, second = y, y**2 / 100
    p = regressor().fit(X, first).predict(X)
    q = regressor().fit(np.column_stack([X, first]), second).predict(np.column_stack([X, p]))
    return RegressorChain(regressor()).fit(X, np.column_stack([first, second])).predict(X), np.column_stack([p, q])


def validation_curves(X, y):
    _, scores = validation_curve(regressor(), X, y, param_name="alpha", param_range=[0.5, 2.0], cv=2)
    return scores[:, 0], [regressor(alpha=alpha).fit(X[221:], y[221:]).score(X[:221], y[:221]) for alpha in (0.5, 2.0)]


def learning_curves(X, y):
    scores = learning_curve(regressor(), X, y, train_sizes=[50, 200], cv=2)[2]
    return scores[:, 1], [regressor().fit(X[:n], y[:n]).score(X[221:], y[221:]) for n in (50, 200)]


def learning_curves_of_streams(X, y):
    network = regressor(l2_regularization="evidence")
    scores = learning_curve(network, X, y, train_sizes=[100, 200], cv=2, exploit_incremental_learning=True)[2]
    first = clone(network).partial_fit(X[:100], y[:100])
    by_hand = [first.score(X[221:], y[221:]), first.partial_fit(X[100:200], y[100:200]).score(X[221:], y[221:])]
    return scores[:, 1], by_hand


def iterative_imputer(X, y):
    hole = np.arange(len(y)) % 5 == 0
    table = np.column_stack([X[:, :3], np.where(hole, np.nan, y)])
    filled = IterativeImputer(regressor(), max_iter=1, tol=1e9).fit_transform(table)
    return filled[hole, 3], regressor().fit(X[~hole, :3], y[~hole]).predict(X[hole, :3])


def permuted_targets(X, y):
    score, chance, _ = permutation_test_score(regressor(), X, y, cv=2, n_permutations=3, random_state=0)
    assert chance.max() < 0.1
    return score, cross_val_score(regressor(), X, y, cv=2).mean()


@pytest.mark.parametrize(
    "tool",
    [
        *(pipeline, column_transformer, feature_union, grid_search, halving_search),
        *(bagging_regressor, bagging_of_features, stacking_regressor, voting_regressor, transformed_target),
        *(multi_output_regressor, regressor_chain, validation_curves, learning_curves, permuted_targets),
        *(learning_curves_of_streams, iterative_imputer),
    ],
    ids=lambda tool: tool.__name__,
)
def test_regressors_do_in_tools_what_they_do_by_hand(tool, diabetes):
    np.testing.assert_allclose(*tool(*diabetes), rtol=1e-6)


def positive(X, y):
    """Probability of the second class, of a fit to all."""
    return classifier().fit(X, y).predict_proba(X)[:, 1]


def voting_classifier(X, y):
    logistic = LogisticRegression(max_iter=1000)
    model = VotingClassifier([("gn", classifier()), ("logistic", logistic)], voting="soft").fit(X, y)
    return model.predict_proba(X)[:, 1], (positive(X, y) + logistic.fit(X, y).predict_proba(X)[:, 1]) / 2


def stacking_classifier(X, y):
    model = StackingClassifier([("gn", classifier())], cv=2).fit(X, y)
    left_out = cross_val_predict(classifier(), X, y, cv=2, method="predict_proba")[:, 1:]
    return model.predict_proba(X), LogisticRegression().fit(left_out, y).predict_proba(positive(X, y)[:, None])


def adaboost_classifier(X, y):
    model = AdaBoostClassifier(classifier(), n_estimators=2, random_state=0).fit(X, y)
    first = clone(model.estimators_[0]).fit(X, y)
    wrong = first.predict(X) != y
    weight = np.where(wrong, (1 - wrong.mean()) / wrong.mean(), 1.0)
    second = clone(model.estimators_[1]).fit(X, y, weight)
    return model.estimator_errors_, [wrong.mean(), np.average(second.predict(X) != y, weights=weight)]


def calibrated_classifier(X, y):
    halves = [(np.arange(150), np.arange(150, 300)), (np.arange(150, 300), np.arange(150))]
    model = CalibratedClassifierCV(classifier(), method="isotonic", cv=halves).fit(X, y)
    probabilities = []
    for train, test in halves:
        raw = classifier().fit(X[train], y[train])
        calibration = IsotonicRegression(out_of_bounds="clip").fit(raw.decision_function(X[test]), y[test])
        probabilities.append(calibration.predict(raw.decision_function(X)))
    return model.predict_proba(X)[:, 1], np.mean(probabilities, axis=0)


def one_vs_rest(X, y):
    X, y = load_iris(return_X_y=True)
    each = np.column_stack([positive(X, y == label) for label in range(3)])
    return OneVsRestClassifier(classifier()).fit(X, y).predict_proba(X), each / each.sum(axis=1, keepdims=True)


def labels(X, y):
    return np.column_stack([y, X[:, 0] > np.median(X[:, 0])]).astype(int)


def multi_output_classifier(X, y):
    Y = labels(X, y)
    each = MultiOutputClassifier(classifier()).fit(X, Y).predict_proba(X)
    return [p[:, 1] for p in each], [positive(X, column) for column in Y.T]


def classifier_chain(X, y):
    first, second = labels(X, y).T
    p = classifier().fit(X, first)
    q = classifier().fit(np.column_stack([X, first]), second)
    by_hand = p.predict_proba(X)[:, 1], q.predict_proba(np.column_stack([X, p.predict(X)]))[:, 1]
    return ClassifierChain(classifier()).fit(X, labels(X, y)).predict_proba(X).T, by_hand


def fixed_threshold(X, y):
    model = FixedThresholdClassifier(classifier(), threshold=0.9, response_method="predict_proba")
    return model.fit(X, y).predict(X), positive(X, y) >= 0.9


def tuned_threshold(X, y):
    model = TunedThresholdClassifierCV(classifier(), scoring="recall", thresholds=[0.2, 0.5, 0.8], cv=2).fit(X, y)
    assert model.best_threshold_ == 0.2  # the lower, the more are found
    return model.predict(X), positive(X, y) >= 0.2


def self_training(X, y):
    known = np.arange(len(y)) % 3 == 0
    model = SelfTrainingClassifier(classifier(), threshold=0.9, max_iter=1).fit(X, np.where(known, y, -1))
    p = classifier().fit(X[known], y[known]).predict_proba(X)
    guessed = np.where(known, y, p.argmax(axis=1))
    sure = known | (p.max(axis=1) > 0.9)
    assert known.sum() < sure.sum() < len(y)
    return model.predict_proba(X), classifier().fit(X[sure], guessed[sure]).predict_proba(X)


@pytest.mark.parametrize(
    "tool",
    [
        *(voting_classifier, stacking_classifier, adaboost_classifier, calibrated_classifier, one_vs_rest),
        *(multi_output_classifier, classifier_chain, fixed_threshold, tuned_threshold, self_training),
    ],
    ids=lambda tool: tool.__name__,
)
def test_classifiers_do_in_tools_what_they_do_by_hand(tool, cancer):
    np.testing.assert_allclose(*tool(*cancer), rtol=1e-6, atol=1e-9)


def test_normalised_weights_of_boosting_are_warned_of_with_evidence(cancer):
    with pytest.warns(UserWarning, match=r"set a float l2_regularization"):
        AdaBoostClassifier(classifier(l2_regularization="evidence"), n_estimators=1).fit(*cancer)


FOLDS = [(np.arange(300), np.arange(300, 442))]


def weights(n):
    return (np.arange(n) % 3).astype(float)


def test_a_forest_and_distributions_of_classes_are_made_whatever_is_routed(monkeypatch):
    """A fit of 400 rows and more ended with an error."""
    rng = np.random.RandomState(0)
    X = rng.standard_normal((400, 3))
    y = (X[:, 0] + rng.standard_normal(400) > 0).astype(int)
    with sklearn.config_context(enable_metadata_routing=True):
        model = GNClassifier(tol=1e-2, random_state=0).fit(X, y)
    assert "forest" in [member.scaling for member in model.estimators_]


def test_routed_weights_are_those_of_a_fit_by_hand(diabetes):
    X, y = diabetes
    weight = weights(len(y))
    with sklearn.config_context(enable_metadata_routing=True):
        model = regressor().set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        scores = cross_validate(model, X, y, cv=FOLDS, params={"sample_weight": weight})["test_score"]
        search = GridSearchCV(model, {"alpha": [1.0]}, cv=FOLDS).fit(X, y, sample_weight=weight)
        piped = make_pipeline(StandardScaler().set_fit_request(sample_weight=False), model)
        piped.fit(X[:300], y[:300], sample_weight=weight[:300])
    by_hand = regressor().fit(X[:300], y[:300], weight[:300])
    residual = y[300:] - by_hand.predict(X[300:])
    spread = y[300:] - np.average(y[300:], weights=weight[300:])
    score = 1 - weight[300:] @ residual**2 / (weight[300:] @ spread**2)
    np.testing.assert_allclose([scores[0], search.best_score_], score, rtol=1e-9)
    np.testing.assert_allclose(piped.predict(X), by_hand.predict(X), rtol=1e-6)


def test_scores_take_weights(cancer):
    X, y = cancer
    model = classifier().fit(X, y)
    right = model.predict(X) == y
    assert model.score(X, y, sample_weight=weights(300)) == pytest.approx(np.average(right, weights=weights(300)))


def test_a_validation_set_goes_through_a_pipeline(diabetes):
    X, y = diabetes
    stopping = regressor(early_stopping=True)
    with sklearn.config_context(enable_metadata_routing=True):
        network = clone(stopping).set_fit_request(X_val=True, y_val=True, sample_weight_val=True)
        model = Pipeline([("scale", StandardScaler()), ("network", network)], transform_input=["X_val"])
        model.fit(X[:200], y[:200], X_val=X[200:], y_val=y[200:], sample_weight_val=weights(242))
    scale = StandardScaler().fit(X[:200])
    by_hand = stopping.fit(
        scale.transform(X[:200]),
        y[:200],
        X_val=scale.transform(X[200:]),
        y_val=y[200:],
        sample_weight_val=weights(242),
    )
    np.testing.assert_array_equal(model[-1].history_["validation_loss"], by_hand.history_["validation_loss"])


@pytest.mark.parametrize("routing", [False, True])
def test_standard_deviations_come_through_a_pipeline(routing, diabetes):
    X, y = diabetes
    with sklearn.config_context(enable_metadata_routing=routing):
        network = regressor().set_predict_request(return_std=True) if routing else regressor()
        mean, std = make_pipeline(StandardScaler(), network).fit(X, y).predict(X, return_std=True)
    Z = StandardScaler().fit_transform(X)
    np.testing.assert_allclose((mean, std), regressor().fit(Z, y).predict(Z, return_std=True), rtol=1e-6)


def test_metadata_that_nobody_asked_for_is_refused(diabetes):
    with sklearn.config_context(enable_metadata_routing=True):
        with pytest.raises(ValueError, match=r"sample_weight.*not explicitly set as requested"):
            make_pipeline(regressor()).fit(*diabetes, sample_weight=np.ones(442))


def test_inspection_agrees_with_the_relevance(diabetes):
    X, y = diabetes
    model = regressor().fit(X, y)
    importance = permutation_importance(model, X, y, n_repeats=3, random_state=0).importances_mean
    assert set(np.argsort(importance)[-2:]) == set(np.argsort(model.feature_importances_)[-2:]) == {2, 8}
    curve = partial_dependence(model, X, [2], grid_resolution=5)["average"][0]
    assert (np.diff(curve) > 0).all()  # body mass


def with_noise(X):
    """The features that matter most to diabetes, and five that are random."""
    return np.column_stack([X[:, [2, 8]], np.random.RandomState(0).normal(size=(len(X), 5))])


SELECTORS = {
    "SelectFromModel": SelectFromModel(GNRegressor((4,), n_estimators=1, random_state=0), threshold=0.1),
    "RFE": RFE(regressor(l2_regularization="evidence", tol=1e-1), n_features_to_select=2, step=3),
    "forwards": SequentialFeatureSelector(regressor(hidden_layer_sizes=(2,)), n_features_to_select=2, cv=2),
}


@pytest.mark.parametrize("name", SELECTORS)
def test_features_are_selected(name, diabetes):
    X, y = diabetes
    selector = SELECTORS[name].fit(with_noise(X), y)
    assert selector.get_support().tolist() == [True, True] + 5 * [False]
    if name == "SelectFromModel":
        network = selector.estimator_
        np.testing.assert_array_equal(network.feature_importances_, network.feature_relevance_)
        np.testing.assert_array_equal(selector.get_support(), network.feature_relevance_ >= 0.1)


def test_as_many_features_are_selected_as_predict_best(diabetes):
    X, y = diabetes
    network = regressor(hidden_layer_sizes=(2,))
    selector = RFECV(network, step=3, cv=2).fit(with_noise(X), y)
    assert selector.get_support()[:2].all()
    best = selector.cv_results_["n_features"][np.argmax(selector.cv_results_["mean_test_score"])]
    by_hand = RFE(network, step=3, n_features_to_select=best).fit(with_noise(X), y)
    np.testing.assert_array_equal(selector.get_support(), by_hand.get_support())


#: Of the 300 rows of the fixture.
TWO_THIRDS = (np.arange(200), np.arange(200, 300))


def draw_partial_dependence(X, y):
    from sklearn.inspection import PartialDependenceDisplay

    model = classifier().fit(X, y)
    display = PartialDependenceDisplay.from_estimator(model, X, [0], grid_resolution=4)
    by_hand = []
    for value in display.pd_results[0]["grid_values"][0]:
        moved = X.copy()
        moved[:, 0] = value
        by_hand.append(model.predict_proba(moved)[:, 1].mean())
    return display.axes_[0, 0].lines[0].get_ydata(), by_hand


def draw_learning_curve(X, y):
    from sklearn.model_selection import LearningCurveDisplay

    display = LearningCurveDisplay.from_estimator(classifier(), X, y, train_sizes=[50, 100], cv=[TWO_THIRDS])
    return display.test_scores[:, 0], [classifier().fit(X[:n], y[:n]).score(X[200:], y[200:]) for n in (50, 100)]


def draw_validation_curve(X, y):
    from sklearn.model_selection import ValidationCurveDisplay

    display = ValidationCurveDisplay.from_estimator(
        classifier(), X, y, param_name="l2_regularization", param_range=[1e-3, 1.0], cv=[TWO_THIRDS]
    )
    by_hand = [classifier(l2_regularization=l2).fit(X[:200], y[:200]).score(X[200:], y[200:]) for l2 in (1e-3, 1.0)]
    return display.test_scores[:, 0], by_hand


def draw_decision_boundary(X, y):
    from sklearn.inspection import DecisionBoundaryDisplay

    model = classifier().fit(X[:, :2], y)
    display = DecisionBoundaryDisplay.from_estimator(model, X[:, :2], response_method="predict_proba")
    grid = np.column_stack([display.xx0.ravel(), display.xx1.ravel()])
    return np.squeeze(display.response).ravel(), model.predict_proba(grid)[:, 1]


def draw_prediction_error(X, y):
    from sklearn.metrics import PredictionErrorDisplay

    y = load_diabetes().target[: len(X)]
    model = regressor().fit(X, y)
    return PredictionErrorDisplay.from_estimator(model, X, y, subsample=None).y_pred, model.predict(X)


def draw_calibration(X, y):
    from sklearn.calibration import CalibrationDisplay

    display = CalibrationDisplay.from_estimator(classifier().fit(X, y), X, y, n_bins=2)
    p = positive(X, y)
    return display.prob_true, [y[p <= 0.5].mean(), y[p > 0.5].mean()]


def draw_roc_curve(X, y):
    from sklearn.metrics import RocCurveDisplay

    model = classifier().fit(X, y)
    display = RocCurveDisplay.from_estimator(model, X, y)
    p = positive(X, y)
    pairs = p[y == 1][:, None] - p[y == 0]
    return display.roc_auc, np.mean((pairs > 0) + (pairs == 0) / 2)


def draw_confusion_matrix(X, y):
    from sklearn.metrics import ConfusionMatrixDisplay

    model = classifier().fit(X, y)
    by_hand = [[np.sum((y == a) & (model.predict(X) == b)) for b in (0, 1)] for a in (0, 1)]
    return ConfusionMatrixDisplay.from_estimator(model, X, y).confusion_matrix, by_hand


def draw_precision_and_recall(X, y):
    from sklearn.metrics import PrecisionRecallDisplay

    display = PrecisionRecallDisplay.from_estimator(classifier().fit(X, y), X, y)
    p = positive(X, y)
    return display.precision[np.searchsorted(-display.recall, -1.0, "right") - 1], y[p >= p[y == 1].min()].mean()


@pytest.mark.parametrize(
    "draw",
    [
        *(draw_partial_dependence, draw_learning_curve, draw_validation_curve, draw_decision_boundary),
        *(draw_prediction_error, draw_calibration, draw_roc_curve, draw_confusion_matrix, draw_precision_and_recall),
    ],
    ids=lambda draw: draw.__name__,
)
@pytest.mark.filterwarnings("ignore::skgn.unfamiliar.UnfamiliarDataWarning")
def test_displays_of_scikit_learn_draw(draw, cancer):
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    try:
        np.testing.assert_allclose(*draw(*cancer), rtol=1e-6)
    finally:
        plt.close("all")


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_frames_come_out_where_they_are_asked_for(library, diabetes):
    frames = pytest.importorskip(library)
    X, y = diabetes
    table = frames.DataFrame({f"f{j}": column for j, column in enumerate(X.T)})
    model = make_pipeline(StandardScaler(), FunctionTransformer(), regressor())
    model.set_output(transform=library).fit(table, y)
    assert isinstance(model[:-1].transform(table), frames.DataFrame)
    np.testing.assert_allclose(model.predict(table), regressor().fit(X, y).predict(X), rtol=1e-6)
    if hasattr(RidgeCV().fit(table, y), "feature_names_in_"):  # older versions of scikit-learn find none in polars
        assert list(model[-1].feature_names_in_) == list(table.columns)
        with pytest.raises(ValueError, match="feature names"):
            regressor().fit(table, y).predict(table[list(table.columns)[::-1]])


def test_where_scikit_learn_has_no_callbacks_this_is_said(monkeypatch):
    """The module as an earlier scikit-learn would have it; with 1.9 and later tests/test_callbacks.py."""
    monkeypatch.setitem(sys.modules, "sklearn.callback", None)
    there = importlib.util.find_spec("skgn.callbacks").origin
    spec = importlib.util.spec_from_file_location("skgn._callbacks_of_earlier_versions", there)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    class Model(module.CallbackSupportMixin):
        @module.with_callbacks
        def fit(self):
            return module.begin_fit(self, None, None, None, None, 1)

    assert Model().fit() is None
    assert not hasattr(Model(), "set_callbacks")
    with pytest.raises(AttributeError, match=r"set_callbacks needs scikit-learn >= 1\.9; this is \d"):
        Model().set_callbacks()
