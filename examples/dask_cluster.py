"""
Rows on several workers
=======================

A table in partitions on two worker processes, as it would be on two machines. Each worker reduces its rows to a Gram
matrix, a gradient and a loss; these travel, the rows do not. The weights are those of a fit in one process. In the
second fit a worker is killed on the way: the fit waits until its rows have been made again, and ends with the same
bits.
"""

from __future__ import annotations

import os
import signal
import threading
import time
import warnings

import dask
import dask.array as da
import numpy as np
from distributed import Client, LocalCluster, wait
from sklearn.exceptions import ConvergenceWarning

from skgn import GNRegressor
from skgn.dask import DaskGNRegressor

ROWS, FEATURES, PARTITIONS = 100_000, 8, 8

#: One network of 209 weights, all choices made: what is trained is the same everywhere.
SETTINGS = {"hidden_layer_sizes": (20,), "n_estimators": 1, "max_iter": 20, "tol": 1e-6, "random_state": 0}


#: Dask's workers return freed memory to the system at once, which makes the short-lived arrays of a fit expensive.
KEEP_FREED_MEMORY = {
    "distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_": 2**28,
    "distributed.nanny.pre-spawn-environ.MALLOC_MMAP_THRESHOLD_": 2**25,
}


def table() -> tuple[np.ndarray, np.ndarray]:
    """Draw inputs and a target that is no linear function of them."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(ROWS, FEATURES))
    y = np.sin(2 * X[:, 0]) + X[:, 1] * X[:, 2] + np.abs(X[:, 3]) + 0.3 * rng.normal(size=ROWS)
    return X, y


def main(client: Client) -> None:
    """Fit in one process, on the workers, and on the workers while one of them is killed."""
    # Twenty iterations show all there is to see.
    warnings.simplefilter("ignore", ConvergenceWarning)
    X, y = table()
    rows = ROWS // PARTITIONS
    dX, dy = client.persist([da.from_array(X, chunks=(rows, FEATURES)), da.from_array(y, chunks=rows)])
    wait([dX, dy])

    began = time.perf_counter()
    single = GNRegressor(**SETTINGS).fit(X, y)
    print(f"One process: {time.perf_counter() - began:.1f} s, log evidence {single.log_evidence_:.6f}")

    began = time.perf_counter()
    model = DaskGNRegressor(**SETTINGS, verbose=1).fit(dX, dy)
    print(f"Two workers: {time.perf_counter() - began:.1f} s, log evidence {model.log_evidence_:.6f}")
    difference = max(np.abs(a - b).max() for a, b in zip(model.coefs_, single.coefs_, strict=True))
    print(f"Largest difference of a weight: {difference:.1e}")
    print(f"The rows are {X.nbytes + y.nbytes:,} bytes, an iteration sends {model.bytes_per_iteration_:,} a worker")

    victim = next(iter(client.run(os.getpid).values()))
    threading.Timer(1.0, os.kill, (victim, signal.SIGKILL)).start()
    began = time.perf_counter()
    disturbed = DaskGNRegressor(**SETTINGS).fit(dX, dy)
    same = all(np.array_equal(a, b) for a, b in zip(disturbed.coefs_, model.coefs_, strict=True))
    print(f"A worker killed after a second: {time.perf_counter() - began:.1f} s, the same bits: {same}")

    mean, std = disturbed.predict(dX, return_std=True)
    print(f"Predictions are lazy: {mean}")
    print(f"Score {disturbed.score(dX, dy):.4f}, mean standard deviation {std.mean().compute():.4f}")


if __name__ == "__main__":
    with (
        dask.config.set(KEEP_FREED_MEMORY),
        LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address="127.0.0.1:0") as cluster,
        Client(cluster) as client,
    ):
        main(client)
