"""The course runs, and what it claims is so."""

import runpy
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import log_loss

plt = pytest.importorskip("matplotlib.pyplot")

EXAMPLES = Path(__file__).parent.parent / "examples"
COURSE = EXAMPLES / "course"


def first_models(page):
    assert page["network"].score(page["X_test"], page["y_test"]) > 0.3
    assert page["inside"].mean() == pytest.approx(0.9, abs=0.06)
    losses = [log_loss(page["g_test"], page[name].predict_proba(page["W_test"])) for name in ("classifier", "logistic")]
    assert losses[0] < losses[1] < page["guess"]
    # The exercises: random columns are ignored, and a stranger is predicted with less certainty than others.
    assert page["random_share"] < 0.05
    assert page["far"][0] > np.quantile(page["std"], 0.95)


def watching_training(page):
    # One step trains a linear model.
    assert page["linear"].n_iter_ == 1 and page["difference"] < 1e-6
    timid = page["models"]["damping=1.0"]
    assert timid.status_ == "max_iter"
    np.testing.assert_allclose(timid.history_["gain_ratio"][5:], 1, atol=0.1)
    assert page["default"].score(page["X_test"], page["y_test"]) > page["search"].score(page["X_test"], page["y_test"])
    # Adaptive damping is within a few hundredths of the best constant for every alpha.
    results = page["search"].cv_results_
    for alpha in (0.1, 0.5, 2.0, 10.0):
        scores = {
            str(p["damping"]): score
            for p, score in zip(results["params"], results["mean_test_score"], strict=True)
            if p["alpha"] == alpha
        }
        assert scores["adaptive"] > max(scores.values()) - 0.07
    assert page["good"].advice == []
    assert {"weights", "noise", "calibration"} <= {finding.topic for finding in page["bad"] if finding.advice}


def production(page):
    assert page["same"]
    # Alarms: none where all is well; both signs of sensors that drift, the error alone of a worn part.
    std, error = page["alarms"]["std"], page["alarms"]["error"]
    assert not any(std[:8]) and not any(error[:8])
    assert all(std[13:16]) and all(error[11:16])
    assert not any(std[16:]) and all(error[21:])
    assert page["anew"].score(page["X_later"], page["y_later"]) > page["loaded"].score(page["X_later"], page["y_later"])
    assert any("drift" in advice for advice in page["drifted"].advice)


CLAIMS = {
    "plot_1_first_models": first_models,
    "plot_2_watching_training": watching_training,
    "plot_3_production": production,
}


@pytest.mark.parametrize("path", sorted(COURSE.glob("plot_*.py")), ids=lambda path: path.stem)
def test_a_page_of_the_course_runs_and_keeps_what_it_promises(path, capsys):
    if "set_callbacks" in path.read_text(encoding="utf-8"):
        pytest.importorskip("sklearn.callback", reason="sklearn.callback comes with scikit-learn 1.9")
    plt.switch_backend("Agg")
    plt.close("all")
    page = runpy.run_path(str(path))
    assert capsys.readouterr().out
    assert plt.get_fignums()
    plt.close("all")
    CLAIMS[path.stem](page)


def test_every_page_has_claims_and_exercises():
    pages = sorted(path.stem for path in COURSE.glob("plot_*.py"))
    assert pages == sorted(CLAIMS)
    for page in pages:
        text = (COURSE / f"{page}.py").read_text(encoding="utf-8")
        assert (
            text.count("# *Answer.*") == 3 == text.count("# **1.**") + text.count("# **2.**") + text.count("# **3.**")
        )


def test_optuna_prunes_by_the_validation_curve(capsys):
    pytest.importorskip("sklearn.callback", reason="sklearn.callback comes with scikit-learn 1.9")
    page = runpy.run_path(str(EXAMPLES / "optuna_pruning.py"))
    study, pruned = page["study"], page["pruned"]
    assert len(study.trials) == 40 and len(pruned) >= 5
    # A trial has a value for every iteration, and its own is the lowest, or one that was pruned the last.
    for trial in study.trials:
        curve = [trial.intermediate_values[step] for step in sorted(trial.intermediate_values)]
        assert sorted(trial.intermediate_values) == list(range(1, len(curve) + 1))
        assert trial.value == (curve[-1] if trial in pruned else pytest.approx(min(curve)))
    # The best setting, fitted again, comes to the same loss: nothing of the callback is in it.
    best = page["network"](study.best_params, n_estimators=1)
    best.fit(page["X_train"], page["y_train"], X_val=page["X_val"], y_val=page["y_val"])
    assert best.history_["validation_loss"].min() == study.best_value
    for model in (page["tuned"], page["evidence"]):
        assert model.score(page["X_test"], page["y_test"]) > 0.3
