"""How many members a fit trains where their number is left to it: more of them as long as they are worth their time."""

import numpy as np
import pytest
from sklearn.datasets import load_diabetes, make_friedman1

from skgn import GNClassifier, GNRegressor, search
from skgn.further import surround
from skgn.plan import Plan
from skgn.search import Search

#: One network on inputs as they are, so that there are two kinds, and members are trained in less than a second.
PLAIN = {"hidden_layer_sizes": (5,), "standardize": "robust", "tol": 1e-2, "random_state": 0}


def line():
    """Noise around a line, of which all members are sure alike."""
    random = np.random.RandomState(0)
    X = random.standard_normal((300, 2))
    return X, X.sum(axis=1) + 0.3 * random.standard_normal(300)


def bent():
    """Little noise around Friedman's function, on which small networks differ."""
    return make_friedman1(n_samples=120, n_features=5, noise=0.1, random_state=0)


def trained(capsys):
    """Numbers of the candidates that have a line, each in three columns."""
    rows = capsys.readouterr().out.splitlines()
    return sorted(int(row[:3]) for row in rows if row[:3].strip().isdigit() and row[3:5] == "  ")


def test_two_members_that_agree_are_enough(capsys):
    X, y = line()
    model = GNRegressor(**PLAIN, verbose=1).fit(X, y)
    output = capsys.readouterr().out
    assert len(model.estimators_) == 2 and model.status_ == "evidence"
    assert "6 candidates for 6 networks" in output
    assert "2 of 6 networks are enough: all would lower the left-out loss by 0." in output


def test_members_that_differ_are_followed_by_all_others(capsys):
    X, y = bent()
    model = GNRegressor(**PLAIN, verbose=1).fit(X, y)
    assert len(model.estimators_) == 6
    assert trained(capsys) == [1, 2, 3, 4, 5, 6]


def test_more_members_gain_as_little_as_was_promised():
    X, y = line()
    few, all_of_them = (GNRegressor(**PLAIN, n_estimators=n).fit(X, y) for n in ("auto", 6))
    assert len(few.estimators_) == 2 and len(all_of_them.estimators_) == 6
    loss, least = 1 - few.left_out_score_, 1 - all_of_them.left_out_score_
    assert loss - least < 0.02 * loss
    # The first two are the same networks.
    of_all = [member.weights.tolist() for member in all_of_them.estimators_]
    assert all(member.weights.tolist() in of_all for member in few.estimators_)


@pytest.mark.parametrize("n_estimators", [3, 6])
def test_as_many_are_trained_as_are_asked_for(n_estimators):
    assert len(GNRegressor(**PLAIN, n_estimators=n_estimators).fit(*line()).estimators_) == n_estimators


def test_of_classes_all_are_trained():
    X, y = line()
    assert len(GNClassifier(**PLAIN).fit(X, y > 0).estimators_) == 4


@pytest.mark.parametrize("data", [line, bent])
def test_their_number_does_not_depend_on_how_many_train_at_a_time(data):
    X, y = data()
    one, two = (GNRegressor(**PLAIN, n_jobs=n_jobs).fit(X, y) for n_jobs in (1, 2))
    assert len(one.estimators_) == len(two.estimators_)
    np.testing.assert_array_equal(one.predict(X), two.predict(X))


def test_of_many_rows_all_are_trained():
    random = np.random.RandomState(0)
    X = random.standard_normal((2001, 2))
    y = X.sum(axis=1) + 0.3 * random.standard_normal(2001)
    assert len(GNRegressor(**PLAIN, max_iter=30).fit(X[:2000], y[:2000]).estimators_) == 2
    assert len(GNRegressor(**PLAIN, max_iter=30).fit(X, y).estimators_) == 4


def test_a_float_penalty_leaves_nothing_to_compare():
    assert len(GNRegressor(**PLAIN, l2_regularization=1e-2).fit(*line()).estimators_) == 4


def test_a_warm_start_keeps_its_members_and_adds_some_where_these_differ():
    X, y = line()
    model = GNRegressor(**PLAIN, warm_start=True).fit(X, y)
    assert len(model.fit(X, y).estimators_) == 2
    # None that there are is dropped because the others agree with it.
    model = GNRegressor(**PLAIN, warm_start=True, n_estimators=5).fit(X, y)
    assert len(model.set_params(n_estimators="auto").fit(X, y).estimators_) == 5
    X, y = bent()
    model = GNRegressor(**PLAIN, warm_start=True, n_estimators=2).fit(X, y)
    before = [(member.scaling, member.prior_kind) for member in model.estimators_]
    after = [(m.scaling, m.prior_kind) for m in model.set_params(n_estimators="auto").fit(X, y).estimators_]
    assert len(after) == 6 and all(after.count(kind) >= before.count(kind) for kind in before)


def test_with_little_time_there_are_as_many_as_there_is_time_for():
    X, y = load_diabetes(return_X_y=True)
    with pytest.warns(match="max_time"):
        model = GNRegressor(max_time=0.05, random_state=0).fit(np.tile(X, (4, 6)) + 1e-3 * np.arange(60), np.tile(y, 4))
    assert 1 <= len(model.estimators_) <= 6 and model.status_ == "max_time"


@pytest.mark.parametrize("seed", [0, 1])
def test_a_single_network_that_is_left_for_want_of_time_has_no_radial_one_in_its_place(seed, monkeypatch):
    """Radial units took its place, and relevance, which asks for columns of features, was a ValueError."""
    in_time = Plan.in_time.__func__

    def of_one(cls, *given):
        plan, starts, _ = in_time(cls, *given)
        return plan, starts[:1], 1

    monkeypatch.setattr(Plan, "in_time", classmethod(of_one))
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(120, 3))
    y = np.sin(3 * X[:, 0]) * np.cos(2 * X[:, 1]) + 0.05 * rng.normal(size=120)
    with pytest.warns(match="max_time"):
        model = GNRegressor(random_state=0).fit(X, y)
    assert [member.scaling for member in model.estimators_] == ["robust"]
    assert model.feature_relevance_.sum() == pytest.approx(1)


def test_relevance_is_even_where_no_column_of_the_networks_belongs_to_a_feature(monkeypatch):
    monkeypatch.setattr(search, "FURTHER", [surround])
    monkeypatch.setattr(Search, "best_of", lambda self, candidates: candidates[-1:])
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 3))
    model = GNRegressor(tol=1e-2, random_state=0).fit(X, np.sin(3 * X[:, 0]) + 0.1 * rng.normal(size=60))
    assert [member.scaling for member in model.estimators_] == ["radial"]
    np.testing.assert_allclose(model.feature_relevance_, 1 / 3)
