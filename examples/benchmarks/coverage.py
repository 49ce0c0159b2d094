"""Coverage of 90 % intervals over simulated sets, as predicted and calibrated, and whether noise is told apart.

    python examples/benchmarks/coverage.py [--sets 200] [--rows 60] [--new 500]

Each set has three features, and y is x0 + sin(2 x1) with noise of some kind. A default fit on ROWS rows predicts NEW
other ones. One line for each kind of noise: the part of all new rows in the intervals of
``predict_interval(X, 0.9)``, with its standard error over the sets, the same with ``calibrate=True``, the mean over the
sets of their widths relative to the former, and in how many sets the fit took the noise to depend on the input.

Then the noise whose standard deviation is exp(x / 1.2 - 0.7) for one feature uniform between -2 and 2, 1,000 rows, in
three sets: the negative log likelihood of 20,000 new rows with ``noise="constant"`` and "auto", that of the truth, and
the coverage of the 90 % intervals of "auto" in each quarter of x. Set OMP_NUM_THREADS=1 for one thread.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable

import numpy as np
from scipy.stats import norm
from sklearn.exceptions import ConvergenceWarning

from skgn import GNRegressor

#: Noise of n rows X.
NOISE: dict[str, Callable[[np.ndarray, np.random.Generator], np.ndarray]] = {
    "normal": lambda X, rng: 0.3 * rng.normal(size=len(X)),
    "student_t, 2 degrees of freedom": lambda X, rng: 0.3 * rng.standard_t(2, size=len(X)),
    "exponential": lambda X, rng: 0.5 * rng.exponential(size=len(X)),
    "normal, growing with a feature": lambda X, rng: 0.3 * np.exp(X[:, 0] / 2) * rng.normal(size=len(X)),
}

COVERAGE = 0.9


def draw(n: int, noise: str, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw rows of three features and their targets."""
    X = rng.normal(size=(n, 3))
    return X, X[:, 0] + np.sin(2 * X[:, 1]) + NOISE[noise](X, rng)


def print_coverage(noise: str, n_sets: int, rows: int, new: int) -> None:
    """Print the line of one kind of noise."""
    inside, widths, varying = [], [], 0
    for seed in range(n_sets):
        rng = np.random.default_rng(seed)
        (X, y), (X_new, y_new) = draw(rows, noise, rng), draw(new, noise, rng)
        model = GNRegressor(random_state=0).fit(X, y)
        ends = [model.predict_interval(X_new, COVERAGE, calibrate=calibrate) for calibrate in (False, True)]
        inside.append([np.mean((low <= y_new) & (y_new <= high)) for low, high in (e.T for e in ends)])
        widths.append(np.ptp(ends[1], axis=1).mean() / np.ptp(ends[0], axis=1).mean())
        varying += model.noise_ == "input"
    mean, error = np.mean(inside, axis=0), np.std(inside, axis=0) / np.sqrt(n_sets)
    held = "  ".join(f"{m:6.1%} +/- {e:.1%}" for m, e in zip(mean, error, strict=True))
    print(f"{noise:32s} {held}  {np.mean(widths):6.2f}  {varying:4d} of {n_sets}", flush=True)


def scale_at(x: np.ndarray) -> np.ndarray:
    """Standard deviation of the noise at x."""
    return np.exp(x / 1.2 - 0.7)


def print_noise_at_x(seed: int) -> None:
    """Print the line of one set whose noise depends on x."""
    rng = np.random.default_rng(seed)

    def draw_at(n: int) -> tuple[np.ndarray, np.ndarray]:
        x = rng.uniform(-2, 2, size=n)
        return x[:, None], np.sin(2 * x) + scale_at(x) * rng.normal(size=n)

    (X, y), (X_new, y_new) = draw_at(1000), draw_at(20_000)
    x = X_new[:, 0]
    nll = {"truth": -norm(np.sin(2 * x), scale_at(x)).logpdf(y_new).mean()}
    for noise in ("constant", "auto"):
        mean, std = GNRegressor(noise=noise, random_state=0).fit(X, y).predict(X_new, return_std=True)
        nll[noise] = -norm(mean, std).logpdf(y_new).mean()
    inside = np.abs(y_new - mean) <= norm.ppf(0.5 + COVERAGE / 2) * std
    quarters = [inside[part].mean() for part in np.array_split(np.argsort(x), 4)]
    print(*(f"{name} {value:.3f}" for name, value in nll.items()), "quarters", *(f"{q:.1%}" for q in quarters))


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=int, default=200)
    parser.add_argument("--rows", type=int, default=60)
    parser.add_argument("--new", type=int, default=500)
    given = parser.parse_args()
    # Some members may use up max_iter.
    warnings.simplefilter("ignore", ConvergenceWarning)
    print(f"{'noise':32s} {'as predicted':>15s}  {'calibrated':>15s}  {'width':>6s}  noise_ input")
    for noise in NOISE:
        print_coverage(noise, given.sets, given.rows, given.new)
    for seed in range(3):
        print_noise_at_x(seed)


if __name__ == "__main__":
    main()
