"""The way from data as given to columns in every scaling that a network may read, in training and in predictions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.sparse import issparse
from sklearn.utils import check_X_y
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from .parameters import Parameters
from .preprocessing import SCALINGS, Scaler, fit_scalers, merge_rows, transform_inputs
from .tables import (
    TablePreprocessor,
    TableReader,
    categorical_columns,
    column_features,
    columns_of_steps,
    encode_training_rows,
    fill_missing,
    make_encoder,
    medians,
)

__all__ = ["Inputs"]

#: Scalings that a fit chooses among: normal scores alone were never missed (docs/benchmarks.md).
_COMPARED = ("robust", "periodic")


class Inputs(Parameters):
    """Read, encode and scale inputs.

    X has four forms: as given, as read (floats), encoded (columns of the encoder), and scaled.
    """

    preprocessor_: TablePreprocessor | None
    n_features_in_: int
    feature_names_in_: np.ndarray
    #: Reader of tables like the table of the fit.
    _reader: TableReader
    #: Values that replace missing numbers if training had none missing; None if unknown.
    _medians: np.ndarray | None = None
    #: Scalers by name; None changes nothing.
    _input_scalers: Mapping[str, Scaler | None]

    def _check_data(
        self, X: Any, y: Any, sample_weight: Any, reset: bool = True
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Check the data; return X as read, with nan for missing cells and codes for levels, y, and weights."""
        if issparse(y):
            raise TypeError("Sparse data was passed for y, but dense data is required. Use '.toarray()' to convert it.")
        options = {"dtype": [np.float64, np.float32], "multi_output": True, "ensure_all_finite": "allow-nan"}
        options |= self._target_check()
        categorical = categorical_columns(X, self.categorical_features) if reset else self._reader.categorical
        if not categorical:
            checked, y = validate_data(self, X, y, reset=reset, **options)
            weight = self._check_weight(sample_weight, checked)
            if reset:
                self._reader = TableReader().fit(X)
            return checked, y, weight
        validate_data(self, X, skip_check_array=True, reset=reset)
        weight = self._check_weight(sample_weight, X)
        if reset:
            self._reader = TableReader(categorical).fit(X, sample_weight=weight)
        return *check_X_y(self._reader.transform(X), y, estimator=self, **options), weight

    def _target_check(self) -> dict[str, Any]:
        return {}

    def _check_weight(self, sample_weight: Any, X: np.ndarray) -> np.ndarray:
        weight = _check_sample_weight(sample_weight, X, dtype=np.float64)
        if weight.min() < 0:
            raise ValueError(f"sample_weight must not be negative, got a minimum of {weight.min():g}.")
        if weight.max() == 0:
            raise ValueError("sample_weight is zero for every sample; at least one must be positive.")
        return weight

    def _read(self, X: Any) -> np.ndarray:
        """Read X, which must be a table like that of the fit."""
        if self._reader.categorical:
            validate_data(self, X, skip_check_array=True, reset=False)
            return self._reader.transform(X)
        return validate_data(self, X, dtype=[np.float64, np.float32], ensure_all_finite="allow-nan", reset=False)

    def _fit_encoder(
        self, X: np.ndarray, Y: np.ndarray, weight: np.ndarray, target_type: str | None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, tuple[np.ndarray, np.ndarray]]:
        """Fit the encoder to merged rows.

        Returns the rows with the columns that are scaled, and the columns and weights that scalings are fitted to. Rows
        do not change if all cells are numbers and none is missing.

        Scalings are fitted to the codes that later rows get. The level of most later rows has one code. In training
        each part of the rows has another code for it, and the spread of these codes is noise.
        """
        before = self._encoded_columns() if self.warm_start and hasattr(self, "estimators_") else None
        if not self._reader.categorical and not np.isnan(X).any():
            self.preprocessor_, self._medians = None, medians(X)
            self._check_columns_of_weights(before)
            return X, Y, weight, (X, weight)
        encoder = make_encoder(self._reader, X, Y[:, 0], target_type)
        encoded = encode_training_rows(encoder, X, Y[:, 0])
        self.preprocessor_ = TablePreprocessor([("read", self._reader), ("encode", encoder)])
        self._check_columns_of_weights(before)
        # The order that these columns give by themselves, as if they had been encoded before the fit.
        Xm, Ym, merged = merge_rows(encoded, Y, weight)
        cross_fitted = "target" in encoder.named_transformers_
        return Xm, Ym, merged, (self._encode(X), weight) if cross_fitted else (Xm, merged)

    def _encoded_columns(self) -> dict[str, list[str]]:
        """Names of the columns of each encoder step; empty if all features are taken as they are."""
        return {} if self.preprocessor_ is None else columns_of_steps(self.preprocessor_)

    def _check_columns_of_weights(self, before: dict[str, list[str]] | None) -> None:
        """Refuse a warm start if its weights would read other columns than ``before``, even as many."""
        now = self._encoded_columns()
        if before is None or now == before:
            return
        old, new = ([f"{name} ({step})" for step in columns for name in columns[step]] for columns in (before, now))
        lost, found = ([name for name in a if name not in b] for a, b in ((old, new), (new, old)))
        raise ValueError(
            "warm_start=True needs the columns of the previous fit: the same levels of categories, and missing cells "
            f"in the same features. It had {lost or 'none'} that are not there now, and there are {found or 'none'} "
            "that it did not have."
        )

    def _encode(self, X: np.ndarray) -> np.ndarray:
        """Turn rows as read into the columns that are scaled."""
        if self.preprocessor_ is None:
            return fill_missing(X, self._medians)
        return np.asarray(self.preprocessor_[-1].transform(X), dtype=np.float64)

    def _fit_scalers(
        self, X: np.ndarray, weight: np.ndarray, hidden: tuple[int, ...] | None, compares: bool
    ) -> Mapping[str, Scaler | None]:
        """Fit the scalings that candidates may have.

        Ranks are among them only if there is a choice of nonlinear models.
        """
        if not self.standardize:
            return {"raw": None}
        paths = self._paths(hidden)
        if isinstance(self.standardize, str):
            return fit_scalers([self.standardize], X, weight, paths)
        if not compares or hidden == ():
            return fit_scalers(SCALINGS[:1], X, weight, paths)
        # A module is made for one column a feature.
        return fit_scalers([name for name in _COMPARED if self.network is None or name != "periodic"], X, weight, paths)

    def _paths(self, hidden: tuple[int, ...] | None) -> str:
        """Name of the networks' paths, as in :data:`~skgn.preprocessing.ROBUST`."""
        if hidden == ():
            return "linear"
        return "both" if self.linear_path and self.network is None else "hidden"

    def _keep_scalers(self, used: set[str]) -> None:
        self._input_scalers = {name: scaler for name, scaler in self._input_scalers.items() if name in used}

    @property
    def _input_features(self) -> dict[str, np.ndarray]:
        """Features that the columns of each scaling come from."""
        encoded = np.arange(self.n_features_in_)
        if self.preprocessor_ is not None:
            encoded = column_features(self.preprocessor_[-1])
        return {
            name: encoded if scaler is None else encoded[scaler.features]
            for name, scaler in self._input_scalers.items()
        }

    def _scaled(self, X: np.ndarray) -> dict[str, np.ndarray]:
        """Scale encoded X in each of the scalings: float64 and C-contiguous."""
        return transform_inputs(self._input_scalers, X)

    def _scale_inputs(self, X: Any) -> tuple[dict[str, np.ndarray], np.dtype]:
        """Scale X to the units of the members' networks; also return the dtype of predictions."""
        check_is_fitted(self)
        X = self._read(X)
        return self._scaled(self._encode(X)), X.dtype
