"""
Quick start
===========

Three data sets that ship with scikit-learn, default settings, no tuning: what a network trained by damped
Gauss-Newton scores, and how long it takes, next to scikit-learn's own network and gradient boosting. In
between, a grid search shows that the estimator behaves like any other under scikit-learn's model selection.
"""

from __future__ import annotations

import warnings

from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.compose import TransformedTargetRegressor
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.impute import SimpleImputer
from sklearn.model_selection import GridSearchCV, KFold, StratifiedKFold, cross_validate
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skgn import GNClassifier, GNRegressor

FOLDS = 5


def regressors() -> dict[str, BaseEstimator]:
    """Return the regressors to compare, at their defaults.

    The Gauss-Newton network sits in a pipeline like any estimator. It needs no scaler there: it standardises
    its inputs and its target itself. scikit-learn's network gets the same help from outside.
    """
    scaled_mlp = make_pipeline(StandardScaler(), MLPRegressor(random_state=0))
    return {
        "GNRegressor": make_pipeline(SimpleImputer(), GNRegressor(random_state=0)),
        "MLPRegressor": TransformedTargetRegressor(scaled_mlp, transformer=StandardScaler()),
        "HistGradientBoosting": HistGradientBoostingRegressor(random_state=0),
    }


#: With ten well separated classes the evidence regularises too much, and the system of weights is large: a
#: float, no linear path and fewer iterations are better and faster there.
MANY_CLASSES = {
    "hidden_layer_sizes": (16,),
    "linear_path": False,
    "l2_regularization": 3e-4,
    "n_estimators": 5,
    "max_iter": 20,
}


def classifiers(n_classes: int) -> dict[str, BaseEstimator]:
    """Return the classifiers to compare: scikit-learn's at their defaults, ours too for two classes."""
    name, parameters = ("GNClassifier", {}) if n_classes == 2 else ("GNClassifier, l2=3e-4", MANY_CLASSES)
    return {
        name: GNClassifier(**parameters, random_state=0),
        "MLPClassifier": make_pipeline(StandardScaler(), MLPClassifier(random_state=0)),
        "HistGradientBoosting": HistGradientBoostingClassifier(random_state=0),
    }


def print_comparison(
    data: str, X: NDArray, y: NDArray, models: dict[str, BaseEstimator], folds: KFold | StratifiedKFold
) -> None:
    """Print one line for each model: cross-validated score and seconds per fit, averaged over the folds."""
    for name, model in models.items():
        result = cross_validate(model, X, y, cv=folds)
        score, seconds = result["test_score"], result["fit_time"].mean()
        print(f"{data:<14}  {name:<21}  {score.mean():6.3f} +/- {score.std():.3f}  {seconds:7.2f}")


def print_grid_search() -> None:
    """Print the cross-validated R2 on diabetes over a grid of damping and output scaling."""
    X, y = load_diabetes(return_X_y=True)
    dampings = [1e-4, 1e-2, 1e-1, 1.0]
    alphas = [0.1, 0.5, 2.0, 10.0]
    search = GridSearchCV(
        GNRegressor(n_estimators=1, max_iter=20, random_state=0),
        {"damping": dampings, "alpha": alphas},
        cv=KFold(FOLDS, shuffle=True, random_state=0),
        n_jobs=2,
    )
    with warnings.catch_warnings():
        # Heavy damping is in the grid to be compared, whether or not it converges within max_iter.
        warnings.simplefilter("ignore", ConvergenceWarning)
        search.fit(X, y)

    results = search.cv_results_
    scores = {
        (setting["damping"], setting["alpha"]): score
        for setting, score in zip(results["params"], results["mean_test_score"], strict=True)
    }
    print("R2 on diabetes".ljust(16) + "".join(f"alpha={alpha:<6g}" for alpha in alphas))
    for damping in dampings:
        cells = "".join(f"{scores[damping, alpha]:<12.3f}" for alpha in alphas)
        print(f"damping={damping:<8g}{cells}")
    print(f"best: R2 {search.best_score_:.3f} with {search.best_params_}")


def main() -> None:
    """Print the comparison and the grid search."""
    # scikit-learn's network stops at its default of 200 epochs, ours on digits after 20 iterations.
    warnings.filterwarnings("ignore", category=ConvergenceWarning)

    regression_folds = KFold(FOLDS, shuffle=True, random_state=0)
    classification_folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0)

    print(f"{FOLDS}-fold cross-validation: R2 for diabetes, accuracy for the others\n")
    print(f"{'data':<14}  {'model':<21}  {'score':<16}  fit [s]")
    X, y = load_diabetes(return_X_y=True)
    print_comparison("diabetes", X, y, regressors(), regression_folds)
    for data, load in {"breast_cancer": load_breast_cancer, "digits": load_digits}.items():
        X, y = load(return_X_y=True)
        print_comparison(data, X, y, classifiers(len(set(y))), classification_folds)

    print("\nGridSearchCV over damping and alpha\n")
    print_grid_search()


# The guard lets the grid search's worker processes import this file without running it again.
if __name__ == "__main__":
    main()
