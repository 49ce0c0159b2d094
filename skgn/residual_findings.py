"""Findings about a regression: its skill and noise, outliers, and whether stated intervals hold what they should."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy.stats import binom

from .advice import against_outliers, noise_of_inputs
from .comparison import MATERIAL, RARE, Case, named_rows, worst_rows
from .directions import lacking
from .report import Finding
from .residuals import OUTLIER, RegressionComparison
from .shared_findings import baseline_finding, in_errors, member_finding, skill_finding
from .wording import first_few

__all__ = ["ABOVE_NOISE", "listed", "residual_findings", "two_sided", "worth_findings"]

#: Intervals that are too wide do less harm than those that are too narrow.
_MATERIAL_WIDE = 0.1

#: Residuals are typically this many times the noise before a fit is called overfitted or out of its range: their
#: variance is twice that of the noise.
ABOVE_NOISE = math.sqrt(2)

#: Central intervals whose coverage is counted.
_INTERVALS = (0.5, 0.9)


def residual_findings(case: Case) -> tuple[Finding, ...]:
    """Skill, noise, outliers and calibration of a regressor on a case."""
    data = RegressionComparison.of(case)
    rmse = {"rmse": data.rms}, f"rmse {listed(data.rms)}"
    return *worth_findings(data, *rmse), _noise(data), _outliers(data), _coverage(data)


def worth_findings(data: RegressionComparison, numbers: dict[str, Any], size: str) -> tuple[Finding, ...]:
    """Say what predictions are worth: alone, beside simple models, and by what they leave over.

    ``numbers`` has their mean loss, and ``size`` says it in words.
    """
    score = data.judge.score
    return _skill(data, numbers, size), baseline_finding(data, score), member_finding(data, score), _left_over(data)


def _skill(data: RegressionComparison, numbers: dict[str, Any], size: str) -> Finding:
    deviations = data.unit * np.sqrt(data.mean(np.square(data.judge.about_mean)))
    numbers = numbers | {"y_std": deviations[: data.n_columns]}
    if not (deviations > 0).any():
        return Finding("skill", "unknown", numbers, f"{size}; y is constant here: nothing to explain")
    score, error = data.gain(*data.losses)
    numbers |= {data.judge.score.lower(): score, "standard_error": error}
    written = f"{score:.2f}" if abs(score) < 1e4 else f"{score:.2g}"
    text = f"{data.judge.score} {written} ({in_errors(score, error)} standard errors); {size}"
    text += f" where y has std {listed(numbers['y_std'])}"
    return skill_finding(data, data.judge.constant, numbers, text)


def _left_over(data: RegressionComparison) -> Finding:
    if not data.noisy.any():
        return Finding("residuals", "unknown", {}, "unknown: nothing is left over to look at")
    if not data.testable:
        return Finding("residuals", "unknown", {}, "unknown: too few rows to tell what they depend on")
    _, residual, _ = data.tests
    found = int(np.argmax(residual.share)) if data.most_telling is None else data.most_telling
    share = float(residual.share[found])
    numbers = {"depends_on": data.lacking, "share": share, "p": float(residual.p[found])}
    if data.codes:
        text = f"their {data.told} jumps between the numbers of {data.named_codes}: the fit lacks that"
        return Finding("residuals", "depend", numbers | {"depends_on": data.codes[0]}, text, data.freer)
    if data.together:
        text = f"they depend on {data.together.feature} and {data.together.other} together, which tells "
        text += f"{data.together.share:.0%} of their variance: the fit lacks that"
        numbers |= {"depends_on": data.together.feature, "share": data.together.share}
        return Finding("residuals", "depend", numbers, text, data.freer)
    if data.negative:
        numbers["negative"] = data.negative
        text = f"{data.negative:.0%} of the predictions are negative, and no y is: a mean of such y cannot be"
        return Finding("residuals", "out of range", numbers, text, data.freer)
    if not data.lacking and not data.left_over:
        return Finding("residuals", "nothing found", numbers, "no feature, nor the prediction, tells much of them")
    if not data.lacking:
        numbers["share"] = data.left_over
        text = f"boosting finds {data.left_over:.0%} of their variance: the fit lacks that"
        return Finding("residuals", "depend", numbers, text, data.freer)
    text = f"their {data.told} depends on {data.lacking}, which tells {share:.0%} of their variance"
    if data.overshooting:
        text += ": predictions are too far from the mean"
        return Finding("residuals", "overshooting", numbers, text, data.narrow_advice)
    text += ": another relation holds here" if data.elsewhere else ": the fit lacks that"
    return Finding("residuals", "depend", numbers, text, data.freer)


def listed(values: np.ndarray) -> str:
    """Write the first few of the values as a text."""
    return ", ".join(first_few([f"{value:.3g}" for value in values]))


def _noise(data: RegressionComparison) -> Finding:
    noise = data.noise_std
    kind = data.likelihood.label
    if data.likelihood.target_kind != "values":
        numbers = {"noise_std": noise, "residual_std": data.typical, "spread": data.spread}
        text = f"{kind}, growing with the mean; residuals {data.spread:.3g} times "
        text += "their typical size" if data.std is None else "the predicted std"
        if data.varying:
            numbers["varies_with"] = data.varying
            return Finding("noise", "depends on the input", numbers, f"{text}; their size depends on {data.varying}")
        return Finding("noise", "as assumed", numbers, text)
    if not np.isfinite(noise).all():
        text = f"unknown, without a posterior; residuals are typically {listed(data.typical)}"
        return Finding("noise", "unknown", {"noise_std": noise, "residual_std": data.typical}, text)
    ratio = float((data.typical / np.maximum(noise, np.finfo(float).tiny)).max())
    numbers = {"noise_std": noise, "residual_std": data.typical, "ratio": ratio, "spread": data.spread}
    text = f"{kind}, std {listed(noise)}; residuals {ratio:.3g} times that"
    if data.std is not None:
        text += f", {data.spread:.3g} times the predicted std"
    if data.varying:
        numbers |= {"varies_with": data.varying}
        text += f"; their size depends on {data.varying}"
        return Finding("noise", "depends on the input", numbers, text, noise_of_inputs(data.model))
    if (data.too_sure or data.elsewhere) and ratio > ABOVE_NOISE:
        return Finding("noise", "overfitted or shifted", numbers, text, data.narrow_advice)
    if (np.minimum(data.typical, data.rms) > ABOVE_NOISE * noise).any():
        return Finding("noise", "few rows", numbers, text + ": more rows would help")
    if data.inflated:
        return Finding("noise", "inflated", numbers, text, against_outliers(data.model))
    return Finding("noise", "as estimated", numbers, text)


def _outliers(data: RegressionComparison) -> Finding:
    why = "y is constant here" if data.constant else ""
    if not why and not data.noisy.any():
        why = "without noise there are no sizes to compare with"
    if not why and data.depth is None and not data.judge.squares:
        why = "no distribution is predicted without a posterior"
    if why:
        return Finding("outliers", "unknown", {}, f"unknown: {why}")
    size, count, expected, many, alone = data.far
    rows = worst_rows(data, size, size > OUTLIER if many else alone)
    numbers = {"count": count, "expected": expected, "rows": rows, "largest": float(size.max())}
    text = f"{count:g} beyond {OUTLIER:g} {data.deviations}, {expected:.2g} expected; largest {size.max():.3g}"
    if not many and not alone.any():
        return Finding("outliers", "as expected", numbers, text)
    text += f"; {named_rows(rows)}"
    if not many:
        return Finding("outliers", "far out", numbers, text, f"look at {named_rows(rows)}")
    if data.too_sure or data.elsewhere:
        # All are too far away, not some.
        return Finding("outliers", "many", numbers, text, data.narrow_advice)
    if data.underfit:
        text += ": of a fit that lacks something, not of the noise"
        return Finding("outliers", "poor fit", numbers, text, data.freer)
    if data.varying:
        text += f": the noise depends on {data.varying}"
        return Finding("outliers", "louder noise", numbers, text, noise_of_inputs(data.model))
    advice = f"look at {named_rows(rows)}"
    if data.likelihood.robust_alternatives:
        such = "as" if data.heavy_tailed else "if"
        advice += f', use loss="{data.likelihood.robust_alternatives[0]}" {such} the training data have such'
    return Finding("outliers", "many", numbers, text, advice)


def _coverage(data: RegressionComparison) -> Finding:
    if data.constant:
        return Finding("calibration", "unknown", {}, "unknown: y is constant here")
    if data.depth is None:
        solver = data.model.solver_
        unknown = lacking(solver, data.model.batch_size is not None)
        why = f"solver {solver} has none" if unknown else "l2 leaves weights free"
        return Finding("calibration", "unknown", {}, f"unknown: no std without a posterior ({why})")
    numbers: dict[str, float] = {}
    parts, alarms, beyond = [], [], []
    outputs = data.noisy if data.noisy.any() else data.varies
    for level in _INTERVALS:
        inside = data.mean(np.abs(data.depth) <= data.predicted.ppf(0.5 + level / 2))
        worst = int(np.argmax(np.abs(inside - level) * outputs))
        error = math.sqrt(level * (1 - level) / data.total)
        # Each output is another chance to be far off.
        by_chance = two_sided(float(inside[worst]), level, data.total) * len(inside)
        off = float(inside[worst]) - level
        material = MATERIAL if off < 0 else _MATERIAL_WIDE
        if by_chance < RARE and abs(off) > material:
            alarms.append(off)
        beyond.append(off)
        numbers |= {f"coverage_{100 * level:.0f}": float(inside[worst]), f"error_{100 * level:.0f}": error}
        output = f" (output {worst})" if len(inside) > 1 else ""
        parts.append(f"{level:.0%} intervals hold {inside[worst]:.0%} +- {error:.0%}{output}")
    text, furthest = ", ".join(parts), max(alarms, key=abs, default=0.0)
    if furthest < 0 <= beyond[-1]:
        # The outer intervals hold what they should, or more: the noise has less of a middle than it is taken to have.
        text += ": too narrow in the middle alone, as "
        if data.unbent or data.elsewhere:
            why = "another relation holds here" if data.elsewhere else "the fit lacks something"
            return Finding("calibration", "another shape", numbers, text + why, data.freer)
        text += "the noise has another shape"
        advice = "predict_interval(calibrate=True)" if math.isfinite(data.model.left_out_score_) else None
        return Finding("calibration", "another shape", numbers, text, advice)
    if max(alarms, default=0.0) > 0 > beyond[-1] and beyond[-1] in alarms:
        text += ": too wide in the middle and too narrow outside"
        return Finding("calibration", "another shape", numbers, text, _wide_advice(data))
    if furthest < 0:
        advice = noise_of_inputs(data.model) if data.varying and not data.too_sure else data.narrow_advice
        return Finding("calibration", "too narrow", numbers, text + ": too narrow", advice)
    if furthest > 0:
        text += ": too wide" + ("" if beyond[-1] > MATERIAL else " in the middle alone")
        return Finding("calibration", "too wide", numbers, text, _wide_advice(data))
    return Finding("calibration", "good", numbers, text)


def _wide_advice(data: RegressionComparison) -> str | None:
    """Advise where intervals are too wide for most residuals."""
    if data.varying:
        return noise_of_inputs(data.model)
    if data.inflated:
        return against_outliers(data.model)
    return data.freer if data.unbent else None


def two_sided(part: float, level: float, total: float) -> float:
    """Probability that of so many rows a part at least as far from ``level`` lies inside, by the binomial law."""
    n, k = round(total), round(part * total)
    return 2 * min(float(binom.cdf(k, n, level)), float(binom.sf(k - 1, n, level)))
