"""Peak memory of training, estimated before anything is allocated.

It has four parts; examples/benchmarks/memory.py compares their sum with the real use of processes:

- the system: three matrices at once (G or K, its factor, and an inverse or a copy of the factor), none for conjugate
  gradients; and one matrix for every other candidate that waits for its turn
- vectors of the size of the weights
- the data in training units
- linearisations and other temporaries, which the memory budget limits

A direction says how large its system is, and what it needs beside it; the rest is here.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from .backend import CPU_CHUNK_ROWS, chunks
from .jacobian_cost import keeps_linearisation, linearised_values
from .network import Network

__all__ = ["Extent", "chunk_memory", "readout_memory", "system_memory"]

#: Float64 matrices of a system alive at once; the first of them stays as long as its candidate.
_COPIES = 3

#: Float64 vectors of the size of the weights: of each candidate, and of each worker while it solves.
_CANDIDATE_VECTORS, _WORKER_VECTORS = 8, 12

#: Number of arrays of the outputs' size in a candidate: outputs, losses, gradients, and their sources.
_OUTPUT_ARRAYS = 8


_CPU = torch.device("cpu")


@dataclass(frozen=True)
class Extent:
    """How large a training is: all that its work and its memory depend on, but for the direction.

    Parameters
    ----------
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

    network: Network
    n: int
    c: int
    dtype: torch.dtype = torch.float64
    device: torch.device = _CPU
    candidates: int = 1
    workers: int = 1

    @property
    def rows(self) -> int:
        """Number of rows of the Jacobian."""
        return self.n * self.c

    @property
    def at_once(self) -> int:
        """Number of networks that train at the same time."""
        return min(self.workers, self.candidates)

    @property
    def keeps_linearisation(self) -> bool:
        """Whether the Jacobian of all samples stays in memory."""
        return keeps_linearisation(self.network, self.n, self.c, self.dtype.itemsize)

    @property
    def tapes(self) -> int:
        """Bytes of the linearisation of all samples."""
        network = self.network
        values = sum(into + (1 + self.c) * out for out, into in network.shapes) + network.n_saved
        return self.dtype.itemsize * self.n * values

    def memory(self, system_size: int, workspace: float) -> float:
        """Bytes at the peak, with systems of so many rows and a ``workspace`` for each one that is being solved."""
        systems = system_memory(system_size, self.candidates, self.at_once) + self.at_once * workspace
        return self._vectors() + self._data() + self._linearisations() + systems

    def _vectors(self) -> float:
        vectors = _CANDIDATE_VECTORS * self.candidates + _WORKER_VECTORS * self.at_once
        return 8.0 * self.network.n_weights * vectors

    def _data(self) -> int:
        """Inputs, merged, scaled, and with a column of ones in the dtype of training; and arrays of outputs."""
        network, item = self.network, self.dtype.itemsize
        outputs = item * self.candidates * _OUTPUT_ARRAYS * network.n_outputs
        return self.n * (16 * network.original.n_inputs + item * network.n_inputs + outputs)

    def _linearisations(self) -> float:
        if self.keeps_linearisation:
            return float(self.candidates * self.tapes)
        # Back-propagated rows of a chunk, their products on the way, and the rows of the chunk before.
        values = linearised_values(self.network, self.c)
        more = 1 + 2 * self.c * sum(out for out, _ in self.network.shapes) / values
        return self.at_once * more * chunk_memory(self.n, values * self.dtype.itemsize, self.device)


def system_memory(size: int, candidates: int = 1, workers: int = 1) -> float:
    """Bytes of the factorised systems of all candidates, each with ``size`` rows.

    ``workers`` of them are being solved.
    """
    return 8.0 * size**2 * (candidates + (_COPIES - 1) * workers)


def readout_memory(readout: Network, n: int, item: int) -> float:
    """Bytes needed to solve a readout on its own, for its joined inputs and its system."""
    return 2.0 * item * n * readout.shapes[0][1] + system_memory(readout.n_weights)


def chunk_memory(n: int, bytes_per_row: int, device: torch.device, most: int = CPU_CHUNK_ROWS) -> int:
    """Bytes of the largest chunk of n rows."""
    first = chunks(n, bytes_per_row, device, most)[-1]
    return (first.stop - first.start) * bytes_per_row
