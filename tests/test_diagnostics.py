"""diagnose: what it says follows from numbers that an independent computation also finds."""

import copy
import dataclasses
import warnings
from contextlib import contextmanager, nullcontext

import numpy as np
import pandas as pd
import pytest
import torch
from dense import forward
from scipy.stats import t
from sklearn.compose import TransformedTargetRegressor, make_column_transformer
from sklearn.datasets import load_diabetes, make_classification, make_friedman1, make_multilabel_classification
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.linear_model import Ridge
from sklearn.metrics import (
    accuracy_score,
    d2_pinball_score,
    d2_tweedie_score,
    log_loss,
    r2_score,
    root_mean_squared_error,
)
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import skgn
from skgn import GNClassifier, GNRegressor, baselines, diagnose
from skgn.estimator import table_and_target
from skgn.levels import told_by_pairs
from skgn.spectrum import extreme_eigenvalues

unconverged = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

ONE = {"n_estimators": 1, "hidden_layer_sizes": (8,), "tol": 1e-2, "random_state": 0}


def regression(n=600, noise=0.3, seed=0, outputs=1):
    rng = np.random.RandomState(seed)
    X = rng.standard_normal((n, 3))
    f = np.sin(X[:, 0]) + X[:, 1] + 0.5 * X[:, 2]
    y = f[:, None] * (1 + np.arange(outputs)) + noise * rng.standard_normal((n, outputs))
    return X, y[:, 0] if outputs == 1 else y


def classes(n=600, seed=0):
    rng = np.random.RandomState(seed)
    X = rng.standard_normal((n, 3))
    logit = 2 * (np.sin(X[:, 0]) + X[:, 1] - X[:, 2])
    return X, (rng.rand(n) < 1 / (1 + np.exp(-logit))).astype(int)


def quiet(*args, **kwargs):
    return diagnose(*args, verbose=False, **kwargs)


@contextmanager
def no_trees():
    """Reports are as of a large table, which gradient boosting is spared: it takes nine tenths of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(baselines, "_MOST_CELLS", 0)
        yield


def without_trees(*args, **kwargs):
    with no_trees():
        return quiet(*args, **kwargs)


@pytest.fixture(scope="module")
def regressor():
    X, y = regression()
    return GNRegressor(**ONE).fit(X[:300], y[:300])


@pytest.fixture(scope="module")
def classifier():
    X, y = classes()
    return GNClassifier(**ONE).fit(X[:300], y[:300])


def fits():
    """Estimators of every kind, with data: training rows first."""
    X, y = regression()
    Z, labels = make_multilabel_classification(400, 5, n_classes=3, random_state=0)
    W, three = make_classification(400, 5, n_informative=4, n_redundant=0, n_classes=3, random_state=0)
    text = np.array(["no", "perhaps", "yes"])[three]
    frame = pd.DataFrame(X, columns=["length", "width", "height"])
    fast = ONE | {"hidden_layer_sizes": (4,)}
    stream = GNRegressor(**fast)
    return {
        "regression": (GNRegressor(n_estimators=2, random_state=0, tol=1e-2), X, y),
        "outputs": (GNRegressor(**fast), *regression(outputs=3)),
        "column": (GNRegressor(**fast), X, y[:, None]),
        "student_t": (GNRegressor(**fast, loss="student_t"), X, y),
        "quantile": (GNRegressor(**fast, loss="quantile", quantile=0.9), X, y),
        "quantiles": (GNRegressor(**fast, loss="quantile", quantile=[0.1, 0.9]), X, y),
        "pipeline": (make_pipeline(StandardScaler(), GNRegressor(**fast)), frame, pd.Series(y)),
        "cg": (GNRegressor(**fast, solver="cg", l2_regularization=1e-3), X, y),
        "float": (GNRegressor(**fast, l2_regularization=1e-3), X, y),
        "undetermined": (GNRegressor(20, random_state=0, n_estimators=1, l2_regularization=0.0), X[:60], y[:60]),
        "linear": (GNRegressor((), random_state=0, n_estimators=1), X, y),
        "dual": (GNRegressor(**fast, solver="dual"), X, y),
        "centered": (GNRegressor(**fast, init="centered", alpha=5.0), X, y),
        "early": (GNRegressor(**fast, early_stopping=True, l2_regularization=1e-6), X, y),
        "untrained": (GNRegressor(**fast, max_iter=0), X, y),
        "float32": (GNRegressor(**fast, dtype="float32", device="cpu"), X.astype(np.float32), y),
        "stream": (stream, X, y),
        "binary": (GNClassifier(**fast), *classes()),
        "multiclass": (GNClassifier(**fast), W, text),
        "multilabel": (GNClassifier(**fast), Z, labels),
        "weighted": (GNClassifier(**fast, class_weight="balanced", l2_regularization=1e-2), W, three),
        "classifier cg": (GNClassifier(**fast, solver="cg", l2_regularization=1e-2), W, three),
    }


@unconverged
@pytest.mark.parametrize("name", fits())
def test_every_kind_of_fit_is_told_in_a_few_short_lines(name, capsys):
    model, X, y = fits()[name]
    half = len(y) // 2
    model = model.partial_fit(X[:half], y[:half]) if name == "stream" else model.fit(X[:half], y[:half])
    # Boosting takes most of the time, and asks for the kind of y alone.
    with nullcontext() if name in ("regression", "binary", "multiclass", "multilabel") else no_trees():
        report = diagnose(model, X[half:], y[half:])
    lines = capsys.readouterr().out.splitlines()
    assert "\n".join(lines) == str(report)
    assert len(lines) <= 20 or len(report.advice) > 3
    assert max(map(len, lines)) <= 100
    assert any(line.startswith("Try next: ") for line in lines[-3:])
    shown = {line[2:].split(" ")[0] for line in lines if line[:2] in ("  ", "! ")}
    assert {finding.topic for finding in report} <= shown
    assert not {"nan", "inf"} & set(str(report).replace(";", " ").split())


@pytest.mark.parametrize("seed", range(2))
def test_a_well_specified_model_raises_no_alarm(seed):
    X, y = regression(800, seed=seed)
    model = GNRegressor(**ONE).fit(X[:400], y[:400])
    for n in (40, 400):
        report = quiet(model, X[400 : 400 + n], y[400 : 400 + n])
        assert report.advice == []
        assert str(report).splitlines()[-1] == "Try next: nothing, no number above asks for a change."
    X, y = classes(800, seed=seed)
    assert quiet(GNClassifier(**ONE).fit(X[:400], y[:400]), X[400:], y[400:]).advice == []


def test_a_fit_that_was_cut_short_says_so_and_how_to_go_on():
    X, y = regression()
    with pytest.warns(ConvergenceWarning):
        model = GNRegressor(**ONE, max_iter=2).fit(X, y)
    finding = without_trees(model, X, y)["convergence"]
    assert finding.verdict == "not converged"
    assert finding.numbers["n_iter"] == 2
    evidence = model.history_["log_evidence"]
    assert finding.numbers["last_change"] == pytest.approx(abs(evidence[2] - evidence[1]))
    assert "max_iter=20" in finding.advice


@unconverged
@pytest.mark.parametrize(
    ("status", "parameters", "advice"),
    [
        ("max_time", {}, "max_time"),
        ("interrupted", {}, "warm_start=True"),
        ("no_descent", {"dtype": "float32"}, 'dtype="float64"'),
        ("no_descent", {"damping": 1.0}, 'damping="adaptive"'),
    ],
)
def test_each_way_to_stop_short_has_its_own_advice(status, parameters, advice):
    X, y = regression(100)
    model = GNRegressor(**ONE, **parameters).fit(X, y)
    model.estimators_ = [dataclasses.replace(model.estimators_[0], status=status)]
    finding = without_trees(model, X, y)["convergence"]
    assert status.split("_")[0] in finding.text and advice in finding.advice


def test_counts_of_weights_and_observations_are_those_of_the_training_data():
    X, y = make_classification(120, 5, n_informative=4, n_redundant=0, n_classes=3, random_state=0)
    model = GNClassifier((10,), n_estimators=1, random_state=0).fit(X[:90], y[:90])
    numbers = without_trees(model, X[90:], y[90:])["weights"].numbers
    # (5 + 1) 10 hidden, (10 + 5 + 1) 3 readout; a softmax of 3 classes has 2 degrees of freedom.
    assert numbers["n_weights"] == 60 + 48 == sum(W.size for W in model.coefs_ + model.intercepts_)
    assert numbers["n_observations"] == 90 * 2
    early = GNRegressor(**ONE, early_stopping=True, validation_fraction=0.25).fit(X[:80], X[:80] @ np.ones(5))
    assert without_trees(early, X, X @ np.ones(5))["weights"].numbers["n_observations"] == 60


def test_blocks_of_a_stream_add_up():
    X, y = regression(300)
    model = GNRegressor(**ONE).partial_fit(X[:100], y[:100]).partial_fit(X[100:250], y[100:250])
    assert without_trees(model, X[250:], y[250:])["weights"].numbers["n_observations"] == 250


@unconverged
def test_too_small_an_l2_for_more_weights_than_observations_is_pointed_out():
    X, y = regression(100)
    free = without_trees(
        GNRegressor(40, n_estimators=1, random_state=0, l2_regularization=1e-8).fit(X[:50], y[:50]), X, y
    )
    assert "evidence" in free["weights"].advice
    assert free["effective"].numbers["n_effective"] > 25
    held = without_trees(
        GNRegressor(40, n_estimators=1, random_state=0, l2_regularization=0.1).fit(X[:50], y[:50]), X, y
    )
    assert held["weights"].verdict == "over-parameterised" and held["weights"].advice is None


def test_a_network_that_is_too_small_is_called_saturated():
    X = np.random.RandomState(0).standard_normal((1000, 2))
    y = np.tanh(2 * X[:, 0] + X[:, 1]) + np.tanh(X[:, 0] - 2 * X[:, 1] + 0.5) + 0.5 * np.tanh(3 * X[:, 1] - 1)
    model = GNRegressor((2,), linear_path=False, n_estimators=1, random_state=0).fit(X, y)
    finding = without_trees(model, X, y)["effective"]
    assert finding.numbers["share"] == pytest.approx(model.n_effective_parameters_ / 9)
    assert finding.verdict == "saturated" and "hidden_layer_sizes=(4,)" in finding.advice


#: Variance of the noise in squared scales, and the weights that residuals have in these units.
REWEIGHTED = {
    "student_t": (8 / 6, lambda z: 9 / (8 + z**2)),
    "huber": (1.0, lambda z: 1.345 / np.maximum(np.abs(z), 1.345)),
    "cauchy": (2.0, lambda z: 2 / (1 + z**2)),
    "quantile": (4.0, lambda z: 0.5 / np.maximum(np.abs(z), 0.5)),
}


#: More rows than weights; fewer of two of them.
@pytest.mark.parametrize(
    ("kind", "n"),
    [
        *((kind, 300) for kind in ("squared error", "log loss", "two outputs", *REWEIGHTED)),
        *((kind, 20) for kind in ("log loss", "two outputs")),
    ],
)
def test_eigenvalues_and_condition_are_those_of_a_dense_gram_matrix(kind, n):
    X, y = classes(n) if kind == "log loss" else regression(n, outputs=2 if kind == "two outputs" else 1)
    estimator = GNClassifier if kind == "log loss" else GNRegressor
    l2 = {"l2_regularization": 0.01} if kind != "two outputs" else {}
    loss = {"loss": kind} if kind in REWEIGHTED else {}
    model = estimator((6,), n_estimators=1, random_state=0, standardize=False, **l2, **loss).fit(X, y)
    member = model.estimators_[0]
    w, Xt = torch.from_numpy(member.weights), torch.from_numpy(X)
    J = torch.autograd.functional.jacobian(lambda w: forward(member.network, w, Xt), w).numpy()
    curvature = np.ones(J.shape[:2])
    if kind == "log loss":
        p = model.predict_proba(X)[:, 1]
        curvature *= (p * (1 - p))[:, None]
    if kind == "two outputs":
        beta = 1 / member.posterior.noise_variance
        curvature *= beta / np.exp(np.log(beta).mean())
    if kind in REWEIGHTED:
        factor, weight = REWEIGHTED[kind]
        curvature *= weight((y - model.predict(X)) * np.sqrt(factor) / model.noise_std_)[:, None]
    J = (J * np.sqrt(curvature)[:, :, None]).reshape(-1, J.shape[2])
    values = np.square(np.linalg.svd(J, compute_uv=False)) / n
    numbers = without_trees(model, X, y)["conditioning"].numbers
    assert numbers["max_eigenvalue"] == pytest.approx(values[0])
    assert numbers["min_eigenvalue"] == pytest.approx(values[-1], abs=1e-13 * values[0])
    if kind != "two outputs" and n == 300:
        system = J.T @ J / n + (0.01 + model.damping_) * np.eye(J.shape[1])
        assert numbers["damped_condition"] == pytest.approx(np.linalg.cond(system))


@unconverged
def test_lost_digits_and_overwhelming_damping_are_pointed_out():
    X, y = regression(300)
    copied = np.hstack([X, X])
    free = GNRegressor(**ONE, l2_regularization=0.0, damping=0.0).fit(copied, y)
    finding = without_trees(free, copied, y)["conditioning"]
    assert finding.verdict == "ill-conditioned"
    assert finding.numbers["damped_condition"] > 1e12
    proposed = float(finding.advice.split("=")[1].split()[0])
    # Or more: of another fit the largest eigenvalue is another one.
    cured = GNRegressor(**ONE, l2_regularization=1e4 * proposed, damping=0.0).fit(copied, y)
    assert without_trees(cured, copied, y)["conditioning"].verdict == "fine"

    with pytest.warns(UserWarning, match="The limit max_iter=100 was reached"):
        held_back = GNRegressor(**ONE, damping=1e4).fit(X, y)
    slow = without_trees(held_back, X, y)["conditioning"]
    assert slow.verdict == "damping dominates" and slow.numbers["damping"] > slow.numbers["max_eigenvalue"]
    assert "adaptive" in slow.advice


def test_injected_columns_of_noise_are_named():
    X, y = regression(400)
    noise = np.random.RandomState(1).standard_normal((400, 3))
    frame = pd.DataFrame(np.hstack([X, noise]), columns=["a", "b", "c", "noise 1", "noise 2", "noise 3"])
    finding = without_trees(GNRegressor(**ONE).fit(frame, y), frame, y)["features"]
    assert finding.numbers["switched_off"] == ["noise 1", "noise 2", "noise 3"]
    assert "noise 1, noise 2, noise 3" in finding.text and "noise 1, noise 2, noise 3" in finding.advice
    piped = make_pipeline(StandardScaler(), GNRegressor(**ONE)).fit(frame, y)
    assert without_trees(piped, frame, y)["features"].numbers["switched_off"] == ["noise 1", "noise 2", "noise 3"]


@unconverged
# Hardly trained, the network is worse than a constant.
@pytest.mark.filterwarnings("ignore:Failed. samples left out:UserWarning")
@pytest.mark.parametrize(
    ("rows", "parameters"),
    [(20, {}), (40, {}), (60, {}), (40, {"stream": True}), (400, {"stream": True}), (400, {"damping": 1e4})],
)
def test_features_that_matter_are_never_to_be_dropped(rows, parameters):
    # All five features matter; with few rows, or hardly trained, some are switched off all the same.
    X, y = make_friedman1(800, n_features=5, noise=1.0, random_state=0)
    parameters = parameters.copy()
    fit = "partial_fit" if parameters.pop("stream", False) else "fit"
    model = getattr(GNRegressor((10,), n_estimators=1, random_state=0, **parameters), fit)(X[:rows], y[:rows])
    finding = without_trees(model, X[400:], y[400:])["features"]
    assert finding.advice is None
    assert ("do not show" in finding.text) == bool(finding.numbers["switched_off"])


@unconverged
def test_an_untrained_model_has_nothing_to_say_of_its_features():
    X, y = regression(100)
    finding = without_trees(GNRegressor(**ONE, max_iter=0).fit(X, y), X, y)["features"]
    assert finding.verdict == "unknown" and "relevant" not in finding.text


@pytest.mark.parametrize("blocks", [1, 2])
def test_of_a_stream_convergence_is_not_known(blocks):
    X, y = regression(200)
    model = GNRegressor(**ONE)
    for _ in range(blocks):
        model.partial_fit(X[:100], y[:100])
    finding = without_trees(model, X[100:], y[100:])["convergence"]
    assert finding.verdict == "not known" and finding.advice is None
    assert finding.numbers["members_converged"] == 0
    assert ("1 block of" if blocks == 1 else "2 blocks of") in finding.text


@unconverged
def test_one_is_singular(regressor):
    X, y = regression(1)
    report = without_trees(regressor, X, y)
    assert "from the 1 row of X, y:" in str(report) and "(1 row of X)" in report["conditioning"].text
    report = without_trees(GNRegressor(**ONE, max_iter=1).fit(*regression()), X, y)
    assert "after 1 iteration (" in report["convergence"].text


@unconverged
def test_an_objective_that_ends_next_to_zero_has_moved_little_of_its_start():
    X, y = regression(30)
    model = GNRegressor(20, n_estimators=1, random_state=0, l2_regularization=0.0).fit(X, y)
    path = model.history_["objective"]
    assert path[-1] < 1e-12 * path[0]
    moved = without_trees(model, X, y)["convergence"].numbers["last_change"]
    assert moved == pytest.approx(abs(path[-1] - path[-2]) / path[0]) and moved < 1e-3


@pytest.mark.parametrize("value", [0.1, 1.0])
def test_a_constant_is_one_whatever_its_mean_is_rounded_to(value):
    """Its R2 was -5e33, and D2 of a single class -1e15."""
    rng = np.random.RandomState(0)
    X = rng.standard_normal((300, 2))
    target, weight = X[:, 0] + 0.1 * rng.standard_normal(300), rng.uniform(size=300)
    regressor = GNRegressor((), n_estimators=1, random_state=0).fit(X, target)
    classifier = GNClassifier((), n_estimators=1, random_state=0).fit(X, target > 0)
    for model, y in ((regressor, np.full(300, value)), (classifier, np.full(300, True))):
        skill = diagnose(model, X, y, sample_weight=weight, verbose=False)["skill"]
        assert skill.verdict == "unknown" and "y is constant here" in skill.text


def test_rows_of_hardly_any_weight_do_not_hide_a_better_model():
    rng = np.random.RandomState(0)
    X = rng.uniform(-2, 2, (800, 2))
    y = np.sin(3 * X[:, 0]) + X[:, 1] + 0.1 * rng.standard_normal(800)
    linear = GNRegressor((), n_estimators=1, random_state=0).fit(X[:400], y[:400])
    y[400:440] += 300 * rng.choice([-1, 1], 40)
    weight = np.where(np.arange(400) < 40, 1e-6, 1.0)
    report = diagnose(linear, X[400:], y[400:], sample_weight=weight, verbose=False)
    assert report["baselines"].verdict == "worse than boosting"


def test_class_weights_make_no_codes():
    """A column that the others tell was taken for codes where class weights had shifted all probabilities."""
    rng = np.random.RandomState(0)
    number = rng.randint(40, size=2000)
    told = rng.standard_normal(40)[number] + 0.3 * rng.standard_normal(2000)
    X, y = np.c_[told, number], rng.uniform(size=2000) < 1 / (1 + np.exp(3.5 - 1.5 * told))
    model = GNClassifier((4,), n_estimators=1, class_weight="balanced", random_state=0).fit(X[:1000], y[:1000])
    report = diagnose(model, X[1000:], y[1000:], verbose=False)
    assert not any("as categories" in (finding.advice or "") for finding in report)


def test_weights_that_sum_to_one_are_told_to_be_no_repetitions():
    X, y = regression(400)
    with pytest.warns(UserWarning, match="repetitions"):
        shared = GNRegressor(**ONE).fit(X[:300], y[:300], sample_weight=np.full(300, 1 / 300))
    finding = without_trees(shared, X[300:], y[300:])["weights"]
    assert "for 1 observation:" in finding.text and "mean of 1" in finding.advice
    # A fit does not keep whether it had weights.
    single = without_trees(GNRegressor(**ONE).fit(X[:1], y[:1]), X[300:], y[300:])["weights"]
    assert single.advice.startswith("more rows; or, where sample_weight was given")


def test_intervals_of_a_dozen_rows_are_not_to_be_trusted():
    X, y = regression(100)
    few, enough = (without_trees(GNRegressor(**ONE).fit(X[:n], y[:n]), X, y)["weights"].text for n in (8, 30))
    assert "too narrow" in few and "too narrow" not in enough


def test_far_from_unit_scale_standardising_is_the_first_advice():
    X, y = regression()
    X = 1e-6 * X
    with pytest.warns(UserWarning, match="standardize=False takes X as it is"):
        model = GNRegressor(**ONE, standardize=False).fit(X[:300], y[:300])
    report = quiet(model, X[300:], y[300:])
    assert report["skill"].numbers["r2"] < 0 and report.advice[0].startswith("standardize=True")


def test_skill_is_that_of_scikit_learns_metrics(regressor, classifier):
    X, y = regression(200, seed=7)
    weight = np.random.RandomState(0).randint(1, 4, 200)
    numbers = without_trees(regressor, X, y, sample_weight=weight)["skill"].numbers
    predicted = regressor.predict(X)
    assert numbers["r2"] == pytest.approx(r2_score(y, predicted, sample_weight=weight))
    assert numbers["rmse"][0] == pytest.approx(root_mean_squared_error(y, predicted, sample_weight=weight))
    X, y = classes(200, seed=7)
    report = without_trees(classifier, X, y)
    numbers, calibration = report["skill"].numbers, report["calibration"].numbers
    p = classifier.predict_proba(X)
    assert numbers["log_loss"] == pytest.approx(log_loss(y, p))
    assert numbers["base_log_loss"] == pytest.approx(log_loss(y, np.tile([1 - y.mean(), y.mean()], (200, 1))))
    assert numbers["accuracy"] == pytest.approx(accuracy_score(y, classifier.predict(X)))
    assert calibration["confidence"] == pytest.approx(p.max(axis=1).mean())
    assert calibration["gap"] == pytest.approx(p.max(axis=1).mean() - numbers["accuracy"])


@pytest.mark.parametrize("seed", range(3))
def test_targets_that_have_nothing_to_do_with_the_features_are_noticed(seed):
    X, y = regression(600, seed=seed)
    shuffled = np.random.RandomState(seed).permutation(y)
    finding = without_trees(GNRegressor(**ONE).fit(X[:300], y[:300]), X[300:], shuffled[300:])["skill"]
    assert finding.verdict == "no better than the mean" and "belong together" in finding.advice


def drawn(regressor, n, factor, seed):
    """Rows with targets from the model's own predictive distribution, ``factor`` times as wide."""
    X, _ = regression(n, seed=100 + seed)
    mean, std = regressor.predict(X, return_std=True)
    return X, mean + factor * std * np.random.RandomState(seed).standard_normal(n), mean, std


@pytest.mark.parametrize("seed", range(3))
def test_standard_deviations_of_the_wrong_size_are_noticed_and_right_ones_are_not(regressor, seed):
    for factor, verdict in [(1.0, "good"), (2.0, "too narrow"), (0.4, "too wide")]:
        X, y, mean, std = drawn(regressor, 300, factor, seed)
        report = without_trees(regressor, X, y)
        finding = report["calibration"]
        assert finding.verdict == verdict
        nu = regressor.noise_degrees_of_freedom_
        for level, upper in ((50, 0.75), (90, 0.95)):
            end = t.ppf(upper, nu) * np.sqrt((nu - 2) / nu) * std
            assert finding.numbers[f"coverage_{level}"] == pytest.approx(np.mean(np.abs(y - mean) <= end))
        assert (report["noise"].verdict == "overfitted or shifted") == (verdict == "too narrow")


@pytest.mark.parametrize(
    ("seed", "verdict", "where"),
    [(1, "too wide", "in the middle alone"), (3, "another shape", "in the middle and too narrow outside")],
)
def test_intervals_of_one_width_where_noise_depends_on_a_feature(seed, verdict, where):
    """They hold more than half. What those of 90 % hold is about right, or too little."""
    rng = np.random.default_rng(seed)
    X = rng.uniform(-2, 2, (900, 2))
    y = X[:, 1] + np.exp(1.2 * X[:, 0]) * rng.normal(size=900)
    model = GNRegressor(n_estimators=1, noise="constant", random_state=0).fit(X[:400], y[:400])
    finding = without_trees(model, X[400:], y[400:])["calibration"]
    assert finding.numbers["coverage_50"] > 0.6 and 0.8 < finding.numbers["coverage_90"] < 0.92
    assert finding.verdict == verdict and finding.text.endswith(f": too wide {where}")
    assert finding.advice == 'noise="input"'


def test_noise_that_outliers_have_inflated_is_told_from_wide_intervals():
    X, y = regression(600)
    dirty = y.copy()
    dirty[:300:15] += 5.0
    fitted = {loss: GNRegressor(**ONE, loss=loss).fit(X[:300], dirty[:300]) for loss in ("squared_error", "student_t")}
    normal, student = (without_trees(model, X[300:], y[300:]) for model in fitted.values())
    assert normal["noise"].verdict == "inflated" and "student_t" in normal["noise"].advice
    assert student["noise"].advice is None
    # Noise is large, too, before a training has come to its end.
    unfinished = copy.copy(fitted["squared_error"])
    unfinished.estimators_ = [dataclasses.replace(unfinished.estimators_[0], status="max_iter")]
    assert without_trees(unfinished, X[300:], y[300:])["noise"].advice is None
    # Intervals have the tails of the noise.
    assert normal["calibration"].verdict == "good"


@pytest.mark.filterwarnings("ignore:Failed. extreme targets hide:UserWarning")
def test_a_relation_that_outliers_hide_takes_a_robust_loss_and_no_larger_network():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(900, 4))
    y = X[:, 0] + np.sin(2 * X[:, 1]) + 0.2 * rng.normal(size=900)
    y[:300:20] += 15
    model = GNRegressor(**ONE).fit(X[:300], y[:300])
    report = quiet(model, X[300:], y[300:])
    assert report["baselines"].verdict == "worse than boosting"
    assert all("student_t" in advice for advice in report.advice)
    advised = GNRegressor(**ONE, loss="student_t").fit(X[:300], y[:300])
    assert advised.score(X[300:], y[300:]) > 0.9 > model.score(X[300:], y[300:])


def test_a_wave_that_a_fit_lacks_is_no_shape_of_the_noise():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(800, 2))
    y = np.sin(8 * X[:, 0]) + 0.1 * rng.normal(size=800)
    report = quiet(GNRegressor((), n_estimators=1, random_state=0).fit(X[:300], y[:300]), X[300:], y[300:])
    assert report["calibration"].verdict == "another shape"
    assert report["calibration"].advice == report["residuals"].advice == report["baselines"].advice


def test_few_rows_do_not_cry_wolf(regressor):
    verdicts = [
        without_trees(regressor, *drawn(regressor, 10, 1.0, seed)[:2])["calibration"].verdict for seed in range(30)
    ]
    assert verdicts == ["good"] * 30


@pytest.mark.parametrize("n", [1, 2, 11, 30])
def test_few_rows_tell_neither_of_inflated_noise_nor_of_what_residuals_depend_on(regressor, n):
    for seed in range(12):
        report = quiet(regressor, *drawn(regressor, n, 1.0, seed)[:2])
        assert report["noise"].verdict not in ("inflated", "depends on the input")
        assert report["residuals"].verdict == ("nothing found" if n >= 12 else "unknown")


def test_intervals_that_are_too_narrow_in_the_middle_alone_are_no_narrow_intervals(regressor):
    """Errors of one size, in either direction: half of the intervals miss all of them, and the wide ones none."""
    X, _, mean, std = drawn(regressor, 300, 1.0, 0)
    y = mean + 1.2 * std * np.random.RandomState(0).choice([-1, 1], 300)
    report = quiet(regressor, X, y)
    finding = report["calibration"]
    assert finding.verdict == "another shape" and "calibrate=True" in finding.advice
    assert "50% intervals hold 0%" in finding.text and finding.text.endswith("another shape")
    # The squares are not too large, so that neither more rows nor others would help.
    assert report["noise"].verdict == "as estimated"


@pytest.mark.parametrize("outlying", [[3, 50], [0, 17, 180, 199]])
def test_injected_outliers_are_found_by_their_rows(regressor, outlying):
    X, y, _, std = drawn(regressor, 200, 1.0, 0)
    assert without_trees(regressor, X, y)["outliers"].advice is None
    y[outlying] += 12 * std[outlying]
    finding = without_trees(regressor, X, y)["outliers"]
    assert sorted(finding.numbers["rows"]) == outlying
    assert finding.numbers["count"] == len(outlying)
    assert "student_t" in finding.advice
    # Rows keep their numbers where others have weight 0.
    weight = np.ones(200)
    weight[[1, 2, 60]] = 0
    assert sorted(without_trees(regressor, X, y, sample_weight=weight)["outliers"].numbers["rows"]) == outlying


def test_one_gross_outlier_is_found_by_its_row(regressor):
    for size in (8, 1e12):
        X, y, _, std = drawn(regressor, 200, 1.0, 0)
        y[7] += size * std[7]
        report = quiet(regressor, X, y)
        assert report["outliers"].numbers["rows"] == [7] and report.advice == ["look at row 7"]
    mixed = quiet(regressor, X, np.roll(regression(200)[1], 1))
    assert mixed["skill"].advice.startswith("check that the rows of X and y belong together")
    # How often chance gives an alarm: once in a thousand sets of rows.
    alarms = [without_trees(regressor, *drawn(regressor, 300, 1.0, seed)[:2])["outliers"].advice for seed in range(5)]
    assert alarms == [None] * 5


@pytest.mark.filterwarnings("ignore::skgn.unfamiliar.UnfamiliarDataWarning")
def test_one_event_that_was_given_next_to_no_probability_is_found_by_its_row():
    n_classes = 3
    X, y = make_classification(600, 4, n_informative=4, n_redundant=0, n_classes=n_classes, random_state=0)
    model = GNClassifier((), n_estimators=1, random_state=0).fit(X[:300], y[:300])
    X, rng = X[300:].copy(), np.random.RandomState(0)
    X[7] *= 100
    p = model.predict_proba(X)
    drawn_labels = np.array([rng.choice(n_classes, p=row) for row in p])
    assert without_trees(model, X, drawn_labels)["outliers"].advice is None
    drawn_labels[7] = p[7].argmin()
    assert p[7].min() < 1e-6
    finding = without_trees(model, X, drawn_labels)["outliers"]
    assert finding.numbers["rows"][0] == 7 and "row 7" in finding.advice.replace("rows", "row")


def test_wrong_labels_are_found_by_their_rows():
    X, y = make_classification(400, 4, n_informative=3, n_redundant=0, class_sep=3.0, flip_y=0.0, random_state=0)
    model = GNClassifier(**ONE).fit(X[:200], y[:200])
    sure = np.flatnonzero(model.predict_proba(X[200:]).max(axis=1) > 0.995)[:3]
    y[200 + sure] = 1 - y[200 + sure]
    finding = without_trees(model, X[200:], y[200:])["outliers"]
    assert sorted(finding.numbers["rows"]) == sure.tolist() and "labels" in finding.advice


def test_overconfidence_is_noticed(classifier):
    X, _ = classes(500, seed=3)
    p, rng = classifier.predict_proba(X)[:, 1], np.random.RandomState(0)
    right = without_trees(classifier, X, (rng.rand(500) < p).astype(int))["calibration"]
    assert right.verdict == "good" and right.advice is None
    blurred = without_trees(classifier, X, (rng.rand(500) < 0.5 + 0.4 * (p - 0.5)).astype(int))["calibration"]
    assert blurred.verdict == "overconfident" and blurred.numbers["gap"] > 0.05
    sharp = without_trees(classifier, X, (p > 0.5).astype(int))["calibration"]
    assert sharp.verdict == "underconfident" and "CalibratedClassifierCV" in sharp.advice


def test_a_weight_is_so_many_repetitions(regressor, classifier):
    repeats = np.random.RandomState(0).randint(0, 4, 150)
    for model, (X, y) in [(regressor, regression(150, seed=5)), (classifier, classes(150, seed=5))]:
        weighted = without_trees(model, X, y, sample_weight=repeats)
        repeated = without_trees(model, np.repeat(X, repeats, axis=0), np.repeat(y, repeats))
        for topic in ("skill", "calibration"):
            for name, value in weighted[topic].numbers.items():
                assert value == pytest.approx(repeated[topic].numbers[name])
        assert weighted["outliers"].numbers["expected"] == pytest.approx(repeated["outliers"].numbers["expected"])


def test_data_that_have_nothing_to_tell_raise_no_alarm(regressor):
    X, y = regression(60)
    assert quiet(regressor, X[:1], y[:1]).advice == []
    constant = np.full(60, 2.0)
    report = quiet(GNRegressor(**ONE).fit(X, constant), X, constant)
    assert report.advice == [] and report["skill"].verdict == "unknown"
    one_class = quiet(GNClassifier(**ONE).fit(X, constant.astype(int)), X, constant.astype(int))
    assert one_class.advice == [] and one_class["skill"].verdict == "unknown"


@unconverged
def test_a_constant_target_says_nothing_of_calibration():
    rng = np.random.default_rng(0)
    X, constant = rng.normal(size=(60, 3)), np.ones(60)
    model = GNRegressor((3,), n_estimators=1, random_state=0, max_iter=30, tol=1e-2).fit(X, constant)
    report = without_trees(model, rng.normal(size=(60, 3)), constant)
    assert report["calibration"].verdict == report["outliers"].verdict == "unknown"
    assert not any("student_t" in advice for advice in report.advice)


def test_outputs_without_noise_or_without_variation_hide_no_others():
    """A constant had a score of 0 in "skill" and 1 in the promise, and rounding errors asked for a wider network."""
    X, y = regression(900, noise=1.2, seed=2)
    Y = np.column_stack([y, np.full(900, 3.0), X @ (1.0, -2.0, 1.0)])
    known = slice(300)
    report = quiet(GNRegressor(**ONE).fit(X[known], Y[known]), X[300:], Y[300:])
    alone = quiet(GNRegressor(**ONE).fit(X[known], Y[known, ::2]), X[300:], Y[300:, ::2])
    assert report["skill"].numbers["r2"] == pytest.approx(alone["skill"].numbers["r2"])
    assert "promised" not in report["skill"].text and report["residuals"].verdict == "nothing found"
    assert "(output 0)" in report["calibration"].text and report.advice == alone.advice == []


def not_normal(loss, n, seed):
    """Rows and targets whose noise is that of the loss."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 2))
    mean = np.sin(1.5 * X[:, 0]) + 0.5 * X[:, 1]
    y = {
        "poisson": rng.poisson(np.exp(mean + 0.5)),
        "gamma": np.exp(mean) * rng.gamma(2, 1 / 2, n),
        "cauchy": mean + 0.1 * rng.standard_cauchy(n),
    }
    return X, y[loss]


@pytest.mark.parametrize("loss", ["poisson", "gamma", "cauchy"])
def test_noise_that_is_not_normal_is_judged_by_its_own_distribution(loss):
    """Of its skewness and its tails no outliers are made, nor intervals of another coverage than they have."""
    model = GNRegressor(**ONE, loss=loss).fit(*not_normal(loss, 1000, 100))
    for seed in range(2):
        X, y = not_normal(loss, 500, seed)
        report = without_trees(model, X, y)
        assert report["outliers"].advice is None and report["calibration"].advice is None
        for level in (50, 90):
            low, high = model.predict_interval(X, level / 100).T
            held = np.mean((low <= y) & (y <= high))
            if loss == "poisson":  # Each end of an interval of counts has a part of its count beyond it.
                edges = np.mean((low == y) | (y == high))
                assert held - edges <= report["calibration"].numbers[f"coverage_{level}"] <= held
            else:
                assert report["calibration"].numbers[f"coverage_{level}"] == pytest.approx(held)
    y = y.astype(float)
    y[7] = 1e9
    assert without_trees(model, X, y)["outliers"].numbers["rows"] == [7]
    # Without a distribution, nothing is said.
    options = {**ONE, "loss": loss, "solver": "cg", "l2_regularization": 1e-2, "tol": 1e-2}
    model = GNRegressor(**options).fit(*not_normal(loss, 300, 100))
    assert without_trees(model, X, y)["outliers"].verdict == "unknown"


@pytest.mark.parametrize("q", [0.05, 0.95])
def test_a_quantile_is_judged_by_the_loss_of_quantiles(q):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(1000, 2))
    y = X[:, 0] + 0.7 * rng.normal(size=1000)
    model = GNRegressor(**ONE, loss="quantile", quantile=q).fit(X[:500], y[:500])
    X, y = X[500:], y[500:]
    skill = without_trees(model, X, y)["skill"]
    assert skill.verdict == "better than the quantile of y" and skill.advice is None
    assert skill.numbers["d2"] == pytest.approx(d2_pinball_score(y, model.predict(X), alpha=q), abs=0.01)
    assert skill.text.startswith(f"D2 {skill.numbers['d2']:.2f}")
    assert without_trees(model, X, rng.permutation(y))["skill"].verdict == "no better than the quantile of y"


@pytest.mark.parametrize("loss", ["poisson", "gamma", "cauchy"])
def test_fits_are_judged_by_their_own_loss(loss):
    """By R2, heavy tails hide what a fit predicts: half of those with Cauchy noise were no better than the mean."""
    rng = np.random.RandomState(0)
    X = rng.normal(size=(400, 3))
    f = np.sin(2 * X[:, 0]) + 0.5 * X[:, 1]
    y = {
        "poisson": rng.poisson(3 * np.exp(f)).astype(float),
        "gamma": np.exp(f) * rng.gamma(2, 0.5, 400),
        "cauchy": f + 0.2 * rng.standard_cauchy(400),
    }[loss]
    model = GNRegressor(loss=loss, n_estimators=1, random_state=0).fit(X[:200], y[:200])
    report = diagnose(model, X[200:], y[200:], verbose=False)
    found, y = model.predict(X[200:]), y[200:]
    if loss == "cauchy":
        ours, constant = (np.log1p(((y - at) / model.noise_std_) ** 2).mean() for at in (found, np.median(y)))
        expected, name = 1 - ours / constant, "median"
    else:
        expected, name = d2_tweedie_score(y, found, power=1 if loss == "poisson" else 2), "mean"
    assert report["skill"].verdict == f"better than the {name}"
    assert report["skill"].numbers["d2"] == pytest.approx(expected, abs=0.01)
    assert report["baselines"].verdict == "no worse" and report["baselines"].numbers["model"] > 0.4
    assert max(report["baselines"].numbers[other] for other in ("ridge", "boosting")) < 0.5
    assert report["skill"].advice is None and report["baselines"].advice is None


def test_counts_that_scatter_by_a_feature_are_not_taken_for_values():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(900, 2))
    y = rng.poisson(np.exp(X[:, 0] + 1) * np.where(X[:, 1] > 0, rng.gamma(0.5, 2, 900), 1.0))
    report = quiet(GNRegressor(**ONE, loss="poisson").fit(X[:400], y[:400]), X[400:], y[400:])
    assert report["noise"].verdict == "depends on the input" and report["noise"].numbers["varies_with"] == "x1"
    assert not any("student_t" in advice or "noise=" in advice for advice in report.advice)


def test_what_residuals_depend_on_tells_its_own_share():
    """A feature of several columns: that of one level alone has moved."""
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"x": rng.normal(size=700), "kind": rng.choice(list("abc"), 700)})
    y = table["x"] + 0.3 * rng.normal(size=700)
    model = GNRegressor(**ONE).fit(table[:400], y[:400])
    table, y = table[400:], y[400:] + 2.0 * (table["kind"][400:] == "c")
    finding = without_trees(model, table, y)["residuals"]
    residual = y - model.predict(table)
    within = np.mean(np.square(residual - residual.groupby(table["kind"]).transform("mean")))
    share = 1 - within / residual.var(ddof=0)
    assert finding.numbers["depends_on"] == "kind"
    assert finding.numbers["share"] == pytest.approx(share, abs=0.01) and f"tells {share:.0%}" in finding.text


def rare_class(n, seed):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 3))
    return X, (rng.random(n) < 1 / (1 + np.exp(4 - 2 * X[:, 0]))).astype(int)


def test_rows_of_a_rare_class_are_as_many_observations_as_they_are():
    X, y = rare_class(600, 1)
    models = {c: GNClassifier(**ONE, class_weight={0: c, 1: 10 * c}).fit(*rare_class(400, 0)) for c in (1e-3, 1, 1e3)}
    reports = {c: without_trees(model, X, y) for c, model in models.items()}
    for c in (1e-3, 1e3):
        for topic in ("skill", "outliers", "calibration"):
            for name, value in reports[1][topic].numbers.items():
                assert reports[c][topic].numbers[name] == pytest.approx(value)
    # Standard errors by the bootstrap, and events of the rows as they are.
    weight, p = np.where(y == 1, 10, 1), models[1].predict_proba(X)
    rate = np.average(np.eye(2)[y], axis=0, weights=weight)
    gain = np.log(p[np.arange(600), y] / rate[y])
    draws = np.random.default_rng(0).integers(0, 600, (2000, 600))
    error = np.average(gain[draws], weights=weight[draws], axis=1).std()
    assert reports[1]["skill"].numbers["standard_error"] == pytest.approx(error, rel=0.1)
    plain = without_trees(GNClassifier(**ONE).fit(*rare_class(400, 0)), X, y)["outliers"].numbers
    assert reports[1]["outliers"].numbers["expected"] == pytest.approx(plain["expected"])


def test_class_weights_raise_no_alarm():
    model = GNClassifier(**ONE, class_weight="balanced").fit(*rare_class(2000, 0))
    for seed in range(1, 7):
        report = without_trees(model, *rare_class(500, seed))
        assert report["calibration"].advice is report["outliers"].advice is None


def test_a_report_is_read_by_topic(regressor):
    report = without_trees(regressor, *regression(100))
    assert skgn.diagnose is diagnose
    topics = [finding.topic for finding in report]
    assert len(set(topics)) == len(topics) == 13
    with pytest.raises(KeyError, match="convergence"):
        report["colour"]
    assert len(repr(report)) < 120


@pytest.mark.parametrize(
    ("estimator", "error", "message"),
    [
        (Ridge(), TypeError, "Ridge"),
        (make_pipeline(StandardScaler(), Ridge()), TypeError, "Ridge"),
        (TransformedTargetRegressor(GNRegressor()), TypeError, "TransformedTargetRegressor"),
        (GNRegressor, TypeError, "fitted GNRegressor .* got the class GNRegressor"),
        (GNRegressor(), NotFittedError, "not fitted"),
        (make_pipeline(StandardScaler(), GNClassifier()), NotFittedError, "not fitted"),
    ],
)
def test_what_is_not_a_fitted_estimator_is_refused(estimator, error, message):
    with pytest.raises(error, match=message):
        diagnose(estimator, *regression(50))


def test_of_a_search_the_best_estimator_is_examined():
    X, y = regression(100)
    search = GridSearchCV(make_pipeline(StandardScaler(), GNRegressor(**ONE)), {"gnregressor__alpha": [1.0]}, cv=2)
    search.fit(X, y)
    assert str(without_trees(search, X, y)) == str(without_trees(search.best_estimator_, X, y))


def test_data_that_do_not_fit_are_refused(regressor, classifier):
    X, y = regression(50)
    for bad, message in [
        ((X[:, :2], y), "features"),
        ((X, y[:40]), "inconsistent"),
        ((X, np.stack([y, y], 1)), "shape"),
        ((X, np.where(y > 1, np.nan, y)), "NaN"),
    ]:
        with pytest.raises(ValueError, match=message):
            diagnose(regressor, *bad)
    with pytest.raises(ValueError, match="labels \\[2\\]"):
        diagnose(classifier, X, np.arange(50) % 3)
    for weight in (np.zeros(50), -np.ones(50)):
        with pytest.raises(ValueError, match=r"(?i)sample.weight"):
            diagnose(regressor, X, y, sample_weight=weight)


@pytest.mark.parametrize("l2", ["evidence", 1e-3])
@pytest.mark.parametrize("kind", [GNRegressor, GNClassifier])
@pytest.mark.parametrize("scale", [1e-300, 1e24])
def test_columns_of_any_scale_that_are_not_scaled_leave_a_report(scale, kind, l2):
    """Larger columns are refused by the fit."""
    rng = np.random.default_rng(0)
    X = scale * np.clip(rng.standard_cauchy((40, 2)), -1e5, 1e5)
    y = rng.normal(size=40)
    model = kind((2,), n_estimators=1, max_iter=5, standardize=False, l2_regularization=l2, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # The fit itself may fail.
        model.fit(X, y if kind is GNRegressor else y > 0)
    report = diagnose(model, X, y if kind is GNRegressor else y > 0, verbose=False)
    assert report["conditioning"].verdict == "fine"
    assert max(map(len, str(report).splitlines())) < 160


@pytest.mark.parametrize("l2", ["evidence", 1e-3])
def test_where_derivatives_overflow_there_are_no_eigenvalues(l2):
    """A fit refuses such columns that are not scaled; rows to look at may have them."""
    rng = np.random.default_rng(0)
    X, y = np.clip(rng.standard_cauchy((40, 2)), -1e5, 1e5), rng.normal(size=40)
    model = GNRegressor((2,), n_estimators=1, standardize=False, l2_regularization=l2, random_state=0)
    model.set_params(max_iter=200).fit(X, y)
    with pytest.warns(UserWarning, match="infinite"):
        conditioning = diagnose(model, 1e300 * X, y, verbose=False)["conditioning"]
    assert conditioning.verdict == "unknown" and conditioning.advice.startswith("standardize=True")
    assert np.isnan(extreme_eigenvalues(model, 1e300 * X, y)).all()


@pytest.mark.parametrize("power", [-900, 600, 980])
def test_targets_of_any_unit_have_the_same_skill(power):
    X, y = load_diabetes(return_X_y=True)
    y = (y - y.mean()) / 256
    expected = without_trees(GNRegressor((), n_estimators=1).fit(X, y), X, y)["skill"].numbers
    scaled = 2.0**power * y
    found = without_trees(GNRegressor((), n_estimators=1).fit(X, scaled), X, scaled)["skill"].numbers
    assert found["r2"] == pytest.approx(expected["r2"]) and 0.4 < found["r2"] < 0.6
    np.testing.assert_allclose(found["rmse"], 2.0**power * expected["rmse"])


def test_negative_predictions_of_positive_targets_ask_for_a_loss_of_such():
    """Prices that scatter in proportion to their mean, of which a gamma loss predicts more."""
    rng = np.random.default_rng(0)
    X = rng.uniform(-1.5, 1.5, (600, 3))
    y = np.exp(2 * X[:, 0] * X[:, 1] + np.sin(2 * X[:, 2]) + 0.3 * rng.normal(size=600))
    model = GNRegressor(tol=1e-2, random_state=0).fit(X[:200], y[:200])
    two = {"n_estimators": 2, "tol": 1e-2, "random_state": 0}
    gamma = GNRegressor(loss="gamma", **two).fit(X[:200], y[:200])
    report = diagnose(model, X[200:], y[200:], verbose=False)
    assert report["residuals"].verdict == "out of range"
    assert report["residuals"].numbers["negative"] == np.mean(model.predict(X[200:]) < 0) > 0.05
    assert report["residuals"].advice.startswith('loss="gamma"') and "larger network" not in str(report)
    assert gamma.score(X[200:], y[200:]) > model.score(X[200:], y[200:]) + 0.03
    assert without_trees(gamma, X[200:], y[200:])["residuals"].verdict != "out of range"
    # What is restricted is to be left open first.
    restricted = GNRegressor(linear_path=False, **two).fit(X[:200], y[:200])
    assert np.mean(restricted.predict(X[200:]) < 0) > 0.05
    assert without_trees(restricted, X[200:], y[200:])["residuals"].verdict != "out of range"
    # One negative target allows for negative means.
    signed = np.where(np.arange(600) == 300, -0.1, y)
    assert without_trees(model, X[200:], signed[200:])["residuals"].verdict != "out of range"


def test_what_is_told_by_columns_that_are_nearly_one_asks_for_their_components():
    """Columns that share all but a thousandth, as those of a spectrum: no single one of them tells of the target."""
    rng = np.random.default_rng(0)
    own = rng.normal(size=(600, 4))
    X = rng.normal(size=(600, 1)) + 1e-3 * own
    y = own[:, 0] - own[:, 1] + 0.3 * rng.normal(size=600)
    model = GNRegressor(**ONE).fit(X[:300], y[:300])
    finding = without_trees(model, X[300:], y[300:])["residuals"]
    assert finding.verdict == "depend" and "columns that are nearly one" in finding.text
    assert "PCA(whiten=True)" in finding.advice
    advised = make_pipeline(StandardScaler(), PCA(whiten=True), GNRegressor(**ONE)).fit(X[:300], y[:300])
    assert advised.score(X[300:], y[300:]) > model.score(X[300:], y[300:]) + 0.5
    assert without_trees(advised, X[300:], y[300:])["residuals"].verdict == "nothing found"
    # Copies have no difference but a rounding error, and noise depends on none.
    copied = np.column_stack([X[:, 0], X[:, 0] * (1 + 1e-15 * own[:, 1])])
    for columns, target in ((copied, y), (X, own[:, 2] * rng.normal(size=600))):
        other = GNRegressor(**ONE).fit(columns[:300], target[:300])
        assert without_trees(other, columns[300:], target[300:])["residuals"].verdict == "nothing found"


@pytest.mark.parametrize("of_numbers", [True, False])
def test_a_promise_that_is_not_kept_is_told_beside_what_came_true(of_numbers):
    X, y = regression(noise=0.6) if of_numbers else classes()
    model = (GNRegressor if of_numbers else GNClassifier)(**ONE | {"hidden_layer_sizes": (4,)}).fit(X[:300], y[:300])
    assert "promised" not in without_trees(model, X[300:], y[300:])["skill"].text
    model.left_out_score_ = 0.99
    finding = without_trees(model, X[300:], y[300:])["skill"]
    if of_numbers:
        expected = r2_score(y[300:], model.predict(X[300:]))
    else:
        own, rate = log_loss(y[300:], model.predict_proba(X[300:])), y[300:].mean()
        expected = 1 + own / (rate * np.log(rate) + (1 - rate) * np.log(1 - rate))
    assert f"{'R2' if of_numbers else 'D2'} {expected:.2f}" in finding.text
    assert finding.text.endswith("left-out training rows promised 0.99")
    # These rows are like those of training, and nothing is to be done about them.
    assert finding.verdict.startswith("better than") and finding.advice is None


def shops(n, relation, noise=0.5, seed=0):
    """A frame of 16 shops, 12 days and a price, and a target of their effects, of slopes, or of pairs of the two."""
    rng = np.random.default_rng(seed)
    shop, day, price = rng.integers(0, 16, n), rng.integers(0, 12, n), rng.normal(size=n)
    effects = {
        "alone": rng.normal(size=16)[shop] + rng.normal(size=12)[day] + price,
        "slopes": rng.normal(size=16)[shop] * price,
        "pairs": rng.normal(size=(16, 12))[shop, day],
    }
    frame = pd.DataFrame({"shop": [f"s{i}" for i in shop], "day": [f"d{i}" for i in day], "price": price})
    return frame, effects[relation] + noise * rng.standard_t(3, n)


@pytest.mark.parametrize("of_numbers", [True, False])
@unconverged
def test_what_levels_of_mean_targets_lack_is_found(of_numbers):
    frame, y = shops(1200, "pairs")
    y = y if of_numbers else y > 0
    # With a given precision no interactions are looked for.
    settings = ONE | {"hidden_layer_sizes": (4,), "max_iter": 8, "l2_regularization": 1e-2}
    model = (GNRegressor if of_numbers else GNClassifier)(**settings)
    report = quiet(model.fit(frame[:600], y[:600]), frame[600:], y[600:])
    assert "shop and day together" in report["residuals" if of_numbers else "baselines"].text
    assert any("OneHotEncoder" in advice and "of shop and day (" in advice for advice in report.advice)
    if of_numbers:
        # 0.75 is the variance of Student-t noise with three degrees of freedom and this scale.
        expected = 1 / (1 + 0.75)
        assert report["residuals"].numbers["share"] == pytest.approx(expected, abs=0.25)
    in_front = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore", sparse_output=False), ["shop", "day"]), remainder="passthrough"
    )
    report = quiet(make_pipeline(in_front, model).fit(frame[:600], y[:600]), frame[600:], y[600:])
    assert "OneHotEncoder" not in str(report)


@pytest.mark.parametrize("seed", range(2))
@unconverged
def test_levels_whose_means_are_enough_raise_no_alarm(seed):
    frame, y = shops(600, "alone", seed=seed)
    model = GNRegressor(**ONE | {"hidden_layer_sizes": (), "max_iter": 8}).fit(frame[:300], y[:300])
    assert "together" not in str(quiet(model, frame[300:], y[300:]))
    # Nor do levels that have other means here.
    moved = y[300:] + 2 * (frame["shop"][300:] == "s3")
    assert "together" not in str(quiet(model, frame[300:], moved))


@pytest.mark.parametrize(("layers", "alarmed"), [((4,), False), ((), True)])
@unconverged
def test_slopes_of_levels_raise_no_alarm_where_a_network_multiplies_them(layers, alarmed):
    frame, y = shops(1200, "slopes")
    model = GNRegressor(**ONE | {"hidden_layer_sizes": layers, "max_iter": 30}).fit(frame[:600], y[:600])
    assert ("shop and price together" in str(quiet(model, frame[600:], y[600:]))) == alarmed


def test_what_slopes_of_levels_tell_comes_from_pairs_of_rows():
    """Against a loop over all pairs; a row of weight 2 is no pair with itself."""
    rng = np.random.default_rng(0)
    level, z, r, weight = rng.integers(0, 5, 40), rng.normal(size=40), rng.normal(size=40), rng.integers(1, 3, 40)
    pairs = [(i, j) for i in range(40) for j in range(40) if i != j and level[i] == level[j]]
    products = np.array([weight[i] * weight[j] * z[i] * z[j] * r[i] * r[j] for i, j in pairs])
    squares = sum(weight[i] * weight[j] * z[i] ** 2 * z[j] ** 2 for i, j in pairs)
    share = products.sum() / squares * (weight @ z**2) / (weight @ r**2)
    expected = share, products.sum() / np.sqrt(2 * np.square(products).sum())
    assert told_by_pairs(level, z, r, weight) == pytest.approx(expected, rel=1e-9)


@unconverged
def test_residuals_are_tested_against_features_whatever_the_members_read():
    """The first of the members reads radial units, which are no features, and the other one pieces; or both units."""
    rng = np.random.default_rng(2)
    X = rng.normal(size=(246, 2))
    y = np.sin(X[:, 0]) + 0.1 * X[:, 1] + 0.1 * rng.normal(size=246)
    model = GNRegressor(max_iter=5, random_state=0).fit(X, y)
    scalings = table_and_target(model)[0].scalings
    assert next(iter(scalings)) != "radial"
    radial = next(member for member in model.estimators_ if member.scaling == "radial")
    other = next(member for member in model.estimators_ if member.scaling != "radial")
    for members in ([radial, other], [radial, radial]):
        model.estimators_, model.weights_ = members, np.array([0.6, 0.4])
        model._table = dataclasses.replace(model._table, scalings={m.scaling: scalings[m.scaling] for m in members})
        assert "tells" in without_trees(model, X, y)["residuals"].text


def test_noise_that_two_features_move_together_is_named():
    """No test of a single feature sees it: the noise was "as estimated"."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(1600, 5))
    draw = rng.normal(size=1600)
    model = GNRegressor(**ONE, noise="constant")
    for std, verdict in ((np.where(X[:, 1] * X[:, 2] > 0, 0.8, 0.1), "depends on the input"), (0.3, "as estimated")):
        y = np.sin(X[:, 0]) + std * draw
        noise = without_trees(model.fit(X[:800], y[:800]), X[800:], y[800:])["noise"]
        assert noise.verdict == verdict
        assert noise.numbers.get("varies_with", "x1 and x2 together") == "x1 and x2 together"


def test_noise_of_positive_targets_that_a_feature_moves_is_named():
    """It was "as assumed", whatever else the report found."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(1200, 3))
    shape = np.where(X[:, 1] > 0, 20.0, 1.0)
    y = np.exp(0.5 * X[:, 0]) * rng.gamma(shape) / shape
    model = GNRegressor(**ONE, loss="gamma").fit(X[:600], y[:600])
    noise = without_trees(model, X[600:], y[600:])["noise"]
    assert noise.verdict == "depends on the input" and noise.numbers["varies_with"] == "x1"
    even = np.exp(0.5 * X[:, 0]) * rng.gamma(4.0, size=1200) / 4
    model = GNRegressor(**ONE, loss="gamma").fit(X[:600], even[:600])
    assert without_trees(model, X[600:], even[600:])["noise"].verdict == "as assumed"
