"""Tables as people have them, with numbers, categories and missing cells, to finite numbers.

There are two steps, each a transformer of scikit-learn. :class:`TableReader` makes one float column of each feature.
Numbers stay as they are, categories become codes of their levels, and missing cells become nan. Rows are compared and
split in this form. Then an encoder, of :mod:`skgn.encoders`, makes the columns that are scaled and trained on.
"""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Hashable, Sequence
from dataclasses import dataclass
from numbers import Complex, Integral, Real
from typing import Any

import numpy as np
import torch
from scipy.sparse import issparse
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.pipeline import Pipeline
from sklearn.utils import check_array
from sklearn.utils.validation import check_is_fitted, validate_data

from .backend import gigabytes
from .cells import (
    cells_of,
    check_finite,
    check_kind,
    column_of,
    columns_of,
    has_categories,
    has_neither,
    has_strings,
    holds_objects,
    is_frame,
    is_neither,
    is_number,
    kind_of,
    names_of,
    numbers_of,
    refusal,
    written_dates,
    written_numbers,
)
from .free_memory import available_memory
from .unfamiliar import UnfamiliarDataWarning, outside, warn_of_levels
from .wording import abbreviated

__all__ = [
    "MOST_LEVELS",
    "TablePreprocessor",
    "TableReader",
    "categorical_columns",
    "check_same_categories",
    "check_types",
    "dense",
    "level_namer",
]

#: A fit takes so many times the memory of a large dense table: measured, for one scaling of its columns.
_COPIES = 4

#: Levels up to which a category has an indicator for each (docs/guide/tables.md has what this is worth).
MOST_LEVELS = 10


def dense(X: Any) -> Any:
    """Return a sparse X as an array of floats, if that fits in memory; anything else as it is.

    Scalings and networks read all cells. X may be sparse in any format of SciPy, or a frame of sparse columns. What has
    no rows and columns in memory is refused.
    """
    _check_is_table(X)
    is_matrix = issparse(X)
    if not is_matrix and not _is_sparse_frame(X):
        return X
    kept = is_matrix and X.dtype.kind in "fc"
    size = math.prod(X.shape) * (X.dtype.itemsize if kept else np.dtype(np.float64).itemsize)
    need, available = _COPIES * size, available_memory(torch.device("cpu"))
    if need > available:
        raise ValueError(
            f"X is sparse, and the networks read all of its cells: as a dense array it takes {gigabytes(size)}, and "
            f"the work on it {gigabytes(need)}, but {gigabytes(available)} are available. Pass fewer rows at a "
            "time (to partial_fit and predict) or fewer columns; categories need no encoder before the estimator."
        )
    if not is_matrix:
        return X.sparse.to_dense()
    return (X if kept else X.astype(np.float64)).toarray(order="C")


def _check_is_table(X: Any) -> None:
    if hasattr(X, "collect"):
        raise TypeError(f"X is a {type(X).__name__}, whose rows are not in memory: pass X.collect().")
    if len(getattr(X, "shape", (0, 0))) < 2 and getattr(getattr(X, "dtype", None), "names", None) is None:
        # Which says what is wrong: a single row or column has one dimension.
        check_array(X, dtype=None, ensure_all_finite=False, input_name="X")


def _is_sparse_frame(X: Any) -> bool:
    """Whether X is a frame of pandas whose columns are all sparse."""
    kinds = [kind_of(column_of(X, j)) for j in range(len(names_of(X)))] if hasattr(X, "iloc") and is_frame(X) else []
    return bool(kinds) and all(kind.startswith("sparse") for kind in kinds)


def categorical_columns(X: Any, categorical_features: Any) -> list[int]:
    """Find the positions of the features that are categories.

    Parameters
    ----------
    X : array-like or data frame
    categorical_features : "from_dtype", None, or array-like of int, bool or str
        See the estimators.

    Raises
    ------
    TypeError
        If a column of a data frame, or an array, holds neither numbers nor categories, but for example times.
    ValueError
        If names, positions or mask do not match the columns of X.
    """
    chosen = _given_columns(X, categorical_features) if _are_given(categorical_features) else []
    check_types(X, chosen)
    if not (is_frame(X) and isinstance(categorical_features, str)):
        return chosen
    for j, name in enumerate(names_of(X)):
        kind = kind_of(column_of(X, j))
        cells = cells_of(column_of(X, j)) if kind == "object" or has_strings(kind) else []
        others = [row for row, cell in enumerate(cells) if cell is not None and not is_number(cell)]
        if others and all(isinstance(cells[row], str) for row in others):
            _warn_of_mixture(name, cells, others[0])
            _warn_of_writing(name, {cell for cell in cells if isinstance(cell, str)})
        if others or has_categories(kind):
            chosen.append(j)
    return chosen


def check_same_categories(X: Any, categorical_features: Any, categorical: Collection[int]) -> None:
    """Refuse categories that are given, if they are other columns of X than the ``categorical`` ones of the first rows.

    Names say nothing of columns without names.
    """
    if not _are_given(categorical_features):
        return
    named = any(isinstance(value, str) for value in np.ravel(np.asarray(categorical_features, dtype=object)))
    if not is_frame(X) and (named or np.ndim(X) != 2):
        return
    chosen = _given_columns(X, categorical_features)
    if chosen != sorted(categorical):
        raise ValueError(
            f"categorical_features={categorical_features!r} are the columns {chosen}, but the rows so far had "
            f"{sorted(categorical)}: set it as it was, or call fit."
        )


def check_types(X: Any, categorical: Collection[int] = ()) -> None:
    """Refuse what is neither numbers nor categories, but for example times, in columns other than ``categorical``."""
    if not is_frame(X):
        if hasattr(X, "dtype"):
            check_kind("X", X)
        return
    for j, name in enumerate(names_of(X)):
        if j in categorical:
            continue
        kind = kind_of(column_of(X, j))
        if has_neither(kind):
            raise refusal(f"Column {name!r} of X", kind)
        for row, cell in enumerate(cells_of(column_of(X, j)) if kind == "object" else []):
            if is_neither(cell):
                raise refusal(f"Column {name!r} of X", type(cell).__name__, row)


def _warn_of_mixture(name: Any, cells: list[Any], row: int) -> None:
    """Warn of a column that is taken as a category, but has numbers too; the cell in this ``row`` is none."""
    number = next((cell for cell in cells if is_number(cell)), None)
    if number is not None:
        warnings.warn(
            f"Column {name!r} of X is taken as a category, of which {abbreviated(number)} is a level, as row {row} has "
            f"{abbreviated(cells[row])}, which is no number. If the column has numbers, make one of that cell "
            "(pandas.to_numeric), or leave it empty (None). If not, name the column in categorical_features.",
            UnfamiliarDataWarning,
            stacklevel=outside(),
        )


def _warn_of_writing(name: Any, levels: set[str]) -> None:
    """Warn of a column of strings that is taken as a category although its ``levels`` are many numbers or dates."""
    for kind, written, cure in (
        ("numbers", written_numbers(levels), "convert the column (pandas.to_numeric)"),
        ("dates", written_dates(levels), "make numbers of them, such as the days since a date (pandas.to_datetime)"),
    ):
        if len(written) <= MOST_LEVELS:
            continue
        other = "".join(f", with {abbreviated(level)} as a missing cell" for level in levels.difference(written))
        warnings.warn(
            f"Column {name!r} of X is taken as a category of {len(levels)} levels: {kind} written as strings, such as "
            f"{abbreviated(written[-1])}. If these are meant as {kind}, {cure}{other}. If not, name the column in "
            "categorical_features.",
            UnfamiliarDataWarning,
            stacklevel=outside(),
        )


def _are_given(categorical_features: Any) -> bool:
    return not (categorical_features is None or isinstance(categorical_features, str))


def _given_columns(X: Any, categorical_features: Any) -> list[int]:
    """Turn names, positions or a mask into positions."""
    n_features = len(names_of(X)) if is_frame(X) else np.shape(X)[1] if np.ndim(X) == 2 else 0
    values = np.asarray(categorical_features, dtype=object).ravel().tolist()
    shown = f"categorical_features={categorical_features!r}"
    if values and all(isinstance(value, (bool, np.bool_)) for value in values):
        if len(values) != n_features:
            raise ValueError(f"{shown} is a mask of {len(values)} features, but X has {n_features}.")
        return [j for j, chosen in enumerate(values) if chosen]
    if all(isinstance(value, Integral) and not isinstance(value, (bool, np.bool_)) for value in values):
        wrong = [value for value in values if not 0 <= value < n_features]
        if wrong:
            raise ValueError(f"{shown} has the positions {wrong}, but X has {n_features} features, from 0 on.")
        return sorted({int(value) for value in values})
    if not all(isinstance(value, str) for value in values):
        raise ValueError(f"{shown} must be 'from_dtype', None, or all names, all positions or a mask of features.")
    if not is_frame(X):
        raise ValueError(f"{shown} names features, but X is a {type(X).__name__} without names: use positions.")
    names = names_of(X)
    unknown = [value for value in values if value not in names]
    if unknown:
        raise ValueError(f"{shown} names {unknown}, which are not among the columns of X.")
    return sorted({names.index(value) for value in values})


class TableReader(TransformerMixin, BaseEstimator, auto_wrap_output_keys=None):  # type: ignore[call-arg]
    """Read a table as floats, with one column for each feature.

    Numbers stay as they are. A category becomes the position of its level among the sorted levels seen in training, or
    -1 for a level not seen. Missing cells become nan.

    Parameters
    ----------
    categorical : sequence of int, default=()
        Positions of the categories.

    Attributes
    ----------
    levels_ : dict of int to list
        The levels of each category, by its position.

    Examples
    --------
    >>> import numpy as np
    >>> from skgn.tables import TableReader
    >>> X = np.array([["b", 1.5], [None, 2.0], ["a", np.nan]], dtype=object)
    >>> TableReader([0]).fit_transform(X)
    array([[1. , 1.5],
           [nan, 2. ],
           [0. , nan]])
    """

    def __init__(self, categorical: Sequence[int] = ()) -> None:
        self.categorical = categorical

    def fit(self, X: Any, y: Any = None, sample_weight: np.ndarray | None = None) -> TableReader:
        """Learn the names of the features, and the levels in rows of positive weight."""
        X = dense(X)
        validate_data(self, X, skip_check_array=True)
        X = columns_of(X) if self.categorical else X
        kept = None if sample_weight is None else np.flatnonzero(sample_weight > 0).tolist()
        self.levels_ = {}
        for j in self.categorical:
            values = cells_of(column_of(X, j))
            levels = self._levels(j, dict(enumerate(values)) if kept is None else {i: values[i] for i in kept})
            if any(isinstance(level, (float, np.floating)) and np.isinf(level) for level in levels):
                raise ValueError(f"Input X contains infinity in column {self.get_feature_names_out()[j]!r}.")
            self.levels_[j] = levels
        return self

    def _levels(self, j: int, cells: dict[int, Any]) -> list[Any]:
        """Return the different cells of category j, by their rows, sorted."""
        try:
            if any(isinstance(cell, Complex) and not isinstance(cell, Real) for cell in cells.values()):
                raise TypeError("complex numbers have no order")
            # Numbers and strings, which do not compare, stand side by side.
            return sorted(set(cells.values()) - {None}, key=lambda level: (isinstance(level, str), level))
        except TypeError as error:
            name = self.get_feature_names_out()[j]
            odd = (
                i
                for i, cell in cells.items()
                if is_neither(cell) or not (is_number(cell) or cell is None or isinstance(cell, str))
            )
            row = next(odd, next(iter(cells)))
            raise TypeError(
                f"Column {name!r} of X has cells that are no levels of a category, such as {abbreviated(cells[row])} "
                f"in row {row} ({error}): make strings or numbers of them, or leave them empty (None)."
            ) from error

    def transform(self, X: Any) -> np.ndarray:
        """Return floats of shape (n_samples, n_features)."""
        check_is_fitted(self)
        X = dense(X)
        validate_data(self, X, skip_check_array=True, reset=False)
        return self.read(X)[0]

    def read(self, X: Any) -> tuple[np.ndarray, list[int]]:
        """Return what :meth:`transform` does, and the categories of whose levels there was a warning.

        X is dense, and its features are known to be those of the fit.
        """
        check_types(X, self.categorical)
        if not self.categorical and not holds_objects(X):
            numbers = check_array(X, dtype=[np.float64, np.float32], ensure_all_finite=False, input_name="X")
            check_finite(numbers, self.get_feature_names_out())
            return numbers, []
        X = columns_of(X)
        columns, said = [], []
        for j, name in enumerate(self.get_feature_names_out()):
            if j in self.levels_:
                cells = cells_of(column_of(X, j))
                columns.append(self._codes(j, cells))
                if warn_of_levels(name, self.levels_[j], cells, columns[-1] < 0):
                    said.append(j)
            else:
                columns.append(numbers_of(column_of(X, j), name))
        numbers = np.column_stack(columns)
        check_finite(numbers, self.get_feature_names_out())
        return check_array(numbers, ensure_all_finite="allow-nan", input_name="X"), said

    def _codes(self, j: int, cells: list[Any]) -> np.ndarray:
        """Return the codes of cells of category j."""
        codes: dict[Any, float] = {level: float(code) for code, level in enumerate(self.levels_[j])}
        codes[None] = np.nan
        return np.array([codes.get(cell, -1.0) if isinstance(cell, Hashable) else -1.0 for cell in cells])

    def set_output(self, *, transform: Any = None) -> TableReader:
        """Do nothing: this step always returns arrays, and the next step names its columns."""
        return self

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Return the names of the features, or x0, x1, ..."""
        check_is_fitted(self)
        if hasattr(self, "feature_names_in_"):
            return self.feature_names_in_
        return np.array([f"x{j}" for j in range(self.n_features_in_)], dtype=object)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = tags.input_tags.string = tags.input_tags.categorical = True
        tags.input_tags.sparse = True
        return tags


class TablePreprocessor(Pipeline, TransformerMixin):
    """Turn a table into the columns that are scaled: a :class:`TableReader`, followed by an encoder.

    The steps always hand on arrays. After :meth:`set_output` the result is a data frame, with the names of
    :meth:`get_feature_names_out`. In pandas it has the index of the table.
    """

    # Defined here, so that scikit-learn puts them into frames.
    def transform(self, X: Any) -> Any:
        """Return columns of shape (n_samples, n_columns)."""
        return super().transform(X)

    def fit_transform(self, X: Any, y: Any = None) -> Any:
        """Fit, and return the columns. The target code of a row comes from other rows (cross-fitting)."""
        return super().fit_transform(X, y)

    def set_output(self, *, transform: Any = None) -> TablePreprocessor:
        """Choose the form of the result, as for transformers in general: "default", "pandas" or "polars".

        The steps are not changed.
        """
        return TransformerMixin.set_output(self, transform=transform)

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Return a different name for each column: those of the features, and names made of these and of levels.

        A name that is made gets "(level)", "(missing)", "(code)", "(slope)" or "(pair)" behind it if a feature, or a
        column before it, has that name.
        """
        features, encoder = self[0].get_feature_names_out(), self[-1]
        own: dict[int, Any] = {}
        made: dict[int, tuple[Any, str]] = {}
        for step, transformer, columns in encoder.transformers_:
            where = encoder.output_indices_[step]
            if where.start == where.stop:
                continue
            names = transformer.get_feature_names_out(features[columns])
            # Numbers come first in their step, and a category may be one column of target codes.
            n_own = {"numeric": len(columns), "target": len(columns) if len(names) == len(columns) else 0}.get(step, 0)
            own |= dict(zip(range(where.start, where.start + n_own), names, strict=False))
            origin = {"numeric": "missing", "codes": "code", "slopes": "slope", "pairs": "pair"}.get(step, "level")
            made |= {where.start + i: (name, origin) for i, name in enumerate(names) if i >= n_own}
        taken = set(features.tolist())
        for position, (name, origin) in made.items():
            while name in taken:
                name = f"{name} ({origin})"
            taken.add(name)
            own[position] = name
        return np.array([own[position] for position in range(len(own))], dtype=object)


#: Names of the columns of missing cells, and of levels without a column of their own.
_MISSING, _OTHERS = "missing", "others"


def _level_names(levels: list[Any]) -> list[str]:
    """Return a different name for each level.

    Names get quotes if two are alike (1 and "1"), or if they are called like the columns that stand for no level.
    """
    names = [str(level) for level in levels]
    taken = Counter([*names, _MISSING, _OTHERS])
    return [name if taken[name] == 1 else repr(level) for name, level in zip(names, levels, strict=True)]


@dataclass(frozen=True)
class _LevelName:
    """Name one-hot columns by their features and the codes of their levels."""

    levels: dict[str, list[str]]

    def __call__(self, feature: str, code: Any) -> str:
        if isinstance(code, str):
            return f"{feature}_{_OTHERS}"
        if np.isnan(code):
            return f"{feature}_{_MISSING}"
        # Without the reader before it, an encoder does not know what the features are called.
        return f"{feature}_{self.levels[feature][int(code)] if feature in self.levels else code}"


def level_namer(reader: TableReader) -> Callable[[str, Any], str]:
    """Make the function that names an encoder's column of a level, by the feature and the code that the reader gave."""
    names = reader.get_feature_names_out()
    return _LevelName({str(names[j]): _level_names(levels) for j, levels in reader.levels_.items()})
