"""Default fit and predict beside other libraries: seconds, and seconds against score.

    python examples/benchmarks/default_fit.py OUT [--data DIR] [--names a,b] [--repeats 5] [--cap 5000]
        [--predict 100000]

Writes OUT.csv and OUT.png. DIR holds NAME.npz files as `accuracy.py` reads them, in itself or in folders below it;
without it the data sets are those that come with scikit-learn. Everybody at the defaults, the MLP with scaled inputs;
CatBoost and XGBoost take part where they are installed. Each round fits all models on the same split, one after the
other, so that a busy moment hits all of them; a round is a split of its own. The score is the root mean squared error
over the standard deviation of the test target, or the log loss. Predictions are timed on so many rows, drawn from the
test rows with repetition. Set OMP_NUM_THREADS=1 for one thread.
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import os
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from accuracy import evaluate, load
from peers import catboost
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_iris, load_wine
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.model_selection import ShuffleSplit, StratifiedShuffleSplit
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skgn import GNClassifier, GNRegressor

THREADS = int(os.environ.get("OMP_NUM_THREADS", "1"))
FIELDS = ["set", "round", "model", "n", "d", "score", "fit_seconds", "predict_seconds"]
COLOURS = {"skgn": "#0072B2", "hgb": "#E69F00", "catboost": "#D55E00", "xgboost": "#009E73", "mlp": "#CC79A7"}
Dataset = tuple[str, np.ndarray, np.ndarray, list[tuple[np.ndarray, np.ndarray]]]


def models(regression: bool) -> dict[str, Callable[[], Any]]:
    """Makers of the models by name; those that are not installed are left out."""
    gn, hgb, mlp = (
        (GNRegressor, HistGradientBoostingRegressor, MLPRegressor)
        if regression
        else (GNClassifier, HistGradientBoostingClassifier, MLPClassifier)
    )
    makers: dict[str, Callable[[], Any]] = {
        "skgn": lambda: gn(random_state=0),
        "hgb": lambda: hgb(random_state=0),
        "mlp": lambda: make_pipeline(StandardScaler(), mlp(random_state=0)),
    }
    if importlib.util.find_spec("catboost"):
        makers["catboost"] = partial(catboost, regression)
    if importlib.util.find_spec("xgboost"):
        import xgboost

        xgb = xgboost.XGBRegressor if regression else xgboost.XGBClassifier
        makers["xgboost"] = lambda: xgb(n_jobs=THREADS, random_state=0)
    return makers


def datasets(folder: Path | None, names: list[str], repeats: int, cap: int) -> Iterator[Dataset]:
    """Name, inputs, targets and one split for each round."""
    if folder is not None:
        for path in sorted(folder.rglob("*.npz")):
            if not names or path.stem in names:
                X, y, splits = load(path, repeats, cap)
                yield path.stem, X, y, splits
        return
    for read in (load_diabetes, load_iris, load_wine, load_breast_cancer, load_digits):
        name = read.__name__.removeprefix("load_")
        if not names or name in names:
            X, y = read(return_X_y=True)
            splitter = ShuffleSplit if np.issubdtype(y.dtype, np.floating) else StratifiedShuffleSplit
            yield name, X, y, list(splitter(repeats, test_size=0.2, random_state=0).split(X, y))


def measure(dataset: Dataset, n_predict: int) -> Iterator[dict[str, Any]]:
    """One row for each round and model."""
    name, X, y, splits = dataset
    regression = np.issubdtype(y.dtype, np.floating)
    for number, (train, test) in enumerate(splits):
        for model_name, make in models(regression).items():
            model = make()
            scores = evaluate(model, X, y, train, test)
            new = X[np.random.default_rng(0).choice(test, n_predict)]
            start = time.perf_counter()
            (model.predict if regression else model.predict_proba)(new)
            seconds = time.perf_counter() - start
            score = scores["relative_rmse" if regression else "log_loss"]
            values = [name, number, model_name, len(train), X.shape[1], score, scores["fit_seconds"], seconds]
            yield dict(zip(FIELDS, values, strict=True))


def medians(rows: list[dict[str, Any]], field: str) -> dict[tuple[str, str], float]:
    """Median over the rounds of each (set, model)."""
    keys = dict.fromkeys((row["set"], row["model"]) for row in rows)
    return {key: float(np.median([row[field] for row in rows if (row["set"], row["model"]) == key])) for key in keys}


def summarise(rows: list[dict[str, Any]]) -> None:
    """Print seconds for each set, and the ratio of ours to each other model's: median over sets."""
    fit, predict = medians(rows, "fit_seconds"), medians(rows, "predict_seconds")
    score = medians(rows, "score")
    sets, names = (list(dict.fromkeys(row[field] for row in rows)) for field in ("set", "model"))
    print(f"{'fit seconds (score)':28s}" + "".join(f"{name:>20s}" for name in names))
    for of in sets:
        print(f"{of:28s}" + "".join(f"{fit[of, name]:11.2f} ({score[of, name]:.3f})" for name in names))
    for name in names:
        if name != "skgn":
            ratios = [np.median([times[of, "skgn"] / times[of, name] for of in sets]) for times in (fit, predict)]
            print(f"ours over {name}, median of {len(sets)} sets: fit {ratios[0]:.2f}, predict {ratios[1]:.2f}")


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """A point for each set and model: its score over the best of the set against its seconds."""
    fit, score = medians(rows, "fit_seconds"), medians(rows, "score")
    best = {of: min(value for (s, _), value in score.items() if s == of) for of, _ in score}
    figure, ax = plt.subplots(figsize=(7, 4.5), layout="constrained")
    for name in dict.fromkeys(row["model"] for row in rows):
        keys = [key for key in fit if key[1] == name]
        x, y = [fit[key] for key in keys], [score[key] / best[key[0]] for key in keys]
        ax.scatter(x, y, s=18, alpha=0.5, color=COLOURS[name])
        centre = np.exp(np.mean(np.log(x))), np.exp(np.mean(np.log(y)))
        ax.scatter(*centre, s=140, marker="D", color=COLOURS[name], edgecolor="black", label=name, zorder=3)
    ax.set(xscale="log", yscale="log", xlabel="seconds of a default fit", ylabel="error over the best of the set")
    for axis, values in ((ax.yaxis, (1, 1.5, 2, 3, 5, 10, 20)), (ax.xaxis, (0.03, 0.1, 0.3, 1, 3, 10, 30, 100))):
        low, high = axis.get_view_interval()
        ticks = [tick for tick in values if low <= tick <= high]
        axis.set_ticks(ticks, [f"{tick:g}" for tick in ticks])
    ax.minorticks_off()
    ax.grid(alpha=0.3)
    ax.legend(title="each set small,\ngeometric mean large")
    figure.savefig(path, dpi=120)


def main() -> None:
    """Measure every set, write the table and the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="path of the results, without a suffix")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--names", default="")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--cap", type=int, default=5000, help="largest number of training rows")
    parser.add_argument("--predict", type=int, default=100_000, help="rows of a timed prediction")
    arguments = parser.parse_args()
    names = [name for name in arguments.names.split(",") if name]
    rows = []
    with arguments.out.with_suffix(".csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, FIELDS)
        writer.writeheader()
        for dataset in datasets(arguments.data, names, arguments.repeats, arguments.cap):
            for row in measure(dataset, arguments.predict):
                writer.writerow(row)
                file.flush()
                rows.append(row)
    summarise(rows)
    draw(rows, arguments.out.with_suffix(".png"))


if __name__ == "__main__":
    main()
