"""The summary of a fitted estimator: its numbers are those of the estimator, and its text is one screen."""

import gzip
import pickle
import re
import warnings
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import make_friedman1
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from skgn import GNClassifier, GNRegressor, summarize

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

SMALL = {"hidden_layer_sizes": (4,), "random_state": 0, "max_iter": 5}
MODULE = nn.Sequential(nn.Linear(10, 3), nn.Tanh(), nn.Linear(3, 1))
X, Y = make_friedman1(120, noise=1.0, random_state=0)


def fit(estimator=GNRegressor, X=X, y=Y, **options):
    return estimator(**SMALL | options).fit(X, y)


CASES = {
    "regressor": lambda: fit(),
    "one member": lambda: fit(n_estimators=1),
    "many members": lambda: fit(n_estimators=30, max_iter=1),
    "fixed l2": lambda: fit(l2_regularization=0.1, n_estimators=2),
    "linear": lambda: fit(hidden_layer_sizes=()),
    "two layers": lambda: fit(hidden_layer_sizes=(10, 10), n_estimators=2),
    "no noise level": lambda: fit(l2_regularization=0.1, solver="cg", n_estimators=2),
    "several outputs": lambda: fit(y=np.column_stack([Y, -Y]), n_estimators=2),
    "quantiles": lambda: fit(loss="quantile", quantile=[0.1, 0.9], n_estimators=2),
    "module": lambda: fit(network=MODULE, hidden_layer_sizes="auto"),
    "classifier": lambda: fit(GNClassifier, y=np.digitize(Y, [10, 15])),
    "two classes": lambda: fit(GNClassifier, y=Y > 14),
    "labels": lambda: fit(GNClassifier, y=np.column_stack([Y > 10, Y > 14]).astype(int), n_estimators=2),
    "stream": lambda: GNRegressor(**SMALL).partial_fit(X, Y).partial_fit(X, Y),
    "no time": lambda: fit(max_time=1e-9),
    "no iteration": lambda: fit(max_iter=0, n_estimators=1),
}


@cache
def fitted(case):
    """Shared, and not to be changed."""
    return CASES[case]()


@pytest.mark.parametrize("case", CASES)
def test_numbers_are_those_of_the_estimator_and_the_text_is_a_screen(case):
    model = fitted(case)
    summary = summarize(model)
    assert summary.name == type(model).__name__
    assert summary.n_rows == pytest.approx(240 if case == "stream" else 120) and summary.n_features == 10
    assert [member.weight for member in summary.members] == model.weights_.tolist()
    assert [member.n_iter for member in summary.members] == [member.n_iter for member in model.estimators_]
    best = summary.members[0]
    assert best.n_weights == sum(w.size for w in (*model.coefs_, *model.intercepts_))
    if case != "no time":
        # The best member's, whatever the ensemble is.
        assert best.status == model.estimators_[0].status
    np.testing.assert_equal(summary.left_out_score, model.left_out_score_)
    assert (summary.noise is None) == isinstance(model, GNClassifier)
    lines = str(summary).splitlines()
    assert len(lines) <= 24 and max(map(len, lines)) <= 100
    assert lines[0].startswith(f"{summary.name}: {'240' if case == 'stream' else '120'} rows, 10 columns, ")
    assert "nan" not in str(summary) and summary.status in str(summary)
    assert repr(summary) == f"<Summary of {summary.name}: {best_count(model)}, {model.status_}>"


def best_count(model):
    n = len(model.estimators_)
    return f"{n} network" + "s" * (n != 1)


def test_words_of_each_line():
    rng = np.random.RandomState(0)
    frame = pd.DataFrame(rng.normal(size=(300, 3)), columns=["first", "second", "a name of far too many letters"])
    model = fit(X=frame, y=3 * frame["second"] + 0.5 * rng.normal(size=300), max_iter=50)
    text = str(summarize(model))
    lines = {line.split("  ")[0]: line for line in text.splitlines()}
    assert re.search(r"squared_error$", lines["loss"])
    assert re.search(
        rf"normal, std {model.noise_std_:.3g}, {model.noise_}, tails of \d+ degrees of freedom$", lines["noise"]
    )
    assert f"D2 {model.left_out_score_:.3f} of" in lines["left out"]
    assert lines["relevance"].startswith("relevance  second 100%")
    assert model.status_message_ in lines["status"]
    # The columns of the table have their names above them.
    names, *rows = text.splitlines()[-1 - len(model.estimators_) :]
    assert names.split("  ")[0] == "weight" and len({len(row) - len(row.split()[-1]) for row in rows}) == 1
    assert {member.kind for member in summarize(model).members} == {
        f"4 tanh, {member.scaling}, {member.prior_kind} prior" for member in model.estimators_
    }


def test_noise_that_depends_on_the_input_is_said_to():
    rng = np.random.RandomState(0)
    X = rng.uniform(-1, 1, size=(300, 1))
    model = fit(X=X, y=X[:, 0] + np.exp(2 * X[:, 0]) * rng.normal(size=300), max_iter=50)
    assert model.noise_ == "input" and ", depends on the input, tails of " in summarize(model).noise


@pytest.mark.parametrize(
    "case, words",
    [
        ("fixed l2", "4 tanh, robust, l2 0.1"),
        ("linear", "linear, robust, "),
        ("two layers", "10-10 tanh, "),
        ("module", "Sequential, "),
        ("quantiles", "quantile (0.1, 0.9)"),
        ("classifier", "log loss of 3 classes, temperature "),
        ("two classes", "log loss of 2 classes, temperature "),
        ("labels", "log loss of 2 labels, temperature "),
        ("no noise level", "std not known"),
        ("stream", "Trained in one pass on each block of rows given so far. (stream)"),
        ("no time", "relevance  not known"),
        ("many members", "18 others"),
    ],
)
def test_special_cases_in_words(case, words):
    assert words in str(summarize(fitted(case)))


def test_weights_of_rows_are_repetitions():
    weight = np.arange(120) % 3
    by_weights = summarize(GNRegressor(**SMALL).fit(X, Y, weight))
    repeated = summarize(fit(X=np.repeat(X, weight, axis=0), y=np.repeat(Y, weight)))
    # Of copies so many are observations (Kish).
    assert by_weights.n_rows == repeated.n_rows == pytest.approx(weight.sum() ** 2 / (weight**2).sum())


def test_pipelines_searches_and_loaded_models():
    model = fit()
    frame = pd.DataFrame(X).add_prefix("c")
    pipeline = make_pipeline(StandardScaler(), GNRegressor(**SMALL, n_estimators=1)).fit(frame, Y)
    assert summarize(pipeline).relevance[0][0].startswith("c")
    search = GridSearchCV(GNRegressor(**SMALL, n_estimators=1), {"alpha": [0.5, 1.0]}, cv=2).fit(X, Y)
    assert str(summarize(search)) == str(summarize(search.best_estimator_))
    assert str(summarize(pickle.loads(pickle.dumps(model)))) == str(summarize(model))


def test_models_of_earlier_versions():
    for path in (Path(__file__).parent / "data").glob("models-*.pkl.gz"):
        with gzip.open(path) as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            models = pickle.load(file)
        for model, *_ in models.values():
            assert summarize(model).status == model.status_ and len(str(summarize(model)).splitlines()) <= 24


def test_what_a_callback_is_shown_has_a_summary():
    pytest.importorskip("sklearn.callback", reason="sklearn.callback comes with scikit-learn 1.9")

    class Summarising:
        def setup(self, estimator, context):
            self.texts = []

        def teardown(self, estimator, context):
            pass

        def on_fit_task_begin(self, estimator, context):
            pass

        def on_fit_task_end(self, estimator, context, *, fitted_estimator=None):
            if fitted_estimator is not None:
                self.texts.append(str(summarize(fitted_estimator)))

    callback = Summarising()
    GNRegressor(**SMALL, n_estimators=1).set_callbacks(callback).fit(X, Y)
    assert "relevance  not known" in callback.texts[0] and "relevance  x" in callback.texts[-1]


def test_what_is_no_fitted_network_is_refused():
    with pytest.raises(NotFittedError):
        summarize(GNRegressor())
    with pytest.raises(TypeError, match="got Ridge"):
        summarize(Ridge().fit(X, Y))
