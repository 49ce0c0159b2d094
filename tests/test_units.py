"""Streams whose rows outgrow the units of the first block: the model follows, and says so where it cannot."""

import copy
import pickle
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning
from torch import nn

from skgn import GNClassifier, GNRegressor
from skgn.ensemble import member_outputs
from skgn.estimator import network_on
from skgn.feedforward import FeedForward
from skgn.losses import SquaredError
from skgn.objective import Objective
from skgn.preprocessing import SCALINGS
from skgn.primal import Primal
from skgn.rows import Rows
from skgn.targets import LOSSES
from skgn.unfamiliar import UnfamiliarDataWarning
from skgn.units import Seen, follow

ONE = {"n_estimators": 1, "tol": 1e-2, "random_state": 0}

#: Scalings of each kind, and networks that read straight columns, squashed ones, or both.
KINDS = [
    {"standardize": "robust"},
    {"standardize": "robust", "linear_path": False},
    {"standardize": "robust", "hidden_layer_sizes": ()},
    {"standardize": "rank"},
    {"standardize": "periodic"},
    {"standardize": "piecewise"},
    {"init": "centered"},
    {"prior_groups": "feature"},
    {"l2_regularization": 1e-3},
    {"batch_size": 20, "l2_regularization": 1e-3, "solver": "dual"},
]


def line(X):
    """A line in two columns."""
    return X[:, 0] + 2 * X[:, 1]


def wave(X):
    """What hidden layers have to learn."""
    return np.sin(2 * X[:, 0]) + X[:, 1] ** 2 / 2


def blocks(change, function=line, n_blocks=4, n=400, seed=0):
    """Blocks of two normal columns, the first one changed; y is a function of the columns after the change."""
    rng = np.random.default_rng(seed)
    for number in range(n_blocks):
        X = rng.normal(size=(n, 2))
        X = change(X.copy()) if number == 0 else X
        yield X, function(np.nan_to_num(X)) + 0.01 * rng.normal(size=n)


def first(column):
    """A change of the second column by a function."""

    def change(X):
        X[:, 1] = column(X[:, 1])
        return X

    return change


#: What the first block has, or has not.
FIRST = {
    "constant": first(lambda x: 0 * x + 1),
    "constant, zero": first(lambda x: 0 * x),
    "nearly constant": first(lambda x: 1e-9 * x),
    "of a small spread": first(lambda x: 1e-3 * x),
    "elsewhere": first(lambda x: x + 20),
    "missing": first(lambda x: x * np.nan),
}


def after_stream(rows, **parameters):
    """A model after a stream, and its R2 on new rows like the last ones."""
    model = GNRegressor(**ONE | parameters)
    for X, y in rows:
        model.partial_fit(X, y)
    return model


@pytest.mark.parametrize("case", FIRST)
def test_a_line_is_found_whatever_the_first_block_was_like(case):
    model = after_stream(blocks(FIRST[case]), hidden_layer_sizes=())
    X = np.random.default_rng(1).normal(size=(500, 2))
    assert model.score(X, line(X)) > 0.99


@pytest.mark.parametrize("case", ["constant", "nearly constant", "missing"])
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_scalings_of_every_kind_follow_a_stream(kind, case):
    model = after_stream(blocks(FIRST[case], n_blocks=6), **kind)
    X = np.random.default_rng(1).normal(size=(500, 2))
    # A feature that was constant has a single piece for ever.
    assert model.score(X, line(X)) > (0.85 if kind.get("standardize") == "piecewise" else 0.9)


def test_one_column_after_the_other_may_begin_to_vary():
    rng, model = np.random.default_rng(0), GNRegressor(**ONE)
    for number in range(5):
        X = rng.normal(size=(400, 4))
        X[:, number + 1 :] = 7.0
        model.partial_fit(X, X @ [1, 2, 3, 4])
    X = rng.normal(size=(400, 4))
    assert model.score(X, X @ [1, 2, 3, 4]) > 0.99


#: What the first block tells of the target.
TARGETS = {"constant": lambda y: 0 * y + 7, "small": lambda y: 1e-6 * y, "far": lambda y: y + 50}


@pytest.mark.parametrize("loss", ["squared_error", "huber", "student_t", "quantile"])
@pytest.mark.parametrize("case", TARGETS)
def test_the_target_may_be_constant_small_or_elsewhere_at_first(case, loss):
    rows = [(X, TARGETS[case](y) if i == 0 else y) for i, (X, y) in enumerate(blocks(lambda X: X, n_blocks=6))]
    model = after_stream(rows, hidden_layer_sizes=(), loss=loss)
    X = np.random.default_rng(1).normal(size=(500, 2))
    assert model.score(X, line(X)) > 0.9


@pytest.mark.parametrize("kind", [{"standardize": kind} for kind in SCALINGS], ids=str)
@pytest.mark.parametrize("begin", ["fit", "partial_fit"])
@pytest.mark.filterwarnings("ignore:A stream does not know which weights")
def test_rows_far_smaller_than_those_before_are_warned_of(begin, kind):
    model, rows = GNRegressor(**ONE | kind, max_iter=5), blocks(lambda X: X)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        getattr(model, begin)(*next(rows))
    X, y = (values[:100] for values in next(rows))  # of half of all rows the units would be followed
    # Neither rows like those before, nor a column that is constant, nor one of two values, are small.
    for like in (X, X * [1, 0], np.column_stack([X[:, 0], 1e-6 * (X[:, 1] > 0)])):
        copy.deepcopy(model).partial_fit(like, y)
    for changed, y_changed, names in ((X * [1, 1e-6], y, "'x1'"), (1e-4 * X, 1e-4 * y, "'x0', 'x1', y")):
        with pytest.warns(UnfamiliarDataWarning, match=f"less than a thousandth of those before in {names}. They"):
            copy.deepcopy(model).partial_fit(changed, y_changed)


def test_a_stream_of_small_rows_is_one_of_its_units():
    rows = [(1e-6 * X, y) for X, y in blocks(lambda X: X, n_blocks=6)]
    X, y = next(blocks(lambda X: X, seed=1))
    assert after_stream(rows).score(1e-6 * X, y) > 0.99


@pytest.mark.parametrize("loss", ["poisson", "gamma"])
@pytest.mark.parametrize("mean", [0.05, 1])
def test_the_mean_of_positive_targets_may_be_another_at_first(mean, loss):
    rng, model = np.random.default_rng(0), GNRegressor((), loss=loss, **ONE)
    for number in range(5):
        X = rng.normal(size=(400, 1))
        rate = np.exp(X[:, 0] / 2) * (50 if number else mean)
        model.partial_fit(X, rng.poisson(rate) if loss == "poisson" else rate * rng.gamma(5, 0.2, 400))
    assert model.predict([[0.0]])[0] == pytest.approx(50, rel=0.15)


def test_classes_of_a_column_that_begins_to_vary():
    rng, model = np.random.default_rng(0), GNClassifier(**ONE)
    for number in range(4):
        X = rng.normal(size=(400, 2))
        X[:, 1] *= number > 0
        model.partial_fit(X, X.sum(axis=1) > 0, classes=[False, True])
    X = rng.normal(size=(400, 2))
    assert model.score(X, X.sum(axis=1) > 0) > 0.95


def test_levels_of_a_category_that_had_one():
    pd = pytest.importorskip("pandas")
    rng, model = np.random.default_rng(0), GNRegressor((), **ONE)
    for number in range(3):
        town = rng.choice(["Aachen", "Bonn"], 300) if number else np.full(300, "Aachen")
        X = pd.DataFrame({"town": town, "size": rng.normal(size=300)})
        model.partial_fit(X, 5.0 * (town == "Bonn") + X["size"])
    rise = model.predict(X.assign(town="Aachen", size=0.0))[0]
    with pytest.warns(UnfamiliarDataWarning, match="No cell"):
        assert model.predict(X.assign(town="Bonn", size=0.0))[0] - rise == pytest.approx(5, abs=0.1)


def streamed(X, y, **parameters):
    """A model after one block, and its merged rows of any others."""
    model = GNRegressor(**ONE | parameters).partial_fit(X, y)

    def rows(X, y):
        return Rows(np.asarray(X, dtype=float), model._target.encode(y), np.ones(len(X)))

    return model, rows


def outputs(model, table, target, streams, X):
    """Predictions of the first member in given units."""
    member = replace(model.estimators_[0], weights=streams[0].start.weights, anchor=streams[0].start.anchor)
    scaled = table.scale(table.encode(np.asarray(X, dtype=float)))[member.scaling]
    return target.mean([member_outputs(member, scaled, torch.device("cpu"))], np.ones(1))


@pytest.mark.parametrize("kind", [*KINDS, {"loss": "quantile", "quantile": [0.1, 0.9]}], ids=str)
def test_no_prediction_changes_where_a_column_begins_to_vary_and_the_target_has_other_units(kind):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 2))
    X[:, 1] = 3.0
    y = np.sin(X[:, 0])
    model, rows = streamed(X, y, **kind)
    block = rng.normal(size=(200, 2))
    table, target, streams = follow(
        model._table, model._target, model._streams, model._seen, rows(block, 100 + 50 * block[:, 1])
    )
    assert table is not model._table and target is not model._target
    np.testing.assert_allclose(
        outputs(model, table, target, streams, block), model.predict(block), rtol=1e-9, atol=1e-9
    )
    np.testing.assert_allclose(outputs(model, table, target, streams, X), model.predict(X), rtol=1e-9, atol=1e-9)


def test_straight_columns_with_other_units_change_no_prediction_of_the_rows_before():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 2))
    model, rows = streamed(X, line(X), hidden_layer_sizes=())
    block = rng.normal(size=(300, 2)) + np.array([8, 0])
    table, target, streams = follow(model._table, model._target, model._streams, model._seen, rows(block, line(block)))
    assert (table.scalings["robust"].mean != model._table.scalings["robust"].mean).tolist() == [True, False]
    np.testing.assert_allclose(outputs(model, table, target, streams, X), model.predict(X), atol=1e-8)


def test_remembered_curvature_is_that_of_the_rows_before_in_the_new_units():
    """Of a linear model it is the Gram matrix of the columns."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 2))
    X[:, 1] = 3.0
    model, rows = streamed(X, X[:, 0], hidden_layer_sizes=(), l2_regularization=1e-3)
    block = 2 * rng.normal(size=(300, 2)) + [6, 0]
    table, _, (stream,) = follow(model._table, model._target, model._streams, model._seen, rows(block, line(block)))
    old, new = (np.column_stack([t.scale(X)["robust"], np.ones(len(X))]) for t in (model._table, table))
    # The memory is a mean over batches, not that of all rows: compare what the change of units does to it.
    T = np.linalg.lstsq(old, new, rcond=None)[0]
    np.testing.assert_allclose(old @ T, new, atol=1e-9)
    mean = model._streams[0].steps["mean"]
    np.testing.assert_allclose(stream.steps["mean"], T.T @ mean @ T, atol=1e-9)


def test_remembered_squares_of_the_noise_are_in_the_new_units_of_the_target():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 2))
    model, rows = streamed(X, line(X) + rng.normal(size=300), hidden_layer_sizes=())
    block = rng.normal(size=(300, 2))
    _, target, (stream,) = follow(
        model._table, model._target, model._streams, model._seen, rows(block, 50 * line(block))
    )
    assert target.scaler.scale > 3 * model._target.scaler.scale
    (before,) = model._streams
    np.testing.assert_allclose(
        stream.squares * target.scaler.scale**2, before.squares * model._target.scaler.scale**2, rtol=1e-12
    )


@pytest.mark.parametrize("n_straight", [0, 3])
@pytest.mark.parametrize("sizes", [(), (4,), (4, 2)])
@pytest.mark.parametrize("linear_path", [True, False])
def test_weights_for_other_inputs_give_the_same_outputs(sizes, n_straight, linear_path):
    rng = np.random.default_rng(0)
    n_inputs = 3 if n_straight == 0 else 6 if sizes else 3
    network = FeedForward(n_inputs, 2, sizes, linear_path=linear_path, alpha=2.0, n_straight=n_straight if sizes else 0)
    z, scale, shift = rng.normal(size=(7, n_inputs)), rng.normal(size=n_inputs), rng.normal(size=n_inputs)
    w = torch.from_numpy(rng.normal(size=network.n_weights))
    maps = [torch.from_numpy(T) for T in network.input_maps(scale, shift)]
    moved = torch.cat([(W @ T).flatten() for W, T in zip(network.split(w), maps, strict=True)])
    expected = network.forward(network.with_bias(torch.from_numpy(scale * z + shift)), w)[0]
    found = network.forward(network.with_bias(torch.from_numpy(z)), moved)[0]
    torch.testing.assert_close(found, expected)


def test_units_stay_where_blocks_are_alike():
    rng = np.random.default_rng(0)
    model = GNRegressor((3,), **ONE)
    units = []
    for _ in range(5):
        X = np.column_stack([rng.normal(size=300), rng.integers(0, 2, 300), rng.exponential(size=300)])
        model.partial_fit(X, X.sum(axis=1) + 1)
        units.append((model._table.scalings["robust"], model._target.scaler))
    assert all(scaler is units[0][0] and target is units[0][1] for scaler, target in units)


def test_the_sample_of_a_stream_depends_on_its_rows_only():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(3000, 2))
    rows = [Rows(part, part[:, :1], np.ones(len(part))) for part in np.array_split(X, 6)]

    def sample(order):
        seen = Seen(rows[0].X[:0], rows[0].Y[:0], rows[0].weight[:0], 0.0, True)
        for number in order:
            seen = seen.and_then(rows[number])
        return seen

    one, other = sample(range(6)), sample([3, 1, 5, 0, 2, 4])
    np.testing.assert_array_equal(one.X, other.X)
    assert len(one.X) == 1000 and one.total_weight == 3000
    # A fair sample: the means of all rows within their standard errors, and as many rows of each block.
    assert np.abs(one.X.mean(axis=0) - X.mean(axis=0)).max() < 0.1
    beside = one.beside(rows[0])
    assert beside.weight.sum() == pytest.approx(3500)


def test_a_network_of_ones_own_says_that_it_cannot_follow():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 2))
    model = GNRegressor(network=nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1)), **ONE)
    model.set_params(standardize="rank").partial_fit(X * [1, 0], X[:, 0])
    with pytest.warns(
        UnfamiliarDataWarning, match="outgrown the units of the first block in 'x1', y. Weights of network="
    ):
        model.partial_fit(X, 100 * X[:, 1])
    assert np.isfinite(model.predict(X)).all()


def test_after_a_fit_a_constant_column_wakes_and_far_rows_are_said():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 2))
    model = GNRegressor(**ONE).fit(X * [1, 0], X[:, 0])
    for seed in range(4):
        X = np.random.default_rng(seed).normal(size=(300, 2))
        model.partial_fit(X, line(X))
    assert model.score(X, line(X)) > 0.95
    model = GNRegressor(**ONE).fit(X, X[:, 0])
    scalings = pickle.dumps(model._table.scalings)
    with pytest.warns(UnfamiliarDataWarning, match="300 of 300 rows .* 'x0'"):
        model.partial_fit(X + np.array([100, 0]), X[:, 0])
    assert pickle.dumps(model._table.scalings) == scalings
    # Now such rows are known.
    model.predict(X + np.array([100, 0]))


def test_what_rows_are_familiar_follows_a_stream():
    X = np.random.default_rng(0).normal(size=(100, 1))
    model = GNRegressor((), **ONE).partial_fit(X, X[:, 0])
    with pytest.warns(UnfamiliarDataWarning, match="far beyond"):
        model.predict([[50.0]])
    model.partial_fit(X + 50, X[:, 0] + 50)
    model.predict([[50.0], [0.0]])


@pytest.mark.parametrize("case", ["constant", "missing"])
def test_a_block_that_fails_leaves_units_weights_and_rows_as_they_were(case):
    (X, y), (other, target), *_ = blocks(FIRST[case])
    model = GNRegressor((3,), **ONE).partial_fit(X, y)
    before = pickle.dumps(model.__getstate__())

    def fail(*args):
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("skgn.estimator.train_block", fail)
        with pytest.raises(KeyboardInterrupt):
            model.partial_fit(other, target)
    assert pickle.dumps(model.__getstate__()) == before


def test_streams_of_earlier_versions_go_on():
    (X, y), (other, target), *_ = blocks(FIRST["constant"])
    model = GNRegressor((3,), **ONE).partial_fit(X, y)
    state = model.__getstate__()
    state.pop("_seen")
    earlier = GNRegressor()
    earlier.__setstate__(state)
    earlier.partial_fit(other, target)
    assert earlier.score(other, target) > 0.8


def test_a_stream_can_be_looked_at_after_a_change_of_units():
    model = after_stream(blocks(FIRST["constant"], wave), hidden_layer_sizes=(5,))
    (X, y), *_ = blocks(lambda X: X, wave, 1, seed=5)
    objective, w = network_on(model, X, y)
    scale = model._target.scaler.scale[0]
    expected = np.square((y - model.predict(X)) / scale).mean() / 2
    assert float(objective.evaluate(w).loss) == pytest.approx(expected)


#: Standard deviations of the target in two halves of a stream; 0 is a constant target.
LEAPS = [(1e200, 1e-200), (1e-200, 1e200), (1e-300, 1e299), (0.0, 1e-200), (0.0, 1e200)]


@pytest.mark.filterwarnings("ignore:Rows of this block are less than a thousandth")
@pytest.mark.parametrize(
    ("loss", "dtype"),
    [
        *((loss, "float64") for loss in ("squared_error", "huber", "student_t", "cauchy", "quantile")),
        *((loss, "float32") for loss in ("squared_error", "student_t")),
    ],
)
@pytest.mark.parametrize("leap", LEAPS)
def test_a_target_that_leaps_over_the_floats_is_followed(leap, loss, dtype):
    rng, model = np.random.default_rng(0), GNRegressor((), loss=loss, dtype=dtype, **ONE)
    for size in (leap[0], *3 * [leap[1]]):
        X = rng.normal(size=(200, 1))
        model.partial_fit(X, size * (X[:, 0] + 0.01 * rng.normal(size=200)))
        predicted = model.predict(X)
        assert np.isfinite(predicted).all() and np.isfinite(model.noise_std_)
        if not LOSSES[loss].without_std:
            std = model.predict(X, return_std=True)[1]
            assert np.isfinite(std).all() and (std > 0).all()
    if leap[1] > leap[0]:
        np.testing.assert_allclose(predicted / leap[1], X[:, 0], atol=0.1)


@pytest.mark.filterwarnings("ignore:Rows of this block are less than a thousandth")
@pytest.mark.parametrize("hidden", [(), (3,)])
def test_what_was_learned_of_a_far_target_that_the_sample_has_lost_begins_again(hidden):
    """A sample of 1,000 rows of 3,000, without the one row far away: there are other units, 1e200 times as small."""
    rng, model = np.random.default_rng(2), GNRegressor(hidden, **ONE)
    lost = False
    for number in range(6):
        X = rng.normal(size=(1500, 1))
        y = X[:, 0] + 0.01 * rng.normal(size=1500)
        if number == 0:
            y[0] = 1e200
        model.partial_fit(X, y)
        assert np.isfinite(model.predict(X)).all()
        lost |= number > 0 and model._target.scaler.scale[0] < 2
    assert lost and model.score(X, y) > 0.99


@pytest.mark.parametrize("loss", ["squared_error", "huber", "student_t", "cauchy", "quantile", "poisson", "gamma"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_target_beyond_the_units_of_a_fit_is_refused_and_nothing_is_lost(loss, dtype):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(100, 2)), rng.exponential(size=100)
    model = GNRegressor((), loss=loss, dtype=dtype, n_estimators=1, l2_regularization=1e-3).fit(X, y)
    before = pickle.dumps(model.__getstate__())
    with pytest.raises(ValueError, match=f"in units of the fit, whose squares are beyond {dtype}: scale it"):
        model.partial_fit(X, 1e200 * y)
    assert pickle.dumps(model.__getstate__()) == before
    model.partial_fit(X, y)


def test_a_batch_whose_curvature_is_beyond_the_floats_is_not_remembered():
    memory = Primal.remembered()
    network = FeedForward(2, 1, ())
    X, w = torch.ones(4, 2, dtype=torch.float64), torch.zeros(network.n_weights, dtype=torch.float64)
    for size in (1.0, 1e200, 1.0):
        objective = Objective(network, SquaredError(), size * X, torch.ones(4, 1).double(), torch.ones(4).double())
        memory.linearise(objective.jacobian(objective.evaluate(w)), 4.0)
        memory.remember(0.5)
    assert bool(torch.isfinite(memory.mean).all()) and float(memory.mean.trace()) > 0
