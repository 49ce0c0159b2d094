"""A prediction is a mixture: each member counts by its weight, and the weights sum to 1.

Means and variances take arrays or tensors.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import compress
from typing import Any, TypeVar

import numpy as np
from scipy.special import logsumexp

__all__ = ["equal_weights", "mixture_log_probability", "mixture_mean", "mixture_variance", "voters"]

_Member = TypeVar("_Member")


def equal_weights(n_members: int) -> np.ndarray:
    """Weights (n_members,) of a plain mean."""
    return np.full(n_members, 1 / n_members)


def voters(members: Sequence[_Member], weights: np.ndarray) -> tuple[list[_Member], np.ndarray]:
    """Return the members that count, and their weights. A member of weight 0 takes no part, whatever its outputs."""
    counts = weights > 0
    return list(compress(members, counts)), weights[counts]


def mixture_mean(values: Any, weights: Any) -> Any:
    """Compute the weighted mean of the members' values."""
    # Divide by the sum, which rounding moves off 1: metrics would refuse a mean of probabilities above 1.
    return sum(weight * value for weight, value in zip(weights, values, strict=True)) / sum(weights)


def mixture_variance(means: Any, variances: Any, weights: Any) -> Any:
    """Variance of a new observation: the variance within the members plus the variance of their means."""
    mean = mixture_mean(means, weights)
    about_mean = [variance + (m - mean) ** 2 for m, variance in zip(means, variances, strict=True)]
    return mixture_mean(about_mean, weights)


def mixture_log_probability(log_p: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Logarithm of the weighted mean of the members' probabilities, given their logarithms (members, n, k)."""
    # No probability exceeds 1, whatever the rounding.
    return np.minimum(logsumexp(log_p, axis=0, b=weights[:, None, None]), 0.0)
