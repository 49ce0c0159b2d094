"""Radial units: a network that is linear in how near a row is to others.

Networks of few units draw smooth lines through the table. What is local, they have no units for. A unit that is large
near one row, and falls with the distance from it, is local. Such units are centred on rows of the fit. They stay as
they are, so that the network is linear in its weights, and a Gauss-Newton step solves it. With all rows as centres it
predicts the mean of a Gaussian process; with some of them, nearly so.

The variance of its outputs is smaller than that of a Gaussian process. Far from all centres the units are 0, and so
is their variance, as if nothing were surer. So there is one more column, which is 0 at the rows of the fit. Elsewhere
it has the deviation that the units lack there. The data tell nothing of its weight, which keeps the mean 0 and the
variance of the prior.

Distances tell most where columns count by what they do. Other members of the fit know that: their outputs have a slope
along each column, and columns are multiplied by it. What the others have not found has no slopes. So columns may also
all count alike, without straight ones beside the units. Either columns are squashed, as hidden layers read them, or
straight. In straight ones a product of columns is smooth everywhere. The evidence on some of the rows chooses between
these, how far a unit reaches along each column, and how smooth it is (:mod:`skgn.shapes`).

Of labels the outputs are logits, whose shape and size :mod:`skgn.logits` finds. The weights then have a precision of 1,
and need no evidence of their own.

References
----------
D. S. Broomhead and D. Lowe, Multivariable functional interpolation and adaptive networks, Complex Systems 2 (1988).
C. K. I. Williams and M. Seeger, Using the Nystroem method to speed up kernel machines, NIPS 2000.
C. E. Rasmussen and J. Quinonero-Candela, Healing the relevance vector machine through augmentation, ICML 2005.
A. Radhakrishnan, D. Beaglehole, P. Pandit and M. Belkin, Mechanism for feature learning in neural networks and
backpropagation-free machine learning models, Science 383 (2024).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from scipy.linalg import eigh
from scipy.spatial.distance import cdist

from .candidates import MANY_WEIGHTS
from .feedforward import FeedForward
from .logits import shape_of_logits
from .scaler import Blended, Scaler
from .shapes import DISTANCES, Metric, Telling, best_shape, falling

__all__ = [
    "RADIAL",
    "Radial",
    "RadialUnits",
    "Surroundings",
    "equal_metrics",
    "lacking",
    "linear_path",
    "paths_of",
    "told_metrics",
]

#: Name of the scaling whose columns are radial units.
RADIAL = "radial"

#: At most so many rows are centres. So many numbers tell which units are the best, and all labels of centres
#: (docs/decisions.md).
_CENTRES, _TELLING = 500, 300

#: A direction of the units is left out where its variance is at most so many times that of the noise.
_LEAST_SAID = 0.1

#: The same in parts of the largest variance, where there is no noise: rounding errors of the eigenvalues.
_ROUNDING = 1e-12

#: A variance is told but for such a part, so that rounding leaves no lack at a row.
_CLOSE = 1e-9

#: This stands for 0 under a root, which has no gradient there.
_NOTHING = 1e-30

#: A slope has been chosen if it is such a part of the largest. Many smaller ones together fit any targets, where there
#: are no more rows than columns: there they are 0.
_LEAST_SLOPE = 0.01


def lacking(columns: Any, told: Any) -> Any:
    """Root (n, 1) of what columns (n, r) lack of a variance; arrays or tensors."""
    return (told - (columns * columns).sum(1)[:, None]).clip(_NOTHING) ** 0.5


@dataclass
class RadialUnits(Blended):
    """Radial units of columns of another scaling, and its straight columns beside them.

    The columns ``read`` are multiplied by ``scale``; ``centres`` (m, columns) are so scaled. Outputs of the units
    are multiplied by ``projection`` (m, r), after which the columns have the covariance of the units. Straight columns
    are multiplied by ``straight``; there are none if it is empty. If ``told`` is above 0, there is a last column: the
    root of what the squares of the columns of the units lack of this variance.
    """

    read: np.ndarray
    scale: np.ndarray
    straight: np.ndarray
    centres: np.ndarray
    profile: str
    projection: np.ndarray
    told: float = 0.0

    @property
    def n_columns(self) -> int:
        return self.projection.shape[1] + len(self.straight) + (self.told > 0)

    def of_units(self, z: np.ndarray) -> np.ndarray:
        """Columns of the units alone."""
        scaled = z[:, self.read] * self.scale
        return falling(cdist(scaled, self.centres, DISTANCES[self.profile]), self.profile) @ self.projection

    def embed(self, z: np.ndarray) -> np.ndarray:
        """Return the columns that are made of given columns of the other scaling."""
        columns = [self.of_units(z)]
        if len(self.straight):
            columns.append(linear_path(z, self.base.n_straight) * self.straight)
        if self.told > 0:
            columns.append(lacking(columns[0], self.told))
        return np.hstack(columns)


class Surroundings(NamedTuple):
    """What radial units are made of.

    They read the scaling ``base``. Their network is like the given one but for its layers. ``features`` tells what the
    columns of all scalings come from. With it, so many ``n_more`` members are kept than before.
    """

    base: Scaler
    network: FeedForward
    features: Mapping[str, np.ndarray]
    n_more: int


class Radial(NamedTuple):
    """Radial units, the variance of the noise beside them in units of the target, and the nats of ``log_choices``.

    By so much the left-out log density of the units is too high, as the same samples have told slopes and lengths.
    Labels have no noise: None.
    """

    units: RadialUnits
    noise: float | None
    log_choices: float

    @classmethod
    def of(
        cls,
        base: Scaler,
        columns: np.ndarray,
        metrics: Sequence[Metric],
        Y: np.ndarray,
        weight: np.ndarray,
        labels: bool = False,
    ) -> Radial | None:
        """Choose radial units; None where nothing tells them, or they would tell nothing.

        Parameters
        ----------
        base : Scaler
            The scaling that the units read.
        columns : ndarray of shape (n, d)
            Its columns, of rows in random order.
        metrics : sequence of Metric
            How much they may count.
        Y : ndarray of shape (n, k)
        weight : ndarray of shape (n,)
        labels : bool
            Whether Y are labels, whose outputs are logits.
        """
        about_mean = Y - np.average(Y, axis=0, weights=weight)
        rows = Telling(columns, linear_path(columns, base.n_straight), Y if labels else about_mean, weight)
        shape_of, n_telling = (shape_of_logits, _CENTRES) if labels else (best_shape, _TELLING)
        found = shape_of(metrics, rows.first(n_telling))
        if found is None:
            return None
        noise, spread = found.noise, math.sqrt(found.signal)
        factors = found.metric.hidden * found.factors
        read = np.flatnonzero(factors)
        centres = columns[: min(_CENTRES, max(MANY_WEIGHTS // Y.shape[1], 1)), read] * factors[read]
        K = falling(cdist(centres, centres, DISTANCES[found.profile]), found.profile)
        variance, directions = eigh(K, check_finite=False)
        said = found.signal / noise * len(columns) / len(centres)
        kept = variance > max(_ROUNDING * variance[-1], _LEAST_SAID / said)
        # A constant may be the best member of a regression, whose columns are asked for after the fit.
        if not (labels or kept.any() or len(found.metric.straight)):
            return None
        projection = spread * directions[:, kept] / np.sqrt(variance[kept])
        beside = spread * found.metric.straight
        units = RadialUnits(base, read, factors[read], beside, centres, found.profile, projection)
        if labels:
            return cls(units, None, found.log_choices)
        told = float(np.square(units.of_units(columns)).sum(axis=1).min())
        return cls(replace(units, told=told * (1 - _CLOSE)), noise, found.log_choices)


def paths_of(n_columns: int, n_straight: int) -> list[np.ndarray]:
    """Masks (n_columns,) of the columns that hidden layers read, and of those for the linear path alone, if any."""
    straight = np.arange(n_columns) >= n_columns - n_straight
    return [path for path in (~straight, straight) if path.any()]


def equal_metrics(paths: Sequence[np.ndarray]) -> list[Metric]:
    """Let all columns of a path count alike, with none beside the units: nothing but how near rows are tells."""
    return [Metric(path * 1.0, np.zeros(0)) for path in paths]


def told_metrics(
    slopes: np.ndarray, paths: Sequence[np.ndarray], n_straight: int, learned: float, n_rows: int
) -> list[Metric]:
    """Let columns of a path count by their slopes (d,), which the same samples have told; none where there are none.

    The networks that have these slopes have ``learned`` so many nats of the ``n_rows`` samples.
    """
    largest = slopes.max(initial=0.0)
    if not (largest > 0 and math.isfinite(largest)):
        return []
    counts = slopes / largest
    chosen = counts >= _LEAST_SLOPE
    if n_rows <= paths[0].sum():
        counts = counts * chosen
    beside = linear_path(counts[None], n_straight)[0]
    beside = beside / math.sqrt(len(beside))
    return [Metric(path * counts, beside, int((path & chosen).sum()), learned) for path in paths]


def linear_path(columns: Any, n_straight: int) -> Any:
    """Columns of the linear path; hidden layers may read the same ones."""
    return columns[:, -n_straight:] if n_straight else columns
