"""Damping rules: they set the damping of the next step, and say what follows a step that fails.

`GainRatio` is the classical adaptive rule of Levenberg and Marquardt. `Constant` and the schedules follow the
Levenberg-Marquardt flow, whose damping does not depend on single steps. A step fails if it does not lower the
objective; the schedules then shorten it.

A rule is a frozen description. Training hands it everything that changes, so that one rule may serve many fits. Every
rule also says which part of the Gauss-Newton step is taken, its ``step_size``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Real
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np

__all__ = [
    "Adaptive",
    "Constant",
    "DampingRule",
    "GainRatio",
    "GeometricDecay",
    "Iterate",
    "ProportionalToCurvature",
    "ProportionalToGradient",
    "ProportionalToLoss",
    "as_rule",
]


class Iterate(NamedTuple):
    """State of the training when it asks a rule.

    ``iteration`` counts iterations. In a flow (:mod:`skgn.dynamics`) it is the time; a step of length 1 takes time 1.
    ``curvature`` is the mean diagonal entry of G. ``smallest_eigenvalue()`` computes the smallest eigenvalue of the
    smaller of G and the kernel, at the cost of an eigendecomposition. ``in_batches`` tells whether steps are those of
    mini-batches, and ``is_linear`` whether residuals are linear in the weights, so that no step goes too far.
    """

    iteration: float
    objective: float
    loss: float
    gradient_norm: float
    curvature: float
    smallest_eigenvalue: Callable[[], float]
    in_batches: bool = False
    is_linear: bool = False


@runtime_checkable
class DampingRule(Protocol):
    """Attribute and methods that training asks of a damping rule."""

    @property
    def step_size(self) -> float:
        """Part of the Gauss-Newton step that is tried first, in (0, 1]."""
        ...

    def initial(self, at: Iterate) -> float:
        """Return the damping of the first step."""
        ...

    def accepted(self, damping: float, gain_ratio: float, at: Iterate) -> float:
        """Return the damping at the new iterate, which a step with ``damping`` and ``gain_ratio`` has reached."""
        ...

    def rejected(self, damping: float, at: Iterate) -> float | None:
        """Return a larger damping to try from the same iterate, or None to shorten the step instead."""
        ...


def _require(name: str, value: float, low: float, high: float = np.inf) -> None:
    if not isinstance(value, Real) or not low <= value <= high or not np.isfinite(value):
        raise ValueError(f"{name} must be a finite number in [{low:g}, {high:g}], got {value!r}.")


@dataclass(frozen=True, kw_only=True)
class _Rule:
    """Base of the rules of this module."""

    step_size: float = 1.0

    def __post_init__(self) -> None:
        if not isinstance(self.step_size, Real) or not 0 < self.step_size <= 1:
            raise ValueError(f"step_size must be a finite number in (0, 1], got {self.step_size!r}.")


@dataclass(frozen=True)
class GainRatio(_Rule):
    """Adapt the damping to the gain ratio, the actual over the predicted decrease of the objective.

    Parameters
    ----------
    initial_fraction : float, default=1e-2
        First damping, as a fraction of the mean diagonal entry of G. Residuals that are linear in the weights have next
        to none.
    increase : float, default=4
        Factor on the damping after a rejected step.
    largest_decrease : float, default=0.2
        Smallest factor on the damping after an accepted step. The factor is ``1 - (2 gain - 1)^3`` in between.
    step_size : float in (0, 1], default=1.0
        Part of the Gauss-Newton step that is taken.

    References
    ----------
    H. B. Nielsen, Damping parameter in Marquardt's method, IMM-REP-1999-05, 1999: the smooth factor.
    """

    initial_fraction: float = 1e-2
    increase: float = 4.0
    largest_decrease: float = 0.2

    #: Damping stays above this fraction of the curvature, so that it can rise again within a few tries.
    _FLOOR = 1e-10

    #: Size of a gain ratio beyond which larger ones mean the same.
    _LARGEST_GAIN = 1e100

    def __post_init__(self) -> None:
        super().__post_init__()
        _require("initial_fraction", self.initial_fraction, 0)
        _require("increase", self.increase, 1 + 1e-6)
        _require("largest_decrease", self.largest_decrease, 0, 1)

    def initial(self, at: Iterate) -> float:
        fraction = self._FLOOR if at.is_linear else self.initial_fraction
        return max(fraction * at.curvature, float(np.finfo(float).tiny))

    def accepted(self, damping: float, gain_ratio: float, at: Iterate) -> float:
        # Python's power of floats is an error where it overflows.
        gain = min(max(gain_ratio, -self._LARGEST_GAIN), self._LARGEST_GAIN)
        factor = min(self.increase, max(self.largest_decrease, 1 - (2 * gain - 1) ** 3))
        return max(damping * factor, self._FLOOR * at.curvature, float(np.finfo(float).tiny))

    def rejected(self, damping: float, at: Iterate) -> float | None:
        return damping * self.increase


@dataclass(frozen=True)
class Adaptive(GainRatio):
    """The rule of ``damping="adaptive"``: :class:`~skgn.damping.GainRatio`, with more damping for mini-batches.

    The parameters are those of :class:`GainRatio`. In mini-batches only ``step_size`` counts: there the rule approaches
    the damping from above, as a rejected step has cost its batch.
    """

    #: The rule in mini-batches.
    _IN_BATCHES = GainRatio(initial_fraction=1.0, largest_decrease=0.7)

    def initial(self, at: Iterate) -> float:
        return self._IN_BATCHES.initial(at) if at.in_batches else super().initial(at)

    def accepted(self, damping: float, gain_ratio: float, at: Iterate) -> float:
        if at.in_batches:
            return self._IN_BATCHES.accepted(damping, gain_ratio, at)
        return super().accepted(damping, gain_ratio, at)

    def rejected(self, damping: float, at: Iterate) -> float | None:
        return self._IN_BATCHES.rejected(damping, at) if at.in_batches else super().rejected(damping, at)


class _FollowsSchedule(_Rule, ABC):
    """Base of the rules whose damping depends on the iterate only."""

    @abstractmethod
    def value(self, at: Iterate) -> float:
        """Return the damping at an iterate."""

    def initial(self, at: Iterate) -> float:
        return self.value(at)

    def accepted(self, damping: float, gain_ratio: float, at: Iterate) -> float:
        return self.value(at)

    def rejected(self, damping: float, at: Iterate) -> float | None:
        return None


@dataclass(frozen=True)
class Constant(_FollowsSchedule):
    """Keep the same damping at every step, as in the Levenberg-Marquardt flow.

    Parameters
    ----------
    damping : float
        0 is pure Gauss-Newton.
    step_size : float in (0, 1], default=1.0
        Part of the Gauss-Newton step that is taken. With small parts the weights follow the flow.
    """

    damping: float

    def __post_init__(self) -> None:
        super().__post_init__()
        _require("damping", self.damping, 0)

    def value(self, at: Iterate) -> float:
        return float(self.damping)


@dataclass(frozen=True)
class GeometricDecay(_FollowsSchedule):
    """Lower the damping by a factor in each iteration: ``max(start * decay^t, minimum)`` for t = 0, 1, ...

    Parameters
    ----------
    start : float, default=1.0
    decay : float in [0, 1], default=0.5
    minimum : float, default=0.0
    step_size : float in (0, 1], default=1.0
        Part of the Gauss-Newton step that is taken.
    """

    start: float = 1.0
    decay: float = 0.5
    minimum: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        _require("start", self.start, 0)
        _require("decay", self.decay, 0, 1)
        _require("minimum", self.minimum, 0)

    def value(self, at: Iterate) -> float:
        return max(self.start * self.decay**at.iteration, self.minimum)


@dataclass(frozen=True)
class _Proportional(_FollowsSchedule):
    """Base of the rules whose damping is ``factor`` times what they name."""

    factor: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        _require("factor", self.factor, 0)


@dataclass(frozen=True)
class ProportionalToLoss(_Proportional):
    """Set the damping to ``factor`` times the mean data loss.

    The damping is large far from the optimum and vanishes as the network fits the data. ``step_size`` in (0, 1] is the
    part of the Gauss-Newton step that is taken.
    """

    def value(self, at: Iterate) -> float:
        return self.factor * at.loss


@dataclass(frozen=True)
class ProportionalToGradient(_Proportional):
    """Set the damping to ``factor`` times the Euclidean norm of the objective's gradient.

    ``step_size`` in (0, 1] is the part of the Gauss-Newton step that is taken.
    """

    def value(self, at: Iterate) -> float:
        return self.factor * at.gradient_norm


@dataclass(frozen=True)
class ProportionalToCurvature(_Proportional):
    """Set the damping to ``factor`` times the smallest eigenvalue of the smaller of G and the tangent kernel.

    This is the curvature-aware rule. If e is the smallest eigenvalue, the slowest output mode of the flow decays at the
    rate e / (e + damping). A damping proportional to e makes that rate ``1 / (1 + factor)``, however small e is. Each
    iteration costs an eigendecomposition of the system. ``step_size`` in (0, 1] is the part of the Gauss-Newton step
    that is taken.

    References
    ----------
    S. Cayci, A Riemannian Optimization Perspective of the Gauss-Newton Method for Feedforward Neural Networks,
    arXiv:2412.14031.
    """

    def value(self, at: Iterate) -> float:
        return self.factor * max(0.0, at.smallest_eigenvalue())


def as_rule(damping: str | float | DampingRule) -> DampingRule:
    """Turn the estimators' parameter ``damping`` into a rule: it is ``"adaptive"``, a number, or a rule already."""
    if isinstance(damping, str):
        if damping != "adaptive":
            raise ValueError(f"damping must be 'adaptive', a number or a rule of skgn.damping, got {damping!r}.")
        return Adaptive()
    return Constant(float(damping)) if isinstance(damping, (int, float, Real)) else damping
