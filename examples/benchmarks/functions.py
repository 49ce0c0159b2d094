"""Known functions of one to twenty numbers: how near does the default come, beside a Gaussian process and trees?

    python examples/benchmarks/functions.py OUT.csv [--names borehole,piston] [--rows 100,300,1000] [--noise 0,0.1]
        [--classes 0] [--seeds 1] [--models skgn,linear,gp,boosting,catboost] [--summary]

FUNCTIONS are formulas of physics, of which some are among those of Udrescu and Tegmark (AI Feynman, Science Advances 6,
2020). Models of engineering and test functions are as in the library of Surjanovic and Bingham (Virtual library of
simulation experiments, https://www.sfu.ca/~ssurjano). Beside them are functions with jumps and bends, which no smooth
model likes. Rows are drawn from uniform distributions. Noise is in parts of the standard deviation of the function.

With ``--classes 2,4`` the function is told by classes alone: the parts between quantiles of its values, equally often.
Noise is then the part of rows whose class is drawn at random.

The models are skgn (``GNRegressor()``), linear (ridge regression behind a scaler), gp (a Gaussian process with a
length for each input and white noise, up to 500 rows), boosting (scikit-learn's `HistGradientBoostingRegressor`) and
catboost. For classes, these are their classifiers, linear is logistic regression, and gp takes up to 200 rows.

OUT.csv has one row for each function, seed and model. It has the root mean squared error over the standard deviation on
2,000 new rows without noise, and the processor seconds of the fit. For skgn it also has the part of 2,000 noisy targets
in the 90 % intervals. For classes it has the log loss and the part of wrong labels on 2,000 new rows, whose labels have
the same noise. Rows that are there are kept, so that a run can be resumed. The summary has ratios of skgn to each other
model, as `ratios.py` has them, for each number of rows, noise and number of classes. Set OMP_NUM_THREADS=1 for one
thread.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import time
import warnings
from collections.abc import Callable
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from peers import catboost
from ratios import print_ratios
from relations import gaussian_process, read, ridge
from scipy.special import j0
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessClassifier
from sklearn.gaussian_process.kernels import RBF, ConstantKernel
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skgn import GNClassifier, GNRegressor
from skgn.unfamiliar import UnfamiliarDataWarning

MODELS = ["skgn", "linear", "gp", "boosting", "catboost"]
CASE = ["set", "n", "noise", "classes", "seed", "model"]
FIELDS = [*CASE, "d", "rmse", "coverage", "log_loss", "error", "cpu_seconds"]

#: New rows, and rows up to which a Gaussian process takes part, for numbers and for classes.
N_TEST, MOST_ROWS_OF_GP, MOST_LABELS_OF_GP = 2000, 500, 200

#: What a formula is of, (d, n).
Columns = np.ndarray


class Function(NamedTuple):
    """A function of columns, and the range of each of them."""

    of: Callable[[Columns], np.ndarray]
    ranges: tuple[tuple[float, float], ...]


def cube(low: float, high: float, d: int) -> tuple[tuple[float, float], ...]:
    """The same range for each of d columns."""
    return ((low, high),) * d


def borehole(x: Columns) -> np.ndarray:
    """Flow of water through a borehole (Harper and Gupta 1983)."""
    radius, influence, upper, upper_head, lower, lower_head, length, conductivity = x
    log = np.log(influence / radius)
    resistance = 2 * length * upper / (log * radius**2 * conductivity)
    return 2 * np.pi * upper * (upper_head - lower_head) / (log * (1 + resistance + upper / lower))


def piston(x: Columns) -> np.ndarray:
    """Cycle time of a piston (Kenett and Zacks 1998)."""
    mass, surface, volume, spring, pressure, ambient, filling = x
    force = pressure * surface + 19.62 * mass - spring * volume / surface
    gas = pressure * volume * ambient / filling
    stroke = surface / (2 * spring) * (np.sqrt(force**2 + 4 * spring * gas) - force)
    return 2 * np.pi * np.sqrt(mass / (spring + surface**2 * gas / stroke**2))


def otl_circuit(x: Columns) -> np.ndarray:
    """Midpoint voltage of a push-pull circuit (Ben-Ari and Steinberg 2007)."""
    b1, b2, f, c1, c2, beta = x
    gain = beta * (c2 + 9)
    return ((12 * b2 / (b1 + b2) + 0.74) * gain + 11.35 * f + 0.74 * f * gain / c1) / (gain + f)


def wing_weight(x: Columns) -> np.ndarray:
    """Weight of a light aircraft's wing (Forrester, Sobester and Keane 2008)."""
    area, fuel, aspect, sweep, pressure, taper, thickness, load, weight, paint = x
    cos = np.cos(np.radians(sweep))
    planform = 0.036 * area**0.758 * fuel**0.0035 * (aspect / cos**2) ** 0.6 * pressure**0.006 * taper**0.04
    return planform * (100 * thickness / cos) ** -0.3 * (load * weight) ** 0.49 + area * paint


def welch(x: Columns) -> np.ndarray:
    """Twenty columns, most of which hardly count (Welch and others 1992)."""
    steep = 5 * x[11] / (1 + x[0]) + 5 * (x[3] - x[19]) ** 2 + x[4] + 40 * x[18] ** 3 - 5 * x[18]
    columns = [1, 2, 5, 6, 8, 9, 10, 13, 14, 16, 17]
    weak = np.array([0.05, 0.08, -0.03, 0.03, -0.09, -0.01, -0.07, -0.04, 0.06, -0.01, -0.03]) @ x[columns]
    return steep + weak + 0.25 * x[12] ** 2


def dette_pepelyshev(x: Columns) -> np.ndarray:
    """Highly curved in some of eight columns (Dette and Pepelyshev 2010)."""
    curved = 4 * (x[0] - 2 + 8 * x[1] - 8 * x[1] ** 2) ** 2 + (3 - 4 * x[1]) ** 2
    bent = 16 * np.sqrt(x[2] + 1) * (2 * x[2] - 1) ** 2
    return curved + bent + sum(i * np.log1p(x[2:i].sum(axis=0)) for i in range(4, 9))


def robot_arm(x: Columns) -> np.ndarray:
    """Distance that an arm of four joints reaches (An and Owen 2001)."""
    angles = np.cumsum(x[:4], axis=0)
    return np.hypot((x[4:] * np.cos(angles)).sum(axis=0), (x[4:] * np.sin(angles)).sum(axis=0))


def rosenbrock(x: Columns) -> np.ndarray:
    """A curved valley."""
    return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum(axis=0)


def sobol_g(x: Columns) -> np.ndarray:
    """Two of eight columns count, and have bends (Sobol 1993)."""
    weak = np.array([0, 1, 4.5, 9, 99, 99, 99, 99])[:, None]
    return ((np.abs(4 * x - 2) + weak) / (1 + weak)).prod(axis=0)


def bumps(x: Columns) -> np.ndarray:
    """Peaks of several widths (Donoho and Johnstone 1994)."""
    places, heights, widths = [0.1, 0.23, 0.4, 0.65, 0.78], [4, 5, 4, 4.3, 5], [0.02, 0.03, 0.04, 0.05, 0.03]
    return sum(
        height * (1 + np.abs((x[0] - place) / width)) ** -4
        for place, height, width in zip(places, heights, widths, strict=True)
    )


def blocks(x: Columns) -> np.ndarray:
    """Jumps (Donoho and Johnstone 1994)."""
    places = [0.1, 0.13, 0.15, 0.23, 0.25, 0.4, 0.44, 0.65, 0.76, 0.78, 0.81]
    return np.array([4, -5, 3, -4, 5, -4.2, 2.1, 4.3, -3.1, 2.1, -4.2]) @ (x > np.array(places)[:, None])


PHYSICS = {
    "normal density": Function(
        lambda x: np.exp(-(((x[0] - x[1]) / x[2]) ** 2) / 2) / (np.sqrt(2 * np.pi) * x[2]), cube(1, 3, 3)
    ),
    "distance": Function(lambda x: np.hypot(x[1] - x[0], x[3] - x[2]), cube(1, 5, 4)),
    "gravity": Function(
        lambda x: x[0] * x[1] / ((x[2:5] - x[5:]) ** 2).sum(axis=0), cube(1, 2, 2) + cube(3, 4, 3) + cube(1, 2, 3)
    ),
    "relativistic mass": Function(lambda x: x[0] / np.sqrt(1 - (x[1] / x[2]) ** 2), ((1, 5), (1, 2), (3, 10))),
    "scalar product": Function(lambda x: (x[:3] * x[3:]).sum(axis=0), cube(1, 5, 6)),
    "Coulomb": Function(lambda x: x[0] * x[1] / (4 * np.pi * x[2] * x[3] ** 2), cube(1, 5, 4)),
    "Lorentz force": Function(lambda x: x[0] * (x[1] + x[2] * x[3] * np.sin(x[4])), (*cube(1, 5, 4), (0, 6.28))),
    "sum of velocities": Function(lambda x: (x[0] + x[1]) / (1 + x[0] * x[1] / x[2] ** 2), cube(1, 5, 3)),
    "grating": Function(
        lambda x: x[0] * np.sin(x[1] * x[2] / 2) ** 2 / np.sin(x[1] / 2) ** 2, ((1, 5), (0.5, 5), (1, 5))
    ),
    "Snell": Function(lambda x: np.arcsin(x[0] * np.sin(x[1])), ((0, 0.9), (0, 1.57))),
    "lens": Function(lambda x: 1 / (1 / x[0] + x[2] / x[1]), cube(1, 5, 3)),
    "two waves": Function(
        lambda x: np.sqrt(x[0] ** 2 + x[1] ** 2 + 2 * x[0] * x[1] * np.cos(x[2] - x[3])),
        cube(1, 5, 2) + cube(0, 6.28, 2),
    ),
    "oscillator": Function(lambda x: x[0] * (x[1] ** 2 + x[2] ** 2) * x[3] ** 2 / 4, (*cube(1, 3, 3), (1, 5))),
    "Kepler": Function(
        lambda x: x[0] * x[1] / x[2] ** 2 * (1 + x[3] * np.cos(x[4] - x[5])),
        (*cube(1, 3, 3), (0, 0.8), (0, 6.28), (1, 3)),
    ),
    "projection": Function(
        lambda x: (x[0] * np.cos(x[3]) + x[1] * np.sin(x[4])) * x[2], cube(1, 5, 3) + cube(0, 6.28, 2)
    ),
    "Planck": Function(lambda x: x[0] ** 3 / np.expm1(x[0] / (x[1] * x[2])), cube(1, 5, 3)),
    "Boltzmann": Function(lambda x: x[0] * np.exp(-x[0] * x[1] / x[2]), cube(1, 5, 3)),
    "diode": Function(lambda x: x[0] * np.expm1(x[1] * x[2] / (x[3] * x[4])), ((1, 5), *cube(1, 2, 4))),
    "magnetisation": Function(lambda x: x[0] * x[1] * np.tanh(x[1] * x[2] / x[3]), cube(1, 5, 4)),
    "Langevin": Function(
        lambda x: 1 / np.tanh(x[0] * x[1] / (x[2] * x[3])) - x[2] * x[3] / (x[0] * x[1]), cube(1, 3, 4)
    ),
    "Michaelis and Menten": Function(
        lambda x: x[0] / (1 + x[0]) * np.exp(-x[1] / 3) + 0.3 * np.sqrt(x[2]), cube(0, 10, 3)
    ),
    "Hill": Function(lambda x: x[0] ** 4 / (1 + x[0] ** 4) * x[1] / (1 + x[2]), cube(0, 5, 4)),
}

ENGINEERING = {
    "borehole": Function(
        borehole,
        (
            *((0.05, 0.15), (100, 50000), (63070, 115600), (990, 1110)),
            *((63.1, 116), (700, 820), (1120, 1680), (9855, 12045)),
        ),
    ),
    "piston": Function(
        piston,
        ((30, 60), (0.005, 0.02), (0.002, 0.01), (1000, 5000), (90000, 110000), (290, 296), (340, 360)),
    ),
    "OTL circuit": Function(otl_circuit, ((50, 150), (25, 70), (0.5, 3), (1.2, 2.5), (0.25, 1.2), (50, 300))),
    "wing weight": Function(
        wing_weight,
        (
            *((150, 200), (220, 300), (6, 10), (-10, 10), (16, 45)),
            *((0.5, 1), (0.08, 0.18), (2.5, 6), (1700, 2500), (0.025, 0.08)),
        ),
    ),
    "robot arm": Function(robot_arm, cube(0, 6.28, 4) + cube(0, 1, 4)),
}

SMOOTH = {
    "Bessel": Function(lambda x: j0(np.hypot(x[0], x[1])), cube(0, 10, 2)),
    "ratio of two of five": Function(lambda x: x[0] / x[1], cube(0.1, 1, 2) + cube(0, 1, 3)),
    "logarithm of a sum": Function(lambda x: np.log(x.sum(axis=0)) + np.log(x[0]), cube(0.01, 10, 6)),
    "geometric mean": Function(lambda x: np.exp(np.log(x).mean(axis=0)), cube(0.1, 10, 5)),
    "Rosenbrock": Function(rosenbrock, cube(-2, 2, 4)),
    "Ackley": Function(
        lambda x: -20 * np.exp(-0.2 * np.sqrt((x**2).mean(axis=0))) - np.exp(np.cos(2 * np.pi * x).mean(axis=0)),
        cube(-5, 5, 3),
    ),
    "Rastrigin": Function(lambda x: (x**2 - 3 * np.cos(2 * np.pi * x)).sum(axis=0), cube(-2, 2, 2)),
    "Ishigami": Function(
        lambda x: np.sin(x[0]) + 7 * np.sin(x[1]) ** 2 + 0.1 * x[2] ** 4 * np.sin(x[0]), cube(-np.pi, np.pi, 3)
    ),
    "Morris": Function(lambda x: x.sum(axis=0) + 2 * x[0] * x[1] - 3 * x[2] * x[3] * x[4], cube(0, 1, 10)),
    "Dette and Pepelyshev": Function(dette_pepelyshev, cube(0, 1, 8)),
    "Welch": Function(welch, cube(-0.5, 0.5, 20)),
    "Doppler": Function(
        lambda x: np.sqrt(x[0] * (1 - x[0])) * np.sin(2.1 * np.pi / (x[0] + 0.05)), ((0.05, 1), *cube(0, 1, 2))
    ),
    "product of three of ten": Function(lambda x: (x[:3] + 1).prod(axis=0), cube(-1, 1, 10)),
    "radius of ten": Function(lambda x: np.sqrt((x**2).sum(axis=0)), cube(-1, 1, 10)),
    "rings": Function(lambda x: np.cos(4 * np.sqrt((x**2).sum(axis=0))), cube(-1, 1, 4)),
}

ROUGH = {
    "Sobol's g": Function(sobol_g, cube(0, 1, 8)),
    "hinge of five": Function(lambda x: x.sum(axis=0).clip(0), cube(-1, 1, 5)),
    "largest of six": Function(lambda x: x.max(axis=0), cube(0, 1, 6)),
    "median of seven": Function(lambda x: np.median(x, axis=0), cube(0, 1, 7)),
    "count of twelve": Function(lambda x: (x > 0).sum(axis=0), cube(-1, 1, 12)),
    "stairs": Function(lambda x: np.floor(x[0]) + np.floor(x[1]) * x[2], cube(0, 5, 3)),
    "blocks": Function(blocks, cube(0, 1, 1)),
    "waves with jumps": Function(
        lambda x: 4 * np.sin(4 * np.pi * x[0]) - np.sign(x[0] - 0.3) - np.sign(0.72 - x[0]), cube(0, 1, 1)
    ),
    "bumps": Function(bumps, cube(0, 1, 1)),
    "fields": Function(lambda x: (np.floor(4 * x[0]) + np.floor(4 * x[1])) % 2 + x[0], cube(0, 1, 2)),
    "one of two functions": Function(lambda x: np.where(x[0] > 0, 2 * x[1], -3 * x[2] ** 2), cube(-1, 1, 6)),
    "remainder": Function(lambda x: x[0] % 7 + 0.2 * x[1], cube(0, 20, 2)),
    "angle": Function(lambda x: np.arctan2(x[0], x[1]), cube(-1, 1, 4)),
}

FUNCTIONS = PHYSICS | ENGINEERING | SMOOTH | ROUGH


def make(name: str, n: int, d: int, classes: int, seed: int) -> Any | None:
    """A model by name; None where it does not take part."""
    if name == "skgn":
        return (GNClassifier if classes else GNRegressor)(random_state=seed)
    if name == "gp":
        process = gaussian_process_of_labels if classes else gaussian_process
        return process(d, seed) if n <= (MOST_LABELS_OF_GP if classes else MOST_ROWS_OF_GP) else None
    if name == "boosting":
        return (HistGradientBoostingClassifier if classes else HistGradientBoostingRegressor)(random_state=seed)
    if name == "catboost":
        return catboost(regression=not classes)
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)) if classes else ridge()


def gaussian_process_of_labels(d: int, seed: int) -> Any:
    """A Gaussian process of logits with a length for each input."""
    kernel = ConstantKernel() * RBF(np.full(d, np.sqrt(d)), (1e-2, 1e4))
    return make_pipeline(StandardScaler(), GaussianProcessClassifier(kernel, random_state=seed))


def measure(name: str, function: Function, n: int, noise: float, classes: int, seed: int) -> dict[str, float] | None:
    """Fit and score a model; the figures by name, or None where it does not take part."""
    low, high = np.transpose(function.ranges)
    model = make(name, n, len(low), classes, seed)
    if model is None:
        return None
    rng = np.random.default_rng(seed)
    X = rng.uniform(low, high, (n + N_TEST, len(low)))
    clean = function.of(X.T) * 1.0
    if classes:
        y = np.searchsorted(np.quantile(clean, np.arange(1, classes) / classes), clean)
        y = np.where(rng.uniform(size=len(y)) < noise, rng.integers(classes, size=len(y)), y)
    else:
        y = clean + noise * clean.std() * rng.standard_normal(len(X))
    start = time.process_time()
    with warnings.catch_warnings():
        # Networks may use up max_iter, lengths of a Gaussian process their bounds: the scores show what that costs.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(X[:n], y[:n])
    seconds = {"cpu_seconds": time.process_time() - start}
    with warnings.catch_warnings():
        # Of uniform columns some rows lie beyond the others.
        warnings.simplefilter("ignore", UnfamiliarDataWarning)
        if classes:
            return seconds | scores_of_classes(model, X[n:], y[n:])
        return seconds | scores_of_numbers(model, X[n:], y[n:], clean[n:])


def scores_of_numbers(model: Any, X: np.ndarray, y: np.ndarray, clean: np.ndarray) -> dict[str, float]:
    """Error over the standard deviation, and the part of noisy targets within intervals of 90 %."""
    figures = {"rmse": float(np.sqrt(np.mean((model.predict(X) - clean) ** 2)) / clean.std())}
    if isinstance(model, GNRegressor):
        low, high = model.predict_interval(X, coverage=0.9).T
        figures["coverage"] = float(np.mean((low <= y) & (y <= high)))
    return figures


def scores_of_classes(model: Any, X: np.ndarray, y: np.ndarray) -> dict[str, float]:
    """Log loss, and the part of wrong labels."""
    probabilities = model.predict_proba(X)
    wrong = model.classes_[probabilities.argmax(axis=1)] != y
    return {"log_loss": float(log_loss(y, probabilities, labels=model.classes_)), "error": float(wrong.mean())}


def summarise(rows: list[dict[str, str]], models: list[str]) -> None:
    """Print ratios for each number of rows, classes and noise, and how many noisy targets the intervals hold."""
    of_case = itemgetter("n", "noise", "classes")
    for n, noise, classes in dict.fromkeys(map(of_case, rows)):
        here = [row for row in rows if of_case(row) == (n, noise, classes)]
        print(f"\n{n} rows, noise {noise}" + f", {classes} classes" * (classes != "0"))
        print_ratios(here, ["rmse"] if classes == "0" else ["log_loss", "error"], "cpu_seconds", models)
        held = [float(row["coverage"]) for row in here if row["coverage"]]
        if held:
            print(f"90 % intervals hold {np.mean(held):.1%}; at least 85 % in {np.mean(np.array(held) >= 0.85):.0%}")


def main() -> None:
    """Run what is missing from the results file and print the summary."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--names", default=",".join(FUNCTIONS))
    parser.add_argument("--rows", default="100,300,1000")
    parser.add_argument("--noise", default="0,0.1")
    parser.add_argument("--classes", default="0")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--summary", action="store_true", help="run nothing")
    arguments = parser.parse_args()
    models = arguments.models.split(",")
    if not arguments.out.exists():
        with arguments.out.open("w", newline="") as file:
            csv.DictWriter(file, FIELDS).writeheader()
    of_case = itemgetter(*CASE)
    done = set(map(of_case, read(arguments.out)))
    given = (arguments.names, arguments.rows, arguments.noise, arguments.classes)
    seeds = map(str, range(arguments.seeds))
    for case in () if arguments.summary else itertools.product(*(each.split(",") for each in given), seeds, models):
        name, n, noise, classes, seed, model = case
        function = FUNCTIONS[name]
        figures = None if case in done else measure(model, function, int(n), float(noise), int(classes), int(seed))
        if figures is not None:
            row = dict(zip(CASE, case, strict=True)) | {"d": len(function.ranges)} | figures
            with arguments.out.open("a", newline="") as file:
                csv.DictWriter(file, FIELDS).writerow(row)
    summarise(read(arguments.out), models)


if __name__ == "__main__":
    main()
