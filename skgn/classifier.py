"""GNClassifier: the scikit-learn face of the network for classification."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.special import log_expit, log_softmax, logsumexp
from sklearn.base import ClassifierMixin
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import column_or_1d

from .damping import DampingRule
from .estimator import BaseGN
from .losses import LogLoss, Loss, SoftmaxLoss

__all__ = ["GNClassifier"]


class GNClassifier(ClassifierMixin, BaseGN):
    """Placeholder."""

    _parameter_constraints: dict = {
        **BaseGN._parameter_constraints,
        "class_weight": [StrOptions({"balanced"}), dict, None],
    }

    def __init__(
        self,
        hidden_layer_sizes: int | Sequence[int] = (20,),
        *,
        activation: str = "tanh",
        linear_path: bool = True,
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
        class_weight: str | Mapping[Any, float] | None = None,
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
        self.class_weight = class_weight

    def _validate_target(self, y: np.ndarray) -> np.ndarray:
        check_classification_targets(y)
        self._multilabel = type_of_target(y, input_name="y") == "multilabel-indicator"
        if self._multilabel:
            if self.class_weight is not None:
                raise ValueError("class_weight is not defined for a multilabel y; pass sample_weight or None.")
            self.classes_ = np.arange(y.shape[1])
            return np.asarray(y, dtype=np.float64)
        self.classes_, codes = np.unique(column_or_1d(y, warn=True), return_inverse=True)
        if isinstance(self.class_weight, Mapping):
            unknown = [label for label in self.class_weight if label not in self.classes_]
            if unknown:
                raise ValueError(f"class_weight has weights for {unknown}, which are not among {self.classes_}.")
        return codes[:, None].astype(np.float64)

    def _weigh_classes(self, Y: np.ndarray, sample_weight: np.ndarray) -> np.ndarray:
        if self.class_weight is None:
            return sample_weight
        codes = Y[:, 0].astype(int)
        if isinstance(self.class_weight, str):
            # scikit-learn's formula n / (k n_c), with weights counted as repetitions.
            totals = np.bincount(codes, weights=sample_weight, minlength=len(self.classes_))
            present = totals > 0
            factors = np.zeros_like(totals)
            factors[present] = totals.sum() / (present.sum() * totals[present])
        else:
            factors = np.array([float(self.class_weight.get(label, 1.0)) for label in self.classes_.tolist()])
            if not (np.isfinite(factors).all() and (factors >= 0).all() and (factors[codes] > 0).any()):
                raise ValueError(f"class_weight must be non-negative and not all zero, got {self.class_weight}.")
        return sample_weight * factors[codes]

    def _training_target(self, Y: np.ndarray, sample_weight: np.ndarray) -> tuple[np.ndarray, Loss]:
        if self._multilabel:
            return Y, LogLoss()
        if len(self.classes_) <= 2:
            return Y, LogLoss()
        return np.eye(len(self.classes_))[Y[:, 0].astype(int)], SoftmaxLoss()

    def _log_proba(self, X: Any) -> tuple[np.ndarray, np.ndarray | None, np.dtype]:
        """Log of the members' mean probabilities, (n, k); for logits also that of the complements."""
        outputs, dtype = self._outputs(X)
        members = np.log(len(outputs))
        if not self._multilabel and len(self.classes_) > 2:
            return logsumexp(log_softmax(outputs, axis=2), axis=0) - members, None, dtype
        positive = logsumexp(log_expit(outputs), axis=0) - members
        return positive, logsumexp(log_expit(-outputs), axis=0) - members, dtype

    def predict_log_proba(self, X: Any) -> np.ndarray:
        """Logarithm of :meth:`predict_proba`, without the underflow of taking it afterwards.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        log_p : ndarray of shape (n_samples, n_classes)
        """
        positive, negative, dtype = self._log_proba(X)
        if negative is not None and not self._multilabel:
            positive = np.zeros_like(positive) if len(self.classes_) == 1 else np.hstack([negative, positive])
        return positive.astype(dtype, copy=False)

    def predict_proba(self, X: Any) -> np.ndarray:
        """Predict class probabilities: the mean over the members.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        p : ndarray of shape (n_samples, n_classes)
            Columns in the order of ``classes_``, rows summing to 1; for a multilabel y the probability of each label.
        """
        return np.exp(self.predict_log_proba(X))

    def decision_function(self, X: Any) -> np.ndarray:
        """Log odds (binary and multilabel) or log probabilities (multiclass) of the averaged probabilities.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        scores : ndarray of shape (n_samples,) for two classes, else (n_samples, n_classes)
            ``predict`` takes the largest, or for two classes and for labels those above 0.
        """
        positive, negative, dtype = self._log_proba(X)
        scores = positive if negative is None else positive - negative
        scores = scores.astype(dtype, copy=False)
        return scores if self._multilabel or len(self.classes_) > 2 else scores[:, 0]

    def predict(self, X: Any) -> np.ndarray:
        """Predict the most probable class, or the set of labels more probable than not.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        y : ndarray of shape (n_samples,) or (n_samples, n_labels)
        """
        scores = self.decision_function(X)
        if self._multilabel:
            return (scores > 0).astype(int)
        if len(self.classes_) == 1:
            return np.full(len(scores), self.classes_[0])
        if len(self.classes_) == 2:
            return self.classes_[(scores > 0).astype(int)]
        return self.classes_[scores.argmax(axis=1)]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags
