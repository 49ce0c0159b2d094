"""Columns of y that another column tells: copies, the same in another unit, complements, and constants.

Networks have no outputs for these. The noise of two outputs is taken as independent. So what a column and its copy
share looks like a relation that holds without noise, and networks would be fitted to it. A constant, whose noise is 0,
would count for more than all other columns.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from .backend import like
from .preprocessing import TargetScaler
from .skill import Skill
from .targets import RegressionTarget

__all__ = ["RedundantTarget", "quantiles_of_y", "without_redundant"]

#: Standardised columns are the same up to this: float32, or files with five digits, round copies that far apart.
_SAME = 1e-4

#: Two rows lie on a line, whatever they are.
_FEWEST_ROWS = 3


@dataclass(frozen=True, kw_only=True)
class RedundantTarget(RegressionTarget):
    """Columns (n, m) of which networks have those that are ``kept``; with these, the others are known.

    Column j is ``slope[j]`` times the kept column number ``source[j]``, plus ``offset[j]``. A constant has the slope 0.
    """

    kept: tuple[int, ...]
    source: tuple[int, ...]
    slope: np.ndarray
    offset: np.ndarray

    @property
    def n_outputs(self) -> int:
        return len(self.kept)

    @property
    def falls(self) -> np.ndarray:
        """Whether a column (m,) is the lower, the higher the one is that tells it."""
        return self.slope < 0

    @property
    def is_whole(self) -> bool:
        """Whether it is known of each column what tells it."""
        columns = {len(self.source), self.slope.size, self.offset.size, self.n_columns}
        return len(columns) == 1 and set(self.source) <= set(range(self.n_outputs))

    def encode(self, y: Any) -> np.ndarray:
        return super().encode(y)[:, self.kept]

    def check_block(self, y: Any) -> None:
        """Refuse y of a later block, or of a warm start, in which other columns are redundant than before."""
        Y = super().encode(y)
        told = self.means_of_y(Y[:, self.kept])
        # Columns are the same up to a part of their standard deviations, and twice that in other rows.
        deviation = np.abs(self.slope) * np.broadcast_to(self.scaler.scale, self.n_outputs)[list(self.source)]
        apart = np.abs(Y - told) > 2 * _SAME * np.maximum(np.maximum(np.abs(Y), np.abs(told)), deviation)
        if apart.any():
            column = np.flatnonzero(apart.any(axis=0))[0]
            raise ValueError(
                f"Column {column} of y was a constant or a copy of another column in fit, and so has no output of its "
                "own. Now it is something else: begin with partial_fit, or fit all rows with warm_start=False."
            )

    def _with_same_outputs(self, fresh: RegressionTarget, y: np.ndarray) -> RegressionTarget:
        self.check_block(y)
        identity = TargetScaler.identity(self.n_outputs)
        again = replace(self, loss=fresh.loss, quantile=fresh.quantile, scaler=identity, exposure=fresh.exposure)
        return again.mixed(self.scaler.mixing)

    def in_shape_of_y(self, values: Any) -> Any:
        return values[..., list(self.source)]

    def means_of_y(self, values: Any) -> Any:
        slope, offset = (like(values, each) for each in (self.slope, self.offset))
        return self.in_shape_of_y(values) * slope + offset

    def deviations_of_y(self, values: Any) -> Any:
        return self.in_shape_of_y(values) * like(values, np.abs(self.slope))

    def probabilities_of_y(self, values: np.ndarray) -> np.ndarray:
        p = self.in_shape_of_y(values)
        return np.where(self.slope == 0, 0.5, np.where(self.falls, 1 - p, p))

    def mean_score(self, skill: Skill) -> float:
        """Mean over the columns of y of the scores of those that tell them; a constant counts 1."""
        of_outputs = np.resize(skill.of_outputs or skill.score, self.n_outputs)
        return float(np.where(self.slope == 0, 1.0, of_outputs[list(self.source)]).mean())


def without_redundant(target: RegressionTarget, y: np.ndarray) -> RegressionTarget:
    """Leave out the columns of y that others tell; the same target where there are none, or where all are constant."""
    Y = target.encode(y)
    constant = np.ptp(Y, axis=0) == 0 if len(Y) else np.ones(target.n_columns, dtype=bool)
    if len(Y) < _FEWEST_ROWS or constant.all():
        return target
    scaler = TargetScaler.fit(Y, np.ones(len(Y)))
    Z = scaler.transform(Y)
    correlation = Z.T @ Z / len(Y)
    kept: list[int] = []
    source, slope, offset = [], [], []
    for j in range(target.n_columns):
        copied = None if constant[j] else _copied(Z, j, kept, correlation[j])
        if copied is None and not constant[j]:
            kept.append(j)
        i = j if copied is None else copied
        source.append(0 if constant[j] else kept.index(i))
        slope.append(0.0 if constant[j] else np.sign(correlation[i, j]) * (scaler.scale[j] / scaler.scale[i]))
        offset.append(Y[0, j] if constant[j] else scaler.mean[j] - slope[j] * scaler.mean[i])
    if len(kept) == target.n_columns or not np.isfinite([slope, offset]).all():
        return target
    given = {field.name: getattr(target, field.name) for field in fields(target)}
    given["scaler"] = TargetScaler.identity(len(kept))
    return RedundantTarget(
        **given, kept=tuple(kept), source=tuple(source), slope=np.array(slope), offset=np.array(offset)
    )


def quantiles_of_y(
    target: RegressionTarget, of_outputs: Callable[[np.ndarray], np.ndarray], levels: np.ndarray
) -> np.ndarray:
    """Quantiles (n, q) or (n, q, k) of y by the function that has those of the outputs (q, n, k)."""
    values = target.in_units_of_y(of_outputs(levels))
    if isinstance(target, RedundantTarget) and target.falls.any():
        values[..., target.falls] = target.in_units_of_y(of_outputs(1 - levels))[..., target.falls]
    return values


def _copied(Z: np.ndarray, j: int, kept: list[int], correlation: np.ndarray) -> int | None:
    """Which of the kept columns of Z tells column j; None if none does."""
    for i in kept:
        if abs(correlation[i]) > 1 - _SAME and np.abs(Z[:, j] - np.sign(correlation[i]) * Z[:, i]).max() <= _SAME:
            return i
    return None
