"""Slopes of levels along a column: where they are found, and what a fit makes of them."""

import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import RidgeCV
from sklearn.preprocessing import TargetEncoder

from skgn import GNClassifier, GNRegressor, summarize
from skgn.encoders import CodedRows, encode_training_rows
from skgn.export import to_onnx, to_torch
from skgn.slopes import find_slopes

STEPS = ("target", "slopes")


def subjects(n=400, count=40, noise=0.2, seed=0):
    """Numbers of subjects, a column, slopes of the subjects, and a target that has these."""
    rng = np.random.default_rng(seed)
    subject, x, slopes = rng.integers(count, size=n), rng.normal(size=n), rng.normal(size=count)
    return subject, x, slopes, slopes[subject] * x + noise * rng.normal(size=n)


def frame(subject, x):
    return pd.DataFrame({"subject": [f"s{number}" for number in subject], "days": x})


def rows(subject, others, Y):
    return CodedRows([subject], [int(subject.max()) + 1], others.reshape(len(subject), -1), Y.reshape(len(Y), -1))


def relation(kind, rng, n=400, count=40):
    """Targets of two columns and a category that have no slopes of levels; the last ones have outliers."""
    subject, X, noise = rng.integers(count, size=n), rng.normal(size=(n, 2)), rng.normal(size=n)
    effects, steep = rng.normal(size=count), 1 / (1 + np.exp(-3 * X[:, 0]))
    y = {
        "noise": noise,
        "sum": effects[subject] + X[:, 0] + 0.3 * noise,
        "product": X[:, 0] * X[:, 1] + 0.3 * noise,
        "bend": np.abs(X[:, 0]) + effects[subject] + 0.1 * noise,
        "noise of the level": np.exp(effects)[subject] * noise,
        "labels": (rng.random(n) < steep).astype(float),
        "rare labels": (rng.random(n) < 0.03).astype(float),
        "gross errors": X[:, 0] + 0.1 * noise + 50 * (rng.random(n) < 0.02) * rng.normal(size=n),
        "heavy tails": rng.standard_t(2, size=n),
    }[kind]
    if kind == "heavy tails":
        X = rng.standard_t(2, size=(n, 2))
    return subject, X, y


@pytest.mark.parametrize(
    "kind",
    [
        *("noise", "sum", "product", "bend", "noise of the level"),
        *("labels", "rare labels", "gross errors", "heavy tails"),
    ],
)
def test_levels_without_slopes_of_their_own_have_none(kind):
    found = [find_slopes(rows(*relation(kind, np.random.default_rng(seed)))) for seed in range(15)]
    assert sum(map(bool, found)) <= 1


def test_pairs_come_in_the_order_of_what_they_tell():
    rng = np.random.default_rng(0)
    level = [rng.integers(30, size=900), rng.integers(20, size=900)]
    X, slopes = rng.normal(size=(900, 4)), [rng.normal(size=30), 0.5 * rng.normal(size=20)]
    y = slopes[0][level[0]] * X[:, 2] + slopes[1][level[1]] * X[:, 1] + 0.2 * rng.normal(size=900)
    assert find_slopes(CodedRows(level, [30, 20], X, y[:, None])) == [(0, 2), (1, 1)]


@pytest.mark.parametrize("size", [1e-300, 1e250])
def test_columns_of_any_size_have_the_same_slopes(size):
    subject, x, _, y = subjects()
    assert find_slopes(rows(subject, size * x, y)) == [(0, 0)]


@pytest.mark.parametrize(
    "others",
    [np.empty((400, 0)), np.zeros((400, 1)), np.ones((400, 301))],
    ids=["no column", "a constant", "many columns"],
)
def test_what_has_no_slopes_to_look_for(others):
    subject, _, _, y = subjects()
    assert find_slopes(rows(subject, others, y)) == []


@pytest.mark.parametrize("seed", range(3))
def test_a_fit_is_as_good_as_a_ridge_that_is_told_of_the_slopes(seed):
    """Without them R2 was -0.4 to 0.3, and 0.4 were promised."""
    subject, x, _, y = subjects(n=2300, count=30, seed=seed)
    X, products = frame(subject, x), (subject[:, None] == np.arange(30)) * x[:, None]
    model = GNRegressor(n_estimators=2, random_state=0).fit(X[:300], y[:300])
    ridge = RidgeCV(np.logspace(-3, 3, 13)).fit(products[:300], y[:300])
    score = model.score(X[300:], y[300:])
    assert score > ridge.score(products[300:], y[300:]) - 0.05
    assert model.left_out_score_ == pytest.approx(score, abs=0.05)


def test_labels_have_slopes():
    subject, x, slopes, _ = subjects(n=3000, count=30)
    label = np.random.default_rng(1).random(3000) < 1 / (1 + np.exp(-4 * slopes[subject] * x))
    X, known = frame(subject, x), slopes[subject] * x > 0
    model = GNClassifier(n_estimators=2, random_state=0).fit(X[:1000], label[:1000])
    assert model.score(X[1000:], label[1000:]) > np.mean(known[1000:] == label[1000:]) - 0.03
    assert model.preprocessor_[-1].named_transformers_.keys() == {"numeric", "target", "slopes"}


@pytest.mark.parametrize("weighted", [False, True])
def test_a_single_class_has_no_slopes(weighted):
    subject, x, _, y = subjects(n=100, count=15)
    label = y > 0 if weighted else np.full(100, True)
    model = GNClassifier((3,), n_estimators=1, max_iter=3, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(frame(subject, x), label, label.astype(float))
        assert model.predict(frame(subject, x)).all()
    assert summarize(model).slopes == ()


def test_each_class_has_slopes():
    subject, x, slopes, _ = subjects(n=2000, count=30)
    value = slopes[subject] * x
    kind = np.where(np.abs(value) < 0.3, "none", np.where(value > 0, "up", "down"))
    model = GNClassifier(n_estimators=1, random_state=0).fit(frame(subject, x)[:1000], kind[:1000])
    assert model.score(frame(subject, x)[1000:], kind[1000:]) > 0.8
    assert len(model.preprocessor_[-1].named_transformers_["slopes"].encodings_) == 3


def test_a_new_level_has_the_common_slope():
    subject, x, _, y = subjects()
    model = GNRegressor(n_estimators=2, random_state=0).fit(frame(subject, x), y + 2 * x)
    new = pd.DataFrame({"subject": ["new"] * 5, "days": np.linspace(-1, 1, 5)})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        np.testing.assert_allclose(model.predict(new), 2 * np.linspace(-1, 1, 5), atol=0.5)


def test_numbers_that_are_codes_have_slopes_too():
    subject, x, _, y = subjects(n=600, count=30)
    jumps = np.random.default_rng(2).normal(size=30)
    X = np.column_stack([1000 + subject, x])
    model = GNRegressor(n_estimators=2, random_state=0).fit(X, y + 2 * jumps[subject])
    assert model.preprocessor_.get_feature_names_out().tolist() == ["x0", "x1", "x0 (code)", "x0 (slope)"]
    assert summarize(model).slopes == (("x0", "x1"),)


def test_a_summary_names_the_slopes():
    subject, x, _, y = subjects()
    model = GNRegressor((3,), n_estimators=1, max_iter=5, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(frame(subject, x), y)
    summary = summarize(model)
    assert summary.slopes == (("subject", "days"),)
    assert "days by subject: slopes that differ between levels" in str(summary)
    names = model.preprocessor_.get_feature_names_out().tolist()
    assert names == ["days", "subject", "subject (slope)"]


def test_slopes_are_stored_and_exported(tmp_path, one_registry):
    onnxruntime = pytest.importorskip("onnxruntime")
    subject, x, _, y = subjects(n=600, count=30)
    X, y = np.column_stack([subject, x]), y + 2 * np.random.default_rng(2).normal(size=30)[subject]
    model = GNRegressor((4,), n_estimators=1, max_iter=10, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(X, y)
    assert summarize(model).slopes == (("x0", "x1"),)
    expected = model.predict(X[:50])
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).predict(X[:50]), expected)
    np.testing.assert_allclose(to_torch(model)(torch.from_numpy(X[:50])).detach().numpy(), expected, rtol=1e-8)
    to_onnx(model, tmp_path / "model.onnx", return_std=False)
    run = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(run.run(None, {"X": X[:50]})[0], expected, rtol=1e-4)


def test_two_slopes_of_a_feature_are_exported():
    rng = np.random.default_rng(0)
    shop, X, slopes = rng.integers(30, size=900), rng.normal(size=(900, 2)), rng.normal(size=(3, 30))
    y = 2 * slopes[0][shop] + slopes[1][shop] * X[:, 0] + slopes[2][shop] * X[:, 1] + 0.1 * rng.normal(size=900)
    X = np.column_stack([shop, X])
    model = GNRegressor((4,), n_estimators=1, max_iter=5, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(X, y)
    assert sorted(summarize(model).slopes) == [("x0", "x1"), ("x0", "x2")]
    exported = to_torch(model)(torch.from_numpy(X[:50])).detach().numpy()
    np.testing.assert_allclose(exported, model.predict(X[:50]), rtol=1e-8)


def test_slopes_in_training_come_from_other_rows():
    """The slope of a level from all of its rows knows the noise of each."""
    subject, x, slopes, y = subjects(n=300, count=60, noise=2.0)
    encoder = ColumnTransformer(
        [
            ("numeric", SimpleImputer(add_indicator=True), [1]),
            *((name, TargetEncoder(target_type="continuous"), [0]) for name in STEPS),
        ]
    )
    X, y = np.column_stack([subject, x]), y - slopes[subject] * x
    code = encode_training_rows(encoder, X, y, np.ones(300), [(0, 0)])[:, 2]
    later = encoder.transform(X)[:, 2]
    # Of noise alone, the slopes of all rows tell the noise, and those of other rows do not.
    assert np.corrcoef((later - later.mean()) * x, y)[0, 1] > 0.15
    assert np.corrcoef((code - code.mean()) * x, y)[0, 1] < 0.05


def test_what_is_exact_but_for_little_has_no_slopes():
    """Slopes of what hardly is anything would be chance, or rounding errors."""
    subject, x, slopes, _ = subjects()
    size = np.random.default_rng(1).normal(size=40)[subject]
    assert find_slopes(rows(subject, x, size + 0.1 * slopes[subject] * x)) == [(0, 0)]
    assert find_slopes(rows(subject, x, size + 0.001 * slopes[subject] * x)) == []


def test_few_rows_a_level_tell_no_slopes():
    subject, x, _, y = subjects(n=400, count=101)
    assert find_slopes(rows(subject, x, y)) == []
    subject, x, _, y = subjects(n=400, count=100)
    assert find_slopes(rows(subject, x, y)) == [(0, 0)]
