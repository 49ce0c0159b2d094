"""A step on all rows at once: solve the damped system, test the step, and take it or try again.

A step is taken only after its objective was computed and found lower. With variable projection the readout, a linear
model of the last hidden layer, is solved for the hidden layers of every trial.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .backend import memory_budget
from .damping import DampingRule, Iterate
from .direction import Direction
from .jacobian import Jacobian
from .memory import readout_memory
from .objective import Evaluation, Objective
from .primal import Primal
from .settings import Settings
from .state import Linearisation, State, Step
from .status import Status

__all__ = ["FullStep"]

#: A step must gain this fraction of the predicted decrease (the usual constant of Armijo's condition).
_SUFFICIENT_GAIN = 1e-4

#: Systems of fewer rows are as fast in float64. In larger systems, rounding errors of float32 may change the log
#: likelihood by so many nats, for standardised inputs and weights of 1 (docs/decisions.md).
_LARGE_SYSTEM, _ROUNDING_NATS = 250, 0.02

#: Dampings or step lengths tried from one iterate before giving up; 4^30 and 2^-30 leave nothing to try.
_MAX_TRIES = 30


@dataclass(frozen=True)
class FullStep:
    """Steps on all rows. ``make_direction`` turns a Jacobian and the total weight into a solver.

    So does ``make_last``, which left-out predictions rest on; by default it is the same.
    """

    rule: DampingRule
    make_direction: Callable[[Jacobian, float], Direction]
    settings: Settings
    make_last: Callable[[Jacobian, float], Direction] | None = None

    def linearise(self, state: State) -> Linearisation:
        return self._linearised(state, self.make_direction)

    def conclude(self, state: State, linearisation: Linearisation) -> Linearisation:
        if self.make_last in (None, self.make_direction):
            return linearisation
        return self._linearised(state, self.make_last)

    @staticmethod
    def _linearised(state: State, make_direction: Callable[[Jacobian, float], Direction]) -> Linearisation:
        return Linearisation(state.objective, state.at, make_direction, system_dtype=_system_dtype(state))

    def step(self, state: State, linearisation: Linearisation, pause: Callable[[], bool]) -> Step | Status:
        """Find the first step that passes its test, or the reason why there is none."""
        if state.readout_first and state.objective.data_loss.readout_first:
            step = self._readout_step(state)
            if step is not None:
                return step
        iterate, gradient = linearisation.iterate(state), linearisation.gradient(state)
        noise = state.objective.rounding_error(iterate.objective)
        damping, length = state.damping, self.rule.step_size
        assert damping is not None
        solved: Tensor | None = None
        for _ in range(_MAX_TRIES):
            if solved is None:
                solved = linearisation.direction.solve(gradient, state.estimates.precision, damping)
            larger = self.rule.rejected(damping, iterate)
            step = self._trial(state, gradient, solved, damping, length, adapts=larger is not None)
            if step is not None:
                if _is_accepted(step, state, iterate, noise):
                    return step
                if abs(step.actual) <= noise and step.possible <= noise:
                    return Status.PRECISION
            if larger is None:
                length *= 0.5
            else:
                damping, solved = larger, None
        return Status.NO_DESCENT

    def _trial(
        self, state: State, gradient: Tensor, solved: Tensor, damping: float, length: float, adapts: bool
    ) -> Step | None:
        """Compute the outcome of a step of some length along the solution; None if the solution is not finite.

        A damping that ``adapts`` tells how far the linearisation holds. Any other may hold the step back for ever, so
        that the linearisation tells by its best step in this direction what is possible.
        """
        step = length * solved
        # One transfer from a device for all three.
        slope, square, norm = torch.stack([gradient @ solved, solved @ solved, step.norm()]).tolist()
        if not math.isfinite(norm):
            return None
        # (G + diag a + damping) solved = -gradient gives the curvature along the step without another product.
        curvature = max(0.0, -slope - damping * square)
        predicted = -length * slope - 0.5 * length**2 * curvature
        trial = state.objective.evaluate(state.at.w + step)
        if self._projects(state.objective):
            trial = _with_readout(state, trial)
        F = state.value(state.at)
        actual = F - state.value(trial)
        gain = actual / predicted if predicted > state.objective.rounding_error(F) else 1.0
        # An objective of 0 has nothing to gain, whatever slopes and rounding errors promise.
        promised = predicted if adapts else min(_largest_decrease(slope, curvature), abs(F))
        return Step(trial, damping, gain, norm, predicted, actual, max(promised, actual))

    def _readout_step(self, state: State) -> Step | None:
        """Make a step of the readout alone; None if it does not lower the objective."""
        F, at = state.value(state.at), self.with_readout(state).at
        gain = F - state.value(at)
        if not gain > state.objective.rounding_error(F):
            return None
        return Step(at, None, 1.0, float((at.w - state.at.w).norm()), gain, gain, gain)

    def with_readout(self, state: State) -> State:
        """Return the state with its readout solved for the hidden layers, if variable projection is asked for."""
        return replace(state, at=_with_readout(state, state.at)) if self._projects(state.objective) else state

    def _projects(self, objective: Objective) -> bool:
        """Whether the readout is solved on its own.

        That must cost at most a quarter of an iteration, and its system must fit the memory budget as a temporary.
        """
        network, readout, n = objective.network, objective.network.readout, objective.n_samples
        if readout is None or not self.settings.project_readout:
            return False
        cheap = 2 * readout.n_weights <= min(network.n_weights, n * objective.n_columns)
        return cheap and readout_memory(readout, n, objective.item_size) <= memory_budget()


def _system_dtype(state: State) -> torch.dtype | None:
    """float32 for large systems where its rounding errors are small beside the noise; None for float64.

    A linear network takes few iterations, and columns of radial units are of any size.
    """
    objective, scale = state.objective, state.estimates.squared_scale
    size = min(objective.network.n_weights, objective.n_samples * objective.n_columns)
    if size < _LARGE_SYSTEM or not state.prior.has_evidence or objective.network.is_linear:
        return None
    precision = 1.0 if scale is None else 1 / float(scale.min())
    nats = precision * objective.total_weight * torch.finfo(torch.float32).eps
    return torch.float32 if nats <= _ROUNDING_NATS else None


def _largest_decrease(slope: float, curvature: float) -> float:
    """Decrease of a quadratic function to its minimum along a direction."""
    if curvature > 0:
        return 0.5 * slope * slope / curvature
    return math.inf if slope < 0 else 0.0


def _is_accepted(step: Step, state: State, iterate: Iterate, noise: float) -> bool:
    if step.predicted > noise:
        return step.actual > _SUFFICIENT_GAIN * step.predicted
    # Only the gradient can tell below the rounding error of the objective.
    gradient = state.objective.gradient(step.to) + state.estimates.a * state.objective.deviation(step.to.w)
    return abs(step.actual) <= noise and float(gradient.norm()) <= iterate.gradient_norm


def _with_readout(state: State, at: Evaluation) -> Evaluation:
    """Make a Newton step of the readout alone from ``at``, if it lowers the objective.

    The step is exact for a squared error.
    """
    if not math.isfinite(at.loss):
        return at
    linear, before = state.objective.readout(at)
    P = linear.network.n_weights
    jacobian = linear.jacobian(before)
    gradient = linear.gradient(before, jacobian) + state.estimates.a[-P:] * linear.deviation(before.w)
    step = Primal(jacobian, linear.total_weight).solve(gradient, state.estimates.precision[-1:], 0.0)
    after = linear.evaluate(before.w + step)
    moved = after._replace(w=torch.cat([at.w[:-P], after.w]), tapes=at.tapes)
    return moved if state.value(moved) < state.value(at) else at
