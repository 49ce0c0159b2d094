"""What a fit chooses among."""

import itertools
import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from skgn import GNClassifier, GNRegressor
from skgn.candidates import (
    Beside,
    Kind,
    Level,
    candidate_count,
    half_rectified,
    kind_beside,
    layer_choices,
    level_choices,
    member_count,
    prior_choices,
)
from skgn.choices import Choices, _of_fewer_units
from skgn.count_losses import PoissonLoss
from skgn.draws import (
    crossed,
    draw_starts,
    narrowed_count,
    narrowed_starts,
    redrawn_count,
    steepest_network,
    steepest_starts,
)
from skgn.feedforward import FeedForward
from skgn.label_losses import LogLoss, SoftmaxLoss
from skgn.losses import SquaredError
from skgn.prior_groups import PriorKind

NETWORKS = [("robust", FeedForward(3, 1, (20,))), ("periodic", FeedForward(7, 1, (10,)))]
SMOOTH, STEEP = LEVELS = level_choices(has_noise=True, compared=True)
PRIORS = prior_choices(compared=True)
EIGHT = [Kind(*each) for each in itertools.product(NETWORKS, LEVELS, PRIORS)]


def starts(kinds, n, balanced=True):
    return draw_starts(kinds, n, balanced, np.random.RandomState(0))


def steepness(start):
    """By how much the first layer is larger than that of the same draw without any."""
    plain = start.network.initial_weights(np.random.RandomState(start.seed))
    n_first = int(np.prod(start.network.shapes[0]))
    np.testing.assert_array_equal(start.weights[n_first:], plain[n_first:])
    ratios = np.unique(np.round(start.weights[:n_first] / plain[:n_first], 12))
    assert len(ratios) == 1
    return ratios[0]


def choices(found):
    return [
        (s.scaling, s.network.hidden_layer_sizes, str(s.prior_kind), s.noise_precision, steepness(s)) for s in found
    ]


def test_the_kinds_are_those_of_the_documentation():
    expected = itertools.product([("robust", (20,)), ("periodic", (10,))], ["feature", "layer"], [(1, 1), (30, 4)])
    assert set(choices(starts(EIGHT, 8))) == {(*network, prior, *level) for network, prior, level in expected}


@pytest.mark.parametrize("n", [4, 8, 12])
def test_every_pair_of_choices_is_as_frequent_in_the_first_half_of_the_kinds(n):
    found = [(scaling, prior, precision) for scaling, _, prior, precision, _ in choices(starts(EIGHT, n))]
    assert len(set(found)) == min(n, 8)
    for i, j in itertools.combinations(range(3), 2):
        assert Counter((choice[i], choice[j]) for choice in found).most_common()[-1][1] == n // 4


def test_of_two_open_choices_both_are_balanced_in_the_first_half():
    first, second = choices(starts([kind for kind in EIGHT if kind.scaled_network == NETWORKS[0]], 2))
    assert all(a != b for a, b in zip(first[2:], second[2:], strict=True))


def test_a_single_network_is_compared_in_the_order_of_the_kinds():
    found = starts(EIGHT[:4], 3, balanced=False)
    assert [(str(s.prior_kind), s.noise_precision) for s in found] == [
        ("feature", 1.0),
        ("layer", 1.0),
        ("feature", 30.0),
    ]


@pytest.mark.parametrize("n", [1, 4, 7, 20])
@pytest.mark.parametrize("kinds", [EIGHT, EIGHT[:1]], ids=["eight", "one"])
def test_kinds_come_again_with_other_weights(kinds, n):
    found = starts(kinds, n)
    assert len({start.seed for start in found}) == len({start.weights.tobytes() for start in found}) == n
    assert choices(found) == (choices(found[: len(kinds)]) * n)[:n]


@pytest.mark.parametrize(
    ("n_estimators", "n_rows", "sizes", "compared", "expected"),
    [
        ("auto", 2000, (20,), True, 6),
        ("auto", 2001, (20,), True, 4),
        # More than 1,000 weights, where the network of the fewest has as many.
        ("auto", 100, (32, 32), True, 4),
        ("auto", 100, (20,), False, 4),
        (1, 2001, (20,), True, 1),
        (11, 100, (32, 32), False, 11),
    ],
)
def test_number_of_members(n_estimators, n_rows, sizes, compared, expected):
    networks = [FeedForward(3, 1, sizes), FeedForward(3, 1, (40, 40))]
    assert member_count(n_estimators, n_rows, networks, compared) == expected


@pytest.mark.parametrize(
    ("n_members", "n_rows", "n_kinds", "compared", "expected"),
    [
        (8, 2000, 8, True, 8),
        (3, 2000, 8, True, 3),
        (4, 2001, 8, True, 8),
        (11, 2001, 8, True, 22),
        (4, 2001, 1, True, 4),
        (4, 2001, 8, False, 4),
        (1, 100, 4, True, 3),
        (1, 10**6, 4, True, 3),
        (1, 100, 2, True, 2),
        (1, 100, 1, True, 1),
        (1, 100, 4, False, 1),
    ],
)
def test_number_of_candidates(n_members, n_rows, n_kinds, compared, expected):
    assert candidate_count(n_members, n_rows, n_kinds, compared) == expected


def test_levels():
    assert LEVELS == (Level(1.0, 1.0), Level(30.0, 4.0))
    assert level_choices(has_noise=True, compared=False) == (SMOOTH,)
    assert level_choices(has_noise=False, compared=True) == LEVELS
    # The units of a module cannot be made steep, and a linear model has none.
    assert level_choices(has_noise=True, compared=True, steep=False) == (SMOOTH, Level(30.0, 1.0))
    assert level_choices(has_noise=False, compared=True, steep=False) == (SMOOTH,)


def test_priors():
    assert PRIORS == (PriorKind("feature"), PriorKind("layer"))
    assert prior_choices(compared=False) == prior_choices(compared=True, features=False) == (PriorKind("layer"),)


@pytest.mark.parametrize(
    ("n_inputs", "n_outputs", "n_observations", "given", "expected"),
    [
        ({"robust": 8}, 1, 100, None, [("robust", (20,))]),
        ({"robust": 8}, 1, 1e5, None, [("robust", (16, 16))]),
        ({"robust": 8}, 1, 1e5, (5,), [("robust", (5,))]),
        ({"robust": 8}, 1, 1e5, (), [("robust", ())]),
        # One layer of 20 has more than 1,000 weights; two of 10 have not.
        ({"robust": 60}, 1, 100, None, [("robust", (10, 10))]),
        # All have more, and the smallest stays.
        ({"robust": 300}, 1, 100, None, [("robust", (10, 10))]),
        ({"robust": 8, "periodic": 24}, 1, 100, None, [("robust", (20,)), ("periodic", (10,))]),
        ({"robust": 8, "periodic": 24}, 1, 1e5, (9,), [("robust", (9,)), ("periodic", (9,))]),
        ({"robust": 8, "periodic": 24}, 1, 1e5, (90,), [("robust", (90,))]),
        ({"rank": 8, "periodic": 24}, 1, 1e5, None, [("rank", (16, 16)), ("periodic", (12, 12))]),
        # Observations for the weights of the former, not of the latter.
        ({"rank": 8, "periodic": 24}, 1, 3700, None, [("rank", (16, 16)), ("periodic", (10,))]),
        ({"robust": 100, "periodic": 300}, 1, 100, None, [("robust", (10, 10))]),
        ({"periodic": 300}, 1, 100, None, [("periodic", (10,))]),
        # Most of the columns have two values only; with periodic inputs too where these are few weights.
        ({"robust": 200, "periodic": 240}, 1, 1e5, None, [("robust", (5,))]),
        ({"robust": 100, "periodic": 110}, 2, 100, None, [("robust", (5,)), ("periodic", (5,))]),
        ({"robust": 200, "periodic": 240}, 5, 1e5, None, [("robust", (5,))]),
        ({"robust": 100, "periodic": 152}, 1, 100, None, [("robust", (10, 10))]),
        ({"robust": 100, "periodic": 110}, 6, 100, None, [("robust", (10, 10))]),
        ({"robust": 60, "periodic": 62}, 1, 100, None, [("robust", (10, 10)), ("periodic", (10,))]),
    ],
)
def test_hidden_layers_of_auto(n_inputs, n_outputs, n_observations, given, expected):
    assert layer_choices(n_inputs, n_outputs, n_observations, given) == expected


@pytest.mark.parametrize(
    ("loss", "k", "n_rows", "every_other"),
    [(LogLoss(), 1, 2000, False), (LogLoss(), 1, 2001, True), (SoftmaxLoss(), 3, 10, True)],
)
@pytest.mark.parametrize(("given", "expected"), [(None, (20,)), ((7,), (7,))])
def test_hidden_layers_of_rectified_units(given, expected, loss, k, n_rows, every_other):
    other = FeedForward(200, k, (10, 10), alpha=2.0, n_straight=100)
    network = FeedForward(200, k, expected, "relu", alpha=2.0, n_straight=100)
    kind = Kind(("robust", network), SMOOTH, PriorKind("layer", unit=True))
    assert kind_beside("robust", other, LEVELS, n_rows, loss, given) == Beside((kind,), every_other)


@pytest.mark.parametrize("n_rows", [100, 2000, 2001])
@pytest.mark.parametrize(("every_other", "large_ones"), [(False, 4), (True, 3)])
def test_numbers_of_networks_where_some_are_rectified(n_rows, every_other, large_ones):
    small, large = FeedForward(3, 3, (20,)), FeedForward(400, 30, (10, 10))
    beside = Beside((Kind(("robust", small), SMOOTH, PriorKind("layer", unit=True)),), every_other)
    assert member_count("auto", n_rows, [small, large], True, beside) == 4
    assert member_count("auto", n_rows, [large], True, beside) == large_ones
    assert member_count(7, n_rows, [large], True, beside) == 7
    # Those of other units beside a regression's change nothing.
    unsaturated = Beside((Kind(("robust", small), STEEP, PriorKind("feature")),), False)
    assert member_count("auto", 100, [small], True, unsaturated) == 6


@pytest.mark.parametrize(("times", "expected"), [(1.0, 4), (1.3, 3), (1.9, 2), (2.7, 2), (40.0, 2)])
def test_members_that_take_several_times_as_long_as_they_may_are_fewer(times, expected):
    large = FeedForward(10, 1, (50, 50))
    assert member_count("auto", 5000, [large], True, times=times) == expected
    assert member_count(7, 5000, [large], True, times=times) == 7


def test_all_are_trained_to_the_end_where_every_other_one_is_rectified():
    # But for the short starts of a single one.
    assert [candidate_count(n, 10**5, 9, True, half=True) for n in (1, 3, 4, 7)] == [3, 3, 4, 7]


def test_there_are_no_rectified_units_of_several_labels():
    assert kind_beside("robust", FeedForward(3, 2, (20,)), LEVELS, 100, LogLoss()) is None


@pytest.mark.parametrize(("given", "expected"), [(None, (20,)), ((7,), (7,))])
def test_hidden_layers_of_units_that_do_not_saturate(given, expected):
    other = FeedForward(200, 2, (10, 10), alpha=2.0, n_straight=100)
    kind = kind_beside("robust", other, LEVELS, 200, SquaredError(), given)
    network = FeedForward(200, 2, expected, "gelu", alpha=2.0, n_straight=100)
    assert kind == Beside((Kind(("robust", network), STEEP, PriorKind("feature")),), False)
    assert kind_beside("robust", other, LEVELS, 201, SquaredError(), given) is None
    assert kind_beside("robust", other, LEVELS, 200, PoissonLoss(), given) is None


@pytest.mark.parametrize("balanced", [True, False])
def test_one_of_three_is_of_the_kind_beside_the_others(balanced):
    beside = kind_beside(*NETWORKS[0], LEVELS, 100, LogLoss())
    found = draw_starts(EIGHT, 13, balanced, np.random.RandomState(0), beside)
    assert [s.prior_kind.unit for s in found] == [False, False, True] * 4 + [False]
    others = [choice for choice in choices(found) if choice[2] != "unit"]
    assert others[:8] == choices(starts(EIGHT, 8, balanced))
    assert len({s.seed for s in found}) == 13
    assert not half_rectified(found)


def test_every_other_one_is_rectified_and_the_rest_begin_with_opposites():
    beside = kind_beside(*NETWORKS[0], LEVELS, 2001, LogLoss())
    found = draw_starts(EIGHT, 16, True, np.random.RandomState(0), beside)
    assert [s.prior_kind.unit for s in found] == [True, False] * 8
    others = [(s.scaling, s.steepness, str(s.prior_kind)) for s in found if not s.prior_kind.unit]
    assert others[:2] == [("robust", 1, "layer"), ("periodic", 4, "feature")]
    assert len(set(others)) == 8
    assert half_rectified(found[:3]) and not half_rectified(found[1:2])
    # What is given has no opposite.
    one_scaling = [kind for kind in EIGHT if kind.scaled_network == NETWORKS[0]]
    found = draw_starts(one_scaling, 4, True, np.random.RandomState(0), beside)
    assert [(s.steepness, str(s.prior_kind)) for s in found[1::2]] == [(1, "layer"), (4, "feature")]
    # The short starts of a single network.
    found = draw_starts(EIGHT, 3, False, np.random.RandomState(0), beside)
    assert [s.prior_kind.unit for s in found] == [False, False, True]


@pytest.mark.parametrize("init", ["random", "centered"])
def test_narrowed_starts_read_few_columns_from_steep_units(init):
    network = FeedForward(9, 1, (20,), init=init)
    found = starts([Kind(("robust", network), SMOOTH, PriorKind("layer"))], 6)
    use = np.isin(np.arange(9), [0, 7])
    narrow = narrowed_starts(found, {"robust": use}, math.inf)
    assert narrowed_count(found, math.inf) == len(narrow) == 2
    for start, few in zip(found[4:], narrow, strict=True):
        assert (few.network, few.scaling, str(few.prior_kind), few.seed) == (network, "robust", "layer", start.seed)
        assert few.noise_precision == STEEP.noise_precision
        weights = network.arrays(few.weights)[0][0]
        assert np.flatnonzero(weights.any(1)).tolist() == [0, 7]
        # Two columns and the bias.
        assert weights[[0, 7]].std() == pytest.approx(STEEP.steepness / math.sqrt(3), rel=0.3)
        assert (few.anchor is None) if init == "random" else (few.anchor == few.weights).all()


@pytest.mark.parametrize(
    ("robust", "periodic", "expected"),
    [
        # At most half of three and of seven.
        (1, 3, ["robust", "periodic"]),
        (1, None, ["robust"]),
        (0, 3, []),
        (2, 3, []),
        (1, 4, []),
    ],
)
def test_all_scalings_need_few_columns(robust, periodic, expected):
    found = starts(EIGHT, 8)[-6:]
    columns = {"robust": robust, "periodic": periodic}
    n_inputs = {"robust": 3, "periodic": 7}
    columns = {name: np.arange(n_inputs[name]) < count for name, count in columns.items() if count is not None}
    assert sorted(s.scaling for s in narrowed_starts(found, columns, math.inf)) == sorted(expected)
    # A scaling counts of which none of the last starts is.
    of_one = [s for s in found if s.scaling == "robust"] * 2
    assert bool(narrowed_starts(of_one, columns, math.inf)) == bool(expected)
    # Pieces of features have no say, unless such candidates are to be drawn.
    columns["piecewise"] = np.ones(24, dtype=bool)
    assert len(narrowed_starts(found, columns, math.inf)) == len(expected)
    of_pieces = [replace(s, scaling="piecewise") for s in of_one]
    assert narrowed_starts(of_pieces, columns, math.inf) == []


def test_there_are_no_narrowed_starts_of_few_members_of_lines_and_of_given_precisions():
    assert narrowed_count(starts(EIGHT, 2), math.inf) == 0
    fixed, unit = PriorKind.fixed(1e-3), PriorKind("layer", unit=True)
    for network, kind in (((20,), fixed), ((20,), unit), ((), PriorKind("feature"))):
        assert narrowed_count(starts([Kind(("robust", FeedForward(3, 1, network)), SMOOTH, kind)], 4), math.inf) == 0


def test_the_steepest_networks_are_wide_where_inputs_are_few():
    assert steepest_network(FeedForward(2, 1, (20,), n_straight=1), "tanh").hidden_layer_sizes == (60,)
    assert steepest_network(FeedForward(20, 1, (20,)), "tanh").hidden_layer_sizes == (20,)
    assert steepest_network(FeedForward(2, 1, ()), "tanh").hidden_layer_sizes == ()
    assert all(
        s.network.hidden_layer_sizes == (60,)
        for s in steepest_starts([replace(s, steepest=FeedForward(2, 1, (60,))) for s in starts(EIGHT, 2)], 3)
    )


def test_more_candidates_begin_between_two_opposite_kinds():
    robust, periodic = ("robust", FeedForward(3, 4, (20,))), ("periodic", FeedForward(7, 4, (10,)))
    rectified = Kind(("robust", FeedForward(3, 4, (20,), "relu")), SMOOTH, PriorKind("layer", unit=True))
    layer, feature = PriorKind("layer"), PriorKind("feature")
    two = [rectified, Kind(robust, SMOOTH, layer), rectified, Kind(periodic, STEEP, feature)]
    between = Kind(robust, STEEP, feature)
    found = crossed(starts(two, 4))
    assert found == [between]
    drawn = steepest_starts(starts(two[1::2], 2), 3, found)
    assert drawn[0].kind == (*robust, feature)
    assert [start.steepness for start in drawn] == [4.0, 16.0, 16.0]
    assert redrawn_count(starts(two, 4), 4) == 3
    # Of one scaling, of three candidates, and where few are rectified, nothing is between them.
    for others in ([*two[:3], Kind(robust, STEEP, feature)], two[:3], [rectified, *two[1::2], between], [rectified]):
        assert crossed(starts(others, len(others))) == []


@pytest.mark.parametrize("d", [2, 20])
def test_the_steepest_networks_have_the_units_of_most(d):
    assert steepest_network(FeedForward(d, 1, (20,), "gelu"), "tanh").activation == "tanh"


def test_networks_of_many_classes_have_fewer_units_where_they_take_long():
    kind = Kind(("robust", FeedForward(12, 200, (20,), "relu")), Level(), PriorKind("layer", unit=True))
    given = kind.scaled_network[1].hidden_layer_sizes

    def units(given, most):
        return _of_fewer_units(kind, given, lambda network: network.n_weights > most).scaled_network

    assert units(None, 1e9) == kind.scaled_network
    assert units(None, 5000) == ("robust", FeedForward(12, 200, (10,), "relu"))
    # The fewest, however long they take.
    assert units(None, 0)[1].hidden_layer_sizes == (5,)
    assert units(given, 0) == kind.scaled_network


# --- Of a fit

SHORT = {"max_iter": 2, "tol": 1e9, "random_state": 0}


def members(model):
    return len(model.estimators_), {
        (m.scaling, m.network.hidden_layer_sizes, str(m.prior_kind)) for m in model.estimators_
    }


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("estimator", [GNRegressor, GNClassifier])
def test_members_of_small_tables_are_of_all_networks_and_priors(estimator):
    # So few rows do not tell whether left-out residuals depend on a feature.
    X = np.random.RandomState(0).standard_normal((30, 1)).repeat(2, axis=1)
    model = estimator(**SHORT).fit(X, np.sign(X.sum(1)))
    networks = [("robust", (20,)), ("periodic", (10,))]
    kinds = {(*network, str(prior)) for network, prior in itertools.product(networks, PRIORS)}
    # Those for classes are fewer, with a rectified one. One of radial units comes beside them, and one of normal
    # distributions, which need no iterations.
    of_classes = kinds - {(*network, "layer") for network in networks} | {("robust", (20,), "unit")}
    of_classes |= {("radial", (), "unit"), ("discriminant", (), "layer")}
    # One of numbers has radial units, in the place of one of the kinds that are there twice.
    of_numbers = kinds | {("radial", (), "layer")}
    assert members(model) == ((6, of_numbers) if estimator is GNRegressor else (5, of_classes))


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(
    ("parameters", "rectified"),
    [
        ({}, [(20,)]),
        ({"hidden_layer_sizes": (3,)}, [(3,)]),
        ({"hidden_layer_sizes": ()}, []),
        ({"activation": "tanh"}, []),
        ({"prior_groups": "layer"}, []),
        ({"standardize": "periodic"}, []),
        ({"standardize": False}, [(20,)]),
        ({"l2_regularization": 1e-2}, []),
        ({"network": torch.nn.Linear(2, 1)}, []),
    ],
    ids=str,
)
def test_rectified_members_of_a_classifier(parameters, rectified):
    # Both columns are of use, so that no more candidates are drawn.
    X = np.random.RandomState(0).standard_normal((60, 1)).repeat(2, axis=1)
    model = GNClassifier(**SHORT, **parameters).fit(X, X.sum(1) > 0)
    found = [m for m in model.estimators_ if getattr(m.network, "activation", None) == "relu"]
    assert [m.network.hidden_layer_sizes for m in found] == rectified
    assert all(m.prior_kind.unit for m in found)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(
    ("parameters", "n", "found"),
    [
        ({}, 200, [(20,), (20,)]),
        ({"hidden_layer_sizes": (3,)}, 60, [(3,), (3,)]),
        ({}, 201, []),
        ({"loss": "poisson"}, 60, []),
        ({"hidden_layer_sizes": ()}, 60, []),
        ({"activation": "tanh"}, 60, []),
        ({"prior_groups": "feature"}, 60, []),
        ({"standardize": "periodic"}, 60, []),
        ({"l2_regularization": 1e-2}, 60, []),
        ({"network": torch.nn.Linear(2, 1)}, 60, []),
    ],
    ids=str,
)
def test_members_of_a_regressor_on_few_rows_whose_units_do_not_saturate(parameters, n, found):
    X = np.random.RandomState(0).standard_normal((n, 2))
    model = GNRegressor(**SHORT, **parameters).fit(X, np.exp(np.round(X.sum(1))))
    others = [m for m in model.estimators_ if getattr(m.network, "activation", "tanh") != "tanh"]
    assert [m.network.hidden_layer_sizes for m in others] == found
    assert {(m.network.activation, str(m.prior_kind)) for m in others} <= {("gelu", "feature")}


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.filterwarnings("ignore:Failed. samples left out of training are predicted worse:UserWarning")
@pytest.mark.parametrize(("n", "d", "classes", "count"), [(2001, 2, 2, 4), (100, 2, 3, 4), (100, 40, 30, 3)])
def test_every_other_member_of_a_classifier_is_rectified(n, d, classes, count, monkeypatch):
    # A fit so short is behind a forest.
    monkeypatch.setattr("skgn.further.steps_of", lambda *given: [])
    X = np.random.RandomState(0).standard_normal((n, d))
    # Of labels that depend on all columns alike, no more candidates are drawn.
    y = X.sum(axis=1).argsort().argsort() * classes // n
    model = GNClassifier(**SHORT, hidden_layer_sizes=(2,)).fit(X, y)
    assert len(model.estimators_) == count
    assert sum(m.network.activation == "relu" for m in model.estimators_) == 2


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_warm_start_on_more_rows_goes_on_with_the_kind_of_few_rows():
    X = np.random.RandomState(0).standard_normal((201, 2))
    y = X.sum(1)
    model = GNRegressor(**SHORT, n_estimators=3, hidden_layer_sizes=(2,), warm_start=True).fit(X[:200], y[:200])
    assert "gelu" in {m.network.activation for m in model.estimators_}
    assert "gelu" in {m.network.activation for m in model.fit(X, y).estimators_}


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_warm_start_goes_on_with_as_many_members_where_no_rectified_one_was_kept():
    X = np.random.RandomState(0).standard_normal((300, 40))
    y = X[:, 0] + X[:, 1] ** 2 > 1
    model = GNClassifier(random_state=0, max_iter=15, warm_start=True).fit(X, y)
    assert len(model.estimators_) == 4 and "relu" not in {m.network.activation for m in model.estimators_}
    assert len(model.fit(X, y).estimators_) == 4


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_warm_start_goes_on_with_all_members_but_the_one_of_radial_units(monkeypatch):
    """Wherever this one stands among them: its units are made anew, as are normal distributions."""
    X = np.random.RandomState(0).standard_normal((60, 2))
    y = np.digitize(X.sum(axis=1), [-1, 1])
    model = GNClassifier(**SHORT, warm_start=True).fit(X, y)
    model.estimators_.sort(key=lambda member: member.scaling != "radial")
    radial, *others = [m.scaling for m in model.estimators_ if m.scaling != "discriminant"]
    assert radial == "radial" and len(others) == 4
    kept, of_members = [], Choices._kept
    monkeypatch.setattr(Choices, "_kept", lambda *args: kept.extend(of_members(*args)) or list(kept))
    model.fit(X, y)
    assert [start.scaling for start in kept] == others


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("estimator", [GNRegressor, GNClassifier])
def test_a_warm_start_goes_on_with_the_layers_of_other_numbers_of_rows(estimator, monkeypatch):
    # A fit so short is behind forests, which take most of its time.
    monkeypatch.setattr("skgn.search.FURTHER", [])
    X = np.random.RandomState(0).standard_normal((2100, 1))
    y = np.sign(np.sin(3 * X[:, 0]))
    models = {n: estimator(**SHORT, warm_start=True).fit(X[:n], y[:n]) for n in (500, 2100)}
    before = {n: {member.network for member in model.estimators_} for n, model in models.items()}
    for first, then in ((500, 2100), (2100, 500)):
        # A fit of so many rows draws others.
        assert before[first] - before[then]
        model = models[first].fit(X[:then], y[:then])
        assert any(member.network in before[first] for member in model.estimators_)


def test_a_warm_start_goes_on_with_the_wide_networks_of_steepest_units():
    random = np.random.RandomState(60)
    X = random.standard_normal((60, 2))
    y = X[:, 0] + np.sin(2 * X[:, 1]) + 3 * random.standard_normal(60)
    model = GNRegressor(random_state=1, warm_start=True).fit(X, y)
    assert (60,) in {member.network.hidden_layer_sizes for member in model.estimators_}
    assert (60,) in {member.network.hidden_layer_sizes for member in model.fit(X, y).estimators_}


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_warm_start_goes_on_where_a_feature_has_two_values_now():
    """It was refused, with a message that had the same network before and now."""
    rng = np.random.RandomState(0)
    X = np.c_[rng.randint(0, 3, 200), rng.standard_normal(200)]
    y = X.sum(axis=1) + 0.1 * rng.standard_normal(200)
    model = GNRegressor(random_state=0, max_iter=10, warm_start=True).fit(X, y)
    assert "periodic" in [member.scaling for member in model.estimators_]
    few = X[:, 0] < 2
    assert model.fit(X[few], y[few]).score(X[few], y[few]) > 0.9
    model.set_params(hidden_layer_sizes=(7,))
    with pytest.raises(ValueError, match=r"It was .*, now it is 7 tanh"):
        model.fit(X[few], y[few])


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_warm_start_goes_on_with_rectified_members():
    X = np.random.RandomState(0).standard_normal((60, 2))
    # Both columns are of use: no candidates of one of them come beside the members.
    y = X.sum(axis=1) > 0
    model = GNClassifier(**SHORT, warm_start=True).fit(X, y)
    before, after = members(model), members(model.fit(X, y))
    # Normal distributions are drawn where two iterations are behind them.
    assert all(len([kind for kind in kinds if kind[0] != "discriminant"]) == 4 for _, kinds in (before, after))
    assert before[1] ^ after[1] <= {("discriminant", (), "layer")}


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({}, 4),
        ({"l2_regularization": 1e-2}, 4),
        ({"n_estimators": 1}, 1),
        ({"n_estimators": 3, "hidden_layer_sizes": ()}, 3),
    ],
    ids=str,
)
def test_members_of_long_tables(parameters, expected):
    X = np.random.RandomState(0).standard_normal((2100, 2))
    model = GNRegressor(**{"hidden_layer_sizes": (2,)} | SHORT | parameters).fit(X, X[:, 0])
    assert len(model.estimators_) == expected


def test_streams_have_four_members():
    X = np.random.RandomState(0).standard_normal((60, 2))
    assert len(GNRegressor((2,), random_state=0).partial_fit(X, X[:, 0]).estimators_) == 4
