"""The objective of a network on rows that stay on their workers: it sums what each worker computes on its own rows.

A worker computes its part by the `Objective` and the `Jacobian` of a single machine, and sends the sum over its rows.
For a step that is tried it sends the loss (1 number), and for a loss with a noise level the squared residuals of each
output (k numbers). For a step that is accepted it sends the gradient and the upper triangle of the Gram matrix
(P + P (P + 1) / 2 numbers).
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..candidates import Start
from ..jacobian import Jacobian
from ..losses import Loss
from ..mixing import outputs_of_targets
from ..network import Network
from ..objective import Evaluation, Objective
from ..problem import Problem
from .rows import Scaled, last_hash
from .shards import Shards

__all__ = ["DistributedObjective", "DistributedProblem", "numbers_per_iteration"]


def numbers_per_iteration(network: Network, loss: Loss, estimates_noise: bool) -> int:
    """Count the numbers that a worker sends in an iteration whose first step is accepted.

    There are P (P + 1) / 2 + P for Gram matrix and gradient, 1 for the loss, and k for a noise level. If estimated
    noise levels change the loss, the last two are sent once more.
    """
    P, k = network.n_weights, network.n_outputs
    changes = estimates_noise and loss.estimates_scale and loss.at_precision(torch.ones(k, device="cpu")) is not loss
    return P * (P + 1) // 2 + P + (1 + k * loss.estimates_scale) * (1 + changes)


def _mixed(rows: Scaled, mixing: np.ndarray) -> Scaled:
    return rows._replace(Y=np.ascontiguousarray(outputs_of_targets(rows.Y, mixing)))


@dataclass(frozen=True)
class _View:
    """The rows and the network that an objective sees.

    The rows are those with hashes up to ``last_hash``, or all. Outputs at ``anchor`` are subtracted. With ``hidden``,
    the network is the readout alone, as a linear model of these hidden layers.
    """

    network: Network
    scaling: str
    dtype: torch.dtype
    last_hash: int | None
    anchor: Tensor | None = None
    hidden: Tensor | None = None

    def objective(self, rows: Scaled, loss: Loss) -> Objective | None:
        """Make the local objective; None without rows."""
        n = rows.count_until(self.last_hash)
        if n == 0:
            return None
        X, Y, weight = (
            torch.from_numpy(np.require(values[:n], requirements="W")).to(self.dtype)
            for values in (rows.scaled[self.scaling], rows.Y, rows.weight)
        )
        objective = Objective(self.network, loss, X, Y, weight).for_member(self.anchor)
        return objective if self.hidden is None else objective.readout(objective.evaluate(self.hidden))[0]


def _on_rows(
    rows: Scaled, *values: Any, view: _View, loss: Loss, function: Callable[..., Any], w: Tensor | None = None
) -> Any:
    """Call ``function(objective, ...)`` with the local objective, and its evaluation at w or other local values."""
    objective = view.objective(rows, loss)
    if objective is None:
        return None
    result = function(objective, *(values if w is None else (objective.evaluate(w),)))
    return result.numpy() if isinstance(result, Tensor) else result


def _size(objective: Objective) -> Tensor:
    zero = torch.zeros_like(objective.Y)
    loss = objective.data_loss.value(zero, objective.Y).double() @ objective.sample_weight.double()
    return torch.from_numpy(np.array([objective.n_samples, objective.total_weight, float(loss)], dtype=np.float64))


def _loss(objective: Objective, at: Evaluation) -> Tensor:
    """Return the loss, and what estimates a noise level of the step if it is accepted: one pass over the rows tells."""
    loss = at.w.new_tensor([at.loss * objective.total_weight])
    return torch.cat([loss, objective.weighted_squares(at)]) if objective.data_loss.estimates_scale else loss


def _gradient(objective: Objective, at: Evaluation, jacobian: Jacobian | None = None) -> Tensor:
    return objective.gradient(at, jacobian) * objective.total_weight


def _linearisation(objective: Objective, at: Evaluation, system_dtype: torch.dtype | None) -> Tensor:
    """Return the upper triangle of the Gram matrix, row by row, and the gradient."""
    jacobian = objective.jacobian(at, system_dtype)
    G = jacobian.gram().double()
    triangle = [row[i:] for i, row in enumerate(G)]
    return torch.cat([*triangle, _gradient(objective, at, jacobian)])


class DistributedJacobian(Jacobian):
    """The part of a Jacobian that a primal direction needs; its rows are on the workers."""

    def __init__(
        self, objective: DistributedObjective, at: Evaluation, system_dtype: torch.dtype | None = None
    ) -> None:
        self.network, self.w, self.c = objective.network, at.w.to(objective.dtype), objective.n_columns
        self.shape = (objective.n_samples * self.c, self.network.n_weights)
        self.system_dtype = system_dtype
        self._sums = objective.sum_at(partial(_linearisation, system_dtype=system_dtype), at.w)

    def gram(self, dtype: torch.dtype | None = None) -> Tensor:
        P = self.network.n_weights
        G, position = self.w.new_empty(P, P, dtype=torch.float64), 0
        for i in range(P):
            G[i, i:] = G[i:, i] = self._sums[position : position + P - i]
            position += P - i
        return G

    @property
    def summed_gradient(self) -> Tensor:
        """Gradient of the summed data loss, (P,)."""
        return self._sums[-self.network.n_weights :]


class DistributedObjective(Objective):
    """Weighted mean loss of a network on rows in shards.

    Its :class:`~skgn.objective.Evaluation` holds no outputs.
    """

    def __init__(self, shards: Shards, view: _View, loss: Loss) -> None:
        self._shards, self._view = shards, view
        self.network, self.data_loss, self.dtype = view.network, loss, view.dtype
        self.n_columns = loss.columns(self.network.n_outputs)
        n, self.total_weight, at_zero = self.sum(_size).tolist()
        self.n_samples, self.loss_at_zero = int(n), at_zero / self.total_weight
        self.item_size, self._eps = self.dtype.itemsize, float(torch.finfo(self.dtype).eps)

    def for_member(self, anchor: Tensor | None = None, centred: bool = True) -> DistributedObjective:
        member = self._seeing(anchor=anchor)
        member._prior_mean = anchor if centred else None
        return member

    def _seeing(self, **changes: Any) -> DistributedObjective:
        other = copy.copy(self)
        other._view = replace(self._view, **changes)
        return other

    def _task(self, function: Callable[..., Any], w: Tensor | None = None) -> Callable[..., Any]:
        return partial(_on_rows, view=self._view, loss=self.data_loss, function=function, w=w)

    def sum_at(self, function: Callable[[Objective, Evaluation], Tensor], w: Tensor) -> Tensor:
        """Sum over the shards a function of the local objective and its evaluation at w."""
        return torch.tensor(self._shards.sum(self._task(function, w)), device="cpu")

    def sum(self, function: Callable[..., Tensor], *args: Shards) -> Tensor:
        return torch.tensor(self._shards.sum(self._task(function), *args), device="cpu")

    def apply(self, function: Callable[..., Any], *args: Evaluation) -> Shards:
        (at,) = args
        return self._shards.map(self._task(function, at.w))

    def gather(self, function: Callable[..., Any], *args: Shards) -> None:
        return None

    def evaluate(self, w: Tensor) -> Evaluation:
        sums = self.sum_at(_loss, w)
        squares = sums[1:] if self.data_loss.estimates_scale else None
        return Evaluation(w, w.new_empty(0, self.network.n_outputs), float(sums[0]) / self.total_weight, [], squares)

    def reweigh(self, at: Evaluation) -> Evaluation:
        return self.evaluate(at.w)

    def weighted_squares(self, at: Evaluation) -> Tensor:
        assert at.squares is not None
        return at.squares

    def readout(self, at: Evaluation) -> tuple[DistributedObjective, Evaluation]:
        readout = self.network.readout
        assert readout is not None
        linear = self._seeing(hidden=at.w)
        linear.network, linear._prior_mean = readout, self._readout_mean(readout.n_weights)
        return linear, at._replace(w=at.w[-linear.network.n_weights :])

    def jacobian(self, at: Evaluation, system_dtype: torch.dtype | None = None) -> DistributedJacobian:
        return DistributedJacobian(self, at, system_dtype)

    def gradient(self, at: Evaluation, jacobian: Jacobian | None = None) -> Tensor:
        if isinstance(jacobian, DistributedJacobian):
            return jacobian.summed_gradient / self.total_weight
        return self.sum_at(_gradient, at.w) / self.total_weight


@dataclass(frozen=True)
class DistributedProblem(Problem):
    """A problem whose data are the shards, with the given number of rows and outputs and the given total weight."""

    shards: Shards
    size: tuple[int, int]
    total_weight: float

    #: Targets on workers are standardised.
    _unit_precision = 1.0

    @property
    def n_samples(self) -> int:
        return self.size[0]

    @property
    def n_outputs(self) -> int:
        return self.size[1]

    def first_rows(self, rows: int) -> DistributedProblem:
        """Return the problem of all rows: their sums cost what the workers have."""
        return self

    def mixed(self, mixing: np.ndarray) -> DistributedProblem:
        shards = self.shards.map(partial(_mixed, mixing=mixing))
        return replace(self, shards=shards, loss=self.loss.mixed(mixing))

    def rows_in_memory(self, rows: int) -> int:
        return 1

    def network(self, start: Start) -> Network:
        """The network of the start: a basis of the inputs would take another pass over the shards."""
        return start.network

    @cached_property
    def _last_hashes(self) -> dict[int, int | None]:
        return {self.n_samples: None}

    def objective(self, network: Network, scaling: str, rows: int) -> Objective:
        if rows not in self._last_hashes:
            self._last_hashes[rows] = last_hash(self.shards, rows)
        return DistributedObjective(
            self.shards, _View(network, scaling, self.dtype, self._last_hashes[rows]), self.loss
        )
