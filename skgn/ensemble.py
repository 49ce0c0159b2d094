"""Members of an ensemble: train them side by side, keep what prediction needs, combine their outputs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from joblib import Parallel, delayed

from .backend import chunks, linear_algebra_device, torch_threads
from .damping import DampingRule
from .directions import choose
from .evidence import EvidencePrior, FixedPrior, Prior, prior_groups
from .jacobian import gram_flops
from .losses import Loss
from .network import Network
from .objective import Objective
from .training import Settings, Training

__all__ = ["Member", "Problem", "Start", "draw_start", "member_outputs", "train_members"]


#: (iterations, candidates kept) between which candidates are compared.
ROUNDS: list[tuple[int, int]] = []


@dataclass(frozen=True)
class Member:
    """One trained network as NumPy arrays and plain values.

    ``anchor`` holds the initial weights whose outputs ``init="centered"`` subtracts, else None.
    """

    network: Network
    weights: np.ndarray
    anchor: np.ndarray | None
    status: str
    n_iter: int
    loss: float
    damping: float
    log_evidence: float | None
    noise_std: float
    n_effective_parameters: float
    solver: str
    history: dict[str, np.ndarray]


@dataclass(frozen=True)
class Problem:
    """Data in training units with everything that is the same for all members."""

    network: Network
    loss: Loss
    X: np.ndarray
    Y: np.ndarray
    sample_weight: np.ndarray
    l2_regularization: str | float
    prior_groups: str
    rule: DampingRule
    solver: str
    settings: Settings
    device: torch.device
    dtype: torch.dtype


@dataclass(frozen=True)
class Start:
    """Initial weights of a candidate, the anchor of ``init="centered"``, and the first noise precision."""

    weights: np.ndarray
    anchor: np.ndarray | None
    noise_precision: float | None = None


def draw_start(network: Network, seed: int, noise_precision: float | None = None) -> Start:
    """Random initial weights from a private generator."""
    weights = network.initial_weights(np.random.RandomState(seed))
    return Start(weights, weights if network.init == "centered" else None, noise_precision)


def train_members(problem: Problem, starts: list[Start], n_members: int, n_jobs: int | None) -> list[Member]:
    """Train candidates in threads and keep ``n_members``: those of highest evidence, or of lowest objective.

    With evidence, candidates are compared after each of `ROUNDS` iterations, and those that fell behind end there.
    """
    network, n, k = problem.network, len(problem.X), problem.network.n_outputs
    flops = gram_flops(network, n, k)
    # Chosen before anything is allocated: a problem that cannot fit is refused here.
    make_direction = choose(problem.solver, network, n, k, problem.device)

    def tensor(values: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(values).to(device=problem.device, dtype=problem.dtype)

    X, Y, sample_weight = tensor(problem.X), tensor(problem.Y), tensor(problem.sample_weight)

    def begin(start: Start) -> Training:
        anchor = None if start.anchor is None else solver_tensor(start.anchor, problem.device)
        w = solver_tensor(start.weights, problem.device)
        objective = Objective(network, problem.loss, X, Y, sample_weight, anchor)
        prior: Prior
        if problem.l2_regularization == "evidence":
            groups = prior_groups(problem.prior_groups, network, w.device)
            prior = EvidencePrior(network, groups, objective.total_weight, start.noise_precision, w)
        else:
            prior = FixedPrior(network, float(problem.l2_regularization), w)
        return Training(objective, w, prior, problem.rule, make_direction, problem.settings)

    def advance(training: Training | Start, until: int) -> Training:
        with torch_threads(flops), torch.no_grad():
            if isinstance(training, Start):
                training = begin(training)
            training.run(until)
        return training

    rounds = [*ROUNDS, (problem.settings.max_iter, n_members)]
    candidates: list[tuple[Training | Start, Start]] = [(start, start) for start in starts]
    with Parallel(n_jobs=n_jobs, require="sharedmem") as parallel:
        for until, keep in rounds:
            advanced = parallel(delayed(advance)(training, until) for training, _ in candidates)
            candidates = list(zip(advanced, (start for _, start in candidates), strict=True))
            candidates.sort(key=lambda c: (-c[0].log_evidence, c[0].history["objective"][-1]))
            if len(candidates) > keep:
                candidates = candidates[: max(keep, n_members)]
    return [_member(training, start) for training, start in candidates[:n_members]]


def _member(training: Training, start: Start) -> Member:
    return Member(
        network=training.objective.network,
        weights=training.at.w.cpu().numpy().copy(),
        anchor=start.anchor,
        status=training.status,
        n_iter=training.n_iter,
        loss=training.at.loss,
        damping=training.damping,
        log_evidence=training.prior.log_evidence,
        noise_std=training.prior.noise_std,
        n_effective_parameters=training.prior.n_effective_parameters,
        solver=type(training.direction).__name__.lower(),
        history=training.history_arrays(),
    )


def solver_tensor(values: np.ndarray, device: torch.device) -> torch.Tensor:
    """A float64 copy where linear systems are solved."""
    return torch.from_numpy(values.copy()).to(linear_algebra_device(device))


def member_outputs(member: Member, X: np.ndarray, device: torch.device, dtype: torch.dtype) -> np.ndarray:
    """Outputs of a member on scaled inputs (n, d): float64 array (n, k)."""
    network = member.network
    bytes_per_row = sum(into + 3 * out for out, into in network.shapes) * 8
    weights = torch.from_numpy(member.weights).to(device=device, dtype=dtype)
    anchor = None if member.anchor is None else torch.from_numpy(member.anchor).to(weights)
    out = np.empty((len(X), network.n_outputs))
    with torch_threads(float(len(X)) * network.n_weights), torch.no_grad():
        for rows in chunks(len(X), bytes_per_row, device):
            U = network.with_bias(torch.from_numpy(X[rows]).to(weights))
            f = network.forward(U, weights)[0]
            if anchor is not None:
                f = f - network.forward(U, anchor)[0]
            out[rows] = f.cpu().numpy()
    return out
