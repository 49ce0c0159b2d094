"""A direction without factorisation: conjugate gradients on the damped Gauss-Newton system.

    (G + diag(a) + damping I) step = -gradient,        G = J'J / S

The method needs only products with J and J', and some vectors of the size of the weights. It serves where neither P^2
nor (n c)^2 numbers fit in memory, or where a factorisation takes longer. The preconditioner is the diagonal of the
system. The factored Jacobian computes it as sum_i D_i^2 (x) u_i^2 in one pass.

The iteration starts from 0, and each iterate minimises the quadratic model over a Krylov space. So, however early the
iteration ends,

    step' (G + diag(a) + damping I) step = -gradient' step        and   gradient' step < 0

as for the exact solution, and predicted decreases stay true. A start from an earlier step would lose that. (Rounding
spoils it over many products. At the end the step is scaled to its own minimum, which restores it.)

References
----------
R. S. Dembo, S. C. Eisenstat and T. Steihaug, Inexact Newton methods, SIAM J. Numer. Anal. 19 (1982).
J. Nocedal and S. J. Wright, Numerical Optimization, 2nd ed., Springer 2006, algorithm 7.1.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor

from .direction import Direction, RememberedDiagonal
from .jacobian import Jacobian
from .jacobian_cost import product_flops
from .linear_algebra import to_solver
from .memory import Extent

__all__ = ["ConjugateGradient", "forcing_term"]

#: Largest number of products with G for a step. A step cut short still lowers the model. Martens, Deep learning via
#: Hessian-free optimization, ICML 2010, has the same number.
_MOST_PRODUCTS = 250

#: Products with G that an iteration is expected to take, for the choice of a direction. Networks for classes take 12 to
#: 90, and 250 without a prior (docs/benchmarks.md): a factorisation must lose by a margin.
_EXPECTED_PRODUCTS = 50


def forcing_term(gradient_norm: float) -> float:
    """Residual at which to stop, relative to the gradient: min(1/2, sqrt(||gradient||)).

    This makes the convergence of exact Gauss-Newton steps superlinear, without solving early systems in vain (Dembo,
    Eisenstat and Steihaug; algorithm 7.1 of Nocedal and Wright). The norm is that of the inverse preconditioner. It is
    the root of twice the decrease that a diagonal Newton step promises. So it is in units of the loss, whatever the
    units of weights and inputs are.
    """
    return min(0.5, math.sqrt(gradient_norm))


class ConjugateGradient(Direction):
    """Preconditioned conjugate gradients, ended early. Without a factorisation there are no traces and no posterior.

    Parameters
    ----------
    jacobian : Jacobian
    total_weight : float
        S.
    forcing : callable, default=forcing_term
        Function of the norm of the gradient that returns the relative residual to stop at.
    most_products : int, default=250
        Largest number of products with G for one step.
    """

    name: ClassVar[str] = "cg"
    exact: ClassVar[bool] = False
    lacks: ClassVar[str] = (
        "a factorisation, for the posterior of the weights, and solver='cg' has none: refit with "
        "solver='primal' or 'dual' (solver='auto' took 'cg' if neither fits in memory)"
    )
    lacks_in_batches: ClassVar[str] = lacks

    def __init__(
        self,
        jacobian: Jacobian,
        total_weight: float,
        forcing: Callable[[float], float] = forcing_term,
        most_products: int = _MOST_PRODUCTS,
    ) -> None:
        self._J, self._S, self._forcing, self._most = jacobian, total_weight, forcing, most_products
        self._diagonal = to_solver(jacobian.diagonal()) / total_weight

    @classmethod
    def system_size(cls, extent: Extent) -> int:
        return 0

    @classmethod
    def flops(cls, extent: Extent) -> float:
        return _EXPECTED_PRODUCTS * product_flops(extent.network, extent.n)

    @classmethod
    def remembered(cls) -> RememberedDiagonal:
        return RememberedDiagonal(cls, cls)

    def solve(self, gradient: Tensor, precision: list[Tensor], damping: float) -> Tensor:
        shift = self._J.network.expand(precision) + damping
        # A singular system has many solutions; the plain iteration finds the shortest.
        scale = self._diagonal + shift if float(shift.min()) > 0 else torch.ones_like(shift)
        tolerance = self._forcing(math.sqrt(float(gradient @ (gradient / scale))))
        return -_solve(lambda p: self._product(p) + shift * p, gradient, scale, tolerance, self._most)

    def trace(self) -> float:
        return float(self._diagonal.sum())

    def _product(self, v: Tensor) -> Tensor:
        """Compute G v."""
        return to_solver(self._J.normal_product(v.to(self._J.w))) / self._S


def _solve(
    product: Callable[[Tensor], Tensor], b: Tensor, scale: Tensor, tolerance: float, most_products: int
) -> Tensor:
    """Solve A x = b, from 0, preconditioned by diag(scale).

    The iteration ends at a residual of ``tolerance`` relative to b, in the norm of diag(1 / scale). It also ends after
    ``most_products``, or when rounding leaves no positive curvature. The result is nan if a product is not finite.
    """
    x, r = torch.zeros_like(b), b.clone()
    z = r / scale
    p, square = z.clone(), float(r @ z)
    end = tolerance**2 * square
    for _ in range(most_products):
        if square <= end:
            break
        Ap = product(p)
        curvature = float(p @ Ap)
        if not math.isfinite(curvature):
            return torch.full_like(b, torch.nan)
        if curvature <= 0:
            break
        x.add_(p, alpha=square / curvature)
        r.sub_(Ap, alpha=square / curvature)
        z = r / scale
        before, square = square, float(r @ z)
        p.mul_(square / before).add_(z)
    # The minimum along x, which b - r = A x tells: in exact arithmetic x itself, but long iterations lose that.
    height = float(b @ x)
    curvature = height - float(r @ x)
    return x.mul_(height / curvature) if curvature > 0 else x
