"""State of one network between two iterations, and the linearisation that stands beside it.

A :class:`State` is a value: an iteration takes one and returns another. So whoever keeps a state, to go back to it or
to show it, keeps it as it was. The linearisation is large. It belongs to the present weights only, and there are never
two at a time.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .damping import Iterate
from .direction import Direction, smallest_eigenvalue
from .evidence import Estimates, Prior
from .jacobian import Jacobian
from .objective import Evaluation, Objective
from .status import Status

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Linearisation", "State", "Step"]


@dataclass(frozen=True, eq=False)
class Step:
    """A step that was found good, and its figures; without a damping, only the readout has moved.

    ``possible`` is the decrease of the objective that may still be possible, judged by this step.
    """

    to: Evaluation
    damping: float | None
    gain_ratio: float
    norm: float
    predicted: float
    actual: float
    possible: float


@dataclass(frozen=True, eq=False)
class State:
    """State of the training of one network.

    The likelihood is that of the objective, with its present noise level. ``step`` has led to the weights, where
    training has not yet ``arrived``: estimates, damping and history are those before the step. ``quiet`` and ``stale``
    count iterations without progress, of the objective and of what decides on the ``best`` state. ``readout_first``
    tells whether the next step may solve the readout alone. The history has one row for the start and one for each
    iteration. A ``finished`` state is a result.
    """

    objective: Objective
    prior: Prior
    estimates: Estimates
    at: Evaluation
    damping: float | None = None
    n_iter: int = 0
    status: Status = Status.RUNNING
    step: Step | None = None
    arrived: bool = False
    finished: bool = False
    readout_first: bool = True
    quiet: int = 0
    stale: int = 0
    best: State | None = field(default=None, repr=False)
    history: tuple[dict[str, float], ...] = field(default=(), repr=False)

    @classmethod
    def at_weights(cls, w: Tensor, objective: Objective, prior: Prior, estimates: Estimates) -> State:
        """The state of a training that begins at weights (P,), at the noise level of the estimates if it is known."""
        if estimates.squared_scale is not None:
            objective = objective.with_loss(objective.data_loss.at_precision(1 / estimates.squared_scale))
        return cls(objective, prior, estimates, objective.evaluate(w))

    def value(self, at: Evaluation) -> float:
        """Compute the objective: mean loss plus prior."""
        deviation = self.objective.deviation(at.w)
        return at.loss + 0.5 * float((self.estimates.a * deviation) @ deviation)

    @property
    def noise_variance(self) -> Tensor | None:
        """Variance of the noise of each output (k,); None for log losses, and before it is known."""
        scale = self.estimates.squared_scale
        return None if scale is None else scale * scale.new_tensor(self.objective.data_loss.variance_factor)

    @property
    def squared_scale_of_loss(self) -> Tensor | None:
        """Squared scale (k,) of the noise by which residuals count; None where the best weights do not depend on it."""
        loss = self.objective.data_loss
        precision = loss.precision
        if not loss.depends_on_scale:
            return self.estimates.squared_scale if loss.has_scale and precision is not None else None
        # Without a precision the scale is 1.
        return self.at.w.new_ones(self.objective.network.n_outputs) if precision is None else 1 / precision

    def after(self, step: Step) -> State:
        """The state at the weights of a step, where training has not yet arrived."""
        return replace(self, at=step.to, step=step, n_iter=self.n_iter + 1, arrived=False, readout_first=False)

    def estimated(self, direction: Direction) -> State:
        """The state with estimates from its weights; the loss of its outputs is that under the new noise level."""
        estimates, loss = self.prior.update(self.estimates, self.objective, self.at, direction)
        if loss is self.objective.data_loss:
            return replace(self, estimates=estimates)
        objective = self.objective.with_loss(loss)
        return replace(self, estimates=estimates, objective=objective, at=objective.reweigh(self.at))

    def concluded(self, direction: Direction) -> State:
        """The state with estimates of what was still unknown when training ended."""
        return replace(self, estimates=self.prior.conclude(self.estimates, self.objective, self.at, direction))

    def on(self, objective: Objective) -> State:
        """The state on other rows of the same data, with the same weights, estimates, noise level and damping.

        The last row of the history, if there is one, becomes that of the new objective.
        """
        objective = objective.with_loss(self.objective.data_loss)
        return replace(
            self,
            objective=objective,
            at=objective.evaluate(self.at.w),
            estimates=self.prior.on(self.estimates, objective.total_weight),
            status=Status.RUNNING,
            step=None,
            arrived=False,
            quiet=0,
            stale=0,
            best=None,
            history=self.history[:-1],
        )


class Linearisation:
    """A network linearised at an evaluation. Its parts are made when they are asked for, and kept.

    ``loss`` is the data loss of the system, with the noise level before the last estimates. ``solver`` is the
    direction's name, unless another one is given. ``system_dtype`` is the precision of the products of its Gram matrix.
    """

    # Not cached properties: before Python 3.12 these have one lock for all, and members train in threads.
    _jacobian: Jacobian | None = None
    _direction: Direction | None = None
    _data_gradient: Tensor | None = None
    _curvature: float | None = None
    #: The gradient under the last estimates, and what a rule was told at the last state.
    _gradient: tuple[Estimates, Tensor] | None = None
    _iterate: tuple[Estimates, Evaluation, Iterate] | None = None

    def __init__(
        self,
        objective: Objective,
        at: Evaluation,
        make_direction: Callable[[Jacobian, float], Direction],
        solver: str | None = None,
        system_dtype: torch.dtype | None = None,
    ) -> None:
        self.loss, self.total_weight = objective.data_loss, objective.total_weight
        self._objective, self._at = objective, at
        self._make_direction, self._solver, self._system_dtype = make_direction, solver, system_dtype

    @property
    def jacobian(self) -> Jacobian:
        if self._jacobian is None:
            self._jacobian = self._objective.jacobian(self._at, self._system_dtype)
        return self._jacobian

    @property
    def direction(self) -> Direction:
        if self._direction is None:
            self._direction = self._make_direction(self.jacobian, self.total_weight)
        return self._direction

    @property
    def data_gradient(self) -> Tensor:
        """Gradient of the mean data loss, (P,)."""
        if self._data_gradient is None:
            self._data_gradient = self._objective.gradient(self._at, self.jacobian)
        return self._data_gradient

    @property
    def curvature(self) -> float:
        """Mean diagonal entry of G."""
        if self._curvature is None:
            self._curvature = self.direction.trace() / self._objective.network.original.n_weights
        return self._curvature

    @property
    def solver(self) -> str:
        return self._solver or self.direction.name

    def gradient(self, state: State) -> Tensor:
        """Gradient of the objective at the state of these weights, (P,)."""
        if self._gradient is None or self._gradient[0] is not state.estimates:
            of_prior = state.estimates.a * state.objective.deviation(state.at.w)
            self._gradient = state.estimates, self.data_gradient + of_prior
        return self._gradient[1]

    def iterate(self, state: State) -> Iterate:
        """Make what a damping rule is told at the state of these weights."""
        if self._iterate is None or self._iterate[0] is not state.estimates or self._iterate[1] is not state.at:
            iterate = Iterate(
                state.n_iter,
                state.value(state.at),
                state.at.loss,
                float(self.gradient(state).norm()),
                self.curvature,
                # No reference to self: an object that keeps itself alive is freed late, and much with it.
                partial(smallest_eigenvalue, self.jacobian, self.direction, self.total_weight),
                is_linear=state.objective.network.is_linear and state.objective.data_loss.has_scale,
            )
            self._iterate = state.estimates, state.at, iterate
        return self._iterate[2]

    def renewed(self, state: State) -> Self:
        """The same system, with the gradient under the noise level of the state."""
        other = copy.copy(self)
        other._data_gradient = state.objective.gradient(state.at, self.jacobian)
        other._gradient = other._iterate = None
        return other

    def apart(self) -> Self:
        """A copy whose direction may remember what it is asked, without a change to this one."""
        other = copy.copy(self)
        other._direction = copy.copy(self.direction)
        return other
