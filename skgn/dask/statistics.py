"""Statistics of the columns of rows in shards, and the scalings that are made of them.

Quantiles are exact and found by counting: the driver asks how much weight is at or below some values, and narrows them
down. Ranks rest on the distinct values of each column. Workers send these, thinned if there are many.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np

from ..preprocessing import QUARTILES, InputScaler, RankScaler, StraightScaler, TargetScaler, TwoPathScaler
from ..scaler import Scaler
from ..scalings import name_scalers
from ..weighted_rows import distinct, magnitude
from .rows import Merged
from .shards import Shards

__all__ = ["fit_input_scaler", "fit_rank_scaler", "fit_scalers", "fit_target_scaler", "largest_inputs"]

#: Number of values between which a round narrows a quantile down: 8 bits of 64.
_PIVOTS = 255

#: Distinct values of a column up to which its ranks are exact; of more, so many are sent.
_DISTINCT = 5000


def fit_scalers(shards: Shards, names: Sequence[str], paths: str) -> dict[str, Scaler | None]:
    """Fit the scalings with these names to all rows, as :func:`skgn.scalings.fit_scalers` does."""
    return name_scalers(
        names,
        largest=lambda: float(largest_inputs(shards).max()),
        robust=lambda: fit_input_scaler(shards, paths),
        ranks=lambda: fit_rank_scaler(shards),
    )


def largest_inputs(shards: Shards) -> np.ndarray:
    """Size of the largest input in each column (d,)."""
    return np.abs(_largest(shards, _extremes)).max(axis=0)


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


@dataclass(frozen=True)
class _Distributions:
    """Distinct values of each column, in order, and the weight of each. Distributions of other rows can be added."""

    columns: list[tuple[np.ndarray, np.ndarray]]

    def __add__(self, other: _Distributions) -> _Distributions:
        pairs = zip(self.columns, other.columns, strict=True)
        return _Distributions([_thinned(*map(np.concatenate, zip(*pair, strict=True))) for pair in pairs])


def _distributions(rows: Merged, unit: np.ndarray) -> _Distributions:
    return _Distributions([_thinned(column, rows.weight) for column in (rows.X / unit).T])


def _thinned(values: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return distinct values and their weights, at most :data:`_DISTINCT`, the first and the last among them.

    The weight of a value that is left out goes to the next one that is kept, and the kept ones are even in weight. So a
    rank moves by one part in :data:`_DISTINCT` at the most.
    """
    x, mass = distinct(values, weight)
    if len(x) <= _DISTINCT:
        return x, mass
    cumulative = np.cumsum(mass)
    steps = np.linspace(cumulative[0], cumulative[-1], _DISTINCT)
    kept = np.unique(np.searchsorted(cumulative, steps).clip(max=len(x) - 1))
    return x[kept], np.diff(cumulative[kept], prepend=0.0)


def fit_rank_scaler(shards: Shards) -> RankScaler:
    """Fit ranks to all rows, as :meth:`~skgn.preprocessing.RankScaler.fit` does up to the thinning."""
    highest, negated = _largest(shards, _extremes)
    unit = magnitude(np.maximum(np.abs(highest), np.abs(negated)))
    found: _Distributions = shards.sum(partial(_distributions, unit=unit))
    return RankScaler.of_distributions(unit, found.columns)


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
