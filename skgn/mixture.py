"""A prediction is a mixture: each member counts by its weight, and the weights sum to 1.

Means and variances take arrays or tensors.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import compress
from typing import Any, NamedTuple, TypeVar

import numpy as np
from scipy.special import entr, logsumexp

from .target_scalers import TargetScaling

__all__ = [
    "UNSTRETCHED",
    "Stretch",
    "epistemic_covariance",
    "epistemic_variance",
    "equal_weights",
    "mixture_log_probability",
    "mixture_mean",
    "mutual_information",
    "noise_share",
    "predictive_mean",
    "predictive_variance",
    "stretched",
    "voters",
]

_Member = TypeVar("_Member")


class Stretch(NamedTuple):
    """Factors (n, k), arrays or tensors, on distances of outputs from their mean, and of the noise; None is 1."""

    outputs: Any = None
    noise: Any = None

    def at(self, rows: Any) -> Stretch:
        """Return the factors at the first rows, as many as the mask has, for which it is true."""
        return Stretch(*(None if factor is None else factor[: len(rows)][rows] for factor in self))


#: Factors of 1.
UNSTRETCHED = Stretch()


def equal_weights(n_members: int) -> np.ndarray:
    """Weights (n_members,) of a plain mean."""
    return np.full(n_members, 1 / n_members)


def voters(members: Sequence[_Member], weights: np.ndarray) -> tuple[list[_Member], np.ndarray]:
    """Return the members that count, and their weights. A member of weight 0 takes no part, whatever its outputs."""
    counts = weights > 0
    return list(compress(members, counts)), weights[counts]


def mixture_mean(values: Any, weights: Any) -> Any:
    """Compute the weighted mean of the members' values."""
    # Divide by the sum, which rounding moves off 1: metrics would refuse a mean of probabilities above 1.
    return sum(weight * value for weight, value in zip(weights, values, strict=True)) / sum(weights)


def predictive_mean(scaler: TargetScaling, outputs: Iterable[Any], weights: Any) -> Any:
    """Mean (n, k) of a new observation, in its own units, for the outputs (n, k) of each member."""
    return scaler.inverse_transform(mixture_mean([scaler.mean_of(f) for f in outputs], weights))


def predictive_variance(
    scaler: TargetScaling, outputs: Iterable[Any], output_variances: Iterable[Any], noise: Iterable[Any], weights: Any
) -> Any:
    """Variance (n, k) of a new observation, in the units in which members are mixed.

    It is the variance within the members, and of their means around that of the mixture. Each member has outputs and
    their variances (n, k), and the variance of its noise (k,).
    """
    means = [scaler.mean_of(f) for f in outputs]
    mean = mixture_mean(means, weights)
    variances = map(scaler.variance_of, means, output_variances, noise)
    return mixture_mean([variance + (m - mean) ** 2 for m, variance in zip(means, variances, strict=True)], weights)


def stretched(
    stretch: Stretch, outputs: Any, variances: Iterable[Any], noise: Iterable[Any], weights: Any
) -> tuple[list[Any], list[Any], list[Any]]:
    """Multiply distances in a mixture: of outputs from their mean, their deviations, and those of the noise."""
    outputs, variances, noise = [*outputs], [*variances], [*noise]
    if stretch.outputs is not None:
        mean = mixture_mean(outputs, weights)
        outputs = [mean + stretch.outputs * (f - mean) for f in outputs]
        variances = [stretch.outputs**2 * v for v in variances]
    if stretch.noise is not None:
        noise = [stretch.noise**2 * s for s in noise]
    return outputs, variances, noise


def noise_share(noise: np.ndarray, apart: np.ndarray) -> np.ndarray:
    """Part (k,) of the members' noise variance (k,) that is left in their mixture.

    ``apart`` (k,) is the mean squared distance of the members from their mean. A member's squared residuals, from which
    its noise is estimated, are larger than those of the mean, on average by ``apart`` (Krogh and Vedelsby, Neural
    network ensembles, cross validation, and active learning, NIPS 1994). As :func:`predictive_variance` counts this
    distance itself, it is taken out of the noise, to first order.
    """
    return noise / (noise + apart)


def epistemic_variance(
    scaler: TargetScaling, outputs: Iterable[np.ndarray], output_variances: Iterable[np.ndarray], weights: np.ndarray
) -> np.ndarray:
    """Variance (n, k) of the mean of new observations: what :func:`predictive_variance` is without the noise."""
    return predictive_variance(scaler, outputs, output_variances, [0.0] * len(weights), weights)


def epistemic_covariance(
    scaler: TargetScaling, outputs: Iterable[np.ndarray], output_covariances: Iterable[np.ndarray], weights: np.ndarray
) -> np.ndarray:
    """Covariance (k, n, n) of the means of new observations.

    Each member has outputs (n, k) and their covariances (k, n, n). These are asked for one after another, and
    overwritten.
    """
    means = [scaler.mean_of(f).T for f in outputs]
    mean = mixture_mean(means, weights)
    covariance = np.zeros((*mean.shape, mean.shape[1]))
    for m, of_outputs, share in zip(means, output_covariances, weights / sum(weights), strict=True):
        C, apart = scaler.covariance_of(m, of_outputs), m - mean
        C += apart[:, :, None] * apart[:, None]
        C *= share
        covariance += C
    return covariance


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
