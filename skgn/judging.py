"""The loss by which predictions of a regression are judged: that of the fit, or squares.

Heavy tails hide from squares what a fit with Cauchy noise, or of positive targets, predicts.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy.special import kl_div

from .losses import Loss
from .weighted_rows import weighted_quantile

__all__ = ["Judge", "pinball"]

#: Where a mean has to be positive, a linear model or trees predict at least this quantile of y, or part of its mean.
_LEAST_MEAN = 0.05


@dataclass(frozen=True)
class Judge:
    """Targets y (n, k) with weights (n,), and the loss of their predictions.

    The ``unit`` (k,) is a power of 2 in which no square overflows. The ``levels`` (k,) are the quantiles that are
    predicted, or those of the best constant, and ``noise_std`` (k,) is the scale of the noise.
    """

    likelihood: Loss
    y: np.ndarray
    weight: np.ndarray
    unit: np.ndarray
    levels: np.ndarray
    noise_std: np.ndarray

    @cached_property
    def about_mean(self) -> np.ndarray:
        """The targets less their mean, in units of ``unit``."""
        in_units = self.y / self.unit
        # A mean of numbers that are alike may differ from them.
        mean = np.average(in_units, axis=0, weights=self.weight)
        return np.where(np.ptp(in_units, axis=0) == 0, 0.0, in_units - mean)

    @property
    def squares(self) -> bool:
        """Whether losses are squares: of values with noise that has a variance."""
        return self.likelihood.target_kind == "values" and not self.likelihood.without_std

    @property
    def score(self) -> str:
        """The part of a constant's loss that predictions take away."""
        return "R2" if self.squares else "D2"

    @property
    def constant(self) -> str:
        """What the best constant is."""
        if self.likelihood.predicts_quantiles:
            return "quantile of y" if len(np.unique(self.levels)) == 1 else "quantiles of y"
        return "median" if self.likelihood.without_std else "mean"

    def losses(self, residual: np.ndarray, rows: Any = slice(None)) -> np.ndarray:
        """Losses (m,) of predictions that leave residuals (m, k), over the mean loss of the best constant.

        They are means over the outputs of which the constant is wrong: another one has nothing to explain.
        """
        wrong = self._of_constant > 0
        judged = wrong if wrong.any() else ~wrong
        losses: np.ndarray = self._losses(residual, rows)[:, judged] / np.where(wrong, self._of_constant, 1)[judged]
        return losses.mean(axis=1)

    @property
    def losses_of_constant(self) -> np.ndarray:
        """Losses (n,) of the best constant, with a mean of 1, or of 0 where it is never wrong."""
        return self.losses(self._about_constant)

    def at_least(self, residual: np.ndarray, rows: Any) -> np.ndarray:
        """What models of any values leave over (m, k), with positive means where the loss asks for such."""
        if self.likelihood.target_kind == "values":
            return residual
        mean = np.average(self.y, axis=0, weights=self.weight)
        least = np.maximum(weighted_quantile(self.y, self.weight, _LEAST_MEAN), _LEAST_MEAN * mean)
        return np.minimum(residual, self.y[rows] - least)

    def _losses(self, residual: np.ndarray, rows: Any = slice(None)) -> np.ndarray:
        r, loss = residual / self.unit, self.likelihood
        if self.squares:
            return np.square(r)
        if loss.predicts_quantiles:
            return pinball(r, self.levels)
        if loss.without_std:
            return 2 * np.log(np.hypot(1.0, residual / np.maximum(self.noise_std, np.finfo(float).tiny)))
        # Half the deviances of scikit-learn.
        y = self.y[rows] / self.unit
        predicted = np.maximum(y - r, np.finfo(float).tiny)
        if loss.target_kind == "counts":
            return np.asarray(kl_div(y, predicted))
        return y / predicted - 1 - np.log(y / predicted)

    @property
    def _about_constant(self) -> np.ndarray:
        """The targets less the best constant."""
        if self.constant == "mean":
            return self.about_mean * self.unit
        columns = zip(self.y.T, self.levels.tolist(), strict=True)
        return self.y - np.concatenate([weighted_quantile(y[:, None], self.weight, q) for y, q in columns])

    @cached_property
    def _of_constant(self) -> np.ndarray:
        """Mean losses (k,) of the best constant."""
        return np.asarray(np.average(self._losses(self._about_constant), axis=0, weights=self.weight))


def pinball(residual: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Losses (n, k) of predicted quantiles, by what they leave over (n, k) and their levels (k,)."""
    return np.maximum(levels * residual, (levels - 1) * residual)
