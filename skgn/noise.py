"""Noise that depends on the inputs: a factor on its variance, the exponential of what an ensemble predicts.

How the factor is learned, :mod:`skgn.noise_fit` tells.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch

from .ensemble import Ensemble, Member, member_outputs
from .mixture import Stretch, mixture_mean

__all__ = ["NOISE", "InputNoise", "Noisy", "log_factor", "member_logarithms"]

#: Values of the parameter ``noise``.
NOISE = ("auto", "constant", "input")


@dataclass(frozen=True)
class InputNoise:
    """Members whose mean output is the logarithm of a factor on the variance of the noise.

    The logarithm stays within ``low`` and ``high`` (k,). Where the noise ``weighs_rows``, the ensemble has been trained
    with the precisions that it tells. Otherwise the factor is on all of the predicted variance.
    """

    members: list[Member] = field(repr=False)
    weights: np.ndarray
    low: np.ndarray
    high: np.ndarray
    weighs_rows: bool = False

    @property
    def scalings(self) -> set[str]:
        """Names of the scalings that the members read."""
        return {member.scaling for member in self.members}

    def factor(self, scaled: Mapping[str, np.ndarray], device: torch.device) -> np.ndarray:
        """Compute the factor (n, k) on the variance at scaled inputs."""
        outputs = member_logarithms(self.members, scaled, device)
        return np.exp(log_factor(outputs, self.weights, self.low, self.high))

    def stretch(self, scaled: Mapping[str, np.ndarray], device: torch.device) -> Stretch:
        """Compute the factors on distances in an ensemble at scaled inputs."""
        root = np.sqrt(self.factor(scaled, device))
        return Stretch(None if self.weighs_rows else root, root)


class Noisy(NamedTuple):
    """An ensemble, and how the noise around its predictions depends on the inputs; None where it is constant."""

    ensemble: Ensemble
    noise: InputNoise | None


def member_logarithms(
    members: Sequence[Member], scaled: Mapping[str, np.ndarray], device: torch.device
) -> list[np.ndarray]:
    """Compute what each member tells of the logarithm of the factor, (n, k) at scaled inputs, without bounds."""
    return [member_outputs(member, scaled[member.scaling], device) for member in members]


def log_factor(outputs: Sequence[Any], weights: Any, low: Any, high: Any) -> Any:
    """Logarithm (n, k) of the factor on the variance, for outputs (n, k) of the members; arrays or tensors."""
    return mixture_mean(outputs, weights).clip(low, high)
