"""Extreme eigenvalues of a linearised network: of a fitted estimator, and of every iterate while it trains.

They are those of the smaller of the Gram matrix G (P x P) and the tangent kernel (n c x n c), to which a solver adds
the damping. Their ratio is the condition of the problem.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from .backend import torch_threads
from .direction import spectrum
from .estimator import BaseGN, fitted_likelihood, network_on

__all__ = ["SpectrumMonitor", "extreme_eigenvalues"]


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


# Each hook has all of its arguments in its signature, because scikit-learn hands it those that are named there.
class SpectrumMonitor:
    """Callback that adds the extreme eigenvalues of each iterate to the history of a fit, with scikit-learn >= 1.9.

    After the fit, ``history_`` and the histories of all members (``estimators_``) have the keys "min_eigenvalue" and
    "max_eigenvalue". They are :func:`extreme_eigenvalues` on all rows that ``fit`` was given. An iteration costs an
    eigendecomposition, and the posterior twice. One monitor may serve several fits.

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
        # For each fit that runs, the eigenvalues by the key of the iterate.
        self._found: dict[BaseGN, dict[tuple[float, float], tuple[float, float]]] = {}

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
                pairs = [found.get(key, (np.nan, np.nan)) for key in _keys(member.history)]
                member.history["min_eigenvalue"], member.history["max_eigenvalue"] = np.array(pairs).T.copy()

    @staticmethod
    def _look(
        found: dict[tuple[float, float], tuple[float, float]],
        at: BaseGN,
        X: Any,
        y: Any,
        metadata: Mapping[str, Any] | None,
    ) -> None:
        key = _keys(at.history_)[-1]
        if key not in found:
            found[key] = extreme_eigenvalues(at, X, y, **(metadata or {}))


def _keys(history: Mapping[str, np.ndarray]) -> list[tuple[float, float]]:
    """What tells the iterates of all candidates apart: the time since their start, and the objective."""
    return list(zip(history["time"].tolist(), history["objective"].tolist(), strict=True))
