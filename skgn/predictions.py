"""What `GNRegressor` predicts: means, and the distribution of new observations around them."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from numbers import Integral
from typing import Any, Literal, overload

import numpy as np
from sklearn.utils import check_random_state, check_scalar
from sklearn.utils.validation import check_is_fitted

from .backend import in_dtype
from .mixed_members import (
    MixedRegressor,
    joint_at,
    mean_at,
    mixture_at,
    observation_of,
    posteriors,
    predictive_at,
    predictive_of_outputs,
    solver_device,
)
from .mixing import targets_of_outputs
from .predictive import checked_levels, interval_levels
from .redundant_targets import quantiles_of_y
from .scaled_rows import ScaledRows, predicted_in_parts, scaled_rows
from .unfamiliar import outside

__all__ = ["Predictions", "observed_probabilities"]


class _Pair(tuple[np.ndarray, np.ndarray]):
    """Means, and their standard deviations or covariances.

    Estimators around a regressor that expect an array say at least what to do.
    """

    __slots__ = ()

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(
            f"predict gives a pair with return_std=True or return_cov=True, which has no {name!r}. An estimator around "
            "the regressor, such as TransformedTargetRegressor, cannot pass it on. Call predict of the regressor "
            "within, such as model.regressor_: the result is in its units. Quantiles, by its predict_quantiles, may be "
            "transformed back."
        )


class Predictions(MixedRegressor):
    """Prediction methods of a regressor."""

    @overload
    def predict(self, X: Any, return_std: Literal[False] = False, return_cov: Literal[False] = False) -> np.ndarray: ...
    @overload
    def predict(
        self, X: Any, return_std: Literal[True], return_cov: Literal[False] = False
    ) -> tuple[np.ndarray, np.ndarray]: ...
    @overload
    def predict(
        self, X: Any, return_std: Literal[False] = False, *, return_cov: Literal[True]
    ) -> tuple[np.ndarray, np.ndarray]: ...
    @overload
    def predict(
        self, X: Any, return_std: bool, return_cov: bool = False
    ) -> np.ndarray | tuple[np.ndarray, np.ndarray]: ...
    def predict(
        self, X: Any, return_std: bool = False, return_cov: bool = False
    ) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
        """Predict the mean of the target and, if asked, the standard deviation of a new observation.

        The mean is that of the members, weighted by ``weights_``, or at each row by these over their variances.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        return_std : bool, default=False
            The standard deviation contains the noise, the uncertainty of the weights (Laplace approximation) and the
            spread of the members. Where the noise depends on the input (``noise_``), it is that at X. With
            ``loss="huber"`` it is that of an observation that is no outlier. With "gamma" the noise is
            that of a gamma distribution around the predicted mean. With "poisson" its variance is the dispersion times
            that mean. Under both the uncertainty of the weights, which is that of a logarithm, counts to first order:
            far from the data quantiles are wider.
        return_cov : bool, default=False
            Covariance of new observations at all rows of X, whose diagonal is the square of the standard deviation.

        Returns
        -------
        y_mean : ndarray of shape (n_samples,) or (n_samples, n_outputs)
            In the units of y and the float type of X; float64 where float32 does not reach. The centre of the noise
            with the losses "student_t", "huber" and "cauchy", and the quantile with "quantile". Several quantiles have
            the shape (n_samples, n_quantiles) or (n_samples, n_quantiles, n_outputs).
        y_std : ndarray of shape (n_samples,) or (n_samples, n_outputs)
            Only with ``return_std=True``.
        y_cov : ndarray of shape (n_samples, n_samples) or (n_samples, n_samples, n_outputs)
            Only with ``return_cov=True``.

        Raises
        ------
        ValueError
            If ``return_std=True`` or ``return_cov=True`` and there is no standard deviation. The noise of "cauchy" has
            no variance, and "quantile" is no mean. A fit with ``l2_regularization=0`` and fewer informative samples
            than weights leaves the weights undetermined. ``solver_`` "cg", and "dual" in batches, have no factorisation
            of all rows. Also if the covariance does not fit in memory, or is beyond the floats (y of 1e-140 or 1e140).
        RuntimeError
            If both are asked for, as :class:`~sklearn.gaussian_process.GaussianProcessRegressor` has it.

        Warns
        -----
        UnfamiliarDataWarning
            If rows are far beyond those of training: their standard deviation is larger, up to where the scaling ends.
            If levels do not match, or a tenth of the rows have cells unlike those of training (docs/guide/tables.md).
        UserWarning
            If numbers are infinite, as a mean beyond the floats is with the losses "poisson" and "gamma", or a standard
            deviation whose square is.
        """
        if return_std and return_cov:
            raise RuntimeError("At most one of return_std or return_cov can be requested.")
        check_is_fitted(self)
        asked = "return_std=True" if return_std else "return_cov=True"
        known = posteriors(self, asked) if return_std or return_cov else []
        if return_cov:
            scaled, dtype = scaled_rows(self, X)
            return _Pair(_finished(dtype, *joint_at(self, scaled, known).mean_and_covariance(solver_device(self))))

        def predict(scaled: ScaledRows) -> tuple[np.ndarray, ...]:
            if not known:
                return (mean_at(self, scaled),)
            mixture = mixture_at(self, scaled, known)
            return self._target.mean(mixture.outputs, mixture.weights), self._target.std(mixture)

        values = _in_parts(self, X, predict)
        return _Pair(values) if known else values[0]

    def predict_quantiles(self, X: Any, quantiles: Any) -> np.ndarray:
        """Predict quantiles of new observations.

        Their distribution is the mixture of those of the members, weighted by ``weights_``. Each contains the noise and
        the uncertainty of the weights (Laplace approximation), as the standard deviation of :meth:`predict` does. A
        quantile is exact for this mixture, without normal approximation. With ``loss="squared_error"`` the noise has
        the tails of ``noise_degrees_of_freedom_``. With ``loss="huber"`` the quantile is that of observations that are
        no outliers. Warnings are those of :meth:`predict`.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        quantiles : float or array-like of shape (n_quantiles,)
            Probabilities, above 0 and below 1, that the observation is not above the prediction. A number counts as a
            list of one. With ``loss="quantile"`` they must be among those of the fit.

        Returns
        -------
        y_quantiles : ndarray of shape (n_samples, n_quantiles) or (n_samples, n_quantiles, n_outputs)
            In the units of y and the float type of X, in the order of ``quantiles``. With ``loss="poisson"`` they are
            whole numbers and not negative, with "gamma" they are positive.

        Raises
        ------
        ValueError
            If ``quantiles`` are no such numbers, or the loss is "quantile" and was not fitted with them. Also where
            :meth:`predict` has no standard deviation, but for the loss "cauchy".
        """
        return self._quantiles(X, checked_levels(quantiles), "predict_quantiles")

    def predict_interval(self, X: Any, coverage: float = 0.9, calibrate: bool = False) -> np.ndarray:
        """Predict central intervals of new observations.

        Below the lower end and above the upper end lies the same part of the distribution. Warnings are those of
        :meth:`predict`.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        coverage : float in (0, 1), default=0.9
            Probability, above 0 and below 1, that a new observation lies in its interval, ends included.
        calibrate : bool, default=False
            False takes the quantiles of :meth:`predict_quantiles`, which are right if the noise is as the fit says.
            True takes the residuals of the training rows in units of their predicted widths, each row predicted without
            itself (the jackknife). The noise may then have any distribution. New rows exchangeable with the training
            rows are covered as promised, in the mean over all rows, if no single row moves the predictions.
            Let leaving one out move a prediction by more than e with probability p. Then intervals that are wider by e
            on either side hold at least ``coverage`` less twice the square root of p [1]_.

        Returns
        -------
        y_interval : ndarray of shape (n_samples, 2) or (n_samples, 2, n_outputs)
            Lower and upper ends, in the units of y and the float type of X. With ``loss="poisson"`` they are whole
            numbers, unless ``calibrate`` is True and y had fractions in training.

        Raises
        ------
        ValueError
            If ``coverage`` is no such number, and where :meth:`predict_quantiles` has no quantiles. With
            ``calibrate=True`` also if the loss is "quantile". The same if the fit knows no residuals of left-out rows,
            as with a float ``l2_regularization``, or too few for this coverage.

        References
        ----------
        .. [1] R. F. Barber, E. J. Candes, A. Ramdas and R. J. Tibshirani, "Predictive inference with the jackknife+",
           Annals of Statistics 49, 2021.
        """
        levels = interval_levels(coverage)
        check_is_fitted(self)
        if not calibrate:
            return self._quantiles(X, levels, "predict_interval")
        if self._target.loss_class.predicts_quantiles:
            raise ValueError(
                "calibrate=True has no meaning for loss='quantile': its kinks leave no curvature that would tell what "
                "is predicted of a left-out row. Take the intervals as fitted, or those of another loss."
            )
        if self._residuals is None:
            posteriors(self, "calibrate=True", of_mean=False)  # says what these lack
            raise ValueError(
                "calibrate=True needs residuals of left-out rows, which this fit does not know: fit with "
                "l2_regularization='evidence', hidden layers or several members, neither on dask nor by partial_fit."
            )
        residuals = self._residuals
        low, high = (residuals.beyond(levels[0], upper) for upper in (False, True))

        def predict(scaled: ScaledRows) -> tuple[np.ndarray]:
            predictive = predictive_at(self, scaled, "calibrate=True")
            location, spread2 = predictive.moments()
            ends = location + np.sqrt(spread2) * np.stack([low, high])[:, None]
            ends = predictive.observation.within(ends[0], ends[1], residuals.whole)
            return (np.sort(self._target.in_units_of_y(ends), axis=1),)

        return _in_parts(self, X, predict)[0]

    def sample_y(self, X: Any, n_samples: int = 1, random_state: int | np.random.RandomState | None = 0) -> np.ndarray:
        """Draw new observations.

        Each sample is one function: a member drawn by ``weights_`` with weights drawn from their posterior, as a linear
        model around the trained ones. Where members count by row, the member may change between rows. The noise of each
        row is independent. Warnings are those of :meth:`predict`.

        Parameters
        ----------
        X : array-like of shape (n_samples_X, n_features)
        n_samples : int, default=1
            Number of samples.
        random_state : int, RandomState instance or None, default=0
            An int makes the samples reproducible.

        Returns
        -------
        y_samples : ndarray of shape (n_samples_X, n_samples) or (n_samples_X, n_outputs, n_samples)
            In the units of y and the float type of X.

        Raises
        ------
        ValueError
            If the loss is "quantile", and where :meth:`predict_quantiles` has no quantiles. Also if the samples do not
            fit in memory.
        """
        check_scalar(n_samples, "n_samples", Integral, min_val=1)
        rng = check_random_state(random_state)
        scaled, dtype = scaled_rows(self, X)
        observation = observation_of(self, "sample_y")
        joint = joint_at(self, scaled, posteriors(self, "sample_y", of_mean=False))
        Z = joint.samples(predictive_of_outputs(self, observation, joint.mixture), int(n_samples), rng)
        return _finished(dtype, np.moveaxis(self._target.in_units_of_y(Z), 1, -1))[0]

    def epistemic_std(self, X: Any) -> np.ndarray:
        """Standard deviation of the predicted mean: the part of the uncertainty that more data would take away.

        It contains the uncertainty of the weights (Laplace approximation) and the spread of the members, but no noise.
        Active learning asks for observations where it is large. Warnings are those of :meth:`predict`.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        std : ndarray of the shape of the predictions
            In the units of y and the float type of X.

        Raises
        ------
        ValueError
            Where :meth:`predict` has no standard deviation, but for the losses "cauchy" and "quantile".
        """
        check_is_fitted(self)
        known = posteriors(self, "epistemic_std", of_mean=False)

        def predict(scaled: ScaledRows) -> tuple[np.ndarray]:
            return (self._target.epistemic_std(mixture_at(self, scaled, known)),)

        return _in_parts(self, X, predict)[0]

    def _quantiles(self, X: Any, levels: np.ndarray, asked: str) -> np.ndarray:
        def predict(scaled: ScaledRows) -> tuple[np.ndarray]:
            if self._target.loss_class.predicts_quantiles:
                return (_fitted_quantiles(self, scaled, levels),)
            predictive = predictive_at(self, scaled, asked)
            return (quantiles_of_y(self._target, predictive.quantiles, levels),)

        return _in_parts(self, X, predict)[0]


def _fitted_quantiles(regressor: Predictions, scaled: ScaledRows, levels: np.ndarray) -> np.ndarray:
    at, predicted = regressor._target.positions(levels), mean_at(regressor, scaled)
    return (predicted[:, None] if regressor._target.levels is None else predicted)[:, at]


def _in_parts(
    regressor: Predictions, X: Any, predict: Callable[[ScaledRows], tuple[np.ndarray, ...]]
) -> tuple[np.ndarray, ...]:
    """Predict rows in parts, in the float type of X."""
    values, dtype = predicted_in_parts(regressor, X, predict)
    return _finished(dtype, *values)


def _finished(dtype: np.dtype, *values: np.ndarray) -> tuple[np.ndarray, ...]:
    """Convert predictions to a float type, and warn once if some of them are beyond the floats, and so infinite."""
    infinite = sum(int(np.isinf(each).sum()) for each in values)
    if infinite:
        warnings.warn(
            f"{infinite} of {sum(each.size for each in values)} predicted numbers are infinite, as they, or their "
            f"squares, are beyond the largest float ({np.finfo(float).max:.2g}): compare X with the training data, and "
            "the fit with diagnose.",
            UserWarning,
            stacklevel=outside(),
        )
    return tuple(in_dtype(each, dtype) for each in values)


def observed_probabilities(regressor: Predictions, X: Any, y: np.ndarray) -> np.ndarray:
    """Predicted probabilities that observations are not above those that came true, in the shape of y.

    Counts are taken as half below and half above themselves.
    """
    target = regressor._target
    Y = target.encode(np.reshape(y, (-1, target.n_columns) if target.ndim == 2 else y.shape))
    Y = targets_of_outputs(target.transform(Y), target.scaler.mixing)

    def predict(scaled: ScaledRows, Y: np.ndarray) -> tuple[np.ndarray]:
        predictive = predictive_at(regressor, scaled, "a predicted distribution")
        return (target.probabilities_of_y(predictive.probabilities(Y)),)

    (probabilities,), _ = predicted_in_parts(regressor, X, predict, Y)
    return probabilities
