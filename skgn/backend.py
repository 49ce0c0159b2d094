"""Devices and dtypes of the arithmetic, and the memory budget that sets chunk sizes."""

from __future__ import annotations

import contextlib
import itertools
import math
import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = [
    "CPU_CHUNK_ROWS",
    "DTYPES",
    "chunks",
    "denormals_flushed",
    "flushes_denormals",
    "gigabytes",
    "in_dtype",
    "like",
    "linear_algebra_device",
    "memory_budget",
    "resolve_device",
    "solver_tensor",
    "sum_float64",
    "written",
]

DTYPES = {"float64": torch.float64, "float32": torch.float32}

#: Below this many multiply-adds per Gram matrix, launch overhead makes a CUDA device slower than the CPU.
_CUDA_WORTHWHILE_FLOPS = 5e9

#: Largest number of rows in a chunk on a CPU: larger chunks leave the cache (measured; flat from 512 to 2048).
CPU_CHUNK_ROWS = 1024

_GIGABYTE = 2**30


def memory_budget() -> int:
    """Bytes that one fit or predict may use for temporaries, beyond its data and its linear system.

    The environment variable ``SKGN_MEMORY_BUDGET_MB`` (megabytes, default 256) is the one place to change it. It is
    read at each call, so that worker processes inherit it.
    """
    text = os.environ.get("SKGN_MEMORY_BUDGET_MB", "256")
    try:
        megabytes = float(text)
    except ValueError:
        megabytes = float("nan")
    if not 0 < megabytes < float("inf"):
        raise ValueError(f"SKGN_MEMORY_BUDGET_MB must be a positive number of megabytes, got {text!r}.")
    return int(megabytes * 2**20)


def chunks(n: int, bytes_per_row: int, device: torch.device, most: int = CPU_CHUNK_ROWS) -> list[slice]:
    """Split n rows into nearly equal consecutive slices whose temporaries stay within the memory budget.

    On a CPU a slice holds at most ``most`` rows, so that it stays in cache.
    """
    rows = max(1, memory_budget() // max(1, bytes_per_row))
    if device.type == "cpu":
        rows = min(rows, most)
    count = max(1, -(-n // rows))
    edges = [n * i // count for i in range(count + 1)]
    return [slice(a, b) for a, b in itertools.pairwise(edges)]


def resolve_device(device: str, flops: float = 0.0) -> torch.device:
    """Turn the ``device`` parameter into a torch device that exists.

    Parameters
    ----------
    device : str
        ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:<index>"`` or ``"mps"``.
    flops : float, default=0
        Estimated multiply-adds of one iteration. ``"auto"`` takes CUDA only if that pays.

    Raises
    ------
    ValueError
        If the device does not exist; the message lists the devices that do.
    """
    present = ["cpu"]
    if torch.cuda.is_available():
        present += ["cuda", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
    if torch.backends.mps.is_available():
        present.append("mps")
    if device == "auto":
        return torch.device("cuda" if "cuda" in present and flops >= _CUDA_WORTHWHILE_FLOPS else "cpu")
    if device not in present:
        raise ValueError(f"device={written(device)} is not available; 'auto' or one of {present} is.")
    return torch.device(device)


def linear_algebra_device(device: torch.device) -> torch.device:
    """Device for float64 systems: the device itself, or the CPU if the device has no float64 (MPS)."""
    return torch.device("cpu") if device.type == "mps" else device


def solver_tensor(values: np.ndarray, device: torch.device) -> Tensor:
    """Copy to float64 on the device where linear systems are solved."""
    return torch.tensor(values, dtype=torch.float64, device=linear_algebra_device(device))


def sum_float64(values: Tensor) -> Tensor:
    """Sum in float64. In float32 the total over a million samples loses the digits that decide a step."""
    if values.device.type == "mps":
        values = values.cpu()
    return values.sum(dtype=torch.float64)


def in_dtype(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Convert to a float type, or leave values (n, ...) as they are where the largest of a column is out of range."""
    largest = np.abs(values).max(axis=0, initial=0.0)
    if ((largest > np.finfo(dtype).max) | ((0 < largest) & (largest < np.finfo(dtype).tiny))).any():
        return values
    return values.astype(dtype, copy=False)


def like(values: Any, array: Any) -> Any:
    """Return an array as it is, or as a tensor where the values are one."""
    return array if isinstance(values, np.ndarray) or not isinstance(array, np.ndarray) else values.new_tensor(array)


def gigabytes(size: float) -> str:
    """Format a number of bytes for a message."""
    return f"{size / _GIGABYTE:.3g} GB"


def written(value: object) -> str:
    """Write the value of a parameter for a message: a string or a number of NumPy as one of Python."""
    return repr(value.item() if isinstance(value, np.generic) else value)


def flushes_denormals() -> bool:
    """Whether this thread takes denormal numbers, those below the smallest normal one, for 0."""
    denormal = math.ldexp(1.0, -1074)
    return denormal + denormal == 0.0


@contextlib.contextmanager
def denormals_flushed(flushed: bool = True) -> Iterator[None]:
    """Take denormal numbers for 0 on this thread, or take them as they are.

    Processors take a hundred times as long for them. In float32 they begin at 1e-38. A hidden layer that the evidence
    switches off has curvatures of 1e-24, and products of these would take most of the time of a factorisation.
    """
    before = flushes_denormals()
    torch.set_flush_denormal(flushed)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)
