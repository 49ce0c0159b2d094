"""Tables of numbers and categories with missing cells, against preprocessing written by hand."""

import pickle
import warnings
from datetime import date

import numpy as np
import pytest
import torch
from sklearn import config_context
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.exceptions import ConvergenceWarning
from sklearn.impute import SimpleImputer
from sklearn.inspection import partial_dependence
from sklearn.metrics import log_loss, r2_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, TargetEncoder

from skgn import GNClassifier, GNRegressor, diagnose
from skgn.encoders import column_features, encode_training_rows, make_encoder
from skgn.estimator import network_on
from skgn.export import to_torch
from skgn.status import Status
from skgn.tables import MOST_LEVELS, TableReader
from skgn.unfamiliar import UnfamiliarDataWarning
from skgn.weighted_rows import merge_rows

pd = pytest.importorskip("pandas")

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

ESTIMATORS = [GNRegressor, GNClassifier]
UNSEEN = pytest.mark.filterwarnings("ignore:No cell of column")
NEW_CELLS = pytest.mark.filterwarnings(r"ignore:\d+ of \d+ rows of X have (levels|missing cells)")
SMALL = {"hidden_layer_sizes": (3,), "n_estimators": 1, "max_iter": 4, "random_state": 0}
#: A convex problem, trained to the end: what it predicts does not depend on where it starts.
LINEAR = SMALL | {"hidden_layer_sizes": (), "l2_regularization": 1e-2, "max_iter": 100, "tol": 1e-8}


def rooms(n=120, seed=0):
    """Rooms for rent: two numbers, one of them with missing cells, and two categories, one with missing cells."""
    rng = np.random.default_rng(seed)
    table = pd.DataFrame({"size": rng.uniform(20, 120, n)})
    table["town"] = rng.choice(["Aachen", "Bonn", "Celle"], n)
    table["storey"] = rng.integers(0, 6, n).astype(float)
    table.loc[::7, "storey"] = np.nan
    table["heating"] = rng.choice(["gas", "oil"], n).astype(object)
    table.loc[3::9, "heating"] = None
    rent = table["size"] / 20 + 2 * (table["town"] == "Bonn") + table["heating"].isna() + rng.normal(0, 0.3, n)
    return table, rent.to_numpy()


def target(estimator, y):
    return y if estimator is GNRegressor else np.where(y > np.median(y), "dear", "cheap")


def outputs(model, X):
    return model.predict(X) if isinstance(model, GNRegressor) else model.predict_proba(X)


def by_hand(model):
    """The same model behind a preprocessor of one's own."""
    numbers, categories = ["size", "storey"], ["town", "heating"]
    return make_pipeline(
        make_column_transformer(
            (SimpleImputer(strategy="median", add_indicator=True), numbers),
            (OneHotEncoder(handle_unknown="ignore", sparse_output=False), categories),
        ),
        model,
    )


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_a_table_gives_what_a_pipeline_by_hand_gives(estimator):
    X, rent = rooms()
    y = target(estimator, rent)
    model = estimator(**SMALL).fit(X[:90], y[:90])
    pipeline = by_hand(estimator(**SMALL)).fit(X[:90], y[:90])
    np.testing.assert_array_equal(
        outputs(model, X), pipeline.predict(X) if estimator is GNRegressor else (pipeline.predict_proba(X))
    )
    encoded = pipeline[0].transform(X)
    np.testing.assert_array_equal(model.preprocessor_.transform(X), encoded)
    # As if every column had been a feature; the columns of a feature come together, and their shares nearly add up.
    assert model.feature_relevance_.shape == (4,)
    assert model.feature_relevance_.sum() == pytest.approx(1)


def test_columns_are_named_and_known_by_feature():
    X, rent = rooms()
    model = GNRegressor(**SMALL).fit(X, rent)
    assert model.preprocessor_.get_feature_names_out().tolist() == [
        *("size", "storey", "missingindicator_storey"),
        *("town_Aachen", "town_Bonn", "town_Celle", "heating_gas", "heating_oil", "heating_missing"),
    ]
    assert column_features(model.preprocessor_[-1]).tolist() == [0, 2, 2, 1, 1, 1, 3, 3, 3]
    assert model.feature_names_in_.tolist() == list(X.columns)
    assert model.feature_relevance_[1] > 0.2 > model.feature_relevance_[2]


def frames(X):
    """One table in every form that it may have."""
    polars, arrow = pytest.importorskip("polars"), pytest.importorskip("pyarrow")
    categories = X.astype({"town": "category", "heating": "category"})
    record = X.astype(object).where(X.notna(), None).to_dict("list")
    return {
        "category": categories,
        "string": X.astype({"town": "string", "heating": "string", "storey": "Float64"}),
        "pyarrow types": categories.convert_dtypes(dtype_backend="pyarrow"),
        "pyarrow table": arrow.table(record),
        "polars": polars.DataFrame(record),
        "polars categories": polars.DataFrame(record).cast({"town": polars.Categorical, "heating": polars.Categorical}),
        "polars enumeration": polars.DataFrame(record).cast({"town": polars.Enum(["Celle", "Bonn", "Aachen"])}),
    }


def test_frames_of_every_library_give_the_same():
    X, rent = rooms()
    model = GNRegressor(**SMALL).fit(X, rent)
    predicted = model.predict(X)
    for name, frame in frames(X).items():
        other = clone(model).fit(frame, rent)
        np.testing.assert_array_equal(other.predict(frame), predicted, err_msg=name)
        if hasattr(other, "feature_names_in_"):  # older versions of scikit-learn find none in a table of pyarrow
            np.testing.assert_array_equal(model.predict(frame), predicted, err_msg=name)
    array = clone(model).set_params(categorical_features=[1, 3]).fit(X.to_numpy(), rent)
    np.testing.assert_array_equal(array.predict(X.to_numpy()), predicted)


@pytest.mark.parametrize("given", [["heating", "town"], [3, 1], [False, True, False, True], np.array([1, 3])], ids=str)
def test_categories_may_be_named_counted_or_masked(given):
    X, rent = rooms()
    expected = GNRegressor(**SMALL).fit(X, rent).predict(X)
    np.testing.assert_array_equal(GNRegressor(**SMALL, categorical_features=given).fit(X, rent).predict(X), expected)


def test_numbers_can_be_categories():
    X, rent = rooms()
    rooms_by_code = X.assign(town=X["town"].map({"Aachen": 10, "Bonn": 30, "Celle": 20}))
    as_numbers = GNRegressor(**LINEAR).fit(rooms_by_code, rent)
    as_categories = GNRegressor(**LINEAR, categorical_features=["town", "heating"]).fit(rooms_by_code, rent)
    named = GNRegressor(**LINEAR).fit(X, rent)
    np.testing.assert_allclose(as_categories.predict(rooms_by_code), named.predict(X), rtol=1e-6)
    assert np.abs(as_numbers.predict(rooms_by_code) - named.predict(X)).max() > 0.1


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_names_of_levels_mean_nothing(estimator):
    X, rent = rooms()
    y = target(estimator, rent)
    renamed = X.assign(town=X["town"].map({"Aachen": "z", "Bonn": "x", "Celle": "y"}))
    model, other = estimator(**LINEAR).fit(X, y), estimator(**LINEAR).fit(renamed, y)
    np.testing.assert_allclose(outputs(model, X), outputs(other, renamed), rtol=1e-5)


@UNSEEN
def test_a_level_not_seen_is_none_of_those_seen():
    X, rent = rooms()
    model = GNRegressor(**SMALL).fit(X, rent)
    stranger = X.assign(town="Dresden")
    encoded = model.preprocessor_.transform(stranger)
    assert not encoded[:, 3:6].any()
    plain = GNRegressor(**SMALL).fit(model.preprocessor_.transform(X), rent)
    np.testing.assert_array_equal(model.predict(stranger), plain.predict(encoded))


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_missing_numbers_are_medians_with_an_indicator(estimator):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(90, 3))
    X[::5, 1] = np.nan
    y = target(estimator, X[:, 0] + np.isnan(X[:, 1]))
    model = estimator(**SMALL).fit(X, y)
    indicator = np.isnan(X[:, 1])
    filled = X.copy()
    filled[indicator, 1] = np.median(X[~indicator, 1])
    by_hand = estimator(**SMALL).fit(np.column_stack([filled, indicator]), y)
    np.testing.assert_array_equal(outputs(model, X), outputs(by_hand, np.column_stack([filled, indicator])))
    # Missing where none was in training: the median, and no indicator.
    late, late_filled = X.copy(), X.copy()
    late[:4, 2], late_filled[:4, 2] = np.nan, np.median(X[:, 2])
    np.testing.assert_array_equal(outputs(model, late), outputs(model, late_filled))


def test_complete_numbers_are_not_touched_and_may_be_missing_later():
    X, rent = rooms()
    numbers = X[["size"]].assign(hot=X["town"] == "Bonn")
    model = GNRegressor(**SMALL).fit(numbers, rent)
    assert model.preprocessor_ is None
    lost = numbers.astype(float)
    lost.loc[:4, "size"] = np.nan
    np.testing.assert_array_equal(model.predict(lost), model.predict(lost.fillna(numbers["size"].median())))
    # Python numbers in a column of objects are numbers, and so are truth values.
    objects = numbers.astype({"size": object, "hot": float})
    np.testing.assert_array_equal(clone(model).fit(objects, rent).predict(objects), model.predict(numbers))


def crowded(n=300, seed=0):
    """A number, and a category of more levels than have a column each; y depends on the level."""
    rng = np.random.default_rng(seed)
    street = rng.integers(0, MOST_LEVELS + 10, n)
    effect = rng.normal(size=MOST_LEVELS + 10)
    X = pd.DataFrame({"size": rng.normal(size=n), "street": [f"s{code:02d}" for code in street]})
    return X, effect[street] + 0.1 * rng.normal(size=n)


@UNSEEN
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_many_levels_are_the_smoothed_mean_target(estimator):
    X, y = crowded()
    y = target(estimator, y)
    model = estimator(**SMALL).fit(X, y)
    codes = y if estimator is GNRegressor else (y == model.classes_[1]).astype(float)
    reference = TargetEncoder(target_type="continuous" if estimator is GNRegressor else "binary")
    expected = reference.fit(X[["street"]], codes).transform(X[["street"]])[:, 0]
    # The other column tells nothing, so that little is adjusted.
    np.testing.assert_allclose(model.preprocessor_.transform(X)[:, 1], expected, atol=0.1)
    # A level not seen has the mean of all rows.
    stranger = model.preprocessor_.transform(X[:1].assign(street="new"))
    assert stranger[0, 1] == pytest.approx(codes.mean())
    assert model.feature_relevance_[1] > 0.5


@pytest.mark.parametrize("of_numbers", [False, True])
def test_a_missing_cell_is_a_level_with_a_code(of_numbers):
    X, y = crowded()
    if of_numbers:
        X["street"] = X["street"].str[1:].astype(float)
    missing = np.arange(len(X)) % 5 == 0
    X.loc[missing, "street"] = np.nan if of_numbers else None
    model = GNRegressor(**SMALL).fit(X, np.where(missing, 7.0, y))
    assert model.preprocessor_.transform(X)[missing, -1] == pytest.approx(7, abs=0.2)


@pytest.mark.parametrize("size", [2.0**-900, 2.0**600, 2.0**900])
def test_target_codes_are_known_where_squares_of_targets_are_no_floats(size):
    X, y = crowded()
    model = GNRegressor(**SMALL).fit(X, size * y)
    expected = GNRegressor(**SMALL).fit(X, y).preprocessor_.transform(X)[:, 1]
    # In the unit of the largest target.
    np.testing.assert_allclose(model.preprocessor_.transform(X)[:, 1], expected / np.abs(y).max())
    assert r2_score(y, model.predict(X) / size) > 0.9


def test_targets_of_any_sizes_have_their_codes():
    X, y = crowded()
    reader = TableReader([1]).fit(X)
    rows, sizes = reader.transform(X), np.array([1e-250, 1.0, 1e250])
    encoder = make_encoder(reader, rows, 3)
    codes = encode_training_rows(encoder, rows, y[:, None] * sizes, np.ones(len(X)))[:, 1:]
    # In units of their own, where squares of a target are no floats.
    np.testing.assert_allclose(codes * [np.abs(y).max(), 1, np.abs(y).max()], codes[:, [1, 1, 1]], rtol=1e-6)
    assert np.corrcoef(codes[:, 0], y)[0, 1] > 0.9


@pytest.mark.filterwarnings("ignore:Failed. extreme targets:UserWarning")
@pytest.mark.parametrize("loss", ["huber", "cauchy"])
def test_gross_errors_that_a_loss_forgives_are_not_the_mean_of_a_level(loss):
    X, y = crowded(600)
    wrong = np.random.default_rng(1).random(600) < 0.1
    spoiled = np.where(wrong, y + np.where(np.arange(600) % 2, 40.0, -40.0), y)
    means = pd.Series(y).groupby(X["street"]).mean()[X["street"]].to_numpy()
    off = {}
    for name in (loss, "squared_error"):
        model = GNRegressor(**SMALL | {"max_iter": 1}, loss=name).fit(X, spoiled)
        off[name] = np.sqrt(np.mean((model.preprocessor_.transform(X)[:, 1] - means) ** 2)) / np.std(means)
    # Predictions of a squared error are means, whatever they are.
    assert off[loss] < 0.5 < 1 < off["squared_error"]


@pytest.mark.filterwarnings("ignore:No column of X tells rows apart:UserWarning")
def test_target_codes_of_a_row_do_not_know_its_target():
    # Each row has a level of its own: the code of a level is then its target, unless the row is left out.
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"row": [f"r{i}" for i in range(200)]})
    model = GNRegressor(**SMALL).fit(X, rng.normal(size=200))
    assert model.noise_std_ > 0.8
    # Neither do those of rows kept for early stopping: with any leak they would be predicted.
    stopped = GNRegressor(**SMALL, early_stopping=True, validation_fraction=0.5).fit(X, rng.normal(size=200))
    assert len(stopped.preprocessor_[-1].named_transformers_["target"].categories_[0]) == 100


@pytest.mark.parametrize("beside", [False, True], ids=["repeated rows", "rows that come once"])
def test_an_exact_relation_is_exact_on_new_rows(beside):
    """Codes that differ within a level told the part of a row: left-out scores of 0.99, and of 0.5 on new rows."""
    rng = np.random.default_rng(0)
    name, size = rng.integers(0, 16, 600), rng.integers(0, 3, 600)
    prices = np.sort(rng.choice([9.75, 10.5, 12, 12.5, 16, 16.5, 20.25, 20.75], (16, 3)), axis=1)
    X = pd.DataFrame({"name": [f"p{i}" for i in name], "size": np.array(["S", "M", "L"])[size]})
    if beside:
        X["chance"] = rng.normal(size=600)
    y = prices[name, size]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = GNRegressor(n_estimators=2, random_state=0).fit(X[:400], y[:400])
    found = model.score(X[400:], y[400:])
    assert found > 0.9 and model.left_out_score_ == pytest.approx(found, abs=0.05)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_frequent_levels_have_the_codes_of_later_rows(estimator):
    """Levels of ten observations; those of rarer levels come from other rows."""
    X, y = crowded(160)
    y = target(estimator, y)
    reader = TableReader([1]).fit(X)
    rows = reader.transform(X)
    codes = y if estimator is GNRegressor else (y == np.unique(y)[1]).astype(float)
    weight = np.ones(len(X))
    weight[:20] = 4.0
    encoder = make_encoder(reader, rows, 1)
    trained = encode_training_rows(encoder, rows, codes[:, None], weight)
    observations = np.bincount(rows[:, 1].astype(int), weights=weight)[rows[:, 1].astype(int)]
    same = (trained == encoder.transform(rows)).all(axis=1)
    assert same[observations >= 10].all() and not same[observations < 10].all()
    assert 0 < same.mean() < 1


def test_codes_of_many_categories_of_noise_promise_nothing():
    """The codes of ten columns had a half of each label's own noise: D2 of -0.01 went with a promise of 0.37."""
    rng = np.random.default_rng(0)
    X = pd.DataFrame({f"c{j}": rng.integers(0, 25, 2300).astype(str) for j in range(10)})
    X["x"] = rng.normal(size=2300)
    y = (rng.random(2300) < 1 / (1 + np.exp(-1.5 * X["x"]))).to_numpy()
    model = GNClassifier(n_estimators=2, random_state=0).fit(X[:300], y[:300])
    found = 1 - log_loss(y[300:], model.predict_proba(X[300:])) / log_loss(y[300:], np.full(2000, y[300:].mean()))
    assert found > 0.15
    assert model.left_out_score_ < found + 0.1


@UNSEEN
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_target_codes_of_repeated_rows_are_those_of_their_observations(estimator):
    """Repetitions may be rows or weights: the code of a level is the smoothed mean of all of them."""
    X, y = crowded()
    y, repetitions = target(estimator, y), np.random.default_rng(1).integers(1, 6, len(X))
    model = estimator(**SMALL).fit(X, y, sample_weight=repetitions)
    repeated = X.loc[X.index.repeat(repetitions)]
    rows = estimator(**SMALL).fit(repeated, np.repeat(y, repetitions))
    np.testing.assert_array_equal(rows.preprocessor_.transform(X), model.preprocessor_.transform(X))
    np.testing.assert_array_equal(outputs(rows, X), outputs(model, X))


def test_levels_of_one_row_that_comes_often_are_learned():
    """Left out with all of its copies, each level had the code of one not seen in training, and another one later."""
    levels = [f"s{code:02d}" for code in range(MOST_LEVELS + 15)]
    X = pd.DataFrame({"street": np.repeat(levels, 30)})
    y = np.repeat(np.random.default_rng(0).normal(size=len(levels)), 30)
    model = GNRegressor(n_estimators=2, random_state=0).fit(X, y)
    assert model.score(X, y) > 0.99 and model.left_out_score_ > 0.99


@pytest.mark.parametrize("missing", [False, True], ids=["none missing", "some missing"])
def test_a_missing_number_is_the_median_of_the_observations(missing):
    X = np.arange(20.0)[:, None] ** 2
    y, weight = np.sqrt(X[:, 0]), np.r_[np.ones(15), np.full(5, 9)].astype(int)
    known = X[:, 0]
    if missing:
        X[3] = np.nan
        known = np.delete(known, 3)
    median = np.median(np.repeat(known, np.delete(weight, 3) if missing else weight))
    model = GNRegressor(**SMALL).fit(X, y, sample_weight=weight)
    filled = model.preprocessor_.transform([[np.nan]])[0, 0] if missing else model._table.medians[0]
    assert filled == median


@NEW_CELLS
@pytest.mark.parametrize("missing", [False, True], ids=["none missing", "some missing"])
def test_a_missing_number_of_float32_is_the_same_median(missing):
    """Numbers that float32 holds, whose median it does not."""
    X, y = 1e7 + np.arange(20.0)[:, None], np.arange(20.0)
    assert np.float32(np.median(X)) != np.median(X)
    model = GNRegressor(**LINEAR).fit(np.vstack([X, [[np.nan]]]) if missing else X, np.r_[y, y.mean()][: 20 + missing])
    expected = model.predict([[np.nan]] if missing else [[np.median(X)]])
    np.testing.assert_allclose(model.predict(np.array([[np.nan]], dtype=np.float32)), expected, rtol=1e-6)


def test_weights_without_end_are_few_observations():
    """Rows are repeated as often as their weights say, but not for ever."""
    X, y = crowded()
    weight = np.random.default_rng(1).integers(1, 6, len(X))
    model, heavy = (GNRegressor(**SMALL).fit(X, y, sample_weight=scale * weight) for scale in (100.0, 1e9))
    np.testing.assert_allclose(heavy.preprocessor_.transform(X), model.preprocessor_.transform(X), rtol=1e-3)


def test_rare_levels_are_within_range_beside_a_frequent_one():
    # Codes in training of the level that most rows have must not differ by chance. In units of this spread all other
    # levels would be out of range, and alike.
    rng = np.random.default_rng(0)
    level = np.where(rng.random(2000) < 0.9, 0, rng.integers(1, MOST_LEVELS + 10, 2000))
    X = pd.DataFrame({"street": [f"s{code:02d}" for code in level]})
    y = level + 0.1 * rng.normal(size=2000)
    model = GNRegressor((), n_estimators=1, random_state=0).fit(X, y)
    assert np.corrcoef(model.predict(X)[level > 0], y[level > 0])[0, 1] > 0.9


def test_codes_that_hardly_differ_are_hardly_told_apart():
    """Ranks of later codes told levels of one label apart, where training had no codes: 0 % sure for 100 %."""
    rng = np.random.default_rng(0)
    level = np.repeat(np.arange(60), rng.integers(2, 6, 60))
    has, n = np.arange(6 * len(level)) < len(level), 6 * len(level)
    X = pd.DataFrame({"x": rng.normal(size=n), "picture": [f"u{i}" for i in level] + [None] * (n - len(level))})
    model = GNClassifier(standardize="periodic", max_iter=1, n_estimators=1, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(X, has)
    codes = model.preprocessor_.transform(X)
    scores = model._table.scale(codes)["periodic"][:, 1]
    assert np.ptp(codes[has, 1]) < 1e-3 < 1 < scores[has].min() - scores[~has].max()
    assert np.ptp(scores[has]) < 1e-3


def test_three_classes_have_a_target_code_each():
    X, y = crowded()
    classes = np.digitize(y, np.quantile(y, [1 / 3, 2 / 3]))
    model = GNClassifier(**SMALL).fit(X, classes)
    assert model.preprocessor_.transform(X).shape == (300, 4)
    assert column_features(model.preprocessor_[-1]).tolist() == [0, 1, 1, 1]
    assert model.score(X, classes) > 0.6 > model.feature_relevance_[0]


@pytest.mark.parametrize("absent", [0, 1])
def test_two_classes_with_rows_of_three_have_one_target_code(absent):
    """Those of a class of weight 0 are not there, for the codes as for all else."""
    X, y = crowded()
    classes = np.digitize(y, np.quantile(y, [1 / 3, 2 / 3]))
    present = classes != absent
    model = GNClassifier(**SMALL, class_weight={absent: 0.0}).fit(X, classes)
    reference = TargetEncoder(target_type="binary").fit(X[["street"]][present], classes[present])
    expected = reference.transform(X[["street"]])[:, 0]
    np.testing.assert_allclose(model.preprocessor_.transform(X)[:, 1:], expected[:, None], atol=0.1)
    assert model.predict_proba(X).shape == (300, 3) and (model.predict(X) != absent).mean() > 0.9


@UNSEEN
def test_where_there_is_no_target_code_frequent_levels_have_columns():
    X, y = crowded()
    X = X[:200]
    model = GNRegressor(**SMALL).partial_fit(X, y[:200])
    names = model.preprocessor_.get_feature_names_out()
    frequent = X["street"].value_counts()
    assert len(names) == 1 + MOST_LEVELS and names[-1] == "street_others"
    assert f"street_{frequent.index[0]}" in names and f"street_{frequent.index[-1]}" not in names
    stranger = model.preprocessor_.transform(X[:1].assign(street="new"))
    assert stranger[0, -1] == 1 and not stranger[0, 1:-1].any()


@pytest.mark.parametrize("of_labels", [False, True])
def test_each_of_several_targets_has_a_code(of_labels):
    """Without codes R2 was 0.56 where each target alone had 0.96."""
    rng = np.random.default_rng(0)
    street, x, effects = rng.integers(40, size=2500), rng.normal(size=2500), rng.normal(size=(40, 2))
    Y = 2 * effects[street] + x[:, None] + 0.3 * rng.normal(size=(2500, 2))
    X = pd.DataFrame({"x": x, "street": [f"s{i}" for i in street]})
    Y = (Y > 0).astype(int) if of_labels else Y * [1.0, 1e6]
    model = (GNClassifier if of_labels else GNRegressor)(n_estimators=1, random_state=0).fit(X[:1000], Y[:1000])
    assert model.preprocessor_.get_feature_names_out().tolist()[:3] == ["x", "street_0", "street_1"]
    codes = model.preprocessor_.transform(X[1000:])[:, 1:3]
    told = np.corrcoef(np.column_stack([codes, effects[street[1000:]]]).T)[:2, 2:]
    assert told.diagonal().min() > 0.9 > 0.5 > np.abs(np.fliplr(told).diagonal()).max()
    assert model.score(X[1000:], Y[1000:]) > (0.75 if of_labels else 0.93)
    exported = to_torch(model)(torch.from_numpy(model.preprocessor_[0].transform(X[1000:1050]))).detach().numpy()
    expected = model.predict_proba(X[1000:1050]) if of_labels else model.predict(X[1000:1050])
    np.testing.assert_allclose(exported, expected, rtol=1e-8)


@UNSEEN
def test_quantiles_of_a_target_share_its_code():
    X, y = crowded()
    model = GNRegressor(**SMALL | {"loss": "quantile", "quantile": [0.1, 0.9]}).fit(X, y)
    assert model.preprocessor_.get_feature_names_out().tolist() == ["size", "street"]
    # Targets that tell each other are one target.
    both = GNRegressor(**SMALL).fit(X, np.column_stack([y, -y]))
    assert both.preprocessor_.get_feature_names_out().tolist() == ["size", "street"]


@UNSEEN
def test_blocks_go_through_the_preprocessor_of_the_first():
    X, rent = rooms()
    model = GNRegressor(**SMALL).partial_fit(X[:80], rent[:80])
    before = model.preprocessor_.transform(X)
    with pytest.warns(UnfamiliarDataWarning):
        model.partial_fit(X[80:].assign(town="Dresden", size=np.nan), rent[80:])
    np.testing.assert_array_equal(model.preprocessor_.transform(X), before)
    assert np.isfinite(model.predict(X)).all()


#: What a table became between two fits, and how the columns tell: as many as before in the first three.
OTHER_COLUMNS = {
    "level": (lambda X: X.replace({"town": {"Celle": "Dresden"}}), "town_Celle.*town_Dresden"),
    "missing": (lambda X: X.assign(size=X["storey"], storey=X["size"]), "indicator_storey.*indicator_size"),
    "category": (lambda X: X.assign(heating=X["town"], town=X["heating"]), "town_Aachen.*heating_Aachen"),
    "fewer levels": (lambda X: X.replace({"town": {"Celle": "Bonn"}}), "town_Celle.*none"),
    "order": (lambda X: X[X.columns[::-1]], "another order now"),
    "complete": (lambda X: X[["size"]].assign(storey=0.0, town=1.0, heating=2.0), "town_Aachen.*none"),
}


@pytest.mark.parametrize("change", OTHER_COLUMNS)
def test_warm_start_refuses_other_columns(change):
    X, rent = rooms()
    model = GNRegressor(**SMALL, warm_start=True).fit(X, rent)
    expected = model.predict(X)
    changed, message = OTHER_COLUMNS[change]
    with pytest.raises(ValueError, match=f"warm_start=True needs the columns .*{message}"):
        model.fit(changed(X), rent)
    np.testing.assert_array_equal(model.predict(X), expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [(lambda X: X[["storey", "size"]], "another order"), (lambda X: X.rename(columns={"size": "area"}), "size.*area")],
)
def test_warm_start_refuses_other_names_of_numbers(change, message):
    X, rent = rooms()
    X = X[["size", "storey"]].fillna(0.0)
    model = GNRegressor(**SMALL, warm_start=True).fit(X, rent)
    with pytest.raises(ValueError, match=f"warm_start=True needs the columns .*{message}"):
        model.fit(change(X), rent)
    # An array has no names.
    model.fit(X.to_numpy(), rent).fit(X, rent)


def test_warm_start_goes_on_with_the_same_columns():
    X, rent = rooms()
    model = GNRegressor(**LINEAR, warm_start=True).fit(X, rent)
    # Other rows, but the same levels: Bonn of a single row, which others have left for Celle.
    model.fit(X[1:].assign(town=X["town"].where(X["town"] != "Bonn", "Celle").where(X.index != 5, "Bonn")), rent[1:])
    assert Status(model.status_).converged


@NEW_CELLS
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_weights_are_repetitions_of_rows_of_a_table(estimator):
    X, rent = rooms()
    y = target(estimator, rent)
    count = np.random.default_rng(1).integers(0, 3, len(y))
    # Rows of weight 0 have a level, and missing cells, that no other row has.
    X.loc[count == 0, "town"] = "Abroad"
    X.loc[count == 0, "size"] = np.nan
    weighted = estimator(**SMALL).fit(X, y, count.astype(float))
    repeated = np.random.default_rng(2).permutation(np.repeat(np.arange(len(y)), count))
    rows = estimator(**SMALL).fit(X.iloc[repeated], y[repeated])
    np.testing.assert_array_equal(outputs(weighted, X), outputs(rows, X))
    assert "town_Abroad" not in weighted.preprocessor_.get_feature_names_out()


def test_missing_cells_are_equal_when_rows_are_merged():
    other_nan = np.array([0xFFF8000000000001], dtype=np.uint64).view(np.float64)[0]
    X = np.array([[np.nan, 1.0], [other_nan, 1.0], [0.0, 1.0], [-np.nan, 1.0]])
    Xm, _, weight = merge_rows(X, np.zeros((4, 1)), np.array([1.0, 2.0, 4.0, 8.0]))
    assert len(Xm) == 2 and sorted(weight) == [4.0, 11.0]


@UNSEEN
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_a_validation_set_goes_the_same_way(estimator):
    X, rent = rooms()
    y = target(estimator, rent)
    parameters = SMALL | {"early_stopping": True, "l2_regularization": 1e-3}
    late = X[90:].assign(town="Dresden")
    model = estimator(**parameters).fit(X[:90], y[:90], X_val=late, y_val=y[90:])
    encode = model.preprocessor_.transform
    plain = estimator(**parameters).fit(encode(X[:90]), y[:90], X_val=encode(late), y_val=y[90:])
    np.testing.assert_array_equal(model.history_["validation_loss"], plain.history_["validation_loss"])


REFUSED = {
    "unknown name": ({"categorical_features": ["city"]}, {}, ValueError, "categorical_features.*city.*not among"),
    "position": ({"categorical_features": [1, 4]}, {}, ValueError, r"categorical_features.*\[4\].*4 features"),
    "mask": ({"categorical_features": [True, False]}, {}, ValueError, "mask of 2 features, but X has 4"),
    "mixture": ({"categorical_features": ["town", 1]}, {}, ValueError, "categorical_features.*all names"),
    "word": ({"categorical_features": "all"}, {}, ValueError, "categorical_features.*from_dtype"),
    "not a category": ({"categorical_features": ["town"]}, {}, ValueError, "heating.*no numbers.*categorical_features"),
    "infinite": ({}, {"size": np.inf}, ValueError, "X contains infinity"),
    "infinite level": ({"categorical_features": [0, 1, 3]}, {"size": np.inf}, ValueError, "X contains infinity.*size"),
    "date": ({}, {"size": pd.Timestamp("2026-01-01")}, TypeError, "size.*datetime.*neither a number nor a category"),
    "date among objects": (
        {},
        {"town": 60 * ["Bonn", date(2026, 1, 1)]},
        TypeError,
        "town.*type date in row 1,.*neither",
    ),
    "list": ({}, {"town": 120 * [[1, 2]]}, TypeError, "town.*type list in row 0,.*neither"),
    "list as a category": (
        {"categorical_features": ["town", "heating"]},
        {"town": 120 * [[1, 2]]},
        TypeError,
        "town.*no levels of a category.*list",
    ),
    "cells without an order": ({}, {"town": 40 * ["Bonn", 1, Ellipsis]}, TypeError, "town.*no levels of a category"),
    "complex": ({}, {"size": 1j}, TypeError, "size.*complex.*neither a number nor a category"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_no_column_can_be_is_refused_by_name(case):
    parameters, cells, error, message = REFUSED[case]
    X, rent = rooms()
    with pytest.raises(error, match=message):
        GNRegressor(**SMALL | parameters).fit(X.assign(**cells), rent)


def test_names_need_a_table_with_names():
    X, rent = rooms()
    with pytest.raises(ValueError, match="without names: use positions"):
        GNRegressor(categorical_features=["town"]).fit(X.to_numpy(), rent)
    with pytest.raises(ValueError, match="convert string"):
        GNRegressor(**SMALL).fit(X.to_numpy(), rent)


def test_other_columns_at_predict_are_refused():
    X, rent = rooms()
    model = GNRegressor(**SMALL).fit(X, rent)
    with pytest.raises(ValueError, match="feature names should match"):
        model.predict(X[X.columns[::-1]])
    with pytest.raises(ValueError, match="feature names should match"):
        model.predict(X.rename(columns={"town": "city"}))
    with pytest.raises(ValueError, match="3 features"):
        GNRegressor(**SMALL, categorical_features=[1, 3]).fit(X.to_numpy(), rent).predict(X.to_numpy()[:, :3])
    with pytest.raises(ValueError, match="X contains infinity"):
        model.predict(X.assign(size=np.inf))


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_the_rest_of_the_package_and_of_scikit_learn_takes_tables(estimator):
    X, rent = rooms()
    y = target(estimator, rent)
    model = estimator(**SMALL).fit(X[:90], y[:90])
    report = diagnose(model, X[90:], y[90:], verbose=False)
    assert report["features"].numbers["n_features"] == 4
    assert report["effective"].numbers["linear"] == 10
    loaded = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(outputs(loaded, X), outputs(model, X))
    assert b"torch" not in pickle.dumps(model)
    town = partial_dependence(model, X, ["town"], categorical_features=["town"])
    rises = town["average"][0]
    assert rises[1] > rises[0] if estimator is GNRegressor else len(rises) == 3
    objective, w = network_on(model, X[:90], y[:90])
    assert float(objective.evaluate(w).loss) == pytest.approx(model.loss_, rel=1e-6)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_frames_as_output_of_transformers_change_nothing(estimator):
    X, rent = rooms()
    y = target(estimator, rent)
    expected = outputs(estimator(**SMALL).fit(X, y), X)
    with config_context(transform_output="pandas"):
        model = estimator(**SMALL).fit(X, y)
        np.testing.assert_array_equal(outputs(model, X), expected)
    encoded = model.preprocessor_.set_output(transform="pandas").transform(X)
    assert encoded.shape == (len(X), len(model.preprocessor_.get_feature_names_out()))
    np.testing.assert_array_equal(outputs(model, X), expected)


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_the_preprocessor_gives_frames_with_the_names_of_its_columns(library):
    frames = pytest.importorskip(library)
    X, y = crowded()
    X = X.assign(storey=X["size"].where(X.index % 7 > 0), town=np.where(y > 0, "Aachen", "Bonn"))
    X.index += 1000
    preprocessor = GNRegressor(**SMALL).fit(X, y).preprocessor_
    columns = preprocessor.transform(X)
    assert isinstance(columns, np.ndarray)
    table = preprocessor.set_output(transform=library).transform(X)
    assert isinstance(table, frames.DataFrame)
    names = ["size", "storey", "missingindicator_storey", "town_Aachen", "town_Bonn", "street"]
    assert list(table.columns) == list(preprocessor.get_feature_names_out()) == names
    np.testing.assert_array_equal(table.to_numpy(), columns)
    np.testing.assert_array_equal(table["town_Bonn"].to_numpy(), (X["town"] == "Bonn").to_numpy())
    again = clone(preprocessor).fit_transform(X, y)
    assert list(again.columns) == names and abs(again["street"].to_numpy() - table["street"].to_numpy()).max() > 0.01
    if library == "pandas":
        assert table.index.equals(X.index)
        with config_context(transform_output="pandas"):
            assert list(GNRegressor(**SMALL).fit(X, y).preprocessor_.transform(X).columns) == names


def test_the_preprocessor_tells_what_it_has_learned():
    X, rent = rooms()
    reader, encoder = (step for _, step in GNRegressor(**SMALL).fit(X, rent).preprocessor_.steps)
    assert {reader.feature_names_in_[j]: levels for j, levels in reader.levels_.items()} == {
        "town": ["Aachen", "Bonn", "Celle"],
        "heating": ["gas", "oil"],
    }
    assert {name: X.columns[columns].tolist() for name, _, columns in encoder.transformers_ if name != "remainder"} == {
        "numeric": ["size", "storey"],
        "one_hot": ["town", "heating"],
    }
    assert encoder.named_transformers_["numeric"].statistics_.tolist() == X[["size", "storey"]].median().tolist()


@pytest.mark.filterwarnings("ignore:Column 'code' of X is taken as a category")
def test_levels_that_are_called_alike_have_names_of_their_own():
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"code": rng.choice(np.array([1, "1", "missing", "2", None], dtype=object), 100)})
    preprocessor = GNRegressor(**SMALL).fit(X, rng.normal(size=100)).preprocessor_
    names = ["code_1", "code_'1'", "code_2", "code_'missing'", "code_missing"]
    assert preprocessor.get_feature_names_out().tolist() == names
    table = preprocessor.set_output(transform="pandas").transform(X)
    for name, level in zip(names, [1, "1", "2", "missing", None], strict=True):
        expected = X["code"].isna() if level is None else X["code"].map(lambda cell, level=level: cell == level)
        np.testing.assert_array_equal(table[name] == 1, expected)


def test_dask_refuses_categories_before_any_work():
    frames = pytest.importorskip("dask.dataframe")
    from skgn.dask import DaskGNRegressor

    X, rent = rooms()
    table, y = frames.from_pandas(X, npartitions=2), frames.from_pandas(pd.Series(rent), npartitions=2)
    with pytest.raises(ValueError, match=r"town.*heating.*no distributed form"):
        DaskGNRegressor().fit(table, y)
    with pytest.raises(ValueError, match=r"size.*no distributed form"):
        DaskGNRegressor(categorical_features=[0]).fit(table[["size", "storey"]], y)


@UNSEEN
def test_a_reader_is_a_transformer_with_names():
    X, _ = rooms()
    reader = TableReader([1, 3]).fit(X)
    codes = reader.transform(X)
    assert codes.shape == X.shape and codes[3, 3] != codes[3, 3]
    assert reader.levels_ == {1: ["Aachen", "Bonn", "Celle"], 3: ["gas", "oil"]}
    assert reader.transform(X.assign(town="Dresden"))[:, 1].tolist() == [-1.0] * len(X)
    assert reader.get_feature_names_out().tolist() == list(X.columns)


def test_so_many_indicators_and_no_more():
    rng = np.random.default_rng(0)
    X = pd.DataFrame({f"k{j}": rng.choice(list("abcdefghij"[: 2 + j % 9]), 100) for j in range(40)})
    y = rng.normal(size=100)

    def columns(model, X, y):
        model.set_params(hidden_layer_sizes=(), l2_regularization=1e-3).fit(X, y)
        return model.preprocessor_.get_feature_names_out().tolist()

    # Four times 2 + 3 + ... + 10 levels, and 2 + 3 + 4 + 5; with eleven more columns of two they are more than 250.
    assert len(columns(GNRegressor(**SMALL), X, y)) == 4 * 54 + 14
    X = X.assign(**{f"two{j}": rng.choice(["a", "b"], 100) for j in range(11)})
    assert columns(GNRegressor(**SMALL), X, y) == X.columns.tolist()
    assert columns(GNClassifier(**SMALL), X, y > 0) == X.columns.tolist()
    # A code for each of four classes is no less than indicators for four levels.
    names = columns(GNClassifier(**SMALL), X, rng.integers(0, 4, 100))
    assert len(names) == 5 * (2 + 3 + 4) + 11 * 2 + (40 - 15) * 4 and names[:3] == ["k0_a", "k0_b", "k1_a"]


#: Tables in which a name that is made would be that of a column, or of another name that is made.
CLASHES = {
    "level": ({"town": list("ABC") * 20, "town_A": range(60)}, ["town_A", "town_A (level)", "town_B", "town_C"]),
    "indicator": (
        {"a": [np.nan, 1.0, 2.0] * 20, "missingindicator_a": range(60)},
        ["a", "missingindicator_a", "missingindicator_a (missing)"],
    ),
    "missing": ({"town": ["A", "B", None] * 20, "town_missing": range(60)}, ["town_missing", "town_A", "town_B"]),
    "levels": ({"a": ["b_c", "d"] * 30, "a_b": ["c", "e"] * 30}, ["a_b_c", "a_d", "a_b_c (level)", "a_b_e"]),
    "own": ({"a": list("xy") * 30, "a_x": range(60), "a_x (level)": range(60)}, ["a_x", "a_x (level)"]),
    "no clash": ({"town": list("ABC") * 20, "size": range(60)}, ["size", "town_A", "town_B", "town_C"]),
}


@pytest.mark.parametrize("case", CLASHES)
def test_names_of_columns_never_clash(case):
    cells, names = CLASHES[case]
    X, y = pd.DataFrame(cells), np.arange(60.0) % 7
    model = GNRegressor(**SMALL, warm_start=True).fit(X, y).fit(X, y)
    found = model.preprocessor_.get_feature_names_out().tolist()
    assert len(set(found)) == len(found) and found[: len(names)] == names
    table = model.preprocessor_.set_output(transform="pandas").transform(X)
    assert table.columns.tolist() == found
    # Every column under its own name: features as they are, levels as indicators.
    for name in set(found) & set(X.columns):
        if X[name].dtype.kind in "if":
            np.testing.assert_array_equal(table[name], X[name].fillna(X[name].median()))


@pytest.mark.parametrize(
    ("given", "message"), [([99], "has the positions"), ([0], "had \\[1\\]"), ([True, False], "had \\[1\\]")]
)
def test_a_stream_keeps_its_categories(given, message):
    X = np.column_stack([np.arange(20.0), np.arange(20) % 3])
    model = GNRegressor(**SMALL, categorical_features=[1]).fit(X, X[:, 0])
    before = model.predict(X)
    with pytest.raises(ValueError, match=message):
        model.set_params(categorical_features=given).partial_fit(X, X[:, 0])
    np.testing.assert_array_equal(model.predict(X), before)
    for same in ([1], [False, True]):
        model.set_params(categorical_features=same).partial_fit(X, X[:, 0])
