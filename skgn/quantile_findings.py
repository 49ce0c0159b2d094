"""Findings about predicted quantiles: what they are worth, and whether as many targets lie below as should.

Of noise a quantile tells nothing, nor a residual of how large it should be. But whether a target lies below is a toss
of a coin, the same everywhere. Where a column tells how the toss comes out, the fit lacks something.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
from scipy.stats import norm

from .baselines import quantile_regressions
from .comparison import MATERIAL, RARE, Case
from .judging import pinball
from .report import Finding
from .residual_findings import ABOVE_NOISE, listed, two_sided, worth_findings
from .residuals import RegressionComparison
from .weighted_rows import weighted_quantile
from .wording import first_few

__all__ = ["quantile_findings"]


@dataclass(frozen=True)
class _Quantiles(RegressionComparison):
    """Predicted quantiles. Arrays are (n, k) with a column for each quantile, of each output in turn."""

    told: ClassVar[str] = "sign"

    @classmethod
    def of(cls, case: Case) -> _Quantiles:
        each = super().of(case)
        levels = each._target.levels or ()
        return cls(case.model, case.X, np.tile(each.y, (1, max(len(levels), 1))), case.weight, case.rows, case.names)

    @cached_property
    def levels(self) -> np.ndarray:
        """Levels (k,) of the quantiles."""
        return np.repeat(np.atleast_1d(self._target.quantile), self.n_columns)

    @cached_property
    def below(self) -> np.ndarray:
        """Whether the targets (n, k) are at most as large as the quantile."""
        return self.residual <= 0

    @property
    def left(self) -> np.ndarray:
        return self.levels - self.below

    @property
    def tested(self) -> np.ndarray:
        return self.left

    @cached_property
    def typical(self) -> np.ndarray:
        return weighted_quantile(np.abs(self._about_median), self.weight, 0.5) / norm.ppf(0.75)

    @cached_property
    def z(self) -> np.ndarray:
        return self._about_median / np.maximum(self.typical, np.finfo(float).tiny)

    @cached_property
    def _about_median(self) -> np.ndarray:
        return self.residual - weighted_quantile(self.residual, self.weight, 0.5)

    @property
    def negative(self) -> float:
        return 0.0

    def _simple_models(self, columns: np.ndarray, Y: np.ndarray, weight: np.ndarray) -> dict[str, np.ndarray]:
        return quantile_regressions(columns, Y, weight, self.levels)

    @cached_property
    def loss(self) -> np.ndarray:
        """Mean pinball loss (k,)."""
        return self.unit * self.mean(pinball(self.residual / self.unit, self.levels))

    @property
    def loss_in_training(self) -> np.ndarray:
        """The same (k,) of the training rows: the scale of an asymmetric Laplace distribution."""
        return self.noise_std * np.sqrt(self.levels * (1 - self.levels))


def quantile_findings(case: Case) -> tuple[Finding, ...]:
    """Skill, noise and calibration of predicted quantiles on a case."""
    data = _Quantiles.of(case)
    worth = worth_findings(data, {"pinball_loss": data.loss}, f"pinball loss {listed(data.loss)}")
    why = "unknown: quantiles do not tell how far out other targets may be"
    return *worth, _noise(data), Finding("outliers", "unknown", {}, why), _levels(data)


def _noise(data: _Quantiles) -> Finding:
    ratios = data.loss / np.maximum(data.loss_in_training, np.finfo(float).tiny)
    ratio = float(np.max(ratios, where=data.noisy, initial=0.0))
    numbers = {"noise_std": data.noise_std, "loss_in_training": data.loss_in_training, "ratio": ratio}
    if not data.noisy.any():
        return Finding("noise", "unknown", numbers, "unknown: there is none, or y is constant here")
    text = f"pinball loss {ratio:.3g} times that in training"
    if ratio <= ABOVE_NOISE:
        return Finding("noise", "as estimated", numbers, text)
    if data.elsewhere:
        return Finding("noise", "overfitted or shifted", numbers, text, data.narrow_advice)
    return Finding("noise", "few rows", numbers, text + ": more rows would help")


def _levels(data: _Quantiles) -> Finding:
    """Hold the part of the targets that lie below each quantile against its level."""
    if data.constant:
        return Finding("calibration", "unknown", {}, "unknown: y is constant here")
    below = data.mean(data.below)
    off, error = below - data.levels, np.sqrt(data.levels * (1 - data.levels) / data.total)
    # Each quantile is another chance to be far off.
    pairs = zip(below.tolist(), data.levels.tolist(), strict=True)
    by_chance = np.array([two_sided(part, level, data.total) for part, level in pairs]) * len(below)
    found = (by_chance < RARE) & data.varies
    # Of a rare event, twice as many are too many.
    material = np.minimum(MATERIAL, np.minimum(data.levels, 1 - data.levels))
    parts = []
    for level in np.unique(data.levels):
        worst = int(np.argmax(np.abs(off) * data.varies * (data.levels == level)))
        output = f" (output {worst % data.n_columns})" if data.n_columns > 1 else ""
        parts.append(f"of {level:g} in {below[worst]:.1%} +- {error[worst]:.1%}{output}")
    numbers = {"levels": data.levels, "below": below, "errors": error}
    text = f"y lies below its quantile {', '.join(first_few(parts))} of the rows"
    if not (found & (np.abs(off) > material)).any():
        return Finding("calibration", "good", numbers, text)
    verdict = _how_off(off[found], data.levels[found])
    advice = None if verdict == "too wide" else data.narrow_advice
    return Finding("calibration", verdict, numbers, f"{text}: {verdict}", advice)


def _how_off(off: np.ndarray, levels: np.ndarray) -> str:
    """How quantiles are off, below which too many (``off`` positive) or too few targets lie."""
    if len(set(np.sign(off))) == 1:
        return "too high" if off[0] > 0 else "too low"
    inwards = off * (0.5 - levels)
    if (inwards >= 0).all():
        return "too narrow"
    return "too wide" if (inwards <= 0).all() else "another shape"
