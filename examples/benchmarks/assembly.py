"""Assembling the Gram matrix and the kernel against the plain product of a Jacobian that is already in memory.

    python examples/benchmarks/assembly.py OUT [--repeats 7]

Writes OUT.csv and OUT.png. For each shape (samples n, features d, hidden units h, outputs k) and dtype, the median
seconds, over REPEATS rounds that alternate between the two, of ``J.T @ J`` with the (n k, P) Jacobian J in memory, and
of `Jacobian.gram` from weights and inputs alone: forward and backward pass included, J never formed as a whole. The
same for the kernel ``J @ J.T`` where there are many more weights than samples. Below 1 assembly is the faster.
"""

from __future__ import annotations

import argparse
import csv
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch

from skgn.feedforward import FeedForward
from skgn.jacobian import Jacobian
from skgn.losses import SoftmaxLoss, SquaredError
from skgn.objective import Objective

GRAM_SHAPES = [(1000, 8, 20, 1), (8000, 16, 50, 1), (20000, 30, 64, 1), (5000, 20, 32, 10)]
KERNEL_SHAPES = [(500, 8, 200, 1), (500, 8, 2000, 1), (1000, 30, 500, 1)]
DTYPES = [torch.float64, torch.float32]
FIELDS = ["system", "n", "d", "h", "k", "P", "dtype", "product_seconds", "assembly_seconds", "ratio", "low", "high"]


def jacobian(n: int, d: int, h: int, k: int, dtype: torch.dtype) -> Callable[[], Jacobian]:
    """Makes the Jacobian of a network at its initial weights on normal inputs, anew at each call."""
    network, rng = FeedForward(d, k, (h,)), np.random.RandomState(0)
    X = torch.from_numpy(rng.standard_normal((n, d))).to(dtype)
    Y = torch.eye(k, dtype=dtype)[torch.from_numpy(rng.randint(k, size=n))] if k > 1 else X[:, :1]
    loss = SoftmaxLoss() if k > 1 else SquaredError()
    objective = Objective(network, loss, X, Y, torch.ones(n, dtype=dtype))
    w = torch.from_numpy(network.initial_weights(rng))
    return lambda: objective.jacobian(objective.evaluate(w))


def seconds(work: Callable[[], Any]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def measure(system: str, shape: tuple[int, int, int, int], dtype: torch.dtype, repeats: int) -> dict[str, Any]:
    """One row of the table: both ways in turn, after a warm-up of each."""
    make = jacobian(*shape, dtype)
    J = make().dense()
    ones = [torch.ones(into, dtype=dtype) for _, into in make().network.shapes]
    if system == "gram":
        ways = (lambda: J.T @ J, lambda: make().gram())
    else:
        ways = (lambda: J @ J.T, lambda: make().kernel(ones))
    expected, assembled = (way() for way in ways)
    # The two must be the same matrix, or their times mean nothing.
    error = float((expected - assembled).abs().max() / expected.abs().max())
    if error > 1e4 * torch.finfo(dtype).eps:
        raise RuntimeError(f"{system} of {shape} in {dtype} differs from the product by {error:.1e}")
    # Short ones more often, and not counted while the allocator still gets used to their sizes.
    rounds = max(repeats, min(100, math.ceil(0.5 / sum(map(seconds, ways)))))
    times = np.array([[seconds(way) for way in ways] for _ in range(2 * rounds)])[rounds:]
    product, assembly = np.median(times, axis=0)
    low, high = np.percentile(times[:, 1] / times[:, 0], [25, 75])
    values = [system, *shape, J.shape[1], str(dtype).removeprefix("torch."), product, assembly, assembly / product]
    return dict(zip(FIELDS, [*values, low, high], strict=True))


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Ratios by shape, with their quartiles."""
    figure, axes = plt.subplots(1, 2, figsize=(9, 4), layout="constrained", sharey=True)
    for ax, system in zip(axes, ["gram", "kernel"], strict=True):
        for dtype, colour, shift in [("float64", "tab:blue", -0.12), ("float32", "tab:orange", 0.12)]:
            chosen = [row for row in rows if row["system"] == system and row["dtype"] == dtype]
            x, ratio = np.arange(len(chosen)) + shift, np.array([row["ratio"] for row in chosen])
            # The median of the ratios' quartiles need not enclose the ratio of the medians.
            spread = [
                [max(0.0, row["ratio"] - row["low"]) for row in chosen],
                [max(0.0, row["high"] - row["ratio"]) for row in chosen],
            ]
            ax.errorbar(x, ratio, spread, fmt="o", color=colour, capsize=3, label=dtype)
        labels = [f"n={r['n']}, k={r['k']}\nP={r['P']}" for r in rows if r["system"] == system][:: len(DTYPES)]
        ax.set_xticks(range(len(labels)), labels, fontsize=8)
        ax.axhline(1, color="0.5", linewidth=1, linestyle="--")
        ax.set(yscale="log", title="Gram matrix J'J" if system == "gram" else "kernel JJ'")
        ax.grid(axis="y", alpha=0.3, which="both")
    axes[0].set_ylabel("seconds of assembly / of the plain product")
    axes[0].legend()
    figure.savefig(path, dpi=120)


def main() -> None:
    """Measure every shape, write the table and the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="path of the results, without a suffix")
    parser.add_argument("--repeats", type=int, default=7)
    arguments = parser.parse_args()
    rows = []
    with torch.no_grad(), arguments.out.with_suffix(".csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, FIELDS)
        writer.writeheader()
        for system, shapes in [("gram", GRAM_SHAPES), ("kernel", KERNEL_SHAPES)]:
            for shape in shapes:
                for dtype in DTYPES:
                    row = measure(system, shape, dtype, arguments.repeats)
                    writer.writerow(row)
                    rows.append(row)
                    print("{system:6s} n={n} d={d} h={h} k={k} P={P} {dtype}: ratio {ratio:.2f}".format(**row))
    draw(rows, arguments.out.with_suffix(".png"))


if __name__ == "__main__":
    main()
