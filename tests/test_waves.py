"""Waves: where left-out residuals repeat along a feature, more networks read sines of it."""

import numpy as np
import pytest
from not_left_open import NOT_LEFT_OPEN
from scipy.signal import lombscargle
from scipy.special import expit
from scipy.stats import f
from sklearn.linear_model import LinearRegression, LogisticRegression

from skgn import GNClassifier, GNRegressor, summarize
from skgn.left_over import LeftOver
from skgn.preprocessing import InputScaler, TwoPathScaler
from skgn.waves import WAVES, WaveScaler, wave_scaler

FEW = {"hidden_layer_sizes": (5,), "n_estimators": 2, "tol": 1e-2, "random_state": 0}

#: Effects of seven days.
WEEK = np.array([0.0, 0.2, 0.1, 0.0, 0.5, 2.0, 1.5])


def data(n=400, noise=0.3, seed=0):
    """Twenty-five periods of 1 beside a line, and columns of noise."""
    random = np.random.RandomState(seed)
    X = np.column_stack([random.uniform(100, 125, n), random.standard_normal((n, 3))])
    return X, 2 * np.sin(2 * np.pi * X[:, 0]) + X[:, 1] + noise * random.standard_normal(n)


def weeks(n=400, seed=0):
    """Days and one more column, and what depends on the day of the week."""
    random = np.random.RandomState(seed)
    X = np.column_stack([np.arange(n), random.standard_normal(n)])
    return X, WEEK[np.arange(n) % 7] + X[:, 1] + 0.3 * random.standard_normal(n)


def read_waves(model):
    return [member for member in model.estimators_ if member.scaling == WAVES]


def lacking_of(X, values, weight=None):
    weight = np.ones(len(X)) if weight is None else weight
    return LeftOver.of_noise(values.reshape(len(X), -1), weight, np.arange(len(X)))


def found(X, lacking, paths=TwoPathScaler):
    """The scaling that is made for what is lacking."""
    base = paths.fit(X, np.ones(len(X)))
    return wave_scaler(base, base.transform(X), lacking)


def periods_of(X, values, weight=None):
    scaler = found(X, lacking_of(X, values, weight))
    return [] if scaler is None else scaler.periods


def test_a_wave_of_many_periods_is_found_beside_other_columns(capsys):
    X, y = data()
    new, clean = data(2000, 0.0, seed=1)
    model = GNRegressor(**FEW, verbose=1).fit(X, y)
    assert "left-out residuals repeat: 2 more candidates for 1 wave" in capsys.readouterr().out
    assert read_waves(model) and model.score(new, clean) > 0.98
    # What there is without it: the line alone has a third of the variance.
    assert GNRegressor(**FEW, standardize="robust").fit(X, y).score(new, clean) < 0.5
    assert model.feature_relevance_[:2].sum() > 0.99


def test_a_wave_may_depend_on_another_column():
    X, y = data()
    y = (y - X[:, 1]) * (1 + X[:, 2])
    new, clean = data(2000, 0.0, seed=1)
    clean = (clean - new[:, 1]) * (1 + new[:, 2])
    assert GNRegressor((10,), n_estimators=2, random_state=0).fit(X, y).score(new, clean) > 0.9


def test_days_of_the_week_go_on_after_the_last_one():
    X, y = weeks(500)
    model = GNRegressor(**FEW).fit(X[:400], y[:400])
    assert model.score(X[400:], y[400:]) > 0.85
    named = summarize(model).waves
    assert {name for name, _ in named} == {"x0"}
    np.testing.assert_allclose([period for _, period in named], [7, 7 / 2, 7 / 3], rtol=1e-2)
    assert "waves      x0 7" in str(summarize(model))


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_of_many_rows_there_is_one_more(capsys):
    GNRegressor(**FEW, verbose=1, max_iter=20).fit(*data(2001))
    assert "1 more candidate for 1 wave" in capsys.readouterr().out


def test_waves_of_labels_are_found():
    X, y = data(800)
    random = np.random.RandomState(0)
    new, logit = data(2000, 0.0, seed=1)
    labels, truth = (expit(2 * part) > random.uniform(size=len(part)) for part in (y, logit))
    model = GNClassifier(**FEW).fit(X, labels)
    assert read_waves(model)
    without = GNClassifier(**FEW, standardize="robust").fit(X, labels)
    assert model.score(new, truth) > without.score(new, truth) + 0.1


@pytest.mark.parametrize(
    "function",
    [lambda X: X[:, 0], lambda X: X[:, 1] * X[:, 2], lambda X: 0 * X[:, 0], lambda X: np.sin(X[:, 0] / 4)],
    ids=["line", "product", "none", "one period"],
)
def test_nothing_is_drawn_where_nothing_repeats(function, capsys):
    X, _ = data()
    GNRegressor(**FEW, verbose=1).fit(X, function(X) + np.random.RandomState(2).standard_normal(len(X)))
    assert "repeat" not in capsys.readouterr().out


@pytest.mark.parametrize("given", NOT_LEFT_OPEN, ids=str)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_nothing_is_drawn_where_the_choice_is_not_left_to_the_fit(given, capsys):
    X, y = data()
    GNRegressor(**FEW | given, max_iter=10, verbose=1).fit(X, np.round(np.exp(y / 2)))
    assert "repeat" not in capsys.readouterr().out


def test_the_peak_is_that_of_the_spectrum():
    """Oracle: SciPy's spectrum of unevenly spaced samples."""
    X, y = data()
    ((column, period),) = periods_of(X, y)
    frequencies = np.linspace(0.8, 1.2, 2001)
    power = lombscargle(X[:, 0], y - y.mean(), 2 * np.pi * frequencies)
    assert column == 0
    assert 1 / period == pytest.approx(frequencies[power.argmax()], abs=1e-3)


def test_the_test_is_that_of_a_linear_model():
    """Oracle: the F test of a sine and a cosine, by scikit-learn's least squares, for many frequencies."""
    X = data()[0][:, :1]
    random = np.random.RandomState(0)
    noise, chances = random.standard_normal(len(X)), []
    for size in np.linspace(0.1, 0.7, 7):
        y = size * np.sin(2 * np.pi * X[:, 0]) + noise
        periods = np.linspace(22, 27, 101)
        waves = [2 * np.pi * p * X / np.ptp(X) for p in periods]
        waves = [np.column_stack([np.sin(angle), np.cos(angle)]) for angle in waves]
        left = min(np.square(y - LinearRegression().fit(wave, y).predict(wave)).sum() for wave in waves)
        freedom = len(X) - 3
        statistic = (np.square(y - y.mean()).sum() - left) / 2 / (left / freedom)
        # Half as many periods as there are values, were these on a grid, and two places for each.
        chances.append(2 * len(X) * f.sf(statistic, 2, freedom))
        if not 0.5e-3 < chances[-1] < 2e-3:
            assert bool(periods_of(X, y)) == (chances[-1] < 1e-3)
    assert min(chances) < 1e-6 and max(chances) > 0.1


def test_labels_are_tested_by_their_score():
    """Oracle: likelihood ratios of scikit-learn's logistic regression, which are nearly the same near nothing."""
    X = data(2000)[0][:, :1]
    angle = 2 * np.pi * X
    wave, random = np.column_stack([np.sin(angle), np.cos(angle)]), np.random.RandomState(1)
    for size, is_found in ((0.0, False), (0.8, True)):
        y = (expit(size * wave[:, 0]) > random.uniform(size=len(X))).astype(float)
        p = np.full((len(X), 1), y.mean())
        scaler = found(X, LeftOver.of_labels(p, y[:, None], np.ones(len(X)), np.arange(len(X))))
        assert (scaler is not None) == is_found
        ratio = LogisticRegression(C=1e6).fit(wave, y).predict_log_proba(wave)[np.arange(len(X)), y.astype(int)].sum()
        gain = ratio - len(X) * (y.mean() * np.log(y.mean()) + (1 - y.mean()) * np.log(1 - y.mean()))
        assert (gain > 20) == is_found


def test_chance_finds_no_waves():
    """Of 300 draws of noise in four columns next to none has a wave."""
    random = np.random.RandomState(3)
    hits = sum(bool(periods_of(random.standard_normal((150, 4)), random.standard_normal(150))) for _ in range(300))
    assert hits <= 2


def test_a_week_is_a_sum_of_three_waves():
    X, y = weeks(1000)
    # Of days that are known here and there as well.
    for rows in (slice(None), np.sort(np.random.RandomState(0).choice(1000, 600, replace=False))):
        columns, periods = zip(*periods_of(X[rows], y[rows]), strict=True)
        assert set(columns) == {0}
        np.testing.assert_allclose(sorted(periods)[::-1], [7, 7 / 2, 7 / 3], rtol=1e-3)


def test_outputs_and_columns_may_repeat_each():
    X, y = data()
    X[:, 2] = np.random.RandomState(5).uniform(size=len(X))
    other = np.sin(2 * np.pi * 12 * X[:, 2]) + 0.3 * X[:, 3]
    for values in (np.column_stack([y, other]), np.column_stack([other, y])):
        periods = dict(periods_of(X, values))
        assert periods == {0: pytest.approx(1, rel=0.01), 2: pytest.approx(1 / 12, rel=0.01)}


def test_trends_and_few_values_are_no_waves():
    X, _ = data()
    x = X[:, 0]
    for trend in (x, np.square(x - 112), np.sin(2 * np.pi * x / 12)):
        assert periods_of(X, trend + 0.1 * X[:, 3]) == []
    hours = np.random.RandomState(0).randint(24, size=(400, 1))
    assert periods_of(hours, np.sin(2 * np.pi * hours / 4)) == []


@pytest.mark.parametrize("unit", [1e-300, 1e-12, 1e300])
def test_residuals_may_be_of_any_size(unit):
    X, y = data()
    assert periods_of(X, unit * y) == [(0, pytest.approx(1, rel=0.01))]
    assert periods_of(X, np.full(len(X), unit)) == []


def test_weights_are_those_of_repeated_rows():
    X, y = data(300)
    weight = np.random.RandomState(0).randint(1, 4, size=len(X)).astype(float)
    repeated = np.repeat(np.arange(len(X)), weight.astype(int))
    (one,), (other,) = periods_of(X, y, weight), periods_of(X[repeated], y[repeated])
    assert one == pytest.approx(other, rel=1e-4)
    # A repeated row tells no more than one of them.
    few, noise = X[:40], np.random.RandomState(1).standard_normal(40)
    assert periods_of(few, noise, np.full(40, 50.0)) == []


def test_networks_without_straight_columns_read_no_waves():
    X, y = data()
    assert found(X, lacking_of(X, y), paths=InputScaler) is None


def test_columns_are_those_of_the_other_scaling_and_waves():
    X, y = data()
    scaler = found(X, lacking_of(X, y))
    Z, base = scaler.transform(X), scaler.base.transform(X)
    assert Z.flags.c_contiguous and scaler.n_straight == 6
    waves = Z[:, 4:6]
    np.testing.assert_array_equal(Z, np.column_stack([base[:, :4], waves, base[:, 4:], waves]))
    np.testing.assert_array_equal(scaler.features, [0, 1, 2, 3, 0, 0] * 2)
    ((_, period),) = scaler.periods
    # They draw any phase of the wave.
    angle = 2 * np.pi * X[:, 0] / period
    for target in (np.sin(angle), np.cos(angle)):
        assert LinearRegression().fit(waves, target).score(waves, target) > 1 - 1e-9


def test_waves_stay_where_columns_change_their_units():
    X, y = data()
    scaler = found(X, lacking_of(X, y))
    other = TwoPathScaler.fit(1.5 * X[:200] - 40, np.ones(200))
    moved = scaler.of(other)
    assert moved.base is other
    np.testing.assert_allclose(moved.transform(X)[:, 4:6], scaler.transform(X)[:, 4:6], atol=1e-9)
    constant = X.copy()
    constant[:, 0] = 7
    assert np.isfinite(scaler.of(TwoPathScaler.fit(constant, np.ones(len(X)))).transform(X)).all()


def test_a_stream_goes_on_with_waves():
    X, y = data(600)
    model = GNRegressor(**FEW).fit(X[:400], y[:400])
    model.partial_fit(X[400:], y[400:])
    assert read_waves(model) and model.score(*data(seed=1)) > 0.9


def test_a_warm_start_draws_waves_anew():
    X, y = data()
    again = GNRegressor(**FEW, warm_start=True).fit(X, y).fit(X, y)
    assert read_waves(again) and again.score(*data(seed=1)) > 0.9


def test_what_is_as_small_as_tol_is_no_wave():
    X, y = data(noise=0.01)
    y = y + 20 * X[:, 1]
    assert read_waves(GNRegressor(**FEW).fit(X, y))
    assert not read_waves(GNRegressor(**FEW | {"tol": 0.2}).fit(X, y))


def test_a_damaged_scaling_is_found():
    model = GNRegressor(**FEW).fit(*data())
    scaler = model._table.scalings[WAVES]
    assert isinstance(scaler, WaveScaler)
    state = model.__getstate__()
    model._table.scalings[WAVES] = WaveScaler(
        scaler.base, scaler.columns[:-1], scaler.frequency[:-1], scaler.phase[:-1]
    )
    state["_table"] = model._table
    with pytest.raises(ValueError, match="waves"):
        GNRegressor().__setstate__(state)
