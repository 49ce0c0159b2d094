"""A fitted estimator as a torch module: plain tensor operations from rows to predictions.

The members' outputs f are those of :meth:`Network.forward <skgn.network.Network.forward>`, their variance
that of :func:`~skgn.posterior.output_variance`; what is here is how an ensemble becomes a prediction.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from ..class_weights import proportions
from ..classifier import GNClassifier
from ..ensemble import Member
from ..estimator import BaseGN, fitted_likelihood, table_and_target
from ..jacobian import Factors
from ..mixed_members import input_noise, posteriors, votes_by_row
from ..mixture import UNSTRETCHED, Mixture, Stretch, mixture_mean, predictive_mean, predictive_variance, voters
from ..noise import InputNoise, log_factor
from ..posterior import Posterior, output_variance
from ..regressor import GNRegressor
from ..targets import ClassificationTarget, RegressionTarget
from .inputs import Encoder, make_scaling

__all__ = ["ClassifierModule", "RegressorModule", "check_exportable", "to_torch"]


class _Output(NamedTuple):
    """Outputs f (n, k) of a member, and with a posterior their ``variance`` (n, k) and that of the ``noise`` (k,)."""

    f: Tensor
    variance: Any = None
    noise: Any = None


class _Member(nn.Module):
    """One network, at inputs in its scaling."""

    weights: Tensor
    anchor: Tensor | None

    def __init__(self, member: Member, posterior: Posterior | None) -> None:
        super().__init__()
        self.network, self.scaling = member.network, member.scaling
        self.weights = nn.Parameter(torch.tensor(member.weights))
        self.register_buffer("anchor", None if member.anchor is None else torch.tensor(member.anchor))
        self.posterior = None if posterior is None else _Posterior(posterior, member)

    def forward(self, Z: Tensor) -> _Output:
        U = self.network.with_bias(Z)
        f, tape = self.network.forward(U, self.weights, with_slopes=self.posterior is not None)
        if self.anchor is not None:
            f = f - self.network.forward(U, self.anchor, with_slopes=False)[0]
        if self.posterior is None:
            return _Output(f)
        outputs = Factors.of_outputs(self.network, self.weights, tape)
        return _Output(f, self.posterior(outputs), self.posterior.noise)


class _Posterior(nn.Module):
    """Variance (n, k) of a member's outputs, by the posterior of its weights."""

    inverse_factor: Tensor
    scale: Tensor
    noise: Tensor

    def __init__(self, posterior: Posterior, member: Member) -> None:
        super().__init__()
        self.register_buffer("scale", torch.tensor(posterior.scale, dtype=torch.float64))
        self.register_buffer("noise", torch.tensor(posterior.noise_in_mixture))
        L = torch.tensor(posterior.factor)
        # Inverted once, as ONNX cannot solve triangular systems.
        inverse = torch.linalg.solve_triangular(L, torch.eye(len(L), dtype=L.dtype), upper=False)
        self.register_buffer("inverse_factor", inverse)
        with torch.no_grad():
            training = posterior.training_factors(member.network, torch.tensor(member.weights))
        self.n_layers = 0 if training is None else len(training.D)
        if training is not None:
            for layer, (D, U, a) in enumerate(zip(*training, posterior.precision, strict=True)):
                self.register_buffer(f"D{layer}", D)
                self.register_buffer(f"U{layer}", U)
                self.register_buffer(f"precision{layer}", torch.tensor(a))
        basis = posterior.basis or []
        self.in_basis = [T is not None for T in basis]
        for layer, (T, a) in enumerate(zip(basis, posterior.precision, strict=False)):
            self.register_buffer(f"basis{layer}", torch.tensor(np.zeros((0, 0)) if T is None else T))
            self.register_buffer(f"precision{layer}", torch.tensor(a))

    def _layers(self, name: str, count: int) -> list[Tensor]:
        return [getattr(self, f"{name}{layer}") for layer in range(count)]

    def forward(self, outputs: Factors) -> Tensor:
        n, known = self.n_layers, self.in_basis
        training = Factors(self._layers("D", n), self._layers("U", n)) if n else None
        precision = self._layers("precision", n or len(known))
        matrices = self._layers("basis", len(known))
        basis = [T if here else None for T, here in zip(matrices, known, strict=True)] if known else None
        return output_variance(outputs, self.inverse_factor.__matmul__, self.scale, training, precision, basis)


class _Noise(nn.Module):
    """Factors on distances from the predicted mean where the noise depends on the inputs."""

    weights: Tensor
    low: Tensor
    high: Tensor

    def __init__(self, noise: InputNoise) -> None:
        super().__init__()
        self.weighs_rows = noise.weighs_rows
        self.members = nn.ModuleList(_Member(member, None) for member in noise.members)
        for name in ("weights", "low", "high"):
            self.register_buffer(name, torch.tensor(getattr(noise, name)))

    def forward(self, scaled: dict[str, Tensor]) -> Stretch:
        outputs = [member(scaled[str(member.scaling)]).f for member in self.members]
        factor = (log_factor(outputs, self.weights, self.low, self.high) / 2).exp()
        return Stretch(None if self.weighs_rows else factor, factor)


class _Ensemble(nn.Module):
    """What both modules share: rows (n, d) to the outputs of the members that count."""

    member_weights: Tensor

    def __init__(self, estimator: BaseGN, posteriors: Sequence[Posterior] = ()) -> None:
        super().__init__()
        table, _ = table_and_target(estimator)
        self.n_features_in_: int = estimator.n_features_in_
        self.encoder = Encoder(table, self.n_features_in_)
        self.scalings = nn.ModuleDict({name: make_scaling(scaler) for name, scaler in table.scalings.items()})
        members, weights = voters(estimator.estimators_, estimator.weights_)
        self.register_buffer("member_weights", torch.tensor(weights))
        pairs = itertools.zip_longest(members, posteriors)
        self.members = nn.ModuleList(_Member(member, posterior) for member, posterior in pairs)

    def _scaled(self, X: Tensor) -> dict[str, Tensor]:
        if X.ndim != 2 or X.shape[1] != self.n_features_in_:
            raise ValueError(f"X must have shape (n_samples, {self.n_features_in_}), got {tuple(X.shape)}.")
        dtype = next(self.parameters()).dtype
        if dtype != torch.float64:
            raise TypeError(f"An exported module computes in float64, but its weights were converted to {dtype}.")
        X = self.encoder(X.to(dtype))
        return {name: scaling(X) for name, scaling in self.scalings.items()}

    def _outputs(self, scaled: dict[str, Tensor]) -> list[_Output]:
        return [member(scaled[str(member.scaling)]) for member in self.members]


class RegressorModule(_Ensemble):
    """A fitted `GNRegressor`, made by :func:`to_torch`.

    ``forward(X)`` gives what ``predict(X)`` does, and with ``return_std`` a pair as ``predict(X, return_std=True)``.
    """

    def __init__(self, estimator: GNRegressor, return_std: bool) -> None:
        by_row = votes_by_row(estimator)
        super().__init__(estimator, posteriors(estimator) if return_std or by_row else ())
        self.return_std, self.by_row = return_std, by_row
        noise = input_noise(estimator) if return_std else None
        self.noise = None if noise is None else _Noise(noise)
        _, target = table_and_target(estimator)
        assert isinstance(target, RegressionTarget)
        self._target = target
        self._fitted_scaler: Any = target.scaler
        self._statistics = [name for name, value in vars(self._fitted_scaler).items() if isinstance(value, np.ndarray)]
        for name in self._statistics:
            self.register_buffer(f"target_{name}", torch.tensor(getattr(self._fitted_scaler, name)))

    def forward(self, X: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Predictions for rows X (n, n_features), in its dtype."""
        scaled, scaler = self._scaled(X), self._scaler()
        members = self._outputs(scaled)
        outputs, variances, noise = ([getattr(member, name) for member in members] for name in _Output._fields)
        mixture = Mixture(outputs, variances, noise, self.member_weights).voting(self.by_row)
        mean = predictive_mean(scaler, mixture.outputs, mixture.weights)
        mean = _in_dtype_of(X, self._target.means_of_y(mean))
        if self._target.levels is not None:
            mean = mean.sort(1).values
        if not self.return_std:
            return mean
        mixture = mixture.stretched(UNSTRETCHED if self.noise is None else self.noise(scaled))
        std = predictive_variance(scaler, mixture).sqrt()
        return mean, _in_dtype_of(X, self._target.deviations_of_y(scaler.rescale(std)))

    def _scaler(self) -> Any:
        """The target's scaler, of tensors that move with the module."""
        return replace(self._fitted_scaler, **{name: getattr(self, f"target_{name}") for name in self._statistics})


class ClassifierModule(_Ensemble):
    """A fitted `GNClassifier`, made by :func:`to_torch`.

    ``forward(X)`` gives what ``predict_proba(X)`` does, for the ``classes_`` of the estimator.
    """

    temperature: Tensor
    class_factors: Tensor | None

    def __init__(self, estimator: GNClassifier) -> None:
        super().__init__(estimator)
        _, target = table_and_target(estimator)
        assert isinstance(target, ClassificationTarget)
        self.classes_, self.multilabel = target.classes, target.multilabel
        self.register_buffer("temperature", torch.tensor(estimator.temperature_, dtype=torch.float64))
        factors = None if target.factors is None else torch.from_numpy(proportions(target.factors))
        self.register_buffer("class_factors", factors)
        self.loss = fitted_likelihood(estimator)

    def forward(self, X: Tensor) -> Tensor:
        """Probabilities (n, n_classes) for rows X (n, n_features), in its dtype."""
        outputs = [output.f / self.temperature for output in self._outputs(self._scaled(X))]
        p = self._mean(outputs)
        if not self.multilabel and len(self.classes_) == 1:
            p = torch.ones_like(p)
        elif not self.multilabel and len(self.classes_) == 2:
            # The complement by itself: 1 - p would lose its digits where p is near 1.
            p = torch.cat([self._mean([-f for f in outputs]), p], 1)
        if self.class_factors is not None:
            p = p * self.class_factors
            p = p / p.sum(1, keepdim=True)
        return _in_dtype_of(X, p)

    def _mean(self, outputs: list[Tensor]) -> Tensor:
        return mixture_mean([self.loss.inverse_link(f) for f in outputs], self.member_weights)


def _in_dtype_of(X: Tensor, values: Tensor) -> Tensor:
    return values.to(X.dtype) if X.dtype.is_floating_point else values


def check_exportable(estimator: Any) -> None:
    """Raise a TypeError or NotFittedError for what is no fitted estimator of this package."""
    if not isinstance(estimator, (GNRegressor, GNClassifier)):
        raise TypeError(
            f"estimator must be a GNRegressor or GNClassifier, got {type(estimator).__name__}; of a pipeline or search "
            "export the estimator within, such as pipeline[-1] or search.best_estimator_."
        )
    check_is_fitted(estimator)


def to_torch(estimator: GNRegressor | GNClassifier, *, return_std: bool = False) -> RegressorModule | ClassifierModule:
    """Make a torch module of a fitted estimator, with everything inside, from rows to predictions.

    Parameters
    ----------
    estimator : GNRegressor or GNClassifier
        Fitted. Also one of ``skgn.dask``.
    return_std : bool, default=False
        Of a regressor: let the module give a pair, mean and standard deviation of a new observation.

    Returns
    -------
    module : torch.nn.Module
        Takes X (n, n_features), floats with nan for missing cells; categories as codes, as
        ``estimator.preprocessor_[0].transform(table)`` gives them. That step warns of levels that do not match; the
        module does not. Gives what ``predict`` does, of a classifier what ``predict_proba`` does; ``module.classes_``
        are its classes. Results have the dtype of X, and all is computed in float64. The networks' weights are its
        parameters, the rest are buffers. The module can be trained further; the posterior behind the standard deviation
        stays that of the fit. The module is independent of the estimator.

    Raises
    ------
    TypeError
        If the estimator is none of this package, or ``return_std=True`` is asked of a classifier.
    sklearn.exceptions.NotFittedError
        If it is not fitted.
    ValueError
        If ``return_std=True`` and there is no standard deviation: where ``predict`` has none.

    Examples
    --------
    >>> import torch
    >>> from sklearn.datasets import load_diabetes
    >>> from skgn import GNRegressor
    >>> from skgn.export import to_torch
    >>> X, y = load_diabetes(return_X_y=True)
    >>> model = GNRegressor(random_state=0).fit(X, y)
    >>> mean, std = to_torch(model, return_std=True)(torch.from_numpy(X))
    >>> print(torch.allclose(mean, torch.from_numpy(model.predict(X))))
    True
    """
    check_exportable(estimator)
    if isinstance(estimator, GNClassifier):
        if return_std:
            raise TypeError("return_std=True is for regressors: a classifier's probabilities say how sure it is.")
        with torch.device("cpu"):
            return ClassifierModule(estimator).eval()
    with torch.device("cpu"):
        return RegressorModule(estimator, return_std).eval()
