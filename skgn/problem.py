"""The problem that the members of a fit share: the data in training units, and how to train on them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import torch

from .backend import solver_tensor
from .candidates import Start
from .damping import DampingRule
from .directions import affordable, least_flops
from .evidence import Prior, make_prior
from .feedforward import FeedForward
from .losses import Loss
from .memory import Extent
from .mixing import outputs_of_targets
from .network import Network
from .objective import Objective
from .radial import RADIAL
from .reduced import Reduced, principal_directions
from .scaler import BASE, Made
from .settings import Settings
from .state import State

__all__ = ["Problem", "Validation"]

#: Factor below the largest float for squares of targets, whose sums are floats too.
_ROOM = 1e4

#: A network of so many weights or more is trained in a basis of its inputs if that leaves at most this part of the cost
#: of an iteration.
_MANY_WEIGHTS, _LESS = 300, 0.8


class Validation(NamedTuple):
    """Validation data of early stopping in training units; ``scaled`` has the columns in each of the scalings."""

    scaled: dict[str, np.ndarray]
    Y: np.ndarray
    sample_weight: np.ndarray


@dataclass(frozen=True)
class Problem:
    """Data in training units, and everything else that members share.

    ``scaled`` has the columns in each of the scalings. With ``validation`` data the members stop early. A fit that
    takes ``max_time`` seconds ends with what it has. ``reduces`` tells whether networks may be trained in a basis of
    their inputs, and ``cuts`` whether that may be of the leading directions alone. ``drawn`` tells how many rows were
    drawn for want of time, before equal ones were merged, and of how many; None if all were taken. ``root_precision``
    (n, k) are inverses of what the noise of each target is, beside that of others; None if all noise is alike.

    Raises
    ------
    ValueError
        If targets are so large in training units that their squares are no floats of the ``dtype``.
    """

    loss: Loss
    scaled: dict[str, np.ndarray]
    Y: np.ndarray
    sample_weight: np.ndarray
    validation: Validation | None
    rule: DampingRule
    solver: str
    batch_size: int | str | None
    settings: Settings
    max_time: float
    device: torch.device
    dtype: torch.dtype
    reduces: bool = field(default=False, kw_only=True)
    cuts: bool = field(default=False, kw_only=True)
    drawn: tuple[int, int] | None = field(default=None, kw_only=True)
    root_precision: np.ndarray | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        limit = math.sqrt(torch.finfo(self.dtype).max / _ROOM)
        of_rows = [self.Y] if self.validation is None else [self.Y, self.validation.Y]
        largest = max(self.loss.sizes(Y).max(initial=0.0) for Y in of_rows)
        if not largest <= limit:
            raise ValueError(
                f"y has values of {largest:.3g} in size, in units of the fit, whose squares are beyond "
                f"{str(self.dtype).removeprefix('torch.')}: scale it, leave out what is far beyond all other values, "
                "or take dtype='float64'. After a fit, and in a stream with network=, units stay as they are: fit anew."
            )

    @property
    def n_samples(self) -> int:
        return len(self.Y)

    def rows_as_given(self, rows: int) -> tuple[int, int]:
        """Number of these rows and of all, in rows as they were given where they were drawn for want of time."""
        if self.drawn is None:
            return rows, self.n_samples
        drawn, given = self.drawn
        return round(drawn * rows / self.n_samples), given

    @property
    def n_outputs(self) -> int:
        return self.Y.shape[1]

    @property
    def n_columns(self) -> int:
        """Number of columns of the loss's curvature roots."""
        return self.loss.columns(self.n_outputs)

    def with_more(self, scalings: Mapping[str, Made], own: Mapping[str, np.ndarray] = MappingProxyType({})) -> Problem:
        """Return the problem with scalings that were made in a fit, of the one that they cut.

        Columns (n, columns) of these rows are their ``own`` where a scaling has learned from their targets.
        """
        if not scalings:
            return self

        def more(scaled: dict[str, np.ndarray], known: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
            made = {name: by.embed(scaled[BASE]) for name, by in scalings.items() if name not in known}
            return {**scaled, **made, **known}

        validation = self.validation and self.validation._replace(scaled=more(self.validation.scaled, {}))
        return replace(self, scaled=more(self.scaled, own), validation=validation)

    def first_rows(self, rows: int) -> Problem:
        """Return the problem of the first rows, which are a random sample."""
        scaled = {name: columns[:rows] for name, columns in self.scaled.items()}
        return replace(self, scaled=scaled, Y=self.Y[:rows], sample_weight=self.sample_weight[:rows])

    def mixed(self, mixing: np.ndarray) -> Problem:
        """Return the problem of outputs that are such combinations of the targets."""
        validation = self.validation and self.validation._replace(Y=outputs_of_targets(self.validation.Y, mixing))
        loss, Y = self.loss.mixed(mixing), np.ascontiguousarray(outputs_of_targets(self.Y, mixing))
        return replace(self, loss=loss, Y=Y, validation=validation)

    def rows_in_memory(self, rows: int) -> int:
        """Number of these rows that take memory of this process."""
        return rows

    def at_start(self, start: Start, rows: int) -> State:
        """Make the state of a member where it starts, on the first rows."""
        objective, prior = self.objective_from(start, rows), self.prior_from(start)
        return State.at_weights(self.weights_from(start), objective, prior, prior.initial(objective.total_weight))

    def network(self, start: Start) -> Network:
        """The network that is trained: that of the start, or one that stands for it with fewer weights.

        Precisions of the linear path are one in the priors of features and layers, those of the first layer in the
        latter. A narrowed network reads its columns alone.
        """
        network, groups, narrowed = start.network, start.prior_kind.groups, start.columns is not None
        may = self.reduces and start.prior_kind.has_evidence and groups in ("feature", "layer")
        # Inputs that are not scaled have no common unit; paired units must stay equal bit for bit. Radial units have
        # been reduced already.
        as_it_is = start.scaling in ("raw", RADIAL) or network.init == "symmetric"
        if not (may and isinstance(network, FeedForward)) or as_it_is:
            return network
        if network.n_weights < _MANY_WEIGHTS and not start.alone:
            return network
        columns = None if start.columns is None else (start.columns.tobytes(), start.alone)
        key = network, start.scaling, groups == "layer" and not narrowed, columns, self.needs_traces(start)
        if key not in self._networks:
            affords = partial(self._affords_network, traces=key[-1])
            directions = partial(self._directions, start.scaling)
            smaller = Reduced.of(network, directions, key[2], start.columns, start.alone, affords)
            pays = not affords(network) or self._flops(smaller) <= _LESS * self._flops(network)
            self._networks[key] = smaller if pays else network
        return self._networks[key]

    def _directions(self, scaling: str, columns: slice) -> np.ndarray:
        """Principal directions of some columns of the inputs, made once for all networks."""
        key = scaling, columns.start, columns.stop
        if key not in self._bases:
            self._bases[key] = principal_directions(self.scaled[scaling][:, columns], self.sample_weight)
        return self._bases[key]

    def needs_traces(self, start: Start) -> bool:
        """Whether the training of a start asks a direction for traces: to estimate its precisions or the noise."""
        kind = start.prior_kind
        return kind.estimates_precisions or (kind.has_evidence and self.loss.estimates_scale)

    def extent(self, network: Network) -> Extent:
        """How large the training of a network is."""
        return Extent(network, self.n_samples, self.n_columns, self.dtype, self.device)

    def _flops(self, network: Network) -> float:
        """Cost of an iteration of a network."""
        return least_flops(self.solver, self.extent(network))

    def affords(self, start: Start) -> bool:
        """Whether there is time to train what a start becomes, or it is to be trained however long it takes."""
        return self._affords_network(self.network(start), self.needs_traces(start))

    def leaves_out_inputs(self, start: Start) -> bool:
        """Whether what a start becomes reads the leading directions of its inputs, as there is no time for all."""
        network = self.network(start)
        return start.columns is None and isinstance(network, Reduced) and network.leaves_out

    def _affords_network(self, network: Network, traces: bool) -> bool:
        """Whether there is time to train a network, or it is to be trained however long it takes.

        A linear one takes few iterations.
        """
        return not self.cuts or affordable(self.solver, self.extent(network), traces and not network.is_linear)

    def weights_from(self, start: Start) -> torch.Tensor:
        """Make the weights (P,) that a member starts with."""
        return solver_tensor(self.network(start).from_original(start.weights), self.device)

    def prior_from(self, start: Start) -> Prior:
        """Make the prior of a member."""
        like = self.weights_from(start)
        return make_prior(
            start.prior_kind,
            self.network(start),
            self.loss,
            start.noise_precision,
            like,
            start.columns,
            start.log_choices,
            self._unit_precision,
        )

    def objective_from(self, start: Start, rows: int) -> Objective:
        """Make a member's own objective on the first rows; members of the same network share the data."""
        key = self.network(start), start.scaling, rows
        if key not in self._objectives:
            self._objectives[key] = self.objective(*key)
        return self._of_member(self._objectives[key], start)

    def on_columns(self, start: Start, state: State) -> Objective:
        """Return the objective of a member's state, for the network that reads the columns themselves."""
        objective = state.objective
        if objective.network is start.network:
            return objective
        return self.objective(start.network, start.scaling, objective.n_samples).with_loss(objective.data_loss)

    def validation_from(self, start: Start) -> Objective | None:
        """Make the objective on the validation data; None if there are none."""
        if self.validation is None:
            return None
        data = self.validation
        network = self.network(start)
        X, Y, weight = map(self.tensor, (network.read(data.scaled[start.scaling]), data.Y, data.sample_weight))
        return self._of_member(Objective(network, self.loss, X, Y, weight), start)

    def objective(self, network: Network, scaling: str, rows: int) -> Objective:
        """Make the objective on the first rows, in one of the scalings."""
        # Merged rows come in random order: the first ones are a random sample.
        reduced = network.original is not network
        X = self.tensor(network.read(self.scaled[scaling][:rows])) if reduced else self._scaled[scaling]
        Y, weight, root = self._targets
        return Objective(network, self.loss, X[:rows], Y[:rows], weight[:rows], None if root is None else root[:rows])

    def _of_member(self, objective: Objective, start: Start) -> Objective:
        if start.anchor is None:
            return objective.for_member()
        anchor = solver_tensor(self.network(start).from_original(start.anchor), self.device)
        return objective.for_member(anchor, start.network.init == "centered")

    # No reference to self: an object that keeps itself alive is freed late, and its data with it.
    @cached_property
    def _objectives(self) -> dict[tuple[Network, str, int], Objective]:
        return {}

    @cached_property
    def _unit_precision(self) -> torch.Tensor | float:
        """Precision that the noise begins at a multiple of."""
        unit = self.loss.unit_precision(self.Y, self.sample_weight)
        return unit if isinstance(unit, float) else unit.to(self.device)

    @cached_property
    def _bases(self) -> dict[tuple[str, int, int], np.ndarray]:
        return {}

    @cached_property
    def _networks(self) -> dict[tuple[Network, str, bool, tuple[bytes, bool] | None, bool], Network]:
        return {}

    @cached_property
    def _scaled(self) -> dict[str, torch.Tensor]:
        return {name: self.tensor(values) for name, values in self.scaled.items()}

    @cached_property
    def _targets(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        root = self.root_precision
        return self.tensor(self.Y), self.tensor(self.sample_weight), None if root is None else self.tensor(root)

    def tensor(self, values: np.ndarray) -> torch.Tensor:
        """Make a tensor on the device and in the dtype of the computation."""
        return torch.from_numpy(values).to(device=self.device, dtype=self.dtype)
