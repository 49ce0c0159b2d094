"""Limits that end a fit before it has converged: its time, an interrupt by the user, or a callback.

What a step will take is estimated from its multiply-adds. Their pace is first that of a product of matrices, and then
that of the last iterations.
"""

from __future__ import annotations

import atexit
import contextlib
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType

import torch

from .status import Status
from .threads import torch_threads

__all__ = ["Limits"]

#: Rows of the square matrices whose products set the first pace, and how many of them: the fastest counts.
_PRODUCT_ROWS, _PRODUCTS = 300, 5

#: Seconds that the end of a process waits, at the most, for fits that nobody waits for.
_PATIENCE = 10.0


class Limits:
    """The time of a fit, shared out among its trainings, and whether the fit was interrupted or stopped.

    Parameters
    ----------
    max_time : float
        Seconds from now on. Infinity sets no limit.
    n_workers : int
        Number of trainings that run at a time.
    """

    def __init__(self, max_time: float, n_workers: int) -> None:
        self._end, self.n_workers = time.perf_counter() + max_time, n_workers
        self._round_end, self._waiting, self._kept = self._end, 1, 0.0
        self._ended_by: Status | None = None
        self._lock = threading.Lock()
        self._pace = 0.0 if math.isinf(max_time) else _pace_of_products()

    @property
    def left(self) -> float:
        """Seconds that are left for training."""
        return self._end - self._kept - time.perf_counter()

    @property
    def over(self) -> bool:
        """Whether the fit has to end now."""
        return self._ended_by is not None or self.left <= 0

    @property
    def interrupted(self) -> bool:
        """Whether the user has interrupted the fit."""
        return self._ended_by is Status.INTERRUPTED

    @property
    def reason(self) -> Status:
        """Status of a training that was cut short."""
        return self._ended_by or Status.MAX_TIME

    def allow(self, flops: float) -> bool:
        """Whether there is time for so many multiply-adds."""
        return self._pace * flops <= self.left

    def keep(self, flops: float) -> None:
        """Keep the time of so many multiply-adds for what follows the training."""
        self._kept = self._pace * flops / self.n_workers

    def took(self, seconds: float, flops: float) -> None:
        """Learn the pace from work that was done; an unlimited fit needs none."""
        if self._pace > 0 and flops > 0:
            self._pace = seconds / flops

    def begin_round(self, n_trainings: int, part: float) -> None:
        """Give the fraction ``part`` of the remaining time to the next ``n_trainings``."""
        now = time.perf_counter()
        self._round_end, self._waiting = now + part * (self._end - self._kept - now), n_trainings

    def begin_training(self) -> Callable[[float], bool]:
        """Function that tells whether a training that begins now has to pause before its next multiply-adds.

        Trainings that are still to come get as much time as this one.
        """
        with self._lock:
            turns = math.ceil(max(1, self._waiting) / self.n_workers)
            self._waiting -= 1
        now = time.perf_counter()
        end = now + (self._round_end - now) / turns
        return lambda flops: self._ended_by is not None or time.perf_counter() + self._pace * flops >= end

    def interrupt(self) -> None:
        """End the fit as soon as every training is between two iterations."""
        self._ended_by = Status.INTERRUPTED

    def go_on(self) -> None:
        """Train for another purpose, with the time that is left, though a callback has ended the training before."""
        if self._ended_by is Status.CALLBACK:
            self._ended_by = None

    def stop(self) -> None:
        """End the fit in the same way, because a callback asks for it."""
        self._ended_by = self._ended_by or Status.CALLBACK

    @contextlib.contextmanager
    def interruptible(self) -> Iterator[None]:
        """Let the first Ctrl-C end the trainings; a second Ctrl-C is an ordinary KeyboardInterrupt.

        Whoever keeps the results then raises the first one. This needs Python's own handler and the main thread,
        because signals arrive nowhere else. In other threads the end of the process ends the trainings.
        """
        thread = threading.current_thread()
        if thread is not threading.main_thread():
            _ELSEWHERE[self] = thread
            try:
                yield
            finally:
                del _ELSEWHERE[self]
            return
        if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
            yield
            return

        def handle(number: int, frame: FrameType | None) -> None:
            if self.interrupted:
                signal.default_int_handler(number, frame)
            self.interrupt()

        signal.signal(signal.SIGINT, handle)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, signal.default_int_handler)


#: Limits of the fits that are under way in other threads than the main one.
_ELSEWHERE: dict[Limits, threading.Thread] = {}


def _end_elsewhere() -> None:
    """End fits that nobody waits for, such as those in joblib's threads after an error or Ctrl-C.

    A process that ends while one of them is within torch aborts.
    """
    for limits in list(_ELSEWHERE):
        limits.interrupt()
    end = time.perf_counter() + _PATIENCE
    while any(thread.is_alive() for thread in list(_ELSEWHERE.values())) and time.perf_counter() < end:
        time.sleep(0.01)


atexit.register(_end_elsewhere)


def _pace_of_products() -> float:
    """Seconds of a multiply-add in a product of matrices, on one thread."""
    A, seconds = torch.ones(_PRODUCT_ROWS, _PRODUCT_ROWS, dtype=torch.float64, device="cpu"), []
    with torch_threads(0.0):
        for _ in range(_PRODUCTS):
            began = time.perf_counter()
            A @ A
            seconds.append(time.perf_counter() - began)
    return min(seconds) / _PRODUCT_ROWS**3
