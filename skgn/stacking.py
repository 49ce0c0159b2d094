"""How much each member of an ensemble counts, by what members predict of samples left out, and what more would gain.

The weights v of the mixture minimise, over v >= 0 that sum to 1,

    L(v) / L_best + c m sum_m (v_m - 1/m)^2

L is the mean loss of the mixture on the samples left out, L_best the least of a member alone. There are m members. The
second term draws members that are nearly as good to equal weights: on a few hundred samples their differences are
mostly chance. A member that has failed has many times the least loss, and no weight.

The mixture of members with a noise level has the mean of their outputs, that of others the mean of their likelihoods.
The losses are corrected for the precisions estimated from the same samples (:mod:`skgn.left_out_samples`).

References
----------
D. H. Wolpert, Stacked generalization, Neural Networks 5 (1992).
Y. Yao, A. Vehtari, D. Simpson and A. Gelman, Using stacking to average Bayesian predictive distributions, Bayesian
Analysis 13 (2018).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from .left_out_samples import LeftOutSamples, log_mixture
from .mixture import equal_weights, mixture_mean

__all__ = [
    "FAILED",
    "gain_of_more",
    "is_exact",
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


def stacking_weights(samples: LeftOutSamples) -> np.ndarray:
    """Weights (n_members,) of the members of a mixture, by the loss of the samples.

    A member of which it is not known what it predicts of them has no weight. Where it is known of none, all have the
    same.
    """
    alone = left_out_losses(samples)
    known = np.isfinite(alone)
    if not known.any():
        return equal_weights(len(alone))
    weights = np.zeros(len(alone))
    weights[known] = _minimise(partial(_mean_loss, samples.of(known)), alone[known])
    return weights


def left_out_losses(samples: LeftOutSamples) -> np.ndarray:
    """Mean loss (n_members,) of each member alone, infinite where it is not known what it predicts."""
    known = samples.known
    losses, comparable = np.full(len(known), np.inf), samples.of(known)
    losses[known] = [_mean_loss(comparable, alone)[0] for alone in np.eye(known.sum())]
    return losses


def is_exact(samples: LeftOutSamples, tol: float) -> bool:
    """Whether a member misses the samples by ``tol`` standard deviations of the target or less: there is no noise.

    The loss of noise is half the squared error near residual 0. Others do not tell.
    """
    return samples.loss.has_scale and math.sqrt(2 * left_out_losses(samples).min()) <= tol


def gain_of_more(samples: LeftOutSamples, n_members: int) -> float:
    """Part of the left-out loss that a mixture of ``n_members`` promises to save, over the mixture of these members.

    Members alone lose V (1 - sum_m v_m^2) more than their mixture. Here V is what is lost by their differences, of
    which a mixture of m members keeps V / m. The gain is infinite where it is not known: if one member counts, or the
    loss is beyond the floats.

    References
    ----------
    A. Krogh and J. Vedelsby, Neural network ensembles, cross validation, and active learning, NIPS 1994.
    """
    counted = samples.of_voters(stacking_weights(samples))
    if counted is None or len(counted[1]) < 2:
        return math.inf
    members, votes = counted
    mixture, _ = _mean_loss(members, votes)
    alone = float(votes @ left_out_losses(members))
    if not mixture > 0:
        return 0.0
    if not math.isfinite(alone):
        return math.inf
    differences = (alone - mixture) / (1 - float(votes @ votes))
    return differences / mixture * (1 / len(samples.outputs) - 1 / n_members)


def left_out_spread(samples: LeftOutSamples, weights: np.ndarray) -> np.ndarray | None:
    """Mean squared distance (k,) of the members that count from their mean; None where it is not known."""
    counted = samples.of_voters(weights)
    if counted is None:
        return None
    members, votes = counted
    *squares, total = members.sum(_squared_distances, weights=votes).tolist()
    return np.array(squares) / total if total > 0 else None


def _squared_distances(samples: LeftOutSamples, weights: np.ndarray) -> Tensor:
    """Summed squared distances of the members from their mean, and the weight of the samples, (k + 1,)."""
    f, _, sample_weight = samples.rows
    squares = mixture_mean(samples.in_units_of_noise(f - mixture_mean(f, weights)).square(), weights)
    return torch.cat([squares.T @ sample_weight, sample_weight.sum()[None]])


def _mean_loss(samples: LeftOutSamples, weights: np.ndarray) -> tuple[float, np.ndarray]:
    """Mean loss of a mixture of the members, and its derivatives by the weights."""
    value, *gradient = (samples.sum(_mixture_loss, weights=weights) / samples.objective.total_weight).tolist()
    return value, np.array(gradient)


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


def _mixture_loss(samples: LeftOutSamples, weights: np.ndarray) -> Tensor:
    """Summed loss of the mixture, and its derivatives by the weights, (1 + m,)."""
    loss = samples.loss
    if not loss.has_scale:
        return _likelihood_of_mixture(*samples.corrected_log_probabilities(), weights)
    f, Y, sample_weight = samples.corrected_rows
    f, Y = samples.in_units_of_noise(f), samples.in_units_of_noise(Y)
    mean = torch.tensordot(f.new_tensor(weights), f, 1)
    slopes = torch.einsum("mnk,nk->mn", f, loss.gradient(mean, Y)) @ sample_weight
    return torch.cat([(loss.value(mean, Y) @ sample_weight)[None], slopes])


def _likelihood_of_mixture(log_p: Tensor, sample_weight: Tensor, weights: np.ndarray) -> Tensor:
    mixture = log_mixture(log_p, weights)
    ratios = (log_p - mixture).clamp(max=_LARGEST_LOG_RATIO).exp()
    return -torch.cat([(mixture @ sample_weight)[None], ratios @ sample_weight])
