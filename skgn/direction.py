"""What a direction is: a solver of the damped Gauss-Newton system, with all that other modules ask of one.

    (G + diag(a) + damping I) step = -gradient,        G = J'J / S

Without prior and damping, a rank-deficient system has many solutions; every solver then takes the shortest one. Here
``a`` is given per (layer, input), one vector for each layer. J contains the roots of curvature and sample weights.

Every question about a solver is an attribute or method of `Direction`. The defaults of its methods are those of a
solver without a factorisation. :mod:`skgn.directions` has the list of all directions, and chooses.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, Generic, TypeVar

import torch
from torch import Tensor

from .backend import gigabytes, linear_algebra_device
from .free_memory import available_memory
from .jacobian import Jacobian
from .linear_algebra import to_solver
from .memory import Extent, system_memory
from .network import Network

__all__ = [
    "Direction",
    "Remembered",
    "RememberedDiagonal",
    "largest_rank",
    "smaller_system",
    "smallest_eigenvalue",
    "spectrum",
    "unit_precision",
]


class Direction(ABC):
    """A solver for one linearisation, which serves for every damping tried there."""

    #: Value of the parameter ``solver``.
    name: ClassVar[str]

    #: Whether its steps solve the system exactly, but for rounding.
    exact: ClassVar[bool] = True

    #: Completes "return_std=True needs ...", with a way to have it, where the direction has no traces and no posterior.
    #: Empty where it has both; only then can it serve the evidence.
    lacks: ClassVar[str]

    #: The same for training in batches, of what stands for all rows after them.
    lacks_in_batches: ClassVar[str]

    #: Whether :meth:`posterior_factor` belongs to the system of the rows, which needs the training data beside it.
    posterior_of_rows: ClassVar[bool] = False

    @abstractmethod
    def __init__(self, jacobian: Jacobian, total_weight: float) -> None:
        """Prepare for a Jacobian of samples with the total weight S."""

    @classmethod
    @abstractmethod
    def system_size(cls, extent: Extent) -> int:
        """Return the number of rows of the system that it factorises; 0 if it factorises none."""

    @classmethod
    def workspace(cls, extent: Extent) -> float:
        """Bytes that a solution takes beside vectors and system."""
        return 0.0

    @classmethod
    def memory(cls, extent: Extent) -> float:
        """Bytes that training takes at its peak."""
        return extent.memory(cls.system_size(extent), cls.workspace(extent))

    @classmethod
    @abstractmethod
    def flops(cls, extent: Extent) -> float:
        """Multiply-adds of an iteration, with evidence if possible; infinite if unknown: "auto" then takes it last."""

    @classmethod
    @abstractmethod
    def remembered(cls) -> Remembered[Any]:
        """Make what this direction remembers from batch to batch."""

    @abstractmethod
    def solve(self, gradient: Tensor, precision: list[Tensor], damping: float) -> Tensor:
        """Return the step (P,); its entries are not finite if the solution failed."""

    @abstractmethod
    def trace(self) -> float:
        """Trace of G."""

    def spectrum_matrix(self, jacobian: Jacobian, total_weight: float) -> Tensor:
        """Compute a matrix with the nonzero eigenvalues of G: G itself or the kernel J J' / S, by default the smaller.

        Raises
        ------
        ValueError
            If this matrix may exceed the available memory, and does.
        """
        return smaller_system(jacobian, total_weight)

    def inverse_traces(self, precision: list[Tensor]) -> tuple[list[Tensor], float]:
        """Traces of (G + diag(a))^-1 per (layer, input), and log|G + diag(a)|; nan if unknown or not definite."""
        return [torch.full_like(a, torch.nan) for a in precision], math.nan

    def output_blocks(self, precision: list[Tensor]) -> Callable[[Jacobian], Iterator[Tensor]] | None:
        """Function that yields the blocks J_i (G + diag(a))^-1 J_i' of a Jacobian of outputs, (m, c, c) at a time.

        None if they are unknown, or the system is not definite.
        """
        return None

    def posterior_factor(self, precision: list[Tensor]) -> Tensor | None:
        """Lower Cholesky factor of G + diag(a), or of S I + J diag(a)^-1 J' where it is ``posterior_of_rows``.

        None if there is no factor, or the system is not definite.
        """
        return None


#: Direction of a batch.
_Batch = TypeVar("_Batch", bound=Direction)


class Remembered(ABC, Generic[_Batch]):
    """The system of a batch, and the curvature of the batches before as a running mean, None before the first."""

    #: Whether :meth:`direction` is an estimate, which the direction of all rows replaces once training has ended.
    stands_in: ClassVar[bool]

    _batch: _Batch
    _curvature: Tensor

    def __init__(self, solver: type[_Batch]) -> None:
        self.mean: Tensor | None = None
        self.name, self._solver = solver.name, solver

    def linearise(self, jacobian: Jacobian, total_weight: float) -> None:
        """Set up the system of a batch; the first one also stands for those before it."""
        self._jacobian, self._S = jacobian, total_weight
        self._batch = self._solver(jacobian, total_weight)
        curvature = self._curvature_of_batch()
        # What is beyond the floats would stay in the mean for ever.
        self._curvature = curvature if bool(torch.isfinite(curvature).all()) else torch.zeros_like(curvature)
        if self.mean is None:
            self.mean = self._curvature.clone()

    @abstractmethod
    def _curvature_of_batch(self) -> Tensor:
        """Compute what is to be remembered of the batch."""

    @abstractmethod
    def solve(self, gradient: Tensor, precision: list[Tensor], kappa: float, damping: float) -> Tensor:
        """Return the step (P,) of the batch, with kappa times the remembered curvature in its system."""

    @abstractmethod
    def curvature(self, step: Tensor) -> float:
        """Curvature step' G_b step of the batch along a step."""

    @abstractmethod
    def direction(self, jacobian: Jacobian, total_weight: float) -> Direction:
        """Make the direction that stands for all rows between the passes."""

    def trace(self) -> float:
        """Trace of the batch's G."""
        return self._batch.trace()

    def remember(self, part: float) -> None:
        """Add the batch to the mean with the given weight."""
        assert self.mean is not None
        self.mean.lerp_(self._curvature, part)


class RememberedDiagonal(Remembered[Direction]):
    """The batch's system without a P x P matrix, and the mean diagonal of the batches before, by (layer, input).

    Parameters
    ----------
    solver : type of Direction
        Direction of a batch.
    of_all_rows : type of Direction
        Direction of all rows, which must have room for them.
    """

    stands_in = False

    def __init__(self, solver: type[Direction], of_all_rows: type[Direction]) -> None:
        super().__init__(solver)
        self._of_all_rows = of_all_rows

    def _curvature_of_batch(self) -> Tensor:
        diagonal = self._jacobian.network.split(self._jacobian.diagonal().to(torch.float64) / self._S)
        return torch.cat([layer.mean(0) for layer in diagonal])

    def solve(self, gradient: Tensor, precision: list[Tensor], kappa: float, damping: float) -> Tensor:
        assert self.mean is not None
        remembered = torch.split(self.mean.to(gradient), [into for _, into in self._jacobian.network.shapes])
        system = [a + kappa * c for a, c in zip(precision, remembered, strict=True)]
        return self._batch.solve(gradient, system, damping)

    def curvature(self, step: Tensor) -> float:
        return float(self._jacobian.matvec(step.to(self._jacobian.w)).square().sum()) / self._S

    def direction(self, jacobian: Jacobian, total_weight: float) -> Direction:
        return self._of_all_rows(jacobian, total_weight)


def spectrum(jacobian: Jacobian, direction: Direction | None, total_weight: float) -> tuple[float, float]:
    """Compute the extreme eigenvalues of the smaller of G (P x P) and the kernel J J' / S (n c x n c).

    Those are left out that :func:`largest_rank` does not count. A ``direction`` may have the matrix already. Both are
    nan if the matrix overflows.

    Raises
    ------
    ValueError
        If this matrix exceeds the available memory.
    """
    if direction is None:
        matrix = smaller_system(jacobian, total_weight)
    else:
        matrix = direction.spectrum_matrix(jacobian, total_weight)
    if not bool(torch.isfinite(matrix).all()):
        return math.nan, math.nan
    # Both have the same nonzero eigenvalues; the larger matrix also has zeros.
    eigenvalues = torch.linalg.eigvalsh(matrix)[-largest_rank(jacobian) :]
    return float(eigenvalues[0]), float(eigenvalues[-1])


def smallest_eigenvalue(jacobian: Jacobian, direction: Direction, total_weight: float) -> float:
    """Compute the smaller value of :func:`spectrum`."""
    return spectrum(jacobian, direction, total_weight)[0]


def largest_rank(jacobian: Jacobian) -> int:
    """Return the largest rank that J may have.

    A softmax has fewer columns than outputs, because it does not see a constant added to all outputs. G is then 0 in as
    many directions as the readout has inputs.
    """
    (rows, P), network = jacobian.shape, jacobian.network
    return min(rows, P - (network.n_outputs - jacobian.c) * network.shapes[-1][1])


def unit_precision(network: Network, like: Tensor) -> list[Tensor]:
    """Ones per (layer, input), in the dtype and on the device of ``like``."""
    return [like.new_ones(into) for _, into in network.shapes]


def smaller_system(jacobian: Jacobian, total_weight: float) -> Tensor:
    """Compute the smaller of G (P x P) and the kernel J J' / S (n c x n c).

    Raises
    ------
    ValueError
        If this matrix exceeds the available memory.
    """
    rows, P = jacobian.shape
    need, available = system_memory(min(rows, P)), available_memory(linear_algebra_device(jacobian.w.device))
    if need > available:
        raise ValueError(
            f"Eigenvalues of a matrix of {min(rows, P)} rows need {gigabytes(need)}, but {gigabytes(available)} are "
            "available: take fewer samples or weights, or a damping rule that asks for no eigenvalue."
        )
    matrix = jacobian.kernel(unit_precision(jacobian.network, jacobian.w)) if rows < P else jacobian.gram()
    return to_solver(matrix) / total_weight
