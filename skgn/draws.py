"""Draws of candidates: of all kinds in turn, of steeper units, and of the columns that a fit has found of use."""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from .candidates import (
    COMPARED_ROWS,
    MANY_WEIGHTS,
    OF_PIECES,
    STEEP,
    STEEPEST,
    Beside,
    Kind,
    Level,
    Start,
    half_rectified,
    level_choices,
)
from .discriminant import DISCRIMINANT, LOG_CHOICES
from .feedforward import FeedForward
from .finer import Refinable
from .forest import FOREST
from .ground import Ground
from .network import Network
from .prior_groups import PriorKind
from .radial import RADIAL, Radial, Surroundings
from .scaler import BASE, Made, Widened

__all__ = [
    "Draw",
    "crossed",
    "deeper_starts",
    "discriminant_start",
    "draw_starts",
    "forest_start",
    "later_networks",
    "linear_start",
    "narrowed_count",
    "narrowed_starts",
    "radial_start",
    "redrawn_count",
    "starts_reading",
    "steepest_network",
    "steepest_starts",
]

#: Where units of other kinds are of use, there is one network of such units for so many others, or every other network
#: is one (docs/decisions.md).
_OTHERS = 2

#: The fewest candidates that are drawn again.
_FEWEST_REDRAWN = 2

#: For so many candidates there is one that reads the columns of use alone.
_NARROWED_OF = 3

#: Columns of use are few if they are at most this part of all.
_FEW_COLUMNS = 1 / 2

#: Levels of candidates for finer inputs: smooth and steep.
_LEVELS = level_choices(has_noise=True, compared=True)

#: Hidden layer of the steepest candidates, where inputs are so few that its weights are at most so many. A function
#: that varies fast has many bends, and each bend takes a unit.
_WIDE, _WIDE_WEIGHTS = (60,), 400

#: Hidden layers of deeper networks, and how many of these may be drawn (docs/decisions.md).
_DEEP, _N_DEEPER = (20, 20), 2


class Numbers(NamedTuple):
    """Numbers of the first candidate of each kind that may be drawn later, and how many candidates there may be."""

    narrowed: int
    redrawn: int
    radial: int
    waves: int
    finer: int
    steps: int
    deeper: int
    discriminant: int
    forest: int
    linear: int
    end: int


class Draw(NamedTuple):
    """The candidates of a fit, of which ``n_members`` are kept.

    Where these are not compared, the first ``n_first`` are trained, and others where they are worth their time. What is
    ``refinable`` may be read in pieces by others, and radial units made of the ``surroundings``. Models of labels stand
    on the ``ground``. None is for nothing. The first ones ``go_on`` with networks of an earlier fit after a warm start.
    A draw is ``shortened`` where some were given up for want of time. The fit has ``n_rows``: inf in a second training,
    for which no columns are chosen. An iteration of the given networks takes so many ``times`` as long as it may.
    """

    starts: list[Start]
    n_members: int
    n_first: int
    refinable: Refinable | None = None
    surroundings: Surroundings | None = None
    ground: Ground | None = None
    go_on: bool = False
    shortened: bool = False
    n_rows: float = math.inf
    times: float = 0.0

    @property
    def numbers(self) -> Numbers:
        """Numbers of the candidates that may be drawn later."""
        drawn = narrowed_count(self.starts, self.n_rows), redrawn_count(self.starts, self.n_members)
        read = len(_LEVELS) if self.refinable else 0
        of_labels = int(self.ground is not None)
        deeper = _N_DEEPER if self.refinable and self.refinable.has_free_layers else 0
        made = int(self.surroundings is not None), read, read, read, deeper, of_labels, of_labels, 1
        return Numbers(*itertools.accumulate((*drawn, *made), initial=len(self.starts)))


def redrawn_count(starts: Sequence[Start], n_members: int) -> int:
    """Candidates that may be drawn again: none without a choice of levels, or units to be steep.

    Where some are rectified there may be more of the others.
    """
    levels = len({start.noise_precision for start in starts})
    steep = all(start.network.hidden_layer_sizes for start in starts)
    rectified = any(start.prior_kind.unit for start in starts)
    if not steep or (levels == 1 and not rectified):
        return 0
    return max(_FEWEST_REDRAWN, n_members // 2) + len(crossed(starts))


def crossed(starts: Sequence[Start]) -> list[Kind]:
    """Return the kind between two opposite starts, where every other start is rectified; none if a start is of it.

    It reads the inputs of the first of the two, under the prior of the last. Where rectified networks do not count, two
    that differ in every choice are too few.
    """
    others = [start for start in starts if not start.prior_kind.unit]
    if not (others and half_rectified(starts)):
        return []
    kinds = [Kind((start.scaling, start.network), STEEP, start.prior_kind) for start in others]
    kind = kinds[0]._replace(prior_kind=kinds[-1].prior_kind)
    return [] if kind in kinds else [kind]


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


def steepest_starts(starts: Sequence[Start], n_candidates: int, between: Sequence[Kind] = ()) -> list[Start]:
    """Candidates in the place of failed ones: kinds ``between`` others, then ``starts`` again, from steeper units."""
    kinds = dict.fromkeys(
        Kind((start.scaling, start.steepest or start.network), STEEPEST, start.prior_kind) for start in starts
    )
    return _draw([*between, *kinds], n_candidates, np.random.RandomState([start.seed for start in starts]))


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


def deeper_starts(starts: Sequence[Start], refinable: Refinable, like: Start) -> list[Start]:
    """Candidates of two hidden layers: a smooth one of what is refinable, and one that is ``like`` another in the rest.

    None where a network has two already, or would have many weights.
    """
    smooth = Kind((BASE, refinable.network), _LEVELS[0], PriorKind("feature"))
    level = Level(like.noise_precision, like.steepness)
    alike = Kind((like.scaling, like.network), level, like.prior_kind)
    read: dict[Kind, np.ndarray | None] = {}
    for kind, columns in ((smooth, None), (alike, like.columns)):
        scaling, network = kind.scaled_network
        deep = _deeper_network(network)
        if deep is not None and deep.n_weights <= MANY_WEIGHTS:
            read[kind._replace(scaled_network=(scaling, deep))] = columns
    drawn = _draw(list(read), len(read), np.random.RandomState([start.seed for start in starts]))
    each = zip(drawn, read.values(), strict=True)
    return [start if columns is None else _narrowed(start, columns) for start, columns in each]


def _deeper_network(network: Network) -> Network | None:
    """The same network with two hidden layers in the place of one; None if it has no single one."""
    return network.with_layers(_DEEP) if len(network.hidden_layer_sizes) == 1 else None


def later_networks(scaled: Collection[tuple[str, Network]], activation: str) -> set[tuple[str, Network]]:
    """Networks of candidates that may be drawn later than these, where hidden layers are left to the fit.

    Each has the name of its input scaling.
    """
    steepest = {(name, steepest_network(network, activation)) for name, network in scaled}
    deeper = ((name, _deeper_network(network)) for name, network in scaled)
    linear = {(name, _linear_network(network)) for name, network in scaled if isinstance(network, FeedForward)}
    return steepest | linear | {(name, network) for name, network in deeper if network is not None}


def narrowed_count(starts: Sequence[Start], n_rows: float) -> int:
    """Candidates that may be drawn for the columns of use."""
    narrowable = _narrowable(starts)
    return len(narrowable) + any(_is_wide(start, n_rows) for start in narrowable)


def narrowed_starts(starts: Sequence[Start], columns: Mapping[str, np.ndarray], n_rows: float) -> list[Start]:
    """Candidates that read the columns of use alone, where few are of use; ``columns`` tells which, by scaling.

    Of several columns a feature, few are of use where all features are. So few of every scaling have to be. Where
    there are no more rows than columns, a linear path of all columns fits any targets. There is one more candidate,
    whose path reads the columns of use alone, too.
    """
    narrowable = _narrowable(starts)
    # Pieces of features have no say beside the others.
    without = {OF_PIECES} - {start.scaling for start in narrowable}
    if not all(0 < columns[name].mean() <= _FEW_COLUMNS for name in columns.keys() - without):
        return []
    drawn = [_narrowed(start, columns[start.scaling]) for start in narrowable if start.scaling in columns]
    return drawn + [replace(start, alone=True) for start in drawn if _is_wide(start, n_rows)][:1]


def _is_wide(start: Start, n_rows: float) -> bool:
    """Whether the linear path of a start reads as many columns as the hidden layer, and there are no more rows."""
    network = start.network
    if not (isinstance(network, FeedForward) and network.linear_path):
        return False
    hidden, direct = network.hidden_inputs, network.direct_inputs
    return n_rows <= direct.stop - direct.start == hidden.stop - hidden.start


def _narrowable(starts: Sequence[Start]) -> list[Start]:
    """Return the last starts, a third of all, that estimate precisions and have columns that can be switched off.

    Rectified networks stay as they are. They see what columns tell together, which a test of each column does not.
    Where every other one is rectified, all others are taken, which are few.
    """
    others = [start for start in starts if start.prior_kind.estimates_precisions and start.network.hidden_layer_sizes]
    count = len(starts) if half_rectified(starts) else len(starts) // _NARROWED_OF
    return others[-count:] if count else []


def _narrowed(start: Start, columns: np.ndarray) -> Start:
    """Make the start from steep units whose first layer reads these columns alone."""
    network = start.network
    weights = network.initial_weights(np.random.RandomState(start.seed), steepness=STEEP.steepness)
    units, into = network.shapes[0]
    first = weights[: units * into].reshape(units, into)
    # The bias stays, and a unit has the variance that the weights of all columns give to it.
    read = np.append(columns, True)
    first *= np.where(read, math.sqrt(into / read.sum()), 0.0)
    anchor = weights if network.init == "centered" else None
    return replace(start, weights=weights, anchor=anchor, columns=columns, **STEEP._asdict())


def starts_reading(
    scaling: str, starts: Sequence[Start], refinable: Refinable, scaler: Widened, n_rows: int = 0
) -> list[Start]:
    """Candidates of a scaling that has more columns beside all: one of each level, or the steep one of many rows.

    Precisions by feature tell which columns are of use.
    """
    network = refinable.reading(len(scaler.columns))
    levels = _LEVELS if n_rows <= COMPARED_ROWS else _LEVELS[-1:]
    kinds = [Kind((scaling, network), level, PriorKind("feature")) for level in levels]
    drawn = _draw(kinds, len(kinds), np.random.RandomState([start.seed for start in starts]))
    return [replace(start, scaler=scaler) for start in drawn]


def linear_start(starts: Sequence[Start], like: Start) -> Start:
    """A candidate without hidden layers that reads the columns which another one reads directly."""
    assert isinstance(like.network, FeedForward)
    kind = Kind((like.scaling, _linear_network(like.network)), _LEVELS[0], PriorKind("layer"))
    (start,) = _draw([kind], 1, np.random.RandomState([start.seed for start in starts]))
    return start


def _linear_network(network: FeedForward) -> FeedForward:
    """A network without hidden layers of the columns that another one reads directly."""
    return replace(network, hidden_layer_sizes=())


def radial_start(starts: Sequence[Start], like: FeedForward, radial: Radial) -> Start:
    """A candidate of radial units, which starts with the noise that these leave; ``like`` another network in the rest.

    All units share a precision: how the rows vary together is in their columns. That of logits is given with them.
    """
    units, noise = radial.units, radial.noise
    level = Level() if noise is None else Level(1 / noise)
    start = _linear(RADIAL, starts, like, units, units.n_columns, level, unit=noise is None)
    return replace(start, log_choices=radial.log_choices)


def forest_start(starts: Sequence[Start], ground: Ground, forest: Made) -> Start:
    """A candidate that is linear in the columns of a forest, with weights of precision 1.

    Shares are logits nearly by themselves. The evidence would let go where they part the classes.
    """
    return _linear(FOREST, starts, ground.network, forest, ground.network.n_outputs, unit=True)


def discriminant_start(starts: Sequence[Start], ground: Ground, discriminant: Made) -> Start:
    """A candidate that adds something linear in log odds of classes to these log odds.

    Of many classes, rows are too few to tell a weight for each two, beside what the log odds are by themselves.
    """
    k = ground.network.n_outputs
    start = _linear(DISCRIMINANT, starts, replace(ground.network, alpha=1.0, init="random"), discriminant, k)
    # Outputs at the anchor, which are subtracted, are the log odds with the other sign.
    anchor = np.hstack([-np.eye(k), np.zeros((k, 1))]).ravel()
    return replace(start, weights=np.zeros_like(anchor), anchor=anchor, log_choices=LOG_CHOICES)


def _linear(
    scaling: str,
    starts: Sequence[Start],
    like: FeedForward,
    scaler: Made,
    n_columns: int,
    level: Level = _LEVELS[0],
    unit: bool = False,
) -> Start:
    """A candidate without hidden layers, whose weights share a precision, which may be given as 1 (``unit``)."""
    network = replace(like, n_inputs=n_columns, n_straight=0, hidden_layer_sizes=())
    kind = Kind((scaling, network), level, PriorKind("layer", unit=unit))
    (start,) = _draw([kind], 1, np.random.RandomState([start.seed for start in starts]))
    return replace(start, scaler=scaler)


def _draw(order: Sequence[Kind], n_candidates: int, random_state: np.random.RandomState) -> list[Start]:
    seeds = random_state.randint(np.iinfo(np.int32).max, size=n_candidates).tolist()
    starts = []
    for number, (seed, ((scaling, network), level, prior_kind)) in enumerate(zip(seeds, itertools.cycle(order))):
        draw = np.random.RandomState(seed)
        weights = network.initial_weights(draw, own=number < len(order), steepness=level.steepness)
        anchor = weights if network.init == "centered" else None
        starts.append(Start(network, scaling, prior_kind, weights, anchor, seed, **level._asdict()))
    return starts
