"""How far from its prediction a new observation may lie: width and tails of the noise, by left-out residuals.

A residual is in predicted widths (:mod:`skgn.conformal`), so that the mean of its square is about 1. Where it is more,
predictions are surer than they should be, and their widths grow by its root. Where it is less, they stay: rows may be
near copies of one another. The copies of a row that is left out are still in the fit.

Of n observations that determine gamma weights, m = n - gamma tell the level of the noise. Where these are few, it is
uncertain, and a new observation has a Student-t distribution. Its variance is m / (m - 2) times the mean square. So
widths grow by the root of this factor, too.

A squared error finds the mean of the target whatever its noise, but quantiles depend on the shape of the noise. They
take it for Student-t noise of the same variance. Its degrees of freedom nu are the mode of their posterior, under the
prior Gamma(2, 0.1) of Juarez and Steel. That is nu = 10 without any residuals. Of normal residuals it grows with their
number. Some noise is far from any Student-t noise, as that of two kinds of rows, quiet and loud ones. What is most
likely then may be too narrow. So nu is at least such that the 90 % interval holds nearly as many of the residuals.

References
----------
M. A. Juarez and M. F. J. Steel, Model-based clustering of non-Gaussian panel data based on skew-t distributions,
Journal of Business and Economic Statistics 28 (2010).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
from scipy.special import gammaln, stdtrit

__all__ = ["NORMAL", "Tails", "student_variance", "tails_of"]

#: Degrees of freedom that are compared, 2 % apart in their excess over 2: fewer have no variance, and more are as good
#: as normal. Of a grid, sums in another order find the same.
_DEGREES = 2 + np.geomspace(0.05, 200.0, 420)

#: Intervals of this coverage, the default of ``predict_interval``, hold less of the residuals by at most so much, or by
#: so many standard errors.
_COVERAGE, _SHORT_OF, _STANDARD_ERRORS = 0.9, 0.02, 2.0

#: Half such an interval, of Student-t noise of variance 1. It grows with the degrees of freedom.
_HALF = stdtrit(_DEGREES, (1 + _COVERAGE) / 2) * np.sqrt((_DEGREES - 2) / _DEGREES)

#: Where residuals are so small in predicted widths, these are the least that there are, and residuals have no shape.
_ROUNDING = 1e-2

#: Residuals that tell the noise level at the least: with two the variance of a new one is infinite.
_FEWEST = 4.0

#: Shape and rate of the prior.
_SHAPE, _RATE = 2.0, 0.1


class Tails(NamedTuple):
    """Mean square of left-out residuals in predicted widths, and the degrees of freedom of Student-t noise like them.

    The mean is over the outputs that have noise; all outputs share the degrees of freedom.
    """

    mean_square: float
    degrees_of_freedom: float


#: Those of normal noise, in widths that are right.
NORMAL = Tails(1.0, math.inf)


def student_variance(degrees_of_freedom: float) -> float:
    """Variance of a Student-t variable. Degrees of freedom below :data:`_FEWEST` count as so many."""
    nu = max(degrees_of_freedom, _FEWEST)
    return nu / (nu - 2)


def tails_of(total: Callable[[Callable[[np.ndarray, np.ndarray], np.ndarray]], np.ndarray]) -> Tails:
    """Estimate tails from sums over residuals; those of normal noise where there are none but rounding errors.

    ``total(function)`` is the sum of ``function(values, weight)`` over blocks of the samples, with residuals (n, k) and
    weights (n,). Residuals that are not finite, of predictions that ran away, do not count.
    """
    weight, squares = total(_squares)
    mean_square = np.divide(squares, weight, out=np.zeros_like(squares), where=weight > 0)
    noisy = mean_square > _ROUNDING**2
    if not noisy.any():
        return NORMAL
    units = np.where(noisy, np.sqrt(mean_square), np.inf)
    log_likelihood, held = total(partial(_by_degrees, unit=units))
    log_posterior = log_likelihood + (_SHAPE - 1) * np.log(_DEGREES) - _RATE * _DEGREES
    fewest = _fewest(held, float(weight[noisy].sum()))
    mode = fewest + int(np.argmax(log_posterior[fewest:]))
    return Tails(float(mean_square[noisy].mean()), float(_DEGREES[mode]))


def _fewest(held: np.ndarray, weight: float) -> int:
    """Index of the fewest degrees of freedom whose interval holds enough of the residuals, or as many as any does."""
    short = max(_SHORT_OF, _STANDARD_ERRORS * math.sqrt(_COVERAGE * (1 - _COVERAGE) / weight))
    return int(np.argmax(held >= min((_COVERAGE - short) * weight, held[-1])))


def _squares(values: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Weights and weighted squares of the residuals of each output, (2, k)."""
    finite = np.isfinite(values)
    z = np.where(finite, values, 0.0)
    return np.stack([weight @ finite, weight @ np.square(z)])


def _by_degrees(values: np.ndarray, weight: np.ndarray, unit: np.ndarray) -> np.ndarray:
    """Log likelihood of each number of degrees of freedom, and weight of the residuals that its interval holds, (2, m).

    Residuals are in units (k,); an infinite unit has no part. The density of Student-t noise of variance 1 is
    proportional to ``(1 + z^2 / (nu - 2))^(-(nu + 1) / 2)``.
    """
    known = np.isfinite(values) & np.isfinite(unit)
    z = np.abs(values / unit)[known]
    squares, weight = np.square(z), np.broadcast_to(weight[:, None], known.shape)[known]
    far = np.array([weight @ np.log1p(squares / (nu - 2)) for nu in _DEGREES])
    constant = gammaln((_DEGREES + 1) / 2) - gammaln(_DEGREES / 2) - np.log(np.pi * (_DEGREES - 2)) / 2
    log_likelihood = weight.sum() * constant - (_DEGREES + 1) / 2 * far
    of_first = np.bincount(np.searchsorted(_HALF, z), weights=weight, minlength=len(_HALF) + 1)
    return np.stack([log_likelihood, np.cumsum(of_first)[: len(_HALF)]])
