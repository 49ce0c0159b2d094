"""What habits from other estimators of scikit-learn meet: errors and warnings that name what was meant."""

import re
import warnings

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils._param_validation import Options
from torch import nn

from skgn import GNClassifier, GNRegressor, directions
from skgn.damping import GainRatio, GeometricDecay

ESTIMATORS = [GNRegressor, GNClassifier]
SMALL = {"hidden_layer_sizes": (3,), "n_estimators": 1, "max_iter": 2, "random_state": 0}
RNG = np.random.default_rng(0)
X = RNG.normal(size=(30, 2))
WORDS = np.where(X[:, 0] > 0, "yes", "no")

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def target(estimator):
    return X[:, 0] if estimator is GNRegressor else WORDS


def warned(fit):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit()
    return [str(warning.message) for warning in caught if "alpha" in str(warning.message)]


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("alpha", [1e-5, 1e-4, 1e-3, 0.01])
def test_an_alpha_that_looks_like_a_penalty_is_warned_of(estimator, alpha):
    model, y = estimator(**SMALL, alpha=alpha), target(estimator)
    (message,) = warned(lambda: model.fit(X, y))
    assert message.startswith(f"alpha={alpha:g} is a factor on the output") and "is l2_regularization here" in message
    options = {} if estimator is GNRegressor else {"classes": ["no", "yes"]}
    stream = clone(model)
    assert warned(lambda: stream.partial_fit(X, y, **options)) == [message]
    assert warned(lambda: stream.partial_fit(X, y)) == []  # Once a stream.


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("value", [1.0, np.nan], ids=["constant", "missing"])
def test_columns_that_tell_nothing_are_warned_of(estimator, value):
    """One value that differs, or that alone is known, is something."""
    model, same = estimator(**SMALL), np.full_like(X, value)
    other = same.copy()
    other[3, 1] = 2.0
    with pytest.warns(UserWarning, match="No column of X tells rows apart.* Predictions are constant"):
        model.fit(same, target(estimator))
    assert np.ptp(model.predict(other) if estimator is GNRegressor else model.predict_proba(other)[:, 0]) < 1e-12
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(other, target(estimator))
    assert not any("tells rows apart" in str(warning.message) for warning in caught)


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize(
    ("given", "warns"),
    [
        ({"hidden_layer_sizes": (3,)}, True),
        ({"hidden_layer_sizes": (3,), "max_time": 60.0}, False),
        ({"hidden_layer_sizes": (3,), "batch_size": 15}, False),
        ({"hidden_layer_sizes": (3,), "l2_regularization": 1e-3}, False),
        ({}, False),
    ],
    ids=str,
)
def test_a_fit_says_that_networks_of_the_user_take_long_before_it_begins(estimator, given, warns, monkeypatch):
    """Those that are left to the fit are made smaller, and batches and a given objective take less time."""
    monkeypatch.setattr(directions, "_MOST_FLOPS", 10.0)
    model = estimator(max_iter=1, random_state=0).set_params(**given)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(X, target(estimator))
    messages = [str(warning.message) for warning in caught if "take minutes" in str(warning.message)]
    assert [re.match(r"Networks of \d+ weights take \d+ times", message) is not None for message in messages] == [
        True
    ] * warns
    if warns:
        assert sum(member.network.hidden_layer_sizes == (3,) for member in model.estimators_) <= 2


@pytest.mark.filterwarnings("default::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_warnings_of_a_fit_are_given_where_the_user_calls_also_in_a_pipeline(estimator):
    model, y, weight = estimator(**SMALL), target(estimator), np.full(len(X), 1 / len(X))
    pipeline, options = (
        make_pipeline(StandardScaler(), clone(model)),
        {} if estimator is GNRegressor else {"classes": ["no", "yes"]},
    )
    calls = {
        "fit": lambda: model.fit(X, y, sample_weight=weight),
        "pipeline": lambda: pipeline.fit(X, y, **{f"{pipeline.steps[-1][0]}__sample_weight": weight}),
        "partial_fit": lambda: clone(model).partial_fit(X, y, sample_weight=weight, **options),
    }
    for name, call in calls.items():
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            call()
        texts = [str(each.message) for each in caught]
        assert sum("sample_weight has a mean of 0.033 over 30 rows" in text for text in texts) == 1, name
        # A block of a stream is one pass, which does not converge.
        assert any("max_iter=2" in text for text in texts) is (name != "partial_fit"), name
        assert {each.filename for each in caught} == {__file__}, name


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("given", [{"alpha": 0.1}, {"alpha": 1e-4, "l2_regularization": 1e-4}, {"alpha": 10}])
def test_an_alpha_that_is_meant_is_not(estimator, given):
    assert warned(lambda: estimator(**SMALL, **given).fit(X, target(estimator))) == []


#: Targets of words in every form, and the first of the words that are no numbers.
WORDS_AS_TARGETS = {
    "strings": (lambda y: y, "'(yes|no)' in row 0"),
    "list": (lambda y: y.tolist(), "'(yes|no)' in row 0"),
    "objects": (lambda y: y.astype(object), "'(yes|no)' in row 0"),
    "column": (lambda y: y[:, None], "'(yes|no)' in row 0"),
    "bytes": (lambda y: y.astype("S"), "b'(yes|no)' in row 0"),
    "a word among numbers": (lambda y: [1.5, 2.5, "three", *range(len(y) - 3)], "'three' in row 2"),
    "a word among numbers as strings": (lambda y: np.array(["1.5", "2", "x"] * (len(y) // 3)), "'x' in row 2"),
    "series": (lambda y: pytest.importorskip("pandas").Series(y), "'(yes|no)' in row 0"),
    "categories": (lambda y: pytest.importorskip("pandas").Series(y, dtype="category"), "'(yes|no)' in row 0"),
    "polars": (lambda y: pytest.importorskip("polars").Series(y), "'(yes|no)' in row 0"),
    "pyarrow": (lambda y: pytest.importorskip("pyarrow").array(y.tolist()), "'(yes|no)' in row 0"),
}


@pytest.mark.parametrize("case", WORDS_AS_TARGETS)
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_a_regression_of_words_names_the_classifier(case, method):
    make, found = WORDS_AS_TARGETS[case]
    with pytest.raises(ValueError, match=rf"y has {found}, where.*could not convert string to float.*use GNClassifier"):
        getattr(GNRegressor(**SMALL), method)(X, make(WORDS))


def test_numbers_written_as_strings_are_numbers():
    y = np.round(X[:, 0], 6)
    expected = GNRegressor(**SMALL).fit(X, y).predict(X)
    np.testing.assert_array_equal(GNRegressor(**SMALL).fit(X, y.astype(str)).predict(X), expected)


@pytest.mark.parametrize("loss", ["squared_error", "student_t", "huber", "cauchy", "poisson", "gamma"])
@pytest.mark.parametrize("quantile", [0.9, [0.1, 0.9], [0.5]])
def test_a_quantile_without_its_loss_is_refused_before_any_work(loss, quantile, monkeypatch):
    monkeypatch.setattr("skgn.estimator.read_rows", lambda *_: pytest.fail("work was done"))
    model = GNRegressor(**SMALL, loss=loss, quantile=quantile)
    for method in (model.fit, model.partial_fit):
        with pytest.raises(ValueError, match=rf"^quantile={re.escape(str(quantile))} has no meaning for loss='{loss}'"):
            method(X, np.exp(X[:, 0]))


def test_the_default_quantile_goes_with_every_loss():
    for loss in ("squared_error", "quantile"):
        GNRegressor(**SMALL, loss=loss, quantile=np.float64(0.5)).fit(X, X[:, 0])


@pytest.mark.parametrize("sizes", [(), (3,), (3, 2)])
@pytest.mark.parametrize("form", [list, lambda sizes: np.array(sizes, dtype=int)])
def test_layers_may_be_any_sequence(sizes, form):
    """As the parameter's constraint says: array-like."""
    options = {"max_iter": 3, "n_estimators": 2, "random_state": 0}
    expected = GNRegressor(sizes, **options).fit(X, X[:, 0]).predict(X)
    np.testing.assert_array_equal(GNRegressor(form(sizes), **options).fit(X, X[:, 0]).predict(X), expected)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_messages_list_options_in_the_order_of_the_documentation(estimator):
    """A set of strings would have another order in each process."""
    compared = 0
    for name, constraints in estimator._parameter_constraints.items():
        for constraint in constraints:
            if not isinstance(constraint, Options) or len(constraint.options) == 1:
                continue
            text = re.search(rf"^    {name} : .*?(?=^    \w+ :|^    Attributes)", estimator.__doc__, re.M | re.S)[0]
            text = re.sub(r'default="\w+"', "", text)
            positions = [text.index(f'"{option}"') for option in re.findall(r"'(\w+)'", str(constraint))]
            assert positions == sorted(positions) and len(positions) >= 2
            compared += 1
    assert compared >= 6


@pytest.mark.parametrize(
    "given, words",
    [
        ({"solver": "cg"}, "solver='cg' takes a float"),
        ({"device": "abacus"}, "device='abacus' is not"),
        ({"noise": "input", "solver": "cg"}, "not go with solver='cg'"),
        ({"quantile": 0.9, "loss": "huber"}, "quantile=0.9 has no meaning for loss='huber'"),
        ({"network": nn.Linear(2, 1), "activation": "tanh", "hidden_layer_sizes": "auto"}, "activation='tanh' has no"),
    ],
    ids=lambda part: part if isinstance(part, str) else None,
)
def test_strings_and_numbers_of_numpy_are_written_as_those_of_python(given, words):
    of_numpy = {str: np.str_, float: np.float64}
    given = {name: of_numpy.get(type(value), lambda value: value)(value) for name, value in given.items()}
    with pytest.raises(ValueError, match=words):
        GNRegressor(**given).fit(np.eye(6, 2), np.arange(6.0))


@pytest.mark.parametrize("method", ["predict_interval", "predict_quantiles", "sample_y", "epistemic_std"])
def test_an_error_names_the_method_that_was_called(method):
    model = GNRegressor((200,), l2_regularization=0.0, n_estimators=1, max_iter=0).fit(X, X[:, 0])
    given = ([0.5],) if method == "predict_quantiles" else ()
    with pytest.raises(ValueError, match=f"^{method} needs weights determined"):
        getattr(model, method)(X, *given)


@pytest.mark.parametrize("given", [["kind"], [0], [True, False]], ids=str)
def test_a_table_of_words_says_where_its_category_is_named_and_that_helps(given):
    """In an array its position is given, and in a data frame a name that was forgotten."""
    pd = pytest.importorskip("pandas")
    table = pd.DataFrame({"kind": ["a", "b"] * (len(X) // 2), "size": X[: len(X) // 2 * 2, 0]})
    y, read = table["size"] + (table["kind"] == "a"), table if given == ["kind"] else table.to_numpy()
    forgotten = ["size"] if given == ["kind"] else "from_dtype"
    with pytest.raises(ValueError, match="If the column is a category, name it in categorical_features, or give its"):
        GNRegressor(**SMALL, categorical_features=forgotten).fit(read, y)
    assert GNRegressor(**SMALL, categorical_features=given).fit(read, y).score(read, y) > 0.9


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("rule", [GainRatio, GeometricDecay])
def test_a_class_of_damping_rules_is_refused_with_its_instance(rule, estimator):
    with pytest.raises(TypeError, match=rf"is a class.* set damping={rule.__name__}\(\)"):
        estimator(**SMALL, damping=rule).fit(X, target(estimator))
    estimator(**SMALL, damping=rule()).fit(X, target(estimator))
