"""Plan of a training, made before any work: rows, batches and solvers, of a fit or of a block of a stream."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch

from .backend import torch_threads
from .batches import Batches, plan_batches
from .candidates import COMPARED_ROWS, Start
from .direction import Direction
from .directions import choose
from .jacobian_cost import gram_flops
from .memory import Extent
from .network import Network
from .problem import Problem

__all__ = ["Plan"]

#: Rows to begin on without a search, where the objective stays the same: at least so many, and so many for each weight.
#: The fit begins on them if it has ``_WORTHWHILE`` times as many.
_SAMPLE_ROWS, _ROWS_PER_WEIGHT, _WORTHWHILE = 500, 8, 2


@dataclass(frozen=True)
class Plan:
    """Plan of a training, made before anything is allocated; it refuses what cannot fit in memory.

    Training begins on ``first_rows``, on which a search compares candidates, and ends on all ``rows``. ``batches``
    belong to the networks that end in batches. ``directions`` make the solver of a network for a number of rows.
    ``flops`` are the multiply-adds of an iteration.
    """

    rows: int
    first_rows: int
    searches: bool
    batches: Mapping[Network, Batches]
    directions: Mapping[tuple[Network, int], type[Direction]]
    flops: float

    @classmethod
    def of_fit(cls, problem: Problem, starts: Sequence[Start], n_members: int, n_workers: int) -> Plan:
        """Plan a fit of all rows that keeps ``n_members`` members.

        There may be more candidates than members, or as many.
        """
        n, size, batches = problem.n_samples, problem.batch_size, {}
        if size is not None:
            chosen = not isinstance(size, str)
            batches = {net: plan for net, plan in _batches(problem, starts, size).items() if plan.worthwhile(n, chosen)}
        return cls._settle(problem, starts, n_members, n_workers, _first_rows(problem, starts, n_members), batches)

    @classmethod
    def of_block(cls, problem: Problem, starts: Sequence[Start], n_workers: int) -> Plan:
        """Plan the training on a block of a stream, which always comes in batches."""
        batches = _batches(problem, starts, problem.batch_size or "auto")
        return cls._settle(problem, starts, len(starts), n_workers, problem.n_samples, batches)

    @classmethod
    def _settle(
        cls,
        problem: Problem,
        starts: Sequence[Start],
        n_members: int,
        n_workers: int,
        first_rows: int,
        batches: Mapping[Network, Batches],
    ) -> Plan:
        n, c = problem.n_samples, problem.n_columns

        def direction(network: Network, rows: int) -> type[Direction]:
            in_batches = batches.get(network) if rows == n else None
            extent = Extent(
                network,
                problem.rows_in_memory(rows) if in_batches is None else min(rows, in_batches.rows),
                c,
                problem.dtype,
                problem.device,
                candidates=len(starts) if rows == first_rows else n_members,
                workers=n_workers,
            )
            solver = problem.solver if in_batches is None else in_batches.solver
            return choose(solver, extent, _estimates_priors(starts), problem.loss.has_posterior)

        # Candidates may be drawn later, from the steepest units.
        networks = _networks(starts) | dict.fromkeys(start.steepest for start in starts if start.steepest is not None)
        directions = {(network, rows): direction(network, rows) for network in networks for rows in (first_rows, n)}
        flops = max(gram_flops(network, n, c) for network in networks)
        return cls(n, first_rows, len(starts) > n_members, batches, directions, flops)

    @contextlib.contextmanager
    def arithmetic(self) -> Iterator[None]:
        """Set torch up for training: threads according to the work, no gradients."""
        with torch_threads(self.flops), torch.no_grad():
            yield


def _networks(starts: Sequence[Start]) -> dict[Network, None]:
    """Different networks, in their order."""
    return dict.fromkeys(start.network for start in starts)


def _estimates_priors(starts: Sequence[Start]) -> bool:
    return any(start.prior_kind.has_evidence for start in starts)


def _batches(problem: Problem, starts: Sequence[Start], size: int | str) -> dict[Network, Batches]:
    evidence = _estimates_priors(starts)
    return {
        network: plan_batches(size, problem.solver, network, problem.n_columns, evidence)
        for network in _networks(starts)
    }


def _first_rows(problem: Problem, starts: Sequence[Start], n_members: int) -> int:
    """Number of rows that a fit begins on.

    These are the rows of a search, or a sample if an approach on a sample pays, or else all rows.
    """
    n = problem.n_samples
    if len(starts) > n_members:
        return min(n, COMPARED_ROWS)
    sample = max(_SAMPLE_ROWS, max(_ROWS_PER_WEIGHT * network.n_weights for network in _networks(starts)))
    approach = problem.settings.project_readout and problem.settings.max_iter > 0 and n >= _WORTHWHILE * sample
    return sample if approach else n
