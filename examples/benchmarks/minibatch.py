"""Test score against seconds: mini-batches beside the full batch and scikit-learn's adam.

    python examples/benchmarks/minibatch.py DATA_DIR OUT.csv [--names protein-tertiary-structure,satimage] [--seeds 3]
        [--default-seeds 1] [--iterations 1,2,5,10,20,40] [--default-iterations 10]

DATA_DIR holds NAME.npz files, in any folder below it, as `accuracy.py` reads them: the first split, and at most 5,000
training rows for classification. Scores are those of the test part, lower is better: the root mean squared error in
standard deviations of y, or the log loss. Each fit is a fresh one, with

full batch, batches    GNRegressor or GNClassifier with batch_size=None and "auto", either at their defaults ("default")
                       or one network of (16, 16) units with a float l2 ("fixed"); once for each max_iter of the lists,
                       and last with the default max_iter, which is the final score
adam (100,), (16, 16)  MLPRegressor or MLPClassifier on standardised inputs and target, everything else at its default,
                       by partial_fit pass after pass: with (16, 16) for as long as the fixed full batch took, with
                       (100,), its default, for as long as the slowest full batch of that seed

Seconds are those of the processor: with OMP_NUM_THREADS=1 what a quiet machine takes, whatever else runs beside; those
of the clock are in OUT.csv too. "Reached" is when batches first come within one per cent of the final score of the full
batch. For adam the best test score of any pass within the time of the final batches counts, as no user could choose it.
Rows that are there already are kept, so that a run can be resumed. OUT.png has a panel for each set.
"""

from __future__ import annotations

import argparse
import csv
import time
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
from accuracy import load
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import log_loss
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.preprocessing import StandardScaler, scale

from skgn import GNClassifier, GNRegressor

CAP = 5000
NETWORK = (16, 16)
L2 = {True: 1e-5, False: 1e-3}  # regression, classification
WITHIN = 1.01
METHODS = {"full batch": None, "batches": "auto"}
ADAM = {"adam (100,)": (100,), "adam (16, 16)": NETWORK}
COLOURS = {"full batch": "#0072B2", "batches": "#D55E00", "adam (100,)": "#009E73", "adam (16, 16)": "#CC79A7"}
MARKERS = {"default": "s", "fixed": "o"}
FIELDS = ["set", "case", "method", "seed", "max_iter", "passes", "final", "seconds", "clock_seconds", "score"]
NUMBERS = {"seed": int, "max_iter": int, "passes": int, "final": int, "seconds": float, "score": float}
Row = dict[str, Any]


class Data(NamedTuple):
    """Training and test part of one set; targets are floats for regression, else class codes."""

    X: np.ndarray
    y: np.ndarray
    X_test: np.ndarray
    y_test: np.ndarray

    @property
    def regression(self) -> bool:
        return np.issubdtype(self.y.dtype, np.floating)

    def score(self, model: Any, X_test: np.ndarray) -> float:
        """Relative root mean squared error or log loss of predictions for the test inputs as the model wants them."""
        if self.regression:
            return float(np.sqrt(np.mean((self.y_test - model.predict(X_test)) ** 2)) / self.y_test.std())
        p = np.clip(model.predict_proba(X_test), 1e-7, 1)
        return float(log_loss(self.y_test, p / p.sum(axis=1, keepdims=True)))


class Clock:
    """Seconds of the processor and of the clock since it was made."""

    def __init__(self) -> None:
        self._start = time.process_time(), time.perf_counter()

    def read(self) -> dict[str, float]:
        ends = time.process_time(), time.perf_counter()
        return dict(zip(("seconds", "clock_seconds"), np.subtract(ends, self._start).tolist(), strict=True))


def read(folder: Path, name: str) -> Data:
    """The first split of a set."""
    path = next(folder.rglob(f"{name}.npz"))
    with np.load(path) as data:
        regression = np.issubdtype(data["y"].dtype, np.floating)
    X, y, splits = load(path, 1, None if regression else CAP)
    train, test = splits[0]
    return Data(X[train], y[train], X[test], y[test])


def fit(data: Data, case: str, method: str, seed: int, max_iter: int) -> Row:
    """One fit of ours and its score."""
    fixed = {"hidden_layer_sizes": NETWORK, "l2_regularization": L2[data.regression], "n_estimators": 1}
    estimator = GNRegressor if data.regression else GNClassifier
    model = estimator(
        batch_size=METHODS[method], max_iter=max_iter, random_state=seed, **(fixed if case == "fixed" else {})
    )
    clock = Clock()
    model.fit(data.X, data.y)
    return {"max_iter": max_iter, "passes": model.n_iter_, **clock.read(), "score": data.score(model, data.X_test)}


def run_adam(data: Data, hidden: tuple[int, ...], seed: int, limit: float) -> list[Row]:
    """Pass after pass within a limit of seconds, those of the scores not counted."""
    estimator = MLPRegressor if data.regression else MLPClassifier
    model = estimator(hidden_layer_sizes=hidden, random_state=seed)
    total = {"seconds": 0.0, "clock_seconds": 0.0}
    clock = Clock()
    scaler = StandardScaler().fit(data.X)
    X, X_test = scaler.transform(data.X), scaler.transform(data.X_test)
    scaled = data
    if data.regression:
        mean, std = data.y.mean(), data.y.std()
        scaled = data._replace(y=scale(data.y), y_test=(data.y_test - mean) / std)
    classes = {} if data.regression else {"classes": np.unique(data.y)}
    rows: list[Row] = []
    while total["seconds"] <= limit:
        model.partial_fit(X, scaled.y, **(classes if not rows else {}))
        total = {name: total[name] + seconds for name, seconds in clock.read().items()}
        rows.append({"max_iter": 0, "passes": len(rows) + 1, **total, "score": scaled.score(model, X_test)})
        clock = Clock()
    return rows


def median(values: list[float], form: str = ".3g") -> str:
    """Median, and the range of more than one value."""
    middle = format(float(np.median(values)), form)
    return middle if len(values) == 1 else f"{middle} ({min(values):{form}} to {max(values):{form}})"


def summarise(rows: list[Row]) -> None:
    """Print a line for each set and case."""
    for name, case in dict.fromkeys((row["set"], row["case"]) for row in rows if row["case"]):
        here = [row for row in rows if row["set"] == name]
        ends = {(row["method"], row["seed"]): row for row in here if row["case"] == case and row["final"]}
        seeds = [seed for method, seed in ends if method == "batches" and ("full batch", seed) in ends]
        if not seeds:
            continue
        print(f"{name}, {case}, {len(seeds)} seeds")
        for method in METHODS:
            finals = [ends[method, seed] for seed in seeds]
            print(f"  {method:14s} score {median([row['score'] for row in finals], '.4f')}, "
                  f"seconds {median([row['seconds'] for row in finals])}, "
                  f"passes {median([row['passes'] for row in finals], '.0f')}")  # fmt: skip
        reached = []
        for seed in seeds:
            level = WITHIN * ends["full batch", seed]["score"]
            fits = [row for row in here if (row["case"], row["method"], row["seed"]) == (case, "batches", seed)]
            times = [row["seconds"] for row in fits if row["score"] <= level]
            reached.append(min(times, default=np.inf))
        ratios = [ends["full batch", seed]["seconds"] / t for seed, t in zip(seeds, reached, strict=True)]
        print(f"  reached after {median(reached)} s: full batch over that {median(ratios)} (0: never)")
        for method in ADAM:
            best, last, levels = [], [], []
            for seed in seeds:
                passes = [row for row in here if (row["method"], row["seed"]) == (method, seed)]
                level = WITHIN * ends["full batch", seed]["score"]
                scores = [row["score"] for row in passes if row["seconds"] <= ends["batches", seed]["seconds"]]
                best.append(min(scores, default=np.inf))
                last.append(scores[-1] if scores else np.inf)
                levels.append(min((row["seconds"] for row in passes if row["score"] <= level), default=np.inf))
            print(f"  {method:14s} within the time of the batches: best {median(best, '.4f')}, last "
                  f"{median(last, '.4f')}; reached after {median(levels)} s")  # fmt: skip


def draw(rows: list[Row], classifications: set[str], path: Path) -> None:
    """Score against seconds, first seed strong and the others faint."""
    names = list(dict.fromkeys(row["set"] for row in rows))
    figure, axes = plt.subplots(1, len(names), figsize=(3 * len(names), 4), layout="constrained", squeeze=False)
    for ax, name in zip(axes[0], names, strict=True):
        here = [row for row in rows if row["set"] == name]
        for method, case, seed in dict.fromkeys((row["method"], row["case"], row["seed"]) for row in here):
            curve = [row for row in here if (row["method"], row["case"], row["seed"]) == (method, case, seed)]
            curve.sort(key=lambda row: row["seconds"])
            label = f"{method}, {case}" if case else method
            ax.plot(
                [row["seconds"] for row in curve], [row["score"] for row in curve], color=COLOURS[method],
                linestyle="--" if case == "default" else "-", marker=MARKERS.get(case), markersize=4,
                linewidth=1.4 if case else 1.0, alpha=1.0 if seed == 0 else 0.3,
                label=label if seed == 0 else None, zorder=3 if case else 2,
            )  # fmt: skip
        best = min(row["score"] for row in here)
        ax.set(
            xscale="log",
            ylim=(0.97 * best, 1.5 * best),
            xlabel="seconds of the processor",
            ylabel="log loss" if name in classifications else "RMSE / std of y",
        )
        ax.set_title(name, fontsize="medium")
        ax.grid(alpha=0.3)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3, frameon=False, fontsize="small")
    figure.savefig(path, dpi=150)


def recorded(path: Path) -> list[Row]:
    """The rows of the results file."""
    with path.open() as file:
        return [row | {name: kind(row[name]) for name, kind in NUMBERS.items()} for row in csv.DictReader(file)]


def complete(data: Data, name: str, seed: int, ladders: dict[str, list[int]], out: Path) -> None:
    """Run what is missing of one set and seed."""

    def write(key: Row, rows: list[Row]) -> None:
        with out.open("a", newline="") as file:
            csv.DictWriter(file, FIELDS).writerows([{"final": 0, **key, **row} for row in rows])

    def missing(key: Row, **more: Any) -> bool:
        return not any(all(row[k] == v for k, v in (key | more).items()) for row in recorded(out))

    for case, ladder in ladders.items():
        for method in METHODS:
            key = {"set": name, "case": case, "method": method, "seed": seed}
            for max_iter in ladder:
                if missing(key, max_iter=max_iter):
                    row = fit(data, case, method, seed, max_iter)
                    write(key, [row | {"final": int(max_iter == ladder[-1])}])
                    print(name, case, method, seed, row, flush=True)
    for method, hidden in ADAM.items():
        key = {"set": name, "case": "", "method": method, "seed": seed}
        if missing(key):
            cases = ["fixed"] if hidden == NETWORK else list(ladders)
            limit = max(
                row["seconds"] for row in recorded(out)
                if (row["set"], row["method"], row["seed"]) == (name, "full batch", seed) and row["case"] in cases
            )  # fmt: skip
            write(key, run_adam(data, hidden, seed, limit))


def numbers(text: str) -> list[int]:
    """Numbers with commas between them."""
    return [int(part) for part in text.split(",") if part]


def main() -> None:
    """Run what is missing from the results file, print the summary, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--names", default="protein-tertiary-structure,satimage")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--default-seeds", type=int, default=1, help="seeds of the fits at default parameters")
    parser.add_argument("--iterations", type=numbers, default="1,2,5,10,20,40")
    parser.add_argument("--default-iterations", type=numbers, default="10")
    arguments = parser.parse_args()
    # A max_iter that ends a fit is what is measured here.
    warnings.simplefilter("ignore", ConvergenceWarning)
    if not arguments.out.exists():
        with arguments.out.open("w", newline="") as file:
            csv.DictWriter(file, FIELDS).writeheader()
    last = GNRegressor().max_iter
    sets = {name: read(arguments.data, name) for name in arguments.names.split(",")}
    for seed in range(arguments.seeds):
        for name, data in sets.items():
            ladders = {"fixed": [*arguments.iterations, last]}
            if seed < arguments.default_seeds:
                ladders["default"] = [*arguments.default_iterations, last]
            complete(data, name, seed, ladders, arguments.out)
    rows = recorded(arguments.out)
    summarise(rows)
    draw(rows, {name for name, data in sets.items() if not data.regression}, arguments.out.with_suffix(".png"))


if __name__ == "__main__":
    main()
