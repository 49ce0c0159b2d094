"""Class weights: probabilities as if some classes came more often than they do.

Networks are trained on the rows as they are. Then the probability of each class is multiplied by its weight, and the
products are divided by their sum. That is Bayes' rule for other frequencies of the classes. As weights of samples they
would make many observations of a few rows, and the evidence would believe each of these (docs/decisions.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.special import logsumexp

__all__ = ["ClassWeight", "class_factors", "proportions", "shifted"]

#: The parameter ``class_weight`` of a classifier.
ClassWeight = str | Mapping[Any, float]


def class_factors(class_weight: ClassWeight, classes: np.ndarray, totals: np.ndarray) -> np.ndarray:
    """Return the weight (k,) of each of the ``classes`` (k,), which have sample weights of these ``totals`` (k,).

    The formula for "balanced" is that of scikit-learn, n / (k n_c), with sample weights counted as repetitions. Classes
    without rows have no weight then.

    Raises
    ------
    ValueError
        If labels are not among the classes, or if weights are negative, not finite, or 0 for all classes with rows.
    """
    if not isinstance(class_weight, Mapping):
        present = totals > 0
        factors = np.zeros(len(classes))
        factors[present] = totals.sum() / (present.sum() * totals[present])
        return factors
    unknown = [label for label in class_weight if label not in classes]
    if unknown:
        raise ValueError(f"class_weight has weights for {unknown}, which are not among {classes}.")
    factors = np.array([float(class_weight.get(label, 1.0)) for label in classes.tolist()])
    if not (np.isfinite(factors).all() and (factors >= 0).all() and factors.any()):
        raise ValueError(f"class_weight must be non-negative and not all zero, got {class_weight}.")
    if not factors[totals > 0].any():
        raise ValueError(f"All rows are of classes whose weight is 0 in class_weight={class_weight}.")
    return factors


def proportions(factors: np.ndarray) -> np.ndarray:
    """Return weights (k,) over the largest; 0 counts as the least positive number, whose logarithm is finite."""
    return np.maximum(factors / factors.max(), np.finfo(float).tiny)


def shifted(log_p: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """Return the logarithms of probabilities (..., k) under class weights (k,), for those without them."""
    log_p = log_p + np.log(proportions(factors))
    return np.asarray(log_p - logsumexp(log_p, axis=-1, keepdims=True))
