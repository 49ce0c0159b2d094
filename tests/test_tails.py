"""Tails of the noise and the least width of predictions, by residuals of left-out samples."""

import math
import pickle
import warnings

import numpy as np
import pytest
import torch
from scipy.stats import kstest, norm, t
from sklearn.exceptions import ConvergenceWarning

from skgn import GNRegressor
from skgn.conformal import Residuals
from skgn.ensemble import Ensemble
from skgn.losses import SquaredError
from skgn.tails import NORMAL, Tails, student_variance

LINEAR = {"hidden_layer_sizes": (), "prior_groups": "shared", "n_estimators": 2, "tol": 1e-2, "random_state": 0}


def residuals(values, weight=None):
    values = np.asarray(values, dtype=float)
    values = values if values.ndim == 2 else values[:, None]
    return Residuals(values, np.ones(len(values)) if weight is None else np.asarray(weight, dtype=float))


def degrees_of_freedom(found):
    return found.tails.degrees_of_freedom


def uncertain(model, n):
    """Variance of a new observation over that of the noise, which n rows tell, less the weights of the members."""
    determined = [member.n_effective_parameters for member in model.estimators_]
    return t(n - model.weights_ @ determined).var()


def by_grid(values):
    """Mode of the posterior on a grid, by the formula of the density: Student-t of variance 1 under Gamma(2, 0.1)."""
    z2 = np.square(values) / np.mean(np.square(values))

    def log_posterior(nu):
        constant = math.lgamma((nu + 1) / 2) - math.lgamma(nu / 2) - 0.5 * math.log(math.pi * (nu - 2))
        return len(z2) * constant - (nu + 1) / 2 * np.log1p(z2 / (nu - 2)).sum() + math.log(nu) - 0.1 * nu

    grid = 2 + np.geomspace(0.05, 198, 4000)
    return grid[np.argmax([log_posterior(nu) for nu in grid])]


@pytest.mark.parametrize("n", [5, 60, 3000])
@pytest.mark.parametrize("nu", [2.5, 4, 12, 1e6])
def test_degrees_of_freedom_are_the_mode_of_their_posterior(nu, n):
    values = 3.0 * np.random.default_rng(n).standard_t(nu, n)
    assert degrees_of_freedom(residuals(values)) == pytest.approx(by_grid(values), rel=0.012)


def test_degrees_of_freedom_of_many_residuals():
    values = np.random.default_rng(0).standard_t(5, 50_000)
    assert degrees_of_freedom(residuals(values)) == pytest.approx(5, rel=0.1)
    # All outputs share them, each in its own unit.
    both = residuals(values.reshape(-1, 2) * np.array([1.0, 0.3]))
    assert degrees_of_freedom(both) == pytest.approx(degrees_of_freedom(residuals(values)), rel=0.02)


def test_an_output_without_noise_tells_nothing_of_the_tails_of_another():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(80, 3))
    y = X[:, 0] + 0.1 * rng.normal(size=80)
    alone = GNRegressor(**LINEAR).fit(X, y)
    both = GNRegressor(**LINEAR).fit(X, np.stack([y, X[:, 1]], 1))
    assert both.noise_degrees_of_freedom_ == pytest.approx(alone.noise_degrees_of_freedom_, rel=0.2)
    assert GNRegressor(**LINEAR).fit(X, X[:, 1]).noise_degrees_of_freedom_ == math.inf


def test_weights_are_repetitions_and_infinite_residuals_do_not_count():
    rng = np.random.default_rng(0)
    values, weight = rng.standard_t(3, 200), rng.integers(0, 4, 200)
    weighted = degrees_of_freedom(residuals(values, weight))
    assert weighted == degrees_of_freedom(residuals(np.repeat(values, weight)))
    with_infinite = residuals(np.append(values, [np.inf, np.nan]), np.append(weight, [2, 1]))
    assert degrees_of_freedom(with_infinite) == weighted


@pytest.mark.parametrize("unknown", [np.zeros(5), np.full(5, 1e-3), [], [np.nan]])
def test_noise_is_normal_where_residuals_tell_nothing(unknown):
    assert residuals(unknown).tails == NORMAL == Tails(1.0, math.inf)


def test_rows_of_no_weight_tell_nothing():
    assert residuals(np.ones(3), np.zeros(3)).tails == NORMAL


def test_the_mean_square_is_that_of_outputs_with_noise():
    values = np.random.default_rng(0).normal(size=(50, 3)) * np.array([1.0, 2.0, 1e-6])
    expected = np.mean(np.square(values[:, :2]))
    assert residuals(values).tails.mean_square == pytest.approx(expected)


def drawn(n, noise, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.uniform(-2, 2, (n, 2))
    return X, X @ [1.0, -1.0] + noise(rng, n)


@pytest.fixture(scope="module")
def heavy():
    return GNRegressor(**LINEAR).fit(*drawn(2000, lambda rng, n: 0.5 * rng.standard_t(3, n)))


def test_quantiles_are_those_of_student_t_noise_of_the_same_deviation(heavy):
    nu = heavy.noise_degrees_of_freedom_
    assert 2.5 < nu < 4
    mean, std = heavy.predict([[0.5, 0.5]], return_std=True)
    levels = [0.005, 0.05, 0.25, 0.5, 0.95]
    expected = t.ppf(levels, nu) * math.sqrt((nu - 2) / nu)
    # Two thousand rows leave the line nearly certain.
    np.testing.assert_allclose((heavy.predict_quantiles([[0.5, 0.5]], levels) - mean)[0] / std[0], expected, atol=2e-3)


def test_samples_are_those_of_the_quantiles(heavy):
    mean, std = heavy.predict([[0.5, 0.5]], return_std=True)
    draws = (heavy.sample_y([[0.5, 0.5]], 4000, random_state=1)[0] - mean) / std
    nu = heavy.noise_degrees_of_freedom_
    assert kstest(draws, t(nu, scale=math.sqrt((nu - 2) / nu)).cdf).pvalue > 0.01
    assert kstest(draws, norm.cdf).pvalue < 1e-6


@pytest.mark.parametrize(
    "noise",
    [lambda rng, n: rng.standard_t(3, n), lambda rng, n: rng.normal(size=n), lambda rng, n: rng.laplace(size=n)],
    ids=["student_t", "normal", "laplace"],
)
def test_intervals_of_any_coverage_hold_what_they_say(noise):
    inside = {0.5: [], 0.9: [], 0.99: []}
    for seed in range(10):
        X, y = drawn(900, noise, seed)
        model = GNRegressor(**LINEAR, noise="constant").fit(X[:300], y[:300])
        for coverage, found in inside.items():
            low, high = model.predict_interval(X[300:], coverage).T
            found.append(np.mean((low <= y[300:]) & (y[300:] <= high)))
    assert np.mean(inside[0.5]) == pytest.approx(0.5, abs=0.04)
    # Laplace noise has the tails of Student-t noise at 99 %, but wider shoulders.
    assert np.mean(inside[0.9]) == pytest.approx(0.9, abs=0.03)
    assert np.mean(inside[0.99]) == pytest.approx(0.99, abs=0.006)


@pytest.mark.parametrize("loud", [0.2, 0.5, 0.7])
def test_intervals_hold_noise_of_quiet_and_loud_rows(loud):
    """Student-t noise is unlike it: with the most likely degrees of freedom, 90 % intervals held 75 to 85 %."""

    def noise(rng, n):
        return rng.normal(size=n) * np.where(rng.uniform(size=n) < loud, 1.0, 0.05)

    model = GNRegressor(**LINEAR, noise="constant").fit(*drawn(4000, noise))
    X, y = drawn(4000, noise, seed=1)
    low, high = model.predict_interval(X).T
    assert np.mean((low <= y) & (y <= high)) == pytest.approx(0.88, abs=0.025)
    # No more degrees of freedom than it takes.
    values, nu = np.abs(model._residuals.values), model.noise_degrees_of_freedom_
    half = t.ppf(0.95, nu) * math.sqrt((nu - 2) / nu) * np.sqrt(np.mean(values**2))
    assert np.mean(values < half) == pytest.approx(0.88, abs=0.002)


def test_where_no_interval_holds_enough_the_degrees_of_freedom_are_the_most_likely():
    # A seventh of the residuals is beyond 1.645 standard deviations, whatever the degrees of freedom.
    values = np.where(np.arange(7000) % 7 == 0, 1.0, 1e-3 * np.random.default_rng(0).normal(size=7000))
    assert np.mean(np.abs(values) < 1.6449 * np.sqrt(np.mean(values**2))) == pytest.approx(6 / 7)
    assert degrees_of_freedom(residuals(values)) == pytest.approx(by_grid(values), rel=0.012)


@pytest.mark.parametrize("loss", ["huber", "student_t", "cauchy", "gamma", "poisson", "quantile"])
def test_other_losses_keep_their_own_noise(loss):
    X, y = drawn(60, lambda rng, n: rng.normal(size=n))
    y = np.floor(np.exp(y)) + 1 if loss in {"gamma", "poisson"} else y
    model = GNRegressor(**LINEAR, loss=loss).fit(X, y)
    own = {"huber": math.inf, "student_t": 8.0, "cauchy": 1.0}
    np.testing.assert_equal(model.noise_degrees_of_freedom_, own.get(loss, math.nan))


def test_noise_is_normal_without_left_out_residuals():
    X, y = drawn(200, lambda rng, n: rng.standard_t(3, n))
    model = GNRegressor((), l2_regularization=1e-3, n_estimators=2, random_state=0).fit(X, y)
    assert model.noise_degrees_of_freedom_ == math.inf
    mean, std = model.predict(X, return_std=True)
    low = model.predict_quantiles(X, [0.05])[:, 0]
    np.testing.assert_allclose((low - mean) / std, norm.ppf(0.05), atol=1e-6)


def test_a_model_of_a_version_without_tails_predicts_as_it_did(heavy):
    state = heavy.__getstate__()
    del state["_degrees_of_freedom"]
    old = GNRegressor()
    old.__setstate__(state)
    assert old.noise_degrees_of_freedom_ == math.inf
    mean, std = old.predict([[0.0, 0.0]], return_std=True)
    assert (old.predict_quantiles([[0.0, 0.0]], [0.95])[0, 0] - mean[0]) / std[0] == pytest.approx(
        norm.ppf(0.95), abs=2e-3
    )
    assert pickle.loads(pickle.dumps(heavy)).noise_degrees_of_freedom_ == heavy.noise_degrees_of_freedom_


def test_widths_grow_to_the_left_out_residuals_and_never_shrink(heavy):
    ensemble = Ensemble(heavy.estimators_, heavy.weights_, SquaredError(), 1.0, residuals=heavy._residuals)
    half = ensemble._replace(tails=Tails(0.25, 5.0))
    assert half.widened() is half
    wide = ensemble._replace(tails=Tails(4.0, 5.0)).widened()
    assert wide.tails == Tails(1.0, 5.0)
    # Two thousand rows tell the noise to a thousandth.
    excess = 4 * t(2000 - heavy.n_effective_parameters_).var()
    np.testing.assert_allclose(wide.residuals.values, heavy._residuals.values / math.sqrt(excess), rtol=1e-6)
    for member, before in zip(wide.members, ensemble.members, strict=True):
        given = member.network, member.weights, np.array([[0.3, -0.1, 0.4, 0.2]])[:, : member.network.n_inputs]
        device = torch.device("cpu")
        np.testing.assert_allclose(
            member.posterior.variance(*given, device), excess * before.posterior.variance(*given, device), rtol=1e-6
        )
        np.testing.assert_allclose(
            member.posterior.noise_in_mixture, excess * before.posterior.noise_in_mixture, rtol=1e-6
        )


@pytest.mark.parametrize("n", [7, 12, 60])
@pytest.mark.parametrize("n_outputs", [1, 2])
def test_few_residuals_leave_the_noise_level_uncertain(n, n_outputs):
    """A new observation then has a Student-t distribution: as many degrees of freedom as weights leave of the rows."""
    rng = np.random.default_rng(n)
    X = rng.normal(size=(n, 2))
    signal = 30 * X @ [[1.0, 0.5], [-1.0, 2.0]]
    y = (signal + rng.normal(size=(n, 2)))[:, :n_outputs]
    model = GNRegressor(**LINEAR).fit(X, y)
    # Two slopes and a constant.
    assert model.n_effective_parameters_ == pytest.approx(3 * n_outputs, rel=1e-2)
    assert np.mean(np.square(model._residuals.values)) == pytest.approx(1 / t(n - 3).var(), rel=1e-2)


def test_a_noise_level_that_nothing_tells_is_not_infinite():
    assert student_variance(-3.0) == student_variance(1.0) == t(4).var()


def test_noise_of_few_rows_is_covered():
    """Ten rows of noise in three columns: 90 % intervals held 78 % of new ones."""
    held = []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        with warnings.catch_warnings():
            # A fit of noise may say that it is worse than a constant.
            warnings.simplefilter("ignore")
            model = GNRegressor((), n_estimators=2, random_state=0).fit(rng.normal(size=(10, 3)), rng.normal(size=10))
        low, high = model.predict_interval(rng.normal(size=(2000, 3))).T
        held.append(np.mean(np.abs(rng.normal(size=2000) - (low + high) / 2) < (high - low) / 2))
    assert np.mean(held) > 0.8


def test_noise_that_depends_on_the_input_is_widened_after_its_factor():
    # Cut short, and of a draw whose residuals are 1.2 % larger than the factor lets expect.
    rng = np.random.default_rng(5)
    X = rng.uniform(-2, 2, (60, 6))
    y = X[:, 0] + np.exp(X[:, 0]) * rng.normal(size=60)
    given = {"noise": "input", "prior_groups": "feature", "n_estimators": 2, "max_iter": 4, "random_state": 0}
    with pytest.warns(ConvergenceWarning):
        model = GNRegressor((10,), **given).fit(X, y)
    assert model.noise_ == "input"
    assert np.mean(model._residuals.values**2) == pytest.approx(1 / uncertain(model, 60))
    # A residual is in predicted widths, the factor included: the calibrated interval is made of the same.
    mean, std = model.predict(X[:5], return_std=True)
    low = model.predict_interval(X[:5], 0.8, calibrate=True)[:, 0]
    np.testing.assert_allclose((low - mean) / std, np.sort(model._residuals.values[:, 0])[5], rtol=1e-6)


def test_a_fit_of_too_few_rows_is_as_wide_as_its_left_out_residuals():
    """Columns of noise: the residuals of training are too small, and those of left-out rows tell."""
    rng = np.random.default_rng(3)
    X, y = rng.normal(size=(60, 12)), rng.normal(size=60)
    with pytest.warns(UserWarning, match="worse than by a constant"):
        model = GNRegressor((6,), prior_groups="feature", max_iter=3, n_estimators=2, random_state=0).fit(X, y)
    new, truth = rng.normal(size=(4000, 12)), rng.normal(size=4000)
    mean, std = model.predict(new, return_std=True)
    assert np.mean(((truth - mean) / std) ** 2) < 1.3
    assert np.mean(model._residuals.values**2) == pytest.approx(1 / uncertain(model, 60))
