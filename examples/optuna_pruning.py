"""
Optuna with a pruner that reads the validation curve
====================================================

Optuna tries settings of a plain network, without evidence, on a split of the diabetes data. A callback reports the
validation loss of each iteration while the fit runs; where that is worse than the median of the trials before, it
raises ``TrialPruned``, which ends the fit within the iteration. Needs ``pip install optuna "scikit-learn>=1.9"``.
"""

from __future__ import annotations

from typing import Any

import optuna
from sklearn.datasets import load_diabetes
from sklearn.model_selection import train_test_split

from skgn import GNRegressor

X, y = load_diabetes(return_X_y=True)
X_rest, X_test, y_rest, y_test = train_test_split(X, y, random_state=0)
X_train, X_val, y_train, y_val = train_test_split(X_rest, y_rest, random_state=0)


class Pruning:
    """A callback of scikit-learn's protocol: it is called at the begin and the end of each task of a fit."""

    def __init__(self, trial: optuna.Trial) -> None:
        self.trial = trial

    def setup(self, estimator: Any, context: Any) -> None:
        """Nothing to prepare."""

    def teardown(self, estimator: Any, context: Any) -> None:
        """Nor to clear away."""

    def on_fit_task_begin(self, estimator: Any, context: Any) -> None:
        """Only the ends count."""

    def on_fit_task_end(self, estimator: Any, context: Any, *, fitted_estimator: Any = None) -> None:
        """Report an iteration; ``fitted_estimator`` is the network as it is then, None if it took no step."""
        if context.task_name != "iteration" or fitted_estimator is None:
            return
        self.trial.report(fitted_estimator.history_["validation_loss"][-1], fitted_estimator.n_iter_)
        if self.trial.should_prune():
            raise optuna.TrialPruned


def network(parameters: dict[str, Any], **more: Any) -> GNRegressor:
    """Return the network of a trial."""
    parameters = parameters | {"hidden_layer_sizes": (parameters["hidden_layer_sizes"],)}
    return GNRegressor(**parameters, early_stopping=True, random_state=0, **more)


def objective(trial: optuna.Trial) -> float:
    """Lowest validation loss of a fit, one member so that there is one curve."""
    parameters = {
        "hidden_layer_sizes": trial.suggest_int("hidden_layer_sizes", 2, 40, log=True),
        "l2_regularization": trial.suggest_float("l2_regularization", 1e-5, 1.0, log=True),
        "alpha": trial.suggest_float("alpha", 0.1, 10.0, log=True),
    }
    model = network(parameters, n_estimators=1).set_callbacks(Pruning(trial))
    model.fit(X_train, y_train, X_val=X_val, y_val=y_val)
    return float(model.history_["validation_loss"].min())


optuna.logging.set_verbosity(optuna.logging.WARNING)
study = optuna.create_study(
    sampler=optuna.samplers.TPESampler(seed=0), pruner=optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=1)
)
study.optimize(objective, n_trials=40)

pruned = study.get_trials(states=[optuna.trial.TrialState.PRUNED])
iterations = sum(len(trial.intermediate_values) for trial in study.trials)
print(f"{len(study.trials)} trials in {iterations} iterations, {len(pruned)} pruned")
print(f"best: validation loss {study.best_value:.3f} with {study.best_params}")

# Four members of the best setting, beside the evidence, which needs no validation set and no search.
tuned = network(study.best_params).fit(X_train, y_train, X_val=X_val, y_val=y_val)
evidence = GNRegressor(random_state=0).fit(X_rest, y_rest)
print(f"test R2: {tuned.score(X_test, y_test):.3f} tuned, {evidence.score(X_test, y_test):.3f} by evidence, untuned")
