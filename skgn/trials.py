"""Candidates in training, what they predict of samples left out, and the ensemble that is made of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from .candidates import Start
from .conformal import left_out_residuals
from .discriminant import DISCRIMINANT
from .ensemble import Ensemble, Member, Predictor, make_member, predictor
from .forest import FOREST
from .leave_one_out import LeftOut, allowance
from .left_out_samples import LeftOutSamples
from .losses import Loss
from .mixture import equal_weights, mixture_mean, noise_share, voters
from .progress import candidate_line
from .skill import left_out_skill
from .stacking import left_out_spread, stacking_weights
from .state import State
from .status import Status
from .temperature import best_temperature
from .training import Training

__all__ = ["Candidate", "Trained", "ensemble_of", "left_out_of", "well_begun"]

#: Scalings that are models of labels.
_MODELS = (DISCRIMINANT, FOREST)

#: A candidate that was cut short after less than this part of the iterations of the longest is left out.
_HARDLY_BEGUN = 0.5

#: Rows of training, and of a posterior's factor, up to which members count at each row by how sure they are. On more
#: rows outputs are known well beside the noise, and larger factors make predictions slow.
_MOST_ROWS, _LARGEST_FACTOR = 10_000, 2_000


@dataclass(eq=False)
class Candidate:
    """A start and its training; after a round, how it predicts the samples left out, and its score for that.

    The training has ``begun`` once there has been an iteration; it has taken so many ``seconds``.
    """

    number: int
    start: Start
    training: Training
    left_out: LeftOut | None = None
    score: float = 0.0
    begun: bool = False
    seconds: float = 0.0

    def run(self, until: int, decrease: float = 0.0, pause: Callable[[], bool] | None = None) -> None:
        """Train on; afterwards the training has begun, if there was time for an iteration."""
        before, began = self.state.n_iter, time.perf_counter()
        try:
            self.training.run(until, decrease, pause)
        finally:
            self.seconds += time.perf_counter() - began
            self.begun = self.begun or self.state.n_iter > before or self.state.status is not Status.RUNNING

    def line(self, outcome: str) -> str:
        """Return the line that says what it is, how far it has come, and what has become of it."""
        skill = left_out_skill(left_out_of([self]), equal_weights(1))
        return candidate_line(self.number, self.start.words, self.state.n_iter, skill.score, self.seconds, outcome)

    @property
    def rank(self) -> tuple[float, float]:
        """The lowest is the best."""
        return -self.score, self.state.history[-1]["objective"]

    @property
    def state(self) -> State:
        """Present state of the training."""
        return self.training.state


def well_begun(candidates: list[Candidate]) -> list[Candidate]:
    """Leave out those that had hardly begun when the fit was cut short: they would spoil the mean.

    Those on the most rows have come the furthest, and on these those of the most iterations.
    """
    candidates = [c for c in candidates if c.begun]
    rows = max((c.state.objective.n_samples for c in candidates), default=0)
    candidates = [c for c in candidates if c.state.objective.n_samples == rows]
    longest = max((c.state.n_iter for c in candidates), default=0)
    return [c for c in candidates if c.state.status.converged or c.state.n_iter >= _HARDLY_BEGUN * longest]


def left_out_of(candidates: Sequence[Candidate]) -> LeftOutSamples:
    """Return what candidates predict of left-out samples, and the loss of the best to judge them by."""
    best = max(candidates, key=lambda c: c.score).state.objective
    outputs, allowances = [c.left_out for c in candidates], [allowance(c.state) for c in candidates]
    return LeftOutSamples(best, best.data_loss, outputs, allowances)


@dataclass(frozen=True)
class Trained:
    """Candidates that are trained, and what left-out samples tell of these, which is found out when it is asked for."""

    candidates: Sequence[Candidate]

    @cached_property
    def samples(self) -> LeftOutSamples:
        """What the candidates predict of left-out samples."""
        return left_out_of(self.candidates)

    @cached_property
    def weights(self) -> np.ndarray:
        """Weights (n_candidates,) in the mixture of all."""
        return stacking_weights(self.samples)

    @cached_property
    def score(self) -> float:
        """D2 of left-out samples of this mixture."""
        return left_out_skill(self.samples, self.weights).score

    @property
    def counted(self) -> tuple[LeftOutSamples, np.ndarray] | None:
        """What the candidates that count predict of the samples, with their weights; None if it is not known of one."""
        return self.samples.of_voters(self.weights)

    @property
    def starts(self) -> list[Start]:
        return [candidate.start for candidate in self.candidates]

    @property
    def states(self) -> list[State]:
        return [candidate.state for candidate in self.candidates]

    @property
    def predictors(self) -> list[Predictor]:
        """What the candidates predict with as they are."""
        return [predictor(candidate.state, candidate.start) for candidate in self.candidates]


def ensemble_of(trained: Trained, loss: Loss, tempered: bool) -> tuple[list[Candidate], Ensemble]:
    """Make the ensemble; the candidates come with it, those that count the most first, and models of labels last.

    If ``tempered``, the outputs are divided by a temperature.
    """
    candidates, weights = trained.candidates, trained.weights
    # Of members that count alike the objective decides.
    objectives = np.array([c.state.history[-1]["objective"] for c in candidates])
    # Models of labels have no weights to look at.
    models = np.array([c.start.scaling in _MODELS for c in candidates])
    order = np.lexsort((objectives, -weights, models))
    candidates, weights = [candidates[number] for number in order], weights[order]
    samples = left_out_of(candidates)
    T = best_temperature(samples, weights) if tempered else 1.0
    scales = [_squared_scale(candidate) for candidate in candidates]
    apart = left_out_spread(samples, weights) if loss.has_scale else None
    share = 1.0 if apart is None else _noise_share(scales, weights, samples.loss, apart)
    in_mixture = [None if scale is None else share * scale for scale in scales]
    members = [_member(candidate, share) for candidate in candidates]
    by_row = _vote_by_row(members, weights, samples)
    skill = left_out_skill(samples, weights, T, in_mixture if by_row else None)
    residuals, tails = left_out_residuals(samples, in_mixture, weights, by_row=by_row)
    ensemble = Ensemble(members, weights, loss, T, skill, votes_by_row=by_row)
    starts = [candidate.start for candidate in candidates]
    return candidates, ensemble._replace(residuals=residuals, left_out=samples, tails=tails, starts=starts)


def _vote_by_row(members: Sequence[Member], weights: np.ndarray, samples: LeftOutSamples) -> bool:
    """Whether members count at each row by the variance that they predict there: if all that count know it.

    A module of the user has no Jacobian outside of Python.
    """
    counted, _ = voters(members, weights)
    if len(counted) < 2 or samples.loss.distribution != "normal" or samples.of_voters(weights) is None:
        return False
    return samples.objective.n_samples <= _MOST_ROWS and all(
        member.posterior is not None
        and len(member.posterior.factor) <= _LARGEST_FACTOR
        and member.network.exports_jacobian
        for member in counted
    )


def _squared_scale(candidate: Candidate) -> np.ndarray | None:
    scale = candidate.state.estimates.squared_scale
    return None if scale is None else scale.cpu().numpy()


def _noise_share(
    scales: list[np.ndarray | None], weights: np.ndarray, loss: Loss, apart: np.ndarray
) -> np.ndarray | float:
    """Part of the noise that is left in the mixture of members with these squared scales; all where one is unknown."""
    counted, votes = voters(scales, weights)
    if any(scale is None for scale in counted):
        return 1.0
    return noise_share(loss.variance_factor * mixture_mean(counted, votes), apart)


def _member(candidate: Candidate, noise_share: np.ndarray | float) -> Member:
    training = candidate.training
    member = make_member(training.state, training.linearisation, candidate.start, noise_share)
    # The member has a factor: the system must not stay in memory beside it.
    training.forget()
    return member
