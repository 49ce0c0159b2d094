"""What the mixture of members lacks of left-out samples, on which more networks may be trained.

The residual of a label has the variance p (1 - p), and a larger one where the fit is too sure. It never has a smaller
one. Residuals of numbers tell by themselves how large they are.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from scipy.special import fdtrc

from .left_out_samples import LeftOutSamples
from .mixture import mixture_mean
from .weighted_rows import without_gross_errors

__all__ = ["LEAST_FREEDOM", "SIGNIFICANT", "LeftOver", "left_over"]

#: What is lacking depends on a feature where chance explains a test at most so often, of all tests together.
SIGNIFICANT = 1e-3

#: The fewest degrees of freedom that tell the size of residuals.
LEAST_FREEDOM = 10

#: The least variance of a label. It limits what a single surprise tells of a mixture that was sure.
_LEAST_INFORMATION = 1e-3


class LeftOver(NamedTuple):
    """What a mixture lacks of left-out samples: negative gradients of their losses (n, k), and their weights (n,).

    The variance of a value is its ``information`` (n, k) times a dispersion of at least ``least_dispersion``. ``rows``
    tells which rows of the fit these samples are.
    """

    values: np.ndarray
    information: np.ndarray
    least_dispersion: float
    weight: np.ndarray
    rows: np.ndarray

    @classmethod
    def of_noise(cls, values: np.ndarray, weight: np.ndarray, rows: np.ndarray) -> LeftOver:
        """Residuals of numbers, which tell by themselves how large they are."""
        return cls(without_gross_errors(values, weight), np.ones_like(values), 0.0, weight, rows)

    @classmethod
    def of_labels(cls, p: np.ndarray, labels: np.ndarray, weight: np.ndarray, rows: np.ndarray) -> LeftOver:
        """Labels 0 and 1 less their probabilities p (n, k), of variance p (1 - p)."""
        return cls(labels - p, np.maximum(p * (1 - p), _LEAST_INFORMATION), 1.0, weight, rows)

    def first(self, n: int) -> LeftOver:
        """Keep the first n samples."""
        values, information, least_dispersion, weight, rows = self
        return LeftOver(values[:n], information[:n], least_dispersion, weight[:n], rows[:n])

    @property
    def spread(self) -> np.ndarray:
        """Sums of squares (k,) of the values, in units of their information."""
        return np.asarray((self.weight[:, None] * np.square(self.values) / self.information).sum(axis=0))

    def p_value(self, explained: Any, left: Any, m: int, freedom: float) -> Any:
        """Probability by chance of the sum of squares that m functions explain, beside what is ``left``: an F test."""
        dispersion = np.maximum(left / freedom, self.least_dispersion)
        return fdtrc(m, freedom, explained / m / dispersion)


def left_over(samples: LeftOutSamples, weights: np.ndarray) -> LeftOver | None:
    """Return what the mixture of members lacks; None where one that counts predicts no left-out samples."""
    counted = samples.of_voters(weights)
    if counted is None:
        return None
    (members, votes), objective, loss = counted, samples.objective, samples.loss
    f, rows = members.rows[0].double(), members.predicted
    Y, weight, index = objective.Y[rows].to(f), objective.sample_weight[rows].double(), rows.nonzero()[:, 0]
    if not loss.has_scale:
        p = mixture_mean([loss.inverse_link(g) for g in f], votes)
        return LeftOver.of_labels(*(part.cpu().numpy() for part in (p, Y, weight, index)))
    residuals = -loss.gradient(mixture_mean(f, votes), Y)
    finite = residuals.isfinite().all(1)
    if not finite.any():
        return None
    return LeftOver.of_noise(*(part[finite].cpu().numpy() for part in (residuals, weight, index)))
