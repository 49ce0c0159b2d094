"""Scalings of inputs (squashed, straight, by ranks, periodic) and of targets.

Each is fitted to rows with weights (see :mod:`skgn.weighted_rows`), and transforms any others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from scipy.special import ndtri

from .mixing import covariances_of_targets, outputs_of_targets, targets_of_outputs, variances_of_targets
from .scaler import Derived, Scaler
from .weighted_rows import distinct, magnitude, moments, weighted_quantiles

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = [
    "LARGEST",
    "LARGEST_SCORE",
    "QUARTILES",
    "RANGES_BEYOND",
    "ROBUST",
    "SCALINGS",
    "UNIT_FACTOR",
    "UNIT_SHIFT",
    "Embedding",
    "InputScaler",
    "PeriodicEmbedding",
    "RankScaler",
    "StraightScaler",
    "TargetScaler",
    "TwoPathScaler",
    "beyond_knots",
    "in_units",
    "periodic",
    "standardise",
    "straight",
]

#: Scalings of the inputs, by the names of the estimators' ``standardize``.
SCALINGS = ("robust", "rank", "periodic", "piecewise")

#: Standardised inputs beyond this many scale units are squeezed towards it.
_CLIP = 3.0

#: Number of ranges beyond the values seen up to which straight inputs follow a line. What is farther is unfamiliar, or
#: a gross error.
RANGES_BEYOND = 2.0

#: Interquartile range of the standard normal distribution.
_NORMAL_IQR = 1.3489795003921634

#: Units of a stream stay while the spread of a column in them is within this factor of that in its own units, and while
#: its mean is within so many of these.
UNIT_FACTOR, UNIT_SHIFT = 2.0, 1.0

#: Quantiles of the robust scaling.
QUARTILES = (0.25, 0.5, 0.75)

#: Least distance of a rank from 0 and 1, so that a normal score is at most 3.1.
_RAREST = 1e-3

#: Largest standardised normal score; the score of a rare value among few would grow without bound.
LARGEST_SCORE = 3.5

#: Knots of a rank transformation; more distinct values are interpolated.
_KNOTS = 1000

#: Radians for each unit of the normal score, in its sine and cosine.
_FREQUENCY = 2.0

#: Far below this the clip is flat; far beyond, its square would overflow. Within float32, as constants in ONNX are.
LARGEST = 1e30


def in_units(X: Any, unit: Any, xp: Any = np) -> Any:
    """Divide X by the units of its columns; ``xp`` is the namespace of NumPy arrays or of tensors."""
    return xp.clip(X / unit, -LARGEST, LARGEST)


def standardise(X: Any, unit: Any, centre: Any, inverse_scale: Any, xp: Any = np) -> Any:
    """Apply the formula of :class:`InputScaler`."""
    # Clip before the product too: infinity times the 0 of a constant column is nan.
    V = in_units(X, unit, xp)
    return _squeeze(xp.clip((V - centre) * inverse_scale, -LARGEST, LARGEST), xp)


def straight(X: Any, unit: Any, mean: Any, inverse_scale: Any, lowest: Any, highest: Any, xp: Any = np) -> Any:
    """Apply the formula of :class:`StraightScaler`."""
    return (xp.clip(X / unit, lowest, highest) - mean) * inverse_scale


def beyond_knots(V: Any, inside: Any, width: Any, rise: Any, xp: Any = np) -> Any:
    """Compute what V, in units, adds to the score of ``inside``.

    ``inside`` is V clipped to the knots of :class:`RankScaler`.
    """
    return _squeeze(xp.clip((V - inside) / width * rise, -LARGEST, LARGEST), xp)


def periodic(z: Any, bent: Any, xp: Any = np) -> Any:
    """Apply the formula of :class:`PeriodicEmbedding`: scores, sines, cosines."""
    angle = _FREQUENCY * z[:, bent]
    return xp.concatenate([z, xp.sin(angle), xp.cos(angle)], axis=1)


def _squeeze(z: Any, xp: Any) -> Any:
    return z / xp.sqrt(1 + xp.square(z / _CLIP))


class _OneColumnEach:
    """A scaling that makes one column of each feature, in a ``unit`` (d,), for all paths."""

    unit: np.ndarray

    n_straight = 0

    @property
    def features(self) -> np.ndarray:
        """Features of the columns: each feature has one column."""
        return np.arange(len(self.unit))


@dataclass
class InputScaler(_OneColumnEach):
    """Scale by median and range, and squash: z = (x - median) / scale, then z / sqrt(1 + (z / 3)^2).

    The scale is the interquartile range, in units of a normal's standard deviation. If that is 0 (indicator columns),
    the scale is half the range. A column that is constant in training carries no information and maps to 0.
    """

    centre: np.ndarray
    inverse_scale: np.ndarray
    unit: np.ndarray

    @classmethod
    def fit(cls, X: np.ndarray, weight: np.ndarray) -> InputScaler:
        """Estimate from (n, d) inputs. Columns of any magnitude are first brought to at most 1."""
        unit = magnitude(np.abs(X).max(axis=0))
        V = X / unit
        return cls.of_statistics(unit, weighted_quantiles(V, weight, QUARTILES), V.min(axis=0), V.max(axis=0))

    @classmethod
    def of_statistics(
        cls, unit: np.ndarray, quartiles: Iterable[np.ndarray], lowest: np.ndarray, highest: np.ndarray
    ) -> InputScaler:
        """Make a scaler from the statistics of the inputs in that unit; each is an array (d,)."""
        lower, centre, upper = quartiles
        spread = (upper - lower) / _NORMAL_IQR
        half_range = (highest - lowest) / 2
        # A subnormal spread has no reciprocal.
        scale = np.where(spread >= np.finfo(float).tiny, spread, half_range)
        inverse = np.divide(1.0, scale, out=np.zeros_like(scale), where=scale > 0)
        return cls(centre, inverse, unit)

    def transform(self, X: np.ndarray) -> np.ndarray:
        """Scale and clip; the result is new, C-contiguous and float64."""
        with np.errstate(over="ignore"):
            z = standardise(np.asarray(X, dtype=np.float64), self.unit, self.centre, self.inverse_scale)
        return np.ascontiguousarray(z)


@dataclass
class StraightScaler(_OneColumnEach):
    """Standardise: z = (x - mean) / standard deviation, with x clipped at two ranges beyond the values seen.

    A column that is constant in training carries no information and maps to 0.
    """

    unit: np.ndarray
    mean: np.ndarray
    inverse_scale: np.ndarray
    lowest: np.ndarray
    highest: np.ndarray

    @classmethod
    def fit(cls, X: np.ndarray, weight: np.ndarray) -> StraightScaler:
        """Estimate from (n, d) inputs. Columns of any magnitude are first brought to at most 1."""
        unit = magnitude(np.abs(X).max(axis=0))
        V = X / unit
        return cls.of_statistics(unit, *moments(V, weight), V.min(axis=0), V.max(axis=0))

    @classmethod
    def of_statistics(
        cls, unit: np.ndarray, mean: np.ndarray, variance: np.ndarray, lowest: np.ndarray, highest: np.ndarray
    ) -> StraightScaler:
        """Make a scaler from the statistics of the inputs in that unit; each is an array (d,)."""
        # A constant column leaves a rounding error of its mean.
        varies = (highest > lowest) & (variance > 0)
        inverse = np.divide(1.0, np.sqrt(variance), out=np.zeros_like(variance), where=varies)
        reach = RANGES_BEYOND * (highest - lowest)
        return cls(unit, mean, inverse, lowest - reach, highest + reach)

    def transform(self, X: np.ndarray) -> np.ndarray:
        """Scale and clip; the result is new, C-contiguous and float64."""
        X = np.asarray(X, dtype=np.float64)
        with np.errstate(over="ignore"):
            z = straight(X, self.unit, self.mean, self.inverse_scale, self.lowest, self.highest)
        return np.ascontiguousarray(z)


@dataclass
class TwoPathScaler:
    """Columns of :class:`InputScaler` for hidden layers, then columns of :class:`StraightScaler` for the linear path.

    A line in the squashed columns is no line in the inputs. And if hidden layers read straight columns, an outlier
    could run away with a unit.
    """

    squashed: InputScaler
    straight: StraightScaler

    @classmethod
    def fit(cls, X: np.ndarray, weight: np.ndarray) -> TwoPathScaler:
        """Estimate from (n, d) inputs."""
        return cls(InputScaler.fit(X, weight), StraightScaler.fit(X, weight))

    @property
    def n_squashed(self) -> int:
        """Number of squashed columns: each feature has one."""
        return len(self.squashed.features)

    @property
    def n_straight(self) -> int:
        """Number of straight columns: each feature has one."""
        return len(self.straight.features)

    @property
    def features(self) -> np.ndarray:
        """Features of the squashed columns, then of the straight columns."""
        return np.concatenate([self.squashed.features, self.straight.features])

    def transform(self, X: np.ndarray) -> np.ndarray:
        """Return squashed and straight columns of (n, d) inputs: new, C-contiguous and float64."""
        return np.concatenate([self.squashed.transform(X), self.straight.transform(X)], axis=1)


#: The "robust" scaling by the paths of the networks that read it.
ROBUST: Mapping[str, type[InputScaler | StraightScaler | TwoPathScaler]] = {
    "hidden": InputScaler,
    "linear": StraightScaler,
    "both": TwoPathScaler,
}


@lru_cache
def _knots(n: int) -> np.ndarray:
    """Places of knots among n values: as many as tell ranks apart, with the first and the last."""
    return np.unique(np.linspace(0, n - 1, _KNOTS).round().astype(int))


@dataclass
class RankScaler(_OneColumnEach):
    """Replace x by the normal score z of its rank, by linear interpolation between knots.

    Scores have mean 0 and variance 1, but are at most 3.5 in size, so that a rare value among few gets less variance.
    Heavy tails and skewed columns become normal; gaps close. Beyond the values seen, z goes on with the slope between
    the first and the last knot. It is clipped smoothly, at most 3 units further. A constant column maps to 0.
    """

    values: list[np.ndarray]
    scores: list[np.ndarray]
    unit: np.ndarray

    @classmethod
    def fit(cls, X: np.ndarray, weight: np.ndarray) -> RankScaler:
        """Estimate from (n, d) inputs. Columns of any magnitude are first brought to at most 1."""
        unit = magnitude(np.abs(X).max(axis=0))
        return cls.of_distributions(unit, [distinct(column, weight) for column in (X / unit).T])

    @classmethod
    def of_distributions(cls, unit: np.ndarray, columns: Iterable[tuple[np.ndarray, np.ndarray]]) -> RankScaler:
        """Make a scaler from the distinct values of each column in that unit, in order, and the weight of each."""
        values, scores = [], []
        for x, mass in columns:
            share = (np.cumsum(mass) - mass / 2) / mass.sum()
            z = ndtri(np.clip(share, _RAREST, 1 - _RAREST))
            z = z - np.average(z, weights=mass)
            deviation = np.sqrt(np.average(np.square(z), weights=mass))
            if len(x) > 1:
                # The rare value of an indicator stays within reach of the others.
                z = z / max(deviation, np.abs(z).max() / LARGEST_SCORE)
            kept = _knots(len(x))
            # Nor do subnormal gaps: the slope across one overflows.
            kept = kept[np.diff(x[kept], prepend=-2.0) > 10 * np.finfo(float).tiny]
            values.append(x[kept])
            scores.append(z[kept])
        return cls(values, scores, unit)

    def transform(self, X: np.ndarray) -> np.ndarray:
        """Return scores of (n, d) inputs: new, C-contiguous and float64."""
        with np.errstate(over="ignore"):
            V = in_units(np.asarray(X, dtype=np.float64), self.unit)
        out = np.zeros(V.shape)
        for j, (x, z) in enumerate(zip(self.values, self.scores, strict=True)):
            if len(x) == 1:
                continue
            inside = np.clip(V[:, j], x[0], x[-1])
            with np.errstate(over="ignore"):
                beyond = beyond_knots(V[:, j], inside, x[-1] - x[0], z[-1] - z[0])
            out[:, j] = np.interp(inside, x, z) + beyond
        return out


@dataclass
class Embedding(Derived):
    """A scaling that makes its columns of the normal scores of :class:`RankScaler`."""

    ranks: RankScaler

    n_straight = 0

    @property
    def source(self) -> RankScaler:
        return self.ranks

    def of(self, source: Scaler) -> Self:
        # A network has inputs for the bends that there were.
        assert isinstance(source, RankScaler)
        return replace(self, ranks=source)


@dataclass
class PeriodicEmbedding(Embedding):
    """Add sin 2z and cos 2z to the normal score z of :class:`RankScaler`, if a feature has three values or more.

    They give bends of a feature that a small network would first have to learn. Any function of two values is linear.

    References
    ----------
    Y. Gorishniy, I. Rubachev and A. Babenko, On embeddings for numerical features in tabular deep learning,
    NeurIPS 2022.
    """

    bent: np.ndarray

    @classmethod
    def fit(cls, X: np.ndarray, weight: np.ndarray) -> PeriodicEmbedding:
        """Estimate from (n, d) inputs."""
        return cls.of_ranks(RankScaler.fit(X, weight))

    @classmethod
    def of_ranks(cls, ranks: RankScaler) -> PeriodicEmbedding:
        """Make the embedding of given scores."""
        return cls(ranks, np.flatnonzero([len(values) > 2 for values in ranks.values]))

    @property
    def features(self) -> np.ndarray:
        """Features of the scores, then of the sines, then of the cosines."""
        return np.concatenate([self.ranks.features, self.bent, self.bent])

    def embed(self, z: np.ndarray) -> np.ndarray:
        """Return scores, sines and cosines of given scores."""
        return periodic(z, self.bent)


@dataclass
class TargetScaler:
    """Standardise each target to weighted mean 0 and standard deviation 1; a constant target is only centred.

    With a ``mixing`` the network has combinations of these (:mod:`skgn.mixing`).
    """

    mean: np.ndarray
    scale: np.ndarray
    mixing: np.ndarray | None = None

    #: What the network's targets are; losses call it their ``target_kind``.
    kind: ClassVar[str] = "values"

    @property
    def initial_scale(self) -> np.ndarray | None:
        """Scale (k,) of the noise where training begins; None where that is left to the prior."""
        return None

    @classmethod
    def fit(cls, Y: np.ndarray, weight: np.ndarray) -> TargetScaler:
        """Estimate from (n, k) targets. Columns of any magnitude are first brought to at most 1."""
        unit = magnitude(np.abs(Y).max(axis=0))
        return cls.of_statistics(unit, *moments(Y / unit, weight))

    @classmethod
    def of_statistics(cls, unit: np.ndarray, mean: np.ndarray, variance: np.ndarray) -> TargetScaler:
        """Make a scaler from the statistics of the targets in that unit; each is an array (k,)."""
        deviation = np.sqrt(variance)
        # A constant column leaves a rounding error of its mean.
        constant = deviation <= 8 * np.finfo(float).eps * np.abs(mean)
        scale = np.where(constant, 1.0, deviation) * np.where(constant, 1.0, unit)
        # A subnormal scale has no reciprocal.
        return cls(mean * unit, np.maximum(scale, np.finfo(float).tiny))

    @classmethod
    def identity(cls, n_outputs: int) -> TargetScaler:
        """Make the scaler that changes nothing."""
        return cls(np.zeros(n_outputs), np.ones(n_outputs))

    def units_of(self, other: TargetScaler) -> tuple[np.ndarray, np.ndarray]:
        """Return r and q (k,) by which outputs f become r f + q in the units of another scaler."""
        return self.scale / other.scale, (self.mean - other.mean) / other.scale

    def suits(self, other: TargetScaler) -> bool:
        """Whether targets are well scaled that another scaler was fitted to."""
        r, q = self.units_of(other)
        return bool(((r >= 1 / UNIT_FACTOR) & (r <= UNIT_FACTOR) & (np.abs(q) <= UNIT_SHIFT)).all())

    def transform(self, Y: np.ndarray) -> np.ndarray:
        """Transform targets to those of the network."""
        return outputs_of_targets((Y - self.mean) / self.scale, self.mixing)

    def mean_of(self, outputs: Any) -> Any:
        """Means of the target, in standard units: the outputs themselves, or what they are combinations of."""
        return targets_of_outputs(outputs, self.mixing)

    def variance_of(self, mean: Any, output_variance: Any, noise_variance: Any) -> Any:
        """Variance of a new observation, in standard units."""
        return variances_of_targets(output_variance + noise_variance, self.mixing)

    def covariance_of(self, mean: np.ndarray, output_covariance: np.ndarray) -> np.ndarray:
        """Covariances (k, n, n) of the means (k, n), in standard units."""
        return covariances_of_targets(output_covariance, self.mixing)

    def inverse_transform(self, Y: Any) -> Any:
        """Transform targets back to their own units."""
        return Y * self.scale + self.mean

    def targets_of(self, Z: np.ndarray) -> np.ndarray:
        """Targets in their own units, of those in standard units."""
        return Z * self.scale + self.mean

    def rescale(self, deviation: Any) -> Any:
        """Standard deviations in the units of the target."""
        return deviation * self.scale
