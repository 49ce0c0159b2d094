"""Dense systems of the directions in float64: Cholesky factors, and solutions where the matrix may be singular."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .backend import linear_algebra_device

__all__ = [
    "cholesky_solve",
    "cutoff",
    "minimum_norm",
    "rounding_unit",
    "shifted_cholesky",
    "to_solver",
]


def to_solver(values: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """Move values to where systems are solved, in float64 unless another precision is given."""
    return values.to(device=linear_algebra_device(values.device)).to(dtype or torch.float64)


def shifted_cholesky(A: Tensor, shift: Tensor | float) -> Tensor | None:
    """Lower Cholesky factor of A + diag(shift); None if not definite.

    A's own diagonal changes for the moment, so that A is not copied.
    """
    diagonal = A.diagonal().clone()
    A.diagonal().add_(shift.to(A) if isinstance(shift, Tensor) else shift)
    L, info = torch.linalg.cholesky_ex(A)
    A.diagonal().copy_(diagonal)
    return L if int(info) == 0 and math.isfinite(float(L.trace())) else None


def cholesky_solve(L: Tensor, b: Tensor) -> Tensor:
    """Compute (L L')^-1 b, in the precision of L; the result has that of b.

    Unlike ``torch.cholesky_solve``, it does not copy L; the copy takes longer than the solution.
    """
    half = torch.linalg.solve_triangular(L, b[:, None].to(L), upper=False)
    return torch.linalg.solve_triangular(L.mT, half, upper=True)[:, 0].to(b)


def rounding_unit(summands: Tensor) -> float:
    """Return the relative error of a system's entries, which their dtype sets even if float64 solves the system."""
    return float(torch.finfo(summands.dtype).eps)


def cutoff(diagonal: Tensor, eps: float) -> float:
    """Size up to which eigenvalues of a matrix with this diagonal are rounding errors.

    ``eps`` is the relative error of the matrix's entries.
    """
    return len(diagonal) * eps * float(diagonal.abs().max())


def minimum_norm(A: Tensor, b: Tensor, eps: float, power: int) -> Tensor:
    """Shortest solution of A^power x = b for symmetric A; eigenvalues at rounding level count as 0."""
    if not bool(torch.isfinite(A).all()):
        return torch.full_like(b, torch.nan)
    values, V = torch.linalg.eigh(A)
    keep = values > cutoff(values, eps)
    inverse = torch.where(keep, values, torch.inf).reciprocal() ** power
    return V @ (inverse * (V.T @ b))
