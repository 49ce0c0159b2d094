"""What ends a fit before it has converged: its time is used up, the user interrupts it, or a callback stops it."""

from __future__ import annotations

import contextlib
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType

__all__ = ["Limits"]


class Limits:
    """The time that a fit may take, shared out among its trainings, and whether it was interrupted or stopped.

    Parameters
    ----------
    max_time : float
        Seconds from now on; infinity sets no limit.
    n_workers : int
        Trainings that run at a time.
    """

    def __init__(self, max_time: float, n_workers: int) -> None:
        self._end, self._n_workers = time.perf_counter() + max_time, n_workers
        self._round_end, self._waiting = self._end, 1
        self._ended_by: str | None = None
        self._lock = threading.Lock()

    @property
    def over(self) -> bool:
        """Whether the fit has to end now."""
        return self._ended_by is not None or time.perf_counter() >= self._end

    @property
    def reason(self) -> str:
        """The status of a training that was cut short."""
        return self._ended_by or "max_time"

    def begin_round(self, n_trainings: int, part: float) -> None:
        """Give the part of the time that is left to the next ``n_trainings``."""
        now = time.perf_counter()
        self._round_end, self._waiting = now + part * (self._end - now), n_trainings

    def begin_training(self) -> Callable[[], bool]:
        """Whether a training that begins now has to pause: those still to come get as much time as it."""
        with self._lock:
            turns = math.ceil(max(1, self._waiting) / self._n_workers)
            self._waiting -= 1
        now = time.perf_counter()
        end = now + (self._round_end - now) / turns
        return lambda: self._ended_by is not None or time.perf_counter() >= end

    def interrupt(self) -> None:
        """End the fit as soon as every training is between two iterations."""
        self._ended_by = "interrupted"

    def stop(self) -> None:
        """End it so because a callback asks for it."""
        self._ended_by = self._ended_by or "callback"

    @contextlib.contextmanager
    def interruptible(self) -> Iterator[None]:
        """The first Ctrl-C ends the fit, keeping what it has; a second one is an ordinary KeyboardInterrupt.

        Only where Python's own handler is in place, and in the main thread: signals arrive nowhere else.
        """
        main = threading.current_thread() is threading.main_thread()
        if not main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
            yield
            return

        def handle(number: int, frame: FrameType | None) -> None:
            if self._ended_by == "interrupted":
                signal.default_int_handler(number, frame)
            self.interrupt()

        signal.signal(signal.SIGINT, handle)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, signal.default_int_handler)
