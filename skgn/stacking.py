"""How much each member of an ensemble counts, by what members predict of samples left out, and what more would gain.

The weights v of the mixture minimise, over v >= 0 that sum to 1,

    L(v) / L_best + c m sum_m (v_m - 1/m)^2

L is the mean loss of the mixture on the samples left out, L_best the least of a member alone. There are m members. The
second term draws members that are nearly as good to equal weights: on a few hundred samples their differences are
mostly chance. A member that has failed has many times the least loss, and no weight.

The mixture of members with a noise level has the mean of their outputs, that of others the mean of their likelihoods.
Precisions estimated from the same samples make left-out losses too small, by :func:`~skgn.leave_one_out.allowance` nats
a sample. Log losses are raised by these nats, and residuals are enlarged as much: those of each of k outputs, and the
log losses of each of k labels, by a k-th part of the nats.

References
----------
D. H. Wolpert, Stacked generalization, Neural Networks 5 (1992).
Y. Yao, A. Vehtari, D. Simpson and A. Gelman, Using stacking to average Bayesian predictive distributions, Bayesian
Analysis 13 (2018).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from .leave_one_out import LeftOut, log_mixture, log_probabilities, predicted_rows
from .losses import Loss
from .mixture import equal_weights, mixture_mean, voters
from .objective import Objective

__all__ = [
    "FAILED",
    "corrected_log_probabilities",
    "corrected_outputs",
    "gain_of_more",
    "left_out_losses",
    "left_out_spread",
    "stacking_weights",
]

#: c, and the part of the weights that is taken for a rounding error of the minimiser.
_SHRINKAGE, _NEGLIGIBLE = 0.05, 1e-4

#: A member with so many times the least left-out loss has failed.
FAILED = 10.0

#: Likelihood ratios beyond the exponential of this, on the way to the minimum, are of no use.
_LARGEST_LOG_RATIO = 50.0


def stacking_weights(
    objective: Objective, loss: Loss, left_out: Sequence[LeftOut | None], allowances: Sequence[float]
) -> np.ndarray:
    """Weights (n_members,) of the members of a mixture.

    Parameters
    ----------
    objective : Objective
        The data, of any of the members.
    loss : Loss
        By which predictions of the mixture are judged.
    left_out : sequence of LeftOut or None
        What each member predicts of each sample without it. A member of which this is not known has no weight; where
        it is known of none, all have the same.
    allowances : sequence of float
        Nats a sample by which each member's left-out log density is too high.
    """
    alone = left_out_losses(objective, loss, left_out, allowances)
    known = np.flatnonzero(np.isfinite(alone))
    if len(known) == 0:
        return equal_weights(len(left_out))
    weights = np.zeros(len(left_out))
    comparable = [each if np.isfinite(own) else None for each, own in zip(left_out, alone, strict=True)]
    weights[known] = _minimise(_mean_loss(objective, loss, comparable, allowances), alone[known])
    return weights


def left_out_losses(
    objective: Objective, loss: Loss, left_out: Sequence[LeftOut | None], allowances: Sequence[float]
) -> np.ndarray:
    """Mean loss (n_members,) of each member alone on the samples left out, infinite where it is not known."""
    known = [number for number, outputs in enumerate(left_out) if outputs is not None]
    losses = np.full(len(left_out), np.inf)
    if known:
        mean_loss = _mean_loss(objective, loss, left_out, allowances)
        losses[known] = [mean_loss(alone)[0] for alone in np.eye(len(known))]
    return losses


def gain_of_more(
    objective: Objective, loss: Loss, left_out: Sequence[LeftOut | None], allowances: Sequence[float], n_members: int
) -> float:
    """Part of the left-out loss that a mixture of ``n_members`` promises to save, over the mixture of these members.

    Members alone lose V (1 - sum_m v_m^2) more than their mixture. Here V is what is lost by their differences, of
    which a mixture of m members keeps V / m. The gain is infinite where it is not known: if one member counts, or the
    loss is beyond the floats.

    References
    ----------
    A. Krogh and J. Vedelsby, Neural network ensembles, cross validation, and active learning, NIPS 1994.
    """
    weights = stacking_weights(objective, loss, left_out, allowances)
    counted, votes = voters(list(zip(left_out, allowances, strict=True)), weights)
    outputs, nats = zip(*counted, strict=True)
    if len(counted) < 2 or any(each is None for each in outputs):
        return math.inf
    mixture, _ = _mean_loss(objective, loss, outputs, nats)(votes)
    alone = float(votes @ left_out_losses(objective, loss, outputs, nats))
    if not mixture > 0:
        return 0.0
    if not math.isfinite(alone):
        return math.inf
    differences = (alone - mixture) / (1 - float(votes @ votes))
    return differences / mixture * (1 / len(left_out) - 1 / n_members)


def left_out_spread(objective: Objective, left_out: Sequence[LeftOut | None], weights: np.ndarray) -> np.ndarray | None:
    """Mean squared distance (k,) of the members that count from their mean; None where it is not known."""
    counted, votes = voters(left_out, weights)
    known = [each for each in counted if each is not None]
    if len(known) < len(counted):
        return None
    *squares, total = objective.sum(partial(_squared_distances, weights=votes), *known).tolist()
    return np.array(squares) / total if total > 0 else None


def _squared_distances(objective: Objective, *left_out: LeftOut, weights: np.ndarray) -> Tensor:
    """Summed squared distances of the members from their mean, and the weight of the samples, (k + 1,)."""
    f, _, sample_weight = predicted_rows(objective, left_out)
    squares = mixture_mean((f - mixture_mean(f, weights)).square(), weights)
    return torch.cat([squares.T @ sample_weight, sample_weight.sum()[None]])


def _mean_loss(
    objective: Objective, loss: Loss, left_out: Sequence[LeftOut | None], allowances: Sequence[float]
) -> Callable[[np.ndarray], tuple[float, np.ndarray]]:
    """Mean loss of a mixture of the members that are known, and its derivatives, for weights of these."""
    nats = [each for each, outputs in zip(allowances, left_out, strict=True) if outputs is not None]
    outputs = [each for each in left_out if each is not None]

    def mean_loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        mixture_loss = partial(_mixture_loss, weights=weights, loss=loss, allowances=nats)
        value, *gradient = (objective.sum(mixture_loss, *outputs) / objective.total_weight).tolist()
        return value, np.array(gradient)

    return mean_loss


def _minimise(mean_loss: Callable[[np.ndarray], tuple[float, np.ndarray]], alone: np.ndarray) -> np.ndarray:
    """The weights (m,) that minimise the criterion; equal ones of members without any loss."""
    # A loss of 0 may be rounded to less.
    good = alone <= max(FAILED * alone.min(initial=np.inf), 0.0)
    start = good / max(good.sum(), 1)
    if good.sum() < 2 or not alone.min() > 0:
        return start

    def criterion(v: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = mean_loss(v)
        apart = v - start
        c = _SHRINKAGE * good.sum()
        return value / alone.min() + c * apart @ apart, gradient / alone.min() + 2 * c * apart

    found = minimize(
        criterion,
        start,
        jac=True,
        method="SLSQP",
        bounds=[(0, 1) if each else (0, 0) for each in good],
        constraints={"type": "eq", "fun": lambda v: v.sum() - 1, "jac": np.ones_like},
        # To the digits in which versions of SciPy agree.
        options={"ftol": 1e-12},
    )
    v = np.where(found.x > _NEGLIGIBLE, found.x, 0.0)
    return v / v.sum()


def _mixture_loss(
    objective: Objective, *left_out: LeftOut, weights: np.ndarray, loss: Loss, allowances: Sequence[float]
) -> Tensor:
    """Summed loss of the mixture, and its derivatives by the weights, (1 + m,)."""
    if not loss.has_scale:
        log_p, sample_weight = corrected_log_probabilities(objective, left_out, loss, allowances)
        return _likelihood_of_mixture(log_p, sample_weight, weights)
    f, Y, sample_weight = corrected_outputs(objective, left_out, allowances)
    mean = torch.tensordot(f.new_tensor(weights), f, 1)
    slopes = torch.einsum("mnk,nk->mn", f, loss.gradient(mean, Y)) @ sample_weight
    return torch.cat([(loss.value(mean, Y) @ sample_weight)[None], slopes])


def _likelihood_of_mixture(log_p: Tensor, sample_weight: Tensor, weights: np.ndarray) -> Tensor:
    mixture = log_mixture(log_p, weights)
    ratios = (log_p - mixture).clamp(max=_LARGEST_LOG_RATIO).exp()
    return -torch.cat([(mixture @ sample_weight)[None], ratios @ sample_weight])


def corrected_outputs(
    objective: Objective, left_out: Sequence[LeftOut], allowances: Sequence[float]
) -> tuple[Tensor, Tensor, Tensor]:
    """Outputs (members, n, k) of the samples left out, as far from the targets as the allowances demand.

    Targets (n, k) and weights (n,) of these samples come with them.
    """
    f, Y, sample_weight = predicted_rows(objective, left_out)
    # An output whose scale grows by a factor loses its logarithm, and the outputs of a sample lose the nats together.
    factors = (f.new_tensor(allowances) / Y.shape[1]).exp()
    return Y + (f - Y) * factors[:, None, None], Y, sample_weight


def corrected_log_probabilities(
    objective: Objective, left_out: Sequence[LeftOut], loss: Loss, allowances: Sequence[float], T: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Log likelihood (members, n) of the samples left out, less the allowances, and the weights (n,) of samples.

    Each label is a sample of its own.
    """
    log_p, sample_weight = log_probabilities(objective, left_out, loss, T)
    nats = log_p.new_tensor(allowances) / (objective.Y.shape[1] if loss.independent_labels else 1)
    return log_p - nats[:, None], sample_weight
