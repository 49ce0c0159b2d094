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
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from .damping import Adaptive, DampingRule, Iterate
from .direction import spectrum
from .directions import DIRECTIONS, choose_for_batches
from .memory import Extent
from .network import Network
from .objective import Evaluation, Objective
from .primal import Primal
from .training import Step, Training

__all__ = ["BatchSteps", "BatchTraining", "Batches", "Pass", "plan_batches"]

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
    """Number of rows of a batch, and the name of its solver."""

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
    solver : "auto" or a name in DIRECTIONS
    network : Network
    columns : int
    evidence : bool
        Whether precisions are estimated. The solver must then know the traces of all rows.
    """
    if isinstance(batch_size, str):
        batch_size = max(_BATCH_ROWS, math.ceil(_ROWS_PER_WEIGHT * network.n_weights / columns))
    direction = choose_for_batches(solver, Extent(network, int(batch_size), columns), evidence)
    return Batches(int(batch_size), direction.name)


class Pass(NamedTuple):
    """End of a pass over the batches, and averages over its steps."""

    last: Tensor
    mean: Tensor
    gain_ratio: float
    predicted: float


class BatchSteps:
    """Steps on batches of rows, and the state that they carry from one to the next.

    Parameters
    ----------
    rule : DampingRule
    plan : Batches
    step_size : float
        Fraction of each step that is taken.
    """

    def __init__(self, rule: DampingRule, plan: Batches, step_size: float) -> None:
        self.memory = DIRECTIONS[plan.solver].remembered()
        self.damping, self.kappa, self.most_memory = math.nan, _FIRST_MEMORY, 0.0
        self._rule = rule.for_batches() if isinstance(rule, Adaptive) else rule
        self._batch_size = plan.rows
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

    def batches(self, order: Tensor) -> list[Tensor]:
        """Split rows into batches of nearly equal size. There are at least two, because one is always held back."""
        n = len(order)
        return list(torch.tensor_split(order, max(min(2, n), math.ceil(n / self._batch_size))))

    def run(
        self,
        objective: Objective,
        w: Tensor,
        prior: list[Tensor],
        order: Tensor,
        iteration: int,
        pause: Callable[[], bool],
        whole_gradient: Tensor | None = None,
    ) -> Pass:
        """Make one pass over the rows of an objective in the given order, from w, under given prior precisions.

        ``whole_gradient`` is the gradient of the mean data loss of all rows at w. If it is given, it corrects the
        gradients of the batches.
        """
        batches = self.batches(order)
        a, held = objective.network.expand(prior), objective.part(batches[0])
        at, mean, count = held.evaluate(w), w, 0
        gains, predictions = [], []
        for rows in batches[1:] + batches[:1]:
            if pause():
                break
            batch, held = held, objective.part(rows)
            correction = torch.zeros_like(w)
            if whole_gradient is not None:
                correction = whole_gradient - batch.gradient(batch.evaluate(w))
            at, gain, predicted = self._step(batch, held, at, a, prior, iteration, correction)
            gains.append(gain)
            predictions.append(predicted)
            if len(gains) > len(batches) // 2:
                count += 1
                mean = at.w if count == 1 else mean + (at.w - mean) / count
        if not gains:
            return Pass(w, w, math.nan, 0.0)
        return Pass(at.w, mean if count else at.w, float(np.mean(gains)), float(np.mean(predictions)))

    def _step(
        self,
        batch: Objective,
        held: Objective,
        at: Evaluation,
        a: Tensor,
        prior: list[Tensor],
        iteration: int,
        correction: Tensor,
    ) -> tuple[Evaluation, float, float]:
        """Make a step from ``at``, an evaluation on the batch.

        Returns an evaluation on the held-back batch, the gain ratio, and the predicted decrease.
        """
        memory, w, S = self.memory, at.w, batch.total_weight
        jacobian = batch.jacobian(at)
        gradient = batch.gradient(at, jacobian) + correction + a * w
        memory.linearise(jacobian, S)
        iterate = Iterate(
            iteration,
            at.loss + 0.5 * float((a * w) @ w),
            at.loss,
            float(gradient.norm()),
            memory.trace() / len(w),
            lambda: spectrum(jacobian, Primal(jacobian, S), S)[0],
        )
        if math.isnan(self.damping):
            self.damping = self._rule.initial(iterate)
        step = self._length * memory.solve(gradient, prior, self.kappa, self.damping)
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


@dataclass
class BatchTraining(Training):
    """Training whose iteration is a pass over all rows in batches.

    Between passes the prior is re-estimated and the history written. The mean Gram matrix of the last batches then
    stands for the Gram matrix of all rows. The latter is assembled only once training has ended.
    """

    steps: BatchSteps = field(kw_only=True)
    random_state: np.random.RandomState = field(kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.steps.most_memory = _MOST_MEMORY * len(self.steps.batches(self._order()))

    @property
    def solver(self) -> str:
        return self.steps.memory.name

    def _order(self) -> Tensor:
        order = self.random_state.permutation(len(self.objective.U))
        return torch.from_numpy(order).to(self.objective.U.device)

    def _linearise(self) -> None:
        objective, memory = self.objective, self.steps.memory
        self.jacobian, self.linearised_loss = objective.jacobian(self.at), objective.data_loss
        if memory.mean is None:
            first = objective.part(self.steps.batches(self._order())[0])
            memory.linearise(first.jacobian(first.evaluate(self.at.w)), first.total_weight)
        self.direction = memory.direction(self.jacobian, objective.total_weight)

    def finish(self, reason: str) -> None:
        super().finish(reason)
        if self.steps.memory.stands_in:
            # Posterior and leave-one-out belong to all rows at the final weights.
            super()._linearise()

    def _find_step(self) -> Step:
        at, F, steps = self.at, self._value, self.steps
        # Far from its start, as in the first pass, a correction would add noise.
        gradient = self._data_gradient if self.n_iter > 0 else None
        led = steps.run(self.objective, at.w, self.prior.precision, self._order(), self.n_iter, self._pause, gradient)
        ends = [self.objective.evaluate(w) for w in (led.last, led.mean)]
        end = min(ends, key=lambda end: _finite(self.value(end)))
        actual = F - self.value(end)
        if not actual > 0:
            # The damping and the curvature that the steps have learned stay.
            steps.most_memory *= _MEMORY_GROWTH
            end, actual = at, 0.0
        return Step(end, steps.damping, led.gain_ratio, float((end.w - at.w).norm()), led.predicted, actual)

    def _decrease(self, step: Step) -> float:
        """Decrease that a step has made. The predicted decrease also counts the noise of its own batch."""
        return step.actual


def _finite(value: float) -> float:
    return value if math.isfinite(value) else math.inf
