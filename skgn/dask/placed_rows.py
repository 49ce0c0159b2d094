"""Rows that stay on their workers, as the steps of a fit see them: raw, and merged with encoded targets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

import numpy as np

from ..backend import gigabytes, resolve_device
from ..candidates import Start
from ..cells import check_target
from ..choices import Choices
from ..free_memory import available_memory
from ..inputs import Table
from ..losses import Loss
from ..memory import system_memory
from ..network import Network
from ..primal import Primal
from ..rows import Raw, Rows, TrainingRows
from ..target import Target
from ..workers import members_at_once
from .objective import DistributedProblem, numbers_per_iteration
from .rows import Merged, ShardSummary, merge, scale
from .shards import Shards
from .statistics import fit_scalers, fit_target_scaler, largest_inputs

__all__ = ["PlacedRaw", "PlacedRows", "bytes_per_iteration"]

_BYTES = 8


def bytes_per_iteration(network: Network, loss: Loss, estimates_noise: bool) -> int:
    """Count the bytes that a worker sends in an iteration whose first step is accepted."""
    return _BYTES * numbers_per_iteration(network, loss, estimates_noise)


def _count(rows: Merged) -> np.ndarray:
    return np.array([len(rows.X), rows.weight.sum()])


@dataclass(frozen=True)
class PlacedRaw:
    """Checked rows as they came, in shards with a summary of each."""

    shards: Shards
    summaries: Sequence[ShardSummary]

    @property
    def y(self) -> np.ndarray:
        """A small y that tells everything about the target, except for its rows."""
        shape = self.summaries[0].y_shape
        labels = [summary.labels for summary in self.summaries if summary.labels is not None]
        if labels:
            labels = [part for part in labels if len(part)]
            # Partitions may have labels of other types.
            check_target(np.concatenate([part.astype(object) for part in labels]), False, " of the labels")
            return np.unique(np.concatenate(labels))
        return np.repeat([[0.0], [1.0]], shape[0], axis=1) if shape else np.zeros(1)

    @property
    def observations(self) -> tuple[int, float]:
        """Number of the rows of positive weight, and the sum of their weights."""
        return sum(s.n_rows for s in self.summaries), sum(s.total_weight for s in self.summaries)

    def class_totals(self, target: Target) -> np.ndarray:
        return np.asarray(self.shards.sum(partial(Raw.class_totals, target=target)))

    def in_time(self, table: Table, target: Target, choices: Choices) -> PlacedRaw:
        """Return all rows: each worker merges and scales its own."""
        return self

    def merge(self, target: Target) -> PlacedRows:
        merged = self.shards.map(partial(merge, target=target))
        n, total = merged.sum(_count).tolist()
        return PlacedRows(merged, int(n), total)


@dataclass(frozen=True)
class PlacedRows(TrainingRows):
    """Merged rows in shards."""

    in_memory: ClassVar[bool] = False

    shards: Shards
    n: int
    total: float

    @property
    def n_rows(self) -> int:
        return self.n

    @property
    def total_weight(self) -> float:
        return self.total

    def fit(
        self, table: Table, target: Target, choices: Choices, target_codes: bool
    ) -> tuple[Table, Target, PlacedRows]:
        target = target.with_scaler(lambda loss: fit_target_scaler(self.shards))
        names = choices.scalings(self.n, target.training_loss())
        scalings = fit_scalers(self.shards, names, choices.paths)
        return replace(table, scalings=scalings), target, self

    def largest_inputs(self) -> np.ndarray:
        return largest_inputs(self.shards)

    def problem(
        self, table: Table, target: Target, starts: Sequence[Start], choices: Choices, held_out: Rows | None = None
    ) -> DistributedProblem:
        loss, k = target.training_loss(), target.n_outputs
        largest = max((start.network for start in starts), key=lambda network: network.n_weights)
        _check_memory(largest.n_weights, len(starts), choices.parameters.n_jobs)
        nothing = np.empty((0, k))
        problem = DistributedProblem(
            scaled={},
            Y=nothing,
            sample_weight=nothing,
            validation=None,
            solver=Primal.name,
            batch_size=None,
            device=resolve_device("cpu"),
            shards=self.shards.map(partial(scale, scalers=dict(table.scalings), encode=target.transform)),
            size=(self.n, k),
            total_weight=self.total,
            **choices.how_to_train(loss),
        )
        if problem.settings.verbose:
            sent = bytes_per_iteration(largest, loss, not choices.fixed_l2)
            problem.settings.report(
                f"{self.shards.n_workers} workers with {self.n} distinct rows in {len(starts)} fits of up to "
                f"{largest.n_weights} weights: each worker sends {sent // _BYTES} numbers, {sent} bytes, an iteration "
                f"and receives {2 * largest.n_weights}"
            )
        return problem


def _check_memory(n_weights: int, candidates: int, n_jobs: int | None) -> None:
    """Refuse a system that does not fit here; other solvers would need the rows here too."""
    need = system_memory(n_weights, candidates, min(candidates, members_at_once(n_jobs)))
    available = available_memory(resolve_device("cpu"))
    if need > available:
        raise ValueError(
            f"The systems of {candidates} networks of {n_weights} weights need {gigabytes(need)} in this process, "
            f"but {gigabytes(available)} are available: use fewer hidden units or a smaller n_estimators."
        )
