"""Predictions held against what came true: what regression and classification share.

:mod:`skgn.residuals` makes the findings about a regression, and :mod:`skgn.probabilities` those about a classification.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import poisson

from .classifier import GNClassifier
from .directions import serves_evidence
from .regressor import GNRegressor
from .report import SHOWN, Finding

__all__ = [
    "MATERIAL",
    "RARE",
    "STANDARD_ERRORS",
    "Comparison",
    "in_errors",
    "more_regularisation",
    "named_rows",
    "skill_finding",
    "too_many",
    "worst_rows",
]

#: An alarm needs this many standard errors, so that few rows do not cry wolf: one in 370 by chance.
STANDARD_ERRORS = 3.0

#: Or, where a count tells, a smaller probability than this under the model.
RARE = 1e-3

#: Coverage or confidence off by less makes no practical difference, however many rows show it.
MATERIAL = 0.05

#: A skill counts from so many standard errors on; fewer rows than this cannot show one that is there.
_SKILL_ERRORS, _FEW_ROWS = 2.0, 100


def more_regularisation(model: GNRegressor | GNClassifier) -> str | None:
    """Advise where a float l2 is too small; None where the evidence has found the precisions."""
    l2 = model.estimators_[0].prior_kind.l2
    if l2 is None:
        return None
    solver = "" if serves_evidence(model.solver) else 'solver="auto" and '
    larger = f"a float above {l2:g}" if l2 > 0 else "a positive float"
    return f'{solver}l2_regularization="evidence", or {larger}'


@dataclass(frozen=True)
class Comparison:
    """A model and targets (n, k), for rows X of positive weights; ``rows`` is where these were."""

    model: Any
    X: Any
    y: np.ndarray
    weight: np.ndarray
    rows: np.ndarray

    @property
    def total(self) -> float:
        return float(self.weight.sum())

    def mean(self, values: np.ndarray) -> np.ndarray:
        """Weighted mean over the rows."""
        return np.average(values, axis=0, weights=self.weight)

    def gain(self, better: np.ndarray, worse: np.ndarray) -> tuple[float, float]:
        """Return by how much the better losses (n,) are lower than the worse ones: mean and its standard error."""
        difference = worse - better
        mean = float(self.mean(difference))
        return mean, math.sqrt(float(self.mean(np.square(difference - mean))) / max(self.total - 1, 1))

    @property
    def narrow_advice(self) -> str:
        """Advice where the predictions are surer than they should be."""
        drift = "compare the rows of X, y with the training rows (overfitting or drift), refit on both"
        return more_regularisation(self.model) or drift


def skill_finding(
    data: Comparison, constant: str, gain: float, error: float, numbers: dict[str, Any], text: str
) -> Finding:
    """Make the finding on the skill: by how much predictions gain on the best constant, and the error of that."""
    if gain > _SKILL_ERRORS * error:
        return Finding("skill", f"better than the {constant}", numbers, text)
    if gain > 0 and data.total < _FEW_ROWS:
        return Finding("skill", "unknown", numbers, text + "; too few rows to tell")
    if not data.model.standardize:
        # Before all else: priors start from a unit scale.
        advice = "standardize=True, as priors start from inputs of unit scale"
        return Finding("skill", f"no better than the {constant}", numbers, text, advice)
    advice = more_regularisation(data.model) or "check that the rows of X and y belong together, or find other features"
    return Finding("skill", f"no better than the {constant}", numbers, text, advice)


def in_errors(gain: float, error: float) -> str:
    """Write a gain as a multiple of its standard error."""
    return f"{gain / error:.1f}" if error > 0 else "no"


def too_many(count: float, expected: float) -> bool:
    """Whether so many rare events hardly come by chance, by the Poisson law."""
    return bool(poisson.sf(math.ceil(count) - 1, expected) < RARE)


def worst_rows(data: Comparison, size: np.ndarray, counted: np.ndarray) -> list[int]:
    """Return where the rows of the largest sizes among those that are counted were, the largest first."""
    order = np.argsort(-size, kind="stable")[:SHOWN]
    return data.rows[order[counted[order]]].tolist()


def named_rows(rows: list[int]) -> str:
    """Write the numbers of rows as a text."""
    return f"row{'s' if len(rows) > 1 else ''} {', '.join(map(str, rows))}"
