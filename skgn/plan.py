"""Plan of a training, made before any work: rows, batches, solvers and threads, of a fit or a block of a stream."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from .backend import memory_budget
from .batches import Batches, plan_batches
from .callbacks import FitTasks
from .candidates import COMPARED_ROWS, Start
from .direction import Direction
from .directions import choose, memory_beside
from .jacobian_cost import gram_flops
from .limits import Limits
from .memory import Extent
from .network import Network, unrecorded
from .problem import Problem
from .threads import threads_here, torch_threads

__all__ = ["COMPARED_AFTER", "Cost", "Plan", "shortened_for_time", "side_by_side"]

#: Candidates are compared after so many iterations (docs/decisions.md).
COMPARED_AFTER = 16

#: Rows to begin on without a search, where the objective stays the same: at least so many, and so many for each weight.
#: The fit begins on them if it has ``_WORTHWHILE`` times as many.
_SAMPLE_ROWS, _ROWS_PER_WEIGHT, _WORTHWHILE = 500, 8, 2

#: An iteration takes as long as so many products of matrices with the multiply-adds of its direction; and a left-out
#: prediction as so many with those of its solution. Measured: 2 to 4 where classes are many, 14 for a single output,
#: which the first iterations tell.
_PRODUCTS_PER_ITERATION, _PRODUCTS_PER_SOLUTION = 4, 1

#: A fit with little time is made smaller until each member can have so many iterations, on so many rows at the least;
#: members are given up where there are no longer so many rows.
_FEWEST_ITERATIONS, _FEWEST_ROWS, _MANY_ROWS = 5, 20, 4 * COMPARED_ROWS


#: Below so many multiply-adds a Gram matrix, candidates in threads would wait for the interpreter.
_WORTH_A_THREAD = 2e7


class Cost(NamedTuple):
    """Time of an iteration, of the least part of one between two looks at the time, and of what follows.

    The unit is a multiply-add in a product of matrices. At the end of a training its left-out samples are predicted,
    and its posterior is stored.
    """

    iteration: float
    part: float
    end: float

    @property
    def least(self) -> float:
        """Multiply-adds of the shortest training that is worth while: the fewest iterations, or one pass of batches."""
        return (1 if self.part < self.iteration else _FEWEST_ITERATIONS) * self.iteration + self.end

    @classmethod
    def of(cls, direction: type[Direction], last: type[Direction], extent: Extent, rows: int) -> Cost:
        """Cost of a training on so many ``rows``, taken by an ``extent`` at a time: all of them, or a batch.

        ``last`` is the direction of what follows the training.
        """
        whole = replace(extent, n=rows)
        flops = direction.flops(extent), last.flops(whole)
        # What is not known counts as nothing.
        part, end = (_PRODUCTS_PER_ITERATION * each if math.isfinite(each) else 0.0 for each in flops)
        end += _PRODUCTS_PER_SOLUTION * whole.rows * float(last.system_size(whole)) ** 2
        in_batches = extent.n < rows
        return cls(part * rows / extent.n, part, 0.0 if in_batches and last.lacks_in_batches else end)


class Work(NamedTuple):
    """How a network is trained on so many rows, and what that takes.

    ``direction`` makes the steps, and left-out predictions rest on ``last``.
    """

    direction: type[Direction]
    last: type[Direction]
    cost: Cost


@dataclass(frozen=True)
class Plan:
    """Plan of a training, made before anything is allocated; it refuses what cannot fit in memory.

    Training begins on ``first_rows``, on which a search compares candidates, and ends on all ``rows``. ``batches``
    belong to the networks that end in batches, and ``work`` is that of a network on so many rows. ``flops`` are the
    multiply-adds of a Gram matrix of all rows.
    """

    rows: int
    first_rows: int
    searches: bool
    batches: Mapping[Network, Batches]
    work: Mapping[tuple[Network, int], Work]
    flops: float

    @classmethod
    def of_fit(
        cls, problem: Problem, starts: Sequence[Start], n_members: int, n_workers: int, rows: int | None = None
    ) -> Plan:
        """Plan a fit that keeps ``n_members`` members, of all rows or of the first ones.

        There may be more candidates than members, or as many.
        """
        n, size, batches = problem.n_samples if rows is None else rows, problem.batch_size, {}
        if size is not None:
            chosen = not isinstance(size, str)
            batches = {net: plan for net, plan in _batches(problem, starts, size).items() if plan.worthwhile(n, chosen)}
        return cls._settle(
            problem, starts, n_members, n_workers, (_first_rows(problem, starts, n_members, n), n), batches
        )

    @classmethod
    def in_time(
        cls, problem: Problem, starts: Sequence[Start], n_members: int, limits: Limits
    ) -> tuple[Plan, list[Start], int] | None:
        """Plan the largest fit that can be worth while in the time left, with its starts and its number of members.

        None if there is no time for any.
        """
        for n_candidates, count, rows in _sizes(len(starts), n_members, problem.n_samples):
            if limits.left <= 0:
                break
            fewer = list(starts[:n_candidates])
            plan = cls.of_fit(problem, fewer, count, limits.n_workers, rows)
            least = plan.least_flops([problem.network(start) for start in fewer], count)
            if limits.allow(least / min(limits.n_workers, count)):
                return plan, fewer, count
        return None

    @classmethod
    def of_block(cls, problem: Problem, starts: Sequence[Start], n_workers: int) -> Plan:
        """Plan the training on a block of a stream, which always comes in batches."""
        batches = _batches(problem, starts, problem.batch_size or "auto")
        n = problem.n_samples
        return cls._settle(problem, starts, len(starts), n_workers, (n, n), batches)

    def also_for(self, problem: Problem, starts: Sequence[Start], n_members: int, n_workers: int) -> Plan:
        """Plan the training of more candidates, for which there is memory: their networks are no larger, or small."""
        rows = self.first_rows, self.rows
        more = self._settle(problem, starts, n_members, n_workers, rows, self.batches, fits=True)
        return replace(self, work={**more.work, **self.work})

    @classmethod
    def _settle(
        cls,
        problem: Problem,
        starts: Sequence[Start],
        n_members: int,
        n_workers: int,
        first_and_all: tuple[int, int],
        batches: Mapping[Network, Batches],
        fits: bool = False,
    ) -> Plan:
        (first_rows, n), c = first_and_all, problem.n_columns

        def settled(network: Network, rows: int) -> Work:
            in_batches = batches.get(network) if rows == n else None
            at_once = rows if in_batches is None else min(rows, in_batches.rows)
            extent = Extent(
                network,
                at_once,
                c,
                problem.dtype,
                problem.device,
                candidates=len(starts) if rows == first_rows else n_members,
                workers=n_workers,
            )
            solver = problem.solver if in_batches is None else in_batches.solver
            here = replace(extent, n=problem.rows_in_memory(at_once))
            posterior = problem.loss.estimates_scale
            last = choose(solver, here, evidence, posterior, fits)
            once = evidence and network not in with_traces
            direction = choose(solver, here, False, posterior, fits) if once else last
            return Work(direction, last, Cost.of(direction, last, extent, rows))

        # Candidates may be drawn later, from the steepest units.
        every, evidence = [*starts, *_later(starts)], _estimates_priors(starts)
        networks = _networks(problem, every)
        with_traces = _networks(problem, [start for start in every if problem.needs_traces(start)])
        work = {(network, rows): settled(network, rows) for network in networks for rows in {first_rows, n}}
        flops = max(gram_flops(network, n, c) for network in networks)
        return cls(n, first_rows, len(starts) > n_members, batches, work, flops)

    def least_flops(self, networks: Sequence[Network], n_members: int) -> float:
        """Multiply-adds of the shortest fit that is worth while."""
        least = [self.work[network, self.rows].cost.least for network in networks]
        if not self.searches:
            return sum(least)
        compared = [self.work[network, self.first_rows].cost for network in networks]
        return n_members * max(least) + sum(COMPARED_AFTER * cost.iteration + cost.end for cost in compared)

    @contextlib.contextmanager
    def arithmetic(self) -> Iterator[None]:
        """Set torch up for training: threads according to the work, and no record of the operations for autograd."""
        with torch_threads(self.flops), unrecorded(network for network, _ in self.work):
            yield


def side_by_side(problem: Problem, starts: Sequence[Start], tasks: FitTasks | None) -> int:
    """Candidates that train at once where that is left to the fit: as many as torch has threads, with one each.

    They take about as long as in turn with all threads, and fewer processor seconds. None of them waits for a thread
    whose core is busy with other work. Where systems are so large that those of the others exceed the memory budget,
    candidates train in turn. So they do where tasks tell callbacks, which are meant for the thread of the caller.
    """
    n, networks = problem.rows_in_memory(problem.n_samples), _networks(problem, starts)
    if tasks is not None or problem.device.type != "cpu":
        return 1
    if max(gram_flops(network, n, problem.n_columns) for network in networks) < _WORTH_A_THREAD:
        return 1
    beside = max(memory_beside(problem.solver, problem.extent(network)) for network in networks)
    return min(threads_here(), len(starts), 1 + int(memory_budget() / beside))


def _sizes(n_candidates: int, n_members: int, n_rows: int) -> Iterator[tuple[int, int, int]]:
    """Numbers of candidates, members and rows of smaller and smaller fits.

    Of many rows a part will do. A mean of members is worth more than many rows, and many rows more than a comparison,
    which is given up first.
    """
    yield n_candidates, n_members, n_rows
    if n_candidates > n_members:
        yield n_members, n_members, n_rows
    while n_rows > _MANY_ROWS:
        n_rows //= 2
        yield n_members, n_members, n_rows
    while n_members > 1:
        n_members //= 2
        yield n_members, n_members, n_rows
    while n_rows >= 2 * _FEWEST_ROWS:
        n_rows //= 2
        yield 1, 1, n_rows


def shortened_for_time(
    problem: Problem, n_candidates: int, n_members: int, plan: Plan, starts: list[Start], members: int
) -> str:
    """Sentence that says what a plan has left out for want of time, or the rows before it; empty if nothing."""
    parts = {
        "networks": (members, n_members),
        "candidates": (len(starts), n_candidates),
        "rows": problem.rows_as_given(plan.rows),
    }
    fewer = [f"{few} of {all_of_them} {name}" for name, (few, all_of_them) in parts.items() if few < all_of_them]
    return f" Time allowed for {', '.join(fewer)}." if fewer else ""


def _networks(problem: Problem, starts: Sequence[Start]) -> dict[Network, None]:
    """Different networks that are trained, in their order."""
    return dict.fromkeys(problem.network(start) for start in starts)


def _later(starts: Sequence[Start]) -> list[Start]:
    """Starts of candidates that may be drawn later, by their networks; those of fewer columns take less."""
    return [replace(start, network=start.steepest) for start in starts if start.steepest is not None]


def _estimates_priors(starts: Sequence[Start]) -> bool:
    return any(start.prior_kind.has_evidence for start in starts)


def _batches(problem: Problem, starts: Sequence[Start], size: int | str) -> dict[Network, Batches]:
    evidence = _estimates_priors(starts)
    return {
        network: plan_batches(size, problem.solver, network, problem.n_columns, evidence)
        for network in _networks(problem, starts)
    }


def _first_rows(problem: Problem, starts: Sequence[Start], n_members: int, n: int) -> int:
    """Number of rows that a fit begins on.

    These are the rows of a search, or a sample if an approach on a sample pays, or else all rows.
    """
    if len(starts) > n_members:
        return min(n, COMPARED_ROWS)
    sample = max(_SAMPLE_ROWS, max(_ROWS_PER_WEIGHT * network.n_weights for network in _networks(problem, starts)))
    approach = problem.settings.project_readout and problem.settings.max_iter > 0 and n >= _WORTHWHILE * sample
    return sample if approach else n
