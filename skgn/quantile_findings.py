"""Findings about predicted quantiles: what they are worth, and whether as many targets lie below as should.

Of noise a quantile tells nothing, nor a residual of how large it should be. But whether a target lies below is a toss
of a coin, the same everywhere. Where a column tells how the toss comes out, the fit lacks something.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np

from .baselines import quantile_regressions
from .comparison import MATERIAL, RARE, Case, named_rows
from .judging import pinball
from .report import Finding
from .residual_findings import ABOVE_NOISE, listed, two_sided, worth_findings
from .residuals import RegressionComparison
from .wording import SHOWN, first_few

__all__ = ["quantile_findings"]


#: Many targets are equal where more than this part of the rows has the same. A quantile is equal to them within so many
#: losses of training: half the width of the parabola of :class:`~skgn.robust_losses.QuantileLoss`.
_TIED, _NEAR = 0.05, 0.5

#: Losses count up to so many of training over 4 q (1 - q), as in training.
_FAR = 10.0

#: Rows are far out that make this part of the loss, and are at most such a part of all rows.
_MOST, _FEW = 0.5, 0.02


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
        """Whether the targets (n, k) are at most as large as the quantile, 1 or 0.

        Many targets that are equal may be equal to their quantile. Each of them counts its level: neither too many
        nor too few lie below.
        """
        shares = np.column_stack([_share_of_equals(y, self.weight) for y in self.y.T])
        on = (shares > _TIED) & (np.abs(self.residual) < _NEAR * self.loss_in_training)
        return np.where(on, self.levels, self.residual <= 0)

    @property
    def left(self) -> np.ndarray:
        return self.levels - self.below

    @property
    def tested(self) -> np.ndarray:
        return self.left

    @cached_property
    def most_of_loss(self) -> tuple[list[int], float]:
        """The fewest rows that make most of the loss, and their part of it; no rows where these are many."""
        shares = self.weight * self.losses[0] / max(float(self.weight @ self.losses[0]), np.finfo(float).tiny)
        order = np.argsort(-shares, kind="stable")
        together = np.cumsum(shares[order])
        count = int(np.searchsorted(together, _MOST, side="right")) + 1
        if count > min(SHOWN, _FEW * len(shares)):
            return [], float(shares.max())
        return self.rows[order[:count]].tolist(), float(together[count - 1])

    @property
    def spoilers(self) -> list[int]:
        return self.most_of_loss[0]

    @property
    def negative(self) -> float:
        return 0.0

    def _simple_models(self, columns: np.ndarray, Y: np.ndarray, weight: np.ndarray) -> dict[str, np.ndarray]:
        return quantile_regressions(columns, Y, weight, self.levels)

    @cached_property
    def each_loss(self) -> np.ndarray:
        """Pinball losses (n, k), in units of ``unit``."""
        return pinball(self.residual / self.unit, self.levels)

    @property
    def loss(self) -> np.ndarray:
        """Mean pinball loss (k,)."""
        return self.unit * self.mean(self.each_loss)

    @property
    def ratio(self) -> float:
        """That loss in losses of training, of the quantile where it is most; gross errors count little in either."""
        in_training = np.maximum(self.loss_in_training / self.unit, np.finfo(float).tiny)
        most = _FAR / (4 * self.levels * (1 - self.levels))
        ratios = self.mean(np.minimum(self.each_loss / in_training, most))
        return float(np.max(ratios, where=self.noisy, initial=0.0))

    @property
    def loss_in_training(self) -> np.ndarray:
        """The same (k,) of the training rows: the scale of an asymmetric Laplace distribution."""
        return self.noise_std * np.sqrt(self.levels * (1 - self.levels))


def quantile_findings(case: Case) -> tuple[Finding, ...]:
    """Skill, noise and calibration of predicted quantiles on a case."""
    data = _Quantiles.of(case)
    worth = worth_findings(data, {"pinball_loss": data.loss}, f"pinball loss {listed(data.loss)}")
    return *worth, _noise(data), _outliers(data), _levels(data)


def _noise(data: _Quantiles) -> Finding:
    numbers = {"noise_std": data.noise_std, "loss_in_training": data.loss_in_training, "ratio": data.ratio}
    if not data.noisy.any():
        return Finding("noise", "unknown", numbers, "unknown: there is none, or y is constant here")
    if not np.isfinite(data.noise_std).all():
        return Finding("noise", "unknown", numbers, "unknown, without a posterior")
    text = f"pinball loss {data.ratio:.3g} times that in training"
    if data.ratio <= ABOVE_NOISE:
        return Finding("noise", "as estimated", numbers, text)
    if data.elsewhere:
        return Finding("noise", "overfitted or shifted", numbers, text, data.narrow_advice)
    return Finding("noise", "few rows", numbers, text + ": more rows would help")


def _outliers(data: _Quantiles) -> Finding:
    """Find rows that make most of the loss: a quantile tells no other size of a residual."""
    if data.constant or not data.losses[0].any():
        return Finding("outliers", "unknown", {}, "unknown: nothing is left over to look at")
    rows, share = data.most_of_loss
    if not rows:
        return Finding("outliers", "as expected", {"share": share}, f"one row makes {share:.0%} of the loss at most")
    numbers, text = {"share": share, "rows": rows}, f"{share:.0%} of the loss is that of {named_rows(rows)}"
    return Finding("outliers", "far out", numbers, text, f"look at {named_rows(rows)}")


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
        worst = int(np.argmax(np.where(data.levels == level, np.abs(off) * data.varies, -1.0)))
        output = f" (output {worst % data.n_columns})" if data.n_columns > 1 else ""
        parts.append(f"of {level:g} in {below[worst]:.1%} +- {error[worst]:.1%}{output}")
    numbers = {"levels": data.levels, "below": below, "errors": error}
    text = f"y lies below its quantile {', '.join(first_few(parts))} of the rows"
    if not (found & (np.abs(off) > material)).any():
        return Finding("calibration", "good", numbers, text)
    verdict = _how_off(off[found], data.levels[found])
    advice = None if verdict == "too wide" else data.narrow_advice
    return Finding("calibration", verdict, numbers, f"{text}: {verdict}", advice)


def _share_of_equals(y: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Part of the rows (n,) that have the same target."""
    _, place = np.unique(y, return_inverse=True)
    return np.asarray(np.bincount(place, weights=weight)[place] / weight.sum())


def _how_off(off: np.ndarray, levels: np.ndarray) -> str:
    """How quantiles are off, below which too many (``off`` positive) or too few targets lie."""
    if len(set(np.sign(off))) == 1:
        return "too high" if off[0] > 0 else "too low"
    inwards = off * (0.5 - levels)
    if (inwards >= 0).all():
        return "too narrow"
    return "too wide" if (inwards <= 0).all() else "another shape"
