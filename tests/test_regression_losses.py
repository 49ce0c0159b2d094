import warnings
from functools import cache

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import cauchy, nbinom, norm
from sklearn.base import clone
from sklearn.datasets import load_diabetes, make_friedman1
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import GammaRegressor, HuberRegressor, PoissonRegressor, QuantileRegressor
from sklearn.metrics import (
    d2_absolute_error_score,
    d2_tweedie_score,
    mean_gamma_deviance,
    mean_pinball_loss,
    mean_poisson_deviance,
    r2_score,
)
from sklearn.model_selection import train_test_split

from skgn import GNRegressor
from skgn.diagnostics import diagnose
from skgn.targets import LOSSES as REGRESSION_LOSSES

#: A linear model whose objective is the mean loss alone, trained to the end.
LINEAR = {
    "hidden_layer_sizes": (),
    "l2_regularization": 0.0,
    "standardize": False,
    "n_estimators": 1,
    "tol": 1e-10,
    "max_iter": 3000,
    "random_state": 0,
}

#: One small network under a fixed prior.
SMALL = {
    "hidden_layer_sizes": (5,),
    "l2_regularization": 1e-2,
    "n_estimators": 1,
    "tol": 1e-8,
    "max_iter": 300,
    "random_state": 0,
}

LOSSES = ("huber", "cauchy", "quantile", "poisson", "gamma")
ROBUST = LOSSES[:3]


def data(loss, n=200, shape=5.0):
    """Inputs (n, 3) and a target of the kind that a loss is for."""
    rng = np.random.default_rng(0)
    X = rng.uniform(-1, 1, (n, 3))
    mean = np.exp(1 + np.sin(3 * X[:, 0]) + X[:, 0] * X[:, 1])
    if loss == "poisson":
        return X, rng.poisson(mean).astype(float), mean
    if loss == "gamma":
        return X, mean * rng.gamma(shape, 1 / shape, n), mean
    return X, mean + rng.standard_t(3, n) / 2, mean


@pytest.mark.parametrize("loss", ["poisson", "gamma"])
def test_linear_log_links_are_those_of_sklearn(loss):
    X, y, _ = data(loss)
    X = X / np.abs(X).max(axis=0)
    weight = np.random.default_rng(1).uniform(0.5, 2, len(y))
    reference = {"poisson": PoissonRegressor, "gamma": GammaRegressor}[loss](alpha=0, tol=1e-10, max_iter=1000)
    expected = reference.fit(X, y, sample_weight=weight).predict(X)
    model = GNRegressor(loss=loss, **LINEAR).fit(X, y, sample_weight=weight)
    np.testing.assert_allclose(model.predict(X), expected, rtol=1e-5)
    # Other units of the target are the same model of it: its mean is where the outputs are 0.
    far = clone(model).fit(X, 1e4 * y, sample_weight=weight)
    np.testing.assert_allclose(far.predict(X), 1e4 * model.predict(X), rtol=1e-5)


@pytest.mark.parametrize("loss", ["poisson", "gamma"])
def test_penalised_log_links_minimise_half_the_deviance_and_the_penalty(loss):
    X, y, _ = data(loss)
    l2, U = 0.1, np.column_stack([X, np.ones(len(X))])
    deviance = {"poisson": mean_poisson_deviance, "gamma": mean_gamma_deviance}[loss]

    def mean(w):
        """Relative to that of all targets."""
        return y.mean() * np.exp(U @ w)

    best = minimize(lambda w: deviance(y, mean(w)) / 2 + l2 / 2 * w @ w, np.zeros(4), tol=1e-12)
    model = GNRegressor(loss=loss, **(LINEAR | {"l2_regularization": l2})).fit(X, y)
    np.testing.assert_allclose(model.predict(X), mean(best.x), rtol=1e-5)
    assert model.loss_ == pytest.approx(deviance(y, model.predict(X)) / 2)


def test_linear_huber_is_that_of_sklearn_at_the_same_threshold():
    X, y, _ = data("huber")
    model = GNRegressor(loss="huber", **LINEAR).fit(X, y)
    residual, t = np.abs(y - model.predict(X)), 1.345
    under_normal = norm.expect(lambda z: np.minimum(z**2, t**2))
    scale = fixed_point(lambda scale: np.sqrt(np.mean(np.minimum(residual, t * scale) ** 2) / under_normal))
    # As estimated with 4 weights fewer than observations.
    assert model.noise_std_ == pytest.approx(scale * np.sqrt(200 / 196), rel=0.01)
    # The scale of scikit-learn is that at which the squares up to its epsilon have the mean 1.
    epsilon = t * scale / np.sqrt(np.mean(np.minimum(residual, t * scale) ** 2))
    reference = HuberRegressor(epsilon=epsilon, alpha=0, tol=1e-10, max_iter=10000).fit(X, y)
    assert reference.scale_ * epsilon == pytest.approx(t * scale, rel=1e-5)
    np.testing.assert_allclose(model.predict(X), reference.predict(X), rtol=1e-5, atol=1e-5)


def fixed_point(function):
    value = 1.0
    for _ in range(300):
        value = function(value)
    return value


def test_linear_cauchy_is_the_fit_of_greatest_likelihood():
    X, y, _ = data("cauchy")
    U = np.column_stack([X, np.ones(len(X))])
    start = np.append(np.linalg.lstsq(U, y, rcond=None)[0], 0.0)
    best = minimize(lambda p: -cauchy(scale=np.exp(p[4])).logpdf(y - U @ p[:4]).mean(), start, tol=1e-10)
    model = GNRegressor(loss="cauchy", **LINEAR).fit(X, y)
    np.testing.assert_allclose(model.predict(X), U @ best.x[:4], rtol=1e-4, atol=1e-4)
    # That of normal noise of the same Fisher information, 1 / (2 scale^2).
    assert model.noise_std_ == pytest.approx(np.sqrt(2) * np.exp(best.x[4]), rel=0.03)


@pytest.mark.parametrize("q", [0.1, 0.5, 0.9])
def test_linear_quantiles_cost_as_little_as_those_of_sklearn(q):
    X, y, _ = data("quantile")
    ours = GNRegressor(loss="quantile", quantile=q, **LINEAR).fit(X, y).predict(X)
    reference = QuantileRegressor(quantile=q, alpha=0).fit(X, y).predict(X)
    least = mean_pinball_loss(y, reference, alpha=q)
    assert least <= mean_pinball_loss(y, ours, alpha=q) < 1.002 * least
    assert np.mean(y < ours) == pytest.approx(q, abs=0.015)


@pytest.mark.parametrize(("q", "n_estimators"), [(0.1, 1), (0.5, 1), (0.9, 2)])
def test_quantiles_hold_their_part_of_new_observations(q, n_estimators):
    X, y, mean = data("quantile", 3000)
    y = mean + (1 + X[:, 2] / 2) * np.random.default_rng(2).normal(size=len(y))
    model = GNRegressor((8,), loss="quantile", quantile=q, n_estimators=n_estimators, standardize="robust")
    model.set_params(prior_groups="layer", random_state=0).fit(X[:800], y[:800])
    below = y[800:] < model.predict(X[800:])
    error = np.sqrt(q * (1 - q) * (1 / 800 + 1 / 2200))
    assert below.mean() == pytest.approx(q, abs=3 * error)
    # Also where the noise is small, and where it is large.
    for part in (X[800:, 2] < 0, X[800:, 2] > 0):
        assert below[part].mean() == pytest.approx(q, abs=3 * np.sqrt(2) * error)


def spoiled(y, seed=0):
    """y with one observation in ten off by 20 of its standard deviations, up or down."""
    rng = np.random.default_rng(seed)
    out = rng.permutation(len(y))[: len(y) // 10]
    y = y.copy()
    y[out] += 20 * y.std() * rng.choice([-1, 1], len(out))
    return y


@cache
def error_on_new_rows(loss, name, outliers):
    """Of a network trained with outliers or without; the test has none."""
    X, y = load_diabetes(return_X_y=True) if name == "diabetes" else make_friedman1(1200, 6, noise=1, random_state=0)
    Xt, Xv, yt, yv = train_test_split(X, y, test_size=0.5 if name == "friedman" else 0.33, random_state=0)
    model = GNRegressor((10,), n_estimators=1, tol=1e-2, random_state=0, loss=loss)
    return np.sqrt(np.mean((model.fit(Xt, spoiled(yt) if outliers else yt).predict(Xv) - yv) ** 2))


@pytest.mark.filterwarnings("ignore:Failed. extreme targets:UserWarning")
@pytest.mark.parametrize("loss", ["huber", "cauchy"])
@pytest.mark.parametrize("name", ["friedman", "diabetes"])
def test_gross_outliers_hardly_raise_the_test_error(loss, name):
    dirty = error_on_new_rows(loss, name, outliers=True)
    # Of 300 rows a few hidden by outliers tell.
    most = 1.1 if name == "friedman" else 1.15
    assert dirty < most * error_on_new_rows(loss, name, outliers=False)
    assert dirty < most * error_on_new_rows("squared_error", name, outliers=False)
    assert dirty < 0.8 * error_on_new_rows("squared_error", name, outliers=True)


def test_student_t_learns_what_far_targets_hide():
    random = np.random.default_rng(0)
    X = random.normal(size=(1100, 6))
    y = np.sin(2 * X[:, 0]) + X[:, 1] * X[:, 2] + 0.3 * random.normal(size=1100)
    spoiled = y[:600] * np.where(np.arange(600) < 3, 1e6, 1)
    # In units of their standard deviation no noise was left, and R2 was 0.3.
    assert (
        GNRegressor(loss="student_t", n_estimators=1, random_state=0).fit(X[:600], spoiled).score(X[600:], y[600:])
        > 0.9
    )


@pytest.mark.parametrize("n_estimators", [1, 2])
def test_evidence_finds_the_coefficient_of_variation_of_gamma_noise(n_estimators):
    X, y, mean = data("gamma", 1500, shape=25)
    model = GNRegressor(loss="gamma", n_estimators=n_estimators, prior_groups="feature", random_state=0)
    model.set_params(hidden_layer_sizes=(8,), standardize="robust").fit(X[:500], 100 * y[:500])
    assert model.noise_std_ == pytest.approx(0.2, rel=0.1)
    predicted, std = model.predict(X[500:], return_std=True)
    assert mean_gamma_deviance(100 * mean[500:], predicted) < 0.01
    assert np.mean(((100 * y[500:] - predicted) / std) ** 2) == pytest.approx(1, abs=0.15)
    assert model.noise_distribution_ == "gamma"


@pytest.mark.parametrize("n_estimators", [1, 2])
def test_evidence_fits_counts_and_their_standard_deviation_is_honest(n_estimators):
    X, y, mean = data("poisson", 1500)
    model = GNRegressor((8,), loss="poisson", n_estimators=n_estimators, standardize="robust", random_state=0)
    model.fit(X[:500], y[:500])
    predicted, std = model.predict(X[500:], return_std=True)
    assert mean_poisson_deviance(y[500:], predicted) < 1.07 * mean_poisson_deviance(y[500:], mean[500:])
    assert (std**2 > predicted).all()
    assert np.mean(((y[500:] - predicted) / std) ** 2) == pytest.approx(1, abs=0.1)
    assert model.noise_distribution_ == "poisson" and 1 <= model.noise_std_ < 1.05
    assert model.feature_relevance_[2] == 0


@pytest.mark.parametrize("solver", ["primal", "dual"])
@pytest.mark.parametrize("loss", ["poisson", "gamma"])
def test_variances_of_linear_log_links_are_those_of_the_information_matrix(loss, solver):
    X, y, _ = data(loss)
    l2, U = 0.01, np.column_stack([X, np.ones(len(X))])
    model = GNRegressor(loss=loss, solver=solver, **(LINEAR | {"l2_regularization": l2})).fit(X, y)
    mean, std = model.predict(X, return_std=True)
    dispersion = model.noise_std_**2
    curvature = mean if loss == "poisson" else y / mean
    covariance = dispersion * np.linalg.inv(U.T @ (curvature[:, None] * U) + len(y) * l2 * np.eye(4))
    noise = dispersion * (mean if loss == "poisson" else mean**2)
    expected = noise + mean**2 * np.einsum("ni,ij,nj->n", U, covariance, U)
    np.testing.assert_allclose(std**2, expected, rtol=1e-6)


def dispersed(rng, mean, phi):
    """Negative binomial counts of variance phi times the mean."""
    return nbinom(mean / (phi - 1), 1 / phi).rvs(random_state=rng).astype(float)


def test_the_dispersion_of_a_linear_fit_is_pearsons_statistic():
    X, _, mean = data("poisson")
    y = dispersed(np.random.default_rng(1), 10 * mean, 4.0)
    model = GNRegressor(loss="poisson", **LINEAR).fit(X, y)
    expected = PoissonRegressor(alpha=0, tol=1e-10, max_iter=1000).fit(X, y).predict(X)
    np.testing.assert_allclose(model.predict(X), expected, rtol=1e-5)
    pearson = np.sum((y - expected) ** 2 / expected) / (len(y) - 4)
    assert model.noise_std_**2 == pytest.approx(pearson, rel=1e-5) and pearson > 2
    # Counts that scatter less keep the dispersion of Poisson counts.
    assert clone(model).fit(X, np.rint(np.exp(3 + X[:, 0]))).noise_std_ == 1
    # Repetitions are weights, and each column has its own dispersion.
    columns = np.column_stack([y, np.random.default_rng(2).poisson(mean)])
    several = clone(model).fit(X, columns, sample_weight=np.full(len(y), 2.0))
    twice = clone(model).fit(np.tile(X, (2, 1)), np.tile(columns, (2, 1)))
    np.testing.assert_array_equal(several.noise_std_, twice.noise_std_)
    assert several.noise_std_[0] ** 2 == pytest.approx(pearson * 196 / 198, rel=0.02) and several.noise_std_[1] < 1.6


@pytest.mark.parametrize("exposure", [(0.02, 1.0), (0.5, 20.0)])
def test_rates_of_poisson_counts_have_no_dispersion(exposure):
    X, _, mean = data("poisson", 1000)
    rng = np.random.default_rng(1)
    weight = rng.uniform(*exposure, len(X))
    counts = rng.poisson(mean * weight)
    model = GNRegressor((5,), loss="poisson", n_estimators=1, random_state=0)
    assert model.fit(X, counts / weight, sample_weight=weight).noise_std_ < 1.08


def test_rates_of_the_same_inputs_are_an_observation_each():
    """Rates of 0 were one observation, and others were not: 351 of 4,000 rows, with a dispersion of 4.2."""
    rng = np.random.default_rng(0)
    cell, exposure = rng.integers(0, 2, 4000), rng.uniform(0.2, 1, 4000)
    counts = rng.poisson(np.where(cell, 0.2, 0.1) * exposure)
    model = GNRegressor((), loss="poisson", n_estimators=1, random_state=0)
    model.fit(cell[:, None], counts / exposure, sample_weight=exposure)
    assert model.estimators_[0].total_weight == pytest.approx(4000)
    assert model.noise_std_ == pytest.approx(1, abs=0.1)
    observed, exposed = np.bincount(cell, counts), np.bincount(cell, exposure)
    np.testing.assert_allclose(model.predict([[0], [1]]), observed / exposed, rtol=0.1)
    # The standard errors of a generalised linear model.
    np.testing.assert_allclose(model.epistemic_std([[0], [1]]), np.sqrt(observed) / exposed, rtol=0.2)


def rates(n=300):
    """Inputs, counts of dispersion 5, populations of many sizes, and the true means of the counts."""
    X, _, mean = data("poisson", n)
    rng = np.random.default_rng(3)
    population = np.rint(1e4 * np.exp(1.5 * rng.normal(size=n)))
    expected = 3e-4 * population * mean
    return X, rng.negative_binomial(expected / 4, 1 / 5), population, expected


def test_rates_are_fitted_alike_in_all_units_of_exposure():
    X, counts, population, expected = rates(200)
    model = GNRegressor((5,), loss="poisson", n_estimators=1, standardize="robust", random_state=0)
    persons = clone(model).fit(X, counts / population, sample_weight=population)
    pearson = np.mean((counts - expected) ** 2 / expected)
    assert persons.noise_std_**2 == pytest.approx(pearson, rel=0.25)
    for unit in (2.0**13, population.max()):
        exposure = population / unit
        other = clone(model).fit(X, counts / exposure, sample_weight=exposure)
        # The rows are in another order.
        np.testing.assert_allclose(other.predict(X) / unit, persons.predict(X), rtol=1e-4)
        np.testing.assert_allclose(other.noise_std_, persons.noise_std_, rtol=1e-4)
        np.testing.assert_allclose(other.left_out_score_, persons.left_out_score_, rtol=1e-4)


def test_large_exposures_are_no_certainty():
    X, counts, population, expected = rates(900)
    train, new = slice(0, 150), slice(150, None)
    y = counts / population
    model = GNRegressor((5,), loss="poisson", n_estimators=1, random_state=0)
    model.fit(X[train], y[train], sample_weight=population[train])
    predicted = model.predict(X[new])
    score = d2_tweedie_score(y[new], predicted, sample_weight=population[new], power=1)
    assert score > 0 and model.left_out_score_ == pytest.approx(score, abs=0.15)
    truth = expected[new] / population[new]
    assert np.sqrt(np.mean(((predicted - truth) / model.epistemic_std(X[new])) ** 2)) < 2
    # In a unit of exposure, counts are as they are: rates of a day are counts of a day.
    per_unit = GNRegressor((5,), loss="poisson", n_estimators=1, random_state=0)
    per_unit.fit(X[train], y[train] * 1e4, sample_weight=population[train] / 1e4)
    mean, std = per_unit.predict(X[new], return_std=True)
    np.testing.assert_allclose(std**2, per_unit.noise_std_**2 * mean + per_unit.epistemic_std(X[new]) ** 2, rtol=1e-9)
    samples = per_unit.sample_y(X[:20], 4000)
    np.testing.assert_allclose(samples.std(axis=1), per_unit.predict(X[:20], return_std=True)[1], rtol=0.15)


def test_rates_in_blocks_of_a_stream():
    X, counts, population, expected = rates(1200)
    model = GNRegressor((5,), loss="poisson", n_estimators=1, random_state=0)
    for start in range(0, 1200, 300):
        block = slice(start, start + 300)
        model.partial_fit(X[block], counts[block] / population[block], sample_weight=population[block])
    assert model.noise_std_**2 == pytest.approx(np.mean((counts - expected) ** 2 / expected), rel=0.3)


def test_numbers_that_vary_less_than_counts_have_a_warning():
    X, counts, population, _ = rates(60)
    model = GNRegressor(loss="poisson", **SMALL)
    with pytest.warns(UserWarning, match="y has fractions, and its variance is"):
        model.fit(X, counts / population)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.fit(X, counts / population, sample_weight=population)
        model.fit(X, 1e4 * counts / population)
        model.fit(X, (counts > np.median(counts)).astype(float))


@pytest.mark.parametrize("kind", ["fit", "stream", "batches", "float32"])
def test_counts_that_scatter_more_than_poisson_counts_are_not_fitted_too_closely(kind):
    X, _, mean = data("poisson", 3000)
    y = dispersed(np.random.default_rng(1), 20 * mean, 25.0)
    parameters = {"batches": {"batch_size": 100}, "float32": {"dtype": "float32"}}.get(kind, {})
    model = GNRegressor((10,), loss="poisson", n_estimators=1, tol=1e-2, random_state=0, **parameters)
    if kind == "stream":
        for start in range(0, 1000, 250):
            model.partial_fit(X[start : start + 250], y[start : start + 250])
    else:
        model.fit(X[:500], y[:500])
    score = d2_tweedie_score(y[1000:], model.predict(X[1000:]), power=1)
    best = d2_tweedie_score(y[1000:], 20 * mean[1000:], power=1)
    assert score > 0.8 * best
    assert model.noise_std_ == pytest.approx(5, rel=0.15)
    if kind != "stream":
        assert model.left_out_score_ == pytest.approx(score, abs=0.12)
    low, high = model.predict_interval(X[1000:], 0.9).T
    assert np.mean((low <= y[1000:]) & (y[1000:] <= high)) == pytest.approx(0.9, abs=0.04)
    assert (low >= 0).all() and (low == np.rint(low)).all()
    sampled = model.sample_y(X[1000:1100], 400)
    _, std = model.predict(X[1000:1100], return_std=True)
    np.testing.assert_allclose(sampled.std(axis=-1).mean(), std.mean(), rtol=0.05)


@pytest.mark.parametrize("loss", ROBUST)
@pytest.mark.parametrize("factor", [1e-150, 1e150])
def test_targets_of_any_magnitude_are_fitted(loss, factor):
    X, y, mean = data(loss)
    model = GNRegressor(loss=loss, **(SMALL | {"l2_regularization": "evidence", "tol": 1e-3}))
    predicted = model.fit(X, factor * y).predict(X) / factor
    assert np.corrcoef(predicted, mean)[0, 1] > 0.9


@pytest.mark.parametrize("loss", LOSSES)
def test_solvers_batches_and_repetitions_are_one_model(loss):
    X, y, _ = data(loss)
    # Linear models have one minimum.
    model = GNRegressor(loss=loss, **(SMALL | {"hidden_layer_sizes": ()}))
    expected = clone(model).fit(X, y).predict(X)
    size = np.std(expected)
    for solver, tolerance in (("primal", 1e-3), ("dual", 1e-3), ("cg", 1e-2)):
        found = clone(model).set_params(solver=solver).fit(X, y).predict(X)
        np.testing.assert_allclose(found, expected, atol=tolerance * size)
    batches = clone(model).set_params(batch_size=50, tol=1e-4).fit(X, y)
    assert np.sqrt(np.mean((batches.predict(X) - expected) ** 2)) < 0.03 * size
    model = GNRegressor(loss=loss, **(SMALL | {"tol": 1e-4}))
    primal, dual = (clone(model).set_params(solver=solver).fit(X, y).predict(X) for solver in ("primal", "dual"))
    np.testing.assert_allclose(primal, dual, rtol=1e-4)
    twice = np.r_[np.arange(200), np.arange(50)]
    weight = np.r_[np.full(50, 2.0), np.ones(149), 0]
    np.testing.assert_array_equal(
        clone(model).fit(X, y, sample_weight=weight).predict(X),
        clone(model).fit(X[twice[twice != 199]], y[twice[twice != 199]]).predict(X),
    )


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("l2", ["evidence", 1e-4])
def test_streams_early_stopping_and_several_outputs(loss, l2):
    X, y, mean = data(loss, 400)
    model = GNRegressor(loss=loss, **(SMALL | {"l2_regularization": l2, "tol": 1e-2}))

    def skill(predicted):
        return np.corrcoef(predicted, mean)[0, 1]

    fitted = clone(model).fit(X, y)
    assert skill(fitted.predict(X)) > 0.9
    stream = clone(model)
    for rows in np.split(np.tile(np.arange(400), 3), 6):
        stream.partial_fit(X[rows], y[rows])
    assert skill(stream.predict(X)) > 0.8
    early = clone(model).set_params(early_stopping=True).fit(X, y)
    assert early.status_ in ("validation", "decrease", "evidence") and skill(early.predict(X)) > 0.85
    both = clone(model).fit(X, np.column_stack([y, 3 * y]))
    assert both.predict(X).shape == (400, 2) and np.shape(both.noise_std_) == (2,)
    for column in both.predict(X).T:
        assert skill(column) > 0.9
    # A warm start is where it was.
    before = fitted.predict(X)
    assert np.corrcoef(fitted.set_params(warm_start=True).fit(X, y).predict(X), before)[0, 1] > 0.99


@pytest.mark.parametrize("loss", ["huber", "cauchy", "quantile", "gamma"])
@pytest.mark.parametrize("l2", ["evidence", 1e-2])
def test_other_units_of_the_target_are_other_units_of_the_prediction(loss, l2):
    X, y, _ = data(loss)
    model = GNRegressor(loss=loss, **(SMALL | {"l2_regularization": l2, "max_iter": 10}))
    model.set_params(tol=0)
    with pytest.warns(ConvergenceWarning):
        here, there = (clone(model).fit(X, factor * y).predict(X) for factor in (1.0, 2.0**20))
    np.testing.assert_allclose(there, 2.0**20 * here, rtol=1e-6)


@pytest.mark.parametrize(
    ("parameters", "change", "message"),
    [
        ({"loss": "poisson"}, lambda y: y - 5, "loss='poisson' needs y >= 0, got a minimum of -5"),
        ({"loss": "poisson"}, lambda y: 0 * y, "loss='poisson' needs a positive y in every column"),
        ({"loss": "gamma"}, lambda y: y, "loss='gamma' needs y > 0, got a minimum of 0"),
        ({"loss": "quantile", "quantile": 1.0}, lambda y: y, "The 'quantile' parameter"),
        ({"loss": "absolute"}, lambda y: y, "The 'loss' parameter"),
    ],
)
def test_bad_targets_and_parameters_are_refused_and_an_earlier_fit_is_kept(parameters, change, message):
    X, y, _ = data("poisson")
    model = GNRegressor(**(SMALL | {"loss": "poisson"})).fit(X, y)
    before = model.predict(X)
    model.set_params(**parameters)
    with pytest.raises(ValueError, match=message):
        model.fit(X, change(y))
    with pytest.raises(ValueError, match=message.partition(",")[0]):
        clone(model).partial_fit(X, change(y))
    np.testing.assert_array_equal(model.set_params(loss="poisson", quantile=0.5).predict(X), before)
    if "got a minimum" in message:
        model.set_params(**parameters, early_stopping=True)
        with pytest.raises(ValueError, match=message):
            model.fit(X, y + 1, X_val=X, y_val=change(y))


@pytest.mark.usefixtures("without_boosting")
@pytest.mark.parametrize(
    ("loss", "message", "said"),
    [
        ("cauchy", "Cauchy noise has no variance", "90% intervals hold"),
        ("quantile", "fit several, such as", "y lies below its quantile of 0.5 in"),
    ],
)
def test_there_is_no_standard_deviation_without_a_mean(loss, message, said):
    X, y, _ = data(loss)
    model = GNRegressor(loss=loss, **SMALL).fit(X, y)
    with pytest.raises(ValueError, match=message):
        model.predict(X, return_std=True)
    # What is drawn from it instead says so, unless there is a distribution all the same.
    assert said in diagnose(model, X, y)["calibration"].text


@pytest.mark.parametrize(
    ("before", "after"), [("squared_error", "poisson"), ("poisson", "huber"), ("poisson", "gamma")]
)
def test_a_stream_does_not_go_on_with_outputs_of_another_kind(before, after):
    X, y, _ = data("poisson")
    model = GNRegressor(**(SMALL | {"loss": before})).fit(X, y + 1)
    expected = model.predict(X)
    with pytest.raises(ValueError, match="has outputs of another kind than the loss that was trained before"):
        model.set_params(loss=after).partial_fit(X, y + 1)
    np.testing.assert_array_equal(model.predict(X), expected)


@pytest.mark.parametrize("question", ["name", "distribution", "label"])
def test_every_loss_has_names_of_its_own(question):
    names = [getattr(loss, question) for loss in REGRESSION_LOSSES.values()]
    assert all(names) and len(set(names)) == len(names)


@pytest.mark.usefixtures("without_boosting")
def test_the_report_names_the_noise():
    for loss, kind in (
        ("huber", "Huber, std"),
        ("poisson", "Poisson, growing with the mean"),
        ("gamma", "gamma, grow"),
    ):
        X, y, _ = data(loss)
        assert kind in str(diagnose(GNRegressor(loss=loss, **SMALL).fit(X, y), X, y))


def test_standard_deviation_of_huber_is_that_of_what_is_no_outlier():
    X, _, mean = data("huber", 1000)
    clean = mean + 0.3 * np.random.default_rng(2).normal(size=1000)
    model = GNRegressor((8,), loss="huber", n_estimators=1, random_state=0).fit(X[:500], spoiled(clean[:500]))
    _, std = model.predict(X[500:], return_std=True)
    assert 0.3 < model.noise_std_ < 1.3 * 0.3
    assert (std > model.noise_std_).all()


@pytest.mark.parametrize("loss", ["poisson", "gamma"])
def test_only_log_links_ask_for_positive_targets(loss):
    assert GNRegressor(loss=loss).__sklearn_tags__().target_tags.positive_only
    assert not GNRegressor().__sklearn_tags__().target_tags.positive_only


@pytest.mark.parametrize("loss", LOSSES)
def test_dask_refuses_what_it_does_not_have(loss):
    pytest.importorskip("distributed")
    from dask import array

    from skgn.dask import DaskGNRegressor

    X, y, _ = data(loss)
    with pytest.raises(ValueError, match=f"loss='{loss}' has no distributed form"):
        DaskGNRegressor(loss=loss).fit(array.from_array(X), array.from_array(y))


def test_more_quantiles_in_one_fit_do_not_make_it_underfit():
    """An observation counted by a third in each of three: the median got 0.25, and 0.92 alone."""
    rng = np.random.default_rng(3)
    x = rng.uniform(-2, 2, (1200, 4))
    median = np.sin(2 * x[:, 0]) * x[:, 1] + np.cos(2 * x[:, 2])
    y = median[:200] + 0.1 * rng.normal(size=200)
    model = GNRegressor((10,), loss="quantile", quantile=[0.05, 0.5, 0.95], n_estimators=1, random_state=0)
    predicted = model.set_params(max_iter=300).fit(x[:200], y).predict(x[200:])[:, 1]
    assert d2_absolute_error_score(median[200:], predicted) > 0.7


def test_a_pair_of_extreme_quantiles_of_noise_promises_nothing():
    """It promised more than 0.1."""
    rng = np.random.default_rng(2)
    X, y = rng.normal(size=(300, 6)), rng.normal(size=300)
    model = GNRegressor(loss="quantile", quantile=[0.01, 0.99], n_estimators=2, tol=1e-2, random_state=0).fit(X, y)
    assert model.left_out_score_ < 0.1


def test_an_extreme_quantile_of_noise_promises_nothing():
    """It promised 0.3, for a D2 of -0.7 on new rows, of which 94 % lay below the quantile of 99 %."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(2300, 3)), rng.exponential(size=2300)
    model = GNRegressor(loss="quantile", quantile=0.99, n_estimators=2, random_state=0).fit(X[:300], y[:300])
    assert model.left_out_score_ < 0.1
    assert np.mean(y[300:] < model.predict(X[300:])) > 0.97


def test_a_list_of_one_quantile_is_the_fit_of_that_quantile():
    X, y, _ = data("quantile")
    of_list, alone = (
        GNRegressor(loss="quantile", quantile=q, n_estimators=1, random_state=0).fit(X, y) for q in ([0.95], 0.95)
    )
    np.testing.assert_allclose(of_list.predict(X).ravel(), alone.predict(X), rtol=1e-10)


def test_numbers_that_are_all_next_to_0_are_no_counts():
    """Within 1e-9 of 0 they were counts of 0."""
    X, y, _ = data("gamma")
    for unit in (1e-3, 1e-12):
        with pytest.warns(UserWarning, match="takes y for counts, but y has fractions"):
            GNRegressor(loss="poisson", n_estimators=1, max_iter=300, random_state=0).fit(X, unit * y)


@pytest.mark.parametrize("quantile", [0.5, 0.9, [0.1, 0.9]])
def test_quantiles_are_those_of_the_rows_without_gross_errors(quantile):
    """Three of 300 rows made the median a constant. The quantile of 0.9 was beyond all other targets."""
    rng = np.random.default_rng(0)
    X, noise = rng.normal(size=(1300, 2)), rng.normal(size=1300)
    mean = np.sin(2 * X[:, 0]) + X[:, 1]
    y = mean + 0.3 * noise
    y[:3] = 1e5, 1e3, -1e4
    model = GNRegressor(loss="quantile", quantile=quantile, n_estimators=2, random_state=0).fit(X[:300], y[:300])
    predicted = model.predict(X[300:]).reshape(1000, -1)
    exact = mean[300:, None] + 0.3 * norm.ppf(np.atleast_1d(quantile))
    assert np.sqrt(np.mean((predicted - exact) ** 2)) < 0.25
    assert model.status_ == "evidence"


def test_huber_converges_where_gross_errors_are_most_of_its_loss():
    """Their loss moved with the last digits of the scale, and 100 iterations were too few."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(1300, 2))
    mean = np.sin(2 * X[:, 0]) + X[:, 1]
    y = mean + 0.3 * rng.normal(size=1300)
    y[:15] = 1e5
    model = GNRegressor(loss="huber", n_estimators=2, random_state=0).fit(X[:300], y[:300])
    assert model.status_ == "evidence"
    assert r2_score(mean[300:], model.predict(X[300:])) > 0.97
