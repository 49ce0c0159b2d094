"""Test scores of estimators on data sets with published or drawn train/test splits.

    python examples/benchmarks/accuracy.py OUT.csv DATA_DIR [DATA_DIR ...] [--names yacht,energy] [--splits 20]
        [--cap 5000] [--models skgn,linear,boosting,catboost]
        [--parameters "hidden_layer_sizes=(20,)"] [--outliers 0.1]

Each DATA_DIR holds one NAME.npz for each data set with arrays X (n, d) and y (n,). With train_idx and test_idx (one row
a split) these are the splits; else 80 % of the rows are drawn, in the proportions of the classes. Classes of fewer than
five rows are left out. With CAP, so many of the training rows are drawn. A y of floats is regression, any other
classification. With OUTLIERS, that share of the training targets of a regression gets a gross error: five standard
deviations times a Student-t of 2 degrees of freedom.

The models are skgn with PARAMETERS, linear (ridge or logistic regression behind a scaler), boosting
(scikit-learn's `HistGradientBoosting`) and catboost.

One row of OUT.csv for each split and model. Regression: root mean squared error in the units of y and relative to the
standard deviation of the test targets. For skgn, the mean log likelihood with the predicted mean and standard
deviation, of Student-t noise with the degrees of freedom that the fit has found and of normal noise, and the coverage
of the 90 % interval. Classification: log loss, error rate, expected calibration error (15 bins of the largest
probability). And seconds of fit and predict, and processor seconds of the fit. Rows that are there already are kept,
so that a run can be resumed. The summary ends with ratios of the first model to each other one over the sets, for
regression and classification, and for sets of up to 1,500 training rows and larger ones. A score below 0.001 counts as
0.001 there. Set OMP_NUM_THREADS=1 for one thread.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from peers import catboost
from ratios import print_ratios
from scipy.stats import norm, t
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.metrics import log_loss
from sklearn.model_selection import ShuffleSplit, StratifiedShuffleSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skgn import GNClassifier, GNRegressor

MODELS = ["skgn", "linear", "boosting", "catboost"]

#: Training rows up to which a set is small.
SMALL = 1500

#: Fewest rows of a class, of which some are to be drawn for training and some for the test.
FEWEST = 5

Split = tuple[np.ndarray, np.ndarray]
SCORES = [
    *("rmse", "relative_rmse", "log_likelihood", "normal_log_likelihood", "coverage"),
    *("log_loss", "error", "calibration_error"),
]
FIELDS = ["set", "split", "model", "n", "d", *SCORES, "fit_seconds", "cpu_seconds", "predict_seconds"]


def make(name: str, regression: bool, parameters: dict[str, Any]) -> Any:
    """A model by its name; only our own has parameters."""
    if name == "linear":
        linear = RidgeCV(np.logspace(-3, 3, 13)) if regression else LogisticRegression(max_iter=1000)
        return make_pipeline(StandardScaler(), linear)
    if name == "boosting":
        return (HistGradientBoostingRegressor if regression else HistGradientBoostingClassifier)(random_state=0)
    if name == "catboost":
        return catboost(regression)
    return (GNRegressor if regression else GNClassifier)(random_state=0, **parameters)


def calibration_error(p: np.ndarray, codes: np.ndarray, bins: int = 15) -> float:
    """Expected calibration error: mean gap of confidence and accuracy over bins of the confidence."""
    confidence, correct = p.max(axis=1), p.argmax(axis=1) == codes
    bin_of = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = [abs((confidence - correct)[bin_of == b].sum()) for b in range(bins)]
    return float(sum(gaps) / len(p))


def score_regression(model: Any, X: np.ndarray, y: np.ndarray) -> dict[str, float]:
    """Errors, and for our own model what its standard deviations are worth."""
    if not isinstance(model, GNRegressor):
        rmse = float(np.sqrt(np.mean((y - model.predict(X)) ** 2)))
        return {"rmse": rmse, "relative_rmse": rmse / float(y.std())}
    mean, std = model.predict(X, return_std=True)
    rmse, nu = float(np.sqrt(np.mean((y - mean) ** 2))), model.noise_degrees_of_freedom_
    low, high = model.predict_interval(X, coverage=0.9).T
    normal = float(norm.logpdf(y, mean, std).mean())
    # Noise of fewer than two degrees of freedom has no standard deviation.
    has_tails = 2 < nu < np.inf
    return {
        "rmse": rmse,
        "relative_rmse": rmse / float(y.std()),
        "log_likelihood": float(t.logpdf(y, nu, mean, std * np.sqrt((nu - 2) / nu)).mean()) if has_tails else normal,
        "normal_log_likelihood": normal,
        "coverage": float(np.mean((low <= y) & (y <= high))),
    }


def score_classification(model: Any, X: np.ndarray, codes: np.ndarray) -> dict[str, float]:
    """Scores of the probabilities."""
    p = np.clip(model.predict_proba(X), 1e-7, 1)
    p /= p.sum(axis=1, keepdims=True)
    return {
        "log_loss": float(log_loss(codes, p, labels=np.arange(p.shape[1]))),
        "error": float(np.mean(p.argmax(axis=1) != codes)),
        "calibration_error": calibration_error(p, codes),
    }


def load(path: Path, n_splits: int, cap: int | None) -> tuple[np.ndarray, np.ndarray, list[Split]]:
    """Inputs, targets (class codes for classification), and pairs of training and test rows."""
    with np.load(path) as data:
        X, y = data["X"], data["y"]
        published = [data["train_idx"], data["test_idx"]] if "train_idx" in data else None
    regression = np.issubdtype(y.dtype, np.floating)
    if not regression:
        classes, counts = np.unique(y, return_counts=True)
        kept = np.isin(y, classes[counts >= FEWEST])
        X, y = X[kept], np.unique(y[kept], return_inverse=True)[1]
    if published is not None:
        splits = list(zip(*published, strict=True))[:n_splits]
    else:
        splitter = (ShuffleSplit if regression else StratifiedShuffleSplit)(n_splits, test_size=0.2, random_state=0)
        splits = list(splitter.split(X, y))
    if cap is not None:
        splits = [(np.random.default_rng(0).permutation(train)[:cap], test) for train, test in splits]
    return X, y, [(train, test[:5000]) for train, test in splits]


def spoil(y: np.ndarray, share: float) -> np.ndarray:
    """Targets with gross errors in a share of them."""
    rng = np.random.default_rng(0)
    hit = rng.random(len(y)) < share
    spoiled = y.copy()
    spoiled[hit] += 5 * y.std() * rng.standard_t(2, hit.sum())
    return spoiled


def evaluate(
    model: Any, X: np.ndarray, y: np.ndarray, train: np.ndarray, test: np.ndarray, outliers: float = 0.0
) -> dict[str, float]:
    """Fit on one split and score on its test part."""
    y_train = spoil(y[train], outliers) if outliers else y[train]
    start, cpu_start = time.perf_counter(), time.process_time()
    with warnings.catch_warnings():
        # Some members may use up max_iter; the scores show what that costs.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(X[train], y_train)
    fitted, cpu_seconds = time.perf_counter(), time.process_time() - cpu_start
    score = score_regression if np.issubdtype(y.dtype, np.floating) else score_classification
    scores = score(model, X[test], y[test])
    predict_seconds = time.perf_counter() - fitted
    seconds = {"fit_seconds": fitted - start, "cpu_seconds": cpu_seconds, "predict_seconds": predict_seconds}
    return {"n": len(train), "d": X.shape[1], **scores, **seconds}


def summarise(rows: list[dict[str, str]]) -> None:
    """Print mean and standard error over the splits of each data set and model."""
    for name, model in dict.fromkeys((row["set"], row["model"]) for row in rows):
        of_set = [row for row in rows if (row["set"], row["model"]) == (name, model)]
        cells = []
        for field in [*SCORES, "fit_seconds", "cpu_seconds"]:
            values = np.array([float(row[field]) for row in of_set if row[field]])
            if len(values):
                cells.append(f"{field} {values.mean():.4g} +- {values.std() / np.sqrt(len(values)):.2g}")
        print(f"{name:28s} {model:9s} splits {len(of_set):2d}  " + "  ".join(cells))


def compare(rows: list[dict[str, str]]) -> None:
    """Print ratios of the first model to each other one, by task and size."""
    models = list(dict.fromkeys(row["model"] for row in rows))
    for task, scores in {"regression": ["relative_rmse"], "classification": ["log_loss", "error"]}.items():
        of_task = [row for row in rows if row[scores[0]]]
        small = [row for row in of_task if int(row["n"]) <= SMALL]
        large = [row for row in of_task if int(row["n"]) > SMALL]
        for size, chosen in ((f"up to {SMALL} rows", small), ("more rows", large), ("all", of_task)):
            print(f"{task}, {size}, {len({row['set'] for row in chosen})} sets")
            print_ratios(chosen, scores, "cpu_seconds", models)


def main() -> None:
    """Run what is missing from the results file and print the summary."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("data", type=Path, nargs="+")
    parser.add_argument("--names")
    parser.add_argument("--splits", type=int, default=20)
    parser.add_argument("--cap", type=int, help="largest number of training rows")
    parser.add_argument("--models", default="skgn", help=f"any of {', '.join(MODELS)}")
    parser.add_argument("--parameters", default="", help="constructor arguments of skgn, such as 'n_estimators=8'")
    parser.add_argument("--outliers", type=float, default=0.0, help="share of regression targets to spoil")
    arguments = parser.parse_args()
    models, names = arguments.models.split(","), arguments.names.split(",") if arguments.names else None
    if unknown := set(models) - set(MODELS):
        parser.error(f"models are any of {', '.join(MODELS)}, not {', '.join(sorted(unknown))}")
    parameters = eval(f"dict({arguments.parameters})")  # the user's own command line
    if not arguments.out.exists():
        with arguments.out.open("w", newline="") as file:
            csv.DictWriter(file, FIELDS).writeheader()
    with arguments.out.open() as file:
        done = {(row["set"], row["split"], row["model"]) for row in csv.DictReader(file)}
    paths = [path for folder in arguments.data for path in sorted(folder.glob("*.npz"))]
    for path in paths:
        if names is not None and path.stem not in names:
            continue
        X, y, splits = load(path, arguments.splits, arguments.cap)
        for (number, split), name in itertools.product(enumerate(splits), models):
            if (path.stem, str(number), name) in done:
                continue
            model = make(name, np.issubdtype(y.dtype, np.floating), parameters)
            row = {"set": path.stem, "split": number, "model": name}
            row |= evaluate(model, X, y, *split, arguments.outliers)
            with arguments.out.open("a", newline="") as file:
                csv.DictWriter(file, FIELDS).writerow(row)
    with arguments.out.open() as file:
        rows = list(csv.DictReader(file))
    summarise(rows)
    compare(rows)


if __name__ == "__main__":
    main()
