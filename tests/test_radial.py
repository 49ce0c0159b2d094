"""Radial units: a network that is linear in how near a row is to others, beside those that bend."""

import itertools
import pickle
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from scipy.stats import Covariance, multivariate_normal
from sklearn.gaussian_process.kernels import RBF, Matern
from sklearn.metrics import d2_log_loss_score
from sklearn.metrics.pairwise import laplacian_kernel
from sklearn.svm import SVC

from skgn import GNClassifier, GNRegressor
from skgn.candidates import Kind, Level
from skgn.draws import draw_starts, radial_start
from skgn.ensemble import Predictor, member_outputs
from skgn.evidence import make_prior
from skgn.export.inputs import make_scaling
from skgn.feedforward import FeedForward
from skgn.losses import SquaredError
from skgn.preprocessing import InputScaler, TwoPathScaler
from skgn.prior_groups import PriorKind
from skgn.radial import RADIAL, Radial, RadialUnits, equal_metrics, paths_of, told_metrics
from skgn.relevance import feature_slopes
from skgn.shapes import Metric, Telling, _tridiagonal, _variances, best_shape, falling

N = 120

#: Profiles of the units, and the lengths to choose from.
PROFILES = {"exponential": [1.0, 5.0], "matern": [1.0, 5.0], "gaussian": [0.5, 1.0, 3.0]}

LINE = "of radial units"


def data(n=N, d=3, seed=0, noise=0.1):
    random = np.random.RandomState(seed)
    X = random.standard_normal((n, d))
    return X, np.sin(3 * X[:, 0]) + X[:, 1] + noise * random.standard_normal(n)


def made(X, Y, slopes=None, paths=TwoPathScaler, learned=0.0):
    """Radial units of these rows, the columns that they read, and their own."""
    weight = np.ones(len(X))
    base = paths.fit(X, weight)
    z = base.transform(X)
    slopes, squashed = np.ones(z.shape[1]) if slopes is None else slopes, paths_of(z.shape[1], base.n_straight)[:1]
    metrics = told_metrics(slopes, squashed, base.n_straight, learned, len(X))
    radial = Radial.of(base, z, metrics, Y.reshape(len(X), -1), weight)
    return radial, z, None if radial is None else radial.units.transform(X)


def shape_of(z, straight, Y, weight):
    """The best shape where all columns count alike."""
    metric = Metric(np.ones(z.shape[1]), np.ones(straight.shape[1]))
    return best_shape([metric], Telling(z, straight, Y, weight))


def kernel_of(profile, z):
    kernels = {"matern": Matern(1.0, nu=1.5), "gaussian": RBF(1.0)}
    return laplacian_kernel(z, gamma=1.0) if profile == "exponential" else kernels[profile](z)


@pytest.mark.parametrize("profile", PROFILES)
def test_units_fall_as_kernels_do(profile):
    z = np.random.RandomState(0).standard_normal((30, 1))
    distance = np.abs(z - z.T)
    np.testing.assert_allclose(falling(distance, profile), kernel_of(profile, z), rtol=1e-12)
    np.testing.assert_allclose(falling(torch.from_numpy(distance), profile, torch), kernel_of(profile, z), rtol=1e-12)


@pytest.mark.parametrize("paths", [TwoPathScaler, InputScaler])
def test_columns_have_the_covariance_of_a_gaussian_process(paths):
    X, y = data(noise=0.5)
    d = X.shape[1]
    slopes = np.tile([1.0, 0.5, 0.2], 2 if paths is TwoPathScaler else 1)
    radial, z, columns = made(X, y, slopes, paths=paths)
    units, hidden, straight = radial.units, z[:, :d], z[:, -d:] * radial.units.straight
    signal = units.straight[0] ** 2 * d
    expected = signal * kernel_of(units.profile, hidden * units.scale) + straight @ straight.T
    # All rows are centres, and directions are left out of which noise hides ten times as much.
    np.testing.assert_allclose(columns @ columns.T, expected, atol=0.1 * radial.noise)
    assert columns.shape[1] < N + d
    np.testing.assert_allclose(units.transform(X[5:9]), columns[5:9], rtol=1e-9, atol=1e-12)


def variances(X, y, new, noise=None):
    """Variances of the outputs at new rows, given targets; the same under a Gaussian process, and the noise of both."""
    n, d = X.shape
    radial, _, columns = made(X, y, paths=InputScaler)
    units, noise = radial.units, radial.noise if noise is None else noise
    signal = units.straight[0] ** 2 * d
    z = units.base.transform(np.concatenate([X, new]))
    K = signal * kernel_of(units.profile, z * units.scale) + (z * units.straight) @ (z * units.straight).T
    known, cross = K[:n, :n] + noise * np.eye(n), K[:n, n:]
    expected = K[n:, n:].diagonal() - (cross * np.linalg.solve(known, cross)).sum(axis=0)
    # Weights of variance 1.
    of_new = units.transform(new)
    precision = np.eye(columns.shape[1]) + columns.T @ columns / noise
    # The means are as without it: no target tells the last weight.
    assert columns.shape[1] == units.n_columns and units.told > 0 and columns[:, -1].max() < 1e-12
    return (of_new * np.linalg.solve(precision, of_new.T).T).sum(axis=1), expected, noise


@pytest.mark.parametrize("n", [40, N])
def test_without_noise_outputs_have_the_variance_of_a_gaussian_process(n):
    """Targets of all centres tell the weights of all units, and nothing of what is between the centres."""
    X, y = data(n + 200, noise=0.0)
    found, expected, noise = variances(X[:n], y[:n], X[n:], noise=1e-6)
    # Directions are left out of which noise hides ten times as much.
    np.testing.assert_allclose(found, expected, rtol=0.2, atol=0.1 * noise)


@pytest.mark.parametrize("noise", [0.05, 0.1, 0.2])
def test_where_units_lack_more_than_the_noise_observations_have_the_variance_of_a_gaussian_process(noise):
    random = np.random.RandomState(0)
    X = random.uniform(-1, 1, (N + 200, 1))
    y = np.sin(40 * X[:, 0]) + noise * random.standard_normal(len(X))
    found, expected, estimated = variances(X[:N], y[:N], X[N:])
    assert estimated > 1e-3 * y.var()
    np.testing.assert_allclose(found + estimated, expected + estimated, rtol=0.06)


@pytest.mark.parametrize("n", [N, 700], ids=["all rows are centres", "some are"])
def test_far_from_all_rows_outputs_have_the_variance_of_a_gaussian_process(n):
    """There units are 0, and with them all that targets tell, although between rows these tell nearly all."""
    random = np.random.RandomState(0)
    X = random.uniform(-1, 1, (n, 1))
    y = np.sin(12 * X[:, 0]) + 0.3 * random.standard_normal(n)
    found, expected, noise = variances(X, y, np.linspace(-4, -3, 20)[:, None])
    assert expected.min() > 3 * noise
    np.testing.assert_allclose(found, expected, rtol=0.1)


def test_intervals_hold_beyond_the_last_row():
    """A wave goes on, and nobody knows it: intervals were narrower there than at the rows of the fit."""
    random = np.random.RandomState(0)
    time = np.arange(450.0)
    y = 2 * np.sin(2 * np.pi * time / 50) + 0.3 * random.standard_normal(len(time))
    model = GNRegressor(n_estimators=2, random_state=0).fit(time[:300, None], y[:300])
    low, high = model.predict_interval(time[:, None], 0.9).T
    held = (low <= y) & (y <= high)
    assert held[:300].mean() > 0.85 and held[320:].mean() > 0.85
    assert np.median((high - low)[320:]) > 2 * np.median((high - low)[:300])


def log_density(z, Y, weight, kernel, logs):
    """Of targets under a Gaussian process, by SciPy."""
    signal, noise = np.exp(logs)
    covariance = signal * (kernel + z @ z.T / z.shape[1]) + np.diag(noise / weight)
    normal = multivariate_normal(np.zeros(len(z)), Covariance.from_cholesky(np.linalg.cholesky(covariance)))
    return float(normal.logpdf(Y.T).sum())


def one_length(z, Y, weight):
    """The highest density of each profile, if the length is the same along all columns, and one over that length."""
    found = {}
    for profile, lengths in PROFILES.items():
        apart = np.linalg.norm(z[:, None] - z, ord=1 if profile == "exponential" else 2, axis=2)
        for length in np.median(apart[apart > 0]) * np.array(lengths):
            kernel = kernel_of(profile, z / length)
            fit = minimize(
                lambda logs, kernel: -log_density(z, Y, weight, kernel, logs),
                np.zeros(2),
                kernel,
                "Nelder-Mead",
                tol=1e-3,
            )
            found[profile] = max(found.get(profile, (-np.inf, 0)), (-fit.fun, 1 / length))
    return found


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("rough", [False, True])
@pytest.mark.parametrize("k", [1, 2])
def test_the_shape_has_the_highest_density(rough, k, weighted):
    random = np.random.RandomState(0)
    z = random.standard_normal((45, 3))
    y = np.sign(np.sin(2 * z)).sum(axis=1) if rough else np.sin(3 * z[:, 0]) + z[:, 1]
    Y = np.column_stack([y, y + np.sign(z[:, 2]) if rough else np.cos(z[:, 2])])[:, :k]
    Y = Y - Y.mean(axis=0) + 0.01 * random.standard_normal((45, k))
    weight = random.uniform(0.5, 3, len(z)) if weighted else np.ones(len(z))
    found = shape_of(z, z / np.sqrt(z.shape[1]), Y, weight)
    of_one_length = one_length(z, Y, weight)
    logs = np.log([found.signal, found.noise])
    if rough:
        assert found.profile == "exponential"
        np.testing.assert_allclose(found.factors, of_one_length["exponential"][1], rtol=1e-12)
        here = log_density(z, Y, weight, kernel_of(found.profile, z * found.factors), logs)
    else:
        # The prior of logarithms of lengths is normal, about the best one that is the same along all columns.
        _, factor, *_ = of_one_length[found.profile]
        x = np.append(logs, np.log(found.factors / factor))
        assert np.ptp(x[2:]) > 0.5

        def negative(x):
            kernel = kernel_of(found.profile, z * factor * np.exp(x[2:]))
            return 0.5 * np.square(x[2:]).sum() - log_density(z, Y, weight, kernel, x[:2])

        here = -negative(x)
        # Few iterations leave little to find.
        assert minimize(negative, x, method="BFGS", tol=1e-2).fun >= -here - 2
        # Akaike's criterion for three more parameters.
        here -= 3
    assert all(here >= density - 1e-3 for density, _ in of_one_length.values())


def test_of_several_peaks_of_the_evidence_the_highest_is_found():
    z = np.random.RandomState(0).uniform(-2, 2, (200, 3))
    y = np.sin(2 * z[:, 0]) * np.cos(z[:, 1]) + z[:, 2] ** 2
    kernel, values = kernel_of("gaussian", z / 4), (y - y.mean())[:, None] / y.std()
    variance, directions = np.linalg.eigh(kernel)
    # Each row has a variance of its own, above rounding errors.
    variance, squares = variance + 1e-10, np.square(directions.T @ values)[:, 0]

    def negative(logs):
        total = np.exp(logs[0]) * variance + np.exp(logs[1])
        return 0.5 * (squares / total + np.log(total)).sum()

    bounds = np.log([(1e-6, 1e6), (1e-6, 10)])
    starts = itertools.product(np.log([0.1, 10, 1e3, 1e6]), np.log([1e-5, 1e-3, 0.1]))
    peaks = [minimize(negative, start, method="L-BFGS-B", bounds=bounds).fun for start in starts]
    assert max(peaks) > min(peaks) + 1
    signal, noise, density = _variances(*_tridiagonal(kernel, values))
    assert density == pytest.approx(-min(peaks), abs=1e-3)
    assert negative(np.log([signal, noise])) == pytest.approx(min(peaks), abs=1e-3)


@pytest.mark.parametrize("seed", range(3))
def test_lengths_have_to_pay_for_their_number(seed):
    """Of much noise six lengths tell 1 to 3 nats more than one, which six random numbers do as well."""
    random = np.random.RandomState(seed)
    z = random.standard_normal((80, 6))
    y = np.sin(z[:, 0]) + random.standard_normal(80)
    shape = shape_of(z, z / np.sqrt(6), y[:, None] - y.mean(), np.ones(80))
    assert shape.n_lengths == 0 and np.ptp(shape.factors) == 0


def test_covariances_that_rounding_makes_indefinite_tell_a_shape():
    """Equal rows, a steep line and one target apart: the signal has next to no variance in many directions."""
    random = np.random.RandomState(5)
    z = np.round(random.standard_normal((120, 4)))
    weight = random.randint(1, 1000, 120).astype(float)
    y = (np.arange(120) == 0) - 1 / 120
    shape = shape_of(z, 100 * z, y[:, None], weight)
    assert np.isfinite([*shape.factors, shape.signal, shape.noise, shape.log_density]).all()


def test_without_noise_a_smooth_function_is_found_between_the_rows():
    X = np.random.RandomState(0).uniform(-1, 1, (400, 2))
    y = np.sin(3 * X[:, 0]) * np.exp(X[:, 1])
    y -= y[:200].mean()
    radial, _, columns = made(X[:200], y[:200], paths=InputScaler)
    # Ridge regression, of weights of variance 1. Directions of 1e-9 of the largest variance are needed as well.
    system = columns.T @ columns + radial.noise * np.eye(columns.shape[1])
    predicted = radial.units.transform(X[200:]) @ np.linalg.solve(system, columns.T @ y[:200])
    assert np.sqrt(np.mean(np.square(predicted - y[200:]))) < 1e-3 * y.std()


def test_a_smooth_profile_that_is_second_with_one_length_may_be_the_best_with_more():
    """A wave along one of four columns: with one length, the other three make distances rough."""
    random = np.random.RandomState(0)
    z = random.uniform(-1, 1, (150, 4))
    y = np.sin(5 * z[:, 0]) + 0.05 * random.standard_normal(150)
    Y, weight = y[:, None] - y.mean(), np.ones(150)
    of_one_length = one_length(z, Y, weight)
    assert of_one_length["exponential"][0] > of_one_length["matern"][0] > of_one_length["gaussian"][0] + 1
    shape = shape_of(z, z / 2, Y, weight)
    assert shape.profile == "gaussian" and shape.factors[0] > 3 * shape.factors[1:].max()


def test_a_unit_reaches_far_along_a_column_of_a_line():
    """Slopes are the same along both columns; a wave and a bend need lengths that differ."""
    random = np.random.RandomState(0)
    z = random.uniform(-1, 1, (50, 2))
    y = np.sin(6 * z[:, 0]) + z[:, 1] ** 2
    shape = shape_of(z, z, y[:, None] - y.mean(), np.ones(len(z)))
    assert shape.factors[0] > 3 * shape.factors[1]


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("paths", [TwoPathScaler, InputScaler])
@pytest.mark.parametrize("noise", [0.0, 0.5, None], ids=["without noise", "with noise", "nothing beside units"])
def test_torch_makes_the_same_columns(profile, paths, noise):
    X, y = data(noise=noise or 0.0)
    units = replace(made(X[:100], y[:100], paths=paths)[0].units, profile=profile)
    assert units.told > 0
    if noise is None:
        units = replace(units, straight=np.zeros(0), told=0.0)
    expected = units.transform(X)
    # A row that is a centre is at no distance, and nothing is lacking there.
    rows = torch.from_numpy(X).requires_grad_()
    columns = make_scaling(units)(rows)
    np.testing.assert_allclose(columns.detach().numpy(), expected, rtol=1e-9, atol=1e-11)
    columns.sum().backward()
    assert torch.isfinite(rows.grad).all()


def test_a_column_counts_by_its_slope():
    X, y = data()
    slopes = np.array([2.0, 0.5, 0.0])
    radial, *_ = made(X, y, np.tile(slopes, 2))
    # Each of those that count has half a nat, and so has the length along each of these columns.
    assert radial.log_choices == 2.0
    straight = radial.units.straight
    np.testing.assert_allclose(straight / straight[0], slopes / 2)
    # Distances have lengths of their own beside it. A line of the second column needs no units.
    np.testing.assert_array_equal(radial.units.read, np.flatnonzero(slopes))
    assert radial.units.scale[1] < 0.25 * radial.units.scale[0]
    moved = X + np.array([0, 0, 1.0])
    np.testing.assert_array_equal(radial.units.transform(moved), radial.units.transform(X))


def test_columns_that_count_alike_are_those_of_either_path():
    """Products are smooth in straight columns, and heavy tails of no meaning are not."""
    random = np.random.RandomState(0)
    normal = random.standard_normal((200, 4))
    of_paths = [np.arange(4), np.arange(4, 8)]
    for X, y, read in [
        (normal, normal[:, 0] * normal[:, 1] + normal[:, 2] * normal[:, 3], 1),
        (np.sinh(3 * normal), np.sin(normal).sum(axis=1), 0),
    ]:
        base = TwoPathScaler.fit(X, np.ones(200))
        radial = Radial.of(base, base.transform(X), equal_metrics(paths_of(8, 4)), y[:, None], np.ones(200))
        np.testing.assert_array_equal(radial.units.read, of_paths[read])
        assert len(radial.units.straight) == 0


def test_columns_that_count_by_their_slopes_are_those_of_either_path():
    """A product of three straight columns of eight is smooth, and what columns of heavy tails tell is squashed."""
    random = np.random.RandomState(0)
    normal = random.standard_normal((200, 8))
    slopes = np.tile([1.0, 0.8, 0.9, 0, 0, 0, 0, 0], 2)
    for X, y, first in [
        (normal, np.prod(normal[:, :3] + 2, axis=1), 8),
        (np.sinh(3 * normal), np.sin(normal[:, :3]).sum(axis=1), 0),
    ]:
        base = TwoPathScaler.fit(X, np.ones(200))
        metrics = told_metrics(slopes, paths_of(16, 8), base.n_straight, 2.0, len(X))
        radial = Radial.of(base, base.transform(X), metrics, y[:, None], np.ones(200))
        np.testing.assert_array_equal(radial.units.read, np.arange(first, first + 3))
        # The straight columns beside the units are the same ones, and choices are counted once.
        np.testing.assert_allclose(radial.units.straight[3:], 0)
        assert radial.log_choices in (0.5 * 3 + 2, 0.5 * 6 + 2)


@pytest.mark.parametrize(
    ("X", "y", "slopes"),
    [
        (data()[0], data()[1], np.zeros(6)),
        (data()[0], data()[1], np.full(6, np.inf)),
        (np.ones((N, 3)), data()[1], np.ones(6)),
        (data()[0], np.ones(N), np.ones(6)),
    ],
    ids=["no slope", "infinite slope", "equal rows", "constant"],
)
def test_there_are_none_where_nothing_tells_their_units(X, y, slopes):
    assert made(X, y, slopes)[0] is None


def test_there_are_none_that_tell_nothing():
    """A network without columns would be a constant. As the best member it would have no columns to look at."""
    random = np.random.RandomState(0)
    X, y = random.standard_normal((200, 6)), random.standard_t(2, (200, 1))
    base = TwoPathScaler.fit(X, np.ones(200))
    assert Radial.of(base, base.transform(X), equal_metrics(paths_of(12, 6)), y, np.ones(200)) is None
    model = GNRegressor(tol=1e-2, random_state=0).fit(X, y[:, 0])
    _, std = model.predict(random.standard_normal((100, 6)), return_std=True)
    assert std.max() < 2 * y.std()


def test_slopes_are_those_of_a_line():
    X, _ = data(n=600)
    base = TwoPathScaler.fit(X, np.ones(len(X)))
    z, d = base.transform(X), X.shape[1]
    # The hidden columns alone, which a linear network of all columns reads with these weights.
    coefs = np.array([2.0, -0.5, 0.0])
    weights = np.concatenate([coefs, np.zeros(d), [7.0]])
    line = Predictor(FeedForward(2 * d, 1, ()), weights, None, "robust")
    bent = Predictor(FeedForward(9, 1, (3,)), np.ones(40), None, RADIAL)
    features = {"robust": np.tile(np.arange(d), 2)}
    arguments = {"robust": z, RADIAL: np.ones((600, 9))}, features, np.ones(600), "robust", d
    np.testing.assert_allclose(feature_slopes([line, line], np.array([0.25, 0.75]), *arguments), np.abs(coefs))
    # Members that read no columns of features are left out; without others that count, all others do.
    for votes in ([0.5, 0.5], [0.0, 1.0]):
        np.testing.assert_allclose(feature_slopes([line, bent], np.array(votes), *arguments), np.abs(coefs))


def near_rows(n=300, levels=12):
    """Plots on a map: each has a level of its own, which near ones share."""
    random = np.random.RandomState(0)
    X, level = random.uniform(0, 1, (n, 2)), random.standard_normal((levels, levels))
    where = (levels * X).astype(int)
    return X, level[where[:, 0], where[:, 1]] + 0.1 * random.standard_normal(n)


def test_what_is_local_is_found(capsys, monkeypatch):
    # The steps of a forest would be another way to draw plots.
    monkeypatch.setattr("skgn.further.steps_of", lambda *given: [])
    X, y = near_rows(1100, levels=10)
    model = GNRegressor(random_state=0, verbose=1).fit(X[:600], y[:600])
    assert f"1 more candidate, {LINE} around 500 rows" in capsys.readouterr().out
    first = model.estimators_[0]
    assert first.scaling == RADIAL and model.weights_[0] > 0.4
    without = GNRegressor(random_state=0, hidden_layer_sizes=(20,), tol=1e-2).fit(X[:600], y[:600])
    mistake = [1 - fitted.score(X[600:], y[600:]) for fitted in (model, without)]
    assert mistake[0] < 0.7 * mistake[1]
    # Left-out samples promise no more than new ones keep.
    assert model.left_out_score_ == pytest.approx(model.score(X[600:], y[600:]), abs=0.1)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.filterwarnings("ignore:Failed. extreme targets:UserWarning")
@pytest.mark.parametrize(
    "given",
    [
        {"standardize": "robust"},
        {"hidden_layer_sizes": (5,)},
        {"activation": "tanh"},
        {"linear_path": False},
        {"prior_groups": "layer"},
        {"l2_regularization": 1e-3},
        {"n_estimators": 1},
        {"batch_size": 50},
        {"loss": "poisson"},
        {"loss": "quantile"},
    ],
    ids=str,
)
def test_there_are_none_where_the_choice_is_not_left_to_the_fit(given, capsys):
    X, y = data()
    GNRegressor(**{"random_state": 0, "max_iter": 3, "n_estimators": 2, "verbose": 1} | given).fit(
        X, np.round(np.exp(y))
    )
    assert LINE not in capsys.readouterr().out


@pytest.mark.parametrize("n", [120, 121])
@pytest.mark.parametrize(("estimator", "limit"), [(GNRegressor, "_SURROUNDED_ROWS"), (GNClassifier, "COMPARED_ROWS")])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_there_are_none_of_many_rows(estimator, limit, n, capsys, monkeypatch):
    monkeypatch.setattr(f"skgn.choices.{limit}", 120)
    X, y = data(n, d=2)
    estimator(random_state=0, verbose=1, max_iter=2, n_estimators=2).fit(X, y if estimator is GNRegressor else y > 0)
    assert (LINE in capsys.readouterr().out) == (n == 120)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(
    ("of", "given", "found"),
    [
        (lambda y: y > 0, {}, 4),
        (lambda y: y > 0, {"n_estimators": 2}, 2),
        (lambda y: np.digitize(y, [-1, 0, 1]), {}, 5),
        (lambda y: np.column_stack([y > 0, y > 1]).astype(int), {"n_estimators": 2}, None),
        (lambda y: y > 0, {"activation": "tanh", "n_estimators": 2}, None),
        (lambda y: y > 0, {"n_estimators": 1}, None),
    ],
    ids=["two classes", "two networks", "four classes", "several labels", "given units", "one network"],
)
def test_there_are_some_of_one_label(of, given, found, capsys):
    """Beside the others where their number is left to the fit, and else among these."""
    X, y = data()
    model = GNClassifier(random_state=0, max_iter=3, verbose=1, **given).fit(X, of(y))
    assert (LINE in capsys.readouterr().out) == (found is not None)
    assert len(model.estimators_) == (found or given["n_estimators"])


def test_what_samples_have_told_is_taken_off_the_score():
    X, y = data()
    radial, *_ = made(X, y, learned=3.0)
    # Half a nat for each of three slopes and three lengths, and those of the other networks.
    assert radial.log_choices == 6.0
    network = FeedForward(6, 1, (20,), n_straight=3)
    kind = Kind(("robust", network), Level(), PriorKind("feature"))
    start = radial_start(draw_starts([kind], 1, False, np.random.RandomState(0)), network, radial)
    assert start.log_choices == 6.0
    like = torch.zeros(start.network.n_weights, dtype=torch.float64)
    assert make_prior(start.prior_kind, start.network, SquaredError(), 1.0, like, None, 4.5).log_choices == 4.5
    assert not start.network.hidden_layer_sizes and start.noise_precision == 1 / radial.noise


def test_a_quadratic_form_is_found_whose_slopes_tell_nothing():
    """Boosting has an R2 of 0.2, and a Gaussian process with a length for each column 0.95."""
    random = np.random.RandomState(0)
    X = random.standard_normal((1300, 20))
    y = np.einsum("ij,jk,ik->i", X, random.standard_normal((20, 20)), X)
    noisy = y[:300] + 0.1 * y.std() * random.standard_normal(300)
    assert GNRegressor(n_estimators=2, random_state=0).fit(X[:300], noisy).score(X[300:], y[300:]) > 0.9


def radial_of_labels(X, y, metrics):
    base = InputScaler.fit(X, np.ones(len(X)))
    return Radial.of(base, base.transform(X), metrics, y.astype(float)[:, None], np.ones(len(X)), labels=True)


@pytest.mark.parametrize("share", [0.0, 0.2], ids=["no wrong label", "many wrong labels"])
def test_logits_are_to_logistic_noise_what_labels_are_to_theirs(share):
    random = np.random.RandomState(0)
    X = random.standard_normal((150, 3))
    # Without wrong labels, nothing lies between the classes.
    X[:, 0] += 2 * np.sign(X[:, 0])
    y = (X[:, 0] > 0) ^ (random.uniform(size=150) < share)
    units = radial_of_labels(X, y, equal_metrics(paths_of(3, 0))).units
    z, about = units.base.transform(X), y - y.mean()
    shape = shape_of(z, np.zeros((150, 1)), about[:, None], np.ones(150))
    noise = max(shape.noise, 0.01 * y.var())
    assert (noise > shape.noise) == (share == 0)
    columns = units.transform(X)
    expected = np.pi**2 / 3 * shape.signal / noise * kernel_of(units.profile, z * units.scale)
    # Directions are left out of which noise hides ten times as much.
    np.testing.assert_allclose(columns @ columns.T, expected, atol=0.1 * np.pi**2 / 3)
    assert columns.shape[1] == units.n_columns <= len(X)


def test_small_slopes_of_more_columns_than_rows_promise_nothing():
    random = np.random.RandomState(2)
    X = random.standard_normal((1150, 500))
    signal = X[:, :10] @ random.standard_normal(10)
    labels = signal + 0.5 * signal.std() * random.standard_normal(1150) > 0
    model = GNClassifier(random_state=0).fit(X[:150], labels[:150])
    # Hundreds of slopes, each below a hundredth of the largest, had fitted the labels of the fit: 0.9 was promised.
    assert model.left_out_score_ - d2_log_loss_score(labels[150:], model.predict_proba(X[150:])) < 0.1


def test_labels_choose_between_equal_columns_and_slopes():
    random = np.random.RandomState(0)
    X, paths = random.standard_normal((200, 10)), paths_of(10, 0)
    metrics = [*equal_metrics(paths), *told_metrics(np.append([1.0, 0.8], np.zeros(8)), paths, 0, 2.0, len(X))]
    of_two = radial_of_labels(X, X[:, 0] + 0.8 * X[:, 1] > 0, metrics)
    # Half a nat for each slope, and what the others have learned.
    assert of_two.units.read.tolist() == [0, 1] and of_two.log_choices >= 3.0
    of_all = radial_of_labels(X, np.square(X).sum(axis=1) > 9, metrics)
    # No slopes: the choice among two metrics with nine normal units each.
    assert len(of_all.units.read) == 10 and of_all.log_choices == pytest.approx(np.log(18))


def test_classes_of_rows_that_are_near_each_other_are_found():
    """Rows around twenty points of twenty columns: their labels have nothing else in common."""
    random = np.random.RandomState(0)
    points, of_points, which = random.standard_normal((20, 20)), random.randint(0, 2, 20), random.randint(0, 20, 1200)
    X, y = points[which] + 0.7 * random.standard_normal((1200, 20)), of_points[which]
    train, test = slice(200), slice(200, None)
    default = GNClassifier(n_estimators=2, random_state=0)
    given = GNClassifier(n_estimators=2, random_state=0, hidden_layer_sizes=(20,))
    models = [model.fit(X[train], y[train]) for model in (default, given, SVC(C=10))]
    assert default.estimators_[0].scaling == RADIAL
    mistakes, without, of_kernel = (1 - model.score(X[test], y[test]) for model in models)
    assert mistakes < 0.5 * without and mistakes < of_kernel + 0.02


def test_there_are_some_where_nothing_else_is_found():
    """Forrester's function: the other networks ended as a constant, with an R2 of 0."""
    x, new = np.linspace(0, 1, 10)[:, None], np.linspace(0, 1, 300)[:, None]
    y, truth = ((6 * at[:, 0] - 2) ** 2 * np.sin(12 * at[:, 0] - 4) for at in (x, new))
    model = GNRegressor(random_state=0).fit(x, y)
    assert model.estimators_[0].scaling == RADIAL
    assert model.score(new, truth) > 0.9


def test_noise_is_no_more_than_noise():
    X, y = np.random.RandomState(0).standard_normal((2, 2060, 3))
    model = GNRegressor(random_state=0, n_estimators=2).fit(X[:60], y[:60, 0])
    assert model.left_out_score_ < 0
    assert model.score(X[60:], y[60:, 0]) > -0.05


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_several_outputs_share_fewer_units(capsys):
    X, y = data(400)
    model = GNRegressor(random_state=0, verbose=1, max_iter=1, n_estimators=2).fit(X, np.column_stack([y, y**2, y**3]))
    assert f"{LINE} around 333 rows" in capsys.readouterr().out
    assert model.predict(X).shape == (400, 3)


@cache
def of_near_rows():
    """A stored model that tests share."""
    return pickle.dumps(GNRegressor(random_state=0, n_estimators=2).fit(*near_rows()))


def test_a_network_of_no_weight_costs_nothing_in_predictions(monkeypatch):
    X, _ = near_rows()
    model = pickle.loads(of_near_rows())
    counted = np.array([member.scaling != RADIAL for member in model.estimators_])
    assert counted.tolist().count(False) == 1
    other = model.estimators_[int(counted.argmax())]
    expected = member_outputs(other, model._table.scale(X)[other.scaling], torch.device("cpu"))
    model.weights_ = counted.astype(float)
    monkeypatch.delattr(RadialUnits, "embed")
    mean, _ = model.predict(X, return_std=True)
    np.testing.assert_allclose(mean, model._target.scaler.inverse_transform(expected)[:, 0], rtol=1e-12)


def test_a_fit_with_radial_units_does_all_that_others_do():
    (X, y), model = near_rows(), pickle.loads(of_near_rows())
    assert RADIAL in {member.scaling for member in model.estimators_}
    _, std = model.predict(X, return_std=True)
    _, covariance = model.predict(X[:20], return_cov=True)
    np.testing.assert_allclose(np.sqrt(np.diag(covariance)), std[:20], rtol=1e-6)
    np.testing.assert_allclose(model.feature_relevance_.sum(), 1)
    before = model.score(X, y)
    model.partial_fit(X, y)
    assert model.score(X, y) > before - 0.15
    again = pickle.loads(of_near_rows()).set_params(warm_start=True).fit(X, y)
    assert RADIAL in {member.scaling for member in again.estimators_}
