"""Relevance of the input features: how much an ensemble's predictions react to each of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from scipy.stats import chi2

from .backend import solver_tensor, torch_threads
from .ensemble import Ensemble, Member, Predictor
from .mixture import voters
from .network import Network

__all__ = ["SENSITIVITY_ROWS", "Sensitivity", "feature_sensitivity", "feature_slopes", "relevance"]

#: A feature is switched off to which chance alone gives its part in the likelihood with more than this probability,
#: that of three standard errors; and one that has less than a fraction of an equal share of the sensitivity.
_CHANCE, _SWITCHED_OFF = 2.7e-3, 0.15

#: Number of rows that estimate the relevance of features.
SENSITIVITY_ROWS = 512


class Sensitivity(NamedTuple):
    """Movement of the outputs when a feature takes its value from another row.

    ``squares`` (d,) is the weighted mean over rows of the squared change of the members' weighted mean output. It is
    the total Sobol index times 2. ``evidence`` (d,) is half the sum over rows of the squared change, in the metric of
    the loss's curvature. It is a feature's contribution to the likelihood. For a linear model it is the squared
    t-statistic of the feature's coefficient. It is nan if the noise level is unknown.
    """

    squares: np.ndarray
    evidence: np.ndarray


def feature_sensitivity(
    ensemble: Ensemble, scaled: dict[str, np.ndarray], features: dict[str, np.ndarray], sample_weight: np.ndarray
) -> Sensitivity:
    """Exchange the values of each of the d features in turn.

    For each column in each of the scalings (``scaled``), ``features`` tells which feature it belongs to. All columns of
    a feature are exchanged together. Members whose columns belong to no feature are left out. Merged rows come in
    random order. So a fixed shift is a random exchange, and the first rows are a random sample.
    """
    weight = sample_weight[:SENSITIVITY_ROWS]
    change, mean = _movement(ensemble.members, ensemble.weights, scaled, features)
    members, _ = voters(ensemble.members, ensemble.weights)
    # Outputs may run away beyond the rows of the fit: squares are then infinite.
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        squares = np.square(change)
        posterior = members[0].posterior
        if ensemble.loss.has_scale:
            curvature = np.array(np.nan) if posterior is None else 1 / posterior.noise_variance
        else:
            f = torch.from_numpy(mean)
            curvature = ensemble.loss.curvature_root(f, f).square().sum(2).numpy()
            if posterior is not None:
                curvature = curvature / posterior.noise_variance
        evidence = (squares * curvature).sum(axis=2) @ weight * (sample_weight.sum() / weight.sum()) / 2
        return Sensitivity(squares.sum(axis=2) @ weight / weight.sum(), evidence)


def feature_slopes(
    predictors: Sequence[Predictor],
    votes: np.ndarray,
    scaled: Mapping[str, np.ndarray],
    features: Mapping[str, np.ndarray],
    sample_weight: np.ndarray,
    scaling: str,
    n_straight: int,
) -> np.ndarray:
    """How steep the weighted mean output is along each of the d features, in units of one of the scalings (d,).

    It is the root of what an exchange of the feature changes in the output, over what it changes in the columns that
    hidden layers read. The last ``n_straight`` columns of the scaling are not among these. A slope of a constant is 0.
    """
    change, _ = _movement(predictors, votes, scaled, features)
    weight = sample_weight[:SENSITIVITY_ROWS]
    hidden = slice(scaled[scaling].shape[1] - n_straight)
    z, of = scaled[scaling][:SENSITIVITY_ROWS, hidden], features[scaling][hidden]
    of_columns = weight @ np.square(np.roll(z, _shift(len(z)), axis=0) - z)
    moved = np.bincount(of, of_columns, minlength=len(change))
    with np.errstate(over="ignore", invalid="ignore"):
        squares = np.square(change).sum(axis=2) @ weight
        return np.sqrt(np.divide(squares, moved, out=np.zeros(len(moved)), where=moved > 0))


def _movement(
    members: Sequence[Member | Predictor],
    votes: np.ndarray,
    scaled: Mapping[str, np.ndarray],
    features: Mapping[str, np.ndarray],
) -> tuple[np.ndarray, np.ndarray]:
    """Change (d, n, k) of the weighted mean output (n, k) when a feature takes its value from another row."""
    of_features = np.array([member.scaling in features for member in members])
    if (votes * of_features).any():
        votes = votes * of_features
    else:
        votes = of_features.astype(np.float64)
    counted, votes = voters(members, votes / votes.sum())
    cpu = torch.device("cpu")
    d, n = 1 + max(int(of.max()) for of in features.values()), len(next(iter(scaled.values()))[:SENSITIVITY_ROWS])
    change = np.zeros((d, n, members[0].network.n_outputs))
    mean = np.zeros(change.shape[1:])
    with torch_threads(0.0), torch.no_grad():
        for member, vote in zip(counted, votes, strict=True):
            blocks = [torch.from_numpy(np.flatnonzero(features[member.scaling] == j)) for j in range(d)]
            U = Network.with_bias(torch.from_numpy(scaled[member.scaling][:SENSITIVITY_ROWS]))
            partner = U.roll(_shift(n), 0)
            for factor, values in ((vote, member.weights), (-vote, member.anchor)):
                if values is not None:
                    w = solver_tensor(values, cpu)
                    base = member.network.forward(U, w)[0]
                    mean += factor * base.numpy()
                    for j, exchanged in enumerate(member.network.forward_exchanged(U, partner, w, blocks)):
                        change[j] += factor * (exchanged - base).numpy()
    return change, mean


def _shift(n: int) -> int:
    """By how many of n rows values are exchanged."""
    return -(n // 2)


def relevance(sensitivity: Sensitivity, n_outputs: int) -> np.ndarray:
    """Compute each feature's share of the sensitivity (d,), summing to 1; equal shares if no feature has any influence.

    If chance explains all of them, none is switched off, because there is nothing to compare them with.
    """
    squares = sensitivity.squares
    if np.isinf(squares).any():
        squares = np.isinf(squares).astype(np.float64)
    total = squares.sum()
    if not total > 0:
        return np.full(len(squares), 1 / len(squares))
    share = squares / total
    # Unknown evidence (nan) switches nothing off.
    chance = sensitivity.evidence < chi2.isf(_CHANCE, n_outputs)
    off = (share < _SWITCHED_OFF / len(share)) | chance
    if not off.all():
        share[off] = 0.0
    return share / share.sum()
