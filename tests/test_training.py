"""The loop of one network: states that are values, one system at a time, interrupts, other rows, and how it ends."""

import json
import pickle
import weakref
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from dense import draw

from skgn import GNRegressor
from skgn.batches import Batches, BatchPass, BatchSteps
from skgn.damping import GainRatio
from skgn.dual import Dual
from skgn.evidence import Estimates, EvidencePrior, FixedPrior
from skgn.feedforward import FeedForward
from skgn.full_step import FullStep
from skgn.label_losses import SoftmaxLoss
from skgn.losses import SquaredError
from skgn.objective import Objective
from skgn.primal import Primal
from skgn.prior_groups import Groups
from skgn.robust_losses import StudentTLoss
from skgn.settings import Settings
from skgn.state import State
from skgn.status import Status
from skgn.training import Training

SETTINGS = Settings(tol=0.0)
NETWORK = FeedForward(3, 2, (4,))


def start(n=30, loss=None, evidence=True, rows=slice(None)):
    """State at initial weights, on some of n rows of noisy data with two outputs."""
    loss = SquaredError() if loss is None else loss
    X, w = draw(n, 3), torch.from_numpy(NETWORK.initial_weights(np.random.RandomState(0)))
    Y = X[:, :2] ** 2 + 0.1 * draw(n, 2, seed=1)
    if isinstance(loss, SoftmaxLoss):
        Y = torch.eye(2).double()[Y.argmax(1)]
    objective = Objective(NETWORK, loss, X[rows], Y[rows], torch.arange(1.0, n + 1)[rows].double() / n)
    if evidence:
        noise = 1.0 if loss.has_scale else None
        prior = EvidencePrior(NETWORK, Groups.of("layer", NETWORK, w.device), noise, w)
    else:
        prior = FixedPrior(NETWORK, 1e-2, loss.has_scale, w)
    return State.at_weights(w, objective, prior, prior.initial(objective.total_weight))


def training(state, rule=None, direction=Primal, settings=SETTINGS):
    return Training(state, FullStep(rule or GainRatio(), direction, settings), settings)


def in_batches(state):
    steps = BatchSteps(
        GainRatio(), Batches(10, "primal"), np.random.RandomState(0), state.objective,
        state.objective.total_weight,
    )  # fmt: skip
    return Training(state, BatchPass(GainRatio(), Primal, steps), SETTINGS)


def content(value):
    """What a state holds, with copies of all its numbers; other objects by identity."""
    if isinstance(value, torch.Tensor):
        return value.numpy().tobytes()
    if isinstance(value, (list, tuple)):
        return [content(part) for part in value]
    if isinstance(value, dict):
        return {name: content(part) for name, part in value.items()}
    if isinstance(value, (State, Estimates)):
        return {field.name: content(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Objective):
        return content(vars(value))
    return value if isinstance(value, (str, float, int)) else id(value)


@pytest.mark.parametrize("make", [training, in_batches])
@pytest.mark.parametrize("loss", [SquaredError(), StudentTLoss(), SoftmaxLoss()])
def test_a_state_stays_as_it_was_while_training_goes_on(make, loss):
    going = make(start(loss=loss))
    going.run(3)
    kept, before = going.state, content(going.state)
    going.run(6)
    going.finish(Status.MAX_ITER)
    assert content(kept) == before
    assert going.state.n_iter == 6 and not torch.equal(going.state.at.w, kept.at.w)
    assert going.state.estimates.log_evidence != kept.estimates.log_evidence


@pytest.mark.parametrize("evidence", [True, False])
@pytest.mark.parametrize("direction", [Primal, Dual])
def test_there_are_never_two_systems_at_a_time(direction, evidence):
    alive, most = weakref.WeakSet(), []

    def make(jacobian, total_weight):
        # Before the new one takes its memory; without the collector, which may come late.
        most.append(len(alive))
        made = direction(jacobian, total_weight)
        alive.add(made)
        return made

    going = training(start(evidence=evidence), direction=make)
    going.run(4)
    going.go_on(going.state.on(start(60).objective), FullStep(GainRatio(), make, SETTINGS))
    going.run(8)
    # Not the last weights: another linearisation.
    going.state = replace(going.state, best=replace(going.state, n_iter=0, history=start_row(going.state)))
    going.finish(Status.MAX_ITER)
    assert going.linearisation.direction in alive
    assert len(most) >= 10 and max(most) == 0
    going.forget()
    assert len(alive) == 0


def start_row(state):
    """A history whose last evidence is far above that of the state."""
    return ({**state.history[-1], "log_evidence": 1e6},)


class Interrupting:
    """Adaptive damping that raises KeyboardInterrupt in a method, after some iterations."""

    step_size = 1.0

    def __init__(self, method, at=3):
        self.rule, self.method, self.at = GainRatio(initial_fraction=1e-9), method, at

    def initial(self, at):
        return self.rule.initial(at)

    def accepted(self, damping, gain_ratio, at):
        if self.method == "accepted" and at.iteration == self.at:
            raise KeyboardInterrupt
        # Too little, so that some steps fail.
        return 1e-12

    def rejected(self, damping, at):
        if self.method == "rejected" and at.iteration >= self.at - 1:
            raise KeyboardInterrupt
        return self.rule.rejected(damping, at)


@pytest.mark.parametrize("direction", [Primal, Dual])
@pytest.mark.parametrize("method", ["accepted", "rejected"])
@pytest.mark.parametrize("evidence", [True, False])
def test_an_interrupt_leaves_the_last_iterate_whole(method, evidence, direction):
    going = training(start(8, evidence=evidence), Interrupting(method), direction)
    with pytest.raises(KeyboardInterrupt):
        going.run(200)
    stopped = going.state.n_iter
    undisturbed = training(start(8, evidence=evidence), Interrupting("never"), direction)
    undisturbed.run(stopped)
    there = [replace(each.state, history=()) for each in (going, undisturbed)]
    assert torch.equal(there[0].at.w, there[1].at.w)
    assert content(there[0].estimates.precision) == content(there[1].estimates.precision)
    assert [len(going.state.history), there[0].damping] == [stopped + 1, there[1].damping]
    for row, same in zip(going.state.history, undisturbed.state.history, strict=True):
        np.testing.assert_array_equal(
            [row[name] for name in row if name != "time"], [v for n, v in same.items() if n != "time"]
        )
    # A system of these weights is at hand.
    going.finish(Status.INTERRUPTED)
    assert going.state.status is Status.INTERRUPTED
    H = going.linearisation.jacobian.gram() / going.state.objective.total_weight + torch.diag(going.state.estimates.a)
    factor = going.linearisation.direction.posterior_factor(going.state.estimates.precision)
    if direction is Primal:
        torch.testing.assert_close(factor @ factor.T, H)


def test_on_other_rows_a_state_keeps_what_does_not_belong_to_the_rows():
    going = training(start(60, rows=slice(20)))
    going.run(5)
    few, many = going.state, start(60).objective
    moved = few.on(many)
    assert torch.equal(moved.at.w, few.at.w) and moved.damping == few.damping and moved.n_iter == few.n_iter
    assert not moved.arrived and moved.history == few.history[:-1]
    # Noise: half the weighted mean of squared residuals, by the relative precisions of the two outputs.
    beta = 1 / few.estimates.squared_scale.numpy()
    f = NETWORK.forward(many.U, few.at.w)[0].numpy()
    weight = many.sample_weight.numpy()
    expected = 0.5 * np.average((f - many.Y.numpy()) ** 2, axis=0, weights=weight) @ (beta / np.sqrt(beta.prod()))
    assert moved.at.loss == pytest.approx(expected, rel=1e-12)
    # Precisions of a density, over a larger sum of weights.
    ratio = few.objective.total_weight / weight.sum()
    for a, b in zip(moved.estimates.precision, few.estimates.precision, strict=True):
        torch.testing.assert_close(a, ratio * b, rtol=1e-12, atol=0)


def test_each_status_is_its_word_and_what_a_model_holds_is_plain():
    assert [status.value for status in Status] == [status.lower() for status in Status.__members__]
    assert {status.value for status in Status if status.sentence.startswith("Converged")} == {
        "gradient", "decrease", "evidence", "exact", "precision"
    }  # fmt: skip
    assert {status.value for status in Status if status.converged} == {
        "gradient", "decrease", "evidence", "exact", "precision", "validation", "stream"
    }  # fmt: skip
    assert json.dumps(Status.MAX_ITER) == '"max_iter"'
    X = draw(20, 2).numpy()
    model = GNRegressor((), n_estimators=1).fit(X, X[:, 0])
    assert type(model.status_) is str and type(model.estimators_[0].status) is str
    assert b"skgn.status" not in pickle.dumps(model)


# --- Precision


@pytest.mark.parametrize(
    ("hidden", "evidence", "noise_precision", "expected"),
    [
        ((40,), True, 1.0, torch.float32),
        ((40,), True, 1e9, None),
        ((40,), False, None, None),
        ((4,), True, 1.0, None),
        # Columns of radial units are as large as the signal.
        ((), True, 1.0, None),
    ],
    ids=["noise", "little noise", "fixed l2", "small system", "linear"],
)
def test_only_large_systems_of_noisy_data_are_float32(hidden, evidence, noise_precision, expected):
    d = 10 if hidden else 300
    network = FeedForward(d, 1, hidden)
    X, w = draw(300, d), torch.from_numpy(network.initial_weights(np.random.RandomState(0)))
    objective = Objective(network, SquaredError(), X, X[:, :1], torch.ones(300, dtype=torch.float64))
    groups = Groups.of("layer", network, w.device)
    prior = EvidencePrior(network, groups, noise_precision, w) if evidence else FixedPrior(network, 1e-2, True, w)
    state = State.at_weights(w, objective, prior, prior.initial(objective.total_weight))
    linearisation = FullStep(GainRatio(), Primal, SETTINGS).linearise(state)
    assert linearisation.jacobian.system_dtype is expected
    assert linearisation.direction.G.dtype is (expected or torch.float64)
