"""Steps: where trees cut the columns, if that tells what the networks of a fit do not.

A product of steps along several columns, as on a checkerboard, is what trees are made of. Smooth units bend slowly, and
the mean of what is left over does not change along any single column. But a forest finds the places. There is one
column for each place where its trees cut the most, which rises between two neighbouring values. More networks read
these columns in either of two cases. The forest predicts rows it has not learned from better than the mixture of
networks does. Or products of up to three steps tell of what the mixture leaves over. A forest finds the places of
several such products, although its trees cannot follow their sum.

References
----------
L. Breiman, Random forests, Machine Learning 45 (2001).

H. White, A heteroskedasticity-consistent covariance matrix estimator and a direct test for heteroskedasticity,
Econometrica 48 (1980).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import chi2

from .forest import seconds_of_trees
from .piecewise import FinerScaler, piecewise
from .scaler import Scaler
from .screening import products_of_two
from .weighted_rows import mean_and_error, moments, standardised, weighted_quantile

__all__ = ["STEPS", "Step", "seconds_to_cut", "step_scaler", "steps_of"]

#: Name of the scaling that has a column for each step.
STEPS = "steps"

#: Fewer rows show no steps, and more of them take too long. A tree learns from at most so many.
_FEWEST_ROWS, _MOST_ROWS, _ROWS_OF_TREE = 150, 10_000, 3000

#: Of more columns a forest finds little. At each of its cuts a tree tries so many.
_MOST_COLUMNS, _TRIED = 300, 20

#: Numbers of trees: more of them where the error of the first ones is below so many times that of the mixture.
_TREES, _PROMISING = (20, 60), 1.08

#: A forest predicts more than a constant does where its error is lower by so many standard errors.
_STANDARD_ERRORS = 2.0

#: The fewest rows at an end of a tree. Of numbers a tree has to average the noise. Labels may have none, so that whole
#: trees are grown too, and the better forest counts (docs/decisions.md).
_LEAF, _WHOLE = 5, 1

#: Trees of boosting, of all targets together, and the levels of each.
_BOOSTED, _DEPTH = 100, 4

#: These trees take longer than those of a forest for labels: they tell rows that they have not drawn, too.
_LONGER = 1.5

#: Cuts are gathered in so many parts of a column, of equally many values. There are at most so many steps.
_PARTS, _MOST_STEPS = 64, 24

#: A step explains at least this part of what the largest one does.
_LEAST = 0.02

#: Products of steps tell of what is left over where chance explains their test at most so often, of all products.
_SIGNIFICANT = 1e-3

#: What is left has to be more than this part of the variance of a target.
_LEFT = 0.01

#: Mean squares below this, and parts of squares, are rounding errors.
_ROUNDING = 1e-14

#: What is divided by is above 0.
_TINY = np.finfo(float).tiny


class Step(NamedTuple):
    """A step of a column between two neighbouring values, and the sum of squares that cuts near it explain."""

    gain: float
    column: int
    lower: float
    upper: float


class _Grown(NamedTuple):
    """The trees of a forest, and its error on rows out of the bag over that of a mixture of networks.

    The error of a forest that tells nothing is infinite.
    """

    error: float
    trees: Sequence[Any]


def steps_of(columns: np.ndarray, Y: np.ndarray, weight: np.ndarray, mixture: np.ndarray, labels: bool) -> list[Step]:
    """Return where a forest cuts columns (n, d) the most, largest first; none if the mixture needs no steps.

    Both predict rows of Y (n, k), of a ``weight`` (n,), that they have not learned from: numbers, or ``labels`` as 0
    and 1. What is not finite in the ``mixture`` (n, k) does not count. The forest reads ranks, so that columns may be
    of any size.
    """
    if len(columns) < _FEWEST_ROWS or columns.shape[1] > _MOST_COLUMNS:
        return []
    # The rows of a fit are in an order of chance.
    columns, Y, weight, mixture = (part[:_MOST_ROWS] for part in (columns, Y, weight, mixture))
    values, ranks = zip(*(np.unique(column, return_inverse=True) for column in columns.T), strict=True)
    X, leaves = np.column_stack(ranks), (_LEAF, _WHOLE) if labels else (_LEAF,)
    forests = [_grown(X, Y, weight, mixture, leaf) for leaf in leaves]
    best = min(forests, key=itemgetter(0))
    if best.error < 1:
        return _most_cut([best.trees], values)
    # Small ends average noise, whatever the targets are.
    trees, known = forests[0].trees, np.isfinite(mixture).all(axis=1)
    steps = _most_cut([trees], values)
    if not (steps and _tell(_risen(steps, columns)[known], Y[known], mixture[known], weight[known])):
        return []
    return _most_cut([trees, _boosted(X, Y, weight)], values)


def seconds_to_cut(n_rows: int, n_columns: int, labels: bool) -> float:
    """About how long :func:`steps_of` takes at the most, for so many rows and columns."""
    n, tried = min(n_rows, _MOST_ROWS, _ROWS_OF_TREE), min(_TRIED, n_columns)
    return _LONGER * seconds_of_trees(_TREES[-1] * (1 + labels) + _BOOSTED, n, tried)


def _grown(X: np.ndarray, Y: np.ndarray, weight: np.ndarray, mixture: np.ndarray, leaf: int) -> _Grown:
    """Grow a forest with at least so many rows in a ``leaf``: of more trees where these may predict better."""
    from sklearn.ensemble import RandomForestRegressor

    forest = RandomForestRegressor(
        min_samples_leaf=leaf,
        max_features=min(_TRIED, X.shape[1]),
        max_samples=min(_ROWS_OF_TREE, len(X)),
        oob_score=True,
        warm_start=True,
        random_state=0,
    )
    y, known = Y if Y.shape[1] > 1 else Y[:, 0], np.isfinite(mixture).all(axis=1)
    of_constant, of_mixture = (np.square(Y - told)[known].sum(axis=1) for told in (moments(Y, weight)[0], mixture))
    own, weight_known = of_constant, weight[known]
    with warnings.catch_warnings():
        # A row that all trees have learned from counts as one of mean 0.
        warnings.filterwarnings("ignore", "Some inputs do not have OOB scores")
        for trees in _TREES:
            forest.set_params(n_estimators=trees).fit(X, y, weight)
            own = np.square(forest.oob_prediction_.reshape(Y.shape) - Y)[known].sum(axis=1)
            if weight_known @ own >= _PROMISING * (weight_known @ of_mixture):
                break
    tells = _is_lower(own, of_constant, weight_known) and weight_known @ of_mixture > 0
    return _Grown((weight_known @ own) / (weight_known @ of_mixture) if tells else np.inf, forest.estimators_)


def _is_lower(errors: np.ndarray, others: np.ndarray, weight: np.ndarray) -> bool:
    """Whether errors (n,) are lower than others on the mean, beyond chance."""
    if not weight.any():
        return False
    mean, error = mean_and_error(others - errors, weight)
    return bool(mean > _STANDARD_ERRORS * error)


def _boosted(X: np.ndarray, Y: np.ndarray, weight: np.ndarray) -> list[Any]:
    """Grow trees that each learn from what those before leave of a target: they find the places of a sum of steps."""
    from sklearn.ensemble import GradientBoostingRegressor

    boosting = GradientBoostingRegressor(
        n_estimators=-(-_BOOSTED // Y.shape[1]),
        max_depth=_DEPTH,
        min_samples_leaf=_LEAF,
        max_features=min(_TRIED, X.shape[1]),
        subsample=0.7,
        random_state=0,
    )
    X, Y, weight = (part[:_ROWS_OF_TREE] for part in (X, Y, weight))
    return [tree for y in Y.T for tree in boosting.fit(X, y, weight).estimators_[:, 0]]


def _most_cut(kinds: Sequence[Sequence[Any]], values: Sequence[np.ndarray]) -> list[Step]:
    """Return the steps that the trees of each kind, which count alike, cut the most, in columns of these values."""
    of_kinds = [np.concatenate([_cuts(tree.tree_) for tree in trees]) for trees in kinds]
    cuts = np.concatenate([of_kind / [1, 1, max(of_kind[:, 2].sum(), _TINY)] for of_kind in of_kinds])
    of_columns = [_of_column(j, values[j], cuts[cuts[:, 0] == j, 1:]) for j in range(len(values))]
    found = sorted((step for steps in of_columns for step in steps), reverse=True)
    return [step for step in found[:_MOST_STEPS] if step.gain >= _LEAST * found[0].gain]


def _tell(risen: np.ndarray, Y: np.ndarray, mixture: np.ndarray, weight: np.ndarray) -> bool:
    """Whether a column (n, m), or a product of two or three, tells of what a mixture (n, k) leaves over.

    The variance of a covariance is that of the squares where they are (White 1980). So values that are only larger in
    some places than in others tell of no step.
    """
    if not weight.any():
        return False
    left, spread = Y - mixture, moments(Y, weight)[1]
    mean, variance = moments(left, weight)
    left = (left - mean)[:, variance > _LEFT * spread]
    part = weight / weight.sum()
    weighted, squares, count, largest = part[:, None] * left, part[:, None] * np.square(left), 0, 0.0
    for Z in _products(risen, weight):
        Z = Z - part @ Z
        of_product = np.square(Z)
        of_covariance = squares.T @ of_product
        tells = (part @ of_product > _ROUNDING) & (of_covariance > 0)
        statistic = np.divide(np.square(weighted.T @ Z), of_covariance, out=np.zeros_like(of_covariance), where=tells)
        count, largest = count + statistic.size, max(largest, float(statistic.max(initial=0.0)))
    return count > 0 and bool(chi2.sf(largest * weight.sum(), 1) * count < _SIGNIFICANT)


def _products(columns: np.ndarray, weight: np.ndarray) -> Iterator[np.ndarray]:
    """Columns (n, m), standardised, then products of each two, and of each three."""
    Z = standardised(columns, weight)
    pairs, (_, second) = products_of_two(columns, weight)
    yield Z
    yield pairs
    for third in range(Z.shape[1]):
        yield pairs[:, second < third] * Z[:, [third]]


def _risen(steps: Sequence[Step], columns: np.ndarray) -> np.ndarray:
    """Columns (n, steps) of 0 up to the lower value of a step, and of 1 from the upper one on."""
    _, index, lower, upper = (np.array(part) for part in zip(*steps, strict=True))
    return np.asarray(piecewise(columns, index, lower, upper - lower, 0.0, 1.0))


def step_scaler(base: Scaler, steps: Sequence[Step], columns: np.ndarray, weight: np.ndarray) -> FinerScaler:
    """Columns of ``base`` (n, d), and beside them one of variance 1 for each step."""
    steps = sorted(steps, key=itemgetter(1, 2))
    _, index, lower, upper = (np.array(part) for part in zip(*steps, strict=True))
    mean, variance = moments(_risen(steps, columns), weight)
    return FinerScaler(base, index, lower, upper - lower, mean, 1 / np.sqrt(variance))


def _cuts(tree: Any) -> np.ndarray:
    """Columns, ranks below, and sums of squares explained, of all cuts of a tree, (cuts, 3)."""
    inner = np.flatnonzero(tree.children_left >= 0)
    squares = tree.weighted_n_node_samples * tree.impurity
    gain = squares[inner] - squares[tree.children_left[inner]] - squares[tree.children_right[inner]]
    cuts = np.column_stack([tree.feature[inner], np.floor(tree.threshold[inner]), gain])
    # Where nothing is left to explain, a gain is a rounding error.
    return cuts[gain > _ROUNDING * squares[0]]


def _of_column(number: int, values: np.ndarray, cuts: np.ndarray) -> list[Step]:
    """Steps where the cuts of a column explain more than on either side; none of two values, which are a step."""
    places = len(values) - 1
    if places < 2 or not len(cuts):
        return []
    parts = min(_PARTS, places)
    below, gain = cuts[:, 0].astype(int), cuts[:, 1]
    part = below * parts // places
    of_part = np.bincount(part, weights=gain, minlength=parts)
    beside = np.pad(of_part, 1)
    peaks = np.flatnonzero((of_part > beside[:-2]) & (of_part >= beside[2:]))
    steps = []
    for peak in peaks:
        here = part == peak
        middle = int(weighted_quantile(cuts[here, :1], gain[here], 0.5)[0])
        steps.append(Step(float(of_part[peak]), number, float(values[middle]), float(values[middle + 1])))
    return steps
