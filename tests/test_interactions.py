"""Slopes of levels along a column, and effects of pairs of levels: where they are found, and what fits make of them."""

import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import RidgeCV

from skgn import GNClassifier, GNRegressor, summarize
from skgn.encoders import CodedRows, Interaction, encode_training_rows, make_encoder
from skgn.export import to_onnx, to_torch
from skgn.interactions import find_interactions
from skgn.level_codes import LevelCodes
from skgn.tables import TableReader

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
    found = [find_interactions(rows(*relation(kind, np.random.default_rng(seed)))) for seed in range(15)]
    assert sum(map(bool, found)) <= 1


def test_pairs_come_in_the_order_of_what_they_tell():
    rng = np.random.default_rng(0)
    level = [rng.integers(30, size=900), rng.integers(20, size=900)]
    X, slopes = rng.normal(size=(900, 4)), [rng.normal(size=30), 0.5 * rng.normal(size=20)]
    y = slopes[0][level[0]] * X[:, 2] + slopes[1][level[1]] * X[:, 1] + 0.2 * rng.normal(size=900)
    assert find_interactions(CodedRows(level, [30, 20], X, y[:, None])) == [Interaction(0, 2), Interaction(1, 1)]


@pytest.mark.parametrize("size", [1e-300, 1e250])
def test_columns_of_any_size_have_the_same_slopes(size):
    subject, x, _, y = subjects()
    assert find_interactions(rows(subject, size * x, y)) == [Interaction(0, 0)]


@pytest.mark.parametrize(
    "others",
    [np.empty((400, 0)), np.zeros((400, 1)), np.ones((400, 301))],
    ids=["no column", "a constant", "many columns"],
)
def test_what_has_no_slopes_to_look_for(others):
    subject, _, _, y = subjects()
    assert find_interactions(rows(subject, others, y)) == []


@pytest.mark.parametrize("seed", range(3))
def test_a_fit_is_as_good_as_a_ridge_that_is_told_of_the_slopes(seed):
    """Without them R2 was -0.4 to 0.3, and 0.4 were promised."""
    subject, x, _, y = subjects(n=2300, count=30, seed=seed)
    X, products = frame(subject, x), (subject[:, None] == np.arange(30)) * x[:, None]
    model = GNRegressor(n_estimators=1, random_state=0).fit(X[:300], y[:300])
    ridge = RidgeCV(np.logspace(-3, 3, 13)).fit(products[:300], y[:300])
    score = model.score(X[300:], y[300:])
    assert score > ridge.score(products[300:], y[300:]) - 0.05
    assert model.left_out_score_ == pytest.approx(score, abs=0.05)


def test_labels_have_slopes():
    subject, x, slopes, _ = subjects(n=3000, count=30)
    label = np.random.default_rng(1).random(3000) < 1 / (1 + np.exp(-4 * slopes[subject] * x))
    X, known = frame(subject, x), slopes[subject] * x > 0
    model = GNClassifier(n_estimators=1, random_state=0).fit(X[:1000], label[:1000])
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
    assert model.preprocessor_[-1].named_transformers_["slopes"].codes_[0].shape == (30, 3)


def test_a_new_level_has_the_common_slope():
    subject, x, _, y = subjects()
    model = GNRegressor(n_estimators=1, random_state=0).fit(frame(subject, x), y + 2 * x)
    new = pd.DataFrame({"subject": ["new"] * 5, "days": np.linspace(-1, 1, 5)})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        np.testing.assert_allclose(model.predict(new), 2 * np.linspace(-1, 1, 5), atol=0.5)


def test_numbers_that_are_codes_have_slopes_too():
    subject, x, _, y = subjects(n=600, count=30)
    jumps = np.random.default_rng(2).normal(size=30)
    X = np.column_stack([1000 + subject, x])
    model = GNRegressor(n_estimators=1, random_state=0).fit(X, y + 2 * jumps[subject])
    assert model.preprocessor_.get_feature_names_out().tolist() == ["x0", "x1", "x0 (code)", "x0 (slope)"]
    assert summarize(model).slopes == (("x0", "x1"),)


def test_a_warm_start_goes_on_with_the_slopes_of_a_fit_without_it():
    """Fifty rows show none by themselves. Where another column has levels, its positions are not those of before."""
    subject, x, _, y = subjects()
    X = frame(subject, x)
    model = GNRegressor((3,), n_estimators=1, max_iter=5, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        last = model.fit(X, y).set_params(warm_start=True).loss_
        model.fit(X, y)
        assert model.history_["loss"][0] == pytest.approx(last, rel=0.1)
        assert summarize(model.fit(X[:50], y[:50])).slopes == (("subject", "days"),)
        with pytest.raises(ValueError, match=r"It had \['days \(numeric\)', 'subject \(slope\) \(slopes\)'\]"):
            model.fit(X.assign(days=[f"day {number:.0f}" for number in 50 * x]), y)
        assert summarize(clone(model).set_params(warm_start=False).fit(X[:50], y[:50])).slopes == ()


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


def test_slopes_are_stored_and_exported():
    """ONNX looks them up as all codes: `test_pairs_are_stored_and_exported`."""
    subject, x, _, y = subjects(n=600, count=30)
    X, y = np.column_stack([subject, x]), y + 2 * np.random.default_rng(2).normal(size=30)[subject]
    model = GNRegressor((), n_estimators=1, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(X, y)
    assert summarize(model).slopes == (("x0", "x1"),)
    expected = model.predict(X[:50])
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).predict(X[:50]), expected)
    np.testing.assert_allclose(to_torch(model)(torch.from_numpy(X[:50])).detach().numpy(), expected, rtol=1e-8)


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
            *((name, LevelCodes(), [0]) for name in STEPS),
        ]
    )
    X, y = np.column_stack([subject, x]), y - slopes[subject] * x
    code = encode_training_rows(encoder, X, y[:, None], np.ones(300), [Interaction(0, 0)])[:, 2]
    later = encoder.transform(X)[:, 2]
    # Of noise alone, the slopes of all rows tell the noise, and those of other rows do not.
    assert np.corrcoef((later - later.mean()) * x, y)[0, 1] > 0.15
    assert np.corrcoef((code - code.mean()) * x, y)[0, 1] < 0.05


def test_what_is_exact_but_for_little_has_no_slopes():
    """Slopes of what hardly is anything would be chance, or rounding errors."""
    subject, x, slopes, _ = subjects()
    size = np.random.default_rng(1).normal(size=40)[subject]
    assert find_interactions(rows(subject, x, size + 0.1 * slopes[subject] * x)) == [Interaction(0, 0)]
    assert find_interactions(rows(subject, x, size + 0.001 * slopes[subject] * x)) == []


def test_few_rows_a_level_tell_no_slopes():
    subject, x, _, y = subjects(n=400, count=101)
    assert find_interactions(rows(subject, x, y)) == []
    subject, x, _, y = subjects(n=400, count=100)
    assert find_interactions(rows(subject, x, y)) == [Interaction(0, 0)]


def crossed(n, counts=(15, 12), noise=0.3, own=0.0, seed=0):
    """Numbers of shops and days, a column, effects of their pairs beside those of their ``own``, and a target."""
    rng = np.random.default_rng(seed)
    shop, day = (rng.integers(count, size=n) for count in counts)
    x, effects = rng.normal(size=n), rng.normal(size=counts)
    effects = effects + own * (rng.normal(size=(counts[0], 1)) + rng.normal(size=counts[1]))
    return shop, day, x, effects, effects[shop, day] + noise * rng.normal(size=n)


def shops(shop, day, x):
    return pd.DataFrame({"shop": [f"s{i}" for i in shop], "day": [f"d{i}" for i in day], "x": x})


def rows_of_two(shop, day, others, Y):
    counts = [int(level.max()) + 1 for level in (shop, day)]
    return CodedRows([shop, day], counts, others.reshape(len(shop), -1), Y.reshape(len(Y), -1))


@pytest.mark.parametrize("kind", ["noise", "sum", "noise of the level", "labels", "gross errors", "heavy tails"])
def test_levels_of_two_categories_without_pairs_have_none(kind):
    found = []
    for seed in range(15):
        rng = np.random.default_rng(seed)
        subject, X, y = relation(kind, rng, count=15)
        day = rng.integers(12, size=len(y))
        if kind == "sum":
            y = y + rng.normal(size=12)[day]
        found.append(find_interactions(rows_of_two(subject, day, X, y)))
    assert sum(map(bool, found)) <= 1


@pytest.mark.parametrize("columns", [0, 1, 301])
def test_pairs_are_found_whatever_other_columns_there_are(columns):
    shop, day, _, _, y = crossed(600)
    others = np.random.default_rng(1).normal(size=(600, columns))
    assert find_interactions(rows_of_two(shop, day, others, y)) == [Interaction(0, 1, of_pairs=True)]


def test_slopes_come_before_pairs():
    shop, day, x, _, y = crossed(900)
    slopes = np.random.default_rng(1).normal(size=15)[shop] * x
    for factor in (0.5, 2):
        found = find_interactions(rows_of_two(shop, day, x, y + factor * slopes))
        assert found == [Interaction(0, 0), Interaction(0, 1, of_pairs=True)]


def test_little_that_is_left_has_no_pairs():
    shop, day, x, _, y = crossed(900, noise=0)
    assert find_interactions(rows_of_two(shop, day, x, y + 30 * x)) == []
    assert find_interactions(rows_of_two(shop, day, x, y + 5 * x)) == [Interaction(0, 1, of_pairs=True)]


def test_pairs_of_many_levels_do_not_come_first_by_chance():
    shop, day, x, _, y = crossed(900, counts=(12, 12), noise=2.0)
    third = np.random.default_rng(3).integers(30, size=900)
    coded = CodedRows([shop, third, day], [12, 30, 12], x[:, None], y[:, None])
    assert find_interactions(coded) == [Interaction(0, 2, of_pairs=True)]


def test_a_category_that_tells_the_other_has_no_pairs_with_it():
    shop, _, x, _, y = crossed(900)
    region = shop // 2
    assert find_interactions(rows_of_two(shop, region, x, y)) == []
    # Pairs of few rows tell nothing of noise.
    many = np.random.default_rng(1).integers(60, size=900)
    assert find_interactions(rows_of_two(shop, many, x, y + np.random.default_rng(2).normal(size=900))) == []


@pytest.mark.parametrize("of_numbers", [False, True])
def test_a_fit_is_as_good_as_a_ridge_that_is_told_of_the_pairs(of_numbers):
    """Without them R2 was 0.2 to 0.3."""
    # Numbers are codes where the target jumps between them.
    shop, day, x, _, y = crossed(2600, own=2.0 * of_numbers)
    pair = shop * 12 + day
    X = np.column_stack([1000 + 7 * shop, 3 * day, x]) if of_numbers else shops(shop, day, x)
    model = GNRegressor(n_estimators=1, random_state=0).fit(X[:600], y[:600])
    indicators = (pair[:, None] == np.arange(180)).astype(float)
    ridge = RidgeCV(np.logspace(-3, 3, 13)).fit(indicators[:600], y[:600])
    score = model.score(X[600:], y[600:])
    assert score > ridge.score(indicators[600:], y[600:]) - 0.05
    assert model.left_out_score_ == pytest.approx(score, abs=0.1)
    names = ("x0", "x1") if of_numbers else ("shop", "day")
    assert summarize(model).pairs == (names,)
    assert f"{names[0]} x {names[1]}: effects of pairs of levels" in str(summarize(model))
    assert f"{names[0]} x {names[1]}" in model.preprocessor_.get_feature_names_out()
    # Both features matter, although neither has effects of its own.
    assert model.feature_relevance_[:2].min() > 0.3


def test_classes_have_pairs():
    shop, day, x, effects, _ = crossed(4000)
    value = effects[shop, day]
    kind = np.where(np.abs(value) < 0.4, "none", np.where(value > 0, "up", "down"))
    model = GNClassifier(n_estimators=1, random_state=0).fit(shops(shop, day, x)[:1500], kind[:1500])
    assert model.score(shops(shop, day, x)[1500:], kind[1500:]) > 0.85
    assert model.preprocessor_[-1].named_transformers_["pairs"][-1].codes_[0].shape == (180, 3)
    two = GNClassifier(n_estimators=1, random_state=0).fit(shops(shop, day, x)[:1000], value[:1000] > 0)
    assert two.score(shops(shop, day, x)[1000:], value[1000:] > 0) > 0.85
    assert two.preprocessor_[-1].named_transformers_["pairs"][-1].codes_[0].shape == (180, 1)


@pytest.mark.parametrize("seed", range(2))
def test_equal_labels_of_a_pair_are_observations_of_it(seed):
    """Merged into one row, they told no pair: 42 % of new rows were in another class."""
    rng = np.random.default_rng(seed)
    shop, day = rng.integers(15, size=(2, 1300))
    kind, table = rng.integers(3, size=(15, 15))[shop, day], shops(shop, day, shop)[["shop", "day"]]
    model = GNClassifier(n_estimators=1, random_state=0).fit(table[:300], kind[:300])
    assert summarize(model).pairs == (("shop", "day"),)
    pair = 15 * shop + day
    seen = np.isin(pair[300:], pair[:300])
    assert model.score(table[300:][seen], kind[300:][seen]) > 0.93


def test_copies_of_rows_are_no_observations_of_a_pair():
    shop, day, x, _, _ = crossed(300)
    rng = np.random.default_rng(0)
    y = rng.normal(size=15)[shop] + rng.normal(size=12)[day] + rng.normal(size=300)
    index = np.repeat(np.arange(300), 3)
    table = shops(shop, day, x)[["shop", "day"]].iloc[index]
    assert summarize(GNRegressor(n_estimators=1, random_state=0).fit(table, y[index])).pairs == ()


def test_a_fit_has_slopes_and_pairs():
    shop, day, x, effects, y = crossed(2600)
    slopes = 2 * np.random.default_rng(1).normal(size=12)
    X = shops(shop, day, x)
    model = GNRegressor(n_estimators=1, random_state=0).fit(X[:600], (y + slopes[day] * x)[:600])
    assert model.score(X[600:], (y + slopes[day] * x)[600:]) > 0.9
    codes = model.preprocessor_.transform(X[600:])[:, -2:]
    assert model.preprocessor_.get_feature_names_out()[-2:].tolist() == ["day (slope)", "shop x day"]
    assert np.corrcoef(codes[:, 0], slopes[day[600:]])[0, 1] > 0.9
    assert np.corrcoef(codes[:, 1], effects[shop, day][600:])[0, 1] > 0.9


def test_a_pair_not_seen_has_the_effects_of_its_levels():
    shop, day, x, _, y = crossed(900)
    y = y + 3 * (shop == 2) + 3 * (day == 5)
    model = GNRegressor(n_estimators=1, random_state=0)
    new = (shop == 2) & (day == 5)
    X = shops(shop, day, x)
    model.fit(X[~new], y[~new])
    assert model.predict(X[new]).mean() == pytest.approx(6, abs=1.5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert model.predict(X[new].assign(day="another")).mean() == pytest.approx(3, abs=1)


@pytest.mark.parametrize("of_numbers", [False, True])
def test_pairs_are_stored_and_exported(of_numbers, tmp_path, one_registry):
    onnxruntime = pytest.importorskip("onnxruntime")
    shop, day, x, _, y = crossed(900, own=2.0)
    rng = np.random.default_rng(1)
    if of_numbers:
        X = np.column_stack([1000 + 7 * shop, 3 * day, x])
        X[rng.random(900) < 0.1, 1] = np.nan
    else:
        X = shops(shop, day, x)
        X.loc[rng.random(900) < 0.1, "day"] = None
    model = GNRegressor((), n_estimators=1, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(X, y)
        assert len(summarize(model).pairs) == 1
        new = X[:60].copy()
        if of_numbers:
            new[:5, 0], new[5:10, 1] = 1003.0, 1.5
            # No missing cell was there in training.
            new[10:15, 0] = np.nan
        else:
            new.loc[:4, "shop"], new.loc[5:9, "day"], new.loc[10:14, "shop"] = "new", "new", None
        expected, read = model.predict(new), model.preprocessor_[0].transform(new)
    assert len(np.unique(model.preprocessor_.transform(new)[:, -1])) > 20
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).predict(new), expected)
    exported = to_torch(model)(torch.from_numpy(read)).detach().numpy()
    np.testing.assert_allclose(exported, expected, rtol=1e-8)
    # Names are read as numbers of levels, which the graph of codes looks up, too.
    if not of_numbers:
        return
    to_onnx(model, tmp_path / "model.onnx", return_std=False)
    run = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(run.run(None, {"X": read})[0], expected, rtol=1e-4)


def test_effects_of_pairs_in_training_come_from_other_rows():
    """The effect of a pair from all of its rows knows the noise of each."""
    shop, day, _, effects, _ = crossed(600)
    noise = np.random.default_rng(1).normal(size=600)
    X = np.column_stack([shop, day]).astype(float)
    reader = TableReader().fit(X)
    encoder = make_encoder(reader, X, 1, [0, 1], [], [0, 1])
    codes = encode_training_rows(
        encoder, X, (noise + effects[shop, day])[:, None], np.ones(600), [Interaction(0, 1, True)]
    )
    code, later = codes[:, -1], encoder.transform(X)[:, -1]
    of_pairs = effects[shop, day]
    assert np.corrcoef(later - of_pairs, noise)[0, 1] > 0.2
    assert abs(np.corrcoef(code - of_pairs, noise)[0, 1]) < 0.1
    assert np.corrcoef(later, of_pairs)[0, 1] > 0.7


@pytest.mark.parametrize("seed", [0, 3, 6])
def test_slopes_of_labels_are_found_whatever_the_share_of_each_label(seed):
    """Residuals of the more frequent label are nearly equal: all others were clipped as gross errors."""
    rng = np.random.RandomState(1000 + seed)
    slope = np.random.RandomState(1).choice([-1, 1], 25)
    level, x = rng.randint(0, 25, 2100), rng.standard_normal(2100)
    X = np.column_stack([np.array([f"u{i}" for i in range(25)], dtype=object)[level], x, rng.standard_normal(2100)])
    y = rng.random_sample(2100) < 1 / (1 + np.exp(-3 * slope[level] * x))
    model = GNClassifier(n_estimators=1, tol=1e-2, categorical_features=[0], random_state=seed)
    assert summarize(model.fit(X[:600], y[:600])).slopes == (("x0", "x1"),)


def tastes(n, counts=(30, 20), n_products=1, noise=0.3, seed=0):
    """Numbers of users and films, a column, the products of what the former like and the latter have, and a target."""
    rng = np.random.default_rng(seed)
    user, film = (rng.integers(count, size=n) for count in counts)
    likes, has = (rng.normal(size=(count, n_products)) for count in counts)
    effects = likes @ has.T
    return user, film, rng.normal(size=n), effects, effects[user, film] + noise * rng.normal(size=n)


@pytest.mark.parametrize("n_products", [1, 2])
@pytest.mark.parametrize("labels", [False, True])
def test_as_many_products_are_found_as_there_are(n_products, labels):
    for seed in range(4):
        user, film, x, _, y = tastes(2000, n_products=n_products, seed=seed)
        Y = (y > 0).astype(float) if labels else y
        (found,) = find_interactions(rows_of_two(user, film, x, Y))
        # The sign of a product is one; that of a sum of two is more than two.
        assert found._replace(n_products=0) == Interaction(0, 1, of_pairs=True)
        assert found.n_products == n_products or (labels and found.n_products >= 1)


def test_pairs_whose_effects_are_no_products_have_none(monkeypatch):
    for seed in range(8):
        shop, day, x, _, y = crossed(900, seed=seed)
        assert find_interactions(rows_of_two(shop, day, x, y)) == [Interaction(0, 1, of_pairs=True)]
    # Nor do more pairs than there may be codes for.
    user, film, x, _, y = tastes(2000)
    assert find_interactions(rows_of_two(user, film, x, y)) == [Interaction(0, 1, True, 1)]
    monkeypatch.setattr("skgn.interactions._MOST_CELLS", 599)
    assert find_interactions(rows_of_two(user, film, x, y)) == [Interaction(0, 1, True)]


def films(user, film, x):
    return pd.DataFrame({"user": [f"u{i}" for i in user], "film": [f"f{i}" for i in film], "x": x})


def test_a_pair_not_seen_has_its_products():
    user, film, x, effects, y = tastes(3000)
    X = films(user, film, x)
    model = GNRegressor(n_estimators=1, random_state=0).fit(X[:500], y[:500])
    assert model.score(X[500:], y[500:]) > 0.8
    assert model.left_out_score_ == pytest.approx(model.score(X[500:], y[500:]), abs=0.1)
    seen = np.zeros(effects.shape, dtype=bool)
    seen[user[:500], film[:500]] = True
    new = ~seen[user, film]
    assert new.sum() > 1000
    assert np.corrcoef(model.predict(X[new]), effects[user, film][new])[0, 1] > 0.9


def test_products_are_stored_and_exported():
    """ONNX looks them up as all codes of pairs: `test_pairs_are_stored_and_exported`."""
    user, film, x, _, y = tastes(900)
    X = films(user, film, x)
    X.loc[np.random.default_rng(1).random(900) < 0.1, "film"] = None
    model = GNRegressor((), n_estimators=1, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(X[:600], y[:600])
        new = X[600:].copy()
        new.iloc[:5, 0], new.iloc[5:10, 1] = "new", "new"
        expected, read = model.predict(new), model.preprocessor_[0].transform(new)
    pairs = model.preprocessor_[-1].named_transformers_["pairs"][-1]
    assert pairs.codes_[0].shape == (30 * 21, 1)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).predict(new), expected)
    np.testing.assert_allclose(to_torch(model)(torch.from_numpy(read)).detach().numpy(), expected, rtol=1e-8)
