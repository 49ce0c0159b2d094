"""Spectrum of a linearised network, and the gradient in its metric: of a fitted estimator, and of every iterate.

The eigenvalues are those of the smaller of the Gram matrix G (P x P) and the tangent kernel (n c x n c). A solver adds
the damping to them. Their ratio is the condition of the problem. The Riemannian gradient norm is sqrt(g' G^+ g) for the
gradient g of the data loss. It is the norm of the gradient in output space, projected onto the range of the Jacobian.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from .direction import largest_rank, smaller_system, spectrum
from .estimator import BaseGN, fitted_likelihood, network_on
from .jacobian import Jacobian
from .linear_algebra import cutoff, rounding_unit, to_solver
from .threads import torch_threads

__all__ = ["Spectrum", "SpectrumMonitor", "decompose", "extreme_eigenvalues", "riemannian_gradient_norm"]


class Spectrum(NamedTuple):
    """What one eigendecomposition tells; the names are those of the history and of trajectories."""

    min_eigenvalue: float
    max_eigenvalue: float
    riemannian_gradient_norm: float


def decompose(jacobian: Jacobian, gradient: Tensor, total_weight: float) -> Spectrum:
    """Decompose the smaller system of a Jacobian, for a gradient (P,) of the data loss.

    Raises
    ------
    ValueError
        If this matrix exceeds the available memory.
    """
    matrix = smaller_system(jacobian, total_weight)
    if not bool(torch.isfinite(matrix).all()):
        return Spectrum(math.nan, math.nan, math.nan)
    values, V = torch.linalg.eigh(matrix)
    kept = values > cutoff(values, rounding_unit(jacobian.w))
    if len(matrix) == jacobian.shape[1]:
        parts = (V.mT @ to_solver(gradient)).square() / values
    else:
        # An eigenvector u of J J' / S with eigenvalue e gives one of G: J'u / sqrt(S e).
        Jg = to_solver(jacobian.matvec(gradient.to(jacobian.w)).flatten())
        parts = (V.mT @ Jg).square() / (total_weight * values.square())
    # Rounding may turn 0 negative.
    lowest = max(float(values[-largest_rank(jacobian)]), 0.0)
    return Spectrum(lowest, float(values[-1]), math.sqrt(float(parts[kept].sum())))


def extreme_eigenvalues(estimator: BaseGN, X: Any, y: Any, sample_weight: Any = None) -> tuple[float, float]:
    """Compute the smallest and the largest eigenvalue of the smaller of Gram matrix and tangent kernel.

    The network is the best member, linearised on these data at its noise level. For three or more classes the zeros are
    left out that come of a shift of all outputs, which changes no probability.

    Parameters
    ----------
    estimator : fitted GNRegressor or GNClassifier
    X : array-like or data frame of shape (n_samples, n_features)
    y : array-like of shape (n_samples,) or (n_samples, n_outputs)
    sample_weight : array-like of shape (n_samples,), default=None

    Returns
    -------
    smallest, largest : float
        In units of the standardised target, of a mean over the samples.

    Raises
    ------
    ValueError
        If the matrix exceeds the available memory, or the data do not fit the estimator.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from skgn import GNRegressor
    >>> from skgn.spectrum import extreme_eigenvalues
    >>> X, y = load_diabetes(return_X_y=True)
    >>> model = GNRegressor((5,), n_estimators=1, random_state=0).fit(X, y)
    >>> smallest, largest = extreme_eigenvalues(model, X, y)
    >>> smallest < largest
    True
    """
    with torch_threads(0.0), torch.no_grad():
        objective, w = network_on(estimator, X, y, sample_weight, fitted_likelihood(estimator))
        smallest, largest = spectrum(objective.jacobian(objective.evaluate(w)), None, objective.total_weight)
    # Rounding may turn 0 negative.
    return max(smallest, 0.0), largest


def riemannian_gradient_norm(estimator: BaseGN, X: Any, y: Any, sample_weight: Any = None) -> float:
    """Compute the norm of the gradient in output space, projected onto the range of the Jacobian: sqrt(g' G^+ g).

    It tells what the network could still change in its outputs to fit these data better. The network is the best
    member, linearised on these data at its noise level; g is the gradient of its mean data loss.

    Parameters
    ----------
    estimator : fitted GNRegressor or GNClassifier
    X : array-like or data frame of shape (n_samples, n_features)
    y : array-like of shape (n_samples,) or (n_samples, n_outputs)
    sample_weight : array-like of shape (n_samples,), default=None

    Returns
    -------
    norm : float
        In units of the standardised target, of a mean over the samples.

    Raises
    ------
    ValueError
        If the smaller of Gram matrix and tangent kernel exceeds the available memory, or the data do not fit the
        estimator.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from skgn import GNRegressor
    >>> from skgn.spectrum import riemannian_gradient_norm
    >>> X, y = load_diabetes(return_X_y=True)
    >>> model = GNRegressor((5,), n_estimators=1, random_state=0).fit(X, y)
    >>> 0 < riemannian_gradient_norm(model, X, y) < 1
    True
    """
    return _decompose_on(estimator, X, y, sample_weight).riemannian_gradient_norm


def _decompose_on(estimator: BaseGN, X: Any, y: Any, sample_weight: Any = None) -> Spectrum:
    with torch_threads(0.0), torch.no_grad():
        objective, w = network_on(estimator, X, y, sample_weight, fitted_likelihood(estimator))
        at = objective.evaluate(w)
        jacobian = objective.jacobian(at)
        return decompose(jacobian, objective.gradient(at, jacobian), objective.total_weight)


# Each hook has all of its arguments in its signature, because scikit-learn hands it those that are named there.
class SpectrumMonitor:
    """Callback that adds what the spectrum of each iterate tells to the history of a fit, with scikit-learn >= 1.9.

    After the fit, ``history_`` and the histories of all members (``estimators_``) have the keys "min_eigenvalue",
    "max_eigenvalue" and "riemannian_gradient_norm". They are :func:`extreme_eigenvalues` and
    :func:`riemannian_gradient_norm` on all rows that ``fit`` was given. An iteration costs an eigendecomposition, and
    the posterior twice. One monitor may serve several fits.

    See Also
    --------
    skgn.displays.SpectrumDisplay : Draws the eigenvalues beside the damping.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from skgn import GNRegressor
    >>> from skgn.spectrum import SpectrumMonitor
    >>> X, y = load_diabetes(return_X_y=True)
    >>> model = GNRegressor((5,), n_estimators=1, random_state=0).set_callbacks(SpectrumMonitor()).fit(X, y)
    >>> len(model.history_["min_eigenvalue"]) == model.n_iter_ + 1
    True
    """

    def __init__(self) -> None:
        # For each fit that runs, the figures by the key of the iterate.
        self._found: dict[BaseGN, dict[tuple[float, float], Spectrum]] = {}

    def setup(self, estimator: BaseGN, context: Any) -> None:
        self._found[estimator] = {}

    def teardown(self, estimator: BaseGN, context: Any) -> None:
        del self._found[estimator]

    def on_fit_task_begin(
        self,
        estimator: BaseGN,
        context: Any,
        *,
        X: Any = None,
        y: Any = None,
        metadata: Mapping[str, Any] | None = None,
        fitted_estimator: BaseGN | None = None,
    ) -> None:
        # The first iteration begins at the starting point; every other one where the one before has ended.
        if context.task_name == "iteration" and fitted_estimator is not None:
            self._look(self._found[estimator], fitted_estimator, X, y, metadata)

    def on_fit_task_end(
        self,
        estimator: BaseGN,
        context: Any,
        *,
        X: Any = None,
        y: Any = None,
        metadata: Mapping[str, Any] | None = None,
        fitted_estimator: BaseGN | None = None,
    ) -> None:
        found = self._found[estimator]
        if context.task_name == "iteration" and fitted_estimator is not None:
            self._look(found, fitted_estimator, X, y, metadata)
        elif context.task_name == "fit":
            for member in estimator.estimators_:
                unknown = Spectrum(math.nan, math.nan, math.nan)
                rows = [found.get(key, unknown) for key in _keys(member.history)]
                columns = np.array(rows).T.copy()
                member.history.update(zip(Spectrum._fields, columns, strict=True))

    @staticmethod
    def _look(
        found: dict[tuple[float, float], Spectrum],
        at: BaseGN,
        X: Any,
        y: Any,
        metadata: Mapping[str, Any] | None,
    ) -> None:
        key = _keys(at.history_)[-1]
        if key not in found:
            found[key] = _decompose_on(at, X, y, **(metadata or {}))


def _keys(history: Mapping[str, np.ndarray]) -> list[tuple[float, float]]:
    """Return what tells the iterates of all candidates apart: the time since their start, and the objective."""
    return list(zip(history["time"].tolist(), history["objective"].tolist(), strict=True))
