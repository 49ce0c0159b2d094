"""Rates: counts over exposures, which are their weights.

The exposure of a row may have any unit, as that of its rate is the inverse. Each rate is one observation, whatever
its exposure, as in a generalised linear model.

References
----------
P. McCullagh and J. A. Nelder, Generalized linear models, 2nd edition (1989), chapter 6.
"""

from __future__ import annotations

import warnings

import numpy as np

from .losses import Loss
from .unfamiliar import outside

__all__ = ["are_rates", "exposure_of", "whole"]

#: Rounding errors of counts, relative to them, that are divided by their exposures and multiplied again.
_ROUNDING = 1e-9

#: Dispersion around a constant below which numbers are hardly counts.
_LEAST_DISPERSION = 0.5


def exposure_of(loss: Loss, Y: np.ndarray, weight: np.ndarray) -> float | None:
    """Mean exposure of rates (n, k), None of other targets; a warning where these tell a fit of counts hardly anything.

    Weights of all else are repetitions.

    Parameters
    ----------
    loss : Loss
        That of counts, for the scaler of the targets.
    Y : ndarray of shape (n, k)
    weight : ndarray of shape (n,)
    """
    if are_rates(Y, weight):
        return float(weight.mean())
    if not whole(Y):
        _warn_of_small_numbers(1 / np.max(np.asarray(loss.unit_precision(Y, weight))))
    return None


def are_rates(Y: np.ndarray, weight: np.ndarray) -> bool:
    """Whether numbers (n, k) with fractions are whole numbers times their weights (n,)."""
    return not whole(Y) and whole(Y * weight[:, None])


def whole(values: np.ndarray) -> bool:
    """Whether all values are whole numbers, but for rounding errors. If all round to 0, all have to be 0."""
    nearest = np.rint(values)
    near = np.abs(values - nearest) <= _ROUNDING * np.maximum(values, 1)
    return bool(near.all() and (nearest.any() or not values.any()))


def _warn_of_small_numbers(dispersion: float) -> None:
    """Warn of numbers with fractions that vary less than counts: ``dispersion`` is that around their mean."""
    if 0 < dispersion < _LEAST_DISPERSION:
        warnings.warn(
            f"loss='poisson' takes y for counts, but y has fractions, and its variance is {dispersion:.2g} times that "
            "of counts of the same mean. To this loss all of it may be noise. If y are rates, pass the exposures that "
            "counts were divided by as sample_weight, as they are. Otherwise set loss='gamma' or 'squared_error', or "
            "multiply y by a constant.",
            UserWarning,
            stacklevel=outside(),
        )
