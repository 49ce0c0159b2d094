"""Peak memory of fits against its estimate, which decides what is refused before anything is allocated.

    python examples/benchmarks/memory.py OUT [--solvers primal,dual,cg]

Writes OUT.csv and OUT.png and prints the table. Each case runs in a process of its own: two iterations on random data.
Measured is what the peak of resident memory exceeds, during `fit`, that after imports, data and a small fit;
estimated is `Direction.memory` of the solver. Needs Linux, for /proc. Set OMP_NUM_THREADS=1 for one thread.
"""

from __future__ import annotations

import argparse
import csv
import multiprocessing
import re
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning

from skgn import GNClassifier, GNRegressor
from skgn.directions import DIRECTIONS
from skgn.feedforward import FeedForward
from skgn.memory import Extent

ITERATIONS = 2
MEGABYTE = 2**20
FIELDS = ["solver", "n", "d", "k", "hidden", "l2", "members", "dtype", "weights", "estimated", "measured", "seconds"]


class Case(NamedTuple):
    """One fit; with several outputs a classifier, else a regressor."""

    solver: str
    n: int
    d: int
    k: int
    hidden: tuple[int, ...]
    l2: str | float = 1e-3
    members: int = 1
    dtype: str = "float64"


CASES = [
    Case("primal", 3_000, 20, 1, (60,)),
    Case("primal", 3_000, 20, 1, (120,)),
    Case("primal", 3_000, 20, 1, (180,)),
    Case("primal", 3_000, 20, 1, (180,), "evidence"),
    Case("primal", 3_000, 20, 1, (180,), dtype="float32"),
    Case("primal", 3_000, 20, 1, (180,), members=3),
    Case("primal", 3_000, 20, 1, (50, 50)),
    Case("primal", 3_000, 20, 10, (120,)),
    Case("primal", 3_000, 20, 1, (250,)),
    Case("dual", 1_000, 10, 1, (1_000,)),
    Case("dual", 3_000, 10, 1, (1_000,)),
    Case("dual", 3_000, 10, 1, (1_000,), "evidence"),
    Case("dual", 3_000, 10, 1, (1_000,), dtype="float32"),
    Case("dual", 3_000, 10, 1, (1_000,), members=3),
    Case("dual", 500, 10, 8, (1_000,)),
    Case("dual", 5_000, 10, 1, (1_000,)),
    Case("cg", 20_000, 100, 1, (1_000,)),
    Case("cg", 20_000, 100, 10, (1_000,)),
    Case("cg", 20_000, 100, 1, (1_000, 900)),
    Case("cg", 20_000, 100, 1, (1_000, 900), dtype="float32"),
    Case("cg", 2_000, 100, 1, (9_800,)),
    Case("cg", 2_000, 100, 1, (9_800,), members=3),
]


def status(field: str) -> float:
    """A line of this process's memory, in megabytes."""
    found = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    if found is None:
        raise RuntimeError(f"/proc/self/status has no {field}")
    return int(found.group(1)) / 1024


def measure(case: Case) -> dict[str, Any]:
    """Fit once; to be called in a fresh process."""
    warnings.simplefilter("ignore", ConvergenceWarning)
    rng = np.random.default_rng(0)
    X = rng.standard_normal((case.n, case.d))
    signal = np.sin(X @ rng.standard_normal((case.d, case.k)))
    estimator, y = (GNClassifier, signal.argmax(1)) if case.k > 1 else (GNRegressor, signal[:, 0])
    estimator(2, l2_regularization=1e-3, n_estimators=1, max_iter=1).fit(X[:200], y[:200])
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
    before, start = status("VmRSS"), time.perf_counter()
    model = estimator(
        case.hidden,
        solver=case.solver,
        l2_regularization=case.l2,
        n_estimators=case.members,
        dtype=case.dtype,
        max_iter=ITERATIONS,
        tol=0.0,
        random_state=0,
    ).fit(X, y)
    seconds, measured = time.perf_counter() - start, status("VmHWM") - before
    network: FeedForward = model.estimators_[0].network
    extent = Extent(network, case.n, case.k, getattr(torch, case.dtype), candidates=case.members)
    estimated = DIRECTIONS[case.solver].memory(extent) / MEGABYTE
    hidden = "-".join(map(str, case.hidden))
    values = [case.solver, case.n, case.d, case.k, hidden, case.l2, case.members, case.dtype, network.n_weights]
    return dict(zip(FIELDS, [*values, estimated, measured, seconds], strict=True))


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Measured against estimated."""
    figure, ax = plt.subplots(figsize=(5, 4.5), layout="constrained")
    for solver, colour in [("primal", "#0072B2"), ("dual", "#E69F00"), ("cg", "#009E73")]:
        here = [row for row in rows if row["solver"] == solver]
        if here:
            ax.plot(
                [row["estimated"] for row in here], [row["measured"] for row in here], "o", color=colour, label=solver
            )
    ends = np.array([min(row["estimated"] for row in rows), max(row["estimated"] for row in rows)])
    ax.plot(ends, ends, color="0.5", linewidth=1)
    ax.fill_between(ends, 0.7 * ends, 1.3 * ends, color="0.5", alpha=0.2, label="within 30 %")
    ax.set(xscale="log", yscale="log", xlabel="estimated MB", ylabel="measured MB")
    ax.grid(alpha=0.3)
    ax.legend(frameon=False)
    figure.savefig(path, dpi=120)


def main() -> None:
    """Run the cases, write the table and the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="path of the results, without a suffix")
    parser.add_argument("--solvers", default="primal,dual,cg")
    arguments = parser.parse_args()
    rows = []
    with arguments.out.with_suffix(".csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, FIELDS)
        writer.writeheader()
        for case in CASES:
            if case.solver in arguments.solvers.split(","):
                with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
                    row = pool.submit(measure, case).result()
                writer.writerow(row)
                file.flush()
                rows.append(row)
                print(
                    "{solver:6s} n {n:6d}  d {d:3d}  k {k:2d}  hidden {hidden:8s}  l2 {l2!s:8s}  members {members}  "
                    "{dtype}  P {weights:7d}  estimated {estimated:6.0f} MB, measured {measured:6.0f} MB, "
                    "{seconds:5.1f} s".format(**row),
                    flush=True,
                )
    draw(rows, arguments.out.with_suffix(".png"))


if __name__ == "__main__":
    main()
