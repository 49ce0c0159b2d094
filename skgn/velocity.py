"""The velocity of a flow of the weights, and what is recorded where it passes.

The flows themselves are in :mod:`skgn.dynamics`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .damping import DampingRule, GainRatio, Iterate
from .direction import Direction, smallest_eigenvalue
from .directions import choose
from .evidence import FixedPrior
from .full_step import FullStep
from .jacobian import Jacobian
from .memory import Extent
from .objective import Evaluation, Objective
from .primal import Primal
from .settings import Settings
from .spectrum import decompose
from .state import State
from .training import Training

__all__ = ["Budget", "Point", "Velocity"]

#: Largest number of iterations for the lowest loss. The search ends before if steps are lost in rounding.
_BEST_ITERATIONS = 500


class Point(NamedTuple):
    """One moment of a trajectory; names are those of the trajectory."""

    objective: float
    outputs: np.ndarray
    loss: float
    gradient_norm: float
    riemannian_gradient_norm: float
    min_eigenvalue: float
    max_eigenvalue: float
    damping: float


class _Linearised(NamedTuple):
    at: Evaluation
    jacobian: Jacobian
    data_gradient: Tensor
    gradient: Tensor


class Velocity:
    """Velocity dw/dt of a flow: minus the gradient, or its Gauss-Newton step damped by a rule."""

    def __init__(self, objective: Objective, w0: Tensor, l2: float, rule: DampingRule | None, solver: str) -> None:
        network = objective.network
        self.n_evaluations = 0
        self._objective, self._l2, self._rule = objective, l2, rule
        self._prior = FixedPrior(network, l2, objective.data_loss.estimates_scale, w0)
        self._estimates = self._prior.initial(objective.total_weight)
        self._make_direction = choose(solver, Extent(network, objective.n_samples, objective.n_columns))
        if not self._make_direction.exact:
            name = self._make_direction.name
            raise ValueError(f"A flow needs exact steps, and those of solver={solver!r}, here {name!r}, are not.")

    def __call__(self, t: float, w: np.ndarray) -> np.ndarray:
        self.n_evaluations += 1
        here = self._linearise(torch.from_numpy(w))
        if self._rule is None:
            return -here.gradient.numpy()
        if not bool(torch.isfinite(here.gradient).all()):
            return np.full_like(w, np.nan)  # the step control takes it for a step too long
        direction = self._direction(here)
        smallest = partial(smallest_eigenvalue, here.jacobian, direction, self._objective.total_weight)
        damping = self._damping(t, here, direction, smallest)
        return direction.solve(here.gradient, self._estimates.precision, damping).numpy()

    def jacobian(self, t: float, w: np.ndarray) -> np.ndarray:
        """Return the Gauss-Newton approximation of the Jacobian of minus the gradient, for implicit methods."""
        G = Primal(self._linearise(torch.from_numpy(w)).jacobian, self._objective.total_weight).G
        return -(G + self._l2 * torch.eye(len(G), dtype=G.dtype, device=G.device)).numpy()

    def look(self, t: float, w: Tensor) -> Point:
        """Compute everything that a trajectory records at w."""
        here = self._linearise(w)
        found = decompose(here.jacobian, here.data_gradient, self._objective.total_weight)
        damping = math.nan
        if self._rule is not None:
            damping = self._damping(t, here, self._direction(here), lambda: found.min_eigenvalue)
        return Point(
            objective=self._value(here),
            outputs=here.at.outputs.numpy(),
            loss=here.at.loss,
            gradient_norm=float(here.gradient.norm()),
            damping=damping,
            **found._asdict(),
        )

    def lowest(self, w: Tensor) -> float:
        """Find the lowest objective that damped Gauss-Newton reaches from w."""
        settings = Settings(max_iter=_BEST_ITERATIONS, tol=0.0)
        state = State.at_weights(w, self._objective, self._prior, self._estimates)
        training = Training(state, FullStep(GainRatio(), self._make_direction, settings), settings)
        training.run(_BEST_ITERATIONS)
        return min(row["objective"] for row in training.state.history)

    def _linearise(self, w: Tensor) -> _Linearised:
        at = self._objective.evaluate(w)
        jacobian = self._objective.jacobian(at)
        data_gradient = self._objective.gradient(at, jacobian)
        return _Linearised(at, jacobian, data_gradient, data_gradient + self._l2 * self._objective.deviation(w))

    def _direction(self, here: _Linearised) -> Direction:
        return self._make_direction(here.jacobian, self._objective.total_weight)

    def _value(self, here: _Linearised) -> float:
        deviation = self._objective.deviation(here.at.w)
        return here.at.loss + 0.5 * self._l2 * float(deviation @ deviation)

    def _damping(self, t: float, here: _Linearised, direction: Direction, smallest: Callable[[], float]) -> float:
        assert self._rule is not None
        iterate = Iterate(
            iteration=t,
            objective=self._value(here),
            loss=here.at.loss,
            gradient_norm=float(here.gradient.norm()),
            curvature=direction.trace() / len(here.at.w),
            smallest_eigenvalue=smallest,
        )
        return self._rule.initial(iterate)


class Budget:
    """Event for solve_ivp that occurs once a given number of velocities has been computed."""

    terminal = True
    direction = 0.0

    def __init__(self, velocity: Velocity, most: int) -> None:
        self._velocity, self._most, self.end = velocity, most, math.inf

    def __call__(self, t: float, w: np.ndarray) -> float:
        if self._velocity.n_evaluations > self._most and t < self.end == math.inf:
            self.end = t
        return 1.0 if self.end == math.inf else self.end - t
