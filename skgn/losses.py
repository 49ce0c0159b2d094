"""Losses l(f, y), in output space only: value, gradient, curvature root and inverse link.

The curvature root R (k x c per sample) satisfies ``R R' = d2l / df2``. It is written down directly for each loss; the
square root of the loss itself is never taken: its Jacobian is 0/0 at a well-fitted sample and its curvature is not the
generalised Gauss-Newton matrix.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Protocol

import torch
from torch import Tensor

__all__ = [
    "CauchyLoss",
    "GammaLoss",
    "HuberLoss",
    "LogLoss",
    "Loss",
    "NoiseLoss",
    "PoissonLoss",
    "QuantileLoss",
    "SoftmaxLoss",
    "SquaredError",
    "StudentTLoss",
]

#: Tails that forgive an outlier at little loss where the noise is normal.
_DEGREES_OF_FREEDOM = 8.0

#: Scales beyond which a residual counts linearly: 95 % efficient where the noise is normal (Holland and Welsch, Robust
#: regression using iteratively reweighted least-squares, Communications in Statistics A6, 1977).
_HUBER_THRESHOLD = 1.345

#: Half width of the parabola in the kink of the pinball loss, in units of the mean pinball loss: of normal noise, a
#: fifth of its standard deviation for the median, a tenth for a quantile of 0.9.
_SMOOTHING = 0.5


class Loss(Protocol):
    """What training needs of a loss; outputs ``f`` and targets ``y`` have shape (n, k)."""

    def value(self, f: Tensor, y: Tensor) -> Tensor:
        """Loss of each sample, shape (n,)."""
        ...

    def gradient(self, f: Tensor, y: Tensor) -> Tensor:
        """Derivative with respect to the outputs, shape (n, k)."""
        ...

    def columns(self, k: int) -> int:
        """Columns c of the curvature root for k outputs."""
        ...

    def curvature_root(self, f: Tensor, y: Tensor) -> Tensor:
        """Root R of the curvature, shape (n, k, c)."""
        ...

    def inverse_link(self, f: Tensor) -> Tensor:
        """Outputs mapped to the scale of the target: means or probabilities, shape (n, k)."""
        ...


class NoiseLoss(Loss, ABC):
    """The loss of a noise model with a precision beta_k for each output.

    It is minus the log density over the geometric mean of the precisions, up to a constant: half the squared error near
    residual 0, for equal precisions. The noise of an output has the variance ``variance_factor / beta_k``.
    ``depends_on_scale`` tells whether the scale of the noise changes what weights are best, beyond how much each output
    counts: then it is estimated while training also under a fixed prior. ``renews_gradient`` tells whether the gradient
    changes so much with it that the next step needs that of the new scale.
    """

    variance_factor: float
    depends_on_scale: bool = False
    renews_gradient: bool = False

    @property
    @abstractmethod
    def precision(self) -> Tensor | None:
        """The noise precisions (k,) that :meth:`at_precision` has set; None before."""
        ...

    def columns(self, k: int) -> int:
        return k

    @abstractmethod
    def at_precision(self, beta: Tensor) -> NoiseLoss:
        """The loss under the noise precisions beta (k,)."""
        ...

    @abstractmethod
    def weighted_squares(self, f: Tensor, y: Tensor) -> Tensor:
        """Squared residuals (n, k) by whose mean 1 / beta_k is estimated."""
        ...

    @abstractmethod
    def log_density(self, residual: Tensor, squared_scale: Tensor) -> Tensor:
        """Log density of each sample (n,) for residuals (n, k) and their squared scales, 1 / beta_k for noise alone."""
        ...


class _Relative(NoiseLoss):
    """Noise whose scale weighs the outputs against each other, by ``relative_precision`` (k,), and changes no more."""

    variance_factor = 1.0

    def __init__(self, relative_precision: Tensor | None = None) -> None:
        self._precision = relative_precision

    @property
    def precision(self) -> Tensor | None:
        """Relative ones."""
        return self._precision

    def _weigh(self, values: Tensor) -> Tensor:
        return values if self._precision is None else values * self._precision.to(values)

    def at_precision(self, beta: Tensor) -> NoiseLoss:
        return self if len(beta) == 1 else type(self)(_relative(beta))


class SquaredError(_Relative):
    """Half squared error, ``1/2 sum_k r_k (f_k - y_k)^2``: normal noise; R = diag(sqrt r).

    Parameters
    ----------
    relative_precision : Tensor of shape (k,), optional
        r, the noise precision of each output relative to the others; all 1 by default.
    """

    def value(self, f: Tensor, y: Tensor) -> Tensor:
        return 0.5 * self._weigh((f - y).square()).sum(1)

    def gradient(self, f: Tensor, y: Tensor) -> Tensor:
        return self._weigh(f - y)

    def curvature_root(self, f: Tensor, y: Tensor) -> Tensor:
        n, k = f.shape
        diagonal = f.new_ones(k) if self._precision is None else self._precision.sqrt().to(f)
        return torch.diag(diagonal).expand(n, k, k)

    def inverse_link(self, f: Tensor) -> Tensor:
        return f

    def weighted_squares(self, f: Tensor, y: Tensor) -> Tensor:
        return (f - y).square()

    def log_density(self, residual: Tensor, squared_scale: Tensor) -> Tensor:
        return -0.5 * (residual.square() / squared_scale + (2 * math.pi * squared_scale).log()).sum(1)


class _Reweighted(NoiseLoss):
    """Noise whose loss has, at each residual, a parabola that touches it from above: that is the curvature.

    It is positive and bounded, where the second derivative of a far residual is 0 or negative: iteratively reweighted
    least squares, which never overshoots. ``R = diag(sqrt(r u))`` with the weights u of the residuals and r_k, beta_k
    over the geometric mean of all.
    """

    depends_on_scale = True
    renews_gradient = True

    def __init__(self, beta: Tensor | None) -> None:
        self._beta = beta

    @property
    def precision(self) -> Tensor | None:
        return self._beta

    def _precision(self, like: Tensor) -> Tensor:
        return like.new_ones(like.shape[1]) if self._beta is None else self._beta.to(like)

    @abstractmethod
    def _weight(self, f: Tensor, y: Tensor) -> Tensor:
        """The weights u, (n, k)."""
        ...

    def gradient(self, f: Tensor, y: Tensor) -> Tensor:
        return _relative(self._precision(f)) * self._weight(f, y) * (f - y)

    def curvature_root(self, f: Tensor, y: Tensor) -> Tensor:
        return torch.diag_embed((_relative(self._precision(f)) * self._weight(f, y)).sqrt())

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

    # Of 8 degrees of freedom, weights change little with the scale.
    renews_gradient = False

    def __init__(self, beta: Tensor | None = None, degrees_of_freedom: float = _DEGREES_OF_FREEDOM) -> None:
        super().__init__(beta)
        self._nu = degrees_of_freedom
        self.variance_factor = degrees_of_freedom / (degrees_of_freedom - 2) if degrees_of_freedom > 2 else math.inf

    def _weight(self, f: Tensor, y: Tensor) -> Tensor:
        return (self._nu + 1) / (self._nu + self._precision(f) * (f - y).square())

    def value(self, f: Tensor, y: Tensor) -> Tensor:
        beta = self._precision(f)
        return 0.5 * (self._nu + 1) * torch.log1p(beta * (f - y).square() / self._nu).sum(1) / _geometric_mean(beta)

    def at_precision(self, beta: Tensor) -> StudentTLoss:
        return StudentTLoss(beta, self._nu)

    def weighted_squares(self, f: Tensor, y: Tensor) -> Tensor:
        return self._weight(f, y) * (f - y).square()

    def log_density(self, residual: Tensor, squared_scale: Tensor) -> Tensor:
        nu = self._nu
        far = (nu + 1) * torch.log1p(residual.square() / (nu * squared_scale))
        constant = math.lgamma((nu + 1) / 2) - math.lgamma(nu / 2)
        return (constant - 0.5 * (far + (math.pi * nu * squared_scale).log())).sum(1)


class CauchyLoss(StudentTLoss):
    """Cauchy noise: ``1 / beta sum_k log(1 + beta_k (f_k - y_k)^2)``, Student-t noise of one degree of freedom.

    Half of the residuals are below the scale ``beta_k^-1/2``. There is no variance: ``variance_factor`` is that of
    normal noise of the same Fisher information about the output, ``beta_k / 2``.

    Parameters
    ----------
    beta : Tensor of shape (k,), optional
        Noise precisions; all 1 by default.
    """

    renews_gradient = True

    def __init__(self, beta: Tensor | None = None) -> None:
        super().__init__(beta, degrees_of_freedom=1.0)
        self.variance_factor = 2.0

    def at_precision(self, beta: Tensor) -> CauchyLoss:
        return CauchyLoss(beta)


class HuberLoss(_Reweighted):
    """Normal noise with exponential tails: with ``z_k = sqrt(beta_k) |f_k - y_k|`` it is ``1 / beta sum_k rho(z_k)``.

    ``rho(z) = z^2 / 2`` up to the threshold t, ``t z - t^2 / 2`` beyond, and the weights are ``u = t / max(z, t)``. The
    scale is not that of greatest likelihood, which far outliers would drag along without limit, but that of Huber's
    proposal 2, at which ``min(z, t)^2`` has the mean that it has under normal noise: of clean normal noise it is the
    standard deviation.

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

    variance_factor = 1.0

    def __init__(self, beta: Tensor | None = None, threshold: float = _HUBER_THRESHOLD) -> None:
        super().__init__(beta)
        self._t = threshold
        density, above = math.exp(-0.5 * threshold**2) / math.sqrt(2 * math.pi), math.erfc(threshold / math.sqrt(2))
        self._clipped = 1 - above - 2 * threshold * density + threshold**2 * above
        self._normaliser = math.sqrt(2 * math.pi) * (1 - above + 2 * density / threshold)

    def _weight(self, f: Tensor, y: Tensor) -> Tensor:
        return self._t / self._size(f, y).clamp(min=self._t)

    def _size(self, f: Tensor, y: Tensor) -> Tensor:
        return self._precision(f).sqrt() * (f - y).abs()

    def _rho(self, z: Tensor) -> Tensor:
        near = z.clamp(max=self._t)
        return near * (z - near / 2)

    def value(self, f: Tensor, y: Tensor) -> Tensor:
        return self._rho(self._size(f, y)).sum(1) / _geometric_mean(self._precision(f))

    def at_precision(self, beta: Tensor) -> HuberLoss:
        return HuberLoss(beta, self._t)

    def weighted_squares(self, f: Tensor, y: Tensor) -> Tensor:
        return self._size(f, y).clamp(max=self._t).square() / (self._clipped * self._precision(f))

    def log_density(self, residual: Tensor, squared_scale: Tensor) -> Tensor:
        rho = self._rho(residual.abs() / squared_scale.sqrt())
        return -(rho + 0.5 * squared_scale.log() + math.log(self._normaliser)).sum(1)


class QuantileLoss(_Reweighted):
    """Pinball loss of the q-quantile, its kink a parabola: ``1 / beta sum_k rho(sqrt(beta_k) (f_k - y_k))``.

    ``rho(z) = |z| / 2 + (1/2 - q) z``, minus the log density of an asymmetric Laplace distribution: an observation that
    far above the output costs q, one below 1 - q. The scale ``beta_k^-1/2`` of greatest likelihood is the mean of that.
    In the kink, ``|z| <= h``, ``z^2 / (2 h) + h / 2`` stands for |z|, which averages the loss over uniform shifts of y
    by up to h. The weights are ``u = 1 / (2 max(|z|, h))``.

    An asymmetric Laplace distribution is no description of noise; ``variance_factor`` is that of normal noise of the
    same Fisher information about the output, ``q (1 - q) beta_k``.

    Parameters
    ----------
    beta : Tensor of shape (k,), optional
        Precisions; all 1 by default. In the formula beta is their geometric mean.
    quantile : float in (0, 1), default=0.5
        q.
    smoothing : float, default=0.5
        h, in scales.

    References
    ----------
    D. R. Hunter and K. Lange, Quantile regression via an MM algorithm, JCGS 9 (2000).
    M. Fernandes, E. Guerre and E. Horta, Smoothing quantile regressions, JBES 39 (2021).
    """

    def __init__(self, beta: Tensor | None = None, quantile: float = 0.5, smoothing: float = _SMOOTHING) -> None:
        super().__init__(beta)
        q, h = self._q, self._h = quantile, smoothing
        self.variance_factor = 1 / (q * (1 - q))
        # The parabola between -h and h, completed to a square around h (1 - 2 q), and the exponential tails beyond.
        root = math.sqrt(h)
        inner = math.exp(-h * q * (1 - q)) * math.sqrt(math.pi * h) * (math.erf(root * q) + math.erf(root * (1 - q)))
        self._normaliser = inner + math.exp(-q * h) / q + math.exp(-(1 - q) * h) / (1 - q)

    def _scaled(self, f: Tensor, y: Tensor) -> Tensor:
        return self._precision(f).sqrt() * (f - y)

    def _rho(self, z: Tensor) -> Tensor:
        width = z.abs().clamp(min=self._h)
        return z.square() / (4 * width) + width / 4 + (0.5 - self._q) * z

    def _slope(self, z: Tensor) -> Tensor:
        return z / (2 * z.abs().clamp(min=self._h)) + (0.5 - self._q)

    def _weight(self, f: Tensor, y: Tensor) -> Tensor:
        return 0.5 / self._scaled(f, y).abs().clamp(min=self._h)

    def value(self, f: Tensor, y: Tensor) -> Tensor:
        return self._rho(self._scaled(f, y)).sum(1) / _geometric_mean(self._precision(f))

    def gradient(self, f: Tensor, y: Tensor) -> Tensor:
        beta = self._precision(f)
        return beta.sqrt() / _geometric_mean(beta) * self._slope(self._scaled(f, y))

    def at_precision(self, beta: Tensor) -> QuantileLoss:
        return QuantileLoss(beta, self._q, self._h)

    def weighted_squares(self, f: Tensor, y: Tensor) -> Tensor:
        # z rho'(z) has mean 1 at the scale of greatest likelihood.
        z = self._scaled(f, y)
        return z * self._slope(z) / self._precision(f)

    def log_density(self, residual: Tensor, squared_scale: Tensor) -> Tensor:
        rho = self._rho(residual / squared_scale.sqrt())
        return -(rho + 0.5 * squared_scale.log() + math.log(self._normaliser)).sum(1)


class GammaLoss(_Relative):
    """Half the gamma deviance with log link: ``sum_k r_k (exp(t_k - f_k) - 1 - (t_k - f_k))``, where t is log y.

    Gamma distributed y of mean exp(f) and shape beta_k: on the scale of its logarithm the noise has one density
    everywhere, and its precision is beta_k, as 1 / beta_k is the squared coefficient of variation of y, estimated by
    Pearson's statistic. R = diag(sqrt(r exp(t - f))).

    Parameters
    ----------
    relative_precision : Tensor of shape (k,), optional
        r, the shape of each output relative to the others; all 1 by default.

    References
    ----------
    P. McCullagh and J. A. Nelder, Generalized linear models, 2nd edition (1989), chapter 8.
    """

    def value(self, f: Tensor, y: Tensor) -> Tensor:
        return self._weigh(_half_deviance(f - y)).sum(1)

    def gradient(self, f: Tensor, y: Tensor) -> Tensor:
        return self._weigh(-torch.expm1(y - f))

    def curvature_root(self, f: Tensor, y: Tensor) -> Tensor:
        return torch.diag_embed(self._weigh((y - f).exp()).sqrt())

    def inverse_link(self, f: Tensor) -> Tensor:
        return f.exp()

    def weighted_squares(self, f: Tensor, y: Tensor) -> Tensor:
        return torch.expm1(y - f).square()

    def log_density(self, residual: Tensor, squared_scale: Tensor) -> Tensor:
        """That of log y."""
        shape = 1 / squared_scale
        constant = shape * (shape.log() - 1) - torch.lgamma(shape)
        return (constant - shape * _half_deviance(residual)).sum(1)


def _half_deviance(residual: Tensor) -> Tensor:
    return torch.expm1(-residual) + residual


def _geometric_mean(beta: Tensor) -> Tensor:
    return beta.log().mean().exp()


def _relative(beta: Tensor) -> Tensor:
    return beta / _geometric_mean(beta)


class LogLoss:
    """Log loss on k independent logits, y in {0, 1}: binary for k = 1, multilabel beyond; R = diag(sqrt(p (1 - p)))."""

    def value(self, f: Tensor, y: Tensor) -> Tensor:
        return (torch.logaddexp(f, torch.zeros_like(f)) - y * f).sum(1)

    def gradient(self, f: Tensor, y: Tensor) -> Tensor:
        return torch.sigmoid(f) - y

    def columns(self, k: int) -> int:
        return k

    def curvature_root(self, f: Tensor, y: Tensor) -> Tensor:
        # sigmoid(-f) rather than 1 - sigmoid(f): the latter cancels to 0 for a confident positive.
        return torch.diag_embed((torch.sigmoid(f) * torch.sigmoid(-f)).sqrt())

    def inverse_link(self, f: Tensor) -> Tensor:
        return torch.sigmoid(f)


class SoftmaxLoss:
    """Multinomial log loss on k logits, y one-hot; R is the Cholesky factor of diag(p) - p p', whose last column is 0.

    With the tail sums ``q_i = p_i + ... + p_k`` it is ``R_ii = sqrt(p_i q_i+1 / q_i)`` and, below the diagonal,
    ``R_ji = -(p_j / q_i+1) R_ii``: no differences, so no digit is lost for a class of probability near 1.

    References
    ----------
    K. Tanabe and M. Sagae, An exact Cholesky decomposition and the generalized inverse of the variance-covariance
    matrix of the multinomial distribution, with applications, JRSS B 54 (1992).
    """

    def value(self, f: Tensor, y: Tensor) -> Tensor:
        return torch.logsumexp(f, 1) - (y * f).sum(1)

    def gradient(self, f: Tensor, y: Tensor) -> Tensor:
        return torch.softmax(f, 1) - y

    def columns(self, k: int) -> int:
        return k - 1

    def curvature_root(self, f: Tensor, y: Tensor) -> Tensor:
        p = torch.softmax(f, 1)
        tail = p.flip(1).cumsum(1).flip(1)
        # Where all that is left of a row has probability 0, so has its part of the root.
        diagonal = (p[:, :-1] * (tail[:, 1:] / tail[:, :-1]).nan_to_num(0.0)).sqrt()
        below = (p[:, :, None] / tail[:, None, 1:]).nan_to_num(0.0).tril(-1)
        return (torch.eye(f.shape[1], f.shape[1] - 1, dtype=f.dtype, device=f.device) - below) * diagonal[:, None]

    def inverse_link(self, f: Tensor) -> Tensor:
        return torch.softmax(f, 1)


class PoissonLoss:
    """Half the Poisson deviance of counts y with means ``exp(f + offset)``; R = diag(exp((f + offset) / 2)).

    That is minus the log likelihood, 0 where the means are the counts.

    Parameters
    ----------
    offset : Tensor of shape (k,), optional
        Logarithm of the mean for which the outputs are 0; all 0 by default.
    """

    def __init__(self, offset: Tensor | None = None) -> None:
        self._offset = offset

    def _log_mean(self, f: Tensor) -> Tensor:
        return f if self._offset is None else f + self._offset.to(f)

    def value(self, f: Tensor, y: Tensor) -> Tensor:
        log_mean = self._log_mean(f)
        return (log_mean.exp() - y + torch.special.xlogy(y, y) - y * log_mean).sum(1)

    def gradient(self, f: Tensor, y: Tensor) -> Tensor:
        return self._log_mean(f).exp() - y

    def columns(self, k: int) -> int:
        return k

    def curvature_root(self, f: Tensor, y: Tensor) -> Tensor:
        return torch.diag_embed((self._log_mean(f) / 2).exp())

    def inverse_link(self, f: Tensor) -> Tensor:
        return self._log_mean(f).exp()
