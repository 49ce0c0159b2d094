"""Normal distributions of the classes beside the networks: regularised discriminant analysis.

Networks learn the borders between classes. Where classes are clouds, means and covariances of these tell the borders
from far fewer rows. Covariances of few rows are noise. So those of a class are drawn to those of all classes, and to
their own diagonal. With all of the one it is linear discriminant analysis, with all of the other naive Bayes, and with
none of either quadratic discriminant analysis. How much of either is chosen by rows that are left out.

Clouds are hardly ever normal, and log odds of theirs too large. So these are multiplied by a factor, and a network
learns what is to be added to them.

References
----------
J. H. Friedman, Regularized discriminant analysis, Journal of the American Statistical Association 84 (1989).
A. Y. Ng and M. I. Jordan, On discriminative vs. generative classifiers, NIPS 14 (2001).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from scipy.linalg import solve_triangular
from scipy.special import entr, log_softmax

from .ground import MOST_ROWS, N_PARTS, Ground, Told, parts_of
from .scaler import Blended

__all__ = ["DISCRIMINANT", "LOG_CHOICES", "Clouds", "Discriminant", "discriminant_of", "log_odds", "seconds_to_tell"]

#: Name of the scaling whose columns are log odds of normal distributions.
DISCRIMINANT = "discriminant"

#: Parts of the covariance of all classes, and of its own diagonal, to choose from for a class.
_SHARED = _DIAGONAL = (0.0, 0.1, 0.3, 0.6, 1.0)

#: Log odds are multiplied by one of these: clouds are hardly ever normal, and log odds of normal ones too large.
_FACTORS = 0.5 ** np.arange(6)

#: Part of the mean variance within the classes that is added to that of each, and what is the least of this.
_ADDED, _LEAST = 1e-3, 1e-6

#: Nats by which the log density of all left-out labels is too high, as they have made these choices.
LOG_CHOICES = math.log(len(_SHARED) * len(_DIAGONAL) * len(_FACTORS))

#: Nats by which squashed columns have to tell all labels better than others.
_MARGIN = 3.0

#: No class is less likely by more than so many nats.
_UNLIKELY = 30.0

#: Part of the weight of all rows that a class without rows counts for.
_ABSENT = 1e-3

#: Seconds that a multiply-add takes, on a slow processor, and that each covariance takes beside.
_SECONDS, _SECONDS_A_COVARIANCE = 2e-10, 5e-5


def log_odds(log_densities: Any, xp: Any = np) -> Any:
    """Columns (n, k) of logarithms (n, k) of probabilities but for a factor; of two classes the logit of the second."""
    logs = xp.clip(log_densities - xp.amax(log_densities, 1)[:, None], -_UNLIKELY, 0.0)
    return logs[:, 1:] - logs[:, :1] if logs.shape[1] == 2 else logs - logs.mean(1)[:, None]


@dataclass
class Discriminant(Blended):
    """Log odds of classes that are normally distributed in columns of another scaling, from the ``first`` one on.

    Each class has the logarithm of its frequency, and of what its density is multiplied by, in ``constants`` (k,). Its
    ``means`` (k, d) are those of its rows. Its ``whitening`` (k, d, d) makes columns of variance 1 that are
    uncorrelated.
    """

    first: int
    constants: np.ndarray
    means: np.ndarray
    whitening: np.ndarray

    @property
    def is_whole(self) -> bool:
        """Whether each class has a distribution of all columns."""
        k, d = self.means.shape
        return self.constants.shape == (k,) and self.whitening.shape == (k, d, d)

    def embed(self, z: np.ndarray) -> np.ndarray:
        """Return the columns that are made of given columns of the other scaling."""
        clouds = Clouds(self.constants, self.means, self.whitening)
        return np.ascontiguousarray(log_odds(clouds.log_densities(z[:, self.first :][:, : self.means.shape[1]])))


class Clouds(NamedTuple):
    """Normal distributions of k classes, as :class:`Discriminant` has them."""

    constants: np.ndarray
    means: np.ndarray
    whitening: np.ndarray

    def log_densities(self, X: np.ndarray) -> np.ndarray:
        """Logarithms (n, k) of the densities of rows (n, d) and classes, but for a constant."""
        apart = [np.square((X - mean) @ W).sum(axis=1) for mean, W in zip(self.means, self.whitening, strict=True)]
        return self.constants - 0.5 * np.transpose(apart)

    def drawn_together(self, factor: float) -> Clouds:
        """Return distributions whose log densities are multiplied by a factor."""
        return Clouds(factor * self.constants, self.means, factor**0.5 * self.whitening)


class _Moments(NamedTuple):
    """Weights (k,) of the rows of k classes, their means (k, d), and sums of products around these (k, d, d)."""

    weight: np.ndarray
    means: np.ndarray
    scatter: np.ndarray

    @classmethod
    def of(cls, X: np.ndarray, labels: np.ndarray, weight: np.ndarray) -> _Moments:
        """Take them of rows (n, d) with a weight (n,) in each class (n, k)."""
        k, d = labels.shape[1], X.shape[1]
        found = cls(np.zeros(k), np.zeros((k, d)), np.zeros((k, d, d)))
        for j in np.flatnonzero(labels.any(axis=0)):
            x, w = X[labels[:, j] > 0], weight[labels[:, j] > 0]
            found.weight[j], found.means[j] = w.sum(), w @ x / w.sum()
            apart = x - found.means[j]
            found.scatter[j] = (w[:, None] * apart).T @ apart
        return found

    def clouds(self, shared: float, diagonal: float) -> Clouds:
        """Return normal distributions, with so large parts of the covariance of all classes and of the diagonal."""
        total, of_all = self.weight.sum(), self.scatter.sum(axis=0)
        weight = np.where(self.weight > 0, self.weight, _ABSENT * total)
        mixed = (1 - shared) * self.scatter + shared * of_all
        covariances = mixed / ((1 - shared) * weight + shared * total)[:, None, None]
        variances = np.einsum("kii->ki", covariances) + np.maximum(_ADDED * of_all.diagonal() / total, _LEAST)
        covariances *= 1 - diagonal
        np.einsum("kii->ki", covariances)[:] = variances
        factors, eye = np.linalg.cholesky(covariances), np.eye(covariances.shape[1])
        # A factor is inverted in a third of the time that another matrix takes.
        inverse = [solve_triangular(factor, eye, lower=True, check_finite=False) for factor in factors]
        whitening = np.stack(inverse).swapaxes(1, 2)
        constants = np.log(np.einsum("kii->ki", whitening)).sum(axis=1) + np.log(weight / total)
        return Clouds(constants, self.means, whitening)


def seconds_to_tell(n_rows: int, n_columns: int, n_classes: int) -> float:
    """About how long :func:`discriminant_of` takes for so many rows, columns and classes."""
    n, k, tried = min(n_rows, MOST_ROWS), max(n_classes, 2), 2 * len(_SHARED) * len(_DIAGONAL)
    products = n_columns**2 * (n + N_PARTS * n_columns)
    return tried * k * (_SECONDS * products + N_PARTS * _SECONDS_A_COVARIANCE)


def discriminant_of(
    ground: Ground, columns: np.ndarray, labels: np.ndarray, weight: np.ndarray, score: float
) -> Told | None:
    """Find normal distributions of the classes; None if they tell rows that are left out worse than a D2 of ``score``.

    Parameters
    ----------
    ground : Ground
    columns : ndarray of shape (n, d)
        Columns of its scaling, of rows in random order.
    labels : ndarray of shape (n, k)
        0 and 1: the class of each row, or whether it is of the second one (k = 1).
    weight : ndarray of shape (n,)
    score : float
    """
    labels, weight, n_read = labels[:MOST_ROWS], weight[:MOST_ROWS], ground.network.hidden_inputs.stop
    of = labels if labels.shape[1] > 1 else np.hstack([1 - labels, labels])
    parts = parts_of(ground.columns(columns)[:MOST_ROWS])
    if parts is None:
        return None

    def read(first: int, end: int) -> _Best:
        return _best(columns[:MOST_ROWS, first:end], of, weight, parts)

    first, best = 0, read(0, n_read)
    if ground.base.n_straight:
        straight = read(n_read, n_read + ground.base.n_straight)
        # Of rows that lie far out, squashed columns tell less than of those of the fit.
        if straight.loss < best.loss + _MARGIN / weight.sum():
            first, best = n_read, straight
    of_constant = float(entr(weight @ of / weight.sum()).sum())
    if best.loss + LOG_CHOICES / weight.sum() >= (1 - score) * of_constant:
        return None
    found = Discriminant(ground.base, first, *best.clouds)
    return Told.of(found, log_odds(best.told), columns)


class _Best(NamedTuple):
    """The mean log loss of rows that are told by others, their log densities (n, k), and distributions of all rows."""

    loss: float
    told: np.ndarray
    clouds: Clouds


def _best(
    X: np.ndarray, labels: np.ndarray, weight: np.ndarray, parts: Sequence[tuple[np.ndarray, np.ndarray]]
) -> _Best:
    """Choose how much covariances are drawn together, for columns (n, d) and labels (n, k) of 0 and 1."""
    others = [_Moments.of(X[rest], labels[rest], weight[rest]) for rest, _ in parts]
    least, chosen = np.inf, (0.0, 0.0, 1.0, np.zeros(labels.shape))
    for shared, diagonal in itertools.product(_SHARED, _DIAGONAL):
        told = np.empty(labels.shape)
        for (_, part), moments in zip(parts, others, strict=True):
            told[part] = moments.clouds(shared, diagonal).log_densities(X[part])
        for factor in _FACTORS:
            if (loss := _loss(factor * told, labels, weight)) < least:
                least, chosen = loss, (shared, diagonal, factor, told)
    shared, diagonal, factor, told = chosen
    clouds = _Moments.of(X, labels, weight).clouds(shared, diagonal)
    return _Best(least, factor * told, clouds.drawn_together(factor))


def _loss(log_densities: np.ndarray, labels: np.ndarray, weight: np.ndarray) -> float:
    """Mean log loss of log odds."""
    odds = log_odds(log_densities)
    logits = odds if odds.shape[1] > 1 else np.hstack([np.zeros_like(odds), odds])
    return -float(weight @ (labels * log_softmax(logits, axis=1)).sum(axis=1)) / float(weight.sum())
