"""Dask collections as rows on the workers, and the statistics of their columns for preprocessing.

A shard holds the partitions of one thread of a worker; these were on this worker already. Blocks of y and of sample
weights move to the worker of their block of X. After that nothing of the size of the rows travels. Quantiles are exact
and found by counting: the driver asks how much weight is at or below some values, and narrows them down.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import dask
import dask.array as da
import numpy as np
from distributed import Client, wait
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import check_array

from ..inputs import transform_inputs
from ..preprocessing import (
    QUARTILES,
    InputScaler,
    Scaler,
    StraightScaler,
    TargetScaler,
    TwoPathScaler,
)
from ..rows import Raw
from ..targets import Target
from ..weighted_rows import magnitude, row_hashes
from .shards import Blocks, Shards

__all__ = [
    "Merged",
    "Scaled",
    "Summary",
    "assemble",
    "fit_input_scaler",
    "fit_target_scaler",
    "is_frame",
    "last_hash",
    "merge",
    "place",
    "row_blocks",
    "scale",
    "summarise",
]

#: Number of values between which a round narrows a quantile down: 8 bits of 64.
_PIVOTS = 255


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
    """Whether ``values`` is a dask dataframe or series."""
    return dask.is_dask_collection(collection) and hasattr(collection, "map_partitions")


def _blocks(name: str, collection: Any, like: Any = None) -> list[Any]:
    """Delayed blocks of rows. Arrays with known chunks are cut like ``like``."""
    if is_frame(collection):
        return list(collection.to_delayed())
    if not isinstance(collection, da.Array):
        raise TypeError(
            f"{name} must be a dask array or dataframe, got {type(collection).__name__}: use GNRegressor or "
            "GNClassifier for data in memory, or dask.array.from_array."
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


def place(client: Client, blocks: Blocks, make: Callable[[Blocks], Any]) -> Shards:
    """Let dask compute the blocks on the workers of its choice; on each thread of a worker, put them into a shard."""
    flat = client.compute([block for row in blocks for block in row])
    wait(flat)
    width = len(blocks[0])
    computed = [tuple(flat[i : i + width]) for i in range(0, len(flat), width)]
    failed = next((future for future in flat if future.status == "error"), None)
    if failed is not None:
        failed.result()
    holders = client.who_has([row[0] for row in computed])
    threads = client.nthreads()
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
    return Shards(client, make, sources, places, parts)


def assemble(blocks: Blocks, is_classifier: bool) -> Raw:
    """Check the blocks of a shard and join them."""
    rows = [_check(*block, is_classifier=is_classifier) for block in blocks]
    widths = {(block.X.shape[1], *block.y.shape[1:]) for block in rows}
    if len(widths) > 1:
        raise ValueError(f"All partitions must have the same columns, got {sorted(widths)} of X and y.")
    return Raw(*(np.concatenate(parts) for parts in zip(*rows, strict=True)))


def _check(X: Any, y: Any, weight: Any = None, *, is_classifier: bool) -> Raw:
    X = check_array(X, dtype=[np.float64, np.float32], ensure_min_samples=0, input_name="X")
    numeric = None if is_classifier else "numeric"
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
    if is_classifier and len(y):
        check_classification_targets(y)
        if y.ndim == 2 and y.shape[1] == 1:
            y = y[:, 0]
        if y.ndim == 2 and type_of_target(y) != "multilabel-indicator":
            raise ValueError("A y of several columns must be a multilabel indicator of zeros and ones.")
    return Raw(X, y if is_classifier else np.asarray(y, dtype=np.float64), weight)


class Summary(NamedTuple):
    """Facts about a shard: ``n_present`` rows have a positive weight, and only a classification has ``labels``."""

    n_rows: int
    n_present: int
    n_features: int
    y_shape: tuple[int, ...]
    total_weight: float
    smallest_weight: float
    labels: np.ndarray | None


def summarise(rows: Raw, is_classifier: bool) -> Summary:
    """Summarise the rows of a shard."""
    labels = np.unique(rows.y) if is_classifier and rows.y.ndim == 1 else None
    n_present, smallest = int((rows.weight > 0).sum()), float(rows.weight.min(initial=0.0))
    total = float(rows.weight.sum())
    return Summary(len(rows.X), n_present, rows.X.shape[1], rows.y.shape[1:], total, smallest, labels)


def merge(rows: Raw, target: Target, class_totals: np.ndarray | None) -> Merged:
    """Encode targets, weigh classes by their totals over all shards, and merge equal rows of the shard."""
    merged = rows.merge(target, class_totals)
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


def _extremes(rows: Merged) -> np.ndarray | None:
    """Largest inputs and largest negated inputs of the columns, (2, d)."""
    return np.stack([rows.X.max(axis=0), (-rows.X).max(axis=0)]) if len(rows.X) else None


def _largest_targets(rows: Merged) -> np.ndarray | None:
    return np.abs(rows.Y).max(axis=0) if len(rows.Y) else None


def _largest(shards: Shards, function: Callable[[Merged], np.ndarray | None]) -> np.ndarray:
    return np.max([value for value in shards.collect(function) if value is not None], axis=0)


def fit_target_scaler(shards: Shards) -> TargetScaler:
    """Fit a target scaler to all rows, as :meth:`~skgn.preprocessing.TargetScaler.fit` does."""
    unit = magnitude(_largest(shards, _largest_targets))
    return TargetScaler.of_statistics(unit, *_moments(shards, "Y", unit))


def _moments(shards: Shards, name: str, unit: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute :func:`~skgn.weighted_rows.moments` of the columns of X or Y, by ``name``, in units of ``unit``."""
    power_sum = partial(_power_sum, name=name, unit=unit)
    zero = np.zeros_like(unit)
    weight = shards.sum(partial(power_sum, mean=zero, power=0))
    mean = shards.sum(partial(power_sum, mean=zero, power=1)) / weight
    return mean, shards.sum(partial(power_sum, mean=mean, power=2)) / weight


def _power_sum(rows: Merged, name: str, unit: np.ndarray, mean: np.ndarray, power: int) -> np.ndarray:
    return rows.weight @ (getattr(rows, name) / unit - mean) ** power


def fit_input_scaler(shards: Shards, paths: str) -> Scaler:
    """Fit the scaling with this name in :data:`~skgn.preprocessing.ROBUST` to all rows."""
    highest, negated = _largest(shards, _extremes)
    unit = magnitude(np.maximum(np.abs(highest), np.abs(negated)))
    highest, lowest = highest / unit, -negated / unit

    def squashed() -> InputScaler:
        return InputScaler.of_statistics(unit, _quantiles(shards, unit, lowest, highest), lowest, highest)

    def straight() -> StraightScaler:
        return StraightScaler.of_statistics(unit, *_moments(shards, "X", unit), lowest, highest)

    if paths == "both":
        return TwoPathScaler(squashed(), straight())
    return squashed() if paths == "hidden" else straight()


class _Sorted(NamedTuple):
    """Sorted values of each column, as ordered integers (d, n), and the weight up to each value (d, n + 1)."""

    values: np.ndarray
    cumulative: np.ndarray


def _ordered(values: np.ndarray) -> np.ndarray:
    """Map floats to unsigned integers in the same order; neighbouring floats of one sign become neighbours."""
    # Adding 0 turns -0.0 into 0.0, which is equal.
    bits = np.ascontiguousarray(values + 0.0).view(np.uint64)
    sign = np.uint64(1 << 63)
    return np.where(bits & sign, ~bits, bits | sign)


def _floats(ordered: np.ndarray) -> np.ndarray:
    """Invert :func:`_ordered`."""
    sign = np.uint64(1 << 63)
    return np.where(ordered & sign, ordered & ~sign, ~ordered).view(np.float64)


def _sort(rows: Merged, unit: np.ndarray) -> _Sorted:
    values = _ordered((rows.X / unit).T)
    order = np.argsort(values, axis=1, kind="stable")
    cumulative = np.zeros((len(unit), len(rows.X) + 1))
    np.cumsum(rows.weight[order], axis=1, out=cumulative[:, 1:])
    return _Sorted(np.take_along_axis(values, order, axis=1), cumulative)


def _weight_until(columns: _Sorted, pivots: np.ndarray) -> np.ndarray:
    """Sum the weight of the values at or below each of the pivots (d, m)."""
    return np.stack(
        [
            cumulative[np.searchsorted(values, pivot, side="right")]
            for values, cumulative, pivot in zip(*columns, pivots, strict=True)
        ]
    )


def _quantiles(shards: Shards, unit: np.ndarray, lowest: np.ndarray, highest: np.ndarray) -> list[np.ndarray]:
    """Compute :func:`~skgn.weighted_rows.weighted_quantile` of the columns, in units of ``unit``, for each quartile.

    A quantile is the mean of two values. Up to the first one there is at least the asked part of the weight, and it is
    the least such value. Up to the second one there is more than that part, and it is the least such value. Both are
    sought for all quartiles and columns at once, within bounds (low, high]. The weight up to high is enough, and the
    weight up to low is not.
    """
    columns = shards.map(partial(_sort, unit=unit))
    d = len(unit)
    high = np.repeat(_ordered(highest)[:, None], 2 * len(QUARTILES), axis=1)
    low = np.repeat(_ordered(lowest)[:, None], 2 * len(QUARTILES), axis=1) - np.uint64(1)
    total = columns.sum(partial(_weight_until, pivots=high[:, :1]))
    target = total * np.array(list(itertools.chain(*zip(QUARTILES, QUARTILES, strict=True))))
    step = np.arange(1, _PIVOTS + 1, dtype=np.uint64)
    while (high - low > 1).any():
        width = (high - low) // np.uint64(_PIVOTS + 1) + np.uint64(1)
        pivots = np.minimum(low[..., None] + width[..., None] * step, high[..., None])
        weight = columns.sum(partial(_weight_until, pivots=pivots.reshape(d, -1))).reshape(pivots.shape)
        enough = weight >= target[..., None]
        enough[:, 1::2] = weight[:, 1::2] > target[:, 1::2, None]
        first = np.where(enough.any(axis=2), enough.argmax(axis=2), _PIVOTS)
        bounds = np.concatenate([low[..., None], pivots, high[..., None]], axis=2)
        low = np.take_along_axis(bounds, first[..., None], axis=2)[..., 0]
        high = np.take_along_axis(bounds, first[..., None] + 1, axis=2)[..., 0]
    values = _floats(high)
    return [values[:, i] / 2 + values[:, i + 1] / 2 for i in range(0, 2 * len(QUARTILES), 2)]
