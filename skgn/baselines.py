"""Simple models beside a fit: a linear one and gradient boosting, cross-validated on the rows that a report is about.

They learn from fewer rows than most fits have seen. Where one of them is better all the same, the fit lacks something.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from sklearn import config_context
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, QuantileRegressor, RidgeCV
from sklearn.model_selection import KFold, cross_val_predict

from .threads import one_blas_thread, thread_pools
from .weighted_rows import first_of_equals, in_own_units, standardised

__all__ = ["BOOSTING", "FEWEST_ROWS", "classifications", "compared_rows", "quantile_regressions", "regressions"]

BOOSTING = "boosting"

#: Fewer rows than this teach a model too little; more than so many take too long.
FEWEST_ROWS, _MOST_ROWS = 50, 1000

#: Columns of a linear model, and cells of a table times outputs for boosting, above which they take too long.
_MOST_COLUMNS, _MOST_CELLS = 500, 30_000

#: Positions of the rows to learn from and to predict, for each part of the rows.
_Parts = list[tuple[np.ndarray, np.ndarray]]

_FOLDS = KFold(3, shuffle=True, random_state=0)

#: Number of bins of a column for boosting.
_BINS = 64

#: Smaller leaves and fewer trees than by default: the rows are few, and the report is to be quick.
_TREES = {
    "max_bins": _BINS,
    "max_iter": 40,
    "max_leaf_nodes": 15,
    "min_samples_leaf": 5,
    "early_stopping": False,
    "random_state": 0,
}

_PENALTIES = np.logspace(-2, 4, 13)

#: Weight of the absolute slopes of linear quantiles.
_PENALTY_OF_QUANTILES = 0.01


def compared_rows(n: int) -> np.ndarray:
    """Return the positions of the rows that are compared, at most 1,000 and evenly spread."""
    return np.unique(np.linspace(0, n - 1, min(n, _MOST_ROWS)).astype(int))


def regressions(X: np.ndarray, Y: np.ndarray, weight: np.ndarray) -> dict[str, np.ndarray]:
    """Predict targets (n, k) of unit scale from columns (n, d), each row by models that have not seen it.

    There are none of fewer than three distinct rows.
    """
    target = Y[:, 0] if Y.shape[1] == 1 else Y
    parts, predicted = _parts(X), dict[str, np.ndarray]()
    if not parts:
        return {}
    if X.shape[1] <= _MOST_COLUMNS:
        predicted["ridge"] = _predicted(RidgeCV(_PENALTIES), standardised(in_own_units(X)), target, weight, parts)
    if X.size <= _MOST_CELLS and Y.shape[1] == 1:
        boosting = HistGradientBoostingRegressor(learning_rate=0.2, **_TREES)
        predicted[BOOSTING] = _predicted(boosting, _binned(X), target, weight, parts)
    return {name: values.reshape(Y.shape) for name, values in predicted.items()}


def quantile_regressions(X: np.ndarray, Y: np.ndarray, weight: np.ndarray, levels: np.ndarray) -> dict[str, np.ndarray]:
    """Predict quantiles (n, k) at these levels (k,) of targets (n, k), as :func:`regressions`; none of large tables."""
    parts = _parts(X)
    if not parts or X.size * Y.shape[1] > _MOST_CELLS:
        return {}
    linear, trees = standardised(in_own_units(X)), _binned(X)
    predicted: dict[str, list[np.ndarray]] = {"linear": [], BOOSTING: []}
    for y, q in zip(Y.T, levels.tolist(), strict=True):
        lines = QuantileRegressor(quantile=q, alpha=_PENALTY_OF_QUANTILES)
        predicted["linear"].append(_predicted(lines, linear, y, weight, parts))
        boosting = HistGradientBoostingRegressor(loss="quantile", quantile=q, learning_rate=0.2, **_TREES)
        predicted[BOOSTING].append(_predicted(boosting, trees, y, weight, parts))
    return {name: np.column_stack(columns) for name, columns in predicted.items()}


def classifications(X: np.ndarray, codes: np.ndarray, weight: np.ndarray, k: int) -> dict[str, np.ndarray]:
    """Predict probabilities (n, k) of codes (n,) below k, as :func:`regressions`; none if a part has a single class."""
    parts, predicted = _parts(X), dict[str, np.ndarray]()
    if not parts or any(len(np.unique(codes[train])) < 2 for train, _ in parts):
        return {}
    if X.shape[1] <= _MOST_COLUMNS:
        logistic = LogisticRegression(tol=1e-3, max_iter=300)
        predicted["logistic regression"] = _predicted(
            logistic, standardised(in_own_units(X)), codes, weight, parts, "predict_proba"
        )
    if X.size * (k if k > 2 else 1) <= _MOST_CELLS:
        boosting = HistGradientBoostingClassifier(**_TREES)
        predicted[BOOSTING] = _predicted(boosting, _binned(X), codes, weight, parts, "predict_proba")
    rate, known = np.bincount(codes, weights=weight, minlength=k) / weight.sum(), np.unique(codes)
    probabilities = {}
    for name, p in predicted.items():
        # A class that one part has not seen is not impossible.
        probabilities[name] = np.tile(rate / (len(X) + 1), (len(X), 1))
        probabilities[name][:, known] += len(X) / (len(X) + 1) * p
    return probabilities


def _parts(X: np.ndarray) -> _Parts:
    """Parts of the rows, of which equal ones are in one part; none of fewer distinct rows than parts."""
    first, place = first_of_equals(X)
    if len(first) < _FOLDS.n_splits:
        return []
    return [(np.flatnonzero(~(told := np.isin(place, part))), np.flatnonzero(told)) for _, part in _FOLDS.split(first)]


def _predicted(
    model: Any, Z: np.ndarray, target: np.ndarray, weight: np.ndarray, parts: _Parts, method: str = "predict"
) -> np.ndarray:
    # Threads that wait for one another take longer than the trees.
    # The weights are ours, whether or not a user's are routed.
    one_thread = thread_pools().select(user_api="openmp").limit(limits=1)
    with one_thread, one_blas_thread(), warnings.catch_warnings(), config_context(enable_metadata_routing=False):
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.filterwarnings("ignore", "Number of classes in training fold", RuntimeWarning)
        given = {"sample_weight": weight}
        return np.asarray(cross_val_predict(model, Z, target, cv=parts, method=method, params=given))


def _binned(X: np.ndarray) -> np.ndarray:
    """Return the number of the bin of each cell: boosting's own quantiles of rows with weights take seconds."""
    edges = np.quantile(X, np.linspace(0, 1, _BINS + 1)[1:-1], axis=0).T
    return np.column_stack([np.searchsorted(np.unique(e), x, side="right") for e, x in zip(edges, X.T, strict=True)])
