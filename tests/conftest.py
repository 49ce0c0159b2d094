import itertools
import os
from types import SimpleNamespace

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:
    # As many processes as cores: more threads in each wait for one another at every small matrix, for a large part of
    # the time. Read once, on import. Tests of threads set their own number.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# SciPy reads it once, on import; without it scikit-learn skips its array API check.
os.environ.setdefault("SCIPY_ARRAY_API", "1")


@pytest.fixture
def clock(monkeypatch):
    """For limits of time a clock that goes on by a millisecond whenever it is read, however busy the machine is."""
    from skgn import limits

    reads = itertools.count()
    monkeypatch.setattr(limits, "time", SimpleNamespace(perf_counter=lambda: next(reads) / 1000))
