"""What the levels of a category tell together with another column: slopes by level, and pairs of levels."""

from __future__ import annotations

import math

import numpy as np

__all__ = ["level_means", "told_by_pairs", "told_by_slopes"]


def level_means(level: np.ndarray, values: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Weighted mean (n,) of the values (n,) that have the same level."""
    return (np.bincount(level, weight * values) / np.bincount(level, weight))[level]


def told_by_slopes(level: np.ndarray, z: np.ndarray, r: np.ndarray, weight: np.ndarray) -> tuple[float, float]:
    """Part of the squares of r (n,) that slopes along z tell, where each level has its own; see :func:`told_by_pairs`.

    The slope that all levels have is none of theirs.
    """
    z = z - np.average(z, weights=weight)
    slope = float(weight @ (z * r)) / max(float(weight @ (z * z)), np.finfo(float).tiny)
    return told_by_pairs(level, z, r - slope * z, weight)


def told_by_pairs(level: np.ndarray, z: np.ndarray, r: np.ndarray, weight: np.ndarray) -> tuple[float, float]:
    """Part of the squares of r (n,) that multiples of z tell, with a factor for each level, and its standard errors.

    Products of z r of two rows of a level have the mean of the factor's square times those of z. That is 0 where there
    is none, whatever the sizes of r are, and the products of different pairs are uncorrelated.
    """

    def sum_of_pairs(v: np.ndarray) -> float:
        """Sum of the products of two different rows of a level."""
        return float((np.square(np.bincount(level, v)) - np.bincount(level, v * v)).sum())

    tiny = np.finfo(float).tiny
    u, v = weight * z * r, weight * z * z
    told = sum_of_pairs(u)
    share = told / max(sum_of_pairs(v), tiny) * float(v.sum()) / max(float(weight @ (r * r)), tiny)
    return share, told / math.sqrt(max(2 * sum_of_pairs(u * u), tiny))
