"""Inputs cut into pieces, and the networks that read them."""

import numpy as np
import pytest
from sklearn.preprocessing import StandardScaler

from skgn import GNClassifier, GNRegressor, search
from skgn.further import plant, surround
from skgn.piecewise import PiecewiseEmbedding
from skgn.preprocessing import RankScaler


def embedding(X, weight=None):
    return PiecewiseEmbedding.of_ranks(RankScaler.fit(X, np.ones(len(X)) if weight is None else weight))


def steps(n, seed=0):
    X = np.random.RandomState(seed).uniform(size=(n, 3))
    return X, np.floor(6 * X[:, 0]) % 2 == (X[:, 1] > 0.5)


def test_pieces_are_equal_parts_of_the_samples():
    x = np.random.RandomState(0).lognormal(size=(1000, 1))
    Z = embedding(x).transform(x)
    assert Z.shape == (1000, 8) and Z.flags.c_contiguous and Z.dtype == np.float64
    # A column is at its least below its piece, and at its greatest above it.
    within = (Z > Z.min(axis=0)) & (Z < Z.max(axis=0))
    np.testing.assert_allclose(within.mean(axis=0), 1 / 8, atol=0.006)
    bins = np.digitize(x[:, 0], np.quantile(x, np.arange(1, 8) / 8))
    assert np.mean(within[np.arange(1000), bins]) > 0.95
    # The sum of the columns rises with x throughout.
    assert (np.diff(Z[np.argsort(x[:, 0])].sum(axis=1)) > 0).all()


def test_columns_of_a_feature_have_mean_0_and_a_total_variance_of_1():
    X = np.random.RandomState(1).exponential(size=(2000, 3))
    scaler = embedding(X)
    Z = scaler.transform(X)
    np.testing.assert_allclose(Z.mean(axis=0), 0, atol=0.02)
    np.testing.assert_allclose(np.bincount(scaler.features, Z.var(axis=0)), 1, rtol=0.03)


def test_of_few_values_there_is_a_piece_between_two():
    rng = np.random.RandomState(0)
    X = np.column_stack([rng.randint(0, 4, 500) ** 2, rng.rand(500) < 0.3, np.full(500, 7.0)])
    scaler = embedding(X)
    Z = scaler.transform(X)
    np.testing.assert_array_equal(scaler.features, [0, 0, 0, 1, 2])
    for column, value in zip(Z.T[:3], (1, 4, 9), strict=True):
        low, high = np.unique(column)
        np.testing.assert_array_equal(column == high, X[:, 0] >= value)
        np.testing.assert_allclose(high - low, np.ptp(Z[:, 0]))
    np.testing.assert_allclose(Z[:, 3], StandardScaler().fit_transform(X[:, 1:2])[:, 0], atol=0.1)
    assert (Z[:, 4] == 0).all()


def test_rare_values_rise_by_no_more_than_their_scores_may():
    X = (np.arange(5000) == 0).astype(float)[:, None]
    Z = embedding(X).transform(X)
    np.testing.assert_allclose(np.ptp(Z), 3.5, rtol=1e-12)


def test_rare_values_with_the_same_score_share_a_piece():
    X = np.concatenate([[1.0, 2.0, 3.0], np.zeros(9997)])[:, None]
    scaler = embedding(X)
    Z = scaler.transform(X)
    assert Z.shape == (10_000, 1) and np.isfinite(Z).all()
    assert len(np.unique(Z[:3])) == 1 and Z[0] > Z[3]


@pytest.mark.parametrize(("columns", "pieces"), [(3, 8), (12, 8), (20, 5), (40, 2), (90, 2)])
def test_many_features_have_fewer_pieces(columns, pieces):
    X = np.random.RandomState(0).standard_normal((300, columns))
    assert len(embedding(X).features) == pieces * columns


def test_indicators_leave_fewer_columns_for_the_others():
    rng = np.random.RandomState(0)
    X = np.column_stack([rng.standard_normal((300, 10)), rng.rand(300, 50) < 0.4])
    assert len(embedding(X).features) == 10 * 5 + 50


def test_weights_equal_repetition():
    rng = np.random.RandomState(3)
    X, count = rng.standard_normal((80, 2)).round(1), rng.randint(1, 4, 80)
    repeated, weighted = embedding(np.repeat(X, count, axis=0)), embedding(X, count.astype(float))
    np.testing.assert_array_equal(weighted.transform(X), repeated.transform(X))


@pytest.mark.parametrize("value", [1e308, -1e308, 1e-320])
def test_columns_stay_finite_whatever_comes_later(value):
    X = np.random.RandomState(0).standard_normal((60, 4))
    assert np.isfinite(embedding(X).transform(np.full((2, 4), value))).all()


# --- Networks


@pytest.fixture
def nothing_else_is_drawn(monkeypatch):
    """But radial units: a fit so short is behind forests, which take most of its time."""
    monkeypatch.setattr(search, "FURTHER", [surround])


def scalings(model):
    return [m.scaling for m in model.estimators_ if m.network.activation == "relu"]


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(
    ("n", "classes", "parameters", "found"),
    [
        (400, 3, {}, ["piecewise", "robust"]),
        (399, 3, {}, ["robust"]),
        (2001, 2, {}, ["piecewise", "robust"]),
        (2000, 2, {}, ["piecewise"]),
        (399, 2, {}, ["robust"]),
        (400, 3, {"standardize": "robust"}, ["robust"]),
        (400, 3, {"standardize": "piecewise"}, ["piecewise"]),
        (400, 3, {"activation": "tanh"}, []),
        (400, 3, {"hidden_layer_sizes": ()}, []),
        (400, 3, {"l2_regularization": 1e-2}, []),
    ],
    ids=str,
)
def test_which_classifiers_have_a_network_of_pieces(n, classes, parameters, found, nothing_else_is_drawn):
    X = np.random.RandomState(0).standard_normal((n, 2))
    model = GNClassifier(max_iter=2, tol=1e9, random_state=0, **parameters).fit(X, np.arange(n) % classes)
    assert sorted(set(scalings(model))) == found
    assert all(m.network.hidden_layer_sizes == (20,) for m in model.estimators_ if m.scaling == "piecewise")


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_regression_has_none(nothing_else_is_drawn):
    X = np.random.RandomState(0).standard_normal((2001, 2))
    model = GNRegressor(max_iter=2, tol=1e9, random_state=0).fit(X, X[:, 0])
    assert "piecewise" not in {m.scaling for m in model.estimators_}


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_warm_start_on_other_pieces_draws_that_network_anew():
    rng = np.random.RandomState(0)
    X, y = rng.standard_normal((400, 2)), np.arange(400) % 3
    model = GNClassifier(max_iter=2, tol=1e9, random_state=0, warm_start=True).fit(X, y)
    before = {m.scaling: m.network.n_inputs for m in model.estimators_}
    model.fit(np.column_stack([X[:, 0], np.digitize(X[:, 1], [-1, 0, 1])]), y)
    after = {m.scaling: m.network.n_inputs for m in model.estimators_}
    assert (before["piecewise"], after["piecewise"]) == (16, 11)
    # One is radial, one reads a forest, and one tells normal classes.
    assert len(model.estimators_) == 7


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(("first", "then"), [(399, 400), (400, 399)])
def test_a_warm_start_goes_on_where_rows_are_now_enough_for_pieces_or_no_longer(first, then, monkeypatch):
    monkeypatch.setattr(search, "FURTHER", [surround, plant])
    X = np.random.RandomState(0).standard_normal((400, 2))
    y = X.sum(axis=1) > 0
    model = GNClassifier(max_iter=2, tol=1e9, random_state=0, warm_start=True).fit(X[:first], y[:first])
    before = scalings(model)
    model.fit(X[:then], y[:then])
    # A forest needs 400 rows.
    assert len(model.estimators_) == 4 + (then == 400)
    assert before == (["robust"] if first < then else ["piecewise"])
    assert "piecewise" not in scalings(model)


def test_steps_along_single_columns_are_found():
    (X, y), (new, labels) = steps(1500), steps(2000, seed=1)
    options = {
        "activation": "relu",
        "hidden_layer_sizes": (20,),
        "n_estimators": 2,
        "l2_regularization": 1e-3,
        "tol": 1e-2,
    }
    robust = GNClassifier(**options, random_state=0, standardize="robust").fit(X, y).score(new, labels)
    pieces = GNClassifier(**options, random_state=0, standardize="piecewise").fit(X, y).score(new, labels)
    assert pieces > 0.95 > 0.9 > robust, (pieces, robust)
