"""The direction of the weights' own system: a Cholesky factorisation of G + diag(a) + damping I, P x P.

A system in float32 that is not definite is computed again in float64. Left-out predictions have the precision of the
system, and the posterior is factorised in float64 always.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from .direction import Direction, Remembered
from .jacobian import Jacobian
from .jacobian_cost import gram_flops, gram_workspace
from .linear_algebra import (
    cholesky_solve,
    cutoff,
    minimum_norm,
    rounding_unit,
    shifted_cholesky,
    to_solver,
)
from .memory import Extent

__all__ = ["Primal", "RememberedGram"]

#: Cost of an iteration with evidence, rejected steps included, in multiply-adds of a matrix product per P^3 (measured):
#: factorisations and inverse.
_CUBIC = 1.3

#: Steps in which an inverse factor is made, and the least columns of one: few skip its zeros, many make large products.
_INVERSE_STEPS, _INVERSE_COLUMNS = 12, 96


class Primal(Direction):
    """Cholesky factorisation of the P x P system."""

    name: ClassVar[str] = "primal"
    lacks: ClassVar[str] = ""
    lacks_in_batches: ClassVar[str] = ""

    def __init__(self, jacobian: Jacobian, total_weight: float, gram: Tensor | None = None) -> None:
        """Compute G; another matrix may replace it."""
        self._J, self._S = jacobian, total_weight
        self.G = self._gram(jacobian.system_dtype) if gram is None else gram
        self._eps = rounding_unit(jacobian.w)
        # The precisions under which G was inverted last, and what the inverse tells.
        self._inverted: tuple[list[Tensor], tuple[list[Tensor], float]] | None = None

    @classmethod
    def system_size(cls, extent: Extent) -> int:
        return extent.network.n_weights

    @classmethod
    def workspace(cls, extent: Extent) -> float:
        return gram_workspace(extent.network, extent.n, extent.c, extent.dtype.itemsize)

    @classmethod
    def flops(cls, extent: Extent) -> float:
        return gram_flops(extent.network, extent.n, extent.c) + _CUBIC * cls.system_size(extent) ** 3

    @classmethod
    def remembered(cls) -> RememberedGram:
        return RememberedGram(cls)

    def solve(self, gradient: Tensor, precision: list[Tensor], damping: float) -> Tensor:
        shift = self._J.network.expand(precision) + damping
        L = self._factor(shift)
        if L is None or (float(shift.min()) <= 0 and self._is_singular(L, shift)):
            return -minimum_norm(self.G.double() + torch.diag(shift), gradient, self._eps, power=1)
        return -cholesky_solve(L, gradient)

    def _gram(self, dtype: torch.dtype | None) -> Tensor:
        return to_solver(self._J.gram(dtype), dtype).div_(self._S)

    def _factor(self, shift: Tensor) -> Tensor | None:
        """Compute the lower Cholesky factor of G + diag(shift); None if it is not definite in float64."""
        L = shifted_cholesky(self.G, shift)
        if L is None and self.G.dtype != torch.float64:
            self._take_float64()
            L = shifted_cholesky(self.G, shift)
        return L

    def _take_float64(self) -> None:
        if self.G.dtype != torch.float64:
            self.G = self._gram(None)

    def _is_singular(self, L: Tensor, shift: Tensor) -> bool:
        return float(L.diagonal().square().min()) <= cutoff(self.G.diagonal() + shift, self._eps)

    def trace(self) -> float:
        return float(self.G.trace())

    def spectrum_matrix(self, jacobian: Jacobian, total_weight: float) -> Tensor:
        return self.G.double()

    def inverse_traces(self, precision: list[Tensor]) -> tuple[list[Tensor], float]:
        if self._inverted is not None and self._inverted[0] is precision:
            return self._inverted[1]
        L = self._factor(self._J.network.expand(precision))
        return super().inverse_traces(precision) if L is None else self._traces(L, _inverse_diagonal(L))

    def _traces(self, L: Tensor, diagonal: Tensor) -> tuple[list[Tensor], float]:
        """Traces and logarithm of the determinant, from a factor and the diagonal of the inverse."""
        traces = [part.sum(0) for part in self._J.network.split(diagonal.double())]
        return traces, 2 * float(L.diagonal().log().sum())

    def output_blocks(self, precision: list[Tensor]) -> Callable[[Jacobian], Iterator[Tensor]] | None:
        """The function can be sent to another process."""
        L = self._factor(self._J.network.expand(precision))
        if L is None:
            return None
        inverse = torch.cholesky_inverse(L)
        self._inverted = precision, self._traces(L, inverse.diagonal())
        return partial(_inverse_blocks, inverse)

    def posterior_factor(self, precision: list[Tensor]) -> Tensor | None:
        self._take_float64()
        return shifted_cholesky(self.G, self._J.network.expand(precision))


class RememberedGram(Remembered[Primal]):
    """The batch's primal system, and the mean Gram matrix of the batches before, which stands for that of all rows."""

    stands_in = True

    def _curvature_of_batch(self) -> Tensor:
        return self._batch.G

    def solve(self, gradient: Tensor, precision: list[Tensor], kappa: float, damping: float) -> Tensor:
        assert self.mean is not None
        both = torch.add(self._batch.G, self.mean, alpha=kappa)
        return self._solver(self._jacobian, self._S, both).solve(gradient, precision, damping)

    def curvature(self, step: Tensor) -> float:
        return float(step @ (self._batch.G @ step))

    def direction(self, jacobian: Jacobian, total_weight: float) -> Direction:
        assert self.mean is not None
        return self._solver(jacobian, total_weight, self.mean.clone())


def _inverse_diagonal(L: Tensor) -> Tensor:
    """Diagonal of (L L')^-1 from the squared columns of L^-1, at half the cost of the inverse itself."""
    P = len(L)
    diagonal, width = L.new_empty(P), max(_INVERSE_COLUMNS, P // _INVERSE_STEPS)
    for a in range(0, P, width):
        unit = torch.eye(P - a, min(width, P - a), dtype=L.dtype, device=L.device)
        columns = torch.linalg.solve_triangular(L[a:, a:], unit, upper=False)
        diagonal[a : a + width] = columns.square().sum(0)
    return diagonal


def _inverse_blocks(inverse: Tensor, outputs: Jacobian) -> Iterator[Tensor]:
    """Blocks J_i (G + diag(a))^-1 J_i' from the inverse itself, in the lower of the two precisions."""
    dtype = min(inverse.dtype, outputs.w.dtype, key=lambda each: each.itemsize)
    return map(to_solver, outputs.diagonal_blocks(inverse.to(outputs.w.device, dtype)))
