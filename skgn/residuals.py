"""Residuals of a regression: its skill and noise, outliers, and whether stated intervals hold what they should.

Residuals are standardised by their predicted standard deviations and held against the distribution of the noise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import binom, norm

from .baselines import BOOSTING, regressions
from .calibration import (
    MATERIAL,
    RARE,
    STANDARD_ERRORS,
    Comparison,
    baseline_finding,
    in_errors,
    member_finding,
    more_flexible,
    named_rows,
    skill_finding,
    too_many,
    worst_rows,
)
from .directions import lacking
from .estimator import fitted_likelihood, table_and_target
from .losses import Loss
from .mixture import voters
from .regressor import GNRegressor
from .report import SHOWN, Finding
from .screening import ColumnTests, column_tests
from .weighted_rows import magnitude, weighted_quantile

__all__ = ["residual_findings"]

#: Intervals that are too wide do less harm than those that are too narrow.
_MATERIAL_WIDE = 0.1

#: Residuals are typically this many times the predicted standard deviations before these are called too small.
_TOO_NARROW = 1.25

#: And this many times the noise before a fit is called overfitted or out of its range: twice the noise variance.
_ABOVE_NOISE = math.sqrt(2)

#: Residuals are typically this part of the noise or less where outliers in the training data have inflated it.
_INFLATED = 0.8

#: Estimates of the noise end at about this part of the standard deviation of y, where its size says nothing.
_LEAST_NOISE = 2e-6

#: A residual is called an outlier beyond so many standard deviations: normal noise has one in 16,000 there.
_OUTLIER = 4.0

#: Central intervals whose coverage is counted.
_INTERVALS = (0.5, 0.9)

#: Where a column tells more of the residuals than this part of their variance, the fit lacks something.
_POOR_FIT = 0.1

#: What residuals may depend on, beside a feature.
_PREDICTION = "the prediction"

#: Standard error of the median of absolute normal values, relative to that median, times sqrt(n).
_MEDIAN_ERROR = 1.17


class _Far(NamedTuple):
    """Residuals far out: sizes of rows (n,), how many outliers are ``found`` and ``expected``, and if they are many.

    ``alone`` (n,) is whether a row is so far out that it hardly comes by chance, even as the only one.
    """

    size: np.ndarray
    found: float
    expected: float
    many: bool
    alone: np.ndarray


@dataclass(frozen=True)
class _Residuals(Comparison):
    """Predictions of a regressor; arrays are (n, k), and features have ``names``."""

    names: list[str]

    @cached_property
    def _prediction(self) -> tuple[np.ndarray, np.ndarray | None]:
        known = all(member.posterior is not None for member in voters(self.model.estimators_, self.model.weights_)[0])
        known = known and not self.likelihood.without_std
        mean, std = self.model.predict(self.X, return_std=True) if known else (self.model.predict(self.X), None)
        shape = self.y.shape
        return np.reshape(mean, shape).astype(float), None if std is None else np.reshape(std, shape).astype(float)

    @cached_property
    def residual(self) -> np.ndarray:
        return self.y - self._prediction[0]

    @property
    def std(self) -> np.ndarray | None:
        """Standard deviations, None where the fit left no posterior."""
        return self._prediction[1]

    @cached_property
    def typical(self) -> np.ndarray:
        """Size of the residuals (k,), robustly: the standard deviation of normal ones with the same median."""
        return weighted_quantile(np.abs(self.residual), self.weight, 0.5) / norm.ppf(0.75)

    @cached_property
    def z(self) -> np.ndarray:
        """Standardised residuals; without standard deviations in units of their typical size."""
        return self.residual / np.maximum(self.typical if self.std is None else self.std, np.finfo(float).tiny)

    @cached_property
    def unit(self) -> np.ndarray:
        """Powers of 2 (k,), in units of which no square of y or of a residual overflows, and which round nothing."""
        largest = np.maximum(np.abs(self.y), np.abs(self.residual)).max(axis=0)
        return np.exp2(np.frexp(magnitude(largest))[1].clip(max=1023))

    @cached_property
    def about_mean(self) -> np.ndarray:
        """The targets less their mean, in those units."""
        return self.y / self.unit - self.mean(self.y / self.unit)

    @cached_property
    def constant(self) -> bool:
        """Whether all rows have the same y."""
        return len(self.y) > 1 and bool((np.ptp(self.y, axis=0) == 0).all())

    @cached_property
    def noisy(self) -> np.ndarray:
        """Whether the estimated noise of each output (k,) is above where estimates end; True where it is unknown."""
        scale = self.unit * np.sqrt(self.mean(np.square(self.about_mean)))
        return ~(np.atleast_1d(self.model.noise_std_) <= _LEAST_NOISE * scale)

    @cached_property
    def likelihood(self) -> Loss:
        loss: Loss = fitted_likelihood(self.model)
        return loss

    @cached_property
    def noise(self) -> Any:
        """The distribution of the noise, of variance 1."""
        return self.likelihood.standard_noise()

    @cached_property
    def spread(self) -> float:
        """Typical size of the standardised residuals in units of that of the noise; of the output where it is most."""
        return float(weighted_quantile(np.abs(self.z), self.weight, 0.5).max() / self.noise.ppf(0.75))

    @cached_property
    def losses(self) -> tuple[np.ndarray, np.ndarray]:
        squares, about_mean = np.square(self.residual / self.unit), np.square(self.about_mean)
        variance = self.mean(about_mean)
        safe = np.where(variance > 0, variance, 1)
        return (squares / safe).mean(axis=1), (about_mean / safe).mean(axis=1)

    def simple_losses(self, columns: np.ndarray) -> dict[str, np.ndarray]:
        if self.likelihood.predicts_quantiles:
            return {}
        scale = np.sqrt(self.mean(np.square(self.about_mean)))
        Y = (self.about_mean / np.where(scale > 0, scale, 1))[self.compared]
        found = regressions(columns, Y, self.weight[self.compared])
        return {name: np.square(Y - predicted).mean(axis=1) for name, predicted in found.items()}

    @cached_property
    def tests(self) -> tuple[list[str], ColumnTests, ColumnTests]:
        """What residuals are tested against, by name, and the tests of the residuals and of their sizes."""
        table, _ = table_and_target(self.model)
        name, scaled = next(iter(table.scale(table.encode(table.read(self.model, self.X))).items()))
        columns = np.column_stack([scaled, self._prediction[0]])
        names = [self.names[j] for j in table.features[name]] + [_PREDICTION] * self.y.shape[1]
        residual, size = (column_tests(columns, values, self.weight) for values in (self.z, np.abs(self.z)))
        return names, residual, size

    @cached_property
    def far(self) -> _Far:
        """Which residuals are far out."""
        far, size = np.abs(self.z), np.abs(self.z).max(axis=1)
        count = float(self.weight @ (far > _OUTLIER).sum(axis=1))
        expected = self.total * far.shape[1] * 2 * float(self.noise.sf(_OUTLIER))
        # So large a residual is expected less than once in a thousand such data sets.
        alone = self.total * far.shape[1] * 2 * self.noise.sf(size) < RARE
        return _Far(size, count, expected, too_many(count, expected), alone)

    @cached_property
    def lacking(self) -> str:
        """What the residuals depend on: a feature, or the prediction; empty if nothing is found.

        Then it is the fit that lacks something, whatever the residuals look like.
        """
        if self.constant or not self.noisy.any():
            return ""
        names, residual, _ = self.tests
        found = (residual.p < RARE) & (residual.share > _POOR_FIT)
        return names[int(np.argmax(np.where(found, residual.share, 0)))] if found.any() else ""

    @cached_property
    def overshooting(self) -> bool:
        """Whether the residuals depend on the prediction as it is too far from the mean: they fall where it rises."""
        prediction = self._prediction[0] / self.unit
        slope = self.mean((prediction - self.mean(prediction)) * self.residual / self.unit)
        return self.lacking == _PREDICTION and float(slope.min()) < 0

    @cached_property
    def left_over(self) -> float:
        """Part of the residuals' variance that boosting finds in rows that it has not seen; 0 if it may be chance."""
        if not self.comparable or not self.noisy.any():
            return 0.0
        residual = (self.residual / self.unit)[self.compared]
        residual -= np.average(residual, axis=0, weights=self.weight[self.compared])
        variance = np.average(np.square(residual), axis=0, weights=self.weight[self.compared])
        Y = residual / np.sqrt(np.maximum(variance, np.finfo(float).tiny))
        found = regressions(self.columns, Y, self.weight[self.compared])
        if BOOSTING not in found:
            return 0.0
        gain, error = self.gain_at(np.square(Y - found[BOOSTING])[:, 0], np.square(Y)[:, 0])
        return gain if gain > max(STANDARD_ERRORS * error, _POOR_FIT) else 0.0

    @property
    def unbent(self) -> bool:
        """Whether the fit lacks what the residuals tell."""
        return bool(self.lacking or self.left_over) and not self.overshooting

    @property
    def underfit(self) -> bool:
        return self.unbent or super().underfit

    @cached_property
    def varying(self) -> str:
        """What the size of the residuals depends on: a feature, or the prediction; empty if nothing is found.

        Where the residuals themselves depend on a feature, it is the fit that lacks something, not the noise.
        """
        if self.std is None or self.constant or not self.noisy.any() or self.underfit:
            return ""
        names, _, size = self.tests
        return names[int(np.argmin(size.p))] if size.p.min() < RARE else ""

    @property
    def noise_advice(self) -> str | None:
        """How to fit noise that depends on the inputs; None where the fit has done so as well as it can."""
        if self.model.noise_ == "input":
            return None
        changes = ['noise="input"']
        if not self.likelihood.may_depend_on_input:
            changes.append('loss="student_t"')
        if not isinstance(self.model.l2_regularization, str):
            changes.append('l2_regularization="evidence"')
        return " and ".join(changes)

    @property
    def too_narrow(self) -> bool:
        """Whether the residuals are typically larger than their standard deviations."""
        error = _MEDIAN_ERROR * self.spread / math.sqrt(self.total)
        return self.std is not None and self.spread > max(_TOO_NARROW, 1 + STANDARD_ERRORS * error)


def residual_findings(
    model: GNRegressor, X: Any, y: np.ndarray, weight: np.ndarray, rows: np.ndarray, names: list[str]
) -> tuple[Finding, ...]:
    """Skill, noise, outliers and calibration of a regressor on X and y, rows of positive weight.

    Features have ``names``.
    """
    data = _Residuals(model, X, y.reshape(len(y), -1), weight, rows, names)
    beside = baseline_finding(data, "R2"), member_finding(data, "R2")
    return _skill(data), *beside, _left_over(data), _noise(data), _outliers(data), _coverage(data)


def _skill(data: _Residuals) -> Finding:
    about_mean, squares = np.square(data.about_mean), np.square(data.residual / data.unit)
    variance, error = data.mean(about_mean), data.mean(squares)
    numbers: dict[str, Any] = {"rmse": data.unit * np.sqrt(error), "y_std": data.unit * np.sqrt(variance)}
    rmse = f"rmse {_listed(numbers['rmse'])}"
    if not (variance > 0).all():
        return Finding("skill", "unknown", numbers, f"{rmse}; y is constant here: nothing to explain")
    r2, r2_error = data.gain(*data.losses)
    numbers |= {"r2": r2, "standard_error": r2_error}
    written = f"{r2:.2f}" if abs(r2) < 1e4 else f"{r2:.2g}"
    text = (
        f"R2 {written} ({in_errors(r2, r2_error)} standard errors); {rmse} where y has std {_listed(numbers['y_std'])}"
    )
    return skill_finding(data, "mean", numbers, text)


def _left_over(data: _Residuals) -> Finding:
    if data.constant or not data.noisy.any():
        return Finding("residuals", "unknown", {}, "unknown: nothing is left over to look at")
    names, residual, _ = data.tests
    found = int(np.argmax(residual.share))
    numbers = {"depends_on": data.lacking, "share": float(residual.share[found]), "p": float(residual.p[found])}
    if not data.lacking and not data.left_over:
        return Finding("residuals", "nothing found", numbers, "no feature, nor the prediction, tells much of them")
    if not data.lacking:
        numbers["share"] = data.left_over
        text = f"boosting finds {data.left_over:.0%} of their variance: the fit lacks that"
        return Finding("residuals", "depend", numbers, text, more_flexible(data.model))
    share = float(residual.share[names.index(data.lacking)])
    text = f"their mean depends on {data.lacking}, which tells {share:.0%} of their variance"
    if data.overshooting:
        text += ": predictions are too far from the mean"
        return Finding("residuals", "overshooting", numbers, text, data.narrow_advice)
    text += ": the fit lacks that"
    return Finding("residuals", "depend", numbers, text, more_flexible(data.model))


def _listed(values: np.ndarray) -> str:
    return ", ".join(f"{value:.3g}" for value in values[:SHOWN]) + (", ..." if len(values) > SHOWN else "")


def _noise(data: _Residuals) -> Finding:
    noise = np.atleast_1d(data.model.noise_std_)
    kind = data.likelihood.label
    if data.likelihood.target_kind != "values":
        numbers = {"noise_std": noise, "residual_std": data.typical, "spread": data.spread}
        text = f"{kind}, growing with the mean; residuals {data.spread:.3g} times "
        return Finding(
            "noise", "as assumed", numbers, text + ("their typical size" if data.std is None else "the predicted std")
        )
    if not np.isfinite(noise).all():
        text = f"unknown, without a posterior; residuals are typically {_listed(data.typical)}"
        return Finding("noise", "unknown", {"noise_std": noise, "residual_std": data.typical}, text)
    ratio = float((data.typical / np.maximum(noise, np.finfo(float).tiny)).max())
    numbers = {"noise_std": noise, "residual_std": data.typical, "ratio": ratio, "spread": data.spread}
    text = f"{kind}, std {_listed(noise)}; residuals {ratio:.3g} times that, {data.spread:.3g} times the predicted std"
    if data.varying:
        numbers |= {"varies_with": data.varying}
        text += f"; their size depends on {data.varying}"
        return Finding("noise", "depends on the input", numbers, text, data.noise_advice)
    if data.too_narrow and ratio > _ABOVE_NOISE:
        return Finding("noise", "overfitted or shifted", numbers, text, data.narrow_advice)
    if ratio > _ABOVE_NOISE:
        return Finding("noise", "few rows", numbers, text + ": more rows would help")
    return Finding("noise", "as estimated", numbers, text)


def _outliers(data: _Residuals) -> Finding:
    if data.constant or not data.noisy.any():
        why = "y is constant here" if data.constant else "without noise there are no sizes to compare with"
        return Finding("outliers", "unknown", {}, f"unknown: {why}")
    size, count, expected, many, alone = data.far
    rows = worst_rows(data, size, size > _OUTLIER if many else alone)
    numbers = {"count": count, "expected": expected, "rows": rows, "largest": float(size.max())}
    unit = "std" if data.std is not None else "typical residuals"
    text = f"{count:g} beyond {_OUTLIER:g} {unit}, {expected:.2g} expected; largest {size.max():.3g}"
    if not many and not alone.any():
        return Finding("outliers", "as expected", numbers, text)
    text += f"; {named_rows(rows)}"
    if not many:
        return Finding("outliers", "far out", numbers, text, f"look at {named_rows(rows)}")
    if data.too_narrow:
        # All are too far away, not some.
        return Finding("outliers", "many", numbers, text, data.narrow_advice)
    if data.underfit:
        text += ": of a fit that lacks something, not of the noise"
        return Finding("outliers", "poor fit", numbers, text, more_flexible(data.model))
    if data.varying:
        text += f": the noise depends on {data.varying}"
        return Finding("outliers", "louder noise", numbers, text, data.noise_advice)
    advice = f"look at {named_rows(rows)}"
    if data.likelihood.robust_alternative:
        advice += f', use loss="{data.likelihood.robust_alternative}" if the training data have such'
    return Finding("outliers", "many", numbers, text, advice)


def _coverage(data: _Residuals) -> Finding:
    if data.constant:
        return Finding("calibration", "unknown", {}, "unknown: y is constant here")
    if data.std is None:
        if data.likelihood.without_std:
            return Finding("calibration", "unknown", {}, f"unknown: no std with {data.likelihood.label} noise")
        solver = data.model.solver_
        unknown = lacking(solver, data.model.batch_size is not None)
        why = f"solver {solver} has none" if unknown else "l2 leaves weights free"
        return Finding("calibration", "unknown", {}, f"unknown: no std without a posterior ({why})")
    numbers: dict[str, float] = {}
    parts, furthest = [], 0.0
    for level in _INTERVALS:
        inside = data.mean(np.abs(data.z) <= data.noise.ppf(0.5 + level / 2))
        worst = int(np.argmax(np.abs(inside - level)))
        error = math.sqrt(level * (1 - level) / data.total)
        # Each output is another chance to be far off.
        by_chance = _two_sided(float(inside[worst]), level, data.total) * len(inside)
        off = float(inside[worst]) - level
        material = MATERIAL if off < 0 else _MATERIAL_WIDE
        alarm = by_chance < RARE and abs(off) > max(material, abs(furthest))
        furthest = off if alarm else furthest
        numbers |= {f"coverage_{100 * level:.0f}": float(inside[worst]), f"error_{100 * level:.0f}": error}
        output = f" (output {worst})" if len(inside) > 1 else ""
        parts.append(f"{level:.0%} intervals hold {inside[worst]:.0%} +- {error:.0%}{output}")
    text = ", ".join(parts)
    if furthest < 0:
        return Finding("calibration", "too narrow", numbers, text + ": too narrow", data.narrow_advice)
    if furthest > 0:
        typical, noise = data.typical, np.atleast_1d(data.model.noise_std_)
        # By their median and by their squares: residuals of a poor fit are small in the median only.
        rms = np.sqrt(data.mean(np.square(data.residual / data.unit))) * data.unit
        inflated = data.noisy & (typical > 0) & (np.maximum(typical, rms) < _INFLATED * noise)
        robust, advice = data.likelihood.robust_alternative, None
        if data.varying:
            advice = data.noise_advice
        elif robust and inflated.any():
            advice = f'loss="{robust}", as outliers in the training data may have inflated the noise'
        elif data.unbent:
            advice = more_flexible(data.model)
        return Finding("calibration", "too wide", numbers, text + ": too wide", advice)
    return Finding("calibration", "good", numbers, text)


def _two_sided(part: float, level: float, total: float) -> float:
    """Probability that of so many rows a part at least as far from ``level`` lies inside, by the binomial law."""
    n, k = round(total), round(part * total)
    return 2 * min(float(binom.cdf(k, n, level)), float(binom.sf(k - 1, n, level)))
