"""The damped system of a batch, with the curvature of the batches before.

    (G_b + kappa C + diag(a) + damping I) step = -gradient of batch b

`GramMemory` solves it with C, the running mean of the Gram matrices of the batches before. `DiagonalMemory` has the
diagonal of C by (layer, input) in its place, for systems that are solved in the dual or by conjugate gradients.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .conjugate_gradient import ConjugateGradient
from .directions import Direction, Dual, Primal
from .jacobian import Jacobian

__all__ = ["DiagonalMemory", "GramMemory", "make_memory"]


class GramMemory:
    """The batch's primal system, and the mean Gram matrix of the batches before."""

    name = "primal"

    def __init__(self) -> None:
        self.mean: Tensor | None = None

    def linearise(self, jacobian: Jacobian, total_weight: float) -> None:
        self._jacobian, self._S, self._batch = jacobian, total_weight, Primal(jacobian, total_weight)
        if self.mean is None:
            self.mean = self._batch.G.clone()

    def solve(self, gradient: Tensor, precision: list[Tensor], kappa: float, damping: float) -> Tensor:
        assert self.mean is not None
        both = torch.add(self._batch.G, self.mean, alpha=kappa)
        return Primal(self._jacobian, self._S, both).solve(gradient, precision, damping)

    def trace(self) -> float:
        return self._batch.trace()

    def curvature(self, step: Tensor) -> float:
        """Curvature step' G_b step of the batch along a step."""
        return float(step @ (self._batch.G @ step))

    def remember(self, part: float) -> None:
        """Add the batch to the mean with the given weight."""
        assert self.mean is not None
        self.mean.lerp_(self._batch.G, part)

    def direction(self, jacobian: Jacobian, total_weight: float) -> Direction:
        """Make the direction of the mean Gram matrix, which stands for the Gram matrix of all rows."""
        assert self.mean is not None
        return Primal(jacobian, total_weight, self.mean.clone())


class DiagonalMemory:
    """The batch's system without a P x P matrix, and the mean diagonal of the batches before, by (layer, input)."""

    def __init__(self, solver: type[Dual] | type[ConjugateGradient]) -> None:
        self.mean: Tensor | None = None
        self.name, self._solver = solver.name, solver

    def linearise(self, jacobian: Jacobian, total_weight: float) -> None:
        self._jacobian, self._S, self._batch = jacobian, total_weight, self._solver(jacobian, total_weight)
        diagonal = jacobian.network.split(jacobian.diagonal().to(torch.float64) / total_weight)
        self._diagonal = torch.cat([layer.mean(0) for layer in diagonal])
        if self.mean is None:
            self.mean = self._diagonal.clone()

    def solve(self, gradient: Tensor, precision: list[Tensor], kappa: float, damping: float) -> Tensor:
        assert self.mean is not None
        remembered = torch.split(self.mean.to(gradient), [into for _, into in self._jacobian.network.shapes])
        system = [a + kappa * c for a, c in zip(precision, remembered, strict=True)]
        return self._batch.solve(gradient, system, damping)

    def trace(self) -> float:
        return self._batch.trace()

    def curvature(self, step: Tensor) -> float:
        """Curvature step' G_b step of the batch along a step."""
        return float(self._jacobian.matvec(step.to(self._jacobian.w)).square().sum()) / self._S

    def remember(self, part: float) -> None:
        """Add the batch to the mean with the given weight."""
        assert self.mean is not None
        self.mean.lerp_(self._diagonal, part)

    def direction(self, jacobian: Jacobian, total_weight: float) -> Direction:
        """Make a direction without a factorisation; all rows may leave no room for one."""
        return ConjugateGradient(jacobian, total_weight)


def make_memory(solver: str) -> GramMemory | DiagonalMemory:
    """Make the memory for systems that are solved in the "primal", in the "dual" or by "cg"."""
    if solver == "primal":
        return GramMemory()
    return DiagonalMemory(Dual if solver == "dual" else ConjugateGradient)
