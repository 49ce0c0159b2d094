"""The temperature: what the outputs of classification networks are divided by.

Regularised networks are unsure of well separated classes, and overfitted networks are too sure.

References
----------
C. Guo, G. Pleiss, Y. Sun and K. Q. Weinberger, On calibration of modern neural networks, ICML 2017.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.optimize import minimize_scalar
from torch import Tensor

from .left_out_samples import LeftOutSamples, log_mixture

__all__ = ["best_temperature"]

#: Temperatures are sought between 1 / e^2 and e^2; their logarithm is normal with variance 1 before the data are seen.
_LARGEST_LOG_TEMPERATURE = 2.0


def best_temperature(samples: LeftOutSamples, weights: np.ndarray) -> float:
    """Find the T at which the mean probabilities of members predict left-out samples best.

    T maximises their log likelihood plus the log density of a standard normal log T. It is 1 where a member that counts
    has no known predictions. The loss of the samples is a log loss, so that ``exp(-value)`` is a likelihood.
    """
    counted = samples.of_voters(weights)
    if counted is None:
        return 1.0
    members, votes = counted

    def negative_log_posterior(log_T: float) -> float:
        return 0.5 * log_T**2 - float(members.sum(_log_likelihood, weights=votes, T=math.exp(log_T)))

    bounds = (-_LARGEST_LOG_TEMPERATURE, _LARGEST_LOG_TEMPERATURE)
    return math.exp(minimize_scalar(negative_log_posterior, bounds=bounds, method="bounded").x)


def _log_likelihood(samples: LeftOutSamples, weights: np.ndarray, T: float) -> Tensor:
    """Log likelihood of the samples under the mean probabilities of members whose outputs are divided by T."""
    log_p, weight = samples.log_probabilities(T)
    return log_mixture(log_p, weights) @ weight
