"""A cluster that is lost in the midst of a fit: the fit goes on, or says why not, within the time that it has.

Workers are processes of their own, which nobody starts again. A call of more than three minutes has failed.
"""

import asyncio
import logging
import os
import signal
import threading
from dataclasses import dataclass, field

import numpy as np
import pytest

from skgn.damping import GainRatio

pytest.importorskip("dask.array", reason='needs pip install "skgn[dask]"')
pytest.importorskip("distributed", reason='needs pip install "skgn[dask]"')

import dask
import dask.array as da
from distributed import Client, LocalCluster, Worker

from skgn.dask import DaskGNRegressor
from skgn.dask.cluster import Cluster

pytestmark = [
    # Sockets of what was killed are closed by the garbage collector.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
]

SECONDS = 180
SMALL = {"hidden_layer_sizes": (3,), "n_estimators": 1, "random_state": 0, "max_iter": 4, "standardize": "robust"}
SMALL |= {"l2_regularization": 1e-2}


def work(scheduler):
    """A worker, for as long as its process is there."""
    logging.disable()

    async def run():
        async with Worker(scheduler, nthreads=1, dashboard=False) as worker:
            await worker.finished()

    asyncio.run(run())


class Workers:
    """Processes of workers of a scheduler."""

    def __init__(self, client, context):
        self.client, self.context, self.processes = client, context, []

    def start(self, number):
        address = self.client.scheduler.address
        started = [self.context.Process(target=work, args=(address,), daemon=True) for _ in range(number)]
        for process in started:
            process.start()
        self.processes += started
        self.client.wait_for_workers(number, timeout=SECONDS)

    def kill(self):
        for process in self.processes:
            process.kill()
            process.join(SECONDS)
        self.processes = []


@pytest.fixture(scope="module")
def cluster():
    """A scheduler alone."""
    with LocalCluster(n_workers=0, dashboard_address="127.0.0.1:0", silence_logs=50) as cluster:
        yield cluster


@pytest.fixture
def client(cluster):
    with Client(cluster) as client:
        yield client


@pytest.fixture
def workers(client, forked):
    workers = Workers(client, forked)
    yield workers
    workers.kill()


@dataclass(frozen=True)
class CallAt(GainRatio):
    """Calls a function at an iteration."""

    function: object = None
    iteration: int = 1
    called: list = field(default_factory=list)

    def accepted(self, damping, gain_ratio, at):
        if at.iteration == self.iteration and not self.called:
            self.called.append(True)
            self.function()
        return super().accepted(damping, gain_ratio, at)


def rows():
    rng = np.random.RandomState(0)
    X = rng.normal(size=(200, 3))
    y = np.sin(X[:, 0]) + X[:, 1] + 0.2 * rng.normal(size=200)
    return da.from_array(X, chunks=(50, 3)), da.from_array(y, chunks=50)


def ended(call):
    """What a call returns or raises; it must end in time."""
    results = []

    def run():
        try:
            results.append(call())
        except BaseException as error:
            results.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(SECONDS)
    assert not thread.is_alive(), "the call hangs"
    return results[0]


LIMITS = {
    "max_time": ({"max_time": 4.0}, {}, r"none has come in time \(max_time=4\)"),
    "setting of dask": ({}, {"distributed.scheduler.no-workers-timeout": "500ms"}, r"no-workers-timeout is 0\.5 s"),
}


@pytest.mark.parametrize(("options", "setting", "message"), LIMITS.values(), ids=LIMITS)
def test_a_fit_without_workers_ends_in_time_and_keeps_the_earlier_one(workers, options, setting, message):
    workers.start(1)
    earlier = DaskGNRegressor(**SMALL, client=workers.client).fit(*rows())
    before = earlier.estimators_
    rule = CallAt(function=workers.kill)
    with dask.config.set(setting), pytest.warns(UserWarning, match="The dask cluster has no worker"):
        model = earlier.set_params(**{"damping": rule, "max_iter": 10_000, "tol": 0.0} | options)
        error = ended(lambda: model.fit(*rows()))
    assert rule.called
    assert isinstance(error, RuntimeError)
    with pytest.raises(RuntimeError, match=message):
        raise error
    assert earlier.estimators_ is before


def test_a_worker_that_hangs_does_not_outlast_max_time(workers, monkeypatch):
    monkeypatch.setattr("skgn.dask.cluster._SILENCE", 2.0)
    workers.start(1)
    model = DaskGNRegressor(**SMALL, client=workers.client).fit(*rows())
    before = model.estimators_
    rule = CallAt(function=lambda: os.kill(workers.processes[0].pid, signal.SIGSTOP))
    model.set_params(damping=rule, max_iter=10_000, tol=0.0, max_time=4.0)
    error = ended(lambda: model.fit(*rows()))
    assert rule.called and model.estimators_ is before
    with pytest.raises(RuntimeError, match=r"have not been heard of for \d+ s, and max_time=4 is over"):
        raise error


def test_a_cluster_that_has_no_worker_yet_is_waited_for(client):
    model = DaskGNRegressor(**SMALL, client=client, max_time=1.0)
    with pytest.warns(UserWarning, match="waiting up to .* s for one"):
        error = ended(lambda: model.fit(*rows()))
    with pytest.raises(RuntimeError, match=r"cluster\.scale"):
        raise error
    assert not hasattr(model, "estimators_")


def test_a_score_does_not_wait_for_ever_either(workers):
    workers.start(1)
    model = DaskGNRegressor(**SMALL, client=workers.client).fit(*rows())
    workers.kill()
    setting = {"distributed.scheduler.no-workers-timeout": "500ms"}
    with dask.config.set(setting), pytest.warns(UserWarning, match="The dask cluster has no worker"):
        error = ended(lambda: model.score(*rows()))
    assert isinstance(error, RuntimeError)


def test_a_result_that_is_lost_before_it_is_read_is_not_waited_for_either(workers):
    workers.start(1)
    cluster = Cluster(workers.client)
    wait, waited = cluster.wait, []

    def then_kill(futures):
        wait(futures)
        if not waited:
            waited.append(True)
            workers.kill()

    cluster.wait = then_kill
    setting = {"distributed.scheduler.no-workers-timeout": "500ms"}
    with dask.config.set(setting), pytest.warns(UserWarning, match="The dask cluster has no worker"):
        error = ended(lambda: cluster.results([workers.client.submit(np.ones, 3, pure=False)]))
    assert waited and isinstance(error, RuntimeError)


def test_the_fit_goes_on_with_other_workers(workers):
    """Bit for bit, although every worker was killed and another one came."""
    workers.start(1)
    undisturbed = DaskGNRegressor(**SMALL, damping=GainRatio(), client=workers.client).fit(*rows())

    def replace():
        workers.kill()
        threading.Timer(1.0, workers.start, (1,)).start()

    model = DaskGNRegressor(**SMALL, damping=CallAt(function=replace), client=workers.client)
    with pytest.warns(UserWarning, match="The dask cluster has no worker"):
        assert ended(lambda: model.fit(*rows())) is model
    np.testing.assert_array_equal(model.estimators_[0].weights, undisturbed.estimators_[0].weights)


def close_client(workers, cluster):
    workers.client.close()


def close_cluster(workers, cluster):
    cluster.close()


#: The cluster is that of the module: the last one closes it.
@pytest.mark.parametrize("close", [close_client, close_cluster])
def test_a_cluster_that_is_closed_is_named(workers, cluster, close):
    workers.start(1)
    rule = CallAt(function=lambda: close(workers, cluster))
    model = DaskGNRegressor(**SMALL | {"max_iter": 10_000, "tol": 0.0}, damping=rule, client=workers.client)
    for _ in ("midway", "before"):
        error = ended(lambda: model.fit(*rows()))
        assert rule.called
        assert isinstance(error, RuntimeError)
        with pytest.raises(RuntimeError, match="client or its cluster was closed"):
            raise error
        assert not hasattr(model, "estimators_")
