"""scikit-learn's callbacks: what they are told of a fit, what they may ask of it, and that they leave it as it was."""

import copy
import os
import pickle
import re
import signal
import threading
import time
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_diabetes, make_regression
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import get_scorer
from sklearn.model_selection import GridSearchCV, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skgn import GNClassifier, GNRegressor
from skgn.damping import GainRatio

sklearn_callback = pytest.importorskip("sklearn.callback", reason="sklearn.callback comes with scikit-learn 1.9")
ProgressBar, ScoringMonitor = sklearn_callback.ProgressBar, sklearn_callback.ScoringMonitor

ESTIMATORS = [GNRegressor, GNClassifier]

#: Small networks: of several members none is dropped, one is the best of a search, or trained alone.
SMALL = {"hidden_layer_sizes": (4,), "tol": 1e-2, "random_state": 0}
ONE = {**SMALL, "n_estimators": 1}
PLAIN = {**ONE, "l2_regularization": 1e-3, "damping": GainRatio()}
#: Evidence, and nothing to choose.
KIND = {"hidden_layer_sizes": (), "loss": "poisson", "prior_groups": "layer", "n_estimators": 1}

unconverged = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def data(estimator):
    if estimator is GNRegressor:
        return load_diabetes(return_X_y=True)
    X, y = load_breast_cancer(return_X_y=True)
    return X[::2, :10], y[::2]


def long_table(n=2500):
    return make_regression(n, 3, n_informative=3, noise=5.0, random_state=0)


class Recording:
    """Keeps what the hooks are told: the path of each task, the estimator shown, and the thread."""

    def __init__(self):
        self.events, self.inside = [], threading.Lock()

    def _add(self, event, context, shown=None, data=None):
        path, names = [], []
        while context is not None:
            path.append(context.task_id)
            names.append(context.task_name)
            context = context.parent
        # Hooks come one at a time.
        assert self.inside.acquire(blocking=False)
        time.sleep(1e-4)
        self.events.append((event, tuple(path[::-1]), names[0], shown, data))
        self.inside.release()

    def setup(self, estimator, context):
        self._add("setup", context)

    def teardown(self, estimator, context):
        self._add("teardown", context)

    def on_fit_task_begin(self, estimator, context, *, fitted_estimator=None):
        self._add("begin", context, fitted_estimator)

    def on_fit_task_end(self, estimator, context, *, X=None, y=None, metadata=None, fitted_estimator=None):
        self._add("end", context, fitted_estimator, (X, y, metadata))
        return self.stop(context)

    def stop(self, context):
        return False

    def tasks(self, event, name, under=()):
        """Path -> estimator shown, of the tasks of a name."""
        return {
            path: shown
            for what, path, task, shown, _ in self.events
            if what == event and task == name and path[: len(under)] == under
        }


class Blind:
    """Asks for nothing."""

    max_propagation_depth = None

    def __init__(self):
        self.names = []

    def setup(self, estimator, context):
        self.names.append("setup")

    def teardown(self, estimator, context):
        self.names.append("teardown")

    def on_fit_task_begin(self, estimator, context):
        pass

    def on_fit_task_end(self, estimator, context):
        self.names.append(context.task_name)


@unconverged
@pytest.mark.parametrize("n_jobs", [None, 2])
def test_a_callback_may_differentiate_by_torch(n_jobs):
    """Training runs in another mode, of which a callback sees nothing. What it asks for is made in that mode."""

    class Differentiating(Recording):
        slopes = ()

        def stop(self, context):
            x = torch.ones(2, requires_grad=True)
            (x**2).sum().backward()
            self.slopes = (*self.slopes, *x.grad.tolist())

    X, y = data(GNRegressor)
    callback = Differentiating()
    members = {"n_estimators": 2, "n_jobs": n_jobs, "max_iter": 3, "l2_regularization": 1e-3}
    model = GNRegressor(**SMALL | members).set_callbacks(callback).fit(X, y)
    assert set(callback.slopes) == {2.0}
    shown = [shown for *_, shown, _ in callback.events if shown is not None]
    assert shown and all(np.isfinite(each.predict(X[:5], return_std=True)).all() for each in shown)
    same_weights(model, GNRegressor(**SMALL | members).fit(X, y))
    with torch.no_grad(), pytest.raises(RuntimeError, match="does not require grad"):
        GNRegressor(**SMALL | members).set_callbacks(Differentiating()).fit(X, y)


def check_tree(recording):
    """Every task begins within its parent, once, and ends, once; setup comes first and teardown last."""
    events = [(event, path) for event, path, *_ in recording.events]
    assert events[0] == ("setup", (0,)) and events[-1] == ("teardown", (0,))
    assert events[1] == ("begin", (0,)) and events[-2] == ("end", (0,))
    running = set()
    for event, path in events[1:-1]:
        if event == "begin":
            assert path not in running and (len(path) == 1 or path[:-1] in running)
            running.add(path)
        else:
            assert not any(other[: len(path)] == path for other in running - {path})
            running.remove(path)
    assert not running
    assert len(set(events)) == len(events)


def iterations(recording, path, name="iteration"):
    """The iterations of a candidate that took a step: those that show an estimator."""
    ended = recording.tasks("end", name, path)
    return [ended[key] for key in sorted(ended) if ended[key] is not None]


def same_weights(model, other):
    return len(model.coefs_) == len(other.coefs_) and all(
        np.array_equal(a, b) for a, b in zip(model.coefs_, other.coefs_, strict=True)
    )


# --- What hooks are told


@cache
def recorded_search(estimator, n_jobs):
    """What is told of a search for the best member, and the model."""
    recording = Recording()
    return recording, estimator(**ONE, n_jobs=n_jobs).set_callbacks(recording).fit(*data(estimator))


@pytest.mark.parametrize("n_jobs", [1, 2])
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_a_search_has_a_task_for_each_candidate_and_each_of_its_iterations(estimator, n_jobs):
    recording, model = recorded_search(estimator, n_jobs)
    check_tree(recording)
    candidates = recording.tasks("end", "candidate")
    # Of the regression two more are drawn, as the best of three leaves half of the variance.
    assert len(candidates) == (5 if estimator is GNRegressor else 3)
    best = [path for path, shown in candidates.items() if same_weights(shown, model)]
    assert len(best) == 1
    shown = iterations(recording, best[0])
    assert [one.n_iter_ for one in shown] == list(range(1, model.n_iter_ + 1))
    np.testing.assert_array_equal([one.loss_ for one in shown], model.loss_curve_)
    assert recording.tasks("end", "fit")[0,].estimators_ is model.estimators_


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_a_candidate_that_is_dropped_on_the_way_has_a_last_task_that_says_so(n_jobs):
    recording, _ = recorded_search(GNRegressor, n_jobs)
    dropped = recording.tasks("end", "dropped")
    # One of three goes on; those that are drawn later are trained to the end.
    assert len({path[:2] for path in dropped}) == len(dropped) == 2
    for path, shown in dropped.items():
        assert shown is None and path[2] == len(recording.tasks("end", "iteration", path[:2]))
        events = [(event, where) for event, where, *_ in recording.events]
        last = events.index(("end", path))
        assert events[last - 1 : last + 2] == [("begin", path), ("end", path), ("end", path[:2])]


def drawn(bar, capsys, **options):
    """Names and parts of the bars that a fit leaves on the screen."""
    X, y = load_diabetes(return_X_y=True)
    GNRegressor(**SMALL, **options).set_callbacks(bar).fit(X, y)
    return re.findall(r"GNRegressor - ([a-z]+(?: #\d+)?) .* (\d+)% ", capsys.readouterr().out)


def test_a_progress_bar_has_a_line_below_a_candidate_that_is_dropped(capsys):
    bars = drawn(ProgressBar(), capsys, n_estimators=1)
    names = [name.split()[0] for name, _ in bars]
    assert names[0] == "fit" and names.count("candidate") == 5 and names.count("dropped") == 2
    assert all(names[i - 1] == "candidate" for i, name in enumerate(names) if name == "dropped")
    assert {part for _, part in bars} == {"100"}


@pytest.mark.parametrize("n_estimators", [1, 2])
def test_the_bar_of_the_guide_is_one_for_the_whole_fit(capsys, n_estimators):
    page = Path(__file__).parents[1] / "docs" / "guide" / "callbacks.md"
    namespace = {"ProgressBar": ProgressBar}
    exec(re.search(r"^class OneBar.*?\n\n\n", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)[0], namespace)
    assert drawn(namespace["OneBar"](), capsys, n_estimators=n_estimators) == [("fit", "100")]


def test_members_that_are_not_compared_are_called_so():
    X, y = load_diabetes(return_X_y=True)
    recording = Recording()
    model = GNRegressor(**SMALL, l2_regularization=1e-2, n_estimators=3).set_callbacks(recording).fit(X, y)
    check_tree(recording)
    counts = [len(iterations(recording, (0, i))) for i in range(3)]
    assert sorted(counts) == sorted(member.n_iter for member in model.estimators_)
    assert not recording.tasks("begin", "candidate")


@pytest.mark.parametrize(
    "parameters", [{}, {"batch_size": 500}, {"batch_size": 500, "l2_regularization": "evidence"}], ids=str
)
@unconverged
def test_iterations_before_those_that_count_are_told_apart(parameters):
    X, y = long_table()
    recording = Recording()
    options = {**SMALL, "n_estimators": 2, "l2_regularization": 1e-3, "max_iter": 5, **parameters}
    model = GNRegressor(**options).set_callbacks(recording).fit(X, y)
    check_tree(recording)
    assert recording.tasks("begin", "warm-up-iteration")
    ended = {**recording.tasks("end", "member"), **recording.tasks("end", "candidate")}
    best = next(path for path, shown in ended.items() if same_weights(shown, model))
    assert len(iterations(recording, best)) == model.n_iter_


def test_hooks_get_the_data_as_given():
    rng = np.random.RandomState(0)
    X = pd.DataFrame({"a": rng.normal(size=80), "b": pd.Categorical(rng.choice(list("xyz"), 80))})
    y = X["a"] + (X["b"] == "x")
    weight = np.ones(80)
    recording = Recording()
    GNRegressor(**ONE).set_callbacks(recording).fit(X, y, sample_weight=weight)
    ends = [(shown, *given) for event, _, _, shown, given in recording.events if event == "end"]
    assert all(
        given_X is X and given_y is y and meta == {"sample_weight": weight} for _, given_X, given_y, meta in ends
    )
    assert all(np.isfinite(shown.predict(X)).all() for shown, *_ in ends if shown is not None)


def test_nothing_of_an_earlier_fit_is_shown():
    X, y = load_diabetes(return_X_y=True)
    recording = Recording()
    model = GNRegressor(**PLAIN).fit(X, y).set_callbacks(recording).fit(X[:, :4], y)
    shown = iterations(recording, (0, 0))
    assert not any(hasattr(one, "feature_importances_") for one in shown)
    assert len(model.feature_importances_) == 4


def test_partial_fit_calls_none():
    X, y = load_diabetes(return_X_y=True)
    recording = Recording()
    GNRegressor(**ONE).set_callbacks(recording).partial_fit(X, y)
    assert recording.events == []


# --- The estimator that is shown


@pytest.mark.parametrize(
    "estimator, scoring, parameters",
    [
        (GNRegressor, "r2", KIND),
        (GNRegressor, "neg_mean_squared_error", PLAIN),
        (GNClassifier, "neg_log_loss", PLAIN),
    ],
    ids=str,
)
@unconverged
def test_scores_are_those_of_fits_that_are_cut_short(estimator, scoring, parameters):
    X, y = data(estimator)
    monitor = ScoringMonitor(scoring=scoring)
    model = estimator(**parameters, max_iter=6).set_callbacks(monitor).fit(X, y)
    rows = [row for row in monitor.get_logs().data if row["task_name"] == "iteration"]
    assert [row["task_id_path"] for row in rows] == [(0, 0, i) for i in range(model.n_iter_)]
    for i, row in enumerate(rows):
        short = estimator(**parameters, max_iter=i + 1).fit(X, y)
        assert row[scoring] == get_scorer(scoring)(short, X, y)


@pytest.mark.parametrize("parameters", [KIND, {**PLAIN, "solver": "dual"}, {**PLAIN, "solver": "primal"}], ids=str)
@unconverged
def test_so_are_standard_deviations_and_each_iteration_begins_where_the_last_one_ended(parameters):
    X, y = load_diabetes(return_X_y=True)
    X, y = X[:100], y[:100]
    recording = Recording()
    GNRegressor(**parameters, max_iter=4).set_callbacks(recording).fit(X, y)
    shown = iterations(recording, (0, 0))
    for i, one in enumerate(shown):
        short = GNRegressor(**parameters, max_iter=i + 1).fit(X, y)
        np.testing.assert_allclose(one.predict(X, return_std=True), short.predict(X, return_std=True), rtol=1e-9)
        np.testing.assert_allclose(one.noise_std_, short.noise_std_, rtol=1e-9)
    begun = recording.tasks("begin", "iteration")
    untrained = GNRegressor(**parameters, max_iter=0).fit(X, y)
    for i, before in enumerate([untrained, *shown[:-1]]):
        assert same_weights(begun[0, 0, i], before)


CASES = {
    "search": (GNRegressor, {"n_estimators": 1}),
    "members": (GNRegressor, {"n_estimators": 2}),
    "threads": (GNClassifier, {"n_estimators": 2, "n_jobs": 2}),
    "dual": (GNRegressor, {"l2_regularization": 1e-2, "solver": "dual", "n_estimators": 1}),
    "dual, evidence": (GNRegressor, {"solver": "dual", "prior_groups": "shared", "n_estimators": 1}),
    "cg": (GNRegressor, {"l2_regularization": 1e-2, "solver": "cg", "n_estimators": 1}),
    "validation": (GNRegressor, {"early_stopping": True, "n_estimators": 2}),
    "batches": (GNRegressor, {"batch_size": 100, "n_estimators": 1}),
}


@pytest.mark.parametrize("case", CASES)
@unconverged
def test_watching_changes_no_bit(case):
    estimator, parameters = CASES[case]
    X, y = (values[::2] for values in data(estimator))
    alone = estimator(**SMALL, **parameters, max_iter=5).fit(X, y)
    recording = Recording()
    watched = clone(alone).set_callbacks(recording).fit(X, y)
    check_tree(recording)
    np.testing.assert_array_equal(alone.predict(X), watched.predict(X))
    for name in set(alone.history_) - {"time"}:
        np.testing.assert_array_equal(alone.history_[name], watched.history_[name])
    assert alone.status_ == watched.status_
    assert vars(alone).keys() == vars(watched).keys() - {"_skl_callbacks"}


def test_estimators_are_made_only_for_a_hook_that_asks(monkeypatch):
    X, y = load_diabetes(return_X_y=True)

    def refuse(*args):
        raise AssertionError("nobody asked")

    monkeypatch.setattr(GNRegressor, "_attributes", refuse)
    blind = Blind()
    model = GNRegressor(**PLAIN).set_callbacks(blind).fit(X, y)
    assert blind.names.count("iteration") == model.n_iter_
    monkeypatch.setattr("skgn.callbacks.FitTasks.__init__", refuse)
    model.set_callbacks().fit(X, y)


# --- Fits that end early


class Stopping(Recording):
    """Asks to stop at one level of tasks, after the task of a number."""

    def __init__(self, name, number):
        super().__init__()
        self.name, self.number = name, number

    def stop(self, context):
        return context.task_name == self.name and context.task_id >= self.number


@pytest.mark.parametrize("n_jobs", [1, 2])
@unconverged
def test_a_callback_may_stop_the_iterations_of_a_member(n_jobs):
    X, y = load_diabetes(return_X_y=True)
    stopping = Stopping("iteration", 2)
    options = {**SMALL, "n_estimators": 2, "l2_regularization": 1e-3, "damping": GainRatio(), "n_jobs": n_jobs}
    model = GNRegressor(**options).set_callbacks(stopping)
    model.fit(X, y)
    check_tree(stopping)
    assert model.status_ == "callback" and "callback" in model.status_message_
    assert [member.n_iter for member in model.estimators_] == [3, 3]
    np.testing.assert_array_equal(model.predict(X), GNRegressor(**options, max_iter=3).fit(X, y).predict(X))


def test_a_stop_is_no_cause_for_a_warning_and_goes_on_from_there_with_a_warm_start():
    X, y = load_diabetes(return_X_y=True)
    model = GNRegressor(**PLAIN, warm_start=True).set_callbacks(Stopping("iteration", 0)).fit(X, y)
    loss = model.loss_
    model.set_callbacks().fit(X, y)
    assert model.status_ == "decrease"
    assert model.loss_ < loss


def test_a_stop_in_a_search_on_some_rows_leaves_members_of_all_rows():
    X, y = long_table()
    stopping = Stopping("iteration", 3)
    model = GNRegressor(**SMALL, n_estimators=2).set_callbacks(stopping).fit(X, y)
    check_tree(stopping)
    assert [(member.status, member.n_iter) for member in model.estimators_] == [("callback", 4)] * 2
    assert [member.total_weight for member in model.estimators_] == [len(y)] * 2
    assert model.score(X, y) > 0.9


def test_a_stop_at_the_end_of_a_member_trains_no_more_of_them():
    X, y = load_diabetes(return_X_y=True)
    stopping = Stopping("member", 0)
    model = GNRegressor(**SMALL, l2_regularization=1e-2, n_estimators=3).set_callbacks(stopping).fit(X, y)
    check_tree(stopping)
    assert [member.status for member in model.estimators_] == ["decrease"] and model.status_ == "callback"
    assert set(stopping.tasks("begin", "member")) == {(0, 0)}


def test_a_stop_in_a_search_keeps_the_best_so_far():
    X, y = load_diabetes(return_X_y=True)
    stopping = Stopping("candidate", 0)
    model = GNRegressor(**ONE, n_iter_no_change=20).set_callbacks(stopping).fit(X, y)
    check_tree(stopping)
    assert model.status_ == "callback" and model.n_iter_ == 16
    assert model.score(X, y) > 0.4


def test_tasks_end_when_time_is_up(clock):
    X, y = load_diabetes(return_X_y=True)
    recording = Recording()
    model = GNRegressor(**SMALL | {"tol": 0}, n_estimators=2, l2_regularization=1e-6, damping=10.0, max_iter=10**6)
    with pytest.warns(ConvergenceWarning, match="max_time"):
        model.set_params(max_time=0.1).set_callbacks(recording).fit(X, y)
    check_tree(recording)


class Interrupting(Recording):
    def __init__(self, how):
        super().__init__()
        self.how = how

    def stop(self, context):
        if context.task_name == "iteration" and context.task_id == 2:
            if self.how == "signal":
                os.kill(os.getpid(), signal.SIGINT)
            else:
                raise KeyboardInterrupt
        return False


@pytest.mark.parametrize("how", ["signal", "exception"])
def test_tasks_end_at_ctrl_c(how):
    X, y = load_diabetes(return_X_y=True)
    interrupting = Interrupting(how)
    model = GNRegressor(**PLAIN).set_callbacks(interrupting)
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, y)
    check_tree(interrupting)
    assert model.status_ == "interrupted" and 2 <= model.n_iter_ <= 3


class Failing(Recording):
    """Raises in the hook of a task of a name, the second one if it is an iteration."""

    def __init__(self, name, hook):
        super().__init__()
        self.name, self.hook = name, hook

    def _add(self, event, context, shown=None, data=None):
        super()._add(event, context, shown, data)
        if event == self.hook and context.task_name == self.name and (self.name != "iteration" or context.task_id > 0):
            raise ZeroDivisionError("by the callback")


@cache
def earlier_fit(n_estimators):
    X, y = load_diabetes(return_X_y=True)
    return GNRegressor(**SMALL, n_estimators=n_estimators).fit(X[:100], y[:100])


@pytest.mark.parametrize("n_jobs", [1, 2])
@pytest.mark.parametrize(
    "name, hook",
    [
        ("fit", "setup"),
        ("fit", "begin"),
        ("candidate", "begin"),
        ("member", "begin"),
        ("iteration", "begin"),
        ("iteration", "end"),
        ("candidate", "end"),
        ("member", "end"),
        ("fit", "end"),
        ("fit", "teardown"),
    ],
)
@unconverged
def test_an_error_in_a_hook_ends_the_fit_and_the_earlier_one_is_kept(name, hook, n_jobs):
    X, y = load_diabetes(return_X_y=True)
    model = copy.deepcopy(earlier_fit(1 if name == "candidate" else 2)).set_params(n_jobs=n_jobs, max_iter=3)
    failing = Failing(name, hook)
    before = vars(model.set_callbacks(failing)).copy()
    with pytest.raises(ZeroDivisionError, match="by the callback"):
        model.fit(X[100:200], y[100:200])
    assert vars(model) == before
    # A second thread would have gone on by now.
    time.sleep(0.05 * (n_jobs - 1))
    assert [event for event, *_ in failing.events].count("teardown") == 1
    assert failing.events[-1][0] == "teardown"


def test_bad_data_is_refused_before_any_hook():
    recording = Recording()
    with pytest.raises(ValueError, match="infinity"):
        GNRegressor().set_callbacks(recording).fit([[np.inf]], [1.0])
    assert recording.events == []


# --- scikit-learn's own callbacks, and its meta-estimators


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_a_progress_bar_of_a_fit(capsys, n_jobs):
    X, y = load_diabetes(return_X_y=True)
    threads = threading.active_count()
    model = GNRegressor(**SMALL, n_estimators=3, n_jobs=n_jobs).set_callbacks(ProgressBar()).fit(X, y)
    lines = capsys.readouterr().out.splitlines()
    assert sum("GNRegressor - fit" in line for line in lines) == 1
    members = [line for line in lines if "GNRegressor - member #" in line]
    # Two more than three are drawn, as the best leaves half of the variance.
    assert len(members) == 5 and all("100%" in line for line in members)
    assert model.score(X, y) > 0.4
    assert threading.active_count() <= threads + 2 * n_jobs


def test_progress_bars_inside_a_grid_search_and_a_pipeline(capsys):
    X, y = load_diabetes(return_X_y=True)
    grid = {"gnregressor__alpha": [0.5, 1.0]}
    search = GridSearchCV(make_pipeline(StandardScaler(), GNRegressor(**PLAIN)), grid, cv=2)
    search.set_callbacks(ProgressBar(max_propagation_depth=None)).fit(X, y)
    lines = capsys.readouterr().out.splitlines()
    fits = [line for line in lines if "| GNRegressor" in line]
    assert len(fits) == 5
    assert not hasattr(search.best_estimator_[-1], "_skl_callbacks")


def test_callbacks_go_with_copies_into_cross_validation():
    X, y = load_diabetes(return_X_y=True)
    blind = Blind()
    fits = cross_validate(GNRegressor(**PLAIN).set_callbacks(blind), X, y, cv=3, return_estimator=True)["estimator"]
    assert blind.names.count("setup") == blind.names.count("teardown") == 3
    assert blind.names.count("iteration") == sum(fit.n_iter_ for fit in fits)


def test_a_model_with_callbacks_is_pickled():
    X, y = load_diabetes(return_X_y=True)
    model = GNRegressor(**PLAIN).set_callbacks(ScoringMonitor(scoring="r2")).fit(X, y)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).predict(X), model.predict(X))
