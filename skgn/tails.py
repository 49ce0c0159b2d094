"""How far from its prediction a new observation may lie: width and tails of the noise, by left-out residuals.

A residual is in predicted widths (:mod:`skgn.conformal`), so that the mean of its square is about 1. Where it is more,
predictions are surer than they should be, and their widths grow by its root. Where it is less, they stay: rows may be
near copies of one another, and a row that is left out still has its copies in the fit.

A squared error finds the mean of the target whatever its noise, but quantiles depend on the shape of the noise. They
take it for Student-t noise of the same variance. Its degrees of freedom nu are the mode of their posterior, under the
prior Gamma(2, 0.1) of Juarez and Steel. That is nu = 10 without any residuals. Of normal residuals it grows with their
number.

References
----------
M. A. Juarez and M. F. J. Steel, Model-based clustering of non-Gaussian panel data based on skew-t distributions,
Journal of Business and Economic Statistics 28 (2010).
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from scipy.optimize import minimize_scalar

from .conformal import Residuals
from .ensemble import Ensemble
from .observation import StudentTObservation

__all__ = ["degrees_of_freedom", "widened"]

#: Degrees of freedom between which the posterior is searched: less have no variance, and more are as good as normal.
_FEWEST, _MOST = 2.05, 200.0

#: Shape and rate of the prior.
_SHAPE, _RATE = 2.0, 0.1


def degrees_of_freedom(residuals: Residuals | None) -> float:
    """Estimate those of Student-t noise with the variance of these residuals; infinity where none are known.

    All outputs share them. Infinite residuals, of predictions that ran away, do not count.
    """
    values, weight, mean_square = _known(residuals)
    if not mean_square > 0:
        return math.inf
    z = values / math.sqrt(mean_square)

    def minus_log_posterior(log_excess: float) -> float:
        nu = 2 + math.exp(log_excess)
        log_prior = (_SHAPE - 1) * math.log(nu) - _RATE * nu
        return -float(weight @ StudentTObservation(nu).standard().logpdf(z)) - log_prior

    bounds = math.log(_FEWEST - 2), math.log(_MOST - 2)
    return 2 + math.exp(minimize_scalar(minus_log_posterior, bounds=bounds, method="bounded").x)


def widened(ensemble: Ensemble) -> Ensemble:
    """Make the ensemble whose widths are at least what its left-out residuals are, on the mean of all outputs.

    The variances of weights and noise grow by the same factor. Only of normal noise, as robust losses are to see past
    the largest residuals.
    """
    residuals, (_, _, excess) = ensemble.residuals, _known(ensemble.residuals)
    if residuals is None or ensemble.loss.distribution != "normal" or excess <= 1:
        return ensemble
    members = [
        member if member.posterior is None else replace(member, posterior=member.posterior.times(excess))
        for member in ensemble.members
    ]
    return ensemble._replace(members=members, residuals=replace(residuals, values=residuals.values / math.sqrt(excess)))


def _known(residuals: Residuals | None) -> tuple[np.ndarray, np.ndarray, float]:
    """Finite residuals of all outputs (m,), their weights, and the mean of their squares; 0 without any."""
    if residuals is None:
        return np.empty(0), np.empty(0), 0.0
    finite = np.isfinite(residuals.values)
    values, weight = residuals.values[finite], np.broadcast_to(residuals.weight[:, None], finite.shape)[finite]
    total = float(weight.sum())
    return values, weight, float(weight @ np.square(values)) / total if total > 0 else 0.0
