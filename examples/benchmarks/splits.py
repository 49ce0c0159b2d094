"""Test error, log likelihood and coverage of default regressors on data sets with published train/test splits.

    python examples/benchmarks/splits.py DATA_DIR OUT.csv [--names yacht,energy] [--splits 20] [--parameters "..."]

DATA_DIR holds one NAME.npz for each data set with arrays X (n, d), y (n,), train_idx and test_idx (one row a split).
One row of OUT.csv for each split: root mean squared error in the units of y, mean log likelihood of a Gaussian with the
predicted mean and standard deviation, coverage of the central 90 % interval, seconds of fit and predict. Rows that are
there already are kept, so that a run can be resumed. Set OMP_NUM_THREADS=1 for one thread.
"""

from __future__ import annotations

import argparse
import csv
import time
import warnings
from pathlib import Path

import numpy as np
from scipy.stats import norm
from sklearn.exceptions import ConvergenceWarning

from skgn import GNRegressor

FIELDS = ["set", "split", "n", "d", "rmse", "log_likelihood", "coverage", "fit_seconds", "predict_seconds"]


def evaluate(X: np.ndarray, y: np.ndarray, train: np.ndarray, test: np.ndarray, parameters: dict) -> dict[str, float]:
    """Fit on one split and score on its test part."""
    start = time.perf_counter()
    with warnings.catch_warnings():
        # Some members may use up max_iter; the scores show what that costs.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = GNRegressor(random_state=0, **parameters).fit(X[train], y[train])
    fitted = time.perf_counter()
    mean, std = model.predict(X[test], return_std=True)
    return {
        "n": len(train),
        "d": X.shape[1],
        "rmse": float(np.sqrt(np.mean((y[test] - mean) ** 2))),
        "log_likelihood": float(norm(mean, std).logpdf(y[test]).mean()),
        "coverage": float(np.mean(np.abs(y[test] - mean) <= norm.ppf(0.95) * std)),
        "fit_seconds": fitted - start,
        "predict_seconds": time.perf_counter() - fitted,
    }


def summarise(rows: list[dict[str, str]]) -> None:
    """Print mean and standard error over the splits of each data set."""
    for name in dict.fromkeys(row["set"] for row in rows):
        of_set = [row for row in rows if row["set"] == name]
        cells = []
        for field in ("rmse", "log_likelihood", "coverage", "fit_seconds"):
            values = np.array([float(row[field]) for row in of_set])
            cells.append(f"{field} {values.mean():.4g} +- {values.std() / np.sqrt(len(values)):.2g}")
        print(f"{name:28s} splits {len(of_set):2d}  " + "  ".join(cells))


def main() -> None:
    """Run what is missing from the results file and print the summary."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--names")
    parser.add_argument("--splits", type=int, default=20)
    parser.add_argument("--parameters", default="", help="constructor arguments, such as 'n_estimators=8'")
    arguments = parser.parse_args()
    names = arguments.names.split(",") if arguments.names else sorted(p.stem for p in arguments.data.glob("*.npz"))
    parameters = eval(f"dict({arguments.parameters})")  # the user's own command line
    new = not arguments.out.exists()
    with arguments.out.open("a", newline="") as file:
        writer = csv.DictWriter(file, FIELDS)
        if new:
            writer.writeheader()
    with arguments.out.open() as file:
        done = {(row["set"], row["split"]) for row in csv.DictReader(file)}
    for name in names:
        with np.load(arguments.data / f"{name}.npz") as data:
            X, y = data["X"], data["y"]
            splits = list(zip(data["train_idx"], data["test_idx"], strict=True))[: arguments.splits]
        for number, (train, test) in enumerate(splits):
            if (name, str(number)) not in done:
                scores = evaluate(X, y, train, test, parameters)
                with arguments.out.open("a", newline="") as file:
                    csv.DictWriter(file, FIELDS).writerow({"set": name, "split": number, **scores})
    with arguments.out.open() as file:
        summarise(list(csv.DictReader(file)))


if __name__ == "__main__":
    main()
