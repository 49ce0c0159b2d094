"""Losses l(f, y), in output space only: value, gradient, curvature root and inverse link.

The curvature root R (k x c per sample) satisfies ``R R' = d2l / df2``. It is written down directly for each loss; the
square root of the loss itself is never taken: its Jacobian is 0/0 at a well-fitted sample and its curvature is not the
generalised Gauss-Newton matrix.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

__all__ = ["LogLoss", "Loss", "SoftmaxLoss", "SquaredError"]


class Loss(Protocol):
    """What training needs of a loss; outputs ``f`` and targets ``y`` have shape (n, k)."""

    def value(self, f: Tensor, y: Tensor) -> Tensor:
        """Loss of each sample, shape (n,)."""
        ...

    def gradient(self, f: Tensor, y: Tensor) -> Tensor:
        """Derivative with respect to the outputs, shape (n, k)."""
        ...

    def curvature_root(self, f: Tensor, y: Tensor) -> Tensor:
        """Root R of the curvature, shape (n, k, c)."""
        ...

    def inverse_link(self, f: Tensor) -> Tensor:
        """Outputs mapped to the scale of the target: means or probabilities, shape (n, k)."""
        ...


class SquaredError:
    """Half squared error, ``1/2 sum_k r_k (f_k - y_k)^2``; R = diag(sqrt r).

    Parameters
    ----------
    relative_precision : Tensor of shape (k,), optional
        r, the noise precision of each output relative to the others; all 1 by default.
    """

    def __init__(self, relative_precision: Tensor | None = None) -> None:
        self._precision = relative_precision

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


class LogLoss:
    """Log loss on k independent logits, y in {0, 1}: binary for k = 1, multilabel beyond; R = diag(sqrt(p (1 - p)))."""

    def value(self, f: Tensor, y: Tensor) -> Tensor:
        return (torch.logaddexp(f, torch.zeros_like(f)) - y * f).sum(1)

    def gradient(self, f: Tensor, y: Tensor) -> Tensor:
        return torch.sigmoid(f) - y

    def curvature_root(self, f: Tensor, y: Tensor) -> Tensor:
        # sigmoid(-f) rather than 1 - sigmoid(f): the latter cancels to 0 for a confident positive.
        return torch.diag_embed((torch.sigmoid(f) * torch.sigmoid(-f)).sqrt())

    def inverse_link(self, f: Tensor) -> Tensor:
        return torch.sigmoid(f)


class SoftmaxLoss:
    """Multinomial log loss on k logits, y one-hot; R = diag(sqrt p) - p sqrt(p)'."""

    def value(self, f: Tensor, y: Tensor) -> Tensor:
        return torch.logsumexp(f, 1) - (y * f).sum(1)

    def gradient(self, f: Tensor, y: Tensor) -> Tensor:
        return torch.softmax(f, 1) - y

    def curvature_root(self, f: Tensor, y: Tensor) -> Tensor:
        p = torch.softmax(f, 1)
        root = p.sqrt()
        return torch.diag_embed(root) - p[:, :, None] * root[:, None, :]

    def inverse_link(self, f: Tensor) -> Tensor:
        return torch.softmax(f, 1)
