"""Properties of any fit, whatever the parameters and the data: hypothesis draws both.

``SKGN_EXAMPLES=1000 pytest tests/test_properties.py`` tries 1,000 new cases of each property. Without the variable,
the few cases are always the same.
"""

import os
from dataclasses import dataclass
from unittest import mock

import numpy as np
import pytest
from scipy import sparse
from sklearn.base import clone

from skgn import GNClassifier, GNRegressor
from skgn.activations import ACTIVATIONS
from skgn.targets import LOSSES
from skgn.training import Training

pytest.importorskip("hypothesis", reason='needs pip install "skgn[test]"')
pd = pytest.importorskip("pandas")
pl = pytest.importorskip("polars")

from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

pytestmark = [
    # Few iterations are enough; a table of noise has no skill.
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]

EXAMPLES = int(os.environ.get("SKGN_EXAMPLES", "0"))


def examples(number):
    """So many cases of a property, always the same; with SKGN_EXAMPLES as many new ones as it says."""
    return settings(
        max_examples=EXAMPLES or number,
        derandomize=not EXAMPLES,
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )


# Parameters.

SHARED = {
    "hidden_layer_sizes": st.sampled_from([(2,), (), (4,), (2, 2), "auto"]),
    "activation": st.sampled_from(sorted(ACTIVATIONS)),
    "linear_path": st.booleans(),
    "alpha": st.sampled_from([1.0, 1e-2, 30.0]),
    "init": st.sampled_from(["random", "symmetric", "centered"]),
    "damping": st.sampled_from(["adaptive", 0.0, 0.1, 1e3]),
    "l2_regularization": st.sampled_from(["evidence", 1e-3, 0.0, 10.0]),
    "prior_groups": st.sampled_from(["auto", "feature", "layer", "shared"]),
    "n_estimators": st.sampled_from([1, 2, 3, "auto"]),
    "solver": st.sampled_from(["auto", "primal", "dual", "cg"]),
    "batch_size": st.sampled_from([None, "auto", 1, 7]),
    "max_iter": st.integers(0, 4),
    "tol": st.sampled_from([1e-3, 0.0, 1.0]),
    "early_stopping": st.booleans(),
    "standardize": st.sampled_from([True, False, "robust", "rank", "periodic", "piecewise"]),
    "dtype": st.sampled_from(["float64", "float32"]),
}
REGRESSION = {"loss": st.sampled_from(sorted(LOSSES)), "quantile": st.sampled_from([0.5, 0.1, 0.99])}
CLASSIFICATION = {"class_weight": st.sampled_from([None, "balanced"])}


def some_of(strategies):
    """Values for at most four parameters; all others keep their defaults."""
    names = st.lists(st.sampled_from(sorted(strategies)), max_size=4, unique=True)
    return names.flatmap(lambda chosen: st.fixed_dictionaries({name: strategies[name] for name in chosen}))


def models(kind, *, exact=False):
    """Estimators; ``exact`` ones have no limit of time, which would make fits differ."""
    strategies = SHARED | (REGRESSION if kind is GNRegressor else CLASSIFICATION)
    if not exact:
        strategies = strategies | {"max_time": st.sampled_from([1e-9, 0.01])}
    defaults = {"max_iter": 2, "random_state": 0}
    return some_of(strategies).map(lambda options: kind(**defaults | options))


# Data.


@dataclass(frozen=True)
class Data:
    X: np.ndarray
    y: np.ndarray
    weight: np.ndarray | None

    @property
    def all(self):
        return self.X, self.y, self.weight


#: Columns of a table, from a source of random numbers, a number of rows and the columns before.
COLUMNS = {
    "normal": lambda rng, n, before: rng.normal(size=n),
    "constant": lambda rng, n, before: np.full(n, rng.normal()),
    "integers": lambda rng, n, before: rng.integers(-2, 3, n).astype(float),
    "indicator": lambda rng, n, before: (rng.random(n) < 0.2).astype(float),
    "heavy": lambda rng, n, before: rng.standard_cauchy(n) ** 3,
    "offset": lambda rng, n, before: 1e8 + rng.normal(size=n),
    "neighbours": lambda rng, n, before: np.where(rng.random(n) < 0.5, 1.0, np.nextafter(1.0, 2.0)),
    "zeros of both signs": lambda rng, n, before: np.where(rng.random(n) < 0.5, 0.0, -0.0),
    "collinear": lambda rng, n, before: sum(before, np.ones(n)),
    "copy": lambda rng, n, before: before[0].copy() if before else np.arange(float(n)),
}
ROWS = st.integers(1, 24)
#: Magnitudes of the columns, in powers of ten.
SCALES = st.sampled_from([0, 0, 0, 1, -1, 5, -5, 150, -150, 290, -300])


@st.composite
def tables(draw, rng, n):
    columns = []
    for name in draw(st.lists(st.sampled_from(sorted(COLUMNS)), min_size=1, max_size=4)):
        columns.append(COLUMNS[name](rng, n, columns))
    X = np.clip(np.column_stack(columns), -1e15, 1e15)
    X = X * 10.0 ** np.array([draw(SCALES) for _ in columns])
    if draw(st.booleans()):
        X = np.where(rng.random(X.shape) < draw(st.sampled_from([0.1, 0.9])), np.nan, X)
    return X


def weights(rng, n):
    return st.sampled_from(
        [
            None,
            np.ones(n),
            rng.integers(0, 3, n) + (np.arange(n) == n - 1).astype(float),
            (np.arange(n) == n // 2).astype(float),
            rng.random(n) + 1e-3,
            np.full(n, 1e-6),
            np.full(n, 1e6),
        ]
    )


def signal(rng, X):
    """A relation with the rows: of magnitude 1, with noise."""
    z = np.nan_to_num(X / np.where(np.isfinite(X), np.abs(X), 0).max(axis=0, initial=1e-300).clip(1e-300))
    return np.sin(3 * z[:, 0]) + z.sum(axis=1) + rng.choice([0.0, 0.1, 1.0]) * rng.normal(size=len(X))


@st.composite
def regressions(draw, positive=False):
    """Tables with targets of one or several columns."""
    rng, n = np.random.default_rng(draw(st.integers(0, 2**32 - 1))), draw(ROWS)
    X = draw(tables(rng, n))
    k = draw(st.sampled_from([None, None, 1, 2]))
    y = np.column_stack([signal(rng, X) for _ in range(k or 1)])
    y = draw(st.sampled_from([y, y.round(), np.full_like(y, 3.7), np.zeros_like(y), y + 1e6]))
    y = np.exp(np.clip(y, -5, 5)) if positive else y * 10.0 ** draw(st.sampled_from([0, 0, 0, 6, -6, 100, -100]))
    return Data(X, y[:, 0] if k is None else y, draw(weights(rng, n)))


@st.composite
def classifications(draw):
    """Tables with classes, or several labels."""
    rng, n = np.random.default_rng(draw(st.integers(0, 2**32 - 1))), draw(ROWS)
    X = draw(tables(rng, n))
    kinds = draw(st.sampled_from([1, 2, 3, 5, "labels"]))
    if kinds == "labels":
        return Data(X, np.column_stack([signal(rng, X) > t for t in (0, 0.5)]).astype(int), draw(weights(rng, n)))
    y = np.clip(np.round(signal(rng, X)), 0, kinds - 1).astype(int)
    return Data(X, y, draw(weights(rng, n)))


# What is asked of a fit.


def attempt(call):
    """Result of a fit or a block, None where it was refused: with words, before any training."""
    with mock.patch.object(Training, "run", autospec=True, side_effect=Training.run) as training:
        try:
            return call()
        except (ValueError, TypeError) as error:
            assert len(str(error)) > 10, "the error has no message"
            assert not training.called, f"refused after work: {error}"
            event(f"refused: {str(error)[:40]}")
            return None


def new_rows(data):
    """Rows of the table, and others: far outside, between, and with missing cells."""
    with np.errstate(over="ignore"):
        beyond = np.clip(np.nan_to_num(data.X) * -30, -1e305, 1e305)
    return np.concatenate([data.X, beyond, np.zeros((1, data.X.shape[1])), np.full((1, data.X.shape[1]), np.nan)])


def assert_sound(model, X):
    """Predictions are finite, standard deviations positive, probabilities sum to 1."""
    assert abs(model.weights_.sum() - 1) < 1e-12
    assert np.isfinite(model.feature_relevance_).all() and (model.feature_relevance_ >= 0).all()
    assert not model.left_out_score_ > 1
    if isinstance(model, GNClassifier):
        p = model.predict_proba(X)
        assert np.isfinite(p).all() and (p >= 0).all() and (p <= 1).all()
        if not model._target.multilabel:
            np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-9)
            assert np.isin(model.predict(X), model.classes_).all()
        return
    mean = model.predict(X)
    assert np.isfinite(mean).all()
    try:
        again, std = model.predict(X, return_std=True)
    except ValueError as error:
        assert "return_std=True" in str(error)
        return
    np.testing.assert_array_equal(again, mean)
    assert np.isfinite(std).all() and (std > 0).all()


def outputs(model, X):
    return model.predict_proba(X) if isinstance(model, GNClassifier) else model.predict(X)


def positive(model):
    return getattr(model, "loss", "") in ("poisson", "gamma")


@st.composite
def fits_and_data(draw):
    """The class of an estimator, and data for it; positive targets are for any loss."""
    kind = draw(st.sampled_from([GNRegressor, GNClassifier]))
    return kind, draw(regressions(positive=True) if kind is GNRegressor else classifications())


# Properties.


@examples(14)
@given(st.data())
def test_regressions_predict_finite_numbers(drawn):
    model = drawn.draw(models(GNRegressor))
    data = drawn.draw(regressions(positive=positive(model)))
    if attempt(lambda: model.fit(*data.all)) is not None:
        assert_sound(model, new_rows(data))


@examples(10)
@given(models(GNClassifier), classifications())
def test_classifications_predict_probabilities(model, data):
    if attempt(lambda: model.fit(*data.all)) is not None:
        assert_sound(model, new_rows(data))


@examples(8)
@given(st.data())
def test_the_order_of_rows_and_repetitions_as_weights_change_no_bit(drawn):
    kind, data = drawn.draw(fits_and_data())
    model = drawn.draw(models(kind, exact=True))
    counts = drawn.draw(st.lists(st.integers(0, 3), min_size=len(data.X), max_size=len(data.X)))
    order = drawn.draw(st.permutations(np.repeat(np.arange(len(data.X)), counts).tolist()))
    if kind is GNClassifier and np.setdiff1d(data.y, data.y[order]).size:
        # A class whose rows all have weight 0 is a class.
        return
    weighted = attempt(lambda: clone(model).fit(data.X, data.y, np.array(counts, dtype=float)))
    repeated = attempt(lambda: clone(model).fit(data.X[order], data.y[order]))
    assert (weighted is None) == (repeated is None)
    if weighted is not None:
        np.testing.assert_array_equal(outputs(weighted, data.X), outputs(repeated, data.X))


@examples(8)
@given(st.data())
def test_names_of_classes_change_no_bit(drawn):
    data, model = drawn.draw(classifications()), drawn.draw(models(GNClassifier, exact=True))
    if data.y.ndim == 2:
        return
    names = drawn.draw(st.sampled_from(["abcde", "ABCDE", "0aZzé"]))
    names = drawn.draw(st.sampled_from([np.array(sorted(names)), np.array(sorted(names), object), np.arange(5) - 7.0]))
    plain = attempt(lambda: clone(model).fit(*data.all))
    named = attempt(lambda: clone(model).fit(data.X, names[data.y], data.weight))
    assert (plain is None) == (named is None)
    if plain is not None:
        np.testing.assert_array_equal(named.classes_, names[plain.classes_])
        np.testing.assert_array_equal(named.predict_proba(data.X), plain.predict_proba(data.X))


@examples(8)
@given(st.data())
def test_a_row_is_predicted_alone_as_among_others(drawn):
    kind, data = drawn.draw(fits_and_data())
    model = drawn.draw(models(kind))
    if attempt(lambda: model.fit(*data.all)) is None:
        return
    X = new_rows(data)[::-3]
    alone = np.concatenate([outputs(model, row[None]) for row in X])
    together = outputs(model, X)
    np.testing.assert_allclose(alone, together, rtol=1e-7, atol=1e-9 * np.abs(together).max())


@examples(8)
@given(st.data())
def test_streams_predict_finite_numbers_and_keep_what_they_have_after_a_bad_block(drawn):
    kind, data = drawn.draw(fits_and_data())
    model = drawn.draw(models(kind))
    classes = {} if kind is GNRegressor else {"classes": [0, 1] if data.y.ndim == 2 else np.arange(5)}
    cuts = sorted(drawn.draw(st.sets(st.integers(1, max(1, len(data.X) - 1)), max_size=2)))
    sound = None
    for rows in np.split(np.arange(len(data.X)), cuts):
        weight = None if data.weight is None else data.weight[rows]
        block = {"X": data.X[rows], "y": data.y[rows], "sample_weight": weight}
        done = attempt(lambda block=block: model.partial_fit(**block, **classes))
        if done is None and sound is not None:
            np.testing.assert_array_equal(outputs(model, data.X), sound)
        if hasattr(model, "estimators_"):
            assert_sound(model, new_rows(data))
            sound = outputs(model, data.X)


@examples(8)
@given(st.data())
def test_a_warm_start_goes_on_or_says_why_not(drawn):
    kind, first = drawn.draw(fits_and_data())
    model = drawn.draw(models(kind)).set_params(warm_start=True)
    if attempt(lambda: model.fit(*first.all)) is None:
        return
    second = drawn.draw(regressions(positive=positive(model)) if kind is GNRegressor else classifications())
    before = outputs(model, first.X)
    if attempt(lambda: model.fit(*second.all)) is None:
        np.testing.assert_array_equal(outputs(model, first.X), before)
    else:
        assert_sound(model, new_rows(second))


#: Data that no fit takes.
BAD_DATA = {
    "infinite": lambda X, y, w: (np.where(np.arange(X.shape[1]) == 0, np.inf, X), y, w),
    "vector": lambda X, y, w: (X[:, 0], y, w),
    "cube": lambda X, y, w: (X[None], y, w),
    "no rows": lambda X, y, w: (X[:0], y[:0], None),
    "no columns": lambda X, y, w: (X[:, :0], y, w),
    "rows of X": lambda X, y, w: (np.concatenate([X, X[:1]]), y, w),
    "rows of y": lambda X, y, w: (X, np.concatenate([y, y[:1]]), w),
    "no y": lambda X, y, w: (X, None, w),
    "missing y": lambda X, y, w: (X, np.where(np.arange(len(y)) == 0, np.nan, y.T).T, w),
    "infinite y": lambda X, y, w: (X, np.where(np.arange(len(y)) == 0, -np.inf, y.T).T, w),
    "complex": lambda X, y, w: (X + 1j, y, w),
    "words": lambda X, y, w: (np.full(X.shape, "word"), y, w),
    "sparse y": lambda X, y, w: (X, sparse.csr_array(np.reshape(y, (len(y), -1))), w),
    "negative weight": lambda X, y, w: (X, y, -np.ones(len(y))),
    "no weight": lambda X, y, w: (X, y, np.zeros(len(y))),
    "missing weight": lambda X, y, w: (X, y, np.full(len(y), np.nan)),
    "weights of other rows": lambda X, y, w: (X, y, np.ones(len(y) + 1)),
    "nothing": lambda X, y, w: (None, y, w),
}

#: Values that a parameter never has.
BAD_PARAMETERS = {
    "hidden_layer_sizes": [(0,), (2, -1), (1.5,), "small", None, ("a",)],
    "activation": ["sine", None, 1],
    "linear_path": ["yes", None],
    "network": ["mlp", np.tanh],
    "alpha": [0, -1.0, np.nan, np.inf, "1", None],
    "init": ["zero", None],
    "damping": [-1.0, "none", np.nan, None],
    "l2_regularization": [-1.0, np.nan, "auto", None],
    "prior_groups": ["unit", None],
    "n_estimators": [0, 1.5, "many", None],
    "solver": ["qr", None],
    "batch_size": [0, 2.5, "small"],
    "max_iter": [-1, 1.5, None],
    "max_time": [0.0, -1.0, np.nan, "1"],
    "tol": [-1e-3, np.nan, None],
    "early_stopping": ["yes", None],
    "n_iter_no_change": [0, 1.5],
    "standardize": ["minmax", None],
    "categorical_features": ["all", [99], [1.5]],
    "device": ["nowhere", None, "cuda:99"],
    "dtype": ["float16", None],
    "n_jobs": [1.5, "all"],
    "random_state": [-1, "seed", 1.5],
    "verbose": ["loud", -1],
}


@examples(22)
@given(st.data())
def test_an_error_comes_before_work_and_keeps_the_earlier_fit(drawn):
    kind, data = drawn.draw(fits_and_data())
    model = kind(n_estimators=1, max_iter=1, hidden_layer_sizes=(2,), random_state=0).fit(*data.all)
    before = {name: value for name, value in vars(model).items() if name not in model.get_params()}
    if drawn.draw(st.booleans()):
        name = drawn.draw(st.sampled_from(sorted(BAD_PARAMETERS)))
        model.set_params(**{name: drawn.draw(st.sampled_from(BAD_PARAMETERS[name]))})
        data = data.all
    else:
        data = BAD_DATA[drawn.draw(st.sampled_from(sorted(BAD_DATA)))](*data.all)
    method = drawn.draw(st.sampled_from(["fit", "partial_fit"]))
    X, y, weight = data
    assert attempt(lambda: getattr(model, method)(X, y, sample_weight=weight)) is None
    after = {name: value for name, value in vars(model).items() if name not in model.get_params()}
    assert after.keys() == before.keys() and all(after[name] is before[name] for name in before)


@st.composite
def frames(draw, rng, n):
    """Data frames of pandas with numbers, categories and missing cells."""
    X = draw(tables(rng, n))
    frame = pd.DataFrame({f"x{j}": column for j, column in enumerate(X.T)})
    kinds = st.sampled_from(["words", "levels", "flags", "counts", "many"])
    for j, kind in enumerate(draw(st.lists(kinds, max_size=3))):
        levels = {"words": ["a", "b", "", "ä b"], "levels": list("uvw"), "many": [f"level {i}" for i in range(15)]}
        cells = pd.Series(rng.choice(levels[kind], n)) if kind in levels else pd.Series(rng.integers(0, 2, n))
        if kind == "levels":
            cells = cells.astype("category")
        elif kind == "flags":
            cells = cells.astype("boolean")
        elif kind == "counts":
            cells = cells.astype("Int64")
        missing = rng.random(n) < draw(st.sampled_from([0, 0.3, 1]))
        frame[f"{kind}_{j}"] = cells.mask(missing)
    return frame


@examples(7)
@given(st.data())
def test_frames_of_any_library_give_the_same_finite_predictions(drawn):
    rng = np.random.default_rng(drawn.draw(st.integers(0, 2**32 - 1)))
    n = drawn.draw(st.integers(1, 24))
    frame = drawn.draw(frames(rng, n))
    kind = drawn.draw(st.sampled_from([GNRegressor, GNClassifier]))
    model = drawn.draw(models(kind, exact=True))
    y = np.exp(rng.normal(size=n)) if kind is GNRegressor else rng.integers(0, 3, n)
    fitted = attempt(lambda: clone(model).fit(frame, y))
    other, order = pl.from_pandas(frame), rng.permutation(n)
    of_other = attempt(lambda: clone(model).fit(other, y))
    moved = attempt(lambda: clone(model).fit(frame.iloc[order], y[order]))
    assert (of_other is None) == (moved is None) == (fitted is None)
    if fitted is not None:
        assert_sound(fitted, frame)
        np.testing.assert_array_equal(outputs(of_other, other), outputs(fitted, frame))
        np.testing.assert_array_equal(outputs(moved, frame), outputs(fitted, frame))
