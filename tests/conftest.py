import functools
import gc
import itertools
import multiprocessing
import os
from types import SimpleNamespace

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:
    # As many processes as cores: more threads in each wait for one another at every small matrix, for a large part of
    # the time. Read once, on import. Tests of threads set their own number.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    # Where there are more threads all the same, those that wait give way to the other processes.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# SciPy reads it once, on import; without it scikit-learn skips its array API check.
os.environ.setdefault("SCIPY_ARRAY_API", "1")


def pytest_collectstart():
    gc.disable()  # until all is imported and collected


def pytest_collection_finish():
    """Spare the garbage collector what is imported, also by tests: a look at all of that takes tenths of a second."""
    gc.freeze()
    gc.set_threshold(10_000)
    gc.enable()


@pytest.fixture(autouse=True)
def same_modules():
    """Modules of torch draw their weights from a state that all tests before have moved on.

    That of the CPU: `torch.manual_seed` also writes down the stack for each device that there is not.
    """
    import torch  # here, as the process that hands out the tests has no use for it

    torch.default_generator.manual_seed(0)


@pytest.fixture
def clock(monkeypatch):
    """For limits of time a clock that goes on by a millisecond whenever it is read, however busy the machine is."""
    from skgn import limits

    reads = itertools.count()
    monkeypatch.setattr(limits, "time", SimpleNamespace(perf_counter=lambda: next(reads) / 1000))


@pytest.fixture
def without_boosting(monkeypatch):
    """Reports are as of a large table, which gradient boosting is spared: it takes nine tenths of the time."""
    from skgn import baselines

    monkeypatch.setattr(baselines, "_MOST_CELLS", 0)


@pytest.fixture(scope="session")
def one_registry():
    """For ONNX files the operators that torch knows: it reads them from five hundred sources anew for each file."""
    pytest.importorskip("onnxscript")
    from torch.onnx._internal.exporter._registration import ONNXRegistry

    with pytest.MonkeyPatch.context() as patch:
        once = functools.cache(ONNXRegistry.from_torchlib)
        patch.setattr(ONNXRegistry, "from_torchlib", staticmethod(once))
        yield


@pytest.fixture(scope="session")
def forked():
    """How workers of dask are started: as copies of a process that has imported the package, which takes seconds.

    Nor do they watch themselves, which takes a tenth of a processor.
    """
    config = pytest.importorskip("dask").config
    start = pytest.importorskip("distributed.utils").get_mp_context
    settings = {
        "distributed.worker.multiprocessing-method": "forkserver",
        "distributed.worker.profile.enabled": False,
        "distributed.admin.system-monitor.interval": "10s",
        "distributed.admin.tick.interval": "1s",
    }
    with config.set(settings):
        start()  # sets what it imports itself, once
        multiprocessing.set_forkserver_preload(["distributed", "dask.array", "dask.dataframe", "skgn.dask"])
        yield multiprocessing.get_context("forkserver")
