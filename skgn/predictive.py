"""The distribution of new observations: a mixture of those of the members, its quantiles and probabilities."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any

import numpy as np
from scipy.special import ndtri

from .mixing import targets_of_outputs, variances_of_targets
from .mixture import mixture_mean
from .observation import Moments, Observation

__all__ = ["Predictive", "checked_levels", "increasing_roots", "interval_levels"]

#: Half the bracket that a root is first sought in, and its accuracy; of quantiles in widths of the distribution.
_BRACKET, _TOLERANCE = 0.5, 1e-9

#: Probabilities whose normal scores are finite.
_PROBABLE = (1e-300, 1 - 1e-16)

#: Doublings of the bracket, and iterations within it, that are never reached.
_MOST_DOUBLINGS, _MOST_ITERATIONS = 200, 200

#: Rows in which quantiles are sought at a time, so that arrays stay small.
_ROWS = 4096


@dataclass(frozen=True)
class Predictive:
    """A mixture of members, each with outputs and their variances (n, k) and squared scales of the noise.

    The squared scales are (k,), or (n, k) where the noise depends on the row. The weights are numbers, or columns
    (n, 1) where members count by row.
    """

    observation: Observation
    outputs: Sequence[np.ndarray]
    variances: Sequence[np.ndarray]
    squared_scales: Sequence[np.ndarray]
    weights: Any

    def moments(self) -> Moments:
        """Location and squared width (n, k) of the mixture on the line."""
        each = [self.observation.moments(*member) for member in self._members()]
        location = mixture_mean([moments.location for moments in each], self.weights)
        apart = [moments.spread2 + (moments.location - location) ** 2 for moments in each]
        return Moments(location, mixture_mean(apart, self.weights))

    def of_targets(self, mixing: np.ndarray | None) -> Predictive:
        """Return the distribution of the targets that outputs are combinations of, with noise of the same shape."""
        if mixing is None:
            return self
        return replace(
            self,
            outputs=[targets_of_outputs(f, mixing) for f in self.outputs],
            variances=[variances_of_targets(v, mixing) for v in self.variances],
            squared_scales=[variances_of_targets(s2, mixing) for s2 in self.squared_scales],
        )

    def cdf(self, z: np.ndarray) -> np.ndarray:
        """Probability that an observation is at most z (..., n, k) on the line."""
        return mixture_mean([self.observation.cdf(z, *member) for member in self._members()], self.weights)

    def quantiles(self, levels: np.ndarray) -> np.ndarray:
        """Quantiles (q, n, k), in targets of the network: the least that are not below with these probabilities."""
        n = len(self.outputs[0])
        parts = [self._rows(slice(start, start + _ROWS))._quantiles(levels) for start in range(0, n, _ROWS)]
        return np.concatenate(parts, axis=1)

    def probabilities(self, Y: np.ndarray) -> np.ndarray:
        """Probability integral transform (n, k) of targets of the network; of counts, half of their own counts."""
        upper = self.cdf(self.observation.on_line(Y))
        if not self.observation.discrete:
            return upper
        below = np.where(Y >= 1, self.cdf(self.observation.on_line(np.maximum(Y - 1, 0.0))), 0.0)
        return (below + upper) / 2

    def _members(self) -> zip[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        return zip(self.outputs, self.variances, self.squared_scales, strict=True)

    def _rows(self, rows: slice) -> Predictive:
        return replace(
            self,
            outputs=[f[rows] for f in self.outputs],
            variances=[v[rows] for v in self.variances],
            squared_scales=[s2 if s2.ndim == 1 else s2[rows] for s2 in self.squared_scales],
            weights=[weight if np.ndim(weight) == 0 else weight[rows] for weight in self.weights],
        )

    def _quantiles(self, levels: np.ndarray) -> np.ndarray:
        location, spread2 = (np.ascontiguousarray(each) for each in self.moments())
        shape, width = (len(levels), *location.shape), np.sqrt(spread2)
        members = [tuple(np.broadcast_to(each, shape).ravel() for each in member) for member in self._members()]
        weights = [np.broadcast_to(weight, shape).ravel() for weight in self.weights]
        at, unit = (np.broadcast_to(each, shape).ravel() for each in (location, width))
        wanted = ndtri(np.clip(np.broadcast_to(levels[:, None, None], shape).ravel(), *_PROBABLE))
        # Beyond the floats there is nothing to seek.
        known = np.flatnonzero(np.isfinite(at) & np.isfinite(unit))
        found = np.where(np.isfinite(at) & (wanted != 0), np.copysign(np.inf, wanted), at)

        def normal_score(x: np.ndarray, element: np.ndarray) -> np.ndarray:
            """Normal scores of the probabilities: of normal distributions a straight line, which is soon inverted."""
            element = known[element]
            z = at[element] + unit[element] * x
            each = [self.observation.cdf(z, *(values[element] for values in member)) for member in members]
            p = np.clip(mixture_mean(each, [weight[element] for weight in weights]), *_PROBABLE)
            return ndtri(p) - wanted[element]

        found[known] = at[known] + unit[known] * increasing_roots(normal_score, wanted[known])
        return self.observation.off_line(found.reshape(shape))


def increasing_roots(function: Callable[[np.ndarray, np.ndarray], np.ndarray], start: np.ndarray) -> np.ndarray:
    """Zeros (n,) of n increasing functions, sought in brackets around the starts.

    A bracket is doubled where it holds no zero. Within it the next point is that of inverse quadratic interpolation,
    or the middle where this is not safe. :mod:`scipy.optimize.elementwise` has the same method, but is not in
    the oldest SciPy that the package takes.

    Parameters
    ----------
    function : callable
        ``function(x, i)`` gives the values of the functions i at x.
    start : ndarray of shape (n,)

    References
    ----------
    T. R. Chandrupatla, A new hybrid quadratic/bisection algorithm for finding the zero of a nonlinear function without
    using derivatives, Advances in Engineering Software 28 (1997).
    """
    i = np.arange(len(start))
    (a, fa), (b, fb) = (_outside(function, start, sign) for sign in (-1.0, 1.0))
    c, fc, t, root = a, fa, np.full(len(start), 0.5), start.copy()
    for _ in range(_MOST_ITERATIONS):
        x = a + t * (b - a)
        fx = function(x, i)
        same = np.sign(fx) == np.sign(fa)
        c, fc = np.where(same, a, b), np.where(same, fa, fb)
        b, fb = np.where(same, b, a), np.where(same, fb, fa)
        a, fa = x, fx
        root[i] = np.where(np.abs(fa) < np.abs(fb), a, b)
        least = _TOLERANCE * (1 + np.abs(root[i])) / np.maximum(np.abs(b - a), np.finfo(float).tiny)
        active = (least < 0.5) & (fa != 0) & (fb != 0)
        if not active.any():
            return root
        i, a, b, c, fa, fb, fc, least = (values[active] for values in (i, a, b, c, fa, fb, fc, least))
        xi, phi = (a - b) / (c - b), (fa - fb) / (fc - fb)
        safe = (phi**2 < xi) & ((1 - phi) ** 2 < 1 - xi)
        # Elsewhere two of the three values may be equal.
        with np.errstate(divide="ignore", invalid="ignore"):
            quadratic = fa / (fb - fa) * fc / (fb - fc) + (c - a) / (b - a) * fa / (fc - fa) * fb / (fc - fb)
        t = np.clip(np.where(safe, quadratic, 0.5), least, 1 - least)
    raise RuntimeError("A root was not found: a function is not increasing, or not finite.")


def _outside(
    function: Callable[[np.ndarray, np.ndarray], np.ndarray], start: np.ndarray, sign: float
) -> tuple[np.ndarray, np.ndarray]:
    """Ends of brackets on one side of the starts, where the functions have the sign of that side, and their values."""
    end, step = start + sign * _BRACKET, _BRACKET
    value = function(end, np.arange(len(start)))
    for _ in range(_MOST_DOUBLINGS):
        i = np.flatnonzero(~(value * sign >= 0))
        if not len(i):
            return end, value
        step *= 2
        end[i] = start[i] + sign * step
        value[i] = function(end[i], i)
    raise RuntimeError("A root was not found: a function does not change its sign.")


def checked_levels(quantiles: Any) -> np.ndarray:
    """Check quantiles and return them as an array (q,); a number is a list of one."""
    refusal = f"quantiles must be numbers above 0 and below 1, got {quantiles!r}."
    try:
        levels = np.atleast_1d(np.asarray(quantiles, dtype=np.float64))
    except (TypeError, ValueError) as error:
        raise ValueError(refusal) from error
    if levels.ndim != 1 or not len(levels) or not ((levels > 0) & (levels < 1)).all():
        raise ValueError(refusal)
    return levels


def interval_levels(coverage: float) -> np.ndarray:
    """Check the coverage of a central interval and return the quantiles that are its ends."""
    if not isinstance(coverage, Real) or not 0 < coverage < 1:
        raise ValueError(f"coverage must be a number above 0 and below 1, got {coverage!r}.")
    return np.array([0.5 - coverage / 2, 0.5 + coverage / 2])
