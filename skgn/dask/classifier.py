"""DaskGNClassifier: `GNClassifier` on dask arrays and dataframes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from sklearn.utils.validation import check_is_fitted

from ..classifier import GNClassifier
from .estimator import CLIENT, DaskGN, with_client

__all__ = ["DaskGNClassifier"]


def _hits(prediction: np.ndarray, y: Any, weight: Any = None) -> np.ndarray:
    """Sum the weights of the samples whose prediction is right in all labels, and the weights of all samples."""
    weight = np.ones(len(prediction)) if weight is None else np.asarray(weight, dtype=np.float64)
    right = np.asarray(y).reshape(prediction.shape) == prediction
    return np.array([weight @ (right if right.ndim == 1 else right.all(axis=1)), weight.sum()])


class DaskGNClassifier(DaskGN, GNClassifier):
    """`GNClassifier` on dask arrays and dataframes, by data parallelism.

    Each worker reduces its rows to a Gram matrix, a gradient and a loss. Dask adds these up, and the process that calls
    ``fit`` solves the system. Rows stay on their workers. The weights are those of the single-machine fit up to
    rounding, but for the limits in docs/dask.md. For P weights, a worker sends ``P (P + 1) / 2 + P + 1`` numbers in an
    iteration; see ``bytes_per_iteration_``. Sums over left-out samples set the temperature; these samples stay on their
    workers too.

    The parameters are those of :class:`~skgn.GNClassifier`, with the differences of :class:`DaskGNRegressor`.

    Parameters
    ----------
    client : distributed.Client, default=None
        The client to use. None takes :func:`distributed.default_client`. The client is not pickled.

    Attributes
    ----------
    bytes_per_iteration_ : int
        Number of bytes that each worker sends in an iteration of the best member whose first step is accepted.

    See Also
    --------
    skgn.GNClassifier : The estimator itself, and all its parameters and attributes.
    DaskGNRegressor : The same for regression.
    """

    _local = GNClassifier
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **GNClassifier._parameter_constraints,
        "client": CLIENT,
    }

    if TYPE_CHECKING:

        def __init__(self, *args: Any, client: Any = None, **parameters: Any) -> None: ...
    else:
        __init__ = with_client(GNClassifier)

    @property
    def _proba_width(self) -> tuple[int]:
        check_is_fitted(self)
        return (len(self.classes_),)

    def predict_log_proba(self, X: Any) -> Any:
        """Predict the logarithms of the class probabilities, as a lazy dask array.

        Parameters
        ----------
        X : dask array or dataframe of shape (n_samples, n_features)

        Returns
        -------
        log_p : dask array of shape (n_samples, n_classes)
        """
        return self._map("predict_log_proba", X, self._proba_width)

    def predict_proba(self, X: Any) -> Any:
        """Predict class probabilities, as a lazy dask array.

        Parameters
        ----------
        X : dask array or dataframe of shape (n_samples, n_features)

        Returns
        -------
        p : dask array of shape (n_samples, n_classes)
        """
        return self._map("predict_proba", X, self._proba_width)

    def decision_function(self, X: Any) -> Any:
        """Compute log odds or log probabilities, as a lazy dask array.

        See :meth:`skgn.GNClassifier.decision_function`.

        Parameters
        ----------
        X : dask array or dataframe of shape (n_samples, n_features)

        Returns
        -------
        scores : dask array of shape (n_samples,) for two classes, else (n_samples, n_classes)
        """
        check_is_fitted(self)
        one_score = len(self.classes_) <= 2 and not self._target.multilabel
        return self._map("decision_function", X, () if one_score else self._proba_width)

    def mutual_information(self, X: Any) -> Any:
        """Mutual information of the label and the member that predicts it, as a lazy dask array.

        See :meth:`skgn.GNClassifier.mutual_information`.

        Parameters
        ----------
        X : dask array or dataframe of shape (n_samples, n_features)

        Returns
        -------
        information : dask array of shape (n_samples,) or (n_samples, n_labels)
        """
        check_is_fitted(self)
        return self._map("mutual_information", X, self._proba_width if self._target.multilabel else ())

    def predict(self, X: Any) -> Any:
        """Predict the most probable class, as a lazy dask array.

        For a multilabel y, predict all labels with a probability above one half.

        Parameters
        ----------
        X : dask array or dataframe of shape (n_samples, n_features)

        Returns
        -------
        y : dask array of shape (n_samples,) or (n_samples, n_labels)
        """
        check_is_fitted(self)
        if self._target.multilabel:
            return self._map("predict", X, self._proba_width, np.dtype(int))
        return self._map("predict", X, (), self.classes_.dtype)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Accuracy: the weighted part of the samples whose prediction is right.

        For a multilabel y, all labels of a sample must be right.

        Parameters
        ----------
        X : dask array or dataframe of shape (n_samples, n_features)
        y : dask array, series or dataframe of shape (n_samples,) or (n_samples, n_labels)
        sample_weight : dask array or series of shape (n_samples,), default=None

        Returns
        -------
        score : float
            The score, computed from sums over the blocks.
        """
        right, total = self._sum_blocks(_hits, self.predict(X), y, sample_weight)
        return float(right / total)
