"""How well a trained network predicts each sample as if it had not seen it, without training it again.

At a minimum w of the objective, one Newton step on the objective without one copy of sample i moves its outputs to

    f_-i = f_i + C_i (I - H_i C_i)^-1 g_i        C_i = J_i A^-1 J_i'

with A the posterior's precision matrix and g_i, H_i the gradient and the curvature of the copy's summed loss. The
outputs' covariance without it is ``C_i (I - H_i C_i)^-1``. Both are exact for a linear network with squared error and
fixed precisions. A sample of weight below 1 is left out as a whole, g_i and H_i times its weight: there is no copy.

References
----------
D. Pregibon, Logistic regression diagnostics, Annals of Statistics 9 (1981).
K. Rahnama Rad and A. Maleki, A scalable estimate of the out-of-sample prediction error via approximate leave-one-out
cross-validation, JRSS B 82 (2020).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .training import Training

__all__ = ["leave_one_out", "predictive_score"]

#: Estimating one precision from the same data makes the leave-one-out score too good by up to this many nats: its
#: excess over the test score was 0.2 to 0.5 nats a precision (docs/benchmarks.md).
_NATS_PER_PRECISION = 0.5


def leave_one_out(training: Training) -> tuple[Tensor, Tensor] | None:
    """Outputs (n, k) and their covariances (n, k, k), each without its own sample.

    None where data and prior leave the weights undetermined.
    """
    objective, at, prior, loss = training.objective, training.at, training.prior, training.linearised_loss
    blocks = training.direction.output_blocks(objective.output_jacobian(at), prior.precision)
    if blocks is None:
        return None
    noise = prior.noise_variance
    beta = 1.0 if noise is None else 1 / float(noise.log().mean().exp())
    C = blocks / (beta * objective.total_weight)
    copy = beta * objective.sample_weight.to(C).clamp(max=1)[:, None, None]
    # Of the loss of the factorised system, so that no leverage exceeds 1.
    gradient = loss.gradient(at.outputs, objective.Y).to(C)[..., None]
    root = loss.curvature_root(at.outputs, objective.Y).to(C)
    leverage = copy * C @ root @ root.mT
    eye = torch.eye(leverage.shape[1], dtype=C.dtype, device=C.device)
    without, _ = torch.linalg.solve_ex(eye - leverage, C)
    return at.outputs.to(C) + (without @ (copy * gradient))[..., 0], without


def predictive_score(training: Training) -> float:
    """Mean log density of the samples when left out, less an allowance for the estimated precisions; higher is better.

    The density is the normal one of noise and weights for regression, and the likelihood of the most probable weights
    for log losses.
    """
    left_out = leave_one_out(training)
    if left_out is None:
        return -math.inf
    outputs, covariance = left_out
    objective, noise = training.objective, training.prior.noise_variance
    Y, weight = objective.Y.to(outputs), objective.sample_weight.to(outputs)
    if noise is None:
        log_density = -objective.data_loss.value(outputs, Y)
    else:
        variance = noise + covariance.diagonal(dim1=1, dim2=2).clamp(min=0)
        log_density = -0.5 * ((outputs - Y).square() / variance + (2 * math.pi * variance).log()).sum(1)
    total = float(log_density @ weight) - _NATS_PER_PRECISION * training.prior.n_precisions
    return total / objective.total_weight if math.isfinite(total) else -math.inf
