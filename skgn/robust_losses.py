"""Losses that far residuals do not rule: Student-t, Cauchy and Huber noise, and quantiles.

Their curvature is that of a parabola which touches the loss from above, never the second derivative.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from scipy.stats import norm
from torch import Tensor

from .losses import Loss, NoiseLoss, geometric_mean, relative
from .observation import NormalObservation, Observation, StudentTObservation
from .target_scalers import FitScaler, TargetScaling, robust_scaler, student_scaler

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["REGRESSION", "CauchyLoss", "HuberLoss", "QuantileLoss", "StudentTLoss", "design_effect"]

#: Tails that forgive an outlier at little loss where the noise is normal.
_DEGREES_OF_FREEDOM = 8.0

#: Scales beyond which a residual counts linearly. The estimate is 95 % efficient where the noise is normal. Source:
#: Holland and Welsch, Robust regression using iteratively reweighted least-squares, Communications in Statistics A6,
#: 1977.
_HUBER_THRESHOLD = 1.345

#: Half width of the parabola in the kink of the pinball loss, in units of the mean pinball loss. Under normal noise it
#: is a fifth of the standard deviation for the median, and a tenth for a quantile of 0.9.
_SMOOTHING = 0.5

#: Loss of a residual from the median, in scales, up to which it counts for the scale (docs/decisions.md).
_FAR = 10.0

#: Several far quantiles have this part of the design effect of a single one with the mean of their deviations.
_OF_SEVERAL = 0.65


class _Reweighted(NoiseLoss):
    """Noise whose loss has, at each residual, a parabola that touches it from above: that is the curvature.

    It is positive and bounded, where the second derivative of a far residual is 0 or negative: iteratively reweighted
    least squares, which never overshoots. ``R = diag(sqrt(r u))`` with the weights u of the residuals and r_k, beta_k
    over the geometric mean of all.
    """

    fit_scaler: ClassVar[FitScaler] = staticmethod(robust_scaler)
    depends_on_scale = True
    renews_gradient = True

    def __init__(self, beta: Tensor | None = None) -> None:
        self.precision = beta

    def at_precision(self, beta: Tensor) -> Self:
        return self._with(precision=beta)

    def _beta(self, like: Tensor) -> Tensor:
        return like.new_ones(like.shape[1]) if self.precision is None else self.precision.to(like)

    @abstractmethod
    def _weight(self, f: Tensor, y: Tensor) -> Tensor:
        """The weights u, (n, k)."""

    def gradient(self, f: Tensor, y: Tensor) -> Tensor:
        return relative(self._beta(f)) * self._weight(f, y) * (f - y)

    def curvature_root(self, f: Tensor, y: Tensor) -> Tensor:
        return torch.diag_embed((relative(self._beta(f)) * self._weight(f, y)).sqrt())

    def inverse_link(self, f: Tensor) -> Tensor:
        return f


class StudentTLoss(_Reweighted):
    """Student-t noise: ``(nu + 1) / (2 beta) sum_k log(1 + beta_k (f_k - y_k)^2 / nu)``.

    Its weights ``u = (nu + 1) / (nu + beta_k (f_k - y_k)^2)`` make it the EM algorithm of Lange, Little and Taylor
    (1989).

    Parameters
    ----------
    beta : Tensor of shape (k,), optional
        Noise precisions; all 1 by default. In the formula beta is their geometric mean.
    degrees_of_freedom : float, default=8
        nu; towards infinity this is the squared error.

    References
    ----------
    K. L. Lange, R. J. A. Little and J. M. G. Taylor, Robust statistical modeling using the t distribution,
    JASA 84 (1989).
    """

    name, distribution, label = "student_t", "student_t", "Student-t"
    robust_alternatives: ClassVar[tuple[str, ...]] = ("cauchy",)
    fit_scaler: ClassVar[FitScaler] = staticmethod(student_scaler)
    may_depend_on_input = True
    # Of 8 degrees of freedom, weights change little with the scale.
    renews_gradient = False

    def __init__(self, beta: Tensor | None = None, degrees_of_freedom: float = _DEGREES_OF_FREEDOM) -> None:
        super().__init__(beta)
        self._nu = degrees_of_freedom
        self.variance_factor = degrees_of_freedom / (degrees_of_freedom - 2) if degrees_of_freedom > 2 else math.inf

    def _weight(self, f: Tensor, y: Tensor) -> Tensor:
        return (self._nu + 1) / (self._nu + self._beta(f) * (f - y).square())

    def value(self, f: Tensor, y: Tensor) -> Tensor:
        beta = self._beta(f)
        return 0.5 * (self._nu + 1) * torch.log1p(beta * (f - y).square() / self._nu).sum(1) / geometric_mean(beta)

    def weighted_squares(self, f: Tensor, y: Tensor) -> Tensor:
        return self._weight(f, y) * (f - y).square()

    def log_density(self, residual: Tensor, squared_scale: Tensor) -> Tensor:
        nu = self._nu
        far = (nu + 1) * torch.log1p(residual.square() / (nu * squared_scale))
        constant = math.lgamma((nu + 1) / 2) - math.lgamma(nu / 2)
        return (constant - 0.5 * (far + (math.pi * nu * squared_scale).log())).sum(1)

    def standard_noise(self) -> Any:
        return self.observation().standard()

    def observation(self) -> StudentTObservation:
        return StudentTObservation(self._nu)


class CauchyLoss(StudentTLoss):
    """Cauchy noise: ``1 / beta sum_k log(1 + beta_k (f_k - y_k)^2)``, Student-t noise of one degree of freedom.

    Half of the residuals are below the scale ``beta_k^-1/2``. There is no variance: ``variance_factor`` is that of
    normal noise of the same Fisher information about the output, ``beta_k / 2``.

    Parameters
    ----------
    beta : Tensor of shape (k,), optional
        Noise precisions; all 1 by default.
    """

    name, distribution, label = "cauchy", "cauchy", "Cauchy"
    robust_alternatives = ()
    fit_scaler: ClassVar[FitScaler] = staticmethod(robust_scaler)
    forgives = True
    renews_gradient, may_depend_on_input = True, False
    without_std = "Cauchy noise has no variance; loss='student_t' or 'huber' forgive outliers too"

    def __init__(self, beta: Tensor | None = None) -> None:
        super().__init__(beta, degrees_of_freedom=1.0)
        self.variance_factor = 2.0

    def standard_noise(self) -> Any:
        """The normal distribution, whose Fisher information ``variance_factor`` is of."""
        return norm()


class _Scaled(_Reweighted):
    """Noise whose loss is ``1 / beta sum_k rho(z_k)`` of residuals in scales, ``z_k = sqrt(beta_k) (f_k - y_k)``."""

    #: Logarithm of the integral of exp(-rho), one or one for each output.
    _log_normaliser: float | Tensor

    @abstractmethod
    def _rho(self, z: Tensor) -> Tensor: ...

    def _scaled(self, f: Tensor, y: Tensor) -> Tensor:
        return self._beta(f).sqrt() * (f - y)

    def value(self, f: Tensor, y: Tensor) -> Tensor:
        return self._rho(self._scaled(f, y)).sum(1) / geometric_mean(self._beta(f))

    def log_density(self, residual: Tensor, squared_scale: Tensor) -> Tensor:
        rho = self._rho(residual / squared_scale.sqrt())
        return -(rho + 0.5 * squared_scale.log() + _in_dtype_of(self._log_normaliser, rho)).sum(1)


class HuberLoss(_Scaled):
    """Normal noise with exponential tails: with ``z_k = sqrt(beta_k) |f_k - y_k|`` it is ``1 / beta sum_k rho(z_k)``.

    ``rho(z) = z^2 / 2`` up to the threshold t, ``t z - t^2 / 2`` beyond, and the weights are ``u = t / max(z, t)``. The
    scale is that of Huber's proposal 2: there ``min(z, t)^2`` has the mean that it has under normal noise. The scale of
    clean normal noise is its standard deviation. Far outliers would drag the scale of greatest likelihood along without
    limit.

    Parameters
    ----------
    beta : Tensor of shape (k,), optional
        Noise precisions; all 1 by default. In the formula beta is their geometric mean.
    threshold : float, default=1.345
        t, in scales of the noise; towards infinity this is the squared error.

    References
    ----------
    P. J. Huber, Robust estimation of a location parameter, Annals of Mathematical Statistics 35 (1964).
    """

    forgives = True

    name, distribution, label = "huber", "huber", "Huber"
    variance_factor = 1.0
    most_likely_up_to = 0.0

    def __init__(self, beta: Tensor | None = None, threshold: float = _HUBER_THRESHOLD) -> None:
        super().__init__(beta)
        self._t = threshold
        density, above = math.exp(-0.5 * threshold**2) / math.sqrt(2 * math.pi), math.erfc(threshold / math.sqrt(2))
        self._clipped = 1 - above - 2 * threshold * density + threshold**2 * above
        self._log_normaliser = math.log(math.sqrt(2 * math.pi) * (1 - above + 2 * density / threshold))

    def observation(self) -> Observation:
        """Normal, as an observation that is no outlier."""
        return NormalObservation()

    def _weight(self, f: Tensor, y: Tensor) -> Tensor:
        return self._t / self._scaled(f, y).abs().clamp(min=self._t)

    def _rho(self, z: Tensor) -> Tensor:
        size = z.abs()
        near = size.clamp(max=self._t)
        return near * (size - near / 2)

    def weighted_squares(self, f: Tensor, y: Tensor) -> Tensor:
        return self._scaled(f, y).abs().clamp(max=self._t).square() / (self._clipped * self._beta(f))


class QuantileLoss(_Scaled):
    """Pinball loss of the q-quantile, its kink a parabola: ``1 / beta sum_k rho(sqrt(beta_k) (f_k - y_k))``.

    ``rho(z) = |z| / 2 + (1/2 - q) z``, minus the log density of an asymmetric Laplace distribution: an observation that
    far above the output costs q, one below 1 - q. The scale ``beta_k^-1/2`` of greatest likelihood is the mean of that.
    Gross errors would drag it along, until all else is noise. So losses count up to ``10 / (4 q (1 - q))`` scales, and
    have the mean that they have under this distribution, as in Huber's proposal 2. In the kink, ``|z| <= h``,
    ``z^2 / (2 h) + h / 2`` stands for |z|, which averages the loss over uniform shifts of y by up to h. The weights are
    ``u = 1 / (2 max(|z|, h))``.

    An asymmetric Laplace distribution is no description of noise; ``variance_factor`` is that of normal noise of the
    same Fisher information about the output, ``q (1 - q) beta_k``.

    Parameters
    ----------
    beta : Tensor of shape (k,), optional
        Precisions; all 1 by default. In the formula beta is their geometric mean.
    quantile : float in (0, 1) or ndarray of shape (k,), default=0.5
        q, of all outputs or of each.
    smoothing : float, default=0.5
        h, in scales.

    References
    ----------
    D. R. Hunter and K. Lange, Quantile regression via an MM algorithm, JCGS 9 (2000).
    M. Fernandes, E. Guerre and E. Horta, Smoothing quantile regressions, JBES 39 (2021).
    """

    name, distribution, label = "quantile", "asymmetric_laplace", "asymmetric Laplace"
    predicts_quantiles = True
    # More of it is of gross errors, which do not count for the scale.
    most_likely_up_to = 2.0
    without_std = (
        "a quantile is no mean that observations deviate from; fit several, such as quantile=[0.05, 0.95], for an "
        "interval"
    )

    def __init__(
        self, beta: Tensor | None = None, quantile: float | np.ndarray = 0.5, smoothing: float = _SMOOTHING
    ) -> None:
        super().__init__(beta)
        self._h = smoothing
        self.variance_factor = 1 / (quantile * (1 - quantile))
        self._q: float | Tensor
        if isinstance(quantile, np.ndarray):
            self._q = torch.from_numpy(quantile)
            self._log_normaliser = self._q.new_tensor([_log_integral(q, smoothing) for q in quantile.tolist()])
        else:
            self._q, self._log_normaliser = quantile, _log_integral(quantile, smoothing)

    @classmethod
    def for_scaler(cls, scaler: TargetScaling, quantile: float | np.ndarray) -> Loss:
        return cls(quantile=quantile).at_initial_scale(scaler)

    def _rho(self, z: Tensor) -> Tensor:
        width = z.abs().clamp(min=self._h)
        return z.square() / (4 * width) + width / 4 + (0.5 - _in_dtype_of(self._q, z)) * z

    def _slope(self, z: Tensor) -> Tensor:
        return z / (2 * z.abs().clamp(min=self._h)) + (0.5 - _in_dtype_of(self._q, z))

    def _weight(self, f: Tensor, y: Tensor) -> Tensor:
        return 0.5 / self._scaled(f, y).abs().clamp(min=self._h)

    def gradient(self, f: Tensor, y: Tensor) -> Tensor:
        beta = self._beta(f)
        return beta.sqrt() / geometric_mean(beta) * self._slope(self._scaled(f, y))

    def weighted_squares(self, f: Tensor, y: Tensor) -> Tensor:
        z = self._scaled(f, y)
        q = torch.as_tensor(self._q).to(z)
        far = _FAR / (4 * q * (1 - q))
        # Losses z rho'(z) have an exponential distribution.
        return torch.minimum(z * self._slope(z), far) / (-torch.expm1(-far) * self._beta(f))


def design_effect(quantiles: np.ndarray) -> float:
    """How many rows count for one observation in a fit of these quantiles (k,); see docs/decisions.md.

    Of a single one, q, an observation counts by the deviation of its side, ``sqrt(q (1 - q))``, over the median's.
    Sides of two quantiles correlate by about a half. So the effect of several is the mean of 1 and k. It is more if
    they are far from the median.
    """
    k, deviation = len(quantiles), 2 * np.sqrt(quantiles * (1 - quantiles)).mean()
    return float(1 / deviation if k == 1 else max((k + 1) / 2, _OF_SEVERAL / deviation))


def _in_dtype_of(values: float | Tensor, other: Tensor) -> float | Tensor:
    """One number for all outputs as it is, one for each in the dtype and on the device of another tensor."""
    return values.to(other) if isinstance(values, Tensor) else values


def _log_integral(q: float, h: float) -> float:
    """Logarithm of the integral of exp(-rho) of a quantile.

    It is that of the parabola between -h and h, completed to a square around h (1 - 2 q), and of the exponential tails.
    """
    root = math.sqrt(h)
    inner = math.exp(-h * q * (1 - q)) * math.sqrt(math.pi * h) * (math.erf(root * q) + math.erf(root * (1 - q)))
    return math.log(inner + math.exp(-q * h) / q + math.exp(-(1 - q) * h) / (1 - q))


#: Losses of this file for `GNRegressor`.
REGRESSION: tuple[type[Loss], ...] = (StudentTLoss, HuberLoss, CauchyLoss, QuantileLoss)
