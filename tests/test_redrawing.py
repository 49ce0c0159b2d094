"""Which starts more candidates are drawn like."""

import re

import numpy as np
import pytest
from scipy.stats import cauchy

from skgn import GNClassifier, GNRegressor, further
from skgn.candidates import Kind, Level
from skgn.draws import draw_starts
from skgn.feedforward import FeedForward
from skgn.prior_groups import PriorKind
from skgn.redrawing import unlike_rectified, where_failed, where_nothing_is_found

SMOOTH = Level(1.0)
OTHER = Kind(("robust", FeedForward(3, 3, (20,))), SMOOTH, PriorKind("feature"))
RECTIFIED = Kind(("robust", FeedForward(3, 3, (20,), "relu")), SMOOTH, PriorKind("layer", unit=True))
STARTS = draw_starts([RECTIFIED, OTHER], 4, False, np.random.RandomState(0))


@pytest.mark.parametrize(("counted", "drawn"), [(0.0, True), (0.049, True), (0.051, False), (0.5, False)])
def test_more_of_the_others_are_drawn_where_rectified_members_hardly_count(counted, drawn):
    weights = np.array([counted, 0.5, 0.0, 0.5 - counted])
    like = unlike_rectified(STARTS, STARTS, weights, 2000)
    assert unlike_rectified(STARTS, STARTS, weights, 2001) is None
    assert (like is not None) == drawn
    if drawn:
        assert [start.prior_kind.unit for start in like.starts] == [False, False]
        assert like.failed.tolist() == [True, False, True, False]


def test_more_are_drawn_where_no_rectified_one_is_left():
    like = unlike_rectified(STARTS, STARTS[1::2], np.array([0.5, 0.5]), 300)
    assert [start.seed for start in like.starts] == [start.seed for start in STARTS[1::2]] and not like.failed.any()


@pytest.mark.parametrize(("skill", "drawn"), [(-0.2, True), (0.049, True), (0.051, False), (np.nan, False)])
def test_more_of_the_others_are_drawn_where_nothing_is_found(skill, drawn):
    like = where_nothing_is_found(STARTS, 3, skill)
    assert (like is not None) == drawn
    if drawn:
        assert [start.prior_kind.unit for start in like.starts] == [False, False]
        assert like.failed.tolist() == [False] * 3
    assert where_nothing_is_found(STARTS[::2], 3, skill) is None


@pytest.mark.parametrize(
    ("losses", "converged", "like", "failed"),
    [
        ([0.1, 0.2, 0.3, 0.4], True, None, None),
        ([0.01, 0.2, 0.3, 0.02], True, [0], [False, True, True, False]),
        ([0.4, 0.02, 0.9, 0.95], True, [1], [True, False, True, True]),
        ([0.95, 0.9, 0.99, 0.98], True, [0, 1, 2, 3], [False] * 4),
        ([0.95, 0.9, 0.99, 0.98], False, None, None),
        ([1e-7, 9e-4, 5e-4, 1e-5], True, None, None),
        ([1e-7, 1.1e-3, 2e-3, 1e-5], True, [0], [False, True, True, False]),
    ],
    ids=["all good", "two failed", "one good", "little found", "not yet converged", "all of it found", "not all of it"],
)
def test_where_members_have_failed_the_best_is_drawn_again_and_where_all_have_all(losses, converged, like, failed):
    found = where_failed(STARTS, STARTS, np.array(losses), 1.0, converged, 2000)
    assert (found is None) == (like is None)
    if like is not None:
        assert [start.seed for start in found.starts] == [STARTS[number].seed for number in like]
        assert found.failed.tolist() == failed


def test_of_many_rows_failed_members_are_drawn_again_but_not_where_all_have_found_little():
    little, failed = np.array([0.95, 0.9, 0.99, 0.98]), np.array([0.01, 0.2, 0.3, 0.02])
    assert where_failed(STARTS, STARTS, little, 1.0, True, 2001) is None
    assert where_failed(STARTS, STARTS, failed, 1.0, True, 2001) is not None
    # A single network has seen fewer starts.
    assert where_failed(STARTS, STARTS[:1], little[:1], 1.0, True, 2001) is not None


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_rings_of_four_classes_have_more_smooth_members(capsys):
    """Units that bend once find rings late, so that smooth and periodic ones take their place."""
    rng = np.random.default_rng(1)
    X = rng.standard_normal((390, 2))
    wave = np.sin(3 * np.hypot(*X.T))
    y = np.digitize(wave, np.quantile(wave, [0.25, 0.5, 0.75]))
    model = GNClassifier(tol=1e-2, random_state=0, verbose=1).fit(X, y)
    assert re.search(r"members hardly count: 3 more candidates of steeper units", capsys.readouterr().out)
    others = [member for member in model.estimators_ if member.scaling != "radial"]
    assert len(others) == 4
    assert sum(member.prior_kind.unit for member in others) < 2


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("seed", [0, 3])
def test_the_parity_of_integers_is_found(seed, capsys):
    """It is noise to smooth networks: without weak priors, and more candidates, half of the labels are wrong."""
    rng = np.random.default_rng(seed)
    X = rng.integers(0, 10, (1200, 2)).astype(float)
    y = X.sum(axis=1) % 2
    model = GNClassifier(tol=1e-2, random_state=seed, verbose=1).fit(X[:800], y[:800])
    assert "little is found: 2 more candidates of steeper units" in capsys.readouterr().out
    assert model.score(X[800:], y[800:]) > 0.95


def test_few_columns_of_use_are_found_among_many_for_classes():
    """The networks of these columns begin with a weak prior, as those of a regression do with little noise."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((2300, 100))
    y = X[:, 0] + X[:, 1] ** 2 - 1 + 0.3 * rng.standard_normal(2300) > 0
    model = GNClassifier(random_state=0).fit(X[:300], y[:300])
    assert model.score(X[300:], y[300:]) > 0.9


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning", "ignore::UserWarning")
@pytest.mark.parametrize("loss", ["squared_error", "cauchy", "quantile"])
def test_losses_are_compared_with_that_of_a_constant_under_the_same_noise_level(loss, monkeypatch):
    seen, of_losses, decide = [], further.left_out_losses, further.where_failed
    monkeypatch.setattr(further, "left_out_losses", lambda samples: seen.append(samples) or of_losses(samples))
    monkeypatch.setattr(further, "where_failed", lambda *given: seen.append((given, decide(*given))) or seen[-1][1])
    rng = np.random.RandomState(0)
    X, noise = rng.normal(size=(150, 3)), rng.normal(size=150)
    # A squared error has two outputs, one of little noise; of the others there is noise alone.
    y = (
        np.column_stack([X[:, 0] + 0.01 * noise, X[:, 1] + 3 * rng.normal(size=150)])
        if loss == "squared_error"
        else noise
    )
    GNRegressor(loss=loss, n_estimators=2, noise="constant", max_iter=40, random_state=0).fit(X, y)
    samples, ((_, _, losses, of_constant, converged, _), like) = seen[:2]
    Y, beta = samples.objective.Y.double().numpy(), samples.loss.precision.numpy()
    if loss == "squared_error":
        assert beta[0] > 1e3 * beta[1]
        assert of_constant == pytest.approx((beta * Y**2).sum(1).mean() / 2)
    else:
        assert 0.9 < losses.min() / of_constant < 1.2
        assert like is not None or not converged
    if loss == "cauchy":
        scaled = np.sqrt(beta) * Y
        assert of_constant == pytest.approx((cauchy.logpdf(0) - cauchy.logpdf(scaled)).mean() / beta.item())


@pytest.mark.parametrize("target", ["constant", "column"])
def test_rounding_errors_are_no_reason_to_draw(target, capsys):
    """Of a target that a line tells exactly, only the networks of the start are trained, and the noise is constant."""
    X = np.random.default_rng(0).normal(size=(2500, 5))
    y = {"constant": np.full(2500, 1.3), "column": X[:, 0]}[target]
    model = GNRegressor(random_state=0, verbose=1).fit(X, y)
    shown = capsys.readouterr().out
    assert "more candidate" not in shown and model.noise_ == "constant"
    np.testing.assert_allclose(model.predict(X), y, atol=1e-5)
