"""The network f(x) = alpha * net(x; w) as training, evidence and predictions see it: functions of one weight vector w.

A network has layers. Layer l has a matrix of weights W_l (out, in + 1). It reads an input row u whose last entry is 1.
The derivative of output row i with respect to W_l is the outer product of a back-propagated row d and u. All weights
are in one flat vector w (P,), layer after layer, each W row by row. Everything that the package does with the Jacobian
builds on these two factors; see :mod:`skgn.jacobian`. :mod:`skgn.feedforward` is the network of the estimators.
:mod:`skgn.module` makes a network of any torch module.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

__all__ = ["Network", "Tape", "layer_arrays", "unrecorded"]


class Tape(NamedTuple):
    """Results of a forward pass for the derivatives: ``inputs`` u of every layer, ``slopes`` of the hidden layers."""

    inputs: list[Tensor]
    slopes: list[Tensor]


class Network(ABC):
    """An architecture; weights are passed to its methods.

    Inputs ``U`` have shape (n, n_inputs + 1), with ones in the last column (:meth:`with_bias`). Outputs have shape (n,
    k).

    Attributes
    ----------
    n_inputs, n_outputs : int
    alpha : float
        The output scaling factor.
    init : str
        Value of the estimators' parameter. ``"centered"`` is left to the caller, who subtracts the outputs at the
        start.
    shapes : tuple of (int, int)
        Shapes (out, in + 1) of the layers' matrices.
    hidden_layer_sizes : tuple of int
        Numbers of units of the hidden layers; empty if there are none, or if they are not known.
    n_saved : int
        Numbers per row that a backward pass needs, beyond those that ``shapes`` tell.
    exports_jacobian : bool
        Whether torch translates the network's Jacobian to ONNX.
    uses_autograd : bool
        Whether torch differentiates the network. In inference mode some of its versions do so wrongly, without an error
        (2.3 and 2.9; not 2.13).
    """

    n_inputs: int
    n_outputs: int
    alpha: float
    init: str
    shapes: tuple[tuple[int, int], ...]
    hidden_layer_sizes: tuple[int, ...]
    n_saved: int = 0
    exports_jacobian: ClassVar[bool] = True
    uses_autograd: ClassVar[bool] = False

    @property
    def n_weights(self) -> int:
        """P, the number of weights."""
        return sum(out * into for out, into in self.shapes)

    @property
    def is_linear(self) -> bool:
        """Whether it is known that outputs are linear in the weights."""
        return False

    @property
    def original(self) -> Network:
        """The network that this one stands for in training: itself, or one that reads more inputs."""
        return self

    @property
    def basis(self) -> list[np.ndarray | None] | None:
        """Matrices T (in + 1 of the original, in + 1), one for each layer, with orthonormal columns.

        A layer reads u T where that of the original reads u; None stands for u itself, of a layer or of all.
        """
        return None

    def read(self, X: np.ndarray) -> np.ndarray:
        """Turn inputs of the original (n, d) into those of this network (n, n_inputs)."""
        return X

    def read_back(self, X: np.ndarray) -> np.ndarray:
        """Turn inputs of this network, which come of :meth:`read`, into those of the original."""
        return X

    def from_original(self, weights: np.ndarray) -> np.ndarray:
        """Turn weights of the original into those of this network, with which they share the basis."""
        return weights

    def to_original(self, weights: np.ndarray) -> np.ndarray:
        """Turn weights (P,) into those of the original, with the same outputs."""
        return weights

    def precision_of_original(self, precision: list[np.ndarray]) -> list[np.ndarray]:
        """Turn a value per (layer, input), one vector for each layer, into those of the original."""
        return precision

    @property
    def readout(self) -> Network | None:
        """The last layer as a linear model, whose weights are the last weights of w; None if it is not known."""
        return None

    def with_layers(self, sizes: tuple[int, ...], **changes: Any) -> Network | None:
        """Make the same network with other hidden layers and other changes; None if its layers are not known."""
        return None

    def trained(self, weights: np.ndarray) -> nn.Module | None:
        """Make a copy of the user's module that has these weights (P,), in float64; None for the built-in network."""
        return None

    def with_constant(self, w: Tensor, constant: Tensor) -> Tensor:
        """Return weights whose outputs are larger by a constant (k,); w itself if the readout is not known."""
        return w

    def split(self, w: Tensor) -> list[Tensor]:
        """Split the flat weights into views: one matrix (out, in + 1) for each layer."""
        # Not torch.split, whose checks take as long as all the rest.
        parts = w.split_with_sizes([out * into for out, into in self.shapes])
        return [part.view(shape) for part, shape in zip(parts, self.shapes, strict=True)]

    def expand(self, per_input: list[Tensor]) -> Tensor:
        """Repeat values per (layer, input) over the units of each layer: a flat vector (P,).

        There is one vector (in + 1,) for each layer.
        """
        return torch.cat([v.expand(out, -1).flatten() for v, (out, _) in zip(per_input, self.shapes, strict=True)])

    @staticmethod
    def with_bias(X: Tensor) -> Tensor:
        """Append the column of ones."""
        return torch.cat([X, X.new_ones(X.shape[0], 1)], 1)  # len() would fix the number of rows where it is traced

    @abstractmethod
    def input_blocks(self, layer: int) -> list[int]:
        """Sizes of the blocks of a layer's inputs; the inputs of a block are of one kind. They sum to in + 1."""

    @abstractmethod
    def fan_in(self, layer: int) -> Tensor:
        """Precision (in + 1,) at which the evidence begins.

        It is the precision of weights that keep the variance of their inputs.
        """

    @abstractmethod
    def output_scale(self, layer: int) -> float:
        """Factor on the layer's outputs on their own way to f."""

    def input_maps(self, scale: np.ndarray, shift: np.ndarray) -> list[np.ndarray] | None:
        """Matrices T (in + 1, in + 1), one for each layer, so that weights W T see inputs z as W sees scale z + shift.

        ``scale`` and ``shift`` have shape (n_inputs,). None if the weights cannot be expressed for other inputs.
        """
        return None

    @abstractmethod
    def initial_weights(
        self, random_state: np.random.RandomState, own: bool = False, steepness: float = 1.0
    ) -> np.ndarray:
        """Draw weights (P,); ``own`` asks for the weights that the network came with, if there are any.

        First-layer weights of a network that has layers of units are ``steepness`` times as large as usual.
        """

    @abstractmethod
    def arrays(self, weights: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Return weights and biases by layer as scikit-learn does: matrices (inputs, outputs), vectors (outputs,)."""

    @abstractmethod
    def forward(self, U: Tensor, w: Tensor, with_slopes: bool = True) -> tuple[Tensor, Tape]:
        """Compute outputs alpha * net (n, k), and the tape.

        Without slopes the tape is of no use for derivatives.
        """

    @abstractmethod
    def forward_exchanged(self, U: Tensor, partner: Tensor, w: Tensor, blocks: list[Tensor]) -> Iterator[Tensor]:
        """Yield outputs (n, k), each time with another block of inputs taken from ``partner`` (n, n_inputs + 1)."""

    @abstractmethod
    def backward(self, tape: Tape, w: Tensor, columns: Tensor) -> list[Tensor]:
        """Back-propagate output-space columns (n, k, c) to rows d of every layer, each (n, c, out).

        For each layer, column c of sample i times the Jacobian J_i is the outer product d_ic x u_i.
        """

    @abstractmethod
    def vjp(self, tape: Tape, w: Tensor, g: Tensor) -> Tensor:
        """Sum J_i' g_i over samples for output-space vectors g (n, k): a flat vector (P,)."""

    @abstractmethod
    def jvp(self, tape: Tape, w: Tensor, v: Tensor) -> Tensor:
        """Compute J_i v for every sample, (n, k), for a weight-space direction v (P,)."""


def layer_arrays(weights: np.ndarray, shapes: Sequence[tuple[int, int]]) -> list[np.ndarray]:
    """Split flat weights (P,) into views: one matrix (out, in + 1) for each layer."""
    ends = np.cumsum([out * into for out, into in shapes])[:-1]
    return [part.reshape(shape) for part, shape in zip(np.split(weights, ends), shapes, strict=True)]


def unrecorded(networks: Iterable[Network]) -> AbstractContextManager[Any]:
    """Return a context without a record of operations for autograd: the faster one if torch differentiates none."""
    return torch.no_grad() if any(network.uses_autograd for network in networks) else torch.inference_mode()
