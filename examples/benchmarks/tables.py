"""Tables as they are, beside gradient boosting and beside an encoder in a pipeline.

    python examples/benchmarks/tables.py DATA_DIR OUT.csv [--names titanic,autompg] [--models skgn,pipeline,boosting]
        [--folds 5] [--cap 5000] [--parameters "n_estimators=1"]

DATA_DIR holds for each set NAME.csv, with the column "target", and NAME.json, whose "task" is "reg" or "clf". Each is
read by pandas, empty cells as missing, cut to CAP random rows, and scored in shuffled folds (stratified by class) by

- skgn: ``GNRegressor().fit(table, y)`` or ``GNClassifier().fit(table, y)``;
- pipeline: the same behind a median imputer with indicators and a one-hot encoder of all levels;
- boosting: ``HistGradientBoosting*(categorical_features="from_dtype")``, strings cast to categories;
- linear, if asked for: ``RidgeCV()`` or ``LogisticRegression()`` behind that encoder and a scaler;
- catboost, if asked for: CatBoost at its defaults, with the same categories.

Regression: root mean squared error over the standard deviation of the test targets. Classification: log loss, and the
part of wrong labels. One row of OUT.csv for each set, model and fold, with the processor seconds of the fit; for a
regression by skgn also the score expected from left-out rows, and the coverage of its 90 % intervals. Rows that are
there are kept, so that a run can be resumed; another cap needs another file. The summary has mean and standard error
over the folds, and those of the difference to skgn on the same folds. It ends with ratios of skgn to each other model
over the sets: median, geometric mean with its 95 % interval by resampling sets, sets won and lost by more than 1 %. A
score below 0.001 counts as 0.001 there: nobody cares by how much an exact fit is more exact than another. Set
OMP_NUM_THREADS=1 for one thread.
"""

from __future__ import annotations

import argparse
import csv
import json
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import sklearn
import torch
from peers import catboost
from ratios import log_ratios, means, print_ratios
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.metrics import log_loss
from sklearn.model_selection import KFold, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import skgn
from skgn import GNClassifier, GNRegressor

MODELS = ["skgn", "pipeline", "boosting", "linear", "catboost"]
ABOUT = ["set", "model", "fold", "n", "features", "categories", "missing"]
FIELDS = [*ABOUT, "score", "error", "left_out", "coverage", "cpu_seconds"]


def make(name: str, regression: bool, parameters: dict[str, Any]) -> Any:
    """A model that takes a table."""
    if name == "boosting":
        boosting = HistGradientBoostingRegressor if regression else HistGradientBoostingClassifier
        return boosting(categorical_features="from_dtype", random_state=0)
    if name == "catboost":
        return catboost(regression)
    network = (GNRegressor if regression else GNClassifier)(random_state=0, **parameters)
    if name == "skgn":
        return network
    numbers = SimpleImputer(strategy="median", add_indicator=True)
    levels = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    encoder = make_column_transformer(
        (numbers, make_column_selector(dtype_include="number")),
        (levels, make_column_selector(dtype_exclude="number")),
    )
    if name == "linear":
        return make_pipeline(encoder, StandardScaler(), RidgeCV() if regression else LogisticRegression(max_iter=1000))
    return make_pipeline(encoder, network)


def as_read(table: pd.DataFrame, name: str) -> pd.DataFrame:
    """The table in the form that a model takes."""
    texts = table.select_dtypes(exclude="number").columns
    if name == "catboost":
        table = table.fillna(dict.fromkeys(texts, "missing")).astype(dict.fromkeys(texts, str))
    return table.astype(dict.fromkeys(texts, "category")) if name in ("boosting", "catboost") else table


def load(folder: Path, name: str, cap: int) -> tuple[pd.DataFrame, np.ndarray, bool]:
    """A table, its target, and whether that is a number."""
    regression = json.loads((folder / f"{name}.json").read_text())["task"] == "reg"
    table = pd.read_csv(folder / f"{name}.csv", keep_default_na=False, na_values=[""])
    table = table.sample(min(cap, len(table)), random_state=0).reset_index(drop=True)
    y = table.pop("target").to_numpy()
    # Classes may be called by fractions.
    return table, y if regression else y.astype(str), regression


def scores(model: Any, X: pd.DataFrame, y: np.ndarray, regression: bool) -> dict[str, float]:
    """Relative root mean squared error, or log loss and part of wrong labels; small is good.

    For our own regression, also what it expected from left-out rows, and the part of y inside the 90 % intervals.
    """
    if regression:
        error = {"score": float(np.sqrt(np.mean((y - model.predict(X)) ** 2)) / y.std())}
        if not isinstance(model, GNRegressor):
            return error
        low, high = model.predict_interval(X, 0.9).T
        expected = float(np.sqrt(max(0.0, 1 - model.left_out_score_)))
        return error | {"left_out": expected, "coverage": float(np.mean((low <= y) & (y <= high)))}
    p = np.clip(model.predict_proba(X), 1e-7, 1)
    p /= p.sum(axis=1, keepdims=True)
    loss = float(log_loss(y, p, labels=model.classes_))
    return {"score": loss, "error": float(np.mean(model.classes_[p.argmax(axis=1)] != y))}


def spread(values: np.ndarray) -> float:
    """Standard error of a mean."""
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else np.nan


def summarise(rows: list[dict[str, str]]) -> None:
    """Print mean and standard error over the folds, and the difference to skgn on folds that both have."""
    versions = f"skgn {skgn.__version__}, scikit-learn {sklearn.__version__}, torch {torch.__version__}"
    print(f"{versions}, pandas {pd.__version__}, numpy {np.__version__}")
    for name in dict.fromkeys(row["set"] for row in rows):
        of = [row for row in rows if row["set"] == name]
        print(name, *(f"{key} {of[0][key]}" for key in ("n", "features", "categories", "missing")))
        folds = {m: {row["fold"]: float(row["score"]) for row in of if row["model"] == m} for m in MODELS}
        for model, by_fold in folds.items():
            if not by_fold:
                continue
            values = np.array(list(by_fold.values()))
            seconds = np.mean([float(row["cpu_seconds"]) for row in of if row["model"] == model])
            line = f"  {model:9s} {values.mean():.3f} +- {spread(values):.3f}  fit {seconds:.1f} s  folds {len(values)}"
            gap = np.array([value - folds["skgn"][fold] for fold, value in by_fold.items() if fold in folds["skgn"]])
            if model != "skgn" and len(gap):
                line += f"  minus skgn {gap.mean():+.3f} +- {spread(gap):.3f}, skgn no worse in {(gap >= 0).sum()}"
            print(line)


def compare(rows: list[dict[str, str]]) -> None:
    """Print ratios of skgn to each other model over the sets that both have, and how far its intervals are right."""
    coverage = np.array(list(means(rows, "coverage", "skgn").values()))
    if len(coverage):
        logs = log_ratios(means(rows, "score", "skgn"), means(rows, "left_out", "skgn"))
        print(
            f"90 % intervals of skgn hold {coverage.mean():.1%} on the mean of {len(coverage)} sets, 80 to 97 % on "
            f"{((coverage >= 0.8) & (coverage <= 0.97)).sum()}; score over that of left-out rows: median "
            f"{np.exp(np.median(logs)):.3f}"
        )
    print_ratios(rows, ["score", "error"], "cpu_seconds", MODELS)


def main() -> None:
    """Run what is missing from the results file and print the summary."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--names")
    parser.add_argument("--models", default=",".join(MODELS[:3]), help=f"any of {', '.join(MODELS)}")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--cap", type=int, default=5000, help="largest number of rows")
    parser.add_argument("--parameters", default="", help="of the network, such as 'n_estimators=1'")
    arguments = parser.parse_args()
    names = arguments.names.split(",") if arguments.names else sorted(p.stem for p in arguments.data.glob("*.csv"))
    parameters = eval(f"dict({arguments.parameters})")  # the user's own command line
    if not arguments.out.exists():
        with arguments.out.open("w", newline="") as file:
            csv.DictWriter(file, FIELDS).writeheader()
    with arguments.out.open() as file:
        done = {(row["set"], row["model"], row["fold"]) for row in csv.DictReader(file)}
    for name in names:
        table, y, regression = load(arguments.data, name, arguments.cap)
        texts = table.select_dtypes(exclude="number").columns
        about = {"features": table.shape[1], "categories": len(texts), "missing": int(table.isna().sum().sum())}
        splitter = (KFold if regression else StratifiedKFold)(5, shuffle=True, random_state=0)
        for fold, (train, test) in list(enumerate(splitter.split(table, y)))[: arguments.folds]:
            for kind in arguments.models.split(","):
                if (name, kind, str(fold)) in done:
                    continue
                X, model = as_read(table, kind), make(kind, regression, parameters)
                if kind == "catboost":
                    model.set_params(cat_features=list(texts))
                start = time.process_time()
                with warnings.catch_warnings():
                    # Some members may use up max_iter; the scores show what that costs.
                    warnings.simplefilter("ignore", ConvergenceWarning)
                    model.fit(X.iloc[train], y[train])
                seconds = time.process_time() - start
                row = {"set": name, "model": kind, "fold": fold, "n": len(train), **about, "cpu_seconds": seconds}
                row |= scores(model, X.iloc[test], y[test], regression)
                with arguments.out.open("a", newline="") as file:
                    csv.DictWriter(file, FIELDS).writerow(row)
    with arguments.out.open() as file:
        rows = list(csv.DictReader(file))
    summarise(rows)
    compare(rows)


if __name__ == "__main__":
    main()
