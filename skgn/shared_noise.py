"""Noise that targets share: how left-out residuals of several targets go together, and outputs of which they do not.

The evidence takes the noises of outputs as independent. What the noises of two targets have in common looks to it like
a relation that both of them confirm, and networks would follow it. So where targets share noise, networks have
combinations of them whose noises are uncorrelated. Residuals are those that the loss sees: errors that it forgives hide
no correlation.

A first network, with an output for each target, predicts samples that were left out of it. Targets whose residuals are
correlated beyond chance are joined in groups. In a group with residual covariance S and covariance C of the targets,
the combinations solve S v = lambda C v. They are uncorrelated in the noise and as a whole, and have variance 1, as
networks assume. Principal directions of S tell less where one target is nearly exact (docs/decisions.md).
"""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import torch
from scipy.linalg import eigh
from scipy.sparse.csgraph import connected_components
from scipy.stats import norm
from torch import Tensor

from .draws import Draw
from .left_out_samples import LeftOutSamples
from .limits import Limits
from .problem import Problem
from .progress import combined
from .search import train_members
from .settings import Settings

__all__ = ["apart"]

#: Rows of the first network at the most, its part of the time, and what else ends its training.
_ROWS, _PART = 5000, 0.1
_SETTINGS = Settings(tol=1e-3, n_iter_no_change=7)

#: Chance leaves so large a correlation of any two targets with this probability.
_CHANCE = 0.01

#: Less noise, in standard deviations of the target, is what a network has not learned yet.
_LEAST = 0.05

#: So little variance may be the rounding error of a sum.
_CONSTANT = 1e-10


def apart(problem: Problem, draw: Draw, n_workers: int) -> tuple[Problem, np.ndarray | None]:
    """Return the problem of outputs with uncorrelated noise, and their ``mixing``; None where no noise is shared."""
    began, limits = time.perf_counter(), Limits(_PART * problem.max_time, n_workers)
    # A single network that goes on is judged by left-out samples.
    first = Draw(draw.starts[:1], 1, 1, go_on=True)
    ensemble = train_members(replace(problem.first_rows(_ROWS), settings=_SETTINGS), first, limits)
    if limits.interrupted:
        raise KeyboardInterrupt("The fit was interrupted before anything was trained.")
    samples = None if ensemble.cut_by else ensemble.left_out
    mixing = None if samples is None or not samples.known.all() else mixing_of(samples.sum(_moments).cpu().numpy())
    problem = replace(problem, max_time=problem.max_time - (time.perf_counter() - began))
    if mixing is None:
        return problem, None
    problem.settings.report(combined(int(((mixing != 0).sum(axis=0) > 1).sum())))
    return problem.mixed(mixing), mixing


def _moments(samples: LeftOutSamples) -> Tensor:
    """Sums (4, k, k) over samples: products of slopes of the loss, of their squares, and of targets; squared scales.

    Slopes are residuals under a squared error; those of losses that forgive are bounded. The squared scales and the
    weights are in the first two rows.
    """
    (f,), Y, weight = samples.rows
    slopes, of_scale = samples.loss.gradient(f, Y), weight @ samples.loss.weighted_squares(f, Y)
    products = [values.T @ (values * weight[:, None]) for values in (slopes, slopes.square(), Y)]
    last = torch.zeros_like(products[0])
    last[0], last[1] = of_scale, weight.sum()
    return torch.stack([*products, last]).double()


def mixing_of(moments: np.ndarray) -> np.ndarray | None:
    """Find the mixing (k, k) from the sums of :func:`_moments`; None where no noise is shared."""
    slopes, squares, whole, (of_scale, weight, *_) = moments
    k = len(weight)
    if not (np.isfinite(moments).all() and weight[0] > 0):
        return None
    noise = np.sqrt(of_scale / weight)
    # A sum of products over its standard error, whatever the distribution: few rows alone are not enough.
    score = np.abs(slopes) / np.sqrt(np.maximum(squares, np.finfo(float).tiny))
    noisy = noise > _LEAST
    # Of k (k - 1) / 2 pairs, on two sides.
    linked = (score > norm.isf(_CHANCE / (k * (k - 1)))) & noisy & noisy[:, None]
    n_groups, group = connected_components(linked)
    to_noise, combinations = noise / np.sqrt(np.maximum(slopes.diagonal(), np.finfo(float).tiny)), np.eye(k)
    S, C = slopes * np.outer(to_noise, to_noise), whole / weight[0]
    for of in (np.flatnonzero(group == g) for g in range(n_groups)):
        within = np.ix_(of, of)
        # A combination that never varies, as of parts of a whole, would count for more than all others.
        if len(of) == 1 or np.linalg.eigvalsh(C[within])[0] <= _CONSTANT:
            continue
        v = eigh(S[within], C[within])[1]
        # Signs are free: the largest part counts upwards.
        combinations[within] = v * np.sign(v[np.abs(v).argmax(axis=0), np.arange(len(of))])
    return np.linalg.inv(combinations) if (combinations != np.eye(k)).any() else None
