"""Inputs that are piecewise linear between quantiles: of each column, or of some beside the columns as they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import ndtri

from .preprocessing import LARGEST_SCORE, Embedding, RankScaler
from .scaler import Widened

__all__ = ["FINER", "FinerScaler", "PiecewiseEmbedding", "piecewise"]

#: Name of the scaling of :class:`FinerScaler`, which a fit makes where it is of use (:mod:`skgn.finer`).
FINER = "finer"

#: Pieces of a feature of many values, and fewest where features are so many that there would be more columns than
#: ``_COLUMNS``.
_PIECES, _FEWEST_PIECES, _COLUMNS = 8, 2, 100

#: Equally likely scores that stand for a column.
_SAMPLE = ndtri((np.arange(256) + 0.5) / 256)


def piecewise(z: Any, features: Any, lower: Any, width: Any, mean: Any, rise: Any, xp: Any = np) -> Any:
    """Apply the formula of :class:`PiecewiseEmbedding` to scores; ``xp`` is the namespace of arrays or of tensors."""
    return (xp.clip((z[:, features] - lower) / width, 0.0, 1.0) - mean) * rise


@dataclass
class PiecewiseEmbedding(Embedding):
    """Cut the normal score of :class:`~skgn.preprocessing.RankScaler` into pieces, with a column for each.

    The column goes up by ``rise`` where the score passes through the piece from ``lower`` on, and is constant
    elsewhere. Pieces have equal parts of the samples; of few values there is one from each to the next. So a network
    can be steep in one piece of a feature and flat in the next, as trees are. The columns have mean 0. Those of a
    feature have the same rise and a total variance of 1, by 256 scores that stand for its samples. A rise is at most
    3.5. A constant feature has one column, of zeros.

    References
    ----------
    Y. Gorishniy, I. Rubachev and A. Babenko, On embeddings for numerical features in tabular deep learning,
    NeurIPS 2022.
    """

    features: np.ndarray
    lower: np.ndarray
    width: np.ndarray
    mean: np.ndarray
    rise: np.ndarray

    @classmethod
    def of_ranks(cls, ranks: RankScaler) -> PiecewiseEmbedding:
        """Make the embedding of given scores."""
        n_bent = sum(len(scores) > 2 for scores in ranks.scores)
        most = (_COLUMNS - (len(ranks.scores) - n_bent)) // max(n_bent, 1)
        n_pieces = min(max(most, _FEWEST_PIECES), _PIECES)
        parts = [_pieces(scores, n_pieces) for scores in ranks.scores]
        features = np.repeat(np.arange(len(parts)), [len(lower) for lower, *_ in parts])
        return cls(ranks, features, *map(np.concatenate, zip(*parts, strict=True)))

    def embed(self, z: np.ndarray) -> np.ndarray:
        """Return the pieces of given scores."""
        return np.ascontiguousarray(piecewise(z, self.features, self.lower, self.width, self.mean, self.rise))


@dataclass
class FinerScaler(Widened):
    """Columns of another scaling, and beside them pieces of some of them.

    A column for each piece rises from ``lower`` on, over a ``width``, and is constant elsewhere. Its mean is taken off,
    and the rest multiplied by ``rise``, so that the pieces of a feature have a total variance of 1.
    """

    lower: np.ndarray
    width: np.ndarray
    mean: np.ndarray
    rise: np.ndarray

    def more(self, z: np.ndarray) -> np.ndarray:
        """Return the pieces of given columns."""
        return np.asarray(piecewise(z, self.columns, self.lower, self.width, self.mean, self.rise))


def _pieces(scores: np.ndarray, n_pieces: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Choose pieces of a feature with these scores, in order; return where they begin, widths, means and rises."""
    # Rare values may share a score.
    scores = np.unique(scores)
    if len(scores) == 1:
        # The column is the score itself, which is 0. In a stream others may follow.
        width = np.array([2 * LARGEST_SCORE])
        return -width / 2, width, np.array([0.5]), width
    # The nearest scores have the parts of the samples that they stand for.
    sample = scores[np.searchsorted((scores[1:] + scores[:-1]) / 2, _SAMPLE)]
    inner = np.quantile(sample, np.arange(1, n_pieces) / n_pieces, method="nearest")
    edges = scores if len(scores) <= n_pieces + 1 else np.unique([scores[0], *inner, scores[-1]])
    lower, width = edges[:-1], np.diff(edges)
    columns = piecewise(sample[:, None], np.zeros(len(lower), dtype=int), lower, width, 0.0, 1.0)
    rise = 1 / np.sqrt(max(columns.var(axis=0).sum(), LARGEST_SCORE**-2))
    return lower, width, columns.mean(axis=0), np.full(len(lower), rise)
