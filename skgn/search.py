"""The search for the members of an ensemble: candidates train side by side, and left-out samples judge them.

:meth:`Search.run` is the recipe, and the constants are its measures.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from .batches import BatchPass, BatchSteps
from .callbacks import FitTasks
from .candidates import Start, half_rectified, narrowed_count, narrowed_starts, redrawn_count, steepest_starts
from .conformal import left_out_residuals
from .ensemble import Ensemble, LeftOutSamples, Member, make_member, untrained
from .full_step import FullStep
from .leave_one_out import LeftOut, allowance, leave_one_out, log_likelihood, predictive_score, temperature
from .limits import Limits
from .losses import Loss
from .mixture import equal_weights, mixture_mean, noise_share, voters
from .objective import Objective
from .plan import COMPARED_AFTER, Cost, Plan, shortened_for_time
from .problem import Problem
from .progress import begin_lines, candidate_line, cut, dropped, kept, narrowed, redrawn
from .redrawing import Like, unlike_rectified, where_failed, where_nothing_is_found
from .reduced import Reduced
from .screening import useful_columns
from .skill import left_out_skill
from .stacking import left_out_losses, left_out_spread, stacking_weights
from .state import State
from .status import Status
from .training import Training, Watch
from .workers import Workers

__all__ = ["Candidate", "Search", "train_members"]

#: Training on a sample goes on to all rows once an iteration gains less than this part of the objective.
_APPROACHED = 0.05

#: Iterations that a member is expected to take at the most, for sharing out the time of a fit.
_USUAL_ITERATIONS = 100

#: A member that was cut short after less than this part of the iterations of the longest is left out.
_HARDLY_BEGUN = 0.5


def train_members(
    problem: Problem, starts: list[Start], n_members: int, limits: Limits, tasks: FitTasks | None = None
) -> Ensemble:
    """Train candidates in threads and keep ``n_members``, or fewer where the fit was cut short: see :class:`Search`.

    With little time there are fewer of them from the outset, or no training at all.
    """
    problem = replace(problem, reduces=problem.batch_size is None)
    found = Plan.in_time(problem, starts, n_members, limits)
    ensemble = None if found is None else Search(problem, *found, limits, tasks).run()
    if found is None or ensemble is None:
        return untrained(problem, starts[0], limits.reason)
    shortened = shortened_for_time(len(starts), n_members, problem.n_samples, *found)
    return ensemble._replace(shortened=shortened)


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
        skill = left_out_skill(*_left_out([self]), equal_weights(1))
        return candidate_line(self.number, self.start.words, self.state.n_iter, skill.score, self.seconds, outcome)

    @property
    def rank(self) -> tuple[float, float]:
        """The lowest is the best."""
        return -self.score, self.state.history[-1]["objective"]

    @property
    def state(self) -> State:
        """Present state of the training."""
        return self.training.state


class Search:
    """Trains candidates in threads and weighs them by what they predict of samples that they have not seen.

    Where there are no more candidates than members, all that is left of it is their training.

    Parameters
    ----------
    problem : Problem
    plan : Plan
    starts : list of Start
        One for each candidate.
    n_members : int
    limits : Limits
        Of the whole fit, with the number of candidates that train at a time.
    tasks : FitTasks or None
        What callbacks are told; None without any.
    """

    def __init__(
        self, problem: Problem, plan: Plan, starts: list[Start], n_members: int, limits: Limits, tasks: FitTasks | None
    ) -> None:
        self._problem, self.plan, self._starts, self._n_members = problem, plan, starts, n_members
        self._limits, self._tasks = limits, tasks
        self._settings, self._max_iter = problem.settings, problem.settings.max_iter
        # After an error the other trainings end after their iteration.
        self._workers = Workers(limits.n_workers, limits.interrupt)
        self._kind = "candidate" if self.plan.searches else "member"
        estimated = all(start.prior_kind.has_evidence for start in starts)
        self._tempered = estimated and problem.loss.has_temperature
        # Members of one objective are alike: telling them apart is not worth an iteration of each, or ten with classes.
        self._judged = estimated and (n_members > 1 or self._tempered or redrawn_count(starts, n_members) > 0)

    def run(self) -> Ensemble | None:
        """The recipe; None if it was cut short before anything was trained.

        All members are trained to the end, and left-out samples tell how much each of them counts. Of more candidates
        than members the better ones, by :func:`~skgn.leave_one_out.predictive_score`, go on after some iterations on
        some of the rows. More candidates are drawn where few columns are of use, or most members have failed. Where the
        evidence regularises a log loss, left-out samples set the temperature.
        """
        self._settings.report(begin_lines(self._problem.n_samples, len(self._starts), self._n_members))
        for network in dict.fromkeys(map(self._problem.network, self._starts)):
            if isinstance(network, Reduced) and network.leaves_out:
                self._settings.report(cut(str(network), network.n_weights, network.full.n_weights))
        candidates = self._candidates(enumerate(self._starts))
        with self._workers:
            if self.plan.searches:
                candidates = self.compare(candidates, COMPARED_AFTER)
            if candidates:
                candidates = self.compare(candidates, self._max_iter, last=True)
            if not candidates:
                return None
            for draw in (self.narrow, self.draw_again):
                more = draw(candidates)
                if more:
                    candidates = self.best_of(candidates + self.compare(more, self._max_iter, last=True))
        return self.conclude(candidates)

    def draw_again(self, candidates: list[Candidate]) -> list[Candidate]:
        """Draw more candidates, from steeper units, in the place of those that have failed or do not count."""
        count = redrawn_count(self._starts, self._n_members)
        if count == 0 or self._limits.over:
            return []
        with self.plan.arithmetic():
            like = self._like(candidates)
        if like is None:
            return []
        self._settings.report(redrawn(like.failed, count))
        first = len(self._starts) + narrowed_count(self._starts)
        return self._candidates(enumerate(steepest_starts(like.starts, count), first))

    def _like(self, candidates: list[Candidate]) -> Like | None:
        """Starts that more candidates are drawn like; None if there is no reason to draw any."""
        left_out, members = _left_out(candidates), [candidate.start for candidate in candidates]
        if self._problem.loss.has_scale:
            losses = left_out_losses(*left_out)
            best = candidates[int(losses.argmin())].state
            return where_failed(self._starts, members, losses, best.objective.unfitted_loss, best.status.converged)
        weights = stacking_weights(*left_out)
        like = where_nothing_is_found(self._starts, len(members), left_out_skill(*left_out, weights).score)
        if like is None and half_rectified(self._starts):
            like = unlike_rectified(self._starts, members, weights)
        return like

    def narrow(self, candidates: list[Candidate]) -> list[Candidate]:
        """Draw more candidates, which read the columns of use alone, where few are of use.

        The best candidate of each scaling tells which columns these are. The short starts of a single network have not
        come so far.
        """
        single = self.plan.searches and self._n_members == 1
        if self._limits.over or single or not narrowed_count(self._starts):
            return []
        columns: dict[str, np.ndarray] = {}
        with self.plan.arithmetic():
            for best in sorted(candidates, key=lambda candidate: candidate.rank):
                if best.start.scaling not in columns and best.left_out is not None:
                    objective = self._problem.on_columns(best.start, best.state)
                    columns[best.start.scaling] = useful_columns(best.state, best.left_out, objective)
        starts = narrowed_starts(self._starts, columns)
        if not starts:
            return []
        self.plan = self.plan.also_for(self._problem, starts, self._n_members, self._limits.n_workers)
        for name in dict.fromkeys(start.scaling for start in starts):
            self._settings.report(narrowed(name, columns[name], sum(start.scaling == name for start in starts)))
        return self._candidates(enumerate(starts, len(self._starts)))

    def best_of(self, candidates: list[Candidate]) -> list[Candidate]:
        """Keep the best candidates, as many as there are to be members, and drop the others."""
        ordered = sorted(candidates, key=lambda candidate: candidate.rank)
        best, others = ordered[: self._n_members], ordered[self._n_members :]
        for candidate in others:
            self._drop(candidate, dropped(candidate.rank, best[-1].rank))
        return best

    def conclude(self, candidates: list[Candidate]) -> Ensemble:
        """Make the ensemble of the candidates that are left, those that count the most first."""
        with self.plan.arithmetic():
            weights = stacking_weights(*_left_out(candidates))
            # Of members that count alike the objective decides.
            objectives = np.array([c.state.history[-1]["objective"] for c in candidates])
            order = np.lexsort((objectives, -weights))
            candidates, weights = [candidates[number] for number in order], weights[order]
            T = self._temperature(candidates, weights) if self._tempered else 1.0
            objective, loss, left_out, allowances = _left_out(candidates)
            skill = left_out_skill(objective, loss, left_out, allowances, weights, T)
            scales = [_squared_scale(candidate) for candidate in candidates]
            apart = left_out_spread(objective, left_out, weights) if loss.has_scale else None
            share = 1.0 if apart is None else _noise_share(scales, weights, loss, apart)
            in_mixture = [None if scale is None else share * scale for scale in scales]
            residuals, tails = left_out_residuals(objective, loss, left_out, allowances, in_mixture, weights)
            for candidate, weight in zip(candidates, weights, strict=True):
                self._tell(candidate, kept(weight, candidate.state.status))
            members = [_member(candidate, share) for candidate in candidates]
        samples = LeftOutSamples(objective, left_out, allowances)
        ensemble = Ensemble(members, weights, self._problem.loss, T, skill)
        return ensemble._replace(residuals=residuals, left_out=samples, tails=tails)

    def _temperature(self, candidates: list[Candidate], weights: np.ndarray) -> float:
        known = [(c.left_out, v) for c, v in zip(candidates, weights, strict=True) if c.left_out is not None]
        if not known:
            return 1.0
        left_out, votes = [each for each, _ in known], np.array([v for _, v in known])
        objective = candidates[0].state.objective
        likelihood = partial(log_likelihood, weights=votes, loss=self._problem.loss)
        return temperature(lambda T: float(objective.sum(partial(likelihood, T=T), *left_out)))

    def _candidates(self, starts: Iterable[tuple[int, Start]]) -> list[Candidate]:
        with self.plan.arithmetic():
            return [Candidate(number, start, self._training(number, start)) for number, start in starts]

    def compare(self, candidates: list[Candidate], until: int, last: bool = False) -> list[Candidate]:
        """Train all for up to ``until`` iterations, and return the candidates to be kept, best first.

        There are none if the fit is cut short before any of them has trained.
        """
        until = min(until, self._max_iter)
        planned = len(candidates) * (until - max(c.state.n_iter for c in candidates))
        later = 0 if last else self._n_members * min(self._max_iter - until, _USUAL_ITERATIONS)
        self._limits.keep(sum(self._cost(candidate, last).end for candidate in candidates))
        self._limits.begin_round(len(candidates), planned / max(planned + later, 1))
        had_time = self._workers.map(partial(self.advance, until=until, last=last), candidates)
        begun = candidates if all(had_time) and not self._limits.over else _well_begun(candidates)
        self._limits.keep(0.0)
        self._workers.map(partial(self.judge, last=last), begun)
        for candidate in (candidate for candidate in candidates if candidate not in begun):
            self._drop(candidate, "dropped, cut short")
        best = self.best_of(begun)
        if not last:
            numbers = ", ".join(str(number + 1) for number in sorted(c.number for c in best))
            self._settings.report(f"search: candidates {numbers} of {len(self._starts)} go on")
        return best

    def advance(self, candidate: Candidate, until: int, last: bool) -> bool:
        """Train for up to ``until`` iterations or as long as there is time; the last ones are on all rows.

        Return whether there was time for any.
        """
        # What it has predicted of left-out samples is not what it will.
        candidate.left_out = None
        limits, turn_is_over = self._limits, self._limits.begin_training()
        cost = self._cost(candidate, last)
        if limits.over or not limits.allow(cost.part):
            return False
        candidate.training.watch.begin()
        done = candidate.state.n_iter

        def pause() -> bool:
            # Nobody is served by a linearisation without a step.
            return limits.over or (candidate.state.n_iter > done and turn_is_over(cost.part))

        with self.plan.arithmetic():
            try:
                if not self.plan.searches and candidate.state.objective.n_samples < self.plan.rows:
                    candidate.run(until, _APPROACHED, pause)
                # Out of time, on all rows there is nothing to be had but the cost of one linearisation.
                if not pause():
                    if last:
                        done = 0
                        self._go_to_all_rows(candidate)
                    began, before = limits.left, candidate.state.n_iter
                    candidate.run(until, pause=pause)
                    if cost.part == cost.iteration:
                        limits.took(began - limits.left, (candidate.state.n_iter - before) * cost.iteration)
                if last and (candidate.state.status is not Status.RUNNING or candidate.training.watch.stopped):
                    self._finish(candidate.training)
            except KeyboardInterrupt:
                # Where the signal was not ours to handle.
                limits.interrupt()
        return True

    def judge(self, candidate: Candidate, last: bool) -> None:
        """Find what a candidate predicts of left-out samples, where anything depends on it."""
        training = candidate.training
        with self.plan.arithmetic():
            if last or self._limits.over:
                self._finish(training)
            if self._judged or not last:
                candidate.left_out = leave_one_out(training.state, training.last_linearisation)
                candidate.score = predictive_score(training.state, candidate.left_out)
            else:
                # What the search has left out was of its rows.
                candidate.left_out = None

    def _training(self, number: int, start: Start) -> Training:
        """Make the training of a candidate from its start, on the first rows."""
        problem, rows = self._problem, self.plan.first_rows
        return Training(
            problem.at_start(start, rows),
            self._full_step(start, rows),
            problem.settings.named(self._kind, number, len(self._starts)),
            problem.validation_from(start),
            self._watch(number, start),
        )

    def _cost(self, candidate: Candidate, last: bool) -> Cost:
        """Cost of a training in its last round, or before it."""
        rows = self.plan.rows if last else self.plan.first_rows
        return self.plan.work[candidate.state.objective.network, rows].cost

    def _full_step(self, start: Start, rows: int) -> FullStep:
        problem = self._problem
        work = self.plan.work[problem.network(start), rows]
        return FullStep(problem.rule, work.direction, problem.settings, work.last)

    def _watch(self, number: int, start: Start) -> Watch:
        if self._tasks is None:
            return Watch()
        plan, max_iter = self.plan, self._max_iter
        # A training in batches begins its own history, as one does that has approached on a sample.
        warms_up = start.network in plan.batches or (plan.first_rows < plan.rows and not plan.searches)
        # An iteration that finds no step on some rows may find one on all.
        at_once = plan.first_rows == plan.rows and not plan.batches
        before = 0 if at_once else (COMPARED_AFTER if plan.searches else max_iter) + 1
        return self._tasks.candidate(self._kind, number, before + max_iter, warms_up, start, self._problem.loss)

    def _go_to_all_rows(self, candidate: Candidate) -> None:
        training, start, plan = candidate.training, candidate.start, self.plan
        if start.network not in plan.batches and training.state.objective.n_samples == plan.rows:
            return
        state = training.state.on(self._problem.objective_from(start, plan.rows))
        if start.network in plan.batches:
            training.watch.count_anew()
            candidate.training = self._in_batches(training, start, state)
            return
        stepper = self._full_step(start, plan.rows)
        if not plan.searches:
            # The sample has only shown the way.
            state = replace(stepper.with_readout(state), n_iter=0, history=(), readout_first=False)
            training.watch.count_anew()
        training.go_on(state, stepper)

    def _in_batches(self, training: Training, start: Start, state: State) -> Training:
        """A training in batches that begins with weights, estimates and noise level of a state on all rows."""
        rule, plan, settings = self._problem.rule, self.plan, training.settings
        batches, random_state = plan.batches[start.network], np.random.RandomState(start.seed)
        steps = BatchSteps(rule, batches, random_state, state.objective, state.objective.total_weight)
        stepper = BatchPass(rule, plan.work[start.network, plan.rows].direction, steps)
        begun = State(state.objective, state.prior, state.estimates, state.at)
        return Training(begun, stepper, settings, training.validation, training.watch)

    def _finish(self, training: Training) -> None:
        if not training.state.finished:
            training.finish(self._limits.reason)
        self._end_task(training)

    def _drop(self, candidate: Candidate, why: str) -> None:
        with self.plan.arithmetic():
            self._tell(candidate, why)
            candidate.training.watch.drop()
            self._end_task(candidate.training)

    def _end_task(self, training: Training) -> None:
        if training.watch.end(training):
            self._limits.stop()

    def _tell(self, candidate: Candidate, outcome: str) -> None:
        """Print the line of a candidate, if lines are asked for."""
        if self._settings.verbose:
            self._settings.report(candidate.line(outcome))


def _well_begun(candidates: list[Candidate]) -> list[Candidate]:
    """Without those that had hardly begun when the fit was cut short: they would spoil the mean.

    Those on the most rows have come the furthest, and on these those of the most iterations.
    """
    candidates = [c for c in candidates if c.begun]
    rows = max((c.state.objective.n_samples for c in candidates), default=0)
    candidates = [c for c in candidates if c.state.objective.n_samples == rows]
    longest = max((c.state.n_iter for c in candidates), default=0)
    return [c for c in candidates if c.state.status.converged or c.state.n_iter >= _HARDLY_BEGUN * longest]


def _left_out(candidates: list[Candidate]) -> tuple[Objective, Loss, list[LeftOut | None], list[float]]:
    """Return what candidates predict of left-out samples, and the loss of the best to judge them by."""
    best = max(candidates, key=lambda c: c.score).state.objective
    return best, best.data_loss, [c.left_out for c in candidates], [allowance(c.state) for c in candidates]


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
