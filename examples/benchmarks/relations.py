"""Known relations: does the default find them, as well as the best of its peers?

    python examples/benchmarks/relations.py OUT.csv [--only sin,XOR] [--models default,one] [--seeds 5] [--limit 60]
        [--beside PEERS.csv] [--summary]

Each case of CASES draws training rows and 2,000 fresh test rows from a known function. The models are

- default: ``GNRegressor()`` or ``GNClassifier()``;
- one: the same with ``n_estimators=1``;
- ridge: ``RidgeCV`` or ``LogisticRegressionCV`` on scaled inputs;
- gp: a Gaussian process with a length for each input and white noise, classes as the sign of a regression on -1 and 1.
  It is left out above 500 rows, and above 60 columns, where so many lengths take minutes to optimise;
- boosting: ``HistGradientBoosting*``.

One row of OUT.csv for each case, seed and model: R2 or accuracy as the score, the processor seconds of the fit, and

- rmse_ratio: root mean squared error over the standard deviation of the test targets;
- mean_ratio: mean prediction over mean target, both of the training rows (the mean of few, skewed targets says little
  about fresh ones);
- log_loss, of models with probabilities;
- at_10 and std_at_10: prediction and standard deviation at x = 10 of y = 2x, seen on [-3, 3].

Rows that are there are kept, so that a run can be resumed. A fit longer than LIMIT seconds is the last of its case and
model. The summary compares each of our models with the peer of the best median, by the seeds that both have. It
marks a case with ! by these rules: below that peer by more than 0.03 in the median or 0.1 in a seed (default), 0.1
and 0.3 (one); of pure noise an rmse_ratio above 1.02 or a log_loss above 1.02 log 2; a mean_ratio off by more than 0.1
where the mean is checked. Peers do not depend on skgn: --beside reads theirs from another file, --summary only
prints. Set OMP_NUM_THREADS=1 for one thread.
"""

from __future__ import annotations

import argparse
import csv
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from sklearn.base import is_classifier
from sklearn.datasets import load_diabetes, make_friedman1, make_friedman2, make_friedman3
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel
from sklearn.linear_model import LogisticRegressionCV, RidgeCV
from sklearn.metrics import accuracy_score, log_loss, r2_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skgn import GNClassifier, GNRegressor

OURS, PEERS = ["default", "one"], ["ridge", "gp", "boosting"]
#: How far ours may be below the best peer: in the median, and in any seed.
ALLOWED = {"default": (0.03, 0.1), "one": (0.1, 0.3)}
FIGURES = ["score", "rmse_ratio", "mean_ratio", "log_loss", "at_10", "std_at_10", "cpu_seconds"]
FIELDS = ["case", "seed", "model", "n", "d", "noise", *FIGURES]
N_TEST = 2000

Rows = tuple[np.ndarray, np.ndarray]
Draw = Callable[[np.random.Generator, int], Rows]


class Case(NamedTuple):
    """A known relation: how rows are drawn, how many to train on, and what is asked beside the score."""

    draw: Draw
    n: int
    noise: str = "none"
    #: Number of classes; 0 for numbers.
    classes: int = 0
    #: Draws the test rows where they differ from the training rows.
    draw_test: Draw | None = None
    #: A table of so many rows, of which those that are not trained on are the test.
    table: int | None = None
    #: "noise", "mean" or "10": see the rules above.
    check: str = ""


def sample(case: Case, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Training rows and targets, test rows and targets."""
    rng = np.random.default_rng(seed)
    if case.table is not None:
        X, y = case.draw(rng, case.table)
        return X[: case.n], y[: case.n], X[case.n :], y[case.n :]
    return *case.draw(rng, case.n), *(case.draw_test or case.draw)(rng, N_TEST)


def normal(function: Callable[[np.ndarray], np.ndarray], d: int, noise: float = 0.0) -> Draw:
    """A function of d normal inputs, and normal noise."""

    def draw(rng: np.random.Generator, n: int) -> Rows:
        X = rng.standard_normal((n, d))
        return X, function(X.T) + noise * rng.standard_normal(n)

    return draw


def curve(function: Callable[[np.ndarray], np.ndarray], low: float, high: float, noise: float) -> Draw:
    """A function of one input on a grid, and normal noise."""

    def draw(rng: np.random.Generator, n: int) -> Rows:
        x = np.linspace(low, high, n)
        return x[:, None], function(x) + noise * rng.standard_normal(n)

    return draw


def growth(rng: np.random.Generator, n: int) -> Rows:
    """Exponential growth with a relative noise of 10 %."""
    x = np.linspace(0, 5, n)
    return x[:, None], np.exp(x) * (1 + 0.1 * rng.standard_normal(n))


def linear(inputs: Callable[[np.random.Generator, tuple[int, int]], np.ndarray]) -> Draw:
    """The same linear function of five inputs, whatever their distribution."""

    def draw(rng: np.random.Generator, n: int) -> Rows:
        X = inputs(rng, (n, 5))
        return X, X @ [1.0, -2.0, 3.0, 0.5, -1.0]

    return draw


def xor(d: int, inputs: int) -> Draw:
    """The sign of the product of the first inputs."""

    def draw(rng: np.random.Generator, n: int) -> Rows:
        X = rng.uniform(-1, 1, (n, d))
        return X, (X[:, :inputs].prod(axis=1) > 0).astype(int)

    return draw


def steps(rng: np.random.Generator, n: int) -> Rows:
    """Piecewise constant in two of five inputs."""
    X = rng.uniform(-1, 1, (n, 5))
    return X, np.floor(2 * X[:, 0]) + 2 * (X[:, 1] > 0.2) + 0.1 * rng.standard_normal(n)


def friedman(make: Callable[..., Rows], noise: float, extra: int) -> Draw:
    """One of Friedman's functions, and columns of noise."""

    def draw(rng: np.random.Generator, n: int) -> Rows:
        only_used = {"n_features": 5} if make is make_friedman1 else {}
        X, y = make(n, noise=noise, random_state=int(rng.integers(2**31)), **only_used)
        return np.column_stack([X, rng.standard_normal((n, extra))]), y

    return draw


def gross_errors(rng: np.random.Generator, n: int) -> Rows:
    """Friedman's first function, with 5 % of the targets off by about ten standard deviations."""
    X, y = friedman(make_friedman1, 1.0, 0)(rng, n)
    hit = rng.choice(n, n // 20, replace=False)
    y[hit] += 50 * rng.standard_normal(len(hit))
    return X, y


def noise_labels(rng: np.random.Generator, n: int) -> Rows:
    """Two classes that nothing tells apart."""
    return rng.standard_normal((n, 120)), rng.integers(0, 2, n)


def diabetes(rng: np.random.Generator, n: int) -> Rows:
    """The set of scikit-learn in random order, and 200 columns of noise."""
    X, y = load_diabetes(return_X_y=True, scaled=False)
    order = rng.permutation(n)
    return np.column_stack([X[order], rng.standard_normal((n, 200))]), y[order]


def mostly_zero(rng: np.random.Generator, n: int) -> Rows:
    """Claims: most are 0, the others positive and skewed."""
    X = rng.standard_normal((n, 5))
    return X, np.where(X[:, 1] + 0.5 * rng.standard_normal(n) < 1.2, 0, rng.gamma(3, 2, n))


def lognormal_noise(rng: np.random.Generator, n: int) -> Rows:
    """A positive, skewed target."""
    X = rng.standard_normal((n, 5))
    return X, np.exp(0.5 * X[:, 0] + 0.75 * rng.standard_normal(n))


def two_populations(rng: np.random.Generator, n: int) -> Rows:
    """A binary column says which of two functions holds."""
    X = rng.standard_normal((n, 5))
    X[:, 0] = rng.integers(0, 2, n)
    y = np.where(X[:, 0] == 1, np.sin(2 * X[:, 1]), X[:, 2] - X[:, 1])
    return X, y + 0.1 * rng.standard_normal(n)


def duplicated(rng: np.random.Generator, n: int) -> Rows:
    """Three inputs, each of them five times, and five columns of noise."""
    X = rng.standard_normal((n, 3))
    y = X[:, 0] + np.sin(2 * X[:, 1]) + 0.5 * X[:, 2] ** 2 + 0.1 * rng.standard_normal(n)
    return np.column_stack([np.repeat(X, 5, axis=1), rng.standard_normal((n, 5))]), y


def parity(levels: int, d: int) -> Draw:
    """The parity of the sum of the first two of d columns of integers."""

    def draw(rng: np.random.Generator, n: int) -> Rows:
        X = rng.integers(0, levels, (n, d)).astype(float)
        return X, X[:, :2].sum(axis=1) % 2

    return draw


def above(level: float, draw_numbers: Draw) -> Draw:
    """Whether the targets of another relation are above a level."""

    def draw(rng: np.random.Generator, n: int) -> Rows:
        X, y = draw_numbers(rng, n)
        return X, (y > level).astype(float)

    return draw


def five_of_many(x: np.ndarray) -> np.ndarray:
    """A sparse linear function."""
    return 2 * x[0] - 1.5 * x[1] + x[2] - x[3] + 0.5 * x[4]


def zero(x: np.ndarray) -> np.ndarray:
    """No relation."""
    return np.zeros(x.shape[1])


def products(x: np.ndarray) -> np.ndarray:
    """Five products of two columns each."""
    return (x[:5] * x[5:10]).sum(axis=0)


def quadratic_form(x: np.ndarray) -> np.ndarray:
    """All products of two columns, with coefficients of their own."""
    coefficients = np.random.default_rng(0).standard_normal((len(x), len(x)))
    return np.einsum("in,ij,jn->n", x, coefficients, x) / len(x)


def checkerboard(rng: np.random.Generator, n: int) -> Rows:
    """Four by four fields, and normal noise."""
    X = rng.uniform(0, 4, (n, 2))
    return X, np.floor(X).sum(axis=1) % 2 + 0.2 * rng.standard_normal(n)


def tree(rng: np.random.Generator, n: int) -> Rows:
    """Two jumps, where a third column tells along which of two others, and normal noise."""
    X = rng.uniform(size=(n, 8))
    left, right = np.where(X[:, 1] > 0.3, 1.0, 3.0), np.where(X[:, 2] > 0.6, -2.0, 0.5)
    return X, np.where(X[:, 0] > 0.5, left, right) + 0.3 * rng.standard_normal(n)


def pairs_of_steps(rng: np.random.Generator, n: int) -> Rows:
    """Five pairs of ten columns that each count where one of the two is above a half, and normal noise."""
    X = rng.uniform(size=(n, 10))
    above = X > 0.5
    return X, 2.0 * (above[:, ::2] ^ above[:, 1::2]).sum(axis=1) + 0.3 * rng.standard_normal(n)


def season(rng: np.random.Generator, n: int) -> Rows:
    """A wave of 30 periods beside lines and columns of noise."""
    X = np.column_stack([rng.uniform(0, 30, n), rng.standard_normal((n, 3))])
    return X, 0.2 * X[:, 0] + 2 * np.sin(2 * np.pi * X[:, 0]) + X[:, 1] + 0.5 * rng.standard_normal(n)


def weekdays(rng: np.random.Generator, n: int) -> Rows:
    """Effects of the day of the week, for days of three years that are drawn at random."""
    X = np.column_stack([rng.integers(0, 1096, n), rng.standard_normal((n, 2))])
    effects = np.array([0.0, 0.2, 0.1, 0.0, 0.5, 2.0, 1.5])
    return X, effects[X[:, 0].astype(int) % 7] + 0.5 * X[:, 1] + 0.3 * rng.standard_normal(n)


def children(rng: np.random.Generator, n: int) -> Rows:
    """Sizes of 60 children, by numbers, at eight ages. Each child has a size and a rate of growth of its own."""
    child, age = rng.integers(0, 60, n), rng.integers(0, 8, n)
    size, rate = 50 + 10 * rng.standard_normal(60), 5 + 2 * rng.standard_normal(60)
    y = size[child] + rate[child] * age + 1.5 * rng.standard_normal(n)
    return np.column_stack([child, age]).astype(float), y


def ring(rng: np.random.Generator, n: int) -> Rows:
    """Two normal classes around nearly the same point of 20 columns, one of twice the width (ringnorm of Delve)."""
    y = rng.integers(2, size=n)
    return rng.standard_normal((n, 20)) * (2 - y)[:, None] + y[:, None] * 2 / np.sqrt(20), y


def clouds(k: int, d: int, apart: float, own: bool) -> Draw:
    """Normal classes with means of their own, and covariances of their own or 1."""
    of_classes = np.random.default_rng(0)
    means, roots = apart * of_classes.standard_normal((k, d)), of_classes.standard_normal((k, d, d)) / np.sqrt(d)

    def draw(rng: np.random.Generator, n: int) -> Rows:
        y, Z = rng.integers(k, size=n), rng.standard_normal((n, d))
        return means[y] + (np.einsum("nij,nj->ni", roots[y], Z) if own else Z), y

    return draw


def five_classes(rng: np.random.Generator, n: int) -> Rows:
    """Five noisy classes, by products, a wave, a line and a bend of eight of 15 inputs."""
    x = rng.uniform(-1, 1, (15, n))
    utility = 2 * np.stack(
        [3 * x[0] * x[1], 1.5 * np.sin(4 * x[2]), x[3] + x[4], 2 * np.abs(x[5]) - 1, 3 * x[6] * x[7]]
    )
    return x.T, (utility + rng.gumbel(size=utility.shape)).argmax(axis=0)


CASES: dict[str, Case] = {
    **{
        f"sin({k}x) n {n}": Case(curve(lambda x, k=k: np.sin(k * x), -3, 3, 0.1), n, "0.1")
        for n in (100, 400)
        for k in range(1, 9)
    },
    "|x1| + |x2|": Case(normal(lambda x: np.abs(x[1]) + np.abs(x[2]), 20), 400),
    "x1 x2": Case(normal(lambda x: x[1] * x[2], 15), 300),
    **{f"x0 + x1^2 d {d}": Case(normal(lambda x: x[0] + x[1] ** 2, d, 0.1), 300, "0.1") for d in (5, 40, 200)},
    "x0 + x1 x2 + x3^2 d 30": Case(normal(lambda x: x[0] + x[1] * x[2] + x[3] ** 2, 30, 0.3), 300, "0.3"),
    "five products d 20": Case(normal(products, 20, 0.2), 300, "0.2"),
    "quadratic form d 20": Case(normal(quadratic_form, 20, 0.1), 300, "0.1"),
    "checkerboard": Case(checkerboard, 1000, "0.2"),
    "tree": Case(tree, 500, "0.3"),
    "tree, 300 rows": Case(tree, 300, "0.3"),
    "five pairs of steps": Case(pairs_of_steps, 1500, "0.3"),
    "season": Case(season, 500, "0.5"),
    "weekdays": Case(weekdays, 500, "0.3"),
    "60 children": Case(children, 480, "1.5", table=2480),
    "x0 + 2 x1 x2 > 0 d 30": Case(above(0, normal(lambda x: x[0] + 2 * x[1] * x[2], 30)), 300, classes=2),
    "XOR of 2": Case(xor(10, 2), 400, classes=2),
    "XOR of 3": Case(xor(5, 3), 500, classes=2),
    "XOR of 2 in 20": Case(xor(20, 2), 500, classes=2),
    "parity of integers": Case(parity(6, 3), 600, classes=2),
    **{
        f"x0 + x1^2 > 1 d {d}": Case(above(1, normal(lambda x: x[0] + x[1] ** 2, d, 0.3)), 300, "0.3", classes=2)
        for d in (40, 100)
    },
    "ring d 20": Case(ring, 300, classes=2),
    "three clouds d 8": Case(clouds(3, 8, 1.0, own=True), 400, classes=3),
    "30 clouds d 12": Case(clouds(30, 12, 1.5, own=False), 450, classes=30),
    "five classes": Case(five_classes, 400, "of the labels", classes=5),
    "steps": Case(steps, 500, "0.1"),
    "sin(8 x0) + x1^2 d 8": Case(normal(lambda x: np.sin(8 * x[0]) + x[1] ** 2, 8, 0.1), 500, "0.1"),
    **{
        f"Friedman {number} + {extra} columns": Case(friedman(make, noise, extra), 300, f"{noise:g}")
        for number, (make, noise) in enumerate(
            [(make_friedman1, 1.0), (make_friedman2, 125.0), (make_friedman3, 0.1)], 1
        )
        for extra in (0, 20)
    },
    "x0^2 + x1 x2 n 80": Case(normal(lambda x: x[0] ** 2 + x[1] * x[2], 8, 0.1), 80, "0.1"),
    "sin(x0 x1) + x2 n 80": Case(normal(lambda x: np.sin(x[0] * x[1]) + x[2], 8, 0.1), 80, "0.1"),
    "exp(x0 + x1 + x2) n 40": Case(normal(lambda x: np.exp((x[0] + x[1] + x[2]) / np.sqrt(3)), 8, 0.1), 40, "0.1"),
    "exp(x)": Case(curve(np.exp, 0, 5, 1.0), 100, "1"),
    "exp(x) relative": Case(growth, 100, "10 %"),
    "sparse linear": Case(normal(five_of_many, 200, 0.5), 100, "0.5"),
    **{f"noise d {d}": Case(normal(zero, d, 1.0), 200, "all", check="noise") for d in (20, 100, 200)},
    "noise labels": Case(noise_labels, 200, "all", classes=2, check="noise"),
    "diabetes + 200 columns": Case(diabetes, 221, "of the data", table=442),
    "linear normal": Case(linear(lambda rng, size: rng.standard_normal(size)), 200),
    "linear exponential": Case(linear(lambda rng, size: rng.exponential(size=size)), 200),
    "linear t3": Case(linear(lambda rng, size: rng.standard_t(3, size)), 200),
    "linear lognormal": Case(linear(lambda rng, size: rng.lognormal(size=size)), 200),
    "2x": Case(curve(lambda x: 2 * x, -3, 3, 0.0), 100, check="10"),
    "90 % zeros": Case(mostly_zero, 300, "skewed", check="mean"),
    "lognormal noise": Case(lognormal_noise, 300, "lognormal", check="mean"),
    "gross errors": Case(gross_errors, 300, "1, 5 % gross", draw_test=friedman(make_friedman1, 0.0, 0)),
    "two populations": Case(two_populations, 400, "0.1"),
    "duplicated columns": Case(duplicated, 300, "0.1"),
}


def gaussian_process(d: int, seed: int = 0) -> Any:
    """A Gaussian process with a length for each input.

    Lengths start at the distance of two rows: at 1 many columns would leave no row near another. One input, where
    a fit is cheap, starts from several lengths, since fast oscillations are no near optimum of slow ones.
    """
    kernel = ConstantKernel() * RBF(np.full(d, np.sqrt(d)), (1e-2, 1e4)) + WhiteKernel(0.1, (1e-10, 10))
    restarts = 3 if d == 1 else 0
    process = GaussianProcessRegressor(kernel, normalize_y=True, n_restarts_optimizer=restarts, random_state=seed)
    return make_pipeline(StandardScaler(), process)


def ridge() -> Any:
    """Ridge regression behind a scaler."""
    return make_pipeline(StandardScaler(), RidgeCV(alphas=np.logspace(-6, 6, 25)))


def make(name: str, case: Case, d: int, seed: int) -> Any | None:
    """A model by name; None where it does not take part."""
    if name in OURS:
        network = GNClassifier if case.classes else GNRegressor
        return network(random_state=seed, **({"n_estimators": 1} if name == "one" else {}))
    if name == "gp":
        return gaussian_process(d, seed) if case.n <= 500 and d <= 60 and case.classes <= 2 else None
    if name == "boosting":
        return (HistGradientBoostingClassifier if case.classes else HistGradientBoostingRegressor)(random_state=seed)
    if case.classes:
        return make_pipeline(StandardScaler(), LogisticRegressionCV(scoring="neg_log_loss", max_iter=1000))
    return ridge()


def measure(model: Any, case: Case, seed: int) -> dict[str, float]:
    """Fit and score; the figures by name."""
    X, y, X_test, y_test = sample(case, seed)
    labels_by_sign = case.classes and not is_classifier(model)
    start = time.process_time()
    with warnings.catch_warnings():
        # Networks may use up max_iter, lengths of a Gaussian process their bounds: the scores show what that costs.
        warnings.simplefilter("ignore", ConvergenceWarning)
        # What scikit-learn is going to rename does not matter here.
        warnings.simplefilter("ignore", FutureWarning)
        model.fit(X, 2 * y - 1 if labels_by_sign else y)
    figures = {"cpu_seconds": time.process_time() - start}
    predicted = model.predict(X_test)
    if labels_by_sign:
        return {**figures, "score": accuracy_score(y_test, predicted > 0)}
    if case.classes:
        p = np.clip(model.predict_proba(X_test), 1e-7, 1.0)
        p /= p.sum(axis=1, keepdims=True)
        return {**figures, "score": accuracy_score(y_test, predicted), "log_loss": log_loss(y_test, p)}
    if case.check == "10":
        mean, std = model.predict([[10.0]], return_std=True) if can_say_std(model) else (model.predict([[10.0]]), [""])
        figures |= {"at_10": mean[0], "std_at_10": std[0]}
    return {
        **figures,
        "score": r2_score(y_test, predicted),
        "rmse_ratio": float(np.sqrt(np.mean((y_test - predicted) ** 2)) / y_test.std()),
        "mean_ratio": float(model.predict(X).mean() / y.mean()),
    }


def can_say_std(model: Any) -> bool:
    """Whether ``predict`` takes ``return_std``."""
    return isinstance(getattr(model, "steps", [("", model)])[-1][1], (GNRegressor, GaussianProcessRegressor))


def breaks(case: Case, row: dict[str, str]) -> bool:
    """Whether a figure beside the score is out of bounds."""
    if case.check == "noise":
        return float(row["log_loss"]) > 1.02 * np.log(case.classes) if case.classes else float(row["rmse_ratio"]) > 1.02
    return case.check == "mean" and abs(float(row["mean_ratio"]) - 1) > 0.1


def summarise(rows: list[dict[str, str]]) -> None:
    """Print a line for each case: median scores, differences from the best peer, and marks."""
    print(
        f"{'median score':24s}{'n':>5s}{'d':>5s} {'noise':14s}" + "".join(f"{m:>9s}" for m in (*OURS, *PEERS)), end=""
    )
    print("".join(f"{m + ' - best: median, worst':>32s}" for m in OURS) + "  others")
    marked = dict.fromkeys(OURS, 0)
    for name, case in CASES.items():
        of = {(row["model"], row["seed"]): row for row in rows if row["case"] == name}
        if not of:
            continue
        score = {m: {s: float(row["score"]) for (model, s), row in of.items() if model == m} for m in (*OURS, *PEERS)}
        about = next(iter(of.values()))
        line = f"{name:24s}{about['n']:>5s}{about['d']:>5s} {about['noise']:14s}"
        line += "".join(f"{np.median(list(by.values())):9.3f}" if by else f"{'':9s}" for by in score.values())
        for model in OURS:
            seeds = sorted(score[model])
            peers = {p: [score[p][s] for s in seeds] for p in PEERS if seeds and all(s in score[p] for s in seeds)}
            if not peers:
                line += f"{'':32s}"
                continue
            best = max(peers, key=lambda p: np.median(peers[p]))
            gap = np.array([score[model][s] for s in seeds]) - peers[best]
            median, worst = ALLOWED[model]
            broken = np.median(gap) < -median or gap.min() < -worst or any(breaks(case, of[model, s]) for s in seeds)
            marked[model] += broken
            line += f"{best:>12s}{np.median(gap):+9.3f}{gap.min():+9.3f} {'!' if broken else ' '}"
        field = {"mean": "mean_ratio", "10": "at_10", "noise": "log_loss" if case.classes else "rmse_ratio"}
        for key in [field[case.check], *(["std_at_10"] if case.check == "10" else [])] if case.check else []:
            values = {m: [float(row[key]) for (model, _), row in of.items() if model == m and row[key]] for m in score}
            line += f"  {key}: " + ", ".join(f"{m} {np.median(v):.3g}" for m, v in values.items() if v)
        print(line)
    for model, count in marked.items():
        seconds = [float(row["cpu_seconds"]) for row in rows if row["model"] == model]
        if seconds:
            print(f"{model}: {count} cases marked; median fit {np.median(seconds):.1f} s, largest {max(seconds):.1f} s")


def read(path: Path | None) -> list[dict[str, str]]:
    """The rows of a results file."""
    if path is None or not path.exists():
        return []
    with path.open() as file:
        return list(csv.DictReader(file))


def main() -> None:
    """Run what is missing from the results file and print the summary."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--only", default="", help="parts of the names of cases, separated by commas")
    parser.add_argument("--models", default=",".join((*OURS, *PEERS)))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument(
        "--limit", type=float, default=np.inf, help="seconds of a fit, after which no other seed is run"
    )
    parser.add_argument("--beside", type=Path, help="results of other models, for the summary")
    parser.add_argument("--summary", action="store_true", help="run nothing")
    arguments = parser.parse_args()
    names = [name for name in CASES if any(part in name for part in arguments.only.split(","))]
    if not arguments.out.exists() and not arguments.summary:
        with arguments.out.open("w", newline="") as file:
            csv.DictWriter(file, FIELDS).writeheader()
    seconds = {(r["case"], r["model"], r["seed"]): float(r["cpu_seconds"]) for r in read(arguments.out)}
    # Seed by seed: a run that was stopped has all cases.
    for seed in range(0 if arguments.summary else arguments.seeds):
        for name in names:
            case = CASES[name]
            d = sample(case, seed)[0].shape[1]
            for kind in arguments.models.split(","):
                slow = any(seconds.get((name, kind, str(s)), 0) > arguments.limit for s in range(seed))
                model = make(kind, case, d, seed)
                if model is None or slow or (name, kind, str(seed)) in seconds:
                    continue
                row = {"case": name, "seed": seed, "model": kind, "n": case.n, "d": d, "noise": case.noise}
                row |= measure(model, case, seed)
                seconds[name, kind, str(seed)] = row["cpu_seconds"]
                with arguments.out.open("a", newline="") as file:
                    csv.DictWriter(file, FIELDS).writerow(row)
    rows = read(arguments.out) + read(arguments.beside)
    summarise([row for row in rows if row["case"] in names])


if __name__ == "__main__":
    main()
