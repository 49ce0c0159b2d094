"""A forest beside the networks of labels: its shares, which rows are told without their own labels, and where it is."""

import contextlib
import copy
import io
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from everywhere import assert_the_same_everywhere
from not_left_open import NOT_LEFT_OPEN
from sklearn.ensemble import ExtraTreesRegressor
from sklearn.metrics import log_loss

from skgn import GNClassifier, GNRegressor, diagnose, forest, search
from skgn.feedforward import FeedForward
from skgn.forest import FOREST, grow, log_shares, seconds_to_grow, tried
from skgn.further import plant
from skgn.ground import Ground
from skgn.integrity import flaws
from skgn.preprocessing import InputScaler

N, D = 500, 3

#: Two networks, which are too few for rules.
FEW = {"n_estimators": 2, "random_state": 0}


def rules(n=N, k=2, seed=0, d=4, depth=5):
    """Labels of the ends of a tree, drawn at random, of which a tenth are others in a fit (seed 0)."""
    tree = np.random.RandomState(3)
    column, at = tree.randint(d, size=2**depth - 1), tree.uniform(-0.8, 0.8, 2**depth - 1)
    of = tree.randint(k, size=2**depth)
    random = np.random.RandomState(seed)
    X, node = random.uniform(-1, 1, (n, d)), np.zeros(n, dtype=int)
    for _ in range(depth):
        node = 2 * node + 1 + (X[np.arange(n), column[node]] > at[node])
    labels = of[node - 2**depth + 1]
    return X, np.where(random.uniform(size=n) < 0.1 * (seed == 0), random.randint(k, size=n), labels)


def indicators(labels):
    Y = np.eye(labels.max() + 1)[labels]
    return Y[:, 1:] if Y.shape[1] == 2 else Y


def ground(X):
    return Ground(InputScaler.fit(X, np.ones(len(X))), FeedForward(X.shape[1], 1, (5,)), 1)


def grown(X, Y, weight=None, seed=0):
    on = ground(X)
    return grow(on, on.base.transform(X), Y, np.ones(len(X)) if weight is None else weight, seed)


@pytest.fixture(scope="module", autouse=True)
def nothing_else_is_drawn():
    """Other networks, which are drawn for what the first ones lack, would find much of it, too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search, "FURTHER", [plant])
        yield


@pytest.fixture(scope="module")
def fitted(nothing_else_is_drawn):
    """A fit, and the lines that it has printed."""
    lines = io.StringIO()
    with contextlib.redirect_stdout(lines):
        model = GNClassifier(**FEW, verbose=1).fit(*rules())
    return model.set_params(verbose=0), lines.getvalue()


@pytest.fixture(scope="module")
def model(fitted):
    return fitted[0]


def reading(model):
    return [member.scaling == FOREST for member in model.estimators_]


@pytest.mark.parametrize("k", [2, 4])
def test_later_rows_have_the_shares_of_trees_of_scikit_learn(k):
    X, labels = rules(k=k, d=D)
    new, Y = rules(200, k=k, d=D, seed=1)[0], indicators(labels)
    weight = np.random.RandomState(2).uniform(0.5, 2, N)
    found, on = grown(X, Y, weight).scaler, ground(X).base
    trees = ExtraTreesRegressor(40, max_features=0.5, random_state=0)
    trees.fit(on.transform(X), Y if k > 2 else Y[:, 0], weight)
    shares = trees.predict(on.transform(new)).reshape(200, -1)
    np.testing.assert_array_equal(found.transform(new), log_shares(shares, 40))


@pytest.mark.parametrize(("n_rows", "n_columns", "half"), [(400, 3, 1), (1000, 10, 5), (5000, 60, 30)])
def test_trees_try_half_of_the_columns(n_rows, n_columns, half):
    assert tried(n_rows, n_columns) == half


@pytest.mark.parametrize(("n_rows", "n_columns"), [(2000, 2000), (10_000, 500), (10_000, 10**6)])
def test_of_many_columns_trees_try_as_many_as_there_is_time_for(n_rows, n_columns):
    assert 10 < tried(n_rows, n_columns) < n_columns / 2
    assert seconds_to_grow(n_rows, n_columns) < 11


def test_logarithms_of_shares_are_those_of_votes():
    # Three of four trees, with half a vote more for either side.
    np.testing.assert_allclose(log_shares(np.array([[0.75]]), 4), [[np.log(3.5 / 1.5)]])
    logs = log_shares(np.array([[0.5, 0.25, 0.25]]), 4)
    np.testing.assert_allclose(logs[0, 0] - logs[0, 1], np.log(2.5 / 1.5))
    np.testing.assert_allclose(logs.sum(), 0, atol=1e-12)


def test_rows_of_the_fit_are_told_without_their_own_labels():
    random = np.random.RandomState(0)
    X, Y = random.standard_normal((N, D)), random.randint(2, size=(N, 1)).astype(float)
    found = grown(X, Y)
    own, later = found.columns[:, 0], found.scaler.transform(X)[:, 0]
    # Of noise, trees know their rows by heart, and nothing else.
    assert ((later > 0) == Y[:, 0]).all()
    assert abs(np.corrcoef(own, Y[:, 0])[0, 1]) < 3 / np.sqrt(N)


def test_rows_beyond_the_most_are_later_ones(monkeypatch):
    monkeypatch.setattr(forest, "MOST_ROWS", 300)
    X, labels = rules()
    found = grown(X, indicators(labels))
    assert found.columns.shape == (N, 1)
    np.testing.assert_array_equal(found.columns[300:], found.scaler.transform(X[300:]))
    assert not np.array_equal(found.columns[:300], found.scaler.transform(X[:300]))


def test_rules_are_told_better(fitted, monkeypatch):
    model, lines = fitted
    new, truth = rules(4000, seed=1)
    assert "1 more candidate, of a forest of 40 trees" in lines
    monkeypatch.setattr(search, "FURTHER", [])
    without = GNClassifier(**FEW).fit(*rules())
    assert not any(reading(without))
    ours, theirs = (log_loss(truth, each.predict_proba(new)) for each in (model, without))
    assert ours < 0.9 * theirs


def test_it_is_the_last_member_whatever_it_counts(model):
    assert reading(model)[-1] and not any(reading(model)[:-1])
    assert model.weights_[-1] > 0.2
    # What the best network has learned can be looked at.
    assert model.coefs_[0].shape[0] >= 2


def test_noise_does_not_count():
    random = np.random.RandomState(0)
    model = GNClassifier(**FEW).fit(random.standard_normal((N, D)), random.randint(2, size=N))
    assert any(reading(model))
    assert model.left_out_score_ < 0.02


def test_there_is_none_where_networks_tell_nearly_all():
    """An unusual row of banknotes that a forest takes for the other kind had a probability of 1e-7."""
    X, _ = rules()
    assert not any(reading(GNClassifier(**FEW).fit(X, X[:, 0] > 0)))


def test_there_is_none_where_time_is_short():
    X, labels = rules()
    assert any(reading(GNClassifier(**FEW, max_time=60).fit(X, labels)))
    assert not any(reading(GNClassifier(**FEW, max_time=2).fit(X, labels)))


def test_rows_are_told_in_blocks(monkeypatch):
    X, labels = rules()
    found = grown(X, indicators(labels)).scaler
    whole = found.transform(X)
    monkeypatch.setattr(forest, "_BLOCK", 70)
    np.testing.assert_array_equal(found.transform(X), whole)


def test_shares_are_believed_within_limits(model):
    # The evidence would let go where shares part the classes.
    assert model.estimators_[-1].prior_kind.unit
    assert 0.3 < model.estimators_[-1].weights[0] < 3


@pytest.mark.parametrize("parameters", [given for given in NOT_LEFT_OPEN if "loss" not in given], ids=str)
def test_there_is_none_where_networks_are_given(parameters):
    given = {"hidden_layer_sizes": "auto"} | FEW | parameters
    assert not any(reading(GNClassifier(**given).fit(*rules())))


@pytest.mark.parametrize(
    "given", [{"hidden_layer_sizes": (5,)}, {"activation": "relu"}, {"linear_path": False}], ids=str
)
def test_there_is_none_beside_units_that_are_given(given):
    assert not any(reading(GNClassifier(**FEW | given).fit(*rules())))


def test_there_is_none_of_few_rows_of_numbers_and_of_several_labels():
    X, labels = rules()
    assert not any(reading(GNClassifier(**FEW).fit(X[:300], labels[:300])))
    assert not any(reading(GNRegressor(**FEW).fit(X, labels)))
    assert not any(reading(GNClassifier(**FEW).fit(X, np.column_stack([labels, X[:, 0] > 0]))))


@pytest.mark.parametrize("k, depth", [(2, 5), (3, 3)])
def test_torch_onnx_and_files_have_the_same_trees(k, depth, tmp_path, one_registry, monkeypatch):
    # Each level of the longest branch has nodes of its own in ONNX: here are a third as many or fewer.
    monkeypatch.setattr("sklearn.ensemble.ExtraTreesRegressor", partial(ExtraTreesRegressor, max_depth=depth))
    model = GNClassifier(**FEW).fit(*rules(k=k, depth=depth))
    assert reading(model)[-1] and model.weights_[-1] > 0.1 and model._table.scalings[FOREST].depth == depth
    # Networks beside it are for test_export.py.
    model.weights_ = np.array(reading(model), dtype=float)
    assert_the_same_everywhere(model, rules(100, k=k, seed=1)[0], tmp_path / "model.onnx")


@pytest.mark.parametrize(
    "damage",
    [
        lambda trees: replace(trees, left=trees.left[:-1]),
        lambda trees: replace(trees, feature=trees.feature[:-1]),
        lambda trees: replace(trees, right=np.zeros_like(trees.right)),  # around in circles
        lambda trees: replace(trees, left=trees.left + len(trees.left)),
        lambda trees: replace(trees, threshold=np.full_like(trees.threshold, np.nan)),
    ],
)
def test_a_damaged_forest_is_found(model, damage):
    state = dict(vars(model))
    assert flaws(state, GNClassifier, ()) == []
    table = state["_table"]
    state["_table"] = table.with_more({FOREST: damage(table.scalings[FOREST])})
    assert any("Forest" in flaw or FOREST in flaw or "_table" in flaw for flaw in flaws(state, GNClassifier, ()))


@pytest.mark.usefixtures("without_boosting")
def test_a_diagnosis_knows_rows_of_the_fit(model):
    # Fresh rows that are better than too low a promise are no known ones.
    X, y = rules(2000, seed=1)
    right = model.predict(X) == y
    timid = copy.copy(model)
    timid.left_out_score_ = 0.1
    for fit in (model, timid):
        known = diagnose(fit, *rules(), verbose=False)["calibration"]
        assert known.verdict == "known rows"
        assert "kept from the fit" in known.advice
        assert diagnose(fit, X[right], y[right], verbose=False)["calibration"].verdict == "underconfident"


def test_a_stream_goes_on_with_it(model):
    new, truth = rules(4000, seed=1)
    streamed = copy.deepcopy(model).partial_fit(*rules(seed=2))
    np.testing.assert_allclose(streamed.weights_, model.weights_)
    assert log_loss(truth, streamed.predict_proba(new)) < 1.1 * log_loss(truth, model.predict_proba(new))


def test_trees_are_those_of_random_state(model):
    X, labels = rules()
    same, other = (GNClassifier(**FEW | {"random_state": seed}).fit(X, labels) for seed in (0, 1))
    thresholds = [each._table.scalings[FOREST].threshold for each in (model, same, other)]
    np.testing.assert_array_equal(thresholds[0], thresholds[1])
    assert not np.array_equal(thresholds[0], thresholds[2])
