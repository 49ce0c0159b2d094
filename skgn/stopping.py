"""When a training ends by itself: it has converged, or its validation loss or evidence no longer gets better.

Each rule asks for progress that counts: more than ``tol``, relative to a scale. The objective of a fixed prior stays
the same, and its decrease is the progress. With a validation set training stops early. It ends once the validation loss
no longer falls, at the weights where that loss was lowest. Without one, but with evidence, it ends at the weights of
the highest evidence, if the evidence has fallen since. The evidence of flexible networks falls while they go on to fit
the noise. That of a target without noise rises for ever. So its rise no longer counts once the noise is ``tol``
standard deviations of the target. Where all precisions are given, the logarithm of the posterior density stands for
the evidence.

Where rounding errors leave nothing to gain, training with a fixed prior ends at once, whatever ``tol`` is.
"""

from __future__ import annotations

import math
from dataclasses import replace

from .damping import Iterate
from .losses import geometric_mean
from .objective import Objective
from .settings import Settings
from .state import State
from .status import Status

__all__ = ["is_held_back", "judged", "to_go_back_to", "validation_loss"]

#: Nats per sample by which the evidence must fall before training goes back to its peak (docs/decisions.md).
_FALLEN = 0.03

#: A step that promised and had less than this part of the decrease that is possible along it is held back.
_HELD_BACK = 0.1

#: Number of log-loss samples up to which the tolerance on the log evidence grows in proportion.
_FEW_SAMPLES = 400.0


def judged(state: State, iterate: Iterate, settings: Settings) -> State:
    """Return the state with its status: whether training ends at these weights, and why.

    The history has a row of them; ``iterate`` is what a damping rule is told.
    """
    state = _judged_by_objective(state, iterate, settings)
    if _is_validated(state):
        return _judged_by_validation(state, settings)
    if state.prior.has_evidence and state.estimates.settled and state.n_iter > 0:
        return _judged_by_evidence(state, settings)
    return state


def validation_loss(state: State, validation: Objective) -> float:
    """Return the loss of a state on validation data, by which training stops early.

    Losses under different noise levels cannot be compared. Where the noise level decides how residuals count, minus
    their mean log density stands for the loss.
    """
    at, scale = validation.evaluate(state.at.w), state.squared_scale_of_loss
    if scale is None:
        return at.loss
    # In the precision of the scale, and where it is.
    residuals, weight = (at.outputs - validation.Y).to(scale), validation.sample_weight.to(scale)
    return -float(state.objective.data_loss.log_density(residuals, scale[None]) @ weight) / validation.total_weight


def to_go_back_to(state: State) -> State | None:
    """Return the best state, if going back is worth while.

    If the evidence is nearly the same, the later estimates are better. The first estimates come from weights that have
    not yet settled.
    """
    best = state.best
    if best is None or best.n_iter == state.n_iter:
        return None
    fallen = _criterion(state) - _criterion(best)
    return best if _is_validated(state) or fallen > _FALLEN * state.objective.total_weight else None


def _judged_by_objective(state: State, iterate: Iterate, settings: Settings) -> State:
    """Judge by the decrease, where the objective stays the same, and by the number of iterations."""
    F, step, quiet = abs(iterate.objective), state.step, state.quiet
    status = Status.MAX_ITER if state.n_iter >= settings.max_iter else Status.RUNNING
    if not state.prior.has_evidence:
        noise = state.objective.rounding_error(F)
        # With a curvature of F / ||w||^2, the decrease that the gradient promises is the square over F.
        promised = iterate.gradient_norm * max(1.0, float(state.at.w.norm()))
        if promised * promised <= noise * F:
            status = Status.GRADIENT
        elif step is not None and max(step.predicted, step.possible) <= noise:
            status = Status.PRECISION
        elif step is not None:
            quiet = 0 if _counts(step.possible, F, settings) else quiet + 1
            status = Status.DECREASE if quiet >= settings.n_iter_no_change else status
    return replace(state, status=status, quiet=quiet)


def _judged_by_validation(state: State, settings: Settings) -> State:
    """Keep the state of the lowest validation loss; stop if it has not fallen for long."""
    better = True
    if state.best is not None:
        # Minus a log density may be near 0: its scale is one nat.
        scale = abs(_criterion(state.best)) if state.squared_scale_of_loss is None else 1.0
        better = _counts(_gain(state, state.best), scale, settings)
    return _with_patience(_with_best(state), better, Status.VALIDATION, settings.n_iter_no_change)


def _judged_by_evidence(state: State, settings: Settings) -> State:
    """Keep the state of the highest evidence; stop if it has not risen for long.

    If the noise level is not the most likely one, the last weights are kept once the evidence has settled.
    """
    scale, loss = _evidence_scale(state), _loss_in_nats(state)
    if not loss > state.objective.data_loss.most_likely_up_to * scale:
        better = state.best is None or _counts(_gain(state, state.best), scale, settings)
        state = _with_best(state)
    else:
        state = replace(state, best=None)
        moved = abs(state.history[-1]["log_evidence"] - state.history[-2]["log_evidence"])
        # Gross errors are many scales. So the evidence moves with the last digits of the scale.
        better = _counts(moved, max(scale, loss), settings)
    exact = _is_exact(state, settings)
    reason = Status.EXACT if exact else Status.EVIDENCE
    goes_on = better or is_held_back(state, settings)
    return _with_patience(state, goes_on and not exact, reason, settings.n_iter_no_change)


def is_held_back(state: State, settings: Settings) -> bool:
    """Whether the damping leaves out most of what the last step could have gained, and this counts."""
    step = state.step
    if step is None:
        return False
    possible = step.possible * state.objective.total_weight
    return max(step.predicted, step.actual) < _HELD_BACK * step.possible and _counts(
        possible, _evidence_scale(state), settings
    )


def _is_exact(state: State, settings: Settings) -> bool:
    """Whether the noise of every output is at most the part ``tol`` of its standard deviation."""
    noise = state.noise_variance
    return noise is not None and math.sqrt(float(noise.max())) <= settings.tol


def _counts(progress: float, scale: float, settings: Settings) -> bool:
    """Whether progress counts: more than the part ``tol`` of its scale."""
    return progress > settings.tol * scale


def _loss_in_nats(state: State) -> float:
    """Loss of all samples over the scale of the noise, in nats; 0 where the scale is not estimated."""
    squared_scale, loss = state.estimates.squared_scale, state.history[-1]["loss"]
    return 0.0 if squared_scale is None else loss * state.objective.total_weight / float(geometric_mean(squared_scale))


def _is_validated(state: State) -> bool:
    return "validation_loss" in state.history[-1]


def _criterion(state: State) -> float:
    """Return the figure that is lowest in the best state: the validation loss, or else minus the log evidence.

    A state of unknown evidence is worse than any other. Where no precision is estimated it is unknown of all states,
    and the objective in nats stands for it: the logarithm of the posterior density.
    """
    row = state.history[-1]
    if _is_validated(state):
        return row["validation_loss"]
    if not math.isnan(row["log_evidence"]):
        return -row["log_evidence"]
    return row["objective"] * state.objective.total_weight if state.prior.n_precisions == 0 else math.inf


def _gain(state: State, best: State) -> float:
    """Return by how much a state is better than the best one before."""
    return _criterion(best) - _criterion(state)


def _with_best(state: State) -> State:
    if state.best is not None and not _criterion(state) < _criterion(state.best):
        return state
    return replace(state, best=replace(state, best=None, step=None))


def _with_patience(state: State, better: bool, reason: Status, patience: int) -> State:
    """Stop for a reason where no state was ``better`` for so many iterations."""
    stale = 0 if better else state.stale + 1
    stops = state.status is Status.RUNNING and stale >= patience
    return replace(state, stale=stale, status=reason if stops else state.status)


def _evidence_scale(state: State) -> float:
    """Scale of the log evidence, in nats: one for each number that is predicted, or each label.

    Many samples of a log loss, or counts, count less, like the standard deviation of the log likelihood. There a
    network of some hundred weights goes on learning while the mean hardly moves (docs/decisions.md).
    """
    S = state.objective.total_weight
    if state.objective.data_loss.has_scale:
        return S * state.objective.network.n_outputs
    return min(S, math.sqrt(_FEW_SAMPLES * S))
