"""Searches, cross-validation and members under joblib's backends: the same results, and no more threads than cores."""

import contextlib
import dataclasses
import functools
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import joblib
import numpy as np
import pytest
import torch
from sklearn.datasets import load_diabetes, load_iris
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skgn import GNClassifier, GNRegressor
from skgn.damping import GainRatio
from skgn.spectrum import SpectrumMonitor
from skgn.threads import torch_threads
from skgn.workers import members_at_once

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

FOLDS = KFold(2, shuffle=True, random_state=0)


@contextlib.contextmanager
def dask_cluster(**shape):
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(dashboard_address="127.0.0.1:0", **shape) as cluster, distributed.Client(cluster):
        yield


@pytest.fixture(scope="module")
def two_dask_processes(forked):
    with dask_cluster(n_workers=2, threads_per_worker=1):
        yield


@pytest.fixture
def two_dask_threads():
    with dask_cluster(n_workers=1, threads_per_worker=2, processes=False):
        yield


#: Two torch threads for each worker of loky in all tests: another number would start other workers.
two_loky_processes = functools.partial(joblib.parallel_config, "loky", n_jobs=2, inner_max_num_threads=2)


@pytest.fixture(params=["loky", "threading", "dask"])
def backend(request):
    """A backend with two workers, processes but for "threading"."""
    if request.param == "dask":
        request.getfixturevalue("two_dask_processes")
    if request.param == "loky":
        return two_loky_processes
    return functools.partial(joblib.parallel_config, request.param, n_jobs=2)


def some_rows(load):
    return [values[::3] for values in load(return_X_y=True)]


def scores_of_folds(estimator, load):
    model = estimator(5, n_estimators=2, max_iter=2, random_state=0)
    return cross_val_score(model, *some_rows(load), cv=FOLDS)


@functools.cache
def scores_of_folds_in_turn(estimator, load):
    return scores_of_folds(estimator, load)


@pytest.mark.parametrize(("estimator", "load"), [(GNRegressor, load_diabetes), (GNClassifier, load_iris)])
def test_folds_side_by_side_score_what_folds_in_turn_score(backend, estimator, load):
    in_turn = scores_of_folds_in_turn(estimator, load)
    with backend():
        np.testing.assert_array_equal(scores_of_folds(estimator, load), in_turn)


def grid_search(**parameters):
    model = GNRegressor(5, n_estimators=2, max_iter=2, random_state=0, **parameters)
    grid = {"l2_regularization": [1e-2, "evidence"]}
    return GridSearchCV(model, grid, cv=FOLDS).fit(*some_rows(load_diabetes))


@functools.cache
def grid_search_in_turn():
    return grid_search()


@pytest.mark.parametrize("n_jobs", [None, 2], ids=["members in turn", "members side by side"])
def test_a_search_side_by_side_finds_what_a_search_in_turn_finds(backend, n_jobs):
    X, _ = some_rows(load_diabetes)
    in_turn = grid_search_in_turn()
    with backend():
        side_by_side = grid_search(n_jobs=n_jobs)
    for fold in ("split0_test_score", "split1_test_score"):
        np.testing.assert_array_equal(side_by_side.cv_results_[fold], in_turn.cv_results_[fold])
    assert side_by_side.best_params_ == in_turn.best_params_
    for ours, theirs in zip(
        side_by_side.best_estimator_.predict(X, return_std=True),
        in_turn.best_estimator_.predict(X, return_std=True),
        strict=True,
    ):
        np.testing.assert_array_equal(ours, theirs)


def test_members_at_once_are_those_of_the_fit_not_the_workers_around_it(backend):
    with backend():
        # joblib falls back to its threads, and then to one unless asked for more.
        assert members_at_once(None) == (2 if backend.args == ("threading",) else 1)
        assert members_at_once(3) == 3
        assert joblib.Parallel()(joblib.delayed(members_at_once)(n) for n in (None, None, 3)) == [1, 1, 3]


@dataclasses.dataclass(frozen=True)
class Observer(GainRatio):
    """The adaptive damping, noting (process, thread, torch threads) at each iterate."""

    seen: list = dataclasses.field(default_factory=list)

    def accepted(self, damping, gain_ratio, at):
        self.seen.append((os.getpid(), threading.get_ident(), torch.get_num_threads()))
        return super().accepted(damping, gain_ratio, at)


def observe_fit(n_jobs):
    """What the rule of a fit saw that has enough work for more than one thread to pay."""
    X = np.random.default_rng(0).normal(size=(3000, 10))
    rule = Observer()
    GNRegressor(
        20,
        damping=rule,
        l2_regularization=1e-3,
        n_estimators=2,
        solver="primal",
        device="cpu",
        max_iter=3,
        n_jobs=n_jobs,
        random_state=0,
    ).fit(X, X[:, 0] * X[:, 1])
    return rule.seen


def observe_two_fits(n_jobs):
    return joblib.Parallel()(joblib.delayed(observe_fit)(n_jobs) for _ in range(2))


@pytest.fixture
def two_torch_threads():
    """Two torch threads in this process, whatever the machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    assert torch.get_num_threads() == 2
    torch.set_num_threads(before)


@pytest.mark.parametrize("n_jobs", [None, 1, 2])
def test_fits_side_by_side_use_the_torch_threads_that_are_theirs(backend, two_torch_threads, n_jobs):
    with backend():
        fits = observe_two_fits(n_jobs)
    # Loky leaves two to a worker: a fit takes both, for a member each.
    theirs = 2 if backend.args == ("loky",) else 1
    for seen in fits:
        processes, threads, torch_threads_each = (set(values) for values in zip(*seen, strict=True))
        # Members stay in the process of their fit, also where another worker is free.
        assert len(processes) == 1
        assert (os.getpid() in processes) == (backend.args == ("threading",))
        assert len(threads) == (n_jobs or theirs)
        assert torch_threads_each == {1}


def test_fits_in_the_threads_of_one_dask_worker_use_one_torch_thread_each(two_dask_threads, two_torch_threads):
    with joblib.parallel_config("dask"):
        fits = observe_two_fits(None)
    assert {seen[0] for fit in fits for seen in fit} == {os.getpid()}
    assert {seen[2] for fit in fits for seen in fit} == {1}


def test_predictive_deviations_in_threads_use_one_torch_thread_each(monkeypatch, two_torch_threads):
    X, y = load_diabetes(return_X_y=True)
    model = GNRegressor(20, l2_regularization=1e-2, n_estimators=1, solver="primal", max_iter=3).fit(X, y)
    seen, solve = [], torch.linalg.solve_triangular

    def observe_solve(*args, **kwargs):
        seen.append(torch.get_num_threads())
        return solve(*args, **kwargs)

    monkeypatch.setattr(torch.linalg, "solve_triangular", observe_solve)
    many = np.tile(X, (200, 1))
    model.predict(many, return_std=True)
    assert set(seen) == {2}
    seen.clear()
    with ThreadPoolExecutor(1) as pool:
        pool.submit(model.predict, many, return_std=True).result()
    assert set(seen) == {1}


def test_threads_that_begin_during_fits_are_left_with_the_number_of_the_process(two_torch_threads):
    with ThreadPoolExecutor(1) as early, ThreadPoolExecutor(1) as late:
        first, second = torch_threads(0.0), torch_threads(0.0)
        early.submit(first.__enter__).result()
        late.submit(second.__enter__).result()
        assert [pool.submit(torch.get_num_threads).result() for pool in (early, late)] == [1, 1]
        early.submit(first.__exit__, None, None, None).result()
        late.submit(second.__exit__, None, None, None).result()
        assert [pool.submit(torch.get_num_threads).result() for pool in (early, late)] == [2, 2]
    with ThreadPoolExecutor(1) as new:
        assert new.submit(torch.get_num_threads).result() == 2


@pytest.fixture
def callbacks():
    return pytest.importorskip("sklearn.callback", reason="sklearn.callback comes with scikit-learn 1.9")


def search_watched_by(callback):
    """A grid search whose fits are in processes, each with a copy of a callback."""
    options = {"n_estimators": 1, "l2_regularization": 1e-3, "damping": GainRatio(), "max_iter": 3, "random_state": 0}
    network = GNRegressor((4,), **options).set_callbacks(callback)
    search = GridSearchCV(make_pipeline(StandardScaler(), network), {"gnregressor__alpha": [0.5, 1.0]}, cv=2)
    with two_loky_processes():
        return search.fit(*load_diabetes(return_X_y=True))


def test_a_monitor_of_scores_in_processes(callbacks):
    X, y = load_diabetes(return_X_y=True)
    monitor = callbacks.ScoringMonitor(scoring="r2")
    search = search_watched_by(monitor)
    log = monitor.get_logs().data_as_pandas
    curves = log[log.task_name == "iteration"].groupby("parent_task_id_path")
    assert len(curves) == 5
    refit = next(curve for path, curve in curves if path[:2] == (0, 1))
    assert len(refit) == search.best_estimator_[-1].n_iter_
    assert refit.r2.iloc[-1] == search.best_estimator_.score(X, y)


def test_a_monitor_of_the_spectrum_in_processes(callbacks):
    monitor = SpectrumMonitor()
    search = search_watched_by(monitor)
    assert np.isfinite(search.best_estimator_[-1].history_["max_eigenvalue"]).all()
    assert not monitor._found
