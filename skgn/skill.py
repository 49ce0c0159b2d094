"""How well an ensemble predicts samples left out of its training, against the best constant.

The score is D^2, the part of the constant's loss that the ensemble takes away: R^2 under a squared error, McFadden's
under a log loss. Each member predicts each sample without it (:mod:`skgn.leave_one_out`). The left-out losses are
corrected for the precisions estimated from the same samples, as for the weights (:mod:`skgn.stacking`).

References
----------
D. McFadden, Conditional logit analysis of qualitative choice behavior, in Frontiers in Econometrics (1974).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .backend import sum_float64
from .leave_one_out import LeftOut, log_mixture
from .losses import Loss
from .mixture import mixture_mean, voters
from .objective import Objective
from .stacking import corrected_log_probabilities, corrected_outputs

__all__ = ["UNKNOWN", "Skill", "best_constant", "left_out_skill", "loss_of_constant"]

#: Mean loss of a constant that is never wrong.
_NEVER_WRONG = 1e-9

#: An ensemble has failed that adds this part to the loss of a constant, by more than so many standard errors.
_ADDED, _STANDARD_ERRORS = 0.25, 2.0

#: Samples below which a standard error tells nothing.
_FEWEST = 30


class Skill(NamedTuple):
    """D^2 of the samples left out, at most 1, and its standard error, infinite for a few samples; nan if not known."""

    score: float
    error: float

    @property
    def failed(self) -> bool:
        """Whether a constant is better, beyond doubt."""
        return self.score < -max(_ADDED, _STANDARD_ERRORS * self.error)


UNKNOWN = Skill(math.nan, math.nan)


def left_out_skill(
    objective: Objective,
    loss: Loss,
    left_out: Sequence[LeftOut | None],
    allowances: Sequence[float],
    weights: np.ndarray,
    T: float = 1.0,
) -> Skill:
    """Skill of a mixture of members, unknown if that of any member that counts is.

    Parameters
    ----------
    objective, loss, left_out, allowances
        As :func:`~skgn.stacking.stacking_weights` takes them.
    weights : ndarray of shape (n_members,)
        Of the members in the mixture.
    T : float, default=1.0
        What outputs are divided by, for log losses.
    """
    counted, votes = voters(list(zip(left_out, allowances, strict=True)), weights)
    known = [outputs for outputs, _ in counted if outputs is not None]
    if len(known) < len(counted):
        return UNKNOWN
    losses = partial(
        _losses,
        weights=votes,
        allowances=[nats for _, nats in counted],
        loss=loss,
        constant=best_constant(objective, loss),
        T=T,
    )
    own, least, *products = objective.sum(partial(_moments, losses=losses), *known).tolist()
    if not least > _NEVER_WRONG * objective.total_weight:
        return UNKNOWN
    ratio = own / least
    variance = products[0] - 2 * ratio * products[1] + ratio * ratio * products[2]
    few = objective.total_weight < _FEWEST
    return Skill(1 - ratio, math.inf if few else math.sqrt(max(variance, 0.0)) / least)


def best_constant(objective: Objective, loss: Loss) -> Tensor:
    """Outputs (k,) of the constant that predicts the samples best."""
    return loss.best_constant(objective.sum(_summed_targets) / objective.total_weight)


def loss_of_constant(objective: Objective, loss: Loss) -> float:
    """Mean loss of the constant that predicts the samples best."""
    loss_of_rows = partial(_loss_of_constant, constant=best_constant(objective, loss), loss=loss)
    return float(objective.sum(loss_of_rows)) / objective.total_weight


def _loss_of_constant(objective: Objective, constant: Tensor, loss: Loss) -> Tensor:
    losses = loss.value(constant.to(objective.Y).expand_as(objective.Y), objective.Y)
    return sum_float64(losses * objective.sample_weight)


def _summed_targets(objective: Objective) -> Tensor:
    return objective.sample_weight.double() @ objective.Y.double()


def _moments(objective: Objective, *left_out: LeftOut, losses: Callable[..., tuple[Tensor, Tensor, Tensor]]) -> Tensor:
    """Sums (5,) of the losses a of the mixture and b of the constant, and of a^2, ab and b^2."""
    a, b, sample_weight = losses(objective, *left_out)
    return torch.stack([a, b, a * a, a * b, b * b]) @ sample_weight


def _losses(
    objective: Objective,
    *left_out: LeftOut,
    weights: np.ndarray,
    allowances: Sequence[float],
    loss: Loss,
    constant: Tensor,
    T: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Losses (n,) of the mixture and of the constant for the samples left out, and the weights of these."""
    f, Y, sample_weight = corrected_outputs(objective, left_out, allowances)
    if loss.has_scale:
        own = loss.value(mixture_mean(f, weights), Y)
    else:
        log_p, _ = corrected_log_probabilities(objective, left_out, loss, allowances, T)
        # Of labels counted one by one, the sum is the sample's.
        own = -log_mixture(log_p, weights).reshape(len(Y), Y.shape[1] if loss.independent_labels else 1).sum(1)
    return own, loss.value(constant.to(Y).expand_as(Y), Y), sample_weight
