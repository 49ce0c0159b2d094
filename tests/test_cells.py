"""Cells of tables that can be neither numbers nor levels: an error names the column, the row and the cure."""

import copy
import re
import warnings
from datetime import date, timedelta
from decimal import Decimal
from fractions import Fraction
from functools import cache

import numpy as np
import pytest

from skgn import GNClassifier, GNRegressor
from skgn.unfamiliar import UnfamiliarDataWarning

pd, pa, pl = (pytest.importorskip(name) for name in ("pandas", "pyarrow", "polars"))

SMALL = {"hidden_layer_sizes": (), "n_estimators": 1, "max_iter": 2, "random_state": 0}
N, ROW = 20, 3
Y = np.random.default_rng(0).normal(size=N)

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def column(cell):
    """Numbers as Python objects, with one other cell."""
    cells = np.empty(N, dtype=object)
    cells[:] = [float(i) for i in range(N)]
    cells[ROW] = cell
    return cells


def forms(cell):
    """The same table as a frame of pandas, as an array and as a list; all have the column 1."""
    array = np.empty((N, 2), dtype=object)
    array[:, 0] = 1.0 * np.arange(N)
    array[:, 1] = column(cell)
    frame = pd.DataFrame({"x0": array[:, 0].astype(float), "x1": pd.Series(list(array[:, 1]), dtype=object)})
    return {"frame": frame, "array": array, "list": array.tolist()}


#: A cell among numbers, what the error says of it, and its cure.
REFUSED = {
    "complex": (1j, "complex|1j", "make"),
    "complex of NumPy": (np.complex128(1 + 2j), "complex", "make"),
    "large integer": (10**400, "an integer of 1329 bits", "too large for float64: rescale"),
    "large integer, written long": (-(10**5000), "an integer of 16610 bits", "too large for float64: rescale"),
    "large fraction": (Fraction(10**400), "Fraction", "too large for float64: rescale"),
    "large decimal": (Decimal("1e400"), "Decimal", "infinity.*rescale"),
    "infinite decimal": (Decimal("-Infinity"), "Decimal", "infinity.*rescale"),
    "infinity": (np.inf, "inf", "infinity.*rescale"),
    "bytes": (b"a", "b'a'", "make (strings or numbers|a number)"),
    "set": ({1}, "set", "make"),
    "list": ([1, 2], "list|\\[1, 2\\]", "make"),
    "array": (np.ones(2), "ndarray|array", "make"),
    "dictionary": ({1: 2}, "dict", "make"),
    "date": (date(2026, 1, 1), "date", "make"),
    "timedelta": (timedelta(1), "timedelta", "make"),
    "timedelta of NumPy": (np.timedelta64(1, "D"), "timedelta64", "make"),
    "no time of NumPy": (np.datetime64("NaT"), "datetime64", "make"),
    "function": (len, "function", "make (strings or numbers|a number)"),
}


@cache
def fitted():
    return GNRegressor(**SMALL).fit(forms(0.5)["frame"].to_numpy(dtype=float), Y)


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.parametrize("form", ["frame", "array", "list"])
def test_a_cell_that_is_no_number_is_named_with_its_row_and_its_cure(case, form):
    cell, what, cure = REFUSED[case]
    if form == "list" and case in ("list", "array", "infinity"):
        return  # No table, or one of floats, of which scikit-learn says it.
    X = forms(cell)[form]
    with pytest.raises((TypeError, ValueError)) as caught:
        GNRegressor(**SMALL).fit(X, Y)
    message = str(caught.value)
    for part in ("olumn 'x1' of X", f"row {ROW}", what, cure):
        assert re.search(part, message), (part, message)
    # The same in rows for predictions, for which the fit is kept.
    model = copy.deepcopy(fitted())
    before = model.predict(np.ones((1, 2)))
    if form != "frame":
        with pytest.raises((TypeError, ValueError), match=f"x1.*row {ROW}"):
            model.predict(X)
        with pytest.raises((TypeError, ValueError), match=f"x1.*row {ROW}"):
            model.partial_fit(X, Y)
    np.testing.assert_array_equal(model.predict(np.ones((1, 2))), before)


MISSING = {"NA": pd.NA, "NaT": pd.NaT, "None": None, "decimal": Decimal("NaN"), "signalling": Decimal("sNaN")}


@pytest.mark.parametrize("case", MISSING)
@pytest.mark.parametrize("form", ["frame", "array", "list"])
def test_every_missing_cell_is_missing(case, form):
    X, expected = forms(MISSING[case])[form], forms(np.nan)["frame"].to_numpy(dtype=float)
    model = GNRegressor(**SMALL).fit(X, Y)
    assert "missingindicator_x1" in model.preprocessor_.get_feature_names_out()
    plain = GNRegressor(**SMALL).fit(expected, Y)
    np.testing.assert_array_equal(model.predict(X), plain.predict(expected))


NUMBERS = {
    "fraction": (Fraction(1, 4), 0.25),
    "decimal": (Decimal("0.25"), 0.25),
    "integer beyond 64 bits": (10**30, 1e30),
    "truth value": (np.True_, 1.0),
    "half precision": (np.float16(0.25), 0.25),
}


@pytest.mark.parametrize("case", NUMBERS)
@pytest.mark.parametrize("form", ["frame", "array", "list"])
def test_every_number_is_a_number(case, form):
    cell, number = NUMBERS[case]
    plain = column(number).astype(float)
    expected = GNRegressor(**SMALL).fit(np.column_stack([1.0 * np.arange(N), plain]), Y)
    model = GNRegressor(**SMALL).fit(forms(cell)[form], Y)
    assert model.preprocessor_ is None
    np.testing.assert_array_equal(model.coefs_[0], expected.coefs_[0])


@pytest.mark.parametrize("missing", [False, True])
def test_decimals_of_every_library_are_numbers(missing):
    cells = [Decimal(i) / 4 if i or not missing else None for i in range(N)]
    kind = pd.ArrowDtype(pa.decimal128(10, 2))
    expected = GNRegressor(**SMALL).fit(np.array([[np.nan if c is None else float(c)] for c in cells]), Y)
    tables = [
        pd.DataFrame({"b": pd.array(cells, dtype=kind)}),
        pd.DataFrame({"b": cells}),
        pa.table({"b": pa.array(cells)}),
        pl.DataFrame({"b": pl.Series(cells)}),
    ]
    for table in tables:
        np.testing.assert_array_equal(GNRegressor(**SMALL).fit(table, Y).coefs_[0], expected.coefs_[0])


@pytest.mark.parametrize("cell", [1j, {1}, len], ids=["complex", "set", "function"])
def test_a_level_that_is_none_is_named_with_its_row(cell):
    with pytest.raises(TypeError, match=rf"Column 'x1'.*no levels of a category.*row {ROW}.*make strings or numbers"):
        GNRegressor(**SMALL, categorical_features=["x1"]).fit(forms(cell)["frame"], Y)


@pytest.mark.parametrize("estimator", [GNRegressor, GNClassifier])
@pytest.mark.parametrize("cell", ["1.5", "n/a", ""])
def test_one_string_among_numbers_makes_a_category_not_without_a_word(estimator, cell):
    X, y = forms(cell)["frame"], Y if estimator is GNRegressor else Y > 0
    with pytest.warns(UnfamiliarDataWarning, match=f"Column 'x1' .*category.*row {ROW} has '{cell}'.*to_numeric"):
        model = estimator(**SMALL).fit(X, y)
    assert 1 in model.preprocessor_[0].levels_
    # Named as a category it is no surprise.
    estimator(**SMALL, categorical_features=["x1"]).fit(X, y)


#: Columns of strings, and what the warning shows of them; None if there is none.
STRINGS = {
    "decimals": ([f"{i / 4}" for i in range(N)], "20 levels.*such as '4.75'"),
    "commas and blanks": ([f" {i},5" for i in range(N)], "such as ' 9,5'"),
    "thousands": ([f"{1 + i},250.50" for i in range(N)], "such as '9,250.50'"),
    "thousands with points": ([f"{1 + i}.250,5" for i in range(N)], "such as '9.250,5'"),
    "one above a thousand": (["1,000.5", *map(str, range(900, 899 + N))], "such as '918'.*to_numeric\\)\\. If not"),
    "whole numbers and a sign of missing cells": (["?", *map(str, range(100, 99 + N))], "with '\\?' as a missing cell"),
    "signed": ([str(10 - i) for i in range(N)], "such as '9'"),
    "postcodes": ([str(53000 + i) for i in range(N)], None),
    "leading zeros": ([f"0{i}.1" for i in range(N)], None),
    "few levels": ([f"{i % 5}.5" for i in range(N)], None),
    "codes of letters and numbers": (["K1A", "V57.1", *[f"{250 + i}.1" for i in range(N - 2)]], None),
    "days": ([f"2020-12-{1 + i:02}" for i in range(N)], "20 levels: dates.*such as '2020-12-20'.*to_datetime"),
    "days of Germany": ([f"{1 + i}.12.2020" for i in range(N)], "dates.*such as '9.12.2020'"),
    "days of America": ([f"12/{1 + i}/20" for i in range(N)], "dates.*such as '12/9/20'"),
    "months": ([f"{2000 + i}-{1 + i % 12:02}" for i in range(N)], "dates.*such as '2019-08'"),
    "times": ([f"2020-12-01T{i}:00:00Z" for i in range(N)], "dates.*such as '2020-12-01T9:00:00Z'"),
    "days and a sign of missing cells": (
        ["-", *[f"2020/12/{1 + i}" for i in range(N - 1)]],
        "with '-' as a missing cell",
    ),
    "few days": ([f"2020-12-{1 + i % 5:02}" for i in range(N)], None),
    "days that there are not": ([f"2020-{13 + i}-01" for i in range(N)], None),
    "seasons": ([f"{2000 + i}/{1 + i:02}" for i in range(N)], None),
    "sections": ([f"{1 + i}.{1 + i % 12}.{1 + i}" for i in range(N)], None),
}


#: For what is said of a table before the training.
FAST = {"hidden_layer_sizes": (), "n_estimators": 1, "l2_regularization": 1e-3}


@pytest.mark.parametrize("kind", ["str", object, "string[pyarrow]"])
@pytest.mark.parametrize(("cells", "shown"), STRINGS.values(), ids=STRINGS)
def test_numbers_and_dates_written_as_strings_make_a_category_not_without_a_word(kind, cells, shown):
    X = pd.DataFrame({"size": np.arange(N), "power": pd.Series(cells, dtype=kind)})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UnfamiliarDataWarning)
        model = GNRegressor(**FAST).fit(X, Y)
    texts = [str(warning.message) for warning in caught if warning.category is UnfamiliarDataWarning]
    assert len(texts) == (shown is not None) and 1 in model.preprocessor_[0].levels_
    if shown is None:
        return
    assert re.search(rf"Column 'power' of X is taken as a category.*{shown}", texts[0])
    # What is called a category is one: by its name, or by its type.
    with warnings.catch_warnings():
        warnings.simplefilter("error", UnfamiliarDataWarning)
        GNRegressor(**FAST, categorical_features=["power"]).fit(X, Y)
        GNRegressor(**FAST).fit(X.astype({"power": "category"}), Y)
