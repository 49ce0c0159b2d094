"""Whether an ensemble has failed: its left-out samples are worse than a constant, or extreme targets hide the rest.

Under a squared error, one typo can outweigh all other rows together. The fit then follows it, or learns nothing, and
its loss does not tell: the typo makes up nearly all of the loss of any prediction. Ranks of the targets do tell. Where
a linear model predicts them much better than the fit does, the fit has missed what is there. So it has where the
target of the predicted rank is much closer to that of a typical row than the fit is. That the targets hide it, and not
the network misses it, shows where the same linear model of the targets themselves misses it too.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from scipy.special import ndtr, ndtri
from scipy.stats import median_abs_deviation, rankdata

from .ensemble import Ensemble
from .mixture import mixture_mean, voters
from .quadratic import FOLDS, predict_left_out
from .scaler import BASE
from .status import Status
from .weighted_rows import in_own_units, magnitude

__all__ = ["failure", "hidden_by_extremes"]

#: An ensemble whose left-out samples give up less than this part of a constant's loss has learned little.
_LITTLE = 0.2

#: The linear model is much better by more than this part of the variance of the ranks.
_MUCH = 0.1

#: It is much closer where its typical residual is less than this part of the fit's.
_CLOSER = 0.6

#: Targets are extreme where this part of them, the farthest, makes more than this part of the squares about the mean.
_FEW, _MOST_SQUARES = 0.2, 0.8

#: Rows that are enough to tell, and fewest that can.
_MOST_ROWS, _FEWEST_ROWS = 2000, 6 * FOLDS.get_n_splits()


def failure(ensemble: Ensemble, scaled: Mapping[str, np.ndarray]) -> Status | None:
    """Return why an ensemble that has trained as long as it might is of no use; None if it is.

    ``scaled`` has the columns (n, p) of the training rows in each of the scalings.
    """
    if ensemble.loss.robust_alternatives and ensemble.skill.score < _LITTLE and ensemble.residuals is not None:
        assert ensemble.left_out is not None
        # Scalings of members may have columns that extremes have ruled.
        columns = scaled.get(BASE, next(iter(scaled.values())))[:_MOST_ROWS]
        counted, votes = voters(ensemble.left_out.outputs, ensemble.weights)
        predicted = mixture_mean(torch.stack([each.outputs for each in counted if each is not None]), votes)
        parts = (part[:_MOST_ROWS].double().cpu().numpy() for part in (ensemble.left_out.objective.Y, predicted))
        if hidden_by_extremes(columns, *parts):
            return Status.EXTREMES
    return Status.NO_SKILL if ensemble.skill.failed else None


def hidden_by_extremes(columns: np.ndarray, targets: np.ndarray, predicted: np.ndarray) -> bool:
    """Whether one of the targets (n, k) has extremes, and a linear model of its ranks tells much more than the fit.

    It must tell much more than the same model of the targets as well.

    Parameters
    ----------
    columns : ndarray of shape (n, p)
        Inputs of the linear model.
    targets, predicted : ndarray of shape (n, k)
        Targets of any magnitude, and what the fit predicts of each row without it; nan where that is not known.
    """
    known = np.isfinite(predicted).all(axis=1)
    if known.sum() < _FEWEST_ROWS:
        return False
    columns, targets, predicted = columns[known], targets[known], predicted[known]
    extreme = _share_of_few(targets) > _MOST_SQUARES
    if not extreme.any():
        return False
    targets, predicted = targets[:, extreme], predicted[:, extreme]
    scores = _normal_scores(targets)
    told = predict_left_out(columns, scores)
    linear = 1 - np.square(scores - told).sum(0) / np.maximum(np.square(scores).sum(0), 1)
    of_ranks = _typical(targets - _at_scores(told, targets))

    def missed_by(predicted: np.ndarray) -> np.ndarray:
        correlation = (scores * _normal_scores(predicted)).mean(0)
        better = linear - np.square(np.maximum(correlation, 0)) > _MUCH
        closer = of_ranks < _CLOSER * _typical(targets - predicted)
        # Where most targets are the same, residuals of most rows tell nothing.
        return better | (linear > _MUCH) & closer & (_typical(targets) > 0)

    missed = missed_by(predicted)
    if not missed.any():
        return False
    unit = magnitude(np.abs(targets).max(axis=0))
    of_values = unit * predict_left_out(columns, targets / unit)
    return bool((missed & missed_by(of_values)).any())


def _at_scores(scores: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Of each column of values, the quantiles that have such normal scores."""
    parts = [np.quantile(of, ndtr(at)) for of, at in zip(values.T, scores.T, strict=True)]
    return np.stack(parts, axis=1)


def _typical(values: np.ndarray) -> np.ndarray:
    """Median distance of each column from its median."""
    return np.asarray(median_abs_deviation(values, axis=0))


def _share_of_few(values: np.ndarray) -> np.ndarray:
    """Part of the squares about the mean of each column that its farthest values make; 0 for a constant."""
    values = in_own_units(values)
    squares = np.sort(np.square(values - values.mean(axis=0)), axis=0)
    few = max(1, round(_FEW * len(values)))
    total = squares.sum(axis=0)
    return np.divide(squares[-few:].sum(axis=0), total, out=np.zeros_like(total), where=total > 0)


def _normal_scores(values: np.ndarray) -> np.ndarray:
    """Normal scores of the ranks of each column, of mean 0 and variance 1; 0 for a constant."""
    scores = ndtri((rankdata(values, axis=0) - 0.5) / len(values))
    scores = scores - scores.mean(axis=0)
    spread = scores.std(axis=0)
    return np.divide(scores, spread, out=np.zeros_like(scores), where=spread > 1e-9)
