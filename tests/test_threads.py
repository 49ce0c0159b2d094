import dataclasses
import threading
import time

import joblib
import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_diabetes

from skgn import GNRegressor
from skgn.damping import GainRatio

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

#: (thread, torch threads) at every iterate of the fits of a test.
observed = []


@dataclasses.dataclass(frozen=True)
class Observer(GainRatio):
    """The adaptive damping, noting where it was asked."""

    def initial(self, at):
        observed.append((threading.get_ident(), torch.get_num_threads()))
        return super().initial(at)

    def accepted(self, damping, gain_ratio, at):
        observed.append((threading.get_ident(), torch.get_num_threads()))
        return super().accepted(damping, gain_ratio, at)


@pytest.fixture(autouse=True)
def two_torch_threads():
    """Two torch threads outside, whatever the machine, and an empty record."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    observed.clear()
    yield
    assert torch.get_num_threads() == 2
    torch.set_num_threads(before)


def large_problem():
    """Enough work for more than one thread to pay, and an estimator of two members."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(3000, 10))
    model = GNRegressor(
        hidden_layer_sizes=(20,),
        damping=Observer(),
        l2_regularization=1e-3,
        n_estimators=2,
        solver="primal",
        device="cpu",
        max_iter=3,
        random_state=0,
    )
    return model, X, X[:, 0] * X[:, 1]


def test_a_large_fit_on_its_own_uses_the_threads_there_are():
    model, X, y = large_problem()
    model.fit(X, y)
    assert {threads for _, threads in observed} == {2}


def test_a_small_fit_uses_one_thread():
    model, X, y = large_problem()
    model.fit(X[:50], y[:50])
    assert {threads for _, threads in observed} == {1}


def test_fits_in_joblib_threads_use_one_torch_thread_each():
    model, X, y = large_problem()
    fits = [clone(model).set_params(random_state=r) for r in range(4)]
    with joblib.parallel_backend("threading", n_jobs=2):
        joblib.Parallel()(joblib.delayed(fit.fit)(X, y) for fit in fits)
    assert {threads for _, threads in observed} == {1}
    assert len({thread for thread, _ in observed}) <= 2


def test_members_in_joblib_threads_use_one_torch_thread_each():
    model, X, y = large_problem()
    model.set_params(n_estimators=4, n_jobs=2).fit(X, y)
    assert {threads for _, threads in observed} == {1}
    assert len({thread for thread, _ in observed}) <= 2


@dataclasses.dataclass(frozen=True)
class Failing(GainRatio):
    """The adaptive damping of two members; the one that comes first fails while the other one is at work."""

    both: threading.Barrier = dataclasses.field(default_factory=lambda: threading.Barrier(2))
    ended: list = dataclasses.field(default_factory=list)

    def initial(self, at):
        if self.both.wait(timeout=30) == 0:
            raise ZeroDivisionError("in a thread")
        time.sleep(0.3)
        self.ended.append(threading.get_ident())
        return super().initial(at)


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_no_thread_is_at_work_after_an_error(method):
    model, X, y = large_problem()
    rule, before = Failing(), set(threading.enumerate())
    with pytest.raises(ZeroDivisionError, match="in a thread"):
        getattr(model.set_params(damping=rule, n_jobs=2), method)(X, y)
    assert len(rule.ended) == 1
    assert set(threading.enumerate()) <= before


@pytest.mark.parametrize("parameters", [{"l2_regularization": 1e-3}, {}], ids=["fixed l2", "default l2"])
def test_members_trained_side_by_side_are_those_trained_in_turn(parameters):
    X, y = load_diabetes(return_X_y=True)
    model = GNRegressor(hidden_layer_sizes=(5,), n_estimators=3, max_iter=10, random_state=0, **parameters)
    in_turn, side_by_side = (clone(model).set_params(n_jobs=n).fit(X, y).predict(X) for n in (1, 2))
    np.testing.assert_array_equal(in_turn, side_by_side)
