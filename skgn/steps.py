"""Steps: where trees cut the columns, if a forest predicts better than the networks of a fit.

A product of steps along several columns, as on a checkerboard, is what trees are made of. Smooth units bend slowly, and
the mean of what is left over does not change along any single column. But a forest predicts rows it has not learned
from. Where it does so better than the mixture of networks, more networks read columns of steps. There is one column for
each place where the trees cut the most, which rises between two neighbouring values. What steps do together is left to
the network.

References
----------
L. Breiman, Random forests, Machine Learning 45 (2001).
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np

from .piecewise import FinerScaler, piecewise
from .scaler import Scaler
from .weighted_rows import moments, weighted_quantile

__all__ = ["STEPS", "Step", "step_scaler", "steps_of"]

#: Name of the scaling that has a column for each step.
STEPS = "steps"

#: Fewer rows show no steps, and more of them take too long. A tree learns from at most so many.
_FEWEST_ROWS, _MOST_ROWS, _ROWS_OF_TREE = 400, 10_000, 3000

#: Of more columns a forest finds little. At each of its cuts a tree tries so many.
_MOST_COLUMNS, _TRIED = 300, 20

#: Numbers of trees, and how many times as large as the mixture's their error may be to go on. Few trees tell whether
#: more of them may be better.
_STAGES = ((20, 1.08), (60, 1.0))

#: The fewest rows at an end of a tree. Of numbers a tree has to average the noise. Labels may have none, so that whole
#: trees are grown too, and the better forest counts (docs/decisions.md).
_LEAF, _WHOLE = 5, 1

#: Cuts are gathered in so many parts of a column, of equally many values. There are at most so many steps.
_PARTS, _MOST_STEPS = 64, 24

#: A step explains at least this part of what the largest one does.
_LEAST = 0.02


class Step(NamedTuple):
    """A step of a column between two neighbouring values, and the sum of squares that cuts near it explain."""

    gain: float
    column: int
    lower: float
    upper: float


def steps_of(columns: np.ndarray, Y: np.ndarray, weight: np.ndarray, mixture: np.ndarray, labels: bool) -> list[Step]:
    """Return where a forest cuts columns (n, d) the most, largest first; none if the mixture predicts as well.

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
    forests = [_forest(X, Y, weight, mixture, leaf) for leaf in leaves]
    better = [grown for grown in forests if grown is not None]
    if not better:
        return []
    _, forest = min(better, key=itemgetter(0))
    cuts = np.concatenate([_cuts(tree.tree_) for tree in forest.estimators_])
    of_columns = [_of_column(j, values[j], cuts[cuts[:, 0] == j, 1:]) for j in range(len(values))]
    found = sorted((step for steps in of_columns for step in steps), reverse=True)
    return [step for step in found[:_MOST_STEPS] if step.gain >= _LEAST * found[0].gain]


def _forest(
    X: np.ndarray, Y: np.ndarray, weight: np.ndarray, mixture: np.ndarray, leaf: int
) -> tuple[float, Any] | None:
    """Grow a forest with at least so many rows in a ``leaf``, and return it with its error on rows out of the bag.

    None if the mixture predicts as well.
    """
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

    def error(predicted: np.ndarray) -> float:
        return float(weight[known] @ np.square(predicted - Y)[known].sum(axis=1))

    with warnings.catch_warnings():
        # A row that all trees have learned from counts as one of mean 0.
        warnings.filterwarnings("ignore", "Some inputs do not have OOB scores")
        for trees, times in _STAGES:
            forest.set_params(n_estimators=trees).fit(X, y, weight)
            own = error(forest.oob_prediction_.reshape(Y.shape))
            if own >= times * error(mixture):
                return None
    return own, forest


def step_scaler(base: Scaler, steps: Sequence[Step], columns: np.ndarray, weight: np.ndarray) -> FinerScaler:
    """Columns of ``base`` (n, d), and beside them one of variance 1 for each step."""
    _, index, lower, upper = (np.array(part) for part in zip(*sorted(steps, key=itemgetter(1, 2)), strict=True))
    width = upper - lower
    mean, variance = moments(piecewise(columns, index, lower, width, 0.0, 1.0), weight)
    return FinerScaler(base, index, lower, width, mean, 1 / np.sqrt(variance))


def _cuts(tree: Any) -> np.ndarray:
    """Columns, ranks below, and sums of squares explained, of all cuts of a tree, (cuts, 3)."""
    inner = np.flatnonzero(tree.children_left >= 0)
    squares = tree.weighted_n_node_samples * tree.impurity
    gain = squares[inner] - squares[tree.children_left[inner]] - squares[tree.children_right[inner]]
    return np.column_stack([tree.feature[inner], np.floor(tree.threshold[inner]), gain])


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
