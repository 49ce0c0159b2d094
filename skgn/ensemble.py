"""Members of an ensemble: the part of a training that predictions need, and the members' outputs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import torch

from .backend import chunks, linear_algebra_device, resolve_device, solver_tensor
from .candidates import Start, made_for
from .conformal import Residuals
from .damping import Iterate
from .directions import UNTRAINED
from .history import as_arrays, figures
from .left_out_samples import LeftOutSamples
from .losses import Loss
from .mixture import equal_weights, mixture_mean, voters
from .network import Network
from .posterior import Posterior, laplace
from .prior_groups import PriorKind
from .problem import Problem
from .scaler import Made
from .skill import UNKNOWN, Skill, best_constant
from .state import Linearisation, State
from .status import Status
from .tails import NORMAL, Tails, student_variance
from .threads import torch_threads

__all__ = [
    "Ensemble",
    "Member",
    "Predictor",
    "make_member",
    "member_outputs",
    "predictor",
    "stacked_outputs",
    "untrained",
]


class Predictor(NamedTuple):
    """What a trained network needs to predict: itself, its weights, those whose outputs are subtracted, its scaling."""

    network: Network
    weights: np.ndarray
    anchor: np.ndarray | None
    scaling: str


@dataclass(frozen=True)
class Member:
    """One trained network as NumPy arrays and plain values.

    ``scaling`` names the scaling of its inputs. ``total_weight`` is the number of samples that it was trained on.
    ``precision`` is the prior's addition to the diagonal of G, one vector (inputs + 1,) for each layer.
    """

    network: Network
    weights: np.ndarray = field(repr=False)
    anchor: np.ndarray | None = field(repr=False)
    scaling: str
    prior_kind: PriorKind
    status: str
    n_iter: int
    loss: float
    damping: float
    log_evidence: float | None
    n_effective_parameters: float
    posterior: Posterior | None = field(repr=False)
    total_weight: float
    precision: list[np.ndarray] = field(repr=False)
    solver: str
    history: dict[str, np.ndarray] = field(repr=False)

    def start(self, seed: int) -> Start:
        """The start of a training that goes on with its weights; nothing else is known of its data."""
        return Start(self.network, self.scaling, self.prior_kind, self.weights, self.anchor, seed)

    def check_loss(self) -> None:
        """Raise a ValueError if its loss is not finite, as a module of the user may have outputs that are not."""
        if self.network.uses_autograd and not math.isfinite(self.loss):
            raise ValueError(
                f"network={self.network} has outputs that are not finite numbers for rows of this fit, at the weights "
                "that it begins with. It gets columns that are scaled, unless standardize=False."
            )

    @property
    def in_leading_directions(self) -> bool:
        """Whether it was trained in the leading directions of its inputs alone, for want of time."""
        if not any(np.isinf(a).any() for a in self.precision):
            return False
        # Of a column that is not read the weights are 0, of others they are in these directions for sure.
        layers = zip(self.network.arrays(self.weights)[0], self.precision, strict=True)
        return any(bool((np.isinf(a[:-1, None]) & (W != 0)).any()) for W, a in layers)


class Ensemble(NamedTuple):
    """Members, best first, with their weights, loss and temperature.

    The ``weights`` (n_members,) are the members' parts of a prediction; they are not negative and sum to 1. The
    ``temperature`` divides the outputs; it is 1 if there is none. ``skill`` tells how well the ensemble predicts
    left-out samples, and ``left_out`` what its members predict of them. ``residuals`` tells by how much it misses each
    of them, if that is known, and ``tails`` how far they lie. Where it ``votes_by_row``, members count at each row by
    how sure they are there. ``cut_by`` is what ended the trainings before all had ended by themselves. ``shortened``
    says what was left out for want of time. Members had their ``starts``; none where these are not known. A
    ``failure`` is why it is of no use, although it was trained as long as it might be.
    """

    members: list[Member]
    weights: np.ndarray
    loss: Loss
    temperature: float
    skill: Skill = UNKNOWN
    cut_by: Status | None = None
    shortened: str = ""
    residuals: Residuals | None = None
    left_out: LeftOutSamples | None = None
    tails: Tails = NORMAL
    starts: Sequence[Start] = ()
    votes_by_row: bool = False
    failure: Status | None = None

    @property
    def scalings(self) -> dict[str, Made]:
        """Scalings that were made in the fit, by name."""
        return made_for(self.starts)

    @property
    def is_trained(self) -> bool:
        """Whether it is more than the best constant."""
        return self.members[0].solver != UNTRAINED

    def widened(self) -> Ensemble:
        """Make the ensemble whose widths are at least what left-out residuals are: of weights and noise alike.

        Few residuals leave the noise level uncertain, so that a new observation has a Student-t distribution.
        """
        if self.tails == NORMAL:
            return self
        excess = self.tails.mean_square * student_variance(self._degrees_of_freedom())
        if excess <= 1:
            return self
        members = [
            member if member.posterior is None else replace(member, posterior=member.posterior.times(excess))
            for member in self.members
        ]
        residuals = self.residuals
        if residuals is not None:
            residuals = replace(residuals, values=residuals.values / math.sqrt(excess))
        return self._replace(members=members, residuals=residuals, tails=self.tails._replace(mean_square=1.0))

    def _degrees_of_freedom(self) -> float:
        """How many residuals tell the noise of an output: observations, less the weights that they determine."""
        counted, votes = voters(self.members, self.weights)
        determined = mixture_mean([member.n_effective_parameters for member in counted], votes)
        return counted[0].total_weight - determined / counted[0].network.n_outputs


def make_member(
    state: State, linearisation: Linearisation, start: Start, noise_share: np.ndarray | float = 1.0
) -> Member:
    """Make a member of a state of a training and the linearisation there; a part of its noise counts in a mixture."""
    state = state.concluded(linearisation.direction)
    return _member(state, start, laplace(state, linearisation, noise_share), linearisation.solver)


def untrained(problem: Problem, start: Start, reason: Status) -> Ensemble:
    """Make an ensemble of one network that predicts the best constant, where there was no time to train.

    Its weights are those of the start, whose outputs are subtracted. It needs no basis of its inputs.
    """
    start, problem = replace(start, anchor=start.weights), replace(problem, reduces=False)
    with torch_threads(0.0), torch.no_grad():
        state = problem.at_start(start, problem.n_samples)
        w = state.objective.network.with_constant(state.at.w, best_constant(state.objective, problem.loss))
        state = replace(state, at=state.objective.evaluate(w), status=reason)
    iterate = Iterate(0, state.value(state.at), state.at.loss, math.nan, math.nan, lambda: math.nan)
    state = replace(state, history=(figures(state, iterate, w, 0.0),))
    note = " Nothing was trained: the prediction is a constant."
    return Ensemble([_member(state, start, None, UNTRAINED)], equal_weights(1), problem.loss, 1.0, shortened=note)


def predictor(state: State, start: Start) -> Predictor:
    """Return what the network of a start predicts with at a state of its training."""
    network = state.objective.network
    anchor = None if start.anchor is None else network.to_original(network.from_original(start.anchor))
    weights = network.to_original(state.at.w.cpu().numpy().copy())
    return Predictor(network.original, weights, anchor, start.scaling)


def _member(state: State, start: Start, posterior: Posterior | None, solver: str) -> Member:
    network = state.objective.network
    estimates, n_effective = state.estimates, state.estimates.n_effective_parameters
    return Member(
        **predictor(state, start)._asdict(),
        prior_kind=start.prior_kind,
        status=state.status.value,
        n_iter=state.n_iter,
        loss=state.at.loss,
        damping=math.nan if state.damping is None else state.damping,
        log_evidence=estimates.log_evidence,
        n_effective_parameters=math.nan if n_effective is None else n_effective,
        posterior=posterior,
        total_weight=estimates.total_weight,
        precision=network.precision_of_original([a.cpu().numpy().copy() for a in estimates.precision]),
        solver=solver,
        history=as_arrays(state.history),
    )


def member_outputs(member: Member, X: np.ndarray, device: torch.device) -> np.ndarray:
    """Compute outputs of a member on scaled inputs (n, d): a float64 array (n, k)."""
    network = member.network
    bytes_per_row = sum(into + 3 * out for out, into in network.shapes) * 8
    weights = solver_tensor(member.weights, device)
    anchor = None if member.anchor is None else solver_tensor(member.anchor, device)
    out = np.empty((len(X), network.n_outputs))
    with torch_threads(float(len(X)) * network.n_weights), torch.no_grad():
        for rows in chunks(len(X), bytes_per_row, device):
            U = network.with_bias(torch.from_numpy(X[rows]).to(weights))
            f = network.forward(U, weights, with_slopes=False)[0]
            if anchor is not None:
                f = f - network.forward(U, anchor, with_slopes=False)[0]
            out[rows] = f.cpu().numpy()
    return out


def stacked_outputs(members: Sequence[Member], scaled: Mapping[str, np.ndarray], device: str) -> np.ndarray:
    """Compute outputs of several members on inputs in their scalings: a float64 array (members, n, k)."""
    flops = 2.0 * len(next(iter(scaled.values()))) * members[0].network.n_weights
    at = linear_algebra_device(resolve_device(device, flops))
    return np.stack([member_outputs(member, scaled[member.scaling], at) for member in members])
