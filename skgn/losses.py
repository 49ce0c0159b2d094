"""Losses l(f, y): value, gradient, curvature root and link in output space, and what else is asked of a likelihood.

The curvature root R (k x c per sample) satisfies ``R R' = d2l / df2``. It is written down directly for each loss.
The square root of the loss itself is never taken. Its Jacobian is 0/0 at a well-fitted sample, and its curvature is not
the generalised Gauss-Newton matrix.
"""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from scipy.stats import norm
from torch import Tensor

from .observation import LogGammaObservation, NormalObservation, Observation
from .preprocessing import TargetScaler
from .target_scalers import FitScaler, TargetScaling, log_scaler

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = [
    "GammaLoss",
    "Loss",
    "NoiseLoss",
    "SquaredError",
    "geometric_mean",
    "relative",
]


class Loss(ABC):
    """A loss with everything that is asked of it; outputs ``f`` and targets ``y`` of a network have shape (n, k).

    Training needs its value, gradient, curvature root and inverse link; all else has a default.
    """

    #: What the parameter ``loss`` of `GNRegressor`, ``noise_distribution_`` and sentences call it.
    name: ClassVar[str] = ""
    distribution: ClassVar[str] = ""
    label: ClassVar[str] = ""

    #: "y >= 0" or "y > 0" where the loss has no value for all targets.
    support: ClassVar[str] = ""

    #: The network's targets are "values", "counts" or "logarithms"; outputs for the last two are logarithms of means.
    target_kind: ClassVar[str] = "values"

    #: Finds the scaler of the targets of a fit.
    fit_scaler: ClassVar[FitScaler] = staticmethod(TargetScaler.fit)

    #: Whether targets far from most others are taken for gross errors.
    forgives: ClassVar[bool] = False

    #: Whether there is noise around the outputs, of one density everywhere. Without, members are mixed by likelihoods.
    has_scale: ClassVar[bool] = False

    #: Whether a squared scale 1 / beta_k of each output is estimated: that of the noise, or the dispersion of counts.
    estimates_scale: ClassVar[bool] = False

    #: The largest beta. Counts scatter as the Poisson distribution says at the least.
    largest_precision: float = math.inf

    #: Variance of the noise in squared scales, beside what the mean tells; of quantiles one number for each output.
    variance_factor: float | np.ndarray = 0.0

    #: Whether the best weights depend on the scale, beyond how much each output counts. Then it is estimated while
    #: training also under a fixed prior.
    depends_on_scale: ClassVar[bool] = False

    #: Whether a new scale changes the gradient so much that the next step needs the new gradient.
    renews_gradient: ClassVar[bool] = False

    #: Mean loss, in nats, up to which the scale is that of greatest likelihood. The evidence may fall on the way to
    #: another scale.
    most_likely_up_to: ClassVar[float] = math.inf

    #: Whether the first step may solve the readout alone.
    readout_first: ClassVar[bool] = False

    #: Whether the scale may depend on the input (``noise="input"``): it is that of the variance, and the same for all
    #: means.
    may_depend_on_input: ClassVar[bool] = False

    #: Why a new observation has no standard deviation; empty where it has one.
    without_std: ClassVar[str] = ""

    #: Whether each output is a quantile of its target, so that one target may have several.
    predicts_quantiles: ClassVar[bool] = False

    #: The losses to try where the training data have outliers; from the second on for gross errors.
    robust_alternatives: ClassVar[tuple[str, ...]] = ()

    #: Whether weights are exposures of rates, each of one observation, and no repetitions.
    has_rates: bool = False

    #: Whether the outputs are logits, which a temperature may divide.
    has_temperature: ClassVar[bool] = False

    #: Whether each output predicts a label of its own, which counts as a sample.
    independent_labels: ClassVar[bool] = False

    #: How the outputs are combinations of targets (:mod:`skgn.mixing`): the score of each target is asked for.
    mixing: np.ndarray | None = None

    #: The noise precisions (k,) that :meth:`at_precision` has set; None before, or without a scale.
    precision: Tensor | None = None

    @property
    def robust_losses(self) -> str:
        """The losses to try where the training data have outliers, as a setting."""
        first, *others = self.robust_alternatives
        return f'loss="{first}"' + "".join(f', or "{name}" for gross errors' for name in others)

    @classmethod
    def for_scaler(cls, scaler: TargetScaling, quantile: float | np.ndarray) -> Loss:
        """The loss that a fit of `GNRegressor` begins with, for the scaler of its target.

        ``quantile`` is the one that all outputs predict, or holds one for each output.
        """
        return cls().at_initial_scale(scaler)

    @classmethod
    def check_support(cls, Y: np.ndarray) -> None:
        """Refuse targets (n, k) that the loss has no value for."""
        lowest = Y.min(initial=np.inf)
        if (cls.support == "y >= 0" and lowest < 0) or (cls.support == "y > 0" and lowest <= 0):
            raise ValueError(f"loss={cls.name!r} needs {cls.support}, got a minimum of {lowest:g}.")

    @staticmethod
    def sizes(Y: np.ndarray) -> np.ndarray:
        """Sizes of the network's targets (n, k) that the loss or its derivatives square."""
        return np.abs(Y)

    @abstractmethod
    def value(self, f: Tensor, y: Tensor) -> Tensor:
        """Loss of each sample, shape (n,)."""

    @abstractmethod
    def gradient(self, f: Tensor, y: Tensor) -> Tensor:
        """Derivative with respect to the outputs, shape (n, k)."""

    def columns(self, k: int) -> int:
        """Columns c of the curvature root for k outputs."""
        return k

    @abstractmethod
    def curvature_root(self, f: Tensor, y: Tensor) -> Tensor:
        """Root R of the curvature, shape (n, k, c)."""

    def curvature_product(self, f: Tensor, y: Tensor, tangent: Tensor) -> Tensor:
        """Compute R R' t for tangents t (n, k) of the outputs."""
        R = self.curvature_root(f, y)
        return (R @ (R.mT @ tangent[:, :, None]))[:, :, 0]

    def curvature_squares(self, f: Tensor, y: Tensor, tangents: Tensor) -> Tensor:
        """Compute t' R R' t for several tangents t, (n, k, m), or the same for all samples, (1, k, m): shape (n, m)."""
        return (self.curvature_root(f, y).mT @ tangents).square().sum(1)

    @abstractmethod
    def inverse_link(self, f: Tensor) -> Tensor:
        """Outputs mapped to the scale of the target: means or probabilities, shape (n, k)."""

    def best_constant(self, mean: Tensor) -> Tensor:
        """Outputs (k,) of the best constant, for the mean of the network's targets; 0 where these are centred."""
        return torch.zeros_like(mean)

    def at_precision(self, beta: Tensor) -> Loss:
        """The loss under the noise precisions beta (k,)."""
        return self

    def mixed(self, mixing: np.ndarray | None) -> Self:
        """The loss of outputs that are such combinations of the targets."""
        return self._with(mixing=mixing)

    def _with(self, **changes: Any) -> Self:
        """The same loss but for such attributes."""
        loss = copy.copy(self)
        vars(loss).update(changes)
        return loss

    def at_initial_scale(self, scaler: TargetScaling) -> Loss:
        """The loss at the noise level that training begins with, for the scaler of its target."""
        scale = scaler.initial_scale
        return self if scale is None else self.at_precision(torch.from_numpy(scale**-2.0))

    def weighted_squares(self, f: Tensor, y: Tensor) -> Tensor:
        """Squared residuals (n, k) by whose mean 1 / beta_k is estimated; an error without a scale."""
        raise NotImplementedError(f"{type(self).__name__} has no scale to estimate.")

    def unit_precision(self, Y: np.ndarray, sample_weight: np.ndarray) -> Tensor | float:
        """Precision (k,) where the network's outputs are 0: that of all targets (n, k), 1 where these are standardised.

        The noise begins at a multiple of it.
        """
        return 1.0

    def squares_weight(self, sample_weight: Tensor) -> Tensor:
        """Weights (n,) with which samples of these weights count in the mean of their squared residuals."""
        return sample_weight

    def of_rates(self, exposure: float) -> Loss:
        """The loss of rates whose weights are their exposures over ``exposure``; an error where there are none."""
        raise NotImplementedError(f"{type(self).__name__} has no rates.")

    def log_density(self, residual: Tensor, squared_scale: Tensor) -> Tensor:
        """Log density of each sample (n,) for residuals (n, k) and their squared scales; an error without a scale.

        Of noise alone the squared scales are 1 / beta_k.
        """
        raise NotImplementedError(f"{type(self).__name__} has no density of residuals.")

    def log_normaliser(self, beta: Tensor) -> float:
        """What precisions (k,) add to the log likelihood of each sample, beside their factor on the loss."""
        return 0.0

    def log_likelihood(self, f: Tensor, y: Tensor) -> Tensor:
        """Log likelihood (n,) at the precisions of the loss, up to a constant; only where no noise has a scale."""
        return -self.value(f, y)

    def standard_noise(self) -> Any:
        """Distribution of the noise at variance 1, of :mod:`scipy.stats`."""
        return norm()

    def observation(self) -> Observation | None:
        """Distribution of a new observation around an uncertain output; None where the loss describes none."""
        return None

    def of_observation(self, f: np.ndarray) -> np.ndarray:
        """Outputs (n, k) as the observation takes them."""
        return f

    def scale_of_observation(self, squared_scale: np.ndarray) -> np.ndarray:
        """Squared scales (k,) as the observation takes them."""
        return squared_scale


class NoiseLoss(Loss):
    """The loss of a noise model with a precision beta_k for each output.

    The loss is minus the log density over the geometric mean of the precisions, up to a constant. For equal precisions
    it is half the squared error near residual 0. The noise of an output has the variance ``variance_factor / beta_k``.
    """

    has_scale = estimates_scale = True
    readout_first = True

    @abstractmethod
    def at_precision(self, beta: Tensor) -> NoiseLoss: ...

    @abstractmethod
    def weighted_squares(self, f: Tensor, y: Tensor) -> Tensor: ...

    @abstractmethod
    def log_density(self, residual: Tensor, squared_scale: Tensor) -> Tensor: ...

    def log_normaliser(self, beta: Tensor) -> float:
        scale, zero = 1 / beta[None], beta.new_zeros(1, len(beta))
        # The density is exp(-beta loss) over its integral; the loss of residual 0 is in a quantile's kink.
        return float(self.log_density(zero, scale) + geometric_mean(beta) * self.value(zero, zero))


class _Relative(NoiseLoss):
    """Noise whose scale weighs the outputs against each other, by ``relative_precision`` (k,), and changes no more."""

    variance_factor = 1.0

    def __init__(self, relative_precision: Tensor | None = None) -> None:
        self.precision = relative_precision

    def _weigh(self, values: Tensor) -> Tensor:
        return values if self.precision is None else values * self.precision.to(values)

    def at_precision(self, beta: Tensor) -> NoiseLoss:
        return self if len(beta) == 1 else self._with(precision=relative(beta))


class SquaredError(_Relative):
    """Half squared error, ``1/2 sum_k r_k (f_k - y_k)^2``: normal noise; R = diag(sqrt r).

    Parameters
    ----------
    relative_precision : Tensor of shape (k,), optional
        r, the noise precision of each output relative to the others; all 1 by default.
    """

    name, distribution, label = "squared_error", "normal", "normal"
    may_depend_on_input = True
    robust_alternatives = ("student_t", "cauchy")

    def value(self, f: Tensor, y: Tensor) -> Tensor:
        return 0.5 * self._weigh((f - y).square()).sum(1)

    def gradient(self, f: Tensor, y: Tensor) -> Tensor:
        return self._weigh(f - y)

    def curvature_root(self, f: Tensor, y: Tensor) -> Tensor:
        n, k = f.shape
        diagonal = f.new_ones(k) if self.precision is None else self.precision.sqrt().to(f)
        return torch.diag(diagonal).expand(n, k, k)

    def inverse_link(self, f: Tensor) -> Tensor:
        return f

    def weighted_squares(self, f: Tensor, y: Tensor) -> Tensor:
        return (f - y).square()

    def log_density(self, residual: Tensor, squared_scale: Tensor) -> Tensor:
        return -0.5 * (residual.square() / squared_scale + (2 * math.pi * squared_scale).log()).sum(1)

    def observation(self) -> Observation:
        return NormalObservation()


class GammaLoss(_Relative):
    """Half the gamma deviance with log link: ``sum_k r_k (exp(t_k - f_k) - 1 - (t_k - f_k))``, where t is log y.

    y has a gamma distribution of mean exp(f) and shape beta_k. On the scale of its logarithm the noise has one density
    everywhere, of precision beta_k. The inverse of beta_k is the squared coefficient of variation of y, estimated by
    Pearson's statistic. R = diag(sqrt(r exp(t - f))).

    Parameters
    ----------
    relative_precision : Tensor of shape (k,), optional
        r, the shape of each output relative to the others; all 1 by default.

    References
    ----------
    P. McCullagh and J. A. Nelder, Generalized linear models, 2nd edition (1989), chapter 8.
    """

    name = distribution = label = "gamma"
    support, target_kind = "y > 0", "logarithms"
    fit_scaler: ClassVar[FitScaler] = staticmethod(log_scaler)

    @staticmethod
    def sizes(Y: np.ndarray) -> np.ndarray:
        with np.errstate(over="ignore"):
            return np.exp(Y)

    def value(self, f: Tensor, y: Tensor) -> Tensor:
        return self._weigh(_half_deviance(f - y)).sum(1)

    def gradient(self, f: Tensor, y: Tensor) -> Tensor:
        return self._weigh(-torch.expm1(y - f))

    def curvature_root(self, f: Tensor, y: Tensor) -> Tensor:
        return torch.diag_embed(self._weigh((y - f).exp()).sqrt())

    def inverse_link(self, f: Tensor) -> Tensor:
        return f.exp()

    def weighted_squares(self, f: Tensor, y: Tensor) -> Tensor:
        return torch.expm1(y - f).square()

    def log_density(self, residual: Tensor, squared_scale: Tensor) -> Tensor:
        """Log density of log y."""
        shape = 1 / squared_scale
        constant = shape * (shape.log() - 1) - torch.lgamma(shape)
        return (constant - shape * _half_deviance(residual)).sum(1)

    def observation(self) -> Observation:
        return LogGammaObservation()


def _half_deviance(residual: Tensor) -> Tensor:
    return torch.expm1(-residual) + residual


def geometric_mean(beta: Tensor) -> Tensor:
    """Geometric mean of precisions (k,)."""
    return beta.log().mean().exp()


def relative(beta: Tensor) -> Tensor:
    """Precisions (k,) over their geometric mean."""
    return beta / geometric_mean(beta)
