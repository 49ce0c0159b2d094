"""How well an ensemble predicts samples left out of its training, against the best constant.

The score is D^2, the part of the constant's loss that the ensemble takes away: R^2 under a squared error, McFadden's
under a log loss. Each member predicts each sample without it (:mod:`skgn.leave_one_out`). The left-out losses are
corrected for the precisions estimated from the same samples (:mod:`skgn.left_out_samples`). A sample that has no
prediction without itself counts as the constant does. Of several outputs of a regression it is the mean of their
scores, as scikit-learn's is, however noisy each of them is.

References
----------
D. McFadden, Conditional logit analysis of qualitative choice behavior, in Frontiers in Econometrics (1974).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .backend import sum_float64
from .left_out_samples import LeftOutSamples, log_mixture
from .losses import Loss
from .mixing import targets_of_outputs, variances_of_targets
from .mixture import mixture_mean, voters
from .objective import Objective

__all__ = ["UNKNOWN", "Skill", "best_constant", "left_out_skill", "loss_of_constant"]

#: Mean loss of a constant that is never wrong.
_NEVER_WRONG = 1e-9

#: An ensemble has failed that adds this part to the loss of a constant, by more than so many standard errors. These are
#: of the logarithm of their ratio: few rows may make up the loss, and then its own error is as large as itself.
_ADDED, _STANDARD_ERRORS = 0.25, 2.0

#: Steps to the constant of a quantile, and bisections of the last one, at the most.
_STEPS = 50

#: Samples below which a standard error tells nothing.
_FEWEST = 30


class Skill(NamedTuple):
    """D^2 of the samples left out, at most 1, and its standard error, infinite for a few samples; nan if not known.

    ``of_outputs`` has that of each output, where the score is their mean.
    """

    score: float
    error: float
    of_outputs: tuple[float, ...] = ()

    @property
    def failed(self) -> bool:
        """Whether a constant is better, beyond doubt."""
        ratio = 1 - self.score
        return ratio > 1 + _ADDED and math.log(ratio) > _STANDARD_ERRORS * self.error / ratio


UNKNOWN = Skill(math.nan, math.nan)


def left_out_skill(
    samples: LeftOutSamples, weights: np.ndarray, T: float = 1.0, noise: Sequence[np.ndarray | None] | None = None
) -> Skill:
    """Skill of a mixture of members, unknown if that of any member that counts is.

    Parameters
    ----------
    samples : LeftOutSamples
        With the loss of the score.
    weights : ndarray of shape (n_members,)
        Of the members in the mixture.
    T : float, default=1.0
        What outputs are divided by, for log losses.
    noise : sequence of ndarray (k,), optional
        Variance of the noise of each member, where members count by row.
    """
    counted = samples.of_voters(weights)
    if counted is None:
        return UNKNOWN
    members, votes = counted
    if not float(members.sum(_weight_predicted)):
        return UNKNOWN
    objective, loss = samples.objective, samples.loss
    given = {"weights": votes, "noise": None if noise is None else voters(noise, weights)[0]}
    constant, n_scores = best_constant(objective, loss), 1 if loss.has_temperature else objective.network.n_outputs
    if n_scores > 1:
        moments = members.sum(_moments_of_outputs, constant=constant, **given).tolist()
        return _skill(np.array(moments), n_scores, objective.total_weight)
    own, least, *squares = members.sum(_moments, constant=constant, T=T, **given).tolist()
    return _skill(np.array([own, least, squares[0], squares[1], *squares[1:]]), 1, objective.total_weight)


def _skill(moments: np.ndarray, k: int, total_weight: float) -> Skill:
    """Mean of k scores from the sums of :func:`_moments_of_outputs`, and its standard error.

    As scikit-learn has it, an output that never varies counts 1 if it is predicted, and 0 otherwise.
    """
    own, least = moments[: 2 * k].reshape(2, k)
    never_wrong = _NEVER_WRONG * total_weight
    varies = least > never_wrong
    if not varies.any():
        return UNKNOWN
    ratio, slope = (own > never_wrong) * 1.0, np.zeros(k)
    with np.errstate(over="ignore", invalid="ignore"):
        np.divide(own, least, out=ratio, where=varies)
        np.divide(1 / k, least, out=slope, where=varies)
        slopes = np.concatenate([slope, -ratio * slope])
        variance = float(slopes @ moments[2 * k :].reshape(2 * k, 2 * k) @ slopes)
    few = total_weight < _FEWEST
    return Skill(1 - float(ratio.mean()), math.inf if few else math.sqrt(max(variance, 0.0)), tuple(1 - ratio))


def best_constant(objective: Objective, loss: Loss) -> Tensor:
    """Outputs (k,) of the constant that predicts the samples best.

    That of a quantile, which no mean tells, is where the slope of the loss changes its sign.
    """
    constant = loss.best_constant(objective.sum(_summed_targets) / objective.total_weight)
    return _without_slope(objective, constant, loss) if loss.predicts_quantiles else constant


def _without_slope(objective: Objective, start: Tensor, loss: Loss) -> Tensor:
    """The constant (k,) at which the loss has no slope: ever longer steps downhill, and bisection of the last one."""

    def slope(constant: Tensor) -> Tensor:
        return objective.sum(partial(_slopes, constant=constant, loss=loss))

    near, step = start, -slope(start).sign()
    for _ in range(_STEPS):
        goes_on = slope(near + step) * step < 0
        if not goes_on.any():
            break
        near, step = torch.where(goes_on, near + step, near), torch.where(goes_on, 2 * step, step)
    for _ in range(_STEPS):
        step = step / 2
        near = torch.where(slope(near + step) * step < 0, near + step, near)
    return near


def loss_of_constant(objective: Objective, loss: Loss) -> float:
    """Mean loss of the constant that predicts the samples best."""
    loss_of_rows = partial(_loss_of_constant, constant=best_constant(objective, loss), loss=loss)
    return float(objective.sum(loss_of_rows)) / objective.total_weight


def _loss_of_constant(objective: Objective, constant: Tensor, loss: Loss) -> Tensor:
    losses = loss.value(constant.to(objective.Y).expand_as(objective.Y), objective.Y)
    return sum_float64(losses * objective.sample_weight)


def _slopes(objective: Objective, constant: Tensor, loss: Loss) -> Tensor:
    """Summed gradient (k,) of the loss of a constant (k,), for outputs that do without each other."""
    gradient = loss.gradient(constant.to(objective.Y).expand_as(objective.Y), objective.Y)
    return objective.sample_weight.double() @ gradient.double()


def _summed_targets(objective: Objective) -> Tensor:
    return objective.sample_weight.double() @ objective.Y.double()


def _moments(
    samples: LeftOutSamples,
    weights: np.ndarray,
    noise: Sequence[np.ndarray] | None,
    constant: Tensor,
    T: float,
) -> Tensor:
    """Sums (5,) of the losses a of the mixture and b of the constant, and of a^2, ab and b^2."""
    loss, (f, Y, _) = samples.loss, samples.corrected_rows
    targets = samples.objective.Y.to(f)
    worst = constant.to(targets).expand_as(targets)
    if loss.has_scale:
        a, b = loss.value(mixture_mean(f, samples.weights_at_rows(weights, noise)), Y), loss.value(worst, targets)
    else:
        log_p, _ = samples.corrected_log_probabilities(T)
        # Of labels counted one by one, the sum is the sample's.
        a = -log_mixture(log_p, weights).reshape(len(Y), Y.shape[1] if loss.independent_labels else 1).sum(1)
        b = -loss.log_likelihood(worst, targets)
    a = _or_constant(a, b, samples)
    return torch.stack([a, b, a * a, a * b, b * b]) @ samples.objective.sample_weight.to(a)


def _weight_predicted(samples: LeftOutSamples) -> Tensor:
    return sum_float64(samples.objective.sample_weight[samples.predicted])


def _or_constant(own: Tensor, least: Tensor, samples: LeftOutSamples) -> Tensor:
    """Losses (n,): their own of samples that are predicted, and elsewhere those of the constant.

    A sample without a prediction may be what matters most. Without it the network knows nothing of it.
    """
    losses = least.clone()
    losses[samples.predicted] = own
    return losses


def _moments_of_outputs(
    samples: LeftOutSamples, weights: np.ndarray, noise: Sequence[np.ndarray] | None, constant: Tensor
) -> Tensor:
    """Sums (2 k + 4 k^2,) of the k outputs' losses under the mixture, then under the constant, and of all products.

    Each output has an equal part of what the allowances take from a log likelihood.
    """
    k, loss = len(constant), _of_targets(samples.loss)
    if loss.has_scale and not loss.depends_on_scale:
        # How much each output counts among others is nothing to its own score.
        loss = loss.at_precision(torch.ones_like(constant))
    if loss.has_scale:
        f, Y, _ = samples.corrected_rows
        f = mixture_mean(f, samples.weights_at_rows(weights, noise))[None]
    else:
        f, Y, _ = samples.rows
    values = (f, Y, samples.objective.Y.to(Y), constant.to(Y))
    f, Y, targets, constant = (targets_of_outputs(each, loss.mixing) for each in values)
    own, least = [], []
    for j in range(k):
        one, y, of_all = _of_output(loss, j, k), Y[:, j : j + 1], targets[:, j : j + 1]
        worst = constant[j : j + 1].to(y).expand_as(of_all)
        if loss.has_scale:
            own.append(one.value(f[0, :, j : j + 1], y))
            least.append(one.value(worst, of_all))
        else:
            log_p = torch.stack([one.log_likelihood(g[:, j : j + 1], y) for g in f])
            own.append(-log_mixture(log_p - log_p.new_tensor(samples.allowances)[:, None] / k, weights))
            least.append(-one.log_likelihood(worst, of_all))
    own = [_or_constant(a, b, samples) for a, b in zip(own, least, strict=True)]
    losses = torch.stack([*own, *least])
    weighted = losses * samples.objective.sample_weight.to(losses)
    return torch.cat([weighted.sum(1), (weighted @ losses.T).ravel()])


def _of_targets(loss: Loss) -> Loss:
    """Return the loss of the targets that outputs are combinations of, each at the scale of its own noise."""
    if loss.mixing is None or loss.precision is None:
        return loss
    return loss.at_precision(1 / variances_of_targets(1 / loss.precision, loss.mixing))


def _of_output(loss: Loss, j: int, k: int) -> Loss:
    """Return the loss of the j-th of k outputs alone: of what the loss holds for each, that of this one."""
    one = copy.copy(loss)
    for name, value in vars(loss).items():
        if isinstance(value, (Tensor, np.ndarray)) and value.shape == (k,):
            setattr(one, name, value[j : j + 1])
    return one
