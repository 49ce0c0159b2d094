"""Small fits of every kind predict what they did when ``data/store_fits.py`` stored it.

A change that is to change no fit keeps this file green as it stands; one that does change fits stores them anew. The
predictions are equal bit for bit where the versions of the libraries and the processor are those of the stored ones.
Elsewhere sums are taken in another order: a relative tolerance of 1e-6 stands for that.
"""

import json
import platform
import warnings
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import scipy
import sklearn
import torch
from sklearn.exceptions import ConvergenceWarning

from skgn import GNClassifier, GNRegressor
from skgn.damping import (
    Constant,
    GainRatio,
    GeometricDecay,
    ProportionalToCurvature,
    ProportionalToGradient,
    ProportionalToLoss,
)
from skgn.spectrum import SpectrumMonitor

STORED = Path(__file__).parent / "data" / "fits.json"


def environment():
    """What decides on the last digits: versions of the libraries, the processor of their kernels, and threads."""
    cpu = platform.processor()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = ", ".join(dict.fromkeys(" ".join(line.split()) for line in lines if line.startswith("model"))) or cpu
    versions = {module.__name__: module.__version__ for module in (np, scipy, sklearn, torch)}
    kernels = {"kernels": torch.backends.cpu.get_cpu_capability(), "threads": torch.get_num_threads()}
    return versions | {"cpu": cpu} | kernels


def draw(target, n):
    """Inputs (n, 3), targets of a kind, and weights (n,) with zeros.

    Rounded: a last digit that differs from machine to machine would put the rows into another order.
    """
    random = np.random.RandomState(0)
    X = np.round(random.normal(size=(n, 3)), 3)
    X[:, 2] = np.round(X[:, 2])
    z = np.sin(2 * X[:, 0]) + X[:, 1] + 0.1 * X[:, 2] ** 2
    noise = random.normal(size=n)
    targets = {
        "numbers": z + 0.2 * noise,
        "heavy tails": z + 0.1 * noise / random.uniform(0.05, 1, n) ** 2,
        "two": np.stack([z + 0.2 * noise, X[:, 0] * X[:, 1] + 0.1 * noise], 1),
        "counts": np.floor(np.exp(0.7 * z + 0.3 * noise)),
        "positive": np.exp(0.5 * z + 0.2 * noise),
        "binary": np.where(z + 0.5 * noise > 0, "yes", "no"),
        "classes": np.digitize(z + 0.4 * noise, [-0.7, 0.9]),
        "labels": np.stack([z + 0.5 * noise > 0, X[:, 0] * X[:, 1] + 0.3 * noise > 0], 1).astype(int),
    }
    y = targets[target]
    return X, np.round(y, 3) if y.dtype == float else y, random.randint(0, 3, n).astype(float)


def fit(model, target, n=60, weighted=False):
    X, y, weight = draw(target, n)
    return model.fit(X, y, sample_weight=weight if weighted else None)


def stream(model, target, n=120):
    """Two blocks, the second one smaller; every class is in the first."""
    X, y, _ = draw(target, n)
    for rows in (slice(2 * n // 3), slice(2 * n // 3, n)):
        model.partial_fit(X[rows], y[rows])
    return model


def then_stream(model, target):
    """A fit, and a block on top of it."""
    X, y, _ = draw(target, 90)
    return fit(model, target, 60).partial_fit(X[60:], y[60:])


def twice(model, target):
    return fit(fit(model.set_params(warm_start=True), target), target)


def from_dask(model, target, n=60):
    X, y, _ = draw(target, n)
    dask_array = pytest.importorskip("dask.array")
    return model.fit(*(dask_array.from_array(a, chunks=(25, *a.shape[1:])) for a in (X, y)))


def in_a_cluster(name, target, n=60, **parameters):
    distributed = pytest.importorskip("distributed")
    pytest.importorskip("pandas")
    from skgn import dask

    # One worker: the order of its sums is always the same.
    options = {"n_workers": 1, "threads_per_worker": 1, "processes": False, "dashboard_address": None}
    with distributed.LocalCluster(**options) as cluster, distributed.Client(cluster) as client:
        return from_dask(getattr(dask, name)(**parameters, client=client), target, n).to_local()


def with_spectrum(model):
    pytest.importorskip("sklearn.callback", reason="sklearn.callback comes with scikit-learn 1.9")
    return model.set_callbacks(SpectrumMonitor())


class Follows:
    """Callback that predicts at the end of each iteration, and asks to stop after the given number of them."""

    max_propagation_depth = None

    def __init__(self, stop_after=None):
        self.stop_after, self.predicted, self.iterations = stop_after, [], 0

    def setup(self, estimator, context):
        pass

    def teardown(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context, *, fitted_estimator=None):
        pass

    def on_fit_task_end(self, estimator, context, *, fitted_estimator=None):
        if context.task_name not in ("iteration", "warm-up-iteration"):
            return False
        if fitted_estimator is not None:
            probable = isinstance(fitted_estimator, GNClassifier)
            predict = fitted_estimator.predict_proba if probable else fitted_estimator.predict
            self.predicted.append(predict(new_rows()))
        self.iterations += 1
        return self.iterations == self.stop_after


def watched(model, target, n=60, stop_after=None):
    """A fit that a callback follows, and what the callback has seen."""
    pytest.importorskip("sklearn.callback", reason="sklearn.callback comes with scikit-learn 1.9")
    follows = Follows(stop_after)
    model = fit(model.set_callbacks(follows), target, n)
    return model, *follows.predicted


def module():
    torch.manual_seed(0)
    layers = torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1)
    return torch.nn.Sequential(*layers).double()


ONE = {"hidden_layer_sizes": (3,), "n_estimators": 1, "max_iter": 12, "random_state": 0}
#: Two members of different kinds; a single network, and those of a long table, are the best of more candidates.
TWO = ONE | {"n_estimators": 2, "max_iter": 24}
L2 = {"l2_regularization": 1e-2}

#: Losses whose noise has no standard deviation.
WITHOUT_STD = ("cauchy", "quantile")

CASES = {
    "one network": lambda: fit(GNRegressor(**ONE), "numbers"),
    "one network, to the end": lambda: fit(GNRegressor(**ONE | {"max_iter": 100}), "numbers"),
    "cut at the start": lambda: fit(GNRegressor(**ONE | {"max_iter": 0}), "numbers"),
    "cut in the search": lambda: fit(GNRegressor(**ONE | {"max_iter": 4}), "numbers"),
    "members": lambda: fit(GNRegressor(**TWO), "numbers"),
    "all defaults": lambda: fit(GNRegressor(random_state=0, max_iter=8), "numbers", 40),
    "search on a sample": lambda: fit(GNRegressor(**TWO | {"max_iter": 20}, standardize="robust"), "numbers", 2100),
    "larger networks": lambda: fit(GNRegressor(**TWO | {"hidden_layer_sizes": (13, 13)}), "numbers"),
    "members, two outputs": lambda: fit(GNRegressor(**TWO, standardize="robust"), "two"),
    "members, weights": lambda: fit(GNRegressor(**TWO), "numbers", weighted=True),
    "members, jobs": lambda: fit(GNRegressor(**TWO, n_jobs=2), "numbers"),
    "members, dual": lambda: fit(GNRegressor(**TWO, solver="dual"), "numbers", 12),
    "members, centered": lambda: fit(GNRegressor(**TWO, init="centered"), "numbers"),
    "members, twice": lambda: twice(GNRegressor(**TWO), "numbers"),
    "student_t": lambda: fit(GNRegressor(**TWO, loss="student_t"), "heavy tails"),
    "huber": lambda: fit(GNRegressor(**TWO, loss="huber"), "heavy tails"),
    "poisson": lambda: fit(GNRegressor(**TWO, loss="poisson"), "counts"),
    "gamma": lambda: fit(GNRegressor(**ONE, loss="gamma"), "positive"),
    "l2": lambda: fit(GNRegressor(**TWO | L2), "numbers"),
    "l2, one network": lambda: fit(GNRegressor(**ONE | L2), "numbers", weighted=True),
    "l2, start on a sample": lambda: fit(GNRegressor(**ONE | L2, standardize="robust"), "numbers", 1100),
    "l2, start on a sample, classes": lambda: fit(GNClassifier(**ONE | L2, standardize="robust"), "binary", 1100),
    "l2, cg": lambda: fit(GNRegressor(**ONE | L2, solver="cg"), "numbers"),
    "module": lambda: fit(GNRegressor(**ONE | {"hidden_layer_sizes": "auto"}, network=module()), "numbers"),
    "early stopping": lambda: fit(GNRegressor(**TWO, early_stopping=True, n_iter_no_change=3), "numbers", 80),
    "early stopping, classes": lambda: fit(
        GNClassifier(**ONE, early_stopping=True, n_iter_no_change=3), "binary", 80, weighted=True
    ),
    "batches": lambda: fit(GNRegressor(**ONE | {"max_iter": 4}, batch_size=30), "numbers", 150),
    "batches, two members": lambda: fit(GNRegressor(**TWO | {"max_iter": 3}, batch_size=40), "numbers", 150),
    "batches, l2, dual": lambda: fit(GNClassifier(**ONE | L2 | {"max_iter": 4}, batch_size=4), "classes"),
    "stream": lambda: stream(GNRegressor(**ONE, batch_size=20), "numbers"),
    "stream, two members": lambda: stream(GNRegressor(**TWO | L2, init="centered", n_jobs=2), "two"),
    "stream, student_t": lambda: stream(GNRegressor(**ONE, loss="student_t", batch_size=30), "heavy tails"),
    "stream after a fit": lambda: then_stream(GNRegressor(**TWO, batch_size=15), "numbers"),
    "stream after a fit, classes": lambda: then_stream(GNClassifier(**ONE), "classes"),
    "binary": lambda: fit(GNClassifier(**TWO), "binary"),
    "binary, one network": lambda: fit(GNClassifier(**ONE), "binary", weighted=True),
    "classes": lambda: fit(GNClassifier(**TWO), "classes", 80),
    "classes, balanced": lambda: fit(GNClassifier(**TWO | L2, class_weight="balanced"), "classes"),
    "labels": lambda: fit(GNClassifier(**TWO), "labels"),
    "primal, wide": lambda: fit(GNRegressor(**ONE, solver="primal"), "numbers", 12),
    "l2, dual": lambda: fit(GNRegressor(**TWO | L2, solver="dual", loss="huber"), "heavy tails", 14),
    "l2, primal, classes": lambda: fit(GNClassifier(**ONE | L2, solver="primal"), "classes"),
    "l2, cg, classes": lambda: fit(GNClassifier(**TWO | L2, solver="cg"), "classes", weighted=True),
    "no l2, minimum norm": lambda: fit(GNRegressor(**ONE, l2_regularization=0.0, solver="dual"), "numbers", 9),
    "batches, l2, cg": lambda: fit(GNRegressor(**ONE | L2 | {"max_iter": 4}, batch_size=20, solver="cg"), "numbers"),
    "batches, l2, primal": lambda: fit(GNRegressor(**ONE | L2 | {"max_iter": 4}, batch_size=30), "two", 150),
    "stream, dual": lambda: stream(GNRegressor(**ONE | L2, batch_size=5, solver="dual"), "numbers"),
    "constant damping": lambda: fit(GNRegressor(**ONE | L2, damping=Constant(1e-2, step_size=0.5)), "numbers"),
    "number as damping": lambda: fit(GNRegressor(**ONE, damping=Constant(1e-2, step_size=0.7)), "numbers"),
    "gain ratio": lambda: fit(GNRegressor(**ONE | L2, damping=GainRatio(1.0)), "numbers"),
    "decay": lambda: fit(GNClassifier(**ONE | L2, damping=GeometricDecay(0.1, 0.5)), "binary"),
    "damping by curvature": lambda: fit(GNRegressor(**ONE | L2, damping=ProportionalToCurvature(0.5)), "numbers", 12),
    "damping by gradient": lambda: fit(GNRegressor(**ONE | L2, damping=ProportionalToGradient(0.1)), "numbers"),
    "damping by loss": lambda: fit(GNRegressor(**ONE | L2, damping=ProportionalToLoss(0.1)), "numbers"),
    "batches, gain ratio": lambda: fit(
        GNRegressor(**ONE | {"max_iter": 3}, batch_size=30, damping=GainRatio(1.0)), "numbers", 150
    ),
    "spectrum": lambda: fit(with_spectrum(GNRegressor(**ONE)), "numbers"),
    "quantile": lambda: fit(GNRegressor(**TWO, loss="quantile", quantile=0.8), "numbers"),
    "cauchy": lambda: fit(GNRegressor(**ONE, loss="cauchy"), "heavy tails"),
    "raw inputs": lambda: fit(GNRegressor(**ONE, standardize=False), "numbers"),
    "l2, twice": lambda: twice(GNClassifier(**ONE | L2), "classes"),
    "no hidden layer": lambda: fit(GNRegressor(**ONE | {"hidden_layer_sizes": ()}), "numbers"),
    "watched": lambda: watched(GNRegressor(**ONE), "numbers"),
    "watched, l2, dual": lambda: watched(GNRegressor(**ONE | L2, solver="dual"), "numbers", 12),
    "watched, batches": lambda: watched(GNRegressor(**ONE | {"max_iter": 3}, batch_size=40), "numbers", 150),
    "watched, early stopping": lambda: watched(GNClassifier(**ONE, early_stopping=True), "binary", 80),
    "stopped by a callback": lambda: watched(GNRegressor(**ONE | L2), "numbers", stop_after=3),
    "stopped by a callback, members": lambda: watched(GNRegressor(**TWO), "numbers", stop_after=5),
    "dask": lambda: in_a_cluster("DaskGNRegressor", "numbers", **ONE, standardize="robust"),
}


def new_rows():
    return 1.5 * np.random.RandomState(1).normal(size=(6, 3))


def outputs(model, *seen):
    """What a fitted model predicts of new rows, flat, after what a callback has seen, and how its members ended."""
    X = new_rows()
    if isinstance(model, GNClassifier):
        predicted = model.predict_proba(X)
        parts = predicted if isinstance(predicted, list) else [predicted]
    else:
        known = all(member.posterior is not None for member in model.estimators_) and model.loss not in WITHOUT_STD
        parts = model.predict(X, return_std=True) if known else [model.predict(X)]
    members = [f"{m.scaling} {m.prior_kind} {m.n_iter} {m.status}" for m in model.estimators_]
    return np.concatenate([np.ravel(part) for part in (*seen, *parts)]), members


def run(name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        fitted = CASES[name]()
        return outputs(*fitted) if isinstance(fitted, tuple) else outputs(fitted)


#: Lengths of radial units are settled by a few iterations, whose path depends on the version of SciPy.
SETTLED = {"all defaults": 1e-3}


@cache
def stored():
    return json.loads(STORED.read_text())


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("name", CASES)
def test_fits_are_those_stored(name):
    predicted, members = run(name)
    expected = np.array([float.fromhex(text) for text in stored()["fits"][name]["predicted"]])
    if environment() == stored()["environment"]:
        np.testing.assert_array_equal(predicted, expected)
        assert members == stored()["fits"][name]["members"]
    else:
        tol = SETTLED.get(name, 1e-6)
        np.testing.assert_allclose(predicted, expected, rtol=tol, atol=tol * np.abs(expected).max())


def test_every_stored_fit_is_compared():
    assert stored()["fits"].keys() == CASES.keys()
