"""Members of an ensemble: train them side by side, keep what prediction needs, combine their outputs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cache, cached_property, partial
from typing import NamedTuple

import numpy as np
import torch
from joblib import Parallel, delayed

from .backend import chunks, linear_algebra_device, members_at_once, torch_threads
from .batches import Batches, BatchSteps, BatchTraining, plan_batches
from .callbacks import FitTasks
from .candidates import Start
from .damping import DampingRule
from .directions import Direction, choose
from .evidence import make_prior
from .feedforward import FeedForward
from .jacobian import Jacobian, gram_flops
from .leave_one_out import (
    LeftOut,
    has_heavy_tails,
    leave_one_out,
    log_likelihood,
    predictive_score,
    temperature,
)
from .limits import Limits
from .losses import LogLoss, Loss, NoiseLoss, SoftmaxLoss
from .mixture import equal_weights
from .network import Network
from .objective import Objective
from .posterior import Posterior, laplace
from .training import CONVERGED, Settings, Training, Watch

__all__ = [
    "Ensemble",
    "Member",
    "Problem",
    "Validation",
    "make_member",
    "member_outputs",
    "named",
    "train_members",
]


#: A search compares its candidates after these iterations: the better half goes on, then the members alone.
#: Small networks show sooner what they are worth under a squared error than larger ones, or any under a log loss.
_ROUNDS, _SHORT_ROUNDS, _FEW_UNITS = (10, 20), (6, 14), 24

#: Rows on which a search runs; the members go on with all.
_SEARCH_ROWS = 2000

#: Without a search, rows to begin on where the objective stays the same and there are ``_WORTHWHILE`` times as many:
#: at least so many, and so many for each weight; until an iteration gains less than the part ``_APPROACHED``.
_SAMPLE_ROWS, _ROWS_PER_WEIGHT, _WORTHWHILE, _APPROACHED = 500, 8, 2, 0.05

#: Iterations that a member is expected to take at the most, for sharing out the time of a fit.
_USUAL_ITERATIONS = 100

#: A member that was cut short after less than this part of the iterations of the longest is left out.
_HARDLY_BEGUN = 0.5


@dataclass(frozen=True)
class Member:
    """One trained network as NumPy arrays and plain values.

    ``total_weight`` is the number of samples that it was trained on, ``precision`` what the prior adds to the diagonal
    of G, one vector (inputs + 1,) a layer.
    """

    network: Network
    weights: np.ndarray = field(repr=False)
    anchor: np.ndarray | None = field(repr=False)
    inputs: str
    prior: str | float
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


class Ensemble(NamedTuple):
    """Members, best first, their weights in a prediction, their loss, and the temperature of their outputs, or 1.

    The ``weights`` (n_members,) are not negative and sum to 1; a ``temperature`` divides the outputs.
    """

    members: list[Member]
    weights: np.ndarray
    loss: Loss
    temperature: float


_Candidate = tuple[Training, Start]


class _Result(NamedTuple):
    """A candidate after a round; the lowest ``rank`` is the best."""

    rank: tuple[float, float]
    training: Training
    start: Start
    left_out: LeftOut | None


class Validation(NamedTuple):
    """Data in training units that early stopping watches, the inputs in each of their scalings."""

    inputs: dict[str, np.ndarray]
    Y: np.ndarray
    sample_weight: np.ndarray


@dataclass(frozen=True)
class Problem:
    """Data in training units, the inputs in each of their scalings, and all that the members share.

    A ``heavy_tailed_loss`` takes the place of ``loss`` where the residuals turn out to have heavy tails. With
    ``validation`` data the members stop early. A fit that takes ``max_time`` seconds ends with what it has.
    """

    loss: Loss
    heavy_tailed_loss: NoiseLoss | None
    inputs: dict[str, np.ndarray]
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

    @property
    def n_samples(self) -> int:
        return len(self.Y)

    @property
    def n_outputs(self) -> int:
        return self.Y.shape[1]

    def rows_in_memory(self, rows: int) -> int:
        """How many of so many rows take memory of this process."""
        return rows

    def objective(self, network: Network, inputs: str, rows: int) -> Objective:
        """The objective on the first rows, in one of the scalings of the inputs."""
        # Merged rows come in random order: the first ones are a random sample.
        X, (Y, weight) = self._inputs(inputs), self._targets
        return Objective(network, self.loss, X[:rows], Y[:rows], weight[:rows])

    @cached_property
    def _inputs(self) -> Callable[[str], torch.Tensor]:
        return cache(lambda name: self.tensor(self.inputs[name]))

    @cached_property
    def _targets(self) -> tuple[torch.Tensor, torch.Tensor]:
        return self.tensor(self.Y), self.tensor(self.sample_weight)

    def tensor(self, values: np.ndarray) -> torch.Tensor:
        """On the device and in the dtype of the computation."""
        return torch.from_numpy(values).to(device=self.device, dtype=self.dtype)


def train_members(
    problem: Problem, starts: list[Start], n_members: int, n_jobs: int | None, tasks: FitTasks | None = None
) -> Ensemble:
    """Train candidates in threads and keep ``n_members``, or fewer where the fit was cut short: see ``_train``."""
    n_workers = members_at_once(n_jobs)
    limits = Limits(problem.max_time, n_workers)
    with limits.interruptible():
        try:
            return _train(problem, starts, n_members, n_workers, limits, tasks)
        except BaseException:
            # joblib does not wait for the other threads: they end after their iteration.
            limits.interrupt()
            raise


def named(settings: Settings, kind: str, number: int, count: int) -> Settings:
    """Settings for one of several trainings, whose lines say which one they are about."""
    report = settings.report
    if report is None or count == 1:
        return settings
    return dataclasses.replace(settings, report=lambda line: report(f"{kind} {number + 1}/{count}  {line}"))


def _train(
    problem: Problem, starts: list[Start], n_members: int, n_workers: int, limits: Limits, tasks: FitTasks | None
) -> Ensemble:
    """Train candidates in threads and keep ``n_members``: those that predict best what they have not seen.

    Of more candidates than members the better ones, by :func:`~skgn.leave_one_out.predictive_score`, are found in a
    search of a few iterations on some of the rows; only the members are trained to the end. The search also tells
    whether the noise has heavy tails; if so, all begins anew with the loss for that. Where the evidence regularises
    a log loss, left-out samples set the temperature.
    """
    n, c = problem.n_samples, problem.loss.columns(problem.n_outputs)
    search = len(starts) > n_members
    tempered = isinstance(problem.loss, LogLoss | SoftmaxLoss) and all(isinstance(start.prior, str) for start in starts)
    networks = list(dict.fromkeys(start.network for start in starts))
    if search:
        first_rows = min(n, _SEARCH_ROWS)
    else:
        sample = max(_SAMPLE_ROWS, max(_ROWS_PER_WEIGHT * network.n_weights for network in networks))
        approach = problem.settings.project_readout and problem.settings.max_iter > 0 and n >= _WORTHWHILE * sample
        first_rows = sample if approach else n
    flops = max(gram_flops(network, n, c) for network in networks)
    evidence = any(isinstance(start.prior, str) for start in starts)
    batches: dict[Network, Batches] = {}
    if problem.batch_size is not None:
        plans = {net: plan_batches(problem.batch_size, problem.solver, net, c, evidence) for net in networks}
        chosen = not isinstance(problem.batch_size, str)
        batches = {network: plan for network, plan in plans.items() if plan.worthwhile(n, chosen)}

    def direction(network: Network, rows: int) -> Callable[[Jacobian, float], Direction]:
        plan = batches.get(network) if rows == n else None
        return choose(
            problem.solver if plan is None else plan.solver,
            network,
            problem.rows_in_memory(rows) if plan is None else plan.rows,
            c,
            problem.device,
            dtype=problem.dtype,
            evidence=evidence,
            candidates=len(starts) if rows == first_rows else n_members,
            workers=n_workers,
        )

    # Chosen before anything is allocated: a problem that cannot fit is refused here.
    directions = {(network, rows): direction(network, rows) for network in networks for rows in (first_rows, n)}

    shared_objective = cache(problem.objective)

    def objective(start: Start, rows: int) -> Objective:
        anchor = None if start.anchor is None else solver_tensor(start.anchor, problem.device)
        return shared_objective(start.network, start.inputs, rows).for_member(anchor)

    def validation(start: Start) -> Objective | None:
        if problem.validation is None:
            return None
        data = problem.validation
        X, Yv, weight = map(problem.tensor, (data.inputs[start.inputs], data.Y, data.sample_weight))
        anchor = None if start.anchor is None else solver_tensor(start.anchor, problem.device)
        return Objective(start.network, problem.loss, X, Yv, weight).for_member(anchor)

    kind, report = "candidate" if search else "member", problem.settings.report

    def watch(number: int, start: Start) -> Watch:
        if tasks is None:
            return Watch()
        # A training in batches begins its own history, as one does that has approached on a sample.
        warms_up = start.network in batches or (first_rows < n and not search)
        # An iteration that finds no step on some rows may find one on all.
        before = 0 if first_rows == n and not batches else (_ROUNDS[-1] if search else max_iter) + 1
        return tasks.candidate(kind, number, before + max_iter, warms_up, start, problem.loss)

    def begin(number: int, start: Start) -> Training:
        first, w = objective(start, first_rows), solver_tensor(start.weights, problem.device)
        prior, first.data_loss = make_prior(
            start.prior, start.network, problem.loss, start.noise_precision, first.total_weight, w
        )
        make_direction = directions[start.network, first_rows]
        settings = named(problem.settings, kind, number, len(starts))
        return Training(
            first, w, prior, problem.rule, make_direction, settings, validation(start), watch(number, start)
        )

    def in_batches(training: Training, start: Start) -> Training:
        whole, prior = objective(start, n), training.prior
        whole.data_loss = training.objective.data_loss
        prior.move_to(whole.total_weight)
        training.watch.count_anew()
        return BatchTraining(
            whole,
            training.at.w,
            prior,
            problem.rule,
            directions[start.network, n],
            training.settings,
            training.validation,
            training.watch,
            steps=BatchSteps(problem.rule, batches[start.network], problem.settings.step_size),
            random_state=np.random.RandomState(start.seed),
        )

    def advance(training: Training, start: Start, until: int, rows: int, last: bool) -> Training:
        turn_is_over = limits.begin_training()
        if limits.over:
            return training
        training.watch.begin()
        done = training.n_iter

        def pause() -> bool:
            # Nobody is served by a linearisation without a step.
            return limits.over or (training.n_iter > done and turn_is_over())

        with torch_threads(flops), torch.no_grad():
            try:
                if training.objective.n_samples < rows and not search:
                    training.run(until, _APPROACHED, pause)
                # Out of time, on all rows there is nothing to be had but the cost of one linearisation.
                if not pause():
                    done = 0 if last else done
                    if last and start.network in batches:
                        training = in_batches(training, start)
                    elif training.objective.n_samples < rows:
                        training.make_direction = directions[start.network, rows]
                        (training.move_to if search else training.restart)(objective(start, rows))
                    training.run(until, pause=pause)
                if last and (training.status != "running" or training.watch.stopped):
                    finish(training)
            except KeyboardInterrupt:
                # Where the signal was not ours to handle.
                limits.interrupt()
        return training

    def finish(training: Training) -> None:
        if not training.finished:
            training.finish(limits.reason)
        if training.watch.end(training):
            limits.stop()

    def judge(training: Training, start: Start, last: bool) -> _Result:
        with torch_threads(flops), torch.no_grad():
            if last or limits.over:
                finish(training)
            left_out = leave_one_out(training) if search or tempered else None
        score = predictive_score(training, left_out) if search else 0.0
        return _Result((-score, training.history["objective"][-1]), training, start, left_out)

    def compare(candidates: list[_Candidate], until: int, rows: int, kept: int, last: bool = False) -> list[_Result]:
        planned = len(candidates) * (until - max(training.n_iter for training, _ in candidates))
        later = 0 if last else kept * min(max_iter - until, _USUAL_ITERATIONS)
        limits.begin_round(len(candidates), planned / max(planned + later, 1))
        trainings = parallel(delayed(advance)(*candidate, until, rows, last) for candidate in candidates)
        advanced = [(training, start) for training, (_, start) in zip(trainings, candidates, strict=True)]
        if limits.over:
            advanced = _well_begun(advanced)
        results = parallel(delayed(judge)(*candidate, last) for candidate in advanced)
        best = sorted(results, key=lambda result: result.rank)[:kept]
        going_on = [result.training for result in best]
        drop(training for training in trainings if not any(training is other for other in going_on))
        if report is not None and not last:
            numbers = [str(i) for i, start in enumerate(starts, 1) if any(start is result.start for result in best)]
            report(f"search: candidates {', '.join(numbers)} of {len(starts)} go on")
        return best

    def drop(trainings: Iterable[Training]) -> None:
        with torch_threads(flops), torch.no_grad():
            for training in trainings:
                if training.watch.end(training):
                    limits.stop()

    max_iter = problem.settings.max_iter
    with torch_threads(flops), torch.no_grad():
        candidates = [(begin(number, start), start) for number, start in enumerate(starts)]
    heavy_tails = False
    with Parallel(n_jobs=n_workers, require="sharedmem") as parallel:
        if search:
            few = all(isinstance(net, FeedForward) and sum(net.hidden_layer_sizes) <= _FEW_UNITS for net in networks)
            rounds = _SHORT_ROUNDS if isinstance(problem.loss, NoiseLoss) and few else _ROUNDS
            for until, kept in zip(rounds, [max(n_members, len(starts) // 2), n_members], strict=True):
                best = compare(candidates, min(until, max_iter), first_rows, kept)
                candidates = [(result.training, result.start) for result in best]
            if problem.heavy_tailed_loss is not None:
                heavy_tails = has_heavy_tails(best[0].training, best[0].left_out)
        heavy_tails = heavy_tails and not limits.over
        if not heavy_tails:
            best = compare(candidates, max_iter, n, n_members, last=True)
    if heavy_tails and problem.heavy_tailed_loss is not None:
        # From the start: outliers have already led the candidates astray.
        anew = dataclasses.replace(problem, loss=problem.heavy_tailed_loss, heavy_tailed_loss=None)
        drop(result.training for result in best)
        if report is not None:
            report("heavy tails: all candidates begin anew")
        return _train(
            anew, starts, n_members, n_workers, limits, None if tasks is None else tasks.begin_anew(len(starts))
        )
    with torch_threads(flops), torch.no_grad():
        left_out = [result.left_out for result in best if result.left_out is not None]
        T = _temperature(best[0].training.objective, problem.loss, left_out) if tempered and left_out else 1.0
        members = [make_member(result.training, result.start) for result in best]
        return Ensemble(members, equal_weights(len(members)), problem.loss, T)


def _temperature(objective: Objective, loss: Loss, left_out: list[LeftOut]) -> float:
    weights = equal_weights(len(left_out))
    return temperature(
        lambda T: float(objective.sum(partial(log_likelihood, weights=weights, loss=loss, T=T), *left_out))
    )


def _well_begun(candidates: list[_Candidate]) -> list[_Candidate]:
    """Without those that had hardly begun when the fit was cut short: they would spoil the mean.

    Those on the most rows have come the furthest, and on these those of the most iterations.
    """
    rows = max(training.objective.n_samples for training, _ in candidates)
    candidates = [candidate for candidate in candidates if candidate[0].objective.n_samples == rows]
    longest = max(training.n_iter for training, _ in candidates)
    return [
        (training, start)
        for training, start in candidates
        if training.status in CONVERGED or training.n_iter >= _HARDLY_BEGUN * longest
    ]


def make_member(training: Training, start: Start) -> Member:
    """What is kept of a training that has ended."""
    objective = training.objective
    training.prior.conclude(objective, training.at, training.direction)
    posterior, solver = laplace(training), training.solver
    del training.direction  # the factor is kept: its system must not stay in memory beside it
    return Member(
        network=objective.network,
        weights=training.at.w.cpu().numpy().copy(),
        anchor=start.anchor,
        inputs=start.inputs,
        prior=start.prior,
        status=training.status,
        n_iter=training.n_iter,
        loss=training.at.loss,
        damping=training.damping,
        log_evidence=training.prior.log_evidence,
        n_effective_parameters=training.prior.n_effective_parameters,
        posterior=posterior,
        total_weight=training.prior.total_weight,
        precision=[a.cpu().numpy().copy() for a in training.prior.precision],
        solver=solver,
        history=training.history_arrays(),
    )


def solver_tensor(values: np.ndarray, device: torch.device) -> torch.Tensor:
    """A float64 copy where linear systems are solved."""
    return torch.tensor(values, dtype=torch.float64, device=linear_algebra_device(device))


def member_outputs(member: Member, X: np.ndarray, device: torch.device) -> np.ndarray:
    """Outputs of a member on scaled inputs (n, d): float64 array (n, k)."""
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
