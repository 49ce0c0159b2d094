"""Relevance of the input features: how much an ensemble's predictions react to each of them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from scipy.stats import chi2

from .backend import solver_tensor, torch_threads
from .ensemble import Ensemble
from .mixture import voters
from .network import Network

__all__ = ["SENSITIVITY_ROWS", "Sensitivity", "feature_sensitivity", "relevance"]

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
    a feature are exchanged together. Merged rows come in random order. So a fixed shift is a random exchange, and the
    first rows are a random sample.
    """
    (members, votes), cpu = voters(ensemble.members, ensemble.weights), torch.device("cpu")
    weight = sample_weight[:SENSITIVITY_ROWS]
    d = 1 + max(int(of.max()) for of in features.values())
    change = np.zeros((d, len(weight), members[0].network.n_outputs))
    mean = np.zeros(change.shape[1:])
    with torch_threads(0.0), torch.no_grad():
        for member, vote in zip(members, votes, strict=True):
            blocks = [torch.from_numpy(np.flatnonzero(features[member.scaling] == j)) for j in range(d)]
            U = Network.with_bias(torch.from_numpy(scaled[member.scaling][:SENSITIVITY_ROWS]))
            partner = U.roll(-(len(U) // 2), 0)
            for factor, values in ((vote, member.weights), (-vote, member.anchor)):
                if values is not None:
                    w = solver_tensor(values, cpu)
                    base = member.network.forward(U, w)[0]
                    mean += factor * base.numpy()
                    for j, exchanged in enumerate(member.network.forward_exchanged(U, partner, w, blocks)):
                        change[j] += factor * (exchanged - base).numpy()
    # Outputs may run away beyond the rows of the fit: squares are then infinite.
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        squares = np.square(change)
        if ensemble.loss.has_scale:
            posterior = members[0].posterior
            curvature = np.array(np.nan) if posterior is None else 1 / posterior.noise_variance
        else:
            f = torch.from_numpy(mean)
            curvature = ensemble.loss.curvature_root(f, f).square().sum(2).numpy()
        evidence = (squares * curvature).sum(axis=2) @ weight * (sample_weight.sum() / weight.sum()) / 2
        return Sensitivity(squares.sum(axis=2) @ weight / weight.sum(), evidence)


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
