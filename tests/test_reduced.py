"""Fits of tables of lower rank are those of the network that reads all columns; that network is the oracle."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch

from skgn import GNClassifier, GNRegressor, full_step
from skgn.export import to_torch
from skgn.feedforward import FeedForward
from skgn.integrity import flaws
from skgn.objective import Objective
from skgn.problem import Problem
from skgn.reduced import Reduced, principal_directions
from skgn.search import Search

pytestmark = pytest.mark.filterwarnings("ignore::skgn.unfamiliar.UnfamiliarDataWarning")

N = 400


def table(n=N, seed=0):
    """Indicators of five features with four levels, all of them twice, and a number: 41 columns of rank 17."""
    rng = np.random.default_rng(seed)
    levels = rng.integers(0, 4, (n, 5))
    indicators = np.concatenate([np.eye(4)[column] for column in levels.T], axis=1)
    return np.column_stack([indicators, indicators, rng.normal(size=n)]), levels


X, LEVELS = table()
_NOISE = np.random.default_rng(1).normal(size=(N, 2))
SIGNAL = np.sin(2 * X[:, -1]) + (LEVELS[:, 0] == LEVELS[:, 1]) + 0.3 * LEVELS[:, 2]
TARGET = SIGNAL + 0.2 * _NOISE[:, 0]
TWO = np.column_stack([TARGET, LEVELS[:, 3] - X[:, -1] + 0.2 * _NOISE[:, 1]])
CLASSES = np.digitize(TARGET, [0.2, 0.8, 1.5])

#: New rows like those of training, and rows that no combination of these makes: without a level, and with one of two.
APART = table(40, seed=2)[0]
APART[:20, :4] = 0
APART[20:, 22] = 1 - APART[20:, 22]
NEW = np.concatenate([table(40, seed=3)[0], APART])

ONE = {"hidden_layer_sizes": (10,), "n_estimators": 1, "random_state": 0, "prior_groups": "layer", "max_iter": 60}

CASES = {
    "layer": lambda: GNRegressor(**ONE).fit(X, TARGET),
    "feature": lambda: GNRegressor(**ONE | {"prior_groups": "feature", "hidden_layer_sizes": (3,)}).fit(
        X, np.column_stack([TWO] * 3)
    ),
    "two layers": lambda: GNRegressor(**ONE | {"hidden_layer_sizes": (8, 4)}).fit(X, TARGET),
    "no hidden layer": lambda: GNRegressor(**ONE | {"hidden_layer_sizes": ()}).fit(X, np.column_stack([TWO] * 4)),
    "no linear path": lambda: GNRegressor(**ONE, linear_path=False).fit(X, TARGET),
    "centered": lambda: GNRegressor(**ONE, init="centered").fit(X, TARGET),
    "ranks": lambda: GNRegressor(**ONE, standardize="rank").fit(X, TARGET),
    "members": lambda: GNRegressor(**ONE | {"n_estimators": 4, "prior_groups": "auto"}).fit(X, TARGET),
    "two outputs": lambda: GNRegressor(**ONE).fit(X, TWO),
    "input noise": lambda: GNRegressor(**ONE | {"n_estimators": 2}, noise="input").fit(X, TARGET),
    "student_t": lambda: GNRegressor(**ONE, loss="student_t").fit(X, TARGET),
    "quantile": lambda: GNRegressor(**ONE, loss="quantile", quantile=[0.2, 0.8]).fit(X, TARGET),
    "poisson": lambda: GNRegressor(**ONE, loss="poisson").fit(X, np.floor(np.exp(TARGET))),
    "dual": lambda: GNRegressor(**ONE, solver="dual").fit(X, TARGET),
    "early stopping": lambda: GNRegressor(**ONE, early_stopping=True).fit(X, TARGET),
    "classes": lambda: GNClassifier(**ONE | {"n_estimators": 2}).fit(X, CLASSES),
    "two classes": lambda: GNClassifier(**ONE | {"n_estimators": 3, "prior_groups": "auto"}).fit(X, CLASSES > 1),
}


@pytest.fixture(autouse=True)
def double(monkeypatch):
    """Systems of float64, whose rounding errors do not grow to what can be seen."""
    monkeypatch.setattr(full_step, "_LARGE_SYSTEM", 10**9)


@pytest.fixture
def trained(monkeypatch):
    """Networks of all objectives made, to see which are trained."""
    networks, init = [], Objective.__init__

    def watched(self, network, *args):
        networks.append(network)
        init(self, network, *args)

    monkeypatch.setattr(Objective, "__init__", watched)
    return networks


def in_full(fit, monkeypatch):
    """Fit with networks that read all columns, from weights without the part that no row sees: it would decay unseen."""
    smaller, candidates = Problem.network, Search._candidates

    def seen(self, starts):
        for number, start in starts:
            network = smaller(self._problem, start)
            known = {name: getattr(start, name) for name in ("weights", "anchor") if getattr(start, name) is not None}
            changed = {name: network.to_original(network.from_original(w)) for name, w in known.items()}
            yield number, replace(start, **changed)

    with monkeypatch.context() as patch:
        patch.setattr(Problem, "network", lambda self, start: start.network)
        patch.setattr(Search, "_candidates", lambda self, starts: candidates(self, seen(self, starts)))
        return fit()


def predicted(model):
    """All that a model predicts, by name."""
    if isinstance(model, GNClassifier):
        return {"proba": model.predict_proba(NEW)}
    found = {"mean": model.predict(NEW), "epistemic": model.epistemic_std(NEW)}
    if model.loss != "quantile":
        found["std"] = model.predict(NEW, return_std=True)[1]
        found["quantiles"] = model.predict_quantiles(NEW, [0.1, 0.6])
    if model.loss == "squared_error":
        found["cov"] = model.predict(NEW, return_cov=True)[1]
    return found


@pytest.mark.parametrize("case", CASES)
def test_a_fit_is_that_of_the_network_that_reads_all_columns(case, trained, monkeypatch):
    model = CASES[case]()
    assert any(isinstance(network, Reduced) for network in trained)
    trained.clear()
    full = in_full(CASES[case], monkeypatch)
    assert not any(isinstance(network, Reduced) for network in trained)
    for (name, values), expected in zip(predicted(model).items(), predicted(full).values(), strict=True):
        np.testing.assert_allclose(values, expected, rtol=2e-5, atol=1e-5 * np.abs(expected).max(), err_msg=name)
    for member, of_full in zip(model.estimators_, full.estimators_, strict=True):
        assert member.network == of_full.network and type(member.network) is FeedForward
        assert member.n_iter == of_full.n_iter
        np.testing.assert_allclose(member.n_effective_parameters, of_full.n_effective_parameters, rtol=1e-5)
        np.testing.assert_allclose(member.weights, of_full.weights, atol=1e-4)
        for a, expected in zip(member.precision, of_full.precision, strict=True):
            np.testing.assert_allclose(a, expected, rtol=1e-4)
    if model.log_evidence_ is not None:
        np.testing.assert_allclose(model.log_evidence_, full.log_evidence_, rtol=1e-6)
    np.testing.assert_allclose(model.feature_relevance_, full.feature_relevance_, atol=1e-5)
    assert [W.shape for W in model.coefs_] == [W.shape for W in full.coefs_]
