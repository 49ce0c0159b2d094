"""The joint distribution of new observations at several rows: covariances, and samples of functions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch

from .backend import gigabytes
from .ensemble import Member
from .free_memory import available_memory
from .mixing import targets_of_outputs
from .mixture import Mixture, Stretch, edges_of_members, epistemic_covariance, mixture_mean
from .posterior import Posterior
from .predictive import Predictive
from .scaled_rows import ScaledRows
from .targets import RegressionTarget

__all__ = ["Joint"]

#: Least spread of y, and inverse of the largest one, whose square leaves room for covariances among the floats.
_LEAST_UNIT = 1e-140

#: Arrays of the size of all samples that there are at once, and of the size of the weights that they are drawn with.
_COPIES, _COPIES_OF_WEIGHTS = 7, 4


class Joint(NamedTuple):
    """Members that count, their ``mixture`` at n ``scaled`` rows, and their posteriors.

    Deviations of outputs from those of trained weights are multiplied by ``stretch``.
    """

    target: RegressionTarget
    members: Sequence[Member]
    mixture: Mixture
    posteriors: Sequence[Posterior]
    scaled: ScaledRows
    stretch: Stretch

    def mean_and_covariance(self, device: torch.device) -> tuple[np.ndarray, np.ndarray]:
        """Mean and covariance (n, n) or (n, n, k) of new observations."""
        outputs, _, noise, weights = self.mixture
        scaler, (n, k) = self.target.scaler, outputs[0].shape
        unit = scaler.rescale(np.ones(k))
        if not ((unit > _LEAST_UNIT) & (unit < 1 / _LEAST_UNIT)).all():
            raise ValueError(
                "return_cov=True needs squares of y, and the spread of y is "
                f"{', '.join(f'{each:.3g}' for each in unit)}: predict standard deviations (return_std=True), or fit "
                "with a y that you scale."
            )
        # Squares of the mixture and of a member, four of an output, and rows of its Jacobian; or both sides of the
        # result.
        squares = max(2 * k + 4, k + self.target.n_columns)
        rows = 4 * max(len(posterior.factor) for posterior in self.posteriors)
        _check_memory(
            8.0 * n * (n * squares + rows),
            device,
            f"return_cov=True for {n} rows",
            "predict fewer rows at a time, or their standard deviations",
        )
        with np.errstate(over="ignore", invalid="ignore"):  # What is beyond the floats is infinite.
            covariance = epistemic_covariance(scaler, outputs, self._covariances(device), weights)
            of_noise = [scaler.variance_of(scaler.mean_of(f), 0.0, s) for f, s in zip(outputs, noise, strict=True)]
        diagonal = np.arange(n)
        covariance[np.isnan(covariance)] = np.inf  # Differences of infinite means are nan.
        variance = mixture_mean(of_noise, weights)
        covariance[:, diagonal, diagonal] += np.broadcast_to(np.where(np.isnan(variance), np.inf, variance), (n, k)).T
        covariance = np.moveaxis(covariance, 0, -1)
        covariance *= np.square(unit)
        mean, units_of_y = self.target.mean(outputs, weights), self.target.deviations_of_y(np.ones((1, k)))
        covariance = self.target.in_shape_of_y(covariance)
        # Once for each side: the square of a factor between two columns may be beyond the floats.
        covariance *= units_of_y
        covariance *= units_of_y
        return mean, covariance

    def _covariances(self, device: torch.device) -> Iterator[np.ndarray]:
        """Covariances (k, n, n) of the outputs of one member after another, stretched."""
        for member, posterior in zip(self.members, self.posteriors, strict=True):
            C = posterior.covariance(member.network, member.weights, self.scaled[member.scaling], device)
            if self.stretch.outputs is not None:
                C *= self.stretch.outputs.T[:, :, None]
                C *= self.stretch.outputs.T[:, None]
            yield C

    def samples(self, predictive: Predictive, n_samples: int, rng: np.random.RandomState) -> np.ndarray:
        """Draw functions with noise of their own in each row (n_samples, n, k), in the units of training.

        Each is that of a member, drawn by its weight, with weights from its posterior. Where members count by row, the
        member may be another one at other rows. ``predictive`` is that of the outputs.
        """
        shape = predictive.outputs[0].shape
        largest = max(len(m.weights) + len(p.factor) for m, p in zip(self.members, self.posteriors, strict=True))
        _check_memory(
            8.0 * n_samples * (_COPIES * predictive.outputs[0].size + _COPIES_OF_WEIGHTS * largest),
            torch.device("cpu"),
            f"sample_y of {n_samples} samples at {shape[0]} rows",
            "draw fewer samples at a time",
        )
        edges = edges_of_members(predictive.weights)
        drawn = (rng.random_sample(n_samples)[:, None, None] >= edges[1:]).sum(axis=1)  # (n_samples, n), or one column.
        Z = np.empty((n_samples, *shape))
        for number in np.unique(drawn):
            member, posterior, own = self.members[number], self.posteriors[number], drawn == number
            these = np.flatnonzero(own.any(axis=1))
            draws = posterior.draw(member.network, member.weights, member.total_weight, len(these), rng)
            of_weights = posterior.outputs_of_draws(member.network, member.weights, draws, self.scaled[member.scaling])
            if self.stretch.outputs is not None:
                of_weights *= self.stretch.outputs[..., None]
            f = predictive.outputs[number] + np.moveaxis(of_weights, 2, 0)
            values = predictive.observation.sample(f, predictive.squared_scales[number], rng)
            Z[these] = np.where(own[these, :, None], values, Z[these])
        return targets_of_outputs(Z, self.target.scaler.mixing)


def _check_memory(need: float, device: torch.device, asked: str, instead: str) -> None:
    """Refuse what does not fit in memory before any of it is there."""
    available = available_memory(device)
    if need > available:
        raise ValueError(f"{asked} needs {gigabytes(need)}, but {gigabytes(available)} are available: {instead}.")
