"""Near copies of rows, as of augmentation and oversampling: observations to a fit, though they tell nothing new.

Noise was added to rows, digits were rounded, or rows were made between others (SMOTE). Each row that is left out then
leaves its copies, which have its target. Among independent rows the next neighbour is seldom very much nearer than
those that follow.

References
----------
E. Levina and P. J. Bickel, Maximum likelihood estimation of intrinsic dimension, NIPS 2004: distances of neighbours.
N. V. Chawla et al., SMOTE: synthetic minority over-sampling technique, JAIR 16 (2002).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.spatial.distance import cdist
from scipy.stats import rankdata

from .weighted_rows import in_own_units, standardised

__all__ = ["NearCopies", "near_copies"]

#: Largest number of rows that are looked at; the search for neighbours takes longer with more.
_MOST_ROWS = 20_000

#: Rows whose neighbours are sought, of each class and of all, and the fewest that tell.
_SOUGHT, _SOUGHT_IN_ALL, _FEWEST = 100, 500, 20

#: Number of neighbours among which copies are sought: rows with as many are not found. And of those of a class, from
#: which directions are compared.
_NEIGHBOURS, _IN_CLASS = 64, 32

#: A row has near copies if some neighbour is nearer than this part of the distance of the one that follows.
_GAP = 0.2

#: Part of the rows that have copies above which a fit rests on these (docs/decisions.md).
_PART = 0.5

#: Weight up to which rows together count as one.
_ONE_ROW = 1.5

#: Difference of the targets of copies over that beyond the gap, and the latter over that of any two rows.
_AGREE, _DIFFER = 0.1, 0.1

#: Sine of the angle between directions that are the same but for rounding, in float32 too. And the cosine from which
#: most are, if rows are those of a curve.
_ALIGNED, _ALONG_A_CURVE = 1e-5, 0.99

#: Columns in which a row that was made between two others has a number of its own.
_OWN_NUMBERS = 3


class NearCopies(NamedTuple):
    """Place of the class whose rows are near copies, None if all are; and whether they lie between other rows."""

    label: int | None
    between: bool


def near_copies(
    X: np.ndarray, Y: np.ndarray, weight: np.ndarray, labels: np.ndarray | None = None
) -> NearCopies | None:
    """Tell whether most rows, or most of a class, are near copies of others with the same target.

    Equal inputs do not count: whether these are copies is a matter of :func:`~skgn.copies.as_observations`.

    Parameters
    ----------
    X : ndarray of shape (n, d)
        Inputs of rows in a random order, such as that of merged rows.
    Y : ndarray of shape (n, k)
        Targets.
    weight : ndarray of shape (n,)
        Rows that together have the weight of one are no copies, but for classes: that does not keep left-out labels
        from being told by their copies.
    labels : ndarray of shape (n,), default=None
        Places of classes, if the target has such.
    """
    if len(X) > _MOST_ROWS:
        return None
    X = _scaled(X)
    # Ranks, so that extreme targets count like others.
    targets = rankdata(Y, axis=0) if labels is None else Y
    places = [None] if labels is None else np.unique(labels).astype(int).tolist()
    tested, copied, between = 0, [], []
    for label in places:
        rows = np.arange(len(X)) if label is None else np.flatnonzero(labels == label)
        sought = rows[: max(_FEWEST, min(_SOUGHT, _SOUGHT_IN_ALL // len(places)))]
        if len(sought) < _FEWEST:
            continue
        tested += 1
        if _are_copied(X, targets, weight, sought, labels is not None):
            copied.append(label)
        elif label is not None and _lie_between(X[rows], len(sought)):
            between.append(label)
    found = copied or between
    return NearCopies(None if len(found) == tested else found[0], not copied) if found else None


def _scaled(X: np.ndarray) -> np.ndarray:
    """Columns that vary, in units of their standard deviations."""
    Z = standardised(in_own_units(X))
    return Z[:, Z.any(axis=0)]


def _neighbours(X: np.ndarray, sought: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Places and distances (s, k) of the rows nearest to those sought, in the order of their distances."""
    distance = cdist(X[sought], X)
    k = min(count + 1, len(X))
    nearest = np.argpartition(distance, k - 1, axis=1)[:, :k]
    distance = np.take_along_axis(distance, nearest, axis=1)
    order = np.argsort(distance, axis=1, kind="stable")
    return np.take_along_axis(nearest, order, axis=1), np.take_along_axis(distance, order, axis=1)


def _are_copied(X: np.ndarray, targets: np.ndarray, weight: np.ndarray, sought: np.ndarray, classes: bool) -> bool:
    """Whether most of the rows sought have near copies with their target, and other targets beyond these."""
    nearest, distance = _neighbours(X, sought, _NEIGHBOURS)
    ratio = np.divide(distance[:, :-1], distance[:, 1:], where=distance[:, :-1] > 0, out=np.ones_like(distance[:, 1:]))
    last = ratio.argmin(axis=1)
    together = np.take_along_axis(np.cumsum(weight[nearest], axis=1), last[:, None], axis=1)[:, 0]
    at = np.flatnonzero((ratio.min(axis=1) < _GAP) & (classes | (together > _ONE_ROW)))
    if len(at) <= _PART * len(sought):
        return False

    def difference(others: np.ndarray) -> float:
        apart = np.abs(targets[others] - targets[sought[at]])
        return float(((apart > 0) if classes else apart).mean())

    inside, outside = (difference(nearest[at, last[at] + further]) for further in (0, 1))
    # Rows are in a random order.
    return inside <= _AGREE * outside and outside >= _DIFFER * difference(sought[at] - len(X) // 2)


def _lie_between(X: np.ndarray, n_sought: int) -> bool:
    """Whether most of the first rows lie on a line with two others, as rows made between these do.

    Rows of few values may do so by chance, and all rows of one dimension.
    """
    sought = np.flatnonzero(_own_numbers(X)[:n_sought] >= _OWN_NUMBERS)
    if len(sought) <= _PART * n_sought:
        return False
    found = 0
    for row, near in zip(sought, _neighbours(X, sought, _IN_CLASS)[0], strict=True):
        direction = X[near[near != row]] - X[row]
        length = np.linalg.norm(direction, axis=1, keepdims=True)
        direction = np.divide(direction, length, where=length > 0, out=np.zeros_like(direction))
        cosine = np.abs(direction @ direction.T)[np.triu_indices(len(direction), 1)]
        found += bool(1 - cosine.max() < _ALIGNED**2 / 2 and np.mean(cosine > _ALONG_A_CURVE) <= _PART)
    return found > _PART * n_sought


def _own_numbers(X: np.ndarray) -> np.ndarray:
    """In how many columns a row has a number that no other row has (n,)."""
    order = np.argsort(X, axis=0)
    apart = np.diff(np.take_along_axis(X, order, axis=0), axis=0, prepend=np.nan, append=np.nan) != 0
    own = np.zeros(X.shape, dtype=bool)
    np.put_along_axis(own, order, apart[:-1] & apart[1:], axis=0)
    return own.sum(axis=1)
