"""Fits that end before they have converged: early stopping, a time limit, an interrupt."""

import dataclasses
import itertools
import math
import os
import pickle
import signal
import threading
import time
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.stats import norm, t
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris, make_friedman1
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import log_loss, mean_squared_error
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skgn import GNClassifier, GNRegressor, choices, diagnose, limits, plan, problem, rows
from skgn.choices import Choices
from skgn.damping import GainRatio
from skgn.inputs import Table
from skgn.limits import Limits
from skgn.plan import Plan
from skgn.search import train_members
from skgn.tables import TableReader
from skgn.targets import ClassificationTarget, RegressionTarget

ESTIMATORS = [GNRegressor, GNClassifier]

#: A network that overfits where nothing stops it.
OVERFITTING = {"hidden_layer_sizes": (20,), "l2_regularization": 1e-8, "n_estimators": 1, "random_state": 0}

unconverged = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def data(estimator):
    return (load_diabetes if estimator is GNRegressor else load_breast_cancer)(return_X_y=True)


def test_loss(model, X, y):
    if isinstance(model, GNRegressor):
        return mean_squared_error(y, model.predict(X))
    return log_loss(y, model.predict_proba(X))


test_loss.__test__ = False


# --- Early stopping


@pytest.mark.parametrize("estimator", ESTIMATORS)
@unconverged
def test_early_stopping_helps_a_network_that_overfits(estimator):
    X, y = data(estimator)
    X, X_test, y, y_test = train_test_split(X, y, test_size=0.5, random_state=0)
    if estimator is GNClassifier:
        y = np.where(np.random.RandomState(0).uniform(size=len(y)) < 0.2, 1 - y, y)
    late = estimator(**OVERFITTING, max_iter=50).fit(X, y)
    early = clone(late).set_params(early_stopping=True, validation_fraction=0.25).fit(X, y)
    assert early.status_ == "validation"
    assert test_loss(early, X_test, y_test) < 0.8 * test_loss(late, X_test, y_test)


def test_counts_of_a_validation_set_on_disk_are_read_as_others():
    """torch warned of numbers that cannot be written to."""
    X = np.linspace(-1, 1, 60)[:, None]
    counts = np.round(np.exp(X[:, 0]))
    model = GNRegressor((3,), loss="poisson", n_estimators=1, early_stopping=True, max_iter=200, random_state=0)
    expected = model.fit(X, counts, X_val=X, y_val=counts.copy()).predict(X)
    counts.flags.writeable = False
    np.testing.assert_array_equal(model.fit(X, counts, X_val=X, y_val=counts).predict(X), expected)


def test_a_validation_set_of_classes_without_weight_is_refused():
    X = np.arange(60.0)[:, None]
    labels = np.arange(60) % 3
    model = GNClassifier((3,), n_estimators=1, early_stopping=True, class_weight={1: 0})
    with pytest.raises(ValueError, match="No row of the validation set counts"):
        model.fit(X, labels, X_val=X[labels == 1], y_val=labels[labels == 1])


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("tol", [1e-3, 3e-2])
@pytest.mark.parametrize("early_stopping", [True, False])
def test_training_ends_after_so_many_iterations_without_progress_of_tol(estimator, tol, early_stopping):
    """Relative to the value: of the objective, or of the lowest validation loss before. Evidence: test_evidence.py."""
    X, y = data(estimator)
    expected = "validation" if early_stopping else "decrease"
    settings = {"l2_regularization": 1e-2, "n_estimators": 1, "damping": GainRatio(), "random_state": 0}
    model = estimator((5,), **settings, tol=tol, n_iter_no_change=3, early_stopping=early_stopping).fit(X, y)
    # With a large tolerance the objective of the training rows may be the first to stand still.
    assert model.status_ in ({"validation", "decrease"} if early_stopping and tol > 1e-2 else {expected})
    validated = model.status_ == "validation"
    values = model.history_["validation_loss" if validated else "objective"]
    lowest = np.minimum.accumulate(values)[:-1]
    progress = (lowest - values[1:]) > tol * (lowest if validated else values[1:])
    assert not progress[-3:].any()
    assert progress[:-3].any()


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_validation_curve_is_that_of_the_callers_own_validation_set_and_its_lowest_point_is_kept(estimator):
    X, y = data(estimator)
    X, X_val, y, y_val = train_test_split(X, y, random_state=0)
    model = estimator(**OVERFITTING, early_stopping=True, n_iter_no_change=3, damping=GainRatio())
    model.fit(X, y, X_val=X_val, y_val=y_val)
    curve = model.history_["validation_loss"]
    expected = test_loss(model, X_val, y_val)
    if estimator is GNRegressor:
        # Half the squared error of the standardised target.
        expected /= 2 * np.var(y)
    assert len(curve) == len(model.history_["objective"])
    np.testing.assert_allclose(curve.min(), expected, rtol=1e-10)
    assert curve[-1] > curve.min()
    assert len(curve) - 1 - curve.argmin() >= model.n_iter_no_change


@pytest.mark.parametrize(
    ("loss", "two", "distribution"),
    [("student_t", False, t(8)), ("cauchy", False, t(1)), ("squared_error", True, norm())],
)
@unconverged
def test_where_the_noise_level_counts_the_validation_loss_is_minus_the_log_density(loss, two, distribution):
    X, y = data(GNRegressor)
    y = np.column_stack([y, X[:, 2] * np.ptp(y)]) if two else y
    X, X_val, y, y_val = train_test_split(X, y, random_state=0)
    model = GNRegressor((5,), n_estimators=1, random_state=0, loss=loss, early_stopping=True, noise="constant")
    model.fit(X, y, X_val=X_val, y_val=y_val)
    # Of noise with a variance, this is the standard deviation; Cauchy's is that of the same Fisher information.
    scale = model.noise_std_ / (2**0.5 if loss == "cauchy" else distribution.std())
    scaler = model._target.scaler
    in_units = (y_val - model.predict(X_val)) / scaler.scale, scale / scaler.scale
    log_density = distribution.logpdf(in_units[0] / in_units[1]) - np.log(in_units[1])
    expected = -log_density.reshape(len(X_val), -1).sum(1).mean()
    curve = model.history_["validation_loss"]
    np.testing.assert_allclose(curve.min(), expected, rtol=1e-8)
    assert curve.argmin() > 0


@unconverged
def test_early_stopping_judges_by_the_present_noise_level():
    """The wide kink of the first noise level, or outputs that count alike, had ended these fits early."""
    rng = np.random.RandomState(0)
    X, X_test, noise = rng.normal(size=(400, 3)), rng.normal(size=(500, 3)), rng.normal(size=(400, 2))
    mean, expected = (np.column_stack([np.sin(2 * Z[:, 0]) + Z[:, 1], Z[:, 2]]) for Z in (X, X_test))
    settings = {"n_estimators": 1, "early_stopping": True, "noise": "constant", "random_state": 0}
    quantile = GNRegressor(loss="quantile", **settings).fit(X, mean[:, 0] + 0.02 * noise[:, 0]).predict(X_test)
    assert np.median(np.abs(quantile - expected[:, 0])) < 0.06
    two = GNRegressor(**settings).fit(X, mean + [0.02, 3.0] * noise).predict(X_test)
    assert np.median(np.abs(two - expected)[:, 0]) < 0.06


@pytest.mark.parametrize("estimator", ESTIMATORS)
@unconverged
def test_with_evidence_the_best_weights_come_with_their_posterior(estimator):
    X, y = data(estimator)
    settings = {"standardize": "robust", "n_estimators": 2, "early_stopping": True, "random_state": 0}
    model = estimator(hidden_layer_sizes=(5,), **settings).fit(X, y)
    assert np.isfinite(test_loss(model, X, y))
    if estimator is GNRegressor:
        mean, std = model.predict(X, return_std=True)
        assert 0.8 < np.mean(np.abs(y - mean) < 1.645 * std) < 0.98


def test_weights_are_repetitions_with_early_stopping_too():
    X, y = load_diabetes(return_X_y=True)
    weight = np.random.RandomState(0).randint(0, 4, len(y))
    model = GNRegressor(hidden_layer_sizes=(5,), n_estimators=1, early_stopping=True, max_iter=20, random_state=0)
    weighted = clone(model).fit(X, y, sample_weight=weight)
    repeated = clone(model).fit(np.repeat(X, weight, axis=0), np.repeat(y, weight))
    np.testing.assert_array_equal(weighted.predict(X), repeated.predict(X))


def test_the_validation_set_has_every_class_in_equal_parts(monkeypatch):
    X, y = load_iris(return_X_y=True)
    seen = []

    def train(problem, *args):
        seen.append(problem.validation.Y)
        return train_members(problem, *args)

    monkeypatch.setattr("skgn.estimator.train_members", train)
    GNClassifier(hidden_layer_sizes=(), n_estimators=1, early_stopping=True, validation_fraction=0.2).fit(X, y)
    # Of 149 distinct rows; a column for each class.
    assert seen[0].shape == (30, 3) and np.ptp(seen[0].sum(axis=0)) <= 1


def test_a_small_validation_set_has_one_of_each_class_or_is_refused():
    X, y = load_iris(return_X_y=True)
    few = np.arange(0, 150, 10)
    model = GNClassifier(hidden_layer_sizes=(), n_estimators=1, early_stopping=True, validation_fraction=0.01)
    assert set(model.fit(X[few], y[few]).predict(X)) == {0, 1, 2}
    with pytest.raises(ValueError, match="two different rows"):
        model.fit(X[[0, 60, 70]], y[[0, 60, 70]])
    with pytest.raises(ValueError, match="two different rows"):
        GNRegressor(early_stopping=True).fit(X[:1], y[:1])


def test_bad_validation_sets_are_refused():
    X, y = load_iris(return_X_y=True)
    model = GNClassifier(hidden_layer_sizes=(), n_estimators=1, early_stopping=True)
    with pytest.raises(ValueError, match="both X_val and y_val"):
        model.fit(X, y, X_val=X)
    with pytest.raises(ValueError, match=r"labels \[7\]"):
        model.fit(X, y, X_val=X[:1], y_val=[7])
    with pytest.raises(ValueError, match="features"):
        model.fit(X, y, X_val=X[:, :2], y_val=y)
    with pytest.raises(ValueError, match="inconsistent"):
        model.fit(X, y, X_val=X, y_val=y[:3])
    with pytest.raises(ValueError, match="early_stopping=False"):
        model.set_params(early_stopping=False).fit(X, y, X_val=X, y_val=y)
    with pytest.raises(ValueError, match=r"must have shape \(n,\)"):
        GNRegressor(early_stopping=True).fit(X, y, X_val=X, y_val=np.column_stack([y, y]))


# --- Time


@pytest.mark.parametrize("parameters", [{"l2_regularization": 1e-6, "damping": 10.0}, {}], ids=["fixed", "evidence"])
def test_a_fit_out_of_time_says_so_and_predicts(clock, parameters):
    X, y = load_diabetes(return_X_y=True)
    endless = {"max_iter": 10**6, "tol": 0, "n_iter_no_change": 10**6}
    model = GNRegressor(hidden_layer_sizes=(15,), max_time=0.3, **endless, random_state=0, **parameters)
    with pytest.warns(ConvergenceWarning, match="max_time"):
        model.fit(X, y)
    assert model.status_ == "max_time"
    assert model.loss_ < model.history_["loss"][0]
    assert len(model.history_["objective"]) == model.n_iter_ + 1


def test_no_member_is_kept_that_had_hardly_begun(clock):
    X, y = load_diabetes(return_X_y=True)
    model = GNRegressor(
        hidden_layer_sizes=(20,), l2_regularization=1e-6, damping=10.0, max_iter=10**6, tol=0, max_time=0.4,
        n_estimators=4, random_state=0,
    )  # fmt: skip
    with pytest.warns(ConvergenceWarning):
        model.fit(X, y)
    iterations = [member.n_iter for member in model.estimators_]
    assert min(iterations) >= max(iterations) / 2


def test_trainings_share_the_time_that_is_left():
    limits = Limits(1000.0, n_workers=2)
    limits.begin_round(4, part=0.5)
    now = time.perf_counter()
    pauses = [limits.begin_training() for _ in range(4)]
    assert not any(pause(0.0) for pause in pauses)
    # Two at a time: a pair has half of the round's 500 seconds.
    ends = [next(cell.cell_contents for cell in pause.__closure__ if isinstance(cell.cell_contents, float)) - now
            for pause in pauses]  # fmt: skip
    np.testing.assert_allclose(ends, [250, 250, 500, 500], rtol=0.01)


def test_time_is_allowed_by_the_pace_of_the_last_work():
    limits = Limits(100.0, n_workers=2)
    limits.took(seconds=1.0, flops=1e9)
    assert limits.allow(9e10) and not limits.allow(11e10)
    limits.keep(6e10)  # 30 seconds with two at a time
    assert limits.allow(6e10) and not limits.allow(8e10)
    limits.begin_round(1, part=1.0)
    pause = limits.begin_training()
    assert pause(8e10) and not pause(6e10)
    # Without a limit there is nothing to estimate.
    endless = Limits(float("inf"), n_workers=1)
    endless.took(seconds=1.0, flops=1.0)
    assert endless.allow(1e300)


@pytest.mark.parametrize(
    ("plans", "members", "count", "left_out"),
    [
        (2, 4, 2400, "4 of 8 candidates"),
        (4, 2, 1200, "2 of 4 networks, 2 of 8 candidates, 1200 of 2400 rows"),
        (5, 1, 1200, "1 of 4 networks, 1 of 8 candidates, 1200 of 2400 rows"),
        (6, 1, 600, "1 of 4 networks, 1 of 8 candidates, 600 of 2400 rows"),
    ],
)
def test_with_little_time_candidates_rows_and_members_get_fewer(monkeypatch, plans, members, count, left_out):
    monkeypatch.setattr(plan, "_MANY_ROWS", 2000)
    X, y = make_friedman1(2400, 5, random_state=0)
    model = GNRegressor((2,), max_time=1000.0, max_iter=2, random_state=0)
    rows = []

    def allow(limits, flops):
        rows.append(flops)
        return len(rows) >= plans

    monkeypatch.setattr(Limits, "allow", allow)
    with pytest.warns(ConvergenceWarning, match=f"Time allowed for {left_out}\\."):
        model.fit(X, y)
    # Each plan is smaller than the one before.
    assert rows[:plans] == sorted(rows[:plans], reverse=True)
    assert model.status_ == "max_time" and len(model.estimators_) <= members
    assert all(member.total_weight == count for member in model.estimators_ if member.n_iter)
    # Left-out rows are known, as in a fit with time.
    assert 0 < model.left_out_score_ < 1 and model.predict_interval(X[:2], 0.9, calibrate=True).shape == (2, 2)


def test_members_cost_what_each_of_them_costs(monkeypatch):
    """Not what the dearest of them costs, which may be ten times as much."""
    X, y = make_friedman1(2500, 20, random_state=0)
    fits = []
    monkeypatch.setattr(Plan, "in_time", lambda *fit: fits.append(fit))
    with pytest.warns(ConvergenceWarning, match="Nothing was trained"):
        GNClassifier(max_time=1000.0, random_state=0).fit(X, y > y.mean())
    ((data, starts, n_members, _),) = fits

    def least(starts):
        plan = Plan.of_fit(data, starts, len(starts), n_workers=1)
        return plan.least_flops([data.network(start) for start in starts], len(starts))

    alone = [least([start]) for start in starts]
    assert len(starts) == n_members and max(alone) > 2 * min(alone)
    assert least(starts) == pytest.approx(sum(alone), rel=0.01)


@pytest.fixture
def slow_scaling(monkeypatch):
    """A clock by which 100 rows take ten seconds to scale."""
    now = itertools.count(0, 10)
    monkeypatch.setattr(rows, "time", SimpleNamespace(perf_counter=lambda: next(now)))
    monkeypatch.setattr(choices, "time", SimpleNamespace(perf_counter=lambda: 0.0))
    monkeypatch.setattr(rows, "_TIMED_ROWS", 100)


def raw_rows(n, y, weight=None):
    return rows.Raw(np.random.RandomState(0).normal(size=(n, 2)), y, np.ones(n) if weight is None else weight)


@pytest.mark.parametrize(
    ("parameters", "count"),
    [
        ({}, 1000),
        ({"max_time": 4000.0}, 1000),
        # A quarter of 160 seconds is enough for 400 rows, and three quarters for 1,200.
        ({"max_time": 160.0}, 400),
        ({"max_time": 160.0, "hidden_layer_sizes": ()}, 1000),
        ({"max_time": 80.0, "hidden_layer_sizes": ()}, 600),
        ({"max_time": 1e-9}, 100),
    ],
)
def test_rows_are_drawn_before_they_are_scaled(slow_scaling, parameters, count):
    y = np.arange(1000.0)
    raw, target = raw_rows(1000, y), RegressionTarget.of(y, "squared_error", 0.5)
    model = GNRegressor(random_state=0, **parameters)
    table = Table(TableReader().fit(raw.X))
    drawn = [raw.in_time(table, target, Choices(model, began=0.0)) for _ in range(2)]
    assert len(drawn[0].y) == count
    np.testing.assert_array_equal(drawn[0].y, drawn[1].y)
    np.testing.assert_array_equal(drawn[0].X, raw.X[drawn[0].y.astype(int)])
    other = raw.in_time(table, target, Choices(clone(model).set_params(random_state=1), began=0.0))
    assert (count == 1000) == np.array_equal(drawn[0].y, other.y)


def test_few_wide_rows_are_timed(slow_scaling, monkeypatch):
    """Rows of many columns are slow to scale: 200 cells are 100 rows of two columns."""
    monkeypatch.setattr(rows, "_TIMED_ROWS", 8000)
    monkeypatch.setattr(rows, "_TIMED_CELLS", 200)
    y = np.arange(1000.0)
    raw, target = raw_rows(1000, y), RegressionTarget.of(y, "squared_error", 0.5)
    model = GNRegressor(random_state=0, max_time=160.0)
    drawn = raw.in_time(Table(TableReader().fit(raw.X)), target, Choices(model, began=0.0))
    # A quarter of 160 seconds is enough for 400 rows, as 100 rows take ten.
    assert len(drawn.y) == 400


def test_drawn_rows_have_all_classes_in_equal_parts():
    y = np.repeat(["a", "b", "c"], [700, 299, 1])
    drawn = raw_rows(1000, y).drawn(100, ClassificationTarget.of(y, None), np.random.RandomState(0))
    np.testing.assert_array_equal(np.unique(drawn.y, return_counts=True)[1], [69, 30, 1])


def test_drawn_counts_are_not_all_zero_and_no_row_of_weight_zero_is_drawn():
    y = np.eye(1000)[:, [500]]
    raw = raw_rows(1000, y, np.arange(1000) % 2 == 0).present()
    for seed in range(5):
        drawn = raw.drawn(100, RegressionTarget.of(y, "poisson", 0.5), np.random.RandomState(seed))
        assert len(drawn.y) == 100 and drawn.y.sum() == 1 and (drawn.weight > 0).all()


def test_without_time_no_basis_of_the_inputs_is_made(monkeypatch):
    """A basis of thousands of columns takes a minute, and a constant reads none of it."""
    X, y = make_friedman1(300, 200, random_state=0)
    made = []
    monkeypatch.setattr(problem, "principal_directions", lambda *args: made.append(args))
    with pytest.warns(ConvergenceWarning, match="Nothing was trained"):
        model = GNRegressor(max_time=1e-9, random_state=0).fit(X, y)
    assert not made
    np.testing.assert_allclose(model.predict(X), y.mean(), rtol=1e-12)


def test_the_message_counts_the_rows_that_were_drawn(monkeypatch):
    X, y = make_friedman1(1000, 5, random_state=0)
    now = itertools.count(0, 10**9)
    monkeypatch.setattr(rows, "time", SimpleNamespace(perf_counter=lambda: next(now)))
    monkeypatch.setattr(rows, "_TIMED_ROWS", 100)
    model = GNRegressor((4,), max_time=1e5, n_estimators=1, random_state=0)
    # Every row came twice, and equal ones are merged.
    with pytest.warns(ConvergenceWarning, match="Time allowed for 100 of 2000 rows"):
        model.fit(np.repeat(X, 2, axis=0), np.repeat(y, 2))
    assert model.status_ == "max_time"
    assert model.estimators_[0].total_weight == pytest.approx(100, abs=3)
    assert model.score(X, y) > 0.5


@pytest.mark.parametrize(
    "parameters",
    [
        {"l2_regularization": 1e-3, "batch_size": 10, "damping": 1e-2, "n_estimators": 1},
        {"l2_regularization": 1e-3},
        {},
    ],
    ids=["batches", "fixed", "evidence"],
)
@pytest.mark.parametrize("target", ["mean", "two outputs", "classes", "labels", "poisson", "gamma"])
def test_a_fit_without_time_predicts_the_best_constant(target, parameters):
    X, y = load_diabetes(return_X_y=True)
    y = {
        "two outputs": np.column_stack([y, -y]),
        "classes": np.digitize(y, [100, 120, 250]),
        "labels": np.column_stack([y > 100, y > 200]).astype(int),
    }.get(target, y)
    estimator = GNClassifier if target in ("classes", "labels") else GNRegressor
    loss = {"loss": target} if target in ("poisson", "gamma") else {}
    model = estimator(max_time=1e-9, random_state=0, **parameters, **loss)
    with pytest.warns(ConvergenceWarning, match="Nothing was trained"):
        model.fit(X, y)
    assert (model.status_, model.n_iter_, len(model.estimators_)) == ("max_time", 0, 1)
    assert "constant" in model.status_message_
    if target == "classes":
        frequencies = np.bincount(y) / len(y)
        np.testing.assert_allclose(model.predict_proba(X[:3]), np.tile(frequencies, (3, 1)), rtol=1e-9)
    elif target == "labels":
        positive = model.predict_proba(X[:3])
        np.testing.assert_allclose(positive, np.tile(y.mean(0), (3, 1)), rtol=1e-9)
    else:
        np.testing.assert_allclose(model.predict(X[:3]), np.stack([y.mean(axis=0)] * 3), rtol=1e-9)


@pytest.mark.usefixtures("without_boosting")
def test_what_needs_training_is_refused_after_a_fit_without_time():
    X, y = load_diabetes(return_X_y=True)
    with pytest.warns(ConvergenceWarning):
        model = GNRegressor(max_time=1e-9).fit(X, y)
    with pytest.raises(ValueError, match="max_time left no time"):
        model.predict(X, return_std=True)
    with pytest.raises(ValueError, match="calibrate=True needs a trained network, for which max_time left no time"):
        model.predict_interval(X, calibrate=True)
    assert np.isnan(model.left_out_score_)
    np.testing.assert_allclose(model.feature_relevance_.sum(), 1)
    assert "max_time" in str(diagnose(model, X, y))
    loaded = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(loaded.predict(X), model.predict(X))
    # More time goes on from there.
    model.set_params(max_time=None, warm_start=True, n_estimators=1, max_iter=5)
    with pytest.warns(ConvergenceWarning, match="max_iter"):
        assert model.fit(X, y).score(X, y) > 0.3


# --- Interrupts


@dataclasses.dataclass(frozen=True)
class Interrupting(GainRatio):
    """The adaptive damping, which at an iteration sends the process one Ctrl-C, or raises it."""

    at: int = 5
    signals: bool = True
    turn: threading.Semaphore = dataclasses.field(default_factory=lambda: threading.Semaphore(1))

    def accepted(self, damping, gain_ratio, at):
        if at.iteration == self.at:
            if not self.signals:
                raise KeyboardInterrupt
            # Of members side by side only the first: a second Ctrl-C is not caught.
            if self.turn.acquire(blocking=False):
                os.kill(os.getpid(), signal.SIGINT)
        return super().accepted(damping, gain_ratio, at)


@dataclasses.dataclass(frozen=True)
class Ending(GainRatio):
    """The adaptive damping, which does something as a training of this number begins."""

    end: Callable[[], None] = lambda: os.kill(os.getpid(), signal.SIGINT)
    number: int = 0
    begun: list[float] = dataclasses.field(default_factory=list)

    def initial(self, at):
        self.begun.append(at.objective)
        if len(self.begun) == self.number + 1:
            self.end()
        return super().initial(at)


@pytest.mark.usefixtures("without_boosting")
@pytest.mark.parametrize("limit", ["interrupted", "max_time"])
def test_the_status_tells_of_a_limit_though_the_best_member_has_converged(limit, monkeypatch):
    X, y = load_diabetes(return_X_y=True)
    rule = Ending(number=1)
    if limit == "max_time":
        late = SimpleNamespace(perf_counter=lambda: math.inf)
        rule = Ending(end=lambda: monkeypatch.setattr(limits, "time", late), number=1)
    two = {"hidden_layer_sizes": (3,), "l2_regularization": 1e-2, "n_estimators": 2, "random_state": 0}
    model = GNRegressor(**two, damping=rule, max_time=1e6)
    told = pytest.raises(KeyboardInterrupt) if limit == "interrupted" else pytest.warns(ConvergenceWarning, match=limit)
    with told:
        model.fit(X, y)
    assert [member.status for member in model.estimators_] == ["decrease"]
    assert model.status_ == limit
    finding = diagnose(model, X, y)["convergence"]
    assert finding.verdict == "not converged" and finding.numbers["status"] == limit


@pytest.mark.parametrize("warm_start", [False, True])
def test_ctrl_c_before_the_first_step_keeps_an_earlier_fit(warm_start):
    X, y = load_diabetes(return_X_y=True)
    model = GNRegressor(5, l2_regularization=1e-2, random_state=0, warm_start=warm_start, damping=Ending())
    with pytest.raises(KeyboardInterrupt, match="before anything was trained"):
        model.fit(X, y)
    assert not hasattr(model, "estimators_")
    state = vars(model.set_params(damping="adaptive").fit(X, y)).copy()
    with pytest.raises(KeyboardInterrupt, match="before anything was trained"):
        model.set_params(damping=Ending()).fit(X[::2], y[::2])
    assert all(vars(model)[name] is value for name, value in state.items() if name != "damping")


def test_a_warm_start_without_time_keeps_the_fit_before():
    X, y = load_diabetes(return_X_y=True)
    model = GNRegressor(5, l2_regularization=1e-2, random_state=0, warm_start=True).fit(X, y)
    predicted = model.predict(X)
    with pytest.warns(ConvergenceWarning, match="Nothing was trained: the fit before is kept"):
        model.set_params(max_time=1e-6).fit(X[::2], y[::2])
    assert model.status_ == "max_time"
    np.testing.assert_array_equal(model.predict(X), predicted)


@pytest.mark.parametrize("n_jobs", [1, 2])
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_ctrl_c_keeps_the_weights_so_far_and_warns(estimator, n_jobs):
    X, y = data(estimator)
    model = estimator(
        hidden_layer_sizes=(5,), damping=Interrupting(), l2_regularization=1e-3, n_estimators=2, n_jobs=n_jobs,
        tol=0, max_iter=1000, random_state=0,
    )  # fmt: skip
    with pytest.raises(KeyboardInterrupt, match="has the best weights so far"):
        model.fit(X, y)
    assert model.status_ == "interrupted"
    assert model.n_iter_ < 1000
    assert model.score(X, y) > 0.4
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_interrupt_in_the_search_keeps_the_best_so_far():
    X, y = load_diabetes(return_X_y=True)
    model = GNRegressor(hidden_layer_sizes=(5,), damping=Interrupting(at=3), random_state=0)
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, y)
    assert model.score(X, y) > 0.4


def test_an_interrupt_that_arrives_as_an_exception_is_one_too():
    X, y = load_diabetes(return_X_y=True)
    model = GNRegressor(
        hidden_layer_sizes=(5,), damping=Interrupting(signals=False), l2_regularization=1e-3, n_estimators=1
    )
    caught = []

    def fit():
        with pytest.raises(KeyboardInterrupt):
            model.fit(X, y)
        caught.append(model.status_)

    # Outside the main thread no handler can be set.
    thread = threading.Thread(target=fit, daemon=True)
    thread.start()
    thread.join(timeout=300)
    assert caught == ["interrupted"]
    assert len(model.history_["objective"]) == model.n_iter_ + 1


def test_an_interrupt_after_the_trainings_is_not_lost(monkeypatch):
    """All members have converged, and the status is theirs."""
    X, y = load_diabetes(return_X_y=True)
    relevance = GNRegressor._relevance

    def interrupted(*args):
        os.kill(os.getpid(), signal.SIGINT)
        return relevance(*args)

    monkeypatch.setattr(GNRegressor, "_relevance", interrupted)
    model = GNRegressor(hidden_layer_sizes=(5,), l2_regularization=1e-2, n_estimators=1, random_state=0)
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, y)
    assert model.status_ == "decrease" and model.score(X, y) > 0.4


def test_an_interrupt_ends_a_pipeline_whose_last_step_is_fitted():
    X, y = load_diabetes(return_X_y=True)
    pipeline = make_pipeline(StandardScaler(), GNRegressor(5, damping=Interrupting(), n_estimators=1, random_state=0))
    with pytest.raises(KeyboardInterrupt):
        pipeline.fit(X, y)
    assert pipeline.score(X, y) > 0.4


def test_a_second_ctrl_c_is_not_held_back():
    limits = Limits(float("inf"), n_workers=1)
    with limits.interruptible():
        os.kill(os.getpid(), signal.SIGINT)
        assert limits.over and limits.interrupted and limits.reason == "interrupted"
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_a_handler_of_the_callers_own_stays_in_place():
    def own(number, frame):
        raise AssertionError("not called here")

    before = signal.signal(signal.SIGINT, own)
    try:
        with Limits(float("inf"), n_workers=1).interruptible():
            assert signal.getsignal(signal.SIGINT) is own
    finally:
        signal.signal(signal.SIGINT, before)
