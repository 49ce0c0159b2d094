"""Threads of torch and of BLAS: as many as pay, and no more.

torch multiplies large matrices, for which a fit takes the threads that there are. What NumPy and SciPy decompose in a
fit is small. There a second thread waits longer for its part than the part takes, and keeps a processor busy while it
waits.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import torch
from threadpoolctl import ThreadpoolController

__all__ = ["one_blas_thread", "thread_pools", "threads_here", "torch_threads"]

#: From so many multiply-adds an iteration on, torch takes all its threads. They wait for each other after each product
#: of matrices. Where one of them has no core to itself, that is a time slice, and products have to take longer.
_MULTITHREADED_FLOPS = 5e9

#: Folders of the libraries that come with torch.
_OF_TORCH = frozenset({"torch", "torch.libs"})

#: Whether torch may have started threads for a fit or a prediction.
_has_threads = False


class _OneThreadEach:
    """Give each of the threads inside one torch thread. The last one to leave restores torch as the first one found it.

    ``torch.set_num_threads`` acts on the calling thread, and on all threads that have not asked for their number yet. A
    thread that first asks while another one is inside would be told 1, and would restore 1 when it leaves.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._outside_number = 1

    def __enter__(self) -> None:
        with self._lock:
            # Ask in any case: torch ignores a number that is set in a thread that has never asked for it.
            number = torch.get_num_threads()
            if self._inside == 0:
                self._outside_number = number
            self._inside += 1
            torch.set_num_threads(1)

    def __exit__(self, *exception: object) -> None:
        with self._lock:
            self._inside -= 1
            torch.set_num_threads(self._outside_number)


_ONE_THREAD_EACH = _OneThreadEach()


def threads_here() -> int:
    """Threads that a fit may take: those of torch in the main thread, or else one, as other fits probably run."""
    return torch.get_num_threads() if threading.current_thread() is threading.main_thread() else 1


@contextlib.contextmanager
def torch_threads(flops: float) -> Iterator[None]:
    """Choose the number of torch threads for an iteration of ``flops`` multiply-adds; restore it afterwards.

    Small work gets one thread; results are then bitwise the same on any number of cores. Outside the main thread there
    is also one, because other fits probably run at the same time. Joblib, dask and ray limit the threads of their
    worker processes, which counts for the main thread there. Nobody limits the threads in a pool.
    """
    if threading.current_thread() is not threading.main_thread():
        with _ONE_THREAD_EACH:
            yield
        return
    global _has_threads
    before = torch.get_num_threads()
    _has_threads |= before > 1
    torch.set_num_threads(1 if flops < _MULTITHREADED_FLOPS else before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _limit_fork() -> None:
    """Give a fork one thread: it is a copy without the other ones, for which torch would wait forever."""
    if _has_threads:
        torch.set_num_threads(1)


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_limit_fork)


@cache
def thread_pools() -> ThreadpoolController:
    """Find the libraries of the process that have threads: once, as that takes milliseconds."""
    return ThreadpoolController()


def _blas() -> ThreadpoolController:
    """Find the BLAS of NumPy and SciPy. On some processors torch brings its own, which keeps its threads."""
    pools = thread_pools().select(user_api="blas")
    paths = [library["filepath"] for library in pools.info()]
    return pools.select(filepath=[path for path in paths if _OF_TORCH.isdisjoint(Path(path).parts)])


@contextlib.contextmanager
def one_blas_thread() -> Iterator[None]:
    """Give NumPy and SciPy one thread, and afterwards what they had.

    The number is that of the process. Fits that overlap in several threads would restore what others have set, so only
    the main thread changes it.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    with _blas().limit(limits=1):
        yield
