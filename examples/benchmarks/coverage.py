"""Coverage of 90 % intervals over simulated sets, as predicted and calibrated, and whether noise is told apart.

    python examples/benchmarks/coverage.py [--sets 200] [--rows 60] [--new 500]
    python examples/benchmarks/coverage.py --sizes DATA_DIR [DATA_DIR ...] [--sets 2000] [--max-n 2000]

Each set has three features, and y is x0 + sin(2 x1) with noise of some kind. A default fit on ROWS rows predicts NEW
other ones. One line for each kind of noise: the part of all new rows in the intervals of
``predict_interval(X, 0.9)``, with its standard error over the sets, the same with ``calibrate=True``, the mean over the
sets of their widths relative to the former, and in how many sets the fit took the noise to depend on the input.

Then the noise whose standard deviation is exp(x / 1.2 - 0.7) for one feature uniform between -2 and 2, 1,000 rows, in
three sets: the negative log likelihood of 20,000 new rows with ``noise="constant"`` and "auto", that of the truth, and
the coverage of the 90 % intervals of "auto" in each quarter of x. Set OMP_NUM_THREADS=1 for one thread.

With --sizes nothing is fitted. Normal residuals are drawn for tables of the sizes of the sets in each DATA_DIR, SETS
times, and split as in ``intervals.py``. A table is within if its intervals hold 87 to 93 % of the test rows in the mean
over the splits. There is one line for each half-width, for 3 splits and for 10. It has the mean number of tables within
and its 5 and 95 % quantiles over the draws. "Enough" is the part of the draws with at least four tables in five within.
The "exact" half-width is that of known noise. Others are learned from the training rows, where the mean is known. The
"quantile" of absolute residuals has the rank 0.9 (n + 1), of all n training rows or "of a fifth". The "scale" is that
of normal noise.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy.stats import norm, t
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import ShuffleSplit

from skgn import GNRegressor

#: Noise of n rows X.
NOISE: dict[str, Callable[[np.ndarray, np.random.Generator], np.ndarray]] = {
    "normal": lambda X, rng: 0.3 * rng.normal(size=len(X)),
    "student_t, 2 degrees of freedom": lambda X, rng: 0.3 * rng.standard_t(2, size=len(X)),
    "exponential": lambda X, rng: 0.5 * rng.exponential(size=len(X)),
    "normal, growing with a feature": lambda X, rng: 0.3 * np.exp(X[:, 0] / 2) * rng.normal(size=len(X)),
}

COVERAGE = 0.9


def quantile(residual: np.ndarray) -> np.ndarray:
    """Absolute residual of each draw that a further row exceeds with a probability of at most one in ten."""
    rank = int(np.ceil(COVERAGE * (residual.shape[1] + 1)))
    return np.partition(residual, rank - 1, axis=1)[:, rank - 1]


#: Half-width of intervals from absolute residuals of training rows, an array of (draws, rows).
HALF_WIDTH: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "exact": lambda residual: np.full(len(residual), norm.ppf(0.5 + COVERAGE / 2)),
    "quantile": quantile,
    "quantile of a fifth": lambda residual: quantile(residual[:, : residual.shape[1] // 5]),
    "scale": lambda residual: t.ppf(0.5 + COVERAGE / 2, residual.shape[1]) * np.sqrt(np.mean(residual**2, axis=1)),
}


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


def rows_of(path: Path) -> int:
    """Rows of a data set."""
    with np.load(path) as data:
        return len(data["y"])


def print_within(folders: list[Path], draws: int, max_n: int) -> None:
    """Print how many tables of these sizes intervals are expected to cover within 87 to 93 %."""
    sizes = [n for folder in folders for path in sorted(folder.glob("*.npz")) if (n := rows_of(path)) <= max_n]
    rng = np.random.default_rng(0)
    held: dict[str, list[list[np.ndarray]]] = {name: [] for name in HALF_WIDTH}
    for n in sizes:
        residual = np.abs(rng.normal(size=(draws, n)))
        split = list(ShuffleSplit(10, test_size=0.2, random_state=0).split(residual[0]))
        for name, half_width in HALF_WIDTH.items():
            held[name].append(
                [np.mean(residual[:, test] <= half_width(residual[:, train])[:, None], axis=1) for train, test in split]
            )
    print(f"{len(sizes)} tables of {min(sizes)} to {max(sizes)} rows, {draws} draws")
    for name in HALF_WIDTH:
        cells = []
        for count in (3, 10):
            mean = np.mean(np.array(held[name])[:, :count], axis=1)
            # A mean of exactly 87 or 93 % may be off by rounding.
            within = np.sum(np.abs(mean - COVERAGE) <= 0.03 + 1e-9, axis=0)
            low, high = np.quantile(within, [0.05, 0.95])
            enough = np.mean(within >= 0.8 * len(sizes))
            cells.append(f"{count:2d} splits {within.mean():5.2f} ({low:.0f} to {high:.0f}), {enough:5.1%} enough")
        print(f"{name:20s} {'   '.join(cells)}  mean coverage {np.mean(held[name]):.2%}")


def main() -> None:
    """Print both tables, or that of the sizes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=int, help="simulated sets; 200, or 2,000 with --sizes")
    parser.add_argument("--rows", type=int, default=60)
    parser.add_argument("--new", type=int, default=500)
    parser.add_argument("--sizes", type=Path, nargs="+", metavar="DATA_DIR", help="folders of NAME.npz with y (n,)")
    parser.add_argument("--max-n", type=int, default=2000, help="largest number of rows of a set of --sizes")
    given = parser.parse_args()
    if given.sizes:
        print_within(given.sizes, given.sets or 2000, given.max_n)
        return
    # Some members may use up max_iter.
    warnings.simplefilter("ignore", ConvergenceWarning)
    print(f"{'noise':32s} {'as predicted':>15s}  {'calibrated':>15s}  {'width':>6s}  noise_ input")
    for noise in NOISE:
        print_coverage(noise, given.sets or 200, given.rows, given.new)
    for seed in range(3):
        print_noise_at_x(seed)


if __name__ == "__main__":
    main()
