"""Residuals of left-out samples, and how far from its prediction a new observation lies with a given probability.

Each sample is predicted without itself (:mod:`skgn.leave_one_out`), and its residual on the real line is divided by the
predicted width there. Lower and upper end of an interval are the prediction plus the width times a quantile of these
residuals. Of n samples it is the k-th smallest from outside, for
k = floor((n + 1) (1 - coverage) / 2). This is the jackknife, with the count of samples of conformal prediction.

That is exact where a prediction does not depend on any one sample. The jackknife+ has a bound without that, but needs n
predictions of each new row. Under out-of-sample stability both cover alike (Barber et al., theorem 5).

References
----------
R. F. Barber, E. J. Candes, A. Ramdas and R. J. Tibshirani, Predictive inference with the jackknife+, Annals of
Statistics 49 (2021).
L. Steinberger and H. Leeb, Conditional predictive inference for stable algorithms, Annals of Statistics 51 (2023).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch

from .left_out_samples import LeftOutSamples
from .mixing import targets_of_outputs
from .mixture import UNSTRETCHED, Mixture, Stretch, voters
from .predictive import Predictive
from .rates import whole
from .tails import NORMAL, Tails, tails_of

__all__ = ["LeftOutResiduals", "Residuals", "left_out_residuals"]


@dataclass(frozen=True)
class Residuals:
    """Residuals (n, k) of samples that were left out, in predicted widths, and the weights (n,) of the samples.

    ``whole`` says whether all targets are whole numbers, if these are what the loss is for.
    """

    values: np.ndarray
    weight: np.ndarray
    whole: bool = True

    @property
    def tails(self) -> Tails:
        """Width and tails of the noise that these residuals are of."""
        return tails_of(lambda function: function(self.values, self.weight))

    def beyond(self, probability: float, upper: bool) -> np.ndarray:
        """Residual (k,) that a new one exceeds on one side with at most this probability.

        Raises
        ------
        ValueError
            If there are too few samples to tell.
        """
        total = self.weight.sum()
        # Sums of weights, which are repetitions, may be rounded.
        slack = 1e-9 * (total + 1)
        k = np.floor(probability * (total + 1) + slack)
        if k < 1:
            raise ValueError(
                f"calibrate=True needs {np.ceil(1 / probability - 1 - 1e-9):.0f} left-out samples for this coverage, "
                f"and the fit has {total:g}: ask for less coverage, or leave calibrate=False."
            )
        sign = -1.0 if upper else 1.0
        order = np.argsort(sign * self.values, axis=0, kind="stable")
        position = (np.cumsum(self.weight[order], axis=0) < k - slack).sum(axis=0, keepdims=True)
        return np.take_along_axis(self.values, np.take_along_axis(order, position, axis=0), axis=0)[0]


class LeftOutResiduals(NamedTuple):
    """Residuals of a mixture, None where they are not known or stay on other machines, and the tails of its noise."""

    residuals: Residuals | None
    tails: Tails


def left_out_residuals(
    samples: LeftOutSamples,
    squared_scales: Sequence[np.ndarray | None],
    weights: np.ndarray,
    stretch: Stretch = UNSTRETCHED,
    by_row: bool = False,
) -> LeftOutResiduals:
    """Residuals of a mixture of members; None if one that counts has none, or the loss describes no observations.

    Only of normal noise there are tails: robust losses are to see past the largest residuals.

    Parameters
    ----------
    samples : LeftOutSamples
    squared_scales : sequence of ndarray (k,) or None
        Of the noise of each member, as it counts in the mixture.
    weights : ndarray of shape (n_members,)
        Of the members in the mixture.
    stretch : Stretch, default=UNSTRETCHED
        Factors on distances from the mean of what is predicted, for the samples that are predicted.
    by_row : bool, default=False
        Whether members count by row, as :meth:`.Mixture.voting` has it.
    """
    counted, loss = samples.of_voters(weights), samples.loss
    if counted is None or loss.observation() is None:
        return LeftOutResiduals(None, NORMAL)
    members, votes = counted
    scales, _ = voters(squared_scales, weights)
    given = {"squared_scales": scales, "weights": votes, "stretch": stretch, "by_row": by_row}
    found: Residuals | None = members.gather(_residuals, **given)
    if loss.distribution != "normal":
        return LeftOutResiduals(found, NORMAL)
    if found is not None:
        return LeftOutResiduals(found, found.tails)

    def total_of(function: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> np.ndarray:
        return members.sum(_summed, total=function, **given).numpy()

    return LeftOutResiduals(None, tails_of(total_of))


def _summed(
    samples: LeftOutSamples, total: Callable[[np.ndarray, np.ndarray], np.ndarray], **given: Any
) -> torch.Tensor:
    found = _residuals(samples, **given)
    return torch.from_numpy(total(found.values, found.weight))


def _residuals(
    samples: LeftOutSamples,
    squared_scales: Sequence[np.ndarray | None],
    weights: np.ndarray,
    stretch: Stretch,
    by_row: bool,
) -> Residuals:
    loss, observation = samples.loss, samples.loss.observation()
    assert observation is not None
    rows = samples.corrected_rows if loss.has_scale else samples.rows
    f, Y, weight = (each.cpu().numpy() for each in rows)
    variances = [each.cpu().numpy() for each in samples.variances]
    unknown = np.zeros(Y.shape[1]) if loss.has_scale else np.ones(Y.shape[1])
    scales = [unknown if scale is None else loss.scale_of_observation(scale) for scale in squared_scales]
    outputs = [loss.of_observation(member) for member in f]
    mixture = Mixture(outputs, variances, scales, weights).voting(by_row).stretched(stretch)
    predictive = Predictive(observation, *mixture)
    location, spread2 = predictive.of_targets(loss.mixing).moments()
    targets = targets_of_outputs(Y, loss.mixing)
    return Residuals((observation.on_line(targets) - location) / np.sqrt(spread2), weight, whole(targets))
