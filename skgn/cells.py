"""Columns of tables, and their cells: which are missing, which are numbers, and which can be neither number nor level.

Frames of pandas, polars and pyarrow, and arrays, are all read by the functions of this file.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from datetime import date, time, timedelta
from decimal import Decimal
from numbers import Complex, Integral, Number, Real
from typing import Any

import numpy as np
from sklearn.utils.multiclass import check_classification_targets, unique_labels

from .wording import abbreviated

__all__ = [
    "cells_of",
    "check_finite",
    "check_kind",
    "check_labels",
    "check_target",
    "checked_classes",
    "column_of",
    "columns_of",
    "has_categories",
    "has_neither",
    "has_strings",
    "holds_objects",
    "is_frame",
    "is_neither",
    "is_number",
    "kind_of",
    "names_of",
    "numbers_of",
    "refusal",
    "truth_values",
    "written_dates",
    "written_numbers",
]

#: Types of columns of strings, and of categories, as pandas, polars and pyarrow print them.
_STRING = re.compile(r"(str|string|string_view|large_string|utf8|large_utf8)\b")
_CATEGORY = re.compile(rf"(category|categorical|enum|dictionary)\b|{_STRING.pattern}")

#: A number as people write it, with a point or a comma, and perhaps with the other one between thousands.
_WRITTEN = re.compile(
    r"\s*[-+]?(\d+[.,]?\d*|[.,]\d+|\d{1,3}(,\d{3})+(\.\d*)?|\d{1,3}(\.\d{3})+,\d*)(e[-+]?\d+)?\s*%?\s*", re.IGNORECASE
)

_MONTH, _DAY = "(?:0?[1-9]|1[0-2])", r"(?:0?[1-9]|[12]\d|3[01])"

#: A date as people write it, with the year first or last, and perhaps with the time of day.
_DATE = re.compile(
    rf"\s*(?:\d{{4}}[-/]{_MONTH}|\d{{4}}([-/.]){_MONTH}\1{_DAY}|{_DAY}([-/.]){_DAY}\2\d{{4}}|{_DAY}/{_DAY}/\d\d)"
    r"(?:[T ]\d{1,2}:\d{2}.*)?\s*"
)

#: Types of columns, as pandas, polars and pyarrow print them, that hold neither numbers nor categories.
_NEITHER = re.compile(
    r"datetime|timedelta|date|time|duration|period|interval|list|large_list|struct|array|binary|map|complex|"
    r"\[\(|\|?v\d"  # records of NumPy
)

#: Types of columns of numbers.
_NUMBERS = re.compile(r"float|double|halffloat|u?int|bool")

#: Types of columns of truth values that may be missing.
_NULLABLE_TRUTH = ("boolean", "bool[pyarrow]")

_CURE = "make a number of it, or leave the cell empty (None)"


def is_frame(X: Any) -> bool:
    """Whether X is a table of pandas, polars or pyarrow."""
    return (hasattr(X, "dtypes") and hasattr(X, "columns")) or hasattr(X, "column_names")


def names_of(X: Any) -> list[Any]:
    """Names of the columns of a table."""
    return list(X.column_names if hasattr(X, "column_names") else X.columns)


def column_of(X: Any, j: int) -> Any:
    """Return column j of a table or an array, in its own type."""
    if hasattr(X, "iloc"):
        return X.iloc[:, j]
    if hasattr(X, "get_column"):
        return X.get_column(X.columns[j])
    return X.column(j) if hasattr(X, "column_names") else X[:, j]


def columns_of(X: Any) -> Any:
    """Return X itself if it has columns to be read one by one; anything else becomes an array of Python objects."""
    return X if is_frame(X) else np.asarray(X, dtype=object)


def kind_of(column: Any) -> str:
    """Name of a column's type in small letters."""
    return str(column.dtype if hasattr(column, "dtype") else column.type).lower()


def has_neither(kind: str) -> bool:
    """Whether a column of this :func:`kind_of` holds neither numbers nor categories, but for example times."""
    return _NEITHER.match(kind) is not None


def has_categories(kind: str) -> bool:
    """Whether a column of this :func:`kind_of` holds categories or strings."""
    return _CATEGORY.match(kind) is not None


def has_strings(kind: str) -> bool:
    """Whether a column of this :func:`kind_of` holds strings."""
    return _STRING.match(kind) is not None


def holds_objects(X: Any) -> bool:
    """Whether cells of X are Python objects, strings, categories or decimals, which are read one by one."""
    if is_frame(X):
        columns = [column_of(X, j) for j in range(len(names_of(X)))]
        return any(_of_objects(column) or has_categories(kind_of(column)) for column in columns)
    if isinstance(X, np.ndarray):
        return X.ndim == 2 and X.dtype.kind in "OUS"
    try:
        return isinstance(X, (list, tuple)) and np.ndim(X) == 2 and np.asarray(X).dtype.kind in "OUScmM"
    except ValueError:
        return False  # Rows of different lengths are no table, as scikit-learn says.


def _of_objects(column: Any) -> bool:
    return kind_of(column).startswith(("object", "decimal"))


def _is_missing(value: Any) -> bool:
    if isinstance(value, (float, np.floating)):
        return bool(np.isnan(value))
    if isinstance(value, Decimal):
        return value.is_nan()
    # Recognise pandas.NA and NaT without importing pandas.
    return value is None or type(value).__name__ in ("NAType", "NaTType")


def cells_of(column: Any) -> list[Any]:
    """Return the cells; missing cells are None."""
    if hasattr(column, "isna") and kind_of(column) != "object":
        # Of a series they are in pandas, and of an index or a categorical in NumPy already.
        values = np.array(column, dtype=object)
        values[np.asarray(column.isna())] = None
        return values.tolist()
    # Of pyarrow, NumPy, polars, and of pandas' Python objects.
    name = next(name for name in ("to_pylist", "tolist", "to_list") if hasattr(column, name))
    return [None if _is_missing(value) else value for value in getattr(column, name)()]


def truth_values(y: Any) -> Any:
    """Return a column of pandas' nullable truth values as an array of bool, and anything else as it is.

    scikit-learn makes numbers of them. A column with missing cells is left to its error.
    """
    column = column_of(y, 0) if is_frame(y) and len(names_of(y)) == 1 else y
    if not hasattr(column, "isna") or is_frame(column) or kind_of(column) not in _NULLABLE_TRUTH or column.isna().any():
        return y
    return np.asarray(column, dtype=bool).reshape(np.shape(y))


def is_number(cell: Any) -> bool:
    """Whether a cell is a real number or a truth value."""
    return isinstance(cell, (Real, Decimal, np.bool_))


def written_numbers(levels: Collection[str]) -> list[str]:
    """Return the levels that are numbers as people write them, sorted; none where the levels may be codes.

    One other level may stand for a missing cell. Codes are whole numbers or have leading zeros, as postcodes do.
    """
    numbers = _written(_WRITTEN, levels)
    whole = len(numbers) == len(levels) and all(number.isdecimal() for number in numbers)
    zeros = any(number.startswith("0") and number[1:2].isdecimal() for number in numbers)
    return [] if whole or zeros else numbers


def written_dates(levels: Collection[str]) -> list[str]:
    """Return the levels that are dates as people write them, sorted. One other level may stand for a missing cell."""
    return _written(_DATE, levels)


def _written(pattern: re.Pattern[str], levels: Collection[str]) -> list[str]:
    """Return the levels of this pattern, sorted; none where more than one level has another."""
    matches = sorted(filter(pattern.fullmatch, levels))
    return [] if len(matches) + 1 < len(levels) else matches


def is_neither(cell: Any) -> bool:
    """Whether a cell can be neither a number nor a level of a category: a time, a collection, a complex number."""
    if isinstance(cell, (date, time, timedelta, np.datetime64, np.timedelta64)):
        return True
    if isinstance(cell, Number) and not is_number(cell):
        return True
    return isinstance(cell, Collection) and not isinstance(cell, (str, bytes))


def refusal(subject: str, kind: Any, row: int | None = None) -> TypeError:
    """Make the error for what is neither a number nor a category."""
    where = "" if row is None else f" in row {row}"
    return TypeError(
        f"{subject} has the type {kind}{where}, which is neither a number nor a category: make numbers of it (the days "
        "since a date, for example), or leave it out."
    )


def check_kind(subject: str, column: Any, numeric: bool = True) -> None:
    """Refuse a column or array of complex numbers and, where it is to be ``numeric``, of times or records."""
    kind = kind_of(column)
    if isinstance(column, np.ma.MaskedArray) and np.ma.is_masked(column):
        raise ValueError(
            f"{subject} is a masked array, and the values behind its mask would count: put nan there "
            "(filled(numpy.nan)), or leave the rows out."
        )
    if "complex" in kind:
        raise _complex(f"{subject} has the type {kind}")
    if numeric and has_neither(kind):
        raise refusal(subject, kind)


def _complex(found: str) -> ValueError:
    # The first words are those of scikit-learn.
    return ValueError(f"Complex data not supported: {found}. Make real numbers of it, such as its real part.")


def check_target(y: Any, numeric: bool, rows_of: str = "") -> None:
    """Refuse a y of complex or missing cells, of no numbers where it is ``numeric``, or else of labels without order.

    Errors name the row, and what its rows are of. What is missing in columns of numbers, and what has no rows, is left
    to scikit-learn.
    """
    for column in [column_of(y, j) for j in range(len(names_of(y)))] if is_frame(y) else [y]:
        if not (hasattr(column, "dtype") or hasattr(column, "type")):
            try:
                column = np.asarray(column)
            except ValueError:
                continue  # Rows of different lengths.
        check_kind("y", column, numeric)
        if not _NUMBERS.match(kind_of(column)) and getattr(column, "ndim", 1) in (1, 2):
            _check_target_cells(column, numeric, rows_of)


def _check_target_cells(column: Any, numeric: bool, rows_of: str) -> None:
    flat, width = (column.ravel(), column.shape[1]) if getattr(column, "ndim", 1) == 2 else (column, 1)
    cells = cells_of(flat)
    for position, cell in enumerate(cells):
        row = f"{position // width}{rows_of}"
        if cell is None:
            raise ValueError(f"Input y contains NaN, or another missing value, in row {row}: leave the row out.")
        found = f"y has {abbreviated(cell)} in row {row}"
        if isinstance(cell, Complex) and not isinstance(cell, Real):
            raise _complex(found)
        if numeric:
            try:
                float(cell)
            except (TypeError, ValueError, OverflowError) as error:
                cure = ": use GNClassifier for labels of classes" if isinstance(cell, (str, bytes)) else ""
                raise (TypeError if isinstance(error, TypeError) else ValueError)(
                    f"{found}, where a regression needs a number of float64 ({error}){cure}."
                ) from error
        else:
            _check_order(cell, cells[0], found)


def _check_order(label: Any, other: Any, found: str) -> None:
    """Refuse a label that cannot be sorted among the others."""
    try:
        label < other  # noqa: B015
    except TypeError as error:
        raise TypeError(
            f"{found} beside {abbreviated(other)}, and classes are sorted ({error}): make all labels of one type."
        ) from error


def check_finite(X: np.ndarray, names: np.ndarray, rows_of: str = "") -> None:
    """Refuse infinite cells of floats (n, d); the error names column and row of the first, and what its rows are of."""
    infinite = np.isinf(X)
    if infinite.any():
        row, j = np.argwhere(infinite)[0].tolist()
        raise _infinity(X[row, j].item(), names[j], f"{row}{rows_of}")


def _infinity(cell: Any, name: Any, row: int | str) -> ValueError:
    """Make the error for a number that is not finite."""
    return ValueError(
        f"Input X contains infinity. {_found(cell, name, row)}, which is beyond float64: rescale the column; {_CURE}."
    )


def _found(cell: Any, name: Any, row: int | str) -> str:
    return f"Column {name!r} of X has {abbreviated(cell)} in row {row}"


def numbers_of(column: Any, name: Any, rows_of: str = "") -> np.ndarray:
    """Return the cells as float64; missing cells are nan. An error names column and cell, and what its rows are of."""
    if not _of_objects(column):
        try:
            if hasattr(column, "isna"):
                return column.to_numpy(dtype=np.float64, na_value=np.nan)
            return np.asarray(column.to_numpy() if hasattr(column, "to_numpy") else column, dtype=np.float64)
        except (TypeError, ValueError):
            pass  # Cell by cell, for an error that names the first wrong one.
    return np.array(
        [_number(cell, name, f"{row}{rows_of}") for row, cell in enumerate(cells_of(column))], dtype=np.float64
    )


def _number(cell: Any, name: Any, row: str) -> float:
    if cell is None:
        return np.nan
    subject = _found(cell, name, row)
    if is_neither(cell):
        kind = type(cell).__name__
        raise TypeError(
            f"{subject}, which is no number (an argument must be a string or a real number, not a {kind}): {_CURE}."
        )
    try:
        number = float(cell)
    except OverflowError as error:
        raise ValueError(f"{subject}, which is too large for float64: rescale the column; {_CURE}.") from error
    except (TypeError, ValueError) as error:
        raise (TypeError if isinstance(error, TypeError) else ValueError)(
            f"{subject}, among cells that are no numbers ({error}): {_CURE}. If the column is a category, name it in "
            "categorical_features, or give its position there."
        ) from error
    if np.isinf(number):
        raise _infinity(cell, name, row)
    return number


def check_labels(y: np.ndarray) -> None:
    """Refuse a y that is no labels of a classification."""
    if y.dtype == object and y.size and not isinstance(y.flat[0], str):
        types: dict[str, Any] = {"bool": (bool, np.bool_), "int": Integral, "float": Real}
        meant = next((name for name, kind in types.items() if all(isinstance(cell, kind) for cell in y.flat)), "str")
        # The first words are those of scikit-learn.
        raise ValueError(
            f"Unknown label type: y is an array of Python objects with {abbreviated(y.flat[0])} in row 0, and labels "
            f"in such an array must be strings: y.astype({meant}) may be meant."
        )
    check_classification_targets(y)


def checked_classes(classes: Any) -> np.ndarray:
    """Return the sorted ``classes`` of a stream; refuse what can be no label of a row."""
    for position, cell in enumerate(cells_of(np.ravel(np.asarray(classes, dtype=object)))):
        if cell is None or (isinstance(cell, (float, np.floating)) and np.isinf(cell)):
            found = "a missing value" if cell is None else f"{cell:g}"
            raise ValueError(
                f"classes has {found} at position {position}, which is no label that y may have: leave it out."
            )
    return unique_labels(classes)
