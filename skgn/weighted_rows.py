"""Rows with weights: equal rows merged, and the quantiles, means and variances of their columns.

A weight is that many repetitions of its row, in the merging as in every statistic. Statistics are computed from rows
that `merge_rows` has merged and sorted. So a fit depends on the weighted set of rows only, bit for bit. The order of
the rows does not matter. Nor does it matter whether a row came twice or once with weight 2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import numpy as np

__all__ = [
    "check_total",
    "check_weights",
    "distinct",
    "first_of_equals",
    "has_fractions",
    "in_own_units",
    "kish",
    "magnitude",
    "mean_and_error",
    "merge_rows",
    "moments",
    "repeats",
    "repetition_factor",
    "row_hashes",
    "standardised",
    "unlimited",
    "weighted_quantile",
    "weighted_quantiles",
    "without_gross_errors",
    "without_negligible",
]

#: Least and largest sum of weights, and the part of the largest weight below which one is lost in any sum: what is
#: left stays within float32, whatever rows make a batch.
_LEAST_TOTAL, _MOST_TOTAL, _NEGLIGIBLE = 1e-15, 1e15, 1e-18

#: What rounding may add to a mean of 1 that weights are normalised to, in float32 too.
_ROUNDED = 1e-7

#: Values beyond so many standard deviations, of normal ones with their median size, are taken to be so large.
_LARGEST_VALUE, _NORMAL_MEDIAN = 3.0, 0.6745


def unlimited() -> np.errstate:
    """Context for sums, squares and exponentials that may be beyond the floats; these are infinite, or no number."""
    return np.errstate(over="ignore", invalid="ignore")


def check_weights(lowest: float, total: float) -> None:
    """Refuse sample weights with this minimum and this sum."""
    if lowest < 0:
        raise ValueError(f"sample_weight must not be negative, got a minimum of {lowest:g}.")
    if total == 0:
        raise ValueError("sample_weight is zero for every sample; at least one must be positive.")
    check_total("sample_weight", total)


def without_negligible(weight: np.ndarray) -> np.ndarray:
    """Set weights to 0 that rounding loses beside the largest."""
    return np.where(weight < _NEGLIGIBLE * weight.max(), 0.0, weight)


def check_total(name: str, total: float) -> None:
    """Refuse a sum of weights that is not usable; ``name`` says where it comes from."""
    if not _LEAST_TOTAL <= total <= _MOST_TOTAL:
        raise ValueError(
            f"{name} makes the weights of all samples add up to {total:g}. They are repetitions: scale them so that "
            f"their sum lies between {_LEAST_TOTAL:g} and {_MOST_TOTAL:g}."
        )


def merge_rows(
    X: np.ndarray, Y: np.ndarray, sample_weight: np.ndarray, merge: bool = True
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Drop rows of weight 0, ``merge`` equal rows (adding their weights), and sort them in an order of their own.

    Parameters
    ----------
    X : ndarray of shape (n, d)
        Inputs. Missing cells, nan, are equal to each other.
    Y : ndarray of shape (n, k)
    sample_weight : ndarray of shape (n,)

    Returns
    -------
    X, Y, sample_weight : ndarrays with m <= n rows
    """
    kept = sample_weight > 0
    rows = _of_equal_bits(np.column_stack([X[kept], Y[kept]]))
    weight = sample_weight[kept].astype(np.float64)
    # Sort equal rows by their weights: the rounding of the sum must not depend on the order of the rows.
    order = np.lexsort((weight, row_hashes(rows)))
    rows, weight = rows[order], weight[order]
    new = np.ones(len(rows), dtype=bool)
    if merge:
        # Equal rows have equal hashes and stand together, but for collisions of different rows (odds of n^2 / 2^64).
        # Bits, because nan is not equal to nan.
        bits = rows.view(np.uint64)
        new[1:] = (bits[1:] != bits[:-1]).any(axis=1)
    first = np.flatnonzero(new)
    weight = np.add.reduceat(weight, first) if len(first) else weight
    rows = rows[first]
    return np.ascontiguousarray(rows[:, : X.shape[1]]), np.ascontiguousarray(rows[:, X.shape[1] :]), weight


def repeats(n_rows: int, total_weight: float) -> bool:
    """Whether weights have a mean above 1, beyond rounding: rows come more than once."""
    return total_weight > n_rows * (1 + _ROUNDED)


def repetition_factor(weight: np.ndarray) -> float:
    """Factor that makes weights (n,) of rows as they come add up to Kish's effective number, if they do not repeat.

    Such weights have fractions, and a mean above 1. The mean of survey weights is that of a population over its sample.
    """
    if not has_fractions(weight) or not repeats(int(np.count_nonzero(weight)), weight.sum()):
        return 1.0
    # Rounded once, so that the order of the rows does not matter.
    return math.fsum(weight.tolist()) / math.fsum(np.square(weight).tolist())


def has_fractions(weight: np.ndarray) -> bool:
    """Whether not all weights are whole numbers, but for rounding."""
    return bool((np.abs(weight - np.rint(weight)) > _ROUNDED * weight).any())


def kish(weight: np.ndarray) -> float:
    """Kish's effective number of rows: so many of equal weights have a mean of the same variance."""
    return float(weight.sum() ** 2 / (weight @ weight))


def first_of_equals(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the positions of the distinct ones of rows (n, d), in order, and which of these each row is (n,).

    Missing cells, nan, are equal to each other.
    """
    _, first, place = np.unique(row_hashes(_of_equal_bits(rows)), return_index=True, return_inverse=True)
    order = np.argsort(first)
    return first[order], np.argsort(order)[place.reshape(-1)]


def _of_equal_bits(rows: np.ndarray) -> np.ndarray:
    """Rows whose cells have the same bits where they are equal."""
    # Adding 0 turns -0.0 into 0.0. A missing cell, nan, comes in many bit patterns.
    rows = rows.astype(np.float64) + 0.0
    rows[np.isnan(rows)] = np.nan
    return rows


def row_hashes(rows: np.ndarray) -> np.ndarray:
    """Hash each row to a 64-bit integer, by multiply-and-shift mixing of the float bits, column by column."""
    hashes = np.zeros(len(rows), dtype=np.uint64)
    for column in rows.T:
        hashes ^= np.ascontiguousarray(column).view(np.uint64)
        hashes *= np.uint64(0x9E3779B97F4A7C15)
        hashes ^= hashes >> np.uint64(32)
    return hashes


def magnitude(largest: np.ndarray) -> np.ndarray:
    """Unit of a column, in which its largest absolute value is at most 1."""
    return np.where(largest > 0, largest, 1.0)


def in_own_units(V: np.ndarray) -> np.ndarray:
    """Divide each column by its largest absolute value: no square is beyond the floats."""
    return V / magnitude(np.abs(V).max(axis=0, initial=0.0))


def distinct(values: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the distinct ones of values (n,), in order, and the weight of each."""
    if (weight == 1).all():
        # Values are sorted faster without their positions, and sums of ones are exact.
        x, counts = np.unique(values, return_counts=True)
        return x, counts.astype(np.float64)
    x, inverse = np.unique(values, return_inverse=True)
    return x, np.bincount(inverse, weights=weight)


def weighted_quantile(values: np.ndarray, weight: np.ndarray, q: float) -> np.ndarray:
    """Compute a quantile (d,) of each column of ``values``, as :func:`weighted_quantiles` does."""
    return weighted_quantiles(values, weight, (q,))[0]


def weighted_quantiles(values: np.ndarray, weight: np.ndarray, levels: Sequence[float]) -> np.ndarray:
    """Compute quantiles (q, d) at some levels of each column of ``values`` (n, d).

    They are the averaged inverse of the weighted distribution function.
    """
    # Equal weights have the same sums in any order, and few values have to be in their places.
    equal = (weight == weight[:1]).all()
    cumulative = np.cumsum(weight)
    quantiles = np.empty((len(levels), values.shape[1]))
    for j, column in enumerate(values.T):
        if not equal:
            order = np.argsort(column, kind="stable")
            cumulative = np.cumsum(weight[order])
        places = _places(cumulative, levels)
        in_order = np.partition(column, np.unique(places)) if equal else column[order]
        low, high = in_order[places]
        quantiles[:, j] = low / 2 + high / 2
    return quantiles


def without_gross_errors(values: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Clip values (n, k) that are far from their median, in a unit of their own."""
    values = in_own_units(values)
    centre = weighted_quantile(values, weight, 0.5)
    reach = _LARGEST_VALUE / _NORMAL_MEDIAN * weighted_quantile(np.abs(values - centre), weight, 0.5)
    # Where more than half of them are equal, nothing tells what is far.
    reach[reach == 0] = np.inf
    return np.clip(values, centre - reach, centre + reach)


def _places(cumulative: np.ndarray, levels: Sequence[float]) -> np.ndarray:
    """Places (2, q) in the order of n values with these sums of weights, between which the quantiles lie."""
    target = np.asarray(levels) * cumulative[-1]
    # Sums of weights such as 1 / n are rounded; sums are equal if they differ by no more than that.
    slack = len(cumulative) * np.finfo(float).eps * cumulative[-1]
    low = np.searchsorted(cumulative, target - slack, side="left")
    high = np.searchsorted(cumulative, target + slack, side="right")
    return np.minimum([low, high], len(cumulative) - 1)


def moments(V: np.ndarray, weight: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Compute the weighted mean and variance of each column."""
    # NumPy's average divides by the number of columns, which may be 0.
    average = np.mean if weight is None else partial(np.average, weights=weight)
    mean = average(V, axis=0)
    return mean, average(np.square(V - mean), axis=0)


def mean_and_error(values: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute the weighted mean (1,) of values (n,), and its standard error; weights are repetitions."""
    mean, variance = moments(values[:, None], weight)
    return mean, np.sqrt(variance / weight.sum())


def standardised(V: np.ndarray, weight: np.ndarray | None = None, least: float = 0.0) -> np.ndarray:
    """Columns of mean 0 and standard deviation 1; a column is 0 where its deviation is no more than ``least``."""
    mean, variance = moments(V, weight)
    deviation = np.sqrt(variance)
    return np.divide(V - mean, deviation, out=np.zeros_like(V), where=deviation > least)
