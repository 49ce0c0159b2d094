"""A network that reads the principal directions of its inputs in training, and stands for one that reads the inputs.

Weights that share a precision have an isotropic prior, which does not see a rotation of their inputs. Of a direction in
which no row of the training has a component, the data tell nothing: its weight stays at the prior's mean, 0. So these
weights are trained in an orthonormal basis V of what the rows span,

    w' u = (V' w)' (V' u)        where u = V V' u,

which leaves objective, evidence and predictions as they are. Columns of indicators, which sum to 1, and columns told
twice make such a basis small. The basis is not centred: beside the bias, whose prior is another one, a constant
direction is a direction too. With ``init="centered"`` the mean is an initial weight, and is left out as well: rows that
have a component in such a direction are predicted as if they had none.

Two other networks stand for one with fewer weights, and are not the same model. Of columns that are not of use, a
narrowed network reads none. And where an iteration would take too long, the weights of the directions in which rows
differ the least stay at 0. What such a network leaves out has no variance either.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from scipy.linalg import block_diag
from torch import Tensor

from .feedforward import FeedForward
from .network import Network, layer_arrays

__all__ = ["Reduced", "fewest_directions", "principal_directions"]

#: Rows span a direction where its singular value is above this part of the largest.
_RANK = 1e-7

#: A path reads so many directions at the least, whatever the cost.
_FEWEST = 20

#: Rows taken at a time.
_BLOCK = 4096


@dataclass(frozen=True, eq=False)
class Reduced(FeedForward):
    """The network that is trained in the place of a ``full`` one.

    ``hidden`` (columns, directions) is a basis of the inputs that the first hidden layer reads, and ``direct`` one of
    those that the readout reads; None stands for the inputs as they are. ``cut`` tells of each of the two whether rows
    have components outside of it, of which the network reads nothing.
    """

    full: FeedForward = field(kw_only=True, repr=False)
    hidden: np.ndarray | None = field(kw_only=True, repr=False)
    direct: np.ndarray | None = field(kw_only=True, repr=False)
    cut: tuple[bool, bool] = field(default=(False, False), kw_only=True, repr=False)

    __eq__, __hash__ = object.__eq__, object.__hash__

    @classmethod
    def of(
        cls,
        network: FeedForward,
        directions: Callable[[slice], np.ndarray],
        first_layer: bool,
        columns: np.ndarray | None = None,
        alone: bool = False,
        affordable: Callable[[FeedForward], bool] = lambda network: True,
    ) -> FeedForward:
        """Reduce a network to what the rows span.

        Parameters
        ----------
        network : FeedForward
        directions : callable
            Returns the :func:`principal_directions` of a slice of the inputs.
        first_layer : bool
            Whether the weights of the first hidden layer share a precision; those of the readout for its direct inputs
            do.
        columns : ndarray of bool, optional
            Which columns the first hidden layer reads; all by default.
        alone : bool, default=False
            Whether the linear path, which has as many columns, reads the same ones.
        affordable : callable
            Tells of a network whether it may be trained. If this one may not, only leading directions are taken, as
            many as may be. Those of the hidden layer and of the readout have about as many weights. A hidden layer that
            reads columns with precisions of their own is not cut.

        Returns
        -------
        FeedForward
            The network itself where nothing can be left out.
        """
        units = network.hidden_layer_sizes
        of_hidden, of_direct = network.hidden_inputs, network.direct_inputs
        hidden = directions(of_hidden) if units and first_layer else None
        direct = directions(of_direct) if of_direct.start < of_direct.stop else None
        narrowed = columns is not None
        if columns is not None:
            read = np.flatnonzero(columns)
            hidden = np.zeros((len(columns), len(read)))
            hidden[read, np.arange(len(read))] = 1.0
        if alone:
            return cls._in(network, hidden, hidden, (True, True))
        spanned = cls._in(network, hidden, direct, (narrowed, False))
        if affordable(spanned) or not (narrowed or first_layer or not units):
            return spanned

        def leading(most: int) -> FeedForward:
            # So many weights at the most in either path.
            of_units = _leading(hidden, most // units[0]) if units and not narrowed else hidden
            of_readout = _leading(direct, most // network.n_outputs)
            cut = narrowed or of_units is not hidden, of_readout is not direct
            return cls._in(network, of_units, of_readout, cut)

        return leading(bisect.bisect_left(range(1, network.n_weights), True, key=lambda m: not affordable(leading(m))))

    @classmethod
    def _in(
        cls, network: FeedForward, hidden: np.ndarray | None, direct: np.ndarray | None, cut: tuple[bool, bool]
    ) -> FeedForward:
        """Make the network in bases of the inputs of both paths; the network itself if these are all directions."""
        hidden, direct = (None if T is None or len(T) == T.shape[1] else T for T in (hidden, direct))
        if hidden is None and direct is None:
            return network
        units, of_hidden, of_direct = network.hidden_layer_sizes, network.hidden_inputs, network.direct_inputs
        n_hidden, n_direct = (
            columns.stop - columns.start if basis is None else basis.shape[1]
            for columns, basis in ((of_hidden, hidden), (of_direct, direct))
        )
        return cls(
            n_inputs=(n_hidden if units else 0) + n_direct,
            n_outputs=network.n_outputs,
            hidden_layer_sizes=units,
            activation=network.activation,
            linear_path=network.linear_path,
            alpha=network.alpha,
            init=network.init,
            n_straight=n_direct if units else 0,
            full=network,
            hidden=hidden,
            direct=direct,
            cut=cut,
        )

    @property
    def leaves_out(self) -> bool:
        """Whether this is another model than the original."""
        return any(self.cut)

    @property
    def original(self) -> FeedForward:
        return self.full

    @property
    def basis(self) -> list[np.ndarray | None]:
        maps: list[np.ndarray | None] = [None] * len(self.shapes)
        if self.hidden is not None:
            maps[0] = block_diag(self.hidden, 1.0)
        if self.direct is not None:
            maps[-1] = block_diag(np.eye(self._last_width), self.direct, 1.0)
        return maps

    def read(self, X: np.ndarray) -> np.ndarray:
        parts = [_product(X[:, self.full.direct_inputs], self.direct)]
        if self.hidden_layer_sizes:
            parts.insert(0, _product(X[:, self.full.hidden_inputs], self.hidden))
        return np.concatenate(parts, axis=1)

    def read_back(self, X: np.ndarray) -> np.ndarray:
        parts = [_expanded(X[:, self.direct_inputs], self.direct)]
        if self.hidden_layer_sizes:
            hidden = _expanded(X[:, self.hidden_inputs], self.hidden)
            # Both paths of the original may read the same inputs.
            parts = [hidden, *parts] if self.full.n_straight else [hidden]
        return np.concatenate(parts, axis=1)

    def from_original(self, weights: np.ndarray) -> np.ndarray:
        return self._by_layer(weights, self.full.shapes, _product)

    def to_original(self, weights: np.ndarray) -> np.ndarray:
        return self._by_layer(weights, self.shapes, _expanded)

    def precision_of_original(self, precision: list[np.ndarray]) -> list[np.ndarray]:
        return [
            a if T is None else self._of_original(a, layer, T)
            for layer, (a, T) in enumerate(zip(precision, self.basis, strict=True))
        ]

    def _of_original(self, a: np.ndarray, layer: int, T: np.ndarray) -> np.ndarray:
        if not self.cut[0 if layer == 0 and self.hidden is not None else 1]:
            return _by_block(a, self.input_blocks(layer), self.full.input_blocks(layer))
        # What is left out is 0 for sure; an input that is in the basis by itself keeps its own.
        return np.where(np.square(T).sum(1) > 1 - _RANK, np.square(T) @ a, math.inf)

    def fan_in(self, layer: int) -> Tensor:
        values = self.full.fan_in(layer).numpy()
        if self.basis[layer] is not None:
            values = _by_block(values, self.full.input_blocks(layer), self.input_blocks(layer))
        return torch.from_numpy(values)

    def _by_layer(
        self,
        weights: np.ndarray,
        shapes: Sequence[tuple[int, int]],
        function: Callable[[np.ndarray, np.ndarray | None], np.ndarray],
    ) -> np.ndarray:
        layers = zip(layer_arrays(weights, shapes), self.basis, strict=True)
        return np.concatenate([function(W, T).ravel() for W, T in layers])


def fewest_directions(network: Network) -> Network:
    """Make the smallest network that may stand for one that reads more directions; itself if there is none."""
    if not isinstance(network, FeedForward):
        return network
    hidden, direct = network.hidden_inputs, network.direct_inputs
    n_hidden, n_direct = (min(_FEWEST, inputs.stop - inputs.start) for inputs in (hidden, direct))
    return replace(network, n_inputs=n_hidden + n_direct, n_straight=n_direct)


def principal_directions(X: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Orthonormal basis (d, r) of what rows X (n, d) of these weights (n,) span, those of most variance first."""
    root = np.sqrt(weight / weight.sum())[:, None]
    R: np.ndarray = np.empty((0, X.shape[1]))
    for start in range(0, len(X), _BLOCK):
        rows = slice(start, start + _BLOCK)
        R = np.asarray(np.linalg.qr(np.concatenate([R, root[rows] * X[rows]]), mode="r"))
    _, values, directions = np.linalg.svd(R, full_matrices=False)
    rank = max(1, int((values > _RANK * values[0]).sum()))
    basis: np.ndarray = directions[:rank].T.copy()
    return basis


def _leading(basis: np.ndarray | None, most: int) -> np.ndarray | None:
    """Take so many directions of a basis, or a few; the basis itself if it has no more."""
    most = max(most, _FEWEST)
    return basis if basis is None or basis.shape[1] <= most else basis[:, :most]


def _product(X: np.ndarray, basis: np.ndarray | None) -> np.ndarray:
    return X if basis is None else X @ basis


def _expanded(X: np.ndarray, basis: np.ndarray | None) -> np.ndarray:
    return X if basis is None else X @ basis.T


def _by_block(values: np.ndarray, blocks: Sequence[int], others: Sequence[int]) -> np.ndarray:
    """Give values, which are equal within each block, to blocks of other sizes."""
    firsts = np.cumsum([0, *blocks[:-1]])
    return np.repeat(values[firsts], others)
