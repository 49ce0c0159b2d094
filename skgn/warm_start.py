"""What a warm start goes on with: members of the fit before, where this one may have their networks."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from .candidates import OF_PIECES, Start
from .ensemble import Member
from .feedforward import FeedForward
from .network import Network
from .prior_groups import PriorKind

__all__ = ["kept_starts"]


def kept_starts(
    members: Sequence[Member],
    fresh: Sequence[Start],
    scalings: Collection[str],
    scaled_networks: Collection[tuple[str, Network]],
    prior_kinds: Collection[PriorKind],
    now: Network,
) -> list[Start]:
    """Make the starts of the members that a fit goes on with, each with the seed of a fresh one.

    Parameters
    ----------
    members : sequence of Member
        Of the fit before.
    fresh : sequence of Start
        Starts of this fit without any before it.
    scalings : collection of str
        Those that this fit has.
    scaled_networks : collection of (str, Network)
        All networks that a fit of these parameters may have, each with the name of its scaling.
    prior_kinds : collection of PriorKind
        All priors that it may have.
    now : Network
        One that this fit has, for an error to name.

    Raises
    ------
    ValueError
        If a member has a network that no fit of these parameters has.
    """
    # An equal module may have other fixed parameters and buffers now.
    equal_now = {network: network for _, network in scaled_networks}
    known = [
        m
        for m in members
        # Of other values there are other pieces, and of two values no waves.
        if m.scaling in scalings and m.prior_kind in prior_kinds and not _reads_others(m, scaled_networks)
    ]
    kept = [
        replace(m.start(start.seed), network=equal_now.get(m.network, m.network))
        for m, start in zip(known, fresh, strict=False)
    ]
    lacking = [start for start in kept if (start.scaling, start.network) not in scaled_networks]
    if lacking:
        raise ValueError(
            "warm_start=True needs the network of the previous fit: the same number of features, outputs and "
            "classes, hidden_layer_sizes, activation, linear_path, network, alpha and init. It was "
            f"{_with_sizes(lacking[0].network)}, now it is {_with_sizes(now)}."
        )
    return kept


def _reads_others(member: Member, scaled_networks: Collection[tuple[str, Network]]) -> bool:
    """Whether a member has none of these networks, as its scaling makes other columns of a feature now."""
    if member.scaling not in (OF_PIECES, "periodic") or (member.scaling, member.network) in scaled_networks:
        return False
    given = [network for name, network in scaled_networks if name == member.scaling]
    alike = any(_but_for_columns(network) == _but_for_columns(member.network) for network in given)
    return alike or member.scaling == OF_PIECES


def _but_for_columns(network: Network) -> Network:
    return replace(network, n_inputs=0, n_straight=0) if isinstance(network, FeedForward) else network


def _with_sizes(network: Network) -> str:
    return f"{network} of {network.n_inputs} inputs and {network.n_outputs} outputs"
