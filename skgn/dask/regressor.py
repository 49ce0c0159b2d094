"""DaskGNRegressor: `GNRegressor` on dask arrays and dataframes."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from sklearn.utils.validation import check_array, check_is_fitted

from ..backend import written
from ..candidates import Start
from ..ensemble import Ensemble
from ..limits import Limits
from ..mixed_members import posteriors
from ..noise import Noisy
from ..predictive import checked_levels, interval_levels
from ..preprocessing import TargetScaler
from ..problem import Problem
from ..regressor import GNRegressor
from ..target_scalers import student_scaler
from ..targets import LOSSES
from .estimator import CLIENT, DaskGN, with_client

__all__ = ["DaskGNRegressor"]

#: Losses whose targets are transformed by statistics that are sums over the rows.
_LOSSES = [name for name, loss in LOSSES.items() if loss.fit_scaler in (TargetScaler.fit, student_scaler)]


def _squares(prediction: np.ndarray, y: Any, weight: Any = None, *, centre: np.ndarray) -> np.ndarray:
    """Sums of the squared residuals, of the targets minus a centre and their squares, and of the weights."""
    weight = np.ones(len(prediction)) if weight is None else np.asarray(weight, dtype=np.float64)
    shape = len(weight), len(centre)
    y = check_array(y, dtype=np.float64, ensure_2d=False, ensure_min_samples=0, input_name="y")
    y, prediction = (np.asarray(values, dtype=np.float64).reshape(shape) for values in (y, prediction))
    total = np.full(y.shape[1], weight.sum())
    return np.stack([weight @ (y - prediction) ** 2, weight @ (y - centre), weight @ (y - centre) ** 2, total])


class DaskGNRegressor(DaskGN, GNRegressor):
    """`GNRegressor` on dask arrays and dataframes, by data parallelism.

    Each worker reduces its rows to a Gram matrix, a gradient and a loss. Dask adds these up, and the process that calls
    ``fit`` solves the system. Rows stay on their workers. The weights are those of the single-machine fit up to
    rounding, but for the limits in docs/dask.md. For P weights, a worker sends ``P (P + 1) / 2 + P + 1`` numbers in an
    iteration, and one more for each output; see ``bytes_per_iteration_``.

    The parameters are those of :class:`~skgn.GNRegressor`, with four differences. Losses other than "squared_error" and
    "student_t" are refused, and so is ``noise="input"``. There are no mini-batches and no early stopping. The solver is
    "primal". The device is the CPU of the workers. What is left to the fit is chosen among the same candidates. Ranks
    of more than 5,000 distinct values of a column are approximate.

    Parameters
    ----------
    client : distributed.Client, default=None
        The client to use. None takes :func:`distributed.default_client`. The client is not pickled.

    Attributes
    ----------
    bytes_per_iteration_ : int
        Number of bytes that each worker sends in an iteration of the best member whose first step is accepted.

    Notes
    -----
    ``feature_relevance_`` exchanges values between rows of one worker only, so that it differs from the value of a
    single machine. It is low where the partitions are sorted by a feature. All other attributes are those of
    :class:`~skgn.GNRegressor`.

    See Also
    --------
    skgn.GNRegressor : The estimator itself, and all its parameters.

    Examples
    --------
    >>> import dask.array as da
    >>> from distributed import Client
    >>> from skgn.dask import DaskGNRegressor
    >>> client = Client(n_workers=2)  # doctest: +SKIP
    >>> X = da.random.normal(size=(10_000, 4), chunks=(2_500, 4))
    >>> model = DaskGNRegressor(n_estimators=1).fit(X, X[:, 0] * X[:, 1])  # doctest: +SKIP
    >>> model.predict(X).compute()  # doctest: +SKIP
    """

    _local = GNRegressor
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **GNRegressor._parameter_constraints,
        "client": CLIENT,
    }

    if TYPE_CHECKING:

        def __init__(self, *args: Any, client: Any = None, **parameters: Any) -> None: ...
    else:
        __init__ = with_client(GNRegressor)

    def _check_parameters(self) -> None:
        super()._check_parameters()
        if self.loss not in _LOSSES:
            raise ValueError(
                f"loss={written(self.loss)} has no distributed form; on dask use one of {', '.join(_LOSSES)}."
            )
        if self.noise == "input":
            raise ValueError("noise='input' has no distributed form; on dask use 'auto', which is 'constant'.")

    def _with_noise(self, problem: Problem, starts: list[Start], ensemble: Ensemble, limits: Limits) -> Noisy:
        """Keep it constant: what members predict of left-out samples stays on the workers."""
        return Noisy(ensemble, None)

    @property
    def _y_width(self) -> tuple[int, ...]:
        check_is_fitted(self)
        return () if self._target.ndim == 1 else (self.n_outputs_,)

    # Rows of different blocks are never in one place, which a covariance would need.
    def predict(self, X: Any, return_std: bool = False) -> Any:  # type: ignore[override]
        """Predict the mean of the target and, if asked, the standard deviation of a new observation.

        Parameters
        ----------
        X : dask array or dataframe of shape (n_samples, n_features)
        return_std : bool, default=False
            As in :meth:`skgn.GNRegressor.predict`.

        Returns
        -------
        y_mean : dask array of shape (n_samples,) or (n_samples, n_outputs)
            Lazy predictions, in the units of y and the float type of X.
        y_std : dask array of the same shape
            Only with ``return_std=True``.
        """
        if not return_std:
            return self._map("predict", X, self._y_width)
        width = self._y_width
        # Without a standard deviation, the error comes now rather than on a worker.
        posteriors(self)
        both = self._map("predict", X, (*width, 2), return_std=True)
        return both[..., 0], both[..., 1]

    def predict_quantiles(self, X: Any, quantiles: Any) -> Any:
        """Predict quantiles of new observations.

        Parameters
        ----------
        X : dask array or dataframe of shape (n_samples, n_features)
        quantiles : float or array-like of shape (n_quantiles,)
            As in :meth:`skgn.GNRegressor.predict_quantiles`.

        Returns
        -------
        y_quantiles : dask array of shape (n_samples, n_quantiles) or (n_samples, n_quantiles, n_outputs)
        """
        return self._quantiles(X, checked_levels(quantiles), "predict_quantiles")

    def predict_interval(self, X: Any, coverage: float = 0.9) -> Any:  # type: ignore[override]
        """Predict central intervals of new observations; they cannot be calibrated.

        Parameters
        ----------
        X : dask array or dataframe of shape (n_samples, n_features)
        coverage : float in (0, 1), default=0.9
            Probability that a new observation lies in its interval.

        Returns
        -------
        y_interval : dask array of shape (n_samples, 2) or (n_samples, 2, n_outputs)
        """
        return self._quantiles(X, interval_levels(coverage), "predict_interval")

    def _quantiles(self, X: Any, levels: np.ndarray, asked: str) -> Any:
        width = self._y_width
        posteriors(self, asked)
        return self._map("predict_quantiles", X, (len(levels), *width), quantiles=levels)

    def epistemic_std(self, X: Any) -> Any:
        """Predict the standard deviation of the predicted mean, without the noise.

        Parameters
        ----------
        X : dask array or dataframe of shape (n_samples, n_features)

        Returns
        -------
        std : dask array of the shape of the predictions
        """
        width = self._y_width
        posteriors(self, "epistemic_std")
        return self._map("epistemic_std", X, width)

    @property
    def sample_y(self) -> Any:
        """Raise an AttributeError: a sample is one function of all rows."""
        raise AttributeError(f"{type(self).__name__} has no sample_y; that of to_local() draws for rows in memory.")

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Coefficient of determination of the prediction, the mean over the outputs.

        Parameters
        ----------
        X : dask array or dataframe of shape (n_samples, n_features)
        y : dask array, series or dataframe of shape (n_samples,) or (n_samples, n_outputs)
        sample_weight : dask array or series of shape (n_samples,), default=None

        Returns
        -------
        score : float
            The score, computed from sums over the blocks.
        """
        check_is_fitted(self)
        centre = self._target.scaler.inverse_transform(np.zeros(self.n_outputs_))
        squares_of = partial(_squares, centre=centre)
        residual, deviation, squares, total = self._sum_blocks(squares_of, self.predict(X), y, sample_weight)
        spread = squares - deviation**2 / total
        constant = spread <= 0
        return float(np.mean(np.where(constant, residual == 0, 1 - residual / np.where(constant, 1.0, spread))))
