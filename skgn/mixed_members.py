"""The members of a fitted regressor, mixed at rows to predict, and the distribution of new observations there."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from sklearn.base import RegressorMixin
from sklearn.utils.validation import check_is_fitted

from .backend import linear_algebra_device, resolve_device
from .estimator import BaseGN, known_posteriors
from .joint import Joint
from .mixture import UNSTRETCHED, Mixture, Stretch, voters
from .noise import InputNoise
from .observation import Observation, StudentTObservation
from .posterior import Posterior
from .predictive import Predictive
from .scaled_rows import ScaledRows, outputs_of_voters
from .targets import RegressionTarget

__all__ = [
    "MixedRegressor",
    "input_noise",
    "joint_at",
    "mean_at",
    "mixture_at",
    "observation_of",
    "posteriors",
    "predictive_at",
    "predictive_of_outputs",
    "solver_device",
    "votes_by_row",
]


class MixedRegressor(RegressorMixin, BaseGN):
    """A regressor, by what its predictions rest on."""

    _target: RegressionTarget
    # Defaults for models of versions without these.
    _noise: InputNoise | None = None
    _degrees_of_freedom: float = math.inf
    _votes_by_row: bool

    _needed = (*BaseGN._needed, "_votes_by_row")


def input_noise(regressor: MixedRegressor) -> InputNoise | None:
    """Return how the noise of a fitted regressor depends on the inputs; None where it is constant."""
    check_is_fitted(regressor)
    return regressor._noise


def votes_by_row(regressor: MixedRegressor) -> bool:
    """Return whether members of a fitted regressor count at each row by how sure they are there."""
    check_is_fitted(regressor)
    return regressor._votes_by_row


def posteriors(regressor: MixedRegressor, asked: str = "return_std=True", of_mean: bool = True) -> list[Posterior]:
    """Return the posteriors of the members that count; a ValueError says why, if one has none.

    ``of_mean`` is whether the observation must have a variance around its mean, for what was ``asked``.
    """
    without_std = regressor._target.loss_class.without_std
    if of_mean and without_std:
        raise ValueError(f"{asked} has no meaning here: {without_std}.")
    return known_posteriors(regressor, asked)


def observation_of(regressor: MixedRegressor, asked: str) -> Observation:
    """New observations around the outputs of networks; a ValueError says why there are none."""
    loss = regressor._target.training_loss()
    observation = loss.observation()
    if observation is None:
        raise ValueError(f"{asked} has no meaning here: {loss.without_std}.")
    return observation


def mean_at(regressor: MixedRegressor, scaled: ScaledRows) -> np.ndarray:
    """Predicted means at rows; several quantiles, where the loss has them."""
    mixture = _voters_at(regressor, scaled, posteriors(regressor) if regressor._votes_by_row else [])
    return regressor._target.mean(mixture.outputs, mixture.weights)


def mixture_at(regressor: MixedRegressor, scaled: ScaledRows, known: Sequence[Posterior]) -> Mixture:
    """The members that count, with variances from their posteriors, and noise as wide as it is at these rows."""
    return _voters_at(regressor, scaled, known).stretched(_stretch_at(regressor, scaled))


def predictive_at(regressor: MixedRegressor, scaled: ScaledRows, asked: str) -> Predictive:
    """Distribution of new observations at rows, of standardised targets."""
    observation = observation_of(regressor, asked)
    mixture = mixture_at(regressor, scaled, posteriors(regressor, asked, of_mean=False))
    return predictive_of_outputs(regressor, observation, mixture).of_targets(regressor._target.scaler.mixing)


def predictive_of_outputs(regressor: MixedRegressor, observation: Observation, mixture: Mixture) -> Predictive:
    """Distribution of the networks' targets, of which those of y may be combinations."""
    target = regressor._target
    outputs = [target.training_loss().of_observation(f) for f in mixture.outputs]
    scales = [target.squared_scale(variance) for variance in mixture.noise]
    if math.isfinite(regressor._degrees_of_freedom):
        # The noise keeps its variance.
        observation = StudentTObservation(regressor._degrees_of_freedom)
        scales = [variance / observation.variance_factor for variance in scales]
    return Predictive(observation, outputs, mixture.variances, scales, mixture.weights)


def joint_at(regressor: MixedRegressor, scaled: ScaledRows, known: Sequence[Posterior]) -> Joint:
    """New observations at all of these rows together, from the posteriors of the members that count."""
    (members, _), stretch = voters(regressor.estimators_, regressor.weights_), _stretch_at(regressor, scaled)
    mixture = _voters_at(regressor, scaled, known).stretched(stretch)
    return Joint(regressor._target, members, mixture, known, scaled, stretch)


def solver_device(regressor: MixedRegressor) -> torch.device:
    """Where dense systems of a regressor are solved."""
    return linear_algebra_device(resolve_device(regressor.device))


def _voters_at(regressor: MixedRegressor, scaled: ScaledRows, known: Sequence[Posterior]) -> Mixture:
    """The members that count, with variances from posteriors if known, and noise that is the same everywhere."""
    outputs, weights = outputs_of_voters(regressor, scaled)
    variances, noise = _variances(regressor, scaled, known), [posterior.noise_in_mixture for posterior in known]
    return Mixture(list(outputs), variances, noise, weights).voting(regressor._votes_by_row)


def _variances(regressor: MixedRegressor, scaled: ScaledRows, known: Sequence[Posterior]) -> list[np.ndarray]:
    """Variances (n, k) of the outputs of the members that count; none where no posteriors are known."""
    members, _ = voters(regressor.estimators_, regressor.weights_) if known else ([], None)
    return [
        posterior.variance(member.network, member.weights, scaled[member.scaling], solver_device(regressor))
        for member, posterior in zip(members, known, strict=True)
    ]


def _stretch_at(regressor: MixedRegressor, scaled: ScaledRows) -> Stretch:
    """Factors on distances from the predicted mean, where the noise depends on the input."""
    return UNSTRETCHED if regressor._noise is None else regressor._noise.stretch(scaled, solver_device(regressor))
