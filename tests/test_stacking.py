"""Weights of the members: against a search over a grid of weights, with losses and likelihoods of SciPy."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.special import expit, log_softmax
from scipy.stats import norm, poisson
from scipy.stats import t as student_t
from sklearn.datasets import load_diabetes

from skgn import GNClassifier, GNRegressor
from skgn.count_losses import PoissonLoss
from skgn.label_losses import LogLoss, SoftmaxLoss
from skgn.leave_one_out import LeftOut
from skgn.left_out_samples import LeftOutSamples
from skgn.losses import SquaredError
from skgn.robust_losses import StudentTLoss
from skgn.stacking import (
    gain_of_more,
    left_out_spread,
    stacking_weights,
)

N = 80

#: The factor that draws the weights to equal ones.
SHRINKAGE = 0.05


def tensor(values):
    return torch.tensor(values, dtype=torch.float64)


def squared_error(f, Y, precision):
    return 0.5 * (precision * (f - Y) ** 2).sum(1)


def minus_student_t(f, Y):
    """Minus the log density of noise of precision 4, 0 at residual 0, over that precision."""
    return (student_t.logpdf(0, 8, scale=0.5) - student_t.logpdf(f - Y, 8, scale=0.5)).sum(1) / 4


#: Loss, targets from a signal of three columns, and the loss (n,) of outputs that are averaged, or the log likelihood
#: (members, samples) of members whose likelihoods are.
CASES = {
    "squared error": (SquaredError(), lambda z: z[:, :1], lambda f, Y: squared_error(f, Y, 1.0), None),
    "two outputs": (
        SquaredError(tensor([0.5, 2.0])),
        lambda z: z[:, :2],
        lambda f, Y: squared_error(f, Y, np.array([0.5, 2.0])),
        None,
    ),
    "student_t": (StudentTLoss(tensor([4.0])), lambda z: z[:, :1], minus_student_t, None),
    "poisson": (
        PoissonLoss(tensor([0.3])),
        lambda z: np.floor(np.exp(z[:, :1] + 1)),
        None,
        lambda f, Y: (poisson.logpmf(Y, np.exp(f + 0.3)) - poisson.logpmf(Y, Y))[..., 0],
    ),
    "two classes": (
        LogLoss(),
        lambda z: (z[:, :1] > 0) * 1.0,
        None,
        lambda f, Y: np.log(expit(f * (2 * Y - 1)))[..., 0],
    ),
    "labels": (
        LogLoss(),
        lambda z: (z > 0) * 1.0,
        None,
        # Each label is a sample of its own.
        lambda f, Y: np.log(expit(f * (2 * Y - 1))).reshape(len(f), -1),
    ),
    "classes": (SoftmaxLoss(), lambda z: np.eye(3)[z.argmax(1)], None, lambda f, Y: (Y * log_softmax(f, 2)).sum(2)),
}
REGRESSIONS = [name for name, (*_, log_p) in CASES.items() if log_p is None]


def draw(case, n_members, seed=0, noise=(1.0, 0.8, 0.9)):
    """Targets (n, k), left-out outputs (members, n, k) of such errors, and sample weights (n,)."""
    random = np.random.RandomState(seed)
    z = random.standard_normal((N, 3))
    Y = CASES[case][1](z)
    errors = [scale * random.standard_normal(z.shape) for scale in noise[:n_members]]
    return Y, np.stack([(z + e)[:, : Y.shape[1]] for e in errors]), random.randint(1, 4, N).astype(float)


def objective_of(Y, weight):
    objective = SimpleNamespace(Y=tensor(Y), sample_weight=tensor(weight), total_weight=weight.sum())
    objective.sum = lambda function, *args: function(objective, *args)
    objective.in_units_of_noise = lambda values, rows: values
    return objective


def samples_of(loss, Y, outputs, weight, allowances=None):
    left_out = [None if f is None else LeftOut(tensor(f), None) for f in outputs]
    return LeftOutSamples(objective_of(Y, weight), loss, left_out, allowances or [0.0] * len(left_out))


def weights_of(loss, Y, left_out, weight, allowances=None):
    return stacking_weights(samples_of(loss, Y, left_out, weight, allowances))


def criterion(case, Y, f, weight, allowances):
    """The function of the weights (m,) that those of a fit minimise."""
    _, _, loss, log_p = CASES[case]
    nats = np.array(allowances)[:, None]
    # Outputs, and labels that count one by one, share them; classes have one likelihood.
    nats = nats / (log_p(f, Y).shape[1] // len(Y) if log_p else Y.shape[1])

    def mean_loss(v):
        if log_p is None:
            return np.average(loss(np.tensordot(v, Y + (f - Y) * np.exp(nats)[..., None], 1), Y), weights=weight)
        mixture = np.log(v @ np.exp(log_p(f, Y) - nats))
        return -mixture @ np.repeat(weight, len(mixture) // len(weight)) / weight.sum()

    m = len(f)
    with np.errstate(divide="ignore"):
        best = min(mean_loss(v) for v in np.eye(m))
    return lambda v: mean_loss(v) / best + SHRINKAGE * m * ((v - 1 / m) ** 2).sum()


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("allowances", [[0.0, 0.0, 0.0], [0.2, 0.0, 0.05]], ids=["", "allowances"])
@pytest.mark.parametrize("n_members", [2, 3])
def test_weights_are_those_of_a_search_over_a_grid(case, n_members, allowances):
    Y, f, weight = draw(case, n_members)
    allowances, parts = allowances[:n_members], 50 if n_members == 2 else 25
    step = 1 / parts
    found = weights_of(CASES[case][0], Y, f, weight, allowances)
    at = criterion(case, Y, f, weight, allowances)
    axis = np.linspace(0, 1, parts + 1)
    heads = np.ndindex(*[parts + 1] * (n_members - 1))
    grid = [np.array([*head, 1 - sum(head)]) for head in heads if sum(head) <= parts]
    grid = [np.append(step * v[:-1], 1 - step * v[:-1].sum()).clip(0) for v in grid]
    assert len(grid) == len(axis) if n_members == 2 else len(axis) * (parts + 2) // 2
    values = [at(v) for v in grid]
    np.testing.assert_allclose(found, grid[np.argmin(values)], atol=1.01 * step)
    assert at(found) <= min(values) + 1e-7
    # The members do differ.
    assert abs(found - 1 / n_members).max() > 0.01


def test_spread_is_the_weighted_variance_of_the_members_that_count():
    Y, f, weight = draw("two outputs", 3)
    f[1, 4] = np.nan  # A sample that this member cannot predict without it.
    v, rest = np.array([0.3, 0.7, 0.0]), np.arange(N) != 4
    of_samples = np.cov(f[:2, rest].reshape(2, -1).T, aweights=v[:2], ddof=0).diagonal().reshape(-1, 2)
    expected = np.average(of_samples, axis=0, weights=weight[rest])

    def spread(outputs):
        return left_out_spread(samples_of(SquaredError(), Y, outputs, weight), v)

    np.testing.assert_allclose(spread(f), expected)
    np.testing.assert_allclose(spread([*f[:2], None]), expected)
    assert spread([f[0], None, f[2]]) is None


@pytest.mark.parametrize("case", ["squared error", "two outputs", "student_t"])
def test_targets_count_by_their_precisions(case):
    """As targets and outputs in units of their noise do, also where some samples are not predicted."""
    loss = CASES[case][0]
    Y, f, weight = draw(case, 3)
    f[1, 4] = np.nan
    root = np.exp(np.random.RandomState(1).standard_normal(Y.shape))
    by_precision, scaled = samples_of(loss, Y, f, weight), samples_of(loss, root * Y, root * f, weight)
    by_precision.objective.in_units_of_noise = lambda values, rows: values * tensor(root)[rows]
    weights = stacking_weights(by_precision)
    np.testing.assert_allclose(weights, stacking_weights(scaled), atol=1e-6)
    assert not np.allclose(weights, weights_of(loss, Y, f, weight), atol=1e-3)
    np.testing.assert_allclose(left_out_spread(by_precision, weights), left_out_spread(scaled, weights), rtol=1e-10)


@pytest.mark.parametrize("case", ["squared error", "two outputs", "poisson", "two classes", "labels", "classes"])
@pytest.mark.parametrize(("few", "many"), [(2, 6), (2, 4)])
def test_the_promised_gain_is_that_of_averaging_more_members(case, few, many):
    """Members with errors of their own; what 24 groups of them lose is averaged by NumPy and SciPy."""
    loss, _, value, log_p = CASES[case]
    random, n = np.random.RandomState(0), 1000
    z = 0.5 * random.standard_normal((n, 3))
    Y = CASES[case][1](z + 0.5 * random.standard_normal(z.shape))
    # Outputs for classes are log odds.
    apart = 0.8 if loss.has_temperature else 0.3
    f = (z + apart * random.standard_normal((24 * many, n, 3)))[..., : Y.shape[1]]
    weight = random.randint(1, 4, n).astype(float)

    def mean_loss(members):
        if log_p is None:
            return np.average(value(members.mean(axis=0), Y), weights=weight)
        losses = -np.log(np.exp(log_p(members, Y)).mean(axis=0)).reshape(n, -1).sum(axis=1)
        return np.average(losses, weights=weight)

    before, after = (np.mean([mean_loss(f[k * m : (k + 1) * m]) for k in range(24)]) for m in (few, many))
    promised = [gain_of_more(samples_of(loss, Y, f[k * few : (k + 1) * few], weight), many) for k in range(24)]
    expected = 1 - after / before
    # The mixture of likelihoods is expanded to second order.
    assert 0.004 < expected < 0.2
    assert np.mean(promised) == pytest.approx(expected, rel=0.1 if log_p is None else 0.3)


def test_nobody_knows_the_gain_of_more_where_one_member_counts_and_there_is_none_without_a_loss():
    Y, f, weight = draw("squared error", 2)

    def gain(*left_out):
        return gain_of_more(samples_of(SquaredError(), Y, left_out, weight), 6)

    assert gain(f[0]) == gain(f[0], None) == gain(None, None) == gain(f[0], f[1] + 100) == np.inf
    assert 0 < gain(f[0], f[1]) < 1
    assert gain(Y, Y) == 0 and gain(f[0], f[0]) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("case", CASES)
def test_members_that_are_the_same_have_equal_weights(case):
    Y, f, weight = draw(case, 1)
    np.testing.assert_allclose(weights_of(CASES[case][0], Y, [*f, *f, *f], weight), 1 / 3, atol=1e-6)


@pytest.mark.parametrize("case", CASES)
def test_the_better_member_has_the_larger_weight_and_one_by_chance_hardly_more(case):
    Y, f, weight = draw(case, 3, noise=(1.5, 0.5, 0.5))
    worse, first, second = weights_of(CASES[case][0], Y, f, weight)
    assert worse < min(first, second) - 0.05
    assert abs(first - second) < 0.25


@pytest.mark.parametrize("case", CASES)
def test_a_member_that_has_failed_has_no_weight_and_changes_no_other(case):
    Y, f, weight = draw(case, 2)
    wrong = -60 * np.abs(f[:1]) * np.where(Y > 0, 1, -1)
    found = weights_of(CASES[case][0], Y, [f[0], wrong[0], f[1]], weight)
    assert found[1] == 0
    np.testing.assert_allclose(found[[0, 2]], weights_of(CASES[case][0], Y, f, weight), atol=1e-5)


@pytest.mark.parametrize("case", CASES)
def test_sample_weights_are_repetitions(case):
    Y, f, weight = draw(case, 3)
    times, loss = weight.astype(int), CASES[case][0]
    repeated = weights_of(loss, np.repeat(Y, times, 0), np.repeat(f, times, 1), np.ones(times.sum()))
    np.testing.assert_allclose(weights_of(loss, Y, f, weight), repeated, atol=1e-6)
    assert abs(weights_of(loss, Y, f, np.ones(N)) - repeated).max() > 1e-4


def test_a_member_of_which_nothing_is_known_has_no_weight():
    Y, f, weight = draw("squared error", 2)
    found = weights_of(SquaredError(), Y, [None, *f, None], weight)
    np.testing.assert_array_equal(found, [0, *weights_of(SquaredError(), Y, f, weight), 0])
    np.testing.assert_array_equal(weights_of(SquaredError(), Y, [None, None], weight), [0.5, 0.5])
    np.testing.assert_array_equal(weights_of(SquaredError(), Y, [None, f[0]], weight), [0, 1])


@pytest.mark.parametrize("case", CASES)
def test_estimated_precisions_lower_the_weight_of_a_member(case):
    Y, f, weight = draw(case, 1)
    first, second = (weights_of(CASES[case][0], Y, [*f, *f], weight, [0.0, nats])[1] for nats in (0.05, 0.1))
    assert second < first - 0.005 and first < 0.495


@pytest.mark.parametrize("case", CASES)
def test_samples_that_a_member_cannot_predict_do_not_count(case):
    Y, f, weight = draw(case, 2)
    unknown = f.copy()
    unknown[0, :5], unknown[1, 5:9] = np.nan, np.inf
    expected = weights_of(CASES[case][0], Y[9:], f[:, 9:], weight[9:])
    # The sum of all sample weights is a common factor of the losses.
    np.testing.assert_allclose(weights_of(CASES[case][0], Y, unknown, weight), expected, atol=1e-6)


@pytest.mark.parametrize("case", REGRESSIONS)
def test_members_without_any_loss_share_the_weight(case):
    Y, f, weight = draw(case, 1)
    np.testing.assert_array_equal(weights_of(CASES[case][0], Y, [f[0], Y, Y], weight), [0, 0.5, 0.5])


def test_losses_rounded_to_less_than_nothing_are_no_failure():
    """A deviance of 0 at outputs of 1e-18."""
    found = weights_of(PoissonLoss(), np.ones((1, 1)), [np.full((1, 1), f) for f in (1e-16, 4e-7, 1e-5)], np.ones(1))
    assert found.sum() == 1 and (found >= 0).all()


def test_likelihoods_of_0_and_1_have_finite_weights():
    Y = np.array([[1.0], [0.0], [1.0]])
    sure = 2000 * (2 * Y - 1)
    found = weights_of(LogLoss(), Y, [sure * [[1], [1], [-1]], sure * [[1], [-1], [1]]], np.ones(3))
    np.testing.assert_allclose(found, 0.5, atol=0.01)


# --- Of a fit


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("estimator", [GNRegressor, GNClassifier])
def test_members_come_in_the_order_of_their_weights(estimator):
    X, y = load_diabetes(return_X_y=True)
    y = y if estimator is GNRegressor else y > 140
    weights = estimator((4,), n_estimators=3, max_iter=15, random_state=0).fit(X, y).weights_
    assert (np.diff(weights) <= 0).all() and weights[0] > weights[-1] + 1e-3


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(
    "parameters", [{"solver": "cg", "l2_regularization": 1e-2}, {"l2_regularization": 1e-2}], ids=str
)
def test_members_of_a_given_l2_count_alike(parameters):
    X, y = load_diabetes(return_X_y=True)
    model = GNRegressor((8,), n_estimators=2, max_iter=5, random_state=0, **parameters).fit(X[:20], y[:20])
    np.testing.assert_array_equal(model.weights_, 0.5)


@pytest.mark.parametrize("k", [1, 3])
def test_the_outputs_of_a_sample_lose_the_nats_together(k):
    """Log densities of SciPy at the scale of greatest likelihood, and likelihoods of labels."""
    rng = np.random.RandomState(0)
    Y, f, nats = rng.normal(size=(N, k)), rng.normal(size=(N, k)), 0.2

    def densest(residuals):
        return norm.logpdf(residuals, scale=np.sqrt((residuals**2).mean(0))).sum(1).mean()

    enlarged, _, _ = samples_of(SquaredError(), Y, [f], np.ones(N), [nats]).corrected_rows
    assert densest(f - Y) - densest(enlarged[0].numpy() - Y) == pytest.approx(nats)
    labels = samples_of(LogLoss(), (Y > 0) * 1.0, [f], np.ones(N), [nats])
    log_p, weight = labels.corrected_log_probabilities()
    expected = -np.log1p(np.exp(-f * np.where(Y > 0, 1, -1))).sum() - nats * N
    assert float(log_p[0] @ weight) == pytest.approx(expected)


def test_an_observation_is_as_many_nats_under_several_quantiles_as_under_one():
    """Each row has its target once for each of three levels, and a third of the weight."""
    rng = np.random.RandomState(0)
    Y, f, nats = rng.normal(size=(N, 1)), rng.normal(size=(N, 1)), 16.0

    def enlarged(levels):
        weight = np.full(N, 1 / levels)
        of_levels = [np.tile(values, (1, levels)) for values in (Y, f)]
        samples = samples_of(SquaredError(), of_levels[0], of_levels[1:], weight, [nats / weight.sum()])
        return samples.corrected_rows[0]

    np.testing.assert_allclose(enlarged(1)[0], Y + (f - Y) * np.exp(nats / N))
    np.testing.assert_allclose(enlarged(3)[0], np.tile(enlarged(1)[0], (1, 3)))
