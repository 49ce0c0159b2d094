import dataclasses
import itertools

import numpy as np
import pytest
from sklearn.datasets import load_diabetes, make_friedman1
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LinearRegression

from skgn import GNRegressor
from skgn.damping import (
    Adaptive,
    Constant,
    DampingRule,
    GainRatio,
    GeometricDecay,
    Iterate,
    ProportionalToCurvature,
    ProportionalToGradient,
    ProportionalToLoss,
    as_rule,
)


def iterate(iteration=0, objective=2.0, loss=1.5, gradient_norm=0.25, curvature=4.0, smallest_eigenvalue=0.125):
    return Iterate(iteration, objective, loss, gradient_norm, curvature, lambda: smallest_eigenvalue)


def unaffordable():
    raise AssertionError("this rule must not pay for an eigendecomposition")


SCHEDULES = [
    (Constant(0.3), iterate(), 0.3),
    (Constant(0), iterate(), 0.0),
    (GeometricDecay(), iterate(3), 0.125),
    (GeometricDecay(8.0, 0.1), iterate(0), 8.0),
    (GeometricDecay(8.0, 0.1, minimum=0.05), iterate(2), 0.08),
    (GeometricDecay(8.0, 0.1, minimum=0.05), iterate(9), 0.05),
    (ProportionalToLoss(2.0), iterate(loss=1.5), 3.0),
    (ProportionalToGradient(2.0), iterate(gradient_norm=0.25), 0.5),
    (ProportionalToCurvature(2.0), iterate(smallest_eigenvalue=0.125), 0.25),
    # Rounding may turn the eigenvalue 0 of a singular system negative.
    (ProportionalToCurvature(2.0), iterate(smallest_eigenvalue=-1e-17), 0.0),
]


@pytest.mark.parametrize(("rule", "at", "expected"), SCHEDULES, ids=lambda c: getattr(type(c), "__name__", ""))
def test_schedules_depend_on_the_iterate_only(rule, at, expected):
    assert isinstance(rule, DampingRule)
    assert rule.initial(at) == pytest.approx(expected, rel=1e-12)
    for damping, gain_ratio in [(0.0, 1.0), (1e9, -3.0)]:
        assert rule.accepted(damping, gain_ratio, at) == pytest.approx(expected, rel=1e-12)
    # A step that fails is shortened instead.
    assert rule.rejected(expected, at) is None


def test_a_linear_network_is_hardly_damped():
    """Its first step would stop short otherwise, and the evidence would take what is left for noise."""
    at = iterate()
    assert GainRatio().initial(at) == pytest.approx(0.04)
    assert as_rule("adaptive").initial(at._replace(is_linear=True)) == pytest.approx(4e-10)
    assert Constant(1.0).initial(at._replace(is_linear=True)) == 1.0


@pytest.mark.parametrize(
    "rule", [GainRatio(), Constant(1.0), GeometricDecay(), ProportionalToLoss(), ProportionalToGradient()], ids=repr
)
def test_only_the_curvature_rule_pays_for_eigenvalues(rule):
    at = iterate()._replace(smallest_eigenvalue=unaffordable)
    assert rule.initial(at) > 0
    assert rule.accepted(1.0, 0.5, at) > 0
    with pytest.raises(AssertionError, match="eigendecomposition"):
        ProportionalToCurvature().initial(at)


def test_adaptive_damping_starts_at_the_scale_of_the_curvature():
    assert GainRatio().initial(iterate(curvature=4.0)) == pytest.approx(0.04)
    assert GainRatio(initial_fraction=1.0).initial(iterate(curvature=4.0)) == pytest.approx(4.0)
    # A network whose Jacobian vanishes still gets a system that can be factorised.
    assert GainRatio().initial(iterate(curvature=0.0)) > 0


def test_adaptive_damping_follows_nielsen():
    rule, at = GainRatio(), iterate()
    # 1 - (2 gain - 1)^3: unchanged at 1/2, doubled at 0; clipped to [0.2, 4].
    for gain_ratio, factor in [(0.5, 1.0), (0.0, 2.0), (0.75, 0.875), (1.0, 0.2), (30.0, 0.2), (-1.0, 4.0)]:
        assert rule.accepted(1.0, gain_ratio, at) == pytest.approx(factor)
    dampings = [rule.accepted(1.0, g, at) for g in np.linspace(-2, 3, 101)]
    assert all(a >= b for a, b in itertools.pairwise(dampings))
    assert rule.rejected(0.5, at) == 2.0


def test_adaptive_damping_can_rise_again_after_a_long_descent():
    rule, at = GainRatio(), iterate(curvature=4.0)
    damping = rule.initial(at)
    for _ in range(200):
        damping = rule.accepted(damping, 1.0, at)
    rises = 0
    while damping < at.curvature:
        damping, rises = rule.rejected(damping, at), rises + 1
    assert rises <= 20


BAD = [
    (Constant, {"damping": -1e-9}, "damping"),
    (Constant, {"damping": float("nan")}, "damping"),
    (Constant, {"damping": "1"}, "damping"),
    (Constant, {"damping": float("inf")}, "damping"),
    (GainRatio, {"increase": 0.5}, "increase"),
    (GainRatio, {"largest_decrease": 2.0}, "largest_decrease"),
    (GeometricDecay, {"start": -1.0}, "start"),
    (GeometricDecay, {"decay": 1.5}, "decay"),
    (GeometricDecay, {"decay": float("nan")}, "decay"),
    (GeometricDecay, {"minimum": -1.0}, "minimum"),
    (ProportionalToLoss, {"factor": -1.0}, "factor"),
    (ProportionalToGradient, {"factor": float("nan")}, "factor"),
    (ProportionalToCurvature, {"factor": None}, "factor"),
]
BAD += [(GainRatio, {"step_size": size}, "step_size") for size in (0.0, 1.5, float("nan"), "half")]
BAD += [(GeometricDecay, {"step_size": 0.0}, "step_size")]


@pytest.mark.parametrize(("cls", "arguments", "name"), BAD, ids=[f"{c.__name__}-{a}" for c, a, _ in BAD])
def test_bad_arguments_are_named(cls, arguments, name):
    given = next(iter(arguments.values()))
    with pytest.raises(ValueError, match=rf"^{name} must be a finite number in .*got {given!r}"):
        cls(**arguments)


RULES = [Adaptive, GainRatio, Constant, GeometricDecay, ProportionalToLoss, ProportionalToGradient]
RULES += [ProportionalToCurvature]


@pytest.mark.parametrize("cls", RULES)
def test_every_rule_has_a_step_size(cls):
    arguments = {"damping": 0.1} if cls is Constant else {}
    assert cls(**arguments).step_size == 1
    rule = cls(**arguments, step_size=0.5)
    assert rule.step_size == 0.5 and isinstance(rule, DampingRule)
    assert isinstance(rule, GainRatio) or rule.value(iterate()) == cls(**arguments).value(iterate())


@pytest.mark.parametrize("rule", [Adaptive(), Adaptive(step_size=0.5), Adaptive(initial_fraction=0.5, increase=9.0)])
def test_adaptive_damping_comes_from_above_in_batches(rule):
    here, in_batches = iterate(), iterate()._replace(in_batches=True)
    assert rule.initial(in_batches) == here.curvature
    assert rule.initial(here) == rule.initial_fraction * here.curvature
    # The factor is 1 - (2 gain - 1)^3, but at least 0.7.
    for gain, factor in ((0.4, 1.008), (0.6, 0.992), (1.0, 0.7)):
        assert rule.accepted(2.0, gain, in_batches) == pytest.approx(2 * factor)
    assert rule.accepted(2.0, 1.0, here) == pytest.approx(0.4)
    assert rule.rejected(2.0, in_batches) == 8 and rule.rejected(2.0, here) == 2 * rule.increase


def test_rule_of_the_damping_parameter():
    adaptive, at = as_rule("adaptive"), iterate()
    assert isinstance(adaptive, GainRatio) and adaptive.initial(at) == GainRatio().initial(at)
    assert as_rule(0) == Constant(0.0)
    assert as_rule(np.float32(0.5)) == Constant(0.5)
    rule = GeometricDecay(2.0)
    assert as_rule(rule) is rule
    with pytest.raises(ValueError, match="damping"):
        as_rule(-1.0)


@pytest.mark.parametrize("rule", [case[0] for case in SCHEDULES] + [GainRatio()], ids=repr)
def test_one_rule_may_serve_many_fits(rule):
    field = dataclasses.fields(rule)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(rule, field, 1.0)
    assert rule == type(rule)(**dataclasses.asdict(rule))


def linear_fit(damping):
    """A linear model with a given damping, and how far its objective is above that of the normal equations."""
    X, y = load_diabetes(return_X_y=True)
    A, z, l2 = np.c_[X / X.std(0), np.ones(len(y))], (y - y.mean()) / y.std(), 1e-3
    w = np.linalg.solve(A.T @ A / len(y) + l2 * np.eye(11), A.T @ z / len(y))
    minimum = np.mean((A @ w - z) ** 2) / 2 + l2 / 2 * w @ w
    model = GNRegressor((), damping=damping, l2_regularization=l2, n_estimators=1, standardize=False, max_iter=150)
    return model.fit(A[:, :-1], y), model.history_["objective"][-1] / minimum - 1


@pytest.mark.parametrize("damping", [1e4, 1e12, Constant(0.0, step_size=1e-3)], ids=str)
def test_steps_that_a_given_damping_holds_back_have_not_converged(damping):
    with pytest.warns(ConvergenceWarning, match="max_iter"):
        _, excess = linear_fit(damping)
    assert excess > 0.5


def test_steps_that_a_given_damping_holds_back_do_not_tell_that_the_evidence_rises_no_more():
    """Training ended after 21 iterations, with R2 0.77 on new rows and without a warning."""
    X, y = make_friedman1(150, n_features=5, noise=0.5, random_state=1)
    new, truth = make_friedman1(500, n_features=5, noise=0.5, random_state=9)
    network = GNRegressor((10,), damping=3.0, n_estimators=1, max_iter=60, random_state=0)
    with pytest.warns(ConvergenceWarning, match="max_iter"):
        network.fit(X, y)
    free = GNRegressor((10,), n_estimators=1, random_state=0).fit(X, y)
    assert network.score(new, truth) < free.score(new, truth) - 0.1


@pytest.mark.filterwarnings("ignore:Failed. samples left out:UserWarning")
def test_evidence_is_not_that_of_weights_near_their_start():
    """Precisions of such weights left no line: training ended after 9 iterations, at the mean, without a warning."""
    X, y = load_diabetes(return_X_y=True)
    network = GNRegressor(damping=1e4, n_estimators=2, max_iter=30, random_state=0)
    with pytest.warns(ConvergenceWarning, match="max_iter"):
        network.fit(X[::2], y[::2])
    assert network.n_iter_ == 30 and np.ptp(network.predict(X)) > 1


@pytest.mark.parametrize("damping", [0.3, 1.0, Constant(0.0, step_size=0.1)], ids=str)
def test_with_a_given_damping_convergence_is_within_the_tolerance(damping):
    model, excess = linear_fit(damping)
    assert model.status_ == "decrease" and 0 <= excess < model.tol


def test_shortened_steps_have_not_converged():
    """Undamped steps of a network that starts without half of its directions are shortened at once."""
    X, y = make_friedman1(120, n_features=5, noise=1.0, random_state=0)
    network = GNRegressor((8,), damping=0.0, l2_regularization=0.0, init="symmetric", n_estimators=1, max_iter=30)
    with pytest.warns(ConvergenceWarning, match="max_iter"):
        network.set_params(random_state=0).fit(X, y)
    # The network has a linear path.
    linear = LinearRegression().fit(X, y)
    assert network.loss_ > 2 * np.mean((y - linear.predict(X)) ** 2) / np.var(y) / 2
