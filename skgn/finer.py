"""Finer inputs, where what a fit leaves over still depends on single features.

Along one of several features, a wave of many periods, a step or a sharp bend takes many units. A small network has few
to spare. The cubic of :mod:`skgn.screening` does not see a wave. But residuals of left-out samples tell of it: their
mean differs between pieces of the feature. Further networks then read these pieces beside the columns that there are,
and the linear path draws any function that bends between pieces alone.

An F test tells of these differences, for labels as a score test (:mod:`skgn.left_over`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from scipy.linalg import solveh_banded

from .candidates import LAYER, MANY_WEIGHTS
from .feedforward import FeedForward
from .left_over import LEAST_FREEDOM, SIGNIFICANT, LeftOver
from .piecewise import FinerScaler, piecewise
from .preprocessing import LARGEST_SCORE
from .scaler import Scaler
from .weighted_rows import distinct, moments

__all__ = ["Refinable"]

#: Pieces of a feature of many values; of fewer there is one from each to the next (docs/decisions.md).
_PIECES = 24

#: Hidden layers of the networks that read these: wide ones first, all of even widths (``init="symmetric"``).
_LAYERS = (LAYER, (10,), (4,))


class Refinable(NamedTuple):
    """A scaling whose columns may be cut into pieces, and a network that reads them as they are.

    The ``layers`` are hidden layers to choose from. The first is taken with which all pieces that are called for can be
    read, or else the last. A sum of waves takes pieces rather than units.
    """

    scaler: Scaler
    network: FeedForward
    layers: Sequence[tuple[int, ...]]

    @classmethod
    def of(cls, scaler: Scaler, network: FeedForward, given: tuple[int, ...] | None) -> Refinable:
        """Make it with the hidden layers ``given``; None if they are left to the fit."""
        return cls(scaler, network, _LAYERS if given is None else (given,))

    @property
    def has_free_layers(self) -> bool:
        """Whether hidden layers are left to the fit."""
        return self.layers == _LAYERS

    def refined(self, columns: np.ndarray, lacking: LeftOver) -> FinerScaler | None:
        """Cut the features that a fit lacks something of; None if there are none, or if the network would be large.

        Parameters
        ----------
        columns : ndarray of shape (n, n_inputs)
            Columns of the scaling, of the rows of the fit.
        lacking : LeftOver
        """
        if len(lacking.rows) == 0:
            return None
        hidden = columns[lacking.rows, : self.network.hidden_inputs.stop]
        most = SIGNIFICANT / (hidden.shape[1] * lacking.values.shape[1])
        cuts = [_Cut.of(j, column, lacking) for j, column in enumerate(hidden.T)]
        found = sorted((cut for cut in cuts if cut is not None and cut.p < most), key=lambda cut: -cut.share)
        while found and self.reading(sum(len(cut.lower) for cut in found)).n_weights > MANY_WEIGHTS:
            found.pop()
        if not found:
            return None
        index = np.repeat([cut.column for cut in found], [len(cut.lower) for cut in found])
        lower, width = np.concatenate([cut.lower for cut in found]), np.concatenate([cut.width for cut in found])
        mean, variance = moments(piecewise(hidden, index, lower, width, 0.0, 1.0), lacking.weight)
        of_feature = np.bincount(index, weights=variance)[index]
        rise = 1 / np.sqrt(np.maximum(of_feature, LARGEST_SCORE**-2))
        return FinerScaler(self.scaler, index, lower, width, mean, rise)

    def reading(self, n_pieces: int) -> FeedForward:
        """The network that reads so many pieces beside the columns."""
        straight = self.network.n_straight
        inputs = self.network.n_inputs + (2 if straight else 1) * n_pieces
        read = replace(self.network, n_inputs=inputs, n_straight=straight + n_pieces if straight else 0)
        networks = [replace(read, hidden_layer_sizes=sizes) for sizes in self.layers]
        return next((network for network in networks if network.n_weights <= MANY_WEIGHTS), networks[-1])


class _Cut(NamedTuple):
    """Pieces of a column, and the test of what they tell.

    ``p`` is the probability by chance of what they tell, of one of several values, and ``share`` the part of the
    variance.
    """

    column: int
    lower: np.ndarray
    width: np.ndarray
    p: float
    share: float

    @classmethod
    def of(cls, number: int, column: np.ndarray, lacking: LeftOver) -> _Cut | None:
        """Cut a column (n,) at quantiles, and test what is lacking.

        None for two values or less, of which any function is a line, and for few samples.
        """
        edges = _edges(column, lacking.weight)
        # A repeated row counts once, and a weight below 1 as this part of a row.
        m, freedom = len(edges) - 1, np.minimum(lacking.weight, 1.0).sum() - len(edges)
        if m < 2 or freedom < LEAST_FREEDOM:
            return None
        lower, width = edges[:-1], np.diff(edges)
        piece = np.minimum(np.searchsorted(edges, column, side="right"), m) - 1
        explained, left = _explained(lacking, piece, (column - lower[piece]) / width[piece])
        if not left.any():
            return None
        explained, left = explained[left > 0], left[left > 0]
        p, share = lacking.p_value(explained, left, m, freedom), explained / (explained + left)
        return cls(number, lower, width, float(p.min()), float(share.max()))


def _explained(lacking: LeftOver, piece: np.ndarray, part: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sums of squares (k,) that functions bent between pieces explain, and leave, in units of their information.

    A sample is in a ``piece`` (n,), of which it has passed a ``part`` (n,). The functions are hat functions at the ends
    of the pieces, so that their Gram matrix is tridiagonal. A constant explains nothing.
    """
    order = np.argsort(piece, kind="stable")
    first = np.flatnonzero(np.diff(piece[order], prepend=-1))
    weight, part = lacking.weight[:, None], part[:, None]

    def sums(values: np.ndarray) -> np.ndarray:
        return np.add.reduceat((weight * values)[order], first)

    def at_ends(before: np.ndarray, after: np.ndarray) -> np.ndarray:
        ends = np.zeros((len(first) + 1, before.shape[1]))
        ends[:-1] = sums(before)
        ends[1:] += sums(after)
        return ends

    values, information = lacking.values, lacking.information
    score = at_ends((1 - part) * values, part * values)
    diagonal = at_ends((1 - part) ** 2 * information, part**2 * information)
    gram = np.stack([np.zeros_like(diagonal), diagonal])
    gram[0, 1:] = sums(part * (1 - part) * information)
    of_all = np.array([g @ solveh_banded(gram[..., j], g) for j, g in enumerate(score.T)])
    of_constant = np.square(score.sum(axis=0)) / (weight * information).sum(axis=0)
    spread = np.maximum(lacking.spread - of_constant, 0.0)
    explained = np.clip(of_all - of_constant, 0.0, spread)
    return explained, np.maximum(spread - explained, np.finfo(float).eps * spread)


def _edges(column: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Values (n_pieces + 1,) between which a column is cut."""
    values, mass = distinct(column, weight)
    if len(values) <= _PIECES + 1:
        return values
    below = (np.cumsum(mass) - mass / 2) / mass.sum()
    last = len(values) - 1
    inner = values[np.minimum(np.searchsorted(below, np.arange(1, _PIECES) / _PIECES), last)]
    return np.unique([values[0], *inner, values[-1]])
