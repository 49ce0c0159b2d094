"""What is asked of a target: how y is encoded, what networks are trained on, how outputs become predictions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np

from .losses import Loss
from .posterior import Posterior
from .target_scalers import TargetScaling
from .weighted_rows import repetition_factor

__all__ = ["Target"]


class Target(ABC):
    """What a fit learns of y: how to encode y, what networks are trained on, how outputs become predictions."""

    #: Mean exposure of rates, whose weights are exposures; None where weights are repetitions.
    exposure: float | None = None

    @property
    @abstractmethod
    def n_outputs(self) -> int:
        """Number of outputs of a network."""

    @abstractmethod
    def encode(self, y: Any) -> np.ndarray:
        """Check y against what is known of it, and encode it as floats (n, m)."""

    @abstractmethod
    def weigh(self, Y: np.ndarray, weight: np.ndarray) -> np.ndarray:
        """Return what rows of these encoded targets (n, m) and sample weights (n,) count in training."""

    @abstractmethod
    def to_average(self, Y: np.ndarray, weight: np.ndarray) -> np.ndarray:
        """Return the numbers (n, k) whose means are the codes of levels, of encoded targets."""

    def class_totals(self, Y: np.ndarray, weight: np.ndarray) -> np.ndarray:
        """Sum the sample weights of each class, if there are classes; these sums can be added up."""
        return np.zeros(0)

    def strata(self, Y: np.ndarray) -> np.ndarray | None:
        """Labels (n,) that a validation set contains in equal parts; None if there are none."""
        return None

    @abstractmethod
    def with_scaler(self, fit_scaler: Callable[[type[Loss]], TargetScaling]) -> Target:
        """Return the target with the scaler that the function finds for the loss, if the target has a scaler."""

    def with_exposure(self, Y: np.ndarray, weight: np.ndarray) -> Target:
        """Return the target that knows whether encoded targets (n, m) are rates, and weights (n,) their exposures."""
        return self

    def repetition_factor(self, Y: np.ndarray, weight: np.ndarray) -> float:
        """Return the factor that makes repetitions of sample weights (n,) of encoded targets (n, m), not yet merged."""
        return repetition_factor(weight)

    def as_given(self, weight: np.ndarray) -> np.ndarray:
        """Return the sample weights (n,) of which :meth:`weigh` has made these."""
        return weight

    def merges(self, Y: np.ndarray, weight: np.ndarray) -> bool:
        """Whether equal rows of encoded targets (n, m) and weights (n,) are one row of more weight."""
        return True

    @abstractmethod
    def observations(self, X: np.ndarray, Y: np.ndarray, weight: np.ndarray) -> np.ndarray:
        """Return as how many observations merged rows of inputs (n, d), targets (n, m) and weights (n,) count."""

    def same_units(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the r and q (k,) of :meth:`in_units_of` for units that stay."""
        return np.ones(self.n_outputs), np.zeros(self.n_outputs)

    def in_units_of(self, Y: np.ndarray, weight: np.ndarray) -> tuple[Target, np.ndarray, np.ndarray]:
        """Return the target in units that suit encoded targets (n, m), and r and q: outputs f become r f + q.

        The target stays as it is where its units suit them, or where it has none.
        """
        return self, *self.same_units()

    @abstractmethod
    def transform(self, Y: np.ndarray) -> np.ndarray:
        """Transform encoded targets (n, m) into targets of the network (n, k)."""

    @abstractmethod
    def training_loss(self) -> Loss:
        """Make the loss that training begins with."""

    @abstractmethod
    def likelihood(self, posterior: Posterior | None) -> Loss:
        """Make the loss of the fit, at the noise level of a member's posterior if it is known."""
