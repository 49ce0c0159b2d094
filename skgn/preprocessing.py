"""Preparation of data for training: merge repeated rows, scale and squash inputs or keep them straight, scale targets.

Every statistic treats a weight as that many repetitions of its row. It is computed from rows that `merge_rows` has
merged and sorted. So a fit depends on the weighted set of rows only, bit for bit. The order of the rows does not
matter. Nor does it matter whether a row came twice or once with weight 2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
from scipy.special import ndtri

__all__ = [
    "QUARTILES",
    "ROBUST",
    "SCALINGS",
    "InputScaler",
    "PeriodicEmbedding",
    "RankScaler",
    "Scaler",
    "StraightScaler",
    "TargetScaler",
    "TwoPathScaler",
    "beyond_knots",
    "fit_scalers",
    "in_units",
    "magnitude",
    "merge_rows",
    "moments",
    "periodic",
    "row_hashes",
    "standardise",
    "straight",
    "transform_inputs",
    "weighted_quantile",
]

#: Scalings of the inputs, by the names of the estimators' ``standardize``.
SCALINGS = ("robust", "rank", "periodic")

#: Standardised inputs beyond this many scale units are squeezed towards it.
_CLIP = 3.0

#: Number of ranges beyond the values seen up to which straight inputs follow a line; gross outliers are farther.
_RANGES_BEYOND = 2.0

#: Rows scaled at a time.
_BLOCK = 2048

#: Interquartile range of the standard normal distribution.
_NORMAL_IQR = 1.3489795003921634

#: Quantiles of the robust scaling.
QUARTILES = (0.25, 0.5, 0.75)

#: Least distance of a rank from 0 and 1, so that a normal score is at most 3.1.
_RAREST = 1e-3

#: Largest standardised normal score; the score of a rare value among few would grow without bound.
_LARGEST_SCORE = 3.5

#: Knots of a rank transformation; more distinct values are interpolated.
_KNOTS = 1000

#: Radians for each unit of the normal score, in its sine and cosine.
_FREQUENCY = 2.0

#: Far below this the clip is flat; far beyond, its square would overflow. Within float32, as constants in ONNX are.
_LARGEST = 1e30


def merge_rows(X: np.ndarray, Y: np.ndarray, sample_weight: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Drop rows of weight 0, merge equal rows (adding their weights), and sort them in an order of their own.

    Parameters
    ----------
    X : ndarray of shape (n, d)
        Inputs. Missing cells, nan, are equal to each other.
    Y : ndarray of shape (n, k)
    sample_weight : ndarray of shape (n,)

    Returns
    -------
    X, Y, sample_weight : ndarrays with m <= n rows
    """
    kept = sample_weight > 0
    # Adding 0 turns -0.0 into 0.0, which compares equal and must hash equal.
    rows = np.column_stack([X[kept], Y[kept]]).astype(np.float64) + 0.0
    # A missing cell, nan, comes in many bit patterns.
    rows[np.isnan(rows)] = np.nan
    weight = sample_weight[kept].astype(np.float64)
    # Sort equal rows by their weights: the rounding of the sum must not depend on the order of the rows.
    order = np.lexsort((weight, row_hashes(rows)))
    rows, weight = rows[order], weight[order]
    new = np.ones(len(rows), dtype=bool)
    # Equal rows have equal hashes and stand together, but for collisions of different rows (odds of n^2 / 2^64).
    # Bits, because nan is not equal to nan.
    bits = rows.view(np.uint64)
    new[1:] = (bits[1:] != bits[:-1]).any(axis=1)
    first = np.flatnonzero(new)
    weight = np.add.reduceat(weight, first) if len(first) else weight
    rows = rows[first]
    return np.ascontiguousarray(rows[:, : X.shape[1]]), np.ascontiguousarray(rows[:, X.shape[1] :]), weight


def row_hashes(rows: np.ndarray) -> np.ndarray:
    """Hash each row to a 64-bit integer, by multiply-and-shift mixing of the float bits, column by column."""
    hashes = np.zeros(len(rows), dtype=np.uint64)
    for column in rows.T:
        hashes ^= np.ascontiguousarray(column).view(np.uint64)
        hashes *= np.uint64(0x9E3779B97F4A7C15)
        hashes ^= hashes >> np.uint64(32)
    return hashes


def magnitude(largest: np.ndarray) -> np.ndarray:
    """Unit of a column, in which its largest absolute value is at most 1."""
    return np.where(largest > 0, largest, 1.0)


def weighted_quantile(values: np.ndarray, weight: np.ndarray, q: float) -> np.ndarray:
    """Compute a quantile of each column of ``values`` (n, d).

    It is the averaged inverse of the weighted distribution function.
    """
    order = np.argsort(values, axis=0, kind="stable")
    sorted_values = np.take_along_axis(values, order, axis=0)
    cumulative = np.cumsum(weight[order], axis=0)
    target = q * cumulative[-1]
    # Sums of weights such as 1 / n are rounded; sums are equal if they differ by no more than that.
    slack = len(values) * np.finfo(float).eps * cumulative[-1]
    low = np.minimum((cumulative < target - slack).sum(axis=0), len(values) - 1)
    high = np.minimum((cumulative <= target + slack).sum(axis=0), len(values) - 1)
    columns = np.arange(values.shape[1])
    return sorted_values[low, columns] / 2 + sorted_values[high, columns] / 2


def moments(V: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute the weighted mean and variance of each column."""
    mean = np.average(V, axis=0, weights=weight)
    return mean, np.average(np.square(V - mean), axis=0, weights=weight)


def in_units(X: Any, unit: Any, xp: Any = np) -> Any:
    """Divide X by the units of its columns; ``xp`` is the namespace of NumPy arrays or of tensors."""
    return xp.clip(X / unit, -_LARGEST, _LARGEST)


def standardise(X: Any, unit: Any, centre: Any, inverse_scale: Any, xp: Any = np) -> Any:
    """Apply the formula of :class:`InputScaler`."""
    # Clip before the product too: infinity times the 0 of a constant column is nan.
    V = in_units(X, unit, xp)
    return _squeeze(xp.clip((V - centre) * inverse_scale, -_LARGEST, _LARGEST), xp)


def straight(X: Any, unit: Any, mean: Any, inverse_scale: Any, lowest: Any, highest: Any, xp: Any = np) -> Any:
    """Apply the formula of :class:`StraightScaler`."""
    return (xp.clip(X / unit, lowest, highest) - mean) * inverse_scale


def beyond_knots(V: Any, inside: Any, width: Any, rise: Any, xp: Any = np) -> Any:
    """Compute what V, in units, adds to the score of ``inside``.

    ``inside`` is V clipped to the knots of :class:`RankScaler`.
    """
    return _squeeze(xp.clip((V - inside) / width * rise, -_LARGEST, _LARGEST), xp)


def periodic(z: Any, bent: Any, xp: Any = np) -> Any:
    """Apply the formula of :class:`PeriodicEmbedding`: scores, sines, cosines."""
    angle = _FREQUENCY * z[:, bent]
    return xp.concatenate([z, xp.sin(angle), xp.cos(angle)], axis=1)


def _squeeze(z: Any, xp: Any) -> Any:
    return z / xp.sqrt(1 + xp.square(z / _CLIP))


class Scaler(Protocol):
    """A scaling of the inputs. For each of its columns, ``features`` names the feature that it comes from.

    The last ``n_straight`` of the columns are for the linear path alone.
    """

    @property
    def n_straight(self) -> int: ...

    @property
    def features(self) -> np.ndarray: ...

    def transform(self, X: np.ndarray) -> np.ndarray:
        """Return the columns of (n, d) inputs: new, C-contiguous and float64."""
        ...


@dataclass
class InputScaler:
    """Scale by median and range, and squash: z = (x - median) / scale, then z / sqrt(1 + (z / 3)^2).

    The scale is the interquartile range, in units of a normal's standard deviation. If that is 0 (indicator columns),
    the scale is half the range. A column that is constant in training carries no information and maps to 0.
    """

    centre: np.ndarray
    inverse_scale: np.ndarray
    unit: np.ndarray

    n_straight = 0

    @classmethod
    def fit(cls, X: np.ndarray, weight: np.ndarray) -> InputScaler:
        """Estimate from (n, d) inputs. Columns of any magnitude are first brought to at most 1."""
        unit = magnitude(np.abs(X).max(axis=0))
        V = X / unit
        quartiles = [weighted_quantile(V, weight, q) for q in QUARTILES]
        return cls.of_statistics(unit, quartiles, V.min(axis=0), V.max(axis=0))

    @classmethod
    def of_statistics(
        cls, unit: np.ndarray, quartiles: Sequence[np.ndarray], lowest: np.ndarray, highest: np.ndarray
    ) -> InputScaler:
        """Make a scaler from the statistics of the inputs in that unit; each is an array (d,)."""
        lower, centre, upper = quartiles
        spread = (upper - lower) / _NORMAL_IQR
        half_range = (highest - lowest) / 2
        # A subnormal spread has no reciprocal.
        scale = np.where(spread >= np.finfo(float).tiny, spread, half_range)
        inverse = np.divide(1.0, scale, out=np.zeros_like(scale), where=scale > 0)
        return cls(centre, inverse, unit)

    @property
    def features(self) -> np.ndarray:
        """Features of the columns: each feature has one column."""
        return np.arange(len(self.unit))

    def transform(self, X: np.ndarray) -> np.ndarray:
        """Scale and clip; the result is new, C-contiguous and float64."""
        with np.errstate(over="ignore"):
            z = standardise(np.asarray(X, dtype=np.float64), self.unit, self.centre, self.inverse_scale)
        return np.ascontiguousarray(z)


@dataclass
class StraightScaler:
    """Standardise: z = (x - mean) / standard deviation, with x clipped at two ranges beyond the values seen.

    A column that is constant in training carries no information and maps to 0.
    """

    unit: np.ndarray
    mean: np.ndarray
    inverse_scale: np.ndarray
    lowest: np.ndarray
    highest: np.ndarray

    n_straight = 0

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
        reach = _RANGES_BEYOND * (highest - lowest)
        return cls(unit, mean, inverse, lowest - reach, highest + reach)

    @property
    def features(self) -> np.ndarray:
        """Features of the columns: each feature has one column."""
        return np.arange(len(self.unit))

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


@dataclass
class RankScaler:
    """Replace x by the normal score z of its rank, by linear interpolation between knots.

    Scores have mean 0 and variance 1, but are at most 3.5 in size, so that a rare value among few gets less variance.
    Heavy tails and skewed columns become normal; gaps close. Beyond the values seen, z goes on with the slope between
    the first and the last knot. It is clipped smoothly, at most 3 units further. A constant column maps to 0.
    """

    values: list[np.ndarray]
    scores: list[np.ndarray]
    unit: np.ndarray

    n_straight = 0

    @classmethod
    def fit(cls, X: np.ndarray, weight: np.ndarray) -> RankScaler:
        """Estimate from (n, d) inputs. Columns of any magnitude are first brought to at most 1."""
        values, scores = [], []
        unit = magnitude(np.abs(X).max(axis=0))
        for column in (X / unit).T:
            x, inverse = np.unique(column, return_inverse=True)
            mass = np.bincount(inverse, weights=weight)
            share = (np.cumsum(mass) - mass / 2) / mass.sum()
            z = ndtri(np.clip(share, _RAREST, 1 - _RAREST))
            z = z - np.average(z, weights=mass)
            deviation = np.sqrt(np.average(np.square(z), weights=mass))
            if len(x) > 1:
                # The rare value of an indicator stays within reach of the others.
                z = z / max(deviation, np.abs(z).max() / _LARGEST_SCORE)
            # Take as many knots as tell ranks apart, with the first and the last.
            kept = np.unique(np.linspace(0, len(x) - 1, _KNOTS).round().astype(int))
            # Nor do subnormal gaps: the slope across one overflows.
            kept = kept[np.diff(x[kept], prepend=-2.0) > 10 * np.finfo(float).tiny]
            values.append(x[kept])
            scores.append(z[kept])
        return cls(values, scores, unit)

    @property
    def features(self) -> np.ndarray:
        """Features of the columns: each feature has one column."""
        return np.arange(len(self.unit))

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
class PeriodicEmbedding:
    """Add sin 2z and cos 2z to the normal score z of :class:`RankScaler`, if a feature has three values or more.

    They give bends of a feature that a small network would first have to learn. Any function of two values is linear.

    References
    ----------
    Y. Gorishniy, I. Rubachev and A. Babenko, On embeddings for numerical features in tabular deep learning,
    NeurIPS 2022.
    """

    ranks: RankScaler
    bent: np.ndarray

    n_straight = 0

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

    def transform(self, X: np.ndarray) -> np.ndarray:
        """Return scores, sines and cosines of (n, d) inputs: new, C-contiguous and float64."""
        return self.embed(self.ranks.transform(X))

    def embed(self, z: np.ndarray) -> np.ndarray:
        """Return scores, sines and cosines of given scores."""
        return periodic(z, self.bent)


def fit_scalers(
    names: Sequence[str], X: np.ndarray, weight: np.ndarray, paths: str = "both"
) -> dict[str, Scaler | None]:
    """Fit some of :data:`SCALINGS`, in that order, or "raw", which is None. Scalings by ranks share these.

    ``paths`` is one of :data:`ROBUST`.
    """
    scalers: dict[str, Scaler | None] = {}
    if "raw" in names:
        scalers["raw"] = None
    if "robust" in names:
        scalers["robust"] = ROBUST[paths].fit(X, weight)
    if "rank" in names or "periodic" in names:
        ranks = RankScaler.fit(X, weight)
        if "rank" in names:
            scalers["rank"] = ranks
        if "periodic" in names:
            scalers["periodic"] = PeriodicEmbedding.of_ranks(ranks)
    return scalers


def transform_inputs(scalers: Mapping[str, Scaler | None], X: np.ndarray) -> dict[str, np.ndarray]:
    """Transform X in each of the scalings: float64 and C-contiguous. None changes nothing.

    Ranks that scalings share are computed once.
    """

    def transform(rows: np.ndarray) -> dict[str, np.ndarray]:
        scaled: dict[str, np.ndarray] = {}
        for name, scaler in scalers.items():
            if scaler is None:
                scaled[name] = np.array(rows, dtype=np.float64, order="C")
            elif isinstance(scaler, PeriodicEmbedding) and scaler.ranks is scalers.get("rank"):
                scaled[name] = scaler.embed(scaled["rank"])
            else:
                scaled[name] = scaler.transform(rows)
        return scaled

    # Work in blocks, whose many temporaries stay in cache.
    blocks = [transform(X[start : start + _BLOCK]) for start in range(0, len(X), _BLOCK)]
    return {name: np.concatenate([block[name] for block in blocks]) for name in scalers}


@dataclass
class TargetScaler:
    """Standardise each target to weighted mean 0 and standard deviation 1; a constant target is only centred."""

    mean: np.ndarray
    scale: np.ndarray

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
        return cls(mean * unit, np.where(constant, 1.0, deviation) * np.where(constant, 1.0, unit))

    @classmethod
    def identity(cls, n_outputs: int) -> TargetScaler:
        """Make the scaler that changes nothing."""
        return cls(np.zeros(n_outputs), np.ones(n_outputs))

    def transform(self, Y: np.ndarray) -> np.ndarray:
        """Transform targets to standard units."""
        return (Y - self.mean) / self.scale

    def mean_of(self, outputs: Any) -> Any:
        """Means of the target, in standard units: the outputs themselves."""
        return outputs

    def variance_of(self, mean: Any, output_variance: Any, noise_variance: Any) -> Any:
        """Variance of a new observation, in standard units."""
        return output_variance + noise_variance

    def inverse_transform(self, Y: Any) -> Any:
        """Transform targets back to their own units."""
        return Y * self.scale + self.mean

    def rescale(self, deviation: Any) -> Any:
        """Standard deviations in the units of the target."""
        return deviation * self.scale
