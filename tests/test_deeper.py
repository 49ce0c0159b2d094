"""Networks of two hidden layers, where those of one have too few weights."""

import contextlib
import copy
import io
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from skgn import GNRegressor
from skgn.candidates import COMPARED_ROWS, Kind, Level
from skgn.draws import deeper_starts, draw_starts
from skgn.feedforward import FeedForward
from skgn.finer import Refinable
from skgn.preprocessing import TwoPathScaler
from skgn.prior_groups import PriorKind
from skgn.redrawing import where_weights_are_few

FEW = {"n_estimators": 2, "tol": 1e-2, "random_state": 0}
LINE = "weights are few for the rows"


def bent(X):
    """A bend of what is itself bent."""
    return np.tanh(3 * np.sin(2 * X[:, 0] + X[:, 1] ** 2) + 2 * X[:, 2] * X[:, 3])


def data(n=750, noise=0.02, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.uniform(-1, 1, (n, 4))
    return X, bent(X) + noise * rng.standard_normal(n)


def deep(model):
    return [member for member in model.estimators_ if member.network.hidden_layer_sizes == (20, 20)]


@pytest.fixture(scope="module")
def fitted():
    """A fit, and the lines that it has printed."""
    lines = io.StringIO()
    with contextlib.redirect_stdout(lines):
        model = GNRegressor(**FEW, verbose=1).fit(*data())
    return model, lines.getvalue()


def test_a_bend_of_bends_is_followed(fitted):
    model, lines = fitted
    new, clean = data(2000, noise=0, seed=1)
    assert f"{LINE}: " in lines and deep(model)
    given = GNRegressor(**FEW, hidden_layer_sizes=(20,)).fit(*data())
    assert 1 - model.score(new, clean) < 0.3 * (1 - given.score(new, clean))


@pytest.mark.parametrize(
    ("rows", "given"),
    [
        (data(300), {}),
        (data(noise=2.0), {}),
        (data(), {"hidden_layer_sizes": (8,)}),
        (data(), {"n_estimators": 1}),
    ],
    ids=["few rows", "much noise", "layers are given", "one network"],
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_nothing_is_drawn(rows, given, capsys):
    GNRegressor(**FEW | given, verbose=1).fit(*rows)
    assert LINE not in capsys.readouterr().out


def test_nothing_is_drawn_where_the_noise_is_at_most_tol(monkeypatch, capsys):
    monkeypatch.setattr("skgn.further.is_exact", lambda samples, tol: tol == FEW["tol"])
    GNRegressor(**FEW, verbose=1).fit(*data())
    assert LINE not in capsys.readouterr().out


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_warm_start_goes_on_with_deep_networks(fitted):
    model = copy.deepcopy(fitted[0]).set_params(warm_start=True, max_iter=3, verbose=0)
    assert deep(model.fit(*data()))


KIND = Kind(("robust", FeedForward(4, 1)), Level(30.0, 4.0), PriorKind("layer"))
SMALL = Kind(("robust", FeedForward(4, 1, ())), Level(), PriorKind("layer"))
STARTS = draw_starts([KIND, SMALL], 4, False, np.random.RandomState(0))
WEIGHTS = np.array([0.2, 0.5, 0.3, 0.0])
IN_USE = 20 * 4 + 20 + 5  # without one of the columns


def states(determined, n_rows, columns=(True, True, True, False)):
    """What is known of trained networks, of so many effective weights each."""

    def state(start, effective):
        in_use = np.array(columns) if start.network.hidden_layer_sizes else None
        return SimpleNamespace(
            objective=SimpleNamespace(network=start.network),
            prior=SimpleNamespace(columns_in_use=lambda estimates: in_use),
            estimates=SimpleNamespace(n_effective_parameters=effective, total_weight=float(n_rows)),
        )

    return [state(start, effective) for start, effective in zip(STARTS, determined, strict=True)]


@pytest.mark.parametrize(
    ("determined", "n_rows", "few"),
    [
        ([0.61, 0.0, 0.61, 0.0], 500, True),
        ([0.59, 1.0, 0.59, 1.0], 500, False),
        ([0.9, 1.0, 0.5, 1.0], 500, True),
        ([0.5, 1.0, 0.64, 1.0], 500, False),
        ([0.9, 1.0, 0.9, 1.0], int(4.5 * IN_USE), False),
        ([0.9, 1.0, 0.9, 1.0], int(4.5 * IN_USE) + 1, True),
        ([None, 1.0, None, 1.0], 500, False),
    ],
)
def test_weights_are_few_where_samples_determine_most_of_those_in_use(determined, n_rows, few):
    """By hand: 0.2 and 0.3 of the weight count, and of 125 weights 20 belong to a column without use."""
    known = states([None if part is None else part * IN_USE for part in determined], n_rows)
    assert where_weights_are_few(STARTS, WEIGHTS, known, COMPARED_ROWS) is (STARTS[2] if few else None)
    assert where_weights_are_few(STARTS, WEIGHTS, known, COMPARED_ROWS + 1) is None


def test_linear_networks_do_not_count():
    assert where_weights_are_few(STARTS, np.array([0.0, 0.7, 0.0, 0.3]), states([500.0] * 4, 5000), 1000) is None


def refinable(network):
    return Refinable.of(
        TwoPathScaler.fit(np.random.default_rng(0).standard_normal((50, 4)), np.ones(50)), network, None
    )


def test_one_is_smooth_and_one_is_like_the_best_in_all_but_its_layers():
    smooth, alike = deeper_starts(STARTS, refinable(FeedForward(4, 1)), STARTS[0])
    assert smooth.network == alike.network == FeedForward(4, 1, (20, 20))
    assert (smooth.prior_kind, smooth.steepness) == (PriorKind("feature"), 1.0)
    assert (alike.scaling, alike.prior_kind, alike.steepness, alike.noise_precision) == ("robust", KIND[2], 4.0, 30.0)
    # The same kind twice is one.
    (only,) = deeper_starts(STARTS, refinable(FeedForward(4, 1)), replace(smooth, network=KIND[0][1]))
    assert only.kind == smooth.kind


@pytest.mark.parametrize("network", [FeedForward(4, 1, (10, 10)), FeedForward(40, 1)], ids=["deep", "wide"])
def test_none_is_drawn_of_two_layers_or_of_many_weights(network):
    start = draw_starts([Kind(("robust", network), Level(), PriorKind("layer"))], 1, False, np.random.RandomState(0))[0]
    assert deeper_starts(STARTS, refinable(network), start) == []


def test_columns_that_the_best_does_not_read_are_not_read():
    like = replace(STARTS[0], columns=np.array([True, False, True, False]))
    (alike,) = [
        start for start in deeper_starts(STARTS, refinable(FeedForward(4, 1)), like) if start.columns is not None
    ]
    first = alike.weights[: 20 * 5].reshape(20, 5)
    assert (first[:, [1, 3]] == 0).all() and (first[:, [0, 2, 4]] != 0).all()
