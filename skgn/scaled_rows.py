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
from .radial import RadialUnits

if TYPE_CHECKING:
    from typing import Any

    from .estimator import BaseGN
    from .scaler import Scaler

__all__ = ["ScaledRows", "outputs_of_voters", "predicted_in_parts", "scaled_rows"]

#: Rows by the name of the scaling that a network reads.
ScaledRows = dict[str, np.ndarray]


def scaled_rows(estimator: BaseGN, X: Any) -> tuple[ScaledRows, np.dtype]:
    """Scale all rows at once for the members that count; also return the dtype of predictions."""
    check_is_fitted(estimator)
    rows, dtype = _encoded(estimator, X)
    return estimator._table.only(_columns_read(estimator)).scale(rows), dtype


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
    check_is_fitted(estimator)
    rows, dtype = _encoded(estimator, X)
    read = _columns_read(estimator, all_members)
    table = estimator._table.only(read)
    # Half of the budget is left for what is computed of the columns.
    width = sum(_width(table.scalings[name], n_columns) for name, n_columns in read.items())
    parts = chunks(len(rows), 2 * rows.itemsize * width, torch.device("cpu"), most=len(rows))
    predicted = [predict(table.scale(rows[part]), *(each[part] for each in beside)) for part in parts]
    return [np.concatenate(values) for values in zip(*predicted, strict=True)], dtype


def outputs_of_voters(estimator: BaseGN, scaled: ScaledRows) -> tuple[np.ndarray, np.ndarray]:
    """Outputs at scaled rows of every member that counts, (members, n, k) in float64, and their weights."""
    members, weights = voters(estimator.estimators_, estimator.weights_)
    return stacked_outputs(members, scaled, estimator.device), weights


def _encoded(estimator: BaseGN, X: Any) -> tuple[np.ndarray, np.dtype]:
    """Check X and encode it; also return its float type."""
    rows = estimator._table.read(estimator, X)
    return estimator._table.encode(rows), rows.dtype


def _width(scaler: Scaler | None, n_columns: int) -> int:
    """Most numbers that a row is at a time: radial units have one for each centre before they have columns."""
    return max(n_columns, len(scaler.centres)) if isinstance(scaler, RadialUnits) else n_columns


def _columns_read(estimator: BaseGN, all_members: bool = False) -> dict[str, int]:
    """Numbers of columns of the scalings that predictions read: those of members, and of the noise."""
    members = estimator.estimators_ if all_members else voters(estimator.estimators_, estimator.weights_)[0]
    noise = getattr(estimator, "_noise", None)
    return {member.scaling: member.network.n_inputs for member in [*members, *(noise.members if noise else ())]}
