"""The direction of the samples' system: Woodbury's identity, with a Cholesky factorisation of n c x n c.

With M = diag(a) + damping I and the kernel K = J M^-1 J':

    step = -M^-1 (g - J' (S I + K)^-1 J M^-1 g)
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from .backend import chunks
from .conjugate_gradient import ConjugateGradient
from .direction import Direction, RememberedDiagonal, unit_precision
from .jacobian import KERNEL_ROWS, Factors, Jacobian
from .linear_algebra import cholesky_solve, minimum_norm, rounding_unit, shifted_cholesky, to_solver
from .memory import Extent, chunk_memory
from .unfamiliar import outside
from .wording import counted

__all__ = ["Dual", "warn_of_rounding", "woodbury_blocks"]

#: Measured cost of an iteration with evidence, rejected steps included, in multiply-adds of a matrix product.
#: Factorisations and inverse take the first number per (n c)^3, kernels and traces the second per entry and feature.
_CUBIC, _ENTRIES = 1.6, 5.0

#: Relative rounding error up to which numbers have digits, and up to which a step has enough of them.
_LEAST_DIGITS, _ENOUGH_DIGITS = 0.01, 1e-9


class Dual(Direction):
    """Cholesky factorisation of the n c x n c system, without any array of P x P or n c x P."""

    name: ClassVar[str] = "dual"
    lacks: ClassVar[str] = ""
    lacks_in_batches: ClassVar[str] = (
        "the posterior of all rows, and batches solved in the dual never see their system: refit with "
        "solver='primal' or batch_size=None"
    )
    posterior_of_rows: ClassVar[bool] = True

    def __init__(self, jacobian: Jacobian, total_weight: float) -> None:
        self._J, self._S, self._eps = jacobian, total_weight, rounding_unit(jacobian.w)
        self._dtype = jacobian.system_dtype
        self._scale: list[Tensor] = []
        self._K = torch.empty(0)

    @classmethod
    def system_size(cls, extent: Extent) -> int:
        return extent.rows

    @classmethod
    def workspace(cls, extent: Extent) -> float:
        # The rows of all samples, joined, and a block of the products of rows.
        n, rows, item = extent.n, extent.rows, extent.dtype.itemsize
        joined = item * sum(rows * out + n * into for out, into in extent.network.shapes)
        tapes = 0 if extent.keeps_linearisation else extent.tapes
        return joined + tapes + chunk_memory(n, 3 * extent.c * rows * item, extent.device, KERNEL_ROWS) / 3

    @classmethod
    def flops(cls, extent: Extent) -> float:
        features = sum(out * extent.c + into for out, into in extent.network.shapes)
        return _ENTRIES * extent.rows * extent.n * features + _CUBIC * extent.rows**3

    @classmethod
    def remembered(cls) -> RememberedDiagonal:
        # All rows may leave no room for a factorisation.
        return RememberedDiagonal(cls, ConjugateGradient)

    def kernel(self, inverse_scale: list[Tensor]) -> Tensor:
        """Compute K = J M^-1 J'; a multiple of the last one is not computed again."""
        if self._scale:
            ratio = torch.cat(inverse_scale) / torch.cat(self._scale)
            if float(ratio.max() - ratio.min()) <= 1e-15 * float(ratio.max()):
                return self._K * ratio[0]
        self._scale, self._K = inverse_scale, torch.empty(0)  # two kernels at once would be one too many
        self._K = to_solver(self._J.kernel([m.to(self._J.w) for m in inverse_scale], self._dtype), self._dtype)
        return self._K

    def _factor(self, precision: list[Tensor]) -> Tensor | None:
        """Compute the lower Cholesky factor of S I + K for M = diag(precision); None unless all are positive."""
        if min(float(a.min()) for a in precision) <= 0:
            return None
        inverse_scale = [1 / a for a in precision]
        L = shifted_cholesky(self.kernel(inverse_scale), self._S)
        if L is None and self._dtype is not None:
            self._take_float64()
            L = shifted_cholesky(self.kernel(inverse_scale), self._S)
        return L

    def _take_float64(self) -> None:
        if self._dtype is not None:
            self._dtype, self._scale, self._K = None, [], torch.empty(0)

    def solve(self, gradient: Tensor, precision: list[Tensor], damping: float) -> Tensor:
        M = [a + damping for a in precision]
        if max(float(m.max()) for m in M) <= 0:
            # G^+ g = S J' (J J')^+ (J J')^+ J g
            self._take_float64()
            K = self.kernel([torch.ones_like(a) for a in precision])
            return -self._S * self._rmatvec(minimum_norm(K, self._matvec(gradient), self._eps, power=2))
        inverse = self._J.network.expand([1 / m for m in M])
        L = self._factor(M)
        if L is None:
            return torch.full_like(gradient, torch.nan)

        def apply(g: Tensor) -> tuple[Tensor, Tensor]:
            z = cholesky_solve(L, self._matvec(inverse * g))
            return inverse * (g - self._rmatvec(z)), z

        step, z = apply(gradient)
        outputs, size = self._matvec(step), (inverse * gradient).norm()
        # They are S z but for rounding errors. For small damping the two terms of a step nearly cancel, and a factor in
        # float32 has few digits. Then one step of iterative refinement restores the digits.
        exact = (outputs - self._S * z).norm() <= _ENOUGH_DIGITS * outputs.norm()
        if bool(exact & (self._eps * size <= _ENOUGH_DIGITS * step.norm())):
            return -step
        residual = gradient - step / inverse - self._rmatvec(outputs) / self._S
        return -(step + apply(residual)[0])

    def trace(self) -> float:
        return float(self._J.trace()) / self._S

    def spectrum_matrix(self, jacobian: Jacobian, total_weight: float) -> Tensor:
        rows, P = jacobian.shape
        if rows >= P:
            return super().spectrum_matrix(jacobian, total_weight)
        self._take_float64()
        return self.kernel(unit_precision(jacobian.network, jacobian.w)) / total_weight

    def inverse_traces(self, precision: list[Tensor]) -> tuple[list[Tensor], float]:
        L = self._factor(precision)
        if L is None:
            return super().inverse_traces(precision)
        traces = self._J.inverse_traces(torch.cholesky_inverse(L), [1 / a for a in precision])
        log_determinant = float(self._J.network.expand(precision).log().sum()) + 2 * float(L.diagonal().log().sum())
        return traces, log_determinant - len(L) * math.log(self._S)

    def output_blocks(self, precision: list[Tensor]) -> Callable[[Jacobian], Iterator[Tensor]] | None:
        L = self.posterior_factor(precision)
        if L is None:
            return None

        solve, training = partial(torch.linalg.solve_triangular, L, upper=False), self._J.factors()

        def blocks(outputs: Jacobian) -> Iterator[Tensor]:
            for rows in chunks(len(outputs.U), 8 * 3 * outputs.c * len(L), outputs.U.device):
                yield woodbury_blocks(solve, training, outputs.at(rows).factors(), precision)

        return blocks

    def posterior_factor(self, precision: list[Tensor]) -> Tensor | None:
        self._take_float64()
        return self._factor(precision)

    def freedom(self, precision: list[Tensor]) -> Tensor | None:
        """Blocks I - J_i (S (G + diag(a)))^-1 J_i' of the training samples, (n, c, c).

        They are those of S (S I + K)^-1, and keep their digits where samples determine their own outputs. None if
        rounding errors leave no digits.
        """
        L = self.posterior_factor(precision)
        if L is None:
            return None
        inverse, c = torch.cholesky_inverse(L), self._J.c
        # At least the condition of the system.
        condition = float(L.square().sum()) * float(inverse.trace())
        if not self._eps * condition <= _LEAST_DIGITS:
            return None
        blocks = inverse.view(-1, c, len(inverse) // c, c).diagonal(dim1=0, dim2=2)
        return self._S * blocks.permute(2, 0, 1)

    def _matvec(self, v: Tensor) -> Tensor:
        return to_solver(self._J.matvec(v.to(self._J.w)).flatten())

    def _rmatvec(self, r: Tensor) -> Tensor:
        return to_solver(self._J.rmatvec(r.to(self._J.w).view(-1, self._J.c)))


def woodbury_blocks(
    solve: Callable[[Tensor], Tensor], training: Factors, outputs: Factors, precision: Sequence[Tensor]
) -> Tensor:
    """Blocks J_i (G + diag(a))^-1 J_i' at other samples, (m, c, c).

    J (G + M)^-1 J' = J M^-1 J' - C' (S I + K)^-1 C for M = diag(a) and C = J_training M^-1 J'. ``solve`` computes
    L^-1 C with the dual's Cholesky factor L of S I + K.
    """
    inverse = [(1 / a).to(outputs.D[0]) for a in precision]
    half = solve(to_solver(training.cross_kernel(outputs, inverse))).T
    half = half.reshape(*outputs.D[0].shape[:2], half.shape[1])
    return to_solver(outputs.kernel_blocks(inverse)) - half @ half.mT


def warn_of_rounding(n_lost: int) -> None:
    """Warn of rows at which rounding errors are all that is left of the difference of :func:`woodbury_blocks`."""
    if n_lost:
        warnings.warn(
            f"The uncertainty of the weights at {counted(n_lost, 'row')} has lost its digits to rounding: with "
            "solver='dual' it is a difference from the variance of the prior, which is far larger. The fit takes "
            "this solver by itself where weights are many. Refit with solver='primal', and with standardize=True where "
            "X is not scaled.",
            UserWarning,
            stacklevel=outside(),
        )
