"""What a fit chooses among."""

import itertools
from collections import Counter

import numpy as np
import pytest

from skgn.candidates import draw_starts, layer_choices
from skgn.feedforward import FeedForward

FEATURE, LAYER, UNIT = "feature", "layer", "unit"


def starts(networks, priors, noise, n_members=1):
    pairs = [(name, FeedForward(3, 1, sizes)) for name, sizes in networks]
    return draw_starts(pairs, priors, noise, n_members, np.random.RandomState(0))


def choices(found):
    return [(s.inputs, s.network.hidden_layer_sizes, s.prior, s.noise_precision) for s in found]


SIX = [(name, sizes) for name in ("robust", "rank", "periodic") for sizes in ((20,), (10, 10))]


def test_half_of_the_combinations_contain_every_pair_of_choices_equally_often():
    found = choices(starts(SIX, (FEATURE, LAYER), (1.0, 30.0)))
    assert len(found) == len(set(found)) == 12
    for i, j in itertools.combinations(range(4), 2):
        pairs = Counter((choice[i], choice[j]) for choice in found)
        levels = len({a for a, _ in pairs}) * len({b for _, b in pairs})
        assert len(pairs) == levels and set(pairs.values()) == {12 // levels}


def test_a_single_open_choice_is_not_halved():
    assert [s.prior for s in starts([("robust", (20,))], (FEATURE, LAYER, UNIT), (None,))] == [FEATURE, LAYER, UNIT]
    assert [s.noise_precision for s in starts([("robust", (20,))], (FEATURE,), (1.0, 30.0))] == [1.0, 30.0]
    assert len(starts(SIX[:2], (FEATURE,), (None,))) == 2


@pytest.mark.parametrize("n_members", [1, 4, 7])
def test_no_choice_at_all_gives_as_many_seeds_as_members(n_members):
    found = starts([("robust", (20,))], (0.1,), (None,), n_members)
    assert len(found) == len({s.weights.tobytes() for s in found}) == n_members


@pytest.mark.parametrize("n_members", [1, 4, 20])
def test_there_are_twice_as_many_candidates_as_members(n_members):
    found = starts(SIX, (FEATURE, LAYER), (1.0, 30.0), n_members)
    assert len(found) >= 2 * n_members
    assert len({s.weights.tobytes() for s in found}) == 2 * len(found) // 12  # one layer and two, for each seed


@pytest.mark.parametrize(
    ("n_inputs", "n_outputs", "n_observations", "given", "expected"),
    [
        ({"robust": 8}, 1, 100, None, [("robust", (20,)), ("robust", (10, 10))]),
        ({"robust": 8}, 1, 1e5, None, [("robust", (16, 16))]),
        ({"robust": 8}, 1, 1e5, (5,), [("robust", (5,))]),
        ({"robust": 8}, 1, 1e5, (), [("robust", ())]),
        # One layer of 20 has more than 1,000 weights; two of 10 have not.
        ({"robust": 60}, 1, 100, None, [("robust", (10, 10))]),
        # All have more, and the smallest stays.
        ({"robust": 300}, 1, 100, None, [("robust", (10, 10))]),
        ({"robust": 8, "periodic": 24}, 1, 1e5, (9,), [("robust", (9,)), ("periodic", (9,))]),
        ({"robust": 8, "periodic": 24}, 1, 1e5, (90,), [("robust", (90,))]),
        ({"rank": 8, "periodic": 24}, 1, 1e5, None, [("rank", (16, 16)), ("periodic", (12, 12))]),
        # Observations for the weights of the former, not of the latter.
        ({"rank": 8, "periodic": 24}, 1, 3700, None, [("rank", (16, 16)), ("periodic", (10,)), ("periodic", (10, 10))]),
        ({"robust": 100, "periodic": 300}, 1, 100, None, [("robust", (10, 10))]),
        ({"periodic": 300}, 1, 100, None, [("periodic", (10,))]),
        # Most of the columns have two values only; with periodic inputs too where these are few weights.
        ({"robust": 200, "periodic": 240}, 1, 1e5, None, [("robust", (5,))]),
        ({"robust": 100, "periodic": 110}, 2, 100, None, [("robust", (5,)), ("periodic", (5,))]),
        ({"robust": 200, "periodic": 240}, 5, 1e5, None, [("robust", (5,))]),
        ({"robust": 100, "periodic": 152}, 1, 100, None, [("robust", (10, 10))]),
        ({"robust": 100, "periodic": 110}, 6, 100, None, [("robust", (10, 10))]),
        (
            {"robust": 60, "periodic": 62},
            1,
            100,
            None,
            [("robust", (10, 10)), ("periodic", (10,)), ("periodic", (10, 10))],
        ),
    ],
)
def test_hidden_layers_of_auto(n_inputs, n_outputs, n_observations, given, expected):
    assert layer_choices(n_inputs, n_outputs, n_observations, given) == expected
