"""Numbers that are codes: those of rows that belong together, between which the target jumps.

The order of the numbers of shops, plots or schools means little. What is measured of a school stands for the school as
well: its pupils have it in common, and no other school has the same. A smooth network finds jumps between such numbers
late, or not at all where several features are codes. So each feature whose numbers come again and again is tested by
cross-validation. The question is what a linear model leaves over: does the mean at each number predict more of it than
a smooth curve does? Of classes, only whole numbers are taken (docs/decisions.md).

The curve is a cubic spline of the numbers in their order, with a knot at every third. The means of what the curve
leaves over are shrunken by empirical Bayes. What other rows do not confirm is chance, however many numbers there are.

Rows may be trials at settings that come again and again. Where the other features tell all settings apart, a relation
of these is as good a reason for other means as a code. So all trials at a setting are left out together. Where codes
follow from one number to the next, as of a narrow peak along few settings, they also tell what is between
(:class:`~skgn.level_codes.NumberCodes`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.interpolate import make_lsq_spline

from .quadratic import FOLDS, predict_left_out
from .weighted_rows import in_own_units, row_hashes

__all__ = ["JumpTests", "find_codes", "jump_tests"]

#: Degree of the spline, and numbers from one knot to the next.
_DEGREE, _NUMBERS_A_KNOT = 3, 3

#: Fewest numbers that a curve is drawn through, as a cubic fits fewer.
_FEWEST_NUMBERS = _DEGREE + 2

#: Fewest numbers that may be codes, and fewest rows for each on average: of whole numbers, and of others. Networks jump
#: between fewer by themselves, and draw what is between them (docs/decisions.md). Of fractions the commonest does not
#: count, which may be the 0 of what is not there.
_FEWEST_CODES, _ROWS_A_NUMBER, _ROWS_A_FRACTION = 12, 2, 5

#: Numbers are codes where jumps tell more than this part of what is left over, by so many standard errors.
_SHARE, _ERRORS = 0.02, 5.0

#: A linear model that leaves less than this part of the squares has left no jumps that matter.
_LEAST_LEFT = 0.01

_TINY = np.finfo(float).tiny


class JumpTests(NamedTuple):
    """Of each feature (d,), the ``share`` of squares that jumps take away, and how many standard ``errors`` that is."""

    share: np.ndarray
    errors: np.ndarray

    def found(self, errors: float) -> np.ndarray:
        """Mask (d,) of the features whose jumps tell something, by so many standard errors."""
        mask: np.ndarray = (self.share > _SHARE) & (self.errors > errors)
        return mask


def find_codes(
    X: np.ndarray,
    columns: np.ndarray,
    values: np.ndarray,
    fractions: bool = False,
    weight: np.ndarray | None = None,
    among: Sequence[int] | np.ndarray | None = None,
) -> np.ndarray:
    """Return the positions of the features whose numbers are codes. Rows count once, however large their weights.

    Parameters
    ----------
    X : ndarray of shape (n, d)
        Features, of any magnitude; nan where a number is missing.
    columns : ndarray of shape (n, p)
        All that is known of the rows, as numbers, for the linear model.
    values : ndarray of shape (n, k)
        Targets of any magnitude, or indicators of classes.
    fractions : bool, default=False
        Whether other than whole numbers may be codes.
    weight : ndarray of shape (n,), default=None
        Weights of the rows. Those below 1 count in how many rows a number has: rows that share a weight of 1 are one.
    among : sequence of int, default=None
        Features that may be codes; by default all.
    """
    counted = np.ones(len(X)) if weight is None else np.minimum(weight, 1.0)
    among = range(X.shape[1]) if among is None else among
    candidates = np.array([j for j in among if _may_be_codes(X[:, j], fractions, counted)], dtype=int)
    if not len(candidates):
        return candidates
    # Squares of large targets are no floats.
    values = in_own_units(values)
    left = values - predict_left_out(columns, values)
    if np.square(left).sum() < _LEAST_LEFT * np.square(values - values.mean(axis=0)).sum():
        return candidates[:0]
    return np.flatnonzero(jump_tests(X, left, fractions, candidates).found(_ERRORS))


def _may_be_codes(column: np.ndarray, fractions: bool, counted: np.ndarray) -> bool:
    """Whether there are enough numbers, and rows for each, of which every row is ``counted`` as so many (n,)."""
    known = ~np.isnan(column)
    numbers, place = np.unique(column[known], return_inverse=True)
    if len(numbers) < _FEWEST_CODES:
        return False
    if (numbers == np.round(numbers)).all():
        return len(numbers) <= float(counted.sum()) / _ROWS_A_NUMBER
    rows = np.bincount(place, weights=counted[known])
    return fractions and bool(rows.sum() - rows.max() >= _ROWS_A_FRACTION * (len(numbers) - 1))


def jump_tests(
    X: np.ndarray, values: np.ndarray, fractions: bool = False, among: Sequence[int] | np.ndarray | None = None
) -> JumpTests:
    """Test whether the mean of values (n, k) jumps between the numbers of features X (n, d).

    Features that are not ``among`` the tested ones only tell rows apart. A feature of fewer than 12 numbers tells
    nothing, nor does one with few rows for each. Missing numbers do not either, nor other than whole numbers without
    ``fractions``.
    """
    n, d = X.shape
    values = in_own_units(values)
    share, errors = np.zeros(d), np.zeros(d)
    of_rows, settings = np.arange(n), _settings(X)
    for j in range(d) if among is None else among:
        if not _may_be_codes(X[:, j], fractions, np.ones(n)):
            continue
        repeated = settings.max() < n - 1 and _settings(np.delete(X, j, axis=1)).max() == settings.max()
        gain, squares = _gain_of_jumps(X[:, j], values, settings if repeated else of_rows)
        share[j] = gain.sum() / max(squares, _TINY)
        errors[j] = gain.mean() / max(gain.std() / np.sqrt(len(gain)), _TINY)
    return JumpTests(share, errors)


def _settings(X: np.ndarray) -> np.ndarray:
    """Number the rows (n, d): equal ones have the same number, in the order of their first rows."""
    # A missing number, nan, comes in many bit patterns.
    hashes = row_hashes(np.where(np.isnan(X), np.nan, X) + 0.0)
    _, first, place = np.unique(hashes, return_index=True, return_inverse=True)
    order: np.ndarray = np.argsort(np.argsort(first))[place]
    return order


def _gain_of_jumps(column: np.ndarray, values: np.ndarray, together: np.ndarray) -> tuple[np.ndarray, float]:
    """By how much jumps lower the squares of what a curve leaves over of rows not seen, and the sum of these.

    Rows of the same number in ``together`` (n,) are left out together, and their gains are added up.
    """
    known = ~np.isnan(column)
    gain, squares = np.zeros(len(column)), 0.0
    numbers, place = np.unique(column[known], return_inverse=True)
    of_row = np.zeros(len(column), dtype=int)
    of_row[known] = place
    for _, left_out in FOLDS.split(np.arange(together.max() + 1)):
        in_test = np.isin(together, left_out)
        train, test = np.flatnonzero(known & ~in_test), np.flatnonzero(in_test)
        curve, jumps = _curve_and_jumps(of_row[train], values[train], len(numbers))
        left = values[test] - np.where(known[test, None], curve[of_row[test]], 0.0)
        own = np.square(left).sum(1)
        lower = own - np.square(left - jumps[of_row[test]]).sum(1)
        gain[test] = np.where(known[test], lower, 0.0)
        squares += float(own.sum())
    return np.bincount(together, weights=gain), squares


def _curve_and_jumps(number: np.ndarray, values: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Fit a curve to values (n, k) of rows with the ``number``-th of so many numbers, and means to what is left over.

    Returns both at each number, (count, k).
    """
    rows = np.bincount(number, minlength=count).astype(float)

    def sums(values: np.ndarray) -> np.ndarray:
        return np.column_stack([np.bincount(number, weights=value, minlength=count) for value in values.T])

    seen = np.flatnonzero(rows)
    if len(seen) < _FEWEST_NUMBERS:
        return np.zeros((count, values.shape[1])), np.zeros((count, values.shape[1]))
    inner = seen[_NUMBERS_A_KNOT:-_NUMBERS_A_KNOT:_NUMBERS_A_KNOT] if len(seen) > 2 * _NUMBERS_A_KNOT + 1 else seen[:0]
    knots = np.concatenate([np.repeat(seen[0], _DEGREE + 1), inner, np.repeat(seen[-1], _DEGREE + 1)]).astype(float)
    means = sums(values)[seen] / rows[seen, None]
    spline = make_lsq_spline(seen.astype(float), means, knots, _DEGREE, np.sqrt(rows[seen]))
    curve = spline(np.clip(np.arange(count), seen[0], seen[-1]))
    left = values - curve[number]
    total = sums(left)
    explained = (np.square(total[seen]) / rows[seen, None]).sum(0)
    within = np.maximum(np.square(left).sum(0) - explained, _TINY) / max(len(number) - len(seen), 1)
    between = np.maximum(explained - len(seen) * within, 0.0) / len(number)
    return curve, total * between / (rows[:, None] * between + within)
