"""Distributions of new observations against quadrature and scipy.stats, and mixtures of them against sampling."""

import math

import numpy as np
import pytest
from scipy import integrate, special, stats

from skgn.observation import CountObservation, LogGammaObservation, NormalObservation, StudentTObservation
from skgn.predictive import Predictive, increasing_roots

#: Variances of the output beside noise of scale 1: none, about as much as the noise, and much more.
VARIANCES = [0.0, 0.02, 0.7, 1.9, 2.1, 30.0]


def convolved(cdf, at, v):
    """Probability that a variable plus normal noise of variance v is at most ``at``, by SciPy's quadrature."""
    if v == 0:
        return cdf(at)
    slope = np.sqrt(v)
    return integrate.quad(lambda t: density(t) * cdf(at - slope * t), -9, 9, limit=500)[0]


def density(t):
    """The standard normal one. For single numbers SciPy's distributions take a hundred times as long as a formula."""
    return math.exp(-0.5 * t * t) / math.sqrt(2 * math.pi)


@pytest.mark.parametrize("v", VARIANCES)
@pytest.mark.parametrize("nu", [1, 2.05, 3, 8, 30, 200])
def test_student_t_noise_around_an_uncertain_output(nu, v):
    for z in (-40.0, -5.0, -1.0, 0.0, 2.0):
        found = StudentTObservation(nu).cdf(np.array([z]), 0.0, v, 1.0)[0]
        assert found == pytest.approx(convolved(lambda x: special.stdtr(nu, x), z, v), abs=2e-7)


@pytest.mark.parametrize("nu", [1, 3, 8, 30])
def test_tails_of_student_t_noise_are_known_to_a_thousandth_down_to_1e_6(nu):
    levels = np.array([1e-6, 1e-5, 1e-4, 1e-3])
    found = StudentTObservation(nu).cdf(stats.t(nu).ppf(levels), 0.0, 0.0, 1.0)
    np.testing.assert_allclose(found, levels, rtol=1e-3)
    assert nu > 1 or StudentTObservation(nu).cdf(stats.t(nu).ppf(1e-11), 0.0, 0.0, 1.0) < 1e-13


@pytest.mark.parametrize("ratio", VARIANCES)
@pytest.mark.parametrize(("s2", "error"), [(10.0, 6e-3), (5.0, 6e-3), (2.0, 5e-4), (0.5, 5e-4), (0.01, 5e-4)])
def test_gamma_noise_around_an_uncertain_logarithm(s2, error, ratio):
    shape, v = 1 / s2, ratio * s2
    for z in np.sqrt(v + s2) * np.array([-3.0, -1.0, 0.0, 1.0, 2.0]):
        found = LogGammaObservation().cdf(np.array([z + 0.3]), 0.3, v, np.float64(s2))[0]
        assert found == pytest.approx(
            convolved(lambda x: special.gammainc(shape, shape * math.exp(x)), z, v), abs=error
        )


@pytest.mark.parametrize("v", [0.0, 1e4, 1e8, 1e12, 1e20])
@pytest.mark.parametrize("s2", [500.0, 1e4, 1e10])
def test_quantiles_of_gamma_noise_that_underflows(s2, v):
    """The logarithm of a gamma variable of small shape a is log(U) / a, so that a G^a is uniform, but for order a."""
    rng, levels = np.random.default_rng(0), np.array([0.2, 0.5, 0.8])
    outputs, variance = np.zeros((1, 1)), np.full((1, 1), v)
    found = Predictive(LogGammaObservation(), [outputs], [variance], [np.array([s2])], np.ones(1)).quantiles(levels)
    drawn = s2 * np.log(rng.random(200_000)) + np.sqrt(v) * rng.standard_normal(200_000)
    np.testing.assert_allclose(found[:, 0, 0], np.quantile(drawn, levels), atol=0.03 * np.std(drawn))


@pytest.mark.parametrize("v", VARIANCES)
@pytest.mark.parametrize("mean", [0.2, 5.0, 1e4])
def test_counts_around_an_uncertain_logarithm(mean, v):
    counts = np.unique(np.rint(mean * np.array([0.0, 0.5, 1.0, 1.5, 4.0])))
    observation = CountObservation()
    found = observation.cdf(observation.on_line(counts), np.log(mean), v, 0.0)
    slope = np.sqrt(v)
    for count, p in zip(counts, found, strict=True):
        expected = integrate.quad(
            lambda t, count=count: density(t) * special.pdtr(count, mean * math.exp(slope * t)),
            *(-9, 9),
            limit=500,
            # Where the mean is the count.
            points=[np.clip(np.log(max(count, 0.5) / mean) / slope, -8.9, 8.9)] if v else None,
        )[0]
        assert p == pytest.approx(expected, abs=2e-4)


#: An observation, outputs, variances and squared scales of three members at two rows, and what draws one member's rows.
MEMBERS = {
    "normal": (NormalObservation(), 1.0),
    "student_t": (StudentTObservation(8), 0.5),
    "cauchy": (StudentTObservation(1), 0.1),
    "gamma": (LogGammaObservation(), 0.3),
    "poisson": (CountObservation(), 0.5),
    "negative binomial": (CountObservation(), 30.0),
}


@pytest.mark.parametrize("name", MEMBERS)
@pytest.mark.parametrize("by_row", [False, True], ids=["one scale", "a scale for each row"])
def test_quantiles_of_a_mixture_are_those_of_its_samples(name, by_row):
    observation, s2 = MEMBERS[name]
    rng, n_draws = np.random.RandomState(0), 100_000
    outputs = [np.array([[0.0], [1.0]]), np.array([[2.0], [1.1]]), np.array([[0.3], [-1.0]])]
    variances = [np.array([[0.01], [2.0]]), np.array([[0.5], [0.1]]), np.array([[0.1], [0.1]])]
    scales = [s2 * factor * (np.array([[1.0], [0.2]]) if by_row else np.ones(1)) for factor in (1.0, 0.5, 2.0)]
    weights = np.array([0.5, 0.2, 0.3])
    draws = []
    for f, v, scale, weight in zip(outputs, variances, scales, weights, strict=True):
        uncertain = f + np.sqrt(v) * rng.standard_normal((int(weight * n_draws), *f.shape))
        draws.append(observation.sample(uncertain, scale, rng))
    Y, levels = np.concatenate(draws), np.array([0.02, 0.3, 0.5, 0.9, 0.99])
    mixture = Predictive(observation, outputs, variances, scales, weights)
    found = mixture.quantiles(levels)
    # So much of the sample lies at or below the quantiles, and so much is allowed below them.
    at_most, below = (np.stack([side(Y, q).mean(axis=0) for q in found]) for side in (np.less_equal, np.less))
    slack = 4 * np.sqrt(levels * (1 - levels) / n_draws)[:, None, None]
    assert (at_most >= levels[:, None, None] - slack).all() and (below <= levels[:, None, None] + slack).all()
    u = mixture.probabilities(Y[:: n_draws // 1000])
    assert u.min() >= 0 and u.max() <= 1
    assert observation.discrete or stats.kstest(u.ravel(), "uniform").pvalue > 1e-4


def test_one_normal_member_has_the_quantiles_of_scipy():
    f, v = np.array([[0.0, 5.0], [1e6, -3.0]]), np.array([[1.0, 0.0], [1e-8, 3.0]])
    scales = np.array([2.0, 1e-6])
    levels = np.array([1e-12, 0.05, 0.5, 0.95, 1 - 1e-9])
    found = Predictive(NormalObservation(), [f], [v], [scales], np.ones(1)).quantiles(levels)
    expected = stats.norm(f, np.sqrt(v + scales)).ppf(levels[:, None, None])
    assert np.abs((found - expected) / np.sqrt(v + scales)).max() < 1e-7


def test_quantiles_of_counts_without_uncertainty_are_those_of_the_poisson_distribution():
    mean = np.array([0.001, 0.2, 1.0, 7.3, 400.0])[:, None]
    levels = np.array([0.001, 0.05, 0.5, stats.poisson(1.0).cdf(2), 0.95, 0.999])
    member = np.log(mean), np.zeros_like(mean), np.zeros(1)
    found = Predictive(CountObservation(), *([each] for each in member), np.ones(1)).quantiles(levels)
    np.testing.assert_array_equal(found, stats.poisson(mean).ppf(levels[:, None, None] * (1 - 1e-7)))


@pytest.mark.parametrize("phi", [1.001, 2.0, 30.0])
def test_dispersed_counts_without_uncertainty_are_negative_binomial(phi):
    mean = np.array([0.001, 0.2, 1.0, 7.3, 400.0, 1e7])[:, None]
    expected = stats.nbinom(mean / (phi - 1), 1 / phi)
    np.testing.assert_allclose(expected.var(), phi * mean)
    levels = np.array([0.001, 0.05, 0.5, 0.95, 0.999])
    member = np.log(mean), np.zeros_like(mean), np.array([phi])
    found = Predictive(CountObservation(), *([each] for each in member), np.ones(1)).quantiles(levels)
    # Counts around 1e7 may be neighbours.
    np.testing.assert_allclose(found, expected.ppf(levels[:, None, None] * (1 - 1e-7)), rtol=2e-7)


@pytest.mark.parametrize("phi", [1.5, 40.0])
@pytest.mark.parametrize("v", [1e-3, 0.1, 4.0])
@pytest.mark.parametrize("mean", [0.3, 20.0, 1e4])
def test_dispersed_counts_around_an_uncertain_mean_are_a_mixture(mean, v, phi):
    observation, counts = CountObservation(), np.unique(np.rint(mean * np.array([0.0, 0.5, 1.0, 1.5, 4.0])))
    found = observation.cdf(observation.on_line(counts), np.log(mean), v, np.array(phi))
    t = np.linspace(-9, 9, 20001)
    size = mean * np.exp(np.sqrt(v) * t) / (phi - 1)
    weights = stats.norm.pdf(t) / stats.norm.pdf(t).sum()
    # SciPy 1.10 divides by a size that is nearly 0.
    with np.errstate(divide="ignore"):
        expected = [weights @ stats.nbinom(size, 1 / phi).cdf(count) for count in counts]
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-3)


def test_drawn_counts_have_the_dispersed_variance():
    mean, phi = np.array([0.3, 5.0, 1e4]), np.array([1.0, 3.0, 50.0])
    drawn = CountObservation().sample(np.tile(np.log(mean), (200_000, 1)), phi, np.random.RandomState(0))
    assert (drawn >= 0).all() and (drawn == np.rint(drawn)).all()
    np.testing.assert_allclose(drawn.mean(axis=0), mean, rtol=0.01)
    np.testing.assert_allclose(drawn.var(axis=0), phi * mean, rtol=0.03)


@pytest.mark.parametrize("phi", [1.0, 1e4])
def test_counts_of_huge_means_are_drawn(phi):
    rng, f, s2 = np.random.RandomState(0), np.full((1000, 1), np.log(1e20)), np.array([phi])
    drawn = CountObservation().sample(f, s2, rng)
    assert np.std(drawn) == pytest.approx(1e10 * np.sqrt(phi), rel=0.1) and (drawn == np.rint(drawn)).all()
    low, high = Predictive(CountObservation(), [f[:1]], [0 * f[:1]], [s2], np.ones(1)).quantiles(np.array([0.1, 0.9]))
    assert (high - low)[0, 0] == pytest.approx(2 * stats.norm.ppf(0.9) * 1e10 * np.sqrt(phi), rel=0.01)


def test_roots_of_any_increasing_functions():
    roots = np.array([-1e8, -3.0, 0.0, 1e-3, 5e5])
    for function in (
        lambda x, i: x - roots[i],
        lambda x, i: np.arctan(x - roots[i]) ** 3,
        lambda x, i: np.sign(x - roots[i]),
    ):
        np.testing.assert_allclose(increasing_roots(function, np.zeros(5)), roots, rtol=1e-7, atol=2e-3)
    with pytest.raises(RuntimeError, match="does not change its sign"):
        increasing_roots(lambda x, i: np.full(len(x), np.nan), np.zeros(2))


@pytest.mark.parametrize("variance", [1e-4, 1e-2, 1.0])
@pytest.mark.parametrize("location", [-5000.0, -800.0, -300.0, 690.0, 699.5, 705.0, 5000.0])
def test_quantiles_of_counts_at_the_ends_of_the_floats_are_those_of_their_mean(location, variance):
    """The noise of such counts is nothing beside the uncertainty of the mean, or every count is 0."""
    levels = np.array([0.05, 0.5, 0.95])
    predictive = Predictive(
        CountObservation(), [np.full((1, 1), location)], [np.full((1, 1), variance)], [np.ones(1)], np.ones(1)
    )
    with np.errstate(over="ignore"):
        expected = np.exp(location + np.sqrt(variance) * stats.norm.ppf(levels))
    expected[expected < 1e-3] = 0
    np.testing.assert_allclose(predictive.quantiles(levels).ravel(), expected, rtol=1e-5)
    location2, spread2 = predictive.moments()
    assert np.isfinite(location2).all() and (spread2 > 0).all()
