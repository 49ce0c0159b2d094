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
    "GammaLoss",
    "LogLoss",
    "Loss",
    "NoiseLoss",
    "PoissonLoss",
    "SoftmaxLoss",
    "SquaredError",
    "geometric_mean",
    "relative",
]


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
    changes so much with it that the next step needs that of the new scale. ``most_likely_scale`` tells whether the
    scale is that of greatest likelihood; the evidence may fall on the way to another one.
    """

    variance_factor: float
    depends_on_scale: bool = False
    renews_gradient: bool = False
    most_likely_scale: bool = True

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
        return self if len(beta) == 1 else type(self)(relative(beta))


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


def geometric_mean(beta: Tensor) -> Tensor:
    """Of precisions (k,)."""
    return beta.log().mean().exp()


def relative(beta: Tensor) -> Tensor:
    """Precisions (k,) over their geometric mean."""
    return beta / geometric_mean(beta)


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
