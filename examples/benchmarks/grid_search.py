"""A grid search over damping and alpha beside one of the same size for scikit-learn's MLP.

    python examples/benchmarks/grid_search.py OUT [--repeats 5]

Writes OUT.csv and OUT.png. Both search 5 x 5 parameters with the same five folds and 20 tanh units: `GNRegressor` over
the damping and the output scale alpha, as the theory has them, with a fixed l2; `MLPRegressor`, with scaled inputs and
target, over its two, the initial learning rate of Adam and its own alpha (the l2). Two data sets: scikit-learn's
diabetes (442 rows) and its first Friedman function with noise (2,000 rows). REPEATS rounds, each the one and the other;
the score is the best mean R2 of the grid. Set OMP_NUM_THREADS=1 for one thread.
"""

from __future__ import annotations

import argparse
import csv
import time
import warnings
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from sklearn.compose import TransformedTargetRegressor
from sklearn.datasets import load_diabetes, make_friedman1
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skgn import GNRegressor

FIELDS = ["set", "round", "model", "seconds", "score", "best"]


def searches() -> dict[str, GridSearchCV]:
    """The two searches, by name."""
    folds = KFold(5, shuffle=True, random_state=0)
    ours = GNRegressor(20, l2_regularization=1e-2, n_estimators=1, random_state=0)
    grid = {"damping": [1e-4, 1e-3, 1e-2, 1e-1, 1.0], "alpha": [0.1, 0.3, 1.0, 3.0, 10.0]}
    mlp = make_pipeline(StandardScaler(), MLPRegressor(hidden_layer_sizes=(20,), activation="tanh", random_state=0))
    theirs = TransformedTargetRegressor(mlp, transformer=StandardScaler())
    name = "regressor__mlpregressor__"
    mlp_grid = {
        name + "learning_rate_init": [1e-4, 1e-3, 3e-3, 1e-2, 1e-1],
        name + "alpha": [1e-5, 1e-4, 1e-2, 1.0, 10.0],
    }
    return {"GNRegressor": GridSearchCV(ours, grid, cv=folds), "MLPRegressor": GridSearchCV(theirs, mlp_grid, cv=folds)}


def draw(searches: dict[str, GridSearchCV], path: Path) -> None:
    """Heat maps of the mean R2 over damping and alpha."""
    figure, axes = plt.subplots(1, len(searches), figsize=(5.5 * len(searches), 4), layout="constrained")
    for ax, (name, search) in zip(axes, searches.items(), strict=True):
        grid = search.param_grid
        score = search.cv_results_["mean_test_score"].reshape(len(grid["alpha"]), len(grid["damping"]))
        low = max(0.0, score.min())
        image = ax.imshow(score, vmin=low, cmap="viridis", origin="lower")
        for (i, j), value in np.ndenumerate(score):
            dark = value < (low + score.max()) / 2
            ax.text(j, i, f"{value:.2f}", ha="center", va="center", color="white" if dark else "black")
        ax.set_xticks(range(len(grid["damping"])), [f"{v:g}" for v in grid["damping"]])
        ax.set_yticks(range(len(grid["alpha"])), [f"{v:g}" for v in grid["alpha"]])
        ax.set(xlabel="damping", ylabel="alpha, the output scale", title=f"{name}, 5-fold cross-validation")
        figure.colorbar(image, label="mean R2")
    figure.savefig(path, dpi=120)


def main() -> None:
    """Run the rounds, write the table and the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="path of the results, without a suffix")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    datasets = {
        "diabetes": load_diabetes(return_X_y=True),
        "friedman": make_friedman1(2000, noise=1.0, random_state=0),
    }
    found: dict[str, GridSearchCV] = {}
    with arguments.out.with_suffix(".csv").open("w", newline="") as file, warnings.catch_warnings():
        # Either may run out of iterations somewhere in its grid.
        warnings.simplefilter("ignore", ConvergenceWarning)
        writer = csv.DictWriter(file, FIELDS)
        writer.writeheader()
        for dataset, (X, y) in datasets.items():
            ratios = []
            for number in range(arguments.repeats):
                seconds = {}
                for name, search in searches().items():
                    start = time.perf_counter()
                    search.fit(X, y)
                    seconds[name] = time.perf_counter() - start
                    values = [dataset, number, name, seconds[name], search.best_score_, search.best_params_]
                    writer.writerow(dict(zip(FIELDS, values, strict=True)))
                    file.flush()
                    print(f"{dataset:9s} {name:13s} {seconds[name]:6.1f} s  best mean R2 {search.best_score_:.3f} at "
                          f"{search.best_params_}", flush=True)  # fmt: skip
                    if name == "GNRegressor":
                        found[dataset] = search
                ratios.append(seconds["MLPRegressor"] / seconds["GNRegressor"])
            low, median, high = np.percentile(ratios, [25, 50, 75])
            print(f"{dataset}: MLPRegressor's seconds over GNRegressor's: median {median:.1f} "
                  f"(quartiles {low:.1f} to {high:.1f})")  # fmt: skip
    draw(found, arguments.out.with_suffix(".png"))


if __name__ == "__main__":
    main()
