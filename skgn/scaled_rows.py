"""Rows that a fit predicts, scaled as its networks read them, and the outputs of these.

Scaled rows may have many columns: up to 500 in radial units. So many rows are scaled in parts, and what is predicted of
the parts is joined. Their columns then fit the memory budget, whatever the number of rows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted

from .backend import chunks
from .ensemble import stacked_outputs
from .mixture import voters

if TYPE_CHECKING:
    from typing import Any

    from .estimator import BaseGN
    from .inputs import Table

__all__ = ["ScaledRows", "outputs_of_voters", "predicted_in_parts", "scaled_rows"]

#: Rows by the name of the scaling that a network reads.
ScaledRows = dict[str, np.ndarray]


def scaled_rows(estimator: BaseGN, X: Any) -> tuple[ScaledRows, np.dtype]:
    """Scale all rows at once for the members that count; also return the dtype of predictions."""
    table, columns, dtype = _read(estimator, X, all_members=False)
    return table.scale(columns), dtype


def predicted_in_parts(
    estimator: BaseGN,
    X: Any,
    predict: Callable[..., tuple[np.ndarray, ...]],
    *beside: np.ndarray,
    all_members: bool = False,
) -> tuple[list[np.ndarray], np.dtype]:
    """Predict rows in parts, scaled for the members that count or for all.

    ``predict`` takes :data:`ScaledRows`, and the same rows of the arrays ``beside``. Its arrays are joined along their
    first axis, and returned with the dtype of predictions.
    """
    table, columns, dtype = _read(estimator, X, all_members)
    width = sum(scaled.shape[1] for scaled in table.scale(columns[:1]).values())
    # Columns are joined of blocks, which takes them twice.
    parts = chunks(len(columns), 2 * columns.itemsize * width, torch.device("cpu"), most=len(columns))
    predicted = [predict(table.scale(columns[rows]), *(each[rows] for each in beside)) for rows in parts]
    return [np.concatenate(values) for values in zip(*predicted, strict=True)], dtype


def outputs_of_voters(estimator: BaseGN, scaled: ScaledRows) -> tuple[np.ndarray, np.ndarray]:
    """Outputs at scaled rows of every member that counts, (members, n, k) in float64, and their weights."""
    members, weights = voters(estimator.estimators_, estimator.weights_)
    return stacked_outputs(members, scaled, estimator.device), weights


def _read(estimator: BaseGN, X: Any, all_members: bool) -> tuple[Table, np.ndarray, np.dtype]:
    """Check X and encode it; with the table whose scalings are read."""
    check_is_fitted(estimator)
    table = estimator._table
    X = table.read(estimator, X)
    return table if all_members else table.only(_scalings_read(estimator)), table.encode(X), X.dtype


def _scalings_read(estimator: BaseGN) -> set[str]:
    """Names of the scalings that predictions read: those of the members that count, and of the noise."""
    noise = getattr(estimator, "_noise", None)
    of_members = {member.scaling for member in voters(estimator.estimators_, estimator.weights_)[0]}
    return of_members if noise is None else of_members | noise.scalings
