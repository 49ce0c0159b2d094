"""Residuals of left-out samples, and how far from its prediction a new observation lies with a given probability.

Each sample is predicted without itself (:mod:`skgn.leave_one_out`), and its residual on the real line is divided by the
predicted width there. Lower and upper end of an interval are the prediction plus the width times a quantile of these
residuals. Of n samples it is the k-th smallest from outside for
k = floor((n + 1) (1 - coverage) / 2): the jackknife, with the count of samples that conformal prediction asks for.

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
from functools import partial
from typing import NamedTuple

import numpy as np
import torch

from .leave_one_out import LeftOut, predicted_rows
from .losses import Loss
from .mixture import voters
from .objective import Objective
from .observation import Observation
from .predictive import Predictive
from .stacking import corrected_outputs
from .tails import NORMAL, Tails, tails_of

__all__ = ["LeftOutResiduals", "Residuals", "left_out_residuals"]


@dataclass(frozen=True)
class Residuals:
    """Residuals (n, k) of samples that were left out, in predicted widths, and the weights (n,) of the samples."""

    values: np.ndarray
    weight: np.ndarray

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
    objective: Objective,
    loss: Loss,
    left_out: Sequence[LeftOut | None],
    allowances: Sequence[float],
    squared_scales: Sequence[np.ndarray | None],
    weights: np.ndarray,
) -> LeftOutResiduals:
    """Residuals of a mixture of members; None if one that counts has none, or the loss describes no observations.

    Only of normal noise there are tails: robust losses are to see past the largest residuals.

    Parameters
    ----------
    objective, loss, left_out, allowances
        As :func:`~skgn.stacking.stacking_weights` takes them.
    squared_scales : sequence of ndarray (k,) or None
        Of the noise of each member, as it counts in the mixture.
    weights : ndarray of shape (n_members,)
        Of the members in the mixture.
    """
    counted, votes = voters(list(zip(left_out, allowances, squared_scales, strict=True)), weights)
    known = [each for each, _, _ in counted if each is not None]
    observation = loss.observation()
    if len(known) < len(counted) or observation is None:
        return LeftOutResiduals(None, NORMAL)
    residuals = partial(
        _residuals,
        loss=loss,
        observation=observation,
        allowances=[nats for _, nats, _ in counted],
        squared_scales=[scale for _, _, scale in counted],
        weights=votes,
    )
    found: Residuals | None = objective.gather(residuals, *known)
    if loss.distribution != "normal":
        return LeftOutResiduals(found, NORMAL)
    if found is not None:
        return LeftOutResiduals(found, found.tails)

    def total(function: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> np.ndarray:
        return objective.sum(partial(_summed, residuals=residuals, function=function), *known).numpy()

    return LeftOutResiduals(None, tails_of(total))


def _summed(
    objective: Objective,
    *left_out: LeftOut,
    residuals: Callable[..., Residuals],
    function: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> torch.Tensor:
    found = residuals(objective, *left_out)
    return torch.from_numpy(function(found.values, found.weight))


def _residuals(
    objective: Objective,
    *left_out: LeftOut,
    loss: Loss,
    observation: Observation,
    allowances: Sequence[float],
    squared_scales: Sequence[np.ndarray | None],
    weights: np.ndarray,
) -> Residuals:
    if loss.has_scale:
        f, Y, weight = (each.cpu().numpy() for each in corrected_outputs(objective, left_out, allowances))
    else:
        f, Y, weight = (each.cpu().numpy() for each in predicted_rows(objective, left_out))
    predicted = torch.isfinite(torch.stack([each.outputs for each in left_out])).all(2).all(0)
    variances = [each.covariance[predicted].diagonal(dim1=1, dim2=2).clamp(min=0).cpu().numpy() for each in left_out]
    unknown = np.zeros(Y.shape[1]) if loss.has_scale else np.ones(Y.shape[1])
    scales = [unknown if scale is None else scale for scale in squared_scales]
    outputs = [loss.of_observation(member) for member in f]
    location, spread2 = Predictive(observation, outputs, variances, scales, weights).moments()
    return Residuals((observation.on_line(Y) - location) / np.sqrt(spread2), weight)
