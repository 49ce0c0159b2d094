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
from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize_scalar

from .conformal import Residuals
from .ensemble import Ensemble
from .observation import StudentTObservation

__all__ = ["degrees_of_freedom", "widened"]

#: Degrees of freedom between which the posterior is searched: less have no variance, and more are as good as normal.
_FEWEST, _MOST = 2.05, 200.0

#: Where residuals are so small in predicted widths, these are the least that there are, and residuals have no shape.
_ROUNDING = 1e-2

#: Shape and rate of the prior.
_SHAPE, _RATE = 2.0, 0.1


def degrees_of_freedom(residuals: Residuals | None) -> float:
    """Estimate those of Student-t noise with the variances of these residuals; infinity where none are known.

    All outputs share them.
    """
    outputs = _noisy_outputs(residuals)
    if not outputs:
        return math.inf
    z = np.concatenate([output.values / math.sqrt(output.mean_square) for output in outputs])
    weight = np.concatenate([output.weight for output in outputs])

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
    residuals, outputs = ensemble.residuals, _noisy_outputs(ensemble.residuals)
    if residuals is None or not outputs or ensemble.loss.distribution != "normal":
        return ensemble
    excess = float(np.mean([output.mean_square for output in outputs]))
    if excess <= 1:
        return ensemble
    members = [
        member if member.posterior is None else replace(member, posterior=member.posterior.times(excess))
        for member in ensemble.members
    ]
    return ensemble._replace(members=members, residuals=replace(residuals, values=residuals.values / math.sqrt(excess)))


class _Output(NamedTuple):
    """Finite residuals (m,) of one output, their weights, and the mean of their squares."""

    values: np.ndarray
    weight: np.ndarray
    mean_square: float


def _noisy_outputs(residuals: Residuals | None) -> list[_Output]:
    """Outputs whose residuals are more than rounding errors. Predictions that ran away do not count."""
    if residuals is None:
        return []
    outputs = []
    for values in residuals.values.T:
        finite = np.isfinite(values)
        z, weight = values[finite], residuals.weight[finite]
        total = float(weight.sum())
        mean_square = float(weight @ np.square(z)) / total if total > 0 else 0.0
        if mean_square > _ROUNDING**2:
            outputs.append(_Output(z, weight, mean_square))
    return outputs
