"""Shapes of radial units for labels: a Gaussian process of logits, against that of scikit-learn."""

import numpy as np
import pytest
from scipy.special import log_expit
from sklearn.gaussian_process import GaussianProcessClassifier
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel
from sklearn.metrics import log_loss

from skgn import GNClassifier
from skgn.logits import evidence_and_left_out, shape_of_logits
from skgn.radial import equal_metrics, paths_of, told_metrics
from skgn.shapes import Telling

#: A length, and the variances of logits, of their constant and of each row.
LENGTH, CONSTANT, OWN = 2.0, 10.0, 1e-4


def kernel(variance):
    return ConstantKernel(variance) * RBF(LENGTH) + ConstantKernel(CONSTANT) + WhiteKernel(OWN)


def data(n=60, share=0.0, seed=0):
    """Rows of three columns, and labels within a paraboloid, of which a share are wrong."""
    random = np.random.RandomState(seed)
    X = random.standard_normal((n, 3))
    return X, ((X[:, 0] + X[:, 1] ** 2 > 0.7) ^ (random.uniform(size=n) < share)) * 1.0


def left_out_by_fits(X, y, variance):
    """Log likelihood of each row, by a Gaussian process of all others: that of its most likely logit."""
    total = 0.0
    for row in range(len(y)):
        others = np.arange(len(y)) != row
        fit = GaussianProcessClassifier(kernel(variance), optimizer=None).fit(X[others], y[others]).base_estimator_
        logit = fit.kernel_(X[[row]], fit.X_train_) @ (fit.y_train_ - fit.pi_)
        total += float(log_expit((2 * y[row] - 1) * logit[0]))
    return total


@pytest.mark.parametrize("variance", [1.0, 100.0])
@pytest.mark.parametrize("share", [0.0, 0.2])
def test_evidence_and_left_out_labels_are_those_of_scikit_learn(variance, share):
    X, y = data(share=share)
    evidence, left_out = evidence_and_left_out(kernel(variance)(X), y, np.ones(len(y)))
    expected = GaussianProcessClassifier(kernel(variance), optimizer=None).fit(X, y).log_marginal_likelihood_value_
    assert evidence == pytest.approx(expected, abs=0.01)
    # One Newton step leaves a row out nearly as another fit does.
    assert left_out == pytest.approx(left_out_by_fits(X, y, variance), rel=0.1)


def test_a_row_of_weight_two_is_two_rows():
    X, y = data(share=0.2)
    K, weight = 10 * RBF(LENGTH)(X) + 1e-6 * np.eye(len(y)), np.ones(len(y))
    weight[::3] = 2
    twice = np.repeat(np.arange(len(y)), weight.astype(int))
    evidence, _ = evidence_and_left_out(K, y, weight)
    of_copies, _ = evidence_and_left_out(K[np.ix_(twice, twice)], y[twice], np.ones(len(twice)))
    assert evidence == pytest.approx(of_copies, abs=1e-3)


@pytest.mark.parametrize(("k", "compared"), [(5, True), (6, False)])
def test_where_fewer_rows_are_centres_than_tell_normal_units_are_not_compared(k, compared):
    X, y = data(200)
    columns = np.tile(y[:, None], k)
    shape = shape_of_logits(equal_metrics(paths_of(3, 0)), Telling(X, np.zeros((200, 0)), columns, np.ones(200)))
    assert (shape.chosen > 0) == compared


def test_labels_beyond_the_floats_of_their_likelihood_have_an_evidence():
    X, y = data()
    K = 1e12 * (X @ X.T) + CONSTANT + 1e6 * np.eye(len(y))
    assert np.isfinite(evidence_and_left_out(K, y, np.ones(len(y)))).all()


def test_a_sharp_border_has_long_units_of_large_logits():
    X, y = data(200)
    metrics, beside = equal_metrics(paths_of(3, 0)), np.zeros((200, 0))
    sharp = shape_of_logits(metrics, Telling(X, beside, y[:, None], np.ones(200)))
    assert (sharp.profile, sharp.chosen) == ("gaussian", pytest.approx(np.log(9)))
    assert sharp.signal >= 300 and sharp.log_choices == sharp.chosen
    # Nothing is sharp where a fifth of the labels are wrong.
    _, wrong = data(200, share=0.2)
    blurred = shape_of_logits(metrics, Telling(X, beside, wrong[:, None], np.ones(200)))
    # The shape of numbers pays for no choice among others.
    assert blurred.signal <= 10 and blurred.chosen == 0


def test_all_centres_judge_between_numbers_and_logits():
    """Rows around eighty points, each with a label: two hundred do not show that long units miss what is local."""
    random = np.random.RandomState(5)
    points = random.standard_normal((80, 3))
    of_points, which = points[:, 0] + 0.5 * random.standard_normal(80) > 0, random.randint(0, 80, 500)
    X, y = points[which] + 0.15 * random.standard_normal((500, 3)), of_points[which][:, None] * 1.0
    metrics, beside, weight = equal_metrics(paths_of(3, 0)), np.zeros((500, 0)), np.ones(500)
    rows = Telling(X, beside, y, weight)
    some, every = shape_of_logits(metrics, rows.first(200)), shape_of_logits(metrics, rows)
    assert some.chosen > 0 and (every.chosen, every.profile) == (0, "matern")


def test_the_choice_among_more_metrics_costs_more():
    X, y = data(200)
    paths = paths_of(3, 0)
    metrics = [*equal_metrics(paths), *told_metrics(np.array([1.0, 1.0, 0.0]), paths, 0, learned=1.5, n_rows=200)]
    shape = shape_of_logits(metrics, Telling(X, X, y[:, None], np.ones(200)))
    assert shape.metric.n_choices == 2
    assert shape.log_choices == pytest.approx(1.0 + 1.5 + np.log(18))


@pytest.mark.parametrize("same", ["rows", "labels"])
def test_there_is_no_shape_where_all_are_alike(same):
    X, y = data(200)
    X, y = (np.ones_like(X), y) if same == "rows" else (X, np.ones_like(y))
    assert (
        shape_of_logits(equal_metrics(paths_of(3, 0)), Telling(X, np.zeros((200, 0)), y[:, None], np.ones(200))) is None
    )


def test_a_curved_border_is_found_as_a_gaussian_process_finds_it():
    """Snell's law: a border that bends, without wrong labels. Labels taken for numbers had twice this log loss."""
    random = np.random.RandomState(0)
    X = random.uniform([0, 0], [0.9, 1.57], (2400, 2))
    angle = np.arcsin(X[:, 0] * np.sin(X[:, 1]))
    y = angle > np.median(angle)
    model = GNClassifier(random_state=0).fit(X[:400], y[:400])
    process = GaussianProcessClassifier(ConstantKernel(1.0) * RBF(np.ones(2)), random_state=0)
    process.fit((X[:400] - 0.5) * 4, y[:400])
    ours, theirs = log_loss(y[400:], model.predict_proba(X[400:])), process.predict_proba((X[400:] - 0.5) * 4)
    assert ours < 0.04 and ours < 0.5 * log_loss(y[400:], theirs)
