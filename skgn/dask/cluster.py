"""The cluster that a fit runs on: its workers, and what becomes of the fit where these or the scheduler are gone."""

from __future__ import annotations

import contextlib
import math
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import dask
from dask.utils import parse_timedelta
from distributed import Client, Future, TimeoutError, wait

__all__ = ["PATIENCE", "Cluster", "connected"]

#: Seconds after which a wait for results asks whether there are workers.
PATIENCE = 0.5

#: Seconds without a heartbeat after which a worker hangs, if the time of the fit is over too.
_SILENCE = 30.0

#: Seconds that a fit waits for a first worker, unless dask's setting says another time.
_ABSENCE, _ABSENCE_SETTING = 300.0, "distributed.scheduler.no-workers-timeout"

#: The status of a client that has a scheduler.
_CONNECTED = "running"


class Cluster:
    """The workers of a client, for a fit that may take so long.

    Parameters
    ----------
    client : distributed.Client
    max_time : float, default=None
        Seconds from now on after which the fit does not wait for a worker where there is none, or one that hangs.
    """

    def __init__(self, client: Client, max_time: float | None = None) -> None:
        self.client, self._max_time = client, max_time
        self._end = math.inf if max_time is None else time.monotonic() + max_time
        # Threads of a fit wait together.
        self._lock, self._patient_until = threading.Lock(), math.inf

    def workers(self) -> dict[str, int]:
        """Addresses of the workers and the number of threads of each. Where there is none, wait for one."""
        while True:
            if self.client.status != _CONNECTED:
                raise RuntimeError(_LOST)
            present: dict[str, int] = self.client.nthreads()
            self._check_heartbeats()
            with self._lock:
                if present:
                    self._patient_until = math.inf
                    return present
                self._lose_patience()
            time.sleep(PATIENCE)

    def wait(self, futures: Sequence[Future]) -> None:
        """Wait until all futures have ended, as long as there are workers."""
        while True:
            try:
                wait(futures, timeout=PATIENCE)
                return
            except TimeoutError:
                self.workers()

    def results(self, futures: Sequence[Future]) -> list[Any]:
        """Wait for the results, as long as there are workers. A result that is lost on its way here is made again."""
        patience = PATIENCE
        while True:
            self.wait(futures)
            # Longer each time: a large result must not be interrupted for ever.
            patience *= 2
            try:
                return [future.result(timeout=patience) for future in futures]
            except TimeoutError:
                self.workers()

    def _check_heartbeats(self) -> None:
        """Raise an error when time is over and a worker hangs. Before, it may come back, or the scheduler drops it."""
        if time.monotonic() < self._end:
            return
        silent = {place: since for place, since in self.client.run_on_scheduler(_silence).items() if since > _SILENCE}
        if silent:
            raise RuntimeError(
                f"The dask workers {', '.join(sorted(silent))} have not been heard of for {max(silent.values()):.0f} "
                f"s, and max_time={self._max_time:g} is over: look into their logs, and start others in their place."
            )

    def _lose_patience(self) -> None:
        """Warn when there has just been a worker, and raise an error when there has not been one for too long."""
        now, absence = time.monotonic(), parse_timedelta(dask.config.get(_ABSENCE_SETTING, None)) or _ABSENCE
        if self._patient_until == math.inf:
            self._patient_until = min(self._end, now + absence)
            seconds = max(self._patient_until - now, 0.0)
            warnings.warn(f"The dask cluster has no worker; waiting up to {seconds:.0f} s for one.", stacklevel=3)
        if now >= self._patient_until:
            limit = f"{_ABSENCE_SETTING} is {absence:g} s"
            if self._patient_until == self._end:
                limit = f"max_time={self._max_time:g}"
            raise RuntimeError(
                f"The dask cluster has no worker, and none has come in time ({limit}): start workers, for example by "
                "cluster.scale, and look into the logs of those that are gone."
            )


def _silence(dask_scheduler: Any) -> dict[str, float]:
    """Seconds since the last heartbeat of each worker, as the scheduler knows it."""
    return {place: time.time() - worker.last_seen for place, worker in dask_scheduler.workers.items()}


_LOST = (
    "The dask client is not connected to a scheduler: the client or its cluster was closed, or the scheduler is gone. "
    "Connect a new distributed.Client, and fit again."
)


@contextlib.contextmanager
def connected(client: Client) -> Iterator[None]:
    """Explain what goes wrong in the block where the client has no scheduler.

    dask then raises errors of many types, even AttributeError. All others go on as they are.
    """
    try:
        yield
    except (ValueError, TypeError):
        raise
    except Exception as error:
        if client.status == _CONNECTED or str(error) == _LOST:
            raise
        raise RuntimeError(_LOST) from error
