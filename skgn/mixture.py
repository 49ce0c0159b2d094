"""A prediction is a mixture: each member counts by its weight, and the weights sum to 1.

Weights are numbers (n_members,), or a column (n, 1) for each member where members count by row. Means and variances
take arrays or tensors.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
from scipy.special import entr, logsumexp

from .target_scalers import TargetScaling

__all__ = [
    "UNSTRETCHED",
    "Mixture",
    "Stretch",
    "edges_of_members",
    "epistemic_covariance",
    "epistemic_variance",
    "equal_weights",
    "mixture_log_probability",
    "mixture_mean",
    "mutual_information",
    "noise_share",
    "predictive_mean",
    "predictive_variance",
    "voters",
    "weights_at_rows",
]

#: Part of the noise of a mixture that a member has at the least, where members count by row.
_LEAST_NOISE = 0.1

_Member = TypeVar("_Member")


class Stretch(NamedTuple):
    """Factors (n, k), arrays or tensors, on distances of outputs from their mean, and of the noise; None is 1."""

    outputs: Any = None
    noise: Any = None

    def at(self, rows: Any) -> Stretch:
        """Return the factors of the rows for which a mask is true; it covers the first rows."""
        return Stretch(*(None if factor is None else factor[: len(rows)][rows] for factor in self))


#: Factors of 1.
UNSTRETCHED = Stretch()

#: Added to variances and precisions, which may be 0 or infinite, and part of its weight that a member keeps anywhere.
_LEAST_NUMBER, _LEAST_SHARE = 1e-300, 1e-30


class Mixture(NamedTuple):
    """Members that count, at n rows: outputs and their variances (n, k), the variance of the noise (k,), and weights.

    The noise is (n, k) where it depends on the row.
    """

    outputs: Sequence[Any]
    variances: Sequence[Any]
    noise: Sequence[Any]
    weights: Any

    def voting(self, by_row: bool) -> Mixture:
        """Let members count ``by_row``, as :func:`weights_at_rows` has it, or alike at all rows."""
        if not by_row:
            return self
        return self._replace(weights=weights_at_rows(self.weights, self.variances, self.noise))

    def stretched(self, stretch: Stretch) -> Mixture:
        """Multiply distances: of outputs from their mean, their deviations, and those of the noise."""
        outputs, variances, noise, weights = self
        if stretch.outputs is not None:
            mean = mixture_mean(outputs, weights)
            outputs = [mean + stretch.outputs * (f - mean) for f in outputs]
            variances = [stretch.outputs**2 * v for v in variances]
        if stretch.noise is not None:
            noise = [stretch.noise**2 * s for s in noise]
        return Mixture(outputs, variances, noise, weights)


def weights_at_rows(weights: Any, output_variances: Sequence[Any], noise: Sequence[Any]) -> list[Any]:
    """Weights (n, 1) of each member at n rows, for the variances of its outputs there (n, k), and of its noise (k,).

    They are the weights over the variances of an observation, as in a logarithmic pool of normal densities (Genest and
    Zidek, Combining probability distributions, Statistical Science 1986). A member that is less sure counts less. A row
    has the same weights for all outputs, by the mean of their variances, each relative to that of the pool. They sum to
    1.

    No member is taken to have less than a tenth of the noise of the mixture. One that passes through all rows of the
    fit has none, and is sure of these rows alone.
    """
    least = _LEAST_NOISE * mixture_mean(noise, weights)
    variances = [v + s.clip(min=least) for v, s in zip(output_variances, noise, strict=True)]
    pooled = mixture_mean([1 / (v + _LEAST_NUMBER) for v in variances], weights) + _LEAST_NUMBER
    with np.errstate(over="ignore"):  # An infinite one leaves no share.
        relative = [(v * pooled).sum(-1)[:, None] / pooled.shape[-1] for v in variances]
    shares = [weight / (r + _LEAST_SHARE) + weight * _LEAST_SHARE for weight, r in zip(weights, relative, strict=True)]
    total = sum(shares)
    return [share / total for share in shares]


def equal_weights(n_members: int) -> np.ndarray:
    """Weights (n_members,) of a plain mean."""
    return np.full(n_members, 1 / n_members)


def voters(members: Sequence[_Member], weights: np.ndarray) -> tuple[list[_Member], np.ndarray]:
    """Return the members that count, and their weights. A member of weight 0 takes no part, whatever its outputs."""
    counts = weights > 0
    return list(itertools.compress(members, counts)), weights[counts]


def mixture_mean(values: Any, weights: Any) -> Any:
    """Compute the weighted mean of the members' values."""
    # Divide by the sum, which rounding moves off 1: metrics would refuse a mean of probabilities above 1.
    return sum(weight * value for weight, value in zip(weights, values, strict=True)) / sum(weights)


def predictive_mean(scaler: TargetScaling, outputs: Iterable[Any], weights: Any) -> Any:
    """Mean (n, k) of a new observation, in its own units, for the outputs (n, k) of each member."""
    return scaler.inverse_transform(mixture_mean([scaler.mean_of(f) for f in outputs], weights))


def predictive_variance(scaler: TargetScaling, mixture: Mixture) -> Any:
    """Variance (n, k) of a new observation, in the units in which members are mixed.

    It is the variance within the members, and of their means around that of the mixture.
    """
    means = [scaler.mean_of(f) for f in mixture.outputs]
    mean = mixture_mean(means, mixture.weights)
    variances = map(scaler.variance_of, means, mixture.variances, mixture.noise)
    apart = [variance + (m - mean) ** 2 for m, variance in zip(means, variances, strict=True)]
    return mixture_mean(apart, mixture.weights)


def noise_share(noise: np.ndarray, apart: np.ndarray) -> np.ndarray:
    """Part (k,) of the members' noise variance (k,) that is left in their mixture.

    ``apart`` (k,) is the mean squared distance of the members from their mean. A member's noise is estimated from its
    squared residuals. They are larger than those of the mean, on average by ``apart`` (Krogh and Vedelsby, Neural
    network ensembles, cross validation, and active learning, NIPS 1994). As :func:`predictive_variance` counts this
    distance itself, it is taken out of the noise, to first order.
    """
    return noise / (noise + apart)


def epistemic_variance(scaler: TargetScaling, mixture: Mixture) -> Any:
    """Variance (n, k) of the mean of new observations: what :func:`predictive_variance` is without the noise."""
    return predictive_variance(scaler, mixture._replace(noise=[0.0] * len(mixture.outputs)))


def epistemic_covariance(
    scaler: TargetScaling, outputs: Sequence[np.ndarray], output_covariances: Iterable[np.ndarray], weights: Any
) -> np.ndarray:
    """Covariance (k, n, n) of the means of new observations.

    Each member has outputs (n, k) and their covariances (k, n, n). These are asked for one after another, and
    overwritten. Members are drawn by :func:`edges_of_members`.
    """
    means = [scaler.mean_of(f).T for f in outputs]
    edges = edges_of_members(weights)
    mean = mixture_mean(means, np.diff(edges, axis=0))
    apart = [m - mean for m in means]
    covariance = np.zeros((*mean.shape, mean.shape[1]))
    for one, other in itertools.product(range(len(means)), repeat=2):
        if (both := _both_drawn(edges, one, other)).any():
            product = apart[one][:, :, None] * apart[other][:, None]
            product *= both
            covariance += product
            del product
    for one, of_outputs in enumerate(output_covariances):
        C = scaler.covariance_of(means[one], of_outputs)
        C *= _both_drawn(edges, one, one)
        covariance += C
    return covariance


def _both_drawn(edges: np.ndarray, one: int, other: int) -> np.ndarray:
    """Probabilities (n, n) that a number draws ``one`` member at the first row, and the ``other`` at the second."""
    both = np.minimum(edges[one + 1][:, None], edges[other + 1])
    both -= np.maximum(edges[one][:, None], edges[other])
    return both.clip(min=0, out=both)


def edges_of_members(weights: Any) -> np.ndarray:
    """Edges (n_members + 1, n) of the members' parts of [0, 1] at each row; (n_members + 1, 1) if all rows are alike.

    A number drawn from [0, 1] tells the member of each row. So rows where members count alike have the same one.
    """
    edges = np.cumsum([np.ravel(weight) for weight in weights], axis=0)
    edges /= edges[-1]
    return np.vstack([np.zeros_like(edges[:1]), edges])


def mutual_information(probabilities: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Information (n, ...) in nats of a label about the member, for probabilities (members, n, ..., classes).

    It is the entropy of the mean probabilities less the mean of the entropies, which rounding must not take below 0.
    """
    of_mean = entr(mixture_mean(probabilities, weights)).sum(axis=-1)
    return np.maximum(of_mean - mixture_mean(entr(probabilities).sum(axis=-1), weights), 0.0)


def mixture_log_probability(log_p: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Logarithm of the weighted mean of the members' probabilities, given their logarithms (members, n, k)."""
    # No probability exceeds 1, whatever the rounding.
    return np.minimum(logsumexp(log_p, axis=0, b=weights[:, None, None]), 0.0)
