"""Slopes: lines along a column that differ between the levels of a category, such as the growth of each subject.

The mean target of a level does not tell them, and where a level has few rows, hidden units cannot tell its line from
noise. So the slope of the level is a further code. It is that of a mixed model with random slopes, which draws slopes
of few rows towards the common one (:mod:`skgn.effects`). The networks multiply it by the column.

A category and a column are taken where the slopes tell rows that they were not fitted to. Sums of squares choose the
pair, as in an analysis of covariance, and cross-validation confirms it.

References
----------
N. M. Laird and J. H. Ware, Random-effects models for longitudinal data, Biometrics 38 (1982).
"""

from __future__ import annotations

import numpy as np
from sklearn.model_selection import KFold

from .effects import MOST_COLUMNS, level_effects, slopes_alone, standardised
from .encoders import CodedRows
from .weighted_rows import without_gross_errors

__all__ = ["find_slopes"]

#: Slopes are of use where they take at least this part off the squares of other rows, by so many standard errors. What
#: is left without them has to be more than such a part of the variance.
_SHARE, _ERRORS, _LEAST_LEFT = 0.01, 3.0, 1e-3

#: Fewer rows for each level, on average, tell no slope.
_ROWS_A_LEVEL = 4

#: Each of so many parts of the rows is predicted from the others. So many rows are enough to tell.
_FOLDS, _MOST_ROWS = 5, 20_000

#: The most pairs of a category and a column, and the most codes of these. A pair has one for each class.
_MOST_PAIRS, _MOST_CODES = 4, 12

#: The fewest degrees of freedom that tell the size of residuals.
_LEAST_FREEDOM = 10

#: A column varies within a level where its sum of squares there is such a part of all squares.
_ROUNDING = 1e-9


def find_slopes(rows: CodedRows) -> list[tuple[int, int]]:
    """Return positions of a category and of another column along which its levels have slopes of their own.

    The pair that tells the most comes first. Each is the best one for what those before have left.
    """
    levels, n_levels, others, Y = rows.at(np.arange(min(len(rows.Y), _MOST_ROWS)))
    several = [k for k, count in enumerate(n_levels) if _ROWS_A_LEVEL * count <= len(Y)]
    if not several or not 0 < others.shape[1] <= MOST_COLUMNS:
        return []
    columns, spread = standardised(others), Y.var(axis=0)
    found: list[tuple[int, int]] = []
    while len(found) < min(_MOST_PAIRS, _MOST_CODES // Y.shape[1]):
        fitted = level_effects(levels, n_levels, others, Y, [(k, columns[:, j]) for k, j in found]).fitted
        left = Y - Y.mean(axis=0) - fitted
        left = without_gross_errors(left[:, left.var(axis=0) > _LEAST_LEFT * spread], np.ones(len(left)))
        shares = np.zeros((len(levels), columns.shape[1]))
        for k in several:
            shares[k] = _shares(levels[k], columns, left)
        for pair in found:
            shares[pair] = 0.0
        k, j = (int(i) for i in np.unravel_index(shares.argmax(), shares.shape))
        if shares[k, j] < _SHARE or not _confirmed(levels[k], n_levels[k], columns[:, j], left):
            break
        found.append((k, j))
    return found


def _shares(level: np.ndarray, columns: np.ndarray, left: np.ndarray) -> np.ndarray:
    """Parts (d,) of what is left (n, k) that slopes along columns (n, d) explain beyond chance.

    Beside them the levels have constants, and a common slope. Of several targets the largest part counts.
    """
    order = np.argsort(level, kind="stable")
    first = np.flatnonzero(np.diff(level[order], prepend=-1))
    size = np.diff(first, append=len(level))[:, None]

    def sums(values: np.ndarray) -> np.ndarray:
        return np.add.reduceat(values[order], first)

    total, squares = sums(columns), sums(np.square(columns))
    spread = squares - np.square(total) / size
    varies = spread > _ROUNDING * squares.sum(axis=0)
    freedom = varies.sum(axis=0) - 1
    others = len(level) - len(first) - 1 - freedom
    tested = (freedom > 0) & (others >= _LEAST_FREEDOM)
    shares = np.zeros(len(tested))
    columns, total, varies, freedom, others = (part[..., tested] for part in (columns, total, varies, freedom, others))
    spread = np.where(varies, spread[:, tested], np.inf)
    for r in left.T:
        of_level = sums(r[:, None])
        score = np.where(varies, sums(columns * r[:, None]) - total * of_level / size, 0.0)
        of_each = (np.square(score) / spread).sum(axis=0)
        of_common = np.square(score.sum(axis=0)) / np.where(varies, spread, 0.0).sum(axis=0)
        explained = np.maximum(of_each - of_common, 0.0)
        rest = r @ r - (np.square(of_level) / size).sum() - of_each
        dispersion = np.maximum(rest, np.finfo(float).eps * (r @ r)) / others
        shares[tested] = np.maximum(shares[tested], (explained - freedom * dispersion) / (r @ r))
    return shares


def _confirmed(level: np.ndarray, n_levels: int, column: np.ndarray, left: np.ndarray) -> bool:
    """Whether slopes take enough off the squares of what is left (n, k) of other rows than their own.

    What the common slope of all levels takes off does not count.
    """
    gain = np.zeros_like(left)
    for rest, part in KFold(_FOLDS).split(level):
        x, common = column[rest], column[rest] @ left[rest] / max(column[rest] @ column[rest], np.finfo(float).tiny)
        beside = left - column[:, None] * common
        for output, r in enumerate(beside.T):
            slopes = slopes_alone(level[rest], n_levels, x, r[rest])
            gain[part, output] = np.square(r[part]) - np.square(r[part] - slopes[level[part]] * column[part])
    share = gain.sum(axis=0) / np.maximum(np.square(left).sum(axis=0), np.finfo(float).tiny)
    error = gain.std(axis=0) * np.sqrt(len(level))
    return bool(((share > _SHARE) & (gain.sum(axis=0) > _ERRORS * error)).any())
