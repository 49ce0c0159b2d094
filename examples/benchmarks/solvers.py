"""Seconds until the same objective with each solver of the Gauss-Newton system.

    python examples/benchmarks/solvers.py OUT [--l2 1e-3,1e-5] [--max-iter 100]

Writes OUT.csv and OUT.png and prints the table. Digits (1,797 images, 10 classes) for classification and a smooth
function of 10 features for regression; a float l2, one network, the same initial weights. Seconds are those until the
objective is within 5 % of the lowest that any of the solvers reaches. Set OMP_NUM_THREADS=1 for one thread.
"""

from __future__ import annotations

import argparse
import csv
import time
import warnings
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning

from skgn import GNClassifier, GNRegressor

SOLVERS = {"primal": "#0072B2", "dual": "#E69F00", "cg": "#009E73"}
CLOSE = 1.05
FIELDS = ["case", "l2", "solver", "weights", "iterations", "objective", "seconds_all", "seconds"]

#: Estimator, rows and hidden layers; and the solvers that take minutes there, left out.
CASES: list[tuple[str, type, int, tuple[int, ...], set[str]]] = [
    ("digits 10", GNClassifier, 1797, (10,), {"dual"}),
    ("digits 30", GNClassifier, 1797, (30,), {"dual"}),
    ("digits 30-30", GNClassifier, 1797, (30, 30), {"dual"}),
    ("regression 20", GNRegressor, 5000, (20,), {"dual"}),
    ("regression 50", GNRegressor, 5000, (50,), {"dual"}),
    ("regression 100", GNRegressor, 5000, (100,), {"dual"}),
    ("wide regression 300", GNRegressor, 1500, (300,), {"primal"}),
]


def data(estimator: type, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and target."""
    if estimator is GNClassifier:
        return load_digits(return_X_y=True)
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n, 10))
    y = np.sin(X @ rng.standard_normal(10)) + np.cos(X[:, 0] * X[:, 1]) + 0.1 * rng.standard_normal(n)
    return X, y


def measure(
    case: str, estimator: type, n: int, hidden: tuple[int, ...], left_out: set[str], l2: float, max_iter: int
) -> list[dict[str, Any]]:
    """Rows of the table for one problem."""
    X, y = data(estimator, n)
    rows, histories = [], []
    for solver in SOLVERS:
        if solver in left_out:
            continue
        start = time.perf_counter()
        model = estimator(
            hidden, solver=solver, l2_regularization=l2, n_estimators=1, max_iter=max_iter, random_state=0
        ).fit(X, y)
        seconds = time.perf_counter() - start
        histories.append(model.history_)
        objective = float(model.history_["objective"][-1])
        values = [case, l2, solver, model.estimators_[0].network.n_weights, model.n_iter_, objective, seconds]
        rows.append(dict(zip(FIELDS, values, strict=False)))
    best = min(row["objective"] for row in rows)
    for row, history in zip(rows, histories, strict=True):
        close = np.flatnonzero(history["objective"] <= CLOSE * best)
        row["seconds"] = float(history["time"][close[0]]) if len(close) else np.nan
    return rows


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Seconds of each solver by problem."""
    problems = list(dict.fromkeys((row["case"], row["l2"]) for row in rows))
    figure, ax = plt.subplots(figsize=(8, 4), layout="constrained")
    for solver, colour in SOLVERS.items():
        here = [row for row in rows if row["solver"] == solver]
        x = [problems.index((row["case"], row["l2"])) for row in here]
        ax.plot(x, [row["seconds"] for row in here], "o", color=colour, label=solver)
    labels = [f"{case}\nl2 = {l2:g}" for case, l2 in problems]
    ax.set_xticks(range(len(labels)), labels, rotation=45, ha="right", fontsize=8)
    ax.set(yscale="log", ylabel=f"seconds to {CLOSE:g} times the lowest objective")
    ax.grid(axis="y", alpha=0.3, which="both")
    ax.legend(frameon=False)
    figure.savefig(path, dpi=120)


def main() -> None:
    """Run all problems, write the table and the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="path of the results, without a suffix")
    parser.add_argument("--l2", default="1e-3,1e-5")
    parser.add_argument("--max-iter", type=int, default=100)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)
    rows = []
    with arguments.out.with_suffix(".csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, FIELDS)
        writer.writeheader()
        for case, estimator, n, hidden, left_out in CASES:
            for l2 in map(float, arguments.l2.split(",")):
                for row in measure(case, estimator, n, hidden, left_out, l2, arguments.max_iter):
                    writer.writerow(row)
                    file.flush()
                    rows.append(row)
                    print(
                        "{case:20s} l2 {l2:g}  {solver:6s} P {weights:5d}  {iterations:3d} iterations to "
                        "{objective:.4g} in {seconds_all:6.2f} s, {seconds:6.2f} s to the common objective".format(
                            **row
                        ),
                        flush=True,
                    )
    draw(rows, arguments.out.with_suffix(".png"))


if __name__ == "__main__":
    main()
