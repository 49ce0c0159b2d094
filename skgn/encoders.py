"""From rows as read to columns of numbers: codes of levels, missing cells, and which feature a column comes from."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.model_selection import KFold
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, TargetEncoder

from .effects import level_effects
from .tables import MOST_LEVELS, TableReader, level_namer

__all__ = [
    "TARGET_CODES",
    "column_features",
    "columns_of_steps",
    "encode_training_rows",
    "features_without_indicators",
    "fill_missing",
    "make_encoder",
    "medians",
]

#: The most indicators before all categories have target codes. The time of a fit grows with the cube of the columns.
_MOST_INDICATORS = 250

#: Steps whose columns are target codes: of categories, and of numbers that are codes.
TARGET_CODES = ("target", "codes")

#: Number of parts of the training rows. Each part gets target codes from the others, but for levels that have so many
#: observations for each feature with codes.
_FOLDS, _FREQUENT = 5, 10

#: Observations above which weights are scaled down.
_MOST_OBSERVATIONS = 1_000_000

#: Sizes of targets between which target codes are in units of y: sums of their squares are floats.
_LEAST_SIZE, _MOST_SIZE = 1e-100, 1e100


def make_encoder(
    reader: TableReader, X: np.ndarray, y: np.ndarray, target_type: str | None, codes: Sequence[int] = ()
) -> ColumnTransformer:
    """Make the encoder of rows X (n, d), as read, with targets y (n,), into columns to be scaled. It is not fitted yet.

    Missing numbers become the median. A feature with missing numbers has an indicator of them. A category of up to
    :data:`~skgn.tables.MOST_LEVELS` levels has an indicator for each level; a missing cell is a level. All indicators
    are 0 for a level not seen.

    A category of more levels has the mean target of the level, adjusted for the other columns (:mod:`skgn.effects`). It
    is drawn towards the mean of all rows, which is the code of levels not seen. Three and more classes have a
    code each. If there would be more than 250 indicators, the other categories have such codes too,
    where these take fewer columns.

    Features in ``codes``, whose numbers are codes (:mod:`skgn.codes`), have such target codes beside the column of
    their numbers.

    Without a ``target_type``, a category of more levels has indicators for its most frequent levels, and one for all
    others.
    """
    numeric = [j for j in range(X.shape[1]) if j not in reader.levels_]
    n_levels = {j: len(np.unique(X[:, j])) for j in reader.levels_}
    limit = MOST_LEVELS
    if target_type is not None and sum(n for n in n_levels.values() if n <= limit) > _MOST_INDICATORS:
        limit = min(limit, len(np.unique(y)) if target_type == "multiclass" else 1)
    few = [j for j, n in n_levels.items() if n <= limit]
    many = [j for j in reader.levels_ if j not in few]
    one_hot = {"sparse_output": False, "feature_name_combiner": level_namer(reader)}
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
        steps.append(("codes", _target_encoder(target_type), list(codes)))
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


def encode_training_rows(encoder: ColumnTransformer, X: np.ndarray, y: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Fit the encoder on rows X, targets y and weights (n,), and return the columns of the rows.

    Each row is as many observations as its weight. The target code of an observation comes from others
    (cross-fitting), and that of a row is the mean over its own. Were these left out together, the levels of a few
    rows would have codes in training that tell nothing, and others later.

    A frequent level has the code of later rows, which hardly depends on any one observation. Codes that differ within a
    level would tell the part that a row is in, and with it something of its target. The code of c observations has
    1 / c of an observation's own noise, and the codes of q features together have q / c. So a level is frequent from
    10 q observations on (docs/decisions.md).

    Target codes are in the unit of ``y`` where its squares are floats, and else in that of the largest target.
    """
    row, y = _observations(weight), _with_squares(y)
    with warnings.catch_warnings():
        # Classes with fewer rows than folds do no harm here.
        warnings.filterwarnings("ignore", "The least populated class", UserWarning)
        # The first observations are those of the rows, in their order.
        columns = np.asarray(encoder.fit_transform(X[row], y[row]), dtype=np.float64)[: len(X)]
    coded = {step: features for step, _, features in encoder.transformers_ if step in TARGET_CODES}
    if not coded:
        return columns
    features = [j for of_step in coded.values() for j in of_step]
    others = columns[:, ~np.isin(column_features(encoder), features)]
    of_others = _cross_fitted(encoder, coded, X, others, y, row)
    of_rows = np.asarray(encoder.transform(X), dtype=np.float64)
    count = np.bincount(row)
    for step, of_step in coded.items():
        where = encoder.output_indices_[step]
        width = (where.stop - where.start) // len(of_step)
        for j, start in zip(of_step, range(where.start, where.stop, width), strict=True):
            rare = _observations_of_level(X[:, j], count) < _FREQUENT * len(features)
            of_rows[rare, start : start + width] = of_others[j][rare] / count[rare, None]
    return of_rows


def _cross_fitted(
    encoder: ColumnTransformer,
    coded: dict[str, list[int]],
    X: np.ndarray,
    others: np.ndarray,
    y: np.ndarray,
    row: np.ndarray,
) -> dict[int, np.ndarray]:
    """Set the target codes of a fitted encoder, and return sums (n, k) of those that observations get from others.

    The code of a level is the mean target and the effect of the level (:mod:`skgn.effects`), beside lines in the
    ``others``, columns (n, d) of features that have no codes.
    """
    steps = [encoder.named_transformers_[step] for step in coded]
    features = [j for of_step in coded.values() for j in of_step]
    numbers = [np.unique(X[:, j], return_inverse=True) for j in features]
    levels, n_levels = [number[row] for _, number in numbers], [len(values) for values, _ in numbers]
    Y = _targets(steps[0], y)[row]
    effects = iter(level_effects(levels, n_levels, others[row], Y))
    for step, of_step in zip(steps, coded.values(), strict=True):
        codes = [np.atleast_1d(step.target_mean_) + next(effects) for _ in of_step]
        step.encodings_ = [np.ascontiguousarray(code) for of_feature in codes for code in of_feature.T]
    sums = {j: np.zeros((len(X), Y.shape[1])) for j in features}
    for rest, part in KFold(_FOLDS).split(row):
        mean = Y[rest].mean(axis=0)
        of_rest = level_effects([level[rest] for level in levels], n_levels, others[row[rest]], Y[rest])
        for j, level, effect in zip(features, levels, of_rest, strict=True):
            np.add.at(sums[j], row[part], mean + effect[level[part]])
    return sums


def _targets(step: TargetEncoder, y: np.ndarray) -> np.ndarray:
    """What target codes are of: y, or indicators of its classes; of two classes that of the second one."""
    if step.target_type_ == "continuous":
        return y[:, None].astype(float)
    classes = step.classes_[1:] if step.target_type_ == "binary" else step.classes_
    return (y[:, None] == classes).astype(float)


def _with_squares(y: np.ndarray) -> np.ndarray:
    """Targets (n,) as they are, or in a unit of their own if their squares are no floats."""
    largest = np.abs(y).max()
    return y if largest == 0 or _LEAST_SIZE <= largest <= _MOST_SIZE else y / largest


def _observations_of_level(levels: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Number of observations (n,) that share the level of a row, where each row is ``count`` of them."""
    level = np.unique(levels, return_inverse=True)[1]
    return np.bincount(level, weights=count)[level]


def _observations(weight: np.ndarray) -> np.ndarray:
    """Row of each observation: a row of weight 3 is three of them.

    Every row is one at least. The second observations of all rows come after the first ones, and so on, so that those
    of a row are in different parts. The total is limited: of larger weights the proportions count.
    """
    total, most = weight.sum(), max(_MOST_OBSERVATIONS, len(weight))
    copies = np.maximum(np.rint(weight * min(1.0, most / total)), 1).astype(int)
    row = np.repeat(np.arange(len(weight)), copies)
    number = np.arange(len(row)) - np.repeat(np.cumsum(copies) - copies, copies)
    return row[np.lexsort((row, number))]


def column_features(encoder: ColumnTransformer) -> np.ndarray:
    """Return the feature that each column of a fitted encoder comes from."""
    features = []
    for name, step, columns in encoder.transformers_:
        if name == "numeric":
            features += [*columns, *np.asarray(columns)[step.indicator_.features_].tolist()]
        elif name == "one_hot":
            features += np.repeat(columns, [len(levels) for levels in step.categories_]).tolist()
        elif name in ("frequent", *TARGET_CODES):
            where = encoder.output_indices_[name]
            features += np.repeat(columns, (where.stop - where.start) // len(columns)).tolist()
    return np.array(features, dtype=int)


def features_without_indicators(encoder: ColumnTransformer) -> list[int]:
    """Return the features of a fitted encoder whose levels, or most of them, have no indicator each."""
    steps = ("frequent", *TARGET_CODES)
    return [j for name, _, columns in encoder.transformers_ if name in steps for j in columns]


def columns_of_steps(preprocessor: Pipeline) -> dict[str, list[str]]:
    """Return the names of the columns that each step of a fitted reader and encoder makes."""
    names = preprocessor.get_feature_names_out()
    return {step: names[where].tolist() for step, where in preprocessor[-1].output_indices_.items()}


def medians(X: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return the median over observations of each column of complete (n, d) numbers of any magnitude."""
    row = _observations(weight)
    # A large table is not copied where every row is one observation.
    X = X if len(row) == len(X) else X[row]
    low, high = (len(X) - 1) // 2, len(X) // 2
    X = np.partition(X, (low, high), axis=0)
    return X[low] / 2 + X[high] / 2


def fill_missing(X: np.ndarray, values: np.ndarray | None) -> np.ndarray:
    """Replace nan in X by the value of its column, in float64 as in training. Without nan, return X itself."""
    missing = np.isnan(X)
    if not missing.any():
        return X
    if values is None:
        raise ValueError("X contains NaN, and the medians of the training data are not known: fill them in before.")
    return np.where(missing, values, X)
