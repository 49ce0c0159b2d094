"""Peak memory of training, estimated before anything is allocated.

It has four parts; examples/benchmarks/memory.py compares their sum with the real use of processes:

- the system: three matrices at once (G or K, its factor, and an inverse or a copy of the factor), and one for every
  other candidate that waits for its turn; none for conjugate gradients
- vectors of the size of the weights
- the data in training units
- linearisations and other temporaries, which the memory budget limits
"""

from __future__ import annotations

import bisect
import dataclasses
from collections.abc import Callable

import torch

from .backend import CPU_CHUNK_ROWS, chunks, gigabytes
from .feedforward import FeedForward
from .jacobian import KERNEL_ROWS, gram_workspace, keeps_linearisation, linearised_values
from .network import Network

__all__ = ["readout_memory", "system_memory", "too_large", "training_memory"]

#: Float64 matrices of a system alive at once; the first of them stays as long as its candidate.
_COPIES = 3

#: Float64 vectors of the size of the weights: of each candidate, and of each worker while it solves.
_CANDIDATE_VECTORS, _WORKER_VECTORS = 8, 12

#: Number of arrays of the outputs' size in a candidate: outputs, losses, gradients, and their sources.
_OUTPUT_ARRAYS = 8


def system_memory(size: int, candidates: int = 1, workers: int = 1) -> float:
    """Bytes of the factorised systems of all candidates, each with ``size`` rows.

    ``workers`` of them are being solved.
    """
    return 8.0 * size**2 * (candidates + (_COPIES - 1) * workers)


def training_memory(
    solver: str,
    network: Network,
    n: int,
    c: int,
    dtype: torch.dtype = torch.float64,
    device: torch.device | None = None,
    candidates: int = 1,
    workers: int = 1,
) -> float:
    """Bytes that training takes at its peak.

    Parameters
    ----------
    solver : {"primal", "dual", "cg"}
    network : Network
    n, c : int
        Number of samples, and of curvature columns per sample.
    dtype : torch.dtype, default=torch.float64
        Dtype of network outputs and Jacobian products.
    device : torch.device, optional
        Device of the Jacobian, by default the CPU.
    candidates, workers : int, default=1
        Number of networks in training, and how many train at a time.
    """
    device = torch.device("cpu") if device is None else device
    P, rows, item, workers = network.n_weights, n * c, dtype.itemsize, min(workers, candidates)
    vectors = 8.0 * P * (_CANDIDATE_VECTORS * candidates + _WORKER_VECTORS * workers)
    # Inputs: merged, scaled, and with a column of ones in the dtype of training.
    data = n * ((16 + item) * network.n_inputs + item * candidates * _OUTPUT_ARRAYS * network.n_outputs)
    tapes = item * n * (sum(into + (1 + c) * out for out, into in network.shapes) + network.n_saved)
    keeps = keeps_linearisation(network, n, c, item)
    if keeps:
        linearisation = float(candidates * tapes)
    else:
        # Back-propagated rows of a chunk, their products on the way, and the rows of the chunk before.
        values = linearised_values(network, c)
        more = 1 + 2 * c * sum(out for out, _ in network.shapes) / values
        linearisation = workers * more * _chunk(n, values * item, device)
    total = vectors + data + linearisation
    if solver == "primal":
        total += system_memory(P, candidates, workers) + workers * gram_workspace(network, n, c, item)
    elif solver == "dual":
        # Beside the system the rows of all samples, joined, and a block of the products of rows.
        joined = item * sum(rows * out + n * into for out, into in network.shapes) + (0 if keeps else tapes)
        block = _chunk(n, 3 * c * rows * item, device, KERNEL_ROWS) / 3
        total += system_memory(rows, candidates, workers) + workers * (joined + block)
    return total


def readout_memory(readout: Network, n: int, item: int) -> float:
    """Bytes needed to solve a readout on its own, for its joined inputs and its system."""
    return 2.0 * item * n * readout.shapes[0][1] + system_memory(readout.n_weights)


def too_large(
    solver: str,
    need: dict[str, float],
    available: float,
    evidence: bool,
    network: Network,
    memory: Callable[[str, Network], float],
) -> str:
    """Message that says what does not fit, and what would."""
    message = (
        f"Training with solver={solver!r} needs {gigabytes(need[solver])} ({network.n_weights} weights), "
        f"but {gigabytes(available)} are available."
    )
    for name in need:
        if need[name] <= available:
            with_float = " with a float l2_regularization such as 1e-3" if name == "cg" and evidence else ""
            message += f" solver={name!r}{with_float} needs {gigabytes(need[name])} and would fit."
    if min(need["primal"], need["dual"]) <= available:
        return message

    if not isinstance(network, FeedForward):
        return message + " A smaller network, or fewer rows, would fit."

    def fits(width: int) -> bool:
        # Symmetric units come in pairs.
        one_layer = dataclasses.replace(network, hidden_layer_sizes=(width,), init="random")
        return memory("primal", one_layer) <= available

    too_wide = 2
    while fits(too_wide):
        too_wide *= 2
    width = bisect.bisect_left(range(1, too_wide), True, key=lambda width: not fits(width))
    if width == 0:
        return message + " Fewer rows, inputs or outputs would fit."
    return message + f" solver='primal' would fit with hidden_layer_sizes=({width},) or smaller."


def _chunk(n: int, bytes_per_row: int, device: torch.device, most: int = CPU_CHUNK_ROWS) -> int:
    """Bytes of the largest chunk of n rows."""
    first = chunks(n, bytes_per_row, device, most)[-1]
    return (first.stop - first.start) * bytes_per_row
