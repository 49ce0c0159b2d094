"""Limits that end a fit before it has converged: its time, an interrupt by the user, or a callback."""

from __future__ import annotations

import contextlib
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType

from .status import Status

__all__ = ["Limits"]


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
        self._end, self._n_workers = time.perf_counter() + max_time, n_workers
        self._round_end, self._waiting = self._end, 1
        self._ended_by: Status | None = None
        self._lock = threading.Lock()

    @property
    def over(self) -> bool:
        """Whether the fit has to end now."""
        return self._ended_by is not None or time.perf_counter() >= self._end

    @property
    def reason(self) -> Status:
        """Status of a training that was cut short."""
        return self._ended_by or Status.MAX_TIME

    def begin_round(self, n_trainings: int, part: float) -> None:
        """Give the fraction ``part`` of the remaining time to the next ``n_trainings``."""
        now = time.perf_counter()
        self._round_end, self._waiting = now + part * (self._end - now), n_trainings

    def begin_training(self) -> Callable[[], bool]:
        """Function that tells whether a training that begins now has to pause.

        Trainings that are still to come get as much time as this one.
        """
        with self._lock:
            turns = math.ceil(max(1, self._waiting) / self._n_workers)
            self._waiting -= 1
        now = time.perf_counter()
        end = now + (self._round_end - now) / turns
        return lambda: self._ended_by is not None or time.perf_counter() >= end

    def interrupt(self) -> None:
        """End the fit as soon as every training is between two iterations."""
        self._ended_by = Status.INTERRUPTED

    def stop(self) -> None:
        """End the fit in the same way, because a callback asks for it."""
        self._ended_by = self._ended_by or Status.CALLBACK

    @contextlib.contextmanager
    def interruptible(self) -> Iterator[None]:
        """Let the first Ctrl-C end the fit and keep its results; a second Ctrl-C is an ordinary KeyboardInterrupt.

        This needs Python's own handler and the main thread, because signals arrive nowhere else.
        """
        main = threading.current_thread() is threading.main_thread()
        if not main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
            yield
            return

        def handle(number: int, frame: FrameType | None) -> None:
            if self._ended_by is Status.INTERRUPTED:
                signal.default_int_handler(number, frame)
            self.interrupt()

        signal.signal(signal.SIGINT, handle)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, signal.default_int_handler)
