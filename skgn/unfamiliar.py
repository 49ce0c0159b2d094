"""Rows unlike those that training saw: of levels, codes or missing cells that it had not, or of numbers far beyond.

Predictions for such rows rest on no data, or on fewer columns. A warning names the columns, once for each call.
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

from .preprocessing import RANGES_BEYOND
from .wording import abbreviated, counted, first_few

__all__ = [
    "Bounds",
    "UnfamiliarDataWarning",
    "outside",
    "unwatched",
    "warn_of_codes",
    "warn_of_levels",
    "warn_of_new_cells",
    "warn_of_small_columns",
    "warn_of_units",
]

#: Fewer values do not tell how far others may be.
_FEWEST_VALUES = 12

#: New levels, codes and missing cells are said of a column where at least this part of the rows has them. Folds of
#: tables with rare levels have a few such rows: of 264 tables of Rdatasets 35 had them in most of five folds, and 3 had
#: so many.
_MANY = 0.1

_COST = "and their standard deviations or probabilities do not tell what that costs."

_OTHER_COLUMNS = f"Predictions for these rows rest on the other columns, {_COST}"

#: Kinds of new cells: what they are called, why they are new, and what becomes of predictions.
_NEW_CELLS = {
    "levels": ("levels", "that training did not see", _OTHER_COLUMNS),
    "missing": ("missing cells", "of which training had none", _OTHER_COLUMNS),
    "codes": (
        "codes",
        "that training did not see",
        f"Predictions for these rows rest on the mean target of all rows, {_COST} If these numbers are no codes, fit "
        "with categorical_features=None.",
    ),
}

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
    """Return the ``stacklevel`` of the first caller beyond this package and scikit-learn, for a warning given there.

    joblib, which calls for scikit-learn, is no caller either.
    """
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and _within(frame.f_code.co_filename):
        frame, level = frame.f_back, level + 1
    return level


def _within(filename: str) -> bool:
    return filename.startswith(_PACKAGE) or not {"sklearn", "joblib"}.isdisjoint(Path(filename).parts)


def _warn(text: str) -> None:
    warnings.warn(text, UnfamiliarDataWarning, stacklevel=outside())


def warn_of_levels(name: Any, levels: Sequence[Any], cells: Sequence[Any], unknown: np.ndarray) -> bool:
    """Warn where the levels of category ``name`` are not those seen, but for how they are written.

    ``unknown`` (n,) tells which cells are no levels. There is a warning if all cells are unknown that are not missing,
    or if one is a level but for its type, case or blanks. Returns whether there is one.
    """
    rows = np.flatnonzero(unknown).tolist()
    if not _watched.get() or len(rows) == 0:
        return False
    known = {_plain(level): level for level in levels}
    alike = next((row for row in rows if _plain(cells[row]) in known), None)
    n_known = sum(cell is not None for cell in cells)
    if alike is None and len(rows) < n_known:
        return False
    row = rows[0] if alike is None else alike
    seen = known[_plain(cells[row])] if alike is not None else levels[0] if len(levels) else None
    if len(rows) == n_known:
        text = f"No cell of column {name!r} of X has a level that training saw"
    else:
        text = f"{len(rows)} cells of column {name!r} of X have levels that training did not see"
    _warn(
        f"{text}: row {row} has {abbreviated(cells[row])}, and training saw {abbreviated(seen)}. Write levels as in "
        f"training: type, case and blanks count. {_OTHER_COLUMNS}"
    )
    return True


def warn_of_codes(name: Any, values: np.ndarray, unknown: np.ndarray) -> bool:
    """Warn where all values (n,) of the feature ``name``, whose numbers are codes, are ``unknown`` or missing.

    Returns whether there is a warning.
    """
    if not _watched.get() or not unknown.any() or not (unknown | np.isnan(values)).all():
        return False
    _warn(
        f"No cell of column {name!r} of X has a number that training saw. The target jumped between these numbers, "
        f"which are taken for codes: {values[unknown][0]:.16g} gets the mean target of all rows. Predictions for these "
        f"rows rest on it, {_COST} If they are no codes, fit with categorical_features=None."
    )
    return True


def warn_of_new_cells(kind: str, new: np.ndarray, names: Sequence[Any] | np.ndarray) -> None:
    """Warn of columns in which a tenth of the rows have cells of a ``kind`` that training had not.

    ``new`` (n, d) tells which cells these are, and kinds are the "levels", "codes" and "missing" cells. The text is the
    same for all orders of the rows.
    """
    counts = new.sum(axis=0)
    columns = np.flatnonzero((counts > 0) & (counts >= _MANY * len(new))).tolist()
    if not _watched.get() or len(columns) == 0:
        return
    cells, why, then = _NEW_CELLS[kind]
    first, *others = columns
    text = f"{counts[first]} of {len(new)} rows of X have {cells} in column {names[first]!r}"
    text = ", ".join(first_few([text, *(f"{counts[j]} in {names[j]!r}" for j in others)]))
    _warn(f"{text} {why}. {then}")


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
    return ", ".join(first_few([f"{name!r}" for name in names]) + ["y"] * target)


def _plain(level: Any) -> Any:
    """Level without what may differ in writing: its type, case and outer blanks."""
    text = str(level).strip().casefold()
    try:
        return float(text)
    except ValueError:
        return text


@dataclass(frozen=True)
class Bounds:
    """What is familiar of each column (d,): numbers between bounds, which are infinite where nothing can be said.

    ``missing`` tells whether training had missing cells, and ``others`` whether later blocks of a stream had levels or
    codes that its first block had not. Models of 0.1.0 know neither (None).

    Numbers more than two ranges beyond those seen are far. Heavy tails have more ranges: as many as the range of all
    values has ranges of the inner ones, those without the sqrt(n) least and greatest.
    """

    lowest: np.ndarray
    highest: np.ndarray
    missing: np.ndarray | None = None
    others: np.ndarray | None = None

    @classmethod
    def fit(cls, X: np.ndarray, categorical: Sequence[int] = (), unknown: np.ndarray | None = None) -> Bounds:
        """Learn from distinct rows (n, d) as read; the columns that are ``categorical`` have no bounds.

        ``unknown`` (n, d) tells which cells are levels or codes without columns of their own, by default none.
        """
        X = np.asarray(X, dtype=np.float64)
        columns = [_bounds(X[[], 0] if j in categorical else x[~np.isnan(x)]) for j, x in enumerate(X.T)]
        lowest, highest = np.array(columns).T
        unknown = np.zeros(X.shape, dtype=bool) if unknown is None else unknown
        return cls(lowest, highest, *(np.atleast_1d(cells.any(axis=0)) for cells in (np.isnan(X), unknown)))

    def with_rows_of(self, other: Bounds) -> Bounds:
        """Return the bounds of all rows that either knows."""
        # Where one of them can say nothing, the other does.
        lowest = np.where(np.isinf(self.lowest), other.lowest, np.fmin(self.lowest, _unless_infinite(other.lowest)))
        highest = np.where(
            np.isinf(self.highest), other.highest, np.fmax(self.highest, _unless_infinite(other.highest))
        )
        return Bounds(lowest, highest, _either(self.missing, other.missing), _either(self.others, other.others))

    def warn(self, X: np.ndarray, names: Sequence[Any] | np.ndarray) -> None:
        """Warn of rows of X (n, d), with missing cells nan, that are far beyond those seen."""
        if not _watched.get():
            return
        far = (self.lowest > X) | (self.highest < X)
        rows, columns = far.any(axis=1), np.flatnonzero(far.any(axis=0)).tolist()
        if len(columns) == 0:
            return
        shown = f"in {counted(len(columns), 'column')}: {_listed([names[j] for j in columns], False)}"
        j = columns[0]
        row = np.flatnonzero(far[:, j])[0]
        _warn(
            f"{rows.sum()} of {len(X)} rows of X are far beyond what training saw, {shown}. "
            f"Row {row} has {X[row, j]:.4g} in {names[j]!r}, where values from {self.lowest[j]:.4g} to "
            f"{self.highest[j]:.4g} would be near enough. Predictions for these rows rest on no data."
        )


def _either(one: np.ndarray | None, other: np.ndarray | None) -> np.ndarray | None:
    return None if one is None or other is None else one | other


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
        width, ranges = abs(lowest / unit), RANGES_BEYOND
    else:
        ranges = max(RANGES_BEYOND, min(width / inner if inner > 0 else np.inf, np.sqrt(n)))
    reach = ranges * width if width else np.inf
    with np.errstate(over="ignore"):
        return unit * (lowest / unit - reach), unit * (highest / unit + reach)
