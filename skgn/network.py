"""The network f(x) = alpha * net(x; w): weights <-> layers, forward pass, derivatives, initialisation.

A layer with weights W (out, in + 1) maps its input row u, whose last entry is 1, to W u; hidden layers apply the
activation. The readout reads the last hidden layer and, with ``linear_path``, the network's own input beside it. All
weights live in one flat vector w (P,), layer after layer, each W row by row.

The derivative of output row i with respect to W is the outer product of a back-propagated row d and the input row u.
Everything the package does with the Jacobian builds on these two factors; see :mod:`skgn.jacobian`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .activations import ACTIVATIONS

__all__ = ["Network", "Tape"]


class Tape(NamedTuple):
    """What a forward pass leaves for the derivatives: ``inputs`` u of every layer, ``slopes`` of the hidden ones."""

    inputs: list[Tensor]
    slopes: list[Tensor]


@dataclass(frozen=True)
class Network:
    """Architecture of a feed-forward network; weights are passed to its methods.

    Inputs ``U`` have shape (n, n_inputs + 1) with ones in the last column (:meth:`with_bias`); outputs (n, k).
    """

    n_inputs: int
    n_outputs: int
    hidden_layer_sizes: tuple[int, ...] = (20,)
    activation: str = "tanh"
    linear_path: bool = True
    alpha: float = 1.0
    init: str = "random"
    shapes: tuple[tuple[int, int], ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if self.init == "symmetric" and any(h % 2 for h in self.hidden_layer_sizes):
            raise ValueError(
                "init='symmetric' pairs the units of a layer and needs even widths, got "
                f"hidden_layer_sizes={self.hidden_layer_sizes}; make them even or use init='centered'."
            )
        widths = [self.n_inputs, *self.hidden_layer_sizes]
        shapes = [(out, into + 1) for into, out in itertools.pairwise(widths)]
        skip = self.n_inputs if self.linear_path and self.hidden_layer_sizes else 0
        shapes.append((self.n_outputs, widths[-1] + skip + 1))
        object.__setattr__(self, "shapes", tuple(shapes))

    @property
    def n_weights(self) -> int:
        """P, the number of weights."""
        return sum(out * into for out, into in self.shapes)

    @cached_property
    def readout(self) -> Network:
        """The last layer alone: a linear model, whose weights are the last ones of w."""
        return Network(self.shapes[-1][1] - 1, self.n_outputs, (), alpha=self.alpha)

    def split(self, w: Tensor) -> list[Tensor]:
        """Views of the flat weights as one matrix (out, in + 1) a layer."""
        parts = torch.split(w, [out * into for out, into in self.shapes])
        return [part.view(shape) for part, shape in zip(parts, self.shapes, strict=True)]

    def expand(self, per_input: list[Tensor]) -> Tensor:
        """One value per (layer, input), each (in + 1,), repeated over the layer's units to a flat vector (P,)."""
        return torch.cat([v.expand(out, -1).flatten() for v, (out, _) in zip(per_input, self.shapes, strict=True)])

    @staticmethod
    def with_bias(X: Tensor) -> Tensor:
        """Append the column of ones."""
        return torch.cat([X, X.new_ones(len(X), 1)], 1)

    def initial_weights(self, random_state: np.random.RandomState) -> np.ndarray:
        """Draw weights: normal with variance 1 / fan-in, zero for the linear path and the readout's bias.

        With ``init="symmetric"`` units j and j + h/2 of a hidden layer of width h share their incoming weights, and
        their readout weights are opposite, so the output is 0 for any input.
        """
        layers = [random_state.standard_normal(shape) / math.sqrt(shape[1]) for shape in self.shapes[:-1]]
        h = self.hidden_layer_sizes[-1] if self.hidden_layer_sizes else 0
        readout = np.zeros(self.shapes[-1])
        readout[:, :h] = random_state.standard_normal((self.n_outputs, h)) / math.sqrt(max(h, 1))
        if self.init == "symmetric":
            for W in layers:
                W[len(W) // 2 :] = W[: len(W) // 2]
            readout[:, h // 2 : h] = -readout[:, : h // 2]
        return np.concatenate([W.ravel() for W in [*layers, readout]])

    def forward(self, U: Tensor, w: Tensor, with_slopes: bool = True) -> tuple[Tensor, Tape]:
        """Outputs alpha * net (n, k), and the tape. ``init="centered"`` is left to the caller's offset.

        Without slopes the tape is of no use for derivatives.
        """
        function, derivative = ACTIVATIONS[self.activation]
        *hidden, readout = self.split(w)
        inputs, slopes = [U], []
        for depth, W in enumerate(hidden, start=1):
            last = depth == len(hidden)
            if last and self.init == "symmetric":
                z = _paired_units(inputs[-1], W)
                # Halves apart: vectorised and left-over elements may round differently, which must not part a pair.
                a = torch.cat([function(half) for half in z.chunk(2, 1)], 1)
            else:
                z = inputs[-1] @ W.T
                a = function(z)
            if with_slopes:
                slopes.append(derivative(z, a))
            skip = U if last and self.linear_path else U[:, -1:]
            inputs.append(torch.cat([a, skip], 1))
        if hidden and self.init == "symmetric":
            net = _paired_readout(inputs[-1], readout, self.hidden_layer_sizes[-1])
        else:
            net = inputs[-1] @ readout.T
        return self.alpha * net, Tape(inputs, slopes)

    def forward_exchanged(self, U: Tensor, partner: Tensor, w: Tensor, blocks: list[Tensor]) -> Iterator[Tensor]:
        """Outputs (n, k) with a block of the inputs taken from ``partner`` (n, n_inputs + 1), for each block in turn.

        Only the first layer and the linear path see an input: their products are corrected by a term of low rank.
        """
        *hidden, readout = self.split(w)
        change = partner - U
        if not hidden:
            net = U @ readout.T
            yield from (self.alpha * (net + change[:, block] @ readout[:, block].T) for block in blocks)
            return
        function = ACTIVATIONS[self.activation][0]
        h = self.hidden_layer_sizes[-1]
        direct = readout[:, h:-1] if self.linear_path else readout.new_zeros(self.n_outputs, self.n_inputs)
        upper = Network(self.hidden_layer_sizes[0], self.n_outputs, self.hidden_layer_sizes[1:], self.activation, False)
        w_upper = torch.cat([W.flatten() for W in [*hidden[1:], torch.cat([readout[:, :h], readout[:, -1:]], 1)]])
        z, linear = U @ hidden[0].T, U[:, :-1] @ direct.T
        for block in blocks:
            a = function(z + change[:, block] @ hidden[0][:, block].T)
            net = upper.forward(self.with_bias(a), w_upper)[0] + linear + change[:, block] @ direct[:, block].T
            yield self.alpha * net

    def backward(self, tape: Tape, w: Tensor, columns: Tensor) -> list[Tensor]:
        """Back-propagate output-space columns (n, k, c) to rows d of every layer, each (n, c, out).

        Row (i, c) of the Jacobian times column c of sample i is, for each layer, the outer product d_ic x u_i.
        """
        layers = self.split(w)
        rows = [self.alpha * columns.transpose(1, 2)]
        for W, slope in zip(layers[:0:-1], tape.slopes[::-1], strict=True):
            rows.append((rows[-1] @ W[:, : slope.shape[1]]) * slope[:, None, :])
        return rows[::-1]

    def vjp(self, tape: Tape, w: Tensor, g: Tensor) -> Tensor:
        """Sum over samples of J_i' g_i for output-space vectors g (n, k): a flat vector (P,)."""
        rows = self.backward(tape, w, g[:, :, None])
        return torch.cat([(d[:, 0].T @ u).flatten() for d, u in zip(rows, tape.inputs, strict=True)])

    def jvp(self, tape: Tape, w: Tensor, v: Tensor) -> Tensor:
        """J_i v for every sample, (n, k), for a weight-space direction v (P,)."""
        layers, directions = self.split(w), self.split(v)
        tangent = tape.inputs[0] @ directions[0].T
        for W, V, u, slope in zip(layers[1:], directions[1:], tape.inputs[1:], tape.slopes, strict=True):
            tangent = u @ V.T + (slope * tangent) @ W[:, : slope.shape[1]].T
        return self.alpha * tangent


def _paired_units(u: Tensor, W: Tensor) -> Tensor:
    """``u @ W.T`` by half-sums and half-differences, so that equal rows of W give bitwise equal columns."""
    first, second = W.chunk(2)
    mean, half = u @ ((first + second) / 2).T, u @ ((first - second) / 2).T
    return torch.cat([mean + half, mean - half], 1)


def _paired_readout(u: Tensor, W: Tensor, h: int) -> Tensor:
    """``u @ W.T`` with the paired units combined first, exactly 0 while they are equal and their weights opposite."""
    first, second = u[:, :h].chunk(2, 1)
    V1, V2 = W[:, :h].chunk(2, 1)
    paired = ((first + second) / 2) @ (V1 + V2).T + ((first - second) / 2) @ (V1 - V2).T
    return paired + u[:, h:] @ W[:, h:].T
