"""What y means: numbers of a regression, or the classes or labels of a classification.

A target has three forms: y as given, encoded (floats, in which rows are merged), and the targets of the network. The
objects of this file lead from each form to the next, and from outputs of networks back to predictions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from scipy.special import expit, log_expit, log_softmax, softmax
from sklearn.utils import check_array
from sklearn.utils.multiclass import type_of_target
from sklearn.utils.validation import column_or_1d

from . import robust_losses
from .cells import check_labels, checked_classes
from .class_weights import ClassWeight, class_factors, proportions, shifted
from .copies import as_observations
from .count_losses import PoissonLoss
from .label_losses import LogLoss, SoftmaxLoss
from .losses import GammaLoss, Loss, SquaredError
from .mixing import variances_of_targets
from .mixture import Mixture, epistemic_variance, mixture_log_probability, predictive_mean, predictive_variance
from .posterior import Posterior
from .preprocessing import TargetScaler
from .rates import are_rates, exposure_of, whole
from .target import Target
from .target_scalers import TargetScaling
from .weighted_rows import unlimited
from .wording import abbreviated

__all__ = ["LOSSES", "ClassificationTarget", "RegressionTarget", "may_combine"]

#: Losses of a regression by name.
_REGRESSION: tuple[type[Loss], ...] = (SquaredError, PoissonLoss, GammaLoss, *robust_losses.REGRESSION)
LOSSES = {loss.name: loss for loss in _REGRESSION}

#: Largest size of a target; differences and predictions beyond the targets stay within the floats.
_LARGEST_TARGET = 1e300

#: Scales from the median beyond which a target is a gross error to the codes of its level.
_GROSS = 3.0

#: Quantiles are the same up to this.
_SAME_LEVEL = 1e-9


def may_combine(loss: str) -> bool:
    """Whether the outputs of a loss by its name may be combinations of the columns of y, or fewer than these."""
    return LOSSES[loss].target_kind == "values" and not LOSSES[loss].predicts_quantiles


@dataclass(frozen=True)
class RegressionTarget(Target):
    """Numbers y (n,), or (n, k) if ``ndim`` is 2, under a loss by its name.

    ``quantile`` is that of ``loss="quantile"``, or there are several, in increasing order. Then each column of y is
    encoded once for each quantile, the columns for the first one before those for the second. The scaler changes
    nothing before :meth:`with_scaler`.
    """

    loss: str
    quantile: float | tuple[float, ...]
    ndim: int
    n_columns: int
    scaler: TargetScaling
    exposure: float | None = None

    @classmethod
    def of(cls, y: np.ndarray, loss: str, quantile: float | tuple[float, ...]) -> RegressionTarget:
        """Learn the shape of y."""
        k = 1 if y.ndim == 1 else y.shape[1]
        return cls(loss, quantile, y.ndim, k, TargetScaler.identity(k))

    def under(self, loss: str, quantile: float | tuple[float, ...]) -> RegressionTarget:
        """Return the same target under another loss, whose outputs must be of the same kind."""
        if LOSSES[loss].target_kind != self.scaler.kind:
            raise ValueError(
                f"loss='{loss}' has outputs of another kind than the loss that was trained before; begin with fit."
            )
        under = replace(self, loss=loss, quantile=quantile)
        if under.n_outputs != self.n_outputs:
            raise ValueError(
                f"quantile={quantile!r} needs {under.n_outputs} outputs, but the networks that were trained before "
                f"have {self.n_outputs}; begin with fit."
            )
        return under

    @property
    def levels(self) -> tuple[float, ...] | None:
        """The quantiles that outputs predict, if there are several for each column of y."""
        return self.quantile if self.loss_class.predicts_quantiles and isinstance(self.quantile, tuple) else None

    @property
    def n_outputs(self) -> int:
        return self.n_columns * len(self.levels or (0,))

    @property
    def _design_effect(self) -> float:
        """How many rows count for one observation; of all losses but that of quantiles 1."""
        quantiles = np.atleast_1d(self.levels or self.quantile)
        return robust_losses.design_effect(quantiles) if self.loss_class.predicts_quantiles else 1.0

    @property
    def loss_class(self) -> type[Loss]:
        """Class of the loss."""
        return LOSSES[self.loss]

    def encode(self, y: Any) -> np.ndarray:
        # Rows on a worker may be none; those of a single machine were counted before.
        with unlimited():
            y = check_array(y, dtype=np.float64, ensure_2d=False, ensure_min_samples=0, input_name="y")
        if y.ndim != self.ndim or (y.ndim == 2 and y.shape[1] != self.n_columns):
            before = f"(n, {self.n_columns})" if self.ndim == 2 else "(n,)"
            raise ValueError(f"y has shape {y.shape}; it must have shape {before} as before.")
        Y: np.ndarray = y.reshape(len(y), self.n_columns)
        largest = np.abs(Y).max(initial=0.0)
        if largest > _LARGEST_TARGET:
            raise ValueError(f"y has values of {largest:g} in size; scale it to at most {_LARGEST_TARGET:g}.")
        self.loss_class.check_support(Y)
        return Y if self.levels is None else np.tile(Y, (1, len(self.levels)))

    def weigh(self, Y: np.ndarray, weight: np.ndarray) -> np.ndarray:
        return weight / self._design_effect

    def as_given(self, weight: np.ndarray) -> np.ndarray:
        given = weight * self._design_effect
        # Whole weights are repetitions, and rounding must not make them others.
        return np.where(np.abs(given - np.rint(given)) <= 1e-12 * given, np.rint(given), given)

    def to_average(self, Y: np.ndarray, weight: np.ndarray) -> np.ndarray:
        """Clip gross errors that the loss forgives: a single one would be the mean of its level.

        Several quantiles are of the same numbers.
        """
        if not self.loss_class.forgives:
            return Y[:, : self.n_columns]
        scaler = self.loss_class.fit_scaler(Y, weight)
        reach = _GROSS * scaler.rescale(1.0)
        centre = scaler.targets_of(np.zeros_like(reach))
        return np.clip(Y, centre - reach, centre + reach)[:, : self.n_columns]

    def with_scaler(self, fit_scaler: Callable[[type[Loss]], TargetScaling]) -> RegressionTarget:
        return replace(self, scaler=fit_scaler(self.loss_class)).mixed(self.scaler.mixing)

    def mixed(self, mixing: np.ndarray | None) -> RegressionTarget:
        """Return the target of networks whose outputs are such combinations of it (:mod:`skgn.mixing`)."""
        if mixing is None:
            return self
        assert isinstance(self.scaler, TargetScaler)
        return replace(self, scaler=replace(self.scaler, mixing=mixing))

    def going_on(self, fresh: RegressionTarget, y: np.ndarray) -> RegressionTarget:
        """Return the target of a fit to y that goes on from a fit with this one: a fresh target, with the same outputs.

        Raises
        ------
        ValueError
            If a column of y had no output, and needs one now.
        """
        same = (fresh.ndim, fresh.n_columns) == (self.ndim, self.n_columns)
        may_be_same = same and may_combine(self.loss) and may_combine(fresh.loss)
        return self._with_same_outputs(fresh, y) if may_be_same else fresh

    def _with_same_outputs(self, fresh: RegressionTarget, y: np.ndarray) -> RegressionTarget:
        return fresh.mixed(self.scaler.mixing)

    def with_exposure(self, Y: np.ndarray, weight: np.ndarray) -> RegressionTarget:
        counts = self.loss_class.target_kind == "counts"
        return replace(self, exposure=exposure_of(self.training_loss(), Y, weight)) if counts else self

    def repetition_factor(self, Y: np.ndarray, weight: np.ndarray) -> float:
        # Weights of numbers with fractions may be exposures of counts.
        may_be_rates = self.loss_class.target_kind == "counts" and not whole(Y)
        return 1.0 if may_be_rates else super().repetition_factor(Y, weight)

    def merges(self, Y: np.ndarray, weight: np.ndarray) -> bool:
        # Rates of 0 would be one observation each for equal inputs, and others would not.
        return not (self.loss_class.target_kind == "counts" and are_rates(Y, weight))

    def observations(self, X: np.ndarray, Y: np.ndarray, weight: np.ndarray) -> np.ndarray:
        if self.exposure is not None:
            return weight / self.exposure
        return self.weigh(Y, as_observations(X, Y, self.as_given(weight)))

    def in_units_of(self, Y: np.ndarray, weight: np.ndarray) -> tuple[Target, np.ndarray, np.ndarray]:
        other = self.with_scaler(lambda loss: loss.fit_scaler(Y, weight))
        scaler: Any = self.scaler
        with unlimited():
            if scaler.suits(other.scaler):
                return self, *self.same_units()
            return other, *scaler.units_of(other.scaler)

    def transform(self, Y: np.ndarray) -> np.ndarray:
        with unlimited():
            return self.scaler.transform(Y)

    def training_loss(self) -> Loss:
        each = self.quantile if isinstance(self.quantile, float) else np.repeat(self.quantile, self.n_columns)
        loss = self.loss_class.for_scaler(self.scaler, each).mixed(self.scaler.mixing)
        return loss if self.exposure is None else loss.of_rates(self.exposure)

    def likelihood(self, posterior: Posterior | None) -> Loss:
        loss = self.training_loss()
        if posterior is None:
            return loss
        return loss.at_precision(torch.from_numpy(loss.variance_factor / posterior.noise_variance))

    def noise_std(self, posterior: Posterior | None) -> float | np.ndarray:
        """Standard deviation of the noise by a member's posterior, in the units of y; nan if it is unknown."""
        variance = np.full(self.n_outputs, np.nan)
        if posterior is not None:
            variance = variances_of_targets(posterior.noise_variance, self.scaler.mixing)
        noise = self.deviations_of_y(self.scaler.rescale(np.sqrt(variance))[None])[0]
        return noise if np.ndim(noise) else float(noise)

    def squared_scale(self, noise: np.ndarray) -> np.ndarray:
        """Squared scale of noise of this variance, (k,) or (n, k), in the units of the network."""
        loss = self.training_loss()
        return loss.scale_of_observation(noise / loss.variance_factor)

    def mean(self, outputs: Iterable[np.ndarray], weights: Any) -> np.ndarray:
        """Predicted mean in the shape of y, for outputs (n, k) of each member.

        Several quantiles are (n, q) or (n, q, n_columns). Sorted, they never cross, and are closer to the true ones
        (Chernozhukov, Fernandez-Val and Galichon, Quantile and probability curves without crossing, Econometrica 2010).
        """
        with unlimited():
            mean = self.means_of_y(predictive_mean(self.scaler, outputs, weights))
        return mean if self.levels is None else np.sort(mean, axis=1)

    def std(self, mixture: Mixture) -> np.ndarray:
        """Standard deviation of a new observation in the shape of y."""
        with unlimited():
            return self._deviation(predictive_variance(self.scaler, mixture))

    def epistemic_std(self, mixture: Mixture) -> np.ndarray:
        """Standard deviation of the predicted mean in the shape of y."""
        with unlimited():
            return self._deviation(epistemic_variance(self.scaler, mixture))

    def _deviation(self, variance: np.ndarray) -> np.ndarray:
        # Differences of infinite means are nan.
        std = np.sqrt(np.where(np.isnan(variance), np.inf, variance))
        return self.deviations_of_y(self.scaler.rescale(std))

    def in_units_of_y(self, Z: np.ndarray) -> np.ndarray:
        """Several targets (q, n, k) of the network for each row as values of y, (n, q) or (n, q, k)."""
        with unlimited():
            return self.means_of_y(np.moveaxis(self.scaler.targets_of(Z), 0, 1))

    def positions(self, levels: np.ndarray) -> list[int]:
        """Find the given quantiles among those that the networks predict."""
        known = np.atleast_1d(self.quantile)
        apart = np.abs(known - levels[:, None])
        if not (apart.min(axis=1) < _SAME_LEVEL).all():
            both = np.union1d(known.round(9), levels.round(9)).tolist()
            raise ValueError(
                f"loss='quantile' was fitted with quantile={self.quantile}, and predicts no other; got "
                f"{levels.round(9).tolist()}: fit with quantile={both}."
            )
        return apart.argmin(axis=1).tolist()

    def in_shape_of_y(self, values: Any) -> Any:
        """Values (n, n_outputs), an array or a tensor, in the shape of y; quantiles are an axis before its columns."""
        if self.levels is not None:
            values = values.reshape(-1, len(self.levels), self.n_columns)
        return values[..., 0] if self.ndim == 1 else values

    # What tells columns of y that networks do not have (redundant_targets).
    means_of_y = deviations_of_y = probabilities_of_y = in_shape_of_y


@dataclass(frozen=True)
class ClassificationTarget(Target):
    """Labels y (n,) among sorted classes, or, if ``multilabel``, indicators (n, k) of labels.

    Classes are encoded as their positions, labels as they are. ``factors`` (k,) are the weights of the classes in
    predictions, None if they are all alike.
    """

    classes: np.ndarray
    multilabel: bool
    factors: np.ndarray | None = None

    @classmethod
    def of(cls, y: np.ndarray, classes: Any = None) -> ClassificationTarget:
        """Learn what kind of labels y holds, and its classes unless they are given."""
        check_labels(y)
        if type_of_target(y, input_name="y") == "multilabel-indicator":
            return cls(np.arange(y.shape[1]), True)
        return cls(np.unique(column_or_1d(y, warn=True)) if classes is None else checked_classes(classes), False)

    @classmethod
    def of_stream(cls, y: np.ndarray, classes: Any) -> ClassificationTarget:
        """Learn from the first block of a stream what kind of labels y holds; only indicators tell all ``classes``."""
        check_labels(y)
        if classes is None and type_of_target(y, input_name="y") != "multilabel-indicator":
            raise ValueError("classes must be passed on the first call to partial_fit.")
        return cls.of(y, classes)

    def under(self, class_weight: ClassWeight, totals: np.ndarray) -> ClassificationTarget:
        """Return the same target under class weights, for classes that have rows of these ``totals`` (k,)."""
        if self.multilabel:
            raise ValueError("class_weight is not defined for a multilabel y; pass sample_weight or None.")
        return replace(self, factors=class_factors(class_weight, self.classes, totals))

    def going_on(self, fresh: ClassificationTarget) -> ClassificationTarget:
        """Return the target of a fit that goes on from a fit with this one: a fresh target, with the same classes.

        Raises
        ------
        ValueError
            If the classes are others, even as many: weights would tell the wrong ones.
        """
        if not np.array_equal(self.classes, fresh.classes):
            was, now = (abbreviated(target.classes.tolist()) for target in (self, fresh))
            raise ValueError(
                f"warm_start=True needs the classes of the previous fit: these were {was}, now y has {now}."
            )
        return fresh

    def check_classes(self, classes: Any) -> None:
        """Refuse ``classes`` of a later block of a stream if they are others than before; None is none."""
        if classes is not None and not np.array_equal(self.classes, checked_classes(classes)):
            raise ValueError(
                f"`classes={classes!r}` is not the same as on last call to partial_fit, was: {self.classes!r}"
            )

    @property
    def is_multiclass(self) -> bool:
        """Whether each of three classes or more has an output."""
        return not self.multilabel and len(self.classes) > 2

    @property
    def n_outputs(self) -> int:
        return len(self.classes) if self.multilabel or self.is_multiclass else 1

    def encode(self, y: Any) -> np.ndarray:
        if self.multilabel:
            Y = check_array(y, dtype=np.float64, ensure_min_samples=0, input_name="y")
            if Y.shape[1] != (n := len(self.classes)):
                raise ValueError(f"y must be an indicator matrix of {n} labels, as in training, got {Y.shape[1]}.")
            if len(others := np.setdiff1d(Y, (0, 1))):
                raise ValueError(f"y must be an indicator matrix of 0 and 1, got {others[0]:g}: y > 0 may be meant.")
            return Y
        y = column_or_1d(y)
        unknown = np.setdiff1d(y, self.classes)
        if len(unknown):
            raise ValueError(f"y contains the labels {unknown.tolist()}, which are not among {self.classes}.")
        return np.searchsorted(self.classes, y)[:, None].astype(np.float64)

    def weigh(self, Y: np.ndarray, weight: np.ndarray) -> np.ndarray:
        """Leave out the rows of classes of weight 0; the weights of all others count in predictions."""
        return np.where(self.row_factors(Y) > 0, weight, 0.0)

    def row_factors(self, Y: np.ndarray) -> np.ndarray:
        """Class weights (n,) of rows: under these weights their labels have the predicted probabilities."""
        return np.ones(len(Y)) if self.factors is None else self.factors[Y[:, 0].astype(int)]

    def observations(self, X: np.ndarray, Y: np.ndarray, weight: np.ndarray) -> np.ndarray:
        return as_observations(X, Y, weight, labels=True)

    def class_totals(self, Y: np.ndarray, weight: np.ndarray) -> np.ndarray:
        # Rounded once, so that the order of the rows does not matter.
        labels = Y[:, 0].astype(int)
        return np.array([math.fsum(weight[labels == label].tolist()) for label in range(len(self.classes))])

    def to_average(self, Y: np.ndarray, weight: np.ndarray) -> np.ndarray:
        """Return indicators of the labels, or of the classes that have rows; of two of these, that of the last."""
        if self.multilabel:
            return Y
        present = np.unique(Y)
        return (Y == (present if len(present) > 2 else present[-1:])).astype(float)

    def strata(self, Y: np.ndarray) -> np.ndarray | None:
        return None if self.multilabel else Y[:, 0]

    def with_scaler(self, fit_scaler: Callable[[type[Loss]], TargetScaling]) -> ClassificationTarget:
        return self

    def transform(self, Y: np.ndarray) -> np.ndarray:
        return np.eye(len(self.classes))[Y[:, 0].astype(int)] if self.is_multiclass else Y

    def training_loss(self) -> Loss:
        return SoftmaxLoss() if self.is_multiclass else LogLoss()

    def likelihood(self, posterior: Posterior | None) -> Loss:
        return self.training_loss()

    def log_proba(self, outputs: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Logarithms of the members' weighted mean probabilities, (n, n_classes), for outputs (members, n, k)."""
        if self.is_multiclass:
            log_p = mixture_log_probability(log_softmax(outputs, axis=2), weights)
        else:
            log_p, complement = self._log_mixture(outputs, weights)
            if not self.multilabel:
                log_p = np.zeros_like(log_p) if len(self.classes) == 1 else np.hstack([complement, log_p])
        return log_p if self.factors is None else shifted(log_p, self.factors)

    def probabilities(self, outputs: np.ndarray) -> np.ndarray:
        """Probabilities (members, n, n_classes) for outputs (members, n, k); of labels (members, n, k, 2)."""
        if self.is_multiclass:
            p = softmax(outputs, axis=2)
        else:
            both = expit(np.stack([-outputs, outputs], axis=3))
            if self.multilabel:
                return both
            p = np.ones_like(outputs) if len(self.classes) == 1 else both[:, :, 0]
        if self.factors is not None:
            p = p * proportions(self.factors)
            p /= p.sum(axis=2, keepdims=True)
        return p

    def scores(self, outputs: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Log odds, or of more than two classes log probabilities, of the same mean probabilities."""
        if self.is_multiclass:
            return self.log_proba(outputs, weights)
        positive, negative = self._log_mixture(outputs, weights)
        if self.multilabel:
            return positive - negative
        scores = (positive - negative)[:, 0]
        if self.factors is None or len(self.classes) == 1:
            return scores
        return scores + np.diff(np.log(proportions(self.factors)))

    def labels(self, scores: np.ndarray) -> np.ndarray:
        """The most probable class for :meth:`scores`, or all labels with a probability above one half."""
        if self.multilabel:
            return (scores > 0).astype(int)
        if len(self.classes) == 1:
            return np.full(len(scores), self.classes[0])
        return self.classes[(scores > 0).astype(int) if len(self.classes) == 2 else scores.argmax(axis=1)]

    def _log_mixture(self, logits: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Log mean probabilities (n, k) for logits (members, n, k), and those of the complements."""
        positive, negative = (mixture_log_probability(log_expit(f), weights) for f in (logits, -logits))
        return positive, negative
