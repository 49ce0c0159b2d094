"""Tables as people have them, with numbers, categories and missing cells, to finite numbers.

There are two steps, each a transformer of scikit-learn. :class:`TableReader` makes one float column of each feature.
Numbers stay as they are, categories become codes of their levels, and missing cells become nan. Rows are compared and
split in this form. Then an encoder made by :func:`make_encoder` makes the columns that are scaled and trained on.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date, time, timedelta
from decimal import Decimal
from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.model_selection import KFold
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, TargetEncoder
from sklearn.utils import check_array
from sklearn.utils.validation import check_is_fitted, validate_data

__all__ = [
    "MOST_LEVELS",
    "TablePreprocessor",
    "TableReader",
    "categorical_columns",
    "column_features",
    "columns_of_steps",
    "encode_training_rows",
    "fill_missing",
    "make_encoder",
    "medians",
]

#: Levels up to which a category has an indicator for each, and how many indicators there may be where there are target
#: codes instead: the time of a fit grows with the cube of the columns (docs/guide/tables.md has what this is worth).
MOST_LEVELS, _MOST_INDICATORS = 10, 250

#: Number of parts of the training rows; each part gets target codes from the others.
_FOLDS = 5

#: Types of columns, as pandas, polars and pyarrow print them: those of categories, and those that are neither
#: categories nor numbers.
_CATEGORY = re.compile(r"(category|categorical|enum|dictionary|str|string|string_view|large_string|utf8|large_utf8)\b")
_NEITHER = re.compile(
    r"datetime|timedelta|date|time|duration|period|interval|list|large_list|struct|array|binary|map|complex"
)


def _is_frame(X: Any) -> bool:
    """Whether X is a table of pandas, polars or pyarrow."""
    return (hasattr(X, "dtypes") and hasattr(X, "columns")) or hasattr(X, "column_names")


def _names(X: Any) -> list[Any]:
    return list(X.column_names if hasattr(X, "column_names") else X.columns)


def _column(X: Any, j: int) -> Any:
    """Return column j of a table or an array, in its own type."""
    if hasattr(X, "iloc"):
        return X.iloc[:, j]
    if hasattr(X, "get_column"):
        return X.get_column(X.columns[j])
    return X.column(j) if hasattr(X, "column_names") else X[:, j]


def _kind(column: Any) -> str:
    """Name of a column's type in small letters."""
    return str(column.dtype if hasattr(column, "dtype") else column.type).lower()


def _is_missing(value: Any) -> bool:
    if isinstance(value, (float, np.floating)):
        return bool(np.isnan(value))
    # Recognise pandas.NA and NaT without importing pandas.
    return value is None or type(value).__name__ in ("NAType", "NaTType")


def _values(column: Any) -> list[Any]:
    """Return the cells; missing cells are None."""
    if hasattr(column, "isna"):
        values = np.array(column.to_numpy(dtype=object))
        values[column.isna().to_numpy()] = None
        return values.tolist()
    # Of pyarrow, NumPy and polars.
    name = next(name for name in ("to_pylist", "tolist", "to_list") if hasattr(column, name))
    return [None if _is_missing(value) else value for value in getattr(column, name)()]


def _numbers(column: Any, name: Any) -> np.ndarray:
    """Return the cells as float64; missing cells are nan."""
    try:
        if hasattr(column, "isna"):
            return column.to_numpy(dtype=np.float64, na_value=np.nan)
        values = column.to_numpy() if hasattr(column, "to_numpy") else column
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"Column {name!r} of X has cells that are no numbers ({error}); name it in categorical_features, or use "
            "'from_dtype' and a data frame."
        ) from error


def _holds_numbers(cells: list[Any]) -> bool:
    """Whether all cells of a column of Python objects are numbers or truth values."""
    return all(value is None or isinstance(value, (Real, Decimal, np.bool_)) for value in cells)


def _is_neither(cell: Any) -> bool:
    """Whether a Python object has one of the types that :data:`_NEITHER` lists for whole columns."""
    if isinstance(cell, (date, time, timedelta, np.datetime64, np.timedelta64)):
        return True
    return isinstance(cell, Collection) and not isinstance(cell, (str, bytes))


def _refusal(subject: str, kind: Any) -> TypeError:
    return TypeError(
        f"{subject} has the type {kind}, which is neither a number nor a category: make numbers of it (the days since "
        "a date, for example), or leave it out."
    )


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
    if hasattr(X, "collect"):
        raise TypeError(f"X is a {type(X).__name__}, whose rows are not in memory: pass X.collect().")
    given = not (categorical_features is None or isinstance(categorical_features, str))
    chosen = _given_columns(X, categorical_features) if given else []
    if not _is_frame(X):
        if isinstance(X, np.ndarray) and X.dtype.kind in "mM":
            raise _refusal("X", X.dtype)
        return chosen
    for j, name in enumerate(_names(X)):
        if j in chosen:
            continue
        kind = _kind(_column(X, j))
        cells = _values(_column(X, j)) if kind == "object" else []
        if _NEITHER.match(kind):
            raise _refusal(f"Column {name!r} of X", kind)
        for cell in filter(_is_neither, cells):
            raise _refusal(f"Column {name!r} of X", type(cell).__name__)
        if isinstance(categorical_features, str):
            if _CATEGORY.match(kind) or not _holds_numbers(cells):
                chosen.append(j)
    return chosen


def _given_columns(X: Any, categorical_features: Any) -> list[int]:
    """Turn names, positions or a mask into positions."""
    n_features = len(_names(X)) if _is_frame(X) else np.shape(X)[1] if np.ndim(X) == 2 else 0
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
    if not _is_frame(X):
        raise ValueError(f"{shown} names features, but X is a {type(X).__name__} without names: use positions.")
    names = _names(X)
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
        validate_data(self, X, skip_check_array=True)
        X = X if _is_frame(X) or not self.categorical else np.asarray(X, dtype=object)
        kept = None if sample_weight is None else np.flatnonzero(sample_weight > 0).tolist()
        self.levels_ = {}
        for j in self.categorical:
            values = _values(_column(X, j))
            levels = self._levels(j, values if kept is None else [values[i] for i in kept])
            if any(isinstance(level, (float, np.floating)) and np.isinf(level) for level in levels):
                raise ValueError(f"Input X contains infinity in column {self.get_feature_names_out()[j]!r}.")
            self.levels_[j] = levels
        return self

    def _levels(self, j: int, cells: list[Any]) -> list[Any]:
        """Return the different cells of category j, sorted."""
        try:
            # Numbers and strings, which do not compare, stand side by side.
            return sorted(set(cells) - {None}, key=lambda level: (isinstance(level, str), level))
        except TypeError as error:
            name = self.get_feature_names_out()[j]
            raise TypeError(f"Column {name!r} of X has cells that are no levels of a category: {error}.") from error

    def transform(self, X: Any) -> np.ndarray:
        """Return floats of shape (n_samples, n_features)."""
        check_is_fitted(self)
        validate_data(self, X, skip_check_array=True, reset=False)
        if not self.categorical:
            return check_array(X, dtype=[np.float64, np.float32], ensure_all_finite="allow-nan", input_name="X")
        X = X if _is_frame(X) else np.asarray(X, dtype=object)
        names = self.get_feature_names_out()
        columns = []
        for j, name in enumerate(names):
            if j in self.levels_:
                codes: dict[Any, float] = {level: float(code) for code, level in enumerate(self.levels_[j])}
                codes[None] = np.nan
                columns.append(np.array([codes.get(value, -1.0) for value in _values(_column(X, j))], dtype=np.float64))
            else:
                columns.append(_numbers(_column(X, j), name))
        return check_array(np.column_stack(columns), ensure_all_finite="allow-nan", input_name="X")

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


#: Names of the columns of missing cells, and of levels without a column of their own.
_MISSING, _OTHERS = "missing", "others"


def _level_names(levels: list[Any]) -> list[str]:
    """Return a different name for each level.

    Names get quotes if two are alike (1 and "1"), or if they are called like the columns that stand for no level.
    """
    names = [str(level) for level in levels]
    taken = [*names, _MISSING, _OTHERS]
    return [name if taken.count(name) == 1 else repr(level) for name, level in zip(names, levels, strict=True)]


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


def make_encoder(reader: TableReader, X: np.ndarray, y: np.ndarray, target_type: str | None) -> ColumnTransformer:
    """Make the encoder of rows X (n, d), as read, with targets y (n,), into columns to be scaled. It is not fitted yet.

    Missing numbers become the median. A feature with missing numbers has an indicator of them. A category of up to
    :data:`MOST_LEVELS` levels has an indicator for each level; a missing cell is a level. All indicators are 0 for a
    level not seen.

    A category of more levels has the mean target of the level, smoothed towards the mean of all rows
    (:class:`~sklearn.preprocessing.TargetEncoder`). The mean of all rows is the code of levels not seen. Three and more
    classes have a code each. If there would be more than 250 indicators, the other categories have such codes too,
    where these take fewer columns.

    Without a ``target_type``, a category of more levels has indicators for its most frequent levels, and one for all
    others.
    """
    names = reader.get_feature_names_out()
    numeric = [j for j in range(X.shape[1]) if j not in reader.levels_]
    n_levels = {j: len(np.unique(X[:, j])) for j in reader.levels_}
    limit = MOST_LEVELS
    if target_type is not None and sum(n for n in n_levels.values() if n <= limit) > _MOST_INDICATORS:
        limit = min(limit, len(np.unique(y)) if target_type == "multiclass" else 1)
    few = [j for j, n in n_levels.items() if n <= limit]
    many = [j for j in reader.levels_ if j not in few]
    level_name = _LevelName({str(names[j]): _level_names(levels) for j, levels in reader.levels_.items()})
    one_hot = {"sparse_output": False, "feature_name_combiner": level_name}
    imputer = SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True)
    steps: list[tuple[str, Any, list[int]]] = [
        ("numeric", imputer, numeric),
        ("one_hot", OneHotEncoder(handle_unknown="ignore", **one_hot), few),
    ]
    if target_type == "multiclass" and len(np.unique(y)) == 2:
        # Classes of weight 0 have no rows, and scikit-learn has no multiclass codes for the two that are left.
        target_type = "binary"
    if target_type is None:
        frequent = OneHotEncoder(handle_unknown="infrequent_if_exist", max_categories=MOST_LEVELS, **one_hot)
        steps.append(("frequent", frequent, many))
    else:
        steps.append(("target", _target_encoder(target_type), many))
    encoder = ColumnTransformer(
        [step for step in steps if step[2]], sparse_threshold=0, verbose_feature_names_out=False
    )
    return encoder.set_output(transform="default")


def _target_encoder(target_type: str) -> TargetEncoder:
    """Make a target encoder, cross-fitted on consecutive parts.

    It needs no seed, because merged rows come in random order.
    """
    # scikit-learn 1.9 takes a splitter, and no longer the parameter that versions before it have.
    if TargetEncoder().shuffle == "deprecated":
        return TargetEncoder(target_type=target_type, cv=KFold(_FOLDS))
    return TargetEncoder(target_type=target_type, cv=_FOLDS, shuffle=False)


def encode_training_rows(encoder: ColumnTransformer, X: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Fit the encoder on rows X and targets y (n,), and return their columns.

    The target code of a row comes from other rows (cross-fitting).
    """
    with warnings.catch_warnings():
        # Classes with fewer rows than folds do no harm here.
        warnings.filterwarnings("ignore", "The least populated class", UserWarning)
        return np.asarray(encoder.fit_transform(X, y), dtype=np.float64)


def column_features(encoder: ColumnTransformer) -> np.ndarray:
    """Return the feature that each column of a fitted encoder comes from."""
    features = []
    for name, step, columns in encoder.transformers_:
        if name == "numeric":
            features += [*columns, *np.asarray(columns)[step.indicator_.features_].tolist()]
        elif name == "one_hot":
            features += np.repeat(columns, [len(levels) for levels in step.categories_]).tolist()
        elif name in ("frequent", "target"):
            where = encoder.output_indices_[name]
            features += np.repeat(columns, (where.stop - where.start) // len(columns)).tolist()
    return np.array(features, dtype=int)


def columns_of_steps(preprocessor: Pipeline) -> dict[str, list[str]]:
    """Return the names of the columns that each step of a fitted reader and encoder makes."""
    names = preprocessor.get_feature_names_out()
    return {step: names[where].tolist() for step, where in preprocessor[-1].output_indices_.items()}


def medians(X: np.ndarray) -> np.ndarray:
    """Return the median of each column of complete (n, d) numbers of any magnitude."""
    low, high = (len(X) - 1) // 2, len(X) // 2
    X = np.partition(X, (low, high), axis=0)
    return X[low] / 2 + X[high] / 2


def fill_missing(X: np.ndarray, values: np.ndarray | None) -> np.ndarray:
    """Replace nan in X by the value of its column. Without nan, return X itself."""
    missing = np.isnan(X)
    if not missing.any():
        return X
    if values is None:
        raise ValueError("X contains NaN, and the medians of the training data are not known: fill them in before.")
    return np.where(missing, values.astype(X.dtype), X)
