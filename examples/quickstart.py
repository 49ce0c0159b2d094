"""
Quick start
===========

Six tables that come with scikit-learn or are made by it. On each one the default network stands beside a linear model,
a Gaussian process, boosted trees and, where it is installed, CatBoost. A small grid search and a picture follow.

    python examples/quickstart.py [PICTURE.png]

The picture goes to `quickstart.png` in the current folder unless another path is given.
"""

from __future__ import annotations

import importlib.util
import sys
import textwrap
import time
import warnings
from collections.abc import Callable
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from sklearn.base import BaseEstimator
from sklearn.datasets import (
    load_breast_cancer,
    load_diabetes,
    make_friedman1,
    make_friedman2,
    make_friedman3,
    make_moons,
)
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessClassifier, GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.metrics import d2_log_loss_score, make_scorer
from sklearn.model_selection import GridSearchCV, KFold, StratifiedKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from skgn import GNClassifier, GNRegressor
from skgn.unfamiliar import UnfamiliarDataWarning

FOLDS = 3
WIDTH = 22
CATBOOST = {"thread_count": 1, "verbose": False, "allow_writing_files": False, "random_seed": 0}

Table = tuple[np.ndarray, np.ndarray]
REGRESSION: dict[str, Callable[[], Table]] = {
    "Friedman 1": lambda: make_friedman1(n_samples=400, noise=1.0, random_state=0),
    "Friedman 2": lambda: make_friedman2(n_samples=400, noise=125.0, random_state=0),
    "Friedman 3": lambda: make_friedman3(n_samples=400, noise=0.1, random_state=0),
    "diabetes": lambda: load_diabetes(return_X_y=True),
}
CLASSIFICATION: dict[str, Callable[[], Table]] = {
    "breast cancer": lambda: load_breast_cancer(return_X_y=True),
    "two moons": lambda: make_moons(n_samples=400, noise=0.25, random_state=0),
}


def regressors(n_features: int) -> dict[str, BaseEstimator]:
    """Return the regressors to compare.

    All are at their defaults but for the Gaussian process, whose default kernel has nothing to learn. Its kernel here
    has a length for each column, and noise.
    """
    kernel = ConstantKernel() * RBF(np.ones(n_features)) + WhiteKernel()
    models = {
        "skgn": GNRegressor(random_state=0),
        "linear": make_pipeline(StandardScaler(), RidgeCV()),
        "Gaussian process": make_pipeline(StandardScaler(), GaussianProcessRegressor(kernel, normalize_y=True)),
        "boosted trees": HistGradientBoostingRegressor(random_state=0),
    }
    if importlib.util.find_spec("catboost"):
        from catboost import CatBoostRegressor

        models["CatBoost"] = CatBoostRegressor(**CATBOOST)
    return models


def classifiers(n_features: int) -> dict[str, BaseEstimator]:
    """Return the classifiers to compare, at their defaults but for one length that the Gaussian process learns."""
    models = {
        "skgn": GNClassifier(random_state=0),
        "linear": make_pipeline(StandardScaler(), LogisticRegression()),
        "Gaussian process": make_pipeline(StandardScaler(), GaussianProcessClassifier(ConstantKernel() * RBF())),
        "boosted trees": HistGradientBoostingClassifier(random_state=0),
    }
    if importlib.util.find_spec("catboost"):
        from catboost import CatBoostClassifier

        models["CatBoost"] = CatBoostClassifier(**CATBOOST)
    return models


def has_progress_bar() -> bool:
    """Whether scikit-learn's progress bar is there: since version 1.9, with rich."""
    return all(map(importlib.util.find_spec, ("sklearn.callback", "rich")))


def with_progress_bar(search: GridSearchCV) -> GridSearchCV:
    """Return the search with one progress bar for all of its fits, where there is one."""
    if has_progress_bar():
        from sklearn.callback import ProgressBar

        search.set_callbacks(ProgressBar(max_propagation_depth=0))
    return search


def compare(X: np.ndarray, y: np.ndarray, models: dict[str, BaseEstimator], folds: Any, scoring: Any) -> dict[str, Any]:
    """Cross-validate all models on the same folds, as a grid search over the one step of a pipeline."""
    search = GridSearchCV(
        Pipeline([("model", "passthrough")]),
        {"model": list(models.values())},
        scoring=scoring,
        cv=folds,
        refit=False,
        n_jobs=2,
    )
    return with_progress_bar(search).fit(X, y).cv_results_


def print_comparison(compared: dict[str, dict[str, Any]], models: list[str]) -> None:
    """Print a line for each table: mean score over the folds and seconds a fit of each model."""
    print((f"{'score, seconds a fit':<22}" + "".join(f"{name:<{WIDTH}}" for name in models)).rstrip())
    for name, results in compared.items():
        cells = zip(results["mean_test_score"], results["mean_fit_time"], strict=True)
        line = f"{name:<22}" + "".join(f"{f'{score:.3f}, {seconds:.2f} s':<{WIDTH}}" for score, seconds in cells)
        print(line.rstrip())


def print_settings(models: dict[str, BaseEstimator]) -> None:
    """Print the models with every setting that is not a default."""
    for name, model in models.items():
        steps = [step for _, step in model.steps] if isinstance(model, Pipeline) else [model]
        # CatBoost prints none of its settings.
        said = [f"{type(step).__name__}(**{CATBOOST})" if name == "CatBoost" else repr(step) for step in steps]
        text = f"{name}: {', then '.join(' '.join(words.split()) for words in said)}"
        print(textwrap.fill(text, 110, initial_indent="  ", subsequent_indent="      "))


def print_grid_search() -> None:
    """Print the cross-validated R2 on diabetes over a grid of damping and output scaling."""
    dampings, alphas = ["adaptive", 0.01, 0.1], [0.3, 1.0, 3.0]
    single = GNRegressor(n_estimators=1, hidden_layer_sizes=(10,), random_state=0)
    search = GridSearchCV(
        single, {"damping": dampings, "alpha": alphas}, cv=KFold(FOLDS, shuffle=True, random_state=0), n_jobs=2
    )
    with_progress_bar(search).fit(*load_diabetes(return_X_y=True))
    scores = search.cv_results_["mean_test_score"].reshape(len(alphas), len(dampings))
    print(f"GridSearchCV of {single}, R2 on diabetes\n")
    print(" " * 18 + "  ".join(f"alpha={alpha:<4g}" for alpha in alphas).rstrip())
    for damping, row in zip(dampings, scores.T, strict=True):
        print(f"damping={damping:<10}" + "  ".join(f"{score:<10.3f}" for score in row).rstrip())


def draw_band(path: str) -> None:
    """Draw what one fit says of noise that grows from left to right: the mean and the 90 % interval."""
    rng = np.random.default_rng(0)
    x = rng.uniform(-2, 2, size=(300, 1))
    y = np.sin(2 * x[:, 0]) + np.exp(x[:, 0] / 1.2 - 1.4) * rng.normal(size=300)
    model = GNRegressor(random_state=0).fit(x, y)
    grid = np.linspace(-2, 2, 300)[:, None]
    low, high = model.predict_interval(grid, 0.9).T
    figure, ax = plt.subplots(figsize=(7, 3.6), layout="constrained")
    ax.fill_between(grid[:, 0], low, high, color="tab:blue", alpha=0.25, linewidth=0, label="90 % of new observations")
    ax.plot(grid[:, 0], model.predict(grid), color="tab:blue", linewidth=2, label="prediction")
    ax.plot(grid[:, 0], np.sin(2 * grid[:, 0]), "k--", linewidth=1, label="truth")
    ax.plot(x[:, 0], y, ".", color="0.35", markersize=4, label="300 training rows")
    ax.set(xlabel="x", ylabel="y", ylim=(-3, 3.4), title="GNRegressor(random_state=0).fit(x, y)")
    ax.legend(loc="upper left", fontsize="small", ncols=2)
    figure.savefig(path, dpi=120)
    plt.close(figure)
    print(f"The picture is in {path}: a default fit of noise that grows from left to right.")


def main(picture: str) -> None:
    """Print the comparison and the grid search, and draw the picture."""
    start = time.perf_counter()
    # A length of the Gaussian process ends at its bound where a column is of no use, and a row of breast cancer is far
    # from those of another fold. The scores show what either costs.
    for category in (ConvergenceWarning, UnfamiliarDataWarning):
        warnings.filterwarnings("ignore", category=category)
    if not has_progress_bar():
        print("There is no progress bar: it needs scikit-learn 1.9 and rich.")
    print("Regressors:")
    print_settings(regressors(1))
    print("Classifiers:")
    print_settings(classifiers(1))
    d2 = make_scorer(d2_log_loss_score, response_method="predict_proba")
    compared = {}
    for tables, models_for, folds, scoring in (
        (REGRESSION, regressors, KFold(FOLDS, shuffle=True, random_state=0), "r2"),
        (CLASSIFICATION, classifiers, StratifiedKFold(FOLDS, shuffle=True, random_state=0), d2),
    ):
        for name, load in tables.items():
            X, y = load()
            models = models_for(X.shape[1])
            print(f"\n{name}: {X.shape[0]} rows, {X.shape[1]} columns, {len(models)} models, {FOLDS} folds", flush=True)
            compared[name] = compare(X, y, models, folds, scoring)
    print()
    print_comparison(compared, list(models))
    print("\nThe score is R2 of a regression, and D2 of the log loss of a classification, the mean over the folds.")
    print("1 is perfect, and 0 is as good as a constant.\n")
    print_grid_search()
    print()
    draw_band(picture)
    print(f"All of it took {time.perf_counter() - start:.0f} s.")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "quickstart.png")
