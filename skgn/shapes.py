"""The shape of radial units: how they fall, how far they reach along each column, and variances of signal and noise.

Targets are those of a Gaussian process. Its covariance is that of the units, and of straight columns beside them. The
shape is the one of the highest evidence. A few lengths are the same along all columns. From the best of them on, each
column may have a length of its own in smooth shapes. A prior holds it near the one before. Some rows compare all
metrics and profiles. More rows compare the best rough shape, and the best smooth ones with one length and with many.
The evidence has to pay for the number of lengths, and for what the same targets have told a metric.

References
----------
C. E. Rasmussen and C. K. I. Williams, Gaussian Processes for Machine Learning, MIT Press 2006, section 5.4.
H. Akaike, A new look at the statistical model identification, IEEE Transactions on Automatic Control 19 (1974).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any, NamedTuple

import numpy as np
from scipy.linalg import cho_factor
from scipy.linalg.blas import dsymm
from scipy.linalg.lapack import dormqr, dpotri, dptsv, dsytrd, dsytrd_lwork
from scipy.optimize import minimize, minimize_scalar
from scipy.spatial.distance import cdist

from .evidence import NATS_PER_CHOICE

__all__ = ["DISTANCES", "Metric", "Shape", "Telling", "best_shape", "falling"]

#: How a unit falls, by the distance in which it does, and the lengths to choose from, in median distances.
DISTANCES = {"exponential": "cityblock", "matern": "euclidean", "gaussian": "euclidean"}
_LENGTHS = {"exponential": (1.0, 5.0), "matern": (1.0, 5.0), "gaussian": (0.5, 1.0, 3.0)}

#: So many rows compare all metrics and profiles (docs/decisions.md).
_COMPARING = 150

#: Bounds of the logarithms of variances of the units and of the noise, in parts of that of the target.
_LEAST_SIGNAL, _LARGEST_SIGNAL, _LEAST_NOISE, _LARGEST_NOISE = 1e-6, 1e6, 1e-6, 10.0
_BOUNDS = tuple(np.log([(_LEAST_SIGNAL, _LARGEST_SIGNAL), (_LEAST_NOISE, _LARGEST_NOISE)]))

#: Logarithms of ratios of noise to signal, between which the best one lies, and how closely it is found.
_LOG_RATIOS = np.log(np.geomspace(_LEAST_NOISE / _LARGEST_SIGNAL, _LARGEST_NOISE / _LEAST_SIGNAL, 40))
_CLOSE_RATIO = 1e-3

#: So many columns have lengths of their own: those along which rows differ the most, and by at least such a part of
#: the largest difference.
_OWN_LENGTHS, _LEAST_DIFFERENCE = 30, 0.01

#: So many iterations, or such a relative rise of the evidence, settle lengths well enough (docs/decisions.md). So few
#: compare metrics by some rows. Logarithms of lengths may go so far.
_ITERATIONS, _FEW_ITERATIONS, _LEAST_RISE, _FARTHEST = 20, 8, 1e-4, 20.0

#: Variance that each row has of its own, in parts of the largest of the signal: more than rounding errors.
_ROUNDING = 1e-10


class Telling(NamedTuple):
    """Rows that tell a shape, in random order: their columns, targets Y (n, k) and weights (n,).

    Rows have distances in ``hidden`` columns (n, d). Targets are linear in ``straight`` ones (n, s), beside the units.
    """

    hidden: np.ndarray
    straight: np.ndarray
    Y: np.ndarray
    weight: np.ndarray

    def first(self, n: int) -> Telling:
        """Keep the first n rows."""
        return Telling(*(part[:n] for part in self))


class Metric(NamedTuple):
    """How much columns count: factors ``hidden`` (d,) in distances, and ``straight`` (s,) beside the units.

    If the latter is empty, there are no columns beside the units. The same targets have told ``n_choices`` of the
    factors. The networks that the factors come from have ``learned`` so many nats of these targets.
    """

    hidden: np.ndarray
    straight: np.ndarray
    n_choices: int = 0
    learned: float = 0.0

    def of(self, hidden: np.ndarray, straight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Multiply columns; return those in which rows have distances, and covariances (n, n) of straight ones."""
        beside = straight[:, : len(self.straight)] * self.straight
        return hidden * self.hidden, beside @ beside.T


class Shape(NamedTuple):
    """Units of a profile in a metric, the variances of signal and noise, and the log density in nats.

    Columns that are multiplied by the metric and by ``factors`` (columns,) have distances in lengths of a unit. Of
    these, ``n_lengths`` belong to one column each. The density is that of the targets, times that of such lengths. Each
    of these takes a nat off, by Akaike's criterion. The same targets have ``chosen`` the shape among others, in nats.
    """

    metric: Metric
    profile: str
    factors: np.ndarray
    signal: float
    noise: float
    log_density: float
    n_lengths: int = 0
    chosen: float = 0.0

    @property
    def log_choices(self) -> float:
        """By how many nats the density of what the same targets tell is too high."""
        return NATS_PER_CHOICE * (self.metric.n_choices + self.n_lengths) + self.chosen + self.metric.learned

    @property
    def rank(self) -> float:
        """The highest is the best."""
        return self.log_density - NATS_PER_CHOICE * self.metric.n_choices

    def covariance(self, hidden: np.ndarray, straight: np.ndarray) -> np.ndarray:
        """Covariance (n, n) of the signal at rows of the columns."""
        scaled, linear = self.metric.of(hidden, straight)
        distance = cdist(scaled * self.factors, scaled * self.factors, DISTANCES[self.profile])
        covariance: np.ndarray = self.signal * (falling(distance, self.profile) + linear)
        return covariance

    @property
    def is_smooth(self) -> bool:
        """Whether distances are Euclidean."""
        return DISTANCES[self.profile] == "euclidean"


def falling(distance: Any, profile: str, xp: Any = np) -> Any:
    """How large a unit is, at a distance in units of its length: 1 at its centre, and 0 far away.

    ``profile`` is "exponential", or "matern" of smoothness 3/2, which has a slope everywhere, or "gaussian", which has
    all derivatives.
    """
    if profile == "exponential":
        return xp.exp(-distance)
    if profile == "gaussian":
        return xp.exp(-0.5 * distance * distance)
    distance = math.sqrt(3.0) * distance
    return (1.0 + distance) * xp.exp(-distance)


def best_shape(metrics: Sequence[Metric], rows: Telling) -> Shape | None:
    """Return the shape of the highest evidence among these metrics, for targets less their mean.

    None where rows are all alike, or have one target.
    """
    few = rows.first(_COMPARING)
    if not few.Y.any():
        return None
    some = [_Rows.of(metric, few) for metric in metrics]
    found = [shape for each in some for profile in DISTANCES for shape in each.shapes(profile, _FEW_ITERATIONS)]
    ranked = sorted(found, key=attrgetter("rank"))
    of_kinds = {(shape.is_smooth, shape.n_lengths > 0): shape for shape in ranked}.values()
    # One shape may be the best with one length and with many: it is made once.
    best = {(id(shape.metric), shape.profile): shape for shape in of_kinds}.values()
    of_all = [_Rows.of(shape.metric, rows).shapes(shape.profile) for shape in best]
    return max(itertools.chain(*of_all), key=attrgetter("rank"), default=None)


class _Rows(NamedTuple):
    """Rows in a metric.

    Covariances are those of ``values`` (n, k), the targets times the ``roots`` of their weights (n, n, their products).
    """

    metric: Metric
    hidden: np.ndarray
    linear: np.ndarray
    roots: np.ndarray
    values: np.ndarray

    @classmethod
    def of(cls, metric: Metric, rows: Telling) -> _Rows:
        """Multiply columns by the factors of a metric."""
        root = np.sqrt(rows.weight)[:, None]
        return cls(metric, *metric.of(rows.hidden, rows.straight), root * root.T, root * rows.Y)

    def shapes(self, profile: str, iterations: int = _ITERATIONS) -> list[Shape]:
        """Return the best shape of a profile with one length, and with one for each column if it is smooth."""
        isotropic = self.isotropic(profile)
        if not isotropic:
            return []
        shape = max(isotropic, key=attrgetter("rank"))
        return [shape, self.anisotropic(shape, iterations)] if shape.is_smooth else [shape]

    def isotropic(self, profile: str) -> list[Shape]:
        """Return a shape for each length of a profile, which is the same along all columns."""
        if not np.ptp(self.hidden, axis=0).any():
            return []
        distance, ones = cdist(self.hidden, self.hidden, DISTANCES[profile]), np.ones(self.hidden.shape[1])
        lengths = float(np.median(distance[distance > 0])) * np.array(_LENGTHS[profile])
        return [self._shape(profile, ones / length, distance / length) for length in lengths]

    def _shape(self, profile: str, factors: np.ndarray, distance: np.ndarray) -> Shape:
        """Return the shape with the best variances for distances in lengths of a unit."""
        covariance = self.roots * (falling(distance, profile) + self.linear)
        found = _variances(*_tridiagonal(covariance, self.values))
        return Shape(self.metric, profile, factors, *found)

    def anisotropic(self, shape: Shape, iterations: int) -> Shape:
        """Return the best lengths of columns near those of a shape, whose distances are Euclidean.

        The prior of the logarithm of a length is normal, of standard deviation 1.
        """
        scaled = self.hidden * shape.factors
        differences = np.ptp(scaled, axis=0)
        own = np.argsort(-differences, kind="stable")[:_OWN_LENGTHS]
        own = own[differences[own] >= _LEAST_DIFFERENCE * differences.max()]
        rest, scale = np.delete(scaled, own, axis=1), float(np.square(self.values).mean())
        negative = self._negative_log_density(shape.profile, scaled[:, own], cdist(rest, rest, "sqeuclidean"), scale)
        variances = np.log([shape.signal / scale, shape.noise / scale]).clip(*np.transpose(_BOUNDS))
        start, bounds = np.append(np.zeros(len(own)), variances), [(-_FARTHEST, _FARTHEST)] * len(own) + list(_BOUNDS)
        options = {"maxiter": iterations, "ftol": _LEAST_RISE}
        fit = minimize(negative, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options)
        factors = shape.factors.copy()
        factors[own] *= np.exp(fit.x[:-2])
        signal, noise = scale * np.exp(fit.x[-2:])
        return Shape(
            self.metric, shape.profile, factors, float(signal), float(noise), -float(fit.fun) - len(own), len(own)
        )

    def _negative_log_density(
        self, profile: str, columns: np.ndarray, rest: np.ndarray, scale: float
    ) -> Callable[[np.ndarray], tuple[float, np.ndarray]]:
        """Return the function to minimise: of logarithms of factors of columns, and of variances of signal and noise.

        ``rest`` (n, n) are squared distances in other columns. Variances are in units of ``scale``.
        """
        values = self.values / math.sqrt(scale)
        n, k = values.shape
        linear = self.linear + _ROUNDING * (1 + self.linear.max()) * np.eye(n)
        ones = np.ones((n, 1))

        def negative(logs: np.ndarray) -> tuple[float, np.ndarray]:
            scaled, (signal, noise) = columns * np.exp(logs[:-2]), np.exp(logs[-2:])
            distance = np.sqrt(rest + cdist(scaled, scaled, "sqeuclidean"))
            unit = falling(distance, profile)
            covariance = signal * self.roots * (unit + linear)
            covariance.flat[:: n + 1] += noise
            factor, _ = cho_factor(covariance, lower=True, check_finite=False)
            log_root = np.log(factor.diagonal()).sum()
            # Of the inverse, and of all that is made of it, the lower triangle is enough.
            inverse = dpotri(factor, lower=True, overwrite_c=True)[0]
            solved = dsymm(1.0, inverse, values, lower=True)
            explained, square, trace = (values * solved).sum(), np.square(solved).sum(), k * np.trace(inverse)
            value = 0.5 * explained + k * log_root
            # Slopes along squared distances, then along each factor: squares of differences are those of the columns
            # less twice their products.
            along = -0.5 * signal * (k * inverse - solved @ solved.T)
            along *= self.roots * _steepness(unit, distance, profile)
            total, *products = dsymm(1.0, along, np.hstack([ones, scaled]), lower=True).T
            slopes = 2 * (total @ np.square(scaled) - (scaled * np.transpose(products)).sum(0))
            of_noise = 0.5 * noise * (trace - square)
            of_signal = 0.5 * (k * n - explained) - of_noise
            return value + 0.5 * np.square(logs[:-2]).sum(), np.append(slopes + logs[:-2], [of_signal, of_noise])

        return negative


def _steepness(unit: np.ndarray, distance: np.ndarray, profile: str) -> np.ndarray:
    """How fast a smooth ``unit`` falls with half of the squared distance."""
    return unit if profile == "gaussian" else 3.0 * unit / (1.0 + math.sqrt(3.0) * distance)


def _tridiagonal(covariance: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The diagonal and the one beside it, and ``values`` (n, k), in a basis in which a covariance has no other entries.

    Eigenvectors would take three times as long.
    """
    n, k = values.shape
    reflections, diagonal, beside, tau, _ = dsytrd(covariance, lower=1, lwork=int(dsytrd_lwork(n, lower=1)[0]))
    # The first row stays. The others are reflected as by a QR factorisation.
    others, _, _ = dormqr("L", "T", reflections[1:, :-1], tau, values[1:], lwork=64 * k)
    return diagonal + _ROUNDING * covariance.diagonal().max(), beside, np.vstack([values[:1], others])


def _variances(diagonal: np.ndarray, beside: np.ndarray, values: np.ndarray) -> tuple[float, float, float]:
    """Variances of signal and noise of the highest evidence, and this evidence.

    The covariance of the ``values`` (n, k) without noise is tridiagonal.
    """
    n, k = values.shape
    scale = float(np.square(values).mean())
    values = values / math.sqrt(scale)

    def best_signal(log_ratio: float) -> tuple[float, float]:
        """Return the signal of the highest evidence for a ratio of noise to signal, and the negative evidence."""
        ratio = math.exp(log_ratio)
        pivots, _, solved, _ = dptsv(diagonal + ratio, beside, values)
        free = float((values * solved).sum()) / (n * k)
        signal = min(max(free, _LEAST_NOISE / ratio), _LARGEST_SIGNAL)
        return signal, 0.5 * n * k * (free / signal + math.log(signal)) + 0.5 * k * float(np.log(pivots).sum())

    coarse = int(np.argmin([best_signal(log_ratio)[1] for log_ratio in _LOG_RATIOS]).clip(1, len(_LOG_RATIOS) - 2))
    bounds = _LOG_RATIOS[coarse - 1], _LOG_RATIOS[coarse + 1]
    options = {"xatol": _CLOSE_RATIO}
    found = minimize_scalar(lambda x: best_signal(x)[1], bounds=bounds, method="bounded", options=options)
    signal = scale * best_signal(found.x)[0]
    return signal, math.exp(found.x) * signal, -float(found.fun)
