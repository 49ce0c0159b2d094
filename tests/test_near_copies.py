"""Near copies of rows, as of augmentation and oversampling: what a fit and a report say of them."""

import warnings

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris, load_wine
from sklearn.neighbors import NearestNeighbors

from skgn import GNClassifier, GNRegressor, diagnose
from skgn.near_copies import NearCopies, near_copies

rng = np.random.default_rng(0)
X = rng.normal(size=(120, 4))
Y = np.sin(2 * X[:, 0]) + X[:, 1] + 0.7 * rng.normal(size=120)
LABELS = (Y > 0).astype(int)
RARE = np.argsort(-Y)[:12]


def jittered(inputs, size):
    return inputs + size * rng.normal(size=inputs.shape)


def one_digit(inputs):
    changed = inputs.copy()
    changed[np.arange(len(inputs)), rng.integers(0, inputs.shape[1], len(inputs))] += 0.01
    return changed


def smote(inputs, count):
    """Rows between each row and one of its five nearest, after Chawla et al. (2002)."""
    nearest = NearestNeighbors(n_neighbors=6).fit(inputs).kneighbors(inputs, return_distance=False)
    row = rng.integers(0, len(inputs), count)
    other = nearest[row, rng.integers(1, 6, count)]
    return inputs[row] + rng.random((count, 1)) * (inputs[other] - inputs[row])


def told(inputs, target, labels=None, weight=None):
    order = np.random.default_rng(1).permutation(len(inputs))
    weight = np.ones(len(inputs)) if weight is None else weight
    labels = None if labels is None else labels[order]
    return near_copies(inputs[order], target[order, None], weight[order], labels)


COPIES = {
    "noise added once": [jittered(X, 0.01)],
    "noise added four times": [jittered(X, 0.01) for _ in range(4)],
    "rounded": [X.round(2)],
    "in float32": [X.astype(np.float32)],
    "one digit changed": [one_digit(X)],
}


@pytest.mark.parametrize("case", COPIES)
def test_near_copies_of_most_rows_are_found(case):
    rows, times = np.vstack([X, *COPIES[case]]), 1 + len(COPIES[case])
    assert told(rows, np.tile(Y, times)) == NearCopies(None, between=False)
    assert told(rows, np.tile(LABELS, times), np.tile(LABELS, times)) == NearCopies(None, between=False)
    # With units of their own columns, and an input that is far from all others.
    units = np.array([1e-200, 1.0, 1e6, 1e200])
    assert told(np.vstack([rows, np.full(4, 1e3)]) * units, np.append(np.tile(Y, times), 0)) is not None


def test_copies_of_a_rare_class_alone_are_found():
    labels = np.isin(np.arange(120), RARE).astype(int)
    for made, between in ((np.vstack([jittered(X[RARE], 0.01) for _ in range(4)]), False), (smote(X[RARE], 48), True)):
        rows, target = np.vstack([X, made]), np.append(labels, np.ones(48, int))
        assert told(rows, target, target) == NearCopies(1, between)
        assert told(rows.astype(np.float32).astype(float), target, target) == NearCopies(1, between)


def test_observations_near_each_other_are_no_copies():
    """Repetitions at nearly the same settings have noise of their own, and tell how much there is."""
    rows = np.vstack([X, jittered(X, 0.01), jittered(X, 0.01)])
    again = np.sin(2 * rows[:, 0]) + rows[:, 1] + 0.7 * rng.normal(size=360)
    assert told(rows, again) is None
    assert told(rows, (again > 0).astype(int), (again > 0).astype(int)) is None


def test_pairs_whose_targets_those_beyond_have_too_are_no_copies():
    """Two places each of a map, and height along a slope: the next pair has nearly the same."""
    draw = np.random.default_rng(0)
    places = np.repeat(draw.uniform(size=(400, 2)), 2, axis=0) + 1e-4 * draw.uniform(-1, 1, (800, 2))
    assert told(places, places[:, 0]) is None
    # Heights of their own are another matter.
    assert told(places, np.repeat(draw.uniform(size=400), 2)) == NearCopies(None, False)


def test_copies_of_some_rows_are_too_few_to_tell():
    rows = np.r_[np.arange(120), np.arange(24)]
    assert told(jittered(X[rows], 0.01), Y[rows]) is None


def test_copies_that_share_the_weight_of_a_row_are_none_to_a_regression():
    rows, labels = np.vstack([X, jittered(X, 0.01)]), np.tile(LABELS, 2)
    assert told(rows, np.tile(Y, 2), weight=np.full(240, 0.5)) is None
    assert told(rows, labels, labels, weight=np.full(240, 0.5)) is not None


def natural():
    t = rng.random(300)
    yield "normal", rng.normal(size=(300, 3))
    yield "heavy tails", 1e200 * rng.standard_cauchy((300, 3))
    yield "few values", rng.integers(0, 5, (300, 3)).astype(float)
    yield "numbers in few groups", np.column_stack([rng.integers(0, 4, (300, 2)), rng.normal(size=300)])
    yield "a line", np.outer(t, [1, 2, 3])
    yield "a curve", np.column_stack([np.sin(t), np.cos(t), t])
    yield "a plane", rng.normal(size=(300, 2)) @ rng.normal(size=(2, 5))
    yield "one column", rng.normal(size=(300, 1))
    yield "clusters", np.repeat(5 * rng.normal(size=(10, 3)), 30, axis=0) + rng.normal(size=(300, 3))
    yield "constant", np.ones((300, 3))


@pytest.mark.parametrize(("name", "inputs"), natural())
def test_nothing_is_found_in_natural_rows(name, inputs):
    target = inputs.sum(axis=1) / np.abs(inputs).max()
    labels = (target > np.median(target)).astype(int)
    assert told(inputs, target) is None
    assert told(inputs, labels, labels) is None


@pytest.mark.parametrize("load", [load_breast_cancer, load_diabetes, load_iris, load_wine])
def test_nothing_is_found_in_published_tables(load):
    inputs, target = load(return_X_y=True)
    assert told(inputs, target, None if load is load_diabetes else target) is None


@pytest.mark.usefixtures("without_boosting")
@pytest.mark.parametrize(("estimator", "target"), [(GNRegressor, Y), (GNClassifier, LABELS)])
def test_a_fit_and_a_report_say_what_rests_on_copies(estimator, target):
    """A regression promised an R2 of 1.00, and a classification a D2 of 0.9. Neither said a word."""
    model, twice = estimator((3,), n_estimators=1, random_state=0), np.vstack([X, jittered(X, 0.01)])
    with pytest.warns(UserWarning, match="Most rows are near copies of others with the same target"):
        model.fit(twice, np.tile(target, 2))
    found = diagnose(model, X, target, verbose=False)["left_out"]
    assert found.verdict == "rests on copies"
    assert "without near copies" in found.advice
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.fit(X, target)
        estimator((3,), n_estimators=1, l2_regularization=0.1).fit(twice, np.tile(target, 2))
    assert diagnose(model, X, target, verbose=False)["left_out"].verdict != "rests on copies"


def test_the_warning_names_the_class_that_was_made_between_others():
    rare = np.isin(np.arange(120), RARE)
    rows, labels = np.vstack([X, smote(X[RARE], 48)]), np.append(np.where(rare, "fraud", "fine"), ["fraud"] * 48)
    with pytest.warns(UserWarning, match="Most rows of class fraud lie on a line between two others, as SMOTE"):
        GNClassifier((3,), n_estimators=1, random_state=0).fit(rows, labels)
