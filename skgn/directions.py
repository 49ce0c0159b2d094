"""All directions by name, and the choice among them.

A direction solves the damped system (:mod:`skgn.direction`): :mod:`primal <skgn.primal>` and :mod:`dual <skgn.dual>` by
one Cholesky factorisation in one of two spaces, :mod:`conjugate gradients <skgn.conjugate_gradient>` without one. A new
one is a class in a file of its own, and an entry of `DIRECTIONS`.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Mapping
from dataclasses import replace

from .backend import gigabytes, linear_algebra_device, written
from .conjugate_gradient import ConjugateGradient
from .direction import Direction
from .dual import Dual
from .free_memory import available_memory
from .memory import Extent
from .network import Network
from .primal import Primal

__all__ = [
    "DIRECTIONS",
    "UNTRAINED",
    "affordable",
    "choose",
    "choose_for_batches",
    "lacking",
    "least_flops",
    "memory_beside",
    "serves_evidence",
    "times_affordable",
]

#: Values of the parameter ``solver`` but for "auto". Where "auto" finds two equally good, it takes the first.
DIRECTIONS: dict[str, type[Direction]] = {
    direction.name: direction
    for direction in (
        Primal,
        Dual,
        ConjugateGradient,
    )
}


#: An iteration with evidence may take so many multiply-adds on so many rows. It may take more in a training that has
#: the evidence once, at its end (docs/decisions.md).
_MOST_FLOPS, _MOST_FLOPS_ONCE, _ROWS = 2e10, 2e11, 5000

#: In the place of a solver, for a network that nothing has trained.
UNTRAINED = "none"


def choose(
    solver: str, extent: Extent, evidence: bool = False, posterior: bool = True, fits: bool = False
) -> type[Direction]:
    """Choose the direction: the cheapest one that fits in memory.

    Parameters
    ----------
    solver : "auto" or a name in DIRECTIONS
    extent : Extent
    evidence : bool, default=False
        Whether traces and determinants are needed, which only a factorisation gives.
    posterior : bool, default=True
        Whether a posterior of the weights is of use. A direction without one is then taken only where no other fits.
    fits : bool, default=False
        Whether the direction is known to fit in memory, which is then not asked for.

    Raises
    ------
    ValueError
        If the chosen solver exceeds the available memory (with "auto": if every solver does). Also if a solver without
        a factorisation is to give the evidence.
    """
    wanted = {name: direction for name, direction in _meant_by(solver).items() if not (evidence and direction.lacks)}
    if not wanted:
        raise ValueError(
            f"l2_regularization='evidence' needs a factorisation; solver={written(solver)} takes a float such as "
            "l2_regularization=1e-3."
        )
    need = {name: direction.memory(extent) for name, direction in DIRECTIONS.items()}
    available = math.inf if fits else available_memory(linear_algebra_device(extent.device))
    fitting = [direction for name, direction in wanted.items() if need[name] <= available]
    if not fitting:
        raise ValueError(_too_large(min(wanted, key=need.__getitem__), need, available, evidence, extent))
    if posterior:
        fitting = [direction for direction in fitting if not direction.lacks] or fitting
    return min(fitting, key=lambda direction: direction.flops(extent))


def least_flops(solver: str, extent: Extent) -> float:
    """Multiply-adds of an iteration with evidence by the cheapest direction of ``solver``; infinite if none serves."""
    costs = (direction.flops(extent) for direction in _meant_by(solver).values() if not direction.lacks)
    return min(costs, default=math.inf)


def affordable(solver: str, extent: Extent, traces: bool) -> bool:
    """Tell whether there is time for a training, with ``traces`` in each of its iterations or once at its end."""
    return times_affordable(solver, extent, traces) <= 1


def times_affordable(solver: str, extent: Extent, traces: bool) -> float:
    """How many times as long as it may an iteration takes. Above so many rows the time may grow with the rows."""
    most = _MOST_FLOPS if traces else _MOST_FLOPS_ONCE
    return least_flops(solver, extent) / (most * max(1.0, extent.n / _ROWS))


def memory_beside(solver: str, extent: Extent) -> float:
    """Bytes that a second training at the same time takes, by the direction of the fewest multiply-adds."""
    direction = min(_meant_by(solver).values(), key=lambda each: each.flops(extent))
    alone, both = (direction.memory(replace(extent, candidates=2, workers=count)) for count in (1, 2))
    return both - alone


def choose_for_batches(solver: str, extent: Extent, evidence: bool) -> type[Direction]:
    """Choose the direction of batches: with "auto" the exact one with the smaller system.

    Evidence takes a direction that knows the traces of all rows, whatever ``solver`` says.
    """
    if evidence:
        wanted = [direction for direction in DIRECTIONS.values() if not direction.lacks_in_batches]
    else:
        meant = _meant_by(solver).values()
        wanted = [direction for direction in meant if direction.exact] or list(meant)
    return min(wanted, key=lambda direction: direction.system_size(extent))


def serves_evidence(solver: str) -> bool:
    """Whether a value of the parameter ``solver`` goes with an evidence."""
    return not all(direction.lacks for direction in _meant_by(solver).values())


def lacking(solver: str, in_batches: bool) -> str:
    """Say what a fitted network lacks for a posterior because of its solver; empty if nothing."""
    if solver == UNTRAINED:
        return "a trained network, for which max_time left no time"
    direction = DIRECTIONS[solver]
    return direction.lacks_in_batches if in_batches else direction.lacks


def _meant_by(solver: str) -> Mapping[str, type[Direction]]:
    return DIRECTIONS if solver == "auto" else {solver: DIRECTIONS[solver]}


def _too_large(solver: str, need: Mapping[str, float], available: float, evidence: bool, extent: Extent) -> str:
    """Write the message that says what does not fit, and what would."""
    network = extent.network
    message = (
        f"Training with solver={written(solver)} needs {gigabytes(need[solver])} ({network.n_weights} weights), "
        f"but {gigabytes(available)} are available."
    )
    fitting = {name: direction for name, direction in DIRECTIONS.items() if need[name] <= available}
    for name, direction in fitting.items():
        with_float = " with a float l2_regularization such as 1e-3" if direction.lacks and evidence else ""
        message += f" solver={name!r}{with_float} needs {gigabytes(need[name])} and would fit."
    if not all(direction.lacks for direction in fitting.values()):
        return message
    return message + _smaller_network(available, extent)


def _smaller_network(available: float, extent: Extent) -> str:
    """Write the sentence that says with which network the system of the weights would fit."""

    def of_width(width: int) -> Network | None:
        # Symmetric units come in pairs.
        return extent.network.with_layers((width,), init="random")

    if of_width(1) is None:
        return " A smaller network, or fewer rows, would fit."

    def fits(width: int) -> bool:
        network = of_width(width)
        return network is not None and Primal.memory(replace(extent, network=network)) <= available

    too_wide = 2
    while fits(too_wide):
        too_wide *= 2
    width = bisect.bisect_left(range(1, too_wide), True, key=lambda width: not fits(width))
    if width == 0:
        return " Fewer rows, inputs or outputs would fit."
    return f" solver={Primal.name!r} would fit with hidden_layer_sizes=({width},) or smaller."
