"""Log losses of labels, whose outputs are logits."""

from __future__ import annotations

import torch
from torch import Tensor

from .losses import Loss

__all__ = ["LogLoss", "SoftmaxLoss"]

#: Frequency of a label that no sample has.
_RAREST = 1e-12


class LogLoss(Loss):
    """Log loss on k independent logits, y in {0, 1}: binary for k = 1, multilabel beyond; R = diag(sqrt(p (1 - p)))."""

    has_temperature = independent_labels = True

    def value(self, f: Tensor, y: Tensor) -> Tensor:
        return (torch.logaddexp(f, torch.zeros_like(f)) - y * f).sum(1)

    def gradient(self, f: Tensor, y: Tensor) -> Tensor:
        return torch.sigmoid(f) - y

    def curvature_root(self, f: Tensor, y: Tensor) -> Tensor:
        # sigmoid(-f) rather than 1 - sigmoid(f): the latter cancels to 0 for a confident positive.
        return torch.diag_embed((torch.sigmoid(f) * torch.sigmoid(-f)).sqrt())

    def inverse_link(self, f: Tensor) -> Tensor:
        return torch.sigmoid(f)

    def best_constant(self, mean: Tensor) -> Tensor:
        return torch.logit(mean, eps=_RAREST)


class SoftmaxLoss(Loss):
    """Multinomial log loss on k logits, y one-hot; R is the Cholesky factor of diag(p) - p p', whose last column is 0.

    With the tail sums ``q_i = p_i + ... + p_k`` it is ``R_ii = sqrt(p_i q_i+1 / q_i)`` and, below the diagonal,
    ``R_ji = -(p_j / q_i+1) R_ii``. Without differences no digit is lost for a class of probability near 1.

    References
    ----------
    K. Tanabe and M. Sagae, An exact Cholesky decomposition and the generalized inverse of the variance-covariance
    matrix of the multinomial distribution, with applications, JRSS B 54 (1992).
    """

    has_temperature = True

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

    def curvature_product(self, f: Tensor, y: Tensor, tangent: Tensor) -> Tensor:
        p = torch.softmax(f, 1)
        return p * (tangent - (p * tangent).sum(1, keepdim=True))

    def curvature_squares(self, f: Tensor, y: Tensor, tangents: Tensor) -> Tensor:
        """The variance of a tangent under the probabilities: k products, where a root has k^2 entries."""
        p = torch.softmax(f, 1)[:, None]
        return (p @ tangents.square() - (p @ tangents).square())[:, 0].clamp(min=0)

    def inverse_link(self, f: Tensor) -> Tensor:
        return torch.softmax(f, 1)

    def best_constant(self, mean: Tensor) -> Tensor:
        return mean.clamp(min=_RAREST).log()
