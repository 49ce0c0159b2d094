"""The feed-forward network of the estimators: forward pass, derivatives, initialisation.

Hidden layers apply the activation to W u. The readout reads the last hidden layer. With ``linear_path`` it also reads
the network's own input, or only the columns that are for the linear path alone.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from .activations import ACTIVATIONS
from .network import Network, Tape, layer_arrays

__all__ = ["FeedForward"]

#: Numbers of units whose inputs are exchanged at a time: of few rows, what an operation costs beside its arithmetic.
_EXCHANGED_UNITS = 2**16


@dataclass(frozen=True)
class FeedForward(Network):
    """A multi-layer perceptron whose readout may read the inputs too. Without hidden layers it is a linear model.

    The last ``n_straight`` of the ``n_inputs`` columns are for the linear path alone, and hidden layers read the
    others. If ``n_straight`` is 0, both read all columns.
    """

    n_inputs: int
    n_outputs: int
    hidden_layer_sizes: tuple[int, ...] = (20,)
    activation: str = "tanh"
    linear_path: bool = True
    alpha: float = 1.0
    init: str = "random"
    n_straight: int = 0
    shapes: tuple[tuple[int, int], ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if self.init == "symmetric" and any(h % 2 for h in self.hidden_layer_sizes):
            raise ValueError(
                "init='symmetric' pairs the units of a layer and needs even widths, got "
                f"hidden_layer_sizes={self.hidden_layer_sizes}; make them even or use init='centered'."
            )
        widths = [self.n_inputs - self.n_straight, *self.hidden_layer_sizes]
        shapes = [(out, into + 1) for into, out in itertools.pairwise(widths)]
        shapes.append((self.n_outputs, self._last_width + self._n_direct + 1))
        object.__setattr__(self, "shapes", tuple(shapes))

    def __str__(self) -> str:
        sizes = "-".join(map(str, self.hidden_layer_sizes))
        return f"{sizes} {self.activation}" if sizes else "linear"

    @property
    def _last_width(self) -> int:
        """Number of units of the last hidden layer."""
        return self.hidden_layer_sizes[-1] if self.hidden_layer_sizes else 0

    @property
    def _n_direct(self) -> int:
        """Number of inputs that the readout reads directly; these are the last inputs."""
        linear = self.linear_path or not self.hidden_layer_sizes
        return (self.n_straight or self.n_inputs) if linear else 0

    @property
    def is_linear(self) -> bool:
        """Whether outputs are linear in the weights."""
        return not self.hidden_layer_sizes

    def with_layers(self, sizes: tuple[int, ...], **changes: Any) -> FeedForward:
        return replace(self, hidden_layer_sizes=sizes, **changes)

    @cached_property
    def readout(self) -> FeedForward:
        return FeedForward(self.shapes[-1][1] - 1, self.n_outputs, (), alpha=self.alpha)

    def with_constant(self, w: Tensor, constant: Tensor) -> Tensor:
        w = w.clone()
        self.split(w)[-1][:, -1] += constant / self.alpha
        return w

    def input_blocks(self, layer: int) -> list[int]:
        """Sizes of the inputs or units of the layer below, of the linear path, and of the bias."""
        into = self.shapes[layer][1]
        if self._is_readout(layer) and layer > 0 and self.linear_path:
            return [self._last_width, self._n_direct, 1]
        return [into - 1, 1]

    def fan_in(self, layer: int) -> Tensor:
        into = self.shapes[layer][1]
        values = torch.full((into,), float(into - 1), dtype=torch.float64, device="cpu")
        if self._is_readout(layer):
            h = self._last_width
            values[:h], values[h:] = float(h), 1.0
        return values

    def output_scale(self, layer: int) -> float:
        return self.alpha if self._is_readout(layer) else 1.0

    def _is_readout(self, layer: int) -> bool:
        return layer == len(self.shapes) - 1

    def input_maps(self, scale: np.ndarray, shift: np.ndarray) -> list[np.ndarray]:
        maps = [np.eye(into) for _, into in self.shapes]
        hidden = self.n_inputs - self.n_straight if self.hidden_layer_sizes else 0
        # The readout reads units, then the last inputs.
        for T, first, inputs in ((maps[0], 0, slice(0, hidden)), (maps[-1], self._last_width, self.direct_inputs)):
            n = len(scale[inputs])
            T[range(first, first + n), range(first, first + n)] = scale[inputs]
            T[first : first + n, -1] = shift[inputs]
        return maps

    @property
    def hidden_inputs(self) -> slice:
        """Inputs that the first hidden layer reads."""
        return slice(0, self.n_inputs - self.n_straight)

    @property
    def direct_inputs(self) -> slice:
        """Inputs that the readout reads directly."""
        return slice(self.n_inputs - self._n_direct, self.n_inputs)

    def arrays(self, weights: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
        layers = layer_arrays(weights, self.shapes)
        return [W[:, :-1].T.copy() for W in layers], [W[:, -1].copy() for W in layers]

    def initial_weights(
        self, random_state: np.random.RandomState, own: bool = False, steepness: float = 1.0
    ) -> np.ndarray:
        """Draw weights: normal with variance 1 / fan-in, but zero for the linear path and the readout's bias.

        With ``init="symmetric"``, units j and j + h/2 of a hidden layer of width h share their incoming weights. Their
        readout weights are opposite, so that the output is 0 for any input.
        """
        layers = [random_state.standard_normal(shape) / math.sqrt(shape[1]) for shape in self.shapes[:-1]]
        layers[:1] = [steepness * W for W in layers[:1]]
        h = self._last_width
        readout = np.zeros(self.shapes[-1])
        readout[:, :h] = random_state.standard_normal((self.n_outputs, h)) / math.sqrt(max(h, 1))
        if self.init == "symmetric":
            for W in layers:
                W[len(W) // 2 :] = W[: len(W) // 2]
            readout[:, h // 2 : h] = -readout[:, : h // 2]
        return np.concatenate([W.ravel() for W in [*layers, readout]])

    def forward(self, U: Tensor, w: Tensor, with_slopes: bool = True) -> tuple[Tensor, Tape]:
        function, derivative = ACTIVATIONS[self.activation]
        *hidden, readout = self.split(w)
        direct = U[:, -1 - self._n_direct :]
        inputs, slopes = [self._first_inputs(U) if hidden else direct], []
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
            inputs.append(torch.cat([a, direct if last else U[:, -1:]], 1))
        if hidden and self.init == "symmetric":
            net = _paired_readout(inputs[-1], readout, self._last_width)
        else:
            net = inputs[-1] @ readout.T
        return self.alpha * net, Tape(inputs, slopes)

    def _first_inputs(self, U: Tensor) -> Tensor:
        """Inputs that the first hidden layer reads."""
        if self.n_straight == 0:
            return U
        return torch.cat([U[:, : self.n_inputs - self.n_straight], U[:, -1:]], 1)

    def forward_exchanged(self, U: Tensor, partner: Tensor, w: Tensor, blocks: list[Tensor]) -> Iterator[Tensor]:
        """Compute outputs with exchanged inputs, as the base class does.

        Only the first layer and the linear path see an input, so that a term of low rank corrects their products.
        """
        *hidden, readout = self.split(w)
        h = self._last_width
        change = (partner - U)[:, :-1]
        # One weight for each input; 0 where it is not read.
        direct = pad(readout[:, h:-1], (self.n_inputs - self._n_direct, 0))
        linear = U[:, :-1] @ direct.T
        if not hidden:
            net = linear + readout[:, -1]
            for several in _together(blocks, len(U) * self.n_outputs):
                yield from self.alpha * (net + _moved(change, direct, several))
            return
        first = pad(hidden[0][:, :-1], (0, self.n_straight))
        function = ACTIVATIONS[self.activation][0]
        upper = FeedForward(
            self.hidden_layer_sizes[0], self.n_outputs, self.hidden_layer_sizes[1:], self.activation, False
        )
        w_upper = torch.cat([W.flatten() for W in [*hidden[1:], torch.cat([readout[:, :h], readout[:, -1:]], 1)]])
        z = U[:, :-1] @ first.T + hidden[0][:, -1]
        for several in _together(blocks, z.numel()):
            a = function(z + _moved(change, first, several))
            net = upper.forward(self.with_bias(a.flatten(0, 1)), w_upper, with_slopes=False)[0]
            yield from self.alpha * (net.view(len(several), len(U), -1) + linear + _moved(change, direct, several))

    def backward(self, tape: Tape, w: Tensor, columns: Tensor) -> list[Tensor]:
        layers = self.split(w)
        rows = [self.alpha * columns.transpose(1, 2)]
        for W, slope in zip(layers[:0:-1], tape.slopes[::-1], strict=True):
            rows.append((rows[-1] @ W[:, : slope.shape[1]]) * slope[:, None, :])
        return rows[::-1]

    def vjp(self, tape: Tape, w: Tensor, g: Tensor) -> Tensor:
        rows = self.backward(tape, w, g[:, :, None])
        return torch.cat([(d[:, 0].T @ u).flatten() for d, u in zip(rows, tape.inputs, strict=True)])

    def jvp(self, tape: Tape, w: Tensor, v: Tensor) -> Tensor:
        layers, directions = self.split(w), self.split(v)
        tangent = tape.inputs[0] @ directions[0].T
        for W, V, u, slope in zip(layers[1:], directions[1:], tape.inputs[1:], tape.slopes, strict=True):
            tangent = u @ V.T + (slope * tangent) @ W[:, : slope.shape[1]].T
        return self.alpha * tangent


def _paired_units(u: Tensor, W: Tensor) -> Tensor:
    """Compute ``u @ W.T`` by half-sums and half-differences, so that equal rows of W give bitwise equal columns."""
    first, second = W.chunk(2)
    mean, half = u @ ((first + second) / 2).T, u @ ((first - second) / 2).T
    return torch.cat([mean + half, mean - half], 1)


def _paired_readout(u: Tensor, W: Tensor, h: int) -> Tensor:
    """Compute ``u @ W.T``, with the paired units combined first.

    The result is exactly 0 while paired units are equal and their weights opposite.
    """
    first, second = u[:, :h].chunk(2, 1)
    V1, V2 = W[:, :h].chunk(2, 1)
    paired = ((first + second) / 2) @ (V1 + V2).T + ((first - second) / 2) @ (V1 - V2).T
    return paired + u[:, h:] @ W[:, h:].T


def _together(blocks: list[Tensor], size: int) -> Iterator[list[Tensor]]:
    """Take blocks together that follow one another, as many as do not exceed the units if each has ``size``."""
    count = max(1, _EXCHANGED_UNITS // max(1, size))
    return (blocks[first : first + count] for first in range(0, len(blocks), count))


def _moved(change: Tensor, weights: Tensor, blocks: list[Tensor]) -> Tensor:
    """Products (b, n, out) of changes (n, d) with weights (out, d), each in the inputs of another block."""
    if len({len(block) for block in blocks}) == 1:
        index = torch.stack(blocks)
        return change.T[index].mT @ weights.T[index]
    return torch.stack([change[:, block] @ weights[:, block].T for block in blocks])
