"""A stream of a million rows: memory, seconds and test score block after block.

    python examples/benchmarks/stream.py OUT.csv [--rows 1000000] [--block 10000] [--passes 3]

Friedman's first function of ten uniform features, five of them without effect, with normal noise of standard deviation
1 (that of the target is about 5). The rows are written block by block to a temporary file, which each method reads as a
numpy.memmap, in a process of its own:

stream, evidence     GNRegressor(n_estimators=1, random_state=0).partial_fit, one call a block
stream, l2           the same with l2_regularization=1e-4
adam                 MLPRegressor.partial_fit at its defaults, inputs and target scaled by the first block
fit, batches         GNRegressor(n_estimators=1, l2_regularization=1e-4, batch_size="auto").fit on the whole file, with
                     max_iter=PASSES

Errors are those to the function without its noise on 10,000 test rows, in the units of the noise. Memory is what the
process has resident (Linux), from which that before the first block is subtracted; the file is opened anew for each
block, so that no pages of earlier blocks count. Seconds are those of the processor, with OMP_NUM_THREADS=1 what a quiet
machine takes. Writes OUT.csv and, beside it, OUT.png.
"""

from __future__ import annotations

import argparse
import csv
import multiprocessing
import os
import resource
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPRegressor
from sklearn.preprocessing import StandardScaler

from skgn import GNRegressor

FEATURES = 10
L2 = 1e-4
COLOURS = {"stream, evidence": "#0072B2", "stream, l2": "#D55E00", "adam": "#009E73", "fit, batches": "#CC79A7"}
FIELDS = ["method", "block", "rows", "seconds", "total_seconds", "megabytes", "peak_megabytes", "rmse"]
Row = dict[str, Any]


class Source(NamedTuple):
    """A file of rows, each its features and then its target."""

    path: Path
    rows: int
    block: int

    def open(self) -> np.memmap:
        return np.memmap(self.path, dtype=np.float64, mode="r", shape=(self.rows, FEATURES + 1))

    def blocks(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Copies, after which the file is closed again."""
        for start in range(0, self.rows, self.block):
            rows = np.array(self.open()[start : start + self.block])
            yield rows[:, :-1], rows[:, -1]


def friedman(X: np.ndarray) -> np.ndarray:
    """Friedman's first function of the first five features, which are in [0, 1]."""
    return 10 * np.sin(np.pi * X[:, 0] * X[:, 1]) + 20 * (X[:, 2] - 0.5) ** 2 + 10 * X[:, 3] + 5 * X[:, 4]


def write(source: Source) -> None:
    """Draw the rows block by block, so that all of them are never in memory."""
    data = np.memmap(source.path, dtype=np.float64, mode="w+", shape=(source.rows, FEATURES + 1))
    for start in range(0, source.rows, source.block):
        rng = np.random.default_rng([0, start])
        X = rng.random((min(source.block, source.rows - start), FEATURES))
        data[start : start + len(X), :-1] = X
        data[start : start + len(X), -1] = friedman(X) + rng.standard_normal(len(X))
    data.flush()


def resident() -> float:
    """Resident memory of this process, in megabytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def peak() -> float:
    """Largest resident memory of this process so far, in megabytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


class Scaled:
    """scikit-learn's network on inputs and a target that are scaled by the first block."""

    def __init__(self) -> None:
        self._model = MLPRegressor(random_state=0)

    def partial_fit(self, X: np.ndarray, y: np.ndarray) -> None:
        if not hasattr(self, "_scaler"):
            self._scaler, self._mean, self._std = StandardScaler().fit(X), y.mean(), y.std()
        self._model.partial_fit(self._scaler.transform(X), (y - self._mean) / self._std)

    def predict(self, X: np.ndarray) -> np.ndarray:
        return self._mean + self._std * self._model.predict(self._scaler.transform(X))


def stream(make: Callable[[], Any], source: Source, test: tuple[np.ndarray, np.ndarray], name: str) -> list[Row]:
    """A row after each block."""
    model, rows, total, before = make(), [], 0.0, resident()
    for number, (X, y) in enumerate(source.blocks(), start=1):
        start = time.process_time()
        model.partial_fit(X, y)
        seconds = time.process_time() - start
        total += seconds
        memory = resident() - before
        rmse = float(np.sqrt(np.mean((model.predict(test[0]) - test[1]) ** 2)))
        values = [name, number, min(number * source.block, source.rows), seconds, total, memory, peak() - before, rmse]
        rows.append(dict(zip(FIELDS, values, strict=True)))
    return rows


def whole(source: Source, test: tuple[np.ndarray, np.ndarray], name: str, passes: int) -> list[Row]:
    """One row, for the fit on all rows."""
    data, before = source.open(), resident()
    model = GNRegressor(n_estimators=1, l2_regularization=L2, batch_size="auto", max_iter=passes, random_state=0)
    start = time.process_time()
    model.fit(data[:, :-1], data[:, -1])
    seconds = time.process_time() - start
    memory = resident() - before
    rmse = float(np.sqrt(np.mean((model.predict(test[0]) - test[1]) ** 2)))
    return [dict(zip(FIELDS, [name, 0, source.rows, seconds, seconds, memory, peak() - before, rmse], strict=True))]


def measure(name: str, source: Source, passes: int) -> list[Row]:
    """All rows of a method; to be called in a fresh process."""
    warnings.simplefilter("ignore", ConvergenceWarning)
    rng = np.random.default_rng(1)
    X = rng.random((10_000, FEATURES))
    test = X, friedman(X)
    # What is loaded on first use does not count.
    GNRegressor(2, n_estimators=1, max_iter=1, random_state=0).partial_fit(X[:100], test[1][:100])
    MLPRegressor(hidden_layer_sizes=2).partial_fit(X[:100], test[1][:100])
    if name == "fit, batches":
        return whole(source, test, name, passes)
    makers: dict[str, Callable[[], Any]] = {
        "stream, evidence": lambda: GNRegressor(n_estimators=1, random_state=0),
        "stream, l2": lambda: GNRegressor(n_estimators=1, random_state=0, l2_regularization=L2),
        "adam": Scaled,
    }
    return stream(makers[name], source, test, name)


def summarise(rows: list[Row], block: int) -> None:
    """Print a line for each method."""
    for method in dict.fromkeys(row["method"] for row in rows):
        here = [row for row in rows if row["method"] == method]
        last = here[-1]
        if len(here) == 1:
            print(f"{method:18s} {last['total_seconds']:.1f} s, peak {last['peak_megabytes']:.0f} MB, "
                  f"RMSE {last['rmse']:.4f}")  # fmt: skip
            continue
        seconds = [row["seconds"] for row in here]
        middle = here[len(here) // 10 - 1]
        print(f"{method:18s} {last['total_seconds']:.1f} s, a block of {block} rows {np.median(seconds):.3f} s "
              f"({min(seconds):.3f} to {max(seconds):.3f}); MB after block 2: {here[1]['megabytes']:.1f}, after block "
              f"{last['block']}: {last['megabytes']:.1f}, peak {here[1]['peak_megabytes']:.1f} and "
              f"{last['peak_megabytes']:.1f}; RMSE after block 1: {here[0]['rmse']:.3f}, {middle['block']}: "
              f"{middle['rmse']:.4f}, {last['block']}: {last['rmse']:.4f}")  # fmt: skip


def draw(rows: list[Row], path: Path) -> None:
    """Error and memory against the rows seen."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(6, 4), layout="constrained")
    for method in dict.fromkeys(row["method"] for row in rows):
        here = [row for row in rows if row["method"] == method]
        seen, colour = [row["rows"] for row in here], COLOURS[method]
        if len(here) == 1:
            left.plot(seen, [here[0]["rmse"]], "*", color=colour, label=method, markersize=10, zorder=3)
            right.plot(seen, [here[0]["peak_megabytes"]], "*", color=colour, markersize=10, zorder=3)
            continue
        left.plot(seen, [row["rmse"] for row in here], color=colour, label=method)
        right.plot(seen, [row["megabytes"] for row in here], color=colour)
        right.plot(seen, [row["peak_megabytes"] for row in here], color=colour, linestyle=":")
    left.set(xscale="log", yscale="log", xlabel="rows seen", ylabel="RMSE to the function (noise: 1)")
    right.set(xscale="log", yscale="log", xlabel="rows seen", ylabel="MB after a block (dotted: peak)")
    for ax in (left, right):
        ax.grid(alpha=0.3)
    figure.legend(*left.get_legend_handles_labels(), loc="outside upper center", ncols=4, frameon=False, fontsize=8)
    figure.savefig(path, dpi=150)


def main() -> None:
    """Write the rows, run the methods, write the table and the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--block", type=int, default=10_000)
    parser.add_argument("--passes", type=int, default=3, help="max_iter of the fit on all rows")
    arguments = parser.parse_args()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder, arguments.out.open("w", newline="") as file:
        writer = csv.DictWriter(file, FIELDS)
        writer.writeheader()
        source = Source(Path(folder) / "rows", arguments.rows, arguments.block)
        write(source)
        for name in COLOURS:
            with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
                rows += pool.submit(measure, name, source, arguments.passes).result()
            writer.writerows(row for row in rows if row["method"] == name)
            file.flush()
    summarise(rows, arguments.block)
    draw(rows, arguments.out.with_suffix(".png"))


if __name__ == "__main__":
    main()
