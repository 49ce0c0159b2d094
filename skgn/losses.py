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

__all__ = ["LogLoss", "Loss", "NoiseLoss", "SoftmaxLoss", "SquaredError", "StudentTLoss"]

#: Tails that forgive an outlier at little loss where the noise is normal.
_DEGREES_OF_FREEDOM = 8.0


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
    """

    variance_factor: float

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


class SquaredError(NoiseLoss):
    """Half squared error, ``1/2 sum_k r_k (f_k - y_k)^2``: normal noise; R = diag(sqrt r).

    Parameters
    ----------
    relative_precision : Tensor of shape (k,), optional
        r, the noise precision of each output relative to the others; all 1 by default.
    """

    variance_factor = 1.0

    def __init__(self, relative_precision: Tensor | None = None) -> None:
        self._precision = relative_precision

    @property
    def precision(self) -> Tensor | None:
        """Relative ones."""
        return self._precision

    def _weigh(self, residual: Tensor) -> Tensor:
        return residual if self._precision is None else residual * self._precision.to(residual)

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

    def at_precision(self, beta: Tensor) -> SquaredError:
        return self if len(beta) == 1 else SquaredError(_relative(beta))

    def weighted_squares(self, f: Tensor, y: Tensor) -> Tensor:
        return (f - y).square()

    def log_density(self, residual: Tensor, squared_scale: Tensor) -> Tensor:
        return -0.5 * (residual.square() / squared_scale + (2 * math.pi * squared_scale).log()).sum(1)


class StudentTLoss(NoiseLoss):
    """Student-t noise: ``(nu + 1) / (2 beta) sum_k log(1 + beta_k (f_k - y_k)^2 / nu)``; R = diag(sqrt(r u)).

    The curvature is that of the parabola that touches the loss from above, with weights ``u = (nu + 1) / (nu + beta_k
    (f_k - y_k)^2)``: positive, where the second derivative of a far residual is not. As iteratively reweighted least
    squares it is the EM algorithm of Lange, Little and Taylor (1989).

    Parameters
    ----------
    beta : Tensor of shape (k,), optional
        Noise precisions; all 1 by default. In the formula beta is their geometric mean, and r_k is beta_k over it.
    degrees_of_freedom : float, default=8
        nu; towards infinity this is the squared error.

    References
    ----------
    K. L. Lange, R. J. A. Little and J. M. G. Taylor, Robust statistical modeling using the t distribution,
    JASA 84 (1989).
    """

    def __init__(self, beta: Tensor | None = None, degrees_of_freedom: float = _DEGREES_OF_FREEDOM) -> None:
        self._beta, self._nu = beta, degrees_of_freedom
        self.variance_factor = degrees_of_freedom / (degrees_of_freedom - 2)

    @property
    def precision(self) -> Tensor | None:
        return self._beta

    def _precision(self, like: Tensor) -> Tensor:
        return like.new_ones(like.shape[1]) if self._beta is None else self._beta.to(like)

    def _weight(self, f: Tensor, y: Tensor) -> Tensor:
        """The weights u, (n, k)."""
        return (self._nu + 1) / (self._nu + self._precision(f) * (f - y).square())

    def value(self, f: Tensor, y: Tensor) -> Tensor:
        beta = self._precision(f)
        return 0.5 * (self._nu + 1) * torch.log1p(beta * (f - y).square() / self._nu).sum(1) / _geometric_mean(beta)

    def gradient(self, f: Tensor, y: Tensor) -> Tensor:
        return _relative(self._precision(f)) * self._weight(f, y) * (f - y)

    def curvature_root(self, f: Tensor, y: Tensor) -> Tensor:
        return torch.diag_embed((_relative(self._precision(f)) * self._weight(f, y)).sqrt())

    def inverse_link(self, f: Tensor) -> Tensor:
        return f

    def at_precision(self, beta: Tensor) -> StudentTLoss:
        return StudentTLoss(beta, self._nu)

    def weighted_squares(self, f: Tensor, y: Tensor) -> Tensor:
        return self._weight(f, y) * (f - y).square()

    def log_density(self, residual: Tensor, squared_scale: Tensor) -> Tensor:
        nu = self._nu
        far = (nu + 1) * torch.log1p(residual.square() / (nu * squared_scale))
        constant = math.lgamma((nu + 1) / 2) - math.lgamma(nu / 2)
        return (constant - 0.5 * (far + (math.pi * nu * squared_scale).log())).sum(1)


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
