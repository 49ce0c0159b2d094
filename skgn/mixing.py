"""Outputs that are combinations of the targets: from these to the targets and back, and their variances.

A ``mixing`` M (k, k) makes the standardised targets z = f M of outputs f (k,). The noises of the outputs are
uncorrelated, so that variances of the targets are those of the outputs times the squares of M. It is None where each
output is a target. Values are arrays or tensors.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .backend import like

__all__ = [
    "covariances_of_targets",
    "log_density_ratio",
    "outputs_of_targets",
    "targets_of_outputs",
    "variances_of_targets",
]


def targets_of_outputs(values: Any, mixing: Any) -> Any:
    """Values (..., k) of the outputs as those of the targets."""
    return values if mixing is None else values @ like(values, mixing)


def outputs_of_targets(Z: np.ndarray, mixing: np.ndarray | None) -> np.ndarray:
    """Standardised targets (n, k) as those of the outputs."""
    return Z if mixing is None else np.linalg.solve(mixing.T, Z.T).T


def variances_of_targets(variances: Any, mixing: Any) -> Any:
    """Variances (..., k) of the outputs as those of the targets."""
    return variances if mixing is None else variances @ like(variances, mixing) ** 2


def covariances_of_targets(covariances: np.ndarray, mixing: np.ndarray | None) -> np.ndarray:
    """Covariances (k, n, n) of each output at n rows as those of each target."""
    return covariances if mixing is None else np.tensordot(mixing.T**2, covariances, axes=1)


def log_density_ratio(mixing: np.ndarray | None) -> float:
    """Logarithm of the density of a sample of the targets (k,) over that of the outputs."""
    return 0.0 if mixing is None else -float(np.linalg.slogdet(mixing)[1])
