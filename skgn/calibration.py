"""Predictions held against what came true: skill, noise, outliers, and whether their stated uncertainty is right.

A regression's residuals are standardised by their predicted standard deviations and held against the distribution of
its noise; a classifier's probabilities against how often what they were given to came true.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy.stats import binom, norm, poisson

from .classifier import GNClassifier
from .directions import lacking, serves_evidence
from .estimator import fitted_likelihood
from .losses import Loss
from .mixture import voters
from .regressor import GNRegressor
from .report import SHOWN, Finding
from .weighted_rows import weighted_quantile

__all__ = ["more_regularisation", "probability_findings", "residual_findings"]

#: An alarm needs this many standard errors, so that few rows do not cry wolf: one in 370 by chance.
_STANDARD_ERRORS = 3.0

#: Or, where a count tells, a smaller probability than this under the model.
_RARE = 1e-3

#: Coverage or confidence off by less makes no practical difference, however many rows show it; intervals that are too
#: wide do less harm.
_MATERIAL, _MATERIAL_WIDE = 0.05, 0.1

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

#: A class (or label) that was given less probability and came true is called a surprise.
_SURPRISE = 0.01

#: A skill counts from so many standard errors on; fewer rows than this cannot show one that is there.
_SKILL_ERRORS, _FEW_ROWS = 2.0, 100

#: Central intervals whose coverage is counted, and bins of the calibration error.
_INTERVALS, _BINS = (0.5, 0.9), 10

#: Standard error of the median of absolute normal values, relative to that median, times sqrt(n).
_MEDIAN_ERROR = 1.17


def more_regularisation(model: GNRegressor | GNClassifier) -> str | None:
    """Advice for a float l2 that is too small; None where the evidence has found the precisions."""
    l2 = model.estimators_[0].prior
    if isinstance(l2, str):
        return None
    solver = "" if serves_evidence(model.solver) else 'solver="auto" and '
    larger = f"a float above {l2:g}" if l2 > 0 else "a positive float"
    return f'{solver}l2_regularization="evidence", or {larger}'


@dataclass(frozen=True)
class _Predictions:
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
        """Mean (of losses (n,)) by which one is lower than the other, and its standard error."""
        difference = worse - better
        mean = float(self.mean(difference))
        return mean, math.sqrt(float(self.mean(np.square(difference - mean))) / max(self.total - 1, 1))

    @property
    def narrow_advice(self) -> str:
        """What to try where the predictions are surer than they should be."""
        drift = "compare the rows of X, y with the training rows (overfitting or drift), refit on both"
        return more_regularisation(self.model) or drift


class _Residuals(_Predictions):
    """Those of a regressor; arrays are (n, k)."""

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
    def constant(self) -> bool:
        """Whether all rows have the same y."""
        return len(self.y) > 1 and bool((np.ptp(self.y, axis=0) == 0).all())

    @cached_property
    def noisy(self) -> np.ndarray:
        """Whether the estimated noise of each output (k,) is above where estimates end; True where it is unknown."""
        scale = np.sqrt(self.mean(np.square(self.y - self.mean(self.y))))
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

    @property
    def too_narrow(self) -> bool:
        """Whether the residuals are typically larger than their standard deviations."""
        error = _MEDIAN_ERROR * self.spread / math.sqrt(self.total)
        return self.std is not None and self.spread > max(_TOO_NARROW, 1 + _STANDARD_ERRORS * error)


def residual_findings(
    model: GNRegressor, X: Any, y: np.ndarray, weight: np.ndarray, rows: np.ndarray
) -> tuple[Finding, ...]:
    """Skill, noise, outliers and calibration of a regressor on X and y, rows of positive weight."""
    data = _Residuals(model, X, y.reshape(len(y), -1), weight, rows)
    return _skill(data), _noise(data), _outliers(data), _coverage(data)


def _skill(data: _Residuals) -> Finding:
    about_mean, squares = np.square(data.y - data.mean(data.y)), np.square(data.residual)
    variance, error = data.mean(about_mean), data.mean(squares)
    numbers: dict[str, Any] = {"rmse": np.sqrt(error), "y_std": np.sqrt(variance)}
    rmse = f"rmse {_listed(numbers['rmse'])}"
    if not (variance > 0).all():
        return Finding("skill", "unknown", numbers, f"{rmse}; y is constant here: nothing to explain")
    r2, r2_error = data.gain((squares / variance).mean(axis=1), (about_mean / variance).mean(axis=1))
    numbers |= {"r2": r2, "standard_error": r2_error}
    text = f"R2 {r2:.2f} ({_ratio(r2, r2_error)} standard errors); {rmse} where y has std {_listed(numbers['y_std'])}"
    return _skill_finding(data, "mean", r2, r2_error, numbers, text)


def _skill_finding(
    data: _Predictions, constant: str, gain: float, error: float, numbers: dict[str, Any], text: str
) -> Finding:
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


def _ratio(gain: float, error: float) -> str:
    return f"{gain / error:.1f}" if error > 0 else "no"


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
    if data.too_narrow and ratio > _ABOVE_NOISE:
        return Finding("noise", "overfitted or shifted", numbers, text, data.narrow_advice)
    if ratio > _ABOVE_NOISE:
        return Finding("noise", "few rows", numbers, text + ": more rows would help")
    return Finding("noise", "as estimated", numbers, text)


def _outliers(data: _Residuals) -> Finding:
    if data.constant or not data.noisy.any():
        why = "y is constant here" if data.constant else "without noise there are no sizes to compare with"
        return Finding("outliers", "unknown", {}, f"unknown: {why}")
    far, size = np.abs(data.z), np.abs(data.z).max(axis=1)
    count = float(data.weight @ (far > _OUTLIER).sum(axis=1))
    expected = data.total * far.shape[1] * 2 * float(data.noise.sf(_OUTLIER))
    # So large a residual is expected less than once in a thousand such data sets.
    alone = data.total * far.shape[1] * 2 * data.noise.sf(size) < _RARE
    many = _too_many(count, expected)
    rows = _worst_rows(data, size, size > _OUTLIER if many else alone)
    numbers = {"count": count, "expected": expected, "rows": rows, "largest": float(size.max())}
    unit = "std" if data.std is not None else "typical residuals"
    text = f"{count:g} beyond {_OUTLIER:g} {unit}, {expected:.2g} expected; largest {size.max():.3g}"
    if not many and not alone.any():
        return Finding("outliers", "as expected", numbers, text)
    text += f"; {_of_rows(rows)}"
    if not many:
        return Finding("outliers", "far out", numbers, text, f"look at {_of_rows(rows)}")
    if data.too_narrow:
        # All are too far away, not some.
        return Finding("outliers", "many", numbers, text, data.narrow_advice)
    advice = f"look at {_of_rows(rows)}"
    if data.likelihood.robust_alternative:
        advice += f', use loss="{data.likelihood.robust_alternative}" if the training data have such'
    return Finding("outliers", "many", numbers, text, advice)


def _too_many(count: float, expected: float) -> bool:
    return bool(poisson.sf(math.ceil(count) - 1, expected) < _RARE)


def _worst_rows(data: _Predictions, size: np.ndarray, counted: np.ndarray) -> list[int]:
    order = np.argsort(-size, kind="stable")[:SHOWN]
    return data.rows[order[counted[order]]].tolist()


def _of_rows(rows: list[int]) -> str:
    return f"row{'s' if len(rows) > 1 else ''} {', '.join(map(str, rows))}"


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
        material = _MATERIAL if off < 0 else _MATERIAL_WIDE
        alarm = by_chance < _RARE and abs(off) > max(material, abs(furthest))
        furthest = off if alarm else furthest
        numbers |= {f"coverage_{100 * level:.0f}": float(inside[worst]), f"error_{100 * level:.0f}": error}
        output = f" (output {worst})" if len(inside) > 1 else ""
        parts.append(f"{level:.0%} intervals hold {inside[worst]:.0%} +- {error:.0%}{output}")
    text = ", ".join(parts)
    if furthest < 0:
        return Finding("calibration", "too narrow", numbers, text + ": too narrow", data.narrow_advice)
    if furthest > 0:
        typical, noise = data.typical, np.atleast_1d(data.model.noise_std_)
        inflated = data.noisy & (typical > 0) & (typical < _INFLATED * noise)
        robust, advice = data.likelihood.robust_alternative, None
        if robust and inflated.any():
            advice = f'loss="{robust}", as outliers in the training data may have inflated the noise'
        return Finding("calibration", "too wide", numbers, text + ": too wide", advice)
    return Finding("calibration", "good", numbers, text)


def _two_sided(part: float, level: float, total: float) -> float:
    """Probability that of so many rows a part at least as far from ``level`` lies inside, by the binomial law."""
    n, k = round(total), round(part * total)
    return 2 * min(float(binom.cdf(k, n, level)), float(binom.sf(k - 1, n, level)))


class _Probabilities(_Predictions):
    """Those of a classifier; ``y`` (n, 1) are classes, or (n, k) labels when ``multilabel``."""

    @property
    def multilabel(self) -> bool:
        return self.model.predict(self.X).ndim == 2

    @cached_property
    def proba(self) -> np.ndarray:
        return np.asarray(self.model.predict_proba(self.X), dtype=float)

    @cached_property
    def codes(self) -> np.ndarray:
        """Columns of ``proba`` that came true (n, 1); the labels themselves (n, k)."""
        return self.y if self.multilabel else np.searchsorted(self.model.classes_, self.y)

    def of_truth(self, p: np.ndarray) -> np.ndarray:
        """Of the probabilities of classes or labels (n, k) those given to what came true, (n, 1) or (n, k)."""
        return np.where(self.codes == 1, p, 1 - p) if self.multilabel else np.take_along_axis(p, self.codes, 1)

    @cached_property
    def rate(self) -> np.ndarray:
        """How often each class or label came true, (k,)."""
        k = self.proba.shape[1]
        return self.mean(self.y if self.multilabel else np.eye(k)[self.codes[:, 0]])

    @cached_property
    def confidence(self) -> np.ndarray:
        """Probability of what is predicted."""
        return np.maximum(self.proba, 1 - self.proba) if self.multilabel else self.proba.max(axis=1, keepdims=True)

    @cached_property
    def correct(self) -> np.ndarray:
        return np.reshape(self.model.predict(self.X), self.y.shape) == self.y


def probability_findings(
    model: GNClassifier, X: Any, y: np.ndarray, weight: np.ndarray, rows: np.ndarray
) -> tuple[Finding, ...]:
    """Skill, outliers and calibration of a classifier on X and y, rows of positive weight."""
    data = _Probabilities(model, X, y.reshape(len(y), -1), weight, rows)
    return _log_loss(data), _surprises(data), _confidence(data)


def _log_loss(data: _Probabilities) -> Finding:
    tiny = np.finfo(float).tiny
    ours = -np.log(np.maximum(data.of_truth(data.proba), tiny)).sum(axis=1)
    base = -np.log(data.of_truth(np.broadcast_to(data.rate, data.proba.shape))).sum(axis=1)
    gain, error = data.gain(ours, base)
    numbers = {
        "log_loss": float(data.mean(ours)),
        "base_log_loss": float(data.mean(base)),
        "standard_error": error,
        "accuracy": float(data.mean(data.correct).mean()),
    }
    text, accuracy = f"log loss {numbers['log_loss']:.3f}", f"accuracy {numbers['accuracy']:.1%}"
    if not base.any():
        return Finding("skill", "unknown", numbers, f"{text}, {accuracy}; y is constant here")
    text += f", class frequencies {numbers['base_log_loss']:.3f} ({_ratio(gain, error)} standard errors); {accuracy}"
    return _skill_finding(data, "base rate", gain, error, numbers, text)


def _surprises(data: _Probabilities) -> Finding:
    possible = np.hstack([data.proba, 1 - data.proba]) if data.multilabel else data.proba
    expected = float(data.weight @ np.where(possible < _SURPRISE, possible, 0.0).sum(axis=1))
    given = data.of_truth(data.proba)
    count, lowest = float(data.weight @ (given < _SURPRISE).sum(axis=1)), given.min(axis=1)
    # Expected number of events that are given at most so little: rarely is there one by chance.
    order = np.argsort(possible, axis=None)
    events = np.append(0.0, np.cumsum((data.weight[:, None] * possible).ravel()[order]))
    alone = events[np.searchsorted(possible.ravel()[order], lowest, side="right")] < _RARE
    many = _too_many(count, expected)
    rows = _worst_rows(data, -lowest, lowest < _SURPRISE if many else alone)
    numbers = {"count": count, "expected": expected, "rows": rows, "lowest": float(lowest.min())}
    text = f"{count:g} came true at a probability below {_SURPRISE:.0%}, {expected:.2g} expected"
    text += f"; lowest {lowest.min():.2g}"
    if not many and not alone.any():
        return Finding("outliers", "as expected", numbers, text)
    verdict, shown = "many" if many else "far out", _of_rows(rows)
    return Finding("outliers", verdict, numbers, f"{text}; {shown}", f"check the labels of {shown}")


def _confidence(data: _Probabilities) -> Finding:
    c = data.confidence
    # The labels of a row may go wrong together.
    error = math.sqrt(float(data.mean(c * (1 - c)).mean()) / data.total)
    confidence, accuracy = float(data.mean(c).mean()), float(data.mean(data.correct).mean())
    numbers = {
        "confidence": confidence,
        "accuracy": accuracy,
        "gap": confidence - accuracy,
        "standard_error": error,
        "expected_calibration_error": _calibration_error(data),
    }
    text = (
        f"mean confidence {confidence:.1%}, accuracy {accuracy:.1%} +- {error:.1%}; "
        f"calibration error {numbers['expected_calibration_error']:.1%}"
    )
    gap = numbers["gap"]
    if abs(gap) <= max(_MATERIAL, _STANDARD_ERRORS * error):
        return Finding("calibration", "good", numbers, text)
    verdict = "overconfident" if gap > 0 else "underconfident"
    if getattr(data.model, "class_weight", None) is not None:
        advice = "class_weight=None where probabilities matter"
    elif gap > 0:
        advice = data.narrow_advice
    else:
        advice = "CalibratedClassifierCV(FrozenEstimator(model)) on rows kept for it"
    return Finding("calibration", verdict, numbers, f"{text}: {verdict}", advice)


def _calibration_error(data: _Probabilities) -> float:
    """Distance of confidence and accuracy within equal bins of confidence, mean over all predictions."""
    weight = np.repeat(data.weight, data.confidence.shape[1])
    bins = np.minimum((data.confidence.ravel() * _BINS).astype(int), _BINS - 1)
    gaps = np.bincount(bins, weights=weight * (data.confidence - data.correct).ravel())
    return float(np.abs(gaps).sum() / weight.sum())
