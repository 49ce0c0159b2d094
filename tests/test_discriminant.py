"""Normal distributions of the classes beside the networks of labels: their densities, what they tell, and where."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from everywhere import assert_the_same_everywhere
from scipy.special import softmax
from scipy.stats import multivariate_normal
from sklearn.metrics import log_loss
from sklearn.naive_bayes import GaussianNB

from skgn import GNClassifier, discriminant, search
from skgn.discriminant import DISCRIMINANT, _Moments, discriminant_of, log_odds
from skgn.ensemble import member_outputs
from skgn.feedforward import FeedForward
from skgn.further import discriminate
from skgn.ground import Ground
from skgn.integrity import flaws
from skgn.preprocessing import InputScaler

N, D = 300, 4

#: Two networks, which take little time.
FEW = {"n_estimators": 2, "random_state": 0}

#: Any distributions are better than networks with this D2, or none.
ALWAYS, NEVER = -np.inf, 1.0


def clouds(n=N, k=3, d=D, seed=0, apart=1.0):
    """Rows of classes that are normally distributed, each with a covariance of its own."""
    of_classes, random = np.random.RandomState(5), np.random.RandomState(seed)
    means = apart * of_classes.standard_normal((k, d))
    roots = of_classes.standard_normal((k, d, d)) / np.sqrt(d) + 0.3 * np.eye(d)
    labels = random.randint(k, size=n)
    return means[labels] + np.einsum("nij,nj->ni", roots[labels], random.standard_normal((n, d))), labels


def indicators(labels):
    Y = np.eye(labels.max() + 1)[labels]
    return Y[:, 1:] if Y.shape[1] == 2 else Y


def ground(X):
    return Ground(InputScaler.fit(X, np.ones(len(X))), FeedForward(X.shape[1], 1, (5,)), 1)


def told(X, labels, weight=None, score=ALWAYS):
    on, weight = ground(X), np.ones(len(X)) if weight is None else weight
    return discriminant_of(on, on.base.transform(X), indicators(labels), weight, score)


@pytest.fixture(scope="module", autouse=True)
def nothing_else_is_drawn():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search, "FURTHER", [discriminate])
        yield


@pytest.fixture(scope="module")
def model(nothing_else_is_drawn):
    return GNClassifier(**FEW).fit(*clouds())


def reading(model):
    return [member.scaling == DISCRIMINANT for member in model.estimators_]


def densities(X, labels, shared, diagonal, new):
    moments = _Moments.of(X, np.eye(labels.max() + 1)[labels], np.ones(len(X)))
    return moments.clouds(shared, diagonal).log_densities(new)


class TestDensities:
    @pytest.fixture(autouse=True)
    def nothing_is_added(self, monkeypatch):
        monkeypatch.setattr(discriminant, "_ADDED", 0.0)
        monkeypatch.setattr(discriminant, "_LEAST", 0.0)

    def test_one_covariance_is_that_of_all_rows_around_the_means_of_their_classes(self):
        (X, labels), (new, _) = clouds(), clouds(seed=1)
        means = np.array([X[labels == j].mean(axis=0) for j in range(3)])
        laws = [multivariate_normal(mean, np.cov((X - means[labels]).T, bias=True)) for mean in means]
        frequency = np.bincount(labels) / N
        expected = np.transpose([law.logpdf(new) for law in laws]) + np.log(frequency)
        got = densities(X, labels, 1.0, 0.0, new)
        np.testing.assert_allclose(got, expected + D / 2 * np.log(2 * np.pi), rtol=1e-6)

    def test_independent_columns_are_naive_bayes(self):
        (X, labels), (new, _) = clouds(), clouds(seed=1)
        expected = GaussianNB(var_smoothing=0).fit(X, labels).predict_log_proba(new)
        got = densities(X, labels, 0.0, 1.0, new)
        np.testing.assert_allclose(got - np.logaddexp.reduce(got, axis=1)[:, None], expected, atol=1e-9)

    def test_own_covariances_are_those_of_the_rows_of_a_class(self):
        (X, labels), (new, _) = clouds(), clouds(seed=1)
        rows = [X[labels == j] for j in range(3)]
        laws = [multivariate_normal(of.mean(axis=0), np.cov(of.T, bias=True)) for of in rows]
        expected = np.transpose([law.logpdf(new) + np.log(len(of) / N) for law, of in zip(laws, rows, strict=True)])
        got = densities(X, labels, 0.0, 0.0, new)
        np.testing.assert_allclose(got, expected + D / 2 * np.log(2 * np.pi), rtol=1e-6)

    def test_parts_of_both_are_in_between(self):
        X, labels = clouds()
        moments = _Moments.of(X, np.eye(3)[labels], np.ones(N))
        whitening = moments.clouds(0.25, 0.4).whitening[0]
        scatter = [np.cov(X[labels == j].T, bias=True) * (labels == j).sum() for j in range(3)]
        mixed = 0.75 * scatter[0] + 0.25 * sum(scatter)
        mixed /= 0.75 * (labels == 0).sum() + 0.25 * N
        expected = np.where(np.eye(D, dtype=bool), mixed, 0.6 * mixed)
        np.testing.assert_allclose(np.linalg.inv(whitening @ whitening.T), expected, atol=1e-9)

    def test_weights_are_repetitions(self):
        X, labels = clouds()
        weight = np.random.RandomState(3).randint(1, 4, N)
        once = _Moments.of(X, np.eye(3)[labels], weight.astype(float))
        often = _Moments.of(X.repeat(weight, axis=0), np.eye(3)[labels.repeat(weight)], np.ones(weight.sum()))
        for one, other in zip(once.clouds(0.1, 0.3), often.clouds(0.1, 0.3), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-9)


def test_log_odds_of_two_classes_are_a_logit_and_others_have_a_mean_of_0():
    logs = np.log([[0.2, 0.8], [0.5, 0.5]])
    np.testing.assert_allclose(log_odds(logs)[:, 0], [np.log(4), 0])
    odds = log_odds(np.log([[0.1, 0.3, 0.6]]) - 7)
    np.testing.assert_allclose(np.exp(odds) / np.exp(odds).sum(), [[0.1, 0.3, 0.6]])
    np.testing.assert_allclose(odds.sum(), 0, atol=1e-12)
    # However far a row is from a class.
    np.testing.assert_allclose(log_odds(np.array([[0.0, -1e9]])), [[-30]])


def test_rows_of_the_fit_are_told_without_their_own_labels():
    random = np.random.RandomState(0)
    X, labels = random.standard_normal((150, 20)), random.randint(2, size=150)
    found = told(X, labels)
    own, later = found.columns[:, 0], found.scaler.transform(X)[:, 0]
    # Of noise, means of few rows follow these rows, and tell nothing else.
    assert np.corrcoef(later, labels)[0, 1] > 0.3
    assert abs(np.corrcoef(own, labels)[0, 1]) < 3 / np.sqrt(150)


def test_there_are_none_where_networks_tell_more():
    X, labels = clouds()
    assert told(X, labels, score=NEVER) is None
    assert told(X, labels) is not None
    assert told(np.zeros((N, D)), labels) is None


def test_small_weights_and_columns_far_from_0_are_as_good():
    X, labels = clouds()
    expected = told(X, labels).columns
    np.testing.assert_allclose(told(X, labels, np.full(N, 1e-4)).columns, expected, atol=1e-6)
    far = told(X + 1e6, labels).columns
    np.testing.assert_allclose(far, expected, atol=1e-3)


def test_choices_are_charged():
    """Left-out labels have made them, and are told too well by the nats of their number."""
    X, labels = clouds()
    logits = told(X, labels).columns
    constant, charge = log_loss(labels, np.tile(np.bincount(labels) / N, (N, 1))), np.log(25 * 6) / N
    lost = (log_loss(labels, softmax(logits, axis=1)) + charge) / constant
    assert told(X, labels, score=1 - lost - 1e-6) is not None
    assert told(X, labels, score=1 - lost + 1e-6) is None


def test_a_class_of_a_single_row_has_a_distribution():
    X, labels = clouds()
    found = told(np.vstack([X, X[:1] + 9]), np.append(labels, 3))
    assert np.isfinite(found.columns).all()
    assert np.isfinite(found.scaler.transform(X)).all()


def test_constant_and_equal_columns_do_not_count():
    X, labels = clouds()
    same = told(np.hstack([X, np.ones((N, 1)), X[:, :1]]), labels)
    assert np.isfinite(same.columns).all()
    right = np.mean(same.columns.argmax(axis=1) == labels)
    assert right > np.mean(told(X, labels).columns.argmax(axis=1) == labels) - 0.05


def test_rows_beyond_the_most_are_later_ones(monkeypatch):
    monkeypatch.setattr(discriminant, "MOST_ROWS", 200)
    X, labels = clouds()
    found = told(X, labels)
    assert found.columns.shape == (N, 3)
    np.testing.assert_array_equal(found.columns[200:], found.scaler.transform(X[200:]))
    assert not np.allclose(found.columns[:200], found.scaler.transform(X[:200]))


@pytest.mark.parametrize("k, d, apart", [(2, 15, 1), (3, D, 1), (6, 8, 2)])
def test_normal_classes_are_told_better(k, d, apart, monkeypatch, capsys):
    (X, labels), (new, truth) = clouds(20 * k + 200, k, d, 0, apart), clouds(3000, k, d, 1, apart)
    model = GNClassifier(**FEW, verbose=1).fit(X, labels)
    assert "1 more candidate, of normal distributions of the classes" in capsys.readouterr().out
    monkeypatch.setattr(search, "FURTHER", [])
    without = GNClassifier(**FEW).fit(X, labels)
    assert not any(reading(without))
    ours, theirs = (log_loss(truth, each.predict_proba(new)) for each in (model, without))
    assert ours < 0.8 * theirs


def test_it_comes_last_whatever_it_counts(model):
    assert reading(model)[-1] and not any(reading(model)[:-1])
    assert model.weights_[-1] > 0.5
    assert model.coefs_[0].shape[0] >= D


@pytest.mark.parametrize("labels", ["noise", "line"])
def test_there_are_none_without_use(labels):
    random = np.random.RandomState(0)
    X = random.uniform(-1, 1, (N, D))
    y = random.randint(2, size=N) if labels == "noise" else X[:, 0] + np.sin(9 * X[:, 1]) > 0
    model = GNClassifier(**FEW).fit(X, y)
    assert model.left_out_score_ < 0.02 if labels == "noise" else not any(reading(model))


def test_there_are_none_without_the_time(monkeypatch):
    monkeypatch.setattr(discriminant, "_SECONDS", 1e-3)
    assert not any(reading(GNClassifier(**FEW).fit(*clouds())))


@pytest.mark.parametrize("k", [2, 3])
def test_torch_onnx_and_files_have_the_same_distributions(k, tmp_path, one_registry):
    model = GNClassifier(**FEW).fit(*clouds(k=k))
    assert reading(model)[-1] and model.weights_[-1] > 0.1
    # Networks beside it are for test_export.py.
    model.weights_ = np.array(reading(model), dtype=float)
    assert_the_same_everywhere(model, clouds(100, k=k, seed=1)[0], tmp_path / "model.onnx")


@pytest.mark.parametrize(
    "damage",
    [
        lambda of: replace(of, constants=of.constants[:-1]),
        lambda of: replace(of, whitening=of.whitening[:, :-1]),
        lambda of: replace(of, means=np.full_like(of.means, np.nan)),
    ],
)
def test_damage_is_found(model, damage):
    state = dict(vars(model))
    assert flaws(state, GNClassifier, ()) == []
    table = state["_table"]
    state["_table"] = table.with_more({DISCRIMINANT: damage(table.scalings[DISCRIMINANT])})
    assert any(
        "Discriminant" in flaw or DISCRIMINANT in flaw or "_table" in flaw for flaw in flaws(state, GNClassifier, ())
    )


def test_a_stream_goes_on_with_it(model):
    new, truth = clouds(2000, seed=1)
    streamed = copy.deepcopy(model).partial_fit(*clouds(seed=2))
    np.testing.assert_allclose(streamed.weights_, model.weights_)
    assert log_loss(truth, streamed.predict_proba(new)) < 1.1 * log_loss(truth, model.predict_proba(new))


@pytest.mark.parametrize("given", [{"alpha": 0.1}, {"init": "centered"}])
def test_log_odds_are_those_whatever_networks_start_with(given, model):
    new, truth = clouds(2000, seed=1)
    other = GNClassifier(**FEW, **given).fit(*clouds())
    assert reading(other)[-1] and other.weights_[-1] > 0.5
    # Without weights of its own, a network adds nothing to the log odds.
    member, columns = other.estimators_[-1], other._table.scalings[DISCRIMINANT].transform(new)
    outputs = member_outputs(replace(member, weights=np.zeros_like(member.weights)), columns, torch.device("cpu"))
    np.testing.assert_allclose(outputs, columns, atol=1e-9)
    expected = log_loss(truth, model.predict_proba(new))
    assert log_loss(truth, other.predict_proba(new)) == pytest.approx(expected, rel=0.2)
