"""Stochastic Gauss-Newton: a pass over the rows in batches, with one damped system for each batch.

    (G_b + kappa C + diag(a) + damping I) step = -gradient of batch b

C is the curvature of the batches before, a running mean of their Gram matrices. It counts as much as kappa batches. (In
recursive least squares kappa is the number of all earlier batches.) So a step moves the weights no further than the
earlier batches allow. Without this memory each step fits the noise of its own batch (docs/benchmarks.md). If the
batch's system is solved in the dual or by conjugate gradients, the memory is the diagonal of C by (layer, input).

If all data are at hand, the gradient of batch b is corrected from the second pass on (stochastic variance reduction).
The correction is its difference from the gradient of all rows, both at the start of the pass. The remaining noise
vanishes with the steps, and training converges to the minimum of the full batch.

No step is tested on its own batch. The next batch, which is held back, decides three things:

* Whether the step is taken. It is rejected if the held-back loss rises by more than two standard errors, or if the
  linearisation fails.
* The damping, by the gain ratio. Its denominator is the decrease predicted on the own batch. Its numerator is this
  prediction, corrected by the error of the quadratic model on the held-back batch. So the ratio measures the
  linearisation alone, free of sampling noise.
* kappa. The slope and the curvature along the step, on the held-back batch, give the length that would have been best
  there. If steps are longer than that on average, from the noise of the batches, kappa rises. If they are shorter, it
  falls.

A pass ends at its last weights, or at their mean over its second half. If all data are at hand, the objective on all
rows decides between them. A pass that does not lower the objective is undone, with more memory for the next pass.

References
----------
S. Singhal and L. Wu, Training multilayer perceptrons with the extended Kalman algorithm, NIPS 1988.
R. Johnson and T. Zhang, Accelerating stochastic gradient descent using predictive variance reduction, NIPS 2013.
M. Korbit, A. D. Adeoye, A. Bemporad and M. Zanon, Exact Gauss-Newton optimization for training deep neural networks,
arXiv:2405.14402.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from .conjugate_gradient import ConjugateGradient
from .damping import Adaptive, DampingRule, Iterate
from .directions import Direction, Dual, Primal, spectrum
from .jacobian import Jacobian
from .network import Network
from .objective import Evaluation, Objective
from .state import Linearisation, State, Step

__all__ = ["BatchPass", "BatchSteps", "Batches", "Pass", "plan_batches"]

#: Default rows of a batch: the least number, and the number for each weight, so that its system has full rank.
_BATCH_ROWS, _ROWS_PER_WEIGHT = 1000, 2

#: Least number of batches. A fit that would have fewer takes all rows at once.
_FEWEST_BATCHES = 4

#: A step is rejected if the held-back loss rises by more standard errors than this.
_STANDARD_ERRORS = 2.0

#: Smallest gain ratio of an accepted step, as without batches.
_SUFFICIENT_GAIN = 1e-4

#: kappa at the start, its least value, and its first largest value, as a part of the batches of a pass.
_FIRST_MEMORY, _LEAST_MEMORY, _MOST_MEMORY = 1.0, 1e-3, 0.3

#: Growth of that largest value after a pass that did not lower the objective.
_MEMORY_GROWTH = 4.0

#: kappa changes with this power of the best length, whose terms are averaged with this decay; bounds of one length.
_POWER, _DECAY, _LONGEST = 0.05, 0.9, 10.0


#: Attributes of :class:`BatchSteps` that a stream carries from block to block, beside the memory.
_CARRIED = ("damping", "kappa", "_length", "_slope", "_curvature", "_n_steps")


class Batches(NamedTuple):
    """Number of rows of a batch, and the solver of its system: "primal", "dual" or "cg"."""

    rows: int
    solver: str

    def worthwhile(self, n: int, chosen: bool) -> bool:
        """Whether n rows fill more than four batches, or more than one if the user has ``chosen`` the size."""
        return n > self.rows * (1 if chosen else _FEWEST_BATCHES)


def plan_batches(batch_size: int | str, solver: str, network: Network, columns: int, evidence: bool) -> Batches:
    """Choose the batches for a network, and the solver for them.

    Parameters
    ----------
    batch_size : int or "auto"
        "auto" is two rows for each weight and column, and at least 1,000.
    solver : {"auto", "primal", "dual", "cg"}
        "auto" is the solver whose system is smaller for a batch.
    network : Network
    columns : int
    evidence : bool
        Whether precisions are estimated. That needs the Gram matrix, so that the solver is "primal".
    """
    P = network.n_weights
    if isinstance(batch_size, str):
        batch_size = max(_BATCH_ROWS, math.ceil(_ROWS_PER_WEIGHT * P / columns))
    if evidence:
        solver = "primal"
    elif solver == "auto":
        solver = "primal" if batch_size * columns >= P else "dual"
    return Batches(int(batch_size), solver)


class _GramMemory:
    """The batch's primal system, and the mean Gram matrix of the batches before."""

    name = "primal"

    def __init__(self) -> None:
        self.mean: Tensor | None = None

    def linearise(self, jacobian: Jacobian, total_weight: float) -> None:
        self._jacobian, self._S, self._batch = jacobian, total_weight, Primal(jacobian, total_weight)
        if self.mean is None:
            self.mean = self._batch.G.clone()

    def solve(self, gradient: Tensor, precision: list[Tensor], kappa: float, damping: float) -> Tensor:
        assert self.mean is not None
        both = torch.add(self._batch.G, self.mean, alpha=kappa)
        return Primal(self._jacobian, self._S, both).solve(gradient, precision, damping)

    def trace(self) -> float:
        return self._batch.trace()

    def curvature(self, step: Tensor) -> float:
        """Curvature step' G_b step of the batch along a step."""
        return float(step @ (self._batch.G @ step))

    def remember(self, part: float) -> None:
        """Add the batch to the mean with the given weight."""
        assert self.mean is not None
        self.mean.lerp_(self._batch.G, part)

    def direction(self, jacobian: Jacobian, total_weight: float) -> Direction:
        """Make the direction of the mean Gram matrix, which stands for the Gram matrix of all rows."""
        assert self.mean is not None
        return Primal(jacobian, total_weight, self.mean.clone())


class _DiagonalMemory:
    """The batch's system without a P x P matrix, and the mean diagonal of the batches before, by (layer, input)."""

    def __init__(self, solver: type[Dual] | type[ConjugateGradient]) -> None:
        self.mean: Tensor | None = None
        self.name, self._solver = solver.name, solver

    def linearise(self, jacobian: Jacobian, total_weight: float) -> None:
        self._jacobian, self._S, self._batch = jacobian, total_weight, self._solver(jacobian, total_weight)
        diagonal = jacobian.network.split(jacobian.diagonal().to(torch.float64) / total_weight)
        self._diagonal = torch.cat([layer.mean(0) for layer in diagonal])
        if self.mean is None:
            self.mean = self._diagonal.clone()

    def solve(self, gradient: Tensor, precision: list[Tensor], kappa: float, damping: float) -> Tensor:
        assert self.mean is not None
        remembered = torch.split(self.mean.to(gradient), [into for _, into in self._jacobian.network.shapes])
        system = [a + kappa * c for a, c in zip(precision, remembered, strict=True)]
        return self._batch.solve(gradient, system, damping)

    def trace(self) -> float:
        return self._batch.trace()

    def curvature(self, step: Tensor) -> float:
        """Curvature step' G_b step of the batch along a step."""
        return float(self._jacobian.matvec(step.to(self._jacobian.w)).square().sum()) / self._S

    def remember(self, part: float) -> None:
        """Add the batch to the mean with the given weight."""
        assert self.mean is not None
        self.mean.lerp_(self._diagonal, part)

    def direction(self, jacobian: Jacobian, total_weight: float) -> Direction:
        """Make a direction without a factorisation; all rows may leave no room for one."""
        return ConjugateGradient(jacobian, total_weight)


class Pass(NamedTuple):
    """End of a pass over the batches, and averages over its steps."""

    last: Tensor
    mean: Tensor
    gain_ratio: float
    predicted: float

    def step(self, start: Evaluation, end: Evaluation, damping: float, actual: float) -> Step:
        """Make the step of the whole pass.

        The decrease that it has made may still be possible; the predicted one counts the noise of each batch too.
        """
        known = None if math.isnan(damping) else damping
        return Step(end, known, self.gain_ratio, float((end.w - start.w).norm()), self.predicted, actual, actual)


class BatchSteps:
    """Steps on batches of rows in random order, and what is carried from one to the next.

    Parameters
    ----------
    rule : DampingRule
    plan : Batches
    step_size : float
        Fraction of each step that is taken.
    random_state : RandomState
    objective : Objective
        All rows, or those of a block.
    total_weight : float
        Of all rows, the blocks before included.
    """

    def __init__(
        self,
        rule: DampingRule,
        plan: Batches,
        step_size: float,
        random_state: np.random.RandomState,
        objective: Objective,
        total_weight: float,
    ) -> None:
        self.memory: _GramMemory | _DiagonalMemory
        if plan.solver == "primal":
            self.memory = _GramMemory()
        else:
            self.memory = _DiagonalMemory(Dual if plan.solver == "dual" else ConjugateGradient)
        self._rule = rule.for_batches() if isinstance(rule, Adaptive) else rule
        self._batch_size, self._random_state = plan.rows, random_state
        self.damping, self.kappa = math.nan, _FIRST_MEMORY
        # The batches of a pass over all rows seen.
        self.most_memory = _MOST_MEMORY * len(self.batches(objective)) * (total_weight / objective.total_weight)
        self._step_size = self._length = step_size
        self._slope, self._curvature, self._n_steps = 0.0, 0.0, 0

    def state(self) -> dict[str, Any]:
        """Return the state that steps carry, as NumPy arrays and plain values."""
        mean = self.memory.mean
        return {
            "mean": None if mean is None else mean.cpu().numpy().copy(),
            **{name: getattr(self, name) for name in _CARRIED},
        }

    def restore(self, state: Mapping[str, Any], like: Tensor) -> None:
        """Go on from the :meth:`state` of other steps."""
        self.memory.mean = None if state["mean"] is None else torch.tensor(state["mean"], device=like.device)
        for name in _CARRIED:
            setattr(self, name, state[name])

    def batches(self, objective: Objective) -> list[Tensor]:
        """Split the rows, in another order each time, into batches of nearly equal size.

        There are at least two, because one is always held back.
        """
        n = len(objective.U)
        order = torch.from_numpy(self._random_state.permutation(n)).to(objective.U.device)
        return list(torch.tensor_split(order, max(min(2, n), math.ceil(n / self._batch_size))))

    def linearise(self, state: State) -> Linearisation:
        """Return a linearisation whose direction is that of the memory."""
        return Linearisation(state.objective, state.at, partial(self._direction, state), self.memory.name)

    def _direction(self, state: State, jacobian: Jacobian, total_weight: float) -> Direction:
        if self.memory.mean is None:
            first = state.objective.part(self.batches(state.objective)[0])
            self.memory.linearise(first.jacobian(first.evaluate(state.at.w)), first.total_weight)
        return self.memory.direction(jacobian, total_weight)

    def run(self, state: State, pause: Callable[[], bool], whole_gradient: Tensor | None = None) -> Pass:
        """Make one pass over the rows of a state's objective, from its weights.

        ``whole_gradient`` is the gradient of the mean data loss of all rows there. If it is given, it corrects the
        gradients of the batches.
        """
        objective, w = state.objective, state.at.w
        batches = self.batches(objective)
        held = objective.part(batches[0])
        at, mean, count = held.evaluate(w), w, 0
        gains, predictions = [], []
        for rows in batches[1:] + batches[:1]:
            if pause():
                break
            batch, held = held, objective.part(rows)
            correction = torch.zeros_like(w)
            if whole_gradient is not None:
                correction = whole_gradient - batch.gradient(batch.evaluate(w))
            at, gain, predicted = self._step(batch, held, at, state, correction)
            gains.append(gain)
            predictions.append(predicted)
            if len(gains) > len(batches) // 2:
                count += 1
                mean = at.w if count == 1 else mean + (at.w - mean) / count
        if not gains:
            return Pass(w, w, math.nan, 0.0)
        return Pass(at.w, mean if count else at.w, float(np.mean(gains)), float(np.mean(predictions)))

    def _step(
        self, batch: Objective, held: Objective, at: Evaluation, state: State, correction: Tensor
    ) -> tuple[Evaluation, float, float]:
        """Make a step from ``at``, an evaluation on the batch, with the precisions of the state.

        Returns an evaluation on the held-back batch, the gain ratio, and the predicted decrease.
        """
        memory, a, w, S = self.memory, state.a, at.w, batch.total_weight
        jacobian = batch.jacobian(at)
        gradient = batch.gradient(at, jacobian) + correction + a * w
        memory.linearise(jacobian, S)
        iterate = Iterate(
            state.n_iter,
            state.value(at),
            at.loss,
            float(gradient.norm()),
            memory.trace() / len(w),
            lambda: spectrum(jacobian, Primal(jacobian, S), S)[0],
        )
        if math.isnan(self.damping):
            self.damping = self._rule.initial(iterate)
        step = self._length * memory.solve(gradient, state.estimates.precision, self.kappa, self.damping)
        here = held.evaluate(w)
        if not bool(torch.isfinite(step).all()):
            self._reject(iterate)
            return here, 0.0, 0.0
        own_slope = float(gradient @ step)
        predicted = -own_slope - 0.5 * (memory.curvature(step) + float((a * step) @ step))
        there = held.evaluate(w + step)
        slope, curvature = held.along(here, step)
        slope, curvature = slope + float((a * w) @ step), curvature + float((a * step) @ step)
        change, error = held.change(here, there)
        actual = -change - float((a * (w + 0.5 * step)) @ step)
        gain = 1 + (actual + slope + 0.5 * curvature) / predicted if predicted > 0 else 0.0
        self._adapt_memory(slope / own_slope, -curvature / own_slope)
        memory.remember(1 / (1 + min(self._n_steps, max(1.0, self.most_memory))))
        self._n_steps += 1
        if math.isfinite(change) and change <= _STANDARD_ERRORS * error and gain > _SUFFICIENT_GAIN:
            self.damping = self._rule.accepted(self.damping, gain, iterate)
            self._length = min(self._step_size, 2 * self._length)
            return there, gain, predicted
        self._reject(iterate)
        return here, gain, predicted

    def _reject(self, iterate: Iterate) -> None:
        larger = self._rule.rejected(self.damping, iterate)
        if larger is None:
            self._length *= 0.5
        else:
            self.damping = larger

    def _adapt_memory(self, slope: float, curvature: float) -> None:
        """Move kappa towards steps of the best length on held-back batches.

        Slope and curvature are both in units of the slope on the own batch.
        """
        if math.isfinite(slope) and math.isfinite(curvature):
            self._slope = _DECAY * self._slope + (1 - _DECAY) * slope
            self._curvature = _DECAY * self._curvature + (1 - _DECAY) * curvature
        longest = self._slope / self._curvature if self._curvature > 0 else 1.0
        factor = min(max(longest, 1 / _LONGEST), _LONGEST) ** -_POWER
        self.kappa = min(max(self.kappa * factor, _LEAST_MEMORY), max(self.most_memory, _LEAST_MEMORY))


@dataclass(frozen=True)
class BatchPass:
    """Steps of a training that are passes over all rows in batches.

    Between passes the prior is re-estimated and the history written. The mean Gram matrix of the last batches then
    stands for the Gram matrix of all rows. The latter is assembled only once training has ended.
    """

    rule: DampingRule
    make_direction: Callable[[Jacobian, float], Direction]
    steps: BatchSteps

    def linearise(self, state: State) -> Linearisation:
        return self.steps.linearise(state)

    def conclude(self, state: State, linearisation: Linearisation) -> Linearisation:
        if isinstance(self.steps.memory, _GramMemory):
            # Posterior and leave-one-out belong to all rows at the final weights.
            return Linearisation(state.objective, state.at, self.make_direction)
        return linearisation

    def step(self, state: State, linearisation: Linearisation, pause: Callable[[], bool]) -> Step:
        at, objective, steps = state.at, state.objective, self.steps
        # Far from its start, as in the first pass, a correction would add noise.
        led = steps.run(state, pause, linearisation.data_gradient if state.n_iter > 0 else None)
        ends = [objective.evaluate(w) for w in (led.last, led.mean)]
        end = min(ends, key=lambda end: _finite(state.value(end)))
        actual = state.value(at) - state.value(end)
        if not actual > 0:
            # The damping and the curvature that the steps have learned stay.
            steps.most_memory *= _MEMORY_GROWTH
            end, actual = at, 0.0
        return led.step(at, end, steps.damping, actual)


def _finite(value: float) -> float:
    return value if math.isfinite(value) else math.inf
