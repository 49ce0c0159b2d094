"""What a fit chooses among: networks, scalings of the inputs, priors, noise levels and initial weights.

Each of these is either given or left to the fit ("auto"); a candidate is one combination of what is left open.
:mod:`skgn.search` trains the candidates and keeps those that predict best what they have not seen.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .feedforward import FeedForward
from .network import Network

__all__ = ["Start", "draw_starts", "layer_choices", "noise_choices", "prior_choices"]

#: Hidden layers of small networks, one layer and two, of about the same number of weights for few features.
_SMALL = ((20,), (10, 10))

#: Hidden layers where there are so many observations for each of their weights that more capacity is of use.
_LARGE, _OBSERVATIONS_PER_WEIGHT = (16, 16), 8

#: Both for inputs of several columns a feature, which bend by themselves: fewer units do.
_SMALL_PERIODIC, _LARGE_PERIODIC = ((10,), (10, 10)), (12, 12)

#: The hidden layer for many columns of which at most the part ``_BENT`` has more than two values: a function of an
#: indicator is a line, which the linear path draws, and units are left for what indicators do together.
_NARROW, _BENT = (5,), 1 / 4

#: Above so many weights an iteration is slow: only the network of the fewest weights is taken.
_MANY_WEIGHTS = 1000

#: Noise precisions of the standardised target from which evidence starts: all of its variance is noise, and little is.
_NOISE_STARTS = (1.0, 30.0)

#: Where there is a choice, at least so many candidates are trained for each member kept.
_CANDIDATES_PER_MEMBER = 2


@dataclass(frozen=True)
class Start:
    """Where a candidate starts.

    ``inputs`` names one of the scalings of the inputs; ``prior`` is a kind of :func:`~skgn.evidence.prior_groups` or a
    fixed l2; ``anchor`` holds the initial weights whose outputs ``init="centered"`` subtracts, else None. ``seed`` has
    drawn the weights and orders the rows of mini-batches.
    """

    network: Network
    inputs: str
    prior: str | float
    noise_precision: float | None
    weights: np.ndarray
    anchor: np.ndarray | None
    seed: int


def layer_choices(
    n_inputs: dict[str, int], n_outputs: int, n_observations: float, given: tuple[int, ...] | None = None
) -> list[tuple[str, tuple[int, ...]]]:
    """Pairs of a scaling of the inputs and the hidden layers of a network that reads it.

    Scalings of several columns a feature are an extra, taken where they do not lead to many weights. Where all
    networks have many because of indicators, those of a table of categories, a narrow one takes their place.

    Parameters
    ----------
    n_inputs : dict of str to int
        Columns of each scaling that there is a choice of, those that hidden layers read: the linear path has as many.
        "periodic" has two more for each of more than two values.
    n_outputs : int
    n_observations : float
        Number of weighted samples times outputs.
    given : tuple of int, optional
        The hidden layers; None for "auto".
    """

    def weights(name: str, sizes: tuple[int, ...]) -> int:
        return FeedForward(n_inputs[name], n_outputs, sizes).n_weights

    columns = min(n_inputs.values())
    bent = (n_inputs["periodic"] - columns) / 2 if "periodic" in n_inputs and len(n_inputs) > 1 else columns
    fewest = min(FeedForward(columns, n_outputs, sizes).n_weights for sizes in _SMALL)
    # Fewer units than outputs would be a bottleneck.
    narrow = fewest > _MANY_WEIGHTS and bent <= _BENT * columns and n_outputs <= _NARROW[0]

    def preferred(name: str) -> tuple[tuple[int, ...], ...]:
        if given is not None:
            return (given,)
        if narrow:
            return (_NARROW,)
        small, large = (_SMALL_PERIODIC, _LARGE_PERIODIC) if name == "periodic" else (_SMALL, _LARGE)
        fits_large = weights(name, large) <= min(_MANY_WEIGHTS, n_observations / _OBSERVATIONS_PER_WEIGHT)
        return (large,) if fits_large else small

    choices = []
    for name in n_inputs:
        few = [sizes for sizes in preferred(name) if weights(name, sizes) <= _MANY_WEIGHTS]
        if not few and (name != "periodic" or len(n_inputs) == 1):
            few = [min(preferred(name), key=lambda sizes: weights(name, sizes))]
        choices += [(name, sizes) for sizes in few]
    return choices


def prior_choices(has_noise: bool, compared: bool, features: bool = True) -> tuple[str, ...]:
    """Priors that "auto" stands for; fixed ones are worth a try only where the noise level cannot adapt to them.

    Where nothing is compared, the one that does best on its own. ``features`` tells whether the network's weights
    can be told apart by feature.
    """
    if not compared:
        return ("layer",)
    return ("feature",) * features + ("layer",) + ("unit",) * (not has_noise)


def noise_choices(has_noise: bool, compared: bool) -> tuple[float | None, ...]:
    """First noise precisions of an estimated prior."""
    if not has_noise:
        return (None,)
    return _NOISE_STARTS if compared else _NOISE_STARTS[:1]


def draw_starts(
    networks: Sequence[tuple[str, Network]],
    priors: Sequence[str | float],
    noise: Sequence[float | None],
    n_members: int,
    random_state: np.random.RandomState,
) -> list[Start]:
    """Networks, each with the scaling of its inputs, from every prior and noise level, and one seed after the other.

    Where there is a choice in two or more of scaling, hidden layers, prior and noise level, half of the combinations
    do: the half fraction of the factorial design, in which every pair of choices still comes about as often. A single
    combination gets as many seeds as there are members.
    """
    combinations = list(itertools.product(networks, priors, noise))
    levels = [(name, network.hidden_layer_sizes, *rest) for (name, network), *rest in combinations]
    factors = [list(dict.fromkeys(values)) for values in zip(*levels, strict=True)]
    halved = sum(len(factor) > 1 for factor in factors) > 1
    variants = [
        combination
        for combination, values in zip(combinations, levels, strict=True)
        if not halved or sum(factor.index(v) for factor, v in zip(factors, values, strict=True)) % 2 == 0
    ]
    enough = n_members if len(variants) == 1 else math.ceil(_CANDIDATES_PER_MEMBER * n_members / len(variants))
    seeds = random_state.randint(np.iinfo(np.int32).max, size=enough)
    starts = []
    for (first, seed), ((name, network), prior, precision) in itertools.product(enumerate(seeds.tolist()), variants):
        weights = network.initial_weights(np.random.RandomState(seed), own=first == 0)
        anchor = weights if network.init == "centered" else None
        starts.append(Start(network, name, prior, precision, weights, anchor, seed))
    return starts
