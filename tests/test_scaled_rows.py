"""Predictions of many rows: in parts, the columns of which fit the memory budget."""

import tracemalloc

import numpy as np
import pytest

from skgn import GNClassifier, GNRegressor
from skgn.predictions import observed_probabilities

RNG = np.random.default_rng(0)
X = RNG.uniform(-2, 2, (200, 3))
Y = np.sin(3 * X[:, 0]) + 0.1 * RNG.normal(size=200)
MANY = RNG.uniform(-2, 2, (6_000, 3))


@pytest.fixture(scope="module")
def regressor():
    return GNRegressor(random_state=0).fit(X, Y)


@pytest.fixture(scope="module")
def classifier():
    return GNClassifier(random_state=0, hidden_layer_sizes=(4,)).fit(X, np.digitize(Y, [-0.5, 0.5]))


@pytest.mark.parametrize(
    ("method", "given"),
    [
        ("predict", {}),
        ("predict", {"return_std": True}),
        ("predict_quantiles", {"quantiles": [0.1, 0.5]}),
        ("predict_interval", {}),
        ("predict_interval", {"calibrate": True}),
        ("epistemic_std", {}),
    ],
)
def test_parts_of_the_rows_have_the_predictions_of_all(regressor, method, given, monkeypatch):
    rows, predict = MANY[:300], getattr(regressor, method)
    expected = np.asarray(predict(rows, **given))
    monkeypatch.setenv("SKGN_MEMORY_BUDGET_MB", "0.1")
    np.testing.assert_allclose(np.asarray(predict(rows, **given)), expected, rtol=1e-9)


@pytest.mark.parametrize("method", ["predict", "predict_proba", "decision_function", "mutual_information"])
def test_parts_of_the_rows_have_the_classes_of_all(classifier, method, monkeypatch):
    expected = getattr(classifier, method)(MANY[:300])
    monkeypatch.setenv("SKGN_MEMORY_BUDGET_MB", "0.01")
    np.testing.assert_allclose(getattr(classifier, method)(MANY[:300]), expected, rtol=1e-9)


def test_parts_of_the_rows_have_the_probabilities_of_all(regressor, monkeypatch):
    expected = observed_probabilities(regressor, X, Y)
    monkeypatch.setenv("SKGN_MEMORY_BUDGET_MB", "0.1")
    np.testing.assert_allclose(observed_probabilities(regressor, X, Y), expected, rtol=1e-9)


@pytest.mark.parametrize("method", ["predict", "predict_interval"])
def test_columns_of_many_rows_stay_within_the_budget(regressor, method, monkeypatch):
    monkeypatch.setenv("SKGN_MEMORY_BUDGET_MB", "1")
    tracemalloc.start()
    try:
        getattr(regressor, method)(MANY)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # A radial unit for each row of the fit takes 10 MB for all rows at once.
    assert peak < 3e6
