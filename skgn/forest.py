"""A forest of trees beside the networks: a network of labels that is linear in the logarithms of their shares.

Trees cut the columns into ever smaller boxes. What is local, and has borders along columns, takes a network many units
and a tree some cuts. Whole trees know their rows by heart, so that no row may be told from its own label. So the rows
of a fit are parted, and each part has the shares of trees that have learned from the others. The network learns how far
these shares are to be believed. Later rows have those of as many trees, which have learned from all parts.

Trees are the extremely randomised ones of scikit-learn: their cuts are drawn at random, and the best of some is taken.
Borders of many such trees are smoother than those of a random forest.

References
----------
P. Geurts, D. Ernst and L. Wehenkel, Extremely randomized trees, Machine Learning 63 (2006).
L. Breiman, Stacked regressions, Machine Learning 24 (1996).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .ground import MOST_ROWS, N_PARTS, Ground, Told, parts_of
from .scaler import Blended, Scaler

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = [
    "FEWEST_ROWS",
    "FOREST",
    "N_TREES",
    "Forest",
    "grow",
    "log_shares",
    "seconds_of_trees",
    "seconds_to_grow",
    "tried",
]

#: Name of the scaling whose columns are shares of a forest.
FOREST = "forest"

#: On fewer rows a forest tells nothing that networks do not.
FEWEST_ROWS = 400

#: Trees of a forest.
N_TREES = 40

#: Part of the columns that a tree tries at each cut. There are fewer where a forest would take so many seconds on a
#: slow processor (docs/decisions.md).
_TRIED, _MOST_SECONDS = 0.5, 10.0

#: Seconds that a tree takes, and what each row adds in each column tried at each level, on a slow processor.
_SECONDS_A_TREE, _SECONDS_A_ROW = 1e-3, 1e-8

#: Rows that are told at a time.
_BLOCK = 4096

#: So many votes for each class, and against it, are added to those of the trees.
_ADDED = 0.5


def log_shares(shares: Any, n_trees: float, xp: Any = np) -> Any:
    """Columns (n, k) of shares (n, k) of the votes of so many trees: logits of one class, or centred logarithms."""
    votes = n_trees * shares
    logs = xp.log(votes + _ADDED)
    if shares.shape[1] == 1:
        return logs - xp.log(n_trees - votes + _ADDED)
    return logs - logs.mean(1)[:, None]


@dataclass
class Forest(Blended):
    """Logarithms of the shares of classes among trees, which read the first columns of another scaling.

    The nodes of all trees stand in one row, a parent before its children. Those of a tree begin at one of the ``roots``
    (trees,). At a node, rows whose column ``feature`` is at most the ``threshold`` go to the node ``left``, and others
    to the node ``right``. At the end of a branch, both are the node itself. A node has the ``shares`` (nodes, k) of the
    classes. No branch has more cuts than the ``depth``.
    """

    roots: np.ndarray
    feature: np.ndarray
    threshold: np.ndarray
    left: np.ndarray
    right: np.ndarray
    shares: np.ndarray
    depth: int

    @classmethod
    def of_trees(cls, base: Scaler, trees: Sequence[Any]) -> Self:
        """Join trees of scikit-learn."""
        sizes = np.array([tree.node_count for tree in trees])
        roots = np.cumsum(sizes) - sizes

        def joined(name: str) -> np.ndarray:
            return np.concatenate([getattr(tree, name) for tree in trees])

        own, first = np.arange(sizes.sum()), np.repeat(roots, sizes)
        left, right = (
            np.where(side < 0, own, side + first) for side in map(joined, ("children_left", "children_right"))
        )
        feature, shares = joined("feature").clip(0), joined("value")[:, :, 0]
        depth = max(tree.max_depth for tree in trees)
        return cls(base, roots, feature, joined("threshold"), left, right, shares, depth)

    @property
    def is_whole(self) -> bool:
        """Whether each branch comes to an end."""
        nodes = np.arange(len(self.shares))
        sides = self.left, self.right
        ends = all(len(side) == len(nodes) and ((side >= nodes) & (side < len(nodes))).all() for side in sides)
        of_nodes = len(self.feature) == len(self.threshold) == len(nodes)
        return bool(ends and of_nodes and len(nodes) > self.roots.max(initial=0))

    def embed(self, z: np.ndarray) -> np.ndarray:
        """Return the columns that are made of given columns of the other scaling."""
        if len(z) > _BLOCK:
            return np.concatenate([self.embed(z[first : first + _BLOCK]) for first in range(0, len(z), _BLOCK)])
        z = z.astype(np.float32)  # as trees read them
        row, tree = np.divmod(np.arange(len(z) * len(self.roots)), len(self.roots))
        node = self.roots[tree]
        inside = np.arange(len(node))
        for _ in range(self.depth):
            inside = inside[self.left[node[inside]] != node[inside]]
            at = node[inside]
            goes_left = z[row[inside], self.feature[at]] <= self.threshold[at]
            node[inside] = np.where(goes_left, self.left[at], self.right[at])
        shares = self.shares[node].reshape(len(z), len(self.roots), -1).mean(axis=1)
        return np.ascontiguousarray(log_shares(shares, len(self.roots)))


def seconds_to_grow(n_rows: int, n_columns: int) -> float:
    """About how long a forest takes to grow on so many rows, which come in parts, and columns."""
    return _seconds_with(tried(n_rows, n_columns), n_rows)


def tried(n_rows: int, n_columns: int) -> int:
    """Of so many columns, those that a tree tries at each cut."""
    none, one = (_seconds_with(columns, n_rows) for columns in (0.0, 1.0))
    return max(1, int(min(_TRIED * n_columns, (_MOST_SECONDS - none) / (one - none))))


def _seconds_with(tried: float, n_rows: int) -> float:
    return seconds_of_trees(N_TREES * (1 + N_PARTS), min(n_rows, MOST_ROWS), tried)


def seconds_of_trees(n_trees: int, n_rows: int, tried: float) -> float:
    """About how long so many trees take to grow, which try a number of columns at each cut."""
    return n_trees * (_SECONDS_A_TREE + _SECONDS_A_ROW * n_rows * math.log2(n_rows) * tried)


def grow(ground: Ground, columns: np.ndarray, labels: np.ndarray, weight: np.ndarray, seed: int) -> Told | None:
    """Grow a forest for labels; None where hardly any inputs differ.

    Parameters
    ----------
    ground : Ground
    columns : ndarray of shape (n, d)
        Columns of its scaling, of rows in random order.
    labels : ndarray of shape (n, k)
        0 and 1: the class of each row, or whether it is of the second one (k = 1).
    weight : ndarray of shape (n,)
    seed : int
        Draws the trees.
    """
    from sklearn import config_context
    from sklearn.ensemble import ExtraTreesRegressor
    from sklearn.model_selection import cross_val_predict

    X, y = ground.columns(columns)[:MOST_ROWS], labels[:MOST_ROWS]
    y, weight = y if y.shape[1] > 1 else y[:, 0], weight[:MOST_ROWS]
    trees = ExtraTreesRegressor(N_TREES, max_features=tried(*X.shape), random_state=seed)
    parts = parts_of(X)
    if parts is None:
        return None
    with config_context(enable_metadata_routing=False):
        told = cross_val_predict(trees, X, y, cv=parts, params={"sample_weight": weight})
    trees.fit(X, y, weight)
    forest = Forest.of_trees(ground.base, [tree.tree_ for tree in trees.estimators_])
    return Told.of(forest, log_shares(told.reshape(-1, labels.shape[1]), N_TREES), columns)
