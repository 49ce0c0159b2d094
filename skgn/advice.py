"""What to change where a fit is not as it should be: settings, written as a user would write them."""

from __future__ import annotations

from typing import Any

import numpy as np

from .classifier import GNClassifier
from .directions import serves_evidence
from .estimator import fitted_likelihood
from .parameters import parameter_defaults
from .regressor import GNRegressor

__all__ = [
    "ELSEWHERE",
    "POSITIVE_LOSS",
    "against_extremes",
    "against_outliers",
    "freed",
    "linear_advice",
    "more_flexible",
    "more_regularisation",
    "noise_of_inputs",
]

#: Advice where the rows are unlike those of training.
ELSEWHERE = "compare the rows of X, y with the training rows: they may have a drift, another unit, or other groups"

#: Advice where targets are positive, and predictions are not.
POSITIVE_LOSS = 'loss="gamma", or the logarithm of y (TransformedTargetRegressor), if no y can be negative'

#: Parameters that leave most to the fit by default.
_FREE = (
    "l2_regularization",
    "hidden_layer_sizes",
    "n_estimators",
    "activation",
    "linear_path",
    "prior_groups",
    "standardize",
)


def more_regularisation(model: GNRegressor | GNClassifier) -> str | None:
    """Advise where a float l2 is too small; None where the evidence has found the precisions."""
    l2 = model.estimators_[0].prior_kind.l2
    if l2 is None:
        return None
    solver = "" if serves_evidence(model.solver) else 'solver="auto" and '
    larger = f"a float above {l2:g}" if l2 > 0 else "a positive float"
    return f'{solver}l2_regularization="evidence", or {larger}'


def linear_advice(model: GNRegressor | GNClassifier) -> str:
    """Advise a linear model, with the evidence where a given float l2 may not suit it."""
    changes = ["hidden_layer_sizes=()"]
    if not isinstance(model.l2_regularization, str):
        changes += ['l2_regularization="evidence"'] + ([] if serves_evidence(model.solver) else ['solver="auto"'])
    return " and ".join(changes) + ", a linear model"


def against_extremes(model: Any) -> str:
    """Advise where targets far from all others outweigh them."""
    losses = fitted_likelihood(model).robust_losses
    return f"{losses}, or the logarithm of y if the extremes are no errors (TransformedTargetRegressor)"


def against_outliers(model: Any) -> str:
    """Advise where outliers in the training data may hide what there is."""
    loss = fitted_likelihood(model).robust_alternatives[0]
    return f'loss="{loss}", as outliers in the training data may have inflated the noise'


def noise_of_inputs(model: GNRegressor) -> str | None:
    """Advise how to fit noise that depends on the inputs; None where the fit already does so.

    Noise that grows with the mean depends on the inputs, too.
    """
    likelihood = fitted_likelihood(model)
    if model.noise_ == "input" or likelihood.target_kind != "values":
        return None
    changes = ['noise="input"']
    if not likelihood.may_depend_on_input:
        changes.append('loss="student_t"')
    if not isinstance(model.l2_regularization, str):
        changes.append('l2_regularization="evidence"')
    return " and ".join(changes)


def freed(model: GNRegressor | GNClassifier) -> str:
    """Advise to leave open what is restricted; empty where nothing is restricted."""
    defaults = parameter_defaults(type(model))
    given = [name for name in _FREE if not np.array_equal(getattr(model, name), defaults[name])]
    return " and ".join(f"{name}={defaults[name]!r}" for name in given).replace("'", '"')


def more_flexible(model: GNRegressor | GNClassifier) -> str:
    """Advise where a fit does not find what there is: more freedom, and wider layers where nothing is restricted."""
    restricted = freed(model)
    if restricted:
        return restricted
    largest = max((member.network for member in model.estimators_), key=lambda network: network.n_weights)
    sizes = largest.hidden_layer_sizes
    return f"hidden_layer_sizes={tuple(2 * size for size in sizes)}, a wider network" if sizes else "a larger network="
