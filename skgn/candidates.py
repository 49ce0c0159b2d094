"""What a fit chooses among: networks, scalings of the inputs, priors, and where training starts.

Each of these is either given or left to the fit ("auto"). A kind is one combination of what is left open. A candidate
is one of a kind, with initial weights of its own. :mod:`skgn.draws` draws the candidates. :mod:`skgn.search`
trains them and weighs them by how well they predict what they have not seen.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from .feedforward import FeedForward
from .losses import Loss
from .network import Network
from .prior_groups import PriorKind
from .scaler import Made

__all__ = [
    "AT_A_TIME",
    "COMPARED_ROWS",
    "LAYER",
    "MANY_WEIGHTS",
    "OF_PIECES",
    "ROWS_OF_PIECES",
    "STEEP",
    "STEEPEST",
    "Beside",
    "Kind",
    "Level",
    "Start",
    "candidate_count",
    "described",
    "first_count",
    "half_rectified",
    "kind_beside",
    "layer_choices",
    "level_choices",
    "made_for",
    "member_count",
    "network_of_pieces",
    "of_one_label",
    "prior_choices",
]

#: Hidden layers of small networks: the first of so many weights at the most, or that of the fewest; and of all networks
#: of other kinds.
LAYER = (20,)
_SMALL = (LAYER, (10, 10))

#: Hidden layers where there are so many observations for each of their weights that more capacity is of use.
_LARGE, _OBSERVATIONS_PER_WEIGHT = (16, 16), 8

#: Both for inputs of several columns a feature, which bend by themselves: fewer units do.
_SMALL_PERIODIC, _LARGE_PERIODIC = ((10,),), (12, 12)

#: The hidden layer for many columns of which at most the part ``_BENT`` has more than two values. A function of an
#: indicator is a line, which the linear path draws. Units are left for what indicators do together.
_NARROW, _BENT = (5,), 1 / 4

#: Above so many weights an iteration is slow: only the network of the fewest weights is taken.
MANY_WEIGHTS = 1000

#: Units of other kinds beside the others. For classes these are rectified, under a prior of precision 1. On few rows of
#: many columns, or of many classes, the evidence leaves of smooth units what is linear in the columns.
_OF_CLASSES = "relu"

#: From so many rows on, the only one of these, or every second one, reads piecewise linear inputs. Steps and bends
#: along single columns, of which trees are made, are then within reach.
OF_PIECES, ROWS_OF_PIECES = "piecewise", 400

#: For numbers on so few rows the others do not saturate: a parabola or a product takes few such units.
_OF_NUMBERS, _FEW_ROWS = "gelu", 200

#: Members by default: eight kinds are no better than six of them. Four are enough where there are many rows or weights,
#: or rectified networks; so are three where every other network is rectified and weights are many, and of two classes
#: where radial units join them (docs/decisions.md).
_MEMBERS, _FEW_MEMBERS, _FEWEST_MEMBERS = 6, 4, 3

#: Members of networks that were asked for and take long: one alone has no others to be judged by.
_LEAST_MEMBERS = 2

#: So many are trained at a time where their number is left to the fit, as long as they are worth their time.
AT_A_TIME = 2

#: Rows up to which every candidate is a member. Of more, twice as many candidates are compared on so many rows.
COMPARED_ROWS = 2000

#: Candidates for a single network.
_SHORT_STARTS = 3


class Level(NamedTuple):
    """Where training starts: the noise precision of the standardised target, and steepness of units.

    For classes, the prior of the weights is so many times weaker instead. First-layer weights are ``steepness`` times
    as large as those that keep the variance of their inputs.
    """

    noise_precision: float = 1.0
    steepness: float = 1.0


#: All of the variance is noise, in smooth units; or little is, in steep ones. The former can prune every unit of a
#: noise-free table, and what varies fast is found by the latter alone. Where neither finds anything, steeper ones may.
_SMOOTH, STEEP, STEEPEST = Level(), Level(30.0, 4.0), Level(30.0, 16.0)


@dataclass(frozen=True)
class Start:
    """Where a candidate starts.

    ``scaling`` names the scaling of the inputs. ``anchor`` holds the initial weights whose outputs ``init="centered"``
    subtracts, else None. ``seed`` has drawn the weights and orders the rows of mini-batches. ``steepest`` is the
    network of a candidate with the steepest units in its place. ``columns`` (inputs of the first layer,) tells which of
    them are read, all if None; ``alone`` tells whether the linear path reads the same ones, and no others. ``scaler``
    is the scaling itself, where it was made in the fit. The same samples have made ``log_choices`` nats of choices in
    it. The rest is its :class:`Level`.
    """

    network: Network
    scaling: str
    prior_kind: PriorKind
    weights: np.ndarray
    anchor: np.ndarray | None
    seed: int
    steepest: Network | None = None
    columns: np.ndarray | None = None
    alone: bool = False
    noise_precision: float = 1.0
    steepness: float = 1.0
    scaler: Made | None = None
    log_choices: float = 0.0

    @property
    def kind(self) -> tuple[str, Network, PriorKind]:
        """What the candidate is, wherever it starts."""
        return self.scaling, self.network, self.prior_kind

    @property
    def words(self) -> str:
        """What the candidate is, in words."""
        steep = "" if self.steepness == 1 else f", steep {self.steepness:g}"
        n = 0 if self.columns is None else int(self.columns.sum())
        columns = f", {n} column{'s' * (n != 1)}{' alone' * self.alone}" if n else ""
        return described(self.network, self.scaling, self.prior_kind) + steep + columns


def made_for(starts: Iterable[Start]) -> dict[str, Made]:
    """Return the scalings that were made in the fit, by name."""
    return {start.scaling: start.scaler for start in starts if start.scaler is not None}


def described(network: Network, scaling: str, prior_kind: PriorKind) -> str:
    """What a network is, in words: its layers, the scaling of its inputs, and its prior."""
    return f"{network}, {scaling}, {prior_kind.words}"


class Kind(NamedTuple):
    """What a candidate is: a scaling of the inputs and the network that reads it, a level to start from, a prior."""

    scaled_network: tuple[str, Network]
    level: Level
    prior_kind: PriorKind


class Beside(NamedTuple):
    """Kinds of networks beside the others, in turn: one for every two of them, or ``every_other`` one."""

    kinds: tuple[Kind, ...]
    every_other: bool

    @property
    def rectified(self) -> bool:
        """Whether these are the rectified networks of classes."""
        return self.kinds[0].prior_kind.unit


def layer_choices(
    n_inputs: dict[str, int], n_outputs: int, n_observations: float, given: tuple[int, ...] | None = None
) -> list[tuple[str, tuple[int, ...]]]:
    """Pairs of a scaling of the inputs and the hidden layers of a network that reads it.

    Scalings of several columns a feature are an extra, taken where they do not lead to many weights. Where all
    networks have many because of indicators, those of a table of categories, a narrow one takes their place.

    Parameters
    ----------
    n_inputs : dict of str to int
        Columns that hidden layers read in each scaling to choose from. The linear path has as many.
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
    narrow = fewest > MANY_WEIGHTS and bent <= _BENT * columns and n_outputs <= _NARROW[0]

    def preferred(name: str) -> tuple[tuple[int, ...], ...]:
        if given is not None:
            return (given,)
        if narrow:
            return (_NARROW,)
        small, large = (_SMALL_PERIODIC, _LARGE_PERIODIC) if name == "periodic" else (_SMALL, _LARGE)
        fits_large = weights(name, large) <= min(MANY_WEIGHTS, n_observations / _OBSERVATIONS_PER_WEIGHT)
        return (large,) if fits_large else small

    choices = []
    for name in n_inputs:
        few = [sizes for sizes in preferred(name) if weights(name, sizes) <= MANY_WEIGHTS]
        if not few and (name != "periodic" or len(n_inputs) == 1):
            few = [min(preferred(name), key=lambda sizes: weights(name, sizes))]
        choices += [(name, sizes) for sizes in few[:1]]
    return choices


def prior_choices(compared: bool, features: bool = True) -> tuple[PriorKind, ...]:
    """Priors that "auto" stands for; where nothing is compared, the one that is never far behind.

    ``features`` tells whether the network's weights can be told apart by feature.
    """
    return tuple(map(PriorKind, ("feature", "layer") if compared and features else ("layer",)))


def level_choices(has_noise: bool, compared: bool, steep: bool = True) -> tuple[Level, ...]:
    """Levels that training starts from; ``steep`` tells whether the network's units can be made so.

    Where they cannot, and there is no noise, all start alike.
    """
    if not compared or not (steep or has_noise):
        return (_SMOOTH,)
    return _SMOOTH, STEEP if steep else STEEP._replace(steepness=_SMOOTH.steepness)


def network_of_pieces(other: Network, n_inputs: int, given: tuple[int, ...] | None = None) -> Network | None:
    """Choose the rectified network that reads so many columns of pieces, beside others of classes.

    None beside a network whose layers are not known.
    """
    if not isinstance(other, FeedForward):
        return None
    sizes = given or LAYER
    return replace(other, n_inputs=n_inputs, n_straight=0, hidden_layer_sizes=sizes, activation=_OF_CLASSES)


def kind_beside(
    scaling: str,
    other: Network,
    levels: Sequence[Level],
    n_rows: int,
    loss: Loss,
    given: tuple[int, ...] | None = None,
    of_pieces: Network | None = None,
) -> Beside | None:
    """Choose a network of other units to go with others on this scaling: of the layers given, or one of twenty.

    There is one for classes, and for losses with a noise level on few rows. Of three or more classes, and of many rows,
    it is every other network, in turn with the rectified one ``of_pieces``. Of two classes on fewer rows, the latter
    takes its place. There is none for several labels, and beside a network whose layers are not known.
    """
    every_other = not loss.independent_labels or n_rows > COMPARED_ROWS
    if of_one_label(loss, other):
        activation, level, prior = _OF_CLASSES, levels[0], PriorKind("layer", unit=True)
    elif loss.has_scale and n_rows <= _FEW_ROWS:
        activation, level, prior, every_other = _OF_NUMBERS, levels[-1], PriorKind("feature"), False
    else:
        return None
    network = other.with_layers(given or LAYER, activation=activation)
    if network is None:
        return None
    networks = [(scaling, network)]
    if of_pieces is not None:
        networks = [*networks, (OF_PIECES, of_pieces)] if every_other else [(OF_PIECES, of_pieces)]
    return Beside(tuple(Kind(each, level, prior) for each in networks), every_other)


def of_one_label(loss: Loss, network: Network) -> bool:
    """Whether outputs of a network are the logits of one label, rather than those of several ones, or numbers."""
    return loss.has_temperature and not (loss.independent_labels and network.n_outputs > 1)


def half_rectified(starts: Sequence[Start]) -> bool:
    """Whether every other start is of the rectified kind."""
    return 2 * sum(start.prior_kind.unit for start in starts) >= len(starts)


def member_count(
    n_estimators: int | str,
    n_rows: int,
    networks: Iterable[Network],
    compared: bool,
    beside: Beside | None = None,
    joined: bool = False,
    times: float = 1.0,
) -> int:
    """Members of an ensemble: what "auto" stands for, or what was asked for.

    The kind ``beside`` the others may be rectified. They may be ``joined`` by a network of radial units. Networks that
    take several ``times`` as long as a fit has time for are fewer.
    """
    if not isinstance(n_estimators, str):
        return int(n_estimators)
    if times > 1:
        return max(_LEAST_MEMBERS, int(_FEW_MEMBERS / times))
    small = min(network.n_weights for network in networks) <= MANY_WEIGHTS
    if beside is not None and beside.rectified:
        few_are_enough = not small if beside.every_other else joined
        return _FEWEST_MEMBERS if few_are_enough else _FEW_MEMBERS
    return _MEMBERS if compared and small and n_rows <= COMPARED_ROWS else _FEW_MEMBERS


def first_count(n_estimators: int | str, n_rows: int, n_members: int, compared: bool, loss: Loss) -> int:
    """Members that are trained in any case: some where their number is left to the fit, or else all.

    On many rows, others have been compared with them before. For classes, those that follow are of other units, and two
    of the first do not tell what these are worth.
    """
    left_open = isinstance(n_estimators, str) and compared and loss.has_scale
    return AT_A_TIME if left_open and n_rows <= COMPARED_ROWS else n_members


def candidate_count(n_members: int, n_rows: int, n_kinds: int, compared: bool, half: bool = False) -> int:
    """Candidates for so many members, where there are so many kinds to choose from.

    If ``half`` of the networks are rectified, all are trained to the end.
    """
    if not compared or n_kinds == 1:
        return n_members
    if n_members == 1:
        return min(_SHORT_STARTS, n_kinds)
    return n_members if half or n_rows <= COMPARED_ROWS else 2 * n_members
