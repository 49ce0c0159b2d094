"""The shape of radial units whose outputs are logits: how well a Gaussian process of logits predicts labels.

Labels may be taken for numbers with noise, of which :mod:`skgn.shapes` finds the shape of the highest evidence. Logits
have such a variance that the noise of a logistic distribution is the same part of it. But labels jump at a sharp border
of two classes, and numbers ask for short units there. Logits may go on rising beyond a border, by long units of a large
variance. So normal units of few lengths and variances are compared on some rows, and the best ones with that shape on
all centres of units.

What each is worth are nats: the mean of the log evidence and of the log likelihood of left-out labels, both by
Laplace's approximation. Its evidence is too low where logits are large. Left-out labels alone prefer logits that are
too large, as many shapes are compared. The same labels have chosen normal units among others, which takes the logarithm
of their number off.

References
----------
C. K. I. Williams and D. Barber, Bayesian classification with Gaussian processes, IEEE Transactions on Pattern Analysis
and Machine Intelligence 20 (1998).
C. E. Rasmussen and C. K. I. Williams, Gaussian Processes for Machine Learning, MIT Press 2006, algorithm 3.1.
M. Kuss and C. E. Rasmussen, Assessing approximate inference for binary Gaussian process classification, JMLR 6 (2005).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.linalg.lapack import dtrtri
from scipy.spatial.distance import cdist
from scipy.special import expit, log_expit

from .candidates import MANY_WEIGHTS
from .shapes import Metric, Shape, Telling, best_shape, falling

__all__ = ["evidence_and_left_out", "nats_of_labels", "shape_of_logits"]

#: Variance of the noise of logits, which is that of a logistic distribution.
_LOGISTIC = math.pi**2 / 3

#: Noise of labels that are taken for numbers is at least such a part of their variance (docs/decisions.md).
_LEAST_OF_LABELS = 0.01

#: So many rows tell the shape of numbers, and the best normal units.
_TELLING = 200

#: Normal units that are compared: their lengths, in median distances, and variances of their logits.
_LENGTHS, _VARIANCES = (0.5, 1.0, 2.2), (10.0, 300.0, 10_000.0)

#: Variance of the constant in logits. Each row has some of its own, in parts of the largest variance.
_OF_CONSTANT, _ROUNDING = 10.0, 1e-6

#: Newton's method ends where a step gains so few nats, or after so many steps. Each is halved at most so often.
_LEAST_GAIN, _MOST_STEPS, _MOST_HALVES = 1e-3, 50, 10


def shape_of_logits(metrics: Sequence[Metric], rows: Telling) -> Shape | None:
    """Return the shape for labels, whose variances are those of logits; None where rows or labels are all alike.

    Rows may be centres of units. Labels are 0 or 1, in one column or in one for each class.
    """
    few = rows.first(_TELLING)
    of_numbers = _of_numbers(metrics, few)
    if of_numbers is None or few.Y.size > MANY_WEIGHTS:
        return of_numbers  # Of more labels fewer rows are centres than tell, and units are no such process.
    best = max(_normal_units(metrics, few), key=_worth, default=of_numbers)
    centres = rows.first(MANY_WEIGHTS // rows.Y.shape[1])
    return max((_judged(shape, centres) for shape in (of_numbers, best)), key=_worth)


def _of_numbers(metrics: Sequence[Metric], rows: Telling) -> Shape | None:
    """Return the shape of the highest evidence for labels that are taken for numbers, with variances of logits."""
    about_mean = rows.Y - np.average(rows.Y, axis=0, weights=rows.weight)
    shape = best_shape(metrics, rows._replace(Y=about_mean))
    if shape is None:
        return None
    noise = max(shape.noise, _LEAST_OF_LABELS * float(np.square(about_mean).mean()))
    return shape._replace(signal=_LOGISTIC / noise * shape.signal, noise=_LOGISTIC)


def _judged(shape: Shape, rows: Telling) -> Shape:
    """Return the shape with the nats of these rows as its log density."""
    covariance = shape.covariance(rows.hidden, rows.straight)
    return shape._replace(log_density=nats_of_labels(covariance, rows.Y, rows.weight))


def _worth(shape: Shape) -> float:
    """Nats, less those of what the same labels have told, but for what all networks have learned of them."""
    return shape.log_density - shape.log_choices + shape.metric.learned


def _normal_units(metrics: Sequence[Metric], rows: Telling) -> Iterator[Shape]:
    """Yield normal units of each length and of variances up to the best one, with their nats as the log density."""
    chosen = math.log(len(metrics) * len(_LENGTHS) * len(_VARIANCES))
    for metric in metrics:
        scaled, linear = metric.of(rows.hidden, rows.straight)
        distance = cdist(scaled, scaled)
        apart = distance[distance > 0]
        for length in np.median(apart) * np.array(_LENGTHS) if apart.size else ():
            unit, factors = falling(distance / length, "gaussian") + linear, np.full(scaled.shape[1], 1 / length)
            nats = -math.inf
            for variance in _VARIANCES:
                before, nats = nats, nats_of_labels(variance * unit, rows.Y, rows.weight)
                if nats < before:
                    break  # Larger logits are worse still.
                yield Shape(metric, "gaussian", factors, variance, _LOGISTIC, nats, chosen=chosen)


def nats_of_labels(covariance: np.ndarray, Y: np.ndarray, weight: np.ndarray) -> float:
    """Mean of the log evidence of labels Y (n, k), and of the log likelihood of each row as if it was left out.

    Logits have the ``covariance`` (n, n), beside a constant. Each column has logits of its own.
    """
    K = covariance + _OF_CONSTANT
    K.flat[:: len(K) + 1] += _ROUNDING * covariance.diagonal().max()
    return 0.5 * sum(sum(evidence_and_left_out(K, labels, weight)) for labels in Y.T)


def evidence_and_left_out(K: np.ndarray, labels: np.ndarray, weight: np.ndarray) -> tuple[float, float]:
    """Log evidence of labels (n,), which are 0 or 1, and their log likelihood if each row is left out.

    Logits have the covariance K. A row is left out by one Newton step from the most likely logits.
    """
    f, height = _mode(K, labels, weight)
    gradient, curvature = _slopes(f, labels, weight)
    factor, _ = _system(K, curvature)
    log_evidence = height - float(np.log(factor.diagonal()).sum())
    # Of the inverse of the system, the diagonal is 1 - h, where h is the curvature times the variance of the logit.
    inverse, _ = dtrtri(factor, lower=1)
    free = np.square(np.tril(inverse)).sum(axis=0)
    variance = np.divide(1 - free, curvature, out=K.diagonal().copy(), where=curvature > 0)
    return log_evidence, _log_likelihood(f - gradient * variance / free, labels, weight)


def _mode(K: np.ndarray, labels: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the most likely logits (n,), and their log density but for its normaliser, by Newton's method."""
    f = alpha = np.zeros(len(K))  # f = K alpha
    height = _log_likelihood(f, labels, weight)
    for _ in range(_MOST_STEPS):
        gradient, curvature = _slopes(f, labels, weight)
        factor, root = _system(K, curvature)
        b = curvature * f + gradient
        step = b - root * cho_solve((factor, True), root * (K @ b), check_finite=False) - alpha
        for halves in range(_MOST_HALVES):
            trial = alpha + step / 2**halves
            at = K @ trial
            gain = _log_likelihood(at, labels, weight) - 0.5 * float(trial @ at) - height
            if gain >= 0:
                break
        if not gain >= 0:
            break
        alpha, f, height = trial, at, height + gain
        if gain < _LEAST_GAIN:
            break
    return f, height


def _log_likelihood(f: np.ndarray, labels: np.ndarray, weight: np.ndarray) -> float:
    return float(weight @ (labels * f + log_expit(-f)))


def _slopes(f: np.ndarray, labels: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Slopes of the log likelihood along each logit, and its curvatures, which are not negative."""
    p = expit(f)
    return weight * (labels - p), weight * p * (1 - p)


def _system(K: np.ndarray, curvature: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lower Cholesky factor of I + W^1/2 K W^1/2 for curvatures W (n,) of the labels' log likelihood, and W^1/2."""
    root = np.sqrt(curvature)
    B = root[:, None] * K * root
    B.flat[:: len(K) + 1] += 1
    return cho_factor(B, lower=True, overwrite_a=True, check_finite=False)[0], root
