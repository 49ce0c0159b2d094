"""Prediction of each sample as if the trained network had not seen it, without training it again.

At a minimum w of the objective, make one Newton step on the objective without one copy of sample i. It moves the
outputs of sample i to

    f_-i = f_i + C_i (I - H_i C_i)^-1 g_i        C_i = J_i A^-1 J_i'

where A is the posterior's precision matrix, and g_i and H_i are the gradient and the curvature of the copy's summed
loss. Without the copy, the covariance of the outputs is ``C_i (I - H_i C_i)^-1``. Both are exact for a linear network
with squared error and fixed precisions. A sample of weight below 1 has no copy, and none has one where the mean weight
is at most 1. It is left out as a whole, with g_i and H_i times its weight.

References
----------
D. Pregibon, Logistic regression diagnostics, Annals of Statistics 9 (1981).
K. Rahnama Rad and A. Maleki, A scalable estimate of the out-of-sample prediction error via approximate leave-one-out
cross-validation, JRSS B 82 (2020).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

from .evidence import log_ways
from .jacobian import Jacobian
from .losses import Loss, geometric_mean
from .mixture import voters
from .objective import Evaluation, Objective
from .state import Linearisation, State

__all__ = [
    "LeftOut",
    "allowance",
    "leave_one_out",
    "log_likelihood",
    "log_mixture",
    "log_probabilities",
    "predicted",
    "predicted_rows",
    "predictive_score",
    "temperature",
]

#: Nats by which the leave-one-out score is too good for each precision in use that the same data have estimated.
_NATS_PER_PRECISION = 0.5

#: A sample that determines its own output to within this part has no prediction without itself.
_LEAST_FREEDOM = 1e-6

#: Left-out predictions are known where so large a part of the samples has one.
_LEAST_PREDICTED = 0.5

#: A nonlinear network with so many effective parameters per observation interpolates; its left-out predictions are
#: noise. Those of a linear one are exact.
_MOST_EFFECTIVE = 0.95

#: Temperatures are sought between 1 / e^2 and e^2; their logarithm is normal with variance 1 before the data are seen.
_LARGEST_LOG_TEMPERATURE = 2.0


class LeftOut(NamedTuple):
    """Outputs (n, k) and their covariances (n, k, k), each predicted without its own sample."""

    outputs: Tensor
    covariance: Tensor


def leave_one_out(state: State, linearisation: Linearisation) -> LeftOut | None:
    """Predict each sample without itself; None where hardly any can be, and where a nonlinear network interpolates."""
    objective, estimates = state.objective, state.estimates
    most = _MOST_EFFECTIVE * objective.total_weight * objective.n_columns
    if not objective.network.is_linear and (estimates.n_effective_parameters or 0.0) > most:
        return None
    blocks = linearisation.direction.output_blocks(estimates.precision)
    if blocks is None:
        return None
    beta = 1.0 if estimates.squared_scale is None else 1 / float(geometric_mean(estimates.squared_scale))
    leave_out = partial(
        _leave_out,
        blocks=blocks,
        # That of the factorised system, so that no leverage exceeds 1.
        loss=linearisation.loss,
        beta=beta,
        scale=beta * objective.total_weight,
        # Of repeated observations one is left out, and else the whole row.
        most=1.0 if objective.total_weight > objective.n_samples else math.inf,
    )
    left_out: LeftOut = objective.apply(leave_out, state.at)
    # Others have no sample in common with a member that predicts hardly any.
    known = float(objective.sum(_weight_predicted, left_out))
    return left_out if known > _LEAST_PREDICTED * objective.total_weight else None


def _leave_out(
    objective: Objective,
    at: Evaluation,
    blocks: Callable[[Jacobian], Tensor],
    loss: Loss,
    beta: float,
    scale: float,
    most: float,
) -> LeftOut:
    C = blocks(objective.output_jacobian(at)) / scale
    copy = beta * objective.sample_weight.to(C).clamp(max=most)[:, None, None]
    gradient = loss.gradient(at.outputs, objective.Y).to(C)[..., None]
    root = loss.curvature_root(at.outputs, objective.Y).to(C)
    half = copy * C @ root
    leverage = half @ root.mT
    eye = torch.eye(leverage.shape[1], dtype=C.dtype, device=C.device)
    without, _ = torch.linalg.solve_ex(eye - leverage, C)
    determined = _has_eigenvalue_of_1(root.mT @ half)
    without = torch.where(determined[:, None, None], math.nan, without)
    return LeftOut(at.outputs.to(C) + (without @ (copy * gradient))[..., 0], without)


def _has_eigenvalue_of_1(leverage: Tensor) -> Tensor:
    """Whether the largest eigenvalue of each symmetric leverage (n, c, c) is 1 but for the least freedom, (n,).

    A combination of outputs may be determined where none of them is. Below that eigenvalue the rest to it has a
    Cholesky factor, which costs less than the eigenvalues do.
    """
    most = torch.eye(leverage.shape[1], dtype=leverage.dtype, device=leverage.device) * (1 - _LEAST_FREEDOM)
    _, failed = torch.linalg.cholesky_ex(most - leverage)
    return failed > 0


def _weight_predicted(objective: Objective, left_out: LeftOut) -> Tensor:
    """Weight of the samples that are predicted without themselves."""
    return objective.sample_weight[predicted([left_out])].sum()


def predictive_score(state: State, left_out: LeftOut | None) -> float:
    """Mean log density of left-out samples, minus an allowance for the estimated precisions; higher is better.

    For regression, the density is that of the noise, widened by the variance of the output. For log losses it is the
    likelihood of the most probable weights. A sample that has no prediction without itself counts as if the network had
    not been fitted.
    """
    if left_out is None:
        return -math.inf
    objective, scale = state.objective, state.estimates.squared_scale
    log_density = objective.sum(partial(_log_density, loss=objective.data_loss, noise=scale), left_out)
    score = float(log_density) / objective.total_weight - allowance(state)
    return score if math.isfinite(score) else -math.inf


def allowance(state: State) -> float:
    """Nats per sample by which the left-out log density is too high, because all samples have estimated the precisions.

    Each of the k precisions in use counts half a nat. The choice of these k among all m counts the logarithm of the
    number of ways to choose: the evidence keeps those features of noise that fit the noise best. The same samples may
    also have chosen the columns of the inputs.
    """
    m, k = state.prior.n_precisions, state.estimates.n_in_use
    return (_NATS_PER_PRECISION * k + log_ways(m, k) + state.prior.log_choices) / state.objective.total_weight


def _squared_scale(left_out: LeftOut, noise: Tensor) -> Tensor:
    """Squared scales (n, k) of the predictions: the noise's (k,), widened by the variance of the outputs."""
    return noise + left_out.covariance.diagonal(dim1=1, dim2=2).clamp(min=0)


def _log_density(objective: Objective, left_out: LeftOut, loss: Loss, noise: Tensor | None) -> Tensor:
    # An unfitted network predicts 0, and is off by the spread of the targets, the unit of training.
    outputs, covariance = left_out
    left_out = LeftOut(outputs.nan_to_num(0.0, math.inf, -math.inf), covariance.nan_to_num(1.0, math.inf, -math.inf))
    outputs = left_out.outputs
    Y, weight = objective.Y.to(outputs), objective.sample_weight.to(outputs)
    if noise is not None and loss.has_scale:
        return loss.log_density(outputs - Y, _squared_scale(left_out, noise)) @ weight
    normaliser = 0.0 if noise is None else loss.log_normaliser(1 / noise)
    return (loss.log_likelihood(outputs, Y) + normaliser) @ weight


def predicted(left_out: Sequence[LeftOut]) -> Tensor:
    """Tell of each sample (n,) whether all members can predict it without it."""
    return torch.stack([torch.isfinite(member.outputs).all(1) for member in left_out]).all(0)


def predicted_rows(objective: Objective, left_out: Sequence[LeftOut]) -> tuple[Tensor, Tensor, Tensor]:
    """Keep the samples that all members can predict without them: outputs (members, n, k), targets and weights.

    A sample that alone determines a weight has no prediction without itself.
    """
    f, rows = torch.stack([member.outputs for member in left_out]), predicted(left_out)
    return f[:, rows], objective.Y.to(f)[rows], objective.sample_weight.to(f)[rows]


def log_probabilities(
    objective: Objective, left_out: Sequence[LeftOut], loss: Loss, T: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Log likelihood of each left-out sample under each member, (members, n), and weights (n,).

    Outputs are divided by T. The ``loss`` must have a likelihood. Each label counts as a sample of its own.
    """
    f, Y, weight = predicted_rows(objective, left_out)
    if loss.independent_labels:
        weight = weight.repeat_interleave(Y.shape[1])
        f, Y = f.reshape(len(f), -1, 1), Y.reshape(-1, 1)
    return torch.stack([loss.log_likelihood(g / T, Y) for g in f]), weight


def log_likelihood(objective: Objective, *left_out: LeftOut, weights: np.ndarray, loss: Loss, T: float) -> Tensor:
    """Log likelihood of the left-out samples under the mean probabilities of members whose outputs are divided by T.

    The ``weights`` of the members weigh the mean. ``loss`` is a log loss, so that ``exp(-value)`` is a likelihood.
    """
    counted, weights = voters(left_out, weights)
    log_p, weight = log_probabilities(objective, counted, loss, T)
    return log_mixture(log_p, weights) @ weight


def log_mixture(log_p: Tensor, weights: np.ndarray) -> Tensor:
    """Log likelihood (n,) of samples under a mixture of members, whose own log likelihoods are (members, n)."""
    return torch.logsumexp(log_p + log_p.new_tensor(weights).log()[:, None], 0)


def temperature(log_likelihood: Callable[[float], float]) -> float:
    """Find the T to divide the members' outputs by, so that their mean probabilities predict left-out samples best.

    Regularised networks are unsure of well separated classes, and overfitted networks are too sure. T maximises
    ``log_likelihood(T)`` plus the log density of a standard normal log T.

    References
    ----------
    C. Guo, G. Pleiss, Y. Sun and K. Q. Weinberger, On calibration of modern neural networks, ICML 2017.
    """

    def negative_log_posterior(log_T: float) -> float:
        return 0.5 * log_T**2 - log_likelihood(math.exp(log_T))

    bounds = (-_LARGEST_LOG_TEMPERATURE, _LARGEST_LOG_TEMPERATURE)
    return math.exp(minimize_scalar(negative_log_posterior, bounds=bounds, method="bounded").x)
