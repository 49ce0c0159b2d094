"""Time until the training objective is low: the same network and objective for all methods.

    python examples/benchmarks/time_to_objective.py OUT [--data DIR] [--names energy,digits] [--seeds 5] [--limit 10]
        [--methods skgn,lbfgs] [--l2 0,0.001]

Writes OUT.csv, and OUT.png with the curves of the first seed. One hidden layer of 20 tanh units on standardised inputs
(and target), its initial weights drawn from the same distribution. Objective: the mean of half the squared error, or of
the log loss, plus l2 / 2 times the sum of squared weights, biases included. DIR holds NAME.npz files as `accuracy.py`
reads them; without it the data sets are those that come with scikit-learn. Methods:

skgn            GNRegressor or GNClassifier, one network, adaptive damping; whatever `fit` does before counts
torch-lm        torch-levenberg-marquardt with Cholesky, in float64; log losses by the root of the loss, as it offers
lbfgs, adam     scikit-learn's MLPRegressor or MLPClassifier, the defaults else
least-squares   scipy.optimize.least_squares with the analytic Jacobian; regression only

Each runs until it stops by itself or LIMIT seconds are over. "Best" is the lowest objective of any method and seed on
that set and l2, or a millionth of the first if that is more. For 3, 1.5 and 1.1 times the best the tables show median
seconds over the seeds; a run that does not get there counts as infinite. Set OMP_NUM_THREADS=1 for one thread.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import importlib.util
import io
import itertools
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
from accuracy import load
from scipy.optimize import least_squares
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_wine
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.preprocessing import scale

from skgn import GNClassifier, GNRegressor

UNITS = 20
FACTORS = (3.0, 1.5, 1.1)
DEFAULT_SETS = (
    "energy,concrete,kin8nm,power-plant,naval-propulsion-plant,digits,satimage,segment,diabetes,wine,breast_cancer"
)
COLOURS = {
    "skgn": "#0072B2",
    "torch-lm": "#E69F00",
    "lbfgs": "#009E73",
    "adam": "#CC79A7",
    "least-squares": "#D55E00",
}


class Problem(NamedTuple):
    """Standardised inputs (n, d), target (n,) or class codes, initial layers [(in, out), (out,)], seed, l2, seconds."""

    X: np.ndarray
    y: np.ndarray
    layers: list[tuple[np.ndarray, np.ndarray]]
    seed: int
    l2: float
    limit: float

    @property
    def regression(self) -> bool:
        return np.issubdtype(self.y.dtype, np.floating)


class Point(NamedTuple):
    """Seconds of training, iterations (evaluations for lbfgs and least-squares, epochs for adam), objective."""

    seconds: float
    iteration: int
    objective: float


class TimeIsUp(Exception):
    """Raised inside a method that has no time limit of its own."""


def initial_layers(d: int, k: int, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Normal with variance 1 / fan-in, the bias counted; the readout's bias is 0: as skgn draws them."""
    random = np.random.default_rng(seed)
    hidden = random.standard_normal((d + 1, UNITS)) / np.sqrt(d + 1)
    return [(hidden[:-1], hidden[-1]), (random.standard_normal((UNITS, k)) / np.sqrt(UNITS), np.zeros(k))]


def objective(problem: Problem, layers: list[tuple[np.ndarray, np.ndarray]]) -> float:
    """The objective at the weights of two layers."""
    (V, b), (W, c) = layers
    f = np.tanh(problem.X @ V + b) @ W + c
    if problem.regression:
        loss = 0.5 * np.mean((f[:, 0] - problem.y) ** 2)
    elif f.shape[1] == 1:
        loss = np.mean(np.logaddexp(0, f[:, 0]) - problem.y * f[:, 0])
    else:
        high = f.max(axis=1)
        loss = np.mean(high + np.log(np.exp(f - high[:, None]).sum(axis=1)) - f[np.arange(len(f)), problem.y])
    return float(loss + problem.l2 / 2 * sum(np.square(values).sum() for layer in layers for values in layer))


class Clock(io.TextIOBase):
    """Notes when the line of each iteration is printed."""

    def __init__(self) -> None:
        self.start = time.perf_counter()
        self.seconds: list[float] = []

    def write(self, text: str) -> int:
        if text.startswith("iteration"):
            self.seconds.append(time.perf_counter() - self.start)
        return len(text)


def run_skgn(problem: Problem) -> list[Point]:
    """Ours; a short first fit tells how many iterations the limit has room for."""
    estimator = GNRegressor if problem.regression else GNClassifier
    fixed = {"linear_path": False, "standardize": False, "l2_regularization": problem.l2, "n_estimators": 1}

    def fit(max_iter: int) -> tuple[Any, list[float]]:
        model = estimator(UNITS, **fixed, max_iter=max_iter, tol=0.0, verbose=2, random_state=problem.seed)
        clock = Clock()
        with contextlib.redirect_stdout(clock):
            model.fit(problem.X, problem.y)
        return model, clock.seconds

    pilot, seconds = fit(20)
    model, seconds = fit(int(1.2 * problem.limit / seconds[-1] * max(1, pilot.n_iter_)) + 20)
    # Lines that come before the history belong to a start on a sample of the rows, whose objective is another.
    curve = model.history_["objective"]
    values = zip(seconds[-len(curve) :], curve, strict=True)
    return [Point(t, i, float(F)) for i, (t, F) in enumerate(values) if t <= problem.limit]


def run_mlp(problem: Problem, solver: str) -> list[Point]:
    """scikit-learn's MLP, its penalty extended to the biases; times without those of the record."""
    base = MLPRegressor if problem.regression else MLPClassifier
    points: list[Point] = []
    layers = iter(problem.layers)
    clock = time.perf_counter()

    class Recorded(base):  # type: ignore[misc, valid-type]
        def _init_coef(self, fan_in: int, fan_out: int, dtype: Any) -> tuple[np.ndarray, np.ndarray]:
            W, b = next(layers)
            return W.copy(), b.copy()

        def _backprop(self, *arguments: Any) -> tuple[float, list[np.ndarray], list[np.ndarray]]:
            loss, coefs, intercepts = super()._backprop(*arguments)
            for b, gradient in zip(self.intercepts_, intercepts, strict=True):
                gradient += problem.l2 * b
                loss += problem.l2 / 2 * b @ b
            if solver == "lbfgs":
                seconds = time.perf_counter() - clock
                points.append(Point(seconds, len(points), float(loss)))
                if seconds > problem.limit:
                    raise TimeIsUp
            return loss, coefs, intercepts

    # scikit-learn divides its penalty by the samples of a batch.
    n = len(problem.X)
    rows = n if solver == "lbfgs" else min(200, n)
    model = Recorded(
        hidden_layer_sizes=(UNITS,),
        activation="tanh",
        solver=solver,
        alpha=problem.l2 * rows,
        max_iter=10**9,
        max_fun=10**9,
        tol=0.0,
    )
    if solver == "lbfgs":
        try:
            model.fit(problem.X, problem.y)
        except TimeIsUp:
            points.pop()
        return points
    classes = {} if problem.regression else {"classes": np.unique(problem.y)}
    seconds = 0.0
    while seconds <= problem.limit:
        start = time.perf_counter()
        model.partial_fit(problem.X, problem.y, **(classes if not points else {}))
        seconds += time.perf_counter() - start
        value = objective(problem, list(zip(model.coefs_, model.intercepts_, strict=True)))
        points.append(Point(seconds, len(points) + 1, value))
    return points


def run_least_squares(problem: Problem) -> list[Point]:
    """SciPy's trust region; the penalty is rows sqrt(n l2) w."""
    X, y, (n, d) = problem.X, problem.y, problem.X.shape
    root = np.sqrt(n * problem.l2)
    points: list[Point] = []
    clock = time.perf_counter()

    def split(w: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        V = w[: (d + 1) * UNITS].reshape(d + 1, UNITS)
        return np.tanh(X @ V[:-1] + V[-1]), V, w[(d + 1) * UNITS :]

    def residuals(w: np.ndarray) -> np.ndarray:
        a, _, c = split(w)
        r = np.concatenate([a @ c[:-1] + c[-1] - y, root * w]) if root else a @ c[:-1] + c[-1] - y
        seconds = time.perf_counter() - clock
        points.append(Point(seconds, len(points), float(0.5 * r @ r / n)))
        if seconds > problem.limit:
            raise TimeIsUp
        return r

    def jacobian(w: np.ndarray) -> np.ndarray:
        a, _, c = split(w)
        rows = n + (len(w) if root else 0)
        J = np.zeros((rows, len(w)))
        back = (1 - a * a) * c[:-1]
        np.multiply(X[:, :, None], back[:, None, :], out=J[:n, : d * UNITS].reshape(n, d, UNITS))
        J[:n, d * UNITS : (d + 1) * UNITS] = back
        J[:n, (d + 1) * UNITS : -1], J[:n, -1] = a, 1
        if root:
            np.fill_diagonal(J[n:], root)
        return J

    w = np.concatenate([values.ravel() for layer in problem.layers for values in layer])
    try:
        least_squares(residuals, w, jacobian, max_nfev=10**9, ftol=None, xtol=1e-15, gtol=None)
    except TimeIsUp:
        points.pop()
    return points


def run_torch_lm(problem: Problem) -> list[Point]:
    """torch-levenberg-marquardt, the penalty added to the system that it solves; times without the first call's."""
    import torch
    import torch_levenberg_marquardt as tlm

    X = torch.from_numpy(problem.X)
    Y = torch.from_numpy(problem.y)
    if problem.regression:
        Y = Y[:, None]
    k = problem.layers[-1][0].shape[1]
    model = torch.nn.Sequential(torch.nn.Linear(X.shape[1], UNITS), torch.nn.Tanh(), torch.nn.Linear(UNITS, k))
    model = model.double()
    with torch.no_grad():
        for layer, (W, b) in zip((model[0], model[2]), problem.layers, strict=True):
            layer.weight.copy_(torch.from_numpy(W.T))
            layer.bias.copy_(torch.from_numpy(b))
    weights = list(model.parameters())

    def penalty() -> torch.Tensor:
        return problem.l2 / 2 * sum(values.square().sum() for values in weights)

    class HalfSquares(tlm.loss.MSELoss):  # type: ignore[misc]
        def forward(self, f: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return 0.5 * (f - y).square().mean() + penalty()

    class RootLogLoss(tlm.loss.CrossEntropyLoss):  # type: ignore[misc]
        def forward(self, f: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return super().forward(f, y) + penalty()

    # The system is J'J / n with squared residuals that are twice the squared-error loss, or the log loss itself.
    l2 = problem.l2 * (1.0 if problem.regression else 0.5)

    class Penalised(tlm.training.LevenbergMarquardtModule):  # type: ignore[misc]
        def _solve(self, matrix: torch.Tensor, rhs: torch.Tensor) -> torch.Tensor:
            ridge = l2 * torch.eye(len(matrix), dtype=matrix.dtype)
            return super()._solve(matrix + ridge, rhs + l2 * self.flat_params[:, None])

    def module() -> Any:
        loss = HalfSquares() if problem.regression else RootLogLoss()
        kind = Penalised if problem.l2 else tlm.training.LevenbergMarquardtModule
        return kind(model, loss, solve_method="cholesky")

    trainer = module()
    if trainer.flat_params.numel() > len(X):
        raise ValueError("Fewer samples than weights: its system is the kernel then, without the penalty.")
    points = []
    seconds = 0.0
    while seconds <= problem.limit:
        start = time.perf_counter()
        _, loss, stop, _ = trainer.training_step(X, Y)
        seconds += time.perf_counter() - start
        points.append(Point(seconds, len(points) + 1, float(loss)))
        if stop or not np.isfinite(points[-1].objective):
            break
    return points


METHODS: dict[str, Callable[[Problem], list[Point]]] = {
    "skgn": run_skgn,
    "torch-lm": run_torch_lm,
    "lbfgs": lambda problem: run_mlp(problem, "lbfgs"),
    "adam": lambda problem: run_mlp(problem, "adam"),
    "least-squares": run_least_squares,
}


def datasets(folder: Path | None, names: list[str]) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Name, standardised inputs, and standardised target or class codes: training rows of the first split."""
    readers = (load_diabetes, load_digits, load_wine, load_breast_cancer)
    bundled = {read.__name__.removeprefix("load_"): read for read in readers}
    for name in names:
        paths = [] if folder is None else sorted(folder.rglob(f"{name}.npz"))
        if paths:
            X, y, splits = load(paths[0], 1, None)
            X, y = X[splits[0][0]], y[splits[0][0]]
        elif folder is None and name in bundled:
            X, y = bundled[name](return_X_y=True)
        else:
            continue
        X = X[:, X.std(axis=0) > 0]
        yield name, scale(X), scale(y) if np.issubdtype(y.dtype, np.floating) else y


def first(points: list[Point], level: float) -> tuple[float, float]:
    """Seconds and iterations until the objective is at most ``level``; infinite if it never is."""
    reached = (point for point in points if point.objective <= level)
    point = next(reached, Point(np.inf, 0, 0.0))
    return point.seconds, point.iteration if np.isfinite(point.seconds) else np.inf


def lowest(curves: Iterable[list[Point]]) -> float:
    """The best objective, but no less than a millionth of the first: classes that can be told apart have no best."""
    points = list(itertools.chain.from_iterable(curves))
    return max(min(point.objective for point in points), 1e-6 * max(point.objective for point in points))


Runs = dict[tuple[str, float, str, int], list[Point]]


def summarise(runs: Runs) -> list[dict[str, Any]]:
    """Rows of the table: median seconds and iterations of each set, l2, method and factor."""
    rows = []
    for name, l2 in dict.fromkeys((key[0], key[1]) for key in runs):
        here = {key[2:]: points for key, points in runs.items() if key[:2] == (name, l2)}
        best = lowest(here.values())
        for method in dict.fromkeys(method for method, _ in here):
            curves = [points for (of, _), points in here.items() if of == method]
            row = {"set": name, "l2": l2, "method": method, "best": best}
            row["lowest"] = float(np.median([min(point.objective for point in points) for points in curves]))
            for factor in FACTORS:
                reached = [first(points, factor * best) for points in curves]
                seconds, iterations = (float(np.median(values)) for values in zip(*reached, strict=True))
                row |= {f"seconds_{factor:g}": seconds, f"iterations_{factor:g}": iterations}
                row[f"failures_{factor:g}"] = sum(not np.isfinite(t) for t, _ in reached)
            rows.append(row)
    return rows


def report(rows: list[dict[str, Any]], limit: float) -> None:
    """Print the table, and how many times longer the others take than skgn: median and smallest over the sets."""
    for row in rows:
        times = "   ".join(
            f"{f:g}: {row[f'seconds_{f:g}']:7.3f} s {row[f'iterations_{f:g}']:5.0f} it {row[f'failures_{f:g}']} failed"
            for f in FACTORS
        )
        print(f"{row['set']:24s} l2 {row['l2']:<6g} {row['method']:14s} lowest/best "
              f"{row['lowest'] / row['best']:8.3g}   {times}")  # fmt: skip
    ours = {(row["set"], row["l2"]): row for row in rows if row["method"] == "skgn"}
    for factor in FACTORS:
        for method in dict.fromkeys(row["method"] for row in rows if row["method"] != "skgn"):
            pairs = [(row, ours[row["set"], row["l2"]]) for row in rows if row["method"] == method]
            # Where nobody gets there within the limit there is nothing to compare.
            field = f"seconds_{factor:g}"
            ratios = [a[field] / b[field] for a, b in pairs if np.isfinite(min(a[field], b[field]))]
            its = [a[f"iterations_{factor:g}"] / max(1, b[f"iterations_{factor:g}"]) for a, b in pairs
                   if np.isfinite(min(a[field], b[field]))]  # fmt: skip
            if ratios:
                print(f"to {factor:g} times the best, {method} over skgn ({len(ratios)} cases): seconds median "
                      f"{np.median(ratios):.3g}, smallest {min(ratios):.3g}; iterations median {np.median(its):.3g}"
                      f" (inf: not within {limit:g} s)")  # fmt: skip


def draw(runs: Runs, path: Path) -> None:
    """Objective over the best against seconds, first seed, a panel for each set and l2."""
    cases = list(dict.fromkeys((key[0], key[1]) for key in runs))
    columns = min(4, len(cases))
    lines = -(-len(cases) // columns)
    figure, axes = plt.subplots(lines, columns, figsize=(3.2 * columns, 2.6 * lines), layout="constrained")
    panels = np.atleast_1d(axes).ravel()
    for ax in panels[len(cases) :]:
        ax.set_axis_off()
    for ax, (name, l2) in zip(panels, cases, strict=False):
        here = {key[2:]: points for key, points in runs.items() if key[:2] == (name, l2)}
        best = lowest(here.values())
        for (method, seed), points in here.items():
            if seed == 0:
                seconds = [max(point.seconds, 1e-3) for point in points]
                values = np.minimum.accumulate([point.objective for point in points]) / best
                ax.plot(seconds, values, color=COLOURS[method], label=method)
        ax.axhline(1.5, color="grey", linewidth=0.8, linestyle=":")
        ax.set(xscale="log", yscale="log", ylim=(0.9, 100), title=f"{name}, l2 = {l2:g}")
        ax.title.set_fontsize("small")
        ax.set_yticks([1, 3, 10, 30, 100], ["1", "3", "10", "30", "100"])
        ax.minorticks_off()
        ax.grid(alpha=0.3)
    handles = dict(zip(*panels[0].get_legend_handles_labels()[::-1], strict=True))
    for ax in panels:
        handles |= dict(zip(*ax.get_legend_handles_labels()[::-1], strict=True))
    figure.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=len(handles), frameon=False)
    figure.supxlabel("seconds")
    figure.supylabel("objective over the best (dotted: 1.5)")
    figure.savefig(path, dpi=120)


def main() -> None:
    """Run everything, write the table and the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="path of the results, without a suffix")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--names", default=DEFAULT_SETS)
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--l2", default="0,0.001")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--limit", type=float, default=10.0, help="seconds of each run")
    arguments = parser.parse_args()
    methods = arguments.methods.split(",")
    if "torch-lm" in methods and not importlib.util.find_spec("torch_levenberg_marquardt"):
        print("torch-levenberg-marquardt is not installed and does not take part.")
        methods.remove("torch-lm")
    warnings.simplefilter("ignore", ConvergenceWarning)
    runs: Runs = {}
    for name, X, y in datasets(arguments.data, arguments.names.split(",")):
        regression = np.issubdtype(y.dtype, np.floating)
        n_classes = 0 if regression else len(np.unique(y))
        k = 1 if regression or n_classes == 2 else n_classes
        for l2 in map(float, arguments.l2.split(",")):
            for seed in range(arguments.seeds):
                problem = Problem(X, y, initial_layers(X.shape[1], k, seed), seed, l2, arguments.limit)
                for method in methods:
                    few = method == "torch-lm" and UNITS * (X.shape[1] + 1 + k) + k > len(X)
                    binary = method == "torch-lm" and n_classes == 2
                    if (method == "least-squares" and not regression) or few or binary:
                        continue
                    runs[name, l2, method, seed] = METHODS[method](problem)
    rows = summarise(runs)
    with arguments.out.with_suffix(".csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    report(rows, arguments.limit)
    draw(runs, arguments.out.with_suffix(".png"))


if __name__ == "__main__":
    main()
