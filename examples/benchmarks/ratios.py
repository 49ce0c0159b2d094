"""Ratios of the figures of two models over data sets, for the summaries of other benchmarks."""

from __future__ import annotations

import itertools

import numpy as np

#: Scores below this are equal: nobody cares by how much an exact fit is more exact than another.
EXACT = 1e-3

#: A figure of each data set.
BySet = dict[str, float]


def means(rows: list[dict[str, str]], field: str, model: str) -> BySet:
    """Mean over the folds of each set where the figure is known."""
    known = [row for row in rows if row["model"] == model and row[field]]
    names = dict.fromkeys(row["set"] for row in known)
    return {name: float(np.mean([float(row[field]) for row in known if row["set"] == name])) for name in names}


def log_ratios(ours: BySet, theirs: BySet) -> np.ndarray:
    """Logarithms of ours over theirs, of the sets that both have, in the order of the names."""
    names = sorted(ours.keys() & theirs.keys())
    return np.array([np.log(max(ours[name], EXACT) / max(theirs[name], EXACT)) for name in names])


def above_zero(figures: BySet) -> BySet:
    """The sets with a figure above 0, as a model without a wrong label has no ratio to another one."""
    return {name: figure for name, figure in figures.items() if figure > 0}


def of_scores(logs: np.ndarray) -> str:
    """Median, geometric mean with its 95 % interval by resampling sets, and sets won and lost by more than 1 %."""
    draws = np.random.default_rng(0).integers(len(logs), size=(10_000, len(logs)))
    low, high = np.exp(np.quantile(logs[draws].mean(axis=1), [0.025, 0.975]))
    won, lost = (logs < np.log(0.99)).sum(), (logs > np.log(1.01)).sum()
    mean = f"geometric mean {np.exp(logs.mean()):.3f} [{low:.3f}, {high:.3f}]"
    return f"median {np.exp(np.median(logs)):.3f}, {mean}, {won} won, {lost} lost"


def print_ratios(rows: list[dict[str, str]], scores: list[str], seconds: str, models: list[str]) -> None:
    """Print a line for each score and other model, of the first model over it, and the median ratio of ``seconds``."""
    first, *others = models
    for field, other in itertools.product([*scores, seconds], others):
        ours, theirs = (means(rows, field, model) for model in (first, other))
        if field == "error":
            ours, theirs = above_zero(ours), above_zero(theirs)
        logs = log_ratios(ours, theirs)
        if len(logs):
            line = f"median {np.exp(np.median(logs)):.3f}" if field == seconds else of_scores(logs)
            print(f"{field} of {first} over {other}, {len(logs)} sets: {line}")
