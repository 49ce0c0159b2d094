"""Probabilities of a classification: its skill, surprises, and whether its confidence is as often right."""

from __future__ import annotations

import math
from functools import cached_property

import numpy as np

from .baselines import classifications
from .class_weights import proportions, shifted
from .comparison import MATERIAL, RARE, STANDARD_ERRORS, Case, Comparison, named_rows, too_many, worst_rows
from .estimator import table_and_target
from .forest import FOREST
from .report import Finding
from .shared_findings import baseline_finding, in_errors, member_finding, skill_finding
from .targets import ClassificationTarget

__all__ = ["probability_findings"]

#: A class (or label) that was given less probability and came true is called a surprise.
_SURPRISE = 0.01

#: The part of the rows that a forest knows.
_BY_HEART = 0.999

#: Number of bins of the calibration error.
_BINS = 10


class _Probabilities(Comparison):
    """Predictions of a classifier; ``y`` (n, 1) are classes, or (n, k) labels when ``multilabel``."""

    @property
    def multilabel(self) -> bool:
        return self._target.multilabel

    @cached_property
    def proba(self) -> np.ndarray:
        return np.asarray(self.model.predict_proba(self.X), dtype=float)

    @cached_property
    def truth(self) -> np.ndarray:
        """Columns of ``proba`` that came true (n, 1); the labels themselves (n, k)."""
        return self.y if self.multilabel else np.searchsorted(self.model.classes_, self.y)

    @cached_property
    def factors(self) -> np.ndarray:
        """Class weights (n,) of the true labels, in the unit that the weights of rows have."""
        factors = self._target.row_factors(self.truth)
        return factors * (float((self.weight / factors).sum()) / self.total)

    @cached_property
    def without_class_weights(self) -> np.ndarray:
        """Probabilities (n, k) of the rows as they are, which class weights have not shifted."""
        if self._target.factors is None:
            return self.proba
        return np.exp(shifted(np.log(self.proba), 1 / proportions(self._target.factors)))

    @property
    def _target(self) -> ClassificationTarget:
        _, target = table_and_target(self.model)
        assert isinstance(target, ClassificationTarget)
        return target

    def of_truth(self, p: np.ndarray) -> np.ndarray:
        """Return the probabilities (n, 1) or (n, k) that p (n, k) gives to the classes or labels that came true."""
        return np.where(self.truth == 1, p, 1 - p) if self.multilabel else np.take_along_axis(p, self.truth, 1)

    def loss_of(self, p: np.ndarray) -> np.ndarray:
        """Log losses (n,) of probabilities (n, k)."""
        return -np.log(np.maximum(self.of_truth(p), np.finfo(float).tiny)).sum(axis=1)

    @cached_property
    def losses(self) -> tuple[np.ndarray, np.ndarray]:
        return self.loss_of(self.proba), self.loss_of(np.broadcast_to(self.rate, self.proba.shape))

    def simple_losses(self, columns: np.ndarray) -> dict[str, np.ndarray]:
        if self.multilabel:
            return {}
        at = self.compared
        truth = self.truth[at]
        found = classifications(columns, truth[:, 0], self.weight[at], self.proba.shape[1])
        return {name: -np.log(np.take_along_axis(p, truth, 1)[:, 0]) for name, p in found.items()}

    @cached_property
    def rate(self) -> np.ndarray:
        """Frequency (k,) with which each class or label came true."""
        # A mean of numbers that are alike may differ from them.
        came = self._came_true
        return np.where(np.ptp(came, axis=0) == 0, came[0], self.mean(came))

    @cached_property
    def _came_true(self) -> np.ndarray:
        """Whether each class or label (n, k) came true."""
        return self.y if self.multilabel else np.eye(self.proba.shape[1])[self.truth[:, 0]]

    @property
    def left(self) -> np.ndarray:
        return self._came_true - self.without_class_weights

    @cached_property
    def confidence(self) -> np.ndarray:
        """Probability of what is predicted."""
        return np.maximum(self.proba, 1 - self.proba) if self.multilabel else self.proba.max(axis=1, keepdims=True)

    @cached_property
    def correct(self) -> np.ndarray:
        return np.reshape(self.model.predict(self.X), self.y.shape) == self.y

    @cached_property
    def gap(self) -> tuple[float, float]:
        """By how much the mean confidence is above the accuracy, and the standard error of the latter."""
        c = self.confidence
        # The labels of a row may go wrong together.
        error = math.sqrt(float(self.mean(self.factors[:, None] * c * (1 - c)).mean()) / self.total)
        return float(self.mean(c).mean()) - float(self.mean(self.correct).mean()), error

    @cached_property
    def by_heart(self) -> bool:
        """Whether a forest knows these rows by heart: alone it is hardly ever wrong."""
        forest = [member for member in self.model.estimators_ if member.scaling == FOREST]
        return bool(forest) and float(self.mean(self.with_members(forest).correct).mean()) > _BY_HEART

    @property
    def promise(self) -> float:
        # Here rows count by the weights of their classes; left-out training rows did not.
        return super().promise if self.model.class_weight is None else math.nan

    @property
    def too_sure(self) -> bool:
        gap, error = self.gap
        return gap > max(MATERIAL, STANDARD_ERRORS * error)


def probability_findings(case: Case) -> tuple[Finding, ...]:
    """Skill, outliers and calibration of a classifier on a case."""
    data = _Probabilities.of(case)
    return (
        _log_loss(data),
        baseline_finding(data, "D2"),
        member_finding(data, "D2"),
        _surprises(data),
        _confidence(data),
    )


def _log_loss(data: _Probabilities) -> Finding:
    ours, base = data.losses
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
    text += f", class frequencies {numbers['base_log_loss']:.3f} ({in_errors(gain, error)} standard errors); {accuracy}"
    if data.falls_short:
        text += f"; D2 {gain / float(data.mean(base)):.2f}"
    return skill_finding(data, "base rate", numbers, text)


def _surprises(data: _Probabilities) -> Finding:
    # Surprises are counted among the rows as they are, without class weights.
    p, repetitions = data.without_class_weights, data.weight / data.factors
    possible = np.hstack([p, 1 - p]) if data.multilabel else p
    expected = float(repetitions @ np.where(possible < _SURPRISE, possible, 0.0).sum(axis=1))
    given = data.of_truth(p)
    count, lowest = float(repetitions @ (given < _SURPRISE).sum(axis=1)), given.min(axis=1)
    # Expected number of events that are given at most so little: rarely is there one by chance.
    order = np.argsort(possible, axis=None)
    events = np.append(0.0, np.cumsum((repetitions[:, None] * possible).ravel()[order]))
    alone = events[np.searchsorted(possible.ravel()[order], lowest, side="right")] < RARE
    many = too_many(count, expected)
    rows = worst_rows(data, -lowest, lowest < _SURPRISE if many else alone)
    numbers = {"count": count, "expected": expected, "rows": rows, "lowest": float(lowest.min())}
    text = f"{count:g} came true at a probability below {_SURPRISE:.0%}, {expected:.2g} expected"
    text += f"; lowest {lowest.min():.2g}" + (", all without class weights" if p is not data.proba else "")
    if not many and not alone.any():
        return Finding("outliers", "as expected", numbers, text)
    verdict, shown = "many" if many else "far out", named_rows(rows)
    return Finding("outliers", verdict, numbers, f"{text}; {shown}", f"check the labels of {shown}")


def _confidence(data: _Probabilities) -> Finding:
    (gap, error), accuracy = data.gap, float(data.mean(data.correct).mean())
    confidence = float(data.mean(data.confidence).mean())
    numbers = {
        "confidence": confidence,
        "accuracy": accuracy,
        "gap": gap,
        "standard_error": error,
        "expected_calibration_error": _calibration_error(data),
    }
    text = (
        f"mean confidence {confidence:.1%}, accuracy {accuracy:.1%} +- {error:.1%}; "
        f"calibration error {numbers['expected_calibration_error']:.1%}"
    )
    if abs(gap) <= max(MATERIAL, STANDARD_ERRORS * error):
        return Finding("calibration", "good", numbers, text)
    if gap < 0 and data.by_heart:
        text += ": a forest knows these rows by heart"
        return Finding("calibration", "known rows", numbers, text, "diagnose rows that were kept from the fit")
    verdict = "overconfident" if gap > 0 else "underconfident"
    if gap > 0:
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
