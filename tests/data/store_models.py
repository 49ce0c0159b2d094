"""Store models of this version, for later ones to load: ``models-VERSION.pkl.gz`` beside this file.

Run before a release with the lowest versions that ``pyproject.toml`` claims, as ``bash .ci/run`` leaves them:

    .venv-lowest/bin/python tests/data/store_models.py

Later versions of NumPy read pickles of earlier ones, but not the other way round. Models of tables are not among them:
they hold transformers of scikit-learn, which promises nothing across its own versions. ``tests/test_persistence.py``
loads the file and compares the predictions.
"""

import gzip
import pickle
from pathlib import Path

import numpy as np

from skgn import GNClassifier, GNRegressor, __version__


def train():
    """Small models of every kind, by name: the model, inputs, and what it predicts for them."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(20, 3))
    y = np.sin(X[:, 0]) + X[:, 1] + 0.1 * rng.normal(size=20)
    small = {"hidden_layer_sizes": (2,), "n_estimators": 2, "tol": 0.03, "random_state": 0}
    targets = {
        "squared_error": (GNRegressor(**small | {"loss": "squared_error"}), y),
        "dual": (GNRegressor(**small | {"n_estimators": 1}, solver="dual", init="centered", l2_regularization=0.1), y),
        "periodic": (GNRegressor(**small | {"n_estimators": 1}, loss="student_t", standardize="periodic"), y),
        "two targets": (GNRegressor(**small, linear_path=False), np.stack([y, -y], 1)),
        "poisson": (GNRegressor(**small, loss="poisson", standardize="rank"), np.floor(np.exp(y))),
        "huber": (GNRegressor(**small | {"n_estimators": 1}, loss="huber"), y),
        "binary": (GNClassifier(**small), np.where(y > 0, "yes", "no")),
        "multiclass": (GNClassifier(**small), np.digitize(y, [-0.7, 0.7])),
    }
    models = {name: model.fit(X, target) for name, (model, target) in targets.items()}
    models["stream"] = GNRegressor(**small).partial_fit(X, y)
    return {
        name: (
            model,
            X,
            [model.predict(X), model.predict_proba(X)]
            if isinstance(model, GNClassifier)
            else list(model.predict(X, return_std=True)),
        )
        for name, model in models.items()
    }


if __name__ == "__main__":
    path = Path(__file__).parent / f"models-{__version__}.pkl.gz"
    # Protocol 4 keeps arrays in a form that every version of NumPy knows.
    path.write_bytes(gzip.compress(pickle.dumps(train(), protocol=4), mtime=0))
    print(f"{path.name}: {path.stat().st_size / 1e3:.0f} kB")
