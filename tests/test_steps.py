"""Steps: more networks read where trees cut, if that tells what the networks of a fit do not."""

import warnings

import numpy as np
import pytest
from not_left_open import NOT_LEFT_OPEN
from sklearn.exceptions import ConvergenceWarning

from skgn import GNClassifier, GNRegressor
from skgn.preprocessing import TwoPathScaler
from skgn.steps import STEPS, step_scaler, steps_of

N = 600

#: Small networks, of which a checkerboard is too much.
FEW = {"hidden_layer_sizes": (5,), "n_estimators": 2, "tol": 1e-2, "random_state": 0}


def checkerboard(X):
    return (np.floor(X[:, 0]) + np.floor(X[:, 1])) % 2


def data(function=checkerboard, n=N, d=3, noise=0.1, seed=0):
    random = np.random.RandomState(seed)
    X = random.uniform(-2, 2, (n, d))
    return X, function(X) + noise * random.standard_normal(n)


def steps_in(X, y, mixture=None, weight=None, labels=False):
    """Steps where a mixture predicts nothing, or what is given."""
    Y = y.reshape(len(X), -1)
    mixture = np.full_like(Y, Y.mean()) if mixture is None else mixture
    return steps_of(X, Y, np.ones(len(X)) if weight is None else weight, mixture, labels)


def read_steps(model):
    return [member for member in model.estimators_ if member.scaling == STEPS]


def test_a_checkerboard_is_found(capsys):
    X, y = data()
    new, clean = data(noise=0, n=2000, seed=1)
    model = GNRegressor(**FEW, verbose=1).fit(X, y)
    assert "trees tell more: 2 more candidates" in capsys.readouterr().out
    assert read_steps(model)
    assert model.score(new, clean) > 0.8
    # What there is without it.
    assert GNRegressor(**FEW, standardize="robust").fit(X, y).score(new, clean) < 0.5


@pytest.mark.parametrize("loss", ["student_t", "huber"])
def test_other_losses_with_a_noise_level_do_too(loss):
    assert read_steps(GNRegressor(**FEW, loss=loss).fit(*data()))


def test_so_do_several_targets():
    X, y = data()
    assert read_steps(GNRegressor(**FEW).fit(X, np.column_stack([y, checkerboard(X[:, 1:])])))


@pytest.mark.parametrize(
    "labels_of",
    [lambda both: both[:, 0], lambda both: both[:, 0] * (1 + both[:, 1]), lambda both: both],
    ids=["two classes", "three classes", "two labels"],
)
def test_a_checkerboard_of_labels_is_found(labels_of):
    def labels(X, y):
        return labels_of((np.column_stack([y, checkerboard(X[:, 1:])]) > 0.5).astype(int))

    X, y = data(n=1000)
    new, clean = data(noise=0, n=2000, seed=1)
    model = GNClassifier(**FEW).fit(X, labels(X, y))
    assert read_steps(model)
    without = GNClassifier(**FEW, standardize="robust").fit(X, labels(X, y))
    truth = labels(new, clean)
    assert model.score(new, truth) > without.score(new, truth) + 0.05


@pytest.mark.parametrize(
    "function",
    [lambda X: X[:, 0], lambda X: X[:, 0] * X[:, 1], lambda X: 0 * X[:, 0], lambda X: np.sin(3 * X[:, 0])],
    ids=["line", "product", "none", "wave"],
)
def test_nothing_is_drawn_where_the_networks_predict_better(function, capsys):
    GNRegressor(**FEW, verbose=1).fit(*data(function, noise=0.3))
    assert "trees tell more" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "given",
    [*NOT_LEFT_OPEN, {"loss": "gamma"}],
    ids=str,
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_nothing_is_drawn_where_the_choice_is_not_left_to_the_fit(given, capsys):
    X, y = data()
    GNRegressor(**FEW | given, max_iter=10, verbose=1).fit(X, np.round(np.abs(y)) + 1)
    assert "trees tell more" not in capsys.readouterr().out


def test_nothing_is_drawn_without_the_time(capsys):
    """A forest on 10,000 rows took three seconds of a fit that had two."""
    X, y = data()
    for max_time, drawn in ((1e6, True), (1.0, False)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            GNRegressor(**FEW, max_time=max_time, verbose=1).fit(X, y)
        assert ("trees tell more" in capsys.readouterr().out) == drawn


def test_steps_are_where_the_target_jumps():
    X, y = data(n=2000)
    found = steps_in(X, y)[:6]
    at = sorted((step.column, round(step.lower)) for step in found)
    assert at == [(column, value) for column in (0, 1) for value in (-1, 0, 1)]
    for step in found:
        # Between two neighbours, and a few rows off at most.
        column = np.sort(X[:, step.column])
        assert np.searchsorted(column, step.upper) - np.searchsorted(column, step.lower) == 1
        assert abs(step.lower - round(step.lower)) < 0.02


def test_columns_may_be_of_any_size():
    X, y = data()
    found, other = steps_in(X, y), steps_in(np.sign(X) * np.abs(X) ** 41 * 1e60, y)
    assert [step.gain for step in found] == [step.gain for step in other]


def test_a_forest_is_judged_by_rows_that_its_trees_have_not_learned_from():
    random = np.random.default_rng(0)
    X, y = random.normal(size=(1000, 4)), random.normal(size=1000)
    # It would remember most of this noise.
    assert not steps_in(X, y)
    # A mixture that is worse than a constant is no reason to follow it.
    assert not steps_in(X, y, np.full((1000, 1), 1.0))
    told = y + 0.3 * np.sign(X[:, 0])
    assert steps_in(X, told, np.full((1000, 1), 1.0))


def test_labels_without_noise_are_told_by_whole_trees():
    random = np.random.default_rng(0)
    X = random.uniform(0, 6, (1000, 2))
    y = checkerboard(X)
    # Ends of five rows are too large for fields of 28.
    mixture = (y + 0.25 * np.where(random.uniform(size=1000) > 0.5, 1, -1))[:, None]
    assert not steps_in(X, y, mixture)
    at = {(step.column, round(step.lower)) for step in steps_in(X, y, mixture, labels=True)}
    assert at >= {(column, value) for column in (0, 1) for value in range(1, 6)}
    # Where some labels are drawn by chance, the ends have to average them too.
    X = random.uniform(0, 5, (1000, 2))
    noisy = np.where(random.uniform(size=1000) < 0.3, random.integers(0, 2, 1000), checkerboard(X))
    assert steps_in(X, noisy, labels=True) == steps_in(X, noisy)


@pytest.mark.parametrize(
    "function",
    [lambda X: np.sign(X[:, 0] * X[:, 1] * X[:, 2]), lambda X: np.sign(X[:, 0] * X[:, 1]) + np.sign(X[:, 2] * X[:, 3])],
    ids=["of three", "sum of two"],
)
@pytest.mark.parametrize("targets", [1, 2])
def test_products_of_steps_are_found_that_a_forest_does_not_predict(function, targets):
    X, y = data(function, n=800, d=8, noise=0.3)
    # A mixture that misses a part of the products, and has less than a third of the squared error of a forest.
    missed = y - 0.5 * function(X)
    assert not steps_in(X, y, (y + 0.5 * np.random.default_rng(0).permutation(function(X)))[:, None])
    both = np.column_stack([y, X[:, 4] > 0])[:, :targets]
    mixture = np.column_stack([missed, np.full(len(X), 0.5)])[:, :targets]
    places = {step.column for step in steps_in(X, both, mixture)[:4] if abs(step.lower) < 0.1}
    assert places >= {0, 1, 2}


def test_what_is_only_louder_behind_a_step_does_not_count():
    random = np.random.default_rng(0)
    X = random.uniform(-2, 2, (1000, 3))
    # By chance, a forest predicts a little of the first three.
    for seed in (7, 8, 14, 0, 1):
        loud = np.where(X[:, :2].min(axis=1) > 1.2, 5.0, 0.1) * np.random.default_rng(seed).standard_normal(1000)
        assert not steps_in(X, loud, np.zeros((1000, 1)))


@pytest.mark.parametrize("estimator", [GNRegressor, GNClassifier])
def test_a_fit_tells_labels_from_numbers(estimator, monkeypatch):
    told = []
    monkeypatch.setattr("skgn.further.steps_of", lambda *given: told.append(given[-1]) or [])
    estimator(**FEW).fit(*data(noise=0))
    assert told == [estimator is GNClassifier]


def test_rows_that_the_mixture_does_not_predict_do_not_count():
    X, y = data()
    perfect = y[:, None] + 0.01
    assert not steps_in(X, y, perfect)
    worse = np.where(X[:, :1] > 0, perfect, 10.0)
    assert steps_in(X, y, worse)
    assert not steps_in(X, y, np.where(X[:, :1] > 0, perfect, np.nan))
    assert not steps_in(X, y, np.full_like(perfect, np.nan))
    # Nor do rows of next to no weight.
    assert not steps_in(X, y, worse, np.where(X[:, 0] > 0, 1.0, 1e-9))


def test_columns_of_steps():
    X, y = data()
    weight = np.random.default_rng(0).integers(1, 4, len(X)).astype(float)
    base = TwoPathScaler.fit(X, weight)
    columns = base.transform(X)
    steps = steps_in(columns[:, :3], y, weight=weight)
    made = step_scaler(base, steps, columns, weight).embed(columns)[:, 3 : 3 + len(steps)]
    # Two values each, of mean 0 and variance 1.
    assert all(len(np.unique(step)) == 2 for step in made.T)
    np.testing.assert_allclose(np.average(made, axis=0, weights=weight), 0, atol=1e-12)
    np.testing.assert_allclose(np.average(made**2, axis=0, weights=weight), 1)


@pytest.mark.parametrize(
    ("X", "y"),
    [(np.eye(2)[np.arange(1000) % 2], np.arange(1000) % 2), data(n=149), (np.zeros((1000, 2)), np.arange(1000))],
    ids=["indicators", "few rows", "constants"],
)
def test_there_are_no_steps(X, y):
    assert not steps_in(X, y.astype(float))


def test_nothing_is_drawn_where_no_sample_can_be_left_out(monkeypatch, capsys):
    # As for networks that interpolate.
    monkeypatch.setattr("skgn.search.leave_one_out", lambda *at: None)
    X, y = data()
    GNRegressor(**FEW, noise="constant", verbose=1).fit(X, y)
    assert "trees tell more" not in capsys.readouterr().out


def test_a_fit_cut_short_draws_nothing_more(capsys):
    with pytest.warns(ConvergenceWarning):
        GNRegressor(**FEW, verbose=1, max_time=1e-3).fit(*data())
    assert "trees tell more" not in capsys.readouterr().out
