"""Columns of use: against F tests by least squares on repeated rows, and members that read these columns alone."""

import math
import re

import numpy as np
import pytest
import torch
from scipy.special import expit, softmax
from scipy.stats import chi2, f
from sklearn.exceptions import ConvergenceWarning

from skgn import GNClassifier, GNRegressor, directions, further, problem
from skgn.evidence import make_prior
from skgn.feedforward import FeedForward
from skgn.label_losses import LogLoss, SoftmaxLoss
from skgn.leave_one_out import LeftOut, allowance
from skgn.losses import SquaredError
from skgn.objective import Objective
from skgn.prior_groups import PriorKind
from skgn.reduced import Reduced, principal_directions
from skgn.screening import column_tests, significance, significance_in_products, useful_columns
from skgn.state import State

FEATURE, LAYER = PriorKind("feature"), PriorKind("layer")

N = 40


def tensor(values):
    return torch.tensor(np.asarray(values, dtype=float))


def objective(loss, X, Y, weight):
    network = FeedForward(X.shape[1], loss.columns(Y.shape[1]) + isinstance(loss, SoftmaxLoss), (3,))
    return Objective(network, loss, tensor(X), tensor(Y), tensor(weight))


def p_value(z, r, degree):
    """F test of a polynomial in z against a constant."""
    n, A = len(z), np.vander(z, degree + 1)
    left = ((r - A @ np.linalg.lstsq(A, r, rcond=None)[0]) ** 2).sum()
    explained = ((r - r.mean()) ** 2).sum() - left
    return f.sf(explained / degree / (left / (n - 1 - degree)), degree, n - 1 - degree)


@pytest.fixture
def case():
    """Columns: one with a parabola in it, one of noise, an indicator, a constant. Targets, outputs, integer weights."""
    rng = np.random.default_rng(0)
    X = np.stack([rng.normal(size=N), rng.normal(size=N), rng.integers(0, 2, N), np.ones(N)], 1)
    f = X[:, :1] ** 2 - 1 + 0.5 * X[:, 2:3] + 0.5 * rng.normal(size=(N, 1))
    return X, f, 0.5 * rng.normal(size=(N, 1)), rng.integers(1, 4, N)


def expected(X, R, weight):
    X, R = (np.repeat(values, weight, axis=0) for values in (X, R))
    tests = np.array([[p_value(X[:, j], r, 1 if j == 2 else 3) for r in R.T] for j in range(3)])
    # A constant tells nothing.
    return np.append(tests.min(1), 1.0) * 4 * R.shape[1]


def test_columns_of_any_size_and_of_many_rows(case, monkeypatch):
    monkeypatch.setenv("SKGN_MEMORY_BUDGET_MB", "0.001")
    X, y, _, weight = case
    tests = column_tests(1e6 * (X + 5), np.hstack([y, y[::-1]]), weight.astype(float))
    np.testing.assert_allclose(tests.p, expected(X, np.hstack([y, y[::-1]]), weight), rtol=1e-6)
    z, r = (np.repeat(values, weight) for values in (X[:, 0], y[:, 0]))
    left = r - np.polyval(np.polyfit(z, r, 3), z)
    assert tests.share[0] == pytest.approx(1 - left.var() / r.var())
    assert tests.share[3] == 0


def test_of_targets_and_of_what_is_left_over(case):
    X, y, outputs, weight = case
    data = objective(SquaredError(), X, y, weight)
    np.testing.assert_allclose(significance(data, 4), expected(X, y, weight), rtol=1e-6)
    left_out = LeftOut(tensor(outputs), torch.empty(0))
    np.testing.assert_allclose(significance(data, 4, left_out), expected(X, y - outputs, weight), rtol=1e-6)
    # Two columns are two tests fewer.
    np.testing.assert_allclose(significance(data, 2), expected(X, y, weight)[:2] / 2, rtol=1e-6)


def test_of_two_classes(case):
    X, z, outputs, weight = case
    y = (z > 0).astype(float)
    data = objective(LogLoss(), X, y, weight)
    left_out = LeftOut(tensor(outputs), torch.empty(0))
    np.testing.assert_allclose(significance(data, 4, left_out), expected(X, y - expit(outputs), weight), rtol=1e-6)


def test_of_more_classes(case):
    X, z, outputs, weight = case
    y, outputs = np.eye(3)[np.digitize(z[:, 0], [-0.5, 0.5])], np.hstack([outputs, -outputs, 0 * outputs])
    data = objective(SoftmaxLoss(), X, y, weight)
    residuals = y - softmax(outputs, axis=1)
    left_out = LeftOut(tensor(outputs), torch.empty(0))
    np.testing.assert_allclose(significance(data, 4, left_out), expected(X, residuals, weight), rtol=1e-6)


def test_samples_without_an_output_do_not_count(case):
    X, y, outputs, weight = case
    known = np.arange(N) != 7
    outputs[~known] = np.nan
    found = significance(objective(SquaredError(), X, y, weight), 4, LeftOut(tensor(outputs), torch.empty(0)))
    np.testing.assert_allclose(found, expected(X[known], (y - outputs)[known], weight[known]), rtol=1e-6)


def test_without_any_output_nothing_is_found(case):
    X, y, outputs, weight = case
    unknown = LeftOut(tensor(np.full_like(outputs, np.nan)), torch.empty(0))
    assert (significance(objective(SquaredError(), X, y, weight), 4, unknown) >= 1).all()
    # The only sample of a fit is predicted by none.
    model = GNRegressor(n_estimators=3, max_iter=3, dtype="float32", random_state=0)
    with pytest.warns(ConvergenceWarning), pytest.warns(UserWarning, match="dtype='float32' has too few digits"):
        model.fit([[1.0, 2.0, 4.0, 8.0]], [55.0], [1e6])
    np.testing.assert_allclose(model.predict([[1.0, 2.0, 4.0, 8.0]]), 55.0, rtol=1e-6)


@pytest.mark.parametrize(
    ("X", "y"),
    [
        ([[1e-150]] * 7, [1.0, 1.8, 1.2, 0.6, 1.5, 2.4, 2.1]),
        ([[1.25730221e-01, 9.99999999e07], [1.25730221e-01, 1.00000001e08]], [2.14112, 2.14112001]),
    ],
    ids=["tiny", "large"],
)
@pytest.mark.filterwarnings("ignore:standardize=False takes X as it is:UserWarning")
@pytest.mark.filterwarnings("ignore:No column of X tells rows apart:UserWarning")
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_raw_inputs_of_any_size(X, y):
    model = GNRegressor(activation="gelu", max_iter=3, random_state=0, standardize=False).fit(X, y)
    assert np.isfinite(model.predict(X)).all()


def test_what_is_left_over_without_noise_or_without_variation():
    """Two points on a curve in a column, of many repetitions, and residuals that are the same everywhere."""
    y = np.zeros((2, 1))
    data = objective(LogLoss(), np.array([[0.0], [1.0]]), y, np.full(2, 1e6))
    for outputs in np.random.default_rng(0).normal(size=(50, 2, 1)):
        assert significance(data, 1, LeftOut(tensor(outputs), torch.empty(0))) == 0
    assert significance(data, 1, LeftOut(tensor([[0.3], [0.3]]), torch.empty(0))) == 1


def test_nothing_is_found_in_noise():
    rng = np.random.default_rng(0)
    least = []
    for _ in range(50):
        X, y = rng.normal(size=(100, 30)), rng.normal(size=(100, 1))
        least.append(significance(objective(SquaredError(), X, y, np.ones(100)), 30).min())
    # Less than one in a thousand is expected, and 5 % below 0.05.
    assert min(least) > 1e-3
    assert np.mean(np.array(least) < 0.05) < 0.15


def p_of_product(p, r):
    """White's test of the slope of residuals along a product, which must have the mean 0."""
    p = p - p.mean()
    return chi2.sf((p @ r) ** 2 / (p**2 @ r**2), 1)


@pytest.mark.parametrize("loss", [SquaredError(), LogLoss(), SoftmaxLoss()], ids=["numbers", "two classes", "classes"])
def test_products_of_what_is_left_over(case, loss):
    X, z, outputs, weight = case
    Y, p = {
        SquaredError: (z, lambda f: f),
        LogLoss: ((z > 0).astype(float), expit),
        SoftmaxLoss: (np.eye(3)[np.digitize(z[:, 0], [-0.5, 0.5])], lambda f: softmax(f, axis=1)),
    }[type(loss)]
    outputs = np.hstack([outputs, -outputs, 0 * outputs])[:, : Y.shape[1]]
    outputs[7] = np.nan
    known = np.repeat(np.arange(N) != 7, weight)
    Z, R = (np.repeat(values, weight, axis=0)[known] for values in (X, Y - p(outputs)))
    found = significance_in_products(objective(loss, X, Y, weight), 4, LeftOut(tensor(outputs), torch.empty(0)))
    pairs = [[min(p_of_product(Z[:, i] * Z[:, j], r) for r in R.T) for j in range(4) if j != i] for i in range(4)]
    np.testing.assert_allclose(found, 6 * Y.shape[1] * np.min(pairs, axis=1), rtol=1e-6)


def test_products_tell_of_a_relation_and_not_of_noise_that_depends_on_them():
    rng = np.random.default_rng(0)
    least = []
    for _ in range(30):
        X, e = rng.uniform(-2, 2, (400, 20)), rng.normal(size=(400, 1))
        nothing = LeftOut(torch.zeros(400, 1).double(), torch.empty(0))
        data = objective(SquaredError(), X, e * np.exp(X[:, :1] * X[:, 1:2] / 2), np.ones(400))
        least.append(significance_in_products(data, 20, nothing).min())
        data = objective(SquaredError(), X, X[:, 3:4] * X[:, 8:9] + e, np.ones(400))
        assert np.flatnonzero(significance_in_products(data, 20, nothing) < 1e-3).tolist() == [3, 8]
    assert min(least) > 1e-3


@pytest.mark.parametrize("columns", [0, 1, 301])
def test_of_no_pair_and_of_very_many_no_product_is_tested(columns):
    X = np.random.default_rng(0).normal(size=(5, columns))
    data = objective(SquaredError(), X, np.ones((5, 1)), np.ones(5))
    found = significance_in_products(data, columns, LeftOut(torch.zeros(5, 1).double(), torch.empty(0)))
    assert found.shape == (columns,) and not (found < 1e-3).any()


@pytest.mark.parametrize(("kind", "use"), [(FEATURE, [0, 1]), (LAYER, [0]), (PriorKind.fixed(1e-3), [0])])
def test_columns_in_use_are_of_use(case, kind, use):
    X, *_, weight = case
    data, X = objective(SquaredError(), X[:, :2], X[:, :1] ** 2, weight), X[:, :2]
    w = tensor(data.network.initial_weights(np.random.RandomState(0)))
    prior = make_prior(kind, data.network, data.data_loss, 1.0, w)
    estimates = prior.initial(data.total_weight)
    if kind == FEATURE:
        arrays = prior.arrays(estimates)
        # The groups of the two columns come first.
        arrays["gamma"][:2] = [0.4, 0.6]
        estimates = prior.from_arrays(arrays, data.total_weight)
    state = State.at_weights(w, data, prior, estimates)
    assert useful_columns(state, LeftOut(tensor(X[:, :1] ** 2), torch.empty(0))).tolist() == [True, 1 in use]


@pytest.mark.parametrize("kind", [FEATURE, LAYER, PriorKind("layer", unit=True)], ids=str)
def test_other_columns_are_switched_off(kind):
    network, like = FeedForward(3, 1, (4,)), torch.zeros(0, dtype=torch.float64)
    prior = make_prior(kind, network, SquaredError(), 1.0, like, np.array([False, True, False]))
    narrowed = prior.initial(10.0).precision
    all_columns = make_prior(kind, network, SquaredError(), 1.0, like).initial(10.0).precision
    assert narrowed[0][[0, 2]].min() > 1e8
    assert narrowed[0][[1, 3]].tolist() == all_columns[0][[1, 3]].tolist()
    assert narrowed[1].tolist() == all_columns[1].tolist()
    # Those of column, biases, readout, linear path and its bias.
    assert prior.n_precisions == (0 if kind.unit else 5)
    # One of three columns; without a choice of columns there is nothing to allow for.
    assert prior.log_choices == pytest.approx(math.log(math.comb(3, 1)))
    assert make_prior(kind, network, SquaredError(), 1.0, like).log_choices == 0


@pytest.mark.parametrize("kind", [FEATURE, LAYER], ids=str)
def test_a_network_that_reads_these_columns_alone_has_the_same_precisions(kind):
    network, use, like = FeedForward(4, 1, (4,)), np.array([False, True, False, True]), torch.zeros(0).double()
    rows = np.random.default_rng(0).normal(size=(20, 4))
    smaller = Reduced.of(network, lambda columns: principal_directions(rows[:, columns], np.ones(20)), False, use)
    alone, among = (make_prior(kind, net, SquaredError(), 1.0, like, use) for net in (smaller, network))
    assert alone.log_choices == among.log_choices == pytest.approx(math.log(math.comb(4, 2)))
    assert alone.n_precisions == among.n_precisions
    narrowed, others = alone.initial(10.0).precision, among.initial(10.0).precision
    assert narrowed[0].tolist() == others[0][[1, 3, 4]].tolist() and narrowed[1].tolist() == others[1].tolist()


def test_a_choice_of_columns_counts_in_the_allowance(case):
    X, y, _, weight = case
    data = objective(SquaredError(), X, y, weight)
    w = tensor(data.network.initial_weights(np.random.RandomState(0)))
    priors = [make_prior(LAYER, data.network, data.data_loss, 1.0, w, use) for use in (np.arange(4) < 2, None)]
    chosen, free = (allowance(State.at_weights(w, data, prior, prior.initial(data.total_weight))) for prior in priors)
    assert chosen - free == pytest.approx(math.log(math.comb(4, 2)) / weight.sum())


# --- In a fit


def columns_read(member):
    """Columns of the first layer with weights that are not 0."""
    return np.flatnonzero(np.abs(member.network.arrays(member.weights)[0][0]).max(1) > 1e-3).tolist()


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("estimator", [GNRegressor, GNClassifier])
def test_more_members_read_the_columns_of_use_alone(estimator, capsys):
    rng = np.random.default_rng(1)
    X = rng.normal(size=(200, 12))
    z = X[:, 3] ** 2 - 1 + X[:, 5]
    model = estimator((6,), standardize="robust", random_state=0, max_iter=20, verbose=1)
    model.fit(X, z if estimator is GNRegressor else z > 0)
    shown = capsys.readouterr().out
    assert "2 columns of robust inputs are of use" in shown
    assert re.search(", 2 columns .* kept", shown)
    assert [3, 5] in [columns_read(member) for member in model.estimators_]
    if estimator is GNRegressor:
        # No other member of this prior could leave columns out.
        assert [3, 5] in [columns_read(member) for member in model.estimators_ if member.prior_kind == LAYER]


@pytest.mark.parametrize("seed", [0, 3])
def test_a_product_among_columns_of_noise_is_found(seed):
    """Neither factor tells anything by itself; a fit that switches them off keeps what is linear, or nothing."""
    X = np.random.default_rng([seed, 30, 300]).normal(size=(2300, 30))
    labels = X[:, 0] + 2 * X[:, 1] * X[:, 2] > 0
    model = GNClassifier(random_state=seed).fit(X[:300], labels[:300])
    assert model.score(X[300:], labels[300:]) > 0.93


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_after_a_search_too_more_members_read_the_columns_of_use_alone(capsys):
    X = np.random.default_rng(1).normal(size=(2010, 12))
    settings = {"standardize": "robust", "random_state": 0, "max_iter": 17, "n_estimators": 2, "verbose": 1}
    model = GNRegressor((4,), **settings).fit(X, X[:, 3] ** 2 + X[:, 5])
    shown = capsys.readouterr().out
    assert "go on" in shown and "2 columns of robust inputs are of use" in shown
    assert [3, 5] in [columns_read(member) for member in model.estimators_]


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_memory_that_a_fit_takes_itself_does_not_count_against_more_members(monkeypatch):
    X, narrowed, made = np.random.default_rng(1).normal(size=(200, 40)), further.narrowed_starts, []

    def drawn(*given):
        monkeypatch.setattr(directions, "available_memory", lambda device: 0.0)
        made.extend(narrowed(*given))
        return made

    monkeypatch.setattr(further, "narrowed_starts", drawn)
    model = GNRegressor((10,), standardize="robust", random_state=0, max_iter=20, n_estimators=3, noise="constant")
    model.fit(X, X[:, 3] ** 2 - 1 + X[:, 5])
    assert directions.available_memory(None) == 0 and made
    assert model.left_out_score_ > 0.3


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("slow", [False, True])
def test_there_are_no_more_members_where_they_would_take_too_long(slow, monkeypatch, capsys):
    X, narrowed = np.random.default_rng(1).normal(size=(200, 12)), further.narrowed_starts

    def drawn(*given):
        # Those before were affordable.
        monkeypatch.setattr(problem, "affordable", lambda *given: not slow)
        return narrowed(*given)

    monkeypatch.setattr(further, "narrowed_starts", drawn)
    model = GNRegressor(standardize="robust", prior_groups="layer", random_state=0, max_iter=20, verbose=1)
    model.fit(X, X[:, 3] ** 2 - 1 + X[:, 5])
    assert ("2 columns of robust inputs are of use" in capsys.readouterr().out) == (not slow)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_all_members_read_all_columns_where_most_are_of_use(capsys):
    X = np.random.default_rng(1).normal(size=(100, 3))
    GNRegressor((6,), standardize="robust", random_state=0, max_iter=5, verbose=1).fit(X, X.sum(1))
    assert "of use" not in capsys.readouterr().out


@pytest.mark.parametrize("size", [1e-140, 1e140, 1e200])
def test_values_of_any_size_are_tested(size):
    """Those whose squares are no floats tell nothing; of others the size does not count."""
    Z = np.random.RandomState(0).standard_normal((50, 2))
    plain, found = (column_tests(Z, unit * (Z[:, :1] + 1), np.ones(50)) for unit in (1.0, size))
    np.testing.assert_allclose(found.p, plain.p if size < 1e150 else np.ones(2) * plain.p.size, rtol=1e-6)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_fit_whose_left_out_gradients_are_near_the_end_of_the_floats():
    X = np.where(np.arange(8)[:, None] == 4, [1.0, np.nan], [1.0, 2.0])
    model = GNRegressor(alpha=30.0, init="centered", loss="gamma", max_iter=3, random_state=0)
    y = np.full(8, 40.44730436)
    assert np.isfinite(model.fit(X, y).predict(X)).all()


def test_fewer_rows_than_columns_have_a_candidate_without_a_linear_path_of_all_columns(capsys):
    """Such a path fits any labels: with it 0.3 of the labels were wrong in the mean of six draws, at chance in four."""
    rng = np.random.RandomState(1000)
    X = rng.standard_normal((1060, 500))
    y = X[:, 0] + 0.2 * rng.standard_normal(1060) > 0
    model = GNClassifier(random_state=0, verbose=1).fit(X[:60], y[:60])
    shown = capsys.readouterr().out
    assert "1 column of robust inputs is of use: 2 more candidates for it" in shown
    assert "1 column alone" in shown
    assert model.score(X[60:], y[60:]) > 0.9
    # With more rows than columns no path of all columns fits any labels.
    GNClassifier(random_state=0, verbose=1).fit(X[:60, :50], y[:60])
    assert " alone " not in capsys.readouterr().out
