"""Seconds of an iteration against the cost model of docs/scaling.md
====================================================================

Full batch, a pass of mini-batches, a product of conjugate gradients, and an iteration on a local dask cluster of two
processes, each at several sizes. The model has three rates, measured first on this machine: multiply-adds a second of a
large matrix product, seconds a value of a hidden unit takes in a forward pass, and seconds of a round through the
scheduler. What it predicts is printed beside what was measured::

    python examples/benchmarks/scaling.py scaling.csv
"""

import argparse
import csv
import statistics
import time
import warnings

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning

from skgn import GNRegressor
from skgn.damping import GainRatio
from skgn.feedforward import FeedForward
from skgn.jacobian import Jacobian
from skgn.jacobian_cost import gram_flops

#: Passes through the network an iteration, in multiply-adds of n P each: trial, gradient, re-estimates.
PASSES = 6

#: Factorisations and inverses an iteration, in multiply-adds of P^3; measured, as in skgn.primal.
CUBIC = 1.3

#: Passes a product with G takes: forward tangent and back-propagation of all layers.
PASSES_A_PRODUCT = 3


def timed(function, repeats):
    """Median seconds, after one call that warms up."""
    function()
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def matrix_rate(repeats):
    """Multiply-adds a second of a product of the shape of a chunk's."""
    A = torch.randn(1024, 600, dtype=torch.float64)
    return 1024 * 600**2 / timed(lambda: A.T @ A, 5 * repeats)


def seconds_a_unit(repeats):
    """Of a forward pass that is nearly all activations."""
    network = FeedForward(1, 1, (200,), linear_path=False)
    w = torch.from_numpy(network.initial_weights(np.random.RandomState(0)))
    U = FeedForward.with_bias(torch.randn(1000, 1, dtype=torch.float64))
    return timed(lambda: network.forward(U, w), 5 * repeats) / (1000 * 200)


class Rates:
    """What the model knows of the machine."""

    def __init__(self, repeats):
        self.products, self.units = matrix_rate(repeats), seconds_a_unit(repeats)

    def seconds(self, multiply_adds, unit_values):
        """Of so many multiply-adds of matrix products, and values of hidden units."""
        return multiply_adds / self.products + unit_values * self.units


def table(n, d=10):
    """Rows of a smooth relation."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, d))
    return X, np.sin(2 * X[:, 0]) * X[:, 1] + X[:, 2] + 0.1 * rng.normal(size=n)


def seconds_an_iteration(model, X, y):
    """Of all but the first iterations of the best member."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(X, y)
    return float(np.median(np.diff(model.history_["time"])[1:]))


def settings(hidden, **changes):
    """Parameters of a fit of eight iterations."""
    # The rule without short cuts: every iteration sees all rows.
    fixed = {"hidden_layer_sizes": hidden, "l2_regularization": 1e-4, "n_estimators": 1, "damping": GainRatio()}
    return {**fixed, "standardize": False, "solver": "primal", "max_iter": 8, "tol": 0.0, "random_state": 0, **changes}


def full_batch(n, hidden, rate):
    """Weights, and seconds as predicted and as measured."""
    X, y = table(n)
    network = FeedForward(X.shape[1], 1, hidden)
    P = network.n_weights
    predicted = rate.seconds(gram_flops(network, n, 1) + CUBIC * P**3 + PASSES * n * P, PASSES * n * sum(hidden))
    return P, predicted, seconds_an_iteration(GNRegressor(**settings(hidden)), X, y)


def mini_batches(n, hidden, rate, batch=1000):
    """The same of a pass of batches."""
    X, y = table(n)
    network = FeedForward(X.shape[1], 1, hidden)
    P = network.n_weights
    one = gram_flops(network, batch, 1) + P**3 / 3 + 2 * PASSES * batch * P
    predicted = rate.seconds(n / batch * one + PASSES * n * P, 3 * PASSES * n * sum(hidden))
    return P, predicted, seconds_an_iteration(GNRegressor(**settings(hidden, batch_size=batch)), X, y)


def cg_product(n, hidden, rate, repeats):
    """The same of a product with the Gauss-Newton matrix."""
    X, _ = table(n)
    network = FeedForward(X.shape[1], 1, hidden)
    w = torch.from_numpy(network.initial_weights(np.random.RandomState(0)))
    jacobian = Jacobian.of_outputs(network, w, FeedForward.with_bias(torch.from_numpy(X)))
    predicted = rate.seconds(PASSES_A_PRODUCT * n * network.n_weights, PASSES_A_PRODUCT * n * sum(hidden))
    with torch.no_grad():
        return network.n_weights, predicted, timed(lambda: jacobian.normal_product(w), repeats)


def on_dask(sizes, rate, workers=2):
    """The same of fits on local worker processes, and the seconds of a round without work."""
    import dask
    import dask.array as da
    from distributed import Client, LocalCluster

    from skgn.dask import DaskGNRegressor

    # Else every temporary is given back to the system at once: docs/dask.md.
    memory = "distributed.nanny.pre-spawn-environ.MALLOC_"
    dask.config.set({memory + "TRIM_THRESHOLD_": 2**28, memory + "MMAP_THRESHOLD_": 2**25})
    rows = []
    with (
        LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address="127.0.0.1:0") as cluster,
        Client(cluster) as client,
    ):
        began = time.perf_counter()
        for _ in range(20):
            client.submit(float, 1, pure=False).result()
        a_round = (time.perf_counter() - began) / 20
        for n, hidden in sizes:
            X, y = table(n)
            network = FeedForward(X.shape[1], 1, hidden)
            P = network.n_weights
            on_workers = rate.seconds(gram_flops(network, n, 1) + PASSES * n * P, PASSES * n * sum(hidden)) / workers
            # Two sums an iteration. Those of up to four workers of one thread go through the scheduler once.
            predicted = on_workers + rate.seconds(CUBIC * P**3, 0) + 2 * a_round
            chunks = n // (2 * workers)
            arrays = da.from_array(X, chunks=(chunks, X.shape[1])), da.from_array(y, chunks=chunks)
            rows.append(
                (
                    "dask, two workers",
                    n,
                    P,
                    predicted,
                    seconds_an_iteration(DaskGNRegressor(**settings(hidden)), *arrays),
                )
            )
    return rows, a_round


def main():
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("csv")
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rate = Rates(arguments.repeats)
    print(f"{rate.products / 1e9:.1f}e9 multiply-adds a second, {1e9 * rate.units:.1f} ns a unit; one thread, float64")
    rows = []
    for n, hidden in [(10_000, (20,)), (100_000, (20,)), (20_000, (60,)), (10_000, (120,))]:
        rows.append(("full batch", n, *full_batch(n, hidden, rate)))
    for n, hidden in [(20_000, (20,)), (100_000, (20,)), (20_000, (60,))]:
        rows.append(("pass of batches of 1,000", n, *mini_batches(n, hidden, rate)))
    for n, hidden in [(20_000, (200,)), (20_000, (2_000,)), (2_000, (20_000,))]:
        rows.append(("cg, one product", n, *cg_product(n, hidden, rate, arguments.repeats)))
    found, a_round = on_dask([(100_000, (20,)), (40_000, (60,))], rate)
    print(f"{1e3 * a_round:.1f} ms a round through the scheduler")
    rows += found
    print(f"{'':26}{'rows':>9}{'weights':>9}{'model [s]':>11}{'measured':>10}{'ratio':>7}")
    for name, n, P, predicted, measured in rows:
        print(f"{name:26}{n:9,}{P:9,}{predicted:11.3f}{measured:10.3f}{measured / predicted:7.2f}")
    with open(arguments.csv, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["kind", "rows", "weights", "model_seconds", "measured_seconds"])
        writer.writerows(rows)


if __name__ == "__main__":
    main()
