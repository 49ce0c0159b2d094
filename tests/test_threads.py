import dataclasses
import threading
import time
from typing import ClassVar

import joblib
import numpy as np
import pytest
import torch
from silent import Silent
from sklearn.base import clone
from sklearn.datasets import load_diabetes
from threadpoolctl import ThreadpoolController, threadpool_info, threadpool_limits

from skgn import GNRegressor
from skgn.damping import GainRatio
from skgn.threads import one_blas_thread, torch_threads

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


SMALL, LARGE = 1.0, 1e12


def test_small_work_runs_on_one_thread():
    with torch_threads(SMALL):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 2
    with torch_threads(LARGE):
        assert torch.get_num_threads() == 2


def test_thread_count_is_put_back_on_error():
    with pytest.raises(KeyError), torch_threads(SMALL):
        assert torch.get_num_threads() == 1
        raise KeyError
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize("flops", [SMALL, LARGE])
def test_workers_in_threads_use_one_thread_each(flops):
    def inside():
        with torch_threads(flops):
            return torch.get_num_threads()

    assert joblib.Parallel(n_jobs=2, backend="threading")(joblib.delayed(inside)() for _ in range(4)) == [1] * 4
    assert torch.get_num_threads() == 2


def test_result_of_small_work_does_not_depend_on_the_machine():
    A = torch.randn(300, 300, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with torch_threads(SMALL):
        first = A @ A.T
    torch.set_num_threads(1)
    with torch_threads(SMALL):
        second = A @ A.T
    torch.set_num_threads(2)
    assert bool((first == second).all())


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


def test_candidates_train_side_by_side_with_a_thread_each_where_torch_has_several():
    model, X, y = large_problem()
    model.fit(X, y)
    assert {threads for _, threads in observed} == {1}
    assert len({thread for thread, _ in observed}) == 2
    observed.clear()
    torch.set_num_threads(1)
    model.fit(X, y)
    torch.set_num_threads(2)
    assert {thread for thread, _ in observed} == {threading.get_ident()}


class Looks(Silent):
    def on_fit_task_end(self, estimator, context, **data):
        pass


@pytest.mark.parametrize("reason", ["n_jobs", "memory", "callbacks"])
def test_candidates_train_in_turn_where(reason, monkeypatch):
    model, X, y = large_problem()
    if reason == "n_jobs":
        model.set_params(n_jobs=1)
    elif reason == "memory":
        # Systems of two candidates are more than that.
        monkeypatch.setenv("SKGN_MEMORY_BUDGET_MB", "1")
    elif hasattr(model, "set_callbacks"):
        model.set_callbacks(Looks())
    else:
        pytest.skip("this scikit-learn has no callbacks")
    model.fit(X, y)
    assert {thread for thread, _ in observed} == {threading.get_ident()}


def test_a_single_candidate_of_much_work_has_all_threads(monkeypatch):
    """As do candidates in turn: products take long beside the wait for the threads that make them."""
    model, X, y = large_problem()
    # Little work counts as much: on a busy machine threads wait long for one another.
    monkeypatch.setattr("skgn.threads._MULTITHREADED_FLOPS", 1e4)
    for n_jobs in (None, 2):
        model.set_params(n_estimators=1, max_iter=1, n_jobs=n_jobs).fit(X[:100], y[:100])
    assert set(observed) == {(threading.get_ident(), 2)}


def test_a_small_fit_uses_one_thread():
    model, X, y = large_problem()
    model.fit(X[:50], y[:50])
    assert set(observed) == {(threading.get_ident(), 1)}


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


def blas_threads():
    """Threads of the BLAS of NumPy and SciPy."""
    return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}


@pytest.fixture
def two_blas_threads():
    """Two threads outside, whatever the machine."""
    if not blas_threads():
        pytest.skip("threadpoolctl knows no BLAS here")
    with threadpool_limits(2, "blas"):
        yield
        assert blas_threads() == {2}


class BlasObserver(GainRatio):
    """The adaptive damping, noting the threads of BLAS at the start."""

    seen: ClassVar[list[set[int]]] = []

    def initial(self, at):
        self.seen.append(blas_threads())
        return super().initial(at)


class Broken(GainRatio):
    """A damping that fails."""

    def initial(self, at):
        raise RuntimeError("broken on purpose")


@pytest.mark.usefixtures("two_blas_threads")
class TestBlas:
    def test_a_fit_takes_one_thread_and_gives_back_what_there_was(self):
        BlasObserver.seen.clear()
        model, X, y = large_problem()
        model.set_params(damping=BlasObserver(), n_estimators=1).fit(X, y)
        assert BlasObserver.seen == [{1}]

    def test_a_fit_that_fails_gives_them_back(self):
        model, X, y = large_problem()
        with pytest.raises(RuntimeError, match="on purpose"):
            model.set_params(damping=Broken()).fit(X[:50], y[:50])

    def test_a_thread_of_a_pool_leaves_the_number_alone(self, monkeypatch):
        BlasObserver.seen.clear()
        # Some versions of threadpoolctl let one thread alone change it.
        monkeypatch.setattr("skgn.threads._blas", lambda: pytest.fail("asked for"))
        model, X, y = large_problem()
        with joblib.parallel_backend("threading", n_jobs=2):
            fits = [clone(model).set_params(damping=BlasObserver(), n_estimators=1) for _ in range(2)]
            joblib.Parallel()(joblib.delayed(fit.fit)(X, y) for fit in fits)
        assert BlasObserver.seen == [{2}, {2}]

    def test_the_blas_that_comes_with_torch_keeps_its_threads(self, monkeypatch):
        pools = ThreadpoolController()
        of_torch = pools.select(user_api="blas").lib_controllers[0]
        of_torch.filepath = "/site-packages/torch.libs/libopenblas.so.0"
        monkeypatch.setattr("skgn.threads.thread_pools", lambda: pools)
        with one_blas_thread():
            assert of_torch.num_threads == 2
