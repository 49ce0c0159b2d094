"""GNRegressor: the scikit-learn face of the network for regression."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.utils._param_validation import StrOptions

from .damping import DampingRule
from .estimator import BaseGN
from .losses import Loss, SquaredError
from .preprocessing import TargetScaler

__all__ = ["GNRegressor"]


class GNRegressor(RegressorMixin, BaseGN):
    """Placeholder."""

    _parameter_constraints: dict = {**BaseGN._parameter_constraints, "loss": [StrOptions({"squared_error"})]}

    def __init__(
        self,
        hidden_layer_sizes: int | Sequence[int] = (20,),
        *,
        activation: str = "tanh",
        linear_path: bool = True,
        loss: str = "squared_error",
        alpha: float = 1.0,
        init: str = "random",
        damping: str | float | DampingRule = "adaptive",
        step_size: float = 1.0,
        l2_regularization: str | float = "evidence",
        prior_groups: str = "feature",
        n_estimators: int = 4,
        solver: str = "auto",
        max_iter: int = 100,
        tol: float = 1e-4,
        n_iter_no_change: int = 10,
        standardize: bool = True,
        warm_start: bool = False,
        device: str = "auto",
        dtype: str = "float64",
        record_spectrum: bool = False,
        n_jobs: int | None = None,
        random_state: int | np.random.RandomState | None = None,
        verbose: int | bool = 0,
    ) -> None:
        super().__init__(
            hidden_layer_sizes=hidden_layer_sizes,
            activation=activation,
            linear_path=linear_path,
            alpha=alpha,
            init=init,
            damping=damping,
            step_size=step_size,
            l2_regularization=l2_regularization,
            prior_groups=prior_groups,
            n_estimators=n_estimators,
            solver=solver,
            max_iter=max_iter,
            tol=tol,
            n_iter_no_change=n_iter_no_change,
            standardize=standardize,
            warm_start=warm_start,
            device=device,
            dtype=dtype,
            record_spectrum=record_spectrum,
            n_jobs=n_jobs,
            random_state=random_state,
            verbose=verbose,
        )
        self.loss = loss

    def _target_check(self) -> dict[str, Any]:
        return {"y_numeric": True}

    def _validate_target(self, y: np.ndarray) -> np.ndarray:
        self._y_ndim = y.ndim
        return np.asarray(y, dtype=np.float64).reshape(len(y), -1)

    def _weigh_classes(self, Y: np.ndarray, sample_weight: np.ndarray) -> np.ndarray:
        return sample_weight

    def _training_target(self, Y: np.ndarray, sample_weight: np.ndarray) -> tuple[np.ndarray, Loss]:
        scaler = TargetScaler.fit(Y, sample_weight) if self.standardize else TargetScaler.identity(Y.shape[1])
        self._target_scaler = scaler
        return scaler.transform(Y), SquaredError()

    def predict(self, X: Any) -> np.ndarray:
        """Predict the mean of the target.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        y : ndarray of shape (n_samples,) or (n_samples, n_outputs)
            In the units of y and the float type of X.
        """
        outputs, dtype = self._outputs(X)
        mean = self._target_scaler.inverse_transform(outputs.mean(axis=0)).astype(dtype, copy=False)
        return mean[:, 0] if self._y_ndim == 1 else mean
