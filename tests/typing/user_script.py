"""The public API as a user's script has it, for `mypy --strict` to check from outside the package; it is not run.

`assert_type` is an error where the types of the package say something else.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from typing_extensions import assert_type

import skgn
from skgn import GNClassifier, GNRegressor, diagnose, summarize
from skgn.damping import (
    Constant,
    DampingRule,
    GainRatio,
    GeometricDecay,
    Iterate,
    ProportionalToCurvature,
    ProportionalToGradient,
    ProportionalToLoss,
)
from skgn.dask import DaskGNClassifier, DaskGNRegressor
from skgn.displays import (
    ConvergenceDisplay,
    GridDisplay,
    RelevanceDisplay,
    SpectrumDisplay,
    UncertaintyDisplay,
)
from skgn.dynamics import Rate, Trajectory, gauss_newton_flow, gradient_flow, levenberg_marquardt_flow
from skgn.export import to_onnx, to_torch
from skgn.persistence import SKOPS_TRUSTED, OtherVersionWarning
from skgn.report import Finding, Report
from skgn.summary import Summary

assert_type(skgn.__version__, str)

X, y = np.ones((20, 3)), np.arange(20.0)


# Regression

regressor = GNRegressor(
    (10, 10), activation="tanh", loss="squared_error", damping=0.1, l2_regularization="evidence", random_state=0
)
assert_type(regressor.fit(X, y), GNRegressor)
assert_type(regressor.fit(X, y, np.ones(20), X_val=X, y_val=y).partial_fit(X, y), GNRegressor)
assert_type(regressor.predict(X), np.ndarray)
assert_type(regressor.predict(X, return_std=False), np.ndarray)
assert_type(regressor.predict(X, return_std=True), tuple[np.ndarray, np.ndarray])
assert_type(regressor.predict(X, return_cov=True), tuple[np.ndarray, np.ndarray])
assert_type(regressor.predict_quantiles(X, [0.05, 0.95]), np.ndarray)
assert_type(regressor.predict_interval(X, coverage=0.8, calibrate=True), np.ndarray)
assert_type(regressor.sample_y(X, 3), np.ndarray)
assert_type(regressor.epistemic_std(X), np.ndarray)
assert_type(GNRegressor(loss="quantile", quantile=[0.1, 0.9]), GNRegressor)
assert_type(GNRegressor(loss="quantile", quantile=np.array([0.1, 0.9])), GNRegressor)
assert_type(GNRegressor(np.array([5, 5]), categorical_features=np.array([True, False, False])), GNRegressor)
mean, std = regressor.predict(X, True)
assert_type(std, np.ndarray)


def predict(with_std: bool) -> np.ndarray:
    predicted = regressor.predict(X, with_std)
    return predicted[0] if isinstance(predicted, tuple) else predicted


assert_type(regressor.score(X, y), float)
assert_type(regressor.set_params(alpha=2.0), GNRegressor)
assert_type(regressor.get_params(), dict[str, Any])
assert_type(regressor.coefs_, list[np.ndarray])
assert_type(regressor.intercepts_, list[np.ndarray])
assert_type(regressor.n_iter_, int)
assert_type(regressor.loss_, float)
assert_type(regressor.loss_curve_, list[float])
assert_type(regressor.history_, dict[str, np.ndarray])
assert_type(regressor.status_, str)
assert_type(regressor.status_message_, str)
assert_type(regressor.solver_, str)
assert_type(regressor.damping_, float)
assert_type(regressor.log_evidence_, float | None)
assert_type(regressor.n_effective_parameters_, float)
assert_type(regressor.n_outputs_, int)
assert_type(regressor.n_features_in_, int)
assert_type(regressor.feature_names_in_, np.ndarray)
assert_type(regressor.feature_relevance_, np.ndarray)
assert_type(regressor.feature_importances_, np.ndarray)
assert_type(regressor.noise_distribution_, str)
assert_type(regressor.noise_std_, float | np.ndarray)
assert_type(regressor.estimators_[0].weights, np.ndarray)
print({name: values[-1] for name, values in regressor.history_.items()}, regressor.preprocessor_)


# Classification

classifier = GNClassifier(class_weight={"no": 2.0}, early_stopping=True)
assert_type(classifier.fit(X, y > 9), GNClassifier)
assert_type(classifier.partial_fit(X, y > 9, classes=[False, True]), GNClassifier)
assert_type(classifier.predict(X), np.ndarray)
assert_type(classifier.predict_proba(X), np.ndarray)
assert_type(classifier.mutual_information(X), np.ndarray)
assert_type(classifier.predict_log_proba(X), np.ndarray)
assert_type(classifier.decision_function(X), np.ndarray)
assert_type(classifier.score(X, y > 9), float)
assert_type(classifier.classes_, np.ndarray)
assert_type(classifier.temperature_, float)


# A network of one's own, and networks elsewhere

module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1))
own = GNRegressor(network=module, n_estimators=1).fit(X, y)
assert_type(own.network_, torch.nn.Module)
exported: torch.nn.Module = to_torch(regressor, return_std=True)
to_onnx(classifier, Path("model.onnx"))


# Damping

rules: list[DampingRule] = [
    GainRatio(),
    Constant(0.1, step_size=0.5),
    GeometricDecay(1.0, decay=0.5),
    ProportionalToCurvature(0.1),
    ProportionalToGradient(0.1),
    ProportionalToLoss(0.1),
]


class Halving:
    """A rule of one's own, that inherits from nothing."""

    step_size = 1.0

    def initial(self, at: Iterate) -> float:
        return at.curvature

    def accepted(self, damping: float, gain_ratio: float, at: Iterate) -> float:
        return damping / 2 if gain_ratio > 0.5 else damping

    def rejected(self, damping: float, at: Iterate) -> float | None:
        return None


assert_type(GNRegressor(damping=Halving()), GNRegressor)


# Diagnosis, pictures, theory

assert_type(summarize(regressor), Summary)
assert_type(summarize(regressor).members[0].weight, float)
report = diagnose(regressor, X, y, verbose=False)
assert_type(report, Report)
assert_type(report.advice, list[str])
assert_type(report["weights"], Finding)

assert_type(ConvergenceDisplay.from_estimator(regressor), ConvergenceDisplay)
ConvergenceDisplay.from_estimator(regressor).figure_.savefig("convergence.png")
UncertaintyDisplay.from_estimator(regressor, X, y).figure_.savefig("intervals.png")
assert_type(SpectrumDisplay.from_estimator(regressor), SpectrumDisplay)
assert_type(RelevanceDisplay.from_estimator(regressor).plot(), RelevanceDisplay)
SpectrumDisplay.from_estimator(regressor).figure_.savefig("spectrum.png")
RelevanceDisplay.from_estimator(regressor).figure_.savefig("relevance.png")
assert_type(UncertaintyDisplay.from_estimator(regressor, X, y), UncertaintyDisplay)
assert_type(UncertaintyDisplay.from_predictions(y, mean, std), UncertaintyDisplay)


def draw_search(search: Any) -> GridDisplay:
    GridDisplay.from_search(search).figure_.savefig("grid.png")
    return GridDisplay.from_search(search)


for flow in (gauss_newton_flow, levenberg_marquardt_flow, gradient_flow):
    trajectory = flow(regressor, X, y, t_end=1.0)
    assert_type(trajectory, Trajectory)
    assert_type(trajectory.rate(), Rate)


# Stored models

assert_type(SKOPS_TRUSTED, list[str])


def versions(warning: OtherVersionWarning, path: Path) -> str:
    return f"{path}: {warning}"


# Dask

assert_type(DaskGNRegressor(client=None).fit(X, y), DaskGNRegressor)
assert_type(DaskGNClassifier(n_estimators=1).fit(X, y), DaskGNClassifier)
print(DaskGNRegressor().predict(X), DaskGNClassifier().predict_proba(X))
