"""Effects of the levels of categories, beside each other and beside lines in the columns that are there.

The mean target of a level has the noise of all else that tells the target. Where a level has few rows, that is most of
it. So the target is a sum: an effect for each level of each category, and lines in the other columns. Effects of a
category, and slopes of the lines, have a normal density around 0, whose width the evidence estimates: a mixed model.
It is fitted part by part (backfitting), and the fixed point of the widths is that of :mod:`skgn.evidence`.

Effects of pairs of levels may be products of two numbers, one of each level, as of a taste and an offer. Two numbers
tell all pairs of a level, those without rows too. They are fitted in turn to what the sum leaves over.

References
----------
A. Buja, T. Hastie and R. Tibshirani, Linear smoothers and additive models, Annals of Statistics 17 (1989).
D. J. C. MacKay, Bayesian interpolation, Neural Computation 4 (1992).

H. G. Gauch, Statistical analysis of regional yield trials: AMMI analysis of factorial designs, Elsevier (1992).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
from scipy.linalg import eigh

from .weighted_rows import in_own_units, standardised

__all__ = ["MOST_COLUMNS", "Effects", "Levels", "Pairs", "effects_alone", "in_deviations", "level_effects"]

#: Most sweeps over all parts, and the change of the fitted values, over the spread of the target, at which they end.
_SWEEPS, _SETTLED = 50, 1e-4

#: Slopes of more columns than this take longer than they are worth, as do those of so many numbers. The more rows
#: there are, the more a level has, and the less is gained.
MOST_COLUMNS, _MOST_NUMBERS = 300, 20_000_000

#: The spread of a constant column, at most, of which no value exceeds 1.
_ROUNDING = 1e-12

#: The part of the largest eigenvalue of the columns that counts as 0, and the largest precision for each row.
_SINGULAR, _LARGEST_PRECISION = 1e-10, 1e6


class Levels(NamedTuple):
    """Indicators of the ``level`` (n,) of each row, times a ``column`` (n,), which is 1 for a constant of each level.

    Their Gram matrix has the diagonal ``size``, and is 0 elsewhere.
    """

    level: np.ndarray
    column: np.ndarray
    size: np.ndarray

    @classmethod
    def of(cls, level: np.ndarray, n_levels: int, column: np.ndarray | None = None) -> Levels:
        """Make the part of so many levels, by default of constants."""
        column = np.ones(len(level)) if column is None else column
        return cls(level, column, np.bincount(level, np.square(column), minlength=n_levels))

    def at(self, index: np.ndarray) -> Levels:
        """Return the part of the rows with these numbers."""
        return Levels.of(self.level[index], len(self.size), self.column[index])

    def moments(self, r: np.ndarray) -> np.ndarray:
        """Return products (n_levels,) of the indicators with r (n,)."""
        return np.bincount(self.level, r * self.column, minlength=len(self.size))

    def fitted(self, effects: np.ndarray) -> np.ndarray:
        """Return what effects (n_levels,) add to each row."""
        return np.asarray(effects[self.level] * self.column)


class Pairs(NamedTuple):
    """Pairs of levels, of numbers ``first`` and ``second`` (n,), with effects of their own beside so many products.

    The ``cells`` are all pairs of as many levels as the ``shape`` says, in the order of the first.
    """

    first: np.ndarray
    second: np.ndarray
    shape: tuple[int, int]
    cells: Levels
    n_products: int

    @property
    def level(self) -> np.ndarray:
        """Number of the pair of each row."""
        return self.cells.level

    @classmethod
    def of(cls, first: np.ndarray, second: np.ndarray, shape: tuple[int, int], n_products: int) -> Pairs:
        """Make the part of all pairs."""
        return cls(first, second, shape, Levels.of(first * shape[1] + second, shape[0] * shape[1]), n_products)

    def at(self, index: np.ndarray) -> Pairs:
        """Return the part of the rows with these numbers."""
        return Pairs.of(self.first[index], self.second[index], self.shape, self.n_products)

    def products(self, r: np.ndarray) -> np.ndarray:
        """Return the sum (cells,) of the products that tell r (n,)."""
        found = np.zeros(self.shape)
        for _ in range(self.n_products):
            u, v = self._product(r - found[self.first, self.second])
            found += np.outer(u, v)
        return found.ravel()

    def effects(self, r: np.ndarray) -> np.ndarray:
        """Return the effects (cells,) on r (n,), of mean 0: products, and what each pair has beside these."""
        products = self.products(r)
        return products + effects_alone(self.cells, r - products[self.level])

    def _product(self, r: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Numbers of the first and the second levels, whose products tell r: least squares of either, in turn."""
        table = (self.cells.moments(r) / (self.cells.size + 1)).reshape(self.shape)
        left, singular, right = np.linalg.svd(table, full_matrices=False)
        u, v, fitted, precisions = left[:, 0], singular[0] * right[0], np.zeros(len(r)), np.ones(2)
        spread, largest = float(np.sqrt(np.mean(np.square(r)))), _LARGEST_PRECISION * len(r)
        for _ in range(_SWEEPS if spread else 0):
            before = fitted
            # Only the product has a size: that of the other side is 1.
            of_first = Levels.of(self.first, len(u), _of_size_1(v)[self.second])
            u = _of_size_1(of_first.moments(r) / (of_first.size + precisions[0]))
            of_second = Levels.of(self.second, len(v), u[self.first])
            v = of_second.moments(r) / (of_second.size + precisions[1])
            fitted = of_second.fitted(v)
            sizes = [part.size / (part.size + a) for part, a in zip((of_first, of_second), precisions, strict=True)]
            determined = np.array([size.sum() for size in sizes])
            noise = np.square(r - fitted).sum() / max(len(r) - determined.sum(), 1.0)
            # Either side has the size of the product, where its precision is asked for.
            squares = np.array(self.shape) * np.square(v).mean()
            most = np.full(2, largest)
            precisions = np.minimum(np.divide(determined * noise, squares, out=most.copy(), where=squares > 0), most)
            if np.sqrt(np.mean(np.square(fitted - before))) <= _SETTLED * spread:
                break
        return u, v


def _of_size_1(side: np.ndarray) -> np.ndarray:
    """Numbers with a mean square of 1, or 0."""
    return np.asarray(side / max(np.sqrt(np.mean(np.square(side))), np.finfo(float).tiny))


class _Lines(NamedTuple):
    """Columns (n, d) of mean 0, in whose basis the Gram matrix has the diagonal ``size``, and is 0 elsewhere."""

    columns: np.ndarray
    size: np.ndarray

    @classmethod
    def of(cls, columns: np.ndarray) -> _Lines:
        """Turn standardised columns into their principal directions."""
        centred = columns - columns.mean(axis=0)
        size, directions = eigh(centred.T @ centred)
        kept = size > _SINGULAR * size[-1]
        return cls(centred @ directions[:, kept], size[kept])

    def moments(self, r: np.ndarray) -> np.ndarray:
        return np.asarray(self.columns.T @ r)

    def fitted(self, slopes: np.ndarray) -> np.ndarray:
        return np.asarray(self.columns @ slopes)


_Part: TypeAlias = Levels | _Lines


class Effects(NamedTuple):
    """An additive model: effects (n_levels, k) of each category and interaction, and fitted values (n, k).

    All values are around 0.
    """

    of_levels: list[np.ndarray]
    of_interactions: list[np.ndarray]
    fitted: np.ndarray


def level_effects(
    levels: Sequence[np.ndarray],
    n_levels: Sequence[int],
    columns: np.ndarray,
    Y: np.ndarray,
    interactions: Sequence[Levels | Pairs] = (),
) -> Effects:
    """Return the effects of the levels of categories on each target; of a level without rows they are 0.

    Parameters
    ----------
    levels : sequence of ndarray of shape (n,)
        For each category, the number of the level of each row.
    n_levels : sequence of int
    columns : ndarray of shape (n, d)
        Other columns, of any units. Of more than 300 there are no lines.
    Y : ndarray of shape (n, k)
    interactions : sequence of Levels or Pairs, default=()
        Levels with slopes of their own along a standardised column, and pairs of levels.
    """
    parts: list[_Part] = [Levels.of(level, count) for level, count in zip(levels, n_levels, strict=True)]
    if columns.shape[1] <= MOST_COLUMNS and columns.size <= _MOST_NUMBERS:
        standard = in_deviations(columns)
        varies = standard.any(axis=0)
        if varies.any():
            parts.append(_Lines.of(standard[:, varies]))
    # After the lines, which take what all slopes have in common.
    first = len(parts)
    parts += [one.cells if isinstance(one, Pairs) else one for one in interactions]
    pairs = {first + i: one for i, one in enumerate(interactions) if isinstance(one, Pairs)}
    models = [_with_products(parts, pairs, y - y.mean()) for y in Y.T]
    effects = [np.column_stack(of_part) for of_part in zip(*(coefficients for coefficients, _ in models), strict=True)]
    fitted = np.column_stack([total for _, total in models])
    return Effects(effects[: len(levels)], effects[first:], fitted)


def in_deviations(columns: np.ndarray) -> np.ndarray:
    """Return columns (n, d) of any units with mean 0 and standard deviation 1; a constant column is 0."""
    return standardised(in_own_units(columns), least=_ROUNDING)


def _with_products(
    parts: Sequence[_Part], pairs: Mapping[int, Pairs], r: np.ndarray
) -> tuple[list[np.ndarray], np.ndarray]:
    """Coefficients of parts, products among those of ``pairs``, whose sum is fitted to r (n,), and this sum (n,)."""
    told, left = np.zeros(len(r)), r
    if pairs:
        left = r - _additive([part for k, part in enumerate(parts) if k not in pairs], r)[1]
    products = {}
    for k, pair in pairs.items():
        products[k] = pair.products(left - told)
        told += products[k][pair.level]
    coefficients, total = _additive(parts, r - told)
    return [b + products.get(k, 0.0) for k, b in enumerate(coefficients)], total + told


def _additive(parts: Sequence[_Part], r: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
    """Coefficients of parts whose sum is fitted to r (n,), of mean 0, and this sum (n,)."""
    n, spread = len(r), float(np.sqrt(np.mean(np.square(r))))
    coefficients = [np.zeros(len(part.size)) for part in parts]
    fitted, precisions, total = [np.zeros(n) for _ in parts], np.ones(len(parts)), np.zeros(n)
    for _ in range(_SWEEPS if spread else 0):
        before, determined = total.copy(), np.zeros(len(parts))
        for k, part in enumerate(parts):
            coefficients[k] = part.moments(r - total + fitted[k]) / (part.size + precisions[k])
            determined[k] = (part.size / (part.size + precisions[k])).sum()
            new = part.fitted(coefficients[k])
            total += new - fitted[k]
            fitted[k] = new
        noise = np.square(r - total).sum() / max(n - determined.sum(), 1.0)
        squares = np.array([np.square(b).sum() for b in coefficients])
        most = np.full(len(parts), _LARGEST_PRECISION * n)
        precisions = np.minimum(np.divide(determined * noise, squares, out=most.copy(), where=squares > 0), most)
        if np.sqrt(np.mean(np.square(total - before))) <= _SETTLED * spread:
            break
    return coefficients, total


def effects_alone(part: Levels, r: np.ndarray) -> np.ndarray:
    """Return the effects (n_levels,) of a single part on r (n,), of mean 0."""
    (effects,), _ = _additive([part], r)
    return effects
