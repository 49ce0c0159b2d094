"""A data set in shards that stay on their workers, functions of each shard, and sums of their values.

A shard is the data of one thread of a worker. Every task on a shard is pinned to its worker, so that no scheduler moves
it. Tasks are pure functions of the shard and of what the driver sends. If a worker is lost, other workers make its
shards again from the original collections, and the interrupted round is repeated. The order of the additions is fixed
when the shards are first placed. So a lost worker does not change a bit of any sum.
"""

from __future__ import annotations

import functools
import itertools
import operator
import threading
from collections.abc import Callable, Sequence
from typing import Any

import dask
import torch
from distributed import Client, Future, TimeoutError, wait
from distributed.protocol import pickle

from ..threads import torch_threads
from .cluster import PATIENCE, Cluster

__all__ = ["Blocks", "Shards"]

#: Attempts at one round, each ended by the loss of a worker.
_MOST_REPEATS = 10

#: Bytes up to which a function is sent with every task. A larger one goes to one worker, from which others fetch it.
_SMALL = 100_000

#: So many sums of workers come to the driver. More are added up in groups of this size first, on the workers.
_TOGETHER = 4

#: Blocks of a shard: one tuple of blocks of X, y and perhaps weights for each partition.
Blocks = Sequence[tuple[Any, ...]]


def _hand_on(message: bytes) -> bytes:
    return message


def _assemble(function: Callable[[Blocks], Any], width: int, *flat: Any) -> Any:
    return function([flat[i : i + width] for i in range(0, len(flat), width)])


def _call(message: bytes, *values: Any) -> Any:
    """Call the pickled function with values that are here, with one thread of torch for each thread of a worker."""
    with torch_threads(0.0), torch.no_grad():
        return pickle.loads(message)(*values)


def _add(*values: Any) -> Any:
    """Sum the values that are there; a shard without rows has no value."""
    present = [value for value in values if value is not None]
    return functools.reduce(operator.add, present) if present else None


class Shards:
    """One value for each shard, all of one kind, each on the worker of its shard.

    Parameters
    ----------
    cluster : Cluster
    make : callable
        Turns the blocks of a shard into its value.
    sources : sequence of Blocks
        Delayed blocks of each shard, from which it can be made again.
    places : sequence of str
        Addresses of the workers, one for each shard; shards of a worker stand together.
    blocks : sequence of Blocks
        The same blocks computed, as futures.
    """

    def __init__(
        self,
        cluster: Cluster,
        make: Callable[[Blocks], Any],
        sources: Sequence[Blocks],
        places: Sequence[str],
        blocks: Sequence[Blocks],
    ) -> None:
        self._cluster, self._make, self._sources, self._places = cluster, make, sources, list(places)
        self._recipe: tuple[Callable[..., Any], ...] = ()
        self._losses, self._lock = 0, threading.Lock()
        self._teams = [list(team) for _, team in itertools.groupby(range(len(places)), places.__getitem__)]
        self._values: list[Future] = []
        for i, parts in enumerate(blocks):
            self._values.append(self._submit(i, _assemble, make, len(parts[0]), *itertools.chain(*parts)))

    @property
    def _client(self) -> Client:
        return self._cluster.client

    @property
    def n_workers(self) -> int:
        """Number of workers that the shards were first placed on."""
        return len(self._teams)

    def map(self, function: Callable[[Any], Any]) -> Shards:
        """Compute the function's value for each shard on its worker, and keep it there."""
        result = Shards(self._cluster, self._make, self._sources, self._places, [])
        result._teams, result._recipe = self._teams, (*self._recipe, function)
        message = self._send(function)
        result._values = [result._submit(i, _call, message, value) for i, value in enumerate(self._values)]
        return result

    def collect(self, function: Callable[[Any], Any]) -> list[Any]:
        """Compute the function's value for each shard and bring it to the driver; the values should be small."""

        def submit() -> list[Future]:
            message = self._send(function)
            return [self._submit(i, _call, message, value) for i, value in enumerate(self._values)]

        return self._finish(submit, self)

    def sum(self, function: Callable[..., Any], *others: Shards) -> Any:
        """Sum the function over the shards and over the shards of ``others``.

        Each worker first adds up the values of its own shards, and the driver those of the last groups of workers.
        """

        def submit() -> list[Future]:
            message = self._send(function)
            parts = [
                self._submit(i, _call, message, value, *(other._values[i] for other in others))
                for i, value in enumerate(self._values)
            ]
            level = [
                self._submit(team[0], _add, *(parts[i] for i in team)) if len(team) > 1 else parts[team[0]]
                for team in self._teams
            ]
            while len(level) > _TOGETHER:
                groups = [level[i : i + _TOGETHER] for i in range(0, len(level), _TOGETHER)]
                level = [self._client.submit(_add, *group, pure=False) for group in groups]
            return level

        return _add(*self._finish(submit, self, *others))

    def _submit(self, i: int, function: Callable[..., Any], *arguments: Any) -> Future:
        return self._client.submit(function, *arguments, workers=[self._places[i]], pure=False)

    def _send(self, function: Callable[..., Any]) -> bytes | Future:
        """Pickle a function for tasks. If it is large, send it once to one worker, from which the others fetch.

        If that one is lost, the scheduler makes the message again anywhere. Dask's warning, which is silenced, is about
        data that are sent with every task.
        """
        message: bytes = pickle.dumps(function)
        if len(message) <= _SMALL:
            return message
        with dask.config.set({"distributed.admin.large-graph-warning-threshold": "1 TiB"}):
            return self._client.submit(_hand_on, message, pure=False)

    def _finish(self, submit: Callable[[], list[Future]], *holders: Shards) -> list[Any]:
        """Return the results of the submitted tasks. If a worker is lost, make its shards again and submit again."""
        for _ in range(_MOST_REPEATS):
            patience, losses = PATIENCE, [holder._losses for holder in holders]
            futures = submit()
            while True:
                try:
                    wait(futures, timeout=PATIENCE)
                    # Longer each time: a large result must not be interrupted for ever.
                    patience *= 2
                    return [future.result(timeout=patience) for future in futures]
                except TimeoutError:
                    for future in futures:
                        if future.status == "error":
                            future.result()  # raises what the task has raised
                    for holder in holders:
                        holder._replace_lost()
                    # Another thread may have replaced what this one waits for.
                    if losses != [holder._losses for holder in holders]:
                        break
        raise RuntimeError(
            f"Workers were lost in {_MOST_REPEATS} attempts at the same sums; their logs may tell why, for example "
            "that they ran out of memory."
        )

    def _replace_lost(self) -> None:
        """Make the shards of lost workers again on other workers."""
        with self._lock:
            present = self._cluster.workers()
            lost = [i for i, place in enumerate(self._places) if place not in present]
            for i in lost:
                kept = [place for place in self._places if place in present]
                self._places[i] = min(present, key=lambda place: (kept.count(place), place))
                self._values[i] = self._make_again(i)
            self._losses += len(lost)

    def _make_again(self, i: int) -> Future:
        parts = self._sources[i]
        task = dask.delayed(_assemble, pure=False)(self._make, len(parts[0]), *itertools.chain(*parts))
        value = self._client.compute(task, workers=[self._places[i]])
        for function in self._recipe:
            value = self._submit(i, _call, self._send(function), value)
        return value
