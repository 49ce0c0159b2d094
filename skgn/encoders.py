"""From rows as read to columns of numbers: codes of levels, missing cells, and which feature a column comes from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.model_selection import KFold
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder

from .effects import Levels, Pairs, in_deviations, level_effects
from .level_codes import LevelCodes, NumberCodes, all_pairs, pair_encoder
from .tables import MOST_LEVELS, TableReader, level_namer

__all__ = [
    "TARGET_CODES",
    "CodedRows",
    "Interaction",
    "coded_features",
    "coded_rows",
    "column_features",
    "columns_of_steps",
    "encode_training_rows",
    "features_without_indicators",
    "fill_missing",
    "make_encoder",
    "medians",
    "number_codes",
    "observed_rows",
    "target_codes",
]

#: The most indicators before all categories have target codes. The time of a fit grows with the cube of the columns.
_MOST_INDICATORS = 250

#: Steps whose columns are target codes: of categories, of numbers that are codes, and slopes of levels and effects of
#: pairs of levels of either.
TARGET_CODES = ("target", "codes", "slopes", "pairs")

#: Number of parts of the training rows. Each part gets target codes from the others, but for levels that have so many
#: observations for each feature with codes.
_FOLDS, _FREQUENT = 5, 10

#: Observations above which weights are scaled down.
_MOST_OBSERVATIONS = 1_000_000

#: Sizes of targets between which target codes are in units of y: sums of their squares are floats.
_LEAST_SIZE, _MOST_SIZE = 1e-100, 1e100


def make_encoder(
    reader: TableReader,
    X: np.ndarray,
    n_codes: int | None,
    codes: Sequence[int] = (),
    slopes: Sequence[int] = (),
    pairs: Sequence[int] = (),
) -> ColumnTransformer:
    """Make the encoder of rows X (n, d), as read, into columns to be scaled. It is not fitted yet.

    Missing numbers become the median. A feature with missing numbers has an indicator of them. A category of up to
    :data:`~skgn.tables.MOST_LEVELS` levels has an indicator for each level; a missing cell is a level. All indicators
    are 0 for a level not seen.

    A category of more levels has the mean target of the level, adjusted for the other columns (:mod:`skgn.effects`). It
    is drawn towards the mean of all rows, which is the code of levels not seen. There are ``n_codes`` such columns: one
    for each target, or for each of three and more classes. If there would be more than 250 indicators, the other
    categories have such codes too, where these take fewer columns.

    Features in ``codes``, whose numbers are codes (:mod:`skgn.codes`), have such target codes beside the column of
    their numbers. A number not seen has a code between those of its neighbours, where codes follow from one to another.

    Features in ``slopes``, of which each has target codes, have further ones: the slopes of their levels along another
    column (:mod:`skgn.interactions`). Each two of ``pairs``, all with target codes, have one for their pairs of levels.

    Where ``n_codes`` is None, a category of more levels has indicators for its most frequent levels, and one for all
    others.
    """
    numeric = [j for j in range(X.shape[1]) if j not in reader.levels_]
    n_levels = {j: len(np.unique(X[:, j])) for j in reader.levels_}
    limit = MOST_LEVELS
    if n_codes is not None and sum(n for n in n_levels.values() if n <= limit) > _MOST_INDICATORS:
        limit = min(limit, n_codes)
    few = [j for j, n in n_levels.items() if n <= limit]
    many = [j for j in reader.levels_ if j not in few]
    one_hot = {"sparse_output": False, "feature_name_combiner": level_namer(reader)}
    imputer = SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True)
    steps: list[tuple[str, Any, list[int]]] = [
        ("numeric", imputer, numeric),
        ("one_hot", OneHotEncoder(handle_unknown="ignore", **one_hot), few),
    ]
    if n_codes is None:
        frequent = OneHotEncoder(handle_unknown="infrequent_if_exist", max_categories=MOST_LEVELS, **one_hot)
        steps.append(("frequent", frequent, many))
    else:
        of_steps = (("target", LevelCodes, many), ("codes", NumberCodes, codes), ("slopes", LevelCodes, slopes))
        steps += [(name, kind(n_codes), [*features]) for name, kind, features in of_steps]
        steps.append(("pairs", pair_encoder(n_codes), [*pairs]))
    encoder = ColumnTransformer(
        [step for step in steps if step[2]], sparse_threshold=0, verbose_feature_names_out=False
    )
    return encoder.set_output(transform="default")


def encode_training_rows(
    encoder: ColumnTransformer,
    X: np.ndarray,
    Y: np.ndarray | None,
    weight: np.ndarray,
    interactions: Sequence[Interaction] = (),
) -> np.ndarray:
    """Fit the encoder on rows X and weights (n,), and return the columns of the rows.

    Target codes are means of Y (n, n_codes), which is None where there are none. The ``interactions`` are in the order
    of the encoder's codes: slopes come first.

    Each row is as many observations as its weight. The target code of an observation comes from others
    (cross-fitting), and that of a row is the mean over its own. Were these left out together, the levels of a few
    rows would have codes in training that tell nothing, and others later.

    A frequent level has the code of later rows, which hardly depends on any one observation. Codes that differ within a
    level would tell the part that a row is in, and with it something of its target. The code of c observations has
    1 / c of an observation's own noise, and the codes of q features together have q / c. So a level is frequent from
    10 q observations on (docs/decisions.md).

    Target codes are in the unit of their target where its squares are floats, and else in that of the largest one.
    """
    row = observed_rows(weight)
    # The first observations are those of the rows, in their order.
    columns = np.asarray(encoder.fit_transform(X[row]), dtype=np.float64)[: len(X)]
    blocks = [
        (name, position)
        for name, _, features in encoder.transformers_
        if name in TARGET_CODES
        for position in range(len(_feature_of_each(name, features)))
    ]
    if Y is None or not blocks:
        return columns
    levels, of_others = _cross_fitted(encoder, blocks, coded_rows(encoder, X, columns, Y), row, interactions)
    of_rows = np.asarray(encoder.transform(X), dtype=np.float64)
    count = np.bincount(row)
    for (name, position), level, sums in zip(blocks, levels, of_others, strict=True):
        rare = np.bincount(level, weights=count)[level] < _FREQUENT * len(blocks)
        start = encoder.output_indices_[name].start + position * sums.shape[1]
        of_rows[rare, start : start + sums.shape[1]] = sums[rare] / count[rare, None]
    return of_rows


class Interaction(NamedTuple):
    """A category whose levels have slopes along another column, or else effects ``of_pairs`` with another category.

    Both are positions in :class:`CodedRows`. Effects of pairs have ``n_products`` in them (:mod:`skgn.effects`).
    """

    category: int
    other: int
    of_pairs: bool = False
    n_products: int = 0


class CodedRows(NamedTuple):
    """Rows with target codes: for each category the ``levels`` (n,) and their number, other columns, and targets."""

    levels: list[np.ndarray]
    n_levels: list[int]
    others: np.ndarray
    Y: np.ndarray

    def at(self, index: np.ndarray) -> CodedRows:
        """Return the rows with these numbers."""
        return CodedRows([level[index] for level in self.levels], self.n_levels, self.others[index], self.Y[index])

    def part(self, interaction: Interaction) -> Levels | Pairs:
        """Return the part of an additive model that an interaction is."""
        return self.pairs(interaction) if interaction.n_products else self.alone(interaction)

    def alone(self, interaction: Interaction) -> Levels:
        """Return the part of an interaction without products: of pairs, those that there are."""
        k, other, of_pairs, _ = interaction
        if not of_pairs:
            return Levels.of(self.levels[k], self.n_levels[k], in_deviations(self.others[:, [other]])[:, 0])
        pairs, number = np.unique(self.levels[k] * self.n_levels[other] + self.levels[other], return_inverse=True)
        return Levels.of(number, len(pairs))

    def pairs(self, interaction: Interaction) -> Pairs:
        """Return the part of all pairs of levels of an interaction, with its products."""
        k, other, _, n_products = interaction
        shape = self.n_levels[k], self.n_levels[other]
        return Pairs.of(self.levels[k], self.levels[other], shape, n_products)


def target_codes(encoder: ColumnTransformer) -> dict[str, LevelCodes]:
    """Return the target codes of each step of a fitted encoder that has such."""
    steps = encoder.named_transformers_
    return {name: steps[name][-1] if name == "pairs" else steps[name] for name in TARGET_CODES if name in steps}


def _feature_of_each(step: str, features: Sequence[int], second: bool = False) -> Sequence[int]:
    """Return the feature of each code of a step; of a pair the first or the second one."""
    return features[int(second) :: 2] if step == "pairs" else features


def number_codes(encoder: ColumnTransformer | None) -> tuple[Any, Sequence[int]]:
    """The step that makes codes of numbers, and its features; None and none where there are no such codes."""
    steps = {} if encoder is None else {name: (step, features) for name, step, features in encoder.transformers_}
    return steps.get("codes", (None, []))


def coded_features(encoder: ColumnTransformer) -> list[int]:
    """Return the features of a fitted encoder whose levels or numbers have target codes."""
    return [j for name, _, features in encoder.transformers_ if name in TARGET_CODES[:2] for j in features]


def coded_rows(encoder: ColumnTransformer, X: np.ndarray, columns: np.ndarray, Y: np.ndarray) -> CodedRows:
    """Return what the target codes of a fitted encoder are made of. Without any there are no levels.

    ``columns`` are those of rows X (n, d). Others are columns (n, d) of features that have no codes.
    """
    coded = coded_features(encoder)
    numbers = [np.unique(X[:, j], return_inverse=True) for j in coded]
    others, levels = columns[:, ~np.isin(column_features(encoder), coded)], [number for _, number in numbers]
    return CodedRows(levels, [len(values) for values, _ in numbers], others, _with_squares(Y))


def _cross_fitted(
    encoder: ColumnTransformer,
    blocks: Sequence[tuple[str, int]],
    rows: CodedRows,
    row: np.ndarray,
    interactions: Sequence[Interaction],
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Set the target codes of a fitted encoder.

    The code of a level is the mean target and its effect, beside those of others and lines in the other columns
    (:mod:`skgn.effects`). Returned are, for each of the ``blocks``, the level of each row (n,), and sums (n, k) of the
    codes that its observations get from others. The mean is that of all observations: those of other
    parts would tell the part, and with it the mean that it has itself.
    """
    n, observed, steps = len(rows.Y), rows.at(row), target_codes(encoder)
    mean = observed.Y.mean(axis=0)
    parts = [observed.part(one) for one in interactions]

    def codes(index: np.ndarray) -> list[np.ndarray]:
        effects = level_effects(*observed.at(index), [part.at(index) for part in parts])
        return [mean + effect for effect in (*effects.of_levels, *effects.of_interactions)]

    of_all = codes(np.arange(len(row)))
    for position, one in enumerate(one for one in interactions if one.of_pairs):
        if one.n_products:
            ordinal = encoder.named_transformers_["pairs"][0]
            steps["pairs"].categories_[position] = all_pairs(*ordinal.categories_[2 * position : 2 * position + 2])
    for name, step in steps.items():
        step.codes_, step.mean_ = [code for (of, _), code in zip(blocks, of_all, strict=True) if of == name], mean
    levels = [*observed.levels, *(part.level for part in parts)]
    sums = [np.zeros((n, observed.Y.shape[1])) for _ in blocks]
    for rest, part in KFold(_FOLDS).split(row):
        for total, level, code in zip(sums, levels, codes(rest), strict=True):
            np.add.at(total, row[part], code[level[part]])
    # The first observations are those of the rows.
    return [level[:n] for level in levels], sums


def _with_squares(Y: np.ndarray) -> np.ndarray:
    """Targets (n, k) as they are, or in a unit of their own if their squares are no floats."""
    largest = np.abs(Y).max(axis=0)
    return Y / np.where((largest == 0) | ((largest >= _LEAST_SIZE) & (largest <= _MOST_SIZE)), 1.0, largest)


def observed_rows(weight: np.ndarray, most: int = _MOST_OBSERVATIONS) -> np.ndarray:
    """Row of each observation: a row of weight 3 is three of them.

    Every row is one at least. The second observations of all rows come after the first ones, and so on, so that those
    of a row are in different parts. Of more than ``most`` observations, or rows, the proportions count.
    """
    share = min(1.0, max(most, len(weight)) / weight.sum())
    copies = np.maximum(np.rint(weight * share), 1).astype(int)
    row = np.repeat(np.arange(len(weight)), copies)
    number = np.arange(len(row)) - np.repeat(np.cumsum(copies) - copies, copies)
    return row[np.lexsort((row, number))]


def column_features(encoder: ColumnTransformer, second: bool = False) -> np.ndarray:
    """Return the feature that each column of a fitted encoder comes from; of a pair the first or the second one."""
    features = []
    for name, step, columns in encoder.transformers_:
        if name == "numeric":
            features += [*columns, *np.asarray(columns)[step.indicator_.features_].tolist()]
        elif name == "one_hot":
            features += np.repeat(columns, [len(levels) for levels in step.categories_]).tolist()
        elif name in ("frequent", *TARGET_CODES):
            where, columns = encoder.output_indices_[name], _feature_of_each(name, columns, second)
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
    row = observed_rows(weight)
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
