"""Interactions of a category: slopes of its levels along a column, and effects of pairs of levels of two categories.

The growth of each subject is an example of the first, and the price of a product in a shop one of the second. The mean
targets of levels tell neither, and where a level has few rows, hidden units cannot tell its line from noise. So the
slope of the level, or the effect of the pair, is a further code. It is that of a mixed model, which draws slopes and
effects of few rows towards the common one (:mod:`skgn.effects`). The networks multiply a slope by its column.

An interaction is taken where it tells rows that it was not fitted to. Sums of squares choose it, as in an analysis of
covariance, and cross-validation confirms it.

References
----------
N. M. Laird and J. H. Ware, Random-effects models for longitudinal data, Biometrics 38 (1982).
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from typing import TypeAlias

import numpy as np
from sklearn.model_selection import KFold

from .effects import MOST_COLUMNS, Levels, Pairs, effects_alone, in_deviations, level_effects
from .encoders import CodedRows, Interaction
from .weighted_rows import without_gross_errors

__all__ = ["find_interactions"]

_Shares: TypeAlias = Callable[[np.ndarray], dict[Interaction, float]]

#: Interactions are of use where they take at least this part off the squares of other rows, by so many standard errors.
_SHARE, _ERRORS = 0.01, 3.0

#: What is left without slopes, or without effects of pairs, has to be more than such a part of the variance. Where all
#: else tells nearly everything, the many effects of pairs do harm (docs/decisions.md).
_LEFT_FOR_SLOPES, _LEFT_FOR_PAIRS = 1e-3, 1e-2

#: Fewer rows for each level, on average, tell no slope.
_ROWS_A_LEVEL = 4

#: Pairs of more categories than these would take minutes.
_MOST_CATEGORIES = 20

#: The most products of a pair, and the most pairs of levels that have any: each has a code.
_MOST_PRODUCTS, _MOST_CELLS = 3, 100_000

#: Each of so many parts of the rows is predicted from the others.
_FOLDS = 5

#: The most interactions of either kind, and the most codes of these. An interaction has one for each class.
_MOST_INTERACTIONS, _MOST_CODES = 4, 12

#: The fewest degrees of freedom that tell the size of residuals.
_LEAST_FREEDOM = 10

#: A column varies within a level where its sum of squares there is such a part of all squares.
_ROUNDING = 1e-9


def find_interactions(rows: CodedRows) -> list[Interaction]:
    """Return the interactions of categories with other columns, and then with each other.

    Of either kind those that tell the most come first. Each is the best one for what those before have left.
    """
    spread, most = rows.Y.var(axis=0), min(_MOST_INTERACTIONS, _MOST_CODES // rows.Y.shape[1])
    # Labels have no gross errors. Residuals of the more frequent one are nearly equal, and all others far from them.
    labels = bool(np.isin(rows.Y, (0, 1)).all())
    found: dict[Interaction, Levels | Pairs] = {}
    for shares_of, least_left in ((_slopes(rows), _LEFT_FOR_SLOPES), (_pairs(rows), _LEFT_FOR_PAIRS)):
        if shares_of is None:
            continue
        for _ in range(most):
            left = rows.Y - rows.Y.mean(axis=0) - level_effects(*rows, [*found.values()]).fitted
            left = left[:, left.var(axis=0) > least_left * spread]
            left = left if labels else without_gross_errors(left, np.ones(len(left)))
            shares = shares_of(left)
            others = shares.keys() - {one._replace(n_products=0) for one in found}
            best = min(others, key=lambda one: (-shares[one], one), default=None)
            if best is None or shares[best] < _SHARE:
                break
            best = _as_products(best, rows, left)
            if not (best.n_products or _confirmed(rows.alone(best), left)):
                break
            found[best] = rows.part(best)
    return [*found]


def _slopes(rows: CodedRows) -> _Shares | None:
    """Tell what slopes of the levels along each column explain; None if there are none to look for."""
    several = [k for k, count in enumerate(rows.n_levels) if _ROWS_A_LEVEL * count <= len(rows.Y)]
    if not several or not 0 < rows.others.shape[1] <= MOST_COLUMNS:
        return None
    columns = in_deviations(rows.others)

    def shares(left: np.ndarray) -> dict[Interaction, float]:
        of_each = [_shares_of_slopes(rows.levels[k], columns, left) for k in several]
        return {Interaction(k, j): of_each[i][j] for i, k in enumerate(several) for j in range(columns.shape[1])}

    return shares


def _pairs(rows: CodedRows) -> _Shares | None:
    """Tell what pairs of levels explain; None if there are none to look for."""
    if not 2 <= len(rows.levels) <= _MOST_CATEGORIES:
        return None
    pairs = [Interaction(k, other, of_pairs=True) for k, other in combinations(range(len(rows.levels)), 2)]
    return lambda left: {pair: _share_of_effects(rows.alone(pair), left) for pair in pairs}


def _share_of_effects(part: Levels, left: np.ndarray) -> float:
    """Part of what is left (n, k) that effects of levels explain beyond chance; of several targets the largest."""
    occupied = np.count_nonzero(part.size)
    freedom, others = occupied - 1, len(left) - occupied
    if others < _LEAST_FREEDOM:
        return 0.0
    share = 0.0
    for r in left.T:
        explained = (np.square(part.moments(r)) / np.maximum(part.size, 1.0)).sum()
        dispersion = max(r @ r - explained, np.finfo(float).eps * (r @ r)) / others
        share = max(share, (explained - freedom * dispersion) / max(r @ r, np.finfo(float).tiny))
    return float(share)


def _shares_of_slopes(level: np.ndarray, columns: np.ndarray, left: np.ndarray) -> np.ndarray:
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


def _as_products(one: Interaction, rows: CodedRows, left: np.ndarray) -> Interaction:
    """Return an interaction of pairs with as many products as tell rows that they were not fitted to."""
    if not one.of_pairs or rows.n_levels[one.category] * rows.n_levels[one.other] > _MOST_CELLS:
        return one
    each = [one._replace(n_products=count) for count in range(_MOST_PRODUCTS + 1)]
    squares = [np.square(left - _held_out(rows.pairs(more), left)) for more in each]
    # One of two products may tell less than none, and a third one is hardly better than two.
    sums, total = np.array([part.sum() for part in squares]), np.square(left).sum()
    best = int(np.flatnonzero(sums <= sums.min() + _SHARE * total)[0])
    return each[best] if best and _tells(squares[0] - squares[best], left) else one


def _held_out(pairs: Pairs, left: np.ndarray) -> np.ndarray:
    """What effects of pairs predict of rows (n, k) that they were not fitted to."""
    told = np.empty_like(left)
    for rest, held in KFold(_FOLDS).split(left):
        mean, fitted = left[rest].mean(axis=0), pairs.at(rest)
        effects = np.column_stack([fitted.effects(r) for r in (left[rest] - mean).T])
        told[held] = mean + effects[pairs.level[held]]
    return told


def _confirmed(part: Levels, left: np.ndarray) -> bool:
    """Whether an interaction takes enough off the squares of what is left (n, k) of other rows than its own.

    What all levels have in common, such as a slope, does not count.
    """
    gain = np.zeros_like(left)
    for rest, held in KFold(_FOLDS).split(left):
        fitted, tested = part.at(rest), part.at(held)
        squares = max(fitted.column @ fitted.column, np.finfo(float).tiny)
        beside = left - part.column[:, None] * (fitted.column @ left[rest] / squares)
        for output, r in enumerate(beside.T):
            effects = effects_alone(fitted, r[rest])
            gain[held, output] = np.square(r[held]) - np.square(r[held] - tested.fitted(effects))
    return _tells(gain, left)


def _tells(gain: np.ndarray, left: np.ndarray) -> bool:
    """Whether what is taken off the squares of what is left (n, k) is enough of these, and more than chance."""
    share = gain.sum(axis=0) / np.maximum(np.square(left).sum(axis=0), np.finfo(float).tiny)
    error = gain.std(axis=0) * np.sqrt(len(left))
    return bool(((share > _SHARE) & (gain.sum(axis=0) > _ERRORS * error)).any())
