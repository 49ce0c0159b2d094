"""The history of a training: a row of figures for the start, and one for each iteration."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from torch import Tensor

from .damping import Iterate
from .state import State

__all__ = ["as_arrays", "as_rows", "figures", "line"]


def figures(state: State, iterate: Iterate, first: Tensor, seconds: float) -> dict[str, float]:
    """Make the row of a state; what is not known is nan. ``first`` are the weights that training began with."""
    step, noise = state.step, state.noise_variance
    damping, gain_ratio, norm = (None, None, None) if step is None else (step.damping, step.gain_ratio, step.norm)
    return {
        "objective": iterate.objective,
        "loss": iterate.loss,
        "gradient_norm": iterate.gradient_norm,
        "damping": _known(damping),
        "gain_ratio": _known(gain_ratio),
        "step_norm": _known(norm),
        "distance_from_init": float((state.at.w - first).norm()),
        "n_effective_parameters": _known(state.estimates.n_effective_parameters),
        "log_evidence": _known(state.estimates.log_evidence),
        "noise_std": math.nan if noise is None else math.sqrt(float(noise.mean())),
        "time": seconds,
    }


def _known(value: float | None) -> float:
    return math.nan if value is None else value


def line(n_iter: int, row: Mapping[str, float]) -> str:
    """Return the line that reports a row; numbers stand below those of the rows before."""
    return (
        f"iteration {n_iter:4d}  objective {row['objective']:12.6g}  loss {row['loss']:12.6g}  "
        f"gradient {row['gradient_norm']:8.2e}  damping {row['damping']:8.2e}"
    )


def as_arrays(rows: Sequence[Mapping[str, float]]) -> dict[str, np.ndarray]:
    """Return a history as arrays of equal length, by name.

    Entry 0 is the starting point, whose step figures are nan.
    """
    return {name: np.array([row[name] for row in rows]) for name in rows[-1]}


def as_rows(arrays: Mapping[str, np.ndarray]) -> tuple[dict[str, float], ...]:
    """Return the rows of a history."""
    return tuple(dict(zip(arrays, values, strict=True)) for values in zip(*arrays.values(), strict=True))
