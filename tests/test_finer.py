"""Finer inputs: where left-out residuals depend on a feature, more networks read pieces of it."""

import numpy as np
import pytest
from not_left_open import NOT_LEFT_OPEN
from scipy.special import expit, softmax
from scipy.stats import f
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LinearRegression
from sklearn.preprocessing import SplineTransformer

from skgn import GNClassifier, GNRegressor
from skgn.feedforward import FeedForward
from skgn.finer import Refinable
from skgn.left_over import LeftOver
from skgn.piecewise import FINER, FinerScaler
from skgn.preprocessing import InputScaler, StraightScaler, TwoPathScaler

N = 400

#: Small networks, of which a wave is too much.
FEW = {"hidden_layer_sizes": (5,), "n_estimators": 2, "tol": 1e-2, "random_state": 0}


def wave(X):
    """A zigzag of three and a half periods: more of them are waves (`test_waves.py`)."""
    return 1.5 * np.interp(X[:, 0], np.linspace(-2, 2, 8), [-1, 1] * 4) + X[:, 1] ** 2


def data(function=wave, n=N, d=4, noise=0.1, seed=0):
    random = np.random.RandomState(seed)
    X = random.uniform(-2, 2, (n, d))
    return X, function(X) + noise * random.standard_normal(n)


def read_in_pieces(model):
    return [member for member in model.estimators_ if member.scaling == FINER]


def refinable(X, paths=TwoPathScaler, units=5):
    scaler, d = paths.fit(X, np.ones(len(X))), X.shape[1]
    straight = scaler.n_straight
    network = FeedForward(d + straight, 1, n_straight=straight)
    return Refinable.of(scaler, network, None if units is None else (units,))


def refined(X, values, weight=None, **kinds):
    """The scaling that is made for these residuals."""
    weight = np.ones(len(X)) if weight is None else weight
    given = refinable(X, **kinds)
    lacking = LeftOver.of_noise(values.reshape(len(X), -1), weight, np.arange(len(X)))
    return given.refined(given.scaler.transform(X), lacking)


def test_a_wave_is_found_beside_other_columns(capsys):
    X, y = data()
    new, clean = data(noise=0, n=1000, seed=1)
    model = GNRegressor(**FEW, verbose=1).fit(X, y)
    assert "left-out residuals depend on 1 feature: 2 more candidates for finer inputs" in capsys.readouterr().out
    assert read_in_pieces(model)
    assert model.score(new, clean) > 0.95
    # What there is without it.
    assert GNRegressor(**FEW, standardize="robust").fit(X, y).score(new, clean) < 0.8
    # The wave and the parabola count, and noise does not.
    assert model.feature_relevance_[:2].sum() > 0.99


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_of_many_rows_there_is_one_more(capsys):
    X, y = data(n=2001, d=2)
    GNRegressor(**FEW, verbose=1, max_iter=20).fit(X, y)
    assert "1 more candidate for finer inputs" in capsys.readouterr().out


@pytest.mark.parametrize(
    "function", [lambda X: X[:, 0], lambda X: X[:, 0] * X[:, 1], lambda X: 0 * X[:, 0]], ids=["line", "product", "none"]
)
def test_nothing_is_drawn_where_nothing_is_lacking(function, capsys):
    GNRegressor(**FEW, verbose=1).fit(*data(function, noise=0.5))
    assert "finer" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "given",
    NOT_LEFT_OPEN,
    ids=str,
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.filterwarnings("ignore:Failed. extreme targets:UserWarning")
def test_nothing_is_drawn_where_the_choice_is_not_left_to_the_fit(given, capsys):
    X, y = data()
    GNRegressor(**FEW | given, max_iter=10, verbose=1).fit(X, np.round(np.exp(y)))
    assert "finer" not in capsys.readouterr().out


def labels_of(X, kind, seed):
    """Noisy labels of a wave beside a line: of two classes, of three, or two labels."""
    signal = 2.5 * np.column_stack([np.sin(5.5 * X[:, 0]) + X[:, 1], np.sin(5 * X[:, 2]) - X[:, 1]])
    uniform = np.random.RandomState(seed).uniform(size=(len(X), 2))
    if kind == "three classes":
        p = softmax(np.column_stack([signal, np.zeros(len(X))]), axis=1)
        return (p.cumsum(axis=1) < uniform[:, :1]).sum(axis=1)
    labels = (uniform < expit(signal)).astype(int)
    return labels[:, 0] if kind == "two classes" else labels


@pytest.mark.parametrize("kind", ["two classes", "three classes", "two labels"])
def test_a_wave_of_labels_is_found(kind, capsys):
    X, _ = data(n=600)
    new, _ = data(n=2000, seed=1)
    y, truth = labels_of(X, kind, 2), labels_of(new, kind, 3)
    model = GNClassifier(**FEW, verbose=1).fit(X, y)
    # Of two members, steps may take the places of these.
    assert "finer inputs" in capsys.readouterr().out
    without = GNClassifier(**FEW, standardize="robust").fit(X, y)
    assert model.score(new, truth) > without.score(new, truth) + 0.02


@pytest.mark.parametrize("loss", ["student_t", "huber"])
def test_other_losses_with_a_noise_level_do_too(loss):
    assert read_in_pieces(GNRegressor(**FEW, loss=loss).fit(*data()))


def test_the_test_is_that_of_a_linear_model_in_hat_functions():
    """Oracle: scikit-learn's splines of degree 1 with knots at the quantiles, which span the same functions."""
    X, _ = data(d=2)
    random = np.random.RandomState(0)
    p = []
    for size in np.linspace(0.2, 0.5, 7):
        y = size * np.sin(9 * X[:, 0]) + random.standard_normal(N)
        knots = np.quantile(X[:, :1], np.arange(25) / 24, axis=0, method="higher")
        basis = SplineTransformer(degree=1, knots=knots, include_bias=False).fit_transform(X[:, :1])
        left = np.square(y - LinearRegression().fit(basis, y).predict(basis)).sum()
        spread = np.square(y - y.mean()).sum()
        p.append(2 * f.sf((spread - left) / 24 / (left / (N - 25)), 24, N - 25))
        found = refined(X, y)
        assert (found is not None and 0 in found.columns) == (p[-1] < 1e-3)
    # On either side of the limit, and near to it.
    assert min(p) < 1e-5 and max(p) > 1e-2 and any(1e-3 < each < 2e-3 for each in p)


def lacking_labels(p, y):
    """What is lacking of labels 0 and 1 that a fit gives the probability p."""
    return LeftOver.of_labels(p[:, None], y[:, None], np.ones(len(y)), np.arange(len(y)))


def test_the_test_of_labels_is_the_score_test():
    """Oracle: Rao's statistic of a logistic model, in scikit-learn's splines of degree 1, by dense linear algebra."""
    X, _ = data(d=2)
    given, p = refinable(X), []
    knots = np.quantile(X[:, :1], np.arange(25) / 24, axis=0, method="higher")
    B = SplineTransformer(degree=1, knots=knots).fit_transform(X[:, :1])
    for size in np.linspace(0.4, 1.2, 9):
        q = expit(X[:, 1])
        y = (np.random.RandomState(4).uniform(size=N) < expit(X[:, 1] + size * np.sin(9 * X[:, 0]))).astype(float)
        r, v = y - q, q * (1 - q)
        explained = (B.T @ r) @ np.linalg.solve(B.T @ (v[:, None] * B), B.T @ r) - r.sum() ** 2 / v.sum()
        left = (r**2 / v).sum() - r.sum() ** 2 / v.sum() - explained
        p.append(2 * f.sf(explained / 24 / max(left / (N - 25), 1.0), 24, N - 25))
        found = given.refined(given.scaler.transform(X), lacking_labels(q, y))
        assert (found is not None and 0 in found.columns) == (p[-1] < 1e-3)
    assert min(p) < 1e-4 and max(p) > 1e-2


def test_labels_that_are_right_tell_nothing_of_a_fit_that_is_unsure():
    X, _ = data(d=2)
    given, y = refinable(X), (X[:, 0] > 0).astype(float)
    lacking = lacking_labels(np.where(y > 0, 0.95, 0.05), y)
    assert given.refined(given.scaler.transform(X), lacking) is None
    # To the F test of numbers they would tell much.
    assert set(refined(X, lacking.values).columns) == {0}


def test_labels_that_are_wrong_by_chance_tell_nothing_of_a_fit_that_is_too_sure():
    X, _ = data(d=2)
    given, random = refinable(X), np.random.RandomState(5)
    y, right = random.uniform(size=N) < 0.5, random.uniform(size=N) < 0.9
    lacking = lacking_labels(np.where(y == right, 0.999, 0.001), y.astype(float))
    assert given.refined(given.scaler.transform(X), lacking) is None


def test_residuals_of_two_outputs_are_tested_each():
    X, y = data(lambda X: np.sign(np.sin(5 * X[:, 2])))
    noise = np.random.RandomState(1).standard_normal(N)
    for values in ([y, noise], [noise, y]):
        assert set(refined(X, np.column_stack(values)).columns) == {2}


def test_gross_errors_are_not_taken_for_a_mean():
    X, _ = data(d=3)
    residuals = np.random.RandomState(2).standard_normal(N)
    residuals[np.argsort(X[:, 1])[200:204]] = 300
    assert refined(X, residuals) is None


@pytest.mark.parametrize("unit", [1e-300, 1e-12, 1e300])
def test_residuals_may_be_of_any_size(unit):
    X, y = data(lambda X: np.sin(9 * X[:, 1]))
    assert set(refined(X, unit * y).columns) == {1}
    assert refined(X, np.full(N, unit)) is None


def test_indicators_and_few_samples_tell_nothing():
    X, y = data()
    assert refined(np.where(X > 0, 1.0, 0.0), y) is None
    assert refined(X[:30], y[:30]) is None


def test_repeated_rows_tell_no_more_than_one_of_them():
    X, y = data(lambda X: 0 * X[:, 0], n=40, noise=1)
    assert refined(X, y, np.full(40, 50.0)) is None


def test_weights_may_differ_by_many_orders_of_magnitude():
    X, y = data(lambda X: np.sin(9 * X[:, 1]))
    # Of forty rows that weigh, some pieces have one, between ends of rows that hardly do.
    noise = np.random.RandomState(1).standard_normal(N)
    assert refined(X, noise, np.where(np.arange(N) % 10, 1e-17, 1.0)) is None
    weight = np.where(np.arange(N) % 2, 1.0, 1e-17)
    assert set(refined(X, y, weight).columns) == set(refined(X[1::2], y[1::2]).columns) == {1}
    assert refined(X, y[::-1], weight) is None and refined(X[1::2], y[::-1][1::2]) is None


def test_as_many_features_are_cut_as_the_network_can_read():
    X, y = data(lambda X: np.sin(9 * X[:, 0]) + 2 * np.sin(9 * X[:, 1]))
    assert set(refined(X, y).columns) == {0, 1}
    # The feature that tells more comes first: of 30 units each piece has 31 weights.
    assert set(refined(X, y, units=30).columns) == {1}
    assert refined(X, y, units=60) is None


def test_the_more_features_are_cut_the_fewer_are_the_units():
    X, y = data(lambda X: np.sin(9 * X).sum(axis=1), d=6, n=800)
    given = refinable(X, units=None)
    sizes = [given.reading(24 * count).hidden_layer_sizes for count in range(1, 7)]
    assert sizes == [(20,), (10,), (10,), (4,), (4,), (4,)]
    # Six waves, of which the other networks find little.
    new = data(lambda X: np.sin(9 * X).sum(axis=1), d=6, noise=0, seed=1)
    for init in ("random", "symmetric"):
        assert GNRegressor(random_state=0, n_estimators=2, tol=1e-2, init=init).fit(X, y).score(*new) > 0.95


@pytest.mark.parametrize("paths", [TwoPathScaler, InputScaler, StraightScaler])
def test_columns_are_those_of_the_other_scaling_and_pieces(paths):
    X, y = data(lambda X: np.sin(9 * X[:, 3]))
    X[:, 3] = np.round(X[:, 3], 1)
    scaler = refined(X, y, paths=paths)
    Z, base = scaler.transform(X), scaler.base.transform(X)
    m, straight = len(scaler.lower), scaler.base.n_straight
    assert m == 24 and Z.flags.c_contiguous
    assert Z.shape[1] == base.shape[1] + (2 if straight else 1) * m
    assert scaler.n_straight == (straight + m if straight else 0)
    np.testing.assert_array_equal(Z[:, :4], base[:, :4])
    pieces = Z[:, 4 : 4 + m]
    if straight:
        np.testing.assert_array_equal(Z[:, 4 + m : 8 + m], base[:, 4:])
        np.testing.assert_array_equal(Z[:, 8 + m :], pieces)
    np.testing.assert_allclose(pieces.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(pieces.var(axis=0).sum(), 1, rtol=1e-9)
    features = [0, 1, 2, 3, *[3] * m]
    np.testing.assert_array_equal(scaler.features, features * 2 if straight else features)
    # Between quantiles the pieces draw any function: oracle as above.
    column = base[:, 3:4]
    edges = np.append(scaler.lower, scaler.lower[-1] + scaler.width[-1])[:, None]
    spline = SplineTransformer(degree=1, knots=edges, include_bias=True).fit_transform(column)
    drawn = LinearRegression().fit(pieces, spline).predict(pieces)
    np.testing.assert_allclose(drawn, spline, atol=1e-9)


def test_a_stream_goes_on_with_pieces():
    X, y = data(n=600)
    model = GNRegressor(**FEW).fit(X[:N], y[:N])
    assert read_in_pieces(model)
    model.partial_fit(X[N:], y[N:])
    assert read_in_pieces(model) and model.score(*data(seed=1)) > 0.9
    # Other units than before.
    with pytest.warns(UserWarning):
        model.partial_fit(1e3 * X[:200], y[:200])
    assert np.isfinite(model.predict(X)).all()


def test_a_warm_start_draws_pieces_anew():
    X, y = data()
    model = GNRegressor(**FEW, warm_start=True).fit(X, y)
    again = model.fit(X, y)
    assert read_in_pieces(again) and again.score(*data(seed=1)) > 0.9


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_early_stopping_reads_pieces_of_rows_held_out():
    model = GNRegressor(**FEW, early_stopping=True).fit(*data(n=600))
    assert read_in_pieces(model) and model.score(*data(seed=1)) > 0.9


def test_a_fit_of_little_time_ends():
    with pytest.warns(ConvergenceWarning):
        GNRegressor(**FEW, max_time=0.02).fit(*data())


def test_a_damaged_scaling_is_found():
    model = GNRegressor(**FEW).fit(*data())
    scaler = model._table.scalings[FINER]
    assert isinstance(scaler, FinerScaler)
    state = model.__getstate__()
    model._table.scalings[FINER] = FinerScaler(
        scaler.base, scaler.columns[:-1], *(getattr(scaler, name)[:-1] for name in ("lower", "width", "mean", "rise"))
    )
    state["_table"] = model._table
    with pytest.raises(ValueError, match="finer"):
        GNRegressor().__setstate__(state)
