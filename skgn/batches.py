"""Stochastic Gauss-Newton: a pass over the rows in batches, with one damped system for each batch.

    (G_b + kappa C + diag(a) + damping I) step = -gradient of batch b

C is the curvature of the batches before, a running mean of their Gram matrices. It counts as much as kappa batches. (In
recursive least squares kappa is the number of all earlier batches.) So a step moves the weights no further than the
earlier batches allow. Without this memory each step fits the noise of its own batch (docs/decisions.md). If the
batch's system is solved in the dual or by conjugate gradients, the memory is the diagonal of C by (layer, input).

In a stream kappa counts batches of the largest weight so far. Where the batches of a block weigh less, kappa C and a
are divided by the ratio of the two weights. So few rows move the weights little, in one block or in several.

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

from .damping import DampingRule, Iterate
from .direction import Direction, spectrum
from .directions import DIRECTIONS, choose_for_batches
from .jacobian import Jacobian
from .memory import Extent
from .network import Network
from .objective import Evaluation, Objective
from .state import Linearisation, State, Step

__all__ = ["BatchPass", "BatchSteps", "Batches", "Pass", "plan_batches"]

#: Default rows of a batch: the least number, and the number for each weight, so that its system has full rank.
_BATCH_ROWS, _ROWS_PER_WEIGHT = 1000, 2

#: A fit that would have no more batches takes all rows at once.
_FEW_BATCHES = 4

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


#: Names under which a stream stores what steps have learned, in the order of :class:`Learned`.
_STORED = ("damping", "kappa", "_length", "_slope", "_curvature", "_n_steps")

#: Name under which a stream stores the weight of the largest batches; streams of version 0.1.0 do not have it.
_LARGEST = "largest_weight"


class Batches(NamedTuple):
    """Number of rows of a batch, and the name of its solver."""

    rows: int
    solver: str

    def worthwhile(self, n: int, chosen: bool) -> bool:
        """Whether n rows fill more than four batches, or more than one if the user has ``chosen`` the size."""
        return n > self.rows * (1 if chosen else _FEW_BATCHES)


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


class Learned(NamedTuple):
    """What steps on batches have learned, beside the memory; the damping is None before the first step.

    ``slope`` and ``curvature`` are those along the steps on held-back batches, decaying means in units of the slope on
    the own batch.
    """

    damping: float | None
    kappa: float
    length: float
    slope: float
    curvature: float
    n_steps: float

    def rejected(self, rule: DampingRule, iterate: Iterate) -> Learned:
        """Return what is known after a failed step: the next one is damped more, or shorter."""
        assert self.damping is not None
        larger = rule.rejected(self.damping, iterate)
        return self._replace(length=0.5 * self.length) if larger is None else self._replace(damping=larger)

    def accepted(self, rule: DampingRule, gain_ratio: float, iterate: Iterate) -> Learned:
        """Return what is known after a good step."""
        assert self.damping is not None
        damping = rule.accepted(self.damping, gain_ratio, iterate)
        return self._replace(damping=damping, length=min(rule.step_size, 2 * self.length))

    def compared(self, slope: float, curvature: float, most_memory: float, share: float) -> Learned:
        """Move kappa towards steps of the best length on held-back batches, by a ``share`` of a full step."""
        decay = _DECAY**share
        if math.isfinite(slope) and math.isfinite(curvature):
            slope = decay * self.slope + (1 - decay) * slope
            curvature = decay * self.curvature + (1 - decay) * curvature
        else:
            slope, curvature = self.slope, self.curvature
        longest = slope / curvature if curvature > 0 else 1.0
        factor = min(max(longest, 1 / _LONGEST), _LONGEST) ** (-_POWER * share)
        kappa = min(max(self.kappa * factor, _LEAST_MEMORY), max(most_memory, _LEAST_MEMORY))
        return self._replace(slope=slope, curvature=curvature, kappa=kappa)


class Pass(NamedTuple):
    """End of a pass over the batches, averages over its steps, and the damping that they have led to."""

    last: Tensor
    mean: Tensor
    gain_ratio: float
    predicted: float
    damping: float | None

    def step(self, start: Evaluation, end: Evaluation, actual: float) -> Step:
        """Make the step of the whole pass.

        The decrease that it has made may still be possible; the predicted one counts the noise of each batch too.
        """
        norm = float((end.w - start.w).norm())
        return Step(end, self.damping, self.gain_ratio, norm, self.predicted, actual, actual)


class BatchSteps:
    """Steps on batches of rows in random order, with what is carried from one to the next.

    The memory is as large as a system, and changes in place.

    Parameters
    ----------
    rule : DampingRule
    plan : Batches
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
        random_state: np.random.RandomState,
        objective: Objective,
        total_weight: float,
    ) -> None:
        self.memory = DIRECTIONS[plan.solver].remembered()
        self._rule, self._batch_size, self._random_state = rule, plan.rows, random_state
        n_batches = len(self.batches(objective))
        self._weight, self._holds_back = objective.total_weight / n_batches, n_batches > 1
        # Kappa counts batches of this weight, the largest so far.
        self._largest_weight = self._weight
        # The batches of a pass over all rows seen.
        self.most_memory = _MOST_MEMORY * n_batches * (total_weight / objective.total_weight)
        self.learned = Learned(None, _FIRST_MEMORY, rule.step_size, 0.0, 0.0, 0)

    def arrays(self) -> dict[str, Any]:
        """Return memory and what has been learned, as NumPy arrays and plain values."""
        mean = self.memory.mean
        kept = None if mean is None else mean.cpu().numpy().copy()
        return {"mean": kept, **dict(zip(_STORED, self.learned, strict=True)), _LARGEST: self._largest_weight}

    def restore(self, arrays: Mapping[str, Any], like: Tensor) -> None:
        """Go on from the :meth:`arrays` of other steps."""
        self.memory.mean = None if arrays["mean"] is None else torch.tensor(arrays["mean"], device=like.device)
        self.learned = Learned(*(arrays[name] for name in _STORED))
        self._follow(arrays.get(_LARGEST, 0.0))

    def follow(self, total_weight: float) -> None:
        """Go on from a fit to samples of that weight, whose batches would have had at most as many rows as here."""
        self._follow(min(total_weight, self._batch_size))

    def _follow(self, batch_weight: float) -> None:
        self._largest_weight = max(self._weight, batch_weight)
        self.most_memory *= self._share

    @property
    def _share(self) -> float:
        """Weight of these batches over that of the largest."""
        return self._weight / self._largest_weight

    @property
    def _kappa(self) -> float:
        """Number of largest batches for which the memory counts; its upper bound where no batch is held back."""
        return self.learned.kappa if self._holds_back else max(self.learned.kappa, self.most_memory)

    @property
    def remembered_weight(self) -> float:
        """Weight of the rows for which the memory counts."""
        return self._kappa * self._largest_weight

    def remember_more(self) -> None:
        """Raise the largest value of kappa, after a pass that did not lower the objective."""
        self.most_memory *= _MEMORY_GROWTH

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
            return Pass(w, w, math.nan, 0.0, self.learned.damping)
        with np.errstate(over="ignore", invalid="ignore"):  # after steps of nearly no predicted decrease
            gain_ratio, predicted = float(np.mean(gains)), float(np.mean(predictions))
        return Pass(at.w, mean if count else at.w, gain_ratio, predicted, self.learned.damping)

    def _step(
        self, batch: Objective, held: Objective, at: Evaluation, state: State, correction: Tensor
    ) -> tuple[Evaluation, float, float]:
        """Make a step from ``at``, an evaluation on the batch, with the precisions of the state.

        Returns an evaluation on the held-back batch, the gain ratio, and the predicted decrease.
        """
        memory, a, w, S = self.memory, state.estimates.a, at.w, batch.total_weight
        jacobian = batch.jacobian(at)
        gradient = batch.gradient(at, jacobian) + correction + a * batch.deviation(w)
        memory.linearise(jacobian, S)
        iterate = Iterate(
            state.n_iter,
            state.value(at),
            at.loss,
            float(gradient.norm()),
            memory.trace() / len(w),
            lambda: spectrum(jacobian, None, S)[0],
            in_batches=True,
        )
        if self.learned.damping is None:
            self.learned = self.learned._replace(damping=self._rule.initial(iterate))
        step = self._solve(gradient, state)
        here = held.evaluate(w)
        if not bool(torch.isfinite(step).all()):
            self.learned = self.learned.rejected(self._rule, iterate)
            return here, 0.0, 0.0
        there, slope = held.evaluate(w + step), float(gradient @ step)
        predicted = -slope - 0.5 * (memory.curvature(step) + float((a * step) @ step))
        gain, good = self._test(held, here, there, a, step, slope, predicted)
        if not good:
            self.learned = self.learned.rejected(self._rule, iterate)
            return here, gain, predicted
        self.learned = self.learned.accepted(self._rule, gain, iterate)
        return there, gain, predicted

    def _solve(self, gradient: Tensor, state: State) -> Tensor:
        damping, _, length, *_ = self.learned
        assert damping is not None
        # Beside a small batch, memory and prior count as beside the largest.
        precision = [a / self._share for a in state.estimates.precision]
        return length * self.memory.solve(gradient, precision, self._kappa / self._share, damping)

    def _test(
        self,
        held: Objective,
        here: Evaluation,
        there: Evaluation,
        a: Tensor,
        step: Tensor,
        own_slope: float,
        predicted: float,
    ) -> tuple[float, bool]:
        """Test a step on the held-back batch, and learn from it. Returns the gain ratio, and whether to take the step.

        ``own_slope`` and ``predicted`` decrease are those on the own batch.
        """
        slope, curvature = held.along(here, step)
        deviation = held.deviation(here.w)
        slope, curvature = slope + float((a * deviation) @ step), curvature + float((a * step) @ step)
        change, error = held.change(here, there)
        actual = -change - float((a * (deviation + 0.5 * step)) @ step)
        gain = 1 + (actual + slope + 0.5 * curvature) / predicted if predicted > 0 else 0.0
        share, most = self._share, self.most_memory
        # Neither a gradient of 0 tells the best length, nor a single row that tests its own step.
        if own_slope != 0 and self._holds_back:
            self.learned = self.learned.compared(slope / own_slope, -curvature / own_slope, most, share)
        self.memory.remember(share / (share + min(self.learned.n_steps, max(1.0, most))))
        self.learned = self.learned._replace(n_steps=self.learned.n_steps + share)
        falls = math.isfinite(change) and change <= _STANDARD_ERRORS * error
        return gain, falls and gain > _SUFFICIENT_GAIN


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
        if self.steps.memory.stands_in:
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
            steps.remember_more()
            end, actual = at, 0.0
        return led.step(at, end, actual)


def _finite(value: float) -> float:
    return value if math.isfinite(value) else math.inf
