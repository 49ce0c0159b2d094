"""Leave-one-out: against refits without each sample, in closed form or by SciPy's minimiser."""

import copy
import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from dense import draw, jacobian
from scipy.optimize import minimize, minimize_scalar
from scipy.special import comb, expit, log_softmax, logsumexp
from scipy.stats import norm
from sklearn.metrics import log_loss

from skgn import GNClassifier
from skgn import leave_one_out as module
from skgn.damping import GainRatio, as_rule
from skgn.dual import Dual
from skgn.evidence import EvidencePrior, FixedPrior
from skgn.feedforward import FeedForward
from skgn.full_step import FullStep
from skgn.label_losses import LogLoss, SoftmaxLoss
from skgn.leave_one_out import LeftOut, _leave_out, _log_density, leave_one_out, predictive_score
from skgn.left_out_samples import LeftOutSamples
from skgn.losses import SquaredError
from skgn.mixture import equal_weights
from skgn.objective import Objective
from skgn.primal import Primal
from skgn.prior_groups import Groups
from skgn.settings import Settings
from skgn.state import State
from skgn.temperature import best_temperature
from skgn.training import Training

each_direction = pytest.mark.parametrize("direction", [Primal, Dual])

#: Sample weights: rows once, rows several times (one copy is left out), and fractions (left out as a whole). Weights of
#: a mean of at most 1 are no repetitions, and rows are left out as a whole.
WEIGHTS = {
    "ones": torch.ones(24, dtype=torch.float64),
    "repeated": 1.0 + torch.arange(24).double() % 4,
    "mixed": 0.05 + 2 * draw(24, seed=4).abs(),
    "small": torch.full((24,), 1e-3, dtype=torch.float64),
    "uneven": torch.tensor([1.6, 0.2], dtype=torch.float64).repeat(12),
}


def targets(loss, n, k, seed=2):
    """Targets of which half is noise."""
    signal = draw(n, k, seed=seed)
    if isinstance(loss, SquaredError):
        return signal
    if isinstance(loss, SoftmaxLoss):
        return torch.eye(k).double()[signal.argmax(1)]
    return (signal > 0).double()


def run(objective, w, prior, rule, direction, settings):
    """State and linearisation where training by full steps ends."""
    state = State.at_weights(w, objective, prior, prior.initial(objective.total_weight))
    training = Training(state, FullStep(rule, direction, settings), settings)
    training.run(settings.max_iter)
    return training.state, training.linearisation


def score_of(state, linearisation):
    return predictive_score(state, leave_one_out(state, linearisation))


def trained(network, loss, X, Y, s, direction, l2, iterations=50, tol=0.0, w=None, root=None):
    """Where training with a fixed prior ends: nothing changes any more."""
    objective = Objective(network, loss, X, Y, s, root)
    if w is None:
        w = torch.from_numpy(network.initial_weights(np.random.RandomState(0)))
    prior = FixedPrior(network, l2, isinstance(loss, SquaredError), w)
    # One undamped step of a linear network is exact, where the objective cannot tell the last digits.
    rule = as_rule(0) if network.hidden_layer_sizes == () and isinstance(loss, SquaredError) else GainRatio()
    return run(objective, w, prior, rule, direction, Settings(max_iter=iterations, tol=tol))


def without(s, i):
    """Weights without one copy of row i, or without the whole of it where there is less than one."""
    left = s.clone()
    left[i] -= min(1.0, float(s[i])) if s.sum() > len(s) else float(s[i])
    return left


def ridge_without(i, X, Y, s, alpha, noise_precision, penalty, precision=None):
    """Output (k,) and variance (k,) at row i of Bayesian ridge regressions without it; ``penalty`` (d + 1,).

    Noise precisions are multiplied by a ``precision`` (n, k) of the targets.
    """
    U = alpha * torch.cat([X, torch.ones(len(X), 1, dtype=X.dtype)], 1)
    outputs, variances = [], []
    precision = torch.ones_like(Y) if precision is None else precision
    for y, beta, of_rows in zip(Y.T, noise_precision, precision.T, strict=True):
        left = without(s, i) * of_rows
        A = beta * U.T @ (left[:, None] * U) + torch.diag(penalty)
        outputs.append(float(U[i] @ torch.linalg.solve(A, beta * U.T @ (left * y))))
        variances.append(float(U[i] @ torch.linalg.solve(A, U[i])))
    return outputs, variances


# --- Linear networks with squared error: exact


@each_direction
@pytest.mark.parametrize("weights", ["ones", "repeated", "small"])
@pytest.mark.parametrize("k", [1, 2])
def test_interpolation_equals_shortest_solutions_without_each_sample(direction, weights, k):
    """Leverages are 1 but for 1e-10, where the primal has but rounding errors."""
    n, d, s = 24, 40, WEIGHTS[weights]
    X, Y = draw(n, d), draw(n, k, seed=1)
    state, linearisation = trained(FeedForward(d, k, ()), SquaredError(), X, Y, s, direction, 1e-10)
    left_out = leave_one_out(state.concluded(linearisation.direction), linearisation)
    U = np.hstack([X, np.ones((n, 1))])
    for i in range(n):
        # The other copies of a repeated row tell its target.
        others = (np.arange(n) != i) | (float(s[i]) > 1)
        expected = U[i] @ np.linalg.pinv(U[others]) @ Y[others].numpy()
        np.testing.assert_allclose(left_out.outputs[i], expected, rtol=1e-3, atol=1e-3)


@each_direction
@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize(("k", "alpha"), [(1, 1.0), (3, 0.5)])
def test_ridge_equals_refits_without_each_sample(direction, weights, k, alpha):
    n, d, l2 = 24, 4, 0.03
    X, Y, s = draw(n, d), draw(n, k, seed=1) + 1, WEIGHTS[weights]
    fit = trained(FeedForward(d, k, (), alpha=alpha), SquaredError(), X, Y, s, direction, l2)
    outputs, variances = leave_one_out(*fit)
    assert outputs.shape == variances.shape == (n, k)
    # The penalty in sum form stays the same: one sample less does not change what is known of the weights.
    penalty = torch.full((d + 1,), l2 * float(s.sum()), dtype=torch.float64)
    for i in range(n):
        expected, variance = ridge_without(i, X, Y, s, alpha, [1.0] * k, penalty)
        np.testing.assert_allclose(outputs[i], expected, rtol=1e-8, atol=1e-9)
        np.testing.assert_allclose(variances[i], variance, rtol=1e-8)


@each_direction
def test_score_is_the_normal_density_of_what_was_left_out(direction):
    n, d, k, l2 = 24, 3, 2, 0.05
    X, s = draw(n, d), WEIGHTS["mixed"]
    Y = X[:, :k] * 2 + draw(n, k, seed=1) * torch.tensor([0.3, 1.0])
    state, linearisation = trained(FeedForward(d, k, ()), SquaredError(), X, Y, s, direction, l2)
    # No noise level yet: less the loss, as for log losses.
    outputs, _ = leave_one_out(state, linearisation)
    error = -0.5 * float(s @ (outputs - Y).square().sum(1)) / float(s.sum())
    assert score_of(state, linearisation) == pytest.approx(error, rel=1e-12)

    state = state.concluded(linearisation.direction)
    noise = state.estimates.squared_scale.numpy()
    common = math.exp(np.log(noise).mean())
    penalty, total = torch.full((d + 1,), l2 * float(s.sum()) / common, dtype=torch.float64), 0.0
    for i in range(n):
        expected, variance = ridge_without(i, X, Y, s, 1.0, [1 / common] * k, penalty)
        total += float(s[i]) * norm(expected, np.sqrt(noise + variance)).logpdf(Y[i].numpy()).sum()
    assert score_of(state, linearisation) == pytest.approx(total / float(s.sum()), rel=1e-9)


@each_direction
def test_targets_with_precisions_are_left_out_of_generalised_least_squares(direction):
    n, d, k, l2 = 24, 3, 2, 0.05
    X, s, root = draw(n, d), WEIGHTS["mixed"], (0.7 * draw(n, k, seed=7)).exp()
    Y = X[:, :k] * 2 + draw(n, k, seed=1) / root * torch.tensor([0.3, 1.0])
    state, linearisation = trained(FeedForward(d, k, ()), SquaredError(), X, Y, s, direction, l2, root=root)
    state = state.concluded(linearisation.direction)
    outputs, variances = leave_one_out(state, linearisation)
    noise = state.estimates.squared_scale.numpy()
    common = math.exp(np.log(noise).mean())
    penalty, total = torch.full((d + 1,), l2 * float(s.sum()) / common, dtype=torch.float64), 0.0
    for i in range(n):
        expected, variance = ridge_without(i, X, Y, s, 1.0, [1 / common] * k, penalty, root.square())
        np.testing.assert_allclose(outputs[i], expected, rtol=1e-8, atol=1e-9)
        np.testing.assert_allclose(variances[i], variance, rtol=1e-8)
        of_row = noise / root[i].square().numpy()
        total += float(s[i]) * norm(expected, np.sqrt(of_row + variance)).logpdf(Y[i].numpy()).sum()
    assert score_of(state, linearisation) == pytest.approx(total / float(s.sum()), rel=1e-9)


@each_direction
@pytest.mark.parametrize("groups", ["feature", "layer", "shared", "unit"])
def test_score_with_estimated_precisions_and_noise_levels(direction, groups):
    """Outputs of unequal noise; an allowance for the choice of the precisions in use, and half a nat for each."""
    n, d, k = 24, 3, 2
    X, s = draw(n, d), WEIGHTS["repeated"]
    Y = X[:, :k] * 2 + draw(n, k, seed=1) * torch.tensor([0.3, 1.0])
    network = FeedForward(d, k, ())
    w = torch.zeros(network.n_weights, dtype=torch.float64)
    unit = groups == "unit"
    prior = EvidencePrior(network, Groups.of("layer" if unit else groups, network, w.device), 1.0, w, unit)
    settings = Settings(max_iter=200, tol=0.0)
    fit = run(Objective(network, SquaredError(), X, Y, s), w, prior, GainRatio(), direction, settings)
    estimates = fit[0].estimates
    beta = 1 / estimates.squared_scale
    penalty = estimates.precision[0] * float(beta.log().mean().exp()) * float(s.sum())
    in_use = int((estimates.groups.gamma > 0.5).sum()) if groups != "unit" else 0
    total = -0.5 * in_use - math.log(comb({"feature": d + 1, "layer": 2, "shared": 1, "unit": 0}[groups], in_use))
    for i in range(n):
        expected, variance = ridge_without(i, X, Y, s, 1.0, beta.tolist(), penalty)
        total += float(s[i]) * norm(expected, np.sqrt(1 / beta.numpy() + variance)).logpdf(Y[i].numpy()).sum()
    # The weights are the minimum of the last estimates but one.
    assert score_of(*fit) == pytest.approx(total / float(s.sum()), rel=1e-6)


# --- Log losses: one Newton step from the minimum


def refit_log_loss(U, Y, s, penalty, W0):
    """Weights (d + 1, k) that minimise sum s l + penalty / 2 ||W||^2: multinomial for one-hot Y, else binary."""
    multinomial = Y.shape[1] > 1

    def objective(flat):
        W = flat.reshape(W0.shape)
        f = U @ W
        if multinomial:
            value, gradient = s @ (logsumexp(f, axis=1) - (Y * f).sum(1)), np.exp(log_softmax(f, axis=1)) - Y
        else:
            value, gradient = s @ (np.logaddexp(f, 0) - Y * f)[:, 0], 1 / (1 + np.exp(-f)) - Y
        return value + penalty / 2 * flat @ flat, (U.T @ (s[:, None] * gradient) + penalty * W).ravel()

    fit = minimize(objective, W0.ravel(), jac=True, method="BFGS", options={"gtol": 1e-8, "maxiter": 1000})
    assert np.abs(objective(fit.x)[1]).max() < 1e-6
    return fit.x.reshape(W0.shape)


@each_direction
@pytest.mark.parametrize("weights", ["ones", "repeated", "mixed"])
@pytest.mark.parametrize(("loss", "k"), [(LogLoss(), 1), (SoftmaxLoss(), 3)], ids=["binary", "softmax"])
def test_logistic_regression_is_close_to_refits(direction, weights, loss, k):
    n, d, l2 = 24, 2, 0.05
    X, s, Y = draw(n, d), WEIGHTS[weights], targets(loss, n, k)
    state, linearisation = trained(FeedForward(d, k, ()), loss, X, Y, s, direction, l2)
    outputs = leave_one_out(state, linearisation)[0].numpy()
    inside = state.at.outputs.numpy()
    U, penalty = np.column_stack([X, np.ones(n)]), l2 * float(s.sum())
    W = state.at.w.numpy().reshape(k, d + 1).T
    np.testing.assert_allclose(refit_log_loss(U, Y.numpy(), s.numpy(), penalty, 0 * W), W, atol=1e-5)
    expected = np.array([U[i] @ refit_log_loss(U, Y.numpy(), without(s, i).numpy(), penalty, W) for i in range(n)])
    move, error = np.linalg.norm(expected - inside, axis=1), np.linalg.norm(outputs - expected, axis=1)
    assert move.max() > 0.2
    # The curvature changes by a relative |df| along a move df of the outputs, for its own derivative is at most as
    # large as itself; half of that, times the move, is what a Newton step misses.
    assert (error <= move.max() / 2 * move + 1e-6).all()
    assert np.linalg.norm(error) < 0.2 * np.linalg.norm(move)


def test_score_of_log_losses_is_less_the_loss_of_what_was_left_out():
    n, k, s = 24, 3, WEIGHTS["mixed"]
    X, Y = draw(n, 2), targets(SoftmaxLoss(), n, k)
    state, linearisation = trained(FeedForward(2, k, ()), SoftmaxLoss(), X, Y, s, Primal, 0.05)
    log_p = log_softmax(leave_one_out(state, linearisation)[0].numpy(), axis=1)
    score = score_of(state, linearisation)
    assert score == pytest.approx(np.average((Y.numpy() * log_p).sum(1), weights=s), rel=1e-12)
    assert score < -state.at.loss


# --- Networks


NETWORKS = [
    (SquaredError(), FeedForward(3, 1, (5,))),
    (SquaredError(torch.tensor([0.5, 1.0, 2.0]).double()), FeedForward(3, 3, (4, 3), "silu", alpha=2.0)),
    (LogLoss(), FeedForward(3, 1, (5,), linear_path=False)),
    (LogLoss(), FeedForward(3, 3, (5,), "gelu")),
    (SoftmaxLoss(), FeedForward(3, 3, (6, 4))),
]


@pytest.mark.parametrize("weights", ["ones", "mixed"])
@pytest.mark.parametrize("budget", ["256", "0.001"], ids=["one-chunk", "chunks"])
@pytest.mark.parametrize(("loss", "network"), NETWORKS)
def test_primal_and_dual_leave_out_the_same(loss, network, weights, budget, monkeypatch):
    monkeypatch.setenv("SKGN_MEMORY_BUDGET_MB", budget)
    X, Y, s = draw(24, 3), targets(loss, 24, network.n_outputs), WEIGHTS[weights]
    primal = trained(network, loss, X, Y, s, Primal, 0.02, iterations=5)
    dual = trained(network, loss, X, Y, s, Dual, 0.02, iterations=0, w=primal[0].at.w)
    for a, b in zip(leave_one_out(*primal), leave_one_out(*dual), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-8)
    assert score_of(*primal) == pytest.approx(score_of(*dual), rel=1e-7)


@each_direction
def test_outputs_of_a_nonlinear_network_move_farther_than_its_tangents_say(direction):
    """1.3 times as far (docs/decisions.md); those of linear networks are compared with refits above."""
    n, network, l2 = 24, FeedForward(3, 1, (5,)), 0.02
    X, Y = draw(n, 3), draw(n, 1, seed=2)
    state, linearisation = trained(network, SquaredError(), X, Y, torch.ones(n).double(), direction, l2, iterations=5)
    J = jacobian(network, state.at.w, X)[:, 0]
    leverage = (J @ torch.linalg.solve(J.T @ J + n * l2 * torch.eye(J.shape[1]), J.T)).diagonal()[:, None]
    f = state.at.outputs
    expected = f + 1.3 * leverage / (1 - leverage) * (f - Y)
    torch.testing.assert_close(leave_one_out(state, linearisation).outputs, expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(("loss", "k"), [(SquaredError(), 1), (LogLoss(), 1), (SoftmaxLoss(), 3)])
def test_score_prefers_the_model_that_predicts_new_samples_better(loss, k):
    """An overfitted network has the lower loss on its samples, the lower score, and the higher loss on new ones."""
    n, network = 60, FeedForward(3, k, (8,))
    X, new = draw(n, 3), draw(1000, 3, seed=5)

    def target(X, seed):
        noise = draw(len(X), k, seed=seed)
        return targets_of(2 * X[:, :1] * torch.linspace(-1, 1, k).double() if k > 1 else 2 * X[:, :1], noise)

    def targets_of(signal, noise):
        f = signal + noise
        if isinstance(loss, SquaredError):
            return f
        return (f > 0).double() if k == 1 else torch.eye(k).double()[f.argmax(1)]

    Y, new_Y = target(X, 1), target(new, 6)
    s = torch.ones(n, dtype=torch.float64)
    fits = [trained(network, loss, X, Y, s, Primal, l2, iterations=100, tol=1e-6) for l2 in (1e-1, 1e-4)]
    sensible, overfitted = fits
    outputs = [network.forward(network.with_bias(new), state.at.w)[0] for state, _ in fits]
    new_loss = [float(loss.value(f, new_Y).mean()) for f in outputs]
    assert new_loss[0] < new_loss[1]
    assert overfitted[0].at.loss < sensible[0].at.loss
    score = score_of(*sensible)
    assert score_of(*overfitted) < score
    # As an estimate of the loss on new samples it is within their sampling error, where the fit is a smooth one.
    assert score == pytest.approx(-new_loss[0], abs=0.25)


@each_direction
@pytest.mark.parametrize("iterations", [0, 1, 2, 5])
@pytest.mark.parametrize("budget", ["256", "0.001"], ids=["kept", "chunks"])
def test_no_sample_has_more_than_all_leverage_while_noise_levels_change(direction, iterations, budget, monkeypatch):
    """One output is constant: its noise level falls by orders of magnitude an iteration."""
    monkeypatch.setenv("SKGN_MEMORY_BUDGET_MB", budget)
    network, n = FeedForward(3, 2, (5,)), 24
    X, s = draw(n, 3), torch.ones(n, dtype=torch.float64)
    Y = torch.cat([X[:, :1] ** 2, torch.zeros(n, 1)], 1)
    w = torch.from_numpy(network.initial_weights(np.random.RandomState(0)))
    prior = EvidencePrior(network, Groups.of("layer", network, w.device), 1.0, w)
    objective = Objective(network, SquaredError(), X, Y, s)
    settings = Settings(max_iter=iterations, tol=0.0)
    state, linearisation = run(objective, w, prior, GainRatio(), direction, settings)
    outputs, variances = leave_one_out(state, linearisation)
    assert torch.isfinite(variances).all()
    # Without a sample its error is larger, in the norm of the noise.
    inside = linearisation.loss.value(state.at.outputs, Y)
    assert (linearisation.loss.value(outputs, Y) >= inside * (1 - 1e-9)).all()


@each_direction
def test_undetermined_weights_have_no_score(direction):
    X, Y = draw(5, 3), draw(5, 1, seed=1)
    fit = trained(FeedForward(3, 1, (8,)), SquaredError(), X, Y, torch.ones(5).double(), direction, 0.0, iterations=3)
    assert leave_one_out(*fit) is None
    assert score_of(*fit) == -math.inf


@each_direction
@pytest.mark.parametrize("l2", [1e-9, 1e-14])
def test_a_sample_that_determines_a_weight_is_predicted_by_the_other_weights(direction, l2):
    """A column of one sample alone: without it the prior keeps its weight at 0. With hardly any prior nothing tells."""
    X, Y, s = draw(12, 2), draw(12, 1, seed=1), torch.ones(12).double()
    X[:, 1] = torch.eye(12)[3]
    fit = trained(FeedForward(2, 1, ()), SquaredError(), X, Y, s, direction, l2)
    outputs, _ = leave_one_out(*fit)
    # Refits without each sample; lstsq has the least weights. An unfitted network predicts 0.
    U, y = np.column_stack([X, np.ones(12)]), Y[:, 0].numpy()
    expected = [np.linalg.lstsq(np.delete(U, i, 0), np.delete(y, i), rcond=None)[0] @ U[i] for i in range(12)]
    if l2 < 1e-12:
        assert torch.isnan(outputs[:, 0]).tolist() == [i == 3 for i in range(12)]
        expected[3] = 0.0
    else:
        np.testing.assert_allclose(outputs[:, 0], expected, rtol=1e-4)
    # Where hardly any prior is left, the dual has no more digits.
    assert score_of(*fit) == pytest.approx(-0.5 * np.square(expected - y).mean(), rel=1e-3)


def far_rows(n: int = 40) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows of a line, two of them so far out that they determine their own outputs."""
    X = draw(n, 3)
    X[:, 1:] *= 1e-3
    X[5, 1], X[9, 2] = 30.0, -100.0
    return X, X[:, :1] + 1e-3 * X[:, 1:2] + draw(n, 1, seed=1) * 1e-4


@each_direction
def test_far_rows_are_predicted_by_a_linear_network_as_refits_without_them_do(direction):
    X, Y = far_rows()
    n, l2 = len(Y), 1e-8
    fit = trained(FeedForward(3, 1, ()), SquaredError(), X, Y, torch.ones(n).double(), direction, l2)
    outputs, variances = leave_one_out(*fit)
    U, y = np.column_stack([X, np.ones(n)]), Y[:, 0].numpy()
    for i in range(n):
        # Rows of the prior below those of the data: least squares without the normal equations.
        rows = np.vstack([np.delete(U, i, 0), math.sqrt(n * l2) * np.eye(4)])
        w = np.linalg.lstsq(rows, np.append(np.delete(y, i), np.zeros(4)), rcond=None)[0]
        half = np.linalg.lstsq(rows.T, U[i], rcond=None)[0]
        assert float(outputs[i, 0]) == pytest.approx(w @ U[i], rel=1e-3)
        assert float(variances[i, 0]) == pytest.approx(half @ half, rel=1e-3)


def test_far_rows_have_no_prediction_in_float32_and_where_the_factor_would_be_large(monkeypatch):
    X, Y = far_rows()
    known = []
    for dtype, most in ((torch.float64, 4e6), (torch.float64, 100), (torch.float32, 4e6)):
        monkeypatch.setattr(module, "_MOST_ENTRIES", most)
        s = torch.ones(len(Y)).to(dtype)
        fit = trained(FeedForward(3, 1, ()), SquaredError(), X.to(dtype), Y.to(dtype), s, Primal, 1e-8)
        known.append(torch.isfinite(leave_one_out(*fit).outputs[:, 0]))
    assert known[0].all()
    assert not known[1][[5, 9]].any() and not known[2][[5, 9]].any()


def test_the_error_of_an_unfitted_network_is_the_spread_of_the_targets():
    """The noise of the fit may be next to nothing, and says nothing of a sample without a prediction."""
    Y, noise = torch.tensor([[0.7], [-1.0]]), torch.tensor([1e-6])
    left_out = LeftOut(torch.tensor([[math.nan], [-0.9]]), torch.tensor([[math.nan], [0.5]]))
    found = _log_density(samples(Y, torch.ones(2)), left_out, SquaredError(), noise)
    expected = norm(0, math.sqrt(1 + 1e-6)).logpdf(0.7) + norm(-0.9, math.sqrt(0.5 + 1e-6)).logpdf(-1.0)
    assert float(found) == pytest.approx(expected, rel=1e-5)


@each_direction
@pytest.mark.parametrize("alone", [5, 7])
def test_there_is_none_where_most_samples_have_no_prediction(direction, alone):
    """So many samples have a column of their own."""
    X, Y, s = (
        torch.cat([draw(12, 1), torch.eye(12).double()[:, :alone]], 1),
        draw(12, 1, seed=1),
        torch.ones(12).double(),
    )
    found = leave_one_out(*trained(FeedForward(1 + alone, 1, ()), SquaredError(), X, Y, s, direction, 1e-14))
    assert (found is None) == (alone == 7)


@each_direction
@pytest.mark.parametrize("before", [1e-3, 1e-2])
def test_a_linear_network_that_interpolates_is_predicted_exactly(direction, before):
    """Also where the precision has fallen since the last step, as it does without noise: residuals fall with it."""
    n, l2 = 12, 1e-3
    X, Y = draw(n, n), draw(n, 1, seed=1)
    network = FeedForward(n, 1, ())
    state, linearisation = trained(network, SquaredError(), X, Y, torch.ones(n).double(), direction, before)
    now = FixedPrior(network, l2, True, state.at.w).initial(n)
    state = replace(state, estimates=replace(now, squared_scale=state.estimates.squared_scale))
    U, y = np.column_stack([X, np.ones(n)]), Y[:, 0].numpy()
    A = U.T @ U / n + l2 * np.eye(n + 1)
    effective = n + 1 - l2 * np.trace(np.linalg.inv(A))
    assert effective > 0.95 * n
    state = replace(state, estimates=replace(state.estimates, n_effective_parameters=effective))
    expected = [
        np.linalg.solve(A - np.outer(u, u) / n, (U.T @ y - u * target) / n) @ u for u, target in zip(U, y, strict=True)
    ]
    np.testing.assert_allclose(leave_one_out(state, linearisation).outputs[:, 0], expected, rtol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize("loss", [SquaredError(), LogLoss()])
def test_the_only_sample_is_predicted_by_the_prior(n, loss, dtype):
    """Without all the data nothing but the prior is left: outputs 0, of the prior's variance."""
    X = draw(1, 3).expand(n, 3).to(dtype)
    Y, s = torch.ones(n, 1, dtype=dtype), torch.ones(n, dtype=dtype)
    fit = trained(FeedForward(3, 1, ()), loss, X[:1], Y[:1], s[:1] * (1 if n == 1 else 0.3), Primal, 0.1)
    outputs, variances = leave_one_out(*fit)
    assert outputs.dtype == torch.float64
    expected = float(X[0].double().square().sum() + 1) / (0.1 * fit[0].objective.total_weight)
    # 1 - leverage is 1 / 80: that many rounding errors, in float32.
    assert float(variances[0, 0]) == pytest.approx(expected, rel=1e-3 if dtype == torch.float32 else 1e-9)
    # Exact for squared error, where one Newton step is all the way.
    assert abs(float(outputs[0, 0])) < (1e-3 if isinstance(loss, SquaredError) else 1.0)


# --- What left-out samples decide


def samples(Y, weight):
    """As much of an objective as sums over left-out samples need."""
    objective = SimpleNamespace(Y=Y, sample_weight=weight, root_precision=None)
    objective.sum = lambda function, *args: function(objective, *args)
    return objective


def temperature(outputs, loss, Y, weight):
    left_out, nats = [LeftOut(f, None) for f in outputs], [0.0] * len(outputs)
    return best_temperature(LeftOutSamples(samples(Y, weight), loss, left_out, nats), equal_weights(len(outputs)))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("loss", "k"), [(SoftmaxLoss(), 3), (LogLoss(), 1), (LogLoss(), 3)])
@pytest.mark.parametrize("confidence", [0.4, 1.0, 4.0])
def test_temperature_predicts_what_was_left_out_best(loss, k, weighted, confidence):
    """Against SciPy's search with scikit-learn's log loss; a normal density of log T is added."""
    n = 100
    logits = [2 * draw(n, k, seed=seed) for seed in (0, 1)]
    noise = draw(n, k, seed=7)
    signal = (logits[0] + logits[1]) / 2 + noise
    Y = torch.eye(k).double()[signal.argmax(1)] if isinstance(loss, SoftmaxLoss) else (signal > 0).double()
    s = draw(n, seed=3).abs() if weighted else torch.ones(n).double()
    outputs = [confidence * f for f in logits]
    y, weight = Y.numpy(), s.numpy()

    def objective(log_T):
        if isinstance(loss, SoftmaxLoss):
            p = np.mean([np.exp(log_softmax(f.numpy() / np.exp(log_T), axis=1)) for f in outputs], axis=0)
            total = log_loss(y.argmax(1), p, sample_weight=weight, normalize=False)
        else:
            p = np.mean([expit(f.numpy() / np.exp(log_T)) for f in outputs], axis=0)
            total = sum(log_loss(y[:, j], p[:, j], sample_weight=weight, normalize=False) for j in range(k))
        return total + log_T**2 / 2

    best = minimize_scalar(objective, bounds=(-2, 2), method="bounded").x
    assert math.log(temperature(outputs, loss, Y, s)) == pytest.approx(best, abs=0.001)


def test_temperature_of_a_flawless_prediction_stays_within_its_bounds():
    f = 100 * torch.tensor([[1.0], [-1.0]]).double()
    assert math.exp(-2) <= temperature([f], LogLoss(), (f > 0).double(), torch.ones(2).double()) <= 1


def test_samples_without_a_prediction_do_not_count_towards_the_temperature():
    f, s = draw(40, 1), torch.ones(40).double()
    Y = (f + draw(40, 1, seed=1) > 0).double()
    expected = temperature([f, 2 * f], LogLoss(), Y, s)
    unknown = torch.cat([f, torch.full((2, 1), math.inf).double(), torch.full((1, 1), math.nan).double()])
    more = torch.cat([Y, torch.ones(3, 1).double()])
    assert temperature([unknown, 2 * unknown], LogLoss(), more, torch.ones(43).double()) == expected
    assert temperature([unknown[40:]], LogLoss(), more[40:], torch.ones(3).double()) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_classifier_divides_its_outputs_by_the_temperature(n_classes):
    X = draw(150, 3).numpy()
    y = np.digitize(X[:, 0] + 0.3 * X[:, 1], [0.0] if n_classes == 2 else [-0.5, 0.5])
    model = GNClassifier((5,), n_estimators=2, random_state=0).fit(X, y)
    assert model.temperature_ != 1.0
    # What members say on their own, before the division.
    logits = []
    for member in model.estimators_:
        alone = copy.copy(model)
        alone.estimators_, alone.weights_, alone.temperature_ = [member], np.ones(1), 1.0
        logits.append(alone.decision_function(X) / model.temperature_)
    if n_classes == 2:
        p = [np.column_stack([expit(-f), expit(f)]) for f in logits]
    else:
        p = [np.exp(log_softmax(f, axis=1)) for f in logits]
    expected = np.average(p, axis=0, weights=model.weights_)
    np.testing.assert_allclose(model.predict_proba(X), expected, rtol=1e-9)
    assert GNClassifier(l2_regularization=1e-3, n_estimators=1).fit(X, y).temperature_ == 1.0


@pytest.mark.parametrize(
    ("eigenvalue", "axis"),
    [(1 - 1e-13, (1, 1)), (1 - 1e-13, (1, 0)), (1 - 1e-13, (3, -1)), (0.9, (1, 1)), (0.9, (3, -1))],
)
def test_a_sample_that_determines_a_combination_of_its_outputs_has_no_prediction(eigenvalue, axis):
    """Leverages of rank one, whose diagonals may be far below 1."""
    u, scale = np.array(axis) / np.linalg.norm(axis), np.array([0.5, 2.0])
    H = np.diag(scale)
    C = np.diag(scale**-0.5) @ (eigenvalue * np.outer(u, u)) @ np.diag(scale**-0.5)
    f, g = np.array([0.3, 0.7]), H @ np.array([0.3, 0.7])
    Y = torch.zeros(1, 2).double()
    objective = SimpleNamespace(
        sample_weight=torch.ones(1).double(),
        output_jacobian=lambda at: None,
        loss_gradient=lambda f, loss: loss.gradient(f, Y),
        loss_root=lambda f, rows, loss: loss.curvature_root(f, Y[rows]),
    )
    at, loss = SimpleNamespace(outputs=torch.tensor(f)[None]), SquaredError(torch.tensor(scale))
    left_out = _leave_out(objective, at, lambda jacobian: iter([torch.tensor(C)[None]]), loss, 1.0, 1.0, 1.0)
    if eigenvalue > 0.99:
        assert torch.isnan(left_out.outputs).all() and torch.isnan(left_out.variances).all()
    else:
        expected = f + C @ np.linalg.inv(np.eye(2) - H @ C) @ g
        np.testing.assert_allclose(left_out.outputs[0], expected, rtol=1e-10)


@pytest.mark.parametrize("most", [1.0, math.inf])
@pytest.mark.parametrize("sizes", [(5,), (2, 3), (1, 1, 3)], ids=str)
def test_each_of_several_classes_is_left_out_of_dense_blocks_some_at_a_time(sizes, most):
    """Outputs and variances as the formula has them, for blocks and roots that differ between samples."""
    n, k, loss, beta, scale = 5, 4, SoftmaxLoss(), 0.8, 3.0
    f, weight = draw(n, k, seed=1), torch.tensor([1.0, 2.0, 0.5, 1.0, 3.0]).double()
    Y, A = torch.eye(k).double()[[0, 2, 1, 3, 3]], draw(n, k, k, seed=2)
    C = A @ A.mT + torch.eye(k)
    objective = SimpleNamespace(
        sample_weight=weight,
        output_jacobian=lambda at: None,
        loss_gradient=lambda f, loss: loss.gradient(f, Y),
        loss_root=lambda f, rows, loss: loss.curvature_root(f, Y[rows]),
    )
    found = _leave_out(
        objective, SimpleNamespace(outputs=f), lambda jacobian: iter(C.split(sizes)), loss, beta, scale, most
    )
    p = torch.softmax(f, 1)
    for i in range(n):
        copy = beta * min(float(weight[i]), most)
        H = copy * (torch.diag(p[i]) - torch.outer(p[i], p[i])).numpy()
        without = np.linalg.inv(np.eye(k) - C[i].numpy() / scale @ H) @ C[i].numpy() / scale
        moved = f[i].numpy() + without @ (copy * (p[i] - Y[i]).numpy())
        np.testing.assert_allclose(found.outputs[i], moved, rtol=1e-9)
        np.testing.assert_allclose(found.variances[i], without.diagonal().clip(0), rtol=1e-9)
