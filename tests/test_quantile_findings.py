"""What a report says of predicted quantiles, held against scikit-learn's losses and against faults that are known."""

import numpy as np
import pytest
from sklearn.linear_model import QuantileRegressor
from sklearn.metrics import d2_pinball_score, mean_pinball_loss
from sklearn.model_selection import KFold, cross_val_predict
from sklearn.preprocessing import scale

from skgn import GNRegressor, baselines, diagnose

LEVELS = [0.05, 0.5, 0.95]
ONE = {"loss": "quantile", "n_estimators": 1, "hidden_layer_sizes": (8,), "random_state": 0}


def louder(n, seed):
    """A wave whose noise grows with x0; x2 tells nothing."""
    rng = np.random.default_rng(seed)
    X = rng.uniform(-2, 2, (n, 3))
    return X, np.sin(2 * X[:, 0]) + X[:, 1] + np.exp(X[:, 0] / 1.2 - 0.7) * rng.normal(size=n)


X, y = louder(400, 0)
NEW, TARGET = louder(400, 1)


def report(model, y=TARGET, X=NEW, **options):
    return diagnose(model, X, y, verbose=False, **options)


@pytest.fixture
def without_simple_models(monkeypatch):
    """Reports are as of a large table, which linear and boosted quantiles are spared: they take most of the time."""
    monkeypatch.setattr(baselines, "_MOST_CELLS", 0)


@pytest.fixture(scope="module")
def three():
    return GNRegressor(**ONE, quantile=LEVELS).fit(X, y)


@pytest.mark.parametrize("several", [False, True], ids=["one output", "two outputs"])
def test_numbers_are_those_of_scikit_learn(several, without_simple_models):
    """Those of each quantile, of each output in turn."""
    targets, new = (np.column_stack([of, 100 + inputs[:, 2]]) for of, inputs in ((y, X), (TARGET, NEW)))
    if not several:
        targets, new = targets[:, 0], new[:, 0]
    model = GNRegressor(**ONE | {"hidden_layer_sizes": ()}, quantile=[0.1, 0.9])
    found = report(model.fit(X, targets), new)
    columns, predicted = new.reshape(len(new), -1), model.predict(NEW).reshape(len(new), 2, -1)
    each = [(q, j, predicted[:, i, j]) for i, q in enumerate((0.1, 0.9)) for j in range(columns.shape[1])]
    loss = [mean_pinball_loss(columns[:, j], f, alpha=q) for q, j, f in each]
    d2 = [d2_pinball_score(columns[:, j], f, alpha=q) for q, j, f in each]
    np.testing.assert_allclose(found["skill"].numbers["pinball_loss"], loss)
    np.testing.assert_allclose(found["skill"].numbers["y_std"], columns.std(axis=0))
    assert found["skill"].numbers["d2"] == pytest.approx(np.mean(d2), abs=0.002)  # of quantiles between two rows
    np.testing.assert_allclose(found["calibration"].numbers["below"], [np.mean(columns[:, j] <= f) for _, j, f in each])
    np.testing.assert_allclose(found["calibration"].numbers["levels"], [q for q, _, _ in each])


def test_a_good_fit_raises_no_alarm_where_the_noise_depends_on_x(three):
    """Means and sizes of residuals do, too: the advice was a wider network, and to look at outliers."""
    for model in (three, GNRegressor(**ONE, quantile=0.9).fit(X, y)):
        found = report(model)
        assert found["residuals"].verdict == "nothing found" and found["noise"].verdict == "as estimated"
        assert found["calibration"].verdict == "good"
        assert found["skill"].verdict.startswith("better than the quantile")
        assert found["outliers"].verdict == "as expected"
        assert found["baselines"].numbers["model"] > max(found["baselines"].numbers[m] for m in ("linear", "boosting"))


def test_what_a_line_lacks_is_found_in_the_signs(without_simple_models):
    line = GNRegressor(**ONE | {"hidden_layer_sizes": ()}, quantile=[0.1, 0.5]).fit(X, y)
    found = report(line)
    assert found["residuals"].numbers["depends_on"] == "x0" and "their sign depends on x0" in found["residuals"].text
    assert found.advice == ['hidden_layer_sizes="auto" and n_estimators="auto"']


@pytest.mark.parametrize(
    ("changed", "verdict"),
    [
        (lambda f, y: y + 0.7, "too low"),
        (lambda f, y: y - 0.7, "too high"),
        (lambda f, y: f + 2 * (y - f), "too narrow"),
        (lambda f, y: f + 0.4 * (y - f), "too wide"),
    ],
)
def test_quantiles_that_are_off_are_told_how(three, changed, verdict, without_simple_models):
    """Of other targets: moved, or of louder or quieter noise about the median."""
    finding = report(three, changed(three.predict(NEW)[:, 1], TARGET))["calibration"]
    assert finding.verdict == verdict and finding.text.endswith(f"of the rows: {verdict}")
    assert (finding.advice is None) == (verdict == "too wide")


def test_of_a_rare_event_twice_as_many_are_too_many(without_simple_models):
    model = GNRegressor(**ONE | {"hidden_layer_sizes": ()}, quantile=0.98).fit(
        X, X[:, 0] + np.random.default_rng(1).random(len(X))
    )
    rng = np.random.default_rng(0)
    for rate, verdict in ((0.02, "good"), (0.06, "too low")):
        above = rng.random(len(NEW)) < rate
        y = model.predict(NEW) + np.where(above, 0.1, -rng.random(len(NEW)))
        assert report(model, y)["calibration"].verdict == verdict


def test_weights_are_repetitions(three, without_simple_models):
    weight = np.random.default_rng(0).integers(0, 4, len(NEW))
    weighted, repeated = (
        report(three, sample_weight=weight),
        report(three, TARGET.repeat(weight), NEW.repeat(weight, 0)),
    )
    for topic in ("skill", "residuals", "noise", "calibration"):
        assert weighted[topic].text == repeated[topic].text


def test_linear_quantiles_are_those_of_scikit_learn(three):
    rows, target = NEW[:200], TARGET[:200]
    linear = []
    for q in LEVELS:
        lines = QuantileRegressor(quantile=q, alpha=0.01)
        f = cross_val_predict(lines, scale(rows), target / target.std(), cv=KFold(3, shuffle=True, random_state=0))
        linear.append(d2_pinball_score(target, f * target.std(), alpha=q))
    assert report(three, target, rows)["baselines"].numbers["linear"] == pytest.approx(np.mean(linear), abs=0.02)


def test_more_rows_help_where_the_loss_was_small_in_training(without_simple_models):
    rng = np.random.default_rng(0)
    few = rng.normal(size=(60, 10))
    model = GNRegressor(**ONE | {"l2_regularization": 1e-3, "hidden_layer_sizes": (20,)}, quantile=0.5)
    model.fit(few, few[:, 0] + rng.normal(size=60))
    new = rng.normal(size=(400, 10))
    found = report(model, new[:, 0] + rng.normal(size=400), new)
    assert found["noise"].verdict == "few rows" and found["noise"].numbers["ratio"] > 1.5


def test_a_constant_is_one(without_simple_models):
    model = GNRegressor(**ONE, quantile=[0.2, 0.8]).fit(X, np.ones(len(X)))
    found = report(model, np.ones(len(NEW)))
    assert {found[topic].verdict for topic in ("skill", "noise", "calibration")} == {"unknown"}


def test_y_of_another_shape_is_refused(three):
    with pytest.raises(ValueError, match=r"y has shape \(400, 3\); predictions for X are of a y of shape \(400,\)"):
        report(three, np.tile(TARGET[:, None], 3))


def test_a_row_that_makes_most_of_the_loss_is_named(three, without_simple_models):
    spoilt = TARGET.copy()
    spoilt[[7, 30]] = 1e6, -1e6
    found = report(three, spoilt)
    assert set(found["outliers"].numbers["rows"]) == {7, 30}
    assert found["outliers"].advice in found.advice
    # What else there is to say, it does not change.
    for topic in ("residuals", "noise", "calibration"):
        assert found[topic].verdict == report(three)[topic].verdict


def test_quantiles_may_be_equal_to_many_targets(without_simple_models):
    """As the quantile of 0.2 is 0 where half of the targets are, no fifth of them lies below."""
    zeros = (X[:, 0] > 0) * (y + 4)
    model = GNRegressor(**ONE, quantile=[0.2, 0.8]).fit(X, zeros)
    new = (NEW[:, 0] > 0) * (TARGET + 4)
    found = report(model, new)
    assert abs(np.mean(new <= model.predict(NEW)[:, 0]) - 0.2) > 0.05
    assert found["calibration"].verdict == "good"
