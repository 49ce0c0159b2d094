"""Activation functions by name; each has a function and a derivative, nothing else.

The theory of Gauss-Newton flows asks for smooth activations. ``"relu"`` is here for comparison, and for one kind of
member of a classifier.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

__all__ = ["ACTIVATIONS", "Activation"]


class Activation(NamedTuple):
    """An activation ``a = function(z)``, and its slope ``derivative(z, a)``, which need not compute a again."""

    function: Callable[[Tensor], Tensor]
    derivative: Callable[[Tensor, Tensor], Tensor]


def _tanh(z: Tensor) -> Tensor:
    # On a CPU NumPy's function is several times faster and as accurate, but cannot be differentiated or traced.
    plain = type(z) is Tensor and z.device.type == "cpu" and not z.requires_grad and not torch.jit.is_tracing()  # type: ignore
    return torch.from_numpy(np.tanh(z.numpy())) if plain else torch.tanh(z)


def _normal_cdf(z: Tensor) -> Tensor:
    return torch.special.ndtr(z)


def _normal_pdf(z: Tensor) -> Tensor:
    return torch.exp(-0.5 * z * z) / math.sqrt(2 * math.pi)


def _silu_slope(z: Tensor, a: Tensor) -> Tensor:
    s = torch.sigmoid(z)
    return s + a * (1 - s)


ACTIVATIONS: dict[str, Activation] = {
    "tanh": Activation(_tanh, lambda z, a: 1 - a * a),
    "logistic": Activation(torch.sigmoid, lambda z, a: a * (1 - a)),
    # logaddexp, because torch's softplus turns linear beyond 20 and no longer matches its derivative.
    "softplus": Activation(lambda z: torch.logaddexp(z, torch.zeros_like(z)), lambda z, a: torch.sigmoid(z)),
    "silu": Activation(torch.nn.functional.silu, _silu_slope),
    "gelu": Activation(lambda z: z * _normal_cdf(z), lambda z, a: _normal_cdf(z) + z * _normal_pdf(z)),
    "identity": Activation(lambda z: z, lambda z, a: torch.ones_like(z)),
    "relu": Activation(torch.relu, lambda z, a: (z > 0).to(z.dtype)),
}
