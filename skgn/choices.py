"""From the parameters of a fit to its candidates and settings: what is given, and what is left to the fit ("auto")."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from sklearn.utils import check_random_state

from .backend import DTYPES, gigabytes
from .candidates import (
    COMPARED_ROWS,
    OF_PIECES,
    ROWS_OF_PIECES,
    Beside,
    Kind,
    Level,
    Start,
    candidate_count,
    first_count,
    kind_beside,
    layer_choices,
    level_choices,
    member_count,
    network_of_pieces,
    of_one_label,
    prior_choices,
)
from .damping import as_rule
from .directions import times_affordable
from .draws import Draw, draw_starts, later_networks, steepest_network
from .ensemble import Member
from .feedforward import FeedForward
from .finer import Refinable
from .free_memory import available_memory
from .ground import Ground
from .inputs import Table
from .losses import Loss
from .memory import Extent
from .module import ModuleNetwork
from .network import Network
from .parameters import Parameters, hidden_layers
from .preprocessing import SCALINGS
from .prior_groups import PriorKind
from .radial import Surroundings
from .reduced import fewest_directions
from .scaler import BASE
from .settings import Settings
from .target import Target
from .warm_start import kept_starts

__all__ = ["Choices"]

#: Scalings that a fit chooses among: normal scores alone were never missed (docs/decisions.md).
_COMPARED = ("robust", "periodic")

#: Networks of many classes have no fewer units, however long they take.
_FEWEST_UNITS = 5

#: Radial units take up to 500 numbers for each row. So a regression of more rows has none.
_SURROUNDED_ROWS = 10_000

#: The most rows in which codes are looked for, and how many for each second that a fit may take. So many take about a
#: tenth of it.
_ROWS_FOR_CODES, _ROWS_A_SECOND = 20_000, 600


@dataclass(frozen=True)
class Choices:
    """Choose what the checked parameters of a fit leave open.

    Without ``may_compare``, nothing is compared: a stream and a single network for inspection. A warm start goes on
    from ``members``, and keeps the codes and interactions of the table ``before``. The time of a fit counts from when
    it ``began``.
    """

    parameters: Parameters
    may_compare: bool = True
    members: Sequence[Member] = ()
    before: Table | None = None
    began: float = field(default_factory=time.perf_counter)

    @property
    def fixed_l2(self) -> bool:
        """Whether the objective is given, rather than estimated."""
        return not isinstance(self.parameters.l2_regularization, str)

    @property
    def compares(self) -> bool:
        """Whether candidates of several kinds are trained; not if the objective is given."""
        return self.may_compare and not self.fixed_l2

    @property
    def may_cut(self) -> bool:
        """Whether a network may read fewer directions of its inputs than there are; not if its layers are given."""
        parameters = self.parameters
        return parameters._cuts and self.hidden is None and parameters.network is None and parameters.batch_size is None

    @property
    def rows_for_codes(self) -> int:
        """Rows in which numbers that are codes, and interactions, are looked for; little time is for few.

        There are none where the objective or the module is given, or inputs stay as they are. Nor are there any where
        all columns are said to be numbers, or another fit has to have the same columns.
        """
        parameters = self.parameters
        as_given = self.fixed_l2 or parameters.network is not None or not parameters.standardize
        no_codes = as_given or parameters.categorical_features is None or parameters.warm_start
        return 0 if no_codes else int(min(_ROWS_FOR_CODES, _ROWS_A_SECOND * (parameters.max_time or math.inf)))

    @property
    def hidden(self) -> tuple[int, ...] | None:
        """The hidden layers; None if they are left to the fit."""
        return hidden_layers(self.parameters)

    @property
    def activation(self) -> str:
        """The activation of all networks but those of the kind beside the others."""
        return "tanh" if self.parameters.activation == "auto" else self.parameters.activation

    @property
    def time_left(self) -> float:
        """Seconds that are left of the fit; infinity without a limit."""
        limit = np.inf if self.parameters.max_time is None else float(self.parameters.max_time)
        return limit - (time.perf_counter() - self.began)

    def scalings(self, n_rows: int, loss: Loss) -> tuple[str, ...]:
        """Names of the scalings that candidates may have on so many rows. Only nonlinear models have a choice."""
        standardize = self.parameters.standardize
        if not standardize:
            return ("raw",)
        if isinstance(standardize, str):
            return (standardize,)
        # A module is made for one column a feature.
        if not self.compares or self.hidden == () or self.parameters.network is not None:
            return SCALINGS[:1]
        pieces = self._mixes and loss.has_temperature and n_rows >= ROWS_OF_PIECES
        return (*_COMPARED, OF_PIECES) if pieces else _COMPARED

    @property
    def paths(self) -> str:
        """Name of the networks' paths, as in :data:`~skgn.preprocessing.ROBUST`."""
        if self.hidden == ():
            return "linear"
        return "both" if self.parameters.linear_path and self.parameters.network is None else "hidden"

    def draw(self, table: Table, target: Target, n_rows: int, total_weight: float, in_memory: bool) -> Draw:
        """Draw the candidates: of all kinds that are left to the fit, or as many members of one kind.

        More may be drawn once these are trained. Those of radial units, finer inputs and steps need rows ``in_memory``.
        """
        k, loss = target.n_outputs, target.training_loss()
        levels = self.levels(loss.has_scale)
        networks = self._networks(table, k, total_weight * k)
        beside = self._beside(*networks[0], levels, n_rows, loss, table)
        half = beside is not None and beside.every_other
        slow = self._takes_long(networks[0][1], n_rows, loss.columns(k))
        times = 0.0 if self.may_cut else self._times_affordable(networks[0][1], n_rows, loss.columns(k))
        priors = self._priors(slow)
        refinable = self._refinable(table, dict(networks), priors, loss) if in_memory else None
        surroundings = self._surroundings(refinable, table, n_rows, loss)
        every, joined = [network for _, network in networks], surroundings is not None
        n = member_count(self.parameters.n_estimators, n_rows, every, self.compares, beside, joined, times)
        # A single network is compared with others of its kind, and none is drawn for what it lacks.
        several = networks if n > 1 else networks[:1]
        ground = self._ground(table, dict(networks).get(BASE), loss) if in_memory else None
        made = (refinable, surroundings, ground) if n > 1 else (None, None, None)
        kinds = [Kind(*each) for each in itertools.product(several, levels, priors)]
        if slow and beside is not None and self._takes_long(fewest_directions(networks[0][1]), n_rows, loss.columns(k)):
            # In few directions, too, smooth networks take long where classes are many.
            takes_long = partial(self._takes_long, n_rows=n_rows, columns=loss.columns(k), traces=False)
            kinds, beside = [_of_fewer_units(beside.kinds[0], self.hidden, takes_long)], None
        # The short starts of a single regression are of one kind of units.
        if n == 1 and not loss.has_temperature:
            beside = None
        count = candidate_count(n, n_rows, len(kinds) + (beside is not None), self.compares, half or slow)
        _check_memory(count * min(network.n_weights for _, network in networks))
        fresh = draw_starts(kinds, count, n > 1, check_random_state(self.parameters.random_state), beside)
        if self.hidden is None:
            fresh = [replace(start, steepest=steepest_network(start.network, self.activation)) for start in fresh]
        n_first = first_count(self.parameters.n_estimators, n_rows, n, self.compares, loss)
        if not self.members:
            return Draw(fresh, n, n_first, *made, n_rows=n_rows, times=times)
        kept = self._kept(fresh[:n], kinds, levels, n_rows, table, target)
        # Kinds that there are none of come first.
        known = {start.kind for start in kept}
        fresh.sort(key=lambda start: start.kind in known)
        starts, n_first = kept + fresh[: n - len(kept)], max(len(kept), n_first)
        return Draw(starts, n, n_first, *made, go_on=bool(kept), n_rows=n_rows, times=times)

    def _kept(
        self,
        fresh: Sequence[Start],
        kinds: Sequence[Kind],
        levels: Sequence[Level],
        n_rows: int,
        table: Table,
        target: Target,
    ) -> list[Start]:
        """Starts of the members that a warm start goes on with, each with the seed of a ``fresh`` one.

        A member goes on although a fit of so many rows would not draw its kind.
        """
        k, loss, of_rows = target.n_outputs, target.training_loss(), [[kind.scaled_network for kind in kinds]]
        if self.parameters.network is None:
            of_rows += [self._networks(table, k, n_observations) for n_observations in (1.0, math.inf)]
        tables = table, table.only(table.scalings.keys() - {OF_PIECES})
        each = itertools.product(of_rows, (1, n_rows), tables)
        others = (self._beside(*networks[0], levels, rows, loss, read) for networks, rows, read in each)
        every = [*kinds, *(kind for beside in others if beside is not None for kind in beside.kinds)]
        scaled_networks = {kind.scaled_network for kind in every}.union(*of_rows)
        if self.hidden is None:
            scaled_networks |= later_networks(scaled_networks, self.activation)
        prior_kinds = {kind.prior_kind for kind in every}
        return kept_starts(
            self.members, fresh, table.scalings, scaled_networks, prior_kinds, kinds[0].scaled_network[1]
        )

    def _refinable(
        self, table: Table, networks: dict[str, Network], priors: Sequence[PriorKind], loss: Loss
    ) -> Refinable | None:
        """What may be read in pieces, for labels and for losses with a noise level, if scalings are compared.

        Pieces want precisions of their own, and rows that are read at once.
        """
        scaler, network = table.scalings.get(BASE), networks.get(BASE)
        if scaler is None or not isinstance(network, FeedForward) or not network.hidden_layer_sizes:
            return None
        left_open = self.compares and (loss.has_scale or loss.has_temperature) and table.scalings.keys() >= {*_COMPARED}
        by_feature = any(prior.groups == "feature" for prior in priors)
        if not (left_open and by_feature) or self.parameters.batch_size is not None:
            return None
        return Refinable.of(scaler, network, self.hidden)

    def _surroundings(self, refinable: Refinable | None, table: Table, n_rows: int, loss: Loss) -> Surroundings | None:
        """What radial units are made of. There are some on few rows, where layers and units are left to the fit."""
        if refinable is None or not self._units_left_open:
            return None
        of_means = loss.has_scale and not loss.predicts_quantiles and n_rows <= _SURROUNDED_ROWS
        # On more rows they tell hardly more of labels than the other networks, and take long (docs/decisions.md).
        of_label = of_one_label(loss, refinable.network) and n_rows <= COMPARED_ROWS
        if not (of_means or of_label):
            return None
        # What rectified networks predict of left-out samples is too bad for one of them to make way.
        n_more = int(of_label and isinstance(self.parameters.n_estimators, str))
        return Surroundings(refinable.scaler, refinable.network, table.features, n_more)

    def _ground(self, table: Table, network: Network | None, loss: Loss) -> Ground | None:
        """What models of labels stand on, of one kind of labels, where layers and units are left to the fit."""
        left_open = self._mixes and self._units_left_open and self.parameters.batch_size is None
        base = table.scalings.get(BASE) if left_open and table.scalings.keys() >= {*_COMPARED} else None
        network = network if isinstance(network, FeedForward) and of_one_label(loss, network) else None
        n_more = int(isinstance(self.parameters.n_estimators, str))
        return None if base is None or network is None else Ground(base, network, n_more)

    @property
    def _units_left_open(self) -> bool:
        """Whether networks of other units may join those of the parameters."""
        return self.hidden is None and self.parameters.activation == "auto" and self.parameters.linear_path

    def levels(self, has_noise: bool) -> tuple[Level, ...]:
        """Levels that training starts from."""
        return level_choices(has_noise, self.compares, self.parameters.network is None and self.hidden != ())

    def _priors(self, slow: bool) -> Sequence[PriorKind]:
        """Priors to choose from. Where networks are ``slow``, they are trained in few directions of their inputs.

        Only weights that share a precision can be.
        """
        parameters = self.parameters
        if not isinstance(parameters.l2_regularization, str):
            return (PriorKind.fixed(float(parameters.l2_regularization)),)
        if parameters.prior_groups == "auto":
            return prior_choices(self.compares, features=parameters.network is None and not slow)
        return (PriorKind(parameters.prior_groups),)

    def _times_affordable(self, network: Network, n_rows: int, columns: int, traces: bool = True) -> float:
        """How many times as long as it may an iteration takes, with so many columns of roots; 0 in batches."""
        parameters, compares = self.parameters, self.compares and self.parameters.batch_size is None
        extent = Extent(network, n_rows, columns, DTYPES[parameters.dtype])
        return times_affordable(parameters.solver, extent, traces) if compares else 0.0

    def _takes_long(self, network: Network, n_rows: int, columns: int, traces: bool = True) -> bool:
        """Whether there is no time for a network that may read fewer directions of its inputs."""
        return self.may_cut and self._times_affordable(network, n_rows, columns, traces) > 1

    def _networks(self, table: Table, k: int, n_observations: float) -> list[tuple[str, Network]]:
        """Networks to choose from, each with the name of its input scaling."""
        parameters = self.parameters
        # A network of pieces is beside the others, unless pieces are asked for.
        compared = [name for name in table.features if name != OF_PIECES or len(table.features) == 1]
        n_inputs = {name: len(table.features[name]) for name in compared}
        scalers = {name: table.scalings[name] for name in compared}
        n_straight = {name: 0 if scaler is None else scaler.n_straight for name, scaler in scalers.items()}
        alpha, init = float(parameters.alpha), parameters.init
        if parameters.network is not None:
            # Each network tries the module out, so that all scalings with as many columns share one.
            widths = dict.fromkeys(n_inputs.values())
            networks = {d: ModuleNetwork(parameters.network, d, k, alpha, init) for d in widths}
            return [(name, networks[d]) for name, d in n_inputs.items()]
        bent = {name: n_inputs[name] - n_straight[name] for name in n_inputs}
        choices = layer_choices(bent, k, n_observations, self.hidden)
        given = self.activation, parameters.linear_path, alpha, init
        return [
            (name, FeedForward(n_inputs[name], k, sizes, *given, n_straight[name]))
            for name, sizes in (choices if self.compares else choices[:1])
        ]

    @property
    def _mixes(self) -> bool:
        """Whether activation and prior are left to the fit, so that kinds of either may be beside the others."""
        parameters = self.parameters
        return self.compares and parameters.activation == parameters.prior_groups == "auto" and self.hidden != ()

    def _beside(
        self, scaling: str, network: Network, levels: Sequence[Level], n_rows: int, loss: Loss, table: Table
    ) -> Beside | None:
        """Choose the kind beside the others on so many rows, if activation and prior are left to the fit.

        On periodic inputs, networks of rectified units are surer than they should be.
        """
        if not self._mixes or scaling == "periodic":
            return None
        of_pieces = None
        if OF_PIECES in table.features and scaling != OF_PIECES:
            of_pieces = network_of_pieces(network, len(table.features[OF_PIECES]), self.hidden)
        if of_pieces and self._takes_long(of_pieces, n_rows, loss.columns(network.n_outputs), traces=False):
            of_pieces = None
        return kind_beside(scaling, network, levels, n_rows, loss, self.hidden, of_pieces)

    def how_to_train(self, loss: Loss) -> dict[str, Any]:
        """Fields of a :class:`~skgn.problem.Problem` that depend on the loss and the parameters, but on no data."""
        parameters = self.parameters
        settings = Settings(
            max_iter=int(parameters.max_iter),
            tol=float(parameters.tol),
            n_iter_no_change=int(parameters.n_iter_no_change),
            project_readout=self._projects_readout,
            verbose=int(parameters.verbose),
        )
        return {
            "loss": loss,
            "rule": as_rule(parameters.damping),
            "settings": settings,
            "cuts": self.may_cut,
            "max_time": self.time_left,
            "dtype": DTYPES[parameters.dtype],
        }

    @property
    def _projects_readout(self) -> bool:
        """Whether training may take any path to the minimum, rather than the path of a given damping rule.

        The objective must be fixed. A warm start goes on from where it is.
        """
        return self.fixed_l2 and isinstance(self.parameters.damping, str) and not self.members


def _check_memory(n_weights: int) -> None:
    """Refuse starts of so many weights in all, of which each is drawn before any is trained."""
    need, available = 8.0 * n_weights, available_memory(torch.device("cpu"))
    if need > available:
        raise ValueError(
            f"The weights of all starts need {gigabytes(need)}, but {gigabytes(available)} are available: choose a "
            "smaller n_estimators."
        )


def _of_fewer_units(kind: Kind, given: tuple[int, ...] | None, takes_long: Callable[[Network], bool]) -> Kind:
    """Halve the units of a kind until there is time for its networks, in few directions of their inputs.

    Hidden layers that are ``given`` stay.
    """
    scaling, network = kind.scaled_network
    while given is None and isinstance(network, FeedForward) and takes_long(fewest_directions(network)):
        sizes = tuple(h // 2 for h in network.hidden_layer_sizes)
        if min(sizes, default=0) < _FEWEST_UNITS:
            break
        network = replace(network, hidden_layer_sizes=sizes)
    return kind._replace(scaled_network=(scaling, network))
