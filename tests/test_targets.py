"""Tables and targets by themselves: what they learn never changes, and is what scikit-learn makes of the same data."""

import dataclasses
from fractions import Fraction

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.preprocessing import LabelBinarizer, LabelEncoder, StandardScaler
from sklearn.utils.class_weight import compute_class_weight

from skgn import GNClassifier, GNRegressor
from skgn.estimator import network_on, table_and_target
from skgn.targets import LOSSES, ClassificationTarget, RegressionTarget

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

SMALL = {"hidden_layer_sizes": (3,), "n_estimators": 2, "max_iter": 4, "random_state": 0}
RANDOM = np.random.RandomState(0)
LABELS = np.array(["a", "b", "c"])[RANDOM.randint(0, 3, 60)]
X = RANDOM.normal(size=(60, 3))
Y = X[:, :2] + RANDOM.normal(size=(60, 2))


def kinds(estimator):
    """Targets of several kinds."""
    if estimator is GNRegressor:
        return [Y[:, 0], Y]
    return [LABELS, np.where(LABELS == "a", "yes", "no"), (Y > 0).astype(int)]


# --- Classification


@pytest.mark.parametrize("weights", [np.ones(60), RANDOM.randint(0, 4, 60).astype(float)], ids=["none", "repetitions"])
@pytest.mark.parametrize("class_weight", ["balanced", {"a": 2.0, "c": 0.5}, {"b": 0.0}])
def test_class_weights_are_those_of_scikit_learn(class_weight, weights):
    target = ClassificationTarget.of(LABELS)
    codes = target.encode(LABELS)
    target = target.under(class_weight, target.class_totals(codes, weights))
    # scikit-learn counts rows, and weights are repetitions of them.
    repeated = np.repeat(LABELS, weights.astype(int))
    expected = compute_class_weight(class_weight, classes=np.unique(repeated), y=repeated)
    np.testing.assert_allclose(target.factors, expected, rtol=1e-13)
    np.testing.assert_array_equal(target.row_factors(codes), target.factors[codes[:, 0].astype(int)])
    without = class_weight == {"b": 0.0}
    np.testing.assert_array_equal(target.weigh(codes, weights), np.where((LABELS == "b") & without, 0.0, weights))


def test_rows_in_parts_have_the_class_totals_of_all_rows():
    target = ClassificationTarget.of(LABELS)
    codes, weight = target.encode(LABELS), RANDOM.uniform(size=60)
    totals = sum(target.class_totals(codes[half], weight[half]) for half in (slice(0, 7), slice(7, None)))
    np.testing.assert_allclose(totals, [weight[LABELS == label].sum() for label in "abc"], rtol=1e-13)


def test_class_totals_are_exact_sums_whatever_the_order_of_rows():
    target, rng = ClassificationTarget.of(LABELS), np.random.default_rng(0)
    codes, weight = target.encode(LABELS), rng.uniform(size=60)
    exact = [float(sum(map(Fraction, weight[LABELS == label]))) for label in "abc"]
    balanced = GNClassifier(**SMALL, class_weight="balanced").fit(X, LABELS, weight)
    for order in (rng.permutation(60) for _ in range(3)):
        np.testing.assert_array_equal(target.class_totals(codes[order], weight[order]), exact)
        again = clone(balanced).fit(X[order], LABELS[order], weight[order])
        np.testing.assert_array_equal(again.predict_proba(X), balanced.predict_proba(X))


def test_codes_and_one_hot_rows_are_those_of_scikit_learn():
    three, two = kinds(GNClassifier)[:2]
    target = ClassificationTarget.of(three)
    np.testing.assert_array_equal(target.encode(three)[:, 0], LabelEncoder().fit_transform(three))
    np.testing.assert_array_equal(target.transform(target.encode(three)), LabelBinarizer().fit_transform(three))
    target = ClassificationTarget.of(two)
    np.testing.assert_array_equal(target.transform(target.encode(two)), LabelBinarizer().fit_transform(two))


@pytest.mark.parametrize(("number", "n_outputs"), [(0, 3), (1, 1), (2, 2)])
def test_predicted_labels_are_those_of_the_largest_probability(number, n_outputs):
    y = kinds(GNClassifier)[number]
    target = ClassificationTarget.of(y)
    assert target.n_outputs == n_outputs
    outputs, weights = RANDOM.normal(size=(2, 40, n_outputs)), np.array([0.3, 0.7])
    p, labels = np.exp(target.log_proba(outputs, weights)), target.labels(target.scores(outputs, weights))
    expected = (p > 0.5).astype(int) if target.multilabel else target.classes[p.argmax(axis=1)]
    np.testing.assert_array_equal(labels, expected)


def test_a_stream_of_labels_takes_no_class_weights_later_either():
    model = GNClassifier(**SMALL).partial_fit(X, (Y > 0).astype(int))
    with pytest.raises(ValueError, match="class_weight is not defined for a multilabel y"):
        model.set_params(class_weight={0: 2.0}).partial_fit(X, (Y > 0).astype(int))


# --- Regression


@pytest.mark.parametrize("y", kinds(GNRegressor), ids=["one", "two"])
def test_a_standardised_target_is_that_of_scikit_learn_and_back(y):
    target = RegressionTarget.of(y, "squared_error", 0.5)
    Y = target.encode(y)
    fitted = target.with_scaler(lambda loss: loss.fit_scaler(Y, np.ones(len(Y))))
    standard = StandardScaler().fit(Y)
    np.testing.assert_allclose(fitted.transform(Y), standard.transform(Y), rtol=1e-12, atol=1e-12)
    outputs = RANDOM.normal(size=(1, 5, Y.shape[1]))
    mean = fitted.mean(outputs, np.ones(1))
    expected = standard.inverse_transform(outputs[0])
    np.testing.assert_allclose(mean, expected[:, 0] if y.ndim == 1 else expected, rtol=1e-12)
    # Before it is fitted, a target changes nothing.
    np.testing.assert_array_equal(target.transform(Y), Y)


@pytest.mark.parametrize("loss", LOSSES)
def test_a_loss_of_other_outputs_is_refused_later(loss):
    target = RegressionTarget.of(np.exp(Y), "squared_error", 0.5)
    if loss in ("poisson", "gamma"):
        with pytest.raises(ValueError, match=f"loss='{loss}' has outputs of another kind"):
            target.under(loss, 0.5)
    else:
        assert target.under(loss, 0.3).training_loss().name == loss


def test_the_loss_of_a_fit_outlives_its_parameter():
    model = GNRegressor(**SMALL, loss="student_t").fit(X, Y)
    before = model.predict(X, return_std=True)
    model.set_params(loss="poisson", quantile=0.9)
    assert model.noise_distribution_ == "student_t"
    np.testing.assert_array_equal(model.predict(X, return_std=True), before)


# --- Both


@pytest.mark.parametrize("estimator", [GNRegressor, GNClassifier])
def test_tables_and_targets_do_not_change(estimator):
    model = estimator(**SMALL).fit(X, kinds(estimator)[0])
    for part in table_and_target(model):
        for field in dataclasses.fields(part):
            with pytest.raises(dataclasses.FrozenInstanceError):
                setattr(part, field.name, None)


@pytest.mark.parametrize("warm_start", [False, True])
@pytest.mark.parametrize("estimator", [GNRegressor, GNClassifier])
@pytest.mark.filterwarnings("ignore::skgn.unfamiliar.UnfamiliarDataWarning")
def test_a_fit_that_fails_at_its_end_leaves_the_one_before(estimator, warm_start, monkeypatch):
    """Also if table and target of the new one were known already."""
    y, other = kinds(estimator)[:2]
    model = estimator(**SMALL, warm_start=warm_start).fit(X, y)
    expected, before = model.predict(X), dict(vars(model))

    def fail(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(estimator, "_relevance", fail)
    with pytest.raises(KeyboardInterrupt):
        model.fit(100 * X, y if warm_start else other)
    assert vars(model).keys() == before.keys() and all(vars(model)[name] is before[name] for name in before)
    np.testing.assert_array_equal(model.predict(X), expected)
    with pytest.raises(KeyboardInterrupt):
        model.partial_fit(100 * X, y)
    np.testing.assert_array_equal(model.predict(X), expected)


@pytest.mark.parametrize("estimator", [GNRegressor, GNClassifier])
def test_columns_of_a_scaling_have_a_feature_each(estimator):
    model = estimator(**SMALL | {"n_estimators": 4}, activation="tanh").fit(X, kinds(estimator)[0])
    table, _ = table_and_target(model)
    assert len(table.scalings) == 2
    scaled = table.scale(table.encode(X))
    for name, features in table.features.items():
        assert scaled[name].shape[1] == len(features) and set(features) == {0, 1, 2}
        # A column moves with its feature alone.
        for j in range(3):
            moved = X.copy()
            moved[:, j] += 1
            changed = (table.scale(moved)[name] != scaled[name]).any(axis=0)
            np.testing.assert_array_equal(changed, features == j)


@pytest.mark.parametrize("estimator", [GNRegressor, GNClassifier])
def test_a_network_for_inspection_leaves_its_estimator_as_it_was(estimator):
    y, model = kinds(estimator)[0], estimator(**SMALL)
    parameters = vars(model).copy()
    objective, w = network_on(model, X, y)
    assert vars(model) == parameters and objective.n_samples == 60
    # It is where the fit of one network begins.
    cut = clone(model).set_params(n_estimators=1, max_iter=0, l2_regularization=0.1).fit(X, y)
    np.testing.assert_array_equal(network_on(clone(cut), X, y)[1], cut.estimators_[0].weights)
    before = vars(cut).copy()
    objective, w = network_on(cut, X, y)
    assert all(vars(cut)[name] is before[name] for name in before) and vars(cut).keys() == before.keys()
    assert float(objective.evaluate(w).loss) == pytest.approx(cut.loss_, rel=1e-12)
