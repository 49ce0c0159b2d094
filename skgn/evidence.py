"""Priors on the weights: the precision a of every weight in the objective's 1/2 sum_p a_p w_p^2."""

from __future__ import annotations

import math
from typing import Protocol

from torch import Tensor

from .directions import Direction
from .network import Network
from .objective import Evaluation, Objective

__all__ = ["FixedPrior", "Prior"]


class Prior(Protocol):
    """What training asks of a prior; precisions are per (layer, input), one vector (in + 1,) a layer."""

    precision: list[Tensor]
    log_evidence: float | None
    n_effective_parameters: float
    noise_std: float

    def update(self, objective: Objective, at: Evaluation, direction: Direction) -> Evaluation:
        """Re-estimate after an accepted step; returns the evaluation under the new noise level."""
        ...


class FixedPrior:
    """The same precision for every weight, as given: the objective's l2/2 ||w||^2."""

    log_evidence = None
    n_effective_parameters = math.nan
    noise_std = math.nan

    def __init__(self, network: Network, l2: float, like: Tensor) -> None:
        self.precision = [like.new_full((into,), l2) for _, into in network.shapes]

    def update(self, objective: Objective, at: Evaluation, direction: Direction) -> Evaluation:
        return at
