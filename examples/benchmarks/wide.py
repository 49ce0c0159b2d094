"""Default fits of wide tables: columns by the hundred, and many classes
=========================================================================

Tables that are made up, and scikit-learn's digits with the products of neighbouring pixels. Everybody at the defaults,
the linear model on standardised inputs; a quarter of the rows is left out. Prints a line for each table and model: the
log loss and the part of wrong labels, or the root mean squared error over the standard deviation of the target; and the
processor seconds of the fit. CatBoost takes minutes on most of them::

    OMP_NUM_THREADS=1 python examples/benchmarks/wide.py [--names factors,digits] [--models skgn,linear,boosting]
"""

import argparse
import os
import time
import warnings

import numpy as np
from sklearn.datasets import load_digits, make_classification
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skgn import GNClassifier, GNRegressor

THREADS = int(os.environ.get("OMP_NUM_THREADS", "1"))
FEW = {"n_redundant": 15, "random_state": 0}


def digits():
    """Ten classes, 64 pixels and 161 products of neighbours."""
    X, y = load_digits(return_X_y=True)
    pixels = X.reshape(-1, 8, 8)
    across, down = pixels[:, :, 1:] * pixels[:, :, :-1], pixels[:, 1:] * pixels[:, :-1]
    diagonal = pixels[:, 1:, 1:] * pixels[:, :-1, :-1]
    return np.hstack([X, *(products.reshape(len(X), -1) for products in (across, down, diagonal))]), y


def factors():
    """Twenty-six classes that differ in forty factors, of which 300 columns are noisy functions."""
    rng = np.random.default_rng(1)
    centres, y = 0.6 * rng.normal(size=(26, 40)), rng.integers(0, 26, 2600)
    Z = centres[y] + rng.normal(size=(2600, 40))
    return np.tanh(Z @ rng.normal(size=(40, 300)) / 6) + 0.3 * rng.normal(size=(2600, 300)), y


def plants():
    """A hundred classes of sixteen rows and 64 columns."""
    rng = np.random.default_rng(1)
    centres, y = rng.normal(size=(100, 64)), np.repeat(np.arange(100), 16)
    return np.exp(0.5 * (centres[y] + 0.6 * rng.normal(size=(1600, 64)))), y


def clusters():
    """Two classes of sixteen clusters each in five columns, of 500."""
    return make_classification(2600, 500, n_informative=5, n_clusters_per_class=16, **FEW)


def ten():
    """Ten classes in fifteen columns, of 300."""
    return make_classification(3000, 300, n_informative=15, n_classes=10, n_clusters_per_class=1, **FEW)


def _bends(X):
    return np.column_stack([np.sin(X[:, 0]), X[:, 1] * X[:, 2], X[:, 3], np.abs(X[:, 4]), X[:, 5]])


def few():
    """The largest of ten functions of six columns, of 300."""
    rng = np.random.default_rng(1)
    X = rng.normal(size=(3000, 300))
    return X, (_bends(X) @ rng.normal(size=(5, 10)) + 0.5 * rng.normal(size=(3000, 10))).argmax(1)


def numbers():
    """A number that depends on six columns, of 300."""
    rng = np.random.default_rng(1)
    X = rng.normal(size=(3000, 300))
    return X, _bends(X).sum(1) + 0.5 * rng.normal(size=3000)


def latent():
    """A number that depends on four of ten factors, of which 300 columns are noisy sums."""
    rng = np.random.default_rng(1)
    F = rng.normal(size=(3000, 10))
    X = F @ rng.normal(size=(10, 300)) + 0.5 * rng.normal(size=(3000, 300))
    return X, np.sin(F[:, 0]) + F[:, 1] * F[:, 2] + F[:, 3] + 0.2 * rng.normal(size=3000)


TABLES = {table.__name__: table for table in (digits, factors, plants, clusters, ten, few, numbers, latent)}


def make(name, classes):
    """One of the models, at its defaults."""
    if name == "skgn":
        return (GNClassifier if classes else GNRegressor)(random_state=0)
    if name == "linear":
        linear = LogisticRegression(max_iter=1000) if classes else RidgeCV(np.logspace(-3, 3, 13))
        return make_pipeline(StandardScaler(), linear)
    if name == "boosting":
        return (HistGradientBoostingClassifier if classes else HistGradientBoostingRegressor)(random_state=0)
    import catboost

    model = catboost.CatBoostClassifier if classes else catboost.CatBoostRegressor
    return model(verbose=False, thread_count=THREADS, random_seed=0, allow_writing_files=False)


def main():
    """Fit all models on each table, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--names", default=",".join(TABLES))
    parser.add_argument("--models", default="skgn,linear,boosting", help="the same, and catboost")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    for name in arguments.names.split(","):
        X, y = TABLES[name]()
        classes = y.dtype.kind == "i"
        split = train_test_split(X, y, test_size=0.25, random_state=0, stratify=y if classes else None)
        X_train, X_test, y_train, y_test = split
        for model_name in arguments.models.split(","):
            model = make(model_name, classes)
            began = time.process_time()
            model.fit(X_train, y_train)
            seconds = time.process_time() - began
            if classes:
                P = model.predict_proba(X_test)
                wrong = (model.classes_[P.argmax(1)] != y_test).mean()
                score = f"log loss {log_loss(y_test, P, labels=model.classes_):.4f}, wrong {wrong:.4f}"
            else:
                score = f"RMSE {np.sqrt(np.mean((model.predict(X_test) - y_test) ** 2)) / y_test.std():.4f}"
            print(f"{name:9s} {X_train.shape!s:12s} {model_name:9s} {score:34s} {seconds:7.1f} s", flush=True)


if __name__ == "__main__":
    main()
