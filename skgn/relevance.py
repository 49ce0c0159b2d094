"""Relevance of the input features: how much an ensemble's predictions react to each of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from scipy.stats import chi2

from .backend import solver_tensor
from .ensemble import Ensemble, Member, Predictor
from .mixing import targets_of_outputs
from .mixture import voters
from .network import Network
from .threads import torch_threads

__all__ = ["SENSITIVITY_ROWS", "Sensitivity", "feature_sensitivity", "feature_slopes", "relevance"]

#: A feature is switched off to which chance alone gives its part in the likelihood with more than this probability,
#: that of three standard errors; and one that has less than a fraction of an equal share of the sensitivity.
_CHANCE, _SWITCHED_OFF = 2.7e-3, 0.15

#: Number of exchanges of each feature that estimate its relevance, and of rows at a time.
SENSITIVITY_ROWS, _BLOCK = 1024, 512

#: Of more features than these, one in so many exchanges tells which ones move the outputs the most, and only these
#: have all exchanges.
_MANY_FEATURES, _ONE_IN = 500, 16


class Sensitivity(NamedTuple):
    """Movement of the outputs when a feature takes its value from another row.

    ``squares`` (d,) is the weighted mean over pairs of rows of the squared change of the members' weighted mean output.
    It is the total Sobol index times 2. ``evidence`` (d,) is half the sum over rows of the squared change, in the
    metric of the loss's curvature. It is a feature's contribution to the likelihood. For a linear model it is the
    squared t-statistic of the feature's coefficient. It is nan if the noise level is unknown.
    """

    squares: np.ndarray
    evidence: np.ndarray


def feature_sensitivity(
    ensemble: Ensemble, scaled: dict[str, np.ndarray], features: dict[str, np.ndarray], sample_weight: np.ndarray
) -> Sensitivity:
    """Exchange the values of each of the d features in turn.

    For each column in each of the scalings (``scaled``), ``features`` tells which feature it belongs to (columns,), or
    which two (2, columns). All columns of a feature are exchanged together. Members whose columns belong to no feature
    are left out.
    """
    pairs, every = exchanges(sample_weight), np.arange(_count(features))

    def means(asked: np.ndarray, step: int) -> np.ndarray:
        """Mean squares (2, n_asked) over every so many of the pairs."""
        chosen = [of_pairs[::step] for of_pairs in pairs]
        parts = (np.array_split(part, -(-len(part) // _BLOCK)) for part in chosen)
        blocks = [_sums(ensemble, scaled, features, asked, *block) for block in zip(*parts, strict=True)]
        mean: np.ndarray = np.sum(blocks, axis=0) / len(chosen[0])
        return mean

    # Outputs may run away beyond the rows of the fit: squares are then infinite.
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        many = len(every) > _MANY_FEATURES
        moved = means(every, _ONE_IN if many else 1)
        if many:
            most = np.argsort(-moved[0], kind="stable")[:_MANY_FEATURES]
            moved[:, most] = means(most, 1)
        squares, evidence = moved
        return Sensitivity(squares, evidence * sample_weight.sum() / 2)


def _count(features: Mapping[str, np.ndarray]) -> int:
    """Number of the features that columns belong to."""
    return 1 + max(int(of.max()) for of in features.values())


def exchanges(sample_weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Draw rows, and those from which they take values. Each is drawn as often as its share of the weight (n,) asks."""
    ends = np.cumsum(sample_weight / sample_weight.max())
    rows = np.searchsorted(ends, (np.arange(SENSITIVITY_ROWS) + 0.5) / SENSITIVITY_ROWS * ends[-1])
    # The random numbers of the fit go on as they are.
    return rows, np.random.RandomState(0).permutation(rows)


def _sums(
    ensemble: Ensemble,
    scaled: Mapping[str, np.ndarray],
    features: Mapping[str, np.ndarray],
    asked: np.ndarray,
    rows: np.ndarray,
    partners: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Sum the squared changes of rows for each of the features ``asked``, as they are and in the metric of the loss."""
    change, mean = _movement(ensemble.members, ensemble.weights, scaled, features, asked, rows, partners)
    members, _ = voters(ensemble.members, ensemble.weights)
    squares, posterior = np.square(change), members[0].posterior
    of_targets = np.square(targets_of_outputs(change, ensemble.loss.mixing))
    if ensemble.loss.has_scale:
        curvature = np.array(np.nan) if posterior is None else 1 / posterior.noise_variance
    else:
        f = torch.from_numpy(mean)
        curvature = ensemble.loss.curvature_root(f, f).square().sum(2).numpy()
        if posterior is not None:
            curvature = curvature / posterior.noise_variance
    return of_targets.sum(axis=(1, 2)), (squares * curvature).sum(axis=(1, 2))


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
    # Merged rows come in random order. So a fixed shift is a random exchange, and the first rows are a random sample.
    weight = sample_weight[:_BLOCK]
    rows = np.arange(len(weight))
    partners = np.roll(rows, -(len(rows) // 2))
    every = np.arange(_count(features))
    change, _ = _movement(predictors, votes, scaled, features, every, rows, partners)
    hidden = slice(scaled[scaling].shape[1] - n_straight)
    z, of = scaled[scaling][:, hidden], features[scaling][hidden]
    of_columns = weight @ np.square(z[partners] - z[rows])
    moved = np.bincount(of, of_columns, minlength=len(change))
    with np.errstate(over="ignore", invalid="ignore"):
        squares = np.square(change).sum(axis=2) @ weight
        return np.sqrt(np.divide(squares, moved, out=np.zeros(len(moved)), where=moved > 0))


def _movement(
    members: Sequence[Member | Predictor],
    votes: np.ndarray,
    scaled: Mapping[str, np.ndarray],
    features: Mapping[str, np.ndarray],
    asked: np.ndarray,
    rows: np.ndarray,
    partners: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Change (n_asked, n, k) of the weighted mean output (n, k) of rows when a feature has its value from a partner."""
    of_features = np.array([member.scaling in features for member in members])
    if (votes * of_features).any():
        votes = votes * of_features
    else:
        votes = of_features.astype(np.float64)
    counted, votes = voters(members, votes / votes.sum())
    cpu = torch.device("cpu")
    change = np.zeros((len(asked), len(rows), members[0].network.n_outputs))
    mean = np.zeros(change.shape[1:])
    with torch_threads(0.0), torch.no_grad():
        for member, vote in zip(counted, votes, strict=True):
            blocks = _columns(features[member.scaling], asked)
            z = scaled[member.scaling]
            U, partner = (Network.with_bias(torch.from_numpy(z[chosen])) for chosen in (rows, partners))
            for factor, values in ((vote, member.weights), (-vote, member.anchor)):
                if values is not None:
                    w = solver_tensor(values, cpu)
                    base = member.network.forward(U, w)[0]
                    mean += factor * base.numpy()
                    for j, exchanged in enumerate(member.network.forward_exchanged(U, partner, w, blocks)):
                        change[j] += factor * (exchanged - base).numpy()
    return change, mean


def _columns(of: np.ndarray, asked: np.ndarray) -> list[torch.Tensor]:
    """Columns of each of the features ``asked``, where each column is ``of`` one feature (columns,) or two."""
    of = np.atleast_2d(of)
    return [torch.from_numpy(np.flatnonzero((of == j).any(axis=0))) for j in asked]


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
