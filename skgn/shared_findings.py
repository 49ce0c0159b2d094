"""Findings that regression and classification share: on skill, on simple models beside it, and on members.

:mod:`skgn.residual_findings` makes the other findings about a regression, and :mod:`skgn.probabilities` those about a
classification.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .advice import ELSEWHERE, against_extremes, freed, linear_advice, more_regularisation
from .baselines import BOOSTING, FEWEST_ROWS
from .comparison import FEW_ROWS, LEARNED, Comparison, named_rows
from .mixture import voters
from .report import Finding

__all__ = ["baseline_finding", "in_errors", "member_finding", "skill_finding"]

#: A skill counts from so many standard errors on.
_SKILL_ERRORS = 2.0

#: Members disagree where averaging takes away more than this part of the loss of one alone.
_DISAGREE = 0.2


def skill_finding(data: Comparison, constant: str, numbers: dict[str, Any], text: str) -> Finding:
    """Make the finding on the skill: by how much predictions gain on the best constant."""
    gain, error = data.gain(*data.losses)
    if data.falls_short:
        numbers["promised"] = data.promise
        text += f"; left-out training rows promised {data.promise:.2f}"
    if gain > _SKILL_ERRORS * error and data.elsewhere:
        return Finding("skill", "less than promised", numbers, text, ELSEWHERE)
    if gain > _SKILL_ERRORS * error:
        return Finding("skill", f"better than the {constant}", numbers, text)
    if gain > 0 and data.effective < FEW_ROWS:
        return Finding("skill", "unknown", numbers, text + "; too few rows to tell")
    if not data.model.standardize:
        # Before all else: priors start from a unit scale.
        advice = "standardize=True, as priors start from inputs of unit scale"
    else:
        regularised = more_regularisation(data.model)
        advice = regularised if regularised and not (data.found and data.flat) else _when_without_skill(data)
    return Finding("skill", f"no better than the {constant}", numbers, text, advice)


def _when_without_skill(data: Comparison) -> str:
    """Advise where predictions are worth nothing: by what the fit expected, and what simple models find."""
    expected = data.model.left_out_score_
    if expected < LEARNED or (data.flat and data.found and not data.elsewhere):
        # The training rows taught it nothing, so that nothing is wrong with these.
        if data.heavy_tailed and not data.found and not freed(data.model):
            return against_extremes(data.model)
        return data.freer + ("" if data.found else ", more rows, or other features")
    if data.found:
        return ELSEWHERE
    if data.spoilers:
        return f"look at {named_rows(data.spoilers)}"
    return "check that the rows of X and y belong together, or find other features"


def baseline_finding(data: Comparison, score: str) -> Finding:
    """Compare the fit with simple models that learn from a part of the same rows; ``score`` names the measure."""
    if not data.simple:
        few = len(data.y) < FEWEST_ROWS
        why = "too few rows for others to learn from" if few else "nothing simple to compare with"
        return Finding("baselines", "unknown", {}, f"unknown: {why}")
    ours = data.losses[0][data.compared]
    numbers = {name: data.score_at(loss) for name, loss in {"model": ours, **data.simple}.items()}
    others = ", ".join(f"{name} {value:.2f}" for name, value in list(numbers.items())[1:])
    text = f"{score} {numbers['model']:.2f}; of others that learn from a part of these rows: {others}"
    lacking = ""
    if data.codes:
        lacking = f"; what the fit leaves over jumps between the numbers of {data.named_codes}"
    elif data.together:
        of_both = f"{data.together.feature} and {data.together.other}"
        lacking = f"; what the fit leaves over depends on {of_both} together"
    if data.better:
        linear = data.better != BOOSTING
        bent = linear and data.model.estimators_[0].network.hidden_layer_sizes
        advice = linear_advice(data.model) if bent and not data.elsewhere else data.freer
        text += f": {data.better} is better{lacking}"
        return Finding("baselines", f"worse than {data.better}", numbers, text, advice)
    if lacking:
        return Finding("baselines", "codes" if data.codes else "levels", numbers, text + lacking, data.freer)
    gains = [data.gain_at(ours, loss) for name, loss in data.simple.items() if name != BOOSTING]
    if not gains or any(gain > _SKILL_ERRORS * error for gain, error in gains):
        return Finding("baselines", "no worse", numbers, text)
    if numbers["model"] > LEARNED and data.model.estimators_[0].network.hidden_layer_sizes:
        text += "; no better than linear: hidden_layer_sizes=() is simpler, other features may tell more"
    return Finding("baselines", "like linear", numbers, text)


def member_finding(data: Comparison, score: str) -> Finding:
    """Compare members alone with their mixture, whose loss is less by what they disagree about.

    That part of a member's loss is a matter of chance, and more members make it less (A. Krogh and J. Vedelsby, Neural
    network ensembles, cross validation, and active learning, NIPS 1994).
    """
    members, weights = voters(data.model.estimators_, data.model.weights_)
    if len(members) < 2 or not data.losses[1].any():
        why = "y is constant here" if len(members) > 1 else "one, and none to compare it with"
        return Finding("members", "unknown" if len(members) > 1 else "single", {"count": len(members)}, why)
    losses = data.mean(np.array([data.with_members([member]).losses[0] for member in members]).T)
    together, constant = (float(data.mean(loss)) for loss in data.losses)
    alone = float(np.average(losses, weights=weights))
    share = max(0.0, 1 - together / alone) if alone > 0 else 0.0
    skills = 1 - losses / constant
    numbers = {"count": len(members), "best": float(skills.max()), "worst": float(skills.min()), "share": share}
    text = (
        f"{len(members)}, with {score} {numbers['worst']:.2f} to {numbers['best']:.2f} alone and "
        f"{1 - together / constant:.2f} together, which takes {share:.0%} of a member's loss away"
    )
    if share <= _DISAGREE:
        return Finding("members", "agree", numbers, text)
    if data.elsewhere:
        return Finding("members", "disagree", numbers, text + ": they disagree on rows unlike those of training")
    advice = f"n_estimators={2 * len(members)}, as the members disagree"
    return Finding("members", "disagree", numbers, text + ": they disagree", advice)


def in_errors(gain: float, error: float) -> str:
    """Write a gain as a multiple of its standard error."""
    return f"{gain / error:.1f}" if error > 0 else "no"
