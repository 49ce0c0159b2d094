"""Fits of tables of lower rank are those of the network that reads all columns; that network is the oracle."""

import pickle
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from scipy.stats import gmean
from silent import Silent
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression, Ridge

from skgn import GNClassifier, GNRegressor, choices, diagnose, directions, draws, full_step, further, summarize
from skgn.export import to_torch
from skgn.feedforward import FeedForward
from skgn.integrity import flaws
from skgn.objective import Objective
from skgn.posterior import outputs_of_draws
from skgn.problem import Problem
from skgn.reduced import Reduced, principal_directions
from skgn.search import Search

pytestmark = [
    pytest.mark.filterwarnings("ignore::skgn.unfamiliar.UnfamiliarDataWarning"),
    # Few iterations: equal trainings are equal after each.
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
]

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


def with_copies(y, k):
    """Columns y, k times, each with noise of its own: exact copies have no outputs."""
    columns = np.column_stack([y] * k)
    return columns + 0.01 * np.random.default_rng(9).normal(size=columns.shape)


#: New rows like those of training, and rows that no combination of these makes: without a level, and with one of two.
APART = table(40, seed=2)[0]
APART[:20, :4] = 0
APART[20:, 22] = 1 - APART[20:, 22]
NEW = np.concatenate([table(40, seed=3)[0], APART])

#: More columns than rows, which is where the dual solves.
WIDE = np.random.default_rng(4).normal(size=(70, 400))


def new_rows(model):
    return NEW if model.n_features_in_ == X.shape[1] else WIDE[30:]


ONE = {"hidden_layer_sizes": (10,), "n_estimators": 1, "random_state": 0, "prior_groups": "layer", "max_iter": 4}

#: So many rows show a fault in the networks; two classes need all of them.
M = 240

CASES = {
    "layer": lambda: GNRegressor(**ONE).fit(X[:M], TARGET[:M]),
    "feature": lambda: GNRegressor(**ONE | {"prior_groups": "feature", "hidden_layer_sizes": (3,)}).fit(
        X[:M], with_copies(TWO[:M], 2)
    ),
    "two layers": lambda: GNRegressor(**ONE | {"hidden_layer_sizes": (8, 4)}).fit(X[:M], TARGET[:M]),
    "no hidden layer": lambda: GNRegressor(**ONE | {"hidden_layer_sizes": ()}).fit(X[:M], with_copies(TWO[:M], 4)),
    "no linear path": lambda: GNRegressor(**ONE, linear_path=False).fit(X[:M], TARGET[:M]),
    "centered": lambda: GNRegressor(**ONE, init="centered").fit(X[:M], TARGET[:M]),
    "ranks": lambda: GNRegressor(**ONE, standardize="rank").fit(X[:M], TARGET[:M]),
    "members": lambda: GNRegressor(**ONE | {"n_estimators": 4, "prior_groups": "auto"}).fit(X[:M], TARGET[:M]),
    "two outputs": lambda: GNRegressor(**ONE).fit(X[:M], TWO[:M]),
    "input noise": lambda: GNRegressor(**ONE | {"n_estimators": 2}, noise="input").fit(X[:M], TARGET[:M]),
    "student_t": lambda: GNRegressor(**ONE, loss="student_t").fit(X[:M], TARGET[:M]),
    "quantile": lambda: GNRegressor(**ONE, loss="quantile", quantile=[0.2, 0.8]).fit(X[:M], TARGET[:M]),
    "poisson": lambda: GNRegressor(**ONE, loss="poisson").fit(X[:M], np.floor(np.exp(TARGET[:M]))),
    "dual": lambda: GNRegressor(**ONE | {"hidden_layer_sizes": (2,)}).fit(WIDE[:40], WIDE[:40, 0]),
    "early stopping": lambda: GNRegressor(**ONE, early_stopping=True).fit(X[:M], TARGET[:M]),
    "classes": lambda: GNClassifier(**ONE | {"n_estimators": 2}).fit(X[:M], CLASSES[:M]),
    "two classes": lambda: GNClassifier(**ONE | {"n_estimators": 3, "prior_groups": "auto"}).fit(X, CLASSES > 1),
}


@cache
def fitted(case):
    """The model of a case; it is shared, and not to be changed."""
    return CASES[case]()


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
    """Fit with networks that read all columns, from weights without what no row sees: that would decay unseen."""
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
    rows = new_rows(model)
    if isinstance(model, GNClassifier):
        return {"proba": model.predict_proba(rows)}
    found = {"mean": model.predict(rows), "epistemic": model.epistemic_std(rows)}
    if model.loss != "quantile":
        found["std"] = model.predict(rows, return_std=True)[1]
        found["quantiles"] = model.predict_quantiles(rows, [0.1, 0.6])
    if model.loss == "squared_error":
        found["cov"] = model.predict(rows, return_cov=True)[1]
    return found


@pytest.mark.parametrize("case", CASES)
def test_a_fit_is_that_of_the_network_that_reads_all_columns(case, trained, monkeypatch):
    # Networks of the columns of use alone are other models.
    monkeypatch.setattr(draws, "_NARROWED_OF", 10**9)
    model = CASES[case]()
    assert any(isinstance(network, Reduced) for network in trained)
    assert case != "dual" or model.solver_ == "dual"
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


def directions_of(rows):
    """Directions of slices of these inputs."""
    return lambda columns: principal_directions(rows[:, columns], np.ones(len(rows)))


def test_directions_span_what_the_rows_span():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(50, 3)) @ rng.normal(size=(3, 7))
    weight = rng.integers(1, 4, 50).astype(float)
    V = principal_directions(rows, weight)
    assert V.shape == (7, np.linalg.matrix_rank(rows))
    np.testing.assert_allclose(V.T @ V, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(rows @ V @ V.T, rows, atol=1e-12)
    # A row in another direction counts, however little it weighs.
    other = np.concatenate([rows, np.eye(7)[:1]])
    assert principal_directions(other, np.append(weight, 1e-3)).shape == (7, 4)
    # Those in which rows differ the most come first.
    several = rng.normal(size=(50, 7)) * np.arange(1, 8)
    _, vectors = np.linalg.eigh((several * weight[:, None]).T @ several)
    found = principal_directions(several, weight)
    np.testing.assert_allclose(np.abs(np.diag(found.T @ vectors[:, ::-1])), 1, rtol=1e-9)
    # A constant column is a direction, although it has no variance; columns of zeros are none.
    assert principal_directions(np.column_stack([np.ones(50), np.zeros(50)]), weight).shape == (2, 1)
    # Rows in blocks are as good as all at once.
    long = np.concatenate([rows] * 200)
    assert principal_directions(long, np.ones(len(long))).shape == (7, 3)


NETWORKS = {
    "straight columns": FeedForward(7, 2, (5, 3), n_straight=4),
    "the same columns": FeedForward(7, 2, (5,)),
    "no hidden layer": FeedForward(7, 2, ()),
    "no linear path": FeedForward(7, 2, (5,), linear_path=False),
}


@pytest.mark.parametrize("first_layer", [True, False])
@pytest.mark.parametrize("case", NETWORKS)
def test_outputs_and_expectations_are_those_of_the_original(case, first_layer):
    network, rng = NETWORKS[case], np.random.default_rng(0)
    rows = np.concatenate([rng.normal(size=(30, 2)) @ rng.normal(size=(2, 3)), rng.normal(size=(30, 2))], axis=1)
    rows = np.concatenate([rows, rows[:, 3:]], axis=1)
    smaller = Reduced.of(network, directions_of(rows), first_layer)
    if case == "no linear path" and not first_layer:
        assert smaller is network
        return
    assert smaller.n_weights < network.n_weights and smaller.original is network

    def outputs(network, X, weights):
        return network.forward(network.with_bias(torch.tensor(X)), torch.tensor(weights))[0]

    weights = rng.normal(size=network.n_weights)
    own, read = smaller.from_original(weights), smaller.read(rows)
    torch.testing.assert_close(outputs(smaller, read, own), outputs(network, rows, weights))
    torch.testing.assert_close(outputs(network, rows, smaller.to_original(own)), outputs(network, rows, weights))
    np.testing.assert_allclose(smaller.from_original(smaller.to_original(own)), own, atol=1e-12)
    np.testing.assert_allclose(smaller.read_back(read), rows, atol=1e-12)
    for layer, (_, into) in enumerate(network.shapes):
        # What is one number for a block of the original is the same number for its directions.
        fan_in = smaller.fan_in(layer)
        assert len(fan_in) == smaller.shapes[layer][1] and set(fan_in.tolist()) == set(network.fan_in(layer).tolist())
        expected = np.repeat(np.arange(len(network.input_blocks(layer))), network.input_blocks(layer))
        given = [np.zeros(i) for _, i in smaller.shapes]
        given[layer] = np.repeat(np.arange(len(smaller.input_blocks(layer))), smaller.input_blocks(layer)).astype(float)
        assert smaller.precision_of_original(given)[layer].tolist() == expected.tolist() and len(expected) == into


@pytest.mark.parametrize(
    "parameters",
    [
        {"l2_regularization": 1e-2},
        {"prior_groups": "shared"},
        {"init": "symmetric"},
        {"standardize": False},
        {"batch_size": 100},
        {"hidden_layer_sizes": (3,)},
    ],
    ids=lambda parameters: next(iter(parameters)),
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_what_has_no_basis_or_no_need_of_one_reads_all_columns(parameters, trained):
    GNRegressor(**ONE | {"max_iter": 2} | parameters).fit(X, TARGET)
    assert trained and not any(isinstance(network, Reduced) for network in trained)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_block_of_a_stream_reads_all_columns(trained):
    GNRegressor(**ONE).partial_fit(X, TARGET).partial_fit(X, TARGET)
    assert trained and not any(isinstance(network, Reduced) for network in trained)


def test_outside_of_what_the_rows_span_weights_are_as_uncertain_as_before():
    """Without data the variance of a linear model is the prior's: the sum of squared inputs over precisions."""
    model = GNRegressor(**ONE | {"hidden_layer_sizes": ()}, standardize="robust").fit(X, with_copies(TARGET, 8))
    (member,) = model.estimators_
    assert member.posterior.basis is not None
    away = np.zeros((1, X.shape[1]))
    away[0, [3, 23]] = 1, -1  # a level in one of two columns that are equal
    scaled = model._table.scale(np.concatenate([X[:1], X[:1] + away]))[member.scaling]
    cov = member.posterior.covariance(member.network, member.weights, scaled, torch.device("cpu"))[0]
    # The step is between two columns of one scale, and so at right angles to all rows.
    step = (scaled[1] - scaled[0])[-X.shape[1] :]
    a = member.precision[0][0]
    expected = step @ step / a / member.posterior.scale
    np.testing.assert_allclose(cov[0, 0] + cov[1, 1] - 2 * cov[0, 1], expected, rtol=1e-9)


@pytest.mark.parametrize("case", ["layer", "two outputs"])
def test_samples_vary_as_the_deviation_says(case):
    model = fitted(case)
    (member,), k = model.estimators_, np.ndim(model.predict(NEW[:1])) and model.n_outputs_
    scaled = model._table.scale(NEW[[0, 1, 40, 41, 60, 61]])[member.scaling]
    draws = member.posterior.draw(member.network, member.weights, M, 10000, np.random.RandomState(0))
    assert draws.shape == (member.network.n_weights, 10000)
    outputs = outputs_of_draws(member.network, member.weights, draws, scaled)
    variance = member.posterior.variance(member.network, member.weights, scaled, torch.device("cpu"))
    assert variance.shape == (6, k)
    np.testing.assert_allclose(outputs.var(axis=2), variance, rtol=0.05)


@pytest.mark.parametrize("case", ["layer", "feature", "input noise", "classes", "dual"])
def test_exported_modules_predict_the_same(case):
    model = fitted(case)
    rows = new_rows(model)
    scores = to_torch(model)(torch.tensor(rows))
    if isinstance(model, GNClassifier):
        np.testing.assert_allclose(scores.detach().numpy(), model.predict_proba(rows), atol=1e-10)
        return
    module = to_torch(model, return_std=True)
    for found, expected in zip(module(torch.tensor(rows)), model.predict(rows, return_std=True), strict=True):
        np.testing.assert_allclose(found.detach().numpy(), expected, rtol=1e-9, atol=1e-10)


def test_states_are_whole_and_those_without_a_basis_are_too():
    model, plain = fitted("layer"), GNRegressor(**ONE).fit(X[:, -1:], TARGET)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict(NEW, return_std=True)[1], model.predict(NEW, return_std=True)[1])
    for member in plain.estimators_:
        del vars(member.posterior)["basis"]  # as stored before there was one
    again = pickle.loads(pickle.dumps(plain))
    np.testing.assert_array_equal(again.predict(NEW[:, -1:], return_std=True), plain.predict(NEW[:, -1:], True))
    (member,) = model.estimators_
    for basis in (None, [T[:, :-1] if T is not None else None for T in member.posterior.basis], [np.eye(3)] * 2):
        damaged = replace(member, posterior=replace(member.posterior, basis=basis))
        state = vars(model) | {"estimators_": [damaged]}
        assert any("Posterior" in name for name in flaws(state, GNRegressor, ["estimators_"])), basis


def test_weights_are_repetitions():
    weight = np.random.default_rng(0).integers(0, 3, N)
    weighted = GNRegressor(**ONE).fit(X, TARGET, sample_weight=weight)
    repeated = GNRegressor(**ONE).fit(np.repeat(X, weight, axis=0), np.repeat(TARGET, weight))
    assert weighted.estimators_[0].posterior.basis is not None
    np.testing.assert_array_equal(weighted.predict(NEW, return_std=True), repeated.predict(NEW, return_std=True))


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("init", ["random", "centered"])
def test_a_fit_goes_on_from_the_weights_of_another(init):
    model = GNRegressor(**ONE, init=init, warm_start=True).fit(X, TARGET)
    before = model.predict(NEW)
    np.testing.assert_allclose(model.set_params(max_iter=0).fit(X, TARGET).predict(NEW), before, rtol=1e-9)


def test_columns_of_use_are_columns_of_the_table(trained, monkeypatch):
    """Of a column and fifteen of noise, all told twice, the former is found; networks that read it alone are drawn."""
    found = []
    narrowed = further.narrowed_starts
    monkeypatch.setattr(
        further, "narrowed_starts", lambda starts, use, n: found.append(use) or narrowed(starts, use, n)
    )
    noise = np.random.default_rng(3).normal(size=(N, 15))
    columns = np.column_stack([noise, noise, X[:, -1], X[:, -1]])
    y = X[:, -1] ** 2 + 0.2 * _NOISE[:, 0]
    model = GNRegressor(**ONE | {"n_estimators": 3, "max_iter": 15}, standardize="robust").fit(columns, y)
    assert any(isinstance(network, Reduced) for network in trained)
    (use,) = found
    assert len(use["robust"]) == 32 and np.flatnonzero(use["robust"]).tolist() == [30, 31]
    assert model.score(columns, y) > 0.9


# --- Networks that leave something out


def leading(network, rows, most, **given):
    """The network that is trained where no more than so many weights are affordable."""
    return Reduced.of(network, directions_of(rows), True, affordable=lambda net: net.n_weights <= most, **given)


def test_a_network_for_which_there_is_time_stays_as_it_is():
    network = FeedForward(80, 3, (5,), n_straight=40)
    assert leading(network, np.random.default_rng(0).normal(size=(100, 80)), network.n_weights) is network


@pytest.mark.parametrize("most", [150, 250, 300, 340])
def test_a_network_that_takes_too_long_reads_the_leading_directions(most):
    network, rng = FeedForward(80, 3, (5,), n_straight=40), np.random.default_rng(0)
    rows = rng.normal(size=(100, 80)) * np.geomspace(1, 0.1, 80)
    smaller = leading(network, rows, most)
    assert network.n_weights == 5 * 41 + 3 * 46
    assert smaller.leaves_out and smaller.original is network
    for basis, inputs in ((smaller.hidden, rows[:, :40]), (smaller.direct, rows[:, 40:])):
        if basis is not None:
            _, vectors = np.linalg.eigh(inputs.T @ inputs)
            leading_ones = vectors[:, ::-1][:, : basis.shape[1]]
            np.testing.assert_allclose(basis @ basis.T, leading_ones @ leading_ones.T, atol=1e-9)
    n_hidden, n_direct = (40 if basis is None else basis.shape[1] for basis in (smaller.hidden, smaller.direct))
    assert min(n_hidden, n_direct) >= 20
    # As many as are affordable: another weight in each path is too much, if no path is at its least.
    assert smaller.n_weights <= most or (n_hidden, n_direct) == (20, 20)
    assert smaller.n_weights + 5 + 3 > most or (n_hidden, n_direct) == (40, 40)


def test_a_narrowed_network_reads_its_columns_alone():
    network, rng = FeedForward(8, 2, (5,), n_straight=4), np.random.default_rng(0)
    rows, use = rng.normal(size=(30, 8)), np.array([False, True, False, True])
    smaller = Reduced.of(network, directions_of(rows), False, use)
    assert smaller.leaves_out and smaller.shapes == ((5, 3), (2, 10))
    np.testing.assert_array_equal(smaller.read(rows), rows[:, [1, 3, 4, 5, 6, 7]])
    precision = [np.array([2.0, 3.0, 4.0]), np.arange(10.0)]
    of_first, of_last = smaller.precision_of_original(precision)
    assert of_first.tolist() == [np.inf, 2, np.inf, 3, 4] and of_last.tolist() == list(range(10))


def affords(monkeypatch, flops, flops_once):
    """Let an iteration take no more multiply-adds: one among many, and the only one."""
    monkeypatch.setattr(directions, "_MOST_FLOPS", flops)
    monkeypatch.setattr(directions, "_MOST_FLOPS_ONCE", flops_once)


_FACTORS = np.random.default_rng(5).normal(size=(N, 4))
CORRELATED = _FACTORS @ np.random.default_rng(6).normal(size=(4, 60)) + 0.01 * np.random.default_rng(7).normal(
    size=(N, 60)
)


def test_the_deviation_is_that_of_the_directions_read(monkeypatch):
    """The posterior of a linear model in directions V has the covariance V (V' G V + a)^-1 V' of its weights."""
    affords(monkeypatch, 1.0, 1.0)
    monkeypatch.setattr(choices.Choices, "may_cut", True)
    y = with_copies(_FACTORS @ [1.0, 2, 3, 4] + 0.1 * _NOISE[:, 0], 6)
    model = GNRegressor(**ONE | {"hidden_layer_sizes": (), "max_iter": 15}, standardize="robust").fit(CORRELATED, y)
    (member,) = model.estimators_
    (T,) = member.posterior.basis
    assert T.shape == (61, 21)
    rows, new = (
        np.c_[model._table.scale(rows)[member.scaling][:, -60:], np.ones(len(rows))]
        for rows in (CORRELATED, np.random.default_rng(8).normal(size=(5, 60)))
    )
    found = member.posterior.variance(member.network, member.weights, new[:, :-1], torch.device("cpu"))
    # Outputs have systems of their own, in which they count by their precisions before the last estimate.
    noise = member.posterior.noise_variance
    for k, factor in enumerate(member.posterior.factor[i : i + 21, i : i + 21] for i in range(0, 126, 21)):
        system = factor @ factor.T
        a = system - gmean(noise) / noise[k] * T.T @ rows.T @ rows @ T / N
        np.testing.assert_allclose(a, np.diag(np.append(np.full(20, a[0, 0]), a[20, 20])), atol=1e-8)
        expected = np.einsum("ij,jk,ik->i", new @ T, np.linalg.inv(system), new @ T) / member.posterior.scale
        np.testing.assert_allclose(found[:, k], expected, rtol=1e-6)
    # What is left out is 0 for sure, in draws of weights too.
    W = member.network.arrays(member.weights)[0][0]
    np.testing.assert_allclose(T[:60, :20] @ (T[:60, :20].T @ W), W, atol=1e-9)
    draws = member.posterior.draw(member.network, member.weights, N, 3, np.random.RandomState(0)).reshape(6, 61, 3)
    np.testing.assert_allclose(np.einsum("ij,kjl->kil", T @ T.T, draws), draws, atol=1e-9)


#: A fit that tries no other inputs, which would take most of the time.
ROBUST = {"standardize": "robust", "n_estimators": 2, "random_state": 0}

CUT = {
    "regression": (GNRegressor(**ROBUST, max_iter=6), np.sin(_FACTORS[:, 0])),
    "classes": (GNClassifier(**ROBUST, max_iter=8), np.digitize(_FACTORS[:, 0], [-1, 1])),
}


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("case", CUT)
def test_fits_that_leave_directions_out_have_all_methods(case, monkeypatch, trained):
    affords(monkeypatch, {"regression": 1e8, "classes": 3e8}[case], 1e9)
    model = clone(CUT[case][0]).fit(CORRELATED, CUT[case][1])
    assert {network.leaves_out for network in trained if isinstance(network, Reduced)} == {True}
    # Four factors tell nearly all.
    assert model.left_out_score_ > 0.9
    assert {str(member.prior_kind) for member in model.estimators_} <= {"layer", "unit"}
    again = pickle.loads(pickle.dumps(model))
    exported = to_torch(model)(torch.tensor(CORRELATED[:50])).detach().numpy()
    if case == "classes":
        np.testing.assert_array_equal(again.predict_proba(CORRELATED), model.predict_proba(CORRELATED))
        np.testing.assert_allclose(exported, model.predict_proba(CORRELATED[:50]), atol=1e-9)
    else:
        std = to_torch(model, return_std=True)(torch.tensor(CORRELATED[:50]))[1].detach().numpy()
        np.testing.assert_allclose(std, model.predict(CORRELATED[:50], return_std=True)[1], rtol=1e-7)
        assert np.isfinite(model.sample_y(CORRELATED[:5], 10, random_state=0)).all()
    assert np.isfinite(model.feature_relevance_).all()
    deep = [member for member in model.estimators_ if member.network.hidden_layer_sizes]
    assert str(summarize(model)).count("leading directions") >= len(deep)
    assert str(diagnose(model, CORRELATED, model.predict(CORRELATED)))


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_all_networks_are_rectified_where_smooth_ones_take_too_long_in_few_directions(monkeypatch, capsys):
    affords(monkeypatch, 1.0, 1e9)
    y = np.digitize(_FACTORS[:, 0], [-1, 1])
    model = GNClassifier(**ROBUST, max_iter=1, verbose=1).fit(CORRELATED, y)
    networks = [member for member in model.estimators_ if member.network.hidden_layer_sizes]
    assert {str(member.prior_kind) for member in networks} == {"unit"}
    assert {member.network.activation for member in networks} == {"relu"}
    assert "of 1463 weights, in the leading directions of the inputs" in capsys.readouterr().out


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_nothing_is_left_out_where_there_is_time(trained):
    model, y = CUT["regression"]
    clone(model).set_params(max_iter=1).fit(CORRELATED, y)
    assert not any(network.leaves_out for network in trained if isinstance(network, Reduced))


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    "parameters",
    [{"hidden_layer_sizes": (10,)}, {"prior_groups": "feature", "linear_path": False}, {"batch_size": 100}],
    ids=lambda parameters: next(iter(parameters)),
)
def test_what_is_asked_for_is_not_cut(parameters, trained, monkeypatch):
    affords(monkeypatch, 1.0, 1.0)
    GNRegressor(**ROBUST, max_iter=1, noise="constant", **parameters).fit(CORRELATED, _FACTORS[:, 0])
    assert trained and not any(network.leaves_out for network in trained if isinstance(network, Reduced))


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_networks_that_read_the_columns_of_use_alone_are_those_that_switch_the_others_off(trained, monkeypatch):
    noise = np.random.default_rng(3).normal(size=(N, 40))
    columns, y = np.column_stack([noise, X[:, -1]]), X[:, -1] ** 2 + 0.2 * _NOISE[:, 0]

    def fit():
        return GNRegressor(**ONE | {"n_estimators": 3, "max_iter": 15}, standardize="robust").fit(columns, y)

    model = fit()
    assert {network.shapes[0][1] for network in trained if isinstance(network, Reduced)} == {2}
    full = in_full(fit, monkeypatch)
    # Gradients of weights that are not read shorten the first steps of the latter a little.
    (found, std), (expected, expected_std) = (m.predict(columns[:20], return_std=True) for m in (model, full))
    np.testing.assert_allclose(found, expected, atol=0.02)
    np.testing.assert_allclose(std, expected_std, rtol=0.01)
    assert model.log_evidence_ == pytest.approx(full.log_evidence_, rel=2e-3)


class Coefficients(Silent):
    """A callback that looks at the network after each iteration."""

    def on_fit_task_end(self, estimator, context, *, fitted_estimator=None):
        if context.task_name == "iteration" and fitted_estimator is not None:
            self.seen.add(tuple(W.shape for W in fitted_estimator.coefs_))
            assert np.isfinite(fitted_estimator.predict(NEW)).all()


def test_callbacks_see_the_network_that_reads_all_columns():
    pytest.importorskip("sklearn.callback", reason="sklearn.callback comes with scikit-learn 1.9")
    looks = Coefficients()
    GNRegressor(**ONE).set_callbacks(looks).fit(X, TARGET)
    assert looks.seen == {((41, 10), (51, 1))}


@pytest.mark.parametrize("estimator", [GNRegressor, GNClassifier])
def test_a_linear_network_reads_what_leading_directions_leave_out(estimator, monkeypatch, capsys):
    """A sum of all columns, which have nothing in common, is that of a linear model."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(2500, 100))
    y = rows @ rng.normal(size=100) + rng.normal(size=2500)
    y = y if estimator is GNRegressor else y > 0
    model = estimator(standardize="robust", random_state=0, n_estimators=2, verbose=1)
    affords(monkeypatch, 3e7, 3e7)
    model.fit(rows[:500], y[:500])
    assert "1 more candidate, linear in all inputs" in capsys.readouterr().out
    linear = Ridge(1.0) if estimator is GNRegressor else LogisticRegression()
    assert model.score(rows[500:], y[500:]) > linear.fit(rows[:500], y[:500]).score(rows[500:], y[500:]) - 0.02
    # A warm start goes on with it, and draws no other one.
    assert ("robust", ()) in {(member.scaling, member.network.hidden_layer_sizes) for member in model.estimators_}
    before = len(model.estimators_)
    model.set_params(warm_start=True, max_iter=5).fit(rows[:500], y[:500])
    assert "linear in all inputs" not in capsys.readouterr().out and len(model.estimators_) == before


def test_there_is_no_linear_network_where_it_would_take_too_long(monkeypatch, capsys):
    affords(monkeypatch, 1e6, 1e6)
    rows = np.random.default_rng(0).normal(size=(500, 320))
    GNRegressor(standardize="robust", random_state=0, n_estimators=2, max_iter=5, verbose=1).fit(rows, rows.sum(1))
    shown = capsys.readouterr().out
    assert "in the leading directions of the inputs" in shown and "linear in all inputs" not in shown
