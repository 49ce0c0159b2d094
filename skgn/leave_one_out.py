"""Prediction of each sample as if the trained network had not seen it, without training it again.

At a minimum w of the objective, make one Newton step on the objective without one copy of sample i. It moves the
outputs of sample i to

    f_-i = f_i + C_i (I - H_i C_i)^-1 g_i        C_i = J_i A^-1 J_i'

where A is the posterior's precision matrix, and g_i and H_i are the gradient and the curvature of the copy's summed
loss. Without the copy, the covariance of the outputs is ``C_i (I - H_i C_i)^-1``. Both are exact for a linear network
with squared error and fixed precisions. The units of a nonlinear network have learned from the sample too, and no such
step undoes that. So its outputs move 1.3 times as far (docs/decisions.md).

A sample of weight below 1 has no copy, and none has one where the mean weight is at most 1, but for rounding. It is
left out as a whole, with g_i and H_i times its weight.

References
----------
D. Pregibon, Logistic regression diagnostics, Annals of Statistics 9 (1981).
K. Rahnama Rad and A. Maleki, A scalable estimate of the out-of-sample prediction error via approximate leave-one-out
cross-validation, JRSS B 82 (2020).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from .dual import Dual
from .evidence import NATS_PER_CHOICE, log_ways
from .jacobian import Jacobian
from .losses import Loss, geometric_mean
from .objective import Evaluation, Objective
from .state import Linearisation, State
from .weighted_rows import repeats

__all__ = [
    "MOST_OF_LABELS",
    "LeftOut",
    "allowance",
    "is_predicted",
    "leave_one_out",
    "predictive_score",
]

#: Outputs of a nonlinear network move so many times as far as its linearisation says (docs/decisions.md).
_FARTHER = 1.3

#: A sample that determines its own output to within this part has no prediction without itself.
_LEAST_FREEDOM = 1e-6

#: A linear network predicts such samples too, to within this part, where its Jacobian has so many entries at most. An
#: orthogonal factor of it has these digits, in float64 alone.
_ORTHOGONAL_FREEDOM, _MOST_ENTRIES = 1e-12, 4_000_000

#: Left-out predictions are known where so large a part of the samples has one.
_LEAST_PREDICTED = 0.5

#: A network with so many effective parameters per observation interpolates. Left-out predictions of a nonlinear one are
#: noise. Those of a linear one are exact, but the rest from its leverages to 1 needs the digits of the dual.
_MOST_EFFECTIVE = 0.95

#: A label of several classes tells less than numbers do. Networks learn features from labels. With so many effective
#: parameters a row they have found some for nearly each row, of noise as well (docs/decisions.md).
MOST_OF_LABELS = 0.7


class LeftOut(NamedTuple):
    """Outputs (n, k) and their variances (n, k), each predicted without its own sample."""

    outputs: Tensor
    variances: Tensor


def leave_one_out(state: State, linearisation: Linearisation) -> LeftOut | None:
    """Predict each sample without itself; None where hardly any can be, and where a nonlinear network interpolates."""
    objective = state.objective
    linear = objective.network.is_linear
    if _interpolates(state):
        left_out = _with_digits(state, linearisation) if linear else None
    else:
        left_out = _of_blocks(state, linearisation)
        if left_out is not None and linear and _unknown(objective, left_out) > 0 and _affords_digits(objective):
            left_out = _with_digits(state, linearisation) or left_out
    # Others have no sample in common with a member that predicts hardly any.
    known = left_out is not None and _unknown(objective, left_out) < (1 - _LEAST_PREDICTED) * objective.total_weight
    return left_out if known else None


def _with_digits(state: State, linearisation: Linearisation) -> LeftOut | None:
    """Predictions of a linear network that keep their digits where leverages are next to 1; None without any."""
    freedom = state.objective.gather(_freedom, linearisation.jacobian, state.estimates.precision)
    if freedom is None:
        return None
    return _of_blocks(state, linearisation, _at_minimum(state, linearisation), freedom)


def _of_blocks(
    state: State, linearisation: Linearisation, at: Evaluation | None = None, freedom: Tensor | None = None
) -> LeftOut | None:
    """Predict each sample without itself, at given weights and leverages or those of the state; None if not known."""
    objective, estimates = state.objective, state.estimates
    blocks = linearisation.direction.output_blocks(estimates.precision)
    if blocks is None:
        return None
    beta = 1.0 if estimates.squared_scale is None else 1 / float(geometric_mean(estimates.squared_scale))
    repeated = repeats(objective.n_samples, objective.total_weight) and not linearisation.loss.has_rates
    leave_out = partial(
        _leave_out,
        blocks=blocks,
        # That of the factorised system, so that no leverage exceeds 1.
        loss=linearisation.loss,
        beta=beta,
        scale=beta * objective.total_weight,
        # Of repeated observations one is left out, and else the whole row.
        most=1.0 if repeated else math.inf,
        farther=1.0 if objective.network.is_linear else _FARTHER,
        freedom=freedom,
    )
    left_out: LeftOut = objective.apply(leave_out, state.at if at is None else at)
    return left_out


def _interpolates(state: State) -> bool:
    """Whether the network has nearly as many effective parameters as there are observations, or rows for a linear one.

    Copies of a row are observations, but do not keep a linear network from passing through all targets.
    """
    objective, effective = state.objective, state.estimates.n_effective_parameters or 0.0
    if not objective.network.is_linear:
        loss = objective.data_loss
        if loss.has_temperature and not loss.independent_labels:
            return effective > MOST_OF_LABELS * objective.total_weight
        return effective > _MOST_EFFECTIVE * objective.total_weight * objective.n_columns
    rows = objective.n_samples * objective.n_columns
    return rows <= objective.network.n_weights and effective > _MOST_EFFECTIVE * rows


def _at_minimum(state: State, linearisation: Linearisation) -> Evaluation:
    """Solve a linear network for its last precisions, to which what is left of the residuals is proportional."""
    step = linearisation.direction.solve(linearisation.gradient(state), state.estimates.precision, 0.0)
    return state.objective.evaluate(state.at.w + step)


def _freedom(objective: Objective, jacobian: Jacobian, precision: list[Tensor]) -> Tensor | None:
    """Blocks I - J_i (S (G + diag(a)))^-1 J_i' of the samples, (n, c, c); None if rounding errors leave no digits."""
    n, c, P = objective.n_samples, jacobian.c, jacobian.shape[1]
    if n * c <= P:
        return Dual(jacobian, objective.total_weight).freedom(precision)
    # An orthogonal factor has rounding errors of its own size, 1, where those of the system grow with its condition.
    prior = (objective.total_weight * jacobian.network.expand(precision)).sqrt()
    rows = torch.cat([jacobian.factors().dense().to(prior), torch.diag(prior)])
    blocks = torch.linalg.qr(rows).Q[: n * c].view(n, c, P)
    freedom = torch.eye(c).to(prior) - blocks @ blocks.mT
    freedom[_has_eigenvalue_of_0(freedom, _ORTHOGONAL_FREEDOM)] = math.nan
    return freedom


def _leave_out(
    objective: Objective,
    at: Evaluation,
    blocks: Callable[[Jacobian], Iterator[Tensor]],
    loss: Loss,
    beta: float,
    scale: float,
    most: float,
    farther: float = 1.0,
    freedom: Tensor | None = None,
) -> LeftOut:
    """Leave each sample out, some at a time: the blocks of all of many classes would fill the memory.

    Outputs move so many times ``farther`` than the step says.
    """
    gradient, parts, end = objective.loss_gradient(at.outputs, loss), [], 0
    for block in blocks(objective.output_jacobian(at)):
        rows = slice(end, end := end + len(block))
        C = block / scale
        weight = objective.sample_weight[rows].to(C)[:, None, None]
        copies = weight.clamp(max=most)
        R = objective.loss_root(at.outputs[rows], rows, loss).to(C)
        copy, CR = beta * copies, C @ R
        g = copy * gradient[rows].to(C)[..., None]
        eye = torch.eye(R.shape[2], dtype=C.dtype, device=C.device)
        if freedom is None:
            rest = eye - copy * R.mT @ CR
            determined = _has_eigenvalue_of_0(rest, _LEAST_FREEDOM)
        else:
            # What the samples leave free of R'CR, with digits where leverages are next to 1.
            part = copies / weight
            rest = part * freedom[rows] + (1 - part) * eye
            determined = torch.zeros_like(weight[:, 0, 0], dtype=torch.bool)
        # (I - CH)^-1 C = C + CR (I - R'CR)^-1 R'C for H = R R', by Woodbury's identity.
        solved = torch.linalg.solve_ex(rest, CR.mT)[0]
        moved = farther * (C @ g + copy * CR @ (solved @ g))[..., 0]
        variances = (C.diagonal(dim1=1, dim2=2) + copy[..., 0] * (CR * solved.mT).sum(2)).clamp(min=0)
        outputs = at.outputs[rows].to(C) + moved
        parts.append([torch.where(determined[:, None], math.nan, each) for each in (outputs, variances)])
    return LeftOut(*map(torch.cat, zip(*parts, strict=True)))


def _has_eigenvalue_of_0(rest: Tensor, freedom: float) -> Tensor:
    """Whether the smallest eigenvalue of what is left from each leverage to 1 (n, c, c) is no such freedom, (n,).

    A combination of outputs may be determined where none of them is. Less the least freedom, all others have a Cholesky
    factor, which costs less than the eigenvalues do.
    """
    least = torch.eye(rest.shape[1], dtype=rest.dtype, device=rest.device) * freedom
    _, failed = torch.linalg.cholesky_ex(rest - least)
    return failed > 0


def _affords_digits(objective: Objective) -> bool:
    entries = objective.n_samples * objective.n_columns * objective.network.n_weights
    return objective.Y.dtype == torch.float64 and entries <= _MOST_ENTRIES


def _unknown(objective: Objective, left_out: LeftOut) -> float:
    """Weight of the samples that have no prediction without themselves."""
    return float(objective.sum(_weight_unknown, left_out))


def _weight_unknown(objective: Objective, left_out: LeftOut) -> Tensor:
    return objective.sample_weight[~is_predicted(left_out)].sum()


def is_predicted(left_out: LeftOut) -> Tensor:
    """Tell of each sample (n,) whether it is predicted without itself."""
    return torch.isfinite(left_out.outputs).all(1)


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
    number of ways to choose. For of features of noise the evidence keeps those that fit the noise best. The same
    samples may also have chosen the columns of the inputs.
    """
    m, k = state.prior.n_precisions, state.estimates.n_in_use
    return (NATS_PER_CHOICE * k + log_ways(m, k) + state.prior.log_choices) / state.objective.total_weight


def _squared_scale(left_out: LeftOut, noise: Tensor) -> Tensor:
    """Squared scales (n, k) of the predictions: those of the noise, widened by the variances of the outputs."""
    return noise + left_out.variances


def _log_density(objective: Objective, left_out: LeftOut, loss: Loss, noise: Tensor | None) -> Tensor:
    # An unfitted network predicts 0, and is off by the spread of the targets, the unit of training.
    outputs, variances = left_out
    left_out = LeftOut(outputs.nan_to_num(0.0, math.inf, -math.inf), variances.nan_to_num(1.0, math.inf, -math.inf))
    outputs = left_out.outputs
    Y, weight = objective.Y.to(outputs), objective.sample_weight.to(outputs)
    if noise is not None and loss.has_scale:
        if objective.root_precision is not None:
            noise = noise / objective.root_precision.to(outputs).square()
        return loss.log_density(outputs - Y, _squared_scale(left_out, noise)) @ weight
    normaliser = 0.0 if noise is None else loss.log_normaliser(1 / noise)
    return (loss.log_likelihood(outputs, Y) + normaliser) @ weight
