"""What standard deviations and intervals are worth on test rows, with constant noise and noise that depends on x.

    python examples/benchmarks/intervals.py OUT.csv DATA_DIR [DATA_DIR ...] [--models "auto;constant;gp;quantiles"]
        [--names yacht,energy] [--splits 3] [--max-n 2000]

Each DATA_DIR holds one NAME.npz for each data set with arrays X (n, d) and y (n,). For each split, 80 % of the rows are
drawn for training. The models are "auto", "constant" and "input" (`GNRegressor` with this ``noise``), "calibrated"
("auto" with calibrated intervals), "gp" (`GaussianProcessRegressor` with a kernel of one length scale a feature, up to
1,000 training rows) and "quantiles" (a pair of `HistGradientBoostingRegressor` for 5 % and 95 %, one for the median).
Where these packages are installed, there are "catboost" (``RMSEWithUncertainty``), "ngboost" and "mapie" (conformalised
quantile regression with `HistGradientBoostingRegressor`).

One row of OUT.csv for each split and model, in units of the standard deviation of the test targets: root mean squared
error, negative log likelihood and continuous ranked probability score of a normal distribution, and the interval score
of the central 90 % interval. Then the coverage of this interval, on all rows and in each third of the predicted widths,
and wall and processor seconds of the fit. Intervals are the model's own where it has some. Quantiles stand for the
normal distribution of the same width and median. Rows that are there already are kept, so that a run can be resumed.
Set OMP_NUM_THREADS=1 for one thread.

References
----------
T. Gneiting and A. E. Raftery, Strictly proper scoring rules, prediction, and estimation, JASA 102 (2007).
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import logging
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import norm
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel
from sklearn.model_selection import ShuffleSplit, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skgn import GNRegressor

#: Standard deviations from the centre of a normal distribution to the ends of its central 90 % interval.
REACH = norm.ppf(0.95)

#: Training rows up to which a Gaussian process is fitted.
GP_ROWS = 1000


class Predicted(NamedTuple):
    """Means and standard deviations, and the ends of central 90 % intervals, each (n,)."""

    mean: np.ndarray
    std: np.ndarray
    low: np.ndarray
    high: np.ndarray


Predict = Callable[[np.ndarray], Predicted]

SCORES = ["rmse", "nll", "crps", "interval_score", "coverage", "narrow", "middle", "wide"]
FIELDS = ["set", "split", "model", "n", "d", *SCORES, "seconds", "cpu"]


def normal(mean: np.ndarray, std: np.ndarray) -> Predicted:
    """A normal distribution, and its interval."""
    return Predicted(mean, std, mean - REACH * std, mean + REACH * std)


def between(median: np.ndarray, low: np.ndarray, high: np.ndarray, shortest: float) -> Predicted:
    """An interval, and the normal distribution that is as wide, around the median. Quantiles may cross."""
    middle, half = (low + high) / 2, np.maximum(high - low, shortest) / 2
    return Predicted(median, half / REACH, middle - half, middle + half)


def ours(noise: str, calibrate: bool = False) -> Callable[[np.ndarray, np.ndarray], Predict]:
    """Our regressor with this ``noise``, and its intervals as predicted or calibrated."""

    def fit(X: np.ndarray, y: np.ndarray) -> Predict:
        model = GNRegressor(noise=noise, random_state=0).fit(X, y)

        def predict(new: np.ndarray) -> Predicted:
            interval = model.predict_interval(new, coverage=0.9, calibrate=calibrate)
            return Predicted(*model.predict(new, return_std=True), *interval.T)

        return predict

    return fit


def gaussian_process(X: np.ndarray, y: np.ndarray) -> Predict:
    """A Gaussian process of scikit-learn with noise."""
    kernel = ConstantKernel() * RBF(np.ones(X.shape[1])) + WhiteKernel()
    model = make_pipeline(StandardScaler(), GaussianProcessRegressor(kernel, normalize_y=True, random_state=0))
    model.fit(X, y)
    return lambda new: normal(*model.predict(new, return_std=True))


def quantiles(X: np.ndarray, y: np.ndarray) -> Predict:
    """Boosted trees for three quantiles."""
    low, middle, high = (
        HistGradientBoostingRegressor(loss="quantile", quantile=q, random_state=0).fit(X, y) for q in (0.05, 0.5, 0.95)
    )

    shortest = 1e-3 * y.std()
    return lambda new: between(middle.predict(new), low.predict(new), high.predict(new), shortest)


def catboost(X: np.ndarray, y: np.ndarray) -> Predict:
    """CatBoost with the likelihood of a normal distribution."""
    from catboost import CatBoostRegressor

    options = {"verbose": 0, "thread_count": 1, "random_state": 0, "allow_writing_files": False}
    model = CatBoostRegressor(loss_function="RMSEWithUncertainty", **options).fit(X, y)

    def predict(new: np.ndarray) -> Predicted:
        mean, variance = model.predict(new).T
        return normal(mean, np.sqrt(variance))

    return predict


def ngboost(X: np.ndarray, y: np.ndarray) -> Predict:
    """NGBoost with its defaults, which are a normal distribution."""
    from ngboost import NGBRegressor

    model = NGBRegressor(verbose=False, random_state=0).fit(X, y)

    def predict(new: np.ndarray) -> Predicted:
        found = model.pred_dist(new)
        return normal(found.loc, found.scale)

    return predict


def mapie(X: np.ndarray, y: np.ndarray) -> Predict:
    """MAPIE's conformalised quantile regression with boosted trees; a fifth of the rows is left out for it."""
    from mapie.regression import ConformalizedQuantileRegressor

    # It says for each call that some quantiles cross.
    logging.getLogger().setLevel(logging.WARNING)
    trees = HistGradientBoostingRegressor(loss="quantile", quantile=0.5, random_state=0)
    model = ConformalizedQuantileRegressor(trees, confidence_level=0.9)
    train, left_out, y_train, y_left_out = train_test_split(X, y, test_size=0.2, random_state=0)
    model.fit(train, y_train).conformalize(left_out, y_left_out)
    shortest = 1e-3 * y.std()

    def predict(new: np.ndarray) -> Predicted:
        median, ends = model.predict_interval(new)
        return between(median, *ends[:, :, 0].T, shortest)

    return predict


MODELS: dict[str, Callable[[np.ndarray, np.ndarray], Predict]] = {
    **{noise: ours(noise) for noise in ("auto", "constant", "input")},
    "calibrated": ours("auto", calibrate=True),
    "gp": gaussian_process,
    "quantiles": quantiles,
    **{fit.__name__: fit for fit in (catboost, ngboost, mapie) if importlib.util.find_spec(fit.__name__)},
}


def scores(y: np.ndarray, predicted: Predicted) -> dict[str, float]:
    """Scores of predictions, in units of the standard deviation of y."""
    unit = y.std()
    residual, std = (y - predicted.mean) / unit, predicted.std / unit
    z = residual / std
    crps = std * (z * (2 * norm.cdf(z) - 1) + 2 * norm.pdf(z) - 1 / np.sqrt(np.pi))
    width = (predicted.high - predicted.low) / unit
    outside = np.maximum(np.maximum(predicted.low - y, y - predicted.high), 0) / unit
    inside = outside == 0
    thirds = np.array_split(inside[np.argsort(width, kind="stable")], 3)
    return {
        "rmse": float(np.sqrt(np.mean(residual**2))),
        "nll": float(-norm.logpdf(residual, scale=std).mean()),
        "crps": float(crps.mean()),
        "interval_score": float(np.mean(width + 2 / 0.1 * outside)),
        "coverage": float(inside.mean()),
        **{name: float(third.mean()) for name, third in zip(("narrow", "middle", "wide"), thirds, strict=True)},
    }


def splits(path: Path, count: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """Training and test parts of a data set."""
    with np.load(path) as data:
        X, y = data["X"], data["y"].astype(float)
    for train, test in ShuffleSplit(count, test_size=0.2, random_state=0).split(X):
        yield X[train], y[train], X[test], y[test]


def evaluate(model: str, X: np.ndarray, y: np.ndarray, new: np.ndarray, truth: np.ndarray) -> dict[str, Any]:
    """Fit on one split and score on its test part."""
    wall, cpu = time.perf_counter(), time.process_time()
    with warnings.catch_warnings():
        # Some members may use up max_iter, and length scales reach their bounds; the scores show what that costs.
        warnings.simplefilter("ignore", ConvergenceWarning)
        predict = MODELS[model](X, y)
    seconds = {"seconds": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
    return {"n": len(X), "d": X.shape[1], **scores(truth, predict(new)), **seconds}


def summarise(rows: list[dict[str, str]], models: list[str]) -> None:
    """Print for each model the mean over the sets, and its scores against those of the first model."""
    sets = list(dict.fromkeys(row["set"] for row in rows))
    fields = [*SCORES, "seconds", "cpu"]

    def mean_of(model: str, name: str) -> np.ndarray:
        of_both = [row for row in rows if (row["model"], row["set"]) == (model, name)]
        values = [[float(row[field]) for field in fields] for row in of_both]
        return np.mean(values, axis=0) if values else np.full(len(fields), np.nan)

    table = {model: np.array([mean_of(model, name) for name in sets]) for model in models}
    print(f"{len(sets)} sets " + " ".join(f"{field:>14s}" for field in fields))
    for model, values in table.items():
        print(f"{model:9s}" + " ".join(f"{value:14.4f}" for value in np.nanmean(values, axis=0)))
    first, rng = models[0], np.random.default_rng(0)
    for model in models[1:]:
        both = np.isfinite(table[first]).all(1) & np.isfinite(table[model]).all(1)
        a, b = table[first][both], table[model][both]
        for field in ("rmse", "nll", "crps", "interval_score", "cpu"):
            column = fields.index(field)
            # A difference of log likelihoods is already the logarithm of a ratio.
            x, y = (v[:, column] if field == "nll" else np.log(v[:, column]) for v in (a, b))
            ratio = x - y
            draws = ratio[rng.integers(len(ratio), size=(10_000, len(ratio)))].mean(1)
            low, high = np.exp(np.quantile(draws, [0.025, 0.975]))
            print(
                f"{first} over {model}, {len(ratio)} sets, {field}: {np.exp(ratio.mean()):.3g} "
                f"[{low:.3g}, {high:.3g}], "
                f"median {np.exp(np.median(ratio)):.3g}, better on {(ratio < -0.01).sum()}, "
                f"worse on {(ratio > 0.01).sum()}"
            )


def main() -> None:
    """Run what is missing from the results file and print the summary."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("data", type=Path, nargs="+")
    parser.add_argument("--models", default="auto;constant", help=f"some of {';'.join(MODELS)}")
    parser.add_argument("--names")
    parser.add_argument("--splits", type=int, default=3)
    parser.add_argument("--max-n", type=int, default=2000, help="largest number of rows of a set")
    arguments = parser.parse_args()
    unknown = [model for model in arguments.models.split(";") if model not in MODELS]
    if unknown:
        parser.error(f"--models has {', '.join(unknown)}; {', '.join(MODELS)} are there.")
    paths = [path for folder in arguments.data for path in sorted(folder.glob("*.npz"))]
    chosen = arguments.names.split(",") if arguments.names else [path.stem for path in paths]
    if not arguments.out.exists():
        with arguments.out.open("w", newline="") as file:
            csv.DictWriter(file, FIELDS).writeheader()
    with arguments.out.open() as file:
        done = {(row["set"], row["split"], row["model"]) for row in csv.DictReader(file)}
    for path in paths:
        with np.load(path) as data:
            n = len(data["y"])
        if path.stem not in chosen or n > arguments.max_n:
            continue
        for number, split in enumerate(splits(path, arguments.splits)):
            for model in arguments.models.split(";"):
                if (path.stem, str(number), model) in done or (model == "gp" and len(split[0]) > GP_ROWS):
                    continue
                result = evaluate(model, *split)
                with arguments.out.open("a", newline="") as file:
                    csv.DictWriter(file, FIELDS).writerow({"set": path.stem, "split": number, "model": model, **result})
    with arguments.out.open() as file:
        summarise(list(csv.DictReader(file)), arguments.models.split(";"))


if __name__ == "__main__":
    main()
