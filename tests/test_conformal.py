"""Intervals calibrated by left-out residuals: order statistics by counting, coverage over simulated sets."""

import numpy as np
import pytest

from skgn import GNRegressor
from skgn.conformal import Residuals


@pytest.mark.parametrize("total", [19, 20, 57, 199])
@pytest.mark.parametrize("probability", [0.05, 0.2, 0.5])
def test_so_many_residuals_lie_outside(total, probability):
    """Of n + 1 exchangeable ones the last is beyond the k-th of the others with a probability of k / (n + 1)."""
    values = np.random.default_rng(total).normal(size=(total, 2))
    residuals, k = Residuals(values, np.ones(total)), int(np.floor(probability * (total + 1) + 1e-9))
    np.testing.assert_array_equal(residuals.beyond(probability, upper=False), np.sort(values, axis=0)[k - 1])
    np.testing.assert_array_equal(residuals.beyond(probability, upper=True), np.sort(values, axis=0)[-k])


def test_weights_are_repetitions():
    rng = np.random.default_rng(0)
    values, weight = rng.normal(size=(30, 1)), rng.integers(1, 5, 30)
    weighted = Residuals(values, weight * 1.0)
    repeated = Residuals(np.repeat(values, weight, axis=0), np.ones(weight.sum()))
    for probability in (0.02, 0.05, 0.1, 0.33):
        for upper in (False, True):
            assert weighted.beyond(probability, upper) == repeated.beyond(probability, upper)


def test_too_few_residuals():
    few = Residuals(np.zeros((18, 1)), np.ones(18))
    with pytest.raises(ValueError, match="needs 19 left-out samples for this coverage, and the fit has 18"):
        few.beyond(0.05, upper=True)
    assert Residuals(np.zeros((19, 1)), np.ones(19)).beyond(0.05, upper=True) == 0


#: Noise that the loss does not describe.
NOISE = {
    "normal": lambda rng, x: rng.normal(size=len(x)),
    "skewed": lambda rng, x: rng.exponential(size=len(x)) ** 2,
    "two points": lambda rng, x: 3 * np.sign(rng.random(len(x)) - 0.2),
    "heavy tails": lambda rng, x: rng.standard_t(2, size=len(x)),
    "louder on one side": lambda rng, x: np.exp(x[:, 0]) * rng.normal(size=len(x)),
}


@pytest.mark.parametrize("noise", NOISE)
@pytest.mark.filterwarnings("ignore:Failed. extreme targets")  # A few of the sets of heavy tails have such.
def test_new_rows_are_covered_as_promised_over_simulated_sets(noise):
    inside, n_sets, n = [], 30, 50
    for seed in range(n_sets):
        rng = np.random.default_rng(seed)
        x = rng.uniform(-2, 2, (n + 200, 2))
        y = x @ [1.0, -1.0] + NOISE[noise](rng, x)
        model = GNRegressor((), prior_groups="shared", noise="constant", n_estimators=2, random_state=0)
        model.set_params(tol=1e-2, n_iter_no_change=2).fit(x[:n], y[:n])
        low, high = model.predict_interval(x[n:], 0.9, calibrate=True).T
        inside.append(np.mean((low <= y[n:]) & (y[n:] <= high)))
    # Of independent sets the mean of the coverage is known to this.
    slack = 3 * np.std(inside) / np.sqrt(n_sets) + 0.02
    assert np.mean(inside) > 0.9 - slack
    # Where residuals are alike, more lie inside.
    assert np.mean(inside) < 0.9 + slack or noise == "two points"


def test_intervals_are_one_sided_where_the_noise_is():
    rng = np.random.default_rng(0)
    x = rng.uniform(-2, 2, (300, 1))
    y = x[:, 0] + rng.exponential(size=300)
    model = GNRegressor((), n_estimators=2, random_state=0).fit(x, y)
    low, high = model.predict_interval([[0.0]], 0.9, calibrate=True)[0]
    assert low == pytest.approx(-np.log(0.95), abs=0.1) and high == pytest.approx(-np.log(0.05), abs=0.7)


@pytest.mark.parametrize("options", [{"l2_regularization": 1e-2}, {"hidden_layer_sizes": (), "n_estimators": 1}])
def test_a_fit_without_left_out_residuals_says_so(options):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 1))
    given = {"hidden_layer_sizes": (3,), "n_estimators": 2, "random_state": 0} | options
    model = GNRegressor(**given).fit(x, x[:, 0] ** 2)
    assert np.isnan(model.left_out_score_)
    with pytest.raises(ValueError, match="does not know: fit with l2_regularization='evidence'"):
        model.predict_interval(x, calibrate=True)


def test_of_the_pinball_loss_there_are_none():
    x = np.random.default_rng(0).normal(size=(60, 1))
    model = GNRegressor((), loss="quantile", quantile=[0.05, 0.95], n_estimators=2, max_iter=500, random_state=0)
    with pytest.raises(ValueError, match="calibrate=True has no meaning for loss='quantile'"):
        model.fit(x, x[:, 0]).predict_interval(x, calibrate=True)


def test_widths_of_noise_that_depends_on_the_input_are_those_of_the_residuals():
    """In units of its own width each residual has about the size 1, wherever the noise is loud."""
    rng = np.random.default_rng(0)
    x = rng.uniform(-2, 2, (2400, 1))
    y = x[:, 0] + np.exp(x[:, 0]) * rng.normal(size=2400)
    model = GNRegressor((), noise="input", n_estimators=2, random_state=0).fit(x[:400], y[:400])
    low, high = model.predict_interval(x[400:], 0.9, calibrate=True).T
    inside = (low <= y[400:]) & (y[400:] <= high)
    assert inside.mean() == pytest.approx(0.9, abs=0.03)
    for part in (x[400:, 0] < -0.7, x[400:, 0] > 0.7):
        assert inside[part].mean() == pytest.approx(0.9, abs=0.08)
    # Those of constant widths have heavy tails, and would make all intervals a third too wide at this coverage.
    low, high = model.predict_interval(x[400:], 0.98, calibrate=True).T
    assert np.mean((low <= y[400:]) & (y[400:] <= high)) == pytest.approx(0.98, abs=0.012)
    plain = np.diff(model.predict_interval(x[400:], 0.98), axis=1)[:, 0]
    assert np.median((high - low) / plain) == pytest.approx(1, abs=0.2)


def test_a_single_network_that_goes_on_knows_what_its_first_fit_knew():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(100, 3))
    y = np.sin(2 * X[:, 0]) + 0.1 * rng.normal(size=100)
    model = GNRegressor(n_estimators=1, warm_start=True, random_state=0).fit(X, y)
    first, kind = model.left_out_score_, model.estimators_[0].scaling
    for _ in range(2):
        model.fit(X, y)
        # It goes on with its own network: none is drawn for the column of use.
        assert model.left_out_score_ > first - 0.02 and model.estimators_[0].scaling == kind
        assert np.isfinite(model.noise_degrees_of_freedom_)
        low, high = model.predict_interval(X, calibrate=True).T
        assert 0.85 < np.mean((low <= y) & (y <= high)) <= 1


@pytest.mark.parametrize("divisor", [1, 3], ids=["counts", "with fractions"])
def test_ends_for_counts_are_whole_numbers_and_no_others(divisor):
    """Rounded inwards, intervals of small numbers with fractions held 0.1 to 0.6 of new ones."""
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (1300, 2))
    y = rng.poisson(np.exp(1 + x[:, 0])) / divisor
    model = GNRegressor((), loss="poisson", n_estimators=2, random_state=0).fit(x[:300], y[:300])
    ends = model.predict_interval(x[300:], 0.8, calibrate=True)
    low, high = ends.T
    assert 0.75 < np.mean((low <= y[300:]) & (y[300:] <= high)) < 0.93
    assert low.min() >= 0
    assert (ends == np.rint(ends)).all() == (divisor == 1)
