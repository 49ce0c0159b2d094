"""Scalers of a regression's target where the noise is not normal: to the units of the network, and back.

Losses that forgive far targets, and quantiles, have them in units of median and interquartile range, which far targets
do not move. Poisson and gamma losses have outputs that are logarithms of means, 0 for the mean of all targets.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from .preprocessing import QUARTILES, UNIT_SHIFT, TargetScaler
from .weighted_rows import weighted_quantiles

__all__ = [
    "FitScaler",
    "LogTargetScaler",
    "RobustTargetScaler",
    "TargetScaling",
    "count_scaler",
    "log_scaler",
    "robust_scaler",
    "student_scaler",
]

#: Least and largest mean of targets that are not standardised; their squares stay within the floats.
_LEAST_MEAN, _LARGEST_MEAN = 1e-100, 1e100

#: Part of the standard deviation below which an interquartile range is no unit: far targets would not be floats.
_LEAST_SPREAD = 1e-100

#: Part of the standard deviation below which far targets hide the spread of all others.
_HIDDEN_SPREAD = 0.01

#: Interquartile range of the standard normal distribution.
_NORMAL_RANGE = 1.349


@dataclass
class RobustTargetScaler(TargetScaler):
    """Each target less its weighted median, over its interquartile range in that of the standard normal distribution.

    By mean and standard deviation, where more than half of the targets are one value, or nearly.
    """

    @property
    def initial_scale(self) -> np.ndarray:
        """The spread of the transformed targets, where the noise begins."""
        return np.ones_like(self.scale)


@dataclass
class LogTargetScaler:
    """Targets whose network has the logarithm of their mean over ``scale`` (k,) as its output.

    Counts (``counts=True``) have a distribution in units of one and stay as they are; other targets become logarithms,
    in units of the scale.
    """

    scale: np.ndarray
    counts: bool

    initial_scale: ClassVar[None] = None
    mixing: ClassVar[None] = None

    @property
    def kind(self) -> str:
        """What the network's targets are."""
        return "counts" if self.counts else "logarithms"

    def units_of(self, other: LogTargetScaler) -> tuple[np.ndarray, np.ndarray]:
        """Return r = 1 and q = 0: outputs are relative to the mean, and predictions go along with it.

        From rates far below those of a block, steps would lead up slowly, as the curvature is the rate.
        """
        return np.ones_like(self.scale), np.zeros_like(self.scale)

    def suits(self, other: LogTargetScaler) -> bool:
        """Whether means of targets are near those that another scaler was fitted to."""
        return bool((np.abs(np.log(self.scale) - np.log(other.scale)) <= UNIT_SHIFT).all())

    def transform(self, Y: np.ndarray) -> np.ndarray:
        """Targets (n, k) of the network."""
        return Y if self.counts else np.log(Y) - np.log(self.scale)

    def mean_of(self, outputs: Any) -> Any:
        """Means of the target: the members' means are averaged, not their logarithms."""
        return self.scale * (torch.exp(outputs) if isinstance(outputs, Tensor) else np.exp(outputs))

    def variance_of(self, mean: Any, output_variance: Any, noise_variance: Any) -> Any:
        """Variance of a new observation of such a mean whose output, its logarithm, is known up to a small variance.

        ``noise_variance`` is the dispersion of counts, and the squared coefficient of variation of other targets.
        """
        return noise_variance * (mean if self.counts else mean**2) + output_variance * mean**2

    def covariance_of(self, mean: np.ndarray, output_covariance: np.ndarray) -> np.ndarray:
        """Covariances (k, n, n) of the means (k, n), to first order; overwrites those of the outputs."""
        output_covariance *= mean[:, :, None]
        output_covariance *= mean[:, None]
        return output_covariance

    def targets_of(self, Z: np.ndarray) -> np.ndarray:
        """Targets in their own units, of those of the network."""
        return Z if self.counts else np.exp(Z) * self.scale

    def inverse_transform(self, mean: Any) -> Any:
        """The means as they are, as they have the units of the target."""
        return mean

    def rescale(self, deviation: Any) -> Any:
        """The deviations as they are, as they have the units of the target."""
        return deviation


#: What turns targets (n, k) into those of a network, and outputs of members into means and variances of the target.
TargetScaling = TargetScaler | LogTargetScaler

#: From targets (n, k) and their weights (n,) to the scaler of a fit.
FitScaler = Callable[[np.ndarray, np.ndarray], TargetScaling]


def robust_scaler(Y: np.ndarray, weight: np.ndarray) -> RobustTargetScaler:
    """Fit to (n, k) targets by median and interquartile range."""
    low, median, high = weighted_quantiles(Y, weight, QUARTILES)
    plain = TargetScaler.fit(Y, weight)
    spread = (high - low) / _NORMAL_RANGE
    wide = spread > _LEAST_SPREAD * plain.scale
    return RobustTargetScaler(np.where(wide, median, plain.mean), np.where(wide, spread, plain.scale))


def student_scaler(Y: np.ndarray, weight: np.ndarray) -> TargetScaler:
    """Fit to (n, k) targets by mean and standard deviation, or robustly where far targets hide the spread of others.

    In units of such a deviation all other targets are one number, and the noise seems to be none.
    """
    plain, robust = TargetScaler.fit(Y, weight), robust_scaler(Y, weight)
    return robust if (robust.scale < _HIDDEN_SPREAD * plain.scale).any() else plain


def count_scaler(Y: np.ndarray, weight: np.ndarray) -> LogTargetScaler:
    """Fit to (n, k) counts."""
    return LogTargetScaler(_mean_scale(Y, weight, "poisson"), counts=True)


def log_scaler(Y: np.ndarray, weight: np.ndarray) -> LogTargetScaler:
    """Fit to (n, k) positive targets, which become logarithms."""
    return LogTargetScaler(_mean_scale(Y, weight, "gamma"), counts=False)


def _mean_scale(Y: np.ndarray, weight: np.ndarray, loss: str) -> np.ndarray:
    """The weighted mean (k,) of targets that are not negative, for the ``loss`` of that name."""
    with np.errstate(over="ignore"):
        mean: np.ndarray = np.average(Y, axis=0, weights=weight)
    if not (mean > 0).all():
        raise ValueError(f"loss={loss!r} needs a positive y in every column, got nothing but zeros.")
    if not ((mean >= _LEAST_MEAN) & (mean <= _LARGEST_MEAN)).all():
        raise ValueError(
            f"loss={loss!r} needs a y whose mean lies between {_LEAST_MEAN:g} and {_LARGEST_MEAN:g}, got {mean}: "
            "scale it."
        )
    return mean
