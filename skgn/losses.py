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
    """Half squared error, ``1/2 ||f - y||^2``; R = I."""

    def value(self, f: Tensor, y: Tensor) -> Tensor:
        return 0.5 * (f - y).square().sum(1)

    def gradient(self, f: Tensor, y: Tensor) -> Tensor:
        return f - y

    def curvature_root(self, f: Tensor, y: Tensor) -> Tensor:
        n, k = f.shape
        return torch.eye(k, dtype=f.dtype, device=f.device).expand(n, k, k)

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
