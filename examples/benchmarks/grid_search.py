"""A grid search over damping and alpha beside one of the same size for scikit-learn's MLP.

    python examples/benchmarks/grid_search.py OUT [--repeats 5]

Writes OUT.csv and OUT.png. Both search 5 x 5 parameters with the same five folds of scikit-learn's diabetes set and 20
tanh units: `GNRegressor` over the damping and the output scale alpha, as the theory has them, with a fixed l2;
`MLPRegressor`, with scaled inputs and target, over its two, the initial learning rate of Adam and its own alpha (the
l2). REPEATS rounds, each the one and the other; the score is the best mean R2 of the grid.
"""

from __future__ import annotations

import argparse
import csv
import time
import warnings
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from sklearn.compose import TransformedTargetRegressor
from sklearn.datasets import load_diabetes
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skgn import GNRegressor

FIELDS = ["round", "model", "seconds", "score", "best"]


def searches() -> dict[str, GridSearchCV]:
    """The two searches, by name."""
    folds = KFold(5, shuffle=True, random_state=0)
    ours = GNRegressor(20, l2_regularization=1e-2, n_estimators=1, random_state=0)
    grid = {"damping": [1e-3, 1e-2, 1e-1, 1.0, 10.0], "alpha": [0.1, 0.3, 1.0, 3.0, 10.0]}
    mlp = make_pipeline(StandardScaler(), MLPRegressor(hidden_layer_sizes=(20,), activation="tanh", random_state=0))
    theirs = TransformedTargetRegressor(mlp, transformer=StandardScaler())
    name = "regressor__mlpregressor__"
    mlp_grid = {
        name + "learning_rate_init": [1e-4, 1e-3, 3e-3, 1e-2, 1e-1],
        name + "alpha": [1e-5, 1e-4, 1e-2, 1.0, 10.0],
    }
    return {"GNRegressor": GridSearchCV(ours, grid, cv=folds), "MLPRegressor": GridSearchCV(theirs, mlp_grid, cv=folds)}


def draw(search: GridSearchCV, path: Path) -> None:
    """Heat map of the mean R2 over damping and alpha."""
    grid = search.param_grid
    score = search.cv_results_["mean_test_score"].reshape(len(grid["alpha"]), len(grid["damping"]))
    figure, ax = plt.subplots(figsize=(6, 4), layout="constrained")
    image = ax.imshow(score, vmin=max(0.0, score.min()), cmap="viridis", origin="lower")
    for (i, j), value in np.ndenumerate(score):
        ax.text(j, i, f"{value:.2f}", ha="center", va="center", color="white" if value < score.max() / 2 else "black")
    ax.set_xticks(range(len(grid["damping"])), [f"{v:g}" for v in grid["damping"]])
    ax.set_yticks(range(len(grid["alpha"])), [f"{v:g}" for v in grid["alpha"]])
    ax.set(xlabel="damping", ylabel="alpha, the output scale", title="diabetes, 5-fold cross-validation")
    figure.colorbar(image, label="mean R2")
    figure.savefig(path, dpi=120)


def main() -> None:
    """Run the rounds, write the table and the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="path of the results, without a suffix")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    X, y = load_diabetes(return_X_y=True)
    rows: list[dict[str, Any]] = []
    with arguments.out.with_suffix(".csv").open("w", newline="") as file, warnings.catch_warnings():
        # Either may run out of iterations somewhere in its grid.
        warnings.simplefilter("ignore", ConvergenceWarning)
        writer = csv.DictWriter(file, FIELDS)
        writer.writeheader()
        for number in range(arguments.repeats):
            for name, search in searches().items():
                start = time.perf_counter()
                search.fit(X, y)
                seconds = time.perf_counter() - start
                row = dict(zip(FIELDS, [number, name, seconds, search.best_score_, search.best_params_], strict=True))
                writer.writerow(row)
                rows.append(row)
                print(f"{name:13s} {seconds:6.1f} s  best mean R2 {search.best_score_:.3f} at {search.best_params_}")
                if name == "GNRegressor":
                    draw(search, arguments.out.with_suffix(".png"))
    ratios = [a["seconds"] / b["seconds"] for a, b in zip(rows[1::2], rows[::2], strict=True)]
    low, median, high = np.percentile(ratios, [25, 50, 75])
    print(f"MLPRegressor's seconds over GNRegressor's: median {median:.1f} (quartiles {low:.1f} to {high:.1f})")


if __name__ == "__main__":
    main()
