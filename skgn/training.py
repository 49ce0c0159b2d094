"""The Gauss-Newton loop of one network: linearise, solve, test the step, accept or try again.

At each iterate the prior may re-estimate itself. The damping rule says how far to trust the linearisation. A step is
applied only after its objective was computed and found lower. Training can be stopped and resumed between iterations,
so that an ensemble can compare its candidates on the way.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .backend import memory_budget
from .damping import DampingRule, Iterate
from .direction import Direction, smallest_eigenvalue, spectrum
from .evidence import Prior
from .jacobian import Jacobian
from .losses import Loss
from .memory import readout_memory
from .objective import Evaluation, Objective
from .primal import Primal

__all__ = ["CONVERGED", "HISTORY", "STATUS", "Settings", "Step", "Training", "Watch"]

#: Reasons why training stopped, each with its sentence.
STATUS = {
    "running": "Training has not ended.",
    "gradient": "Converged: the gradient vanishes to within tol^2, relative to the objective.",
    "decrease": "Converged: predicted and actual decrease stayed within tol for n_iter_no_change iterations.",
    "evidence": "Converged: the log evidence has not risen for 2 n_iter_no_change iterations.",
    "precision": "Converged: the predicted decrease is below the rounding error of the objective.",
    "stream": "Trained in one pass on each block of rows given so far.",
    "validation": "Stopped early: the validation loss did not improve for n_iter_no_change iterations.",
    "callback": "Stopped early: a callback asked for it.",
    "max_iter": "Stopped short of the tolerance: max_iter iterations were used up.",
    "max_time": "Stopped short of the tolerance: max_time was used up.",
    "interrupted": "Stopped short of the tolerance: interrupted by the user.",
    "no_skill": "Failed: samples left out of training are predicted worse than by a constant.",
    "no_descent": "Stopped short of the tolerance: no damping or step length lowers the objective.",
}
CONVERGED = frozenset({"gradient", "decrease", "evidence", "precision", "validation", "stream"})

HISTORY = (
    "objective",
    "loss",
    "gradient_norm",
    "riemannian_gradient_norm",
    "damping",
    "gain_ratio",
    "step_norm",
    "distance_from_init",
    "n_effective_parameters",
    "log_evidence",
    "noise_std",
    "time",
)

#: A step must gain this fraction of the predicted decrease (the usual constant of Armijo's condition).
_SUFFICIENT_GAIN = 1e-4

#: Dampings or step lengths tried from one iterate before giving up; 4^30 and 2^-30 leave nothing to try.
_MAX_TRIES = 30


#: The evidence may fall and rise again within so many times n_iter_no_change iterations (docs/benchmarks.md).
_EVIDENCE_PATIENCE = 2

#: Nats per sample by which the evidence must fall before training goes back to its peak (docs/benchmarks.md).
_FALLEN = 0.03

#: Number of log-loss samples up to which the tolerance on the log evidence grows in proportion.
_FEW_SAMPLES = 400.0


@dataclass(frozen=True)
class Settings:
    """Settings that all members share: how long and how strictly to train.

    ``project_readout`` asks for variable projection. It solves the readout for the hidden layers after every step and,
    under a squared error, first of all. It needs an objective that stays the same; where the evidence re-estimates it,
    the first steps overfit. A classifier that begins with a readout fitted to random features moves these too little.
    """

    step_size: float = 1.0
    max_iter: int = 100
    tol: float = 1e-4
    n_iter_no_change: int = 10
    project_readout: bool = False
    record_spectrum: bool = False
    report: Callable[[str], None] | None = None

    def named(self, kind: str, number: int, count: int) -> Settings:
        """Make settings for one of several trainings; its lines name it."""
        report = self.report
        if report is None or count == 1:
            return self
        return replace(self, report=lambda line: report(f"{kind} {number + 1}/{count}  {line}"))


@dataclass
class Step:
    """A tested step, and its figures in the history; without a damping, only the readout has moved."""

    to: Evaluation
    damping: float
    gain_ratio: float
    norm: float
    predicted: float
    actual: float


class Watch:
    """Follow the course of a training; ``stopped`` may ask it to end.

    This class does nothing.
    """

    stopped = False

    def begin(self) -> None:
        """The training is about to run."""

    def begin_iteration(self, training: Training) -> None:
        """The training has arrived at its weights and looks for a step."""

    def end_iteration(self, training: Training | None) -> None:
        """The training has arrived at the weights of the step, if an iteration was open.

        None means that there was no step.
        """

    def count_anew(self) -> None:
        """The iterations that count begin with the next one."""

    def end(self, training: Training) -> bool:
        """The training has ended. Return whether the other trainings have to end too."""
        return False


class _Best(NamedTuple):
    """The iterate of the lowest validation loss or highest evidence so far, with its prior and data loss."""

    loss: float
    iteration: int
    at: Evaluation
    prior: Prior
    data_loss: Loss


@dataclass
class Training:
    """State of the training of one network; :meth:`run` advances it, and :meth:`finish` ends it.

    ``make_direction`` turns a Jacobian and the total weight into a solver. After :meth:`run`, ``direction`` is the
    solver at the final weights, so that a posterior needs no further linearisation. It belongs to ``linearised_loss``,
    with the noise levels before the last estimates.

    With a ``validation`` objective training stops early. It ends once the validation loss no longer falls, at the
    weights where that loss was lowest. Without one, but with evidence, it ends at the weights of the highest evidence,
    if the evidence has fallen since. The evidence of flexible networks falls while they go on to fit the noise.
    """

    objective: Objective
    w: Tensor
    prior: Prior
    rule: DampingRule
    make_direction: Callable[[Jacobian, float], Direction]
    settings: Settings = field(default_factory=Settings)
    validation: Objective | None = None
    watch: Watch = field(default_factory=Watch)

    def __post_init__(self) -> None:
        self.status = "running"
        self.finished = False
        self.n_iter = 0
        self.at = self.objective.evaluate(self.w)
        self.history: dict[str, list[float]] = {name: [] for name in HISTORY}
        if self.settings.record_spectrum:
            self.history |= {"min_eigenvalue": [], "max_eigenvalue": []}
        if self.validation is not None:
            self.history["validation_loss"] = []
        self._best: _Best | None = None
        self._stale = 0
        self._start = self.w
        self._a = self.objective.network.expand(self.prior.precision)
        self._quiet = 0
        self._seconds = 0.0
        self.damping = math.nan
        self._step: Step | None = None
        #: Whether direction and history belong to the present weights.
        self.arrived = False
        self._readout_first = self.objective.data_loss.readout_first

    @property
    def log_evidence(self) -> float:
        """Log evidence at the present weights; minus infinity if there is none."""
        return self.prior.log_evidence if self.prior.log_evidence is not None else -math.inf

    @property
    def solver(self) -> str:
        """Name of the direction."""
        return self.direction.name

    @property
    def noise_variance(self) -> Tensor | None:
        """Variance of the noise of each output (k,); None for log losses, and before it is known."""
        scale = self.prior.noise_variance
        return None if scale is None else scale * self.objective.data_loss.variance_factor

    def run(self, until: int, decrease: float = 0.0, pause: Callable[[], bool] | None = None) -> None:
        """Iterate until ``until`` iterations are done or training ends; ``status`` tells which.

        The loop also ends after an iteration that lowers the objective by less than the fraction ``decrease``, or after
        which ``pause()`` is true. An interrupt leaves training at its last iterate.
        """
        self._pause = pause = pause or _never
        began = time.perf_counter() - self._seconds
        undo = self._undo()
        try:
            while self.status == "running":
                if not self.arrived:
                    self._arrive(began)
                    self.watch.end_iteration(self)
                if self.status != "running" or self.n_iter >= until or self.watch.stopped or pause():
                    break
                undo = self._undo()
                self.watch.begin_iteration(self)
                self._step = self._find_step()
                if self._step is None:
                    self.watch.end_iteration(None)
                    break
                self.at, self.n_iter, self.arrived = self._step.to, self.n_iter + 1, False
                if decrease > 0 and self._step.actual < decrease * self._value:
                    break
        except KeyboardInterrupt:
            undo()
            raise
        finally:
            self._seconds, self._pause = time.perf_counter() - began, _never

    def _undo(self) -> Callable[[], None]:
        """Make a function that returns to this iterate, so that an interrupt leaves no half of an iteration."""
        state = vars(self) | {"prior": copy.copy(self.prior)}
        # Make it again rather than keep it: its system must not be in memory beside the next one.
        state = {name: value for name, value in state.items() if name not in ("direction", "jacobian")}
        entries, loss = len(self.history["objective"]), self.objective.data_loss

        def restore() -> None:
            vars(self).update(state)
            self.objective.data_loss = loss
            self._linearise()
            for values in self.history.values():
                del values[entries:]

        return restore

    def finish(self, reason: str) -> None:
        """End training, for ``reason`` if nothing else has ended it. Early stopping goes back to its best weights.

        The direction is then the solver at the final weights.
        """
        if not self.arrived:
            self._arrive(time.perf_counter() - self._seconds)
        if self.status == "running":
            self.status = "callback" if self.watch.stopped else reason
        self.finished = True
        best = self._best
        if best is not None and best.iteration < self.n_iter and self._has_fallen_from(best):
            self.at, self.prior, self.objective.data_loss = best.at, best.prior, best.data_loss
            self._a = self.objective.network.expand(self.prior.precision)
            self._linearise()

    def _has_fallen_from(self, best: _Best) -> bool:
        """Whether going back is worth while. If the evidence is nearly the same, the later estimates are better.

        The first estimates come from weights that have not yet settled.
        """
        if self.validation is not None:
            return True
        return -best.loss - self.log_evidence > _FALLEN * self.objective.total_weight

    def restart(self, objective: Objective) -> None:
        """Begin on more samples of the same data, with the present weights and damping, and a new history."""
        self.move_to(objective)
        if self._projects:
            self.at = self._with_readout(self.at)
        self.n_iter, self._step, self._readout_first = 0, None, False
        self.watch.count_anew()
        for values in self.history.values():
            values.clear()

    def move_to(self, objective: Objective) -> None:
        """Go on with more samples of the same data, or begin with them.

        The last entry of the history, if there is one, becomes that of the new objective.
        """
        objective.data_loss = self.objective.data_loss
        self.objective, self.at = objective, objective.evaluate(self.at.w)
        self.prior.move_to(objective.total_weight)
        self._a = objective.network.expand(self.prior.precision)
        self.status, self._quiet, self._stale, self._best, self.arrived = "running", 0, 0, None, False
        for values in self.history.values():
            del values[-1:]

    def _arrive(self, began: float) -> None:
        """Linearise at the present weights, re-estimate the prior, record, and decide whether to stop."""
        step, objective = self._step, self.objective
        self._linearise()
        at = self.at
        data_gradient = objective.gradient(at, self.jacobian)
        if self.n_iter > 0:
            at = self.at = self.prior.update(objective, at, self.direction)
            self._a = objective.network.expand(self.prior.precision)
            if objective.data_loss.renews_gradient:
                data_gradient = objective.gradient(at, self.jacobian)
        self._data_gradient, self._gradient = data_gradient, data_gradient + self._a * at.w
        self._value = self.value(at)
        self._iterate = Iterate(
            self.n_iter,
            self._value,
            at.loss,
            float(self._gradient.norm()),
            self.direction.trace() / len(at.w),
            # No reference to self: an object that keeps itself alive is freed late, and much with it.
            partial(smallest_eigenvalue, self.jacobian, self.direction, objective.total_weight),
        )
        if step is not None and not math.isnan(step.damping):
            self.damping = self.rule.accepted(step.damping, step.gain_ratio, self._iterate)
        elif step is not None or math.isnan(self.damping):
            self.damping = self.rule.initial(self._iterate)
        self._record(data_gradient, time.perf_counter() - began)
        self.status = self._decide(step)
        if self.validation is not None:
            self._validate(self.validation)
        elif self.prior.log_evidence is not None and self.prior.settled and self.n_iter > 0:
            self._watch_evidence(self.prior.log_evidence)
        self._step, self.arrived = None, True

    def _linearise(self) -> None:
        objective = self.objective
        vars(self).pop("direction", None)  # its system must not be in memory beside the next one
        self.jacobian, self.linearised_loss = objective.jacobian(self.at), objective.data_loss
        self.direction = self.make_direction(self.jacobian, objective.total_weight)

    def _validate(self, validation: Objective) -> None:
        """Keep the weights if their validation loss is the lowest so far; stop if it has not fallen for long."""
        loss = validation.evaluate(self.at.w).loss
        self.history["validation_loss"].append(loss)
        lowest = math.inf if self._best is None else self._best.loss
        self._keep_best(loss, loss < (1 - self.settings.tol) * lowest, "validation")

    def _watch_evidence(self, log_evidence: float) -> None:
        """Keep the weights if their evidence is the highest so far; stop if it has not risen for long.

        If the noise level is not the most likely one, the last weights are kept once the evidence has settled.
        """
        tolerance = self.settings.tol * self._evidence_scale()
        if not self.objective.data_loss.most_likely_scale:
            self._stop_if_stale(not abs(log_evidence - self.history["log_evidence"][-2]) <= tolerance, "evidence")
            return
        highest = -math.inf if self._best is None else -self._best.loss
        self._keep_best(-log_evidence, log_evidence > highest + tolerance, "evidence", _EVIDENCE_PATIENCE)

    def _keep_best(self, loss: float, better: bool, status: str, patience: int = 1) -> None:
        """Keep the iterate of the lowest ``loss`` so far."""
        if self._best is None or loss < self._best.loss:
            self._best = _Best(loss, self.n_iter, self.at, copy.copy(self.prior), self.objective.data_loss)
        self._stop_if_stale(better, status, patience)

    def _stop_if_stale(self, better: bool, status: str, patience: int = 1) -> None:
        """Stop where no iterate was ``better`` for n_iter_no_change iterations, times ``patience``."""
        self._stale = 0 if better else self._stale + 1
        if self.status == "running" and self._stale >= patience * self.settings.n_iter_no_change:
            self.status = status

    def value(self, at: Evaluation) -> float:
        """Compute the objective: mean loss plus prior."""
        return at.loss + 0.5 * float((self._a * at.w) @ at.w)

    def _decide(self, step: Step | None) -> str:
        """Decide whether to stop at the iterate that ``step`` led to, and why.

        The objective must stay the same.
        """
        tol, F = self.settings.tol, self._value
        if self.prior.log_evidence is None:
            scale = max(1.0, float(self.at.w.norm()))
            if self._iterate.gradient_norm * scale <= tol**2 * abs(F):
                return "gradient"
            if step is not None:
                if step.predicted <= self.objective.rounding_error(F):
                    return "precision"
                self._quiet = self._quiet + 1 if self._decrease(step) <= tol * abs(F) else 0
                if self._quiet >= self.settings.n_iter_no_change:
                    return "decrease"
        return "max_iter" if self.n_iter >= self.settings.max_iter else "running"

    def _decrease(self, step: Step) -> float:
        """Decrease that may still be possible, judged by a step."""
        return max(step.predicted, step.actual)

    def _evidence_scale(self) -> float:
        """Nats of log evidence that ``tol`` is relative to: one for each sample.

        Many samples of a log loss count less, like the standard deviation of the log likelihood. There a network of
        some hundred weights goes on learning while the mean hardly moves (docs/benchmarks.md).
        """
        S = self.objective.total_weight
        return S if self.prior.noise_variance is not None else min(S, math.sqrt(_FEW_SAMPLES * S))

    def _find_step(self) -> Step | None:
        """Find the first step that passes its test. None sets the status that says why there is none."""
        damping, length, solved = self.damping, self.settings.step_size, None
        at, F, gradient, objective = self.at, self._value, self._gradient, self.objective
        noise = objective.rounding_error(F)
        if self._readout_first and self._projects:
            self._readout_first = False
            solved_readout = self._with_readout(at)
            gain = F - self.value(solved_readout)
            if gain > noise:
                return Step(solved_readout, math.nan, 1.0, float((solved_readout.w - at.w).norm()), gain, gain)
        for _ in range(_MAX_TRIES):
            if solved is None:
                solved = self.direction.solve(gradient, self.prior.precision, damping)
            step = length * solved
            # One transfer from a device for all three.
            slope, square, norm = torch.stack([gradient @ solved, solved @ solved, step.norm()]).tolist()
            if math.isfinite(norm):
                # (G + diag a + damping) solved = -gradient gives the curvature along the step without another product.
                curvature = max(0.0, -slope - damping * square)
                predicted = -length * slope - 0.5 * length**2 * curvature
                trial = objective.evaluate(at.w + step)
                if self._projects:
                    trial = self._with_readout(trial)
                actual = F - self.value(trial)
                if predicted > noise:
                    accept = actual > _SUFFICIENT_GAIN * predicted
                else:
                    # Only the gradient can tell below the rounding error of the objective.
                    accept = abs(actual) <= noise and self._gradient_norm(trial) <= self._iterate.gradient_norm
                if accept:
                    gain = actual / predicted if predicted > noise else 1.0
                    return Step(trial, damping, gain, norm, predicted, actual)
                if abs(actual) <= noise and predicted <= noise:
                    self.status = "precision"
                    return None
            larger = self.rule.rejected(damping, self._iterate)
            if larger is None:
                length *= 0.5
            else:
                damping, solved = larger, None
        self.status = "no_descent"
        return None

    @property
    def _projects(self) -> bool:
        """Whether the readout is solved on its own.

        That must cost at most a quarter of an iteration, and its system must fit the memory budget as a temporary.
        """
        objective = self.objective
        network, readout, n = objective.network, objective.network.readout, objective.n_samples
        if readout is None or not self.settings.project_readout:
            return False
        cheap = 2 * readout.n_weights <= min(network.n_weights, n * objective.n_columns)
        return cheap and readout_memory(readout, n, objective.item_size) <= memory_budget()

    def _with_readout(self, at: Evaluation) -> Evaluation:
        """Make a Newton step of the readout alone from ``at``, if it lowers the objective.

        The step is exact for a squared error.
        """
        if not math.isfinite(at.loss):
            return at
        linear, before = self.objective.readout(at)
        P = linear.network.n_weights
        jacobian = linear.jacobian(before)
        gradient = linear.gradient(before, jacobian) + self._a[-P:] * before.w
        step = Primal(jacobian, linear.total_weight).solve(gradient, self.prior.precision[-1:], 0.0)
        after = linear.evaluate(before.w + step)
        moved = Evaluation(torch.cat([at.w[:-P], after.w]), after.outputs, after.loss, at.tapes)
        return moved if self.value(moved) < self.value(at) else at

    def _gradient_norm(self, at: Evaluation) -> float:
        return float((self.objective.gradient(at) + self._a * at.w).norm())

    def _record(self, data_gradient: Tensor, seconds: float) -> None:
        step, prior, noise, nan = self._step, self.prior, self.noise_variance, math.nan
        row = {
            "objective": self._value,
            "loss": self.at.loss,
            "gradient_norm": self._iterate.gradient_norm,
            "riemannian_gradient_norm": self.direction.riemannian_norm(data_gradient),
            "damping": step.damping if step else nan,
            "gain_ratio": step.gain_ratio if step else nan,
            "step_norm": step.norm if step else nan,
            "distance_from_init": float((self.at.w - self._start).norm()),
            "n_effective_parameters": prior.n_effective_parameters,
            "log_evidence": nan if prior.log_evidence is None else prior.log_evidence,
            "noise_std": nan if noise is None else math.sqrt(float(noise.mean())),
            "time": seconds,
        }
        if self.settings.record_spectrum:
            extremes = spectrum(self.jacobian, self.direction, self.objective.total_weight)
            row |= dict(zip(("min_eigenvalue", "max_eigenvalue"), extremes, strict=True))
        for name, value in row.items():
            self.history[name].append(value)
        if self.settings.report is not None:
            self.settings.report(
                f"iteration {self.n_iter:4d}  objective {row['objective']:.6g}  loss {row['loss']:.6g}  "
                f"gradient {row['gradient_norm']:.2e}  damping {row['damping']:.2e}"
            )

    def history_arrays(self) -> dict[str, np.ndarray]:
        """Return the history as arrays of equal length.

        Entry 0 is the starting point, whose step figures are nan.
        """
        return {name: np.asarray(values) for name, values in self.history.items()}


def _never() -> bool:
    return False
