"""Rows unlike those of training: warnings that name the columns, and none for ordinary rows."""

import warnings

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris, load_wine
from sklearn.model_selection import KFold, cross_val_score

from skgn import GNClassifier, GNRegressor, diagnose
from skgn.unfamiliar import Bounds, UnfamiliarDataWarning, unwatched

SMALL = {"hidden_layer_sizes": (3,), "n_estimators": 1, "max_iter": 4, "random_state": 0}

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def towns(n=120, seed=0):
    """A table of one category, and a target that depends on it."""
    pd = pytest.importorskip("pandas")
    rng = np.random.default_rng(seed)
    code = rng.integers(0, 3, n)
    return pd.DataFrame({"town": code.astype(str), "size": rng.normal(size=n)}), code + 0.01 * rng.normal(size=n)


#: Levels as they were in training and as they come later, of whole columns.
OTHERWISE = {
    "numbers for strings": lambda town: town.astype(int),
    "floats for strings": lambda town: town.astype(float),
    "trailing blank": lambda town: town + " ",
    "other words": lambda town: "town " + town,
}


@pytest.mark.parametrize("change", OTHERWISE)
def test_levels_that_do_not_match_are_said_with_an_example(change):
    X, y = towns()
    model = GNRegressor(**SMALL).fit(X, y)
    other = X.assign(town=OTHERWISE[change](X["town"]))
    cell = other["town"].iloc[0]
    for call in (model.predict, lambda X: model.score(X, y), model.preprocessor_.transform, lambda X: late(X, y)):
        with pytest.warns(UnfamiliarDataWarning, match="No cell of column 'town' .*training saw '") as caught:
            call(other)
        assert len(caught) == 1 and f"row 0 has {cell.item() if hasattr(cell, 'item') else cell!r}" in str(caught[0])
        assert caught[0].filename == __file__


def late(X, y):
    """A block of a stream that comes after one of the same levels as in training."""
    first, target = towns()
    return GNRegressor(**SMALL).partial_fit(first, target).partial_fit(X, y)


def test_some_cells_that_differ_only_in_writing_are_said():
    X, y = towns()
    model = GNRegressor(**SMALL).fit(X.assign(town=X["town"].map({"0": "Bonn", "1": "Aachen", "2": "Celle"})), y)
    table = X.assign(town=X["town"].map({"0": "Bonn", "1": "Aachen", "2": "celle "}))
    with pytest.warns(UnfamiliarDataWarning, match=r"\d+ cells of column 'town'.*'celle '.*training saw 'Celle'"):
        model.predict(table)


#: Tables of 120 rows with cells that training had not, and what is said of them.
NEW_CELLS = {
    "a level": (
        lambda X: X.assign(town=X["town"].where(X.index >= 40, "Celle")),
        "40 of 120 rows of X have levels in column 'town' that training did not see. .* rest on the other columns",
    ),
    "missing numbers": (
        lambda X: X.assign(size=X["size"].where(X.index >= 12)),
        "12 of 120 rows of X have missing cells in column 'size' of which training had none. .* do not tell what that",
    ),
    "missing cells of several columns": (
        lambda X: X.assign(town=X["town"].astype(object).where(X.index < 100, None), size=np.nan),
        "20 of 120 rows of X have missing cells in column 'town', 120 in 'size' of which",
    ),
}


@pytest.mark.parametrize("case", NEW_CELLS)
def test_levels_and_missing_cells_that_training_had_not_are_counted(case):
    X, y = towns()
    y = y + X["size"]
    change, words = NEW_CELLS[case]
    model, table = GNRegressor(**SMALL).fit(X, y), change(X)
    for call in (model.predict, lambda X: model.predict(X, return_std=True), lambda X: model.score(X, y)):
        with pytest.warns(UnfamiliarDataWarning, match=words) as caught:
            call(table)
        assert len(caught) == 1 and caught[0].filename == __file__
    # Where training had such cells, they are like those of training.
    GNRegressor(**SMALL).fit(table, y).predict(table)
    with unwatched():
        model.predict(table)
    diagnose(model, table, y, verbose=False)


def test_a_few_new_levels_are_ordinary():
    """Cross-validation of a table with rare levels has some in most folds."""
    X, y = towns()
    y = y + X["size"]
    model = GNRegressor(**SMALL).fit(X, y)
    few = X.assign(town=X["town"].where(X.index >= 11, "Celle"), size=X["size"].where(X.index < 109))
    model.predict(few)
    rare = X.assign(town=X["town"].where(X.index % 24 > 0, [f"rare {number}" for number in X.index]))
    cross_val_score(GNRegressor(**SMALL | {"max_iter": 8}), rare, y)


def test_nothing_is_said_of_columns_that_do_not_matter():
    X, y = towns()
    model = GNRegressor(**SMALL).fit(X, y + X["size"])
    new = X.assign(size=np.nan)
    with pytest.warns(UnfamiliarDataWarning, match="120 of 120"):
        model.predict(new)
    model.feature_relevance_ = np.array([1.0, 0.0])
    model.predict(new)


def test_levels_and_missing_cells_of_later_blocks_of_a_stream_are_known():
    X, y = towns()
    y = y + X["size"]
    model = GNRegressor(**SMALL).partial_fit(X, y)
    new = X.assign(town=X["town"].where(X.index >= 40, "Celle"), size=X["size"].where(X.index < 80))
    with pytest.warns(UnfamiliarDataWarning, match="40 of 120 rows") as caught:
        model.predict(new)
    assert len(caught) == 2
    # The block that brings them says it, once: levels share a column from here on.
    with pytest.warns(UnfamiliarDataWarning, match="40 of 120 rows") as caught:
        model.partial_fit(new, y)
    assert len(caught) == 2
    model.predict(new)
    model.partial_fit(new, y)
    # Of models of 0.1.0 nobody knows.
    model = GNRegressor(**SMALL).fit(X, y)
    for name in ("missing", "others"):
        del vars(model._table.bounds)[name]
    model.predict(new)
    model.partial_fit(new, y).predict(new)


def test_rows_far_beyond_training_are_said_once_with_their_columns():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 3))
    model = GNRegressor(**SMALL).fit(X, X[:, 0])
    X[:7, 1] = 1e3
    X[5:9, 2] = -1e3
    pattern = "9 of 200 rows of X are far beyond what training saw, in 2 column.*'x1', 'x2'"
    for call in (model.predict, lambda X: model.predict(X, return_std=True), lambda X: model.score(X, X[:, 0])):
        with pytest.warns(UnfamiliarDataWarning, match=pattern) as caught:
            call(X)
        assert len(caught) == 1 and caught[0].filename == __file__
    classifier = GNClassifier(**SMALL).fit(X[9:], X[9:, 0] > 0)
    for call in (classifier.predict, classifier.predict_proba, classifier.decision_function):
        with pytest.warns(UnfamiliarDataWarning, match="9 of 200 rows") as caught:
            call(X)
        assert len(caught) == 1


def test_names_of_columns_are_those_of_the_frame():
    pd = pytest.importorskip("pandas")
    X = pd.DataFrame({"age": np.arange(50.0), "size": np.arange(50.0) ** 2})
    model = GNRegressor(**SMALL).fit(X, X["age"])
    with pytest.warns(UnfamiliarDataWarning, match="1 of 50 rows .*: 'age'. Row 3 has 500 in 'age'"):
        model.predict(X.assign(age=X["age"].where(X.index != 3, 500.0)))


@pytest.mark.parametrize("load", [load_diabetes, load_iris, load_wine, load_breast_cancer])
def test_held_out_rows_of_real_tables_are_familiar(load):
    X, _ = load(return_X_y=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for train, test in KFold(5, shuffle=True, random_state=0).split(X):
            Bounds.fit(np.unique(X[train], axis=0)).warn(X[test], range(X.shape[1]))


#: Columns, and in how many of 100 draws new rows of the same kind may be far at most.
DRAWS = {
    "normal": (lambda rng, n: rng.normal(size=n), 0),
    "uniform": (lambda rng, n: rng.random(n), 0),
    "exponential": (lambda rng, n: rng.exponential(size=n), 1),
    "lognormal": (lambda rng, n: np.exp(2 * rng.normal(size=n)), 6),
    "Student": (lambda rng, n: rng.standard_t(2, n), 5),
    "Cauchy": (lambda rng, n: rng.standard_cauchy(n), 8),
    "rare indicator": (lambda rng, n: (rng.random(n) < 0.005).astype(float), 0),
    "mostly zero": (lambda rng, n: np.where(rng.random(n) < 0.97, 0, rng.exponential(size=n)), 2),
    "large": (lambda rng, n: 1e308 * rng.uniform(-1, 1, n), 0),
    "small": (lambda rng, n: 1e-310 * rng.normal(size=n), 0),
    "missing": (lambda rng, n: np.where(rng.random(n) < 0.5, np.nan, rng.normal(size=n)), 0),
}


@pytest.mark.parametrize("name", DRAWS)
def test_rows_of_the_same_kind_are_hardly_ever_far(name):
    draw, most = DRAWS[name]
    rng, alarms = np.random.default_rng(0), 0
    for _ in range(100):
        bounds, X = Bounds.fit(draw(rng, 1000)[:, None]), draw(rng, 1000)[:, None]
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            bounds.warn(X, ["x"])
        alarms += len(caught)
    assert alarms <= most


def test_few_rows_and_a_column_of_zeros_tell_nothing():
    model = GNRegressor(**SMALL).fit(np.arange(8.0)[:, None], np.arange(8.0))
    model.predict([[100.0]])
    zeros = np.column_stack([np.zeros(50), np.arange(50.0)])
    GNRegressor(**SMALL).fit(zeros, zeros[:, 1]).predict([[7.0, 20.0]])


def test_the_package_itself_and_cross_validation_do_not_warn():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(120, 2))
    y = X[:, 0] + 0.1 * rng.normal(size=120)
    assert cross_val_score(GNRegressor(**SMALL), X, y).min() > 0.5
    model = GNRegressor(**SMALL).fit(X, y)
    far = np.where(np.arange(120)[:, None] < 3, 50.0, X)
    diagnose(model, far, y, verbose=False)
    diagnose(GNClassifier(**SMALL).fit(X, y > 0), far, y > 0, verbose=False)
    with unwatched():
        model.predict(far)


@pytest.mark.parametrize(
    "parameters",
    [
        {"standardize": "robust"},
        {"standardize": "robust", "linear_path": False},
        {"standardize": "robust", "hidden_layer_sizes": ()},
        {"standardize": "rank"},
        {"standardize": "periodic"},
        {"standardize": "periodic", "linear_path": False},
        {"standardize": False},
    ],
    ids=str,
)
def test_the_standard_deviation_grows_on_the_way_to_far_rows(parameters):
    """Squashed columns, straight ones, scores of ranks and periodic ones; it never falls again."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 2))
    y = np.sin(2 * X[:, 0]) + X[:, 1] + 0.1 * rng.normal(size=200)
    model = GNRegressor(n_estimators=1, random_state=0, **parameters).fit(X, y)
    inside = np.median(model.predict(X, return_std=True)[1])
    for feature in range(2):
        for sign in (-1, 1):
            way = np.zeros((4, 2))
            way[:, feature] = sign * np.array([3.0, 6.0, 20.0, 1e4])
            with unwatched():
                std = model.predict(way, return_std=True)[1]
            assert (std > inside).all() and std[3] > 1.05 * inside
            assert (std[1:] >= 0.95 * std[:-1]).all()
