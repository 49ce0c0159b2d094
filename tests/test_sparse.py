"""Sparse tables: the fits and predictions of the same dense tables, bit for bit, where these fit in memory."""

from functools import cache

import numpy as np
import pytest
from scipy import sparse
from sklearn.compose import make_column_transformer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from skgn import GNClassifier, GNRegressor, diagnose
from skgn.spectrum import extreme_eigenvalues

ESTIMATORS = [GNRegressor, GNClassifier]
SMALL = {"hidden_layer_sizes": (3,), "n_estimators": 2, "max_iter": 3, "random_state": 0}
#: Where the rows are read alone.
READ = SMALL | {"l2_regularization": 1e-2}
RNG = np.random.default_rng(0)
X = RNG.integers(1, 9, (40, 6)) * (RNG.random((40, 6)) < 0.4).astype(float)
Y = X[:, 0] - X[:, 1] + RNG.normal(size=40)
NEW = X[::-1][:7] + (X[::-1][:7] > 0)

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def target(estimator):
    return Y if estimator is GNRegressor else np.where(Y > 0, "yes", "no")


def outputs(model, rows):
    """All that a model predicts."""
    if isinstance(model, GNClassifier):
        methods = ("predict", "predict_proba", "predict_log_proba", "decision_function", "mutual_information")
        return [getattr(model, method)(rows) for method in methods]
    asked = [model.predict(rows), *model.predict(rows, return_std=True), *model.predict(rows, return_cov=True)]
    asked += [model.predict_quantiles(rows, [0.1, 0.9]), model.predict_interval(rows), model.epistemic_std(rows)]
    return [*asked, model.sample_y(rows, 2, random_state=0)]


@cache
def dense_fit(estimator, dtype):
    """The fit of the dense table, which is not to be changed, and what it predicts."""
    model = estimator(**READ).fit(X.astype(dtype), target(estimator))
    return model, outputs(model, NEW.astype(dtype))


def assert_same(model, other, rows, other_rows):
    for a, b in zip(outputs(model, rows), outputs(other, other_rows), strict=True):
        np.testing.assert_array_equal(a, b)


def with_long_indices(rows):
    rows.indices, rows.indptr = rows.indices.astype(np.int64), rows.indptr.astype(np.int64)
    return rows


FORMS = {
    **{
        f"{name}_{kind}": getattr(sparse, f"{name}_{kind}")
        for name in ("csr", "csc", "coo", "bsr", "lil", "dok", "dia")
        for kind in ("matrix", "array")
    },
    "int64 values": lambda X: sparse.csr_array(X.astype(np.int64)),
    "float32 values": lambda X: sparse.csc_array(X.astype(np.float32)),
    "long indices": lambda X: with_long_indices(sparse.csr_array(X)),
    "stored zeros": lambda X: sparse.csr_array((X.ravel(), np.indices(X.shape).reshape(2, -1)), shape=X.shape),
    "summands": lambda X: sparse.coo_array(
        (np.tile(X.ravel() / 2, 2), np.tile(np.indices(X.shape).reshape(2, -1), 2)), shape=X.shape
    ),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_the_fit_is_that_of_the_dense_table(estimator, form):
    make = FORMS[form]
    given, y = make(X), target(estimator)
    stored = given.copy()
    fitted = estimator(**READ).fit(given, y)
    dtype = "float32" if "float32" in form else "float64"
    expected, predicted = dense_fit(estimator, dtype)
    for a, b in zip(fitted.coefs_ + fitted.intercepts_, expected.coefs_ + expected.intercepts_, strict=True):
        np.testing.assert_array_equal(a, b)
    for a, b in zip(outputs(fitted, make(NEW)), predicted, strict=True):
        np.testing.assert_array_equal(a, b)
        assert a.dtype == b.dtype
    assert fitted.score(given, y) == expected.score(X.astype(dtype), y)
    assert sparse.issparse(given) and abs(given - stored).sum() == 0


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_streams_and_validation_rows_may_be_sparse(estimator):
    y = target(estimator)
    classes = {} if estimator is GNRegressor else {"classes": ["no", "yes"]}
    streams = [estimator(**SMALL), estimator(**SMALL)]
    for stream, form in zip(streams, (sparse.csr_array, np.array), strict=True):
        for block in (slice(25), slice(25, None)):
            stream.partial_fit(form(X[block]), y[block], **classes)
    assert_same(*streams, sparse.csc_array(NEW), NEW)
    stopped = [
        estimator(**SMALL, early_stopping=True).fit(form(X[10:]), y[10:], X_val=form(X[:10]), y_val=y[:10])
        for form in (sparse.csr_array, np.array)
    ]
    assert_same(*stopped, sparse.csr_array(NEW), NEW)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_an_encoder_in_front_needs_no_option(estimator):
    pd = pytest.importorskip("pandas")
    levels = pd.DataFrame({"town": RNG.choice(list("abcd"), 40), "kind": RNG.choice(["u", "v"], 40), "size": X[:, 0]})
    y = target(estimator)

    def piped(**options):
        encoder = make_column_transformer((OneHotEncoder(**options), ["town", "kind"]), remainder="passthrough")
        return make_pipeline(encoder, estimator(**SMALL)).fit(levels, y)

    np.testing.assert_array_equal(piped().predict(levels), piped(sparse_output=False).predict(levels))
    alone = make_pipeline(OneHotEncoder(), estimator(**SMALL)).fit(levels[["town", "kind"]], y)
    assert sparse.issparse(alone[:-1].transform(levels[["town", "kind"]]))
    assert 0 <= alone.score(levels[["town", "kind"]], y) <= 1


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_examinations_take_sparse_rows(estimator):
    y = target(estimator)
    model = estimator(**SMALL).fit(X, y)
    for form in (sparse.csr_array, sparse.coo_array):
        weight = np.arange(40) % 3
        reports = [str(diagnose(model, rows, y, sample_weight=weight, verbose=False)) for rows in (form(X), X)]
        assert reports[0] == reports[1]
        assert extreme_eigenvalues(model, form(X), y) == extreme_eigenvalues(model, X, y)


@pytest.mark.filterwarnings("ignore:1 of 7 rows of X have levels in column 'x0'")
def test_cells_may_be_missing_or_categories():
    holes = X.copy()
    holes[::5, 2] = np.nan
    models = [
        GNRegressor(**SMALL, categorical_features=[0]).fit(form(holes), Y) for form in (sparse.csr_array, np.array)
    ]
    assert_same(*models, sparse.csr_array(NEW), NEW)
    for form in (sparse.csr_array, np.array):
        columns = models[0].preprocessor_.transform(form(holes))
        np.testing.assert_array_equal(columns, models[1].preprocessor_.transform(holes))


def test_a_frame_of_sparse_columns_is_read_by_name():
    pd = pytest.importorskip("pandas")
    names = [f"c{j}" for j in range(6)]
    frames = [pd.DataFrame.sparse.from_spmatrix(sparse.csr_array(rows), columns=names) for rows in (X, NEW)]
    fitted = GNRegressor(**SMALL).fit(frames[0], Y)
    assert list(fitted.feature_names_in_) == names
    assert_same(
        fitted, GNRegressor(**SMALL).fit(pd.DataFrame(X, columns=names), Y), frames[1], frames[1].sparse.to_dense()
    )


BAD = {
    "infinite": (sparse.csr_array(np.where(X == X.max(), np.inf, X)), "infinity"),
    "complex": (sparse.csr_array(X * 1j), "[Cc]omplex"),
    "no rows": (sparse.csr_array(X[:0]), "0 sample"),
    "other rows": (sparse.csr_array(X[1:]), "inconsistent numbers of samples"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_refused_of_a_dense_table_is_refused(case):
    rows, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        GNRegressor(**SMALL).fit(rows, Y)


#: 745 GB of zeros, in 8 MB.
LARGE = sparse.csr_array((1_000_000, 100_000))


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("form", [sparse.csr_array, sparse.csc_array])
def test_a_table_beyond_memory_is_refused_with_its_size(estimator, form):
    large = form(LARGE)
    with pytest.raises(ValueError, match=r"X is sparse.*takes 745 GB.*are available.*partial_fit"):
        estimator(**SMALL).fit(large, np.zeros(large.shape[0]))


@pytest.mark.parametrize(
    "form",
    [sparse.csr_array, lambda X: pytest.importorskip("pandas").DataFrame.sparse.from_spmatrix(sparse.csr_array(X))],
)
def test_the_check_of_the_size_comes_before_any_work_and_keeps_the_earlier_fit(form, monkeypatch):
    model = GNRegressor(**SMALL).fit(X, Y)
    expected = model.predict(NEW)
    big, small = form(X), form(X[:5])
    # As much as 10 rows take with what is made of them.
    monkeypatch.setattr("skgn.tables.available_memory", lambda device: 4 * 10 * 6 * 8)
    calls = [
        lambda: model.fit(big, Y),
        lambda: model.partial_fit(big, Y),
        lambda: model.predict(big),
        lambda: model.score(big, Y),
        lambda: GNRegressor(**SMALL, early_stopping=True).fit(X, Y, X_val=big, y_val=Y),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=r"X is sparse.*as a dense array it takes 1\.79e-06 GB"):
            call()
    np.testing.assert_array_equal(model.predict(NEW), expected)
    assert model.predict(small).shape == (5,)
