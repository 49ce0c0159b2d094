"""Priors on the weights: fixed, or estimated with the noise level while training, by maximising the evidence.

With summed losses scaled by the noise precision beta (1 for log losses) the posterior's precision matrix is

    A = beta S (G + diag(a)),        a_g = alpha_g / (beta S)

where alpha_g is the prior precision of group g, and a_g is its form in the mean objective. After every accepted step

    gamma_g = P_g - a_g tr_g (G + diag(a))^-1        effective parameters
    alpha_g = gamma_g / ||w_g||^2
    beta    = (S k - sum gamma) / (2 S loss)

    log Z   = 1/2 sum_g P_g log alpha_g + S k / 2 log(beta / 2 pi) - beta S loss - 1/2 sum_g alpha_g ||w_g||^2
              - 1/2 log|A|

where S, the sum of the weights, replaces the number of samples.

References
----------
D. J. C. MacKay, A practical Bayesian framework for backpropagation networks, Neural Computation 4 (1992).
F. D. Foresee and M. T. Hagan, Gauss-Newton approximation to Bayesian learning, ICNN 1997.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from .direction import Direction
from .losses import Loss
from .network import Network
from .objective import Evaluation, Objective

__all__ = ["EvidencePrior", "FixedPrior", "Groups", "Prior", "make_prior", "prior_groups"]

#: Bounds of a precision, in units in which a standardised input and a standardised output have variance 1. Weights of
#: two layers that only matter by their product go to opposite bounds, whose product has to switch it off all the same:
#: with 1e6 a linear path of that kind was as good as free (docs/benchmarks.md).
_SMALLEST_PRECISION, _LARGEST_PRECISION = 1e-4, 1e10

#: A smaller noise variance, in units of the standardised target, counts as rounding error.
_SMALLEST_NOISE = 1e-12

#: Effective parameters of a group stay above this, so that it can come back; a group that has more is in use.
_SMALLEST_GAMMA, _IN_USE = 1e-3, 0.5


#: Part of the way that fixed precisions go from the start to 1 in one update, and the distance at which they are there.
_PACE, _THERE = 0.5, 1e-3


class Prior(Protocol):
    """Methods that training calls on a prior. Precisions are per (layer, input), in one vector (in + 1,) a layer."""

    @property
    def precision(self) -> list[Tensor]: ...

    @property
    def log_evidence(self) -> float | None: ...

    @property
    def n_effective_parameters(self) -> float: ...

    @property
    def settled(self) -> bool:
        """Whether the prior is as asked for, and no longer on the way to it."""
        ...

    @property
    def n_precisions(self) -> int:
        """Number of precisions estimated from the data."""
        ...

    @property
    def n_in_use(self) -> int:
        """Number of estimated precisions whose groups have at least half an effective parameter."""
        ...

    @property
    def noise_variance(self) -> Tensor | None:
        """Noise variance 1 / beta of each output (k,); None for log losses, and before it is known."""
        ...

    @property
    def total_weight(self) -> float:
        """S, the number of samples behind the estimates."""
        ...

    def move_to(self, total_weight: float) -> None:
        """Go on with another sample of the same data, or a larger one."""
        ...

    def estimates(self) -> dict[str, np.ndarray]:
        """Return the estimates from the data."""
        ...

    def restore(self, estimates: Mapping[str, np.ndarray]) -> None:
        """Go on from the :meth:`estimates` of another prior of the same network."""
        ...

    def update(self, objective: Objective, at: Evaluation, direction: Direction) -> Evaluation:
        """Re-estimate after an accepted step; return the evaluation under the new noise level."""
        ...

    def conclude(self, objective: Objective, at: Evaluation, direction: Direction) -> None:
        """Estimate what is still unknown when training has ended."""
        ...


class FixedPrior:
    """Prior with the same given precision for every weight: the l2/2 ||w||^2 of the objective."""

    log_evidence: float | None = None
    settled = True
    n_precisions = n_in_use = 0

    def __init__(self, network: Network, l2: float, has_noise: bool, like: Tensor, total_weight: float) -> None:
        self.total_weight = total_weight
        self.precision = [like.new_full((into,), l2) for _, into in network.shapes]
        self.n_effective_parameters = math.nan
        self.noise_variance: Tensor | None = None
        self._has_noise = has_noise

    def move_to(self, total_weight: float) -> None:
        self.total_weight = total_weight

    def estimates(self) -> dict[str, np.ndarray]:
        return {}

    def restore(self, estimates: Mapping[str, np.ndarray]) -> None:
        """Do nothing: nothing is learned before :meth:`conclude`."""

    def update(self, objective: Objective, at: Evaluation, direction: Direction) -> Evaluation:
        loss = objective.data_loss
        if not loss.depends_on_scale:
            return at
        # The scale of the noise decides which residuals are large; here it is the scale of greatest likelihood.
        return objective.reweigh(at, loss.at_precision(1 / _noise_variance(objective, at, 0.0, self.total_weight)))

    def conclude(self, objective: Objective, at: Evaluation, direction: Direction) -> None:
        """Estimate effective parameters and noise level, for the predictive standard deviation."""
        traces, _ = direction.inverse_traces(self.precision)
        gamma = objective.network.n_weights - float(self.precision[0][0]) * float(torch.cat(traces).sum())
        if not math.isfinite(gamma):
            return  # the data do not determine the weights, and there is no prior to do so
        self.n_effective_parameters = gamma
        if self._has_noise:
            self.noise_variance = _noise_variance(objective, at, gamma, self.total_weight)


def _noise_variance(objective: Objective, at: Evaluation, gamma: float, total_weight: float) -> Tensor:
    """Compute 1 / beta of each output, but at least the rounding error. Outputs share the effective parameters equally.

    ``total_weight`` samples have determined the parameters; the objective may hold a part of them.
    """
    errors = objective.weighted_squares(at) * (total_weight / objective.total_weight)
    S, k = total_weight, len(errors)
    return errors.clamp(min=_SMALLEST_NOISE * S) / max(1.0, S - gamma / k)


@dataclass(frozen=True)
class Groups:
    """Prior group of the weights of each (layer, input): numbers 0, 1, ..., one vector for each layer."""

    index: list[Tensor]

    def sum(self, per_input: list[Tensor]) -> Tensor:
        """Sum over the members of each group."""
        total = per_input[0].new_zeros(self.count)
        for index, values in zip(self.index, per_input, strict=True):
            total.index_add_(0, index, values)
        return total

    def spread(self, per_group: Tensor) -> list[Tensor]:
        """Give each member of a group the value of the group."""
        return [per_group[index] for index in self.index]

    @cached_property
    def count(self) -> int:
        return 1 + max(int(index.max()) for index in self.index)


def prior_groups(kind: str, network: Network, device: torch.device) -> Groups:
    """Make prior groups by name.

    Parameters
    ----------
    kind : {"feature", "layer", "shared"}
        "feature" has a group for the first-layer weights of each input feature. It also has groups for the biases of
        each hidden layer, the weights of each later layer, the linear path, and the readout's bias. "layer" is the
        same with all features in one group. "shared" has one group.
    network : Network
    device : torch.device
    """
    index, count = [], 0
    for layer, (_, into) in enumerate(network.shapes):
        if kind == "shared":
            groups = torch.zeros(into, dtype=torch.long)
        else:
            first, *others = network.input_blocks(layer)
            sizes = [1] * first if kind == "feature" and layer == 0 else [first]
            sizes += others
            groups = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes)) + count
            count += len(sizes)
        index.append(groups.to(device))
    return Groups(index)


class EvidencePrior:
    """Prior whose group precisions and noise precision are re-estimated by MacKay's fixed-point iteration.

    Parameters
    ----------
    network : Network
    groups : Groups
    total_weight : float
        S, the sum of the sample weights.
    noise_precision : float or None
        Initial beta in units of the standardised target; None for losses without a noise level (log losses).
    like : Tensor
        Tensor with the device and dtype to use.
    unit : bool, default=False
        Let every precision go to 1, in units of standardised inputs and outputs. Only the noise is estimated.
    """

    def __init__(
        self,
        network: Network,
        groups: Groups,
        total_weight: float,
        noise_precision: float | None,
        like: Tensor,
        unit: bool = False,
    ) -> None:
        self._groups, self.total_weight = groups, total_weight
        self._k, self._shapes = network.n_outputs, network.shapes
        self._has_noise = noise_precision is not None
        self._beta = like.new_full((self._k,), 1.0 if noise_precision is None else noise_precision)
        self._size = groups.sum([like.new_full((into,), float(out)) for out, into in network.shapes])
        # Fan-in: the prior dominates at first and the data earn each effective parameter.
        start = [network.fan_in(layer).to(like) for layer in range(len(network.shapes))]
        ones = [like.new_ones(into) for _, into in network.shapes]
        for layer, (first, one) in enumerate(zip(start, ones, strict=True)):
            # The output scale multiplies the readout: in its units every precision grows with alpha^2.
            first *= network.output_scale(layer) ** 2
            one *= network.output_scale(layer) ** 2
        self._alpha = self._group_mean(start)
        self._lowest = _SMALLEST_PRECISION * self._group_mean(ones)
        self._highest = _LARGEST_PRECISION * self._group_mean(ones)
        self._ones = self._group_mean(ones)
        self._unit, self.n_precisions = unit, 0 if unit else groups.count
        self.gamma = torch.zeros_like(self._alpha)
        self.precision = self._precision()
        self.log_evidence: float | None = -math.inf

    def _group_mean(self, per_input: list[Tensor]) -> Tensor:
        """Average a value per (layer, input) over the weights of each group."""
        per_weight = [v * out for v, (out, _) in zip(per_input, self._shapes, strict=True)]
        return self._groups.sum(per_weight) / self._size

    @property
    def _mean_beta(self) -> float:
        return float(self._beta.log().mean().exp())

    def _precision(self) -> list[Tensor]:
        """Compute a = alpha / (beta S) of the groups, per (layer, input)."""
        return self._groups.spread(self._alpha / (self._mean_beta * self.total_weight))

    @property
    def n_effective_parameters(self) -> float:
        return float(self.gamma.sum())

    @property
    def settled(self) -> bool:
        return not self._unit or bool(((self._alpha / self._ones - 1).abs() < _THERE).all())

    @property
    def n_in_use(self) -> int:
        return min(int((self.gamma > _IN_USE).sum()), self.n_precisions)

    @property
    def noise_variance(self) -> Tensor | None:
        """Noise variance 1 / beta of each output; None for log losses."""
        return 1 / self._beta if self._has_noise else None

    def move_to(self, total_weight: float) -> None:
        """Keep the estimates, which describe a density and so hold for any number of samples."""
        self.total_weight = total_weight
        self.precision = self._precision()

    def estimates(self) -> dict[str, np.ndarray]:
        values = {"alpha": self._alpha, "beta": self._beta, "gamma": self.gamma}
        return {name: value.cpu().numpy().copy() for name, value in values.items()}

    def restore(self, estimates: Mapping[str, np.ndarray]) -> None:
        self._alpha, self._beta, self.gamma = (
            torch.tensor(estimates[name], device=self.gamma.device) for name in ("alpha", "beta", "gamma")
        )
        self.precision = self._precision()

    def conclude(self, objective: Objective, at: Evaluation, direction: Direction) -> None:
        """Do nothing: every update has estimated everything."""

    def update(self, objective: Objective, at: Evaluation, direction: Direction) -> Evaluation:
        traces, log_determinant = direction.inverse_traces(self.precision)
        if not math.isfinite(log_determinant):
            # Singular to working precision (float32): the last estimates stand until the system is definite again.
            return at
        S, beta, alpha = self.total_weight, self._mean_beta, self._alpha
        gamma = (self._size - alpha / (beta * S) * self._groups.sum(traces)).clamp(min=_SMALLEST_GAMMA)
        squares = self._groups.sum([W.square().sum(0) for W in objective.network.split(at.w)])
        P = float(self._size.sum())
        self.log_evidence = (
            0.5 * float(self._size @ alpha.log())
            - beta * S * at.loss
            - 0.5 * float(alpha @ squares)
            - 0.5 * (P * math.log(beta * S) + log_determinant)
        )
        loss = objective.data_loss
        if loss.has_scale:
            scale = 1 / self._beta[None]
            self.log_evidence += S * float(loss.log_density(torch.zeros_like(scale), scale))
        self.gamma = gamma
        tiny = torch.finfo(squares.dtype).tiny
        if self._unit:
            # A prior that gives way at once lets the first steps overfit.
            self._alpha = torch.lerp(self._alpha, self._ones, _PACE)
        else:
            self._alpha = (gamma / (squares + tiny)).clamp(min=self._lowest, max=self._highest)
        if loss.has_scale:
            self._beta = 1 / _noise_variance(objective, at, float(gamma.sum()), self.total_weight)
            reweighed = loss.at_precision(self._beta)
            if reweighed is not loss:
                at = objective.reweigh(at, reweighed)
        self.precision = self._precision()
        return at


def make_prior(
    kind: str | float, network: Network, loss: Loss, noise_precision: float | None, total_weight: float, like: Tensor
) -> tuple[Prior, Loss]:
    """Make a prior, and the loss at the noise level that it starts with.

    The prior is a kind of :func:`prior_groups` or a fixed l2.
    """
    if not isinstance(kind, str):
        return FixedPrior(network, kind, loss.has_scale, like, total_weight), loss
    groups = prior_groups(kind, network, like.device)
    prior = EvidencePrior(network, groups, total_weight, noise_precision, like, unit=kind == "unit")
    if prior.noise_variance is not None:
        loss = loss.at_precision(1 / prior.noise_variance)
    return prior, loss
