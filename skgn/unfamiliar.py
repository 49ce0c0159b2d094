"""Rows unlike those that training saw: levels and codes that none of them had, and numbers far beyond theirs.

Predictions for such rows rest on no data. A warning names the columns, once for each call.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .cells import abbreviated

__all__ = [
    "Bounds",
    "UnfamiliarDataWarning",
    "outside",
    "unwatched",
    "warn_of_codes",
    "warn_of_levels",
    "warn_of_small_columns",
    "warn_of_units",
]

#: Numbers are far beyond those seen if they are more than this many ranges beyond them, where straight inputs end.
_RANGES_BEYOND = 2.0

#: Fewer values do not tell how far others may be.
_FEWEST_VALUES = 12

#: Columns that a warning names.
_NAMED = 5

_watched: ContextVar[bool] = ContextVar("watched", default=True)

_PACKAGE = str(Path(__file__).parent)


class UnfamiliarDataWarning(UserWarning):
    """Warning that cells of X are unlike those that training saw, or are read in another way than meant."""


@contextmanager
def unwatched() -> Iterator[None]:
    """Give no such warning within this context, where the package itself asks for predictions."""
    token = _watched.set(False)
    try:
        yield
    finally:
        _watched.reset(token)


def outside() -> int:
    """Return the ``stacklevel`` of the first caller beyond this package and scikit-learn, for a warning given there."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and _within(frame.f_code.co_filename):
        frame, level = frame.f_back, level + 1
    return level


def _within(filename: str) -> bool:
    return filename.startswith(_PACKAGE) or "sklearn" in Path(filename).parts


def _warn(text: str) -> None:
    warnings.warn(text, UnfamiliarDataWarning, stacklevel=outside())


def warn_of_levels(name: Any, levels: Sequence[Any], cells: Sequence[Any], unknown: np.ndarray) -> None:
    """Warn where the levels of category ``name`` are not those seen, but for how they are written.

    ``unknown`` (n,) tells which cells are no levels. There is a warning if all cells are unknown that are not missing,
    or if one is a level but for its type, case or blanks.
    """
    rows = np.flatnonzero(unknown).tolist()
    if not _watched.get() or len(rows) == 0:
        return
    known = {_plain(level): level for level in levels}
    alike = next((row for row in rows if _plain(cells[row]) in known), None)
    n_known = sum(cell is not None for cell in cells)
    if alike is None and len(rows) < n_known:
        return
    row = rows[0] if alike is None else alike
    seen = known[_plain(cells[row])] if alike is not None else levels[0] if len(levels) else None
    if len(rows) == n_known:
        text = f"No cell of column {name!r} of X has a level that training saw"
    else:
        text = f"{len(rows)} cells of column {name!r} of X have levels that training did not see"
    _warn(
        f"{text}: row {row} has {abbreviated(cells[row])}, and training saw {abbreviated(seen)}. Write levels as in "
        "training: type, case and blanks count."
    )


def warn_of_codes(name: Any, numbers: np.ndarray, values: np.ndarray) -> None:
    """Warn where no value (n,) of the feature ``name``, whose numbers are codes, is one of those seen."""
    known = values[~np.isnan(values)]
    if _watched.get() and len(known) and not np.isin(known, numbers).any():
        _warn(
            f"No cell of column {name!r} of X has a number that training saw. The target jumped between these numbers, "
            f"which are taken for codes: {known[0]:.16g} gets the mean target of all rows. If they are no codes, fit "
            "with categorical_features=None."
        )


def warn_of_units(names: Sequence[Any] | np.ndarray, target: bool) -> None:
    """Warn of columns of a stream, and of its target, that have outgrown units that cannot be changed."""
    _warn(
        f"Rows of this block have outgrown the units of the first block in {_listed(names, target)}. Weights of "
        "network= cannot follow: begin the stream with a block of rows like all others, or fit anew."
    )


def warn_of_small_columns(names: Sequence[Any] | np.ndarray, target: bool) -> None:
    """Warn of columns of a block of a stream, and of its target, that are far smaller than those before."""
    _warn(
        f"Rows of this block are less than a thousandth of those before in {_listed(names, target)}. They are learned "
        "in the units of those, as if they were nearly 0. Rescale them as those before, or fit anew."
    )


def _listed(names: Sequence[Any] | np.ndarray, target: bool) -> str:
    return ", ".join([f"{name!r}" for name in names[:_NAMED]] + ["..."] * (len(names) > _NAMED) + ["y"] * target)


def _plain(level: Any) -> Any:
    """Level without what may differ in writing: its type, case and outer blanks."""
    text = str(level).strip().casefold()
    try:
        return float(text)
    except ValueError:
        return text


@dataclass(frozen=True)
class Bounds:
    """Numbers between which a column is familiar, (d,) each. They are infinite where nothing can be said.

    Numbers more than two ranges beyond those seen are far. Heavy tails have more ranges: as many as the range of all
    values has ranges of the inner ones, those without the sqrt(n) least and greatest.
    """

    lowest: np.ndarray
    highest: np.ndarray

    @classmethod
    def fit(cls, X: np.ndarray, categorical: Sequence[int] = ()) -> Bounds:
        """Learn from distinct rows (n, d) as read; the columns that are ``categorical`` have no bounds."""
        X = np.asarray(X, dtype=np.float64)
        columns = [_bounds(X[[], 0] if j in categorical else x[~np.isnan(x)]) for j, x in enumerate(X.T)]
        return cls(*np.array(columns).T)

    def with_rows_of(self, other: Bounds) -> Bounds:
        """Return the bounds of all rows that either knows."""
        # Where one of them can say nothing, the other does.
        lowest = np.where(np.isinf(self.lowest), other.lowest, np.fmin(self.lowest, _unless_infinite(other.lowest)))
        highest = np.where(
            np.isinf(self.highest), other.highest, np.fmax(self.highest, _unless_infinite(other.highest))
        )
        return Bounds(lowest, highest)

    def warn(self, X: np.ndarray, names: Sequence[Any] | np.ndarray) -> None:
        """Warn of rows of X (n, d), with missing cells nan, that are far beyond those seen."""
        if not _watched.get():
            return
        far = (self.lowest > X) | (self.highest < X)
        rows, columns = far.any(axis=1), np.flatnonzero(far.any(axis=0))
        if len(columns) == 0:
            return
        shown = (
            f"in {len(columns)} column(s): "
            + ", ".join(f"{names[j]!r}" for j in columns[:_NAMED])
            + (", ..." if len(columns) > _NAMED else "")
        )
        j = columns[0]
        row = np.flatnonzero(far[:, j])[0]
        _warn(
            f"{rows.sum()} of {len(X)} rows of X are far beyond what training saw, {shown}. "
            f"Row {row} has {X[row, j]:.4g} in {names[j]!r}, where values from {self.lowest[j]:.4g} to "
            f"{self.highest[j]:.4g} would be near enough. Predictions for these rows rest on no data."
        )


def _unless_infinite(values: np.ndarray) -> np.ndarray:
    return np.where(np.isinf(values), np.nan, values)


def _bounds(values: np.ndarray) -> tuple[float, float]:
    """Bounds of one column, given its values."""
    n = len(values)
    if n < _FEWEST_VALUES:
        return -np.inf, np.inf
    cut = int(np.sqrt(n))
    values = np.partition(values, (0, cut, n - 1 - cut, n - 1))
    lowest, highest = values[0], values[-1]
    # In units in which no range overflows.
    unit = max(abs(lowest), abs(highest), np.finfo(float).tiny)
    width, inner = highest / unit - lowest / unit, values[n - 1 - cut] / unit - values[cut] / unit
    if width == 0:
        # Of a single value, its size has to do; 0 has none.
        width, ranges = abs(lowest / unit), _RANGES_BEYOND
    else:
        ranges = max(_RANGES_BEYOND, min(width / inner if inner > 0 else np.inf, np.sqrt(n)))
    reach = ranges * width if width else np.inf
    with np.errstate(over="ignore"):
        return unit * (lowest / unit - reach), unit * (highest / unit + reach)
