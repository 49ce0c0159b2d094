"""Lines that ``verbose`` prints: what a fit begins with, what becomes of each candidate, and how the fit has ended."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .status import Status
from .wording import counted

__all__ = [
    "begin_block",
    "begin_lines",
    "candidate_line",
    "combined",
    "cut",
    "deepened",
    "dropped",
    "end_block",
    "end_line",
    "enough",
    "kept",
    "narrowed",
    "of_all_columns",
    "of_discriminant",
    "of_forest",
    "of_radial_units",
    "of_waves",
    "redrawn",
    "refined",
    "stepped",
    "weighing",
]

#: Width of the words for what a candidate is.
_WORDS = 54

#: Names of the figures in the lines of candidates.
_NAMES = f" no  {'network, inputs, prior':{_WORDS}}  iterations      D2  seconds  outcome"


def begin_lines(n_rows: int, n_candidates: int, n_members: int) -> str:
    """Return the lines that begin a fit."""
    candidates, networks = counted(n_candidates, "candidate"), counted(n_members, "network")
    return f"{counted(n_rows, 'distinct row')}, {candidates} for {networks}\n{_NAMES}"


def candidate_line(number: int, words: str, n_iter: int, score: float, seconds: float, outcome: str) -> str:
    """Return the line of a candidate; ``score`` is D2 of left-out samples, nan where it is not known."""
    return f"{number + 1:3d}  {words:{_WORDS}}  {n_iter:10d}  {_rounded(score):>6}  {seconds:7.2f}  {outcome}"


def kept(weight: float, status: Status) -> str:
    """Return the outcome of a candidate that is a member."""
    return f"kept, weight {weight:.2f}" + ("" if status.converged else f", {status.value}")


def dropped(rank: tuple[float, float], last: tuple[float, float]) -> str:
    """Return the outcome of a candidate that is worse than the ``last`` one kept.

    A rank is minus the mean log density of left-out samples and the objective, which decides where the former is equal.
    """
    (behind, objective), (ahead, other) = rank, last
    if behind == ahead:
        return f"dropped, objective {objective:.4g} above {other:.4g}"
    if math.isinf(behind):
        return "dropped, cannot predict left-out rows"
    return f"dropped, {behind - ahead:.2g} nats a row behind"


def cut(name: str, n_weights: int, of: int) -> str:
    """Return the line about a network that is trained with so many of its weights."""
    return f"{name}: {n_weights} of {of} weights, in the leading directions of the inputs; all would take too long"


def enough(n_trained: int, n_members: int, gain: float) -> str:
    """Return the line about members that are not trained, as all of them promise this part of the left-out loss."""
    percent = 100 * max(gain, 0.0)
    return f"{n_trained} of {n_members} networks are enough: all would lower the left-out loss by {percent:.2g} %"


def narrowed(scaling: str, columns: np.ndarray, count: int) -> str:
    """Return the line about so many more candidates that read the ``columns`` of use alone."""
    n = int(columns.sum())
    of_use = f"{counted(n, 'column')} of {scaling} inputs {'is' if n == 1 else 'are'} of use"
    return f"{of_use}: {counted(count, 'more candidate')} for {'it' if n == 1 else 'these'}"


def redrawn(failed: np.ndarray, count: int) -> str:
    """Return the line about so many more candidates, in the place of members that ``failed`` to count, or of all."""
    why = f"{failed.sum()} of {len(failed)} members hardly count" if failed.any() else "little is found"
    return f"{why}: {counted(count, 'more candidate')} of steeper units"


def of_waves(n_waves: int, count: int) -> str:
    """Return the line about so many more candidates that read waves along features."""
    return f"left-out residuals repeat: {counted(count, 'more candidate')} for {counted(n_waves, 'wave')}"


def refined(n_features: int, count: int) -> str:
    """Return the line about so many more candidates that read pieces of features."""
    features = counted(n_features, "feature")
    return f"left-out residuals depend on {features}: {counted(count, 'more candidate')} for finer inputs"


def stepped(n_steps: int, count: int) -> str:
    """Return the line about so many more candidates that read steps."""
    return f"trees tell more: {counted(count, 'more candidate')} for {counted(n_steps, 'step')} of theirs"


def deepened(count: int) -> str:
    """Return the line about so many more candidates of two hidden layers."""
    return f"weights are few for the rows: {counted(count, 'more candidate')} of two hidden layers"


def of_radial_units(n_centres: int) -> str:
    """Return the line about one more candidate, of radial units around so many rows."""
    return f"1 more candidate, of radial units around {counted(n_centres, 'row')}"


def of_all_columns() -> str:
    """Return the line about one more candidate that is linear."""
    return "networks read leading directions alone: 1 more candidate, linear in all inputs"


def of_discriminant() -> str:
    """Return the line about one more candidate, of normal distributions."""
    return "1 more candidate, of normal distributions of the classes"


def of_forest(n_trees: int) -> str:
    """Return the line about one more candidate, of a forest of so many trees."""
    return f"1 more candidate, of a forest of {counted(n_trees, 'tree')}"


def combined(n_targets: int) -> str:
    """Return the line about targets that share noise."""
    return f"{n_targets} targets share noise: networks have combinations of them"


def weighing(n_members: int) -> str:
    """Return the line about members that are trained on with rows weighted by their noise."""
    return f"noise depends on the input: {counted(n_members, 'network')} trained on, quiet rows counting for more"


def end_line(estimator: Any, seconds: float) -> str:
    """Return the line of the whole fit."""
    # The beginning of the sentence: converged, stopped, or failed.
    status, ended = Status(estimator.status_), Status(estimator.status_).sentence.partition(":")[0].lower()
    noise = ", noise depends on the input" if getattr(estimator, "noise_", "constant") == "input" else ""
    networks, D2 = counted(len(estimator.estimators_), "network"), _rounded(estimator.left_out_score_)
    return f"{type(estimator).__name__}: {networks}, D2 {D2}, {seconds:.2f} s, {ended} ({status.value}){noise}"


def _rounded(score: float) -> str:
    """Format D2; no minus is left before zeros."""
    return "-" if math.isnan(score) else f"{round(score, 3) + 0.0:.3f}"


def begin_block(n_rows: int, n_blocks: int) -> str:
    """Return the lines that begin a block of a stream after so many others."""
    return f"block {n_blocks + 1}: {counted(n_rows, 'distinct row')}\n{_NAMES}"


def end_block(n_members: int, n_blocks: int, seconds: float) -> str:
    """Return the line of a whole block."""
    return f"block {n_blocks + 1}: {counted(n_members, 'network')}, {seconds:.2f} s"
