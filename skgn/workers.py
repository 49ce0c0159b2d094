"""Threads in which members train side by side; all of them have ended before a fit returns or raises."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import joblib.parallel

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Workers", "members_at_once"]

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def members_at_once(n_jobs: int | None, left_open: int = 1) -> int:
    """Number of members that train at once for ``n_jobs``, in threads, whatever joblib backend is around the fit.

    Where neither tells of more than one, ``n_jobs=None`` is the number ``left_open``. ``joblib.effective_n_jobs`` would
    ask the backend; within dask it counts all cores of the cluster.
    """
    backend, default = joblib.parallel.get_active_backend(require="sharedmem")
    if n_jobs is not None:
        return int(backend.effective_n_jobs(n_jobs))
    around = int(backend.effective_n_jobs(default))
    return around if around > 1 else left_open


class Workers:
    """Context in which a function is called side by side; no thread outlives it.

    The pool of joblib leaves its threads to themselves after an error. A process that ends while one of them is within
    torch aborts.

    Parameters
    ----------
    count : int
        Number of threads; 1 stands for the thread of the caller.
    stop : callable
        Asks the calls that run to end soon, and those to come not to begin. It is called after an error or an
        interrupt, before the wait for the threads.
    """

    def __init__(self, count: int, stop: Callable[[], None]) -> None:
        self._pool = ThreadPoolExecutor(count) if count > 1 else None
        self._stop = stop

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self._stop()
        if self._pool is not None:
            _join(self._pool)

    def map(self, function: Callable[[_Item], _Result], items: Iterable[_Item]) -> list[_Result]:
        """Call the function with each item, a single one in the thread of the caller; return the results in order."""
        items = list(items)
        if self._pool is None or len(items) == 1:
            return [function(item) for item in items]
        return list(self._pool.map(partial(self._call, function), items))

    def _call(self, function: Callable[[_Item], _Result], item: _Item) -> _Result:
        try:
            return function(item)
        except BaseException:
            # At once: the caller waits for earlier calls before it sees the error.
            self._stop()
            raise


def _join(pool: ThreadPoolExecutor) -> None:
    """Wait until all threads have ended; an interrupt meanwhile comes out afterwards."""
    interrupt: KeyboardInterrupt | None = None
    while True:
        try:
            pool.shutdown(cancel_futures=True)
            break
        except KeyboardInterrupt as error:
            interrupt = error
    if interrupt is not None:
        raise interrupt
