"""Which starts more candidates are drawn like, once the first ones have been trained to the end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .candidates import COMPARED_ROWS, Start
from .stacking import FAILED
from .state import State

__all__ = ["Like", "unlike_rectified", "where_failed", "where_nothing_is_found", "where_weights_are_few"]

#: Parts of the loss of a constant: above the first the best member has found little, above the second one nothing.
#: Below the third a member has not failed, however much better another one is.
_FOUND_LITTLE, _FOUND_NOTHING, _FOUND_ALL = 0.5, 0.8, 1e-3

#: Rectified networks that have less of the weight in all hardly count (docs/decisions.md).
_HARDLY_COUNT = 0.05

#: D^2 of left-out samples below which an ensemble has found nothing, for losses without a noise level.
_LEAST_SKILL = 0.05

#: Weights are too few where samples determine this part of them, and there are so many samples for each of them.
_DETERMINED, _SAMPLES_PER_WEIGHT = 0.6, 4.5


class Like(NamedTuple):
    """Starts that more candidates are drawn like, and which members (n_members,) they take the place of."""

    starts: Sequence[Start]
    failed: np.ndarray


def where_failed(
    starts: Sequence[Start],
    members: Sequence[Start],
    losses: np.ndarray,
    of_constant: float,
    converged: bool,
    n_rows: int,
) -> Like | None:
    """Draw where most members have failed, or none has found much; None where nothing is to be drawn.

    Candidates in the place of failed ones are like the best. Where none is good, they are like all ``starts``. But many
    rows show several members all that can be found: what is left is noise.

    Parameters
    ----------
    starts, members : sequence of Start
        Of all candidates, and of the members.
    losses : ndarray of shape (n_members,)
        Mean losses of left-out samples.
    of_constant : float
        The loss of a constant.
    converged : bool
        Whether the best member has converged.
    n_rows : int
    """
    many = n_rows > COMPARED_ROWS and len(members) > 1
    little = losses.min() > _FOUND_LITTLE * of_constant
    failed = losses > max(FAILED * losses.min(), _FOUND_ALL * of_constant)
    failed |= not little and losses > _FOUND_NOTHING * of_constant
    if little and converged and not many:
        return Like(starts, failed)
    return Like([members[int(losses.argmin())]], failed) if failed.sum() >= len(members) / 2 else None


def where_nothing_is_found(starts: Sequence[Start], n_members: int, skill: float) -> Like | None:
    """Draw like the starts that estimate precisions, where the ``skill`` of the members is next to nothing.

    The parity of two integers is an example. To smooth units it is noise, and the evidence prunes them.
    """
    like = [start for start in starts if start.prior_kind.estimates_precisions]
    return Like(like, np.zeros(n_members, dtype=bool)) if like and skill < _LEAST_SKILL else None


def unlike_rectified(
    starts: Sequence[Start], members: Sequence[Start], weights: np.ndarray, n_rows: int
) -> Like | None:
    """Draw where rectified members hardly count by their ``weights`` (n_members,): like the other starts.

    None are drawn on many rows, which the others have learned from.
    """
    rectified = np.array([start.prior_kind.unit for start in members])
    if n_rows > COMPARED_ROWS or weights[rectified].sum() >= _HARDLY_COUNT:
        return None
    return Like([start for start in starts if not start.prior_kind.unit], rectified)


def where_weights_are_few(
    members: Sequence[Start], weights: np.ndarray, states: Sequence[State], n_rows: int
) -> Start | None:
    """Return the start of the network that counts the most, where networks have too few weights for the samples.

    Networks count by the ``weights`` (n_members,). Linear ones, and those that read what was made in the fit, do not.
    None where weights are enough, or where there are so many rows that deeper networks have been compared.
    """
    own = [j for j, start in enumerate(members) if start.network.hidden_layer_sizes and start.scaler is None]
    votes = weights[own]
    if n_rows > COMPARED_ROWS or not votes.sum() > 0:
        return None
    in_use = np.array([_in_use(states[j]) for j in own])
    determined = [states[j].estimates.n_effective_parameters or 0.0 for j in own] / in_use
    best = int(votes.argmax())
    start, estimates = members[own[best]], states[own[best]].estimates
    samples = estimates.total_weight * start.network.n_outputs
    few = votes @ determined >= _DETERMINED * votes.sum()
    return start if few and samples >= _SAMPLES_PER_WEIGHT * in_use[best] else None


def _in_use(state: State) -> int:
    """Count the weights of a network, without those of columns that its first layer has no use for."""
    network, columns = state.objective.network, state.prior.columns_in_use(state.estimates)
    unused = 0 if columns is None else int((~columns).sum())
    return network.n_weights - network.shapes[0][0] * unused
