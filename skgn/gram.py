"""The Gram matrix J'J of a Jacobian, and the blocks J_i B J_i' of its adjoint, each in two ways.

A part of the samples is given by its input rows u and its back-propagated rows D, one of each for a layer. The explicit
way forms J' of the part, whose rows are the products d x u. The factored way never does. It multiplies products of two
input rows with products of two back-propagated rows, which are summed over the columns c:

    block of layers l, m        sum_i (D_l D_m')_i kron (u_l u_m')_i

Which of them is cheaper, :mod:`skgn.jacobian_cost` tells.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor

from .jacobian_cost import triangle_size
from .network import Network

__all__ = ["Part", "explicit_blocks", "explicit_gram", "factored_blocks", "factored_gram", "mirror_upper"]

#: Upper blocks in which the explicit gram is accumulated: many save flops, few keep the products large (measured).
_MOST_BLOCKS, _BLOCK_ROWS = 4, 50

#: From so many columns c on, products summed over them are batched matrix products (measured: twice as fast for 9).
_BATCHED_COLUMNS = 4

#: Input rows (m, in + 1) of each layer, and its back-propagated rows (m, c, out), of m samples.
Part = tuple[Sequence[Tensor], Sequence[Tensor]]


def explicit_gram(network: Network, parts: Iterable[Part], like: Tensor) -> Tensor:
    """Compute J'J (P, P), with the device and dtype of ``like``, by upper blocks, from parts that stay in cache."""
    P = network.n_weights
    G = like.new_zeros(P, P)
    count = max(1, min(_MOST_BLOCKS, P // _BLOCK_ROWS))
    edges = [P * i // count for i in range(count + 1)]
    for inputs, D in parts:
        J = _transpose(inputs, D).flatten(1)
        for a, b in itertools.pairwise(edges):
            G[a:b, a:].addmm_(J[a:b], J[a:].T)
    return mirror_upper(G, edges)


def factored_gram(network: Network, parts: Iterable[Part], like: Tensor) -> Tensor:
    """Compute J'J (P, P), with the device and dtype of ``like``, by one GEMM for each pair of layers.

    Equal layers use triangles.
    """
    shapes = network.shapes
    L = len(shapes)
    products: dict[tuple[int, int], Tensor] = {}
    for inputs, rows in parts:
        U = [u[:, None] for u in inputs]
        for a in range(L):
            _accumulate(products, (a, a), _triangle_products(rows[a]), _triangle_products(U[a]))
            for b in range(a + 1, L):
                _accumulate(products, (a, b), _all_products(rows[a], rows[b]), _all_products(U[a], U[b]))
    start = _edges(network)
    G = like.new_empty(start[-1], start[-1])
    for (a, b), product in products.items():
        (out_a, in_a), (out_b, in_b) = shapes[a], shapes[b]
        target = G[start[a] : start[a + 1], start[b] : start[b + 1]].view(out_a, in_a, out_b, in_b)
        if a == b:
            # Unit by unit: the block unpacked as a whole would be as large as G again.
            units, columns = _triangle_index(out_a, G.device), _triangle_index(in_a, G.device)
            for unit, packed in zip(target.unbind(), units, strict=True):
                unit.copy_(product[packed][:, columns].permute(1, 0, 2))
        else:
            target.copy_(product.view(out_a, out_b, in_a, in_b).permute(0, 2, 1, 3))
    return mirror_upper(G, start)


def explicit_blocks(parts: Iterable[Part], B: Tensor) -> Iterator[Tensor]:
    """Yield the blocks J_i B J_i' (m, c, c) of the samples of each part, for symmetric B (P, P)."""
    for inputs, D in parts:
        J = _transpose(inputs, D)
        yield torch.einsum("pcn,pen->nce", J, (B @ J.flatten(1)).view_as(J))


def factored_blocks(network: Network, parts: Iterable[Part], B: Tensor) -> Iterator[Tensor]:
    """Yield the same without J, by the adjoint of the factored gram.

    The pair of layers (l, m) contributes D_l T D_m' with T = sum_jk u_lj u_mk B[l . j, m . k]. T is one matrix
    product for all samples, of triangles if the layers are equal.
    """
    start, shapes = _edges(network), network.shapes
    of_pairs = {}
    for a, b in itertools.combinations_with_replacement(range(len(shapes)), 2):
        block = B[start[a] : start[a + 1], start[b] : start[b + 1]].view(*shapes[a], *shapes[b]).permute(1, 3, 0, 2)
        of_pairs[a, b] = (_folded(block) if a == b else block.reshape(-1, shapes[a][0] * shapes[b][0])).T
    for inputs, D in parts:
        m, c, _ = D[0].shape
        total = D[0].new_zeros(m, c, c)
        for (a, b), block in of_pairs.items():
            if a == b:
                packed = block @ _triangle_products(inputs[a][:, None])
                total += D[a] @ packed[_triangle_index(shapes[a][0], B.device)].permute(2, 0, 1) @ D[a].mT
            else:
                T = block @ _all_products(inputs[a][:, None], inputs[b][:, None])
                part = D[a] @ T.T.view(m, shapes[a][0], shapes[b][0]) @ D[b].mT
                total += part + part.mT
        yield total


def _folded(block: Tensor) -> Tensor:
    """Add what belongs to (k, j) to what belongs to (j, k), for j < k: packed triangles (of inputs, of units).

    ``block`` has shape (inputs, inputs, units, units) and B's symmetry: (j, k, p, q) and (k, j, q, p) are equal.
    """
    j, k = torch.triu_indices(*block.shape[:2], device=block.device)[:, :, None]
    p, q = torch.triu_indices(*block.shape[2:], device=block.device)
    return block[j, k, p, q].addcmul_(block[k, j, p, q], (j < k).to(block.dtype))


def mirror_upper(G: Tensor, edges: Sequence[int]) -> Tensor:
    """Copy the blocks above the diagonal blocks between ``edges`` below them, in place."""
    for a, b in itertools.pairwise(edges):
        G[b:, a:b] = G[a:b, b:].T
    return G


def _edges(network: Network) -> list[int]:
    """Where the weights of each layer begin, and where the last ones end."""
    return list(itertools.accumulate((out * into for out, into in network.shapes), initial=0))


def _transpose(inputs: Sequence[Tensor], D: Sequence[Tensor]) -> Tensor:
    """Compute J' of some samples, (P, c, m), from the products d x u.

    Samples come last so that the products are of contiguous rows.
    """
    m, c, _ = D[0].shape
    sizes = [d.shape[2] * u.shape[1] for d, u in zip(D, inputs, strict=True)]
    J = inputs[0].new_empty(sum(sizes), c, m)
    for part, d, u in zip(torch.split(J, sizes), D, inputs, strict=True):
        d, u = d.permute(2, 1, 0).contiguous(), u.T.contiguous()
        torch.mul(d[:, None], u[None, :, None], out=part.view(len(d), len(u), *part.shape[1:]))
    return J


def _accumulate(products: dict[tuple[int, int], Tensor], pair: tuple[int, int], S: Tensor, V: Tensor) -> None:
    if pair in products:
        products[pair].addmm_(S, V.T)
    else:
        products[pair] = S @ V.T


def _triangle_products(D: Tensor) -> Tensor:
    """Compute the upper triangle of sum_c D_c D_c' per sample, for D (m, c, p): shape (p (p + 1) / 2, m)."""
    m, c, p = D.shape
    if c >= _BATCHED_COLUMNS:
        upper = torch.triu_indices(p, p, device=D.device)
        return (D.mT @ D).flatten(1).T[upper[0] * p + upper[1]]
    columns, out, position = _columns(D), D.new_empty(triangle_size(p), m), 0
    for j in range(p):
        rows = out[position : position + p - j]
        torch.mul(columns[0, j:], columns[0, j], out=rows)
        for d in columns[1:]:
            rows.addcmul_(d[j:], d[j])
        position += p - j
    return out


def _all_products(A: Tensor, B: Tensor) -> Tensor:
    """Compute sum_c A_c B_c' per sample, for A (m, c, p) and B (m, c, q): shape (p q, m)."""
    if A.shape[1] >= _BATCHED_COLUMNS:
        return (A.mT @ B).flatten(1).T
    A, B = _columns(A), _columns(B)
    out = A[0][:, None] * B[0][None]
    for a, b in zip(A[1:], B[1:], strict=True):
        out.addcmul_(a[:, None], b[None])
    return out.flatten(0, 1)


def _columns(D: Tensor) -> Tensor:
    """Features first, samples last, (c, p, m): products of features are then products of contiguous rows."""
    return D.permute(1, 2, 0).contiguous()


def _triangle_index(p: int, device: torch.device) -> Tensor:
    """Positions (p, p) of the pairs (i, j) in the packed upper triangle."""
    upper = torch.triu_indices(p, p, device=device)
    index = torch.empty(p, p, dtype=torch.long, device=device)
    index[upper[0], upper[1]] = index[upper[1], upper[0]] = torch.arange(triangle_size(p), device=device)
    return index
