"""Values at the ends of the floats: a fit of them is finite, or refused with what to change."""

from contextlib import nullcontext

import numpy as np
import pytest
import torch
from sklearn.datasets import make_friedman1
from sklearn.utils._param_validation import InvalidParameterError

from skgn import GNClassifier, GNRegressor
from skgn.damping import (
    GainRatio,
    GeometricDecay,
    Iterate,
    ProportionalToCurvature,
    ProportionalToGradient,
    ProportionalToLoss,
)
from skgn.direction import spectrum
from skgn.relevance import Sensitivity, relevance
from skgn.targets import LOSSES

pytestmark = pytest.mark.filterwarnings(
    "ignore::sklearn.exceptions.ConvergenceWarning",
    "ignore:sample_weight has a mean:UserWarning",
    "ignore:alpha=1e-06 is a factor on the output:UserWarning",
    "ignore:standardize=False takes X as it is:UserWarning",
    "ignore:The uncertainty of the weights at:UserWarning",
    "ignore:loss='poisson' takes y for counts:UserWarning",
    "ignore:The noise is .* and dtype='float32' has too few digits:UserWarning",
)

RNG = np.random.default_rng(0)
X = RNG.normal(size=(30, 2))
Y = np.abs(X[:, 0]) + 0.1
SMALL = {"hidden_layer_sizes": (3,), "n_estimators": 2, "max_iter": 3, "random_state": 0}

HUGE, TINY = 1.7e308, 5e-324
SIZES = [TINY, 1e-310, 1e-200, 1e-100, 1e-30, 1e-8, 1.0, 1.0, 1.0, 1e8, 1e30, 1e100, 1e154, 1e200, 1e300, HUGE]


# --- At random


def draw(seed):
    """An estimator, X, y and weights of a random kind, and whether they come as a stream."""
    random = np.random.default_rng(seed)

    def pick(*choices):
        return choices[random.integers(len(choices))]

    def size(likely=0.5):
        return float(pick(*SIZES)) if random.random() < likely else 1.0

    n, d = pick(1, 2, 3, 5, 12, 30, 60), pick(1, 2)
    with np.errstate(over="ignore"):
        rows = np.nan_to_num(random.normal(size=(n, d)) * [size(0.3) for _ in range(d)], posinf=HUGE, neginf=-HUGE)
        kinds = [np.ones(n), np.zeros(n), random.normal(size=n), 10.0 ** random.integers(-300, 300, n)]
        y = np.nan_to_num(pick(*kinds) * size(0.4), posinf=HUGE, neginf=-HUGE)
    l2 = pick("evidence", "evidence", 0.0, 1e-3, size())
    rules = [
        factory(factor=size()) for factory in (ProportionalToLoss, ProportionalToGradient, ProportionalToCurvature)
    ]
    parameters = {
        "hidden_layer_sizes": pick((), (3,)),
        "l2_regularization": l2,
        "n_estimators": pick(1, 2),
        "max_iter": pick(0, 1, 4),
        "tol": pick(1e-4, 0.0, size()),
        "batch_size": pick(None, 1, 3, 20),
        "solver": pick("auto", "primal", "dual", "auto" if l2 == "evidence" else "cg"),
        "alpha": pick(1.0, 1.0, 1e-6, 1e6),
        "damping": pick("adaptive", "adaptive", 0.0, size(), GeometricDecay(size(), 0.5), *rules),
        "dtype": pick("float64", "float32"),
        "standardize": pick(True, False, "rank", "periodic", "piecewise"),
        "random_state": 0,
    }
    weights = [np.full(n, size()), 10.0 ** random.integers(-300, 300, n), (np.arange(n) == 0).astype(float)]
    weight, stream = pick(None, None, *weights), random.random() < 0.3
    if random.random() < 0.2:
        return GNClassifier(**parameters), rows, np.arange(n) % 2, weight, stream
    loss = pick(*LOSSES)
    if LOSSES[loss].support:
        # Of outputs that are logarithms, the means of a wide network are no floats.
        y, parameters["alpha"] = np.where(y == 0, 1.0, np.abs(y)), min(parameters["alpha"], 1.0)
    quantile = {"quantile": pick(0.5, 1e-3)}
    return GNRegressor(**parameters, loss=loss, **quantile if loss == "quantile" else {}), rows, y, weight, stream


@pytest.mark.parametrize("seed", range(60))
def test_anything_is_fitted_or_refused(seed):
    """Longer runs by hand: other seeds."""
    model, rows, y, weight, stream = draw(seed)
    probable = isinstance(model, GNClassifier)
    try:
        if stream:
            known = {"classes": [0, 1]} if probable else {}
            for part in np.array_split(np.arange(len(y)), min(len(y), 3)):
                model.partial_fit(rows[part], y[part], sample_weight=None if weight is None else weight[part], **known)
        else:
            model.fit(rows, y, weight)
    except np.linalg.LinAlgError:
        raise
    except ValueError as error:
        # Weights, sizes of y, and classes of which there is only one.
        assert any(word in str(error) for word in ("eight", "scale it", "rescale X", "positive y", "class")), error
        return
    predicted = model.predict_proba(rows) if probable else model.predict(rows)
    assert np.isfinite(predicted).all() and np.isfinite(model.feature_relevance_).all()
    if not probable and all(member.posterior is not None for member in model.estimators_):
        if LOSSES[model.loss].without_std == "":
            assert (model.predict(rows, return_std=True)[1] >= 0).all()


# --- One by one


@pytest.mark.parametrize("loss", LOSSES)
def test_batches_of_a_zero_gradient(loss):
    y = np.ones(30) if LOSSES[loss].support else np.zeros(30)
    model = GNRegressor((), loss=loss).partial_fit(X, y)
    np.testing.assert_allclose(model.predict(X), y, atol=1e-9)
    alone = GNRegressor((), loss=loss).partial_fit(X[:1], [1.0]).partial_fit(X, Y)
    assert np.isfinite(alone.predict(X)).all()


@pytest.mark.parametrize("gain, damping", [(-1e200, 4.0), (1e200, 0.2), (-np.inf, 4.0), (0.5, 1.0)])
def test_a_gain_ratio_of_any_size_means_a_damping(gain, damping):
    at = Iterate(1, 1.0, 1.0, 1.0, 1.0, lambda: 1.0)
    assert GainRatio().accepted(1.0, gain, at) == pytest.approx(damping)


@pytest.mark.parametrize("weight", ["balanced", {0: 1.0, 1: 2.0}])
def test_weights_of_classes_are_none_of_rows(weight):
    with pytest.raises(ValueError, match=r"sample_weight must have a number for each row, got .* for class_weight"):
        GNClassifier(**SMALL).fit(X, Y > 1, sample_weight=weight)


@pytest.mark.parametrize("weight", [TINY, 1e-300, 1e100, HUGE])
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_weights_that_add_up_to_nothing_or_more_than_any_are_refused(method, weight):
    model = GNRegressor(**SMALL).fit(X, Y)
    expected = model.predict(X)
    with pytest.raises(ValueError, match=r"sample_weight makes the weights .* between 1e-15 and 1e\+15"):
        getattr(model, method)(X, Y, sample_weight=np.full(30, weight))
    np.testing.assert_array_equal(model.predict(X), expected)
    # Of class weights the proportions count.
    classes, plain = {0: weight, 1: weight}, GNClassifier(**SMALL).fit(X, Y > 1)
    model = GNClassifier(**SMALL, class_weight=classes).fit(X, Y > 1)
    np.testing.assert_allclose(model.predict_proba(X), plain.predict_proba(X), rtol=1e-12)


def test_a_negligible_weight_is_none():
    weight = np.where(np.arange(30) < 10, 1e-30, 1.0)
    for parameters in ({}, {"batch_size": 5, "dtype": "float32"}):
        model = GNRegressor(**SMALL | parameters)
        without = model.fit(X[10:], Y[10:]).predict(X)
        np.testing.assert_array_equal(model.fit(X, Y, weight).predict(X), without)


@pytest.mark.parametrize("loss", LOSSES)
def test_targets_of_any_size_are_fitted_alike_or_refused(loss):
    model = GNRegressor(**SMALL, loss=loss)
    expected = model.fit(X, Y).predict(X)
    for size in (2.0**-900, 2.0**900):
        if LOSSES[loss].support:
            with pytest.raises(ValueError, match=f"loss='{loss}' needs a y whose mean lies between 1e-100 and 1e"):
                model.fit(X, size * Y)
        else:
            np.testing.assert_allclose(model.fit(X, size * Y).predict(X) / size, expected, rtol=1e-6)
    with pytest.raises(ValueError, match=r"y has values of 1\.7e\+308 in size; scale it to at most 1e\+300"):
        model.fit(X, np.where(Y > 1, HUGE, 1.0))


def test_targets_whose_spread_is_subnormal():
    model = GNRegressor(**SMALL | {"max_iter": 5}).fit(X, 1e-310 * Y)
    np.testing.assert_allclose(model.predict(X), 1e-310 * Y, rtol=0, atol=5e-310)


def test_targets_of_which_few_are_far_beyond_the_others():
    y = np.where(np.arange(30) == 0, 1e300, 1e-300 * Y)
    for loss in ("huber", "cauchy", "quantile", "student_t"):
        assert np.isfinite(GNRegressor(**SMALL, loss=loss).fit(X, y).predict(X)).all()


def test_predictions_beyond_float32_are_float64():
    for size in (1e39, 1e-60):
        model = GNRegressor(**SMALL).fit(X, size * Y)
        mean, std = model.predict(X.astype(np.float32), return_std=True)
        assert mean.dtype == np.float64 and std.dtype == np.float64
        np.testing.assert_allclose(mean, model.predict(X), rtol=1e-4)
    assert GNRegressor(**SMALL).fit(X, Y).predict(X.astype(np.float32)).dtype == np.float32


@pytest.mark.parametrize("alpha", [TINY, 1e-200, 1e154, HUGE])
def test_an_alpha_whose_powers_are_no_floats_is_refused(alpha):
    with pytest.raises(InvalidParameterError, match="'alpha'"):
        GNRegressor(alpha=alpha).fit(X, Y)


@pytest.mark.parametrize("tol", [TINY, 1e200, HUGE])
@pytest.mark.parametrize("parameters", [{}, {"l2_regularization": 1e-3}, {"batch_size": 5}, {"early_stopping": True}])
def test_a_tolerance_of_any_size(tol, parameters):
    assert np.isfinite(GNRegressor(**SMALL | parameters, tol=tol).fit(X, Y).predict(X)).all()


def test_inputs_of_any_size_are_read_without_a_word():
    model = GNRegressor(**SMALL).fit(np.where(X > 0, HUGE, -HUGE), Y)
    assert np.isfinite(model.predict(np.where(X > 0, HUGE, -HUGE))).all()


def test_few_counts_that_are_left_out_are_judged():
    """The left-out loss of one row is a rounding error below 0; of two there is none left after validation."""
    one = GNRegressor((4, 2), loss="poisson", batch_size=3, n_estimators=2, max_iter=4, standardize="rank")
    for seed in range(5):
        one.set_params(random_state=seed, dtype="float32", solver="dual").fit(X[:1], [1.0])
        assert np.isfinite(one.predict(X)).all()
    two = GNRegressor(**SMALL, loss="poisson", early_stopping=True, standardize=False, init="centered")
    assert np.isfinite(two.set_params(batch_size="auto").fit(X[:2], [0.7, 0.8]).predict(X)).all()


def test_relevance_where_outputs_run_away():
    squares, evidence = np.array([np.inf, 1.0, np.inf]), np.array([np.inf, np.nan, np.nan])
    np.testing.assert_array_equal(relevance(Sensitivity(squares, evidence), 1), [0.5, 0.0, 0.5])


def test_a_matrix_that_is_not_finite_has_no_spectrum():
    class Direction:
        def spectrum_matrix(self, jacobian, total_weight):
            return torch.full((2, 2), torch.inf, dtype=torch.float64)

    assert np.isnan(spectrum(None, Direction(), 1.0)).all()


@pytest.mark.parametrize("loss", ["poisson", "gamma"])
@pytest.mark.parametrize(
    ("x", "finite", "infinite"),
    # The mean is exp(x); what squares it is beyond the floats from 1e154, or x = 355, on.
    [
        (300.0, ["mean", "std", "quantiles", "interval", "samples", "epistemic"], []),
        (500.0, ["mean", "quantiles", "interval", "samples"], ["std", "covariance", "epistemic"]),
        (5000.0, [], ["mean", "std", "covariance", "quantiles", "interval", "samples", "epistemic"]),
    ],
)
def test_predictions_beyond_the_floats_are_infinite_with_one_warning(loss, x, finite, infinite):
    X = np.linspace(-3, 3, 10)[:, None]
    model = GNRegressor((), loss=loss, standardize=False, n_estimators=1, random_state=0)
    model.fit(X, np.round(np.exp(X[:, 0])) + (loss == "gamma"))
    slope = float(np.log(model.predict([[3.0]]) / model.predict([[2.0]]))[0])
    predicted = {
        "mean": lambda X: model.predict(X),
        "std": lambda X: model.predict(X, return_std=True)[1],
        "covariance": lambda X: model.predict(X, return_cov=True)[1],
        "quantiles": lambda X: model.predict_quantiles(X, [0.4, 0.6]),
        "interval": lambda X: model.predict_interval(X, 0.2),
        "samples": lambda X: model.sample_y(X, 3),
        "epistemic": lambda X: model.epistemic_std(X),
    }
    rows = np.array([[x / slope], [1.01 * x / slope]])
    for name in infinite:
        with pytest.warns(UserWarning, match="predicted numbers are infinite") as caught:
            values = predicted[name](rows)
        assert [str(each.filename) for each in caught] == [__file__], name
        assert np.isposinf(values).all(), (name, values)
    for name in finite:
        assert np.isfinite(predicted[name](rows)).all(), name


@pytest.mark.filterwarnings("ignore::skgn.unfamiliar.UnfamiliarDataWarning")
def test_quantiles_of_other_rows_are_not_lost_by_one_beyond_the_floats():
    X = np.linspace(-3, 3, 30)[:, None]
    model = GNRegressor((), standardize=False, n_estimators=1, random_state=0).fit(X, X[:, 0] + np.cos(9 * X[:, 0]))
    levels, at = [1e-310, 0.1, 0.5, 0.9], np.array([[1.0], [1e300]])
    with pytest.warns(UserWarning, match="predicted numbers are infinite"):
        quantiles = model.predict_quantiles(at, levels)
    np.testing.assert_array_equal(quantiles[0], model.predict_quantiles(at[:1], levels)[0])
    assert np.isfinite(quantiles[0]).all() and (np.diff(quantiles[0]) > 0).all()
    assert np.isneginf(quantiles[1, 1]) and np.isposinf(quantiles[1, 3])


def test_noise_is_constant_where_no_left_out_row_is_predicted():
    """Nothing then tells whether noise that depends on the input would be better."""
    second = np.array([-1.2707151, 2.3256845, -0.3415501, -0.78731567, -0.03190022])
    x = np.column_stack([np.full(5, 0.2259142), second]).astype(np.float32)
    y = np.array(
        [2.0918965955784885, 0.7130036001271264, -0.42764328851843253, -0.19863242873063483, 1.8626485642163308]
    )
    model = GNRegressor((3,), alpha=1e6, damping=ProportionalToGradient(1.0), dtype="float32", loss="student_t")
    model.set_params(max_iter=1, n_estimators=2, tol=0.0, prior_groups="layer", random_state=21)
    model.fit(x, y, [1, 2, 0, 0, 1])
    assert np.isfinite(model.predict(x)).all()


@pytest.mark.parametrize("size", [1e-200, 1e200, 1e299])
def test_a_covariance_that_is_no_float_is_refused(size):
    model = GNRegressor(**SMALL).fit(X, size * Y)
    with pytest.raises(ValueError, match="return_cov=True needs squares of y, and the spread of y is"):
        model.predict(X, return_cov=True)
    std = model.predict(X, return_std=True)[1]
    assert np.isfinite(std).all() and (std > 0).all()


def test_each_column_of_predictions_is_within_its_float_type():
    model = GNRegressor(**SMALL).fit(X, np.column_stack([Y, 1e-130 * Y]))
    mean, std = model.predict(X.astype(np.float32), return_std=True)
    assert mean.dtype == np.float64 and (std > 0).all()


@pytest.mark.parametrize("seed", range(6))
def test_variances_of_a_covariance_are_those_of_the_deviations(seed):
    """One row counts so much that little is left of its prior variance."""
    x = np.random.default_rng(seed).normal(size=(5, 1))
    model = GNRegressor((3,), n_estimators=1, max_iter=2, dtype="float32", standardize="rank", random_state=0)
    model.fit(x, np.zeros(5), [1e10, 1, 1, 1, 1])
    std, covariance = model.predict(x, return_std=True)[1], model.predict(x, return_cov=True)[1]
    np.testing.assert_allclose(np.diag(covariance), std**2, rtol=1e-3)


def test_more_starts_than_memory_are_refused_before_any_is_drawn():
    with pytest.raises(ValueError, match="choose a smaller n_estimators"):
        GNRegressor((3,), n_estimators=10**12).fit(X, Y)


# --- Unscaled inputs


@pytest.mark.filterwarnings("error", "ignore::sklearn.exceptions.ConvergenceWarning", "ignore:Failed:UserWarning")
@pytest.mark.parametrize("estimator", [GNRegressor, GNClassifier])
@pytest.mark.parametrize("sizes", [(1e-4, 1e-4), (1.0, 1e-4), (1.0, 1e4), (1e6, 1e6), (1.0, 1.0), (0.1, 30.0)])
def test_unscaled_inputs_far_from_1_are_warned_of(estimator, sizes):
    model = estimator(**SMALL | {"max_iter": 100, "tol": 1e-1}, standardize=False)
    y = Y > Y.mean() if estimator is GNClassifier else Y
    if max(sizes) < 100 and min(sizes) > 1e-2:
        model.fit(X * sizes, y)
        return
    with pytest.warns(UserWarning, match="largest values of its columns are from"):
        model.fit(X * sizes, y)
    model.set_params(standardize=True).fit(X * sizes, y)


@pytest.mark.filterwarnings("error")
def test_a_network_of_ones_own_may_take_inputs_of_any_size():
    """It may scale them, or look them up."""
    network = torch.nn.Sequential(torch.nn.BatchNorm1d(2, affine=False).eval(), torch.nn.Linear(2, 1)).double()
    network[0].running_var.fill_(1e8)
    GNRegressor(network=network, n_estimators=1, standardize=False, random_state=0).fit(1e4 * X, Y)


@pytest.mark.filterwarnings("error:The uncertainty of the weights at:UserWarning")
@pytest.mark.parametrize(("size", "lost"), [(1e2, False), (1e4, False), (1e6, True)])
def test_deviations_of_the_dual_that_are_rounding_errors_are_warned_of(size, lost):
    """The oracle is a QR factorisation of the weights' system, which columns of any size do no harm."""
    rows = size * (X + 1)
    model = GNRegressor((), l2_regularization=1e-3, solver="dual", standardize=False, n_estimators=1).fit(rows, Y)
    for predict in (model.epistemic_std, lambda X: model.predict(X, return_cov=True)):
        with pytest.warns(UserWarning, match=r"at \d+ rows? has lost its digits") if lost else nullcontext():
            found = predict(rows)
    J = np.column_stack([rows, np.ones(30)])
    R = np.linalg.qr(np.vstack([J / np.sqrt(30), np.sqrt(1e-3) * np.eye(3)]), mode="r")
    expected = model.noise_std_ * np.linalg.norm(np.linalg.solve(R.T, J.T), axis=0) / np.sqrt(30)
    found = np.sqrt(np.diag(found[1]) - model.noise_std_**2)
    assert lost or np.allclose(found, expected, rtol=0.01)


def test_a_fit_in_float32_warns_where_hardly_any_noise_is_left():
    """Half of the variances of its weights were 0, and samples had 0.3 to 200 times the standard deviation."""
    random = np.random.default_rng(0)
    rows = random.normal(size=(60, 4))
    exact, noisy = rows[:, 0] ** 2, rows[:, 0] ** 2 + random.normal(size=60)
    model = GNRegressor(dtype="float32", n_estimators=1, random_state=0)
    with pytest.warns(UserWarning, match="dtype='float32' has too few digits beside it.* Fit with dtype='float64'"):
        model.fit(rows, exact)
    model.fit(rows, noisy)  # without a warning
    model.set_params(dtype="float64").fit(rows, exact)


def test_what_helps_a_posterior_that_is_lost_in_float32():
    X, y = make_friedman1(300, 5, noise=0, random_state=0)
    model = GNRegressor(dtype="float32", n_estimators=1, random_state=0).fit(X, y)
    with pytest.raises(ValueError, match=r'beside which the prior is a rounding error: fit with dtype="float64"'):
        model.predict(X, return_std=True)


def test_a_prior_that_is_lost_beside_the_inputs_is_not_advised():
    model = GNRegressor((10,), standardize=False, solver="dual", n_estimators=1, random_state=0).fit(1e12 * X, Y)
    with pytest.raises(ValueError, match=r"beside which the prior is a rounding error: rescale X"):
        model.predict(1e12 * X, return_std=True)


@pytest.mark.parametrize("loss", ["huber", "quantile", "cauchy", "poisson"])
def test_targets_whose_squares_are_beyond_float32_are_refused_there(loss):
    y = np.where(np.arange(30) == 0, 1e30, np.rint(10 * Y) + 1)
    with pytest.raises(ValueError, match="in units of the fit, whose squares are beyond float32: scale it"):
        GNRegressor(**SMALL, loss=loss, dtype="float32").fit(X, y)
    model = GNRegressor(**SMALL, loss=loss)
    assert np.isfinite(model.fit(X, y).predict(X)).all()


@pytest.mark.parametrize("estimator", [GNRegressor, GNClassifier])
def test_numpy_may_raise_what_it_would_only_warn_of(estimator):
    """Units far from a row underflow to 0: a fit ended with a FloatingPointError."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(80, 3)) ** 3
    y = X[:, 0] if estimator is GNRegressor else X[:, 0] > 0
    with np.errstate(all="raise"):
        model = estimator(tol=1e-2, random_state=0).fit(X, y)
        assert np.isfinite(model.score(X, y))
