"""Noise that depends on the inputs: the standard deviation is that at x, the mean does not move, and where there is no
such noise nothing changes."""

import pickle

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize
from scipy.stats import norm
from torch import nn, tensor

from skgn import GNRegressor, diagnose
from skgn.losses import GammaLoss

SMALL = {"n_estimators": 2, "hidden_layer_sizes": (8,), "tol": 1e-2, "random_state": 0}


def loud(n, seed, features=1, draw="normal"):
    """Inputs uniform on [-2, 2], targets whose noise has the standard deviation exp(x0 / 1.2 - 0.7), and that."""
    rng = np.random.default_rng(seed)
    X = rng.uniform(-2, 2, (n, features))
    std = np.exp(X[:, 0] / 1.2 - 0.7)
    noise = rng.normal(size=n) if draw == "normal" else rng.standard_t(8, size=n) * np.sqrt(6 / 8)
    return X, np.sin(2 * X[:, 0]) + std * noise, std


def even(n, seed, features=4):
    """Targets whose noise is the same everywhere."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, features))
    return X, np.sin(2 * X[:, 0]) + X[:, 1] * X[:, 2] + 0.5 * rng.normal(size=n)


@pytest.fixture(scope="module")
def model():
    X, y, _ = loud(1000, seed=0)
    return GNRegressor(random_state=0).fit(X, y)


def test_intervals_hold_what_they_say_where_noise_is_quiet_and_where_it_is_loud(model):
    assert model.noise_ == "input"
    X, y, std = loud(20_000, seed=1)
    mean, predicted = model.predict(X, return_std=True)
    least = -norm.logpdf(y, np.sin(2 * X[:, 0]), std).mean()
    assert -norm.logpdf(y, mean, predicted).mean() < least + 0.04
    inside = np.abs(y - mean) < norm.ppf(0.95) * predicted
    for quarter in np.array_split(np.argsort(X[:, 0]), 4):
        assert 0.86 < inside[quarter].mean() < 0.94


def test_means_are_those_of_constant_noise_bit_for_bit(model):
    X, y, _ = loud(1000, seed=0)
    constant = GNRegressor(random_state=0, noise="constant").fit(X, y)
    assert constant.noise_ == "constant"
    np.testing.assert_array_equal(model.predict(X), constant.predict(X))
    assert model.noise_std_ == constant.noise_std_
    assert not np.allclose(model.predict(X, return_std=True)[1], constant.predict(X, return_std=True)[1])


def test_quantiles_samples_and_covariances_are_those_of_the_noise_at_x(model):
    X = np.array([[-1.5], [0.0], [1.5]])
    mean, std = model.predict(X, return_std=True)
    ends = model.predict_quantiles(X, [0.05, 0.5, 0.95])
    # Members agree so well here that their mixture is nearly normal.
    np.testing.assert_allclose(
        (ends - mean[:, None]) / std[:, None], np.tile(norm.ppf([0.05, 0.5, 0.95]), (3, 1)), atol=0.03
    )
    samples = model.sample_y(X, 4000, random_state=0)
    np.testing.assert_allclose(samples.std(axis=1), std, rtol=0.05)
    np.testing.assert_allclose(np.sqrt(np.diag(model.predict(X, return_cov=True)[1])), std, rtol=1e-10)
    assert (model.epistemic_std(X) < std).all()


def test_calibrated_intervals_hold_as_much_where_noise_is_loud(model):
    X, y, _ = loud(20_000, seed=2)
    low, high = model.predict_interval(X, 0.9, calibrate=True).T
    inside = (low <= y) & (y <= high)
    for quarter in np.array_split(np.argsort(X[:, 0]), 4):
        assert 0.85 < inside[quarter].mean() < 0.95


def test_calibrated_intervals_of_student_t_noise_that_depends_on_the_inputs():
    X, y, _ = loud(800, seed=0, draw="t")
    model = GNRegressor(loss="student_t", noise="input", **SMALL).fit(X, y)
    X, y, _ = loud(20_000, seed=2, draw="t")
    low, high = model.predict_interval(X, 0.9, calibrate=True).T
    assert ((low <= y) & (y <= high)).mean() == pytest.approx(0.9, abs=0.015)


@pytest.mark.parametrize("seed", range(3))
def test_even_noise_stays_constant_and_changes_no_bit(seed):
    X, y = even(250, seed)
    fits = [GNRegressor(**SMALL, noise=noise).fit(X, y) for noise in ("auto", "constant")]
    assert fits[0].noise_ == "constant"
    for auto, constant in zip(*(model.predict(X, return_std=True) for model in fits), strict=True):
        np.testing.assert_array_equal(auto, constant)


def test_the_loss_of_squared_residuals_is_that_of_normal_residuals():
    z, g = np.random.default_rng(0).normal(size=(2, 50))
    loss = GammaLoss().value(tensor(g[:, None]), tensor(np.log(z**2)[:, None])).numpy() / 2
    density = norm.logpdf(z, scale=np.exp(g / 2)) - norm.logpdf(z, scale=np.abs(z))
    np.testing.assert_allclose(loss, -density, rtol=1e-10)


def test_a_linear_log_scale_is_that_of_greatest_likelihood():
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, 3000)
    y = 1 + 2 * x + np.exp(0.8 * x - 1) * rng.normal(size=len(x))

    def negative_log_likelihood(p):
        return -norm.logpdf(y, p[0] + p[1] * x, np.exp(p[2] + p[3] * x)).mean()

    a, b = minimize(negative_log_likelihood, np.zeros(4)).x[2:]
    model = GNRegressor((), noise="input", random_state=0).fit(x[:, None], y)
    at = np.linspace(-0.9, 0.9, 7)
    _, std = model.predict(at[:, None], return_std=True)
    np.testing.assert_allclose(np.log(std), a + b * at, atol=0.03)


@pytest.mark.parametrize("loss", ["squared_error", "student_t"])
def test_each_output_has_noise_of_its_own(loss):
    X, y, std = loud(800, seed=0, draw="student_t")
    other = X[:, 0] + 0.3 * np.random.default_rng(1).normal(size=len(X))
    model = GNRegressor(**SMALL, loss=loss, noise="input").fit(X, np.stack([y, 10 * other], 1))
    _, predicted = model.predict(X, return_std=True)
    assert np.abs(np.log(predicted[:, 0] / std)).mean() < 0.15
    np.testing.assert_allclose(predicted[:, 1], 3.0, rtol=0.25)


def test_weights_are_repetitions_and_the_order_of_rows_does_not_matter():
    X, y, _ = loud(150, seed=0, features=2)
    weight = np.random.default_rng(0).integers(0, 3, len(y))
    twice = np.repeat(np.arange(len(y)), weight)[::-1]
    a = GNRegressor(**SMALL, noise="input").fit(X, y, sample_weight=weight)
    b = GNRegressor(**SMALL, noise="input").fit(X[twice], y[twice])
    np.testing.assert_array_equal(a.predict(X, return_std=True), b.predict(X, return_std=True))


def test_tables_and_networks_of_ones_own_have_such_noise_too():
    X, y, std = loud(400, seed=0)
    table = pd.DataFrame({"x": X[:, 0], "level": pd.Categorical(np.where(std > 0.5, "loud", "quiet"))})
    table.loc[::9, "x"] = np.nan
    own = nn.Sequential(nn.Linear(1, 4), nn.Tanh(), nn.Linear(4, 1))
    for fitted, given in [
        (GNRegressor(**SMALL, noise="input").fit(table, y), table),
        (GNRegressor(network=own, n_estimators=2, random_state=0, noise="input").fit(X, y), X),
    ]:
        _, predicted = fitted.predict(given, return_std=True)
        assert np.corrcoef(np.log(predicted), np.log(std))[0, 1] > 0.7


@pytest.mark.filterwarnings("ignore::skgn.unfamiliar.UnfamiliarDataWarning")
def test_far_from_the_training_rows_the_noise_is_that_at_their_edge(model):
    _, std = model.predict([[2.0], [20.0]], return_std=True)
    _, constant = (
        GNRegressor(random_state=0, noise="constant")
        .fit(*loud(1000, seed=0)[:2])
        .predict([[2.0], [20.0]], return_std=True)
    )
    assert (std / constant)[1] == pytest.approx((std / constant)[0], rel=0.05)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"loss": "huber"}, "loss='huber'"),
        ({"loss": "cauchy"}, "loss='cauchy'"),
        ({"loss": "gamma"}, "loss='gamma'"),
        ({"l2_regularization": 0.1}, "l2_regularization=0.1"),
        ({"l2_regularization": 0.1, "solver": "cg"}, "l2_regularization=0.1"),
    ],
)
def test_what_has_no_such_noise_is_refused_and_an_earlier_fit_is_kept(model, change, message):
    stored = pickle.dumps(model)
    copy = pickle.loads(stored)
    with pytest.raises(ValueError, match=f"noise='input' does not go with {message}"):
        copy.set_params(noise="input", **change).fit(*loud(20, seed=0)[:2])
    np.testing.assert_array_equal(copy.predict([[1.0]], return_std=True), model.predict([[1.0]], return_std=True))


@pytest.mark.parametrize("loss", ["huber", "cauchy", "gamma", "poisson", "quantile"])
def test_auto_is_constant_for_losses_without_such_noise(loss):
    X, y, _ = loud(80, seed=0)
    assert GNRegressor(**SMALL | {"tol": 0.1}, loss=loss).fit(X, np.floor(np.exp(y)) + 1).noise_ == "constant"


def test_a_stream_refuses_it_and_forgets_it():
    X, y, _ = loud(400, seed=0)
    model = GNRegressor(**SMALL, noise="input").fit(X, y)
    with pytest.raises(ValueError, match="partial_fit does not support noise='input'"):
        model.partial_fit(X, y)
    assert model.noise_ == "input"
    assert model.set_params(noise="auto").partial_fit(X, y).noise_ == "constant"


def test_dask_refuses_it_before_any_work():
    da, skgn_dask = pytest.importorskip("dask.array"), pytest.importorskip("skgn.dask")
    X, y, _ = loud(40, seed=0)
    with pytest.raises(ValueError, match="noise='input' has no distributed form"):
        skgn_dask.DaskGNRegressor(noise="input").fit(da.from_array(X), da.from_array(y))


def test_a_fit_that_cannot_leave_samples_out_says_so(monkeypatch):
    # As for networks that interpolate.
    monkeypatch.setattr("skgn.search.leave_one_out", lambda *at: None)
    X = np.arange(20.0)[:, None]
    with pytest.warns(UserWarning, match="noise='input' could not be learned") as told:
        model = GNRegressor(**SMALL, noise="input").fit(X, np.sin(X[:, 0]))
    assert told[0].filename == __file__
    assert model.noise_ == "constant"


def test_models_of_versions_without_it_have_constant_noise():
    X, y = even(60, 0)
    model = GNRegressor(**SMALL).fit(X, y)
    state = model.__getstate__()
    del state["_noise"], state["noise"]
    older = GNRegressor.__new__(GNRegressor)
    older.__setstate__(state)
    assert older.noise_ == "constant"
    np.testing.assert_array_equal(older.predict(X, return_std=True), model.predict(X, return_std=True))


def test_a_fit_that_was_cut_short_is_left_as_it_is():
    X, y, _ = loud(1000, seed=0)
    with pytest.warns(match="max_time"):
        model = GNRegressor(random_state=0, max_time=1e-3).fit(X, y)
    assert model.noise_ == "constant"


@pytest.mark.parametrize("loss", ["squared_error", "huber"])
def test_diagnose_tells_loud_noise_from_outliers(loss):
    X, y, _ = loud(1200, seed=0, features=3)
    constant = GNRegressor(**SMALL, loss=loss, noise="constant").fit(X[:600], y[:600])
    report = diagnose(constant, X[600:], y[600:], verbose=False)
    assert report["noise"].verdict == "depends on the input" and report["noise"].numbers["varies_with"] == "x0"
    assert 'noise="input"' in report["noise"].advice
    assert not any("look at" in advice or "outliers" in advice for advice in report.advice)
    if loss == "squared_error":
        report = diagnose(constant.set_params(noise="input").fit(X[:600], y[:600]), X[600:], y[600:], verbose=False)
        assert report["noise"].advice is report["outliers"].advice is report["calibration"].advice is None


@pytest.mark.parametrize("seed", range(2))
def test_diagnose_does_not_see_such_noise_in_even_noise_outliers_or_a_poor_fit(seed):
    X, y = even(600, seed)
    outlying = y.copy()
    outlying[::40] += 8
    linear = GNRegressor((), random_state=0).fit(X[:300], X[:300, 0] ** 2)
    for model, target in [
        (GNRegressor(**SMALL).fit(X[:300], y[:300]), y),
        (GNRegressor(**SMALL).fit(X[:300], y[:300]), outlying),
        (linear, X[:, 0] ** 2),
    ]:
        assert diagnose(model, X[300:], target[300:], verbose=False)["noise"].verdict != "depends on the input"
