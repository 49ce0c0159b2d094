"""What `network=` costs: a torch module beside the built-in network of the same architecture.

    OMP_NUM_THREADS=1 python examples/benchmarks/module.py OUT [--rounds 5]

Writes OUT.csv and prints the table: seconds an iteration of both, and their ratio, each the median of some fits in turn
(of ten iterations, less the time of fits of one), and the spread of the ratio over them.
"""

from __future__ import annotations

import argparse
import csv
import time
import warnings
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from torch import nn

from skgn import GNClassifier, GNRegressor
from skgn.damping import GainRatio

ITERATIONS = 10
FIELDS = ["case", "n", "weights", "solver", "built_in", "module", "ratio", "least", "most"]

#: Rows, inputs, hidden layers, classes (0 is a regression), solver.
CASES = [
    (500, 10, (20,), 0, "primal"),
    (5000, 10, (20,), 0, "primal"),
    (2000, 30, (16, 16), 0, "primal"),
    (200, 50, (100,), 0, "dual"),
    (2000, 20, (20,), 5, "primal"),
]


def module(d: int, hidden: tuple[int, ...], k: int) -> nn.Module:
    """The perceptron."""
    widths = (d, *hidden, k)
    layers = [layer for into, out in pairwise(widths) for layer in (nn.Linear(into, out), nn.Tanh())]
    return nn.Sequential(*layers[:-1])


def seconds_an_iteration(model: Any, X: np.ndarray, y: np.ndarray) -> float:
    """Of a fit of ten iterations, less what a fit of one takes: set-up, posterior."""
    taken = []
    for max_iter in (1, ITERATIONS + 1):
        start = time.perf_counter()
        model.set_params(max_iter=max_iter).fit(X, y)
        taken.append(time.perf_counter() - start)
    return (taken[1] - taken[0]) / ITERATIONS


def measure(n: int, d: int, hidden: tuple[int, ...], classes: int, solver: str, rounds: int) -> dict[str, Any]:
    """One row of the table."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n, d))
    f = np.sin(X @ rng.standard_normal((d, max(classes, 1)))) + 0.1 * rng.standard_normal((n, max(classes, 1)))
    estimator, y = (GNClassifier, f.argmax(1)) if classes else (GNRegressor, f[:, 0])
    common = {
        "n_estimators": 1,
        "l2_regularization": 1e-3,
        "tol": 0,
        "solver": solver,
        "damping": GainRatio(step_size=0.5),
        "random_state": 0,
    }
    built_in = estimator(hidden, linear_path=False, **common)
    own = estimator(network=module(d, hidden, max(classes, 1)), **common)
    own.fit(X[: n // 2], y[: n // 2])  # imports
    taken = np.array([[seconds_an_iteration(model, X, y) for model in (built_in, own)] for _ in range(rounds)])
    ratio = taken[:, 1] / taken[:, 0]
    layers = " - ".join(map(str, (d, *hidden, max(classes, 1))))
    values = [layers, n, own.estimators_[0].network.n_weights, solver, *np.median(taken, 0)]
    return dict(zip(FIELDS, [*values, np.median(ratio), ratio.min(), ratio.max()], strict=True))


def main() -> None:
    """Run all cases and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="path of the results, without a suffix")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)
    with arguments.out.with_suffix(".csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, FIELDS)
        writer.writeheader()
        for case in CASES:
            row = measure(*case, arguments.rounds)
            writer.writerow(row)
            file.flush()
            print(
                "{case:16s} n {n:5d}  P {weights:4d}  {solver:6s}  built-in {built_in:.4f} s, module {module:.4f} s an "
                "iteration: {ratio:.1f} times ({least:.1f} to {most:.1f})".format(**row),
                flush=True,
            )


if __name__ == "__main__":
    main()
