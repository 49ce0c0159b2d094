"""Transformers of levels, and of pairs of levels, into codes: numbers that stand in their place."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OrdinalEncoder

__all__ = [
    "MISSING_RANK",
    "UNSEEN_RANK",
    "LevelCodes",
    "NumberCodes",
    "PairNumbers",
    "all_pairs",
    "number_pairs",
    "pair_encoder",
]

#: The number of a pair of levels is this times the rank of the first, and that of the second. Missing cells come last
#: of all levels.
_SPAN = 2**26
MISSING_RANK, UNSEEN_RANK = _SPAN - 2, -1


class LevelCodes(TransformerMixin, BaseEstimator):
    """Transformer of levels into codes: ``n_codes`` numbers for each level of each feature.

    A fit learns which levels there are, by their numbers. :func:`skgn.encoders.encode_training_rows` sets their codes.

    Parameters
    ----------
    n_codes : int, default=1

    Attributes
    ----------
    categories_ : list of ndarray of shape (n_levels,)
        Numbers of the levels of each feature, in order; nan is the last one.
    codes_ : list of ndarray of shape (n_levels, n_codes)
    mean_ : ndarray of shape (n_codes,)
        Code of a level not seen.
    """

    def __init__(self, n_codes: int = 1) -> None:
        self.n_codes = n_codes

    def fit(self, X: np.ndarray, y: Any = None) -> LevelCodes:
        """Learn the levels; all codes are 0 so far."""
        self.n_features_in_ = X.shape[1]
        self.categories_ = [np.unique(column) for column in X.T]
        self.codes_ = [np.zeros((len(levels), self.n_codes)) for levels in self.categories_]
        self.mean_ = np.zeros(self.n_codes)
        return self

    def transform(self, X: np.ndarray) -> np.ndarray:
        """Return the codes (n, d n_codes) of levels (n, d)."""
        columns = []
        for column, levels, codes in zip(X.T, self.categories_, self.codes_, strict=True):
            place = np.minimum(np.searchsorted(levels, column), len(levels) - 1)
            known = (levels[place] == column) | (np.isnan(levels[place]) & np.isnan(column))
            columns.append(np.where(known[:, None], codes[place], self.mean_))
        return np.concatenate(columns, axis=1)

    def knows(self, feature: int, column: np.ndarray) -> np.ndarray:
        """Mask (n,) of the cells of a feature, by its position, that have a code of their own."""
        return np.isin(column, self.categories_[feature])

    def get_feature_names_out(self, names: Any = None) -> np.ndarray:
        """Return the names of the features, with the number of the code behind them if there are several."""
        if names is None:
            names = [f"x{j}" for j in range(self.n_features_in_)]
        if self.n_codes > 1:
            names = [f"{name}_{k}" for name in names for k in range(self.n_codes)]
        return np.array(names, dtype=object)


class NumberCodes(LevelCodes):
    """Transformer of numbers into codes, which may follow from one number to the next.

    A number not seen, between two others, then has a code between theirs. Codes follow where lines between the two
    neighbours of each number tell its code better than the mean does. The sum of squares decides.
    """

    def follows(self, feature: int) -> bool:
        """Whether the codes of a feature, by its position, follow from one number to the next."""
        numbers, codes = self.numbers(feature)
        if len(numbers) < 3:
            return False
        part = (numbers[1:-1] - numbers[:-2]) / (numbers[2:] - numbers[:-2])
        between = codes[:-2] + part[:, None] * (codes[2:] - codes[:-2])
        off, off_mean = (np.square(codes[1:-1] - told).sum() for told in (between, self.mean_))
        return bool(off < off_mean)

    def numbers(self, feature: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the numbers of a feature in order, nan left out, and their codes."""
        known = ~np.isnan(self.categories_[feature])
        return self.categories_[feature][known], self.codes_[feature][known]

    def knows(self, feature: int, column: np.ndarray) -> np.ndarray:
        """Mask (n,) of the cells that are numbers seen, or lie between these where codes follow."""
        return super().knows(feature, column) | self._is_within(feature, column)

    def _is_within(self, feature: int, column: np.ndarray) -> np.ndarray:
        numbers, _ = self.numbers(feature)
        if not len(numbers):
            return np.zeros(len(column), dtype=bool)
        return (column > numbers[0]) & (column < numbers[-1]) & self.follows(feature)

    def transform(self, X: np.ndarray) -> np.ndarray:
        """Return the codes (n, d n_codes) of numbers (n, d)."""
        of_known = np.split(super().transform(X), X.shape[1], axis=1)
        for j, (column, codes) in enumerate(zip(X.T, of_known, strict=True)):
            (numbers, of_numbers), within = self.numbers(j), self._is_within(j, column)
            if not within.any():
                continue
            for code, told in zip(of_numbers.T, codes.T, strict=True):
                # Views of the columns; at a number itself a line has its code.
                told[within] = np.interp(column[within], numbers, code)
        return np.concatenate(of_known, axis=1)


def pair_encoder(n_codes: int) -> Pipeline:
    """Make an encoder of the pairs of levels in columns 0 and 1, 2 and 3, and so on."""
    ranks = OrdinalEncoder(
        handle_unknown="use_encoded_value", unknown_value=UNSEEN_RANK, encoded_missing_value=MISSING_RANK
    )
    return make_pipeline(ranks, PairNumbers(), LevelCodes(n_codes))


def number_pairs(ranks: Any) -> Any:
    """Number the pairs of ranks in columns 0 and 1, 2 and 3, and so on, of an array or a tensor.

    No pair of levels that are known has the number of one with a level that is not.
    """
    return ranks[:, ::2] * _SPAN + ranks[:, 1::2]


def all_pairs(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the numbers of all pairs of levels, in the order of the first ones; nan is the last of all levels."""
    ranks = [np.where(np.isnan(levels), MISSING_RANK, np.arange(len(levels))) for levels in (first, second)]
    pairs = np.column_stack([np.repeat(ranks[0], len(second)), np.tile(ranks[1], len(first))])
    return np.asarray(number_pairs(pairs.astype(float)))[:, 0]


class PairNumbers(TransformerMixin, BaseEstimator):
    """Transformer of ranks into :func:`number_pairs`."""

    def fit(self, X: np.ndarray, y: Any = None) -> PairNumbers:
        """Learn nothing but how many columns there are."""
        self.n_features_in_ = X.shape[1]
        return self

    def transform(self, X: np.ndarray) -> np.ndarray:
        """Number the pairs."""
        return np.asarray(number_pairs(X))

    def get_feature_names_out(self, names: np.ndarray) -> np.ndarray:
        """Return a name for each pair."""
        return np.array([f"{one} x {other}" for one, other in zip(names[::2], names[1::2], strict=True)], dtype=object)
