"""Radial units: a network that is linear in how near a row is to others.

Networks of few units draw smooth lines through the table. What is local, they have no units for. A unit that is large
near one row, and falls with the distance from it, is local. Such units are centred on rows of the fit. They stay as
they are, so that the network is linear in its weights, and a Gauss-Newton step solves it. With all rows as centres it
predicts the mean of a Gaussian process; with some of them, nearly so.

The variance of its outputs is smaller than that of a Gaussian process, and without noise it would be 0: so many targets
tell all weights. So where the units lack more than the noise between rows, there is one more column, which is 0 at the
centres. Elsewhere it has the deviation that the units lack there. The data tell nothing of its weight, which keeps the
mean 0 and the variance of the prior.

Distances tell most where columns count by what they do. Other members of the fit know that: their outputs have a slope
along each column, and columns are multiplied by it. The evidence on some of the rows chooses how far a unit reaches
along each of them, and how smooth it is (:mod:`skgn.shapes`).

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
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from scipy.linalg import eigh
from scipy.spatial.distance import cdist

from .candidates import MANY_WEIGHTS
from .feedforward import FeedForward
from .scaler import Made, Scaler
from .shapes import METRICS, best_shape, falling

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["RADIAL", "Radial", "RadialUnits", "Surroundings", "lacking", "paths"]

#: Name of the scaling whose columns are radial units.
RADIAL = "radial"

#: At most so many rows are centres, and so many tell which units are the best (docs/decisions.md).
_CENTRES, _TELLING = 500, 200

#: A direction of the units is left out where its variance is at most so many times that of the noise.
_LEAST_SAID = 0.1

#: The same in parts of the largest variance, where there is no noise: rounding errors of the eigenvalues.
_ROUNDING = 1e-12

#: Variances that are so much smaller than others may be 0.
_CLOSE = 1e-9

#: Where the noise has at most such a part of the variance of the target, there is a column for what units do not tell;
#: elsewhere where they lack more than the noise, at a row that is no centre.
_QUIET = 1e-4

#: This stands for 0 under a root, which has no gradient there.
_NOTHING = 1e-30

#: Each slope counts half a nat, as a precision does (:mod:`skgn.leave_one_out`), if it is such a part of the largest.
#: So does each length of a column.
_NATS_PER_CHOICE, _LEAST_SLOPE = 0.5, 0.01


def lacking(columns: Any, told: Any) -> Any:
    """Root (n, 1) of what columns (n, r) lack of a variance; arrays or tensors."""
    return (told - (columns * columns).sum(1)[:, None]).clip(_NOTHING) ** 0.5


@dataclass
class RadialUnits(Made):
    """Radial units of the columns of another scaling, and its straight columns beside them.

    Columns for hidden layers are multiplied by ``scale``; ``centres`` (m, columns) are so scaled. Outputs of the units
    are multiplied by ``projection`` (m, r), after which the columns have the covariance of the units. Straight columns
    are multiplied by ``straight``. If ``told`` is above 0, there is a last column: the root of what the squares of the
    columns of the units lack of this variance.
    """

    base: Scaler
    scale: np.ndarray
    straight: np.ndarray
    centres: np.ndarray
    profile: str
    projection: np.ndarray
    told: float = 0.0

    @property
    def n_columns(self) -> int:
        return self.projection.shape[1] + len(self.straight) + (self.told > 0)

    @property
    def source(self) -> Scaler:
        return self.base

    def of(self, source: Scaler) -> Self:
        """Return the units as they are: of other columns, no distance would be what it was."""
        return self

    @property
    def n_straight(self) -> int:
        """There are no columns for the linear path alone."""
        return 0

    @property
    def features(self) -> None:
        """A unit belongs to no feature."""
        return None

    def embed(self, z: np.ndarray) -> np.ndarray:
        """Return the columns that are made of given columns of the other scaling."""
        hidden, straight = paths(z, self.base.n_straight)
        units = falling(cdist(hidden * self.scale, self.centres, METRICS[self.profile]), self.profile)
        columns = [units @ self.projection, straight * self.straight]
        if self.told > 0:
            columns.append(lacking(columns[0], self.told))
        return np.hstack(columns)


class Surroundings(NamedTuple):
    """What radial units are made of.

    They read the scaling ``base``. Their network is like the given one but for its layers. ``features`` tells what the
    columns of all scalings come from.
    """

    base: Scaler
    network: FeedForward
    features: Mapping[str, np.ndarray]


class Radial(NamedTuple):
    """Radial units, the variance of the noise beside them, in units of the target, and the nats of ``log_choices``.

    By so much the left-out log density of the units is too high, as the same samples have told slopes and lengths.
    """

    units: RadialUnits
    noise: float
    log_choices: float

    @classmethod
    def of(
        cls, base: Scaler, columns: np.ndarray, slopes: np.ndarray, Y: np.ndarray, weight: np.ndarray
    ) -> Radial | None:
        """Choose radial units; None where nothing has a slope.

        Parameters
        ----------
        base : Scaler
            The scaling that the units read.
        columns : ndarray of shape (n, d)
            Its columns, of rows in random order.
        slopes : ndarray of shape (d,)
            How steep the outputs of the other members are along each column.
        Y : ndarray of shape (n, k)
        weight : ndarray of shape (n,)
        """
        largest = slopes.max(initial=0.0)
        if not (largest > 0 and math.isfinite(largest)):
            return None
        hidden, straight = paths(columns, base.n_straight)
        slope, factor = (part[0] / largest for part in paths(slopes[None], base.n_straight))
        factor = factor / math.sqrt(len(factor))
        hidden, straight = hidden * slope, straight * factor
        about_mean = Y - np.average(Y, axis=0, weights=weight)
        telling = slice(_TELLING)
        found = best_shape(hidden[telling], straight[telling], about_mean[telling], weight[telling])
        if found is None:
            return None
        centres = hidden[: min(_CENTRES, MANY_WEIGHTS // Y.shape[1])] * found.factors
        K = falling(cdist(centres, centres, METRICS[found.profile]), found.profile)
        variance, directions = eigh(K, check_finite=False)
        said = found.signal / found.noise * len(columns) / len(centres)
        kept = variance > max(_ROUNDING * variance[-1], _LEAST_SAID / said)
        spread = math.sqrt(found.signal)
        projection = spread * directions[:, kept] / np.sqrt(variance[kept])
        units = RadialUnits(base, slope * found.factors, spread * factor, centres, found.profile, projection)
        quiet = found.noise <= _QUIET * np.square(about_mean).mean()
        if len(centres) == len(columns) and (quiet or found.signal * _lack(variance, directions) > found.noise):
            told = float(np.square(K @ projection).sum(axis=1).min())
            units = replace(units, told=told * (1 - _CLOSE))
        n_choices = int((slope >= _LEAST_SLOPE).sum()) + found.n_lengths
        return cls(units, found.noise, _NATS_PER_CHOICE * n_choices)


def _lack(variance: np.ndarray, directions: np.ndarray) -> float:
    """Mean variance that units around all rows but one lack at that row, from the eigenvalues of their covariance."""
    variance = np.maximum(variance, _CLOSE * variance[-1])
    return float((1 / np.square(directions / np.sqrt(variance)).sum(axis=1)).mean())


def paths(columns: Any, n_straight: int) -> tuple[Any, Any]:
    """Columns for hidden layers and for the linear path, which may be the same."""
    if n_straight == 0:
        return columns, columns
    return columns[:, :-n_straight], columns[:, -n_straight:]
