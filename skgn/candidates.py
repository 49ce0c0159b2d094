"""What a fit chooses among: networks, scalings of the inputs, priors, and where training starts.

Each of these is either given or left to the fit ("auto"); a kind is one combination of what is left open, and
a candidate one of a kind with initial weights of its own. :mod:`skgn.search` trains the candidates and weighs them by
how well they predict what they have not seen.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from .feedforward import FeedForward
from .losses import Loss
from .network import Network
from .prior_groups import PriorKind

__all__ = [
    "COMPARED_ROWS",
    "OF_PIECES",
    "ROWS_OF_PIECES",
    "Beside",
    "Kind",
    "Level",
    "Start",
    "candidate_count",
    "described",
    "draw_starts",
    "half_rectified",
    "kind_beside",
    "layer_choices",
    "level_choices",
    "member_count",
    "narrowed_count",
    "narrowed_starts",
    "network_of_pieces",
    "prior_choices",
    "redrawn_count",
    "steepest_network",
    "steepest_starts",
]

#: Hidden layers of small networks: the first of so many weights at the most, or that of the fewest.
_SMALL = ((20,), (10, 10))

#: Hidden layers where there are so many observations for each of their weights that more capacity is of use.
_LARGE, _OBSERVATIONS_PER_WEIGHT = (16, 16), 8

#: Both for inputs of several columns a feature, which bend by themselves: fewer units do.
_SMALL_PERIODIC, _LARGE_PERIODIC = ((10,),), (12, 12)

#: The hidden layer for many columns of which at most the part ``_BENT`` has more than two values. A function of an
#: indicator is a line, which the linear path draws. Units are left for what indicators do together.
_NARROW, _BENT = (5,), 1 / 4

#: Above so many weights an iteration is slow: only the network of the fewest weights is taken.
_MANY_WEIGHTS = 1000

#: Where units of other kinds are of use, there is one network of such units for so many others, or every other network
#: is one (docs/decisions.md).
_OTHERS = 2

#: For classes these are rectified units, under a prior of precision 1. On few rows of many columns, or of many classes,
#: the evidence leaves of smooth units what is linear in the columns.
_OF_CLASSES = "relu"

#: From so many rows on, the only one of these, or every second one, reads piecewise linear inputs. Steps and bends
#: along single columns, of which trees are made, are then within reach.
OF_PIECES, ROWS_OF_PIECES = "piecewise", 400

#: For numbers on so few rows these are units that do not saturate: a parabola or a product takes few of them.
_OF_NUMBERS, _FEW_ROWS = "gelu", 200

#: Members by default: eight kinds are no better than six of them. Four are enough where there are many rows or weights,
#: or rectified networks; so are three where every other network is rectified and weights are many (docs/decisions.md).
_MEMBERS, _FEW_MEMBERS, _FEWEST_MEMBERS = 6, 4, 3

#: Rows up to which every candidate is a member. Of more, twice as many candidates are compared on so many rows.
COMPARED_ROWS = 2000

#: For so many candidates there is one that reads the columns of use alone.
_NARROWED_OF = 3

#: Columns of use are few if they are at most this part of all.
_FEW_COLUMNS = 1 / 2

#: Hidden layer of the steepest candidates, where inputs are so few that its weights are at most so many. A function
#: that varies fast has many bends, and each bend takes a unit.
_WIDE, _WIDE_WEIGHTS = (60,), 400

#: Candidates for a single network, and the fewest that are drawn again.
_SHORT_STARTS, _FEWEST_REDRAWN = 3, 2


class Level(NamedTuple):
    """Where training starts: the noise precision of the standardised target, and steepness of units.

    For classes, the prior of the weights is so many times weaker instead. First-layer weights are ``steepness`` times
    as large as those that keep the variance of their inputs.
    """

    noise_precision: float = 1.0
    steepness: float = 1.0


#: All of the variance is noise, in smooth units; or little is, in steep ones. The former can prune every unit of a
#: noise-free table, and what varies fast is found by the latter alone. Where neither finds anything, steeper ones may.
_SMOOTH, _STEEP, _STEEPEST = Level(), Level(30.0, 4.0), Level(30.0, 16.0)


@dataclass(frozen=True)
class Start:
    """Where a candidate starts.

    ``scaling`` names the scaling of the inputs. ``anchor`` holds the initial weights whose outputs ``init="centered"``
    subtracts, else None. ``seed`` has drawn the weights and orders the rows of mini-batches. ``steepest`` is the
    network of a candidate with the steepest units in its place. ``columns`` (inputs of the first layer,) tells which of
    them are read, all if None. The rest is its :class:`Level`.
    """

    network: Network
    scaling: str
    prior_kind: PriorKind
    weights: np.ndarray
    anchor: np.ndarray | None
    seed: int
    steepest: Network | None = None
    columns: np.ndarray | None = None
    noise_precision: float = 1.0
    steepness: float = 1.0

    @property
    def words(self) -> str:
        """What the candidate is, in words."""
        steep = "" if self.steepness == 1 else f", steep {self.steepness:g}"
        columns = "" if self.columns is None else f", {self.columns.sum()} columns"
        return described(self.network, self.scaling, self.prior_kind) + steep + columns


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
    return _SMOOTH, _STEEP if steep else _STEEP._replace(steepness=_SMOOTH.steepness)


def network_of_pieces(other: Network, n_inputs: int, given: tuple[int, ...] | None = None) -> Network | None:
    """Choose the rectified network that reads so many columns of pieces, beside others of classes.

    None beside a network whose layers are not known.
    """
    if not isinstance(other, FeedForward):
        return None
    sizes = given or _SMALL[0]
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
    if loss.has_temperature and not (loss.independent_labels and other.n_outputs > 1):
        activation, level, prior = _OF_CLASSES, levels[0], PriorKind("layer", unit=True)
    elif loss.has_scale and n_rows <= _FEW_ROWS:
        activation, level, prior, every_other = _OF_NUMBERS, levels[-1], PriorKind("feature"), False
    else:
        return None
    network = other.with_layers(given or _SMALL[0], activation=activation)
    if network is None:
        return None
    networks = [(scaling, network)]
    if of_pieces is not None:
        networks = [*networks, (OF_PIECES, of_pieces)] if every_other else [(OF_PIECES, of_pieces)]
    return Beside(tuple(Kind(each, level, prior) for each in networks), every_other)


def half_rectified(starts: Sequence[Start]) -> bool:
    """Whether every other start is of the rectified kind."""
    return 2 * sum(start.prior_kind.unit for start in starts) >= len(starts)


def member_count(
    n_estimators: int | str, n_rows: int, networks: Iterable[Network], compared: bool, beside: Beside | None = None
) -> int:
    """Members of an ensemble: what "auto" stands for, or what was asked for.

    The kind ``beside`` the others may be rectified.
    """
    if not isinstance(n_estimators, str):
        return n_estimators
    small = min(network.n_weights for network in networks) <= _MANY_WEIGHTS
    if beside is not None and beside.rectified:
        return _FEWEST_MEMBERS if beside.every_other and not small else _FEW_MEMBERS
    return _MEMBERS if compared and small and n_rows <= COMPARED_ROWS else _FEW_MEMBERS


def candidate_count(n_members: int, n_rows: int, n_kinds: int, compared: bool, half: bool = False) -> int:
    """Candidates for so many members, where there are so many kinds to choose from.

    If ``half`` of the networks are rectified, all are trained to the end.
    """
    if not compared or n_kinds == 1:
        return n_members
    if n_members == 1:
        return min(_SHORT_STARTS, n_kinds)
    return n_members if half or n_rows <= COMPARED_ROWS else 2 * n_members


def redrawn_count(starts: Sequence[Start], n_members: int) -> int:
    """Candidates that may be drawn again: none without a choice of levels, or units to be steep.

    Where some are rectified there may be more of the others.
    """
    levels = len({start.noise_precision for start in starts})
    steep = all(start.network.hidden_layer_sizes for start in starts)
    rectified = any(start.prior_kind.unit for start in starts)
    return max(_FEWEST_REDRAWN, n_members // 2) if steep and (levels > 1 or rectified) else 0


def draw_starts(
    kinds: Sequence[Kind],
    n_candidates: int,
    balanced: bool,
    random_state: np.random.RandomState,
    beside: Beside | None = None,
) -> list[Start]:
    """Draw a candidate of one kind after the other, each time with new weights, until there are enough.

    A ``balanced`` order begins with the half fraction of the factorial design, in which each pair of choices comes
    about as often; the first of the priors leads in either half. A kind ``beside`` them comes after every two. If kinds
    are every other one, they come first, and the two kinds lead that are opposite in every choice. The short starts of
    a single network are not balanced.
    """
    factors = [list(dict.fromkeys(values)) for values in zip(*kinds, strict=True)]

    def levels(kind: Kind) -> list[int]:
        return [factor.index(value) for factor, value in zip(factors, kind, strict=True)]

    def fraction(kind: Kind) -> tuple[int, int]:
        return sum(levels(kind)) % 2, levels(kind)[-1]

    def opposite(kind: Kind) -> tuple[bool, int]:
        # The last of the priors leads. A choice that is given has no opposite.
        *at, prior = levels(kind)
        at.append(len(factors[-1]) - 1 - prior)
        at = [level for level, factor in zip(at, factors, strict=True) if len(factor) > 1]
        return len(set(at)) > 1, sum(at)

    if beside is not None and beside.every_other and balanced:
        pairs = zip(itertools.cycle(beside.kinds), sorted(kinds, key=opposite))
        order = [kind for pair in pairs for kind in pair]
        return _draw(order, n_candidates, random_state)
    order = sorted(kinds, key=fraction) if balanced else list(kinds)
    if beside is not None:
        groups = [order[first : first + _OTHERS] for first in range(0, len(order), _OTHERS)]
        order = [kind for group in groups for kind in (*group, beside.kinds[0])]
    return _draw(order, n_candidates, random_state)


def steepest_starts(starts: Sequence[Start], n_candidates: int) -> list[Start]:
    """Candidates in the place of failed ones: of the networks and priors of these ``starts``, from steeper units."""
    kinds = dict.fromkeys(
        Kind((start.scaling, start.steepest or start.network), _STEEPEST, start.prior_kind) for start in starts
    )
    return _draw(list(kinds), n_candidates, np.random.RandomState([start.seed for start in starts]))


def steepest_network(network: Network, activation: str) -> Network:
    """Choose the network of the steepest candidates where hidden layers are left to the fit: a wide one if small.

    What varies fast takes units of this activation, whatever those of the network are.
    """
    sizes = network.hidden_layer_sizes
    other = network.with_layers(sizes, activation=activation) if sizes else None
    if other is None:
        return network
    wide = other.with_layers(_WIDE)
    return other if wide is None or wide.n_weights > _WIDE_WEIGHTS else wide


def narrowed_count(starts: Sequence[Start]) -> int:
    """Candidates that may be drawn for the columns of use."""
    return len(_narrowable(starts))


def narrowed_starts(starts: Sequence[Start], columns: Mapping[str, np.ndarray]) -> list[Start]:
    """Candidates that read the columns of use alone, where few are of use; ``columns`` tells which, by scaling.

    Of several columns a feature, few are of use where all features are. So few of every scaling have to be.
    """
    narrowable = _narrowable(starts)
    # Pieces of features have no say beside the others.
    without = {OF_PIECES} - {start.scaling for start in narrowable}
    if not all(0 < columns[name].mean() <= _FEW_COLUMNS for name in columns.keys() - without):
        return []
    return [_narrowed(start, columns[start.scaling]) for start in narrowable if start.scaling in columns]


def _narrowable(starts: Sequence[Start]) -> list[Start]:
    """Return the starts of the last third that estimate precisions and have columns that can be switched off.

    Rectified networks stay as they are. They see what columns tell together, which a test of each column does not.
    Where every other one is rectified, all others are taken, which are few.
    """
    last = starts if half_rectified(starts) else starts[len(starts) - len(starts) // _NARROWED_OF :]
    return [start for start in last if start.prior_kind.estimates_precisions and start.network.hidden_layer_sizes]


def _narrowed(start: Start, columns: np.ndarray) -> Start:
    """Make the start from steep units whose first layer reads these columns alone."""
    network = start.network
    weights = network.initial_weights(np.random.RandomState(start.seed), steepness=_STEEP.steepness)
    units, into = network.shapes[0]
    first = weights[: units * into].reshape(units, into)
    # The bias stays, and a unit has the variance that the weights of all columns give to it.
    read = np.append(columns, True)
    first *= np.where(read, math.sqrt(into / read.sum()), 0.0)
    anchor = weights if network.init == "centered" else None
    return replace(start, weights=weights, anchor=anchor, columns=columns, **_STEEP._asdict())


def _draw(order: Sequence[Kind], n_candidates: int, random_state: np.random.RandomState) -> list[Start]:
    seeds = random_state.randint(np.iinfo(np.int32).max, size=n_candidates).tolist()
    starts = []
    for number, (seed, ((scaling, network), level, prior_kind)) in enumerate(zip(seeds, itertools.cycle(order))):
        draw = np.random.RandomState(seed)
        weights = network.initial_weights(draw, own=number < len(order), steepness=level.steepness)
        anchor = weights if network.init == "centered" else None
        starts.append(Start(network, scaling, prior_kind, weights, anchor, seed, **level._asdict()))
    return starts
