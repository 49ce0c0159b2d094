"""Training on a stream of rows: one pass of batches over each block, with everything that the blocks before have left.

From block to block a member keeps its weights, damping, remembered curvature and estimated precisions. Between the
blocks they are NumPy arrays. In the evidence, the number of samples counts all rows seen. Their Gram matrix is the
remembered mean, and their mean loss is the loss of the last block. The noise is that of the last block; if this has
fewer rows than are remembered, squared residuals of the blocks before stand for the rest. There are no earlier rows to
test a pass on. So the held-back batches test its steps, and the pass ends at its last weights.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from .batches import BatchSteps
from .candidates import Start
from .damping import DampingRule, Iterate
from .ensemble import Ensemble, Member, make_member
from .history import as_rows
from .losses import Loss
from .objective import Squares
from .plan import Plan
from .problem import Problem
from .progress import begin_block, candidate_line, end_block
from .settings import Settings
from .state import Linearisation, State, Step
from .status import Status
from .training import Training
from .workers import Workers, members_at_once

__all__ = ["BlockPass", "Stream", "streams_of", "train_block"]


@dataclass(frozen=True)
class Stream:
    """One member between two blocks, as NumPy arrays and plain values; ``start`` has its present weights.

    Its ``vote`` in predictions is that of all others, or its weight in the fit before. ``squares`` (k,) are the sums
    of squares from which the noise was estimated, of samples of ``squares_weight``.
    """

    start: Start
    total_weight: float = 0.0
    n_blocks: int = 0
    steps: dict[str, Any] | None = None
    estimates: dict[str, np.ndarray] = field(default_factory=dict)
    loss_precision: np.ndarray | None = None
    squares: np.ndarray | None = None
    squares_weight: float = 0.0
    history: dict[str, np.ndarray] = field(default_factory=dict)
    vote: float = 1.0


@dataclass(frozen=True)
class BlockPass:
    """A step of a training that is a pass over one block of rows."""

    rule: DampingRule
    steps: BatchSteps

    def linearise(self, state: State) -> Linearisation:
        return self.steps.linearise(state)

    def conclude(self, state: State, linearisation: Linearisation) -> Linearisation:
        return linearisation

    def step(self, state: State, linearisation: Linearisation, pause: Callable[[], bool]) -> Step:
        led = self.steps.run(state, pause)
        end = state.objective.evaluate(led.last)
        return led.step(state.at, end, state.value(state.at) - state.value(end))


def _one_pass(state: State, iterate: Iterate, settings: Settings) -> State:
    """Return the state with its status: training ends after its pass."""
    return state if state.step is None else replace(state, status=Status.STREAM)


def streams_of(
    members: Sequence[Member], votes: np.ndarray, loss: Loss, random_state: np.random.RandomState
) -> list[Stream]:
    """Turn the members of a fit into streams that begin with their weights.

    They know their votes, the number of samples and the noise level of the fit, and nothing else of its data.
    """
    seeds = random_state.randint(np.iinfo(np.int32).max, size=len(members))
    each = zip(members, votes.tolist(), seeds.tolist(), strict=True)
    return [replace(_stream_of(member, loss, seed), vote=vote) for member, vote, seed in each]


def _stream_of(member: Member, loss: Loss, seed: int) -> Stream:
    stream = Stream(member.start(seed), member.total_weight)
    if member.posterior is None:
        return stream
    squared_scale = member.posterior.noise_variance / loss.variance_factor
    degrees = max(1.0, member.total_weight - member.n_effective_parameters / len(squared_scale))
    return replace(stream, squares=squared_scale * degrees, squares_weight=member.total_weight)


def train_block(problem: Problem, streams: list[Stream], n_jobs: int | None) -> tuple[Ensemble, list[Stream]]:
    """Train every member of a stream on one block of rows, in threads."""
    n_workers, stopped = members_at_once(n_jobs), threading.Event()
    plan = Plan.of_block(problem, [stream.start for stream in streams], n_workers)

    def advance(item: tuple[int, Stream]) -> tuple[Member, Stream]:
        number, stream = item
        with plan.arithmetic():
            training, steps = _begin(problem, plan, stream, problem.settings.named("member", number, len(streams)))
            began = time.perf_counter()
            training.run(until=stream.n_blocks + 1, pause=stopped.is_set)
            member = make_member(training.state, training.linearisation, stream.start)
            outcome = f"kept, loss {member.loss:.4g} after its pass"
            took = time.perf_counter() - began
            problem.settings.report(candidate_line(number, stream.start.words, member.n_iter, math.nan, took, outcome))
        return member, _after(stream, training.state, steps, member)

    began, n_blocks = time.perf_counter(), streams[0].n_blocks
    problem.settings.report(begin_block(problem.n_samples, n_blocks))
    with Workers(n_workers, stopped.set) as workers:
        results = workers.map(advance, enumerate(streams))
    members, streams = (list(part) for part in zip(*results, strict=True))
    problem.settings.report(end_block(len(members), n_blocks, time.perf_counter() - began))
    votes = np.array([stream.vote for stream in streams])
    return Ensemble(members, votes / votes.sum(), problem.loss, 1.0), streams


def _begin(problem: Problem, plan: Plan, stream: Stream, settings: Settings) -> tuple[Training, BatchSteps]:
    """Begin a training on the block with everything that the blocks before have left."""
    start, state = stream.start, _state(problem, plan.rows, stream)
    random_state = np.random.RandomState([start.seed, stream.n_blocks])
    batches, total_weight = plan.batches[start.network], state.estimates.total_weight
    objective = state.objective
    steps = BatchSteps(problem.rule, batches, random_state, objective, total_weight)
    if stream.steps is not None:
        steps.restore(stream.steps, state.at.w)
    else:
        steps.follow(stream.total_weight)
    if stream.squares is not None:
        weight = min(max(0.0, steps.remembered_weight - objective.total_weight), stream.squares_weight)
        squares = torch.tensor(stream.squares * (weight / stream.squares_weight), device=state.at.w.device)
        state = replace(state, objective=objective.beside(Squares(squares, weight)))
    seconds = state.history[-1]["time"] if state.history else 0.0
    return Training(state, BlockPass(problem.rule, steps), settings, judge=_one_pass, seconds=seconds), steps


def _state(problem: Problem, rows: int, stream: Stream) -> State:
    """The state that the blocks before have left, on the rows of the block."""
    start = stream.start
    objective, prior, w = problem.objective_from(start, rows), problem.prior_from(start), problem.weights_from(start)
    total_weight = stream.total_weight + objective.total_weight
    if stream.steps is None:
        return State.at_weights(w, objective, prior, prior.initial(total_weight))
    if stream.loss_precision is not None:
        precision = torch.tensor(stream.loss_precision, device=w.device)
        objective = objective.with_loss(objective.data_loss.at_precision(precision))
    return State(
        objective,
        prior,
        # After a change of units there are no estimates.
        prior.from_arrays(stream.estimates, total_weight) if stream.estimates else prior.initial(total_weight),
        objective.evaluate(w),
        n_iter=stream.n_blocks,
        arrived=True,
        history=as_rows(stream.history),
    )


def _after(stream: Stream, state: State, steps: BatchSteps, member: Member) -> Stream:
    """Make the stream that the next block begins with."""
    loss = state.objective.data_loss
    precision, squares = loss.precision, state.objective.squares(state.at) if loss.estimates_scale else None
    return Stream(
        vote=stream.vote,
        start=replace(stream.start, weights=member.weights),
        total_weight=state.estimates.total_weight,
        n_blocks=state.n_iter,
        steps=steps.arrays(),
        estimates=state.prior.arrays(state.estimates),
        loss_precision=None if precision is None else precision.cpu().numpy().copy(),
        squares=None if squares is None else squares.total.cpu().numpy(),
        squares_weight=0.0 if squares is None else squares.weight,
        history=member.history,
    )
