"""Numbers that are codes: found where the target jumps between them, and given target codes beside their column."""

import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.interpolate import LSQUnivariateSpline
from sklearn import config_context
from sklearn.base import clone
from sklearn.model_selection import KFold
from sklearn.preprocessing import TargetEncoder

from skgn import GNClassifier, GNRegressor, diagnose, summarize
from skgn.codes import find_codes, jump_tests
from skgn.encoders import encode_training_rows, make_encoder
from skgn.export import to_onnx, to_torch
from skgn.level_codes import NumberCodes
from skgn.quadratic import predict_left_out
from skgn.tables import TableReader
from skgn.unfamiliar import UnfamiliarDataWarning

SMALL = {"hidden_layer_sizes": (4,), "max_iter": 5, "n_estimators": 1, "random_state": 0}
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def shops(n=600, count=20, seed=0):
    """Rows of numbers of shops, with an effect each, and a column with a line in it."""
    rng = np.random.default_rng(seed)
    shop, line = rng.integers(100, 100 + count, n), rng.normal(size=n)
    return np.column_stack([line, shop]), line + rng.normal(size=count)[shop - 100] + 0.2 * rng.normal(size=n)


def test_the_gain_of_jumps_is_that_of_shrunken_means_beside_a_spline():
    """Against FITPACK's spline of the rows, and means shrunken one by one."""
    X, y = shops(200, 14)
    column = np.where(np.arange(200) % 9 == 0, np.nan, X[:, 1])
    known = ~np.isnan(column)
    gain, squares = np.zeros(200), 0.0
    for train, test in KFold(5, shuffle=True, random_state=0).split(column):
        rows = train[known[train]]
        rows = rows[np.argsort(column[rows], kind="stable")]
        at = column[rows] - 100
        spline = LSQUnivariateSpline(at, y[rows], [3.0, 6.0, 9.0], k=3)
        left = y[rows] - spline(at)
        groups = [left[at == number] for number in range(14)]
        within = sum(((group - group.mean()) ** 2).sum() for group in groups) / (len(rows) - 14)
        between = (sum(len(group) * group.mean() ** 2 for group in groups) - 14 * within) / len(rows)
        for i in test:
            own = y[i] - spline(column[i] - 100) if known[i] else y[i]
            squares += own**2
            if known[i]:
                group = groups[int(column[i]) - 100]
                jump = group.mean() * between / (between + within / len(group))
                gain[i] = own**2 - (own - jump) ** 2
    tests = jump_tests(column[:, None], y[:, None])
    np.testing.assert_allclose(tests.share, gain.sum() / squares, rtol=1e-8)
    np.testing.assert_allclose(tests.errors, gain.mean() / gain.std() * np.sqrt(200), rtol=1e-8)
    assert tests.share > 0.3


@pytest.mark.parametrize("size", [1e-300, 1.0, 1e250])
def test_jumps_of_targets_and_between_numbers_of_any_size(size):
    X, y = shops()
    tests, plain = (jump_tests(factor * X[:, 1:], size * y[:, None]) for factor in (1e200, 1.0))
    np.testing.assert_allclose(tests, plain)
    np.testing.assert_allclose(plain, jump_tests(X[:, 1:], y[:, None]), rtol=1e-6)
    # What is measured of a shop, and is no whole number, stands for it as well.
    np.testing.assert_allclose(jump_tests(X[:, 1:] + 0.5, y[:, None], fractions=True), plain)
    measured = X + np.array([0, 0.5])
    assert find_codes(measured, X, y[:, None], fractions=True).tolist() == [1]
    assert find_codes(measured, X, y[:, None]).tolist() == []
    # Few numbers are no codes, nor numbers of few rows; where these are fractions, few are four.
    fractions = np.arange(600) % 150 + 0.5
    others = np.column_stack([X[:, 1] % 4, np.arange(600), fractions, fractions * (X[:, 1] > 5), np.full(600, np.nan)])
    np.testing.assert_array_equal(jump_tests(others, size * y[:, None], fractions=True), np.zeros((2, 5)))


def relation(kind, rng, n=400):
    """Features of numbers that are no codes, and a target."""
    count, noise = rng.integers(0, 40, n), rng.normal(size=n)
    if kind == "noise of many numbers":
        return rng.integers(0, n // 3, (n, 4)), noise
    if kind == "wave":
        return count[:, None], np.sin(count / 4) + 0.1 * noise
    if kind == "growth":
        return count[:, None], np.exp(count / 8) * (1 + 0.1 * noise)
    if kind == "noise that depends on the number":
        return count[:, None], noise * np.exp(count / 10)
    if kind == "rounded measures":
        measure = np.round(rng.normal(size=n), 1)
        return measure[:, None], np.tanh(2 * measure) + 0.1 * noise
    if kind == "counts with a long tail":
        heavy = np.floor(rng.lognormal(2, 1.5, n))
        return heavy[:, None], np.log1p(heavy) + 0.3 * noise
    rare = rng.random(n) < 0.03
    return count[:, None], np.where(rare, 30.0, noise)  # "gross errors"


@pytest.mark.parametrize(
    "kind",
    [
        "noise of many numbers",
        "wave",
        "growth",
        "noise that depends on the number",
        "counts with a long tail",
        "rounded measures",
        "gross errors",
    ],
)
def test_numbers_of_a_smooth_relation_are_no_codes(kind):
    for seed in range(30):
        X, y = (part.astype(float) for part in relation(kind, np.random.default_rng(seed)))
        assert find_codes(X, X, y[:, None], fractions=True).tolist() == [], (kind, seed)


def test_jumps_that_other_columns_explain_make_no_codes():
    X, y = shops()
    effect = y - X[:, 0]
    assert find_codes(X, X, y[:, None]).tolist() == [1]
    assert find_codes(X, np.column_stack([X, effect]), y[:, None]).tolist() == []


def trials(whole, seed=0):
    """Ten trials at each of 40 settings of four features, of a smooth relation with noise, and 500 new settings."""
    rng = np.random.default_rng(seed)
    X = rng.integers(0, 40, (540, 4)) / 20 - 1
    y = np.sin(3 * X[:, 0]) + X[:, 1] + X[:, 2] * X[:, 3]
    X, rows = X * 20 if whole else X, np.repeat(np.arange(540), np.where(np.arange(540) < 40, 10, 1))
    X, y = X[rows], y[rows] + 0.3 * rng.normal(size=len(rows))
    return X[:400], y[:400], X[400:], y[400:]


@pytest.mark.parametrize("whole", [True, False])
def test_repeated_trials_at_settings_make_no_codes(whole):
    """Each number stands for one setting or two, so that its mean is that of a smooth relation of all features."""
    for seed in range(5):
        X, y, *_ = trials(whole, seed)
        assert find_codes(X, X, y[:, None], fractions=True).tolist() == []
    X, y, new, truth = trials(whole)
    assert GNRegressor(n_estimators=2, random_state=0).fit(X, y).score(new, truth) > 0.7
    linear = GNRegressor((), random_state=0).fit(X, y)
    assert "categor" not in str(diagnose(linear, X, y, verbose=False))


def test_what_alone_tells_repeated_rows_apart_may_be_codes():
    """Persons of the same age and sex have a number, by which alone they differ; so have those with no other column."""
    rng = np.random.default_rng(0)
    person, age, sex = rng.integers(0, 60, 900), rng.integers(20, 50, 60), rng.integers(0, 2, 60)
    y = rng.normal(size=60)[person] + 0.3 * rng.normal(size=900)
    X = np.column_stack([person, age[person], sex[person]])
    assert len(np.unique(X[:, 1:], axis=0)) < 60
    assert find_codes(X, X, y[:, None]).tolist() == [0]
    assert find_codes(X[:, :1], X[:, :1], y[:, None]).tolist() == [0]
    # Features that cannot be codes, as categories, tell rows apart.
    measured = np.column_stack([person, rng.normal(size=60)[person]])
    assert find_codes(measured, measured, y[:, None], among=[0]).tolist() == []
    measured = np.column_stack([measured, rng.normal(size=900)])
    assert find_codes(measured, measured, y[:, None], among=[0]).tolist() == [0]


def test_small_jumps_beside_a_line_make_no_codes():
    X, y = shops()
    effect = y - X[:, 0]
    assert find_codes(X, X, (X[:, 0] + 0.3 * effect)[:, None]).tolist() == [1]
    assert find_codes(X, X, (X[:, 0] + 0.03 * effect)[:, None]).tolist() == []


@pytest.mark.parametrize("estimator", [GNRegressor, GNClassifier])
def test_codes_have_target_codes_beside_their_numbers(estimator):
    X, y = shops()
    if estimator is GNClassifier:
        y = np.where(y > 0, "dear", "cheap")
    model = estimator(**SMALL).fit(X[:500], y[:500])
    assert model.preprocessor_.get_feature_names_out().tolist() == ["x0", "x1", "x1 (code)"]
    assert model.n_features_in_ == len(model.feature_relevance_) == 2
    kind = "continuous" if estimator is GNRegressor else "binary"
    encoder = TargetEncoder(target_type=kind).fit(X[:500, 1:], y[:500])
    later = np.vstack([X[500:], [[0.0, 99.0]]])
    columns = model.preprocessor_.transform(later)
    np.testing.assert_array_equal(columns[:, :2], later)
    # The other column tells a part of the target, which is not in the codes.
    assert np.corrcoef(columns[:-1, 2], encoder.transform(X[500:, 1:])[:, 0])[0, 1] > 0.8
    # A number not seen has the mean of all rows.
    assert columns[-1, 2] == pytest.approx(encoder.target_mean_)
    numbers = clone(model).set_params(categorical_features=None).fit(X[:500], y[:500])
    assert numbers.preprocessor_ is None
    assert model.score(X[500:], y[500:]) > numbers.score(X[500:], y[500:]) + 0.1


def test_numbers_of_which_none_was_seen_give_a_warning():
    X, y = shops()
    model = GNRegressor(**SMALL).fit(X, y)
    model.predict(np.vstack([X[:10], [[0.0, 130.0]]]))
    with pytest.warns(UnfamiliarDataWarning, match="1 of 2 rows of X have codes in column 'x1' that"):
        model.predict(np.array([[0.0, 130.0], [0.0, 105.0]]))
    with pytest.warns(UnfamiliarDataWarning, match="'x1' of X has a number that training saw.* 130 gets the mean"):
        model.predict(np.array([[0.0, 130.0], [0.0, 131.0]]))


def test_a_summary_names_the_codes():
    X, y = shops()
    summary = summarize(GNRegressor(**SMALL).fit(X, y))
    assert summary.codes == ("x1",)
    assert "\ncodes      x1: numbers between which the target jumps\n" in str(summary)
    assert "codes" not in str(summarize(GNRegressor(**SMALL).fit(X[:, :1], y)))


def response(n, settings, seed, width=0.08):
    """A narrow peak of a dose, which has few settings, and a line."""
    rng = np.random.default_rng(seed)
    dose, x = rng.choice(settings, n), rng.normal(size=n)
    return np.column_stack([dose, x]), 3 * np.exp(-((dose - 0.55) ** 2) / width) + x


@pytest.mark.parametrize(("count", "width"), [(8, 0.08), (12, 0.01)])
def test_what_lies_between_settings_is_told_by_their_neighbours(count, width):
    """Settings were taken for codes, with the mean between them: R2 there was 0.10 to 0.55, and the promise 0.97."""
    settings = np.linspace(0, 1, count)
    X, y = response(300, settings, 0, width)
    X[::20, 0] = np.nan
    model = GNRegressor(n_estimators=2, random_state=0).fit(X, y + 0.2 * np.random.default_rng(1).normal(size=300))
    # Few numbers are no codes.
    assert ("codes" in model.preprocessor_[-1].named_transformers_) == (count >= 12)
    X, y = response(1000, (settings[1:] + settings[:-1]) / 2, 2, width)
    assert model.score(X, y) > 0.9
    X[::7, 0], X[::5, 0] = settings[4], np.nan
    X[:4, 0] = -1.0, -0.01, 1.01, 2.0
    np.testing.assert_allclose(to_torch(model)(torch.tensor(X)).detach(), model.predict(X), rtol=1e-9, atol=1e-9)


def test_codes_that_follow_are_told_from_those_of_shops():
    numbers, new = np.arange(0.0, 40, 2)[:, None], np.array([[3.0], [3.5], [-1.0], [50.0], [np.nan], [4.0]])
    codes = NumberCodes().fit(numbers)
    codes.codes_, codes.mean_ = [np.sin(numbers / 6)], np.array([0.5])
    assert codes.follows(0)
    between = np.interp([3, 3.5], numbers[:, 0], np.sin(numbers[:, 0] / 6))
    np.testing.assert_allclose(codes.transform(new)[:, 0], [*between, 0.5, 0.5, 0.5, np.sin(4 / 6)])
    codes.codes_ = [np.random.default_rng(0).normal(size=(20, 1))]
    codes.mean_ = codes.codes_[0].mean(axis=0)
    assert not codes.follows(0)
    np.testing.assert_array_equal(codes.transform(new)[:5, 0], np.full(5, codes.mean_))


def test_each_class_has_a_code():
    X, y = shops(900, 14)
    labels = np.array(["high", "low", "middle"])[np.digitize(y, [-0.7, 0.7])]
    model = GNClassifier(**SMALL).fit(X, labels)
    made = model.preprocessor_.get_feature_names_out().tolist()[2:]
    # Where a class is likely or unlikely whatever the line, it has no slope.
    assert made == ["x1_0", "x1_1", "x1_2", "x1_0 (slope)", "x1_1 (slope)", "x1_2 (slope)"]


def test_codes_beside_categories_and_missing_cells():
    X, y = shops()
    rng = np.random.default_rng(1)
    table = pd.DataFrame({"line": X[:, 0], "shop": X[:, 1], "town": rng.choice(["a", "b", None], 600)})
    table.loc[rng.random(600) < 0.1, ["line", "shop"]] = np.nan
    model = GNRegressor(**SMALL).fit(table, y)
    names = model.preprocessor_.get_feature_names_out().tolist()
    assert names[-1] == "shop (code)" and "town_missing" in names and "missingindicator_shop" in names
    assert len(model.feature_relevance_) == 3 and model.feature_relevance_[1] > 0.2
    assert model.preprocessor_.set_output(transform="pandas").transform(table).columns.tolist() == names


@pytest.mark.parametrize("whole", [True, False])
def test_rows_that_share_an_observation_make_no_codes(whole):
    """With a weight of 1 for all rows of a shop together, nothing tells jumps between shops from noise of shops."""
    X, y = shops(count=80)
    X = X if whole else X + 0.5
    _, shop, rows = np.unique(X[:, 1], return_inverse=True, return_counts=True)
    share = 1 / rows[shop]
    for weight, codes in ((None, [1]), (np.full(len(X), 3.0), [1]), (10 * share, [1]), (share, [])):
        assert find_codes(X, X, y[:, None], not whole, weight).tolist() == codes
    assert GNRegressor(**SMALL).fit(X, y).preprocessor_ is not None
    assert GNRegressor(**SMALL).fit(X, y, share).preprocessor_ is None


def test_repeated_rows_and_weights_find_the_same_codes():
    X, y = shops(300)
    weight = np.random.default_rng(0).integers(1, 4, 300)
    weighted = GNRegressor(**SMALL).fit(X, y, weight)
    repeated = GNRegressor(**SMALL).fit(np.repeat(X, weight, axis=0), np.repeat(y, weight))
    assert weighted.preprocessor_ is not None
    np.testing.assert_array_equal(weighted.predict(X), repeated.predict(X))


def test_codes_in_training_are_those_of_a_category():
    """Of a row of weight 3 the mean over three observations."""
    X, y = shops(120)
    weight = np.random.default_rng(0).integers(1, 5, 120).astype(float)
    numbers, category = (TableReader(categorical).fit(X) for categorical in ([], [1]))
    encoders = make_encoder(numbers, X, 1, [1]), make_encoder(category, X, 1)
    coded, named = (encode_training_rows(encoder, X, y[:, None], weight) for encoder in encoders)
    np.testing.assert_array_equal(coded[:, 2], named[:, 1])
    assert np.std(coded[:, 2]) > 0.1


@pytest.mark.parametrize(
    "given",
    [
        {"categorical_features": None},
        {"l2_regularization": 1e-3},
        {"standardize": False},
        {"warm_start": True},
        {"network": torch.nn.Linear(2, 1), "hidden_layer_sizes": "auto"},
    ],
    ids=lambda given: next(iter(given)),
)
def test_what_leaves_numbers_as_they_are(given):
    X, y = shops()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning)
        model = GNRegressor(**(SMALL | given)).fit(X, y)
    assert model.preprocessor_ is None


@pytest.mark.parametrize("estimator", [GNRegressor, GNClassifier])
def test_a_warm_start_goes_on_with_the_codes_of_a_fit_without_it(estimator):
    """Targets of other rows have no codes of their own."""
    X, y = shops()
    target = y if estimator is GNRegressor else y > 0
    other = np.roll(target, 1)
    assert estimator(**SMALL).fit(X, other).preprocessor_ is None
    model = estimator(**SMALL).fit(X, target).set_params(warm_start=True)
    names, last = model.preprocessor_.get_feature_names_out().tolist(), model.loss_
    model.fit(X, target)
    assert model.history_["loss"][0] == pytest.approx(last, rel=0.1)
    assert model.fit(X, other).preprocessor_.get_feature_names_out().tolist() == names


def test_a_column_of_codes_without_any_number_is_refused_in_a_warm_start():
    X, y = shops()
    model = GNRegressor(**SMALL).fit(X, y).set_params(warm_start=True)
    with pytest.raises(ValueError, match="warm_start=True needs"):
        model.fit(np.c_[X[:, 0], np.full(len(X), np.nan)], y)


def test_a_warm_start_whose_codes_are_names_now_is_refused():
    X, y = shops()
    model = GNRegressor(**SMALL).fit(pd.DataFrame(X, columns=["line", "shop"]), y).set_params(warm_start=True)
    before = model.predict(pd.DataFrame(X[:5], columns=["line", "shop"]))
    named = pd.DataFrame({"line": X[:, 0], "shop": [f"shop {number:g}" for number in X[:, 1]]})
    with pytest.raises(ValueError, match="warm_start=True needs the columns"):
        model.fit(named, y)
    np.testing.assert_array_equal(model.predict(pd.DataFrame(X[:5], columns=["line", "shop"])), before)


def test_numbers_are_codes_of_several_targets():
    X, y = shops()
    other = np.random.default_rng(5).normal(size=20)[X[:, 1].astype(int) - 100] - X[:, 0]
    model = GNRegressor(**SMALL).fit(X, np.column_stack([y, other]))
    assert model.preprocessor_.get_feature_names_out().tolist()[2:4] == ["x1_0", "x1_1"]


def test_blocks_leave_numbers_as_they_are():
    X, y = shops()
    assert GNRegressor(**SMALL).partial_fit(X, y).preprocessor_ is None


def test_blocks_after_a_fit_keep_its_codes():
    X, y = shops()
    model = GNRegressor(**SMALL).fit(X, y)
    before = model.preprocessor_.transform(X)
    np.testing.assert_array_equal(model.partial_fit(X[:100], y[:100] + 5).preprocessor_.transform(X), before)


def test_codes_are_stored_and_exported(tmp_path, one_registry):
    onnxruntime = pytest.importorskip("onnxruntime")
    X, y = shops()
    X[::7, 1] = np.nan
    model = GNRegressor(**SMALL | {"hidden_layer_sizes": (), "n_estimators": 1}).fit(X, y)
    assert summarize(model).codes == ("x1",)
    new = np.vstack([X[:30], [[0.0, 99.0], [0.5, 119.5], [0.0, 130.0], [-0.5, 100.0], [1.0, np.nan]]])
    expected = model.predict(new)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).predict(new), expected)
    np.testing.assert_allclose(to_torch(model)(torch.from_numpy(new)).detach().numpy(), expected, rtol=1e-10)
    to_onnx(model, tmp_path / "model.onnx", return_std=False)
    run = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(run.run(None, {"X": new})[0], expected, rtol=1e-4)


def test_codes_that_float32_cannot_tell_apart_are_not_exported_in_it(tmp_path):
    pytest.importorskip("onnxscript")
    X, y = shops()
    model = GNRegressor(**SMALL).fit(X + np.array([0, 2**24]), y)
    with pytest.raises(ValueError, match="cannot tell the numbers of feature 1 apart"):
        to_onnx(model, tmp_path / "model.onnx", dtype="float32")
    assert not list(tmp_path.iterdir())


def test_what_is_measured_once_for_each_shop_is_a_code_of_it():
    """A measure of each shop that tells nothing of its effect but which shop it is."""
    X, y = shops(900)
    measures = np.random.default_rng(1).normal(size=200)
    measured = np.column_stack([X[:, 0], measures[X[:, 1].astype(int)]])
    model = GNRegressor(n_estimators=2, random_state=0).fit(measured[:600], y[:600])
    assert summarize(model).codes == ("x1",)
    # The noise leaves 0.97.
    assert model.score(measured[600:], y[600:]) > 0.94
    exported = to_torch(model)(torch.tensor(measured[600:])).detach().numpy()
    np.testing.assert_allclose(exported, model.predict(measured[600:]), atol=1e-9)
    # Classes have whole numbers alone.
    assert summarize(GNClassifier(**SMALL).fit(measured, y > 0)).codes == ()
    assert summarize(GNClassifier(**SMALL).fit(X, y > 0)).codes == ("x1",)


def test_codes_are_found_where_metadata_are_routed():
    X, y = shops()
    with config_context(enable_metadata_routing=True):
        assert find_codes(X, X, y[:, None]).tolist() == [1]


@pytest.mark.parametrize("n_columns, squares", [(250, True), (251, False)])
def test_squares_of_many_columns_are_left_out(n_columns, squares):
    """With 784 columns, 5,000 rows and ten classes they took 34 seconds before a fit began, for 6."""
    X = np.random.default_rng(0).uniform(-1, 1, (700, n_columns))
    told = predict_left_out(X, np.square(X[:, :1]))
    assert (np.corrcoef(told[:, 0], np.square(X[:, 0]))[0, 1] > 0.9) == squares


@pytest.mark.parametrize("max_time, n_rows", [(None, 20_000), (2, 1200)])
def test_little_time_is_for_codes_in_few_rows(max_time, n_rows, monkeypatch):
    """Codes and interactions of 20,000 rows took 3.5 of the 2 seconds of a fit, whose result was a constant."""
    asked = []
    monkeypatch.setattr("skgn.inputs.find_codes", lambda X, *rest: asked.append(len(X)) or np.zeros(0, dtype=int))
    monkeypatch.setattr("skgn.inputs.find_interactions", lambda rows: asked.append(len(rows.Y)) or [])
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"town": rng.integers(0, 12, 21_000).astype(str), "x": rng.normal(size=21_000)})
    model = GNRegressor((), n_estimators=1, max_iter=1, max_time=max_time)
    model.fit(X, rng.normal(size=21_000))
    assert asked == [n_rows, n_rows]
