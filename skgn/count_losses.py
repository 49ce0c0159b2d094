"""The loss of counts, whose variance is a dispersion times their mean."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from .losses import Loss, geometric_mean, relative
from .observation import CountObservation, Observation
from .target_scalers import FitScaler, TargetScaling, count_scaler

__all__ = ["PoissonLoss"]


class PoissonLoss(Loss):
    """Half the Poisson deviance of counts y with means ``m = exp(f + offset)``, times r_k; R = diag(sqrt(r m)).

    Without a precision it is minus the log likelihood, 0 where the means are the counts. A count has the variance
    m / beta_k. The dispersion 1 / beta_k is at least 1, estimated by Pearson's statistic. The loss times the geometric
    mean of beta is minus the extended quasi-likelihood, up to ``log_normaliser``.

    Parameters
    ----------
    offset : Tensor of shape (k,), optional
        Logarithm of the mean for which the outputs are 0; all 0 by default.
    precision : Tensor of shape (k,), optional
        beta; r is beta over its geometric mean. All 1 by default.
    exposure : float, optional
        Of rates, the exposure of a sample of weight 1: that weight tells as much as so many units of exposure. The
        dispersion is then ``exposure / beta_k``, where 1 / beta_k is at least 1 / exposure. By default y are counts.

    References
    ----------
    J. A. Nelder and D. Pregibon, An extended quasi-likelihood function, Biometrika 74 (1987).
    """

    name, distribution, label = "poisson", "poisson", "Poisson"
    support, target_kind = "y >= 0", "counts"
    fit_scaler: ClassVar[FitScaler] = staticmethod(count_scaler)
    estimates_scale = True

    def __init__(
        self, offset: Tensor | None = None, precision: Tensor | None = None, exposure: float | None = None
    ) -> None:
        self._offset, self.precision, self._exposure = offset, precision, exposure
        self.has_rates = exposure is not None
        self.variance_factor = self.largest_precision = 1.0 if exposure is None else exposure

    @classmethod
    def for_scaler(cls, scaler: TargetScaling, quantile: float | np.ndarray) -> PoissonLoss:
        return cls(torch.from_numpy(np.log(scaler.scale)))

    def at_precision(self, beta: Tensor) -> PoissonLoss:
        return self._with(precision=beta)

    def of_rates(self, exposure: float) -> PoissonLoss:
        return PoissonLoss(self._offset, self.precision, exposure)

    def _weigh(self, values: Tensor) -> Tensor:
        beta = self.precision
        return values if beta is None or len(beta) == 1 else values * relative(beta).to(values)

    def _log_mean(self, f: Tensor) -> Tensor:
        return f if self._offset is None else f + self._offset.to(f)

    def value(self, f: Tensor, y: Tensor) -> Tensor:
        log_mean = self._log_mean(f)
        # Over the count itself: with large counts, the terms of the deviance are far larger than their sum.
        excess = log_mean - torch.where(y > 0, y, 1).log()
        return self._weigh(torch.where(y > 0, y * (excess.expm1() - excess), log_mean.exp())).sum(1)

    def gradient(self, f: Tensor, y: Tensor) -> Tensor:
        return self._weigh(self._log_mean(f).exp() - y)

    def curvature_root(self, f: Tensor, y: Tensor) -> Tensor:
        root = (self._log_mean(f) / 2).exp()
        return torch.diag_embed(root * self._weigh(torch.ones_like(root)).sqrt())

    def weighted_squares(self, f: Tensor, y: Tensor) -> Tensor:
        mean = self._log_mean(f).exp()
        return (y - mean).square() / mean.clamp(min=torch.finfo(mean.dtype).tiny)

    def unit_precision(self, Y: np.ndarray, sample_weight: np.ndarray) -> Tensor:
        y, weight = torch.from_numpy(Y), torch.from_numpy(sample_weight)
        return weight.sum() / (self.weighted_squares(torch.zeros_like(y), y).T @ self.squares_weight(weight))

    def squares_weight(self, sample_weight: Tensor) -> Tensor:
        if self._exposure is None:
            return sample_weight
        # A rate of exposure e is one count, with the variance phi m / e. What little exposure tells counts little.
        part = sample_weight.clamp(max=1)
        return sample_weight * part * (sample_weight.sum() / part.sum())

    def log_normaliser(self, beta: Tensor) -> float:
        return 0.5 * float(beta.log().sum())

    def log_likelihood(self, f: Tensor, y: Tensor) -> Tensor:
        value = self.value(f, y)
        return -value if self.precision is None else -value * geometric_mean(self.precision).to(value)

    def inverse_link(self, f: Tensor) -> Tensor:
        return self._log_mean(f).exp()

    def observation(self) -> Observation:
        return CountObservation()

    def scale_of_observation(self, squared_scale: np.ndarray) -> np.ndarray:
        return squared_scale * self.variance_factor

    def of_observation(self, f: np.ndarray) -> np.ndarray:
        return f if self._offset is None else f + self._offset.cpu().numpy()
