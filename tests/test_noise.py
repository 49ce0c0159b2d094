"""Noise that depends on the inputs: the standard deviation is that at x, means follow quiet rows, and where there is no
such noise nothing changes."""

import pickle
from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import pytest
import torch
from dense import draw, forward, jacobian
from scipy.optimize import minimize
from scipy.stats import norm
from sklearn.metrics import r2_score
from torch import nn, tensor

import skgn.noise_fit
from skgn import GNRegressor, diagnose, noise_fit
from skgn.estimator import table_and_target
from skgn.export import to_torch
from skgn.feedforward import FeedForward
from skgn.losses import GammaLoss, SquaredError
from skgn.mixture import UNSTRETCHED
from skgn.objective import Objective
from skgn.radial import RADIAL
from skgn.robust_losses import StudentTLoss
from skgn.status import Status

SMALL = {"n_estimators": 2, "hidden_layer_sizes": (8,), "tol": 1e-2, "random_state": 0}

#: The same, without other inputs that are tried.
ROBUST = SMALL | {"standardize": "robust"}


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


def elsewhere(n, seed):
    """Targets whose noise, of standard deviation exp(0.9 x3 - 0.5), depends on another column than they do."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 5))
    relation = X[:, 0] + X[:, 1] ** 2 + np.sin(2 * X[:, 2])
    return X, relation, relation + np.exp(0.9 * X[:, 3] - 0.5) * rng.normal(size=n)


@pytest.mark.parametrize("loss", ["squared_error", "student_t"])
def test_means_follow_the_quiet_rows(loss):
    """R2 of the relation is 0.96 and 0.97 with constant noise."""
    X, relation, y = elsewhere(2400, 0)
    models = [
        GNRegressor(noise=noise, loss=loss, n_estimators=1, random_state=0).fit(X[:400], y[:400])
        for noise in ("constant", "auto")
    ]
    constant, model = (1 - r2_score(relation[400:], each.predict(X[400:])) for each in models)
    assert model < 0.65 * constant < 0.03
    # That of a random row, quiet or loud.
    assert models[1].noise_std_ == pytest.approx(models[0].noise_std_, rel=0.25)


def test_what_samples_have_chosen_is_not_forgotten_by_training_on(monkeypatch):
    """Lengths of radial units are chosen once, and the members that have them count less for it."""
    drawn, train_members = [], skgn.noise_fit.train_members

    def train(problem, draw, *others):
        drawn.append(draw.starts)
        return train_members(problem, draw, *others)

    monkeypatch.setattr(skgn.noise_fit, "train_members", train)
    X, _, y = elsewhere(400, 0)
    model = GNRegressor(n_estimators=2, random_state=0).fit(X, y)
    again = next(starts for starts in drawn if any(start.scaling == RADIAL for start in starts))
    assert [start.log_choices > 0 for start in again] == [start.scaling == RADIAL for start in again]
    assert model.noise_ == "input"


@pytest.mark.parametrize("loss", [SquaredError(), StudentTLoss()], ids=lambda loss: loss.name)
def test_the_loss_sees_outputs_and_targets_in_units_of_the_noise(loss):
    """Value, gradient and curvature along a step, against autograd of the network as it is defined."""
    network, n = FeedForward(3, 2, (5,)), 30
    X, Y, s = draw(n, 3), draw(n, 2, seed=1), draw(n, seed=2).exp()
    root, w, step = draw(n, 2, seed=3).exp(), draw(network.n_weights, seed=4), draw(network.n_weights, seed=5)
    objective = Objective(network, loss, X, Y, s, root)

    def mean_loss(v):
        return s @ loss.value(root * forward(network, v, X), root * Y) / s.sum()

    at = objective.evaluate(w)
    assert at.loss == pytest.approx(float(mean_loss(w)), rel=1e-12)
    torch.testing.assert_close(objective.gradient(at), torch.func.grad(mean_loss)(w), rtol=1e-10, atol=1e-12)
    f, tangent = forward(network, w, X), jacobian(network, w, X) @ step
    R = loss.curvature_root(root * f, root * Y)
    expected = (s[:, None] * torch.einsum("nk,nkc->nc", root * tangent, R).square()).sum() / s.sum()
    slope, curvature = objective.along(at, step)
    assert slope == pytest.approx(float(torch.func.grad(mean_loss)(w) @ step), rel=1e-10)
    assert curvature == pytest.approx(float(expected), rel=1e-10)
    assert float(step @ objective.jacobian(at).normal_product(step) / s.sum()) == pytest.approx(curvature, rel=1e-10)
    after = objective.evaluate(w + 0.01 * step)
    assert objective.change(at, after)[0] == pytest.approx(float(mean_loss(w + 0.01 * step) - mean_loss(w)), rel=1e-8)
    index = torch.arange(0, n, 3)
    part = objective.part(index)
    assert part.evaluate(w).loss == pytest.approx(
        float(s[index] @ loss.value(root[index] * f[index], root[index] * Y[index]) / s[index].sum()), rel=1e-12
    )
    squares = loss.weighted_squares(root * f, root * Y).T @ loss.squares_weight(s)
    torch.testing.assert_close(objective.weighted_squares(at), squares, rtol=1e-12, atol=0)


def factor_of(model, X):
    """Factor (n, 1) of the noise of a model whose member reads robust inputs."""
    return model._noise.factor(model._table.scale(model._table.encode(X)), torch.device("cpu"))


def test_the_variance_is_that_of_the_mean_and_of_the_noise_at_x():
    X, y, _ = loud(1000, seed=0)
    model = GNRegressor(**SMALL | {"n_estimators": 1}, noise="input").fit(X, y)
    assert model._noise.weighs_rows
    at = np.array([[-1.5], [0.0], [1.5]])
    variance, of_mean = model.predict(at, return_std=True)[1] ** 2, model.epistemic_std(at) ** 2
    scaler = table_and_target(model)[1].scaler
    noise = scaler.scale**2 * model.estimators_[0].posterior.noise_in_mixture * factor_of(model, at)[:, 0]
    np.testing.assert_allclose(variance, of_mean + noise, rtol=1e-10)
    # Quiet rows tell more of the mean there.
    assert of_mean[0] < of_mean[2] / 5
    samples = model.sample_y(at, 4000, random_state=0)
    np.testing.assert_allclose(samples.std(axis=1), np.sqrt(variance), rtol=0.06)
    np.testing.assert_allclose(np.diag(model.predict(at, return_cov=True)[1]), variance, rtol=1e-10)


def test_noise_that_members_were_not_trained_with_stretches_all_of_a_prediction(model):
    """As that of 0.1.0 does, and that of a fit without time to train on."""
    X = np.array([[-1.5], [0.0], [1.5]])
    other, constant = pickle.loads(pickle.dumps(model)), pickle.loads(pickle.dumps(model))
    other._noise, constant._noise = replace(model._noise, weighs_rows=False), None
    std, same = (each.predict(X, return_std=True)[1] for each in (other, constant))
    root = np.sqrt(factor_of(other, X))[:, 0]
    np.testing.assert_allclose(std, root * same, rtol=1e-10)
    np.testing.assert_allclose(other.epistemic_std(X), root * constant.epistemic_std(X), rtol=1e-10)
    covariance, of_constant = (each.predict(X, return_cov=True)[1] for each in (other, constant))
    np.testing.assert_allclose(covariance, root[:, None] * of_constant * root, rtol=1e-8)
    np.testing.assert_allclose(other.sample_y(X, 4000, random_state=0).std(axis=1), std, rtol=0.05)
    for each in (model, other):
        with torch.no_grad():
            exported = to_torch(each, return_std=True)(torch.from_numpy(X))
        np.testing.assert_allclose(np.stack(exported), np.stack(each.predict(X, return_std=True)), rtol=1e-9)


@cache
def of_constant_noise(max_iter):
    """A model that tests share, which is not to be changed."""
    X, y, _ = loud(600, seed=0)
    return GNRegressor(**ROBUST, max_iter=max_iter, noise="constant").fit(X, y)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("why", ["cut short", "not denser", "farther off", "unknown", "max_iter"])
def test_members_stay_as_they_are_where_training_on_does_not_help(why, monkeypatch):
    X, y, _ = loud(600, seed=0)
    given = ROBUST | {"max_iter": 5 if why == "max_iter" else 100}
    constant = of_constant_noise(given["max_iter"])
    if why == "cut short":
        train = skgn.noise_fit.train_members

        def cut(problem, *given):
            found = train(problem, *given)
            return found if problem.root_precision is None else found._replace(cut_by=Status.MAX_TIME)

        monkeypatch.setattr("skgn.noise_fit.train_members", cut)
    elif why == "not denser":
        monkeypatch.setattr("skgn.noise_fit._density", lambda *given: 0.0)
    elif why == "farther off":
        monkeypatch.setattr("skgn.noise_fit._LARGER", -1.0)
        monkeypatch.setattr("skgn.noise_fit._STANDARD_ERRORS", -10.0)
    elif why == "unknown":
        left_out = skgn.noise_fit._left_out_of

        def unknown(ensemble, stretch=UNSTRETCHED):
            return left_out(ensemble, stretch) if stretch is UNSTRETCHED else None

        monkeypatch.setattr("skgn.noise_fit._left_out_of", unknown)
    model = GNRegressor(**given, noise="input").fit(X, y)
    assert model.noise_ == "input" and not model._noise.weighs_rows
    # Members count by variances, which may be so many times larger.
    np.testing.assert_allclose(model.predict(X), constant.predict(X), rtol=1e-12, atol=1e-12)
    assert model.noise_std_ == constant.noise_std_ and model.log_evidence_ == constant.log_evidence_
    assert not np.allclose(model.predict(X, return_std=True)[1], constant.predict(X, return_std=True)[1])


def test_means_of_noise_that_hardly_varies_stay_as_they_are():
    """Rows that count by their noise would tell 1.3 times as much: no time is spent on that."""
    rng = np.random.default_rng(0)
    X = rng.uniform(-1, 1, (2000, 1))
    y = np.sin(3 * X[:, 0]) + np.exp(0.45 * X[:, 0]) * rng.normal(size=2000)
    model, constant = (GNRegressor(**SMALL, noise=noise).fit(X, y) for noise in ("auto", "constant"))
    assert model.noise_ == "input"
    np.testing.assert_allclose(model.predict(X), constant.predict(X), rtol=1e-12, atol=1e-12)


def test_each_output_counts_by_its_own_noise():
    """The first target is loud where the second is quiet."""
    rng = np.random.default_rng(0)
    X = rng.uniform(-2, 2, (1600, 2))
    relation = np.column_stack([np.sin(2 * X[:, 0]), np.cos(2 * X[:, 0])])
    std = np.exp(np.column_stack([X[:, 1], -X[:, 1]]) * 1.2 - 0.5)
    Y = relation + std * rng.normal(size=(1600, 2))
    models = [GNRegressor(**ROBUST, noise=noise).fit(X[:400], Y[:400]) for noise in ("constant", "auto")]
    off = [((each.predict(X[400:]) - relation[400:]) ** 2).mean(axis=0) for each in models]
    assert models[1]._noise.weighs_rows
    assert (off[1] < 0.6 * off[0]).all()
    z = (Y[400:] - models[1].predict(X[400:])) / models[1].predict(X[400:], return_std=True)[1]
    for column in (0, 1):
        for half in (X[400:, 1] < 0, X[400:, 1] >= 0):
            assert 0.8 < np.sqrt(np.mean(z[half, column] ** 2)) < 1.2


def test_a_callback_that_ended_training_is_not_overruled():
    pytest.importorskip("sklearn.callback", reason="sklearn.callback comes with scikit-learn 1.9")

    class Stopping:
        def setup(self, estimator, context): ...

        def teardown(self, estimator, context): ...

        def on_fit_task_begin(self, estimator, context, **given): ...

        def on_fit_task_end(self, estimator, context, **given):
            return context.task_name == "iteration"

    X, y, _ = loud(600, seed=0)
    model = GNRegressor(**SMALL, noise="input").set_callbacks(Stopping()).fit(X, y)
    assert model.status_ == "callback" and not (model._noise and model._noise.weighs_rows)


def test_the_evidence_is_that_of_the_targets_in_their_own_units(monkeypatch):
    """Precisions that all rows have in common are those of constant noise."""
    X, y, _ = loud(300, seed=0)
    evidence = []
    for factor in (1.0, 100.0):
        monkeypatch.setattr(
            "skgn.noise.InputNoise.factor", lambda self, scaled, device, factor=factor: np.full((300, 1), factor)
        )
        monkeypatch.setattr("skgn.noise_fit.moments", lambda values, weight: (np.ones(1), np.ones(1)))
        monkeypatch.setattr("skgn.noise_fit._density", lambda found, problem: float(found.noise.weighs_rows))
        monkeypatch.setattr("skgn.noise_fit._EFFICIENCY", 0.0)
        evidence.append(GNRegressor(**ROBUST | {"n_estimators": 1}, noise="input").fit(X, y).log_evidence_)
    # Training ends a little earlier or later.
    assert evidence[1] == pytest.approx(evidence[0], abs=0.5)


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
    a = GNRegressor(**ROBUST, noise="input").fit(X, y, sample_weight=weight)
    b = GNRegressor(**ROBUST, noise="input").fit(X[twice], y[twice])
    np.testing.assert_array_equal(a.predict(X, return_std=True), b.predict(X, return_std=True))


def test_tables_and_networks_of_ones_own_have_such_noise_too():
    X, y, std = loud(250, seed=0)
    table = pd.DataFrame({"x": X[:, 0], "level": pd.Categorical(np.where(std > 0.5, "loud", "quiet"))})
    table.loc[::9, "x"] = np.nan
    own = nn.Sequential(nn.Linear(1, 4), nn.Tanh(), nn.Linear(4, 1))
    for fitted, given in [
        (GNRegressor(**ROBUST, noise="input").fit(table, y), table),
        (GNRegressor(network=own, n_estimators=2, random_state=0, noise="input").fit(X, y), X),
    ]:
        _, predicted = fitted.predict(given, return_std=True)
        assert np.corrcoef(np.log(predicted), np.log(std))[0, 1] > 0.7


@pytest.mark.filterwarnings("ignore::skgn.unfamiliar.UnfamiliarDataWarning")
def test_far_from_the_training_rows_the_noise_is_that_at_their_edge(model):
    factor = factor_of(model, np.array([[2.0], [20.0]]))
    assert factor[1] == pytest.approx(factor[0], rel=0.1)
    _, std = model.predict([[2.0], [20.0]], return_std=True)
    assert std[1] > std[0]


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
    model = GNRegressor(**ROBUST, noise="input").fit(X, y)
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


@pytest.mark.usefixtures("without_boosting")
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


@pytest.mark.usefixtures("without_boosting")
@pytest.mark.parametrize("seed", range(2))
def test_diagnose_does_not_see_such_noise_in_even_noise_outliers_or_a_poor_fit(seed):
    X, y = even(600, seed)
    outlying = y.copy()
    outlying[::40] += 8
    network = GNRegressor(**SMALL).fit(X[:300], y[:300])
    linear = GNRegressor((), random_state=0).fit(X[:300], X[:300, 0] ** 2)
    for fitted, target in [(network, y), (network, outlying), (linear, X[:, 0] ** 2)]:
        assert diagnose(fitted, X[300:], target[300:], verbose=False)["noise"].verdict != "depends on the input"


def test_networks_that_read_few_columns_go_on_with_the_precisions_of_the_rows(capsys):
    """The columns that they read were tested again, among all columns: a ValueError in most such fits."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 20))
    y = X[:, 0] + X[:, 1] * X[:, 2] + 0.4 * np.exp(X[:, 3]) * rng.normal(size=300)
    model = GNRegressor(random_state=0, verbose=1).fit(X, y)
    said = capsys.readouterr().out.partition("noise depends on the input: ")[2]
    assert model.noise_ == "input" and "robust, feature prior, 5 columns" in said
    # They read few columns by choice, not for want of time.
    assert "leading directions" not in said
    new = rng.normal(size=(2000, 20))
    assert model.score(new, new[:, 0] + new[:, 1] * new[:, 2]) > 0.75


def test_noise_that_depends_on_two_columns_together_is_found():
    """A test of each column does not see it: the noise was constant, and held 0.8 and 1.0 of loud and quiet rows."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(2800, 5))
    std = np.where(X[:, 1] * X[:, 2] > 0, 0.8, 0.1)
    y = np.sin(X[:, 0]) + std * rng.normal(size=2800)
    model = GNRegressor(n_estimators=2, random_state=0).fit(X[:800], y[:800])
    assert model.noise_ == "input"
    mean, predicted = model.predict(X[800:], return_std=True)
    with_constant = norm.logpdf(y[800:], mean, np.sqrt(np.mean(np.square(y[800:] - mean)))).mean()
    assert norm.logpdf(y[800:], mean, predicted).mean() > with_constant + 0.3


def test_a_linear_path_of_the_columns_of_use_stays_one_with_the_precisions_of_the_rows(monkeypatch):
    asked, train = [], noise_fit.train_members

    def trained(problem, draw, *given):
        asked.append([start.alone for start in draw.starts])
        return train(problem, draw, *given)

    monkeypatch.setattr(noise_fit, "train_members", trained)
    rng = np.random.default_rng(4)
    X = rng.normal(size=(120, 125))
    std = np.where(X[:, 2] > 0, 1.2, 0.05)
    y = 2 * X[:, 0] + X[:, 1] ** 2 + std * rng.normal(size=120)
    assert GNRegressor(random_state=0).fit(X, y).noise_ == "input"
    # The noise itself is learned before that, and after it.
    assert any(asked[1])
