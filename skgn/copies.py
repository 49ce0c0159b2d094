"""Rows that come more than once: repeated observations, or copies of one.

Weights are repetitions, exactly. But a copy is no second observation: it has the same noise. As an observation it would
tell that there is none.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import brentq

from .weighted_rows import has_fractions, kish, repeats, row_hashes

__all__ = ["as_observations"]

#: So many rows hardly all come a multiple of twice, unless the whole table has been copied.
_MANY_ROWS = 20

#: Mean weight up to which copies of labels are too few to tell anything (docs/decisions.md).
_FEW_COPIES = 1.25

#: Part of the repeated inputs that has several labels if these are observations, and not copies.
_DIFFERING = 0.02

#: Agreement by chance of two numbers up to which these are measured ones, and not ratings or switches.
_AGREE_BY_CHANCE = 0.1

#: Part of the pairs of equal inputs that are copies, from which the rows are.
_COPIED_PAIRS = 0.3

#: Copied rows, and all others, are at least this part of an observation in the mean.
_LEAST_EFFECTIVE = 0.5


def as_observations(X: np.ndarray, Y: np.ndarray, weight: np.ndarray, labels: bool = False) -> np.ndarray:
    """Scale the weights of merged rows down to Kish's effective number of rows, if repeated rows are copies.

    Measured numbers hardly come twice. A row that comes more than once, with a number that no other row has, is a copy,
    or has been given a weight. Where columns have few values, equal inputs may be several observations. But these
    differ in a measured target, by its noise, as often as any two. If too many agree, they are copies. A table of which
    all rows come two or three times as often as they might has been copied so often, and is taken once.

    Copies count beside the others as often as they came. But all rows together are ``sum(w)^2 / sum(w^2)``
    observations: as many as there are rows, if all weights are equal. Kish's number is that of a mean. One row of 101
    copies beside 299 others would leave these a 25th of an observation each. So weights are trimmed where all rows
    would be less than half an observation each.

    Observations of one input often have the same label. If these labels are noisy, some inputs have several. A few
    copies among labels do no harm, and stay, but not those of a class whose rows come often.

    Parameters
    ----------
    X : ndarray of shape (n, d)
        Inputs of merged rows.
    Y : ndarray of shape (n, k)
        Targets.
    weight : ndarray of shape (n,)
    labels : bool, default=False
        Whether targets are labels: one column of classes, or several of 0 and 1. Rows are then observations if the
        mean weight in each class is at most 1.25. They are, too, if more than 2 % of the repeated inputs have several.

    Returns
    -------
    weight : ndarray of shape (n,)
        Unchanged where their mean is at most 1.

    References
    ----------
    L. Kish, Survey Sampling (1965).
    F. J. Potter, A study of procedures to identify and trim extreme sampling weights, Proceedings of the Survey
    Research Methods Section, ASA (1990).
    """
    if not repeats(len(weight), weight.sum()):
        return weight
    weight = weight / _times_all(weight)
    copied = _labels_copied(X, Y, weight) if labels else _numbers_copied(X, Y, weight)
    if not copied:
        return weight
    weight = _trimmed(weight)
    return weight * (weight.sum() / (weight @ weight))


def _times_all(weight: np.ndarray) -> float:
    """Return how often a whole table has come: the common factor of the weights of many rows."""
    whole = len(weight) > _MANY_ROWS and not has_fractions(weight)
    return float(np.gcd.reduce(np.rint(weight).astype(np.int64))) if whole else 1.0


def _numbers_copied(X: np.ndarray, Y: np.ndarray, weight: np.ndarray) -> bool:
    """Whether repeated rows of numbers are copies: most are told from all others, or equal inputs agree too often."""
    return _have_own_numbers(X, weight) or _agree(X, Y, weight)


def _labels_copied(X: np.ndarray, labels: np.ndarray, weight: np.ndarray) -> bool:
    """Whether repeated rows of labels are copies: most are told from all others, and their labels show no noise."""
    few = _most_copies(labels, weight) <= _FEW_COPIES
    return not few and not _differs(X, weight) and _have_own_numbers(X, weight)


def _have_own_numbers(X: np.ndarray, weight: np.ndarray) -> bool:
    """Whether most of the repeated rows have a number that no other row has."""
    repeated = weight > 1
    own = np.zeros(len(X), dtype=bool)
    for column in X.T:
        _, number, count = np.unique(column, return_inverse=True, return_counts=True)
        own |= count[number] == 1
    return bool(2 * np.count_nonzero(repeated & own) > np.count_nonzero(repeated))


def _agree(X: np.ndarray, Y: np.ndarray, weight: np.ndarray) -> bool:
    """Whether measured targets of equal inputs agree far more often than by chance: Cohen's kappa of their pairs."""
    targets = _totals(Y, weight)
    by_chance = float(targets @ targets) / weight.sum() ** 2
    inputs = _totals(X, weight)
    pairs, equal = (float(w @ np.maximum(w - 1, 0)) for w in (inputs, weight))
    # Ratings and switches agree by chance, and those of one input all the more.
    if by_chance > _AGREE_BY_CHANCE or pairs == 0:
        return False
    return equal / pairs - by_chance > _COPIED_PAIRS * (1 - by_chance)


def _totals(rows: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Total weights of the distinct ones of rows (n, d)."""
    _, place = np.unique(row_hashes(rows + 0.0), return_inverse=True)
    return np.bincount(place, weights=weight)


def _trimmed(weight: np.ndarray) -> np.ndarray:
    """Limit the weights so that Kish's effective number of rows is at least half of their number.

    Weights below 1 are no copies. They may be inverse variances, and stay in proportion.
    """

    def excess(limit: float) -> float:
        return kish(np.minimum(weight, limit)) - _LEAST_EFFECTIVE * len(weight)

    least, largest = weight.min(), weight.max()
    if least < 1 or excess(largest) >= 0:
        return weight
    return np.minimum(weight, brentq(excess, least, largest))


def _most_copies(labels: np.ndarray, weight: np.ndarray) -> float:
    """Largest mean weight of a class, as a rare class alone may have been copied."""
    if labels.shape[1] > 1:
        return float(weight.mean())
    _, place, count = np.unique(labels, return_inverse=True, return_counts=True)
    return float((np.bincount(place.ravel(), weights=weight) / count).max())


def _differs(X: np.ndarray, weight: np.ndarray) -> bool:
    """Whether the inputs of merged rows that come more than once often have several targets."""
    _, place, n_targets = np.unique(row_hashes(X + 0.0), return_inverse=True, return_counts=True)
    several = n_targets[np.bincount(place, weights=weight) > 1] > 1
    return bool(several.mean() > _DIFFERING)
