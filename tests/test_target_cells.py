"""Cells of y: what is missing, complex or no number is refused before any work, and the error names y and the row."""

import re
from datetime import date
from decimal import Decimal

import numpy as np
import pytest

from skgn import GNClassifier, GNRegressor

pd = pytest.importorskip("pandas")
pytest.importorskip("pyarrow")

ROWS = np.random.default_rng(0).normal(size=(40, 2))
NUMBERS = ROWS[:, 0]

LINEAR = {"hidden_layer_sizes": (), "n_estimators": 1}


def with_one(cell):
    """Numbers as Python objects, with another cell in row 3."""
    y = NUMBERS.astype(object)
    y[3] = cell
    return y


#: Targets that no regression has, by what the error says.
NO_NUMBERS = {
    "the type complex128": NUMBERS + 0j,
    r"y has 1j in row 3": with_one(1j),
    r"the type timedelta64\[s\]": np.arange(40).astype("m8[s]"),
    r"the type datetime64\[ns\]": pd.Series(np.arange(40).astype("M8[ns]")),
    r"the type datetime64\[d\]": np.arange(40).astype("M8[D]")[:, None],
    r"the type period\[d\]": pd.Series(pd.period_range("2020", periods=40, freq="D")),
    r"the type \[\('a', '<f8'\)\]": np.zeros(40, dtype=[("a", "f8")]),
    r"y has b'a' in row 0": np.array([b"a", b"b"] * 20),
    r"y has 'a' in row 0": ["a", "b"] * 20,
    r"an integer of \d+ bits in row 3": with_one(10**400),
    r"y has datetime.date\(.* in row 3": with_one(date(2020, 1, 1)),
}

#: Missing cells, with the row where a column of Python objects or strings has them.
MISSING = {
    "NA": with_one(pd.NA),
    "None": with_one(None),
    "NaT": with_one(pd.NaT),
    "Decimal": with_one(Decimal("nan")),
    "string": pd.Series(["1", "2", "1", None] * 10, dtype="string"),
    "category": pd.Series(["1", "2", "1", None] * 10, dtype="category"),
    "two columns": pd.DataFrame({"a": NUMBERS, "b": with_one(pd.NA)}),
}


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
@pytest.mark.parametrize("words", NO_NUMBERS)
def test_a_target_that_is_no_number_is_refused_by_name_and_an_earlier_fit_kept(words, method):
    model = GNRegressor((), n_estimators=1).fit(ROWS, NUMBERS)
    members = model.estimators_
    with pytest.raises((TypeError, ValueError), match=words):
        getattr(model, method)(ROWS, NO_NUMBERS[words])
    with pytest.raises((TypeError, ValueError), match=words):
        GNRegressor(early_stopping=True).fit(ROWS, NUMBERS, X_val=ROWS, y_val=NO_NUMBERS[words])
    assert model.estimators_ is members


@pytest.mark.parametrize("estimator", [GNRegressor, GNClassifier])
@pytest.mark.parametrize("case", MISSING)
def test_a_missing_cell_of_a_target_of_objects_is_refused_with_its_row(case, estimator):
    with pytest.raises(ValueError, match="Input y contains NaN, or another missing value, in row 3"):
        estimator((), n_estimators=1).fit(ROWS, MISSING[case])


@pytest.mark.parametrize("labels", [["a", "b", "a", 1], [1, 2, 1, "a"], [("a", 1), ("b", 1), ("a", 1), "a"]], ids=str)
def test_labels_that_have_no_order_are_refused_with_the_row(labels):
    y = np.empty(40, dtype=object)
    y[:] = 10 * labels
    with pytest.raises(TypeError, match=r"y has .* in row 3 beside .* make all labels of one type"):
        GNClassifier((), n_estimators=1).fit(ROWS, y)


@pytest.mark.parametrize("first", [False, 0, 0.0, date(2020, 1, 1)], ids=str)
@pytest.mark.parametrize("form", [np.asarray, pd.Series])
def test_labels_that_are_objects_are_refused_with_what_makes_labels_of_them(first, form):
    """Not as the target of a regression, which scikit-learn takes them for."""
    second = date(2021, 1, 1) if isinstance(first, date) else type(first)(1)
    y = form(np.array([first, second] * 20, dtype=object))
    with pytest.raises(ValueError, match=r"^Unknown label type: .*Python objects with .* in row 0") as refused:
        GNClassifier(**LINEAR).fit(ROWS, y)
    (dtype,) = re.findall(r"y\.astype\((\w+)\)", str(refused.value))
    labels = y.astype(dtype)
    assert list(labels[:2]) == [str(first), str(second)] if dtype == "str" else [first, second]
    np.testing.assert_array_equal(GNClassifier(**LINEAR).fit(ROWS, labels).classes_, labels[:2])


@pytest.mark.parametrize("kind", ["Int64", "Float64", "boolean", "float64[pyarrow]"])
@pytest.mark.parametrize("estimator", [GNRegressor, GNClassifier])
def test_targets_of_nullable_types(estimator, kind):
    y = pd.Series([1, 0] * 20, dtype=kind)
    plain = estimator((), n_estimators=1).fit(ROWS, y.to_numpy(dtype=float)).predict(ROWS)
    np.testing.assert_array_equal(estimator((), n_estimators=1).fit(ROWS, y).predict(ROWS), plain)
    y[3] = pd.NA
    with pytest.raises(ValueError, match="Input y contains NaN"):
        estimator((), n_estimators=1).fit(ROWS, y)


@pytest.mark.parametrize("estimator", [GNRegressor, GNClassifier])
def test_complex_inputs_are_refused_by_name(estimator):
    y = (NUMBERS > 0).astype(int)
    model = estimator((), n_estimators=1).fit(ROWS, y)
    for call in (model.fit, model.partial_fit, lambda X, y: model.predict(X)):
        with pytest.raises(ValueError, match="Complex data not supported: X has the type complex128"):
            call(ROWS + 1j, y)
    with pytest.raises(ValueError, match="Complex data not supported: y has the type complex128"):
        model.fit(ROWS, y + 1j)


@pytest.mark.parametrize("estimator", [GNRegressor, GNClassifier])
def test_masked_cells_are_refused_by_name_and_never_read(estimator):
    y, mask = (NUMBERS > 0).astype(int), ROWS[:, 0] > 1
    hidden = np.ma.masked_array(ROWS, mask=np.column_stack([mask, mask]))
    model = estimator((), n_estimators=1).fit(np.ma.masked_array(ROWS), y)
    for name, call in (
        ("X", lambda: model.fit(hidden, y)),
        ("X", lambda: model.predict(hidden)),
        ("X", lambda: model.partial_fit(hidden, y)),
        ("y", lambda: model.fit(ROWS, np.ma.masked_array(y, mask=mask))),
        ("sample_weight", lambda: model.fit(ROWS, y, np.ma.masked_array(np.ones(40), mask=mask))),
    ):
        with pytest.raises(ValueError, match=f"{name} is a masked array, and the values behind its mask would count"):
            call()


def test_missing_cells_of_nullable_arrays_are_no_mask():
    """They are seen, and no values are behind them: "put nan there" helped nobody."""
    y = pd.array([None, *range(39)], dtype="Int64")
    model = GNRegressor((), n_estimators=1)
    for name, given in (("y", (y,)), ("sample_weight", (NUMBERS, y))):
        with pytest.raises(ValueError, match=f"Input {name} contains NaN"):
            model.fit(ROWS, *given)


@pytest.mark.parametrize("kind", ["category", "string", object])
def test_words_in_a_column_that_had_numbers_are_named(kind):
    X = pd.DataFrame(ROWS, columns=["a", "b"])
    model = GNRegressor((), n_estimators=1).fit(X, NUMBERS)
    words = X.assign(b=pd.Series(["one", "two"] * 20, dtype=kind))
    for call in (lambda: model.predict(words), lambda: model.partial_fit(words, NUMBERS)):
        with pytest.raises(ValueError, match="Column 'b' of X has 'one' in row 0, among cells that are no numbers"):
            call()


def test_an_infinite_float32_cell_is_named():
    X = ROWS.astype(np.float32)
    X[3, 1] = np.inf
    model = GNRegressor((), n_estimators=1).fit(ROWS, NUMBERS)
    for call in (lambda: GNRegressor().fit(X, NUMBERS), lambda: model.predict(X)):
        with pytest.raises(ValueError, match="Column 'x1' of X has inf in row 3"):
            call()


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("kind", ["bool", "boolean", "bool[pyarrow]"])
def test_labels_of_truth_values_come_back_as_themselves(kind):
    y = pd.Series(NUMBERS > 0, dtype=kind)
    model = GNClassifier((), n_estimators=1, max_iter=3, l2_regularization=1e-2).fit(ROWS, y)
    assert model.classes_.dtype == bool and model.predict(ROWS).dtype == bool
    assert model.score(ROWS, y) > 0.9
    stream = GNClassifier((), n_estimators=1).partial_fit(ROWS, y, classes=[False, True]).partial_fit(ROWS, y)
    assert stream.classes_.dtype == bool
    # Of several columns they are indicators, as numbers are.
    labels = GNClassifier((), n_estimators=1, max_iter=3).fit(ROWS, pd.DataFrame({"one": y, "other": ~y}))
    assert labels.predict(ROWS).shape == (40, 2)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("pair", [(-1, 1), (0, 2)])
def test_several_labels_are_0_and_1(pair):
    y = np.where(ROWS > 0, pair[1], pair[0])
    with pytest.raises(ValueError, match=f"an indicator matrix of 0 and 1, got {-1 if -1 in pair else 2}"):
        GNClassifier((), n_estimators=1).fit(ROWS, y)
    model = GNClassifier((), n_estimators=1, max_iter=3).fit(ROWS, y > 0)
    with pytest.raises(ValueError, match="of 2 labels, as in training, got 3"):
        model.partial_fit(ROWS, np.eye(3)[np.arange(40) % 3])
