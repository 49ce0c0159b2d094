"""How seconds an iteration and peak memory grow with rows, weights and outputs.

    python examples/benchmarks/growth.py OUT [--series rows,weights,outputs,width] [--repeats 3]

Writes OUT.csv and OUT.png and prints slopes of the logarithms. Each case runs in a process of its own: a regression on
random data with 10 features, a float l2 and plain adaptive damping, so that every iteration sees all rows. Series:

rows      n from 1,000 to 1,000,000, 20 hidden units
weights   P from about 100 to 5,000, n = 10,000, primal
outputs   k from 1 to 30, n = 5,000, 20 hidden units
width     20 to 4,000 hidden units, n = 500: more weights than data; beside it the seconds of a forward pass

Seconds are those between iterations, median over REPEATS processes. Memory is what the peak of the process grows by
during `fit`; in brackets, in units of X itself. Set OMP_NUM_THREADS=1 for one thread.
"""

from __future__ import annotations

import argparse
import csv
import multiprocessing
import resource
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
from sklearn.exceptions import ConvergenceWarning

from skgn import GNRegressor
from skgn.damping import GainRatio

FEATURES = 10
ITERATIONS = 4
FIELDS = ["series", "x", "n", "weights", "outputs", "solver", "seconds", "forward_seconds", "megabytes", "copies_of_X"]


class Case(NamedTuple):
    """``x`` is what the series varies."""

    series: str
    x: int
    n: int
    units: int
    outputs: int = 1
    solver: str = "auto"


def n_weights(units: int, outputs: int) -> int:
    """Of one hidden layer with the linear path."""
    return units * (FEATURES + 1) + outputs * (units + FEATURES + 1)


CASES = [
    *(Case("rows", n, n, 20) for n in (1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000)),
    *(Case("weights", n_weights(h, 1), 10_000, h, solver="primal") for h in (8, 20, 50, 100, 200, 415)),
    *(Case("outputs", k, 5_000, 20, k) for k in (1, 3, 10, 30)),
    *(Case("width", h, 500, h) for h in (20, 60, 200, 600, 2_000, 4_000)),
]


def peak() -> float:
    """Largest memory of this process so far, in megabytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(case: Case) -> dict[str, Any]:
    """Fit once; to be called in a fresh process."""
    warnings.simplefilter("ignore", ConvergenceWarning)
    rng = np.random.default_rng(0)
    X = rng.standard_normal((case.n, FEATURES))
    Y = np.sin(X @ rng.standard_normal((FEATURES, case.outputs))) + 0.1 * rng.standard_normal((case.n, case.outputs))
    y = Y[:, 0] if case.outputs == 1 else Y

    def model(units: int, max_iter: int, solver: str) -> GNRegressor:
        fixed = {"l2_regularization": 1e-3, "n_estimators": 1, "tol": 0.0, "random_state": 0}
        return GNRegressor(units, damping=GainRatio(), max_iter=max_iter, solver=solver, **fixed)

    model(2, 1, "auto").fit(X[:100], y[:100])  # what is loaded on first use does not count
    before = peak()
    fitted = model(case.units, ITERATIONS, case.solver).fit(X, y)
    megabytes = peak() - before
    fitted.predict(X)
    start = time.perf_counter()
    fitted.predict(X)
    forward = time.perf_counter() - start
    times = fitted.history_["time"]
    seconds = float(times[-1] - times[0]) / fitted.n_iter_
    copies = megabytes / (X.nbytes / 2**20)
    P = n_weights(case.units, case.outputs)
    values = [case.series, case.x, case.n, P, case.outputs, fitted.solver_, seconds, forward, megabytes, copies]
    return dict(zip(FIELDS, values, strict=True))


def run(case: Case, repeats: int) -> dict[str, Any]:
    """Medians over fresh processes."""
    rows = []
    for _ in range(repeats):
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            rows.append(pool.submit(measure, case).result())
    numbers = FIELDS[FIELDS.index("seconds") :]
    return rows[0] | {field: float(np.median([row[field] for row in rows])) for field in numbers}


def slope(rows: list[dict[str, Any]], field: str) -> float:
    """Slope of the logarithm of a field against that of x, over the upper half of the series."""
    upper = rows[len(rows) // 2 - 1 :]
    x, values = ([np.log(max(row[name], 1e-9)) for row in upper] for name in ("x", field))
    return float(np.polyfit(x, values, 1)[0])


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Seconds an iteration and megabytes against x, a column for each series."""
    series = list(dict.fromkeys(row["series"] for row in rows))
    figure, axes = plt.subplots(
        2, len(series), figsize=(3.2 * len(series), 5.2), layout="constrained", sharex="col", squeeze=False
    )
    for (top, bottom), name in zip(axes.T, series, strict=True):
        here = [row for row in rows if row["series"] == name]
        x = [row["x"] for row in here]
        top.plot(x, [row["seconds"] for row in here], "o-", color="#0072B2", label="iteration")
        if name == "width":
            top.plot(x, [row["forward_seconds"] for row in here], "s--", color="#E69F00", label="predict")
            top.legend(frameon=False)
        bottom.plot(x, [max(row["megabytes"], 0.1) for row in here], "o-", color="#0072B2")
        top.set(xscale="log", yscale="log", title=name)
        bottom.set(yscale="log", xlabel={"rows": "n", "weights": "P", "outputs": "k"}.get(name, "hidden units"))
        for ax in (top, bottom):
            ax.grid(alpha=0.3)
    axes[0, 0].set_ylabel("seconds an iteration")
    axes[1, 0].set_ylabel("megabytes of fit")
    figure.savefig(path, dpi=120)


def main() -> None:
    """Run the series, write the table and the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="path of the results, without a suffix")
    parser.add_argument("--series", default="rows,weights,outputs,width")
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    wanted = arguments.series.split(",")
    rows = []
    with arguments.out.with_suffix(".csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, FIELDS)
        writer.writeheader()
        for case in CASES:
            if case.series in wanted:
                row = run(case, arguments.repeats)
                writer.writerow(row)
                file.flush()
                rows.append(row)
                print(
                    f"{row['series']:8s} {row['x']:8d}  P {row['weights']:6d}  {row['solver']:7s} "
                    f"{row['seconds'] * 1e3:9.2f} ms an iteration, predict {row['forward_seconds'] * 1e3:7.2f} ms, "
                    f"{row['megabytes']:7.1f} MB ({row['copies_of_X']:.1f})",
                    flush=True,
                )
    for name in wanted:
        here = [row for row in rows if row["series"] == name]
        slopes = {field: slope(here, field) for field in ("seconds", "forward_seconds", "megabytes")}
        print(f"{name}: slopes of the upper half: " + ", ".join(f"{k} {v:.2f}" for k, v in slopes.items()))
    draw(rows, arguments.out.with_suffix(".png"))


if __name__ == "__main__":
    main()
