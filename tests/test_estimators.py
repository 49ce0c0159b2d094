import copy
import dataclasses
import re
import threading
import types
from functools import cache

import numpy as np
import pytest
import torch
from scipy import sparse
from sklearn.base import clone
from sklearn.datasets import load_diabetes, make_regression
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import log_loss, recall_score
from sklearn.utils.class_weight import compute_class_weight, compute_sample_weight

import skgn.candidates
import skgn.estimator
import skgn.plan
from skgn import GNClassifier, GNRegressor
from skgn.damping import Adaptive, Constant, GainRatio
from skgn.estimator import table_and_target
from skgn.search import Search
from skgn.status import Status

ESTIMATORS = [GNRegressor, GNClassifier]

#: Small and fully specified: what these tests assert does not depend on the defaults.
PLAIN = {"hidden_layer_sizes": (5,), "l2_regularization": 1e-3, "n_estimators": 1, "random_state": 0}

#: A linear model in the units of X, trained until nothing changes.
LINEAR = {"hidden_layer_sizes": (), "n_estimators": 1, "standardize": False, "tol": 1e-10}

unconverged = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

HISTORY = {
    "objective",
    "loss",
    "gradient_norm",
    "damping",
    "gain_ratio",
    "step_norm",
    "distance_from_init",
    "n_effective_parameters",
    "log_evidence",
    "noise_std",
    "time",
}


def data(estimator, n=60, d=3, seed=0):
    """Inputs and a target that depends on them, continuous (and standardised already) or of three classes."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d))
    signal = np.sin(X[:, 0]) + 0.5 * X[:, -1] + 0.1 * rng.normal(size=n)
    return X, standardised(signal) if estimator is GNRegressor else np.digitize(signal, [-0.4, 0.4])


def standardised(y, weight=None):
    """Targets in the units in which they are trained on."""
    mean = np.average(y, axis=0, weights=weight)
    return (y - mean) / np.sqrt(np.average((y - mean) ** 2, axis=0, weights=weight))


def with_ones(X):
    return np.column_stack([X, np.ones(len(X))])


def stacked(estimator):
    """The linear weights (d + 1, k), bias last."""
    return np.vstack([estimator.coefs_[0], estimator.intercepts_[0]])


def outputs(estimator, X):
    """Everything continuous that an estimator says about X."""
    if isinstance(estimator, GNRegressor):
        return estimator.predict(X)
    return estimator.predict_proba(X)


# --- Linear models: a known solution


@pytest.mark.parametrize("solver", ["primal", "dual"])
@pytest.mark.parametrize("n_outputs", [1, 3])
@pytest.mark.parametrize("alpha", [0.1, 1.0, 10.0])
def test_no_hidden_layer_is_ridge(solver, n_outputs, alpha):
    rng = np.random.default_rng(0)
    X, s = rng.normal(size=(40, 4)), rng.uniform(0.5, 3, size=40)
    Y = standardised(X @ rng.normal(size=(4, n_outputs)) + rng.normal(size=(40, n_outputs)), s)
    model = GNRegressor(**LINEAR, l2_regularization=0.05, alpha=alpha, solver=solver).fit(X, Y, s)
    # (1 / S) sum s 1/2 (alpha x'w - y)^2 + l2 / 2 |w|^2, multiplied by 2 S and written in v = alpha w.
    ridge = Ridge(alpha=0.05 * s.sum() / alpha**2, fit_intercept=False, solver="cholesky").fit(with_ones(X), Y, s)
    np.testing.assert_allclose(alpha * stacked(model), ridge.coef_.reshape(n_outputs, -1).T, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(
        model.predict(X), ridge.predict(with_ones(X)).reshape(40, n_outputs), rtol=1e-7, atol=1e-8
    )


@pytest.mark.parametrize("solver", ["primal", "dual"])
@pytest.mark.parametrize("n_classes", [2, 4])
def test_no_hidden_layer_is_logistic_regression(solver, n_classes):
    rng = np.random.default_rng(1)
    X, s = rng.normal(size=(80, 4)), rng.uniform(0.5, 3, size=80)
    y = (X @ rng.normal(size=(4, n_classes)) + rng.gumbel(size=(80, n_classes))).argmax(axis=1)
    model = GNClassifier(**LINEAR, l2_regularization=0.02, solver=solver).fit(X, y, s)
    # C sum s l + 1/2 |w|^2, divided by C S.
    logistic = LogisticRegression(C=1 / (0.02 * s.sum()), fit_intercept=False, solver="newton-cholesky", tol=1e-12)
    logistic.fit(with_ones(X), y, s)
    np.testing.assert_allclose(stacked(model), logistic.coef_.T, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(model.predict_proba(X), logistic.predict_proba(with_ones(X)), rtol=1e-6, atol=1e-8)
    np.testing.assert_array_equal(model.predict(X), logistic.predict(with_ones(X)))


def test_multilabel_without_hidden_layer_is_one_logistic_regression_a_label():
    rng = np.random.default_rng(2)
    X = rng.normal(size=(80, 3))
    Y = (X @ rng.normal(size=(3, 2)) + rng.logistic(size=(80, 2)) > 0).astype(int)
    model = GNClassifier(**LINEAR, l2_regularization=0.02).fit(X, Y)
    logistic = LogisticRegression(C=1 / (0.02 * 80), fit_intercept=False, solver="newton-cholesky", tol=1e-12)
    for label, y in enumerate(Y.T):
        expected = logistic.fit(with_ones(X), y)
        np.testing.assert_allclose(stacked(model)[:, label], expected.coef_[0], rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(
            model.predict_proba(X)[:, label], expected.predict_proba(with_ones(X))[:, 1], rtol=1e-6
        )


DRAWS = {
    "normal": lambda rng: rng.normal(size=(300, 4)),
    "exponential": lambda rng: rng.exponential(size=(300, 4)),
    "t3": lambda rng: rng.standard_t(3, size=(300, 4)),
    "lognormal": lambda rng: rng.lognormal(size=(300, 4)),
}


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_a_line_is_found_as_a_line_whatever_its_inputs_are_distributed_like(draw):
    rng = np.random.default_rng(0)
    X, new = draw(rng), draw(rng)
    new = np.clip(new, X.min(axis=0), X.max(axis=0))
    slopes = np.array([1.0, -2.0, 0.5, 30.0])
    model = GNRegressor((), random_state=0).fit(X, X @ slopes + 7)
    assert model.score(new, new @ slopes + 7) > 0.999999
    # Least squares by their slopes, in the units of the data.
    base = np.tile(np.median(X, axis=0), (5, 1))
    step = np.vstack([np.zeros(4), np.eye(4)])
    predicted = model.predict(base + step)
    noisy = X @ slopes + 7 + rng.normal(size=300)
    np.testing.assert_allclose(predicted[1:] - predicted[0], slopes, rtol=1e-6)
    predicted = GNRegressor((), loss="squared_error", random_state=0).fit(X, noisy).predict(base + step)
    expected = np.linalg.lstsq(with_ones(X), noisy, rcond=None)[0][:4]
    np.testing.assert_allclose(predicted[1:] - predicted[0], expected, atol=0.01)


def test_a_line_is_found_as_a_line_by_networks_with_hidden_layers_too():
    rng = np.random.default_rng(0)
    X, new = rng.exponential(size=(2, 100, 3))
    model = GNRegressor(n_estimators=2, random_state=0).fit(X, X @ [1.0, -2.0, 3.0])
    np.testing.assert_allclose(model.predict(2 * new), 2 * new @ [1.0, -2.0, 3.0], atol=1e-3)


@pytest.mark.filterwarnings("ignore::skgn.unfamiliar.UnfamiliarDataWarning")
def test_a_line_goes_on_beyond_the_data_and_an_outlier_does_not_run_away():
    x = np.linspace(-3, 3, 50)[:, None]
    noise = 0.1 * np.random.default_rng(0).normal(size=50)
    for hidden in ((), "auto"):
        model = GNRegressor(hidden, random_state=0).fit(x, 2 * x[:, 0])
        np.testing.assert_allclose(model.predict([[10.0], [-10.0]]), [20, -20], rtol=0.01)
    model = GNRegressor((), random_state=0).fit(x, 2 * x[:, 0] + noise)
    mean, std = model.predict([[0.0], [3.0], [10.0], [15.0], [1e4], [1e300]], return_std=True)
    np.testing.assert_allclose(mean[2], 20, rtol=0.02)
    assert (np.diff(std[:4]) > 0).all() and std[3] > 1.3 * std[0]
    assert mean[3] == mean[4] == mean[5] and std[3] == std[4] == std[5]


@pytest.mark.parametrize("solver", ["primal", "dual"])
def test_quadratic_problem_is_solved_in_one_undamped_step(solver):
    X, y = data(GNRegressor)
    model = GNRegressor(**LINEAR | {"tol": 1e-6}, damping=0, l2_regularization=0.0, max_iter=1, solver=solver).fit(X, y)
    np.testing.assert_allclose(
        stacked(model)[:, 0], np.linalg.lstsq(with_ones(X), y, rcond=None)[0], rtol=1e-9, atol=1e-10
    )
    assert model.n_iter_ == 1 and Status(model.status_).converged


@unconverged
@pytest.mark.parametrize("solver", ["primal", "dual"])
def test_step_size_takes_that_fraction_of_the_gauss_newton_step(solver):
    X, y = data(GNRegressor)
    least_squares = np.linalg.lstsq(with_ones(X), y, rcond=None)[0]
    for t in (1, 2, 3):
        model = GNRegressor(
            **LINEAR, damping=Constant(0, step_size=0.4), l2_regularization=0.0, max_iter=t, solver=solver
        )
        weights = stacked(model.fit(X, y))[:, 0]
        np.testing.assert_allclose(weights, (1 - 0.6**t) * least_squares, rtol=1e-8, atol=1e-10)


@unconverged
@pytest.mark.parametrize("solver", ["primal", "dual"])
@pytest.mark.parametrize("damping", [1e-3, 1.0, 100.0])
def test_constant_damping_is_added_to_the_gauss_newton_matrix(solver, damping):
    X, y = data(GNRegressor)
    model = GNRegressor(**LINEAR, damping=damping, l2_regularization=0.0, max_iter=1, solver=solver).fit(X, y)
    # From w = 0 one damped step is a ridge solution.
    ridge = Ridge(alpha=damping * len(y), fit_intercept=False).fit(with_ones(X), y)
    np.testing.assert_allclose(stacked(model)[:, 0], ridge.coef_, rtol=1e-8, atol=1e-11)
    assert model.history_["damping"][1] == damping


@pytest.mark.parametrize("solver", ["primal", "dual"])
@pytest.mark.parametrize("shape", ["duplicated columns", "fewer rows than columns"])
def test_undamped_rank_deficient_fit_is_the_minimum_norm_one(solver, shape):
    X, y = data(GNRegressor)
    X, y = (np.hstack([X, X]), y) if shape == "duplicated columns" else (X[:6].reshape(2, 9), standardised(y[:2]))
    model = GNRegressor(**LINEAR, damping=0, l2_regularization=0.0, solver=solver).fit(X, y)
    np.testing.assert_allclose(stacked(model)[:, 0], np.linalg.pinv(with_ones(X)) @ y, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("solver", ["primal", "dual"])
@pytest.mark.parametrize("init", ["random", "symmetric"])
@unconverged
def test_undamped_rank_deficient_network_trains(estimator, solver, init):
    X, y = data(estimator, n=20)
    model = estimator(
        **PLAIN | {"hidden_layer_sizes": (40,), "l2_regularization": 0.0},
        damping=0,
        init=init,
        solver=solver,
        max_iter=20,
    ).fit(X, y)
    assert np.isfinite(outputs(model, X)).all()
    assert model.loss_ < 0.1 * model.history_["loss"][0]


# --- Weights


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("solver", ["auto", "dual"])
@pytest.mark.parametrize("hidden", [(), (5,)])
@pytest.mark.parametrize("parameters", [{"l2_regularization": 1e-3}, {}], ids=["fixed l2", "default l2"])
@unconverged
def test_weights_are_repetitions(estimator, solver, hidden, parameters):
    X, y = data(estimator)
    s = np.random.default_rng(3).integers(0, 4, size=len(y))
    model = estimator(
        hidden_layer_sizes=hidden, n_estimators=2, solver=solver, max_iter=5, random_state=0, **parameters
    )
    weighted = outputs(clone(model).fit(X, y, s), X)
    repeated = np.random.default_rng(4).permutation(np.repeat(np.arange(len(y)), s))
    np.testing.assert_allclose(weighted, outputs(clone(model).fit(X[repeated], y[repeated]), X), rtol=1e-7, atol=1e-9)
    assert np.abs(weighted - outputs(clone(model).fit(X, y), X)).max() > 1e-3


@unconverged
@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("class_weight", ["balanced", {"a": 3.0, "b": 0.5}], ids=["balanced", "dict"])
def test_class_weights_multiply_the_probabilities_of_a_fit_without_them(class_weight, n_classes):
    X, y = data(GNClassifier, n=90)
    X, y = X[y < n_classes], np.array(["a", "b", "c"])[y[y < n_classes]]
    keep = np.r_[np.flatnonzero(y == "a")[:6], np.flatnonzero(y != "a")]
    X, y = X[keep], y[keep]
    model = GNClassifier((5,), max_iter=5, n_estimators=2, random_state=0)
    p = model.fit(X, y).predict_proba(X) * compute_class_weight(class_weight, classes=np.unique(y), y=y)
    p /= p.sum(axis=1, keepdims=True)
    weighted = clone(model).set_params(class_weight=class_weight).fit(X, y)
    np.testing.assert_allclose(weighted.predict_proba(X), p, rtol=1e-10)
    np.testing.assert_array_equal(weighted.predict(X), weighted.classes_[p.argmax(axis=1)])
    scores = weighted.decision_function(X)
    expected = np.log(p[:, 1] / p[:, 0]) if n_classes == 2 else np.log(p)
    np.testing.assert_allclose(scores, expected, rtol=1e-6, atol=1e-9)
    assert (weighted.mutual_information(X) >= -1e-12).all()
    assert np.abs(p - model.predict_proba(X)).max() > 1e-2
    assert weighted.left_out_score_ == model.left_out_score_


def test_a_rare_class_is_found_under_balanced_weights():
    """As sample weights, repetitions of some fifty rows, such weights had a recall of 0.22."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(5000, 5))
    f = 1.5 * X[:, 0] + X[:, 1] * X[:, 2] - 4
    y = (rng.random(5000) < 1 / (1 + np.exp(-f))).astype(int)
    model = GNClassifier(class_weight="balanced", n_estimators=2, tol=1e-2, random_state=0).fit(X[:1000], y[:1000])
    linear = LogisticRegression(class_weight="balanced").fit(X[:1000], y[:1000])
    X, y = X[1000:], y[1000:]
    weight = compute_sample_weight("balanced", y)
    losses = [log_loss(y, fitted.predict_proba(X), sample_weight=weight) for fitted in (model, linear)]
    assert losses[0] < 0.95 * losses[1]
    assert recall_score(y, model.predict(X)) > 0.7


@unconverged
@pytest.mark.parametrize("class_weight", ["balanced", {0: 4.0, 2: 0.1}], ids=["balanced", "dict"])
def test_weights_are_repetitions_under_class_weights(class_weight):
    """Bit for bit: six times 0.1 is another number than 0.1 added up."""
    X, y = data(GNClassifier)
    s = np.random.default_rng(3).integers(0, 8, size=len(y))
    model = GNClassifier(**PLAIN, class_weight=class_weight, max_iter=20)
    weighted = clone(model).fit(X, y, s).predict_proba(X)
    repeated = clone(model).fit(np.repeat(X, s, axis=0), np.repeat(y, s)).predict_proba(X)
    np.testing.assert_array_equal(weighted, repeated)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_raw_inputs_too_large_to_compute_with_are_refused(estimator):
    X, y = data(estimator)
    with pytest.raises(ValueError, match=r"standardize=False .* at most 1e\+30"):
        estimator(standardize=False).fit(X * 1e40, y)


# --- What a fit leaves behind


@pytest.mark.parametrize("estimator", ESTIMATORS)
@unconverged
def test_integer_random_state_decides_the_fit(estimator):
    X, y = data(estimator)
    model = estimator(hidden_layer_sizes=(5,), n_estimators=2, max_iter=10)
    first, again, other = (outputs(clone(model).set_params(random_state=r).fit(X, y), X) for r in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-6


@dataclasses.dataclass(frozen=True)
class FailsMidway(GainRatio):
    """A damping rule that raises once training is under way."""

    def accepted(self, damping, gain_ratio, at):
        raise RuntimeError("midway")


def global_state():
    return {
        "threads": torch.get_num_threads(),
        "dtype": torch.get_default_dtype(),
        "grad": torch.is_grad_enabled(),
        "torch random state": torch.get_rng_state().tolist(),
        "numpy random state": [part.tolist() if hasattr(part, "tolist") else part for part in np.random.get_state()],  # noqa: NPY002
        "floating point errors": np.geterr(),
    }


@pytest.fixture(params=[1, 2])
def unusual_global_state(request):
    threads, dtype = torch.get_num_threads(), torch.get_default_dtype()
    torch.set_num_threads(request.param)
    torch.set_default_dtype(torch.float16)
    yield
    torch.set_num_threads(threads)
    torch.set_default_dtype(dtype)


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("n_jobs", [None, 2])
@pytest.mark.parametrize("fails", [False, True])
@unconverged
def test_global_state_is_left_as_it_was(estimator, n_jobs, fails, unusual_global_state):
    X, y = data(estimator)
    model = estimator(hidden_layer_sizes=(5,), n_estimators=2, n_jobs=n_jobs, max_iter=5)
    before = global_state()
    if fails:
        with pytest.raises(RuntimeError, match="midway"):
            model.set_params(damping=FailsMidway()).fit(X, y)
    else:
        outputs(model.fit(X, y), X)
        # Grad mode on and off are both someone's setting.
        with torch.no_grad():
            model.fit(X, y)
            assert not torch.is_grad_enabled()
    # random_state=None draws its seed from NumPy's global state, as everywhere in scikit-learn.
    after = global_state()
    after.pop("numpy random state"), before.pop("numpy random state")
    assert after == before


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("random_state", [0, np.random.RandomState(0)], ids=["int", "RandomState"])
@unconverged
def test_numpy_global_random_state_is_not_used_for_a_given_random_state(estimator, random_state):
    before = global_state()
    estimator(**PLAIN | {"random_state": random_state}, max_iter=5).fit(*data(estimator))
    assert global_state() == before


@pytest.mark.parametrize("estimator", ESTIMATORS)
@unconverged
def test_clone_is_unfitted_and_fits_the_same(estimator):
    X, y = data(estimator)
    model = estimator(**PLAIN, max_iter=5).fit(X, y)
    twin = clone(model)
    with pytest.raises(NotFittedError):
        twin.predict(X)
    np.testing.assert_array_equal(outputs(twin.fit(X, y), X), outputs(model, X))


@pytest.mark.parametrize("hidden", [(), (5,), (5, 4)])
@pytest.mark.parametrize("linear_path", [True, False])
@unconverged
def test_coefs_and_intercepts_are_the_network(hidden, linear_path):
    X, y = data(GNRegressor)
    model = GNRegressor(
        **PLAIN | {"hidden_layer_sizes": hidden}, linear_path=linear_path, standardize=False, alpha=2.0, max_iter=10
    ).fit(X, y)
    a = X
    for W, b in zip(model.coefs_[:-1], model.intercepts_[:-1], strict=True):
        a = np.tanh(a @ W + b)
    if hidden and linear_path:
        a = np.hstack([a, X])
    expected = 2.0 * (a @ model.coefs_[-1] + model.intercepts_[-1])[:, 0]
    np.testing.assert_allclose(model.predict(X), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("hidden", [(), (5,), (5, 4)])
@pytest.mark.parametrize("linear_path", [True, False])
@unconverged
def test_coefs_of_robust_inputs_are_those_of_squashed_and_of_straight_ones(hidden, linear_path):
    X, y = data(GNRegressor)
    choice = {"hidden_layer_sizes": hidden, "max_iter": 10, "standardize": "robust"}
    model = GNRegressor(**PLAIN | choice, linear_path=linear_path).fit(X, y)
    low, centre, high = np.quantile(X, [0.25, 0.5, 0.75], axis=0, method="averaged_inverted_cdf")
    z = (X - centre) / ((high - low) / 1.3489795003921634)
    squashed, straight = z / np.sqrt(1 + (z / 3) ** 2), (X - X.mean(axis=0)) / X.std(axis=0)
    a = squashed if hidden else straight
    for W, b in zip(model.coefs_[:-1], model.intercepts_[:-1], strict=True):
        a = np.tanh(a @ W + b)
    if hidden and linear_path:
        a = np.hstack([a, straight])
    expected = (a @ model.coefs_[-1] + model.intercepts_[-1])[:, 0]
    np.testing.assert_allclose(model.predict(X), expected * y.std() + y.mean(), rtol=1e-9, atol=1e-12)
    network = model.estimators_[0].network
    # Nothing is scaled that is not read.
    both = bool(hidden) and linear_path
    assert (network.n_inputs, network.n_straight) == ((6, 3) if both else (3, 0))


# --- Forms of X and y


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "list"])
@unconverged
def test_predictions_have_the_float_type_of_x(estimator, dtype):
    X, y = data(estimator)
    X = np.round(4 * X)
    model = estimator(**PLAIN, max_iter=5)
    reference = clone(model).fit(X, y)
    converted = X.tolist() if dtype == "list" else X.astype(dtype)
    expected = np.float32 if dtype == "float32" else np.float64
    model.fit(converted, y)
    methods = ["predict"] if estimator is GNRegressor else ["predict_proba", "predict_log_proba", "decision_function"]
    for method in methods:
        result = getattr(model, method)(converted)
        assert result.dtype == expected
        # The numbers are whole, so only the result is rounded.
        np.testing.assert_allclose(result, getattr(reference, method)(X), rtol=1e-6, atol=1e-6)


@unconverged
def test_regressor_returns_the_shape_of_y():
    X, y = data(GNRegressor)
    model = GNRegressor(**PLAIN, max_iter=10)
    one = clone(model).fit(X, y)
    column = clone(model).fit(X, y[:, None])
    assert one.predict(X).shape == y.shape and column.predict(X).shape == (len(y), 1)
    np.testing.assert_array_equal(column.predict(X)[:, 0], one.predict(X))
    several = clone(model).fit(X, np.column_stack([y, 100 - 5 * y, X[:, 1] ** 2]))
    assert several.predict(X).shape == (len(y), 3) and several.n_outputs_ == 3
    # Each output is standardised on its own, so its units do not matter.
    assert several.score(X, np.column_stack([y, 100 - 5 * y, X[:, 1] ** 2])) > 0.9


@pytest.mark.parametrize(
    ("kind", "n_classes"), [(kind, n) for n in (2, 3) for kind in ("strings", "int", "object", "float")] + [("bool", 2)]
)
@unconverged
def test_labels_of_any_kind_are_only_names(kind, n_classes):
    X, y = data(GNClassifier)
    codes = np.minimum(y, n_classes - 1)
    labels = {
        "strings": np.array(["ant", "bee", "cat"]),
        "bool": np.array([False, True]),
        "int": np.array([-7, 3, 100]),
        "object": np.array(["ant", "bee", "cat"], dtype=object),
        "float": np.array([-1.0, 0.0, 2.0]),
    }[kind][:n_classes]
    model = GNClassifier(**PLAIN, max_iter=10).fit(X, labels[codes])
    reference = GNClassifier(**PLAIN, max_iter=10).fit(X, codes)
    np.testing.assert_array_equal(model.classes_, labels)
    np.testing.assert_array_equal(model.predict_proba(X), reference.predict_proba(X))
    np.testing.assert_array_equal(model.predict(X), labels[reference.predict(X)])
    assert model.predict(X).dtype == labels.dtype
    assert model.score(X, labels[codes]) > 0.8


@unconverged
def test_multilabel_predicts_a_set_of_labels():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(80, 3))
    Y = np.column_stack([X[:, 0] > 0, X[:, 1] + X[:, 2] > 0, X[:, 0] ** 2 > 1]).astype(int)
    model = GNClassifier(**PLAIN, max_iter=30).fit(X, Y)
    p = model.predict_proba(X)
    assert p.shape == model.decision_function(X).shape == Y.shape
    np.testing.assert_array_equal(model.predict(X), p > 0.5)
    # Near 1 the logarithm of a rounded probability has few digits.
    np.testing.assert_allclose(model.predict_log_proba(X), np.log(p), rtol=1e-10, atol=1e-15)
    assert (model.predict(X) == Y).mean() > 0.95


@pytest.mark.parametrize("n_classes", [2, 3])
@unconverged
def test_probabilities_decision_and_prediction_agree(n_classes):
    X, y = data(GNClassifier)
    y = np.minimum(y, n_classes - 1)
    model = GNClassifier(hidden_layer_sizes=(5,), n_estimators=3, max_iter=20, random_state=0).fit(X, y)
    p = model.predict_proba(X)
    assert p.shape == (len(X), n_classes)
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-12)
    np.testing.assert_allclose(np.exp(model.predict_log_proba(X)), p, rtol=1e-12)
    np.testing.assert_array_equal(model.predict(X), p.argmax(axis=1))
    decision = model.decision_function(X)
    if n_classes == 2:
        np.testing.assert_allclose(decision, np.log(p[:, 1] / p[:, 0]), rtol=1e-8)
    else:
        np.testing.assert_array_equal(decision.argmax(axis=1), p.argmax(axis=1))


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("standardize", [True, False])
@pytest.mark.parametrize("layout", ["read-only memory map", "negative strides", "Fortran order", "every other column"])
@unconverged
def test_memory_layout_does_not_matter(estimator, standardize, layout, tmp_path):
    X, y = data(estimator)
    model = estimator(**PLAIN, standardize=standardize, max_iter=5)
    expected = outputs(clone(model).fit(X, y), X)
    if layout == "read-only memory map":
        np.save(tmp_path / "X.npy", X), np.save(tmp_path / "y.npy", y)
        V, v = np.load(tmp_path / "X.npy", mmap_mode="r"), np.load(tmp_path / "y.npy", mmap_mode="r")
    elif layout == "negative strides":
        V, v = X[::-1, ::-1].copy()[::-1, ::-1], y[::-1].copy()[::-1]
    elif layout == "Fortran order":
        V, v = np.asfortranarray(X), y
    else:
        V, v = np.repeat(X, 2, axis=1)[:, ::2], np.repeat(y, 2)[::2]
    np.testing.assert_allclose(outputs(clone(model).fit(V, v), V), expected, rtol=1e-12, atol=1e-14)


# --- Scales and degenerate data


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("value", [0.0, -3e-300, 1e300], ids=str)
@pytest.mark.parametrize("parameters", [{"l2_regularization": 1e-3}, {}], ids=["fixed l2", "default l2"])
@unconverged
@pytest.mark.filterwarnings("ignore::skgn.unfamiliar.UnfamiliarDataWarning")
def test_constant_column_changes_nothing(estimator, value, parameters):
    X, y = data(estimator)
    # One kind: between two that are nearly as good, a column more to choose from could tip the balance.
    model = estimator(hidden_layer_sizes=(), prior_groups="layer", n_estimators=1, random_state=0, **parameters)
    expected = outputs(clone(model).fit(X, y), X)
    padded = np.insert(X, 1, value, axis=1)
    np.testing.assert_allclose(outputs(clone(model).fit(padded, y), padded), expected, rtol=1e-4, atol=1e-6)
    # With hidden units the column moves the random start, not more.
    model.set_params(hidden_layer_sizes=(5,), max_iter=10).fit(padded, y)
    assert np.isfinite(outputs(model, padded)).all()
    assert model.score(padded, y) > 0.9
    changed = padded.copy()
    changed[:, 1] = 17.0
    np.testing.assert_allclose(outputs(model, changed), outputs(model, padded), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("exponent", [-990, 990])
@unconverged
def test_units_of_the_inputs_do_not_matter(estimator, exponent):
    X, y = data(estimator)
    model = estimator(**PLAIN, max_iter=10)
    expected = outputs(clone(model).fit(X, y), X)
    # About 1e298 and 1e-298; powers of 2 round nothing.
    scaled = X * 2.0 ** np.array([exponent, 0, -exponent])
    np.testing.assert_allclose(outputs(clone(model).fit(scaled, y), scaled), expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("scale", [1e-300, 1e-10, 1e10, 1e290])
@unconverged
def test_units_of_the_target_do_not_matter(scale):
    X, y = data(GNRegressor)
    model = GNRegressor(hidden_layer_sizes=(5,), n_estimators=1, max_iter=10, random_state=0)
    expected = clone(model).fit(X, y).predict(X)
    np.testing.assert_allclose(clone(model).fit(X, scale * y).predict(X) / scale, expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("estimator", ESTIMATORS)
@unconverged
@pytest.mark.filterwarnings("ignore::skgn.unfamiliar.UnfamiliarDataWarning")
def test_inputs_far_outside_the_training_range_predict_finite_values(estimator):
    X, y = data(estimator)
    model = estimator(**PLAIN, max_iter=10).fit(X, y)
    assert np.isfinite(outputs(model, np.array([[1e308, -1e308, 1e200], [-1e308, 0, 0]]))).all()


DEGENERATE = {
    "one sample": lambda X, y: (X[:1], y[:1]),
    "one feature": lambda X, y: (X[:, :1], y),
    "constant X": lambda X, y: (np.ones_like(X), y),
    "constant y": lambda X, y: (X, np.full_like(y, y[0])),
    "fewer rows than columns": lambda X, y: (np.vander(X[:4, 0], 12), y[:4]),
    "duplicated columns": lambda X, y: (np.hstack([X, X, X]), y),
    "duplicated rows": lambda X, y: (np.repeat(X[:5], 6, axis=0), np.repeat(y[:5], 6)),
    "many more weights than rows": lambda X, y: (X[:7], y[:7]),
}


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("case", DEGENERATE)
@pytest.mark.parametrize("solver", ["primal", "dual"])
@pytest.mark.parametrize(
    "parameters",
    [
        {"l2_regularization": 1e-3, "n_estimators": 1},
        {"n_estimators": 2},
        {"damping": 0, "l2_regularization": 0.0, "n_estimators": 1},
    ],
    ids=["fixed l2", "default l2", "undamped"],
)
@unconverged
@pytest.mark.filterwarnings("ignore:No column of X tells rows apart:UserWarning")
def test_degenerate_data_fit_and_predict(estimator, case, solver, parameters):
    X, y = DEGENERATE[case](*data(estimator))
    width = 60 if case.startswith("many") else 4
    model = estimator(hidden_layer_sizes=(width,), solver=solver, max_iter=5, random_state=0, **parameters).fit(X, y)
    values = outputs(model, X)
    assert len(values) == len(X) and np.isfinite(values).all()
    assert model.predict(X).shape == y.shape
    if len(np.unique(y)) == 1:
        if estimator is GNRegressor:
            np.testing.assert_allclose(values, y, rtol=1e-6)
        else:
            np.testing.assert_array_equal(model.predict(X), y)
            np.testing.assert_array_equal(values, np.ones((len(X), 1)))


# --- Starting points


@pytest.mark.parametrize("init", ["symmetric", "centered"])
@pytest.mark.parametrize("alpha", [0.01, 1.0, 100.0])
@pytest.mark.parametrize("hidden", [(6,), (6, 4)])
@unconverged
@pytest.mark.filterwarnings("ignore::skgn.unfamiliar.UnfamiliarDataWarning")
@pytest.mark.filterwarnings("ignore:alpha=0.01 is a factor:UserWarning")
def test_networks_that_start_at_zero_predict_the_mean_everywhere(init, alpha, hidden):
    X, y = data(GNRegressor)
    s = np.arange(1.0, len(y) + 1)
    parameters = {"hidden_layer_sizes": hidden, "init": init, "alpha": alpha, "max_iter": 0, "random_state": 0}
    far = np.vstack([X, 1e6 * X])
    prediction = GNRegressor(n_estimators=1, **parameters).fit(X, y, s).predict(far)
    assert np.ptp(prediction) == 0
    np.testing.assert_allclose(prediction[0], np.average(y, weights=s), rtol=1e-12)
    X, y = data(GNClassifier)
    proba = GNClassifier(n_estimators=1, **parameters).fit(X, y).predict_proba(far)
    np.testing.assert_allclose(proba, 1 / 3, rtol=1e-14)


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("init", ["random", "centered"])
@unconverged
def test_warm_start_continues(estimator, init):
    X, y = data(estimator)
    model = estimator(**PLAIN, init=init, warm_start=True, max_iter=4).fit(X, y)
    objective, prediction = model.history_["objective"][-1], outputs(model, X)
    model.set_params(max_iter=0).fit(X, y)
    np.testing.assert_allclose(outputs(model, X), prediction, rtol=1e-12)
    model.set_params(max_iter=4).fit(X, y)
    np.testing.assert_allclose(model.history_["objective"][0], objective, rtol=1e-12)
    assert model.history_["objective"][-1] < objective
    cold = model.set_params(warm_start=False).fit(X, y)
    assert cold.history_["objective"][0] > objective


CHANGED = {
    "features": lambda model, X, y: (model, X[:, :2], y),
    "outputs": lambda model, X, y: (model, X, np.column_stack([y > 0, y > 1]).astype(int)),
    "width": lambda model, X, y: (model.set_params(hidden_layer_sizes=(3,)), X, y),
    "activation": lambda model, X, y: (model.set_params(activation="softplus"), X, y),
    "alpha": lambda model, X, y: (model.set_params(alpha=2.0), X, y),
}


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("change", CHANGED)
@unconverged
def test_warm_start_refuses_another_network(estimator, change):
    X, y = data(estimator)
    model = estimator(**PLAIN, warm_start=True, max_iter=2).fit(X, y)
    changed, X, y = CHANGED[change](model, X, y)
    with pytest.raises(ValueError, match="warm_start"):
        changed.fit(X, y)


@unconverged
def test_warm_start_refuses_other_classes():
    X, y = data(GNClassifier)
    model = GNClassifier(**PLAIN, warm_start=True, max_iter=2).fit(X, y)
    expected = model.predict_proba(X)
    with pytest.raises(ValueError, match=r"classes of the previous fit: these were \[0, 1, 2\], now y has \[1, 2, 3\]"):
        model.fit(X, y + 1)
    np.testing.assert_array_equal(model.predict_proba(X), expected)
    assert model.fit(X, y[::-1]).n_iter_ > 0


# --- What training reports


def test_converged_fit_warns_of_nothing_and_says_why_it_stopped():
    X, y = data(GNRegressor)
    model = GNRegressor(**PLAIN | {"hidden_layer_sizes": (3,), "l2_regularization": 1e-2}, max_iter=1000).fit(X, y)
    assert Status(model.status_).converged and model.status_message_.startswith("Converged")
    assert model.n_iter_ < 1000


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_fit_cut_short_warns_and_says_so(estimator):
    model = estimator(**PLAIN, max_iter=2)
    with pytest.warns(ConvergenceWarning, match="max_iter=2") as record:
        model.fit(*data(estimator))
    assert model.status_ == "max_iter" and "max_iter" in model.status_message_
    assert model.n_iter_ == 2
    assert record[0].filename == __file__


@dataclasses.dataclass(frozen=True)
class NeverEnough(GainRatio):
    """A damping that overshoots at the start and does not give in."""

    def initial(self, at):
        return float("nan")

    def rejected(self, damping, at):
        return damping


def test_running_out_of_dampings_is_a_status_not_a_crash():
    X, y = data(GNRegressor)
    model = GNRegressor(**PLAIN, damping=NeverEnough())
    with pytest.warns(ConvergenceWarning):
        model.fit(X, y)
    assert model.status_ == "no_descent" and model.n_iter_ == 0
    assert np.isfinite(model.predict(X)).all()


def kept(member):
    """The iterate whose weights a member has: that of its evidence, or the last."""
    evidence = member.history["log_evidence"].tolist()
    return evidence.index(member.log_evidence) if member.log_evidence in evidence else -1


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("solver", ["primal", "dual"])
@pytest.mark.parametrize("parameters", [{"l2_regularization": 1e-3}, {}], ids=["fixed l2", "default l2"])
@unconverged
def test_history_has_one_entry_an_iterate(estimator, solver, parameters):
    X, y = data(estimator)
    model = estimator(
        hidden_layer_sizes=(4,),
        n_estimators=1,
        max_iter=8,
        solver=solver,
        random_state=0,
        **parameters,
    ).fit(X, y)
    assert set(model.history_) == HISTORY
    lengths = {len(values) for values in model.history_.values()}
    assert lengths == {model.n_iter_ + 1}
    assert all(isinstance(values, np.ndarray) for values in model.history_.values())
    assert model.loss_ == model.history_["loss"][kept(model.estimators_[0])] and len(model.loss_curve_) == model.n_iter_
    assert model.history_["distance_from_init"][0] == 0
    assert (np.diff(model.history_["time"]) >= 0).all()
    assert model.solver_ == solver
    if parameters:
        assert (np.diff(model.history_["objective"]) <= 0).all()
        assert np.isnan(model.history_["log_evidence"]).all()


@pytest.mark.parametrize("weighted", [False, True])
@unconverged
def test_loss_is_the_mean_data_loss_of_the_predictions(weighted):
    X, y = data(GNRegressor)
    s = np.arange(1.0, len(y) + 1) if weighted else None
    model = GNRegressor(**PLAIN, max_iter=5).fit(X, y, s)
    variance = np.average((y - np.average(y, weights=s)) ** 2, weights=s)
    expected = 0.5 * np.average((y - model.predict(X)) ** 2, weights=s) / variance
    np.testing.assert_allclose(model.loss_, expected, rtol=1e-10)
    X, y = data(GNClassifier)
    for labels in (y, np.minimum(y, 1)):
        classifier = GNClassifier(**PLAIN, max_iter=5).fit(X, labels, s)
        expected = log_loss(labels, classifier.predict_proba(X), sample_weight=s)
        np.testing.assert_allclose(classifier.loss_, expected, rtol=1e-10)


@pytest.mark.parametrize("estimator", ESTIMATORS)
@unconverged
def test_verbose_prints_a_line_an_iterate_and_silence_nothing(estimator, capsys):
    X, y = data(estimator)
    model = estimator(**PLAIN, max_iter=3, verbose=2).fit(X, y)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("iteration")]
    assert len(lines) == model.n_iter_ + 1
    # Aligned: each name has its place, and lines are of one length.
    assert len({(len(line), *(m.start() for m in re.finditer("[a-z]+ ", line))) for line in lines}) == 1
    model.set_params(verbose=0).fit(X, y)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("n_jobs", [1, 2])
@unconverged
def test_verbose_lines_say_which_candidate_they_are_about_and_which_go_on(capsys, n_jobs):
    X, y = data(GNRegressor)
    model = GNRegressor(hidden_layer_sizes=(4,), n_estimators=1, n_jobs=n_jobs, max_iter=25, random_state=0, verbose=2)
    model.fit(X, y)
    lines = capsys.readouterr().out.splitlines()
    numbers = {}
    for line in lines:
        if found := re.fullmatch(r"candidate +(\d+)  iteration +(\d+)  objective .*", line):
            numbers.setdefault(int(found[1]), []).append(int(found[2]))
    # Each one's iterations are in order, side by side or not.
    assert all(found == list(range(len(found))) for found in numbers.values())
    assert len(numbers) == 3
    (last,) = [line for line in lines if line.startswith("search")]
    (best,) = [int(number) for number in re.findall(r"\d+", last)[:-1]]
    assert len(numbers[best]) - 1 == model.n_iter_


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_verbose_lines_of_a_stream_say_which_member_they_are_about(estimator, capsys):
    X, y = data(estimator)
    classes = {} if estimator is GNRegressor else {"classes": [0, 1, 2]}
    model = estimator(hidden_layer_sizes=(4,), n_estimators=2, random_state=0, verbose=2).partial_fit(X, y, **classes)
    lines = capsys.readouterr().out.splitlines()
    iterations = ["member  1"] * 2 + ["member  2"] * 2
    assert [line[:9] for line in lines if line.startswith("member")] == iterations
    model.set_params(verbose=1).partial_fit(X, y)
    begin, names, *members, end = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in members] == ["1", "2"]
    assert column(names, "iterations", members) == ["2", "2"]
    rows = len(np.unique(np.column_stack([X, y]), axis=0))
    assert begin == f"block 2: {rows} distinct rows" and re.fullmatch(r"block 2: 2 networks, [\d.]+ s", end)


def column(names, name, lines):
    """What lines have below a name that ends where they do."""
    end = names.index(name) + len(name)
    return [line[:end].split()[-1] for line in lines]


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_verbose_1_prints_a_line_a_member_and_one_for_the_fit(estimator, capsys):
    X, y = data(estimator)
    model = estimator(hidden_layer_sizes=(4,), random_state=0, n_estimators=3, verbose=1).fit(X, y)
    begin, names, *lines, end = capsys.readouterr().out.splitlines()
    rows = len(np.unique(np.column_stack([X, y]), axis=0))
    assert begin == f"{rows} distinct rows, 3 candidates for 3 networks"
    kept = [line for line in lines if "kept" in line]
    assert column(names, "iterations", kept) == [str(member.n_iter) for member in model.estimators_]
    outcomes = [f"kept, weight {weight:.2f}" for weight in model.weights_]
    assert [line[names.index("outcome") :] for line in kept] == outcomes
    drawn = " for it", " for these", " of steeper units"
    others = [line for line in lines if line not in kept and not line.endswith(drawn)]
    assert all(line[names.index("outcome") :].startswith("dropped, ") for line in others)
    assert all(member.network.activation in line for member, line in zip(model.estimators_, kept, strict=True))
    found = re.fullmatch(rf"{estimator.__name__}: 3 networks, D2 ([\d.]+), [\d.]+ s, converged \(evidence\)", end)
    assert float(found[1]) == round(model.left_out_score_, 3)


def test_verbose_1_of_a_search_says_why_candidates_are_dropped(capsys):
    X, y = data(GNRegressor)
    GNRegressor(hidden_layer_sizes=(4,), random_state=0, n_estimators=1, verbose=1).fit(X, y)
    _, names, *lines, _ = capsys.readouterr().out.splitlines()
    outcomes = [line[names.index("outcome") :] for line in lines if re.match(r" +\d+  4 tanh", line)]
    dropped = [float(re.fullmatch(r"dropped, ([\de.-]+) nats a row behind", line)[1]) for line in outcomes[:2]]
    # The best of what is dropped comes first.
    assert 0 < dropped[0] <= dropped[1]
    assert outcomes[-1] == "kept, weight 1.00"


def test_verbose_1_knows_no_left_out_score_of_what_was_cut_short(capsys, monkeypatch):
    """The one of the search was of other rows."""
    X, y = make_regression(2500, 3, n_informative=3, noise=5.0, random_state=0)
    options = {"hidden_layer_sizes": (4,), "random_state": 0, "n_estimators": 2, "tol": 0.0, "n_iter_no_change": 50}
    go, went = Search._go_to_all_rows, []

    def interrupted(self, candidate):
        go(self, candidate)
        went.append(candidate.number + 1)
        if len(went) == 2:
            self._limits.interrupt()

    monkeypatch.setattr(Search, "_go_to_all_rows", interrupted)
    with pytest.raises(KeyboardInterrupt):
        GNRegressor(**options, verbose=1).fit(X, y)
    _, names, *lines, _ = capsys.readouterr().out.splitlines()
    (cut,) = [line for line in lines if line.endswith("dropped, cut short")]
    assert cut.split()[0] == str(went[1]) and column(names, "D2", [cut]) == ["-"]


def test_verbose_1_is_of_one_network_whose_l2_is_given_as_well(capsys):
    X, y = data(GNRegressor)
    model = GNRegressor(**PLAIN, verbose=1).fit(X, y)
    _, names, line, end = capsys.readouterr().out.splitlines()
    # There is nothing to compare, so that no sample is left out.
    assert column(names, "D2", [line]) == ["-"] and line.endswith("kept, weight 1.00")
    assert end.startswith("GNRegressor: 1 network, D2 -, ") and end.endswith(f"({model.status_})")


@unconverged
def test_verbose_1_of_a_fit_that_is_cut_short_says_so(capsys):
    X, y = data(GNRegressor)
    GNRegressor(hidden_layer_sizes=(4,), random_state=0, n_estimators=2, max_iter=2, verbose=1).fit(X, y)
    *_, line, end = capsys.readouterr().out.splitlines()
    assert line.endswith(", max_iter") and end.endswith("stopped short of the tolerance (max_iter)")


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize(
    "change",
    [
        {"damping": GainRatio(step_size=0.3)},
        {"damping": 1e-3},
        {"damping": 1.0},
        {"alpha": 3.0},
        {"activation": "softplus"},
        {"linear_path": False},
        {"init": "centered"},
        {"l2_regularization": 1e-1},
        {"standardize": False},
    ],
    ids=str,
)
@unconverged
def test_parameters_change_the_fit(estimator, change):
    X, y = data(estimator)
    X = 2 * X + 1
    model = estimator(**PLAIN, max_iter=5)
    expected = outputs(clone(model).fit(X, y), X)
    assert np.abs(outputs(clone(model).set_params(**change).fit(X, y), X) - expected).max() > 1e-4


@pytest.mark.parametrize("n_estimators", [1, 2])
@pytest.mark.parametrize("estimator", ESTIMATORS)
@unconverged
def test_numbers_of_numpy_are_those_of_python(estimator, n_estimators):
    """As distributions of a randomized search draw them, or a frame of settings holds them."""
    X, y = data(estimator)
    numbers = {"max_iter": 5, "n_estimators": n_estimators, "n_iter_no_change": 3, "hidden_layer_sizes": 4}
    model = estimator(**numbers, random_state=0)
    of_numpy = clone(model).set_params(**{name: np.int8(number) for name, number in numbers.items()})
    np.testing.assert_array_equal(outputs(of_numpy.fit(X, y), X), outputs(model.fit(X, y), X))


@pytest.mark.parametrize("estimator", ESTIMATORS)
@unconverged
def test_solvers_train_to_the_same_network(estimator):
    X, y = data(estimator)
    model = estimator(**PLAIN, max_iter=10)
    primal, dual = (outputs(clone(model).set_params(solver=s).fit(X, y), X) for s in ("primal", "dual"))
    np.testing.assert_allclose(primal, dual, rtol=1e-6, atol=1e-8)


# --- Bad input


class NoStepSize:
    """A damping rule that does not say how much of a step to take."""

    initial = accepted = rejected = lambda *_: 1.0


BAD_PARAMETERS = [
    ("batch_size", 0),
    ("batch_size", "all"),
    ("early_stopping", "auto"),
    ("max_time", 0),
    ("max_time", float("nan")),
    ("validation_fraction", 1.0),
    ("activation", "sine"),
    ("activation", None),
    ("solver", "sgd"),
    ("damping", -1e-3),
    ("damping", float("nan")),
    ("damping", float("inf")),
    ("damping", "none"),
    ("alpha", 0),
    ("alpha", -1.0),
    ("alpha", float("nan")),
    ("alpha", float("inf")),
    ("damping", NoStepSize()),
    ("l2_regularization", -1.0),
    ("l2_regularization", float("nan")),
    ("l2_regularization", float("inf")),
    ("l2_regularization", "bayes"),
    ("tol", -1.0),
    ("tol", float("nan")),
    ("max_iter", -1),
    ("max_iter", 2.5),
    ("n_estimators", 0),
    ("n_iter_no_change", 0),
    ("init", "zeros"),
    ("dtype", "float16"),
    ("hidden_layer_sizes", 0),
    ("hidden_layer_sizes", -1),
    ("hidden_layer_sizes", 2.5),
    ("hidden_layer_sizes", None),
    ("hidden_layer_sizes", "20"),
    ("hidden_layer_sizes", (4, 0)),
    ("hidden_layer_sizes", (-1,)),
    ("hidden_layer_sizes", (2.5,)),
    ("hidden_layer_sizes", ("20",)),
    ("hidden_layer_sizes", (True,)),
    ("hidden_layer_sizes", True),
    ("hidden_layer_sizes", ((4, 4),)),
    ("hidden_layer_sizes", np.array([[4, 4]])),
    ("device", "tpu"),
    ("device", "cuda:99"),
    ("device", 0),
    ("random_state", "seed"),
    ("n_jobs", 1.5),
    ("standardize", "yes"),
]


def replaced(X, value):
    X = np.array(X, dtype=np.result_type(X, value))
    X.flat[1] = value
    return X


BAD_DATA = {
    "inf in X": (lambda X, y: (replaced(X, np.inf), y, None), "infinity"),
    "NaN in y": (lambda X, y: (X, replaced(y, np.nan), None), "y contains NaN|NaN"),
    "inf in y": (lambda X, y: (X, replaced(y, np.inf), None), "y contains infinity|infinity"),
    "lengths": (lambda X, y: (X, y[:-1], None), "inconsistent numbers of samples"),
    "weight length": (lambda X, y: (X, y, np.ones(len(y) - 1)), "sample_weight"),
    "zero weights": (lambda X, y: (X, y, np.zeros(len(y))), "[Ss]ample.weight"),
    "negative weight": (lambda X, y: (X, y, replaced(np.ones(len(y)), -1.0)), "sample_weight"),
    "NaN weight": (lambda X, y: (X, y, replaced(np.ones(len(y)), np.nan)), "sample_weight"),
    "complex X": (lambda X, y: (X + 1j, y, None), "[Cc]omplex"),
    "complex y": (lambda X, y: (X, y + 1j, None), "[Cc]omplex|Unknown label type"),
    "object X": (lambda X, y: (np.full(X.shape, {}, dtype=object), y, None), "float|number"),
    "string X": (lambda X, y: (np.full(X.shape, "a"), y, None), "convert string"),
    "sparse y": (lambda X, y: (X, sparse.csr_matrix(y[:, None]), None), "Sparse data was passed for y"),
    "dates": (lambda X, y: (X.astype("datetime64[s]"), y, None), r"X has the type datetime64.*neither a number"),
    "1-d X": (lambda X, y: (X[:, 0], y, None), "Reshape your data"),
    "3-d X": (lambda X, y: (X[:, :, None], y, None), "dim"),
    "3-d y": (lambda X, y: (X, np.zeros((len(y), 2, 2)), None), "dim|y "),
    "no rows": (lambda X, y: (X[:0], y[:0], None), "0 sample"),
    "no columns": (lambda X, y: (X[:, :0], y, None), "0 feature"),
    "no y": (lambda X, y: (X, None, None), "y"),
}


@cache
def fit_of(estimator):
    """A fitted estimator, its data, and what it predicts."""
    X, y = data(estimator)
    model = estimator(**PLAIN | {"hidden_layer_sizes": (3,), "l2_regularization": 1e-2}, max_iter=1000).fit(X, y)
    return types.SimpleNamespace(model=model, X=X, y=y, outputs=outputs(model, X), predicted=model.predict(X))


@pytest.fixture(params=ESTIMATORS, ids=["GNRegressor", "GNClassifier"])
def fitted(request):
    return copy.deepcopy(fit_of(request.param))


def assert_unharmed(fitted):
    np.testing.assert_array_equal(outputs(fitted.model, fitted.X), fitted.outputs)
    np.testing.assert_array_equal(fitted.model.predict(fitted.X), fitted.predicted)


@pytest.mark.parametrize(("name", "value"), BAD_PARAMETERS)
def test_bad_parameter_is_named_and_leaves_the_earlier_fit(fitted, name, value):
    good = fitted.model.get_params()[name]
    fitted.model.set_params(**{name: value})
    with pytest.raises((ValueError, TypeError), match=name):
        fitted.model.fit(fitted.X, fitted.y)
    fitted.model.set_params(**{name: good})
    assert_unharmed(fitted)


@pytest.mark.parametrize("case", BAD_DATA)
def test_bad_data_are_refused_and_leave_the_earlier_fit(fitted, case):
    make, message = BAD_DATA[case]
    X, y, s = make(fitted.X, fitted.y)
    with pytest.raises((ValueError, TypeError), match=message):
        fitted.model.fit(X, y, s)
    assert_unharmed(fitted)


def test_continuous_target_is_refused_by_the_classifier():
    X, y = data(GNRegressor)
    with pytest.raises(ValueError, match="continuous"):
        GNClassifier(**PLAIN).fit(X, y)


@pytest.mark.parametrize(
    ("class_weight", "message"),
    [("heavy", "class_weight"), ({0: -1.0}, "class_weight"), ({7: 1.0}, "7"), ({0: 0, 1: 0, 2: 0}, "class_weight")],
)
def test_bad_class_weight_is_refused(class_weight, message):
    with pytest.raises(ValueError, match=message):
        GNClassifier(**PLAIN, class_weight=class_weight).fit(*data(GNClassifier))


def test_class_weight_of_a_multilabel_target_is_refused():
    X, y = data(GNClassifier)
    with pytest.raises(ValueError, match="class_weight"):
        GNClassifier(**PLAIN, class_weight="balanced").fit(X, np.column_stack([y > 0, y > 1]).astype(int))


def test_odd_width_of_a_symmetric_network_is_refused(fitted):
    fitted.model.set_params(init="symmetric", hidden_layer_sizes=(4, 3))
    with pytest.raises(ValueError, match=r"even.*\(4, 3\)"):
        fitted.model.fit(fitted.X, fitted.y)
    assert_unharmed(fitted)


def test_missing_device_is_refused_with_a_list_of_those_there(fitted):
    fitted.model.set_params(device="cuda:99")
    with pytest.raises(ValueError, match=r"device='cuda:99'.*cpu"):
        fitted.model.fit(fitted.X, fitted.y)
    fitted.model.set_params(device="auto")
    assert_unharmed(fitted)


def test_wrong_data_at_predict_are_refused(fitted):
    model, X = fitted.model, fitted.X
    with pytest.raises(ValueError, match=r"2 features.*expecting 3 features"):
        model.predict(X[:, :2])
    for bad in (replaced(X, np.inf), X + 1j, X[0]):
        with pytest.raises((ValueError, TypeError)):
            model.predict(bad)
    assert_unharmed(fitted)


@pytest.mark.parametrize("solver", ["auto", "primal", "dual", "cg"])
def test_system_beyond_memory_is_refused_before_any_work(fitted, solver, monkeypatch):
    monkeypatch.setattr("skgn.directions.available_memory", lambda device: 1e5)
    monkeypatch.setattr("skgn.objective.Objective.evaluate", lambda *_: pytest.fail("work was done"))
    with pytest.raises(
        ValueError, match=rf"{'solver' if solver == 'auto' else solver}.*GB.*(solver|hidden_layer_sizes)"
    ):
        fitted.model.set_params(solver=solver, hidden_layer_sizes=(50,)).fit(fitted.X, fitted.y)
    monkeypatch.undo()
    assert_unharmed(fitted)


def test_system_beyond_memory_names_the_solver_that_fits(monkeypatch):
    X, y = data(GNRegressor, n=10)
    monkeypatch.setattr("skgn.directions.available_memory", lambda device: 1.4e5)
    model = GNRegressor(**PLAIN | {"hidden_layer_sizes": (100,)}, max_iter=1000)
    with pytest.raises(ValueError, match="solver='dual'"):
        model.set_params(solver="primal").fit(X, y)
    assert model.set_params(solver="dual").fit(X, y).solver_ == "dual"
    assert model.set_params(solver="auto").fit(X, y).solver_ == "dual"


#: Refits that fail late, on data that differ in everything fit learns from them.
FAILING_REFITS = {
    "negative weight": {"sample_weight": -1.0},
    "zero weights": {"sample_weight": 0.0},
    "memory": {"memory": 1.0},
    "training": {"damping": FailsMidway()},
    "infinity": {"value": np.inf},
}


@pytest.mark.parametrize("case", FAILING_REFITS)
def test_failing_refit_on_other_data_leaves_the_earlier_fit(fitted, case, monkeypatch):
    failure = FAILING_REFITS[case]
    rng = np.random.default_rng(7)
    X = 100 + rng.normal(size=(30, 5))
    y = rng.normal(size=(30, 2))
    if isinstance(fitted.model, GNClassifier):
        y = (y > 0).astype(int)
    if "value" in failure:
        X[3, 3] = failure["value"]
    if "memory" in failure:
        monkeypatch.setattr("skgn.directions.available_memory", lambda device: failure["memory"])
    if "damping" in failure:
        fitted.model.set_params(damping=failure["damping"])
    s = np.full(30, failure["sample_weight"]) if "sample_weight" in failure else None
    with pytest.raises((ValueError, RuntimeError)):
        fitted.model.fit(X, y, s)
    monkeypatch.undo()
    assert fitted.model.n_features_in_ == 3
    assert_unharmed(fitted)


def test_failing_refit_on_a_table_leaves_feature_names(fitted):
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame(replaced(fitted.X, np.inf), columns=["a", "b", "c"])
    with pytest.raises(ValueError, match="infinity"):
        fitted.model.fit(table, fitted.y)
    assert not hasattr(fitted.model, "feature_names_in_")
    assert_unharmed(fitted)


def test_fitting_in_two_threads_gives_what_each_gives_alone():
    X, y = data(GNRegressor)
    models = [GNRegressor(**PLAIN | {"random_state": r}, max_iter=1000) for r in (0, 1)]
    alone = [clone(m).fit(X, y).predict(X) for m in models]
    threads = [threading.Thread(target=m.fit, args=(X, y), daemon=True) for m in models]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=300)
        assert not thread.is_alive(), "a fit hangs"
    for model, expected in zip(models, alone, strict=True):
        np.testing.assert_array_equal(model.predict(X), expected)


# --- The search over scalings, priors and starts

#: A search, small: every member ends short of convergence or not, as it comes.
SEARCH = {"hidden_layer_sizes": (4,), "max_iter": 25, "random_state": 0}


def compare_on(rows, monkeypatch):
    """Let tables of more rows than so many be compared on these."""
    for module in (skgn.candidates, skgn.plan):
        monkeypatch.setattr(module, "COMPARED_ROWS", rows)


def best_alone(model):
    """A copy of a fitted model whose first member is the only one, and whose probabilities are its own."""
    alone = copy.copy(model)
    alone.estimators_, alone.weights_, alone.temperature_ = model.estimators_[:1], np.ones(1), 1.0
    return alone


def merged_loss(model, X, y):
    """Mean loss of the first member at rows without duplicates, by NumPy, in units of the standardised target."""
    if isinstance(model, GNRegressor):
        return 0.5 * np.mean(((best_alone(model).predict(X) - y) / y.std()) ** 2)
    log_p = best_alone(model).predict_log_proba(X)
    return -np.mean(log_p[np.arange(len(y)), np.searchsorted(model.classes_, y)])


@unconverged
@pytest.mark.parametrize("standardize", [True, False])
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_members_have_the_documented_scalings_and_priors(estimator, standardize):
    X, y = data(estimator)
    model = estimator(**SEARCH | {"max_iter": 5}, n_estimators=4, standardize=standardize).fit(X, y)
    assert len(model.estimators_) == 4
    # Networks of the columns of use may come in the place of rectified ones.
    assert {str(member.prior_kind) for member in model.estimators_} - {"unit"} == {"feature", "layer"}
    used = {member.scaling for member in model.estimators_}
    assert used == ({"robust", "periodic"} if standardize else {"raw"})
    # No more scalers are kept than there are members that need them.
    assert set(table_and_target(model)[0].scalings) == used


@unconverged
@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({"hidden_layer_sizes": ()}, {"robust"}),
        ({"hidden_layer_sizes": (), "standardize": False}, {"raw"}),
        ({"standardize": False}, {"raw"}),
        ({"l2_regularization": 1e-2}, {"robust"}),
        ({"standardize": "periodic"}, {"periodic"}),
        ({}, {"robust", "periodic"}),
        # Three columns a feature would make more than 1,000 weights.
        ({"hidden_layer_sizes": (150,)}, {"robust"}),
    ],
)
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_scalings_are_a_choice_of_small_nonlinear_models_with_evidence(estimator, params, expected, monkeypatch):
    tried = set()

    class Drawn(Exception):
        pass

    def train(problem, draw, *args):
        tried.update(start.scaling for start in draw.starts)
        raise Drawn

    monkeypatch.setattr(skgn.estimator, "train_members", train)
    X, y = data(estimator)
    with pytest.raises(Drawn):
        estimator(**SEARCH | params, n_estimators=4).fit(X, y)
    assert tried == expected
    # A single network is compared with others of its scaling.
    tried.clear()
    with pytest.raises(Drawn):
        estimator(**SEARCH | params, n_estimators=1).fit(X, y)
    assert len(tried) == 1 and tried <= expected


def fit_by_search(model, X, y, capsys):
    """Fit, and see from what is printed that a search took place: some candidates went on, and others did not."""
    model.set_params(verbose=1).fit(X, y)
    numbers, of = re.search(r"^search: candidates (.*) of (\d+) go on$", capsys.readouterr().out, re.MULTILINE).groups()
    assert len(numbers.split(", ")) < int(of)
    return model


@unconverged
@pytest.mark.parametrize(
    ("n_estimators", "max_iter", "rows"), [(1, 0, 7), (1, 1, 30), (3, 5, 7), (1, 25, 7), (3, 60, 30)]
)
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_a_search_on_some_rows_ends_on_all(estimator, n_estimators, max_iter, rows, monkeypatch, capsys):
    compare_on(rows, monkeypatch)
    X, y = data(estimator)
    # With networks of the kind for classes, several members are not compared.
    settings = {**SEARCH, "max_iter": max_iter, "activation": "tanh"}
    model = fit_by_search(estimator(**settings, n_estimators=n_estimators), X, y, capsys)
    assert len(model.estimators_) == n_estimators
    assert model.n_iter_ <= max_iter
    np.testing.assert_allclose(model.loss_, merged_loss(model, X, y), rtol=1e-9)
    for member in model.estimators_:
        assert {len(values) for values in member.history.values()} == {member.n_iter + 1}
        # To rounding: iterates at the end may have the same evidence, of which the first is looked at.
        np.testing.assert_allclose(member.loss, member.history["loss"][kept(member)], rtol=1e-12)
        assert member.status != "running"
    assert np.isfinite(outputs(model, X)).all()


#: Solver, rows of a table, and rows that a search compares candidates on, by default 2,000. The dual is slow on many.
TABLES = [("primal", 2100, 2000), ("primal", 60, 20), ("dual", 60, 20)]


@unconverged
@pytest.mark.parametrize(("solver", "n", "rows"), TABLES)
def test_members_know_the_evidence_and_posterior_of_all_rows(solver, n, rows, monkeypatch, capsys):
    """Continued to convergence, a fit forgets that its search saw some of the rows only."""
    X, y = data(GNRegressor, n)
    settings = {**SEARCH, "hidden_layer_sizes": (), "max_iter": 500, "tol": 1e-10, "n_estimators": 2, "solver": solver}
    compare_on(n, monkeypatch)
    whole = GNRegressor(**settings, prior_groups="layer").fit(X, y)
    compare_on(rows, monkeypatch)
    searched = fit_by_search(GNRegressor(**settings, prior_groups="layer"), X, y, capsys)
    np.testing.assert_allclose(searched.log_evidence_, whole.log_evidence_, rtol=1e-6)
    for a, b in zip(searched.predict(X, return_std=True), whole.predict(X, return_std=True), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@unconverged
@pytest.mark.parametrize(("solver", "n", "rows"), TABLES)
@pytest.mark.parametrize("max_iter", [1, 20])
def test_noise_level_is_that_of_all_rows_however_short_the_fit(max_iter, solver, n, rows, monkeypatch, capsys):
    compare_on(rows, monkeypatch)
    X, y = data(GNRegressor, n)
    settings = SEARCH | {"max_iter": max_iter, "n_estimators": 2, "solver": solver}
    model = fit_by_search(GNRegressor(**settings), X, y, capsys)
    # Noise level and effective parameters are those of the best member.
    errors = np.sum((y - best_alone(model).predict(X)) ** 2)
    np.testing.assert_allclose(model.noise_std_**2, errors / (len(y) - model.n_effective_parameters_), rtol=1e-9)


@unconverged
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_a_search_is_the_same_with_any_number_of_jobs(estimator, monkeypatch):
    compare_on(30, monkeypatch)
    X, y = data(estimator)
    first, second = (estimator(**SEARCH, n_estimators=3, n_jobs=jobs).fit(X, y) for jobs in (1, 2))
    for a, b in zip(first.estimators_, second.estimators_, strict=True):
        assert (a.scaling, a.prior_kind, a.n_iter, a.status) == (b.scaling, b.prior_kind, b.n_iter, b.status)
        np.testing.assert_array_equal(a.weights, b.weights)
    np.testing.assert_array_equal(outputs(first, X), outputs(second, X))


@unconverged
@pytest.mark.parametrize("n_estimators", [1, 2])
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_warm_start_keeps_scalings_and_priors_of_the_members(estimator, n_estimators, monkeypatch):
    compare_on(30, monkeypatch)
    # Members that read what the first ones lack, such as finer inputs, are drawn anew.
    monkeypatch.setattr("skgn.search.FURTHER", ())
    X, y = data(estimator)
    model = estimator(**SEARCH | {"max_iter": 10}, n_estimators=n_estimators, warm_start=True).fit(X, y)
    kinds = sorted((member.scaling, str(member.prior_kind)) for member in model.estimators_)
    before = model.loss_
    model.fit(X, y)
    assert sorted((member.scaling, str(member.prior_kind)) for member in model.estimators_) == kinds
    assert model.loss_ < 1.5 * before
    # More members: the old ones and new ones compete.
    model.set_params(n_estimators=n_estimators + 1).fit(X, y)
    assert len(model.estimators_) == n_estimators + 1


@unconverged
@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("case", ["one row", "two rows", "equal rows", "equal targets", "separable", "interpolated"])
@pytest.mark.filterwarnings("ignore::skgn.unfamiliar.UnfamiliarDataWarning")
def test_a_search_stands_data_of_which_little_can_be_left_out(estimator, case):
    X, y = data(estimator)
    if case == "one row":
        X, y = X[:1], y[:1]
    elif case == "two rows":
        X, y = X[:2], y[:2]
    elif case == "equal rows":
        X, y = np.repeat(X[:3], 20, axis=0), y
    elif case == "equal targets":
        y = np.full_like(y, y[0])
    elif case == "separable":
        y = (X[:, 0] > 0).astype(y.dtype)
    else:
        # As many features as rows, and a target without noise.
        X = np.random.default_rng(1).normal(size=(20, 30))
        y = X[:, 0] if estimator is GNRegressor else np.arange(20)
    model = estimator(**SEARCH | {"max_iter": 10}, n_estimators=2).fit(X, y)
    assert np.isfinite(outputs(model, X)).all()
    assert np.isfinite(outputs(model, 1e3 * X)).all()


# --- Short cuts to the minimum of a fixed objective


@pytest.mark.parametrize("linear_path", [True, False])
@unconverged
def test_first_iteration_is_ridge_regression_on_the_initial_hidden_layer(linear_path):
    X, y = data(GNRegressor)
    s = np.random.default_rng(1).uniform(0.5, 3, len(y))
    y = standardised(y, s)
    parameters = PLAIN | {"linear_path": linear_path, "l2_regularization": 0.02, "standardize": False}
    initial = GNRegressor(**parameters, max_iter=0).fit(X, y, s)
    model = GNRegressor(**parameters, max_iter=1).fit(X, y, s)
    np.testing.assert_array_equal(model.coefs_[0], initial.coefs_[0])
    hidden = np.tanh(X @ model.coefs_[0] + model.intercepts_[0])
    features = with_ones(np.column_stack([hidden, X]) if linear_path else hidden)
    ridge = Ridge(alpha=0.02 * s.sum(), fit_intercept=False, solver="cholesky").fit(features, y, s)
    np.testing.assert_allclose(np.append(model.coefs_[1], model.intercepts_[1]), ridge.coef_, rtol=1e-8, atol=1e-10)
    # No damping belongs to that iteration, and the next begins with that of a start there.
    assert np.isnan(model.history_["damping"][1]) and model.damping_ > 0


@pytest.mark.parametrize("max_iter", [2, 5])
@unconverged
def test_readout_is_optimal_after_every_step(max_iter):
    X, y = data(GNRegressor)
    parameters = PLAIN | {"l2_regularization": 0.02, "standardize": False}
    model = GNRegressor(**parameters, max_iter=max_iter).fit(X, y)
    features = with_ones(np.column_stack([np.tanh(X @ model.coefs_[0] + model.intercepts_[0]), X]))
    ridge = Ridge(alpha=0.02 * len(y), fit_intercept=False, solver="cholesky").fit(features, y)
    np.testing.assert_allclose(np.append(model.coefs_[1], model.intercepts_[1]), ridge.coef_, rtol=1e-8, atol=1e-10)
    assert model.n_iter_ == max_iter


@pytest.mark.parametrize("estimator", ESTIMATORS)
@unconverged
def test_short_cuts_reach_what_the_plain_rule_reaches(estimator):
    X, y = data(estimator, n=1500)
    parameters = PLAIN | {"l2_regularization": 1e-2}
    short = estimator(**parameters).fit(X, y)
    plain = estimator(**parameters, damping=GainRatio()).fit(X, y)
    # Both are local minima; none is far from the other here.
    assert short.history_["objective"][-1] < 1.02 * plain.history_["objective"][-1]
    assert short.n_iter_ < plain.n_iter_
    # The history is that of all samples, and begins where training on a third of them has led.
    assert (np.diff(short.history_["objective"]) <= 0).all()
    assert short.history_["objective"][0] < 0.6 * plain.history_["objective"][0]
    assert short.history_["distance_from_init"][0] > 0 and len(short.loss_curve_) == short.n_iter_


@unconverged
def test_start_on_a_sample_keeps_the_scale_of_student_t_noise():
    X, y = data(GNRegressor, n=1500)
    clean = np.sin(X[:, 0]) + 0.5 * X[:, -1]
    # In the units of y, which is standardised.
    clean = np.polyval(np.polyfit(clean, y, 1), clean)
    y[::20] += 10.0
    parameters = PLAIN | {"l2_regularization": 1e-3, "loss": "student_t"}
    short = GNRegressor(**parameters).fit(X, y)
    plain = GNRegressor(**parameters, damping=GainRatio()).fit(X, y)
    errors = [np.sqrt(np.mean((model.predict(X) - clean) ** 2)) for model in (short, plain)]
    # The noise has standard deviation 0.1; a squared error would be off by the mean of the outliers, 0.5.
    assert max(errors) < 0.1
    assert short.noise_std_ == pytest.approx(plain.noise_std_, rel=0.05)


@pytest.mark.parametrize("estimator", ESTIMATORS)
@unconverged
def test_start_on_a_sample_treats_weights_as_repetitions(estimator):
    X, y = data(estimator, n=1200)
    s = np.random.default_rng(0).integers(1, 4, len(y))
    weighted = estimator(**PLAIN, max_iter=3).fit(X, y, s)
    repeated = estimator(**PLAIN, max_iter=3).fit(np.repeat(X, s, axis=0), np.repeat(y, s))
    np.testing.assert_array_equal(outputs(weighted, X), outputs(repeated, X))


@pytest.mark.parametrize(
    "parameters",
    [
        {"damping": GainRatio()},
        {"damping": 1.0},
        {"damping": Adaptive(step_size=0.5)},
        # Both members go on from where they start. Of candidates for one, another may be the best after an iteration;
        # and after so few, left-out residuals depend on a feature, and would have networks of their own.
        {"l2_regularization": "evidence", "n_estimators": 2, "prior_groups": "layer"},
    ],
)
@unconverged
def test_no_short_cuts_elsewhere(parameters):
    X, y = data(GNRegressor, n=1500)
    initial = GNRegressor(**PLAIN | parameters, max_iter=0).fit(X, y)
    model = GNRegressor(**PLAIN | parameters, max_iter=1).fit(X, y)
    starts = {member.history["objective"][0]: member for member in initial.estimators_}
    for member in model.estimators_:
        start = starts.pop(member.history["objective"][0])
        assert member.history["damping"][1] > 0
        hidden, initial_hidden = (each.network.arrays(each.weights)[0][0] for each in (member, start))
        assert (hidden != initial_hidden).all()
    assert not starts


def test_normalised_weights_are_warned_of_where_the_evidence_counts_them():
    X, y = load_diabetes(return_X_y=True)
    weight = np.full(len(y), 1 / len(y))
    model = GNRegressor((3,), n_estimators=1, random_state=0)
    with pytest.warns(UserWarning, match="the evidence sees 1 observation and"):
        model.fit(X, y, sample_weight=weight)
    # A mean loss does not care.
    fixed = GNRegressor((), n_estimators=1, l2_regularization=1e-2)
    np.testing.assert_allclose(fixed.fit(X, y, sample_weight=weight).predict(X), fixed.fit(X, y).predict(X), rtol=1e-6)


@pytest.mark.parametrize("case", ["label", "sign", "validation"])
def test_targets_of_rows_of_weight_0_are_not_read(case):
    """A class of such rows had probabilities, and a target beyond the support of the loss was refused."""
    rng = np.random.default_rng(0)
    X, weight = rng.normal(size=(60, 2)), np.r_[np.zeros(5), np.ones(55)]
    fast = {"n_estimators": 1, "tol": 1e-2, "random_state": 0}
    if case == "sign":
        y = np.where(weight > 0, np.exp(X[:, 0]), -1.0)
        first, second = GNRegressor(loss="gamma", **fast), GNRegressor(loss="gamma", **fast)
    else:
        y = np.where(weight > 0, np.where(X[:, 0] > 0, "a", "b"), "z")
        first, second = GNClassifier(**fast), GNClassifier(**fast)
    kept = weight > 0
    if case == "validation":
        first.set_params(early_stopping=True, l2_regularization=1e-2)
        second.set_params(early_stopping=True, l2_regularization=1e-2)
        first.fit(X[kept], y[kept], X_val=X, y_val=y, sample_weight_val=weight)
        second.fit(X[kept], y[kept], X_val=X[kept], y_val=y[kept])
    else:
        first.fit(X, y, weight)
        second.fit(X[kept], y[kept])
    np.testing.assert_array_equal(first.predict(X), second.predict(X))
    assert "z" not in getattr(first, "classes_", [])
