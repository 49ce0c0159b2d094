"""Priors on the weights: fixed, or estimated with the noise level while training, by maximising the evidence.

With summed losses scaled by the noise precision beta (1 for log losses) the posterior's precision matrix is

    A = beta S (G + diag(a)),        a_g = alpha_g / (beta S)

where alpha_g is the prior precision of group g, and a_g is its form in the mean objective. After every accepted step

    gamma_g = P_g - a_g tr_g (G + diag(a))^-1        effective parameters
    alpha_g = gamma_g / ||w_g||^2
    beta    = (S k - sum gamma) / (2 S loss)

    log Z   = 1/2 sum_g P_g log alpha_g + S k / 2 log(beta / 2 pi) - beta S loss - 1/2 sum_g alpha_g ||w_g||^2
              - 1/2 log|A|

where S, the sum of the weights, replaces the number of samples. With ``init="centered"``, w stands for the distances
from the initial weights.

References
----------
D. J. C. MacKay, A practical Bayesian framework for backpropagation networks, Neural Computation 4 (1992).
F. D. Foresee and M. T. Hagan, Gauss-Newton approximation to Bayesian learning, ICNN 1997.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from .direction import Direction
from .losses import Loss, geometric_mean
from .network import Network
from .objective import Evaluation, Objective
from .prior_groups import Groups, PriorKind

__all__ = [
    "NATS_PER_CHOICE",
    "Estimates",
    "EvidencePrior",
    "FixedPrior",
    "GroupEstimates",
    "Prior",
    "log_ways",
    "make_prior",
]

#: Nats by which the left-out log density is too high for each precision, or other choice, that the same data have made.
NATS_PER_CHOICE = 0.5

#: Bounds of a precision, in units in which a standardised input and a standardised output have variance 1. Weights of
#: two layers that only matter by their product go to opposite bounds. The product of the bounds has to switch these
#: weights off all the same. With 1e6 such a linear path was as good as free (docs/decisions.md).
_SMALLEST_PRECISION, _LARGEST_PRECISION = 1e-4, 1e10

#: A smaller noise variance, in units of the standardised target, counts as rounding error.
_SMALLEST_NOISE = 1e-12

#: Effective parameters of a group stay above this, so that it can come back; a group that has more is in use.
_SMALLEST_GAMMA, _IN_USE = 1e-3, 0.5


#: Part of the way that fixed precisions go from the start to 1 in one update, and the distance at which they are there.
_PACE, _THERE = 0.5, 1e-3


class GroupEstimates(NamedTuple):
    """Prior precisions alpha and effective parameters gamma of the groups, and noise precisions beta (k,)."""

    alpha: Tensor
    beta: Tensor
    gamma: Tensor

    @property
    def mean_beta(self) -> float:
        """The noise precision that scales the summed loss."""
        return float(geometric_mean(self.beta))

    def a(self, S: float) -> Tensor:
        """Precisions in the mean objective of S samples, alpha / (beta S)."""
        return self.alpha / (self.mean_beta * S)


class _Found(NamedTuple):
    """Effective parameters and sums of squares of the groups, and the log evidence."""

    gamma: Tensor
    squares: Tensor
    log_evidence: float


@dataclass(frozen=True, eq=False)
class Estimates:
    """What a prior has learned from ``total_weight`` samples; what is not known is None.

    ``precision`` holds a per (layer, input), in one vector (in + 1,) for each layer. ``a`` holds the same per weight
    (P,), as it is added to the diagonal of G. ``squared_scale`` is that of the noise of each output, 1 / beta (k,).
    ``n_in_use`` counts the estimated precisions whose groups have at least half an effective parameter. ``settled``
    tells whether the prior is as asked for, and no longer on the way to it.
    """

    total_weight: float
    precision: list[Tensor]
    a: Tensor
    squared_scale: Tensor | None = None
    n_effective_parameters: float | None = None
    log_evidence: float | None = None
    n_in_use: int = 0
    settled: bool = True
    groups: GroupEstimates | None = None


class Prior(Protocol):
    """Rule that learns a prior from data: methods from estimates to estimates. A rule itself never changes.

    ``has_evidence`` tells whether it computes the log evidence, and ``n_precisions`` how many precisions it estimates.
    ``log_choices`` is the logarithm of the number of ways to choose as many columns of the inputs as it leaves in use.
    """

    has_evidence: bool
    n_precisions: int
    log_choices: float

    def initial(self, total_weight: float) -> Estimates:
        """Return the estimates of a training that begins on so many samples."""
        ...

    def on(self, estimates: Estimates, total_weight: float) -> Estimates:
        """Return the estimates for another sample of the same data, or a larger one."""
        ...

    def update(
        self, estimates: Estimates, objective: Objective, at: Evaluation, direction: Direction
    ) -> tuple[Estimates, Loss]:
        """Estimate anew after an accepted step; return the data loss under the new noise level too."""
        ...

    def conclude(self, estimates: Estimates, objective: Objective, at: Evaluation, direction: Direction) -> Estimates:
        """Estimate what is still unknown when training has ended."""
        ...

    def columns_in_use(self, estimates: Estimates) -> np.ndarray | None:
        """Whether each column of the first layer's inputs is in use; None if they have no precisions of their own."""
        ...

    def arrays(self, estimates: Estimates) -> dict[str, np.ndarray]:
        """Return what has been learned, by name."""
        ...

    def from_arrays(self, arrays: Mapping[str, np.ndarray], total_weight: float) -> Estimates:
        """Return the estimates that :meth:`arrays` describes, for so many samples."""
        ...


class FixedPrior:
    """Prior with the same given precision for every weight: the l2/2 ||w||^2 of the objective."""

    has_evidence = False
    n_precisions = 0
    log_choices = 0.0

    def __init__(self, network: Network, l2: float, has_noise: bool, like: Tensor) -> None:
        self._l2, self._has_noise = l2, has_noise
        self._precision = [like.new_full((into,), l2) for _, into in network.shapes]
        self._a = network.expand(self._precision)

    def initial(self, total_weight: float) -> Estimates:
        return Estimates(total_weight, self._precision, self._a)

    def on(self, estimates: Estimates, total_weight: float) -> Estimates:
        return replace(estimates, total_weight=total_weight)

    def update(
        self, estimates: Estimates, objective: Objective, at: Evaluation, direction: Direction
    ) -> tuple[Estimates, Loss]:
        loss = objective.data_loss
        if loss.depends_on_scale:
            # The scale decides which residuals are large; here it is the scale of greatest likelihood.
            loss = loss.at_precision(1 / _squared_scale(objective, at, 0.0, estimates.total_weight))
        return estimates, loss

    def conclude(self, estimates: Estimates, objective: Objective, at: Evaluation, direction: Direction) -> Estimates:
        """Estimate effective parameters and noise level, for the predictive standard deviation."""
        traces, _ = direction.inverse_traces(estimates.precision)
        gamma = objective.network.n_weights - self._l2 * float(torch.cat(traces).sum())
        if not math.isfinite(gamma):
            return estimates  # the data do not determine the weights, and there is no prior to do so
        scale = _squared_scale(objective, at, gamma, estimates.total_weight) if self._has_noise else None
        return replace(estimates, n_effective_parameters=gamma, squared_scale=scale)

    def columns_in_use(self, estimates: Estimates) -> None:
        """Return None: all weights have the same precision."""

    def arrays(self, estimates: Estimates) -> dict[str, np.ndarray]:
        return {}

    def from_arrays(self, arrays: Mapping[str, np.ndarray], total_weight: float) -> Estimates:
        """Return the initial estimates: nothing is learned before :meth:`conclude`."""
        return self.initial(total_weight)


def _squared_scale(objective: Objective, at: Evaluation, gamma: float, total_weight: float) -> Tensor:
    """Compute 1 / beta of each output, but at least the rounding error, or what the loss allows.

    Outputs share the effective parameters equally. ``total_weight`` samples have determined the parameters; the
    objective may hold a part of them.
    """
    squares = objective.squares(at)
    errors = squares.total * (total_weight / squares.weight)
    S, k = total_weight, len(errors)
    scale = errors.clamp(min=_SMALLEST_NOISE * S) / max(1.0, S - gamma / k)
    return scale.clamp(min=1 / objective.data_loss.largest_precision)


class EvidencePrior:
    """Prior whose group precisions and noise precision are re-estimated by MacKay's fixed-point iteration.

    Parameters
    ----------
    network : Network
    groups : Groups
    noise_precision : float or Tensor of shape (k,) or None
        Initial beta in units of the standardised target; None for losses without a noise level (log losses).
    like : Tensor
        Tensor with the device and dtype to use.
    unit : bool, default=False
        Let every precision go to 1, in units of standardised inputs and outputs. Only the noise is estimated.
    off : bool, default=False
        Switch the last group off. Its precision is the highest, and is not estimated.
    log_choices : float, default=0.0
        Logarithm of the number of ways to choose the columns that are read.
    weaker : float, default=1.0
        Initial precisions of the weights are divided by this.
    """

    has_evidence = True

    def __init__(
        self,
        network: Network,
        groups: Groups,
        noise_precision: float | Tensor | None,
        like: Tensor,
        unit: bool = False,
        off: bool = False,
        log_choices: float = 0.0,
        weaker: float = 1.0,
    ) -> None:
        self._groups, self._network = groups, network
        self._has_noise, self._unit = noise_precision is not None, unit
        self.n_precisions = 0 if unit else groups.count - off
        self.log_choices = log_choices
        self._size = groups.sum([like.new_full((into,), float(out)) for out, into in network.shapes])
        # Fan-in: the prior dominates at first and the data earn each effective parameter.
        start = [network.fan_in(layer).to(like) for layer in range(len(network.shapes))]
        ones = [like.new_ones(into) for _, into in network.shapes]
        for layer, (first, one) in enumerate(zip(start, ones, strict=True)):
            # The output scale multiplies the readout: in its units every precision grows with alpha^2.
            first *= network.output_scale(layer) ** 2
            one *= network.output_scale(layer) ** 2
        # What the precisions of a unit prior go to, and the bounds of those that are estimated.
        self._given = self._group_mean(ones)
        self._lowest, self._highest = _SMALLEST_PRECISION * self._given, _LARGEST_PRECISION * self._given
        beta = like.new_ones(network.n_outputs) * (1.0 if noise_precision is None else noise_precision)
        alpha = self._group_mean(start) / weaker
        if off:
            alpha[-1] = self._given[-1] = self._lowest[-1] = self._highest[-1]
        self._initial = GroupEstimates(alpha, beta, torch.zeros_like(alpha))

    def _group_mean(self, per_input: list[Tensor]) -> Tensor:
        """Average a value per (layer, input) over the weights of each group."""
        per_weight = [v * out for v, (out, _) in zip(per_input, self._network.shapes, strict=True)]
        return self._groups.sum(per_weight) / self._size

    def _estimates(self, groups: GroupEstimates, total_weight: float, log_evidence: float | None) -> Estimates:
        """Derive everything else from the estimates of the groups."""
        alpha, beta, gamma = groups
        precision = self._groups.spread(groups.a(total_weight))
        return Estimates(
            total_weight=total_weight,
            precision=precision,
            a=self._network.expand(precision),
            squared_scale=1 / beta if self._has_noise else None,
            n_effective_parameters=float(gamma.sum()),
            log_evidence=log_evidence,
            n_in_use=min(int((gamma > _IN_USE).sum()), self.n_precisions),
            settled=not self._unit or bool(((alpha / self._given - 1).abs() < _THERE).all()),
            groups=groups,
        )

    def initial(self, total_weight: float) -> Estimates:
        return self._estimates(self._initial, total_weight, None)

    def on(self, estimates: Estimates, total_weight: float) -> Estimates:
        """Keep what describes a density, and so holds for any number of samples."""
        return self._estimates(_known(estimates), total_weight, estimates.log_evidence)

    def arrays(self, estimates: Estimates) -> dict[str, np.ndarray]:
        known = _known(estimates)
        # Effective parameters that are not known are those of the start, which no update of such a prior asks for.
        known = known._replace(gamma=known.gamma.nan_to_num())
        return {name: value.cpu().numpy().copy() for name, value in known._asdict().items()}

    def from_arrays(self, arrays: Mapping[str, np.ndarray], total_weight: float) -> Estimates:
        device = self._given.device
        groups = GroupEstimates(**{name: torch.tensor(value, device=device) for name, value in arrays.items()})
        return self._estimates(groups, total_weight, None)

    def conclude(self, estimates: Estimates, objective: Objective, at: Evaluation, direction: Direction) -> Estimates:
        """Estimate what updates without traces have left out; others have estimated everything."""
        known = _known(estimates)
        found = self._found(estimates, objective, at, direction) if bool(known.gamma.isnan().any()) else None
        if found is None:
            return estimates
        return self._estimates(known._replace(gamma=found.gamma), estimates.total_weight, found.log_evidence)

    def columns_in_use(self, estimates: Estimates) -> np.ndarray | None:
        columns = self._groups.columns
        return None if columns is None or self._unit else (_known(estimates).gamma[columns] > _IN_USE).cpu().numpy()

    def update(
        self, estimates: Estimates, objective: Objective, at: Evaluation, direction: Direction
    ) -> tuple[Estimates, Loss]:
        loss, S, known = objective.data_loss, estimates.total_weight, _known(estimates)
        if self._unit and not loss.estimates_scale:
            unknown = torch.full_like(known.gamma, torch.nan)
            return self._estimates(GroupEstimates(self._toward_given(known.alpha), known.beta, unknown), S, None), loss
        found = self._found(estimates, objective, at, direction)
        if found is None:
            # Singular to working precision (float32): the last estimates stand until the system is definite again.
            return estimates, loss
        gamma, squares, log_evidence = found
        alpha = self._toward_given(known.alpha) if self._unit else self._fixed_point(gamma, squares)
        beta = known.beta
        if loss.estimates_scale:
            beta = 1 / _squared_scale(objective, at, float(gamma.sum()), S)
            loss = loss.at_precision(beta)
        return self._estimates(GroupEstimates(alpha, beta, gamma), S, log_evidence), loss

    def _found(self, estimates: Estimates, objective: Objective, at: Evaluation, direction: Direction) -> _Found | None:
        """Effective parameters and evidence at weights, under the present precisions; None if they are not known."""
        loss, S, known = objective.data_loss, estimates.total_weight, _known(estimates)
        traces, log_determinant = direction.inverse_traces(estimates.precision)
        if not math.isfinite(log_determinant):
            return None
        squares = self._groups.sum([W.square().sum(0) for W in objective.network.split(objective.deviation(at.w))])
        gamma = (self._size - known.a(S) * self._groups.sum(traces)).clamp(min=_SMALLEST_GAMMA)
        return _Found(gamma, squares, self._log_evidence(known, S, loss, at.loss, squares, log_determinant))

    def _log_evidence(
        self, known: GroupEstimates, S: float, loss: Loss, mean_loss: float, squares: Tensor, log_determinant: float
    ) -> float:
        alpha, beta, P = known.alpha, known.mean_beta, float(self._size.sum())
        return (
            0.5 * float(self._size @ alpha.log())
            - beta * S * mean_loss
            - 0.5 * float(alpha @ squares)
            - 0.5 * (P * math.log(beta * S) + log_determinant)
        ) + S * loss.log_normaliser(known.beta)

    def _toward_given(self, alpha: Tensor) -> Tensor:
        """Precisions of a unit prior; one that gives way at once lets the first steps overfit."""
        return torch.lerp(alpha, self._given, _PACE)

    def _fixed_point(self, gamma: Tensor, squares: Tensor) -> Tensor:
        tiny = torch.finfo(squares.dtype).tiny
        return (gamma / (squares + tiny)).clamp(min=self._lowest, max=self._highest)


def _known(estimates: Estimates) -> GroupEstimates:
    assert estimates.groups is not None
    return estimates.groups


def log_ways(m: int, k: int) -> float:
    """Logarithm of the number of ways to choose k of m."""
    return math.lgamma(m + 1) - math.lgamma(k + 1) - math.lgamma(m - k + 1)


def make_prior(
    kind: PriorKind,
    network: Network,
    loss: Loss,
    noise_precision: float,
    like: Tensor,
    columns: np.ndarray | None = None,
    log_choices: float = 0.0,
    unit_precision: float | Tensor = 1.0,
) -> Prior:
    """Make a prior of a kind for a network and a loss. If ``columns`` are given, no others are in use.

    The network may read these alone, or all of them. The same samples have made ``log_choices`` nats of other choices
    in the inputs. The noise begins at ``noise_precision`` times the ``unit_precision``. Where labels have no noise, the
    initial prior of the weights is weaker by ``noise_precision``. Counts tell more of their outputs, and need no weaker
    one (docs/decisions.md).
    """
    if kind.l2 is not None:
        return FixedPrior(network, kind.l2, loss.estimates_scale, like)
    log_choices += 0.0 if columns is None else log_ways(len(columns), int(columns.sum()))
    off = columns is not None and network.shapes[0][1] > len(columns)
    groups = Groups.of(kind.groups, network, like.device, columns if off else None)
    noise = (like.new_tensor(noise_precision) * unit_precision).clamp(max=loss.largest_precision)
    weaker = noise_precision if loss.has_temperature else 1.0
    return EvidencePrior(
        network, groups, noise if loss.estimates_scale else None, like, kind.unit, off, log_choices, weaker
    )
