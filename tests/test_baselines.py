"""What diagnose says of a fit that has missed something, beside simple models and member by member."""

import copy
import warnings

import numpy as np
import pytest
from sklearn import config_context
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import log_loss, r2_score
from sklearn.model_selection import cross_val_predict

from skgn import GNClassifier, GNRegressor, diagnose

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:Failed. samples left out:UserWarning"),
]

ONE = {"n_estimators": 1, "tol": 1e-2, "random_state": 0}


def quiet(model, X, y, **options):
    return diagnose(model, X, y, verbose=False, **options)


def parabola(n=600):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, 40))
    return X, X[:, 0] + X[:, 1] ** 2 + 0.1 * rng.normal(size=n)


def sine(n=100):
    rng = np.random.default_rng(0)
    x = np.linspace(-3, 3, 100)[:, None]
    new = rng.uniform(-3, 3, (n, 1))
    noise = 0.1 * rng.normal(size=100 + n)
    X = np.vstack([x, new])
    return X, np.sin(6 * X[:, 0]) + noise


# --- Cases in which the report said nothing, or the wrong thing


@pytest.mark.parametrize("options", [{"hidden_layer_sizes": np.array([], dtype=int)}, {"max_iter": 5, **ONE}])
def test_curvature_in_one_of_many_columns_is_no_matter_of_outliers(options):
    X, y = parabola()
    report = quiet(GNRegressor(**{"tol": 1e-2, "random_state": 0, **options}).fit(X[:300], y[:300]), X[300:], y[300:])
    assert report["residuals"].verdict == "depend" and report["residuals"].numbers["depends_on"] == "x1"
    # Cut short, a network is as wide as its left-out residuals, and nothing is far out.
    assert report["outliers"].verdict == ("poor fit" if "hidden_layer_sizes" in options else "as expected")
    assert not any("student_t" in advice or "row" in advice for advice in report.advice)
    freed = 'hidden_layer_sizes="auto"' if "hidden_layer_sizes" in options else 'n_estimators="auto"'
    assert freed in report.advice


def test_curvature_that_is_found_raises_no_alarm():
    X, y = parabola()
    report = quiet(GNRegressor(n_estimators=1, random_state=0).fit(X[:300], y[:300]), X[300:], y[300:])
    assert report.advice == [] and report["residuals"].verdict == "nothing found"


@pytest.mark.parametrize("options", [{"max_iter": 5}, {"hidden_layer_sizes": (3,)}])
def test_a_sine_that_was_missed_is_there_to_be_found(options):
    X, y = sine()
    report = quiet(GNRegressor(**ONE, **options).fit(X[:100], y[:100]), X[100:], y[100:])
    assert report["skill"].numbers["r2"] < 0.2
    assert report["baselines"].verdict == "worse than boosting"
    # The slope of x tells nothing of it, nor does its cube.
    assert report["baselines"].numbers["ridge"] < 0.1 < 0.5 < report["baselines"].numbers["boosting"]
    assert any('n_estimators="auto"' in advice for advice in report.advice)
    assert not any(word in advice for advice in report.advice for word in ("belong", "drift", "other features"))


@pytest.mark.parametrize("options", [{}, {"standardize": "periodic"}])
def test_a_sine_that_is_found_in_part_is_seen_in_what_is_left_over(options):
    X, y = sine()
    model = GNRegressor((4,) if options else (10,), **ONE, **options).fit(X[:100], y[:100])
    report = quiet(model, X[100:], y[100:])
    finding = report["residuals"]
    residual = y[100:] - model.predict(X[100:])
    assert model.score(X[100:], y[100:]) < 0.9 and residual.std() > 0.2
    assert finding.verdict == "depend" and 0.1 < finding.numbers["share"] < 1 - 0.1**2 / residual.var()
    assert finding.advice.startswith('hidden_layer_sizes="auto" and n_estimators="auto"')
    assert report.advice == [finding.advice]


@pytest.mark.parametrize("seed", [0, 2])
def test_a_network_that_has_collapsed_does_not_throw_doubt_on_the_rows(seed):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(200, 10))
    y = np.sin(3 * X[:, 0]) * X[:, 1] + 0.1 * rng.normal(size=200)
    model = GNRegressor((5,), n_estimators=1, random_state=seed).fit(X[:150], y[:150])
    assert model.left_out_score_ < 0.1
    report = quiet(model, X[150:], y[150:])
    assert report["skill"].verdict == "no better than the mean"
    assert "belong" not in " ".join(report.advice) and 'n_estimators="auto"' in report["skill"].advice


@pytest.mark.parametrize("n_estimators", [2, 1])
def test_noise_that_depends_on_x_is_no_matter_of_outliers(n_estimators):
    rng = np.random.default_rng(0)
    X = rng.uniform(-2, 2, (600, 3))
    y = np.sin(2 * X[:, 0]) + np.where(X[:, 1] > 1.5, 3, 0.1) * rng.normal(size=600)
    model = GNRegressor(**ONE | {"n_estimators": n_estimators}, noise="constant").fit(X[:300], y[:300])
    report = quiet(model, X[300:], y[300:])
    assert report["noise"].numbers["varies_with"] == "x1"
    assert report["outliers"].verdict in ("louder noise", "as expected")
    # Intervals have the tails of the louder rows, and are wide between the quiet ones.
    assert abs(report["calibration"].numbers["coverage_90"] - 0.9) < 0.04 and 'noise="input"' in report.advice
    assert not any("student_t" in advice for advice in report.advice)


@pytest.mark.parametrize("degrees", [2, 50])
def test_heavy_tails_in_which_all_drowns_ask_for_a_robust_loss(degrees):
    rng = np.random.default_rng(5205)
    X = rng.normal(size=(500, 6))
    y = np.sin(2 * X[:, 0]) + 0.5 * X[:, 1] + 2 * rng.standard_t(degrees, size=500)
    model = GNRegressor(tol=1e-2, random_state=0).fit(X[:200], y[:200])
    report = quiet(model, X[200:], y[200:])
    # The fit knows its tails: nothing is left to an if.
    assert ("student_t" in f"{report['skill'].advice}") == (degrees == 2)
    assert ("as the training data have such" in f"{report['outliers'].advice}") == (degrees == 2)
    assert degrees != 2 or not any("wider" in advice for advice in report.advice)


# --- Where the rows are to blame


def test_rows_that_do_not_belong_together_are_told_from_another_relation():
    rng = np.random.default_rng(1)
    X = rng.normal(size=(600, 3))
    y = X[:, 0] + np.sin(2 * X[:, 1]) + 0.1 * rng.normal(size=600)
    model = GNRegressor(**ONE).fit(X[:300], y[:300])
    shuffled = quiet(model, X[300:], rng.permutation(y[300:]))
    assert "belong together" in shuffled["skill"].advice
    other = quiet(model, X[300:], -y[300:])
    assert "drift" in other["skill"].advice and "belong" not in other["skill"].advice


def test_rows_that_keep_no_promise_are_not_put_down_to_the_network():
    rng = np.random.default_rng(3)
    X = rng.normal(size=(500, 3))
    y = np.sin(2 * X[:, 0]) + X[:, 1] * X[:, 2] + 0.3 * rng.normal(size=500)
    model = GNRegressor(n_estimators=2, tol=1e-2, random_state=0).fit(X[:200], y[:200])
    for factor in (1, 2, 1000):
        report = quiet(model, X[200:], factor * y[200:])  # in another unit than the training rows
        found = "a drift" in " ".join(report.advice)
        assert found == (factor > 1) and not any("layer" in advice for advice in report.advice)
        if factor == 2:
            assert report["skill"].verdict == "less than promised"
            assert f"promised {model.left_out_score_:.2f}" in report["skill"].text


@pytest.mark.parametrize(("options", "seed"), [(ONE | {"n_estimators": 2}, 0), (ONE, 1)], ids=["members", "one"])
def test_other_groups_ask_for_a_look_at_the_rows_and_nothing_else(options, seed):
    """A left-out row is predicted by the other rows of its group; rows of other groups are not."""
    rng = np.random.default_rng(seed)
    group, measured = np.repeat(np.arange(40), 8), rng.normal(size=(40, 4))
    X = measured[group] + 0.02 * rng.normal(size=(320, 4))
    y = np.sin(measured[group, 0]) + rng.normal(size=40)[group] + 0.3 * rng.normal(size=320)
    model = GNRegressor(**options).fit(X[:200], y[:200])
    report = quiet(model, X[200:], y[200:])
    assert model.left_out_score_ > 0.85 and model.score(X[200:], y[200:]) < 0
    assert f"promised {model.left_out_score_:.2f}" in report["skill"].text
    assert [advice.split(":")[0] for advice in report.advice] == ["compare the rows of X, y with the training rows"]
    assert report["noise"].verdict == "overfitted or shifted"


def test_simple_models_that_know_the_new_groups_do_not_blame_the_fit():
    """Baselines learn from other rows of the groups that they predict, and find as much as was promised."""
    rng = np.random.default_rng(0)
    group, measured = np.repeat(np.arange(60), 6), rng.normal(size=(60, 4))
    X = measured[group] + 0.1 * rng.normal(size=(360, 4))
    y = np.sin(measured[group, 0]) + measured[group, 1] + 0.7 * rng.normal(size=60)[group] + 0.3 * rng.normal(size=360)
    model = GNRegressor(**ONE).fit(X[:240], y[:240])
    report = quiet(model, X[240:], y[240:])
    numbers = report["baselines"].numbers
    assert model.score(X[240:], y[240:]) < 0.5 < model.left_out_score_ < numbers["boosting"]
    assert report["skill"].verdict == "less than promised"
    assert [advice.split(":")[0] for advice in report.advice] == ["compare the rows of X, y with the training rows"]


def test_weights_that_rows_of_groups_determine_ask_for_no_wider_network():
    """R2 of other groups was 0.40, 0.25 and 0.31 with the network that was advised, and 0.37, 0.32 and 0.37 without."""
    rng = np.random.default_rng(0)
    group, measured = np.repeat(np.arange(200), 10), rng.normal(size=(200, 4))
    X = measured[group]
    y = np.sin(2 * X[:, 0]) + X[:, 1] * X[:, 2] + 0.7 * rng.normal(size=200)[group] + 0.3 * rng.normal(size=2000)
    model = GNRegressor((6,), n_estimators=1, tol=1e-2, random_state=0).fit(X[:1000], y[:1000])
    report = quiet(model, X[1000:], y[1000:])
    assert report["effective"].verdict == "saturated"
    assert [advice.split(":")[0] for advice in report.advice] == ["compare the rows of X, y with the training rows"]


def test_labels_that_keep_no_promise_are_not_put_down_to_the_network():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(600, 3))
    y = X[:, 0] + X[:, 1] ** 2 + 0.2 * rng.normal(size=600) > 1
    model = GNClassifier(n_estimators=2, tol=1e-2, random_state=0).fit(X[:300], y[:300])
    flipped = np.where(rng.random(300) < 0.15, ~y[300:], y[300:])
    for labels, verdict in ((y[300:], "good"), (flipped, "overconfident")):
        report = quiet(model, X[300:], labels)
        assert report["calibration"].verdict == verdict
        assert ("a drift" in " ".join(report.advice)) == (labels is flipped)
        assert not any("layer" in advice for advice in report.advice)


def test_a_float_l2_is_too_large_or_too_small():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 4))
    y, loud = (np.sin(X[:, 0]) + noise * rng.normal(size=300) for noise in (0.1, 2.0))
    large = quiet(GNRegressor((50,), **ONE, l2_regularization=100.0).fit(X[:100], y[:100]), X[100:], y[100:])
    assert any(advice.startswith('l2_regularization="evidence" and') for advice in large.advice)
    small = quiet(GNRegressor((50,), **ONE, l2_regularization=1e-9).fit(X[:100], loud[:100]), X[100:], loud[100:])
    assert small["skill"].verdict == "no better than the mean" and "a float above 1e-09" in small["skill"].advice
    assert not any("above" in advice for advice in large.advice)


# --- Baselines


def test_baselines_are_near_those_of_scikit_learn():
    X, y = parabola()
    model = GNRegressor(()).fit(X[:300], y[:300])
    numbers = quiet(model, X[300:], y[300:])["baselines"].numbers
    assert numbers["model"] == pytest.approx(r2_score(y[300:], model.predict(X[300:])))
    for name, other in (("ridge", Ridge(20)), ("boosting", HistGradientBoostingRegressor(min_samples_leaf=5))):
        expected = r2_score(y[300:], cross_val_predict(other, X[300:], y[300:], cv=3))
        assert numbers[name] == pytest.approx(expected, abs=0.1)


@pytest.mark.parametrize("estimator", [GNRegressor, GNClassifier])
def test_baselines_are_the_same_where_metadata_are_routed(estimator):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(120, 2))
    model = estimator(**ONE, max_iter=5).fit(X, X[:, 0] if estimator is GNRegressor else X[:, 0] > 0)
    y = model.predict(X)
    with config_context(enable_metadata_routing=True):
        routed = str(quiet(model, X, y))
    assert routed == str(quiet(model, X, y)) and "boosting" in routed


@pytest.mark.parametrize("n_classes", [2, 3])
def test_so_are_those_of_classes(n_classes):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(700, 4))
    score = 3 * X[:, 0] * X[:, 1] + 0.5 * X[:, 2] + 0.5 * rng.normal(size=700)
    y = np.array(["a", "b", "c"])[np.digitize(score, [0.0] if n_classes == 2 else [-1.0, 1.0])]
    model = GNClassifier((), random_state=0).fit(X[:400], y[:400])
    report = quiet(model, X[400:], y[400:])
    numbers, base = (
        report["baselines"].numbers,
        log_loss(y[400:], np.tile(np.unique(y[400:], return_counts=True)[1] / 300, (300, 1))),
    )
    assert numbers["model"] == pytest.approx(1 - log_loss(y[400:], model.predict_proba(X[400:])) / base)
    others = {
        "logistic regression": LogisticRegression(),
        "boosting": HistGradientBoostingClassifier(min_samples_leaf=5, max_iter=40, max_leaf_nodes=15),
    }
    for name, other in others.items():
        p = cross_val_predict(other, X[400:], y[400:], cv=3, method="predict_proba")
        assert numbers[name] == pytest.approx(1 - log_loss(y[400:], p) / base, abs=0.1)
    assert report["baselines"].verdict == "worse than boosting" and 'hidden_layer_sizes="auto"' in report.advice
    bent = quiet(GNClassifier(**ONE).fit(X[:400], y[:400]), X[400:], y[400:])
    assert bent["baselines"].verdict == "no worse"


def test_a_fit_that_is_no_better_than_linear_says_so():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(500, 4))
    y = X @ [1.0, 0.5, 0.0, 0.0] + rng.normal(size=500)
    finding = quiet(GNRegressor(**ONE).fit(X[:250], y[:250]), X[250:], y[250:])["baselines"]
    assert finding.verdict == "like linear" and finding.advice is None
    assert "hidden_layer_sizes=() is simpler" in finding.text
    straight = quiet(GNRegressor((), **ONE).fit(X[:250], y[:250]), X[250:], y[250:])["baselines"]
    assert straight.verdict == "like linear" and "simpler" not in straight.text


UNKNOWN = {
    "few rows": (GNRegressor(**ONE), lambda X: X[:, 0], 40, "too few rows"),
    "a constant": (GNRegressor(**ONE), lambda X: np.ones(len(X)), 80, "nothing simple"),
    "labels": (GNClassifier((2,), **ONE), lambda X: (X > 0).astype(int), 80, "nothing simple"),
    "a single label": (GNClassifier((2,), **ONE), lambda X: np.zeros(len(X)), 80, "nothing simple"),
}


@pytest.mark.parametrize("case", UNKNOWN)
def test_where_nothing_is_to_be_compared_the_line_says_why(case):
    model, target, n, why = UNKNOWN[case]
    X = np.random.default_rng(0).normal(size=(n, 2))
    finding = quiet(model.fit(X, target(X)), X, target(X))["baselines"]
    assert finding.verdict == "unknown" and why in finding.text and finding.advice is None


def test_tables_of_any_kind_can_be_compared():
    """Several targets, categories, missing cells, weights, columns of any size, and more rows than are compared."""
    pd = pytest.importorskip("pandas")
    rng = np.random.default_rng(0)
    n = 2500
    X = pd.DataFrame(
        {"town": rng.choice(list("abc"), n), "size": 1e200 * rng.normal(size=n), "few": rng.normal(size=n)}
    )
    X.loc[::7, "few"] = np.nan
    y = (X["town"] == "a") + X["size"] / 1e200
    Y = np.column_stack([y, -2 * y]) + 0.1 * rng.normal(size=(n, 2))
    model = GNRegressor((4,), **ONE, max_iter=10).fit(X[:300], Y[:300])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        finding = quiet(model, X, Y, sample_weight=rng.integers(0, 3, n))["baselines"]
    # Boosting learns one target.
    assert finding.numbers.keys() == {"model", "ridge"} and finding.numbers["ridge"] > 0.9


# --- Members


@pytest.mark.usefixtures("without_boosting")
def test_members_are_measured_alone_and_together():
    X, y = sine()
    model = GNRegressor((8,), n_estimators=4, random_state=0, max_iter=20).fit(X[:100], y[:100])
    finding = quiet(model, X[100:], y[100:])["members"]
    numbers, test = finding.numbers, (X[100:], y[100:])
    alone = []
    for member in model.estimators_:
        single = copy.copy(model)
        single.estimators_, single.weights_ = [member], np.ones(1)
        alone.append(single.score(*test))
    voting = model.weights_ > 0
    assert numbers["count"] == voting.sum()
    assert numbers["best"] == pytest.approx(np.max(np.array(alone)[voting]))
    assert numbers["worst"] == pytest.approx(np.min(np.array(alone)[voting]))
    mean = np.average(np.array(alone), weights=model.weights_)
    assert numbers["share"] == pytest.approx(max(0, 1 - (1 - model.score(*test)) / (1 - mean)))


@pytest.mark.usefixtures("without_boosting")
@pytest.mark.parametrize("estimator", [GNRegressor, GNClassifier])
def test_members_that_disagree_ask_for_more_of_them(estimator):
    """Each member has learned noise of its own."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, 5))
    f = np.sin(2 * X[:, 0]) + X[:, 1]

    def target(rows, noise):
        y = f[rows] + noise * rng.normal(size=len(f[rows]))
        return y if estimator is GNRegressor else (y > 0).astype(int)

    train, test = slice(80), slice(80, None)
    free = [estimator((20,), **ONE, l2_regularization=1e-4).fit(X[train], target(train, 1.5)) for _ in range(4)]
    model = free[0]
    model.estimators_, model.weights_ = [each.estimators_[0] for each in free], np.full(4, 0.25)
    finding = quiet(model, X[test], target(test, 0))["members"]
    assert finding.verdict == "disagree" and "n_estimators=8" in finding.advice
    same = estimator((), l2_regularization=1e-2, n_estimators=3, random_state=0).fit(X[train], target(train, 0.1))
    assert quiet(same, X[test], target(test, 0.1))["members"].verdict == "agree"
    single = estimator((), **ONE).fit(X[train], target(train, 0.1))
    assert quiet(single, X[test], target(test, 0.1))["members"].verdict == "single"


def test_rows_of_another_relation_ask_for_no_other_network():
    """Boosting learns what holds here; the fit has found as much of what held in training."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(900, 3))
    y = np.sin(2 * X[:, 0]) + X[:, 1] + 0.2 * rng.normal(size=900)
    model = GNRegressor(**ONE).fit(X[:400], y[:400])
    for moved in (1.0, X[400:, 2]):
        report = quiet(model, X[400:], y[400:] + moved)
        assert report["baselines"].verdict.startswith("worse than") and "a drift" in report["baselines"].advice
        assert report.advice and all(advice.startswith("compare the rows of X, y") for advice in report.advice)
    assert report["residuals"].text.endswith("another relation holds here")
    # A network that lacks the wave has found less in training than boosting finds here.
    line = GNRegressor((), n_estimators=1, random_state=0).fit(X[:400], y[:400])
    assert "hidden_layer_sizes" in quiet(line, X[400:], y[400:])["baselines"].advice


def test_a_linear_model_is_advised_with_the_evidence_where_l2_is_given():
    """Of classes that are separable, a linear model without a penalty has weights without end."""
    rng = np.random.default_rng(3)
    X = rng.normal(size=(1400, 4))
    y = (X[:, 0] + X[:, 1] > 0).astype(int)
    free = GNClassifier((8,), l2_regularization=0.0, n_estimators=1, random_state=0).fit(X[:200], y[:200])
    advice = quiet(free, X[200:700], y[200:700])["baselines"].advice
    assert advice == 'hidden_layer_sizes=() and l2_regularization="evidence", a linear model'
    loss = {
        l2: log_loss(
            y[700:], GNClassifier((), n_estimators=1, l2_regularization=l2).fit(X[:200], y[:200]).predict_proba(X[700:])
        )
        for l2 in (0.0, "evidence")
    }
    assert loss["evidence"] < 0.2 * loss[0.0]


def codes(n=1500):
    """Three columns of codes, with an effect of each code, and two columns of other numbers."""
    rng = np.random.default_rng(0)
    code, effect = rng.integers(0, 30, (n, 3)), rng.normal(size=(3, 30))
    X = np.column_stack([code, rng.normal(size=(n, 2))])
    return X, effect[np.arange(3), code].sum(1) + 0.3 * X[:, 3], rng


CODES = "x0, x1, x2 as categories (categorical_features), if the numbers are codes"


def test_numbers_that_are_codes_are_found_and_the_advice_helps():
    X, y, rng = codes()
    y = y + 0.2 * rng.normal(size=len(y))
    model = GNRegressor(**ONE, categorical_features=None).fit(X[:1000], y[:1000])
    report = quiet(model, X[1000:], y[1000:])
    assert report["residuals"].advice == CODES == report["baselines"].advice
    assert report["residuals"].text == "their mean jumps between the numbers of x0, x1, x2: the fit lacks that"
    advised = GNRegressor(**ONE, categorical_features=[0, 1, 2]).fit(X[:1000], y[:1000])
    assert advised.score(X[1000:], y[1000:]) > 0.9 > 0.6 > model.score(X[1000:], y[1000:])
    assert "as categories" not in " ".join(quiet(advised, X[1000:], y[1000:]).advice)


def test_codes_that_tell_classes_are_found_too():
    X, y, _ = codes()
    y = np.digitize(y, np.quantile(y, [1 / 3, 2 / 3]))
    model = GNClassifier(**ONE, categorical_features=None).fit(X[:1000], y[:1000])
    assert CODES in quiet(model, X[1000:], y[1000:]).advice
    advised = GNClassifier(**ONE, categorical_features=[0, 1, 2]).fit(X[:1000], y[:1000])
    assert advised.score(X[1000:], y[1000:]) > model.score(X[1000:], y[1000:]) + 0.1


def test_whole_numbers_of_a_bent_relation_are_no_codes():
    rng = np.random.default_rng(0)
    X = np.column_stack([rng.integers(0, 20, 900), rng.normal(size=900)]).astype(float)
    y = (X[:, 0] / 10 - 1) ** 2 + X[:, 1] + 0.1 * rng.normal(size=900)
    # A line misses the parabola.
    report = quiet(GNRegressor((), **ONE).fit(X[:600], y[:600]), X[600:], y[600:])
    assert report["residuals"].verdict == "depend" and "codes" not in " ".join(report.advice)


@pytest.mark.parametrize("estimator", [GNRegressor, GNClassifier])
def test_rows_that_come_several_times_are_not_known_to_simple_models(estimator):
    """Boosting learned from one copy what it predicted of another: 0.99 for 0.72, and a wider network was advised."""
    rng = np.random.default_rng(0)
    X, new = rng.normal(size=(200, 4)), rng.normal(size=(60, 4))
    noise = 0.3 * rng.normal(size=260)
    y, truth = np.sin(X[:, 0]) + noise[:200], np.sin(new[:, 0]) + noise[200:]
    if estimator is GNClassifier:
        y, truth = y > 0, truth > 0
    model = estimator(**ONE).fit(X, y)
    weight = np.full(60, 4.0)
    copies = rng.permutation(np.repeat(np.arange(60), 4))
    weighted, copied = quiet(model, new, truth, sample_weight=weight), quiet(model, new[copies], truth[copies])
    for finding in weighted:
        assert copied[finding.topic].verdict == finding.verdict
    first = np.sort(np.unique(copies, return_index=True)[1])
    in_order = quiet(model, new[copies[first]], truth[copies[first]], sample_weight=weight)
    assert copied["baselines"].numbers == in_order["baselines"].numbers
    # Of other targets at the same rows, too, nothing is known.
    if estimator is GNRegressor:
        trials = truth[copies] + 0.03 * rng.normal(size=240)
        assert quiet(model, new[copies], trials)["baselines"].verdict == "no worse"


def test_one_or_two_distinct_rows_have_no_simple_models_beside_them():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(100, 2))
    y, noise = X[:, 0] + rng.normal(size=100), rng.normal(size=80)
    for model, of_y, targets in (
        (GNRegressor(**ONE), y, noise),
        (GNClassifier(**ONE), y > 0, noise > 0),
    ):
        model.fit(X, of_y)
        for distinct in (1, 2):
            rows = np.repeat(np.eye(2)[:distinct], 80 // distinct, axis=0)
            assert quiet(model, rows, targets)["baselines"].verdict == "unknown"
