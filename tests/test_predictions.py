"""Quantiles, intervals, samples and covariances of regressors, and the information of classifiers."""

import copy
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.base import clone
from sklearn.compose import TransformedTargetRegressor
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.linear_model import BayesianRidge
from sklearn.metrics import d2_pinball_score, mean_pinball_loss
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skgn import GNClassifier, GNRegressor
from skgn.export import to_torch
from skgn.jacobian_cost import takes_factored
from skgn.posterior import output_variance

RNG = np.random.default_rng(0)
X = RNG.uniform(-2, 2, (150, 2))
CENTRE = np.exp(0.5 * np.sin(2 * X[:, 0]))
NEW = np.vstack([RNG.uniform(-2, 2, (30, 2)), [[5.0, -5.0]]])

#: Targets for each loss.
TARGETS = {
    "squared_error": CENTRE + 0.2 * RNG.normal(size=150),
    "student_t": CENTRE + 0.2 * RNG.standard_t(5, size=150),
    "huber": CENTRE + 0.2 * RNG.normal(size=150),
    "cauchy": CENTRE + 0.1 * RNG.standard_cauchy(size=150),
    "poisson": RNG.poisson(3 * CENTRE).astype(float),
    "gamma": CENTRE * RNG.gamma(5, size=150) / 5,
}
LEVELS = [0.05, 0.5, 0.95]
SMALL = {"hidden_layer_sizes": (4,), "n_estimators": 2, "max_iter": 20, "tol": 0.1, "random_state": 0}

_FITTED = {}


def fitted(loss, n_outputs=1):
    """A small fit, made once."""
    if (loss, n_outputs) not in _FITTED:
        y = TARGETS[loss]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("warnings.warn", lambda *args, **kw: None)  # it is cut short
            model = GNRegressor(loss=loss, **SMALL).fit(X, y if n_outputs == 1 else np.stack([y, 2 * y], axis=1))
        _FITTED[loss, n_outputs] = model
    return _FITTED[loss, n_outputs]


@pytest.mark.parametrize("n_outputs", [1, 2])
@pytest.mark.parametrize("loss", TARGETS)
def test_quantiles_are_those_of_samples(loss, n_outputs):
    model, n_draws = fitted(loss, n_outputs), 4000
    quantiles, samples = model.predict_quantiles(NEW, LEVELS), model.sample_y(NEW, n_draws)
    if n_outputs == 1:
        quantiles, samples = quantiles[..., None], samples[:, None]
    assert quantiles.shape == (len(NEW), 3, n_outputs) and samples.shape == (len(NEW), n_outputs, n_draws)
    for i, level in enumerate(LEVELS):
        at_most = (samples <= quantiles[:, i, :, None]).mean(axis=2)
        below = (samples < quantiles[:, i, :, None]).mean(axis=2)
        slack = 5 * np.sqrt(level * (1 - level) / n_draws)
        assert (at_most > level - slack).all() and (below < level + slack).all()
    assert (np.diff(quantiles, axis=1) >= 0).all()


def test_of_one_linear_member_the_quantiles_are_normal_ones_as_by_scikit_learn():
    y = X @ [1.0, -2.0] + 0.3 * RNG.normal(size=150)
    ours = GNRegressor((), n_estimators=1, prior_groups="shared", standardize=False, tol=1e-9, random_state=0).fit(X, y)
    mean, std = ours.predict(NEW, return_std=True)
    expected = stats.norm(mean[:, None], std[:, None]).ppf(LEVELS)
    np.testing.assert_allclose(ours.predict_quantiles(NEW, LEVELS), expected, rtol=1e-7)
    np.testing.assert_allclose(ours.predict_interval(NEW, 0.9), expected[:, [0, 2]], rtol=1e-7)
    theirs_mean, theirs = BayesianRidge().fit(X, y).predict(NEW, return_std=True)
    np.testing.assert_allclose(expected[:, 2] - expected[:, 0], 2 * stats.norm.isf(0.05) * theirs, rtol=0.05)
    np.testing.assert_allclose(mean, theirs_mean, atol=0.05)


def test_what_the_supports_of_the_losses_promise():
    counts = fitted("poisson").predict_quantiles(NEW, LEVELS)
    assert (counts == np.rint(counts)).all() and counts.min() >= 0
    samples = fitted("poisson").sample_y(NEW, 50)
    assert (samples == np.rint(samples)).all() and samples.min() >= 0
    low, median, high = fitted("gamma").predict_quantiles(NEW, LEVELS).T
    assert low.min() > 0 and (high - median > median - low).all()  # asymmetric
    assert fitted("gamma").sample_y(NEW, 50).min() > 0
    for loss in ("poisson", "gamma"):
        assert (fitted(loss).predict_interval(NEW, 0.95, calibrate=True) >= 0).all()


@pytest.mark.parametrize("loss", [loss for loss in TARGETS if loss != "cauchy"])
@pytest.mark.parametrize("n_outputs", [1, 2])
def test_covariance_has_the_squared_deviations_on_its_diagonal_and_is_that_of_samples(loss, n_outputs):
    model, few = fitted(loss, n_outputs), NEW[:6]
    mean, covariance = model.predict(few, return_cov=True)
    _, std = model.predict(few, return_std=True)
    y = np.stack([CENTRE] * n_outputs, 1) if n_outputs > 1 else CENTRE
    expected = GaussianProcessRegressor(optimizer=None).fit(X, y)
    assert covariance.shape == expected.predict(few, return_cov=True)[1].shape
    assert model.sample_y(few, 7).shape == expected.sample_y(few, 7).shape
    np.testing.assert_array_equal(mean, model.predict(few))
    diagonal = np.einsum("ii...->i...", covariance)
    np.testing.assert_allclose(diagonal, std**2, rtol=1e-10)
    samples = model.sample_y(few, 20_000)
    samples, covariance = (samples[:, 0], covariance[..., 0]) if n_outputs == 2 else (samples, covariance)
    if loss in ("squared_error", "huber", "student_t"):  # of the others the covariance is one to first order
        scale = np.sqrt(np.outer(np.diag(covariance), np.diag(covariance)))
        assert np.abs((np.cov(samples) - covariance) / scale).max() < 0.06


def test_variances_of_several_outputs_are_one_product_that_keeps_its_digits(monkeypatch):
    """With an output's J formed for each row, ten targets took 2 ms a row. Where the prior is too wide, J it is."""
    targets = np.stack([TARGETS["squared_error"], X[:, 0] * X[:, 1], np.sin(3 * X[:, 1])], axis=1)
    model = GNRegressor(**{**SMALL, "hidden_layer_sizes": (16, 16), "n_estimators": 1}, solver="primal")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("warnings.warn", lambda *args, **kw: None)  # it is cut short
        model.fit(X, targets)
    (member,) = model.estimators_
    few, device = np.random.default_rng(1).normal(size=(50, member.network.n_inputs)), torch.device("cpu")
    exact = member.posterior.covariance(member.network, member.weights, few, device).diagonal(axis1=1, axis2=2).T
    many, exact = np.tile(few, (100, 1)), np.tile(exact, (100, 1))
    given = member.network, member.weights, many, device
    assert takes_factored(member.network, len(many), 3)
    formed = []
    monkeypatch.setattr("skgn.posterior.output_variance", lambda *args: formed.append(1) or output_variance(*args))
    np.testing.assert_allclose(member.posterior.variance(*given), exact, rtol=1e-9)
    assert not formed
    # The same factor with variances of the prior that have no digits left for those of the posterior.
    wide = replace(member.posterior, precision=[a * 1e-18 for a in member.posterior.precision])
    np.testing.assert_allclose(wide.variance(*given), exact, rtol=1e-9)
    assert formed


@pytest.mark.parametrize("solver", ["primal", "dual"])
def test_draws_of_either_solver_have_the_variance_of_its_posterior(solver):
    few = X[:40]
    model = GNRegressor((3,), n_estimators=1, solver=solver, random_state=0).fit(few, TARGETS["squared_error"][:40])
    samples = model.sample_y(NEW[:8], 20_000, random_state=np.random.RandomState(1))
    _, covariance = model.predict(NEW[:8], return_cov=True)
    scale = np.sqrt(np.outer(np.diag(covariance), np.diag(covariance)))
    assert model.solver_ == solver and np.abs((np.cov(samples) - covariance) / scale).max() < 0.05
    assert np.abs(samples.mean(1) - model.predict(NEW[:8])).max() < 0.05 * np.sqrt(np.diag(covariance)).max()


@pytest.mark.parametrize("solver", ["primal", "dual"])
def test_under_a_given_prior_the_noise_of_each_output_decides_on_its_own_variance(solver):
    """Two outputs whose noises are 300 to 1, and the covariances of ordinary least squares."""
    rng = np.random.RandomState(0)
    X, new = rng.normal(size=(40, 3)), rng.normal(size=(5, 3))
    Y = X @ rng.normal(size=(3, 2)) + [0.01, 3.0] * rng.normal(size=(40, 2))
    model = GNRegressor((), n_estimators=1, l2_regularization=1e-6, solver=solver, noise="constant", random_state=0)
    model.fit(X, Y)
    A, B = (np.c_[rows, np.ones(len(rows))] for rows in (X, new))
    residuals = Y - A @ np.linalg.lstsq(A, Y, rcond=None)[0]
    noise = (residuals**2).sum(0) / (40 - 4)
    expected = (B @ np.linalg.inv(A.T @ A) @ B.T)[..., None] * noise
    deviation = np.sqrt(expected.diagonal(axis1=0, axis2=1).T)
    np.testing.assert_allclose(model.epistemic_std(new), deviation, rtol=1e-3)
    total = np.sqrt(deviation**2 + noise)
    np.testing.assert_allclose(model.predict(new, return_std=True)[1], total, rtol=1e-3)
    np.testing.assert_allclose(to_torch(model, return_std=True)(torch.from_numpy(new))[1].detach(), total, rtol=1e-3)
    covariance = model.predict(new, return_cov=True)[1] - np.eye(5)[..., None] * noise
    np.testing.assert_allclose(covariance / noise, expected / noise, atol=1e-3)
    samples = model.sample_y(new, 4000, random_state=0)
    np.testing.assert_allclose(samples.std(-1), total, rtol=0.05)


@pytest.mark.parametrize("loss", ["squared_error", "student_t", "gamma"])
def test_epistemic_deviation_is_the_deviation_without_the_noise(loss):
    model = fitted(loss)
    mean, std = model.predict(NEW, return_std=True)
    noise = model.noise_std_ * (mean if loss == "gamma" else 1.0)
    epistemic = model.epistemic_std(NEW)
    if loss == "gamma":
        assert (epistemic < std).all()
    else:
        np.testing.assert_allclose(epistemic**2 + noise**2, std**2, rtol=0.2)
    assert epistemic[-1] > 1.2 * np.median(epistemic)  # far from the data


def test_more_data_take_the_epistemic_part_away():
    rng = np.random.default_rng(1)
    parts = []
    for n in (100, 1600):
        x = rng.uniform(-2, 2, (n, 1))
        y = np.sin(2 * x[:, 0]) + 0.3 * rng.normal(size=n)
        parts.append(GNRegressor((8,), n_estimators=1, random_state=0).fit(x, y).epistemic_std(x).mean())
    assert parts[1] < 0.4 * parts[0]


def test_samples_are_reproducible_and_smooth():
    model = fitted("squared_error")
    np.testing.assert_array_equal(model.sample_y(NEW), model.sample_y(NEW, 1, 0))
    assert (model.sample_y(NEW, random_state=1) != model.sample_y(NEW)).all()
    # The noise aside, rows of the same place have the same value.
    far = np.repeat([[6.0, -6.0]], 2, axis=0)
    one, other = model.sample_y(far, 500)
    assert np.std(one - other) < 0.3 * np.std(one)


def test_float32_rows_give_float32():
    few = NEW[:3].astype(np.float32)
    model = fitted("squared_error")
    for values in (model.predict_quantiles(few, 0.5), model.predict_interval(few), model.sample_y(few)):
        assert values.dtype == np.float32
    assert model.epistemic_std(few).dtype == model.predict(few, return_cov=True)[1].dtype == np.float32


class TestSeveralQuantiles:
    def test_they_never_cross_and_are_as_good_as_separate_fits(self):
        rng = np.random.default_rng(0)
        x = rng.uniform(-2, 2, (400, 2))
        y = np.sin(2 * x[:, 0]) + 0.2 * np.exp(x[:, 1] / 2) * rng.normal(size=400)
        train, test = slice(200), slice(200, None)
        options = {"loss": "quantile", "hidden_layer_sizes": (6,), "n_estimators": 1, "max_iter": 400}
        options["random_state"] = 0
        model = GNRegressor(quantile=LEVELS, **options).fit(x[train], y[train])
        predicted = model.predict(x[test])
        assert predicted.shape == (200, 3) and (np.diff(predicted, axis=1) >= 0).all()
        np.testing.assert_array_equal(model.predict_quantiles(x[test], [0.95, 0.05]), predicted[:, [2, 0]])
        np.testing.assert_array_equal(model.predict_interval(x[test], 0.9), predicted[:, [0, 2]])
        alone = [GNRegressor(quantile=q, **options).fit(x[train], y[train]).predict(x[test]) for q in LEVELS]
        losses = [
            sum(mean_pinball_loss(y[test], each, alpha=q) for each, q in zip(columns, LEVELS, strict=True))
            for columns in (predicted.T, alone)
        ]
        assert losses[0] < 1.05 * losses[1]
        scores = [d2_pinball_score(y[test], each, alpha=q) for each, q in zip(predicted.T, LEVELS, strict=True)]
        assert model.score(x[test], y[test]) == pytest.approx(np.mean(scores))
        assert np.shape(model.noise_std_) == (3,)

    def test_of_several_outputs(self):
        y = np.stack([TARGETS["squared_error"], 10 - TARGETS["huber"]], axis=1)
        with pytest.warns(match="max_iter"):
            model = GNRegressor(loss="quantile", quantile=(0.1, 0.9), **SMALL | {"tol": 1e-9}).fit(X, y)
        predicted = model.predict(NEW)
        assert predicted.shape == (31, 2, 2) and (predicted[:, 0] <= predicted[:, 1]).all()
        assert np.abs(predicted.mean(axis=(0, 1)) - y.mean(axis=0)).max() < 1.5
        assert model.predict_interval(NEW, 0.8).shape == (31, 2, 2)
        assert model.noise_std_.shape == (2, 2) and np.isfinite(model.score(X, y))

    def test_a_stream_goes_on_with_as_many(self):
        y = TARGETS["squared_error"]
        model = GNRegressor(loss="quantile", quantile=(0.1, 0.9), hidden_layer_sizes=(4,), random_state=0)
        for rows in (slice(75), slice(75, 150)):
            model.partial_fit(X[rows], y[rows])
        before = model.predict(NEW)
        with pytest.raises(ValueError, match="needs 3 outputs, but the networks that were trained before have 2"):
            model.set_params(quantile=LEVELS).partial_fit(X, y)
        np.testing.assert_array_equal(model.predict(NEW), before)

    @pytest.mark.parametrize("quantile", [[], [[0.1, 0.9]], [0.5, 0.5], [0.9, 0.1], [0.0, 0.5], [0.5, np.nan], 1.0])
    def test_what_is_no_set_of_quantiles_is_refused(self, quantile):
        with pytest.raises(ValueError, match="quantile"):
            GNRegressor(loss="quantile", quantile=quantile).fit(X, TARGETS["huber"])


class TestErrors:
    @pytest.mark.parametrize("quantiles", [0, 1, [0.5, 1.5], [], [[0.5]], np.nan, "median", {}])
    def test_quantiles_that_are_none(self, quantiles):
        with pytest.raises(ValueError, match="quantiles must be numbers above 0 and below 1"):
            fitted("squared_error").predict_quantiles(NEW, quantiles)

    @pytest.mark.parametrize("coverage", [0, 1, 90, "0.9", [0.9], np.nan])
    def test_coverage_that_is_none(self, coverage):
        with pytest.raises(ValueError, match="coverage must be a number above 0 and below 1"):
            fitted("squared_error").predict_interval(NEW, coverage)

    def test_samples_that_cannot_be_counted(self):
        for n_samples in (0, 1.5, "2"):
            with pytest.raises((ValueError, TypeError), match="n_samples"):
                fitted("squared_error").sample_y(NEW, n_samples)

    def test_of_quantiles_there_are_no_others_and_no_samples(self):
        model = GNRegressor(loss="quantile", quantile=0.9, **SMALL | {"max_iter": 1000}).fit(X, TARGETS["huber"])
        np.testing.assert_array_equal(model.predict_quantiles(NEW, 0.9)[:, 0], model.predict(NEW))
        np.testing.assert_array_equal(model.predict_quantiles(NEW, [0.9, 0.9]).T, [model.predict(NEW)] * 2)
        with pytest.raises(ValueError, match=r"fitted with quantile=0.9, .*fit with quantile=\[0.05, 0.9, 0.95\]"):
            model.predict_interval(NEW)
        with pytest.raises(ValueError, match="sample_y has no meaning here: a quantile is no mean"):
            model.sample_y(NEW)
        assert (model.epistemic_std(NEW) > 0).all()

    def test_without_a_posterior_there_is_nothing_around_the_mean(self):
        model = GNRegressor((30,), solver="cg", l2_regularization=1e-3, n_estimators=1, random_state=0)
        model.fit(X, TARGETS["squared_error"])
        calls = {
            "predict_quantiles": lambda: model.predict_quantiles(NEW, 0.5),
            "sample_y": lambda: model.sample_y(NEW),
            "epistemic_std": lambda: model.epistemic_std(NEW),
            "return_cov=True": lambda: model.predict(NEW, return_cov=True),
        }
        for asked, call in calls.items():
            with pytest.raises(ValueError, match=f"{asked} needs a factorisation"):
                call()

    def test_both_deviation_and_covariance(self):
        with pytest.raises(RuntimeError, match="At most one of return_std or return_cov"):
            fitted("squared_error").predict(NEW, return_std=True, return_cov=True)

    def test_a_covariance_that_does_not_fit(self, monkeypatch):
        monkeypatch.setattr("skgn.joint.available_memory", lambda device: 1e3)
        with pytest.raises(ValueError, match=r"return_cov=True for 31 rows needs .* GB"):
            fitted("squared_error").predict(NEW, return_cov=True)

    def test_samples_that_do_not_fit(self, monkeypatch):
        monkeypatch.setattr("skgn.joint.available_memory", lambda device: 1e5)
        with pytest.raises(ValueError, match=r"sample_y of 500 samples at 31 rows needs .* draw fewer samples"):
            fitted("squared_error").sample_y(NEW, 500)
        assert fitted("squared_error").sample_y(NEW, 2).shape == (31, 2)

    def test_a_covariance_takes_no_more_memory_than_was_asked_for(self, monkeypatch):
        """Covariances of members are in memory of NumPy, which it traces."""
        monkeypatch.setattr("warnings.warn", lambda *args, **kw: None)  # the fit is cut short
        y = np.stack([TARGETS["squared_error"], X[:, 1]], axis=1)
        model = GNRegressor((3,), n_estimators=2, max_iter=2, noise="constant", random_state=0).fit(X, y)
        model.estimators_, model.weights_ = 4 * model.estimators_[:1], np.full(4, 0.25)
        rows, asked = np.random.default_rng(0).normal(size=(400, 2)), []
        with monkeypatch.context() as patch:
            patch.setattr("skgn.joint.available_memory", lambda device: 0.0)
            patch.setattr("skgn.joint.gigabytes", asked.append)
            with pytest.raises(ValueError, match="return_cov=True for 400 rows needs"):
                model.predict(rows, return_cov=True)
        tracemalloc.start()
        try:
            _, covariance = model.predict(rows, return_cov=True)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < min(asked[0], 4 * covariance.nbytes)

    def test_a_transformed_target_says_what_to_do(self):
        around = TransformedTargetRegressor(clone(fitted("gamma")).set_params(loss="squared_error", max_iter=500))
        around.set_params(func=np.log, inverse_func=np.exp).fit(X, TARGETS["gamma"])
        for model in (around, make_pipeline(StandardScaler(), around).fit(X, TARGETS["gamma"])):
            with pytest.raises(AttributeError, match=r"cannot pass it on.*model\.regressor_"):
                model.predict(NEW, return_std=True)
        quantiles = np.exp(around.regressor_.predict_quantiles(NEW, LEVELS))
        assert quantiles.min() > 0 and (np.diff(quantiles, axis=1) > 0).all()
        mean, std = around.regressor_.predict(NEW, return_std=True)
        assert mean.shape == std.shape == (31,)


class TestInformation:
    @pytest.mark.parametrize("kind", ["binary", "multiclass", "multilabel", "single"])
    def test_it_is_between_0_and_the_logarithm_of_the_classes(self, kind):
        classes = np.digitize(X[:, 0], [-0.7, 0.7])
        y = {
            "binary": X[:, 0] > 0,
            "multiclass": classes,
            "multilabel": np.stack([X[:, 0] > 0, X[:, 1] > 1], axis=1).astype(int),
            "single": np.zeros(150),
        }[kind]
        model = GNClassifier((4,), n_estimators=2, max_iter=500, random_state=0).fit(X, y)
        information = model.mutual_information(NEW)
        assert information.shape == ((31, 2) if kind == "multilabel" else (31,))
        most = {"single": 0.0, "multiclass": np.log(3)}.get(kind, np.log(2))
        assert information.min() >= 0 and information.max() <= most + 1e-12

    def test_it_is_what_the_members_disagree_about(self):
        model = GNClassifier((4,), n_estimators=3, random_state=0).fit(X, np.digitize(X[:, 0], [-0.7, 0.7]))
        # Each member alone, with all of the weight.
        alone = []
        for weights in np.eye(3):
            single = copy.copy(model)
            single.weights_ = weights
            alone.append(single.predict_proba(NEW))
        entropies = [stats.entropy(p, axis=1) for p in alone]
        expected = stats.entropy(np.mean(alone, axis=0), axis=1) - np.mean(entropies, axis=0)
        np.testing.assert_allclose(model.mutual_information(NEW), expected, atol=1e-12)

    def test_it_is_small_where_classes_overlap_and_large_where_nothing_is_known(self):
        rng = np.random.default_rng(0)
        x = rng.uniform(-2, 2, size=(400, 2))
        y = rng.random(400) < stats.logistic.cdf(2 * x[:, 0] * x[:, 1])
        model = GNClassifier((4,), activation="tanh", n_estimators=4, random_state=0).fit(x, y)
        middle, far = model.mutual_information([[0.0, 0.0], [4.0, 0.0]])
        assert middle < 0.01 and far > 0.05

    def test_one_member_is_refused_as_it_cannot_disagree(self):
        model = GNClassifier((4,), n_estimators=1, random_state=0).fit(X, X[:, 0] > 0)
        with pytest.raises(ValueError, match="needs two members"):
            model.mutual_information(NEW)
