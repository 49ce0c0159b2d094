"""Targets that share noise: networks have combinations of them, and predictions are those of a fit to these by hand."""

import io
import pickle
import time

import numpy as np
import pytest
import skops.io
import torch
from scipy.stats import norm, ortho_group
from sklearn.metrics import r2_score
from torch import nn

from skgn import GNRegressor, diagnose, shared_noise
from skgn.estimator import BaseGN, table_and_target
from skgn.export import to_torch
from skgn.persistence import SKOPS_TRUSTED
from skgn.predictions import observed_probabilities
from skgn.search import train_members
from skgn.shared_noise import mixing_of
from skgn.status import Status

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

SMALL = {"hidden_layer_sizes": (3,), "n_estimators": 2, "max_iter": 5, "random_state": 0}
TRAIN, NEW = slice(0, 150), slice(150, None)


def shared(n, k, correlation, seed=0, spread=None):
    """Inputs, relations of k targets, and targets with noise of that correlation; ``spread`` (n,) is its size."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 4))
    F = np.column_stack([np.sin(X @ rng.normal(size=4) / 2) + 0.3 * X @ rng.normal(size=4) for _ in range(k)])
    E = np.sqrt(correlation) * rng.normal(size=(n, 1)) + np.sqrt(1 - correlation) * rng.normal(size=(n, k))
    return X, F, F + E * (1 if spread is None else spread(X)[:, None])


def mixing(model):
    return table_and_target(model)[1].scaler.mixing


@pytest.fixture(scope="module")
def data():
    X, _, Y = shared(200, 3, 0.8)
    return X, Y * [1, 20, 300] + [0, 5, -7]


@pytest.fixture(scope="module")
def model(data):
    X, Y = data
    return GNRegressor(**SMALL).fit(X[TRAIN], Y[TRAIN])


class ByHand:
    """A fit to combinations of standardised targets, whose predictions lead back to the targets."""

    def __init__(self, model, X, Y, **given):
        target = table_and_target(model)[1]
        self.M, self.scale, self.mean = mixing(model), target.scaler.scale, target.scaler.mean
        self.model = GNRegressor(**given).fit(X, (Y - self.mean) / self.scale @ np.linalg.inv(self.M))
        assert mixing(self.model) is None

    def back(self, values):
        return values @ self.M * self.scale

    def variance(self, variance):
        return variance @ self.M**2 * self.scale**2


def test_means_are_those_of_combinations_by_hand(data, model):
    X, Y = data
    by_hand = ByHand(model, X[TRAIN], Y[TRAIN], **SMALL)
    expected = by_hand.back(by_hand.model.predict(X[NEW])) + by_hand.mean
    np.testing.assert_allclose(model.predict(X[NEW]), expected, rtol=1e-8, atol=1e-8)
    assert model.n_outputs_ == 3


def test_variances_are_those_of_combinations_by_hand(data):
    """Of a single member: several lie apart, and not independently so in each combination."""
    X, Y = data
    given = SMALL | {"n_estimators": 1}
    model = GNRegressor(**given).fit(X[TRAIN], Y[TRAIN])
    by_hand = ByHand(model, X[TRAIN], Y[TRAIN], **given)
    std, deviation = (each.predict(X[NEW], return_std=True)[1] for each in (model, by_hand.model))
    # Widths are made as wide as left-out residuals of the targets ask, not those of the combinations.
    wider = (std**2 / by_hand.variance(deviation**2)).mean()
    assert 0.9 < wider < 1.1
    np.testing.assert_allclose(std**2, wider * by_hand.variance(deviation**2), rtol=1e-8)
    np.testing.assert_allclose(model.noise_std_**2, by_hand.variance(by_hand.model.noise_std_**2), rtol=1e-8)
    epistemic = by_hand.variance(by_hand.model.epistemic_std(X[NEW]) ** 2)
    np.testing.assert_allclose(model.epistemic_std(X[NEW]) ** 2, wider * epistemic, rtol=1e-8)
    # Densities are those of the standardised targets, whatever the combinations.
    of_outputs = by_hand.model.log_evidence_
    assert model.log_evidence_ == pytest.approx(of_outputs - 150 * np.log(abs(np.linalg.det(by_hand.M))), rel=1e-9)
    covariance, of_outputs = (each.predict(X[NEW], return_cov=True)[1] for each in (model, by_hand.model))
    expected = wider * by_hand.variance(of_outputs)
    largest = expected.max(axis=(0, 1))
    np.testing.assert_allclose(covariance / largest, expected / largest, atol=1e-8)


def test_quantiles_of_a_target_are_those_of_a_normal_mixture(data, model):
    """Half of the samples are below the median, and the ends of an interval hold what they should."""
    X, _ = data
    samples = model.sample_y(X[NEW], 4000, random_state=1)
    low, high = np.moveaxis(model.predict_interval(X[NEW], 0.8), 1, 0)
    held = ((samples >= low[..., None]) & (samples <= high[..., None])).mean(axis=2)
    np.testing.assert_allclose(held, 0.8, atol=0.03)
    np.testing.assert_allclose(samples.std(axis=2), model.predict(X[NEW], return_std=True)[1], rtol=0.06)


def test_samples_share_the_noise_that_targets_share(data, model):
    X, Y = data
    samples = model.sample_y(X[NEW], 500, random_state=0)
    of_samples = np.corrcoef((samples - samples.mean(axis=2, keepdims=True)).transpose(1, 0, 2).reshape(3, -1))
    of_residuals = np.corrcoef((Y[TRAIN] - model.predict(X[TRAIN])).T)
    np.testing.assert_allclose(of_samples, of_residuals, atol=0.1)
    assert of_samples[0, 1] > 0.7


def test_calibrated_intervals_hold_rows_of_each_target():
    X, _, Y = shared(1600, 2, 0.9)
    model = GNRegressor(**SMALL | {"max_iter": 20}).fit(X[:800], Y[:800])
    assert mixing(model) is not None
    low, high = np.moveaxis(model.predict_interval(X[800:], 0.9, calibrate=True), 1, 0)
    np.testing.assert_allclose(((Y[800:] >= low) & (Y[800:] <= high)).mean(axis=0), 0.9, atol=0.03)


@pytest.mark.parametrize("correlation", [0.5, 0.95])
def test_relations_are_found_and_no_more_is_promised(correlation):
    X, F, Y = shared(600, 5, correlation)
    model = GNRegressor(standardize="robust", n_estimators=2, random_state=0).fit(X[:300], Y[:300])
    assert r2_score(F[300:], model.predict(X[300:])) > 0.85
    assert model.left_out_score_ == pytest.approx(model.score(X[300:], Y[300:]), abs=0.08)


@pytest.mark.parametrize("loss", ["student_t", "huber", "cauchy"])
def test_gross_errors_hide_no_shared_noise_from_losses_that_forgive_them(loss):
    X, F, Y = shared(600, 5, 0.95)
    rng = np.random.default_rng(3)
    Y = Y + np.where(rng.random(Y.shape) < 0.05, 15 * rng.normal(size=Y.shape), 0)
    model = GNRegressor(loss=loss, n_estimators=2, random_state=0).fit(X[:300], Y[:300])
    assert mixing(model) is not None
    assert r2_score(F[300:], model.predict(X[300:])) > 0.8


def test_score_of_a_loss_that_depends_on_the_scale_is_that_of_each_target():
    """A score is the part of a constant's loss, in the scale of the noise of the target."""
    X, _, Y = shared(400, 2, 0.9)
    model = GNRegressor(loss="huber", n_estimators=2, random_state=0).fit(X[:200], Y[:200])
    assert mixing(model) is not None

    def huber(residual):
        z = np.abs(residual / model.noise_std_)
        return np.where(z < 1.345, z**2 / 2, 1.345 * (z - 1.345 / 2)).mean(axis=0)

    new = slice(200, None)
    actual = 1 - huber(Y[new] - model.predict(X[new])) / huber(Y[new] - np.median(Y[:200], axis=0))
    assert model.left_out_score_ == pytest.approx(actual.mean(), abs=0.1)


def test_a_target_alone_keeps_its_output():
    X, _, Y = shared(300, 3, 0.9)
    other = X[:, 0] + 0.5 * np.random.default_rng(5).normal(size=300)
    M = mixing(GNRegressor(**SMALL).fit(X, np.column_stack([Y[:, 0], other, Y[:, 1]])))
    np.testing.assert_array_equal(M[1], [0, 1, 0])
    np.testing.assert_array_equal(M[:, 1], [0, 1, 0])
    assert (M[np.ix_([0, 2], [0, 2])] != 0).all()


def sums(noise, whole, n):
    """What the sums over n samples are, where residuals and targets are normal and have these covariances."""
    variance, k = noise.diagonal(), len(noise)
    last = np.vstack([variance, np.ones((k - 1, k))])
    return n * np.stack([noise, np.outer(variance, variance) + 2 * noise**2, whole, last])


def test_combinations_are_uncorrelated_in_the_noise_and_as_a_whole():
    rng = np.random.default_rng(0)
    directions, other = ortho_group.rvs(4, random_state=rng), rng.normal(size=(4, 4))
    noise = directions * [1e-3, 0.1, 0.5, 2.0] @ directions.T
    whole = noise + other @ other.T
    M = mixing_of(sums(noise, whole, 500.0))
    W = np.linalg.inv(M)
    of_noise = W.T @ noise @ W
    np.testing.assert_allclose(of_noise, np.diag(of_noise.diagonal()), atol=1e-8)
    np.testing.assert_allclose(W.T @ whole @ W, np.eye(4), atol=1e-6)
    # The free sign of each is that of its largest part.
    assert (W.max(axis=0) == np.abs(W).max(axis=0)).all()


def test_no_samples_tell_of_no_noise():
    assert mixing_of(sums(np.eye(3), np.eye(3), 0.0)) is None


@pytest.mark.parametrize("seed", range(5))
def test_many_pairs_are_not_joined_by_chance(seed):
    residuals = np.random.default_rng(seed).normal(size=(200, 12))
    products, squares = residuals.T @ residuals, np.square(residuals).T @ np.square(residuals)
    last = np.vstack([np.square(residuals).sum(axis=0), np.full((11, 12), 200)])
    assert mixing_of(np.stack([products, squares, products, last])) is None


@pytest.mark.parametrize(
    "noise",
    [
        np.diag([0.1, 1.0, 2.0]),
        np.eye(3) + 0.1 * (1 - np.eye(3)),
        0.001 * (np.eye(3) + 1),
        np.zeros((3, 3)),
        np.diag([1.0, 1.0, np.inf]),
    ],
    ids=["independent", "by chance", "hardly any", "exact", "run away"],
)
def test_outputs_stay_where_no_noise_is_shared(noise):
    # Three correlations of 0.1 by chance have a p of 0.3 each.
    assert mixing_of(sums(noise, np.eye(3), 100.0)) is None


def test_few_rows_do_not_make_noise_shared():
    """Of three rows that all targets miss by far, residuals have a correlation of 0.97."""
    X = np.random.default_rng(0).normal(size=(200, 2))
    Y = np.random.default_rng(1).normal(size=(200, 2)) + X
    Y[:3] += 40
    assert np.corrcoef((Y - X).T)[0, 1] > 0.9
    assert mixing(GNRegressor(**SMALL).fit(X, Y)) is None


def test_parts_of_a_whole_keep_their_outputs():
    """Their sum never varies, and would count for more than all others."""
    X, _, Y = shared(300, 3, 0.5)
    parts = np.exp(Y) / np.exp(Y).sum(axis=1, keepdims=True)
    assert mixing(GNRegressor(**SMALL).fit(X, parts)) is None
    assert mixing(GNRegressor(**SMALL).fit(X, parts[:, :2])) is not None


def test_a_group_is_joined_through_its_members():
    """Two targets whose noise is uncorrelated by itself both share noise with a third one."""
    noise = np.eye(4)
    noise[0, 1] = noise[1, 0] = noise[1, 3] = noise[3, 1] = 0.6
    M = mixing_of(sums(noise, noise + np.eye(4), 300.0))
    np.testing.assert_array_equal(M[2], [0, 0, 1, 0])
    assert (np.linalg.inv(M)[np.ix_([0, 1, 3], [0, 1, 3])] != 0).any(axis=1).all()


def test_noise_that_depends_on_the_inputs():
    X, _, Y = shared(900, 2, 0.8, spread=lambda X: np.exp(X[:, 0]))
    model = GNRegressor(**SMALL | {"max_iter": 20}, noise="input").fit(X[:500], Y[:500])
    assert mixing(model) is not None
    (_, std), new = model.predict(X[500:], return_std=True), slice(500, None)
    z = (Y[new] - model.predict(X[new])) / std
    for rows in (X[new, 0] < 0, X[new, 0] >= 0):
        np.testing.assert_allclose(np.sqrt(np.square(z[rows]).mean(axis=0)), 1, atol=0.25)
    samples = model.sample_y(X[500:540], 3000)
    np.testing.assert_allclose(samples.std(axis=2), std[:40], rtol=0.1)
    covariance = model.predict(X[500:540], return_cov=True)[1]
    np.testing.assert_allclose(np.sqrt(covariance.diagonal().T), std[:40], rtol=1e-10)
    mean, deviation = to_torch(model, return_std=True)(torch.from_numpy(X[500:540]))
    np.testing.assert_allclose(deviation.detach(), std[:40], rtol=1e-10)
    np.testing.assert_allclose(mean.detach(), model.predict(X[500:540]), rtol=1e-10, atol=1e-12)


def test_a_line_says_how_many_targets_share_noise(capsys):
    X, _, Y = shared(200, 3, 0.9)
    other = X[:, 0] + 0.5 * np.random.default_rng(5).normal(size=200)
    GNRegressor(**SMALL, verbose=1).fit(X, np.column_stack([Y, other]))
    assert "3 targets share noise: networks have combinations of them" in capsys.readouterr().out


def test_stored_models_and_modules_predict_the_same(data, model):
    X, _ = data
    expected = model.predict(X[NEW], return_std=True)
    stream = io.BytesIO()
    skops.io.dump(model, stream)
    stream.seek(0)
    for other in (pickle.loads(pickle.dumps(model)), skops.io.load(stream, trusted=SKOPS_TRUSTED)):
        for values, same in zip(other.predict(X[NEW], return_std=True), expected, strict=True):
            np.testing.assert_array_equal(values, same)
    for values, same in zip(to_torch(model, return_std=True)(torch.from_numpy(X[NEW])), expected, strict=True):
        np.testing.assert_allclose(values.detach(), same, rtol=1e-10)


def test_a_broken_mixing_is_refused(model):
    broken = pickle.loads(pickle.dumps(model))
    scaler = table_and_target(broken)[1].scaler
    scaler.mixing = scaler.mixing[:2]
    with pytest.raises(ValueError, match="_target"):
        pickle.loads(pickle.dumps(broken))


def test_a_stream_goes_on_in_the_combinations_of_a_fit(data, model):
    X, Y = data
    stream = pickle.loads(pickle.dumps(model))
    stream.partial_fit(X[TRAIN], Y[TRAIN])
    np.testing.assert_array_equal(mixing(stream), mixing(model))
    apart = np.abs(stream.predict(X[NEW]) - model.predict(X[NEW])) / stream.predict(X[NEW], return_std=True)[1]
    assert apart.mean() < 0.3


def test_a_warm_start_goes_on_in_the_combinations_of_a_fit_without_it(data, model):
    X, Y = data
    again = pickle.loads(pickle.dumps(model)).set_params(warm_start=True).fit(X[TRAIN], Y[TRAIN])
    np.testing.assert_array_equal(mixing(again), mixing(model))
    assert again.history_["loss"][0] < 0.6 * model.history_["loss"][0]
    robust = pickle.loads(pickle.dumps(model)).set_params(warm_start=True, loss="huber").fit(X[TRAIN], Y[TRAIN])
    np.testing.assert_array_equal(mixing(robust), mixing(model))
    with pytest.raises(ValueError, match="warm_start=True needs the network"):
        again.fit(X[TRAIN], Y[TRAIN, :2])
    # A quantile of a combination is none of the targets.
    assert mixing(again.set_params(loss="quantile").fit(X[TRAIN], Y[TRAIN])) is None


def test_validation_rows_are_in_the_same_combinations():
    """Those of other combinations would end training after nine iterations, with an R2 of 0.84."""
    X, F, Y = shared(300, 3, 0.8)
    model = GNRegressor(**SMALL | {"max_iter": 50, "early_stopping": True})
    model.fit(X[:150], Y[:150], X_val=X[150:], y_val=Y[150:])
    assert mixing(model) is not None
    assert r2_score(F[150:], model.predict(X[150:])) > 0.88


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, x):
        return torch.tanh(self.layer(x))


@pytest.mark.parametrize(
    "given",
    [
        {"loss": "quantile"},
        {"l2_regularization": 1e-3},
        {"warm_start": True},
        {"hidden_layer_sizes": (), "n_estimators": 1},
        {"hidden_layer_sizes": "auto", "network": Net()},
    ],
    ids=["another loss", "a given l2", "warm start", "linear", "a module"],
)
def test_outputs_are_the_targets_where_they_must_be(data, given):
    X, Y = data
    assert mixing(GNRegressor(**SMALL | given).fit(X[TRAIN], Y[TRAIN])) is None


def test_probabilities_of_what_came_true_are_those_of_a_normal_distribution(data):
    X, Y = data
    model = GNRegressor(**SMALL | {"n_estimators": 1}).fit(X[TRAIN], Y[TRAIN])
    model._degrees_of_freedom = np.inf
    mean, std = model.predict(X[NEW], return_std=True)
    np.testing.assert_allclose(
        observed_probabilities(model, X[NEW], Y[NEW]), norm.cdf((Y[NEW] - mean) / std), atol=1e-9
    )


def test_relevance_is_that_of_the_targets():
    """The second feature tells all of what two targets differ in, but little of either of them."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 2))
    Y = (
        np.column_stack([X[:, 0], X[:, 0] + 0.2 * X[:, 1]])
        + rng.normal(size=(300, 1))
        + 0.1 * rng.normal(size=(300, 2))
    )
    model = GNRegressor(**SMALL | {"max_iter": 30}).fit(X, Y)
    assert mixing(model) is not None
    assert model.feature_relevance_[1] < 0.1
    assert model.partial_fit(X, Y).feature_relevance_[1] < 0.1


def test_relevance_and_diagnosis_are_those_of_the_targets():
    X, _, Y = shared(300, 2, 0.9)
    X = np.column_stack([X, np.random.default_rng(9).normal(size=300)])
    model = GNRegressor(**SMALL | {"max_iter": 30}).fit(X, Y)
    assert mixing(model) is not None
    assert model.feature_relevance_[-1] < 0.1
    assert model.feature_relevance_.sum() == pytest.approx(1)
    assert "R2" in str(diagnose(model, X, Y))


def test_an_interrupt_of_the_first_network_ends_the_fit(data, monkeypatch):
    X, Y = data
    model = GNRegressor(**SMALL).fit(X[TRAIN], Y[TRAIN, 0])
    before = model.predict(X[NEW])

    def interrupted(problem, draw, limits):
        limits.interrupt()
        return train_members(problem, draw, limits)

    monkeypatch.setattr(shared_noise, "train_members", interrupted)
    with pytest.raises(KeyboardInterrupt, match="before anything was trained"):
        model.fit(X[TRAIN], Y[TRAIN])
    np.testing.assert_array_equal(model.predict(X[NEW]), before)


def test_a_first_network_that_is_cut_short_tells_nothing(data, monkeypatch):
    X, Y = data

    def cut_short(problem, draw, limits):
        assert limits.left <= 1.0 and problem.n_samples == 40
        return train_members(problem, draw, limits)._replace(cut_by=Status.MAX_TIME)

    monkeypatch.setattr(shared_noise, "_ROWS", 40)
    monkeypatch.setattr(shared_noise, "train_members", cut_short)
    assert mixing(GNRegressor(**SMALL, max_time=10.0).fit(X[TRAIN], Y[TRAIN])) is None


def test_the_fit_has_the_time_that_the_first_network_leaves(data, monkeypatch):
    X, Y = data
    left = []

    def slow(problem, draw, limits):
        time.sleep(0.3)
        return train_members(problem, draw, limits)

    def only_asked(self, problem, *given):
        left.append(problem.max_time)
        raise RuntimeError("asked")

    monkeypatch.setattr(shared_noise, "train_members", slow)
    monkeypatch.setattr(BaseGN, "_train", only_asked)
    with pytest.raises(RuntimeError, match="asked"):
        GNRegressor(**SMALL, max_time=10.0).fit(X[TRAIN], Y[TRAIN])
    assert left[0] <= 9.7


def test_without_time_there_are_no_combinations():
    X, _, Y = shared(300, 3, 0.9)
    with pytest.warns(UserWarning):
        model = GNRegressor(max_time=1e-9, random_state=0).fit(X, Y)
    assert mixing(model) is None
    assert model.status_ == "max_time"
