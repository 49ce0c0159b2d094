"""The weighted Jacobian at given weights as a linear operator that is never formed as a whole.

Row (i, c) of the operator is row c of ``R_i' J_i``. J_i is the network's k x P Jacobian at sample i. R_i (k x c) is the
root of the loss curvature times the square root of the sample weight. Summed over samples,

    gram     J'J   (P x P)       sum_i (D_l D_m')_i kron (u_l u_m')_i     block of layers l, m
    kernel   J M^-1 J'  (n c x n c)   sum_l (D_l D_l') o (u_l M_l^-1 u_l')

where layer l contributes the outer products of back-propagated rows D_l and input rows u_l. In the gram, D D' is summed
over the c columns. The sign o is the elementwise product. M is diagonal and depends on (layer, input) only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .backend import chunks
from .gram import Part, explicit_blocks, explicit_gram, factored_blocks, factored_gram, mirror_upper
from .jacobian_cost import (
    REUSED_BYTES,
    block_entries,
    gram_entries,
    keeps_linearisation,
    row_chunks,
    takes_factored,
)
from .network import Network, Tape

__all__ = ["KERNEL_ROWS", "Factors", "Jacobian"]

#: Rows of the kernel formed at a time: few enough to skip most of its lower half.
KERNEL_ROWS = 256


class Factors(NamedTuple):
    """Factors of the rows of a Jacobian at n samples: back-propagated rows ``D`` and input rows ``U``, by layer.

    D has shape (n, c, out) and U has shape (n, in + 1). Row (i, c) of the Jacobian is D_ic x U_i for each layer. The
    methods are plain tensor operations in one piece, which can be differentiated and traced.
    """

    D: list[Tensor]
    U: list[Tensor]

    @classmethod
    def of_outputs(cls, network: Network, w: Tensor, tape: Tape) -> Factors:
        """Compute the factors of the network's own outputs after a forward pass.

        They contain no roots of curvature and weights.
        """
        n, k = tape.inputs[0].shape[0], network.n_outputs
        eye = torch.eye(k, dtype=w.dtype, device=w.device)
        return cls(network.backward(tape, w, eye.expand(n, k, k)), tape.inputs)

    def in_basis(self, basis: Sequence[Tensor | None]) -> Factors:
        """Express input rows in the basis T of each layer, u T, or leave them as they are for None."""
        return Factors(self.D, [u if T is None else u @ T for u, T in zip(self.U, basis, strict=True)])

    def outside(self, basis: Sequence[Tensor | None]) -> Factors:
        """What is left of input rows beside the basis T, u - u T T'; only of the layers that have one."""
        layers = [(d, u - u @ T @ T.T) for d, u, T in zip(*self, basis, strict=True) if T is not None]
        return Factors([d for d, _ in layers], [u for _, u in layers])

    def dense(self) -> Tensor:
        """Compute J itself, (n c, P)."""
        rows = [(d[..., None] * u[:, None, None]).flatten(2) for d, u in zip(self.D, self.U, strict=True)]
        return torch.cat(rows, 2).flatten(0, 1)

    def kernel_blocks(self, inverse_scale: list[Tensor]) -> Tensor:
        """Compute the diagonal blocks J_i M^-1 J_i' of the kernel, one for each sample: shape (n, c, c)."""
        n, c, _ = self.D[0].shape
        out = self.D[0].new_zeros(n, c, c)
        for d, u, m in zip(self.D, self.U, inverse_scale, strict=True):
            out += (d @ d.mT) * (u.square() @ m)[:, None, None]
        return out

    def cross_kernel(self, other: Factors, inverse_scale: list[Tensor]) -> Tensor:
        """Compute J M^-1 J_other' for the same network at other samples: shape (n c, n_other c_other)."""
        (n, c, _), (n2, c2, _) = self.D[0].shape, other.D[0].shape
        out = self.D[0].new_zeros(n, c, n2, c2)
        for d, u, d2, u2, m in zip(*self, *other, inverse_scale, strict=True):
            products = d.flatten(0, 1) @ d2.flatten(0, 1).T
            out += products.view_as(out) * ((u * m) @ u2.T)[:, None, :, None]
        return out.view(n * c, n2 * c2)


class _Chunk(NamedTuple):
    """Rows of a part of the samples, with the network's tape, the curvature roots and the back-propagated rows."""

    rows: slice
    tape: Tape
    root: Tensor
    D: list[Tensor]


def _joined(parts: list[Tensor]) -> Tensor:
    """Join parts of the samples; a single one is not copied."""
    return parts[0] if len(parts) == 1 else torch.cat(parts)


class Jacobian:
    """The weighted Jacobian as an operator of shape (n c, P).

    Parameters
    ----------
    network : Network
    w : Tensor of shape (P,)
        Weights at which the network is linearised.
    U : Tensor of shape (n, d + 1)
        Inputs with the column of ones.
    root : callable
        ``root(rows)`` gives the curvature roots R (rows, k, c) of a slice of samples, weights included.
    c : int
        Number of columns of a root.
    tapes : sequence of Tape, default=()
        Tapes of a forward pass at w, one for each of :func:`row_chunks`; by default they are made when needed.
    system_dtype : torch.dtype, optional
        Precision in which directions may form and factorise their systems. By default products have that of the data,
        and systems are float64.
    curvature : callable, optional
        ``curvature(rows, tangent)`` gives R R' t for tangents (rows, k) of a slice of samples; from roots by default.
    squares : callable, optional
        ``squares(rows, tangents)`` gives t' R R' t (rows, m) for tangents (rows, k, m), or the same for all samples
        (1, k, m), of a slice of samples; from roots by default.

    Attributes
    ----------
    factored : bool
        Whether the Gram matrix is computed from the factors of J, rather than from J itself: whichever is cheaper.
    """

    def __init__(
        self,
        network: Network,
        w: Tensor,
        U: Tensor,
        root: Callable[[slice], Tensor],
        c: int,
        tapes: Sequence[Tape] = (),
        system_dtype: torch.dtype | None = None,
        curvature: Callable[[slice, Tensor], Tensor] | None = None,
        squares: Callable[[slice, Tensor], Tensor] | None = None,
    ) -> None:
        self.system_dtype, self._curvature, self._squares = system_dtype, curvature, squares
        self.network, self.w, self.U, self.root, self.c = network, w, U, root, c
        self.shape = (len(U) * c, network.n_weights)
        self.factored = takes_factored(network, len(U), c)
        self._rows = row_chunks(network, c, U)
        self._known_tapes = tapes
        self._kept: list[_Chunk] = []

    @classmethod
    def of_outputs(cls, network: Network, w: Tensor, U: Tensor) -> Jacobian:
        """Make the network's own Jacobian, without roots of curvature and weights."""
        eye = torch.eye(network.n_outputs, dtype=U.dtype, device=U.device)
        return cls(network, w, U, lambda rows: eye.expand(len(U[rows]), *eye.shape), network.n_outputs)

    def at(self, rows: slice) -> Jacobian:
        """Make the part of the operator that belongs to a slice of the samples."""
        start = rows.start
        return Jacobian(
            self.network,
            self.w,
            self.U[rows],
            lambda part: self.root(slice(start + part.start, start + part.stop)),
            self.c,
        )

    def _linearised(self) -> Iterable[_Chunk]:
        """Yield what is known of each chunk of the samples; small chunks are kept."""
        if self._kept:
            return self._kept
        made = (self._chunk(rows, tape) for rows, tape in self._tapes())
        if keeps_linearisation(self.network, len(self.U), self.c, self.U.element_size()):
            self._kept = list(made)
            return self._kept
        return made

    def _chunk(self, rows: slice, tape: Tape) -> _Chunk:
        root = self.root(rows)
        return _Chunk(rows, tape, root, self.network.backward(tape, self.w, root))

    def _roots(self) -> Iterable[tuple[slice, Tensor]]:
        if self._kept:
            return [(chunk.rows, chunk.root) for chunk in self._kept]
        return ((rows, self.root(rows)) for rows in self._rows)

    def _tapes(self) -> Iterable[tuple[slice, Tape]]:
        if self._kept:
            return [(chunk.rows, chunk.tape) for chunk in self._kept]
        if self._known_tapes:
            return zip(self._rows, self._known_tapes, strict=True)
        return ((rows, self.network.forward(self.U[rows], self.w)[1]) for rows in self._rows)

    def matvec(self, v: Tensor) -> Tensor:
        """Compute J v for v (P,): shape (n, c)."""
        tangent = self.network_jvp(v)
        return _joined([(tangent[rows, None] @ root)[:, 0] for rows, root in self._roots()])

    def network_jvp(self, v: Tensor) -> Tensor:
        """Compute the network's own J_i v at every sample, without roots, for v (P,): shape (n, k)."""
        return _joined([self.network.jvp(tape, self.w, v) for _, tape in self._tapes()])

    def rmatvec(self, r: Tensor) -> Tensor:
        """Compute J' r for r (n, c): shape (P,)."""
        return self.network_vjp(_joined([(root @ r[rows, :, None])[:, :, 0] for rows, root in self._roots()]))

    def network_vjp(self, g: Tensor) -> Tensor:
        """Sum J_i' g_i over samples with the network's own Jacobian, without roots, for g (n, k): shape (P,)."""
        out = torch.zeros_like(self.w)
        for rows, tape in self._tapes():
            out += self.network.vjp(tape, self.w, g[rows])
        return out

    def normal_product(self, v: Tensor) -> Tensor:
        """Compute J'J v for v (P,): shape (P,). With a ``curvature``, one tape of a chunk serves both products."""
        if self._curvature is None:
            return self.rmatvec(self.matvec(v))
        out = torch.zeros_like(self.w)
        for rows, tape in self._tapes():
            out += self.network.vjp(tape, self.w, self._curvature(rows, self.network.jvp(tape, self.w, v)))
        return out

    def _parts(self, dtype: torch.dtype, entries: tuple[int, int]) -> Iterable[Part]:
        """Yield input rows and back-propagated rows of parts of the samples.

        So many ``entries`` a sample, of the largest temporary and of all, fit the budget.
        """
        largest, values = entries
        most = max(1, REUSED_BYTES // (largest * dtype.itemsize))
        for _, tape, _, D in self._linearised():
            for part in chunks(len(D[0]), values * dtype.itemsize, self.w.device, most):
                yield [u[part].to(dtype) for u in tape.inputs], [d[part].to(dtype) for d in D]

    def gram(self, dtype: torch.dtype | None = None) -> Tensor:
        """Compute J'J, shape (P, P), from products in a dtype, by default in that of the data."""
        dtype = dtype or self.w.dtype
        gram = factored_gram if self.factored else explicit_gram
        parts = self._parts(dtype, gram_entries(self.network, self.c, self.factored))
        return gram(self.network, parts, self.w.to(dtype))

    def diagonal(self) -> Tensor:
        """Compute the diagonal of J'J, (P,): the sum over samples of D_i^2 (x) u_i^2, layer by layer."""
        out = torch.zeros_like(self.w)
        layers = self.network.split(out)
        for tape, squares in self._squared_rows():
            for layer, d, u in zip(layers, squares, tape.inputs, strict=True):
                layer.addmm_(d.T, u.square())
        return out

    def _squared_rows(self) -> Iterable[tuple[Tape, list[Tensor]]]:
        """Yield the tapes of parts of the samples, and squares (n, out) of back-propagated rows, summed over columns.

        Several columns need no roots, which have the square of the columns in entries.
        """
        if self._squares is None or self.c == 1 or self.network.uses_autograd:
            for _, tape, _, D in self._linearised():
                yield tape, [torch.linalg.vector_norm(d, dim=1).square() for d in D]
            return
        columns = torch.eye(self.network.n_outputs, dtype=self.w.dtype, device=self.w.device)[None]
        for rows, tape in self._tapes():
            yield tape, [self._squares(rows, d) for d in self.network.backward(tape, self.w, columns)]

    def trace(self) -> Tensor:
        """Compute the trace of J'J: the sum over samples and layers of ||D_i||^2 ||u_i||^2."""
        total = self.w.new_zeros(())
        for _, tape, _, D in self._linearised():
            for d, u in zip(D, tape.inputs, strict=True):
                total += d.square().sum((1, 2)) @ u.square().sum(1)
        return total

    def factors(self) -> Factors:
        """Compute the factors at all samples."""
        made = list(self._linearised())
        layers = range(len(self.network.shapes))
        D = [_joined([chunk.D[layer] for chunk in made]) for layer in layers]
        return Factors(D, [_joined([chunk.tape.inputs[layer] for chunk in made]) for layer in layers])

    def _flat_factors(self, dtype: torch.dtype) -> tuple[list[Tensor], list[Tensor]]:
        """Return back-propagated rows (n c, out) and input rows (n, in + 1)."""
        D, U = self.factors()
        return [d.flatten(0, 1).to(dtype) for d in D], [u.to(dtype) for u in U]

    def kernel(self, inverse_scale: list[Tensor], dtype: torch.dtype | None = None) -> Tensor:
        """Compute J M^-1 J', shape (n c, n c), from products in a dtype, by default in that of the data.

        M^-1 is given per (layer, input), as one vector (in + 1,) for each layer.
        """
        dtype = dtype or self.w.dtype
        n, c = len(self.U), self.c
        D, U = self._flat_factors(dtype)
        K = self.w.new_empty(n * c, n * c, dtype=dtype)
        blocks = chunks(n, 3 * c * n * c * K.element_size(), K.device, KERNEL_ROWS)
        for rows in blocks:
            first = rows.start
            block = K[first * c : rows.stop * c, first * c :].view(-1, c, n - first, c)
            for layer, (d, u, m) in enumerate(zip(D, U, inverse_scale, strict=True)):
                part = (d[first * c : rows.stop * c] @ d[first * c :].T).view(block.shape)
                part *= ((u[rows] * m.to(u)) @ u[first:].T)[:, None, :, None]
                block.copy_(part) if layer == 0 else block.add_(part)
        return mirror_upper(K, [rows.start * c for rows in blocks] + [n * c])

    def diagonal_blocks(self, B: Tensor) -> Iterator[Tensor]:
        """Yield the blocks J_i B J_i', one for each sample, for symmetric B (P, P): (m, c, c) of so many at a time.

        Products are made in the precision of B.
        """
        parts = self._parts(B.dtype, block_entries(self.network, self.c, self.factored))
        return factored_blocks(self.network, parts, B) if self.factored else explicit_blocks(parts, B)

    def inverse_traces(self, inverse: Tensor, inverse_scale: list[Tensor]) -> list[Tensor]:
        """Compute the trace of (J'J / S + M)^-1 over the units of each (layer, input), without any P x P array.

        ``inverse`` is (S I + J M^-1 J')^-1, (n c, n c). B is inverse o (D D'), summed over columns. The trace for
        input j of a layer with h units is ``h / m_j - u_j' B u_j / m_j^2``.
        """
        n, c = len(self.U), self.c
        D, U = self._flat_factors(inverse.dtype)
        traces = [m * out for m, (out, _) in zip(inverse_scale, self.network.shapes, strict=True)]
        for rows in chunks(n, 3 * c * n * c * inverse.element_size(), inverse.device, KERNEL_ROWS):
            first, end = rows.start, rows.stop
            block, rest = slice(first * c, end * c), slice(first * c, n * c)
            for layer, (d, u) in enumerate(zip(D, U, strict=True)):
                B = (d[block] @ d[rest].T).mul_(inverse[block, rest])
                if c > 1:
                    B = B.view(-1, c, n - first, c).sum((1, 3))
                B[:, end - first :] *= 2  # B is symmetric: what is right of the block stands for what is below
                traces[layer] = traces[layer] - ((B @ u[first:]) * u[rows]).sum(0) * inverse_scale[layer].square()
        return traces
