"""The search for the members of an ensemble: candidates train side by side, and left-out samples judge them.

:meth:`Search.run` is the recipe, and the constants are its measures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial

import numpy as np

from .batches import BatchPass, BatchSteps
from .callbacks import FitTasks
from .candidates import AT_A_TIME, COMPARED_ROWS, Start
from .draws import Draw, redrawn_count
from .ensemble import Ensemble, untrained
from .full_step import FullStep
from .further import FURTHER, More
from .leave_one_out import leave_one_out, predictive_score
from .limits import Limits
from .plan import COMPARED_AFTER, Cost, Plan, shortened_for_time
from .problem import Problem
from .progress import begin_lines, cut, dropped, enough, kept
from .reduced import Reduced
from .stacking import gain_of_more, is_exact
from .state import State
from .status import Status
from .training import Training, Watch
from .trials import Candidate, Trained, ensemble_of, left_out_of, well_begun
from .workers import Workers

__all__ = ["Search", "train_members"]

#: Training on a sample goes on to all rows once an iteration gains less than this part of the objective.
_APPROACHED = 0.05

#: Iterations that a member is expected to take at the most, for sharing out the time of a fit.
_USUAL_ITERATIONS = 100

#: More members are trained where all of them promise to lower the left-out loss by this part at least.
_WORTHWHILE = 0.02


def train_members(problem: Problem, draw: Draw, limits: Limits, tasks: FitTasks | None = None) -> Ensemble:
    """Train candidates in threads and keep the members, or fewer where the fit was cut short: see :class:`Search`.

    With little time there are fewer of them from the outset, or no training at all.
    """
    problem = replace(problem, reduces=problem.batch_size is None)
    found = Plan.in_time(problem, draw.starts, draw.n_members, limits)
    if found is not None:
        plan, starts, n_members = found
        fewer = draw._replace(starts=starts, n_members=n_members, shortened=len(starts) < len(draw.starts))
        if n_members == 1:
            # None is drawn for what a single network lacks.
            fewer = fewer._replace(refinable=None, surroundings=None, ground=None)
        ensemble = Search(problem, plan, fewer, limits, tasks).run()
        if ensemble is not None:
            return ensemble._replace(shortened=shortened_for_time(problem, len(draw.starts), draw.n_members, *found))
    return untrained(problem, draw.starts[0], limits.reason)


class Search:
    """Trains candidates in threads and weighs them by what they predict of samples that they have not seen.

    Where there are no more candidates than members, all that is left of it is their training.

    Parameters
    ----------
    problem : Problem
    plan : Plan
    draw : Draw
        The start of each candidate, and how many are kept.
    limits : Limits
        Of the whole fit, with the number of candidates that train at a time.
    tasks : FitTasks or None
        What callbacks are told; None without any.
    """

    def __init__(self, problem: Problem, plan: Plan, draw: Draw, limits: Limits, tasks: FitTasks | None) -> None:
        self._problem, self.plan = problem, plan
        self._draw, starts, n_members = draw, draw.starts, draw.n_members
        self._starts, self._n_members, self._n_first = starts, n_members, draw.n_first
        self._limits, self._tasks = limits, tasks
        # Whether limits have left anything untrained.
        self._cut = False
        self._settings, self._max_iter = problem.settings, problem.settings.max_iter
        # After an error the other trainings end after their iteration.
        self._workers = Workers(limits.n_workers, limits.interrupt)
        self._kind = "candidate" if self.plan.searches else "member"
        estimated = all(start.prior_kind.has_evidence for start in starts)
        self._tempered = estimated and problem.loss.has_temperature
        # A single network that goes on, or is left for want of time, is judged as one beside which others may be drawn.
        drawn = redrawn_count(starts, n_members) > 0 or (
            (draw.go_on or draw.shortened) and all(s.network.hidden_layer_sizes for s in starts)
        )
        # Members of one objective are alike: telling them apart is not worth an iteration of each, or ten with classes.
        self._judged = estimated and (n_members > 1 or self._tempered or drawn)

    def run(self) -> Ensemble | None:
        """The recipe; None if it was cut short before anything was trained.

        Members are trained to the end, and left-out samples tell how much each of them counts, and whether more of them
        are worth their time. Of more candidates than members the better ones, by
        :func:`~skgn.leave_one_out.predictive_score`, go on after some iterations on some of the rows. More candidates
        are drawn for each reason in :data:`~skgn.further.FURTHER`, such as that few columns are of use. Where the
        evidence regularises a log loss, left-out samples set the temperature.
        """
        self._settings.report(begin_lines(self._problem.n_samples, len(self._starts), self._n_members))
        of_leading = filter(self._problem.leaves_out_inputs, self._starts)
        for network in dict.fromkeys(map(self._problem.network, of_leading)):
            if isinstance(network, Reduced):
                self._settings.report(cut(str(network), network.n_weights, network.full.n_weights))
        with self._workers:
            trained = Trained(self.choose() if self.plan.searches else self.train())
            if not trained.candidates:
                return None
            for draw in FURTHER:
                trained = self.draw_more(draw, trained)
        return self.conclude(trained)

    def choose(self) -> list[Candidate]:
        """Train all candidates for some iterations on some of the rows, and the better ones to the end."""
        better = self.compare(self._candidates(enumerate(self._starts)), COMPARED_AFTER)
        return self.compare(better, self._max_iter, last=True) if better else []

    def train(self) -> list[Candidate]:
        """Train the first candidates to the end, and some of the others at a time, as long as they are worth it."""
        trained: list[Candidate] = []
        starts, count = list(enumerate(self._starts)), self._n_first
        while starts and (not trained or self._is_worthwhile(trained)):
            now, starts, count = starts[:count], starts[count:], AT_A_TIME
            trained += self.compare(self._candidates(now), self._max_iter, last=True, later=len(starts))
        return self.best_of(trained) if trained else []

    def _is_worthwhile(self, trained: list[Candidate]) -> bool:
        """Whether all other candidates promise to lower the left-out loss of those that are trained."""
        if self._limits.over:
            self._cut = True
            return False
        with self.plan.arithmetic():
            gain = gain_of_more(left_out_of(trained), n_members=len(self._starts))
        if gain < _WORTHWHILE:
            self._settings.report(enough(len(trained), len(self._starts), gain))
        return gain >= _WORTHWHILE

    def draw_more(self, draw: Callable[..., More | None], trained: Trained) -> Trained:
        """Train the candidates that one of :data:`~skgn.further.FURTHER` draws, and return the best of all."""
        if self._limits.over:
            self._cut = True
            return trained
        with self.plan.arithmetic():
            more = draw(self._problem, self._draw, self.plan, trained)
            if more is None or not more.starts or self._is_exact(trained):
                return trained
        self._problem, self._n_members = more.problem, self._n_members + more.n_more
        self.plan = self.plan.also_for(self._problem, more.starts, self._n_members, self._limits.n_workers)
        for line in more.lines:
            self._settings.report(line)
        drawn = self._candidates(enumerate(more.starts, more.first))
        return Trained(self.best_of([*trained.candidates, *self.compare(drawn, self._max_iter, last=True)]))

    def _is_exact(self, trained: Trained) -> bool:
        """Whether many rows show that rounding errors are all that is left: no reason to draw more."""
        return self.plan.rows > COMPARED_ROWS and is_exact(trained.samples, self._settings.tol)

    def best_of(self, candidates: list[Candidate]) -> list[Candidate]:
        """Keep the best candidates, as many as there are to be members, and drop the others."""
        ordered = sorted(candidates, key=lambda candidate: candidate.rank)
        best, others = ordered[: self._n_members], ordered[self._n_members :]
        for candidate in others:
            self._drop(candidate, dropped(candidate.rank, best[-1].rank))
        return best

    def conclude(self, trained: Trained) -> Ensemble:
        """Make the ensemble of the candidates that are left, those that count the most first."""
        with self.plan.arithmetic():
            candidates, ensemble = ensemble_of(trained, self._problem.loss, self._tempered)
            for candidate, weight in zip(candidates, ensemble.weights, strict=True):
                self._tell(candidate, kept(weight, candidate.state.status))
        return ensemble._replace(cut_by=self._limits.reason if self._cut else None)

    def _candidates(self, starts: Iterable[tuple[int, Start]]) -> list[Candidate]:
        with self.plan.arithmetic():
            return [Candidate(number, start, self._training(number, start)) for number, start in starts]

    def compare(self, candidates: list[Candidate], until: int, last: bool = False, later: int = 0) -> list[Candidate]:
        """Train all for up to ``until`` iterations, and return the candidates to be kept, best first.

        There are none if the fit is cut short before any of them has trained. So many others are trained ``later``.
        """
        until = min(until, self._max_iter)
        planned = len(candidates) * (until - max(c.state.n_iter for c in candidates))
        rest = later * until if last else self._n_members * min(self._max_iter - until, _USUAL_ITERATIONS)
        self._limits.keep(sum(self._cost(candidate, last).end for candidate in candidates))
        self._limits.begin_round(len(candidates), planned / max(planned + rest, 1))
        had_time = self._workers.map(partial(self.advance, until=until, last=last), candidates)
        begun = candidates if all(had_time) and not self._limits.over else well_begun(candidates)
        self._limits.keep(0.0)
        self._workers.map(partial(self.judge, last=last), begun)
        for candidate in (candidate for candidate in candidates if candidate not in begun):
            self._cut = True
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
            self._cut = self._cut or training.state.status is self._limits.reason
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
