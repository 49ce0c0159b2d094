"""What a linearisation costs, in multiply-adds and bytes, by which :mod:`skgn.jacobian` chooses between its ways.

The network has its ``shapes``; n is the number of samples, and c the number of columns of a root of the curvature.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from .backend import CPU_CHUNK_ROWS, chunks, memory_budget
from .network import Network

__all__ = [
    "REUSED_BYTES",
    "block_entries",
    "gram_entries",
    "gram_flops",
    "gram_workspace",
    "keeps_linearisation",
    "linearised_values",
    "product_flops",
    "row_chunks",
    "takes_factored",
    "triangle_size",
]

#: Time to form one entry of a factor, in multiply-adds of a matrix product; measured.
_FLOPS_PER_FACTOR_ENTRY = 20

#: Least time of a tensor operation, in the same unit; measured.
_FLOPS_PER_OPERATION = 1e5

#: Of a product with J'J: time for each value of a unit, in the same unit, and operations for each layer; measured.
_FLOPS_PER_UNIT, _OPERATIONS_PER_LAYER = 140, 30

#: Part of the full product J'J that its upper blocks make up.
_EXPLICIT_PART = 0.6

#: A temporary of a gram takes no more on a CPU: a larger one is fresh memory each time, twice as slow (measured).
REUSED_BYTES = 2**24

#: Part of the memory budget for a linearisation that is kept: an ensemble of four has as many in training at a time.
_KEPT_FRACTION = 1 / 4


def triangle_size(p: int) -> int:
    """Count the entries of a triangle of a p x p matrix, with its diagonal."""
    return p * (p + 1) // 2


def _pair_sizes(network: Network) -> Iterator[tuple[int, int]]:
    """Entries per sample of both factors, of back-propagated rows D and of input rows U, for each pair of layers."""
    for a, (out_a, in_a) in enumerate(network.shapes):
        yield triangle_size(out_a), triangle_size(in_a)
        for out_b, in_b in network.shapes[a + 1 :]:
            yield out_a * out_b, in_a * in_b


def _factored_flops(network: Network, n: int, c: int) -> float:
    """Count multiply-adds of the factored gram: one GEMM for each pair of layers, and its factors row by row."""
    sizes = _pair_sizes(network)
    entries = sum(d * u + _FLOPS_PER_FACTOR_ENTRY * (c * d + u) for d, u in sizes)
    operations = sum(c * out + into for out, into in network.shapes)
    return n * entries + -(-n // CPU_CHUNK_ROWS) * _FLOPS_PER_OPERATION * operations


def _explicit_flops(network: Network, n: int, c: int) -> float:
    return _EXPLICIT_PART * n * c * network.n_weights**2


def takes_factored(network: Network, n: int, c: int) -> bool:
    """Whether the gram is cheaper from the factors of J than from J itself."""
    return _factored_flops(network, n, c) < _explicit_flops(network, n, c)


def gram_flops(network: Network, n: int, c: int) -> float:
    """Count multiply-adds of :meth:`~skgn.jacobian.Jacobian.gram` by the cheaper of its two ways."""
    return min(_factored_flops(network, n, c), _explicit_flops(network, n, c))


def product_flops(network: Network, n: int) -> float:
    """Count multiply-adds of :meth:`~skgn.jacobian.Jacobian.normal_product` on a kept tape."""
    units = sum(out for out, _ in network.shapes)
    operations = _OPERATIONS_PER_LAYER * len(network.shapes)
    return n * (3.0 * network.n_weights + _FLOPS_PER_UNIT * units) + _FLOPS_PER_OPERATION * operations


def gram_entries(network: Network, c: int, factored: bool) -> tuple[int, int]:
    """Count numbers per sample: of the largest factor of the gram, and of all temporaries together."""
    if not factored:
        return c * network.n_weights, 2 * c * network.n_weights
    sizes = list(_pair_sizes(network))
    largest = max(max(pair) for pair in sizes)
    return largest, max(2 * (d * (1 + c * (c > 1)) + u) for d, u in sizes)


def block_entries(network: Network, c: int, factored: bool) -> tuple[int, int]:
    """Count the same of the blocks of all samples, whose pairs of units are not formed column by column."""
    if not factored:
        return gram_entries(network, c, factored)
    sizes = list(_pair_sizes(network))
    widest = max(out for out, _ in network.shapes)
    return max(max(pair) for pair in sizes), max(2 * (d + u) for d, u in sizes) + 2 * c * widest + 3 * c**2


def gram_workspace(network: Network, n: int, c: int, item: int) -> int:
    """Bytes of the temporaries of :meth:`~skgn.jacobian.Jacobian.gram` on a CPU, with numbers of ``item`` bytes."""
    factored = takes_factored(network, n, c)
    packed = sum(d * u for d, u in _pair_sizes(network)) if factored else 0
    return packed * item + min(2 * REUSED_BYTES, n * gram_entries(network, c, factored)[1] * item)


def linearised_values(network: Network, c: int) -> int:
    """Count the numbers per row of the tape and the back-propagated rows, temporaries included."""
    return sum(3 * into + (3 + c) * out for out, into in network.shapes) + (1 + c) * network.n_saved


def keeps_linearisation(network: Network, n: int, c: int, item: int) -> bool:
    """Whether what is known of n samples is small enough to keep, in numbers of ``item`` bytes.

    These are the tape, the curvature roots and the back-propagated rows.
    """
    values = linearised_values(network, c) + c * network.n_outputs
    return n * values * item <= _KEPT_FRACTION * memory_budget()


def row_chunks(network: Network, c: int, U: Tensor) -> list[slice]:
    """Split the rows of U into slices whose linearisation fits the memory budget."""
    return chunks(len(U), linearised_values(network, c) * U.element_size(), U.device)
