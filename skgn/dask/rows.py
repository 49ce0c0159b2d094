"""Dask collections as rows on the workers.

A shard holds the partitions of one thread of a worker; these were on this worker already. Blocks of y and of sample
weights move to the worker of their block of X. After that nothing of the size of the rows travels.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import dask
import dask.array as da
import numpy as np
from dask.utils import is_dataframe_like, is_index_like, is_series_like
from sklearn.utils.multiclass import type_of_target
from sklearn.utils.validation import check_array

from ..cells import (
    check_finite,
    check_labels,
    check_target,
    column_of,
    holds_objects,
    names_of,
    numbers_of,
    truth_values,
)
from ..rows import Raw
from ..scaler import Scaler
from ..scalings import transform_inputs
from ..target import Target
from ..weighted_rows import row_hashes
from .cluster import Cluster
from .shards import Blocks, Shards

__all__ = [
    "Merged",
    "Scaled",
    "ShardSummary",
    "assemble",
    "is_frame",
    "last_hash",
    "merge",
    "place",
    "row_blocks",
    "scale",
    "summarise",
]


#: What errors say of the row that they name.
_ROWS = " of its partition"


class Merged(NamedTuple):
    """Distinct rows of positive weight in the order of their hashes: X (n, d), Y (n, m), weight and hashes (n,)."""

    X: np.ndarray
    Y: np.ndarray
    weight: np.ndarray
    hashes: np.ndarray


class Scaled(NamedTuple):
    """Merged rows in training units; ``scaled`` has their columns in each of the scalings."""

    scaled: dict[str, np.ndarray]
    Y: np.ndarray
    weight: np.ndarray
    hashes: np.ndarray

    def count_until(self, last: int | None) -> int:
        """Count the rows whose hash is at most ``last``; all rows for None."""
        return len(self.Y) if last is None else int(np.searchsorted(self.hashes, np.uint64(last), side="right"))


def is_frame(collection: Any) -> bool:
    """Whether the collection is a dask dataframe, series or index."""
    kinds = is_dataframe_like, is_series_like, is_index_like
    return dask.is_dask_collection(collection) and any(is_kind(collection) for is_kind in kinds)


def _blocks(name: str, collection: Any, like: Any = None) -> list[Any]:
    """Delayed blocks of rows. Arrays with known chunks are cut like ``like``."""
    if is_frame(collection):
        return list(collection.to_delayed())
    if not isinstance(collection, da.Array):
        raise TypeError(
            f"{name} must be a dask array or dataframe, got {type(collection).__name__}: use GNRegressor or "
            "GNClassifier for data in memory, dask.array.from_array, or dask.array.from_delayed."
        )
    if collection.ndim not in (1, 2):
        raise ValueError(f"{name} must have one or two dimensions, got {collection.ndim}.")
    if collection.ndim == 2 and collection.numblocks[1] > 1:
        collection = collection.rechunk({1: -1})
    known = isinstance(like, da.Array) and not np.isnan([*like.chunks[0], *collection.chunks[0]]).any()
    if known and collection.chunks[0] != like.chunks[0] and len(collection) == len(like):
        collection = collection.rechunk({0: like.chunks[0]})
    return list(collection.to_delayed().ravel())


def row_blocks(X: Any, y: Any, sample_weight: Any = None) -> list[tuple[Any, ...]]:
    """Delayed blocks of X, y and the weights, if there are any. Blocks that belong together are together."""
    names = ["X", "y"] if sample_weight is None else ["X", "y", "sample_weight"]
    collections = [X, y, sample_weight][: len(names)]
    columns = [_blocks("X", X), *(_blocks(name, c, X) for name, c in zip(names[1:], collections[1:], strict=True))]
    for name, blocks in zip(names, columns, strict=True):
        if len(blocks) != len(columns[0]):
            raise ValueError(
                f"X and {name} must have the same partitions, got {len(columns[0])} and {len(blocks)}: "
                "repartition or rechunk them alike."
            )
    return list(zip(*columns, strict=True))


def place(cluster: Cluster, blocks: Blocks, make: Callable[[Blocks], Any]) -> Shards:
    """Let dask compute the blocks on the workers of its choice; on each thread of a worker, put them into a shard."""
    flat = cluster.client.compute([block for row in blocks for block in row])
    cluster.wait(flat)
    width = len(blocks[0])
    computed = [tuple(flat[i : i + width]) for i in range(0, len(flat), width)]
    failed = next((future for future in flat if future.status == "error"), None)
    if failed is not None:
        failed.result()
    threads, holders = cluster.workers(), cluster.client.who_has([row[0] for row in computed])
    by_worker: dict[str, list[int]] = {}
    for i, row in enumerate(computed):
        # A block that was lost just now is made again with its shard.
        present = holders.get(row[0].key) or list(threads)
        holder = min(present, key=lambda worker: (len(by_worker.get(worker, [])), worker))
        by_worker.setdefault(holder, []).append(i)
    members = [
        (worker, part.tolist())
        for worker, mine in by_worker.items()
        for part in np.array_split(mine, min(len(mine), threads.get(worker, 1)))
    ]
    places = [worker for worker, _ in members]
    sources, parts = ([[of[i] for i in part] for _, part in members] for of in (blocks, computed))
    return Shards(cluster, make, sources, places, parts)


def assemble(blocks: Blocks, is_classifier: bool) -> Raw:
    """Check the blocks of a shard, and join their rows but those of weight 0."""
    rows = [_check(*block, is_classifier=is_classifier) for block in blocks]
    widths = {(block.X.shape[1], *block.y.shape[1:]) for block in rows}
    if len(widths) > 1:
        raise ValueError(f"All partitions must have the same columns, got {sorted(widths)} of X and y.")
    return Raw(*(np.concatenate(parts) for parts in zip(*rows, strict=True))).present()


def _check(X: Any, y: Any, weight: Any = None, *, is_classifier: bool) -> Raw:
    options: dict[str, Any] = {"dtype": [np.float64, np.float32], "ensure_min_samples": 0, "input_name": "X"}
    names = names_of(X) if hasattr(X, "columns") else [f"x{j}" for j in range(np.shape(X)[-1])]
    if holds_objects(X):
        X = np.column_stack([numbers_of(column_of(X, j), name, _ROWS) for j, name in enumerate(names)])
    numbers = check_array(X, ensure_all_finite=False, **options)
    check_finite(numbers, np.array(names, dtype=object), _ROWS)
    X = check_array(numbers, **options)
    numeric = None if is_classifier else "numeric"
    check_target(y, not is_classifier, _ROWS)
    y = truth_values(y) if is_classifier else y
    y = check_array(y, dtype=numeric, ensure_2d=False, ensure_min_samples=0, input_name="y")
    weight = np.ones(len(X)) if weight is None else weight
    weight = check_array(weight, dtype=np.float64, ensure_2d=False, ensure_min_samples=0, input_name="sample_weight")
    if not len(X) == len(y) == len(weight):
        raise ValueError(
            f"Partitions that belong together have {len(X)} rows of X, {len(y)} of y and {len(weight)} weights: "
            "X, y and sample_weight must be partitioned alike."
        )
    if weight.ndim != 1:
        raise ValueError(f"sample_weight must have one dimension, got {weight.ndim}.")
    if is_classifier and y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if is_classifier and len(y):
        check_labels(y)
        if y.ndim == 2 and type_of_target(y) != "multilabel-indicator":
            raise ValueError("A y of several columns must be a multilabel indicator of zeros and ones.")
    return Raw(X, y if is_classifier else np.asarray(y, dtype=np.float64), weight)


class ShardSummary(NamedTuple):
    """Facts about a shard; only a classification has ``labels``."""

    n_rows: int
    n_features: int
    y_shape: tuple[int, ...]
    total_weight: float
    smallest_weight: float
    labels: np.ndarray | None


def summarise(rows: Raw, is_classifier: bool) -> ShardSummary:
    """Summarise the rows of a shard."""
    labels = np.unique(rows.y) if is_classifier and rows.y.ndim == 1 else None
    total, smallest = float(rows.weight.sum()), float(rows.weight.min(initial=0.0))
    return ShardSummary(len(rows.X), rows.X.shape[1], rows.y.shape[1:], total, smallest, labels)


def merge(rows: Raw, target: Target) -> Merged:
    """Encode targets, and merge equal rows of the shard. Weights are taken as given, for the same factor in all."""
    merged = rows.merge(target, 1.0)
    return Merged(merged.X, merged.Y, merged.weight, row_hashes(np.column_stack([merged.X, merged.Y])))


def scale(rows: Merged, scalers: dict[str, Scaler | None], encode: Callable[[np.ndarray], np.ndarray]) -> Scaled:
    """Scale merged rows to training units."""
    scaled = {name: np.empty((0, 0)) for name in scalers} if len(rows.X) == 0 else transform_inputs(scalers, rows.X)
    return Scaled(scaled, np.ascontiguousarray(encode(rows.Y)), rows.weight, rows.hashes)


def last_hash(shards: Shards, rows: int) -> int | None:
    """The hash of the last one of the first rows, over all shards; None if there are fewer rows."""
    hashes = np.unique(np.concatenate(shards.collect(partial(_first_hashes, rows=rows))))
    return int(hashes[rows - 1]) if len(hashes) >= rows else None


def _first_hashes(scaled: Scaled, rows: int) -> np.ndarray:
    return scaled.hashes[:rows]
