"""What a fit chooses among: networks, scalings of the inputs, priors, noise levels and initial weights.

Each of these is either given or left to the fit ("auto"); a candidate is one combination of what is left open.
:mod:`skgn.ensemble` trains the candidates and keeps those that predict best what they have not seen.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .network import Network

__all__ = ["Start", "draw_starts", "hidden_layer_choices", "noise_choices", "prior_choices"]

#: Hidden layers of small networks, one layer and two, of about the same number of weights for few features.
_SMALL = ((20,), (10, 10))

#: Hidden layers where there are so many observations for each of their weights that more capacity is of use.
_LARGE, _OBSERVATIONS_PER_WEIGHT = (16, 16), 8

#: Above so many weights an iteration is slow, and only the network of the fewest weights is taken.
_MANY_WEIGHTS = 1000

#: Noise precisions of the standardised target from which evidence starts: all of its variance is noise, and little is.
_NOISE_STARTS = (1.0, 30.0)

#: Where there is a choice, at least so many candidates are trained for each member kept.
_CANDIDATES_PER_MEMBER = 2


@dataclass(frozen=True)
class Start:
    """Where a candidate starts.

    ``inputs`` names one of the scalings of the inputs; ``prior`` is a kind of :func:`~skgn.evidence.prior_groups` or a
    fixed l2; ``anchor`` holds the initial weights whose outputs ``init="centered"`` subtracts, else None.
    """

    network: Network
    inputs: str
    prior: str | float
    noise_precision: float | None
    weights: np.ndarray
    anchor: np.ndarray | None


def hidden_layer_choices(n_features: int, n_outputs: int, n_observations: float) -> list[tuple[int, ...]]:
    """Hidden layers that "auto" stands for, given the number of weighted samples times outputs."""

    def weights(sizes: tuple[int, ...]) -> int:
        return Network(n_features, n_outputs, sizes).n_weights

    fits_large = n_observations >= _OBSERVATIONS_PER_WEIGHT * weights(_LARGE)
    preferred: tuple[tuple[int, ...], ...] = (_LARGE,) if fits_large else _SMALL
    choices = [sizes for sizes in preferred if weights(sizes) <= _MANY_WEIGHTS]
    return choices or [min(_SMALL, key=weights)]


def prior_choices(has_noise: bool) -> tuple[str, ...]:
    """Priors that "auto" stands for; fixed ones are worth a try only where the noise level cannot adapt to them."""
    return ("feature", "layer") if has_noise else ("feature", "layer", "unit")


def noise_choices(has_noise: bool) -> tuple[float | None, ...]:
    """First noise precisions of an estimated prior."""
    return _NOISE_STARTS if has_noise else (None,)


def draw_starts(
    networks: Sequence[Network],
    inputs: Sequence[str],
    priors: Sequence[str | float],
    noise: Sequence[float | None],
    n_members: int,
    random_state: np.random.RandomState,
) -> list[Start]:
    """Every combination from one seed after the other; as many seeds as members where there is only one combination."""
    variants = list(itertools.product(networks, inputs, priors, noise))
    enough = n_members if len(variants) == 1 else math.ceil(_CANDIDATES_PER_MEMBER * n_members / len(variants))
    seeds = random_state.randint(np.iinfo(np.int32).max, size=enough)
    starts = []
    for seed, (network, name, prior, precision) in itertools.product(seeds.tolist(), variants):
        weights = network.initial_weights(np.random.RandomState(seed))
        anchor = weights if network.init == "centered" else None
        starts.append(Start(network, name, prior, precision, weights, anchor))
    return starts
