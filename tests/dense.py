"""Slow, dense twins of the package's operators, written without it: what the tests compare with.

Only the layout of the weight vector is shared: layer after layer, each matrix row by row, bias last in a row.
"""

from __future__ import annotations

import torch
from torch import Tensor

from skgn.feedforward import FeedForward

torch_functions = {
    "tanh": torch.tanh,
    "logistic": torch.sigmoid,
    "softplus": torch.nn.functional.softplus,
    "silu": torch.nn.functional.silu,
    "gelu": torch.nn.functional.gelu,
    "identity": lambda z: z,
    "relu": torch.nn.functional.relu,
}

#: Depths, outputs, linear path and its own inputs, activations, alpha and initialisations, crossed thinly.
NETWORKS = [
    FeedForward(3, 1, ()),
    FeedForward(3, 3, (), alpha=0.3),
    FeedForward(3, 1, (5,), "tanh"),
    FeedForward(3, 3, (5,), "logistic", alpha=10.0),
    FeedForward(3, 1, (5,), "softplus", linear_path=False),
    FeedForward(3, 3, (5,), "silu", linear_path=False, alpha=0.1),
    FeedForward(3, 1, (6, 4), "gelu", alpha=2.0),
    FeedForward(3, 3, (6, 4), "tanh"),
    FeedForward(3, 1, (6, 4), "identity", linear_path=False),
    FeedForward(3, 3, (6, 4), "relu", linear_path=False, alpha=0.5),
    FeedForward(3, 1, (6,), "tanh", alpha=0.5, init="symmetric"),
    FeedForward(3, 3, (6, 4), "silu", init="symmetric"),
    FeedForward(3, 3, (4, 6), "tanh", linear_path=False, alpha=3.0, init="symmetric"),
    FeedForward(3, 3, (6, 4), "tanh", alpha=3.0, init="centered"),
    FeedForward(3, 2, (), alpha=0.7, n_straight=2),
    FeedForward(3, 1, (5,), "tanh", n_straight=1),
    FeedForward(3, 3, (6, 4), "gelu", alpha=2.0, n_straight=2),
    FeedForward(3, 2, (6,), "silu", init="symmetric", n_straight=2),
    FeedForward(3, 1, (4,), "softplus", linear_path=False, n_straight=1),
]


def name(network: FeedForward) -> str:
    """Test id of a case."""
    hidden = "x".join(map(str, network.hidden_layer_sizes)) or "linear"
    path = "" if network.linear_path else "-nopath"
    path += f"-straight{network.n_straight}" if network.n_straight else ""
    return f"{hidden}-k{network.n_outputs}-{network.activation}{path}-alpha{network.alpha:g}-{network.init}"


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draw(*shape: int, seed: int = 0) -> Tensor:
    """Standard normal float64 values from a private generator."""
    return torch.randn(*shape, dtype=torch.float64, generator=generator(seed))


def forward(network: FeedForward, w: Tensor, X: Tensor) -> Tensor:
    """Outputs (n, k), read off the definition: weights and biases apart, layer by layer, and two kinds of inputs."""
    position = 0

    def take(rows: int, columns: int) -> tuple[Tensor, Tensor]:
        nonlocal position
        W = w[position : position + rows * (columns + 1)].reshape(rows, columns + 1)
        position += rows * (columns + 1)
        return W[:, :columns], W[:, columns]

    bent, straight = X, X
    if network.n_straight:
        bent, straight = X.split([X.shape[1] - network.n_straight, network.n_straight], 1)
    a = bent if network.hidden_layer_sizes else straight
    for width in network.hidden_layer_sizes:
        W, b = take(width, a.shape[1])
        a = torch_functions[network.activation](a @ W.T + b)
    if network.linear_path and network.hidden_layer_sizes:
        a = torch.cat([a, straight], 1)
    W, b = take(network.n_outputs, a.shape[1])
    assert position == len(w)
    return network.alpha * (a @ W.T + b)


def jacobian(network: FeedForward, w: Tensor, X: Tensor) -> Tensor:
    """Derivative of the outputs, (n, k, P), by reverse-mode automatic differentiation."""
    return torch.func.jacrev(lambda v: forward(network, v, X))(w)


def weighted_jacobian(network: FeedForward, w: Tensor, X: Tensor, R: Tensor) -> Tensor:
    """Rows (i, c) of R_i' J_i as one matrix (n c, P)."""
    return torch.einsum("nkc,nkp->ncp", R, jacobian(network, w, X)).flatten(0, 1)
