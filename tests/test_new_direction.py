"""A new direction is one class and one entry: a dense solver by SciPy's least squares, put into the registry here."""

import numpy as np
import pytest
import scipy.linalg
import torch
from sklearn.utils._param_validation import StrOptions

from skgn import GNClassifier, GNRegressor
from skgn.diagnostics import diagnose
from skgn.direction import Direction, RememberedDiagonal
from skgn.directions import DIRECTIONS, choose
from skgn.feedforward import FeedForward
from skgn.memory import Extent

PLAIN = {
    "hidden_layer_sizes": (5,),
    "l2_regularization": 1e-2,
    "n_estimators": 1,
    "tol": 1e-7,
    "max_iter": 300,
    "random_state": 0,
}


class LeastSquares(Direction):
    """The step by SciPy's least squares from a dense Jacobian, which products with unit vectors have made."""

    name = "toy"
    lacks = lacks_in_batches = "a solver that keeps a factor: refit with solver='primal'"

    def __init__(self, jacobian, total_weight):
        unit = torch.eye(jacobian.shape[1], dtype=jacobian.w.dtype)
        rows = torch.stack([jacobian.matvec(e).flatten() for e in unit], 1)
        self.J, self.network = rows.double().numpy() / np.sqrt(total_weight), jacobian.network

    @classmethod
    def system_size(cls, extent):
        return extent.network.n_weights

    @classmethod
    def workspace(cls, extent):
        return 8.0 * extent.rows * extent.network.n_weights

    @classmethod
    def flops(cls, extent):
        return float("inf")

    @classmethod
    def remembered(cls):
        return RememberedDiagonal(cls, cls)

    def solve(self, gradient, precision, damping):
        shift = np.diag((self.network.expand(precision) + damping).numpy())
        return torch.from_numpy(-scipy.linalg.lstsq(self.J.T @ self.J + shift, gradient.numpy())[0])

    def trace(self):
        return float((self.J**2).sum())


@pytest.fixture
def toy(monkeypatch):
    """The registry with the toy for the time of a test; in a file of the package the entry is all."""
    monkeypatch.setitem(DIRECTIONS, LeastSquares.name, LeastSquares)
    for estimator in (GNRegressor, GNClassifier):  # which have read the registry when they were imported
        monkeypatch.setitem(estimator._parameter_constraints, "solver", [StrOptions({"auto", *DIRECTIONS})])


def data(n=400):
    rng = np.random.default_rng(0)
    X = rng.uniform(-1, 1, (n, 2))
    return X, np.sin(2 * X[:, 0]) + X[:, 1] ** 2 + 0.1 * rng.normal(size=n)


def test_the_registry_is_as_before_without_the_fixture():
    with pytest.raises(ValueError, match="solver"):
        GNRegressor(**PLAIN, solver=LeastSquares.name).fit(*data(20))


@pytest.mark.parametrize(("batches", "digits"), [({}, 1e-8), ({"batch_size": 100}, 1e-3)], ids=["all rows", "batches"])
def test_an_estimator_fits_with_it(toy, batches, digits):
    """The steps are those of the primal; in batches it remembers less, on the way to the same minimum."""
    X, y = data()
    model, primal = (GNRegressor(**PLAIN, **batches, solver=solver).fit(X, y) for solver in ("toy", "primal"))
    assert model.solver_ == "toy"
    assert model.score(X, y) > 0.9
    assert model.history_["objective"][-1] == pytest.approx(primal.history_["objective"][-1], rel=digits)
    np.testing.assert_allclose(model.predict(X), primal.predict(X), atol=10 * digits)


def test_streams_and_classifiers_take_it(toy):
    X, y = data()
    stream = GNRegressor(**PLAIN, batch_size=50, solver="toy")
    for rows in np.array_split(np.arange(len(X)), 2):
        stream.partial_fit(X[rows], y[rows])
    assert stream.score(X, y) > 0.8
    assert GNClassifier(**PLAIN, solver="toy").fit(X, y > y.mean()).score(X, y > y.mean()) > 0.9


def test_what_it_lacks_is_said_in_its_own_words(toy):
    X, y = data(60)
    model = GNRegressor(**PLAIN, solver="toy").fit(X, y)
    with pytest.raises(ValueError, match="return_std=True needs a solver that keeps a factor: refit with"):
        model.predict(X, return_std=True)
    report = str(diagnose(model, X, y, verbose=False))
    assert "solver toy does not tell" in report and "solver toy has none" in report
    with pytest.raises(ValueError, match="'evidence' needs a factorisation; solver='toy' takes a float"):
        model.set_params(l2_regularization="evidence").fit(X, y)


def test_it_is_offered_where_it_alone_would_fit(toy, monkeypatch):
    """And "auto" takes it there."""
    monkeypatch.setattr(LeastSquares, "memory", classmethod(lambda cls, extent: 10.0))
    monkeypatch.setattr("skgn.directions.available_memory", lambda device: 20.0)
    extent = Extent(FeedForward(2, 1, (5,)), 100, 1)
    with pytest.raises(ValueError, match=r"solver='primal' needs .* solver='toy' needs .* and would fit"):
        choose("primal", extent)
    assert choose("auto", extent) is LeastSquares
