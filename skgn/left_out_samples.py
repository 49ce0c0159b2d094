"""Samples left out of the training of several members, and what each member predicts of them.

Each member predicts each sample without it (:mod:`skgn.leave_one_out`). Precisions estimated from the same samples make
its losses there too small, by :func:`~skgn.leave_one_out.allowance` nats a sample. Log losses are raised by these nats,
and residuals are enlarged as much. Of k outputs or k labels, each takes a k-th part of the nats.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import compress
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from .leave_one_out import LeftOut, is_predicted
from .losses import Loss
from .mixture import weights_at_rows
from .objective import Objective

__all__ = ["LeftOutSamples", "PredictedRows", "log_mixture"]

#: Of the samples that all members predict without them: outputs (members, n, k), targets (n, k) and weights (n,).
PredictedRows: TypeAlias = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class LeftOutSamples:
    """Samples, what members predict of each without it, and the loss that judges the predictions.

    Attributes
    ----------
    objective : Objective
        Has the samples; it may be that of any member.
    loss : Loss
    outputs : sequence of LeftOut or None
        One for each member, None where it is not known.
    allowances : sequence of float
        Nats a sample by which each member's left-out log density is too high.
    """

    objective: Objective
    loss: Loss
    outputs: Sequence[LeftOut | None]
    allowances: Sequence[float]

    @property
    def known(self) -> np.ndarray:
        """Whether it is known of each member (n_members,) what it predicts."""
        return np.array([each is not None for each in self.outputs], dtype=bool)

    def of(self, members: np.ndarray) -> LeftOutSamples:
        """Keep the members for which the mask (n_members,) is true."""
        outputs, allowances = compress(self.outputs, members), compress(self.allowances, members)
        return replace(self, outputs=list(outputs), allowances=list(allowances))

    def of_voters(self, weights: np.ndarray) -> tuple[LeftOutSamples, np.ndarray] | None:
        """Keep the members that count, with their weights; None if it is not known what any of these predicts."""
        counts = weights > 0
        return (self.of(counts), weights[counts]) if self.known[counts].all() else None

    def sum(self, function: Callable[..., Tensor], **given: Any) -> Tensor:
        """Compute ``function(samples, **given)``, a sum over samples, for members that are all known."""
        return self.objective.sum(self._of_part(function, given), *self.outputs)

    def gather(self, function: Callable[..., Any], **given: Any) -> Any:
        """Compute ``function(samples, **given)``, one value a sample; None if the samples are on other machines."""
        return self.objective.gather(self._of_part(function, given), *self.outputs)

    def _of_part(self, function: Callable[..., Any], given: dict[str, Any]) -> Callable[..., Any]:
        return partial(_of_part, function=partial(function, **given), loss=self.loss, allowances=self.allowances)

    @cached_property
    def predicted(self) -> Tensor:
        """Whether all members can predict each sample (n,) without it.

        A sample that alone determines a weight has no prediction without itself.
        """
        return torch.stack([is_predicted(member) for member in self._members]).all(0)

    @property
    def rows(self) -> PredictedRows:
        """The samples that are predicted, with outputs as they are."""
        f, rows = torch.stack([member.outputs for member in self._members]), self.predicted
        return f[:, rows], self.objective.Y.to(f)[rows], self.objective.sample_weight.to(f)[rows]

    @property
    def corrected_rows(self) -> PredictedRows:
        """The samples that are predicted, with outputs as far from the targets as the allowances demand."""
        f, Y, sample_weight = self.rows
        # An output whose scale grows by a factor loses its logarithm; those of a sample lose the nats together.
        factors = (f.new_tensor(self.allowances) / Y.shape[1]).exp()
        return Y + (f - Y) * factors[:, None, None], Y, sample_weight

    def in_units_of_noise(self, values: Tensor) -> Tensor:
        """Outputs or targets (..., n, k) of the samples that are predicted, as the loss of training takes them."""
        return self.objective.in_units_of_noise(values, self.predicted)

    @property
    def variances(self) -> list[Tensor]:
        """Variances (n, k) of each member's outputs, of the samples that are predicted."""
        rows = self.predicted
        return [member.variances[rows] for member in self._members]

    def weights_at_rows(self, weights: Any, noise: Sequence[np.ndarray] | None) -> Any:
        """Weights (n, 1) of members with this variance (k,) of the noise; without it the weights, alike in all rows."""
        if noise is None:
            return weights
        variances = self.variances
        return weights_at_rows(weights, variances, [variances[0].new_tensor(each) for each in noise])

    def log_probabilities(self, T: float = 1.0) -> tuple[Tensor, Tensor]:
        """Log likelihood (members, n) of the samples that are predicted, and their weights (n,).

        Outputs are divided by T. The loss must have a likelihood. Each label counts as a sample of its own.
        """
        f, Y, weight = self.rows
        if self.loss.independent_labels:
            weight = weight.repeat_interleave(Y.shape[1])
            f, Y = f.reshape(len(f), -1, 1), Y.reshape(-1, 1)
        return torch.stack([self.loss.log_likelihood(g / T, Y) for g in f]), weight

    def corrected_log_probabilities(self, T: float = 1.0) -> tuple[Tensor, Tensor]:
        """Log likelihood as :meth:`log_probabilities` has it, less the allowances, and the weights."""
        log_p, sample_weight = self.log_probabilities(T)
        nats = log_p.new_tensor(self.allowances) / (self.objective.Y.shape[1] if self.loss.independent_labels else 1)
        return log_p - nats[:, None], sample_weight

    @property
    def _members(self) -> list[LeftOut]:
        return [member for member in self.outputs if member is not None]


def _of_part(
    objective: Objective,
    *outputs: LeftOut,
    function: Callable[[LeftOutSamples], Any],
    loss: Loss,
    allowances: Sequence[float],
) -> Any:
    """Compute a function of the samples in a part of the rows."""
    return function(LeftOutSamples(objective, loss, outputs, allowances))


def log_mixture(log_p: Tensor, weights: np.ndarray) -> Tensor:
    """Log likelihood (n,) of samples under a mixture of members, whose own log likelihoods are (members, n)."""
    return torch.logsumexp(log_p + log_p.new_tensor(weights).log()[:, None], 0)
