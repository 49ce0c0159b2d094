"""The target of a regression in the units of its network, where its loss is not that of standardised normal noise.

Losses that forgive far targets, and quantiles, have them in units of median and interquartile range, which far targets
do not move. Poisson and gamma losses have outputs that are logarithms of means, 0 for the mean of all targets.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .preprocessing import TargetScaler, weighted_quantile

__all__ = ["LogTarget", "RobustTarget", "check_range"]

#: Interquartile range of the standard normal distribution.
_NORMAL_RANGE = 1.349

#: Spreads beyond these have no squares in float64.
_LEAST_SPREAD, _MOST_SPREAD = 1e-100, 1e100


def check_range(loss: str, Y: np.ndarray) -> None:
    """Refuse targets (n, k) that a loss by name has no value for."""
    lowest = Y.min(initial=np.inf)
    if loss == "poisson" and lowest < 0:
        raise ValueError(f"loss='poisson' needs y >= 0, got a minimum of {lowest:g}.")
    if loss == "gamma" and lowest <= 0:
        raise ValueError(f"loss='gamma' needs y > 0, got a minimum of {lowest:g}.")


@dataclass
class RobustTarget(TargetScaler):
    """Each target less its weighted median, over its interquartile range in that of the standard normal distribution.

    Where more than half of the targets are one value, by mean and standard deviation. ``spread`` (k,) is the range of
    the transformed targets: 1, or where they are left as they are their own.
    """

    spread: np.ndarray

    @classmethod
    def fit_robust(cls, Y: np.ndarray, weight: np.ndarray, standardize: bool) -> RobustTarget:
        """Estimate from (n, k) targets; without ``standardize`` the spread only."""
        low, median, high = (weighted_quantile(Y, weight, q) for q in (0.25, 0.5, 0.75))
        plain = TargetScaler.fit(Y, weight)
        spread = (high - low) / _NORMAL_RANGE
        wide = spread > 0
        centre, scale = np.where(wide, median, plain.mean), np.where(wide, spread, plain.scale)
        ones = np.ones_like(scale)
        return cls(centre, scale, ones) if standardize else cls(0 * ones, ones, scale.clip(_LEAST_SPREAD, _MOST_SPREAD))


@dataclass
class LogTarget:
    """Targets whose network has the logarithm of their mean over ``scale`` (k,) as its output.

    Counts (``counts=True``) have a distribution in units of one and stay as they are; other targets become logarithms,
    in units of the scale.
    """

    scale: np.ndarray
    counts: bool

    @classmethod
    def fit(cls, Y: np.ndarray, weight: np.ndarray, counts: bool, standardize: bool) -> LogTarget:
        """From (n, k) targets: the scale is their weighted mean, or without ``standardize`` 1."""
        mean = np.average(Y, axis=0, weights=weight)
        if not (mean > 0).all():
            raise ValueError("loss='poisson' needs a positive y in every column, got nothing but zeros.")
        return cls(mean if standardize else np.ones_like(mean), counts)

    def transform(self, Y: np.ndarray) -> np.ndarray:
        """Targets (n, k) of the network."""
        return Y if self.counts else np.log(Y) - np.log(self.scale)

    def inverse_transform(self, outputs: np.ndarray) -> np.ndarray:
        """Means of the target for outputs (..., n, k)."""
        return self.scale * np.exp(outputs)

    def variance(self, mean: Any, output_variance: Any, noise_variance: Any) -> Any:
        """Variance of a new observation of such a mean whose output, its logarithm, is known up to a small variance.

        Of arrays or of tensors.

        ``noise_variance`` is the squared coefficient of variation of targets that are no counts.
        """
        noise = mean if self.counts else noise_variance * mean**2
        return noise + output_variance * mean**2
