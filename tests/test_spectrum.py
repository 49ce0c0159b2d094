"""Eigenvalues and Riemannian gradient: of a fitted estimator, and of every iterate that a callback has followed."""

import warnings

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import skgn.direction
from skgn import GNClassifier, GNRegressor
from skgn.damping import ProportionalToCurvature
from skgn.spectrum import SpectrumMonitor, extreme_eigenvalues, riemannian_gradient_norm

ONE = {"hidden_layer_sizes": (3,), "n_estimators": 1, "tol": 1e-2, "random_state": 0}

unconverged = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture
def monitor():
    pytest.importorskip("sklearn.callback", reason="sklearn.callback comes with scikit-learn 1.9")
    return SpectrumMonitor()


def data(estimator, n=100):
    X, y = (load_diabetes if estimator is GNRegressor else load_breast_cancer)(return_X_y=True)
    return X[:n, :4], y[:n]


@pytest.mark.parametrize("weighted", [False, True])
def test_eigenvalues_of_a_linear_model_are_those_of_its_gram_matrix(weighted):
    X, y = data(GNRegressor)
    weight = np.arange(len(y)) % 3 if weighted else None
    model = GNRegressor((), l2_regularization=1e-2, n_estimators=1, standardize=False).fit(X, y, sample_weight=weight)
    U, s = np.column_stack([X, np.ones(len(X))]), np.ones(len(y)) if weight is None else weight
    expected = np.linalg.eigvalsh((U.T * s) @ U / s.sum())[[0, -1]]
    np.testing.assert_allclose(extreme_eigenvalues(model, X, y, weight), expected, rtol=1e-9)
    # Fewer rows than weights: those of the kernel.
    np.testing.assert_allclose(
        extreme_eigenvalues(model, X[:3], y[:3]), np.linalg.eigvalsh(U[:3] @ U[:3].T / 3)[[0, -1]], rtol=1e-9
    )


@pytest.mark.parametrize("n", [3, 100])
def test_riemannian_norm_of_a_linear_model_is_that_of_the_residual_that_it_can_still_take_away(n):
    X, y = data(GNRegressor)
    model = GNRegressor((), l2_regularization=1e-1, n_estimators=1, standardize=False).fit(X, y)
    X, y = X[:n], y[:n]
    U, residual = np.column_stack([X, np.ones(n)]), y - model.predict(X)
    reachable = U @ np.linalg.lstsq(U, residual, rcond=None)[0] / data(GNRegressor)[1].std()
    expected = np.sqrt(np.mean(reachable**2))
    assert riemannian_gradient_norm(model, X, y) == pytest.approx(expected, rel=1e-6)


def test_directions_that_change_no_probability_are_left_out():
    X, y = load_iris(return_X_y=True)
    model = GNClassifier((), l2_regularization=1e-2, n_estimators=1).fit(X, y)
    smallest, largest = extreme_eigenvalues(model, X, y)
    assert 1e-6 * largest < smallest < largest


def test_eigenvalues_that_do_not_fit_in_memory_are_refused(monkeypatch):
    X, y = data(GNRegressor)
    model = GNRegressor(**ONE, l2_regularization=1e-2).fit(X, y)
    monkeypatch.setattr(skgn.direction, "available_memory", lambda device: 1e3)
    with pytest.raises(ValueError, match=r"Eigenvalues of a matrix of \d+ rows need .* are available"):
        extreme_eigenvalues(model, X, y)
    with pytest.raises(NotFittedError):
        extreme_eigenvalues(clone(model), X, y)


CASES = {
    "l2": (GNRegressor, {"l2_regularization": 1e-2}),
    "l2, cg": (GNRegressor, {"l2_regularization": 1e-2, "solver": "cg"}),
    "huber": (GNRegressor, {"loss": "huber"}),
    "members": (GNRegressor, {"n_estimators": 2, "n_jobs": 2}),
    "search": (GNClassifier, {}),
    "class weights": (GNClassifier, {"class_weight": {0: 3.0}, "l2_regularization": 1e-2}),
    "batches": (GNRegressor, {"batch_size": 30}),
}


@pytest.mark.parametrize("case", CASES)
@unconverged
def test_a_monitor_adds_the_eigenvalues_of_every_iterate_and_changes_nothing_else(case, monitor):
    estimator, parameters = CASES[case]
    X, y = data(estimator)
    alone = estimator(**ONE | {"max_iter": 8} | parameters).fit(X, y)
    watched = clone(alone).set_callbacks(monitor).fit(X, y)
    # Two threads of BLAS may add in another order, as memory lies elsewhere.
    np.testing.assert_allclose(watched.predict(X), alone.predict(X), rtol=1e-12)
    for member in watched.estimators_:
        smallest, largest = member.history["min_eigenvalue"], member.history["max_eigenvalue"]
        assert len(smallest) == len(largest) == member.n_iter + 1
        assert (smallest >= 0).all() and (smallest < largest).all()
        assert (member.history["riemannian_gradient_norm"] > 0).all()
    assert watched.history_ is watched.estimators_[0].history
    assert watched.history_.keys() - alone.history_.keys() == {
        "min_eigenvalue",
        "max_eigenvalue",
        "riemannian_gradient_norm",
    }
    # No fit is remembered.
    assert not monitor._found


@unconverged
def test_the_eigenvalues_are_those_of_the_weights_at_each_iterate(monitor):
    X, y = data(GNRegressor)
    plain = GNRegressor(**ONE, l2_regularization=1e-2, damping=0.1)
    history = clone(plain).set_params(max_iter=4).set_callbacks(monitor).fit(X, y).history_
    for i in range(5):
        short = clone(plain).set_params(max_iter=i).fit(X, y)
        smallest, largest = extreme_eigenvalues(short, X, y)
        assert history["min_eigenvalue"][i] == pytest.approx(smallest, rel=1e-6, abs=1e-12)
        assert history["max_eigenvalue"][i] == pytest.approx(largest, rel=1e-9)
        norm = riemannian_gradient_norm(short, X, y)
        assert history["riemannian_gradient_norm"][i] == pytest.approx(norm, rel=1e-6)


@unconverged
def test_the_damping_rule_that_follows_the_smallest_eigenvalue_sees_the_same(monitor):
    X, y = data(GNRegressor, n=15)
    rule = ProportionalToCurvature(0.5)
    model = GNRegressor((2,), l2_regularization=1e-2, n_estimators=1, damping=rule, random_state=0, max_iter=6)
    history = model.set_callbacks(monitor).fit(X, y).history_
    np.testing.assert_allclose(history["damping"][1:], 0.5 * history["min_eigenvalue"][:-1], rtol=1e-5, atol=1e-12)


def test_one_monitor_may_serve_a_search_of_pipelines(monitor):
    X, y = data(GNRegressor)
    network = GNRegressor(**ONE, l2_regularization=1e-2, max_iter=30).set_callbacks(monitor)
    search = GridSearchCV(make_pipeline(StandardScaler(), network), {"gnregressor__alpha": [0.5, 1.0]}, cv=2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        search.fit(X, y)
    assert np.isfinite(search.best_estimator_[-1].history_["max_eigenvalue"]).all()
    assert not monitor._found
