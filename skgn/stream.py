"""Training on a stream of rows: one pass of batches over each block, with everything that the blocks before have left.

From block to block a member keeps its weights, damping, remembered curvature and estimated precisions. Between the
blocks they are NumPy arrays. In the evidence, the number of samples counts all rows seen. Their Gram matrix is the
remembered mean, and their mean loss is the loss of the last block. There are no earlier rows to test a pass on. So the
held-back batches test its steps, and the pass ends at its last weights.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from joblib import Parallel, delayed

from .backend import members_at_once
from .batches import BatchSteps, BatchTraining
from .candidates import Start
from .ensemble import Ensemble, Member, make_member
from .mixture import equal_weights
from .plan import Plan
from .problem import Problem
from .training import Settings, Step

__all__ = ["Stream", "StreamTraining", "train_block"]


@dataclass(frozen=True)
class Stream:
    """One member between two blocks, as NumPy arrays and plain values; ``start`` has its present weights."""

    start: Start
    total_weight: float = 0.0
    n_blocks: int = 0
    steps: dict[str, Any] | None = None
    estimates: dict[str, np.ndarray] = field(default_factory=dict)
    loss_precision: np.ndarray | None = None
    history: dict[str, np.ndarray] = field(default_factory=dict)


@dataclass
class StreamTraining(BatchTraining):
    """Training whose iteration is a pass over one block of rows.

    ``total_weight`` is the weight of all rows so far, this block included.
    """

    total_weight: float = field(kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        # The batches of a pass over all rows seen.
        self.steps.most_memory *= self.total_weight / self.objective.total_weight

    def take(self, stream: Stream) -> None:
        """Make one pass over the block.

        The history goes on from the history of the stream, whose first entry is the start.
        """
        began = time.perf_counter()
        self.n_iter = stream.n_blocks
        if self.n_iter == 0:
            self._arrive(began)
        else:
            self.history = {name: list(values) for name, values in stream.history.items()}
            began -= self.history["time"][-1]
            self._value = self.value(self.at)
        self._step = self._find_step()
        self.at, self.n_iter = self._step.to, self.n_iter + 1
        self._arrive(began)
        self.status = "stream"

    def _find_step(self) -> Step:
        at, steps = self.at, self.steps
        led = steps.run(self.objective, at.w, self.prior.precision, self._order(), self.n_iter, lambda: False)
        end = self.objective.evaluate(led.last)
        norm = float((end.w - at.w).norm())
        return Step(end, steps.damping, led.gain_ratio, norm, led.predicted, self._value - self.value(end))


def train_block(problem: Problem, streams: list[Stream], n_jobs: int | None) -> tuple[Ensemble, list[Stream]]:
    """Train every member of a stream on one block of rows, in threads."""
    plan = Plan.of_block(problem, [stream.start for stream in streams], members_at_once(n_jobs))

    def advance(number: int, stream: Stream) -> tuple[Member, Stream]:
        with plan.arithmetic():
            training = _begin(problem, plan, stream, problem.settings.named("member", number, len(streams)))
            training.take(stream)
            member = make_member(training, stream.start)
        return member, _after(stream, training, member)

    results = Parallel(n_jobs=n_jobs, require="sharedmem")(delayed(advance)(*item) for item in enumerate(streams))
    members, streams = (list(part) for part in zip(*results, strict=True))
    return Ensemble(members, equal_weights(len(members)), problem.loss, 1.0), streams


def _begin(problem: Problem, plan: Plan, stream: Stream, settings: Settings) -> StreamTraining:
    """Begin a training on the block with everything that the blocks before have left."""
    start = stream.start
    objective, w, prior = problem.at_start(start, plan.rows, stream.total_weight)
    steps = BatchSteps(problem.rule, plan.batches[start.network], problem.settings.step_size)
    if stream.steps is not None:
        steps.restore(stream.steps, w)
        prior.restore(stream.estimates)
    if stream.loss_precision is not None:
        precision = torch.tensor(stream.loss_precision, device=w.device)
        objective.data_loss = objective.data_loss.at_precision(precision)
    return StreamTraining(
        objective,
        w,
        prior,
        problem.rule,
        plan.directions[start.network, plan.rows],
        settings,
        steps=steps,
        random_state=np.random.RandomState([start.seed, stream.n_blocks]),
        total_weight=prior.total_weight,
    )


def _after(stream: Stream, training: StreamTraining, member: Member) -> Stream:
    """Make the stream that the next block begins with."""
    precision = training.objective.data_loss.precision
    return Stream(
        start=replace(stream.start, weights=member.weights),
        total_weight=training.total_weight,
        n_blocks=training.n_iter,
        steps=training.steps.state(),
        estimates=training.prior.estimates(),
        loss_precision=None if precision is None else precision.cpu().numpy().copy(),
        history=member.history,
    )
