"""Directions: the solution of the damped Gauss-Newton system.

    (G + diag(a) + damping I) step = -gradient,        G = J'J / S

by one Cholesky factorisation in one of two spaces, or by :mod:`conjugate gradients <skgn.conjugate_gradient>` where
neither fits in memory. `Primal` factorises the P x P system itself. `Dual` applies Woodbury's identity with
M = diag(a) + damping I and the n c x n c kernel K = J M^-1 J':

    step = -M^-1 (g - J' (S I + K)^-1 J M^-1 g)

Without prior and damping, a rank-deficient system has many solutions; every solver then takes the shortest one. Here
``a`` is given per (layer, input), one vector for each layer. J contains the roots of curvature and sample weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from .backend import available_memory, chunks, gigabytes, linear_algebra_device
from .conjugate_gradient import ConjugateGradient
from .jacobian import Factors, Jacobian, gram_flops
from .memory import system_memory, too_large, training_memory
from .network import Network

__all__ = ["Direction", "Dual", "Primal", "choose", "smallest_eigenvalue", "spectrum", "woodbury_blocks"]

#: Cost of an iteration with evidence, rejected steps included, in multiply-adds of a matrix product (measured):
#: factorisations and inverse of a system per size^3, and in the dual the kernels and traces per entry and feature.
_PRIMAL_CUBIC, _DUAL_CUBIC, _DUAL_ENTRIES = 1.3, 1.6, 5.0

#: Number of columns of an inverse factor in a step: few skip its zeros, many make large products.
_INVERSE_COLUMNS = 96


class Direction(Protocol):
    """A solver for one linearisation, which serves for every damping tried there; ``name`` is its parameter value."""

    name: str

    def solve(self, gradient: Tensor, precision: list[Tensor], damping: float) -> Tensor:
        """Return the step (P,); its entries are not finite if the factorisation failed."""
        ...

    def trace(self) -> float:
        """Trace of G."""
        ...

    def riemannian_norm(self, gradient: Tensor) -> float:
        """Norm of the output-space gradient, projected onto the range of the Jacobian: sqrt(g' G^+ g)."""
        ...

    def inverse_traces(self, precision: list[Tensor]) -> tuple[list[Tensor], float]:
        """Traces of (G + diag(a))^-1 per (layer, input), and log|G + diag(a)|; nan if it is not definite."""
        ...

    def output_blocks(self, precision: list[Tensor]) -> Callable[[Jacobian], Tensor] | None:
        """Function that returns the blocks J_i (G + diag(a))^-1 J_i' of a Jacobian of outputs, (n, c, c).

        None if the system is not definite. The function of :class:`Primal` can be sent to another process.
        """
        ...

    def posterior_factor(self, precision: list[Tensor]) -> Tensor | None:
        """Lower Cholesky factor of G + diag(a), or of S I + J diag(a)^-1 J' in the dual; None if not definite."""
        ...


class Primal:
    """Cholesky factorisation of the P x P system."""

    name = "primal"

    def __init__(self, jacobian: Jacobian, total_weight: float, gram: Tensor | None = None) -> None:
        """Store the Jacobian; another matrix may replace its G."""
        self.G = _to_solver(jacobian.gram()).div_(total_weight) if gram is None else gram
        self._network, self._eps = jacobian.network, _rounding_unit(jacobian)

    def solve(self, gradient: Tensor, precision: list[Tensor], damping: float) -> Tensor:
        shift = self._network.expand(precision) + damping
        L = _shifted_cholesky(self.G, shift)
        if L is None or (float(shift.min()) <= 0 and self._is_singular(L, shift)):
            return -_minimum_norm(self.G + torch.diag(shift), gradient, self._eps, power=1)
        return -_cholesky_solve(L, gradient)

    def _is_singular(self, L: Tensor, shift: Tensor) -> bool:
        return float(L.diagonal().square().min()) <= _cutoff(self.G.diagonal() + shift, self._eps)

    def trace(self) -> float:
        return float(self.G.trace())

    def riemannian_norm(self, gradient: Tensor) -> float:
        return math.sqrt(max(0.0, float(gradient @ _solve_in_range(self.G, gradient, self._eps))))

    def inverse_traces(self, precision: list[Tensor]) -> tuple[list[Tensor], float]:
        L = self.posterior_factor(precision)
        if L is None:
            return [torch.full_like(a, torch.nan) for a in precision], math.nan
        traces = [part.sum(0) for part in self._network.split(_inverse_diagonal(L))]
        return traces, 2 * float(L.diagonal().log().sum())

    def output_blocks(self, precision: list[Tensor]) -> Callable[[Jacobian], Tensor] | None:
        L = self.posterior_factor(precision)
        return None if L is None else partial(_inverse_blocks, torch.cholesky_inverse(L))

    def posterior_factor(self, precision: list[Tensor]) -> Tensor | None:
        return _shifted_cholesky(self.G, self._network.expand(precision))


class Dual:
    """Cholesky factorisation of the n c x n c system, without any array of P x P or n c x P."""

    name = "dual"

    def __init__(self, jacobian: Jacobian, total_weight: float) -> None:
        self._J, self._S, self._eps = jacobian, total_weight, _rounding_unit(jacobian)
        self._scale: list[Tensor] = []
        self._K = torch.empty(0)

    def kernel(self, inverse_scale: list[Tensor]) -> Tensor:
        """Compute K = J M^-1 J' in float64; a multiple of the last one is not computed again."""
        if self._scale:
            ratio = torch.cat(inverse_scale) / torch.cat(self._scale)
            if float(ratio.max() - ratio.min()) <= 1e-15 * float(ratio.max()):
                return self._K * ratio[0]
        self._scale, self._K = inverse_scale, torch.empty(0)  # two kernels at once would be one too many
        self._K = _to_solver(self._J.kernel([m.to(self._J.w) for m in inverse_scale]))
        return self._K

    def solve(self, gradient: Tensor, precision: list[Tensor], damping: float) -> Tensor:
        M = [a + damping for a in precision]
        if max(float(m.max()) for m in M) <= 0:
            # G^+ g = S J' (J J')^+ (J J')^+ J g
            K = self.kernel([torch.ones_like(a) for a in precision])
            return -self._S * self._rmatvec(_minimum_norm(K, self._matvec(gradient), self._eps, power=2))
        inverse = self._J.network.expand([1 / m for m in M])
        L = _shifted_cholesky(self.kernel([1 / m for m in M]), self._S)
        if L is None:
            return torch.full_like(gradient, torch.nan)

        def apply(g: Tensor) -> Tensor:
            t = inverse * g
            return t - inverse * self._rmatvec(_cholesky_solve(L, self._matvec(t)))

        step = apply(gradient)
        # For small damping the two terms nearly cancel; one step of iterative refinement restores the digits.
        residual = gradient - step / inverse - self._rmatvec(self._matvec(step)) / self._S
        return -(step + apply(residual))

    def trace(self) -> float:
        return float(self._J.trace()) / self._S

    def riemannian_norm(self, gradient: Tensor) -> float:
        if not self._scale:
            self.kernel(_ones(self._J, gradient))
        # For the residual r in root space S g = J'r; then K^+ J M^-1 J' r is the projection of r.
        v = self._matvec(self._J.network.expand(self._scale) * gradient) * self._S
        return float(_solve_in_range(self._K, v, self._eps).norm()) / math.sqrt(self._S)

    def inverse_traces(self, precision: list[Tensor]) -> tuple[list[Tensor], float]:
        L = self.posterior_factor(precision)
        if L is None:
            return [torch.full_like(a, torch.nan) for a in precision], math.nan
        traces = self._J.inverse_traces(torch.cholesky_inverse(L), [1 / a for a in precision])
        log_determinant = float(self._J.network.expand(precision).log().sum()) + 2 * float(L.diagonal().log().sum())
        return traces, log_determinant - len(L) * math.log(self._S)

    def output_blocks(self, precision: list[Tensor]) -> Callable[[Jacobian], Tensor] | None:
        L = self.posterior_factor(precision)
        if L is None:
            return None

        solve, training = partial(torch.linalg.solve_triangular, L, upper=False), self._J.factors()

        def blocks(outputs: Jacobian) -> Tensor:
            parts = chunks(len(outputs.U), 8 * 3 * outputs.c * len(L), outputs.U.device)
            return torch.cat(
                [woodbury_blocks(solve, training, outputs.at(rows).factors(), precision) for rows in parts]
            )

        return blocks

    def posterior_factor(self, precision: list[Tensor]) -> Tensor | None:
        if min(float(a.min()) for a in precision) <= 0:
            return None
        return _shifted_cholesky(self.kernel([1 / a for a in precision]), self._S)

    def _matvec(self, v: Tensor) -> Tensor:
        return _to_solver(self._J.matvec(v.to(self._J.w)).flatten())

    def _rmatvec(self, r: Tensor) -> Tensor:
        return _to_solver(self._J.rmatvec(r.to(self._J.w).view(-1, self._J.c)))


def _inverse_blocks(inverse: Tensor, outputs: Jacobian) -> Tensor:
    """Blocks J_i (G + diag(a))^-1 J_i' from the inverse itself."""
    return _to_solver(outputs.diagonal_blocks(inverse.to(outputs.w)))


def woodbury_blocks(
    solve: Callable[[Tensor], Tensor], training: Factors, outputs: Factors, precision: Sequence[Tensor]
) -> Tensor:
    """Blocks J_i (G + diag(a))^-1 J_i' at other samples, (m, c, c).

    J (G + M)^-1 J' = J M^-1 J' - C' (S I + K)^-1 C for M = diag(a) and C = J_training M^-1 J'. ``solve`` computes
    L^-1 C with the dual's Cholesky factor L of S I + K.
    """
    inverse = [(1 / a).to(outputs.D[0]) for a in precision]
    half = solve(_to_solver(training.cross_kernel(outputs, inverse))).T
    half = half.reshape(*outputs.D[0].shape[:2], half.shape[1])
    return _to_solver(outputs.kernel_blocks(inverse)) - half @ half.mT


_CLASSES: dict[str, Callable[[Jacobian, float], Direction]] = {
    "primal": Primal,
    "dual": Dual,
    "cg": ConjugateGradient,
}


def choose(
    solver: str,
    network: Network,
    n: int,
    c: int,
    device: torch.device,
    *,
    dtype: torch.dtype = torch.float64,
    evidence: bool = False,
    candidates: int = 1,
    workers: int = 1,
) -> Callable[[Jacobian, float], Direction]:
    """Choose the direction: the cheaper factorisation that fits in memory, or else conjugate gradients.

    Parameters
    ----------
    solver : {"auto", "primal", "dual", "cg"}
    network : Network
    n, c : int
        Number of samples, and of curvature columns per sample.
    device : torch.device
        Device of the Jacobian.
    dtype : torch.dtype, default=torch.float64
        Dtype of the Jacobian.
    evidence : bool, default=False
        Whether traces and determinants are needed, which only a factorisation gives.
    candidates, workers : int, default=1
        Number of networks in training, and how many train at a time.

    Raises
    ------
    ValueError
        If the chosen solver exceeds the available memory (with "auto": if every solver does). Also if conjugate
        gradients are to give the evidence.
    """
    if evidence and solver == "cg":
        raise ValueError(
            "l2_regularization='evidence' needs a factorisation; solver='cg' takes a float such as "
            "l2_regularization=1e-3."
        )
    P, rows = network.n_weights, n * c
    features = sum(out * c + into for out, into in network.shapes)
    flops = {
        "primal": gram_flops(network, n, c) + _PRIMAL_CUBIC * P**3,
        "dual": _DUAL_ENTRIES * rows * n * features + _DUAL_CUBIC * rows**3,
        "cg": math.inf,
    }
    memory = partial(training_memory, n=n, c=c, dtype=dtype, device=device, candidates=candidates, workers=workers)
    need = {name: memory(name, network) for name in _CLASSES}
    available = available_memory(linear_algebra_device(device))
    wanted = ["primal", "dual", *(["cg"] if not evidence else [])] if solver == "auto" else [solver]
    fitting = [name for name in wanted if need[name] <= available]
    if not fitting:
        raise ValueError(too_large(min(wanted, key=need.__getitem__), need, available, evidence, network, memory))
    return _CLASSES[min(fitting, key=flops.__getitem__)]


def spectrum(jacobian: Jacobian, direction: Direction, total_weight: float) -> tuple[float, float]:
    """Compute the extreme eigenvalues of the smaller of G (P x P) and the kernel J J' / S (n c x n c).

    A softmax has fewer columns than outputs, because it does not see a constant added to all outputs. G is then 0 in as
    many directions as the readout has inputs. These eigenvalues are left out.

    Raises
    ------
    ValueError
        If this matrix exceeds the available memory, as it may with conjugate gradients.
    """
    rows, P = jacobian.shape
    if isinstance(direction, Primal):
        matrix = direction.G
    elif isinstance(direction, Dual) and rows < P:
        matrix = direction.kernel(_ones(jacobian, jacobian.w)) / total_weight
    else:
        need, available = system_memory(min(rows, P)), available_memory(linear_algebra_device(jacobian.w.device))
        if isinstance(direction, ConjugateGradient) and need > available:
            raise ValueError(
                f"Eigenvalues, for record_spectrum=True or by a damping rule, need {gigabytes(need)}, but "
                f"{gigabytes(available)} are available; solver='cg' does without both."
            )
        matrix = jacobian.kernel(_ones(jacobian, jacobian.w)) if rows < P else jacobian.gram()
        matrix = _to_solver(matrix) / total_weight
    network = jacobian.network
    unseen = (network.n_outputs - jacobian.c) * network.shapes[-1][1]
    # Both have the same nonzero eigenvalues; the larger matrix also has zeros.
    eigenvalues = torch.linalg.eigvalsh(matrix)[-min(rows, P - unseen) :]
    return float(eigenvalues[0]), float(eigenvalues[-1])


def smallest_eigenvalue(jacobian: Jacobian, direction: Direction, total_weight: float) -> float:
    """Compute the smaller value of :func:`spectrum`."""
    return spectrum(jacobian, direction, total_weight)[0]


def _ones(jacobian: Jacobian, like: Tensor) -> list[Tensor]:
    return [like.new_ones(into) for _, into in jacobian.network.shapes]


def _to_solver(values: Tensor) -> Tensor:
    return values.to(device=linear_algebra_device(values.device)).to(torch.float64)


def _shifted_cholesky(A: Tensor, shift: Tensor | float) -> Tensor | None:
    """Lower Cholesky factor of A + diag(shift); None if not definite.

    A's own diagonal changes for the moment, so that A is not copied.
    """
    diagonal = A.diagonal().clone()
    A.diagonal().add_(shift)
    L, info = torch.linalg.cholesky_ex(A)
    A.diagonal().copy_(diagonal)
    return L if int(info) == 0 and math.isfinite(float(L.trace())) else None


def _cholesky_solve(L: Tensor, b: Tensor) -> Tensor:
    """Compute (L L')^-1 b.

    Unlike ``torch.cholesky_solve``, it does not copy L; the copy takes longer than the solution.
    """
    half = torch.linalg.solve_triangular(L, b[:, None], upper=False)
    return torch.linalg.solve_triangular(L.mT, half, upper=True)[:, 0]


def _inverse_diagonal(L: Tensor) -> Tensor:
    """Diagonal of (L L')^-1 from the squared columns of L^-1, at half the cost of the inverse itself."""
    P = len(L)
    diagonal = L.new_empty(P)
    for a in range(0, P, _INVERSE_COLUMNS):
        unit = torch.eye(P - a, min(_INVERSE_COLUMNS, P - a), dtype=L.dtype, device=L.device)
        columns = torch.linalg.solve_triangular(L[a:, a:], unit, upper=False)
        diagonal[a : a + _INVERSE_COLUMNS] = columns.square().sum(0)
    return diagonal


def _rounding_unit(jacobian: Jacobian) -> float:
    """Relative error of a system's entries: it was summed in the Jacobian's dtype, even if solved in float64."""
    return float(torch.finfo(jacobian.w.dtype).eps)


def _cutoff(diagonal: Tensor, eps: float) -> float:
    """Size up to which eigenvalues of a matrix with this diagonal are rounding errors."""
    return len(diagonal) * eps * float(diagonal.abs().max())


def _minimum_norm(A: Tensor, b: Tensor, eps: float, power: int) -> Tensor:
    """Shortest solution of A^power x = b for symmetric A; eigenvalues at rounding level count as 0."""
    if not bool(torch.isfinite(A).all()):
        return torch.full_like(b, torch.nan)
    values, V = torch.linalg.eigh(A)
    keep = values > len(A) * eps * float(values.abs().max())
    inverse = torch.where(keep, values, torch.inf).reciprocal() ** power
    return V @ (inverse * (V.T @ b))


def _solve_in_range(A: Tensor, b: Tensor, eps: float) -> Tensor:
    """Compute A^+ b for b in the range of A, which may be singular; a shift at rounding level makes it definite."""
    L = _shifted_cholesky(A, 10 * _cutoff(A.diagonal(), eps))
    return torch.full_like(b, torch.nan) if L is None else _cholesky_solve(L, b)
