"""Fits on dask against those of a single machine: the same weights, whatever the partitions and whoever dies."""

import functools
import os
import pickle
import re
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from scipy import sparse
from sklearn.base import clone

from skgn import GNClassifier, GNRegressor, diagnose, summarize
from skgn.damping import GainRatio
from skgn.estimator import table_and_target
from skgn.persistence import SKOPS_TRUSTED
from skgn.preprocessing import InputScaler, RankScaler, StraightScaler, TargetScaler
from skgn.weighted_rows import magnitude

pytest.importorskip("dask.array", reason='needs pip install "skgn[dask]"')
pytest.importorskip("distributed", reason='needs pip install "skgn[dask]"')
pd = pytest.importorskip("pandas", reason="dataframes need pandas")

import dask
import dask.array as da
import dask.bag as db
import dask.dataframe as dd
from distributed import Client, LocalCluster, wait

from skgn.dask import DaskGNClassifier, DaskGNRegressor
from skgn.dask.cluster import Cluster
from skgn.dask.rows import Merged
from skgn.dask.shards import Shards
from skgn.dask.statistics import _distributions, fit_input_scaler, fit_target_scaler

pytestmark = [
    # Sockets of a cluster that is shut down, and of killed workers, are closed by the garbage collector.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    # Few iterations are enough to compare.
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
]

ROWS = 240


@pytest.fixture(scope="module")
def client(forked):
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address="127.0.0.1:0") as cluster,
        Client(cluster) as client,
    ):
        yield client


def draw(n=ROWS, d=3, k=1, seed=0):
    rng = np.random.RandomState(seed)
    X = rng.normal(size=(n, d))
    X[:, -1] = np.round(X[:, -1])
    Y = np.column_stack([np.sin((1 + j) * X[:, 0]) + X[:, 1] + (1 + j) * 0.2 * rng.normal(size=n) for j in range(k)])
    return X, Y[:, 0] if k == 1 else Y


def spread(client, *arrays, chunks=50):
    """Persisted collections: a fit finds the rows where they are."""
    collections = [da.from_array(a, chunks=(chunks, *a.shape[1:])) for a in arrays]
    collections = client.persist(collections)
    wait(collections, timeout=300)
    return collections


@pytest.fixture(scope="module")
def fitted(client):
    """A regressor that tests leave as it is, and its rows."""
    X, y = spread(client, *draw())
    return DaskGNRegressor(**ONE_OF_L2 | {"max_iter": 1}).fit(X, y), X, y


def assert_same_fit(distributed, single, rtol=1e-8):
    assert len(distributed.estimators_) == len(single.estimators_)
    np.testing.assert_allclose(distributed.weights_, single.weights_, rtol=rtol, atol=rtol)
    np.testing.assert_allclose(distributed.left_out_score_, single.left_out_score_, rtol=rtol, atol=rtol)
    for a, b in zip(distributed.estimators_, single.estimators_, strict=True):
        assert (a.network, a.scaling, a.prior_kind, a.n_iter, a.status) == (
            b.network,
            b.scaling,
            b.prior_kind,
            b.n_iter,
            b.status,
        )
        np.testing.assert_allclose(a.weights, b.weights, rtol=rtol, atol=rtol)
        if b.log_evidence is not None:
            assert a.log_evidence == pytest.approx(b.log_evidence, rel=rtol)
        np.testing.assert_allclose(a.n_effective_parameters, b.n_effective_parameters, rtol=rtol)
        for name in ("objective", "loss", "damping", "noise_std"):
            np.testing.assert_allclose(a.history[name], b.history[name], rtol=1e-7, err_msg=name)


#: A round of a cluster takes 30 ms of processors: two members, where a single one would be the best of three.
SMALL = {"hidden_layer_sizes": (3,), "n_estimators": 2, "random_state": 0, "max_iter": 2, "standardize": "robust"}
ONE_OF_L2 = SMALL | {"n_estimators": 1, "l2_regularization": 1e-2}
#: For what is asked of a fitted model.
TWO_OF_L2 = SMALL | {"l2_regularization": 1e-2, "max_iter": 1}
REGRESSIONS = {
    "evidence": {},
    "evidence, groups by feature": {"prior_groups": "feature", "init": "centered"},
    "student_t": {"loss": "student_t"},
    # After two iterations noise that depends on the inputs would be found, which fits on dask do not look for.
    "two layers, raw inputs": {"hidden_layer_sizes": (2, 2), "standardize": False, "linear_path": False, "max_iter": 3},
    "l2": ONE_OF_L2 | {"damping": GainRatio()},
    "l2, constant damping": ONE_OF_L2 | {"damping": 0.1},
    "l2, projected": {"l2_regularization": 1e-2},
}


@pytest.mark.parametrize("options", REGRESSIONS.values(), ids=REGRESSIONS)
def test_regression_is_that_of_a_single_machine(client, options):
    X, y = draw()
    options = SMALL | options
    single = GNRegressor(**options).fit(X, y)
    dX, dy = spread(client, X, y)
    model = DaskGNRegressor(**options).fit(dX, dy)
    assert_same_fit(model, single)
    assert model.noise_std_ == pytest.approx(single.noise_std_, rel=1e-8)
    assert model.solver_ == "primal"
    found = model.predict(dX, return_std=True)
    assert all(isinstance(each, da.Array) for each in found)
    np.testing.assert_allclose(dask.compute(*found), single.predict(X, return_std=True), rtol=1e-8, atol=1e-8)
    assert model.score(dX, dy) == pytest.approx(single.score(X, y), rel=1e-8)


@pytest.mark.parametrize("k", [1, 2])
def test_distributions_are_those_of_a_single_machine(client, k):
    X, y = draw(k=k)
    dX, dy = spread(client, X, y)
    model = DaskGNRegressor(**TWO_OF_L2).fit(dX, dy)
    local = model.to_local()
    for method, options in {
        "predict_quantiles": {"quantiles": [0.1, 0.7]},
        "predict_interval": {"coverage": 0.8},
        "epistemic_std": {},
    }.items():
        found, expected = (getattr(each, method)(rows, **options) for each, rows in ((model, dX), (local, X)))
        assert isinstance(found, da.Array) and found.shape == expected.shape
        np.testing.assert_allclose(found.compute(), expected, rtol=1e-10)
    with pytest.raises(AttributeError, match=r"to_local\(\) draws for rows in memory"):
        model.sample_y(dX)
    with pytest.raises(ValueError, match="neither on dask nor by partial_fit"):
        local.predict_interval(X, calibrate=True)
    with pytest.raises(ValueError, match="quantiles must be numbers above 0 and below 1"):
        model.predict_quantiles(dX, 2)


def test_mutual_information_is_that_of_a_single_machine(client):
    X, y = draw()
    dX, dy = spread(client, X, y > 0)
    model = DaskGNClassifier(**TWO_OF_L2).fit(dX, dy)
    found, expected = model.mutual_information(dX), model.to_local().mutual_information(X)
    np.testing.assert_allclose(found.compute(), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("loss", ["squared_error", "student_t"])
def test_several_outputs_with_weights_and_duplicates_over_partitions(client, loss):
    X, Y = draw(k=2)
    # Few values: repeated rows are observations. Of copies of rows only a single machine knows.
    X = np.round(X)
    X, Y = np.concatenate([X, X[:60]]), np.concatenate([Y, Y[:60]])
    weight = np.random.RandomState(1).randint(0, 3, len(X)).astype(float)
    weight[100:150] = 0  # a partition of no weight
    options = SMALL | {"loss": loss}
    single = GNRegressor(**options).fit(X, Y, weight)
    dX, dY, dw = spread(client, X, Y, weight)
    model = DaskGNRegressor(**options, client=client).fit(dX, dY, dw)
    assert_same_fit(model, single)
    np.testing.assert_allclose(model.noise_std_, single.noise_std_, rtol=1e-8)
    np.testing.assert_allclose(model.predict(dX).compute(), single.predict(X), rtol=1e-8, atol=1e-8)
    assert model.score(dX, dY, dw) == pytest.approx(single.score(X, Y, weight), rel=1e-8)


def test_shared_noise_is_found_as_on_a_single_machine(client):
    X, Y = draw(k=3)
    Y = Y + 2 * np.random.RandomState(1).normal(size=(len(Y), 1))
    options = SMALL | {"max_iter": 1}
    single = GNRegressor(**options).fit(X, Y)
    distributed = DaskGNRegressor(**options).fit(*spread(client, X, Y))
    of_both = [table_and_target(model)[1].scaler.mixing for model in (distributed, single)]
    np.testing.assert_allclose(*of_both, rtol=1e-7, atol=1e-9)
    assert_same_fit(distributed, single, rtol=1e-5)
    np.testing.assert_allclose(distributed.to_local().predict(X), single.predict(X), rtol=1e-5, atol=1e-5)


def test_start_on_a_sample_is_that_of_a_single_machine(client):
    """The first rows in the order of their hashes, wherever they are."""
    X, y = draw(1200, 2)
    options = ONE_OF_L2 | {"hidden_layer_sizes": (2,), "random_state": 3}
    assert_same_fit(DaskGNRegressor(**options).fit(*spread(client, X, y, chunks=300)), GNRegressor(**options).fit(X, y))


def test_search_is_that_of_a_single_machine(client):
    """Members of two noise levels, weighed by sums over left-out samples."""
    X, y = draw()
    options = SMALL | {"prior_groups": "layer", "hidden_layer_sizes": (2,), "solver": "primal", "max_iter": 5}
    single = GNRegressor(**options).fit(X, y)
    model = DaskGNRegressor(**options).fit(*spread(client, X, y))
    assert_same_fit(model, single)
    np.testing.assert_allclose(model.weights_, single.weights_, rtol=1e-6)


def test_lines_and_summary_are_those_of_a_single_machine(client, capsys):
    X, y = draw()
    options = {"hidden_layer_sizes": (3,), "random_state": 0, "max_iter": 2, "n_estimators": 1, "verbose": 1}
    printed, summaries = [], []
    for estimator, data in ((GNRegressor, (X, y)), (DaskGNRegressor, spread(client, X, y))):
        summaries.append(str(summarize(estimator(**options).fit(*data))))
        # The line about what travels is of dask alone, and seconds differ.
        lines = [line for line in capsys.readouterr().out.splitlines() if "workers" not in line]
        printed.append([re.sub(r" +\d+\.\d\d(?=  [kd]| s)", "", line).replace("DaskGN", "GN") for line in lines])
    assert printed[0] == printed[1] and len(printed[0]) >= 6
    # The relevance is that of a sample of the rows.
    single, distributed = (re.sub("(time|relevance) .*", "", text).replace("DaskGN", "GN") for text in summaries)
    assert single == distributed


def test_columns_of_use_are_those_of_a_single_machine(client):
    """Powers of the columns and their products with what is left over are sums over the rows."""
    rng = np.random.RandomState(0)
    X = rng.normal(size=(150, 6))
    y = X[:, 4] ** 2 + 0.1 * rng.normal(size=150)
    options = SMALL | {"n_estimators": 3, "prior_groups": "layer"}
    single = GNRegressor(**options).fit(X, y)
    first_layers = [m.network.arrays(m.weights)[0][0] for m in single.estimators_]
    assert any(np.abs(W).max(1).argsort()[-1] == 4 and not np.abs(W[:4]).max() > 1e-3 for W in first_layers)
    assert_same_fit(DaskGNRegressor(**options).fit(*spread(client, X, y)), single)


#: What "auto" chooses among is a part of the first; the others were refused before. On a single machine, more members
#: would read finer inputs after so few iterations, but for these priors.
SCALED = {"left to the fit": {"prior_groups": "layer"}} | {
    name: {"standardize": name} for name in ("rank", "periodic", "piecewise")
}


@pytest.mark.parametrize(
    ("options", "chunks"),
    [*((options, 70) for options in SCALED.values()), (SCALED["left to the fit"], ROWS)],
    ids=[*SCALED, "one partition"],
)
def test_candidates_are_those_of_a_single_machine(client, options, chunks):
    """Inputs of every scaling, ranks bit for bit."""
    X, y = draw()
    options = {"n_estimators": 2, "max_iter": 1, "random_state": 0} | options
    single = GNRegressor(**options).fit(X, y)
    model = DaskGNRegressor(**options).fit(*spread(client, X, y, chunks=chunks))
    assert {member.scaling for member in single.estimators_} >= {options.get("standardize", "periodic")}
    assert_same_fit(model, single, rtol=1e-6)
    (found, _), (expected, _) = map(table_and_target, (model, single))
    assert found.scalings.keys() == expected.scalings.keys()
    name = options.get("standardize", "periodic")
    ours, theirs = (table.scalings[name] for table in (found, expected))
    ours, theirs = (scaler if name == "rank" else scaler.ranks for scaler in (ours, theirs))
    for column in range(X.shape[1]):
        np.testing.assert_array_equal(ours.values[column], theirs.values[column])
        np.testing.assert_array_equal(ours.scores[column], theirs.scores[column])


def test_classes_have_candidates_of_every_kind(client):
    """With rectified units and periodic inputs. So few rows show no steps, which need columns in memory."""
    X, score = draw(n=140)
    y = (score > 0.2).astype(int)
    # Without a linear path no radial units join them, which need columns in memory.
    options = {"hidden_layer_sizes": (6,), "linear_path": False, "max_iter": 1, "random_state": 0}
    single = GNClassifier(**options).fit(X, y)
    model = DaskGNClassifier(**options).fit(*spread(client, X, y))
    assert len(model.estimators_) == 4
    straight = DaskGNClassifier(**options | {"linear_path": True}).fit(*spread(client, X, y))
    assert len(straight.estimators_) == 4
    assert {(m.scaling, m.network.activation) for m in single.estimators_} >= {("robust", "relu"), ("periodic", "tanh")}
    assert_same_fit(model, single, rtol=1e-6)


def test_ranks_of_many_values_agree_with_those_of_a_single_machine():
    """Within a part in 5,000 for each addition, extremes exactly."""
    rng = np.random.default_rng(0)
    n = 60_000
    X = np.column_stack([rng.normal(size=n), rng.standard_cauchy(n), np.where(rng.random(n) < 0.6, 0, rng.random(n))])
    X[7, 2] = 50.0
    weight = rng.integers(1, 3, n).astype(float)
    unit = magnitude(np.abs(X).max(axis=0))
    parts = [
        _distributions(Merged(X[part], X[part], weight[part], np.zeros(0)), unit) for part in np.split(np.arange(n), 4)
    ]
    found = RankScaler.of_distributions(unit, ((parts[0] + parts[1]) + (parts[2] + parts[3])).columns)
    expected = RankScaler.fit(X, weight)
    for ours, theirs in zip(found.values, expected.values, strict=True):
        np.testing.assert_array_equal(ours[[0, -1]], theirs[[0, -1]])
    middle = np.argsort(X, axis=0)[n // 100 : -n // 100]
    z, exact = found.transform(X), expected.transform(X)
    for j in range(X.shape[1]):
        np.testing.assert_allclose(z[middle[:, j], j], exact[middle[:, j], j], atol=0.02)


CLASSIFICATIONS = {
    "two": (2, {"prior_groups": "layer"}),
    "three": (3, {"class_weight": "balanced"}),
    "three, l2": (3, ONE_OF_L2 | {"class_weight": {"b": 2.0, "c": 0.5}}),
    "one": (1, {}),
}


@pytest.mark.parametrize(("n_classes", "options"), CLASSIFICATIONS.values(), ids=CLASSIFICATIONS)
def test_classification_is_that_of_a_single_machine(client, n_classes, options):
    X, score = draw()
    y = np.array(["a", "b", "c"])[np.digitize(score, [-0.5, 0.8][: n_classes - 1])]
    options = SMALL | options
    single = GNClassifier(**options).fit(X, y)
    dX, dy = spread(client, X, y)
    model = DaskGNClassifier(**options).fit(dX, dy)
    assert_same_fit(model, single)
    assert model.temperature_ == pytest.approx(single.temperature_, rel=1e-8)
    methods = ("predict_proba", "predict_log_proba", "decision_function", "predict")
    lazy = [getattr(model, method)(dX) for method in methods]
    for method, promised, found in zip(methods, lazy, dask.compute(*lazy), strict=True):
        expected = getattr(single, method)(X)
        assert promised.ndim == found.ndim == expected.ndim and promised.dtype == expected.dtype
        if method == "predict":
            np.testing.assert_array_equal(found, expected)
        else:
            np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-8)
    assert model.score(dX, dy) == pytest.approx(single.score(X, y))


LABELS = {
    "a column, and a partition without rows": lambda y: pd.DataFrame({"kind": np.where(y > 0, "yes", "no")}),
    "nullable truth values": lambda y: pd.Series(pd.array(y > 0, dtype="boolean")),
}


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.DataConversionWarning")
@pytest.mark.parametrize("make", LABELS.values(), ids=LABELS)
def test_labels_in_dataframes_are_those_of_a_single_machine(client, make):
    X, y = draw()
    tables = pd.DataFrame(X, columns=["u", "v", "w"]), make(y)
    options = ONE_OF_L2 | {"max_iter": 1}
    single = GNClassifier(**options).fit(*tables)
    dX, dy = (
        dd.from_delayed([dask.delayed(table[part]) for part in (slice(0), slice(90), slice(90, None))], meta=table[:0])
        for table in tables
    )
    model = DaskGNClassifier(**options).fit(dX, dy)
    assert_same_fit(model, single)
    assert model.classes_.dtype == single.classes_.dtype
    np.testing.assert_array_equal(model.classes_, single.classes_)
    np.testing.assert_array_equal(model.predict(dX).compute(), single.predict(tables[0]))
    assert model.score(dX, dy) == pytest.approx(single.score(*tables))


def test_labels_are_those_of_a_single_machine(client):
    X, Y = draw(k=2)
    Y = (Y > 0).astype(int)
    options = SMALL | {"max_iter": 1}
    single = GNClassifier(**options).fit(X, Y)
    dX, dY = spread(client, X, Y)
    model = DaskGNClassifier(**options).fit(dX, dY)
    assert_same_fit(model, single)
    np.testing.assert_array_equal(model.predict(dX).compute(), single.predict(X))
    assert model.score(dX, dY) == pytest.approx(single.score(X, Y))


@pytest.mark.parametrize("outputs", [1, 2])
def test_a_worker_may_have_no_rows(client, outputs):
    """Its only partition is empty, as where a filter has left nothing."""
    X, y = draw()
    Y = y if outputs == 1 else np.column_stack([y, X[:, 0]])
    first, second = sorted(client.scheduler_info()["workers"])
    frame = pd.DataFrame(np.column_stack([X, Y]))
    parts = [client.scatter(frame[:0], workers=[first]), client.scatter(frame, workers=[second])]
    table = client.persist(dd.from_delayed(parts, meta=frame[:0]))
    wait(table, timeout=300)
    # Evidence, which takes seconds, for several outputs: of these it also looks for shared noise.
    options = (ONE_OF_L2 if outputs == 1 else SMALL) | {"max_iter": 1}
    model = DaskGNRegressor(**options).fit(table[[0, 1, 2]].values, table[[*range(3, 3 + outputs)]].values)
    assert_same_fit(model, GNRegressor(**options).fit(X, Y.reshape(len(X), -1)))


def test_dataframes_of_unknown_divisions_and_an_empty_partition(client):
    X, y = draw()
    frame = pd.DataFrame(X, columns=["u", "v", "w"]).assign(y=y)
    rows = frame.iloc[80:]
    table = dd.from_delayed([dask.delayed(part) for part in (frame[:0], rows[:100], rows[100:])], meta=frame[:0])
    assert not table.known_divisions
    features = ["u", "v", "w"]
    single = GNRegressor(**ONE_OF_L2).fit(rows[features], rows["y"])
    model = DaskGNRegressor(**ONE_OF_L2).fit(table[features], table["y"])
    assert_same_fit(model, single)
    assert model.feature_names_in_.tolist() == features
    mean, std = (values.compute() for values in model.predict(table[features], return_std=True))
    np.testing.assert_allclose(mean, single.predict(rows[features]), rtol=1e-8)
    np.testing.assert_allclose(std, single.predict(rows[features], return_std=True)[1], rtol=1e-8)
    assert model.score(table[features], table["y"]) == pytest.approx(single.score(rows[features], rows["y"]))
    with pytest.raises(ValueError, match="feature names"):
        model.predict(table[features[::-1]])


def test_float32_predictions_are_float32_and_blocks_of_columns_are_joined(client):
    X, y = draw()
    X = X.astype(np.float32)
    model = DaskGNRegressor(**ONE_OF_L2 | {"max_iter": 1}).fit(
        da.from_array(X, chunks=(100, 2)), da.from_array(y, chunks=70)
    )
    predicted = model.predict(da.from_array(X, chunks=(90, 1)))
    assert predicted.dtype == np.float32
    np.testing.assert_array_equal(predicted.compute(), model.to_local().predict(X))


def identity(blocks):
    return Merged(*blocks[0])


@pytest.mark.parametrize("seed", range(2))
def test_scaling_statistics_are_exact(client, seed):
    rng = np.random.RandomState(seed)
    n = 200
    columns = [
        rng.normal(size=n),
        rng.standard_cauchy(n) * 1e200,
        rng.randint(-2, 3, n),
        np.full(n, -3.5),
        rng.normal(size=n) * 1e-310,
        np.where(rng.rand(n) < 0.5, 0.0, -0.0),
        np.exp(3 * rng.normal(size=n)),
    ]
    X, weight = np.column_stack(columns).astype(float), rng.randint(1, 4, n).astype(float)
    places = list(client.nthreads())
    parts = [slice(0, 60), slice(60, n)]
    blocks = [[(X[part], X[part], weight[part], np.zeros(0))] for part in parts]
    shards = Shards(Cluster(client), identity, blocks, places, blocks)
    both = fit_input_scaler(shards, "both")
    for found in (both.squashed, fit_input_scaler(shards, "hidden")):
        expected = InputScaler.fit(X, weight)
        for name in ("centre", "inverse_scale", "unit"):
            np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), err_msg=name)
    for found in (both.straight, fit_input_scaler(shards, "linear")):
        expected = StraightScaler.fit(X, weight)
        for name in ("unit", "lowest", "highest"):
            np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), err_msg=name)
        np.testing.assert_allclose(found.mean, expected.mean, rtol=1e-12, atol=1e-15)
        np.testing.assert_allclose(found.inverse_scale, expected.inverse_scale, rtol=1e-12)
    target, exact = fit_target_scaler(shards), TargetScaler.fit(X, weight)
    np.testing.assert_allclose(target.mean, exact.mean, rtol=1e-12, atol=1e-300)
    np.testing.assert_allclose(target.scale, exact.scale, rtol=1e-12)


def column_sums(rows):
    return rows.X.sum(axis=0)


def scaled_sums(rows, sums):
    return rows.X.sum(axis=0) * sums


def columns_times(rows, factors):
    return rows.X.sum(axis=0) * factors.sum()


@pytest.mark.parametrize("n_factors, handed_on", [(10, 0), (20_000, 1)])
def test_a_sum_over_few_workers_takes_one_round_and_a_large_function_is_sent_once(
    client, monkeypatch, n_factors, handed_on
):
    """A round of tasks that wait for others takes 10 ms more. Neighbouring shards of one worker are a team."""
    tasks, submit, factors = [], client.submit, np.ones(n_factors)

    def counted(function, *args, **options):
        tasks.append(function.__name__)
        return submit(function, *args, **options)

    monkeypatch.setattr(client, "submit", counted)
    for n_teams, added in ((4, 0), (9, 3)):
        X, places = np.arange(3.0 * n_teams).reshape(n_teams, 1, 3), (sorted(client.nthreads()) * n_teams)[:n_teams]
        blocks = [[(rows,) * 4] for rows in X]
        shards = Shards(Cluster(client), identity, blocks, places, blocks)
        tasks.clear()
        found = shards.sum(functools.partial(columns_times, factors=factors))
        np.testing.assert_array_equal(found, X.sum((0, 1)) * n_factors)
        assert [tasks.count(name) for name in ("_hand_on", "_call", "_add")] == [handed_on, n_teams, added]


#: A worker that was there once.
GONE = "tcp://127.0.0.1:1"


def test_what_was_made_of_the_rows_of_a_lost_worker_is_made_again(client):
    """Also in what rests on them: members' left-out samples."""
    here = min(client.nthreads())
    X, y = draw()
    blocks = [[(X[part], y[part], y[part], y[part])] for part in (slice(0, 100), slice(100, None))]
    shards = Shards(Cluster(client), identity, blocks, [here, here], blocks)
    expected = shards.sum(scaled_sums, shards.map(column_sums))
    lost = Shards(Cluster(client), identity, blocks, [here, GONE], blocks)
    np.testing.assert_array_equal(lost.sum(scaled_sums, lost.map(column_sums)), expected)


def test_workers_lost_again_and_again_are_an_error(client, monkeypatch):
    """Not an endless loop, if the rows are too many for any worker."""
    monkeypatch.setattr("skgn.dask.shards._MOST_REPEATS", 1)
    blocks = [[(np.ones((2, 1)),) * 4]] * 2
    shards = Shards(Cluster(client), identity, blocks, [min(client.nthreads()), GONE], blocks)
    with pytest.raises(RuntimeError, match="ran out of memory"):
        shards.sum(column_sums)


def refuse_or_dawdle(rows):
    if rows.X[0, 0] == 0:
        raise ValueError("a shard refuses")
    time.sleep(1)
    return rows.X.sum(axis=0)


def test_the_error_of_a_shard_is_raised_while_another_one_still_works(client, monkeypatch):
    """An error is found after a while, when the sum is not complete."""
    monkeypatch.setattr("skgn.dask.shards.PATIENCE", 0.2)
    blocks = [[(np.full((2, 1), number),) * 4] for number in (0.0, 1.0)]
    places = sorted(client.nthreads())[:2]
    with pytest.raises(ValueError, match="a shard refuses"):
        Shards(Cluster(client), identity, blocks, places, blocks).collect(refuse_or_dawdle)


def torch_threads_there(rows):
    return torch.get_num_threads()


def test_a_shard_has_one_thread_of_torch(client):
    blocks = [[(np.ones((2, 1)),) * 4]]
    shards = Shards(Cluster(client), identity, blocks, [min(client.nthreads())], blocks)
    assert shards.collect(torch_threads_there) == [1]


def sent(dask_worker):
    """Bytes of each value that a worker has sent: of sums over its rows, and of all else."""
    log = [item for transfer in dask_worker.transfer_outgoing_log for item in transfer["keys"].items()]
    dask_worker.transfer_outgoing_log.clear()
    sums = [nbytes for key, nbytes in log if str(key).startswith(("_call", "_add"))]
    return sums, [nbytes for key, nbytes in log if not str(key).startswith(("_call", "_add"))]


def test_what_travels_is_what_is_stated(client, capsys):
    """A triangle, a gradient, a loss and squares from each worker; nothing of the size of its rows."""
    X, y = spread(client, *draw(4000), chunks=1000)
    options = ONE_OF_L2 | {"damping": GainRatio(), "verbose": 1}
    totals = {}
    for iterations in (2, 6):
        client.run(sent)
        model = DaskGNRegressor(**options | {"max_iter": iterations}).fit(X, y)
        totals[iterations] = client.run(sent)
    assert (model.history_["damping"][1:] > 0).all()
    P = model.estimators_[0].network.n_weights
    assert model.bytes_per_iteration_ == 8 * (P * (P + 1) // 2 + P + 2)
    assert f"{P * (P + 1) // 2 + P + 2} numbers, {model.bytes_per_iteration_} bytes" in capsys.readouterr().out
    # On a busy machine the scheduler may leave a worker without rows.
    at_work = {worker: sent for worker, sent in totals[6].items() if sent[0]}
    assert at_work
    for worker, (sums, others) in at_work.items():
        # A rejected step adds a number.
        measured = (sum(sums) - sum(totals[2][worker][0])) / 4
        assert measured == pytest.approx(model.bytes_per_iteration_, abs=4 * 8)
        # Blocks of y are brought to those of X; these stay.
        assert max(others, default=0) <= y.nbytes / 4 < X.nbytes / 4


def test_callbacks_see_the_iterations(client):
    pytest.importorskip("sklearn.callback", reason="sklearn.callback comes with scikit-learn 1.9")

    class Recording:
        scores = ()

        def setup(self, estimator, context): ...

        def teardown(self, estimator, context): ...

        def on_fit_task_begin(self, estimator, context): ...

        def on_fit_task_end(self, estimator, context, *, X=None, y=None, fitted_estimator=None):
            if context.task_name == "iteration":
                self.scores += (fitted_estimator.score(X, y),)

    X, y = draw()
    recording = Recording()
    options = ONE_OF_L2
    model = DaskGNRegressor(**options).set_callbacks(recording).fit(*spread(client, X, y))
    assert len(recording.scores) == model.n_iter_
    expected = [GNRegressor(**options | {"max_iter": i + 1}).fit(X, y).score(X, y) for i in range(model.n_iter_)]
    np.testing.assert_allclose(recording.scores, expected, rtol=1e-8)


def test_parameters_copies_and_pickles(client):
    import skops.io  # takes seconds

    model = DaskGNRegressor(hidden_layer_sizes=(2,), client=client, n_estimators=1, max_iter=1, l2_regularization=1e-2)
    assert set(model.get_params()) == {*GNRegressor().get_params(), "client"}
    assert set(DaskGNClassifier().get_params()) == {*GNClassifier().get_params(), "client"}
    copy = clone(model).set_params(max_iter=2)
    assert copy.client is client and copy.max_iter == 2 and model.max_iter == 1
    X, y = draw()
    dX = da.from_array(X, chunks=(120, 3))
    model.fit(dX, da.from_array(y, chunks=120))
    content = pickle.dumps(model)
    assert b"torch" not in content
    assert set(skops.io.get_untrusted_types(data=skops.io.dumps(model))) <= set(SKOPS_TRUSTED)
    assert {f"{kind.__module__}.{kind.__name__}" for kind in (DaskGNRegressor, DaskGNClassifier)} < set(SKOPS_TRUSTED)
    loaded = pickle.loads(content)
    assert loaded.client is None and model.client is client
    local = model.to_local()
    assert type(local) is GNRegressor and local.get_params() == {
        name: value for name, value in model.get_params().items() if name != "client"
    }
    for other in (loaded.predict(dX).compute(), local.predict(X)):
        np.testing.assert_array_equal(other, model.predict(dX).compute())
    with pytest.raises(TypeError, match="unexpected keyword"):
        DaskGNRegressor(neurons=3)


ERRORS = {
    "delayed X": (TypeError, "X must be a dask array or dataframe, got Delayed", lambda X, y: (dask.delayed(X), y), {}),
    "delayed y": (TypeError, "y must be a dask array or dataframe, got Delayed", lambda X, y: (X, dask.delayed(y)), {}),
    "bag": (TypeError, "X must be a dask array or dataframe, got Bag", lambda X, y: (db.from_sequence([1]), y), {}),
    "NumPy": (TypeError, "X must be a dask array", lambda X, y: (X.compute(), y), {}),
    "y in memory": (TypeError, "y must be a dask array", lambda X, y: (X, y.compute()), {}),
    "partitions": (ValueError, "same partitions, got 3 and 1", lambda X, y: (X, y[:100].rechunk(100)), {}),
    "rows": (ValueError, "partitioned alike", lambda X, y: (X, da.concatenate([y[:100], y[:80], y[:40]])), {}),
    "nan": (ValueError, "NaN", lambda X, y: (da.where(X > 1, np.nan, X), y), {}),
    "labels": (ValueError, "not compatible with arrays of bytes", lambda X, y: (X, y.astype(str)), {}),
    "negative weight": (ValueError, "must not be negative", lambda X, y: (X, y, y), {}),
    "no weight": (ValueError, "0 sample.s. of positive weight", lambda X, y: (X, y, 0 * y), {}),
    "raw and large": (ValueError, "standardize=False", lambda X, y: (1e40 * X, y), {"standardize": False}),
    "dual": (ValueError, "solver='dual'", lambda X, y: (X, y), {"solver": "dual"}),
    "cg": (ValueError, "solver='cg'", lambda X, y: (X, y), {"solver": "cg", "l2_regularization": 0.1}),
    "batches": (ValueError, "batch_size=100", lambda X, y: (X, y), {"batch_size": 100}),
    "early stopping": (ValueError, "early_stopping", lambda X, y: (X, y), {"early_stopping": True}),
    "parameter": (ValueError, "'tol' parameter", lambda X, y: (X, y), {"tol": -1}),
    "sparse": (TypeError, "sparse blocks.*toarray", lambda X, y: (X.map_blocks(sparse.csr_matrix), y), {}),
}


@pytest.mark.parametrize(("error", "message", "change", "options"), ERRORS.values(), ids=ERRORS)
def test_errors_are_clear_and_keep_an_earlier_fit(client, error, message, change, options):
    X, y = (da.from_array(values, chunks=(100, *values.shape[1:])) for values in draw())
    model = DaskGNRegressor(**SMALL)
    model.estimators_ = "earlier"
    with pytest.raises(error, match=message):
        model.set_params(**options).fit(*change(X, y))
    assert model.estimators_ == "earlier"


def with_one(values, cell):
    """Values as Python objects, with another cell in row 3."""
    values = values.astype(object)
    values[3] = cell
    return values


#: What a single machine refuses: changes of X, y and weight, and parameters; a classifier's have a class weight.
REFUSED = {
    "tolerance": ({}, {"tol": -1.0}),
    "layers": ({}, {"hidden_layer_sizes": (3, 0)}),
    "widths in pairs": ({}, {"hidden_layer_sizes": (3,), "init": "symmetric"}),
    "device": ({}, {"device": "nowhere"}),
    "network and activation": (
        {},
        {"hidden_layer_sizes": "auto", "network": torch.nn.Linear(6, 1), "activation": "relu"},
    ),
    "network and layers": ({}, {"network": torch.nn.Linear(6, 1)}),
    "network and groups": (
        {},
        {"hidden_layer_sizes": "auto", "network": torch.nn.Linear(6, 1), "prior_groups": "feature"},
    ),
    "quantile": ({}, {"quantile": 2.0}),
    "quantile without its loss": ({}, {"quantile": 0.9}),
    "words": ({"y": lambda y: np.where(y > 0, "yes", "no")}, {}),
    "negative weight": ({"weight": lambda w: w - 2}, {}),
    "missing target": ({"y": lambda y: np.where(y > 1, np.nan, y)}, {}),
    "infinite number": ({"X": lambda X: np.where(X == X[7, 1], np.inf, X)}, {}),
    "dates": ({"X": lambda X: X.astype("datetime64[s]")}, {}),
    "complex target": ({"y": lambda y: y + 1j}, {}),
    "complex labels": ({"y": lambda y: y + 1j}, {"class_weight": None}),
    "missing label": ({"y": lambda y: with_one(y > 0, None)}, {"class_weight": None}),
    "labels of two types": ({"y": lambda y: with_one(np.where(y > 0, "yes", "no"), 1)}, {"class_weight": None}),
    "word among numbers": ({"X": lambda X: np.where(X == X[3, 1], "word", X.astype(object))}, {}),
    "complex cell": ({"X": lambda X: np.where(X == X[3, 1], 1j, X.astype(object))}, {}),
    "unknown class weight": ({"y": lambda y: (y > 0).astype(int)}, {"class_weight": {2: 1.0}}),
    "no class weight": ({"y": lambda y: (y > 0).astype(int)}, {"class_weight": {0: 0.0, 1: 0.0}}),
    "class weight of labels": (
        {"y": lambda y: np.column_stack([y > 0, y < 1]).astype(int)},
        {"class_weight": {0: 1.0}},
    ),
    "numbers as classes": ({}, {"class_weight": None}),
}


@pytest.mark.parametrize(("changes", "options"), REFUSED.values(), ids=REFUSED)
def test_what_a_single_machine_refuses_is_refused_in_the_same_words(client, changes, options):
    X, y = draw()
    data = {"X": X, "y": y, "weight": np.ones(len(X))}
    data |= {name: change(data[name]) for name, change in changes.items()}
    local, distributed = (
        (GNClassifier, DaskGNClassifier) if "class_weight" in options else (GNRegressor, DaskGNRegressor)
    )
    with pytest.raises((TypeError, ValueError)) as expected:
        local(**SMALL | options).fit(*data.values())
    with pytest.raises((TypeError, ValueError)) as found:
        distributed(**SMALL | options).fit(*(da.from_array(a, chunks=(100, *a.shape[1:])) for a in data.values()))
    name = local.__name__
    assert type(found.value) is type(expected.value)
    assert str(found.value).replace(f"Dask{name}", name).replace(" of its partition", "") == str(expected.value)


def test_labels_of_two_types_in_two_partitions_are_refused(client):
    X, y = draw()
    labels = da.concatenate([da.from_array(y[:100] > 0, chunks=100), da.from_array(y[100:].astype(str), chunks=140)])
    with pytest.raises(TypeError, match="make all labels of one type"):
        DaskGNClassifier(**SMALL).fit(da.from_array(X, chunks=((100, 140), 3)), labels.map_blocks(_as_it_was))


def _as_it_was(block):
    """Truth values that were made words."""
    return block == "True" if set(block) <= {"True", "False"} else block


#: What a single machine warns of: a change of X, y or weight, and parameters. All of them are cut short as well.
WARNED_OF = {
    "unscaled inputs": ({"X": lambda X: 1e3 * X}, ONE_OF_L2 | {"standardize": False}),
    "few observations": ({"weight": lambda w: np.where(np.arange(len(w)) % 3, w / len(w), 0)}, {}),
}


@pytest.mark.filterwarnings("always")
@pytest.mark.parametrize(("changes", "options"), WARNED_OF.values(), ids=WARNED_OF)
def test_what_a_single_machine_warns_of_is_warned_of_in_the_same_words(client, changes, options):
    X, y = draw()
    data = {"X": X, "y": y, "weight": np.ones(len(X))}
    data |= {name: change(data[name]) for name, change in changes.items()}
    with pytest.warns() as expected:
        GNRegressor(**SMALL | options).fit(*data.values())
    collections = spread(client, *data.values())
    with pytest.warns() as found:
        DaskGNRegressor(**SMALL | options).fit(*collections)
    ours, theirs = ([(w.category, str(w.message), w.filename) for w in caught] for caught in (found, expected))
    # Others, of sockets, are not of the fit.
    assert theirs and [warning for warning in ours if warning[2] == __file__] == theirs


def test_a_system_beyond_the_memory_of_the_driver_is_refused(client, monkeypatch):
    X, y = spread(client, *draw())
    monkeypatch.setattr("skgn.dask.placed_rows.available_memory", lambda device: 1e4)
    with pytest.raises(ValueError, match=r"networks of 19 weights .* fewer hidden units"):
        DaskGNRegressor(**SMALL | {"n_estimators": 3, "l2_regularization": 0.1}).fit(X, y)


def test_scores_of_nothing_are_errors_and_those_beyond_all_numbers_are_nan(fitted):
    """Missing targets had had the score 0, and weights of 0 the score 1."""
    model, X, y = fitted
    classifier = DaskGNClassifier(**ONE_OF_L2 | {"max_iter": 1}).fit(X, y > 0)
    for each, target in ((model, y), (classifier, y > 0)):
        with pytest.raises(ValueError, match="needs a row of positive weight"):
            each.score(X, target, 0 * y)
    with pytest.raises(ValueError, match="y contains NaN"):
        model.score(X, da.where(y > 1, np.nan, y))
    with np.errstate(over="ignore", invalid="ignore"):
        assert np.isnan(model.score(X, 1e200 * y))


def test_no_categories_may_be_given(client):
    """An empty list, or a mask; others are refused by name, or as on a single machine."""
    X, y = draw()
    dX, dy = spread(client, X, y)
    frame = dd.from_pandas(pd.DataFrame(X, columns=["u", "v", "w"]), npartitions=2)
    target = dd.from_pandas(pd.Series(y), npartitions=2)
    options = ONE_OF_L2 | {"max_iter": 1}
    expected = GNRegressor(**options).fit(X, y)
    for given, data in (([], (dX, dy)), ([False] * 3, (dX, dy)), ([False] * 3, (frame, target))):
        assert_same_fit(DaskGNRegressor(**options, categorical_features=given).fit(*data), expected)
    for given, data, message in (
        ([1], (dX, dy), r"categories, \[1\]"),
        (["v"], (frame, target), r"categories, \['v'\]"),
        ([3], (dX, dy), r"positions \[3\], but X has 3 features"),
    ):
        with pytest.raises(ValueError, match=message):
            DaskGNRegressor(**options, categorical_features=given).fit(*data)


def test_diagnose_asks_for_rows_in_memory(fitted):
    model, *collections = fitted
    for data in (collections, draw()):
        with pytest.raises(TypeError, match=r"^diagnose takes rows in memory: pass to_local\(\)"):
            diagnose(model, *data)


def test_predictions_want_collections_of_the_right_width(fitted):
    model, (X, _) = fitted[0], draw()
    with pytest.raises(TypeError, match="to_local"):
        model.predict(X)
    with pytest.raises(ValueError, match="2 features"):
        model.predict(da.from_array(X[:, :2], chunks=100))
    with pytest.raises(TypeError, match=r"^X has the type datetime64\[s\], which is neither a number nor a category"):
        model.predict(da.from_array(X.astype("datetime64[s]"), chunks=100))


def test_what_has_no_distribution_says_so_by_the_name_of_the_method():
    X, y = draw(50)
    local = GNRegressor(**SMALL | {"max_iter": 1}, loss="quantile").fit(X, y)
    model = DaskGNRegressor(**{**local.get_params(), "client": None})
    model.__dict__.update(local.__dict__)
    for method, options in {"predict_quantiles": {"quantiles": 0.5}, "predict_interval": {}}.items():
        with pytest.raises(ValueError, match=f"^{method} has no meaning here"):
            getattr(model, method)(da.from_array(X), **options)


def test_without_a_client_the_message_says_so(monkeypatch):
    def default_client():
        raise ValueError("No clients found")

    monkeypatch.setattr("distributed.default_client", default_client)
    x = da.ones((4, 1), chunks=2)
    with pytest.raises(ValueError, match="There is no dask client"):
        DaskGNRegressor().fit(x, x)


def test_dask_is_imported_on_demand_only_and_its_absence_names_the_extra():
    code = """
import sys, skgn
print("dask" in sys.modules, "distributed" in sys.modules)
sys.modules["distributed"] = None
try:
    import skgn.dask
except ImportError as error:
    print(error)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=True)
    found = run.stdout.split("\n")
    assert found[0] == "False False"
    assert "skgn[dask]" in found[1]


def test_weights_with_fractions_have_the_same_factor_on_all_workers(client):
    """Each part had one of its own: weights of 2.5 and 0.5 counted as 1 and 0.5, and the mean was 0.67."""
    rng = np.random.RandomState(5)
    X, group = rng.normal(size=(ROWS, 1)), np.arange(ROWS) >= ROWS // 2
    y, weight = 2.0 * group + 0.1 * rng.normal(size=ROWS), np.where(group, 0.5, 2.5)
    options = ONE_OF_L2 | {"hidden_layer_sizes": (), "max_iter": 3}
    model = DaskGNRegressor(**options).fit(*spread(client, X, y, weight, chunks=ROWS // 2))
    assert model.to_local().predict(X).mean() == pytest.approx(np.average(y, weights=weight), abs=0.05)


@dataclass(frozen=True)
class KillAt(GainRatio):
    """Kills a worker at an iteration, as soon as the next round is under way."""

    pid: int = 0
    iteration: int = 1
    killed: list = field(default_factory=list)

    def accepted(self, damping, gain_ratio, at):
        if at.iteration == self.iteration and not self.killed:
            self.killed.append(self.pid)
            threading.Timer(0.01, os.kill, (self.pid, signal.SIGKILL)).start()
        return super().accepted(damping, gain_ratio, at)


def test_a_killed_worker_changes_nothing(client):
    """Bit for bit, although the rows of the dead are then on another worker. The last test: no other waits for it."""
    # Blocks that no other test has: copies of these may be on several workers, and then fits begin on other ones.
    X, y = spread(client, *draw(seed=77))
    places = client.who_has(X)
    options = SMALL | {"max_iter": 3}
    undisturbed = DaskGNRegressor(**options | {"damping": GainRatio()}).fit(X, y)
    assert client.who_has(X) == places
    rule = KillAt(pid=next(iter(client.run(os.getpid).values())))
    model = DaskGNRegressor(**options | {"damping": rule}).fit(X, y)
    assert rule.killed
    assert rule.pid not in client.run(os.getpid).values()
    np.testing.assert_array_equal(model.estimators_[0].weights, undisturbed.estimators_[0].weights)
    assert model.log_evidence_ == undisturbed.log_evidence_
    for name in ("objective", "gradient_norm", "damping"):
        np.testing.assert_array_equal(model.history_[name], undisturbed.history_[name])
