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
from .losses import Loss, SquaredError
from .network import Network
from .objective import Objective
from .posterior import Posterior, laplace
from .training import Settings, Training

__all__ = ["Member", "Problem", "Start", "draw_start", "feature_sensitivity", "member_outputs", "train_members"]


#: Iterations after which the evidence tells good candidates from bad ones (docs/benchmarks.md).
_FIRST_ROUND = 15


#: Rows from which the relevance of features is estimated.
_SENSITIVITY_ROWS = 512


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
    n_effective_parameters: float
    posterior: Posterior | None
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

    The choice is made after a first round of iterations; only the members kept are trained to the end.
    """
    network, n, k = problem.network, len(problem.X), problem.network.n_outputs
    flops = gram_flops(network, n, k)
    # Chosen before anything is allocated: a problem that cannot fit is refused here.
    make_direction = choose(problem.solver, network, n, k, problem.device)

    def tensor(values: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(values).to(device=problem.device, dtype=problem.dtype)

    X, Y, sample_weight = tensor(problem.X), tensor(problem.Y), tensor(problem.sample_weight)

    has_noise = isinstance(problem.loss, SquaredError)

    objective = Objective(network, problem.loss, X, Y, sample_weight)

    def begin(start: Start) -> Training:
        anchor = None if start.anchor is None else _solver_tensor(start.anchor, problem.device)
        w = _solver_tensor(start.weights, problem.device)
        prior: Prior
        if problem.l2_regularization == "evidence":
            groups = prior_groups(problem.prior_groups, network, w.device)
            prior = EvidencePrior(network, groups, objective.total_weight, start.noise_precision, w)
        else:
            prior = FixedPrior(network, float(problem.l2_regularization), has_noise, w)
        return Training(objective.for_member(anchor), w, prior, problem.rule, make_direction, problem.settings)

    def advance(training: Training, until: int) -> Training:
        with torch_threads(flops), torch.no_grad():
            training.run(until)
        return training

    def merit(candidate: tuple[Training, Start]) -> tuple[float, float]:
        return -candidate[0].log_evidence, candidate[0].history["objective"][-1]

    with torch_threads(flops), torch.no_grad():
        candidates = [(begin(start), start) for start in starts]
    rounds = [problem.settings.max_iter]
    if len(starts) > n_members and _FIRST_ROUND < problem.settings.max_iter:
        rounds.insert(0, _FIRST_ROUND)
    with Parallel(n_jobs=n_jobs, require="sharedmem") as parallel:
        for until in rounds:
            trainings = parallel(delayed(advance)(training, until) for training, _ in candidates)
            candidates = list(zip(trainings, (start for _, start in candidates), strict=True))
            candidates = sorted(candidates, key=merit)[:n_members]
    with torch_threads(flops), torch.no_grad():
        return [_member(training, start) for training, start in candidates]


def _member(training: Training, start: Start) -> Member:
    objective = training.objective
    training.prior.conclude(objective, training.at, training.direction)
    return Member(
        network=objective.network,
        weights=training.at.w.cpu().numpy().copy(),
        anchor=start.anchor,
        status=training.status,
        n_iter=training.n_iter,
        loss=training.at.loss,
        damping=training.damping,
        log_evidence=training.prior.log_evidence,
        n_effective_parameters=training.prior.n_effective_parameters,
        posterior=laplace(training),
        solver=type(training.direction).__name__.lower(),
        history=training.history_arrays(),
    )


def _solver_tensor(values: np.ndarray, device: torch.device) -> torch.Tensor:
    """A float64 copy where linear systems are solved."""
    return torch.tensor(values, dtype=torch.float64, device=linear_algebra_device(device))


def feature_sensitivity(members: list[Member], X: np.ndarray, sample_weight: np.ndarray) -> np.ndarray:
    """How much the outputs move when a feature takes its value from another row: the total Sobol index, times 2.

    Weighted mean over rows of the squared change of the members' mean output, for each of the d features. Merged rows
    come in random order, so that a fixed shift is a random exchange, and the first rows are a random sample.
    """
    X, weight = X[:_SENSITIVITY_ROWS], sample_weight[:_SENSITIVITY_ROWS]
    partner = np.roll(X, -(len(X) // 2), axis=0)

    def mean_output(X: np.ndarray) -> np.ndarray:
        return np.mean([member_outputs(member, X, torch.device("cpu")) for member in members], axis=0)

    base, sensitivity = mean_output(X), np.zeros(X.shape[1])
    for j in range(X.shape[1]):
        exchanged = X.copy()
        exchanged[:, j] = partner[:, j]
        sensitivity[j] = weight @ np.square(mean_output(exchanged) - base).sum(axis=1) / weight.sum()
    return sensitivity


def member_outputs(member: Member, X: np.ndarray, device: torch.device) -> np.ndarray:
    """Outputs of a member on scaled inputs (n, d): float64 array (n, k)."""
    network = member.network
    bytes_per_row = sum(into + 3 * out for out, into in network.shapes) * 8
    weights = _solver_tensor(member.weights, device)
    anchor = None if member.anchor is None else _solver_tensor(member.anchor, device)
    out = np.empty((len(X), network.n_outputs))
    with torch_threads(float(len(X)) * network.n_weights), torch.no_grad():
        for rows in chunks(len(X), bytes_per_row, device):
            U = network.with_bias(torch.from_numpy(X[rows]).to(weights))
            f = network.forward(U, weights)[0]
            if anchor is not None:
                f = f - network.forward(U, anchor)[0]
            out[rows] = f.cpu().numpy()
    return out
